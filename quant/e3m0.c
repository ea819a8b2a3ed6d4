/* e3m0: the codec of e3m0.h. Integer work on float bits only: the same bytes whatever the rounding mode or subnormal setting. */
#include "quant/e3m0.h"

#include <stdbool.h>
#include "base/vector.h"
#include "quant/blocks.h"
#include "quant/float_bits.h"

enum {
    BLOCK_CODE_BYTES = E3M0_BLOCK / 2,
    BLOCK_BYTES = 1 + BLOCK_CODE_BYTES,
    SCALE_ZERO = 0,        /* the block is all zero */
    SCALE_MIN = 127 - 104, /* absmax 2^-100 */
    SCALE_MAX = 127 + 123, /* absmax 2^127 */
    TOP_ABOVE_SCALE = 4,   /* the largest magnitude is 2^4 s */
    SCALE_CODE = 3,        /* code 3 is 1 s */
    CODE_MINUS_ZERO = 8,   /* reserved */
};

_Static_assert(E3M0_BLOCK % 2 == 0, "only the last block may end in half a byte");

size_t e3m0_bytes(size_t count) {
    return (count + E3M0_BLOCK - 1) / E3M0_BLOCK + (count + 1) / 2;
}

/* The byte of the smallest s = 2^k with absmax <= 16 s: a mantissa that is not zero lifts the power of two by one. */
static inline uint32_t scale_byte(uint32_t absmax_bits) {
    if (absmax_bits < BLOCK_ABSMAX_MIN_BITS)
        return SCALE_ZERO;
    return ((absmax_bits + 0x7fffff) >> FLOAT_EXPONENT_SHIFT) - TOP_ABOVE_SCALE;
}

static inline bool scale_byte_is_valid(uint32_t scale) {
    return scale == SCALE_ZERO || (scale >= SCALE_MIN && scale <= SCALE_MAX);
}

/* ---- reference: from the table of magnitudes, in double, where every midpoint is exact ---- */

static const double MAGNITUDE[8] = {0, .25, .5, 1, 2, 4, 8, 16};

