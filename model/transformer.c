/* transformer: the pre-norm decoder of DESIGN section 3 (the Qwen3 shape), forward and backward over one micro-batch, and the
 * update; the implementation of model.h for one CPU. Knows tensors and kernels; must not know files, data sets or sync.
 *
 *   x = embed[token]
 *   per layer:  x += o_proj(attention(rope(q_norm(q)), rope(k_norm(k)), v)),   q, k, v = projections of norm(x)
 *               x += down_proj(silu(gate) * up),                             gate, up = projections of norm(x)
 *   logits = head(norm(x))
 *
 * What a layer keeps for its backward pass is what products made (struct kept). Norms, rotations and the gated product are cheap
 * passes over memory: the backward pass computes them again. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/arena.h"
#include "base/check.h"
#include "base/vector.h"
#include "model/adamw.h"
#include "model/attention.h"
#include "model/gemm.h"
#include "model/loss.h"
#include "model/mlp.h"
#include "model/model.h"
#include "model/norm.h"
#include "model/rope.h"

/* One layer's activations, for N = B*T rows. */
struct kept {
    float *x;         /* (N,C) residual stream at the attention's norm */
    float *q, *k, *v; /* (N,H,D) (N,K,D) (N,K,D) before QK-norm and rotation */
    float *attended;  /* (N,H,D) */
    float *lse;       /* (B,H,T) */
    float *middle;    /* (N,C) residual stream at the MLP's norm */
    float *gate, *up; /* (N,F); the backward pass turns them into their gradients */
};

struct model {
    struct model_options options;
    struct tensor_table table;
    struct arena arena;
    uint64_t update_count;
    float *parameters, *gradients, *moment1, *moment2; /* (block_floats,) each */
    struct kept *kept;                                 /* (L,) */
    float *cosine, *sine;                              /* (context, D/2) */
    float *x;                                          /* (N,C) residual stream after the last layer */
    float *normed;                                     /* (N,C) output of the norm at hand, then its gradient */
    float *rstd, *q_rstd, *k_rstd;                     /* (N) (N,H) (N,K) of the norms at hand */
    float *q, *k;                                      /* (N,H,D) (N,K,D) normalized and rotated */
    float *hidden;                                     /* (N,F) gated product; its gradient */
    float *dx;                                         /* (N,C) gradient of the residual stream */
    float *dattended, *dq, *dk, *dv;                   /* gradients of the layer at hand */
    float *logits;                                     /* (logit_rows, V) then their gradient */
    int32_t *targets;                                  /* (N,) */
    float *scratch;                                    /* attention's tiles, a norm's columns */
    int logit_rows;
    int pass_windows; /* windows of one pass */
};

/* A micro-batch passes through in groups of windows, forward and backward, of about this many rows: one kernel's operands stay in
 * the L2 cache, and the memory of activations does not grow with the batch. */
enum { PASS_ROWS = 256 };

/* Logits exist for a chunk of rows: about 1 MiB, which stays in cache, but enough rows for a good matrix product. */
enum { LOGIT_CHUNK_FLOATS = 1 << 18, LOGIT_ROWS_MIN = 512 };

/* Tokens of a micro-batch: rows times heads must stay an int. */
enum { MODEL_ROWS_MAX = 1 << 21 };

/* The rows of a pass and the sizes of the shape, as kernels want them. */
struct extent {
    int B, T, N, C, H, K, D, F, V;
};

static struct extent extent_of(const struct shape *s, int B, int T) {
    return (struct extent){.B = B,
                           .T = T,
                           .N = B * T,
                           .C = (int)s->width,
                           .H = (int)s->heads,
                           .K = (int)s->kv_heads,
                           .D = (int)s->head_dim,
                           .F = (int)s->ffn,
                           .V = (int)s->vocab};
}

static int min_int(int a, int b) {
    return a < b ? a : b;
}

static int max_int(int a, int b) {
    return a > b ? a : b;
}

