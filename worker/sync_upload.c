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

enum { IDLE_US = 50000 };

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

/* x = (g - theta) + e; payload = Q(x); e' = x - decode(payload). */
static enum status encode(struct sync_thread *sync, uint32_t f) {
    const struct outer_copy *copy = sync->options.copy;
    const struct fragment *fragment = &copy->fragments->list[f];
    float *difference = sync_packed_at(sync, sync->difference, f);
    uint8_t *payload = sync->uploads[f].payload;
    if (failpoint_hit("worker.upload.huge") != 0)
        for (size_t i = 0; i < fragment->count; i++)
            difference[i] *= 1e6F;
    if (sync_feeds_errors(sync))
        return codec_encode_fed_spans(copy->codec_up, fragment->spans, fragment->span_count, difference,
                                      sync_packed_at(sync, sync->residual, f), payload,
                                      sync_packed_at(sync, sync->pending, f));
    return codec_encode_spans(copy->codec_up, fragment->spans, fragment->span_count, difference, payload);
}

void sync_upload_send(struct sync_thread *sync, const struct sync_action *action) {
    uint32_t f = action->fragment;
    struct sync_upload *upload = &sync->uploads[f];
    uint64_t started_us = clock_now_us();
    size_t bytes = outer_copy_payload_up(sync->options.copy, (int)f);
    if (encode(sync, f) != STATUS_OK) {
        char text[MESSAGE_TEXT_BYTES];
        snprintf(text, sizeof text,
                 "fragment %u (%s) holds values that are not finite at step %llu: this island diverged; lower inner.lr",
                 f, sync->options.copy->fragments->list[f].name, (unsigned long long)action->step);
        sync_stop(sync, false, STATUS_NOT_FINITE, text);
        return;
    }
    if (failpoint_hit("worker.upload.poison") != 0) /* with f32: NaNs; with the others: no code of theirs */
        memset(upload->payload, 0xff, bytes);
    upload->contribution = (struct contribution){.slot = sync->options.hello.slot,
                                                 .incarnation = sync->options.hello.incarnation,
                                                 .fragment = f,
                                                 .base_version = action->version,
                                                 .send_step = action->step,
                                                 .tokens_from = action->tokens_from,
                                                 .tokens_to = action->tokens_to,
                                                 .tokens = action->tokens,
                                                 .payload_bytes = bytes};
    payload_hash_of(upload->payload, bytes, upload->contribution.payload_hash);
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
        if (sync->uploads[f].active && pump_transfer(sync, &sync->uploads[f].sender, now_us, delay_us)) {
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
