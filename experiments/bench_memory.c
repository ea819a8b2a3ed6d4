/* bench_memory: what a training step takes of memory, beside what `atoll check` says it will, and what it costs in time to keep less. One process per way
 * of recomputing, so that each one's peak is its own; they step in turn. This part comes before all others: what they touch of BLAS's memory would be there
 * already in the processes that are forked here. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "experiments/bench.h"
#include "experiments/bench_nodes.h"

enum { WAYS = RECOMPUTE_BLOCK + 1 };

/* A process that trains with one way of recomputing. */
struct trainer {
    struct model_options options;
    struct bench_node node;
    struct model_memory predicted;
    uint64_t before_bytes, peak_bytes; /* VmHWM before the model and after its first step */
    bool failed;
    struct error error;
};

static const char *way_name(int way) {
    static const char *const names[WAYS] = {
        [RECOMPUTE_NONE] = "none", [RECOMPUTE_ATTENTION] = "attention", [RECOMPUTE_BLOCK] = "block"};
    return names[way];
}

/* ---- in the process ---- */

static bool do_step(struct model *model, const int32_t *windows) {
    double loss = model_add_gradients(model, windows, (int)model_inner(model)->batch_per_worker,
                                      (int)model_shape(model)->context, 1);
    return model_apply_update(model, 1e-5F, isfinite(loss)).applied;
}

static bool train_once(const struct model_options *options, struct model **model, const int32_t *windows) {
    struct error error;
    if (model_create(options, model, &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        return false;
    }
    if (do_step(*model, windows))
        return true;
    fprintf(stderr, "a step of an untrained model is not finite\n");
    return false;
}

/* A forked process has none of the pages of its program and libraries at first, while one that trains has them before its model: a step of the smallest
 * model brings them in. Then the peak begins anew. */
static bool bring_in_program(const struct model_options *like) {
    struct model_options options = bench_size_options(BENCH_SIZE_SMOKE, (int)like->inner.threads);
    struct model *model = NULL;
    options.shape.recompute = like->shape.recompute;
    int32_t *windows = bench_windows(&options);
    CHECK(windows != NULL);
    bool trained = train_once(&options, &model, windows);
    model_destroy(model);
    free(windows);
    FILE *file = fopen("/proc/self/clear_refs", "we");
    bool reset = file != NULL && fputs("5", file) >= 0;
    if (file == NULL || fclose(file) != 0 || !reset) {
        perror("/proc/self/clear_refs");
        return false;
    }
    return trained;
}

static int trainer_main(void *context, const char *directory, int channel) {
    const struct model_options *options = context;
    int32_t *windows = bench_windows(options);
    struct model *model = NULL;
    (void)directory;
    CHECK(windows != NULL);
    if (!bring_in_program(options))
        return EXIT_FAILURE;
    bench_node_done(channel); /* what is resident now is not the model's */
    if (!bench_node_wait(channel))
        return EXIT_SUCCESS;
    bool trained = train_once(options, &model, windows);
    while (trained) {
        bench_node_done(channel);
        if (!bench_node_wait(channel))
            return EXIT_SUCCESS;
        trained = do_step(model, windows);
    }
    return EXIT_FAILURE;
}

/* ---- from outside ---- */

static void run_trainer(void *context, uint64_t calls) {
    struct trainer *trainer = context;
    for (uint64_t i = 0; i < calls && !trainer->failed; i++) {
        bench_node_go(&trainer->node);
        trainer->failed = bench_node_await(&trainer->node, &trainer->error) != STATUS_OK;
    }
}

static enum status trainer_open(struct trainer *trainer, const char *directory, enum bench_size size, int threads,
                                int way, struct error *error) {
    struct tensor_table table;
    trainer->options = bench_size_options(size, threads);
    trainer->options.shape.recompute = way;
    enum status status = tensors_table_create(&trainer->options.shape, &table, error);
    if (status != STATUS_OK)
        return status;
    trainer->predicted = model_memory_plan(&trainer->options, &table);
    tensors_table_destroy(&table);
    status = bench_node_fork(&trainer->node, directory, way_name(way), trainer_main, &trainer->options, error);
    if (status == STATUS_OK)
        status = bench_node_await(&trainer->node, error);
    if (status != STATUS_OK)
        return status;
    trainer->before_bytes = bench_node_peak_bytes(&trainer->node);
    bench_node_go(&trainer->node);
    status = bench_node_await(&trainer->node, error);
    trainer->peak_bytes = bench_node_peak_bytes(&trainer->node);
    return status;
}

static json_t *trainer_json(const struct trainer *trainers, int way, const struct bench_case *cases, int repeats) {
    const struct trainer *t = &trainers[way];
    double predicted = (double)t->predicted.peak_bytes, peak = (double)(t->peak_bytes - t->before_bytes);
    json_t *json = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "recompute", way_name(way), "state_bytes",
        (json_int_t)t->predicted.state_bytes, "activation_bytes", (json_int_t)t->predicted.activation_bytes,
        "product_bytes", (json_int_t)t->predicted.product_bytes, "predicted_bytes", (json_int_t)t->predicted.peak_bytes,
        "peak_bytes", (json_int_t)peak, "share", json_real(peak / predicted), "activation_share",
        json_real((double)t->predicted.activation_bytes / (double)trainers->predicted.activation_bytes), "steps_per_s",
        bench_summary_json(bench_rate(&cases[way], repeats, 1)), "speed_share",
        bench_summary_json(bench_share(&cases[way], 1, &cases[RECOMPUTE_NONE], 1, repeats)));
    CHECK(json != NULL);
    return json;
}

