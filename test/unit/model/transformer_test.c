/* The model as a whole: it learns, its gradients add up over micro-batches, bad steps change nothing, the same run gives the
 * same bits. Its numbers are compared with a float64 reference in reference_test. */
#include <math.h>
#include "base/rng.h"
#include "support.h"

enum { T = 16, WINDOW = T + 1 };

static void fill_tokens(int32_t *tokens, int count, uint64_t seed) {
    for (int i = 0; i < count; i++)
        tokens[i] = (int32_t)(rng_u64(seed, 0, (uint64_t)i) % 256);
}

static void fill(int32_t *windows, int B, uint64_t seed) {
    fill_tokens(windows, B * WINDOW, seed);
}

static size_t block_bytes(const struct model *model) {
    return model_tensors(model)->block_floats * sizeof(float);
}

static float *copy_block(const struct model *model, const float *block) {
    float *copy = malloc(block_bytes(model));
    memcpy(copy, block, block_bytes(model));
    return copy;
}

/* |a - b| / |b| */
static double distance(const struct model *model, const float *a, const float *b) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < model_tensors(model)->block_floats; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / size);
}

static void starts_near_uniform(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    struct model *model = support_model(&options);
    int32_t windows[4 * WINDOW];
    fill(windows, 4, 1);
    assert_float_equal(model_add_gradients(model, windows, 4, T, 1), log(256), 0.05);
    model_destroy(model);
}

static void overfits_a_tiny_batch(void **state) {
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct model_options options = support_options(tied);
        struct model *model = support_model(&options);
        int32_t windows[4 * WINDOW];
        double loss = 0;
        fill(windows, 4, 2);
        for (int step = 0; step < 150; step++) {
            loss = model_add_gradients(model, windows, 4, T, 1);
            assert_true(model_apply_update(model, 1e-2f, true).applied);
        }
        assert_true(loss < 0.1);
        assert_int_equal(model_update_count(model), 150);
        model_destroy(model);
    }
}

static void accumulated_gradients_equal_one_big_batch(void **state) {
    (void)state;
    struct model_options options = support_options(false);
    options.inner.batch_per_worker = 8;
    struct model *model = support_model(&options);
    int32_t windows[8 * WINDOW];
    fill(windows, 8, 3);
    double whole = model_add_gradients(model, windows, 8, T, 1);
    float *big = copy_block(model, model_gradients(model));
    memset(model_gradients(model), 0, block_bytes(model));
    double sum = 0;
    for (int part = 0; part < 4; part++)
        sum += model_add_gradients(model, windows + part * 2 * WINDOW, 2, T, 0.25f);
    assert_float_equal(sum / 4, whole, 1e-6);
    double apart = distance(model, model_gradients(model), big);
    print_message("accumulated against whole: %.2g\n", apart);
    assert_true(apart < 1e-5);
    free(big);
    model_destroy(model);
}

/* Gradients of two batches after an update and an evaluation; asks: they are looked at before. */
static float *gradients_after_update(const struct model_options *options, bool asks) {
    struct model *model = support_model(options);
    const int B = (int)options->inner.batch_per_worker, context = (int)options->shape.context;
    int32_t *windows = malloc((size_t)(B * (context + 1)) * sizeof *windows);
    assert_non_null(windows);
    fill_tokens(windows, B * (context + 1), 6);
    model_add_gradients(model, windows, B, context, 1);
    assert_true(model_apply_update(model, 1e-3f, true).applied);
    if (asks)
        assert_true(model_gradients(model)[0] == 0.0f);
    model_evaluate(model, model_parameters(model), windows, B, context);
    for (int batch = 0; batch < 2; batch++) {
        fill_tokens(windows, B * (context + 1), 7 + (uint64_t)batch);
        model_add_gradients(model, windows, B, context, 0.5f);
    }
    float *gradients = copy_block(model, model_gradients(model));
    free(windows);
    model_destroy(model);
    return gradients;
}

/* After an update, gradients are as good as zero: the next pass sets them, or they are zeroed for who asks. */
static void check_anew(const struct model_options *options) {
    struct model *model = support_model(options);
    float *set = gradients_after_update(options, false), *added = gradients_after_update(options, true);
    for (size_t i = 0; i < model_tensors(model)->block_floats; i++)
        assert_true(set[i] == added[i]);
    free(set);
    free(added);
    model_destroy(model);
}

