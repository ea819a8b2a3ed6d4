/* integer: int8 and int4, every code and scale, rounding, budget, golden bytes, hostile payloads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "quant/integer.h"
#include "unit/quant/values.h"

static void fast_equals_ref(void **state) {
    (void)state;
    values_check_fast_against_ref(codec_get(CODEC_INT8));
    values_check_passes_against_ref(codec_get(CODEC_INT8));
    values_check_fast_against_ref(codec_get(CODEC_INT4));
    values_check_passes_against_ref(codec_get(CODEC_INT4));
}

static void not_finite_is_refused(void **state) {
    (void)state;
    values_check_not_finite(codec_get(CODEC_INT8));
    values_check_not_finite(codec_get(CODEC_INT4));
}

static void hostile_payloads(void **state) {
    (void)state;
    values_check_hostile(codec_get(CODEC_INT8), 20000);
    values_check_hostile(codec_get(CODEC_INT4), 20000);
}

/* All codes at all 2^16 scales: a valid one decodes to the exact product. */
static void every_scale_and_code(void **state) {
    (void)state;
    float out[2];
    for (uint32_t scale = 0; scale < 0x10000; scale++) {
        double s = (double)values_from_bits(scale << 16);
        /* The scales of absmax 2^-100 and 2^127, both rounded up to a bf16. 1/127 = 1.00000010.. * 2^-7; 1/7 = 1.00100100|1.. * 2^-3 */
        bool valid8 = scale == 0 || (s >= ldexp(1 + 2.0 / 128, -107) && s <= ldexp(1 + 2.0 / 128, 120));
        bool valid4 = scale == 0 || (s >= ldexp(1 + 19.0 / 128, -103) && s <= ldexp(1 + 19.0 / 128, 124));
        for (int code = -128; code < 128; code++) {
            uint8_t payload[3] = {(uint8_t)scale, (uint8_t)(scale >> 8), (uint8_t)(code & 0xff)};
            bool valid = valid8 && code != -128 && (scale != 0 || code == 0);
            enum status verdict = int8_decode(payload, 1, out);
            if (verdict != (valid ? STATUS_OK : STATUS_DATA))
                fail_msg("int8 scale %04x code %d: status %d", scale, code, (int)verdict);
            assert_true(!valid || (double)out[0] == code * s);
        }
        for (int code = -8; code < 8; code++)
            for (int place = 0; place < 2; place++) {
                uint8_t payload[3] = {(uint8_t)scale, (uint8_t)(scale >> 8), (uint8_t)((code & 15) << 4 * place)};
                bool valid = valid4 && code != -8 && (scale != 0 || code == 0);
                enum status verdict = int4_decode(payload, 2, out);
                if (verdict != (valid ? STATUS_OK : STATUS_DATA))
                    fail_msg("int4 scale %04x code %d: status %d", scale, code, (int)verdict);
                assert_true(!valid || ((double)out[place] == code * s && out[1 - place] == 0));
            }
    }
}

/* With absmax = levels the scale is 1: codes are integers nearest to the value, ties to even. */
static void rounds_to_nearest_even(void **state) {
    (void)state;
    for (int quarter = -4 * 127; quarter <= 4 * 127; quarter++)
        for (int nudge = -1; nudge <= 1; nudge++) {
            double x = quarter / 4.0 * (1 + nudge * 0x1p-22);
            if (fabs(x) > 127)
                continue;
            float src[2] = {127, (float)x};
            uint8_t payload[4];
            assert_int_equal(int8_encode(src, 2, payload), STATUS_OK);
            assert_int_equal(payload[0] | payload[1] << 8, 0x3f80);
            assert_int_equal((int8_t)payload[3], (int)nearbyint((double)src[1]));
            if (fabs(x) > 7)
                continue;
            src[0] = 7;
            assert_int_equal(int4_encode(src, 2, payload), STATUS_OK);
            assert_int_equal(payload[0] | payload[1] << 8, 0x3f80);
            int nibble = payload[2] >> 4;
            assert_int_equal(nibble > 7 ? nibble - 16 : nibble, (int)nearbyint((double)src[1]));
        }
}

