/* attention_kernels: the two passes of attention.h for one instruction set; attention.c includes this file once for each, with
 *   KERNEL(name)   the name with the set's ending
 *   KERNEL_LANES   floats of a vector: 16, 8 or 4
 *   KERNEL_VECTORS the most vectors of a register tile in a row
 *   KERNEL_ROWS(vectors)  rows of a register tile of so many, 4, 6 or 8: rows x vectors of sums; one row of vectors and a factor beside them
 *   KERNEL_MAX(x, than)  the instruction for x > than ? x : than, where there is one
 *
 * A tile is TILE queries against TILE keys and lies transposed: with a query in each lane, the softmax runs down the rows without
 * sums across lanes. A product takes its left factor one float at a time, in either order, its right one by rows:
 *
 *   scores (keys,queries) = K Q^T            weights = softmax of the columns       out (queries,D) += weights^T V
 *   dweights (keys,queries) = V dout^T       dscores = weights * (dweights - delta), delta = sum of dout * out of a query
 *   dV (keys,D) += weights dout              dK (keys,D) += dscores Q               dQ (queries,D) += dscores^T K
 *
 * Operands are copies in scratch, padded with zeros to whole vectors and register tiles. In a tile on the diagonal, the blocks in
 * which all keys come after all queries are left out of every product. Scores are in units of log 2: their exp is 2^x. */

typedef float KERNEL(vector) __attribute__((vector_size(KERNEL_LANES * sizeof(float)), aligned(4), may_alias));
typedef int32_t KERNEL(integers) __attribute__((vector_size(KERNEL_LANES * sizeof(float))));
typedef uint32_t KERNEL(bits) __attribute__((vector_size(KERNEL_LANES * sizeof(float))));

static INLINE KERNEL(vector) KERNEL(load)(const float *from) {
    return *(const KERNEL(vector) *)from;
}

static INLINE void KERNEL(store)(float *to, KERNEL(vector) value) {
    *(KERNEL(vector) *)to = value;
}

/* mask ? yes : no, lane by lane */
static INLINE KERNEL(vector) KERNEL(choose)(KERNEL(integers) mask, KERNEL(vector) yes, KERNEL(vector) no) {
    return (KERNEL(vector))((mask & (KERNEL(integers))yes) | (~mask & (KERNEL(integers))no));
}

/* The larger of each lane; a NaN in x is passed over, one in `than` stays. */
static INLINE KERNEL(vector) KERNEL(larger)(KERNEL(vector) x, KERNEL(vector) than) {
#ifdef KERNEL_MAX
    return (KERNEL(vector))KERNEL_MAX(x, than);
#else
    return KERNEL(choose)(x > than, x, than);
#endif
}

/* 2^x for x <= 127, relative error below 2e-7; 2^-126 for all below; NaN stays. x = n + f with |f| <= 1/2 and a polynomial of
 * degree 6 for 2^f, largest relative error 2.1e-8 in exact arithmetic (Remez). */
static INLINE KERNEL(vector) KERNEL(power_of_two)(KERNEL(vector) x) {
    const float shifter = 12582912.0F; /* 1.5 * 2^23: adding it rounds to an integer, kept in the low mantissa bits */
    x = KERNEL(larger)((KERNEL(vector)){0} - 126.0F, x);
    KERNEL(vector) shifted = x + shifter, f = x - (shifted - shifter);
    KERNEL(vector) p = f * 1.5594677825e-4F + 1.3406643411e-3F;
    p = p * f + 9.6176927909e-3F;
    p = p * f + 5.5503103882e-2F;
    p = p * f + 2.4022652209e-1F;
    p = p * f + 6.9314724207e-1F;
    p = p * f + 1.0F;
    return (KERNEL(vector))((KERNEL(bits))p + ((KERNEL(bits))shifted << 23)); /* n is added to the exponent */
}

/* -1 in the lanes below `count`, which may be more than there are. */
static INLINE KERNEL(integers) KERNEL(first_lanes)(int count) {
#if KERNEL_LANES == 16
    const KERNEL(integers) lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif KERNEL_LANES == 8
    const KERNEL(integers) lane = {0, 1, 2, 3, 4, 5, 6, 7};
#else
    const KERNEL(integers) lane = {0, 1, 2, 3};
#endif
    return lane < count;
}

