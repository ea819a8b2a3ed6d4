/* link_outer: the outer's end. Two ROUTERs behind CURVE and ZAP. Every message is checked against what ZAP proved about its connection:
 * the routing id is the sender's claim, the user id is libzmq's word. */
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>
#include "base/check.h"
#include "base/clock.h"
#include "comms/link_zmq.h"
#include "comms/zap.h"

/* zmq.h hides it among the drafts; the stable library knows it. Without it a missing ZAP handler means that everybody may connect. */
#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93
#endif

static const char zap_domain[] = "atoll";

struct outer_link {
    void *context;
    struct zap *zap;
    struct link_lane_state lanes[LINK_LANES];
    uint16_t ports[LINK_LANES];
    int wake;
    enum link_lane first; /* the lane that is asked first the next time: neither can starve the other */
    struct link_drops drops;
    struct link_buffers buffers;
    struct link_chunks chunks;
};

/* ---- opening ---- */

/* CURVE server with our key, ZAP enforced: each is read back, a port that is open to all must not be opened. */
static enum status guard(void *socket, const struct node_keys *keys, struct error *error) {
    int server = 0, enforced = 0, mechanism = 0;
    char domain[32] = "";
    size_t size = sizeof(int), domain_size = sizeof domain;
    if (!link_set_int(socket, ZMQ_CURVE_SERVER, 1) ||
        !link_set_bytes(socket, ZMQ_CURVE_SECRETKEY, keys->curve.secret_key, KEYS_CURVE_BYTES) ||
        !link_set_bytes(socket, ZMQ_ZAP_DOMAIN, zap_domain, sizeof zap_domain - 1) ||
        !link_set_int(socket, ZMQ_ZAP_ENFORCE_DOMAIN, 1) ||
        zmq_getsockopt(socket, ZMQ_CURVE_SERVER, &server, &size) != 0 || server != 1 ||
        zmq_getsockopt(socket, ZMQ_MECHANISM, &mechanism, &size) != 0 || mechanism != ZMQ_CURVE ||
        zmq_getsockopt(socket, ZMQ_ZAP_ENFORCE_DOMAIN, &enforced, &size) != 0 || enforced != 1 ||
        zmq_getsockopt(socket, ZMQ_ZAP_DOMAIN, domain, &domain_size) != 0 || strcmp(domain, zap_domain) != 0)
        return error_set(error, STATUS_CONFIG,
                         "this libzmq cannot enforce the list of admitted keys (CURVE and option 93 are needed): no "
                         "port was opened");
    return STATUS_OK;
}

static enum status bind_lane(struct outer_link *link, enum link_lane lane, const char *host, uint16_t port,
                             struct error *error) {
    void *socket = link->lanes[lane].socket;
    char endpoint[TOKEN_HOST_BYTES + 32];
    char number[8] = "*";
    if (port != 0)
        snprintf(number, sizeof number, "%u", port);
    bool ipv6 = strchr(host, ':') != NULL;
    bool bracketed = host[0] == '[';
    int length = snprintf(endpoint, sizeof endpoint, "tcp://%s%s%s:%s", ipv6 && !bracketed ? "[" : "", host,
                          ipv6 && !bracketed ? "]" : "", number);
    if (length < 0 || (size_t)length >= sizeof endpoint)
        return error_set(error, STATUS_USAGE, "the address to listen on is too long (%zu characters)", strlen(host));
    char bound[TOKEN_HOST_BYTES + 32];
    size_t size = sizeof bound;
    if (!link_set_int(socket, ZMQ_IPV6, ipv6) || zmq_bind(socket, endpoint) != 0)
        return error_set(error, STATUS_IO, "cannot listen on %s for %s: %s%s", endpoint + 6,
                         lane == LINK_CONTROL ? "control" : "bulk", zmq_strerror(errno),
                         errno == EADDRINUSE ? " (is another outer running? choose another --listen)" : "");
    CHECK(zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, bound, &size) == 0);
    link->ports[lane] = (uint16_t)strtoul(strrchr(bound, ':') + 1, NULL, 10);
    return STATUS_OK;
}

