#include "comms/link_zmq.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/check.h"
#include "base/clock.h"

enum {
    HANDSHAKE_MS = 5000,        /* an idle stranger is cut after this */
    GIVE_UP_SENDING_MS = 30000, /* TCP_USER_TIMEOUT: unanswered data */
};

bool link_set_int(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

bool link_set_bytes(void *socket, int option, const void *bytes, size_t count) {
    return zmq_setsockopt(socket, option, bytes, count) == 0;
}

static bool set_options(void *socket, enum link_lane lane) {
    int64_t bytes_max = lane == LINK_CONTROL ? LINK_CONTROL_BYTES_MAX : LINK_BULK_BYTES_MAX;
    bool good = link_set_bytes(socket, ZMQ_MAXMSGSIZE, &bytes_max, sizeof bytes_max) &&
                link_set_int(socket, ZMQ_SNDHWM, LINK_QUEUE_MESSAGES) &&
                link_set_int(socket, ZMQ_RCVHWM, LINK_QUEUE_MESSAGES) && link_set_int(socket, ZMQ_LINGER, 0) &&
                link_set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) &&
                link_set_int(socket, ZMQ_TCP_MAXRT, GIVE_UP_SENDING_MS) && link_set_int(socket, ZMQ_TCP_KEEPALIVE, 1) &&
                link_set_int(socket, ZMQ_TCP_KEEPALIVE_IDLE, 20) && link_set_int(socket, ZMQ_TCP_KEEPALIVE_INTVL, 5) &&
                link_set_int(socket, ZMQ_TCP_KEEPALIVE_CNT, 4);
    /* No ZMTP heartbeats, on no lane. libzmq 4.3.4 stops their timers at complete messages only, so that a slow link would be cut amid a
     * chunk; and its timer aborts the process (assert !_io_error) on a connection that was taken over by ROUTER_HANDOVER and then broke.
     * Who lives is decided by PING and PONG, half-open connections are found by them and by TCP keepalive. */
    return good;
}

/* A PAIR at the socket's monitor. Without a high-water mark: libzmq's I/O thread would wait in the middle of everything for a reader
 * that is slow. */
static void *open_monitor(void *context, void *socket) {
    static atomic_uint serial;
    char name[48];
    snprintf(name, sizeof name, "inproc://atoll.monitor.%u", atomic_fetch_add(&serial, 1));
    int kinds = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED |
                ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
    if (zmq_socket_monitor(socket, name, kinds) != 0)
        return NULL;
    void *monitor = zmq_socket(context, ZMQ_PAIR);
    if (!monitor)
        return NULL; /* link_lane_close stops the events, here and below */
    if (!link_set_int(monitor, ZMQ_LINGER, 0) || !link_set_int(monitor, ZMQ_RCVHWM, 0) ||
        zmq_connect(monitor, name) != 0) {
        int reason = errno;
        zmq_close(monitor);
        errno = reason;
        return NULL;
    }
    return monitor;
}

bool link_lane_open(void *context, int type, enum link_lane lane, struct link_lane_state *state) {
    state->socket = zmq_socket(context, type);
    if (!state->socket)
        return false;
    state->monitor = set_options(state->socket, lane) ? open_monitor(context, state->socket) : NULL;
    if (!state->monitor) {
        int reason = errno;
        link_lane_close(state, 0);
        errno = reason;
        return false;
    }
    return true;
}

void link_lane_close(struct link_lane_state *state, int linger_ms) {
    /* First no more events, then no more reader: an I/O thread with an event for a reader that is gone waits for ever. */
    if (state->socket)
        CHECK(zmq_socket_monitor(state->socket, NULL, 0) == 0);
    if (state->monitor)
        zmq_close(state->monitor);
    if (state->socket) {
        CHECK(link_set_int(state->socket, ZMQ_LINGER, linger_ms));
        zmq_close(state->socket);
    }
    state->socket = NULL;
    state->monitor = NULL;
}

