/* recovery: traces of how an outer comes to lead, each a named case of DESIGN.md section 5; random events against what must hold. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "outer/recovery.h"
#include "unit/dice.h"

/* ---- a recovery fed by hand: bears(0, 1, 5, 40, 3), expect("FETCH 0 f0"); one fragment unless said otherwise ---- */

enum { WINDOW_US = 3000000 };

static struct recovery recovery;
static uint64_t now_us;
static char answer[4096];

static struct head head_of(uint64_t epoch, uint64_t version) {
    struct head head = {.epoch = epoch, .version = version};
    memset(head.hash, (int)(16 * epoch + version), sizeof head.hash);
    return head;
}

static void feed(struct recovery_event event) {
    struct recovery_actions actions = {0};
    event.now_us = now_us;
    recovery_step(&recovery, &event, &actions);
    answer[0] = 0;
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct recovery_action *a = &actions.list[i];
        size_t length = strlen(answer);
        if (a->kind == RECOVERY_ACTION_LEAD)
            snprintf(answer + length, sizeof answer - length, "%sLEAD", i > 0 ? ", " : "");
        else
            snprintf(answer + length, sizeof answer - length, "%sFETCH %u f%u", i > 0 ? ", " : "", a->slot,
                     a->fragment);
    }
}

#define expect(text) assert_string_equal(answer, text)

/* own: what the outer holds of every fragment. */
static void open_from(struct recovery_options options, struct head own) {
    struct head heads[MESSAGE_FRAGMENTS_MAX];
    for (uint32_t f = 0; f < MESSAGE_FRAGMENTS_MAX; f++)
        heads[f] = own;
    options.fragments = options.fragments == 0 ? 1 : options.fragments;
    options.window_us = WINDOW_US;
    recovery_open(&recovery, &options);
    now_us = 1000000;
    feed((struct recovery_event){.kind = RECOVERY_EVENT_OPEN, .heads = heads});
}

static void open_fresh(void) {
    open_from((struct recovery_options){.mode = RECOVERY_FRESH, .workers = 3}, head_of(0, 0));
}

static void open_disk(uint32_t workers, uint64_t expected_mask) {
    open_from((struct recovery_options){.mode = RECOVERY_DISK, .workers = workers, .expected_mask = expected_mask},
              head_of(2, 10));
}

static void open_empty(uint32_t workers) {
    open_from((struct recovery_options){.mode = RECOVERY_EMPTY, .workers = workers}, head_of(0, 0));
}

static void bears_heads(uint32_t slot, const struct head *heads, uint64_t run_step, uint64_t members_mask) {
    feed((struct recovery_event){.kind = RECOVERY_EVENT_BEARER,
                                 .slot = slot,
                                 .heads = heads,
                                 .run_step = run_step,
                                 .members_mask = members_mask});
}

static void bears(uint32_t slot, uint64_t epoch, uint64_t version, uint64_t run_step, uint64_t members_mask) {
    struct head heads[MESSAGE_FRAGMENTS_MAX];
    for (uint32_t f = 0; f < MESSAGE_FRAGMENTS_MAX; f++)
        heads[f] = head_of(epoch, version);
    bears_heads(slot, heads, run_step, members_mask);
}

static void bears_nothing(uint32_t slot) {
    bears(slot, 0, 0, 0, 0);
}

static void gone(uint32_t slot) {
    feed((struct recovery_event){.kind = RECOVERY_EVENT_GONE, .slot = slot});
}

static void taken(uint32_t slot, uint32_t fragment, uint64_t epoch, uint64_t version) {
    struct head head = head_of(epoch, version);
    feed((struct recovery_event){.kind = RECOVERY_EVENT_TAKEN, .slot = slot, .fragment = fragment, .heads = &head});
}

static void failed(uint32_t slot, uint32_t fragment) {
    feed((struct recovery_event){.kind = RECOVERY_EVENT_FAILED, .slot = slot, .fragment = fragment});
}

static void tick_after(uint64_t us) {
    now_us += us;
    feed((struct recovery_event){.kind = RECOVERY_EVENT_TICK});
}

/* ---- the mode ---- */

