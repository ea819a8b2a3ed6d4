#include "base/arena.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include "base/check.h"
#include "base/units.h"

enum { HUGE_FROM_BYTES = 4 << 20 };

size_t arena_round(size_t bytes) {
    CHECK(bytes <= SIZE_MAX - ARENA_ALIGNMENT);
    return (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
}

enum status arena_open(struct arena *arena, size_t capacity_bytes, struct error *error) {
    if (capacity_bytes == 0) {
        *arena = (struct arena){0};
        return STATUS_OK;
    }
    void *base = mmap(NULL, capacity_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        char text[UNITS_TEXT_BYTES];
        return error_set(error, STATUS_NO_MEMORY,
                         "cannot reserve %s of memory: %s (a smaller model or batch, or a larger machine)",
                         units_format_bytes(capacity_bytes, text), strerror(errno));
    }
    if (capacity_bytes >= HUGE_FROM_BYTES)
        (void)madvise(base, capacity_bytes, MADV_HUGEPAGE); /* a refusal costs time only */
    *arena = (struct arena){.base = base, .capacity_bytes = capacity_bytes};
    return STATUS_OK;
}

void arena_close(struct arena *arena) {
    if (arena->base)
        CHECK(munmap(arena->base, arena->capacity_bytes) == 0);
    *arena = (struct arena){0};
}

void *arena_take(struct arena *arena, size_t bytes) {
    size_t room = arena_round(bytes);
    CHECK(room <= arena->capacity_bytes - arena->used_bytes);
    size_t at = arena->used_bytes;
    arena->used_bytes += room;
    return arena->base ? arena->base + at : NULL; /* zero: mapped pages are, and nothing is handed out twice */
}

struct arena arena_counting(void) {
    return (struct arena){.capacity_bytes = SIZE_MAX};
}
