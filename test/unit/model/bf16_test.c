/* A model with products of bf16 factors: its gradients are near those in f32, its factors follow the parameters whoever changes them, threads
 * and recomputation change no bit. The products themselves are checked in linear_test. */
#include <math.h>
#include "base/rng.h"
#include "model/onednn.h"
#include "support.h"

enum { EXIT_SKIPPED = 77, T = 16, B = 37, COUNT = B * (T + 1) };

static struct model_options options_of(enum inner_precision precision) {
    struct model_options options = support_options(true);
    options.inner.batch_per_worker = B;
    options.inner.precision = precision;
    return options;
}

static struct model *make_model(enum inner_precision precision) {
    struct model_options options = options_of(precision);
    return support_model(&options);
}

static void fill(int32_t *windows, uint64_t seed) {
    for (int i = 0; i < COUNT; i++)
        windows[i] = (int32_t)(rng_u64(seed, 0, (uint64_t)i) % 40);
}

static size_t block_bytes(const struct model *model) {
    return model_tensors(model)->block_floats * sizeof(float);
}

static double add(struct model *model, uint64_t seed) {
    int32_t windows[COUNT];
    fill(windows, seed);
    return model_add_gradients(model, windows, B, T, 1);
}

static double evaluate(struct model *model, const float *parameters) {
    int32_t windows[COUNT];
    fill(windows, 77);
    return model_evaluate(model, parameters, windows, B, T);
}

/* As if someone had read every matrix with other numbers in it. */
static void move_parameters(struct model *model) {
    for (int i = 0; i < model_tensors(model)->count; i++) {
        const struct tensor *tensor = &model_tensors(model)->tensors[i];
        for (size_t j = 0; j < tensor->count; j++)
            model_parameters(model)[tensor->offset + j] += 0.05f * rng_normal(11, (uint64_t)i, j);
    }
}

/* |a - b| / |b| of one tensor. */
static double distance(const struct tensor *tensor, const float *a, const float *b) {
    double difference = 0, size = 0;
    for (size_t i = tensor->offset; i < tensor->offset + tensor->count; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / size);
}

/* A value rounded to bf16 is off by 2^-8 of itself at most, by about 0.16 % in the mean square. A gradient passes through some twenty products of two
 * such factors on its way forward and back, whose errors add up like random ones: some 40 of them are 1 %; as much again for what norms and attention
 * enlarge. In f32 the distance is 1e-6: nothing that forgets to round passes the lower bound. */
static void gradients_are_near_those_in_f32(void **state) {
    (void)state;
    struct model *narrow = make_model(INNER_PRECISION_BF16), *wide = make_model(INNER_PRECISION_F32);
    move_parameters(narrow);
    move_parameters(wide);
    assert_float_equal(add(narrow, 1), add(wide, 1), 0.01);
    double least = INFINITY, most = 0;
    for (int i = 0; i < model_tensors(wide)->count; i++) {
        double apart = distance(&model_tensors(wide)->tensors[i], model_gradients(narrow), model_gradients(wide));
        least = fmin(least, apart);
        most = fmax(most, apart);
    }
    print_message("gradients of tensors, bf16 against f32: %.2g to %.2g apart\n", least, most);
    assert_true(least > 1e-4);
    assert_true(most < 0.02);
    model_destroy(narrow);
    model_destroy(wide);
}

/* `model` must compute as one does that was made with its present parameters. */
static void check_against_fresh(struct model *model) {
    struct model *fresh = make_model(INNER_PRECISION_BF16);
    memcpy(model_parameters(fresh), model_parameters(model), block_bytes(model));
    memset(model_gradients(model), 0, block_bytes(model));
    double found = add(model, 2), expected = add(fresh, 2);
    assert_memory_equal(&found, &expected, sizeof found);
    assert_memory_equal(model_gradients(model), model_gradients(fresh), block_bytes(model));
    model_destroy(fresh);
}

static void factors_follow_updates_and_merges(void **state) {
    (void)state;
    struct model *model = make_model(INNER_PRECISION_BF16);
    for (int step = 0; step < 3; step++) {
        add(model, 3);
        assert_true(model_apply_update(model, 1e-2f, true).applied);
        if (step > 0)
            move_parameters(model); /* a merge comes after the update */
        check_against_fresh(model);
    }
    assert_false(model_apply_update(model, 1e-2f, false).applied); /* not finite; a merge may follow all the same */
    move_parameters(model);
    check_against_fresh(model);
    model_destroy(model);
}

