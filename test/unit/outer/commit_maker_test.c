/* commit_maker: against scalar loops whose every step goes through memory, and hostile payloads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
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
        double norm = -1;
        assert_int_equal(commit_maker_check(&fixture->maker, f, parts[i].payload, bytes, &norm), STATUS_OK);
        assert_true(norm == mean_norm(q[i], fragment->count));
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
    if (fixture->maker.error_feedback)
        assert_memory_equal(fixture->maker.residual + at, expected->residual, fragment->count * sizeof(float));
    assert_true(fixture->maker.error_feedback == (feedback && !fixture->copy.codec_down->exact));
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
    double norm;
    assert_int_equal(commit_maker_check(maker, 0, payload, bytes, &norm), STATUS_OK);
    norm = -1;
    assert_int_equal(commit_maker_check(maker, 0, payload, bytes - 4, &norm), STATUS_DATA);
    assert_int_equal(commit_maker_check(maker, 1, payload, bytes + 4, &norm), STATUS_DATA);
    static const struct {
        float value;
        bool good;
    } cases[] = {
        {0x1p60f, true},           {-0x1p60f, true},           {0x1.000002p60f, false},     {-0x1.000002p60f, false},
        {__builtin_inff(), false}, {-__builtin_inff(), false}, {__builtin_nanf(""), false}, {0x1p-149f, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memcpy(payload + bytes - 4, &cases[i].value, 4); /* f32: the last value, little-endian */
        norm = -1;
        enum status status = commit_maker_check(maker, 0, payload, bytes, &norm);
        assert_int_equal(status == STATUS_OK, cases[i].good);
        assert_true(cases[i].good || status == STATUS_DATA || status == STATUS_NOT_FINITE);
        assert_true(cases[i].good ? norm >= fabs((double)cases[i].value) : norm == -1);
    }
    test_free(values), test_free(payload);
    fixture_close(&fixture);
}

/* 64 workers at the bound, with 2^48 tokens each: the sum and the state stay finite, by every rule. */
static void the_bound_keeps_the_sum_finite(void **state) {
    (void)state;
    for (enum outer_aggregate rule = OUTER_MEAN; rule <= OUTER_TRIMMED; rule++) {
        struct fixture fixture;
        fixture_open_rule(&fixture, "f32", "nesterov", true, rule);
        size_t count = fixture.fragments.list[0].count, bytes = outer_copy_payload_up(&fixture.copy, 0);
        float *values = test_malloc(count * sizeof *values);
        for (size_t i = 0; i < count; i++)
            values[i] = 0x1p60f;
        struct commit_part parts[MESSAGE_WORKERS_MAX];
        for (int i = 0; i < MESSAGE_WORKERS_MAX; i++)
            parts[i] = (struct commit_part){(const uint8_t *)values, bytes, ((uint64_t)1 << 48) - 1};
        double norm;
        assert_int_equal(commit_maker_check(&fixture.maker, 0, parts[0].payload, bytes, &norm), STATUS_OK);
        uint8_t *payload = test_malloc(bytes);
        struct state_hash hash;
        commit_maker_make(&fixture.maker, 0, parts, MESSAGE_WORKERS_MAX, payload, &hash);
        for (size_t i = 0; i < count; i++)
            assert_true(fixture.copy.g[i] > -0x1p62f && fixture.copy.g[i] < 0x1p62f);
        test_free(values), test_free(payload);
        fixture_close(&fixture);
    }
}

/* ---- the rules other than the mean ---- */

enum { BAD = 2, RULE_PARTS = 5 }; /* one of five is 10^6 times as large */

struct ruled {
    struct fixture fixture;
    struct commit_part parts[RULE_PARTS];
    float *q[RULE_PARTS]; /* decoded */
    size_t count, bytes;
    int fragment;
};

/* sgd without feedback: g - g' = 0.4 * decode(Q(D)), so that D shows. */
static void ruled_open(struct ruled *ruled, const char *codec, enum outer_aggregate rule, int f) {
    static const uint64_t tokens[RULE_PARTS] = {4096, 1000, 3000, 4096, 777};
    struct fixture *fixture = &ruled->fixture;
    fixture_open_rule(fixture, codec, "sgd", false, rule);
    const struct fragment *fragment = &fixture->fragments.list[f];
    ruled->fragment = f;
    ruled->count = fragment->count;
    ruled->bytes = outer_copy_payload_up(&fixture->copy, f);
    for (int i = 0; i < RULE_PARTS; i++) {
        ruled->q[i] = test_malloc(fragment->count * sizeof(float));
        uint8_t *payload = fixture_payload(fixture, f, (uint64_t)i, ruled->q[i]);
        if (i == BAD) {
            for (size_t j = 0; j < fragment->count; j++)
                ruled->q[i][j] *= 1e6f;
            assert_int_equal(
                codec_encode_spans(fixture->copy.codec_up, fragment->spans, fragment->span_count, ruled->q[i], payload),
                STATUS_OK);
            assert_int_equal(codec_decode_spans(fixture->copy.codec_up, fragment->spans, fragment->span_count, payload,
                                                ruled->bytes, ruled->q[i]),
                             STATUS_OK);
        }
        ruled->parts[i] = (struct commit_part){payload, ruled->bytes, tokens[i]};
    }
}

