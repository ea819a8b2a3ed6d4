/* step_pace: whose steps are slow skips numbers of the run clock, but no due step. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "worker/step_pace.h"

/* R = 100 since 1000 us, a clock step takes 10 us; own_us of one inner step here. */
static struct step_pace paced(uint64_t own_us) {
    struct step_pace pace = {0};
    step_pace_note_run(&pace, 90, 900);
    step_pace_note_run(&pace, 90, 950); /* nothing new */
    step_pace_note_run(&pace, 100, 1000);
    step_pace_note_own(&pace, own_us);
    return pace;
}

static void who_keeps_up_follows_commits_only(void **state) {
    (void)state;
    struct step_pace pace = paced(10), none = {0};
    assert_int_equal(step_pace_next(&none, 7, 10, 5000), 7);
    assert_int_equal(step_pace_next(&pace, 105, 110, 1090), 105);
    assert_int_equal(step_pace_next(&pace, 95, 110, 1090), 100); /* not the projected 109 */
    assert_int_equal(step_pace_next(&pace, 95, 98, 1090), 97);   /* a due step that no commit has passed */
}

static void who_is_slow_follows_the_projected_clock(void **state) {
    (void)state;
    struct step_pace pace = paced(40); /* stride 4 */
    assert_int_equal(step_pace_next(&pace, 95, 120, 1000), 100);
    assert_int_equal(step_pace_next(&pace, 101, 120, 1040), 104);
    assert_int_equal(step_pace_next(&pace, 110, 120, 1040), 110); /* never back */
}

static void the_nearest_step_takes_the_due_number(void **state) {
    (void)state;
    struct step_pace pace = paced(40);
    assert_int_equal(step_pace_next(&pace, 101, 110, 1040), 104);  /* ends at 108, and 112 is as near */
    assert_int_equal(step_pace_next(&pace, 101, 110, 1050), 109);  /* 109 rather than 113 */
    assert_int_equal(step_pace_next(&pace, 101, 110, 90000), 109); /* long late: the due step first of all */
    assert_int_equal(step_pace_next(&pace, 109, 110, 1090), 109);
}

/* Commits that are caught up with come within milliseconds: they say nothing of the others' speed. */
static void what_is_caught_up_with_is_no_measure(void **state) {
    (void)state;
    struct step_pace pace = paced(10);
    step_pace_note_run(&pace, 500, 1001);
    step_pace_note_run(&pace, 600, 1002);
    step_pace_caught_up(&pace);
    assert_int_equal(step_pace_next(&pace, 600, 650, 1100), 600);
    step_pace_note_run(&pace, 610, 1102); /* when 601 was, nobody knows */
    assert_int_equal(step_pace_next(&pace, 612, 650, 1200), 612);
    step_pace_note_run(&pace, 620, 1202);
    assert_int_equal(step_pace_next(&pace, 622, 650, 1300), 622);
}

/* Commits come in bursts: five steps in 10 us, then fifteen in 190. Who takes 9 us for a step keeps up with 10. */
static void the_clock_is_a_mean_over_time(void **state) {
    (void)state;
    struct step_pace pace = {0};
    step_pace_note_own(&pace, 9);
    for (uint64_t i = 0; i < 50; i++) {
        step_pace_note_run(&pace, 100 + 20 * i, 1000 + 200 * i);
        step_pace_note_run(&pace, 105 + 20 * i, 1010 + 200 * i);
    }
    assert_int_equal(step_pace_next(&pace, 1090, 1300, 1010 + 200 * 49 + 150), 1090);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_keeps_up_follows_commits_only),
        cmocka_unit_test(who_is_slow_follows_the_projected_clock),
        cmocka_unit_test(the_nearest_step_takes_the_due_number),
        cmocka_unit_test(what_is_caught_up_with_is_no_measure),
        cmocka_unit_test(the_clock_is_a_mean_over_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