static int windows_of_pass(const struct model_options *options) {
    return min_int((int)options->inner.batch_per_worker, max_int(PASS_ROWS / (int)options->shape.context, 1));
}

struct model_product_rows model_product_rows(const struct model_options *options) {
    int pass = windows_of_pass(options) * (int)options->shape.context;
    int chunk = max_int(LOGIT_CHUNK_FLOATS / (int)options->shape.vocab, LOGIT_ROWS_MIN);
    return (struct model_product_rows){.pass = pass, .head = min_int(pass, chunk)};
}

static inline void mark(const struct model *m, enum step_part part) {
    step_profile_mark(m->options.profile, part);
}

/* ---- memory ---- */

/* Takes from the arena, or, while there is none, only counts. */
struct taker {
    struct arena *arena;
    size_t bytes;
};

static void *take(struct taker *taker, size_t count, size_t size) {
    taker->bytes += arena_round(count * size);
    return taker->arena ? arena_take(taker->arena, count * size) : NULL;
}

static float *take_floats(struct taker *taker, int rows, int columns) {
    return take(taker, (size_t)rows * (size_t)columns, sizeof(float));
}

static void lay_out(struct model *m, size_t block_floats, struct taker *taker) {
    const struct shape *s = &m->options.shape;
    m->pass_windows = windows_of_pass(&m->options);
    struct extent e = extent_of(s, m->pass_windows, (int)s->context);
    float **blocks[] = {&m->parameters, &m->gradients, &m->moment1, &m->moment2};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        *blocks[i] = take(taker, block_floats, sizeof(float));
    m->kept = take(taker, (size_t)s->layers, sizeof *m->kept);
    for (int64_t l = 0; l < s->layers; l++) {
        struct kept kept = {.x = take_floats(taker, e.N, e.C),
                            .q = take_floats(taker, e.N, e.H * e.D),
                            .k = take_floats(taker, e.N, e.K * e.D),
                            .v = take_floats(taker, e.N, e.K * e.D),
                            .attended = take_floats(taker, e.N, e.H * e.D),
                            .lse = take_floats(taker, e.N, e.H),
                            .middle = take_floats(taker, e.N, e.C),
                            .gate = take_floats(taker, e.N, e.F),
                            .up = take_floats(taker, e.N, e.F)};
        if (m->kept)
            m->kept[l] = kept;
    }
    m->cosine = take_floats(taker, e.T, e.D / 2);
    m->sine = take_floats(taker, e.T, e.D / 2);
    m->x = take_floats(taker, e.N, e.C);
    m->normed = take_floats(taker, e.N, e.C);
    m->rstd = take_floats(taker, e.N, 1);
    m->q_rstd = take_floats(taker, e.N, e.H);
    m->k_rstd = take_floats(taker, e.N, e.K);
    m->q = take_floats(taker, e.N, e.H * e.D);
    m->k = take_floats(taker, e.N, e.K * e.D);
    m->hidden = take_floats(taker, e.N, e.F);
    m->dx = take_floats(taker, e.N, e.C);
    m->dattended = take_floats(taker, e.N, e.H * e.D);
    m->dq = take_floats(taker, e.N, e.H * e.D);
    m->dk = take_floats(taker, e.N, e.K * e.D);
    m->dv = take_floats(taker, e.N, e.K * e.D);
    m->logit_rows = model_product_rows(&m->options).head;
    m->logits = take_floats(taker, m->logit_rows, e.V);
    m->targets = take(taker, (size_t)e.N, sizeof *m->targets);
    size_t scratch = attention_scratch_floats(e.T);
    size_t columns = (size_t)(e.C > e.D ? e.C : e.D);
    m->scratch = take(taker, scratch > columns ? scratch : columns, sizeof(float));
}

static size_t bytes_needed(const struct model_options *options, size_t block_floats) {
    struct model counted = {.options = *options};
    struct taker taker = {.arena = NULL};
    lay_out(&counted, block_floats, &taker);
    return taker.bytes;
}

