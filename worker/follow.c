#include "worker/follow.h"
#include <string.h>
#include "base/check.h"
#include "outer/recovery.h"

static struct follow_action *act(struct follow_actions *actions, enum follow_action_kind kind, uint32_t fragment) {
    CHECK(actions->count < FOLLOW_ACTIONS_MAX);
    struct follow_action *action = &actions->list[actions->count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    action->fragment = fragment;
    return action;
}

/* The newest of what is here or on its way. */
static const struct head *tail_of(const struct follow_fragment *fragment) {
    return fragment->queue_count > 0 ? &fragment->queue[fragment->queue_count - 1] : &fragment->held;
}

static void fetch(struct follow *follow, uint32_t index, const struct head *have, struct follow_actions *actions) {
    struct follow_fragment *fragment = &follow->list[index];
    if (fragment->fetching)
        return;
    fragment->fetching = true;
    fragment->asked = *have;
    fragment->behind = false;
    act(actions, FOLLOW_ACTION_FETCH, index)->have = *have;
}

static void drop_queue(struct follow *follow, uint32_t index, struct follow_actions *actions) {
    struct follow_fragment *fragment = &follow->list[index];
    if (fragment->queue_count > 0)
        act(actions, FOLLOW_ACTION_DROP, index);
    fragment->queue_count = 0;
    fragment->first_is_snapshot = false;
}

/* What was held before may be of a branch that the run does not contain, and newer than its head: only the head itself counts, or a snapshot
 * that came after STATE. */
static void note_held(struct follow *follow, uint32_t index, bool of_run) {
    struct follow_fragment *fragment = &follow->list[index];
    const struct head *wanted = &follow->wanted[index];
    if (recovery_heads_equal(&fragment->held, wanted) || (of_run && !recovery_head_is_newer(wanted, &fragment->held)))
        fragment->here = true;
}

static void consider_joined(struct follow *follow, struct follow_actions *actions) {
    if (!follow->stated || follow->joined)
        return;
    for (uint32_t index = 0; index < follow->fragments; index++)
        if (!follow->list[index].here)
            return;
    follow->joined = true;
    act(actions, FOLLOW_ACTION_JOINED, 0);
}

/* On the way that leads on from here; what is held is not on it when a snapshot will replace it. */
static bool knows(const struct follow_fragment *fragment, const struct head *head) {
    if (!fragment->first_is_snapshot && recovery_heads_equal(&fragment->held, head))
        return true;
    for (uint32_t i = 0; i < fragment->queue_count; i++)
        if (recovery_heads_equal(&fragment->queue[i], head))
            return true;
    return false;
}

static void on_session(struct follow *follow) {
    follow->stated = follow->joined = false;
    for (uint32_t index = 0; index < follow->fragments; index++)
        follow->list[index].fetching = false;
}

static void on_state(struct follow *follow, const struct head *heads, struct follow_actions *actions) {
    follow->stated = true;
    follow->joined = false;
    for (uint32_t index = 0; index < follow->fragments; index++) {
        struct follow_fragment *fragment = &follow->list[index];
        follow->wanted[index] = heads[index];
        /* The run went back to it: what did not follow from it here is gone, so it was the outer's that was wrong; if not, the next one tells. */
        if (fragment->doubts && recovery_heads_equal(&fragment->doubted, &heads[index]))
            fragment->held = fragment->doubted;
        fragment->here = recovery_heads_equal(&fragment->held, &heads[index]);
        fragment->of_run = false;
        if (recovery_heads_equal(tail_of(fragment), &heads[index]))
            continue;
        if (fragment->here || knows(fragment, &heads[index]))
            drop_queue(follow, index, actions); /* what follows the run's head is of a branch that was lost */
        if (fragment->here)
            continue;
        if (heads[index].version == 0) {
            act(actions, FOLLOW_ACTION_LOST, index);
            continue;
        }
        /* A snapshot under way is asked for again from what is held: the answer may be the same one, whose bytes go on. */
        fetch(follow, index, fragment->first_is_snapshot ? &fragment->held : tail_of(fragment), actions);
    }
    consider_joined(follow, actions);
}

static void append(struct follow *follow, uint32_t index, const struct head *head, struct follow_actions *actions) {
    struct follow_fragment *fragment = &follow->list[index];
    struct follow_action *action = act(actions, FOLLOW_ACTION_RECEIVE, index);
    action->index = fragment->queue_count;
    action->have = *head;
    fragment->queue[fragment->queue_count++] = *head;
}

static bool follows(const struct follow_event *event, const struct head *head) {
    return event->head.version == head->version + 1 && memcmp(event->parent, head->hash, sizeof head->hash) == 0;
}

/* The first commit of a replay, or the newest one said again: the FETCH is answered, whatever has come or was applied meanwhile. */
static void note_answer(struct follow *follow, const struct follow_event *event, struct follow_actions *actions) {
    struct follow_fragment *fragment = &follow->list[event->fragment];
    if (!fragment->fetching ||
        (!follows(event, &fragment->asked) && !recovery_heads_equal(&event->head, &fragment->asked)))
        return;
    fragment->fetching = false;
    /* The run goes on from what is held: the snapshot is of a branch that was left, its bytes may never come. */
    if (fragment->first_is_snapshot && recovery_heads_equal(&fragment->held, &fragment->asked))
        drop_queue(follow, event->fragment, actions);
}

static void on_commit(struct follow *follow, const struct follow_event *event, struct follow_actions *actions) {
    struct follow_fragment *fragment = &follow->list[event->fragment];
    note_answer(follow, event, actions);
    const struct head *tail = tail_of(fragment);
    if (knows(fragment, &event->head)) {
        /* The answer to a FETCH when nothing is newer. */
        if (recovery_heads_equal(tail, &event->head))
            fragment->fetching = false;
        consider_joined(follow, actions);
        return;
    }
    bool is_next = follows(event, tail);
    if (!is_next && !recovery_head_is_newer(&event->head, tail))
        return; /* old: replayed, or of a branch that was left */
    if (fragment->queue_count == FOLLOW_QUEUED_MAX) {
        fragment->fetching = false;
        fragment->behind = true; /* fetched when the queue is empty: an answer now would find no place, and so on */
        return;
    }
    if (!is_next) {
        fragment->behind = true;
        fetch(follow, event->fragment, tail, actions);
        return;
    }
    fragment->fetching = false;
    append(follow, event->fragment, &event->head, actions);
}

static void on_snapshot(struct follow *follow, const struct follow_event *event, struct follow_actions *actions) {
    struct follow_fragment *fragment = &follow->list[event->fragment];
    /* Unasked it comes when the outer keeps the bytes of an entry no more. */
    if (!fragment->fetching && !fragment->first_is_snapshot && !recovery_head_is_newer(&event->head, &fragment->held))
        return;
    fragment->fetching = false;
    if (fragment->here && !recovery_head_is_newer(&event->head, &fragment->held)) {
        consider_joined(follow, actions); /* a late answer: versions of the run do not go back */
        return;
    }
    fragment->of_run = follow->stated;
    if (fragment->first_is_snapshot && recovery_heads_equal(&fragment->queue[0], &event->head))
        return; /* the same one again: its bytes go on where they stand */
    drop_queue(follow, event->fragment, actions);
    if (recovery_heads_equal(&fragment->held, &event->head)) {
        note_held(follow, event->fragment, true);
        consider_joined(follow, actions);
        return;
    }
    append(follow, event->fragment, &event->head, actions);
    fragment->first_is_snapshot = true;
}

static void on_applied(struct follow *follow, const struct follow_event *event, struct follow_actions *actions) {
    struct follow_fragment *fragment = &follow->list[event->fragment];
    CHECK(fragment->queue_count > 0);
    fragment->held = fragment->queue[0];
    fragment->doubts = false;
    note_held(follow, event->fragment, fragment->first_is_snapshot && fragment->of_run);
    /* STATE came meanwhile, and FETCH was said from what was held before: that answer may lead nowhere now. */
    bool ask_again = fragment->first_is_snapshot && !fragment->of_run && fragment->fetching;
    fragment->first_is_snapshot = false;
    fragment->queue_count--;
    memmove(fragment->queue, fragment->queue + 1, fragment->queue_count * sizeof fragment->queue[0]);
    if (ask_again)
        fragment->fetching = false;
    if (ask_again || (fragment->queue_count == 0 && fragment->behind && follow->stated))
        fetch(follow, event->fragment, tail_of(fragment), actions);
    consider_joined(follow, actions);
}

static void on_differs(struct follow *follow, const struct follow_event *event, struct follow_actions *actions) {
    static const struct head nothing = {0}; /* no chain holds it: the answer is a snapshot */
    struct follow_fragment *fragment = &follow->list[event->fragment];
    drop_queue(follow, event->fragment, actions);
    fragment->fetching = fragment->here = false;
    if (!fragment->doubts) /* else the snapshot was wrong too */
        fragment->doubted = fragment->held;
    fragment->doubts = true;
    fragment->held = nothing;
    fetch(follow, event->fragment, &nothing, actions);
}

void follow_open(struct follow *follow, uint32_t fragments, const struct head *held) {
    CHECK(fragments >= 1 && fragments <= MESSAGE_FRAGMENTS_MAX);
    memset(follow, 0, sizeof *follow);
    follow->fragments = fragments;
    for (uint32_t index = 0; index < fragments; index++)
        follow->list[index].held = held[index];
}

void follow_step(struct follow *follow, const struct follow_event *event, struct follow_actions *actions) {
    CHECK(event->fragment < follow->fragments);
    switch (event->kind) {
    case FOLLOW_EVENT_SESSION:
        on_session(follow);
        break;
    case FOLLOW_EVENT_STATE:
        on_state(follow, event->heads, actions);
        break;
    case FOLLOW_EVENT_COMMIT:
        on_commit(follow, event, actions);
        break;
    case FOLLOW_EVENT_SNAPSHOT:
        on_snapshot(follow, event, actions);
        break;
    case FOLLOW_EVENT_APPLIED:
        on_applied(follow, event, actions);
        break;
    case FOLLOW_EVENT_DIFFERS:
        on_differs(follow, event, actions);
        break;
    }
}
