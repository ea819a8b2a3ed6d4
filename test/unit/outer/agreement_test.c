/* agreement: who is believed, when it is open, and what is remembered of what was dropped. Hashes are one letter. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "outer/agreement.h"

enum { F = 3, NOW = 1000 };

static struct agreement agreement;
static struct agreement_finding finding;

static void new_one(void) {
    memset(&agreement, 0, sizeof agreement);
}

static const uint8_t *hash(char letter) {
    static uint8_t bytes[MESSAGE_STATE_HASH_BYTES];
    memset(bytes, letter, sizeof bytes);
    return bytes;
}

static void publish(uint64_t version, char letter) {
    agreement_publish(&agreement, F, version, hash(letter));
}

static bool say(uint32_t slot, uint64_t version, char letter, uint64_t live_mask) {
    return agreement_say(&agreement, slot, F, version, hash(letter), live_mask, NOW);
}

static enum agreement_verdict judge_at(uint64_t live_mask, uint64_t now_us) {
    return agreement_judge(&agreement, F, live_mask, now_us, &finding);
}
static enum agreement_verdict judge(uint64_t live_mask) {
    return judge_at(live_mask, NOW);
}

static void all_agree(void **state) {
    (void)state;
    new_one();
    publish(5, 'a');
    assert_int_equal(judge(7), AGREEMENT_FINE);
    for (uint32_t slot = 0; slot < 3; slot++)
        assert_false(say(slot, 5, 'a', 7));
    assert_int_equal(judge(7), AGREEMENT_FINE);
}

static void one_differs(void **state) {
    (void)state;
    new_one();
    publish(5, 'a');
    assert_true(say(1, 5, 'b', 7));
    assert_int_equal(judge(7), AGREEMENT_OPEN);
    assert_false(say(0, 5, 'a', 7));
    assert_int_equal(judge(7), AGREEMENT_OPEN);
    assert_false(say(2, 5, 'a', 7));
    assert_int_equal(judge(7), AGREEMENT_FINE);
    assert_false(say(1, 5, 'a', 7)); /* of what it fetched */
    assert_int_equal(judge(7), AGREEMENT_FINE);
}

static void most_differ_alike(void **state) {
    (void)state;
    new_one();
    publish(5, 'a');
    assert_true(say(2, 5, 'b', 7));
    assert_true(say(0, 5, 'b', 7));
    assert_int_equal(judge(7), AGREEMENT_MOST);
    assert_int_equal(finding.version, 5);
    assert_int_equal(finding.mask, 5);
    assert_memory_equal(finding.said, hash('b'), sizeof finding.said);
}

/* Half is not most; nor are those that differ from each other too. */
static void not_most(void **state) {
    (void)state;
    new_one();
    publish(5, 'a');
    assert_true(say(0, 5, 'b', 15));
    assert_true(say(1, 5, 'b', 15));
    assert_false(say(2, 5, 'a', 15));
    assert_false(say(3, 5, 'a', 15));
    assert_int_equal(judge(15), AGREEMENT_FINE);
    publish(6, 'a');
    for (uint32_t slot = 0; slot < 4; slot++)
        assert_true(say(slot, 6, (char)('b' + slot), 15));
    assert_int_equal(judge(15), AGREEMENT_FINE);
}

/* One against the outer: nobody can tell. */
static void a_run_of_one(void **state) {
    (void)state;
    new_one();
    publish(5, 'a');
    assert_true(say(0, 5, 'b', 1));
    assert_int_equal(judge(1), AGREEMENT_FINE);
    publish(6, 'a');
    assert_true(say(0, 6, 'b', 3));
    assert_true(say(1, 6, 'b', 3));
    assert_int_equal(judge(3), AGREEMENT_MOST);
}

static void who_is_gone_has_no_say(void **state) {
    (void)state;
    new_one();
    publish(5, 'a');
    assert_true(say(0, 5, 'b', 15));
    assert_true(say(1, 5, 'b', 15));
    assert_false(say(2, 5, 'a', 15));
    assert_int_equal(judge(15), AGREEMENT_OPEN);
    assert_int_equal(judge(7), AGREEMENT_MOST); /* slot 3 left: two of three */
    assert_int_equal(judge(13), AGREEMENT_OPEN);
    assert_int_equal(judge(5), AGREEMENT_FINE);
    assert_int_equal(judge(4), AGREEMENT_FINE);
    assert_int_equal(judge(12), AGREEMENT_FINE); /* nobody who is here differs: nothing to wait for */
}

static void open_for_a_while_only(void **state) {
    (void)state;
    new_one();
    publish(5, 'a');
    assert_true(say(0, 5, 'b', 7));
    assert_int_equal(judge_at(7, NOW + AGREEMENT_OPEN_US - 1), AGREEMENT_OPEN);
    assert_int_equal(judge_at(7, NOW + AGREEMENT_OPEN_US), AGREEMENT_FINE);
    assert_false(say(0, 5, 'a', 7)); /* it was given the wrong state; what it computed itself counts, */
    assert_true(say(1, 5, 'b', 7));
    assert_int_equal(judge_at(7, NOW + 2 * AGREEMENT_OPEN_US), AGREEMENT_MOST); /* late */
}

