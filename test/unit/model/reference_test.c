/* reference_test: model/ in float32 against test/reference in float64, and that reference against finite differences of its own loss.
 * Inputs are float32 numbers, widened for the reference, so that all of a difference is arithmetic. Weights are drawn wide (standard
 * deviation 0.3, norms 1 + 0.3 N) so that attention is far from uniform and the gradients of q and k live.
 * A ratio is |g32 - g64|_2 / |g64|_2 of one tensor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "model/attention.h"
#include "model/linear.h"
#include "model/loss.h"
#include "model/mlp.h"
#include "model/model.h"
#include "model/norm.h"
#include "model/rope.h"
#include "model/tensors.h"
#include "reference/transformer_ref.h"

static const double OP_BOUND = 1e-5, MODEL_BOUND = 1e-4, DERIVATIVE_BOUND = 1e-7;

/* ---- arrays that exist in both widths ---- */

struct both {
    float *narrow;
    double *wide;
    size_t count;
};

static struct both both_zero(size_t count) {
    struct both both = {calloc(count, sizeof(float)), calloc(count, sizeof(double)), count};
    assert_non_null(both.narrow);
    assert_non_null(both.wide);
    return both;
}

static uint64_t next_stream = 1; /* every array another stream of seed 7: one test order, one set of numbers */

static struct both both_normal(size_t count, double mean, double deviation) {
    struct both both = both_zero(count);
    uint64_t stream = next_stream++;
    for (size_t i = 0; i < count; i++) {
        both.narrow[i] = (float)(mean + deviation * (double)rng_normal(7, stream, i));
        both.wide[i] = (double)both.narrow[i];
    }
    return both;
}

static void both_free(struct both both) {
    free(both.narrow);
    free(both.wide);
}

static double norm2(const double *values, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    return sqrt(sum);
}

static double ratio(const float *narrow, const double *wide, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ((double)narrow[i] - wide[i]) * ((double)narrow[i] - wide[i]);
    double size = norm2(wide, count);
    assert_true(size > 0); /* a zero gradient would agree with anything */
    return sqrt(sum) / size;
}

static double worst; /* of the running test */

static int start(void **state) {
    (void)state;
    worst = 0;
    return 0;
}

/* NaN fails: the comparison is written so that it must hold. */
static void expect(const char *what, double found, double bound) {
    worst = found > worst || !(found == found) ? found : worst;
    if (!(found <= bound))
        fail_msg("%s: %.3g, expected at most %.3g", what, found, bound);
}

static void expect_close(const char *what, struct both both) {
    expect(what, ratio(both.narrow, both.wide, both.count), OP_BOUND);
}

static void report(const char *test) {
    print_message("             worst ratio, %s: %.2e\n", test, worst);
}

/* ---- a wide model ---- */

static struct shape shape_make(bool tied, double z_loss) {
    struct shape shape = {.layers = 3,
                          .width = 40,
                          .heads = 4,
                          .kv_heads = 2,
                          .head_dim = 12, /* not width / heads */
                          .ffn = 56,
                          .context = 16,
                          .vocab = 61,
                          .tied = tied,
                          .rope_theta = 1e4,
                          .norm_eps = 1e-6,
                          .z_loss = z_loss};
    return shape;
}

static void fill_wide(const struct tensor_table *table, float *block, double *wide) {
    for (int i = 0; i < table->count; i++) {
        const struct tensor *tensor = &table->tensors[i];
        struct both drawn = both_normal(tensor->count, tensor->dimensions == 1 ? 1.0 : 0.0, 0.3);
        if (block)
            memcpy(block + tensor->offset, drawn.narrow, tensor->count * sizeof(float));
        memcpy(wide + tensor->offset, drawn.wide, tensor->count * sizeof(double));
        both_free(drawn);
    }
}

