/* bench_step: whole training steps against the rate of their own products, which run between the steps of the same rounds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "experiments/bench.h"
#include "experiments/bench_products.h"

static const float LEARNING_RATE = 1e-5F; /* the steps are real, and leave the model as it is */

/* One size with one number of threads. */
struct run {
    struct model_options options;
    struct model *model;
    struct step_profile profile;
    int32_t *windows; /* (B,T+1) */
    struct bench_products products;
    struct bench_flops flops;
    double part_seconds[STEP_PART_COUNT][BENCH_REPEATS_MAX]; /* of a thread in a step, as those of the rest are */
    double marks_per_step;
    struct bench_case cases[1 + BENCH_PRODUCTS_MAX]; /* the step first */
};

static void run_steps(void *context, uint64_t calls) {
    struct run *run = context;
    int B = (int)run->options.inner.batch_per_worker, T = (int)run->options.shape.context;
    for (uint64_t i = 0; i < calls; i++) {
        double loss = model_add_gradients(run->model, run->windows, B, T, 1);
        (void)model_apply_update(run->model, LEARNING_RATE, isfinite(loss));
    }
}

/* An untrained model is as wise as a coin: its loss is ln(vocab), and its update applies. */
static enum status check_step(struct run *run, struct error *error) {
    int B = (int)run->options.inner.batch_per_worker, T = (int)run->options.shape.context;
    double loss = model_add_gradients(run->model, run->windows, B, T, 1),
           expected = log((double)run->options.shape.vocab);
    struct update_result update = model_apply_update(run->model, LEARNING_RATE, isfinite(loss));
    if (update.applied && fabs(loss - expected) < 0.1 * expected)
        return STATUS_OK;
    return error_set(
        error, update.applied ? STATUS_DATA : STATUS_NOT_FINITE,
        "the first step's loss is %g, expected about ln(%lld) = %g: this build or its BLAS computes wrongly "
        "(atoll worker runs a self-test that says more)",
        loss, (long long)run->options.shape.vocab, expected);
}

static void run_close(struct run *run) {
    bench_products_close(&run->products);
    model_destroy(run->model);
    free(run->windows);
    free(run);
}