size_t model_memory_bytes(const struct model_options *options) {
    struct tensor_table table;
    struct error error;
    if (tensors_table_create(&options->shape, &table, &error) != STATUS_OK)
        return SIZE_MAX;
    size_t block_floats = table.block_floats;
    tensors_table_destroy(&table);
    return bytes_needed(options, block_floats);
}

enum status model_create(const struct model_options *options, struct model **model, struct error *error) {
    const struct inner_options *inner = &options->inner;
    if (inner->batch_per_worker < 1 || inner->batch_per_worker * options->shape.context > MODEL_ROWS_MAX)
        return error_set(error, STATUS_CONFIG,
                         "inner.batch_per_worker: %" PRId64 " windows of %" PRId64
                         " tokens are not between 1 and %d tokens; use accumulate for a larger batch",
                         inner->batch_per_worker, options->shape.context, MODEL_ROWS_MAX);
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a model");
    m->options = *options;
    enum status status = tensors_table_create(&options->shape, &m->table, error);
    if (status != STATUS_OK) {
        free(m);
        return status;
    }
    status = arena_open(&m->arena, bytes_needed(options, m->table.block_floats), error);
    if (status != STATUS_OK) {
        tensors_table_destroy(&m->table);
        free(m);
        return error_prefix(error, "the model and the activations of %d windows", (int)inner->batch_per_worker);
    }
    struct taker taker = {.arena = &m->arena};
    lay_out(m, m->table.block_floats, &taker);
    const struct shape *s = &m->options.shape;
    rope_fill_table((int)s->context, (int)s->head_dim, s->rope_theta, m->cosine, m->sine);
    tensors_initialize(&m->table, s, (uint64_t)inner->seed, m->parameters);
    gemm_set_threads(inner->threads > 1 ? (int)inner->threads : 1);
    *model = m;
    return STATUS_OK;
}

void model_destroy(struct model *model) {
    if (!model)
        return;
    arena_close(&model->arena);
    tensors_table_destroy(&model->table);
    free(model);
}

/* ---- forward ---- */

/* tokens: B rows of T ids, `stride` apart -> x (N,C) */
static void embed_forward(struct extent e, const float *embedding, const int32_t *tokens, int stride, float *x) {
    for (int b = 0; b < e.B; b++)
        for (int t = 0; t < e.T; t++) {
            int32_t token = tokens[(size_t)b * (size_t)stride + (size_t)t];
            CHECK(token >= 0 && token < e.V);
            memcpy(x + ((size_t)b * (size_t)e.T + (size_t)t) * (size_t)e.C, embedding + (size_t)token * (size_t)e.C,
                   (size_t)e.C * sizeof *x);
        }
}

/* kept q, k -> m->q, m->k: normalized per head and rotated; their rstd for the backward pass. */
static void qk_forward(struct model *m, struct extent e, const float *p, int layer) {
    const struct kept *a = &m->kept[layer];
    float eps = (float)m->options.shape.norm_eps;
    norm_forward(e.N * e.H, e.D, eps, a->q, p + tensors_offset_of_layer(&m->table, layer, LAYER_Q_NORM), m->q,
                 m->q_rstd);
    norm_forward(e.N * e.K, e.D, eps, a->k, p + tensors_offset_of_layer(&m->table, layer, LAYER_K_NORM), m->k,
                 m->k_rstd);
    mark(m, STEP_PART_NORM);
    rope_forward(e.B, e.T, e.H, e.D, m->cosine, m->sine, m->q);
    rope_forward(e.B, e.T, e.K, e.D, m->cosine, m->sine, m->k);
    mark(m, STEP_PART_ROTATION);
}

