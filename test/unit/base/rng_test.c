#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "base/rng.h"

/* Printed by test/reference/rng.py. */
static const struct {
    uint64_t seed, stream, counter, u64;
    float uniform, normal;
} golden[] = {
    {UINT64_C(0), UINT64_C(0), UINT64_C(0), UINT64_C(0x238275bc38fcbe91), 0x1.1c13a80000000p-3f,
     -0x1.59b0000000000p-2f},
    {UINT64_C(1), UINT64_C(0), UINT64_C(0), UINT64_C(0xb18a02f46d8d86c3), 0x1.6314040000000p-1f, 0x1.57bf000000000p+0f},
    {UINT64_C(0), UINT64_C(1), UINT64_C(0), UINT64_C(0x44e5b98100c67fb0), 0x1.1396e40000000p-2f,
     -0x1.00a0000000000p-2f},
    {UINT64_C(0), UINT64_C(0), UINT64_C(1), UINT64_C(0x2f32a78496c67c60), 0x1.7995380000000p-3f, 0x1.1a38000000000p+0f},
    {UINT64_C(42), UINT64_C(7), UINT64_C(123456789), UINT64_C(0x258d21a72d150ebf), 0x1.2c69080000000p-3f,
     0x1.8d9c000000000p+0f},
    {UINT64_C(18446744073709551615), UINT64_C(18446744073709551615), UINT64_C(18446744073709551615),
     UINT64_C(0x595b17f487c0e71b), 0x1.656c5c0000000p-2f, -0x1.46a8000000000p-1f},
};
static const struct {
    uint64_t seed, stream, count, index, image;
} golden_permute[] = {
    {UINT64_C(1), UINT64_C(0), UINT64_C(10), UINT64_C(3), UINT64_C(2)},
    {UINT64_C(1), UINT64_C(0), UINT64_C(1000), UINT64_C(999), UINT64_C(705)},
    {UINT64_C(7), UINT64_C(2), UINT64_C(1099511627776), UINT64_C(12345), UINT64_C(796684619379)},
    {UINT64_C(7), UINT64_C(2), UINT64_C(18446744073709551615), UINT64_C(18446744073709551614),
     UINT64_C(450735669779774600)},
};

static void golden_values(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        assert_true(rng_u64(golden[i].seed, golden[i].stream, golden[i].counter) == golden[i].u64);
        assert_true(rng_uniform(golden[i].seed, golden[i].stream, golden[i].counter) == golden[i].uniform);
        assert_true(rng_normal(golden[i].seed, golden[i].stream, golden[i].counter) == golden[i].normal);
    }
    for (size_t i = 0; i < sizeof golden_permute / sizeof golden_permute[0]; i++)
        assert_true(rng_permute(golden_permute[i].seed, golden_permute[i].stream, golden_permute[i].count,
                                golden_permute[i].index) == golden_permute[i].image);
}

/* One flipped bit of seed, stream or counter flips half of the 64 output bits: 32 +- 4 standard errors of 1000 samples. */
static void every_input_bit_matters(void **state) {
    (void)state;
    for (int input = 0; input < 3; input++)
        for (int bit = 0; bit < 64; bit++) {
            int flips = 0;
            for (uint64_t i = 0; i < 1000; i++) {
                uint64_t a[3] = {i, i * 3, i * 7};
                uint64_t before = rng_u64(a[0], a[1], a[2]);
                a[input] ^= UINT64_C(1) << bit;
                flips += __builtin_popcountll(before ^ rng_u64(a[0], a[1], a[2]));
            }
            assert_in_range(flips, 31500, 32500);
        }
}

static void uniform_is_uniform(void **state) {
    (void)state;
    int buckets[16] = {0};
    for (uint64_t i = 0; i < 160000; i++) {
        float u = rng_uniform(5, 6, i);
        assert_true(u >= 0 && u < 1);
        buckets[(int)(u * 16)]++;
    }
    for (int b = 0; b < 16; b++)
        assert_in_range(buckets[b], 9600, 10400); /* 10000 +- 4 sigma */
}

/* Irwin-Hall with 12 terms: mean 0, variance 1, fourth moment 3 - 6/60. Bounds: four standard errors of a million samples. */
static void normal_has_the_moments(void **state) {
    (void)state;
    double mean = 0;
    double square = 0;
    double fourth = 0;
    double neighbours = 0;
    double last = 0;
    const int count = 1000000;
    for (int i = 0; i < count; i++) {
        double x = (double)rng_normal(3, 9, (uint64_t)i);
        assert_true(fabs(x) <= 6);
        mean += x;
        square += x * x;
        fourth += x * x * x * x;
        neighbours += x * last;
        last = x;
    }
    assert_true(fabs(mean / count) < 0.004);
    assert_true(fabs(square / count - 1) < 0.006);
    assert_true(fabs(fourth / count - 2.9) < 0.04);
    assert_true(fabs(neighbours / count) < 0.004);
}

static void permute_is_a_bijection(void **state) {
    (void)state;
    static const uint64_t counts[] = {1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4096, 4097};
    static unsigned char seen[5000];
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
        for (uint64_t seed = 0; seed < 5; seed++) {
            memset(seen, 0, sizeof seen);
            for (uint64_t i = 0; i < counts[c]; i++) {
                uint64_t image = rng_permute(seed, 1, counts[c], i);
                assert_true(image < counts[c]);
                assert_int_equal(seen[image]++, 0);
            }
        }
}

/* Every index lands everywhere: 10 places, 10000 seeds, 1000 +- 4 sigma each. */
static void permute_has_no_favourites(void **state) {
    (void)state;
    int landed[10][10] = {{0}};
    for (uint64_t seed = 0; seed < 10000; seed++)
        for (uint64_t i = 0; i < 10; i++)
            landed[i][rng_permute(seed, 4, 10, i)]++;
    for (int i = 0; i < 10; i++)
        for (int j = 0; j < 10; j++)
            assert_in_range(landed[i][j], 880, 1120);
}

static void streams_differ(void **state) {
    (void)state;
    int same = 0;
    for (uint64_t i = 0; i < 1000; i++)
        same += rng_permute(1, 1, 1000, i) == rng_permute(1, 2, 1000, i);
    assert_true(same < 10); /* about one by chance */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_values),          cmocka_unit_test(every_input_bit_matters),
        cmocka_unit_test(uniform_is_uniform),     cmocka_unit_test(normal_has_the_moments),
        cmocka_unit_test(permute_is_a_bijection), cmocka_unit_test(permute_has_no_favourites),
        cmocka_unit_test(streams_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
