/* round: traces of quorum, grace and blocked members, and of the end of a run. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "round_trace.h"

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

/* Two close rounds `count` times, from version `first` on. */
static void rounds_of_two(uint64_t first, uint64_t count) {
    for (uint64_t v = first; v < first + count; v++) {
        contributes(0, 0, v), expect("");
        contributes(1, 0, v);
        feed(COMMITTED(0, v + 1));
    }
}

/* stale: auto. Its way takes ten rounds, every time: it counts every time. */
static void whose_way_is_long_counts_all_the_same(void **state) {
    (void)state;
    auto_quorum_run_of(3, 2);
    all_join();
    for (uint64_t base = 0; base < 33; base += 11) {
        feed(OFFER(2, 0, base));
        rounds_of_two(base, 10);
        feed(WHOLE(2, 0, base)), expect("");
        contributes(0, 0, base + 10);
        assert_true(machine.fragments[0].closing);
        assert_int_equal(machine.fragments[0].counted_count, 2);
        feed(COMMITTED(0, base + 11));
        assert_int_equal(machine.ledger.entries[2][0].applied, (base / 11 + 1) * TRACE_TOKENS);
    }
    feed(OFFER(2, 0, 40)), expect("REFUSE 2 f0 v40 stale"); /* a version that this chain does not know */
}

/* It may come back, and goes on where it was; not for ever: the room that its bytes take is others'. */
static void what_a_lost_member_was_sending_is_kept_for_a_while(void **state) {
    (void)state;
    auto_quorum_run_of(3, 2);
    all_join();
    feed(OFFER(2, 0, 0));
    rounds_of_two(0, 5);
    feed(LEAVE(2)), expect("MEMBERS");
    rounds_of_two(5, 5);
    feed(JOIN_AS(2, 102)), expect("MEMBERS");
    feed(OFFER(2, 0, 0)), expect("GRANT 2 f0 v0");
    feed(LEAVE(2));
    after(ROUND_RETURN_PATIENCE_US - 1);
    rounds_of_two(10, 1), expect("DISCARD 0 f0 v10, DISCARD 1 f0 v10, PUBLISH f0 v11");
    after(1);
    rounds_of_two(11, 1), expect("DISCARD 0 f0 v11, DISCARD 1 f0 v11, PUBLISH f0 v12, DISCARD 2 f0 v0");
    feed(JOIN_AS(2, 102)), feed(OFFER(2, 0, 0)), expect("GRANT 2 f0 v0");
    feed(WHOLE(2, 0, 0)), expect("");
    after(2 * ROUND_RETURN_PATIENCE_US);
    feed(LEAVE(2)); /* whole: its death does not end it */
    contributes(0, 0, 12), expect("CLOSE f0 v13 of 2 0");
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
    contributes(1, 0, 0), expect("CLOSE f0 v1 of 0 1"); /* training has just begun: no grace */
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

/* No round was before it: a quarter of the time since training began, which is when all were there. */
static void automatic_grace_of_the_first_round(void **state) {
    (void)state;
    quorum_run_of(3, 2, ROUND_GRACE_AUTO);
    after(5000000);
    all_join();
    after(100000);
    contributes(0, 0, 0);
    contributes(1, 0, 0), expect("");
    assert_true(round_deadline_us(&machine) == now_us + 25000);
    after(24000);
    contributes(2, 0, 0), expect("CLOSE f0 v1 of 0 1 2");
    feed(COMMITTED(0, 1));
    assert_int_equal(machine.lateness_count, 1);
    assert_true(machine.lateness_us[0] == 24000);
    quorum_run_of(3, 2, ROUND_GRACE_AUTO);
    all_join();
    after(100000);
    contributes(0, 0, 0);
    contributes(1, 0, 0), expect("");
    after(24999), feed(TICK), expect("");
    after(1), feed(TICK), expect("CLOSE f0 v1 of 0 1");
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
    machine.fragments[0].closed_us = now_us;
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quorum_sums_in_order_of_completion),
        cmocka_unit_test(who_comes_within_the_grace_counts),
        cmocka_unit_test(a_late_contribution_counts_in_the_next_round),
        cmocka_unit_test(two_versions_late_is_the_limit),
        cmocka_unit_test(whose_way_is_long_counts_all_the_same),
        cmocka_unit_test(what_a_lost_member_was_sending_is_kept_for_a_while),
        cmocka_unit_test(the_quorum_is_at_most_the_live_ones),
        cmocka_unit_test(the_quorum_in_percent),
        cmocka_unit_test(below_min_workers_rounds_stop),
        cmocka_unit_test(a_late_node_judges_nobody),
        cmocka_unit_test(who_turned_away_from_a_late_node_is_waited_for),
        cmocka_unit_test(a_return_can_undo_a_quorum),
        cmocka_unit_test(automatic_grace),
        cmocka_unit_test(automatic_grace_of_the_first_round),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
