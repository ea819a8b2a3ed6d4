/* The round machine under any sequence of events that the daemon may give it (what round.h CHECKs of its caller is
 * kept here), judged from outside after each one. Input: 7 bytes of options, then events: u8 kind, their bytes.
 *
 * What must hold, whatever the members say:
 *   versions grow by one, at COMMITTED only; nothing is published before
 *   a contribution is counted at most once, by its interval of tokens and by its name, whole, not stale, and after it
 *     was granted
 *   the first round waits for all, unless the mode lets it go on; no round that could close stands open, no deadline
 *     stays in the past
 *   the ledger adds up, and its totals never fall */
#include <string.h>
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "outer/round.h"

enum { FRAGMENTS_WATCHED = 4, PAYLOAD_BYTES = 64, NAMES_KEPT = 8, TOKENS_MAX_BITS = 47 };
/* The slots that events name: few, so that they meet, and the last one. */
enum { SLOTS = 6 };
static const uint32_t slots[SLOTS] = {0, 1, 2, 3, 4, MESSAGE_WORKERS_MAX - 1};

struct name { /* of a contribution that was counted */
    uint64_t incarnation;
    uint64_t base;
};

static struct round_machine machine;
static struct round_actions actions;
static struct {
    uint64_t now_us;
    uint32_t fragments;
    uint32_t start, end, finish, leave; /* how often each was given */
    uint64_t versions[MESSAGE_FRAGMENTS_MAX];
    bool closing[MESSAGE_FRAGMENTS_MAX];
    uint64_t marks[MESSAGE_WORKERS_MAX][MESSAGE_FRAGMENTS_MAX];
    struct name names[MESSAGE_WORKERS_MAX][FRAGMENTS_WATCHED][NAMES_KEPT];
    uint32_t name_count[MESSAGE_WORKERS_MAX][FRAGMENTS_WATCHED];
} seen;

/* ---- what each action must be ---- */

static void check_counted_once(uint32_t fragment, const struct counted *c) {
    CHECK(c->tokens_from == seen.marks[c->slot][fragment] && c->tokens_to > c->tokens_from);
    CHECK(c->tokens >= 1 && c->tokens <= c->tokens_to - c->tokens_from);
    if (fragment >= FRAGMENTS_WATCHED)
        return;
    uint32_t *count = &seen.name_count[c->slot][fragment];
    struct name *names = seen.names[c->slot][fragment];
    for (uint32_t i = 0; i < *count && i < NAMES_KEPT; i++)
        CHECK(names[i].incarnation != c->incarnation || names[i].base != c->base_version);
    names[*count % NAMES_KEPT] = (struct name){c->incarnation, c->base_version};
    ++*count;
}

/* A round of this step lacks the member's contribution, and it may still come. */
static bool is_missing(uint32_t slot, uint32_t fragment, uint64_t step) {
    const struct member *member = &machine.members.slot[slot];
    const struct round_place *place = &machine.fragments[fragment].places[slot];
    if (!member_is_expected(member) || step <= member->joined_step || place->state == ROUND_PLACE_WHOLE ||
        place->state == ROUND_PLACE_CLOSING)
        return false;
    if (place->state == ROUND_PLACE_EXCUSED && step <= place->contribution.send_step)
        return false;
    bool passed_by =
        machine.options.quorum == 0 && step < member->offered_step; /* with a quorum each sends by its own steps */
    return place->state == ROUND_PLACE_RECEIVING || (!passed_by && !member->blocked);
}

/* quorum all, all in step: who is expected is in the round, or can bring nothing to it. */
static void check_all_are_in(uint32_t fragment, uint64_t step) {
    if (machine.options.quorum != 0 || machine.options.stale != 0 || machine.uneven)
        return;
    for (int i = 0; i < SLOTS; i++)
        CHECK(!is_missing(slots[i], fragment, step));
}

