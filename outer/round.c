#include "outer/round.h"
#include <string.h>
#include "base/check.h"

/* ---- actions ---- */

static struct round_action *act(struct round_actions *actions, enum round_action_kind kind) {
    CHECK(actions->count < ROUND_ACTIONS_MAX);
    struct round_action *action = &actions->list[actions->count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    return action;
}

static void act_on_place(struct round_actions *actions, enum round_action_kind kind,
                         const struct contribution *contribution, uint32_t code) {
    struct round_action *action = act(actions, kind);
    action->slot = contribution->slot;
    action->fragment = contribution->fragment;
    action->version = contribution->base_version;
    action->code = code;
}

/* ---- one round ---- */

static struct round_place *place_of(struct round_machine *machine, uint32_t slot, uint32_t fragment) {
    CHECK(slot < MESSAGE_WORKERS_MAX && fragment < machine->options.fragments);
    return &machine->fragments[fragment].places[slot];
}

static bool is_stale(const struct round_machine *machine, const struct contribution *contribution) {
    uint64_t version = machine->fragments[contribution->fragment].version;
    return contribution->base_version > version || version - contribution->base_version > machine->options.stale;
}

static void empty_place(struct round_machine *machine, struct round_place *place, struct round_actions *actions) {
    act_on_place(actions, ROUND_ACTION_DISCARD, &place->contribution, 0);
    ledger_withdrawn(&machine->ledger, place->contribution.slot, place->contribution.fragment);
    place->state = ROUND_PLACE_EMPTY;
}

/* A quarter of the period; of the time since training began, while there was no round before. */
static uint64_t longest_grace(const struct round_machine *machine, const struct round_fragment *fragment,
                              uint64_t quorum_us) {
    return (fragment->closed_us != 0 ? fragment->period_us : quorum_us - machine->started_us) / 4;
}

/* The 90th percentile of past lateness behind the quorum, at most the longest grace. */
static uint64_t grace_of(const struct round_machine *machine, const struct round_fragment *fragment) {
    if (machine->options.grace_us != ROUND_GRACE_AUTO)
        return (uint64_t)machine->options.grace_us;
    uint64_t sorted[ROUND_LATENESS_KEPT];
    uint32_t count = machine->lateness_count < ROUND_LATENESS_KEPT ? machine->lateness_count : ROUND_LATENESS_KEPT;
    uint64_t limit = longest_grace(machine, fragment, fragment->quorum_us);
    if (count == 0)
        return limit;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t j = i;
        for (; j > 0 && sorted[j - 1] > machine->lateness_us[i]; j--)
            sorted[j] = sorted[j - 1];
        sorted[j] = machine->lateness_us[i];
    }
    uint64_t grace = sorted[(count * 9 - 1) / 10];
    return grace < limit ? grace : limit;
}

struct round_count {
    uint32_t whole;   /* contributions that could be summed now */
    uint32_t missing; /* expected members without one */
};

/* The step of the open round: the largest send step among what is whole. */
static uint64_t step_of_round(const struct round_fragment *fragment) {
    uint64_t step = 0;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        const struct round_place *place = &fragment->places[slot];
        if (place->state == ROUND_PLACE_WHOLE && place->contribution.send_step > step)
            step = place->contribution.send_step;
    }
    return step;
}

static struct round_count count_places(const struct round_machine *machine, const struct round_fragment *fragment) {
    struct round_count count = {0, 0};
    uint64_t step = step_of_round(fragment);
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        const struct member *member = &machine->members.slot[slot];
        const struct round_place *place = &fragment->places[slot];
        bool whole = place->state == ROUND_PLACE_WHOLE;
        bool excused = place->state == ROUND_PLACE_EXCUSED && step <= place->contribution.send_step;
        count.whole += whole;
        /* What it has not offered it cannot send now, or passed by; where each sends by its own steps, it comes at its next one. */
        bool passed_by = machine->options.quorum == 0 && step < member->offered_step;
        bool nothing_comes = place->state != ROUND_PLACE_RECEIVING && (passed_by || member->blocked);
        count.missing +=
            !whole && !excused && !nothing_comes && member_is_expected(member) && step > member->joined_step;
    }
    return count;
}

