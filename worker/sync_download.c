/* sync_download: what comes in. struct follow decides which versions are fetched and received; here are their bytes: a commit's payload steps
 * the worker's own copy aside, a snapshot replaces it; the state hash is compared, then the compute thread is told. The sync thread's. */
#include <stdio.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "comms/commit.h"
#include "outer/recovery.h"
#include "outer/snapshot.h"
#include "worker/sync_state.h"

/* What an event of follow is about: the bytes that RECEIVE gets. */
struct arriving {
    const struct commit *commit;
    bool is_snapshot;
    uint64_t bytes;
    const uint8_t *hash;
};

/* ---- bytes ---- */

static uint64_t download_window(const struct sync_thread *sync) {
    uint64_t cap = sync->options.down_bytes_per_s;
    uint64_t chunk = transfer_chunk_bytes(cap);
    uint64_t most = transfer_window_bytes((uint32_t)sync->options.run->workers);
    uint64_t window = cap == 0 || cap / 2 > most ? most : cap / 2;
    return window > 2 * chunk ? window : 2 * chunk;
}

/* The smallest that is large enough; NULL: none. */
static struct arena *find_spare(struct sync_thread *sync, size_t bytes) {
    struct arena *found = NULL;
    for (int i = 0; i < SYNC_SPARES_MAX; i++) {
        struct arena *spare = &sync->spares[i];
        if (spare->capacity_bytes >= bytes && (found == NULL || spare->capacity_bytes < found->capacity_bytes))
            found = spare;
    }
    return found;
}

static enum status take_memory(struct sync_thread *sync, struct sync_entry *entry, struct error *error) {
    size_t bytes = arena_round((size_t)entry->bytes);
    struct arena *spare = entry->is_snapshot ? NULL : find_spare(sync, bytes);
    enum status status = STATUS_OK;
    if (spare != NULL) {
        entry->memory = *spare;
        *spare = (struct arena){0};
    } else {
        status = arena_open(&entry->memory, bytes, error);
    }
    entry->payload = status == STATUS_OK ? entry->memory.base : NULL;
    return status;
}

/* The largest ones are kept. */
static void give_memory(struct sync_thread *sync, struct sync_entry *entry) {
    struct arena *smallest = &sync->spares[0];
    for (int i = 1; i < SYNC_SPARES_MAX; i++)
        if (sync->spares[i].capacity_bytes < smallest->capacity_bytes)
            smallest = &sync->spares[i];
    if (!entry->is_snapshot && smallest->capacity_bytes < entry->memory.capacity_bytes) {
        struct arena kept = entry->memory;
        entry->memory = *smallest;
        *smallest = kept;
    }
    arena_close(&entry->memory);
}

/* No memory for it: the island stops, since it could follow the run no further; the entry stays without bytes. */
static void open_entry(struct sync_thread *sync, struct sync_entry *entry, const struct arriving *arriving) {
    uint32_t kind = arriving->is_snapshot ? TRANSFER_SNAPSHOT : TRANSFER_COMMIT;
    struct transfer_key key = {kind, 0, arriving->commit->fragment, arriving->commit->version};
    *entry = (struct sync_entry){
        .is_snapshot = arriving->is_snapshot, .commit = *arriving->commit, .bytes = arriving->bytes};
    struct error error;
    if (failpoint_fails("worker.download.memory") || take_memory(sync, entry, &error) != STATUS_OK) {
        char text[MESSAGE_TEXT_BYTES];
        snprintf(text, sizeof text, "no memory for the %llu bytes of %s of fragment %u, version %llu",
                 (unsigned long long)arriving->bytes, arriving->is_snapshot ? "a snapshot" : "a commit", key.fragment,
                 (unsigned long long)key.version);
        sync_stop(sync, false, STATUS_NO_MEMORY, text);
        return;
    }
    transfer_receiver_open(&entry->receiver, key, entry->payload, arriving->bytes, download_window(sync),
                           arriving->hash);
}

static void drop_entries(struct sync_thread *sync, uint32_t f) {
    for (uint32_t i = 0; i < sync->entry_count[f]; i++)
        give_memory(sync, &sync->entries[f][i]);
    sync->entry_count[f] = 0;
}

