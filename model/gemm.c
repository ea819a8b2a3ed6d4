/* gemm: see gemm.h. Knows BLAS; must not know models. */
#include "model/gemm.h"
#include <cblas.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include "base/units.h"

static const uint64_t THREAD_BYTES = UINT64_C(128) << 20; /* BUFFER_SIZE of OpenBLAS */
static const uint64_t REST_BYTES = UINT64_C(256) << 20;   /* libraries, stacks, malloc's arenas */

void gemm(bool transpose_a, bool transpose_b, int M, int N, int K, float alpha, const float *a, int lda, const float *b,
          int ldb, float beta, float *c, int ldc) {
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans, M, N,
                K, alpha, a, lda, b, ldb, beta, c, ldc);
}

/* SGEMM_DEFAULT_P and _Q of param.h: a panel of A is at most P x Q, one of B at most Q high. A dimension between one and two panels is cut in half. */
struct panel_sizes {
    const char *core;
    size_t p, q;
};

static struct panel_sizes panel_sizes(void) {
    static const struct panel_sizes known[] = {{"SkylakeX", 448, 448},
                                               {"Cooperlake", 448, 448},
                                               {"SapphireRapids", 640, 320},
                                               {"Haswell", 320, 320},
                                               {"Zen", 320, 320}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].core, gemm_core_name()) == 0)
            return known[i];
    return known[0];
}

static size_t panel_of(size_t length, size_t most) {
    enum { UNROLL = 16 };
    if (length >= 2 * most)
        return most;
    return length > most ? (length / 2 + UNROLL - 1) / UNROLL * UNROLL : length;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Of c (M,N) = op(a) (M,K) op(b) (K,N), row-major: for BLAS, which thinks in columns, N is the side of its A. When that is one panel, B goes through
 * piece by piece; else its panel is kept whole. */
static void widen(struct gemm_panels *panels, int M, int N, int K) {
    enum { PIECE = 3 * 16 };
    struct panel_sizes sizes = panel_sizes();
    size_t n = (size_t)N, height = panel_of((size_t)K, sizes.q), width = n > sizes.p ? (size_t)M : PIECE;
    size_t most = THREAD_BYTES - sizes.p * sizes.q * sizeof(float);
    size_t b_bytes = height * width * sizeof(float);
    panels->a_bytes = larger(panels->a_bytes, panel_of(n, sizes.p) * height * sizeof(float));
    panels->b_bytes = larger(panels->b_bytes, b_bytes < most ? b_bytes : most);
}

void gemm_panels_widen(struct gemm_panels *panels, int rows, int inputs, int outputs) {
    widen(panels, rows, outputs, inputs);
    widen(panels, rows, inputs, outputs);
    widen(panels, outputs, inputs, rows);
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
