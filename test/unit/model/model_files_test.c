/* A saved model loads again with the same shape and bits; a config as transformers writes it is read; others are refused. */
#include <jansson.h>
#include "model/model_files.h"
#include "support.h"

static void round_trip(void **state) {
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        const char *directory = support_directory();
        struct model_options options = support_options(tied);
        struct model *model = support_model(&options);
        size_t bytes = model_tensors(model)->block_floats * sizeof(float);
        struct error error = {0};
        struct shape shape;
        enum tokenizer_kind tokenizer = TOKENIZER_SHARDS;
        char below[SUPPORT_PATH_BYTES + 16];
        snprintf(below, sizeof below, "%s/a/b", directory);
        assert_int_equal(model_files_save(below, &options.shape, TOKENIZER_BYTES, model_tensors(model),
                                          model_parameters(model), &error),
                         STATUS_OK);
        assert_int_equal(model_files_load_shape(below, &shape, &tokenizer, &error), STATUS_OK);
        assert_int_equal(tokenizer, TOKENIZER_BYTES);
        assert_true(shape.z_loss == 0);
        shape.z_loss = options.shape.z_loss;
        assert_true(shape.rope_theta == options.shape.rope_theta && shape.norm_eps == options.shape.norm_eps);
        assert_int_equal(shape.layers, options.shape.layers);
        assert_int_equal(shape.width, options.shape.width);
        assert_int_equal(shape.heads, options.shape.heads);
        assert_int_equal(shape.kv_heads, options.shape.kv_heads);
        assert_int_equal(shape.head_dim, options.shape.head_dim);
        assert_int_equal(shape.ffn, options.shape.ffn);
        assert_int_equal(shape.context, options.shape.context);
        assert_int_equal(shape.vocab, options.shape.vocab);
        assert_int_equal(shape.tied, options.shape.tied);
        float *block = malloc(bytes);
        assert_int_equal(model_files_load_parameters(below, model_tensors(model), block, &error), STATUS_OK);
        assert_memory_equal(block, model_parameters(model), bytes);
        free(block);
        model_destroy(model);
        support_remove(directory);
    }
}

static void config_has_the_fields_of_qwen3(void **state) {
    (void)state;
    const char *directory = support_directory();
    struct model_options options = support_options(true);
    struct model *model = support_model(&options);
    struct error error = {0};
    assert_int_equal(model_files_save(directory, &options.shape, TOKENIZER_BYTES, model_tensors(model),
                                      model_parameters(model), &error),
                     STATUS_OK);
    char path[SUPPORT_PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s/config.json", directory);
    json_t *found = json_load_file(path, 0, NULL);
    json_t *expected = json_loads(
        "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",\"vocab_size\":256,\"hidden_size\":32,"
        "\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_"
        "dim\":8,"
        "\"max_position_embeddings\":16,\"hidden_act\":\"silu\",\"rms_norm_eps\":1e-6,\"rope_theta\":10000.0,"
        "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":10000.0},\"rope_scaling\":null,"
        "\"tie_word_embeddings\":true,\"attention_bias\":false,\"attention_dropout\":0.0,\"use_sliding_window\":false,"
        "\"sliding_window\":null,\"use_cache\":true,\"initializer_range\":0.02,\"torch_dtype\":\"float32\",\"dtype\":"
        "\"float32\","
        "\"bos_token_id\":null,\"eos_token_id\":null,\"pad_token_id\":null,"
        "\"atoll\":{\"tokenizer\":\"bytes\",\"context\":16}}",
        0, NULL);
    assert_non_null(found);
    assert_non_null(expected);
    assert_true(json_equal(found, expected));
    json_decref(found);
    json_decref(expected);
    model_destroy(model);
    support_remove(directory);
}

#define SIZES                                                                                                          \
    "\"vocab_size\":300,\"hidden_size\":32,\"intermediate_size\":48,\"num_hidden_layers\":2,\"num_attention_heads\":"  \
    "4,"                                                                                                               \
    "\"num_key_value_heads\":2,\"max_position_embeddings\":40"

