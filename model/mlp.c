/* mlp: see mlp.h. */
#include "model/mlp.h"
#include "base/vector.h"
#include "model/lanes.h"

enum { PIECE_FLOATS = 256 }; /* between prefetches */

static inline size_t piece_of(size_t left) {
    return left < PIECE_FLOATS ? left : PIECE_FLOATS;
}

HOT_LOOP void mlp_gate_forward(size_t count, const float *gate, const float *up, float *h) {
    for (size_t first = 0; first < count; first += PIECE_FLOATS) {
        size_t piece = piece_of(count - first);
        vector_prefetch(gate + first, piece * sizeof *gate);
        vector_prefetch(up + first, piece * sizeof *up);
        vector_prefetch(h + first, piece * sizeof *h);
        for (size_t i = first; i < first + piece; i++)
            h[i] = gate[i] / (1.0f + lanes_exp(-gate[i])) * up[i];
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
