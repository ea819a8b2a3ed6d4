/* round: traces of the machine, each a named case of DESIGN.md section 5; and random events against an oracle that knows no rounds. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "round_trace.h"
#include "unit/dice.h"

/* ---- start ---- */

static void start_waits_for_all(void **state) {
    (void)state;
    run_of(3, 1);
    feed(JOIN(0)), expect("");
    feed(JOIN(2)), expect("");
    feed(JOIN(2)), expect("");
    feed(LEAVE(0)), expect("");
    feed(JOIN(1)), expect("");
    feed(JOIN_AS(0, 555)), expect("START, MEMBERS"); /* before the start another process may take the place */
    assert_int_equal(members_evaluator(&machine.members), 0);
}

/* What an earlier process had sent comes early: it is received, and no round closes. */
static void offers_before_the_start_wait(void **state) {
    (void)state;
    run_of(2, 1);
    feed(JOIN(0));
    feed(OFFER(1, 0, 0)), expect("REFUSE 1 f0 v0 malformed"); /* nobody there */
    feed(OFFER(0, 0, 0)), expect("GRANT 0 f0 v0");
    feed(WHOLE(0, 0, 0)), expect("");
    feed(TICK), expect("");
    feed(JOIN(1)), expect("START, MEMBERS");
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
}

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

/* ---- strict rounds ---- */

static void strict_round_needs_every_live_worker(void **state) {
    (void)state;
    run_of(3, 2);
    all_join();
    feed(OFFER(1, 0, 0)), expect("GRANT 1 f0 v0");
    feed(WHOLE(1, 0, 0)), expect("");
    contributes(2, 0, 0), expect("");
    after(1000000000), feed(TICK), expect(""); /* no time closes a strict round */
    assert_true(round_deadline_us(&machine) == UINT64_MAX);
    feed(OFFER(0, 0, 0)), expect("GRANT 0 f0 v0");
    feed(WHOLE(0, 0, 0)), expect("CLOSE f0 v1 of 0 1 2"); /* by slot, whoever came first */
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, DISCARD 1 f0 v0, DISCARD 2 f0 v0, PUBLISH f0 v1");
    assert_int_equal(machine.fragments[1].version, 0);
    assert_int_equal(machine.run_step, 7);
}

static void nothing_is_published_before_it_is_committed(void **state) {
    (void)state;
    run_of(1, 1);
    all_join();
    contributes(0, 0, 0), expect("CLOSE f0 v1 of 0");
    feed(TICK), expect("");
    feed(TOKENS(0, 10)), expect("");
    assert_int_equal(machine.fragments[0].version, 0);
    assert_int_equal(machine.ledger.entries[0][0].in_flight, TRACE_TOKENS);
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, PUBLISH f0 v1");
    assert_int_equal(machine.ledger.entries[0][0].applied, TRACE_TOKENS);
    assert_int_equal(machine.ledger.entries[0][0].in_flight, 0);
}

static void fragments_close_on_their_own(void **state) {
    (void)state;
    run_of(2, 3);
    all_join();
    contributes(0, 2, 0), expect("");
    contributes(0, 0, 0), expect("");
    contributes(1, 2, 0), expect("CLOSE f2 v1 of 0 1");
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, DISCARD 1 f0 v0, PUBLISH f0 v1");
    feed(COMMITTED(2, 1)), expect("DISCARD 0 f2 v0, DISCARD 1 f2 v0, PUBLISH f2 v1");
}

/* ---- death ---- */

static void death_ends_the_expectation_at_once(void **state) {
    (void)state;
    run_of(3, 2);
    all_join();
    contributes(0, 0, 0);
    contributes(1, 0, 0);
    contributes(0, 1, 0);
    feed(LEAVE(2)), expect("MEMBERS, CLOSE f0 v1 of 0 1");
    contributes(1, 1, 0), expect("CLOSE f1 v1 of 0 1");
}

static void a_whole_contribution_outlives_its_worker(void **state) {
    (void)state;
    run_of(3, 1);
    all_join();
    contributes(1, 0, 0);
    feed(LEAVE(1)), expect("MEMBERS");
    contributes(0, 0, 0);
    contributes(2, 0, 0), expect("CLOSE f0 v1 of 0 1 2");
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, DISCARD 1 f0 v0, DISCARD 2 f0 v0, PUBLISH f0 v1");
    assert_int_equal(machine.ledger.entries[1][0].applied, TRACE_TOKENS);
}

static void death_amid_an_upload_does_not_hold_the_round(void **state) {
    (void)state;
    run_of(2, 2);
    all_join();
    contributes(0, 0, 0);
    feed(OFFER(1, 0, 0)), expect("GRANT 1 f0 v0");
    feed(OFFER(1, 1, 0)), expect("GRANT 1 f1 v0");
    feed(LEAVE(1)), expect("MEMBERS, CLOSE f0 v1 of 0");
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, PUBLISH f0 v1, REFUSE 1 f0 v0 stale, DISCARD 1 f0 v0");
    assert_int_equal(ledger_unsent(&machine.ledger.entries[1][0]), TRACE_TOKENS);
    feed(WHOLE(1, 0, 0)), expect(""); /* its check comes back late */
    feed(BROKEN(1, 1, 0)), expect("REFUSE 1 f1 v0 not finite, DISCARD 1 f1 v0");
}

static void an_upload_goes_on_after_the_link_came_back(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    feed(OFFER(1, 0, 0)), expect("GRANT 1 f0 v0");
    feed(LEAVE(1)), expect("MEMBERS");
    feed(JOIN(1)), expect("MEMBERS");
    feed(OFFER(1, 0, 0)), expect("GRANT 1 f0 v0"); /* again: the daemon asks from where the bytes stand */
    feed(WHOLE(1, 0, 0)), expect("");
    contributes(0, 0, 0), expect("CLOSE f0 v1 of 0 1");
}

static void the_next_evaluates_when_the_evaluator_dies(void **state) {
    (void)state;
    run_of(3, 1);
    all_join();
    feed(DONE(0)), feed(DONE(1)), feed(DONE(2)), expect("FINISH");
    feed(FINAL_NO_EVAL(1)), expect("");
    feed(FINAL_NO_EVAL(2)), expect("");
    feed(LEAVE(0)), expect("MEMBERS"); /* it was evaluating: the outer waits for the next */
    assert_int_equal(members_evaluator(&machine.members), 1);
    feed(FINAL(1)), expect("LEAVE");
}

static void what_a_lost_member_was_sending_does_not_hold_the_end(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    feed(OFFER(1, 0, 0)), expect("GRANT 1 f0 v0");
    feed(LEAVE(1)), expect("MEMBERS");
    feed(DONE(0)), expect("DISCARD 1 f0 v0, FINISH");
    feed(FINAL(0)), expect("LEAVE");
    assert_int_equal(ledger_unsent(&machine.ledger.entries[1][0]), TRACE_TOKENS);
}

static void death_while_its_commit_is_made_changes_nothing(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    contributes(0, 0, 0);
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
    feed(LEAVE(0)), expect("MEMBERS"); /* no DISCARD: the sum is reading it */
    feed(LEAVE(1)), expect("MEMBERS");
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, DISCARD 1 f0 v0, PUBLISH f0 v1");
    feed(TICK), expect("");
}

