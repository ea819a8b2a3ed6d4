/* sim_worker: the compute thread: steps, merges, waits, the end. Its arithmetic: theta - g is the set of the tokens whose work it holds. */
#include "sim/sim.h"
#include <string.h>

/* ---- actions of the sync machine ---- */

void sim_worker_tell(uint32_t slot, struct sync_event event) {
    static struct sync_actions none; /* large: not zeroed for every event */
    none.count = 0;
    sync_step(&world.workers[slot].machine, &event, &none);
    DEMAND(none.count == 0, "worker %u: event %d was answered by an action", slot, (int)event.kind);
}

static void send(struct sim_worker *worker, const struct sync_action *action) {
    uint32_t f = action->fragment;
    struct sim_piece *piece = &worker->pieces[f];
    piece->content = sim_oracle_sent(worker->slot, f, action, piece->g_commit);
    const struct sim_content *content = &world.contents[piece->content];
    piece->residual_pending = sim_hash(content->identity, 5);
    piece->uploading = true;
    piece->trained = 0;
    piece->offer = (struct contribution){.slot = worker->slot,
                                         .incarnation = worker->incarnation,
                                         .fragment = f,
                                         .base_version = action->version,
                                         .send_step = action->step,
                                         .tokens_from = action->tokens_from,
                                         .tokens_to = action->tokens_to,
                                         .tokens = action->tokens,
                                         .payload_bytes = SIM_PAYLOAD_BYTES + f};
    memcpy(piece->offer.payload_hash, &content->identity, sizeof content->identity);
    TRACE("worker %llu sends fragment %llu step %llu base %llu tokens_to %llu weight %llu", worker->slot, f,
          action->step, action->version, action->tokens_to, action->tokens);
    sim_sync_send(worker->slot, f);
}

static void merge(struct sim_worker *worker, const struct sync_action *action) {
    uint32_t f = action->fragment;
    struct sim_piece *piece = &worker->pieces[f];
    const struct sync_fragment *fragment = &worker->machine.fragments[f];
    TRACE("worker %llu merges fragment %llu version %llu, kind %llu, at step %llu", worker->slot, f, action->version,
          action->kind, worker->step);
    DEMAND(piece->next_commit != SIM_NOBODY, "worker %u merges fragment %u: nothing is prepared", worker->slot, f);
    piece->g_commit = piece->next_commit;
    piece->g_state = piece->next_state;
    piece->damaged = false;
    piece->next_commit = SIM_NOBODY;
    bool was_active = fragment->record.active && !fragment->record.behind_ready;
    sim_worker_tell(worker->slot, (struct sync_event){.kind = SYNC_EVENT_MERGED, .fragment = f});
    sim_oracle_merged(worker->slot, f, action->kind);
    if (action->kind == SYNC_ACTION_COVERED) {
        piece->residual = 0;
        world.counts.covered++;
    }
    if (!was_active || fragment->record.active)
        return;
    piece->uploading = false;
    bool applied = sim_oracle_is_applied(worker->slot, piece->g_commit, piece->content);
    bool counted = action->kind == SYNC_ACTION_COUNTED || action->kind == SYNC_ACTION_TAKE;
    if (counted && !applied)
        sim_oracle_same_numbers(worker->slot, f);
    if (counted || applied)
        piece->residual = action->kind == SYNC_ACTION_COVERED ? 0 : sim_hash(piece->residual_pending, 6);
    else /* on another branch it may count all the same */
        sim_work_unite(&piece->orphans, &world.contents[piece->content].work);
}

void sim_worker_feed(uint32_t slot, struct sync_event event, bool *wait) {
    struct sim_worker *worker = &world.workers[slot];
    struct sync_actions actions;
    actions.count = 0;
    sync_step(&worker->machine, &event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct sync_action *action = &actions.list[i];
        struct sim_piece *piece = &worker->pieces[action->fragment];
        switch (action->kind) {
        case SYNC_ACTION_SEND:
            send(worker, action);
            break;
        case SYNC_ACTION_COUNTED:
        case SYNC_ACTION_COVERED:
        case SYNC_ACTION_SHIFT:
        case SYNC_ACTION_TAKE:
            merge(worker, action);
            break;
        case SYNC_ACTION_EXPIRE:
            world.counts.expired++;
            if (!worker->machine.fragments[action->fragment].record.active)
                piece->uploading = false;
            break;
        case SYNC_ACTION_RESET:
            TRACE("worker %llu resets fragment %llu: %llu tokens dropped", slot, action->fragment, action->tokens);
            world.counts.resets++;
            sim_oracle_reset(slot, action->fragment, action->tokens);
            piece->residual = 0;
            piece->uploading = false;
            break;
        case SYNC_ACTION_WAIT:
            sim_oracle_waits(slot, action->fragment);
            *wait = true;
            break;
        case SYNC_ACTION_DONE:
            TRACE("worker %llu has nothing unsent", slot);
            worker->done_said = true;
            sim_sync_say_done(slot);
            break;
        }
    }
    sim_sync_prepare(slot);
}