bool link_lane_event(struct link_lane_state *state, struct link_monitor_event *event, struct meter_bytes *ended) {
    uint8_t fixed[6]; /* u16 kind, u32 value, both native; then a frame with the endpoint */
    int got = zmq_recv(state->monitor, fixed, sizeof fixed, ZMQ_DONTWAIT);
    if (got < 0)
        return false;
    CHECK(got == (int)sizeof fixed);
    memcpy(&event->kind, fixed, sizeof event->kind);
    memcpy(&event->value, fixed + 2, sizeof event->value);
    char endpoint[8];
    CHECK(zmq_recv(state->monitor, endpoint, sizeof endpoint, ZMQ_DONTWAIT) >= 0);
    struct meter_bytes bytes = {0};
    if (event->kind == ZMQ_EVENT_CONNECTED || event->kind == ZMQ_EVENT_ACCEPTED)
        meter_connected(&state->meter, (int)event->value);
    else if (event->kind == ZMQ_EVENT_DISCONNECTED)
        bytes = meter_disconnected(&state->meter, (int)event->value);
    if (ended)
        *ended = bytes;
    return true;
}

/* ---- frames ---- */

void link_frames_release(struct link_frames *frames) {
    for (int i = 0; i < frames->count && i < LINK_FRAMES_MAX; i++)
        zmq_msg_close(&frames->frames[i]);
    frames->count = 0;
}

bool link_frames_receive(void *socket, struct link_frames *frames) {
    link_frames_release(frames);
    bool more = true;
    while (more) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        int rc;
        do
            rc = zmq_msg_recv(&frame, socket, ZMQ_DONTWAIT);
        while (rc < 0 && errno == EINTR);
        if (rc < 0) { /* parts arrive as a whole: only the first can be missing */
            zmq_msg_close(&frame);
            link_frames_release(frames);
            return false;
        }
        more = zmq_msg_more(&frame) != 0;
        if (frames->count >= LINK_FRAMES_MAX) {
            zmq_msg_close(&frame);
            frames->count = LINK_FRAMES_MAX + 1;
        } else {
            zmq_msg_t *kept = &frames->frames[frames->count++];
            zmq_msg_init(kept);
            zmq_msg_move(kept, &frame);
            zmq_msg_close(&frame);
        }
    }
    return true;
}

bool link_decode(enum link_lane lane, struct link_buffers *buffers, int first, struct link_event *event) {
    struct link_frames *frames = &buffers->frames;
    if (frames->count != first + (lane == LINK_CONTROL ? 1 : 2))
        return false;
    const uint8_t *head = zmq_msg_data(&frames->frames[first]);
    size_t head_bytes = zmq_msg_size(&frames->frames[first]);
    if (lane == LINK_CONTROL) {
        if (head_bytes > MESSAGE_CONTROL_BYTES_MAX ||
            wire_decode(head, head_bytes, buffers->scratch, &event->message, &event->error) != STATUS_OK)
            return false;
        event->kind = LINK_EVENT_MESSAGE;
        return true;
    }
    if (head_bytes > WIRE_CHUNK_HEADER_BYTES_MAX ||
        wire_decode_chunk(head, head_bytes, &event->chunk, &event->error) != STATUS_OK ||
        event->chunk.bytes != zmq_msg_size(&frames->frames[first + 1]))
        return false;
    event->payload = zmq_msg_data(&frames->frames[first + 1]);
    event->kind = LINK_EVENT_CHUNK;
    return true;
}

static enum status send_failure(void) {
    return errno == EAGAIN ? STATUS_AGAIN : STATUS_UNREACHABLE;
}

/* The first frame decides: a later one finds the queue room that the first one took. libzmq takes back the whole message when its pipe
 * goes away between two frames (EAGAIN on a DEALER, silence on a ROUTER, whose next send then says EHOSTUNREACH). */
static enum status send_frame(void *socket, const void *bytes, size_t count, int flags) {
    int rc;
    do
        rc = zmq_send(socket, bytes, count, flags | ZMQ_DONTWAIT);
    while (rc < 0 && errno == EINTR);
    return rc >= 0 ? STATUS_OK : send_failure();
}

enum status link_send_message(void *socket, const struct link_peer *peer, struct link_buffers *buffers,
                              const struct message *message) {
    size_t bytes = buffers->encoded_bytes = wire_encode(message, buffers->encoded);
    enum status status = STATUS_OK;
    if (peer)
        status = send_frame(socket, peer->routing, peer->routing_bytes, ZMQ_SNDMORE);
    return status == STATUS_OK ? send_frame(socket, buffers->encoded, bytes, 0) : status;
}

void link_chunks_open(struct link_chunks *chunks) {
    chunks->count = 0;
    pthread_mutex_init(&chunks->lock, NULL);
}

void link_chunks_close(struct link_chunks *chunks) {
    for (uint32_t i = 0; i < chunks->count; i++)
        free(chunks->kept[i]);
    pthread_mutex_destroy(&chunks->lock);
}

