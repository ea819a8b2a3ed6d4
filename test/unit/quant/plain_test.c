/* plain: f32 and bf16, every bf16 pattern, ties, refusal. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "quant/plain.h"
#include "unit/quant/values.h"

static void fast_equals_ref(void **state) {
    (void)state;
    values_check_fast_against_ref(codec_get(CODEC_F32));
    values_check_passes_against_ref(codec_get(CODEC_F32));
    values_check_fast_against_ref(codec_get(CODEC_BF16));
    values_check_passes_against_ref(codec_get(CODEC_BF16));
}

static void not_finite_is_refused(void **state) {
    (void)state;
    values_check_not_finite(codec_get(CODEC_F32));
    values_check_not_finite(codec_get(CODEC_BF16));
}

static void hostile_payloads(void **state) {
    (void)state;
    values_check_hostile(codec_get(CODEC_F32), 4000);
    values_check_hostile(codec_get(CODEC_BF16), 4000);
}

static void f32_keeps_every_bit(void **state) {
    (void)state;
    for (uint64_t bits = 0; bits < 0x100000000u; bits += 65521) {
        float value = values_from_bits((uint32_t)bits), back;
        uint8_t payload[4];
        if (!isfinite(value))
            continue;
        assert_int_equal(plain_f32_encode(&value, 1, payload), STATUS_OK);
        assert_int_equal(plain_f32_decode(payload, 1, &back), STATUS_OK);
        assert_int_equal(values_to_bits(back), bits);
    }
}

/* All 2^16 patterns decode to the float of those upper bits, or are refused, and encode to themselves. */
static void bf16_every_pattern(void **state) {
    (void)state;
    for (uint32_t pattern = 0; pattern < 0x10000; pattern++) {
        uint8_t payload[2] = {(uint8_t)pattern, (uint8_t)(pattern >> 8)}, again[2];
        float value;
        enum status verdict = plain_bf16_decode(payload, 1, &value);
        if ((pattern >> 7 & 0xff) == 0xff) {
            assert_int_equal(verdict, STATUS_DATA);
            continue;
        }
        assert_int_equal(verdict, STATUS_OK);
        assert_int_equal(values_to_bits(value), pattern << 16);
        assert_int_equal(plain_bf16_encode(&value, 1, again), STATUS_OK);
        assert_memory_equal(again, payload, 2);
    }
}

/* Around every pattern: just below, at and just above the midpoint to the next, judged by exact double arithmetic. */
static void bf16_rounds_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t pattern = 0; pattern < 0x7f7f; pattern++)
        for (uint32_t sign = 0; sign < 2; sign++)
            for (int32_t off = -1; off <= 1; off++) {
                uint32_t bits = (uint32_t)((int32_t)((pattern << 16) + 0x8000) + off);
                double low = (double)values_from_bits(pattern << 16),
                       high = (double)values_from_bits((pattern + 1) << 16);
                double x = (double)values_from_bits(bits);
                uint32_t nearest = x - low < high - x   ? pattern
                                   : x - low > high - x ? pattern + 1
                                                        : pattern + (pattern & 1);
                float value = values_from_bits(bits | sign << 31);
                uint8_t payload[2];
                assert_int_equal(plain_bf16_encode(&value, 1, payload), STATUS_OK);
                assert_int_equal(payload[0] | payload[1] << 8, nearest | sign << 15);
            }
    /* The largest that still rounds to a finite value, and the next, which does not. */
    float most = values_from_bits(0x7f7f7fff), over = values_from_bits(0x7f7f8000);
    uint8_t payload[2];
    assert_int_equal(plain_bf16_encode(&most, 1, payload), STATUS_OK);
    assert_int_equal(payload[0] | payload[1] << 8, 0x7f7f);
    assert_int_equal(plain_bf16_encode(&over, 1, payload), STATUS_NOT_FINITE);
    assert_int_equal(plain_bf16_encode_ref(&over, 1, payload), STATUS_NOT_FINITE);
}

static void bf16_error_budget(void **state) {
    (void)state;
    double worst = 0;
    for (uint32_t bits = 0x00800000; bits < 0x7f7f0000; bits += 0x8000 - 1) {
        float value = values_from_bits(bits), back;
        uint8_t payload[2];
        assert_int_equal(plain_bf16_encode(&value, 1, payload), STATUS_OK);
        assert_int_equal(plain_bf16_decode(payload, 1, &back), STATUS_OK);
        worst = fmax(worst, fabs((double)back - (double)value) / (double)value);
    }
    assert_true(worst <= 1.0 / 257);
    float tight = 1 + 0x1p-8f, back;
    uint8_t payload[2];
    assert_int_equal(plain_bf16_encode(&tight, 1, payload), STATUS_OK);
    assert_int_equal(plain_bf16_decode(payload, 1, &back), STATUS_OK);
    assert_true(fabs((double)back - (double)tight) / (double)tight > 0.999999 / 257);
    double rms = values_relative_rms(codec_get(CODEC_BF16), 1 << 16);
    assert_true(rms > 0.00148 && rms < 0.00175);
}

static void golden_bytes(void **state) {
    (void)state;
    static const float src[4] = {1.0f, -2.5f, -0.0f, 3.14159274f};
    static const uint8_t f32[16] = {0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0, 0, 0, 0, 0x80, 0xdb, 0x0f, 0x49, 0x40};
    static const uint8_t bf16[8] = {0x80, 0x3f, 0x20, 0xc0, 0x00, 0x80, 0x49, 0x40};
    uint8_t payload[16];
    assert_int_equal(plain_f32_encode(src, 4, payload), STATUS_OK);
    assert_memory_equal(payload, f32, 16);
    assert_int_equal(plain_bf16_encode(src, 4, payload), STATUS_OK);
    assert_memory_equal(payload, bf16, 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fast_equals_ref),    cmocka_unit_test(not_finite_is_refused),
        cmocka_unit_test(hostile_payloads),   cmocka_unit_test(f32_keeps_every_bit),
        cmocka_unit_test(bf16_every_pattern), cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(bf16_error_budget),  cmocka_unit_test(golden_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
