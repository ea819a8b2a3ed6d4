/* bench_sync: what a sync costs in CPU time: a real outer and real workers that do not train (bench_island.h), over CURVE on loopback, each a
 * process; beside them, round after round, processes that move the same bytes and do nothing else (bench_bare.h). A round sends and
 * merges every fragment once. What a node needs beyond the bare transfer is its CPU time less that of its bare counterpart, less one state
 * hash, which is measured alone in the same round. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/files.h"
#include "comms/transfer.h"
#include "experiments/bench.h"
#include "experiments/bench_bare.h"
#include "experiments/bench_island.h"
#include "outer/outer_memory.h"
#include "outer/run_file.h"
#include "outer/state_hash.h"

enum {
    STEPS = 1000000,
    FULL_EVERY = 4, /* full records of the outer's log: the directory stays small */
    OVERRIDES_MAX = OPTION_LIST_MAX,
    WIDTH_STEP = 64,
    HASH_FLOATS_MAX = 4 << 20,
    NODE_KINDS = 2, /* worker, outer */
};

/* CPU nanoseconds per parameter of one node, by round; of workers the mean. */
struct cost {
    double cpu[BENCH_REPEATS_MAX], bare[BENCH_REPEATS_MAX], beyond[BENCH_REPEATS_MAX];
};

struct sync_bench {
    const struct bench_plan *plan;
    char directory[BENCH_NODE_PATH_BYTES];
    char run_yaml[BENCH_NODE_PATH_BYTES], token[BENCH_NODE_PATH_BYTES];
    struct run_file run;
    struct tensor_table table;
    struct fragments fragments;
    size_t up_bytes, down_bytes; /* of a round and worker */
    struct bench_node outer, islands[MESSAGE_WORKERS_MAX];
    struct bench_bare bare;
    float *hashed; /* (2 * hash_floats,) g and u */
    size_t hash_floats;
    struct cost worker, leader, node;
    double hash[BENCH_REPEATS_MAX], seconds[BENCH_REPEATS_MAX], bare_seconds[BENCH_REPEATS_MAX];
    size_t peak_bytes;
};

static const char *size_text(const struct bench_plan *plan) {
    return plan->sync.parameters != 0 ? "given" : bench_size_name(plan->size);
}

/* ---- the run ---- */

/* A model of nearly so many parameters: 12 layers of 4 width x width and 3 width x ffn, ffn about 8 / 3 of the width, and an embedding. */
static struct shape shape_of(uint64_t parameters) {
    const int64_t layers = 12, vocab = 256;
    int64_t all = (int64_t)parameters, width = WIDTH_STEP;
    while (layers * 12 * (width + WIDTH_STEP) * (width + WIDTH_STEP) <= all)
        width += WIDTH_STEP;
    int64_t ffn = (all - vocab * width - layers * 4 * width * width + layers * 3 * width / 2) / (layers * 3 * width);
    return (struct shape){
        .layers = layers, .width = width, .heads = width / WIDTH_STEP, .ffn = ffn > 0 ? ffn : 1, .vocab = vocab};
}

static enum status write_run_file(struct sync_bench *b, struct error *error) {
    char text[2048];
    const struct bench_sync_plan *plan = &b->plan->sync;
    struct shape shape =
        plan->parameters != 0 ? shape_of(plan->parameters) : bench_size_options(b->plan->size, 1).shape;
    int count =
        snprintf(text, sizeof text,
                 "name: bench\nmodel: {layers: %lld, width: %lld, heads: %lld, ffn: %lld, context: 32, vocab: %lld}\n"
                 "inner: {steps: %d, warmup_steps: 0}\nsync: {every_steps: %d, codec_up: %s, codec_down: %s}\n"
                 "outer: {reject_norm: 0}\ncheckpoint: {every: 0s, full_every: %d}\nworkers: %lld\n",
                 (long long)shape.layers, (long long)shape.width, (long long)shape.heads, (long long)shape.ffn,
                 (long long)shape.vocab, STEPS, MESSAGE_FRAGMENTS_MAX, plan->codec, plan->codec, FULL_EVERY,
                 (long long)plan->workers);
    CHECK(count > 0 && (size_t)count < sizeof text);
    return files_write_atomic(b->run_yaml, text, (size_t)count, 0600, error);
}

/* As the nodes will have it. The second time the schedule is known: every fragment is under way at once. */
static enum status read_run_file(struct sync_bench *b, const char *const *overrides, int count, struct error *error) {
    enum status status = run_file_load(b->run_yaml, overrides, count, RUN_FILE_DATA_IGNORED, &b->run, error);
    if (status != STATUS_OK)
        return status;
    if (b->fragments.count > 0)
        return STATUS_OK;
    status = tensors_table_create(&b->run.model, &b->table, error);
    if (status != STATUS_OK)
        return status;
    return run_sync_fragments(&b->run, &b->table, &b->fragments, error);
}

