/* gemm: the one door to BLAS. f32, row-major; results depend on the BLAS core, so nothing that machines share may pass through
 * here. On one machine, equal inputs give equal bits. */
#ifndef ATOLL_MODEL_GEMM_H
#define ATOLL_MODEL_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

/* gemm: c (M,N) = alpha * op(a) op(b) + beta * c, with op(a) (M,K), op(b) (K,N). A transposed operand is stored as (K,M) or
 * (N,K). lda, ldb, ldc: floats from one stored row to the next. beta 0 never reads c. */
void gemm(bool transpose_a, bool transpose_b, int M, int N, int K, float alpha, const float *a, int lda, const float *b,
          int ldb, float beta, float *c, int ldc);

/* What a thread's products touch of the 128 MiB that OpenBLAS maps for it: room for both operands' packed panels. */
struct gemm_panels {
    size_t a_bytes, b_bytes; /* each the most of all products */
};
/* gemm_panels_widen: the three products of a linear layer of this shape. Follows driver/level3/level3.c of OpenBLAS 0.3.21 with the panel sizes of its
 * param.h for the core in use; those of SkylakeX and Haswell were checked against RssAnon, for other cores it is an estimate. */
void gemm_panels_widen(struct gemm_panels *panels, int rows, int inputs, int outputs);

/* gemm_check_memory: OpenBLAS takes 128 MiB of address space a thread, when it is loaded and at the first product; when it gets none it
 * tries again for ever, without a word. STATUS_NO_MEMORY: a limit on this process (ulimit -v) leaves less. Its threads may hang by then, and
 * exit() waits for them: leave by _Exit. */
MUST_USE enum status gemm_check_memory(struct error *error);

/* gemm_use_one_thread: products run in the thread that calls, and as many threads as like may call. model_create has done it; who measures products
 * without a model does it first. BLAS's own threads would collide with ours, and wait by spinning. Never while another thread computes. */
void gemm_use_one_thread(void);
/* The kernel that BLAS chose for this CPU ("SkylakeX") and its build line; static text. An environment may force a slow one. */
const char *gemm_core_name(void);
const char *gemm_config(void);

#endif