static void check_close(const struct round_action *action) {
    uint32_t fragment = action->fragment, count;
    CHECK(machine.leading && machine.started && !seen.closing[fragment]);
    CHECK(action->version == seen.versions[fragment] + 1);
    CHECK(members_connected(&machine.members) >= machine.options.min_workers);
    const struct counted *counted = round_counted(&machine, fragment, &count);
    CHECK(count >= 1 && count <= MESSAGE_WORKERS_MAX);
    uint64_t in = 0, step = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct counted *c = &counted[i];
        CHECK(c->slot < MESSAGE_WORKERS_MAX && (in >> c->slot & 1) == 0);
        CHECK(machine.options.quorum != 0 || in >> c->slot == 0); /* ascending */
        in |= UINT64_C(1) << c->slot;
        CHECK(c->base_version < action->version && action->version - 1 - c->base_version <= machine.options.stale);
        CHECK(machine.fragments[fragment].places[c->slot].state == ROUND_PLACE_CLOSING);
        step = c->send_step > step ? c->send_step : step;
        check_counted_once(fragment, c);
    }
    CHECK(step <= machine.run_step);
    check_all_are_in(fragment, step);
    seen.closing[fragment] = true;
}

static void check_publish(const struct round_event *event, const struct round_action *action) {
    CHECK(event->kind == ROUND_EVENT_COMMITTED && action->fragment == event->fragment &&
          action->version == event->version);
}

static void check_actions(const struct round_event *event) {
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct round_action *action = &actions.list[i];
        CHECK(action->slot < MESSAGE_WORKERS_MAX && action->fragment < seen.fragments);
        const struct round_place *place = &machine.fragments[action->fragment].places[action->slot];
        switch (action->kind) {
        case ROUND_ACTION_CLOSE:
            check_close(action);
            break;
        case ROUND_ACTION_PUBLISH:
            check_publish(event, action);
            break;
        case ROUND_ACTION_GRANT:
            CHECK(place->state == ROUND_PLACE_RECEIVING && place->contribution.base_version == action->version);
            CHECK(member_is_connected(&machine.members.slot[action->slot]));
            break;
        case ROUND_ACTION_REFUSE_OFFER:
            CHECK(action->code >= 1 && action->code < OFFER_REFUSED_CODE_COUNT);
            break;
        case ROUND_ACTION_START:
            CHECK(++seen.start == 1 && machine.leading);
            break;
        case ROUND_ACTION_END:
            CHECK(++seen.end == 1 && machine.options.quorum != 0);
            break;
        case ROUND_ACTION_FINISH:
            CHECK(++seen.finish == 1);
            break;
        case ROUND_ACTION_LEAVE:
            CHECK(++seen.leave == 1 && machine.finished);
            break;
        case ROUND_ACTION_MEMBERS:
        case ROUND_ACTION_DISCARD:
            break;
        }
    }
}

/* ---- what must hold between events ---- */

/* Somebody has sent, nobody is missing, nothing holds the rounds: then it closes in the same step. */
static void check_nothing_stands_open(uint32_t index) {
    const struct round_fragment *fragment = &machine.fragments[index];
    uint64_t step = 0;
    uint32_t whole = 0, missing = 0;
    for (int i = 0; i < SLOTS; i++) {
        const struct round_place *place = &fragment->places[slots[i]];
        if (place->state != ROUND_PLACE_WHOLE)
            continue;
        whole++;
        step = place->contribution.send_step > step ? place->contribution.send_step : step;
    }
    for (int i = 0; i < SLOTS; i++)
        missing += is_missing(slots[i], index, step);
    CHECK(fragment->closing || whole == 0 || missing > 0);
}

/* The rest of the ledger round_step itself CHECKs after each event. */
static void remember_marks(uint32_t fragment) {
    for (int i = 0; i < SLOTS; i++) {
        const struct ledger_entry *entry = &machine.ledger.entries[slots[i]][fragment];
        uint64_t *mark = &seen.marks[slots[i]][fragment];
        CHECK(entry->mark >= *mark && entry->mark == entry->applied + entry->dropped);
        *mark = entry->mark;
    }
}

static void check_between(const struct round_event *event) {
    bool held = !machine.leading || !machine.started || machine.returning_mask != 0 ||
                members_connected(&machine.members) < machine.options.min_workers;
    for (uint32_t f = 0; f < seen.fragments; f++) {
        bool committed = event->kind == ROUND_EVENT_COMMITTED && event->fragment == f;
        CHECK(machine.fragments[f].version == seen.versions[f] + committed);
        seen.versions[f] += committed;
        CHECK(machine.fragments[f].closing == seen.closing[f]);
        remember_marks(f);
        if (!held)
            check_nothing_stands_open(f);
    }
    CHECK(event->kind != ROUND_EVENT_TICK || round_deadline_us(&machine) > seen.now_us);
}

