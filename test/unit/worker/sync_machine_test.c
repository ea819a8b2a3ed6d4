/* sync_machine: traces, each a named case of DESIGN.md section 3. The machine together with round machines: test/sim. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "sync_trace.h"
#include "unit/dice.h"

/* ---- strict ---- */

static void strict_merges_at_exactly_tau(void **state) {
    (void)state;
    strict(6, 1, 2);
    step(5), expect("");
    step(6), expect("SEND f0 v0 tokens 0-60");
    ready(0, true), expect("");
    boundary(), expect(""); /* here, but not due */
    step(7), expect("");
    step(8), expect("COUNTED f0 v1");
    assert_int_equal(machine.fragments[0].mark, 60);
    step(12), expect("SEND f0 v1 tokens 60-120");
    step(13), expect("");
    step(14), expect("WAIT f0"); /* due, and not here */
    boundary(), expect("WAIT f0");
    ready(0, true), expect("");
    boundary(), expect("COUNTED f0 v2");
    boundary(), expect("");
}

static void tau_0_waits_in_the_step_of_the_send(void **state) {
    (void)state;
    strict(3, 1, 0);
    step(3), expect("SEND f0 v0 tokens 0-30, WAIT f0");
    ready(0, true);
    boundary(), expect("COUNTED f0 v1");
    step(6), expect("SEND f0 v1 tokens 30-60, WAIT f0");
}

static void tau_of_H_less_1_merges_before_the_next_send(void **state) {
    (void)state;
    strict(3, 1, 2);
    step(3), expect("SEND f0 v0 tokens 0-30");
    ready(0, true);
    step(4), expect("");
    step(5), expect("COUNTED f0 v1");
    step(6), expect("SEND f0 v1 tokens 30-60");
}

static void every_step(void **state) {
    (void)state;
    strict(1, 1, 0);
    for (uint64_t t = 1; t <= 3; t++) {
        step(t);
        ready(0, true);
        boundary();
        assert_int_equal(machine.fragments[0].version, t);
    }
    expect("COUNTED f0 v3");
}

static void fragments_do_not_disturb_each_other(void **state) {
    (void)state;
    strict(6, 3, 1);
    step(6), expect("SEND f0 v0 tokens 0-60");
    step(7), expect("WAIT f0");
    ready(0, true), boundary(), expect("COUNTED f0 v1");
    step(8), expect("SEND f1 v0 tokens 0-80");
    ready(1, true);
    step(9), expect("COUNTED f1 v1");
    step(10), expect("SEND f2 v0 tokens 0-100");
    ready(2, true);
    step(11), expect("COUNTED f2 v1");
    step(12), expect("SEND f0 v1 tokens 60-120");
}

static void several_fragments_due_in_one_step(void **state) {
    (void)state;
    strict(2, 4, 1); /* offsets 0 0 1 1 */
    step(2), expect("SEND f0 v0 tokens 0-20, SEND f1 v0 tokens 0-20");
    ready(1, true);
    step(3), expect("SEND f2 v0 tokens 0-30, SEND f3 v0 tokens 0-30, WAIT f0, COUNTED f1 v1");
    ready(0, true), boundary(), expect("COUNTED f0 v1");
    ready(2, true), ready(3, true);
    step(4), expect("SEND f0 v1 tokens 20-40, SEND f1 v1 tokens 20-40, COUNTED f2 v1, COUNTED f3 v1");
}

/* Strict, stale 0: who was away for a round gets a commit without its work: shifted in at once, the record is void. */
static void strict_a_commit_without_us_expires_the_record(void **state) {
    (void)state;
    strict(6, 1, 2);
    step(6), expect("SEND f0 v0 tokens 0-60");
    ready(0, false), expect("");
    step(7), expect("SHIFT f0 v1, EXPIRE f0 v0");
    assert_int_equal(sync_unsent_tokens(&machine, 0), 70);
    step(8), expect("");
    step(12), expect("SEND f0 v1 tokens 0-120"); /* the next send covers both */
}

static void a_wait_ends_with_the_expiry(void **state) {
    (void)state;
    strict(6, 1, 1);
    step(7), expect("WAIT f0");
    ready(0, false), boundary(), expect("SHIFT f0 v1, EXPIRE f0 v0");
    boundary(), expect("");
}

/* ---- auto ---- */

static void auto_merges_when_ready(void **state) {
    (void)state;
    automatic(6, 1);
    step(6), expect("SEND f0 v0 tokens 0-60");
    step(8), expect("");
    ready(0, true);
    step(9), expect("COUNTED f0 v1");
    step(12), expect("SEND f0 v1 tokens 60-120");
}

