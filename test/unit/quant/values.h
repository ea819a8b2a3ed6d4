/* values: inputs that the codec tests share: random values of many sizes, extremes, and the comparison of fast and _ref. */
#ifndef ATOLL_TEST_UNIT_QUANT_VALUES_H
#define ATOLL_TEST_UNIT_QUANT_VALUES_H

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "quant/codec.h"

static inline uint64_t values_u64(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline float values_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t values_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float values_normal(uint64_t *state) {
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += (double)(values_u64(state) >> 11) * 0x1p-53;
    return (float)(sum - 6);
}

enum values_kind {
    VALUES_NORMAL,    /* N(0, 1e-3) */
    VALUES_ANY_BITS,  /* any finite magnitude up to 2^127, any exponent: most values vanish beside the largest */
    VALUES_OCTAVES,   /* random mantissa, exponent within 9 octaves, mantissas often 0 or one half: ties */
    VALUES_SUBNORMAL, /* every value below 2^-126 */
    VALUES_MIXED,     /* zeros, -0, subnormals, tiny and ordinary ones */
    VALUES_EDGE,      /* magnitudes around 2^-100, where zero blocks begin */
    VALUES_HUGE,      /* magnitudes up to 2^127 */
    VALUES_KIND_COUNT,
};

static inline float values_draw(uint64_t *state, enum values_kind kind) {
    uint64_t r = values_u64(state);
    uint32_t sign = (uint32_t)(r >> 63) << 31, mantissa = (uint32_t)r & 0x7fffff, pick = (uint32_t)(r >> 32) & 0xffff;
    switch (kind) {
    case VALUES_NORMAL:
        return 1e-3f * values_normal(state);
    case VALUES_ANY_BITS:
        return values_from_bits(sign | (pick % 254) << 23 | mantissa);
    case VALUES_OCTAVES: {
        static const uint32_t tie[4] = {0, 0x400000, 0x400001, 0x3fffff};
        return values_from_bits(sign | (120 + pick % 9) << 23 | (pick & 0x1000 ? tie[pick >> 13 & 3] : mantissa));
    }
    case VALUES_SUBNORMAL:
        return values_from_bits(sign | mantissa);
    case VALUES_MIXED:
        if (pick % 5 == 0)
            return values_from_bits(sign);
        return pick % 5 == 1 ? values_from_bits(sign | mantissa) : pick % 5 == 2 ? 1e-20f : values_normal(state);
    case VALUES_EDGE:
        return values_from_bits(sign | (25 + pick % 3) << 23 | (pick & 0x100 ? mantissa : 0));
    default:
        return values_from_bits(sign | (pick % 7 == 0 ? 254u << 23 : (253 - pick % 20) << 23 | mantissa));
    }
}

/* Fast and _ref agree bit for bit, in both directions, at every count from 1 to 600 and for every kind of value; dst is unaligned
 * and fenced. */
static inline void values_check_fast_against_ref(const struct codec *codec) {
    enum { COUNT_MAX = 600, FENCE = 16 };
    static float src[COUNT_MAX], fast_out[COUNT_MAX + 1], ref_out[COUNT_MAX + 1];
    uint64_t state = 7;
    for (size_t count = 1; count <= COUNT_MAX; count++)
        for (int kind = 0; kind < VALUES_KIND_COUNT; kind++) {
            size_t bytes = codec->bytes(count);
            uint8_t *fast = malloc(1 + bytes + FENCE), *ref = malloc(1 + bytes + FENCE);
            memset(fast, 0xa5, 1 + bytes + FENCE);
            memset(ref, 0xa5, 1 + bytes + FENCE);
            for (size_t i = 0; i < count; i++)
                src[i] = values_draw(&state, (enum values_kind)kind);
            fast_out[count] = ref_out[count] = 42;
            assert_int_equal(codec->encode_ref(src, count, ref + 1), STATUS_OK);
            assert_int_equal(codec->encode(src, count, fast + 1), STATUS_OK);
            assert_memory_equal(fast, ref, 1 + bytes + FENCE);
            assert_int_equal(fast[1 + bytes], 0xa5);
            assert_int_equal(codec->decode_ref(ref + 1, count, ref_out), STATUS_OK);
            assert_int_equal(codec->decode(ref + 1, count, fast_out), STATUS_OK);
            assert_memory_equal(fast_out, ref_out, (count + 1) * sizeof(float));
            /* What decode gives, encode gives back: the payload of a decoded payload is itself at most rescaled. */
            for (size_t i = 0; i < count; i++)
                assert_true(isfinite(fast_out[i]));
            free(fast);
            free(ref);
        }
}

/* encode_fed and decode_add against _ref and single rounded operations, at every count and kind; fenced, aside and in place. */
static inline void values_check_passes_against_ref(const struct codec *codec) {
    enum { COUNT_MAX = 600 };
    static float difference[COUNT_MAX], residual[COUNT_MAX], in_place[COUNT_MAX + 1], left_out[COUNT_MAX + 1];
    static float x[COUNT_MAX], decoded[COUNT_MAX], expected[COUNT_MAX], sum[COUNT_MAX + 1];
    static uint8_t fast[4 * COUNT_MAX + 2], ref[4 * COUNT_MAX];
    const float weight = 12345.678f;
    uint64_t state = 13;
    for (size_t count = 1; count <= COUNT_MAX; count++)
        for (int kind = 0; kind < VALUES_KIND_COUNT; kind++) {
            size_t bytes = codec->bytes(count);
            for (size_t i = 0; i < count; i++) {
                difference[i] = values_draw(&state, (enum values_kind)kind);
                residual[i] = in_place[i] = 0.25f * values_draw(&state, (enum values_kind)kind);
                volatile float both = difference[i] + residual[i];
                x[i] = both;
            }
            left_out[count] = in_place[count] = sum[count] = 42;
            fast[1 + bytes] = 0xa5;
            enum status status = codec->encode_ref(x, count, ref); /* refuses what the sum carries beyond the range */
            assert_int_equal(codec->encode_fed(difference, residual, count, fast + 1, left_out), status);
            assert_int_equal(codec->encode_fed(difference, in_place, count, fast + 1, in_place), status);
            if (status != STATUS_OK)
                continue;
            assert_memory_equal(fast + 1, ref, bytes);
            assert_int_equal(fast[1 + bytes], 0xa5);
            assert_int_equal(codec->decode_ref(ref, count, decoded), STATUS_OK);
            for (size_t i = 0; i < count; i++) {
                volatile float left = x[i] - decoded[i];
                expected[i] = left;
                assert_true(!codec->exact || values_to_bits(left) == 0);
            }
            assert_memory_equal(left_out, expected, count * sizeof(float));
            assert_memory_equal(in_place, expected, count * sizeof(float));
            for (size_t i = 0; i < count; i++) {
                sum[i] = difference[i];
                volatile float product = weight * decoded[i], added = sum[i] + product;
                expected[i] = added;
            }
            assert_int_equal(codec->decode_add(fast + 1, count, weight, sum), STATUS_OK);
            assert_memory_equal(sum, expected, count * sizeof(float));
            assert_true(left_out[count] == 42 && in_place[count] == 42 && sum[count] == 42);
        }
}

/* Fast and _ref give the same verdict, and the same floats, on payloads of random bytes and on valid ones with one byte changed. */
static inline void values_check_hostile(const struct codec *codec, int rounds) {
    enum { COUNT_MAX = 300 };
    static float src[COUNT_MAX], fast_out[COUNT_MAX], ref_out[COUNT_MAX];
    uint64_t state = 99;
    int refused = 0, accepted = 0;
    for (int round = 0; round < rounds; round++) {
        size_t count = 1 + values_u64(&state) % COUNT_MAX, bytes = codec->bytes(count);
        uint8_t *payload = malloc(bytes); /* exact, so that the sanitizer sees a read past the end */
        for (size_t i = 0; i < count; i++)
            src[i] = values_draw(&state, VALUES_NORMAL);
        assert_int_equal(codec->encode(src, count, payload), STATUS_OK);
        if (round % 2 == 0)
            payload[values_u64(&state) % bytes] = (uint8_t)values_u64(&state);
        else
            for (size_t i = 0; i < bytes; i++)
                payload[i] = (uint8_t)values_u64(&state);
        enum status verdict = codec->decode_ref(payload, count, ref_out);
        assert_int_equal(codec->decode(payload, count, fast_out), verdict);
        assert_int_equal(codec->decode_add(payload, count, 0, src), verdict);
        if (verdict == STATUS_OK) {
            accepted++;
            assert_memory_equal(fast_out, ref_out, count * sizeof(float));
            for (size_t i = 0; i < count; i++)
                assert_true(isfinite(fast_out[i]));
        } else {
            refused++;
            assert_int_equal(verdict, STATUS_DATA);
        }
        free(payload);
    }
    assert_true(refused > 0 && accepted > 0);
}

/* NaN and infinity are refused wherever they stand. */
static inline void values_check_not_finite(const struct codec *codec) {
    enum { COUNT = 300 };
    static const uint32_t bad[] = {0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7f800001, 0x7fffffff, 0xffffffff};
    float src[COUNT];
    uint8_t payload[4 * COUNT];
    for (size_t b = 0; b < sizeof bad / sizeof *bad; b++)
        for (size_t at = 0; at < COUNT; at++) {
            for (size_t i = 0; i < COUNT; i++)
                src[i] = 1e-3f;
            src[at] = values_from_bits(bad[b]);
            assert_int_equal(codec->encode(src, COUNT, payload), STATUS_NOT_FINITE);
            assert_int_equal(codec->encode_ref(src, COUNT, payload), STATUS_NOT_FINITE);
        }
}

/* Relative rms error of encode and decode over `count` values N(0, 1e-3). */
static inline double values_relative_rms(const struct codec *codec, size_t count) {
    float *src = malloc(count * sizeof *src), *out = malloc(count * sizeof *out);
    uint8_t *payload = malloc(codec->bytes(count));
    double error = 0, total = 0;
    uint64_t state = 5;
    for (size_t i = 0; i < count; i++)
        src[i] = values_draw(&state, VALUES_NORMAL);
    assert_int_equal(codec->encode(src, count, payload), STATUS_OK);
    assert_int_equal(codec->decode(payload, count, out), STATUS_OK);
    for (size_t i = 0; i < count; i++) {
        double difference = (double)src[i] - (double)out[i];
        error += difference * difference;
        total += (double)src[i] * (double)src[i];
    }
    free(src);
    free(out);
    free(payload);
    return sqrt(error / total);
}

#endif
