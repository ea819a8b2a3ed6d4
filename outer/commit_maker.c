#include "outer/commit_maker.h"
#include "base/check.h"
#include "base/vector.h"
#include "quant/residual.h"

static const float VALUE_MAX = 0x1p60f;

size_t commit_maker_bytes(const struct fragments *fragments, enum outer_aggregate aggregate) {
    size_t bytes = 2 * arena_round(fragments->largest_count * sizeof(float));
    for (int f = 0; f < fragments->count; f++) /* each starts aligned */
        bytes += arena_round(fragments->list[f].count * sizeof(float));
    return bytes + (aggregate == OUTER_TRIMMED ? arena_round(sizeof(struct mean_trim)) : 0);
}

enum status commit_maker_open(struct commit_maker *maker, struct outer_copy *copy, enum outer_aggregate aggregate,
                              bool error_feedback, struct error *error) {
    size_t largest = copy->fragments->largest_count * sizeof(float);
    CHECK(MEAN_PIECE % copy->codec_up->block == 0);
    *maker = (struct commit_maker){.copy = copy, .aggregate = aggregate, .error_feedback = error_feedback};
    enum status status = arena_open(&maker->arena, commit_maker_bytes(copy->fragments, aggregate), error);
    if (status != STATUS_OK)
        return status;
    maker->residual = arena_take(&maker->arena, copy->packed_floats * sizeof(float));
    maker->sum = arena_take(&maker->arena, largest);
    maker->decoded = arena_take(&maker->arena, largest);
    if (aggregate == OUTER_TRIMMED)
        maker->trim = arena_take(&maker->arena, sizeof *maker->trim);
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

enum status commit_maker_check(struct commit_maker *maker, int fragment, const uint8_t *payload, size_t bytes,
                               double *norm) {
    const struct fragment *f = &maker->copy->fragments->list[fragment];
    enum status status =
        codec_decode_spans(maker->copy->codec_up, f->spans, f->span_count, payload, bytes, maker->decoded);
    if (status != STATUS_OK)
        return status;
    if (count_out_of_range(maker->decoded, f->count) != 0)
        return STATUS_NOT_FINITE;
    *norm = mean_norm(maker->decoded, f->count);
    return STATUS_OK;
}

/* ---- the rules: parts -> maker->sum ---- */

static void decode(struct commit_maker *maker, const struct fragment *f, const struct commit_part *part) {
    CHECK(codec_decode_spans(maker->copy->codec_up, f->spans, f->span_count, part->payload, part->bytes,
                             maker->decoded) == STATUS_OK);
}

static void scales_of_norms(struct commit_maker *maker, const struct fragment *f, const struct commit_part *parts,
                            int count, float *scales) {
    double norms[MESSAGE_WORKERS_MAX];
    uint64_t tokens[MESSAGE_WORKERS_MAX];
    for (int i = 0; i < count; i++) {
        decode(maker, f, &parts[i]);
        norms[i] = mean_norm(maker->decoded, f->count);
        tokens[i] = parts[i].tokens;
    }
    double median = mean_median_norm(norms, tokens, count);
    for (int i = 0; i < count; i++)
        scales[i] = mean_clip_scale(norms[i], median);
}

static void average(struct commit_maker *maker, const struct fragment *f, const struct commit_part *parts, int count,
                    const float *scales) {
    uint64_t tokens = 0;
    mean_begin(maker->sum, f->count);
    for (int i = 0; i < count; i++) {
        decode(maker, f, &parts[i]);
        mean_add(maker->sum, maker->decoded, parts[i].tokens, scales[i], f->count);
        tokens += parts[i].tokens;
    }
    mean_finish(maker->sum, tokens, f->count);
}

/* All parts of one piece beside each other. A piece starts at a multiple of the codec's block, so that its bytes start at the size of
 * what lies before it in the tensor. */
static void trim(struct commit_maker *maker, const struct fragment *f, const struct commit_part *parts, int count) {
    const struct codec *codec = maker->copy->codec_up;
    uint64_t tokens[MESSAGE_WORKERS_MAX];
    for (int i = 0; i < count; i++) {
        CHECK(parts[i].bytes == outer_copy_payload_up(maker->copy, f->index));
        tokens[i] = parts[i].tokens;
    }
    float *sum = maker->sum;
    size_t span_at = 0; /* bytes */
    for (int s = 0; s < f->span_count; s++) {
        const struct codec_span *span = &f->spans[s];
        for (size_t from = 0; from < span->count; from += MEAN_PIECE) {
            size_t piece = span->count - from < MEAN_PIECE ? span->count - from : MEAN_PIECE;
            size_t at = span_at + codec->bytes(from);
            for (int i = 0; i < count; i++)
                CHECK(codec->decode(parts[i].payload + at, piece, maker->trim->values[i]) == STATUS_OK);
            mean_trim(maker->trim, tokens, count, piece, sum);
            sum += piece;
        }
        span_at += codec->bytes(span->count);
    }
}

static void aggregate(struct commit_maker *maker, const struct fragment *f, const struct commit_part *parts,
                      int count) {
    CHECK(count >= 1 && count <= MESSAGE_WORKERS_MAX);
    if (maker->aggregate == OUTER_TRIMMED && mean_trim_each_side(count) > 0) {
        trim(maker, f, parts, count);
        return;
    }
    float scales[MESSAGE_WORKERS_MAX];
    for (int i = 0; i < count; i++)
        scales[i] = 1.0f;
    if (maker->aggregate == OUTER_CLIPPED)
        scales_of_norms(maker, f, parts, count, scales);
    average(maker, f, parts, count, scales);
}

void commit_maker_make(struct commit_maker *maker, int fragment, const struct commit_part *parts, int count,
                       uint8_t *payload, struct state_hash *hash) {
    struct outer_copy *copy = maker->copy;
    const struct fragment *f = &copy->fragments->list[fragment];
    float *g = copy->g + copy->offsets[fragment];
    float *u = copy->u + copy->offsets[fragment];
    float *residual = maker->residual + copy->offsets[fragment];
    aggregate(maker, f, parts, count);
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
