/* outer_actions: what the round machine asks for becomes messages, transfers and jobs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "outer/outer_run.h"

static void start(struct outer_run *outer) {
    struct message message = {.type = MESSAGE_START};
    message.body.start.evaluator_slot = members_evaluator(&outer->machine.members);
    outer_write_state(outer); /* before anybody trains: a started run is never begun anew */
    failpoint_hit("outer.start.written");
    outer_broadcast(outer, &message);
    log_say(LOG_LEVEL_INFO, "all %lld workers are here: training starts", (long long)outer->run.workers);
    if (message.body.start.evaluator_slot == UINT32_MAX)
        log_say(LOG_LEVEL_WARN,
                "no worker has held-out text: nothing will be evaluated (data.val, or --val on a worker)");
    log_event(outer->log, "start", json_object());
    failpoint_hit("outer.start.said");
}

static void tell_members(struct outer_run *outer) {
    struct message message = {.type = MESSAGE_MEMBERS};
    message.body.members.live_mask = members_live_mask(&outer->machine.members);
    message.body.members.evaluator_slot = members_evaluator(&outer->machine.members);
    outer_write_state(outer);
    outer_broadcast(outer, &message);
}

/* ---- memory of uploads ---- */

static uint64_t spare_bytes(const struct outer_run *outer) {
    uint64_t bytes = 0;
    for (int i = 0; i < OUTER_SPARES_MAX; i++)
        bytes += outer->spares[i].capacity_bytes;
    return bytes;
}

/* Of that very size, as all contributions of one fragment are; NULL: none. */
static struct arena *find_spare(struct outer_run *outer, size_t bytes) {
    for (int i = 0; i < OUTER_SPARES_MAX; i++)
        if (outer->spares[i].capacity_bytes == bytes)
            return &outer->spares[i];
    return NULL;
}

/* The staging holds these bytes already: spares make room, so that both together stay within its bound. */
static enum status take_memory(struct outer_run *outer, struct arena *memory, size_t bytes, struct error *error) {
    struct arena *spare = find_spare(outer, bytes);
    if (spare != NULL) {
        *memory = *spare;
        *spare = (struct arena){0};
    }
    uint64_t held = outer->staging.held_bytes;
    for (int i = 0; i < OUTER_SPARES_MAX && held + spare_bytes(outer) > outer->staging_bytes; i++)
        arena_close(&outer->spares[i]);
    return spare != NULL ? STATUS_OK : arena_open(memory, bytes, error);
}

static void give_memory(struct outer_run *outer, struct arena *memory) {
    for (int i = 0; i < OUTER_SPARES_MAX && memory->base != NULL; i++)
        if (outer->spares[i].base == NULL) {
            outer->spares[i] = *memory;
            *memory = (struct arena){0};
        }
    arena_close(memory);
}

void outer_close_spares(struct outer_run *outer) {
    for (int i = 0; i < OUTER_SPARES_MAX; i++)
        arena_close(&outer->spares[i]);
}

static void free_upload(struct outer_run *outer, uint32_t slot, uint32_t fragment) {
    struct outer_upload *upload = &outer->uploads[slot][fragment];
    give_memory(outer, &upload->memory);
    memset(upload, 0, sizeof *upload);
    staging_release(&outer->staging, slot, fragment, clock_now_us());
}

static void open_upload(struct outer_run *outer, uint32_t slot, uint32_t fragment, const struct contribution *c) {
    struct outer_upload *upload = &outer->uploads[slot][fragment];
    struct error error;
    if (failpoint_hit("outer.upload.memory") != 0 ||
        take_memory(outer, &upload->memory, arena_round(c->payload_bytes), &error) != STATUS_OK) {
        outer->sessions[slot].doomed = "the outer has no memory for its contribution";
        free_upload(outer, slot, fragment);
        return;
    }
    upload->buffer = upload->memory.base;
    struct transfer_key key = {TRANSFER_CONTRIBUTION, 0, fragment, c->base_version};
    transfer_receiver_open(&upload->receiver, key, upload->buffer, c->payload_bytes,
                           transfer_window_bytes((uint32_t)outer->run.workers), c->payload_hash);
    upload->open = true;
}

