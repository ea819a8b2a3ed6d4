/* outer_catch_up: who comes back. The recovery machine (outer/recovery.h) decides when this outer leads; then members hear the run's heads
 * (STATE), ask for what they lack (FETCH), and get commits to replay or whole fragments (SNAPSHOT). Before it leads, the same way round:
 * the outer asks those that bear newer versions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "outer/outer_run.h"
#include "outer/snapshot.h"

enum { RECOVERY_SAY_US = 10000000 };

struct outer_commit *outer_commit_place(struct outer_run *outer, uint32_t fragment, uint64_t version) {
    return &outer->commits[fragment][version % OUTER_COMMITS_KEPT];
}

uint64_t outer_commit_count(const struct outer_run *outer) {
    uint64_t count = 0;
    for (int f = 0; f < outer->fragments.count; f++)
        count += outer->heads[f].version;
    return count;
}

/* ---- to lead ---- */

static void say_state(struct outer_run *outer, uint32_t slot) {
    struct outer_session *session = &outer->sessions[slot];
    struct message message = {.type = MESSAGE_STATE};
    struct message_state *body = &message.body.state;
    body->started = outer->machine.started;
    body->run_step = outer->machine.run_step;
    body->tokens = outer->machine.ledger.entries[slot][0].processed;
    body->head_count = (uint32_t)outer->fragments.count;
    memcpy(body->heads, outer->heads, body->head_count * sizeof body->heads[0]);
    session->stated = true;
    outer_send(outer, slot, &message);
}

static void lead(struct outer_run *outer) {
    uint64_t here = 0, seen = 0;
    struct error error;
    for (int f = 0; f < outer->fragments.count; f++)
        seen = outer->heads[f].epoch > seen ? outer->heads[f].epoch : seen;
    if (outer_disk_begin_epoch(&outer->disk, seen, &error) != STATUS_OK) {
        outer->end_status = error.status;
        snprintf(outer->end_reason, sizeof outer->end_reason, "%.500s", error.text);
        log_say(LOG_LEVEL_ERROR, "%s", error.text);
        outer->leaving = true;
        return;
    }
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
            say_state(outer, slot);
}

