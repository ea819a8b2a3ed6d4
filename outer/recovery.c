#include "outer/recovery.h"
#include <string.h>
#include "base/check.h"

enum { NOBODY = UINT32_MAX };

static void act(struct recovery_actions *actions, enum recovery_action_kind kind, uint32_t slot, uint32_t fragment) {
    CHECK(actions->count < RECOVERY_ACTIONS_MAX);
    actions->list[actions->count++] = (struct recovery_action){kind, slot, fragment};
}

static uint64_t bit(uint32_t slot) {
    return (uint64_t)1 << slot;
}

static uint32_t count_bits(uint64_t mask) {
    uint32_t count = 0;
    for (; mask != 0; mask &= mask - 1)
        count++;
    return count;
}

static bool is_newer(struct recovery_place a, struct recovery_place b) {
    return a.epoch != b.epoch ? a.epoch > b.epoch : a.version > b.version;
}

/* Who bears the newest version of the fragment that is newer than ours; NOBODY when none is. */
static uint32_t newest_bearer(const struct recovery *recovery, uint32_t fragment) {
    struct recovery_place newest = recovery->own[fragment];
    uint32_t bearer = NOBODY;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        if ((recovery->heard_mask & bit(slot)) == 0 || !is_newer(recovery->borne[slot][fragment], newest))
            continue;
        newest = recovery->borne[slot][fragment];
        bearer = slot;
    }
    return bearer;
}

/* Fetches what is newer; false when nothing is. */
static bool fetch_newer(struct recovery *recovery, struct recovery_actions *actions) {
    bool any = false;
    for (uint32_t fragment = 0; fragment < recovery->options.fragments; fragment++) {
        uint32_t bearer = newest_bearer(recovery, fragment);
        if (bearer != NOBODY && recovery->fetching_from[fragment] == NOBODY) {
            recovery->fetching_from[fragment] = bearer;
            act(actions, RECOVERY_ACTION_FETCH, bearer, fragment);
        }
        any = any || bearer != NOBODY || recovery->fetching_from[fragment] != NOBODY;
    }
    return any;
}

static bool window_is_over(const struct recovery *recovery, uint64_t now_us) {
    return now_us >= recovery->opened_us + recovery->options.window_us;
}

/* Who is counted in the newest commit seen; 0: nobody bears one. */
static uint64_t newest_mask(const struct recovery *recovery) {
    struct recovery_claim newest = {0};
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        const struct recovery_claim *claim = &recovery->claims[slot];
        if ((recovery->distrusted_mask & bit(slot)) == 0 &&
            (claim->epoch != newest.epoch ? claim->epoch > newest.epoch : claim->run_step > newest.run_step))
            newest = *claim;
    }
    return newest.members_mask;
}

static uint64_t first_slots(uint32_t count) {
    return count >= MESSAGE_WORKERS_MAX ? UINT64_MAX : bit(count) - 1;
}

static bool holds_anything(const struct recovery *recovery) {
    for (uint32_t fragment = 0; fragment < recovery->options.fragments; fragment++)
        if (recovery->own[fragment].version > 0)
            return true;
    return false;
}

static bool has_heard_enough(const struct recovery *recovery, uint64_t now_us) {
    bool over = window_is_over(recovery, now_us);
    /* All slots of the run, by name: who was away when a backup was written, or is not counted in the newest commit that
     * others know, may bear what is newer; so may who joined late and is counted there. Who came late and bears nothing
     * stands for nobody. */
    uint64_t wanted = newest_mask(recovery), here = wanted & recovery->heard_mask;
    uint64_t run = first_slots(recovery->options.workers) | recovery->options.expected_mask | wanted;
    bool all = (run & ~recovery->heard_mask) == 0;
    if (recovery->options.mode == RECOVERY_FRESH)
        return true;
    if (recovery->options.mode == RECOVERY_DISK)
        /* With nobody here there is nothing to lead; and this may be a copy, of an outer that lives elsewhere. */
        return all || (over && recovery->heard_mask != 0);
    if (over && recovery->options.force && recovery->heard_mask != 0)
        return true;
    if (wanted == 0)
        return all;
    /* A trained state was seen, and who bore it is gone again: its absence is no reason to begin anew. */
    return holds_anything(recovery) && (all || (over && 2 * count_bits(here) >= count_bits(wanted)));
}

static void consider(struct recovery *recovery, uint64_t now_us, struct recovery_actions *actions) {
    if (recovery->leading)
        return;
    bool fetching = fetch_newer(recovery, actions);
    if (fetching || !has_heard_enough(recovery, now_us))
        return;
    recovery->leading = true;
    act(actions, RECOVERY_ACTION_LEAD, 0, 0);
}

static void forget_slot(struct recovery *recovery, uint32_t slot) {
    recovery->heard_mask &= ~bit(slot);
    for (uint32_t fragment = 0; fragment < recovery->options.fragments; fragment++)
        if (recovery->fetching_from[fragment] == slot)
            recovery->fetching_from[fragment] = NOBODY;
}

