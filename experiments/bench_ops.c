/* bench_ops: the passes between the products of a step, on one thread and on what a step gives them: one group of windows, or all
 * parameters. A pass over memory stands beside a stream that reads and writes as much, attention beside the products. */
#include <string.h>
#include "base/check.h"
#include "base/rng.h"
#include "base/vector.h"
#include "experiments/bench.h"
#include "experiments/bench_products.h"
#include "experiments/bench_stream.h"
#include "model/adamw.h"
#include "model/attention.h"
#include "model/gemm.h"
#include "model/lanes.h"
#include "model/loss.h"
#include "model/mlp.h"
#include "model/norm.h"
#include "model/rope.h"

/* Operands of all passes: nothing that a call leaves behind makes the next one slower (no subnormals, no infinities). */
struct operands {
    int N, C, F, V, T, head_rows;
    size_t parameters;
    struct attention_sizes attention;
    float *x, *w, *rstd, *normed, *dx, *dw, *scratch; /* norm */
    float *q, *k, *v, *attended, *lse, *dattended, *dq, *dk, *dv;
    float *cosine, *sine, *dq_norm, *dk_norm;
    float *gate, *up, *hidden, *zeros[3];
    float *logits;
    int32_t *targets;
    float *parameter, *gradient, *moment1, *moment2;
    volatile double sink;
    struct arena arena;
};

static void run_norm_forward(void *context, uint64_t calls) {
    struct operands *o = context;
    for (uint64_t i = 0; i < calls; i++)
        norm_forward(o->N, o->C, 1e-6F, o->x, o->w, o->normed, o->rstd);
}

static void run_norm_backward(void *context, uint64_t calls) {
    struct operands *o = context;
    for (uint64_t i = 0; i < calls; i++)
        norm_backward_add(o->N, o->C, o->x, o->w, o->rstd, o->normed, o->dx, o->dw, o->scratch);
}

static struct attention_inputs inputs_of(const struct operands *o) {
    return (struct attention_inputs){.q = o->q,
                                     .k = o->k,
                                     .v = o->v,
                                     .q_norm = o->w,
                                     .k_norm = o->w,
                                     .cosine = o->cosine,
                                     .sine = o->sine,
                                     .eps = 1e-6F};
}

static void run_attention_forward(void *context, uint64_t calls) {
    struct operands *o = context;
    const struct attention_inputs in = inputs_of(o);
    for (uint64_t i = 0; i < calls; i++)
        attention_forward(o->attention, &in, o->attended, o->lse, o->scratch);
}

static void run_attention_backward(void *context, uint64_t calls) {
    struct operands *o = context;
    const struct attention_inputs in = inputs_of(o);
    const struct attention_gradients gradients = {
        .dq = o->dq, .dk = o->dk, .dv = o->dv, .dq_norm = o->dq_norm, .dk_norm = o->dk_norm};
    for (uint64_t i = 0; i < calls; i++)
        attention_backward(o->attention, &in, o->attended, o->lse, o->dattended, &gradients, o->scratch);
}

static void run_gate_forward(void *context, uint64_t calls) {
    struct operands *o = context;
    for (uint64_t i = 0; i < calls; i++)
        mlp_gate_forward((size_t)o->N * (size_t)o->F, o->gate, o->up, o->hidden);
}

/* In place: anything but zeros would shrink from call to call until it is subnormal. */
static void run_gate_backward(void *context, uint64_t calls) {
    struct operands *o = context;
    for (uint64_t i = 0; i < calls; i++)
        mlp_gate_backward((size_t)o->N * (size_t)o->F, o->zeros[0], o->zeros[1], o->zeros[2]);
}

static void run_loss(void *context, uint64_t calls) {
    struct operands *o = context;
    for (uint64_t i = 0; i < calls; i++)
        o->sink = loss_forward_backward(o->head_rows, o->V, o->logits, o->targets, 1, 1e-4F, NULL);
}

/* Moments that hardly decay, though the gradients are zero after the first call. */
static void run_adamw(void *context, uint64_t calls) {
    static const struct adamw_step step = {.lr = 1e-9,
                                           .weight_decay = 0.1,
                                           .beta1 = 0.999999,
                                           .beta2 = 0.999999,
                                           .eps = 1e-8,
                                           .gradient_scale = 1,
                                           .step = 1000};
    struct operands *o = context;
    for (uint64_t i = 0; i < calls; i++)
        adamw_update(&step, o->parameters, o->parameter, o->gradient, o->moment1, o->moment2);
}

