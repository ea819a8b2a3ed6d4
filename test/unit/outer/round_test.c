/* round: traces of the machine, each a named case of DESIGN.md section 5: rounds, deaths, offers. Beside it: round_return_test.c, 
 * round_quorum_test.c, and random events in round_random_test.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "round_trace.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start_waits_for_all),
        cmocka_unit_test(offers_before_the_start_wait),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
