/* mean: three linear passes, see mean.h. The order of contributions is the caller's; it is recorded in the commit. */
#include "outer/mean.h"

#include <string.h>
#include "base/check.h"
#include "base/vector.h"

void mean_begin(float *acc, size_t count) {
    memset(acc, 0, count * sizeof *acc);
}

HOT_LOOP void mean_add(float *restrict acc, const float *restrict decoded, uint64_t weight, size_t count) {
    const float w = (float)weight;
    for (size_t i = 0; i < count; i++)
        acc[i] = acc[i] + w * decoded[i];
}

HOT_LOOP void mean_finish(float *restrict acc, uint64_t weight_sum, size_t count) {
    CHECK(weight_sum > 0);
    const float inverse = (float)(1.0 / (double)weight_sum);
    for (size_t i = 0; i < count; i++)
        acc[i] = acc[i] * inverse;
}
