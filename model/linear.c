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

bool linear_has_panels(enum linear_kind kind) {
    return kind == LINEAR_AVX512;
}

int64_t linear_panels_columns(enum linear_kind kind, int64_t columns) {
    return linear_has_panels(kind) ? (int64_t)gemm_panels_columns((size_t)columns) : columns;
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

struct factor linear_factor_panels(const struct linear *linear, size_t count, const float *values, void *room) {
    struct factor factor = linear_factor(linear, count, values, room);
    factor.in_panels = linear_has_panels(linear->kind);
    return factor;
}

struct factor factor_at(struct factor factor, size_t values) {
    CHECK(!factor.in_panels);
    return (struct factor){.f32 = factor.f32 != NULL ? factor.f32 + values : NULL,
                           .bf16 = factor.bf16 != NULL ? factor.bf16 + values : NULL};
}

/* ---- products ---- */

/* What product (M,N,K, transposed or not, base, c) says, of these factors. */
static void multiply(struct linear *linear, struct gemm_product product, struct factor a, struct factor b) {
    struct gemm_product *p = &product;
    const bool bf16 = linear->kind == LINEAR_BF16, panels = linear_has_panels(linear->kind);
    CHECK((a.bf16 != NULL) == bf16 && (b.bf16 != NULL) == bf16);
    CHECK(panels || !(a.in_panels || b.in_panels || p->finish != NULL));
    if (linear->kind == LINEAR_AVX512) {
        p->a = a.f32, p->a_in_panels = a.in_panels;
        p->b = b.f32, p->b_in_panels = b.in_panels;
        p->scratch = linear->scratch;
        gemm_avx512(p);
        return;
    }
    if (p->base != NULL && p->base != p->c)
        memcpy(p->c, p->base, (size_t)p->M * (size_t)p->N * sizeof *p->c);
    if (bf16)
        onednn_product(linear->onednn, p->transpose_a, p->transpose_b, p->M, p->N, p->K, a.bf16, b.bf16,
                       p->base != NULL, p->c);
    else
        gemm(p->transpose_a, p->transpose_b, p->M, p->N, p->K, 1, a.f32, p->transpose_a ? p->M : p->K, b.f32,
             p->transpose_b ? p->K : p->N, p->base != NULL ? 1 : 0, p->c, p->N);
}

static void multiply_to_panels(struct linear *linear, struct gemm_product product, const struct gemm_finish *finish,
                               struct factor a, struct factor b) {
    product.c_in_panels = linear_has_panels(linear->kind);
    product.finish = finish;
    multiply(linear, product, a, b);
}

static struct gemm_product forward_product(int rows, int inputs, int outputs, float *out) {
    return (struct gemm_product){.transpose_b = true, .M = rows, .N = outputs, .K = inputs, .c = out};
}

static struct gemm_product input_product(int rows, int inputs, int outputs, float *dx) {
    return (struct gemm_product){.M = rows, .N = inputs, .K = outputs, .c = dx};
}

void linear_forward(struct linear *linear, int rows, int inputs, int outputs, struct factor x, struct factor w,
                    const float *base, float *out) {
    struct gemm_product product = forward_product(rows, inputs, outputs, out);
    product.base = base;
    multiply(linear, product, x, w);
}

void linear_forward_panels(struct linear *linear, int rows, int inputs, int outputs, struct factor x, struct factor w,
                           const struct gemm_finish *finish, float *out) {
    multiply_to_panels(linear, forward_product(rows, inputs, outputs, out), finish, x, w);
}

void linear_backward_input(struct linear *linear, int rows, int inputs, int outputs, struct factor dout,
                           struct factor w, float *dx, bool add) {
    struct gemm_product product = input_product(rows, inputs, outputs, dx);
    product.base = add ? dx : NULL;
    multiply(linear, product, dout, w);
}

void linear_backward_input_panels(struct linear *linear, int rows, int inputs, int outputs, struct factor dout,
                                  struct factor w, const struct gemm_finish *finish, float *dx) {
    multiply_to_panels(linear, input_product(rows, inputs, outputs, dx), finish, dout, w);
}

void linear_backward_weight(struct linear *linear, int rows, int inputs, int outputs, struct factor dout,
                            struct factor x, float *dw, bool add) {
    if (linear->kind != LINEAR_BLAS) {
        const struct gemm_product product = {
            .transpose_a = true, .M = outputs, .N = inputs, .K = rows, .base = add ? dw : NULL, .c = dw};
        multiply(linear, product, dout, x);
        return;
    }
    CHECK(dout.f32 != NULL && x.f32 != NULL);
    for (int first = 0; first < outputs; first += LINEAR_OUTPUTS_BLOCK) {
        int count = outputs - first < LINEAR_OUTPUTS_BLOCK ? outputs - first : LINEAR_OUTPUTS_BLOCK;
        gemm(true, false, count, inputs, rows, 1, dout.f32 + first, outputs, x.f32, inputs, add ? 1 : 0,
             dw + (size_t)first * (size_t)inputs, inputs);
    }
}
