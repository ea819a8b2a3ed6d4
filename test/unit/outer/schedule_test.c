/* schedule: the table of DESIGN.md section 3, and next_due against a search. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "outer/schedule.h"

static void the_picture_of_the_header(void **state) {
    (void)state;
    static const char *const rows[3] = {".....*.....*", ".......*....", ".........*.."};
    struct schedule schedule = {.fragments = 3, .every_steps = 6};
    for (uint32_t f = 0; f < 3; f++) {
        assert_int_equal(schedule_offset(&schedule, f), 2 * f);
        for (uint64_t t = 1; t <= 12; t++)
            assert_int_equal(schedule_due(&schedule, f, t), rows[f][t - 1] == '*');
    }
}

static void offsets_are_rounded_down(void **state) {
    (void)state;
    struct schedule schedule = {.fragments = 4, .every_steps = 10};
    static const uint64_t offsets[4] = {0, 2, 5, 7};
    for (uint32_t f = 0; f < 4; f++)
        assert_int_equal(schedule_offset(&schedule, f), offsets[f]);
}

static void every_step_and_more_fragments_than_steps(void **state) {
    (void)state;
    struct schedule each = {.fragments = 1, .every_steps = 1};
    assert_false(schedule_due(&each, 0, 0));
    for (uint64_t t = 1; t < 5; t++)
        assert_true(schedule_due(&each, 0, t));
    struct schedule crowded = {.fragments = 4, .every_steps = 2}; /* offsets 0 0 1 1: two are due at the same step */
    for (uint32_t f = 0; f < 4; f++)
        for (uint64_t t = 1; t < 9; t++)
            assert_int_equal(schedule_due(&crowded, f, t), t > 1 && t % 2 == f / 2);
}

static void next_due_is_the_first_after(void **state) {
    (void)state;
    for (uint64_t every = 1; every <= 13; every++)
        for (uint32_t fragments = 1; fragments <= 7; fragments++)
            for (uint32_t f = 0; f < fragments; f++) {
                struct schedule schedule = {fragments, every};
                for (uint64_t t = 0; t < 40; t++) {
                    uint64_t next = t + 1;
                    while (!schedule_due(&schedule, f, next))
                        next++;
                    assert_int_equal(schedule_next_due(&schedule, f, t), next);
                }
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_picture_of_the_header),
        cmocka_unit_test(offsets_are_rounded_down),
        cmocka_unit_test(every_step_and_more_fragments_than_steps),
        cmocka_unit_test(next_due_is_the_first_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