static int32_t *draw_tokens(int count, int vocab) {
    int32_t *tokens = calloc((size_t)count, sizeof *tokens);
    assert_non_null(tokens);
    uint64_t stream = next_stream++;
    for (int i = 0; i < count; i++)
        tokens[i] = (int32_t)(rng_u64(7, stream, (uint64_t)i) % (uint64_t)vocab);
    return tokens;
}

static double *zero_doubles(size_t count) {
    double *doubles = calloc(count, sizeof *doubles);
    assert_non_null(doubles);
    return doubles;
}

/* ---- the reference against its own loss ---- */

static void check_derivatives(bool tied) {
    enum { B = 2, T = 13 };
    struct shape shape = shape_make(tied, 1e-2);
    shape.layers = 2;
    shape.width = 20;
    shape.head_dim = 6;
    shape.ffn = 28;
    shape.vocab = 31;
    struct tensor_table table;
    struct error error;
    assert_int_equal(tensors_table_create(&shape, &table, &error), STATUS_OK);
    double *parameters = zero_doubles(table.block_floats), *gradients = zero_doubles(table.block_floats);
    fill_wide(&table, NULL, parameters);
    int32_t *windows = draw_tokens(B * (T + 1), (int)shape.vocab);
    transformer_ref_loss(&shape, &table, parameters, windows, B, T, 1, gradients, NULL);

    double *moved = zero_doubles(table.block_floats);
    for (int i = 0; i < 2 * table.count; i++) { /* two directions of unit length per tensor */
        const struct tensor *tensor = &table.tensors[i / 2];
        const double *gradient = gradients + tensor->offset;
        struct both direction = both_normal(tensor->count, 0, 1);
        double length = norm2(direction.wide, tensor->count), along = 0;
        for (size_t j = 0; j < tensor->count; j++)
            along += gradient[j] * direction.wide[j] / length;

        /* f' = (f(x-2h) - 8 f(x-h) + 8 f(x+h) - f(x+2h)) / 12h, up to h^4 f'''''/30 and the rounding of f over h */
        static const double steps[4] = {-2, -1, 1, 2}, factors[4] = {1, -8, 8, -1};
        const double h = 2e-3;
        double difference = 0;
        for (int s = 0; s < 4; s++) {
            memcpy(moved, parameters, table.block_floats * sizeof(double));
            for (size_t j = 0; j < tensor->count; j++)
                moved[tensor->offset + j] += steps[s] * h * direction.wide[j] / length;
            difference += factors[s] * transformer_ref_loss(&shape, &table, moved, windows, B, T, 1, NULL, NULL);
        }
        expect(tensor->name, fabs(difference / (12 * h) - along) / norm2(gradient, tensor->count), DERIVATIVE_BOUND);
        both_free(direction);
    }
    free(parameters);
    free(gradients);
    free(moved);
    free(windows);
    tensors_table_destroy(&table);
}

static void reference_matches_its_derivatives(void **state) {
    (void)state;
    check_derivatives(false);
    check_derivatives(true);
    report("reference against five-point derivatives");
}

/* ---- operations ---- */

static void check_linear(int N, int I, int O) {
    struct both x = both_normal((size_t)(N * I), 0, 1), w = both_normal((size_t)(O * I), 0, 0.3);
    struct both dy = both_normal((size_t)(N * O), 0, 1), y = both_zero((size_t)(N * O));
    struct linear *linear = NULL;
    struct error error;
    assert_int_equal(linear_open(LINEAR_BLAS, &linear, &error), STATUS_OK);
    struct factor x32 = {.f32 = x.narrow}, w32 = {.f32 = w.narrow}, dy32 = {.f32 = dy.narrow};
    linear_forward(linear, N, I, O, x32, w32, NULL, y.narrow);
    linear_ref(x.wide, w.wide, N, I, O, y.wide);
    expect_close("linear y", y);

    struct both dx = both_zero((size_t)(N * I)), dw = both_normal((size_t)(O * I), 0, 1);
    memset(dx.narrow, 0x7f, dx.count * sizeof(float)); /* must be overwritten */
    linear_backward_input(linear, N, I, O, dy32, w32, dx.narrow, false);
    linear_backward_weight(linear, N, I, O, dy32, x32, dw.narrow, true);
    linear_ref_backward(x.wide, w.wide, N, I, O, dy.wide, dx.wide, dw.wide);
    expect_close("linear dx", dx);
    expect_close("linear dw", dw);

    struct both unused = both_zero((size_t)(O * I));
    linear_backward_input(linear, N, I, O, dy32, w32, dx.narrow, true);
    linear_ref_backward(x.wide, w.wide, N, I, O, dy.wide, dx.wide, unused.wide);
    expect_close("linear dx, added", dx);
    linear_close(linear);
    struct both all[] = {x, w, dy, y, dx, dw, unused};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        both_free(all[i]);
}

