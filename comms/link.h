/* link: two encrypted ZeroMQ connections per worker, control and bulk, so that commands never queue behind data. The outer binds two
 * ROUTERs, workers dial out with two DEALERs. CURVE always on, ZAP allow-list enforced.
 * One thread owns a link; only *_wake may be called from another. No use after fork. keys_init first.
 *
 * Delivery is at most once: what was sent before a loss may be gone, also when the send said STATUS_OK. What arrived before a loss is
 * received before the loss is told. */
#ifndef ATOLL_COMMS_LINK_H
#define ATOLL_COMMS_LINK_H

#include "comms/admission.h"
#include "comms/message.h"
#include "comms/token.h"

/* A peer of the outer, named by what ZAP proved and not by what it claims: the link checks on every message that the routing id belongs to
 * the authenticated key ('W' + key + 7 random bytes of the process's link, so that a second process with the same key cannot take the
 * connection of the first; 'E', 'R' and 'A' + 16 random bytes). */
enum { LINK_WORKER_ROUTING_BYTES = 1 + KEYS_CURVE_BYTES + 7 };
struct link_peer {
    enum peer_role role;
    uint8_t key[KEYS_CURVE_BYTES]; /* the CURVE key it proved */
    uint8_t routing[LINK_WORKER_ROUTING_BYTES];
    uint8_t routing_bytes;
};

/* Buffers of MESSAGE_CHUNK_BYTES_MAX that a link keeps for the chunks that it sends next. */
enum { LINK_CHUNKS_KEPT = 16 };

enum link_event_kind {
    LINK_EVENT_NONE,      /* time-out, wake or signal */
    LINK_EVENT_MESSAGE,   /* a valid control message */
    LINK_EVENT_CHUNK,     /* a valid chunk */
    LINK_EVENT_CONNECTED, /* worker side: both connections are up (again) */
    LINK_EVENT_LOST, /* worker side: a connection broke, both were closed; it dials again by itself after 0.1 to 2 s */
    LINK_EVENT_REFUSED, /* worker side, final and said once: `refusal` and `error` tell. Later receives return NONE */
};

/* Why a worker's link gave up. */
enum link_refusal {
    LINK_REFUSAL_NONE,
    LINK_REFUSAL_NOT_LISTED, /* STATUS_REFUSED: the outer with our token's key does not list our key, or it was revoked: RECOVER tells which */
    LINK_REFUSAL_OTHER_KEY, /* STATUS_REFUSED: the outer has another key than the token says */
    LINK_REFUSAL_NOT_CURVE, /* STATUS_UNREACHABLE: what answers is no outer */
    LINK_REFUSAL_NOBODY,    /* STATUS_UNREACHABLE: nobody answered for patience_us */
};

struct link_event {
    enum link_event_kind kind;
    struct link_peer peer;  /* outer side */
    struct message message; /* long texts valid until the next receive */
    struct chunk chunk;
    const uint8_t *payload; /* of the chunk, valid until the next receive */
    enum link_refusal refusal;
    struct error error;
};

/* TCP payload bytes of the kernel's own count (TCP_INFO bytes_sent, bytes_received) over all connections so far, closed ones included, with
 * everything that TCP carries: greetings, handshakes, CURVE, framing. `up` contains retransmitted_up. */
struct link_bytes {
    uint64_t control_up, control_down;
    uint64_t bulk_up, bulk_down;
    uint64_t retransmitted_up;
};

/* What was dropped, for logs. */
struct link_drops {
    uint64_t malformed;           /* not decodable, too many parts, payload of another size than its header says */
    uint64_t wrong_identity;      /* routing id of another key, or words that the peer's role may not say */
    uint64_t wrong_session;       /* counted by the daemons, which know the sessions; always 0 here */
    uint64_t rejected_handshakes; /* strangers, wrong keys, port scans */
};

