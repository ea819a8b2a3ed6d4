/* mean: the exact order of operations of each rule, against scalar loops whose every step goes through memory; values by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "outer/mean.h"
#include "quant/codec.h"

enum { COUNT = 1003, WORKERS = 5 };

/* acc += ((float)tokens * scale) * q, as a commit is made. */
static void add(float *acc, const float *q, uint64_t tokens, float scale, size_t count) {
    assert_int_equal(codec_get(CODEC_F32)->decode_add((const uint8_t *)q, count, mean_weight(tokens, scale), acc),
                     STATUS_OK);
}

static void equals_the_scalar_definition(void **state) {
    (void)state;
    static const uint64_t weights[WORKERS] = {4096, 1, 16777217, 123456789012345, 0};
    static float q[WORKERS][COUNT], acc[COUNT + 1];
    for (int w = 0; w < WORKERS; w++)
        for (int i = 0; i < COUNT; i++)
            q[w][i] = 1e-3f * rng_normal(1, (uint64_t)w, (uint64_t)i);
    q[0][7] = FLT_MIN / 8; /* subnormals count */
    q[1][7] = -FLT_MIN / 16;
    acc[COUNT] = 42;
    uint64_t sum = 0;
    mean_begin(acc, COUNT);
    for (int w = 0; w < WORKERS; w++) {
        add(acc, q[w], weights[w], 1, COUNT);
        sum += weights[w];
    }
    mean_finish(acc, sum, COUNT);
    for (int i = 0; i < COUNT; i++) {
        volatile float expected = 0;
        for (int w = 0; w < WORKERS; w++) {
            volatile float product = (float)weights[w] * q[w][i];
            expected = expected + product;
        }
        volatile float inverse = (float)(1.0 / (double)sum);
        expected = expected * inverse;
        float value = expected;
        assert_memory_equal(&acc[i], &value, sizeof value);
    }
    assert_true(acc[COUNT] == 42);
}

/* Bits written down, computed apart in Python doubles rounded to f32 after each step (exact: a double holds any f32 product, and
 * rounding a double sum of two f32 again to f32 is innocent).
 * A change of order, a fused product or a double accumulator changes them. */
static void golden_bits(void **state) {
    (void)state;
    static const float q[3][2] = {{0.1f, 1.0f}, {-0.3f, 1e-8f}, {0.7f, -1.0f}};
    static const uint64_t weights[3] = {3, 5, 7};
    static const uint32_t expected[2] = {0x3e7c9631, 0xbe888889};
    float acc[2] = {9, 9};
    mean_begin(acc, 2);
    for (int w = 0; w < 3; w++)
        add(acc, q[w], weights[w], 1, 2);
    mean_finish(acc, 15, 2);
    assert_memory_equal(acc, expected, sizeof acc);
}

/* 2^24 + 1 tokens weigh 2^24: the weight is rounded to f32 before the product. */
static void weights_round_to_f32(void **state) {
    (void)state;
    float q[1] = {1}, acc[1];
    mean_begin(acc, 1);
    add(acc, q, (1u << 24) + 1, 1, 1);
    assert_true(acc[0] == 0x1p24f);
    mean_begin(acc, 1);
    add(acc, q, UINT64_MAX, 1, 1);
    assert_true(acc[0] == 0x1p64f);
    mean_finish(acc, UINT64_MAX, 1);
    assert_true(acc[0] == 1);
}

static void the_order_matters_and_is_kept(void **state) {
    (void)state;
    static const float q[3] = {1, 0x1p-24f, 0x1p-24f};
    float forward[1], backward[1];
    mean_begin(forward, 1);
    mean_begin(backward, 1);
    for (int w = 0; w < 3; w++) {
        add(forward, &q[w], 1, 1, 1);
        add(backward, &q[2 - w], 1, 1, 1);
    }
    assert_true(forward[0] == 1);
    assert_true(backward[0] == 1 + 0x1p-23f);
}

static void one_contribution_of_a_power_of_two_is_itself(void **state) {
    (void)state;
    float q[100], acc[100];
    for (int i = 0; i < 100; i++)
        q[i] = rng_normal(2, 0, (uint64_t)i);
    mean_begin(acc, 100);
    add(acc, q, 65536, 1, 100);
    mean_finish(acc, 65536, 100);
    assert_memory_equal(acc, q, sizeof q);
}

/* ---- clipped ---- */

static void norms_by_hand(void **state) {
    (void)state;
    assert_true(mean_norm((float[]){3, -4}, 2) == 5);
    assert_true(mean_norm(NULL, 0) == 0);
    float values[33];
    for (int i = 0; i < 33; i++)
        values[i] = i == 0 ? 7 : 1; /* 49 + 32 */
    assert_true(mean_norm(values, 33) == 9);
    for (int i = 0; i < 4; i++)
        values[i] = -0x1p60f;
    assert_true(mean_norm(values, 4) == 0x1p61);
    for (int i = 0; i < 4; i++)
        values[i] = 0x1p-149f;
    assert_true(mean_norm(values, 4) == 0x1p-148);
}

