/* peer: what a process test needs and atoll itself must not do: forged tokens, a plain-text client, unlisted keys, other protocol
 * versions, messages of an old session. Each verb is one small actor; it prints what it saw and ends with the exit code that a
 * worker would end with (0: what was expected happened).
 *
 *     peer show TOKENFILE                      host=, control_port=, bulk_port=, expires_s=, uses=, run_name= for a shell
 *     peer forge TOKENFILE WHAT [VALUE]        the token with another outer-key, secret, expiry N, control-port N (bulk: N + 1) or bulk-port N
 *     peer plain HOST PORT                     DEALER without CURVE
 *     peer unlisted TOKENFILE                  a worker's connections with a key that nobody knows
 *     peer register-version TOKENFILE          REGISTER of another protocol version
 *     peer hello TOKENFILE DIRECTORY WHAT      REGISTER as ever, then HELLO of another protocol version, run or keys (WHAT)
 *     peer old-session TOKENFILE DIRECTORY     HELLO twice, then GOODBYE and a chunk that bear the first session
 *     peer takeover TOKENFILE DIRECTORY        one key on two links: the older goes on talking, then both go; is the outer still there?
 *     peer ready TOKENFILE DIRECTORY WHAT      READY with another tokenizer or state (WHAT)
 *     peer crooked TOKENFILE DIRECTORY         a member of a run (sync.codec_up: f32) that offers what it must not; see peer_member.c
 *     peer flood TOKENFILE DIRECTORY           a member that asks and asks, and reads nothing
 *     peer greedy TOKENFILE DIRECTORY          a member that grants bytes of a version that there is not yet, and stays until killed
 *     peer old-outer DIRECTORY CONTROL BULK    an outer of another protocol version: prints a token, refuses, until killed
 *     peer offloads-off INTERFACE              segmentation offloads off (what ethtool -K does) */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>
#include "base/clock.h"
#include "base/files.h"
#include "peer.h"
#include "wire.pb-c.h"

enum { PATIENCE_US = 5 * SECOND_US };

struct link_event event; /* large: not on the stack */
struct message out;
struct certificate certificate;

/* wire_encode refuses to make what this version does not speak, so its calls are wrapped (ld --wrap): with spoken_version set, the
 * first field of REGISTER and HELLO says that version instead; with spoken_tokens, an OFFER says that many. */
uint64_t spoken_tokens;
static uint32_t spoken_version = MESSAGE_PROTOCOL_VERSION;
size_t __real_wire_encode(const struct message *message, uint8_t *to);
size_t __wrap_wire_encode(const struct message *message, uint8_t *to);

static size_t offer_with_tokens(size_t bytes, uint8_t *to) {
    uint8_t body[1024];
    Wire__Envelope *envelope = wire__envelope__unpack(NULL, bytes, to);
    Wire__Offer *offer = wire__offer__unpack(NULL, envelope->body.len, envelope->body.data);
    offer->tokens = spoken_tokens;
    ProtobufCBinaryData before = envelope->body;
    envelope->body = (ProtobufCBinaryData){wire__offer__pack(offer, body), body};
    bytes = wire__envelope__pack(envelope, to);
    envelope->body = before;
    wire__offer__free_unpacked(offer, NULL);
    wire__envelope__free_unpacked(envelope, NULL);
    return bytes;
}

size_t __wrap_wire_encode(const struct message *message, uint8_t *to) {
    size_t bytes = __real_wire_encode(message, to);
    if (spoken_tokens != 0 && message->type == MESSAGE_OFFER)
        return offer_with_tokens(bytes, to);
    if (spoken_version == MESSAGE_PROTOCOL_VERSION ||
        (message->type != MESSAGE_REGISTER && message->type != MESSAGE_HELLO))
        return bytes;
    Wire__Envelope *envelope = wire__envelope__unpack(NULL, bytes, to);
    if (!envelope || envelope->body.len < 2 || envelope->body.data[0] != 0x08) { /* field 1, a varint */
        fprintf(stderr, "peer: the wire is not as peer.c knows it\n");
        exit(70);
    }
    envelope->body.data[1] = (uint8_t)spoken_version;
    wire__envelope__pack(envelope, to);
    wire__envelope__free_unpacked(envelope, NULL);
    return bytes;
}

void must(enum status status, const struct error *error) {
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "peer: %s\n", error->text[0] ? error->text : status_name(status));
    exit(status_exit_code(status));
}

