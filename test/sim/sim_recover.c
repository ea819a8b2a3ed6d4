/* sim_recover: what outer_catch_up and the outer's disk do, without bytes: how it comes to lead, and how members get what they lack. */
#include "sim/sim.h"
#include <string.h>

/* ---- the disk ---- */

void sim_disk_append(struct sim_log *log, uint32_t commit, bool has_payload) {
    if (log->count == SIM_KEPT) {
        memmove(log->commits, log->commits + 1, (SIM_KEPT - 1) * sizeof log->commits[0]);
        memmove(log->has_payload, log->has_payload + 1, (SIM_KEPT - 1) * sizeof log->has_payload[0]);
        log->count--;
    }
    log->commits[log->count] = commit;
    log->has_payload[log->count++] = has_payload;
    log->residual = has_payload ? world.commits[commit].residual_after : 0;
}

void sim_recover_write_state(void) {
    struct sim_outer *outer = &world.outer;
    if (world.now_us < outer->full_until_us || !sim_effect(SIM_OUTER))
        return; /* a failure is a warning */
    outer->disk.started = outer->machine.started;
    outer->disk.ended = outer->machine.ended;
    outer->disk.finished = outer->machine.finished;
    outer->disk.live_mask = members_live_mask(&outer->machine.members);
}

/* ---- to lead ---- */

static void say_state(uint32_t slot) {
    struct sim_outer *outer = &world.outer;
    struct sim_message message = {
        .type = MESSAGE_STATE, .started = outer->machine.started, .step = outer->machine.run_step};
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        uint64_t processed = outer->machine.ledger.entries[slot][f].processed;
        message.tokens = processed > message.tokens ? processed : message.tokens;
        message.heads[f] = world.commits[outer->heads[f]].head;
        sim_oracle_published(outer->heads[f]);
    }
    outer->sessions[slot].stated = true;
    sim_outer_send(slot, &message);
}

static void lead(void) {
    struct sim_outer *outer = &world.outer;
    uint64_t here = 0, seen = outer->disk.epoch;
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        uint64_t epoch = world.commits[outer->heads[f]].head.epoch;
        seen = epoch > seen ? epoch : seen;
    }
    if (!sim_effect(SIM_OUTER))
        return;
    uint64_t wall_s =
        world.now_us / 1000; /* outer/outer_disk.h; a simulated run is short: its seconds are milliseconds */
    outer->disk.epoch = wall_s > seen ? wall_s : seen + 1;
    TRACE("outer leads in epoch %llu, fragment 0 at version %llu", outer->disk.epoch,
          outer->machine.fragments[0].version);
    sim_oracle_leads();
    for (uint32_t slot = 0; slot < world.worker_count; slot++)
        if (outer->sessions[slot].connected && outer->sessions[slot].ready)
            here |= (uint64_t)1 << slot;
    sim_outer_feed((struct round_event){.kind = ROUND_EVENT_LEAD, .mask = here});
    for (uint32_t slot = 0; slot < world.worker_count; slot++)
        if ((here >> slot & 1) != 0)
            say_state(slot);
}

static void feed(struct recovery_event event) {
    struct recovery_actions actions;
    actions.count = 0;
    event.now_us = world.now_us;
    recovery_step(&world.outer.recovery, &event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct recovery_action *action = &actions.list[i];
        if (action->kind == RECOVERY_ACTION_LEAD) {
            lead();
            continue;
        }
        TRACE("outer asks worker %llu for fragment %llu", action->slot, action->fragment);
        struct sim_message message = {.type = MESSAGE_FETCH, .fragment = action->fragment};
        message.heads[0] = world.commits[world.outer.heads[action->fragment]].head;
        sim_outer_send(action->slot, &message);
    }
}

void sim_recover_open(void) {
    struct sim_outer *outer = &world.outer;
    bool any = false;
    struct head heads[SIM_FRAGMENTS];
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        const struct sim_log *log = &outer->disk.logs[f];
        outer->kept[f] = *log;
        outer->making[f] = SIM_NOBODY;
        outer->heads[f] = f;
        if (log->count > 0) {
            any = true;
            outer->heads[f] = log->commits[log->count - 1];
            round_adopt(&outer->machine, &world.commits[outer->heads[f]].commit);
        }
        heads[f] = world.commits[outer->heads[f]].head;
    }
    struct recovery_options options = {.mode = !outer->disk.has_key ? RECOVERY_FRESH
                                               : any                ? RECOVERY_DISK
                                                                    : RECOVERY_EMPTY,
                                       .fragments = world.config.fragments,
                                       .workers = world.config.workers,
                                       .window_us = world.config.window_us,
                                       .expected_mask = outer->disk.live_mask};
    TRACE("outer starts, mode %llu, fragment 0 at version %llu", options.mode, outer->machine.fragments[0].version);
    outer->disk.has_key = true;
    recovery_open(&outer->recovery, &options);
    feed((struct recovery_event){.kind = RECOVERY_EVENT_OPEN, .heads = heads});
}

