#include "experiments/bench_measure.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"

enum { CALLS_MAX = 1000000, SLICE_ALIGNMENT = 16 };

static uint64_t run_ns(const struct bench_case *timed, uint64_t calls) {
    uint64_t started_ns = clock_now_ns();
    timed->run(timed->context, calls);
    return clock_now_ns() - started_ns;
}

/* The first call warms up; when it fills the slice, it is also the last. */
static uint64_t calls_of_slice(const struct bench_case *timed, uint64_t slice_ns) {
    uint64_t calls = 1, took_ns = run_ns(timed, 1);
    if (took_ns >= slice_ns)
        return 1;
    while ((took_ns = run_ns(timed, calls)) < slice_ns / 4 && calls < CALLS_MAX)
        calls *= 4;
    if (took_ns < slice_ns)
        calls = (calls * slice_ns + took_ns) / (took_ns + 1);
    return calls < CALLS_MAX ? calls : CALLS_MAX;
}

void bench_calibrate(struct bench_case *cases, int count, const struct bench_effort *effort) {
    for (int i = 0; i < count; i++)
        cases[i].calls = calls_of_slice(&cases[i], effort->slice_ns);
}

void bench_round(struct bench_case *cases, int count, int round) {
    CHECK(round >= 0 && round < BENCH_REPEATS_MAX);
    for (int i = 0; i < count; i++) {
        if (cases[i].warm)
            cases[i].run(cases[i].context, 1);
        cases[i].seconds[round] = (double)run_ns(&cases[i], cases[i].calls) * 1e-9 / (double)cases[i].calls;
    }
}

void bench_measure(struct bench_case *cases, int count, const struct bench_effort *effort) {
    bench_calibrate(cases, count, effort);
    for (int round = 0; round < effort->repeats; round++)
        bench_round(cases, count, round);
}

/* ---- numbers ---- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct bench_summary bench_summarize(const double *values, int count) {
    double sorted[BENCH_REPEATS_MAX];
    CHECK(count >= 1 && count <= BENCH_REPEATS_MAX);
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, ascending);
    return (struct bench_summary){
        .median = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2, .min = sorted[0], .max = sorted[count - 1]};
}

struct bench_summary bench_rate(const struct bench_case *timed, int repeats, double work) {
    double rates[BENCH_REPEATS_MAX];
    for (int i = 0; i < repeats; i++)
        rates[i] = work / timed->seconds[i];
    return bench_summarize(rates, repeats);
}

struct bench_summary bench_share(const struct bench_case *timed, double work, const struct bench_case *limit,
                                 double limit_work, int repeats) {
    double shares[BENCH_REPEATS_MAX];
    for (int i = 0; i < repeats; i++)
        shares[i] = work / timed->seconds[i] / (limit_work / limit->seconds[i]);
    return bench_summarize(shares, repeats);
}

json_t *bench_summary_json(struct bench_summary summary) {
    return json_pack("{s:o, s:o, s:o}", "median", log_real(summary.median), "min", log_real(summary.min), "max",
                     log_real(summary.max));
}

/* ---- threads ---- */

struct slice {
    const struct bench_slices *slices;
    size_t first, count;
    uint64_t calls;
};

static void *slice_main(void *argument) {
    const struct slice *slice = argument;
    if (slice->count > 0)
        slice->slices->run(slice->slices->context, slice->first, slice->count, slice->calls);
    return NULL;
}

void bench_run_slices(void *context, uint64_t calls) {
    const struct bench_slices *slices = context;
    struct slice parts[BENCH_THREADS_MAX];
    pthread_t threads[BENCH_THREADS_MAX];
    bool started[BENCH_THREADS_MAX] = {false};
    CHECK(slices->threads >= 1 && slices->threads <= BENCH_THREADS_MAX);
    size_t each = (slices->count + (size_t)slices->threads - 1) / (size_t)slices->threads;
    each = (each + SLICE_ALIGNMENT - 1) / SLICE_ALIGNMENT * SLICE_ALIGNMENT;
    size_t first = 0;
    for (int i = 0; i < slices->threads; i++) {
        size_t left = slices->count - first;
        parts[i] = (struct slice){slices, first, left < each ? left : each, calls};
        first += parts[i].count;
    }
    CHECK(first == slices->count);
    for (int i = 1; i < slices->threads; i++)
        started[i] = pthread_create(&threads[i], NULL, slice_main, &parts[i]) == 0;
    for (int i = 0; i < slices->threads; i++)
        if (!started[i])
            slice_main(&parts[i]);
    for (int i = 1; i < slices->threads; i++)
        if (started[i])
            CHECK(pthread_join(threads[i], NULL) == 0);
}

void bench_fill(float *values, size_t count, uint64_t seed, float scale) {
    for (size_t i = 0; i < count; i++)
        values[i] = (2 * rng_uniform(seed, 0, i) - 1) * scale;
}
