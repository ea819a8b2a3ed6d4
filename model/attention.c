/* attention: see attention.h. The kernels are in attention_kernels.h; here is what does not depend on the instruction set, and the
 * choice between the sets. */
#include "model/attention.h"
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "base/vector.h"
#include "model/rope.h"
#if VECTOR_LEVELS
#include <immintrin.h>
#endif

#define INLINE inline __attribute__((always_inline))

enum { TILE = 64, LANES_MAX = 16 };
static const float LOG2_E = 1.44269504F;

/* Of one pass: padded_T and padded_D whole vectors and register tiles of any set; floats from one position to the next. */
struct layout {
    int T, H, D, padded_T, padded_D;
    int heads; /* B * H */
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
    float *columns;                                              /* (3,padded_D) of rope_backward */
};

/* Rows of a head that comes next. Products ask for the cache lines of one every AHEAD_DEPTH steps: far memory then answers while they run. */
enum { AHEAD_RANGES = 8, AHEAD_DEPTH = 16, LINE_FLOATS = VECTOR_LINE_BYTES / (int)sizeof(float) };
struct ahead {
    const float *ranges[AHEAD_RANGES]; /* each T rows of D */
    size_t strides[AHEAD_RANGES];
    int count, range, row, T, D;
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
                           .H = sizes.H,
                           .D = sizes.D,
                           .heads = sizes.B * sizes.H,
                           .padded_T = round_up(sizes.T, LANES_MAX),
                           .padded_D = round_up(sizes.D, LANES_MAX),
                           .group = sizes.H / sizes.K,
                           .query_stride = (size_t)sizes.H * (size_t)sizes.D,
                           .key_stride = (size_t)sizes.K * (size_t)sizes.D,
                           .scale = 1.0F / sqrtf((float)sizes.D)};
}

/* Where a head of the B * H begins in (B,T,H,D), in (B,T,K,D) and in (B,H,T). */
static size_t query_at(const struct layout *l, int head) {
    return (size_t)(head / l->H * l->T) * l->query_stride + (size_t)(head % l->H) * (size_t)l->D;
}

static size_t key_at(const struct layout *l, int head) {
    return (size_t)(head / l->H * l->T) * l->key_stride + (size_t)(head % l->H / l->group) * (size_t)l->D;
}

static size_t rows_at(const struct layout *l, int head) {
    return (size_t)head * (size_t)l->T;
}

/* Of the query heads that share a key head. H is a whole number of groups. */
static bool is_first_of_group(const struct layout *l, int head) {
    return head % l->group == 0;
}

static bool is_last_of_group(const struct layout *l, int head) {
    return head % l->group == l->group - 1;
}

static int rows_of_tile(int T, int first) {
    return T - first < TILE ? T - first : TILE;
}

static void ahead_add(struct ahead *ahead, const float *first, size_t stride) {
    ahead->ranges[ahead->count] = first;
    ahead->strides[ahead->count++] = stride;
}

static struct ahead ahead_of_forward(const struct layout *l, int head, const struct attention_inputs *in,
                                     const float *out) {
    struct ahead ahead = {.T = l->T, .D = l->D};
    if (head == l->heads)
        return ahead;
    if (is_first_of_group(l, head)) {
        ahead_add(&ahead, in->k + key_at(l, head), l->key_stride);
        ahead_add(&ahead, in->v + key_at(l, head), l->key_stride);
    }
    ahead_add(&ahead, in->q + query_at(l, head), l->query_stride);
    ahead_add(&ahead, out + query_at(l, head), l->query_stride);
    return ahead;
}

static struct ahead ahead_of_backward(const struct layout *l, int head, const struct attention_inputs *in,
                                      const float *out, const float *dout,
                                      const struct attention_gradients *gradients) {
    struct ahead ahead = ahead_of_forward(l, head, in, out);
    if (head == l->heads)
        return ahead;
    ahead_add(&ahead, dout + query_at(l, head), l->query_stride);
    ahead_add(&ahead, gradients->dq + query_at(l, head), l->query_stride);
    if (is_last_of_group(l, head)) {
        ahead_add(&ahead, gradients->dk + key_at(l, head), l->key_stride);
        ahead_add(&ahead, gradients->dv + key_at(l, head), l->key_stride);
    }
    return ahead;
}