static void send_grant(struct outer_run *outer, uint32_t slot, struct outer_upload *upload) {
    struct message message = {.type = MESSAGE_GRANT};
    if (upload->open && transfer_receiver_grant(&upload->receiver, &message.body.grant))
        outer_send(outer, slot, &message);
}

static void grant(struct outer_run *outer, const struct round_action *action) {
    struct outer_upload *upload = &outer->uploads[action->slot][action->fragment];
    const struct contribution *c = &outer->machine.fragments[action->fragment].places[action->slot].contribution;
    if (upload->checking)
        return; /* all of it is here; a worker whose link came back offers it again */
    if (upload->open)
        transfer_receiver_reset_credit(&upload->receiver);
    else if (staging_ask(&outer->staging, action->slot, action->fragment, c->payload_bytes, clock_now_us()))
        open_upload(outer, action->slot, action->fragment, c);
    send_grant(outer, action->slot, upload);
}

void outer_admit_waiting(struct outer_run *outer, uint64_t now_us) {
    uint32_t slot, fragment;
    bool forced;
    while (staging_next(&outer->staging, now_us, &slot, &fragment, &forced)) {
        const struct round_place *place = &outer->machine.fragments[fragment].places[slot];
        if (place->state != ROUND_PLACE_RECEIVING || !outer->sessions[slot].connected) {
            staging_release(&outer->staging, slot, fragment, now_us); /* it offers anew when it is back */
            continue;
        }
        if (forced)
            log_say(LOG_LEVEL_WARN, "rounds wait for each other: worker %s may send more than memory is meant for",
                    outer->sessions[slot].name);
        open_upload(outer, slot, fragment, &place->contribution);
        send_grant(outer, slot, &outer->uploads[slot][fragment]);
    }
}

void outer_close_uploads(struct outer_run *outer) {
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        for (int f = 0; f < outer->fragments.count; f++)
            arena_close(&outer->uploads[slot][f].memory);
    outer_close_spares(outer);
}

/* Once may be an absence. Who never counts is to be seen: with a number for sync.stale nothing else tells of it. */
static void note_expired(struct outer_run *outer, const struct round_action *action) {
    struct outer_session *session = &outer->sessions[action->slot];
    if (++session->expired[action->fragment] < 2)
        return;
    run_sync_say_expired(&outer->run, action->fragment, session->expired[action->fragment], session->last_error,
                         sizeof session->last_error);
}

static void refuse_offer(struct outer_run *outer, const struct round_action *action) {
    static const char *const reasons[OFFER_REFUSED_CODE_COUNT] = {"",     "stale",      "duplicate", "malformed",
                                                                  "hash", "not finite", "too large"};
    struct message message = {.type = MESSAGE_OFFER_REFUSED};
    message.body.offer_refused = (struct message_offer_refused){action->fragment, action->version, action->code};
    outer->refused_offers++;
    log_event(outer->log, "refuse",
              json_pack("{s:s, s:s, s:i, s:i, s:I}", "what", "contribution", "reason", reasons[action->code], "slot",
                        (int)action->slot, "fragment", (int)action->fragment, "base_version",
                        (json_int_t)action->version));
    outer_send(outer, action->slot, &message);
    if (action->code == OFFER_REFUSED_STALE)
        note_expired(outer, action);
    /* Its rounds would wait for ever for what can't come. */
    if (action->code == OFFER_REFUSED_MALFORMED && member_is_expected(&outer->machine.members.slot[action->slot]))
        outer->sessions[action->slot].doomed = "it offers contributions that do not fit the run";
}

static void discard(struct outer_run *outer, const struct round_action *action) {
    struct outer_upload *upload = &outer->uploads[action->slot][action->fragment];
    if (upload->checking)
        upload->discarded = true;
    else
        free_upload(outer, action->slot, action->fragment); /* also one that waits for memory */
}

