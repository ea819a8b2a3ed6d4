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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_keeps_up_follows_commits_only),
        cmocka_unit_test(who_is_slow_follows_the_projected_clock),
        cmocka_unit_test(the_nearest_step_takes_the_due_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
