/* step_pace: whose steps are slow skips numbers of the run clock, but no due step. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "worker/step_pace.h"

enum { STEP_TOKENS = 8, OTHER = 3 };

static void note(struct step_pace *pace, uint64_t run_step, uint64_t others_steps, uint64_t now_us) {
    struct commit commit = {.run_step = run_step, .total_count = 1};
    commit.totals[0] = (struct total){.slot = OTHER, .applied = others_steps * STEP_TOKENS};
    step_pace_note_commit(pace, &commit, now_us);
}

/* R = 100 since 1000 us, a clock step takes 10 us; own_us of one inner step here. */
static struct step_pace paced(uint64_t own_us) {
    struct step_pace pace = {0};
    step_pace_note_own(&pace, own_us, STEP_TOKENS);
    note(&pace, 80, 80, 899); /* the fragment's first commit may be of a round that was open for long */
    note(&pace, 90, 90, 900);
    note(&pace, 90, 90, 950); /* nothing new */
    note(&pace, 100, 100, 1000);
    return pace;
}

static void who_keeps_up_follows_commits_only(void **state) {
    (void)state;
    struct step_pace pace = paced(10), none = {0};
    assert_int_equal(step_pace_next(&none, 7, 10, 5000), 7);
    assert_int_equal(step_pace_next(&pace, 105, 110, 1090), 105);
    assert_int_equal(step_pace_next(&pace, 95, 110, 1090), 100); /* not the projected 109 */
    assert_int_equal(step_pace_next(&pace, 95, 98, 1090), 97);   /* a due step that no commit has passed */
    pace = paced(11);                                            /* as fast, by what can be measured */
    assert_int_equal(step_pace_next(&pace, 95, 110, 1090), 100);
}

static void who_is_slow_follows_the_projected_clock(void **state) {
    (void)state;
    struct step_pace pace = paced(40); /* stride 4 */
    assert_int_equal(step_pace_next(&pace, 95, 120, 1000), 100);
    assert_int_equal(step_pace_next(&pace, 101, 120, 1040), 104);
    assert_int_equal(step_pace_next(&pace, 110, 120, 1040), 110); /* never back */
}

static void the_due_number_is_taken_when_the_clock_is_there(void **state) {
    (void)state;
    struct step_pace pace = paced(40);
    assert_int_equal(step_pace_next(&pace, 101, 110, 1050), 105); /* ends at 109 */
    assert_int_equal(step_pace_next(&pace, 101, 110, 1060), 109);
    assert_int_equal(step_pace_next(&pace, 101, 110, 1100), 109); /* late: the due step first of all */
    assert_int_equal(step_pace_next(&pace, 109, 110, 1090), 109);
}

/* After a silence as long as what was measured, nobody knows whether the others go on. */
static void a_silent_clock_is_not_projected(void **state) {
    (void)state;
    struct step_pace pace = paced(40);
    assert_int_equal(step_pace_next(&pace, 100, 200, 1100), 110);
    assert_int_equal(step_pace_next(&pace, 100, 200, 1101), 100);
}

/* R rises by 20 where the fastest member did 2 steps: all have skipped, and none of it is speed. */
static void numbers_that_all_skipped_are_no_speed(void **state) {
    (void)state;
    struct step_pace pace = paced(10);
    for (uint64_t i = 1; i <= 20; i++)
        note(&pace, 100 + 20 * i, 100 + 2 * i, 1000 + 20 * i);
    assert_int_equal(step_pace_next(&pace, 500, 600, 1410), 500);
}

/* R rose once by 90 numbers that all skipped, long ago: the slow follow the projected clock again. */
static void a_lost_stretch_is_forgiven(void **state) {
    (void)state;
    struct step_pace pace = paced(40);
    note(&pace, 200, 110, 1100);
    assert_int_equal(step_pace_next(&pace, 200, 300, 1150), 200);
    for (uint64_t i = 1; i <= 200; i++)
        note(&pace, 200 + 10 * i, 110 + 10 * i, 1100 + 100 * i);
    assert_true(step_pace_next(&pace, 2200, 2300, 21150) >= 2203);
}

