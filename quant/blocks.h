/* blocks: the passes that every format shares, over whole blocks and a short last one, around the two functions in which formats differ.
 * One pass each, a block at a time in registers and the L1 cache, its arrays asked for ahead: what waits for memory and what computes overlap.
 * Private to quant/.
 *
 *   encode       src -> bytes
 *   decode       bytes -> dst
 *   encode_fed   x = difference + residual -> bytes;  left_out = x - decode(bytes)        error feedback, see residual.h
 *   decode_add   sum += weight * decode(bytes)                                            a term of the mean, see outer/mean.h
 *
 * For use inside HOT_LOOP functions, which inline these with a constant format. */
#ifndef ATOLL_QUANT_BLOCKS_H
#define ATOLL_QUANT_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "base/status.h"
#include "base/vector.h"

#define BLOCKS_INLINE static inline __attribute__((always_inline))

enum { BLOCKS_VALUES_MAX = 128, BLOCKS_BYTES_MAX = 4 * BLOCKS_VALUES_MAX, BLOCKS_LANES = 16 };

struct block_format {
    size_t values;                /* of a whole block */
    size_t bytes;                 /* of a whole block */
    size_t (*size)(size_t count); /* bytes of any count */
    bool nibbles;                 /* an odd count leaves half a byte, which is zero */
    /* Both of exactly one whole block; false: a value, or a scale, that the format does not have. decoded (values,), unless NULL, gets what decode
     * would make of dst. decode puts its values by blocks_put. What is wrong with single codes sets bits of flaws: looked at once, at the end. */
    bool (*encode)(const float *restrict src, uint8_t *restrict dst, float *restrict decoded);
    bool (*decode)(const uint8_t *restrict src, float *restrict dst, const float *restrict weight,
                   uint32_t flaws[restrict BLOCKS_LANES]);
};

/* A decoded value: to its place, or with a weight onto the sum that is there. */
BLOCKS_INLINE void blocks_put(float *restrict dst, const float *restrict weight, float value) {
    *dst = weight != NULL ? *dst + *weight * value : value;
}

/* For codes that reserve the one with the highest bit alone (-8, -128, -0): marks those among `words` words of codes: up to BLOCKS_LANES, or a multiple. `top` has that bit of each
 * code: 0x88888888, 0x80808080. */
BLOCKS_INLINE void blocks_mark_reserved(const uint8_t *restrict codes, size_t words, uint32_t top,
                                        uint32_t flaws[restrict BLOCKS_LANES]) {
    size_t lanes = words < BLOCKS_LANES ? words : BLOCKS_LANES;
    for (size_t i = 0; i < words; i += lanes)
        for (size_t j = 0; j < lanes; j++) {
            uint32_t word;
            memcpy(&word, codes + sizeof word * (i + j), sizeof word);
            word ^= top; /* a reserved code is 0 now, and only there no carry and no bit reaches its top */
            flaws[j] |= ~(((word & ~top) + ~top) | word | ~top);
        }
}

BLOCKS_INLINE bool blocks_are_zero(const uint8_t *bytes, size_t count) {
    uint8_t any = 0;
    for (size_t i = 0; i < count; i++)
        any |= bytes[i];
    return any == 0;
}

BLOCKS_INLINE bool blocks_are_sound(const uint32_t flaws[BLOCKS_LANES]) {
    uint32_t any = 0;
    for (size_t i = 0; i < BLOCKS_LANES; i++)
        any |= flaws[i];
    return any == 0;
}

/* The short last block goes through a padded copy. */
BLOCKS_INLINE bool blocks_encode_rest(const struct block_format *format, const float *src, size_t count, uint8_t *dst,
                                      float *decoded) {
    float values[BLOCKS_VALUES_MAX] = {0};
    uint8_t bytes[BLOCKS_BYTES_MAX];
    memcpy(values, src, count * sizeof *src);
    if (!format->encode(values, bytes, decoded))
        return false;
    memcpy(dst, bytes, format->size(count));
    return true;
}

BLOCKS_INLINE bool blocks_decode_rest(const struct block_format *format, const uint8_t *src, size_t count,
                                      float *decoded, uint32_t flaws[BLOCKS_LANES]) {
    uint8_t bytes[BLOCKS_BYTES_MAX] = {0};
    size_t size = format->size(count);
    memcpy(bytes, src, size);
    return format->decode(bytes, decoded, NULL, flaws) &&
           !(format->nibbles && count % 2 == 1 && bytes[size - 1] >> 4 != 0);
}

