/* commit_maker: against scalar loops whose every step goes through memory, and hostile payloads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "comms/message.h"
#include "copy_fixture.h"

enum { PARTS = 3, ROUNDS = 4 };

struct scalar {
    float *g, *u, *residual;
};

/* DESIGN.md section 3 for one value: mean, residual, then (after the codec) the outer step with Nesterov momentum. */
static float scalar_mean(const float *q, const uint64_t *weights, float residual, bool feedback) {
    volatile float acc = 0, product;
    uint64_t sum = 0;
    for (int i = 0; i < PARTS; i++) {
        product = (float)weights[i] * q[i];
        acc = acc + product;
        sum += weights[i];
    }
    volatile float inverse = (float)(1.0 / (double)sum);
    acc = acc * inverse;
    if (feedback)
        acc = acc + residual;
    return acc;
}

static void scalar_step(float *g, float *u, float d) {
    volatile float product = 0.9f * *u, velocity = product + d;
    *u = velocity;
    product = 0.9f * velocity;
    volatile float direction = d + product;
    product = 0.4f * direction;
    *g = *g - product;
}

static void check_round(struct fixture *fixture, int f, uint64_t round, bool feedback, struct scalar *expected) {
    static const uint64_t weights[PARTS] = {4096, 1, 16777217};
    const struct fragment *fragment = &fixture->fragments.list[f];
    size_t bytes = outer_copy_payload_down(&fixture->copy, f);
    float *q[PARTS], *x = test_malloc(fragment->count * sizeof *x),
                     *decoded = test_malloc(fragment->count * sizeof *decoded);
    uint8_t *payload = test_malloc(bytes), *wanted = test_malloc(bytes);
    struct commit_part parts[PARTS];
    struct state_hash hash, again;
    for (int i = 0; i < PARTS; i++) {
        q[i] = test_malloc(fragment->count * sizeof(float));
        parts[i].payload = fixture_payload(fixture, f, 100 * round + (uint64_t)i, q[i]);
        parts[i].bytes = bytes;
        parts[i].tokens = weights[i];
        assert_int_equal(commit_maker_check(&fixture->maker, f, parts[i].payload, bytes), STATUS_OK);
    }
    commit_maker_make(&fixture->maker, f, parts, PARTS, payload, &hash);

    for (size_t i = 0; i < fragment->count; i++)
        x[i] = scalar_mean((float[]){q[0][i], q[1][i], q[2][i]}, weights, expected->residual[i], feedback);
    assert_int_equal(codec_encode_spans(fixture->copy.codec_down, fragment->spans, fragment->span_count, x, wanted),
                     STATUS_OK);
    assert_memory_equal(payload, wanted, bytes);
    assert_int_equal(
        codec_decode_spans(fixture->copy.codec_down, fragment->spans, fragment->span_count, wanted, bytes, decoded),
        STATUS_OK);
    for (size_t i = 0; i < fragment->count; i++) {
        scalar_step(&expected->g[i], &expected->u[i], decoded[i]);
        expected->residual[i] = x[i] - decoded[i];
    }
    size_t at = fixture->copy.offsets[f];
    assert_memory_equal(fixture->copy.g + at, expected->g, fragment->count * sizeof(float));
    assert_memory_equal(fixture->copy.u + at, expected->u, fragment->count * sizeof(float));
    if (feedback)
        assert_memory_equal(fixture->maker.residual + at, expected->residual, fragment->count * sizeof(float));
    outer_copy_hash(&fixture->copy, f, fixture->copy.g + at, &again);
    assert_true(state_hash_equal(&hash, &again));
    for (int i = 0; i < PARTS; i++) {
        test_free((void *)(uintptr_t)parts[i].payload);
        test_free(q[i]);
    }
    test_free(x), test_free(decoded), test_free(payload), test_free(wanted);
}

static void check_rounds(const char *codec, bool feedback) {
    struct fixture fixture;
    fixture_open(&fixture, codec, "nesterov", feedback);
    for (int f = 0; f < fixture.fragments.count; f++) {
        size_t count = fixture.fragments.list[f].count;
        struct scalar expected = {test_malloc(count * sizeof(float)), test_calloc(count, sizeof(float)),
                                  test_calloc(count, sizeof(float))};
        memcpy(expected.g, fixture.copy.g + fixture.copy.offsets[f], count * sizeof(float));
        for (uint64_t round = 0; round < ROUNDS; round++) /* residual and momentum carry over */
            check_round(&fixture, f, round, feedback, &expected);
        test_free(expected.g), test_free(expected.u), test_free(expected.residual);
    }
    fixture_close(&fixture);
}

