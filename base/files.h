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

/* files_write_atomic: temporary name in the same directory, write, fsync, rename, fsync of the directory. On failure the old file
 * is untouched. mode such as 0600. */
MUST_USE enum status files_write_atomic(const char *path, const void *bytes, size_t count, unsigned mode,
                                        struct error *error);

/* files_make_directory: like mkdir -p. */
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
