/* state_hash: see the definition in state_hash.h. */
#include "outer/state_hash.h"

#include <string.h>
#define XXH_STATIC_LINKING_ONLY /* the state on the stack; its layout is frozen since xxhash 0.8.0 */
#include <xxhash.h>
#include "base/bytes.h"
#include "base/check.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the hash is over little-endian floats: a big-endian port needs byte swaps here"
#endif

/* A place in the packed sequence: span `span`, float `at` within it. */
struct place {
    int span;
    size_t at;
};

/* Hash `count` floats of `block` from `*place` on, and advance it. */
static XXH128_hash_t hash_leaf(const float *block, const struct codec_span *spans, struct place *place, size_t count) {
    while (place->at == spans[place->span].count) {
        place->span++;
        place->at = 0;
    }
    const struct codec_span *first = &spans[place->span];
    if (count <= first->count - place->at) { /* in one piece, as nearly always */
        const float *leaf = block + first->offset + place->at;
        place->at += count;
        return XXH3_128bits(leaf, count * sizeof *leaf);
    }
    XXH3_state_t state;
    CHECK(XXH3_128bits_reset(&state) == XXH_OK);
    while (count > 0) {
        const struct codec_span *span = &spans[place->span];
        size_t piece = span->count - place->at < count ? span->count - place->at : count;
        CHECK(XXH3_128bits_update(&state, block + span->offset + place->at, piece * sizeof *block) == XXH_OK);
        place->at += piece;
        count -= piece;
        if (count > 0) {
            place->span++;
            place->at = 0;
        }
    }
    return XXH3_128bits_digest(&state);
}

static void root_add(XXH3_state_t *root, XXH128_hash_t leaf) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, leaf);
    CHECK(XXH3_128bits_update(root, canonical.digest, sizeof canonical.digest) == XXH_OK);
}

void state_hash_fragment(const float *g, const float *u, const struct codec_span *spans, int span_count,
                         struct state_hash *out) {
    XXH3_state_t root;
    XXH128_canonical_t canonical;
    uint8_t count_bytes[8];
    struct place in_g = {0}, in_u = {0};
    size_t left = 0;
    for (int i = 0; i < span_count; i++)
        left += spans[i].count;
    bytes_store_u64(count_bytes, left);
    CHECK(XXH3_128bits_reset(&root) == XXH_OK);
    CHECK(XXH3_128bits_update(&root, count_bytes, sizeof count_bytes) == XXH_OK);
    while (left > 0) {
        size_t leaf = left < STATE_HASH_LEAF_FLOATS ? left : STATE_HASH_LEAF_FLOATS;
        root_add(&root, hash_leaf(g, spans, &in_g, leaf));
        root_add(&root, hash_leaf(u, spans, &in_u, leaf));
        left -= leaf;
    }
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&root));
    memcpy(out->bytes, canonical.digest, sizeof out->bytes);
}

bool state_hash_equal(const struct state_hash *a, const struct state_hash *b) {
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void state_hash_combine(const struct state_hash *hashes, int count, struct state_hash *out) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(hashes, (size_t)count * sizeof *hashes));
    memcpy(out->bytes, canonical.digest, sizeof out->bytes);
}
