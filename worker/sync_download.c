/* sync_download: a commit on its way in: fetch its payload, step the worker's own copy aside, compare the state hash, tell the compute
 * thread. The sync thread's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "worker/sync_state.h"

enum { DOWNLOAD_WINDOW_BYTES = 1 << 20 };

static struct sync_incoming *incoming_at(struct sync_thread *sync, uint32_t f, uint32_t index) {
    return &sync->incoming[f][(sync->incoming_first[f] + index) % SYNC_COMMITS_QUEUED];
}

static void say_grant(struct sync_thread *sync, struct sync_incoming *incoming) {
    struct message message = {.type = MESSAGE_GRANT};
    if (sync->session != 0 && !incoming->complete && transfer_receiver_grant(&incoming->receiver, &message.body.grant))
        sync_say(sync, &message);
}

static uint64_t download_window(const struct sync_thread *sync) {
    uint64_t cap = sync->options.down_bytes_per_s;
    uint64_t chunk = transfer_chunk_bytes(cap);
    uint64_t window = cap == 0 || cap / 2 > DOWNLOAD_WINDOW_BYTES ? DOWNLOAD_WINDOW_BYTES : cap / 2;
    return window > 2 * chunk ? window : 2 * chunk;
}

/* The outer keeps one download per fragment and session: the oldest commit that is not whole is fetched, then the next. */
static void fetch(struct sync_thread *sync, uint32_t f) {
    for (uint32_t i = 0; i < sync->incoming_count[f]; i++)
        if (!incoming_at(sync, f, i)->complete) {
            say_grant(sync, incoming_at(sync, f, i));
            return;
        }
}

void sync_download_commit(struct sync_thread *sync, const struct commit *commit) {
    struct error error;
    uint32_t f = commit->fragment;
    if (f >= (uint32_t)sync->options.copy->fragments->count ||
        memcmp(commit->run_id, sync->options.run_id, sizeof commit->run_id) != 0)
        return;
    if (commit_verify(commit, sync->options.sign_key, &error) != STATUS_OK ||
        commit->payload_bytes != outer_copy_payload_down(sync->options.copy, (int)f)) {
        log_say(LOG_LEVEL_WARN, "dropped a commit of fragment %u: signature or size is wrong", f);
        return;
    }
    if (commit->version != sync->prepared[f] + sync->incoming_count[f] + 1)
        return; /* known already: replayed after a reconnect */
    if (sync->incoming_count[f] == SYNC_COMMITS_QUEUED) {
        sync_stop(sync, false, STATUS_AGAIN, "this worker fell too many commits behind the run");
        return;
    }
    struct sync_incoming *incoming = incoming_at(sync, f, sync->incoming_count[f]++);
    *incoming = (struct sync_incoming){.commit = *commit, .payload = malloc(commit->payload_bytes)};
    CHECK(incoming->payload != NULL);
    struct transfer_key key = {TRANSFER_COMMIT, 0, f, commit->version};
    transfer_receiver_open(&incoming->receiver, key, incoming->payload, commit->payload_bytes, download_window(sync),
                           commit->payload_hash);
    fetch(sync, f);
}

static bool counts_me(const struct sync_thread *sync, const struct commit *commit) {
    for (uint32_t i = 0; i < commit->counted_count; i++)
        if (commit->counted[i].slot == sync->options.hello.slot &&
            commit->counted[i].incarnation == sync->options.hello.incarnation)
            return true;
    return false;
}

/* decode, outer step into the staging place, hash against the commit's. */
static bool apply(struct sync_thread *sync, const struct sync_incoming *incoming) {
    const struct outer_copy *copy = sync->options.copy;
    uint32_t f = incoming->commit.fragment;
    const struct fragment *fragment = &copy->fragments->list[f];
    struct state_hash hash;
    char text[MESSAGE_TEXT_BYTES], ours[2 * STATE_HASH_BYTES + 1], theirs[2 * STATE_HASH_BYTES + 1];
    if (memcmp(incoming->commit.parent, sync->heads[f], sizeof sync->heads[f]) != 0) {
        snprintf(text, sizeof text, "version %llu of fragment %u does not follow what this worker holds",
                 (unsigned long long)incoming->commit.version, f);
        sync_stop(sync, false, STATUS_DATA, text);
        return false;
    }
    if (codec_decode_spans(copy->codec_down, fragment->spans, fragment->span_count, incoming->payload,
                           incoming->commit.payload_bytes, sync->delta) != STATUS_OK) {
        sync_stop(sync, false, STATUS_DATA, "a commit's payload does not decode");
        return false;
    }
    outer_step_apply(&copy->optimizer, sync_packed_at(sync, copy->g, f), sync_packed_at(sync, copy->u, f), sync->delta,
                     sync_packed_at(sync, sync->next, f), fragment->count);
    outer_copy_hash(copy, (int)f, sync_packed_at(sync, sync->next, f), &hash);
    bytes_to_hex(hash.bytes, sizeof hash.bytes, ours);
    if (memcmp(hash.bytes, incoming->commit.state_hash, sizeof hash.bytes) == 0)
        return true;
    bytes_to_hex(incoming->commit.state_hash, sizeof hash.bytes, theirs);
    snprintf(
        text, sizeof text,
        "fragment %u version %llu: state hash %s here, %s at the outer; this machine's arithmetic or memory is wrong",
        f, (unsigned long long)incoming->commit.version, ours, theirs);
    sync_stop(sync, false, STATUS_DATA, text);
    return false;
}