static void the_norm_equals_the_scalar_definition(void **state) {
    (void)state;
    static float values[COUNT];
    for (int i = 0; i < COUNT; i++)
        values[i] = 1e-3f * rng_normal(3, 0, (uint64_t)i);
    for (int count = 0; count <= COUNT; count += count < 40 ? 1 : 321) {
        volatile double sums[16] = {0};
        for (int i = 0; i < count; i++) {
            volatile double square = (double)values[i] * (double)values[i];
            sums[i % 16] = sums[i % 16] + square;
        }
        for (int half = 8; half > 0; half /= 2)
            for (int j = 0; j < half; j++)
                sums[j] = sums[j] + sums[j + half];
        double expected = sqrt(sums[0]), norm = mean_norm(values, (size_t)count);
        assert_memory_equal(&norm, &expected, sizeof norm);
    }
}

/* In pieces of any sizes: the bits of the whole. */
static void the_norm_of_pieces_is_that_of_the_whole(void **state) {
    (void)state;
    static const size_t pieces[] = {0, 1, 15, 16, 3, 40, 13, 256, 5, 300};
    static float values[COUNT];
    struct mean_norm norm = {0};
    size_t at = 0;
    for (int i = 0; i < COUNT; i++)
        values[i] = 1e-3f * rng_normal(5, 0, (uint64_t)i);
    for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
        mean_norm_add(&norm, values + at, pieces[p]);
        at += pieces[p];
        assert_true(mean_norm_end(&norm) == mean_norm(values, at));
    }
    mean_norm_add(&norm, values + at, COUNT - at);
    assert_true(mean_norm_end(&norm) == mean_norm(values, COUNT));
}