static void linear_matches(void **state) {
    (void)state;
    check_linear(26, 40, 56);
    check_linear(1, 7, 5);
    check_linear(131, 37, 61);
    report("linear");
}

static void check_norm(int N, int C, double deviation) {
    const float eps = 1e-6f;
    size_t count = (size_t)(N * C);
    struct both x = both_normal(count, 0, deviation), w = both_normal((size_t)C, 1, 0.3), dy = both_normal(count, 0, 1);
    struct both y = both_zero(count), rstd = both_zero((size_t)N), scratch = both_zero((size_t)C);
    norm_forward(N, C, eps, x.narrow, w.narrow, y.narrow, rstd.narrow);
    rmsnorm_ref(x.wide, w.wide, N, C, (double)eps, y.wide);
    expect_close("norm y", y);
    memcpy(y.narrow, x.narrow, count * sizeof(float));
    norm_forward(N, C, eps, y.narrow, w.narrow, y.narrow, NULL);
    expect_close("norm y, in place", y);

    struct both dx = both_zero(count), dw = both_normal((size_t)C, 0, 1), added = both_normal(count, 0, 1);
    struct both unused = both_zero((size_t)C);
    memset(dx.narrow, 0x7f, count * sizeof(float));
    norm_backward(N, C, x.narrow, w.narrow, rstd.narrow, dy.narrow, dx.narrow, dw.narrow, scratch.narrow);
    rmsnorm_ref_backward(x.wide, w.wide, N, C, (double)eps, dy.wide, dx.wide, dw.wide);
    expect_close("norm dx", dx);
    expect_close("norm dw", dw);
    norm_backward_add(N, C, x.narrow, w.narrow, rstd.narrow, dy.narrow, added.narrow, unused.narrow, scratch.narrow);
    rmsnorm_ref_backward(x.wide, w.wide, N, C, (double)eps, dy.wide, added.wide, unused.wide);
    expect_close("norm dx, added", added);
    expect_close("norm dw, from zero", unused);
    memcpy(dx.narrow, dy.narrow, count * sizeof(float));
    norm_backward(N, C, x.narrow, w.narrow, rstd.narrow, dx.narrow, dx.narrow, dw.narrow, scratch.narrow);
    expect_close("norm dx, in place", dx);
    struct both all[] = {x, w, dy, y, rstd, scratch, dx, dw, added, unused};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        both_free(all[i]);
}

static void norm_matches(void **state) {
    (void)state;
    check_norm(26, 40, 1);
    check_norm(104, 12, 1);  /* per head */
    check_norm(5, 37, 1e-3); /* so small that eps counts */
    check_norm(3, 515, 10);
    report("norm");
}