static void gradients_begin_anew_after_an_update(void **state) {
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct model_options small = support_options(tied), waves = small, chunks = small;
        waves.inner.batch_per_worker = 520; /* 33 units of 16 windows: two waves */
        chunks.inner.batch_per_worker = 1;
        chunks.shape.context = 1040; /* rows of a pass, of which so many logits are too many at a time */
        chunks.shape.vocab = 600;
        check_anew(&small);
        check_anew(&waves);
        check_anew(&chunks);
    }
    struct model_options options = support_options(true);
    struct model *model = support_model(&options);
    int32_t windows[4 * WINDOW];
    fill(windows, 4, 6);
    model_add_gradients(model, windows, 4, T, 1);
    assert_true(model_apply_update(model, 1e-3f, true).gradient_norm > 0);
    assert_true(model_apply_update(model, 1e-3f, true).gradient_norm == 0); /* none were added */
    model_destroy(model);
}

/* A micro-batch above one unit (256 rows) is cut into passes inside. */
static void large_micro_batches_are_cut_into_passes(void **state) {
    (void)state;
    enum { B = 67 };
    struct model_options options = support_options(true);
    options.inner.batch_per_worker = B;
    struct model *model = support_model(&options);
    int32_t windows[B * WINDOW];
    fill(windows, B, 4);
    double loss = model_add_gradients(model, windows, B, T, 1), sum = 0;
    float *big = copy_block(model, model_gradients(model));
    memset(model_gradients(model), 0, block_bytes(model));
    for (int b = 0; b < B; b++)
        sum += model_add_gradients(model, windows + b * WINDOW, 1, T, 1.0f / B);
    assert_float_equal(sum / B, loss, 1e-6);
    assert_true(distance(model, model_gradients(model), big) < 1e-5);
    assert_float_equal(model_evaluate(model, model_parameters(model), windows, B, T), loss * B * T, 1e-3 * B);
    free(big);
    model_destroy(model);
}

static void check_skipped(struct model *model, bool loss_finite) {
    float *p = copy_block(model, model_parameters(model)), *m = copy_block(model, model_moment1(model)),
          *v = copy_block(model, model_moment2(model));
    struct update_result result = model_apply_update(model, 1e-2f, loss_finite);
    assert_false(result.applied);
    assert_int_equal(model_update_count(model), 1);
    assert_memory_equal(model_parameters(model), p, block_bytes(model));
    assert_memory_equal(model_moment1(model), m, block_bytes(model));
    assert_memory_equal(model_moment2(model), v, block_bytes(model));
    for (size_t i = 0; i < model_tensors(model)->block_floats; i++)
        assert_true(model_gradients(model)[i] == 0.0f);
    free(p);
    free(m);
    free(v);
}

static void steps_that_are_not_finite_change_nothing(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    struct model *model = support_model(&options);
    int32_t windows[4 * WINDOW];
    fill(windows, 4, 5);
    model_add_gradients(model, windows, 4, T, 1);
    assert_true(model_apply_update(model, 1e-3f, true).applied);
    model_add_gradients(model, windows, 4, T, 1);
    model_gradients(model)[100] = NAN;
    check_skipped(model, true);
    model_gradients(model)[100] = INFINITY;
    check_skipped(model, true);
    model_add_gradients(model, windows, 4, T, 1);
    check_skipped(model, false);
    float saved = model_parameters(model)[windows[0] * 32];
    model_parameters(model)[windows[0] * 32] = NAN; /* a bad parameter shows in the loss */
    assert_false(isfinite(model_add_gradients(model, windows, 4, T, 1)));
    model_apply_update(model, 1e-3f, false);
    model_parameters(model)[windows[0] * 32] = saved;
    assert_true(isfinite(model_add_gradients(model, windows, 4, T, 1)));
    assert_true(model_apply_update(model, 1e-3f, true).applied);
    model_destroy(model);
}

static void update_clips_and_decays_matrices_only(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    struct model *model = support_model(&options);
    float before_matrix = model_parameters(model)[5];
    size_t norm = tensors_offset_of_final_norm(model_tensors(model));
    model_gradients(model)[0] = 30;
    model_gradients(model)[1] = 40;
    struct update_result result = model_apply_update(model, 0.1f, true);
    assert_float_equal(result.gradient_norm, 50, 1e-9);
    assert_float_equal(model_moment1(model)[0], 0.1 * 30 / 50.000001, 1e-7); /* clipped to norm 1 */
    assert_float_equal(model_parameters(model)[5], before_matrix * (1 - 0.1 * 0.1), 1e-8);
    assert_true(model_parameters(model)[norm] == 1.0f);
    model_destroy(model);
}

