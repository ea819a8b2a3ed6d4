/* plain: f32 and bf16. Integer work on float bits only.
 *
 *   f32    31 30      23 22                                    0      four bytes, little-endian
 *         +--+----------+---------------------------------------+
 *         |s | exponent |            mantissa                   |
 *         +--+----------+-------+-------------------------------+
 *   bf16  |s | exponent |mant. 7|  <- the lower 16 bits decide the rounding
 *         +--+----------+-------+                                     two bytes, little-endian
 */
#include "quant/plain.h"

#include "base/bytes.h"
#include "base/vector.h"
#include "quant/float_bits.h"

#define BF16_INFINITY_BITS 0x7f80u
/* The smallest magnitude whose nearest bf16 is infinity. */
#define BF16_OVERFLOW_BITS 0x7f7f8000u

size_t plain_f32_bytes(size_t count) {
    return 4 * count;
}

size_t plain_bf16_bytes(size_t count) {
    return 2 * count;
}

/* ---- reference: one value at a time, from the picture ---- */

enum status plain_f32_encode_ref(const float *src, size_t count, uint8_t *dst) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = float_to_bits(src[i]);
        if ((bits & FLOAT_INFINITY_BITS) == FLOAT_INFINITY_BITS)
            return STATUS_NOT_FINITE;
        bytes_store_u32(dst + 4 * i, bits);
    }
    return STATUS_OK;
}

enum status plain_f32_decode_ref(const uint8_t *src, size_t count, float *dst) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = bytes_load_u32(src + 4 * i);
        if ((bits & FLOAT_INFINITY_BITS) == FLOAT_INFINITY_BITS)
            return STATUS_DATA;
        dst[i] = float_from_bits(bits);
    }
    return STATUS_OK;
}

enum status plain_bf16_encode_ref(const float *src, size_t count, uint8_t *dst) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = float_to_bits(src[i]);
        uint32_t kept = bits >> 16, dropped = bits & 0xffff;
        if ((bits & FLOAT_INFINITY_BITS) == FLOAT_INFINITY_BITS)
            return STATUS_NOT_FINITE;
        /* A carry out of the mantissa runs into the exponent, which is the next power of two: right as it is. */
        if (dropped > 0x8000 || (dropped == 0x8000 && (kept & 1) == 1))
            kept++;
        if ((kept & BF16_INFINITY_BITS) == BF16_INFINITY_BITS)
            return STATUS_NOT_FINITE;
        bytes_store_u16(dst + 2 * i, (uint16_t)kept);
    }
    return STATUS_OK;
}

enum status plain_bf16_decode_ref(const uint8_t *src, size_t count, float *dst) {
    for (size_t i = 0; i < count; i++) {
        uint32_t kept = bytes_load_u16(src + 2 * i);
        if ((kept & BF16_INFINITY_BITS) == BF16_INFINITY_BITS)
            return STATUS_DATA;
        dst[i] = float_from_bits(kept << 16);
    }
    return STATUS_OK;
}

/* ---- fast: straight lines over 1024 values at a time, so that check and move share the L1 cache ---- */

enum { STRIPE = 1024 };

HOT_LOOP enum status plain_f32_encode(const float *src, size_t count, uint8_t *dst) {
    for (size_t at = 0; at < count; at += STRIPE) {
        size_t n = count - at < STRIPE ? count - at : STRIPE;
        if (float_absmax_bits(src + at, n) >= FLOAT_INFINITY_BITS)
            return STATUS_NOT_FINITE;
        memcpy(dst + 4 * at, src + at, 4 * n);
    }
    return STATUS_OK;
}

HOT_LOOP enum status plain_f32_decode(const uint8_t *src, size_t count, float *dst) {
    for (size_t at = 0; at < count; at += STRIPE) {
        size_t n = count - at < STRIPE ? count - at : STRIPE;
        memcpy(dst + at, src + 4 * at, 4 * n);
        if (float_absmax_bits(dst + at, n) >= FLOAT_INFINITY_BITS)
            return STATUS_DATA;
    }
    return STATUS_OK;
}

HOT_LOOP enum status plain_bf16_encode(const float *restrict src, size_t count, uint8_t *restrict dst) {
    for (size_t at = 0; at < count; at += STRIPE) {
        size_t n = count - at < STRIPE ? count - at : STRIPE;
        if (float_absmax_bits(src + at, n) >= BF16_OVERFLOW_BITS)
            return STATUS_NOT_FINITE;
        for (size_t i = at; i < at + n; i++) {
            uint32_t bits = float_to_bits(src[i]);
            uint16_t kept = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
            memcpy(dst + 2 * i, &kept, sizeof kept);
        }
    }
    return STATUS_OK;
}

HOT_LOOP enum status plain_bf16_decode(const uint8_t *restrict src, size_t count, float *restrict dst) {
    for (size_t at = 0; at < count; at += STRIPE) {
        size_t n = count - at < STRIPE ? count - at : STRIPE;
        int32_t most = 0;
        for (size_t i = at; i < at + n; i++) {
            uint16_t kept;
            memcpy(&kept, src + 2 * i, sizeof kept);
            uint32_t bits = (uint32_t)kept << 16;
            int32_t magnitude = (int32_t)(bits & FLOAT_MAGNITUDE_MASK);
            most = magnitude > most ? magnitude : most;
            dst[i] = float_from_bits(bits);
        }
        if ((uint32_t)most >= FLOAT_INFINITY_BITS)
            return STATUS_DATA;
    }
    return STATUS_OK;
}
