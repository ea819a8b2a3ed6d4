#include "outer/outer_copy.h"
#include "base/check.h"
#include "comms/message.h"

static size_t round_floats(size_t count) {
    return (count + TENSOR_ALIGNMENT_FLOATS - 1) / TENSOR_ALIGNMENT_FLOATS * TENSOR_ALIGNMENT_FLOATS;
}

enum status outer_copy_open(struct outer_copy *copy, const struct fragments *fragments, const struct run_file *run,
                            const float *block, struct error *error) {
    *copy = (struct outer_copy){.fragments = fragments,
                                .optimizer = {.kind = (enum outer_optimizer_kind)run->outer.optimizer,
                                              .lr = (float)run->outer.lr,
                                              .momentum = (float)run->outer.momentum},
                                .codec_up = codec_get((enum codec_id)run->sync.codec_up),
                                .codec_down = codec_get((enum codec_id)run->sync.codec_down)};
    for (int f = 0; f < fragments->count; f++)
        copy->packed_floats += round_floats(fragments->list[f].count);
    size_t bytes = copy->packed_floats * sizeof(float);
    size_t offset_bytes = (size_t)fragments->count * sizeof(size_t);
    enum status status = arena_open(&copy->arena, 2 * arena_round(bytes) + arena_round(offset_bytes), error);
    if (status != STATUS_OK)
        return status;
    copy->offsets = arena_take(&copy->arena, offset_bytes);
    copy->g = arena_take(&copy->arena, bytes);
    copy->u = arena_take(&copy->arena, bytes);
    size_t offset = 0;
    for (int f = 0; f < fragments->count; f++) {
        copy->offsets[f] = offset;
        fragment_gather(&fragments->list[f], block, copy->g + offset);
        offset += round_floats(fragments->list[f].count);
    }
    return STATUS_OK;
}

void outer_copy_close(struct outer_copy *copy) {
    arena_close(&copy->arena);
}

void outer_copy_hash(const struct outer_copy *copy, int fragment, const float *fragment_g, struct state_hash *hash) {
    state_hash_fragment(fragment_g, copy->u + copy->offsets[fragment], copy->fragments->list[fragment].count, hash);
}

void outer_copy_hash_all(const struct outer_copy *copy, struct state_hash *hash) {
    struct state_hash hashes[MESSAGE_FRAGMENTS_MAX];
    CHECK(copy->fragments->count <= MESSAGE_FRAGMENTS_MAX);
    for (int f = 0; f < copy->fragments->count; f++)
        outer_copy_hash(copy, f, copy->g + copy->offsets[f], &hashes[f]);
    state_hash_combine(hashes, copy->fragments->count, hash);
}

void outer_copy_to_block(const struct outer_copy *copy, float *block) {
    for (int f = 0; f < copy->fragments->count; f++)
        fragment_scatter(&copy->fragments->list[f], copy->g + copy->offsets[f], block);
}

size_t outer_copy_payload_up(const struct outer_copy *copy, int fragment) {
    const struct fragment *f = &copy->fragments->list[fragment];
    return codec_payload_bytes(copy->codec_up, f->spans, f->span_count);
}

size_t outer_copy_payload_down(const struct outer_copy *copy, int fragment) {
    const struct fragment *f = &copy->fragments->list[fragment];
    return codec_payload_bytes(copy->codec_down, f->spans, f->span_count);
}
