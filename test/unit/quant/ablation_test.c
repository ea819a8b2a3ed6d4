/* ablation: what block size and scale choice cost, on synthetic values shaped like outer gradients. Prints the tables that stand in
 * quant/e3m0.h and quant/integer.h, and asserts the chosen settings: their error, their rank, and that the codecs of quant/ do
 * what the model of them here says. The quantizers here are written apart from quant/, in double.
 *
 * Data, 2^18 values each as 1024 rows of 256:
 *   normal     N(0, 1)
 *   rows       N(0, 1) times exp(N(0, 1)) per row: rows of unequal size (rare and frequent tokens, live and quiet neurons)
 *   laplace    Laplace(0, 1) times exp(0.5 N(0, 1)) per row
 *   student    Student t with 3 degrees of freedom times exp(0.5 N(0, 1)) per row: a few values tower over the rest */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include "quant/codec.h"
#include "quant/e3m0.h"
#include "quant/integer.h"

enum { ROWS = 1024, COLUMNS = 256, COUNT = ROWS * COLUMNS, DATA_COUNT = 4 };
enum { DATA_NORMAL, DATA_ROWS, DATA_LAPLACE, DATA_STUDENT };
static const char *const DATA_NAME[DATA_COUNT] = {"normal", "rows", "laplace", "student"};

static float *data[DATA_COUNT];

/* ---- data ---- */

static uint64_t generator_state;

static double uniform(void) { /* in (0, 1): splitmix64 */
    uint64_t z = generator_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return ((double)(z >> 11) + 0.5) * 0x1p-53;
}

static double normal(void) {
    double radius = sqrt(-2 * log(uniform()));
    return radius * cos(6.283185307179586 * uniform());
}

static double student_3(void) {
    double a = normal(), b = normal(), c = normal();
    return normal() / sqrt((a * a + b * b + c * c) / 3);
}

static double laplace(void) {
    double u = uniform();
    return u < 0.5 ? log(2 * u) : -log(2 * (1 - u));
}

static int setup(void **state) {
    (void)state;
    generator_state = 20240117;
    for (int d = 0; d < DATA_COUNT; d++) {
        data[d] = malloc(COUNT * sizeof(float));
        for (int row = 0; row < ROWS; row++) {
            double row_scale = d == DATA_NORMAL ? 1 : exp((d == DATA_ROWS ? 1 : 0.5) * normal());
            for (int column = 0; column < COLUMNS; column++) {
                double value = d == DATA_LAPLACE ? laplace() : d == DATA_STUDENT ? student_3() : normal();
                data[d][row * COLUMNS + column] = (float)(1e-3 * row_scale * value);
            }
        }
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (int d = 0; d < DATA_COUNT; d++)
        free(data[d]);
    return 0;
}

/* ---- quantizers of one block: return the sum of squared errors ---- */

static double e3m0_nearest(double x, double s) {
    double magnitude = fabs(x) / s, best = 0;
    static const double values[8] = {0, .25, .5, 1, 2, 4, 8, 16};
    for (int i = 1; i < 8; i++)
        if (fabs(values[i] - magnitude) < fabs(best - magnitude))
            best = values[i];
    return copysign(best * s, x);
}

static double integer_nearest(double x, double s, int levels) {
    double q = nearbyint(x / s);
    return s * (q > levels ? levels : q < -levels ? -levels : q);
}

static double squared_error_at(const float *x, int n, double s, int levels) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double y = levels ? integer_nearest((double)x[i], s, levels) : e3m0_nearest((double)x[i], s);
        sum += ((double)x[i] - y) * ((double)x[i] - y);
    }
    return sum;
}

enum scale_choice { SCALE_CEIL_POWER, SCALE_BEST_POWER, SCALE_F32, SCALE_BEST_F32, SCALE_BF16_UP, SCALE_CHOICE_COUNT };
static const char *const SCALE_NAME[] = {"power of two", "power of two, best", "f32", "f32, best of 16",
                                         "bf16 rounded up"};
static const int SCALE_BITS[] = {8, 8, 32, 32, 16};

