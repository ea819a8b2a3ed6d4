/* A worker's two machines, sync and follow, joined as sync_download.c joins them, against a model of the run: a tree of
 * commits that an outer makes, loses and makes anew, and a link that is lost. Input: 4 bytes of options (strict: 5), then
 * steps of the world: u8 kind, its bytes.
 *
 * What must hold, whatever happens: work is neither lost nor doubled by a merge; a send begins at the mark of the
 * version that it is measured from; on no branch of the run is more of this worker's work applied than it has done; a
 * queue is a chain; JOINED is said when all is here. At the end of the input the world heals: then the worker must
 * come to hold the run's heads, and to DONE. */
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "outer/recovery.h"
#include "worker/follow.h"
#include "worker/sync_machine.h"

enum {
    FRAGMENTS = 3,
    BRANCHES = 12,
    VERSIONS = 128,
    OFFERS_KEPT = 4,
    MAIL = 64,
    COMMITS_KEPT = 8,
    HEALING_TURNS = 400,
    HEALING_VERSIONS = 60,
    STALE_FAR = 20 /* as a quorum has it, but less than the versions of the healing */
};

/* ---- the run: of each fragment a tree of versions ---- */

struct version {
    uint64_t mark;    /* of this worker's slot */
    uint64_t applied; /* of its tokens */
    uint64_t run_step;
};
struct offer {
    bool is;
    uint64_t base, from, to, tokens, step;
};
static struct {
    uint32_t fragments;
    uint64_t epoch; /* number of the branch + 1 */
    uint64_t newest[FRAGMENTS];
    uint64_t forked_at[FRAGMENTS][BRANCHES]; /* versions up to it are of the branch before */
    struct version versions[FRAGMENTS][BRANCHES][VERSIONS];
    struct offer offers[FRAGMENTS][OFFERS_KEPT]; /* what the worker said, newest first */
    uint64_t done[FRAGMENTS];                    /* tokens that the worker has trained, in all its lives */
    bool healing;
} run;

static uint32_t branch_of(uint32_t f, uint64_t version) {
    uint32_t branch = (uint32_t)run.epoch - 1;
    while (branch > 0 && version <= run.forked_at[f][branch])
        branch--;
    return branch;
}

static struct version *version_at(uint32_t f, uint64_t version) {
    return &run.versions[f][branch_of(f, version)][version];
}

static struct head head_on(uint32_t f, uint32_t branch, uint64_t version) {
    while (branch > 0 && version <= run.forked_at[f][branch])
        branch--;
    struct head head = {.epoch = version == 0 ? 0 : branch + 1, .version = version};
    bytes_store_u64(head.hash, version + 1);
    head.hash[8] = version == 0 ? 0 : (uint8_t)(branch + 1);
    head.hash[9] = (uint8_t)(f + 1);
    return head;
}

static struct head head_of(uint32_t f, uint64_t version) {
    return head_on(f, (uint32_t)run.epoch - 1, version);
}

/* Of any version, also of a branch that was left. */
static struct head parent_of(uint32_t f, const struct head *head) {
    return head_on(f, head->hash[8] - 1U, head->version - 1);
}

static const struct version *version_of_head(uint32_t f, const struct head *head) {
    return &run.versions[f][head->version == 0 ? 0 : head->hash[8] - 1][head->version];
}

/* ---- the worker ---- */

struct saved { /* its checkpoint */
    uint64_t step, tokens;
    struct sync_fragment fragments[MESSAGE_FRAGMENTS_MAX];
    struct head held[FRAGMENTS];
};
static struct sync_machine_options options;
static struct sync_machine machine;
static struct follow follow;
static struct head ready[FRAGMENTS], merged[FRAGMENTS];
static struct saved saved;
static bool waiting, lost, done_given, linked;
static uint32_t joined_given;

/* ---- the link, both ways ---- */

struct letter {
    enum follow_event_kind kind; /* STATE, COMMIT, SNAPSHOT */
    uint32_t fragment;
    struct head head;
    struct head heads[FRAGMENTS];
};
static struct letter mail[MAIL];
static uint32_t mail_first, mail_count;

static void lose_link(void) {
    linked = false;
    mail_count = 0;
}

