#include "model/transformer.h"
#include <string.h>
#include "base/check.h"
#include "base/ints.h"
#include "base/vector.h"
#include "model/attention.h"
#include "model/loss.h"
#include "model/mlp.h"
#include "model/norm.h"

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

static struct attention_sizes sizes_of_attention(struct extent e) {
    return (struct attention_sizes){.B = e.B, .T = e.T, .H = e.H, .K = e.K, .D = e.D};
}

static inline void mark(const struct pass *pass, enum step_part part) {
    step_profile_mark(pass->profile, part);
}

/* A matrix of a layer, as a factor. */
static struct factor matrix_of_layer(const struct pass *pass, struct parameters p, int layer, enum layer_tensor which) {
    return factor_at(p.factors, tensors_offset_of_layer(&pass->transformer->table, layer, which));
}

static struct factor head_matrix(const struct pass *pass, struct parameters p) {
    return factor_at(p.factors, tensors_offset_of_head(&pass->transformer->table));
}

/* (rows,columns) values as a factor; room as linear_factor wants it. */
static struct factor factor_of(const struct pass *pass, int rows, int columns, const float *values, float *room) {
    struct factor factor = linear_factor(pass->linear, (size_t)rows * (size_t)columns, values, room);
    if (factor.bf16 != NULL)
        mark(pass, STEP_PART_ROUNDING);
    return factor;
}

/* Values (N,F) that products have written in panels. */
static struct factor factor_of_panels(const struct pass *pass, struct extent e, float *values) {
    struct factor factor = linear_factor_panels(pass->linear, (size_t)e.N * (size_t)e.F, values, values);
    if (factor.bf16 != NULL)
        mark(pass, STEP_PART_ROUNDING);
    return factor;
}

static struct factor factor_in_place(const struct pass *pass, int rows, int columns, float *values) {
    return factor_of(pass, rows, columns, values, values);
}

/* Whether products do the gate, part by part; otherwise it is a pass of its own. */
static bool gate_is_within(const struct pass *pass) {
    return linear_has_panels(pass->transformer->products);
}

/* ---- memory ---- */

static float *take(struct arena *arena, int rows, int columns) {
    return arena_take(arena, (size_t)rows * (size_t)columns * sizeof(float));
}

/* Values of the gate's width. */
static float *take_wide(struct arena *arena, const struct transformer *t, int rows) {
    return take(arena, rows, (int)linear_panels_columns(t->products, t->shape.ffn));
}

static struct kept take_projected(struct arena *arena, const struct transformer *t, struct extent e) {
    return (struct kept){.q = take(arena, e.N, e.H * e.D),
                         .k = take(arena, e.N, e.K * e.D),
                         .v = take(arena, e.N, e.K * e.D),
                         .middle = take(arena, e.N, e.C),
                         .gate = take_wide(arena, t, e.N),
                         .up = take_wide(arena, t, e.N)};
}

static void take_attended(struct arena *arena, struct extent e, struct kept *kept) {
    kept->attended = take(arena, e.N, e.H * e.D);
    kept->lse = take(arena, e.N, e.H);
}

/* What the layer at hand needs; *shared is what the layers do not keep. */
static void take_layer(struct pass *pass, struct extent e, struct arena *arena, struct kept *shared) {
    pass->hidden = take_wide(arena, pass->transformer, e.N);
    pass->dattended = take(arena, e.N, e.H * e.D);
    pass->dq = take(arena, e.N, e.H * e.D);
    pass->dk = take(arena, e.N, e.K * e.D);
    pass->dv = take(arena, e.N, e.K * e.D);
    int64_t recompute = pass->transformer->shape.recompute;
    if (recompute == RECOMPUTE_BLOCK)
        *shared = take_projected(arena, pass->transformer, e);
    if (recompute != RECOMPUTE_NONE)
        take_attended(arena, e, shared);
}