static size_t payload(const struct sync_bench *b, int fragment, int64_t codec) {
    const struct fragment *f = &b->fragments.list[fragment];
    return codec_payload_bytes(codec_get((enum codec_id)codec), f->spans, f->span_count);
}

static void plan_bare(struct sync_bench *b) {
    uint32_t workers = (uint32_t)b->run.workers;
    b->bare.workers = (int)workers;
    b->bare.fragments = b->fragments.count;
    b->bare.chunk_bytes = transfer_chunk_bytes(0);
    b->bare.window_chunks = (int)(transfer_window_bytes(workers) / b->bare.chunk_bytes);
    for (int f = 0; f < b->fragments.count; f++) {
        b->up_bytes += b->bare.up_bytes[f] = payload(b, f, b->run.sync.codec_up);
        b->down_bytes += b->bare.down_bytes[f] = payload(b, f, b->run.sync.codec_down);
    }
}

static enum status start_outer(struct sync_bench *b, char *const schedule[2], struct error *error) {
    const struct option_list *set = &b->plan->sync.set;
    const char *arguments[16 + 2 * OVERRIDES_MAX];
    int count = 0;
    const char *const fixed[] = {"outer",    b->run_yaml,   "--dir",       "{}",
                                 "--listen", "127.0.0.1:0", "--advertise", "127.0.0.1"};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        arguments[count++] = fixed[i];
    for (int i = 0; i < set->count + 2; i++) {
        arguments[count++] = "--set";
        arguments[count++] = i < set->count ? set->items[i] : schedule[i - set->count];
    }
    arguments[count] = NULL;
    enum status status = bench_node_exec(&b->outer, b->directory, "outer", arguments, error);
    files_join(b->token, sizeof b->token, b->outer.directory, "join.token");
    return status == STATUS_OK ? bench_node_await_file(&b->outer, b->token, error) : status;
}

static enum status start_islands(struct sync_bench *b, struct error *error) {
    enum status status = STATUS_OK;
    for (int i = 0; i < b->run.workers && status == STATUS_OK; i++) {
        char name[BENCH_NODE_NAME_BYTES];
        snprintf(name, sizeof name, "worker-%d", i);
        status = bench_node_fork(&b->islands[i], b->directory, name, bench_island_main, b->token, error);
    }
    for (int i = 0; i < b->run.workers && status == STATUS_OK; i++)
        status = bench_node_await(&b->islands[i], error);
    return status;
}

static enum status start(struct sync_bench *b, struct error *error) {
    const struct option_list *set = &b->plan->sync.set;
    char every[64], overlap[64], *schedule[2] = {every, overlap};
    const char *overrides[OVERRIDES_MAX + 2];
    if (set->count + 2 > OVERRIDES_MAX)
        return error_set(error, STATUS_USAGE, "--set is given too often");
    memcpy(overrides, set->items, (size_t)set->count * sizeof *overrides);
    files_join(b->run_yaml, sizeof b->run_yaml, b->directory, "run.yaml");
    enum status status = write_run_file(b, error);
    if (status == STATUS_OK)
        status = read_run_file(b, overrides, set->count, error);
    if (status != STATUS_OK)
        return status;
    snprintf(every, sizeof every, "sync.every_steps=%d", b->fragments.count);
    snprintf(overlap, sizeof overlap, "sync.overlap_steps=%d", b->fragments.count - 1);
    overrides[set->count] = every;
    overrides[set->count + 1] = overlap;
    status = read_run_file(b, overrides, set->count + 2, error);
    if (status != STATUS_OK)
        return status;
    plan_bare(b);
    status = bench_bare_start(&b->bare, b->directory, error);
    if (status == STATUS_OK)
        status = start_outer(b, schedule, error);
    return status == STATUS_OK ? start_islands(b, error) : status;
}

static void stop(struct sync_bench *b) {
    for (int i = 0; i < b->run.workers; i++)
        bench_node_stop(&b->islands[i]);
    bench_node_stop(&b->outer);
    bench_bare_stop(&b->bare);
}

/* ---- rounds ---- */

/* CPU time of all so far: workers, mean; outer. */
static void read_cpu(const struct bench_node *workers, int count, const struct bench_node *outer,
                     double ns[NODE_KINDS]) {
    ns[0] = 0;
    for (int i = 0; i < count; i++)
        ns[0] += (double)bench_node_cpu_ns(&workers[i]) / count;
    ns[1] = (double)bench_node_cpu_ns(outer);
}