static void ask_for(struct outer_run *outer, uint32_t slot, uint32_t fragment) {
    struct message message = {.type = MESSAGE_FETCH};
    message.body.fetch = (struct message_fetch){fragment, outer->heads[fragment]};
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

void outer_recovery_reason(const struct outer_run *outer, char text[MESSAGE_TEXT_BYTES]) {
    const struct recovery *recovery = &outer->recovery;
    uint64_t missing = recovery_missing_mask(recovery);
    size_t used = 0;
    text[0] = 0;
    if (recovery->leading)
        return;
    for (uint32_t fragment = 0; fragment < recovery->options.fragments; fragment++)
        if (recovery->fetching_from[fragment] != UINT32_MAX) {
            snprintf(text, MESSAGE_TEXT_BYTES, "taking over fragment %u from worker %s", fragment,
                     outer->sessions[recovery->fetching_from[fragment]].name);
            return;
        }
    if (missing == 0) {
        snprintf(text, MESSAGE_TEXT_BYTES,
                 "this outer has led before, but its state is gone and no worker that is here bears any: waiting for "
                 "the workers of the run (to begin a new run: --new, in a new directory)");
        return;
    }
    used = (size_t)snprintf(text, MESSAGE_TEXT_BYTES, "waiting for the workers that were in the run: slots");
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if ((missing >> slot & 1) != 0 && used + 8 < MESSAGE_TEXT_BYTES)
            used += (size_t)snprintf(text + used, MESSAGE_TEXT_BYTES - used, " %u", slot);
}

void outer_recovery_tick(struct outer_run *outer, uint64_t now_us) {
    char reason[MESSAGE_TEXT_BYTES];
    if (outer->recovery.leading)
        return;
    if (now_us >= recovery_deadline_us(&outer->recovery))
        outer_recovery_feed(outer, (struct recovery_event){.kind = RECOVERY_EVENT_TICK});
    if (outer->recovery.leading || now_us < outer->recovery_said_us + RECOVERY_SAY_US)
        return;
    outer->recovery_said_us = now_us;
    outer_recovery_reason(outer, reason);
    log_say(LOG_LEVEL_WARN, "not leading yet: %s", reason);
}

/* ---- members ---- */

void outer_greet(struct outer_run *outer, uint32_t slot) {
    const struct message_hello *hello = &outer->sessions[slot].hello;
    const struct head *bears = outer->genesis; /* a process that came without state holds what the seed gives */
    if (hello->head_count == (uint32_t)outer->fragments.count)
        bears = hello->heads;
    if (outer->recovery.leading)
        say_state(outer, slot);
    else
        outer_recovery_feed(outer, (struct recovery_event){.kind = RECOVERY_EVENT_BEARER,
                                                           .slot = slot,
                                                           .heads = bears,
                                                           .run_step = hello->run_step,
                                                           .members_mask = hello->members_mask});
}

static void say_where_the_run_is(struct outer_run *outer, uint32_t slot) {
    if (outer->machine.started) {
        struct message start = {.type = MESSAGE_START};
        start.body.start.evaluator_slot = members_evaluator(&outer->machine.members);
        outer_send(outer, slot, &start);
    }
    if (outer->machine.ended) {
        struct message end = {.type = MESSAGE_END};
        outer_send(outer, slot, &end);
    }
    if (outer->machine.finished) {
        struct message finish = {.type = MESSAGE_FINISH};
        finish.body.finish.version_count = (uint32_t)outer->fragments.count;
        for (int f = 0; f < outer->fragments.count; f++)
            finish.body.finish.versions[f] = outer->machine.fragments[f].version;
        outer_send(outer, slot, &finish);
    }
}

void outer_on_joined(struct outer_run *outer, uint32_t slot, const struct message_joined *joined) {
    struct outer_session *session = &outer->sessions[slot];
    if (!session->stated || session->joined)
        return;
    session->joined = true;
    log_say(LOG_LEVEL_INFO, "worker %s (slot %u) has joined at step %llu%s", session->name, slot,
            (unsigned long long)joined->step, session->has_validation ? "" : ", without held-out text");
    log_event(outer->log, "join",
              json_pack("{s:i, s:s, s:s, s:I, s:I}", "slot", (int)slot, "node", session->name, "reason",
                        joined->step > 0 ? "back" : "ready", "step", (json_int_t)joined->step, "tokens",
                        (json_int_t)joined->tokens));
    outer_feed(outer, (struct round_event){.kind = ROUND_EVENT_JOIN,
                                           .slot = slot,
                                           .incarnation = session->incarnation,
                                           .step = joined->step,
                                           .tokens = joined->tokens,
                                           .has_validation = session->has_validation});
    say_where_the_run_is(outer, slot);
}

/* ---- answers to a fetch ---- */

/* Heads of the versions from which a replay is possible, oldest first, the newest last. */
static uint32_t kept_heads(struct outer_run *outer, uint32_t fragment, struct head kept[OUTER_COMMITS_KEPT + 1]) {
    struct head reversed[OUTER_COMMITS_KEPT + 1];
    uint32_t count = 0;
    reversed[count++] = outer->heads[fragment];
    for (uint64_t version = outer->heads[fragment].version; version > 0 && count <= OUTER_COMMITS_KEPT; version--) {
        const struct outer_commit *place = outer_commit_place(outer, fragment, version);
        if (place->commit.version != version || !place->has_payload)
            break;
        reversed[count].version = version - 1;
        memcpy(reversed[count++].hash, place->commit.parent, MESSAGE_HASH_BYTES);
    }
    for (uint32_t i = 0; i < count; i++)
        kept[i] = reversed[count - 1 - i];
    return count;
}

static void replay(struct outer_run *outer, uint32_t slot, uint32_t fragment, uint64_t from) {
    for (uint64_t version = from; version <= outer->heads[fragment].version; version++) {
        struct message message = {.type = MESSAGE_COMMIT};
        message.body.commit = outer_commit_place(outer, fragment, version)->commit;
        outer_send(outer, slot, &message);
    }
}

/* A snapshot that still leads on to the newest version by replay. */
static struct outer_snapshot *find_snapshot(struct outer_run *outer, uint32_t fragment) {
    struct head kept[OUTER_COMMITS_KEPT + 1];
    uint32_t count = kept_heads(outer, fragment, kept);
    for (int i = 0; i < OUTER_SNAPSHOTS_MAX; i++) {
        struct outer_snapshot *snapshot = &outer->snapshots[i];
        if (!snapshot->used || snapshot->fragment != fragment)
            continue;
        struct head head = {.version = snapshot->message.commit.version};
        commit_hash(&snapshot->message.commit, head.hash);
        if (!snapshot->made || recovery_answer(&head, kept, count) != RECOVERY_ANSWER_SNAPSHOT)
            return snapshot;
    }
    return NULL;
}

static bool is_being_sent(const struct outer_run *outer, const struct outer_snapshot *snapshot) {
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (outer->sessions[slot].connected && outer->sessions[slot].snapshot.key.version != 0 &&
            outer->sessions[slot].snapshot.payload == snapshot->bytes)
            return true;
    return false;
}

static void drop_snapshot(struct outer_run *outer, struct outer_snapshot *snapshot) {
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (outer->sessions[slot].snapshot.payload == snapshot->bytes)
            memset(&outer->sessions[slot].snapshot, 0, sizeof outer->sessions[slot].snapshot);
    free(snapshot->bytes);
    memset(snapshot, 0, sizeof *snapshot);
}

/* A free place, or that of the snapshot that nobody fetches; NULL: all are in use. */
static struct outer_snapshot *snapshot_place(struct outer_run *outer) {
    struct outer_snapshot *oldest = NULL;
    for (int i = 0; i < OUTER_SNAPSHOTS_MAX; i++) {
        struct outer_snapshot *snapshot = &outer->snapshots[i];
        if (!snapshot->used)
            return snapshot;
        if (snapshot->made && !is_being_sent(outer, snapshot) &&
            (oldest == NULL || snapshot->touched_us < oldest->touched_us))
            oldest = snapshot;
    }
    if (oldest != NULL)
        drop_snapshot(outer, oldest);
    return oldest;
}

/* Packs the fragment's newest version, unless its round is closing: g and u may be ahead of what is durable then. */
static void make_snapshot(struct outer_run *outer, uint32_t fragment) {
    struct outer_commit *newest = outer_commit_place(outer, fragment, outer->heads[fragment].version);
    struct outer_snapshot *snapshot;
    if (outer->machine.fragments[fragment].closing || (snapshot = snapshot_place(outer)) == NULL)
        return;
    CHECK(newest->commit.version == outer->heads[fragment].version);
    uint8_t *bytes = malloc(snapshot_bound(outer->fragments.list[fragment].count));
    if (bytes == NULL) {
        log_say(LOG_LEVEL_WARN, "no memory to pack fragment %u for a worker; trying again", fragment);
        return;
    }
    *snapshot = (struct outer_snapshot){
        .used = true, .fragment = fragment, .bytes = bytes, .touched_us = clock_now_us()};
    snapshot->message.commit = newest->commit;
    outer_compute_submit(outer->compute, &(struct outer_job){.kind = OUTER_JOB_SNAPSHOT,
                                                             .fragment = fragment,
                                                             .version = newest->commit.version,
                                                             .payload = bytes});
}

static void say_snapshot(struct outer_run *outer, uint32_t slot, struct outer_snapshot *snapshot) {
    struct outer_session *session = &outer->sessions[slot];
    struct message message = {.type = MESSAGE_SNAPSHOT};
    message.body.snapshot = snapshot->message;
    session->wants_snapshot[snapshot->fragment] = false;
    snapshot->touched_us = clock_now_us();
    struct transfer_key key = {TRANSFER_SNAPSHOT, 0, snapshot->fragment, snapshot->message.commit.version};
    transfer_sender_open(&session->snapshot, key, snapshot->bytes, snapshot->message.bytes);
    outer_send(outer, slot, &message);
    log_event(outer->log, "recover",
              json_pack("{s:s, s:i, s:i, s:I, s:I}", "what", "snapshot", "slot", (int)slot, "fragment",
                        (int)snapshot->fragment, "version", (json_int_t)snapshot->message.commit.version, "bytes",
                        (json_int_t)snapshot->message.bytes));
    replay(outer, slot, snapshot->fragment, snapshot->message.commit.version + 1);
}

void outer_serve_snapshots(struct outer_run *outer) {
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        struct outer_session *session = &outer->sessions[slot];
        if (session->snapshot.key.version != 0 && session->snapshot.next == session->snapshot.bytes)
            memset(&session->snapshot, 0, sizeof session->snapshot); /* all of it went out; asked again, it is opened again */
        if (!session->connected || session->snapshot.key.version != 0)
            continue; /* one whole fragment at a time */
        for (uint32_t fragment = 0; fragment < (uint32_t)outer->fragments.count; fragment++) {
            if (!session->wants_snapshot[fragment])
                continue;
            struct outer_snapshot *snapshot = find_snapshot(outer, fragment);
            if (snapshot == NULL)
                make_snapshot(outer, fragment);
            else if (snapshot->made)
                say_snapshot(outer, slot, snapshot);
            break;
        }
    }
}

