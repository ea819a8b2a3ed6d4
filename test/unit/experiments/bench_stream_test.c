/* A stream does what its name says: which arrays it writes, all of them, and nothing beside them; its bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "experiments/bench_stream.h"

enum { COUNT = 1000, ARRAYS = 4 };

static const struct {
    const char *name;
    bool written[ARRAYS];
    double values; /* read and written, per element */
    int arrays;    /* used */
} expected[BENCH_STREAM_COUNT] = {
    [BENCH_STREAM_READ] = {"1 read", {false}, 1, 1},
    [BENCH_STREAM_COPY] = {"copy", {false, true}, 2, 2},
    [BENCH_STREAM_TRIAD] = {"2 reads, 1 write elsewhere", {false, false, true}, 3, 3},
    [BENCH_STREAM_1R1W] = {"1 read, 1 write", {true}, 2, 1},
    [BENCH_STREAM_3R1W] = {"3 reads, 1 write", {true}, 4, 3},
    [BENCH_STREAM_3R2W] = {"3 reads, 2 writes", {true, true}, 5, 3},
    [BENCH_STREAM_3R3W] = {"3 reads, 3 writes", {true, true, true}, 6, 3},
    [BENCH_STREAM_4R3W] = {"4 reads, 3 writes", {true, true, true}, 7, 4},
};

static void writes_what_it_says(void **state) {
    (void)state;
    size_t bytes = bench_stream_memory(COUNT);
    uint32_t *memory = aligned_alloc(64, (bytes + 63) / 64 * 64), *before = malloc(bytes);
    assert_non_null(memory);
    assert_non_null(before);
    for (int kind = 0; kind < BENCH_STREAM_COUNT; kind++)
        for (int threads = 1; threads <= 3; threads++) {
            struct bench_stream stream;
            bench_stream_open(&stream, (enum bench_stream_kind)kind, memory, COUNT, threads);
            memset(memory, 0, bytes);
            for (uint32_t array = 0; array < ARRAYS; array++)
                for (int i = 0; i < COUNT; i++)
                    stream.arrays[array][i] = 1 + 10 * array;
            memcpy(before, memory, bytes);
            bench_run_slices(&stream.slices, 1);
            for (int array = 0; array < ARRAYS; array++) {
                const uint32_t *old = before + (stream.arrays[array] - memory);
                for (int i = 0; i < COUNT; i++) {
                    assert_int_equal(stream.arrays[array][i] != old[i], expected[kind].written[array]);
                    memory[stream.arrays[array] - memory + i] = old[i];
                }
            }
            assert_memory_equal(memory, before, bytes); /* nothing beside the arrays */
        }
    free(memory);
    free(before);
}

/* Pages that were never written would be read from one page of zeros, and so from the cache. */
static void memory_is_written_first(void **state) {
    (void)state;
    size_t bytes = bench_stream_memory(COUNT);
    uint32_t *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(memory);
    for (int kind = 0; kind < BENCH_STREAM_COUNT; kind++) {
        struct bench_stream stream;
        memset(memory, 0, bytes);
        bench_stream_open(&stream, (enum bench_stream_kind)kind, memory, COUNT, 1);
        for (int array = 0; array < ARRAYS; array++)
            for (int i = 0; i < COUNT; i++)
                assert_int_equal(stream.arrays[array][i] != 0, array < expected[kind].arrays);
    }
    free(memory);
}

static void bytes_and_names(void **state) {
    (void)state;
    for (int kind = 0; kind < BENCH_STREAM_COUNT; kind++) {
        assert_string_equal(bench_stream_name((enum bench_stream_kind)kind), expected[kind].name);
        assert_float_equal(bench_stream_bytes((enum bench_stream_kind)kind, COUNT), 4 * COUNT * expected[kind].values,
                           0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(writes_what_it_says), cmocka_unit_test(memory_is_written_first),
                                       cmocka_unit_test(bytes_and_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
