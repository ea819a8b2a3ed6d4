/* integer: int8 and int4 outer gradients, symmetric, one bf16 scale per block. Contracts as in codec.h.
 *
 *   one block of n values: int8 n <= 128, 2 + n bytes; int4 n <= 64, 2 + ceil(n / 2) bytes
 *   blocks back to back, restarting at each tensor
 *
 *     bytes 0-1   the scale s, the upper half of an f32 (bf16), little-endian. 0: the block is zero, all codes 0.
 *                 Valid: 0 and what encode makes of absmax in 2^-100 .. 2^127; sign, infinity, NaN, subnormals are reserved.
 *     int8        byte 2 + i             |  code i, two's complement  |    -127 .. 127; -128 is reserved
 *     int4        byte 2 + i  |  code 2i+1  |  code 2i  |                   -7 .. 7, two's complement of 4 bits; -8 is reserved
 *                                high 4        low 4                       an odd last block ends in a zero high half
 *
 * Size: int8 2 ceil(count / 128) + count, 8.125 bits per parameter; int4 2 ceil(count / 64) + ceil(count / 2), 4.25 bits.
 *
 * Scale: fl(absmax / L), L = 127 or 7, rounded up to a bf16: 8 significant bits, so that code * s is exact in f32, and decode the same
 * however a machine rounds. Rounded up, so that absmax does not leave the levels. absmax < 2^-100: zero block. absmax > 2^127 is
 * refused like an infinity. Code: fl(x * fl(1 / s)) rounded to the nearest integer, ties to even.
 *
 * Error budget. |error| <= s (1/2 + L 2^-23), s <= (1 + 2^-7) absmax / L; met at midpoints between levels.
 * Relative rms of N(0, sigma): s / sqrt(12) / sigma with s = E[absmax of a block] / L. E[absmax] is 2.83 sigma for 128
 * values, 2.60 for 64; rounding the scale up adds 0.3 %: int8 0.0065, int4 0.1076 (measured 0.0065, 0.1075).
 *
 * Ablation: relative rms error, measured by test/unit/quant/ablation_test.c (which says what the data are):
 *
 *   int4  scale                 block bits/par.    normal     rows  laplace  student
 *         bf16 rounded up          32     4.500    0.0972   0.0964   0.1217   0.1446
 *         bf16 rounded up          64     4.250    0.1075   0.1068   0.1418   0.1819
 *         bf16 rounded up         128     4.125    0.1172   0.1156   0.1610   0.2245
 *         bf16 rounded up         256     4.062    0.1259   0.1257   0.1808   0.2735
 *         bf16 rounded up         512     4.031    0.1338   0.1520   0.2168   0.3254
 *         bf16 rounded up      tensor     4.000    0.1896   0.6735   0.4758   0.8523
 *         f32                      32     5.000    0.0969   0.0961   0.1213   0.1443
 *         f32                      64     4.500    0.1072   0.1065   0.1414   0.1815
 *         f32                     128     4.250    0.1169   0.1153   0.1606   0.2239
 *         f32                     256     4.125    0.1255   0.1253   0.1803   0.2728
 *         f32                     512     4.062    0.1334   0.1516   0.2162   0.3247
 *         f32                  tensor     4.000    0.1886   0.6728   0.4746   0.8520
 *         power of two             32     4.250    0.1419   0.1452   0.1787   0.2052
 *         power of two             64     4.125    0.1480   0.1567   0.2057   0.2529
 *         power of two            128     4.062    0.1555   0.1674   0.2327   0.3047
 *         power of two            256     4.031    0.1673   0.1801   0.2608   0.3626
 *         power of two            512     4.016    0.1855   0.2084   0.3050   0.4211
 *         power of two         tensor     4.000    0.2810   0.7376   0.5026   0.8973
 *         f32, best of 16          32     5.000    0.0926   0.0914   0.1170   0.1406
 *         f32, best of 16          64     4.500    0.1006   0.1002   0.1334   0.1733
 *         f32, best of 16         128     4.250    0.1063   0.1056   0.1465   0.2074
 *         f32, best of 16         256     4.125    0.1097   0.1090   0.1555   0.2409
 *         f32, best of 16         512     4.062    0.1114   0.1298   0.1762   0.2740
 *         f32, best of 16      tensor     4.000    0.1132   0.3723   0.2332   0.5631
 *
 *   int8  scale                 block bits/par.    normal     rows  laplace  student
 *         bf16 rounded up          32     8.500    0.0054   0.0054   0.0069   0.0086
 *         bf16 rounded up          64     8.250    0.0060   0.0060   0.0079   0.0109
 *         bf16 rounded up         128     8.125    0.0065   0.0065   0.0090   0.0136
 *         bf16 rounded up         256     8.062    0.0070   0.0069   0.0101   0.0171
 *         bf16 rounded up         512     8.031    0.0074   0.0094   0.0125   0.0224
 *         bf16 rounded up      tensor     8.000    0.0104   0.0769   0.0318   0.1548
 *         f32                      32     9.000    0.0053   0.0053   0.0067   0.0084
 *         f32                      64     8.500    0.0059   0.0059   0.0079   0.0107
 *         f32                     128     8.250    0.0064   0.0064   0.0089   0.0135
 *         f32                     256     8.125    0.0069   0.0069   0.0100   0.0170
 *         f32                     512     8.062    0.0074   0.0094   0.0124   0.0223
 *         f32                  tensor     8.000    0.0104   0.0768   0.0316   0.1543
 *
 * Conclusion: a bf16 scale costs 0.5 % of the error at most against f32 and saves 16 bits a block; a power of two costs 28 .. 54 %. A
 * bit halves the error, so that a smaller block pays when error falls by 2^-(bits it costs): for int4 64 against 128 is even on normal
 * values and a gain on heavier tails, 32 loses on normal values. int8 stays at 128: its error is small beside the noise of a
 * gradient, so bytes count more. Searching the scale that minimizes squared error ("best of 16", clipping) gains 5 .. 6 % at 64 for
 * sixteen passes: not taken. */
#ifndef ATOLL_QUANT_INTEGER_H
#define ATOLL_QUANT_INTEGER_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

enum { INT8_BLOCK = 128, INT4_BLOCK = 64 };

size_t int8_bytes(size_t count);
MUST_USE enum status int8_encode(const float *src, size_t count, uint8_t *dst);
MUST_USE enum status int8_decode(const uint8_t *src, size_t count, float *dst);
MUST_USE enum status int8_encode_fed(const float *difference, const float *residual, size_t count, uint8_t *dst,
                                     float *left_out);
MUST_USE enum status int8_decode_add(const uint8_t *src, size_t count, float weight, float *sum);
MUST_USE enum status int8_encode_ref(const float *src, size_t count, uint8_t *dst);
MUST_USE enum status int8_decode_ref(const uint8_t *src, size_t count, float *dst);

size_t int4_bytes(size_t count);
MUST_USE enum status int4_encode(const float *src, size_t count, uint8_t *dst);
MUST_USE enum status int4_decode(const uint8_t *src, size_t count, float *dst);
MUST_USE enum status int4_encode_fed(const float *difference, const float *residual, size_t count, uint8_t *dst,
                                     float *left_out);
MUST_USE enum status int4_decode_add(const uint8_t *src, size_t count, float weight, float *sum);
MUST_USE enum status int4_encode_ref(const float *src, size_t count, uint8_t *dst);
MUST_USE enum status int4_decode_ref(const uint8_t *src, size_t count, float *dst);

#endif
