/* follow, where branches are lost: an outer that comes back from an older copy of its disk, in a new epoch, and makes other versions of the
 * same numbers. First the named cases, then random ones against an outer in a few plain lines. The plain traces: follow_test. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "outer/recovery.h"
#include "unit/dice.h"
#include "worker/follow.h"

enum { FRAGMENTS = 2, KEPT = 8, CHAIN_MAX = 512, MAIL_MAX = 256, RUNS = 3000, EVENTS = 300, HEAL_TURNS = 400 };

/* Every commit that is ever made has a number of its own, which is its hash. */
static uint64_t made;

static struct head make_head(uint64_t epoch, uint64_t version) {
    struct head head = {.epoch = epoch, .version = version};
    made++;
    memcpy(head.hash, &made, sizeof made);
    return head;
}

enum mail_kind { MAIL_STATE, MAIL_COMMIT, MAIL_SNAPSHOT, MAIL_FETCH };

struct mail {
    enum mail_kind kind;
    uint32_t fragment;
    struct head head, parent; /* FETCH: head = have */
    struct head heads[FRAGMENTS];
};

struct lane {
    struct mail mails[MAIL_MAX];
    uint32_t first, count;
};

struct entry {
    struct head head, parent;
    bool snapshot, complete;
};

static struct world {
    struct dice dice;
    uint64_t epoch;
    struct head chain[FRAGMENTS][CHAIN_MAX]; /* of the run as it is now; [version] */
    uint64_t newest[FRAGMENTS];
    bool stated_said; /* the worker's session has STATE behind it, or on its way */
    struct lane down, up;
    /* the worker */
    struct follow follow;
    struct head held[FRAGMENTS], wanted[FRAGMENTS];
    struct head doubted[FRAGMENTS]; /* held before its state hash was wrong */
    bool doubts[FRAGMENTS];
    struct entry entries[FRAGMENTS][FOLLOW_QUEUED_MAX];
    uint32_t counts[FRAGMENTS];
    bool stated, joined, lost;
    uint64_t joined_count, replays, snapshots, taken_back;
} world;

static void post(struct lane *lane, struct mail mail) {
    assert_true(lane->count < MAIL_MAX);
    lane->mails[(lane->first + lane->count++) % MAIL_MAX] = mail;
}

static bool collect(struct lane *lane, struct mail *mail) {
    if (lane->count == 0)
        return false;
    *mail = lane->mails[lane->first];
    lane->first = (lane->first + 1) % MAIL_MAX;
    lane->count--;
    return true;
}

static bool is_of_run(uint32_t f, const struct head *head) {
    return head->version <= world.newest[f] && recovery_heads_equal(head, &world.chain[f][head->version]);
}

/* ---- the outer ---- */

static void post_commit(uint32_t f, uint64_t version) {
    post(&world.down, (struct mail){.kind = MAIL_COMMIT,
                                    .fragment = f,
                                    .head = world.chain[f][version],
                                    .parent = world.chain[f][version - 1]});
}

static void make_commit(uint32_t f) {
    uint64_t version = world.newest[f] + 1;
    assert_true(version < CHAIN_MAX);
    world.chain[f][version] = make_head(world.epoch, version);
    world.newest[f] = version;
    if (world.stated_said)
        post_commit(f, version);
}

static void answer_fetch(const struct mail *mail) {
    uint32_t f = mail->fragment;
    uint64_t newest = world.newest[f], oldest = newest > KEPT ? newest - KEPT : 0;
    switch (recovery_answer(&mail->head, &world.chain[f][oldest], (uint32_t)(newest - oldest + 1))) {
    case RECOVERY_ANSWER_NOTHING:
        if (newest > 0)
            post_commit(f, newest);
        break;
    case RECOVERY_ANSWER_REPLAY:
        world.replays++;
        for (uint64_t version = mail->head.version + 1; version <= newest; version++)
            post_commit(f, version);
        break;
    case RECOVERY_ANSWER_SNAPSHOT: /* one that was packed before may still lead on to the newest */
        if (newest == 0)
            break;
        world.snapshots++;
        uint64_t version = newest - below(&world.dice, (uint32_t)(newest - oldest < 3 ? newest - oldest : 3) + 1);
        version = version == 0 ? newest : version;
        post(&world.down, (struct mail){.kind = MAIL_SNAPSHOT, .fragment = f, .head = world.chain[f][version]});
        for (version++; version <= newest; version++)
            post_commit(f, version);
        break;
    }
}

