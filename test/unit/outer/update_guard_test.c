/* update_guard: its medians by hand, and what it learns. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "outer/update_guard.h"

enum { F = 5, TOKENS = 100 };

static struct update_guard guard;

static void open_with(double reject_norm, int known, double norm) {
    update_guard_open(&guard, reject_norm);
    for (int i = 0; i < known; i++)
        update_guard_learn(&guard, F, norm, TOKENS);
}

static double limit_for(uint64_t tokens) {
    double limit;
    assert_int_equal(update_guard_judge(&guard, F, 0, tokens, &limit), UPDATE_OK);
    return limit;
}

static enum update_verdict verdict(double norm, uint64_t tokens) {
    double limit;
    return update_guard_judge(&guard, F, norm, tokens, &limit);
}

static void nothing_is_refused_before_eight(void **state) {
    (void)state;
    open_with(10, 0, 0);
    for (int known = 0; known < 8; known++) {
        assert_true(isinf(limit_for(TOKENS)));
        assert_int_equal(verdict(1e30, TOKENS), UPDATE_OK);
        update_guard_learn(&guard, F, 1, TOKENS);
    }
    assert_true(limit_for(TOKENS) == 10);
    assert_int_equal(verdict(1e30, TOKENS), UPDATE_REFUSED);
}

static void the_limit_itself_may_count(void **state) {
    (void)state;
    open_with(10, 8, 2);
    assert_true(limit_for(TOKENS) == 20);
    assert_int_equal(verdict(20, TOKENS), UPDATE_OK);
    assert_int_equal(verdict(nextafter(20, 21), TOKENS), UPDATE_REFUSED);
    assert_int_equal(verdict(INFINITY, TOKENS), UPDATE_REFUSED);
    assert_int_equal(verdict(NAN, TOKENS), UPDATE_REFUSED);
}

static void more_tokens_may_move_further(void **state) {
    (void)state;
    open_with(10, 8, 2);
    assert_true(limit_for(3 * TOKENS) == 60);
    assert_true(limit_for(TOKENS + TOKENS / 2) == 30);
    assert_true(limit_for(TOKENS / 2) == 20); /* fewer tokens do not tighten it */
    assert_true(limit_for(1) == 20);
    assert_int_equal(verdict(60, 3 * TOKENS), UPDATE_OK);
    assert_int_equal(verdict(61, 3 * TOKENS), UPDATE_REFUSED);
}

static void medians_of_even_and_odd_counts(void **state) {
    (void)state;
    static const int order[9] = {5, 1, 8, 3, 7, 2, 6, 4, 9};
    open_with(2, 0, 0);
    for (int i = 0; i < 8; i++) /* norms 1 .. 8, tokens 10 .. 80 the other way round */
        update_guard_learn(&guard, F, order[i], (uint64_t)(10 * (9 - order[i])));
    assert_true(limit_for(45) == 9);  /* 2 * 4.5, of as many tokens as the median */
    assert_true(limit_for(90) == 18); /* twice the tokens */
    update_guard_learn(&guard, F, 9, 90);
    assert_true(limit_for(50) == 10); /* 2 * 5; tokens 10 .. 90 */
    assert_true(limit_for(100) == 20);
}

static void only_the_last_32_count(void **state) {
    (void)state;
    open_with(1, UPDATE_GUARD_KEPT, 1);
    for (int i = 0; i < 15; i++)
        update_guard_learn(&guard, F, 5, TOKENS);
    assert_true(limit_for(TOKENS) == 1);
    update_guard_learn(&guard, F, 5, TOKENS); /* 16 and 16 */
    assert_true(limit_for(TOKENS) == 3);
    update_guard_learn(&guard, F, 5, TOKENS);
    assert_true(limit_for(TOKENS) == 5);
    open_with(2, 0, 0);
    for (int i = 1; i <= 2 * UPDATE_GUARD_KEPT; i++)
        update_guard_learn(&guard, F, i, TOKENS);
    for (int i = 0; i < UPDATE_GUARD_KEPT; i++) /* 33 .. 64: each took the oldest one's place */
        assert_true(guard.fragments[F].norms[i] == UPDATE_GUARD_KEPT + 1 + i);
    assert_int_equal(guard.fragments[F].count, UPDATE_GUARD_KEPT);
    assert_true(limit_for(TOKENS) == 97);
}