static void versions_are_apart(void **state) {
    (void)state;
    new_one();
    for (uint64_t version = 1; version <= 6; version++)
        publish(version, 'a');
    assert_false(say(0, 1, 'b', 3)); /* too old: forgotten */
    assert_false(say(0, 0, 'b', 3));
    assert_false(say(0, 9, 'b', 3)); /* nobody made it */
    assert_int_equal(judge(3), AGREEMENT_FINE);
    assert_true(say(0, 5, 'b', 3));
    assert_true(say(1, 6, 'b', 3));
    assert_int_equal(judge(3), AGREEMENT_OPEN);
    assert_true(say(0, 6, 'b', 3));
    assert_int_equal(judge(3), AGREEMENT_MOST);
    assert_int_equal(finding.version, 6);
    assert_true(say(1, 5, 'b', 3));
    assert_int_equal(judge(3), AGREEMENT_MOST);
    assert_int_equal(finding.version, 5); /* the oldest that is wrong */
    assert_int_equal(agreement_judge(&agreement, F + 1, 3, NOW, &finding), AGREEMENT_FINE);
}

static void what_is_dropped_stays_so(void **state) {
    (void)state;
    struct head head = {.epoch = 2, .version = 5};
    new_one();
    assert_false(agreement_is_dropped(&agreement, F, &head));
    publish(5, 'a');
    assert_true(say(0, 5, 'b', 3));
    assert_true(say(1, 5, 'b', 3));
    assert_int_equal(agreement_drop(&agreement, F, &head), 1);
    agreement_begin(&agreement);
    assert_int_equal(judge(3), AGREEMENT_FINE); /* what was said is void */
    assert_true(agreement_is_dropped(&agreement, F, &head));
    assert_false(agreement_is_dropped(&agreement, F + 1, &head));
    head.version = 6; /* on top of it */
    assert_true(agreement_is_dropped(&agreement, F, &head));
    head.version = 4;
    assert_false(agreement_is_dropped(&agreement, F, &head));
    head = (struct head){.epoch = 3, .version = 5}; /* made again */
    assert_false(agreement_is_dropped(&agreement, F, &head));
}

/* A disk that ends before its newest record has lost something, unless what was there was dropped: now, or at an earlier start. */
static void what_is_dropped_is_not_lost(void **state) {
    (void)state;
    struct head head = {.epoch = 1, .version = 5};
    new_one();
    assert_false(agreement_knows_end(&agreement, F, 4)); /* of a process that has led nothing */
    for (uint64_t version = 4; version <= 7; version++)
        publish(version, 'a');
    assert_true(agreement_knows_end(&agreement, F, 7));
    assert_false(agreement_knows_end(&agreement, F, 6)); /* what was published is gone */
    agreement_drop(&agreement, F, &head);                /* 5, 6 and 7 */
    agreement_begin(&agreement);
    assert_true(agreement_knows_end(&agreement, F, 4));
    assert_false(agreement_knows_end(&agreement, F, 3));
    publish(5, 'b'); /* made again; then another fragment is dropped, before 7 is reached */
    agreement_drop(&agreement, F + 1, &(struct head){.epoch = 2, .version = 1});
    agreement_begin(&agreement);
    assert_true(agreement_knows_end(&agreement, F, 5));
    assert_false(agreement_knows_end(&agreement, F, 4));
    assert_true(agreement_knows_end(&agreement, F + 1, 0)); /* the first version of all */
    assert_false(agreement_knows_end(&agreement, F + 2, 9));
}

/* In a row: until most agree on a version. */
static void drops_are_counted(void **state) {
    (void)state;
    struct head head = {.epoch = 1, .version = 5};
    new_one();
    assert_int_equal(agreement_drop(&agreement, F, &head), 1);
    assert_int_equal(agreement_drop(&agreement, F, &head), 2);
    assert_int_equal(agreement_drop(&agreement, F + 1, &head), 1);
    agreement_begin(&agreement);
    publish(5, 'a');
    assert_false(say(0, 5, 'a', 7));
    assert_int_equal(agreement_drop(&agreement, F, &head), AGREEMENT_DROPS_MAX); /* one is not most */
    publish(5, 'a');
    assert_false(say(0, 5, 'a', 7));
    assert_false(say(2, 5, 'a', 7));
    assert_int_equal(agreement_drop(&agreement, F, &head), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_agree),
        cmocka_unit_test(one_differs),
        cmocka_unit_test(most_differ_alike),
        cmocka_unit_test(not_most),
        cmocka_unit_test(a_run_of_one),
        cmocka_unit_test(who_is_gone_has_no_say),
        cmocka_unit_test(open_for_a_while_only),
        cmocka_unit_test(versions_are_apart),
        cmocka_unit_test(what_is_dropped_stays_so),
        cmocka_unit_test(what_is_dropped_is_not_lost),
        cmocka_unit_test(drops_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
