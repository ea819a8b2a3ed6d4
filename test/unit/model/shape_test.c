/* shape_validate: derived fields, and the exact text for each thing that cannot work. */
#include "support.h"

static void fills_derived_fields(void **state) {
    (void)state;
    struct shape shape = support_options(true).shape;
    struct error error;
    shape.kv_heads = shape.head_dim = shape.vocab = 0;
    assert_int_equal(shape_validate(&shape, &error), STATUS_OK);
    assert_int_equal(shape.kv_heads, 4);
    assert_int_equal(shape.head_dim, 8);
    assert_int_equal(shape.vocab, 256);
}

static void refuses(void **state) {
    (void)state;
    static const struct {
        size_t field;
        int64_t value;
        const char *text;
    } cases[] = {
        {offsetof(struct shape, layers), 0, "model.layers: 0 is not between 1 and 512"},
        {offsetof(struct shape, width), -4, "model.width: -4 is not between 1 and 65536"},
        {offsetof(struct shape, heads), 0, "model.heads: 0 is not between 1 and 1024"},
        {offsetof(struct shape, kv_heads), 3, "model.kv_heads: 3 does not divide heads 4"},
        {offsetof(struct shape, kv_heads), -1, "model.kv_heads: -1 is not between 1 and 1024"},
        {offsetof(struct shape, head_dim), 7, "model.head_dim: 7 is odd; rotary positions turn pairs"},
        {offsetof(struct shape, ffn), 0, "model.ffn: 0 is not between 1 and 1048576"},
        {offsetof(struct shape, context), 0, "model.context: 0 is not between 1 and 1048576"},
        {offsetof(struct shape, vocab), 1 << 25, "model.vocab: 33554432 is not between 1 and 16777216"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct shape shape = support_options(true).shape, before;
        struct error error = {0};
        memcpy((char *)&shape + cases[i].field, &cases[i].value, sizeof(int64_t));
        before = shape;
        assert_int_equal(shape_validate(&shape, &error), STATUS_CONFIG);
        assert_string_equal(error.text, cases[i].text);
        assert_memory_equal(&shape, &before, sizeof shape);
    }
}

static void refuses_bad_numbers(void **state) {
    (void)state;
    struct error error;
    struct shape shape = support_options(true).shape;
    shape.rope_theta = 1;
    assert_int_equal(shape_validate(&shape, &error), STATUS_CONFIG);
    assert_string_equal(error.text, "model.rope_theta: 1 is not a number above 1");
    shape = support_options(true).shape;
    shape.norm_eps = 0;
    assert_int_equal(shape_validate(&shape, &error), STATUS_CONFIG);
    assert_string_equal(error.text, "model.norm_eps: 0 is not a number above 0");
    shape = support_options(true).shape;
    shape.z_loss = -1;
    assert_int_equal(shape_validate(&shape, &error), STATUS_CONFIG);
    assert_string_equal(error.text, "model.z_loss: -1 is not 0 or a number above 0");
    shape = support_options(true).shape;
    shape.width = 30;
    shape.head_dim = 0;
    assert_int_equal(shape_validate(&shape, &error), STATUS_CONFIG);
    assert_string_equal(error.text, "model.heads: 4 does not divide width 30; change one, or set head_dim");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(fills_derived_fields), cmocka_unit_test(refuses),
                                       cmocka_unit_test(refuses_bad_numbers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