static void drop_first(struct sync_thread *sync, uint32_t f) {
    give_memory(sync, &sync->entries[f][0]);
    sync->entry_count[f]--;
    memmove(&sync->entries[f][0], &sync->entries[f][1], sync->entry_count[f] * sizeof sync->entries[f][0]);
}

void sync_download_close(struct sync_thread *sync) {
    for (int f = 0; f < sync->options.copy->fragments->count; f++)
        drop_entries(sync, (uint32_t)f);
    for (int i = 0; i < SYNC_SPARES_MAX; i++)
        arena_close(&sync->spares[i]);
}

static void say_grant(struct sync_thread *sync, struct sync_entry *entry) {
    struct message message = {.type = MESSAGE_GRANT};
    if (transfer_receiver_grant(&entry->receiver, &message.body.grant))
        sync_say(sync, &message);
}

/* The oldest of the fragment that is not whole; NULL when all are, or there is no memory for it. */
static struct sync_entry *missing(struct sync_thread *sync, uint32_t f) {
    for (uint32_t i = 0; i < sync->entry_count[f]; i++)
        if (!sync->entries[f][i].complete)
            return sync->entries[f][i].payload != NULL ? &sync->entries[f][i] : NULL;
    return NULL;
}

/* The outer keeps one download per fragment and session, the oldest first, and one snapshot per session: these come one after another, so
 * that the first is whole early. It sends commits first. None waits for the other here: a commit that the outer keeps no more is answered by
 * the next snapshot. An outer that does not lead yet gives nothing. */
static void ask_for_bytes(struct sync_thread *sync) {
    struct sync_entry *snapshot = NULL;
    if (sync->session == 0 || !sync->follow.stated)
        return;
    for (uint32_t f = 0; f < sync->follow.fragments; f++) {
        struct sync_entry *entry = missing(sync, f);
        if (entry != NULL && !entry->is_snapshot)
            say_grant(sync, entry);
        else if (entry != NULL && snapshot == NULL)
            snapshot = entry;
    }
    if (snapshot != NULL)
        say_grant(sync, snapshot);
}

/* ---- following ---- */

static void say_fetch(struct sync_thread *sync, const struct follow_action *action) {
    struct message message = {.type = MESSAGE_FETCH};
    message.body.fetch = (struct message_fetch){.fragment = action->fragment, .have = action->have};
    if (sync->session != 0)
        sync_say(sync, &message);
}

static void on_lost(struct sync_thread *sync, uint32_t f) {
    char text[MESSAGE_TEXT_BYTES];
    snprintf(
        text, sizeof text,
        "the run stands at its beginning, this worker bears version %llu of fragment %u, which is not given up for "
        "it: start the outer with its own state, or this worker with another --dir",
        (unsigned long long)sync->follow.list[f].held.version, f);
    sync_stop(sync, false, STATUS_CONFIG, text);
}

/* Tell follow, and do what it says. */
static void follow_event(struct sync_thread *sync, const struct follow_event *event, const struct arriving *arriving) {
    struct follow_actions actions;
    actions.count = 0;
    follow_step(&sync->follow, event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct follow_action *action = &actions.list[i];
        uint32_t f = action->fragment;
        switch (action->kind) {
        case FOLLOW_ACTION_FETCH:
            say_fetch(sync, action);
            break;
        case FOLLOW_ACTION_RECEIVE:
            CHECK(arriving != NULL && action->index == sync->entry_count[f]);
            open_entry(sync, &sync->entries[f][sync->entry_count[f]++], arriving);
            break;
        case FOLLOW_ACTION_DROP:
            drop_entries(sync, f);
            break;
        case FOLLOW_ACTION_JOINED:
            sync_say_joined(sync);
            break;
        case FOLLOW_ACTION_LOST:
            on_lost(sync, f);
            break;
        }
    }
}

static void forget_credit(struct sync_thread *sync) {
    for (uint32_t f = 0; f < sync->follow.fragments; f++)
        for (uint32_t i = 0; i < sync->entry_count[f]; i++)
            transfer_receiver_reset_credit(&sync->entries[f][i].receiver);
}

