/* bench_stream: what memory gives, for passes over arrays to be measured against: the least work that reads and writes as many arrays of the
 * same length, so from the same level of cache. Rates count what the loop reads and writes, not the lines that a cache fetches before it
 * writes them. Integers: no value is slow. */
#ifndef ATOLL_EXPERIMENTS_BENCH_STREAM_H
#define ATOLL_EXPERIMENTS_BENCH_STREAM_H

#include "base/arena.h"
#include "experiments/bench_measure.h"

enum bench_stream_kind {
    BENCH_STREAM_READ,  /* 1 read */
    BENCH_STREAM_COPY,  /* 1 read, 1 write elsewhere: memcpy, which may go around the cache */
    BENCH_STREAM_TRIAD, /* 2 reads, 1 write elsewhere */
    BENCH_STREAM_1R1W,  /* from here on the written arrays are read as well */
    BENCH_STREAM_3R1W,
    BENCH_STREAM_3R2W,
    BENCH_STREAM_3R3W,
    BENCH_STREAM_4R3W,
    BENCH_STREAM_COUNT,
};

/* "3 reads, 2 writes"; static text. */
const char *bench_stream_name(enum bench_stream_kind kind);

/* Bytes that one pass over arrays of `count` 4-byte values reads and writes. */
double bench_stream_bytes(enum bench_stream_kind kind, size_t count);

/* A stream over `count` values on some threads; a case's run and context are bench_run_slices and &stream->slices. */
struct bench_stream {
    enum bench_stream_kind kind;
    uint32_t *arrays[4];
    struct bench_slices slices;
};

/* Bytes of memory that streams over up to `count` values need; they may share it. */
size_t bench_stream_memory(size_t count);

/* memory: bench_stream_memory(count) bytes, 64-byte aligned, the caller's; what the stream uses of it is written once.
 * The stream must not move afterwards. */
void bench_stream_open(struct bench_stream *stream, enum bench_stream_kind kind, uint32_t *memory, size_t count,
                       int threads);

#endif
