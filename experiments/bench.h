/* bench: `atoll bench NAME`, what this machine does, each figure beside its limit, measured in the same run. One file per part
 * (bench_step.c, ...), each with a measurement that makes JSON and a table that is printed from that JSON: the same numbers for
 * people and for programs.
 *
 *   memory  what a training step takes, beside its prediction, and what it costs to keep less (model.recompute)
 *   gemm    the matrix products of a training step, alone: the rate that `step` is measured against
 *   ops     the passes between them, one thread: against memory; attention against the products
 *   step    a whole training step: tokens/s, share of the product rate, time per part
 *   codec   encode and decode, one thread: against memory; bytes per parameter against the formula
 *   outer   the outer step and the state hash: against memory
 *   sync    CPU time of a sync, real processes over CURVE: against a bare transfer of the same bytes
 *
 * Rates are medians of the rounds with minimum and maximum; shares are medians of the rounds' own quotients (bench_measure.h).
 *
 * The JSON: {"schema", "complete" (false: cut short), "bench", "size", "threads", "repeats", "machine", "warnings"} and a list per part, one
 * entry a size (of `gemm`: and precision; of `step`: and thread count). Below, S is {"median", "min", "max"}; a share is a part of 1; GB are 10^9 bytes.
 *
 *   memory[] size, threads, ways[]: recompute, state_bytes, activation_bytes, product_bytes, predicted_bytes (their sum), peak_bytes (what the
 *            process grew by), share (peak / predicted), activation_share (of none's), steps_per_s S, speed_share S (of none's)
 *   gemm[]   size, precision ("f32", "bf16"), threads[], gflops[] S and products[].gflops[] S per thread count, scaling (last / first thread count)
 *            products[]: product, add (to what is there), rows, inputs, outputs, per_step (how often a step has it)
 *   ops[]    size, threads, ops[]: op, rows, columns, unit, rate S, limit (what it is), limit_rate S, share S
 *   step[]   size, precision, threads, parameters, tokens_per_step, flops_per_step, ms S, tokens_per_s S, gflops S, product_gflops S, share S,
 *            scaling_share (tokens/s over those of one thread times the products' scaling; null for one thread),
 *            speedup (tokens/s over those in f32 on as many threads, of the same report; null for f32, or without it),
 *            parts_sum_share S (of the step's time), clock_share (what reading the clock for the parts costs)
 *            parts[]: part, ms S (of one thread: the mean), share_of_step S; of products and attention: gflops S, share_of_products S (of their rate), else null;
 *            alone_ms S of the part's own products, else null
 *   codec[]  size, threads, parameters, codecs[]: codec, bytes_per_parameter, formula_bytes_per_parameter,
 *            operations[]: operation, gb_per_s S (of 4 bytes per parameter), limit, limit_gb_per_s S, share S (of all bytes moved)
 *   outer[]  size, parameters, nesterov[] per thread count and state_hash: threads, gb_per_s S, limit, limit_gb_per_s S, share S
 *   sync[]   size ("given": --parameters), parameters, workers, codec_up, codec_down, fragments, up_bytes and down_bytes (of a round and
 *            worker), chunk_bytes, worker and outer and node (the mean of all nodes): {cpu_ns S, bare_ns S, beyond_ns S} per parameter and
 *            round, beyond = cpu - bare - state hash; state_hash_ns S, seconds S of a round, gb_per_s S (all bytes of all workers),
 *            bare_gb_per_s S, outer_peak_bytes, outer_bound_bytes (as `atoll check` says) */
#ifndef ATOLL_EXPERIMENTS_BENCH_H
#define ATOLL_EXPERIMENTS_BENCH_H

#include <jansson.h>
#include <stdio.h>
#include "base/options.h"
#include "experiments/bench_measure.h"
#include "experiments/bench_sizes.h"

int bench_command(int argc, char **argv);

enum bench_precision { BENCH_PRECISION_F32, BENCH_PRECISION_BF16, BENCH_PRECISION_BOTH };

/* Of sync alone. */
struct bench_sync_plan {
    int64_t workers;
    const char *codec;      /* both ways */
    uint64_t parameters;    /* a model of nearly so many instead of `size`; 0 = of `size` */
    struct option_list set; /* keys of the run file, over all else but the schedule */
};

struct bench_plan {
    enum bench_size size;
    int threads;                    /* the most; memory, gemm, step and outer also measure 1 */
    enum bench_precision precision; /* of gemm's and step's products */
    struct bench_effort effort;
    struct bench_sync_plan sync;
};

/* Each measures one size and returns a new reference in *result. STATUS_NO_MEMORY, STATUS_DATA (a result is wrong: it is not worth
 * timing), STATUS_NOT_FINITE: the text says what. Says on stderr what it is at. */
MUST_USE enum status bench_memory(const struct bench_plan *plan, json_t **result, struct error *error);
MUST_USE enum status bench_gemm(const struct bench_plan *plan, json_t **result, struct error *error);
MUST_USE enum status bench_ops(const struct bench_plan *plan, json_t **result, struct error *error);
MUST_USE enum status bench_step(const struct bench_plan *plan, json_t **result, struct error *error);
MUST_USE enum status bench_codec(const struct bench_plan *plan, json_t **result, struct error *error);
MUST_USE enum status bench_outer(const struct bench_plan *plan, json_t **result, struct error *error);
/* Starts processes; also STATUS_IO, STATUS_CONFIG (--set). */
MUST_USE enum status bench_sync(const struct bench_plan *plan, json_t **result, struct error *error);

/* The table of one result. */
void bench_memory_print(const json_t *result, FILE *to);
void bench_gemm_print(const json_t *result, FILE *to);
void bench_ops_print(const json_t *result, FILE *to);
void bench_step_print(const json_t *result, FILE *to);
void bench_codec_print(const json_t *result, FILE *to);
void bench_outer_print(const json_t *result, FILE *to);
void bench_sync_print(const json_t *result, FILE *to);

/* ---- what the parts share ---- */

/* The thread counts of a plan: 1, and plan->threads when that is more. Returns how many. */
enum { BENCH_THREAD_COUNTS = 2 };
int bench_thread_counts(const struct bench_plan *plan, int counts[BENCH_THREAD_COUNTS]);

/* The precisions of a plan, f32 first. Returns how many. */
enum { BENCH_PRECISIONS = 2 };
int bench_precisions(const struct bench_plan *plan, enum inner_precision precisions[BENCH_PRECISIONS]);

/* "f32", "bf16"; static text. */
const char *bench_precision_name(enum inner_precision precision);

/* {"median", "min", "max"} times `scale`: "123.4 (120.1..125.0)" into text; "-" when there is none. Returns text. */
enum { BENCH_TEXT_BYTES = 64 };
char *bench_spread_text(const json_t *summary, double scale, char text[BENCH_TEXT_BYTES]);

/* Its median times `scale`; NaN when there is none. */
double bench_median(const json_t *summary, double scale);

/* One line on stderr, for who waits. */
void bench_say(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
