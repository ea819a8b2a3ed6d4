/* residual: error feedback. What a lossy send left out is added to the next one.
 *   x = difference + e;  payload = Q(x);  e' = x - decode(payload)          one pass: the codec's encode_fed
 * and once the send is known to have counted, e = keep * e' where keep = 1 on the outer's way down and (1 - alpha) on a worker's
 * way up, whose merge kept alpha of the difference in the local copy. Works with every codec; knows none. Of an exact codec e' is always zero: there is nothing to keep.
 * Measured on experiments/islands.yaml (four islands, alpha 0.5, seed 1): held-out 1.40909 nats with keep = 1 - alpha, 1.40967 with the
 * unscaled keep = 1: the scaled form wins, by less than seeds differ (1.403 to 1.409).
 * All arrays are packed (count,) f32. + - * only: bit-identical everywhere. */
#ifndef ATOLL_QUANT_RESIDUAL_H
#define ATOLL_QUANT_RESIDUAL_H

#include <stddef.h>

/* residual = keep * pending. */
void residual_settle(float *residual, const float *pending, float keep, size_t count);

#endif
