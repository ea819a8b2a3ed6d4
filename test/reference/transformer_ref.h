/* transformer_ref: the model's mathematics a second time, in float64, from the formulas alone (DESIGN section 3, "Model"), as the judge of
 * model/. Plain loops over scalars, whole attention matrices, no blocking, no BLAS, no code shared with model/; of model/ it knows only
 * the hyper-parameters (shape.h) and where a tensor lies in a block (tensors.h). It is itself judged by finite differences.
 *
 * Letters: N rows (tokens), C columns, B windows, T positions, H heads, K kv_heads, D head_dim, V vocab. Row-major throughout.
 * Every *_backward adds into the gradients of its inputs (never overwrites), so that a value with two readers sums both. */
#ifndef ATOLL_TEST_REFERENCE_TRANSFORMER_REF_H
#define ATOLL_TEST_REFERENCE_TRANSFORMER_REF_H

#include <stdint.h>
#include "model/shape.h"
#include "model/tensors.h"

/* y (N,O) = x (N,I) w (O,I)^T */
void linear_ref(const double *x, const double *w, int N, int I, int O, double *y);
void linear_ref_backward(const double *x, const double *w, int N, int I, int O, const double *dy, double *dx,
                         double *dw);

/* y[n,c] = w[c] x[n,c] / sqrt(mean_c x[n,c]^2 + eps); w (C,). Zhang and Sennrich, arXiv 1910.07467, equation 4. */
void rmsnorm_ref(const double *x, const double *w, int N, int C, double eps, double *y);
void rmsnorm_ref_backward(const double *x, const double *w, int N, int C, double eps, const double *dy, double *dx,
                          double *dw);

/* x, y (N, heads, D); row n stands at position n mod T. Rotate-half: the pair (i, i + D/2) turns by position * theta^(-2i/D). */
void rope_ref(const double *x, int N, int T, int heads, int D, double theta, double *y);
void rope_ref_backward(int N, int T, int heads, int D, double theta, const double *dy, double *dx);

/* Causal grouped-query attention: q, out (B*T, H, D); k, v (B*T, K, D); head h reads key-value head h / (H/K).
 * out = softmax(q k^T / sqrt(D)) v over positions <= the query's. */
void attention_ref(const double *q, const double *k, const double *v, int B, int T, int H, int K, int D, double *out);
void attention_ref_backward(const double *q, const double *k, const double *v, int B, int T, int H, int K, int D,
                            const double *dout, double *dq, double *dk, double *dv);

/* y = silu(gate) * up, silu(a) = a / (1 + e^-a); count elements. */
void swiglu_ref(const double *gate, const double *up, int count, double *y);
void swiglu_ref_backward(const double *gate, const double *up, int count, const double *dy, double *dgate, double *dup);

/* Returns mean cross-entropy + z_loss * mean(logsumexp^2) over N rows; logits (N,V), targets (N,). *cross_entropy is the first term
 * (may be NULL). */
double loss_ref(const double *logits, const int32_t *targets, int N, int V, double z_loss, double *cross_entropy);
void loss_ref_backward(const double *logits, const int32_t *targets, int N, int V, double z_loss, double dloss,
                       double *dlogits);

/* The whole model. parameters, gradients (block_floats,) by the table. windows (B, T+1): the first T of each are inputs, the last T targets.
 * Returns the loss; adds its gradient times `scale` into `gradients` unless that is NULL; *cross_entropy as above. Aborts without memory. */
double transformer_ref_loss(const struct shape *shape, const struct tensor_table *table, const double *parameters,
                            const int32_t *windows, int B, int T, double scale, double *gradients,
                            double *cross_entropy);
/* logits (T,V) of one sequence tokens (T,). */
void transformer_ref_logits(const struct shape *shape, const struct tensor_table *table, const double *parameters,
                            const int32_t *tokens, int T, double *logits);

#endif