/* ---- copies ---- */

/* rows[i][j] <-> rows[j][i]: log2(KERNEL_LANES) rounds, each a perfect shuffle of the two halves of the rows. */
static INLINE void KERNEL(transpose)(KERNEL(vector) rows[KERNEL_LANES]) {
#if KERNEL_LANES == 16
    enum { ROUNDS = 4 };
#define LOW_HALVES  0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif KERNEL_LANES == 8
    enum { ROUNDS = 3 };
#define LOW_HALVES  0, 8, 1, 9, 2, 10, 3, 11
#define HIGH_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
    enum { ROUNDS = 2 };
#define LOW_HALVES  0, 4, 1, 5
#define HIGH_HALVES 2, 6, 3, 7
#endif
    KERNEL(vector) shuffled[KERNEL_LANES];
#pragma GCC unroll 4
    for (int round = 0; round < ROUNDS; round++) {
#pragma GCC unroll 8
        for (int i = 0; i < KERNEL_LANES / 2; i++) {
            shuffled[2 * i] = __builtin_shufflevector(rows[i], rows[i + KERNEL_LANES / 2], LOW_HALVES);
            shuffled[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + KERNEL_LANES / 2], HIGH_HALVES);
        }
#pragma GCC unroll 16
        for (int i = 0; i < KERNEL_LANES; i++)
            rows[i] = shuffled[i];
    }
#undef LOW_HALVES
#undef HIGH_HALVES
}

/* `rows` rows of D. Strides: floats from one row to the next. */
static void KERNEL(copy_rows)(int rows, int D, const float *from, size_t from_stride, float *to, size_t to_stride) {
    for (int row = 0; row < rows; row++, from += from_stride, to += to_stride) {
        int d = 0;
        for (; d + KERNEL_LANES <= D; d += KERNEL_LANES)
            KERNEL(store)(to + d, KERNEL(load)(from + d));
        for (; d < D; d++)
            to[d] = from[d];
    }
}

/* from (rows,padded_D) -> to: rows of D, row r times factor[r]. */
static void KERNEL(write_rows)(int rows, int D, int padded_D, const float *from, const float *factor, float *to,
                               size_t to_stride) {
    for (int row = 0; row < rows; row++, from += padded_D, to += to_stride) {
        int d = 0;
        for (; d + KERNEL_LANES <= D; d += KERNEL_LANES)
            KERNEL(store)(to + d, KERNEL(load)(from + d) * factor[row]);
        for (; d < D; d++)
            to[d] = from[d] * factor[row];
    }
}

/* from (rows,padded_D), of which rows up to a multiple of KERNEL_LANES may be read -> transposed (padded_D,TILE), times factor. */
static void KERNEL(copy_transposed)(int rows, int padded_D, const float *from, size_t stride, float factor,
                                    float *transposed) {
    for (int row = 0; row < rows; row += KERNEL_LANES)
        for (int d = 0; d < padded_D; d += KERNEL_LANES) {
            KERNEL(vector) block[KERNEL_LANES];
#pragma GCC unroll 16
            for (int i = 0; i < KERNEL_LANES; i++)
                block[i] = KERNEL(load)(from + (size_t)(row + i) * stride + (size_t)d) * factor;
            KERNEL(transpose)(block);
#pragma GCC unroll 16
            for (int i = 0; i < KERNEL_LANES; i++)
                KERNEL(store)(transposed + (size_t)(d + i) * TILE + (size_t)row, block[i]);
        }
}

