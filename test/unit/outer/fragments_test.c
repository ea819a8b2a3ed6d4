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
    assert_int_equal(
        fragments_create(table, layers, fragment_layers, pattern, FRAGMENT_BALANCE_LAYERS, &fragments, &error),
        STATUS_OK);
    return fragments;
}

static struct fragments balanced_of(const struct tensor_table *table, int64_t layers, int64_t fragment_layers,
                                    enum fragment_pattern pattern) {
    struct fragments fragments;
    struct error error;
    assert_int_equal(
        fragments_create(table, layers, fragment_layers, pattern, FRAGMENT_BALANCE_BYTES, &fragments, &error),
        STATUS_OK);
    return fragments;
}

/* The one fragment that holds the tensor's first value. */
static int fragment_of_tensor(const struct fragments *fragments, const struct tensor *tensor) {
    int found = -1;
    for (int f = 0; f < fragments->count; f++)
        for (int s = 0; s < fragments->list[f].span_count; s++)
            if (fragments->list[f].spans[s].offset == tensor->offset) {
                assert_int_equal(found, -1);
                found = f;
            }
    return found;
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
                assert_int_equal(fragment_of_tensor(&fragments, &table.tensors[t]), cases[c].of_layer[entry]);
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
                    if (fragment_of_tensor(&fragments, &table.tensors[t]) != f)
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

/* What the fragments hold, one after another: offsets into the block, (parameter_count,). */
static size_t *order_of(const struct tensor_table *table, const struct fragments *fragments) {
    size_t *order = malloc(table->parameter_count * sizeof *order), next = 0;
    for (int f = 0; f < fragments->count; f++)
        for (int s = 0; s < fragments->list[f].span_count; s++)
            for (size_t i = 0; i < fragments->list[f].spans[s].count; i++) {
                assert_true(next < table->parameter_count);
                order[next++] = fragments->list[f].spans[s].offset + i;
            }
    assert_int_equal(next, table->parameter_count);
    return order;
}

static const struct tensor *tensor_at(const struct tensor_table *table, size_t offset) {
    for (int t = 0; t < table->count; t++)
        if (offset >= table->tensors[t].offset && offset < table->tensors[t].offset + table->tensors[t].count)
            return &table->tensors[t];
    fail_msg("%zu is in no tensor", offset);
    return NULL;
}

/* By bytes: as many fragments, the same parameters in the same order, cut elsewhere: at rows, into parts that are equal but for two rows. */
static void check_balance(const struct tensor_table *table, int64_t layers, int64_t fragment_layers,
                          enum fragment_pattern pattern) {
    struct fragments by_layers = fragments_of(table, layers, fragment_layers, pattern);
    struct fragments by_bytes = balanced_of(table, layers, fragment_layers, pattern);
    size_t *wanted = order_of(table, &by_layers), *found = order_of(table, &by_bytes);
    size_t least = table->parameter_count, most = 0, row = 0;
    assert_int_equal(by_bytes.count, by_layers.count);
    assert_memory_equal(found, wanted, table->parameter_count * sizeof *found);
    for (int t = 0; t < table->count; t++)
        row = (size_t)table->tensors[t].columns > row ? (size_t)table->tensors[t].columns : row;
    for (int f = 0; f < by_bytes.count; f++) {
        const struct fragment *fragment = &by_bytes.list[f];
        size_t count = 0;
        for (int s = 0; s < fragment->span_count; s++) {
            const struct tensor *tensor = tensor_at(table, fragment->spans[s].offset);
            assert_true(fragment->spans[s].offset + fragment->spans[s].count <= tensor->offset + tensor->count);
            assert_int_equal((fragment->spans[s].offset - tensor->offset) % (size_t)tensor->columns, 0);
            assert_int_equal(fragment->spans[s].count % (size_t)tensor->columns, 0);
            count += fragment->spans[s].count;
        }
        assert_int_equal(fragment->index, f);
        assert_int_equal(fragment->count, count);
        least = count < least ? count : least;
        most = count > most ? count : most;
    }
    assert_true(least > 0 && most - least < 2 * row);
    assert_int_equal(by_bytes.largest_count, most);
    free(wanted);
    free(found);
    fragments_destroy(&by_layers);
    fragments_destroy(&by_bytes);
}

static void balanced_by_bytes(void **state) {
    (void)state;
    for (int64_t layers = 1; layers <= 7; layers++)
        for (int tied = 0; tied < 2; tied++) {
            struct tensor_table table = table_of(layers, tied);
            for (int64_t fragment_layers = 0; fragment_layers <= layers; fragment_layers++)
                for (int pattern = 0; pattern < 2; pattern++)
                    check_balance(&table, layers, fragment_layers, (enum fragment_pattern)pattern);
            tensors_table_destroy(&table);
        }
}

/* An embedding larger than all layers together is shared out. */
static void a_large_embedding(void **state) {
    (void)state;
    const struct shape shape = {.layers = 4,
                                .width = 24,
                                .heads = 2,
                                .kv_heads = 1,
                                .head_dim = 10,
                                .ffn = 40,
                                .context = 16,
                                .vocab = 5000,
                                .rope_theta = 1e4,
                                .norm_eps = 1e-6};
    struct tensor_table table;
    struct error error;
    assert_int_equal(tensors_table_create(&shape, &table, &error), STATUS_OK);
    struct fragments by_layers = fragments_of(&table, 4, 2, FRAGMENT_PATTERN_STRIDED);
    struct fragments by_bytes = balanced_of(&table, 4, 2, FRAGMENT_PATTERN_STRIDED);
    assert_true(by_layers.largest_count > table.parameter_count * 9 / 10);
    assert_true(by_bytes.largest_count < table.parameter_count / 3 + 2 * 40);
    assert_string_equal(by_bytes.list[0].name, "rows of layers 0,2,1,3 and the rest");
    assert_string_equal(by_bytes.list[1].name, "rows of embedding and norm");
    fragments_destroy(&by_layers);
    fragments_destroy(&by_bytes);
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
            if (fragment_of_tensor(&fragments, &table.tensors[t]) == f) {
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
        cmocka_unit_test(layers_by_pattern), cmocka_unit_test(every_tensor_once),  cmocka_unit_test(balanced_by_bytes),
        cmocka_unit_test(a_large_embedding), cmocka_unit_test(gather_and_scatter), cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