/* ---- the worker ---- */

static void worker_feed(const struct follow_event *event, const struct head *parent) {
    struct follow_actions actions;
    actions.count = 0;
    follow_step(&world.follow, event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct follow_action *a = &actions.list[i];
        uint32_t f = a->fragment, *count = &world.counts[f];
        switch (a->kind) {
        case FOLLOW_ACTION_FETCH:
            post(&world.up, (struct mail){.kind = MAIL_FETCH, .fragment = f, .head = a->have});
            break;
        case FOLLOW_ACTION_RECEIVE:
            assert_int_equal(a->index, *count);
            assert_true(*count < FOLLOW_QUEUED_MAX);
            bool snapshot = event->kind == FOLLOW_EVENT_SNAPSHOT;
            /* The queue is a chain. */
            const struct head *before = *count == 0 ? &world.held[f] : &world.entries[f][*count - 1].head;
            assert_true(snapshot ? *count == 0 : recovery_heads_equal(before, parent));
            world.entries[f][(*count)++] = (struct entry){event->head, *parent, snapshot, false};
            break;
        case FOLLOW_ACTION_DROP:
            assert_true(*count > 0);
            *count = 0;
            break;
        case FOLLOW_ACTION_JOINED:
            assert_true(world.stated && !world.joined && !world.lost); /* once per STATE */
            world.joined = true;
            world.joined_count++;
            for (f = 0; f < FRAGMENTS; f++) { /* what it offers from now on is measured from versions of the run */
                assert_true(is_of_run(f, &world.held[f]));
                assert_true(world.held[f].version >= world.wanted[f].version);
            }
            break;
        case FOLLOW_ACTION_LOST:
            assert_true(world.wanted[f].version == 0 && world.held[f].version > 0);
            world.lost = true;
            break;
        }
    }
    for (uint32_t f = 0; f < FRAGMENTS; f++) {
        assert_int_equal(world.follow.list[f].queue_count, world.counts[f]);
        assert_memory_equal(&world.follow.list[f].held, &world.held[f], sizeof world.held[f]);
    }
}

static void worker_hears(const struct mail *mail) {
    static const enum follow_event_kind kinds[] = {FOLLOW_EVENT_STATE, FOLLOW_EVENT_COMMIT, FOLLOW_EVENT_SNAPSHOT};
    struct follow_event event = {
        .kind = kinds[mail->kind], .fragment = mail->fragment, .head = mail->head, .heads = mail->heads};
    memcpy(event.parent, mail->parent.hash, sizeof event.parent);
    if (mail->kind == MAIL_STATE) {
        memcpy(world.wanted, mail->heads, sizeof world.wanted);
        world.stated = true;
        world.joined = world.lost = false;
        for (uint32_t f = 0; f < FRAGMENTS; f++)
            if (world.doubts[f] && recovery_heads_equal(&world.doubted[f], &mail->heads[f]))
                world.held[f] = world.doubted[f], world.taken_back++;
    }
    worker_feed(&event, &mail->parent);
}

/* Bytes come from an outer that has this very version; what came before stays. */
static void receive_bytes(uint32_t f) {
    for (uint32_t i = 0; i < world.counts[f]; i++)
        world.entries[f][i].complete = world.entries[f][i].complete || is_of_run(f, &world.entries[f][i].head);
}

