/* attention: causal grouped-query softmax attention, scores scaled by 1/sqrt(D), of queries and keys that are normalized per head and
 * turned by their position (rope.h) as their tiles are taken in: neither form of them is ever kept. Query head h reads key/value head
 * h / (H/K). Scores exist for one tile of one head at a time, with a running softmax; what stays for the backward pass is the logsumexp
 * of each row. As in FlashAttention (arXiv 2205.14135). On one machine equal inputs give equal bits; machines with other instruction
 * sets give others, since multiplication and addition are fused where there is an instruction for that. */
#ifndef ATOLL_MODEL_ATTENTION_H
#define ATOLL_MODEL_ATTENTION_H

#include <stddef.h>

struct attention_sizes {
    int B, T, H, K, D; /* K divides H; D even */
};

/* Borrowed. */
struct attention_inputs {
    const float *q, *k, *v;       /* (B,T,H,D), (B,T,K,D), (B,T,K,D) as projected */
    const float *q_norm, *k_norm; /* (D,) weights of the norms */
    const float *cosine, *sine;   /* (T,D/2) or more rows, of rope_fill_table */
    float eps;                    /* of the norms */
};

/* All SET. */
struct attention_gradients {
    float *dq, *dk, *dv;      /* (B,T,H,D), (B,T,K,D), (B,T,K,D) of the projected */
    float *dq_norm, *dk_norm; /* (D,) */
};

/* Floats of scratch that both passes need, the same for any B. Fastest when aligned to 64 bytes. */
size_t attention_scratch_floats(struct attention_sizes sizes);

/* -> out (B,T,H,D) SET, lse (B,H,T) SET: log2 of the sum of exp of the scaled scores. */
void attention_forward(struct attention_sizes sizes, const struct attention_inputs *in, float *out, float *lse,
                       float *scratch);

/* dout (B,T,H,D), with out and lse of the forward pass -> gradients. No output may overlap an input. */
void attention_backward(struct attention_sizes sizes, const struct attention_inputs *in, const float *out,
                        const float *lse, const float *dout, const struct attention_gradients *gradients,
                        float *scratch);

#endif