static void post(enum follow_event_kind kind, uint32_t f, struct head head) {
    if (!linked)
        return;
    if (mail_count == MAIL) {
        lose_link();
        return;
    }
    struct letter *letter = &mail[(mail_first + mail_count++) % MAIL];
    *letter = (struct letter){.kind = kind, .fragment = f, .head = head};
    for (uint32_t i = 0; i < run.fragments; i++)
        letter->heads[i] = head_of(i, run.newest[i]);
}

static void answer_fetch(uint32_t f, const struct head *have) {
    struct head kept[COMMITS_KEPT + 1];
    uint64_t newest = run.newest[f];
    uint32_t count = newest < COMMITS_KEPT ? (uint32_t)newest + 1 : COMMITS_KEPT + 1;
    for (uint32_t i = 0; i < count; i++)
        kept[i] = head_of(f, newest - (count - 1 - i));
    if (newest == 0)
        return;
    switch (recovery_answer(have, kept, count)) {
    case RECOVERY_ANSWER_NOTHING:
        post(FOLLOW_EVENT_COMMIT, f, kept[count - 1]);
        break;
    case RECOVERY_ANSWER_REPLAY:
        for (uint32_t i = 0; i < count; i++)
            if (kept[i].version > have->version)
                post(FOLLOW_EVENT_COMMIT, f, kept[i]);
        break;
    case RECOVERY_ANSWER_SNAPSHOT:
        post(FOLLOW_EVENT_SNAPSHOT, f, kept[count - 1]);
        break;
    }
}

/* ---- follow ---- */

static void check_queue(uint32_t f) {
    const struct follow_fragment *fragment = &follow.list[f];
    CHECK(fragment->queue_count <= FOLLOW_QUEUED_MAX);
    for (uint32_t i = 0; i < fragment->queue_count; i++) {
        if (i == 0 && fragment->first_is_snapshot)
            continue;
        struct head parent = parent_of(f, &fragment->queue[i]);
        CHECK(recovery_heads_equal(&parent, i == 0 ? &fragment->held : &fragment->queue[i - 1]));
    }
}

static void feed_follow(struct follow_event event) {
    static struct follow_actions actions;
    uint32_t before = event.fragment < run.fragments ? follow.list[event.fragment].queue_count : 0, received = 0;
    actions.count = 0;
    follow_step(&follow, &event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct follow_action *action = &actions.list[i];
        CHECK(action->fragment < run.fragments);
        switch (action->kind) {
        case FOLLOW_ACTION_FETCH:
            CHECK(follow.list[action->fragment].fetching);
            answer_fetch(action->fragment, &action->have);
            break;
        case FOLLOW_ACTION_RECEIVE:
            CHECK(action->fragment == event.fragment && action->index == before && ++received == 1);
            CHECK(event.kind == FOLLOW_EVENT_COMMIT || event.kind == FOLLOW_EVENT_SNAPSHOT);
            break;
        case FOLLOW_ACTION_DROP:
            before = action->fragment == event.fragment ? 0 : before;
            break;
        case FOLLOW_ACTION_JOINED:
            CHECK(++joined_given == 1 && follow.joined);
            for (uint32_t f = 0; f < run.fragments; f++)
                CHECK(!recovery_head_is_newer(&follow.wanted[f], &follow.list[f].held));
            break;
        case FOLLOW_ACTION_LOST:
            lost = true;
            break;
        }
    }
    for (uint32_t f = 0; f < run.fragments; f++)
        check_queue(f);
}

static void deliver(void) {
    if (mail_count == 0)
        return;
    struct letter *letter = &mail[mail_first % MAIL];
    mail_first++;
    mail_count--;
    struct follow_event event = {.kind = letter->kind, .fragment = letter->fragment, .head = letter->head};
    if (letter->kind == FOLLOW_EVENT_STATE) {
        event.heads = letter->heads;
        joined_given = 0;
    } else {
        struct head parent = parent_of(letter->fragment, &letter->head);
        memcpy(event.parent, parent.hash, sizeof event.parent);
    }
    feed_follow(event);
}

/* ---- sync ---- */

