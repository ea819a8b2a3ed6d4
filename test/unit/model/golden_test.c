/* golden_test: tiny Qwen3 checkpoints made by Hugging Face transformers (golden/make_golden.py) open here and give the logits and the loss that
 * transformers computed from them: the shape, the names and the layout of the files are Qwen3's, and so is the mathematics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "model/model.h"
#include "model/model_files.h"
#include "reference/transformer_ref.h"

static const double BOUND = 1e-5;
/* transformers keeps norms and rotary angles in float32 whatever the model's type: its own noise, about 2e-7. */
static const double REFERENCE_BOUND = 1e-6;

enum { TOKENS_MAX = 64 };

struct golden {
    int T; /* inputs; tokens holds one more, the last target */
    int32_t tokens[TOKENS_MAX];
    double loss;    /* mean cross-entropy, nats */
    double *logits; /* (T,V) */
};

static struct golden golden_load(const char *directory, int V) {
    char path[256];
    snprintf(path, sizeof path, "%s/golden.json", directory);
    json_error_t problem;
    json_t *root = json_load_file(path, 0, &problem);
    if (!root)
        fail_msg("%s: %s", path, problem.text);
    const json_t *tokens = json_object_get(root, "tokens"), *logits = json_object_get(root, "logits");
    struct golden golden = {.T = (int)json_array_size(tokens) - 1,
                            .loss = json_real_value(json_object_get(root, "loss"))};
    assert_in_range(golden.T, 1, TOKENS_MAX - 1);
    assert_int_equal(json_array_size(logits), golden.T);
    golden.logits = calloc((size_t)(golden.T * V), sizeof *golden.logits);
    assert_non_null(golden.logits);
    for (int t = 0; t <= golden.T; t++)
        golden.tokens[t] = (int32_t)json_integer_value(json_array_get(tokens, (size_t)t));
    for (int t = 0; t < golden.T; t++) {
        const json_t *row = json_array_get(logits, (size_t)t);
        assert_int_equal(json_array_size(row), V);
        for (int i = 0; i < V; i++)
            golden.logits[t * V + i] = json_number_value(json_array_get(row, (size_t)i));
    }
    json_decref(root);
    return golden;
}

struct distance {
    double in_norm;    /* |a - b|_2 / |b|_2 */
    double in_largest; /* max |a - b| / max |b| */
};

static struct distance distance(const double *a, const double *b, int count) {
    double difference = 0, size = 0, largest_difference = 0, largest = 0;
    for (int i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
        largest_difference = fmax(largest_difference, fabs(a[i] - b[i]));
        largest = fmax(largest, fabs(b[i]));
    }
    assert_true(size > 0);
    return (struct distance){sqrt(difference / size), largest_difference / largest};
}

static void expect(const char *directory, const char *what, double found, double bound) {
    print_message("             %s, %s: relative error %.2e\n", directory, what, found);
    if (!(found <= bound))
        fail_msg("%s, %s: relative error %.3g, expected at most %.3g", directory, what, found, bound);
}

static void check_model(const char *directory, struct model *model, const struct golden *golden) {
    int V = (int)model_shape(model)->vocab, count = golden->T * V;
    float *narrow = calloc((size_t)count, sizeof *narrow);
    double *wide = calloc((size_t)count, sizeof *wide);
    assert_non_null(narrow);
    assert_non_null(wide);
    model_logits(model, model_parameters(model), golden->tokens, golden->T, narrow);
    for (int i = 0; i < count; i++)
        wide[i] = (double)narrow[i];
    struct distance logits = distance(wide, golden->logits, count);
    expect(directory, "logits in norm", logits.in_norm, BOUND);
    expect(directory, "logits in the largest", logits.in_largest, BOUND);
    double loss = model_evaluate(model, model_parameters(model), golden->tokens, 1, golden->T) / golden->T;
    expect(directory, "loss of evaluation", fabs(loss / golden->loss - 1), BOUND);
    loss = model_add_gradients(model, golden->tokens, 1, golden->T, 1);
    expect(directory, "loss of training", fabs(loss / golden->loss - 1), BOUND);
    free(narrow);
    free(wide);
}

