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
#include "quant/blocks.h"
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

/* ---- fast: a block of values at a time, so that check and move share the registers; blocks.h makes the passes ---- */

enum { BLOCK = BLOCKS_VALUES_MAX };

/* Marks magnitudes of infinity and beyond. */
BLOCKS_INLINE void mark_not_finite(const float *restrict values, uint32_t flaws[restrict BLOCKS_LANES]) {
    for (size_t i = 0; i < BLOCK; i += BLOCKS_LANES)
        for (size_t j = 0; j < BLOCKS_LANES; j++)
            flaws[j] |= ((float_to_bits(values[i + j]) & FLOAT_MAGNITUDE_MASK) + (1u << FLOAT_EXPONENT_SHIFT)) >> 31;
}

BLOCKS_INLINE bool f32_encode_block(const float *restrict src, uint8_t *restrict dst, float *restrict decoded) {
    memcpy(dst, src, BLOCK * sizeof *src);
    if (decoded != NULL)
        memcpy(decoded, src, BLOCK * sizeof *src);
    return float_absmax_bits(src, BLOCK) < FLOAT_INFINITY_BITS;
}

BLOCKS_INLINE bool f32_decode_block(const uint8_t *restrict src, float *restrict dst, const float *restrict weight,
                                    uint32_t flaws[restrict BLOCKS_LANES]) {
    float values[BLOCK];
    memcpy(values, src, sizeof values);
    mark_not_finite(values, flaws);
    for (size_t i = 0; i < BLOCK; i++)
        blocks_put(dst + i, weight, values[i]);
    return true;
}

BLOCKS_INLINE bool bf16_encode_block(const float *restrict src, uint8_t *restrict dst, float *restrict decoded) {
    for (size_t i = 0; i < BLOCK; i++) {
        uint32_t bits = float_to_bits(src[i]), rounded = bits + 0x7fff + (bits >> 16 & 1);
        uint16_t kept = (uint16_t)(rounded >> 16);
        memcpy(dst + 2 * i, &kept, sizeof kept);
        if (decoded != NULL)
            decoded[i] = float_from_bits(rounded & 0xffff0000);
    }
    return float_absmax_bits(src, BLOCK) < BF16_OVERFLOW_BITS;
}

BLOCKS_INLINE bool bf16_decode_block(const uint8_t *restrict src, float *restrict dst, const float *restrict weight,
                                     uint32_t flaws[restrict BLOCKS_LANES]) {
    float values[BLOCK];
    for (size_t i = 0; i < BLOCK; i++) {
        uint16_t kept;
        memcpy(&kept, src + 2 * i, sizeof kept);
        values[i] = float_from_bits((uint32_t)kept << 16);
    }
    mark_not_finite(values, flaws);
    for (size_t i = 0; i < BLOCK; i++)
        blocks_put(dst + i, weight, values[i]);
    return true;
}

static const struct block_format F32 = {BLOCK, sizeof(float) * BLOCK, plain_f32_bytes,
                                        false, f32_encode_block,      f32_decode_block};
static const struct block_format BF16 = {BLOCK, 2 * BLOCK,         plain_bf16_bytes,
                                         false, bf16_encode_block, bf16_decode_block};

BLOCKS_DEFINE(plain_f32, F32)
BLOCKS_DEFINE(plain_bf16, BF16)