static void ruled_close(struct ruled *ruled) {
    for (int i = 0; i < RULE_PARTS; i++) {
        test_free((void *)(uintptr_t)ruled->parts[i].payload);
        test_free(ruled->q[i]);
    }
    fixture_close(&ruled->fixture);
}

/* The commit's payload is Q(D) for this D (and the copy follows it, as the rounds above show). */
static void make_gives(struct ruled *ruled, const float *D) {
    const struct fragment *fragment = &ruled->fixture.fragments.list[ruled->fragment];
    size_t bytes = outer_copy_payload_down(&ruled->fixture.copy, ruled->fragment);
    uint8_t *payload = test_malloc(bytes), *wanted = test_malloc(bytes);
    struct state_hash hash;
    commit_maker_make(&ruled->fixture.maker, ruled->fragment, ruled->parts, RULE_PARTS, payload, &hash);
    assert_int_equal(
        codec_encode_spans(ruled->fixture.copy.codec_down, fragment->spans, fragment->span_count, D, wanted),
        STATUS_OK);
    assert_memory_equal(payload, wanted, bytes);
    test_free(payload), test_free(wanted);
}

/* mean.h, value by value. Five norms of which one is wild: M is that of a sound one. */
static void clip_scalar(const struct ruled *ruled, bool without_bad, float *D, double *median) {
    double norms[RULE_PARTS];
    uint64_t total = 0;
    for (int i = 0; i < RULE_PARTS; i++) {
        norms[i] = mean_norm(ruled->q[i], ruled->count);
        total += ruled->parts[i].tokens;
    }
    *median = 0;
    for (int i = 0; i < RULE_PARTS; i++) { /* the smallest norm that has half of the tokens at or below it */
        uint64_t up_to = 0;
        for (int j = 0; j < RULE_PARTS; j++)
            up_to += norms[j] <= norms[i] ? ruled->parts[j].tokens : 0;
        if (2 * up_to >= total && (*median == 0 || norms[i] < *median))
            *median = norms[i];
    }
    for (size_t c = 0; c < ruled->count; c++) {
        volatile float acc = 0, product, weight;
        for (int i = 0; i < RULE_PARTS; i++) {
            weight = (float)ruled->parts[i].tokens;
            if (norms[i] > *median)
                weight = weight * (float)(*median / norms[i]);
            product = weight * (without_bad && i == BAD ? 0 : ruled->q[i][c]);
            acc = acc + product;
        }
        volatile float inverse = (float)(1.0 / (double)total);
        D[c] = acc * inverse;
    }
}

static double distance(const float *a, const float *b, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum);
}

/* One island of 10^6 times the norm moves the result by M times its share of the tokens, and not more. */
static void clipped(void **state) {
    (void)state;
    static const char *const codecs[] = {"f32", "e3m0", "int4"};
    for (int c = 0; c < 3; c++)
        for (int f = 0; f < 3; f++) {
            struct ruled ruled;
            ruled_open(&ruled, codecs[c], OUTER_CLIPPED, f);
            float *D = test_malloc(ruled.count * sizeof *D), *without = test_malloc(ruled.count * sizeof *without);
            double median, share = 3000.0 / (4096 + 1000 + 3000 + 4096 + 777);
            clip_scalar(&ruled, true, without, &median);
            clip_scalar(&ruled, false, D, &median);
            assert_true(distance(D, without, ruled.count) <= share * median * (1 + 1e-5));
            assert_true(mean_norm(D, ruled.count) <= median * (1 + 1e-5));
            for (int i = 0; i < RULE_PARTS; i++)
                if (i != BAD)
                    assert_true(median <= 2 * mean_norm(ruled.q[i], ruled.count));
            make_gives(&ruled, D);
            test_free(D), test_free(without);
            ruled_close(&ruled);
        }
}

