/* ledger: processed = applied + in flight + unsent + dropped after each event, mark = applied + dropped, and no interval counts twice. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "outer/ledger.h"

static struct ledger ledger;

static void is(uint64_t processed, uint64_t applied, uint64_t in_flight, uint64_t unsent, uint64_t dropped) {
    const struct ledger_entry *entry = &ledger.entries[1][2];
    assert_int_equal(entry->processed, processed);
    assert_int_equal(entry->applied, applied);
    assert_int_equal(entry->in_flight, in_flight);
    assert_int_equal(ledger_unsent(entry), unsent);
    assert_int_equal(entry->dropped, dropped);
    assert_true(ledger_check(&ledger, MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX));
}

static bool offer_of(uint64_t from, uint64_t to, uint64_t tokens) {
    struct contribution c = {.slot = 1, .fragment = 2, .tokens_from = from, .tokens_to = to, .tokens = tokens};
    return ledger_offered(&ledger, &c);
}

static bool offer(uint64_t from, uint64_t to) {
    return offer_of(from, to, to - from);
}

static struct counted counted_of(uint64_t from, uint64_t to, uint64_t tokens) {
    return (struct counted){.slot = 1, .tokens_from = from, .tokens_to = to, .tokens = tokens};
}

static void apply_of(uint64_t from, uint64_t to, uint64_t tokens) {
    struct counted counted = counted_of(from, to, tokens);
    ledger_applied(&ledger, 2, &counted);
}

static void apply(uint64_t from, uint64_t to) {
    apply_of(from, to, to - from);
}

static void a_life(void **state) {
    (void)state;
    memset(&ledger, 0, sizeof ledger);
    is(0, 0, 0, 0, 0);
    ledger_processed(&ledger, 1, 3, 30);
    is(30, 0, 0, 30, 0);
    ledger_processed(&ledger, 1, 3, 20); /* an older telemetry */
    is(30, 0, 0, 30, 0);
    assert_true(offer(0, 40)); /* an offer says more than the last telemetry */
    is(40, 0, 40, 0, 0);
    ledger_processed(&ledger, 1, 3, 50);
    is(50, 0, 40, 10, 0);
    ledger_withdrawn(&ledger, 1, 2);
    is(50, 0, 0, 50, 0);
    assert_true(offer(0, 50));
    apply(0, 50);
    is(50, 50, 0, 0, 0);
    ledger_processed(&ledger, 1, 3, 80);
    assert_true(offer(50, 70));
    ledger_lost(&ledger, 1, 3); /* what is held may still count */
    is(80, 50, 20, 0, 10);
    apply(50, 70);
    is(80, 70, 0, 0, 10);
    assert_int_equal(ledger.entries[1][0].dropped, 80);
    assert_int_equal(ledger.entries[1][3].processed, 0);
}

/* Work that died with a killed process, or was counted on a lost branch: in the interval, not in the weight. */
static void what_is_not_worked_is_dropped(void **state) {
    (void)state;
    memset(&ledger, 0, sizeof ledger);
    assert_true(offer_of(0, 40, 25));
    is(40, 0, 25, 15, 0); /* not dropped before a commit counts it */
    ledger_withdrawn(&ledger, 1, 2);
    is(40, 0, 0, 40, 0);
    assert_true(offer_of(0, 40, 25));
    apply_of(0, 40, 25);
    is(40, 25, 0, 0, 15);
    assert_int_equal(ledger.entries[1][2].mark, 40);
    assert_true(offer_of(40, 50, 10));
    is(50, 25, 10, 0, 15);
    apply(40, 50);
    is(50, 35, 0, 0, 15);
    assert_int_equal(ledger.entries[1][2].mark, 50);
}

static void nonsense_changes_nothing(void **state) {
    (void)state;
    memset(&ledger, 0, sizeof ledger);
    assert_true(offer(0, 10));
    apply(0, 10);
    assert_false(offer(0, 10));        /* counted */
    assert_false(offer(9, 20));        /* overlaps */
    assert_false(offer(11, 20));       /* leaves a gap that no commit would account for */
    assert_false(offer_of(10, 10, 0)); /* empty */
    assert_false(offer_of(10, 10, 1));
    assert_false(offer_of(10, 9, 1));
    assert_false(offer_of(10, 20, 0));  /* without work */
    assert_false(offer_of(10, 20, 11)); /* more work than tokens */
    assert_false(offer_of(10, 20, UINT64_MAX));
    is(10, 10, 0, 0, 0);
    assert_true(offer_of(10, UINT64_MAX, 1)); /* believed, and harmless: nothing overflows */
    is(UINT64_MAX, 10, 1, UINT64_MAX - 11, 0);
    apply_of(10, UINT64_MAX, 1);
    is(UINT64_MAX, 11, 0, 0, UINT64_MAX - 11);
    assert_false(offer_of(UINT64_MAX, 5, 1));
}

