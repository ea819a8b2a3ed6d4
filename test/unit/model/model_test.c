/* Threads and recomputation change no bit: gradients, losses, norms and parameters of some steps are those of one thread that keeps everything. */
#include <math.h>
#include "base/rng.h"
#include "model/gemm_avx512.h"
#include "support.h"

enum { STEPS = 2, ACCUMULATE = 2, VARIANTS = 12 };

/* What some steps leave behind. */
struct outcome {
    float *parameters, *gradients; /* the gradients of one micro-batch more */
    double losses[STEPS * ACCUMULATE], norms[STEPS], evaluated;
    size_t bytes;
};

static int32_t *make_windows(const struct model_options *options, uint64_t seed) {
    size_t count = (size_t)(options->inner.batch_per_worker * (options->shape.context + 1));
    int32_t *windows = malloc(count * sizeof *windows);
    assert_non_null(windows);
    for (size_t i = 0; i < count; i++) /* few tokens, so that the look-up adds to the same rows again and again */
        windows[i] = (int32_t)(rng_u64(seed, 0, i) % 40);
    return windows;
}

static float *copy_of(const float *block, size_t bytes) {
    float *copy = malloc(bytes);
    assert_non_null(copy);
    memcpy(copy, block, bytes);
    return copy;
}

/* The last micro-batch of each step is a window short, so that a pass is. */
static struct outcome train(const struct model_options *options) {
    struct model *model = support_model(options);
    struct outcome outcome = {.bytes = model_tensors(model)->block_floats * sizeof(float)};
    int B = (int)options->inner.batch_per_worker, T = (int)options->shape.context;
    for (int step = 0; step < STEPS; step++) {
        bool finite = true;
        for (int i = 0; i < ACCUMULATE; i++) {
            int32_t *windows = make_windows(options, (uint64_t)(step * ACCUMULATE + i));
            double loss = model_add_gradients(model, windows, i + 1 < ACCUMULATE || B == 1 ? B : B - 1, T, 0.5F);
            outcome.losses[step * ACCUMULATE + i] = loss;
            finite = finite && isfinite(loss);
            free(windows);
        }
        struct update_result update = model_apply_update(model, 1e-2F, finite);
        assert_true(update.applied);
        outcome.norms[step] = update.gradient_norm;
    }
    int32_t *windows = make_windows(options, 99);
    outcome.evaluated = model_evaluate(model, model_parameters(model), windows, B, T);
    (void)model_add_gradients(model, windows, B, T, 1);
    (void)model_add_gradients(model, windows, B, T - 1, 1);
    free(windows);
    outcome.parameters = copy_of(model_parameters(model), outcome.bytes);
    outcome.gradients = copy_of(model_gradients(model), outcome.bytes);
    model_destroy(model);
    return outcome;
}

static void drop(struct outcome *outcome) {
    free(outcome->parameters);
    free(outcome->gradients);
}

static void assert_same(const struct outcome *a, const struct outcome *b) {
    assert_memory_equal(a->losses, b->losses, sizeof a->losses);
    assert_memory_equal(a->norms, b->norms, sizeof a->norms);
    assert_memory_equal(&a->evaluated, &b->evaluated, sizeof a->evaluated);
    assert_memory_equal(a->parameters, b->parameters, a->bytes);
    assert_memory_equal(a->gradients, b->gradients, a->bytes);
}

static void all_variants_agree(struct model_options options, int units) {
    static const int threads[] = {1, 2, 3, 7};
    struct outcome first = {0};
    assert_int_equal(model_unit_count(&options), units);
    for (int variant = 0; variant < VARIANTS; variant++) {
        options.inner.threads = threads[variant % 4];
        options.shape.recompute = variant / 4;
        struct outcome outcome = train(&options);
        if (variant == 0) {
            first = outcome;
            continue;
        }
        assert_same(&outcome, &first);
        drop(&outcome);
    }
    drop(&first);
}

static void few_rows_are_two_passes(void **state) {
    (void)state;
    all_variants_agree(support_options(true), 2);
}

static void one_window_is_one_pass(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    options.inner.batch_per_worker = 1;
    all_variants_agree(options, 1);
}

/* Free head; tensors of more than one block of an update. */
static void several_passes(void **state) {
    (void)state;
    struct model_options options = support_options(false);
    options.shape.vocab = 3000;
    options.inner.batch_per_worker = 67;
    all_variants_agree(options, 5);
}

/* A model whose weights are far, of whose units own kernels make pairs, where these leave no thread without work. */
static struct model_options far_options(int context, int windows, int threads) {
    struct model_options options = support_options(true);
    options.shape.layers = 1;
    options.shape.ffn = 22016;
    options.shape.context = context;
    options.inner.batch_per_worker = windows;
    options.inner.threads = threads;
    return options;
}

static int pair_rows(void) {
    return gemm_avx512_works() ? 512 : 256;
}

/* With one thread, passes of two units: the bits of two threads, of which each has a pass of one. The last unit is not whole. */
static void passes_of_two_units(void **state) {
    (void)state;
    struct model_options pairs = far_options(128, 5, 1), single = far_options(128, 5, 2), near = pairs, blas = pairs;
    near.shape.ffn = 48;
    blas.blas = true;
    assert_int_equal(model_product_rows(&pairs).pass, pair_rows());
    assert_int_equal(model_product_rows(&single).pass, 256);
    assert_int_equal(model_product_rows(&near).pass, 256);
    assert_int_equal(model_product_rows(&blas).pass, 256);
    struct outcome two = train(&pairs), one = train(&single);
    assert_same(&two, &one);
    drop(&two);
    drop(&one);
}

