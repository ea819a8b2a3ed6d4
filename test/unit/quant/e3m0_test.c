/* e3m0: every code, nearest and ties against an independent search, golden bytes, budget, hostile payloads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "quant/e3m0.h"
#include "unit/quant/values.h"

static const double MAGNITUDES[8] = {0, .25, .5, 1, 2, 4, 8, 16};

static void fast_equals_ref(void **state) {
    (void)state;
    values_check_fast_against_ref(codec_get(CODEC_E3M0));
    values_check_passes_against_ref(codec_get(CODEC_E3M0));
}

static void not_finite_is_refused(void **state) {
    (void)state;
    values_check_not_finite(codec_get(CODEC_E3M0));
}

static void hostile_payloads(void **state) {
    (void)state;
    values_check_hostile(codec_get(CODEC_E3M0), 20000);
}

/* All scale bytes times all nibbles, at both places of a byte. */
static void every_code(void **state) {
    (void)state;
    for (unsigned scale = 0; scale < 256; scale++)
        for (unsigned code = 0; code < 16; code++)
            for (int place = 0; place < 2; place++) {
                uint8_t payload[2] = {(uint8_t)scale, (uint8_t)(code << 4 * place)};
                float out[2] = {-1, -1};
                bool valid = scale == 0 ? code == 0 : scale >= 23 && scale <= 250 && code != 8;
                assert_int_equal(e3m0_decode(payload, 2, out), valid ? STATUS_OK : STATUS_DATA);
                assert_int_equal(e3m0_decode_ref(payload, 2, out), valid ? STATUS_OK : STATUS_DATA);
                if (!valid)
                    continue;
                double expected = (code & 8 ? -1 : 1) * MAGNITUDES[code & 7] * ldexp(1, (int)scale - 127);
                assert_true((double)out[place] == expected);
                assert_int_equal(values_to_bits(out[1 - place]), 0);
                /* An odd count owns the low half only; the high half must be zero. */
                assert_int_equal(e3m0_decode(payload, 1, out), place == 1 && code != 0 ? STATUS_DATA : STATUS_OK);
            }
}

static unsigned nearest_code(double magnitude, double s) {
    unsigned best = 0;
    for (unsigned code = 1; code < 8; code++) {
        double here = fabs(magnitude - MAGNITUDES[code] * s), there = fabs(magnitude - MAGNITUDES[best] * s);
        if (here < there || (here == there && code % 2 == 0))
            best = code;
    }
    return best;
}

/* Encode a block whose first value pins the scale at s, and compare each code with the nearest by search. */
static void check_block(const float values[E3M0_BLOCK], int exponent) {
    double s = ldexp(1, exponent);
    uint8_t payload[1 + E3M0_BLOCK / 2];
    assert_int_equal(e3m0_encode(values, E3M0_BLOCK, payload), STATUS_OK);
    assert_int_equal(payload[0], exponent + 127);
    for (int i = 0; i < E3M0_BLOCK; i++) {
        unsigned code = payload[1 + i / 2] >> (i % 2 * 4) & 15;
        unsigned expected = nearest_code(fabs((double)values[i]), s);
        if (values[i] < 0 && expected != 0)
            expected |= 8;
        if (code != expected)
            fail_msg("x %a s 2^%d: code %u, expected %u", (double)values[i], exponent, code, expected);
    }
}

static void nearest_on_a_dense_grid(void **state) {
    (void)state;
    static const int exponents[] = {-104, -60, -13, -12, 0, 40, 123};
    for (size_t e = 0; e < sizeof exponents / sizeof *exponents; e++) {
        float block[E3M0_BLOCK] = {(float)ldexp(16, exponents[e])};
        uint32_t top = values_to_bits(block[0]);
        int filled = 1;
        for (uint32_t bits = 0; bits <= top; bits += 1531) {
            block[filled++] = values_from_bits(bits | (bits & 1) << 31);
            if (filled == E3M0_BLOCK) {
                check_block(block, exponents[e]);
                filled = 1;
            }
        }
        /* 64 bit patterns on either side of every midpoint and every magnitude. */
        for (int code = 0; code < 8; code++)
            for (int half = 0; half < 2; half++)
                for (uint32_t sign = 0; sign < 2; sign++) {
                    double upper = MAGNITUDES[code + (code < 7 && half)];
                    uint32_t centre = values_to_bits((float)ldexp((MAGNITUDES[code] + upper) / 2, exponents[e]));
                    for (int i = 1; i < E3M0_BLOCK; i++) {
                        int64_t bits = (int64_t)centre + i - 64;
                        bits = bits < 0 ? 0 : bits > top ? top : bits;
                        block[i] = values_from_bits((uint32_t)bits | sign << 31);
                    }
                    check_block(block, exponents[e]);
                }
    }
}