static void count_place(struct round_fragment *fragment, struct round_place *place, uint64_t *run_step) {
    const struct contribution *c = &place->contribution;
    place->state = ROUND_PLACE_CLOSING;
    fragment->counted[fragment->counted_count++] = (struct counted){.slot = c->slot,
                                                                    .incarnation = c->incarnation,
                                                                    .base_version = c->base_version,
                                                                    .send_step = c->send_step,
                                                                    .tokens_from = c->tokens_from,
                                                                    .tokens_to = c->tokens_to,
                                                                    .tokens = c->tokens};
    if (c->send_step > *run_step)
        *run_step = c->send_step;
}

/* The next whole place in the order of the sum, or NULL. */
static struct round_place *next_whole(struct round_machine *machine, struct round_fragment *fragment) {
    struct round_place *next = NULL;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        struct round_place *place = &fragment->places[slot];
        if (place->state != ROUND_PLACE_WHOLE)
            continue;
        if (machine->options.quorum == 0)
            return place;
        if (next == NULL || place->whole_order < next->whole_order)
            next = place;
    }
    return next;
}

/* How late a contribution came that its round could have waited for: behind the quorum, of the same step, within the longest grace. Those that
 * came after the close count too, or a grace that is too short would never see what it misses. */
static void note_lateness(struct round_machine *machine, const struct round_fragment *fragment,
                          const struct round_place *place, uint64_t quorum_us) {
    uint64_t lateness_us = place->whole_us - quorum_us;
    if (lateness_us <= longest_grace(machine, fragment, quorum_us))
        machine->lateness_us[machine->lateness_count++ % ROUND_LATENESS_KEPT] = lateness_us;
}

static void close_round(struct round_machine *machine, uint32_t index, uint64_t now_us, struct round_actions *actions) {
    struct round_fragment *fragment = &machine->fragments[index];
    uint64_t step = step_of_round(fragment);
    fragment->counted_count = 0;
    for (struct round_place *place; (place = next_whole(machine, fragment)) != NULL;) {
        if (fragment->quorum_us != 0 && place->whole_us > fragment->quorum_us)
            note_lateness(machine, fragment, place, fragment->quorum_us);
        count_place(fragment, place, &machine->run_step);
    }
    fragment->closing = true;
    fragment->close_us = now_us;
    if (step > fragment->closed_step) { /* else it is of those that came too late for the round before */
        fragment->period_us = now_us - (fragment->closed_us != 0 ? fragment->closed_us : machine->started_us);
        fragment->closed_step = step;
        fragment->closed_us = now_us;
        fragment->closed_quorum_us = fragment->quorum_us != 0 ? fragment->quorum_us : now_us;
    }
    struct round_action *action = act(actions, ROUND_ACTION_CLOSE);
    action->fragment = index;
    action->version = fragment->version + 1;
}

/* Not strict (or no longer in step), and somebody trains no more: what is missing may never be sent, since who
 * has nothing unsent for this fragment may wait for a round of another one, and so on in a ring. Rounds then close with what they have,
 * after a while. */
static bool is_ending(const struct round_machine *machine) {
    if (machine->options.stale == 0 && !machine->uneven)
        return false;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (machine->members.slot[slot].reached && member_is_connected(&machine->members.slot[slot]))
            return true;
    return machine->ended;
}

static bool is_out_of_patience(const struct round_machine *machine, const struct round_fragment *fragment,
                               uint64_t now_us) {
    return is_ending(machine) && now_us >= fragment->open_us + ROUND_END_PATIENCE_US;
}

/* Rounds stop: not leading, not started, too few members, or those that were here before a restart are about to join. */
static bool is_held(const struct round_machine *machine) {
    return !machine->leading || !machine->started || (machine->returning_mask != 0 && machine->options.quorum == 0) ||
           members_connected(&machine->members) < machine->options.min_workers;
}