static void layer_forward(struct model *m, struct extent e, const float *p, int layer, float *next_x) {
    const struct kept *a = &m->kept[layer];
    const struct tensor_table *t = &m->table;
    float eps = (float)m->options.shape.norm_eps;
    size_t stream_bytes = (size_t)e.N * (size_t)e.C * sizeof(float);

    norm_forward(e.N, e.C, eps, a->x, p + tensors_offset_of_layer(t, layer, LAYER_INPUT_NORM), m->normed, NULL);
    mark(m, STEP_PART_NORM);
    linear_forward(e.N, e.C, e.H * e.D, m->normed, p + tensors_offset_of_layer(t, layer, LAYER_Q), a->q);
    linear_forward(e.N, e.C, e.K * e.D, m->normed, p + tensors_offset_of_layer(t, layer, LAYER_K), a->k);
    linear_forward(e.N, e.C, e.K * e.D, m->normed, p + tensors_offset_of_layer(t, layer, LAYER_V), a->v);
    mark(m, STEP_PART_PROJECTION_FORWARD);
    qk_forward(m, e, p, layer);
    struct attention_sizes sizes = {.B = e.B, .T = e.T, .H = e.H, .K = e.K, .D = e.D};
    attention_forward(sizes, m->q, m->k, a->v, a->attended, a->lse, m->scratch);
    mark(m, STEP_PART_ATTENTION_FORWARD);
    memcpy(a->middle, a->x, stream_bytes);
    mark(m, STEP_PART_COPY);
    linear_forward_add(e.N, e.H * e.D, e.C, a->attended, p + tensors_offset_of_layer(t, layer, LAYER_O), a->middle);
    mark(m, STEP_PART_PROJECTION_FORWARD);

    norm_forward(e.N, e.C, eps, a->middle, p + tensors_offset_of_layer(t, layer, LAYER_POST_NORM), m->normed, NULL);
    mark(m, STEP_PART_NORM);
    linear_forward(e.N, e.C, e.F, m->normed, p + tensors_offset_of_layer(t, layer, LAYER_GATE), a->gate);
    linear_forward(e.N, e.C, e.F, m->normed, p + tensors_offset_of_layer(t, layer, LAYER_UP), a->up);
    mark(m, STEP_PART_PROJECTION_FORWARD);
    mlp_gate_forward((size_t)e.N * (size_t)e.F, a->gate, a->up, m->hidden);
    mark(m, STEP_PART_GATE);
    memcpy(next_x, a->middle, stream_bytes);
    mark(m, STEP_PART_COPY);
    linear_forward_add(e.N, e.F, e.C, m->hidden, p + tensors_offset_of_layer(t, layer, LAYER_DOWN), next_x);
    mark(m, STEP_PART_PROJECTION_FORWARD);
}

/* Everything up to the final norm: fills kept, x, normed (N,C) and rstd. */
static void trunk_forward(struct model *m, struct extent e, const float *p, const int32_t *tokens, int stride) {
    int layers = (int)m->options.shape.layers;
    CHECK(e.B >= 1 && e.B <= m->pass_windows && e.T >= 1 && e.T <= m->options.shape.context);
    step_profile_begin(m->options.profile);
    embed_forward(e, p + tensors_offset_of_embedding(&m->table), tokens, stride, m->kept[0].x);
    mark(m, STEP_PART_EMBEDDING);
    for (int l = 0; l < layers; l++)
        layer_forward(m, e, p, l, l + 1 < layers ? m->kept[l + 1].x : m->x);
    norm_forward(e.N, e.C, (float)m->options.shape.norm_eps, m->x, p + tensors_offset_of_final_norm(&m->table),
                 m->normed, m->rstd);
    mark(m, STEP_PART_NORM);
}

/* windows (B,T+1) -> targets (N,) */
static void copy_targets(struct model *m, struct extent e, const int32_t *windows) {
    for (int b = 0; b < e.B; b++)
        memcpy(m->targets + (size_t)b * (size_t)e.T, windows + (size_t)b * (size_t)(e.T + 1) + 1,
               (size_t)e.T * sizeof *m->targets);
    for (int n = 0; n < e.N; n++)
        CHECK(m->targets[n] >= 0 && m->targets[n] < e.V);
    mark(m, STEP_PART_EMBEDDING);
}

