/* sync_upload: what goes out. A contribution: encode, offer, chunks. A whole fragment, for an outer that has to take it over from here. The sync
 * thread's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "outer/snapshot.h"
#include "worker/sync_state.h"

enum {
    IDLE_US = 250000,     /* the outer's pings come as often; jobs and messages wake this thread */
    HASHED_BYTES = 16384, /* of a payload at a time, while they are in the L1 cache */
};

void sync_upload_offer(struct sync_thread *sync, uint32_t f) {
    struct message message = {.type = MESSAGE_OFFER};
    message.body.offer = sync->uploads[f].contribution;
    pthread_mutex_lock(&sync->lock);
    bool doomed = sync_record_is_doomed(&sync->machine, f);
    pthread_mutex_unlock(&sync->lock);
    sync->uploads[f].again = false;
    if (sync->session != 0 && sync->follow.joined && !doomed)
        sync_say(sync, &message);
}

void sync_upload_resume(struct sync_thread *sync) {
    for (uint32_t f = 0; f < (uint32_t)sync->options.copy->fragments->count; f++) {
        struct sync_upload *upload = &sync->uploads[f];
        if (upload->active)
            transfer_sender_open(&upload->sender, upload->sender.key, upload->payload,
                                 upload->contribution.payload_bytes);
        sync_upload_end_serving(sync, f);
    }
}

/* x = (g - theta) + e; payload = Q(x); e' = x - decode(payload); the payload's hash. Each piece goes the whole way while it is in the cache. What an
 * exact codec makes is there already (sync_state.h), and is only judged. */
static enum status encode(struct sync_thread *sync, uint32_t f, uint8_t hash[MESSAGE_HASH_BYTES]) {
    const struct outer_copy *copy = sync->options.copy;
    const struct codec *codec = copy->codec_up;
    const struct fragment *fragment = &copy->fragments->list[f];
    float *difference = sync_packed_at(sync, sync->difference, f), decoded[CODEC_PIECE_FLOATS];
    const float *residual = sync_packed_at(sync, sync->residual, f);
    float *pending = sync_packed_at(sync, sync->pending, f);
    uint8_t *payload = sync->uploads[f].payload;
    size_t made = 0, bytes = outer_copy_payload_up(copy, (int)f);
    struct codec_piece piece = {0};
    struct payload_hash walk;
    payload_hash_begin(&walk);
    while (codec_next_piece(fragment->spans, fragment->span_count, &piece)) {
        const float *from = difference + piece.at;
        enum status status;
        if (codec->exact)
            status = codec->decode(payload + made, piece.count, decoded);
        else if (sync_feeds_errors(sync))
            status = codec->encode_fed(from, residual + piece.at, piece.count, payload + made, pending + piece.at);
        else
            status = codec->encode(from, piece.count, payload + made);
        if (status != STATUS_OK)
            return status;
        made += codec->bytes(piece.count);
        if (made - walk.hashed >= HASHED_BYTES || made == bytes)
            payload_hash_add(&walk, payload + walk.hashed, payload_hash_ready(&walk, made, bytes));
    }
    payload_hash_end(&walk, payload + walk.hashed, (size_t)(bytes - walk.hashed), hash);
    return STATUS_OK;
}

/* A test's faulty island. */
static void exaggerate(struct sync_thread *sync, uint32_t f) {
    float *difference = sync_packed_at(sync, sync->difference, f);
    for (size_t i = 0; i < sync->options.copy->fragments->list[f].count; i++)
        difference[i] *= 1e6F;
}

