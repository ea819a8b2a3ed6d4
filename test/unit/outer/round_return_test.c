/* round: traces of an outer that comes to lead, and of members that come back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "round_trace.h"

/* ---- to lead ---- */

static void nothing_starts_before_lead(void **state) {
    (void)state;
    run_not_led((struct round_options){.workers = 2, .fragments = 1});
    feed(JOIN(0)), expect("");
    feed(JOIN(1)), expect("");
    contributes(0, 0, 0), contributes(1, 0, 0), expect("");
    feed(TICK), expect("");
    feed(DONE(0)), feed(DONE(1)), expect("");
    assert_true(round_deadline_us(&machine) == UINT64_MAX);
    run_not_led((struct round_options){.workers = 2, .fragments = 1});
    feed(JOIN(0)), feed(JOIN(1));
    feed(LEAD), expect("START");
    run_not_led((struct round_options){.workers = 2, .fragments = 1});
    feed(JOIN(0)), feed(LEAD), expect("");
    feed(JOIN(1)), expect("START, MEMBERS");
}

static void nothing_closes_and_nothing_ends_before_lead(void **state) {
    (void)state;
    run_not_led((struct round_options){.workers = 2, .fragments = 2, .ended = true, .stale = 2});
    adopt(0, 3, 20), adopt(1, 3, 23);
    feed(JOIN(0)), expect("MEMBERS");
    feed(OFFER(0, 0, 3)), expect("GRANT 0 f0 v3");
    feed(WHOLE(0, 0, 3)), expect("");
    feed(OFFER(0, 1, 3)), expect("GRANT 0 f1 v3");
    feed(BROKEN(0, 1, 3)), expect("REFUSE 0 f1 v3 not finite, DISCARD 0 f1 v3");
    after(1000000000), feed(TICK), expect("");
    assert_true(round_deadline_us(&machine) == UINT64_MAX); /* though the patience of the end is over */
    feed(DONE(0)), expect("");
    feed(LEAD), expect("CLOSE f0 v4 of 0");
    feed(COMMITTED(0, 4)), expect("DISCARD 0 f0 v3, PUBLISH f0 v4, FINISH");
    run_not_led((struct round_options){.workers = 2, .fragments = 1});
    adopt(0, 3, 20);
    feed(JOIN(0)), feed(DONE(0)), expect(""); /* nothing is open, and nothing is known of the others */
    feed(LEAD), expect("FINISH");
}

/* Of disk or of a worker: versions, run steps, marks. */
static void what_is_adopted_goes_on(void **state) {
    (void)state;
    run_not_led((struct round_options){.workers = 2, .fragments = 2});
    struct commit commit = commit_of(0, 9, 70);
    commit.total_count = 2;
    commit.totals[0] = (struct total){.slot = 0, .mark = 60, .applied = 55, .dropped = 5};
    commit.totals[1] = (struct total){.slot = 63, .mark = 7, .applied = 7};
    round_adopt(&machine, &commit);
    adopt(1, 4, 30); /* older: the run step does not go back */
    assert_true(machine.started && !machine.leading);
    assert_int_equal(machine.fragments[0].version, 9);
    assert_int_equal(machine.fragments[0].run_step, 70);
    assert_int_equal(machine.fragments[1].version, 4);
    assert_int_equal(machine.fragments[1].run_step, 30);
    assert_int_equal(machine.run_step, 70);
    assert_int_equal(machine.ledger.entries[0][0].mark, 60);
    assert_int_equal(machine.ledger.entries[0][0].applied, 55);
    assert_int_equal(machine.ledger.entries[0][0].dropped, 5);
    assert_int_equal(machine.ledger.entries[63][0].mark, 7);
    assert_int_equal(machine.ledger.entries[0][1].mark, 0);
    assert_int_equal(machine.ledger.entries[0][1].processed, 60); /* a worker has one counter */
    commit = commit_of(0, 12, 90);                                /* taken over from a worker: newer */
    commit.total_count = 1;
    commit.totals[0] = (struct total){.slot = 0, .mark = 80, .applied = 75, .dropped = 5};
    round_adopt(&machine, &commit);
    assert_int_equal(machine.ledger.entries[63][0].mark, 0); /* all of it is replaced */
    feed(LEAD), expect("");
    feed(JOIN(0)), expect("MEMBERS");
    feed(OFFER(0, 0, 9)), expect("REFUSE 0 f0 v9 stale");
    contributes_at(0, 0, 12, 97), expect("CLOSE f0 v13 of 0");
    assert_int_equal(machine.fragments[0].counted[0].tokens_from, 80);
    feed(COMMITTED(0, 13)), expect("DISCARD 0 f0 v12, PUBLISH f0 v13");
    assert_int_equal(machine.fragments[0].run_step, 97);
    assert_int_equal(machine.fragments[1].run_step, 30);
    assert_int_equal(machine.run_step, 97);
    assert_int_equal(machine.ledger.entries[0][0].applied, 75 + TRACE_TOKENS);
}

