/* outer_lead: how this outer comes to lead. The recovery machine (outer/recovery.h) decides; here are its words: newer versions that members
 * bear are asked for (FETCH), received whole (SNAPSHOT) and taken over, then the epoch is raised, and all are told the run's heads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/files.h"
#include "outer/outer_run.h"
#include "outer/snapshot.h"

enum { RECOVERY_SAY_US = 10000000, UNPACK_AGAIN_US = 2000000, GIVES_NOTHING_US = 30000000 };

/* ---- to lead ---- */

/* What was exported is all that is left of this run: no fresh model replaces it. */
static enum status check_trained(const struct outer_run *outer, struct error *error) {
    char path[RUN_PATH_BYTES];
    files_join(path, sizeof path, outer->directory, "model");
    if (outer->recovery.options.mode != RECOVERY_EMPTY || outer_commit_count(outer) > 0 || !files_exists(path))
        return STATUS_OK;
    return error_set(
        error, STATUS_CONFIG,
        "%s holds a trained model of this run, but neither this outer nor a worker has its state any more: "
        "to train a new one, use another --dir, or --new to replace that model",
        path);
}

static void lead(struct outer_run *outer) {
    uint64_t here = 0, seen = 0;
    struct error error;
    for (int f = 0; f < outer->fragments.count; f++)
        seen = outer->heads[f].epoch > seen ? outer->heads[f].epoch : seen;
    failpoint_hit("outer.epoch.raise");
    if (check_trained(outer, &error) != STATUS_OK ||
        outer_disk_begin_epoch(&outer->disk, seen, clock_wall_s(), &error) != STATUS_OK) {
        outer->end_status = error.status;
        snprintf(outer->end_reason, sizeof outer->end_reason, "%.500s", error.text);
        log_say(LOG_LEVEL_ERROR, "%s", error.text);
        outer->leaving = true;
        return;
    }
    failpoint_hit("outer.epoch.raised");
    for (int f = 0; f < outer->fragments.count; f++)
        outer->led_from[f] = outer->heads[f].version;
    log_say(LOG_LEVEL_INFO, "this outer leads in epoch %llu", (unsigned long long)outer->disk.state.epoch);
    log_event(outer->log, "lead",
              json_pack("{s:I, s:I}", "epoch", (json_int_t)outer->disk.state.epoch, "run_step",
                        (json_int_t)outer->machine.run_step));
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (outer->sessions[slot].connected && outer->sessions[slot].ready)
            here |= (uint64_t)1 << slot;
    outer_feed(outer, (struct round_event){.kind = ROUND_EVENT_LEAD, .mask = here});
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if ((here >> slot & 1) != 0)
            outer_say_state(outer, slot);
}

static void ask_for(struct outer_run *outer, uint32_t slot, uint32_t fragment) {
    struct message message = {.type = MESSAGE_FETCH};
    message.body.fetch = (struct message_fetch){fragment, outer->heads[fragment]};
    outer->asked_us[fragment] = clock_now_us();
    log_say(LOG_LEVEL_INFO, "taking over fragment %u from worker %s, which holds a newer version than this outer",
            fragment, outer->sessions[slot].name);
    outer_send(outer, slot, &message);
}

void outer_recovery_feed(struct outer_run *outer, struct recovery_event event) {
    struct recovery_actions actions;
    actions.count = 0;
    event.now_us = clock_now_us();
    recovery_step(&outer->recovery, &event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        if (actions.list[i].kind == RECOVERY_ACTION_LEAD)
            lead(outer);
        else
            ask_for(outer, actions.list[i].slot, actions.list[i].fragment);
    }
}

void outer_recovery_open(struct outer_run *outer, enum recovery_mode mode, uint64_t window_us, bool force) {
    struct recovery_options options = {.mode = mode,
                                       .fragments = (uint32_t)outer->fragments.count,
                                       .workers = (uint32_t)outer->run.workers,
                                       .window_us = window_us,
                                       .expected_mask = outer->disk.state.live_mask,
                                       .force = force};
    recovery_open(&outer->recovery, &options);
    outer_recovery_feed(outer, (struct recovery_event){.kind = RECOVERY_EVENT_OPEN, .heads = outer->heads});
}

/* As it was called when it was here, or as the list of workers has it; else its slot: on an empty disk nobody knows more. */
static void name_worker(const struct outer_run *outer, uint32_t slot, char name[MESSAGE_NAME_BYTES]) {
    struct admission_worker worker;
    char number[16];
    snprintf(number, sizeof number, "%u", slot);
    if (outer->sessions[slot].name[0] != 0)
        snprintf(name, MESSAGE_NAME_BYTES, "%s", outer->sessions[slot].name);
    else if (admission_select(outer->admission, number, &worker, NULL) == STATUS_OK)
        snprintf(name, MESSAGE_NAME_BYTES, "%s", worker.name);
    else
        snprintf(name, MESSAGE_NAME_BYTES, "that of slot %u", slot);
}