void sync_upload_send(struct sync_thread *sync, const struct sync_action *action) {
    uint32_t f = action->fragment;
    struct sync_upload *upload = &sync->uploads[f];
    uint64_t started_us = clock_now_us();
    size_t bytes = outer_copy_payload_up(sync->options.copy, (int)f);
    uint8_t hash[MESSAGE_HASH_BYTES];
    if (failpoint_hit("worker.upload.huge") != 0)
        exaggerate(sync, f);
    if (encode(sync, f, hash) != STATUS_OK) {
        char text[MESSAGE_TEXT_BYTES];
        snprintf(text, sizeof text,
                 "fragment %u (%s) holds values that are not finite at step %llu: this island diverged; lower inner.lr",
                 f, sync->options.copy->fragments->list[f].name, (unsigned long long)action->step);
        sync_stop(sync, false, STATUS_NOT_FINITE, text);
        return;
    }
    if (failpoint_hit("worker.upload.poison") != 0) { /* with f32: NaNs; with the others: no code of theirs */
        memset(upload->payload, 0xff, bytes);
        payload_hash_of(upload->payload, bytes, hash);
    }
    upload->contribution = (struct contribution){.slot = sync->options.hello.slot,
                                                 .incarnation = sync->options.hello.incarnation,
                                                 .fragment = f,
                                                 .base_version = action->version,
                                                 .send_step = action->step,
                                                 .tokens_from = action->tokens_from,
                                                 .tokens_to = action->tokens_to,
                                                 .tokens = action->tokens,
                                                 .payload_bytes = bytes};
    memcpy(upload->contribution.payload_hash, hash, sizeof hash);
    struct transfer_key key = {TRANSFER_CONTRIBUTION, 0, f, action->version};
    transfer_sender_open(&upload->sender, key, upload->payload, bytes);
    upload->active = true;
    log_event(sync->options.log, "sync_send",
              json_pack("{s:I, s:i, s:I, s:I, s:I, s:I, s:I, s:I}", "step", (json_int_t)action->step, "fragment",
                        (int)f, "base_version", (json_int_t)action->version, "tokens_from",
                        (json_int_t)action->tokens_from, "tokens_to", (json_int_t)action->tokens_to, "tokens",
                        (json_int_t)action->tokens, "payload_bytes", (json_int_t)bytes, "encode_us",
                        (json_int_t)(clock_now_us() - started_us)));
    sync_upload_offer(sync, f);
}

/* From here to end_sending the payload of f stays as it is. false: not now, jobs wait; among them may be the end of this contribution, which the compute
 * thread has settled, and in whose place it makes the next one, perhaps of the same step. */
static bool begin_sending(struct sync_thread *sync, uint32_t f) {
    pthread_mutex_lock(&sync->lock);
    const struct sync_record *record = &sync->machine.fragments[f].record;
    bool in_flight = sync->job_count == 0 && record->active && record->step == sync->uploads[f].contribution.send_step;
    sync->sending = in_flight ? f + 1 : 0;
    pthread_mutex_unlock(&sync->lock);
    return in_flight;
}

static void end_sending(struct sync_thread *sync) {
    pthread_mutex_lock(&sync->lock);
    sync->sending = 0;
    if (sync->sending_awaited)
        sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
}

/* One chunk of this transfer. false: its turn has not come; *delay_us is lowered to when it could. */
static bool pump_transfer(struct sync_thread *sync, struct transfer_sender *sender, uint64_t now_us,
                          uint64_t *delay_us) {
    struct transfer_sender before = *sender;
    struct chunk chunk;
    if (!transfer_sender_next(sender, sync->chunk_bytes, &chunk))
        return false;
    uint64_t delay = pace_delay_us(&sync->pace, chunk.bytes, now_us);
    chunk.session = sync->session;
    if (delay == 0 && worker_link_send_chunk(sync->link, &chunk, sender->payload + chunk.offset) == STATUS_OK) {
        CHECK(pace_take(&sync->pace, chunk.bytes, now_us));
        if (chunk.key.kind == TRANSFER_CONTRIBUTION) {
            sync->payload_up += chunk.bytes;
            (void)failpoint_hit("worker.upload.chunk");
        }
        return true;
    }
    *sender = before;
    if (delay == 0)
        delay = 10000; /* bulk queue full, or its connection is not up yet */
    *delay_us = delay < *delay_us ? delay : *delay_us;
    return false;
}

