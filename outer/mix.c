/* mix: the two merge passes. */
#include "outer/mix.h"

#include "base/vector.h"

HOT_LOOP void mix_counted(float *restrict theta, const float *restrict g_new, float alpha, size_t count) {
    const float take = 1.0f - alpha;
    for (size_t i = 0; i < count; i++)
        theta[i] = alpha * theta[i] + take * g_new[i];
}

HOT_LOOP void mix_far(float *restrict theta, const float *restrict g_new, const float *restrict g_old, float alpha,
                      size_t count) {
    for (size_t i = 0; i < count; i++)
        theta[i] = g_new[i] + alpha * (theta[i] - g_old[i]);
}

HOT_LOOP void mix_shift(float *restrict theta, const float *restrict g_new, const float *restrict g_old, size_t count) {
    for (size_t i = 0; i < count; i++)
        theta[i] = theta[i] + (g_new[i] - g_old[i]);
}