static void consider_close(struct round_machine *machine, uint32_t index, uint64_t now_us,
                           struct round_actions *actions) {
    struct round_fragment *fragment = &machine->fragments[index];
    uint32_t live = members_connected(&machine->members);
    if (fragment->closing || is_held(machine))
        return;
    struct round_count count = count_places(machine, fragment);
    if (count.whole == 0)
        return;
    if (count.missing > 0 && !is_out_of_patience(machine, fragment, now_us)) {
        if (machine->options.quorum == 0 || count.whole < round_quorum(&machine->options, live)) {
            fragment->quorum_us = 0; /* a member that came back can undo a quorum of the few that were live */
            return;
        }
        if (fragment->quorum_us == 0)
            fragment->quorum_us = now_us;
        if (now_us < fragment->quorum_us + grace_of(machine, fragment))
            return;
    }
    close_round(machine, index, now_us, actions);
}

/* ---- the run ---- */

/* Who is done already counts: an outer that came back on an older copy may not know that it told them to end. */
static void consider_start(struct round_machine *machine, uint64_t now_us, struct round_actions *actions) {
    if (!machine->leading || machine->started || members_connected(&machine->members) < machine->options.workers)
        return;
    machine->started = true;
    machine->started_us = now_us;
    act(actions, ROUND_ACTION_START);
}

/* What a lost member was sending holds nobody up, */
static bool is_abandoned(const struct round_machine *machine, uint32_t slot, const struct round_place *place) {
    return place->state == ROUND_PLACE_RECEIVING && !member_is_connected(&machine->members.slot[slot]);
}

/* and after a while it holds no memory either: whoever comes back offers it anew. */
static bool is_given_up(const struct round_machine *machine, uint32_t slot, const struct round_place *place,
                        uint64_t now_us) {
    return is_abandoned(machine, slot, place) &&
           now_us >= machine->members.slot[slot].lost_us + ROUND_RETURN_PATIENCE_US;
}

static bool rounds_are_closed(const struct round_machine *machine) {
    for (uint32_t index = 0; index < machine->options.fragments; index++) {
        const struct round_fragment *fragment = &machine->fragments[index];
        if (fragment->closing)
            return false;
        for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
            if (fragment->places[slot].state != ROUND_PLACE_EMPTY &&
                fragment->places[slot].state != ROUND_PLACE_EXCUSED &&
                !is_abandoned(machine, slot, &fragment->places[slot]))
                return false;
    }
    return true;
}

static void empty_abandoned_places(struct round_machine *machine, struct round_actions *actions) {
    for (uint32_t index = 0; index < machine->options.fragments; index++)
        for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
            struct round_place *place = &machine->fragments[index].places[slot];
            if (is_abandoned(machine, slot, place))
                empty_place(machine, place, actions);
        }
}

static void consider_end(struct round_machine *machine, struct round_actions *actions) {
    if (!machine->leading || !machine->started || members_expected(&machine->members) > 0 ||
        members_connected(&machine->members) == 0 || machine->returning_mask != 0)
        return;
    if (!machine->finished && rounds_are_closed(machine)) {
        machine->finished = true;
        empty_abandoned_places(machine, actions);
        act(actions, ROUND_ACTION_FINISH);
    }
    if (!machine->finished || machine->left)
        return;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (machine->members.slot[slot].state == MEMBER_DONE)
            return;
    /* The evaluator may have died: then the next one that has the text does it. */
    if (!machine->evaluated && members_evaluator(&machine->members) != UINT32_MAX)
        return;
    machine->left = true;
    act(actions, ROUND_ACTION_LEAVE);
}

/* Quorum mode ends for all when a quorum of the live members has trained to the end. */
static void consider_ending(struct round_machine *machine, struct round_actions *actions) {
    uint32_t reached = 0, live = members_connected(&machine->members);
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        reached += machine->members.slot[slot].reached && member_is_connected(&machine->members.slot[slot]);
    if (machine->ended || machine->options.quorum == 0 || reached == 0 || machine->returning_mask != 0 ||
        reached < round_quorum(&machine->options, live))
        return;
    machine->ended = true;
    act(actions, ROUND_ACTION_END);
}

