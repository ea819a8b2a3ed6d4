/* attention: causal grouped-query softmax attention, scores scaled by 1/sqrt(D). Query head h reads key/value head h / (H/K).
 * Scores exist for one tile of one head at a time, with a running softmax; what stays for the backward pass is the logsumexp of each
 * row. As in FlashAttention (arXiv 2205.14135). On one machine equal inputs give equal bits; machines with other instruction sets
 * give others, since multiplication and addition are fused where there is an instruction for that. */
#ifndef ATOLL_MODEL_ATTENTION_H
#define ATOLL_MODEL_ATTENTION_H

#include <stddef.h>

struct attention_sizes {
    int B, T, H, K, D; /* K divides H */
};

/* Floats of scratch that both passes need, the same for any B. Fastest when aligned to 64 bytes. */
size_t attention_scratch_floats(struct attention_sizes sizes);

/* q (B,T,H,D), k (B,T,K,D), v (B,T,K,D) -> out (B,T,H,D) SET, lse (B,H,T) SET: log2 of the sum of exp of the scaled
 * scores. */
void attention_forward(struct attention_sizes sizes, const float *q, const float *k, const float *v, float *out,
                       float *lse, float *scratch);

/* dout (B,T,H,D), with out and lse of the forward pass -> dq (B,T,H,D), dk (B,T,K,D), dv (B,T,K,D), all SET.
 * No output may overlap an input. */
void attention_backward(struct attention_sizes sizes, const float *q, const float *k, const float *v, const float *out,
                        const float *lse, const float *dout, float *dq, float *dk, float *dv, float *scratch);

#endif
