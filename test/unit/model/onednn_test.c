/* onednn: products of bf16 factors against sums in double. A product of two bf16 is exact in f32: all of the error is that of summing
 * K of them in f32, in whatever order, and of one more sum when the product is added. */
#include "model/onednn.h"
#include <float.h>
#include <math.h>
#include <pthread.h>
#include "base/rng.h"
#include "support.h"

enum { EXIT_SKIPPED = 77, OPERANDS = 4 }; /* exit code: as CMakeLists.txt says */

static struct onednn *open_or_fail(void) {
    struct onednn *onednn = NULL;
    struct error error;
    if (onednn_open(&onednn, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return onednn;
}

static float widen(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Bits of normal numbers from 2^-7 to just below 2, of both signs. */
static uint16_t *random_bf16(size_t count, uint64_t stream) {
    uint16_t *bits = malloc(count * sizeof *bits);
    assert_non_null(bits);
    for (size_t i = 0; i < count; i++) {
        uint64_t random = rng_u64(3, stream, i);
        bits[i] = (uint16_t)((random & 1) << 15 | (120 + (random >> 1 & 7)) << 7 | (random >> 4 & 127));
    }
    return bits;
}

static float *random_f32(size_t count, uint64_t stream) {
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = rng_normal(3, stream, i);
    return values;
}

struct operands {
    int M, N, K;
    bool transpose_a, transpose_b, add;
    uint16_t *a, *b;
    float *before, *c;
};

static struct operands make_operands(int M, int N, int K, unsigned variant) {
    size_t results = (size_t)M * (size_t)N;
    struct operands o = {.M = M,
                         .N = N,
                         .K = K,
                         .transpose_a = variant & 1,
                         .transpose_b = variant & 2,
                         .add = variant & 4,
                         .a = random_bf16((size_t)M * (size_t)K, 1),
                         .b = random_bf16((size_t)K * (size_t)N, 2),
                         .before = random_f32(results, 3),
                         .c = malloc(results * sizeof(float))};
    assert_non_null(o.c);
    memcpy(o.c, o.before, results * sizeof(float));
    return o;
}

static void free_operands(struct operands *o) {
    free(o->a);
    free(o->b);
    free(o->before);
    free(o->c);
}

static void multiply(struct onednn *onednn, struct operands *o) {
    onednn_product(onednn, o->transpose_a, o->transpose_b, o->M, o->N, o->K, o->a, o->b, o->add, o->c);
}

static void check_element(const struct operands *o, int m, int n) {
    double sum = 0, magnitude = 0;
    for (int k = 0; k < o->K; k++) {
        uint16_t a = o->a[o->transpose_a ? (size_t)k * (size_t)o->M + (size_t)m : (size_t)m * (size_t)o->K + (size_t)k];
        uint16_t b = o->b[o->transpose_b ? (size_t)n * (size_t)o->K + (size_t)k : (size_t)k * (size_t)o->N + (size_t)n];
        double term = (double)widen(a) * (double)widen(b);
        sum += term;
        magnitude += fabs(term);
    }
    size_t at = (size_t)m * (size_t)o->N + (size_t)n;
    if (o->add) {
        sum += (double)o->before[at];
        magnitude += fabs((double)o->before[at]);
    }
    double bound =
        (o->K + 1) * (double)FLT_EPSILON * magnitude; /* hardware may cut where f32 rounds: an ulp, not half */
    if (!(fabs((double)o->c[at] - sum) <= bound))
        fail_msg("M %d N %d K %d%s%s%s: c[%d][%d] = %.9g, expected %.9g to %.2g", o->M, o->N, o->K,
                 o->transpose_a ? " a^T" : "", o->transpose_b ? " b^T" : "", o->add ? " added" : "", m, n,
                 (double)o->c[at], sum, bound);
}

static void check_product(struct onednn *onednn, int M, int N, int K, unsigned variant) {
    struct operands o = make_operands(M, N, K, variant);
    multiply(onednn, &o);
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++)
            check_element(&o, m, n);
    free_operands(&o);
}

static void products_match_sums_in_double(void **state) {
    (void)state;
    static const int sizes[][3] = {{1, 1, 1},    {1, 7, 5},     {26, 40, 56},   {131, 61, 37}, {64, 64, 64},
                                   {33, 257, 2}, {128, 48, 96}, {3, 300, 1000}, {256, 16, 31}};
    struct onednn *onednn = open_or_fail();
    print_message("%s\n", onednn_text());
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (unsigned variant = 0; variant < 8; variant++)
            check_product(onednn, sizes[i][0], sizes[i][1], sizes[i][2], variant);
    onednn_close(onednn);
}

/* Every shape twice, in two orders: code that gave way to others is made again. */
static void more_shapes_than_are_kept(void **state) {
    (void)state;
    struct onednn *onednn = open_or_fail();
    for (int K = 1; K <= ONEDNN_SHAPES + 20; K++)
        check_product(onednn, 5, 6, K, 4);
    for (int K = ONEDNN_SHAPES + 20; K >= 1; K--)
        check_product(onednn, 5, 6, K, 4);
    onednn_close(onednn);
}

static void what_is_not_finite_shows(void **state) {
    (void)state;
    struct onednn *onednn = open_or_fail();
    for (unsigned variant = 0; variant < 8; variant++) {
        struct operands o = make_operands(32, 32, 32, variant);
        o.a[0] = 0x7fc0;      /* NaN at row 0, k 0 */
        o.b[32 * 32 - 1] = 0; /* 0 x infinity */
        o.a[32 * 32 - 1] = 0x7f80;
        multiply(onednn, &o);
        for (int i = 0; i < 32; i++)
            assert_true(isnan((double)o.c[i]));
        assert_true(isnan((double)o.c[32 * 32 - 1]));
        assert_true(isfinite((double)o.c[32]));
        free_operands(&o);
    }
    onednn_close(onednn);
}

static void *multiply_often(void *context) {
    struct operands *o = context;
    struct onednn *onednn = open_or_fail();
    for (int i = 0; i < 20; i++) {
        memcpy(o->c, o->before, (size_t)o->M * (size_t)o->N * sizeof(float));
        multiply(onednn, o);
    }
    onednn_close(onednn);
    return NULL;
}

static int thread_count(void) {
    int count = 0;
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    assert_non_null(status);
    while (fgets(line, sizeof line, status) != NULL)
        (void)sscanf(line, "Threads: %d", &count);
    fclose(status);
    return count;
}

static int threads_at_start;

/* The same bits in any thread, beside others, each time; and no thread that nobody asked for, here or in the tests before. */
static void equal_inputs_give_equal_bits(void **state) {
    (void)state;
    struct operands all[OPERANDS];
    pthread_t threads[OPERANDS];
    size_t bytes = 256 * 192 * sizeof(float);
    for (int i = 0; i < OPERANDS; i++)
        all[i] = make_operands(256, 192, 333, 5);
    for (int i = 1; i < OPERANDS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, multiply_often, &all[i]), 0);
    multiply_often(&all[0]);
    for (int i = 1; i < OPERANDS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(thread_count(), threads_at_start);
    for (int i = 0; i < OPERANDS; i++)
        assert_memory_equal(all[i].c, all[0].c, bytes);
    for (int i = 0; i < OPERANDS; i++)
        free_operands(&all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_match_sums_in_double), cmocka_unit_test(more_shapes_than_are_kept),
        cmocka_unit_test(what_is_not_finite_shows), cmocka_unit_test(equal_inputs_give_equal_bits)};
    if (!onednn_has_bf16()) {
        printf("skipped, no bf16 products here: %s\n", onednn_text());
        return EXIT_SKIPPED;
    }
    threads_at_start = thread_count();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