static void consider_all(struct round_machine *machine, uint64_t now_us, struct round_actions *actions) {
    if (now_us >= machine->lead_us + ROUND_RETURN_PATIENCE_US)
        machine->returning_mask = 0;
    for (uint32_t index = 0; index < machine->options.fragments; index++)
        consider_close(machine, index, now_us, actions);
    consider_end(machine, actions);
}

/* ---- events ---- */

static void on_lead(struct round_machine *machine, const struct round_event *event, struct round_actions *actions) {
    machine->leading = true;
    machine->lead_us = event->now_us;
    machine->started_us = event->now_us;
    machine->returning_mask = machine->started ? event->mask : 0;
    consider_start(machine, event->now_us, actions);
    consider_all(machine, event->now_us, actions);
}

/* This node was paused, its members were not: what they said meanwhile is heard before any deadline is judged. */
static void on_late(struct round_machine *machine, const struct round_event *event) {
    for (uint32_t index = 0; index < machine->options.fragments; index++) {
        struct round_fragment *fragment = &machine->fragments[index];
        if (fragment->open_us != 0)
            fragment->open_us += event->late_us;
        if (fragment->quorum_us != 0)
            fragment->quorum_us += event->late_us;
    }
    machine->lead_us += event->late_us;
    machine->started_us += event->late_us;
}

/* What an earlier process of this slot was sending will not go on; what it had sent whole counts. */
static void empty_places_of_dead(struct round_machine *machine, uint32_t slot, struct round_actions *actions) {
    for (uint32_t index = 0; index < machine->options.fragments; index++) {
        struct round_place *place = &machine->fragments[index].places[slot];
        if (place->state == ROUND_PLACE_RECEIVING &&
            place->contribution.incarnation != machine->members.slot[slot].incarnation)
            empty_place(machine, place, actions);
        else if (place->state == ROUND_PLACE_EXCUSED)
            place->state = ROUND_PLACE_EMPTY;
    }
}

static void on_join(struct round_machine *machine, const struct round_event *event, struct round_actions *actions) {
    struct member *member = &machine->members.slot[event->slot];
    machine->returning_mask &= ~((uint64_t)1 << event->slot);
    if (member_is_connected(member))
        return;
    /* After FINISH the versions stand: who returns fetches them, nothing of it is expected or counted any more. */
    enum member_state state = machine->finished ? MEMBER_DONE : MEMBER_LIVE;
    machine->uneven = machine->uneven || machine->started;
    *member = (struct member){.state = state,
                              .incarnation = event->incarnation,
                              .joined_step = event->step,
                              .has_validation = event->has_validation};
    ledger_processed(&machine->ledger, event->slot, machine->options.fragments, event->tokens);
    empty_places_of_dead(machine, event->slot, actions);
    consider_start(machine, event->now_us, actions);
    if (machine->started)
        act(actions, ROUND_ACTION_MEMBERS);
    consider_all(machine, event->now_us, actions);
}

/* What it was sending stays as it stands: when its link comes back the transfer goes on. Not for ever: see on_committed. */
static void on_leave(struct round_machine *machine, const struct round_event *event, struct round_actions *actions) {
    struct member *member = &machine->members.slot[event->slot];
    bool member_before = member_is_connected(member);
    machine->returning_mask &= ~((uint64_t)1 << event->slot);
    if (event->returns && member_before && machine->started) {
        machine->returning_mask |= (uint64_t)1 << event->slot;
        machine->lead_us = event->now_us;
    }
    if (member_before) {
        member->state = machine->started ? MEMBER_LOST : MEMBER_ABSENT;
        member->lost_us = event->now_us;
    }
    if (member_before && machine->started)
        act(actions, ROUND_ACTION_MEMBERS);
    consider_ending(machine, actions);
    consider_all(machine, event->now_us, actions);
}

static bool same_contribution(const struct contribution *a, const struct contribution *b) {
    return a->base_version == b->base_version && a->tokens_from == b->tokens_from && a->tokens_to == b->tokens_to &&
           a->payload_bytes == b->payload_bytes &&
           memcmp(a->payload_hash, b->payload_hash, sizeof a->payload_hash) == 0;
}