static void auto_waits_at_H_less_1(void **state) {
    (void)state;
    automatic(6, 1);
    step(10), expect("");
    step(11), expect("WAIT f0");
    ready(0, true), boundary(), expect("COUNTED f0 v1");
}

static void a_record_outlives_commits_without_us_up_to_stale(void **state) {
    (void)state;
    automatic(9, 1);
    step(9), expect("SEND f0 v0 tokens 0-90");
    ready(0, false), step(10), expect("SHIFT f0 v1");
    ready(0, false), step(11), expect("SHIFT f0 v2");
    assert_true(machine.fragments[0].record.active);
    ready(0, true), step(12),
        expect("COUNTED f0 v3"); /* late, but it counts: 3 - 0 is made from base 0 while the version was 2 */
    assert_int_equal(machine.fragments[0].mark, 90);
    step(18), expect("SEND f0 v3 tokens 90-180");
    ready(0, false), step(19), expect("SHIFT f0 v4");
    ready(0, false), step(20), expect("SHIFT f0 v5");
    ready(0, false), step(21), expect("SHIFT f0 v6, EXPIRE f0 v3");
    assert_int_equal(sync_unsent_tokens(&machine, 0), 120);
}

/* A quorum that is not all, stale: auto. Whatever the others commit meanwhile, what is on its way stays in flight until it counts. */
static void with_a_quorum_no_age_voids_a_record(void **state) {
    (void)state;
    open_run((struct sync_machine_options){.schedule = {1, 9}, .drift = 8, .stale = 1000});
    step(9), expect("SEND f0 v0 tokens 0-90");
    for (uint64_t version = 1; version <= 30; version++) {
        ready(0, false);
        boundary(), assert_null(strstr(answer, "EXPIRE"));
        assert_true(machine.fragments[0].version == version && machine.fragments[0].record.active);
    }
    step(10), expect("");
    ready(0, true), step(11), expect("COUNTED f0 v31");
    assert_int_equal(machine.fragments[0].mark, 90);
}

static void a_commit_without_a_record_is_shifted_in(void **state) {
    (void)state;
    automatic(6, 1);
    step(2);
    ready(0, false), boundary(), expect("SHIFT f0 v1");
    step(6), expect("SEND f0 v1 tokens 0-60");
}

static void shift_before_send(void **state) {
    (void)state;
    automatic(6, 1);
    step(5);
    ready(0, false);
    step(6), expect("SHIFT f0 v1, SEND f0 v1 tokens 0-60"); /* the difference is taken from version 1 */
    assert_int_equal(machine.fragments[0].record.base, 1);
    assert_true(machine.fragments[0].record.active);
    ready(0, true), step(7), expect("COUNTED f0 v2");
}

static void shift_before_send_waits_with_tau_0(void **state) {
    (void)state;
    strict(6, 1, 0);
    step(5);
    ready(0, false);
    step(6), expect("SHIFT f0 v1, SEND f0 v1 tokens 0-60, WAIT f0");
}

/* At the last step before the next send a shift alone is not the merge that is due. */
static void a_shift_does_not_end_the_wait_of_a_record_that_stays(void **state) {
    (void)state;
    automatic(6, 1);
    step(11), expect("WAIT f0");
    ready(0, false), boundary(), expect("SHIFT f0 v1, WAIT f0");
    ready(0, false), boundary(), expect("SHIFT f0 v2, WAIT f0");
    ready(0, false), boundary(), expect("SHIFT f0 v3, EXPIRE f0 v0");
    boundary(), expect("");
}

static void an_unresolved_record_keeps_a_due_step_from_sending(void **state) {
    (void)state;
    automatic(6, 1);
    step(6), expect("SEND f0 v0 tokens 0-60");
    feed((struct sync_event){.kind = SYNC_EVENT_STEP, .step = 12, .tokens = 60}),
        expect("WAIT f0"); /* a jump of the run clock */
    ready(0, true), boundary(), expect("COUNTED f0 v1");
    assert_int_equal(sync_unsent_tokens(&machine, 0), 60);
}

/* The others went on without us to step 8: what we would send for our step 6 is of a round that has passed. */
static void who_is_behind_does_not_send_for_steps_that_have_passed(void **state) {
    (void)state;
    open_run((struct sync_machine_options){.schedule = {1, 6}, .strict = true, .overlap_steps = 2, .lockstep = true});
    step(4);
    feed((struct sync_event){.kind = SYNC_EVENT_READY, .version = 1, .run_step = 6});
    step(6), expect("");
    step(12), expect("SEND f0 v1 tokens 0-120");
    automatic(6, 1); /* quorum mode: to be late is no reason not to send */
    step(4);
    feed((struct sync_event){.kind = SYNC_EVENT_READY, .version = 1, .run_step = 6});
    step(5), step(6), expect("SEND f0 v1 tokens 0-60");
}

