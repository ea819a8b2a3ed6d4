/* transformer: the pre-norm decoder of DESIGN section 3 (the Qwen3 shape), one pass of it: a group of windows, forward and backward. A pass has its own
 * activations and knows no thread: passes on several threads share the parameters, which none writes, and the gradients, which they add to in turns.
 *
 *   x = embed[token]
 *   per layer:  x += o_proj(attention(rope(q_norm(q)), rope(k_norm(k)), v)),   q, k, v = projections of norm(x)
 *               x += down_proj(silu(gate) * up),                             gate, up = projections of norm(x)
 *   logits = head(norm(x))
 *
 * Norms, rotations and the gated product are cheap: the backward pass computes them again. Of what products made, it keeps what
 * shape.recompute says and computes the rest again, to the same bits. Must not know the update, files, data sets or sync. */
#ifndef ATOLL_MODEL_TRANSFORMER_H
#define ATOLL_MODEL_TRANSFORMER_H

#include <stdint.h>
#include "base/arena.h"
#include "model/gemm.h"
#include "model/linear.h"
#include "model/shape.h"
#include "model/step_profile.h"
#include "model/tensors.h"
#include "model/turns.h"

/* What all passes read. */
struct transformer {
    struct shape shape;
    struct tensor_table table;
    float *cosine, *sine; /* (context, D/2) */
    int unit_windows; /* of a unit: gradients are added unit by unit, so that their bits do not depend on the cut into passes */
    int pass_windows; /* the most windows of one pass: whole units */
    int logit_rows;   /* the most rows of which logits exist at a time */
    enum linear_kind products;
};

/* What a layer keeps for its backward pass, for N = B*T rows. With recompute attention, all layers share `attended` and `lse`; with block, all but x. */
struct kept {
    float *x;         /* (N,C) residual stream at the attention's norm */
    float *q, *k, *v; /* (N,H,D) (N,K,D) (N,K,D) before QK-norm and rotation */
    float *attended;  /* (N,H,D) */
    float *lse;       /* (B,H,T) */
    float *middle;    /* (N,C) residual stream at the MLP's norm */
    float *gate, *up; /* (N,F), may lie in panels; the backward pass turns them into their gradients */
};

/* A block of parameters: their values, and all of it again as factors of products (the values themselves in f32). */
struct parameters {
    const float *values;
    struct factor factors;
};

/* One pass's windows, and where its sums and gradients go. Evaluation: no gradients, scale, dx, turns. */
struct pass_work {
    struct parameters parameters;
    float *gradients;       /* the block that all passes add to, in turns */
    bool sets;              /* the first in all turns, where the block holds nothing of worth: sets instead of adding */
    const int32_t *windows; /* (B,T+1) */
    int B, T;               /* B <= pass_windows, T <= context */
    float scale;            /* of each row's loss */
    float *dx;              /* (N,C): this pass's; in the end the gradient of the embedded tokens */
    double *sums;           /* (units,) += the cross-entropy of all targets of a unit, in nats */
    struct turns *turns;    /* transformer_turns() tensors */
    int index;              /* among the passes of these turns */
};

/* Activations, from one arena. What is a factor of products and nothing else is rounded in place. */
struct pass {
    const struct transformer *transformer;
    struct step_profile *profile; /* NULL = none */
    struct linear *linear;        /* its thread's */
    const struct pass_work *work; /* while pass_add_gradients or pass_evaluate runs */
    struct kept *kept;            /* (L,) */
    float *x;                     /* (N,C) residual stream after the last layer */
    float *normed;                /* (N,C) output of the norm at hand, then its gradient */
    float *rstd;                  /* (N,) of the norm at hand */
    float *dq_norm, *dk_norm;     /* (units,D) gradients of the norms of heads, of the layer at hand */
    int32_t *targets;             /* (N,) */
    float *scratch;               /* attention's tiles, a norm's columns */
    /* of the layer at hand; logits lie in the same memory, since they live while no layer is at hand */
    float *hidden;       /* (N,F) gated product; its gradient; may lie in panels */
    float *dattended;    /* (N,H,D) */
    float *dq, *dk, *dv; /* (N,H,D) (N,K,D) (N,K,D) */
    float *logits;       /* (logit_rows, V) then their gradient */
};

/* pass_lay_out: sets all but profile and linear; takes the activations of transformer->pass_windows windows from `arena`, which may be counting. */
void pass_lay_out(struct pass *pass, const struct transformer *transformer, struct arena *arena);

/* transformer_panels: what the products of a pass touch of BLAS's memory, on each thread that has passes. */
struct gemm_panels transformer_panels(const struct transformer *transformer);

/* How many tensors a pass takes turns on. */
int transformer_turns(const struct transformer *transformer);

/* pass_add_gradients: forward and backward. d(loss)/d(parameters) is added into work->gradients in turns, or set there when work->sets, but for the look-up
 * of the embedding: see transformer_add_embedding. */
void pass_add_gradients(struct pass *pass, const struct pass_work *work);

/* transformer_add_embedding: windows (B,T+1), dx (B*T,C) of their passes: adds columns first..first+count-1 of the rows of dx to those of the tokens'
 * embeddings, in the order of the rows. It comes after the passes because a tied head adds to the same tensor: with one order for all, heads first, the
 * bits do not depend on how far the threads are apart. sets, of an embedding that is not the head: to zero, not to what is there. */
void transformer_add_embedding(const struct transformer *transformer, const int32_t *windows, int B, int T,
                               const float *dx, float *gradients, int first, int count, bool sets);

/* pass_evaluate: forward, for the sums. */
void pass_evaluate(struct pass *pass, const struct pass_work *work);

/* pass_logits: logits (T,V) of tokens (T,), set. */
void pass_logits(struct pass *pass, struct parameters parameters, const int32_t *tokens, int T, float *logits);

#endif