static void e3m0_with_residual(void **state) {
    (void)state;
    check_rounds("e3m0", true);
}

static void e3m0_without_residual(void **state) {
    (void)state;
    check_rounds("e3m0", false);
}

static void f32_leaves_nothing_out(void **state) {
    (void)state;
    check_rounds("f32", true);
}

static void int8_with_residual(void **state) {
    (void)state;
    check_rounds("int8", true);
}

/* A fragment is made; the others stay as they were. */
static void other_fragments_are_not_touched(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, "f32", "sgd", true);
    size_t floats = fixture.copy.packed_floats, from = fixture.copy.offsets[1], to = fixture.copy.offsets[2];
    float *before = test_malloc(floats * sizeof *before),
          *values = test_malloc(fixture.fragments.largest_count * sizeof *values);
    memcpy(before, fixture.copy.g, floats * sizeof *before);
    size_t bytes = outer_copy_payload_up(&fixture.copy, 1);
    uint8_t *payload = fixture_payload(&fixture, 1, 3, values),
            *made = test_malloc(outer_copy_payload_down(&fixture.copy, 1));
    struct state_hash hash;
    commit_maker_make(&fixture.maker, 1, &(struct commit_part){payload, bytes, 10}, 1, made, &hash);
    assert_memory_equal(fixture.copy.g, before, from * sizeof *before);
    assert_memory_not_equal(fixture.copy.g + from, before + from, (to - from) * sizeof *before);
    assert_memory_equal(fixture.copy.g + to, before + to, (floats - to) * sizeof *before);
    test_free(before), test_free(values), test_free(payload), test_free(made);
    fixture_close(&fixture);
}

static void hostile_payloads_are_refused(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, "f32", "nesterov", true);
    float *values = test_malloc(fixture.fragments.largest_count * sizeof *values);
    size_t bytes = outer_copy_payload_up(&fixture.copy, 0);
    uint8_t *payload = fixture_payload(&fixture, 0, 1, values);
    struct commit_maker *maker = &fixture.maker;
    assert_int_equal(commit_maker_check(maker, 0, payload, bytes), STATUS_OK);
    assert_int_equal(commit_maker_check(maker, 0, payload, bytes - 4), STATUS_DATA);
    assert_int_equal(commit_maker_check(maker, 1, payload, bytes + 4), STATUS_DATA);
    static const struct {
        float value;
        bool good;
    } cases[] = {
        {0x1p60f, true},           {-0x1p60f, true},           {0x1.000002p60f, false},     {-0x1.000002p60f, false},
        {__builtin_inff(), false}, {-__builtin_inff(), false}, {__builtin_nanf(""), false}, {0x1p-149f, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memcpy(payload + bytes - 4, &cases[i].value, 4); /* f32: the last value, little-endian */
        enum status status = commit_maker_check(maker, 0, payload, bytes);
        assert_int_equal(status == STATUS_OK, cases[i].good);
        assert_true(cases[i].good || status == STATUS_DATA || status == STATUS_NOT_FINITE);
    }
    test_free(values), test_free(payload);
    fixture_close(&fixture);
}

/* 64 workers at the bound, with 2^48 tokens each: the sum and the state stay finite. */
static void the_bound_keeps_the_sum_finite(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture, "f32", "nesterov", true);
    size_t count = fixture.fragments.list[0].count, bytes = outer_copy_payload_up(&fixture.copy, 0);
    float *values = test_malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = 0x1p60f;
    struct commit_part parts[MESSAGE_WORKERS_MAX];
    for (int i = 0; i < MESSAGE_WORKERS_MAX; i++)
        parts[i] = (struct commit_part){(const uint8_t *)values, bytes, ((uint64_t)1 << 48) - 1};
    assert_int_equal(commit_maker_check(&fixture.maker, 0, parts[0].payload, bytes), STATUS_OK);
    uint8_t *payload = test_malloc(bytes);
    struct state_hash hash;
    commit_maker_make(&fixture.maker, 0, parts, MESSAGE_WORKERS_MAX, payload, &hash);
    for (size_t i = 0; i < count; i++)
        assert_true(fixture.copy.g[i] > -0x1p62f && fixture.copy.g[i] < 0x1p62f);
    test_free(values), test_free(payload);
    fixture_close(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(e3m0_with_residual),
        cmocka_unit_test(e3m0_without_residual),
        cmocka_unit_test(f32_leaves_nothing_out),
        cmocka_unit_test(int8_with_residual),
        cmocka_unit_test(other_fragments_are_not_touched),
        cmocka_unit_test(hostile_payloads_are_refused),
        cmocka_unit_test(the_bound_keeps_the_sum_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
