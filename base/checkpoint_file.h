/* checkpoint_file: the files of a checkpoint on their way to and from the disk: written in one pass that also hashes, read with every
 * size and failure checked. It does not know what is in them.
 *
 * Reading has two kinds of failure. STATUS_DATA: this file is damaged (missing, another kind of file, too short, unreadable medium), an
 * older generation may do. STATUS_IO, STATUS_NO_MEMORY: the process cannot read (permission, descriptors); an older one would not help. */
#ifndef ATOLL_BASE_CHECKPOINT_FILE_H
#define ATOLL_BASE_CHECKPOINT_FILE_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* XXH3-128, seed 0, as 32 hex digits in canonical order. */
enum { CHECKPOINT_DIGEST_CHARS = 33 };
void checkpoint_digest(const void *bytes, size_t count, char digest[CHECKPOINT_DIGEST_CHARS]);

struct checkpoint_piece {
    const void *bytes;
    size_t count;
};

/* checkpoint_file_write: the pieces one after the other into the new file `path`, fsync, close. STATUS_IO: the file may be there in part. */
MUST_USE enum status checkpoint_file_write(const char *path, const struct checkpoint_piece *pieces, size_t count,
                                           char digest[CHECKPOINT_DIGEST_CHARS], struct error *error);

/* checkpoint_file_open: *file is a descriptor that the caller closes, *bytes its size. */
MUST_USE enum status checkpoint_file_open(const char *path, int *file, uint64_t *bytes, struct error *error);

/* checkpoint_file_read: exactly `count` bytes from `offset` on. Failpoint checkpoint.read. */
MUST_USE enum status checkpoint_file_read(int file, const char *path, uint64_t offset, void *to, size_t count,
                                          struct error *error);

/* checkpoint_file_digest: of the first `bytes` bytes. */
MUST_USE enum status checkpoint_file_digest(int file, const char *path, uint64_t bytes,
                                            char digest[CHECKPOINT_DIGEST_CHARS], struct error *error);

#endif