void outer_on_fetch(struct outer_run *outer, uint32_t slot, const struct message_fetch *fetch) {
    struct head kept[OUTER_COMMITS_KEPT + 1];
    if (fetch->fragment >= (uint32_t)outer->fragments.count || !outer->recovery.leading)
        return;
    uint32_t count = kept_heads(outer, fetch->fragment, kept);
    switch (recovery_answer(&fetch->have, kept, count)) {
    case RECOVERY_ANSWER_NOTHING:
        if (fetch->have.version > 0)
            replay(outer, slot, fetch->fragment, fetch->have.version);
        break;
    case RECOVERY_ANSWER_REPLAY:
        replay(outer, slot, fetch->fragment, fetch->have.version + 1);
        break;
    case RECOVERY_ANSWER_SNAPSHOT:
        if (outer->heads[fetch->fragment].version > 0)
            outer->sessions[slot].wants_snapshot[fetch->fragment] = true;
        break;
    }
}

void outer_on_snapshot_made(struct outer_run *outer, const struct outer_job *job) {
    for (int i = 0; i < OUTER_SNAPSHOTS_MAX; i++) {
        struct outer_snapshot *snapshot = &outer->snapshots[i];
        if (!snapshot->used || snapshot->bytes != job->payload)
            continue;
        if (job->status != STATUS_OK) {
            log_say(LOG_LEVEL_WARN, "fragment %u could not be packed: %s", job->fragment, job->error.text);
            drop_snapshot(outer, snapshot);
            return;
        }
        snapshot->made = true;
        snapshot->message.bytes = job->bytes;
        memcpy(snapshot->message.hash, job->payload_hash, sizeof job->payload_hash);
    }
}

