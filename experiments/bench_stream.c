#include "experiments/bench_stream.h"
#include <string.h>
#include "base/check.h"
#include "base/vector.h"

/* Arrays a multiple of 4 KiB apart would make loads wait for stores to the same low address bits. */
enum { STREAM_ARRAYS = 4, STREAM_GAP = 17 * 16 };

static const struct pattern {
    const char *name;
    int reads, writes, arrays;
} patterns[BENCH_STREAM_COUNT] = {
    [BENCH_STREAM_READ] = {"1 read", 1, 0, 1},
    [BENCH_STREAM_COPY] = {"copy", 1, 1, 2},
    [BENCH_STREAM_TRIAD] = {"2 reads, 1 write elsewhere", 2, 1, 3},
    [BENCH_STREAM_1R1W] = {"1 read, 1 write", 1, 1, 1},
    [BENCH_STREAM_3R1W] = {"3 reads, 1 write", 3, 1, 3},
    [BENCH_STREAM_3R2W] = {"3 reads, 2 writes", 3, 2, 3},
    [BENCH_STREAM_3R3W] = {"3 reads, 3 writes", 3, 3, 3},
    [BENCH_STREAM_4R3W] = {"4 reads, 3 writes", 4, 3, 4},
};

const char *bench_stream_name(enum bench_stream_kind kind) {
    CHECK((unsigned)kind < BENCH_STREAM_COUNT);
    return patterns[kind].name;
}

double bench_stream_bytes(enum bench_stream_kind kind, size_t count) {
    CHECK((unsigned)kind < BENCH_STREAM_COUNT);
    return (double)count * (double)sizeof(uint32_t) * (double)(patterns[kind].reads + patterns[kind].writes);
}

static HOT_LOOP uint32_t stream_read(size_t count, const uint32_t *a) {
    uint32_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += a[i];
    return sum;
}

static HOT_LOOP void stream_triad(size_t count, const uint32_t *restrict a, const uint32_t *restrict b,
                                  uint32_t *restrict c) {
    for (size_t i = 0; i < count; i++)
        c[i] = a[i] + b[i];
}

static HOT_LOOP void stream_1r1w(size_t count, uint32_t *a) {
    for (size_t i = 0; i < count; i++)
        a[i] += 1;
}

static HOT_LOOP void stream_3r1w(size_t count, uint32_t *restrict a, const uint32_t *restrict b,
                                 const uint32_t *restrict c) {
    for (size_t i = 0; i < count; i++)
        a[i] += b[i] + c[i];
}

static HOT_LOOP void stream_3r2w(size_t count, uint32_t *restrict a, uint32_t *restrict b, const uint32_t *restrict c) {
    for (size_t i = 0; i < count; i++) {
        a[i] += c[i];
        b[i] += a[i];
    }
}

static HOT_LOOP void stream_3r3w(size_t count, uint32_t *restrict a, uint32_t *restrict b, uint32_t *restrict c) {
    for (size_t i = 0; i < count; i++) {
        a[i] += b[i];
        b[i] += c[i];
        c[i] += a[i];
    }
}

static HOT_LOOP void stream_4r3w(size_t count, uint32_t *restrict a, uint32_t *restrict b, uint32_t *restrict c,
                                 const uint32_t *restrict d) {
    for (size_t i = 0; i < count; i++) {
        a[i] += b[i];
        b[i] += c[i];
        c[i] += d[i];
    }
}

static void run_once(enum bench_stream_kind kind, uint32_t *const arrays[STREAM_ARRAYS], size_t first, size_t count) {
    uint32_t *a = arrays[0] + first, *b = arrays[1] + first, *c = arrays[2] + first, *d = arrays[3] + first;
    volatile uint32_t sum;
    switch (kind) {
    case BENCH_STREAM_READ:
        sum = stream_read(count, a);
        (void)sum;
        return;
    case BENCH_STREAM_COPY:
        memcpy(b, a, count * sizeof *a);
        return;
    case BENCH_STREAM_TRIAD:
        stream_triad(count, a, b, c);
        return;
    case BENCH_STREAM_1R1W:
        stream_1r1w(count, a);
        return;
    case BENCH_STREAM_3R1W:
        stream_3r1w(count, a, b, c);
        return;
    case BENCH_STREAM_3R2W:
        stream_3r2w(count, a, b, c);
        return;
    case BENCH_STREAM_3R3W:
        stream_3r3w(count, a, b, c);
        return;
    case BENCH_STREAM_4R3W:
        stream_4r3w(count, a, b, c, d);
        return;
    case BENCH_STREAM_COUNT:
        break;
    }
    CHECK(!"bench_stream_kind");
}

static void run_slice(void *context, size_t first, size_t count, uint64_t calls) {
    const struct bench_stream *stream = context;
    for (uint64_t i = 0; i < calls; i++)
        run_once(stream->kind, stream->arrays, first, count);
}

static size_t array_stride(size_t count) {
    return arena_round(count * sizeof(uint32_t)) / sizeof(uint32_t) + STREAM_GAP;
}

size_t bench_stream_memory(size_t count) {
    return STREAM_ARRAYS * array_stride(count) * sizeof(uint32_t);
}

void bench_stream_open(struct bench_stream *stream, enum bench_stream_kind kind, uint32_t *memory, size_t count,
                       int threads) {
    stream->kind = kind;
    for (size_t i = 0; i < STREAM_ARRAYS; i++)
        stream->arrays[i] = memory + i * array_stride(count);
    for (int i = 0; i < patterns[kind].arrays;
         i++) /* pages that nobody has written are all one page, and in the cache */
        memset(stream->arrays[i], 1, count * sizeof(uint32_t));
    stream->slices = (struct bench_slices){.threads = threads, .count = count, .run = run_slice, .context = stream};
}