/* ---- steps ---- */

static void at_the_end(struct sim_worker *worker) {
    bool wait = false;
    worker->mode = MODE_END;
    sim_worker_feed(worker->slot, (struct sync_event){.kind = SYNC_EVENT_END}, &wait);
    for (uint32_t f = 0; f < world.config.fragments; f++)
        if (!worker->finished || worker->machine.fragments[f].version < worker->final_versions[f])
            return;
    TRACE("worker %llu holds the final versions", worker->slot);
    worker->mode = MODE_FINAL;
    worker->final_said = true;
    sim_sync_say_final(worker->slot);
}

static void schedule_step(struct sim_worker *worker) {
    worker->mode = MODE_TRAIN;
    worker->scheduled = true;
    sim_schedule(world.now_us + sim_between(worker->step_us * 9 / 10, worker->step_us), EVENT_COMPUTE, worker->slot, 0,
                 worker->life);
}

static void next_step_or_end(struct sim_worker *worker) {
    uint64_t clock = sync_run_clock(&worker->machine, worker->returning && worker->joined);
    worker->returning = worker->returning && !worker->joined;
    if (clock > worker->step) {
        TRACE("worker %llu goes on from step %llu, not from %llu", worker->slot, clock, worker->step);
        worker->step = clock;
    }
    if (worker->step >= world.config.last_step || worker->ended || worker->finished)
        at_the_end(worker);
    else
        schedule_step(worker);
}

static void step(struct sim_worker *worker) {
    bool wait = false;
    worker->step++;
    world.counts.steps++;
    sim_oracle_step(worker->slot, worker->tokens_per_step);
    sim_worker_feed(
        worker->slot,
        (struct sync_event){.kind = SYNC_EVENT_STEP, .step = worker->step, .tokens = worker->tokens_per_step}, &wait);
    if (worker->machine.tokens > worker->logged_tokens)
        worker->logged_tokens = worker->machine.tokens;
    sim_store_take(worker->slot);
    if (wait && !worker->finished)
        worker->mode = MODE_WAIT;
    else
        next_step_or_end(worker);
}

static bool is_anything_ready(const struct sim_worker *worker) {
    for (uint32_t f = 0; f < world.config.fragments; f++)
        if (worker->machine.fragments[f].ready)
            return true;
    return false;
}

/* A process that starts trains on when it holds the run's heads. In strict mode a copy that is ready may have to wait for its step. */
static void catch_up(struct sim_worker *worker) {
    bool wait = false;
    if (!worker->started)
        return;
    sim_worker_feed(worker->slot, (struct sync_event){.kind = SYNC_EVENT_BOUNDARY}, &wait);
    if (wait && worker->joined)
        worker->mode = MODE_WAIT;
    else if (!wait && (worker->joined || is_anything_ready(worker)))
        next_step_or_end(worker);
}

void sim_worker_on_compute(uint32_t slot, uint64_t life) {
    struct sim_worker *worker = &world.workers[slot];
    bool wait = false;
    if (!worker->alive || worker->life != life)
        return;
    if (world.now_us < worker->paused_until_us) {
        sim_schedule(worker->paused_until_us + 3, EVENT_COMPUTE, slot, 0, life);
        return;
    }
    worker->scheduled = false;
    switch (worker->mode) {
    case MODE_CATCH_UP:
        catch_up(worker);
        break;
    case MODE_TRAIN:
        step(worker);
        break;
    case MODE_WAIT:
        sim_worker_feed(slot, (struct sync_event){.kind = SYNC_EVENT_BOUNDARY}, &wait);
        if (!wait || worker->finished)
            next_step_or_end(worker);
        break;
    case MODE_END:
        at_the_end(worker);
        break;
    case MODE_FINAL:
        break;
    }
    sim_oracle_worker(slot);
}

void sim_worker_wake(uint32_t slot) {
    struct sim_worker *worker = &world.workers[slot];
    if (worker->scheduled || worker->mode == MODE_TRAIN || worker->mode == MODE_FINAL)
        return;
    worker->scheduled = true;
    sim_schedule(world.now_us + sim_below(2000), EVENT_COMPUTE, slot, 0, worker->life);
}