/* H = 6, offsets 0 2 4: due at 6, 8, 10, 12, ... */
static void the_run_clock_skips_what_has_passed(void **state) {
    (void)state;
    open_run((struct sync_machine_options){.schedule = {3, 6}, .strict = true, .overlap_steps = 1, .lockstep = true});
    step(4);
    assert_int_equal(sync_run_clock(&machine, false), 4);
    feed((struct sync_event){.kind = SYNC_EVENT_READY, .fragment = 0, .version = 1, .run_step = 6});
    assert_int_equal(sync_run_clock(&machine, false), 6);
    feed((struct sync_event){.kind = SYNC_EVENT_READY, .fragment = 2, .version = 1, .run_step = 10});
    assert_int_equal(sync_run_clock(&machine, false), 7); /* step 8 is waited for */
    feed((struct sync_event){.kind = SYNC_EVENT_READY, .fragment = 1, .version = 1, .run_step = 8});
    assert_int_equal(sync_run_clock(&machine, false), 10);
    machine.options.lockstep = false;
    assert_int_equal(sync_run_clock(&machine, false), 4);
    assert_int_equal(sync_run_clock(&machine, true), 10); /* who joins or returns goes on from R */
}

/* ---- the end ---- */

static void the_end_resolves_sends_and_takes(void **state) {
    (void)state;
    strict(6, 2, 4); /* offsets 0 3 */
    step(9), expect("SEND f1 v0 tokens 0-90");
    end(), expect("WAIT f0, WAIT f1"); /* training stops at 9 */
    ready(1, true), end(), expect("WAIT f0, COUNTED f1 v1");
    end(), expect("WAIT f0");
    ready(0, true), end(), expect("COUNTED f0 v1");
    end(), expect("SEND f0 v1 tokens 60-90, WAIT f0"); /* fragment 1 has nothing unsent */
    end(), expect("WAIT f0");
    ready(0, true), end(), expect("TAKE f0 v2");
    end(), expect("DONE");
    end(), expect("");                            /* once */
    ready(1, false), end(), expect("TAKE f1 v2"); /* a slower worker's last */
    end(), expect("");
}

static void more_steps_after_the_end(void **state) {
    (void)state;
    strict(6, 1, 0);
    step(6);
    ready(0, true), boundary(), expect("COUNTED f0 v1");
    end(), expect("DONE");
    sync_go_on(&machine);
    step(12), expect("SEND f0 v1 tokens 60-120, WAIT f0");
    ready(0, true), boundary(), expect("COUNTED f0 v2");
    end(), expect("DONE"); /* said again */
}

static void the_end_with_nothing_to_send(void **state) {
    (void)state;
    strict(6, 1, 0);
    step(6);
    ready(0, true), boundary(), expect("COUNTED f0 v1");
    end(), expect("DONE");
}

static void the_end_before_any_send(void **state) {
    (void)state;
    strict(6, 2, 1);
    step(4);
    end(), expect("SEND f0 v0 tokens 0-40, SEND f1 v0 tokens 0-40, WAIT f0, WAIT f1");
    ready(0, true), end(), expect("TAKE f0 v1, WAIT f1");
    ready(1, true), end(), expect("TAKE f1 v1");
    end(), expect("DONE");
}

static void a_last_send_that_did_not_count_is_sent_again(void **state) {
    (void)state;
    strict(6, 1, 1);
    step(4);
    end(), expect("SEND f0 v0 tokens 0-40, WAIT f0");
    ready(0, false), end(), expect("SHIFT f0 v1, EXPIRE f0 v0");
    end(), expect("SEND f0 v1 tokens 0-40, WAIT f0");
    ready(0, true), end(), expect("TAKE f0 v2");
    end(), expect("DONE");
}

static void a_last_send_may_count_late(void **state) {
    (void)state;
    automatic(6, 1);
    step(4);
    end(), expect("SEND f0 v0 tokens 0-40, WAIT f0");
    ready(0, false), end(), expect("SHIFT f0 v1");
    end(), expect("WAIT f0");
    ready(0, true), end(), expect("TAKE f0 v2");
    end(), expect("DONE");
}

