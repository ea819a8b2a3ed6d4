/* mlp: the gate of SwiGLU, h = silu(gate) * up with silu(a) = a / (1 + exp(-a)); arXiv 2002.05202. The three products around it
 * are linear layers (gemm.h). */
#ifndef ATOLL_MODEL_MLP_H
#define ATOLL_MODEL_MLP_H

#include <stddef.h>

/* gate, up (count,) -> h (count,), set. h may be gate or up. */
void mlp_gate_forward(size_t count, const float *gate, const float *up, float *h);

/* In place, one pass: gate -> dgate, up -> dup, dh -> h (recomputed, for the weight gradient of the down projection). All (count,). */
void mlp_gate_backward(size_t count, float *restrict gate, float *restrict up, float *restrict dh);

#endif