/* 34 units, 32 of which are a wave: two threads share 16 pairs, then two single ones; one thread has pairs only, three have none. Four of so many
 * windows too. Sanitizer builds take minutes for that: they have one wave of 8 here, and more than one in several_waves. */
#ifdef ATOLL_SANITIZED
enum { PAIRED_WINDOWS = 8 };
#else
enum { PAIRED_WINDOWS = 34 };
#endif

static void waves_of_pairs(void **state) {
    (void)state;
    enum { WINDOWS = PAIRED_WINDOWS, T = 256, THREADS = 3 };
    float *gradients[THREADS];
    double losses[THREADS][2];
    size_t bytes = 0;
    for (int i = 0; i < THREADS; i++) {
        struct model_options options = far_options(T, WINDOWS, i + 1);
        assert_int_equal(model_product_rows(&options).pass, i < 2 ? pair_rows() : 256);
        struct model *model = support_model(&options);
        int32_t *windows = make_windows(&options, 5);
        losses[i][0] = model_add_gradients(model, windows, WINDOWS, T, 1);
        losses[i][1] = model_add_gradients(model, windows, 4, T, 1);
        bytes = model_tensors(model)->block_floats * sizeof(float);
        gradients[i] = copy_of(model_gradients(model), bytes);
        free(windows);
        model_destroy(model);
    }
    for (int i = 1; i < THREADS; i++) {
        assert_memory_equal(gradients[i], gradients[0], bytes);
        assert_memory_equal(losses[i], losses[0], sizeof losses[0]);
    }
    for (int i = 0; i < THREADS; i++)
        free(gradients[i]);
}

/* Windows longer than the rows of which logits exist at a time. */
static void several_chunks_of_logits(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    options.shape.context = 600;
    options.shape.vocab = 1000;
    options.inner.batch_per_worker = 3;
    assert_int_equal(model_product_rows(&options).head, 512);
    all_variants_agree(options, 3);
}

/* More passes than one wave has: the look-up is added in between. */
static void several_waves(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    options.shape.layers = 1;
    options.shape.context = 130;
    options.inner.batch_per_worker = 36;
    all_variants_agree(options, 36);
}

/* Where own kernels make the products, BLAS makes the same up to rounding: gradients of a sum of some hundred terms each. */
static void blas_gives_the_same(void **state) {
    (void)state;
    struct model_options options = support_options(false);
    options.shape.width = 96;
    options.shape.ffn = 200;
    options.inner.batch_per_worker = 3;
    int32_t *windows = make_windows(&options, 3);
    double losses[2];
    struct model *models[2];
    for (int blas = 0; blas < 2; blas++) {
        options.blas = blas != 0;
        models[blas] = support_model(&options);
        losses[blas] = model_add_gradients(models[blas], windows, 3, (int)options.shape.context, 1);
    }
    assert_float_equal(losses[0], losses[1], 1e-6 * losses[1]);
    const struct tensor_table *table = model_tensors(models[0]);
    for (int i = 0; i < table->count; i++) {
        const struct tensor *tensor = &table->tensors[i];
        const float *own = model_gradients(models[0]) + tensor->offset,
                    *blas = model_gradients(models[1]) + tensor->offset;
        double apart = 0, size = 0;
        for (size_t j = 0; j < tensor->count; j++) {
            apart += ((double)own[j] - (double)blas[j]) * ((double)own[j] - (double)blas[j]);
            size += (double)blas[j] * (double)blas[j];
        }
        assert_true(size > 0 && sqrt(apart) <= 1e-5 * sqrt(size));
    }
    model_destroy(models[0]);
    model_destroy(models[1]);
    free(windows);
}

static struct model_memory memory_of(const struct model_options *options) {
    struct tensor_table table;
    struct error error;
    assert_int_equal(tensors_table_create(&options->shape, &table, &error), STATUS_OK);
    struct model_memory memory = model_memory_plan(options, &table);
    assert_int_equal(memory.state_bytes, 16 * table.block_floats);
    assert_int_equal(memory.peak_bytes, memory.state_bytes + memory.activation_bytes + memory.product_bytes);
    tensors_table_destroy(&table);
    return memory;
}

/* `block` keeps one vector a token and layer; memory grows with the threads that have passes, and no further. */
static void memory_follows_recompute_and_threads(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    options.shape.layers = 12;
    size_t bytes[3];
    for (int recompute = RECOMPUTE_NONE; recompute <= RECOMPUTE_BLOCK; recompute++) {
        options.shape.recompute = recompute;
        bytes[recompute] = memory_of(&options).activation_bytes;
    }
    assert_true(bytes[RECOMPUTE_NONE] > bytes[RECOMPUTE_ATTENTION]);
    assert_true(bytes[RECOMPUTE_ATTENTION] > bytes[RECOMPUTE_BLOCK]);
    size_t rows = 32,
           kept = (32 + 32 + 32 + 16 + 16 + 48 + 48) * sizeof(float); /* middle, attended, q, k, v, gate, up */
    assert_true(bytes[RECOMPUTE_NONE] - bytes[RECOMPUTE_BLOCK] >= 11 * rows * kept);
    options.inner.threads = 2;
    size_t two = memory_of(&options).activation_bytes;
    options.inner.threads = 3; /* of two passes */
    assert_true(two > bytes[RECOMPUTE_BLOCK] + rows * kept);
    assert_true(memory_of(&options).activation_bytes < two + 1024);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_rows_are_two_passes),
        cmocka_unit_test(one_window_is_one_pass),
        cmocka_unit_test(several_passes),
        cmocka_unit_test(passes_of_two_units),
        cmocka_unit_test(waves_of_pairs),
        cmocka_unit_test(several_chunks_of_logits),
        cmocka_unit_test(several_waves),
        cmocka_unit_test(blas_gives_the_same),
        cmocka_unit_test(memory_follows_recompute_and_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
