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

static int find_linear(struct bench_products *products, int rows, int inputs, int outputs, enum bench_wide wide) {
    for (int i = 0; i < products->linear_count; i++) {
        const struct bench_linear *known = &products->linears[i];
        if (known->rows == rows && known->inputs == inputs && known->outputs == outputs && known->wide == wide)
            return i;
    }
    CHECK(products->linear_count < BENCH_LINEARS_MAX);
    products->linears[products->linear_count] =
        (struct bench_linear){.rows = rows, .inputs = inputs, .outputs = outputs, .wide = wide};
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

/* The products of `layers` linear layers of a shape in `passes` passes: those of which the forward product or dX is added to what is there. dW is, but in the
 * first pass. Returns the shape's index. */
struct added {
    uint64_t forward, input;
};

static int add_layers(struct bench_products *products, int rows, int inputs, int outputs, enum bench_wide wide,
                      uint64_t layers, uint64_t passes, struct added added) {
    int index = find_linear(products, rows, inputs, outputs, wide);
    const struct bench_linear *linear = &products->linears[index];
    uint64_t per_step[BENCH_PRODUCT_KINDS][2] = {
        [BENCH_PRODUCT_FORWARD] = {passes * (layers - added.forward), passes * added.forward},
        [BENCH_PRODUCT_INPUT] = {passes * (layers - added.input), passes * added.input},
        [BENCH_PRODUCT_WEIGHT] = {layers, (passes - 1) * layers},
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
    uint64_t L = (uint64_t)s->layers, passes = (uint64_t)(tokens / rows.pass), chunks = (uint64_t)(tokens / rows.head);
    int C = (int)s->width, F = (int)s->ffn, q = (int)(s->heads * s->head_dim), kv = (int)(s->kv_heads * s->head_dim);
    const enum bench_wide none = BENCH_WIDE_NONE;
    add_layers(products, rows.pass, C, q, none, L, passes, (struct added){0});
    add_layers(products, rows.pass, C, kv, none, 2 * L, passes, (struct added){.input = 2 * L}); /* to that of q */
    add_layers(products, rows.pass, q, C, none, L, passes, (struct added){.forward = L}); /* to the residual stream */
    add_layers(products, rows.pass, C, F, BENCH_WIDE_OUT, 2 * L, passes, (struct added){.input = L});
    add_layers(products, rows.pass, F, C, BENCH_WIDE_X, L, passes, (struct added){.forward = L});
    products->head = add_layers(products, rows.head, C, (int)s->vocab, none, 1, chunks, (struct added){0});
    CHECK(products->head == products->linear_count - 1); /* no layer of these sizes has the head's shape */
}

static size_t floats(int rows, int columns) {
    return (size_t)rows * (size_t)columns;
}

/* Of an activation, which may lie in panels. */
static size_t room(const struct bench_products *products, int rows, int columns, bool panels) {
    return floats(rows, panels ? (int)linear_panels_columns(products->kind, columns) : columns);
}

static size_t room_of_x(const struct bench_products *products, const struct bench_linear *l) {
    return room(products, l->rows, l->inputs, l->wide == BENCH_WIDE_X);
}

static size_t room_of_out(const struct bench_products *products, const struct bench_linear *l) {
    return room(products, l->rows, l->outputs, l->wide == BENCH_WIDE_OUT);
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
        size_t sizes[] = {room_of_x(products, l), floats(l->outputs, l->inputs), room_of_out(products, l)};
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
            size_t x = room_of_x(products, l), out = room_of_out(products, l);
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
static void fill(const struct bench_products *products, float *values, size_t count, bool panels, uint64_t stream,
                 float scale, struct factor *factor) {
    void *bf16 = (void *)(uintptr_t)factor->bf16;
    bench_fill(values, count, stream, scale);
    *factor = panels ? linear_factor_panels(products->linear[0], count, values, bf16)
                     : linear_factor(products->linear[0], count, values, bf16);
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
        fill(products, l->w, floats(l->outputs, l->inputs), false, 2, 0.1f, &l->w_factor);
        for (int thread = 0; thread < products->threads; thread++) {
            struct bench_operands *o = &l->each[thread];
            fill(products, o->x, room_of_x(products, l), l->wide == BENCH_WIDE_X, 1, 1, &o->x_factor);
            fill(products, o->out, room_of_out(products, l), l->wide == BENCH_WIDE_OUT, 3, 0.1f, &o->out_factor);
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
            if (l->wide == BENCH_WIDE_OUT)
                linear_forward_panels(linear, l->rows, l->inputs, l->outputs, o->x_factor, l->w_factor, NULL,
                                      o->result);
            else /* to what it writes: a copy of the base would be no part of a product */
                linear_forward(linear, l->rows, l->inputs, l->outputs, o->x_factor, l->w_factor, add ? o->result : NULL,
                               o->result);
            break;
        case BENCH_PRODUCT_INPUT:
            if (l->wide == BENCH_WIDE_X)
                linear_backward_input_panels(linear, l->rows, l->inputs, l->outputs, o->out_factor, l->w_factor, NULL,
                                             o->result);
            else
                linear_backward_input(linear, l->rows, l->inputs, l->outputs, o->out_factor, l->w_factor, o->result,
                                      add);
            break;
        case BENCH_PRODUCT_WEIGHT:
            linear_backward_weight(linear, l->rows, l->inputs, l->outputs, o->out_factor, o->x_factor, o->result, add);
            break;
        case BENCH_PRODUCT_KINDS:
            CHECK(!"bench_product_kind");
        }
}

static void run_product(void *context, uint64_t calls) {
    struct run run = {context, calls};
    crew_run(run.product->of->crew, run_thread, &run);
}

static double x_at(const struct bench_operands *o, size_t rows, size_t inputs, size_t row, size_t column) {
    return (double)o->x[gemm_place(o->x_factor.in_panels, rows, inputs, row, column)];
}

static double out_at(const struct bench_operands *o, size_t rows, size_t outputs, size_t row, size_t column) {
    return (double)o->out[gemm_place(o->out_factor.in_panels, rows, outputs, row, column)];
}

/* Where the result has its last element. */
static size_t last_place(const struct bench_product *product) {
    const struct bench_linear *l = product->linear;
    const size_t R = (size_t)l->rows, I = (size_t)l->inputs, O = (size_t)l->outputs;
    if (product->kind == BENCH_PRODUCT_FORWARD)
        return gemm_place(l->each->out_factor.in_panels, R, O, R - 1, O - 1);
    if (product->kind == BENCH_PRODUCT_INPUT)
        return gemm_place(l->each->x_factor.in_panels, R, I, R - 1, I - 1);
    return O * I - 1;
}

/* The last element of the result: what it is, and the sum of its terms' magnitudes, which bounds the error. */
static double last_element(const struct bench_product *product, double *magnitude) {
    const struct bench_linear *l = product->linear;
    const struct bench_operands *o = l->each; /* all threads have equal ones */
    size_t R = (size_t)l->rows, I = (size_t)l->inputs, O = (size_t)l->outputs;
    size_t terms = product->kind == BENCH_PRODUCT_FORWARD ? I : product->kind == BENCH_PRODUCT_INPUT ? O : R;
    double sum = 0;
    *magnitude = 0;
    for (size_t i = 0; i < terms; i++) {
        double term = product->kind == BENCH_PRODUCT_FORWARD ? x_at(o, R, I, R - 1, i) * (double)l->w[(O - 1) * I + i]
                      : product->kind == BENCH_PRODUCT_INPUT ? out_at(o, R, O, R - 1, i) * (double)l->w[i * I + I - 1]
                                                             : out_at(o, R, O, i, O - 1) * x_at(o, R, I, i, I - 1);
        sum += term;
        *magnitude += fabs(term);
    }
    return sum;
}

static enum status check_product(struct bench_product *product, struct error *error) {
    const struct bench_linear *l = product->linear;
    const size_t last = last_place(product);
    double magnitude, expected = last_element(product, &magnitude), found = expected;
    const bool bf16 = product->of->kind == LINEAR_BF16;
    double bound = (bf16 ? 0x1.01p-7 : 1e-5) * magnitude; /* a bf16 factor is off by 2^-8 of itself */
    for (int thread = 0; thread < product->of->threads; thread++)
        l->each[thread].result[last] = 0; /* some are added */
    run_product(product, 1);
    for (int thread = 0; thread < product->of->threads && fabs(found - expected) <= bound; thread++)
        found = (double)l->each[thread].result[last];
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
