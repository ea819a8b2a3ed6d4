/* gemm_avx512: f32 products, row-major and dense, by our own kernels for CPUs with AVX-512. OpenBLAS 0.3.21 packs both factors for each
 * product and reaches two thirds of the multiply-adds of the Xeon (L1 48 KiB, L2 2 MiB) on which these were made; here only the right
 * factor is packed, and a left one that is transposed; what comes next is fetched from far memory meanwhile, and a product may begin with
 * another matrix than the one it writes. Results differ between this and BLAS in rounding; on one machine equal inputs give equal bits. */
#ifndef ATOLL_MODEL_GEMM_AVX512_H
#define ATOLL_MODEL_GEMM_AVX512_H

#include <stdbool.h>
#include <stddef.h>

/* Whether this build and CPU have them. */
bool gemm_avx512_works(void);

/* Scratch memory of a thread, in floats; any alignment, 64 bytes is best. */
size_t gemm_avx512_scratch_floats(void);

/* Products with a transposed left factor add to c so many terms at a time: one of K terms has the bits of several, one after another, of whole multiples. */
enum { GEMM_AVX512_TERMS = 256 };

/* gemm_avx512: c (M,N) = base (M,N) + op(a) (M,K) op(b) (K,N), all sizes >= 1. base NULL: zero; base may be c, otherwise they must not overlap. A transposed
 * operand is stored as (K,M) or (N,K). a and b must not overlap c. Contents of scratch are lost. CHECKs gemm_avx512_works. */
void gemm_avx512(bool transpose_a, bool transpose_b, int M, int N, int K, const float *a, const float *b,
                 const float *base, float *c, float *scratch);

#endif
