/* link_worker: the dialling end. libzmq's own reconnection is put off for ever: each attempt is a fresh pair of
 * DEALERs, so that nothing queued for an old session can arrive ahead of the next HELLO, the next address can be tried, and no session is
 * left that libzmq gave up for good.
 *
 *   WAITING --(pause over)--> DIALLING --(all handshakes done)--> UP --(one connection ended, all input read)--> WAITING, LOST
 *      ^                         |                                      CONNECTED
 *      +--(an end, a deadline)---+--(400; every address proven wrong)--> OVER, REFUSED
 *
 * Why an attempt failed is read from the socket monitor and the kernel's count of bytes received:
 *   HANDSHAKE_FAILED_AUTH (400)                       the outer has our key not on its list
 *   HANDSHAKE_FAILED_NO_DETAIL after just a greeting  a CURVE server that cannot open our box: it has another key
 *   HANDSHAKE_FAILED_PROTOCOL, or an end with no word it speaks something else
 *   all else                                          nobody there, or not yet: a port that accepts and closes may be a tunnel */
#include <arpa/inet.h>
#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/units.h"
#include "comms/link_zmq.h"
#include "comms/zap.h"

enum {
    PAUSE_MIN_US = 100000,
    PAUSE_MAX_US = 2000000,
    CONNECT_US = 3000000,      /* until TCP answers, when there is another address to try */
    CONNECT_LONG_US = 5000000, /* the same with one address only: the kernel says SYN at 0, 1, 3 and 7 s */
    HANDSHAKE_US = 15000000,   /* TCP and CURVE: six round trips on a link that may be full */
    ADDRESS_US = 3000000,      /* failing this long on one address: the next */
    STEADY_US = 2000000,       /* up for this long: the next pause is the shortest again */
    OTHER_KEY_PROOFS = 5,      /* failures that prove an address wrong */
    NOT_ATOLL_PROOFS = 3,
    GREETING_BYTES = 64,         /* ZMTP 3: all that a CURVE server says to a box that it cannot open */
    AT_ONCE_US = 4000000,        /* an end before this is no handshake time-out of the far end (5 s) */
    NEVER_MS = 24 * 3600 * 1000, /* not -1: see dial_lane */
    SEND_BUFFER_MIN = 16384,
};

enum phase { PHASE_WAITING, PHASE_DIALLING, PHASE_UP, PHASE_OVER };

enum fate { FATE_SILENT, FATE_OTHER_KEY, FATE_NOT_ATOLL, FATE_UNKNOWN_KEY };

/* What speaks against an address since it was last up or silent. */
struct verdict {
    uint32_t other_key;
    uint32_t not_atoll;
};

struct worker_link {
    void *context;
    int wake;
    struct worker_link_options options; /* the pointers point below */
    struct token_address addresses[TOKEN_ADDRESSES_MAX];
    uint8_t outer_key[KEYS_CURVE_BYTES];
    struct curve_pair curve;
    uint8_t routing[LINK_WORKER_ROUTING_BYTES];
    size_t routing_bytes;

    enum phase phase;
    struct link_lane_state lanes[LINK_LANES];
    bool connected[LINK_LANES]; /* this attempt: TCP */
    bool ready[LINK_LANES];     /* this attempt: handshake done */
    bool no_detail[LINK_LANES]; /* HANDSHAKE_FAILED_NO_DETAIL, its DISCONNECTED comes next */
    bool ended;                 /* a connection of this attempt ended or failed */
    enum fate fate;             /* why, when it was not up */
    uint64_t since_us;          /* begin of the phase */
    uint64_t pause_us;          /* of the next WAITING */
    uint64_t retry_us;          /* WAITING: when to dial */
    uint64_t unconnected_us;    /* since when not all is up */

    uint32_t address;    /* dialled now or next */
    uint64_t address_us; /* since when it fails */
    uint32_t dials;
    struct verdict verdicts[TOKEN_ADDRESSES_MAX];

    struct link_drops drops;
    struct link_buffers buffers;
    struct link_chunks chunks;
};

/* ---- open, close ---- */

