#include "outer/commit_maker.h"
#include "base/check.h"
#include "base/vector.h"

static const float VALUE_MAX = 0x1p60f;

size_t commit_maker_bytes(const struct fragments *fragments, enum outer_aggregate aggregate) {
    size_t bytes = 0;
    for (int f = 0; f < fragments->count; f++) /* each starts aligned */
        bytes += arena_round(fragments->list[f].count * sizeof(float));
    return bytes + (aggregate == OUTER_TRIMMED ? arena_round(sizeof(struct mean_trim)) : 0);
}

enum status commit_maker_open(struct commit_maker *maker, struct outer_copy *copy, enum outer_aggregate aggregate,
                              bool error_feedback, struct error *error) {
    CHECK(MEAN_PIECE % copy->codec_up->block == 0);
    *maker = (struct commit_maker){
        .copy = copy, .aggregate = aggregate, .error_feedback = error_feedback && !copy->codec_down->exact};
    enum status status = arena_open(&maker->arena, commit_maker_bytes(copy->fragments, aggregate), error);
    if (status != STATUS_OK)
        return status;
    maker->residual = arena_take(&maker->arena, copy->packed_floats * sizeof(float));
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

/* The norm of what a payload decodes to. */
static enum status measure(const struct commit_maker *maker, const struct fragment *f, const uint8_t *payload,
                           double *norm) {
    const struct codec *codec = maker->copy->codec_up;
    struct codec_piece piece = {0};
    struct mean_norm sums = {0};
    float values[CODEC_PIECE_FLOATS];
    for (; codec_next_piece(f->spans, f->span_count, &piece); payload += codec->bytes(piece.count)) {
        enum status status = codec->decode(payload, piece.count, values);
        if (status != STATUS_OK)
            return status;
        if (count_out_of_range(values, piece.count) != 0)
            return STATUS_NOT_FINITE;
        mean_norm_add(&sums, values, piece.count);
    }
    *norm = mean_norm_end(&sums);
    return STATUS_OK;
}

enum status commit_maker_check(const struct commit_maker *maker, int fragment, const uint8_t *payload, size_t bytes,
                               double *norm) {
    return bytes == outer_copy_payload_up(maker->copy, fragment)
               ? measure(maker, &maker->copy->fragments->list[fragment], payload, norm)
               : STATUS_DATA;
}

/* ---- the rules: parts -> D, piece by piece ---- */

struct making {
    struct commit_maker *maker;
    const struct commit_part *parts;
    int count;
    uint64_t tokens[MESSAGE_WORKERS_MAX], tokens_sum;
    float weights[MESSAGE_WORKERS_MAX];
    bool trimmed;
    size_t up; /* bytes of a contribution before the piece */
};

static void weigh(struct making *making, const struct fragment *f) {
    double norms[MESSAGE_WORKERS_MAX], median = 0;
    bool clipped = making->maker->aggregate == OUTER_CLIPPED;
    for (int i = 0; i < making->count && clipped; i++)
        CHECK(measure(making->maker, f, making->parts[i].payload, &norms[i]) == STATUS_OK);
    if (clipped)
        median = mean_median_norm(norms, making->tokens, making->count);
    for (int i = 0; i < making->count; i++)
        making->weights[i] = mean_weight(making->tokens[i], clipped ? mean_clip_scale(norms[i], median) : 1.0f);
}

static void begin(struct making *making, const struct fragment *f) {
    size_t bytes = outer_copy_payload_up(making->maker->copy, f->index);
    CHECK(making->count >= 1 && making->count <= MESSAGE_WORKERS_MAX);
    for (int i = 0; i < making->count; i++) {
        CHECK(making->parts[i].bytes == bytes);
        making->tokens[i] = making->parts[i].tokens;
        making->tokens_sum += making->parts[i].tokens;
    }
    making->trimmed = making->maker->aggregate == OUTER_TRIMMED && mean_trim_each_side(making->count) > 0;
    if (!making->trimmed)
        weigh(making, f);
}

static void average(const struct making *making, size_t count, float *mean) {
    const struct codec *codec = making->maker->copy->codec_up;
    mean_begin(mean, count);
    for (int i = 0; i < making->count; i++)
        CHECK(codec->decode_add(making->parts[i].payload + making->up, count, making->weights[i], mean) == STATUS_OK);
    mean_finish(mean, making->tokens_sum, count);
}

/* All contributions of a few coordinates beside each other. */
static void trim(const struct making *making, size_t count, float *mean) {
    const struct codec *codec = making->maker->copy->codec_up;
    struct mean_trim *trim = making->maker->trim;
    for (size_t from = 0; from < count; from += MEAN_PIECE) {
        size_t some = count - from < MEAN_PIECE ? count - from : MEAN_PIECE, at = making->up + codec->bytes(from);
        for (int i = 0; i < making->count; i++)
            CHECK(codec->decode(making->parts[i].payload + at, some, trim->values[i]) == STATUS_OK);
        mean_trim(trim, making->tokens, making->count, some, mean + from);
    }
}

/* D -> payload, and what it leaves out -> the residual. */
static void encode(const struct commit_maker *maker, const float *mean, size_t count, uint8_t *payload,
                   float *residual) {
    const struct codec *codec = maker->copy->codec_down;
    CHECK((maker->error_feedback ? codec->encode_fed(mean, residual, count, payload, residual)
                                 : codec->encode(mean, count, payload)) == STATUS_OK);
}

/* Each piece goes the whole way while it is in the L1 cache: memory sees one pass over the payloads, the residual, g and u. */
void commit_maker_make(struct commit_maker *maker, int fragment, const struct commit_part *parts, int count,
                       uint8_t *payload, struct state_hash *hash) {
    struct outer_copy *copy = maker->copy;
    const struct fragment *f = &copy->fragments->list[fragment];
    float *g = copy->g + copy->offsets[fragment];
    float *u = copy->u + copy->offsets[fragment];
    float *residual = maker->residual + copy->offsets[fragment];
    float values[CODEC_PIECE_FLOATS]; /* D, then what the payload says of it */
    struct making making = {.maker = maker, .parts = parts, .count = count};
    struct codec_piece piece = {0};
    struct state_hash_walk walk;
    begin(&making, f);
    state_hash_begin(&walk, f->count);
    while (codec_next_piece(f->spans, f->span_count, &piece)) {
        (making.trimmed ? trim : average)(&making, piece.count, values);
        encode(maker, values, piece.count, payload, residual + piece.at);
        CHECK(copy->codec_down->decode(payload, piece.count, values) == STATUS_OK);
        outer_step_apply(&copy->optimizer, g + piece.at, u + piece.at, values, g + piece.at, piece.count);
        state_hash_advance(&walk, g, u, piece.at + piece.count);
        making.up += copy->codec_up->bytes(piece.count);
        payload += copy->codec_down->bytes(piece.count);
    }
    state_hash_end(&walk, hash);
}
