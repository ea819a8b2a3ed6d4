#include "outer/commit_maker.h"
#include "base/check.h"
#include "base/vector.h"
#include "outer/mean.h"
#include "quant/residual.h"

static const float VALUE_MAX = 0x1p60f;

enum status commit_maker_open(struct commit_maker *maker, struct outer_copy *copy, bool error_feedback,
                              struct error *error) {
    size_t packed = copy->packed_floats * sizeof(float);
    size_t largest = copy->fragments->largest_count * sizeof(float);
    *maker = (struct commit_maker){.copy = copy, .error_feedback = error_feedback};
    enum status status = arena_open(&maker->arena, arena_round(packed) + 2 * arena_round(largest), error);
    if (status != STATUS_OK)
        return status;
    maker->residual = arena_take(&maker->arena, packed);
    maker->sum = arena_take(&maker->arena, largest);
    maker->decoded = arena_take(&maker->arena, largest);
    return STATUS_OK;
}

void commit_maker_close(struct commit_maker *maker) {
    arena_close(&maker->arena);
}

HOT_LOOP static size_t count_out_of_range(const float *values, size_t count) {
    size_t bad = 0;
    for (size_t i = 0; i < count; i++)
        bad += !(values[i] <= VALUE_MAX && values[i] >= -VALUE_MAX); /* NaN counts too */
    return bad;
}

enum status commit_maker_check(struct commit_maker *maker, int fragment, const uint8_t *payload, size_t bytes) {
    const struct fragment *f = &maker->copy->fragments->list[fragment];
    enum status status =
        codec_decode_spans(maker->copy->codec_up, f->spans, f->span_count, payload, bytes, maker->decoded);
    if (status != STATUS_OK)
        return status;
    return count_out_of_range(maker->decoded, f->count) == 0 ? STATUS_OK : STATUS_NOT_FINITE;
}

void commit_maker_make(struct commit_maker *maker, int fragment, const struct commit_part *parts, int count,
                       uint8_t *payload, struct state_hash *hash) {
    struct outer_copy *copy = maker->copy;
    const struct fragment *f = &copy->fragments->list[fragment];
    float *g = copy->g + copy->offsets[fragment];
    float *u = copy->u + copy->offsets[fragment];
    float *residual = maker->residual + copy->offsets[fragment];
    uint64_t tokens = 0;
    mean_begin(maker->sum, f->count);
    for (int i = 0; i < count; i++) {
        CHECK(codec_decode_spans(copy->codec_up, f->spans, f->span_count, parts[i].payload, parts[i].bytes,
                                 maker->decoded) == STATUS_OK);
        mean_add(maker->sum, maker->decoded, parts[i].tokens, f->count);
        tokens += parts[i].tokens;
    }
    mean_finish(maker->sum, tokens, f->count);
    if (maker->error_feedback)
        residual_add(maker->sum, residual, f->count);
    CHECK(codec_encode_spans(copy->codec_down, f->spans, f->span_count, maker->sum, payload) == STATUS_OK);
    size_t bytes = outer_copy_payload_down(copy, fragment);
    CHECK(codec_decode_spans(copy->codec_down, f->spans, f->span_count, payload, bytes, maker->decoded) == STATUS_OK);
    if (maker->error_feedback)
        residual_left_out(maker->sum, maker->decoded, residual, f->count);
    outer_step_apply(&copy->optimizer, g, u, maker->decoded, g, f->count);
    outer_copy_hash(copy, fragment, g, hash);
}
