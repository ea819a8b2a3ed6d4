/* sim_outer: what outer_daemon, outer_handlers and outer_actions do, without bytes. */
#include "sim/sim.h"
#include <string.h>
#include "base/check.h"

enum { PATIENCE_S = 10, TICK_US = 500000, LATE_US = 1000000, LONG_US = 5000000, OUR_FAULT_US = 5000000 };

/* ---- messages ---- */

void sim_outer_send(uint32_t slot, struct sim_message *message) {
    struct sim_session *session = &world.outer.sessions[slot];
    if (!session->connected || !sim_effect(SIM_OUTER))
        return;
    message->session = session->number;
    if (message->type == MESSAGE_COMMIT || message->type == MESSAGE_SNAPSHOT)
        sim_oracle_published(message->commit);
    sim_net_send(slot, message->type == SIM_BULK ? LANE_DOWN_BULK : LANE_DOWN, message);
}

static void broadcast(struct sim_message message) {
    for (uint32_t slot = 0; slot < world.worker_count; slot++)
        if (world.outer.sessions[slot].ready)
            sim_outer_send(slot, &message);
}

void sim_outer_submit(struct sim_job job, uint64_t delay_us) {
    if (!sim_effect(SIM_OUTER))
        return;
    for (uint32_t i = 0; i < SIM_JOBS; i++) {
        uint32_t place = (world.outer.job_next + i) % SIM_JOBS;
        if (world.outer.jobs[place].used)
            continue;
        job.used = true;
        world.outer.jobs[place] = job;
        world.outer.job_next = place + 1;
        sim_schedule(world.now_us + delay_us, EVENT_JOB, 0, place, world.outer.life);
        return;
    }
    sim_violation("simulator: too many jobs");
}

static uint64_t compute_us(void) {
    return sim_between(100, world.config.step_us);
}

/* ---- actions of the round machine ---- */

static void grant(uint32_t slot, uint32_t fragment) {
    struct sim_upload *upload = &world.outer.uploads[slot][fragment];
    const struct contribution *c = &world.outer.machine.fragments[fragment].places[slot].contribution;
    if (upload->checking)
        return; /* all of it is here; a worker whose link came back offers it again */
    if (!upload->open)
        *upload = (struct sim_upload){.open = true};
    struct sim_message message = {
        .type = MESSAGE_GRANT, .kind = TRANSFER_CONTRIBUTION, .fragment = fragment, .version = c->base_version};
    sim_outer_send(slot, &message);
}

static void refuse_offer(const struct round_action *action) {
    struct sim_message message = {
        .type = MESSAGE_OFFER_REFUSED, .fragment = action->fragment, .version = action->version, .code = action->code};
    TRACE("outer refuses worker %llu fragment %llu base %llu, code %llu", action->slot, action->fragment,
          action->version, action->code);
    sim_outer_send(action->slot, &message);
    if (action->code == OFFER_REFUSED_MALFORMED &&
        member_is_expected(&world.outer.machine.members.slot[action->slot])) {
        DEMAND(!world.calm, "without any fault worker %u is refused as malformed", action->slot);
        world.outer.sessions[action->slot].doomed = true;
    }
}

static void discard(const struct round_action *action) {
    struct sim_upload *upload = &world.outer.uploads[action->slot][action->fragment];
    if (upload->checking)
        upload->discarded = true;
    else
        *upload = (struct sim_upload){0};
}

static void close_round(const struct round_action *action) {
    TRACE("outer closes fragment %llu version %llu", action->fragment, action->version);
    sim_outer_submit((struct sim_job){.kind = JOB_COMMIT, .fragment = action->fragment, .version = action->version},
                     compute_us());
}