static enum status measure(const struct bench_plan *plan, int threads, const char *directory, json_t **result,
                           struct error *error) {
    static struct bench_case cases[WAYS];
    struct trainer trainers[WAYS];
    enum status status = STATUS_OK;
    for (int way = 0; way < WAYS; way++) {
        trainers[way] = (struct trainer){.node = {.channel = -1}};
        cases[way] = (struct bench_case){.run = run_trainer, .context = &trainers[way]};
    }
    for (int way = 0; way < WAYS && status == STATUS_OK; way++)
        status = trainer_open(&trainers[way], directory, plan->size, threads, way, error);
    if (status == STATUS_OK)
        bench_measure(cases, WAYS, &plan->effort);
    for (int way = 0; way < WAYS; way++) {
        bench_node_stop(&trainers[way].node);
        if (trainers[way].failed && status == STATUS_OK)
            status = error_set(error, trainers[way].error.status, "%s", trainers[way].error.text);
    }
    if (status != STATUS_OK)
        return status;
    json_t *ways = json_array();
    for (int way = 0; way < WAYS; way++)
        json_array_append_new(ways, trainer_json(trainers, way, cases, plan->effort.repeats));
    *result = json_pack("{s:s, s:i, s:o}", "size", bench_size_name(plan->size), "threads", threads, "ways", ways);
    CHECK(*result != NULL);
    return STATUS_OK;
}

enum status bench_memory(const struct bench_plan *plan, json_t **result, struct error *error) {
    int threads[BENCH_THREAD_COUNTS], thread_counts = bench_thread_counts(plan, threads);
    char directory[BENCH_NODE_PATH_BYTES];
    enum status status = bench_directory_make(directory, error);
    if (status != STATUS_OK)
        return status;
    json_t *list = json_array();
    for (int i = 0; i < thread_counts && status == STATUS_OK; i++) {
        json_t *measured = NULL;
        bench_say("memory %s, %d thread%s", bench_size_name(plan->size), threads[i], threads[i] == 1 ? "" : "s");
        status = measure(plan, threads[i], directory, &measured, error);
        if (status == STATUS_OK)
            json_array_append_new(list, measured);
    }
    bench_directory_remove(directory);
    if (status != STATUS_OK) {
        json_decref(list);
        return status;
    }
    *result = list;
    return STATUS_OK;
}

static double mb(const json_t *way, const char *key) {
    return (double)json_integer_value(json_object_get(way, key)) * 1e-6;
}

void bench_memory_print(const json_t *result, FILE *to) {
    size_t index, inner;
    const json_t *run, *way;
    char text[BENCH_TEXT_BYTES];
    json_array_foreach(result, index, run) {
        long long threads = (long long)json_integer_value(json_object_get(run, "threads"));
        fprintf(to, "\nmemory %s, %lld thread%s: MB of a training step\n",
                json_string_value(json_object_get(run, "size")), threads, threads == 1 ? "" : "s");
        fprintf(to, "  %-10s %9s %12s %9s %10s %9s %13s %15s %26s\n", "recompute", "state", "activations", "products",
                "predicted", "peak", "% of predicted", "% activations", "% of the speed of none");
        json_array_foreach(json_object_get(run, "ways"), inner, way)
            fprintf(to, "  %-10s %9.1f %12.1f %9.1f %10.1f %9.1f %13.1f %15.1f %26s\n",
                    json_string_value(json_object_get(way, "recompute")), mb(way, "state_bytes"),
                    mb(way, "activation_bytes"), mb(way, "product_bytes"), mb(way, "predicted_bytes"),
                    mb(way, "peak_bytes"), 100 * json_number_value(json_object_get(way, "share")),
                    100 * json_number_value(json_object_get(way, "activation_share")),
                    bench_spread_text(json_object_get(way, "speed_share"), 100, text));
    }
}