static void apply(uint32_t f) {
    struct follow_event event = {.kind = FOLLOW_EVENT_APPLIED, .fragment = f};
    if (world.counts[f] == 0 || !world.entries[f][0].complete)
        return;
    if (below(&world.dice, 20) == 0) {
        event.kind = FOLLOW_EVENT_DIFFERS;
        if (!world.doubts[f])
            world.doubted[f] = world.held[f];
        world.doubts[f] = true;
        world.held[f] = (struct head){0};
    } else {
        world.doubts[f] = false;
        world.held[f] = world.entries[f][0].head;
        memmove(&world.entries[f][0], &world.entries[f][1], --world.counts[f] * sizeof world.entries[f][0]);
    }
    worker_feed(&event, &world.held[f]);
}

/* ---- both ---- */

static void begin_session(void) {
    struct mail mail = {.kind = MAIL_STATE};
    world.down.count = world.up.count = 0; /* what was under way is lost */
    world.stated = world.joined = world.lost = false;
    worker_feed(&(struct follow_event){.kind = FOLLOW_EVENT_SESSION}, &mail.parent);
    for (uint32_t f = 0; f < FRAGMENTS; f++)
        mail.heads[f] = world.chain[f][world.newest[f]];
    post(&world.down, mail);
    world.stated_said = true;
}

/* The outer is restarted; now and then from a copy that misses the newest versions. */
static void restart_outer(uint32_t lose_most) {
    for (uint32_t f = 0; f < FRAGMENTS; f++) {
        uint64_t lost = below(&world.dice, lose_most + 1);
        world.newest[f] -= lost < world.newest[f] ? lost : world.newest[f] - (world.newest[f] > 0);
    }
    world.epoch++;
    begin_session();
}

static void random_turn(void) {
    struct mail mail;
    uint32_t f = below(&world.dice, FRAGMENTS);
    switch (below(&world.dice, 12)) {
    case 0:
        make_commit(f);
        break;
    case 2:
        if (below(&world.dice, 10) == 0)
            begin_session();
        break;
    case 3:
        if (below(&world.dice, 24) == 0)
            restart_outer(below(&world.dice, 3) == 0 ? 4 : 0);
        break;
    case 4:
    case 5:
        if (collect(&world.up, &mail))
            answer_fetch(&mail);
        break;
    case 6:
        receive_bytes(f);
        break;
    case 1:
    case 7:
        if (below(&world.dice, 2) == 0)
            apply(f);
        break;
    default:
        if (collect(&world.down, &mail))
            worker_hears(&mail);
        break;
    }
}

/* Nothing breaks any more. The worker joins and holds what the outer holds; at the latest when one more version is made. */
static void heal(void) {
    struct mail mail;
    for (int turn = 0; turn < HEAL_TURNS; turn++) {
        while (collect(&world.down, &mail))
            worker_hears(&mail);
        for (uint32_t f = 0; f < FRAGMENTS; f++)
            receive_bytes(f), apply(f);
        while (collect(&world.up, &mail))
            answer_fetch(&mail);
    }
    assert_true(world.joined);
    for (uint32_t f = 0; f < FRAGMENTS; f++)
        assert_memory_equal(&world.held[f], &world.chain[f][world.newest[f]], sizeof world.held[f]);
}

static void random_branches(void **state) {
    (void)state;
    uint64_t joined = 0, replays = 0, snapshots = 0, taken_back = 0;
    for (uint64_t seed = 1; seed <= RUNS; seed++) {
        memset(&world, 0, sizeof world);
        world.dice = (struct dice){seed, 0};
        world.epoch = 1;
        for (uint32_t f = 0; f < FRAGMENTS; f++) {
            world.chain[f][0] = make_head(0, 0);
            world.held[f] = world.chain[f][0];
        }
        follow_open(&world.follow, FRAGMENTS, world.held);
        for (uint32_t commits = below(&world.dice, 20); commits > 0; commits--)
            make_commit(below(&world.dice, FRAGMENTS));
        begin_session();
        for (int i = 0; i < EVENTS; i++)
            random_turn();
        heal();
        joined += world.joined_count, replays += world.replays, snapshots += world.snapshots;
        taken_back += world.taken_back;
    }
    assert_true(4 * joined > 5 * RUNS && replays > RUNS && snapshots > RUNS && taken_back > 0);
}

