/* The sizes are those of the issue that asked for them, and the count of operations is theirs, computed by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "experiments/bench_sizes.h"

static void tiny_by_hand(void **state) {
    (void)state;
    struct model_options options = bench_size_options(BENCH_SIZE_TINY, 1);
    struct bench_flops flops = bench_flops(&options.shape, 16 * 128);
    /* a layer: 4 x 128 x 128 + 3 x 128 x 320 = 188416 parameters; head 256 x 128 = 32768; 2048 tokens */
    assert_int_equal(flops.projections, 2ULL * 4 * 188416 * 2048);
    assert_int_equal(flops.projections, 3087007744);
    assert_int_equal(flops.head, 402653184);               /* 6 x 32768 x 2048 */
    assert_int_equal(flops.attention_forward, 268435456);  /* 4 x 4 layers x 128 x 128 x 2048 / 2 */
    assert_int_equal(flops.attention_backward, 536870912); /* twice that */
    assert_int_equal(flops.total, 10468982784);            /* 6 x 786432 x 2048 + 12 x 4 x 128 x 128 x 2048 / 2 */
}

static void larger_sizes(void **state) {
    (void)state;
    struct model_options small = bench_size_options(BENCH_SIZE_SMALL, 1);
    struct model_options large = bench_size_options(BENCH_SIZE_LARGE, 1);
    assert_int_equal(bench_flops(&small.shape, 8 * 256).total, 138915348480); /* 6 x 10715136 x 2048 + 7247757312 */
    assert_int_equal(bench_flops(&large.shape, 2 * 512).total, 788193607680); /* 6 x 123568128 x 1024 + 28991029248 */
}

/* Heads share keys and values; a head is not width / heads. */
static void grouped_heads(void **state) {
    (void)state;
    struct shape shape = {
        .layers = 1, .width = 8, .heads = 4, .kv_heads = 2, .head_dim = 4, .ffn = 10, .context = 6, .vocab = 20};
    struct bench_flops flops = bench_flops(&shape, 12);
    assert_int_equal(flops.projections, 14976); /* 2 x (2 x 8 x 16 + 2 x 8 x 8 + 3 x 8 x 10) x 12 */
    assert_int_equal(flops.head, 11520);
    assert_int_equal(flops.attention_forward, 2304);
    assert_int_equal(flops.total, 63360);
    shape.tied = true; /* the head's product is the same */
    assert_int_equal(bench_flops(&shape, 12).total, 63360);
}

static void assert_size(enum bench_size size, const char *name, int64_t parameters, int64_t layers, int64_t heads,
                        int64_t context, int64_t batch) {
    struct model_options options = bench_size_options(size, 3);
    struct tensor_table table;
    struct error error;
    assert_string_equal(bench_size_name(size), name);
    assert_int_equal(tensors_table_create(&options.shape, &table, &error), STATUS_OK);
    assert_int_equal(table.parameter_count, parameters);
    tensors_table_destroy(&table);
    assert_int_equal(options.shape.layers, layers);
    assert_int_equal(options.shape.heads, heads);
    assert_int_equal(options.shape.context, context);
    assert_int_equal(options.inner.batch_per_worker, batch);
    assert_int_equal(options.inner.threads, 3);
}

/* Parameters pin width, ffn and vocab: matrices, norms of C (2 a layer and the last) and of D (2 a layer). */
static void sizes(void **state) {
    (void)state;
    assert_size(BENCH_SIZE_TINY, "tiny", 786432 + 9 * 128 + 8 * 32, 4, 4, 128, 16);
    assert_size(BENCH_SIZE_SMALL, "small", 10715136 + 13 * 384 + 12 * 64, 6, 6, 256, 8);
    assert_size(BENCH_SIZE_LARGE, "large", 123568128 + 25 * 768 + 24 * 64, 12, 12, 512, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tiny_by_hand), cmocka_unit_test(larger_sizes),
                                       cmocka_unit_test(grouped_heads), cmocka_unit_test(sizes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
