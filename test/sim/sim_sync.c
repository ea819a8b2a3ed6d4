/* sim_sync: the sync thread: sessions, uploads and downloads, without bytes. */
#include "sim/sim.h"
#include <string.h>

enum { SILENCE_S = 10, DIFFERS_MAX = 3 };

void sim_sync_say(uint32_t slot, struct sim_message *message) {
    if (!sim_effect(slot))
        return;
    message->session = message->type == MESSAGE_HELLO ? 0 : world.workers[slot].session;
    sim_net_send(slot, message->type == SIM_BULK ? LANE_UP_BULK : LANE_UP, message);
}

static void offer(struct sim_worker *worker, uint32_t f) {
    struct sim_message message = {.type = MESSAGE_OFFER, .offer = worker->pieces[f].offer};
    worker->pieces[f].again = false;
    if (worker->joined && !worker->pieces[f].encoding && !sync_record_is_doomed(&worker->machine, f))
        sim_sync_say(worker->slot, &message);
}

/* Encoded in the order of the sends, while training goes on. */
void sim_sync_send(uint32_t slot, uint32_t fragment) {
    struct sim_worker *worker = &world.workers[slot];
    uint64_t from_us = worker->encoded_us > world.now_us ? worker->encoded_us : world.now_us;
    worker->encoded_us = from_us + sim_below(world.config.step_us);
    worker->pieces[fragment].encoding = true;
    sim_schedule(worker->encoded_us, EVENT_ENCODED, slot, worker->pieces[fragment].content, worker->life);
}

void sim_sync_on_encoded(uint32_t slot, uint32_t content, uint64_t life) {
    struct sim_worker *worker = &world.workers[slot];
    struct sim_piece *piece = &worker->pieces[world.contents[content].fragment];
    if (!worker->alive || worker->life != life)
        return;
    if (world.now_us < worker->paused_until_us) {
        sim_schedule(worker->paused_until_us + 2, EVENT_ENCODED, slot, content, life);
        return;
    }
    if (piece->content != content)
        return;
    piece->encoding = false;
    if (piece->uploading)
        offer(worker, world.contents[content].fragment);
    sim_oracle_worker(slot);
}

void sim_sync_say_done(uint32_t slot) {
    struct sim_worker *worker = &world.workers[slot];
    struct sim_message message = {.type = MESSAGE_DONE, .step = worker->machine.step, .tokens = worker->machine.tokens};
    if (worker->joined)
        sim_sync_say(slot, &message);
}

void sim_sync_say_final(uint32_t slot) {
    struct sim_worker *worker = &world.workers[slot];
    struct sim_message message = {.type = MESSAGE_FINAL, .has_eval = worker->has_validation};
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        message.state = sim_hash(message.state, worker->pieces[f].g_state);
        message.damaged = message.damaged || worker->pieces[f].damaged;
    }
    if (worker->joined)
        sim_sync_say(slot, &message);
}

/* ---- downloads ---- */

/* One at a time per fragment, the oldest first. */
static void get_next(struct sim_worker *worker, uint32_t f) {
    for (uint32_t i = 0; i < worker->pieces[f].queue_count; i++) {
        struct sim_entry *entry = &worker->pieces[f].queue[i];
        if (entry->complete)
            continue;
        if (entry->granted)
            return;
        entry->granted = worker->session != 0;
        struct sim_message message = {.type = MESSAGE_GRANT,
                                      .kind = entry->snapshot ? TRANSFER_SNAPSHOT : TRANSFER_COMMIT,
                                      .fragment = f,
                                      .version = world.commits[entry->commit].head.version};
        if (worker->session != 0)
            sim_sync_say(worker->slot, &message);
        return;
    }
}

/* In the order of the sends: the outer takes a later step for the sign that no earlier one comes. */
static void offer_all(struct sim_worker *worker) {
    for (uint64_t least = 0; least != UINT64_MAX;) {
        uint64_t next = UINT64_MAX;
        for (uint32_t f = 0; f < world.config.fragments; f++) {
            const struct sim_piece *piece = &worker->pieces[f];
            if (piece->uploading && piece->offer.send_step == least)
                offer(worker, f);
            else if (piece->uploading && piece->offer.send_step > least && piece->offer.send_step < next)
                next = piece->offer.send_step;
        }
        least = next;
    }
}

static void ask_again(struct sim_worker *worker, uint32_t f) {
    for (uint32_t i = 0; i < worker->pieces[f].queue_count; i++)
        worker->pieces[f].queue[i].granted = false;
    get_next(worker, f);
}

