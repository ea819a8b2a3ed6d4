/* transfer: both ends of one bulk payload, resumable at any offset. Receiver-driven: the receiver grants [offset, limit), the sender
 * never passes the limit. Pure bookkeeping: no socket, no clock.
 *
 *   receiver                                                sender
 *   GRANT(offset 0, limit w)                       ---->    chunks 0..w
 *   half of w arrived: GRANT(offset w, limit w + w/2) -->   goes on to w + w/2: the grant starts where the last one ended
 *   link lost, came back: GRANT(offset = received, ...) ->  goes back (or on) to there: the grant starts before
 *
 * A grant asks for bytes that were not asked for yet, or asks again. So the sender tells a renewal (offset = its limit) from a
 * repetition (offset below what it has handed out) without further words. A grant that is repeated costs at most the bytes again.
 *
 * Links lose nothing in the middle: after a gap the receiver waits for its owner, who calls transfer_receiver_reset_credit when the
 * link came back, or when credit is out and nothing has arrived for too long. */
#ifndef ATOLL_COMMS_TRANSFER_H
#define ATOLL_COMMS_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "comms/message.h"
#include "comms/payload_hash.h"

/* transfer_chunk_bytes: min(256 KiB, 100 ms of the cap), at least 4 KiB; cap 0 = none. */
uint32_t transfer_chunk_bytes(uint64_t cap_bytes_per_s);

/* transfer_window_bytes: credit of one transfer where `peers` share an outer: 16 MiB for all each way, 512 KiB to 1 MiB each. It bounds what
 * waits in the outer's sockets while it is busy. */
uint64_t transfer_window_bytes(uint32_t peers);

struct transfer_sender {
    struct transfer_key key;
    const uint8_t *payload; /* borrowed until the transfer is closed */
    uint64_t bytes;
    uint64_t next;  /* first byte not yet handed out */
    uint64_t limit; /* granted; 0 = nothing yet */
};
/* CHECKs bytes >= 1: no fragment is empty, the wire refuses such offers and commits. */
void transfer_sender_open(struct transfer_sender *sender, struct transfer_key key, const uint8_t *payload,
                          uint64_t bytes);
/* false: grant out of range (offset > bytes, limit > bytes, limit < offset): refuse and count; the sender is as it was. The first
 * grant may start anywhere (a resumed transfer). */
bool transfer_sender_grant(struct transfer_sender *sender, uint64_t offset, uint64_t limit);
/* Fill the next chunk of at most chunk_bytes within the grant and step over it; false when nothing may be sent. payload of the chunk is
 * sender->payload + chunk->offset. chunk->session is the caller's to fill. When the link does not take the chunk (STATUS_AGAIN),
 * sender->next = chunk->offset undoes the step. */
bool transfer_sender_next(struct transfer_sender *sender, uint32_t chunk_bytes, struct chunk *chunk);

struct transfer_receiver {
    struct transfer_key key;
    uint8_t *buffer; /* bytes long, borrowed */
    uint64_t bytes;
    uint64_t received; /* all before it is here */
    uint64_t granted;
    uint64_t granted_most; /* the largest limit ever granted: chunks up to there may still be under way */
    uint64_t window;       /* credit that may be outstanding */
    uint8_t expected_hash[MESSAGE_HASH_BYTES];
    struct payload_hash hash; /* of what is here, in whole stripes, so that no long pass is left for the end */
};
/* CHECKs bytes >= 1 and window >= 1. The struct may be moved and copied; it holds no pointer into itself. */
void transfer_receiver_open(struct transfer_receiver *receiver, struct transfer_key key, uint8_t *buffer,
                            uint64_t bytes, uint64_t window, const uint8_t expected_hash[MESSAGE_HASH_BYTES]);
/* After a link came back: forget outstanding credit; the next transfer_receiver_grant asks from `received`. */
void transfer_receiver_reset_credit(struct transfer_receiver *receiver);
/* true when a GRANT should be sent now (nothing asked yet, or half of the window has arrived): fills it and counts it as granted.
 * granted - received never passes the window. */
bool transfer_receiver_grant(struct transfer_receiver *receiver, struct message_grant *grant);
enum transfer_verdict {
    TRANSFER_TAKEN,     /* stored */
    TRANSFER_COMPLETE,  /* stored, all here, hash right */
    TRANSFER_BAD_HASH,  /* all here, hash wrong: reset to zero received; grant again or give up */
    TRANSFER_DUPLICATE, /* before `received`, or a gap after a resend: dropped, no harm */
    TRANSFER_HOSTILE,   /* empty, of another transfer, outside the payload or beyond any grant: dropped, count it */
};
/* payload: chunk->bytes bytes. A chunk that starts before `received` and ends behind it gives its new part. */
enum transfer_verdict transfer_receiver_chunk(struct transfer_receiver *receiver, const struct chunk *chunk,
                                              const uint8_t *payload);

#endif
