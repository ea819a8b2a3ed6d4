/* gemm_avx512: see gemm_avx512.h. A panel of the right factor, DEPTH x COLUMNS, is packed and stays in the L1 cache or near it; all rows of the left factor
 * pass by it, a register tile of ROWS x COLUMNS sums at a time. The left factor is read where it lies, or packed when it is transposed: neighbours in a
 * column of it would share the few places that a cache has for one distance.
 *
 * A panel's source is far when it is a weight: while one panel multiplies, the lines of the next are asked for, some with each tile. */
#include "model/gemm_avx512.h"
#include <stdint.h>
#include "base/check.h"
#include "base/vector.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f")))
#define INLINE static inline __attribute__((always_inline)) TARGET

/* 24 sums, 3 vectors of the panel and one factor fill 28 of the 32 registers. A panel is 36 KiB; 48 KiB beside a packed left factor, of which a tile is
 * but 8 KiB in one piece. Panels of 24 to 72 KiB are equally fast with an L1 cache of 48 KiB. */
enum { LANES = 16, ROWS = 8, VECTORS = 3, COLUMNS = VECTORS * LANES };
enum { LINE_FLOATS = VECTOR_LINE_BYTES / (int)sizeof(float) };
enum { DEPTH = 192, DEPTH_PACKED = 256, PACKED_ROWS = 128 };

struct scratch {
    float *panel; /* (DEPTH or DEPTH_PACKED, columns of the panel) */
    float *left;  /* tiles (DEPTH_PACKED,ROWS) of PACKED_ROWS rows; or one: the last rows, where they fill none */
    float *tile;  /* (ROWS, columns of the panel): sums of which not all belong to c */
};
enum { PANEL_FLOATS = DEPTH_PACKED * COLUMNS, LEFT_FLOATS = DEPTH_PACKED * PACKED_ROWS, TILE_FLOATS = ROWS * COLUMNS };

static int min_int(int a, int b) {
    return a < b ? a : b;
}

bool gemm_avx512_works(void) {
    return __builtin_cpu_supports("avx512f");
}

size_t gemm_avx512_scratch_floats(void) {
    return PANEL_FLOATS + LEFT_FLOATS + TILE_FLOATS;
}

/* ---- the register tile ---- */

/* Of the line `floats` behind an address: computed as a number, since it may lie beyond the end of its array, where a prefetch does no harm. */
#define PREFETCH(from, floats, hint) _mm_prefetch((const char *)((uintptr_t)(from) + (floats) * sizeof(float)), hint)

/* Lines of far memory to ask for, in floats, with block i of LINE_FLOATS terms: at + i * step and two more, each `line` behind the one before;
 * left + i * left_step. */
struct ahead {
    uintptr_t at, left;
    size_t step, line, left_step;
};

/* One term: sums += factors of ROWS rows, each times the vectors of the panel's row. */
INLINE void add_term(const int vectors, const float *const row[ROWS], size_t at, const float *panel,
                     __m512 sums[ROWS][VECTORS]) {
    __m512 right[VECTORS];
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++)
        right[v] = _mm512_loadu_ps(panel + v * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        __m512 factor = _mm512_set1_ps(row[r][at]);
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            sums[r][v] = _mm512_fmadd_ps(factor, right[v], sums[r][v]);
    }
}

/* c (ROWS, vectors * LANES) = base + left panel, of `depth` terms; c's and base's rows are `stride` apart, left's `left_stride`, or it is packed (depth,
 * ROWS). Meanwhile three things come nearer: c, the rows of `left` that the next tile reads, and what `ahead` says. */
INLINE void multiply_tile(const bool by_rows, const int vectors, int depth, const float *left, size_t left_stride,
                          const float *panel, const float *base, float *c, size_t stride, struct ahead ahead) {
    __m512 sums[ROWS][VECTORS];
    const float *row[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        row[r] = left + (by_rows ? (size_t)r * left_stride : (size_t)r);
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            sums[r][v] = _mm512_setzero_ps();
    }
    const size_t term = by_rows ? 1 : ROWS;
    size_t at = 0;
    int k = 0;
    for (; k + LINE_FLOATS <= depth; k += LINE_FLOATS) {
        const size_t block = (size_t)(k / LINE_FLOATS);
#pragma GCC unroll 16
        for (int i = 0; i < LINE_FLOATS; i++, at += term, panel += vectors * LANES) {
            if (by_rows && i % 2 == 0)
                PREFETCH(row[i / 2], at + ROWS * left_stride, _MM_HINT_T0);
            if (i < vectors)
                PREFETCH(c, block % ROWS * stride + (size_t)(i * LANES), _MM_HINT_T0);
            else if (i < vectors + 3)
                PREFETCH(ahead.at, block * ahead.step + (size_t)(i - vectors) * ahead.line, _MM_HINT_T1);
            else if (!by_rows && i == vectors + 3)
                PREFETCH(ahead.left, block * ahead.left_step, _MM_HINT_T1);
            add_term(vectors, row, at, panel, sums);
        }
    }
    for (; k < depth; k++, at += term, panel += vectors * LANES)
        add_term(vectors, row, at, panel, sums);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            size_t to = (size_t)r * stride + (size_t)(v * LANES);
            _mm512_storeu_ps(c + to, base != NULL ? _mm512_add_ps(_mm512_loadu_ps(base + to), sums[r][v]) : sums[r][v]);
        }
}

