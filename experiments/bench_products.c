#include "experiments/bench_products.h"
#include <math.h>
#include "base/check.h"
#include "base/crew.h"
#include "model/gemm.h"

static const char *const names[BENCH_PRODUCT_KINDS] = {
    [BENCH_PRODUCT_FORWARD] = "forward",
    [BENCH_PRODUCT_INPUT] = "dX",
    [BENCH_PRODUCT_WEIGHT] = "dW",
};

const char *bench_product_name(enum bench_product_kind kind) {
    CHECK((unsigned)kind < BENCH_PRODUCT_KINDS);
    return names[kind];
}

static int find_linear(struct bench_products *products, int rows, int inputs, int outputs) {
    for (int i = 0; i < products->linear_count; i++) {
        const struct bench_linear *known = &products->linears[i];
        if (known->rows == rows && known->inputs == inputs && known->outputs == outputs)
            return i;
    }
    CHECK(products->linear_count < BENCH_LINEARS_MAX);
    products->linears[products->linear_count] =
        (struct bench_linear){.rows = rows, .inputs = inputs, .outputs = outputs};
    return products->linear_count++;
}

static void add_product(struct bench_products *products, const struct bench_linear *linear,
                        enum bench_product_kind kind, bool add, uint64_t per_step) {
    for (int i = 0; i < products->count; i++) {
        struct bench_product *known = &products->list[i];
        if (known->linear == linear && known->kind == kind && known->add == add) {
            known->per_step += per_step;
            return;
        }
    }
    CHECK(products->count < BENCH_PRODUCTS_MAX);
    products->list[products->count++] = (struct bench_product){products, linear, kind, add, per_step};
}

/* The products of `count` layers of a shape: of so many, the forward product or dX is added to what is there. Returns the shape's index. */
struct added {
    uint64_t forward, input;
};

static int add_layers(struct bench_products *products, int rows, int inputs, int outputs, uint64_t count,
                      struct added added) {
    int index = find_linear(products, rows, inputs, outputs);
    const struct bench_linear *linear = &products->linears[index];
    uint64_t per_step[BENCH_PRODUCT_KINDS][2] = {
        [BENCH_PRODUCT_FORWARD] = {count - added.forward, added.forward},
        [BENCH_PRODUCT_INPUT] = {count - added.input, added.input},
        [BENCH_PRODUCT_WEIGHT] = {0, count},
    };
    for (int kind = 0; kind < BENCH_PRODUCT_KINDS; kind++)
        for (int add = 0; add < 2; add++)
            if (per_step[kind][add] > 0)
                add_product(products, linear, (enum bench_product_kind)kind, add != 0, per_step[kind][add]);
    return index;
}

static void list_products(struct bench_products *products, const struct model_options *options) {
    const struct shape *s = &options->shape;
    struct model_product_rows rows = model_product_rows(options);
    int tokens = (int)(options->inner.batch_per_worker * s->context);
    CHECK(tokens % rows.pass == 0 && tokens % rows.head == 0); /* true of all sizes: no shorter last pass */
    uint64_t each = (uint64_t)(tokens / rows.pass) * (uint64_t)s->layers;
    int C = (int)s->width, F = (int)s->ffn, q = (int)(s->heads * s->head_dim), kv = (int)(s->kv_heads * s->head_dim);
    add_layers(products, rows.pass, C, q, each, (struct added){0});
    add_layers(products, rows.pass, C, kv, 2 * each, (struct added){.input = 2 * each}); /* to that of q */
    add_layers(products, rows.pass, q, C, each, (struct added){.forward = each});        /* to the residual stream */
    add_layers(products, rows.pass, C, F, 2 * each, (struct added){.input = each});
    add_layers(products, rows.pass, F, C, each, (struct added){.forward = each});
    products->head =
        add_layers(products, rows.head, C, (int)s->vocab, (uint64_t)(tokens / rows.head), (struct added){0});
    CHECK(products->head == products->linear_count - 1); /* no layer of these sizes has the head's shape */
}

static size_t floats(int rows, int columns) {
    return (size_t)rows * (size_t)columns;
}

/* Room for an operand's factor: none in f32. */
static uint16_t *take_room(const struct bench_products *products, struct arena *arena, size_t count) {
    return products->kind == LINEAR_BF16 ? arena_take(arena, count * sizeof(uint16_t)) : NULL;
}

