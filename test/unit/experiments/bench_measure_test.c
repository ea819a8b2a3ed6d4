/* Medians, quotients and slices; how often and in what order cases run. Times are made up: no clock is judged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include "experiments/bench_measure.h"

static void assert_summary(struct bench_summary found, double median, double min, double max) {
    assert_float_equal(found.median, median, 1e-12);
    assert_float_equal(found.min, min, 1e-12);
    assert_float_equal(found.max, max, 1e-12);
}

static void medians(void **state) {
    (void)state;
    const double odd[] = {5, 1, 9, 3, 7}, even[] = {4, 1, 3, 2}, one[] = {6};
    assert_summary(bench_summarize(odd, 5), 5, 1, 9);
    assert_summary(bench_summarize(even, 4), 2.5, 1, 4);
    assert_summary(bench_summarize(one, 1), 6, 6, 6);
    assert_true(odd[0] == 5 && odd[4] == 7); /* the caller's order stays */
}

static void most_values(void **state) {
    (void)state;
    double values[BENCH_REPEATS_MAX];
    for (int i = 0; i < BENCH_REPEATS_MAX; i++)
        values[i] = (i * 37) % BENCH_REPEATS_MAX;
    assert_summary(bench_summarize(values, BENCH_REPEATS_MAX), 49, 0, 98);
}

/* Round by round: the machine is twice as slow in the second round, for both, and the share stays one half. */
static void shares_are_paired(void **state) {
    (void)state;
    struct bench_case timed = {.seconds = {2, 4, 6}}, limit = {.seconds = {1, 2, 3}};
    assert_summary(bench_rate(&timed, 3, 12), 3, 2, 6);
    assert_summary(bench_share(&timed, 10, &limit, 10, 3), 0.5, 0.5, 0.5);
    assert_summary(bench_share(&timed, 30, &limit, 10, 3), 1.5, 1.5, 1.5);
}

static void json_of_summaries(void **state) {
    (void)state;
    json_t *json = bench_summary_json((struct bench_summary){.median = 1.5, .min = 1, .max = INFINITY});
    assert_float_equal(json_number_value(json_object_get(json, "median")), 1.5, 0);
    assert_float_equal(json_number_value(json_object_get(json, "min")), 1, 0);
    assert_true(json_is_null(json_object_get(json, "max")));
    json_decref(json);
}

/* ---- rounds ---- */

static char trace[256];
static size_t trace_length;

static void run_traced(void *context, uint64_t calls) {
    for (uint64_t i = 0; i < calls && trace_length + 1 < sizeof trace; i++)
        trace[trace_length++] = *(const char *)context;
}

static void rounds_take_turns(void **state) {
    (void)state;
    static char a = 'a', b = 'b';
    struct bench_case cases[] = {{.run = run_traced, .context = &a, .calls = 2},
                                 {.run = run_traced, .context = &b, .calls = 1, .warm = true}};
    memset(trace, 0, sizeof trace);
    trace_length = 0;
    for (int round = 0; round < 2; round++)
        bench_round(cases, 2, round);
    assert_string_equal(trace, "aabbaabb"); /* b: one call to warm up, one timed */
    for (int i = 0; i < 2; i++)
        assert_true(cases[i].seconds[0] >= 0 && cases[i].seconds[1] >= 0);
}

static void count_calls(void *context, uint64_t calls) {
    *(uint64_t *)context += calls;
}

/* Nothing is as short as nothing: calibration still ends, at a bounded number of calls. */
static void calibration_is_bounded(void **state) {
    (void)state;
    uint64_t calls = 0;
    struct bench_case timed = {.run = count_calls, .context = &calls};
    struct bench_effort effort = {.repeats = 1, .slice_ns = 1000000000000};
    bench_calibrate(&timed, 1, &effort);
    assert_in_range(timed.calls, 1, 1000000);
    assert_in_range(calls, 1, 4000000);
    effort.slice_ns = 0; /* any time fills it */
    bench_calibrate(&timed, 1, &effort);
    assert_int_equal(timed.calls, 1);
}

/* ---- slices ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t touched[4096];
static uint64_t calls_seen;

static void touch(void *context, size_t first, size_t count, uint64_t calls) {
    (void)context;
    assert_int_equal(first % 16, 0);
    pthread_mutex_lock(&lock);
    for (size_t i = first; i < first + count; i++)
        touched[i]++;
    calls_seen += calls;
    pthread_mutex_unlock(&lock);
}

static void slices_cover_everything_once(void **state) {
    (void)state;
    static const size_t counts[] = {1, 15, 16, 17, 33, 1600, 4095, 4096};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (int threads = 1; threads <= 9; threads++) {
            struct bench_slices slices = {.threads = threads, .count = counts[c], .run = touch};
            memset(touched, 0, sizeof touched);
            calls_seen = 0;
            bench_run_slices(&slices, 3);
            for (size_t i = 0; i < sizeof touched; i++)
                assert_int_equal(touched[i], i < counts[c] ? 1 : 0);
            size_t busy = (counts[c] + 15) / 16 < (size_t)threads ? (counts[c] + 15) / 16 : (size_t)threads;
            assert_in_range(calls_seen, 3, 3 * busy);
        }
}

static void numbers_to_compute_on(void **state) {
    (void)state;
    float a[100], b[100], sum = 0;
    bench_fill(a, 100, 5, 0.5F);
    bench_fill(b, 100, 5, 0.5F);
    assert_memory_equal(a, b, sizeof a);
    for (int i = 0; i < 100; i++) {
        assert_true(a[i] >= -0.5F && a[i] < 0.5F);
        sum += a[i];
    }
    assert_true(fabsf(sum) < 15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians),
        cmocka_unit_test(most_values),
        cmocka_unit_test(shares_are_paired),
        cmocka_unit_test(json_of_summaries),
        cmocka_unit_test(rounds_take_turns),
        cmocka_unit_test(calibration_is_bounded),
        cmocka_unit_test(slices_cover_everything_once),
        cmocka_unit_test(numbers_to_compute_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