bool sync_download_is_owed(const struct sync_thread *sync) {
    for (uint32_t f = 0; f < sync->follow.fragments; f++)
        for (uint32_t i = 0; i < sync->entry_count[f]; i++) {
            const struct sync_entry *entry = &sync->entries[f][i];
            if (!entry->complete && entry->receiver.received < entry->receiver.granted)
                return true;
        }
    return false;
}

void sync_download_welcome(struct sync_thread *sync) {
    forget_credit(sync);
    follow_event(sync, &(struct follow_event){.kind = FOLLOW_EVENT_SESSION}, NULL);
}

/* The outer has dropped the version that came out differently here: it was wrong there. */
static void forgive(struct sync_thread *sync, const struct message_state *state) {
    for (uint32_t f = 0; f < sync->follow.fragments; f++)
        if (recovery_heads_equal(&sync->held[f].head, &state->heads[f]))
            sync->differs[f] = 0;
}

/* The run went on from before what this worker holds. Where it has not come so far again, the compute thread keeps its checkpoints. */
static void say_lost_branch(struct sync_thread *sync, const struct message_state *state) {
    uint64_t run_step = 0, members_mask = 0;
    bool lost = false;
    for (uint32_t f = 0; f < sync->follow.fragments; f++) {
        const struct head *held = &sync->follow.list[f].held, *wanted = &state->heads[f];
        worker_version_note(&sync->held[f], &run_step, &members_mask);
        if (wanted->version == 0 || !recovery_head_is_lost(held, wanted))
            continue;
        lost = true;
        log_say(LOG_LEVEL_WARN,
                "fragment %u: version %llu here is of a branch that the run lost; taking up its version %llu", f,
                (unsigned long long)held->version, (unsigned long long)wanted->version);
    }
    if (!lost || run_step <= state->run_step)
        return;
    pthread_mutex_lock(&sync->lock);
    sync->lost_from = run_step;
    sync->lost_to = state->run_step;
    pthread_mutex_unlock(&sync->lock);
}

void sync_download_state(struct sync_thread *sync, const struct message_state *state) {
    if (state->head_count != sync->follow.fragments)
        return;
    say_lost_branch(sync, state);
    forgive(sync, state);
    forget_credit(sync);
    follow_event(sync, &(struct follow_event){.kind = FOLLOW_EVENT_STATE, .heads = state->heads}, NULL);
    ask_for_bytes(sync);
}

static struct follow_event event_of(const struct commit *commit, enum follow_event_kind kind) {
    struct follow_event event = {.kind = kind, .fragment = commit->fragment, .head = commit_head(commit)};
    memcpy(event.parent, commit->parent, sizeof event.parent);
    return event;
}

static bool is_of_run(struct sync_thread *sync, const struct commit *commit) {
    struct error error;
    if (commit->fragment >= sync->follow.fragments ||
        memcmp(commit->run_id, sync->options.run_id, sizeof commit->run_id) != 0)
        return false;
    if (commit_verify(commit, sync->options.sign_key, &error) == STATUS_OK &&
        commit->payload_bytes == outer_copy_payload_down(sync->options.copy, (int)commit->fragment))
        return true;
    log_say(LOG_LEVEL_WARN, "dropped a commit of fragment %u: signature or size is wrong", commit->fragment);
    return false;
}

void sync_download_commit(struct sync_thread *sync, const struct commit *commit) {
    if (!is_of_run(sync, commit))
        return;
    struct follow_event event = event_of(commit, FOLLOW_EVENT_COMMIT);
    struct arriving arriving = {.commit = commit, .bytes = commit->payload_bytes, .hash = commit->payload_hash};
    follow_event(sync, &event, &arriving);
    ask_for_bytes(sync);
}

