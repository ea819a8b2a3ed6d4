/* residual: what remains of a send once it has counted. */
#include "quant/residual.h"

#include "base/vector.h"

HOT_LOOP void residual_settle(float *residual, const float *pending, float keep, size_t count) {
#pragma GCC ivdep
    for (size_t i = 0; i < count; i++)
        residual[i] = keep * pending[i];
}
