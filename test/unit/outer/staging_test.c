#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "outer/staging.h"

static struct staging staging;
static uint32_t slot, fragment;
static bool forced;

static bool ask(uint32_t s, uint32_t f) {
    return staging_ask(&staging, s, f, 10, 1000);
}

static bool next(uint64_t now_us) {
    return staging_next(&staging, now_us, &slot, &fragment, &forced);
}

static void small_runs_never_wait(void **state) {
    (void)state;
    staging_open(&staging, 4, STAGING_SLACK_BYTES);
    for (uint32_t s = 0; s < MESSAGE_WORKERS_MAX; s++)
        for (uint32_t f = 0; f < 4; f++)
            assert_true(staging_ask(&staging, s, f, 20000, 0));
    assert_true(ask(0, 0)); /* held: asked again, since its link came back */
    assert_false(next(UINT64_MAX));
}

/* Slack for two: fragment 0 is first and holds what it likes, the others two together. */
static void one_round_always_fits(void **state) {
    (void)state;
    staging_open(&staging, 3, 20);
    for (uint32_t s = 0; s < 8; s++)
        assert_true(ask(s, 0));
    assert_true(ask(0, 1) && ask(1, 2));
    assert_false(ask(2, 1));
    assert_false(ask(2, 1)); /* asked again, it waits where it was */
    assert_false(ask(2, 2));
    assert_true(ask(8, 0));
    assert_false(next(1000));
    /* Its round is over: the fragment that has waited longest becomes first, all of it. */
    for (uint32_t s = 0; s < 9; s++)
        staging_release(&staging, s, 0, 2000);
    assert_true(next(2000) && slot == 2 && fragment == 1 && !forced);
    assert_true(next(2000) && slot == 2 && fragment == 2 && !forced); /* the second of the slack */
    assert_false(next(2000));
    for (uint32_t s = 3; s < 9; s++)
        assert_true(ask(s, 1) && !ask(s, 2));
    assert_int_equal(staging.held_bytes, 100);
}

static void who_gives_up_makes_room(void **state) {
    (void)state;
    staging_open(&staging, 2, 10);
    assert_true(ask(0, 0) && ask(1, 0) && ask(0, 1));
    assert_false(ask(1, 1));
    assert_false(ask(2, 1));
    staging_release(&staging, 1, 1, 0); /* it waited */
    staging_release(&staging, 0, 1, 0);
    assert_true(next(0) && slot == 2 && fragment == 1);
    assert_false(next(0));
    assert_int_equal(staging.waiting_count, 0);
    staging_release(&staging, 2, 1, 0);
    staging_release(&staging, 2, 1, 0); /* nothing is there any more */
    assert_int_equal(staging.held_bytes, 20);
}

/* Fragment 0 holds more than the slack and waits for a member that waits for fragment 1. */
static void rounds_that_wait_for_each_other(void **state) {
    (void)state;
    staging_open(&staging, 2, 10);
    assert_true(ask(0, 0) && ask(1, 0) && ask(0, 1));
    assert_false(ask(1, 1));
    assert_false(ask(2, 1));
    assert_false(next(1000 + STAGING_PATIENCE_US - 1));
    staging_moved(&staging, 2000); /* bytes still arrive */
    assert_false(next(1000 + STAGING_PATIENCE_US));
    assert_true(next(2000 + STAGING_PATIENCE_US) && slot == 1 && fragment == 1 && forced);
    assert_false(next(2000 + STAGING_PATIENCE_US)); /* one at a time */
    assert_int_equal(staging.forced, 1);
}

static void what_check_says(void **state) {
    (void)state;
    static const uint64_t payloads[3] = {100, 300, 200};
    assert_int_equal(staging_bytes(payloads, 3, 4, 1000), 2200);
    assert_int_equal(staging_bytes(payloads, 3, 4, 5000), 2400); /* all of it fits in the slack */
}

/* Random members: what is held never passes one round and the slack, and when all ask and all rounds close once full, all get their turn. */
static void held_is_bounded_and_all_get_their_turn(void **state) {
    (void)state;
    enum { SLOTS = 9, FRAGMENTS = 4, SLACK = 70 };
    static const uint64_t payloads[FRAGMENTS] = {10, 40, 25, 33};
    uint32_t dice = 1, closed[FRAGMENTS] = {0}, held[FRAGMENTS] = {0};
    bool asked[SLOTS][FRAGMENTS] = {{false}}, in[SLOTS][FRAGMENTS] = {{false}};
    uint64_t bound = staging_bytes(payloads, FRAGMENTS, SLOTS, SLACK);
    staging_open(&staging, FRAGMENTS, SLACK);
    for (int i = 0; i < 200000; i++) {
        dice = dice * 1664525 + 1013904223;
        uint32_t s = (dice >> 8) % SLOTS, f = (dice >> 16) % FRAGMENTS;
        if (!asked[s][f]) {
            asked[s][f] = true;
            in[s][f] = staging_ask(&staging, s, f, payloads[f], 0);
            held[f] += in[s][f];
        } else if ((dice >> 24) % 4 == 0) { /* lost, with what it was sending */
            held[f] -= in[s][f];
            asked[s][f] = in[s][f] = false;
            staging_release(&staging, s, f, 0);
        }
        while (next(0)) {
            assert_true(asked[slot][fragment] && !in[slot][fragment] && !forced);
            in[slot][fragment] = true;
            held[fragment]++;
        }
        assert_true(staging.held_bytes <= bound);
        for (f = 0; f < FRAGMENTS; f++)
            if (held[f] == SLOTS) {
                closed[f]++;
                for (s = 0; s < SLOTS; s++) {
                    staging_release(&staging, s, f, 0);
                    asked[s][f] = in[s][f] = false;
                }
                held[f] = 0;
            }
    }
    for (uint32_t f = 0; f < FRAGMENTS; f++)
        assert_true(closed[f] > 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_runs_never_wait),   cmocka_unit_test(one_round_always_fits),
        cmocka_unit_test(who_gives_up_makes_room), cmocka_unit_test(rounds_that_wait_for_each_other),
        cmocka_unit_test(what_check_says),         cmocka_unit_test(held_is_bounded_and_all_get_their_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