/* ---- outer side ---- */
struct outer_link;
struct outer_link_options {
    const char *host;      /* address to bind, "127.0.0.1", "0.0.0.0", "::" */
    uint16_t control_port; /* 0 = any */
    uint16_t bulk_port;    /* 0 = any */
    const struct node_keys *keys;
    struct admission *admission; /* borrowed */
};
/* Binds both ports behind CURVE and the enforced list of keys. STATUS_IO: the address cannot be had; STATUS_CONFIG: this libzmq cannot enforce
 * the list. Raises the soft limit of descriptors (two per connection, to 65536 at most). Starts libzmq's threads and one for ZAP. */
MUST_USE enum status outer_link_open(const struct outer_link_options *options, struct outer_link **link,
                                     struct error *error);
void outer_link_close(struct outer_link *link); /* waits at most 1 s for what is queued */
void outer_link_ports(const struct outer_link *link, uint16_t *control_port, uint16_t *bulk_port);

/* Wait up to timeout_us (0: do not wait) for one event; the two connections take turns. event is overwritten. Enrolment peers are heard with
 * REGISTER only, recovery peers with RECOVER only, admins with ADMIN_REQUEST only, workers with all else. Call it at least once a second: it also reads the meters, and a
 * connection that libzmq cut stays open to the far end until then. */
void outer_link_receive(struct outer_link *link, uint64_t timeout_us, struct link_event *event);
void outer_link_wake(struct outer_link *link); /* from any thread: a waiting receive returns NONE */

/* Never wait. STATUS_UNREACHABLE: the peer's connection is gone (EHOSTUNREACH; within milliseconds of a kill, not of a pulled cable).
 * STATUS_AGAIN: its queue is full (1024 messages). */
MUST_USE enum status outer_link_send(struct outer_link *link, const struct link_peer *peer,
                                     const struct message *message);
MUST_USE enum status outer_link_send_chunk(struct outer_link *link, const struct link_peer *peer,
                                           const struct chunk *chunk, const uint8_t *payload);
/* Of the newest message that outer_link_send encoded: what comms/pace charges for it. */
size_t outer_link_encoded_bytes(const struct outer_link *link);
/* Bytes of all connections, or of one worker's when peer is not NULL. Reads the kernel: call it a few times a second at most. */
void outer_link_bytes(struct outer_link *link, const struct link_peer *peer, struct link_bytes *bytes);
void outer_link_drops(const struct outer_link *link, struct link_drops *drops);

/* ---- worker side (also enrolment, recovery and admin) ---- */
struct worker_link;
struct worker_link_options {
    enum peer_role role;
    const struct token_address *addresses; /* tried in turn */
    uint32_t address_count;
    const uint8_t *outer_key;       /* KEYS_CURVE_BYTES */
    const struct curve_pair *curve; /* own, enrolment, recovery or admin pair */
    bool bulk;                      /* false: control only (all but workers) */
    uint64_t up_bytes_per_s;        /* sizes the bulk socket's send buffer; 0 = no cap */
    uint64_t
        patience_us; /* REFUSED "nobody answers" after this long without both connections, at the start or after LOST; 0 = never */
};
/* Dials in the background of worker_link_receive, which must be called for anything to happen. Everything in options is copied. */
MUST_USE enum status worker_link_open(const struct worker_link_options *options, struct worker_link **link,
                                      struct error *error);
void worker_link_close(struct worker_link *link); /* when up, waits at most 1 s for what is queued, such as GOODBYE */
void worker_link_receive(struct worker_link *link, uint64_t timeout_us, struct link_event *event);
void worker_link_wake(struct worker_link *link);
/* Give the present connections up and dial anew; LOST is reported next. For an owner who knows that nobody hears it, although TCP stands. */
void worker_link_redial(struct worker_link *link);
/* STATUS_AGAIN: queue full or not connected. */
MUST_USE enum status worker_link_send(struct worker_link *link, const struct message *message);
/* Of the newest message that worker_link_send encoded: what comms/pace charges for it. */
size_t worker_link_encoded_bytes(const struct worker_link *link);
MUST_USE enum status worker_link_send_chunk(struct worker_link *link, const struct chunk *chunk,
                                            const uint8_t *payload);
void worker_link_bytes(struct worker_link *link, struct link_bytes *bytes);
void worker_link_drops(const struct worker_link *link, struct link_drops *drops);

#endif