static void feed(struct round_event event) {
    event.now_us = seen.now_us;
    actions.count = 0;
    if (event.kind == ROUND_EVENT_COMMITTED)
        seen.closing[event.fragment] = false;
    round_step(&machine, &event, &actions);
    if (event.kind == ROUND_EVENT_COMMITTED) { /* a CLOSE of the same fragment in this step is the next version's */
        seen.versions[event.fragment]++;
        remember_marks(event.fragment);
    }
    check_actions(&event);
    if (event.kind == ROUND_EVENT_COMMITTED)
        seen.versions[event.fragment]--;
    check_between(&event);
}

/* ---- events from bytes ---- */

/* Mostly an offer that is good; each byte of `twist` makes it worse. */
static struct contribution some_offer(struct fuzz_input *input, uint32_t slot, uint32_t fragment) {
    uint8_t twist = fuzz_u8(input), length = fuzz_u8(input);
    const struct member *member = &machine.members.slot[slot];
    uint64_t version = machine.fragments[fragment].version;
    struct contribution c = {.slot = slot,
                             .incarnation = member->incarnation,
                             .fragment = fragment,
                             .base_version = version - (version < (twist & 3) ? 0 : (twist & 3)),
                             .send_step = machine.run_step + 1 + length % 4,
                             .tokens_from = machine.ledger.entries[slot][fragment].mark,
                             .payload_bytes = PAYLOAD_BYTES};
    c.tokens = 1 + length / 4;
    c.tokens_to = c.tokens_from + c.tokens + (twist >> 2 & 3);
    if (twist & 16)
        c.tokens_from = c.tokens_from > 0 ? c.tokens_from - 1 : 1;
    if (twist & 32)
        c.payload_hash[0] = length;
    if (twist & 64)
        c.incarnation = length;
    if (twist & 128) {
        c.base_version = version + length % 3;
        c.payload_bytes += length & 1;
        c.tokens_to = c.tokens_from + (UINT64_C(1) << (length % TOKENS_MAX_BITS));
    }
    return c;
}

static void offer_all_fragments(uint32_t slot) {
    for (uint32_t f = 0; f < seen.fragments; f++) {
        struct fuzz_input nothing = {NULL, 0};
        feed((struct round_event){
            .kind = ROUND_EVENT_OFFER, .slot = slot, .contribution = some_offer(&nothing, slot, f)});
    }
}

static void commit_if_closing(uint32_t fragment) {
    if (machine.fragments[fragment].closing)
        feed((struct round_event){
            .kind = ROUND_EVENT_COMMITTED, .fragment = fragment, .version = machine.fragments[fragment].version + 1});
}

/* A version as a commit of an earlier outer says it; before LEAD only. */
static void adopt(struct fuzz_input *input, uint32_t fragment) {
    if (machine.leading)
        return;
    static struct commit commit;
    memset(&commit, 0, sizeof commit);
    commit.fragment = fragment;
    commit.version = 1 + fuzz_u8(input);
    commit.run_step = 1 + fuzz_u8(input);
    for (int i = 0; i < SLOTS; i++) {
        uint64_t applied = fuzz_u8(input), dropped = applied >> 6;
        if (applied > 0)
            commit.totals[commit.total_count++] = (struct total){slots[i], applied + dropped, applied, dropped};
    }
    round_adopt(&machine, &commit);
    seen.versions[fragment] = commit.version;
    for (int i = 0; i < SLOTS; i++)
        seen.marks[slots[i]][fragment] = 0; /* of this version, whatever an earlier one said */
    remember_marks(fragment);
}

/* Kinds above those of round.h are whole scenes, so that a short input gets far. */
enum { SCENE_ADOPT = ROUND_EVENT_FINAL + 1, SCENE_OFFER_ALL, SCENE_OFFER_WHOLE, SCENE_TICK_AT_DEADLINE, SCENE_COUNT };

