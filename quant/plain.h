/* plain: the codecs without a scale. f32 copies; bf16 keeps the upper half of an f32, rounded to nearest, ties to even.
 * Contracts as in codec.h. Both keep -0 and subnormals.
 *
 *   f32   bytes = 4 count     error 0
 *   bf16  bytes = 2 count     |error| <= |x| / 257 for normal x (met at x = 1 + 2^-8: the spacing is 2^-7 of the power of two),
 *                             |error| <= 2^-134 for subnormal x; relative rms of values smooth over an octave:
 *                             (2^-7 / sqrt(12)) / sqrt(7 / 3) = 1.48e-3
 *
 * bf16 refuses on encode what would round to infinity (|x| >= 2^128 - 2^119), so that decode never has to make one. */
#ifndef ATOLL_QUANT_PLAIN_H
#define ATOLL_QUANT_PLAIN_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

size_t plain_f32_bytes(size_t count);
MUST_USE enum status plain_f32_encode(const float *src, size_t count, uint8_t *dst);
MUST_USE enum status plain_f32_decode(const uint8_t *src, size_t count, float *dst);
MUST_USE enum status plain_f32_encode_fed(const float *difference, const float *residual, size_t count, uint8_t *dst,
                                          float *left_out);
MUST_USE enum status plain_f32_decode_add(const uint8_t *src, size_t count, float weight, float *sum);
MUST_USE enum status plain_f32_encode_ref(const float *src, size_t count, uint8_t *dst);
MUST_USE enum status plain_f32_decode_ref(const uint8_t *src, size_t count, float *dst);

size_t plain_bf16_bytes(size_t count);
MUST_USE enum status plain_bf16_encode(const float *src, size_t count, uint8_t *dst);
MUST_USE enum status plain_bf16_decode(const uint8_t *src, size_t count, float *dst);
MUST_USE enum status plain_bf16_encode_fed(const float *difference, const float *residual, size_t count, uint8_t *dst,
                                           float *left_out);
MUST_USE enum status plain_bf16_decode_add(const uint8_t *src, size_t count, float weight, float *sum);
MUST_USE enum status plain_bf16_encode_ref(const float *src, size_t count, uint8_t *dst);
MUST_USE enum status plain_bf16_decode_ref(const uint8_t *src, size_t count, float *dst);

#endif
