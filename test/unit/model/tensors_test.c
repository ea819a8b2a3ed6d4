/* The tensor table and the initialization. */
#include <math.h>
#include "support.h"

static void make(bool tied, struct shape *shape, struct tensor_table *table) {
    struct error error;
    *shape = support_options(tied).shape;
    assert_int_equal(tensors_table_create(shape, table, &error), STATUS_OK);
}

static void names_and_offsets(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int rows, columns, dimensions, layer;
        size_t offset;
    } expected[] = {
        {"model.embed_tokens.weight", 256, 32, 2, -1, 0},
        {"model.layers.0.input_layernorm.weight", 1, 32, 1, 0, 8192},
        {"model.layers.0.self_attn.q_proj.weight", 32, 32, 2, 0, 8224},
        {"model.layers.0.self_attn.k_proj.weight", 16, 32, 2, 0, 9248},
        {"model.layers.0.self_attn.v_proj.weight", 16, 32, 2, 0, 9760},
        {"model.layers.0.self_attn.q_norm.weight", 1, 8, 1, 0, 10272},
        {"model.layers.0.self_attn.k_norm.weight", 1, 8, 1, 0, 10288}, /* 8 floats of gap before it */
        {"model.layers.0.self_attn.o_proj.weight", 32, 32, 2, 0, 10304},
        {"model.layers.0.post_attention_layernorm.weight", 1, 32, 1, 0, 11328},
        {"model.layers.0.mlp.gate_proj.weight", 48, 32, 2, 0, 11360},
        {"model.layers.0.mlp.up_proj.weight", 48, 32, 2, 0, 12896},
        {"model.layers.0.mlp.down_proj.weight", 32, 48, 2, 0, 14432},
        {"model.layers.1.input_layernorm.weight", 1, 32, 1, 1, 15968},
    };
    struct shape shape;
    struct tensor_table table;
    make(true, &shape, &table);
    assert_int_equal(table.count, 24);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        const struct tensor *tensor = &table.tensors[i];
        assert_string_equal(tensor->name, expected[i].name);
        assert_int_equal(tensor->rows, expected[i].rows);
        assert_int_equal(tensor->columns, expected[i].columns);
        assert_int_equal(tensor->dimensions, expected[i].dimensions);
        assert_int_equal(tensor->layer, expected[i].layer);
        assert_int_equal(tensor->offset, expected[i].offset);
        assert_int_equal(tensor->count, (size_t)expected[i].rows * (size_t)expected[i].columns);
    }
    const struct tensor *norm = tensors_find(&table, "model.norm.weight");
    assert_ptr_equal(norm, &table.tensors[23]);
    assert_int_equal(tensors_offset_of_final_norm(&table), norm->offset);
    assert_int_equal(tensors_offset_of_head(&table), 0);
    assert_int_equal(table.block_floats, norm->offset + 32);
    assert_int_equal(table.parameter_count, 8192 + 2 * (2 * 32 + 2 * 8 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32) + 32);
    assert_null(tensors_find(&table, "lm_head.weight"));
    assert_int_equal(tensors_offset_of_layer(&table, 1, LAYER_DOWN),
                     tensors_find(&table, "model.layers.1.mlp.down_proj.weight")->offset);
    tensors_table_destroy(&table);
}

static void free_head(void **state) {
    (void)state;
    struct shape shape;
    struct tensor_table table;
    make(false, &shape, &table);
    assert_int_equal(table.count, 25);
    assert_string_equal(table.tensors[24].name, "lm_head.weight");
    assert_int_equal(table.tensors[24].layer, TENSOR_LAYER_NONE);
    assert_int_equal(tensors_offset_of_head(&table), table.tensors[24].offset);
    tensors_table_destroy(&table);
}

static double deviation(const struct tensor_table *table, const float *block, const char *name) {
    const struct tensor *tensor = tensors_find(table, name);
    double sum = 0;
    for (size_t i = 0; i < tensor->count; i++)
        sum += (double)block[tensor->offset + i] * (double)block[tensor->offset + i];
    return sqrt(sum / (double)tensor->count);
}

static void initial_values(void **state) {
    (void)state;
    struct shape shape;
    struct tensor_table table;
    make(false, &shape, &table);
    float *block = malloc(table.block_floats * sizeof *block), *other = malloc(table.block_floats * sizeof *block);
    memset(block, 0x55, table.block_floats * sizeof *block);
    tensors_initialize(&table, &shape, 7, block);
    assert_float_equal(deviation(&table, block, "model.embed_tokens.weight"), 0.02, 0.001);
    assert_float_equal(deviation(&table, block, "lm_head.weight"), 0.02, 0.001);
    assert_float_equal(deviation(&table, block, "model.layers.1.self_attn.o_proj.weight"), 0.01, 0.001);
    assert_float_equal(deviation(&table, block, "model.layers.1.mlp.down_proj.weight"), 0.01, 0.001);
    assert_true(deviation(&table, block, "model.layers.0.self_attn.q_norm.weight") == 1.0);
    for (int i = 0; i < 8; i++)
        assert_true(block[10272 + 8 + i] == 0.0f); /* the gap after q_norm */
    tensors_initialize(&table, &shape, 8, other);
    assert_memory_not_equal(block, other, 64);
    free(block);
    free(other);
    tensors_table_destroy(&table);
}

/* FNV-1a over all bits: initial parameters are the run's identity, so they must never change by accident. */
static void initial_bits_are_fixed(void **state) {
    (void)state;
    struct shape shape;
    struct tensor_table table;
    make(true, &shape, &table);
    float *block = malloc(table.block_floats * sizeof *block);
    tensors_initialize(&table, &shape, 7, block);
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < table.block_floats; i++) {
        uint32_t bits;
        memcpy(&bits, &block[i], sizeof bits);
        hash = (hash ^ bits) * UINT64_C(1099511628211);
    }
    if (hash != UINT64_C(0x47fcf810f3297e8a))
        fail_msg("hash of the initial parameters is %#llx", (unsigned long long)hash);
    free(block);
    tensors_table_destroy(&table);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_and_offsets), cmocka_unit_test(free_head),
                                       cmocka_unit_test(initial_values), cmocka_unit_test(initial_bits_are_fixed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