/* levels 0: e3m0. */
static double block_squared_error(const float *x, int n, int levels, enum scale_choice choice) {
    double absmax = 0, best = INFINITY;
    for (int i = 0; i < n; i++)
        absmax = fmax(absmax, fabs((double)x[i]));
    if (absmax == 0)
        return 0;
    double exact = absmax / (levels ? levels : 16), power = exp2(ceil(log2(exact)));
    switch (choice) {
    case SCALE_CEIL_POWER:
        return squared_error_at(x, n, power, levels);
    case SCALE_BEST_POWER:
        for (int k = 0; k < 4; k++)
            best = fmin(best, squared_error_at(x, n, power * exp2(-k), levels));
        return best;
    case SCALE_BEST_F32:
        for (int k = 0; k < 16; k++)
            best = fmin(best, squared_error_at(x, n, exact * exp2(-k / 8.0), levels));
        return best;
    case SCALE_BF16_UP:
        return squared_error_at(x, n, ceil(exact / power * 256) / 256 * power, levels);
    default:
        return squared_error_at(x, n, exact, levels);
    }
}

/* Relative rms error: sqrt(sum of squared errors / sum of squares). */
static double relative_rms(int d, int levels, int block, enum scale_choice choice) {
    double error = 0, total = 0;
    for (int at = 0; at < COUNT; at += block)
        error += block_squared_error(data[d] + at, block, levels, choice);
    for (int i = 0; i < COUNT; i++)
        total += (double)data[d][i] * (double)data[d][i];
    return sqrt(error / total);
}

static double codec_relative_rms(const struct codec *codec, int d) {
    uint8_t *payload = malloc(codec->bytes(COUNT));
    float *decoded = malloc(COUNT * sizeof *decoded);
    double error = 0, total = 0;
    assert_int_equal(codec->encode(data[d], COUNT, payload), STATUS_OK);
    assert_int_equal(codec->decode(payload, COUNT, decoded), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        error += ((double)data[d][i] - (double)decoded[i]) * ((double)data[d][i] - (double)decoded[i]);
        total += (double)data[d][i] * (double)data[d][i];
    }
    free(payload);
    free(decoded);
    return sqrt(error / total);
}

static void print_rows(const char *name, int levels, int code_bits, const int *blocks, int block_count,
                       const enum scale_choice *choices, int choice_count) {
    printf(" *   %-5s %-20s %6s %9s  %8s %8s %8s %8s\n", name, "scale", "block", "bits/par.", DATA_NAME[0],
           DATA_NAME[1], DATA_NAME[2], DATA_NAME[3]);
    for (int c = 0; c < choice_count; c++)
        for (int b = 0; b < block_count; b++) {
            char block_text[16];
            snprintf(block_text, sizeof block_text, "%d", blocks[b]);
            printf(" *         %-20s %6s %9.3f ", SCALE_NAME[choices[c]], blocks[b] == COUNT ? "tensor" : block_text,
                   code_bits + (double)SCALE_BITS[choices[c]] / blocks[b]);
            for (int d = 0; d < DATA_COUNT; d++)
                printf("   %.4f", relative_rms(d, levels, blocks[b], choices[c]));
            printf("\n");
        }
}

/* ---- the tables, and what was concluded from them ---- */

static const int BLOCKS[] = {32, 64, 128, 256, 512, COUNT};

/* The codec of quant/ makes the errors that the model of it here predicts, and these are the numbers written down. */
static void assert_codec_errors(enum codec_id id, int levels, enum scale_choice choice,
                                const double expected[DATA_COUNT]) {
    const struct codec *codec = codec_get(id);
    for (int d = 0; d < DATA_COUNT; d++) {
        double measured = codec_relative_rms(codec, d);
        assert_true(fabs(measured - expected[d]) < 6e-5);
        assert_true(fabs(measured / relative_rms(d, levels, (int)codec->block, choice) - 1) < 1e-3);
    }
}