void outer_on_snapshot_grant(struct outer_run *outer, uint32_t slot, const struct message_grant *grant) {
    struct outer_session *session = &outer->sessions[slot];
    for (int i = 0; i < OUTER_SNAPSHOTS_MAX; i++) {
        struct outer_snapshot *snapshot = &outer->snapshots[i];
        if (!snapshot->made || snapshot->fragment != grant->key.fragment ||
            snapshot->message.commit.version != grant->key.version)
            continue;
        if (session->snapshot.payload != snapshot->bytes)
            transfer_sender_open(&session->snapshot, grant->key, snapshot->bytes, snapshot->message.bytes);
        snapshot->touched_us = clock_now_us();
        if (!transfer_sender_grant(&session->snapshot, grant->offset, grant->limit))
            log_say(LOG_LEVEL_WARN, "worker %s asked for bytes beyond a snapshot", session->name);
        return;
    }
    /* It was dropped meanwhile: the worker asks again when it sees that nothing follows. */
    session->wants_snapshot[grant->key.fragment] = true;
}

/* ---- taking over ---- */

static void drop_taking(struct outer_taking *taking) {
    if (taking->unpacking)
        return; /* freed when the job is back */
    free(taking->buffer);
    memset(taking, 0, sizeof *taking);
}

static void taking_failed(struct outer_run *outer, uint32_t slot, uint32_t fragment, const char *why) {
    log_say(LOG_LEVEL_WARN, "fragment %u cannot be taken over from worker %s: %s", fragment,
            outer->sessions[slot].name, why);
    snprintf(outer->sessions[slot].last_error, sizeof outer->sessions[slot].last_error, "%.500s", why);
    outer_recovery_feed(outer, (struct recovery_event){
                                   .kind = RECOVERY_EVENT_FAILED, .slot = slot, .fragment = fragment});
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
    size_t most = snapshot_bound(outer->fragments.list[fragment].count);
    if (snapshot->bytes > most) {
        taking_failed(outer, slot, fragment, "more bytes than the fragment can have");
        return;
    }
    struct outer_taking *taking = &outer->takings[fragment];
    if (taking->unpacking)
        return;
    drop_taking(taking);
    *taking = (struct outer_taking){.open = true, .slot = slot, .message = *snapshot, .buffer = malloc(snapshot->bytes)};
    if (taking->buffer == NULL) {
        taking->open = false;
        taking_failed(outer, slot, fragment, "no memory for it");
        return;
    }
    struct transfer_key key = {TRANSFER_SNAPSHOT, 0, fragment, snapshot->commit.version};
    transfer_receiver_open(&taking->receiver, key, taking->buffer, snapshot->bytes, OUTER_UPLOAD_WINDOW_BYTES,
                           snapshot->hash);
    struct message message = {.type = MESSAGE_GRANT};
    if (transfer_receiver_grant(&taking->receiver, &message.body.grant))
        outer_send(outer, slot, &message);
}