static void check_send(const struct sync_action *a) {
    const struct sync_fragment *fragment = &machine.fragments[a->fragment];
    const struct head *base = fragment->ready ? &ready[a->fragment] : &merged[a->fragment];
    CHECK(a->version == base->version && a->tokens_from == version_of_head(a->fragment, base)->mark);
    CHECK(a->tokens_to == machine.tokens && a->tokens >= 1 && a->tokens <= a->tokens_to - a->tokens_from);
    CHECK(a->tokens <= fragment->work && a->step == machine.step);
    struct offer *offers = run.offers[a->fragment];
    memmove(offers + 1, offers, (OFFERS_KEPT - 1) * sizeof *offers);
    offers[0] = (struct offer){true, a->version, a->tokens_from, a->tokens_to, a->tokens, a->step};
}

static void feed_sync(struct sync_event event);

static void check_merge(const struct sync_action *a) {
    uint32_t f = a->fragment;
    struct sync_fragment before = machine.fragments[f];
    CHECK(before.ready && before.merging && a->version == ready[f].version);
    feed_sync((struct sync_event){.kind = SYNC_EVENT_MERGED, .fragment = f});
    const struct sync_fragment *after = &machine.fragments[f];
    uint64_t gone = a->kind == SYNC_ACTION_COVERED ? before.orphaned
                    : before.record.active && !after->record.active && before.record.tokens_to == before.ready_mark &&
                            before.ready_mark > before.mark
                        ? before.record.tokens
                        : 0;
    CHECK(after->work == before.work - gone);
    CHECK(a->kind != SYNC_ACTION_COUNTED || (gone == before.record.tokens && gone > 0));
    CHECK(!after->ready && after->version == ready[f].version && after->mark == before.ready_mark);
    merged[f] = ready[f];
}

static void feed_sync(struct sync_event event) {
    struct sync_actions actions;
    actions.count = 0;
    sync_step(&machine, &event, &actions);
    CHECK(event.kind != SYNC_EVENT_MERGED || actions.count == 0);
    bool waits = false;
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct sync_action *a = &actions.list[i];
        CHECK(a->fragment < run.fragments);
        switch (a->kind) {
        case SYNC_ACTION_SEND:
            check_send(a);
            break;
        case SYNC_ACTION_COUNTED:
        case SYNC_ACTION_COVERED:
        case SYNC_ACTION_SHIFT:
        case SYNC_ACTION_TAKE:
            check_merge(a);
            break;
        case SYNC_ACTION_RESET:
            CHECK(machine.fragments[a->fragment].work == 0 && !machine.fragments[a->fragment].record.active);
            break;
        case SYNC_ACTION_WAIT:
            CHECK(machine.fragments[a->fragment].record.active);
            waits = true;
            break;
        case SYNC_ACTION_DONE:
            CHECK(!done_given && machine.phase == SYNC_PHASE_DONE);
            done_given = true;
            for (uint32_t f = 0; f < run.fragments; f++)
                CHECK(machine.fragments[f].work == 0 && !machine.fragments[f].record.active);
            break;
        case SYNC_ACTION_EXPIRE:
            break;
        }
    }
    if (event.kind == SYNC_EVENT_STEP || event.kind == SYNC_EVENT_BOUNDARY || event.kind == SYNC_EVENT_END)
        waiting = waits;
    CHECK(sync_ledger_check(&machine) && sync_run_clock(&machine, false) >= machine.step);
    CHECK(sync_run_clock(&machine, true) >= machine.step && sync_joined_step(&machine) <= machine.step);
}

static void train(uint64_t tokens, bool returning) {
    if (machine.phase != SYNC_PHASE_TRAINING) {
        feed_sync((struct sync_event){.kind = SYNC_EVENT_END});
        return;
    }
    if (waiting) {
        feed_sync((struct sync_event){.kind = SYNC_EVENT_BOUNDARY});
        return;
    }
    for (uint32_t f = 0; f < run.fragments; f++)
        run.done[f] += tokens;
    uint64_t step = sync_run_clock(&machine, returning) + 1;
    feed_sync((struct sync_event){.kind = SYNC_EVENT_STEP, .step = step, .tokens = tokens});
    for (uint32_t f = 0; f < run.fragments && !waiting; f++) {
        const struct sync_record *record = &machine.fragments[f].record;
        uint64_t patience = options.strict ? options.overlap_steps : options.drift;
        CHECK(!record->active || machine.step < record->step + patience || machine.fragments[f].merging ||
              machine.fragments[f].ready);
    }
}