static uint32_t refusal_of(struct round_machine *machine, const struct contribution *c) {
    const struct member *member = &machine->members.slot[c->slot];
    if (!member_is_expected(member) || member->incarnation != c->incarnation ||
        c->payload_bytes != machine->options.payload_bytes[c->fragment])
        return OFFER_REFUSED_MALFORMED;
    if (c->tokens_from < machine->ledger.entries[c->slot][c->fragment].mark)
        return OFFER_REFUSED_DUPLICATE; /* it does not know yet of a commit that counts it */
    /* It begins behind what a commit counted, so it is measured from that commit or a later one; else it would bring the same work again. */
    if (c->base_version < machine->fragments[c->fragment].places[c->slot].counted_version)
        return OFFER_REFUSED_DUPLICATE;
    return is_stale(machine, c) ? OFFER_REFUSED_STALE : 0;
}

static void on_offer(struct round_machine *machine, const struct round_event *event, struct round_actions *actions) {
    const struct contribution *c = &event->contribution;
    if (c->slot >= MESSAGE_WORKERS_MAX || c->fragment >= machine->options.fragments)
        return;
    struct round_place *place = place_of(machine, c->slot, c->fragment);
    machine->members.slot[c->slot].blocked = false;
    /* A worker has one record per fragment: another offer means that it gave up what it was sending. */
    bool gave_up = place->state == ROUND_PLACE_RECEIVING && !same_contribution(&place->contribution, c) &&
                   refusal_of(machine, c) == 0;
    if (gave_up)
        empty_place(machine, place, actions);
    if (place->state != ROUND_PLACE_EMPTY && place->state != ROUND_PLACE_EXCUSED) {
        /* The same offer again is what a worker says after its link came back: go on where the bytes stand. */
        if (!same_contribution(&place->contribution, c))
            act_on_place(actions, ROUND_ACTION_REFUSE_OFFER, c, OFFER_REFUSED_DUPLICATE);
        else if (place->state == ROUND_PLACE_RECEIVING && member_is_connected(&machine->members.slot[c->slot]))
            act_on_place(actions, ROUND_ACTION_GRANT, c, 0);
        return;
    }
    uint32_t refusal = refusal_of(machine, c);
    if (refusal == 0 && !ledger_offered(&machine->ledger, c))
        refusal = OFFER_REFUSED_MALFORMED;
    if (refusal != 0) {
        act_on_place(actions, ROUND_ACTION_REFUSE_OFFER, c, refusal);
        if (gave_up)
            consider_all(machine, event->now_us, actions); /* a round may have waited for what is gone */
        return;
    }
    place->state = ROUND_PLACE_RECEIVING;
    place->contribution = *c;
    act_on_place(actions, ROUND_ACTION_GRANT, c, 0);
    struct member *member = &machine->members.slot[c->slot];
    if (c->send_step <= member->offered_step)
        return;
    member->offered_step = c->send_step; /* it has passed what rounds of earlier steps waited for */
    consider_all(machine, event->now_us, actions);
}

static struct round_place *receiving_place(struct round_machine *machine, const struct round_event *event) {
    struct round_place *place = place_of(machine, event->slot, event->fragment);
    bool named = place->state == ROUND_PLACE_RECEIVING && place->contribution.base_version == event->version;
    return named ? place : NULL;
}

static void on_whole(struct round_machine *machine, const struct round_event *event, struct round_actions *actions) {
    struct round_place *place = receiving_place(machine, event);
    if (place == NULL)
        return;
    if (is_stale(machine, &place->contribution)) {
        act_on_place(actions, ROUND_ACTION_REFUSE_OFFER, &place->contribution, OFFER_REFUSED_STALE);
        empty_place(machine, place, actions);
        return;
    }
    place->state = ROUND_PLACE_WHOLE;
    place->whole_us = event->now_us;
    place->whole_order = ++machine->whole_sequence;
    struct round_fragment *fragment = &machine->fragments[event->fragment];
    if (place->contribution.send_step == fragment->closed_step)
        note_lateness(machine, fragment, place, fragment->closed_quorum_us);
    if (fragment->open_us == 0)
        fragment->open_us = event->now_us;
    consider_close(machine, event->fragment, event->now_us, actions);
}

