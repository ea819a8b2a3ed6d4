/* rng: counter-based random numbers. The same (seed, stream, counter) gives the same bits on every machine: integer steps
 * and exact float steps only, no libm. Not for keys (libsodium does those). */
#ifndef ATOLL_BASE_RNG_H
#define ATOLL_BASE_RNG_H

#include <stdint.h>

/* rng_u64: a well-mixed 64-bit value of (seed, stream, counter). Stateless, so that a data cursor is one integer. */
uint64_t rng_u64(uint64_t seed, uint64_t stream, uint64_t counter);

/* Uniform in [0, 1), 24 bits, exact in f32. */
float rng_uniform(uint64_t seed, uint64_t stream, uint64_t counter);

/* rng_normal: approximately N(0, 1), bit-identical everywhere: the sum of twelve 16-bit uniforms, centred (Irwin-Hall), by
 * integer addition and one exact-rounded float multiply. Tails end at +-6. */
float rng_normal(uint64_t seed, uint64_t stream, uint64_t counter);

/* rng_permute: the image of `index` under a pseudo-random permutation of [0, count) keyed by (seed, stream): a balanced
 * Feistel network with cycle walking. O(1) memory. Requires index < count, count >= 1. */
uint64_t rng_permute(uint64_t seed, uint64_t stream, uint64_t count, uint64_t index);

#endif
