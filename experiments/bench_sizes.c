#include "experiments/bench_sizes.h"
#include <stdlib.h>
#include "base/check.h"
#include "base/rng.h"

static const struct row {
    const char *name;
    int64_t layers, width, heads, ffn, context, batch, vocab;
} rows[BENCH_SIZE_COUNT] = {
    [BENCH_SIZE_TINY] = {"tiny", 4, 128, 4, 320, 128, 16, 256},
    [BENCH_SIZE_SMALL] = {"small", 6, 384, 6, 1024, 256, 8, 256},
    [BENCH_SIZE_LARGE] = {"large", 12, 768, 12, 2048, 512, 2, 50304},
    [BENCH_SIZE_SMOKE] = {"smoke", 2, 32, 2, 64, 32, 4, 256},
};

const char *bench_size_name(enum bench_size size) {
    CHECK((unsigned)size < BENCH_SIZE_COUNT);
    return rows[size].name;
}

struct model_options bench_size_options(enum bench_size size, int threads) {
    CHECK((unsigned)size < BENCH_SIZE_COUNT);
    const struct row *row = &rows[size];
    struct model_options options = {.shape = {.layers = row->layers,
                                              .width = row->width,
                                              .heads = row->heads,
                                              .ffn = row->ffn,
                                              .context = row->context,
                                              .vocab = row->vocab,
                                              .tied = true,
                                              .rope_theta = 1e4,
                                              .norm_eps = 1e-6,
                                              .z_loss = 1e-4},
                                    .inner = {.lr = 1e-5,
                                              .steps = 1,
                                              .batch_per_worker = row->batch,
                                              .accumulate = 1,
                                              .weight_decay = 0.1,
                                              .clip = 1,
                                              .beta1 = 0.9,
                                              .beta2 = 0.95,
                                              .eps = 1e-8,
                                              .seed = 1,
                                              .threads = threads}};
    struct error error;
    CHECK(shape_validate(&options.shape, &error) == STATUS_OK);
    return options;
}

int32_t *bench_windows(const struct model_options *options) {
    size_t tokens = (size_t)(options->inner.batch_per_worker * (options->shape.context + 1));
    int32_t *windows = malloc(tokens * sizeof *windows);
    for (size_t i = 0; windows != NULL && i < tokens; i++)
        windows[i] = (int32_t)(rng_u64(1, 0, i) % (uint64_t)options->shape.vocab);
    return windows;
}

struct bench_flops bench_flops(const struct shape *s, uint64_t tokens) {
    uint64_t L = (uint64_t)s->layers, C = (uint64_t)s->width, F = (uint64_t)s->ffn, V = (uint64_t)s->vocab,
             T = (uint64_t)s->context;
    uint64_t q = (uint64_t)(s->heads * s->head_dim), kv = (uint64_t)(s->kv_heads * s->head_dim);
    struct bench_flops flops = {.projections = 2 * L * (2 * C * q + 2 * C * kv + 3 * C * F) * tokens,
                                .head = 6 * C * V * tokens,
                                .attention_forward = 4 * L * q * T * tokens / 2,
                                .attention_backward = 8 * L * q * T * tokens / 2};
    flops.total = 3 * flops.projections + flops.head + flops.attention_forward + flops.attention_backward;
    return flops;
}