/* Whose room a new commit gets: its own place's, which it overwrites; else one that holds nothing; else that of the oldest one kept. */
static struct outer_commit *payload_room(struct outer_run *outer, uint32_t fragment, uint64_t version) {
    struct outer_commit *found = outer_commit_place(outer, fragment, version);
    for (uint32_t i = 0; i < OUTER_COMMITS_KEPT && found->payload == NULL; i++)
        if (outer->commits[fragment][i].payload != NULL && !outer->commits[fragment][i].has_payload)
            found = &outer->commits[fragment][i];
    if (found->payload != NULL)
        return found;
    for (uint32_t i = 0; i < OUTER_COMMITS_KEPT; i++) {
        struct outer_commit *other = &outer->commits[fragment][i];
        if (other->payload != NULL && (found->payload == NULL || other->commit.version < found->commit.version))
            found = other;
    }
    CHECK(found->payload != NULL); /* payloads_kept of them were taken at the start */
    return found;
}

/* The room for a commit in the making. Members that still fetch the version whose room it was get the whole fragment instead. */
static uint8_t *take_payload_room(struct outer_run *outer, uint32_t fragment, uint64_t version) {
    struct outer_commit *room = payload_room(outer, fragment, version);
    uint8_t *payload = room->payload;
    room->payload = NULL;
    room->has_payload = false;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        struct outer_session *session = &outer->sessions[slot];
        struct transfer_sender *download = &session->downloads[fragment];
        if (download->key.version == 0 || download->payload != payload)
            continue;
        if (download->next < download->bytes)
            session->wants_snapshot[fragment] = true;
        memset(download, 0, sizeof *download);
    }
    return payload;
}

static void close_round(struct outer_run *outer, const struct round_action *action) {
    uint32_t count;
    const struct counted *counted = round_counted(&outer->machine, action->fragment, &count);
    struct outer_job job = {
        .kind = OUTER_JOB_COMMIT, .fragment = action->fragment, .version = action->version, .part_count = (int)count};
    for (uint32_t i = 0; i < count; i++) {
        const struct outer_upload *upload = &outer->uploads[counted[i].slot][action->fragment];
        job.parts[i] = (struct commit_part){upload->buffer, upload->receiver.bytes, counted[i].tokens};
    }
    struct outer_commit *place = outer_commit_place(outer, action->fragment, action->version);
    place->payload = take_payload_room(outer, action->fragment, action->version);
    place->commit.version = 0;
    place->has_payload = true;
    job.payload = place->payload;
    outer_compute_submit(outer->compute, &job);
}

static void log_commit(struct outer_run *outer, const struct commit *commit) {
    const struct round_fragment *fragment = &outer->machine.fragments[commit->fragment];
    char hash[2 * MESSAGE_STATE_HASH_BYTES + 1];
    bytes_to_hex(commit->state_hash, MESSAGE_STATE_HASH_BYTES, hash);
    json_t *counted = json_array();
    for (uint32_t i = 0; i < commit->counted_count; i++) {
        const struct counted *c = &commit->counted[i];
        json_array_append_new(counted,
                              json_pack("{s:i, s:I, s:I, s:I, s:I}", "slot", (int)c->slot, "base_version",
                                        (json_int_t)c->base_version, "tokens_from", (json_int_t)c->tokens_from,
                                        "tokens_to", (json_int_t)c->tokens_to, "tokens", (json_int_t)c->tokens));
    }
    log_event(outer->log, "commit",
              json_pack("{s:i, s:I, s:I, s:o, s:I, s:s, s:I, s:I}", "fragment", (int)commit->fragment, "version",
                        (json_int_t)commit->version, "run_step", (json_int_t)commit->run_step, "counted", counted,
                        "payload_bytes", (json_int_t)commit->payload_bytes, "state_hash", hash, "open_us",
                        (json_int_t)(fragment->open_us - outer->opened_us), "close_us",
                        (json_int_t)(fragment->close_us - outer->opened_us)));
}

static void submit_log(struct outer_run *outer, uint32_t fragment, uint64_t version) {
    struct outer_commit *place = outer_commit_place(outer, fragment, version);
    outer_compute_submit(outer->compute,
                         &(struct outer_job){.kind = OUTER_JOB_LOG,
                                             .fragment = fragment,
                                             .version = version,
                                             .commit = &place->commit,
                                             .full = version % (uint64_t)outer->run.checkpoint.full_every == 0,
                                             .payload = place->payload});
}

