/* mlp: see mlp.h. */
#include "model/mlp.h"
#include "base/vector.h"
#include "model/lanes.h"

enum { PIECE_FLOATS = 256 }; /* between prefetches */

static inline size_t piece_of(size_t left) {
    return left < PIECE_FLOATS ? left : PIECE_FLOATS;
}

static inline __attribute__((always_inline)) void gate_forward(size_t count, const float *gate, const float *up,
                                                               float *h) {
    for (size_t i = 0; i < count; i++)
        h[i] = gate[i] / (1.0f + lanes_exp(-gate[i])) * up[i];
}

HOT_LOOP void mlp_gate_forward(size_t count, const float *gate, const float *up, float *h) {
    for (size_t first = 0; first < count; first += PIECE_FLOATS) {
        size_t piece = piece_of(count - first);
        vector_prefetch(gate + first, piece * sizeof *gate);
        vector_prefetch(up + first, piece * sizeof *up);
        vector_prefetch(h + first, piece * sizeof *h);
        gate_forward(piece, gate + first, up + first, h + first);
    }
}

/* With s = sigmoid(a): d silu / d a = s * (1 + a * (1 - s)). */
static inline __attribute__((always_inline)) void gate_backward(size_t count, float *restrict gate, float *restrict up,
                                                                float *restrict dh) {
    for (size_t i = 0; i < count; i++) {
        float a = gate[i], u = up[i], d = dh[i];
        float s = 1.0f / (1.0f + lanes_exp(-a));
        float silu = a * s;
        gate[i] = d * u * (s * (1.0f + a * (1.0f - s)));
        up[i] = d * silu;
        dh[i] = silu * u;
    }
}

HOT_LOOP void mlp_gate_backward(size_t count, float *restrict gate, float *restrict up, float *restrict dh) {
    for (size_t first = 0; first < count; first += PIECE_FLOATS) {
        size_t piece = piece_of(count - first);
        vector_prefetch(gate + first, piece * sizeof *gate);
        vector_prefetch(up + first, piece * sizeof *up);
        vector_prefetch(dh + first, piece * sizeof *dh);
        gate_backward(piece, gate + first, up + first, dh + first);
    }
}

static HOT_LOOP void finish_forward(const struct gemm_finish *finish, int rows, int columns, size_t at, size_t stride) {
    const struct mlp_gate *g = (const struct mlp_gate *)finish;
    for (int row = 0; row < rows; row++, at += stride)
        gate_forward((size_t)columns, g->gate + at, g->up + at, g->h + at);
}

static HOT_LOOP void finish_backward(const struct gemm_finish *finish, int rows, int columns, size_t at,
                                     size_t stride) {
    const struct mlp_gate *g = (const struct mlp_gate *)finish;
    for (int row = 0; row < rows; row++, at += stride)
        gate_backward((size_t)columns, g->gate + at, g->up + at, g->h + at);
}

struct mlp_gate mlp_gate_finish_forward(float *gate, float *up, float *h) {
    return (struct mlp_gate){.finish = {.run = finish_forward, .beside = {gate, h}}, .gate = gate, .up = up, .h = h};
}

struct mlp_gate mlp_gate_finish_backward(float *gate, float *up, float *dh) {
    return (struct mlp_gate){.finish = {.run = finish_backward, .beside = {gate, up}}, .gate = gate, .up = up, .h = dh};
}
