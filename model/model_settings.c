#include "model/model_settings.h"

static const char *const recompute_names[] = {[RECOMPUTE_NONE] = "none",
                                              [RECOMPUTE_ATTENTION] = "attention",
                                              [RECOMPUTE_BLOCK] = "block",
                                              [RECOMPUTE_BLOCK + 1] = NULL};

const struct setting_row model_settings_shape[MODEL_SETTINGS_SHAPE_ROWS] = {
    {SETTING_INTEGER(struct shape, layers, 1, 512, "6", "", "transformer blocks")},
    {SETTING_INTEGER(struct shape, width, 1, 65536, "384", "", "size of the residual stream")},
    {SETTING_INTEGER(struct shape, heads, 1, 1024, "6", "", "attention heads")},
    {SETTING_INTEGER_OR_WORD(struct shape, kv_heads, 1, 1024, "auto", 0, "auto", "",
                             "heads of keys and values, a divisor of heads; auto = heads")},
    {SETTING_INTEGER_OR_WORD(struct shape, head_dim, 2, 1024, "auto", 0, "auto", "",
                             "size of one head, even; auto = width / heads")},
    {SETTING_INTEGER(struct shape, ffn, 1, 1048576, "1024", "", "inner size of the SwiGLU block")},
    {SETTING_INTEGER(struct shape, context, 1, 1048576, "256", "tokens", "in a training window")},
    {SETTING_INTEGER_OR_WORD(struct shape, vocab, 1, 16777216, "auto", 0, "auto", "",
                             "tokens known; auto = the tokenizer's, 256 for bytes")},
    {SETTING_BOOL(struct shape, tied, "true", "the head shares the embedding's matrix")},
    {SETTING_REAL_ABOVE(struct shape, rope_theta, 1, 1e12, "10000", "", "base of the rotary positions")},
    {SETTING_REAL_ABOVE(struct shape, norm_eps, 0, 1, "1e-6", "", "added to the mean square in every RMSNorm")},
    {SETTING_REAL(struct shape, z_loss, 0, 1, "1e-4", "", "weight of mean(logsumexp^2) in the loss")},
    {SETTING_CHOICE(struct shape, recompute, recompute_names, "none",
                    "what the backward pass computes again to save memory: block = each layer"),
     .scope = SETTING_SCOPE_NODE},
};

static const char *const tokenizer_names[] = {
    [TOKENIZER_BYTES] = "bytes", [TOKENIZER_SHARDS] = "shards", [TOKENIZER_SHARDS + 1] = NULL};
static const char *const dtype_names[] = {[SHARD_DTYPE_AUTO] = "auto",
                                          [SHARD_DTYPE_UINT16] = "uint16",
                                          [SHARD_DTYPE_UINT32] = "uint32",
                                          [SHARD_DTYPE_UINT32 + 1] = NULL};

const struct setting_row model_settings_data[MODEL_SETTINGS_DATA_ROWS] = {
    {SETTING_PATHS(struct data_options, train, train_count, "training files; shell patterns, relative to this file"),
     .scope = SETTING_SCOPE_NODE},
    {SETTING_PATHS(struct data_options, val, val_count, "held-out files; shell patterns, relative to this file"),
     .scope = SETTING_SCOPE_NODE},
    {SETTING_CHOICE(struct data_options, tokenizer, tokenizer_names, "bytes",
                    "bytes: text files; shards: token files of llm.c or nanoGPT")},
    {SETTING_CHOICE(struct data_options, dtype, dtype_names, "auto",
                    "shards: what headerless token files hold; auto = only files with llm.c's header"),
     .scope = SETTING_SCOPE_NODE},
    {SETTING_INTEGER_OR_WORD(struct data_options, parts, 1, 65536, "workers", 0, "workers", "",
                             "parts that the windows are dealt into, one per worker")},
};

static const char *const optimizer_names[] = {"adamw", NULL};
static const char *const pace_names[] = {
    [INNER_PACE_STEPS] = "steps", [INNER_PACE_TIME] = "time", [INNER_PACE_TIME + 1] = NULL};
static const char *const schedule_names[] = {[LR_SCHEDULE_COSINE] = "cosine",
                                             [LR_SCHEDULE_CONSTANT] = "constant",
                                             [LR_SCHEDULE_WSD] = "wsd",
                                             [LR_SCHEDULE_WSD + 1] = NULL};

static const char *const precision_names[] = {[INNER_PRECISION_F32] = "f32",
                                              [INNER_PRECISION_BF16] = "bf16",
                                              [INNER_PRECISION_AUTO] = "auto",
                                              [INNER_PRECISION_AUTO + 1] = NULL};

const struct setting_row model_settings_inner[MODEL_SETTINGS_INNER_ROWS] = {
    {SETTING_FIXED("optimizer", optimizer_names, "adamw", "the inner optimizer")},
    {SETTING_REAL_ABOVE(struct inner_options, lr, 0, 10, "0.001", "", "peak learning rate")},
    {SETTING_INTEGER(struct inner_options, warmup_steps, 0, 1000000000, "100", "steps", "of linear rise to lr")},
    {SETTING_CHOICE(struct inner_options, lr_schedule, schedule_names, "cosine", "what follows the warm-up")},
    {SETTING_REAL(struct inner_options, lr_end, 0, 1, "0.05", "", "floor of the learning rate, as a part of lr")},
    {SETTING_REAL(struct inner_options, decay_part, 0, 1, "0.2", "",
                  "wsd: the last part of the run, in which lr falls")},
    {SETTING_INTEGER(struct inner_options, steps, 1, 1000000000, "2000", "", "optimizer steps of the run"),
     .scope = SETTING_SCOPE_CONTINUED},
    {SETTING_INTEGER(struct inner_options, batch_per_worker, 1, 65536, "16", "windows",
                     "in one micro-batch of one worker")},
    {SETTING_INTEGER(struct inner_options, accumulate, 1, 65536, "1", "micro-batches",
                     "summed up in one optimizer step")},
    {SETTING_REAL(struct inner_options, weight_decay, 0, 10, "0.1", "", "decoupled decay of matrices, times lr")},
    {SETTING_REAL(struct inner_options, clip, 0, 1e9, "1", "", "largest norm of the gradient; 0 = no clipping")},
    {SETTING_REAL(struct inner_options, beta1, 0, 0.999999, "0.9", "", "decay of the first moment")},
    {SETTING_REAL(struct inner_options, beta2, 0, 0.999999999, "0.95", "", "decay of the second moment")},
    {SETTING_REAL_ABOVE(struct inner_options, eps, 0, 1, "1e-8", "", "added to the root of the second moment")},
    {SETTING_INTEGER(struct inner_options, seed, 0, INT64_MAX, "1", "",
                     "gives the initial parameters and the order of the data")},
    {SETTING_CHOICE(struct inner_options, pace, pace_names, "steps",
                    "time: a slow worker does fewer steps per round, so that all arrive together")},
    {SETTING_DURATION(struct inner_options, min_step_us, "min_step_time", "0ms",
                      "a step takes at least this long: paces experiments"),
     .scope = SETTING_SCOPE_NODE},
    {SETTING_INTEGER(struct inner_options, threads, 1, 1024, "1", "threads", "of the training on this machine"),
     .scope = SETTING_SCOPE_NODE},
    {SETTING_CHOICE(struct inner_options, precision, precision_names, "f32",
                    "of the factors of products; auto = bf16 where this machine's CPU and build multiply it"),
     .scope = SETTING_SCOPE_NODE},
};
