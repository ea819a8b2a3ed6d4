/* payload_hash: see the header. The loop keeps the eight lanes in vectors of eight 64-bit words: word w of a lane's block is the w-th such
 * vector of the stripe, as it lies there. */
#include "comms/payload_hash.h"

#include <sodium.h>
#include <stdbool.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/vector.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words of the payload are read as they lie: a big-endian port needs byte swaps here"
#endif

enum {
    LANES = PAYLOAD_HASH_LANES,
    STRIPE_BYTES = PAYLOAD_HASH_STRIPE_BYTES,
    BLOCK_BYTES = STRIPE_BYTES / LANES, /* of one lane: BLAKE2b's block */
    WORDS = BLOCK_BYTES / 8,
};

typedef uint64_t lanes __attribute__((vector_size(8 * LANES)));

static const uint64_t INITIAL[8] = {UINT64_C(0x6a09e667f3bcc908), UINT64_C(0xbb67ae8584caa73b),
                                    UINT64_C(0x3c6ef372fe94f82b), UINT64_C(0xa54ff53a5f1d36f1),
                                    UINT64_C(0x510e527fade682d1), UINT64_C(0x9b05688c2b3e6c1f),
                                    UINT64_C(0x1f83d9abfb41bd6b), UINT64_C(0x5be0cd19137e2179)};
static const uint8_t LANE_PERSON[crypto_generichash_blake2b_PERSONALBYTES] = "atoll lane";
static const uint8_t ROOT_PERSON[crypto_generichash_blake2b_PERSONALBYTES] = "atoll root";

#define ROTATE(x, bits) ((x) >> (bits) | (x) << (64 - (bits)))
#define MIX(a, b, c, d, x, y)                                                                                          \
    v[a] += v[b] + m[x];                                                                                               \
    v[d] = ROTATE(v[d] ^ v[a], 32);                                                                                    \
    v[c] += v[d];                                                                                                      \
    v[b] = ROTATE(v[b] ^ v[c], 24);                                                                                    \
    v[a] += v[b] + m[y];                                                                                               \
    v[d] = ROTATE(v[d] ^ v[a], 16);                                                                                    \
    v[c] += v[d];                                                                                                      \
    v[b] = ROTATE(v[b] ^ v[c], 63);
/* RFC 7693, sections 2.7 and 3.2: the message words in the order of a round. */
#define ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15)                                    \
    MIX(0, 4, 8, 12, s0, s1)                                                                                           \
    MIX(1, 5, 9, 13, s2, s3)                                                                                           \
    MIX(2, 6, 10, 14, s4, s5)                                                                                          \
    MIX(3, 7, 11, 15, s6, s7)                                                                                          \
    MIX(0, 5, 10, 15, s8, s9)                                                                                          \
    MIX(1, 6, 11, 12, s10, s11)                                                                                        \
    MIX(2, 7, 8, 13, s12, s13)                                                                                         \
    MIX(3, 4, 9, 14, s14, s15)

/* `stripes` blocks of every lane; `before` bytes of each lane came earlier. last: the final flag is set in the last one. */
HOT_LOOP static void compress(uint64_t state[8][LANES], const uint8_t *from, size_t stripes, uint64_t before,
                              bool last) {
    lanes h[8], v[16], m[WORDS];
    memcpy(h, state, sizeof h);
    for (size_t s = 0; s < stripes; s++, from += STRIPE_BYTES) {
        memcpy(m, from, sizeof m);
        before += BLOCK_BYTES;
        for (int i = 0; i < 8; i++) {
            v[i] = h[i];
            v[i + 8] = (lanes){0} + INITIAL[i];
        }
        v[12] ^= before;
        if (last && s + 1 == stripes)
            v[14] = ~v[14];
        ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
        ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3)
        ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4)
        ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8)
        ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13)
        ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9)
        ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11)
        ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10)
        ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5)
        ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0)
        ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
        ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3)
        for (int i = 0; i < 8; i++)
            h[i] ^= v[i] ^ v[i + 8];
    }
    memcpy(state, h, sizeof h);
}

/* Word 0 of the parameters: digest 32 bytes, no key, fanout and depth 1. Words 4 and 5 are the salt, 6 and 7 the person. */
void payload_hash_begin(struct payload_hash *hash) {
    uint64_t person[2];
    memcpy(person, LANE_PERSON, sizeof person);
    for (uint64_t lane = 0; lane < LANES; lane++) {
        for (int i = 0; i < 8; i++)
            hash->state[i][lane] = INITIAL[i];
        hash->state[0][lane] ^= UINT64_C(0x01010000) ^ MESSAGE_HASH_BYTES;
        hash->state[4][lane] ^= lane;
        hash->state[6][lane] ^= person[0];
        hash->state[7][lane] ^= person[1];
    }
    hash->hashed = 0;
}

void payload_hash_add(struct payload_hash *hash, const uint8_t *bytes, size_t count) {
    CHECK(count % STRIPE_BYTES == 0);
    compress(hash->state, bytes, count / STRIPE_BYTES, hash->hashed / LANES, false);
    hash->hashed += count;
}

void payload_hash_end(struct payload_hash *hash, const uint8_t *bytes, size_t count, uint8_t out[MESSAGE_HASH_BYTES]) {
    uint8_t stripe[STRIPE_BYTES] = {0}, leaves[LANES * MESSAGE_HASH_BYTES + 8];
    crypto_generichash_blake2b_state root;
    CHECK(count <= STRIPE_BYTES && (count > 0 || hash->hashed == 0));
    memcpy(stripe, bytes, count);
    compress(hash->state, stripe, 1, hash->hashed / LANES, true);
    for (size_t lane = 0; lane < LANES; lane++)
        for (size_t i = 0; i < MESSAGE_HASH_BYTES / 8; i++)
            bytes_store_u64(leaves + lane * MESSAGE_HASH_BYTES + 8 * i, hash->state[i][lane]);
    bytes_store_u64(leaves + LANES * MESSAGE_HASH_BYTES, hash->hashed + count);
    CHECK(crypto_generichash_blake2b_init_salt_personal(&root, NULL, 0, MESSAGE_HASH_BYTES, NULL, ROOT_PERSON) == 0 &&
          crypto_generichash_blake2b_update(&root, leaves, sizeof leaves) == 0 &&
          crypto_generichash_blake2b_final(&root, out, MESSAGE_HASH_BYTES) == 0);
}

size_t payload_hash_ready(const struct payload_hash *hash, uint64_t received, uint64_t bytes) {
    uint64_t until = received < bytes ? received : bytes - 1; /* the last stripe is not to be given, whole or not */
    return (size_t)(until / STRIPE_BYTES * STRIPE_BYTES - hash->hashed);
}

void payload_hash_of(const uint8_t *payload, uint64_t bytes, uint8_t out[MESSAGE_HASH_BYTES]) {
    struct payload_hash hash;
    payload_hash_begin(&hash);
    if (bytes > 0)
        payload_hash_add(&hash, payload, payload_hash_ready(&hash, bytes, bytes));
    payload_hash_end(&hash, payload + hash.hashed, (size_t)(bytes - hash.hashed), out);
}