/* From `arena`, which may be counting. */
static void lay_out(struct bench_products *products, struct arena *arena) {
    size_t largest = 0;
    products->linear = arena_take(arena, (size_t)products->threads * sizeof *products->linear);
    for (int i = 0; i < products->linear_count; i++) {
        struct bench_linear *l = &products->linears[i];
        size_t sizes[] = {floats(l->rows, l->inputs), floats(l->outputs, l->inputs), floats(l->rows, l->outputs)};
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++)
            largest = sizes[j] > largest ? sizes[j] : largest;
        l->w = arena_take(arena, sizes[1] * sizeof(float));
        l->w_factor.bf16 = take_room(products, arena, sizes[1]);
        l->each = arena_take(arena, (size_t)products->threads * sizeof *l->each);
    }
    for (int thread = 0; thread < products->threads; thread++) {
        float *result = arena_take(arena, largest * sizeof(float));
        for (int i = 0; i < products->linear_count; i++) {
            struct bench_linear *l = &products->linears[i];
            size_t x = floats(l->rows, l->inputs), out = floats(l->rows, l->outputs);
            struct bench_operands operands = {.x = arena_take(arena, x * sizeof(float)),
                                              .out = arena_take(arena, out * sizeof(float)),
                                              .x_factor.bf16 = take_room(products, arena, x),
                                              .out_factor.bf16 = take_room(products, arena, out),
                                              .result = result};
            if (l->each != NULL)
                l->each[thread] = operands;
        }
    }
}

/* Values, and their factor into the room that it has. */
static void fill(const struct bench_products *products, float *values, int rows, int columns, uint64_t stream,
                 float scale, struct factor *factor) {
    size_t count = floats(rows, columns);
    bench_fill(values, count, stream, scale);
    *factor = linear_factor(products->linear[0], count, values, (void *)(uintptr_t)factor->bf16);
}

static enum status take_operands(struct bench_products *products, struct error *error) {
    struct arena counting = arena_counting();
    lay_out(products, &counting);
    enum status status = arena_open(&products->arena, counting.used_bytes, error);
    if (status != STATUS_OK) {
        products->linear = NULL;
        return error_prefix(error, "operands of the products");
    }
    lay_out(products, &products->arena);
    for (int thread = 0; thread < products->threads && status == STATUS_OK; thread++)
        status = linear_open(products->kind, &products->linear[thread], error);
    for (int i = 0; i < products->linear_count && status == STATUS_OK; i++) {
        struct bench_linear *l = &products->linears[i];
        fill(products, l->w, l->outputs, l->inputs, 2, 0.1f, &l->w_factor);
        for (int thread = 0; thread < products->threads; thread++) {
            struct bench_operands *o = &l->each[thread];
            fill(products, o->x, l->rows, l->inputs, 1, 1, &o->x_factor);
            fill(products, o->out, l->rows, l->outputs, 3, 0.1f, &o->out_factor);
        }
    }
    return status;
}

struct run {
    const struct bench_product *product;
    uint64_t calls;
};

static void run_thread(void *context, int thread) {
    const struct run *run = context;
    const struct bench_linear *l = run->product->linear;
    const struct bench_operands *o = &l->each[thread];
    struct linear *linear = run->product->of->linear[thread];
    bool add = run->product->add;
    for (uint64_t i = 0; i < run->calls; i++)
        switch (run->product->kind) {
        case BENCH_PRODUCT_FORWARD:
            /* to what it writes: a copy of the base would be no part of a product */
            linear_forward(linear, l->rows, l->inputs, l->outputs, o->x_factor, l->w_factor, add ? o->result : NULL,
                           o->result);
            break;
        case BENCH_PRODUCT_INPUT:
            linear_backward_input(linear, l->rows, l->inputs, l->outputs, o->out_factor, l->w_factor, o->result, add);
            break;
        case BENCH_PRODUCT_WEIGHT:
            linear_backward_weight(linear, l->rows, l->inputs, l->outputs, o->out_factor, o->x_factor, o->result);
            break;
        case BENCH_PRODUCT_KINDS:
            CHECK(!"bench_product_kind");
        }
}

static void run_product(void *context, uint64_t calls) {
    struct run run = {context, calls};
    crew_run(run.product->of->crew, run_thread, &run);
}