void sim_recover_tick(void) {
    if (!world.outer.recovery.leading && world.now_us >= recovery_deadline_us(&world.outer.recovery))
        feed((struct recovery_event){.kind = RECOVERY_EVENT_TICK});
    for (uint32_t slot = 0; slot < world.worker_count; slot++) {
        struct sim_session *session = &world.outer.sessions[slot];
        for (uint32_t f = 0; session->connected && f < world.config.fragments; f++)
            if (session->wants_snapshot[f] && !world.outer.machine.fragments[f].closing) {
                session->wants_snapshot[f] = false;
                sim_outer_submit((struct sim_job){.kind = JOB_SNAPSHOT,
                                                  .slot = slot,
                                                  .fragment = f,
                                                  .commit = world.outer.heads[f],
                                                  .version = session->number},
                                 sim_between(100, world.config.step_us));
            }
    }
}

/* ---- members ---- */

void sim_recover_greet(uint32_t slot) {
    const struct sim_session *session = &world.outer.sessions[slot];
    if (world.outer.recovery.leading)
        say_state(slot);
    else
        feed((struct recovery_event){.kind = RECOVERY_EVENT_BEARER,
                                     .slot = slot,
                                     .heads = session->bears,
                                     .run_step = session->run_step,
                                     .members_mask = session->members_mask});
}

void sim_recover_joined(uint32_t slot, const struct sim_message *message) {
    struct sim_outer *outer = &world.outer;
    struct sim_session *session = &outer->sessions[slot];
    if (!session->stated || session->joined)
        return;
    session->joined = true;
    TRACE("outer: worker %llu joins at step %llu, tokens %llu", slot, message->step, message->tokens);
    sim_oracle_joined(slot, message->tokens);
    sim_outer_feed((struct round_event){.kind = ROUND_EVENT_JOIN,
                                        .slot = slot,
                                        .incarnation = session->incarnation,
                                        .step = message->step,
                                        .tokens = message->tokens,
                                        .has_validation = session->has_validation});
    struct sim_message say = {.type = MESSAGE_START};
    if (outer->machine.started)
        sim_outer_send(slot, &say);
    say.type = MESSAGE_END;
    if (outer->machine.ended)
        sim_outer_send(slot, &say);
    say.type = MESSAGE_FINISH;
    for (uint32_t f = 0; f < world.config.fragments; f++)
        say.heads[f].version = outer->machine.fragments[f].version;
    if (outer->machine.finished)
        sim_outer_send(slot, &say);
}

/* ---- answers to a fetch ---- */

/* Heads of the versions from which a replay is possible, oldest first, the newest last. */
static uint32_t kept_heads(uint32_t fragment, struct head kept[SIM_KEPT + 1]) {
    const struct sim_log *log = &world.outer.kept[fragment];
    uint32_t index = world.outer.heads[fragment], count = 0;
    struct head reversed[SIM_KEPT + 1];
    reversed[count++] = world.commits[index].head;
    for (uint32_t i = log->count; i > 0 && log->has_payload[i - 1] && log->commits[i - 1] == index; i--) {
        index = world.commits[index].parent;
        reversed[count++] = world.commits[index].head;
    }
    for (uint32_t i = 0; i < count; i++)
        kept[i] = reversed[count - 1 - i];
    return count;
}

static void replay(uint32_t slot, uint32_t fragment, uint64_t from) {
    const struct sim_log *log = &world.outer.kept[fragment];
    for (uint32_t i = 0; i < log->count; i++) {
        const struct sim_commit *commit = &world.commits[log->commits[i]];
        struct sim_message message = {
            .type = MESSAGE_COMMIT, .fragment = fragment, .version = commit->head.version, .commit = log->commits[i]};
        if (commit->head.version >= from)
            sim_outer_send(slot, &message);
    }
}

void sim_recover_fetch(uint32_t slot, const struct sim_message *message) {
    uint32_t f = message->fragment;
    struct head kept[SIM_KEPT + 1];
    if (!world.outer.recovery.leading)
        return;
    uint32_t count = kept_heads(f, kept);
    enum recovery_answer answer = recovery_answer(&message->heads[0], kept, count);
    TRACE("outer: worker %llu fetches fragment %llu from version %llu: answer %llu", slot, f, message->heads[0].version,
          answer);
    switch (answer) {
    case RECOVERY_ANSWER_NOTHING:
        if (message->heads[0].version > 0)
            replay(slot, f, message->heads[0].version);
        break;
    case RECOVERY_ANSWER_REPLAY:
        world.counts.replays++;
        replay(slot, f, message->heads[0].version + 1);
        break;
    case RECOVERY_ANSWER_SNAPSHOT:
        world.counts.snapshots++;
        if (world.commits[world.outer.heads[f]].head.version > 0)
            world.outer.sessions[slot].wants_snapshot[f] = true;
        break;
    }
}