BLOCKS_INLINE enum status blocks_encode(const struct block_format *format, const float *src, size_t count,
                                        uint8_t *dst) {
    size_t at = 0;
    for (; count - at >= format->values; at += format->values, dst += format->bytes) {
        vector_prefetch(src + at, format->values * sizeof *src);
        vector_prefetch(dst, format->bytes);
        if (!format->encode(src + at, dst, NULL))
            return STATUS_NOT_FINITE;
    }
    if (at < count && !blocks_encode_rest(format, src + at, count - at, dst, NULL))
        return STATUS_NOT_FINITE;
    return STATUS_OK;
}

BLOCKS_INLINE enum status blocks_decode(const struct block_format *format, const uint8_t *src, size_t count,
                                        float *dst) {
    uint32_t flaws[BLOCKS_LANES] = {0};
    size_t at = 0;
    for (; count - at >= format->values; at += format->values, src += format->bytes) {
        vector_prefetch(src, format->bytes);
        vector_prefetch(dst + at, format->values * sizeof *dst);
        if (!format->decode(src, dst + at, NULL, flaws))
            return STATUS_DATA;
    }
    if (at < count) {
        float decoded[BLOCKS_VALUES_MAX];
        if (!blocks_decode_rest(format, src, count - at, decoded, flaws))
            return STATUS_DATA;
        memcpy(dst + at, decoded, (count - at) * sizeof *dst);
    }
    return blocks_are_sound(flaws) ? STATUS_OK : STATUS_DATA;
}

/* left_out may be residual: a block is read before it is written. */
BLOCKS_INLINE enum status blocks_encode_fed(const struct block_format *format, const float *difference,
                                            const float *residual, size_t count, uint8_t *dst, float *left_out) {
    float x[BLOCKS_VALUES_MAX], decoded[BLOCKS_VALUES_MAX];
    size_t at = 0, bytes = format->values * sizeof *x;
    for (; count - at >= format->values; at += format->values, dst += format->bytes) {
        vector_prefetch(difference + at, bytes);
        vector_prefetch(residual + at, bytes);
        vector_prefetch(dst, format->bytes);
        vector_prefetch(left_out + at, bytes);
        for (size_t i = 0; i < format->values; i++)
            x[i] = difference[at + i] + residual[at + i];
        if (!format->encode(x, dst, decoded))
            return STATUS_NOT_FINITE;
        for (size_t i = 0; i < format->values; i++)
            left_out[at + i] = x[i] - decoded[i];
    }
    if (at == count)
        return STATUS_OK;
    for (size_t i = 0; i < count - at; i++)
        x[i] = difference[at + i] + residual[at + i];
    if (!blocks_encode_rest(format, x, count - at, dst, decoded))
        return STATUS_NOT_FINITE;
    for (size_t i = 0; i < count - at; i++)
        left_out[at + i] = x[i] - decoded[i];
    return STATUS_OK;
}

BLOCKS_INLINE enum status blocks_decode_add(const struct block_format *format, const uint8_t *src, size_t count,
                                            float weight, float *sum) {
    uint32_t flaws[BLOCKS_LANES] = {0};
    size_t at = 0;
    for (; count - at >= format->values; at += format->values, src += format->bytes) {
        vector_prefetch(src, format->bytes);
        vector_prefetch(sum + at, format->values * sizeof *sum);
        if (!format->decode(src, sum + at, &weight, flaws))
            return STATUS_DATA;
    }
    if (at < count) {
        float decoded[BLOCKS_VALUES_MAX];
        if (!blocks_decode_rest(format, src, count - at, decoded, flaws))
            return STATUS_DATA;
        for (size_t i = 0; i < count - at; i++)
            blocks_put(sum + at + i, &weight, decoded[i]);
    }
    return blocks_are_sound(flaws) ? STATUS_OK : STATUS_DATA;
}

/* The four entry points of a format: NAME_encode and so on, from a constant FORMAT. */
#define BLOCKS_DEFINE(NAME, FORMAT)                                                                                    \
    HOT_LOOP enum status NAME##_encode(const float *src, size_t count, uint8_t *dst) {                                 \
        return blocks_encode(&(FORMAT), src, count, dst);                                                              \
    }                                                                                                                  \
    HOT_LOOP enum status NAME##_decode(const uint8_t *src, size_t count, float *dst) {                                 \
        return blocks_decode(&(FORMAT), src, count, dst);                                                              \
    }                                                                                                                  \
    HOT_LOOP enum status NAME##_encode_fed(const float *difference, const float *residual, size_t count, uint8_t *dst, \
                                           float *left_out) {                                                          \
        return blocks_encode_fed(&(FORMAT), difference, residual, count, dst, left_out);                               \
    }                                                                                                                  \
    HOT_LOOP enum status NAME##_decode_add(const uint8_t *src, size_t count, float weight, float *sum) {               \
        return blocks_decode_add(&(FORMAT), src, count, weight, sum);                                                  \
    }

#endif