/* Names with commas; "..." where they do not fit. */
static void name_workers(const struct outer_run *outer, uint64_t mask, char *text, size_t bytes) {
    size_t used = 0;
    text[0] = 0;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        char name[MESSAGE_NAME_BYTES];
        if ((mask >> slot & 1) == 0)
            continue;
        name_worker(outer, slot, name);
        const char *comma = used > 0 ? ", " : "";
        if (used + strlen(comma) + strlen(name) + sizeof ", ..." > bytes) {
            snprintf(text + used, bytes - used, "%s...", comma);
            return;
        }
        used += (size_t)snprintf(text + used, bytes - used, "%s%s", comma, name);
    }
}

/* How long it still waits, and what somebody can do about it. */
static void say_until_when(const struct outer_run *outer, char *text, size_t bytes) {
    const struct recovery *recovery = &outer->recovery;
    uint32_t lacking = recovery_lacking(recovery);
    uint64_t now_us = clock_now_us(), deadline_us = recovery_deadline_us(recovery);
    uint64_t left_s = deadline_us > now_us ? (deadline_us - now_us + 999999) / 1000000 : 0;
    if (lacking == 0)
        snprintf(text, bytes, "it leads without who is missing in %llu s", (unsigned long long)left_s);
    else if (recovery->heard_mask == 0 && (recovery->options.force || recovery->options.mode == RECOVERY_DISK))
        snprintf(text, bytes, "it leads when one of them is here");
    else
        snprintf(
            text, bytes,
            "it waits, for as long as it takes, until %u more of them %s here. If they are gone for good, start it "
            "again with --force: it leads from what is here; what only they hold is lost",
            lacking, lacking == 1 ? "is" : "are");
}

void outer_recovery_reason(const struct outer_run *outer, char text[MESSAGE_TEXT_BYTES]) {
    enum { NAMES_BYTES = 256, UNTIL_BYTES = MESSAGE_TEXT_BYTES - NAMES_BYTES - 64 };
    const struct recovery *recovery = &outer->recovery;
    char names[NAMES_BYTES], until[UNTIL_BYTES];
    uint64_t missing = recovery_missing_mask(recovery);
    text[0] = 0;
    if (recovery->leading)
        return;
    for (uint32_t fragment = 0; fragment < recovery->options.fragments; fragment++)
        if (recovery->fetching_from[fragment] != UINT32_MAX) {
            snprintf(text, MESSAGE_TEXT_BYTES, "taking over fragment %u from worker %s", fragment,
                     outer->sessions[recovery->fetching_from[fragment]].name);
            return;
        }
    name_workers(outer, missing, names, sizeof names);
    say_until_when(outer, until, sizeof until);
    if (missing != 0)
        snprintf(text, MESSAGE_TEXT_BYTES, "waiting for the workers that were in the run: %s; %s", names, until);
    else if (recovery->options.mode == RECOVERY_DISK && recovery->heard_mask == 0)
        snprintf(text, MESSAGE_TEXT_BYTES, "waiting for a worker of the run; %s", until);
    else if (recovery->options.mode == RECOVERY_DISK || outer_commit_count(outer) > 0)
        snprintf(text, MESSAGE_TEXT_BYTES, "hearing first what the workers of the run hold; %s", until);
    else
        snprintf(
            text, MESSAGE_TEXT_BYTES,
            "this outer has led before, but %s and no worker that is here bears any: waiting for the workers of "
            "the run, %u more. If one is gone for good before anything was trained, start this outer again with --new; "
            "`atoll token create DIR` lets in another in its place",
            outer->disk.state.epoch == 0 ? "its state is gone" : "its disk holds no commit",
            recovery_lacking(recovery));
}

uint64_t outer_named_slots(const struct outer_run *outer) {
    uint64_t mask = outer->disk.state.live_mask;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        mask |= outer->recovery.claims[slot].members_mask;
        for (int f = 0; f < outer->fragments.count; f++)
            if (outer->machine.ledger.entries[slot][f].processed > 0)
                mask |= (uint64_t)1 << slot;
    }
    return mask;
}

/* ---- taking over ---- */

static void drop_taking(struct outer_taking *taking) {
    if (taking->unpacking)
        return; /* freed when the job is back */
    free(taking->buffer);
    memset(taking, 0, sizeof *taking);
}

static bool is_unpacking_from(const struct outer_run *outer, uint32_t slot) {
    for (int f = 0; f < outer->fragments.count; f++)
        if (outer->takings[f].open && outer->takings[f].slot == slot &&
            (outer->takings[f].unpacking || outer->takings[f].again_us != 0))
            return true;
    return false;
}