/* ---- backward ---- */

/* dx (N,C): gradient of the layer's output -> gradient of its input. g: gradient block, added to. */
static void mlp_backward(struct model *m, struct extent e, const float *p, float *g, int layer) {
    const struct kept *a = &m->kept[layer];
    const struct tensor_table *t = &m->table;
    size_t norm = tensors_offset_of_layer(t, layer, LAYER_POST_NORM),
           gate = tensors_offset_of_layer(t, layer, LAYER_GATE), up = tensors_offset_of_layer(t, layer, LAYER_UP),
           down = tensors_offset_of_layer(t, layer, LAYER_DOWN);

    linear_backward_input(e.N, e.F, e.C, m->dx, p + down, m->hidden, false);
    mark(m, STEP_PART_PROJECTION_INPUT);
    mlp_gate_backward((size_t)e.N * (size_t)e.F, a->gate, a->up, m->hidden);
    mark(m, STEP_PART_GATE);
    linear_backward_weight(e.N, e.F, e.C, m->dx, m->hidden, g + down);
    mark(m, STEP_PART_PROJECTION_WEIGHT);
    norm_forward(e.N, e.C, (float)m->options.shape.norm_eps, a->middle, p + norm, m->normed, m->rstd);
    mark(m, STEP_PART_NORM);
    linear_backward_weight(e.N, e.C, e.F, a->gate, m->normed, g + gate);
    linear_backward_weight(e.N, e.C, e.F, a->up, m->normed, g + up);
    mark(m, STEP_PART_PROJECTION_WEIGHT);
    linear_backward_input(e.N, e.C, e.F, a->gate, p + gate, m->normed, false);
    linear_backward_input(e.N, e.C, e.F, a->up, p + up, m->normed, true);
    mark(m, STEP_PART_PROJECTION_INPUT);
    norm_backward_add(e.N, e.C, a->middle, p + norm, m->rstd, m->normed, m->dx, g + norm, m->scratch);
    mark(m, STEP_PART_NORM);
}

static void attention_block_backward(struct model *m, struct extent e, const float *p, float *g, int layer) {
    const struct kept *a = &m->kept[layer];
    const struct tensor_table *t = &m->table;
    size_t norm = tensors_offset_of_layer(t, layer, LAYER_INPUT_NORM), q = tensors_offset_of_layer(t, layer, LAYER_Q),
           k = tensors_offset_of_layer(t, layer, LAYER_K), v = tensors_offset_of_layer(t, layer, LAYER_V),
           q_norm = tensors_offset_of_layer(t, layer, LAYER_Q_NORM),
           k_norm = tensors_offset_of_layer(t, layer, LAYER_K_NORM), o = tensors_offset_of_layer(t, layer, LAYER_O);

    linear_backward_weight(e.N, e.H * e.D, e.C, m->dx, a->attended, g + o);
    mark(m, STEP_PART_PROJECTION_WEIGHT);
    linear_backward_input(e.N, e.H * e.D, e.C, m->dx, p + o, m->dattended, false);
    mark(m, STEP_PART_PROJECTION_INPUT);
    qk_forward(m, e, p, layer);
    struct attention_sizes sizes = {.B = e.B, .T = e.T, .H = e.H, .K = e.K, .D = e.D};
    attention_backward(sizes, m->q, m->k, a->v, a->attended, a->lse, m->dattended, m->dq, m->dk, m->dv, m->scratch);
    mark(m, STEP_PART_ATTENTION_BACKWARD);
    rope_backward(e.B, e.T, e.H, e.D, m->cosine, m->sine, m->dq);
    rope_backward(e.B, e.T, e.K, e.D, m->cosine, m->sine, m->dk);
    mark(m, STEP_PART_ROTATION);
    norm_backward(e.N * e.H, e.D, a->q, p + q_norm, m->q_rstd, m->dq, m->dq, g + q_norm, m->scratch);
    norm_backward(e.N * e.K, e.D, a->k, p + k_norm, m->k_rstd, m->dk, m->dk, g + k_norm, m->scratch);
    norm_forward(e.N, e.C, (float)m->options.shape.norm_eps, a->x, p + norm, m->normed, m->rstd);
    mark(m, STEP_PART_NORM);
    linear_backward_weight(e.N, e.C, e.H * e.D, m->dq, m->normed, g + q);
    linear_backward_weight(e.N, e.C, e.K * e.D, m->dk, m->normed, g + k);
    linear_backward_weight(e.N, e.C, e.K * e.D, m->dv, m->normed, g + v);
    mark(m, STEP_PART_PROJECTION_WEIGHT);
    linear_backward_input(e.N, e.C, e.H * e.D, m->dq, p + q, m->normed, false);
    linear_backward_input(e.N, e.C, e.K * e.D, m->dk, p + k, m->normed, true);
    linear_backward_input(e.N, e.C, e.K * e.D, m->dv, p + v, m->normed, true);
    mark(m, STEP_PART_PROJECTION_INPUT);
    norm_backward_add(e.N, e.C, a->x, p + norm, m->rstd, m->normed, m->dx, g + norm, m->scratch);
    mark(m, STEP_PART_NORM);
}