static void publish(const struct round_action *action) {
    uint32_t head = world.outer.heads[action->fragment];
    struct sim_message message = {
        .type = MESSAGE_COMMIT, .commit = head, .fragment = action->fragment, .version = action->version};
    DEMAND(world.commits[head].head.version == action->version, "PUBLISH of another version than the newest");
    TRACE("outer publishes fragment %llu version %llu epoch %llu (commit %llu)", action->fragment, action->version,
          world.commits[head].head.epoch, head);
    broadcast(message);
}

static void carry_out(const struct round_action *action) {
    struct sim_message message = {0};
    switch (action->kind) {
    case ROUND_ACTION_START:
        TRACE("outer: START");
        sim_recover_write_state();
        message.type = MESSAGE_START;
        broadcast(message);
        break;
    case ROUND_ACTION_MEMBERS:
        sim_recover_write_state();
        message.type = MESSAGE_MEMBERS;
        broadcast(message);
        break;
    case ROUND_ACTION_GRANT:
        grant(action->slot, action->fragment);
        break;
    case ROUND_ACTION_REFUSE_OFFER:
        refuse_offer(action);
        break;
    case ROUND_ACTION_DISCARD:
        discard(action);
        break;
    case ROUND_ACTION_CLOSE:
        close_round(action);
        break;
    case ROUND_ACTION_PUBLISH:
        publish(action);
        break;
    case ROUND_ACTION_END:
        TRACE("outer: END");
        sim_recover_write_state();
        message.type = MESSAGE_END;
        broadcast(message);
        break;
    case ROUND_ACTION_FINISH:
        TRACE("outer: FINISH");
        sim_recover_write_state();
        message.type = MESSAGE_FINISH;
        for (uint32_t f = 0; f < world.config.fragments; f++)
            message.heads[f].version = world.outer.machine.fragments[f].version;
        broadcast(message);
        break;
    case ROUND_ACTION_LEAVE:
        TRACE("outer: LEAVE");
        if (sim_effect(SIM_OUTER))
            world.outer.left = true;
        break;
    }
}

void sim_outer_feed(struct round_event event) {
    struct round_actions actions;
    actions.count = 0;
    event.now_us = world.now_us;
    if (event.kind == ROUND_EVENT_LEAD || event.kind == ROUND_EVENT_JOIN || event.kind == ROUND_EVENT_LEAVE)
        sim_oracle_everybody_anew();
    round_step(&world.outer.machine, &event, &actions);
    for (uint32_t i = 0; i < actions.count; i++)
        carry_out(&actions.list[i]);
}

/* ---- sessions ---- */

/* Links that end soon after this node stood still for long: their members dial again. */
void sim_outer_session_lost(uint32_t slot) {
    struct sim_session *session = &world.outer.sessions[slot];
    bool ours = world.outer.stood_still_us != 0 && world.now_us < world.outer.stood_still_us + OUR_FAULT_US;
    if (!session->connected)
        return;
    TRACE("outer: worker %llu is gone, by this node's own fault: %llu", slot, ours);
    session->connected = session->ready = session->doomed = false;
    sim_recover_lost(slot);
    sim_outer_feed((struct round_event){.kind = ROUND_EVENT_LEAVE, .slot = slot, .returns = ours});
}

static void on_hello(uint32_t slot, const struct sim_message *hello) {
    struct sim_session *session = &world.outer.sessions[slot];
    if (session->connected)
        sim_outer_session_lost(slot);
    memset(session, 0, sizeof *session);
    session->connected = true;
    session->number = ++world.outer.next_session;
    session->incarnation = hello->incarnation;
    session->heard_us = world.now_us;
    session->run_step = hello->step;
    session->members_mask = hello->mask;
    memcpy(session->bears, hello->heads, sizeof session->bears);
    for (uint32_t f = 0; f < world.config.fragments; f++)
        session->serving[f] = SIM_NOBODY;
    TRACE("outer welcomes worker %llu, session %llu, bears fragment 0 version %llu epoch %llu", slot, session->number,
          hello->heads[0].version, hello->heads[0].epoch);
    struct sim_message message = {.type = MESSAGE_WELCOME};
    sim_outer_send(slot, &message);
}

