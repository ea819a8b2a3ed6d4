/* bench_codec: every format's speed on one thread and its size, over all tensors of a model as one fragment.
 *
 *   encode   floats -> payload                                        limit: a copy
 *   decode   payload -> floats                                        limit: a copy
 *   send     x = (g - theta) + residual, payload = Q(x), residual = x - decode(payload), in one pass
 *                                                                     limit: 3 reads, 1 write
 *   worker   the same in two, as a worker does it: g - theta by the compute thread, the rest by the sync thread, which keeps the old residual
 *            until it knows what became of the send                   limit: 2 reads, 1 write elsewhere
 *   sum      sum += tokens * decode(payload), as the outer takes it   limit: 1 read, 1 write
 *
 * An exact codec leaves nothing out: it has no residual.
 * GB/s count 4 bytes per parameter, whatever an operation reads and writes; shares compare the bytes that it must read and write, payload
 * included, with those of the stream. */
#include <string.h>
#include "base/check.h"
#include "experiments/bench.h"
#include "experiments/bench_stream.h"
#include "model/tensors.h"
#include "outer/fragments.h"
#include "outer/mean.h"
#include "outer/mix.h"
#include "quant/codec.h"

enum { GUARD_BYTES = 64, SUM_TOKENS = 1000 };
enum operation { OPERATION_ENCODE, OPERATION_DECODE, OPERATION_SEND, OPERATION_WORKER, OPERATION_SUM, OPERATION_COUNT };

static const struct {
    const char *name;
    enum bench_stream_kind limit;
    int arrays;       /* of f32 that it must read or write, beside the payload */
    int arrays_exact; /* the same for an exact codec */
} operations[OPERATION_COUNT] = {
    [OPERATION_ENCODE] = {"encode", BENCH_STREAM_COPY, 1, 1}, [OPERATION_DECODE] = {"decode", BENCH_STREAM_COPY, 1, 1},
    [OPERATION_SEND] = {"send", BENCH_STREAM_3R1W, 4, 2},     [OPERATION_WORKER] = {"worker", BENCH_STREAM_TRIAD, 6, 4},
    [OPERATION_SUM] = {"sum", BENCH_STREAM_1R1W, 2, 2},
};

struct operands {
    const struct codec *codec;
    const struct fragment *fragment;
    size_t bytes; /* of the payload */
    float *theta, *g, *residual, *x, *decoded,
        *sum;                  /* (fragment->count,) packed; decoded is also the pending residual */
    uint8_t *payload, *second; /* (bytes + GUARD_BYTES,) for f32, the largest */
    struct arena arena;
};

static void encode(struct operands *o) {
    CHECK(codec_encode_spans(o->codec, o->fragment->spans, o->fragment->span_count, o->x, o->payload) == STATUS_OK);
}

static void decode(struct operands *o) {
    CHECK(codec_decode_spans(o->codec, o->fragment->spans, o->fragment->span_count, o->payload, o->bytes, o->decoded) ==
          STATUS_OK);
}

static void run_encode(void *context, uint64_t calls) {
    for (uint64_t i = 0; i < calls; i++)
        encode(context);
}

static void run_decode(void *context, uint64_t calls) {
    for (uint64_t i = 0; i < calls; i++)
        decode(context);
}

/* The sync thread's part of a send, of a whole fragment or one piece. */
static void feed(const struct codec *codec, const float *difference, const float *residual, size_t count,
                 uint8_t *payload, float *left_out) {
    CHECK((codec->exact ? codec->encode(difference, count, payload)
                        : codec->encode_fed(difference, residual, count, payload, left_out)) == STATUS_OK);
}

static void send_once(struct operands *o) {
    float difference[CODEC_PIECE_FLOATS];
    struct codec_piece piece = {0};
    uint8_t *payload = o->payload;
    for (; codec_next_piece(o->fragment->spans, o->fragment->span_count, &piece);
         payload += o->codec->bytes(piece.count)) {
        float *residual = o->residual + piece.at;
        mix_difference(o->g + piece.at, o->theta + piece.at, difference, piece.count);
        feed(o->codec, difference, residual, piece.count, payload, residual);
    }
}

static void run_send(void *context, uint64_t calls) {
    for (uint64_t i = 0; i < calls; i++)
        send_once(context);
}

