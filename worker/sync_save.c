/* sync_save: the sync thread's part of a checkpoint, at a quiet point: the compute thread stands still at a step boundary and all of its earlier
 * jobs are done. What is saved is the merged version of each fragment: of a copy that is ready but not merged, the one before. */
#include <string.h>
#include "base/check.h"
#include "worker/sync_state.h"

static void save_fragment(struct sync_thread *sync, uint32_t f, uint8_t *payload) {
    struct worker_image *image = sync->image;
    const struct outer_copy *copy = sync->options.copy;
    struct worker_fragment *to = &image->fragments_list[f];
    const struct sync_fragment *machine = &sync->machine.fragments[f];
    const struct sync_upload *upload = &sync->uploads[f];
    size_t at = copy->offsets[f], bytes = copy->fragments->list[f].count * sizeof(float);
    CHECK(!machine->merging && machine->record.active == upload->active);
    to->machine = *machine;
    to->version = machine->ready ? sync->merged[f] : sync->held[f];
    to->machine.version = to->version.head.version;
    to->machine.run_step = to->version.has_commit ? to->version.commit.run_step : 0;
    memcpy(to->payload_hash, upload->contribution.payload_hash, sizeof to->payload_hash);
    memcpy(image->g + at, copy->g + at, bytes);
    memcpy(image->u + at, (machine->ready ? sync->u_before : copy->u) + at, bytes);
    memcpy(image->residual + at, sync->residual + at, bytes);
    memcpy(image->pending + at, sync->pending + at, bytes);
    memcpy(payload, upload->payload, outer_copy_payload_up(copy, (int)f));
}

void sync_save(struct sync_thread *sync) {
    uint8_t *payload = sync->image->payloads;
    pthread_mutex_lock(&sync->lock);
    /* An island that must stop may stand in the middle of a send. */
    for (uint32_t f = 0; f < sync->image->sizes.fragments && (!sync->stopped || sync->orderly); f++) {
        save_fragment(sync, f, payload);
        payload += outer_copy_payload_up(sync->options.copy, (int)f);
    }
    sync->image = NULL;
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
}

/* What the memory or the disk spoiled unseen is not passed on as that version: the fragment is fetched whole. */
static bool is_whole(const struct sync_thread *sync, uint32_t f, const struct worker_version *version) {
    struct state_hash hash;
    uint8_t genesis[MESSAGE_HASH_BYTES];
    const struct outer_copy *copy = sync->options.copy;
    outer_copy_hash(copy, (int)f, copy->g + copy->offsets[f], &hash);
    if (version->has_commit)
        return memcmp(hash.bytes, version->commit.state_hash, sizeof hash.bytes) == 0;
    commit_genesis(sync->options.run_id, f, hash.bytes, genesis);
    return memcmp(genesis, version->head.hash, sizeof genesis) == 0;
}

static void load_upload(struct sync_thread *sync, uint32_t f, const struct worker_fragment *from,
                        const uint8_t *payload) {
    const struct sync_record *record = &from->machine.record;
    struct sync_upload *upload = &sync->uploads[f];
    size_t bytes = outer_copy_payload_up(sync->options.copy, (int)f);
    memcpy(upload->payload, payload, bytes);
    upload->active = record->active;
    upload->contribution = (struct contribution){.slot = sync->options.hello.slot,
                                                 .incarnation = sync->options.hello.incarnation,
                                                 .fragment = f,
                                                 .base_version = record->base,
                                                 .send_step = record->step,
                                                 .tokens_from = record->tokens_from,
                                                 .tokens_to = record->tokens_to,
                                                 .tokens = record->tokens,
                                                 .payload_bytes = bytes};
    memcpy(upload->contribution.payload_hash, from->payload_hash, sizeof from->payload_hash);
    struct transfer_key key = {TRANSFER_CONTRIBUTION, 0, f, record->base};
    transfer_sender_open(&upload->sender, key, upload->payload, bytes);
}

enum status sync_load(struct sync_thread *sync, const struct sync_machine_options *options,
                      const struct worker_image *image, struct error *error) {
    const struct outer_copy *copy = sync->options.copy;
    const uint8_t *payload = image->payloads;
    struct sync_fragment saved[MESSAGE_FRAGMENTS_MAX] = {0};
    CHECK(image->sizes.fragments == (uint32_t)copy->fragments->count &&
          image->sizes.packed_floats == copy->packed_floats);
    for (uint32_t f = 0; f < image->sizes.fragments; f++)
        saved[f] = image->fragments_list[f].machine;
    if (!sync_resume(&sync->machine, options, image->step, image->tokens, saved))
        return error_set(error, STATUS_DATA, "the checkpoint contradicts itself: tokens of a fragment");
    memcpy(copy->g, image->g, copy->packed_floats * sizeof(float));
    memcpy(copy->u, image->u, copy->packed_floats * sizeof(float));
    memcpy(sync->residual, image->residual, copy->packed_floats * sizeof(float));
    memcpy(sync->pending, image->pending, copy->packed_floats * sizeof(float));
    for (uint32_t f = 0; f < image->sizes.fragments; f++) {
        const struct worker_fragment *from = &image->fragments_list[f];
        load_upload(sync, f, from, payload);
        payload += outer_copy_payload_up(copy, (int)f);
        sync->held[f] = from->version;
        if (!is_whole(sync, f, &from->version)) {
            log_say(LOG_LEVEL_WARN, "fragment %u of the checkpoint is not what its commit says: it is fetched whole",
                    f);
            sync->held[f].has_commit = false;
            sync->held[f].head = (struct head){0};
        } else if (from->version.has_commit) {
            sync_note_run_locked(sync, &from->version.commit);
        }
    }
    return STATUS_OK;
}