static void on_broken(struct round_machine *machine, const struct round_event *event, struct round_actions *actions) {
    struct round_place *place = receiving_place(machine, event);
    if (place == NULL)
        return;
    act_on_place(actions, ROUND_ACTION_REFUSE_OFFER, &place->contribution, event->code);
    empty_place(machine, place, actions);
    place->state = ROUND_PLACE_EXCUSED;
    /* What it trained so far is dropped: at the end it may have nothing to send when the others do. */
    machine->uneven = true;
    consider_close(machine, event->fragment, event->now_us, actions);
}

static void on_committed(struct round_machine *machine, const struct round_event *event,
                         struct round_actions *actions) {
    struct round_fragment *fragment = &machine->fragments[event->fragment];
    CHECK(fragment->closing && event->version == fragment->version + 1);
    fragment->version = event->version;
    fragment->closing = false;
    fragment->open_us = 0;
    fragment->quorum_us = 0;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        machine->members.slot[slot].blocked = false; /* it may be what one of them waits for */
    for (uint32_t i = 0; i < fragment->counted_count; i++) {
        if (fragment->counted[i].send_step > fragment->run_step)
            fragment->run_step = fragment->counted[i].send_step;
        ledger_applied(&machine->ledger, event->fragment, &fragment->counted[i]);
        struct round_place *place = &fragment->places[fragment->counted[i].slot];
        act_on_place(actions, ROUND_ACTION_DISCARD, &place->contribution, 0);
        place->state = ROUND_PLACE_EMPTY;
        place->counted_version = event->version;
    }
    struct round_action *publish = act(actions, ROUND_ACTION_PUBLISH);
    publish->fragment = event->fragment;
    publish->version = event->version;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        struct round_place *place = &fragment->places[slot];
        if (place->state == ROUND_PLACE_EXCUSED)
            place->state = ROUND_PLACE_EMPTY;
        if (place->state == ROUND_PLACE_EMPTY)
            continue;
        if (is_stale(machine, &place->contribution)) {
            act_on_place(actions, ROUND_ACTION_REFUSE_OFFER, &place->contribution, OFFER_REFUSED_STALE);
            empty_place(machine, place, actions);
        } else if (is_given_up(machine, slot, place, event->now_us)) {
            empty_place(machine, place, actions);
        } else if (place->state == ROUND_PLACE_WHOLE && fragment->open_us == 0) {
            fragment->open_us = event->now_us;
        }
    }
    consider_close(machine, event->fragment, event->now_us, actions);
    consider_end(machine, actions);
}

static void on_blocked(struct round_machine *machine, const struct round_event *event, struct round_actions *actions) {
    struct member *member = &machine->members.slot[event->slot];
    if (member->state != MEMBER_LIVE || member->blocked)
        return;
    member->blocked = true;
    consider_all(machine, event->now_us, actions);
}

static void on_reached(struct round_machine *machine, const struct round_event *event, struct round_actions *actions) {
    machine->members.slot[event->slot].reached = true;
    consider_ending(machine, actions);
}

static void on_done(struct round_machine *machine, const struct round_event *event, struct round_actions *actions) {
    struct member *member = &machine->members.slot[event->slot];
    ledger_processed(&machine->ledger, event->slot, machine->options.fragments, event->tokens);
    if (member->state != MEMBER_LIVE)
        return;
    member->state = MEMBER_DONE;
    consider_all(machine, event->now_us, actions);
}

static void on_final(struct round_machine *machine, const struct round_event *event, struct round_actions *actions) {
    struct member *member = &machine->members.slot[event->slot];
    if (!machine->finished || (member->state != MEMBER_DONE && member->state != MEMBER_FINAL))
        return;
    member->state = MEMBER_FINAL;
    machine->evaluated = machine->evaluated || event->has_eval;
    consider_end(machine, actions);
}

/* ---- interface ---- */

void round_open(struct round_machine *machine, const struct round_options *options) {
    CHECK(options->workers >= 1 && options->workers <= MESSAGE_WORKERS_MAX && options->quorum >= -100);
    CHECK(options->fragments >= 1 && options->fragments <= MESSAGE_FRAGMENTS_MAX);
    memset(machine, 0, sizeof *machine);
    machine->options = *options;
    machine->started = options->started;
    machine->ended = options->ended;
    machine->finished = options->finished;
}