void sync_download_snapshot(struct sync_thread *sync, const struct message_snapshot *snapshot) {
    const struct commit *commit = &snapshot->commit;
    if (!is_of_run(sync, commit))
        return;
    uint32_t f = commit->fragment;
    if (snapshot->bytes > snapshot_bound(sync->options.copy->fragments->list[f].count)) {
        log_say(LOG_LEVEL_WARN, "dropped a snapshot of fragment %u: %llu bytes are more than it can have", f,
                (unsigned long long)snapshot->bytes);
        return;
    }
    struct follow_event event = event_of(commit, FOLLOW_EVENT_SNAPSHOT);
    struct arriving arriving = {
        .commit = commit, .is_snapshot = true, .bytes = snapshot->bytes, .hash = snapshot->hash};
    follow_event(sync, &event, &arriving);
    /* The same version again, but packed by an outer that packs otherwise: what came before is no part of it. */
    struct sync_entry *first = &sync->entries[f][0];
    if (sync->entry_count[f] > 0 && first->is_snapshot && first->commit.version == commit->version &&
        !first->complete && memcmp(first->receiver.expected_hash, snapshot->hash, sizeof snapshot->hash) != 0) {
        arena_close(&first->memory);
        open_entry(sync, first, &arriving);
    } else if (sync->entry_count[f] > 0 && first->is_snapshot && !first->complete) {
        transfer_receiver_reset_credit(&first->receiver); /* what was granted before may be lost */
    }
    ask_for_bytes(sync);
}

/* ---- applying ---- */

/* A test's bit error in memory. */
static void flip(const char *failpoint, float *values) {
    if (failpoint_hit(failpoint) != 0)
        ((uint8_t *)values)[0] ^= 1;
}

static bool decode_snapshot(struct sync_thread *sync, const struct sync_entry *entry, struct state_hash *ours) {
    const struct outer_copy *copy = sync->options.copy;
    uint32_t f = entry->commit.fragment;
    size_t count = copy->fragments->list[f].count;
    float *next = sync_packed_at(sync, sync->next, f), *u = sync_packed_at(sync, copy->u, f);
    struct error error = {0};
    memcpy(sync_packed_at(sync, sync->u_before, f), u, count * sizeof *u);
    if (snapshot_decode(entry->payload, (size_t)entry->bytes, next, u, count, &error) != STATUS_OK)
        return false;
    flip("worker.apply.flip", next);
    outer_copy_hash(copy, (int)f, next, ours);
    return true;
}

/* Each piece goes the whole way while it is in the L1 cache: memory sees one pass. */
static bool step_commit(struct sync_thread *sync, const struct sync_entry *entry, struct state_hash *ours) {
    const struct outer_copy *copy = sync->options.copy;
    uint32_t f = entry->commit.fragment;
    const struct fragment *fragment = &copy->fragments->list[f];
    float *g = sync_packed_at(sync, copy->g, f), *next = sync_packed_at(sync, sync->next, f);
    float *u = sync_packed_at(sync, copy->u, f), *u_before = sync_packed_at(sync, sync->u_before, f);
    float delta[CODEC_PIECE_FLOATS];
    const uint8_t *payload = entry->payload;
    struct codec_piece piece = {0};
    struct state_hash_walk walk;
    CHECK(entry->bytes == outer_copy_payload_down(copy, (int)f));
    flip("worker.apply.flip", g);
    state_hash_begin(&walk, fragment->count);
    for (; codec_next_piece(fragment->spans, fragment->span_count, &piece);
         payload += copy->codec_down->bytes(piece.count)) {
        memcpy(u_before + piece.at, u + piece.at, piece.count * sizeof *u);
        if (copy->codec_down->decode(payload, piece.count, delta) != STATUS_OK) {
            memcpy(u_before + piece.at, u + piece.at, (fragment->count - piece.at) * sizeof *u);
            return false;
        }
        outer_step_apply(&copy->optimizer, g + piece.at, u + piece.at, delta, next + piece.at, piece.count);
        if (piece.at == 0)
            flip("worker.step.flip", next);
        state_hash_advance(&walk, next, u, piece.at + piece.count);
    }
    state_hash_end(&walk, ours);
    return true;
}

/* Into the staging place; true when the state hash, `ours`, is the commit's. Else g and u are as before. */
static bool apply(struct sync_thread *sync, const struct sync_entry *entry, struct state_hash *ours) {
    const struct outer_copy *copy = sync->options.copy;
    uint32_t f = entry->commit.fragment;
    size_t bytes = copy->fragments->list[f].count * sizeof(float);
    memset(ours, 0, sizeof *ours);
    if ((entry->is_snapshot ? decode_snapshot : step_commit)(sync, entry, ours) &&
        memcmp(ours->bytes, entry->commit.state_hash, sizeof ours->bytes) == 0)
        return true;
    memcpy(sync_packed_at(sync, copy->u, f), sync_packed_at(sync, sync->u_before, f), bytes);
    memcpy(sync_packed_at(sync, sync->next, f), sync_packed_at(sync, copy->g, f), bytes);
    return false;
}