static void median_norms_by_hand(void **state) {
    (void)state;
    static const struct {
        double norms[4];
        uint64_t weights[4];
        int count;
        double median;
    } cases[] = {
        {{7}, {1}, 1, 7},
        {{9, 2}, {5, 5}, 2, 2},             /* halves: the smaller */
        {{9, 2}, {6, 5}, 2, 9},             /* more than half of the tokens */
        {{4, 1, 3, 2}, {1, 1, 1, 1}, 4, 2}, /* the lower of the middle two */
        {{4, 1, 3, 2}, {4, 1, 1, 1}, 4, 4}, /* 3 of 7 below */
        {{4, 1, 3, 2}, {3, 1, 1, 1}, 4, 3}, /* 3 of 6 */
        {{1e6, 1, 1, 1}, {1, 1, 1, 1}, 4, 1},
        {{0, 0, 0, 5}, {1, 1, 1, 1}, 4, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_true(mean_median_norm(cases[i].norms, cases[i].weights, cases[i].count) == cases[i].median);
    assert_true(mean_clip_scale(5, 5) == 1 && mean_clip_scale(0, 5) == 1 && mean_clip_scale(0, 0) == 1);
    assert_true(mean_clip_scale(8, 2) == 0.25f && mean_clip_scale(8, 0) == 0);
    assert_true(mean_clip_scale(3, 1) == (float)(1.0 / 3.0));
}

/* Norms 5, 10, 5 with weights 1, 2, 1: M = 5, the second counts by half. */
static void clipped_by_hand(void **state) {
    (void)state;
    static const float q[3][2] = {{3, 4}, {6, 8}, {0, 5}};
    static const uint64_t weights[3] = {1, 2, 1};
    double norms[3];
    float acc[2];
    for (int i = 0; i < 3; i++)
        norms[i] = mean_norm(q[i], 2);
    double median = mean_median_norm(norms, weights, 3);
    assert_true(median == 5);
    mean_begin(acc, 2);
    for (int i = 0; i < 3; i++)
        add(acc, q[i], weights[i], mean_clip_scale(norms[i], median), 2);
    mean_finish(acc, 4, 2);
    assert_true(acc[0] == 2.25f && acc[1] == 4.25f); /* (3 + 6 + 0) / 4, (4 + 8 + 5) / 4 */
}

/* The scale enters the weight, which is rounded before it meets the values. */
static void the_scale_rounds_with_the_weight(void **state) {
    (void)state;
    const uint64_t weight = 12345677;
    const float scale = 0.7654321f;
    float q[COUNT], acc[COUNT];
    int different = 0;
    for (int i = 0; i < COUNT; i++)
        q[i] = rng_normal(4, 0, (uint64_t)i);
    mean_begin(acc, COUNT);
    add(acc, q, weight, scale, COUNT);
    for (int i = 0; i < COUNT; i++) {
        volatile float scaled = (float)weight * scale, other = scale * q[i];
        volatile float product = scaled * q[i], not_this = (float)weight * other;
        assert_true(acc[i] == product);
        different += product != not_this;
    }
    assert_true(different > 0);
}

/* ---- trimmed ---- */

static struct mean_trim scratch;

static float trim_one(const float *values, const uint64_t *weights, int n) {
    float result;
    for (int i = 0; i < n; i++)
        scratch.values[i][0] = values[i];
    mean_trim(&scratch, weights, n, 1, &result);
    return result;
}

static void trimmed_by_hand(void **state) {
    (void)state;
    static const int drops[][2] = {{1, 0}, {2, 0}, {3, 1}, {4, 1}, {7, 1}, {8, 2}, {11, 2}, {12, 3}, {64, 16}};
    for (size_t i = 0; i < sizeof drops / sizeof drops[0]; i++)
        assert_int_equal(mean_trim_each_side(drops[i][0]), drops[i][1]);
    /* Three: the median, exactly, whatever its weight. */
    assert_true(trim_one((float[]){9, 0.1f, -7}, (uint64_t[]){1, 123456789012345, 7}, 3) == 0.1f);
    /* Four: 2 and 6 stay, with 3 and 1 tokens. */
    assert_true(trim_one((float[]){6, 2, 100, -100}, (uint64_t[]){1, 3, 50, 50}, 4) == 3);
    /* Eight: 2, 3, 4, 5 stay, with 1, 1, 1, 5. */
    assert_true(trim_one((float[]){0, 1, 2, 3, 4, 5, 6, 7}, (uint64_t[]){9, 9, 1, 1, 1, 5, 9, 9}, 8) == 4.25f);
    /* Of the equal zeros the one of fewer tokens drops out: (10 * 0 + 3 * 4) / 13. */
    assert_true(trim_one((float[]){0, 0, 4, 9}, (uint64_t[]){10, 1, 3, 1}, 4) == (float)(12.0 / 13.0));
    assert_true(trim_one((float[]){0, 0, 4, 9}, (uint64_t[]){1, 10, 3, 1}, 4) == (float)(12.0 / 13.0));
    /* On the upper side the one of more tokens: (1 * 4 + 2 * 9) / 3. */
    assert_true(trim_one((float[]){0, 9, 4, 9}, (uint64_t[]){10, 2, 1, 5}, 4) == (float)(22.0 / 3.0));
    assert_true(trim_one((float[]){2, 2, 2, 2, 2}, (uint64_t[]){1, 2, 3, 4, 5}, 5) == 2);
}

struct trim_value {
    float value;
    uint64_t weight;
    int index;
};

static int compare_trim_values(const void *left, const void *right) {
    const struct trim_value *a = left, *b = right;
    if (a->value != b->value)
        return a->value < b->value ? -1 : 1;
    if (a->weight != b->weight)
        return a->weight < b->weight ? -1 : 1;
    return a->index - b->index;
}

/* mean.h by sorting. */
static float trim_scalar(const float *values, const uint64_t *weights, int n) {
    struct trim_value sorted[MESSAGE_WORKERS_MAX];
    bool dropped[MESSAGE_WORKERS_MAX] = {0};
    int drop = n < 3 ? 0 : n / 4 > 1 ? n / 4 : 1;
    for (int i = 0; i < n; i++)
        sorted[i] = (struct trim_value){values[i], weights[i], i};
    qsort(sorted, (size_t)n, sizeof *sorted, compare_trim_values);
    for (int i = 0; i < drop; i++)
        dropped[sorted[i].index] = dropped[sorted[n - 1 - i].index] = true;
    volatile double sum = 0, weight_sum = 0;
    for (int i = 0; i < n; i++) {
        volatile double product = (double)weights[i] * (double)values[i];
        sum = sum + (dropped[i] ? 0 : product);
        weight_sum = weight_sum + (dropped[i] ? 0 : (double)weights[i]);
    }
    return (float)(sum / weight_sum);
}

/* Every number of workers, on values of which many are equal, as few-bit codes are, and on values of which none are. */
static void trimmed_equals_the_scalar_definition(void **state) {
    (void)state;
    for (int n = 3; n <= MESSAGE_WORKERS_MAX; n++) {
        uint64_t weights[MESSAGE_WORKERS_MAX];
        float mean[MEAN_PIECE + 1], column[MESSAGE_WORKERS_MAX];
        size_t count = n % 2 == 0 ? MEAN_PIECE : (size_t)(MEAN_PIECE - n);
        for (int w = 0; w < n; w++) {
            weights[w] = 1 + rng_u64(5, 0, (uint64_t)(64 * n + w)) % (w % 3 == 0 ? 3 : 1000000);
            for (size_t i = 0; i < count; i++) {
                float value = rng_normal(5, (uint64_t)(64 * n + w), i);
                scratch.values[w][i] = i % 2 == 0 ? value : (float)(int)value;
            }
        }
        mean[count] = 42;
        mean_trim(&scratch, weights, n, count, mean);
        for (size_t i = 0; i < count; i++) {
            for (int w = 0; w < n; w++)
                column[w] = scratch.values[w][i];
            float expected = trim_scalar(column, weights, n);
            assert_memory_equal(&mean[i], &expected, sizeof expected);
        }
        assert_true(mean[count] == 42);
    }
}

enum { PERMUTED = 5 };

/* Calls `visit` with all orders of 0 .. PERMUTED - 1. */
static void permute(int *order, int fixed, void (*visit)(const int *order)) {
    if (fixed == PERMUTED) {
        visit(order);
        return;
    }
    for (int i = fixed; i < PERMUTED; i++) {
        int first = order[fixed];
        order[fixed] = order[i], order[i] = first;
        permute(order, fixed + 1, visit);
        order[i] = order[fixed], order[fixed] = first;
    }
}

static int visited;

/* Small integers: every sum is exact, so that an order could only change which ones are taken. */
static void order_changes_nothing(const int *order) {
    static const float values[][PERMUTED] = {{5, -3, 0, 0, 1}, {0, 0, 0, 7, 7}, {2, 2, 1, 1, 1}, {4, 3, 2, 1, 0}};
    static const uint64_t weights[PERMUTED] = {3, 1, 4, 1, 5};
    static const double norms[PERMUTED] = {2, 2, 9, 1, 1e6};
    float permuted[PERMUTED];
    uint64_t permuted_weights[PERMUTED];
    double permuted_norms[PERMUTED];
    for (size_t c = 0; c < sizeof values / sizeof values[0]; c++) {
        for (int i = 0; i < PERMUTED; i++) {
            permuted[i] = values[c][order[i]];
            permuted_weights[i] = weights[order[i]];
            permuted_norms[i] = norms[order[i]];
        }
        assert_true(trim_one(permuted, permuted_weights, PERMUTED) == trim_one(values[c], weights, PERMUTED));
    }
    assert_true(mean_median_norm(permuted_norms, permuted_weights, PERMUTED) == 9);
    visited++;
}

static void the_order_decides_nothing_but_rounding(void **state) {
    (void)state;
    int order[PERMUTED] = {0, 1, 2, 3, 4};
    visited = 0;
    permute(order, 0, order_changes_nothing);
    assert_int_equal(visited, 120);
}

/* k of n contributions are 10^6 times as large, all to one side or to both: each coordinate stays among the sound values. */
static void trimmed_stays_among_the_sound(void **state) {
    (void)state;
    for (int n = 3; n <= 17; n++) {
        int bad = mean_trim_each_side(n);
        uint64_t weights[MESSAGE_WORKERS_MAX];
        float mean[MEAN_PIECE];
        for (int w = 0; w < n; w++) {
            weights[w] = w < bad ? 1000000 : 4096;
            for (size_t i = 0; i < MEAN_PIECE; i++)
                scratch.values[w][i] = rng_normal(6, (uint64_t)w, i) * (w < bad ? (i % 3 ? 1e6f : -1e6f) : 1);
        }
        mean_trim(&scratch, weights, n, MEAN_PIECE, mean);
        for (size_t i = 0; i < MEAN_PIECE; i++) {
            float least = FLT_MAX, most = -FLT_MAX;
            for (int w = bad; w < n; w++) {
                least = fminf(least, scratch.values[w][i]);
                most = fmaxf(most, scratch.values[w][i]);
            }
            assert_true(mean[i] >= least && mean[i] <= most);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_scalar_definition),
        cmocka_unit_test(golden_bits),
        cmocka_unit_test(weights_round_to_f32),
        cmocka_unit_test(the_order_matters_and_is_kept),
        cmocka_unit_test(one_contribution_of_a_power_of_two_is_itself),
        cmocka_unit_test(norms_by_hand),
        cmocka_unit_test(the_norm_equals_the_scalar_definition),
        cmocka_unit_test(the_norm_of_pieces_is_that_of_the_whole),
        cmocka_unit_test(median_norms_by_hand),
        cmocka_unit_test(clipped_by_hand),
        cmocka_unit_test(the_scale_rounds_with_the_weight),
        cmocka_unit_test(trimmed_by_hand),
        cmocka_unit_test(trimmed_equals_the_scalar_definition),
        cmocka_unit_test(the_order_decides_nothing_but_rounding),
        cmocka_unit_test(trimmed_stays_among_the_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