/* A strict run of three that had two commits when its outer was killed. */
static void restarted(uint64_t lead_mask, int32_t quorum) {
    run_not_led((struct round_options){.workers = 3, .fragments = 1, .quorum = quorum, .started = true});
    adopt(0, 2, 8);
    feed(LEAD_WITH(lead_mask)), expect("");
}

static void a_restarted_outer_waits_for_those_that_were_here(void **state) {
    (void)state;
    restarted(7, 0);
    feed(JOIN_AT(0, 100, 8)), expect("MEMBERS");
    contributes(0, 0, 2), expect("");
    assert_true(round_deadline_us(&machine) == now_us + ROUND_RETURN_PATIENCE_US);
    feed(JOIN_AT(1, 101, 8)), expect("MEMBERS");
    contributes(1, 0, 2), expect("");
    feed(JOIN_AT(2, 102, 8)), expect("MEMBERS"); /* all are back: from here as if nothing had been */
    assert_true(round_deadline_us(&machine) == UINT64_MAX);
    after(1000000000), feed(TICK), expect("");
    contributes(2, 0, 2), expect("CLOSE f0 v3 of 0 1 2");
}

static void who_returns_first_does_not_close_alone(void **state) {
    (void)state;
    restarted(7, 0);
    feed(JOIN(0)), feed(JOIN(1)), expect("MEMBERS");
    contributes(0, 0, 2), expect("");
    contributes(1, 0, 2), expect("");             /* all that are connected */
    feed(LEAVE(2)), expect("CLOSE f0 v3 of 0 1"); /* its link broke before it joined: waited for no more */
    restarted(7, 0);
    feed(JOIN(0)), feed(JOIN(1));
    contributes(0, 0, 2), contributes(1, 0, 2), expect("");
    feed(JOIN_AT(2, 102, 9)), expect("MEMBERS, CLOSE f0 v3 of 0 1"); /* here, and expected in later rounds only */
}

static void who_returns_first_does_not_end_the_run(void **state) {
    (void)state;
    restarted(7, 0);
    feed(JOIN(0)), feed(DONE(0)), expect("");
    feed(JOIN(1)), feed(DONE(1)), expect("");
    feed(JOIN(2)), expect("MEMBERS");
    contributes(2, 0, 2), expect("CLOSE f0 v3 of 2");
    feed(DONE(2)), expect("");
    feed(COMMITTED(0, 3)), expect("DISCARD 2 f0 v2, PUBLISH f0 v3, FINISH");
    restarted(7, 0);
    feed(JOIN(0)), feed(DONE(0)), expect("");
    after(ROUND_RETURN_PATIENCE_US), feed(TICK), expect("FINISH");
    restarted(7, -50); /* nor is one of three a quorum of those that train */
    feed(JOIN(0)), feed(REACHED(0)), expect("");
    feed(DONE(0)), expect("");
    feed(JOIN(1)), feed(JOIN(2)), expect("MEMBERS");
    feed(REACHED(1)), expect("END");
}