static void all_leave(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    contributes(0, 0, 0);
    feed(LEAVE(1)), expect("MEMBERS, CLOSE f0 v1 of 0");
    feed(LEAVE(0)), expect("MEMBERS");
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, PUBLISH f0 v1");
    feed(TICK), expect(""); /* no commit without contributions, no end without members */
    assert_int_equal(members_connected(&machine.members), 0);
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

/* ---- offers that do not count ---- */

static void a_second_offer_while_one_is_held(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    contributes(0, 0, 0);
    struct contribution c = contribution_of(0, 0, 0);
    c.payload_hash[3] ^= 1;
    feed(OFFERED(c)), expect("REFUSE 0 f0 v0 duplicate");
    c = contribution_of(0, 0, 0);
    c.tokens_to++;
    feed(OFFERED(c)), expect("REFUSE 0 f0 v0 duplicate");
    c = contribution_of(0, 0, 1); /* the same bytes, measured from another version */
    feed(OFFERED(c)), expect("REFUSE 0 f0 v1 duplicate");
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
    assert_int_equal(machine.fragments[0].counted[0].tokens_to, TRACE_TOKENS);
}

static void foreign_and_malformed_offers(void **state) {
    (void)state;
    run_of(2, 2);
    all_join();
    struct contribution c = contribution_of(0, 0, 0);
    c.incarnation++;
    feed(OFFERED(c)), expect("REFUSE 0 f0 v0 malformed");
    c = contribution_of(0, 0, 0);
    c.payload_bytes++;
    feed(OFFERED(c)), expect("REFUSE 0 f0 v0 malformed");
    c = contribution_of(0, 1, 0);
    c.payload_bytes = TRACE_PAYLOAD_BYTES; /* right for the other fragment */
    feed(OFFERED(c)), expect("REFUSE 0 f1 v0 malformed");
    c = contribution_of(0, 0, 0);
    c.tokens_to = c.tokens_from;
    feed(OFFERED(c)), expect("REFUSE 0 f0 v0 malformed");
    c = contribution_of(0, 0, 0);
    c.fragment = 2;
    feed(EVENT(.kind = ROUND_EVENT_OFFER, .contribution = c)), expect("");
    c = contribution_of(0, 0, 0);
    c.slot = 2; /* nobody there */
    feed(EVENT(.kind = ROUND_EVENT_OFFER, .contribution = c)), expect("REFUSE 2 f0 v0 malformed");
    c.slot = MESSAGE_WORKERS_MAX;
    feed(EVENT(.kind = ROUND_EVENT_OFFER, .contribution = c)), expect("");
    feed(OFFER(0, 0, 1)), expect("REFUSE 0 f0 v1 stale"); /* measured from a version that does not exist yet */
    feed(WHOLE(0, 0, 0)), expect("");                     /* never offered */
    feed(OFFER(0, 0, 0)), expect("GRANT 0 f0 v0");
    feed(WHOLE(0, 0, 1)), expect(""); /* of another base */
    assert_int_equal(machine.fragments[0].places[0].state, ROUND_PLACE_RECEIVING);
    feed(WHOLE(1, 0, 0)), expect("");
    feed(WHOLE(0, 0, 0)), expect("");
    feed(WHOLE(0, 0, 0)), expect(""); /* twice */
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
}

/* Sends come in the order of steps: who offers for a later step has nothing more for an earlier round, unless it is on its way. */
static void who_has_gone_on_is_not_waited_for(void **state) {
    (void)state;
    run_of(2, 3);
    all_join();
    contributes_at(0, 0, 0, 6), expect("");
    struct contribution later = contribution_of(1, 1, 0);
    later.send_step = 8;
    feed(OFFERED(later)), expect("GRANT 1 f1 v0, CLOSE f0 v1 of 0");
    feed(COMMITTED(0, 1));
    contributes_at(0, 1, 0, 8), expect(""); /* the step itself is not behind it */
    feed(WHOLE(1, 1, 0)), expect("CLOSE f1 v1 of 0 1");
    feed(COMMITTED(1, 1));
    feed(LEAVE(1)), feed(JOIN_AT(1, 101, 5)), expect("MEMBERS");
    contributes_at(0, 2, 0, 7), expect(""); /* a new start: what it offered before says nothing */
    run_of(2, 2);
    all_join();
    struct contribution earlier = contribution_of(1, 0, 0);
    earlier.send_step = 6;
    feed(OFFERED(earlier)), expect("GRANT 1 f0 v0");
    contributes_at(0, 0, 0, 6), expect("");
    feed(OFFERED(later)), expect("GRANT 1 f1 v0"); /* the earlier one is on its way */
    feed(WHOLE(1, 0, 0)), expect("CLOSE f0 v1 of 0 1");
}

/* 0 waits for f0, which 1 passed by; 1 waits for f1, which 0 passed by: neither will send before a commit. */
static void who_is_blocked_is_not_waited_for(void **state) {
    (void)state;
    run_of(3, 2);
    all_join();
    contributes_at(0, 0, 0, 6), contributes_at(1, 1, 0, 6), contributes_at(2, 0, 0, 6), expect("");
    struct contribution coming = contribution_of(2, 1, 0);
    coming.send_step = 6;
    feed(OFFERED(coming)), expect("GRANT 2 f1 v0");
    feed(BLOCKED(0)), expect(""); /* what 2 offered is on its way */
    feed(BLOCKED(1)), expect("CLOSE f0 v1 of 0 2");
    feed(WHOLE(2, 1, 0)), expect("CLOSE f1 v1 of 1 2");
    feed(COMMITTED(0, 1)), feed(COMMITTED(1, 1));
    contributes_at(2, 0, 1, 12), expect(""); /* after a commit they may send again */
    contributes_at(0, 0, 1, 12), expect("");
    contributes_at(1, 0, 1, 12), expect("CLOSE f0 v2 of 0 1 2");
}

static void what_ends_a_block(void **state) {
    (void)state;
    run_of(2, 3);
    all_join();
    feed(BLOCKED(1)), feed(BLOCKED(1)), expect("");
    feed(OFFER(1, 1, 0)), expect("GRANT 1 f1 v0"); /* it does send */
    contributes_at(0, 0, 0, 8), expect("");
    feed(BLOCKED(1)), expect("CLOSE f0 v1 of 0");
    feed(COMMITTED(0, 1));
    contributes_at(0, 2, 0, 8), expect("");
    feed(BLOCKED(0)), expect("");
    feed(LEAVE(1)), expect("MEMBERS, CLOSE f2 v1 of 0");
    feed(BLOCKED(1)), expect(""); /* of an old session */
    assert_false(machine.members.slot[1].blocked);
    feed(JOIN_AT(1, 101, 5)), expect("MEMBERS");
    contributes_at(0, 0, 1, 9), expect("");
}

/* A worker has one record per fragment: another one means that it gave up what it was sending. */
static void another_offer_replaces_what_is_on_its_way(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    struct contribution c = contribution_of(1, 0, 0);
    feed(OFFERED(c)), expect("GRANT 1 f0 v0");
    c.payload_bytes++;
    feed(OFFERED(c)), expect("REFUSE 1 f0 v0 duplicate"); /* one that can't count replaces nothing */
    c.payload_bytes--;
    c.payload_hash[31] ^= 1;
    c.tokens_to += 5, c.tokens += 5;
    feed(OFFERED(c)), expect("DISCARD 1 f0 v0, GRANT 1 f0 v0");
    assert_int_equal(machine.ledger.entries[1][0].in_flight, TRACE_TOKENS + 5);
    contributes(0, 0, 0), expect("");
    feed(WHOLE(1, 0, 0)), expect("CLOSE f0 v1 of 0 1");
    assert_int_equal(machine.fragments[0].counted[1].tokens_to, TRACE_TOKENS + 5);
}

/* It begins at the mark, but is measured from a version before the one that counted what lies below it: the same work again. */
static void work_that_a_commit_holds_is_not_measured_from_before_it(void **state) {
    (void)state;
    run_with((struct round_options){.workers = 2, .fragments = 1, .quorum = 1, .stale = 2});
    all_join();
    contributes(0, 0, 0), expect("CLOSE f0 v1 of 0");
    feed(COMMITTED(0, 1));
    feed(OFFER(0, 0, 0)), expect("REFUSE 0 f0 v0 duplicate");
    contributes(1, 0, 0), expect("CLOSE f0 v2 of 1"); /* for another slot version 0 is merely old */
    feed(COMMITTED(0, 2));
    feed(OFFER(0, 0, 1)), expect("GRANT 0 f0 v1");
    feed(OFFER(1, 0, 1)), expect("REFUSE 1 f0 v1 duplicate");
    feed(OFFER(1, 0, 2)), expect("GRANT 1 f0 v2");
}

/* Everything below the mark is settled. */
static void an_offer_begins_at_the_mark(void **state) {
    (void)state;
    run_of(1, 1);
    all_join();
    contributes(0, 0, 0);
    feed(COMMITTED(0, 1));
    struct contribution c = contribution_of(0, 0, 1);
    c.tokens_from--;
    feed(OFFERED(c)), expect("REFUSE 0 f0 v1 duplicate"); /* it does not know yet what was counted */
    c.tokens_from += 2;
    feed(OFFERED(c)), expect("REFUSE 0 f0 v1 malformed"); /* a gap that nobody would account for */
    c.tokens_from--;
    c.tokens = c.tokens_to - c.tokens_from + 1;
    feed(OFFERED(c)), expect("REFUSE 0 f0 v1 malformed"); /* more work than tokens */
    c.tokens = 0;
    feed(OFFERED(c)), expect("REFUSE 0 f0 v1 malformed");
    assert_int_equal(machine.ledger.entries[0][0].in_flight, 0);
    feed(OFFER(0, 0, 1)), expect("GRANT 0 f0 v1");
}

/* Of the ten tokens of its interval four died with a killed process: six count, four are dropped. */
static void the_weight_is_what_was_worked(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    struct contribution c = contribution_of(0, 0, 0);
    c.tokens = 6;
    feed(OFFERED(c)), expect("GRANT 0 f0 v0");
    assert_int_equal(machine.ledger.entries[0][0].in_flight, 6);
    feed(WHOLE(0, 0, 0));
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
    uint32_t count;
    const struct counted *counted = round_counted(&machine, 0, &count);
    assert_int_equal(counted[0].tokens, 6);
    assert_int_equal(counted[0].tokens_to - counted[0].tokens_from, TRACE_TOKENS);
    assert_int_equal(counted[1].tokens, TRACE_TOKENS);
    assert_int_equal(machine.ledger.entries[0][0].dropped, 0); /* not before it is durable */
    feed(COMMITTED(0, 1));
    assert_int_equal(machine.ledger.entries[0][0].applied, 6);
    assert_int_equal(machine.ledger.entries[0][0].dropped, 4);
    assert_int_equal(machine.ledger.entries[0][0].mark, TRACE_TOKENS);
    assert_int_equal(ledger_unsent(&machine.ledger.entries[0][0]), 0);
}

/* ---- refused content ---- */

static void broken_content_is_refused_and_may_be_offered_anew(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    feed(OFFER(1, 0, 0)), expect("GRANT 1 f0 v0");
    feed(BROKEN_BY(1, 0, 0, OFFER_REFUSED_NORM)), expect("REFUSE 1 f0 v0 too large, DISCARD 1 f0 v0");
    assert_int_equal(machine.ledger.entries[1][0].in_flight, 0);
    feed(BROKEN(1, 0, 0)), expect(""); /* there is nothing any more */
    feed(WHOLE(1, 0, 0)), expect("");
    feed(OFFER(1, 0, 0)), expect("GRANT 1 f0 v0");
    contributes(0, 0, 0), expect(""); /* it is waited for again: more than excused, it is on its way */
    feed(WHOLE(1, 0, 0)), expect("CLOSE f0 v1 of 0 1");
    feed(BROKEN(1, 0, 0)), expect(""); /* the sum is reading it */
}

static void who_was_refused_does_not_hold_the_round(void **state) {
    (void)state;
    run_of(3, 2);
    all_join();
    contributes(0, 0, 0), expect("");
    feed(OFFER(1, 0, 0)), feed(OFFER(2, 0, 0));
    feed(BROKEN(1, 0, 0)), expect("REFUSE 1 f0 v0 not finite, DISCARD 1 f0 v0"); /* 2 is still missing */
    feed(BROKEN(2, 0, 0)), expect("REFUSE 2 f0 v0 not finite, DISCARD 2 f0 v0, CLOSE f0 v1 of 0");
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, PUBLISH f0 v1");
    contributes(0, 0, 1), expect(""); /* the next round waits for all again */
    contributes(1, 0, 1), expect("");
    contributes(2, 0, 1), expect("CLOSE f0 v2 of 0 1 2");
}

static void when_all_are_refused_nothing_closes(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    feed(OFFER(0, 0, 0)), feed(BROKEN(0, 0, 0)), expect("REFUSE 0 f0 v0 not finite, DISCARD 0 f0 v0");
    feed(OFFER(1, 0, 0)), feed(BROKEN(1, 0, 0)), expect("REFUSE 1 f0 v0 not finite, DISCARD 1 f0 v0");
    after(1000000000), feed(TICK), expect("");
    /* All send again a period later. They were excused for step 7: who is first must not close alone. */
    contributes_at(1, 0, 0, 13), expect("");
    contributes_at(0, 0, 0, 13), expect("CLOSE f0 v1 of 0 1");
}

static void the_refused_one_may_be_the_last_of_all(void **state) {
    (void)state;
    run_of(1, 1);
    all_join();
    feed(OFFER(0, 0, 0)), feed(BROKEN(0, 0, 0)), expect("REFUSE 0 f0 v0 not finite, DISCARD 0 f0 v0");
    feed(DONE(0)), expect("FINISH"); /* an excuse is nothing that is held */
}

static void an_excuse_ends_with_the_link(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    feed(OFFER(1, 0, 0)), feed(BROKEN(1, 0, 0));
    feed(LEAVE(1)), expect("MEMBERS");
    feed(JOIN_AT(1, 101, 6)), expect("MEMBERS");
    contributes(0, 0, 0), expect(""); /* step 7 is after 6 */
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
}

/* ---- quorum ---- */

static void a_quorum_sums_in_order_of_completion(void **state) {
    (void)state;
    quorum_run_of(4, 3, 5000);
    all_join();
    feed(OFFER(0, 0, 0));
    contributes(2, 0, 0), expect("");
    contributes(1, 0, 0), expect("");
    assert_true(round_deadline_us(&machine) == UINT64_MAX);
    feed(WHOLE(0, 0, 0)), expect("");
    assert_true(round_deadline_us(&machine) == now_us + 5000);
    after(4999), feed(TICK), expect("");
    after(1), feed(TICK), expect("CLOSE f0 v1 of 2 1 0");
    assert_true(round_deadline_us(&machine) == UINT64_MAX);
}

static void who_comes_within_the_grace_counts(void **state) {
    (void)state;
    quorum_run_of(3, 2, 5000);
    all_join();
    contributes(2, 0, 0);
    contributes(1, 0, 0), expect("");
    after(4000);
    contributes(0, 0, 0), expect("CLOSE f0 v1 of 2 1 0"); /* all are here: no reason to wait on */
}

static void a_late_contribution_counts_in_the_next_round(void **state) {
    (void)state;
    quorum_run_of(3, 2, 0);
    all_join();
    feed(OFFER(2, 0, 0));
    contributes(0, 0, 0), expect("");
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
    feed(WHOLE(2, 0, 0)), expect(""); /* after the close, before the commit */
    feed(COMMITTED(0, 1)), expect("DISCARD 0 f0 v0, DISCARD 1 f0 v0, PUBLISH f0 v1");
    after(10);
    contributes(1, 0, 1), expect("CLOSE f0 v2 of 2 1");
    feed(COMMITTED(0, 2)), expect("DISCARD 2 f0 v0, DISCARD 1 f0 v1, PUBLISH f0 v2");
    assert_int_equal(machine.ledger.entries[2][0].applied, TRACE_TOKENS);
}

static void two_versions_late_is_the_limit(void **state) {
    (void)state;
    quorum_run_of(4, 2, 0);
    all_join();
    feed(OFFER(2, 0, 0));
    feed(OFFER(3, 0, 0));
    for (uint64_t v = 0; v < 2; v++) {
        contributes(0, 0, v);
        contributes(1, 0, v);
        feed(COMMITTED(0, v + 1));
    }
    feed(WHOLE(2, 0, 0)), expect(""); /* 2 - 0 <= 2 */
    contributes(0, 0, 2), expect("CLOSE f0 v3 of 2 0");
    feed(COMMITTED(0, 3)),
        expect("DISCARD 2 f0 v0, DISCARD 0 f0 v2, PUBLISH f0 v3, REFUSE 3 f0 v0 stale, DISCARD 3 f0 v0");
    feed(WHOLE(3, 0, 0)), expect("");
    feed(OFFER(3, 0, 0)), expect("REFUSE 3 f0 v0 stale");
    assert_int_equal(ledger_unsent(&machine.ledger.entries[3][0]), TRACE_TOKENS);
    feed(OFFER(3, 0, 1)), expect("GRANT 3 f0 v1");
}

static void the_quorum_is_at_most_the_live_ones(void **state) {
    (void)state;
    quorum_run_of(4, 3, 1000);
    all_join();
    contributes(0, 0, 0);
    contributes(1, 0, 0);
    feed(LEAVE(3)), expect("MEMBERS"); /* three live, quorum three, two whole */
    assert_true(round_deadline_us(&machine) == UINT64_MAX);
    feed(LEAVE(2)), expect("MEMBERS, CLOSE f0 v1 of 0 1");
}

static void the_quorum_in_percent(void **state) {
    (void)state;
    static const struct {
        int32_t quorum;
        uint32_t live, need;
    } cases[] = {{0, 0, 0},    {0, 5, 5},   {3, 5, 3},     {3, 3, 3},   {3, 2, 2},   {64, 64, 64},
                 {-100, 7, 7}, {-50, 4, 2}, {-50, 5, 3},   {-51, 4, 3}, {-1, 64, 1}, {-1, 1, 1},
                 {-67, 3, 3},  {-66, 3, 2}, {-99, 64, 64}, {-99, 0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct round_options options = {.quorum = cases[i].quorum};
        assert_int_equal(round_quorum(&options, cases[i].live), cases[i].need);
    }
    quorum_run_of(5, -50, 0);
    all_join();
    contributes(0, 0, 0), contributes(1, 0, 0), expect("");
    feed(LEAVE(4)), expect("MEMBERS, CLOSE f0 v1 of 0 1"); /* of four live ones two are half */
    feed(REACHED(0)), expect("");
    feed(REACHED(1)), expect("END");
}

static void below_min_workers_rounds_stop(void **state) {
    (void)state;
    run_with((struct round_options){
        .workers = 3, .fragments = 1, .quorum = 1, .min_workers = 2, .grace_us = 1000, .stale = 2});
    all_join();
    contributes(0, 0, 0), expect("");
    assert_true(round_deadline_us(&machine) == now_us + 1000);
    feed(LEAVE(1)), expect("MEMBERS");
    feed(LEAVE(2)), expect("MEMBERS");                      /* the only one that is left is whole, and alone */
    assert_true(round_deadline_us(&machine) == UINT64_MAX); /* or the daemon would spin */
    after(2000), feed(TICK), expect("");
    feed(REACHED(0)), expect("END");
    assert_true(round_deadline_us(&machine) == UINT64_MAX);
    after(1000000000), feed(TICK), expect(""); /* nor does the end's patience close it */
    feed(JOIN(2)), expect("MEMBERS, CLOSE f0 v1 of 0");
    run_with((struct round_options){.workers = 2, .fragments = 1, .min_workers = 2});
    all_join();
    contributes(0, 0, 0), contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
    feed(COMMITTED(0, 1));
    feed(DONE(0)), expect(""); /* done is still connected */
    contributes(1, 0, 1), expect("CLOSE f0 v2 of 1");
}

/* This node stood still, its members did not: no deadline ran meanwhile. */
static void a_late_node_judges_nobody(void **state) {
    (void)state;
    quorum_run_of(3, 2, 5000);
    all_join();
    contributes(0, 0, 0);
    contributes(1, 0, 0), expect("");
    after(3000000), feed(LATE(3000000)), expect("");
    assert_true(round_deadline_us(&machine) == now_us + 5000);
    feed(TICK), expect("");
    contributes(2, 0, 0), expect("CLOSE f0 v1 of 0 1 2"); /* what it said meanwhile is heard */
    feed(COMMITTED(0, 1));
    feed(LATE(1000)), expect(""); /* nothing runs: nothing moves */
    assert_true(round_deadline_us(&machine) == UINT64_MAX);
    run_with((struct round_options){.workers = 2, .fragments = 1, .stale = 2});
    all_join();
    feed(REACHED(0));
    contributes(0, 0, 0), expect("");
    after(60000000), feed(LATE(60000000)), feed(TICK), expect("");
    assert_true(round_deadline_us(&machine) == now_us + ROUND_END_PATIENCE_US);
}

/* It stood still for so long that its members turned away: no round goes on without them before they had time to come back. */
static void who_turned_away_from_a_late_node_is_waited_for(void **state) {
    (void)state;
    run_with((struct round_options){.workers = 2, .fragments = 1, .stale = 0});
    all_join();
    contributes(0, 0, 0), expect("");
    after(15000000), feed(LATE(15000000)), expect("");
    feed(TURN_AWAY(1)), expect("MEMBERS");
    after(ROUND_RETURN_PATIENCE_US - 1), feed(TICK), expect("");
    assert_true(round_deadline_us(&machine) == now_us + 1);
    feed(JOIN(1)), expect("MEMBERS");
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1");
    feed(COMMITTED(0, 1));
    contributes(0, 0, 1), expect("");
    feed(TURN_AWAY(1)), expect("MEMBERS");
    after(ROUND_RETURN_PATIENCE_US), feed(TICK), expect("CLOSE f0 v2 of 0");
    feed(COMMITTED(0, 2));
    feed(JOIN(1)), expect("MEMBERS");
    contributes(0, 0, 2), expect("");
    feed(LEAVE(1)), expect("MEMBERS, CLOSE f0 v3 of 0");
}

static void a_return_can_undo_a_quorum(void **state) {
    (void)state;
    quorum_run_of(4, 3, 1000);
    all_join();
    feed(LEAVE(3));
    contributes(0, 0, 0);
    contributes(1, 0, 0);
    feed(LEAVE(1)), expect("MEMBERS"); /* live: 0 and 2; whole: 0 and 1: a quorum of two */
    assert_true(round_deadline_us(&machine) == now_us + 1000);
    feed(JOIN(1)), feed(JOIN(3)), expect("MEMBERS");
    after(2000), feed(TICK), expect("");
    assert_true(round_deadline_us(&machine) == UINT64_MAX); /* or the daemon would spin */
    contributes(3, 0, 0), expect("");
    after(1000), feed(TICK), expect("CLOSE f0 v1 of 0 1 3");
}

/* The 90th percentile of past lateness behind the quorum, at most a quarter of the period. */
static void automatic_grace(void **state) {
    (void)state;
    quorum_run_of(3, 2, ROUND_GRACE_AUTO);
    all_join();
    contributes(0, 0, 0);
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1"); /* nothing is known yet: no grace */
    feed(COMMITTED(0, 1));
    after(100000);
    contributes(0, 0, 1);
    contributes(1, 0, 1), expect("CLOSE f0 v2 of 0 1");
    feed(COMMITTED(0, 2));
    after(100000); /* the period is known now: a quarter of it while no lateness is */
    contributes(0, 0, 2);
    contributes(1, 0, 2), expect("");
    assert_true(round_deadline_us(&machine) == now_us + 25000);
    after(7000);
    contributes(2, 0, 2), expect("CLOSE f0 v3 of 0 1 2");
    feed(COMMITTED(0, 3));
    after(93000); /* the quorum itself is not late: it must not pull the percentile down */
    contributes(0, 0, 3);
    contributes(1, 0, 3), expect("");
    assert_true(round_deadline_us(&machine) == now_us + 7000);
    after(7000), feed(TICK), expect("CLOSE f0 v4 of 0 1");
    feed(COMMITTED(0, 4));
    after(10000); /* a short period limits it: the last two closes were 100 ms apart, the next two 10 ms */
    contributes(0, 0, 4);
    contributes(1, 0, 4), expect("");
    after(7000), feed(TICK), expect("CLOSE f0 v5 of 0 1");
    feed(COMMITTED(0, 5));
    contributes(0, 0, 5);
    contributes(1, 0, 5), expect("");
    assert_true(round_deadline_us(&machine) == now_us + 17000 / 4);
}

/* Four workers, a quorum of two; the other two come 5 ms behind it. Until two steps are known, rounds close without them; from then on they are
 * waited for, and the few ms between the two halves of a step are no period. */
/* Each sends by its own steps: a straggler's contribution does not make a round of its own, since the others have offered later ones. */
static void a_straggler_does_not_close_alone(void **state) {
    (void)state;
    run_with((struct round_options){.workers = 4, .fragments = 2, .quorum = -50, .grace_us = 0, .stale = 2});
    all_join();
    for (uint32_t slot = 0; slot < 3; slot++)
        contributes_at(slot, 1, 0, 40); /* the others are further */
    contributes_at(3, 0, 0, 20), expect("");
    contributes_at(0, 0, 0, 60), expect("CLOSE f0 v1 of 3 0");
}

static void automatic_grace_learns_from_who_came_after_the_close(void **state) {
    (void)state;
    quorum_run_of(4, 2, ROUND_GRACE_AUTO);
    all_join();
    for (uint64_t version = 0; version < 4; version += 2) {
        contributes(0, 0, version);
        contributes(1, 0, version), expect(version == 0 ? "CLOSE f0 v1 of 0 1" : "CLOSE f0 v3 of 0 1");
        feed(COMMITTED(0, version + 1));
        after(5000);
        contributes(2, 0, version);
        contributes(3, 0, version);
        after(5000), feed(TICK); /* the half behind has a grace of its own when one is known */
        assert_int_equal(machine.fragments[0].counted_count, 2);
        feed(COMMITTED(0, version + 2));
        after(90000);
    }
    assert_true(machine.fragments[0].period_us == 100000);
    for (uint64_t version = 4; version < 6; version++) {
        contributes(0, 0, version);
        contributes(1, 0, version), expect("");
        assert_true(round_deadline_us(&machine) == now_us + 5000);
        after(4000);
        contributes(2, 0, version), expect("");
        contributes(3, 0, version), expect(version == 4 ? "CLOSE f0 v5 of 0 1 2 3" : "CLOSE f0 v6 of 0 1 2 3");
        feed(COMMITTED(0, version + 1));
        after(96000);
    }
    /* Who is later than any grace is not learned from: 60 ms behind the quorum, when at most 25 are waited. */
    contributes(0, 0, 6);
    contributes(1, 0, 6), expect("");
    after(5000), feed(TICK), expect("CLOSE f0 v7 of 0 1");
    feed(COMMITTED(0, 7));
    uint32_t known = machine.lateness_count;
    after(55000);
    contributes(2, 0, 6), expect("");
    assert_true(machine.lateness_count == known);
}

static void grace_is_the_90th_percentile(void **state) {
    (void)state;
    static const uint64_t lateness_us[10] = {7000, 1000, 10000, 3000, 9000, 2000, 8000, 4000, 6000, 5000};
    quorum_run_of(3, 2, ROUND_GRACE_AUTO);
    all_join();
    memcpy(machine.lateness_us, lateness_us, sizeof lateness_us);
    machine.lateness_count = 10;
    machine.fragments[0].period_us = 1000000;
    contributes(0, 0, 0);
    contributes(1, 0, 0), expect("");
    assert_true(round_deadline_us(&machine) == now_us + 9000);
}

/* ---- the end ---- */

static void done_finish_final_leave(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    contributes(0, 0, 0);
    contributes(1, 0, 0);
    feed(FINAL(0)), expect(""); /* too early */
    feed(COMMITTED(0, 1));
    feed(DONE(0)), expect("");
    feed(FINAL(0)), expect("");
    feed(DONE(0)), expect("");
    feed(OFFER(0, 0, 1)), expect("REFUSE 0 f0 v1 malformed"); /* it said that nothing is left */
    contributes(1, 0, 1), expect("CLOSE f0 v2 of 1");         /* expected no more, so that the last one goes on alone */
    feed(DONE(1)), expect("");                                /* a round is open */
    feed(COMMITTED(0, 2)), expect("DISCARD 1 f0 v1, PUBLISH f0 v2, FINISH");
    feed(FINAL(1)), expect("");
    feed(FINAL(1)), expect("");
    feed(FINAL(0)), expect("LEAVE");
    feed(TICK), expect("");
}

static void leaving_during_the_end(void **state) {
    (void)state;
    run_of(3, 1);
    all_join();
    feed(DONE(0)), feed(DONE(1)), expect("");
    feed(LEAVE(2)), expect("MEMBERS, FINISH");
    feed(FINAL(0)), expect("");
    feed(LEAVE(1)), expect("MEMBERS, LEAVE");
}

static void who_was_final_and_lost_its_link_is_final_again(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    feed(DONE(0)), feed(DONE(1)), expect("FINISH");
    feed(FINAL(0)), expect("");
    feed(LEAVE(0)), expect("MEMBERS");
    feed(JOIN(0)), expect("MEMBERS");
    feed(FINAL(1)), expect("");
    feed(DONE(0)), expect("");
    feed(FINAL(0)), expect("LEAVE");
}

static void who_returns_after_the_finish_changes_no_version(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    feed(LEAVE(1));
    contributes(0, 0, 0);
    feed(COMMITTED(0, 1));
    feed(DONE(0)), expect("FINISH");
    feed(JOIN(1)), expect("MEMBERS");
    feed(OFFER(1, 0, 1)), expect("REFUSE 1 f0 v1 malformed");
    feed(FINAL(0)), expect("");
    feed(FINAL(1)), expect("LEAVE");
    assert_int_equal(machine.fragments[0].version, 1);
}

static void a_quorum_at_the_last_step_ends_training(void **state) {
    (void)state;
    quorum_run_of(3, 2, 0);
    all_join();
    feed(REACHED(0)), expect("");
    feed(REACHED(0)), expect("");
    feed(REACHED(2)), expect("END");
    feed(REACHED(1)), expect("");
    run_of(2, 1); /* strict: each trains to the end */
    all_join();
    feed(REACHED(0)), feed(REACHED(1)), expect("");
    quorum_run_of(3, 2, 0); /* the others died: whoever is left is the quorum */
    all_join();
    feed(REACHED(0)), feed(LEAVE(2)), expect("MEMBERS");
    feed(LEAVE(1)), expect("MEMBERS, END");
}

/* Two workers, each alone in a round of another fragment, the third has nothing left: in strict mode that can't be, else patience ends. */
static void the_end_does_not_wait_for_ever(void **state) {
    (void)state;
    run_with((struct round_options){.workers = 3, .fragments = 2, .stale = 2});
    all_join();
    contributes(0, 0, 0), expect("");
    contributes(1, 1, 0), expect("");
    after(1000000000), feed(TICK), expect("");
    feed(DONE(2)), expect("");
    assert_true(round_deadline_us(&machine) == UINT64_MAX);
    feed(REACHED(1)), expect("");
    assert_true(round_deadline_us(&machine) <= now_us);
    feed(TICK), expect("CLOSE f0 v1 of 0, CLOSE f1 v1 of 1");
    feed(COMMITTED(0, 1)), feed(COMMITTED(1, 1));
    contributes(0, 0, 1), expect("");
    assert_true(round_deadline_us(&machine) == now_us + ROUND_END_PATIENCE_US);
    after(ROUND_END_PATIENCE_US - 1), feed(TICK), expect("");
    after(1), feed(TICK), expect("CLOSE f0 v2 of 0");
    run_of(2, 1); /* strict */
    all_join();
    contributes(0, 0, 0), feed(REACHED(0));
    after(1000000000), feed(TICK), expect("");
    assert_true(round_deadline_us(&machine) == UINT64_MAX);
}

static void a_member_that_came_back_makes_a_strict_end_patient(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    feed(LEAVE(1)), feed(JOIN_AS(1, 999)), expect("MEMBERS");
    contributes(0, 0, 0), feed(REACHED(0)), expect("");
    assert_true(round_deadline_us(&machine) == now_us + ROUND_END_PATIENCE_US);
    after(ROUND_END_PATIENCE_US), feed(TICK), expect("CLOSE f0 v1 of 0");
}

/* Every lost worker was sending every fragment: all of it is discarded at once. */
static void the_largest_answer(void **state) {
    (void)state;
    static struct round_actions actions;
    run_of(MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX);
    all_join();
    for (uint32_t s = 1; s < MESSAGE_WORKERS_MAX; s++) {
        for (uint32_t f = 0; f < MESSAGE_FRAGMENTS_MAX; f++)
            feed(OFFER(s, f, 0));
        feed(LEAVE(s)), expect("MEMBERS");
    }
    struct round_event done = DONE(0);
    actions.count = 0;
    round_step(&machine, &done, &actions);
    assert_int_equal(actions.count, (MESSAGE_WORKERS_MAX - 1) * MESSAGE_FRAGMENTS_MAX + 1);
    assert_int_equal(actions.list[actions.count - 1].kind, ROUND_ACTION_FINISH);
}

/* ---- random events against an oracle ---- */

/* It knows what was granted, became whole, was refused, closed and committed, who joined when, and nothing of rounds. */
enum { FUZZ_WORKERS = 5, FUZZ_SLOTS = FUZZ_WORKERS + 2, FUZZ_FRAGMENTS = 3, FUZZ_EVENTS = 800, FUZZ_RUNS = 400 };

struct oracle_place {
    bool held, whole, closing;
    bool excused; /* its content was refused, sent at: */
    uint64_t excused_step;
    struct contribution contribution;
};

static struct oracle {
    bool led;
    uint64_t returning; /* named by LEAD, neither joined nor lost since */
    uint64_t patient_until_us;
    bool live[FUZZ_SLOTS], expected[FUZZ_SLOTS];
    uint64_t incarnation[FUZZ_SLOTS], joined_step[FUZZ_SLOTS], offered_step[FUZZ_SLOTS];
    uint64_t mark[FUZZ_SLOTS][FUZZ_FRAGMENTS]; /* end of the newest interval that a commit holds */
    uint64_t applied[FUZZ_SLOTS][FUZZ_FRAGMENTS], dropped[FUZZ_SLOTS][FUZZ_FRAGMENTS];
    uint64_t counted_version[FUZZ_SLOTS][FUZZ_FRAGMENTS]; /* the newest that counts the slot */
    uint64_t version[FUZZ_FRAGMENTS];
    bool closing[FUZZ_FRAGMENTS];
    struct oracle_place places[FUZZ_SLOTS][FUZZ_FRAGMENTS];
    /* how often the sequences reach what they are to test */
    uint64_t commits, foreign_work, broken, above;
} oracle;

/* Quorum all: nobody is passed over who joined before the step of the round, was not refused at it, and has not gone on to later steps. (Nobody says REACHED here: the
 * patience of the end never runs.) */
static void nobody_is_passed_over(uint32_t fragment, uint64_t step) {
    for (uint32_t s = 0; s < FUZZ_SLOTS; s++) {
        const struct oracle_place *place = &oracle.places[s][fragment];
        bool excused = place->excused && step <= place->excused_step;
        bool gone_on = !place->held && step < oracle.offered_step[s];
        assert_true(!oracle.expected[s] || place->closing || excused || gone_on || oracle.joined_step[s] >= step);
    }
}

static void oracle_sees_close(const struct round_action *a) {
    uint32_t count, live = 0;
    uint64_t step = 0;
    const struct counted *counted = round_counted(&machine, a->fragment, &count);
    for (uint32_t s = 0; s < FUZZ_SLOTS; s++)
        live += oracle.live[s];
    assert_true(oracle.led && live >= machine.options.min_workers);
    assert_true(machine.options.quorum != 0 || oracle.returning == 0 || now_us >= oracle.patient_until_us);
    assert_false(oracle.closing[a->fragment]);
    assert_int_equal(a->version, oracle.version[a->fragment] + 1);
    assert_true(count > 0);
    oracle.closing[a->fragment] = true;
    for (uint32_t i = 0; i < count; i++) {
        struct oracle_place *place = &oracle.places[counted[i].slot][a->fragment];
        assert_true(place->held && place->whole && !place->closing); /* whole, and not twice in one commit */
        assert_int_equal(counted[i].incarnation, place->contribution.incarnation);
        assert_int_equal(counted[i].tokens_to, place->contribution.tokens_to);
        assert_int_equal(counted[i].tokens, place->contribution.tokens);
        assert_true(oracle.version[a->fragment] - counted[i].base_version <= machine.options.stale);
        assert_int_equal(counted[i].tokens_from, oracle.mark[counted[i].slot][a->fragment]); /* once, without a gap */
        place->closing = true;
        step = counted[i].send_step > step ? counted[i].send_step : step;
        oracle.foreign_work += counted[i].incarnation != oracle.incarnation[counted[i].slot];
        oracle.above += counted[i].slot >= machine.options.workers;
    }
    if (machine.options.quorum == 0)
        nobody_is_passed_over(a->fragment, step);
}

static void oracle_sees_publish(const struct round_action *a) {
    assert_true(oracle.closing[a->fragment]);
    assert_int_equal(a->version, oracle.version[a->fragment] + 1);
    oracle.version[a->fragment]++;
    oracle.closing[a->fragment] = false;
    oracle.commits++;
    for (uint32_t s = 0; s < FUZZ_SLOTS; s++) {
        struct oracle_place *place = &oracle.places[s][a->fragment];
        const struct contribution *c = &place->contribution;
        place->excused = false;
        if (!place->closing)
            continue;
        oracle.applied[s][a->fragment] += c->tokens;
        oracle.dropped[s][a->fragment] += c->tokens_to - c->tokens_from - c->tokens;
        oracle.mark[s][a->fragment] = c->tokens_to;
        oracle.counted_version[s][a->fragment] = a->version;
        *place = (struct oracle_place){0};
    }
}

static void oracle_sees(const struct round_event *event, const struct round_action *a) {
    struct oracle_place *place = &oracle.places[a->slot][a->fragment];
    switch (a->kind) {
    case ROUND_ACTION_GRANT:
        assert_true(event->kind == ROUND_EVENT_OFFER && oracle.live[a->slot]);
        assert_false(place->whole); /* what is whole is not asked for again */
        if (place->held)
            break; /* the rest of it: the daemon hears no other process than the one that joined */
        assert_int_equal(event->contribution.incarnation, oracle.incarnation[a->slot]);
        assert_true(event->contribution.base_version >= oracle.counted_version[a->slot][a->fragment]);
        *place = (struct oracle_place){.held = true, .contribution = event->contribution};
        if (event->contribution.send_step > oracle.offered_step[a->slot])
            oracle.offered_step[a->slot] = event->contribution.send_step;
        break;
    case ROUND_ACTION_DISCARD:
        assert_true(place->held);
        if (event->kind == ROUND_EVENT_COMMITTED && place->closing)
            break; /* PUBLISH follows */
        assert_false(place->closing);
        /* Whole work is thrown away for one reason only. */
        assert_true(!place->whole || oracle.version[a->fragment] - a->version > machine.options.stale);
        *place = (struct oracle_place){.excused = event->kind == ROUND_EVENT_BROKEN,
                                       .excused_step = place->contribution.send_step};
        oracle.broken += place->excused;
        break;
    case ROUND_ACTION_CLOSE:
        oracle_sees_close(a);
        break;
    case ROUND_ACTION_PUBLISH:
        assert_true(event->kind == ROUND_EVENT_COMMITTED);
        oracle_sees_publish(a);
        break;
    case ROUND_ACTION_FINISH:
        assert_true(machine.options.quorum != 0 || oracle.returning == 0 || now_us >= oracle.patient_until_us);
        break;
    default:
        break;
    }
}

static void oracle_hears(const struct round_event *event) {
    uint64_t bit = (uint64_t)1 << event->slot;
    struct oracle_place *place = &oracle.places[event->slot][event->fragment];
    switch (event->kind) {
    case ROUND_EVENT_LEAD:
        oracle.led = true;
        oracle.returning = machine.started ? event->mask : 0;
        oracle.patient_until_us = now_us + ROUND_RETURN_PATIENCE_US;
        break;
    case ROUND_EVENT_LATE:
        oracle.patient_until_us += event->late_us;
        break;
    case ROUND_EVENT_JOIN:
        oracle.returning &= ~bit;
        if (oracle.live[event->slot])
            break;
        oracle.live[event->slot] = true;
        oracle.expected[event->slot] = !machine.finished;
        oracle.incarnation[event->slot] = event->incarnation;
        oracle.joined_step[event->slot] = event->step;
        oracle.offered_step[event->slot] = 0;
        for (uint32_t f = 0; f < FUZZ_FRAGMENTS; f++)
            oracle.places[event->slot][f].excused = false;
        break;
    case ROUND_EVENT_LEAVE:
        oracle.returning &= ~bit;
        if (event->returns && oracle.live[event->slot] && machine.started) {
            oracle.returning |= bit;
            oracle.patient_until_us = now_us + ROUND_RETURN_PATIENCE_US;
        }
        oracle.live[event->slot] = oracle.expected[event->slot] = false;
        break;
    case ROUND_EVENT_DONE:
        oracle.expected[event->slot] = false;
        break;
    case ROUND_EVENT_WHOLE: /* unless it is found stale: then DISCARD follows */
        if (place->held && !place->whole && place->contribution.base_version == event->version)
            place->whole = oracle.version[event->fragment] - event->version <= machine.options.stale;
        break;
    default:
        break;
    }
}

static void oracle_compares(uint32_t s, uint32_t f) {
    const struct ledger_entry *entry = &machine.ledger.entries[s][f];
    const struct oracle_place *held = &oracle.places[s][f];
    assert_int_equal(entry->applied, oracle.applied[s][f]);
    assert_int_equal(entry->dropped, oracle.dropped[s][f]);
    assert_int_equal(entry->mark, oracle.mark[s][f]);
    assert_int_equal(entry->in_flight, held->held ? held->contribution.tokens : 0);
    assert_int_equal(entry->processed, entry->applied + entry->in_flight + entry->dropped + ledger_unsent(entry));
    assert_int_equal(machine.fragments[f].version, oracle.version[f]);
}

static void oracle_feed(struct round_event event) {
    static struct round_actions actions;
    actions.count = 0;
    event.now_us = now_us;
    oracle_hears(&event);
    round_step(&machine, &event, &actions);
    for (uint32_t i = 0; i < actions.count; i++)
        oracle_sees(&event, &actions.list[i]);
    for (uint32_t s = 0; s < FUZZ_SLOTS; s++) {
        assert_int_equal(member_is_connected(&machine.members.slot[s]), oracle.live[s]);
        assert_int_equal(member_is_expected(&machine.members.slot[s]), oracle.expected[s]);
        for (uint32_t f = 0; f < machine.options.fragments; f++) {
            /* No half of a dead process's work stays beside a new one. */
            const struct oracle_place *place = &oracle.places[s][f];
            assert_true(!place->held || place->whole || !oracle.live[s] ||
                        place->contribution.incarnation == oracle.incarnation[s]);
            oracle_compares(s, f);
        }
    }
}

/* Mostly what an honest worker would say, often something else. */
static struct round_event random_event(struct dice *dice) {
    uint32_t s = below(dice, machine.options.workers + 2), f = below(dice, machine.options.fragments);
    const struct oracle_place *place = &oracle.places[s][f];
    struct contribution c = contribution_of(s, f, machine.fragments[f].version);
    c.send_step += 5 * below(dice, 2);
    switch (below(dice, 18)) {
    case 0:
        return JOIN_AT(s, 100 + s, below(dice, 20));
    case 1: /* another process on the slot, or one that was there before */
        return JOIN_AT(s, 1 + below(dice, 3), below(dice, 20));
    case 2:
        return below(dice, 2) == 0 ? (below(dice, 3) == 0 ? TURN_AWAY(s) : LEAVE(s)) : JOIN(s);
    case 3:
        return TOKENS(s, below(dice, 1000));
    case 4:
        return below(dice, 90) == 0 ? DONE(s) : TICK;
    case 5:
        return below(dice, 4) == 0 ? FINAL(s) : TICK;
    case 6:
        return below(dice, 3) == 0 ? BROKEN_BY(s, f, place->contribution.base_version + below(dice, 2),
                                               OFFER_REFUSED_NOT_FINITE + below(dice, 2))
                                   : TICK;
    case 7: /* an offer that is wrong in some way, or by chance not */
        c.base_version = below(dice, 6);
        c.incarnation += below(dice, 3) == 0;
        c.payload_bytes += below(dice, 3) == 0;
        c.tokens_from -= c.tokens_from > 0 && below(dice, 2) == 0;
        c.tokens_from += below(dice, 4) == 0;
        c.tokens_to -= below(dice, 3) * 5;
        c.tokens = below(dice, 12);
        return OFFERED(c);
    case 8: /* what is held, again; also out of the mouth of the process that is there now */
        c = place->contribution;
        c.slot = s, c.fragment = f;
        c.incarnation = below(dice, 2) == 0 ? c.incarnation : machine.members.slot[s].incarnation;
        return OFFERED(c);
    case 9:
    case 10:
    case 11:
        c.base_version -= c.base_version > 1 ? below(dice, 2) : 0;
        c.tokens -= below(dice, 3) == 0 ? below(dice, TRACE_TOKENS) : 0;
        return OFFERED(c);
    case 12:
        if (machine.fragments[f].closing)
            return COMMITTED(f, machine.fragments[f].version + 1);
        return TICK;
    case 13:
        return below(dice, 4) == 0 ? LATE(below(dice, 100)) : TICK;
    case 14:
        return !oracle.led && below(dice, 3) == 0 ? LEAD_WITH(below(dice, 1u << FUZZ_WORKERS)) : TICK;
    default:
        return WHOLE(s, f, place->contribution.base_version);
    }
}

/* The network heals: nobody leaves any more, who is live contributes. Every open round closes. */
static void demand_progress(void) {
    if (!oracle.led)
        oracle_feed(LEAD);
    after(1000000000);
    oracle_feed(TICK); /* the patience with those that do not return is over, and so is every grace */
    for (uint32_t f = 0; f < machine.options.fragments; f++) {
        if (machine.fragments[f].closing)
            oracle_feed(COMMITTED(f, machine.fragments[f].version + 1));
        uint64_t version = machine.fragments[f].version;
        if (machine.fragments[f].closing) /* what had come meanwhile closed the next one at once */
            continue;
        if (members_expected(&machine.members) == 0 || !machine.started ||
            members_connected(&machine.members) < machine.options.min_workers)
            continue;
        for (uint32_t s = 0; s < FUZZ_SLOTS && !machine.fragments[f].closing; s++) {
            if (!member_is_expected(&machine.members.slot[s]))
                continue;
            if (!oracle.places[s][f].held)
                oracle_feed(OFFER(s, f, version));
            if (!oracle.places[s][f].whole)
                oracle_feed(WHOLE(s, f, oracle.places[s][f].contribution.base_version));
        }
        assert_true(machine.fragments[f].closing);
        oracle_feed(COMMITTED(f, version + 1));
        assert_int_equal(machine.fragments[f].version, version + 1);
    }
}

/* A run that goes on from what a disk held. */
static void adopt_random(struct dice *dice) {
    for (uint32_t f = 0; f < machine.options.fragments; f++) {
        struct commit commit = commit_of(f, 1 + below(dice, 3), 7 + below(dice, 3));
        oracle.version[f] = commit.version;
        for (uint32_t s = 0; s < machine.options.workers; s++)
            if (below(dice, 2) == 0) {
                uint64_t applied = 1 + below(dice, 50), dropped = below(dice, 10);
                commit.totals[commit.total_count++] = (struct total){s, applied + dropped, applied, dropped};
                oracle.applied[s][f] = applied;
                oracle.dropped[s][f] = dropped;
                oracle.mark[s][f] = applied + dropped;
            }
        round_adopt(&machine, &commit);
    }
}

static void random_run(uint64_t seed) {
    struct dice dice = {seed, 0};
    struct oracle counts = oracle;
    oracle = (struct oracle){
        .commits = counts.commits, .foreign_work = counts.foreign_work, .broken = counts.broken, .above = counts.above};
    uint32_t workers = 1 + below(&dice, FUZZ_WORKERS);
    static const int32_t percents[] = {-1, -34, -50, -100};
    int32_t quorum = below(&dice, 2) == 0 ? 0 : (int32_t)(1 + below(&dice, workers));
    if (quorum != 0 && below(&dice, 2) == 0)
        quorum = percents[below(&dice, 4)];
    bool stale = quorum != 0 || below(&dice, 2);
    run_not_led((struct round_options){.workers = workers,
                                       .fragments = 1 + below(&dice, FUZZ_FRAGMENTS),
                                       .quorum = quorum,
                                       .min_workers = below(&dice, 3),
                                       .grace_us = below(&dice, 2) ? ROUND_GRACE_AUTO : 50,
                                       .stale = stale ? 2 : 0});
    if (below(&dice, 2) == 0)
        adopt_random(&dice);
    if (below(&dice, 4) > 0)
        oracle_feed(LEAD_WITH(below(&dice, 1u << workers)));
    for (uint32_t s = 0; s < workers; s++)
        oracle_feed(JOIN(s));
    for (int i = 0; i < FUZZ_EVENTS; i++) {
        after(below(&dice, 40));
        oracle_feed(random_event(&dice));
    }
    demand_progress();
}

static void random_events_against_the_oracle(void **state) {
    (void)state;
    memset(&oracle, 0, sizeof oracle);
    for (uint64_t seed = 1; seed <= FUZZ_RUNS; seed++)
        random_run(seed);
    /* The sequences do reach what they are to test. */
    assert_true(oracle.commits > 10 * FUZZ_RUNS);
    assert_true(oracle.foreign_work > FUZZ_RUNS / 2 && oracle.broken > FUZZ_RUNS && oracle.above > FUZZ_RUNS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start_waits_for_all),
        cmocka_unit_test(offers_before_the_start_wait),
        cmocka_unit_test(nothing_starts_before_lead),
        cmocka_unit_test(nothing_closes_and_nothing_ends_before_lead),
        cmocka_unit_test(what_is_adopted_goes_on),
        cmocka_unit_test(a_restarted_outer_waits_for_those_that_were_here),
        cmocka_unit_test(who_returns_first_does_not_close_alone),
        cmocka_unit_test(who_returns_first_does_not_end_the_run),
        cmocka_unit_test(the_patience_with_those_that_were_here),
        cmocka_unit_test(only_strict_and_started_runs_wait_for_names),
        cmocka_unit_test(how_far_the_run_was_is_restored),
        cmocka_unit_test(strict_round_needs_every_live_worker),
        cmocka_unit_test(nothing_is_published_before_it_is_committed),
        cmocka_unit_test(fragments_close_on_their_own),
        cmocka_unit_test(death_ends_the_expectation_at_once),
        cmocka_unit_test(a_whole_contribution_outlives_its_worker),
        cmocka_unit_test(death_amid_an_upload_does_not_hold_the_round),
        cmocka_unit_test(an_upload_goes_on_after_the_link_came_back),
        cmocka_unit_test(the_next_evaluates_when_the_evaluator_dies),
        cmocka_unit_test(what_a_lost_member_was_sending_does_not_hold_the_end),
        cmocka_unit_test(death_while_its_commit_is_made_changes_nothing),
        cmocka_unit_test(all_leave),
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
        cmocka_unit_test(a_second_offer_while_one_is_held),
        cmocka_unit_test(foreign_and_malformed_offers),
        cmocka_unit_test(who_has_gone_on_is_not_waited_for),
        cmocka_unit_test(who_is_blocked_is_not_waited_for),
        cmocka_unit_test(what_ends_a_block),
        cmocka_unit_test(another_offer_replaces_what_is_on_its_way),
        cmocka_unit_test(work_that_a_commit_holds_is_not_measured_from_before_it),
        cmocka_unit_test(an_offer_begins_at_the_mark),
        cmocka_unit_test(the_weight_is_what_was_worked),
        cmocka_unit_test(broken_content_is_refused_and_may_be_offered_anew),
        cmocka_unit_test(who_was_refused_does_not_hold_the_round),
        cmocka_unit_test(when_all_are_refused_nothing_closes),
        cmocka_unit_test(the_refused_one_may_be_the_last_of_all),
        cmocka_unit_test(an_excuse_ends_with_the_link),
        cmocka_unit_test(a_quorum_sums_in_order_of_completion),
        cmocka_unit_test(who_comes_within_the_grace_counts),
        cmocka_unit_test(a_late_contribution_counts_in_the_next_round),
        cmocka_unit_test(two_versions_late_is_the_limit),
        cmocka_unit_test(the_quorum_is_at_most_the_live_ones),
        cmocka_unit_test(the_quorum_in_percent),
        cmocka_unit_test(below_min_workers_rounds_stop),
        cmocka_unit_test(a_late_node_judges_nobody),
        cmocka_unit_test(who_turned_away_from_a_late_node_is_waited_for),
        cmocka_unit_test(a_return_can_undo_a_quorum),
        cmocka_unit_test(automatic_grace),
        cmocka_unit_test(a_straggler_does_not_close_alone),
        cmocka_unit_test(automatic_grace_learns_from_who_came_after_the_close),
        cmocka_unit_test(grace_is_the_90th_percentile),
        cmocka_unit_test(done_finish_final_leave),
        cmocka_unit_test(leaving_during_the_end),
        cmocka_unit_test(who_was_final_and_lost_its_link_is_final_again),
        cmocka_unit_test(who_returns_after_the_finish_changes_no_version),
        cmocka_unit_test(a_quorum_at_the_last_step_ends_training),
        cmocka_unit_test(the_end_does_not_wait_for_ever),
        cmocka_unit_test(a_member_that_came_back_makes_a_strict_end_patient),
        cmocka_unit_test(the_largest_answer),
        cmocka_unit_test(random_events_against_the_oracle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