static void hang_up(struct worker_link *link, int linger_ms) {
    for (enum link_lane lane = LINK_CONTROL; lane < LINK_LANES; lane++) {
        link_lane_close(&link->lanes[lane], linger_ms);
        meter_disconnected_all(&link->lanes[lane].meter);
        link->connected[lane] = link->ready[lane] = link->no_detail[lane] = false;
    }
    link->ended = false;
}

enum status worker_link_open(const struct worker_link_options *options, struct worker_link **link,
                             struct error *error) {
    CHECK(options->address_count >= 1 && options->address_count <= TOKEN_ADDRESSES_MAX);
    CHECK(options->role != PEER_ROLE_NONE && (!options->bulk || options->role == PEER_ROLE_WORKER));
    struct worker_link *made = calloc(1, sizeof *made);
    if (!made)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the link (%zu bytes)", sizeof *made);
    link_chunks_open(&made->chunks);
    made->options = *options;
    memcpy(made->addresses, options->addresses, options->address_count * sizeof *options->addresses);
    memcpy(made->outer_key, options->outer_key, sizeof made->outer_key);
    made->curve = *options->curve;
    made->options.addresses = made->addresses;
    made->options.outer_key = made->outer_key;
    made->options.curve = &made->curve;
    made->routing[0] = (uint8_t)zap_role_letter(options->role);
    made->routing_bytes = options->role == PEER_ROLE_WORKER ? LINK_WORKER_ROUTING_BYTES : 1 + 16;
    memcpy(made->routing + 1, made->curve.public_key, KEYS_CURVE_BYTES);
    randombytes_buf(made->routing + 1 + KEYS_CURVE_BYTES, LINK_WORKER_ROUTING_BYTES - 1 - KEYS_CURVE_BYTES);
    if (options->role != PEER_ROLE_WORKER) /* several may be open with one key */
        randombytes_buf(made->routing + 1, 16);
    made->pause_us = PAUSE_MIN_US;
    made->unconnected_us = made->address_us = made->retry_us = clock_now_us();
    made->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    made->context = zmq_ctx_new();
    if (made->wake < 0 || !made->context) {
        enum status status = error_set(error, STATUS_IO, "cannot start ZeroMQ: %s", zmq_strerror(errno));
        worker_link_close(made);
        return status;
    }
    *link = made;
    return STATUS_OK;
}

void worker_link_close(struct worker_link *link) {
    if (!link)
        return;
    link_frames_release(&link->buffers.frames);
    hang_up(link, link->phase == PHASE_UP ? LINK_LINGER_MS : 0);
    for (int lane = 0; lane < LINK_LANES; lane++)
        meter_close(&link->lanes[lane].meter);
    if (link->context)
        while (zmq_ctx_term(link->context) != 0 && errno == EINTR)
            ;
    link_chunks_close(&link->chunks);
    if (link->wake >= 0)
        close(link->wake);
    sodium_memzero(&link->curve, sizeof link->curve);
    free(link);
}

/* ---- dialling ---- */

/* 200 ms of the cap, so that what waits in the kernel delays control by no more; the kernel doubles it for its bookkeeping. */
static int send_buffer_bytes(uint64_t cap_bytes_per_s) {
    uint64_t bytes = cap_bytes_per_s / 5;
    return bytes < SEND_BUFFER_MIN ? SEND_BUFFER_MIN : bytes > 4 << 20 ? 4 << 20 : (int)bytes;
}

/* libzmq takes the first address of one family that a name has: take the families in turn. */
static bool use_ipv6(const struct worker_link *link, const char *host) {
    struct in_addr ipv4;
    return strchr(host, ':') != NULL || (inet_pton(AF_INET, host, &ipv4) != 1 && link->dials % 2 == 1);
}

/* Neither ZMQ_IMMEDIATE 1 nor ZMQ_RECONNECT_IVL -1: with either, libzmq 4.3.4 throws away what came before a disconnect and was not read
 * yet. Nothing is sent before the handshake, and a socket is closed after a loss, so that neither is missed. */