static void the_patience_with_those_that_were_here(void **state) {
    (void)state;
    restarted(7, 0);
    feed(JOIN(0)), contributes(0, 0, 2), expect("");
    after(ROUND_RETURN_PATIENCE_US - 1), feed(TICK), expect("");
    assert_true(round_deadline_us(&machine) == now_us + 1);
    feed(LATE(500)), expect(""); /* this node itself stood still */
    after(1), feed(TICK), expect("");
    assert_true(round_deadline_us(&machine) == now_us + 500);
    after(500), feed(TICK), expect("CLOSE f0 v3 of 0");
    assert_true(round_deadline_us(&machine) == UINT64_MAX);
    feed(COMMITTED(0, 3));
    contributes(0, 0, 3), expect("CLOSE f0 v4 of 0"); /* over once for all */
}

/* A quorum, or a run that has not started, waits for nobody in particular. */
static void only_strict_and_started_runs_wait_for_names(void **state) {
    (void)state;
    restarted(7, 2);
    feed(JOIN(0)), contributes(0, 0, 2), expect("CLOSE f0 v3 of 0");
    run_not_led((struct round_options){.workers = 1, .fragments = 1});
    feed(LEAD_WITH(6)), expect("");
    feed(JOIN(0)), expect("START, MEMBERS");
    contributes(0, 0, 0), expect("CLOSE f0 v1 of 0");
}

static void how_far_the_run_was_is_restored(void **state) {
    (void)state;
    /* ended: the patience of the end runs at once, END is not said again */
    run_not_led(
        (struct round_options){.workers = 2, .fragments = 1, .quorum = 2, .stale = 2, .started = true, .ended = true});
    adopt(0, 2, 8);
    feed(LEAD), feed(JOIN(0)), feed(JOIN(1)), expect("MEMBERS");
    contributes(0, 0, 2), expect("");
    feed(REACHED(0)), feed(REACHED(1)), expect("");
    assert_true(round_deadline_us(&machine) == now_us + ROUND_END_PATIENCE_US);
    after(ROUND_END_PATIENCE_US), feed(TICK), expect("CLOSE f0 v3 of 0");
    /* finished: who returns has nothing to add; it holds the final versions, evaluates, and may go */
    run_not_led((struct round_options){.workers = 2, .fragments = 1, .started = true, .finished = true});
    adopt(0, 2, 8);
    feed(LEAD), expect("");
    feed(JOIN(1)), expect("MEMBERS");
    assert_int_equal(members_expected(&machine.members), 0);
    feed(OFFER(1, 0, 2)), expect("REFUSE 1 f0 v2 malformed");
    feed(DONE(1)), expect("");
    feed(FINAL(1)), expect("LEAVE");
    /* started, though no version came of it: nothing is begun anew */
    run_not_led((struct round_options){.workers = 2, .fragments = 1, .started = true});
    feed(LEAD), expect("");
    feed(JOIN(0)), expect("MEMBERS");
    contributes(0, 0, 0), expect("CLOSE f0 v1 of 0");
}

/* ---- coming back ---- */

static void the_same_process_comes_back(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    contributes(0, 0, 0);
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
    feed(LEAVE(1)), expect("MEMBERS");
    feed(COMMITTED(0, 1));
    contributes(0, 0, 1), expect("CLOSE f0 v2 of 0"); /* goes on without it */
    feed(JOIN(1)), expect("MEMBERS");
    feed(COMMITTED(0, 2)), expect("DISCARD 0 f0 v1, PUBLISH f0 v2");
    feed(OFFER(1, 0, 1)), expect("REFUSE 1 f0 v1 stale"); /* what it sent meanwhile was measured from version 1 */
    contributes(0, 0, 2), expect("");                     /* it is expected again */
    contributes(1, 0, 2), expect("CLOSE f0 v3 of 0 1");
}