/* How far the run is, as far as this worker's outer copy tells. */
static void note_run_locked(struct sync_thread *sync, const struct commit *commit) {
    if (commit->run_step > sync->run_step)
        sync->run_step = commit->run_step;
    for (uint32_t i = 0; i < commit->counted_count; i++) {
        const struct counted *counted = &commit->counted[i];
        if (counted->tokens_to > sync->counted_to[counted->slot])
            sync->counted_to[counted->slot] = counted->tokens_to;
    }
}

/* Prepare the oldest whole commit of the fragment when its staging place is free. */
static bool prepare(struct sync_thread *sync, uint32_t f) {
    struct sync_incoming *incoming = incoming_at(sync, f, 0);
    if (sync->incoming_count[f] == 0 || !incoming->complete)
        return false;
    pthread_mutex_lock(&sync->lock);
    bool busy = sync->machine.fragments[f].ready || sync->stopped;
    bool mine = counts_me(sync, &incoming->commit), sent = sync->machine.fragments[f].record.active;
    pthread_mutex_unlock(&sync->lock);
    if (busy)
        return false;
    sync_do_jobs(sync); /* a settle of this fragment comes before whatever the next version brings */
    if (mine && !sent) {
        sync_stop(sync, false, STATUS_DATA, "a commit counts a contribution that this worker did not send");
        return false;
    }
    if (!apply(sync, incoming))
        return false;
    const struct commit *commit = &incoming->commit;
    char hex[2 * MESSAGE_STATE_HASH_BYTES + 1];
    bytes_to_hex(commit->state_hash, MESSAGE_STATE_HASH_BYTES, hex);
    log_event(sync->options.log, "commit",
              json_pack("{s:i, s:I, s:I, s:b, s:I, s:s}", "fragment", (int)f, "version", (json_int_t)commit->version,
                        "run_step", (json_int_t)commit->run_step, "counted", mine, "payload_bytes",
                        (json_int_t)commit->payload_bytes, "state_hash", hex));
    struct message message = {.type = MESSAGE_APPLIED};
    message.body.applied = (struct message_applied){.fragment = f, .version = commit->version};
    memcpy(message.body.applied.state_hash, commit->state_hash, sizeof commit->state_hash);
    if (sync->session != 0)
        sync_say(sync, &message);
    commit_hash(commit, sync->heads[f]);
    sync->prepared[f] = commit->version;
    struct sync_event ready = {.kind = SYNC_EVENT_READY,
                               .fragment = f,
                               .version = commit->version,
                               .counts_me = mine,
                               .run_step = commit->run_step};
    free(incoming->payload);
    incoming->payload = NULL;
    sync->incoming_first[f] = (sync->incoming_first[f] + 1) % SYNC_COMMITS_QUEUED;
    sync->incoming_count[f]--;
    sync_meter(sync, clock_now_us());
    struct sync_actions none = {0};
    pthread_mutex_lock(&sync->lock);
    note_run_locked(sync, commit);
    sync_step(&sync->machine, &ready, &none);
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
    return true;
}

void sync_download_prepare(struct sync_thread *sync) {
    for (int f = 0; f < sync->options.copy->fragments->count; f++)
        while (prepare(sync, (uint32_t)f))
            continue;
}

void sync_download_chunk(struct sync_thread *sync, const struct chunk *chunk, const uint8_t *payload) {
    uint32_t f = chunk->key.fragment;
    if (chunk->session != sync->session || chunk->key.kind != TRANSFER_COMMIT ||
        f >= (uint32_t)sync->options.copy->fragments->count) {
        sync->foreign_sessions++;
        return;
    }
    for (uint32_t i = 0; i < sync->incoming_count[f]; i++) {
        struct sync_incoming *incoming = incoming_at(sync, f, i);
        if (incoming->commit.version != chunk->key.version || incoming->complete)
            continue;
        switch (transfer_receiver_chunk(&incoming->receiver, chunk, payload)) {
        case TRANSFER_COMPLETE:
            incoming->complete = true;
            sync->payload_down += chunk->bytes;
            break;
        case TRANSFER_TAKEN:
            sync->payload_down += chunk->bytes;
            break;
        case TRANSFER_BAD_HASH:
            log_say(LOG_LEVEL_WARN, "a commit's bytes do not match their hash: fetching them again");
            transfer_receiver_reset_credit(&incoming->receiver);
            break;
        case TRANSFER_DUPLICATE:
        case TRANSFER_HOSTILE:
            break;
        }
    }
    fetch(sync, f);
}

void sync_download_resume(struct sync_thread *sync, uint32_t f) {
    for (uint32_t i = 0; i < sync->incoming_count[f]; i++)
        transfer_receiver_reset_credit(&incoming_at(sync, f, i)->receiver);
    fetch(sync, f);
}