static void run_worker(void *context, uint64_t calls) {
    struct operands *o = context;
    for (uint64_t i = 0; i < calls; i++) {
        mix_difference(o->g, o->theta, o->x, o->fragment->count);
        size_t at = 0;
        uint8_t *payload = o->payload;
        for (int s = 0; s < o->fragment->span_count; s++) {
            size_t count = o->fragment->spans[s].count;
            feed(o->codec, o->x + at, o->residual + at, count, payload, o->decoded + at);
            at += count;
            payload += o->codec->bytes(count);
        }
    }
}

static void run_sum(void *context, uint64_t calls) {
    struct operands *o = context;
    for (uint64_t i = 0; i < calls; i++) {
        float *sum = o->sum;
        const uint8_t *payload = o->payload;
        for (int s = 0; s < o->fragment->span_count; s++) {
            size_t count = o->fragment->spans[s].count;
            CHECK(o->codec->decode_add(payload, count, mean_weight(SUM_TOKENS, 1), sum) == STATUS_OK);
            sum += count;
            payload += o->codec->bytes(count);
        }
    }
}

static void (*const runs[OPERATION_COUNT])(void *, uint64_t) = {
    [OPERATION_ENCODE] = run_encode, [OPERATION_DECODE] = run_decode, [OPERATION_SEND] = run_send,
    [OPERATION_WORKER] = run_worker, [OPERATION_SUM] = run_sum,
};

/* ---- results first ---- */

/* Bytes of `count` values by the formulas of quant/plain.h, integer.h and e3m0.h. */
static size_t formula_bytes(enum codec_id id, size_t count) {
    switch (id) {
    case CODEC_F32:
        return 4 * count;
    case CODEC_BF16:
        return 2 * count;
    case CODEC_INT8:
        return 2 * ((count + 127) / 128) + count;
    case CODEC_INT4:
        return 2 * ((count + 63) / 64) + (count + 1) / 2;
    case CODEC_E3M0:
        return (count + 127) / 128 + (count + 1) / 2;
    case CODEC_COUNT:
        break;
    }
    CHECK(!"codec_id");
    return 0;
}

static size_t formula_bytes_of_fragment(enum codec_id id, const struct fragment *fragment) {
    size_t bytes = 0;
    for (int i = 0; i < fragment->span_count; i++)
        bytes += formula_bytes(id, fragment->spans[i].count);
    return bytes;
}

