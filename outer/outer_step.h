/* outer_step: the outer optimizer, applied by the outer and by every worker to its own copy, with the same bytes as result.
 * Source: arXiv 2311.08105 (DiLoCo), algorithm 1; Nesterov as PyTorch's SGD(nesterov=True, dampening=0).
 *
 *   D      decoded mean outer gradient (points from the new local parameters to the old outer ones: g falls along D)
 *   sgd        g' = g - lr * D                        u stays as it is
 *   momentum   u' = mu * u + D;   g' = g - lr * u'
 *   nesterov   u' = mu * u + D;   g' = g - lr * (D + mu * u')
 *
 * Every product, sum and difference is rounded once to f32, nearest even, no contraction, subnormals kept: bit-identical on every
 * machine whose float_environment_check passes. */
#ifndef ATOLL_OUTER_OUTER_STEP_H
#define ATOLL_OUTER_OUTER_STEP_H

#include <stddef.h>
#include "base/status.h"

enum outer_optimizer_kind { OUTER_SGD, OUTER_MOMENTUM, OUTER_NESTEROV };

struct outer_optimizer {
    enum outer_optimizer_kind kind;
    float lr;
    float momentum; /* mu; ignored by OUTER_SGD */
};

/* outer_step_apply: g (count,), delta (count,) borrowed; u (count,) updated in place; g_next (count,) the new outer copy. g_next may be
 * g itself, no other overlap. So a worker can prepare the next version aside and keep the old one until the merge. One pass, no
 * allocation. For a fragment in a block, call once per span. */
void outer_step_apply(const struct outer_optimizer *optimizer, const float *g, float *u, const float *delta,
                      float *g_next, size_t count);

/* float_environment_check: that this thread's arithmetic is the one all replicas share: nearest-even rounding, subnormals neither flushed
 * (FTZ) nor read as zero (DAZ), no extended precision, no fused multiply-add in outer_step_apply. Control registers belong to a
 * thread: call once in every thread that works on shared state. STATUS_CONFIG (do not join a run); the text says which rule is
 * broken and where it usually comes from. */
MUST_USE enum status float_environment_check(struct error *error);

#endif