/* Heads normalized, then rotated; the gradients the other way around. */
static void check_rope(int B, int T, int H, int D, double theta) {
    const float eps = 1e-6f;
    int heads = B * T * H;
    size_t count = (size_t)(heads * D), angles = (size_t)(T * (D / 2)), stride = (size_t)(H * D);
    struct both x = both_normal(count, 0, 1), w = both_normal((size_t)D, 1, 0.3), y = both_zero(count),
                dy = both_normal(count, 0, 1), dx = both_zero(count), dw = both_normal((size_t)D, 0, 1);
    struct both cosine = both_zero(angles), sine = both_zero(angles), scratch = both_zero((size_t)(3 * D)),
                between = both_zero(count);
    rope_fill_table(T, D, theta, cosine.narrow, sine.narrow);
    memset(dx.narrow, 0x7f, count * sizeof(float));
    for (int head = 0; head < B * H; head++) {
        size_t at = ((size_t)(head / H * T * H) + (size_t)(head % H)) * (size_t)D;
        rope_forward(T, D, eps, cosine.narrow, sine.narrow, x.narrow + at, stride, w.narrow, y.narrow + at, stride);
        rope_backward(T, D, eps, cosine.narrow, sine.narrow, x.narrow + at, stride, w.narrow, dy.narrow + at, stride,
                      dx.narrow + at, stride, dw.narrow, scratch.narrow);
    }
    rmsnorm_ref(x.wide, w.wide, heads, D, (double)eps, between.wide);
    rope_ref(between.wide, B * T, T, H, D, theta, y.wide);
    expect_close("rope y", y);

    memset(between.wide, 0, count * sizeof(double));
    rope_ref_backward(B * T, T, H, D, theta, dy.wide, between.wide);
    rmsnorm_ref_backward(x.wide, w.wide, heads, D, (double)eps, between.wide, dx.wide, dw.wide);
    expect_close("rope dx", dx);
    expect_close("rope dw", dw);
    struct both all[] = {x, w, y, dy, dx, dw, cosine, sine, scratch, between};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        both_free(all[i]);
}

static void rope_matches(void **state) {
    (void)state;
    check_rope(2, 13, 4, 12, 1e4);
    check_rope(2, 13, 3, 6, 500);
    check_rope(1, 1025, 1, 64, 1e6); /* large angles */
    check_rope(1, 5, 2, 32, 1e4);
    check_rope(2, 3, 1, 128, 1e4);
    check_rope(1, 2, 70, 36, 1e4);
    report("rope");
}

/* x, heads normalized and rotated, in float64. */
static struct both made_ready(struct both x, struct both w, int B, int T, int heads, int D, double eps, double theta) {
    struct both between = both_zero(x.count), ready = both_zero(x.count);
    rmsnorm_ref(x.wide, w.wide, B * T * heads, D, eps, between.wide);
    rope_ref(between.wide, B * T, T, heads, D, theta, ready.wide);
    both_free(between);
    return ready;
}

/* ready: its gradient in float64 -> those of x and w. */
static void made_ready_backward(struct both x, struct both w, int B, int T, int heads, int D, double eps, double theta,
                                struct both dready, struct both dx, struct both dw) {
    struct both between = both_zero(x.count);
    rope_ref_backward(B * T, T, heads, D, theta, dready.wide, between.wide);
    rmsnorm_ref_backward(x.wide, w.wide, B * T * heads, D, eps, between.wide, dx.wide, dw.wide);
    both_free(between);
}

