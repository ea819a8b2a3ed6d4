/* state_hash: see the definition in state_hash.h. */
#include "outer/state_hash.h"

#include <string.h>
#define XXH_STATIC_LINKING_ONLY /* the state in our memory; its layout is frozen since xxhash 0.8.0 */
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h> /* the same values from AVX2 and AVX-512 where the processor has them */
#endif
#include "base/bytes.h"
#include "base/check.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the hash is over little-endian floats: a big-endian port needs byte swaps here"
#endif

_Static_assert(sizeof(XXH3_state_t) == STATE_HASH_ROOT_BYTES, "xxhash's XXH3 state");
_Static_assert(_Alignof(XXH3_state_t) <= STATE_HASH_ROOT_ALIGNMENT, "xxhash's XXH3 state");

static XXH3_state_t *root_of(struct state_hash_walk *walk) {
    return (XXH3_state_t *)walk->root;
}

static void root_add(struct state_hash_walk *walk, const void *bytes, size_t count) {
    CHECK(XXH3_128bits_update(root_of(walk), bytes, count) == XXH_OK);
}

static void add_leaf(struct state_hash_walk *walk, const float *leaf, size_t count) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(leaf, count * sizeof *leaf));
    root_add(walk, canonical.digest, sizeof canonical.digest);
}

void state_hash_begin(struct state_hash_walk *walk, size_t count) {
    uint8_t count_bytes[8];
    bytes_store_u64(count_bytes, count);
    walk->count = count;
    walk->done = 0;
    CHECK(XXH3_128bits_reset(root_of(walk)) == XXH_OK);
    root_add(walk, count_bytes, sizeof count_bytes);
}

void state_hash_advance(struct state_hash_walk *walk, const float *g, const float *u, size_t ready) {
    CHECK(walk->done <= ready && ready <= walk->count);
    while (walk->done < ready) {
        size_t left = walk->count - walk->done;
        size_t leaf = left < STATE_HASH_LEAF_FLOATS ? left : STATE_HASH_LEAF_FLOATS;
        if (ready - walk->done < leaf)
            return;
        add_leaf(walk, g + walk->done, leaf);
        add_leaf(walk, u + walk->done, leaf);
        walk->done += leaf;
    }
}

void state_hash_end(struct state_hash_walk *walk, struct state_hash *out) {
    XXH128_canonical_t canonical;
    CHECK(walk->done == walk->count);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(root_of(walk)));
    memcpy(out->bytes, canonical.digest, sizeof out->bytes);
}

void state_hash_fragment(const float *g, const float *u, size_t count, struct state_hash *out) {
    struct state_hash_walk walk;
    state_hash_begin(&walk, count);
    state_hash_advance(&walk, g, u, count);
    state_hash_end(&walk, out);
}

bool state_hash_equal(const struct state_hash *a, const struct state_hash *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void state_hash_combine(const struct state_hash *hashes, int count, struct state_hash *out) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(hashes, (size_t)count * sizeof *hashes));
    memcpy(out->bytes, canonical.digest, sizeof out->bytes);
}
