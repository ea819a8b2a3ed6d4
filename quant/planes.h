/* planes: lossless compression of an f32 array, for whole-fragment transfers: what a returning worker fetches of g
 * and u. Every bit pattern comes back: NaN payloads, infinities, subnormals, -0.
 *
 *   16 bytes       magic "APL1" | 4 zero bytes | count, u64
 *   each block     PLANES_BLOCK_FLOATS floats, the last one shorter:
 *     16 bytes       stored length of planes 0, 1, 2, 3, u32 each
 *     planes 0..3    plane p holds byte p of every float: 0 the lowest mantissa bits .. 3 sign and upper exponent bits
 *                      length = floats of the block: the plane itself
 *                      length < floats of the block: one zstd frame of it; encode takes it only when it is smaller
 *
 * All integers little-endian. Nothing follows the last block. For a given libzstd equal floats give equal bytes;
 * another version may give others, which decode all the same: who compares bytes compares those of one encoder, and
 * the floats by their state hash.
 *
 * What there is to gain: mantissas are noise, so only plane 3 shrinks (8 -> 2.9 bits). Momentum after few commits is
 * a sum of few quantized values, and so are its low planes. Ratio f32 / encoded, and MB/s of splitting and
 * compressing: g and u of the model of experiments/islands.yaml, 788 k floats, after 0, 1, 3 and 20 commits with e3m0
 * (libzstd 1.5.4, one core of an Intel Xeon with AVX-512):
 *
 *                                          g 0     g 20      u 1      u 3     u 20   MB/s, g 20
 *   level 1, matches of 7 bytes or more  1.259    1.192    7.712    1.775    1.191      993     <- taken
 *   level 1                              1.252    1.184    7.372    1.759    1.184      871
 *   level 3                              1.242    1.174    7.179    1.725    1.174      541
 *   level 6                              1.242    1.174    7.438    1.688    1.175      166
 *   taken, sign rotated to bit 0         1.248    1.193    8.267    1.740    1.193      984
 *   taken, blocks of 131072              1.253    1.191    7.691    1.772    1.190     1122
 *   order-0 entropy of the planes        1.276    1.196    9.125    1.743    1.204
 *
 * planes_encode as a whole: 0.9 GB/s of g 20, 0.5 of u 3 (the slowest); planes_decode 3.1 and 1.2.
 *
 * Higher levels search harder and find matches in noise, which cost more than the literals that they replace. An
 * exponent byte of its own gains 0.2 % late in a run and loses up to 2 % early: not worth the rotation. */
#ifndef ATOLL_QUANT_PLANES_H
#define ATOLL_QUANT_PLANES_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

enum { PLANES_BLOCK_FLOATS = 65536 };

/* planes_bound: the most that encode makes of `count` floats: 4 count + 16 + 16 per block. CHECKs that this fits a
 * size_t. */
size_t planes_bound(size_t count);

/* planes_encode: src (count,) f32, borrowed; count may be 0. dst: capacity bytes, any alignment; *bytes: how many
 * were written. The bytes do not depend on the capacity. STATUS_DATA: they do not fit (never with capacity >=
 * planes_bound(count)); STATUS_NO_MEMORY; in both cases dst is unspecified and *bytes untouched. Takes 0.7 MB while
 * it runs, whatever the count. */
MUST_USE enum status planes_encode(const float *src, size_t count, uint8_t *dst, size_t capacity, size_t *bytes,
                                   struct error *error);

/* planes_decode: exactly `bytes` bytes -> dst (count,) f32; the count is known from the run, not taken from the
 * bytes. Bytes from a peer are hostile: STATUS_DATA says where they are wrong (refuse the transfer), dst unspecified.
 * Bytes that decode may still be the wrong floats: the caller compares the state hash. STATUS_NO_MEMORY. Takes 0.4 MB
 * while it runs, whatever the bytes say. */
MUST_USE enum status planes_decode(const uint8_t *src, size_t bytes, float *dst, size_t count, struct error *error);

#endif