/* The last element of the result: what it is, and the sum of its terms' magnitudes, which bounds the error. */
static double last_element(const struct bench_product *product, double *magnitude) {
    const struct bench_linear *l = product->linear;
    const float *x = l->each->x, *out = l->each->out; /* all threads have equal ones */
    size_t R = (size_t)l->rows, I = (size_t)l->inputs, O = (size_t)l->outputs;
    size_t terms = product->kind == BENCH_PRODUCT_FORWARD ? I : product->kind == BENCH_PRODUCT_INPUT ? O : R;
    double sum = 0;
    *magnitude = 0;
    for (size_t i = 0; i < terms; i++) {
        double term =
            product->kind == BENCH_PRODUCT_FORWARD ? (double)x[(R - 1) * I + i] * (double)l->w[(O - 1) * I + i]
            : product->kind == BENCH_PRODUCT_INPUT ? (double)out[(R - 1) * O + i] * (double)l->w[i * I + I - 1]
                                                   : (double)out[i * O + O - 1] * (double)x[i * I + I - 1];
        sum += term;
        *magnitude += fabs(term);
    }
    return sum;
}

static enum status check_product(struct bench_product *product, struct error *error) {
    const struct bench_linear *l = product->linear;
    size_t count = product->kind == BENCH_PRODUCT_FORWARD ? floats(l->rows, l->outputs)
                   : product->kind == BENCH_PRODUCT_INPUT ? floats(l->rows, l->inputs)
                                                          : floats(l->outputs, l->inputs);
    double magnitude, expected = last_element(product, &magnitude), found = expected;
    const bool bf16 = product->of->kind == LINEAR_BF16;
    double bound = (bf16 ? 0x1.01p-7 : 1e-5) * magnitude; /* a bf16 factor is off by 2^-8 of itself */
    for (int thread = 0; thread < product->of->threads; thread++)
        l->each[thread].result[count - 1] = 0; /* some are added */
    run_product(product, 1);
    for (int thread = 0; thread < product->of->threads && fabs(found - expected) <= bound; thread++)
        found = (double)l->each[thread].result[count - 1];
    if (fabs(found - expected) <= bound)
        return STATUS_OK;
    const char *remedy = bf16                               ? "; --precision f32 may be right"
                         : product->of->kind == LINEAR_BLAS ? "; another OPENBLAS_CORETYPE may be right"
                                                            : "";
    return error_set(error, STATUS_DATA,
                     "%s product of %d rows, %d inputs, %d outputs: expected %g, %s gives %g (BLAS core %s)%s",
                     bench_product_name(product->kind), l->rows, l->inputs, l->outputs, expected,
                     linear_text(product->of->kind), found, gemm_core_name(), remedy);
}

enum status bench_products_open(struct bench_products *products, const struct model_options *options,
                                struct error *error) {
    *products = (struct bench_products){.threads = (int)options->inner.threads};
    gemm_use_one_thread();
    list_products(products, options);
    enum status status = linear_resolve((enum inner_precision)options->inner.precision, &products->kind, error);
    if (status == STATUS_OK)
        status = take_operands(products, error);
    if (status == STATUS_OK)
        status = crew_create(products->threads, &products->crew, error);
    for (int i = 0; i < products->count && status == STATUS_OK; i++)
        status = check_product(&products->list[i], error);
    if (status != STATUS_OK)
        bench_products_close(products);
    return status;
}

void bench_products_close(struct bench_products *products) {
    crew_destroy(products->crew);
    for (int thread = 0; products->linear != NULL && thread < products->threads; thread++)
        linear_close(products->linear[thread]);
    arena_close(&products->arena);
    products->crew = NULL;
    products->linear = NULL;
}

void bench_products_cases(struct bench_products *products, struct bench_case *cases) {
    for (int i = 0; i < products->count; i++)
        cases[i] = (struct bench_case){.run = run_product, .context = &products->list[i], .warm = true};
}

double bench_product_flops(const struct bench_product *product) {
    const struct bench_linear *l = product->linear;
    return 2 * (double)l->rows * (double)l->inputs * (double)l->outputs;
}

void bench_products_rates(const struct bench_products *products, const struct bench_case *cases, int repeats,
                          double *rates) {
    for (int round = 0; round < repeats; round++) {
        double flops = 0, seconds = 0;
        for (int i = 0; i < products->count; i++) {
            double per_step = (double)products->list[i].per_step;
            flops += per_step * bench_product_flops(&products->list[i]) * products->threads;
            seconds += per_step * cases[i].seconds[round];
        }
        rates[round] = flops / seconds;
    }
}
