/* mlp: the gate of SwiGLU, h = silu(gate) * up with silu(a) = a / (1 + exp(-a)); arXiv 2002.05202. The three products around it
 * are linear layers (linear.h). */
#ifndef ATOLL_MODEL_MLP_H
#define ATOLL_MODEL_MLP_H

#include <stddef.h>
#include "model/gemm_avx512.h"

/* gate, up (count,) -> h (count,), set. h may be gate or up. */
void mlp_gate_forward(size_t count, const float *gate, const float *up, float *h);

/* In place, one pass: gate -> dgate, up -> dup, dh -> h (recomputed, for the weight gradient of the down projection). All (count,). */
void mlp_gate_backward(size_t count, float *restrict gate, float *restrict up, float *restrict dh);

/* The same, part by part, as the finish (gemm_avx512.h) of the product that writes `up`, or of that which writes dh. All three lie in the order of that one. */
struct mlp_gate {
    struct gemm_finish finish; /* first: run is given this */
    float *gate, *up, *h;      /* h: dh in the backward pass */
};
struct mlp_gate mlp_gate_finish_forward(float *gate, float *up, float *h);
struct mlp_gate mlp_gate_finish_backward(float *gate, float *up, float *dh);

#endif