static bool all_are(const uint8_t *bytes, size_t count, uint8_t value) {
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

/* Bytes that encode writes: every byte of the payload, whatever was there, and none behind it. */
static bool writes_exactly(struct operands *o) {
    memset(o->payload, 0x00, o->bytes + GUARD_BYTES);
    encode(o);
    memcpy(o->second, o->payload, o->bytes);
    bool guarded = all_are(o->payload + o->bytes, GUARD_BYTES, 0x00);
    memset(o->payload, 0xff, o->bytes + GUARD_BYTES);
    encode(o);
    return guarded && all_are(o->payload + o->bytes, GUARD_BYTES, 0xff) && memcmp(o->payload, o->second, o->bytes) == 0;
}

static bool decodes_as_ref(struct operands *o) {
    const uint8_t *payload = o->payload;
    float *to = o->sum; /* set anew afterwards */
    decode(o);
    for (int i = 0; i < o->fragment->span_count; i++) {
        size_t count = o->fragment->spans[i].count;
        if (o->codec->decode_ref(payload, count, to) != STATUS_OK)
            return false;
        payload += o->codec->bytes(count);
        to += count;
    }
    return memcmp(o->sum, o->decoded, o->fragment->count * sizeof *o->sum) == 0;
}

/* Behind decodes_as_ref: theta and g give x, the payload and the residual; the payload adds itself to the sum. */
static bool passes_as_ref(struct operands *o) {
    size_t count = o->fragment->count;
    mix_difference(o->g, o->theta, o->x, count);
    encode(o);
    memcpy(o->second, o->payload, o->bytes);
    decode(o);
    memset(o->residual, 0, count * sizeof *o->residual);
    memset(o->sum, 0, count * sizeof *o->sum);
    send_once(o);
    run_sum(o, 1);
    if (memcmp(o->payload, o->second, o->bytes) != 0)
        return false;
    for (size_t i = 0; i < count; i++)
        if (o->residual[i] != o->x[i] - o->decoded[i] || o->sum[i] != SUM_TOKENS * o->decoded[i])
            return false;
    return true;
}

static enum status check_codec(struct operands *o, struct error *error) {
    size_t formula = formula_bytes_of_fragment(o->codec->id, o->fragment);
    if (o->bytes != formula)
        return error_set(error, STATUS_DATA, "codec %s: %zu bytes for %zu parameters, its formula gives %zu",
                         o->codec->name, o->bytes, o->fragment->count, formula);
    if (!writes_exactly(o))
        return error_set(error, STATUS_DATA, "codec %s: encode does not write exactly its %zu bytes", o->codec->name,
                         o->bytes);
    if (!decodes_as_ref(o))
        return error_set(error, STATUS_DATA, "codec %s: decode differs from its reference (tests quant.*)",
                         o->codec->name);
    if (!passes_as_ref(o))
        return error_set(error, STATUS_DATA, "codec %s: a send or a sum in one pass differs from one in several",
                         o->codec->name);
    memset(o->sum, 0, o->fragment->count * sizeof *o->sum);
    memset(o->residual, 0, o->fragment->count * sizeof *o->residual);
    return STATUS_OK;
}

/* ---- measuring ---- */

static enum status operands_open(const struct fragment *fragment, struct operands *o, struct error *error) {
    size_t bytes = arena_round(fragment->count * sizeof(float)), payload = bytes + GUARD_BYTES;
    *o = (struct operands){.fragment = fragment};
    enum status status = arena_open(&o->arena, 6 * bytes + 2 * arena_round(payload), error);
    if (status != STATUS_OK)
        return error_prefix(error, "operands of the codecs");
    float **arrays[] = {&o->theta, &o->g, &o->residual, &o->x, &o->decoded, &o->sum};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        *arrays[i] = arena_take(&o->arena, fragment->count * sizeof(float));
    o->payload = arena_take(&o->arena, payload);
    o->second = arena_take(&o->arena, payload);
    bench_fill(o->theta, fragment->count, 1, 0.02F);
    bench_fill(o->x, fragment->count, 2, 1e-3F);
    for (size_t i = 0; i < fragment->count; i++)
        o->g[i] = o->theta[i] + o->x[i];
    return STATUS_OK;
}

static json_t *operation_json(const struct operands *o, enum operation operation, const struct bench_case *timed,
                              const struct bench_case *limit, int repeats) {
    double parameter_bytes = 4.0 * (double)o->fragment->count;
    int arrays = o->codec->exact ? operations[operation].arrays_exact : operations[operation].arrays;
    double bytes = parameter_bytes * arrays + (double)o->bytes;
    double limit_bytes = bench_stream_bytes(operations[operation].limit, o->fragment->count);
    return json_pack("{s:s, s:o, s:s, s:o, s:o}", "operation", operations[operation].name, "gb_per_s",
                     bench_summary_json(bench_rate(timed, repeats, parameter_bytes * 1e-9)), "limit",
                     bench_stream_name(operations[operation].limit), "limit_gb_per_s",
                     bench_summary_json(bench_rate(limit, repeats, limit_bytes * 1e-9)), "share",
                     bench_summary_json(bench_share(timed, bytes, limit, limit_bytes, repeats)));
}

/* Each operation beside its stream, in the same rounds. */
static json_t *measure(const struct bench_plan *plan, struct operands *o, uint32_t *stream_memory) {
    static struct bench_case cases[2 * OPERATION_COUNT];
    struct bench_stream streams[OPERATION_COUNT];
    for (int i = 0; i < OPERATION_COUNT; i++) {
        bench_stream_open(&streams[i], operations[i].limit, stream_memory, o->fragment->count, 1);
        cases[2 * i] = (struct bench_case){.run = runs[i], .context = o, .warm = true};
        cases[2 * i + 1] = (struct bench_case){.run = bench_run_slices, .context = &streams[i].slices, .warm = true};
    }
    bench_measure(cases, 2 * OPERATION_COUNT, &plan->effort);
    json_t *list = json_array();
    for (int i = 0; i < OPERATION_COUNT; i++)
        json_array_append_new(
            list, operation_json(o, (enum operation)i, &cases[2 * i], &cases[2 * i + 1], plan->effort.repeats));
    double count = (double)o->fragment->count;
    return json_pack("{s:s, s:f, s:f, s:o}", "codec", o->codec->name, "bytes_per_parameter", (double)o->bytes / count,
                     "formula_bytes_per_parameter",
                     (double)formula_bytes_of_fragment(o->codec->id, o->fragment) / count, "operations", list);
}

static enum status measure_all(const struct bench_plan *plan, const struct fragment *fragment, json_t *codecs,
                               struct error *error) {
    struct operands operands;
    struct arena streams;
    size_t stream_bytes = bench_stream_memory(fragment->count);
    enum status status = operands_open(fragment, &operands, error);
    if (status != STATUS_OK)
        return status;
    status = arena_open(&streams, stream_bytes, error);
    if (status == STATUS_OK) {
        uint32_t *memory = arena_take(&streams, stream_bytes);
        for (int id = 0; id < CODEC_COUNT && status == STATUS_OK; id++) {
            operands.codec = codec_get((enum codec_id)id);
            operands.bytes = codec_payload_bytes(operands.codec, fragment->spans, fragment->span_count);
            bench_say("codec %s, %s, 1 thread", bench_size_name(plan->size), operands.codec->name);
            status = check_codec(&operands, error);
            if (status == STATUS_OK)
                json_array_append_new(codecs, measure(plan, &operands, memory));
        }
        arena_close(&streams);
    }
    arena_close(&operands.arena);
    return status;
}

enum status bench_codec(const struct bench_plan *plan, json_t **result, struct error *error) {
    struct model_options options = bench_size_options(plan->size, 1);
    struct tensor_table table;
    struct fragments fragments;
    enum status status = tensors_table_create(&options.shape, &table, error);
    if (status != STATUS_OK)
        return status;
    status = fragments_create(&table, options.shape.layers, FRAGMENT_LAYERS_ALL, FRAGMENT_PATTERN_STRIDED,
                              FRAGMENT_BALANCE_LAYERS, &fragments, error);
    if (status == STATUS_OK) {
        json_t *codecs = json_array();
        status = measure_all(plan, &fragments.list[0], codecs, error);
        *result = json_pack("{s:s, s:i, s:I, s:o}", "size", bench_size_name(plan->size), "threads", 1, "parameters",
                            (json_int_t)table.parameter_count, "codecs", codecs);
        CHECK(*result != NULL);
        if (status != STATUS_OK)
            json_decref(*result);
        fragments_destroy(&fragments);
    }
    tensors_table_destroy(&table);
    return status;
}

void bench_codec_print(const json_t *result, FILE *to) {
    size_t i, j;
    const json_t *codec, *operation;
    char rate[BENCH_TEXT_BYTES], limit[BENCH_TEXT_BYTES];
    fprintf(to, "\ncodec %s, 1 thread: %lld parameters; GB/s of 4 bytes per parameter\n",
            json_string_value(json_object_get(result, "size")),
            (long long)json_integer_value(json_object_get(result, "parameters")));
    fprintf(to, "  %-6s %10s %10s  %-9s %26s %26s %7s  %s\n", "codec", "bytes/par", "formula", "operation", "GB/s",
            "stream GB/s", "share", "stream is");
    json_array_foreach(json_object_get(result, "codecs"), i, codec)
        json_array_foreach(json_object_get(codec, "operations"), j, operation)
            fprintf(to, "  %-6s %10.5f %10.5f  %-9s %26s %26s %5.1f %%  %s\n",
                    json_string_value(json_object_get(codec, "codec")),
                    json_number_value(json_object_get(codec, "bytes_per_parameter")),
                    json_number_value(json_object_get(codec, "formula_bytes_per_parameter")),
                    json_string_value(json_object_get(operation, "operation")),
                    bench_spread_text(json_object_get(operation, "gb_per_s"), 1, rate),
                    bench_spread_text(json_object_get(operation, "limit_gb_per_s"), 1, limit),
                    bench_median(json_object_get(operation, "share"), 100),
                    json_string_value(json_object_get(operation, "limit")));
}
