/* follow: traces of one worker that follows the chains of commits. A version is written e.v; its hash is made of that and of the branch. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "worker/follow.h"

static struct follow follow;
static char answer[1024];

static struct head head(uint64_t epoch, uint64_t version) {
    struct head made = {.epoch = version == 0 ? 0 : epoch, .version = version};
    made.hash[0] = (uint8_t)made.epoch, made.hash[1] = (uint8_t)version, made.hash[2] = 1;
    return made;
}

static void feed(const struct follow_event *event) {
    static const char *const names[] = {"FETCH", "RECEIVE", "DROP", "JOINED", "LOST"};
    struct follow_actions actions;
    actions.count = 0;
    follow_step(&follow, event, &actions);
    answer[0] = 0;
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct follow_action *a = &actions.list[i];
        size_t at = strlen(answer);
        int length = snprintf(answer + at, sizeof answer - at, "%s%s", at == 0 ? "" : ", ", names[a->kind]);
        if (a->kind == FOLLOW_ACTION_FETCH)
            snprintf(answer + at + (size_t)length, 64, " f%u from %u.%u", a->fragment, (unsigned)a->have.epoch,
                     (unsigned)a->have.version);
        else if (a->kind == FOLLOW_ACTION_RECEIVE)
            snprintf(answer + at + (size_t)length, 64, " f%u [%u] %u.%u", a->fragment, a->index,
                     (unsigned)a->have.epoch, (unsigned)a->have.version);
        else if (a->kind != FOLLOW_ACTION_JOINED)
            snprintf(answer + at + (size_t)length, 64, " f%u", a->fragment);
    }
}

static void open_at(uint32_t fragments, struct head held) {
    struct head list[MESSAGE_FRAGMENTS_MAX];
    for (uint32_t f = 0; f < fragments; f++)
        list[f] = held;
    follow_open(&follow, fragments, list);
}

static void session(void) {
    feed(&(struct follow_event){.kind = FOLLOW_EVENT_SESSION});
}

static void stated(struct head zero, struct head one) {
    struct head heads[2] = {zero, one};
    feed(&(struct follow_event){.kind = FOLLOW_EVENT_STATE, .heads = heads});
}

/* The commit epoch.version, which follows parent. */
static void commit(uint32_t fragment, uint64_t epoch, uint64_t version, struct head parent) {
    struct follow_event event = {.kind = FOLLOW_EVENT_COMMIT, .fragment = fragment, .head = head(epoch, version)};
    memcpy(event.parent, parent.hash, sizeof event.parent);
    feed(&event);
}

static void snapshot(uint32_t fragment, uint64_t epoch, uint64_t version) {
    feed(&(struct follow_event){.kind = FOLLOW_EVENT_SNAPSHOT, .fragment = fragment, .head = head(epoch, version)});
}

static void applied(uint32_t fragment) {
    feed(&(struct follow_event){.kind = FOLLOW_EVENT_APPLIED, .fragment = fragment});
}

static void differs(uint32_t fragment) {
    feed(&(struct follow_event){.kind = FOLLOW_EVENT_DIFFERS, .fragment = fragment});
}

#define expect(text) assert_string_equal(answer, text)

static void a_run_from_its_beginning(void **state) {
    (void)state;
    open_at(2, head(0, 0));
    session(), expect("");
    stated(head(0, 0), head(0, 0)), expect("JOINED");
    commit(0, 1, 1, head(0, 0)), expect("RECEIVE f0 [0] 1.1");
    commit(0, 1, 2, head(1, 1)), expect("RECEIVE f0 [1] 1.2");
    commit(0, 1, 2, head(1, 1)), expect(""); /* said again */
    applied(0), expect("");
    commit(0, 1, 1, head(0, 0)), expect(""); /* an old one */
    applied(0), expect("");
}

static void who_returns_is_given_the_commits_that_follow(void **state) {
    (void)state;
    open_at(2, head(1, 3));
    session();
    stated(head(1, 5), head(1, 3)), expect("FETCH f0 from 1.3");
    commit(0, 1, 4, head(1, 3)), expect("RECEIVE f0 [0] 1.4");
    commit(0, 1, 5, head(1, 4)), expect("RECEIVE f0 [1] 1.5");
    applied(0), expect("");
    applied(0), expect("JOINED");
}

static void who_is_far_behind_is_given_a_snapshot(void **state) {
    (void)state;
    open_at(2, head(0, 0));
    session();
    stated(head(1, 50), head(0, 0)), expect("FETCH f0 from 0.0");
    snapshot(0, 1, 50), expect("RECEIVE f0 [0] 1.50");
    commit(0, 1, 51, head(1, 50)), expect("RECEIVE f0 [1] 1.51"); /* the run goes on meanwhile */
    snapshot(0, 1, 50), expect("");                               /* not asked for */
    applied(0), expect("JOINED");
}

static void a_snapshot_goes_on_over_a_lost_link(void **state) {
    (void)state;
    open_at(2, head(0, 0));
    session();
    stated(head(1, 50), head(0, 0));
    snapshot(0, 1, 50);
    session();
    stated(head(1, 50), head(0, 0)), expect(""); /* it is known and on its way */
    session();
    stated(head(1, 60), head(0, 0)), expect("FETCH f0 from 0.0");
    snapshot(0, 1, 60), expect("DROP f0, RECEIVE f0 [0] 1.60");
    applied(0), expect("JOINED");
}

