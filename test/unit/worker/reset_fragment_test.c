/* reset_fragment: the fragment's spans begin anew, nothing beside them is touched. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <string.h>
#include "worker/reset_fragment.h"

/* Two spans with a gap before, between and after: the second one long enough for vector bodies and a tail. */
enum { FIRST_AT = 16, FIRST = 5, SECOND_AT = 32, SECOND = 1003, BLOCK = 1056, PACKED = FIRST + SECOND };

static struct codec_span spans[2] = {{FIRST_AT, FIRST}, {SECOND_AT, SECOND}};
static const struct fragment FRAGMENT = {.spans = spans, .span_count = 2, .count = PACKED};

static float theta[BLOCK], moment1[BLOCK], moment2[BLOCK], g[PACKED], residual[PACKED + 1];

static int fill(void **state) {
    (void)state;
    for (int i = 0; i < BLOCK; i++) {
        theta[i] = i % 7 == 0 ? NAN : (float)i;
        moment1[i] = -(float)i;
        moment2[i] = (float)(i + 1);
    }
    for (int i = 0; i < PACKED; i++) {
        g[i] = 0.5f * (float)i;
        residual[i] = i % 5 == 0 ? INFINITY : 1;
    }
    residual[PACKED] = 42;
    return 0;
}

/* Place in a packed array, -1 in a gap. */
static int packed_at(int i) {
    if (i >= FIRST_AT && i < FIRST_AT + FIRST)
        return i - FIRST_AT;
    return i >= SECOND_AT && i < SECOND_AT + SECOND ? FIRST + i - SECOND_AT : -1;
}

static void theta_and_residual_begin_anew(void **state) {
    (void)state;
    assert_int_equal(reset_fragment(&FRAGMENT, g, theta, residual, moment1, moment2), 0);
    for (int i = 0; i < BLOCK; i++) {
        if (packed_at(i) >= 0)
            assert_true(theta[i] == g[packed_at(i)]);
        else
            assert_true(i % 7 == 0 ? isnan(theta[i]) : theta[i] == (float)i);
        assert_true(moment1[i] == -(float)i && moment2[i] == (float)(i + 1)); /* finite: they stay */
    }
    for (int i = 0; i < PACKED; i++)
        assert_true(residual[i] == 0 && !signbit(residual[i]) && g[i] == 0.5f * (float)i);
    assert_true(residual[PACKED] == 42);
}

static void both_moments_go_where_one_is_not_finite(void **state) {
    (void)state;
    static const float bad[3] = {NAN, INFINITY, -INFINITY};
    static float before1[BLOCK], before2[BLOCK];
    size_t expected = 0;
    for (int i = 0; i < BLOCK; i++) {
        if (i % 11 == 0)
            moment1[i] = bad[i % 3];
        if (i % 13 == 0)
            moment2[i] = bad[i % 3];
        expected += packed_at(i) >= 0 && (i % 11 == 0 || i % 13 == 0);
    }
    moment1[FIRST_AT] = FLT_MAX; /* the largest finite ones, both signs */
    moment1[FIRST_AT + 1] = -FLT_MAX;
    moment2[FIRST_AT] = FLT_MAX;
    moment1[FIRST_AT - 1] = moment2[FIRST_AT + FIRST] = NAN; /* beside the spans */
    moment1[SECOND_AT - 1] = moment2[SECOND_AT + SECOND] = NAN;
    memcpy(before1, moment1, sizeof before1);
    memcpy(before2, moment2, sizeof before2);
    assert_int_equal(reset_fragment(&FRAGMENT, g, theta, residual, moment1, moment2), expected);
    for (int i = 0; i < BLOCK; i++) {
        bool cleared = packed_at(i) >= 0 && (!isfinite(before1[i]) || !isfinite(before2[i]));
        if (cleared)
            assert_true(moment1[i] == 0 && moment2[i] == 0);
        else
            assert_true(memcmp(&moment1[i], &before1[i], 4) == 0 && memcmp(&moment2[i], &before2[i], 4) == 0);
    }
    assert_int_equal(reset_fragment(&FRAGMENT, g, theta, residual, moment1, moment2), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(theta_and_residual_begin_anew, fill),
        cmocka_unit_test_setup(both_moments_go_where_one_is_not_finite, fill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