/* A round expects those that joined before its step. */
static void a_newcomer_is_expected_in_rounds_of_later_steps(void **state) {
    (void)state;
    run_of(2, 2);
    all_join();
    contributes_at(0, 0, 0, 6), expect("");
    feed(JOIN_AT(2, 102, 6)), expect("MEMBERS"); /* above `workers`: slots go to the maximum */
    contributes_at(1, 0, 0, 6), expect("CLOSE f0 v1 of 0 1");
    feed(COMMITTED(0, 1));
    contributes_at(0, 1, 0, 8), expect("");
    contributes_at(1, 1, 0, 8), expect(""); /* step 8 is after 6 */
    contributes_at(2, 1, 0, 8), expect("CLOSE f1 v1 of 0 1 2");
    feed(COMMITTED(1, 1));
    contributes_at(0, 0, 1, 12), contributes_at(2, 0, 1, 12), expect("");
    contributes_at(1, 0, 1, 12), expect("CLOSE f0 v2 of 0 1 2");
    feed(COMMITTED(0, 2)), expect("DISCARD 0 f0 v1, DISCARD 1 f0 v1, DISCARD 2 f0 v1, PUBLISH f0 v2");
}

/* The step of a round is the largest that is whole: when a later one arrives, more are waited for. */
static void a_later_step_in_the_round_expects_more(void **state) {
    (void)state;
    run_with((struct round_options){.workers = 2, .fragments = 1, .stale = 2});
    all_join();
    feed(JOIN_AT(2, 102, 6)), expect("MEMBERS");
    contributes_at(0, 0, 0, 6), expect("");
    contributes_at(1, 0, 0, 7), expect(""); /* the step is 7 now */
    feed(OFFER(2, 0, 0)), expect("GRANT 2 f0 v0");
    feed(WHOLE(2, 0, 0)), expect("CLOSE f0 v1 of 0 1 2");
}

static void a_newcomer_that_comes_early_counts(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    feed(JOIN_AT(2, 102, 20)), expect("MEMBERS");
    contributes(2, 0, 0), expect(""); /* not expected, and welcome */
    contributes(0, 0, 0), expect("");
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1 2");
}

static void the_last_slot(void **state) {
    (void)state;
    run_of(1, 1);
    all_join();
    feed(JOIN(MESSAGE_WORKERS_MAX - 1)), expect("MEMBERS");
    contributes(0, 0, 0), expect("");
    contributes(MESSAGE_WORKERS_MAX - 1, 0, 0), expect("CLOSE f0 v1 of 0 63");
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, DISCARD 63 f0 v0, PUBLISH f0 v1");
}

/* A killed worker comes back as another process: what had come in half is thrown away, what had come whole is kept and counted, and is not
 * counted again when the new process offers the same out of its checkpoint. */
static void a_new_process_on_the_same_slot(void **state) {
    (void)state;
    run_of(2, 2);
    all_join();
    struct contribution whole = contribution_of(1, 0, 0), half = contribution_of(1, 1, 0);
    feed(OFFERED(whole)), feed(WHOLE(1, 0, 0)), expect("");
    feed(OFFERED(half)), expect("GRANT 1 f1 v0");
    feed(LEAVE(1)), expect("MEMBERS");
    feed(JOIN_AS(1, 999)), expect("DISCARD 1 f1 v0, MEMBERS");
    assert_int_equal(machine.ledger.entries[1][1].in_flight, 0);
    feed(OFFERED(half)), expect("REFUSE 1 f1 v0 malformed"); /* of a process that is dead */
    whole.incarnation = half.incarnation = 999;
    feed(OFFERED(half)), expect("GRANT 1 f1 v0"); /* from its first byte */
    feed(OFFERED(whole)), expect("");             /* all of it is here */
    whole.tokens_to++;
    feed(OFFERED(whole)), expect("REFUSE 1 f0 v0 duplicate"); /* another one has to wait */
    contributes(0, 0, 0), expect("CLOSE f0 v1 of 0 1");
    assert_int_equal(machine.fragments[0].counted[1].incarnation, 101); /* whose work it is */
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, DISCARD 1 f0 v0, PUBLISH f0 v1");
    assert_int_equal(machine.ledger.entries[1][0].applied, TRACE_TOKENS);
    whole.tokens_to--;
    feed(OFFERED(whole)), expect("REFUSE 1 f0 v0 duplicate"); /* counted */
    feed(WHOLE(1, 1, 0)), expect("");
    contributes(0, 1, 0), expect("CLOSE f1 v1 of 0 1");
    assert_int_equal(machine.fragments[1].counted[1].incarnation, 999);
}

