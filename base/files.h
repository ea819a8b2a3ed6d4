/* files: whole-file reads, atomic writes, directories and the lock that keeps a second process out of a run directory. */
#ifndef ATOLL_BASE_FILES_H
#define ATOLL_BASE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* files_read: the whole file, at most max_bytes, plus a NUL past the end. *bytes_out is malloc'ed, the caller frees it.
 * STATUS_NOT_FOUND, STATUS_IO, STATUS_DATA (larger than max_bytes): the text names the path and the reason. */
MUST_USE enum status files_read(const char *path, size_t max_bytes, uint8_t **bytes_out, size_t *count_out,
                                struct error *error);

/* files_write_atomic: PATH.tmp, write, fsync, close, rename, fsync of the directory. STATUS_IO, STATUS_NOT_FOUND (no such directory): the
 * temporary file is gone and the old file untouched, but for the last step: when the directory cannot be synced, the new file
 * is there and may not outlive a power cut. A PATH.tmp that a killed process left is replaced; one that another thread or process is writing
 * is waited for. mode such as 0600. */
MUST_USE enum status files_write_atomic(const char *path, const void *bytes, size_t count, unsigned mode,
                                        struct error *error);

/* files_write_atomic_parts: the same for a file of several parts (count,), one after another. */
struct files_part {
    const void *bytes;
    size_t count;
};
MUST_USE enum status files_write_atomic_parts(const char *path, const struct files_part *parts, size_t count,
                                              unsigned mode, struct error *error);

/* The steps, for who writes in pieces; each retries or loops where it must, names operation and path in its text and says what to do
 * about a full disk. `file` is a descriptor and `path` its name for the text. STATUS_IO, STATUS_NOT_FOUND.
 * Failpoints: files.create, files.write, files.fsync, files.close, files.rename, files.fsync_directory, files.make_directory. */
MUST_USE enum status files_create(const char *path, unsigned mode, int *file,
                                  struct error *error); /* there is none yet */
MUST_USE enum status files_write_all(int file, const char *path, const void *bytes, size_t count, struct error *error);
MUST_USE enum status files_sync(int file, const char *path, struct error *error);
MUST_USE enum status files_close(int file, const char *path, struct error *error); /* closed in any case */
MUST_USE enum status files_rename(const char *from, const char *to, struct error *error);
MUST_USE enum status files_sync_directory(const char *directory, struct error *error);

/* files_make_directory: like mkdir -p; what it makes is durable. */
MUST_USE enum status files_make_directory(const char *path, unsigned mode, struct error *error);

/* files_lock: take DIRECTORY/lock (flock, our pid inside) until the process ends. STATUS_AGAIN when another process holds it:
 * the text names its pid. */
MUST_USE enum status files_lock(const char *directory, struct error *error);

/* A directory that somebody typed (NULL = not given) must leave room for the names in it: at most FILES_DIRECTORY_BYTES - 1 bytes, not empty.
 * STATUS_USAGE. */
enum { FILES_DIRECTORY_BYTES = 400 };
MUST_USE enum status files_check_directory_name(const char *directory, struct error *error);

bool files_exists(const char *path);

/* files_join: "a/b" into out; CHECKs that it fits. */
void files_join(char *out, size_t out_bytes, const char *directory, const char *name);

#endif