static HOT_LOOP void embed_backward(struct extent e, const int32_t *windows, const float *dx, float *dembedding) {
    for (int n = 0; n < e.N; n++) {
        int32_t token = windows[(size_t)(n / e.T) * (size_t)(e.T + 1) + (size_t)(n % e.T)];
        float *restrict to = dembedding + (size_t)token * (size_t)e.C;
        const float *restrict from = dx + (size_t)n * (size_t)e.C;
        for (int c = 0; c < e.C; c++)
            to[c] += from[c];
    }
}

/* Final norm's output -> loss; dx = gradient of that output. Returns the sum of cross-entropy. */
static double head_forward_backward(struct model *m, struct extent e, const float *p, float *g, float scale) {
    size_t head = tensors_offset_of_head(&m->table);
    double total = 0;
    for (int first = 0; first < e.N; first += m->logit_rows) {
        int rows = min_int(e.N - first, m->logit_rows);
        const float *normed = m->normed + (size_t)first * (size_t)e.C;
        linear_forward(rows, e.C, e.V, normed, p + head, m->logits);
        mark(m, STEP_PART_HEAD);
        total += loss_forward_backward(rows, e.V, m->logits, m->targets + first, scale, (float)m->options.shape.z_loss,
                                       NULL);
        mark(m, STEP_PART_LOSS);
        linear_backward_weight(rows, e.C, e.V, m->logits, normed, g + head);
        linear_backward_input(rows, e.C, e.V, m->logits, p + head, m->dx + (size_t)first * (size_t)e.C, false);
        mark(m, STEP_PART_HEAD);
    }
    return total;
}

/* One pass of e.B windows. scale: of each row's loss. Returns the sum of cross-entropy. */
static double pass_forward_backward(struct model *m, struct extent e, const int32_t *windows, float scale) {
    const float *p = m->parameters;
    float *g = m->gradients;
    trunk_forward(m, e, p, windows, e.T + 1);
    copy_targets(m, e, windows);
    double total = head_forward_backward(m, e, p, g, scale);
    size_t norm = tensors_offset_of_final_norm(&m->table);
    norm_backward(e.N, e.C, m->x, p + norm, m->rstd, m->dx, m->dx, g + norm, m->scratch);
    mark(m, STEP_PART_NORM);
    for (int l = (int)m->options.shape.layers - 1; l >= 0; l--) {
        mlp_backward(m, e, p, g, l);
        attention_block_backward(m, e, p, g, l);
    }
    embed_backward(e, windows, m->dx, g + tensors_offset_of_embedding(&m->table));
    mark(m, STEP_PART_EMBEDDING);
    return total;
}

