/* mix: the exact order of operations of a send and a merge. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/rng.h"
#include "outer/mix.h"

enum { COUNT = 1003 };

static float theta[COUNT + 1], g_new[COUNT], g_old[COUNT], before[COUNT];

static int fill(void **state) {
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        g_old[i] = 0.02f * rng_normal(4, 0, (uint64_t)i);
        g_new[i] = g_old[i] + 0.001f * rng_normal(4, 1, (uint64_t)i);
        theta[i] = before[i] = g_old[i] + 0.003f * rng_normal(4, 2, (uint64_t)i);
    }
    theta[COUNT] = 42;
    return 0;
}

/* Every length around the part that is done at once, and not a value behind it. */
static void difference_equals_the_scalar_definition(void **state) {
    static float difference[COUNT + 1];
    fill(state);
    for (size_t count = 0; count <= COUNT; count += count < 260 ? 1 : 743) {
        memset(difference, 0x55, sizeof difference);
        float behind = difference[count];
        mix_difference(g_old, theta, difference, count);
        for (size_t i = 0; i < count; i++) {
            volatile float expected = g_old[i] - theta[i];
            assert_true(difference[i] == expected);
        }
        assert_memory_equal(&difference[count], &behind, sizeof behind);
    }
}

static void counted_equals_the_scalar_definition(void **state) {
    static const float alphas[] = {0.5f, 0.1f, 0.3f, 0.9f, 1e-6f};
    for (int a = 0; a < 5; a++) {
        fill(state);
        mix_counted(theta, g_new, alphas[a], COUNT);
        for (int i = 0; i < COUNT; i++) {
            volatile float take = 1.0f - alphas[a], kept = alphas[a] * before[i], taken = take * g_new[i],
                           sum = kept + taken;
            float expected = sum;
            assert_memory_equal(&theta[i], &expected, sizeof expected);
        }
        assert_true(theta[COUNT] == 42);
    }
}

static void counted_at_the_ends(void **state) {
    fill(state);
    mix_counted(theta, g_new, 1, COUNT);
    assert_memory_equal(theta, before, sizeof before);
    mix_counted(theta, g_new, 0, COUNT);
    assert_memory_equal(theta, g_new, sizeof g_new);
}

static void far_equals_the_scalar_definition(void **state) {
    fill(state);
    mix_far(theta, g_new, g_old, 0.3f, COUNT);
    for (int i = 0; i < COUNT; i++) {
        volatile float difference = before[i] - g_old[i], kept = 0.3f * difference, sum = g_new[i] + kept;
        float expected = sum;
        assert_memory_equal(&theta[i], &expected, sizeof expected);
    }
    assert_true(theta[COUNT] == 42);
    /* Far or near, what is kept is alpha of the local difference; with the formula of mix_counted half of the way would be lost here. */
    float t = 1.25f, to = 100, from = 1;
    mix_far(&t, &to, &from, 0.5f, 1);
    assert_true(t == 100.125f);
}

static void shift_equals_the_scalar_definition(void **state) {
    fill(state);
    mix_shift(theta, g_new, g_old, COUNT);
    for (int i = 0; i < COUNT; i++) {
        volatile float difference = g_new[i] - g_old[i], sum = before[i] + difference;
        float expected = sum;
        assert_memory_equal(&theta[i], &expected, sizeof expected);
    }
    assert_true(theta[COUNT] == 42);
}

/* A shift by nothing is nothing; a shift keeps g - theta where the sums are exact. */
static void shift_keeps_unsent_work(void **state) {
    fill(state);
    mix_shift(theta, g_old, g_old, COUNT);
    assert_memory_equal(theta, before, sizeof before);
    float t[2] = {1.5f, -3}, to[2] = {4, 8}, from[2] = {2, 9};
    mix_shift(t, to, from, 2);
    assert_true(to[0] - t[0] == 2 - 1.5f && to[1] - t[1] == 9 - -3);
}

/* Bits written down, computed apart in Python doubles rounded to f32 after each step (exact: a double holds any f32 product, and
 * rounding a double sum of two f32 again to f32 is innocent). */
static void golden_bits(void **state) {
    (void)state;
    float t[2] = {0.1f, -1.7f};
    static const float to[2] = {0.3f, 0.9f}, from[2] = {-0.2f, 1e-9f};
    static const uint32_t counted[2] = {0x3e75c290, 0x3df5c288}, shifted[2] = {0x3f3d70a4, 0x3f828f5c};
    mix_counted(t, to, 0.3f, 2);
    assert_memory_equal(t, counted, sizeof t);
    mix_shift(t, to, from, 2);
    assert_memory_equal(t, shifted, sizeof t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(difference_equals_the_scalar_definition),
        cmocka_unit_test(counted_equals_the_scalar_definition),
        cmocka_unit_test(counted_at_the_ends),
        cmocka_unit_test(far_equals_the_scalar_definition),
        cmocka_unit_test(shift_equals_the_scalar_definition),
        cmocka_unit_test(shift_keeps_unsent_work),
        cmocka_unit_test(golden_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