static void reads_what_transformers_writes(void **state) {
    (void)state;
    const char *directory = support_directory();
    static const char text[] =
        "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\"," SIZES
        ",\"attention_bias\":false,\"hidden_act\":\"silu\",\"layer_types\":[\"full_attention\",\"full_attention\"],"
        "\"rope_scaling\":null,\"rope_parameters\":{\"rope_theta\":1000000,\"rope_type\":\"default\"},\"rms_norm_eps\":"
        "1e-05,"
        "\"tie_word_embeddings\":true,\"sliding_window\":null,\"transformers_version\":\"5.0.0\",\"use_sliding_"
        "window\":false}";
    struct error error = {0};
    struct shape shape;
    enum tokenizer_kind tokenizer;
    support_write(directory, "config.json", text, sizeof text - 1);
    if (model_files_load_shape(directory, &shape, &tokenizer, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_int_equal(tokenizer, TOKENIZER_SHARDS);
    assert_int_equal(shape.head_dim, 128); /* transformers' default */
    assert_int_equal(shape.context, 40);
    assert_int_equal(shape.vocab, 300);
    assert_true(shape.rope_theta == 1e6 && shape.norm_eps == 1e-5 && shape.tied);
    support_remove(directory);
}

static void refuses_other_models(void **state) {
    (void)state;
    static const struct {
        const char *config, *text;
    } cases[] = {
        {"{", "@/config.json:1:1: not JSON: string or '}' expected near end of file"},
        {"[]", "@/config.json: not a JSON object"},
        {"{" SIZES "}", "@/config.json: model_type is missing, expected qwen3"},
        {"{\"model_type\":\"llama\"," SIZES "}", "@/config.json: model_type is llama, expected qwen3"},
        {"{\"model_type\":\"qwen3\",\"hidden_act\":\"gelu\"," SIZES "}",
         "@/config.json: hidden_act is gelu, expected silu"},
        {"{\"model_type\":\"qwen3\",\"attention_bias\":true," SIZES "}",
         "@/config.json: attention_bias is true; projections with a bias are not supported"},
        {"{\"model_type\":\"qwen3\",\"use_sliding_window\":true," SIZES "}",
         "@/config.json: use_sliding_window is true; sliding windows are not supported"},
        {"{\"model_type\":\"qwen3\",\"rope_scaling\":{\"type\":\"yarn\"}," SIZES "}",
         "@/config.json: rope_scaling is set; scaled positions are not supported"},
        {"{\"model_type\":\"qwen3\",\"rope_parameters\":{\"rope_type\":\"yarn\"}," SIZES "}",
         "@/config.json: rope_type is yarn, expected default"},
        {"{\"model_type\":\"qwen3\"}", "@/config.json: num_hidden_layers is missing, expected a whole number above 0"},
        {"{\"model_type\":\"qwen3\",\"head_dim\":\"8\"," SIZES "}",
         "@/config.json: head_dim is something else, expected a whole number above 0"},
        {"{\"model_type\":\"qwen3\",\"head_dim\":7," SIZES "}",
         "@/config.json: model.head_dim: 7 is odd; rotary positions turn pairs"},
        {"{\"model_type\":\"qwen3\",\"atoll\":{\"tokenizer\":\"bpe\"}," SIZES "}",
         "@/config.json: atoll.tokenizer is bpe, expected bytes or shards"},
    };
    const char *directory = support_directory();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        struct shape shape;
        enum tokenizer_kind tokenizer;
        support_write(directory, "config.json", cases[i].config, strlen(cases[i].config));
        assert_int_equal(model_files_load_shape(directory, &shape, &tokenizer, &error), STATUS_DATA);
        support_assert_text(&error, directory, cases[i].text);
    }
    support_write(directory, "model.safetensors.index.json", "{}", 2);
    struct error error = {0};
    struct tensor_table table = {0};
    float block[16];
    assert_int_equal(model_files_load_parameters(directory, &table, block, &error), STATUS_DATA);
    support_assert_text(&error, directory, "@: the checkpoint is split over several files; save it again as one");
    support_remove(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(config_has_the_fields_of_qwen3),
                                       cmocka_unit_test(reads_what_transformers_writes),
                                       cmocka_unit_test(refuses_other_models)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