/* The totals of a commit: what they will be when it is counted; who restores them knows as much as the outer did. */
static void totals_and_restore_are_inverse(void **state) {
    (void)state;
    struct total totals[MESSAGE_WORKERS_MAX], again[MESSAGE_WORKERS_MAX];
    memset(&ledger, 0, sizeof ledger);
    memset(totals, 0, sizeof totals), memset(again, 0, sizeof again);
    assert_int_equal(ledger_totals(&ledger, 2, NULL, 0, totals), 0);
    assert_true(offer_of(0, 30, 20));
    struct counted counting = counted_of(0, 30, 20);
    struct contribution other = {.slot = 63, .fragment = 2, .tokens_to = 8, .tokens = 8};
    assert_true(ledger_offered(&ledger, &other));
    assert_int_equal(ledger_totals(&ledger, 2, NULL, 0, totals), 0); /* nothing is applied */
    assert_int_equal(ledger_totals(&ledger, 2, &counting, 1, totals), 1);
    assert_int_equal(totals[0].slot, 1);
    assert_int_equal(totals[0].mark, 30);
    assert_int_equal(totals[0].applied, 20);
    assert_int_equal(totals[0].dropped, 10);
    is(30, 0, 20, 10, 0); /* asking changes nothing */
    apply_of(0, 30, 20);
    ledger_applied(&ledger, 2, &(struct counted){.slot = 63, .tokens_to = 8, .tokens = 8});
    assert_true(offer(30, 45));
    counting = counted_of(30, 45, 15);
    assert_int_equal(ledger_totals(&ledger, 2, &counting, 1, totals), 2); /* ascending, also who is not counted now */
    assert_int_equal(totals[0].mark, 45);
    assert_int_equal(totals[0].applied, 35);
    assert_int_equal(totals[1].slot, 63);
    assert_int_equal(totals[1].mark, 8);
    assert_int_equal(ledger_totals(&ledger, 1, NULL, 0, again), 0); /* of another fragment */

    static struct ledger restored;
    memset(&restored, 0, sizeof restored);
    ledger_restore(&restored, 2, totals, 2);
    assert_int_equal(ledger_totals(&restored, 2, NULL, 0, again), 2);
    assert_memory_equal(totals, again, 2 * sizeof totals[0]);
    assert_int_equal(restored.entries[1][2].processed, 45);
    assert_int_equal(restored.entries[1][1].processed, 0);
    assert_true(ledger_check(&restored, MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX));
    ledger_restore(&restored, 2, &(struct total){.slot = 5, .mark = 1, .applied = 1}, 1); /* the least there can be */
    assert_int_equal(ledger_totals(&restored, 2, NULL, 0, again), 1);
}

/* Another branch than this outer's: what was held is gone, marks may be lower than before; the counter never goes back. */
static void restore_replaces_what_was(void **state) {
    (void)state;
    memset(&ledger, 0, sizeof ledger);
    assert_true(offer(0, 30));
    apply(0, 30);
    ledger_processed(&ledger, 1, 3, 100);
    assert_true(offer(30, 90));
    struct total total = {.slot = 1, .mark = 20, .applied = 15, .dropped = 5};
    ledger_restore(&ledger, 2, &total, 1);
    is(100, 15, 0, 80, 5);
    assert_false(offer(30, 90));
    assert_true(offer(20, 90));
    ledger_restore(&ledger, 2, NULL, 0);
    is(100, 0, 0, 100, 0);
    assert_true(offer(0, 90));
}

static void check_finds_what_does_not_add_up(void **state) {
    (void)state;
    memset(&ledger, 0, sizeof ledger);
    ledger.entries[63][127].applied = 1;
    assert_false(ledger_check(&ledger, MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX));
    assert_true(ledger_check(&ledger, MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX - 1));
    memset(&ledger, 0, sizeof ledger);
    ledger.entries[0][0] = (struct ledger_entry){.processed = 10, .applied = 5, .dropped = 2, .mark = 8};
    assert_false(
        ledger_check(&ledger, MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX)); /* settled: neither applied nor dropped */
    ledger.entries[0][0] =
        (struct ledger_entry){.processed = 10, .applied = 5, .mark = 5, .in_flight = 4, .dropped = 2};
    assert_false(ledger_check(&ledger, MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX));
    ledger.entries[0][0].dropped = 1;
    assert_true(ledger_check(&ledger, MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_life),
        cmocka_unit_test(what_is_not_worked_is_dropped),
        cmocka_unit_test(nonsense_changes_nothing),
        cmocka_unit_test(totals_and_restore_are_inverse),
        cmocka_unit_test(restore_replaces_what_was),
        cmocka_unit_test(check_finds_what_does_not_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