static void on_ready(uint32_t slot, const struct sim_message *ready) {
    struct sim_session *session = &world.outer.sessions[slot];
    if (session->ready)
        return;
    session->ready = true;
    session->has_validation = ready->has_validation;
    session->tokens = ready->tokens;
    sim_recover_greet(slot);
}

static void on_grant(uint32_t slot, const struct sim_message *message) {
    if (message->kind == TRANSFER_SNAPSHOT) {
        sim_recover_grant(slot, message);
        return;
    }
    const struct sim_log *kept = &world.outer.kept[message->fragment];
    for (uint32_t i = 0; i < kept->count; i++) {
        const struct sim_commit *commit = &world.commits[kept->commits[i]];
        if (commit->head.version != message->version || !kept->has_payload[i])
            continue;
        struct sim_message bulk = {.type = SIM_BULK,
                                   .kind = TRANSFER_COMMIT,
                                   .fragment = message->fragment,
                                   .version = message->version,
                                   .state = commit->payload};
        sim_outer_send(slot, &bulk);
        return;
    }
    if (message->version <= world.commits[world.outer.heads[message->fragment]].head.version)
        world.outer.sessions[slot].wants_snapshot[message->fragment] = true; /* too old to be kept */
}

static void on_final(uint32_t slot, const struct sim_message *message) {
    uint64_t ours = 0;
    for (uint32_t f = 0; f < world.config.fragments; f++)
        ours = sim_hash(ours, world.commits[world.outer.heads[f]].state);
    if (world.outer.machine.finished)
        DEMAND(ours == message->state || message->damaged, "worker %u: its final state differs from the outer's", slot);
    sim_outer_feed((struct round_event){.kind = ROUND_EVENT_FINAL, .slot = slot, .has_eval = message->has_eval});
}

/* It stands still although it holds all that was published. */
static bool is_blocked(const struct sim_session *session, const struct sim_message *telemetry) {
    for (uint32_t f = 0; f < world.config.fragments; f++)
        if (telemetry->heads[f].version != world.commits[world.outer.heads[f]].head.version)
            return false;
    return telemetry->waiting && session->joined;
}

static void on_telemetry(uint32_t slot, const struct sim_message *telemetry) {
    sim_outer_feed((struct round_event){.kind = ROUND_EVENT_TOKENS, .slot = slot, .tokens = telemetry->tokens});
    if (telemetry->step >= world.config.last_step)
        sim_outer_feed((struct round_event){.kind = ROUND_EVENT_REACHED, .slot = slot});
    if (is_blocked(&world.outer.sessions[slot], telemetry))
        sim_outer_feed((struct round_event){.kind = ROUND_EVENT_BLOCKED, .slot = slot});
}

static void on_session_message(uint32_t slot, const struct sim_message *message) {
    struct sim_session *session = &world.outer.sessions[slot];
    session->heard_us = world.now_us;
    switch (message->type) {
    case MESSAGE_READY:
        on_ready(slot, message);
        break;
    case MESSAGE_FETCH:
        sim_recover_fetch(slot, message);
        break;
    case MESSAGE_SNAPSHOT:
        sim_recover_snapshot(slot, message);
        break;
    case MESSAGE_JOINED:
        sim_recover_joined(slot, message);
        break;
    case MESSAGE_OFFER:
        if (message->offer.slot == slot && message->offer.incarnation == session->incarnation)
            sim_outer_feed(
                (struct round_event){.kind = ROUND_EVENT_OFFER, .slot = slot, .contribution = message->offer});
        break;
    case MESSAGE_GRANT:
        on_grant(slot, message);
        break;
    case MESSAGE_TELEMETRY:
        on_telemetry(slot, message);
        break;
    case MESSAGE_DONE:
        TRACE("outer: worker %llu is done", slot);
        sim_outer_feed((struct round_event){.kind = ROUND_EVENT_REACHED, .slot = slot});
        sim_outer_feed((struct round_event){.kind = ROUND_EVENT_DONE, .slot = slot, .tokens = message->tokens});
        break;
    case MESSAGE_FINAL:
        on_final(slot, message);
        break;
    case MESSAGE_GOODBYE:
        sim_outer_session_lost(slot);
        break;
    default:
        break;
    }
}