typedef void tile_function(int depth, const float *left, size_t left_stride, const float *panel, const float *base,
                           float *c, size_t stride, struct ahead ahead);

#define TILE(name, by_rows, vectors)                                                                                   \
    static TARGET void name(int depth, const float *left, size_t left_stride, const float *panel, const float *base,   \
                            float *c, size_t stride, struct ahead ahead) {                                             \
        multiply_tile(by_rows, vectors, depth, left, left_stride, panel, base, c, stride, ahead);                      \
    }
TILE(tile_by_rows_1, true, 1)
TILE(tile_by_rows_2, true, 2)
TILE(tile_by_rows_3, true, 3)
TILE(tile_packed_1, false, 1)
TILE(tile_packed_2, false, 2)
TILE(tile_packed_3, false, 3)

static tile_function *const tiles[2][VECTORS] = {{tile_by_rows_1, tile_by_rows_2, tile_by_rows_3},
                                                 {tile_packed_1, tile_packed_2, tile_packed_3}};

/* ---- packing ---- */

/* to: row k, `to_stride` behind the one before, holds element k of 16 rows of `from`. */
INLINE void transpose_block(const float *from, size_t stride, float *to, size_t to_stride) {
#pragma GCC unroll 4
    for (int k = 0; k < LANES; k += 4) {
        __m512 rows[4]; /* rows[i]: four elements each of rows i, i + 4, i + 8, i + 12 */
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const float *at = from + (size_t)i * stride + (size_t)k;
            rows[i] = _mm512_castps128_ps512(_mm_loadu_ps(at));
            rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(at + 4 * stride), 1);
            rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(at + 8 * stride), 2);
            rows[i] = _mm512_insertf32x4(rows[i], _mm_loadu_ps(at + 12 * stride), 3);
        }
        __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[0], rows[1])),
                high01 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[0], rows[1])),
                low23 = _mm512_castps_pd(_mm512_unpacklo_ps(rows[2], rows[3])),
                high23 = _mm512_castps_pd(_mm512_unpackhi_ps(rows[2], rows[3]));
        float *out = to + (size_t)k * to_stride;
        _mm512_storeu_ps(out, _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23)));
        _mm512_storeu_ps(out + to_stride, _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23)));
        _mm512_storeu_ps(out + 2 * to_stride, _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23)));
        _mm512_storeu_ps(out + 3 * to_stride, _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23)));
    }
}

/* from: `columns` rows of `depth`, `stride` apart -> panel (depth, vectors * LANES); what has no source is zero. */
static TARGET void pack_transposed(int depth, int columns, int vectors, const float *from, size_t stride,
                                   float *panel) {
    const size_t width = (size_t)(vectors * LANES);
    for (int column = 0; column < vectors * LANES; column += LANES)
        for (int k = 0; k < depth; k += LANES) {
            const float *corner = from + (size_t)column * stride + (size_t)k;
            float *to = panel + (size_t)k * width + (size_t)column;
            if (column + LANES <= columns && k + LANES <= depth) {
                transpose_block(corner, stride, to, width);
                continue;
            }
            for (int i = 0; i < LANES && k + i < depth; i++)
                for (int j = 0; j < LANES; j++)
                    to[(size_t)i * width + (size_t)j] =
                        column + j < columns ? corner[(size_t)j * stride + (size_t)i] : 0;
        }
}

/* from: `depth` rows of `columns`, `stride` apart -> panel (depth, vectors * LANES); what has no source is zero. */
static TARGET void pack_rows(int depth, int columns, int vectors, const float *from, size_t stride, float *panel) {
    const int whole = vectors * LANES <= columns ? vectors : vectors - 1;
    const __mmask16 rest = (__mmask16)((1U << (columns - whole * LANES)) - 1U);
    for (int k = 0; k < depth; k++, from += stride, panel += vectors * LANES) {
        for (int v = 0; v < whole; v++)
            _mm512_storeu_ps(panel + v * LANES, _mm512_loadu_ps(from + v * LANES));
        if (whole < vectors)
            _mm512_storeu_ps(panel + whole * LANES, _mm512_maskz_loadu_ps(rest, from + whole * LANES));
    }
}