static void on_bearer(struct recovery *recovery, const struct recovery_event *event) {
    if ((recovery->distrusted_mask & bit(event->slot)) != 0)
        return;
    if (recovery->options.mode == RECOVERY_DISK && recovery->heard_mask == 0)
        recovery->opened_us = event->now_us; /* the others may be as late as this one */
    recovery->heard_mask |= bit(event->slot);
    recovery->claims[event->slot] = (struct recovery_claim){0, event->run_step, event->members_mask};
    for (uint32_t fragment = 0; fragment < recovery->options.fragments; fragment++) {
        const struct head *head = &event->heads[fragment];
        recovery->borne[event->slot][fragment] = (struct recovery_place){head->epoch, head->version};
        if (head->epoch > recovery->claims[event->slot].epoch)
            recovery->claims[event->slot].epoch = head->epoch;
    }
}

enum recovery_mode recovery_choose(const struct recovery_start *start) {
    if (start->key_is_new || (start->new_run && !start->commits))
        return RECOVERY_FRESH;
    return start->lost || !start->found || (!start->commits && !start->again) ? RECOVERY_EMPTY : RECOVERY_DISK;
}

void recovery_open(struct recovery *recovery, const struct recovery_options *options) {
    CHECK(options->fragments >= 1 && options->fragments <= MESSAGE_FRAGMENTS_MAX);
    memset(recovery, 0, sizeof *recovery);
    recovery->options = *options;
    for (uint32_t fragment = 0; fragment < MESSAGE_FRAGMENTS_MAX; fragment++)
        recovery->fetching_from[fragment] = NOBODY;
}

void recovery_step(struct recovery *recovery, const struct recovery_event *event, struct recovery_actions *actions) {
    CHECK(event->slot < MESSAGE_WORKERS_MAX && event->fragment < recovery->options.fragments);
    switch (event->kind) {
    case RECOVERY_EVENT_OPEN:
        recovery->opened_us = event->now_us;
        for (uint32_t fragment = 0; fragment < recovery->options.fragments; fragment++)
            recovery->own[fragment] =
                (struct recovery_place){event->heads[fragment].epoch, event->heads[fragment].version};
        break;
    case RECOVERY_EVENT_BEARER:
        on_bearer(recovery, event);
        break;
    case RECOVERY_EVENT_GONE:
        forget_slot(recovery, event->slot);
        break;
    case RECOVERY_EVENT_TAKEN:
        /* What came is what it bears, whatever it said: else an older version would be asked for again and again. */
        recovery->own[event->fragment] = (struct recovery_place){event->heads->epoch, event->heads->version};
        recovery->borne[event->slot][event->fragment] = recovery->own[event->fragment];
        recovery->fetching_from[event->fragment] = NOBODY;
        break;
    case RECOVERY_EVENT_FAILED:
        recovery->distrusted_mask |= bit(event->slot);
        forget_slot(recovery, event->slot);
        break;
    case RECOVERY_EVENT_TICK:
        break;
    }
    consider(recovery, event->now_us, actions);
}

uint64_t recovery_deadline_us(const struct recovery *recovery) {
    return recovery->leading ? UINT64_MAX : recovery->opened_us + recovery->options.window_us;
}

uint64_t recovery_missing_mask(const struct recovery *recovery) {
    uint64_t wanted = recovery->options.mode == RECOVERY_DISK ? recovery->options.expected_mask : newest_mask(recovery);
    return wanted & ~recovery->heard_mask;
}

uint32_t recovery_lacking(const struct recovery *recovery) {
    uint64_t run = first_slots(recovery->options.workers), wanted = newest_mask(recovery);
    uint32_t nobody = recovery->heard_mask == 0 ? 1 : 0, here = count_bits(wanted & recovery->heard_mask);
    if (recovery->leading || recovery->options.mode == RECOVERY_FRESH)
        return 0;
    if (recovery->options.mode == RECOVERY_DISK || recovery->options.force)
        return nobody;
    if (wanted == 0)
        return count_bits((run | recovery->options.expected_mask) & ~recovery->heard_mask);
    uint32_t half = (count_bits(wanted) + 1) / 2;
    if (here < half)
        return half - here;
    return holds_anything(recovery) ? 0 : 1; /* who bore the state is gone again */
}

enum recovery_answer recovery_answer(const struct head *have, const struct head *kept, uint32_t count) {
    CHECK(count >= 1);
    if (recovery_heads_equal(have, &kept[count - 1]))
        return RECOVERY_ANSWER_NOTHING;
    for (uint32_t i = 0; i < count; i++)
        if (recovery_heads_equal(have, &kept[i]))
            return RECOVERY_ANSWER_REPLAY;
    return RECOVERY_ANSWER_SNAPSHOT;
}

bool recovery_head_is_newer(const struct head *a, const struct head *b) {
    return a->epoch != b->epoch ? a->epoch > b->epoch : a->version > b->version;
}

bool recovery_head_is_lost(const struct head *held, const struct head *run) {
    return (held->version >= run->version || held->epoch > run->epoch) && !recovery_heads_equal(held, run);
}

bool recovery_heads_equal(const struct head *a, const struct head *b) {
    return a->version == b->version && memcmp(a->hash, b->hash, sizeof a->hash) == 0;
}