/* ---- bulk ---- */

static void on_upload(uint32_t slot, const struct sim_message *message) {
    struct sim_upload *upload = &world.outer.uploads[slot][message->fragment];
    const struct contribution *c = &world.outer.machine.fragments[message->fragment].places[slot].contribution;
    if (!upload->open || upload->checking || upload->complete || c->base_version != message->version)
        return;
    if (memcmp(c->payload_hash, &world.contents[message->content].identity, sizeof(uint64_t)) != 0) {
        if (++upload->bad >= 3)
            sim_outer_session_lost(slot);
        else
            grant(slot, message->fragment);
        return;
    }
    upload->complete = upload->checking = true;
    upload->content = message->content;
    sim_outer_submit((struct sim_job){.kind = JOB_CHECK,
                                      .slot = slot,
                                      .fragment = message->fragment,
                                      .version = message->version,
                                      .content = message->content},
                     compute_us());
}

static void on_checked(const struct sim_job *job) {
    struct sim_upload *upload = &world.outer.uploads[job->slot][job->fragment];
    CHECK(upload->open && upload->checking);
    upload->checking = false;
    if (upload->discarded) {
        *upload = (struct sim_upload){0};
        if (world.outer.machine.fragments[job->fragment].places[job->slot].state == ROUND_PLACE_RECEIVING)
            grant(job->slot, job->fragment);
        return;
    }
    struct round_event event = {
        .kind = ROUND_EVENT_WHOLE, .slot = job->slot, .fragment = job->fragment, .version = job->version};
    if (world.config.refusals && !world.healed && sim_chance(20)) {
        event.kind = ROUND_EVENT_BROKEN;
        event.code = sim_chance(2) ? OFFER_REFUSED_NORM : OFFER_REFUSED_NOT_FINITE;
        world.calm = false;
        world.counts.refused++;
    }
    sim_outer_feed(event);
}

/* ---- a commit: made, durable, published ---- */

static void make_commit(const struct sim_job *job) {
    struct sim_outer *outer = &world.outer;
    uint32_t index, f = job->fragment;
    struct commit *commit = sim_oracle_new_commit(&index);
    struct sim_commit *made = &world.commits[index];
    made->parent = outer->heads[f];
    const struct sim_commit *parent = &world.commits[made->parent];
    const struct counted *counted = round_counted(&outer->machine, f, &commit->counted_count);
    commit->epoch = outer->disk.epoch;
    commit->fragment = f;
    commit->version = job->version;
    commit->run_step = parent->commit.run_step;
    memcpy(commit->parent, parent->head.hash, sizeof commit->parent);
    made->residual_before = outer->kept[f].residual;
    uint64_t payload = sim_hash(made->residual_before, f);
    for (uint32_t i = 0; i < commit->counted_count; i++) {
        const struct sim_upload *upload = &outer->uploads[counted[i].slot][f];
        DEMAND(upload->open && upload->complete && !upload->checking, "a contribution counts that is not whole");
        commit->counted[i] = counted[i];
        made->counted[made->counted_count++] = upload->content;
        payload = sim_hash(payload, world.contents[upload->content].identity);
        commit->run_step = counted[i].send_step > commit->run_step ? counted[i].send_step : commit->run_step;
    }
    commit->total_count = ledger_totals(&outer->machine.ledger, f, counted, commit->counted_count, commit->totals);
    made->payload = payload;
    made->residual_after = sim_hash(payload, 3);
    made->state = sim_hash(parent->state, payload);
    uint64_t identity = sim_hash(sim_hash(made->state, commit->epoch), sim_hash(made->parent, commit->version));
    made->head = (struct head){.epoch = commit->epoch, .version = commit->version};
    memcpy(made->head.hash, &identity, sizeof identity);
    outer->making[f] = index;
    sim_oracle_committed(index);
    sim_outer_submit((struct sim_job){.kind = JOB_LOG, .fragment = f, .version = job->version, .commit = index},
                     sim_between(100, 20000));
}