static enum status run_open(enum bench_size size, enum inner_precision precision, int threads, struct run **opened,
                            struct error *error) {
    struct run *run = calloc(1, sizeof *run);
    if (run == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a benchmark");
    run->options = bench_size_options(size, threads);
    run->options.inner.precision = precision;
    run->options.profile = &run->profile;
    run->flops =
        bench_flops(&run->options.shape, (uint64_t)(run->options.inner.batch_per_worker * run->options.shape.context));
    run->windows = bench_windows(&run->options);
    enum status status = run->windows != NULL ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory for a batch");
    if (status == STATUS_OK)
        status = model_create(&run->options, &run->model, error);
    if (status == STATUS_OK)
        status = bench_products_open(&run->products, &run->options, error);
    if (status == STATUS_OK)
        status = check_step(run, error);
    if (status != STATUS_OK) {
        run_close(run);
        return status;
    }
    run->cases[0] = (struct bench_case){.run = run_steps, .context = run};
    bench_products_cases(&run->products, run->cases + 1);
    *opened = run;
    return STATUS_OK;
}

static void run_rounds(struct run *run, const struct bench_effort *effort) {
    int count = 1 + run->products.count;
    bench_calibrate(run->cases, count, effort);
    for (int round = 0; round < effort->repeats; round++) {
        memset(&run->profile, 0, sizeof run->profile);
        bench_round(run->cases, count, round);
        double steps = (double)run->cases[0].calls, threads = (double)run->options.inner.threads;
        for (int part = 0; part < STEP_PART_COUNT; part++)
            run->part_seconds[part][round] = (double)run->profile.part_ns[part] * 1e-9 / (steps * threads);
        run->marks_per_step = (double)run->profile.marks / (steps * threads);
    }
}

/* ---- numbers ---- */

/* Operations that the count gives to a part; 0 for those that it does not count. */
static double flops_of_part(const struct bench_flops *flops, enum step_part part) {
    switch (part) {
    case STEP_PART_PROJECTION_FORWARD:
    case STEP_PART_PROJECTION_INPUT:
    case STEP_PART_PROJECTION_WEIGHT:
        return (double)flops->projections;
    case STEP_PART_ATTENTION_FORWARD:
        return (double)flops->attention_forward;
    case STEP_PART_ATTENTION_BACKWARD:
        return (double)flops->attention_backward;
    case STEP_PART_HEAD:
        return (double)flops->head;
    case STEP_PART_EMBEDDING:
    case STEP_PART_NORM:
    case STEP_PART_GATE:
    case STEP_PART_LOSS:
    case STEP_PART_GRADIENT_NORM:
    case STEP_PART_ROUNDING:
    case STEP_PART_ADAMW:
    case STEP_PART_WAIT:
    case STEP_PART_COUNT:
        break;
    }
    return 0;
}

static json_t *quotients_json(const double *values, double factor, const double *divisors, int repeats) {
    double quotients[BENCH_REPEATS_MAX];
    for (int i = 0; i < repeats; i++)
        quotients[i] = factor * values[i] / divisors[i];
    return bench_summary_json(bench_summarize(quotients, repeats));
}

/* Whether a product belongs to a part. */
static bool is_of_part(const struct run *run, const struct bench_product *product, enum step_part part) {
    bool of_head = product->linear == &run->products.linears[run->products.head];
    switch (part) {
    case STEP_PART_HEAD:
        return of_head;
    case STEP_PART_PROJECTION_FORWARD:
        return !of_head && product->kind == BENCH_PRODUCT_FORWARD;
    case STEP_PART_PROJECTION_INPUT:
        return !of_head && product->kind == BENCH_PRODUCT_INPUT;
    case STEP_PART_PROJECTION_WEIGHT:
        return !of_head && product->kind == BENCH_PRODUCT_WEIGHT;
    default:
        return false;
    }
}

/* Of all that steps consist of, what those of this run do have. */
static bool is_in_steps(const struct run *run, enum step_part part) {
    if (part == STEP_PART_ROUNDING)
        return run->options.inner.precision != INNER_PRECISION_F32;
    return part != STEP_PART_GATE || !linear_has_panels(run->products.kind); /* or it is done within products */
}

/* What a part's own products take alone; null for a part without. */
static json_t *alone_json(const struct run *run, enum step_part part, const double *ones, int repeats) {
    double seconds[BENCH_REPEATS_MAX] = {0};
    for (int i = 0; i < run->products.count; i++)
        if (is_of_part(run, &run->products.list[i], part))
            for (int round = 0; round < repeats; round++)
                seconds[round] +=
                    (double)run->products.list[i].per_step * run->cases[1 + i].seconds[round] / run->products.threads;
    return seconds[0] > 0 ? quotients_json(seconds, 1e3, ones, repeats) : json_null();
}

/* Seconds that a part of `flops` operations would take at the rate of the products: beside what it takes. */
static json_t *part_json(const struct run *run, enum step_part part, const double *rates, int repeats) {
    const double *seconds = run->part_seconds[part];
    double flops = flops_of_part(&run->flops, part), ideal[BENCH_REPEATS_MAX], ones[BENCH_REPEATS_MAX];
    for (int i = 0; i < repeats; i++) {
        ideal[i] = flops / rates[i];
        ones[i] = 1;
    }
    json_t *json =
        json_pack("{s:s, s:o, s:o}", "part", step_part_name(part), "ms", quotients_json(seconds, 1e3, ones, repeats),
                  "share_of_step", quotients_json(seconds, 1, run->cases[0].seconds, repeats));
    CHECK(json != NULL);
    json_object_set_new(json, "alone_ms", alone_json(run, part, ones, repeats));
    json_object_set_new(json, "gflops", flops > 0 ? quotients_json(ones, flops * 1e-9, seconds, repeats) : json_null());
    json_object_set_new(json, "share_of_products",
                        flops > 0 ? quotients_json(ideal, 1, seconds, repeats) : json_null());
    return json;
}

static double clock_seconds(void) {
    enum { READINGS = 100000 };
    uint64_t started_ns = clock_now_ns(), last_ns = started_ns;
    for (int i = 0; i < READINGS; i++)
        last_ns = clock_now_ns();
    return (double)(last_ns - started_ns) * 1e-9 / READINGS;
}

static json_t *run_json(const struct run *run, enum bench_size size, int threads, int repeats) {
    const double *seconds = run->cases[0].seconds;
    double tokens = (double)(run->options.inner.batch_per_worker * run->options.shape.context);
    double rates[BENCH_REPEATS_MAX], ones[BENCH_REPEATS_MAX], ideal[BENCH_REPEATS_MAX], sums[BENCH_REPEATS_MAX];
    bench_products_rates(&run->products, run->cases + 1, repeats, rates);
    json_t *parts = json_array();
    for (int part = 0; part < STEP_PART_COUNT; part++)
        if (is_in_steps(run, (enum step_part)part))
            json_array_append_new(parts, part_json(run, (enum step_part)part, rates, repeats));
    for (int i = 0; i < repeats; i++) {
        ones[i] = 1;
        ideal[i] = (double)run->flops.total / rates[i];
        sums[i] = 0;
        for (int part = 0; part < STEP_PART_COUNT; part++)
            sums[i] += run->part_seconds[part][i];
    }
    json_t *json = json_pack(
        "{s:s, s:s, s:i, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:n, s:n}", "size",
        bench_size_name(size), "precision", bench_precision_name((enum inner_precision)run->options.inner.precision),
        "threads", threads, "parameters", (json_int_t)model_tensors(run->model)->parameter_count, "tokens_per_step",
        (json_int_t)tokens, "flops_per_step", (json_int_t)run->flops.total, "ms",
        quotients_json(seconds, 1e3, ones, repeats), "tokens_per_s", quotients_json(ones, tokens, seconds, repeats),
        "gflops", quotients_json(ones, (double)run->flops.total * 1e-9, seconds, repeats), "product_gflops",
        quotients_json(rates, 1e-9, ones, repeats), "share", quotients_json(ideal, 1, seconds, repeats), "parts", parts,
        "parts_sum_share", quotients_json(sums, 1, seconds, repeats), "clock_share",
        log_real(run->marks_per_step * clock_seconds() * bench_rate(&run->cases[0], repeats, 1).median),
        "scaling_share", "speedup");
    CHECK(json != NULL);
    return json;
}

/* tokens/s of many threads / (tokens/s of one x scaling of the products): tokens/s is the product rate times the share. */
static void add_scaling(const json_t *one, json_t *many) {
    double share = bench_median(json_object_get(many, "share"), 1) / bench_median(json_object_get(one, "share"), 1);
    json_object_set_new(many, "scaling_share", log_real(share));
}

static void add_speedup(const json_t *f32, json_t *bf16) {
    double speedup =
        bench_median(json_object_get(bf16, "tokens_per_s"), 1) / bench_median(json_object_get(f32, "tokens_per_s"), 1);
    json_object_set_new(bf16, "speedup", log_real(speedup));
}

static enum status measure(const struct bench_plan *plan, enum inner_precision precision, int threads, json_t **made,
                           struct error *error) {
    struct run *run = NULL;
    bench_say("step %s, %s, %d thread%s", bench_size_name(plan->size), bench_precision_name(precision), threads,
              threads == 1 ? "" : "s");
    enum status status = run_open(plan->size, precision, threads, &run, error);
    if (status != STATUS_OK)
        return status;
    run_rounds(run, &plan->effort);
    *made = run_json(run, plan->size, threads, plan->effort.repeats);
    run_close(run);
    return STATUS_OK;
}

/* All thread counts in one precision, then in the other. */
enum status bench_step(const struct bench_plan *plan, json_t **result, struct error *error) {
    enum inner_precision precisions[BENCH_PRECISIONS];
    int threads[BENCH_THREAD_COUNTS], thread_counts = bench_thread_counts(plan, threads);
    int count = thread_counts * bench_precisions(plan, precisions);
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        json_t *made = NULL;
        int thread = i % thread_counts;
        enum status status = measure(plan, precisions[i / thread_counts], threads[thread], &made, error);
        if (status != STATUS_OK) {
            json_decref(list);
            return status;
        }
        json_array_append_new(list, made);
        if (thread > 0)
            add_scaling(json_array_get(list, (size_t)(i - thread)), made);
        if (i >= thread_counts)
            add_speedup(json_array_get(list, (size_t)thread), made);
    }
    *result = list;
    return STATUS_OK;
}

