/* payload_hash: the 256-bit hash that names a payload: BLAKE2b over eight lanes side by side, so that one thread hashes as fast as its
 * vector registers allow (plain BLAKE2b waits for itself; measured: bench_sync). Collision-resistant like BLAKE2b: a collision
 * of two payloads is one of a lane or one of the root.
 *
 *   the payload, zeros behind it up to a whole number of stripes of 1024 bytes, and at least one:
 *
 *     byte      0        8        16             56       64                         1024
 *              +--------+--------+--- ... ------+--------+--------+---- ... --------+-----
 *     of lane  | 0      | 1      |              | 7      | 0      |                 | 0 ...     8 bytes each, in turn
 *              +--------+--------+--- ... ------+--------+--------+---- ... --------+-----
 *
 *   digest of lane i = BLAKE2b-256(its bytes in order; salt: i in the first byte; person: "atoll lane")
 *   hash             = BLAKE2b-256(digests of lanes 0..7, the payload's length as 8 bytes; person: "atoll root")
 *
 * Numbers are little-endian; salt and person are filled up with zeros. BLAKE2b: RFC 7693; salt and person: the BLAKE2 paper (2013),
 * section 2.5, as crypto_generichash_blake2b_salt_personal of libsodium, with which the test compares. */
#ifndef ATOLL_COMMS_PAYLOAD_HASH_H
#define ATOLL_COMMS_PAYLOAD_HASH_H

#include <stddef.h>
#include <stdint.h>
#include "comms/message.h"

enum { PAYLOAD_HASH_LANES = 8, PAYLOAD_HASH_STRIPE_BYTES = 1024 };

/* Plain data: may be copied and moved. */
struct payload_hash {
    uint64_t state[8][PAYLOAD_HASH_LANES];
    uint64_t hashed; /* bytes of the payload so far */
};

void payload_hash_begin(struct payload_hash *hash);

/* Whole stripes, and never the last one of the payload, which payload_hash_end gets. CHECKs that they are whole. */
void payload_hash_add(struct payload_hash *hash, const uint8_t *bytes, size_t count);

/* The rest: CHECKs that it is at most one stripe, and not nothing unless the payload is empty. `hash` is used up. */
void payload_hash_end(struct payload_hash *hash, const uint8_t *bytes, size_t count, uint8_t out[MESSAGE_HASH_BYTES]);

/* How many of the bytes [hashed, received) of a payload of `bytes` bytes payload_hash_add may be given. */
size_t payload_hash_ready(const struct payload_hash *hash, uint64_t received, uint64_t bytes);

/* All in one. */
void payload_hash_of(const uint8_t *payload, uint64_t bytes, uint8_t out[MESSAGE_HASH_BYTES]);

#endif