/* dots (rows, rounded up to KERNEL_LANES): sums of a * b over rows of D, times factor. */
static void KERNEL(dot_rows)(int rows, int D, const float *a, size_t a_stride, const float *b, size_t b_stride,
                             float factor, float *dots) {
    for (int row = 0; row < rows; row += KERNEL_LANES) {
        KERNEL(vector) sums[KERNEL_LANES];
#pragma GCC unroll 16
        for (int i = 0; i < KERNEL_LANES; i++) {
            const float *a_row = a + (size_t)(row + i) * a_stride, *b_row = b + (size_t)(row + i) * b_stride;
            sums[i] = (KERNEL(vector)){0};
            for (int d = 0; row + i < rows && d + KERNEL_LANES <= D; d += KERNEL_LANES)
                sums[i] += KERNEL(load)(a_row + d) * KERNEL(load)(b_row + d);
        }
        KERNEL(transpose)(sums);
#pragma GCC unroll 15
        for (int i = 1; i < KERNEL_LANES; i++)
            sums[0] += sums[i];
        KERNEL(store)(dots + row, sums[0] * factor);
        for (int i = row; i < row + KERNEL_LANES && i < rows; i++)
            for (int d = D / KERNEL_LANES * KERNEL_LANES; d < D; d++)
                dots[i] += a[(size_t)i * a_stride + (size_t)d] * b[(size_t)i * b_stride + (size_t)d] * factor;
    }
}

/* ---- products ---- */

/* c (rows, vectors) = the start + sum over depth of a[row * a_row + i * a_step] * b[i * b_step ...] */
static INLINE void KERNEL(register_tile)(struct ahead *ahead, const int rows, const int vectors, enum start start,
                                         int depth, const float *a, size_t a_row, size_t a_step, const float *b,
                                         size_t b_step, const float *factor, float *c, size_t c_row) {
    KERNEL(vector) sum[8][KERNEL_VECTORS];
    if (start == START_ZERO) {
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[r][v] = (KERNEL(vector)){0};
    } else {
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[r][v] = KERNEL(load)(c + (size_t)r * c_row + (size_t)(v * KERNEL_LANES)) *
                            (start == START_SCALED ? factor[r] : 1.0F);
    }
    uintptr_t far = ahead->at;
    ahead->left -= (depth + AHEAD_DEPTH - 1) / AHEAD_DEPTH;
    for (int i = 0; i < depth;) {
        const int end = depth - i < AHEAD_DEPTH ? depth : i + AHEAD_DEPTH;
        ask(far, ahead->second);
        far += ahead->step;
        for (; i < end; i++) {
            KERNEL(vector) right[KERNEL_VECTORS];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                right[v] = KERNEL(load)(b + v * KERNEL_LANES);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                const float left = a[(size_t)r * a_row];
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    sum[r][v] += left * right[v];
            }
            a += a_step;
            b += b_step;
        }
    }
    ahead->at = far;
    if (ahead->left <= 0)
        ahead_next(ahead);
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            KERNEL(store)(c + (size_t)r * c_row + (size_t)(v * KERNEL_LANES), sum[r][v]);
}

/* Rows `first` to `rows` of c (rows, vectors) = the start + a b; both are multiples of ROWS_LEAST. skip: what a tile on the diagonal leaves
 * out. factor (rows,) for START_SCALED. */
static INLINE void KERNEL(rows_product)(struct ahead *ahead, const int vectors, enum start start, enum skip skip,
                                        int first, int rows, int depth, const float *a, size_t a_row, size_t a_step,
                                        const float *b, size_t b_step, const float *factor, float *c, size_t c_row) {
    const int most = KERNEL_ROWS(vectors);
    for (int row = first; row < rows;) {
        const bool whole = rows - row >= most && rows - row != most + ROWS_LEAST / 2; /* what stays is whole fours */
        int count = whole ? most : ROWS_LEAST;
        int from = skip == SKIP_EARLIER_DEPTH ? row : 0, to = depth;
        if (skip == SKIP_LATER_DEPTH && to > row + count)
            to = row + count;
        const float *left = a + (size_t)row * a_row + (size_t)from * a_step, *right = b + (size_t)from * b_step;
        float *sums = c + (size_t)row * c_row;
        if (whole)
            KERNEL(register_tile)
        (ahead, most, vectors, start, to - from, left, a_row, a_step, right, b_step, factor + row, sums, c_row);
        else if (most != ROWS_LEAST) KERNEL(register_tile)(ahead, ROWS_LEAST, vectors, start, to - from, left, a_row,
                                                           a_step, right, b_step, factor + row, sums, c_row);
        row += count;
    }
}