static void a_new_process_while_its_predecessors_work_is_summed(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    struct contribution c = contribution_of(1, 0, 0);
    contributes(0, 0, 0);
    feed(OFFERED(c)), feed(WHOLE(1, 0, 0)), expect("CLOSE f0 v1 of 0 1");
    feed(LEAVE(1)), expect("MEMBERS");
    feed(JOIN_AS(1, 999)), expect("MEMBERS"); /* no DISCARD: the sum is reading it */
    c.incarnation = 999;
    feed(OFFERED(c)), expect("");
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, DISCARD 1 f0 v0, PUBLISH f0 v1");
    feed(OFFERED(c)), expect("REFUSE 1 f0 v0 duplicate");
    contributes(0, 0, 1), expect("");
    contributes(1, 0, 1), expect("CLOSE f0 v2 of 0 1");
}

/* The daemon ends the old session first; a JOIN beside it changes nothing. */
static void who_is_connected_does_not_join_again(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    contributes(1, 0, 0), expect("");
    feed(JOIN_AS(0, 999)), expect("");
    feed(JOIN_AT(0, 100, 50)), expect("");
    assert_int_equal(machine.members.slot[0].incarnation, 100);
    contributes(0, 0, 0), expect("CLOSE f0 v1 of 0 1");
}

static void who_returns_brings_its_counter(void **state) {
    (void)state;
    run_of(1, 2);
    all_join();
    feed(LEAVE(0));
    feed(EVENT(.kind = ROUND_EVENT_JOIN, .incarnation = 5, .tokens = 70)), expect("MEMBERS");
    assert_int_equal(machine.ledger.entries[0][0].processed, 70);
    assert_int_equal(machine.ledger.entries[0][1].processed, 70);
    feed(LEAVE(0));
    feed(EVENT(.kind = ROUND_EVENT_JOIN, .incarnation = 6, .tokens = 60)), expect("MEMBERS");
    assert_int_equal(machine.ledger.entries[0][1].processed, 70); /* it never goes back */
}

static void the_same_offer_again_asks_for_the_rest(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    struct contribution c = contribution_of(0, 0, 0);
    feed(OFFERED(c)), expect("GRANT 0 f0 v0");
    feed(OFFERED(c)), expect("GRANT 0 f0 v0");
    feed(LEAVE(0)), expect("MEMBERS");
    feed(JOIN(0)), expect("MEMBERS");
    feed(OFFERED(c)), expect("GRANT 0 f0 v0");
    feed(WHOLE(0, 0, 0)), expect("");
    feed(OFFERED(c)), expect(""); /* all of it is here */
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
    feed(OFFERED(c)), expect("");
    feed(COMMITTED(0, 1));
    feed(OFFERED(c)), expect("REFUSE 0 f0 v0 duplicate");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_starts_before_lead),
        cmocka_unit_test(nothing_closes_and_nothing_ends_before_lead),
        cmocka_unit_test(what_is_adopted_goes_on),
        cmocka_unit_test(a_restarted_outer_waits_for_those_that_were_here),
        cmocka_unit_test(who_returns_first_does_not_close_alone),
        cmocka_unit_test(who_returns_first_does_not_end_the_run),
        cmocka_unit_test(the_patience_with_those_that_were_here),
        cmocka_unit_test(only_strict_and_started_runs_wait_for_names),
        cmocka_unit_test(how_far_the_run_was_is_restored),
        cmocka_unit_test(the_same_process_comes_back),
        cmocka_unit_test(a_newcomer_is_expected_in_rounds_of_later_steps),
        cmocka_unit_test(a_later_step_in_the_round_expects_more),
        cmocka_unit_test(a_newcomer_that_comes_early_counts),
        cmocka_unit_test(the_last_slot),
        cmocka_unit_test(a_new_process_on_the_same_slot),
        cmocka_unit_test(a_new_process_while_its_predecessors_work_is_summed),
        cmocka_unit_test(who_is_connected_does_not_join_again),
        cmocka_unit_test(who_returns_brings_its_counter),
        cmocka_unit_test(the_same_offer_again_asks_for_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