/* The bearer is gone, or has failed us; but what of it is being unpacked will be ours: nothing is decided before. */
static void consider_gone(struct outer_run *outer, uint32_t slot) {
    const struct outer_session *session = &outer->sessions[slot];
    uint64_t bit = (uint64_t)1 << slot;
    if (outer->recovery.leading || is_unpacking_from(outer, slot))
        return;
    if ((outer->failed_mask & bit) != 0) {
        outer->failed_mask &= ~bit;
        outer_recovery_feed(outer, (struct recovery_event){.kind = RECOVERY_EVENT_FAILED, .slot = slot});
    } else if (!session->connected || !session->ready) {
        outer_recovery_feed(outer, (struct recovery_event){.kind = RECOVERY_EVENT_GONE, .slot = slot});
    }
}

static void taking_failed(struct outer_run *outer, uint32_t slot, uint32_t fragment, const char *why) {
    log_say(LOG_LEVEL_WARN, "fragment %u cannot be taken over from worker %s: %s", fragment, outer->sessions[slot].name,
            why);
    snprintf(outer->sessions[slot].last_error, sizeof outer->sessions[slot].last_error, "%.500s", why);
    outer->failed_mask |= (uint64_t)1 << slot;
    consider_gone(outer, slot);
}

void outer_on_snapshot(struct outer_run *outer, uint32_t slot, const struct message_snapshot *snapshot) {
    struct error error;
    uint32_t fragment = snapshot->commit.fragment;
    if (fragment >= (uint32_t)outer->fragments.count || outer->recovery.leading ||
        outer->recovery.fetching_from[fragment] != slot)
        return;
    if (commit_verify(&snapshot->commit, outer->keys.sign_key, &error) != STATUS_OK ||
        memcmp(snapshot->commit.run_id, outer->run_id, sizeof outer->run_id) != 0) {
        taking_failed(outer, slot, fragment, "its commit is not signed by this outer's key for this run");
        return;
    }
    struct head head = {.epoch = snapshot->commit.epoch, .version = snapshot->commit.version};
    if (!recovery_head_is_newer(&head, &outer->heads[fragment])) {
        taking_failed(outer, slot, fragment, "it gives an older version than this outer holds");
        return;
    }
    size_t most = snapshot_bound(outer->fragments.list[fragment].count);
    if (snapshot->bytes > most) {
        taking_failed(outer, slot, fragment, "more bytes than the fragment can have");
        return;
    }
    struct outer_taking *taking = &outer->takings[fragment];
    if (taking->unpacking || taking->again_us != 0)
        return;
    drop_taking(taking);
    *taking =
        (struct outer_taking){.open = true, .slot = slot, .message = *snapshot, .buffer = malloc(snapshot->bytes)};
    if (taking->buffer == NULL) {
        taking->open = false;
        taking_failed(outer, slot, fragment, "no memory for it");
        return;
    }
    struct transfer_key key = {TRANSFER_SNAPSHOT, 0, fragment, snapshot->commit.version};
    outer->asked_us[fragment] = clock_now_us();
    transfer_receiver_open(&taking->receiver, key, taking->buffer, snapshot->bytes,
                           transfer_window_bytes((uint32_t)outer->run.workers), snapshot->hash);
    struct message message = {.type = MESSAGE_GRANT};
    if (transfer_receiver_grant(&taking->receiver, &message.body.grant))
        outer_send(outer, slot, &message);
}

static void unpack(struct outer_run *outer, struct outer_taking *taking) {
    struct outer_job job = {.kind = OUTER_JOB_TAKE,
                            .slot = taking->slot,
                            .fragment = taking->message.commit.fragment,
                            .version = taking->message.commit.version,
                            .commit = &taking->message.commit,
                            .part_count = 1};
    job.parts[0] = (struct commit_part){taking->buffer, taking->receiver.bytes, 1};
    taking->unpacking = true;
    taking->again_us = 0;
    outer_compute_submit(outer->compute, &job);
}

/* This disk does not take it now; that is no fault of its bearer. */
static void unpack_again(struct outer_run *outer, uint64_t now_us) {
    for (int f = 0; f < outer->fragments.count; f++)
        if (outer->takings[f].again_us != 0 && now_us >= outer->takings[f].again_us)
            unpack(outer, &outer->takings[f]);
}