/* Layer by layer: all that it keeps of its own, beside what it shares. */
static void take_kept(struct pass *pass, struct extent e, struct arena *arena, const struct kept *shared) {
    const struct shape *s = &pass->transformer->shape;
    pass->kept = arena_take(arena, (size_t)s->layers * sizeof *pass->kept);
    for (int64_t l = 0; l < s->layers; l++) {
        struct kept kept = s->recompute == RECOMPUTE_BLOCK ? *shared : take_projected(arena, pass->transformer, e);
        if (s->recompute == RECOMPUTE_NONE) {
            take_attended(arena, e, &kept);
        } else {
            kept.attended = shared->attended;
            kept.lse = shared->lse;
        }
        kept.x = take(arena, e.N, e.C);
        if (pass->kept != NULL)
            pass->kept[l] = kept;
    }
}

void pass_lay_out(struct pass *pass, const struct transformer *transformer, struct arena *arena) {
    const struct shape *s = &transformer->shape;
    struct extent e = extent_of(s, transformer->pass_windows, (int)s->context);
    *pass = (struct pass){.transformer = transformer};
    pass->x = take(arena, e.N, e.C);
    pass->normed = take(arena, e.N, e.C);
    pass->rstd = take(arena, e.N, 1);
    int units = transformer->pass_windows / transformer->unit_windows;
    pass->dq_norm = take(arena, units, e.D);
    pass->dk_norm = take(arena, units, e.D);
    pass->targets = arena_take(arena, (size_t)e.N * sizeof *pass->targets);
    size_t scratch = attention_scratch_floats(sizes_of_attention(e)), columns = (size_t)e.C;
    pass->scratch = arena_take(arena, (scratch > columns ? scratch : columns) * sizeof(float));

    struct arena layer = *arena, head = *arena;
    struct kept shared = {0};
    take_layer(pass, e, &layer, &shared);
    pass->logits = take(&head, transformer->logit_rows, e.V);
    arena->used_bytes = layer.used_bytes > head.used_bytes ? layer.used_bytes : head.used_bytes;
    take_kept(pass, e, arena, &shared);
}

struct gemm_panels transformer_panels(const struct transformer *transformer) {
    const struct shape *s = &transformer->shape;
    struct extent e = extent_of(s, transformer->pass_windows, (int)s->context);
    struct gemm_panels panels = {0};
    gemm_panels_widen(&panels, e.N, e.C, e.H * e.D);
    gemm_panels_widen(&panels, e.N, e.C, e.K * e.D);
    gemm_panels_widen(&panels, e.N, e.H * e.D, e.C);
    gemm_panels_widen(&panels, e.N, e.C, e.F);
    gemm_panels_widen(&panels, e.N, e.F, e.C);
    gemm_panels_widen(&panels, transformer->logit_rows, e.C, min_int(e.V, LINEAR_OUTPUTS_BLOCK));
    return panels;
}

/* ---- turns ---- */

/* Tensors in turns: those of the layers, then the final norm, then the head. */
static int turn_of_layer(int layer, enum layer_tensor which) {
    return layer * LAYER_TENSORS + (int)which;
}

static int turn_of_final_norm(const struct transformer *t) {
    return (int)t->shape.layers * LAYER_TENSORS;
}

static int turn_of_head(const struct transformer *t) {
    return turn_of_final_norm(t) + 1;
}

int transformer_turns(const struct transformer *t) {
    return turn_of_head(t) + 1;
}

static void wait_turn(const struct pass *pass, int turn) {
    if (turns_wait(pass->work->turns, turn, pass->work->index))
        mark(pass, STEP_PART_WAIT);
}

/* Gradient of a layer's matrix (outputs,inputs), in turn. */
static void add_weight(const struct pass *pass, int layer, enum layer_tensor which, int rows, int inputs, int outputs,
                       struct factor dout, struct factor x) {
    const struct pass_work *work = pass->work;
    float *dw = work->gradients + tensors_offset_of_layer(&pass->transformer->table, layer, which);
    wait_turn(pass, turn_of_layer(layer, which));
    linear_backward_weight(pass->linear, rows, inputs, outputs, dout, x, dw, !work->sets);
    turns_pass_on(work->turns, turn_of_layer(layer, which));
    mark(pass, STEP_PART_PROJECTION_WEIGHT);
}