int other_ending(const char *wanted) {
    if (event.kind == LINK_EVENT_REFUSED)
        fprintf(stderr, "peer: link refused: %s\n", event.error.text);
    else if (event.kind == LINK_EVENT_MESSAGE)
        fprintf(stderr, "peer: %s instead of %s\n", message_type_name(event.message.type), wanted);
    else
        fprintf(stderr, "peer: no %s came\n", wanted);
    return event.kind == LINK_EVENT_REFUSED ? status_exit_code(event.error.status) : 1;
}

int refusal(void) {
    const struct message_refuse *refuse = &event.message.body.refuse;
    fprintf(stderr, "peer: refused with code %u: %s\n", refuse->code, refuse->text);
    return refuse->code >= REFUSE_TOKEN_EXPIRED ? 77 : 78;
}

/* ---- a worker's side ---- */

static struct worker_link *open_link(const struct token *token, const struct curve_pair *pair, enum peer_role role) {
    struct worker_link_options options = {
        .role = role,
        .addresses = token->addresses,
        .address_count = token->address_count,
        .outer_key = token->outer_key,
        .curve = pair,
        .bulk = role == PEER_ROLE_WORKER,
        .patience_us = PATIENCE_US,
    };
    struct worker_link *link;
    struct error error = {0};
    must(worker_link_open(&options, &link, &error), &error);
    return link;
}

/* Waits until an event of the kind, or a message of the type, or a refusal of any sort; false: not what was wanted. */
bool wait_kind(struct worker_link *link, enum link_event_kind kind, enum message_type type) {
    uint64_t until = clock_now_us() + 2 * PATIENCE_US;
    while (clock_now_us() < until) {
        worker_link_receive(link, 100000, &event);
        if (event.kind == LINK_EVENT_REFUSED)
            return false;
        if (event.kind == LINK_EVENT_MESSAGE && event.message.type == MESSAGE_REFUSE)
            return kind == LINK_EVENT_MESSAGE && type == MESSAGE_REFUSE;
        if (event.kind == kind && (kind != LINK_EVENT_MESSAGE || event.message.type == type))
            return true;
    }
    event.kind = LINK_EVENT_NONE;
    return false;
}

void send_message(struct worker_link *link) {
    uint64_t until = clock_now_us() + PATIENCE_US;
    while (worker_link_send(link, &out) != STATUS_OK) {
        if (clock_now_us() > until) {
            fprintf(stderr, "peer: %s could not be sent\n", message_type_name(out.type));
            exit(69);
        }
        usleep(10000);
    }
}

/* 0: certificate is filled. Else an exit code. */
int enrol(const struct token *token, const struct node_keys *keys) {
    struct curve_pair pair;
    keys_enrolment_pair(token->secret, &pair);
    struct worker_link *link = open_link(token, &pair, PEER_ROLE_ENROL);
    if (!wait_kind(link, LINK_EVENT_CONNECTED, 0))
        return other_ending("connection");
    memset(&out, 0, sizeof out);
    out.type = MESSAGE_REGISTER;
    out.body.reg.protocol_version = MESSAGE_PROTOCOL_VERSION;
    memcpy(out.body.reg.token_id, token->id, sizeof token->id);
    memcpy(out.body.reg.worker_key, keys->curve.public_key, MESSAGE_KEY_BYTES);
    snprintf(out.body.reg.name, sizeof out.body.reg.name, "peer");
    send_message(link);
    int result = 0;
    if (wait_kind(link, LINK_EVENT_MESSAGE, MESSAGE_ADMIT))
        certificate = event.message.body.admit.certificate;
    else if (event.kind == LINK_EVENT_MESSAGE && event.message.type == MESSAGE_REFUSE)
        result = refusal();
    else
        result = other_ending("ADMIT");
    worker_link_close(link);
    return result;
}

static void say_hello(struct worker_link *link, uint64_t incarnation, const uint8_t *keys_hash) {
    memset(&out, 0, sizeof out);
    out.type = MESSAGE_HELLO;
    struct message_hello *hello = &out.body.hello;
    hello->protocol_version = MESSAGE_PROTOCOL_VERSION;
    memcpy(hello->run_id, certificate.run_id, sizeof hello->run_id);
    if (keys_hash)
        memcpy(hello->keys_hash, keys_hash, sizeof hello->keys_hash);
    hello->slot = certificate.slot;
    hello->incarnation = incarnation;
    memcpy(hello->name, certificate.name, sizeof hello->name);
    send_message(link);
}