/* Between two micro-batches of one update somebody evaluates an outer copy, or asks for logits under it. */
static void evaluation_under_other_parameters_changes_nothing(void **state) {
    (void)state;
    struct model *model = make_model(INNER_PRECISION_BF16), *other = make_model(INNER_PRECISION_BF16);
    move_parameters(other);
    int32_t tokens[T] = {3, 1, 4, 1, 5};
    float *logits = malloc(2 * T * 256 * sizeof *logits);
    assert_non_null(logits);
    for (int round = 0; round < 2; round++) {
        add(model, 4);
        double found = evaluate(model, model_parameters(other)), expected = evaluate(other, model_parameters(other));
        assert_memory_equal(&found, &expected, sizeof found);
        check_against_fresh(model);
        model_logits(model, model_parameters(other), tokens, T, logits);
        model_logits(other, model_parameters(other), tokens, T, logits + T * 256);
        assert_memory_equal(logits, logits + T * 256, T * 256 * sizeof *logits);
        check_against_fresh(model);
    }
    move_parameters(other); /* the same address, other values */
    double found = evaluate(model, model_parameters(other)), expected = evaluate(other, model_parameters(other));
    assert_memory_equal(&found, &expected, sizeof found);
    free(logits);
    model_destroy(model);
    model_destroy(other);
}

static float *train(int64_t threads, int64_t recompute, size_t *bytes) {
    struct model_options options = options_of(INNER_PRECISION_BF16);
    options.inner.threads = threads;
    options.shape.recompute = recompute;
    struct model *model = support_model(&options);
    for (int step = 0; step < 3; step++) {
        add(model, 5);
        add(model, 6);
        assert_true(model_apply_update(model, 1e-2f, true).applied);
    }
    *bytes = block_bytes(model);
    float *parameters = malloc(*bytes);
    assert_non_null(parameters);
    memcpy(parameters, model_parameters(model), *bytes);
    model_destroy(model);
    return parameters;
}

static void threads_and_recomputation_change_no_bit(void **state) {
    (void)state;
    size_t bytes;
    float *first = train(1, RECOMPUTE_NONE, &bytes);
    for (int64_t threads = 1; threads <= 3; threads++)
        for (int64_t recompute = RECOMPUTE_NONE; recompute <= RECOMPUTE_BLOCK; recompute++) {
            float *again = train(threads, recompute, &bytes);
            assert_memory_equal(again, first, bytes);
            free(again);
        }
    free(first);
}

static void overfits_a_batch(void **state) {
    (void)state;
    struct model_options options = options_of(INNER_PRECISION_AUTO); /* which is bf16 here */
    options.inner.batch_per_worker = 4;
    struct model *model = support_model(&options);
    int32_t windows[COUNT];
    double loss = 0;
    fill(windows, 7);
    for (int step = 0; step < 150; step++) {
        loss = model_add_gradients(model, windows, 4, T, 1);
        assert_true(model_apply_update(model, 1e-2f, true).applied);
    }
    print_message("loss after 150 steps on one batch: %.3g\n", loss);
    assert_true(loss < 0.1);
    model_destroy(model);
}

static void memory_counts_the_factors(void **state) {
    (void)state;
    struct model_options narrow = options_of(INNER_PRECISION_BF16), wide = options_of(INNER_PRECISION_F32);
    struct model *model = support_model(&narrow);
    struct model_memory found = model_memory_plan(&narrow, model_tensors(model)),
                        f32 = model_memory_plan(&wide, model_tensors(model));
    assert_in_range(found.product_bytes, block_bytes(model) / 2, block_bytes(model) / 2 + 64);
    assert_int_equal(found.state_bytes, f32.state_bytes);
    assert_int_equal(found.activation_bytes, f32.activation_bytes);
    assert_int_equal(found.peak_bytes, found.state_bytes + found.activation_bytes + found.product_bytes);
    model_destroy(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradients_are_near_those_in_f32),
                                       cmocka_unit_test(factors_follow_updates_and_merges),
                                       cmocka_unit_test(evaluation_under_other_parameters_changes_nothing),
                                       cmocka_unit_test(threads_and_recomputation_change_no_bit),
                                       cmocka_unit_test(overfits_a_batch),
                                       cmocka_unit_test(memory_counts_the_factors)};
    if (!onednn_has_bf16()) {
        printf("skipped, no bf16 products here: %s\n", onednn_text());
        return EXIT_SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
