/* commit_log: names, the scan of the directory, what goes in and out of it. */
#include "outer/commit_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/check.h"
#include "base/failpoint.h"
#include "base/files.h"

enum { NAME_BYTES = 48, BAD_PREFIX_BYTES = 4 };
static const char BAD_PREFIX[] = "bad.";

struct entry {
    uint64_t version;
    bool full;
};

/* What the directory holds of one fragment, ascending. */
struct chain {
    struct commit_record_shape shape;
    struct entry *entries;
    size_t count, room;
    uint64_t newest_ever;
};

struct commit_log {
    char directory[FILES_DIRECTORY_BYTES + 16]; /* D/commits */
    int descriptor;                             /* of it, to sync names */
    uint32_t fragments;
    struct chain chains[MESSAGE_FRAGMENTS_MAX];
    struct commit_record_room room;
};

static enum status io_error(struct error *error, const char *doing, const char *path) {
    int reason = errno;
    return error_set(error, reason == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "cannot %s %s: %s", doing, path,
                     strerror(reason));
}

/* ---- names ---- */

static void record_name(char name[NAME_BYTES], uint32_t fragment, uint64_t version, bool full) {
    snprintf(name, NAME_BYTES, "f%03" PRIu32 "-v%09" PRIu64 "%s", fragment, version, full ? ".full" : "");
}

static void temporary_name(char name[NAME_BYTES], uint32_t fragment) {
    snprintf(name, NAME_BYTES, "f%03" PRIu32 ".tmp", fragment);
}

/* Only what record_name makes: a name that says the same in another way is not ours. */
static bool parse_record_name(const char *name, uint32_t *fragment, struct entry *entry) {
    char again[NAME_BYTES];
    if (sscanf(name, "f%3" SCNu32 "-v%15" SCNu64, fragment, &entry->version) != 2 || entry->version == 0)
        return false;
    for (int full = 0; full < 2; full++) {
        entry->full = full != 0;
        record_name(again, *fragment, entry->version, entry->full);
        if (strcmp(name, again) == 0)
            return true;
    }
    return false;
}

static bool is_temporary_name(const char *name) {
    char again[NAME_BYTES];
    uint32_t fragment;
    if (sscanf(name, "f%3" SCNu32, &fragment) != 1)
        return false;
    temporary_name(again, fragment);
    return strcmp(name, again) == 0;
}

static void record_path(const struct commit_log *log, char path[PATH_MAX], uint32_t fragment,
                        const struct entry *entry) {
    char name[NAME_BYTES];
    record_name(name, fragment, entry->version, entry->full);
    files_join(path, PATH_MAX, log->directory, name);
}

static enum status sync_names(const struct commit_log *log, struct error *error) {
    if ((failpoint_fails("outer.commit.sync_names") || fsync(log->descriptor) != 0) &&
        errno != EINVAL) /* EINVAL: a file system without directory fsync */
        return io_error(error, "fsync directory", log->directory);
    return STATUS_OK;
}

/* ---- what the directory holds ---- */

static const struct chain *chain_of(const struct commit_log *log, uint32_t fragment) {
    CHECK(fragment < log->fragments);
    return &log->chains[fragment];
}

static enum status chain_make_room(struct chain *chain, struct error *error) {
    if (chain->count < chain->room)
        return STATUS_OK;
    size_t room = chain->room == 0 ? 64 : 2 * chain->room;
    struct entry *larger = realloc(chain->entries, room * sizeof *larger);
    if (larger == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the names of %zu commits", room);
    chain->entries = larger;
    chain->room = room;
    return STATUS_OK;
}

static void chain_note_version(struct chain *chain, uint64_t version) {
    if (version > chain->newest_ever)
        chain->newest_ever = version;
}

static const struct entry *chain_find(const struct chain *chain, uint64_t version) {
    for (size_t i = chain->count; i-- > 0;) /* the newest are asked for most */
        if (chain->entries[i].version == version)
            return &chain->entries[i];
    return NULL;
}

static enum status rename_bad(const struct commit_log *log, uint32_t fragment, const struct entry *entry,
                              struct error *error) {
    char name[NAME_BYTES], bad[NAME_BYTES + BAD_PREFIX_BYTES], from[PATH_MAX], to[PATH_MAX];
    record_name(name, fragment, entry->version, entry->full);
    snprintf(bad, sizeof bad, "%s%s", BAD_PREFIX, name);
    files_join(from, sizeof from, log->directory, name);
    files_join(to, sizeof to, log->directory, bad);
    if (rename(from, to) != 0 && errno != ENOENT) /* ENOENT: somebody took it away already */
        return io_error(error, "set aside", from);
    return STATUS_OK;
}

/* One name of the directory. Foreign ones are left alone. */
static enum status scan_name(struct commit_log *log, const char *name, struct error *error) {
    uint32_t fragment;
    struct entry entry;
    if (is_temporary_name(name)) {
        char path[PATH_MAX];
        files_join(path, sizeof path, log->directory, name);
        return unlink(path) == 0 || errno == ENOENT ? STATUS_OK : io_error(error, "remove", path);
    }
    bool bad = strncmp(name, BAD_PREFIX, BAD_PREFIX_BYTES) == 0;
    if (!parse_record_name(bad ? name + BAD_PREFIX_BYTES : name, &fragment, &entry) || fragment >= log->fragments)
        return STATUS_OK;
    struct chain *chain = &log->chains[fragment];
    chain_note_version(chain, entry.version);
    if (bad)
        return STATUS_OK;
    enum status status = chain_make_room(chain, error);
    if (status == STATUS_OK)
        chain->entries[chain->count++] = entry;
    return status;
}

static int compare_entries(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->version != y->version)
        return x->version < y->version ? -1 : 1;
    return (int)x->full - (int)y->full;
}

