/* outer_step: the leaf loops of the outer optimizers, and the check that this machine computes like the others. */
#include "outer/outer_step.h"

#include <float.h>
#include "base/check.h"
#include "base/vector.h"

#if FLT_EVAL_METHOD != 0
#error "f32 operations must round to f32: build for SSE2 or better, not for x87"
#endif

/* ivdep: g_next may be g itself, never g shifted. */

HOT_LOOP static void apply_sgd(float lr, const float *g, const float *delta, float *g_next, size_t count) {
#pragma GCC ivdep
    for (size_t i = 0; i < count; i++)
        g_next[i] = g[i] - lr * delta[i];
}

HOT_LOOP static void apply_momentum(float lr, float mu, const float *g, float *u, const float *delta, float *g_next,
                                    size_t count) {
#pragma GCC ivdep
    for (size_t i = 0; i < count; i++) {
        float velocity = mu * u[i] + delta[i];
        u[i] = velocity;
        g_next[i] = g[i] - lr * velocity;
    }
}

HOT_LOOP static void apply_nesterov(float lr, float mu, const float *g, float *u, const float *delta, float *g_next,
                                    size_t count) {
#pragma GCC ivdep
    for (size_t i = 0; i < count; i++) {
        float velocity = mu * u[i] + delta[i];
        u[i] = velocity;
        g_next[i] = g[i] - lr * (delta[i] + mu * velocity);
    }
}

void outer_step_apply(const struct outer_optimizer *optimizer, const float *g, float *u, const float *delta,
                      float *g_next, size_t count) {
    switch (optimizer->kind) {
    case OUTER_SGD:
        apply_sgd(optimizer->lr, g, delta, g_next, count);
        return;
    case OUTER_MOMENTUM:
        apply_momentum(optimizer->lr, optimizer->momentum, g, u, delta, g_next, count);
        return;
    case OUTER_NESTEROV:
        apply_nesterov(optimizer->lr, optimizer->momentum, g, u, delta, g_next, count);
        return;
    }
    CHECK(!"outer_optimizer_kind");
}

static enum status broken(struct error *error, const char *rule, const char *cause) {
    return error_set(
        error, STATUS_CONFIG,
        "float environment: expected %s; this thread computes otherwise, and its outer copy would drift from the "
        "other nodes'. Usual cause: %s",
        rule, cause);
}

enum status float_environment_check(struct error *error) {
    static const char *const fast_math = "a library built with -ffast-math, or a thread that changed MXCSR or FPCR";
    volatile float one = 1.0f, half_ulp = 0x1p-24f, odd = 1.0f + 0x1p-23f;
    volatile float sum_even = one + half_ulp, sum_odd = odd + half_ulp;
    if (sum_even != 1.0f || sum_odd != 1.0f + 0x1p-22f)
        return broken(error, "rounding to nearest, ties to even", "fesetround in this thread");

    /* Only the bits tell a subnormal from a zero when comparisons read subnormals as zero: scale up by products instead. */
    volatile float smallest_normal = FLT_MIN, half = 0.5f, big = 0x1p100f;
    volatile float subnormal = smallest_normal * half;
    union {
        float value;
        unsigned bits;
    } flushed = {.value = subnormal};
    if (flushed.bits != 0x00400000u)
        return broken(error, "subnormal results kept (no flush to zero)", fast_math);
    union {
        unsigned bits;
        float value;
    } tiny = {.bits = 1};
    volatile float tiny_input = tiny.value;
    volatile float scaled = tiny_input * big;
    if (scaled != 0x1p-49f)
        return broken(error, "subnormal inputs read as they are (no denormals-are-zero)", fast_math);

    /* (1 + 2^-12)^2 - (1 + 2^-11) is 2^-24 when fused and 0 when the product is rounded first. 64 values reach every vector body. */
    enum { COUNT = 67 };
    float g[COUNT], u[COUNT], delta[COUNT];
    const struct outer_optimizer optimizer = {OUTER_NESTEROV, 1.0f + 0x1p-12f, 0.0f};
    for (int i = 0; i < COUNT; i++) {
        g[i] = 1.0f + 0x1p-11f;
        u[i] = 0;
        delta[i] = 1.0f + 0x1p-12f;
    }
    outer_step_apply(&optimizer, g, u, delta, g, COUNT);
    for (int i = 0; i < COUNT; i++)
        if (g[i] != 0)
            return broken(error, "products and sums rounded one by one (no fused multiply-add)",
                          "a build without -ffp-contract=off");
    return STATUS_OK;
}