/* A welcomed link; a HELLO that comes while the link before it still counts as live is tried again. */
struct worker_link *welcomed(const struct token *token, const struct node_keys *keys, uint64_t incarnation,
                             uint64_t *session) {
    for (int attempt = 0; attempt < 20; attempt++) {
        struct worker_link *link = open_link(token, &keys->curve, PEER_ROLE_WORKER);
        if (!wait_kind(link, LINK_EVENT_CONNECTED, 0))
            exit(other_ending("connection"));
        say_hello(link, incarnation, NULL);
        if (wait_kind(link, LINK_EVENT_MESSAGE, MESSAGE_WELCOME)) {
            *session = event.message.session;
            return link;
        }
        if (event.kind != LINK_EVENT_MESSAGE || event.message.body.refuse.code != REFUSE_DUPLICATE)
            exit(event.kind == LINK_EVENT_MESSAGE ? refusal() : other_ending("WELCOME"));
        worker_link_close(link);
        usleep(250000);
    }
    fprintf(stderr, "peer: still a duplicate after 5 s\n");
    exit(77);
}

void send_goodbye(struct worker_link *link, uint64_t session) {
    memset(&out, 0, sizeof out);
    out.type = MESSAGE_GOODBYE;
    out.session = session;
    snprintf(out.body.text.text, sizeof out.body.text.text, "peer leaves");
    send_message(link);
}

/* Answers pings for a while and counts them: whoever is pinged is still a member. */
static int count_pings(struct worker_link *link, uint64_t session, uint64_t us) {
    int pings = 0;
    for (uint64_t until = clock_now_us() + us; clock_now_us() < until;) {
        worker_link_receive(link, 50000, &event);
        if (event.kind != LINK_EVENT_MESSAGE || event.message.type != MESSAGE_PING)
            continue;
        pings++;
        struct message_ping ping = event.message.body.ping;
        memset(&out, 0, sizeof out);
        out.type = MESSAGE_PONG;
        out.session = session;
        out.body.ping = ping;
        send_message(link);
    }
    return pings;
}

static int old_session(const struct token *token, const char *directory) {
    struct node_keys keys;
    struct error error = {0};
    must(keys_open(directory, &keys, &error), &error);
    int code = enrol(token, &keys);
    if (code)
        return code;
    uint64_t first, second;
    worker_link_close(welcomed(token, &keys, 1, &first));
    struct worker_link *link = welcomed(token, &keys, 2, &second);
    printf("sessions %llu %llu\n", (unsigned long long)first, (unsigned long long)second);

    send_goodbye(link, first);
    struct chunk chunk = {.session = first, .key = {.kind = TRANSFER_CONTRIBUTION}, .bytes = 64};
    uint8_t payload[64] = {0};
    if (worker_link_send_chunk(link, &chunk, payload) != STATUS_OK)
        fprintf(stderr, "peer: the chunk could not be sent\n");
    int pings = count_pings(link, second, 3 * SECOND_US / 2);
    printf("pings after an old goodbye %d\n", pings);
    send_goodbye(link, second);
    count_pings(link, second, SECOND_US / 2);
    int late = count_pings(link, second, SECOND_US);
    printf("pings after a goodbye %d\n", late);
    worker_link_close(link);
    return first != second && pings >= 3 && late == 0 ? 0 : 1;
}

/* libzmq 4.3.4 aborts when a heartbeat falls due on a connection that another one with the same routing id replaced, that then brought
 * more input, and then closed. An outer that sets ZMQ_HEARTBEAT_IVL dies here. */
static int takeover(const struct token *token, const char *directory) {
    struct node_keys keys;
    struct error error = {0};
    must(keys_open(directory, &keys, &error), &error);
    int code = enrol(token, &keys);
    if (code)
        return code;
    uint64_t session;
    struct worker_link *first = welcomed(token, &keys, 1, &session);
    struct worker_link *second = open_link(token, &keys.curve, PEER_ROLE_WORKER);
    if (!wait_kind(second, LINK_EVENT_CONNECTED, 0))
        return other_ending("connection");
    for (int i = 0; i < 20; i++) {
        say_hello(first, 1, NULL);
        usleep(20000);
    }
    worker_link_close(first);
    worker_link_close(second);
    sleep(12); /* two heartbeats of 5 s: the first draws a reset, the second would abort */
    struct worker_link *third = welcomed(token, &keys, 2, &session);
    send_goodbye(third, session);
    count_pings(third, session, SECOND_US / 2);
    worker_link_close(third);
    return 0;
}

