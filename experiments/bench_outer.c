/* bench_outer: what every node does for each commit, over all parameters of a model: the outer step, with some threads, beside a stream of
 * 3 reads and 2 writes with as many; and the state hash, on one thread, beside a stream that reads. */
#include <string.h>
#include "base/check.h"
#include "experiments/bench.h"
#include "experiments/bench_stream.h"
#include "model/tensors.h"
#include "outer/outer_step.h"
#include "outer/state_hash.h"

struct operands {
    size_t count;
    float *g, *u, *delta; /* (count,) */
    uint32_t *stream_memory;
    struct arena arena;
};

static void run_nesterov(void *context, size_t first, size_t count, uint64_t calls) {
    static const struct outer_optimizer nesterov = {OUTER_NESTEROV, 0.7F, 0.9F};
    const struct operands *o = context;
    for (uint64_t i = 0; i < calls; i++)
        outer_step_apply(&nesterov, o->g + first, o->u + first, o->delta + first, o->g + first, count);
}

static void run_hash(void *context, uint64_t calls) {
    const struct operands *o = context;
    volatile uint8_t sink;
    struct state_hash hash;
    for (uint64_t i = 0; i < calls; i++) {
        state_hash_fragment(o->g, o->u, o->count, &hash);
        sink = hash.bytes[0];
        (void)sink;
    }
}

static enum status operands_open(size_t count, struct operands *o, struct error *error) {
    size_t streams = bench_stream_memory(2 * count); /* the hash reads two arrays */
    *o = (struct operands){.count = count};
    enum status status = arena_open(&o->arena, 3 * arena_round(count * sizeof(float)) + arena_round(streams), error);
    if (status != STATUS_OK)
        return error_prefix(error, "operands of the outer step");
    o->g = arena_take(&o->arena, count * sizeof(float));
    o->u = arena_take(&o->arena, count * sizeof(float));
    o->delta = arena_take(&o->arena, count * sizeof(float));
    o->stream_memory = arena_take(&o->arena, streams);
    bench_fill(o->g, count, 1, 0.02F);
    bench_fill(o->delta, count, 2, 1e-3F);
    return STATUS_OK;
}

static json_t *pair_json(const struct bench_case *pair, double bytes, enum bench_stream_kind stream, int repeats) {
    return json_pack("{s:o, s:s, s:o, s:o}", "gb_per_s", bench_summary_json(bench_rate(pair, repeats, bytes * 1e-9)),
                     "limit", bench_stream_name(stream), "limit_gb_per_s",
                     bench_summary_json(bench_rate(pair + 1, repeats, bytes * 1e-9)), "share",
                     bench_summary_json(bench_share(pair, bytes, pair + 1, bytes, repeats)));
}

/* An operation, then its stream, round after round. */
static json_t *measure_step(const struct bench_plan *plan, struct operands *o, int threads) {
    static struct bench_case cases[2];
    struct bench_stream stream;
    struct bench_slices slices = {.threads = threads, .count = o->count, .run = run_nesterov, .context = o};
    bench_stream_open(&stream, BENCH_STREAM_3R2W, o->stream_memory, o->count, threads);
    cases[0] = (struct bench_case){.run = bench_run_slices, .context = &slices, .warm = true};
    cases[1] = (struct bench_case){.run = bench_run_slices, .context = &stream.slices, .warm = true};
    bench_measure(cases, 2, &plan->effort);
    json_t *json =
        pair_json(cases, bench_stream_bytes(BENCH_STREAM_3R2W, o->count), BENCH_STREAM_3R2W, plan->effort.repeats);
    json_object_set_new(json, "threads", json_integer(threads));
    return json;
}

static json_t *measure_hash(const struct bench_plan *plan, struct operands *o) {
    static struct bench_case cases[2];
    struct bench_stream stream;
    bench_stream_open(&stream, BENCH_STREAM_READ, o->stream_memory, 2 * o->count, 1);
    cases[0] = (struct bench_case){.run = run_hash, .context = o, .warm = true};
    cases[1] = (struct bench_case){.run = bench_run_slices, .context = &stream.slices, .warm = true};
    bench_measure(cases, 2, &plan->effort);
    json_t *json =
        pair_json(cases, bench_stream_bytes(BENCH_STREAM_READ, 2 * o->count), BENCH_STREAM_READ, plan->effort.repeats);
    json_object_set_new(json, "threads", json_integer(1));
    return json;
}

enum status bench_outer(const struct bench_plan *plan, json_t **result, struct error *error) {
    struct model_options options = bench_size_options(plan->size, 1);
    struct tensor_table table;
    struct operands operands;
    int threads[BENCH_THREAD_COUNTS], thread_counts = bench_thread_counts(plan, threads);
    enum status status = float_environment_check(error);
    if (status != STATUS_OK)
        return status;
    status = tensors_table_create(&options.shape, &table, error);
    if (status != STATUS_OK)
        return status;
    size_t count = table.parameter_count;
    tensors_table_destroy(&table);
    status = operands_open(count, &operands, error);
    if (status != STATUS_OK)
        return status;
    json_t *steps = json_array();
    for (int i = 0; i < thread_counts; i++) {
        bench_say("outer %s, %d thread%s", bench_size_name(plan->size), threads[i], threads[i] == 1 ? "" : "s");
        json_array_append_new(steps, measure_step(plan, &operands, threads[i]));
    }
    *result = json_pack("{s:s, s:I, s:o, s:o}", "size", bench_size_name(plan->size), "parameters", (json_int_t)count,
                        "nesterov", steps, "state_hash", measure_hash(plan, &operands));
    CHECK(*result != NULL);
    arena_close(&operands.arena);
    return STATUS_OK;
}

static void print_pair(const char *name, const json_t *pair, FILE *to) {
    char rate[BENCH_TEXT_BYTES], limit[BENCH_TEXT_BYTES];
    fprintf(to, "  %-14s %7lld %26s %26s %5.1f %%  %s\n", name,
            (long long)json_integer_value(json_object_get(pair, "threads")),
            bench_spread_text(json_object_get(pair, "gb_per_s"), 1, rate),
            bench_spread_text(json_object_get(pair, "limit_gb_per_s"), 1, limit),
            bench_median(json_object_get(pair, "share"), 100), json_string_value(json_object_get(pair, "limit")));
}

void bench_outer_print(const json_t *result, FILE *to) {
    size_t index;
    const json_t *pair;
    fprintf(to, "\nouter %s: %lld parameters; bytes read and written\n",
            json_string_value(json_object_get(result, "size")),
            (long long)json_integer_value(json_object_get(result, "parameters")));
    fprintf(to, "  %-14s %7s %26s %26s %7s  %s\n", "operation", "threads", "GB/s", "stream GB/s", "share", "stream is");
    json_array_foreach(json_object_get(result, "nesterov"), index, pair) print_pair("nesterov step", pair, to);
    print_pair("state hash", json_object_get(result, "state_hash"), to);
}
