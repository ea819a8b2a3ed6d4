/* linear: see linear.h. */
#include "model/linear.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif
#include "base/arena.h"
#include "base/check.h"
#include "model/gemm.h"
#include "model/gemm_avx512.h"
#include "model/onednn.h"

struct linear {
    enum linear_kind kind;
    struct onednn *onednn; /* LINEAR_BF16 */
    float *scratch;        /* LINEAR_AVX512 */
};

bool linear_works(enum linear_kind kind) {
    return kind == LINEAR_BLAS || (kind == LINEAR_AVX512 ? gemm_avx512_works() : onednn_has_bf16());
}

static enum linear_kind f32_kind(void) {
    return linear_works(LINEAR_AVX512) ? LINEAR_AVX512 : LINEAR_BLAS;
}

enum status linear_resolve(enum inner_precision asked, enum linear_kind *kind, struct error *error) {
    bool bf16 = linear_works(LINEAR_BF16);
    if (asked == INNER_PRECISION_BF16 && !bf16)
        return error_set(error, STATUS_CONFIG, "inner.precision: bf16 does not work here: %s; use f32 or auto",
                         onednn_text());
    *kind = bf16 && asked != INNER_PRECISION_F32 ? LINEAR_BF16 : f32_kind();
    return STATUS_OK;
}

const char *linear_text(enum linear_kind kind) {
    static _Thread_local char text[80];
    if (kind != LINEAR_BF16)
        return kind == LINEAR_AVX512 ? "f32 (AVX-512)" : "f32 (OpenBLAS)";
    snprintf(text, sizeof text, "bf16 (%s)", onednn_text());
    return text;
}

const char *linear_f32_text(void) {
    return linear_text(f32_kind());
}

size_t linear_scratch_bytes(enum linear_kind kind, struct gemm_panels panels) {
    switch (kind) {
    case LINEAR_BLAS:
        return panels.a_bytes + panels.b_bytes;
    case LINEAR_AVX512:
        return gemm_avx512_scratch_floats() * sizeof(float);
    case LINEAR_BF16: /* the code and scratch of oneDNN: small beside the factors */
    case LINEAR_KINDS:
        break;
    }
    return 0;
}

enum status linear_open(enum linear_kind kind, struct linear **opened, struct error *error) {
    CHECK(linear_works(kind));
    struct linear *linear = calloc(1, sizeof *linear);
    if (linear == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for products");
    linear->kind = kind;
    enum status status = STATUS_OK;
    if (kind == LINEAR_BF16)
        status = onednn_open(&linear->onednn, error);
    if (kind == LINEAR_AVX512) {
        linear->scratch =
            aligned_alloc(ARENA_ALIGNMENT, arena_round(linear_scratch_bytes(kind, (struct gemm_panels){0})));
        if (linear->scratch == NULL)
            status = error_set(error, STATUS_NO_MEMORY, "no memory for products");
    }
    if (status != STATUS_OK) {
        free(linear);
        return status;
    }
    *opened = linear;
    return STATUS_OK;
}

void linear_close(struct linear *linear) {
    if (linear == NULL)
        return;
    onednn_close(linear->onednn);
    free(linear->scratch);
    free(linear);
}

/* ---- rounding ---- */

#ifdef __x86_64__
/* The CPU that multiplies bf16 rounds to it: no other comes here. 32 values are read before they are written: rounding in place works. */
__attribute__((target("avx512f,avx512bw,avx512bf16"))) static void round_values(size_t count, const float *values,
                                                                                void *room) {
    enum { LANES = 16, STRIPE = 2 * LANES };
    uint16_t *to = room;
    size_t i = 0;
    for (; i + STRIPE <= count; i += STRIPE) {
        __m512 low = _mm512_loadu_ps(values + i), high = _mm512_loadu_ps(values + i + LANES);
        _mm512_storeu_si512(to + i, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
    uint32_t left = (1u << (count - i)) - 1;
    __m512 low = _mm512_maskz_loadu_ps((__mmask16)left, values + i),
           high = _mm512_maskz_loadu_ps((__mmask16)(left >> LANES), values + i + LANES);
    _mm512_mask_storeu_epi16(to + i, left, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}
#else
static void round_values(size_t count, const float *values, void *room) {
    (void)count, (void)values, (void)room;
    CHECK(!"bf16 factors on this CPU"); /* linear_resolve refuses them */
}
#endif

struct factor linear_factor(const struct linear *linear, size_t count, const float *values, void *room) {
    if (linear->kind != LINEAR_BF16)
        return (struct factor){.f32 = values};
    round_values(count, values, room);
    return (struct factor){.bf16 = room};
}

struct factor factor_at(struct factor factor, size_t values) {
    return (struct factor){.f32 = factor.f32 != NULL ? factor.f32 + values : NULL,
                           .bf16 = factor.bf16 != NULL ? factor.bf16 + values : NULL};
}

/* ---- products ---- */

/* c (M,N) = base + op(a) op(b); base NULL: zero. */
static void multiply(struct linear *linear, bool transpose_a, bool transpose_b, int M, int N, int K, struct factor a,
                     struct factor b, const float *base, float *c) {
    bool bf16 = linear->kind == LINEAR_BF16;
    CHECK((a.bf16 != NULL) == bf16 && (b.bf16 != NULL) == bf16);
    if (linear->kind == LINEAR_AVX512) {
        gemm_avx512(transpose_a, transpose_b, M, N, K, a.f32, b.f32, base, c, linear->scratch);
        return;
    }
    if (base != NULL && base != c)
        memcpy(c, base, (size_t)M * (size_t)N * sizeof *c);
    if (bf16)
        onednn_product(linear->onednn, transpose_a, transpose_b, M, N, K, a.bf16, b.bf16, base != NULL, c);
    else
        gemm(transpose_a, transpose_b, M, N, K, 1, a.f32, transpose_a ? M : K, b.f32, transpose_b ? K : N,
             base != NULL ? 1 : 0, c, N);
}

void linear_forward(struct linear *linear, int rows, int inputs, int outputs, struct factor x, struct factor w,
                    const float *base, float *out) {
    multiply(linear, false, true, rows, outputs, inputs, x, w, base, out);
}

void linear_backward_input(struct linear *linear, int rows, int inputs, int outputs, struct factor dout,
                           struct factor w, float *dx, bool add) {
    multiply(linear, false, false, rows, inputs, outputs, dout, w, add ? dx : NULL, dx);
}

void linear_backward_weight(struct linear *linear, int rows, int inputs, int outputs, struct factor dout,
                            struct factor x, float *dw) {
    if (linear->kind != LINEAR_BLAS) {
        multiply(linear, true, false, outputs, inputs, rows, dout, x, dw, dw);
        return;
    }
    CHECK(dout.f32 != NULL && x.f32 != NULL);
    for (int first = 0; first < outputs; first += LINEAR_OUTPUTS_BLOCK) {
        int count = outputs - first < LINEAR_OUTPUTS_BLOCK ? outputs - first : LINEAR_OUTPUTS_BLOCK;
        gemm(true, false, count, inputs, rows, 1, dout.f32 + first, outputs, x.f32, inputs, 1,
             dw + (size_t)first * (size_t)inputs, inputs);
    }
}
