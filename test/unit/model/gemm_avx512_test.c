/* Our AVX-512 products against sums in double: all transpositions, sizes around those of tiles, panels and lines, three kinds of base; nothing is written
 * beside c. That nothing is read beside the factors, only sanitizer builds see, and not of masked loads. */
#include "model/gemm_avx512.h"
#include <float.h>
#include <math.h>
#include "base/rng.h"
#include "support.h"

enum base { BASE_ZERO, BASE_C, BASE_OTHER, BASES };
enum { EXIT_SKIPPED = 77, GUARD = 64 }; /* exit code: as CMakeLists.txt says */

static float *random_values(size_t count, uint64_t stream) {
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = rng_normal(7, stream, i);
    return values;
}

static void check(bool transpose_a, bool transpose_b, int M, int N, int K, enum base which) {
    size_t m = (size_t)M, n = (size_t)N, k = (size_t)K;
    float *a = random_values(m * k, 1), *b = random_values(k * n, 2), *before = random_values(m * n, 3);
    float *room = random_values(m * n + 2 * GUARD, 4), *guard = random_values(m * n + 2 * GUARD, 4), *c = room + GUARD;
    float *scratch = malloc(gemm_avx512_scratch_floats() * sizeof *scratch);
    assert_non_null(scratch);
    memset(scratch, 0xff, gemm_avx512_scratch_floats() * sizeof *scratch); /* NaN: none may come into c */
    if (which == BASE_C)
        memcpy(c, before, m * n * sizeof *c);
    const float *base = which == BASE_ZERO ? NULL : which == BASE_C ? c : before;
    gemm_avx512(transpose_a, transpose_b, M, N, K, a, b, base, c, scratch);
    assert_memory_equal(room, guard, GUARD * sizeof *room);
    assert_memory_equal(c + m * n, guard + GUARD + m * n, GUARD * sizeof *room);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = which == BASE_ZERO ? 0 : (double)before[i * n + j], magnitude = fabs(sum);
            for (size_t l = 0; l < k; l++) {
                double term =
                    (double)a[transpose_a ? l * m + i : i * k + l] * (double)b[transpose_b ? j * k + l : l * n + j];
                sum += term;
                magnitude += fabs(term);
            }
            if (!(fabs((double)c[i * n + j] - sum) <= (K + 1) * (double)FLT_EPSILON * magnitude))
                fail_msg("%d x %d x %d, a %d, b %d, base %d: [%zu][%zu] = %.9g, expected %.9g", M, N, K, transpose_a,
                         transpose_b, (int)which, i, j, (double)c[i * n + j], sum);
        }
    free(a);
    free(b);
    free(before);
    free(room);
    free(guard);
    free(scratch);
}

static void products(void **state) {
    (void)state;
    /* a tile is 8 x 48 of 192 or 256 terms, a vector or a line 16, a packed left factor 128 rows; 2 MiB of L2 cache hold a group of 209712 terms x
       columns, and 1 MiB half of that */
    static const int sizes[][3] = {{1, 1, 1},      {8, 48, 16},    {8, 48, 192},  {7, 47, 15},     {9, 49, 17},
                                   {16, 16, 193},  {3, 33, 400},   {40, 97, 31},  {128, 96, 256},  {129, 50, 257},
                                   {300, 48, 600}, {137, 500, 20}, {24, 448, 64}, {20, 1010, 530}, {9, 100, 4700}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int way = 0; way < 4; way++)
            for (int base = 0; base < BASES; base++)
                check(way / 2 != 0, way % 2 != 0, sizes[i][0], sizes[i][1], sizes[i][2], (enum base)base);
}

/* Of each length in one dimension. */
static void every_edge(void **state) {
    (void)state;
    for (int length = 1; length <= 64; length++)
        for (int way = 0; way < 4; way++) {
            check(way / 2 != 0, way % 2 != 0, length, 5, 6, BASE_C);
            check(way / 2 != 0, way % 2 != 0, 9, length, 6, BASE_ZERO);
            check(way / 2 != 0, way % 2 != 0, 9, 17, length, BASE_OTHER);
        }
}

/* One product of many terms has the bits of several of 256, and of what is left. */
static void check_terms_in_order(int M, int N, int K) {
    size_t m = (size_t)M, n = (size_t)N, k = (size_t)K;
    float *a = random_values(m * k, 1), *b = random_values(k * n, 2), *base = random_values(m * n, 3),
          *c = malloc(m * n * sizeof *c), *scratch = malloc(gemm_avx512_scratch_floats() * sizeof *scratch);
    assert_true(c != NULL && scratch != NULL);
    gemm_avx512(true, false, M, N, K, a, b, base, c, scratch);
    for (size_t first = 0; first < k; first += GEMM_AVX512_TERMS) {
        int terms = K - (int)first < GEMM_AVX512_TERMS ? K - (int)first : GEMM_AVX512_TERMS;
        gemm_avx512(true, false, M, N, terms, a + first * m, b + first * n, base, base, scratch);
    }
    assert_memory_equal(c, base, m * n * sizeof *c);
    free(a);
    free(b);
    free(base);
    free(c);
    free(scratch);
}

static void terms_in_order(void **state) {
    (void)state;
    check_terms_in_order(150, 500, 700);
    check_terms_in_order(20, 60, 4700); /* more than a group's */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products), cmocka_unit_test(every_edge),
                                       cmocka_unit_test(terms_in_order)};
    if (!gemm_avx512_works()) {
        printf("skipped, no AVX-512 products here\n");
        return EXIT_SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
