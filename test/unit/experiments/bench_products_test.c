/* The products that run alone are those of a step: their operations are what the formula counts, attention apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "experiments/bench_products.h"
#include "experiments/bench_sizes.h"

static void assert_complete(enum bench_size size, int threads) {
    struct model_options options = bench_size_options(size, threads);
    uint64_t tokens = (uint64_t)(options.inner.batch_per_worker * options.shape.context);
    struct bench_flops flops = bench_flops(&options.shape, tokens);
    struct bench_products products;
    struct error error;
    assert_int_equal(bench_products_open(&products, &options, &error), STATUS_OK);
    double all = 0, head = 0, by_kind[BENCH_PRODUCT_KINDS] = {0};
    for (int i = 0; i < products.count; i++) {
        const struct bench_product *product = &products.list[i];
        double per_step = (double)product->per_step * bench_product_flops(product);
        all += per_step;
        if (product->linear == &products.linears[products.head])
            head += per_step;
        else
            by_kind[product->kind] += per_step;
    }
    assert_float_equal(head, (double)flops.head, 0);
    for (int kind = 0; kind < BENCH_PRODUCT_KINDS; kind++)
        assert_float_equal(by_kind[kind], (double)flops.projections, 0);
    assert_float_equal(all, (double)(flops.total - flops.attention_forward - flops.attention_backward), 0);
    bench_products_close(&products);
}

static void products_are_the_step(void **state) {
    (void)state;
    assert_complete(BENCH_SIZE_SMOKE, 1);
    assert_complete(BENCH_SIZE_SMOKE, 3);
    assert_complete(BENCH_SIZE_TINY, 2);
    assert_complete(BENCH_SIZE_SMALL, 1);
}

/* tiny: groups of 2 windows of 128 tokens, 8 of them; C -> C is q, k, v and o of 4 layers; what each adds to: transformer.c. */
static void tiny_list(void **state) {
    (void)state;
    struct model_options options = bench_size_options(BENCH_SIZE_TINY, 1);
    struct bench_products products;
    struct error error;
    assert_int_equal(bench_products_open(&products, &options, &error), STATUS_OK);
    enum { C = 128, F = 320, V = 256, FIRST = 4, LAYERS = FIRST * 8 }; /* of the first group, and of all */
    static const struct {
        int inputs, outputs;
        enum bench_product_kind kind;
        bool add;
        uint64_t per_step;
    } expected[] = {{C, C, BENCH_PRODUCT_FORWARD, false, 3 * LAYERS},
                    {C, C, BENCH_PRODUCT_INPUT, false, 2 * LAYERS},
                    {C, C, BENCH_PRODUCT_WEIGHT, false, 4 * FIRST},
                    {C, C, BENCH_PRODUCT_WEIGHT, true, 4 * (LAYERS - FIRST)},
                    {C, C, BENCH_PRODUCT_INPUT, true, 2 * LAYERS},
                    {C, C, BENCH_PRODUCT_FORWARD, true, LAYERS},
                    {C, F, BENCH_PRODUCT_FORWARD, false, 2 * LAYERS},
                    {C, F, BENCH_PRODUCT_INPUT, false, LAYERS},
                    {C, F, BENCH_PRODUCT_INPUT, true, LAYERS},
                    {C, F, BENCH_PRODUCT_WEIGHT, false, 2 * FIRST},
                    {C, F, BENCH_PRODUCT_WEIGHT, true, 2 * (LAYERS - FIRST)},
                    {F, C, BENCH_PRODUCT_FORWARD, true, LAYERS},
                    {F, C, BENCH_PRODUCT_INPUT, false, LAYERS},
                    {F, C, BENCH_PRODUCT_WEIGHT, false, FIRST},
                    {F, C, BENCH_PRODUCT_WEIGHT, true, LAYERS - FIRST},
                    {C, V, BENCH_PRODUCT_FORWARD, false, 8},
                    {C, V, BENCH_PRODUCT_INPUT, false, 8},
                    {C, V, BENCH_PRODUCT_WEIGHT, false, 1},
                    {C, V, BENCH_PRODUCT_WEIGHT, true, 7}};
    assert_int_equal(products.linear_count, 4);
    assert_int_equal(products.head, 3);
    assert_int_equal(products.count, sizeof expected / sizeof *expected);
    for (int i = 0; i < products.count; i++) {
        const struct bench_product *product = &products.list[i];
        assert_int_equal(product->linear->rows, 256);
        assert_int_equal(product->linear->inputs, expected[i].inputs);
        assert_int_equal(product->linear->outputs, expected[i].outputs);
        assert_int_equal(product->kind, expected[i].kind);
        assert_int_equal(product->add, expected[i].add);
        assert_int_equal(product->linear->wide, expected[i].inputs == F    ? BENCH_WIDE_X
                                                : expected[i].outputs == F ? BENCH_WIDE_OUT
                                                                           : BENCH_WIDE_NONE);
        assert_int_equal(product->per_step, expected[i].per_step);
    }
    bench_products_close(&products);
}

/* Two linears, once and three times a step: rate = operations of a step / time of a step. */
static void rate_is_weighted(void **state) {
    (void)state;
    struct bench_products products = {
        .linears = {{.rows = 1, .inputs = 1, .outputs = 5}, {.rows = 1, .inputs = 1, .outputs = 10}},
        .linear_count = 2,
        .count = 2,
        .threads = 1};
    products.list[0] = (struct bench_product){&products, &products.linears[0], BENCH_PRODUCT_FORWARD, false, 1};
    products.list[1] = (struct bench_product){&products, &products.linears[1], BENCH_PRODUCT_FORWARD, false, 3};
    struct bench_case cases[2] = {{.seconds = {4, 1}}, {.seconds = {2, 1}}};
    double rates[2];
    bench_products_rates(&products, cases, 2, rates);
    assert_float_equal(rates[0], 7, 1e-12);    /* (10 + 3 x 20) / (4 + 3 x 2) */
    assert_float_equal(rates[1], 17.5, 1e-12); /* 70 / 4 */
    products.threads = 2;                      /* each does all of them */
    bench_products_rates(&products, cases, 2, rates);
    assert_float_equal(rates[0], 14, 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_are_the_step), cmocka_unit_test(tiny_list),
                                       cmocka_unit_test(rate_is_weighted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