/* The daemon stops and says so; the person whom it tells starts it in a new directory. */
static void lost(struct sim_worker *worker, uint32_t f) {
    TRACE("worker %llu: the run stands at its beginning, and this worker bears more of fragment %llu", worker->slot, f);
    DEMAND(world.config.rollbacks, "[4] worker %u bears a trained fragment %u, and the run stands at its beginning",
           worker->slot, f);
    sim_worker_kill(worker->slot);
    worker->checkpoints[0].valid = worker->checkpoints[1].valid = false;
    worker->logged_tokens = 0;
    sim_schedule(world.now_us + SIM_SECOND, EVENT_START_WORKER, worker->slot, 0, 0);
}

static void follow_feed(struct sim_worker *worker, struct follow_event event, uint32_t commit) {
    struct follow_actions actions;
    actions.count = 0;
    follow_step(&worker->follow, &event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct follow_action *action = &actions.list[i];
        struct sim_piece *piece = &worker->pieces[action->fragment];
        struct sim_message message = {0};
        switch (action->kind) {
        case FOLLOW_ACTION_FETCH:
            message.type = MESSAGE_FETCH;
            message.fragment = action->fragment;
            message.heads[0] = action->have;
            sim_sync_say(worker->slot, &message);
            break;
        case FOLLOW_ACTION_RECEIVE:
            DEMAND(action->index == piece->queue_count, "RECEIVE at another place than the end of the queue");
            piece->queue[piece->queue_count++] =
                (struct sim_entry){.commit = commit, .snapshot = event.kind == FOLLOW_EVENT_SNAPSHOT};
            get_next(worker, action->fragment);
            break;
        case FOLLOW_ACTION_DROP:
            piece->queue_count = 0;
            break;
        case FOLLOW_ACTION_JOINED:
            worker->joined = true;
            message.type = MESSAGE_JOINED;
            message.step = sync_joined_step(&worker->machine);
            message.tokens = worker->machine.tokens;
            TRACE("worker %llu has joined at step %llu", worker->slot, message.step);
            sim_sync_say(worker->slot, &message);
            offer_all(worker);
            if (worker->done_said)
                sim_sync_say_done(worker->slot);
            if (worker->final_said)
                sim_sync_say_final(worker->slot);
            break;
        case FOLLOW_ACTION_LOST:
            lost(worker, action->fragment);
            break;
        }
    }
}

static uint64_t mark_of(const struct commit *commit, uint32_t slot) {
    for (uint32_t i = 0; i < commit->total_count; i++)
        if (commit->totals[i].slot == slot)
            return commit->totals[i].mark;
    return 0;
}

static void note_newest(struct sim_worker *worker, const struct commit *commit) {
    if (commit->run_step < worker->newest_step)
        return;
    worker->newest_step = commit->run_step;
    worker->newest_mask = 0;
    for (uint32_t i = 0; i < commit->counted_count; i++)
        worker->newest_mask |= (uint64_t)1 << commit->counted[i].slot;
}

/* Its state hash was wrong here: the fragment is fetched whole; a machine that goes on like this stops. */
static bool differs(struct sim_worker *worker, uint32_t f) {
    TRACE("worker %llu: the state of fragment %llu differs", worker->slot, f);
    world.counts.differs++;
    DEMAND(worker->pieces[f].damaged, "[2] worker %u: the state of fragment %u differs, though its copy is sound",
           worker->slot, f);
    if (++worker->pieces[f].differed == DIFFERS_MAX) {
        sim_worker_kill(worker->slot);
        sim_schedule(world.now_us + SIM_SECOND, EVENT_START_WORKER, worker->slot, 0, 0);
        return false;
    }
    follow_feed(worker, (struct follow_event){.kind = FOLLOW_EVENT_DIFFERS, .fragment = f}, SIM_NOBODY);
    return true;
}

/* The oldest entry that is whole is prepared aside when its place is free. */
static bool prepare(struct sim_worker *worker, uint32_t f) {
    struct sim_piece *piece = &worker->pieces[f];
    if (piece->queue_count == 0 || !piece->queue[0].complete || worker->machine.fragments[f].ready)
        return false;
    if (worker->connected && !worker->follow.stated)
        return false; /* what is held stays what HELLO said: an outer that is about to lead counts on it */
    struct sim_entry entry = piece->queue[0];
    const struct sim_commit *commit = &world.commits[entry.commit];
    uint64_t state = entry.snapshot ? entry.bytes : sim_hash(piece->g_state, entry.bytes);
    if (state != commit->state)
        return differs(worker, f);
    if (!entry.snapshot)
        piece->differed = 0;
    piece->next_commit = entry.commit;
    piece->next_state = state;
    piece->queue_count--;
    memmove(piece->queue, piece->queue + 1, piece->queue_count * sizeof piece->queue[0]);
    sim_oracle_prepared(worker->slot, f);
    note_newest(worker, &commit->commit);
    sim_worker_tell(worker->slot, (struct sync_event){.kind = SYNC_EVENT_READY,
                                                      .fragment = f,
                                                      .version = commit->head.version,
                                                      .mark = mark_of(&commit->commit, worker->slot),
                                                      .run_step = commit->commit.run_step,
                                                      .jump = entry.snapshot});
    follow_feed(worker, (struct follow_event){.kind = FOLLOW_EVENT_APPLIED, .fragment = f}, SIM_NOBODY);
    if (piece->again && piece->uploading)
        offer(worker, f);
    get_next(worker, f);
    sim_worker_wake(worker->slot);
    return true;
}