/* The float64 reference from the same weights: were model/ and it wrong alike, this would tell. */
static void check_reference(const char *directory, struct model *model, const struct golden *golden) {
    const struct shape *shape = model_shape(model);
    const struct tensor_table *table = model_tensors(model);
    int count = golden->T * (int)shape->vocab;
    double *parameters = calloc(table->block_floats, sizeof *parameters);
    double *logits = calloc((size_t)count, sizeof *logits);
    assert_non_null(parameters);
    assert_non_null(logits);
    for (size_t i = 0; i < table->block_floats; i++)
        parameters[i] = (double)model_parameters(model)[i];
    transformer_ref_logits(shape, table, parameters, golden->tokens, golden->T, logits);
    expect(directory, "logits of the float64 reference", distance(logits, golden->logits, count).in_norm,
           REFERENCE_BOUND);
    double loss = transformer_ref_loss(shape, table, parameters, golden->tokens, 1, golden->T, 1, NULL, NULL);
    expect(directory, "loss of the float64 reference", fabs(loss / golden->loss - 1), REFERENCE_BOUND);
    free(parameters);
    free(logits);
}

static void check_directory(const char *directory, const struct shape *expected) {
    struct error error = {0};
    struct model_options options = {.inner = {.batch_per_worker = 1, .accumulate = 1, .seed = 1, .threads = 1}};
    enum tokenizer_kind tokenizer;
    if (model_files_load_shape(directory, &options.shape, &tokenizer, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    const struct shape *shape = &options.shape;
    assert_int_equal(shape->layers, expected->layers);
    assert_int_equal(shape->width, expected->width);
    assert_int_equal(shape->heads, expected->heads);
    assert_int_equal(shape->kv_heads, expected->kv_heads);
    assert_int_equal(shape->head_dim, expected->head_dim);
    assert_int_equal(shape->ffn, expected->ffn);
    assert_int_equal(shape->context, expected->context);
    assert_int_equal(shape->vocab, expected->vocab);
    assert_int_equal(shape->tied, expected->tied);
    assert_true(shape->rope_theta == expected->rope_theta);
    assert_true(shape->norm_eps == expected->norm_eps);
    assert_int_equal(tokenizer, TOKENIZER_SHARDS);

    struct model *model;
    if (model_create(&options, &model, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    if (model_files_load_parameters(directory, model_tensors(model), model_parameters(model), &error) != STATUS_OK)
        fail_msg("%s", error.text);
    struct golden golden = golden_load(directory, (int)shape->vocab);
    check_model(directory, model, &golden);
    check_reference(directory, model, &golden);
    free(golden.logits);
    model_destroy(model);
}

static void free_head_matches_transformers(void **state) {
    (void)state;
    const struct shape shape = {.layers = 2,
                                .width = 24,
                                .heads = 4,
                                .kv_heads = 2,
                                .head_dim = 16, /* not width / heads */
                                .ffn = 40,
                                .context = 64,
                                .vocab = 64,
                                .rope_theta = 1e4,
                                .norm_eps = 1e-6};
    check_directory("golden/qwen3_free", &shape);
}

static void tied_head_matches_transformers(void **state) {
    (void)state;
    const struct shape shape = {.layers = 3,
                                .width = 20,
                                .heads = 6,
                                .kv_heads = 2,
                                .head_dim = 6,
                                .ffn = 28,
                                .context = 64,
                                .vocab = 50,
                                .tied = true,
                                .rope_theta = 500,
                                .norm_eps = 1e-3};
    check_directory("golden/qwen3_tied", &shape);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(free_head_matches_transformers),
        cmocka_unit_test(tied_head_matches_transformers),
    };
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}
