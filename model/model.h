/* model: the narrow interface through which an island sees its transformer: add the gradients of a batch, apply the update,
 * evaluate, and reach the parameters for sync. An island on a GPU, or one of several machines, is another implementation of this
 * page, not a change of the protocol. Not thread-safe: one thread uses a model at a time; the model's
 * own threads (inner.threads) work inside its calls and sleep between them.
 *
 * A micro-batch is cut into units, groups of whole windows of about 256 rows, at least two where it has two windows. A pass is one unit, or two where
 * threads are few. Each thread takes the next pass; more threads than units help with the update only. The units do not depend on the threads, and what
 * they share is added in their order: equal inputs give equal bits for every number of threads and every shape.recompute. */
#ifndef ATOLL_MODEL_MODEL_H
#define ATOLL_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "model/shape.h"
#include "model/step_profile.h"
#include "model/tensors.h"

struct model;

struct model_options {
    struct shape shape;           /* validated */
    struct inner_options inner;   /* batch_per_worker = windows of a micro-batch */
    struct step_profile *profile; /* NULL = none; borrowed for the model's life */
    bool blas;                    /* f32 products by BLAS also where our own work: to compare and test */
};

/* What a model takes of a machine's memory: a process grows by peak_bytes with its first step. */
struct model_memory {
    size_t state_bytes;      /* parameters, gradients, two moments */
    size_t activation_bytes; /* of all threads that have passes, and small tables */
    size_t product_bytes;    /* what products pack operands into, of these threads; in bf16 the parameters, rounded */
    size_t peak_bytes;       /* the sum */
};
struct model_memory model_memory_plan(const struct model_options *options, const struct tensor_table *table);

/* Units of a whole micro-batch: threads beyond them find no pass. */
int model_unit_count(const struct model_options *options);

/* model_product_rows: how a micro-batch is cut into products, for who measures them alone. */
struct model_product_rows {
    int pass; /* rows of a layer's products: of one unit or two, forward and backward */
    int head; /* rows of the head's products; divides those of a pass or is them, but for a last, shorter chunk */
};
struct model_product_rows model_product_rows(const struct model_options *options);

/* model_create: takes all memory (parameters, gradients, two moments, each thread's activations of one pass), starts inner.threads - 1 threads,
 * initializes the parameters from inner.seed. Sets the BLAS threads of the process to 1. STATUS_NO_MEMORY;
 * STATUS_CONFIG when the micro-batch is too large. */
MUST_USE enum status model_create(const struct model_options *options, struct model **model, struct error *error);
void model_destroy(struct model *model);

const struct tensor_table *model_tensors(const struct model *model); /* lives as long as the model */
const struct shape *model_shape(const struct model *model);
const struct inner_options *model_inner(const struct model *model);

/* The live parameter block (block_floats,), 64-byte aligned. Written by model_apply_update and by the sync's merge. */
float *model_parameters(struct model *model);
/* Gradients and Adam moments, same layout: for tests, checkpoints and diagnostics. After an update, ask for the gradients again: only then are they zero. */
float *model_gradients(struct model *model);
float *model_moment1(struct model *model);
float *model_moment2(struct model *model);
/* Number of updates applied so far (Adam's bias correction); settable by resume. */
uint64_t model_update_count(const struct model *model);
void model_set_update_count(struct model *model, uint64_t count);

/* model_add_gradients: forward and backward of one micro-batch, adding d(loss)/d(parameters) into the gradient block, where
 *   loss = mean over B*T tokens of cross-entropy + z_loss * mean(logsumexp^2), scaled by `scale` (1/accumulate).
 * windows (B, T+1) token ids, each window's first T are inputs and last T the targets; B <= batch_per_worker, T <= context.
 * Returns the mean cross-entropy in nats per token (the logged loss, without z-loss and scale). May be non-finite. */
double model_add_gradients(struct model *model, const int32_t *windows, int B, int T, float scale);

struct update_result {
    double gradient_norm; /* before clipping */
    bool applied;         /* false: gradient (or loss) not finite, nothing changed but the gradients begin anew */
};
/* model_apply_update: clip, AdamW with learning rate lr; the gradients begin anew, from zero. */
struct update_result model_apply_update(struct model *model, float lr, bool loss_finite);

/* model_evaluate: sum of cross-entropy (nats, no z-loss) over all B*T targets of `windows` (B, T+1) under `parameters` (a block of the
 * same table: the live ones or an outer copy). B <= batch_per_worker. Does not touch gradients or moments. */
double model_evaluate(struct model *model, const float *parameters, const int32_t *windows, int B, int T);

/* model_logits: logits (T, V) of one sequence tokens (T,), T <= context, under `parameters`. For sampling and golden tests. */
void model_logits(struct model *model, const float *parameters, const int32_t *tokens, int T, float *logits);

/* lr of 1-based step s as DESIGN section 3 / README: warm-up, then cosine, constant or warm-up-stable-decay. */
double lr_schedule_at(const struct inner_options *inner, int64_t step);

#endif