/* A member was behind when it was seen first: that it has come up is no work beyond R. */
static void nobody_is_beyond_the_run(void **state) {
    (void)state;
    struct step_pace pace = {0};
    step_pace_note_own(&pace, 40, STEP_TOKENS);
    note(&pace, 80, 40, 899);
    note(&pace, 90, 50, 900);
    note(&pace, 100, 75, 1000);
    assert_int_equal(step_pace_next(&pace, 95, 200, 1000), 100);
    assert_int_equal(step_pace_next(&pace, 95, 200, 1050), 105);
}

/* Commits that are caught up with come within milliseconds, and so do those of the rounds that were open: they say nothing of the speed. */
static void what_is_caught_up_with_is_no_measure(void **state) {
    (void)state;
    struct step_pace pace = paced(40);
    note(&pace, 500, 500, 1001);
    note(&pace, 600, 600, 1002);
    step_pace_caught_up(&pace);
    assert_int_equal(step_pace_next(&pace, 600, 650, 1100), 600);
    note(&pace, 610, 610, 1102); /* when 601 was, nobody knows */
    assert_int_equal(step_pace_next(&pace, 612, 650, 1200), 612);
    struct commit open = {.fragment = 1, .run_step = 615, .total_count = 1};
    open.totals[0] = (struct total){.slot = OTHER, .applied = 615 * STEP_TOKENS};
    step_pace_note_commit(&pace, &open, 1103);
    assert_int_equal(step_pace_next(&pace, 616, 650, 1150), 616);
    note(&pace, 620, 620, 1202);
    assert_int_equal(step_pace_next(&pace, 622, 650, 1300), 622);
    note(&pace, 630, 630, 1302);
    assert_int_equal(step_pace_next(&pace, 632, 650, 1352), 635);
}

/* Commits come in bursts: five steps in 10 us, then fifteen in 190. Who takes 9 us for a step keeps up with 10. */
static void the_clock_is_a_mean_over_time(void **state) {
    (void)state;
    struct step_pace pace = {0};
    step_pace_note_own(&pace, 9, STEP_TOKENS);
    for (uint64_t i = 0; i < 50; i++) {
        note(&pace, 100 + 20 * i, 100 + 20 * i, 1000 + 200 * i);
        note(&pace, 105 + 20 * i, 105 + 20 * i, 1010 + 200 * i);
    }
    assert_int_equal(step_pace_next(&pace, 1090, 1300, 1010 + 200 * 49 + 150), 1090);
}

/* ---- a run of islands in small: quorum of half, one fragment due every fifth step, an outer that is away at times ---- */

enum { ISLANDS = 4, FRAGMENTS = 4, EVERY = 20, QUORUM = 2, GRACE_MS = 5 };

struct island {
    uint64_t step, step_ms, done_at;
    uint64_t steps_done;
    uint64_t sent_step[FRAGMENTS], sent_done[FRAGMENTS]; /* in flight; 0 = nothing */
    uint64_t passed[FRAGMENTS];                          /* the newest commit's run_step of the fragment */
    struct step_pace pace;
};

static uint64_t next_due(int fragment, uint64_t after) {
    uint64_t due = after / EVERY * EVERY + (uint64_t)(fragment + 1) * EVERY / FRAGMENTS;
    return due > after ? due : due + EVERY;
}

/* As sync_thread's open_due. */
static uint64_t due_of(const struct island *island) {
    uint64_t open = UINT64_MAX, any = UINT64_MAX;
    for (int f = 0; f < FRAGMENTS; f++) {
        uint64_t due = next_due(f, island->passed[f] > island->step ? island->passed[f] : island->step);
        any = due < any ? due : any;
        if (island->sent_step[f] == 0 && due < open)
            open = due;
    }
    return open != UINT64_MAX ? open : any;
}

static void commit_fragment(struct island islands[ISLANDS], uint64_t applied[FRAGMENTS][ISLANDS], int f,
                            uint64_t now_ms) {
    struct commit commit = {.fragment = (uint32_t)f, .total_count = ISLANDS};
    for (int i = 0; i < ISLANDS; i++) {
        if (islands[i].sent_step[f] != 0)
            applied[f][i] = islands[i].sent_done[f] * STEP_TOKENS;
        if (islands[i].sent_step[f] > commit.run_step)
            commit.run_step = islands[i].sent_step[f];
        commit.totals[i] = (struct total){.slot = (uint32_t)i, .applied = applied[f][i]};
    }
    for (int i = 0; i < ISLANDS; i++) {
        islands[i].sent_step[f] = 0;
        islands[i].passed[f] = commit.run_step;
        step_pace_note_commit(&islands[i].pace, &commit, now_ms * 1000);
    }
}

