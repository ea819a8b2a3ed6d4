/* mean: the exact order of operations, against a scalar loop whose every step goes through memory. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <string.h>
#include "base/rng.h"
#include "outer/mean.h"

enum { COUNT = 1003, WORKERS = 5 };

static void equals_the_scalar_definition(void **state) {
    (void)state;
    static const uint64_t weights[WORKERS] = {4096, 1, 16777217, 123456789012345, 0};
    static float q[WORKERS][COUNT], acc[COUNT + 1];
    for (int w = 0; w < WORKERS; w++)
        for (int i = 0; i < COUNT; i++)
            q[w][i] = 1e-3f * rng_normal(1, (uint64_t)w, (uint64_t)i);
    q[0][7] = FLT_MIN / 8; /* subnormals count */
    q[1][7] = -FLT_MIN / 16;
    acc[COUNT] = 42;
    uint64_t sum = 0;
    mean_begin(acc, COUNT);
    for (int w = 0; w < WORKERS; w++) {
        mean_add(acc, q[w], weights[w], COUNT);
        sum += weights[w];
    }
    mean_finish(acc, sum, COUNT);
    for (int i = 0; i < COUNT; i++) {
        volatile float expected = 0;
        for (int w = 0; w < WORKERS; w++) {
            volatile float product = (float)weights[w] * q[w][i];
            expected = expected + product;
        }
        volatile float inverse = (float)(1.0 / (double)sum);
        expected = expected * inverse;
        float value = expected;
        assert_memory_equal(&acc[i], &value, sizeof value);
    }
    assert_true(acc[COUNT] == 42);
}

/* Bits written down, computed apart in Python doubles rounded to f32 after each step (exact: a double holds any f32 product, and
 * rounding a double sum of two f32 again to f32 is innocent).
 * A change of order, a fused product or a double accumulator changes them. */
static void golden_bits(void **state) {
    (void)state;
    static const float q[3][2] = {{0.1f, 1.0f}, {-0.3f, 1e-8f}, {0.7f, -1.0f}};
    static const uint64_t weights[3] = {3, 5, 7};
    static const uint32_t expected[2] = {0x3e7c9631, 0xbe888889};
    float acc[2] = {9, 9};
    mean_begin(acc, 2);
    for (int w = 0; w < 3; w++)
        mean_add(acc, q[w], weights[w], 2);
    mean_finish(acc, 15, 2);
    assert_memory_equal(acc, expected, sizeof acc);
}

/* 2^24 + 1 tokens weigh 2^24: the weight is rounded to f32 before the product. */
static void weights_round_to_f32(void **state) {
    (void)state;
    float q[1] = {1}, acc[1];
    mean_begin(acc, 1);
    mean_add(acc, q, (1u << 24) + 1, 1);
    assert_true(acc[0] == 0x1p24f);
    mean_begin(acc, 1);
    mean_add(acc, q, UINT64_MAX, 1);
    assert_true(acc[0] == 0x1p64f);
    mean_finish(acc, UINT64_MAX, 1);
    assert_true(acc[0] == 1);
}

static void the_order_matters_and_is_kept(void **state) {
    (void)state;
    static const float q[3] = {1, 0x1p-24f, 0x1p-24f};
    float forward[1], backward[1];
    mean_begin(forward, 1);
    mean_begin(backward, 1);
    for (int w = 0; w < 3; w++) {
        mean_add(forward, &q[w], 1, 1);
        mean_add(backward, &q[2 - w], 1, 1);
    }
    assert_true(forward[0] == 1);
    assert_true(backward[0] == 1 + 0x1p-23f);
}

static void one_contribution_of_a_power_of_two_is_itself(void **state) {
    (void)state;
    float q[100], acc[100];
    for (int i = 0; i < 100; i++)
        q[i] = rng_normal(2, 0, (uint64_t)i);
    mean_begin(acc, 100);
    mean_add(acc, q, 65536, 100);
    mean_finish(acc, 65536, 100);
    assert_memory_equal(acc, q, sizeof q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_scalar_definition),
        cmocka_unit_test(golden_bits),
        cmocka_unit_test(weights_round_to_f32),
        cmocka_unit_test(the_order_matters_and_is_kept),
        cmocka_unit_test(one_contribution_of_a_power_of_two_is_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
