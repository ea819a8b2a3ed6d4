/* mix: the linear passes between local parameters and outer copy, on the critical path of training: what a worker did since, at a send, and how
 * a new outer fragment enters, at a merge.
 * Source: arXiv 2501.18512, equation of the merge (alpha = keep_local). Arrays are (count,) f32 in the caller's memory, not overlapping;
 * for a fragment in a block, call once per span. No allocation. */
#ifndef ATOLL_OUTER_MIX_H
#define ATOLL_OUTER_MIX_H

#include <stddef.h>

/* mix_difference: what this worker would have the outer do.   difference = g - theta, rounded to f32 */
void mix_difference(const float *g, const float *theta, float *difference, size_t count);

/* mix_counted: the commit counts this worker's contribution.
 *   take = 1 - alpha, once, in f32;   theta = (alpha * theta) + (take * g_new), each operation rounded to f32
 * alpha in [0, 1]. alpha 0 gives g_new, 1 leaves theta (both exactly, for finite values; -0 may become 0). */
void mix_counted(float *theta, const float *g_new, float alpha, size_t count);

/* mix_far: the same after an absence: the new fragment is far from the one that theta was measured from, and theta must not stay half behind.
 *   theta = g_new + (alpha * (theta - g_old)), each operation rounded to f32: alpha of the local difference is kept, as there */
void mix_far(float *theta, const float *g_new, const float *g_old, float alpha, size_t count);

/* mix_shift: a commit that does not count this worker moves the ground under it; unsent work, g - theta, stays.
 *   theta = theta + (g_new - g_old), each operation rounded to f32 */
void mix_shift(float *theta, const float *g_new, const float *g_old, size_t count);

#endif
