/* integer: the codecs of integer.h. Float steps are one division, one product and one magic sum per value, each rounded to
 * nearest even as IEEE 754 says; nothing here can be subnormal and matter (float_bits.h), so that flushing changes no byte.
 *
 * int8 and int4 differ in block, levels and packing. Their inner functions take these as constants and are inlined. */
#include "quant/integer.h"

#include <stdbool.h>
#include "base/bytes.h"
#include "base/vector.h"
#include "quant/blocks.h"
#include "quant/float_bits.h"

enum { SCALE_BYTES = 2, INT8_LEVELS = 127, INT4_LEVELS = 7 };

_Static_assert(INT4_BLOCK % 2 == 0, "only the last block may end in half a byte");

size_t int8_bytes(size_t count) {
    return SCALE_BYTES * ((count + INT8_BLOCK - 1) / INT8_BLOCK) + count;
}

size_t int4_bytes(size_t count) {
    return SCALE_BYTES * ((count + INT4_BLOCK - 1) / INT4_BLOCK) + (count + 1) / 2;
}

/* The scale of a block: absmax / levels, rounded to nearest f32, then up to a bf16, so that absmax itself stays within the
 * levels. 0 for a zero block. */
static inline uint16_t scale_of(uint32_t absmax_bits, int levels) {
    if (absmax_bits < BLOCK_ABSMAX_MIN_BITS)
        return 0;
    uint32_t bits = float_to_bits(float_from_bits(absmax_bits) / (float)levels);
    return (uint16_t)((bits + 0xffff) >> 16);
}

/* What scale_of can make: the sign, NaN, infinity and subnormals fall out of the range. */
static inline bool scale_is_valid(uint16_t scale, int levels) {
    return scale == 0 ||
           (scale >= scale_of(BLOCK_ABSMAX_MIN_BITS, levels) && scale <= scale_of(BLOCK_ABSMAX_MAX_BITS, levels));
}

static inline float scale_value(uint16_t scale) {
    return float_from_bits((uint32_t)scale << 16);
}

/* ---- reference ---- */

/* The integer nearest to y, ties to even; |y| < 2^20. */
static int nearest_integer(float y) {
    int below = (int)y;
    if ((float)below > y)
        below--;
    float above_by = y - (float)below; /* exact: both are multiples of the same power of two, the result is < 1 */
    if (above_by > 0.5f || (above_by == 0.5f && below % 2 != 0))
        below++;
    return below;
}

/* bits per code: 8 or 4. */
static enum status encode_ref(const float *src, size_t count, uint8_t *dst, size_t block, int levels, int bits) {
    for (size_t at = 0; at < count; at += block) {
        size_t n = count - at < block ? count - at : block;
        uint32_t absmax_bits = float_absmax_bits(src + at, n);
        if (absmax_bits > BLOCK_ABSMAX_MAX_BITS)
            return STATUS_NOT_FINITE;
        uint16_t scale = scale_of(absmax_bits, levels);
        size_t code_bytes = bits == 8 ? n : (n + 1) / 2;
        bytes_store_u16(dst, scale);
        memset(dst + SCALE_BYTES, 0, code_bytes);
        for (size_t i = 0; i < n && scale != 0; i++) {
            float inverse = 1.0f / scale_value(scale);
            int code = nearest_integer(src[at + i] * inverse);
            if (bits == 8)
                dst[SCALE_BYTES + i] = (uint8_t)(code & 0xff);
            else
                dst[SCALE_BYTES + i / 2] = (uint8_t)(dst[SCALE_BYTES + i / 2] | (code & 15) << (i % 2 * 4));
        }
        dst += SCALE_BYTES + code_bytes;
    }
    return STATUS_OK;
}

static enum status decode_ref(const uint8_t *src, size_t count, float *dst, size_t block, int levels, int bits) {
    for (size_t at = 0; at < count; at += block) {
        size_t n = count - at < block ? count - at : block;
        size_t code_bytes = bits == 8 ? n : (n + 1) / 2;
        uint16_t scale = bytes_load_u16(src);
        if (!scale_is_valid(scale, levels))
            return STATUS_DATA;
        for (size_t i = 0; i < (bits == 8 ? n : 2 * code_bytes); i++) {
            int code = bits == 8 ? src[SCALE_BYTES + i] : src[SCALE_BYTES + i / 2] >> (i % 2 * 4) & 15;
            if (code > levels)
                code -= 1 << bits;
            if (code < -levels || (code != 0 && (scale == 0 || i == n)))
                return STATUS_DATA;
            if (i < n)
                dst[at + i] = (float)code * scale_value(scale);
        }
        src += SCALE_BYTES + code_bytes;
    }
    return STATUS_OK;
}

enum status int8_encode_ref(const float *src, size_t count, uint8_t *dst) {
    return encode_ref(src, count, dst, INT8_BLOCK, INT8_LEVELS, 8);
}

enum status int8_decode_ref(const uint8_t *src, size_t count, float *dst) {
    return decode_ref(src, count, dst, INT8_BLOCK, INT8_LEVELS, 8);
}

enum status int4_encode_ref(const float *src, size_t count, uint8_t *dst) {
    return encode_ref(src, count, dst, INT4_BLOCK, INT4_LEVELS, 4);
}