static bool dial_lane(struct worker_link *link, enum link_lane lane) {
    const struct token_address *address = &link->addresses[link->address];
    struct link_lane_state *state = &link->lanes[lane];
    char endpoint[TOKEN_HOST_BYTES + 32];
    snprintf(endpoint, sizeof endpoint, "tcp://%s:%u", address->host,
             lane == LINK_CONTROL ? address->control_port : address->bulk_port);
    return link_lane_open(link->context, ZMQ_DEALER, lane, state) &&
           link_set_int(state->socket, ZMQ_RECONNECT_IVL, NEVER_MS) &&
           link_set_int(state->socket, ZMQ_IPV6, use_ipv6(link, address->host)) &&
           link_set_bytes(state->socket, ZMQ_ROUTING_ID, link->routing, link->routing_bytes) &&
           link_set_bytes(state->socket, ZMQ_CURVE_SERVERKEY, link->outer_key, KEYS_CURVE_BYTES) &&
           link_set_bytes(state->socket, ZMQ_CURVE_PUBLICKEY, link->curve.public_key, KEYS_CURVE_BYTES) &&
           link_set_bytes(state->socket, ZMQ_CURVE_SECRETKEY, link->curve.secret_key, KEYS_CURVE_BYTES) &&
           (lane == LINK_CONTROL || link->options.up_bytes_per_s == 0 ||
            link_set_int(state->socket, ZMQ_SNDBUF, send_buffer_bytes(link->options.up_bytes_per_s))) &&
           zmq_connect(state->socket, endpoint) == 0;
}

static void enter(struct worker_link *link, enum phase phase, uint64_t now_us) {
    link->phase = phase;
    link->since_us = now_us;
}

/* Pause, longer each time, with jitter so that many workers do not return in step. A line that swallowed the attempt without a word was pause enough:
 * when it is back, that is to be found soon. */
static void retry_later(struct worker_link *link, uint64_t now_us) {
    bool swallowed =
        link->phase == PHASE_DIALLING && !link->ended && !link->connected[LINK_CONTROL] && !link->connected[LINK_BULK];
    uint64_t from_us = swallowed ? link->since_us : now_us;
    hang_up(link, 0);
    enter(link, PHASE_WAITING, now_us);
    link->retry_us = from_us + link->pause_us * 3 / 4 + randombytes_uniform((uint32_t)link->pause_us / 4 + 1);
    link->pause_us = link->pause_us * 2 > PAUSE_MAX_US ? PAUSE_MAX_US : link->pause_us * 2;
}

/* The attempt failed: note what it says about its address, move on to the next where that is due. A connection that was cut in mid-greeting
 * says nothing (a plain ROUTER does that every other time, a tunnel to nowhere always). */
static void attempt_failed(struct worker_link *link, uint64_t now_us) {
    enum fate fate = link->fate;
    uint32_t address = link->address;
    struct verdict *verdict = &link->verdicts[address];
    if (fate == FATE_OTHER_KEY)
        verdict->other_key++;
    else if (fate == FATE_NOT_ATOLL)
        verdict->not_atoll++;
    else if (!link->no_detail[LINK_CONTROL] && !link->no_detail[LINK_BULK])
        *verdict = (struct verdict){0};
    if (fate != FATE_SILENT || now_us - link->address_us >= ADDRESS_US) {
        link->address = (address + 1) % link->options.address_count;
        link->address_us = now_us;
    }
    retry_later(link, now_us);
}

static void dial(struct worker_link *link, uint64_t now_us) {
    enter(link, PHASE_DIALLING, now_us);
    link->fate = FATE_SILENT;
    if (!dial_lane(link, LINK_CONTROL) || (link->options.bulk && !dial_lane(link, LINK_BULK)))
        link->ended = true; /* no descriptors left, or a host that libzmq cannot take */
    link->dials++;
}

/* ---- what the monitors say ---- */