static INLINE void ask_for_row(struct ahead *ahead) {
    if (ahead->range == ahead->count)
        return;
    const float *row = ahead->ranges[ahead->range] + (size_t)ahead->row * ahead->strides[ahead->range];
    for (int d = 0; d < ahead->D; d += LINE_FLOATS)
        __builtin_prefetch(row + d, 0, 2);
    if (++ahead->row == ahead->T) {
        ahead->row = 0;
        ahead->range++;
    }
}

/* Of the first head, before which no products run. */
static void ask_for_all(struct ahead ahead) {
    while (ahead.range < ahead.count)
        ask_for_row(&ahead);
}

static float *take(float **next, size_t count) {
    float *taken = *next;
    *next += count;
    return taken;
}

size_t attention_scratch_floats(struct attention_sizes sizes) {
    const struct layout l = layout_of(sizes);
    return (size_t)l.padded_D * (4 * (size_t)l.padded_T + 6 * TILE + 3) + 2 * TILE * TILE + 5 * TILE;
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
                            .delta = take(&next, TILE),
                            .columns = take(&next, 3 * (size_t)l->padded_D)};
}

/* to (rows,padded_D), of which D columns are set -> zeros in the others, and in the rows up to whole vectors. */
static void pad_rows(int rows, int D, int padded_D, float *to) {
    for (int row = 0; D < padded_D && row < rows; row++)
        memset(to + (size_t)row * (size_t)padded_D + (size_t)D, 0, (size_t)(padded_D - D) * sizeof *to);
    memset(to + (size_t)rows * (size_t)padded_D, 0,
           (size_t)(round_up(rows, LANES_MAX) - rows) * (size_t)padded_D * sizeof *to);
}

#if VECTOR_LEVELS
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4")
#define KERNEL(name)        name##_v4
#define KERNEL_LANES        16
#define KERNEL_ROWS         8
#define KERNEL_MAX(x, than) _mm512_max_ps((__m512)(x), (__m512)(than))
#include "model/attention_kernels.h"
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#define KERNEL(name)        name##_v3
#define KERNEL_LANES        8
#define KERNEL_ROWS         4
#define KERNEL_MAX(x, than) _mm256_max_ps((__m256)(x), (__m256)(than))
#include "model/attention_kernels.h"
#pragma GCC pop_options
#endif
#define KERNEL(name) name##_plain
#define KERNEL_LANES 4
#define KERNEL_ROWS  4
#include "model/attention_kernels.h"

void attention_forward(struct attention_sizes sizes, const struct attention_inputs *in, float *out, float *lse,
                       float *scratch) {
#if VECTOR_LEVELS
    if (__builtin_cpu_supports("x86-64-v4")) {
        forward_v4(sizes, in, out, lse, scratch);
        return;
    }
    if (__builtin_cpu_supports("x86-64-v3")) {
        forward_v3(sizes, in, out, lse, scratch);
        return;
    }
#endif
    forward_plain(sizes, in, out, lse, scratch);
}

void attention_backward(struct attention_sizes sizes, const struct attention_inputs *in, const float *out,
                        const float *lse, const float *dout, const struct attention_gradients *gradients,
                        float *scratch) {
#if VECTOR_LEVELS
    if (__builtin_cpu_supports("x86-64-v4")) {
        backward_v4(sizes, in, out, lse, dout, gradients, scratch);
        return;
    }
    if (__builtin_cpu_supports("x86-64-v3")) {
        backward_v3(sizes, in, out, lse, dout, gradients, scratch);
        return;
    }
#endif
    backward_plain(sizes, in, out, lse, dout, gradients, scratch);
}
