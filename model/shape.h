/* shape: the hyper-parameters of the transformer, its sizes, and the options of its inner training. Plain data, filled by the
 * run file (model/model_settings.h holds the rows of keys). */
#ifndef ATOLL_MODEL_SHAPE_H
#define ATOLL_MODEL_SHAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* Letters used in kernels: B windows of a micro-batch, T positions (<= context), C width, H heads, K kv_heads, D head_dim,
 * F ffn, L layers, V vocab. */
struct shape {
    int64_t layers;
    int64_t width;
    int64_t heads;
    int64_t kv_heads; /* divides heads; 0 in the run file = heads */
    int64_t head_dim; /* even; 0 in the run file = width / heads */
    int64_t ffn;
    int64_t context;
    int64_t vocab; /* 0 in the run file = the tokenizer's size (256 for bytes) */
    bool tied;     /* the head shares the embedding */
    double rope_theta;
    double norm_eps;
    double z_loss;
    int64_t recompute; /* enum recompute. No property of the model: what a machine pays with. A node key */
};

/* What the backward pass computes again instead of keeping it, to the same bits: nothing; attention's output; all of a layer but its input. */
enum recompute { RECOMPUTE_NONE, RECOMPUTE_ATTENTION, RECOMPUTE_BLOCK };

/* What the workers of a run have equal between two sends: the steps, or the time. */
enum inner_pace { INNER_PACE_STEPS, INNER_PACE_TIME };

/* What the factors of a layer's products are rounded to; sums are f32, and so is all else. Auto: bf16 where the machine multiplies it. */
enum inner_precision { INNER_PRECISION_F32, INNER_PRECISION_BF16, INNER_PRECISION_AUTO };

enum lr_schedule { LR_SCHEDULE_COSINE, LR_SCHEDULE_CONSTANT, LR_SCHEDULE_WSD };

/* inner: the run file's section of the inner optimizer. */
struct inner_options {
    double lr;
    int64_t warmup_steps;
    int64_t lr_schedule; /* enum lr_schedule */
    double lr_end;       /* floor, a fraction of lr */
    double decay_part;   /* wsd only: the last part of the run in which lr falls linearly to the floor */
    int64_t steps;
    int64_t batch_per_worker; /* windows of one micro-batch */
    int64_t accumulate;       /* micro-batches of one optimizer step */
    double weight_decay;
    double clip; /* 0 = off */
    double beta1, beta2, eps;
    int64_t seed;
    int64_t pace;         /* enum inner_pace; time needs quorum mode */
    uint64_t min_step_us; /* a step is drawn out to this; 0 = off. Node key */
    int64_t threads;      /* that train on this machine; node key, free to differ: it changes no bit */
    int64_t precision;    /* enum inner_precision; node key */
};

/* data: the run file's section of the corpus. */
enum { DATA_GLOBS_MAX = 16, DATA_GLOB_BYTES = 512 };
enum tokenizer_kind { TOKENIZER_BYTES, TOKENIZER_SHARDS };
enum shard_dtype { SHARD_DTYPE_AUTO, SHARD_DTYPE_UINT16, SHARD_DTYPE_UINT32 };
struct data_options {
    char train[DATA_GLOBS_MAX][DATA_GLOB_BYTES];
    int64_t train_count;
    char val[DATA_GLOBS_MAX][DATA_GLOB_BYTES];
    int64_t val_count;
    int64_t tokenizer; /* enum tokenizer_kind: bytes = text files; shards = token files of llm.c or nanoGPT */
    int64_t
        dtype; /* enum shard_dtype: headerless (nanoGPT) files need uint16 or uint32 said; auto = only llm.c headers */
    int64_t parts; /* 0 = workers */
};

/* shape_validate: fills the derived fields (kv_heads, head_dim, vocab when 0) and refuses what cannot work; the text names the
 * key ("model.kv_heads: 3 does not divide heads 4"). */
MUST_USE enum status shape_validate(struct shape *shape, struct error *error);

#endif
