/* e3m0: 4-bit outer gradients. 1 sign, 3 exponent, 0 mantissa bits per value, one power-of-two scale per block of 128.
 * Source: arXiv 2501.18512 section 3.3 (E3M0); values as oneDNN's f4_e3m0. Contracts as in codec.h.
 *
 *   one block of n <= 128 values, 1 + ceil(n / 2) bytes; blocks back to back, restarting at each tensor
 *
 *     byte 0   the scale's exponent: s = 2^(byte - 127). 0: the block is zero. 23 .. 250 valid, the rest reserved.
 *     byte 1   |  value 1  |  value 0  |
 *     byte 2   |  value 3  |  value 2  |      a nibble:  | sign | exponent 3 |
 *     ...         high 4      low 4                         8      4   2   1
 *
 *     exponent    0     1     2     3     4     5     6     7
 *     magnitude   0    s/4   s/2    s    2 s   4 s   8 s  16 s         nibble 8 (-0) is reserved; -0 -> 0
 *
 * Size: ceil(count / 128) + ceil(count / 2) bytes, 4.0625 bits per parameter. Blocks are interleaved with their scales, so that
 * any prefix decodes as far as it reaches and one pass writes it.
 *
 * Scale: the smallest power of two with absmax <= 16 s, so that 8 s < absmax. absmax < 2^-100: zero block. absmax > 2^127 is
 * refused like an infinity (16 s would not be finite).
 * Rounding: nearest in value, ties to the even code: the midpoints s/8, 3s/8, 3s/4, 3s/2, 3s, 6s, 12s go to codes 0, 2, 2, 4, 4, 6, 6.
 *
 * Error budget. |error| <= max(|x| / 3, s / 8), and <= absmax / 3 in a block; both are met (x = 12 s, the block's largest).
 * Relative rms for values smooth over an octave: sqrt(integral of (distance to nearest)^2 / integral of x^2 over [1, 2])
 * = sqrt((1/12) / (7/3)) = 0.189, whatever the scale: a logarithmic grid has no favourite size. For N(0, 1): 0.194.
 * The mean of error / x is not zero: values shrink or grow by their place in the octave; error feedback (residual.h) makes up.
 *
 * Ablation: relative rms error, measured by test/unit/quant/ablation_test.c (which says what the data are):
 *
 *   e3m0  scale                 block bits/par.    normal     rows  laplace  student
 *         power of two             32     4.250    0.1942   0.1958   0.1958   0.1963
 *         power of two             64     4.125    0.1942   0.1959   0.1958   0.1966
 *         power of two            128     4.062    0.1942   0.1959   0.1959   0.1972
 *         power of two            256     4.031    0.1942   0.1959   0.1959   0.1983
 *         power of two            512     4.016    0.1942   0.1963   0.1963   0.2005
 *         power of two         tensor     4.000    0.1944   0.2586   0.2009   0.4376
 *         power of two, best       32     4.250    0.1942   0.1958   0.1957   0.1961
 *         power of two, best       64     4.125    0.1942   0.1958   0.1957   0.1962
 *         power of two, best      128     4.062    0.1942   0.1958   0.1957   0.1963
 *         power of two, best      256     4.031    0.1942   0.1958   0.1958   0.1966
 *         power of two, best      512     4.016    0.1942   0.1959   0.1959   0.1975
 *         power of two, best   tensor     4.000    0.1942   0.2124   0.1972   0.2306
 *         f32                      32     5.000    0.1806   0.1789   0.1683   0.1473
 *         f32                      64     4.500    0.1879   0.1914   0.1787   0.1584
 *         f32                     128     4.250    0.1922   0.1936   0.1855   0.1669
 *         f32                     256     4.125    0.1948   0.1941   0.1900   0.1740
 *         f32                     512     4.062    0.1954   0.1944   0.1916   0.1788
 *         f32                  tensor     4.000    0.1947   0.2258   0.1978   0.3195
 *
 * Conclusion: from 32 to 512 the block hardly matters, because seven octaves hold the bulk of a block under any of its maxima;
 * beyond that, quiet rows sink under the smallest magnitude. 128 stands: within 0.5 % of 32 on every data set, 0.06 bits. The best of
 * four powers of two would buy 0.5 % at most. An f32 scale is exact for the largest value, which gains on heavy tails: student 15 % at
 * equal block, 9 % at equal bits (512), while normal loses 0.6 %; it would cost the integer-only arithmetic. By this measure
 * int4 (integer.h) is ahead: at 4.25 bits its error is 0.55 (normal), 0.72 (laplace), 0.92 (student) of e3m0's, at equal bits (block
 * 256) 0.65, 0.92, 1.39. What e3m0 keeps is the small values beside large ones; which one trains better is for a training run to say.
 * The data here are drawn, not taken from a run. */
#ifndef ATOLL_QUANT_E3M0_H
#define ATOLL_QUANT_E3M0_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

enum { E3M0_BLOCK = 128 };

size_t e3m0_bytes(size_t count);
MUST_USE enum status e3m0_encode(const float *src, size_t count, uint8_t *dst);
MUST_USE enum status e3m0_decode(const uint8_t *src, size_t count, float *dst);
MUST_USE enum status e3m0_encode_fed(const float *difference, const float *residual, size_t count, uint8_t *dst,
                                     float *left_out);
MUST_USE enum status e3m0_decode_add(const uint8_t *src, size_t count, float weight, float *sum);
MUST_USE enum status e3m0_encode_ref(const float *src, size_t count, uint8_t *dst);
MUST_USE enum status e3m0_decode_ref(const uint8_t *src, size_t count, float *dst);

#endif