/* The oldest version that is on its way is here and prepared, or differs. */
static void prepare(uint32_t f, bool differs) {
    if (follow.list[f].queue_count == 0 || machine.fragments[f].ready)
        return;
    struct head of_run = head_of(f, follow.list[f].queue[0].version);
    if (run.healing && !recovery_heads_equal(&of_run, &follow.list[f].queue[0]))
        return; /* nobody has the bytes of a branch that was left */
    if (differs) {
        feed_follow((struct follow_event){.kind = FOLLOW_EVENT_DIFFERS, .fragment = f});
        return;
    }
    ready[f] = follow.list[f].queue[0];
    const struct version *version = version_of_head(f, &ready[f]);
    feed_sync((struct sync_event){.kind = SYNC_EVENT_READY,
                                  .fragment = f,
                                  .version = ready[f].version,
                                  .mark = version->mark,
                                  .run_step = version->run_step,
                                  .jump = follow.list[f].first_is_snapshot});
    feed_follow((struct follow_event){.kind = FOLLOW_EVENT_APPLIED, .fragment = f});
}

/* ---- the outer ---- */

static const struct offer *acceptable(uint32_t f, uint32_t which) {
    const struct offer *offer = &run.offers[f][which];
    const struct version *newest = version_at(f, run.newest[f]);
    bool good = offer->is && offer->from == newest->mark && offer->base <= run.newest[f] &&
                run.newest[f] - offer->base <= options.stale;
    return good ? offer : NULL;
}

/* A new version, with the offer in it (NULL: of others only). */
static void commit(uint32_t f, const struct offer *offer, uint64_t others_step) {
    if (run.newest[f] + 1 + (run.healing ? 0 : HEALING_VERSIONS) >= VERSIONS)
        return;
    struct version next = *version_at(f, run.newest[f]);
    uint64_t step = offer != NULL ? offer->step : others_step;
    next.run_step = step > next.run_step ? step : next.run_step;
    if (offer != NULL) {
        next.mark = offer->to;
        next.applied += offer->tokens;
        CHECK(next.applied <= run.done[f]);
    }
    run.newest[f]++;
    *version_at(f, run.newest[f]) = next;
    post(FOLLOW_EVENT_COMMIT, f, head_of(f, run.newest[f]));
}

/* It comes back without its last versions. */
static void restart_outer(uint8_t forgets) {
    if (run.epoch == BRANCHES)
        return;
    lose_link();
    for (uint32_t f = 0; f < run.fragments; f++, forgets >>= 2) {
        uint64_t lost_versions = forgets & 3;
        if (run.newest[f] > lost_versions)
            run.newest[f] -= lost_versions;
        run.forked_at[f][run.epoch] = run.newest[f];
    }
    run.epoch++;
}

static void refuse(uint32_t f) {
    const struct sync_record *record = &machine.fragments[f].record;
    if (record->active && acceptable(f, 0) != NULL && run.offers[f][0].to == record->tokens_to) {
        run.offers[f][0].is = false;
        feed_sync((struct sync_event){.kind = SYNC_EVENT_REFUSED, .fragment = f, .version = record->base});
    }
}

/* ---- the worker's lives ---- */

static void save(void) {
    saved.step = machine.step;
    saved.tokens = machine.tokens;
    memcpy(saved.fragments, machine.fragments, sizeof saved.fragments);
    memcpy(saved.held, merged, sizeof saved.held);
}

/* Killed, and started from its checkpoint; its log knows how far its counter was. */
static void restart_worker(void) {
    uint64_t counter = machine.tokens;
    bool good = sync_resume(&machine, &options, saved.step, saved.tokens, saved.fragments);
    CHECK(good);
    memcpy(merged, saved.held, sizeof merged);
    follow_open(&follow, run.fragments, merged);
    waiting = done_given = false;
    lose_link();
    feed_sync((struct sync_event){.kind = SYNC_EVENT_COUNTER, .tokens = counter});
}

