/* gemm: see gemm.h. Knows BLAS; must not know models. */
#include "model/gemm.h"
#include <cblas.h>
#include <stdint.h>
#include <sys/resource.h>
#include "base/units.h"

static const uint64_t THREAD_BYTES = UINT64_C(128) << 20; /* BUFFER_SIZE of OpenBLAS */
static const uint64_t REST_BYTES = UINT64_C(256) << 20;   /* libraries, stacks, malloc's arenas */

void gemm(bool transpose_a, bool transpose_b, int M, int N, int K, float alpha, const float *a, int lda, const float *b,
          int ldb, float beta, float *c, int ldc) {
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, M, N,
                K, alpha, a, lda, b, ldb, beta, c, ldc);
}

void linear_forward(int rows, int inputs, int outputs, const float *x, const float *w, float *out) {
    gemm(false, true, rows, outputs, inputs, 1, x, inputs, w, inputs, 0, out, outputs);
}

void linear_forward_add(int rows, int inputs, int outputs, const float *x, const float *w, float *out) {
    gemm(false, true, rows, outputs, inputs, 1, x, inputs, w, inputs, 1, out, outputs);
}

void linear_backward_input(int rows, int inputs, int outputs, const float *dout, const float *w, float *dx, bool add) {
    gemm(false, false, rows, inputs, outputs, 1, dout, outputs, w, inputs, add ? 1 : 0, dx, inputs);
}

void linear_backward_weight(int rows, int inputs, int outputs, const float *dout, const float *x, float *dw) {
    gemm(true, false, outputs, inputs, rows, 1, dout, outputs, x, inputs, 1, dw, inputs);
}

enum status gemm_check_memory(struct error *error) {
    struct rlimit limit;
    int threads = openblas_get_num_threads();
    char has[UNITS_TEXT_BYTES], needs[UNITS_TEXT_BYTES];
    uint64_t needed = REST_BYTES + THREAD_BYTES * (uint64_t)threads;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= needed)
        return STATUS_OK;
    return error_set(error, STATUS_NO_MEMORY,
                     "a limit of this shell allows %s of address space (ulimit -v), OpenBLAS needs %s for %d threads",
                     units_format_bytes(limit.rlim_cur, has), units_format_bytes(needed, needs), threads);
}

void gemm_use_one_thread(void) {
    openblas_set_num_threads(1);
}

const char *gemm_core_name(void) {
    return openblas_get_corename();
}

const char *gemm_config(void) {
    return openblas_get_config();
}