/* Fresh only where nothing can have been trained: the key is new, or a person says so and there is no commit. */
static void how_a_start_begins(void **state) {
    (void)state;
    static const struct {
        struct recovery_start start;
        enum recovery_mode mode;
    } rows[] = {
        {{.key_is_new = true}, RECOVERY_FRESH},
        {{.found = true, .commits = true}, RECOVERY_DISK},
        {{.found = true, .commits = true, .lost = true}, RECOVERY_EMPTY},
        {{.found = true}, RECOVERY_EMPTY}, /* perhaps a backup from before START, or from before the first commit */
        {{.found = true, .again = true}, RECOVERY_DISK}, /* it dropped its first commit */
        {{.found = true, .lost = true}, RECOVERY_EMPTY},
        {{.found = true, .lost = true, .again = true}, RECOVERY_EMPTY},
        {{.commits = true}, RECOVERY_EMPTY},
        {{0}, RECOVERY_EMPTY},
        {{.new_run = true}, RECOVERY_FRESH},
        {{.new_run = true, .found = true}, RECOVERY_FRESH},
        {{.new_run = true, .found = true, .commits = true}, RECOVERY_DISK}, /* refused by the caller */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(recovery_choose(&rows[i].start), rows[i].mode);
}

/* ---- fresh ---- */

static void a_fresh_run_leads_at_once(void **state) {
    (void)state;
    open_fresh(), expect("LEAD");
    assert_true(recovery_deadline_us(&recovery) == UINT64_MAX);
    tick_after(WINDOW_US), expect(""); /* given once */
    bears(0, 9, 99, 1000, 7), expect("");
    gone(0), expect("");
}

/* ---- with a disk ---- */

static void a_disk_hears_the_members_for_a_window(void **state) {
    (void)state;
    open_disk(3, 0x3), expect("");
    assert_true(recovery_deadline_us(&recovery) == now_us + WINDOW_US);
    assert_true(recovery_missing_mask(&recovery) == 0x3);
    tick_after(WINDOW_US - 1), expect("");
    tick_after(1), expect(""); /* nobody came: there is nothing to lead */
    tick_after(60 * WINDOW_US), expect("");
    assert_int_equal(recovery_lacking(&recovery), 1);
    bears(0, 2, 11, 77, 7), expect("FETCH 0 f0"); /* it was a copy, and is late */
    assert_int_equal(recovery_lacking(&recovery), 0);
    taken(0, 0, 2, 11), expect("");
    assert_true(recovery_deadline_us(&recovery) == now_us + WINDOW_US); /* from the first on */
    tick_after(WINDOW_US), expect("LEAD");
    assert_true(recovery_deadline_us(&recovery) == UINT64_MAX);
}

static void at_the_window_s_end_one_of_them_is_enough(void **state) {
    (void)state;
    open_disk(3, 0x3);
    bears(1, 2, 10, 70, 7), expect("");
    tick_after(WINDOW_US), expect("LEAD"); /* its own state is the run's */
}

static void when_all_of_the_run_are_heard_the_window_ends(void **state) {
    (void)state;
    open_disk(2, 0x5);
    bears(0, 2, 10, 70, 7), expect("");
    assert_true(recovery_missing_mask(&recovery) == 0x4);
    bears(1, 2, 10, 70, 7), expect(""); /* all that started it; slot 2 joined late, and was live */
    bears(2, 2, 9, 69, 7), expect("LEAD");
    open_disk(2, 0x5);
    bears(1, 2, 10, 70, 7), bears(0, 2, 10, 70, 7), gone(0), bears(2, 2, 10, 70, 7),
        expect(""); /* not here any more: its state may be newer by now */
    bears(0, 2, 10, 70, 7), expect("LEAD");
}

/* Version 11 was made without slot 1, after the backup was written without slot 0: who the backup expects knows nothing
 * of it. */
static void who_was_away_when_a_backup_was_written_bears_newer(void **state) {
    (void)state;
    open_disk(2, 0x2);
    bears(1, 2, 10, 70, 0x2), expect("");
    tick_after(WINDOW_US - 1), expect("");
    bears(0, 2, 11, 80, 0x1), expect("FETCH 0 f0");
    taken(0, 0, 2, 11), expect("LEAD");
}

static void who_joined_after_a_backup_was_written_bears_newer(void **state) {
    (void)state;
    open_disk(2, 0x3);
    bears(1, 2, 10, 70, 0x3), expect("");
    bears(0, 2, 11, 80, 0x5), expect("FETCH 0 f0");
    taken(0, 0, 2, 11), expect(""); /* all that started it; slot 2 is counted in what one of them bears */
    bears(2, 2, 12, 90, 0x4), expect("FETCH 2 f0");
    taken(2, 0, 2, 12), expect("LEAD");
}

/* A copy of the directory of a stopped run knows of nobody that was live, and may be the oldest of all. */
static void a_backup_that_expects_nobody_still_listens(void **state) {
    (void)state;
    open_disk(3, 0), expect("");
    bears(3, 2, 14, 90, 0xf), expect("FETCH 3 f0");
    taken(3, 0, 2, 14), expect("");
    tick_after(WINDOW_US), expect("LEAD");
}

static void what_members_hold_beyond_the_disk_is_taken_over(void **state) {
    (void)state;
    open_disk(2, 0x3);
    bears(1, 2, 12, 80, 3), expect("FETCH 1 f0");
    bears(0, 2, 10, 70, 3), expect(""); /* all are heard, and something newer is on its way */
    tick_after(2 * WINDOW_US), expect("");
    taken(1, 0, 2, 12), expect("LEAD");
}

/* An epoch later than ours: another outer led meanwhile with this key. Ours was left, though its version is higher. */
static void a_later_epoch_is_newer_than_a_higher_version(void **state) {
    (void)state;
    open_disk(2, 0x3);
    bears(0, 3, 4, 60, 3), expect("FETCH 0 f0");
    taken(0, 0, 3, 4), expect("");
    bears(1, 2, 11, 75, 3), expect("LEAD");
}

static void the_same_version_of_another_branch_is_not_newer(void **state) {
    (void)state;
    struct head head = head_of(2, 10);
    head.hash[0] ^= 1;
    open_disk(1, 0x1);
    bears_heads(0, &head, 70, 1), expect("LEAD");
}

/* ---- fetching ---- */

static void the_newest_of_each_fragment_is_fetched_from_its_bearer(void **state) {
    (void)state;
    open_from((struct recovery_options){.mode = RECOVERY_DISK, .workers = 2, .fragments = 3, .expected_mask = 3},
              head_of(2, 10));
    const struct head first[3] = {head_of(2, 11), head_of(2, 10), head_of(2, 13)};
    const struct head second[3] = {head_of(2, 10), head_of(2, 9), head_of(2, 14)};
    bears_heads(0, first, 80, 3), expect("FETCH 0 f0, FETCH 0 f2");
    bears_heads(1, second, 85, 3), expect(""); /* asked when the one under way is here */
    taken(0, 2, 2, 13), expect("FETCH 1 f2");
    taken(1, 2, 2, 14), expect("");
    taken(0, 0, 2, 11), expect("LEAD");
}

static void of_several_the_newest_is_asked(void **state) {
    (void)state;
    open_empty(3);
    bears_nothing(0), expect("");
    bears(1, 1, 5, 40, 6), expect("FETCH 1 f0");
    bears(2, 1, 7, 60, 6), expect("");
    gone(1), expect("FETCH 2 f0"); /* at once from who is left, and that is the newest */
    taken(2, 0, 1, 7), expect("");
    bears(1, 1, 5, 40, 6), expect("LEAD");
}

static void a_bearer_that_leaves_takes_its_version_along(void **state) {
    (void)state;
    open_disk(2, 0x3);
    bears(0, 2, 12, 80, 3), expect("FETCH 0 f0");
    gone(0), expect("");
    bears(1, 2, 11, 75, 3), expect("FETCH 1 f0");
    bears(0, 2, 12, 80, 3), expect(""); /* it is back */
    taken(1, 0, 2, 11), expect("FETCH 0 f0");
    gone(0), expect("");
    tick_after(WINDOW_US), expect("LEAD"); /* from what there is */
}

static void who_does_not_bear_what_it_said_is_heard_no_more(void **state) {
    (void)state;
    open_from((struct recovery_options){.mode = RECOVERY_DISK, .workers = 2, .fragments = 2, .expected_mask = 3},
              head_of(2, 10));
    bears(0, 9, 99, 1000, 3), expect("FETCH 0 f0, FETCH 0 f1");
    bears(1, 2, 11, 80, 3), expect("");
    failed(0, 1), expect("FETCH 1 f0, FETCH 1 f1"); /* also what else was asked of it */
    bears(0, 9, 99, 1000, 3), expect("");
    taken(1, 0, 2, 11), expect("");
    taken(1, 1, 2, 11), expect(""); /* slot 0 does not count as heard */
    assert_true(recovery_missing_mask(&recovery) == 0x1);
    tick_after(WINDOW_US), expect("LEAD");
}

/* Signed, so it is taken; but older than was said. It is not asked for the same again without end. */
static void less_than_was_said_is_all_there_is(void **state) {
    (void)state;
    open_disk(1, 0x1);
    bears(0, 2, 99, 1000, 1), expect("FETCH 0 f0");
    taken(0, 0, 2, 11), expect("LEAD");
    open_disk(2, 0x3);
    bears(0, 2, 99, 1000, 3), expect("FETCH 0 f0");
    bears(1, 2, 12, 80, 3), expect("");
    taken(0, 0, 2, 11), expect("FETCH 1 f0");
    taken(1, 0, 2, 12), expect("LEAD");
}

/* It says less than before while it is being asked: what is on its way is waited for all the same. */
static void what_is_under_way_is_waited_for(void **state) {
    (void)state;
    open_disk(1, 0x1);
    bears(0, 2, 12, 80, 1), expect("FETCH 0 f0");
    bears(0, 2, 10, 70, 1), expect("");
    tick_after(WINDOW_US), expect("");
    taken(0, 0, 2, 12), expect("LEAD");
}

static void more_than_was_said_is_welcome(void **state) {
    (void)state;
    open_disk(2, 0x3);
    bears(0, 2, 11, 75, 3), expect("FETCH 0 f0");
    bears(1, 2, 12, 80, 3), expect("");
    taken(0, 0, 2, 13), expect("LEAD"); /* it applied two more after it had said so */
}

/* ---- with a key that led before, and no state ---- */

static void all_members_of_the_newest_commit_and_of_the_run_are_enough(void **state) {
    (void)state;
    open_empty(2), expect("");
    bears(0, 1, 5, 40, 0x3), expect("FETCH 0 f0");
    taken(0, 0, 1, 5), expect("");
    assert_true(recovery_missing_mask(&recovery) == 0x2);
    bears_nothing(7), expect(""); /* not one of them */
    bears(1, 1, 5, 40, 0x3), expect("LEAD");
    open_empty(3);
    bears(0, 1, 5, 40, 0x3), taken(0, 0, 1, 5), bears(1, 1, 5, 40, 0x3), expect("");
    bears_nothing(2), expect("LEAD"); /* not a member, and now known to bear nothing newer */
}

static void all_members_of_the_newest_commit_are_enough_when_the_window_ends(void **state) {
    (void)state;
    open_empty(3);
    bears(0, 1, 5, 40, 0x3), taken(0, 0, 1, 5), bears(1, 1, 5, 40, 0x3), expect("");
    tick_after(WINDOW_US - 1), expect("");
    tick_after(1), expect("LEAD");
}

/* Version 1 counts slot 0 only, version 2 slot 1 only: all members of the newest commit that was seen are here, and do
 * not know the newest. */
static void who_is_not_in_the_newest_commit_seen_bears_newer(void **state) {
    (void)state;
    open_empty(2);
    bears(0, 1, 1, 10, 0x1), expect("FETCH 0 f0");
    taken(0, 0, 1, 1), expect("");
    tick_after(WINDOW_US - 1), expect("");
    bears(1, 1, 2, 20, 0x2), expect("FETCH 1 f0");
    taken(1, 0, 1, 2), expect("LEAD");
}

/* The run was carried on by those that joined late; one of them said so, and is gone. */
static void all_that_started_the_run_do_not_outweigh_the_newest_commit_seen(void **state) {
    (void)state;
    open_empty(2);
    bears(2, 1, 9, 90, 0xc), expect("FETCH 2 f0");
    gone(2), expect("");
    bears(0, 1, 1, 10, 0x3), expect("FETCH 0 f0");
    taken(0, 0, 1, 1), expect("");
    bears(1, 1, 1, 10, 0x3), expect("");
    tick_after(WINDOW_US), expect("");
    bears(3, 1, 9, 90, 0xc), expect("FETCH 3 f0");
    taken(3, 0, 1, 9), expect("LEAD");
}

static void the_newest_commit_says_who_is_waited_for(void **state) {
    (void)state;
    open_empty(3);
    bears(0, 1, 5, 40, 0x3), expect("FETCH 0 f0");
    taken(0, 0, 1, 5), expect("");
    bears(2, 1, 6, 50, 0xc), expect("FETCH 2 f0");
    taken(2, 0, 1, 6), expect("");
    bears(1, 1, 5, 40, 0x3), expect(""); /* all of an older commit, and all that started the run: no more */
    assert_true(recovery_missing_mask(&recovery) == 0x8);
    bears(3, 1, 5, 40, 0x3), expect("LEAD");
}

/* Of two branches the later epoch is the run, whatever step the other had come to. */
static void a_lost_branch_says_nothing_about_the_members(void **state) {
    (void)state;
    open_empty(1);
    bears(0, 1, 10, 100, 0x7), expect("FETCH 0 f0");
    bears(3, 2, 9, 95, 0x18), expect("");
    taken(0, 0, 1, 10), expect("FETCH 3 f0");
    taken(3, 0, 2, 9), expect("");
    assert_true(recovery_missing_mask(&recovery) == 0x10);
    bears(4, 2, 9, 95, 0x18), expect("LEAD");
}

static void half_of_them_are_enough_when_the_window_ends(void **state) {
    (void)state;
    open_empty(4);
    bears(0, 1, 5, 40, 0x1f), expect("FETCH 0 f0");
    taken(0, 0, 1, 5);
    bears(1, 1, 5, 40, 0x1f), expect("");
    assert_int_equal(recovery_lacking(&recovery), 1);
    tick_after(WINDOW_US), expect("");       /* two of five */
    bears_nothing(9), expect("");            /* not of the five */
    bears(4, 1, 4, 30, 0xf), expect("LEAD"); /* three of five */
    open_empty(4);
    bears(0, 1, 5, 40, 0xf), expect("FETCH 0 f0");
    taken(0, 0, 1, 5);
    assert_int_equal(recovery_lacking(&recovery), 1);
    bears(1, 1, 5, 40, 0xf), expect("");
    assert_int_equal(recovery_lacking(&recovery), 0); /* it leads when the window ends */
    tick_after(WINDOW_US - 1), expect("");
    tick_after(1), expect("LEAD"); /* two of four */
}

static void who_is_gone_again_is_not_here(void **state) {
    (void)state;
    open_empty(2);
    bears(0, 1, 5, 40, 0x7), expect("FETCH 0 f0");
    taken(0, 0, 1, 5);
    bears(1, 1, 5, 40, 0x7), gone(0), expect("");
    assert_true(recovery_missing_mask(&recovery) == 0x5);
    assert_int_equal(recovery_lacking(&recovery), 1);
    tick_after(WINDOW_US), expect(""); /* one of three; the commit that slot 0 bore is still the newest that was seen */
    bears(2, 1, 4, 30, 0x6), expect("LEAD");
}

/* What it claims about steps and members is forgotten with the rest: else it alone could keep the run from being led. */
static void a_liar_does_not_choose_who_is_waited_for(void **state) {
    (void)state;
    open_empty(2);
    bears(5, 9, 99, 100000, UINT64_MAX), expect("FETCH 5 f0");
    bears(0, 1, 5, 40, 0x3), bears(1, 1, 5, 40, 0x3), expect("");
    failed(5, 0), expect("FETCH 0 f0");
    taken(0, 0, 1, 5), expect("LEAD");
}

/* Nothing trained can be lost when all that started the run are here, by their slots, and none bears a commit. */
static void nobody_bears_anything(void **state) {
    (void)state;
    open_empty(3);
    bears_nothing(0), bears_nothing(4), bears_nothing(5), expect(""); /* who came late stands for nobody */
    assert_true(recovery_missing_mask(&recovery) == 0);
    assert_int_equal(recovery_lacking(&recovery), 2);
    tick_after(100 * (uint64_t)WINDOW_US), expect(""); /* no fresh model replaces a trained one that is merely late */
    bears_nothing(2), expect("");
    gone(0), bears_nothing(1), expect("");
    bears_nothing(0), expect("LEAD");
    open_empty(MESSAGE_WORKERS_MAX);
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        expect(""), bears_nothing(slot);
    expect("LEAD");
}

static void a_commit_without_members_is_no_reason_to_lead(void **state) {
    (void)state;
    open_empty(2);
    bears(0, 1, 5, 40, 0), expect("FETCH 0 f0");
    taken(0, 0, 1, 5), expect("");
    tick_after(WINDOW_US), expect("");
    bears_nothing(1), expect("LEAD");
}

static void force_leads_from_whoever_is_here(void **state) {
    (void)state;
    struct recovery_options options = {.mode = RECOVERY_EMPTY, .workers = 9, .force = true};
    open_from(options, head_of(0, 0)), expect("");
    bears(0, 1, 5, 40, 0x1f), expect("FETCH 0 f0");
    tick_after(WINDOW_US), expect(""); /* not before it is taken over */
    taken(0, 0, 1, 5), expect("LEAD");
    open_from(options, head_of(0, 0));
    bears(0, 1, 5, 40, 0x1f), taken(0, 0, 1, 5), expect("");
    tick_after(WINDOW_US - 1), expect(""); /* not before the window's end */
    tick_after(1), expect("LEAD");
    open_from(options, head_of(0, 0));
    tick_after(WINDOW_US), expect(""); /* from nobody: that were a fresh run */
    bears(3, 1, 2, 10, 0x1f), expect("FETCH 3 f0");
    taken(3, 0, 1, 2), expect("LEAD");
}

static void force_changes_nothing_where_nothing_is_missing(void **state) {
    (void)state;
    open_from((struct recovery_options){.mode = RECOVERY_DISK, .workers = 2, .expected_mask = 1, .force = true},
              head_of(2, 10));
    expect("");
    tick_after(WINDOW_US), expect("");
    bears(1, 2, 10, 70, 7), expect("");
    tick_after(WINDOW_US), expect("LEAD");
}

/* ---- random events ---- */

enum { FUZZ_RUNS = 3000, FUZZ_SLOTS = 5, FUZZ_FRAGMENTS = 3 };

static struct world {
    uint32_t fragments;
    struct head own[FUZZ_FRAGMENTS];
    bool here[FUZZ_SLOTS], distrusted[FUZZ_SLOTS];
    struct head heads[FUZZ_SLOTS][FUZZ_FRAGMENTS];
    uint32_t asked[FUZZ_FRAGMENTS]; /* slot, or FUZZ_SLOTS */
    bool leads;
} world;

static void world_feed(struct recovery_event event) {
    struct recovery_actions actions = {0};
    event.now_us = now_us;
    recovery_step(&recovery, &event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct recovery_action *a = &actions.list[i];
        assert_false(world.leads);
        if (a->kind == RECOVERY_ACTION_FETCH) {
            assert_int_equal(world.asked[a->fragment], FUZZ_SLOTS); /* one at a time */
            assert_true(world.here[a->slot] && !world.distrusted[a->slot]);
            assert_true(recovery_head_is_newer(&world.heads[a->slot][a->fragment], &world.own[a->fragment]));
            world.asked[a->fragment] = a->slot;
            continue;
        }
        world.leads = true;
        if (now_us < recovery.opened_us + WINDOW_US) /* all of the run are here */
            for (uint32_t s = 0; s < FUZZ_SLOTS; s++)
                assert_true((world.here[s] && !world.distrusted[s]) ||
                            (s >= recovery.options.workers && (recovery.options.expected_mask >> s & 1) == 0));
        for (uint32_t f = 0; f < world.fragments; f++) {
            assert_int_equal(world.asked[f], FUZZ_SLOTS);
            for (uint32_t s = 0; s < FUZZ_SLOTS; s++) /* nothing newer is known */
                assert_false(world.here[s] && !world.distrusted[s] &&
                             recovery_head_is_newer(&world.heads[s][f], &world.own[f]));
        }
    }
}

static void slot_is_gone(uint32_t s) {
    world.here[s] = false;
    for (uint32_t f = 0; f < world.fragments; f++)
        if (world.asked[f] == s)
            world.asked[f] = FUZZ_SLOTS;
}

static void random_step(struct dice *dice) {
    uint32_t s = below(dice, FUZZ_SLOTS), f = below(dice, world.fragments);
    struct recovery_event event = {.kind = RECOVERY_EVENT_TICK, .slot = s, .fragment = f};
    switch (below(dice, 6)) {
    case 0:
    case 1:
        if (world.here[s])
            break;
        world.here[s] = !world.distrusted[s];
        for (uint32_t i = 0; i < world.fragments; i++)
            world.heads[s][i] = head_of(below(dice, 3), below(dice, 8));
        event.kind = RECOVERY_EVENT_BEARER;
        event.heads = world.heads[s];
        event.run_step = below(dice, 50);
        event.members_mask = below(dice, 1u << FUZZ_SLOTS);
        break;
    case 2:
        event.kind = RECOVERY_EVENT_GONE;
        slot_is_gone(s);
        break;
    case 3:
    case 4:
        event.slot = world.asked[f];
        if (event.slot == FUZZ_SLOTS) {
            event.slot = 0;
            break;
        }
        world.asked[f] = FUZZ_SLOTS;
        if (below(dice, 4) == 0) {
            event.kind = RECOVERY_EVENT_FAILED;
            world.distrusted[event.slot] = true;
            slot_is_gone(event.slot);
            break;
        }
        event.kind = RECOVERY_EVENT_TAKEN;
        world.own[f] = world.heads[event.slot][f];
        event.heads = &world.own[f];
        break;
    default:
        now_us += below(dice, WINDOW_US / 4);
        break;
    }
    world_feed(event);
}

static void random_events(void **state) {
    (void)state;
    uint64_t led = 0;
    for (uint64_t seed = 1; seed <= FUZZ_RUNS; seed++) {
        struct dice dice = {seed, 0};
        memset(&world, 0, sizeof world);
        world.fragments = 1 + below(&dice, FUZZ_FRAGMENTS);
        for (uint32_t f = 0; f < FUZZ_FRAGMENTS; f++)
            world.asked[f] = FUZZ_SLOTS;
        recovery_open(&recovery, &(struct recovery_options){.mode = (enum recovery_mode)(1 + below(&dice, 2)),
                                                            .fragments = world.fragments,
                                                            .workers = 1 + below(&dice, 4),
                                                            .window_us = WINDOW_US,
                                                            .expected_mask = below(&dice, 1u << FUZZ_SLOTS),
                                                            .force = below(&dice, 4) == 0});
        now_us = 1000000;
        world_feed((struct recovery_event){.kind = RECOVERY_EVENT_OPEN, .heads = world.own});
        assert_false(world.leads); /* neither mode leads before it has listened */
        for (int i = 0; i < 60; i++)
            random_step(&dice);
        led += world.leads;
    }
    assert_in_range(led, FUZZ_RUNS / 2, FUZZ_RUNS - 100);
}

/* ---- what a fetch is answered with ---- */

static void the_answer_to_a_fetch(void **state) {
    (void)state;
    struct head kept[3] = {head_of(1, 5), head_of(1, 6), head_of(2, 7)}, have = head_of(2, 7);
    assert_int_equal(recovery_answer(&have, kept, 3), RECOVERY_ANSWER_NOTHING);
    have = head_of(1, 6);
    assert_int_equal(recovery_answer(&have, kept, 3), RECOVERY_ANSWER_REPLAY);
    have.epoch = 0; /* the hash says which commit it is */
    assert_int_equal(recovery_answer(&have, kept, 3), RECOVERY_ANSWER_REPLAY);
    have = head_of(1, 5);
    assert_int_equal(recovery_answer(&have, kept, 3), RECOVERY_ANSWER_REPLAY);
    have = head_of(1, 4); /* its followers are not kept any more */
    assert_int_equal(recovery_answer(&have, kept, 3), RECOVERY_ANSWER_SNAPSHOT);
    have = head_of(1, 7); /* the same version of another branch */
    assert_int_equal(recovery_answer(&have, kept, 3), RECOVERY_ANSWER_SNAPSHOT);
    have = head_of(2, 8); /* beyond ours: of a branch that was lost */
    assert_int_equal(recovery_answer(&have, kept, 3), RECOVERY_ANSWER_SNAPSHOT);
    have = head_of(1, 6);
    have.version = 5; /* nonsense */
    assert_int_equal(recovery_answer(&have, kept, 3), RECOVERY_ANSWER_SNAPSHOT);
    have = head_of(0, 0);
    assert_int_equal(recovery_answer(&have, &have, 1), RECOVERY_ANSWER_NOTHING);
    memset(have.hash, 0, sizeof have.hash);
    assert_int_equal(recovery_answer(&have, kept, 1), RECOVERY_ANSWER_SNAPSHOT);
}

static void the_order_of_heads(void **state) {
    (void)state;
    static const struct {
        uint64_t a_epoch, a_version, b_epoch, b_version;
        bool newer;
    } cases[] = {{1, 2, 1, 1, true},  {1, 1, 1, 2, false},
                 {1, 1, 1, 1, false}, {2, 1, 1, 9, true},
                 {1, 9, 2, 1, false}, {1, 1, 0, 0, true},
                 {0, 0, 0, 0, false}, {UINT64_MAX, 0, UINT64_MAX - 1, UINT64_MAX, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct head a = head_of(cases[i].a_epoch, cases[i].a_version);
        struct head b = head_of(cases[i].b_epoch, cases[i].b_version);
        assert_int_equal(recovery_head_is_newer(&a, &b), cases[i].newer);
        assert_true(recovery_heads_equal(&a, &a));
    }
    struct head a = head_of(1, 1), b = a;
    b.hash[MESSAGE_HASH_BYTES - 1] ^= 1;
    assert_false(recovery_heads_equal(&a, &b));
    assert_false(recovery_head_is_newer(&a, &b) || recovery_head_is_newer(&b, &a));
}

/* Versions and epochs never go back along a chain: what is ahead in either cannot lead to the run's head. */
static void a_lost_branch(void **state) {
    (void)state;
    static const struct {
        uint64_t held_epoch, held_version, run_epoch, run_version;
        bool lost;
    } rows[] = {{1, 5, 1, 5, false}, {1, 5, 1, 9, false}, {1, 5, 2, 9, false}, {0, 0, 1, 9, false},
                {1, 9, 2, 9, true},  {1, 12, 2, 9, true}, {2, 5, 1, 9, true},  {3, 5, 2, 9, true}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct head held = head_of(rows[i].held_epoch, rows[i].held_version),
                    run = head_of(rows[i].run_epoch, rows[i].run_version);
        assert_int_equal(recovery_head_is_lost(&held, &run), rows[i].lost);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(how_a_start_begins),
        cmocka_unit_test(a_lost_branch),
        cmocka_unit_test(a_fresh_run_leads_at_once),
        cmocka_unit_test(a_disk_hears_the_members_for_a_window),
        cmocka_unit_test(at_the_window_s_end_one_of_them_is_enough),
        cmocka_unit_test(when_all_of_the_run_are_heard_the_window_ends),
        cmocka_unit_test(who_was_away_when_a_backup_was_written_bears_newer),
        cmocka_unit_test(who_joined_after_a_backup_was_written_bears_newer),
        cmocka_unit_test(a_backup_that_expects_nobody_still_listens),
        cmocka_unit_test(what_members_hold_beyond_the_disk_is_taken_over),
        cmocka_unit_test(a_later_epoch_is_newer_than_a_higher_version),
        cmocka_unit_test(the_same_version_of_another_branch_is_not_newer),
        cmocka_unit_test(the_newest_of_each_fragment_is_fetched_from_its_bearer),
        cmocka_unit_test(of_several_the_newest_is_asked),
        cmocka_unit_test(a_bearer_that_leaves_takes_its_version_along),
        cmocka_unit_test(who_does_not_bear_what_it_said_is_heard_no_more),
        cmocka_unit_test(less_than_was_said_is_all_there_is),
        cmocka_unit_test(what_is_under_way_is_waited_for),
        cmocka_unit_test(more_than_was_said_is_welcome),
        cmocka_unit_test(all_members_of_the_newest_commit_and_of_the_run_are_enough),
        cmocka_unit_test(all_members_of_the_newest_commit_are_enough_when_the_window_ends),
        cmocka_unit_test(who_is_not_in_the_newest_commit_seen_bears_newer),
        cmocka_unit_test(all_that_started_the_run_do_not_outweigh_the_newest_commit_seen),
        cmocka_unit_test(the_newest_commit_says_who_is_waited_for),
        cmocka_unit_test(a_lost_branch_says_nothing_about_the_members),
        cmocka_unit_test(half_of_them_are_enough_when_the_window_ends),
        cmocka_unit_test(who_is_gone_again_is_not_here),
        cmocka_unit_test(a_liar_does_not_choose_who_is_waited_for),
        cmocka_unit_test(nobody_bears_anything),
        cmocka_unit_test(a_commit_without_members_is_no_reason_to_lead),
        cmocka_unit_test(force_leads_from_whoever_is_here),
        cmocka_unit_test(force_changes_nothing_where_nothing_is_missing),
        cmocka_unit_test(random_events),
        cmocka_unit_test(the_answer_to_a_fetch),
        cmocka_unit_test(the_order_of_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