static void run_squared_norm(void *context, uint64_t calls) {
    struct operands *o = context;
    for (uint64_t i = 0; i < calls; i++)
        o->sink = adamw_squared_norm(o->parameters, o->parameter);
}

static HOT_LOOP void exp_all(size_t count, const float *x, float *out) {
    for (size_t i = 0; i < count; i++)
        out[i] = lanes_exp(x[i]);
}

static void run_exp(void *context, uint64_t calls) {
    struct operands *o = context;
    for (uint64_t i = 0; i < calls; i++)
        exp_all((size_t)o->N * (size_t)o->F, o->gate, o->hidden);
}

/* ---- operands ---- */

static float *take(struct arena *arena, size_t *bytes, size_t count) {
    *bytes += arena_round(count * sizeof(float));
    return arena->base != NULL ? arena_take(arena, count * sizeof(float)) : NULL;
}

/* While the arena is closed: only counts the bytes. */
static size_t lay_out(struct operands *o) {
    const struct attention_sizes *a = &o->attention;
    size_t bytes = 0, stream = (size_t)o->N * (size_t)o->C, hidden = (size_t)o->N * (size_t)o->F;
    size_t q = (size_t)o->N * (size_t)(a->H * a->D), kv = (size_t)o->N * (size_t)(a->K * a->D);
    size_t scratch = attention_scratch_floats(o->attention);
    struct {
        float **array;
        size_t count;
    } arrays[] = {{&o->x, stream},
                  {&o->w, (size_t)o->C},
                  {&o->rstd, (size_t)o->N},
                  {&o->normed, stream},
                  {&o->dx, stream},
                  {&o->dw, (size_t)o->C},
                  {&o->scratch, scratch > (size_t)o->C ? scratch : (size_t)o->C},
                  {&o->q, q},
                  {&o->k, kv},
                  {&o->v, kv},
                  {&o->attended, q},
                  {&o->lse, (size_t)o->N * (size_t)a->H},
                  {&o->dattended, q},
                  {&o->dq, q},
                  {&o->dk, kv},
                  {&o->dv, kv},
                  {&o->cosine, (size_t)o->T * (size_t)a->D / 2},
                  {&o->sine, (size_t)o->T * (size_t)a->D / 2},
                  {&o->dq_norm, (size_t)a->D},
                  {&o->dk_norm, (size_t)a->D},
                  {&o->gate, hidden},
                  {&o->up, hidden},
                  {&o->hidden, hidden},
                  {&o->zeros[0], hidden},
                  {&o->zeros[1], hidden},
                  {&o->zeros[2], hidden},
                  {&o->logits, (size_t)o->head_rows * (size_t)o->V},
                  {&o->parameter, o->parameters},
                  {&o->gradient, o->parameters},
                  {&o->moment1, o->parameters},
                  {&o->moment2, o->parameters}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        *arrays[i].array = take(&o->arena, &bytes, arrays[i].count);
    bytes += arena_round((size_t)o->head_rows * sizeof *o->targets);
    if (o->arena.base != NULL)
        o->targets = arena_take(&o->arena, (size_t)o->head_rows * sizeof *o->targets);
    return bytes;
}

static void fill(struct operands *o, const struct shape *shape) {
    size_t q = (size_t)o->N * (size_t)(o->attention.H * o->attention.D);
    size_t kv = (size_t)o->N * (size_t)(o->attention.K * o->attention.D);
    size_t stream = (size_t)o->N * (size_t)o->C, hidden = (size_t)o->N * (size_t)o->F;
    bench_fill(o->x, stream, 1, 1);
    bench_fill(o->w, (size_t)o->C, 2, 1);
    bench_fill(o->q, q, 3, 1);
    bench_fill(o->k, kv, 4, 1);
    bench_fill(o->v, kv, 5, 1);
    bench_fill(o->dattended, q, 6, 1);
    bench_fill(o->gate, hidden, 8, 4);
    bench_fill(o->up, hidden, 9, 1);
    bench_fill(o->logits, (size_t)o->head_rows * (size_t)o->V, 10, 1);
    bench_fill(o->parameter, o->parameters, 11, 0.02F);
    bench_fill(o->gradient, o->parameters, 12, 1e-3F);
    bench_fill(o->moment1, o->parameters, 13, 1e-4F);
    for (size_t i = 0; i < o->parameters; i++)
        o->moment2[i] = 1e-6F;
    for (int i = 0; i < o->head_rows; i++)
        o->targets[i] = (int32_t)(rng_u64(14, 0, (uint64_t)i) % (uint64_t)o->V);
    rope_fill_table(o->T, o->attention.D, shape->rope_theta, o->cosine, o->sine);
    run_norm_forward(o, 1);
    run_attention_forward(o, 1);
}

static enum status operands_open(const struct model_options *options, struct operands *o, struct error *error) {
    const struct shape *s = &options->shape;
    struct model_product_rows rows = model_product_rows(options);
    struct tensor_table table;
    enum status status = tensors_table_create(s, &table, error);
    if (status != STATUS_OK)
        return status;
    *o = (struct operands){.N = rows.pass,
                           .C = (int)s->width,
                           .F = (int)s->ffn,
                           .V = (int)s->vocab,
                           .T = (int)s->context,
                           .head_rows = rows.head,
                           .parameters = table.block_floats,
                           .attention = {.B = rows.pass / (int)s->context,
                                         .T = (int)s->context,
                                         .H = (int)s->heads,
                                         .K = (int)s->kv_heads,
                                         .D = (int)s->head_dim}};
    tensors_table_destroy(&table);
    status = arena_open(&o->arena, lay_out(o), error);
    if (status != STATUS_OK)
        return error_prefix(error, "operands of the passes");
    (void)lay_out(o);
    fill(o, s);
    return STATUS_OK;
}

/* ---- measuring ---- */

enum { STREAMED_OPS = 8, ATTENTION_OPS = 2, CASES_MAX = 2 * STREAMED_OPS + ATTENTION_OPS + BENCH_PRODUCTS_MAX };

/* A pass over `count` values of each of its arrays. */
struct streamed {
    const char *name;
    void (*run)(void *context, uint64_t calls);
    enum bench_stream_kind stream;
    size_t rows, columns;
};

struct attended {
    const char *name;
    void (*run)(void *context, uint64_t calls);
    double flops;
};

static json_t *streamed_json(const struct streamed *op, const struct bench_case *timed, int repeats) {
    double bytes = bench_stream_bytes(op->stream, op->rows * op->columns);
    return json_pack("{s:s, s:I, s:I, s:s, s:o, s:s, s:o, s:o}", "op", op->name, "rows", (json_int_t)op->rows,
                     "columns", (json_int_t)op->columns, "unit", "GB/s", "rate",
                     bench_summary_json(bench_rate(timed, repeats, bytes * 1e-9)), "limit",
                     bench_stream_name(op->stream), "limit_rate",
                     bench_summary_json(bench_rate(timed + 1, repeats, bytes * 1e-9)), "share",
                     bench_summary_json(bench_share(timed, bytes, timed + 1, bytes, repeats)));
}

static json_t *attended_json(const struct attended *op, const struct operands *o, const struct bench_case *timed,
                             const double *product_rates, int repeats) {
    double shares[BENCH_REPEATS_MAX], limits[BENCH_REPEATS_MAX];
    for (int i = 0; i < repeats; i++) {
        shares[i] = op->flops / timed->seconds[i] / product_rates[i];
        limits[i] = product_rates[i] * 1e-9;
    }
    return json_pack("{s:s, s:I, s:I, s:s, s:o, s:s, s:o, s:o}", "op", op->name, "rows", (json_int_t)o->N, "columns",
                     (json_int_t)(o->attention.H * o->attention.D), "unit", "GFLOP/s", "rate",
                     bench_summary_json(bench_rate(timed, repeats, op->flops * 1e-9)), "limit", "products",
                     "limit_rate", bench_summary_json(bench_summarize(limits, repeats)), "share",
                     bench_summary_json(bench_summarize(shares, repeats)));
}

static json_t *measure(const struct bench_plan *plan, struct operands *o, struct bench_products *products,
                       uint32_t *stream_memory, const struct bench_flops *flops) {
    static struct bench_case cases[CASES_MAX];
    const size_t N = (size_t)o->N, C = (size_t)o->C, F = (size_t)o->F, one = 1;
    const struct streamed ops[STREAMED_OPS] = {
        {"norm forward", run_norm_forward, BENCH_STREAM_COPY, N, C},
        {"norm backward", run_norm_backward, BENCH_STREAM_3R1W, N, C},
        {"mlp gate forward", run_gate_forward, BENCH_STREAM_TRIAD, N, F},
        {"mlp gate backward", run_gate_backward, BENCH_STREAM_3R3W, N, F},
        {"loss", run_loss, BENCH_STREAM_1R1W, (size_t)o->head_rows, (size_t)o->V},
        {"gradient norm", run_squared_norm, BENCH_STREAM_READ, one, o->parameters},
        {"adamw", run_adamw, BENCH_STREAM_4R3W, one, o->parameters},
        {"exp", run_exp, BENCH_STREAM_COPY, N, F},
    };
    const struct attended attention[ATTENTION_OPS] = {
        {"attention forward", run_attention_forward, (double)flops->attention_forward},
        {"attention backward", run_attention_backward, (double)flops->attention_backward},
    };
    struct bench_stream streams[STREAMED_OPS];
    double product_rates[BENCH_REPEATS_MAX];
    for (int i = 0; i < STREAMED_OPS; i++) {
        bench_stream_open(&streams[i], ops[i].stream, stream_memory, ops[i].rows * ops[i].columns, 1);
        cases[2 * i] = (struct bench_case){.run = ops[i].run, .context = o, .warm = true};
        cases[2 * i + 1] = (struct bench_case){.run = bench_run_slices, .context = &streams[i].slices, .warm = true};
    }
    struct bench_case *attention_cases = cases + 2 * STREAMED_OPS, *product_cases = attention_cases + ATTENTION_OPS;
    for (int i = 0; i < ATTENTION_OPS; i++)
        attention_cases[i] = (struct bench_case){.run = attention[i].run, .context = o, .warm = true};
    bench_products_cases(products, product_cases);
    bench_measure(cases, 2 * STREAMED_OPS + ATTENTION_OPS + products->count, &plan->effort);
    bench_products_rates(products, product_cases, plan->effort.repeats, product_rates);
    json_t *list = json_array();
    for (int i = 0; i < STREAMED_OPS; i++)
        json_array_append_new(list, streamed_json(&ops[i], &cases[2 * i], plan->effort.repeats));
    for (int i = 0; i < ATTENTION_OPS; i++)
        json_array_append_new(
            list, attended_json(&attention[i], o, &attention_cases[i], product_rates, plan->effort.repeats));
    return list;
}

/* Arrays of the longest stream: all parameters, or all logits. */
static size_t longest(const struct operands *o) {
    size_t logits = (size_t)o->head_rows * (size_t)o->V, hidden = (size_t)o->N * (size_t)o->F, count = o->parameters;
    count = logits > count ? logits : count;
    return hidden > count ? hidden : count;
}

enum status bench_ops(const struct bench_plan *plan, json_t **result, struct error *error) {
    struct model_options options = bench_size_options(plan->size, 1);
    struct bench_products products;
    struct operands operands;
    struct arena streams;
    gemm_use_one_thread();
    bench_say("ops %s, 1 thread", bench_size_name(plan->size));
    enum status status = bench_products_open(&products, &options, error);
    if (status != STATUS_OK)
        return status;
    status = operands_open(&options, &operands, error);
    if (status == STATUS_OK) {
        status = arena_open(&streams, bench_stream_memory(longest(&operands)), error);
        if (status == STATUS_OK) {
            uint32_t *memory = arena_take(&streams, bench_stream_memory(longest(&operands)));
            struct bench_flops flops = bench_flops(&options.shape, (uint64_t)operands.N); /* of a group of windows, */
            flops.attention_forward /= (uint64_t)options.shape.layers;                    /* in one layer */
            flops.attention_backward /= (uint64_t)options.shape.layers;
            *result = json_pack("{s:s, s:i, s:o}", "size", bench_size_name(plan->size), "threads", 1, "ops",
                                measure(plan, &operands, &products, memory, &flops));
            CHECK(*result != NULL);
            arena_close(&streams);
        }
        arena_close(&operands.arena);
    }
    bench_products_close(&products);
    return status;
}

void bench_ops_print(const json_t *result, FILE *to) {
    size_t index;
    const json_t *op;
    char rate[BENCH_TEXT_BYTES], limit[BENCH_TEXT_BYTES];
    fprintf(to, "\nops %s, 1 thread: the passes of a step beside their limits\n",
            json_string_value(json_object_get(result, "size")));
    fprintf(to, "  %-18s %6s %9s %26s %26s %-8s %7s  %s\n", "pass", "rows", "columns", "rate", "limit", "", "share",
            "limit is");
    json_array_foreach(json_object_get(result, "ops"), index, op) fprintf(
        to, "  %-18s %6lld %9lld %26s %26s %-8s %5.1f %%  %s\n", json_string_value(json_object_get(op, "op")),
        (long long)json_integer_value(json_object_get(op, "rows")),
        (long long)json_integer_value(json_object_get(op, "columns")),
        bench_spread_text(json_object_get(op, "rate"), 1, rate),
        bench_spread_text(json_object_get(op, "limit_rate"), 1, limit), json_string_value(json_object_get(op, "unit")),
        bench_median(json_object_get(op, "share"), 100), json_string_value(json_object_get(op, "limit")));
}