static void check_attention(int B, int T, int H, int K, int D) {
    const double theta = 500, eps = 1e-6;
    struct attention_sizes sizes = {B, T, H, K, D};
    size_t queries = (size_t)(B * T * H * D), keys = (size_t)(B * T * K * D), angles = (size_t)(T * (D / 2));
    struct both q = both_normal(queries, 0, 1.5), k = both_normal(keys, 0, 1.5), v = both_normal(keys, 0, 1);
    struct both q_norm = both_normal((size_t)D, 1.5, 0.3), k_norm = both_normal((size_t)D, 1.5, 0.3);
    struct both out = both_zero(queries), dout = both_normal(queries, 0, 1), lse = both_zero((size_t)(B * H * T));
    struct both dq = both_zero(queries), dk = both_zero(keys), dv = both_zero(keys);
    struct both dq_norm = both_zero((size_t)D), dk_norm = both_zero((size_t)D);
    struct both cosine = both_zero(angles), sine = both_zero(angles);
    struct both scratch = both_zero(attention_scratch_floats(sizes));
    rope_fill_table(T, D, theta, cosine.narrow, sine.narrow);
    const struct attention_inputs in = {.q = q.narrow,
                                        .k = k.narrow,
                                        .v = v.narrow,
                                        .q_norm = q_norm.narrow,
                                        .k_norm = k_norm.narrow,
                                        .cosine = cosine.narrow,
                                        .sine = sine.narrow,
                                        .eps = (float)eps};
    struct both q_ready = made_ready(q, q_norm, B, T, H, D, eps, theta),
                k_ready = made_ready(k, k_norm, B, T, K, D, eps, theta);
    attention_forward(sizes, &in, out.narrow, lse.narrow, scratch.narrow);
    attention_ref(q_ready.wide, k_ready.wide, v.wide, B, T, H, K, D, out.wide);
    expect_close("attention out", out);

    for (size_t i = 0; i < scratch.count; i++)
        scratch.narrow[i] = NAN; /* nothing may be kept there between the passes */
    const struct attention_gradients gradients = {dq.narrow, dk.narrow, dv.narrow, dq_norm.narrow, dk_norm.narrow};
    struct both set[] = {dq, dk, dv, dq_norm, dk_norm};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        memset(set[i].narrow, 0x7f, set[i].count * sizeof(float));
    attention_backward(sizes, &in, out.narrow, lse.narrow, dout.narrow, &gradients, scratch.narrow);
    struct both dq_ready = both_zero(queries), dk_ready = both_zero(keys);
    attention_ref_backward(q_ready.wide, k_ready.wide, v.wide, B, T, H, K, D, dout.wide, dq_ready.wide, dk_ready.wide,
                           dv.wide);
    made_ready_backward(q, q_norm, B, T, H, D, eps, theta, dq_ready, dq, dq_norm);
    made_ready_backward(k, k_norm, B, T, K, D, eps, theta, dk_ready, dk, dk_norm);
    expect_close("attention dq", dq);
    expect_close("attention dk", dk);
    expect_close("attention dv", dv);
    expect_close("attention dq norm", dq_norm);
    expect_close("attention dk norm", dk_norm);
    struct both all[] = {q,  k,  v,  q_norm,  k_norm,  out,    dout, lse,     q_ready,  k_ready,
                         dq, dk, dv, dq_norm, dk_norm, cosine, sine, scratch, dq_ready, dk_ready};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        both_free(all[i]);
}

static void attention_matches(void **state) {
    (void)state;
    check_attention(2, 13, 4, 2, 12);
    check_attention(2, 13, 6, 2, 6);
    check_attention(1, 5, 3, 1, 10);   /* one key-value head */
    check_attention(2, 31, 3, 3, 8);   /* one each */
    check_attention(1, 301, 4, 2, 16); /* several tiles, the last one short */
    check_attention(1, 128, 2, 1, 32); /* nothing to pad */
    check_attention(1, 77, 2, 2, 70);  /* an odd number of vectors, the last one short */
    check_attention(1, 66, 2, 1, 80);  /* more vectors than a register tile has, */
    check_attention(1, 70, 1, 1, 128); /* and twice as many */
    report("attention");
}

static float *copy_of(size_t count, const float *values) {
    float *copy = malloc(count * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, values, count * sizeof *copy);
    return copy;
}

/* In parts of `columns` of a row, as products give them, the gate has the bits of the whole. */
static void run_parts(const struct gemm_finish *finish, int count, int columns) {
    for (int at = 0; at < count; at += 2 * columns) {
        int left = count - at;
        if (left >= 2 * columns)
            finish->run(finish, 2, columns, (size_t)at, (size_t)columns);
        else
            finish->run(finish, 1, left, (size_t)at, (size_t)left);
    }
}

