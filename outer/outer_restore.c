/* outer_restore: the same steps as commit_maker.c and the workers' sync_download.c, from files. */
#include "outer/outer_restore.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "comms/commit.h"

/* The next version is made aside and taken only when its hash is right: (largest_count,) floats each. */
struct restore {
    struct outer_copy *copy;
    float *residual; /* packed */
    const uint8_t *run_id;
    struct commit_log *log;
    float *next_g, *next_u, *next_residual, *delta;
    uint8_t *payload;
    struct arena arena;
    struct commit commit; /* as read last */
    struct error why;     /* the newest failure: of a record, or of the whole */
};

static enum status restore_open(struct restore *restore, struct error *error) {
    const struct fragments *fragments = restore->copy->fragments;
    size_t largest = fragments->largest_count * sizeof(float), payload = 0;
    for (int f = 0; f < fragments->count; f++) {
        size_t bytes = outer_copy_payload_down(restore->copy, f);
        payload = bytes > payload ? bytes : payload;
    }
    enum status status = arena_open(&restore->arena, 4 * arena_round(largest) + arena_round(payload), error);
    if (status != STATUS_OK)
        return status;
    restore->next_g = arena_take(&restore->arena, largest);
    restore->next_u = arena_take(&restore->arena, largest);
    restore->next_residual = arena_take(&restore->arena, largest);
    restore->delta = arena_take(&restore->arena, largest);
    restore->payload = arena_take(&restore->arena, payload);
    return STATUS_OK;
}

/* A record that cannot be used, as against a disk or a run that cannot. */
static bool is_bad_record(enum status status) {
    return status == STATUS_DATA || status == STATUS_NOT_FOUND;
}

static enum status check_run(struct restore *restore) {
    char theirs[2 * MESSAGE_HASH_BYTES + 1], ours[2 * MESSAGE_HASH_BYTES + 1];
    const struct commit *commit = &restore->commit;
    if (memcmp(commit->run_id, restore->run_id, sizeof commit->run_id) == 0)
        return STATUS_OK;
    bytes_to_hex(commit->run_id, sizeof commit->run_id, theirs);
    bytes_to_hex(restore->run_id, sizeof commit->run_id, ours);
    return error_set(
        &restore->why, STATUS_CONFIG,
        "version %" PRIu64 " of fragment %" PRIu32
        " in the commit log is of run %s, this is run %s: choose another --dir, or go on with the run file "
        "and the keys that began that one",
        commit->version, commit->fragment, theirs, ours);
}

/* next_g and next_u against what the commit signs. */
static enum status check_state(struct restore *restore, int f) {
    const struct commit *commit = &restore->commit;
    struct state_hash hash;
    char expected[2 * STATE_HASH_BYTES + 1], found[2 * STATE_HASH_BYTES + 1];
    state_hash_fragment(restore->next_g, restore->next_u, restore->copy->fragments->list[f].count, &hash);
    if (memcmp(hash.bytes, commit->state_hash, sizeof hash.bytes) == 0)
        return STATUS_OK;
    bytes_to_hex(commit->state_hash, sizeof commit->state_hash, expected);
    bytes_to_hex(hash.bytes, sizeof hash.bytes, found);
    return error_set(&restore->why, STATUS_DATA,
                     "version %" PRIu64 " of fragment %d: its commit names state hash %s, the record gives %s",
                     commit->version, f, expected, found);
}

/* What was prepared aside becomes the fragment's state. */
static void take_next(struct restore *restore, int f, struct outer_restored *restored) {
    size_t at = restore->copy->offsets[f], bytes = restore->copy->fragments->list[f].count * sizeof(float);
    memcpy(restore->copy->g + at, restore->next_g, bytes);
    memcpy(restore->copy->u + at, restore->next_u, bytes);
    memcpy(restore->residual + at, restore->next_residual, bytes);
    restored->commit = restore->commit;
    restored->head = commit_head(&restore->commit);
}

/* STATUS_DATA, STATUS_NOT_FOUND: this full record is no start. */
static enum status begin_at(struct restore *restore, int f, uint64_t version) {
    struct commit_record_holds holds;
    enum status status =
        commit_log_read(restore->log, (uint32_t)f, version, &restore->commit, NULL, restore->next_residual,
                        restore->next_g, restore->next_u, &holds, &restore->why);
    if (status == STATUS_OK)
        status = check_run(restore);
    return status == STATUS_OK ? check_state(restore, f) : status;
}