void outer_on_snapshot_chunk(struct outer_run *outer, uint32_t slot, const struct chunk *chunk,
                             const uint8_t *payload) {
    struct outer_taking *taking = &outer->takings[chunk->key.fragment];
    struct message message = {.type = MESSAGE_GRANT};
    if (!taking->open || taking->unpacking || taking->slot != slot ||
        chunk->key.version != taking->receiver.key.version)
        return;
    outer->asked_us[chunk->key.fragment] = clock_now_us();
    switch (transfer_receiver_chunk(&taking->receiver, chunk, payload)) {
    case TRANSFER_COMPLETE:
        unpack(outer, taking);
        return;
    case TRANSFER_BAD_HASH:
        drop_taking(taking);
        taking_failed(outer, slot, chunk->key.fragment, "its bytes do not match their hash");
        return;
    case TRANSFER_TAKEN:
    case TRANSFER_DUPLICATE:
    case TRANSFER_HOSTILE:
        break;
    }
    if (transfer_receiver_grant(&taking->receiver, &message.body.grant))
        outer_send(outer, slot, &message);
}

void outer_on_taken(struct outer_run *outer, const struct outer_job *job) {
    struct outer_taking *taking = &outer->takings[job->fragment];
    struct outer_commit *place = outer_commit_place(outer, job->fragment, job->version);
    taking->unpacking = false;
    if (job->status == STATUS_IO || job->status == STATUS_NO_MEMORY) {
        log_say(LOG_LEVEL_ERROR, "%s; trying again, the run waits", job->error.text);
        taking->again_us = clock_now_us() + UNPACK_AGAIN_US;
        return;
    }
    if (job->status != STATUS_OK) {
        drop_taking(taking);
        taking_failed(outer, job->slot, job->fragment, job->error.text);
        return;
    }
    place->commit = taking->message.commit;
    place->has_payload = false;
    place->head = commit_head(&place->commit);
    outer->heads[job->fragment] = place->head;
    round_adopt(&outer->machine, &place->commit);
    log_say(LOG_LEVEL_WARN,
            "fragment %u: version %llu taken over from worker %s; what only the lost state knew, the residual of the "
            "way down, is gone",
            job->fragment, (unsigned long long)job->version, outer->sessions[job->slot].name);
    log_event(outer->log, "recover",
              json_pack("{s:s, s:i, s:i, s:I}", "what", "taken over", "slot", (int)job->slot, "fragment",
                        (int)job->fragment, "version", (json_int_t)job->version));
    drop_taking(taking);
    outer_recovery_feed(outer, (struct recovery_event){.kind = RECOVERY_EVENT_TAKEN,
                                                       .slot = job->slot,
                                                       .fragment = job->fragment,
                                                       .heads = &outer->heads[job->fragment]});
    consider_gone(outer, job->slot);
}

/* ---- ends ---- */

/* Who says that it holds a newer version, keeps its link, and gives nothing must not hold the run up. */
static void mind_bearers(struct outer_run *outer, uint64_t now_us) {
    for (uint32_t fragment = 0; fragment < (uint32_t)outer->fragments.count; fragment++) {
        uint32_t slot = outer->recovery.fetching_from[fragment];
        const struct outer_taking *taking = &outer->takings[fragment];
        bool ours = taking->unpacking || taking->again_us != 0;
        if (slot != UINT32_MAX && !ours && now_us > outer->asked_us[fragment] + GIVES_NOTHING_US)
            taking_failed(outer, slot, fragment, "it gives nothing");
    }
}

void outer_recovery_tick(struct outer_run *outer, uint64_t now_us) {
    char reason[MESSAGE_TEXT_BYTES];
    if (outer->recovery.leading)
        return;
    unpack_again(outer, now_us);
    mind_bearers(outer, now_us);
    if (now_us >= recovery_deadline_us(&outer->recovery))
        outer_recovery_feed(outer, (struct recovery_event){.kind = RECOVERY_EVENT_TICK});
    if (outer->recovery.leading || now_us < outer->recovery_said_us + RECOVERY_SAY_US)
        return;
    outer->recovery_said_us = now_us;
    outer_recovery_reason(outer, reason);
    log_say(LOG_LEVEL_WARN, "not leading yet: %s", reason);
}

void outer_lead_lost(struct outer_run *outer, uint32_t slot) {
    for (uint32_t fragment = 0; fragment < (uint32_t)outer->fragments.count; fragment++)
        if (outer->takings[fragment].open && outer->takings[fragment].slot == slot &&
            outer->takings[fragment].again_us == 0)
            drop_taking(&outer->takings[fragment]);
    consider_gone(outer, slot);
}

void outer_lead_close(struct outer_run *outer) {
    for (int f = 0; f < outer->fragments.count; f++)
        free(outer->takings[f].buffer);
}

void outer_write_state(struct outer_run *outer) {
    struct error error;
    struct outer_disk_state state = {.epoch = outer->disk.state.epoch,
                                     .started = outer->machine.started,
                                     .ended = outer->machine.ended,
                                     .finished = outer->machine.finished,
                                     .live_mask = members_live_mask(&outer->machine.members)};
    if (outer_disk_write(&outer->disk, &state, &error) != STATUS_OK)
        log_say(LOG_LEVEL_WARN, "%s", error.text);
}