static enum status scan(struct commit_log *log, struct error *error) {
    DIR *directory = opendir(log->directory);
    if (directory == NULL)
        return io_error(error, "read directory", log->directory);
    enum status status = STATUS_OK;
    errno = 0;
    for (struct dirent *name; status == STATUS_OK && (name = readdir(directory)) != NULL; errno = 0)
        status = scan_name(log, name->d_name, error);
    if (status == STATUS_OK && errno != 0)
        status = io_error(error, "read directory", log->directory);
    closedir(directory);
    for (uint32_t f = 0; f < log->fragments && status == STATUS_OK; f++) {
        struct chain *chain = &log->chains[f];
        size_t kept = 0;
        if (chain->count > 1)
            qsort(chain->entries, chain->count, sizeof *chain->entries, compare_entries);
        for (size_t i = 0; i < chain->count && status == STATUS_OK; i++)
            if (i + 1 < chain->count && chain->entries[i + 1].version == chain->entries[i].version)
                status = rename_bad(log, f, &chain->entries[i], error);
            else
                chain->entries[kept++] = chain->entries[i];
        chain->count = kept;
    }
    return status;
}

/* D/commits, its name in D synced. */
static enum status open_directory(struct commit_log *log, const char *directory, struct error *error) {
    files_join(log->directory, sizeof log->directory, directory, "commits");
    enum status status = files_make_directory(log->directory, 0777, error);
    if (status != STATUS_OK)
        return status;
    log->descriptor = open(log->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (log->descriptor < 0)
        return io_error(error, "open directory", log->directory);
    int above = openat(log->descriptor, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (above < 0)
        return io_error(error, "open directory", directory);
    if (fsync(above) != 0 && errno != EINVAL)
        status = io_error(error, "fsync directory", directory);
    close(above);
    return status;
}

enum status commit_log_open(struct commit_log **log_out, const char *directory,
                            const struct commit_record_shape *shapes, uint32_t fragments, struct error *error) {
    CHECK(fragments <= MESSAGE_FRAGMENTS_MAX);
    struct commit_log *log = calloc(1, sizeof *log);
    if (log == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the commit log");
    log->descriptor = -1;
    log->fragments = fragments;
    for (uint32_t f = 0; f < fragments; f++)
        log->chains[f].shape = shapes[f];
    enum status status = open_directory(log, directory, error);
    if (status == STATUS_OK)
        status = scan(log, error);
    if (status == STATUS_OK) /* a kill may have come between a record's rename and its sync */
        status = sync_names(log, error);
    if (status != STATUS_OK) {
        commit_log_close(log);
        return status;
    }
    *log_out = log;
    return STATUS_OK;
}

void commit_log_close(struct commit_log *log) {
    for (uint32_t f = 0; f < log->fragments; f++)
        free(log->chains[f].entries);
    if (log->descriptor >= 0)
        close(log->descriptor);
    free(log);
}

uint64_t commit_log_newest(const struct commit_log *log, uint32_t fragment) {
    const struct chain *chain = chain_of(log, fragment);
    return chain->count == 0 ? 0 : chain->entries[chain->count - 1].version;
}

uint64_t commit_log_newest_ever(const struct commit_log *log, uint32_t fragment) {
    return chain_of(log, fragment)->newest_ever;
}

uint64_t commit_log_full_below(const struct commit_log *log, uint32_t fragment, uint64_t below) {
    const struct chain *chain = chain_of(log, fragment);
    for (size_t i = chain->count; i-- > 0;)
        if (chain->entries[i].full && chain->entries[i].version < below)
            return chain->entries[i].version;
    return 0;
}

/* ---- append ---- */

/* Whole and synced under its name, or not there. */
static enum status append_file(struct commit_log *log, const struct entry *entry, const struct commit *commit,
                               const uint8_t *payload, const float *residual, const float *g, const float *u,
                               size_t *bytes, struct error *error) {
    char name[NAME_BYTES], temporary[PATH_MAX], path[PATH_MAX];
    temporary_name(name, commit->fragment);
    files_join(temporary, sizeof temporary, log->directory, name);
    record_path(log, path, commit->fragment, entry);
    enum status status = commit_record_write(&log->room, temporary, &log->chains[commit->fragment].shape, commit,
                                             payload, residual, g, u, bytes, error);
    if (status != STATUS_OK)
        return status;
    if (failpoint_fails("outer.commit.rename") || rename(temporary, path) != 0) {
        status = io_error(error, "rename to", path);
        unlink(temporary);
        return status;
    }
    status = sync_names(log, error);
    if (status != STATUS_OK)
        unlink(path); /* the next append syncs this too, or fails as well */
    return status;
}

enum status commit_log_append(struct commit_log *log, const struct commit *commit, const uint8_t *payload,
                              const float *residual, const float *g, const float *u, struct error *error) {
    CHECK(commit->fragment < log->fragments);
    struct chain *chain = &log->chains[commit->fragment];
    struct entry entry = {commit->version, g != NULL};
    uint64_t newest = commit_log_newest(log, commit->fragment);
    size_t bytes;
    struct error cause;
    CHECK((g == NULL) == (u == NULL));
    CHECK(entry.full ? entry.version > newest : payload != NULL && entry.version == newest + 1);
    CHECK(payload == NULL || commit->payload_bytes == chain->shape.payload_bytes);
    enum status status = chain_make_room(chain, error);
    if (status != STATUS_OK)
        return status;
    if (append_file(log, &entry, commit, payload, residual, g, u, &bytes, &cause) != STATUS_OK)
        return error_set(error, STATUS_IO,
                         "%s: version %" PRIu64 " of fragment %" PRIu32
                         " is not logged and was not sent; a record takes %zu bytes there: make room or mend the disk",
                         cause.text, commit->version, commit->fragment, bytes);
    chain->entries[chain->count++] = entry;
    chain_note_version(chain, entry.version);
    failpoint_hit("outer.commit.logged");
    return STATUS_OK;
}

/* ---- read ---- */

enum status commit_log_read(struct commit_log *log, uint32_t fragment, uint64_t version, struct commit *commit,
                            uint8_t *payload, float *residual, float *g, float *u, struct commit_record_holds *holds,
                            struct error *error) {
    const struct chain *chain = chain_of(log, fragment);
    const struct entry *entry = chain_find(chain, version);
    if (entry == NULL)
        return error_set(error, STATUS_NOT_FOUND, "%s: no record of fragment %" PRIu32 " version %" PRIu64,
                         log->directory, fragment, version);
    char path[PATH_MAX];
    record_path(log, path, fragment, entry);
    struct commit found;
    enum status status =
        commit_record_read(&log->room, path, &chain->shape, &found, payload, residual, g, u, holds, error);
    if (status != STATUS_OK)
        return status;
    if (found.fragment != fragment || found.version != version || holds->full != entry->full)
        return error_set(error, STATUS_DATA, "%s: holds another record than its name says", path);
    if (commit != NULL)
        *commit = found;
    return STATUS_OK;
}

/* ---- out of the way ---- */

enum status commit_log_set_aside(struct commit_log *log, uint32_t fragment, uint64_t from, uint32_t *count,
                                 struct error *error) {
    CHECK(fragment < log->fragments);
    struct chain *chain = &log->chains[fragment];
    enum status status = STATUS_OK;
    uint32_t moved = 0;
    for (; chain->count > 0 && chain->entries[chain->count - 1].version >= from; chain->count--, moved++) {
        status = rename_bad(log, fragment, &chain->entries[chain->count - 1], error);
        if (status != STATUS_OK)
            break;
    }
    if (count != NULL)
        *count = moved;
    if (status == STATUS_OK && moved > 0)
        status = sync_names(log, error);
    return status;
}

enum status commit_log_prune(struct commit_log *log, uint32_t fragment, struct error *error) {
    CHECK(fragment < log->fragments);
    struct chain *chain = &log->chains[fragment];
    uint64_t keep_from = commit_log_full_below(log, fragment, commit_log_full_below(log, fragment, UINT64_MAX));
    size_t removed = 0;
    enum status status = STATUS_OK;
    for (; removed + COMMIT_LOG_KEPT < chain->count && chain->entries[removed].version < keep_from; removed++) {
        char path[PATH_MAX];
        record_path(log, path, fragment, &chain->entries[removed]);
        if (unlink(path) != 0 && errno != ENOENT) {
            status = io_error(error, "remove", path);
            break;
        }
    }
    if (removed > 0)
        memmove(chain->entries, chain->entries + removed, (chain->count - removed) * sizeof *chain->entries);
    chain->count -= removed;
    return status;
}