static void print_run(const json_t *run, FILE *to) {
    char text[BENCH_TEXT_BYTES];
    size_t index;
    const json_t *part;
    long long threads = (long long)json_integer_value(json_object_get(run, "threads"));
    fprintf(to, "\nstep %s, %s, %lld thread%s: %lld parameters, %lld tokens, %.2f GFLOP a step\n",
            json_string_value(json_object_get(run, "size")), json_string_value(json_object_get(run, "precision")),
            threads, threads == 1 ? "" : "s", (long long)json_integer_value(json_object_get(run, "parameters")),
            (long long)json_integer_value(json_object_get(run, "tokens_per_step")),
            (double)json_integer_value(json_object_get(run, "flops_per_step")) * 1e-9);
    fprintf(to, "  tokens/s            %s\n", bench_spread_text(json_object_get(run, "tokens_per_s"), 1, text));
    if (json_is_number(json_object_get(run, "speedup")))
        fprintf(to, "  of f32's            %.2f x\n", json_number_value(json_object_get(run, "speedup")));
    fprintf(to, "  GFLOP/s             %s\n", bench_spread_text(json_object_get(run, "gflops"), 1, text));
    fprintf(to, "  products' GFLOP/s   %s\n", bench_spread_text(json_object_get(run, "product_gflops"), 1, text));
    fprintf(to, "  share of products   %s %%\n", bench_spread_text(json_object_get(run, "share"), 100, text));
    if (json_is_number(json_object_get(run, "scaling_share")))
        fprintf(to, "  tokens/s of 1 thread x the products' scaling: %.1f %% of that\n",
                100 * json_number_value(json_object_get(run, "scaling_share")));
    bool has_gate = false;
    fprintf(to, "  %-22s %26s %8s %10s %9s %15s\n", "part", "ms", "% step", "ms alone", "GFLOP/s", "% of products");
    json_array_foreach(json_object_get(run, "parts"), index, part) {
        const char *name = json_string_value(json_object_get(part, "part"));
        has_gate = has_gate || strcmp(name, step_part_name(STEP_PART_GATE)) == 0;
        fprintf(to, "  %-22s %26s %8.1f", name, bench_spread_text(json_object_get(part, "ms"), 1, text),
                bench_median(json_object_get(part, "share_of_step"), 100));
        if (json_is_object(json_object_get(part, "alone_ms")))
            fprintf(to, " %10.3f", bench_median(json_object_get(part, "alone_ms"), 1));
        if (json_is_object(json_object_get(part, "gflops")))
            fprintf(to, " %*.1f %15.1f", json_is_object(json_object_get(part, "alone_ms")) ? 9 : 20,
                    bench_median(json_object_get(part, "gflops"), 1),
                    bench_median(json_object_get(part, "share_of_products"), 100));
        fputc('\n', to);
    }
    fprintf(to, "  %-22s %26s %8.1f   (the clock's own part: %.2f %%)\n", "step",
            bench_spread_text(json_object_get(run, "ms"), 1, text),
            bench_median(json_object_get(run, "parts_sum_share"), 100),
            100 * json_number_value(json_object_get(run, "clock_share")));
    if (!has_gate)
        fprintf(to, "  (the gate of the MLP is part of the projections forward and dX)\n");
}

void bench_step_print(const json_t *result, FILE *to) {
    size_t index;
    const json_t *run;
    json_array_foreach(result, index, run) print_run(run, to);
}