static void check_gate_parts(size_t count, const float *gate, const float *up, const float *dh) {
    float *whole[3] = {copy_of(count, gate), copy_of(count, up), copy_of(count, dh)},
          *parts[3] = {copy_of(count, gate), copy_of(count, up), copy_of(count, dh)};
    mlp_gate_forward(count, whole[0], whole[1], whole[2]);
    const struct mlp_gate forward = mlp_gate_finish_forward(parts[0], parts[1], parts[2]);
    run_parts(&forward.finish, (int)count, 48);
    for (int i = 0; i < 3; i++)
        assert_memory_equal(whole[i], parts[i], count * sizeof(float));
    mlp_gate_backward(count, whole[0], whole[1], whole[2]);
    const struct mlp_gate backward = mlp_gate_finish_backward(parts[0], parts[1], parts[2]);
    run_parts(&backward.finish, (int)count, 16);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(whole[i], parts[i], count * sizeof(float));
        free(whole[i]);
        free(parts[i]);
    }
}

static void mlp_matches(void **state) {
    (void)state;
    static const size_t counts[] = {1, 26 * 56, 1003};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        size_t count = counts[c];
        struct both gate = both_normal(count, 0, 4), up = both_normal(count, 0, 1), dh = both_normal(count, 0, 1);
        struct both h = both_zero(count), dgate = both_zero(count), dup = both_zero(count);
        check_gate_parts(count, gate.narrow, up.narrow, dh.narrow);
        mlp_gate_forward(count, gate.narrow, up.narrow, h.narrow);
        swiglu_ref(gate.wide, up.wide, (int)count, h.wide);
        expect_close("mlp h", h);

        swiglu_ref_backward(gate.wide, up.wide, (int)count, dh.wide, dgate.wide, dup.wide);
        mlp_gate_backward(count, gate.narrow, up.narrow, dh.narrow);
        expect("mlp dgate", ratio(gate.narrow, dgate.wide, count), OP_BOUND);
        expect("mlp dup", ratio(up.narrow, dup.wide, count), OP_BOUND);
        expect("mlp h, again", ratio(dh.narrow, h.wide, count), OP_BOUND);
        struct both all[] = {gate, up, dh, h, dgate, dup};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            both_free(all[i]);
    }
    report("mlp");
}

static void check_loss(int N, int V, double z_loss, double mean, double deviation) {
    struct both logits = both_normal((size_t)(N * V), mean, deviation), dlogits = both_zero((size_t)(N * V));
    int32_t *targets = draw_tokens(N, V);
    double cross_entropy, squared_lse = 0.5;
    double loss = loss_ref(logits.wide, targets, N, V, z_loss, &cross_entropy);
    loss_ref_backward(logits.wide, targets, N, V, z_loss, 1, dlogits.wide);
    expect("loss", fabs(loss_forward(N, V, logits.narrow, targets) / N / cross_entropy - 1), OP_BOUND);

    memcpy(dlogits.narrow, logits.narrow, dlogits.count * sizeof(float));
    double sum = loss_forward_backward(N, V, dlogits.narrow, targets, (float)(1.0 / N), (float)z_loss, &squared_lse);
    expect("loss, with gradient", fabs(sum / N / cross_entropy - 1), OP_BOUND);
    if (z_loss > 0)
        expect("z-loss", fabs((squared_lse - 0.5) / N * z_loss / (loss - cross_entropy) - 1), OP_BOUND);
    expect_close("dlogits", dlogits);
    both_free(logits);
    both_free(dlogits);
    free(targets);
}

static void loss_matches(void **state) {
    (void)state;
    check_loss(26, 61, 1e-2, 0, 3);
    check_loss(26, 61, 0, 0, 3);
    check_loss(3, 1003, 1e-4, 0, 5);
    check_loss(5, 256, 1e-2, 20, 1); /* far from zero: the largest logit must be taken out first */
    report("loss");
}

/* ---- the whole model ---- */

