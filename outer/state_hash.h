/* state_hash: one 128-bit value of a fragment's outer copy g and momentum u, compared at every commit. XXH3-128, not a cryptographic
 * hash: it finds divergence, and the commit that carries it is signed.
 *
 *   g   packed floats of the fragment, in span order, little-endian:   | leaf 0: 16384 floats | leaf 1 | ... | last, short |
 *   u   likewise                                                       | leaf 0               | leaf 1 | ... | last, short |
 *
 *   hash = XXH3-128( count as u64 little-endian | H(g leaf 0) | H(u leaf 0) | H(g leaf 1) | H(u leaf 1) | ... )
 *   H    = XXH3-128 with seed 0, its 16 bytes in canonical (big-endian) order; so is the result
 *
 * Leaves (64 KiB each of g and u) are cut from the packed sequence, whatever the tensors: they can be hashed while in cache, or by several
 * threads. Bytes are compared, so that -0 and 0 differ. */
#ifndef ATOLL_OUTER_STATE_HASH_H
#define ATOLL_OUTER_STATE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STATE_HASH_BYTES = 16, STATE_HASH_LEAF_FLOATS = 16384 };

struct state_hash {
    uint8_t bytes[STATE_HASH_BYTES];
};

/* state_hash_fragment: g and u (count,) packed, borrowed. No allocation, one pass over g and u. */
void state_hash_fragment(const float *g, const float *u, size_t count, struct state_hash *out);

/* The same beside the pass that makes g and u, leaf by leaf while they are in the cache: begin; advance whenever the first `ready` floats of
 * both are what they will be (the arrays are those of the whole fragment); end once all `count` were. */
enum { STATE_HASH_ROOT_BYTES = 576, STATE_HASH_ROOT_ALIGNMENT = 64 };
struct state_hash_walk {
    _Alignas(STATE_HASH_ROOT_ALIGNMENT) uint8_t root[STATE_HASH_ROOT_BYTES]; /* xxhash's state */
    size_t count, done;                                                      /* floats */
};
void state_hash_begin(struct state_hash_walk *walk, size_t count);
void state_hash_advance(struct state_hash_walk *walk, const float *g, const float *u, size_t ready);
void state_hash_end(struct state_hash_walk *walk, struct state_hash *out);

/* state_hash_combine: the hash of a whole state: XXH3-128 over the fragments' hashes, in fragment order. */
void state_hash_combine(const struct state_hash *hashes, int count, struct state_hash *out);

bool state_hash_equal(const struct state_hash *a, const struct state_hash *b);

#endif
