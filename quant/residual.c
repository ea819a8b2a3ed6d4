/* residual: the three linear passes of error feedback. */
#include "quant/residual.h"

#include "base/vector.h"

HOT_LOOP void residual_add(float *restrict difference, const float *restrict residual, size_t count) {
    for (size_t i = 0; i < count; i++)
        difference[i] += residual[i];
}

/* ivdep: pending may be x itself, never x shifted. */
HOT_LOOP void residual_left_out(const float *x, const float *decoded, float *pending, size_t count) {
#pragma GCC ivdep
    for (size_t i = 0; i < count; i++)
        pending[i] = x[i] - decoded[i];
}

HOT_LOOP void residual_settle(float *residual, const float *pending, float keep, size_t count) {
#pragma GCC ivdep
    for (size_t i = 0; i < count; i++)
        residual[i] = keep * pending[i];
}