/* What is only judged, refused or not, leaves no trace. */
static void it_learns_from_what_counts_only(void **state) {
    (void)state;
    open_with(10, 8, 2);
    struct update_guard before = guard;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(verdict(1e9, TOKENS), UPDATE_REFUSED);
        assert_int_equal(verdict(19, TOKENS), UPDATE_OK);
    }
    assert_memory_equal(&guard, &before, sizeof guard);
}

/* Three of the first eight are wild: the measure is still a sound one. */
static void the_first_eight_bear_three_wild_ones(void **state) {
    (void)state;
    open_with(10, 3, 1e12);
    for (int i = 0; i < 5; i++)
        update_guard_learn(&guard, F, 1 + 0.1 * i, TOKENS);
    assert_true(limit_for(TOKENS) <= 14);
    assert_int_equal(verdict(1e12, TOKENS), UPDATE_REFUSED);
}

/* How many contributions pass, each `growth` times the one before, up to `most`. */
static int passed(double growth, int most) {
    double norm = 1;
    open_with(2, 0, 0);
    for (int i = 0; i < most; i++, norm *= growth) {
        if (verdict(norm, TOKENS) != UPDATE_OK)
            return i;
        update_guard_learn(&guard, F, norm, TOKENS);
    }
    return most;
}

/* The median lies 16.5 contributions back: 1.04^16.5 = 1.91 passes a limit of 2, 1.05^16.5 = 2.24 does not. */
static void a_slow_growth_is_followed(void **state) {
    (void)state;
    assert_int_equal(passed(1.04, 2000), 2000);
    assert_int_equal(passed(1 / 1.5, 500), 500);
    assert_in_range(passed(1.05, 2000), 8, 40);
}

static void zeros_and_zero_refuse_nothing(void **state) {
    (void)state;
    open_with(10, 20, 0);
    assert_int_equal(verdict(1, TOKENS), UPDATE_OK);
    for (int i = 0; i < 20; i++)
        update_guard_learn(&guard, F, 1, TOKENS);
    assert_true(limit_for(TOKENS) == 10); /* 12 zeros, 20 ones */
    open_with(0, 32, 1);
    assert_true(isinf(limit_for(TOKENS)));
    assert_int_equal(verdict(1e30, TOKENS), UPDATE_OK);
}

static void fragments_have_their_own_measure(void **state) {
    (void)state;
    double limit;
    open_with(10, 8, 2);
    assert_int_equal(update_guard_judge(&guard, F + 1, 1e30, TOKENS, &limit), UPDATE_OK);
    for (int i = 0; i < 8; i++)
        update_guard_learn(&guard, MESSAGE_FRAGMENTS_MAX - 1, 100, TOKENS);
    assert_int_equal(update_guard_judge(&guard, MESSAGE_FRAGMENTS_MAX - 1, 999, TOKENS, &limit), UPDATE_OK);
    assert_true(limit == 1000 && limit_for(TOKENS) == 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_refused_before_eight),
        cmocka_unit_test(the_limit_itself_may_count),
        cmocka_unit_test(more_tokens_may_move_further),
        cmocka_unit_test(medians_of_even_and_odd_counts),
        cmocka_unit_test(only_the_last_32_count),
        cmocka_unit_test(it_learns_from_what_counts_only),
        cmocka_unit_test(the_first_eight_bear_three_wild_ones),
        cmocka_unit_test(a_slow_growth_is_followed),
        cmocka_unit_test(zeros_and_zero_refuse_nothing),
        cmocka_unit_test(fragments_have_their_own_measure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
