/* attention: see attention.h. The kernels are in attention_kernels.h; here is what does not depend on the instruction set, and the
 * choice between the sets. */
#include "model/attention.h"
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "base/vector.h"

#define INLINE inline __attribute__((always_inline))

enum { TILE = 64, LANES_MAX = 16, ROWS_MAX = 8 };
static const float LOG2_E = 1.44269504F;

/* Of one pass: padded_T whole register tiles, padded_D whole vectors of any set; floats from one position to the next. */
struct layout {
    int T, D, padded_T, padded_D;
    int group; /* query heads of a key head */
    size_t query_stride, key_stride;
    float scale;
};

/* Tiles of one head and their sums. */
struct scratch {
    float *k, *v, *dk, *dv;                                      /* (padded_T,padded_D) */
    float *q, *q_transposed, *out, *dout, *dout_transposed, *dq; /* (TILE,padded_D), (padded_D,TILE) */
    float *scores, *dscores;                                     /* (TILE,TILE): keys, queries */
    float *largest, *sum, *factor, *lse, *delta;                 /* (TILE,) */
};

/* How a product begins, and what it leaves out in a tile on the diagonal: of a row, the columns before it, the depth before it, or
 * the depth after it. */
enum start { START_ZERO, START_SUM, START_SCALED };
enum skip { SKIP_NOTHING, SKIP_LEFT_COLUMNS, SKIP_EARLIER_DEPTH, SKIP_LATER_DEPTH };

static int round_up(int count, int to) {
    return (count + to - 1) / to * to;
}

static struct layout layout_of(struct attention_sizes sizes) {
    return (struct layout){.T = sizes.T,
                           .D = sizes.D,
                           .padded_T = round_up(sizes.T, ROWS_MAX),
                           .padded_D = round_up(sizes.D, LANES_MAX),
                           .group = sizes.H / sizes.K,
                           .query_stride = (size_t)sizes.H * (size_t)sizes.D,
                           .key_stride = (size_t)sizes.K * (size_t)sizes.D,
                           .scale = 1.0F / sqrtf((float)sizes.D)};
}

static size_t query_at(const struct layout *l, struct attention_sizes sizes, int b, int h) {
    return ((size_t)b * (size_t)l->T * (size_t)sizes.H + (size_t)h) * (size_t)l->D;
}

static size_t key_at(const struct layout *l, struct attention_sizes sizes, int b, int h) {
    return ((size_t)b * (size_t)l->T * (size_t)sizes.K + (size_t)(h / l->group)) * (size_t)l->D;
}

/* Of lse (B,H,T). */
static size_t rows_at(const struct layout *l, struct attention_sizes sizes, int b, int h) {
    return ((size_t)b * (size_t)sizes.H + (size_t)h) * (size_t)l->T;
}

static int rows_of_tile(int T, int first) {
    return T - first < TILE ? T - first : TILE;
}

static float *take(float **next, size_t count) {
    float *taken = *next;
    *next += count;
    return taken;
}

size_t attention_scratch_floats(struct attention_sizes sizes) {
    const struct layout l = layout_of(sizes);
    return (size_t)l.padded_D * (4 * (size_t)l.padded_T + 6 * TILE) + 2 * TILE * TILE + 5 * TILE;
}

static struct scratch scratch_of(const struct layout *l, float *memory) {
    size_t head = (size_t)l->padded_T * (size_t)l->padded_D, tile = TILE * (size_t)l->padded_D;
    float *next = memory;
    return (struct scratch){.k = take(&next, head),
                            .v = take(&next, head),
                            .dk = take(&next, head),
                            .dv = take(&next, head),
                            .q = take(&next, tile),
                            .q_transposed = take(&next, tile),
                            .out = take(&next, tile),
                            .dout = take(&next, tile),
                            .dout_transposed = take(&next, tile),
                            .dq = take(&next, tile),
                            .scores = take(&next, TILE * TILE),
                            .dscores = take(&next, TILE * TILE),
                            .largest = take(&next, TILE),
                            .sum = take(&next, TILE),
                            .factor = take(&next, TILE),
                            .lse = take(&next, TILE),
                            .delta = take(&next, TILE)};
}

#if VECTOR_LEVELS
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4")
#define KERNEL(name) name##_v4
#define KERNEL_LANES 16
#define KERNEL_ROWS  8
#include "model/attention_kernels.h"
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#define KERNEL(name) name##_v3
#define KERNEL_LANES 8
#define KERNEL_ROWS  4
#include "model/attention_kernels.h"
#pragma GCC pop_options
#endif
#define KERNEL(name) name##_plain
#define KERNEL_LANES 4
#define KERNEL_ROWS  4
#include "model/attention_kernels.h"

void attention_forward(struct attention_sizes sizes, const float *q, const float *k, const float *v, float *out,
                       float *lse, float *scratch) {
#if VECTOR_LEVELS
    if (__builtin_cpu_supports("x86-64-v4")) {
        forward_v4(sizes, q, k, v, out, lse, scratch);
        return;
    }
    if (__builtin_cpu_supports("x86-64-v3")) {
        forward_v3(sizes, q, k, v, out, lse, scratch);
        return;
    }
#endif
    forward_plain(sizes, q, k, v, out, lse, scratch);
}

void attention_backward(struct attention_sizes sizes, const float *q, const float *k, const float *v, const float *out,
                        const float *lse, const float *dout, float *dq, float *dk, float *dv, float *scratch) {
#if VECTOR_LEVELS
    if (__builtin_cpu_supports("x86-64-v4")) {
        backward_v4(sizes, q, k, v, out, lse, dout, dq, dk, dv, scratch);
        return;
    }
    if (__builtin_cpu_supports("x86-64-v3")) {
        backward_v3(sizes, q, k, v, out, lse, dout, dq, dk, dv, scratch);
        return;
    }
#endif
    backward_plain(sizes, q, k, v, out, lse, dout, dq, dk, dv, scratch);
}