void sim_sync_prepare(uint32_t slot) {
    struct sim_worker *worker = &world.workers[slot];
    for (uint32_t f = 0; f < world.config.fragments; f++)
        while (worker->alive && prepare(worker, f))
            continue;
}

static void on_bulk(struct sim_worker *worker, const struct sim_message *message) {
    struct sim_piece *piece = &worker->pieces[message->fragment];
    for (uint32_t i = 0; i < piece->queue_count; i++) {
        struct sim_entry *entry = &piece->queue[i];
        const struct sim_commit *commit = &world.commits[entry->commit];
        bool named =
            entry->snapshot == (message->kind == TRANSFER_SNAPSHOT) && commit->head.version == message->version;
        if (!named || entry->complete)
            continue;
        entry->granted = false;
        if (message->state != (entry->snapshot ? commit->state : commit->payload))
            break; /* of another branch: its hash says so; asked for again */
        entry->complete = true;
        entry->bytes = message->state;
    }
    get_next(worker, message->fragment);
}

/* ---- an outer that takes over what is held here ---- */

static void serve(struct sim_worker *worker, uint32_t f) {
    const struct sim_piece *piece = &worker->pieces[f];
    bool ready = worker->machine.fragments[f].ready;
    worker->serves[f].open = true;
    worker->serves[f].commit = ready ? piece->next_commit : piece->g_commit;
    worker->serves[f].state = ready ? piece->next_state : piece->g_state;
    struct sim_message message = {.type = MESSAGE_SNAPSHOT,
                                  .fragment = f,
                                  .commit = worker->serves[f].commit,
                                  .version = world.commits[worker->serves[f].commit].head.version};
    sim_sync_say(worker->slot, &message);
}

static void on_grant(struct sim_worker *worker, const struct sim_message *grant) {
    struct sim_message bulk = {
        .type = SIM_BULK, .kind = grant->kind, .fragment = grant->fragment, .version = grant->version};
    const struct sim_piece *piece = &worker->pieces[grant->fragment];
    if (grant->kind == TRANSFER_CONTRIBUTION) {
        if (!piece->uploading || piece->offer.base_version != grant->version)
            return;
        bulk.content = piece->content;
    } else {
        if (!worker->serves[grant->fragment].open ||
            world.commits[worker->serves[grant->fragment].commit].head.version != grant->version)
            return;
        bulk.state = worker->serves[grant->fragment].state;
    }
    sim_sync_say(worker->slot, &bulk);
}

/* ---- sessions ---- */

void sim_sync_connected(uint32_t slot) {
    struct sim_worker *worker = &world.workers[slot];
    struct sim_message hello = {.type = MESSAGE_HELLO,
                                .incarnation = worker->incarnation,
                                .step = worker->newest_step,
                                .mask = worker->newest_mask};
    for (uint32_t f = 0; f < world.config.fragments; f++)
        hello.heads[f] = worker->follow.list[f].held;
    worker->connected = true;
    worker->session = 0;
    worker->heard_us = world.now_us;
    follow_feed(worker, (struct follow_event){.kind = FOLLOW_EVENT_SESSION}, SIM_NOBODY);
    sim_sync_say(slot, &hello);
}

void sim_sync_lost(uint32_t slot) {
    struct sim_worker *worker = &world.workers[slot];
    worker->session = 0;
    worker->connected = worker->joined = false;
    sim_net_dial(slot);
}

static void on_welcome(struct sim_worker *worker, const struct sim_message *welcome) {
    worker->session = welcome->session;
    worker->joined = false;
    worker->returning = true;
    memset(worker->serves, 0, sizeof worker->serves);
    follow_feed(worker, (struct follow_event){.kind = FOLLOW_EVENT_SESSION}, SIM_NOBODY);
    struct sim_message ready = {
        .type = MESSAGE_READY, .has_validation = worker->has_validation, .tokens = worker->machine.tokens};
    sim_sync_say(worker->slot, &ready);
}