static void a_lost_branch_is_given_up(void **state) {
    (void)state;
    open_at(2, head(1, 9));
    session();
    stated(head(2, 8), head(1, 9)), expect("FETCH f0 from 1.9"); /* the outer came back from an older disk */
    snapshot(0, 2, 8), expect("RECEIVE f0 [0] 2.8");
    applied(0), expect("JOINED");
}

static void a_gap_is_fetched(void **state) {
    (void)state;
    open_at(2, head(1, 3));
    session();
    stated(head(1, 3), head(1, 3)), expect("JOINED");
    commit(0, 1, 6, head(1, 5)), expect("FETCH f0 from 1.3");
    commit(0, 1, 7, head(1, 6)), expect(""); /* once */
    commit(0, 1, 4, head(1, 3)), expect("RECEIVE f0 [0] 1.4");
    applied(0), expect("FETCH f0 from 1.4"); /* 6 and 7 were passed over */
}

static void a_wrong_state_hash_fetches_the_whole_fragment(void **state) {
    (void)state;
    open_at(2, head(1, 3));
    session();
    stated(head(1, 3), head(1, 3));
    commit(0, 1, 4, head(1, 3));
    commit(0, 1, 5, head(1, 4));
    differs(0), expect("DROP f0, FETCH f0 from 0.0");
    commit(0, 1, 4, head(1, 3)), expect(""); /* what is held here is not trusted to lead anywhere */
    snapshot(0, 1, 5), expect("RECEIVE f0 [0] 1.5");
    applied(0), expect("FETCH f0 from 1.5"); /* something was passed over: is there more? */
    commit(0, 1, 6, head(1, 5)), expect("RECEIVE f0 [0] 1.6");
}

/* The outer found that it was wrong itself, dropped that version and started over: nothing is fetched. */
static void a_wrong_state_hash_of_the_outer(void **state) {
    (void)state;
    open_at(2, head(1, 3));
    session();
    stated(head(1, 3), head(1, 3)), expect("JOINED");
    commit(0, 1, 4, head(1, 3));
    differs(0), expect("DROP f0, FETCH f0 from 0.0");
    snapshot(0, 1, 4), expect("RECEIVE f0 [0] 1.4");
    differs(0), expect("DROP f0, FETCH f0 from 0.0");
    session();
    stated(head(1, 3), head(1, 3)), expect("JOINED");
    commit(0, 2, 4, head(1, 3)), expect("RECEIVE f0 [0] 2.4");
    differs(0), expect("DROP f0, FETCH f0 from 0.0"); /* no: it was wrong here */
    session();
    stated(head(2, 4), head(1, 3)), expect("FETCH f0 from 0.0");
    snapshot(0, 2, 4), expect("RECEIVE f0 [0] 2.4");
    applied(0), expect("JOINED");
    session(); /* what was doubted then is forgotten: that run is a lost branch, */
    stated(head(1, 3), head(1, 3)), expect("FETCH f0 from 2.4");
}

/* ... of the very first version: such a worker is not lost. */
static void a_wrong_first_state_hash_of_the_outer(void **state) {
    (void)state;
    open_at(1, head(0, 0));
    session();
    stated(head(0, 0), head(0, 0)), expect("JOINED");
    commit(0, 1, 1, head(0, 0)), expect("RECEIVE f0 [0] 1.1");
    differs(0);
    session();
    stated(head(0, 0), head(0, 0)), expect("JOINED");
    commit(0, 2, 1, head(0, 0)), expect("RECEIVE f0 [0] 2.1");
}

static void a_trained_worker_is_not_reset_by_a_fresh_run(void **state) {
    (void)state;
    open_at(2, head(1, 3));
    session();
    stated(head(0, 0), head(1, 3)), expect("LOST f0");
}

static void a_full_queue_is_fetched_when_it_is_empty(void **state) {
    (void)state;
    open_at(1, head(1, 1));
    session();
    stated(head(1, 1), head(1, 1)), expect("JOINED");
    for (uint64_t v = 2; v < 2 + FOLLOW_QUEUED_MAX; v++)
        commit(0, 1, v, head(1, v - 1));
    commit(0, 1, 18, head(1, 17)), expect("");
    for (int i = 1; i < FOLLOW_QUEUED_MAX; i++)
        applied(0), expect("");
    applied(0), expect("FETCH f0 from 1.17");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_from_its_beginning),
        cmocka_unit_test(who_returns_is_given_the_commits_that_follow),
        cmocka_unit_test(who_is_far_behind_is_given_a_snapshot),
        cmocka_unit_test(a_snapshot_goes_on_over_a_lost_link),
        cmocka_unit_test(a_lost_branch_is_given_up),
        cmocka_unit_test(a_gap_is_fetched),
        cmocka_unit_test(a_wrong_state_hash_fetches_the_whole_fragment),
        cmocka_unit_test(a_wrong_state_hash_of_the_outer),
        cmocka_unit_test(a_wrong_first_state_hash_of_the_outer),
        cmocka_unit_test(a_trained_worker_is_not_reset_by_a_fresh_run),
        cmocka_unit_test(a_full_queue_is_fetched_when_it_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