/* The commit is made: name it, sign it, and send it to the disk. Published when it is durable. */
static void name_commit(struct outer_run *outer, const struct outer_job *job) {
    struct outer_commit *place = outer_commit_place(outer, job->fragment, job->version);
    struct commit *commit = &place->commit;
    memset(commit, 0, sizeof *commit);
    commit->epoch = outer->disk.state.epoch;
    commit->fragment = job->fragment;
    commit->version = job->version;
    commit->payload_bytes = outer_copy_payload_down(&outer->copy, (int)job->fragment);
    memcpy(commit->run_id, outer->run_id, sizeof commit->run_id);
    memcpy(commit->parent, outer->heads[job->fragment].hash, sizeof commit->parent);
    memcpy(commit->payload_hash, job->payload_hash, sizeof commit->payload_hash);
    memcpy(commit->state_hash, job->state_hash.bytes, sizeof commit->state_hash);
    const struct counted *counted = round_counted(&outer->machine, job->fragment, &commit->counted_count);
    memcpy(commit->counted, counted, commit->counted_count * sizeof *counted);
    commit->total_count =
        ledger_totals(&outer->machine.ledger, job->fragment, counted, commit->counted_count, commit->totals);
    commit->run_step = outer->machine.fragments[job->fragment].run_step;
    for (uint32_t i = 0; i < commit->counted_count; i++) {
        if (counted[i].send_step > commit->run_step)
            commit->run_step = counted[i].send_step;
        outer->sessions[counted[i].slot].expired[job->fragment] = 0;
        update_guard_learn(&outer->guard, job->fragment, outer->uploads[counted[i].slot][job->fragment].norm,
                           counted[i].tokens);
    }
    commit_sign(commit, outer->keys.sign_secret);
    place->head = commit_head(commit);
    submit_log(outer, job->fragment, job->version);
}

enum { LOG_AGAIN_US = 2000000 };

/* The commit in the making is durable, or the write failed: tried again after a while. */
static void on_logged(struct outer_run *outer, const struct outer_job *job) {
    const struct outer_commit *place = outer_commit_place(outer, job->fragment, job->version);
    if (job->status != STATUS_OK) {
        log_say(LOG_LEVEL_ERROR, "%s; the round waits, training goes on", job->error.text);
        outer->log_again[job->fragment] = true;
        outer->log_again_us = clock_now_us() + LOG_AGAIN_US;
        return;
    }
    outer->heads[job->fragment] = place->head;
    log_commit(outer, &place->commit);
    outer_feed(outer,
               (struct round_event){.kind = ROUND_EVENT_COMMITTED, .fragment = job->fragment, .version = job->version});
}

void outer_log_again(struct outer_run *outer, uint64_t now_us) {
    if (outer->log_again_us == 0 || now_us < outer->log_again_us)
        return;
    outer->log_again_us = 0;
    for (uint32_t fragment = 0; fragment < (uint32_t)outer->fragments.count; fragment++)
        if (outer->log_again[fragment]) {
            outer->log_again[fragment] = false;
            submit_log(outer, fragment, outer->machine.fragments[fragment].version + 1);
        }
}

static void publish(struct outer_run *outer, const struct round_action *action) {
    failpoint_hit("outer.commit.publish"); /* durable, and nobody knows it */
    struct message message = {.type = MESSAGE_COMMIT};
    message.body.commit = outer_commit_place(outer, action->fragment, action->version)->commit;
    agreement_publish(outer->agreement, action->fragment, action->version, message.body.commit.state_hash);
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (outer->sessions[slot].connected && outer->sessions[slot].ready) {
            outer_send(outer, slot, &message);
        }
}

static void finish(struct outer_run *outer) {
    struct message message = {.type = MESSAGE_FINISH};
    message.body.finish.version_count = (uint32_t)outer->fragments.count;
    for (int f = 0; f < outer->fragments.count; f++)
        message.body.finish.versions[f] = outer->machine.fragments[f].version;
    log_say(LOG_LEVEL_INFO, "all rounds are closed: final evaluation");
    outer_write_state(outer);
    outer_broadcast(outer, &message);
}

static void end_training(struct outer_run *outer) {
    struct message message = {.type = MESSAGE_END};
    snprintf(message.body.text.text, sizeof message.body.text.text, "a quorum has trained to the last step");
    log_say(LOG_LEVEL_INFO, "a quorum has trained to the last step: the others stop there too");
    outer_write_state(outer);
    outer_broadcast(outer, &message);
}