/* c (rows,columns) = the start + a b; columns are rounded up to vectors, and b and c padded for that. */
static INLINE void KERNEL(product)(struct ahead *ahead, enum start start, enum skip skip, int first, int rows,
                                   int columns, int depth, const float *a, size_t a_row, size_t a_step, const float *b,
                                   size_t b_step, const float *factor, float *c, size_t c_row) {
    for (int vectors = (columns + KERNEL_LANES - 1) / KERNEL_LANES; vectors > 0;
         vectors -= KERNEL_VECTORS, b += KERNEL_VECTORS * KERNEL_LANES, c += KERNEL_VECTORS * KERNEL_LANES) {
#define ROWS_PRODUCT(count)                                                                                            \
    KERNEL(rows_product)                                                                                               \
    (ahead, count, start, skip, first, rows, depth, a, a_row, a_step, b, b_step, factor, c, c_row)
        if (vectors >= KERNEL_VECTORS)
            ROWS_PRODUCT(KERNEL_VECTORS);
#if KERNEL_VECTORS == 4
        else if (vectors == 3)
            ROWS_PRODUCT(3);
        else if (vectors == 2)
            ROWS_PRODUCT(2);
#endif
        else
            ROWS_PRODUCT(1);
#undef ROWS_PRODUCT
    }
}

/* The three products of a pair of tiles. On the diagonal they go by blocks of KERNEL_LANES rows, so that no register tile lies in two blocks:
 * the softmax sets no weights of the keys that come after all queries of a block. */

/* scores (keys,queries) = of_keys (keys,padded_D) of_queries (padded_D,TILE) */
static void KERNEL(scores_product)(struct ahead *ahead, bool diagonal, int keys, int queries, int D, int padded_D,
                                   const float *of_keys, const float *of_queries, float *scores) {
    const int padded = round_up(keys, ROWS_LEAST), block = diagonal ? KERNEL_LANES : TILE;
    for (int first = 0; first < padded; first += block) {
        int end = padded - first < block ? padded : first + block, skipped = diagonal ? first : 0;
        KERNEL(product)
        (ahead, START_ZERO, SKIP_NOTHING, first, end, queries - skipped, D, of_keys, (size_t)padded_D, 1,
         of_queries + skipped, TILE, scores, scores + skipped, TILE);
    }
}

/* of_keys (keys,padded_D) = the start + weights (keys,queries) of_queries (queries,padded_D) */
static void KERNEL(keys_product)(struct ahead *ahead, enum start start, bool diagonal, int keys, int queries,
                                 int padded_D, const float *weights, const float *of_queries, float *of_keys) {
    const int padded = round_up(keys, ROWS_LEAST), block = diagonal ? KERNEL_LANES : TILE;
    for (int first = 0; first < padded; first += block) {
        int end = padded - first < block ? padded : first + block;
        KERNEL(product)
        (ahead, start, diagonal ? SKIP_EARLIER_DEPTH : SKIP_NOTHING, first, end, padded_D, queries, weights, TILE, 1,
         of_queries, (size_t)padded_D, weights, of_keys, (size_t)padded_D);
    }
}

/* of_queries (queries,padded_D) = the start + weights^T of_keys (keys,padded_D); factor (queries,) for START_SCALED. */
static void KERNEL(queries_product)(struct ahead *ahead, enum start start, bool diagonal, int keys, int queries,
                                    int padded_D, const float *weights, const float *of_keys, const float *factor,
                                    float *of_queries) {
    const int padded = round_up(queries, ROWS_LEAST), block = diagonal ? KERNEL_LANES : TILE;
    for (int first = 0; first < padded; first += block) {
        int end = padded - first < block ? padded : first + block;
        KERNEL(product)
        (ahead, start, diagonal ? SKIP_LATER_DEPTH : SKIP_NOTHING, first, end, padded_D, keys, weights, 1, TILE,
         of_keys, (size_t)padded_D, factor, of_queries, (size_t)padded_D);
    }
}

/* ---- softmax ---- */

/* Keys that the lanes from `query` on can see, rounded up as in the products: what those of a tile will read. */
static INLINE int KERNEL(keys_of_lanes)(bool diagonal, int keys, int query) {
    int last = query + KERNEL_LANES, padded = round_up(keys, ROWS_LEAST);
    return diagonal && last < padded ? last : padded;
}

/* scores -> weights 2^(score - largest), of a query and all its keys so far; largest, sum (TILE,) become those of these keys too.
 * factor (TILE,), set: what sums over earlier keys are to be multiplied by. */
