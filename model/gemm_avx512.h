/* gemm_avx512: f32 products, row-major and dense or in panels, by our own kernels for CPUs with AVX-512. OpenBLAS 0.3.21 packs both factors for each
 * product and reaches two thirds of the multiply-adds of the Xeon (L1 48 KiB, L2 2 MiB) on which these were made; here only the right
 * factor is packed, and a left one that is transposed; what comes next is fetched from far memory meanwhile; a product may begin with
 * another matrix than the one it writes, and end with what is done with its sums while they are near. Results differ between this and BLAS in rounding; on
 * one machine equal inputs give equal bits. */
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

/* A matrix in panels: its columns in groups of GEMM_PANEL, one group behind the other; in a group, rows one behind the other, GEMM_PANEL floats each. What the
 * last group has too many is not written, and no result depends on it. Rows that are 4 KiB apart, or any whole pages, share few places of a cache, and
 * what comes next is hard to foresee; a panel is one piece, in the order in which products write it. */
enum { GEMM_PANEL = 48 };
static inline size_t gemm_panels_columns(size_t columns) {
    return (columns + GEMM_PANEL - 1) / GEMM_PANEL * GEMM_PANEL;
}
/* Where a value of a matrix (rows,columns) is, in floats. */
static inline size_t gemm_place(bool in_panels, size_t rows, size_t columns, size_t row, size_t column) {
    return in_panels ? (column / GEMM_PANEL * rows + row) * GEMM_PANEL + column % GEMM_PANEL : row * columns + column;
}

/* What is to become of a product's sums, while they are near: run is called for parts of c that hold their last sums, `rows` x `columns` from float `at` of c
 * on, rows `stride` floats apart; each value is in one part. It may change them, and the same values of matrices beside c, of c's shape and order: those of
 * GEMM_BESIDE are asked for in time, where whole tiles of a left factor that is not transposed make c (elsewhere one, and base not); NULL for none. */
enum { GEMM_BESIDE = 2 };
struct gemm_finish {
    void (*run)(const struct gemm_finish *finish, int rows, int columns, size_t at, size_t stride);
    const float *beside[GEMM_BESIDE]; /* addresses only */
};

/* c (M,N) = base (M,N) + op(a) (M,K) op(b) (K,N), all sizes >= 1. A transposed operand is stored as (K,M) or (N,K). Matrices are row-major and dense, or in
 * panels, in which bits are the same. a and b must not overlap c. */
struct gemm_product {
    bool transpose_a, transpose_b;
    bool a_in_panels, b_in_panels, c_in_panels; /* as stored; base as c; a transposed b never is */
    int M, N, K;
    const float *a, *b, *base; /* base NULL: zero; it may be c, otherwise they must not overlap */
    float *c;
    const struct gemm_finish *finish; /* or NULL */
    float *scratch;                   /* gemm_avx512_scratch_floats; contents are lost */
};

/* gemm_avx512: CHECKs gemm_avx512_works. */
void gemm_avx512(const struct gemm_product *product);

#endif
