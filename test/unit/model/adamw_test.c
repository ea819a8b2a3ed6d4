/* AdamW against numbers worked out by hand, the clip, the norm. */
#include <math.h>
#include "model/adamw.h"
#include "support.h"

static void two_steps_by_hand(void **state) {
    (void)state;
    float p[2] = {1, 1}, g[2] = {0.5f, -2}, m[2] = {0}, v[2] = {0};
    struct adamw_step step = {
        .lr = 0.1, .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .gradient_scale = 1, .step = 1};
    adamw_update(&step, 2, p, g, m, v);
    /* first step: m/(1-b1) = g and sqrt(v/(1-b2)) = |g|, so p = 1 * (1 - 0.01) -+ 0.1 */
    assert_float_equal(p[0], 0.89, 1e-6);
    assert_float_equal(p[1], 1.09, 1e-6);
    assert_float_equal(m[0], 0.05, 1e-7);
    assert_float_equal(m[1], -0.2, 1e-7);
    assert_float_equal(v[0], 0.0025, 1e-8);
    assert_float_equal(v[1], 0.04, 1e-8);
    /* second, clipped by half: g = 1; m = 0.145, v = 0.012475, bias corrections 0.19 and 0.0199 */
    g[0] = 2;
    step.step = 2;
    step.gradient_scale = 0.5;
    adamw_update(&step, 1, p, g, m, v);
    assert_float_equal(m[0], 0.145, 1e-7);
    assert_float_equal(v[0], 0.012475, 1e-8);
    assert_float_equal(p[0], 0.89 * 0.99 - 0.1 * (0.145 / 0.19) / sqrt(0.012475 / 0.0199), 1e-6);
    assert_float_equal(p[1], 1.09, 1e-6); /* outside the range */
}

static void every_length_and_alignment_gives_equal_bits(void **state) {
    (void)state;
    enum { COUNT = 100 };
    float p[2][COUNT + 1], g[2][COUNT + 1], m[2][COUNT + 1] = {{0}}, v[2][COUNT + 1] = {{0}};
    for (int i = 0; i < COUNT; i++) {
        p[0][i] = p[1][i + 1] = (float)i * 0.37f;
        g[0][i] = g[1][i + 1] = (float)(i - 50) * 0.11f;
    }
    double whole = adamw_squared_norm(COUNT, g[0]), shifted = adamw_squared_norm(COUNT, g[1] + 1);
    assert_memory_equal(&whole, &shifted, sizeof whole);
    struct adamw_step step = {.lr = 0.1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .gradient_scale = 0.7, .step = 3};
    adamw_update(&step, COUNT, p[0], g[0], m[0], v[0]);
    for (int i = 0; i < COUNT; i++)
        adamw_update(&step, 1, p[1] + 1 + i, g[1] + 1 + i, m[1] + 1 + i, v[1] + 1 + i);
    assert_memory_equal(p[0], p[1] + 1, COUNT * sizeof(float));
    assert_memory_equal(v[0], v[1] + 1, COUNT * sizeof(float));
}

static void norm_and_clip(void **state) {
    (void)state;
    float values[40];
    for (int i = 0; i < 40; i++)
        values[i] = 3;
    assert_true(adamw_squared_norm(37, values) == 333.0);
    values[20] = 1e30f; /* its square does not fit a float */
    assert_true(isfinite(adamw_squared_norm(37, values)));
    values[36] = NAN;
    assert_true(isnan(adamw_squared_norm(37, values)));
    values[36] = -INFINITY;
    assert_false(isfinite(adamw_squared_norm(37, values)));
    assert_true(adamw_clip_scale(0.5, 1) == 1);
    assert_true(fabs(adamw_clip_scale(4, 1) - 1 / 4.000001) < 1e-15);
    assert_true(adamw_clip_scale(1e9, 0) == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_steps_by_hand),
                                       cmocka_unit_test(every_length_and_alignment_gives_equal_bits),
                                       cmocka_unit_test(norm_and_clip)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