/* The outer is away for `away_ms` of every `period_ms`. */
static void run_islands(struct island islands[ISLANDS], uint64_t end_ms, uint64_t period_ms, uint64_t away_ms) {
    uint64_t applied[FRAGMENTS][ISLANDS] = {0}, close_at[FRAGMENTS] = {0};
    for (uint64_t now = 1; now < end_ms; now++) {
        for (int i = 0; i < ISLANDS; i++) {
            struct island *island = &islands[i];
            if (now < island->done_at)
                continue;
            if (island->done_at != 0) {
                island->step++;
                island->steps_done++;
                step_pace_note_own(&island->pace, island->step_ms * 1000, STEP_TOKENS);
            }
            for (int f = 0; island->step > 0 && f < FRAGMENTS; f++)
                if (next_due(f, island->step - 1) == island->step && island->sent_step[f] == 0) {
                    island->sent_step[f] = island->step;
                    island->sent_done[f] = island->steps_done;
                }
            island->step = step_pace_next(&island->pace, island->step, due_of(island), now * 1000);
            island->done_at = now + island->step_ms;
        }
        if (period_ms != 0 && now % period_ms < away_ms)
            continue;
        for (int f = 0; f < FRAGMENTS; f++) {
            int sent = 0;
            for (int i = 0; i < ISLANDS; i++)
                sent += islands[i].sent_step[f] != 0;
            if (sent < QUORUM)
                close_at[f] = 0;
            else if (close_at[f] == 0)
                close_at[f] = now + GRACE_MS;
            if (sent == ISLANDS || (close_at[f] != 0 && now >= close_at[f])) {
                commit_fragment(islands, applied, f, now);
                close_at[f] = 0;
            }
        }
    }
}

enum { RUN_MS = 60000, OUTAGE_PERIOD_MS = 12000, FAST_MS = 20 };

/* The clock is never further than the fastest island's work, and every island works all the time. */
static void assert_clock_is_work(const struct island islands[ISLANDS]) {
    for (int i = 0; i < ISLANDS; i++) {
        assert_true(islands[i].step <= RUN_MS / FAST_MS);
        assert_true(islands[i].step >= RUN_MS / FAST_MS * 9 / 10);
        assert_true(islands[i].steps_done >= RUN_MS / islands[i].step_ms - 1);
    }
}

static void an_outage_skips_no_training(void **state) {
    (void)state;
    for (uint64_t away_ms = 0; away_ms <= 8000; away_ms += 500) {
        struct island islands[ISLANDS] = {
            {.step_ms = FAST_MS}, {.step_ms = FAST_MS + 1}, {.step_ms = FAST_MS}, {.step_ms = FAST_MS + 2}};
        run_islands(islands, RUN_MS, OUTAGE_PERIOD_MS, away_ms);
        assert_clock_is_work(islands);
    }
}

/* A quorum of islands that are four times slower: the run keeps the others' clock. */
static void slow_islands_do_not_hurry_the_clock(void **state) {
    (void)state;
    for (uint64_t away_ms = 0; away_ms <= 4000; away_ms += 1000) {
        struct island islands[ISLANDS] = {
            {.step_ms = FAST_MS}, {.step_ms = FAST_MS}, {.step_ms = 4 * FAST_MS}, {.step_ms = 4 * FAST_MS}};
        run_islands(islands, RUN_MS, OUTAGE_PERIOD_MS, away_ms);
        assert_clock_is_work(islands);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_keeps_up_follows_commits_only),
        cmocka_unit_test(who_is_slow_follows_the_projected_clock),
        cmocka_unit_test(the_due_number_is_taken_when_the_clock_is_there),
        cmocka_unit_test(a_silent_clock_is_not_projected),
        cmocka_unit_test(numbers_that_all_skipped_are_no_speed),
        cmocka_unit_test(a_lost_stretch_is_forgiven),
        cmocka_unit_test(nobody_is_beyond_the_run),
        cmocka_unit_test(what_is_caught_up_with_is_no_measure),
        cmocka_unit_test(the_clock_is_a_mean_over_time),
        cmocka_unit_test(an_outage_skips_no_training),
        cmocka_unit_test(slow_islands_do_not_hurry_the_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
