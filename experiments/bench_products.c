#include "experiments/bench_products.h"
#include <math.h>
#include "base/check.h"
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

static void add_linear(struct bench_products *products, int rows, int inputs, int outputs, uint64_t per_step) {
    for (int i = 0; i < products->linear_count; i++) {
        struct bench_linear *known = &products->linears[i];
        if (known->rows == rows && known->inputs == inputs && known->outputs == outputs) {
            known->per_step += per_step;
            return;
        }
    }
    CHECK(products->linear_count < BENCH_LINEARS_MAX);
    products->linears[products->linear_count++] =
        (struct bench_linear){.rows = rows, .inputs = inputs, .outputs = outputs, .per_step = per_step};
}

static void list_products(struct bench_products *products, const struct model_options *options) {
    const struct shape *s = &options->shape;
    struct model_product_rows rows = model_product_rows(options);
    int tokens = (int)(options->inner.batch_per_worker * s->context);
    CHECK(tokens % rows.pass == 0 && tokens % rows.head == 0); /* true of all sizes: no shorter last pass */
    uint64_t each = (uint64_t)(tokens / rows.pass) * (uint64_t)s->layers;
    int C = (int)s->width, F = (int)s->ffn, q = (int)(s->heads * s->head_dim), kv = (int)(s->kv_heads * s->head_dim);
    add_linear(products, rows.pass, C, q, each);
    add_linear(products, rows.pass, C, kv, 2 * each);
    add_linear(products, rows.pass, q, C, each);
    add_linear(products, rows.pass, C, F, 2 * each);
    add_linear(products, rows.pass, F, C, each);
    products->head = products->linear_count;
    add_linear(products, rows.head, C, (int)s->vocab, (uint64_t)(tokens / rows.head));
    CHECK(products->linear_count == products->head + 1); /* no layer of these sizes has the head's shape */
    for (int i = 0; i < products->linear_count; i++)
        for (int kind = 0; kind < BENCH_PRODUCT_KINDS; kind++)
            products->list[products->count++] =
                (struct bench_product){&products->linears[i], (enum bench_product_kind)kind};
}

static size_t floats(int rows, int columns) {
    return (size_t)rows * (size_t)columns;
}

static enum status take_operands(struct bench_products *products, struct error *error) {
    size_t bytes = 0, largest = 0;
    for (int i = 0; i < products->linear_count; i++) {
        const struct bench_linear *l = &products->linears[i];
        size_t sizes[] = {floats(l->rows, l->inputs), floats(l->outputs, l->inputs), floats(l->rows, l->outputs)};
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            bytes += arena_round(sizes[j] * sizeof(float));
            largest = sizes[j] > largest ? sizes[j] : largest;
        }
    }
    enum status status = arena_open(&products->arena, bytes + arena_round(largest * sizeof(float)), error);
    if (status != STATUS_OK)
        return error_prefix(error, "operands of the products");
    float *result = arena_take(&products->arena, largest * sizeof(float));
    for (int i = 0; i < products->linear_count; i++) {
        struct bench_linear *l = &products->linears[i];
        l->x = arena_take(&products->arena, floats(l->rows, l->inputs) * sizeof(float));
        l->w = arena_take(&products->arena, floats(l->outputs, l->inputs) * sizeof(float));
        l->out = arena_take(&products->arena, floats(l->rows, l->outputs) * sizeof(float));
        l->result = result;
        bench_fill(l->x, floats(l->rows, l->inputs), 1, 1);
        bench_fill(l->w, floats(l->outputs, l->inputs), 2, 0.1f);
        bench_fill(l->out, floats(l->rows, l->outputs), 3, 0.1f);
    }
    return STATUS_OK;
}

static void run_product(void *context, uint64_t calls) {
    const struct bench_product *product = context;
    const struct bench_linear *l = product->linear;
    for (uint64_t i = 0; i < calls; i++)
        switch (product->kind) {
        case BENCH_PRODUCT_FORWARD:
            linear_forward(l->rows, l->inputs, l->outputs, l->x, l->w, l->result);
            break;
        case BENCH_PRODUCT_INPUT:
            linear_backward_input(l->rows, l->inputs, l->outputs, l->out, l->w, l->result, false);
            break;
        case BENCH_PRODUCT_WEIGHT:
            linear_backward_weight(l->rows, l->inputs, l->outputs, l->out, l->x, l->result);
            break;
        case BENCH_PRODUCT_KINDS:
            CHECK(!"bench_product_kind");
        }
}

/* The last element of the result: what it is, and the sum of its terms' magnitudes, which bounds the error. */
static double last_element(const struct bench_product *product, double *magnitude) {
    const struct bench_linear *l = product->linear;
    size_t R = (size_t)l->rows, I = (size_t)l->inputs, O = (size_t)l->outputs;
    size_t terms = product->kind == BENCH_PRODUCT_FORWARD ? I : product->kind == BENCH_PRODUCT_INPUT ? O : R;
    double sum = 0;
    *magnitude = 0;
    for (size_t i = 0; i < terms; i++) {
        double term =
            product->kind == BENCH_PRODUCT_FORWARD ? (double)l->x[(R - 1) * I + i] * (double)l->w[(O - 1) * I + i]
            : product->kind == BENCH_PRODUCT_INPUT ? (double)l->out[(R - 1) * O + i] * (double)l->w[i * I + I - 1]
                                                   : (double)l->out[i * O + O - 1] * (double)l->x[i * I + I - 1];
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
    double magnitude, expected = last_element(product, &magnitude);
    l->result[count - 1] = 0; /* dW is added */
    run_product(product, 1);
    double found = (double)l->result[count - 1];
    if (fabs(found - expected) <= 1e-5 * magnitude)
        return STATUS_OK;
    return error_set(error, STATUS_DATA,
                     "%s product of %d rows, %d inputs, %d outputs: expected %g, BLAS (core %s) gives %g; another "
                     "OPENBLAS_CORETYPE may be right",
                     bench_product_name(product->kind), l->rows, l->inputs, l->outputs, expected, gemm_core_name(),
                     found);
}

enum status bench_products_open(struct bench_products *products, const struct model_options *options,
                                struct error *error) {
    *products = (struct bench_products){0};
    list_products(products, options);
    enum status status = take_operands(products, error);
    if (status != STATUS_OK)
        return status;
    for (int i = 0; i < products->count && status == STATUS_OK; i++)
        status = check_product(&products->list[i], error);
    if (status != STATUS_OK)
        bench_products_close(products);
    return status;
}

void bench_products_close(struct bench_products *products) {
    arena_close(&products->arena);
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
            double per_step = (double)products->list[i].linear->per_step;
            flops += per_step * bench_product_flops(&products->list[i]);
            seconds += per_step * cases[i].seconds[round];
        }
        rates[round] = flops / seconds;
    }
}