static enum status island_round(const struct sync_bench *b, double *seconds, struct error *error) {
    enum status status = STATUS_OK;
    uint64_t started_ns = clock_now_ns();
    for (int i = 0; i < b->run.workers; i++)
        bench_node_go(&b->islands[i]);
    for (int i = 0; i < b->run.workers && status == STATUS_OK; i++)
        status = bench_node_await(&b->islands[i], error);
    *seconds = (double)(clock_now_ns() - started_ns) * 1e-9;
    return status;
}

/* CPU nanoseconds per parameter of a state hash. */
static double hash_once(const struct sync_bench *b) {
    struct timespec from, to;
    struct state_hash hash;
    size_t times = (HASH_FLOATS_MAX + b->hash_floats - 1) / b->hash_floats;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    for (size_t i = 0; i < times; i++)
        state_hash_fragment(b->hashed, b->hashed + b->hash_floats, b->hash_floats, &hash);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) /
           (double)(times * b->hash_floats);
}

static void note_cost(struct cost *cost, int round, double cpu, double bare, double hash) {
    cost->cpu[round] = cpu;
    cost->bare[round] = bare;
    cost->beyond[round] = cpu - bare - hash;
}

/* round -1: the first touch of all memory, not noted. */
static enum status measure_round(struct sync_bench *b, int round, struct error *error) {
    double from[NODE_KINDS], to[NODE_KINDS], bare_from[NODE_KINDS], bare_to[NODE_KINDS], cpu[NODE_KINDS],
        bare[NODE_KINDS], seconds, bare_seconds;
    int workers = (int)b->run.workers;
    read_cpu(b->islands, workers, &b->outer, from);
    enum status status = island_round(b, &seconds, error);
    if (status != STATUS_OK)
        return status;
    read_cpu(b->islands, workers, &b->outer, to);
    read_cpu(b->bare.nodes, workers, &b->bare.outer, bare_from);
    status = bench_bare_round(&b->bare, &bare_seconds, error);
    if (status != STATUS_OK)
        return status;
    read_cpu(b->bare.nodes, workers, &b->bare.outer, bare_to);
    double hash = hash_once(b);
    if (round < 0)
        return STATUS_OK;
    for (int kind = 0; kind < NODE_KINDS; kind++) {
        cpu[kind] = (to[kind] - from[kind]) / (double)b->table.parameter_count;
        bare[kind] = (bare_to[kind] - bare_from[kind]) / (double)b->table.parameter_count;
    }
    note_cost(&b->worker, round, cpu[0], bare[0], hash);
    note_cost(&b->leader, round, cpu[1], bare[1], hash);
    note_cost(&b->node, round, (workers * cpu[0] + cpu[1]) / (workers + 1),
              (workers * bare[0] + bare[1]) / (workers + 1), hash);
    b->hash[round] = hash;
    b->seconds[round] = seconds;
    b->bare_seconds[round] = bare_seconds;
    return STATUS_OK;
}

