/* sim_store: the worker's checkpoints, and what a process starts with. */
#include "sim/sim.h"
#include <string.h>

enum { STEPS_PER_CHECKPOINT = 7 };

/* At a step boundary: what is merged, in one generation. It is durable a while later. */
void sim_store_take(uint32_t slot) {
    struct sim_worker *worker = &world.workers[slot];
    if (worker->is_writing || !sim_chance(STEPS_PER_CHECKPOINT))
        return;
    struct sim_checkpoint *image = &worker->writing;
    image->valid = true;
    image->step = worker->step;
    image->tokens = worker->machine.tokens;
    memcpy(image->fragments, worker->machine.fragments, sizeof image->fragments);
    memcpy(image->pieces, worker->pieces, sizeof image->pieces);
    worker->is_writing = true;
    sim_schedule(world.now_us + sim_between(1000, SIM_SECOND), EVENT_STORED, slot, 0, worker->life);
}

void sim_store_on_written(uint32_t slot, uint64_t life) {
    struct sim_worker *worker = &world.workers[slot];
    if (!worker->alive || worker->life != life || !sim_effect(slot))
        return;
    worker->is_writing = false;
    worker->checkpoints[1] = worker->checkpoints[0];
    worker->checkpoints[0] = worker->writing;
}

static void forget(struct sim_worker *worker) {
    if (sim_chance(3)) { /* the newest is torn */
        worker->checkpoints[0] = worker->checkpoints[1];
        worker->checkpoints[1].valid = false;
    } else if (sim_chance(3)) { /* a new directory */
        worker->checkpoints[0].valid = worker->checkpoints[1].valid = false;
        worker->logged_tokens = 0;
    }
    if (sim_chance(2)) /* the last lines of its log, with the power */
        worker->logged_tokens = worker->checkpoints[0].valid ? worker->checkpoints[0].tokens : 0;
}

void sim_worker_kill(uint32_t slot) {
    struct sim_worker *worker = &world.workers[slot];
    if (!worker->alive)
        return;
    TRACE("worker %llu is killed at step %llu", slot, worker->step);
    worker->alive = false;
    worker->is_writing = false;
    sim_net_cut(slot, sim_chance(4) ? false : true, false);
    sim_net_forget(slot, LANE_DOWN);
    sim_net_forget(slot, LANE_DOWN_BULK);
    if (world.config.forgetful && !world.healed)
        forget(worker);
}

static void open_from_seed(struct sim_worker *worker, const struct sync_machine_options *options) {
    sync_open(&worker->machine, options);
    for (uint32_t f = 0; f < world.config.fragments; f++)
        worker->pieces[f] = (struct sim_piece){.g_commit = f, .g_state = world.commits[f].state};
}

static void open_from_checkpoint(struct sim_worker *worker, const struct sync_machine_options *options) {
    const struct sim_checkpoint *saved = &worker->checkpoints[0];
    DEMAND(sync_resume(&worker->machine, options, saved->step, saved->tokens, saved->fragments),
           "worker %u: what it saved contradicts itself", worker->slot);
    worker->step = saved->step;
    memcpy(worker->pieces, saved->pieces, sizeof worker->pieces);
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        struct sim_piece *piece = &worker->pieces[f];
        const struct commit *commit = &world.commits[piece->g_commit].commit;
        piece->queue_count = 0;
        piece->encoding = piece->again = false; /* saved with its payload */
        piece->orphans = piece->work;
        piece->offer.incarnation = worker->incarnation;
        if (commit->version == 0 || commit->run_step < worker->newest_step)
            continue;
        worker->newest_step = commit->run_step;
        worker->newest_mask = 0;
        for (uint32_t i = 0; i < commit->counted_count; i++)
            worker->newest_mask |= (uint64_t)1 << commit->counted[i].slot;
    }
}

void sim_worker_start(uint32_t slot) {
    struct sim_worker *worker = &world.workers[slot];
    struct head held[SIM_FRAGMENTS];
    if (worker->alive)
        return;
    const struct sync_machine_options options = {.schedule = {world.config.fragments, world.config.every_steps},
                                                 .strict = world.config.strict,
                                                 .overlap_steps = world.config.strict ? world.config.overlap_steps : 0,
                                                 .drift = world.config.drift,
                                                 .stale = world.config.stale,
                                                 .lockstep = world.config.quorum == 0};
    worker->alive = true;
    worker->life++;
    worker->incarnation = sim_hash(slot, worker->life);
    worker->paused_until_us = worker->encoded_us = 0;
    worker->mode = MODE_CATCH_UP;
    worker->scheduled = worker->connected = worker->joined = worker->returning = worker->started = false;
    worker->ended = worker->finished = worker->done_said = worker->final_said = false;
    memset(worker->serves, 0, sizeof worker->serves);
    worker->step = worker->session = worker->newest_step = worker->newest_mask = 0;
    if (worker->checkpoints[0].valid)
        open_from_checkpoint(worker, &options);
    else
        open_from_seed(worker, &options);
    TRACE("worker %llu starts, step %llu, fragment 0 at version %llu", slot, worker->step,
          worker->machine.fragments[0].version);
    sim_worker_tell(slot, (struct sync_event){.kind = SYNC_EVENT_COUNTER, .tokens = worker->logged_tokens});
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        worker->pieces[f].next_commit = SIM_NOBODY;
        held[f] = world.commits[worker->pieces[f].g_commit].head;
    }
    follow_open(&worker->follow, world.config.fragments, held);
    sim_net_dial(slot);
    sim_schedule(world.now_us + SIM_SECOND, EVENT_WORKER_TICK, slot, 0, worker->life);
}
