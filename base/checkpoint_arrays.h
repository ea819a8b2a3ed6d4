/* checkpoint_arrays: state.safetensors, the flat arrays of one generation of a checkpoint.
 *
 *   u64 little-endian N | N bytes of JSON, space-padded so that data starts at a multiple of 8 | arrays, contiguous
 *   {NAME: {"dtype": "F32", "shape": [count], "data_offsets": [begin, end]}, ...}      all F32, then all U8: each is aligned
 *
 * A safetensors library opens it. Reading is strict: this module's own files only, every number checked against the file's size. */
#ifndef ATOLL_BASE_CHECKPOINT_ARRAYS_H
#define ATOLL_BASE_CHECKPOINT_ARRAYS_H

#include <jansson.h>
#include "base/checkpoint.h"
#include "base/checkpoint_file.h"

/* checkpoint_arrays_write: the new file `path`; its size in *bytes. Statuses of checkpoint_file_write. */
MUST_USE enum status checkpoint_arrays_write(const char *path, const struct checkpoint_array *arrays, size_t count,
                                             uint64_t *bytes, char digest[CHECKPOINT_DIGEST_CHARS],
                                             struct error *error);

struct checkpoint_arrays {
    const char *path; /* borrowed */
    json_t *header;   /* checked */
    int file;
    uint64_t data_at; /* where the first array begins */
};

/* checkpoint_arrays_open: size, hash, header. Statuses of checkpoint_file.h: STATUS_DATA = damaged; nothing is open then. */
MUST_USE enum status checkpoint_arrays_open(const char *path, uint64_t expected_bytes, const char *expected_digest,
                                            struct checkpoint_arrays *arrays, struct error *error);
/* As checkpoint_read. */
MUST_USE enum status checkpoint_arrays_read(const struct checkpoint_arrays *arrays, const char *name,
                                            enum checkpoint_type type, void *data, size_t count, struct error *error);
void checkpoint_arrays_close(struct checkpoint_arrays *arrays);

#endif