static void join_run(void) {
    linked = true;
    mail_count = 0;
    joined_given = 0;
    feed_follow((struct follow_event){.kind = FOLLOW_EVENT_SESSION});
    post(FOLLOW_EVENT_STATE, 0, (struct head){0});
}

/* ---- the world ---- */

static void some_event(struct fuzz_input *input) {
    uint8_t byte = fuzz_u8(input), more = byte >> 4;
    uint32_t f = more % run.fragments;
    switch (byte & 15) {
    case 0:
    case 1:
    case 2:
        train(1 + more, (byte & 3) == 2);
        break;
    case 3:
        feed_sync(
            (struct sync_event){.kind = machine.phase == SYNC_PHASE_TRAINING ? SYNC_EVENT_BOUNDARY : SYNC_EVENT_END});
        break;
    case 4:
        commit(f, NULL, 1 + fuzz_u8(input));
        break;
    case 5:
    case 6:
        commit(f, acceptable(f, more / run.fragments % OFFERS_KEPT), 1);
        break;
    case 7:
        deliver();
        break;
    case 8:
        for (uint32_t i = 0; i <= more; i++)
            deliver();
        break;
    case 9:
    case 10:
        prepare(f, false);
        break;
    case 11:
        prepare(f, more > 12);
        break;
    case 12:
        if (more < 4)
            save();
        else if (more < 8)
            restart_worker();
        else
            refuse(f);
        break;
    case 13:
        restart_outer(fuzz_u8(input));
        break;
    case 14:
        join_run();
        break;
    default:
        if (more == 15)
            feed_sync((struct sync_event){.kind = SYNC_EVENT_END});
        else
            lose_link();
        break;
    }
}

static bool all_is_well(void) {
    if (!done_given || !follow.joined)
        return false;
    for (uint32_t f = 0; f < run.fragments; f++) {
        struct head newest = head_of(f, run.newest[f]);
        if (!recovery_heads_equal(&follow.list[f].held, &newest))
            return false;
    }
    return true;
}

/* From here on the link holds, the outer counts what it may, others send now and then. */
static void heal(void) {
    run.healing = true;
    join_run();
    for (int turn = 0; turn < HEALING_TURNS && !lost && !all_is_well(); turn++) {
        while (mail_count > 0 && !lost)
            deliver();
        if (!linked)
            join_run();
        for (uint32_t f = 0; f < run.fragments; f++) {
            prepare(f, false);
            if (!machine.fragments[f].record.active)
                continue;
            if (acceptable(f, 0) != NULL)
                commit(f, acceptable(f, 0), 1);
            else if (turn % 8 == 0)
                commit(f, NULL, 1);
        }
        if (waiting && machine.phase == SYNC_PHASE_TRAINING)
            feed_sync((struct sync_event){.kind = SYNC_EVENT_BOUNDARY});
        feed_sync((struct sync_event){.kind = SYNC_EVENT_END});
    }
    CHECK(lost || all_is_well());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    memset(&run, 0, sizeof run);
    run.fragments = 1 + fuzz_u8(&input) % FRAGMENTS;
    run.epoch = 1;
    options = (struct sync_machine_options){.schedule = {run.fragments, 1 + fuzz_u8(&input) % 8}};
    uint8_t mode = fuzz_u8(&input);
    options.strict = mode & 1;
    options.lockstep = mode & 2;
    bool far = (mode & 4) && !options.strict && !options.lockstep;
    options.stale = far ? STALE_FAR : options.strict && options.lockstep ? 0 : 2;
    options.overlap_steps = options.strict ? fuzz_u8(&input) % options.schedule.every_steps : 0;
    options.drift = fuzz_u8(&input) % 12;
    sync_open(&machine, &options);
    for (uint32_t f = 0; f < run.fragments; f++)
        merged[f] = head_of(f, 0);
    follow_open(&follow, run.fragments, merged);
    waiting = lost = done_given = linked = false;
    mail_first = mail_count = joined_given = 0;
    save();
    while (input.left > 0 && !lost)
        some_event(&input);
    heal();
    return 0;
}