/* Every scale is the smallest bf16 not below fl(absmax / levels); the largest value keeps the top code. */
static void scale_of_the_largest(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x7f800000; bits += 0x12345) {
        float value = -values_from_bits(bits);
        uint8_t payload[3];
        enum status verdict = int8_encode(&value, 1, payload);
        if (bits > 0x7f000000) {
            assert_int_equal(verdict, STATUS_NOT_FINITE);
            assert_int_equal(int4_encode(&value, 1, payload), STATUS_NOT_FINITE);
            continue;
        }
        assert_int_equal(verdict, STATUS_OK);
        double magnitude = (double)values_from_bits(bits);
        uint32_t scale = (uint32_t)(payload[0] | payload[1] << 8);
        if (magnitude < 0x1p-100) {
            assert_int_equal(scale, 0);
            assert_int_equal(payload[2], 0);
            continue;
        }
        double s = (double)values_from_bits(scale << 16), below = (double)values_from_bits((scale - 1) << 16);
        assert_true(127 * s >= magnitude * (1 - 0x1p-24) && 127 * below < magnitude);
        assert_in_range(-(int8_t)payload[2], 126, 127);
        assert_int_equal(int4_encode(&value, 1, payload), STATUS_OK);
        assert_int_equal(payload[2], 16 - 7);
    }
}

static void golden_bytes(void **state) {
    (void)state;
    static const float src[5] = {1.0f, -0.5f, 0.1f, -0.0f, -1.0f};
    /* int8: 1/127 -> bf16 up 0x3c02 = .00793457; codes 126, -63, 13, 0, -126. int4: 1/7 -> 0x3e13 = .143555; 7, -3, 1, 0, -7. */
    static const uint8_t int8[7] = {0x02, 0x3c, 126, 256 - 63, 13, 0, 256 - 126};
    static const uint8_t int4[5] = {0x13, 0x3e, 0xd7, 0x01, 0x09};
    uint8_t payload[7];
    assert_int_equal(int8_encode(src, 5, payload), STATUS_OK);
    assert_memory_equal(payload, int8, 7);
    assert_int_equal(int4_encode(src, 5, payload), STATUS_OK);
    assert_memory_equal(payload, int4, 5);
}

/* |error| <= s (1/2 + L 2^-23), s <= (1 + 2^-7) absmax / L, and almost met. */
static void check_budget(const struct codec *codec, int levels, double rms_low, double rms_high) {
    uint64_t random = 3;
    float src[128], out[128];
    uint8_t payload[200];
    double worst = 0, widest = 0;
    for (int round = 0; round < 4000; round++) {
        double absmax = 0;
        for (size_t i = 0; i < codec->block; i++) {
            src[i] = values_draw(&random, round % 2 ? VALUES_NORMAL : VALUES_OCTAVES);
            absmax = fmax(absmax, fabs((double)src[i]));
        }
        assert_int_equal(codec->encode(src, codec->block, payload), STATUS_OK);
        assert_int_equal(codec->decode(payload, codec->block, out), STATUS_OK);
        double s = (double)values_from_bits((uint32_t)(payload[0] | payload[1] << 8) << 16);
        assert_true(s <= (1 + 0x1p-7) * absmax / levels);
        widest = fmax(widest, s * levels / absmax);
        for (size_t i = 0; i < codec->block; i++) {
            double error = fabs((double)src[i] - (double)out[i]);
            assert_true(error <= s * (0.5 + levels * 0x1p-23));
            worst = fmax(worst, error / s);
        }
    }
    assert_true(worst > 0.4999);
    assert_true(widest > 1.006);
    double rms = values_relative_rms(codec, 1 << 18);
    assert_true(rms > rms_low && rms < rms_high);
}

/* The values are sums of twelve uniforms, whose tails are a little lighter than the formula's. */
static void error_budget(void **state) {
    (void)state;
    check_budget(codec_get(CODEC_INT8), 127, 0.0061, 0.0066);
    check_budget(codec_get(CODEC_INT4), 7, 0.103, 0.1085);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fast_equals_ref),        cmocka_unit_test(not_finite_is_refused),
        cmocka_unit_test(hostile_payloads),       cmocka_unit_test(every_scale_and_code),
        cmocka_unit_test(rounds_to_nearest_even), cmocka_unit_test(scale_of_the_largest),
        cmocka_unit_test(golden_bytes),           cmocka_unit_test(error_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