static enum status measure(struct sync_bench *b, struct error *error) {
    enum status status = start(b, error);
    if (status != STATUS_OK)
        return status;
    b->hash_floats = b->fragments.largest_count < HASH_FLOATS_MAX ? b->fragments.largest_count : HASH_FLOATS_MAX;
    b->hashed = malloc(2 * b->hash_floats * sizeof(float));
    if (b->hashed == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu floats", 2 * b->hash_floats);
    bench_fill(b->hashed, 2 * b->hash_floats, 1, 1.0F);
    for (int round = -1; round < b->plan->effort.repeats && status == STATUS_OK; round++)
        status = measure_round(b, round, error);
    b->peak_bytes = bench_node_peak_bytes(&b->outer);
    return status;
}

/* ---- results ---- */

static json_t *summary(const double *values, int count) {
    return bench_summary_json(bench_summarize(values, count));
}

static json_t *cost_json(const struct cost *cost, int repeats) {
    return json_pack("{s:o, s:o, s:o}", "cpu_ns", summary(cost->cpu, repeats), "bare_ns", summary(cost->bare, repeats),
                     "beyond_ns", summary(cost->beyond, repeats));
}

static json_t *results(const struct sync_bench *b) {
    int repeats = b->plan->effort.repeats;
    double rate[BENCH_REPEATS_MAX], bare_rate[BENCH_REPEATS_MAX];
    double bytes = (double)b->run.workers * (double)(b->up_bytes + b->down_bytes);
    struct outer_memory memory;
    outer_memory_plan(&b->fragments, &b->run, &memory);
    for (int i = 0; i < repeats; i++) {
        rate[i] = bytes * 1e-9 / b->seconds[i];
        bare_rate[i] = bytes * 1e-9 / b->bare_seconds[i];
    }
    json_t *json =
        json_pack("{s:s, s:I, s:I, s:s, s:s, s:i, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I}", "size",
                  size_text(b->plan), "parameters", (json_int_t)b->table.parameter_count, "workers",
                  (json_int_t)b->run.workers, "codec_up", codec_get((enum codec_id)b->run.sync.codec_up)->name,
                  "codec_down", codec_get((enum codec_id)b->run.sync.codec_down)->name, "fragments", b->fragments.count,
                  "up_bytes", (json_int_t)b->up_bytes, "down_bytes", (json_int_t)b->down_bytes, "chunk_bytes",
                  (json_int_t)b->bare.chunk_bytes, "worker", cost_json(&b->worker, repeats), "outer",
                  cost_json(&b->leader, repeats), "node", cost_json(&b->node, repeats), "state_hash_ns",
                  summary(b->hash, repeats), "seconds", summary(b->seconds, repeats), "gb_per_s",
                  summary(rate, repeats), "bare_gb_per_s", summary(bare_rate, repeats), "outer_peak_bytes",
                  (json_int_t)b->peak_bytes, "outer_bound_bytes", (json_int_t)memory.peak_bytes);
    CHECK(json != NULL);
    return json;
}

enum status bench_sync(const struct bench_plan *plan, json_t **result, struct error *error) {
    struct sync_bench *b = calloc(1, sizeof *b);
    if (b == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the processes' table");
    b->plan = plan;
    b->outer.channel = b->bare.outer.channel = -1;
    for (int i = 0; i < MESSAGE_WORKERS_MAX; i++)
        b->islands[i].channel = b->bare.nodes[i].channel = -1;
    bench_say("sync %s, %lld workers and an outer", size_text(plan), (long long)plan->sync.workers);
    enum status status = bench_directory_make(b->directory, error);
    if (status == STATUS_OK) {
        status = measure(b, error);
        if (status == STATUS_OK)
            *result = results(b);
        stop(b);
        bench_directory_remove(b->directory);
    }
    if (b->fragments.count > 0)
        fragments_destroy(&b->fragments);
    tensors_table_destroy(&b->table);
    free(b->hashed);
    free(b);
    return status;
}

static void print_cost(const char *name, const json_t *cost, FILE *to) {
    char cpu[BENCH_TEXT_BYTES], bare[BENCH_TEXT_BYTES], beyond[BENCH_TEXT_BYTES];
    fprintf(to, "  %-10s %26s %26s %26s\n", name, bench_spread_text(json_object_get(cost, "cpu_ns"), 1, cpu),
            bench_spread_text(json_object_get(cost, "bare_ns"), 1, bare),
            bench_spread_text(json_object_get(cost, "beyond_ns"), 1, beyond));
}

static long long integer(const json_t *result, const char *key) {
    return (long long)json_integer_value(json_object_get(result, key));
}

void bench_sync_print(const json_t *result, FILE *to) {
    char rate[BENCH_TEXT_BYTES], bare[BENCH_TEXT_BYTES];
    fprintf(to, "\nsync %s: %lld parameters in %lld fragments, %lld workers, %s up, %s down; CPU ns per parameter\n",
            json_string_value(json_object_get(result, "size")), integer(result, "parameters"),
            integer(result, "fragments"), integer(result, "workers"),
            json_string_value(json_object_get(result, "codec_up")),
            json_string_value(json_object_get(result, "codec_down")));
    fprintf(to, "  %-10s %26s %26s %26s\n", "node", "all", "bare transfer", "beyond it and the hash");
    print_cost("worker", json_object_get(result, "worker"), to);
    print_cost("outer", json_object_get(result, "outer"), to);
    print_cost("mean node", json_object_get(result, "node"), to);
    fprintf(to, "  %-10s %26s\n", "state hash", bench_spread_text(json_object_get(result, "state_hash_ns"), 1, rate));
    fprintf(to, "  wall: %s GB/s moved by all; bare %s GB/s\n",
            bench_spread_text(json_object_get(result, "gb_per_s"), 1, rate),
            bench_spread_text(json_object_get(result, "bare_gb_per_s"), 1, bare));
    fprintf(to, "  outer: peak memory %.1f MB, bound %.1f MB\n", (double)integer(result, "outer_peak_bytes") / 1e6,
            (double)integer(result, "outer_bound_bytes") / 1e6);
}