static void commits_without_us_before_the_last_send_are_shifted_in(void **state) {
    (void)state;
    automatic(6, 1);
    step(8);
    ready(0, true), end(), expect("COUNTED f0 v1");
    ready(0, false), end(), expect("SHIFT f0 v2");
    end(), expect("SEND f0 v2 tokens 60-80, WAIT f0");
}

/* ---- content that was refused ---- */

static void a_refused_content_is_thrown_away(void **state) {
    (void)state;
    strict(6, 1, 2);
    step(7);
    lossless = false;
    refused(0, 3), expect(""); /* of another send */
    refused(0, 0), expect("");
    boundary(), expect("RESET f0 v0");
    assert_int_equal(machine.fragments[0].work, 0);
    assert_int_equal(machine.tokens, 70); /* the counter never goes back */
    step(12), expect("SEND f0 v0 tokens 0-120 weight 50");
    ready(0, true), step(14), expect("COUNTED f0 v1");
}

static void a_commit_that_counts_it_all_the_same_beats_the_refusal(void **state) {
    (void)state;
    strict(6, 1, 2);
    step(7);
    ready(0, true);
    refused(0, 0);
    step(8), expect("COUNTED f0 v1");
}

/* ---- coming back ---- */

/* Saved at step 8 with the send of step 6 in flight; the killed process went on to step 12, sent once more, and both counted. */
static void resume_at_8(void) {
    struct sync_fragment saved = {.work = 80, .record = {.active = true, .step = 6, .tokens_to = 60, .tokens = 60}};
    struct sync_machine_options options = {.schedule = {1, 6}, .drift = 5, .stale = 2};
    open_run(options);
    assert_true(sync_resume(&machine, &options, 8, 80, &saved));
    lossless = false;
    counter(125);
}

static void a_restart_knows_its_own_record_and_what_came_after_it(void **state) {
    (void)state;
    resume_at_8();
    assert_int_equal(sync_joined_step(&machine), 5); /* still expected in the round of step 6 */
    ready_mark(0, 60), boundary(), expect("COUNTED f0 v1");
    assert_int_equal(machine.fragments[0].work, 20); /* steps 7 and 8, which the next one holds as well */
    ready_mark(0, 120), boundary(), expect("COVERED f0 v2");
    assert_int_equal(machine.fragments[0].work, 0);
    step(11), expect("");
    step(12), expect("SEND f0 v2 tokens 120-165 weight 40"); /* 5 died with the process */
}

static void a_restart_that_finds_only_the_later_commit(void **state) {
    (void)state;
    resume_at_8();
    jump(0, 2, 120), boundary(), expect("COVERED f0 v2, EXPIRE f0 v0");
    assert_int_equal(machine.fragments[0].work, 0);
}

static void a_restart_whose_send_was_lost_sends_its_work_again(void **state) {
    (void)state;
    resume_at_8();
    jump(0, 3, 0), boundary(), expect("SHIFT f0 v3, EXPIRE f0 v0");
    assert_int_equal(machine.fragments[0].work, 80);
    step(12), expect("SEND f0 v3 tokens 0-165 weight 120");
}

/* The outer still takes it: given up here, it would be waited for there. */
static void a_jump_leaves_in_flight_what_may_still_count(void **state) {
    (void)state;
    automatic(6, 1);
    step(8);
    jump(0, 2, 0), boundary(), expect("SHIFT f0 v2");
    assert_true(machine.fragments[0].record.active);
    ready(0, true), boundary(), expect("COUNTED f0 v3");
    step(12), expect("SEND f0 v3 tokens 60-120");
    lossless = false; /* another branch, where less is counted */
    jump(0, 3, 50), boundary(), expect("SHIFT f0 v3, EXPIRE f0 v3");
}

static void the_counter_never_goes_back(void **state) {
    (void)state;
    automatic(6, 1);
    lossless = false;
    step(2);
    counter(500);
    assert_int_equal(machine.tokens, 500);
    counter(3);
    assert_int_equal(machine.tokens, 500);
    step(6), expect("SEND f0 v0 tokens 0-540 weight 60");
}

static void a_checkpoint_that_contradicts_itself_is_refused(void **state) {
    (void)state;
    struct sync_machine_options options = {.schedule = {1, 6}, .drift = 5, .stale = 2};
    struct sync_fragment more_work = {.work = 81}, empty_record = {.work = 80, .record = {.active = true, .step = 6}};
    assert_false(sync_resume(&machine, &options, 8, 80, &more_work));
    assert_false(sync_resume(&machine, &options, 8, 80, &empty_record));
}

