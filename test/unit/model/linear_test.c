/* linear: the three products of a layer against sums in double, in f32 by BLAS and, where this machine has them, by our AVX-512 kernels and in bf16; rounding; what a machine
 * without bf16 answers. */
#include "model/linear.h"
#include <float.h>
#include <math.h>
#include "base/rng.h"
#include "model/gemm.h"
#include "model/gemm_avx512.h"
#include "model/onednn.h"
#include "support.h"

static struct linear *open_or_fail(enum linear_kind kind) {
    struct linear *linear = NULL;
    struct error error;
    if (linear_open(kind, &linear, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return linear;
}

static bool lacks_bf16(void) {
    if (!onednn_has_bf16())
        print_message("no bf16 products here: %s\n", onednn_text());
    return !onednn_has_bf16();
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- rounding ---- */

/* The nearest of the two neighbours, by exact arithmetic in double; a tie goes to the even one. */
static uint16_t nearest_ref(uint32_t bits) {
    uint16_t low = (uint16_t)(bits >> 16), high = (uint16_t)(low + 1);
    double value = (double)float_of(bits), down = (double)float_of((uint32_t)low << 16),
           up = (double)float_of((uint32_t)high << 16);
    if ((bits & 0x7f800000u) == 0x7f800000u) /* not finite: the same, a NaN quiet */
        return (uint16_t)((bits & 0x7fffffu) != 0 ? low | 0x40u : low);
    if ((bits & 0x7f800000u) == 0) /* subnormal: zero with its sign */
        return (uint16_t)(low & 0x8000u);
    if (isinf(up)) /* what lies beyond the largest bf16, as if the exponent went on */
        up = copysign(ldexp(1, 128), value);
    double to_down = fabs(value - down), to_up = fabs(up - value);
    if (to_down == to_up)
        return low % 2 == 0 ? low : high;
    return to_down < to_up ? low : high;
}

static void check_rounding(const uint32_t *bits, size_t count, bool in_place) {
    struct linear *linear = open_or_fail(LINEAR_BF16);
    float *values = malloc(count * sizeof *values);
    uint16_t *room = in_place ? (uint16_t *)(void *)values : malloc(count * sizeof *room);
    memcpy(values, bits, count * sizeof *values);
    struct factor factor = linear_factor(linear, count, values, room);
    assert_null(factor.f32);
    assert_ptr_equal(factor.bf16, room);
    for (size_t i = 0; i < count; i++)
        if (factor.bf16[i] != nearest_ref(bits[i]))
            fail_msg("%08x rounds to %04x, expected %04x", bits[i], factor.bf16[i], nearest_ref(bits[i]));
    if (!in_place)
        free(room);
    free(values);
    linear_close(linear);
}

/* Every upper half, with lower halves around the tie. */
static void rounding_is_to_nearest_even(void **state) {
    (void)state;
    static const uint32_t lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    enum { LOWER = sizeof lower / sizeof *lower, COUNT = 65536 * LOWER };
    if (lacks_bf16())
        skip();
    uint32_t *bits = malloc(COUNT * sizeof *bits);
    for (uint32_t i = 0; i < COUNT; i++)
        bits[i] = (i / LOWER) << 16 | lower[i % LOWER];
    for (int in_place = 0; in_place < 2; in_place++)
        check_rounding(bits, COUNT, in_place);
    for (size_t count = 1; count < 1100; count += 73)
        check_rounding(bits + 1000, count, count % 2);
    free(bits);
}

static void f32_factors_are_the_values(void **state) {
    (void)state;
    struct linear *linear = open_or_fail(LINEAR_BLAS);
    const float values[] = {1.00390625f, -2};
    struct factor factor = linear_factor(linear, 2, values, NULL);
    assert_ptr_equal(factor.f32, values);
    assert_null(factor.bf16);
    assert_ptr_equal(factor_at(factor, 1).f32, values + 1);
    assert_null(factor_at(factor, 1).bf16);
    linear_close(linear);
}

/* ---- products ---- */

struct layer {
    int rows, inputs, outputs;
    float *x, *w, *dout, *before; /* before: what products are added to */
    struct factor x_factor, w_factor, dout_factor;
    void *rooms[3]; /* of bf16 factors */
    float *result;
};

static float *random_values(size_t count, uint64_t stream) {
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = rng_normal(5, stream, i);
    return values;
}

static struct layer make_layer(const struct linear *linear, int rows, int inputs, int outputs) {
    size_t R = (size_t)rows, I = (size_t)inputs, O = (size_t)outputs, most = R * I + R * O + I * O;
    struct layer l = {.rows = rows,
                      .inputs = inputs,
                      .outputs = outputs,
                      .x = random_values(R * I, 1),
                      .w = random_values(O * I, 2),
                      .dout = random_values(R * O, 3),
                      .before = random_values(most, 4),
                      .rooms = {malloc(2 * R * I), malloc(2 * O * I), malloc(2 * R * O)},
                      .result = malloc(most * sizeof(float))};
    assert_non_null(l.result);
    l.x_factor = linear_factor(linear, R * I, l.x, l.rooms[0]);
    l.w_factor = linear_factor(linear, O * I, l.w, l.rooms[1]);
    l.dout_factor = linear_factor(linear, R * O, l.dout, l.rooms[2]);
    memcpy(l.result, l.before, most * sizeof(float));
    return l;
}

static void free_layer(struct layer *l) {
    free(l->x);
    free(l->w);
    free(l->dout);
    free(l->before);
    free(l->result);
    for (size_t i = 0; i < sizeof l->rooms / sizeof *l->rooms; i++)
        free(l->rooms[i]);
}

enum which { FORWARD, FORWARD_ADD, FORWARD_BASE, INPUT, INPUT_ADD, WEIGHT, WEIGHT_ADD, WHICH_COUNT };
static const char *const which_names[] = {"forward", "forward, added", "forward, added to another", "dX", "dX, added",
                                          "dW",      "dW, added"};

static void compute(struct linear *linear, struct layer *l, enum which which) {
    switch (which) {
    case FORWARD:
        linear_forward(linear, l->rows, l->inputs, l->outputs, l->x_factor, l->w_factor, NULL, l->result);
        break;
    case FORWARD_ADD:
        linear_forward(linear, l->rows, l->inputs, l->outputs, l->x_factor, l->w_factor, l->result, l->result);
        break;
    case FORWARD_BASE:
        memset(l->result, 0x7f, (size_t)(l->rows * l->outputs) * sizeof *l->result); /* must be overwritten */
        linear_forward(linear, l->rows, l->inputs, l->outputs, l->x_factor, l->w_factor, l->before, l->result);
        break;
    case INPUT:
    case INPUT_ADD:
        linear_backward_input(linear, l->rows, l->inputs, l->outputs, l->dout_factor, l->w_factor, l->result,
                              which == INPUT_ADD);
        break;
    case WEIGHT:
    case WEIGHT_ADD:
        linear_backward_weight(linear, l->rows, l->inputs, l->outputs, l->dout_factor, l->x_factor, l->result,
                               which == WEIGHT_ADD);
        break;
    case WHICH_COUNT:
        fail();
    }
}

/* Term `i` of result (row, column), in double, of the unrounded factors. */
static double term(const struct layer *l, enum which which, size_t row, size_t column, size_t i) {
    size_t I = (size_t)l->inputs, O = (size_t)l->outputs;
    if (which < INPUT)
        return (double)l->x[row * I + i] * (double)l->w[column * I + i];
    if (which >= WEIGHT)
        return (double)l->dout[i * O + row] * (double)l->x[i * I + column];
    return (double)l->dout[row * O + i] * (double)l->w[i * I + column];
}

/* bf16: each factor is off by at most 2^-8 of itself, a term by 2^-7 and a little; then come the f32 sums. */
static void check_result(const struct layer *l, enum which which, enum linear_kind kind) {
    int rows = which >= WEIGHT ? l->outputs : l->rows, columns = which < INPUT ? l->outputs : l->inputs;
    int terms = which < INPUT ? l->inputs : which >= WEIGHT ? l->rows : l->outputs;
    double per_term = (kind == LINEAR_BF16 ? 0x1.01p-7 : 0) + (terms + 1) * (double)FLT_EPSILON;
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++) {
            size_t at = (size_t)row * (size_t)columns + (size_t)column;
            bool add = which != FORWARD && which != INPUT && which != WEIGHT;
            double sum = add ? (double)l->before[at] : 0, magnitude = fabs(sum);
            for (int i = 0; i < terms; i++) {
                double one = term(l, which, (size_t)row, (size_t)column, (size_t)i);
                sum += one;
                magnitude += fabs(one);
            }
            if (!(fabs((double)l->result[at] - sum) <= per_term * magnitude))
                fail_msg("%s %s of %d rows, %d inputs, %d outputs: [%d][%d] = %.9g, expected %.9g to %.2g",
                         linear_text(kind), which_names[which], l->rows, l->inputs, l->outputs, row, column,
                         (double)l->result[at], sum, per_term * magnitude);
        }
}

/* Panels hold the values of rows, and are factors as rows are. */
static void check_panels(struct linear *linear, enum linear_kind kind, int rows, int inputs, int outputs) {
    const bool panels = linear_has_panels(kind);
    struct layer l = make_layer(linear, rows, inputs, outputs), wide = make_layer(linear, rows, outputs, inputs);
    size_t R = (size_t)rows, I = (size_t)inputs, O = (size_t)outputs,
           count = R * (size_t)linear_panels_columns(kind, outputs);
    assert_int_equal(linear_panels_columns(kind, outputs), panels ? (outputs + 47) / 48 * 48 : outputs);
    for (int backward = 0; backward < 2; backward++) {
        float *by_rows = random_values(R * O, 6), *in_panels = random_values(count, 6), *sums[2][2];
        if (backward) {
            linear_backward_input(linear, rows, outputs, inputs, wide.dout_factor, wide.w_factor, by_rows, false);
            linear_backward_input_panels(linear, rows, outputs, inputs, wide.dout_factor, wide.w_factor, NULL,
                                         in_panels);
        } else {
            linear_forward(linear, rows, inputs, outputs, l.x_factor, l.w_factor, NULL, by_rows);
            linear_forward_panels(linear, rows, inputs, outputs, l.x_factor, l.w_factor, NULL, in_panels);
        }
        for (size_t i = 0; i < R; i++)
            for (size_t j = 0; j < O; j++)
                assert_memory_equal(&in_panels[gemm_place(panels, R, O, i, j)], &by_rows[i * O + j], sizeof(float));
        for (int panel = 0; panel < 2; panel++) {
            struct factor factor = panel ? linear_factor_panels(linear, count, in_panels, in_panels)
                                         : linear_factor(linear, R * O, by_rows, by_rows);
            assert_int_equal(factor.in_panels, panel && panels);
            for (int which = 0; which < 2; which++)
                sums[panel][which] = random_values(R * I + O * I, 7);
            linear_forward(linear, rows, outputs, inputs, factor, wide.w_factor, NULL, sums[panel][0]);
            linear_backward_weight(linear, rows, outputs, inputs, wide.dout_factor, factor, sums[panel][1], true);
            linear_backward_input(linear, rows, inputs, outputs, factor, l.w_factor, sums[panel][0], true);
            linear_backward_weight(linear, rows, inputs, outputs, factor, l.x_factor, sums[panel][1], true);
        }
        for (int which = 0; which < 2; which++) {
            assert_memory_equal(sums[0][which], sums[1][which], (R * I + O * I) * sizeof(float));
            free(sums[0][which]);
            free(sums[1][which]);
        }
        free(by_rows);
        free(in_panels);
    }
    free_layer(&l);
    free_layer(&wide);
}

static void panels_hold_the_values_of_rows(void **state) {
    (void)state;
    for (int kind = 0; kind < LINEAR_KINDS; kind++) {
        if (!linear_works((enum linear_kind)kind)) {
            print_message("no %s products here\n", linear_text((enum linear_kind)kind));
            continue;
        }
        struct linear *linear = open_or_fail((enum linear_kind)kind);
        check_panels(linear, (enum linear_kind)kind, 26, 40, 56);
        check_panels(linear, (enum linear_kind)kind, 131, 61, 200);
        check_panels(linear, (enum linear_kind)kind, 8, 48, 96);
        linear_close(linear);
    }
}

static void check_products(enum linear_kind kind) {
    static const int sizes[][3] = {
        {26, 40, 56}, {1, 7, 5}, {131, 37, 61}, {64, 128, 96}, {5, 3, LINEAR_OUTPUTS_BLOCK + 9}};
    struct linear *linear = open_or_fail(kind);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int which = 0; which < WHICH_COUNT; which++) {
            struct layer layer = make_layer(linear, sizes[i][0], sizes[i][1], sizes[i][2]);
            compute(linear, &layer, (enum which)which);
            check_result(&layer, (enum which)which, kind);
            free_layer(&layer);
        }
    linear_close(linear);
}

static void blas_products(void **state) {
    (void)state;
    check_products(LINEAR_BLAS);
}

static void avx512_products(void **state) {
    (void)state;
    if (!linear_works(LINEAR_AVX512)) {
        print_message("no AVX-512 products here\n");
        skip();
    }
    check_products(LINEAR_AVX512);
}

static void bf16_products(void **state) {
    (void)state;
    if (lacks_bf16())
        skip();
    check_products(LINEAR_BF16);
}

/* ---- what a machine can do ---- */

static void precision_resolves(void **state) {
    (void)state;
    struct error error;
    bool has = onednn_has_bf16();
    enum linear_kind kind = LINEAR_KINDS, f32 = gemm_avx512_works() ? LINEAR_AVX512 : LINEAR_BLAS;
    assert_int_equal(linear_resolve(INNER_PRECISION_F32, &kind, &error), STATUS_OK);
    assert_int_equal(kind, f32);
    assert_string_equal(linear_text(LINEAR_BLAS), "f32 (OpenBLAS)");
    assert_string_equal(linear_text(LINEAR_AVX512), "f32 (AVX-512)");
    assert_int_equal(linear_resolve(INNER_PRECISION_AUTO, &kind, &error), STATUS_OK);
    assert_int_equal(kind, has ? LINEAR_BF16 : f32);
    if (has) {
        assert_int_equal(linear_resolve(INNER_PRECISION_BF16, &kind, &error), STATUS_OK);
        assert_int_equal(kind, LINEAR_BF16);
        assert_memory_equal(linear_text(LINEAR_BF16), "bf16 (oneDNN ", 13);
        return;
    }
    assert_int_equal(linear_resolve(INNER_PRECISION_BF16, &kind, &error), STATUS_CONFIG);
    char expected[ERROR_TEXT_BYTES];
    snprintf(expected, sizeof expected, "inner.precision: bf16 does not work here: %s; use f32 or auto", onednn_text());
    assert_string_equal(error.text, expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rounding_is_to_nearest_even),
                                       cmocka_unit_test(f32_factors_are_the_values),
                                       cmocka_unit_test(blas_products),
                                       cmocka_unit_test(avx512_products),
                                       cmocka_unit_test(bf16_products),
                                       cmocka_unit_test(panels_hold_the_values_of_rows),
                                       cmocka_unit_test(precision_resolves)};
    gemm_use_one_thread();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