/* A connection ended before its handshake was done. */
static enum fate fate_of_end(const struct worker_link *link, enum link_lane lane, struct meter_bytes bytes) {
    if (!link->no_detail[lane])
        return FATE_NOT_ATOLL;
    bool at_once = clock_now_us() - link->since_us < AT_ONCE_US;
    bool greeting =
        bytes.down == GREETING_BYTES || bytes.down == GREETING_BYTES + 1; /* the kernel counts a FIN as one byte */
    return at_once && greeting ? FATE_OTHER_KEY : FATE_SILENT;
}

static void note_event(struct worker_link *link, enum link_lane lane, const struct link_monitor_event *event,
                       struct meter_bytes bytes) {
    switch (event->kind) {
    case ZMQ_EVENT_CONNECTED:
        link->connected[lane] = true;
        break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        link->ready[lane] = true;
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        link->drops.rejected_handshakes++;
        link->fate = FATE_UNKNOWN_KEY;
        link->ended = true;
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        link->drops.rejected_handshakes++;
        if (link->fate != FATE_UNKNOWN_KEY)
            link->fate = FATE_NOT_ATOLL;
        link->ended = true;
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        link->drops.rejected_handshakes++;
        link->no_detail[lane] = true;
        break;
    case ZMQ_EVENT_DISCONNECTED:
        if (!link->ready[lane] && link->fate == FATE_SILENT)
            link->fate = fate_of_end(link, lane, bytes);
        link->ended = true;
        break;
    case ZMQ_EVENT_CLOSED: /* a connect that failed */
        link->ended = true;
        break;
    default:
        break;
    }
}

static void drain_monitors(struct worker_link *link) {
    for (enum link_lane lane = LINK_CONTROL; lane < LINK_LANES; lane++) {
        struct link_monitor_event event;
        struct meter_bytes bytes;
        while (link->lanes[lane].monitor && link_lane_event(&link->lanes[lane], &event, &bytes))
            note_event(link, lane, &event, bytes);
    }
}

/* ---- the final words ---- */

static void append(char *text, size_t room, const char *format, ...) PRINTF_LIKE(3, 4);
static void append(char *text, size_t room, const char *format, ...) {
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, room - used, format, arguments);
    va_end(arguments);
}

static void refuse(struct worker_link *link, struct link_event *event, enum link_refusal refusal, const char *text) {
    bool refused = refusal == LINK_REFUSAL_NOT_LISTED || refusal == LINK_REFUSAL_OTHER_KEY;
    hang_up(link, 0);
    enter(link, PHASE_OVER, clock_now_us());
    event->kind = LINK_EVENT_REFUSED;
    event->refusal = refusal;
    error_set(&event->error, refused ? STATUS_REFUSED : STATUS_UNREACHABLE, "%s", text);
}

static void refuse_unknown_key(struct worker_link *link, struct link_event *event) {
    const struct token_address *address = &link->addresses[link->address];
    char text[1024];
    static const char *const reasons[] = {
        [PEER_ROLE_NONE] = "",
        [PEER_ROLE_ENROL] =
            "does not know this token (revoked, or of another run): ask for a new one: atoll token create",
        [PEER_ROLE_RECOVER] = "does not take certificates: register with a token: atoll worker --join TOKEN",
        [PEER_ROLE_WORKER] = "does not know this worker's key: register with a token: atoll worker --join TOKEN",
        [PEER_ROLE_ADMIN] = "has another key than this directory: run this command with the outer's own --dir",
    };
    snprintf(text, sizeof text, "the outer at %s:%u %s", address->host, address->control_port,
             reasons[link->options.role]);
    refuse(link, event, LINK_REFUSAL_NOT_LISTED, text);
}

static enum fate fate_of(const struct verdict *verdict) {
    if (verdict->other_key + verdict->not_atoll == 0)
        return FATE_SILENT;
    return verdict->other_key > verdict->not_atoll ? FATE_OTHER_KEY : FATE_NOT_ATOLL;
}