static void same_run_gives_same_bits(void **state) {
    (void)state;
    float *first = NULL;
    for (int run = 0; run < 2; run++) {
        struct model_options options = support_options(true);
        void *shift = malloc((size_t)run * 1000 + 8); /* other addresses in the second run */
        struct model *model = support_model(&options);
        int32_t windows[4 * WINDOW];
        for (int step = 0; step < 5; step++) {
            fill(windows, 4, (uint64_t)step);
            model_add_gradients(model, windows, 4, T, 1);
            model_apply_update(model, 1e-2f, true);
        }
        if (first)
            assert_memory_equal(first, model_parameters(model), block_bytes(model));
        free(first);
        first = copy_block(model, model_parameters(model));
        model_destroy(model);
        free(shift);
    }
    free(first);
}

static void evaluation_agrees_and_disturbs_nothing(void **state) {
    (void)state;
    struct model_options options = support_options(false);
    struct model *model = support_model(&options);
    int32_t windows[4 * WINDOW], others[4 * WINDOW];
    fill(windows, 4, 6);
    fill(others, 4, 7);
    double loss = model_add_gradients(model, windows, 4, T, 1);
    float *g = copy_block(model, model_gradients(model)), *p = copy_block(model, model_parameters(model));
    assert_float_equal(model_evaluate(model, model_parameters(model), windows, 4, T) / (4 * T), loss, 1e-6);
    model_evaluate(model, p, others, 3, T);
    assert_memory_equal(model_gradients(model), g, block_bytes(model));
    assert_memory_equal(model_parameters(model), p, block_bytes(model));
    /* another block of the same table */
    memset(p, 0, block_bytes(model));
    assert_float_equal(model_evaluate(model, p, windows, 4, T) / (4 * T), log(256), 1e-5);
    free(g);
    free(p);
    model_destroy(model);
}

static void logits_see_only_the_past(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    struct model *model = support_model(&options);
    int32_t tokens[T];
    static float a[T * 256], b[T * 256];
    for (int t = 0; t < T; t++)
        tokens[t] = t * 11;
    model_logits(model, model_parameters(model), tokens, T, a);
    tokens[T - 1] = 3;
    model_logits(model, model_parameters(model), tokens, T, b);
    for (int i = 0; i < (T - 1) * 256; i++)
        assert_float_equal(a[i], b[i], 1e-6);
    float change = 0;
    for (int i = (T - 1) * 256; i < T * 256; i++)
        change += fabsf(a[i] - b[i]);
    assert_true(change > 1e-2f);
    model_logits(model, model_parameters(model), tokens, 3, b); /* a shorter row */
    for (int i = 0; i < 3 * 256; i++)
        assert_float_equal(a[i], b[i], 1e-6);
    model_destroy(model);
}

static void refuses_impossible_batches(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    struct model *model = NULL;
    struct error error;
    options.inner.batch_per_worker = 0;
    assert_int_equal(model_create(&options, &model, &error), STATUS_CONFIG);
    assert_string_equal(error.text,
                        "inner.batch_per_worker: 0 windows of 16 tokens are not between 1 and 2097152 tokens; use "
                        "accumulate for a larger batch");
    options.inner.batch_per_worker = 1 << 20;
    assert_int_equal(model_create(&options, &model, &error), STATUS_CONFIG);
    assert_null(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_near_uniform),
        cmocka_unit_test(overfits_a_tiny_batch),
        cmocka_unit_test(accumulated_gradients_equal_one_big_batch),
        cmocka_unit_test(large_micro_batches_are_cut_into_passes),
        cmocka_unit_test(gradients_begin_anew_after_an_update),
        cmocka_unit_test(steps_that_are_not_finite_change_nothing),
        cmocka_unit_test(update_clips_and_decays_matrices_only),
        cmocka_unit_test(same_run_gives_same_bits),
        cmocka_unit_test(evaluation_agrees_and_disturbs_nothing),
        cmocka_unit_test(logits_see_only_the_past),
        cmocka_unit_test(refuses_impossible_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