/* ---- named cases ---- */

static struct follow_actions told;

static struct head head(uint64_t epoch, uint64_t version) {
    struct head made_up = {.epoch = epoch, .version = version};
    made_up.hash[0] = (uint8_t)epoch, made_up.hash[1] = (uint8_t)version;
    return made_up;
}

static void feed(struct follow_event event) {
    told.count = 0;
    follow_step(&world.follow, &event, &told);
}

static void commit(uint32_t fragment, struct head made_up, struct head parent) {
    struct follow_event event = {.kind = FOLLOW_EVENT_COMMIT, .fragment = fragment, .head = made_up};
    memcpy(event.parent, parent.hash, sizeof event.parent);
    feed(event);
}

static void snapshot(uint32_t fragment, struct head made_up) {
    feed((struct follow_event){.kind = FOLLOW_EVENT_SNAPSHOT, .fragment = fragment, .head = made_up});
}

static void applied(uint32_t fragment) {
    feed((struct follow_event){.kind = FOLLOW_EVENT_APPLIED, .fragment = fragment});
}

static void open_at(uint32_t fragments, struct head held) {
    const struct head list[FRAGMENTS] = {held, held};
    follow_open(&world.follow, fragments, list);
}

static void stated(struct head zero, struct head one) {
    const struct head heads[FRAGMENTS] = {zero, one};
    feed((struct follow_event){.kind = FOLLOW_EVENT_SESSION});
    feed((struct follow_event){.kind = FOLLOW_EVENT_STATE, .heads = heads});
}