static void on_logged(const struct sim_job *job) {
    struct sim_outer *outer = &world.outer;
    if (world.now_us < outer->full_until_us) {
        sim_outer_submit(*job, SIM_SECOND);
        return;
    }
    if (!sim_effect(SIM_OUTER))
        return;
    sim_disk_append(&outer->disk.logs[job->fragment], job->commit, true);
    sim_disk_append(&outer->kept[job->fragment], job->commit, true);
    outer->heads[job->fragment] = job->commit;
    outer->making[job->fragment] = SIM_NOBODY;
    sim_outer_feed(
        (struct round_event){.kind = ROUND_EVENT_COMMITTED, .fragment = job->fragment, .version = job->version});
}

/* ---- the process ---- */

/* A node whose own turn was late drains its input and re-arms all deadlines first. */
static void turn(void) {
    struct sim_outer *outer = &world.outer;
    if (world.now_us > outer->turned_us + LATE_US) {
        uint64_t late_us = world.now_us - outer->turned_us;
        TRACE("outer: stood still for %llu us", late_us);
        for (uint32_t slot = 0; slot < world.worker_count; slot++)
            outer->sessions[slot].heard_us = world.now_us;
        if (late_us >= LONG_US)
            outer->stood_still_us = world.now_us;
        sim_outer_feed((struct round_event){.kind = ROUND_EVENT_LATE, .late_us = late_us});
    }
    outer->turned_us = world.now_us;
}

static void schedule_tick(void) {
    struct sim_outer *outer = &world.outer;
    uint64_t at_us = world.now_us + TICK_US, round_us = round_deadline_us(&outer->machine);
    uint64_t recovery_us = recovery_deadline_us(&outer->recovery);
    at_us = round_us < at_us ? round_us : at_us;
    at_us = recovery_us > world.now_us && recovery_us < at_us ? recovery_us : at_us;
    at_us = at_us < world.now_us + 1000 ? world.now_us + 1000 : at_us;
    if (outer->tick_us > world.now_us && outer->tick_us <= at_us)
        return;
    outer->tick_us = at_us;
    sim_schedule(at_us, EVENT_OUTER_TICK, 0, ++outer->tick, outer->life);
}

static bool is_away(uint64_t life) {
    return !world.outer.alive || world.outer.life != life;
}

void sim_outer_on_tick(uint32_t tick, uint64_t life) {
    struct sim_outer *outer = &world.outer;
    if (is_away(life) || tick != outer->tick)
        return;
    if (world.now_us < outer->paused_until_us) {
        sim_schedule(outer->paused_until_us + 1, EVENT_OUTER_TICK, 0, tick, life);
        return;
    }
    turn();
    bool ping = world.now_us >= outer->next_ping_us;
    if (ping)
        outer->next_ping_us = world.now_us + SIM_SECOND;
    for (uint32_t slot = 0; slot < world.worker_count; slot++) {
        struct sim_session *session = &outer->sessions[slot];
        struct sim_message message = {.type = MESSAGE_PING};
        if (session->connected && (session->doomed || world.now_us > session->heard_us + PATIENCE_S * SIM_SECOND))
            sim_outer_session_lost(slot);
        else if (session->connected && ping)
            sim_outer_send(slot, &message);
    }
    sim_recover_tick();
    if (round_deadline_us(&outer->machine) <= world.now_us)
        sim_outer_feed((struct round_event){.kind = ROUND_EVENT_TICK});
    schedule_tick();
    sim_oracle_outer();
}

