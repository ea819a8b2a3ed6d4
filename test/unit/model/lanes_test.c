/* lanes: sums against double, maxima, and the exp against libm's. */
#include <math.h>
#include "model/lanes.h"
#include "support.h"

static void sums_any_length(void **state) {
    (void)state;
    float a[100], b[100], c[100];
    for (int i = 0; i < 100; i++) {
        a[i] = (float)(i % 7 - 3);
        b[i] = (float)(i % 5 - 2);
        c[i] = (float)(i % 3 - 1);
    }
    for (int count = 1; count <= 100; count++) {
        double dot = 0, dot3 = 0, largest = -INFINITY;
        for (int i = 0; i < count; i++) {
            dot += (double)(a[i] * b[i]);
            dot3 += (double)(a[i] * b[i] * c[i]);
            largest = fmax(largest, (double)a[i]);
        }
        assert_true((double)lanes_dot(count, a, b) == dot); /* small integers: exact */
        assert_true((double)lanes_dot3(count, a, b, c) == dot3);
        assert_true((double)lanes_max(count, a) == largest);
    }
}

static void largest_of_any_signs(void **state) {
    (void)state;
    static const float values[] = {-INFINITY, -3e38F, -2, -1e-45F, 0, 1e-45F, 1, 3e38F, INFINITY}; /* ascending */
    enum { COUNT = sizeof values / sizeof *values };
    for (int last = 0; last < COUNT; last++)
        for (int turn = 0; turn <= last; turn++) {
            float turned[COUNT];
            for (int i = 0; i <= last; i++)
                turned[(i + turn) % (last + 1)] = values[i];
            assert_true(lanes_max(last + 1, turned) == values[last]);
        }
    assert_true(isnan(lanes_max(3, (const float[]){1, NAN, 2})));
}

static void exp_is_close_to_libm(void **state) {
    (void)state;
    double worst = 0;
    /* every 37th float of both signs in the range: about 60 million; fewer under a sanitizer */
#ifdef ATOLL_SANITIZED
    const uint32_t stride = 3701;
#else
    const uint32_t stride = 37;
#endif
    for (uint32_t bits = 0; bits < UINT32_C(0x42b10000); bits += stride) {
        float x;
        memcpy(&x, &bits, sizeof x);
        for (int sign = 0; sign < 2; sign++, x = -x) {
            if (x > 88.37f || x < -87.33f)
                continue;
            double exact = exp((double)x), error = fabs((double)lanes_exp(x) - exact) / exact;
            worst = error > worst ? error : worst;
        }
    }
    print_message("largest relative error of lanes_exp: %.3g\n", worst);
    assert_true(worst < 1.5e-7);
}

static void exp_at_the_edges(void **state) {
    (void)state;
    assert_true(lanes_exp(0.0f) == 1.0f);
    assert_true(lanes_exp(-87.4f) == 0.0f);
    assert_true(lanes_exp(-1e30f) == 0.0f);
    assert_true(lanes_exp(-INFINITY) == 0.0f);
    assert_true(isinf(lanes_exp(88.4f)));
    assert_true(isinf(lanes_exp(INFINITY)));
    assert_true(isnan(lanes_exp(NAN)));
    assert_true(lanes_exp(-87.32f) > 0.0f);
    assert_true(isfinite(lanes_exp(88.36f)));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sums_any_length), cmocka_unit_test(largest_of_any_signs),
                                       cmocka_unit_test(exp_is_close_to_libm), cmocka_unit_test(exp_at_the_edges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