/* 2^(scale - 127) as a double: built from its bits, no libm. */
static double scale_value(uint32_t scale) {
    uint64_t bits = (uint64_t)(scale + 1023 - 127) << 52;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static unsigned nearest_code(double magnitude, double s) {
    unsigned code = 0;
    while (code < 7) {
        double middle = (MAGNITUDE[code] + MAGNITUDE[code + 1]) / 2 * s;
        if (magnitude < middle || (magnitude == middle && code % 2 == 0))
            break;
        code++;
    }
    return code;
}

enum status e3m0_encode_ref(const float *src, size_t count, uint8_t *dst) {
    for (size_t at = 0; at < count; at += E3M0_BLOCK) {
        size_t n = count - at < E3M0_BLOCK ? count - at : E3M0_BLOCK;
        uint32_t absmax_bits = float_absmax_bits(src + at, n);
        if (absmax_bits > BLOCK_ABSMAX_MAX_BITS)
            return STATUS_NOT_FINITE;
        uint32_t scale = scale_byte(absmax_bits);
        memset(dst, 0, 1 + (n + 1) / 2);
        dst[0] = (uint8_t)scale;
        for (size_t i = 0; i < n && scale != SCALE_ZERO; i++) {
            double value = (double)src[at + i];
            unsigned code = nearest_code(value < 0 ? -value : value, scale_value(scale));
            if (value < 0 && code != 0)
                code |= 8;
            dst[1 + i / 2] = (uint8_t)(dst[1 + i / 2] | code << (i % 2 * 4));
        }
        dst += 1 + (n + 1) / 2;
    }
    return STATUS_OK;
}

enum status e3m0_decode_ref(const uint8_t *src, size_t count, float *dst) {
    for (size_t at = 0; at < count; at += E3M0_BLOCK) {
        size_t n = count - at < E3M0_BLOCK ? count - at : E3M0_BLOCK;
        uint32_t scale = src[0];
        if (!scale_byte_is_valid(scale))
            return STATUS_DATA;
        for (size_t i = 0; i < (n + 1) / 2 * 2; i++) {
            unsigned code = src[1 + i / 2] >> (i % 2 * 4) & 15;
            if (code == CODE_MINUS_ZERO || (code != 0 && (scale == SCALE_ZERO || i == n)))
                return STATUS_DATA;
            if (i == n)
                break;
            double magnitude = scale == SCALE_ZERO ? 0 : MAGNITUDE[code & 7] * scale_value(scale);
            dst[at + i] = (float)(code & 8 ? -magnitude : magnitude);
        }
        src += 1 + (n + 1) / 2;
    }
    return STATUS_OK;
}

/* ---- fast: one whole block of 128, branch-free inside; blocks.h makes the passes ---- */

/* Magnitudes are powers of two, so that rounding to nearest is rounding a float's bits to its exponent field. With
 * t = bits(|x|) - bits(s / 8), the upper bits of t are the code and the lower 23 its mantissa:
 *   t >= 2^23         code = t rounded at bit 23, ties to the even code
 *   0 < t < 2^23      |x| in (s/8, s/4): code 1; t = 0 is the tie between 0 and s/4: code 0, the even one
 *   t < 0             code 0
 * and the upper bits, put back upon those of s / 8, are the magnitude that the code stands for. */
BLOCKS_INLINE void encode_codes(const float *restrict src, uint32_t scale, uint8_t *restrict codes,
                                float *restrict decoded) {
    const int32_t origin = (int32_t)((scale - SCALE_CODE) << FLOAT_EXPONENT_SHIFT), one = 1 << FLOAT_EXPONENT_SHIFT;
    for (size_t i = 0; i < E3M0_BLOCK; i++) {
        uint32_t bits = float_to_bits(src[i]);
        int32_t t = (int32_t)(bits & FLOAT_MAGNITUDE_MASK) - origin;
        int32_t at_least_one = t > one ? t : one;
        t = t > 0 ? at_least_one : 0;
        uint32_t rounded = (uint32_t)(t + 0x3fffff + (t >> FLOAT_EXPONENT_SHIFT & 1));
        uint32_t code = rounded >> FLOAT_EXPONENT_SHIFT;
        uint32_t sign = code > 0 ? bits >> 28 & 8 : 0;
        codes[i] = (uint8_t)(code | sign);
        if (decoded != NULL) {
            uint32_t magnitude = (rounded & FLOAT_INFINITY_BITS) + (uint32_t)origin;
            decoded[i] = float_from_bits(code > 0 ? magnitude | (bits & ~FLOAT_MAGNITUDE_MASK) : 0);
        }
    }
}

BLOCKS_INLINE bool encode_block(const float *restrict src, uint8_t *restrict dst, float *restrict decoded) {
    uint8_t codes[E3M0_BLOCK];
    uint32_t absmax_bits = float_absmax_bits(src, E3M0_BLOCK);
    if (absmax_bits > BLOCK_ABSMAX_MAX_BITS)
        return false;
    uint32_t scale = scale_byte(absmax_bits);
    dst[0] = (uint8_t)scale;
    if (scale == SCALE_ZERO) {
        memset(dst + 1, 0, BLOCK_CODE_BYTES);
        if (decoded != NULL)
            memset(decoded, 0, E3M0_BLOCK * sizeof *decoded);
        return true;
    }
    encode_codes(src, scale, codes, decoded);
    for (size_t i = 0; i < BLOCK_CODE_BYTES; i++) {
        uint16_t pair;
        memcpy(&pair, codes + 2 * i, sizeof pair);
        dst[1 + i] = (uint8_t)(pair | pair >> 4);
    }
    return true;
}

/* A zero block bears no code but 0. */
BLOCKS_INLINE bool decode_block(const uint8_t *restrict src, float *restrict dst, const float *restrict weight,
                                uint32_t flaws[restrict BLOCKS_LANES]) {
    uint8_t codes[E3M0_BLOCK];
    uint32_t scale = src[0];
    if (!scale_byte_is_valid(scale) || (scale == SCALE_ZERO && !blocks_are_zero(src + 1, BLOCK_CODE_BYTES)))
        return false;
    blocks_mark_reserved(src + 1, BLOCK_CODE_BYTES / sizeof *flaws, 0x88888888, flaws);
    for (size_t i = 0; i < BLOCK_CODE_BYTES; i++) {
        uint16_t pair = (uint16_t)((src[1 + i] | src[1 + i] << 4) & 0x0f0f);
        memcpy(codes + 2 * i, &pair, sizeof pair);
    }
    for (size_t i = 0; i < E3M0_BLOCK; i++) {
        uint32_t code = codes[i];
        uint32_t magnitude = ((code & 7) + scale - SCALE_CODE) << FLOAT_EXPONENT_SHIFT;
        blocks_put(dst + i, weight, float_from_bits(code ? magnitude | (code & 8) << 28 : 0));
    }
    return true;
}

static const struct block_format E3M0 = {E3M0_BLOCK, BLOCK_BYTES, e3m0_bytes, true, encode_block, decode_block};

BLOCKS_DEFINE(e3m0, E3M0)