static void on_state(struct sim_worker *worker, const struct sim_message *state) {
    worker->started = worker->started || state->started;
    worker->finished = worker->final_said =
        false; /* said again when it is still so: this outer may have lost the end */
    if (worker->mode == MODE_FINAL)
        worker->mode = MODE_END;
    memset(worker->serves, 0, sizeof worker->serves);
    sim_worker_tell(worker->slot, (struct sync_event){.kind = SYNC_EVENT_COUNTER, .tokens = state->tokens});
    for (uint32_t f = 0; f < world.config.fragments; f++)
        ask_again(worker, f);
    follow_feed(worker, (struct follow_event){.kind = FOLLOW_EVENT_STATE, .heads = state->heads}, SIM_NOBODY);
}

static void on_commit(struct sim_worker *worker, const struct sim_message *message) {
    const struct sim_commit *commit = &world.commits[message->commit];
    struct follow_event event = {.kind = message->type == MESSAGE_COMMIT ? FOLLOW_EVENT_COMMIT : FOLLOW_EVENT_SNAPSHOT,
                                 .fragment = message->fragment,
                                 .head = commit->head};
    memcpy(event.parent, commit->commit.parent, sizeof event.parent);
    follow_feed(worker, event, message->commit);
    if (message->type == MESSAGE_SNAPSHOT)
        ask_again(worker, message->fragment); /* the same one again: who says it has forgotten what was granted */
}

static void on_offer_refused(struct sim_worker *worker, const struct sim_message *refused) {
    struct sim_piece *piece = &worker->pieces[refused->fragment];
    piece->again =
        refused->code == OFFER_REFUSED_DUPLICATE && piece->uploading && piece->offer.base_version == refused->version;
    if (refused->code == OFFER_REFUSED_NOT_FINITE || refused->code == OFFER_REFUSED_NORM)
        sim_worker_tell(worker->slot, (struct sync_event){.kind = SYNC_EVENT_REFUSED,
                                                          .fragment = refused->fragment,
                                                          .version = refused->version});
}

static void on_message(struct sim_worker *worker, const struct sim_message *message) {
    switch (message->type) {
    case MESSAGE_STATE:
        on_state(worker, message);
        break;
    case MESSAGE_COMMIT:
    case MESSAGE_SNAPSHOT:
        on_commit(worker, message);
        break;
    case SIM_BULK:
        on_bulk(worker, message);
        break;
    case MESSAGE_GRANT:
        on_grant(worker, message);
        break;
    case MESSAGE_FETCH:
        serve(worker, message->fragment);
        break;
    case MESSAGE_OFFER_REFUSED:
        on_offer_refused(worker, message);
        break;
    case MESSAGE_START:
        worker->started = true;
        break;
    case MESSAGE_END:
        worker->ended = true;
        break;
    case MESSAGE_FINISH:
        worker->finished = true;
        if (worker->mode == MODE_FINAL)
            worker->mode = MODE_END;
        for (uint32_t f = 0; f < world.config.fragments; f++)
            worker->final_versions[f] = message->heads[f].version;
        break;
    default:
        break;
    }
    sim_sync_prepare(worker->slot);
}

void sim_sync_hears(uint32_t slot, const struct sim_message *message) {
    struct sim_worker *worker = &world.workers[slot];
    worker->heard_us = world.now_us;
    if (message->type == MESSAGE_WELCOME)
        on_welcome(worker, message);
    else if (worker->session != 0 && message->session == worker->session)
        on_message(worker, message);
    if (!worker->alive)
        return;
    sim_worker_wake(slot);
    sim_oracle_worker(slot);
}

/* WAITING is taken for: it can send nothing. So not while a send is still to be offered. */
static void report(struct sim_worker *worker) {
    struct sim_message message = {.type = MESSAGE_TELEMETRY,
                                  .step = worker->step, /* also where it jumped to */
                                  .tokens = worker->machine.tokens,
                                  .waiting = worker->mode == MODE_WAIT};
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        message.heads[f].version = worker->machine.fragments[f].version;
        message.waiting = message.waiting && !worker->pieces[f].encoding;
    }
    sim_sync_say(worker->slot, &message);
}

/* Every second: telemetry, and a look at the outer's silence. */
void sim_worker_on_tick(uint32_t slot, uint64_t life) {
    struct sim_worker *worker = &world.workers[slot];
    if (!worker->alive || worker->life != life)
        return;
    sim_schedule(world.now_us + SIM_SECOND, EVENT_WORKER_TICK, slot, 0, life);
    if (world.now_us < worker->paused_until_us)
        return;
    if (worker->session != 0)
        report(worker);
    if (worker->connected && world.now_us > worker->heard_us + SILENCE_S * SIM_SECOND) {
        TRACE("worker %llu: the outer is silent", slot);
        sim_net_cut(slot, sim_chance(2), false);
        sim_sync_lost(slot);
    }
    sim_worker_wake(slot);
}