void round_adopt(struct round_machine *machine, const struct commit *commit) {
    CHECK(!machine->leading && commit->fragment < machine->options.fragments);
    machine->fragments[commit->fragment].version = commit->version;
    machine->fragments[commit->fragment].run_step = commit->run_step;
    ledger_restore(&machine->ledger, commit->fragment, commit->totals, commit->total_count);
    for (uint32_t i = 0; i < commit->total_count; i++) /* a worker has one counter */
        ledger_processed(&machine->ledger, commit->totals[i].slot, machine->options.fragments, commit->totals[i].mark);
    if (commit->run_step > machine->run_step)
        machine->run_step = commit->run_step;
    machine->started = true;
}

uint32_t round_quorum(const struct round_options *options, uint32_t live) {
    uint32_t need = live;
    if (options->quorum > 0)
        need = (uint32_t)options->quorum;
    else if (options->quorum < 0)
        need = (live * (uint32_t)-options->quorum + 99) / 100;
    return need < live ? need : live;
}

void round_step(struct round_machine *machine, const struct round_event *event, struct round_actions *actions) {
    CHECK(event->slot < MESSAGE_WORKERS_MAX && event->fragment < machine->options.fragments);
    switch (event->kind) {
    case ROUND_EVENT_LEAD:
        on_lead(machine, event, actions);
        break;
    case ROUND_EVENT_LATE:
        on_late(machine, event);
        break;
    case ROUND_EVENT_TICK:
        consider_all(machine, event->now_us, actions);
        break;
    case ROUND_EVENT_JOIN:
        on_join(machine, event, actions);
        break;
    case ROUND_EVENT_LEAVE:
        on_leave(machine, event, actions);
        break;
    case ROUND_EVENT_OFFER:
        on_offer(machine, event, actions);
        break;
    case ROUND_EVENT_WHOLE:
        on_whole(machine, event, actions);
        break;
    case ROUND_EVENT_BROKEN:
        on_broken(machine, event, actions);
        break;
    case ROUND_EVENT_COMMITTED:
        on_committed(machine, event, actions);
        break;
    case ROUND_EVENT_TOKENS:
        ledger_processed(&machine->ledger, event->slot, machine->options.fragments, event->tokens);
        break;
    case ROUND_EVENT_BLOCKED:
        on_blocked(machine, event, actions);
        break;
    case ROUND_EVENT_REACHED:
        on_reached(machine, event, actions);
        break;
    case ROUND_EVENT_DONE:
        on_done(machine, event, actions);
        break;
    case ROUND_EVENT_FINAL:
        on_final(machine, event, actions);
        break;
    }
    CHECK(ledger_check(&machine->ledger, MESSAGE_WORKERS_MAX, machine->options.fragments));
}

const struct counted *round_counted(const struct round_machine *machine, uint32_t fragment, uint32_t *count) {
    CHECK(fragment < machine->options.fragments && machine->fragments[fragment].closing);
    *count = machine->fragments[fragment].counted_count;
    return machine->fragments[fragment].counted;
}

uint64_t round_deadline_us(const struct round_machine *machine) {
    uint64_t earliest = machine->returning_mask == 0 ? UINT64_MAX : machine->lead_us + ROUND_RETURN_PATIENCE_US;
    if (is_held(machine))
        return earliest; /* what time could close is not closed: a deadline that passed meanwhile would make the caller spin */
    for (uint32_t index = 0; index < machine->options.fragments; index++) {
        const struct round_fragment *fragment = &machine->fragments[index];
        if (fragment->closing || fragment->open_us == 0)
            continue;
        uint64_t grace = fragment->quorum_us == 0 ? UINT64_MAX : fragment->quorum_us + grace_of(machine, fragment);
        uint64_t patience = is_ending(machine) ? fragment->open_us + ROUND_END_PATIENCE_US : UINT64_MAX;
        uint64_t due = grace < patience ? grace : patience;
        earliest = due < earliest ? due : earliest;
    }
    return earliest;
}