/* Each connection takes two descriptors (libzmq's and the meter's): a crowd of strangers must not use up a small soft limit. */
static void raise_descriptor_limit(void) {
    struct rlimit limit;
    const rlim_t wanted = 65536;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max && limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static enum status open_lanes(const struct outer_link_options *options, struct outer_link *link, struct error *error) {
    const uint16_t ports[LINK_LANES] = {options->control_port, options->bulk_port};
    enum status status = zap_open(link->context, options->admission, &link->zap, error);
    for (enum link_lane lane = LINK_CONTROL; status == STATUS_OK && lane < LINK_LANES; lane++) {
        struct link_lane_state *state = &link->lanes[lane];
        if (!link_lane_open(link->context, ZMQ_ROUTER, lane, state) ||
            !link_set_int(state->socket, ZMQ_ROUTER_MANDATORY, 1) ||
            !link_set_int(state->socket, ZMQ_ROUTER_HANDOVER, 1) || !link_set_int(state->socket, ZMQ_BACKLOG, 512))
            return error_set(error, STATUS_IO, "cannot open a ZeroMQ socket: %s", zmq_strerror(errno));
        status = guard(state->socket, options->keys, error);
        if (status == STATUS_OK)
            status = bind_lane(link, lane, options->host, ports[lane], error);
    }
    return status;
}

enum status outer_link_open(const struct outer_link_options *options, struct outer_link **link, struct error *error) {
    struct outer_link *made = calloc(1, sizeof *made);
    if (!made)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the link (%zu bytes)", sizeof *made);
    raise_descriptor_limit();
    link_chunks_open(&made->chunks);
    made->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    made->context = zmq_ctx_new();
    enum status status;
    if (made->wake < 0 || !made->context || zmq_ctx_set(made->context, ZMQ_IO_THREADS, 2) != 0)
        status = error_set(error, STATUS_IO, "cannot start ZeroMQ: %s", zmq_strerror(errno));
    else
        status = open_lanes(options, made, error);
    if (status == STATUS_OK)
        *link = made;
    else
        outer_link_close(made);
    return status;
}

void outer_link_close(struct outer_link *link) {
    if (!link)
        return;
    link_frames_release(&link->buffers.frames);
    for (int lane = 0; lane < LINK_LANES; lane++) {
        link_lane_close(&link->lanes[lane], LINK_LINGER_MS);
        meter_close(&link->lanes[lane].meter); /* no more dups: the peers see the FIN when libzmq is done */
    }
    if (link->context)
        while (zmq_ctx_term(link->context) != 0 && errno == EINTR)
            ;
    link_chunks_close(&link->chunks);
    zap_close(link->zap);
    if (link->wake >= 0)
        close(link->wake);
    free(link);
}

void outer_link_ports(const struct outer_link *link, uint16_t *control_port, uint16_t *bulk_port) {
    *control_port = link->ports[LINK_CONTROL];
    *bulk_port = link->ports[LINK_BULK];
}

/* ---- receiving ---- */

static void drain_monitor(struct outer_link *link, enum link_lane lane) {
    struct link_monitor_event event;
    while (link_lane_event(&link->lanes[lane], &event, NULL))
        if (event.kind == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL || event.kind == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL ||
            event.kind == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
            link->drops.rejected_handshakes++;
}

/* Whose message it is. false: the routing id is not that of the proven key. */
static bool identify(struct link_frames *frames, struct link_peer *peer) {
    if (frames->count < 2)
        return false;
    /* From a payload frame: on the routing-id frame libzmq 4.3.4 loses the property when the message was prefetched. */
    const char *user_id = zmq_msg_gets(&frames->frames[1], "User-Id");
    size_t bytes = zmq_msg_size(&frames->frames[0]);
    const uint8_t *routing = zmq_msg_data(&frames->frames[0]);
    if (!user_id || !zap_parse_user_id(user_id, &peer->role, peer->key) || bytes > sizeof peer->routing)
        return false;
    bool good = peer->role == PEER_ROLE_WORKER
                    ? bytes == LINK_WORKER_ROUTING_BYTES && memcmp(routing + 1, peer->key, KEYS_CURVE_BYTES) == 0
                    : bytes == 1 + 16;
    if (!good || routing[0] != (uint8_t)zap_role_letter(peer->role))
        return false;
    memcpy(peer->routing, routing, bytes);
    peer->routing_bytes = (uint8_t)bytes;
    return true;
}

/* What a peer of each role may say. */
static bool may_say(enum peer_role role, enum link_lane lane, enum message_type type) {
    if (lane == LINK_BULK)
        return role == PEER_ROLE_WORKER;
    if (type == MESSAGE_REGISTER)
        return role == PEER_ROLE_ENROL;
    if (type == MESSAGE_RECOVER)
        return role == PEER_ROLE_RECOVER;
    if (type == MESSAGE_ADMIN_REQUEST)
        return role == PEER_ROLE_ADMIN;
    return role == PEER_ROLE_WORKER;
}

/* The meter learns which connection is whose from the descriptor that libzmq notes on each message. */
static void label_connection(struct outer_link *link, enum link_lane lane, const uint8_t key[KEYS_CURVE_BYTES]) {
    int number = zmq_msg_get(&link->buffers.frames.frames[1], ZMQ_SRCFD);
    if (number < 0 || meter_is_labelled(&link->lanes[lane].meter, number, key))
        return;
    drain_monitor(link, lane); /* its ACCEPTED, or the end of an older one with the same number, may still be unread */
    (void)meter_label(&link->lanes[lane].meter, number, key);
}

/* One message of a lane; false: none waits. A message that is dropped leaves event->kind NONE. */
static bool receive_lane(struct outer_link *link, enum link_lane lane, struct link_event *event) {
    struct link_frames *frames = &link->buffers.frames;
    if (!link_frames_receive(link->lanes[lane].socket, frames))
        return false;
    struct link_peer peer = {0};
    if (!identify(frames, &peer)) {
        link->drops.wrong_identity++;
        return true;
    }
    if (peer.role == PEER_ROLE_WORKER)
        label_connection(link, lane, peer.key);
    if (!link_decode(lane, &link->buffers, 1, event)) {
        link->drops.malformed++;
        return true;
    }
    if (!may_say(peer.role, lane, event->message.type)) {
        link->drops.wrong_identity++;
        event->kind = LINK_EVENT_NONE;
        return true;
    }
    event->peer = peer;
    return true;
}

void outer_link_receive(struct outer_link *link, uint64_t timeout_us, struct link_event *event) {
    uint64_t now = clock_now_us();
    uint64_t deadline = timeout_us > UINT64_MAX - now ? UINT64_MAX : now + timeout_us;
    memset(event, 0, sizeof *event);
    for (;;) {
        for (enum link_lane lane = LINK_CONTROL; lane < LINK_LANES; lane++)
            drain_monitor(link, lane);
        bool any = false;
        for (int turn = 0; turn < LINK_LANES; turn++) {
            enum link_lane lane = (enum link_lane)(((int)link->first + turn) % LINK_LANES);
            if (!receive_lane(link, lane, event))
                continue;
            any = true;
            if (event->kind != LINK_EVENT_NONE) {
                link->first = lane == LINK_CONTROL ? LINK_BULK : LINK_CONTROL;
                return;
            }
        }
        if (!any && (timeout_us == 0 || link_wait(link->lanes, link->wake, deadline)))
            return;
        if (clock_now_us() >= deadline)
            return;
    }
}

void outer_link_wake(struct outer_link *link) {
    link_wake(link->wake);
}

/* ---- sending, counting ---- */

enum status outer_link_send(struct outer_link *link, const struct link_peer *peer, const struct message *message) {
    return link_send_message(link->lanes[LINK_CONTROL].socket, peer, &link->buffers, message);
}

size_t outer_link_encoded_bytes(const struct outer_link *link) {
    return link->buffers.encoded_bytes;
}

enum status outer_link_send_chunk(struct outer_link *link, const struct link_peer *peer, const struct chunk *chunk,
                                  const uint8_t *payload) {
    return link_send_chunk(link->lanes[LINK_BULK].socket, peer, &link->chunks, chunk, payload);
}

void outer_link_bytes(struct outer_link *link, const struct link_peer *peer, struct link_bytes *bytes) {
    for (enum link_lane lane = LINK_CONTROL; lane < LINK_LANES; lane++)
        drain_monitor(link, lane);
    link_bytes_of(link->lanes, peer ? peer->key : NULL, bytes);
}

void outer_link_drops(const struct outer_link *link, struct link_drops *drops) {
    *drops = link->drops;
}
