/* A profile changes no bit of a step, and its parts are the step. */
#include "unit/model/support.h"
#include "base/clock.h"
#include "base/rng.h"
#include "model/linear.h"
#include "model/onednn.h"
#include "model/step_profile.h"

enum { B = 4, T = 16 };

static void fill_windows(int32_t windows[B * (T + 1)]) {
    for (uint64_t i = 0; i < B * (T + 1); i++)
        windows[i] = (int32_t)(rng_u64(1, 0, i) % 256);
}

static void names(void **state) {
    (void)state;
    for (int i = 0; i < STEP_PART_COUNT; i++) {
        assert_true(strlen(step_part_name((enum step_part)i)) > 0);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(step_part_name((enum step_part)i), step_part_name((enum step_part)j));
    }
}

static void marks_are_contiguous(void **state) {
    (void)state;
    struct step_profile profile = {0};
    uint64_t before_ns = clock_now_ns();
    step_profile_begin(&profile);
    uint64_t begun_ns = profile.last_ns;
    assert_in_range(begun_ns, before_ns, clock_now_ns());
    step_profile_mark(&profile, STEP_PART_NORM);
    uint64_t first_ns = profile.last_ns;
    step_profile_mark(&profile, STEP_PART_LOSS);
    step_profile_mark(&profile, STEP_PART_NORM);
    assert_int_equal(profile.part_ns[STEP_PART_NORM] + profile.part_ns[STEP_PART_LOSS], profile.last_ns - begun_ns);
    assert_true(profile.part_ns[STEP_PART_NORM] >= first_ns - begun_ns);
    assert_int_equal(profile.marks, 3);
    step_profile_begin(NULL);
    step_profile_mark(NULL, STEP_PART_NORM);
}

static void check_profile(enum inner_precision precision, bool blas) {
    int32_t windows[B * (T + 1)];
    struct step_profile profile = {0};
    struct model_options options = support_options(true);
    options.inner.precision = precision;
    options.blas = blas;
    struct model *plain = support_model(&options);
    options.profile = &profile;
    struct model *profiled = support_model(&options);
    size_t bytes = model_tensors(plain)->block_floats * sizeof(float);
    fill_windows(windows);
    for (int step = 0; step < 2; step++) {
        double loss = model_add_gradients(plain, windows, B, T, 1);
        assert_float_equal(model_add_gradients(profiled, windows, B, T, 1), loss, 0);
        assert_memory_equal(model_gradients(profiled), model_gradients(plain), bytes);
        assert_true(model_apply_update(plain, 1e-3F, true).applied);
        assert_true(model_apply_update(profiled, 1e-3F, true).applied);
        assert_memory_equal(model_parameters(profiled), model_parameters(plain), bytes);
    }
    bool bf16 = precision == INNER_PRECISION_BF16, panels = !bf16 && !blas && linear_works(LINEAR_AVX512);
    for (int part = 0; part < STEP_PART_COUNT; part++)
        assert_int_equal(profile.part_ns[part] > 0, part == STEP_PART_ROUNDING ? bf16
                                                    : part == STEP_PART_GATE   ? !panels
                                                                               : true);
    model_destroy(plain);
    model_destroy(profiled);
}

static void same_bits_and_all_parts(void **state) {
    (void)state;
    check_profile(INNER_PRECISION_F32, false);
    check_profile(INNER_PRECISION_F32, true);
    if (onednn_has_bf16())
        check_profile(INNER_PRECISION_BF16, false);
}

/* The rows that a step's products have, as the sizes of the model say. */
static void product_rows(void **state) {
    (void)state;
    struct model_options options = support_options(true);
    struct model_product_rows rows = model_product_rows(&options);
    assert_int_equal(rows.pass, 32); /* two of four windows, so that there are two passes */
    assert_int_equal(rows.head, 32);
    options.shape.context = 128;
    options.inner.batch_per_worker = 16;
    assert_int_equal(model_product_rows(&options).pass, 256);
    options.shape.context = 1024; /* never less than a window */
    options.shape.vocab = 50304;
    rows = model_product_rows(&options);
    assert_int_equal(rows.pass, 1024);
    assert_int_equal(rows.head, 512); /* logits stay small */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(marks_are_contiguous),
                                       cmocka_unit_test(same_bits_and_all_parts), cmocka_unit_test(product_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