/* Tiles of (depth,ROWS), one behind the other, of the rows of a left factor that lie `stride` apart, or of its columns when it is transposed; what has no
 * source is zero. */
static TARGET void pack_left(bool transposed, int depth, int rows, const float *from, size_t stride, float *to) {
    const size_t tile = (size_t)depth * ROWS;
    int row = 0;
    for (; transposed && row + 2 * ROWS <= rows; row += 2 * ROWS, to += 2 * tile)
        for (int k = 0; k < depth; k++) {
            const float *line = from + (size_t)k * stride + (size_t)row;
            _mm256_storeu_ps(to + (size_t)k * ROWS, _mm256_loadu_ps(line));
            _mm256_storeu_ps(to + tile + (size_t)k * ROWS, _mm256_loadu_ps(line + ROWS));
        }
    for (; row < rows; row += ROWS, to += tile)
        for (int k = 0; k < depth; k++)
            for (int r = 0; r < ROWS; r++) {
                size_t at =
                    transposed ? (size_t)k * stride + (size_t)(row + r) : (size_t)(row + r) * stride + (size_t)k;
                to[k * ROWS + r] = row + r < rows ? from[at] : 0;
            }
}

/* ---- the product ---- */

struct product {
    bool packed, transpose_b;
    int M, N, K, depth;     /* terms of a panel: the last one of a column may have less */
    const float *left;      /* (M,K), or packed: (K,ROWS) for each tile */
    const float *next_left; /* packed: what will be packed next, rows `left_stride` apart; NULL: nothing */
    size_t left_stride;
    const float *b;
    size_t b_stride;
    const float *base;
    float *c;
    struct scratch scratch;
};

/* A panel: columns n.. of terms k.. */
struct panel {
    int n, k, columns, vectors, depth;
};

static struct panel panel_at(const struct product *p, int n, int k) {
    int columns = min_int(p->N - n, COLUMNS);
    return (struct panel){.n = n,
                          .k = k,
                          .columns = columns,
                          .vectors = (columns + LANES - 1) / LANES,
                          .depth = min_int(p->K - k, p->depth)};
}

/* All terms of a column of panels, then the next column. False: there is none. */
static bool next_panel(const struct product *p, const struct panel *panel, struct panel *next) {
    int k = panel->k + panel->depth, n = panel->n;
    if (k == p->K) {
        k = 0;
        n += panel->columns;
    }
    if (n == p->N)
        return false;
    *next = panel_at(p, n, k);
    return true;
}

static const float *source_of(const struct product *p, const struct panel *panel) {
    return p->transpose_b ? p->b + (size_t)panel->n * p->b_stride + (size_t)panel->k
                          : p->b + (size_t)panel->k * p->b_stride + (size_t)panel->n;
}

/* What the tile of rows m.. asks for: its share of the next panel's source, of COLUMNS rows or of each LINE_FLOATS rows; and a row in LINE_FLOATS of one line
 * of the next left factor, if it is packed: a line with each panel. The panel at hand instead of what there is not. */
static struct ahead ahead_of(const struct product *p, const struct panel *panel, const struct panel *next, int m) {
    struct ahead ahead = {.at = (uintptr_t)p->scratch.panel, .left = (uintptr_t)p->scratch.panel};
    if (next != NULL) {
        int rows = p->transpose_b ? COLUMNS : LINE_FLOATS, row = (int)((int64_t)m * rows / p->M);
        ahead.at = (uintptr_t)source_of(p, next) + (size_t)row * p->b_stride * sizeof(float);
        ahead.step = p->transpose_b ? LINE_FLOATS : LINE_FLOATS * p->b_stride;
        ahead.line = p->transpose_b ? p->b_stride : LINE_FLOATS;
    }
    size_t line = (size_t)(panel->n / COLUMNS);
    if (p->next_left != NULL && line < PACKED_ROWS / LINE_FLOATS) {
        size_t floats = (size_t)(m / ROWS) * p->left_stride + line * LINE_FLOATS;
        ahead.left = (uintptr_t)p->next_left + floats * sizeof(float);
        ahead.left_step = LINE_FLOATS * p->left_stride;
    }
    return ahead;
}

