/* snapshot: g and u of one whole fragment as bytes, for a node that cannot reach a version by replaying commits. Lossless.
 *
 *   u64 little-endian n | n bytes: g in byte planes | the rest: u in byte planes        (quant/planes.h)
 *
 * Who decodes compares the state hash with the signed commit of that version before it believes a bit of it. */
#ifndef ATOLL_OUTER_SNAPSHOT_H
#define ATOLL_OUTER_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* The most bytes that a snapshot of a fragment of `count` floats can have. */
size_t snapshot_bound(size_t count);

/* snapshot_encode: g, u (count,) -> dst; *bytes of snapshot_bound(count). STATUS_NO_MEMORY. One pass each. */
MUST_USE enum status snapshot_encode(const float *g, const float *u, size_t count, uint8_t *dst, size_t *bytes,
                                     struct error *error);

/* snapshot_decode: hostile bytes -> g, u (count,). STATUS_DATA: not a snapshot of that many floats; g and u are unspecified.
 * STATUS_NO_MEMORY. */
MUST_USE enum status snapshot_decode(const uint8_t *src, size_t bytes, float *g, float *u, size_t count,
                                     struct error *error);

#endif