static void say_applied(struct sync_thread *sync, const struct commit *commit, const uint8_t *state_hash) {
    struct message message = {.type = MESSAGE_APPLIED};
    message.body.applied = (struct message_applied){.fragment = commit->fragment, .version = commit->version};
    memcpy(message.body.applied.state_hash, state_hash, sizeof message.body.applied.state_hash);
    if (sync->session != 0)
        sync_say(sync, &message);
}

/* This machine came to another state than the outer. It says to which one: when most do so alike, the outer's is wrong. The fragment is fetched
 * whole. A machine that does so again and again is of no use. */
static void on_differs(struct sync_thread *sync, uint32_t f, const struct state_hash *found) {
    char ours[2 * STATE_HASH_BYTES + 1], theirs[2 * STATE_HASH_BYTES + 1], text[MESSAGE_TEXT_BYTES];
    const struct sync_entry *entry = &sync->entries[f][0];
    bytes_to_hex(found->bytes, STATE_HASH_BYTES, ours);
    bytes_to_hex(entry->commit.state_hash, STATE_HASH_BYTES, theirs);
    snprintf(
        text, sizeof text,
        "fragment %u version %llu: state hash %s here, %s at the outer; this machine's arithmetic or memory is wrong",
        f, (unsigned long long)entry->commit.version, ours, theirs);
    log_event(sync->options.log, "recover",
              json_pack("{s:s, s:i, s:I, s:b, s:s, s:s, s:i}", "what", "state hash", "fragment", (int)f, "version",
                        (json_int_t)entry->commit.version, "snapshot", entry->is_snapshot, "here", ours, "outer",
                        theirs, "count", (int)sync->differs[f] + 1));
    log_say(LOG_LEVEL_ERROR, "%s", text);
    if (!entry->is_snapshot)
        say_applied(sync, &entry->commit, found->bytes);
    if (++sync->differs[f] >= SYNC_DIFFERS_MAX)
        sync_stop(sync, false, STATUS_DATA, text);
    else
        follow_event(sync, &(struct follow_event){.kind = FOLLOW_EVENT_DIFFERS, .fragment = f}, NULL);
}

void sync_note_run_locked(struct sync_thread *sync, const struct commit *commit) {
    if (commit->run_step > sync->run_step)
        sync->run_step = commit->run_step;
    step_pace_note_commit(&sync->step_pace, commit, clock_now_us());
    for (uint32_t i = 0; i < commit->total_count; i++) {
        const struct total *total = &commit->totals[i];
        if (total->applied > sync->applied_to[total->slot])
            sync->applied_to[total->slot] = total->applied;
    }
}

static uint64_t own_mark(const struct sync_thread *sync, const struct commit *commit) {
    for (uint32_t i = 0; i < commit->total_count; i++)
        if (commit->totals[i].slot == sync->options.hello.slot)
            return commit->totals[i].mark;
    return 0;
}

static bool counts_me(const struct sync_thread *sync, const struct commit *commit) {
    for (uint32_t i = 0; i < commit->counted_count; i++)
        if (commit->counted[i].slot == sync->options.hello.slot)
            return true;
    return false;
}

static void log_applied(struct sync_thread *sync, const struct sync_entry *entry) {
    const struct commit *commit = &entry->commit;
    char hex[2 * MESSAGE_STATE_HASH_BYTES + 1];
    bytes_to_hex(commit->state_hash, MESSAGE_STATE_HASH_BYTES, hex);
    if (entry->is_snapshot)
        log_event(sync->options.log, "recover",
                  json_pack("{s:s, s:i, s:I, s:I, s:I, s:s}", "what", "snapshot", "fragment", (int)commit->fragment,
                            "version", (json_int_t)commit->version, "run_step", (json_int_t)commit->run_step, "bytes",
                            (json_int_t)entry->bytes, "state_hash", hex));
    else
        log_event(sync->options.log, "commit",
                  json_pack("{s:i, s:I, s:I, s:b, s:I, s:s}", "fragment", (int)commit->fragment, "version",
                            (json_int_t)commit->version, "run_step", (json_int_t)commit->run_step, "counted",
                            counts_me(sync, commit), "payload_bytes", (json_int_t)commit->payload_bytes, "state_hash",
                            hex));
}

