/* bench_products: the matrix products of a training step, each alone and warm: the rate that a step is measured against. The list follows
 * model_product_rows and the linear layers of model/transformer.c; equal products are one entry with a count. With n threads, each does the product by
 * itself, all at the same time, as the passes of a step do. */
#ifndef ATOLL_EXPERIMENTS_BENCH_PRODUCTS_H
#define ATOLL_EXPERIMENTS_BENCH_PRODUCTS_H

#include "base/arena.h"
#include "experiments/bench_measure.h"
#include "model/linear.h"
#include "model/model.h"

enum bench_product_kind { BENCH_PRODUCT_FORWARD, BENCH_PRODUCT_INPUT, BENCH_PRODUCT_WEIGHT, BENCH_PRODUCT_KINDS };

/* "forward", "dX", "dW"; static text. */
const char *bench_product_name(enum bench_product_kind kind);

/* What one thread has of a linear layer. */
struct bench_operands {
    float *x, *out;                     /* (rows,inputs) (rows,outputs), one may lie in panels */
    struct factor x_factor, out_factor; /* the same, rounded beforehand in bf16 */
    float *result;                      /* of the products, room for the largest; the thread's linears share it */
};

/* Which activation of a linear layer the step keeps in panels (linear.h): that of the gate's width. */
enum bench_wide { BENCH_WIDE_NONE, BENCH_WIDE_X, BENCH_WIDE_OUT };

/* The shape of linear layers. */
struct bench_linear {
    int rows, inputs, outputs;
    enum bench_wide wide;
    float *w; /* (outputs,inputs), of all threads */
    struct factor w_factor;
    struct bench_operands *each; /* (threads,) */
};

struct bench_products;
struct bench_product {
    const struct bench_products *of;
    const struct bench_linear *linear;
    enum bench_product_kind kind;
    bool add; /* to what is there */
    uint64_t per_step;
};

enum { BENCH_LINEARS_MAX = 6, BENCH_PRODUCTS_MAX = BENCH_LINEARS_MAX * 2 * BENCH_PRODUCT_KINDS };

struct bench_products {
    struct bench_linear linears[BENCH_LINEARS_MAX];
    int linear_count, head; /* head: the index of the head's, which is an entry of its own */
    struct bench_product list[BENCH_PRODUCTS_MAX];
    int count;
    int threads;
    enum linear_kind kind;
    struct linear **linear; /* (threads,) */
    struct crew *crew;
    struct arena arena;
};

/* bench_products_open: the products of one step on options->inner.threads threads in options->inner.precision, their operands filled; checks each
 * product against sums in double. STATUS_NO_MEMORY; STATUS_CONFIG: no bf16 products here;
 * STATUS_DATA: the library gives wrong numbers on this machine, the text says in which product. The products must not move afterwards. */
MUST_USE enum status bench_products_open(struct bench_products *products, const struct model_options *options,
                                         struct error *error);
void bench_products_close(struct bench_products *products);

/* bench_products_cases: (products->count,) cases, in the list's order. A call is one product on each thread. */
void bench_products_cases(struct bench_products *products, struct bench_case *cases);

/* Operations of one product. */
double bench_product_flops(const struct bench_product *product);

/* bench_products_rates: of each round, the sum of a step's operations over the sum of their times, operations of all threads per second.
 * rates (repeats,) set. */
void bench_products_rates(const struct bench_products *products, const struct bench_case *cases, int repeats,
                          double *rates);

#endif