/* One chunk; false when none may go now. Whole fragments wait for contributions: the outer that fetches them closes no rounds meanwhile. */
static bool pump_one(struct sync_thread *sync, uint64_t now_us, uint64_t *delay_us) {
    uint32_t fragments = (uint32_t)sync->options.copy->fragments->count;
    uint64_t idle_us = *delay_us;
    for (uint32_t i = 0; i < fragments; i++) {
        uint32_t f = (sync->next_upload + i) % fragments;
        bool sent = sync->uploads[f].active && begin_sending(sync, f);
        if (sent) {
            sent = pump_transfer(sync, &sync->uploads[f].sender, now_us, delay_us);
            end_sending(sync);
        }
        if (sent) {
            sync->next_upload = f;
            return true;
        }
        if (*delay_us < idle_us)
            return false; /* the link is full: the others wait as well */
    }
    for (uint32_t f = 0; f < fragments && *delay_us == idle_us; f++)
        if (sync->servings[f].bytes != NULL && pump_transfer(sync, &sync->servings[f].sender, now_us, delay_us))
            return true;
    return false;
}

uint64_t sync_upload_pump(struct sync_thread *sync, uint64_t now_us) {
    uint64_t delay_us = IDLE_US;
    for (int i = 0; sync->session != 0 && i < 8; i++) {
        if (!pump_one(sync, now_us, &delay_us))
            return delay_us;
    }
    return sync->session != 0 ? 0 : delay_us;
}

void sync_upload_grant(struct sync_thread *sync, const struct message_grant *grant) {
    uint32_t f = grant->key.fragment;
    if (f >= (uint32_t)sync->options.copy->fragments->count)
        return;
    struct sync_upload *upload = &sync->uploads[f];
    struct sync_serving *serving = &sync->servings[f];
    if (grant->key.kind == TRANSFER_CONTRIBUTION && upload->active && upload->sender.key.version == grant->key.version)
        (void)transfer_sender_grant(&upload->sender, grant->offset, grant->limit);
    if (grant->key.kind == TRANSFER_SNAPSHOT && serving->bytes != NULL &&
        serving->sender.key.version == grant->key.version)
        (void)transfer_sender_grant(&serving->sender, grant->offset, grant->limit);
}

/* ---- a whole fragment ---- */

void sync_upload_end_serving(struct sync_thread *sync, uint32_t f) {
    free(sync->servings[f].bytes);
    sync->servings[f] = (struct sync_serving){0};
}

void sync_upload_fetched(struct sync_thread *sync, const struct message_fetch *fetch) {
    uint32_t f = fetch->fragment;
    const struct outer_copy *copy = sync->options.copy;
    struct message message = {.type = MESSAGE_SNAPSHOT};
    struct message_snapshot *snapshot = &message.body.snapshot;
    struct error error;
    size_t bytes;
    if (f >= (uint32_t)copy->fragments->count || !sync->held[f].has_commit)
        return;
    sync_upload_end_serving(sync, f);
    size_t count = copy->fragments->list[f].count;
    uint8_t *encoded = malloc(snapshot_bound(count));
    enum status status = encoded == NULL
                             ? error_set(&error, STATUS_NO_MEMORY, "no memory for %zu bytes", snapshot_bound(count))
                             : snapshot_encode(sync_packed_at(sync, sync->next, f), sync_packed_at(sync, copy->u, f),
                                               count, encoded, &bytes, &error);
    if (status != STATUS_OK) {
        log_say(LOG_LEVEL_WARN, "the outer asked for fragment %u, it cannot have it: %s", f, error.text);
        free(encoded);
        return;
    }
    struct transfer_key key = {TRANSFER_SNAPSHOT, 0, f, sync->held[f].head.version};
    sync->servings[f].bytes = encoded;
    transfer_sender_open(&sync->servings[f].sender, key, encoded, bytes);
    snapshot->commit = sync->held[f].commit;
    snapshot->bytes = bytes;
    payload_hash_of(encoded, bytes, snapshot->hash);
    log_event(sync->options.log, "recover",
              json_pack("{s:s, s:i, s:I, s:I}", "what", "gave snapshot", "fragment", (int)f, "version",
                        (json_int_t)key.version, "bytes", (json_int_t)bytes));
    sync_say(sync, &message);
}