/* The scale is the smallest power of two with absmax <= 16 s; blocks below 2^-100 are zero, above 2^127 refused. */
static void scale_of_the_largest(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x7f800000;
         bits += (bits & 0x7fffff) < 3 || (bits & 0x7fffff) > 0x7ffffd ? 1 : 0x3ffffd) {
        float value = -values_from_bits(bits);
        uint8_t payload[2];
        enum status verdict = e3m0_encode(&value, 1, payload);
        if (bits > 0x7f000000) {
            assert_int_equal(verdict, STATUS_NOT_FINITE);
            continue;
        }
        assert_int_equal(verdict, STATUS_OK);
        double magnitude = (double)values_from_bits(bits);
        if (magnitude < 0x1p-100) {
            assert_int_equal(payload[0], 0);
            assert_int_equal(payload[1], 0);
            continue;
        }
        double s = ldexp(1, payload[0] - 127);
        assert_true(magnitude <= 16 * s && magnitude > 8 * s);
    }
}

static void minus_zero_becomes_zero(void **state) {
    (void)state;
    static const float src[4] = {-0.0f, 1, -0x1p-149f,
                                 -0x1p-8f}; /* s = 2^-4; the last is half the smallest magnitude: ties to 0 */
    uint8_t payload[3];
    float out[4];
    assert_int_equal(e3m0_encode(src, 4, payload), STATUS_OK);
    assert_int_equal(e3m0_decode(payload, 4, out), STATUS_OK);
    assert_int_equal(values_to_bits(out[0]), 0);
    assert_int_equal(values_to_bits(out[2]), 0);
    assert_int_equal(values_to_bits(out[3]), 0);
}

static void golden_bytes(void **state) {
    (void)state;
    /* absmax 12: s = 1. Codes: 12 -> 6 (tie), -3 -> 4|8 (tie), .3 -> 1, -.126 -> 1|8, .125 -> 0 (tie), 6.5 -> 6, -1 -> 3|8. */
    static const float src[7] = {12, -3, 0.3f, -0.126f, 0.125f, 6.5f, -1};
    static const uint8_t expected[5] = {127, 0xc6, 0x91, 0x60, 0x0b};
    uint8_t payload[5];
    assert_int_equal(e3m0_bytes(7), 5);
    assert_int_equal(e3m0_encode(src, 7, payload), STATUS_OK);
    assert_memory_equal(payload, expected, 5);
    assert_int_equal(e3m0_encode_ref(src, 7, payload), STATUS_OK);
    assert_memory_equal(payload, expected, 5);
}

/* |error| <= max(|x| / 3, s / 8) and <= absmax / 3; met at x = 12 s. */
static void error_budget(void **state) {
    (void)state;
    uint64_t random = 3;
    float src[E3M0_BLOCK], out[E3M0_BLOCK];
    uint8_t payload[1 + E3M0_BLOCK / 2];
    double worst = 0;
    for (int round = 0; round < 4000; round++) {
        double absmax = 0;
        for (int i = 0; i < E3M0_BLOCK; i++) {
            src[i] = values_draw(&random, round % 2 ? VALUES_NORMAL : VALUES_OCTAVES);
            absmax = fmax(absmax, fabs((double)src[i]));
        }
        assert_int_equal(e3m0_encode(src, E3M0_BLOCK, payload), STATUS_OK);
        assert_int_equal(e3m0_decode(payload, E3M0_BLOCK, out), STATUS_OK);
        double s = ldexp(1, payload[0] - 127);
        for (int i = 0; i < E3M0_BLOCK; i++) {
            double error = fabs((double)src[i] - (double)out[i]);
            assert_true(error <= fmax(fabs((double)src[i]) / 3, s / 8));
            assert_true(error <= absmax / 3);
            worst = fmax(worst, error / absmax);
        }
    }
    assert_true(worst > 0.32);
    static const float tight[1] = {12};
    assert_int_equal(e3m0_encode(tight, 1, payload), STATUS_OK);
    assert_int_equal(e3m0_decode(payload, 1, out), STATUS_OK);
    assert_true(out[0] == 8); /* 4 off, a third of 12 */
    double rms = values_relative_rms(codec_get(CODEC_E3M0), 1 << 18);
    assert_true(rms > 0.189 && rms < 0.196);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fast_equals_ref),
        cmocka_unit_test(not_finite_is_refused),
        cmocka_unit_test(hostile_payloads),
        cmocka_unit_test(every_code),
        cmocka_unit_test(nearest_on_a_dense_grid),
        cmocka_unit_test(scale_of_the_largest),
        cmocka_unit_test(minus_zero_becomes_zero),
        cmocka_unit_test(golden_bytes),
        cmocka_unit_test(error_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