static int hello(const struct token *token, const char *directory, const char *what) {
    static const uint8_t other_keys[MESSAGE_HASH_BYTES] = {1};
    struct node_keys keys;
    struct error error = {0};
    must(keys_open(directory, &keys, &error), &error);
    int code = enrol(token, &keys);
    if (code)
        return code;
    struct worker_link *link = open_link(token, &keys.curve, PEER_ROLE_WORKER);
    if (!wait_kind(link, LINK_EVENT_CONNECTED, 0))
        return other_ending("connection");
    if (strcmp(what, "version") == 0)
        spoken_version = MESSAGE_PROTOCOL_VERSION + 1;
    if (strcmp(what, "run") == 0)
        certificate.run_id[0] ^= 1;
    say_hello(link, 1, strcmp(what, "keys") == 0 ? other_keys : NULL);
    code = wait_kind(link, LINK_EVENT_MESSAGE, MESSAGE_REFUSE) ? refusal() : other_ending("REFUSE");
    worker_link_close(link);
    return code;
}

static int unlisted(const struct token *token) {
    struct curve_pair pair;
    crypto_box_keypair(pair.public_key, pair.secret_key);
    struct worker_link *link = open_link(token, &pair, PEER_ROLE_WORKER);
    if (wait_kind(link, LINK_EVENT_CONNECTED, 0)) {
        fprintf(stderr, "peer: an unlisted key was let in\n");
        return 1;
    }
    int code = other_ending("refusal");
    worker_link_close(link);
    return code;
}

/* ---- without CURVE ---- */

static int plain(const char *host, const char *port) {
    char address[300];
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER), *monitor = zmq_socket(context, ZMQ_PAIR);
    int linger = 0, timeout = 3000;
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(monitor, ZMQ_RCVTIMEO, &timeout, sizeof timeout);
    zmq_socket_monitor(socket, "inproc://monitor", ZMQ_EVENT_ALL);
    zmq_connect(monitor, "inproc://monitor");
    snprintf(address, sizeof address, "tcp://%s:%s", host, port);
    if (zmq_connect(socket, address) != 0) {
        fprintf(stderr, "peer: %s: %s\n", address, zmq_strerror(zmq_errno()));
        return 69;
    }
    (void)zmq_send(socket, "hello", 5, ZMQ_DONTWAIT);
    for (;;) {
        uint8_t frame[512];
        int bytes = zmq_recv(monitor, frame, sizeof frame, 0);
        if (bytes < 6) {
            fprintf(stderr, "peer: neither shaken hands nor refused\n");
            return 1;
        }
        uint16_t what;
        memcpy(&what, frame, sizeof what);
        (void)zmq_recv(monitor, frame, sizeof frame, 0); /* the address */
        if (what == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
            fprintf(stderr, "peer: a plain-text client was let in\n");
            return 1;
        }
        if (what & (ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                    ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL)) {
            fprintf(stderr, "peer: plain text: the handshake was refused (event 0x%x)\n", what);
            return 77;
        }
    }
}

/* ---- an outer of another version ---- */

static int old_outer(const char *directory, uint16_t control, uint16_t bulk) {
    struct node_keys keys;
    struct error error = {0};
    struct admission *admission;
    struct outer_link *link;
    must(keys_open(directory, &keys, &error), &error);
    must(admission_open(directory, &keys, &admission, &error), &error);
    struct token token = {.expires_s = clock_wall_s() + 600, .uses = 1, .run_name = "old", .address_count = 1};
    token_make_secret(&token);
    memcpy(token.outer_key, keys.curve.public_key, sizeof token.outer_key);
    token.addresses[0] = (struct token_address){.host = "127.0.0.1", .control_port = control, .bulk_port = bulk};
    must(admission_add_token(admission, &token, clock_wall_s(), &error), &error);
    struct outer_link_options options = {
        .host = "127.0.0.1", .control_port = control, .bulk_port = bulk, .keys = &keys, .admission = admission};
    must(outer_link_open(&options, &link, &error), &error);
    static char text[TOKEN_TEXT_BYTES];
    token_format(&token, text);
    printf("%s\n", text);
    fflush(stdout);
    while (getppid() > 1) {
        outer_link_receive(link, SECOND_US, &event);
        if (event.kind != LINK_EVENT_MESSAGE)
            continue;
        memset(&out, 0, sizeof out);
        out.type = MESSAGE_REFUSE;
        out.body.refuse.code = REFUSE_VERSION;
        snprintf(out.body.refuse.text, sizeof out.body.refuse.text,
                 "protocol version: this outer speaks %d, the worker %d: install the same atoll on both",
                 MESSAGE_PROTOCOL_VERSION + 1, MESSAGE_PROTOCOL_VERSION);
        (void)!outer_link_send(link, &event.peer, &out);
    }
    return 0;
}