static void carry_out(struct outer_run *outer, const struct round_action *action) {
    switch (action->kind) {
    case ROUND_ACTION_START:
        start(outer);
        break;
    case ROUND_ACTION_MEMBERS:
        tell_members(outer);
        break;
    case ROUND_ACTION_GRANT:
        grant(outer, action);
        break;
    case ROUND_ACTION_REFUSE_OFFER:
        refuse_offer(outer, action);
        break;
    case ROUND_ACTION_DISCARD:
        discard(outer, action);
        break;
    case ROUND_ACTION_CLOSE:
        close_round(outer, action);
        break;
    case ROUND_ACTION_PUBLISH:
        publish(outer, action);
        break;
    case ROUND_ACTION_END:
        end_training(outer);
        break;
    case ROUND_ACTION_FINISH:
        finish(outer);
        break;
    case ROUND_ACTION_LEAVE:
        outer->leaving = true;
        break;
    }
}

void outer_feed(struct outer_run *outer, struct round_event event) {
    struct round_actions actions;
    actions.count = 0;
    event.now_us = clock_now_us();
    round_step(&outer->machine, &event, &actions);
    for (uint32_t i = 0; i < actions.count; i++)
        carry_out(outer, &actions.list[i]);
}

/* Said to the worker by REFUSE_OFFER; here it is counted and shown. */
static void note_bad_update(struct outer_run *outer, const struct outer_job *job, uint32_t code, double limit) {
    struct outer_session *session = &outer->sessions[job->slot];
    if (code == OFFER_REFUSED_NORM)
        snprintf(session->last_error, sizeof session->last_error,
                 "update of fragment %u refused: norm %.3g, at most %.3g counts (outer.reject_norm)", job->fragment,
                 job->norm, limit);
    else
        snprintf(session->last_error, sizeof session->last_error,
                 "update of fragment %u refused: it holds values that are not finite or above 2^60", job->fragment);
    outer->refused_updates++;
    log_say(LOG_LEVEL_WARN, "worker %s: %s", session->name, session->last_error);
}

static void on_check_done(struct outer_run *outer, const struct outer_job *job) {
    struct outer_upload *upload = &outer->uploads[job->slot][job->fragment];
    CHECK(upload->open && upload->checking);
    upload->checking = false;
    if (upload->discarded) {
        free_upload(outer, job->slot, job->fragment);
        /* Offered anew meanwhile (its link came back): that grant had to wait for this buffer. */
        const struct round_place *place = &outer->machine.fragments[job->fragment].places[job->slot];
        if (place->state == ROUND_PLACE_RECEIVING)
            grant(outer, &(struct round_action){.slot = job->slot, .fragment = job->fragment});
        return;
    }
    struct round_event event = {.slot = job->slot, .fragment = job->fragment, .version = job->version};
    double limit = 0;
    const struct contribution *c = &outer->machine.fragments[job->fragment].places[job->slot].contribution;
    upload->norm = job->norm;
    event.kind = ROUND_EVENT_WHOLE;
    if (job->status != STATUS_OK) {
        event.kind = ROUND_EVENT_BROKEN;
        event.code = OFFER_REFUSED_NOT_FINITE;
    } else if (update_guard_judge(&outer->guard, job->fragment, job->norm, c->tokens, &limit) == UPDATE_REFUSED) {
        event.kind = ROUND_EVENT_BROKEN;
        event.code = OFFER_REFUSED_NORM;
    }
    if (event.kind == ROUND_EVENT_BROKEN)
        note_bad_update(outer, job, event.code, limit);
    outer_feed(outer, event);
}

void outer_on_job(struct outer_run *outer, const struct outer_job *job) {
    switch (job->kind) {
    case OUTER_JOB_CHECK:
        on_check_done(outer, job);
        break;
    case OUTER_JOB_COMMIT:
        name_commit(outer, job);
        break;
    case OUTER_JOB_LOG:
        on_logged(outer, job);
        break;
    case OUTER_JOB_SNAPSHOT:
        outer_on_snapshot_made(outer, job);
        break;
    case OUTER_JOB_TAKE:
        outer_on_taken(outer, job);
        break;
    }
}
