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

static void offers_before_the_start_are_refused(void **state) {
    (void)state;
    run_of(2, 1);
    feed(JOIN(0));
    feed(OFFER(0, 0, 0)), expect("REFUSE 0 f0 v0 malformed");
    feed(TICK), expect("");
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

static void another_process_does_not_come_back(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    feed(LEAVE(1)), expect("MEMBERS");
    feed(JOIN_AS(1, 999)), expect("");
    feed(OFFER(1, 0, 0)), expect("REFUSE 1 f0 v0 malformed");
    contributes(0, 0, 0), expect("CLOSE f0 v1 of 0");
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
    c.slot = 2;
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

static void overlapping_tokens_are_duplicates(void **state) {
    (void)state;
    run_of(1, 1);
    all_join();
    contributes(0, 0, 0);
    feed(COMMITTED(0, 1));
    struct contribution c = contribution_of(0, 0, 1);
    c.tokens_from--;
    feed(OFFERED(c)), expect("REFUSE 0 f0 v1 duplicate");
    feed(OFFER(0, 0, 1)), expect("GRANT 0 f0 v1");
}

static void broken_content_is_refused_and_may_be_offered_anew(void **state) {
    (void)state;
    run_of(2, 1);
    all_join();
    contributes(0, 0, 0);
    feed(OFFER(1, 0, 0)), expect("GRANT 1 f0 v0");
    feed(BROKEN(1, 0, 0)), expect("REFUSE 1 f0 v0 not finite, DISCARD 1 f0 v0");
    assert_int_equal(machine.ledger.entries[1][0].in_flight, 0);
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

/* ---- random events against an oracle ---- */

/* It knows what was granted, became whole, was closed and committed, and nothing of rounds. */
enum { FUZZ_WORKERS = 5, FUZZ_FRAGMENTS = 3, FUZZ_EVENTS = 400, FUZZ_RUNS = 400 };

struct oracle_place {
    bool held, whole, closing;
    struct contribution contribution;
};

static struct oracle {
    bool live[FUZZ_WORKERS];
    uint64_t applied_to[FUZZ_WORKERS][FUZZ_FRAGMENTS]; /* end of the newest interval that a commit holds */
    uint64_t applied[FUZZ_WORKERS][FUZZ_FRAGMENTS];
    uint64_t version[FUZZ_FRAGMENTS];
    bool closing[FUZZ_FRAGMENTS];
    struct oracle_place places[FUZZ_WORKERS][FUZZ_FRAGMENTS];
} oracle;

static void oracle_sees_close(const struct round_action *a) {
    uint32_t count;
    const struct counted *counted = round_counted(&machine, a->fragment, &count);
    assert_false(oracle.closing[a->fragment]);
    assert_int_equal(a->version, oracle.version[a->fragment] + 1);
    assert_true(count > 0);
    oracle.closing[a->fragment] = true;
    for (uint32_t i = 0; i < count; i++) {
        struct oracle_place *place = &oracle.places[counted[i].slot][a->fragment];
        assert_true(place->held && place->whole && !place->closing); /* whole, and not twice in one commit */
        assert_int_equal(counted[i].incarnation, place->contribution.incarnation);
        assert_int_equal(counted[i].tokens_to, place->contribution.tokens_to);
        assert_true(oracle.version[a->fragment] - counted[i].base_version <= machine.options.stale);
        assert_true(counted[i].tokens_from >= oracle.applied_to[counted[i].slot][a->fragment]); /* at most once */
        place->closing = true;
    }
}

static void oracle_sees_publish(const struct round_action *a) {
    assert_true(oracle.closing[a->fragment]);
    assert_int_equal(a->version, oracle.version[a->fragment] + 1);
    oracle.version[a->fragment]++;
    oracle.closing[a->fragment] = false;
    for (uint32_t s = 0; s < machine.options.workers; s++) {
        struct oracle_place *place = &oracle.places[s][a->fragment];
        if (!place->closing)
            continue;
        oracle.applied[s][a->fragment] += place->contribution.tokens_to - place->contribution.tokens_from;
        oracle.applied_to[s][a->fragment] = place->contribution.tokens_to;
        *place = (struct oracle_place){0};
    }
}

static void oracle_sees(const struct round_event *event, const struct round_action *a) {
    struct oracle_place *place = &oracle.places[a->slot][a->fragment];
    switch (a->kind) {
    case ROUND_ACTION_GRANT:
        assert_true(event->kind == ROUND_EVENT_OFFER && oracle.live[a->slot]);
        if (!place->held)
            *place = (struct oracle_place){.held = true, .contribution = event->contribution};
        break;
    case ROUND_ACTION_DISCARD:
        assert_true(place->held);
        if (event->kind == ROUND_EVENT_COMMITTED && place->closing)
            break; /* PUBLISH follows */
        assert_false(place->closing);
        *place = (struct oracle_place){0};
        break;
    case ROUND_ACTION_CLOSE:
        oracle_sees_close(a);
        break;
    case ROUND_ACTION_PUBLISH:
        assert_true(event->kind == ROUND_EVENT_COMMITTED);
        oracle_sees_publish(a);
        break;
    default:
        break;
    }
}

static void oracle_feed(struct round_event event) {
    static struct round_actions actions;
    actions.count = 0;
    event.now_us = now_us;
    struct oracle_place *place = &oracle.places[event.slot][event.fragment];
    bool names_it = place->held && !place->whole && place->contribution.base_version == event.version;
    if (event.kind == ROUND_EVENT_WHOLE && names_it)
        place->whole = true; /* unless it was found stale: then DISCARD follows */
    round_step(&machine, &event, &actions);
    if (event.kind == ROUND_EVENT_LEAVE)
        oracle.live[event.slot] = false;
    for (uint32_t i = 0; i < actions.count; i++)
        oracle_sees(&event, &actions.list[i]);
    for (uint32_t s = 0; s < machine.options.workers; s++) {
        oracle.live[s] = member_is_connected(&machine.members.slot[s]);
        for (uint32_t f = 0; f < machine.options.fragments; f++) {
            const struct ledger_entry *entry = &machine.ledger.entries[s][f];
            const struct oracle_place *held = &oracle.places[s][f];
            uint64_t in_flight = held->held ? held->contribution.tokens_to - held->contribution.tokens_from : 0;
            assert_int_equal(entry->applied, oracle.applied[s][f]);
            assert_int_equal(entry->in_flight, in_flight);
            assert_int_equal(entry->processed,
                             entry->applied + entry->in_flight + entry->dropped + ledger_unsent(entry));
            assert_int_equal(machine.fragments[f].version, oracle.version[f]);
        }
    }
}

/* Mostly what an honest worker would say, often something else. */
static struct round_event random_event(struct dice *dice) {
    uint32_t s = below(dice, machine.options.workers), f = below(dice, machine.options.fragments);
    const struct oracle_place *place = &oracle.places[s][f];
    struct contribution c = contribution_of(s, f, machine.fragments[f].version);
    switch (below(dice, 16)) {
    case 0:
        return JOIN(s);
    case 1:
        return JOIN_AS(s, 1 + below(dice, 2));
    case 2:
        return below(dice, 3) == 0 ? LEAVE(s) : JOIN(s);
    case 3:
        return TOKENS(s, below(dice, 1000));
    case 4:
        return below(dice, 60) == 0 ? DONE(s) : TICK;
    case 5:
        return below(dice, 4) == 0 ? FINAL(s) : TICK;
    case 6:
        return BROKEN(s, f, place->contribution.base_version + below(dice, 2));
    case 7: /* an offer that is wrong in some way, or by chance not */
        c.base_version = below(dice, 6);
        c.incarnation += below(dice, 3) == 0;
        c.payload_bytes += below(dice, 3) == 0;
        c.tokens_from -= c.tokens_from > 0 && below(dice, 2) == 0;
        c.tokens_to -= below(dice, 3) * 5;
        return OFFERED(c);
    case 8: /* what is held, again */
        return OFFERED(place->contribution);
    case 9:
    case 10:
    case 11:
        c.base_version -= c.base_version > 1 ? below(dice, 2) : 0;
        return OFFERED(c);
    case 12:
        if (machine.fragments[f].closing)
            return COMMITTED(f, machine.fragments[f].version + 1);
        return TICK;
    default:
        return WHOLE(s, f, place->contribution.base_version);
    }
}

/* The network heals: nobody leaves any more, who is live contributes. Every open round closes. */
static void demand_progress(void) {
    after(1000000000);
    for (uint32_t f = 0; f < machine.options.fragments; f++) {
        if (machine.fragments[f].closing)
            oracle_feed(COMMITTED(f, machine.fragments[f].version + 1));
        uint64_t version = machine.fragments[f].version;
        if (members_expected(&machine.members) == 0 || !machine.started)
            continue;
        for (uint32_t s = 0; s < machine.options.workers && !machine.fragments[f].closing; s++) {
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

static void random_events_against_the_oracle(void **state) {
    (void)state;
    uint64_t commits = 0;
    for (uint64_t seed = 1; seed <= FUZZ_RUNS; seed++) {
        struct dice dice = {seed, 0};
        memset(&oracle, 0, sizeof oracle);
        uint32_t workers = 1 + below(&dice, FUZZ_WORKERS);
        uint32_t quorum = below(&dice, 2) * (1 + below(&dice, workers));
        bool stale = quorum > 0 || below(&dice, 2);
        run_with((struct round_options){.workers = workers,
                                        .fragments = 1 + below(&dice, FUZZ_FRAGMENTS),
                                        .quorum = quorum,
                                        .grace_us = below(&dice, 2) ? ROUND_GRACE_AUTO : 50,
                                        .stale = stale ? 2 : 0});
        for (uint32_t s = 0; s < workers; s++)
            oracle_feed(JOIN(s));
        for (int i = 0; i < FUZZ_EVENTS; i++) {
            after(below(&dice, 40));
            oracle_feed(random_event(&dice));
        }
        demand_progress();
        for (uint32_t f = 0; f < machine.options.fragments; f++)
            commits += machine.fragments[f].version;
    }
    assert_true(commits > 5 * FUZZ_RUNS); /* the sequences do reach what they are to test */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start_waits_for_all),
        cmocka_unit_test(offers_before_the_start_are_refused),
        cmocka_unit_test(strict_round_needs_every_live_worker),
        cmocka_unit_test(nothing_is_published_before_it_is_committed),
        cmocka_unit_test(fragments_close_on_their_own),
        cmocka_unit_test(death_ends_the_expectation_at_once),
        cmocka_unit_test(a_whole_contribution_outlives_its_worker),
        cmocka_unit_test(death_amid_an_upload_does_not_hold_the_round),
        cmocka_unit_test(an_upload_goes_on_after_the_link_came_back),
        cmocka_unit_test(what_a_lost_member_was_sending_does_not_hold_the_end),
        cmocka_unit_test(the_next_evaluates_when_the_evaluator_dies),
        cmocka_unit_test(death_while_its_commit_is_made_changes_nothing),
        cmocka_unit_test(all_leave),
        cmocka_unit_test(the_same_process_comes_back),
        cmocka_unit_test(another_process_does_not_come_back),
        cmocka_unit_test(the_same_offer_again_asks_for_the_rest),
        cmocka_unit_test(a_second_offer_while_one_is_held),
        cmocka_unit_test(foreign_and_malformed_offers),
        cmocka_unit_test(overlapping_tokens_are_duplicates),
        cmocka_unit_test(broken_content_is_refused_and_may_be_offered_anew),
        cmocka_unit_test(a_quorum_sums_in_order_of_completion),
        cmocka_unit_test(who_comes_within_the_grace_counts),
        cmocka_unit_test(a_late_contribution_counts_in_the_next_round),
        cmocka_unit_test(two_versions_late_is_the_limit),
        cmocka_unit_test(the_quorum_is_at_most_the_live_ones),
        cmocka_unit_test(a_return_can_undo_a_quorum),
        cmocka_unit_test(automatic_grace),
        cmocka_unit_test(grace_is_the_90th_percentile),
        cmocka_unit_test(done_finish_final_leave),
        cmocka_unit_test(leaving_during_the_end),
        cmocka_unit_test(who_was_final_and_lost_its_link_is_final_again),
        cmocka_unit_test(who_returns_after_the_finish_changes_no_version),
        cmocka_unit_test(a_quorum_at_the_last_step_ends_training),
        cmocka_unit_test(the_end_does_not_wait_for_ever),
        cmocka_unit_test(random_events_against_the_oracle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
