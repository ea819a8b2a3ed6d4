/* Our AVX-512 products against sums in double: all transpositions, sizes around those of tiles, panels and lines, three kinds of base; nothing is written
 * beside c. Matrices in panels give the bits of rows, and a finish sees each value once, when it is whole. That nothing is read beside the factors, only
 * sanitizer builds see, and not of masked loads. */
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

/* By rows, without base and finish. */
static struct gemm_product product_of(bool transpose_a, bool transpose_b, int M, int N, int K, const float *a,
                                      const float *b, float *c, float *scratch) {
    return (struct gemm_product){.transpose_a = transpose_a,
                                 .transpose_b = transpose_b,
                                 .M = M,
                                 .N = N,
                                 .K = K,
                                 .a = a,
                                 .b = b,
                                 .c = c,
                                 .scratch = scratch};
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
    struct gemm_product product = product_of(transpose_a, transpose_b, M, N, K, a, b, c, scratch);
    product.base = base;
    gemm_avx512(&product);
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
    struct gemm_product product = product_of(true, false, M, N, K, a, b, c, scratch);
    product.base = base;
    gemm_avx512(&product);
    product.c = base;
    for (size_t first = 0; first < k; first += GEMM_AVX512_TERMS) {
        product.K = K - (int)first < GEMM_AVX512_TERMS ? K - (int)first : GEMM_AVX512_TERMS;
        product.a = a + first * m;
        product.b = b + first * n;
        gemm_avx512(&product);
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

/* ---- panels ---- */

/* Room of a matrix in either order; between values, `pad`. Of factors NaN: a sum that has one shows. */
static float *in_order(bool in_panels, size_t rows, size_t columns, const float *values, float pad) {
    size_t count = rows * (in_panels ? gemm_panels_columns(columns) : columns);
    float *to = malloc(count * sizeof *to);
    assert_non_null(to);
    for (size_t i = 0; i < count; i++)
        to[i] = pad;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            to[gemm_place(in_panels, rows, columns, i, j)] = values[i * columns + j];
    return to;
}

/* c = 2 c + beside, and counts its visits. */
struct doubling {
    struct gemm_finish finish;
    float *c;
    float *visits; /* as c */
};

static void double_part(const struct gemm_finish *finish, int rows, int columns, size_t at, size_t stride) {
    const struct doubling *d = (const struct doubling *)finish;
    for (int row = 0; row < rows; row++, at += stride)
        for (int i = 0; i < columns; i++) {
            size_t place = at + (size_t)i;
            d->visits[place]++;
            d->c[place] = 2 * d->c[place] + finish->beside[1][place];
        }
}

/* Which of a, b and c lie in panels, whether there is a finish and a base. The product by rows without a finish is what is expected. */
struct orders {
    bool a, b, c, finish, base;
};

static void check_orders(bool transpose_a, bool transpose_b, int M, int N, int K, struct orders orders) {
    size_t m = (size_t)M, n = (size_t)N, k = (size_t)K, a_rows = transpose_a ? k : m, a_columns = transpose_a ? m : k,
           b_rows = transpose_b ? n : k, b_columns = transpose_b ? k : n;
    float *a = random_values(m * k, 1), *b = random_values(k * n, 2), *before = random_values(m * n, 3),
          *beside = random_values(m * n, 4), *zeros = calloc(m * n, sizeof *zeros),
          *expected = malloc(m * n * sizeof *expected),
          *scratch = malloc(gemm_avx512_scratch_floats() * sizeof *scratch);
    assert_true(zeros != NULL && expected != NULL && scratch != NULL);
    struct gemm_product product = product_of(transpose_a, transpose_b, M, N, K, a, b, expected, scratch);
    product.base = orders.base ? before : NULL;
    gemm_avx512(&product);

    float *ordered_a = in_order(orders.a, a_rows, a_columns, a, NAN),
          *ordered_b = in_order(orders.b, b_rows, b_columns, b, NAN), *base = in_order(orders.c, m, n, before, NAN),
          *c = in_order(orders.c, m, n, zeros, 9), *untouched = in_order(orders.c, m, n, zeros, 9),
          *visits = in_order(orders.c, m, n, zeros, 9), *ordered_beside = in_order(orders.c, m, n, beside, 9);
    const struct doubling doubling = {
        .finish = {.run = double_part, .beside = {NULL, ordered_beside}}, .c = c, .visits = visits};
    product.a = ordered_a, product.a_in_panels = orders.a;
    product.b = ordered_b, product.b_in_panels = orders.b;
    product.c = c, product.c_in_panels = orders.c;
    product.base = orders.base ? base : NULL;
    product.finish = orders.finish ? &doubling.finish : NULL;
    gemm_avx512(&product);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            size_t place = gemm_place(orders.c, m, n, i, j);
            float sum = expected[i * n + j], wanted = orders.finish ? 2 * sum + beside[i * n + j] : sum;
            if (memcmp(&c[place], &wanted, sizeof wanted) != 0 || visits[place] != (orders.finish ? 1.0f : 0.0f))
                fail_msg("%d x %d x %d, a %d, b %d, panels %d %d %d, finish %d: [%zu][%zu] = %.9g, expected %.9g; "
                         "visits %g",
                         M, N, K, transpose_a, transpose_b, orders.a, orders.b, orders.c, orders.finish, i, j,
                         (double)c[place], (double)wanted, (double)visits[place]);
            c[place] = visits[place] = 0;
        }
    size_t room = m * (orders.c ? gemm_panels_columns(n) : n);
    assert_memory_equal(c, untouched, room * sizeof *c);
    assert_memory_equal(visits, untouched, room * sizeof *c);
    float *all[] = {a,         b,         before, beside, zeros,     expected, scratch,
                    ordered_a, ordered_b, base,   c,      untouched, visits,   ordered_beside};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void panels_give_the_bits_of_rows(void **state) {
    (void)state;
    static const int sizes[][3] = {{1, 1, 1},      {8, 48, 48},     {9, 49, 50},    {16, 96, 384},  {23, 40, 1000},
                                   {130, 200, 37}, {512, 100, 200}, {40, 1024, 64}, {64, 500, 530}, {20, 60, 4700}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int way = 0; way < 4; way++)
            for (int which = 0; which < 32; which++) {
                const struct orders orders = {.a = which & 1,
                                              .b = (which & 2) != 0,
                                              .c = (which & 4) != 0,
                                              .finish = (which & 8) != 0,
                                              .base = (which & 16) != 0};
                if (!(way % 2 != 0 && orders.b)) /* a transposed b has no panels */
                    check_orders(way / 2 != 0, way % 2 != 0, sizes[i][0], sizes[i][1], sizes[i][2], orders);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products), cmocka_unit_test(every_edge),
                                       cmocka_unit_test(terms_in_order),
                                       cmocka_unit_test(panels_give_the_bits_of_rows)};
    if (!gemm_avx512_works()) {
        printf("skipped, no AVX-512 products here\n");
        return EXIT_SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
