/* safetensors: one parameter block as a Hugging Face safetensors file, F32, names of the tensor table.
 *
 *   u64 little-endian N | N bytes of JSON, space-padded so that data starts at a multiple of 8 | tensors, contiguous, table order
 *   {"__metadata__": {...}, NAME: {"dtype": "F32", "shape": [rows, columns], "data_offsets": [begin, end]}, ...}
 *
 * Reading is strict and safe for hostile files: nothing is believed before it is checked against the table and the file's size. */
#ifndef ATOLL_MODEL_SAFETENSORS_H
#define ATOLL_MODEL_SAFETENSORS_H

#include "model/tensors.h"

struct safetensors_metadata {
    const char *key, *value; /* UTF-8 */
};

/* safetensors_write: atomically (files.h). {"format": "pt"} is always there; metadata (count,) comes on top. STATUS_IO, STATUS_NO_MEMORY: the old file is untouched. */
MUST_USE enum status safetensors_write(const char *path, const struct tensor_table *table, const float *block,
                                       const struct safetensors_metadata *metadata, size_t count, struct error *error);

/* safetensors_read: exactly the table's tensors, F32 or BF16, with the table's shapes -> block (block_floats,), gaps zeroed.
 * STATUS_NOT_FOUND, STATUS_IO, STATUS_DATA (the text names path, tensor, what was expected and found): block is untouched. */
MUST_USE enum status safetensors_read(const char *path, const struct tensor_table *table, float *block,
                                      struct error *error);

#endif