static void KERNEL(softmax_tile)(bool diagonal, int keys, int queries, float *scores, float *largest, float *sum,
                                 float *factor) {
    for (int query = 0; query < queries; query += KERNEL_LANES) {
        int rows = KERNEL(keys_of_lanes)(diagonal, keys, query);
        KERNEL(vector) before = KERNEL(load)(largest + query), largest_of[4], sum_of[4];
        for (int i = 0; i < 4; i++)
            largest_of[i] = before;
        for (int key = 0; key < rows; key += 4)
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                float *at = scores + (size_t)(key + i) * TILE + (size_t)query;
                KERNEL(vector) x = KERNEL(load)(at);
                if (diagonal && key + i > query) {
                    x = KERNEL(choose)(KERNEL(first_lanes)(key + i - query), (KERNEL(vector)){0} - INFINITY, x);
                    KERNEL(store)(at, x);
                }
                largest_of[i] = KERNEL(larger)(x, largest_of[i]);
            }
        KERNEL(vector)
        top =
            KERNEL(larger)(KERNEL(larger)(largest_of[0], largest_of[1]), KERNEL(larger)(largest_of[2], largest_of[3]));
        for (int i = 0; i < 4; i++)
            sum_of[i] = (KERNEL(vector)){0};
        for (int key = 0; key < rows; key += 4)
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                float *at = scores + (size_t)(key + i) * TILE + (size_t)query;
                KERNEL(vector) weight = KERNEL(power_of_two)(KERNEL(load)(at) - top);
                if (diagonal && key + i > query)
                    weight = KERNEL(choose)(KERNEL(first_lanes)(key + i - query), (KERNEL(vector)){0}, weight);
                KERNEL(store)(at, weight);
                sum_of[i] += weight;
            }
        KERNEL(vector) fade = KERNEL(power_of_two)(before - top);
        KERNEL(store)(factor + query, fade);
        KERNEL(store)(largest + query, top);
        KERNEL(store)
        (sum + query, KERNEL(load)(sum + query) * fade + ((sum_of[0] + sum_of[1]) + (sum_of[2] + sum_of[3])));
    }
}

/* scores -> weights = 2^(score - lse); dweights -> dscores = weights * (dweights - delta). lse, delta (TILE,). */
static void KERNEL(softmax_tile_backward)(bool diagonal, int keys, int queries, const float *lse, const float *delta,
                                          float *restrict scores, float *restrict dweights) {
    for (int query = 0; query < queries; query += KERNEL_LANES) {
        int rows = KERNEL(keys_of_lanes)(diagonal, keys, query);
        KERNEL(vector) log_sum = KERNEL(load)(lse + query), pull = KERNEL(load)(delta + query);
        for (int key = 0; key < rows; key += 2)
#pragma GCC unroll 2
            for (int i = 0; i < 2; i++) {
                size_t at = (size_t)(key + i) * TILE + (size_t)query;
                KERNEL(vector) weight = KERNEL(power_of_two)(KERNEL(load)(scores + at) - log_sum);
                if (diagonal && key + i > query)
                    weight = KERNEL(choose)(KERNEL(first_lanes)(key + i - query), (KERNEL(vector)){0}, weight);
                KERNEL(store)(scores + at, weight);
                KERNEL(store)(dweights + at, weight * (KERNEL(load)(dweights + at) - pull));
            }
    }
}

/* ---- the passes over one head of queries ---- */

/* A tile of keys, made ready, and its values -> scratch, where all queries that see them read them. */
static void KERNEL(take_keys)(const struct layout *l, const struct scratch *s, const struct attention_inputs *in,
                              int head, int first, int keys) {
    size_t from = key_at(l, head) + (size_t)first * l->key_stride, to = (size_t)first * (size_t)l->padded_D,
           angles = (size_t)first * (size_t)(l->D / 2);
    rope_forward(keys, l->D, in->eps, in->cosine + angles, in->sine + angles, in->k + from, l->key_stride, in->k_norm,
                 s->k + to, (size_t)l->padded_D);
    KERNEL(copy_rows)(keys, l->D, in->v + from, l->key_stride, s->v + to, (size_t)l->padded_D);
    pad_rows(keys, l->D, l->padded_D, s->k + to);
    pad_rows(keys, l->D, l->padded_D, s->v + to);
}