static void e3m0_block_and_scale(void **state) {
    (void)state;
    static const enum scale_choice choices[] = {SCALE_CEIL_POWER, SCALE_BEST_POWER, SCALE_F32};
    print_rows("e3m0", 0, 4, BLOCKS, 6, choices, 3);
    static const double expected[DATA_COUNT] = {0.1942, 0.1959, 0.1959, 0.1972};
    assert_codec_errors(CODEC_E3M0, 0, SCALE_CEIL_POWER, expected);
    for (int d = 0; d < DATA_COUNT; d++) {
        double chosen = relative_rms(d, 0, E3M0_BLOCK, SCALE_CEIL_POWER);
        /* Smaller blocks and a searched scale buy less than 0.6 %. */
        assert_true(chosen < 1.006 * relative_rms(d, 0, 32, SCALE_CEIL_POWER));
        assert_true(chosen < 1.006 * relative_rms(d, 0, E3M0_BLOCK, SCALE_BEST_POWER));
    }
    /* One scale for a whole tensor loses the quiet rows. */
    assert_true(relative_rms(DATA_ROWS, 0, COUNT, SCALE_CEIL_POWER) >
                1.3 * relative_rms(DATA_ROWS, 0, 128, SCALE_CEIL_POWER));
    assert_true(relative_rms(DATA_STUDENT, 0, COUNT, SCALE_CEIL_POWER) >
                2 * relative_rms(DATA_STUDENT, 0, 128, SCALE_CEIL_POWER));
}

static void int4_block_and_scale(void **state) {
    (void)state;
    static const enum scale_choice choices[] = {SCALE_BF16_UP, SCALE_F32, SCALE_CEIL_POWER, SCALE_BEST_F32};
    print_rows("int4", 7, 4, BLOCKS, 6, choices, 4);
    static const double expected[DATA_COUNT] = {0.1075, 0.1068, 0.1418, 0.1819};
    assert_codec_errors(CODEC_INT4, 7, SCALE_BF16_UP, expected);
    for (int d = 0; d < DATA_COUNT; d++) {
        double chosen = relative_rms(d, 7, INT4_BLOCK, SCALE_BF16_UP);
        assert_true(chosen < 1.005 * relative_rms(d, 7, INT4_BLOCK, SCALE_F32));
        /* A bit is worth a factor of two: the last halving of the block paid its eighth of a bit, within 1 %. */
        assert_true(chosen < 1.01 * exp2(-0.125) * relative_rms(d, 7, 2 * INT4_BLOCK, SCALE_BF16_UP));
    }
    assert_true(relative_rms(DATA_NORMAL, 7, INT4_BLOCK / 2, SCALE_BF16_UP) >
                exp2(-0.25) * relative_rms(DATA_NORMAL, 7, INT4_BLOCK, SCALE_BF16_UP));
}

static void int8_block_and_scale(void **state) {
    (void)state;
    static const enum scale_choice choices[] = {SCALE_BF16_UP, SCALE_F32, SCALE_CEIL_POWER};
    print_rows("int8", 127, 8, BLOCKS, 6, choices, 3);
    static const double expected[DATA_COUNT] = {0.0065, 0.0065, 0.0090, 0.0136};
    assert_codec_errors(CODEC_INT8, 127, SCALE_BF16_UP, expected);
}

/* What e3m0 buys: its error is the same whatever the data, where int4's grows with the tails. For well-behaved data int4 has the
 * smaller error at nearly the same bits. */
static void e3m0_against_int4(void **state) {
    (void)state;
    assert_true(relative_rms(DATA_NORMAL, 7, 128, SCALE_BF16_UP) <
                0.65 * relative_rms(DATA_NORMAL, 0, 128, SCALE_CEIL_POWER));
    assert_true(relative_rms(DATA_STUDENT, 7, 128, SCALE_BF16_UP) >
                1.1 * relative_rms(DATA_STUDENT, 0, 128, SCALE_CEIL_POWER));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e3m0_block_and_scale),
        cmocka_unit_test(int4_block_and_scale),
        cmocka_unit_test(int8_block_and_scale),
        cmocka_unit_test(e3m0_against_int4),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
