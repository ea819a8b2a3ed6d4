/* float_bits: the bits of an f32 as an integer and back, and the magnitude scan that every codec starts with. Integer work on the
 * bits makes codecs blind to rounding modes and to subnormals flushed by the processor. Private to quant/. */
#ifndef ATOLL_QUANT_FLOAT_BITS_H
#define ATOLL_QUANT_FLOAT_BITS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "payloads are little-endian and the codecs move them with memcpy: a big-endian port needs byte swaps here"
#endif

#define FLOAT_MAGNITUDE_MASK 0x7fffffffu
#define FLOAT_INFINITY_BITS  0x7f800000u
#define FLOAT_EXPONENT_SHIFT 23

/* What the block codecs (int8, int4, e3m0) agree on: below 2^-100 a block is zero, above 2^127 it is refused, so that neither a
 * scale nor a decoded value can be subnormal or infinite. */
#define BLOCK_ABSMAX_MIN_BITS ((uint32_t)(127 - 100) << FLOAT_EXPONENT_SHIFT)
#define BLOCK_ABSMAX_MAX_BITS ((uint32_t)(127 + 127) << FLOAT_EXPONENT_SHIFT)

static inline uint32_t float_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The largest |value| as bits; anything above FLOAT_INFINITY_BITS - 1 tells of a NaN or an infinity, since magnitudes order like
 * their bits. Signed, because every instruction set has a signed maximum. */
static inline uint32_t float_absmax_bits(const float *src, size_t count) {
    int32_t most = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t magnitude = (int32_t)(float_to_bits(src[i]) & FLOAT_MAGNITUDE_MASK);
        most = magnitude > most ? magnitude : most;
    }
    return (uint32_t)most;
}

#endif
