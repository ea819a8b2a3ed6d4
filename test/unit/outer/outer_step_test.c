/* outer_step: the exact order of operations, and that a flushing or oddly rounding thread is found out. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fenv.h>
#include <float.h>
#include <string.h>
#include "base/rng.h"
#include "outer/outer_step.h"

enum { COUNT = 1003, STEPS = 3 };

static void scalar_step(const struct outer_optimizer *o, float *g, float *u, float d) {
    volatile float velocity = *u, direction = d, product;
    if (o->kind != OUTER_SGD) {
        product = o->momentum * velocity;
        velocity = product + d;
        *u = velocity;
        direction = velocity;
    }
    if (o->kind == OUTER_NESTEROV) {
        product = o->momentum * velocity;
        direction = d + product;
    }
    product = o->lr * direction;
    *g = *g - product;
}

static void equals_the_scalar_definition(void **state) {
    (void)state;
    for (int kind = OUTER_SGD; kind <= OUTER_NESTEROV; kind++) {
        const struct outer_optimizer optimizer = {(enum outer_optimizer_kind)kind, 0.4f, 0.9f};
        static float g[COUNT], u[COUNT], delta[COUNT], next[COUNT + 1], expected_g[COUNT], expected_u[COUNT];
        for (int i = 0; i < COUNT; i++) {
            g[i] = expected_g[i] = 0.02f * rng_normal(1, 0, (uint64_t)i);
            u[i] = expected_u[i] =
                i % 3 ? 0.001f * rng_normal(1, 1, (uint64_t)i) : FLT_MIN * 1.5f; /* decays to subnormal */
        }
        next[COUNT] = 42;
        for (int step = 0; step < STEPS; step++) {
            for (int i = 0; i < COUNT; i++) {
                delta[i] = i % 3 ? 0.001f * rng_normal(2, (uint64_t)step, (uint64_t)i) : 0;
                scalar_step(&optimizer, &expected_g[i], &expected_u[i], delta[i]);
            }
            float before[4];
            memcpy(before, g, sizeof before);
            outer_step_apply(&optimizer, g, u, delta, next, COUNT);
            assert_memory_equal(before, g, sizeof before); /* the old version stays */
            assert_memory_equal(next, expected_g, sizeof expected_g);
            assert_memory_equal(u, expected_u, sizeof expected_u);
            memcpy(g, next, sizeof g);
        }
        assert_true(next[COUNT] == 42);
    }
}

static void in_place_equals_aside(void **state) {
    (void)state;
    for (int kind = OUTER_SGD; kind <= OUTER_NESTEROV; kind++)
        for (size_t count = 0; count < 70; count++) {
            const struct outer_optimizer optimizer = {(enum outer_optimizer_kind)kind, 0.7f, 0.9f};
            float g[70], u[70], u_aside[70], delta[70], next[70];
            for (int i = 0; i < 70; i++) {
                g[i] = rng_normal(1, 0, (uint64_t)i);
                u[i] = u_aside[i] = rng_normal(1, 1, (uint64_t)i);
                delta[i] = rng_normal(1, 2, (uint64_t)i);
            }
            memcpy(next, g, sizeof g);
            outer_step_apply(&optimizer, g, u_aside, delta, next, count);
            outer_step_apply(&optimizer, g, u, delta, g, count);
            assert_memory_equal(g, next, sizeof g);
            assert_memory_equal(u, u_aside, sizeof u);
        }
}

/* Bits written down, computed apart in Python doubles rounded to f32 after each step (exact: a double holds any f32 product, and
 * rounding a double sum of two f32 again to f32 is innocent). */
static void golden_bits(void **state) {
    (void)state;
    static const uint32_t golden[3][4] = {{0x3e961e50, 0xbfea7efa, 0x3c23d70a, 0xbe4ccccd},
                                          {0x3e944674, 0xbfe147af, 0x3cd4fdf4, 0x3e19999b},
                                          {0x3e91537a, 0xbff16873, 0x3cd4fdf4, 0x3e19999b}};
    for (int kind = OUTER_SGD; kind <= OUTER_NESTEROV; kind++) {
        const struct outer_optimizer optimizer = {(enum outer_optimizer_kind)kind, 0.4f, 0.9f};
        float g[2] = {0.3f, -1.7f}, u[2] = {0.01f, -0.2f};
        static const float delta[2] = {0.017f, 0.33f};
        float both[4];
        outer_step_apply(&optimizer, g, u, delta, g, 2);
        memcpy(both, g, sizeof g);
        memcpy(both + 2, u, sizeof u);
        assert_memory_equal(both, golden[kind], sizeof both);
    }
}

/* After many equal steps momentum moves lr * D / (1 - mu) a step; g falls along D. */
static void steady_state(void **state) {
    (void)state;
    for (int kind = OUTER_MOMENTUM; kind <= OUTER_NESTEROV; kind++) {
        const struct outer_optimizer optimizer = {(enum outer_optimizer_kind)kind, 0.5f, 0.5f};
        float g = 0, u = 0, next = 0, delta = 1;
        for (int step = 0; step < 60; step++) {
            g = next;
            outer_step_apply(&optimizer, &g, &u, &delta, &next, 1);
        }
        assert_true(u == 2 && g - next == 1);
    }
}

static void the_environment_is_right(void **state) {
    (void)state;
    struct error error;
    assert_int_equal(float_environment_check(&error), STATUS_OK);
}

static void other_rounding_is_found(void **state) {
    (void)state;
    static const int modes[3] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    for (int i = 0; i < 3; i++) {
        struct error error;
        fesetround(modes[i]);
        enum status status = float_environment_check(&error);
        fesetround(FE_TONEAREST);
        assert_int_equal(status, STATUS_CONFIG);
        assert_non_null(strstr(error.text, "expected rounding to nearest, ties to even"));
        assert_non_null(strstr(error.text, "fesetround"));
    }
}

#ifdef __SSE2__
static void flushing_is_found(void **state) {
    (void)state;
    static const struct {
        unsigned bits;
        const char *text;
    } cases[] = {{1u << 15, "no flush to zero"}, {1u << 6, "no denormals-are-zero"}, {1u << 15 | 1u << 6, "subnormal"}};
    for (int i = 0; i < 3; i++) {
        struct error error;
        unsigned saved = __builtin_ia32_stmxcsr();
        __builtin_ia32_ldmxcsr(saved | cases[i].bits);
        enum status status = float_environment_check(&error);
        __builtin_ia32_ldmxcsr(saved);
        assert_int_equal(status, STATUS_CONFIG);
        assert_non_null(strstr(error.text, cases[i].text));
        assert_non_null(strstr(error.text, "-ffast-math"));
    }
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_scalar_definition),
        cmocka_unit_test(in_place_equals_aside),
        cmocka_unit_test(golden_bits),
        cmocka_unit_test(steady_state),
        cmocka_unit_test(the_environment_is_right),
        cmocka_unit_test(other_rounding_is_found),
#ifdef __SSE2__
        cmocka_unit_test(flushing_is_found),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