struct bench {
    struct shape shape;
    struct model *model;
    const struct tensor_table *table;
    double *parameters, *gradients; /* of the reference, by the table */
};

static struct bench bench_open(struct shape shape) {
    struct bench bench = {.shape = shape};
    struct error error = {0};
    struct model_options options = {.shape = bench.shape,
                                    .inner = {.lr = 1e-3,
                                              .steps = 10,
                                              .batch_per_worker = 3,
                                              .accumulate = 1,
                                              .clip = 1,
                                              .beta1 = 0.9,
                                              .beta2 = 0.95,
                                              .eps = 1e-8,
                                              .seed = 1,
                                              .threads = 1}};
    if (model_create(&options, &bench.model, &error) != STATUS_OK)
        fail_msg("model_create: %s", error.text);
    bench.table = model_tensors(bench.model);
    bench.parameters = zero_doubles(bench.table->block_floats);
    bench.gradients = zero_doubles(bench.table->block_floats);
    fill_wide(bench.table, model_parameters(bench.model), bench.parameters);
    return bench;
}

static void bench_close(struct bench *bench) {
    free(bench->parameters);
    free(bench->gradients);
    model_destroy(bench->model);
}

/* One micro-batch through both. */
static void bench_add(struct bench *bench, int B, int T, double scale) {
    int32_t *windows = draw_tokens(B * (T + 1), (int)bench->shape.vocab);
    double expected;
    transformer_ref_loss(&bench->shape, bench->table, bench->parameters, windows, B, T, scale, bench->gradients,
                         &expected);
    double found = model_add_gradients(bench->model, windows, B, T, (float)scale);
    expect("loss", fabs(found - expected) / expected, OP_BOUND);
    found = model_evaluate(bench->model, model_parameters(bench->model), windows, B, T);
    expect("evaluation", fabs(found - expected * B * T) / (expected * B * T), OP_BOUND);
    free(windows);
}

static double bench_gradient_norm(const struct bench *bench, const char *name) {
    const struct tensor *tensor = tensors_find(bench->table, name);
    assert_non_null(tensor);
    return norm2(bench->gradients + tensor->offset, tensor->count);
}

static void bench_expect_gradients(struct bench *bench) {
    for (int i = 0; i < bench->table->count; i++) {
        const struct tensor *tensor = &bench->table->tensors[i];
        expect(tensor->name,
               ratio(model_gradients(bench->model) + tensor->offset, bench->gradients + tensor->offset, tensor->count),
               MODEL_BOUND);
    }
    /* A test of dead gradients would prove little. */
    for (int l = 0; l < (int)bench->shape.layers; l++) {
        char name[TENSOR_NAME_BYTES];
        snprintf(name, sizeof name, "model.layers.%d.self_attn.v_proj.weight", l);
        double value = bench_gradient_norm(bench, name);
        snprintf(name, sizeof name, "model.layers.%d.self_attn.q_proj.weight", l);
        assert_true(bench_gradient_norm(bench, name) > 1e-2 * value);
        snprintf(name, sizeof name, "model.layers.%d.self_attn.k_proj.weight", l);
        assert_true(bench_gradient_norm(bench, name) > 1e-2 * value);
    }
}

static void model_gradients_match(void **state) {
    (void)state;
    static const double z_losses[] = {0, 1e-4, 1e-2};
    for (int i = 0; i < 6; i++) {
        struct bench bench = bench_open(shape_make(i % 2 == 1, z_losses[i / 2]));
        bench_add(&bench, 2, 13, 1);
        bench_expect_gradients(&bench);
        bench_close(&bench);
    }
    report("model");
}