double model_add_gradients(struct model *m, const int32_t *windows, int B, int T, float scale) {
    CHECK(B >= 1 && B <= m->options.inner.batch_per_worker);
    double total = 0, tokens = (double)B * (double)T;
    for (int first = 0; first < B; first += m->pass_windows) {
        struct extent e = extent_of(&m->options.shape, min_int(B - first, m->pass_windows), T);
        total +=
            pass_forward_backward(m, e, windows + (size_t)first * (size_t)(T + 1), (float)((double)scale / tokens));
    }
    return total / tokens;
}

/* ---- update, evaluation ---- */

struct update_result model_apply_update(struct model *m, float lr, bool loss_finite) {
    const struct inner_options *inner = &m->options.inner;
    step_profile_begin(m->options.profile);
    double norm = sqrt(adamw_squared_norm(m->table.block_floats, m->gradients));
    mark(m, STEP_PART_GRADIENT_NORM);
    if (!loss_finite || !isfinite(norm)) {
        memset(m->gradients, 0, m->table.block_floats * sizeof(float));
        return (struct update_result){.gradient_norm = norm, .applied = false};
    }
    m->update_count++;
    for (int i = 0; i < m->table.count; i++) {
        const struct tensor *tensor = &m->table.tensors[i];
        struct adamw_step step = {.lr = (double)lr,
                                  .weight_decay = tensor->dimensions == 2 ? inner->weight_decay : 0,
                                  .beta1 = inner->beta1,
                                  .beta2 = inner->beta2,
                                  .eps = inner->eps,
                                  .gradient_scale = adamw_clip_scale(norm, inner->clip),
                                  .step = m->update_count};
        size_t at = tensor->offset;
        adamw_update(&step, tensor->count, m->parameters + at, m->gradients + at, m->moment1 + at, m->moment2 + at);
    }
    mark(m, STEP_PART_ADAMW);
    return (struct update_result){.gradient_norm = norm, .applied = true};
}

static double pass_forward(struct model *m, struct extent e, const float *parameters, const int32_t *windows) {
    const float *head = parameters + tensors_offset_of_head(&m->table);
    double total = 0;
    trunk_forward(m, e, parameters, windows, e.T + 1);
    copy_targets(m, e, windows);
    for (int first = 0; first < e.N; first += m->logit_rows) {
        int rows = min_int(e.N - first, m->logit_rows);
        linear_forward(rows, e.C, e.V, m->normed + (size_t)first * (size_t)e.C, head, m->logits);
        total += loss_forward(rows, e.V, m->logits, m->targets + first);
    }
    return total;
}

double model_evaluate(struct model *m, const float *parameters, const int32_t *windows, int B, int T) {
    CHECK(B >= 1 && B <= m->options.inner.batch_per_worker);
    double total = 0;
    for (int first = 0; first < B; first += m->pass_windows) {
        struct extent e = extent_of(&m->options.shape, min_int(B - first, m->pass_windows), T);
        total += pass_forward(m, e, parameters, windows + (size_t)first * (size_t)(T + 1));
    }
    return total;
}

void model_logits(struct model *m, const float *parameters, const int32_t *tokens, int T, float *logits) {
    struct extent e = extent_of(&m->options.shape, 1, T);
    trunk_forward(m, e, parameters, tokens, T);
    linear_forward(T, e.C, e.V, m->normed, parameters + tensors_offset_of_head(&m->table), logits);
}

const struct tensor_table *model_tensors(const struct model *model) {
    return &model->table;
}

const struct shape *model_shape(const struct model *model) {
    return &model->options.shape;
}

const struct inner_options *model_inner(const struct model *model) {
    return &model->options.inner;
}

float *model_parameters(struct model *model) {
    return model->parameters;
}

float *model_gradients(struct model *model) {
    return model->gradients;
}

float *model_moment1(struct model *model) {
    return model->moment1;
}

float *model_moment2(struct model *model) {
    return model->moment2;
}

uint64_t model_update_count(const struct model *model) {
    return model->update_count;
}

void model_set_update_count(struct model *model, uint64_t count) {
    model->update_count = count;
}
