/* outer_disk: outer.json, strict on the way in. */
#include "outer/outer_disk.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/files.h"

enum { SCHEMA = 1, FILE_BYTES_MAX = 65536, RUN_ID_TEXT_BYTES = 2 * MESSAGE_HASH_BYTES + 1 };
static const char FILE_NAME[] = "outer.json";
static const char TEMPORARY_PREFIX[] = "outer.json.tmp";   /* of files_write_atomic */
static const uint64_t EPOCH_MAX = (UINT64_C(1) << 48) - 1; /* of the wire */

static enum status remove_temporaries(const char *directory, struct error *error) {
    DIR *names = opendir(directory);
    if (names == NULL)
        return error_set(error, STATUS_IO, "cannot read directory %s: %s", directory, strerror(errno));
    enum status status = STATUS_OK;
    for (struct dirent *name; status == STATUS_OK && (name = readdir(names)) != NULL;)
        if (strncmp(name->d_name, TEMPORARY_PREFIX, sizeof TEMPORARY_PREFIX - 1) == 0) {
            char path[PATH_MAX];
            files_join(path, sizeof path, directory, name->d_name);
            if (unlink(path) != 0 && errno != ENOENT)
                status = error_set(error, STATUS_IO, "cannot remove %s: %s", path, strerror(errno));
        }
    closedir(names);
    return status;
}

/* ---- read ---- */

static enum status malformed(const struct outer_disk *disk, const char *what, struct error *error) {
    return error_set(
        error, STATUS_DATA,
        "%s: %s. Put a good copy back; or remove it, then this outer counts as one that lost its state, and "
        "its commits and workers bring it back",
        disk->path, what);
}

static enum status take_live(const struct outer_disk *disk, json_t *live, uint64_t *mask, struct error *error) {
    size_t i;
    json_t *slot;
    *mask = 0;
    json_array_foreach(live, i, slot) {
        json_int_t value = json_is_integer(slot) ? json_integer_value(slot) : -1;
        if (value < 0 || value >= MESSAGE_WORKERS_MAX)
            return malformed(disk, "live: expected a list of slots 0..63", error);
        *mask |= UINT64_C(1) << value;
    }
    return STATUS_OK;
}

static enum status refuse_other_run(const struct outer_disk *disk, const char *id, const char *name,
                                    struct error *error) {
    char ours[RUN_ID_TEXT_BYTES];
    bytes_to_hex(disk->run_id, sizeof disk->run_id, ours);
    return error_set(error, STATUS_CONFIG,
                     "%s is of run %s ('%s'), this is run %s ('%s'): choose another --dir for this run, or go on with "
                     "the run file and the keys that began that one",
                     disk->path, id, name, ours, disk->name);
}

static enum status take(struct outer_disk *disk, json_t *json, struct error *error) {
    struct outer_disk_state state = {0};
    const char *id, *name;
    json_int_t schema, epoch;
    int started, ended, finished;
    json_t *live;
    json_error_t why;
    if (json_unpack_ex(json, &why, 0, "{s:I}", "schema", &schema) != 0)
        return malformed(disk, why.text, error);
    if (schema != SCHEMA)
        return error_set(error, STATUS_CONFIG,
                         "%s: expected schema %d, found %" JSON_INTEGER_FORMAT
                         ": start the version of atoll that wrote it",
                         disk->path, SCHEMA, schema);
    if (json_unpack_ex(json, &why, JSON_STRICT, "{s:I, s:s, s:s, s:I, s:b, s:b, s:b, s:o}", "schema", &schema, "run_id",
                       &id, "name", &name, "epoch", &epoch, "started", &started, "ended", &ended, "finished", &finished,
                       "live", &live) != 0)
        return malformed(disk, why.text, error);
    uint8_t run_id[MESSAGE_HASH_BYTES];
    if (strlen(id) != RUN_ID_TEXT_BYTES - 1 || !bytes_from_hex(id, run_id, sizeof run_id))
        return malformed(disk, "run_id: expected 64 hex digits", error);
    if (memcmp(run_id, disk->run_id, sizeof run_id) != 0)
        return refuse_other_run(disk, id, name, error);
    if (epoch < 0 || (uint64_t)epoch > EPOCH_MAX)
        return malformed(disk, "epoch: expected a number from 0 to 2^48 - 1", error);
    if (!json_is_array(live))
        return malformed(disk, "live: expected a list of slots 0..63", error);
    state.epoch = (uint64_t)epoch;
    state.started = started != 0;
    state.ended = ended != 0;
    state.finished = finished != 0;
    enum status status = take_live(disk, live, &state.live_mask, error);
    if (status == STATUS_OK)
        disk->state = state;
    return status;
}