void sim_outer_on_job(uint32_t place, uint64_t life) {
    struct sim_outer *outer = &world.outer;
    if (is_away(life))
        return;
    if (world.now_us < outer->paused_until_us) {
        sim_schedule(outer->paused_until_us + 2, EVENT_JOB, 0, place, life);
        return;
    }
    struct sim_job job = outer->jobs[place];
    outer->jobs[place].used = false;
    turn();
    switch (job.kind) {
    case JOB_CHECK:
        on_checked(&job);
        break;
    case JOB_COMMIT:
        make_commit(&job);
        break;
    case JOB_LOG:
        on_logged(&job);
        break;
    case JOB_SNAPSHOT:
        sim_recover_snapshot_made(&job);
        break;
    case JOB_TAKE:
        sim_recover_taken(&job);
        break;
    }
    schedule_tick();
    sim_oracle_outer();
}

void sim_outer_hears(uint32_t slot, const struct sim_message *message) {
    struct sim_session *session = &world.outer.sessions[slot];
    turn();
    if (message->type == MESSAGE_HELLO) {
        on_hello(slot, message);
    } else if (session->connected && session->number == message->session) {
        if (message->type != SIM_BULK)
            on_session_message(slot, message);
        else if (message->kind == TRANSFER_CONTRIBUTION)
            on_upload(slot, message);
        else
            sim_recover_bulk(slot, message);
    }
    schedule_tick();
    sim_oracle_outer();
}

void sim_outer_link_lost(uint32_t slot) {
    if (world.now_us < world.outer.paused_until_us)
        return; /* found out by its silence */
    turn();
    sim_outer_session_lost(slot);
    schedule_tick();
}

void sim_outer_start(void) {
    struct sim_outer *outer = &world.outer;
    if (outer->alive)
        return;
    outer->alive = true;
    outer->life++;
    outer->paused_until_us = 0;
    outer->turned_us = world.now_us;
    outer->next_session = 0;
    outer->tick_us = outer->stood_still_us = 0;
    outer->full_until_us = 0;
    memset(outer->sessions, 0, sizeof outer->sessions);
    memset(outer->uploads, 0, sizeof outer->uploads);
    memset(outer->takings, 0, sizeof outer->takings);
    memset(outer->jobs, 0, sizeof outer->jobs);
    struct round_options options = {.workers = world.config.workers,
                                    .fragments = world.config.fragments,
                                    .quorum = world.config.quorum,
                                    .min_workers = world.config.min_workers,
                                    .grace_us = world.config.grace_us,
                                    .stale = world.config.stale,
                                    .started = outer->disk.started,
                                    .ended = outer->disk.ended,
                                    .finished = outer->disk.finished};
    for (uint32_t f = 0; f < world.config.fragments; f++)
        options.payload_bytes[f] = SIM_PAYLOAD_BYTES + f;
    round_open(&outer->machine, &options);
    sim_recover_open();
    schedule_tick();
}

/* What was being written when it died is on the disk, or is not. */
void sim_outer_kill(void) {
    struct sim_outer *outer = &world.outer;
    if (!outer->alive)
        return;
    TRACE("outer is killed");
    for (uint32_t i = 0; i < SIM_JOBS; i++) {
        const struct sim_job *job = &outer->jobs[i];
        if (job->used && job->kind == JOB_LOG && world.now_us >= outer->full_until_us && sim_chance(2)) {
            TRACE("... fragment %llu version %llu is on its disk all the same", job->fragment, job->version);
            sim_disk_append(&outer->disk.logs[job->fragment], job->commit, true);
        }
    }
    outer->alive = false;
    for (uint32_t slot = 0; slot < world.worker_count; slot++)
        sim_net_cut(slot, false, sim_chance(2) && world.now_us >= world.workers[slot].paused_until_us);
}
