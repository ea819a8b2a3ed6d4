/* bench_sizes: the models that benchmarks are about, and what a training step of them is counted as.
 *
 *   size    layers  width  heads   ffn  context  batch   vocab   parameters
 *   smoke        2     32      2    64       32      4     256       27 k    (for tests: its figures say nothing)
 *   tiny         4    128      4   320      128     16     256      788 k
 *   small        6    384      6  1024      256      8     256     10.7 M
 *   large       12    768     12  2048      512      2   50304      124 M
 *
 * The head is tied to the embedding: the products of a step are the same as with a free one. */
#ifndef ATOLL_EXPERIMENTS_BENCH_SIZES_H
#define ATOLL_EXPERIMENTS_BENCH_SIZES_H

#include "model/model.h"

enum bench_size { BENCH_SIZE_TINY, BENCH_SIZE_SMALL, BENCH_SIZE_LARGE, BENCH_SIZE_SMOKE, BENCH_SIZE_COUNT };

/* "tiny"; static text. */
const char *bench_size_name(enum bench_size size);

/* The model of that size, on `threads` threads; an optimizer step is one micro-batch of options.inner.batch_per_worker windows. */
struct model_options bench_size_options(enum bench_size size, int threads);

/* bench_windows: a micro-batch (batch_per_worker, context + 1) of random tokens of that model, always the same; the caller frees it. NULL: no memory. */
int32_t *bench_windows(const struct model_options *options);

/* bench_flops: floating-point operations of one step over `tokens` tokens of whole windows:
 *   6 x matrix parameters x tokens + 12 x layers x (heads x head_dim) x context x tokens x 1/2
 * Matrix parameters are those of per-token products: the layers' and the head's, tied or not; not the look-up. Attention is causal; what is
 * masked or computed a second time does not count. */
struct bench_flops {
    uint64_t projections;       /* the layers' products, one of forward, dX, dW: each 2 x parameters x tokens */
    uint64_t head;              /* its three products */
    uint64_t attention_forward; /* scores and values: a third of attention */
    uint64_t attention_backward;
    uint64_t total; /* 3 x projections + head + attention */
};
struct bench_flops bench_flops(const struct shape *shape, uint64_t tokens);

#endif