/* ---- tools ---- */

static int show(const struct token *token) {
    const struct token_address *address = &token->addresses[0];
    printf("host=%s control_port=%u bulk_port=%u expires_s=%llu uses=%u run_name=%s\n", address->host,
           address->control_port, address->bulk_port, (unsigned long long)token->expires_s, token->uses,
           token->run_name);
    return 0;
}

static int forge(struct token *token, const char *what, const char *value) {
    static char text[TOKEN_TEXT_BYTES];
    struct curve_pair pair;
    if (strcmp(what, "outer-key") == 0) {
        crypto_box_keypair(pair.public_key, pair.secret_key);
        memcpy(token->outer_key, pair.public_key, sizeof token->outer_key);
    } else if (strcmp(what, "secret") == 0) {
        randombytes_buf(token->secret, sizeof token->secret);
    } else if (value && strcmp(what, "expiry") == 0) {
        token->expires_s = strtoull(value, NULL, 10);
    } else if (value && strcmp(what, "control-port") == 0) {
        token->addresses[0].control_port = (uint16_t)atoi(value);
        token->addresses[0].bulk_port = (uint16_t)(atoi(value) + 1);
    } else if (value && strcmp(what, "bulk-port") == 0) {
        token->addresses[0].bulk_port = (uint16_t)atoi(value);
    } else {
        return 64;
    }
    token_format(token, text);
    printf("%s\n", text);
    return 0;
}

static int offloads_off(const char *interface) {
    static const uint32_t commands[] = {ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO, ETHTOOL_STXCSUM};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct ethtool_value value = {.cmd = commands[i], .data = 0};
        struct ifreq request = {0};
        snprintf(request.ifr_name, sizeof request.ifr_name, "%s", interface);
        request.ifr_data = (void *)&value;
        if (ioctl(fd, SIOCETHTOOL, &request) != 0) {
            fprintf(stderr, "peer: %s: ethtool command 0x%x: %s\n", interface, commands[i], strerror(errno));
            return 74;
        }
    }
    close(fd);
    return 0;
}

int main(int argc, char **argv) {
    static struct token token;
    struct error error = {0};
    const char *verb = argc > 2 ? argv[1] : "";
    keys_init();
    if (strcmp(verb, "offloads-off") == 0)
        return offloads_off(argv[2]);
    if (strcmp(verb, "plain") == 0 && argc == 4)
        return plain(argv[2], argv[3]);
    if (strcmp(verb, "old-outer") == 0 && argc == 5)
        return old_outer(argv[2], (uint16_t)atoi(argv[3]), (uint16_t)atoi(argv[4]));
    if (!*verb) {
        fprintf(stderr, "usage: see the head of peer.c\n");
        return 64;
    }
    must(token_read(argv[2], &token, &error), &error);
    if (strcmp(verb, "show") == 0)
        return show(&token);
    if (strcmp(verb, "forge") == 0 && argc >= 4)
        return forge(&token, argv[3], argc > 4 ? argv[4] : NULL);
    if (strcmp(verb, "unlisted") == 0)
        return unlisted(&token);
    if (strcmp(verb, "register-version") == 0) {
        struct node_keys keys = {0};
        crypto_box_keypair(keys.curve.public_key, keys.curve.secret_key);
        spoken_version = MESSAGE_PROTOCOL_VERSION + 1;
        return enrol(&token, &keys);
    }
    if (strcmp(verb, "hello") == 0 && argc == 5)
        return hello(&token, argv[3], argv[4]);
    if (strcmp(verb, "old-session") == 0 && argc == 4)
        return old_session(&token, argv[3]);
    if (strcmp(verb, "ready") == 0 && argc == 5)
        return peer_ready(&token, argv[3], argv[4]);
    if (strcmp(verb, "crooked") == 0 && argc == 4)
        return peer_crooked(&token, argv[3]);
    if (strcmp(verb, "flood") == 0 && argc == 4)
        return peer_flood(&token, argv[3]);
    if (strcmp(verb, "greedy") == 0 && argc == 4)
        return peer_greedy(&token, argv[3]);
    if (strcmp(verb, "takeover") == 0 && argc == 4)
        return takeover(&token, argv[3]);
    fprintf(stderr, "peer: no verb '%s'\n", verb);
    return 64;
}
