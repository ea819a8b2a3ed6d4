/* members: who counts as connected, as expected, and who evaluates. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "outer/members.h"

static void states(void **state) {
    (void)state;
    struct members members = {.slot = {[0] = {.state = MEMBER_LOST, .has_validation = true},
                                       [1] = {.state = MEMBER_DONE},
                                       [2] = {.state = MEMBER_LIVE, .has_validation = true},
                                       [3] = {.state = MEMBER_FINAL, .has_validation = true},
                                       [4] = {.state = MEMBER_ABSENT},
                                       [5] = {.state = MEMBER_LIVE}}};
    assert_int_equal(members_connected(&members), 4);
    assert_int_equal(members_expected(&members), 2);
    assert_int_equal(members_live_mask(&members), 0x2e);
    assert_int_equal(members_evaluator(&members), 2);
    members.slot[2].state = MEMBER_LOST;
    assert_int_equal(members_evaluator(&members), 3);
    members.slot[3].state = MEMBER_ABSENT;
    assert_int_equal(members_evaluator(&members), UINT32_MAX);
}

static void the_last_slot(void **state) {
    (void)state;
    struct members members = {0};
    assert_int_equal(members_live_mask(&members), 0);
    assert_int_equal(members_evaluator(&members), UINT32_MAX);
    members.slot[MESSAGE_WORKERS_MAX - 1] = (struct member){.state = MEMBER_LIVE, .has_validation = true};
    assert_true(members_live_mask(&members) == (uint64_t)1 << (MESSAGE_WORKERS_MAX - 1));
    assert_int_equal(members_evaluator(&members), MESSAGE_WORKERS_MAX - 1);
    assert_int_equal(members_connected(&members), 1);
    assert_int_equal(members_expected(&members), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(states), cmocka_unit_test(the_last_slot)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