/* expect(2, KIND, KIND): all that was answered */
static void expect(uint32_t count, ...) {
    va_list kinds;
    assert_int_equal(told.count, count);
    va_start(kinds, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(told.list[i].kind, va_arg(kinds, int));
    va_end(kinds);
}

/* What it bears is newer by its number than what the run has, and not of the run. While the snapshot is on its way it has not joined. */
static void not_joined_before_the_lost_branch_is_left(void **state) {
    (void)state;
    open_at(2, head(4, 9));
    stated(head(4, 7), head(4, 9)), expect(1, FOLLOW_ACTION_FETCH);
    snapshot(0, head(4, 7)), expect(1, FOLLOW_ACTION_RECEIVE);
    commit(1, head(5, 10), head(4, 9)), expect(1, FOLLOW_ACTION_RECEIVE);
    applied(1), expect(0);
    commit(1, head(5, 10), head(4, 9)), expect(0);
    applied(0), expect(1, FOLLOW_ACTION_JOINED);
}

static void who_is_lost_does_not_join(void **state) {
    (void)state;
    open_at(1, head(1, 5));
    stated(head(0, 0), head(0, 0)), expect(1, FOLLOW_ACTION_LOST);
    commit(0, head(2, 1), head(0, 0)), expect(1, FOLLOW_ACTION_FETCH);
}

/* What was on its way from the outer before is not of the run that goes on from an older version: it must not be applied. */
static void what_follows_the_runs_head_is_dropped(void **state) {
    (void)state;
    open_at(1, head(1, 5));
    stated(head(1, 5), head(0, 0)), expect(1, FOLLOW_ACTION_JOINED);
    commit(0, head(1, 6), head(1, 5)), expect(1, FOLLOW_ACTION_RECEIVE);
    stated(head(1, 5), head(0, 0)), expect(2, FOLLOW_ACTION_DROP, FOLLOW_ACTION_JOINED);
    commit(0, head(2, 6), head(1, 5)), expect(1, FOLLOW_ACTION_RECEIVE);
    commit(0, head(2, 7), head(2, 6)), expect(1, FOLLOW_ACTION_RECEIVE);
    stated(head(2, 6), head(0, 0)), expect(2, FOLLOW_ACTION_DROP, FOLLOW_ACTION_FETCH);
    assert_int_equal(told.list[1].have.version, 5);
    commit(0, head(2, 6), head(1, 5)), expect(1, FOLLOW_ACTION_RECEIVE);
    applied(0), expect(1, FOLLOW_ACTION_JOINED);
}

/* An answer that finds no place must not be waited for for ever. */
static void a_full_queue_while_an_answer_is_awaited(void **state) {
    (void)state;
    open_at(1, head(1, 1));
    stated(head(1, 1), head(0, 0)), expect(1, FOLLOW_ACTION_JOINED);
    uint64_t v = 2;
    for (; v < 1 + FOLLOW_QUEUED_MAX; v++)
        commit(0, head(1, v), head(1, v - 1)), expect(1, FOLLOW_ACTION_RECEIVE);
    commit(0, head(1, v + 5), head(1, v + 4)), expect(1, FOLLOW_ACTION_FETCH);
    for (; v < 6 + FOLLOW_QUEUED_MAX; v++)
        commit(0, head(1, v), head(1, v - 1));
    for (int i = 1; i < FOLLOW_QUEUED_MAX; i++)
        applied(0), expect(0);
    applied(0), expect(1, FOLLOW_ACTION_FETCH);
    assert_int_equal(told.list[0].have.version, 1 + FOLLOW_QUEUED_MAX);
}

/* An old snapshot is whole and becomes what is held while the answer to a FETCH from before it is under way: that answer can't be used. */
static void an_old_snapshot_is_applied_while_an_answer_is_awaited(void **state) {
    (void)state;
    open_at(1, head(1, 3));
    stated(head(1, 20), head(0, 0)), expect(1, FOLLOW_ACTION_FETCH);
    snapshot(0, head(1, 20)), expect(1, FOLLOW_ACTION_RECEIVE);
    stated(head(1, 5), head(0, 0)), expect(1, FOLLOW_ACTION_FETCH); /* from 3 */
    applied(0), expect(1, FOLLOW_ACTION_FETCH);
    assert_int_equal(told.list[0].have.version, 20);
    commit(0, head(1, 4), head(1, 3)), expect(0);
    commit(0, head(1, 5), head(1, 4)), expect(0);
    snapshot(0, head(1, 5)), expect(1, FOLLOW_ACTION_RECEIVE);
    applied(0), expect(1, FOLLOW_ACTION_JOINED);
}

/* Two answers were under way: the later one may be older. */
static void versions_of_the_run_do_not_go_back(void **state) {
    (void)state;
    open_at(1, head(1, 37));
    stated(head(1, 37), head(0, 0)), expect(1, FOLLOW_ACTION_JOINED);
    commit(0, head(1, 40), head(1, 39)), expect(1, FOLLOW_ACTION_FETCH);
    snapshot(0, head(1, 36)), expect(0);
    snapshot(0, head(1, 37)), expect(0);
    commit(0, head(1, 38), head(1, 37)), expect(1, FOLLOW_ACTION_RECEIVE);
    snapshot(0, head(1, 39)), expect(2, FOLLOW_ACTION_DROP, FOLLOW_ACTION_RECEIVE);
}

/* While it is not known that what is held is of the run, a snapshot before it stands for the way from there. */
static void what_is_held_is_not_known_beside_a_snapshot(void **state) {
    (void)state;
    open_at(1, head(1, 37));
    stated(head(1, 38), head(0, 0)), expect(1, FOLLOW_ACTION_FETCH);
    snapshot(0, head(1, 36)), expect(1, FOLLOW_ACTION_RECEIVE);
    commit(0, head(1, 37), head(1, 36)), expect(1, FOLLOW_ACTION_RECEIVE);
    commit(0, head(1, 38), head(1, 37)), expect(1, FOLLOW_ACTION_RECEIVE);
    applied(0), applied(0), expect(0);
    applied(0), expect(1, FOLLOW_ACTION_JOINED);
}

static void a_gap_is_asked_for_once(void **state) {
    (void)state;
    open_at(1, head(1, 3));
    stated(head(1, 3), head(0, 0));
    commit(0, head(1, 5), head(1, 4)), expect(1, FOLLOW_ACTION_FETCH);
    commit(0, head(1, 4), head(1, 3)), expect(1, FOLLOW_ACTION_RECEIVE);
    commit(0, head(1, 5), head(1, 4)), expect(1, FOLLOW_ACTION_RECEIVE);
    applied(0), applied(0), expect(0); /* nothing was passed over that has not come */
}

/* The snapshot under way is of a branch that was left; the run goes on from what is still held. */
static void a_replay_takes_the_place_of_a_snapshot(void **state) {
    (void)state;
    open_at(1, head(1, 3));
    stated(head(1, 20), head(0, 0)), expect(1, FOLLOW_ACTION_FETCH);
    snapshot(0, head(1, 20)), expect(1, FOLLOW_ACTION_RECEIVE);
    stated(head(2, 5), head(0, 0)), expect(1, FOLLOW_ACTION_FETCH); /* from 3 */
    commit(0, head(2, 4), head(1, 3)), expect(2, FOLLOW_ACTION_DROP, FOLLOW_ACTION_RECEIVE);
    commit(0, head(2, 5), head(2, 4)), expect(1, FOLLOW_ACTION_RECEIVE);
    applied(0), expect(0);
    applied(0), expect(1, FOLLOW_ACTION_JOINED);
}

static void joined_once_per_state(void **state) {
    (void)state;
    const struct head same = head(1, 3);
    open_at(1, same);
    stated(same, head(0, 0)), expect(1, FOLLOW_ACTION_JOINED);
    commit(0, same, head(1, 2)), expect(0);
    feed((struct follow_event){.kind = FOLLOW_EVENT_STATE, .heads = &same}), expect(1, FOLLOW_ACTION_JOINED);
}

/* At STATE's head is joined: that more has been made meanwhile does not matter. */
static void joined_while_a_gap_is_fetched(void **state) {
    (void)state;
    open_at(2, head(1, 3));
    stated(head(1, 3), head(1, 4)), expect(1, FOLLOW_ACTION_FETCH);
    commit(0, head(1, 6), head(1, 5)), expect(1, FOLLOW_ACTION_FETCH);
    commit(1, head(1, 4), head(1, 3)), expect(1, FOLLOW_ACTION_RECEIVE);
    applied(1), expect(1, FOLLOW_ACTION_JOINED);
}

/* An answer that would go on from there is no good any more. */
static void a_wrong_state_hash_while_an_answer_is_awaited(void **state) {
    (void)state;
    open_at(1, head(1, 3));
    stated(head(1, 3), head(0, 0));
    commit(0, head(1, 4), head(1, 3)), expect(1, FOLLOW_ACTION_RECEIVE);
    commit(0, head(1, 9), head(1, 8)), expect(1, FOLLOW_ACTION_FETCH);
    feed((struct follow_event){.kind = FOLLOW_EVENT_DIFFERS}), expect(2, FOLLOW_ACTION_DROP, FOLLOW_ACTION_FETCH);
    assert_int_equal(told.list[1].have.version, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(not_joined_before_the_lost_branch_is_left),
        cmocka_unit_test(who_is_lost_does_not_join),
        cmocka_unit_test(what_follows_the_runs_head_is_dropped),
        cmocka_unit_test(a_full_queue_while_an_answer_is_awaited),
        cmocka_unit_test(an_old_snapshot_is_applied_while_an_answer_is_awaited),
        cmocka_unit_test(versions_of_the_run_do_not_go_back),
        cmocka_unit_test(what_is_held_is_not_known_beside_a_snapshot),
        cmocka_unit_test(a_gap_is_asked_for_once),
        cmocka_unit_test(a_replay_takes_the_place_of_a_snapshot),
        cmocka_unit_test(joined_once_per_state),
        cmocka_unit_test(joined_while_a_gap_is_fetched),
        cmocka_unit_test(a_wrong_state_hash_while_an_answer_is_awaited),
        cmocka_unit_test(random_branches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