enum status outer_disk_open(struct outer_disk *disk, const char *directory, const uint8_t run_id[MESSAGE_HASH_BYTES],
                            const char *name, bool *found, struct error *error) {
    uint8_t *bytes;
    size_t count;
    json_error_t why;
    *disk = (struct outer_disk){0};
    CHECK(strlen(name) < sizeof disk->name);
    files_join(disk->path, sizeof disk->path, directory, FILE_NAME);
    memcpy(disk->run_id, run_id, sizeof disk->run_id);
    strcpy(disk->name, name);
    *found = false;
    enum status status = remove_temporaries(directory, error);
    if (status != STATUS_OK)
        return status;
    status = files_read(disk->path, FILE_BYTES_MAX, &bytes, &count, error);
    if (status == STATUS_NOT_FOUND)
        return STATUS_OK;
    if (status == STATUS_DATA)
        return malformed(disk, "far too large", error);
    if (status != STATUS_OK)
        return status;
    json_t *json = json_loadb((const char *)bytes, count, JSON_REJECT_DUPLICATES, &why);
    free(bytes);
    status = json == NULL ? malformed(disk, why.text, error) : take(disk, json, error);
    json_decref(json);
    *found = status == STATUS_OK;
    return status;
}

/* ---- write ---- */

static enum status write_state(const struct outer_disk *disk, const struct outer_disk_state *state,
                               struct error *error) {
    char id[RUN_ID_TEXT_BYTES];
    bytes_to_hex(disk->run_id, sizeof disk->run_id, id);
    json_t *live = json_array();
    for (int slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (state->live_mask >> slot & 1)
            json_array_append_new(live, json_integer(slot));
    json_t *json = json_pack("{s:i, s:s, s:s, s:I, s:b, s:b, s:b, s:o}", "schema", SCHEMA, "run_id", id, "name",
                             disk->name, "epoch", (json_int_t)state->epoch, "started", (int)state->started, "ended",
                             (int)state->ended, "finished", (int)state->finished, "live", live);
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (text == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to write %s", disk->path);
    size_t length = strlen(text);
    text[length] = '\n'; /* in place of the NUL: a text file ends with a line */
    enum status status = files_write_atomic(disk->path, text, length + 1, 0644, error);
    free(text);
    return status;
}

static bool states_equal(const struct outer_disk_state *a, const struct outer_disk_state *b) {
    return a->epoch == b->epoch && a->started == b->started && a->ended == b->ended && a->finished == b->finished &&
           a->live_mask == b->live_mask;
}

enum status outer_disk_write(struct outer_disk *disk, const struct outer_disk_state *state, struct error *error) {
    CHECK(state->epoch >= disk->state.epoch && state->epoch <= EPOCH_MAX);
    if (states_equal(state, &disk->state) && files_exists(disk->path))
        return STATUS_OK;
    enum status status = write_state(disk, state, error);
    if (status == STATUS_OK)
        disk->state = *state;
    return status;
}

enum status outer_disk_begin_epoch(struct outer_disk *disk, uint64_t seen, uint64_t wall_s, struct error *error) {
    struct outer_disk_state state = disk->state;
    uint64_t newest = seen > state.epoch ? seen : state.epoch;
    if (newest >= EPOCH_MAX)
        return error_set(error, STATUS_DATA, "%s: epoch %" PRIu64 " cannot be raised", disk->path, newest);
    state.epoch =
        wall_s > newest && wall_s < EPOCH_MAX ? wall_s : newest + 1; /* a clock beyond all epochs tells nothing */
    return outer_disk_write(disk, &state, error);
}