static int compare_floats(const void *left, const void *right) {
    const float *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

/* Parts of equal tokens, so that ties need no rule: each coordinate is the mean of the middle three of five. Whole contributions are
 * decoded here, pieces there: fragments hold tensors longer than a piece, shorter ones, and ends of pieces. */
static void trimmed(void **state) {
    (void)state;
    static const char *const codecs[] = {"f32", "bf16", "int8", "int4", "e3m0"};
    for (int c = 0; c < 5; c++)
        for (int f = 0; f < 3; f++) {
            struct ruled ruled;
            ruled_open(&ruled, codecs[c], OUTER_TRIMMED, f);
            float *D = test_malloc(ruled.count * sizeof *D);
            for (int i = 0; i < RULE_PARTS; i++)
                ruled.parts[i].tokens = 4096;
            for (size_t at = 0; at < ruled.count; at++) {
                float column[RULE_PARTS];
                for (int i = 0; i < RULE_PARTS; i++)
                    column[i] = ruled.q[i][at];
                qsort(column, RULE_PARTS, sizeof *column, compare_floats);
                double sum = 0; /* exact: three products of a 24-bit value and 2^12 */
                for (int i = 1; i < RULE_PARTS - 1; i++)
                    sum += 4096.0 * (double)column[i];
                D[at] = (float)(sum / (3 * 4096.0));
                assert_true(D[at] >= column[0] && D[at] <= column[RULE_PARTS - 1]);
                assert_true(fabsf(D[at]) < 0.01f); /* 1e-3 times a normal value; the wild one has 1e3 */
            }
            make_gives(&ruled, D);
            test_free(D);
            ruled_close(&ruled);
        }
}

/* The plain mean is carried away by it: what the two rules are for. */
static void the_mean_is_carried_away(void **state) {
    (void)state;
    struct ruled ruled;
    ruled_open(&ruled, "f32", OUTER_MEAN, 0);
    float *before = test_malloc(ruled.count * sizeof *before);
    memcpy(before, ruled.fixture.copy.g, ruled.count * sizeof *before);
    uint8_t *payload = test_malloc(ruled.bytes);
    struct state_hash hash;
    commit_maker_make(&ruled.fixture.maker, 0, ruled.parts, RULE_PARTS, payload, &hash);
    assert_true(distance(before, ruled.fixture.copy.g, ruled.count) > 1e4 * mean_norm(ruled.q[0], ruled.count));
    test_free(before), test_free(payload);
    ruled_close(&ruled);
}

static struct state_hash state_after(enum outer_aggregate rule, bool negated, int parts) {
    struct fixture fixture;
    fixture_open_rule(&fixture, "f32", "nesterov", true, rule);
    size_t bytes = outer_copy_payload_up(&fixture.copy, 2);
    float *values = test_malloc(bytes);
    uint8_t *made = test_malloc(bytes);
    struct commit_part part[3];
    for (int i = 0; i < parts; i++) {
        uint8_t *payload = fixture_payload(&fixture, 2, negated ? 1 : (uint64_t)i, values);
        for (size_t j = 0; negated && i == 1 && j < bytes; j += 4)
            payload[j + 3] ^= 0x80; /* f32's sign */
        part[i] = (struct commit_part){payload, bytes, 1000 + 77 * (uint64_t)i};
    }
    struct state_hash hash;
    commit_maker_make(&fixture.maker, 2, part, parts, made, &hash);
    for (int i = 0; i < parts; i++)
        test_free((void *)(uintptr_t)part[i].payload);
    test_free(values), test_free(made);
    fixture_close(&fixture);
    return hash;
}

/* Equal norms (a value and its opposite): clipped is the mean, to the bit. Two parts or one: trimmed is the mean, to the bit. */
static void rules_that_have_nothing_to_do_are_the_mean(void **state) {
    (void)state;
    struct state_hash mean = state_after(OUTER_MEAN, true, 3), other = state_after(OUTER_CLIPPED, true, 3);
    assert_true(state_hash_equal(&mean, &other));
    for (int parts = 1; parts <= 2; parts++) {
        mean = state_after(OUTER_MEAN, false, parts), other = state_after(OUTER_TRIMMED, false, parts);
        assert_true(state_hash_equal(&mean, &other));
    }
    mean = state_after(OUTER_MEAN, false, 3), other = state_after(OUTER_TRIMMED, false, 3);
    assert_false(state_hash_equal(&mean, &other));
    other = state_after(OUTER_CLIPPED, false, 3);
    assert_false(state_hash_equal(&mean, &other));
}

static void memory_is_what_was_predicted(void **state) {
    (void)state;
    size_t bytes[3];
    for (enum outer_aggregate rule = OUTER_MEAN; rule <= OUTER_TRIMMED; rule++) {
        struct fixture fixture;
        fixture_open_rule(&fixture, "e3m0", "sgd", true, rule);
        bytes[rule] = commit_maker_bytes(&fixture.fragments, rule);
        assert_int_equal(fixture.maker.arena.capacity_bytes, bytes[rule]);
        assert_int_equal(fixture.maker.arena.used_bytes, bytes[rule]);
        assert_true(bytes[rule] >= fixture.copy.packed_floats * sizeof(float));
        fixture_close(&fixture);
    }
    assert_int_equal(bytes[OUTER_CLIPPED], bytes[OUTER_MEAN]);
    assert_int_equal(bytes[OUTER_TRIMMED], bytes[OUTER_MEAN] + (128 << 10));
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
        cmocka_unit_test(clipped),
        cmocka_unit_test(trimmed),
        cmocka_unit_test(the_mean_is_carried_away),
        cmocka_unit_test(rules_that_have_nothing_to_do_are_the_mean),
        cmocka_unit_test(memory_is_what_was_predicted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