/* Gradient of a norm's weight, in its turn: to be added to. */
static float *norm_gradient(const struct pass *pass, size_t offset, int columns) {
    float *dw = pass->work->gradients + offset;
    if (pass->work->sets)
        memset(dw, 0, (size_t)columns * sizeof *dw);
    return dw;
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

static struct attention_inputs inputs_of_attention(const struct pass *pass, struct parameters p, int layer) {
    const struct transformer *t = pass->transformer;
    const struct kept *a = &pass->kept[layer];
    return (struct attention_inputs){.q = a->q,
                                     .k = a->k,
                                     .v = a->v,
                                     .q_norm = p.values + tensors_offset_of_layer(&t->table, layer, LAYER_Q_NORM),
                                     .k_norm = p.values + tensors_offset_of_layer(&t->table, layer, LAYER_K_NORM),
                                     .cosine = t->cosine,
                                     .sine = t->sine,
                                     .eps = (float)t->shape.norm_eps};
}

/* kept q, k, v -> attended, lse. */
static void attend(struct pass *pass, struct extent e, struct parameters p, int layer) {
    const struct kept *a = &pass->kept[layer];
    const struct attention_inputs in = inputs_of_attention(pass, p, layer);
    attention_forward(sizes_of_attention(e), &in, a->attended, a->lse, pass->scratch);
    mark(pass, STEP_PART_ATTENTION_FORWARD);
}

/* Attention's backward pass needs the values too: the factor lies in dq, which that pass sets only then. */
static struct factor factor_of_attended(struct pass *pass, struct extent e, int layer) {
    return factor_of(pass, e.N, e.H * e.D, pass->kept[layer].attended, pass->dq);
}

/* x -> everything else that a layer keeps; hidden: what the gate makes of it, or NULL. */
static void layer_forward_kept(struct pass *pass, struct extent e, struct parameters p, int layer, float *hidden) {
    const struct kept *a = &pass->kept[layer];
    const struct tensor_table *t = &pass->transformer->table;
    struct linear *linear = pass->linear;
    float eps = (float)pass->transformer->shape.norm_eps;

    norm_forward(e.N, e.C, eps, a->x, p.values + tensors_offset_of_layer(t, layer, LAYER_INPUT_NORM), pass->normed,
                 NULL);
    mark(pass, STEP_PART_NORM);
    struct factor normed = factor_in_place(pass, e.N, e.C, pass->normed);
    linear_forward(linear, e.N, e.C, e.H * e.D, normed, matrix_of_layer(pass, p, layer, LAYER_Q), NULL, a->q);
    linear_forward(linear, e.N, e.C, e.K * e.D, normed, matrix_of_layer(pass, p, layer, LAYER_K), NULL, a->k);
    linear_forward(linear, e.N, e.C, e.K * e.D, normed, matrix_of_layer(pass, p, layer, LAYER_V), NULL, a->v);
    mark(pass, STEP_PART_PROJECTION_FORWARD);
    attend(pass, e, p, layer);
    struct factor attended = factor_of_attended(pass, e, layer);
    linear_forward(linear, e.N, e.H * e.D, e.C, attended, matrix_of_layer(pass, p, layer, LAYER_O), a->x, a->middle);
    mark(pass, STEP_PART_PROJECTION_FORWARD);

    norm_forward(e.N, e.C, eps, a->middle, p.values + tensors_offset_of_layer(t, layer, LAYER_POST_NORM), pass->normed,
                 NULL);
    mark(pass, STEP_PART_NORM);
    normed = factor_in_place(pass, e.N, e.C, pass->normed);
    linear_forward_panels(linear, e.N, e.C, e.F, normed, matrix_of_layer(pass, p, layer, LAYER_GATE), NULL, a->gate);
    const struct mlp_gate gate = mlp_gate_finish_forward(a->gate, a->up, hidden);
    const bool within = gate_is_within(pass) && hidden != NULL;
    linear_forward_panels(linear, e.N, e.C, e.F, normed, matrix_of_layer(pass, p, layer, LAYER_UP),
                          within ? &gate.finish : NULL, a->up);
    mark(pass, STEP_PART_PROJECTION_FORWARD);
    if (within || hidden == NULL)
        return;
    mlp_gate_forward((size_t)e.N * (size_t)e.F, a->gate, a->up, hidden);
    mark(pass, STEP_PART_GATE);
}

static void layer_forward(struct pass *pass, struct extent e, struct parameters p, int layer, float *next_x) {
    const struct kept *a = &pass->kept[layer];
    layer_forward_kept(pass, e, p, layer, pass->hidden);
    struct factor hidden = factor_of_panels(pass, e, pass->hidden);
    linear_forward(pass->linear, e.N, e.F, e.C, hidden, matrix_of_layer(pass, p, layer, LAYER_DOWN), a->middle, next_x);
    mark(pass, STEP_PART_PROJECTION_FORWARD);
}

/* Everything up to the final norm: fills kept, x, normed (N,C) and rstd. */
static void trunk_forward(struct pass *pass, struct extent e, struct parameters p, const int32_t *tokens, int stride) {
    const struct transformer *t = pass->transformer;
    int layers = (int)t->shape.layers;
    CHECK(e.B >= 1 && e.B <= t->pass_windows && e.T >= 1 && e.T <= t->shape.context);
    embed_forward(e, p.values + tensors_offset_of_embedding(&t->table), tokens, stride, pass->kept[0].x);
    mark(pass, STEP_PART_EMBEDDING);
    for (int l = 0; l < layers; l++)
        layer_forward(pass, e, p, l, l + 1 < layers ? pass->kept[l + 1].x : pass->x);
    norm_forward(e.N, e.C, (float)t->shape.norm_eps, pass->x, p.values + tensors_offset_of_final_norm(&t->table),
                 pass->normed, pass->rstd);
    mark(pass, STEP_PART_NORM);
}

/* windows (B,T+1) -> targets (N,) */
static void copy_targets(struct pass *pass, struct extent e, const int32_t *windows) {
    for (int b = 0; b < e.B; b++)
        memcpy(pass->targets + (size_t)b * (size_t)e.T, windows + (size_t)b * (size_t)(e.T + 1) + 1,
               (size_t)e.T * sizeof *pass->targets);
    for (int n = 0; n < e.N; n++)
        CHECK(pass->targets[n] >= 0 && pass->targets[n] < e.V);
    mark(pass, STEP_PART_EMBEDDING);
}

/* The loss of `rows` rows, first.., whose logits are there: a sum for each unit. gradients: logits -> their gradients. */
static void add_losses(struct pass *pass, struct extent e, int first, int rows, bool gradients) {
    const struct pass_work *work = pass->work;
    const int unit = pass->transformer->unit_windows * e.T;
    for (int row = first, count; row < first + rows; row += count) {
        count = min_int(unit - row % unit, first + rows - row);
        float *logits = pass->logits + (size_t)(row - first) * (size_t)e.V;
        const int32_t *targets = pass->targets + row;
        work->sums[row / unit] += gradients ? loss_forward_backward(count, e.V, logits, targets, work->scale,
                                                                    (float)pass->transformer->shape.z_loss, NULL)
                                            : loss_forward(count, e.V, logits, targets);
    }
    mark(pass, STEP_PART_LOSS);
}

void pass_evaluate(struct pass *pass, const struct pass_work *work) {
    const struct transformer *t = pass->transformer;
    struct extent e = extent_of(&t->shape, work->B, work->T);
    pass->work = work;
    trunk_forward(pass, e, work->parameters, work->windows, e.T + 1);
    copy_targets(pass, e, work->windows);
    struct factor normed = factor_in_place(pass, e.N, e.C, pass->normed), head = head_matrix(pass, work->parameters);
    for (int first = 0; first < e.N; first += t->logit_rows) {
        int rows = min_int(e.N - first, t->logit_rows);
        linear_forward(pass->linear, rows, e.C, e.V, factor_at(normed, (size_t)first * (size_t)e.C), head, NULL,
                       pass->logits);
        mark(pass, STEP_PART_HEAD);
        add_losses(pass, e, first, rows, false);
    }
}

void pass_logits(struct pass *pass, struct parameters p, const int32_t *tokens, int T, float *logits) {
    const struct transformer *t = pass->transformer;
    struct extent e = extent_of(&t->shape, 1, T);
    trunk_forward(pass, e, p, tokens, T);
    struct factor normed = factor_in_place(pass, e.N, e.C, pass->normed);
    linear_forward(pass->linear, T, e.C, e.V, normed, head_matrix(pass, p), NULL, logits);
}

/* ---- backward ---- */

/* dx (N,C): gradient of the layer's output -> gradient of its input, work->dx in place. */
static void mlp_backward(struct pass *pass, struct extent e, int layer) {
    const struct pass_work *work = pass->work;
    const struct kept *a = &pass->kept[layer];
    const struct transformer *t = pass->transformer;
    struct linear *linear = pass->linear;
    struct parameters p = work->parameters;
    size_t norm = tensors_offset_of_layer(&t->table, layer, LAYER_POST_NORM);

    struct factor dout = factor_of(pass, e.N, e.C, work->dx, pass->normed); /* in normed's room until the norm */
    const struct mlp_gate gate = mlp_gate_finish_backward(a->gate, a->up, pass->hidden);
    linear_backward_input_panels(linear, e.N, e.F, e.C, dout, matrix_of_layer(pass, p, layer, LAYER_DOWN),
                                 gate_is_within(pass) ? &gate.finish : NULL, pass->hidden);
    mark(pass, STEP_PART_PROJECTION_INPUT);
    if (!gate_is_within(pass)) {
        mlp_gate_backward((size_t)e.N * (size_t)e.F, a->gate, a->up, pass->hidden);
        mark(pass, STEP_PART_GATE);
    }
    struct factor hidden = factor_of_panels(pass, e, pass->hidden);
    add_weight(pass, layer, LAYER_DOWN, e.N, e.F, e.C, dout, hidden);
    norm_forward(e.N, e.C, (float)t->shape.norm_eps, a->middle, p.values + norm, pass->normed, pass->rstd);
    mark(pass, STEP_PART_NORM);
    struct factor normed = factor_in_place(pass, e.N, e.C, pass->normed), dgate = factor_of_panels(pass, e, a->gate),
                  dup = factor_of_panels(pass, e, a->up);
    add_weight(pass, layer, LAYER_GATE, e.N, e.C, e.F, dgate, normed);
    add_weight(pass, layer, LAYER_UP, e.N, e.C, e.F, dup, normed);
    linear_backward_input(linear, e.N, e.C, e.F, dgate, matrix_of_layer(pass, p, layer, LAYER_GATE), pass->normed,
                          false);
    linear_backward_input(linear, e.N, e.C, e.F, dup, matrix_of_layer(pass, p, layer, LAYER_UP), pass->normed, true);
    mark(pass, STEP_PART_PROJECTION_INPUT);
    wait_turn(pass, turn_of_layer(layer, LAYER_POST_NORM));
    norm_backward_add(e.N, e.C, a->middle, p.values + norm, pass->rstd, pass->normed, work->dx,
                      norm_gradient(pass, norm, e.C), pass->scratch);
    turns_pass_on(work->turns, turn_of_layer(layer, LAYER_POST_NORM));
    mark(pass, STEP_PART_NORM);
}

/* Gradient of the weights of a norm of heads, in turn: dw (units,D). */
static void add_head_norm(const struct pass *pass, struct extent e, int layer, enum layer_tensor which, int units,
                          const float *dw) {
    wait_turn(pass, turn_of_layer(layer, which));
    float *to = norm_gradient(pass, tensors_offset_of_layer(&pass->transformer->table, layer, which), e.D);
    for (int unit = 0; unit < units; unit++, dw += e.D)
        for (int i = 0; i < e.D; i++)
            to[i] += dw[i];
    turns_pass_on(pass->work->turns, turn_of_layer(layer, which));
}

/* dattended -> dq, dk, dv of the projected, unit by unit. */
static void attend_backward(struct pass *pass, struct extent e, int layer) {
    const struct kept *a = &pass->kept[layer];
    const struct attention_inputs in = inputs_of_attention(pass, pass->work->parameters, layer);
    const int each = pass->transformer->unit_windows;
    int units = 0;
    for (int first = 0; first < e.B; first += each, units++) {
        struct attention_sizes sizes = sizes_of_attention(e);
        sizes.B = min_int(e.B - first, each);
        size_t row = (size_t)first * (size_t)e.T, queries = row * (size_t)(e.H * e.D), keys = row * (size_t)(e.K * e.D),
               sums = (size_t)units * (size_t)e.D;
        struct attention_inputs of_unit = in;
        of_unit.q += queries;
        of_unit.k += keys;
        of_unit.v += keys;
        const struct attention_gradients gradients = {.dq = pass->dq + queries,
                                                      .dk = pass->dk + keys,
                                                      .dv = pass->dv + keys,
                                                      .dq_norm = pass->dq_norm + sums,
                                                      .dk_norm = pass->dk_norm + sums};
        attention_backward(sizes, &of_unit, a->attended + queries, a->lse + row * (size_t)e.H,
                           pass->dattended + queries, &gradients, pass->scratch);
    }
    mark(pass, STEP_PART_ATTENTION_BACKWARD);
    add_head_norm(pass, e, layer, LAYER_Q_NORM, units, pass->dq_norm);
    add_head_norm(pass, e, layer, LAYER_K_NORM, units, pass->dk_norm);
    mark(pass, STEP_PART_NORM);
}

static void attention_block_backward(struct pass *pass, struct extent e, int layer) {
    const struct pass_work *work = pass->work;
    const struct kept *a = &pass->kept[layer];
    const struct transformer *t = pass->transformer;
    struct linear *linear = pass->linear;
    struct parameters p = work->parameters;
    size_t norm = tensors_offset_of_layer(&t->table, layer, LAYER_INPUT_NORM);

    if (t->shape.recompute == RECOMPUTE_ATTENTION)
        attend(pass, e, p, layer);
    struct factor dout = factor_of(pass, e.N, e.C, work->dx, pass->normed); /* in normed's room until the norm */
    add_weight(pass, layer, LAYER_O, e.N, e.H * e.D, e.C, dout, factor_of_attended(pass, e, layer));
    linear_backward_input(linear, e.N, e.H * e.D, e.C, dout, matrix_of_layer(pass, p, layer, LAYER_O), pass->dattended,
                          false);
    mark(pass, STEP_PART_PROJECTION_INPUT);
    attend_backward(pass, e, layer);
    norm_forward(e.N, e.C, (float)t->shape.norm_eps, a->x, p.values + norm, pass->normed, pass->rstd);
    mark(pass, STEP_PART_NORM);
    struct factor normed = factor_in_place(pass, e.N, e.C, pass->normed),
                  dq = factor_in_place(pass, e.N, e.H * e.D, pass->dq),
                  dk = factor_in_place(pass, e.N, e.K * e.D, pass->dk),
                  dv = factor_in_place(pass, e.N, e.K * e.D, pass->dv);
    add_weight(pass, layer, LAYER_Q, e.N, e.C, e.H * e.D, dq, normed);
    add_weight(pass, layer, LAYER_K, e.N, e.C, e.K * e.D, dk, normed);
    add_weight(pass, layer, LAYER_V, e.N, e.C, e.K * e.D, dv, normed);
    linear_backward_input(linear, e.N, e.C, e.H * e.D, dq, matrix_of_layer(pass, p, layer, LAYER_Q), pass->normed,
                          false);
    linear_backward_input(linear, e.N, e.C, e.K * e.D, dk, matrix_of_layer(pass, p, layer, LAYER_K), pass->normed,
                          true);
    linear_backward_input(linear, e.N, e.C, e.K * e.D, dv, matrix_of_layer(pass, p, layer, LAYER_V), pass->normed,
                          true);
    mark(pass, STEP_PART_PROJECTION_INPUT);
    wait_turn(pass, turn_of_layer(layer, LAYER_INPUT_NORM));
    norm_backward_add(e.N, e.C, a->x, p.values + norm, pass->rstd, pass->normed, work->dx,
                      norm_gradient(pass, norm, e.C), pass->scratch);
    turns_pass_on(work->turns, turn_of_layer(layer, LAYER_INPUT_NORM));
    mark(pass, STEP_PART_NORM);
}

/* The gradients of one chunk of logits. The head is the largest product, and the first that passes take turns on: who is not next does the other one
 * before, and so loses no time. */
static void head_backward(struct pass *pass, struct extent e, struct factor normed, int first, int rows) {
    const struct pass_work *work = pass->work;
    const struct transformer *t = pass->transformer;
    struct linear *linear = pass->linear;
    struct factor matrix = head_matrix(pass, work->parameters),
                  dlogits = factor_in_place(pass, rows, e.V, pass->logits);
    float *dx = work->dx + (size_t)first * (size_t)e.C;
    bool is_next = turns_is_next(work->turns, turn_of_head(t), work->index);
    if (!is_next) {
        linear_backward_input(linear, rows, e.C, e.V, dlogits, matrix, dx, false);
        mark(pass, STEP_PART_HEAD);
        wait_turn(pass, turn_of_head(t));
    }
    linear_backward_weight(linear, rows, e.C, e.V, dlogits, normed, work->gradients + tensors_offset_of_head(&t->table),
                           !work->sets || first > 0);
    if (first + rows == e.N)
        turns_pass_on(work->turns, turn_of_head(t));
    if (is_next)
        linear_backward_input(linear, rows, e.C, e.V, dlogits, matrix, dx, false);
    mark(pass, STEP_PART_HEAD);
}

/* Final norm's output -> sums of the loss; dx = gradient of that output. */
static void head_forward_backward(struct pass *pass, struct extent e) {
    const struct pass_work *work = pass->work;
    const struct transformer *t = pass->transformer;
    struct factor all = factor_in_place(pass, e.N, e.C, pass->normed), matrix = head_matrix(pass, work->parameters);
    for (int first = 0; first < e.N; first += t->logit_rows) {
        int rows = min_int(e.N - first, t->logit_rows);
        struct factor normed = factor_at(all, (size_t)first * (size_t)e.C);
        linear_forward(pass->linear, rows, e.C, e.V, normed, matrix, NULL, pass->logits);
        mark(pass, STEP_PART_HEAD);
        add_losses(pass, e, first, rows, true);
        head_backward(pass, e, normed, first, rows);
    }
}

void pass_add_gradients(struct pass *pass, const struct pass_work *work) {
    const struct transformer *t = pass->transformer;
    struct extent e = extent_of(&t->shape, work->B, work->T);
    pass->work = work;
    trunk_forward(pass, e, work->parameters, work->windows, e.T + 1);
    copy_targets(pass, e, work->windows);
    head_forward_backward(pass, e);
    size_t norm = tensors_offset_of_final_norm(&t->table);
    wait_turn(pass, turn_of_final_norm(t));
    norm_backward(e.N, e.C, pass->x, work->parameters.values + norm, pass->rstd, work->dx, work->dx,
                  norm_gradient(pass, norm, e.C), pass->scratch);
    turns_pass_on(work->turns, turn_of_final_norm(t));
    mark(pass, STEP_PART_NORM);
    for (int l = (int)t->shape.layers - 1; l >= 0; l--) {
        if (t->shape.recompute == RECOMPUTE_BLOCK)
            layer_forward_kept(pass, e, work->parameters, l, NULL);
        mlp_backward(pass, e, l);
        attention_block_backward(pass, e, l);
    }
}

static HOT_LOOP void add_rows(const int32_t *windows, int B, int T, int C, const float *dx, float *dembedding,
                              int count) {
    for (int n = 0; n < B * T; n++) {
        int32_t token = windows[(size_t)(n / T) * (size_t)(T + 1) + (size_t)(n % T)];
        float *restrict to = dembedding + (size_t)token * (size_t)C;
        const float *restrict from = dx + (size_t)n * (size_t)C;
        for (int c = 0; c < count; c++)
            to[c] += from[c];
    }
}

void transformer_add_embedding(const struct transformer *t, const int32_t *windows, int B, int T, const float *dx,
                               float *gradients, int first, int count, bool sets) {
    const size_t embedding = tensors_offset_of_embedding(&t->table), width = (size_t)t->shape.width;
    if (sets && embedding != tensors_offset_of_head(&t->table))
        for (int64_t row = 0; row < t->shape.vocab; row++)
            memset(gradients + embedding + (size_t)row * width + (size_t)first, 0, (size_t)count * sizeof *gradients);
    add_rows(windows, B, T, (int)t->shape.width, dx + first, gradients + tensors_offset_of_embedding(&t->table) + first,
             count);
}
