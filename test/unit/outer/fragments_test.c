/* fragments: every tensor once, the patterns, gather and scatter. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "outer/fragments.h"

static struct tensor_table table_of(int64_t layers, bool tied) {
    const struct shape shape = {.layers = layers,
                                .width = 24,
                                .heads = 2,
                                .kv_heads = 1,
                                .head_dim = 10,
                                .ffn = 40,
                                .context = 16,
                                .vocab = 33,
                                .tied = tied,
                                .rope_theta = 1e4,
                                .norm_eps = 1e-6};
    struct tensor_table table;
    struct error error;
    assert_int_equal(tensors_table_create(&shape, &table, &error), STATUS_OK);
    return table;
}

static struct fragments fragments_of(const struct tensor_table *table, int64_t layers, int64_t fragment_layers,
                                     enum fragment_pattern pattern) {
    struct fragments fragments;
    struct error error;
    assert_int_equal(fragments_create(table, layers, fragment_layers, pattern, &fragments, &error), STATUS_OK);
    return fragments;
}

static void layers_by_pattern(void **state) {
    (void)state;
    static const struct {
        int64_t layers, fragment_layers;
        enum fragment_pattern pattern;
        int count;
        int of_layer[7]; /* the last entry used is the embedding's */
    } cases[] = {
        {6, 3, FRAGMENT_PATTERN_STRIDED, 3, {0, 1, 0, 1, 0, 1, 2}},
        {6, 3, FRAGMENT_PATTERN_SEQUENTIAL, 3, {0, 0, 0, 1, 1, 1, 2}},
        {5, 2, FRAGMENT_PATTERN_STRIDED, 4, {0, 1, 2, 0, 1, 3}},
        {5, 2, FRAGMENT_PATTERN_SEQUENTIAL, 4, {0, 0, 1, 1, 2, 3}},
        {4, 1, FRAGMENT_PATTERN_STRIDED, 5, {0, 1, 2, 3, 4}},
        {4, 4, FRAGMENT_PATTERN_STRIDED, 2, {0, 0, 0, 0, 1}},
        {4, 9, FRAGMENT_PATTERN_SEQUENTIAL, 2, {0, 0, 0, 0, 1}},
        {1, 1, FRAGMENT_PATTERN_STRIDED, 2, {0, 1}},
        {6, FRAGMENT_LAYERS_ALL, FRAGMENT_PATTERN_STRIDED, 1, {0, 0, 0, 0, 0, 0, 0}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int tied = 0; tied < 2; tied++) {
            struct tensor_table table = table_of(cases[c].layers, tied);
            struct fragments fragments =
                fragments_of(&table, cases[c].layers, cases[c].fragment_layers, cases[c].pattern);
            assert_int_equal(fragments.count, cases[c].count);
            for (int t = 0; t < table.count; t++) {
                int layer = table.tensors[t].layer;
                int64_t entry = layer == TENSOR_LAYER_NONE ? cases[c].layers : layer;
                assert_int_equal(fragment_of_tensor(&fragments, t), cases[c].of_layer[entry]);
            }
            fragments_destroy(&fragments);
            tensors_table_destroy(&table);
        }
}

/* Spans are the tensors of the fragment in table order; all fragments together are the table, each tensor once. */
static void every_tensor_once(void **state) {
    (void)state;
    struct tensor_table table = table_of(5, false);
    for (int64_t fragment_layers = 0; fragment_layers <= 5; fragment_layers++)
        for (int pattern = 0; pattern < 2; pattern++) {
            struct fragments fragments = fragments_of(&table, 5, fragment_layers, (enum fragment_pattern)pattern);
            size_t total = 0, largest = 0;
            int spans = 0;
            for (int f = 0; f < fragments.count; f++) {
                const struct fragment *fragment = &fragments.list[f];
                size_t count = 0;
                int next = 0;
                assert_int_equal(fragment->index, f);
                for (int t = 0; t < table.count; t++) {
                    if (fragment_of_tensor(&fragments, t) != f)
                        continue;
                    assert_true(next < fragment->span_count);
                    assert_int_equal(fragment->spans[next].offset, table.tensors[t].offset);
                    assert_int_equal(fragment->spans[next].count, table.tensors[t].count);
                    count += fragment->spans[next++].count;
                }
                assert_int_equal(next, fragment->span_count);
                assert_true(next > 0);
                assert_int_equal(fragment->count, count);
                total += count;
                spans += next;
                largest = count > largest ? count : largest;
            }
            assert_int_equal(total, table.parameter_count);
            assert_int_equal(spans, table.count);
            assert_int_equal(fragments.largest_count, largest);
            fragments_destroy(&fragments);
        }
    tensors_table_destroy(&table);
}

static void gather_and_scatter(void **state) {
    (void)state;
    struct tensor_table table = table_of(4, true);
    struct fragments fragments = fragments_of(&table, 4, 2, FRAGMENT_PATTERN_STRIDED);
    float *block = calloc(table.block_floats, sizeof *block), *copy = malloc(table.block_floats * sizeof *copy);
    for (int t = 0; t < table.count; t++)
        for (size_t i = 0; i < table.tensors[t].count; i++)
            block[table.tensors[t].offset + i] = (float)(1000 * t) + (float)(i % 1000);
    for (size_t i = 0; i < table.block_floats; i++)
        copy[i] = -7;
    for (int f = 0; f < fragments.count; f++) {
        const struct fragment *fragment = &fragments.list[f];
        float *packed =
            malloc(fragment->count * sizeof *packed); /* exact: a write past the end is seen by the sanitizer */
        fragment_gather(fragment, block, packed);
        size_t at = 0;
        for (int t = 0; t < table.count; t++)
            if (fragment_of_tensor(&fragments, t) == f) {
                assert_true(packed[at] == (float)(1000 * t));
                at += table.tensors[t].count;
            }
        fragment_scatter(fragment, packed, copy);
        free(packed);
    }
    size_t gaps = 0;
    for (size_t i = 0; i < table.block_floats; i++) {
        bool inside = false;
        for (int t = 0; t < table.count; t++)
            inside |= i >= table.tensors[t].offset && i < table.tensors[t].offset + table.tensors[t].count;
        gaps += !inside;
        assert_true(copy[i] == (inside ? block[i] : -7));
    }
    assert_int_equal(gaps, table.block_floats - table.parameter_count);
    assert_true(gaps > 0);
    free(block);
    free(copy);
    fragments_destroy(&fragments);
    tensors_table_destroy(&table);
}

static void names(void **state) {
    (void)state;
    struct tensor_table table = table_of(6, true);
    struct fragments fragments = fragments_of(&table, 6, 3, FRAGMENT_PATTERN_STRIDED);
    assert_string_equal(fragments.list[0].name, "layers 0,2,4");
    assert_string_equal(fragments.list[1].name, "layers 1,3,5");
    assert_string_equal(fragments.list[2].name, "embedding and norm");
    fragments_destroy(&fragments);
    fragments = fragments_of(&table, 6, FRAGMENT_LAYERS_ALL, FRAGMENT_PATTERN_STRIDED);
    assert_string_equal(fragments.list[0].name, "all");
    fragments_destroy(&fragments);
    tensors_table_destroy(&table);

    table = table_of(64, true);
    fragments = fragments_of(&table, 64, 64, FRAGMENT_PATTERN_SEQUENTIAL);
    assert_string_equal(fragments.list[0].name, "layers 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,..");
    fragments_destroy(&fragments);
    tensors_table_destroy(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers_by_pattern),
        cmocka_unit_test(every_tensor_once),
        cmocka_unit_test(gather_and_scatter),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
