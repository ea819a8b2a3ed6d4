/* ledger: processed = applied + in flight + unsent + dropped after each event, and no interval counts twice. */
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

static bool offer(uint64_t from, uint64_t to) {
    struct contribution c = {.slot = 1, .fragment = 2, .tokens_from = from, .tokens_to = to};
    return ledger_offered(&ledger, &c);
}

static void apply(uint64_t from, uint64_t to) {
    ledger_applied(&ledger, 2, &(struct counted){.slot = 1, .tokens_from = from, .tokens_to = to});
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

static void overlap_and_nonsense_change_nothing(void **state) {
    (void)state;
    memset(&ledger, 0, sizeof ledger);
    assert_true(offer(0, 10));
    apply(0, 10);
    assert_false(offer(0, 10));
    assert_false(offer(9, 20));
    assert_false(offer(10, 10));
    assert_false(offer(20, 12));
    is(10, 10, 0, 0, 0);
    assert_true(offer(12, 20)); /* a gap: those tokens stay unsent */
    is(20, 10, 8, 2, 0);
}

static void check_finds_what_does_not_add_up(void **state) {
    (void)state;
    memset(&ledger, 0, sizeof ledger);
    ledger.entries[63][127].applied = 1;
    assert_false(ledger_check(&ledger, MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX));
    memset(&ledger, 0, sizeof ledger);
    ledger.entries[0][0] = (struct ledger_entry){.processed = 10, .applied = 5, .mark = 4};
    assert_false(ledger_check(&ledger, MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX));
    ledger.entries[0][0] =
        (struct ledger_entry){.processed = 10, .applied = 5, .mark = 5, .in_flight = 4, .dropped = 2};
    assert_false(ledger_check(&ledger, MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX));
    ledger.entries[0][0].dropped = 1;
    assert_true(ledger_check(&ledger, MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_life),
        cmocka_unit_test(overlap_and_nonsense_change_nothing),
        cmocka_unit_test(check_finds_what_does_not_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