/* The tile of rows m..; of c where not all of its sums belong there, through scratch. */
static void multiply_rows(const struct product *p, const struct panel *panel, const struct panel *next, int m) {
    const int rows = min_int(p->M - m, ROWS), width = panel->vectors * LANES;
    const bool whole = rows == ROWS && panel->columns == width;
    bool packed = p->packed;
    size_t to = (size_t)m * (size_t)p->N + (size_t)panel->n, stride = whole ? (size_t)p->N : (size_t)width;
    const float *summed = panel->k > 0 ? p->c : p->base, *base = summed != NULL ? summed + to : NULL;
    const float *left = p->left + (size_t)m * (size_t)p->K + (packed ? 0 : (size_t)panel->k);
    if (!packed && rows < ROWS) {
        pack_left(false, panel->depth, rows, left, (size_t)p->K, p->scratch.left);
        left = p->scratch.left;
        packed = true;
    }
    tiles[packed][panel->vectors - 1](panel->depth, left, (size_t)p->K, p->scratch.panel, whole ? base : NULL,
                                      whole ? p->c + to : p->scratch.tile, stride, ahead_of(p, panel, next, m));
    for (int r = 0; !whole && r < rows; r++)
        for (int j = 0; j < panel->columns; j++) {
            size_t at = (size_t)r * (size_t)p->N + (size_t)j;
            float sum = p->scratch.tile[r * width + j];
            p->c[to + at] = base != NULL ? base[at] + sum : sum;
        }
}

static void multiply(const struct product *p) {
    struct panel panel = panel_at(p, 0, 0), next = panel;
    for (bool more = true; more; panel = next) {
        (p->transpose_b ? pack_transposed : pack_rows)(panel.depth, panel.columns, panel.vectors, source_of(p, &panel),
                                                       p->b_stride, p->scratch.panel);
        more = next_panel(p, &panel, &next);
        for (int m = 0; m < p->M; m += ROWS)
            multiply_rows(p, &panel, more ? &next : NULL, m);
    }
}

/* `total` in equal parts of at most `most`, whole lines of them. */
static int part_of(int total, int most) {
    int parts = (total + most - 1) / most;
    return min_int(((total + parts - 1) / parts + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS, most);
}

/* The left factor a is stored as (K,M): by so many of its rows and columns as its packed form has room for. */
static void multiply_transposed(struct product whole, const float *a) {
    const int depth = part_of(whole.K, DEPTH_PACKED);
    const size_t stride = (size_t)whole.M;
    for (int m = 0; m < whole.M; m += PACKED_ROWS)
        for (int k = 0; k < whole.K; k += depth) {
            struct product p = whole;
            const size_t to = (size_t)m * (size_t)whole.N;
            const float *from = a + (size_t)k * stride + (size_t)m;
            p.packed = true;
            p.M = min_int(whole.M - m, PACKED_ROWS);
            p.K = p.depth = min_int(whole.K - k, depth);
            p.left = p.scratch.left;
            p.left_stride = stride;
            if (k + depth < whole.K)
                p.next_left = from + (size_t)depth * stride;
            else if (m + PACKED_ROWS < whole.M)
                p.next_left = a + (size_t)m + PACKED_ROWS;
            p.b += whole.transpose_b ? (size_t)k : (size_t)k * whole.b_stride;
            p.c += to;
            p.base = k > 0 ? p.c : whole.base != NULL ? whole.base + to : NULL;
            pack_left(true, p.K, p.M, from, stride, p.scratch.left);
            multiply(&p);
        }
}

void gemm_avx512(bool transpose_a, bool transpose_b, int M, int N, int K, const float *a, const float *b,
                 const float *base, float *c, float *scratch) {
    CHECK(gemm_avx512_works() && M >= 1 && N >= 1 && K >= 1);
    struct product p = {.transpose_b = transpose_b,
                        .M = M,
                        .N = N,
                        .K = K,
                        .depth = part_of(K, DEPTH),
                        .left = a,
                        .b = b,
                        .b_stride = (size_t)(transpose_b ? K : N),
                        .base = base,
                        .c = c,
                        .scratch = {scratch, scratch + PANEL_FLOATS, scratch + PANEL_FLOATS + LEFT_FLOATS}};
    if (transpose_a)
        multiply_transposed(p, a);
    else
        multiply(&p);
}

#else

bool gemm_avx512_works(void) {
    return false;
}

size_t gemm_avx512_scratch_floats(void) {
    return 0;
}

void gemm_avx512(bool transpose_a, bool transpose_b, int M, int N, int K, const float *a, const float *b,
                 const float *base, float *c, float *scratch) {
    (void)transpose_a, (void)transpose_b, (void)M, (void)N, (void)K;
    (void)a, (void)b, (void)base, (void)c, (void)scratch;
    CHECK(!"AVX-512 products on this CPU");
}

#endif