static uint8_t *take_chunk(struct link_chunks *chunks) {
    pthread_mutex_lock(&chunks->lock);
    uint8_t *buffer = chunks->count > 0 ? chunks->kept[--chunks->count] : NULL;
    pthread_mutex_unlock(&chunks->lock);
    return buffer != NULL ? buffer : malloc(MESSAGE_CHUNK_BYTES_MAX);
}

/* In any thread of libzmq's, or ours. */
static void give_chunk(void *buffer, void *owner) {
    struct link_chunks *chunks = owner;
    pthread_mutex_lock(&chunks->lock);
    bool kept = chunks->count < LINK_CHUNKS_KEPT;
    if (kept)
        chunks->kept[chunks->count++] = buffer;
    pthread_mutex_unlock(&chunks->lock);
    if (!kept)
        free(buffer);
}

/* The payload in memory of its own. false: no memory. */
static bool fill_frame(struct link_chunks *chunks, const uint8_t *payload, size_t bytes, zmq_msg_t *frame) {
    CHECK(bytes <= MESSAGE_CHUNK_BYTES_MAX);
    uint8_t *buffer = take_chunk(chunks);
    if (buffer == NULL)
        return false;
    memcpy(buffer, payload, bytes);
    bool made = zmq_msg_init_data(frame, buffer, bytes, give_chunk, chunks) == 0;
    if (!made)
        give_chunk(buffer, chunks);
    return made;
}

enum status link_send_chunk(void *socket, const struct link_peer *peer, struct link_chunks *chunks,
                            const struct chunk *chunk, const uint8_t *payload) {
    uint8_t header[WIRE_CHUNK_HEADER_BYTES_MAX];
    size_t header_bytes = wire_encode_chunk(chunk, header);
    zmq_msg_t frame;
    if (!fill_frame(chunks, payload, chunk->bytes, &frame))
        return STATUS_AGAIN;
    enum status status = STATUS_OK;
    if (peer)
        status = send_frame(socket, peer->routing, peer->routing_bytes, ZMQ_SNDMORE);
    if (status == STATUS_OK)
        status = send_frame(socket, header, header_bytes, ZMQ_SNDMORE);
    while (status == STATUS_OK && zmq_msg_send(&frame, socket, ZMQ_DONTWAIT) < 0)
        if (errno != EINTR)
            status = send_failure();
    zmq_msg_close(&frame); /* nothing when it was sent */
    return status;
}

/* ---- waiting ---- */

bool link_wait(struct link_lane_state lanes[LINK_LANES], int wake, uint64_t deadline_us) {
    zmq_pollitem_t items[1 + 2 * LINK_LANES];
    int count = 0;
    items[count++] = (zmq_pollitem_t){.fd = wake, .events = ZMQ_POLLIN};
    for (int lane = 0; lane < LINK_LANES; lane++) {
        if (!lanes[lane].socket)
            continue;
        items[count++] = (zmq_pollitem_t){.socket = lanes[lane].socket, .events = ZMQ_POLLIN};
        items[count++] = (zmq_pollitem_t){.socket = lanes[lane].monitor, .events = ZMQ_POLLIN};
    }
    uint64_t now = clock_now_us();
    uint64_t wait_ms = deadline_us > now ? (deadline_us - now + 999) / 1000 : 0;
    int rc = zmq_poll(items, count, wait_ms > INT_MAX ? INT_MAX : (long)wait_ms);
    if (rc < 0)
        return errno == EINTR;
    if (!(items[0].revents & ZMQ_POLLIN))
        return false;
    uint64_t wakes;
    return read(wake, &wakes, sizeof wakes) == sizeof wakes;
}

void link_wake(int wake) {
    uint64_t one = 1;
    ssize_t put = write(wake, &one, sizeof one);
    CHECK(put == sizeof one || errno == EAGAIN); /* EAGAIN: 2^64 - 1 wakes are waiting already */
}

void link_bytes_of(const struct link_lane_state lanes[LINK_LANES], const uint8_t *key, struct link_bytes *bytes) {
    struct meter_bytes control = meter_read(&lanes[LINK_CONTROL].meter, key);
    struct meter_bytes bulk = meter_read(&lanes[LINK_BULK].meter, key);
    *bytes = (struct link_bytes){.control_up = control.up,
                                 .control_down = control.down,
                                 .bulk_up = bulk.up,
                                 .bulk_down = bulk.down,
                                 .retransmitted_up = control.retransmitted + bulk.retransmitted};
}