/* ---- random ---- */

enum { RUNS = 500, STEPS = 120 };

/* Random commits from a trusted outer: next version, counting us only while a record is in flight that the outer may still count. */
static void random_commit(struct dice *dice) {
    uint32_t f = below(dice, machine.options.schedule.fragments);
    const struct sync_fragment *fragment = &machine.fragments[f];
    bool may_count = fragment->record.active && fragment->version - fragment->record.base <= machine.options.stale;
    if (!fragment->ready)
        ready(f, may_count && below(dice, 3) > 0);
}

static void waits_out(struct dice *dice) {
    for (int i = 0; strstr(answer, "WAIT") != NULL; i++) {
        assert_in_range(i, 0, 10000);
        random_commit(dice);
        boundary();
    }
}

static void random_commits_at_random_times(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= RUNS; seed++) {
        struct dice dice = {seed, 0};
        uint64_t every = 1 + below(&dice, 9);
        uint32_t fragments = 1 + below(&dice, 5);
        if (below(&dice, 2))
            strict(every, fragments, below(&dice, (uint32_t)every));
        else
            automatic(every, fragments);
        for (uint64_t t = 1; t <= STEPS; t++) {
            step(t);
            waits_out(&dice);
            for (uint32_t f = 0; f < fragments; f++) {
                const struct sync_record *record = &machine.fragments[f].record;
                uint64_t overlap = machine.options.strict ? machine.options.overlap_steps : every - 1;
                assert_false(record->active && t >= record->step + overlap); /* nobody trains past a merge */
            }
            while (below(&dice, 3) == 0)
                random_commit(&dice);
        }
        for (int i = 0; machine.phase != SYNC_PHASE_DONE; i++) {
            assert_in_range(i, 0, 10000);
            end();
            if (below(&dice, 2))
                random_commit(&dice);
        }
        for (uint32_t f = 0; f < fragments; f++)
            assert_int_equal(machine.fragments[f].mark, machine.tokens); /* every token has counted */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_merges_at_exactly_tau),
        cmocka_unit_test(tau_0_waits_in_the_step_of_the_send),
        cmocka_unit_test(tau_of_H_less_1_merges_before_the_next_send),
        cmocka_unit_test(every_step),
        cmocka_unit_test(fragments_do_not_disturb_each_other),
        cmocka_unit_test(several_fragments_due_in_one_step),
        cmocka_unit_test(strict_a_commit_without_us_expires_the_record),
        cmocka_unit_test(a_wait_ends_with_the_expiry),
        cmocka_unit_test(auto_merges_when_ready),
        cmocka_unit_test(auto_waits_at_H_less_1),
        cmocka_unit_test(a_record_outlives_commits_without_us_up_to_stale),
        cmocka_unit_test(with_a_quorum_no_age_voids_a_record),
        cmocka_unit_test(a_commit_without_a_record_is_shifted_in),
        cmocka_unit_test(shift_before_send),
        cmocka_unit_test(shift_before_send_waits_with_tau_0),
        cmocka_unit_test(a_shift_does_not_end_the_wait_of_a_record_that_stays),
        cmocka_unit_test(an_unresolved_record_keeps_a_due_step_from_sending),
        cmocka_unit_test(who_is_behind_does_not_send_for_steps_that_have_passed),
        cmocka_unit_test(the_run_clock_skips_what_has_passed),
        cmocka_unit_test(the_end_resolves_sends_and_takes),
        cmocka_unit_test(more_steps_after_the_end),
        cmocka_unit_test(the_end_with_nothing_to_send),
        cmocka_unit_test(the_end_before_any_send),
        cmocka_unit_test(a_last_send_that_did_not_count_is_sent_again),
        cmocka_unit_test(a_last_send_may_count_late),
        cmocka_unit_test(commits_without_us_before_the_last_send_are_shifted_in),
        cmocka_unit_test(a_refused_content_is_thrown_away),
        cmocka_unit_test(a_commit_that_counts_it_all_the_same_beats_the_refusal),
        cmocka_unit_test(a_restart_knows_its_own_record_and_what_came_after_it),
        cmocka_unit_test(a_restart_that_finds_only_the_later_commit),
        cmocka_unit_test(a_restart_whose_send_was_lost_sends_its_work_again),
        cmocka_unit_test(a_jump_leaves_in_flight_what_may_still_count),
        cmocka_unit_test(the_counter_never_goes_back),
        cmocka_unit_test(a_checkpoint_that_contradicts_itself_is_refused),
        cmocka_unit_test(random_commits_at_random_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
