#include "base/rng.h"

#include "base/check.h"

#define GOLDEN UINT64_C(0x9e3779b97f4a7c15)

/* The finalizer of SplitMix64 (Stafford's variant 13): a bijection in which every input bit flips half of the output bits. */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t rng_u64(uint64_t seed, uint64_t stream, uint64_t counter) {
    uint64_t z = mix(seed + GOLDEN);
    z = mix((z ^ stream) + GOLDEN);
    return mix((z ^ counter) + GOLDEN);
}

float rng_uniform(uint64_t seed, uint64_t stream, uint64_t counter) {
    return (float)(rng_u64(seed, stream, counter) >> 40) * 0x1p-24f;
}

float rng_normal(uint64_t seed, uint64_t stream, uint64_t counter) {
    uint64_t base = rng_u64(seed, stream, counter);
    int32_t sum = 0;
    for (uint64_t i = 1; i <= 3;
         i++) { /* three words of four 16-bit uniforms: a short SplitMix64 run that starts at base */
        uint64_t word = mix(base + i * GOLDEN);
        for (int part = 0; part < 4; part++)
            sum += (int32_t)(word >> (16 * part) & 0xffff);
    }
    return (float)(sum - 6 * 65535) * 0x1p-16f;
}

/* Balanced Feistel network over 2 * half_bits bits: a permutation of [0, 4^half_bits) whatever the round function is. */
enum { PERMUTE_ROUNDS = 8 };

static uint64_t feistel(uint64_t key, unsigned half_bits, uint64_t index) {
    uint64_t mask = (UINT64_C(1) << half_bits) - 1;
    uint64_t left = index >> half_bits;
    uint64_t right = index & mask;
    for (uint64_t round = 1; round <= PERMUTE_ROUNDS; round++) {
        uint64_t next = left ^ (mix((key + round * GOLDEN) ^ right) >> (64 - half_bits));
        left = right;
        right = next;
    }
    return left << half_bits | right;
}

uint64_t rng_permute(uint64_t seed, uint64_t stream, uint64_t count, uint64_t index) {
    CHECK(index < count);
    unsigned half_bits = 1;
    while (half_bits < 32 && (count - 1) >> (2 * half_bits) != 0)
        half_bits++;
    uint64_t key = rng_u64(seed, stream, count);
    do /* cycle walking: at most 4 * count values, so fewer than four steps on average */
        index = feistel(key, half_bits, index);
    while (index >= count);
    return index;
}