/* "10.0.0.1:7000+7001 (no answer), ..." */
static void list_addresses(const struct worker_link *link, char *text, size_t room) {
    static const char *const fates[] = {
        [FATE_SILENT] = "no answer",
        [FATE_OTHER_KEY] = "another key",
        [FATE_NOT_ATOLL] = "does not speak CURVE",
        [FATE_UNKNOWN_KEY] = "",
    };
    text[0] = '\0';
    for (uint32_t i = 0; i < link->options.address_count; i++) {
        const struct token_address *address = &link->addresses[i];
        append(text, room, "%s%s:%u", i ? ", " : "", address->host, address->control_port);
        if (link->options.bulk)
            append(text, room, "+%u", address->bulk_port);
        append(text, room, " (%s)", fates[fate_of(&link->verdicts[i])]);
    }
}

/* Every address has been proven wrong. */
static bool all_wrong(const struct worker_link *link) {
    for (uint32_t i = 0; i < link->options.address_count; i++)
        if (link->verdicts[i].other_key < OTHER_KEY_PROOFS && link->verdicts[i].not_atoll < NOT_ATOLL_PROOFS)
            return false;
    return true;
}

static void refuse_wrong(struct worker_link *link, struct link_event *event) {
    char list[TOKEN_ADDRESSES_MAX * (TOKEN_HOST_BYTES + 64)];
    char text[sizeof list + 256];
    list_addresses(link, list, sizeof list);
    const struct token_address *address = &link->addresses[0];
    bool other_key = false;
    for (uint32_t i = 0; i < link->options.address_count; i++)
        other_key = other_key || fate_of(&link->verdicts[i]) == FATE_OTHER_KEY;
    if (link->options.address_count > 1)
        snprintf(text, sizeof text, "no outer of this token answers: %s: ask for a new token", list);
    else if (other_key)
        snprintf(text, sizeof text,
                 "the outer at %s:%u has another key than the token says: it was set up anew, or another outer listens "
                 "there; ask "
                 "for a new token",
                 address->host, address->control_port);
    else
        snprintf(text, sizeof text,
                 "what answers at %s:%u does not speak CURVE, so it is no atoll outer: check host and port",
                 address->host, address->control_port);
    refuse(link, event, other_key ? LINK_REFUSAL_OTHER_KEY : LINK_REFUSAL_NOT_CURVE, text);
}

static void refuse_nobody(struct worker_link *link, struct link_event *event, uint64_t now_us) {
    char list[TOKEN_ADDRESSES_MAX * (TOKEN_HOST_BYTES + 64)];
    char text[sizeof list + 256];
    char waited[UNITS_TEXT_BYTES];
    list_addresses(link, list, sizeof list);
    snprintf(text, sizeof text, "no outer has answered for %s at %s: does it run, and do its ports pass the firewalls?",
             units_format_duration(now_us - link->unconnected_us, waited), list);
    refuse(link, event, LINK_REFUSAL_NOBODY, text);
}

/* ---- receiving ---- */

/* One message of either lane, control first: chunks are large and their number is bounded by credit. */
static bool receive_message(struct worker_link *link, struct link_event *event) {
    for (enum link_lane lane = LINK_CONTROL; lane < LINK_LANES; lane++) {
        while (link->lanes[lane].socket && link_frames_receive(link->lanes[lane].socket, &link->buffers.frames)) {
            if (link_decode(lane, &link->buffers, 0, event))
                return true;
            link->drops.malformed++;
        }
    }
    return false;
}

/* DIALLING: all up, over, or failed. true: `event` is set. */
static bool follow_attempt(struct worker_link *link, uint64_t now_us, struct link_event *event) {
    bool connected = link->connected[LINK_CONTROL] && (!link->options.bulk || link->connected[LINK_BULK]);
    bool ready = link->ready[LINK_CONTROL] && (!link->options.bulk || link->ready[LINK_BULK]);
    uint64_t connect_us = link->options.address_count > 1 ? CONNECT_US : CONNECT_LONG_US;
    if (link->ended && link->fate == FATE_UNKNOWN_KEY) {
        refuse_unknown_key(link, event);
        return true;
    }
    if (ready && !link->ended) {
        enter(link, PHASE_UP, now_us);
        memset(link->verdicts, 0, sizeof link->verdicts);
        event->kind = LINK_EVENT_CONNECTED;
        return true;
    }
    if (link->ended || now_us - link->since_us >= HANDSHAKE_US || (!connected && now_us - link->since_us >= connect_us))
        attempt_failed(link, now_us);
    if (link->phase == PHASE_WAITING && all_wrong(link)) {
        refuse_wrong(link, event);
        return true;
    }
    return false;
}

