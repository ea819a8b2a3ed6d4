/* link_zmq: what both ends of a link share: one ZeroMQ socket with its options, its monitor and its meter; frames; the wake descriptor.
 * Internal to comms/link_outer.c and comms/link_worker.c. It knows libzmq and the codec of messages, not who may say what. */
#ifndef ATOLL_COMMS_LINK_ZMQ_H
#define ATOLL_COMMS_LINK_ZMQ_H

#include <pthread.h>
#include <zmq.h>
#include "comms/link.h"
#include "comms/meter.h"
#include "comms/wire.h"

enum link_lane { LINK_CONTROL, LINK_BULK, LINK_LANES };

enum {
    LINK_CONTROL_BYTES_MAX = MESSAGE_CONTROL_BYTES_MAX + 1024, /* on the wire: CURVE adds 33 bytes */
    LINK_BULK_BYTES_MAX = 1 << 20, /* also bounds what a peer can make us allocate before it is authenticated */
    LINK_QUEUE_MESSAGES = 1024,    /* high-water mark each way: above twice any credit window in chunks */
    LINK_LINGER_MS = 1000,
    LINK_FRAMES_MAX = 3, /* routing id, header, payload */
};

/* Where the payloads of chunks lie while libzmq sends them: buffers of MESSAGE_CHUNK_BYTES_MAX that were used before, the last one first, since
 * copying into fresh pages costs more than the copy. libzmq gives them back from its own threads. Outlives the context. */
struct link_chunks {
    pthread_mutex_t lock;
    uint32_t count;
    uint8_t *kept[LINK_CHUNKS_KEPT];
};
void link_chunks_open(struct link_chunks *chunks);
void link_chunks_close(struct link_chunks *chunks); /* the context is gone */

struct link_lane_state {
    void *socket;
    void *monitor; /* PAIR */
    struct meter meter;
};

/* Events of the socket monitor that anybody here asks for. */
struct link_monitor_event {
    uint16_t kind;  /* ZMQ_EVENT_... */
    uint32_t value; /* descriptor, errno, ZAP status or protocol error, as the kind says */
};

/* link_lane_open: a socket of `type` with the options of its lane and a monitor; neither bound nor connected. On failure nothing stays open
 * and errno tells. */
MUST_USE bool link_lane_open(void *context, int type, enum link_lane lane, struct link_lane_state *state);
/* Close socket and monitor. linger_ms for what is queued; it is spent in zmq_ctx_term. The meter is left: it outlives sockets. */
void link_lane_close(struct link_lane_state *state, int linger_ms);

/* The next monitor event without waiting; false: none. The meter has been told of connections; *ended (may be NULL) gets the bytes of a
 * connection that DISCONNECTED names. */
bool link_lane_event(struct link_lane_state *state, struct link_monitor_event *event, struct meter_bytes *ended);

MUST_USE bool link_set_int(void *socket, int option, int value);
MUST_USE bool link_set_bytes(void *socket, int option, const void *bytes, size_t count);

/* ---- frames ---- */

struct link_frames {
    zmq_msg_t frames[LINK_FRAMES_MAX];
    int count; /* frames held; those above LINK_FRAMES_MAX were dropped and count as LINK_FRAMES_MAX + 1 */
};
/* One whole message without waiting: false when there is none. Replaces what `frames` held. */
bool link_frames_receive(void *socket, struct link_frames *frames);
void link_frames_release(struct link_frames *frames);

/* Buffers of one link: the last message's bytes stay valid until the next receive. */
struct link_buffers {
    struct link_frames frames;
    uint8_t scratch[WIRE_SCRATCH_BYTES];
    uint8_t encoded[MESSAGE_CONTROL_BYTES_MAX];
    size_t encoded_bytes; /* of the newest message sent */
};

/* Decode frames [first, count) of the lane into `event`. false: malformed. */
bool link_decode(enum link_lane lane, struct link_buffers *buffers, int first, struct link_event *event);

/* Send without waiting; routing may be NULL (DEALER). STATUS_AGAIN or STATUS_UNREACHABLE as in link.h. */
enum status link_send_message(void *socket, const struct link_peer *peer, struct link_buffers *buffers,
                              const struct message *message);
enum status link_send_chunk(void *socket, const struct link_peer *peer, struct link_chunks *chunks,
                            const struct chunk *chunk, const uint8_t *payload);

/* ---- waiting ---- */

/* Wait for a message, a monitor event or a wake on the open lanes, at most until deadline_us (clock_now_us). true: woken by link_wake or
 * a signal. */
bool link_wait(struct link_lane_state lanes[LINK_LANES], int wake, uint64_t deadline_us);
void link_wake(int wake);

void link_bytes_of(const struct link_lane_state lanes[LINK_LANES], const uint8_t *key, struct link_bytes *bytes);

#endif
