/* mean: the token-weighted mean of decoded contributions, in a given order, so that whoever sums the same contributions in the same
 * order holds the same bytes.
 *
 *   acc = 0;   for i in order: acc = acc + (float)w_i * q_i;   D = acc * (float)(1.0 / sum w_i)
 *
 * Each operation is rounded once to f32, nearest even, no contraction: bit-identical on every machine. (float)w_i rounds token counts
 * above 2^24; the sum of weights stays an integer, its reciprocal is taken in double and rounded once. All arrays are packed (count,)
 * f32 in the caller's memory, any alignment, not overlapping. No allocation; each call is one linear pass. */
#ifndef ATOLL_OUTER_MEAN_H
#define ATOLL_OUTER_MEAN_H

#include <stddef.h>
#include <stdint.h>

/* acc (count,) = 0. */
void mean_begin(float *acc, size_t count);

/* acc += (float)weight * decoded. weight in tokens; a contribution of no tokens leaves finite sums as they are. */
void mean_add(float *acc, const float *decoded, uint64_t weight, size_t count);

/* acc becomes the mean, in place. CHECKs weight_sum > 0: a commit without contributions is our own bug. */
void mean_finish(float *acc, uint64_t weight_sum, size_t count);

#endif