/* A tile of queries, made ready -> s->q, and transposed in units of log 2. */
static void KERNEL(take_queries)(const struct layout *l, const struct scratch *s, const struct attention_inputs *in,
                                 int head, int first, int queries) {
    size_t from = query_at(l, head) + (size_t)first * l->query_stride, angles = (size_t)first * (size_t)(l->D / 2);
    rope_forward(queries, l->D, in->eps, in->cosine + angles, in->sine + angles, in->q + from, l->query_stride,
                 in->q_norm, s->q, (size_t)l->padded_D);
    pad_rows(queries, l->D, l->padded_D, s->q);
    KERNEL(copy_transposed)(queries, l->padded_D, s->q, (size_t)l->padded_D, l->scale * LOG2_E, s->q_transposed);
}

static void KERNEL(forward_head)(const struct layout *l, const struct scratch *s, const struct attention_inputs *in,
                                 int head, float *out, float *lse, struct ahead *ahead) {
    const int T = l->T, padded_D = l->padded_D;
    for (int first = 0; first < T; first += TILE) {
        int queries = rows_of_tile(T, first);
        ahead_allow(ahead);
        if (is_first_of_group(l, head))
            KERNEL(take_keys)(l, s, in, head, first, queries);
        KERNEL(take_queries)(l, s, in, head, first, queries);
        for (int i = 0; i < TILE; i++) {
            s->largest[i] = -INFINITY;
            s->sum[i] = 0;
        }
        for (int key = 0; key <= first; key += TILE) {
            int keys = rows_of_tile(T, key);
            size_t at = (size_t)key * (size_t)padded_D;
            bool diagonal = key == first;
            KERNEL(scores_product)
            (ahead, diagonal, keys, queries, l->D, padded_D, s->k + at, s->q_transposed, s->scores);
            KERNEL(softmax_tile)(diagonal, keys, queries, s->scores, s->largest, s->sum, s->factor);
            KERNEL(queries_product)
            (ahead, key == 0 ? START_ZERO : START_SCALED, diagonal, keys, queries, padded_D, s->scores, s->v + at,
             s->factor, s->out);
        }
        float *lse_of_tile = lse + rows_at(l, head) + first;
        for (int i = 0; i < queries; i++) {
            s->factor[i] = 1 / s->sum[i];
            lse_of_tile[i] = s->largest[i] + log2f(s->sum[i]);
        }
        KERNEL(write_rows)
        (queries, l->D, padded_D, s->out, s->factor, out + query_at(l, head) + (size_t)first * l->query_stride,
         l->query_stride);
    }
}

/* dk, dv of scratch: of a head's keys that are ready -> of the projected. */
static void KERNEL(write_keys)(const struct layout *l, const struct scratch *s, const struct attention_inputs *in,
                               int head, const struct attention_gradients *gradients) {
    for (int first = 0; first < l->T; first += TILE) {
        int keys = rows_of_tile(l->T, first);
        size_t to = key_at(l, head) + (size_t)first * l->key_stride, from = (size_t)first * (size_t)l->padded_D,
               angles = (size_t)first * (size_t)(l->D / 2);
        rope_backward(keys, l->D, in->eps, in->cosine + angles, in->sine + angles, in->k + to, l->key_stride,
                      in->k_norm, s->dk + from, (size_t)l->padded_D, gradients->dk + to, l->key_stride,
                      gradients->dk_norm, s->columns);
        KERNEL(copy_rows)(keys, l->D, s->dv + from, (size_t)l->padded_D, gradients->dv + to, l->key_stride);
    }
}

/* dk, dv of scratch: set by the first head of a group, then added to. What is multiplied by q and k holds the scale of the scores: it is in
 * dout_transposed and in delta. */