void sim_recover_snapshot_made(const struct sim_job *job) {
    struct sim_session *session = &world.outer.sessions[job->slot];
    if (!session->connected || session->number != job->version)
        return;
    const struct sim_commit *commit = &world.commits[job->commit];
    session->serving[job->fragment] = job->commit;
    struct sim_message message = {
        .type = MESSAGE_SNAPSHOT, .fragment = job->fragment, .version = commit->head.version, .commit = job->commit};
    TRACE("outer: snapshot of fragment %llu version %llu for worker %llu", job->fragment, commit->head.version,
          job->slot);
    sim_outer_send(job->slot, &message);
    replay(job->slot, job->fragment, commit->head.version + 1);
}

void sim_recover_grant(uint32_t slot, const struct sim_message *message) {
    struct sim_session *session = &world.outer.sessions[slot];
    uint32_t index = session->serving[message->fragment];
    if (index == SIM_NOBODY || world.commits[index].head.version != message->version) {
        session->wants_snapshot[message->fragment] = true;
        return;
    }
    struct sim_message bulk = {.type = SIM_BULK,
                               .kind = TRANSFER_SNAPSHOT,
                               .fragment = message->fragment,
                               .version = message->version,
                               .state = world.commits[index].state};
    sim_outer_send(slot, &bulk);
}

/* ---- taking over what a member bears ---- */

static void failed(uint32_t slot, uint32_t fragment) {
    feed((struct recovery_event){.kind = RECOVERY_EVENT_FAILED, .slot = slot, .fragment = fragment});
}

void sim_recover_snapshot(uint32_t slot, const struct sim_message *message) {
    struct sim_outer *outer = &world.outer;
    uint32_t f = message->fragment;
    if (outer->recovery.leading || outer->recovery.fetching_from[f] != slot || outer->takings[f].unpacking)
        return;
    outer->takings[f].open = true;
    outer->takings[f].slot = slot;
    outer->takings[f].commit = message->commit;
    struct sim_message grant = {
        .type = MESSAGE_GRANT, .kind = TRANSFER_SNAPSHOT, .fragment = f, .version = message->version};
    sim_outer_send(slot, &grant);
}

void sim_recover_bulk(uint32_t slot, const struct sim_message *message) {
    struct sim_outer *outer = &world.outer;
    uint32_t f = message->fragment;
    if (!outer->takings[f].open || outer->takings[f].unpacking || outer->takings[f].slot != slot ||
        world.commits[outer->takings[f].commit].head.version != message->version)
        return;
    outer->takings[f].unpacking = true;
    sim_outer_submit(
        (struct sim_job){
            .kind = JOB_TAKE, .slot = slot, .fragment = f, .commit = outer->takings[f].commit, .state = message->state},
        sim_between(100, world.config.step_us));
}

/* The bearer is gone; but what of it is being unpacked will be ours: nothing is decided before. */
static void consider_gone(uint32_t slot) {
    const struct sim_outer *outer = &world.outer;
    bool gone = !(outer->sessions[slot].connected && outer->sessions[slot].ready);
    for (uint32_t f = 0; f < world.config.fragments; f++)
        gone = gone && !(outer->takings[f].unpacking && outer->takings[f].slot == slot);
    if (gone && !outer->recovery.leading)
        feed((struct recovery_event){.kind = RECOVERY_EVENT_GONE, .slot = slot});
}

void sim_recover_taken(const struct sim_job *job) {
    struct sim_outer *outer = &world.outer;
    const struct sim_commit *commit = &world.commits[job->commit];
    if (job->state == commit->state && world.now_us < outer->full_until_us) {
        sim_outer_submit(*job, SIM_SECOND); /* its own disk's fault, not the member's */
        return;
    }
    outer->takings[job->fragment].unpacking = outer->takings[job->fragment].open = false;
    if (job->state != commit->state) {
        failed(job->slot, job->fragment);
        return;
    }
    if (!sim_effect(SIM_OUTER))
        return;
    TRACE("outer takes fragment %llu version %llu epoch %llu over from worker %llu", job->fragment,
          commit->head.version, commit->head.epoch, job->slot);
    world.counts.taken++;
    sim_disk_append(&outer->disk.logs[job->fragment], job->commit, false);
    sim_disk_append(&outer->kept[job->fragment], job->commit, false);
    outer->heads[job->fragment] = job->commit;
    round_adopt(&outer->machine, &commit->commit);
    feed((struct recovery_event){
        .kind = RECOVERY_EVENT_TAKEN, .slot = job->slot, .fragment = job->fragment, .heads = &commit->head});
    consider_gone(job->slot);
}

void sim_recover_lost(uint32_t slot) {
    struct sim_outer *outer = &world.outer;
    struct sim_session *session = &outer->sessions[slot];
    memset(session->wants_snapshot, 0, sizeof session->wants_snapshot);
    session->stated = session->joined = false;
    for (uint32_t f = 0; f < world.config.fragments; f++)
        if (outer->takings[f].slot == slot && !outer->takings[f].unpacking)
            outer->takings[f].open = false;
    consider_gone(slot);
}