/* (next, u) is the entry's version now: say so to everyone. */
static void take_first(struct sync_thread *sync, uint32_t f) {
    const struct sync_entry *entry = &sync->entries[f][0];
    const struct commit *commit = &entry->commit;
    struct sync_event ready = {.kind = SYNC_EVENT_READY,
                               .fragment = f,
                               .version = commit->version,
                               .mark = own_mark(sync, commit),
                               .run_step = commit->run_step,
                               .jump = entry->is_snapshot};
    if (!entry->is_snapshot)
        sync->differs[f] = 0;
    sync->merged[f] = sync->held[f];
    sync->held[f].head = commit_head(commit);
    sync->held[f].has_commit = true;
    sync->held[f].commit = *commit;
    log_applied(sync, entry);
    say_applied(sync, commit, commit->state_hash);
    sync_meter(sync, clock_now_us());
    struct sync_actions none = {0};
    pthread_mutex_lock(&sync->lock);
    sync_note_run_locked(sync, commit);
    sync_step(&sync->machine, &ready, &none);
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
    if (sync->uploads[f].again && sync->uploads[f].active)
        sync_upload_offer(sync, f);
    drop_first(sync, f);
    follow_event(sync, &(struct follow_event){.kind = FOLLOW_EVENT_APPLIED, .fragment = f}, NULL);
}

/* Prepare the oldest whole version of the fragment when its staging place is free. */
static bool prepare(struct sync_thread *sync, uint32_t f) {
    struct state_hash ours;
    if (sync->entry_count[f] == 0 || !sync->entries[f][0].complete)
        return false;
    pthread_mutex_lock(&sync->lock);
    bool busy = sync->machine.fragments[f].ready || sync->stopped;
    pthread_mutex_unlock(&sync->lock);
    if (busy)
        return false;
    sync_do_jobs(sync); /* a settle of this fragment comes before whatever the next version brings */
    if (apply(sync, &sync->entries[f][0], &ours))
        take_first(sync, f);
    else
        on_differs(sync, f, &ours);
    return true;
}

/* From HELLO to STATE what is held stays what HELLO said: an outer that is about to lead counts on it. */
void sync_download_prepare(struct sync_thread *sync) {
    if (sync->connected && !sync->follow.stated)
        return;
    for (uint32_t f = 0; f < sync->follow.fragments; f++)
        while (prepare(sync, f))
            continue;
}

void sync_download_chunk(struct sync_thread *sync, const struct chunk *chunk, const uint8_t *payload) {
    uint32_t f = chunk->key.fragment;
    bool is_snapshot = chunk->key.kind == TRANSFER_SNAPSHOT;
    if (chunk->session != sync->session || (!is_snapshot && chunk->key.kind != TRANSFER_COMMIT) ||
        f >= sync->follow.fragments) {
        sync->foreign_sessions++;
        return;
    }
    for (uint32_t i = 0; i < sync->entry_count[f]; i++) {
        struct sync_entry *entry = &sync->entries[f][i];
        if (entry->commit.version != chunk->key.version || entry->is_snapshot != is_snapshot || entry->complete ||
            entry->payload == NULL)
            continue;
        if (is_snapshot)
            (void)failpoint_hit("worker.download.chunk");
        switch (transfer_receiver_chunk(&entry->receiver, chunk, payload)) {
        case TRANSFER_COMPLETE:
            entry->complete = true;
            sync->payload_down += is_snapshot ? 0 : chunk->bytes;
            break;
        case TRANSFER_TAKEN:
            sync->payload_down += is_snapshot ? 0 : chunk->bytes;
            break;
        case TRANSFER_BAD_HASH:
            log_say(LOG_LEVEL_WARN, "a version's bytes do not match their hash: fetching them again");
            transfer_receiver_reset_credit(&entry->receiver);
            break;
        case TRANSFER_DUPLICATE:
        case TRANSFER_HOSTILE:
            break;
        }
    }
    ask_for_bytes(sync);
}