static void some_event(struct fuzz_input *input) {
    uint8_t kind = fuzz_u8(input) % SCENE_COUNT, where = fuzz_u8(input);
    uint32_t slot = slots[where % SLOTS], fragment = (where / SLOTS) % seen.fragments;
    const struct round_place *place = &machine.fragments[fragment].places[slot];
    struct round_event event = {.kind = (enum round_event_kind)kind, .slot = slot, .fragment = fragment};
    switch (kind) {
    case ROUND_EVENT_LEAD:
        if (machine.leading)
            return;
        event.mask = fuzz_u8(input);
        break;
    case ROUND_EVENT_TICK:
        seen.now_us += (uint64_t)fuzz_u16(input) << 8;
        break;
    case ROUND_EVENT_LATE:
        event.late_us = (uint64_t)fuzz_u16(input) << 8;
        seen.now_us += event.late_us;
        break;
    case ROUND_EVENT_JOIN: /* the daemon hears JOINED only behind its own STATE, which an outer says that leads */
        if (!machine.leading)
            return;
        event.incarnation = fuzz_u8(input) % 4;
        event.has_validation = event.incarnation & 1;
        event.step = fuzz_u8(input);
        event.tokens = fuzz_u16(input);
        break;
    case ROUND_EVENT_OFFER:
        event.contribution = some_offer(input, slot, fragment);
        break;
    case ROUND_EVENT_WHOLE:
    case ROUND_EVENT_BROKEN:
        event.version = place->contribution.base_version;
        event.code = OFFER_REFUSED_NOT_FINITE;
        break;
    case ROUND_EVENT_COMMITTED:
        commit_if_closing(fragment);
        return;
    case ROUND_EVENT_TOKENS:
    case ROUND_EVENT_DONE:
        event.tokens = fuzz_u32(input);
        break;
    case ROUND_EVENT_FINAL:
        event.has_eval = where >> 7;
        break;
    case SCENE_ADOPT:
        adopt(input, fragment);
        return;
    case SCENE_OFFER_ALL:
        offer_all_fragments(slot);
        return;
    case SCENE_OFFER_WHOLE:
        event.kind = ROUND_EVENT_OFFER;
        event.contribution = some_offer(input, slot, fragment);
        feed(event);
        event.kind = ROUND_EVENT_WHOLE;
        event.version = place->contribution.base_version;
        break;
    case SCENE_TICK_AT_DEADLINE:
        if (round_deadline_us(&machine) != UINT64_MAX && round_deadline_us(&machine) > seen.now_us)
            seen.now_us = round_deadline_us(&machine);
        event.kind = ROUND_EVENT_TICK;
        break;
    default: /* LEAVE, BLOCKED, REACHED: slot only */
        break;
    }
    feed(event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int32_t quorums[] = {0, 0, 1, 2, 3, -50, -100, 70};
    static const uint64_t stales[] = {0, 1, 2, ROUND_STALE_QUORUM};
    struct fuzz_input input = {data, size};
    uint8_t workers = fuzz_u8(&input), fragments = fuzz_u8(&input); /* all fragments are slow: one input in 256 */
    struct round_options options = {.workers = 1 + workers % 4,
                                    .fragments = fragments == UINT8_MAX ? MESSAGE_FRAGMENTS_MAX : 1 + fragments % 3,
                                    .quorum = quorums[fuzz_u8(&input) % 8],
                                    .min_workers = 1 + fuzz_u8(&input) % 3,
                                    .stale = stales[fuzz_u8(&input) % 4]};
    uint8_t grace = fuzz_u8(&input), restored = fuzz_u8(&input);
    options.grace_us = grace == 0 ? ROUND_GRACE_AUTO : (int64_t)grace << 12;
    options.started = restored & 1;
    options.ended = (restored & 3) == 3;
    options.finished = (restored & 5) == 5;
    for (uint32_t f = 0; f < options.fragments; f++)
        options.payload_bytes[f] = PAYLOAD_BYTES;
    memset(&seen, 0, sizeof seen);
    seen.now_us = 1;
    seen.fragments = options.fragments;
    seen.start = options.started;
    seen.end = options.ended;
    seen.finish = options.finished;
    round_open(&machine, &options);
    while (input.left > 0)
        some_event(&input);
    return 0;
}
