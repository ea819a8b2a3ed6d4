/* Sampling: one seed, one text; greedy is the argmax; top-k bounds the choice; rows longer than the context slide. */
#include <math.h>
#include "model/sample.h"
#include "support.h"

enum { COUNT = 40 };

static void generate(struct model *model, struct sample_options options, int32_t *tokens) {
    struct sampler *sampler = NULL;
    struct error error;
    assert_int_equal(sample_open(model, &options, &sampler, &error), STATUS_OK);
    tokens[0] = 'a';
    for (int i = 1; i < COUNT; i++)
        tokens[i] = sample_next(sampler, model_parameters(model), tokens, i);
    sample_close(sampler);
}

static void one_seed_gives_one_text(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    struct model *model = support_model(&options);
    int32_t a[COUNT], b[COUNT], c[COUNT];
    generate(model, (struct sample_options){.temperature = 1, .seed = 3}, a);
    generate(model, (struct sample_options){.temperature = 1, .seed = 3}, b);
    generate(model, (struct sample_options){.temperature = 1, .seed = 4}, c);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    for (int i = 0; i < COUNT; i++)
        assert_in_range(a[i], 0, 255);
    model_destroy(model);
}

static void greedy_and_top_1_take_the_likeliest(void **state) {
    (void)state;
    struct model_options options = support_options(false);
    struct model *model = support_model(&options);
    int32_t greedy[COUNT], top1[COUNT];
    static float logits[16 * 256];
    generate(model, (struct sample_options){.temperature = 0, .seed = 1}, greedy);
    generate(model, (struct sample_options){.temperature = 2, .top_k = 1, .seed = 9}, top1);
    assert_memory_equal(greedy, top1, sizeof greedy);
    for (int count = 1; count < COUNT; count++) {
        int T = count < 16 ? count : 16;
        model_logits(model, model_parameters(model), greedy + count - T, T, logits);
        for (int v = 0; v < 256; v++)
            assert_true(logits[(T - 1) * 256 + v] <= logits[(T - 1) * 256 + greedy[count]]);
    }
    model_destroy(model);
}

static void broken_parameters_give_token_0(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    struct model *model = support_model(&options);
    int32_t tokens[COUNT];
    for (size_t i = 0; i < model_tensors(model)->block_floats; i++)
        model_parameters(model)[i] = NAN;
    generate(model, (struct sample_options){.temperature = 1}, tokens);
    for (int i = 1; i < COUNT; i++)
        assert_int_equal(tokens[i], 0);
    model_destroy(model);
}

static void refuses_bad_options(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    struct model *model = support_model(&options);
    struct sampler *sampler = NULL;
    struct error error;
    assert_int_equal(sample_open(model, &(struct sample_options){.temperature = -1}, &sampler, &error), STATUS_USAGE);
    assert_string_equal(error.text, "temperature: -1 is not 0 or a number above 0");
    assert_int_equal(sample_open(model, &(struct sample_options){.temperature = NAN}, &sampler, &error), STATUS_USAGE);
    assert_int_equal(sample_open(model, &(struct sample_options){.top_k = -2}, &sampler, &error), STATUS_USAGE);
    assert_string_equal(error.text, "top-k: -2 is below 0 (0 takes all tokens)");
    assert_null(sampler);
    model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_seed_gives_one_text), cmocka_unit_test(greedy_and_top_1_take_the_likeliest),
        cmocka_unit_test(broken_parameters_give_token_0), cmocka_unit_test(refuses_bad_options)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
