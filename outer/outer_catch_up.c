/* outer_catch_up: who comes back. Once this outer leads (outer_lead.c), a member hears the run's heads (STATE), asks for what it lacks
 * (FETCH), and gets commits to replay or a whole fragment (SNAPSHOT), until it says JOINED. */
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "outer/outer_run.h"
#include "outer/snapshot.h"

struct outer_commit *outer_commit_place(struct outer_run *outer, uint32_t fragment, uint64_t version) {
    return &outer->commits[fragment][version % OUTER_COMMITS_KEPT];
}

uint64_t outer_commit_count(const struct outer_run *outer) {
    uint64_t count = 0;
    for (int f = 0; f < outer->fragments.count; f++)
        count += outer->heads[f].version;
    return count;
}

/* ---- members ---- */

void outer_say_state(struct outer_run *outer, uint32_t slot) {
    struct outer_session *session = &outer->sessions[slot];
    struct message message = {.type = MESSAGE_STATE};
    struct message_state *body = &message.body.state;
    body->started = outer->machine.started;
    body->run_step = outer->machine.run_step;
    for (int f = 0; f < outer->fragments.count; f++)
        if (outer->machine.ledger.entries[slot][f].processed > body->tokens)
            body->tokens = outer->machine.ledger.entries[slot][f].processed;
    body->head_count = (uint32_t)outer->fragments.count;
    memcpy(body->heads, outer->heads, body->head_count * sizeof body->heads[0]);
    session->stated = true;
    outer_send(outer, slot, &message);
}

void outer_greet(struct outer_run *outer, uint32_t slot) {
    const struct message_hello *hello = &outer->sessions[slot].hello;
    bool has_state = hello->head_count == (uint32_t)outer->fragments.count;
    struct head bears[MESSAGE_FRAGMENTS_MAX]; /* a process that came without state holds what the seed gives */
    for (int f = 0; f < outer->fragments.count; f++) {
        bool is_good = has_state && !agreement_is_dropped(outer->agreement, (uint32_t)f, &hello->heads[f]);
        bears[f] = is_good ? hello->heads[f] : outer->genesis[f];
    }
    if (outer->recovery.leading)
        outer_say_state(outer, slot);
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

/* It stands still although it holds all that was published: it can send nothing before another commit. */
bool outer_is_blocked(const struct outer_run *outer, uint32_t slot) {
    const struct message_telemetry *t = &outer->sessions[slot].telemetry;
    bool newest = t->version_count == (uint32_t)outer->fragments.count;
    for (uint32_t f = 0; newest && f < t->version_count; f++)
        newest = t->versions[f] == outer->heads[f].version;
    return newest && t->phase == WORKER_WAITING && outer->sessions[slot].joined;
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
        struct head head = commit_head(&snapshot->message.commit);
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
    *snapshot =
        (struct outer_snapshot){.used = true, .fragment = fragment, .bytes = bytes, .touched_us = clock_now_us()};
    snapshot->message.commit = newest->commit;
    outer_compute_submit(outer->compute, &(struct outer_job){.kind = OUTER_JOB_SNAPSHOT,
                                                             .fragment = fragment,
                                                             .version = newest->commit.version,
                                                             .commit = &snapshot->message.commit,
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
            memset(&session->snapshot, 0,
                   sizeof session->snapshot); /* all of it went out; asked again, it is opened again */
        if (!session->connected || session->snapshot.key.version != 0)
            continue; /* one whole fragment at a time */
        for (uint32_t fragment = 0; fragment < (uint32_t)outer->fragments.count; fragment++) {
            if (!session->wants_snapshot[fragment] || outer_is_disputed(outer, fragment))
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

void outer_want_snapshot(struct outer_run *outer, uint32_t slot, uint32_t fragment) {
    if (outer->recovery.leading && outer->heads[fragment].version > 0)
        outer->sessions[slot].wants_snapshot[fragment] = true;
}

/* What it holds, and has counted there, is not of this run: its work is dropped. The worker itself cannot tell where the run has gone past it. */
static void say_lost_branch(const struct outer_run *outer, uint32_t slot, const struct message_fetch *fetch) {
    const struct outer_session *session = &outer->sessions[slot];
    if (session->wants_snapshot[fetch->fragment] || fetch->have.epoch >= outer->disk.state.epoch ||
        fetch->have.version <= outer->led_from[fetch->fragment])
        return;
    log_say(LOG_LEVEL_WARN,
            "worker %s bears version %llu of fragment %u, which is of a branch that this run lost: it takes up version "
            "%llu",
            session->name, (unsigned long long)fetch->have.version, fetch->fragment,
            (unsigned long long)outer->heads[fetch->fragment].version);
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
        say_lost_branch(outer, slot, fetch);
        outer_want_snapshot(outer, slot, fetch->fragment);
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
            if (job->status == STATUS_DATA)
                outer_drop_from(outer, job->fragment, job->version + 1);
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
    outer_want_snapshot(outer, slot, grant->key.fragment);
}

/* ---- ends ---- */

void outer_catch_up_lost(struct outer_run *outer, uint32_t slot) {
    struct outer_session *session = &outer->sessions[slot];
    memset(&session->snapshot, 0, sizeof session->snapshot);
    memset(session->wants_snapshot, 0, sizeof session->wants_snapshot);
    session->stated = session->joined = false;
    outer_lead_lost(outer, slot);
}

void outer_catch_up_close(struct outer_run *outer) {
    for (int i = 0; i < OUTER_SNAPSHOTS_MAX; i++)
        free(outer->snapshots[i].bytes);
}
