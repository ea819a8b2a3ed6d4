/* bench_measure: the timing core of `atoll bench`. Cases that are to be compared run in turn, round after round, so that whatever else the
 * machine does falls on all of them alike: a share is the median of the rounds' own quotients, not a quotient of medians.
 *
 *     round 0   | step |  product 1 |  product 2 | ...
 *     round 1   | step |  product 1 |  product 2 | ...      each slice: as many calls as fill slice_ns, at least one
 *
 * Time is CLOCK_MONOTONIC: a process that does not get its cores measures that, too. Knows nothing of what it times. */
#ifndef ATOLL_EXPERIMENTS_BENCH_MEASURE_H
#define ATOLL_EXPERIMENTS_BENCH_MEASURE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_REPEATS_MAX = 99, BENCH_THREADS_MAX = 64 };

struct bench_effort {
    int repeats; /* rounds, 1..BENCH_REPEATS_MAX */
    uint64_t slice_ns;
};

struct bench_case {
    void (*run)(void *context, uint64_t calls); /* does its work `calls` times */
    void *context;
    bool warm; /* one call before each slice that is not timed: what the other cases pushed out of the caches is back */
    uint64_t calls;                    /* of a slice; set by bench_calibrate */
    double seconds[BENCH_REPEATS_MAX]; /* per call, one value a round */
};

/* bench_calibrate: one call to warm up, then the number of calls that fill a slice. */
void bench_calibrate(struct bench_case *cases, int count, const struct bench_effort *effort);

/* One round: each case's slice, in order; fills seconds[round]. */
void bench_round(struct bench_case *cases, int count, int round);

/* Both, with all rounds. */
void bench_measure(struct bench_case *cases, int count, const struct bench_effort *effort);

/* Of count >= 1 values; the median of an even number is the mean of the middle two. */
struct bench_summary {
    double median, min, max;
};
struct bench_summary bench_summarize(const double *values, int count);

/* work / seconds of each round. */
struct bench_summary bench_rate(const struct bench_case *timed, int repeats, double work);

/* How much of the limit's rate the timed case reaches: (work / seconds) / (limit_work / limit seconds) of each round. */
struct bench_summary bench_share(const struct bench_case *timed, double work, const struct bench_case *limit,
                                 double limit_work, int repeats);

/* {"median", "min", "max"}; new reference. Values that are not finite are null. */
json_t *bench_summary_json(struct bench_summary summary);

/* bench_slices: work on `count` elements cut into one slice per thread. bench_run_slices is such a case's run, its context the slices: each
 * thread begins once and does its slice `calls` times. Slices begin at multiples of 16 elements; the first is the calling thread's. A
 * thread that cannot be started leaves its slice to the calling thread. */
struct bench_slices {
    int threads; /* 1..BENCH_THREADS_MAX */
    size_t count;
    void (*run)(void *context, size_t first, size_t count, uint64_t calls);
    void *context;
};
void bench_run_slices(void *slices, uint64_t calls);

/* values (count,) set: uniform in [-scale, scale), the same for one seed. */
void bench_fill(float *values, size_t count, uint64_t seed, float scale);

#endif