/* UP: messages first, also those that came before the end. */
static bool follow_connection(struct worker_link *link, uint64_t now_us, struct link_event *event) {
    if (receive_message(link, event))
        return true;
    if (!link->ended)
        return false;
    if (now_us - link->since_us >= STEADY_US)
        link->pause_us = PAUSE_MIN_US;
    link->unconnected_us = link->address_us = now_us;
    retry_later(link, now_us);
    event->kind = LINK_EVENT_LOST;
    return true;
}

/* One step of the phases; true: `event` is set. *until_us gets earlier when the phase has a deadline of its own. */
static bool step(struct worker_link *link, uint64_t now_us, struct link_event *event, uint64_t *until_us) {
    drain_monitors(link);
    if (link->phase == PHASE_WAITING && now_us >= link->retry_us)
        dial(link, now_us);
    if (link->phase == PHASE_DIALLING && follow_attempt(link, now_us, event))
        return true;
    if (link->phase == PHASE_UP)
        return follow_connection(link, now_us, event);
    if (link->phase == PHASE_OVER)
        return false;
    uint64_t patience_us = link->options.patience_us;
    if (patience_us != 0 && now_us - link->unconnected_us >= patience_us) {
        refuse_nobody(link, event, now_us);
        return true;
    }
    uint64_t own = link->retry_us;
    if (link->phase == PHASE_DIALLING) {
        bool connected = link->connected[LINK_CONTROL] && (!link->options.bulk || link->connected[LINK_BULK]);
        own = link->since_us + (connected                         ? HANDSHAKE_US
                                : link->options.address_count > 1 ? CONNECT_US
                                                                  : CONNECT_LONG_US);
    }
    if (patience_us != 0 && link->unconnected_us + patience_us < own)
        own = link->unconnected_us + patience_us;
    if (own < *until_us)
        *until_us = own;
    return false;
}

void worker_link_receive(struct worker_link *link, uint64_t timeout_us, struct link_event *event) {
    uint64_t now = clock_now_us();
    uint64_t deadline = timeout_us > UINT64_MAX - now ? UINT64_MAX : now + timeout_us;
    memset(event, 0, sizeof *event);
    for (;;) {
        uint64_t until = deadline;
        if (step(link, now, event, &until))
            return;
        if (timeout_us == 0 || link_wait(link->lanes, link->wake, until))
            return;
        now = clock_now_us();
        if (now >= deadline)
            return;
    }
}

void worker_link_wake(struct worker_link *link) {
    link_wake(link->wake);
}

/* ---- sending, counting ---- */

void worker_link_redial(struct worker_link *link) {
    if (link->phase == PHASE_UP)
        link->ended = true;
}

enum status worker_link_send(struct worker_link *link, const struct message *message) {
    if (link->phase != PHASE_UP || link->ended)
        return STATUS_AGAIN;
    return link_send_message(link->lanes[LINK_CONTROL].socket, NULL, &link->buffers, message);
}

size_t worker_link_encoded_bytes(const struct worker_link *link) {
    return link->buffers.encoded_bytes;
}

enum status worker_link_send_chunk(struct worker_link *link, const struct chunk *chunk, const uint8_t *payload) {
    if (link->phase != PHASE_UP || link->ended || !link->options.bulk)
        return STATUS_AGAIN;
    return link_send_chunk(link->lanes[LINK_BULK].socket, NULL, &link->chunks, chunk, payload);
}

void worker_link_bytes(struct worker_link *link, struct link_bytes *bytes) {
    drain_monitors(link);
    link_bytes_of(link->lanes, NULL, bytes);
}

void worker_link_drops(const struct worker_link *link, struct link_drops *drops) {
    *drops = link->drops;
}