static enum status begin(struct restore *restore, int f, struct outer_restored *restored) {
    uint64_t full = UINT64_MAX;
    while ((full = commit_log_full_below(restore->log, (uint32_t)f, full)) != 0) {
        enum status status = begin_at(restore, f, full);
        if (status == STATUS_OK) {
            take_next(restore, f, restored);
            restored->begun_at = full;
            return STATUS_OK;
        }
        if (!is_bad_record(status))
            return status;
        if (restored->warning[0] == '\0')
            snprintf(restored->warning, sizeof restored->warning,
                     "fragment %d cannot begin at the full record of version %" PRIu64 ": %.600s", f, full,
                     restore->why.text);
    }
    return STATUS_OK;
}

/* One record onto the fragment as it stands. STATUS_DATA, STATUS_NOT_FOUND: it cannot be used. */
static enum status step(struct restore *restore, int f, struct outer_restored *restored) {
    const struct outer_copy *copy = restore->copy;
    const struct fragment *fragment = &copy->fragments->list[f];
    struct commit_record_holds holds;
    uint64_t version = restored->head.version + 1;
    enum status status = commit_log_read(restore->log, (uint32_t)f, version, &restore->commit, restore->payload,
                                         restore->next_residual, NULL, NULL, &holds, &restore->why);
    if (status == STATUS_OK)
        status = check_run(restore);
    if (status != STATUS_OK)
        return status;
    if (!holds.payload)
        return error_set(&restore->why, STATUS_DATA, "version %" PRIu64 " of fragment %d has no payload in the log",
                         version, f);
    if (memcmp(restore->commit.parent, restored->head.hash, sizeof restored->head.hash) != 0)
        return error_set(&restore->why, STATUS_DATA,
                         "version %" PRIu64 " of fragment %d does not follow version %" PRIu64 " in the log", version,
                         f, restored->head.version);
    if (codec_decode_spans(copy->codec_down, fragment->spans, fragment->span_count, restore->payload,
                           outer_copy_payload_down(copy, f), restore->delta) != STATUS_OK)
        return error_set(&restore->why, STATUS_DATA,
                         "the payload of version %" PRIu64 " of fragment %d does not decode", version, f);
    memcpy(restore->next_u, copy->u + copy->offsets[f], fragment->count * sizeof(float));
    outer_step_apply(&copy->optimizer, copy->g + copy->offsets[f], restore->next_u, restore->delta, restore->next_g,
                     fragment->count);
    status = check_state(restore, f);
    if (status == STATUS_OK)
        take_next(restore, f, restored);
    return status;
}

/* What could not be reached is kept aside, and said. */
static enum status end_early(struct restore *restore, int f, struct outer_restored *restored) {
    uint64_t newest = commit_log_newest(restore->log, (uint32_t)f);
    struct error reason = restore->why;
    enum status status = commit_log_set_aside(restore->log, (uint32_t)f, restored->head.version + 1,
                                              &restored->set_aside, &restore->why);
    snprintf(restored->warning, sizeof restored->warning,
             "fragment %d is restored to version %" PRIu64 " of %" PRIu64 ": %.600s. Set aside as bad.NAME: %" PRIu32
             " records. A worker that holds a newer version brings it back",
             f, restored->head.version, newest, reason.text, restored->set_aside);
    return status;
}

static enum status restore_fragment(struct restore *restore, int f, struct outer_restored *restored) {
    struct state_hash seed;
    *restored = (struct outer_restored){.newest_ever = commit_log_newest_ever(restore->log, (uint32_t)f)};
    outer_copy_hash(restore->copy, f, restore->copy->g + restore->copy->offsets[f], &seed);
    commit_genesis(restore->run_id, (uint32_t)f, seed.bytes, restored->head.hash);
    enum status status = begin(restore, f, restored);
    while (status == STATUS_OK && restored->head.version < commit_log_newest(restore->log, (uint32_t)f))
        status = step(restore, f, restored);
    return is_bad_record(status) ? end_early(restore, f, restored) : status;
}

enum status outer_restore(struct outer_copy *copy, float *residual, const uint8_t run_id[MESSAGE_HASH_BYTES],
                          struct commit_log *log, struct outer_restored *restored, struct error *error) {
    struct restore restore = {.copy = copy, .residual = residual, .run_id = run_id, .log = log};
    enum status status = restore_open(&restore, error);
    if (status != STATUS_OK)
        return status;
    for (int f = 0; f < copy->fragments->count && status == STATUS_OK; f++)
        status = restore_fragment(&restore, f, &restored[f]);
    arena_close(&restore.arena);
    if (status == STATUS_IO)
        return error_set(error, status,
                         "%.600s: mend the disk, or move that file away: its fragment then ends before it",
                         restore.why.text);
    return status == STATUS_OK ? status : error_set(error, status, "%s", restore.why.text);
}
