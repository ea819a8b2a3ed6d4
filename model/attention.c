/* attention: see attention.h. The kernels are in attention_kernels.h; here is what does not depend on the instruction set, and the
 * choice between the sets. */
#include "model/attention.h"
#include <limits.h>
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

enum { TILE = 64, LANES_MAX = 16, ROWS_LEAST = 4 /* of a register tile */ };
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

/* What a pass reads of a tile of queries as its turn comes, and what it writes in the end; NULL where it does not. */
struct far {
    const float *q, *k, *v, *dout, *attended;
    const float *out, *dq, *dk, *dv;
};

/* Far memory answers while products run, so they ask for four cache lines every AHEAD_DEPTH steps, of tiles whose turn comes: no more than AHEAD_TILES
 * ahead, since the L2 cache is to hold them beside a head's keys. A core waits for some 16 lines at a time, those that its products read from the L2
 * cache among them. Heads of 64, 256 positions: every 8 steps makes the products of the forward pass a quarter slower; every 16 is too slow for all
 * rows to come in time there, though not in the backward pass; a whole step of training does not tell 12 from 16. */
enum {
    AHEAD_TILES = 4,
    AHEAD_DEPTH = 12,
    AHEAD_ARRAYS = 8,
    AHEAD_COLUMNS = 4 * VECTOR_LINE_BYTES / (int)sizeof(float)
};

struct ahead {
    uintptr_t at;     /* two lines; not a pointer: asking goes on beyond the end of an array, where it does no harm */
    uintptr_t second; /* bytes from these to two more, of the same row or, in narrow rows, of the next one */
    uintptr_t step;   /* bytes to the next four; 0: nothing to ask for */
    int left;         /* times to ask before the next array */
    const struct layout *layout;
    struct far far;
    int head, first, tiles;            /* the tile that is asked for; how many more may be */
    int count, written, array, column; /* arrays, of which those from `written` on are written */
    const float *arrays[AHEAD_ARRAYS];
    size_t strides[AHEAD_ARRAYS];
};

/* How a product begins, and what a row leaves out in a tile on the diagonal: the depth before it, or the depth after it. */
enum start { START_ZERO, START_SUM, START_SCALED };
enum skip { SKIP_NOTHING, SKIP_EARLIER_DEPTH, SKIP_LATER_DEPTH };

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

static void ahead_add(struct ahead *ahead, const float *array, size_t at, size_t stride) {
    if (array == NULL)
        return;
    ahead->arrays[ahead->count] = array + at;
    ahead->strides[ahead->count++] = stride;
}

static void ahead_set_rows(struct ahead *ahead) {
    const int rows = rows_of_tile(ahead->layout->T, ahead->first);
    const bool wide = ahead->layout->D - ahead->column > AHEAD_COLUMNS / 2;
    const size_t stride = ahead->strides[ahead->array] * sizeof(float);
    ahead->at = (uintptr_t)(ahead->arrays[ahead->array] + ahead->column);
    ahead->second = wide ? 2 * VECTOR_LINE_BYTES : stride;
    ahead->step = wide ? stride : 2 * stride;
    ahead->left = wide ? rows : (rows + 1) / 2;
}

static void ahead_set_tile(struct ahead *ahead) {
    const struct layout *l = ahead->layout;
    const struct far *far = &ahead->far;
    size_t query = query_at(l, ahead->head) + (size_t)ahead->first * l->query_stride,
           key = key_at(l, ahead->head) + (size_t)ahead->first * l->key_stride;
    ahead->count = ahead->array = ahead->column = 0;
    ahead_add(ahead, far->q, query, l->query_stride);
    if (is_first_of_group(l, ahead->head)) {
        ahead_add(ahead, far->k, key, l->key_stride);
        ahead_add(ahead, far->v, key, l->key_stride);
    }
    ahead_add(ahead, far->dout, query, l->query_stride);
    ahead_add(ahead, far->attended, query, l->query_stride);
    ahead->written = ahead->count;
    ahead_add(ahead, far->out, query, l->query_stride);
    ahead_add(ahead, far->dq, query, l->query_stride);
    if (is_last_of_group(l, ahead->head)) {
        ahead_add(ahead, far->dk, key, l->key_stride);
        ahead_add(ahead, far->dv, key, l->key_stride);
    }
    ahead_set_rows(ahead);
}

static void ahead_next_tile(struct ahead *ahead) {
    const struct layout *l = ahead->layout;
    if (ahead->tiles > 0 && ahead->head < l->heads) {
        ahead->tiles--;
        ahead->first += TILE;
        if (ahead->first >= l->T) {
            ahead->first = 0;
            ahead->head++;
        }
        if (ahead->head < l->heads) {
            ahead_set_tile(ahead);
            return;
        }
    }
    ahead->step = 0;
    ahead->left = INT_MAX;
}

/* The same array's next columns, the next array, or the next tile. */
static __attribute__((noinline)) void ahead_next(struct ahead *ahead) {
    ahead->column += AHEAD_COLUMNS;
    if (ahead->column >= ahead->layout->D) {
        ahead->column = 0;
        ahead->array++;
    }
    if (ahead->array < ahead->count)
        ahead_set_rows(ahead);
    else
        ahead_next_tile(ahead);
}

/* A tile's turn has come: one more may be asked for. Of the tile itself, there is no more use in asking for what it reads. */
static void ahead_allow(struct ahead *ahead) {
    ahead->tiles++;
    if (ahead->step == 0 || ahead->tiles > AHEAD_TILES)
        ahead_next_tile(ahead);
    if (ahead->tiles == AHEAD_TILES && ahead->array < ahead->written) {
        ahead->array = ahead->written - 1;
        ahead->column = ahead->layout->D;
        ahead_next(ahead);
    }
}

static INLINE void ask(uintptr_t at, uintptr_t second) {
    __builtin_prefetch((const void *)at, 0, 2);
    __builtin_prefetch((const void *)(at + VECTOR_LINE_BYTES), 0, 2);
    __builtin_prefetch((const void *)(at + second), 0, 2);
    __builtin_prefetch((const void *)(at + second + VECTOR_LINE_BYTES), 0, 2);
}

/* The first tile, before which no products run, is asked for at once. */
static void ahead_begin(struct ahead *ahead, const struct layout *l, const struct far *far) {
    *ahead = (struct ahead){.layout = l, .far = *far};
    ahead_set_tile(ahead);
    while (ahead->step != 0) {
        for (; ahead->left > 0; ahead->left--, ahead->at += ahead->step)
            ask(ahead->at, ahead->second);
        ahead_next(ahead);
    }
    ahead->tiles = AHEAD_TILES - 1;
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
#define KERNEL(name)         name##_v4
#define KERNEL_LANES         16
#define KERNEL_VECTORS       4
#define KERNEL_ROWS(vectors) ((vectors) == 4 ? 6 : 8)
#define KERNEL_MAX(x, than)  _mm512_max_ps((__m512)(x), (__m512)(than))
#include "model/attention_kernels.h"
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#define KERNEL(name)         name##_v3
#define KERNEL_LANES         8
#define KERNEL_VECTORS       2
#define KERNEL_ROWS(vectors) 6
#define KERNEL_MAX(x, than)  _mm256_max_ps((__m256)(x), (__m256)(than))
#include "model/attention_kernels.h"
#pragma GCC pop_options
#endif
#define KERNEL(name)         name##_plain
#define KERNEL_LANES         4
#define KERNEL_VECTORS       2
#define KERNEL_ROWS(vectors) 4
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
