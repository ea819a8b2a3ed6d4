/* arena: memory taken once at start and handed out in 64-byte-aligned pieces; freed as a whole. Not thread-safe. */
#ifndef ATOLL_BASE_ARENA_H
#define ATOLL_BASE_ARENA_H

#include <stddef.h>
#include "base/status.h"

enum { ARENA_ALIGNMENT = 64 };

struct arena {
    unsigned char *base;
    size_t capacity_bytes;
    size_t used_bytes;
};

/* arena_open: reserve (zero-filled by the kernel, pages touched on first use; of 2 MiB where the kernel has them and the arena is larger than
 * two: their first touch costs a fifth, and linear passes miss no translations). STATUS_NO_MEMORY: the text says how much was asked. */
MUST_USE enum status arena_open(struct arena *arena, size_t capacity_bytes, struct error *error);
void arena_close(struct arena *arena);

/* arena_take: `bytes` zeroed, 64-byte aligned. CHECKs the capacity: sizes are computed from the run file beforehand. */
void *arena_take(struct arena *arena, size_t bytes);

/* The room that arena_take(bytes) uses, for computing capacities. */
size_t arena_round(size_t bytes);

/* arena_counting: without memory. arena_take gives NULL and adds to used_bytes: the capacity that the same takes need of a real one. */
struct arena arena_counting(void);

#endif