/* 1e-2 is enough for the z-loss to be seen in every gradient at a hundred times the bound. */
static void z_loss_matters(void **state) {
    (void)state;
    enum { B = 2, T = 13 };
    struct bench bench = bench_open(shape_make(false, 1e-2));
    int32_t *windows = draw_tokens(B * (T + 1), (int)bench.shape.vocab);
    struct shape without = bench.shape;
    without.z_loss = 0;
    transformer_ref_loss(&bench.shape, bench.table, bench.parameters, windows, B, T, 1, bench.gradients, NULL);
    double *plain = zero_doubles(bench.table->block_floats);
    transformer_ref_loss(&without, bench.table, bench.parameters, windows, B, T, 1, plain, NULL);
    for (int i = 0; i < bench.table->count; i++) {
        const struct tensor *tensor = &bench.table->tensors[i];
        double size = norm2(plain + tensor->offset, tensor->count);
        for (size_t j = 0; j < tensor->count; j++)
            plain[tensor->offset + j] -= bench.gradients[tensor->offset + j];
        assert_true(norm2(plain + tensor->offset, tensor->count) > 100 * MODEL_BOUND * size);
    }
    free(plain);
    free(windows);
    bench_close(&bench);
}

static void accumulated_gradients_match(void **state) {
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        struct bench bench = bench_open(shape_make(tied, 1e-2));
        bench_add(&bench, 2, 13, 0.5);
        bench_add(&bench, 1, 16, 0.25); /* fewer windows, the whole context */
        bench_add(&bench, 2, 1, 0.25);  /* one position attends to itself only: q and k get nothing from here */
        bench_expect_gradients(&bench);
        bench_close(&bench);
    }
    report("model, accumulated");
}

/* The model sizes its passes by the context: the same three windows in one pass, or in several of which the last is short. */
static void any_context_matches(void **state) {
    (void)state;
    static const int contexts[] = {13, 100, 1000};
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
        struct shape shape = shape_make(true, 1e-2);
        shape.context = contexts[i];
        struct bench bench = bench_open(shape);
        bench_add(&bench, 3, 13, 1);
        bench_expect_gradients(&bench);
        bench_close(&bench);
    }
    report("model, contexts");
}

/* So many tokens and words that the model goes through attention in tiles and through the logits in chunks, the last ones short. */
static void long_window_matches(void **state) {
    (void)state;
    struct shape shape = shape_make(true, 1e-2);
    shape.layers = 1;
    shape.width = 20;
    shape.context = 1001;
    shape.vocab = 521;
    struct bench bench = bench_open(shape);
    bench_add(&bench, 1, 1001, 1);
    bench_expect_gradients(&bench);
    bench_close(&bench);
    report("model, long window");
}

static void logits_match(void **state) {
    (void)state;
    enum { T = 13 };
    for (int tied = 0; tied < 2; tied++) {
        struct bench bench = bench_open(shape_make(tied, 0));
        int32_t *tokens = draw_tokens(T, (int)bench.shape.vocab);
        struct both logits = both_zero((size_t)(T * bench.shape.vocab));
        model_logits(bench.model, model_parameters(bench.model), tokens, T, logits.narrow);
        transformer_ref_logits(&bench.shape, bench.table, bench.parameters, tokens, T, logits.wide);
        expect_close("logits", logits);
        both_free(logits);
        free(tokens);
        bench_close(&bench);
    }
    report("logits");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(reference_matches_its_derivatives, start),
        cmocka_unit_test_setup(linear_matches, start),
        cmocka_unit_test_setup(norm_matches, start),
        cmocka_unit_test_setup(rope_matches, start),
        cmocka_unit_test_setup(attention_matches, start),
        cmocka_unit_test_setup(mlp_matches, start),
        cmocka_unit_test_setup(loss_matches, start),
        cmocka_unit_test_setup(model_gradients_match, start),
        cmocka_unit_test_setup(z_loss_matters, start),
        cmocka_unit_test_setup(accumulated_gradients_match, start),
        cmocka_unit_test_setup(any_context_matches, start),
        cmocka_unit_test_setup(long_window_matches, start),
        cmocka_unit_test_setup(logits_match, start),
    };
    return cmocka_run_group_tests_name("reference", tests, NULL, NULL);
}