static void KERNEL(backward_head)(const struct layout *l, const struct scratch *s, const struct attention_inputs *in,
                                  int head, const float *out, const float *lse, const float *dout,
                                  const struct attention_gradients *gradients, struct ahead *ahead) {
    const int T = l->T, D = l->D, padded_D = l->padded_D;
    memset(s->lse, 0, TILE * sizeof *s->lse);
    for (int first = 0; first < T; first += TILE) {
        int queries = rows_of_tile(T, first);
        ahead_allow(ahead);
        size_t row = query_at(l, head) + (size_t)first * l->query_stride, angles = (size_t)first * (size_t)(D / 2);
        if (is_first_of_group(l, head))
            KERNEL(take_keys)(l, s, in, head, first, queries);
        KERNEL(take_queries)(l, s, in, head, first, queries);
        KERNEL(copy_rows)(queries, D, dout + row, l->query_stride, s->dout, (size_t)padded_D);
        pad_rows(queries, D, padded_D, s->dout);
        KERNEL(copy_transposed)(queries, padded_D, s->dout, (size_t)padded_D, l->scale, s->dout_transposed);
        KERNEL(dot_rows)(queries, D, out + row, l->query_stride, s->dout, (size_t)padded_D, l->scale, s->delta);
        memcpy(s->lse, lse + rows_at(l, head) + first, (size_t)queries * sizeof *s->lse);
        for (int key = 0; key <= first; key += TILE) {
            int keys = rows_of_tile(T, key);
            size_t at = (size_t)key * (size_t)padded_D;
            bool diagonal = key == first;
            enum start start = diagonal && is_first_of_group(l, head) ? START_ZERO : START_SUM;
            KERNEL(scores_product)(ahead, diagonal, keys, queries, D, padded_D, s->k + at, s->q_transposed, s->scores);
            KERNEL(scores_product)
            (ahead, diagonal, keys, queries, D, padded_D, s->v + at, s->dout_transposed, s->dscores);
            KERNEL(softmax_tile_backward)(diagonal, keys, queries, s->lse, s->delta, s->scores, s->dscores);
            KERNEL(keys_product)(ahead, start, diagonal, keys, queries, padded_D, s->scores, s->dout, s->dv + at);
            KERNEL(keys_product)(ahead, start, diagonal, keys, queries, padded_D, s->dscores, s->q, s->dk + at);
            KERNEL(queries_product)
            (ahead, key == 0 ? START_ZERO : START_SUM, diagonal, keys, queries, padded_D, s->dscores, s->k + at,
             s->factor, s->dq);
        }
        rope_backward(queries, D, in->eps, in->cosine + angles, in->sine + angles, in->q + row, l->query_stride,
                      in->q_norm, s->dq, (size_t)padded_D, gradients->dq + row, l->query_stride, gradients->dq_norm,
                      s->columns);
    }
    if (is_last_of_group(l, head))
        KERNEL(write_keys)(l, s, in, head, gradients);
}

/* ---- all heads ---- */

static void KERNEL(forward)(struct attention_sizes sizes, const struct attention_inputs *in, float *out, float *lse,
                            float *memory) {
    const struct layout l = layout_of(sizes);
    const struct scratch s = scratch_of(&l, memory);
    struct ahead ahead;
    ahead_begin(&ahead, &l, &(struct far){.q = in->q, .out = out, .k = in->k, .v = in->v});
    for (int head = 0; head < l.heads; head++)
        KERNEL(forward_head)(&l, &s, in, head, out, lse, &ahead);
}

static void KERNEL(backward)(struct attention_sizes sizes, const struct attention_inputs *in, const float *out,
                             const float *lse, const float *dout, const struct attention_gradients *gradients,
                             float *memory) {
    const struct layout l = layout_of(sizes);
    const struct scratch s = scratch_of(&l, memory);
    memset(gradients->dq_norm, 0, (size_t)l.D * sizeof *gradients->dq_norm);
    memset(gradients->dk_norm, 0, (size_t)l.D * sizeof *gradients->dk_norm);
    struct ahead ahead;
    ahead_begin(&ahead, &l,
                &(struct far){.q = in->q,
                              .attended = out,
                              .dout = dout,
                              .dq = gradients->dq,
                              .k = in->k,
                              .v = in->v,
                              .dk = gradients->dk,
                              .dv = gradients->dv});
    for (int head = 0; head < l.heads; head++)
        KERNEL(backward_head)(&l, &s, in, head, out, lse, dout, gradients, &ahead);
}

#undef KERNEL
#undef KERNEL_LANES
#undef KERNEL_VECTORS
#undef KERNEL_ROWS
#undef KERNEL_MAX
