/* mix: the passes over local parameters and outer copy. */
#include "outer/mix.h"

#include "base/vector.h"

enum { ASKED_AT_ONCE = 128 };

HOT_LOOP void mix_difference(const float *restrict g, const float *restrict theta, float *restrict difference,
                             size_t count) {
    size_t at = 0;
    for (; count - at >= ASKED_AT_ONCE; at += ASKED_AT_ONCE) {
        vector_prefetch(g + at, ASKED_AT_ONCE * sizeof *g);
        vector_prefetch(theta + at, ASKED_AT_ONCE * sizeof *theta);
        for (size_t i = at; i < at + ASKED_AT_ONCE; i++)
            difference[i] = g[i] - theta[i];
    }
    for (; at < count; at++)
        difference[at] = g[at] - theta[at];
}

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