enum status int4_decode_ref(const uint8_t *src, size_t count, float *dst) {
    return decode_ref(src, count, dst, INT4_BLOCK, INT4_LEVELS, 4);
}

/* ---- fast: one whole block, branch-free inside; blocks.h makes the passes ---- */

/* Codes of one block, in two's complement of a byte. Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low
 * bits of the sum: no conversion, no libm. Taking it off again leaves that integer as a float, 0 without a sign. */
BLOCKS_INLINE void encode_codes(const float *restrict src, size_t block, uint16_t scale, uint8_t *restrict codes,
                                float *restrict decoded) {
    const float step = scale_value(scale), inverse = 1.0f / step, magic = 12582912.0f;
    for (size_t i = 0; i < block; i++) {
        float shifted = src[i] * inverse + magic;
        codes[i] = (uint8_t)float_to_bits(shifted);
        if (decoded != NULL)
            decoded[i] = (shifted - magic) * step;
    }
}

BLOCKS_INLINE bool int8_encode_block(const float *restrict src, uint8_t *restrict dst, float *restrict decoded) {
    uint32_t absmax_bits = float_absmax_bits(src, INT8_BLOCK);
    if (absmax_bits > BLOCK_ABSMAX_MAX_BITS)
        return false;
    uint16_t scale = scale_of(absmax_bits, INT8_LEVELS);
    bytes_store_u16(dst, scale);
    if (scale == 0) {
        memset(dst + SCALE_BYTES, 0, INT8_BLOCK);
        if (decoded != NULL)
            memset(decoded, 0, INT8_BLOCK * sizeof *decoded);
        return true;
    }
    encode_codes(src, INT8_BLOCK, scale, dst + SCALE_BYTES, decoded);
    return true;
}

BLOCKS_INLINE bool int8_decode_block(const uint8_t *restrict src, float *restrict dst, const float *restrict weight,
                                     uint32_t flaws[restrict BLOCKS_LANES]) {
    int8_t codes[INT8_BLOCK];
    uint16_t scale = bytes_load_u16(src);
    const float step = scale_value(scale);
    if (!scale_is_valid(scale, INT8_LEVELS) || (scale == 0 && !blocks_are_zero(src + SCALE_BYTES, INT8_BLOCK)))
        return false;
    blocks_mark_reserved(src + SCALE_BYTES, INT8_BLOCK / sizeof *flaws, 0x80808080, flaws);
    memcpy(codes, src + SCALE_BYTES, sizeof codes);
    for (size_t i = 0; i < INT8_BLOCK; i++)
        blocks_put(dst + i, weight, (float)codes[i] * step);
    return true;
}

BLOCKS_INLINE bool int4_encode_block(const float *restrict src, uint8_t *restrict dst, float *restrict decoded) {
    uint8_t codes[INT4_BLOCK];
    uint32_t absmax_bits = float_absmax_bits(src, INT4_BLOCK);
    if (absmax_bits > BLOCK_ABSMAX_MAX_BITS)
        return false;
    uint16_t scale = scale_of(absmax_bits, INT4_LEVELS);
    bytes_store_u16(dst, scale);
    if (scale == 0) {
        memset(dst + SCALE_BYTES, 0, INT4_BLOCK / 2);
        if (decoded != NULL)
            memset(decoded, 0, INT4_BLOCK * sizeof *decoded);
        return true;
    }
    encode_codes(src, INT4_BLOCK, scale, codes, decoded);
    for (size_t i = 0; i < INT4_BLOCK / 2; i++) {
        uint16_t pair;
        memcpy(&pair, codes + 2 * i, sizeof pair);
        dst[SCALE_BYTES + i] = (uint8_t)((pair & 15) | (pair >> 4 & 0xf0));
    }
    return true;
}

BLOCKS_INLINE bool int4_decode_block(const uint8_t *restrict src, float *restrict dst, const float *restrict weight,
                                     uint32_t flaws[restrict BLOCKS_LANES]) {
    uint16_t scale = bytes_load_u16(src);
    const float step = scale_value(scale);
    if (!scale_is_valid(scale, INT4_LEVELS) || (scale == 0 && !blocks_are_zero(src + SCALE_BYTES, INT4_BLOCK / 2)))
        return false;
    blocks_mark_reserved(src + SCALE_BYTES, INT4_BLOCK / 2 / sizeof *flaws, 0x88888888, flaws);
    for (size_t i = 0; i < INT4_BLOCK / 2; i++) {
        uint32_t pair = src[SCALE_BYTES + i]; /* a nibble at the top of an int32_t spreads its sign on its way down (gcc, clang) */
        blocks_put(dst + 2 * i, weight, (float)((int32_t)(pair << 28) >> 28) * step);
        blocks_put(dst + 2 * i + 1, weight, (float)((int32_t)(pair << 24) >> 28) * step);
    }
    return true;
}

static const struct block_format INT8 = {INT8_BLOCK, SCALE_BYTES + INT8_BLOCK, int8_bytes,
                                         false,      int8_encode_block,        int8_decode_block};
static const struct block_format INT4 = {
    INT4_BLOCK, SCALE_BYTES + INT4_BLOCK / 2, int4_bytes, true, int4_encode_block, int4_decode_block};

BLOCKS_DEFINE(int8, INT8)
BLOCKS_DEFINE(int4, INT4)
