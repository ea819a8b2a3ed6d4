/* mean: the rules that make one outer gradient D of the decoded contributions q_i with their weights w_i, in a given order, so that
 * whoever combines the same contributions in the same order holds the same bytes.
 *
 *   mean      acc = 0;  for i in order: acc = acc + (float)w_i * q_i;  D = acc * (float)(1.0 / sum w_i)
 *   clipped   the same with ((float)w_i * s_i) in place of (float)w_i, s_i = (float)(M / |q_i|) where |q_i| > M, else 1. M is the round's
 *             weighted median norm: the smallest norm such that contributions of at most that norm have half of all tokens or more.
 *             So |D| <= M but for rounding, and M is a norm of a sound contribution while the sound ones have more than half of the
 *             tokens. A round whose norms are all equal gives the bytes of the mean.
 *             Source: arXiv 2012.10333 (Karimireddy, He, Jaggi 2021), centered clipping, v + mean of (q_i - v) min(1, radius / |q_i - v|).
 *             Ours is that with v = 0 and one pass: clipping around zero, not around the last aggregate, for which their workers
 *             send momentum; our outer optimizer has its own. Their radius is a constant to be tuned, ours the round's median.
 *   trimmed   per coordinate: the k largest and the k smallest of n values drop out, D = (sum w_i q_i) / (sum w_i) over the others, in
 *             order. k = max(1, n / 4) for n >= 3, which makes a median of 3; two or one are averaged by the rule `mean`. With at most k
 *             unsound contributions, D lies between the smallest and the largest sound value of each coordinate.
 *             Equal values (codes of few bits are often equal): the one of fewer tokens counts as the smaller, then the earlier one,
 *             so that which ones drop out does not depend on the order but where value and tokens are equal.
 *             Source: arXiv 1803.01498 (Yin, Chen, Ramchandran, Bartlett 2018), definition 2, with beta = k / n. Theirs has no weights.
 *             A coordinate in which few of the islands moved loses exactly these moves, and nobody sends them again.
 *
 * All three trust the tokens that a contribution names: they are made against broken islands, not against one that lies about its work.
 *
 * mean and clipped: each operation is rounded once to f32, nearest even, no contraction. (float)w_i rounds token counts above 2^24; the
 * sum of weights stays an integer, its reciprocal is taken in double and rounded once. Norms and trimmed: double, the result rounded to
 * f32. + - * / sqrt only: bit-identical on every machine. All arrays are in the caller's memory, any alignment, not overlapping, values
 * finite. No allocation. */
#ifndef ATOLL_OUTER_MEAN_H
#define ATOLL_OUTER_MEAN_H

#include <stddef.h>
#include <stdint.h>
#include "comms/message.h"

/* acc (count,) = 0. */
void mean_begin(float *acc, size_t count);

/* (float)tokens * scale: what a contribution weighs in acc += weight * q, the codec's decode_add. One of no tokens leaves finite sums as they
 * are; scale in [0, 1], 1 for the plain mean (exactly). */
float mean_weight(uint64_t tokens, float scale);

/* acc becomes the mean, in place. CHECKs weight_sum > 0: a commit without contributions is our own bug. */
void mean_finish(float *acc, uint64_t weight_sum, size_t count);

/* mean_norm: the L2 norm of (count,), in this order: 16 sums of squares in double, sum j over the values i with i mod 16 == j, ascending;
 * then sum j += sum j + 8 for j < 8, the same with 4, 2 and 1; the root of sum 0. Neither overflows nor underflows. */
double mean_norm(const float *values, size_t count);

/* The same over values that come piece by piece: a zeroed struct, then mean_norm_add in their order. */
enum { MEAN_NORM_SUMS = 16 };
struct mean_norm {
    double sums[MEAN_NORM_SUMS];
    size_t count; /* values so far */
};
void mean_norm_add(struct mean_norm *norm, const float *values, size_t count);
double mean_norm_end(const struct mean_norm *norm);

/* M of the rule `clipped`, count >= 1. The same whatever the order. */
double mean_median_norm(const double *norms, const uint64_t *weights, int count);
/* s of the rule `clipped`: at most 1. */
float mean_clip_scale(double norm, double median_norm);

/* MEAN_PIECE: coordinates that mean_trim takes at a time; a multiple of every codec's block. */
enum { MEAN_PIECE = 256 };
/* Scratch of mean_trim: 128 KiB, however large the model. The caller fills `values`, a row per contribution. */
struct mean_trim {
    float values[MESSAGE_WORKERS_MAX][MEAN_PIECE];
    int32_t ranks[MESSAGE_WORKERS_MAX][MEAN_PIECE]; /* place of a value among those of its coordinate, 0 = smallest */
};

/* How many of n contributions drop out on each side of a coordinate: k above, 0 for n < 3. */
int mean_trim_each_side(int n);

/* mean_trim: D (count,) of n >= 3 rows of trim->values, count <= MEAN_PIECE. Cost: n (n - 1) / 2 comparisons per coordinate. CHECKs that
 * all weights are at least 1: the round refuses others. */
void mean_trim(struct mean_trim *trim, const uint64_t *weights, int n, size_t count, float *mean);

#endif