void outer_on_snapshot_chunk(struct outer_run *outer, uint32_t slot, const struct chunk *chunk,
                             const uint8_t *payload) {
    struct outer_taking *taking = &outer->takings[chunk->key.fragment];
    struct message message = {.type = MESSAGE_GRANT};
    if (!taking->open || taking->unpacking || taking->slot != slot ||
        chunk->key.version != taking->receiver.key.version)
        return;
    struct outer_job job = {.kind = OUTER_JOB_TAKE,
                            .slot = slot,
                            .fragment = chunk->key.fragment,
                            .version = taking->message.commit.version,
                            .commit = &taking->message.commit,
                            .part_count = 1};
    switch (transfer_receiver_chunk(&taking->receiver, chunk, payload)) {
    case TRANSFER_COMPLETE:
        job.parts[0] = (struct commit_part){taking->buffer, taking->receiver.bytes, 1};
        taking->unpacking = true;
        outer_compute_submit(outer->compute, &job);
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
    if (job->status != STATUS_OK) {
        drop_taking(taking);
        taking_failed(outer, job->slot, job->fragment, job->error.text);
        return;
    }
    place->commit = taking->message.commit;
    place->has_payload = false;
    place->head = (struct head){.epoch = place->commit.epoch, .version = place->commit.version};
    commit_hash(&place->commit, place->head.hash);
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
}

/* ---- ends ---- */

void outer_catch_up_lost(struct outer_run *outer, uint32_t slot) {
    struct outer_session *session = &outer->sessions[slot];
    memset(&session->snapshot, 0, sizeof session->snapshot);
    memset(session->wants_snapshot, 0, sizeof session->wants_snapshot);
    session->stated = session->joined = false;
    for (uint32_t fragment = 0; fragment < (uint32_t)outer->fragments.count; fragment++)
        if (outer->takings[fragment].open && outer->takings[fragment].slot == slot)
            drop_taking(&outer->takings[fragment]);
    if (!outer->recovery.leading)
        outer_recovery_feed(outer, (struct recovery_event){.kind = RECOVERY_EVENT_GONE, .slot = slot});
}

void outer_catch_up_close(struct outer_run *outer) {
    for (int i = 0; i < OUTER_SNAPSHOTS_MAX; i++)
        free(outer->snapshots[i].bytes);
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
