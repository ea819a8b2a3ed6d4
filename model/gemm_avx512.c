/* gemm_avx512: see gemm_avx512.h. A panel of the right factor is packed and stays in the L1 cache or near it; all rows of the left factor pass by it, a
 * register tile of ROWS x COLUMNS sums at a time. The left factor is read where it lies. A transposed one is packed too, PACKED_ROWS of its rows at a time:
 * neighbours in a column of it would share the few places that a cache has for one distance. So that these rows pass by many panels, a group of panels is
 * packed first: as many as leave room in the L2 cache.
 *
 * Far memory comes near while a tile multiplies: of the next panel's source, a weight or the next group, some lines with each tile; and what a finish will
 * read beside c, the tile's own part. */
#include "model/gemm_avx512.h"
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>
#include "base/check.h"
#include "base/ints.h"
#include "base/vector.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f")))
#define INLINE static inline __attribute__((always_inline)) TARGET

/* 24 sums, 3 vectors of the panel and one factor fill 28 of the 32 registers. A panel is 36 KiB; 48 KiB beside a packed left factor, of which a tile is
 * but 8 KiB in one piece. Panels of 24 to 72 KiB are equally fast with an L1 cache of 48 KiB. */
enum { LANES = 16, ROWS = 8, VECTORS = 3, COLUMNS = GEMM_PANEL };
_Static_assert(COLUMNS == VECTORS * LANES, "a tile is as wide as a panel");
enum { LINE_FLOATS = VECTOR_LINE_BYTES / (int)sizeof(float) };
enum { DEPTH = 192, DEPTH_PACKED = GEMM_AVX512_TERMS, PACKED_ROWS = 128 };

/* Of the scratch memory: tiles (DEPTH_PACKED,ROWS) of PACKED_ROWS rows of the left factor, or one of the last rows, where they fill none; (ROWS, columns of the
 * panel), sums of which not all belong to c; panels (DEPTH, columns of the panel), those of a group. */
enum { LEFT_FLOATS = DEPTH_PACKED * PACKED_ROWS, TILE_FLOATS = ROWS * COLUMNS };

/* Two fifths of an L2 cache of 1 to 2 MiB: the packed left factor and what is written need some of the rest. Nearly twice that gains nothing; half costs 2
 * to 5 % of the weight gradients of size large. */
static int group_floats(void) {
    static atomic_int known; /* asking the processor takes microseconds in a virtual machine */
    int floats = atomic_load_explicit(&known, memory_order_relaxed);
    if (floats == 0) {
        const long least = 1L << 20, most = 2L << 20;
#ifdef _SC_LEVEL2_CACHE_SIZE
        const long found = sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
        const long found = least;
#endif
        const long bytes = found < least ? least : found > most ? most : found;
        floats = (int)(bytes * 2 / 5 / (long)sizeof(float)) / LINE_FLOATS * LINE_FLOATS;
        atomic_store_explicit(&known, floats, memory_order_relaxed);
    }
    return floats;
}

bool gemm_avx512_works(void) {
    return __builtin_cpu_supports("avx512f");
}

size_t gemm_avx512_scratch_floats(void) {
    return LEFT_FLOATS + TILE_FLOATS + (size_t)group_floats();
}

/* ---- the register tile ---- */

/* Of the line `floats` behind an address: computed as a number, since it may lie beyond the end of its array, where a prefetch does no harm. */
#define PREFETCH(from, floats, hint) _mm_prefetch((const char *)((uintptr_t)(from) + (floats) * sizeof(float)), hint)

/* Lines of far memory to ask for, in floats, with block i of LINE_FLOATS terms: at + i * step and two more, each `line` behind the one before;
 * left + i * left_step; and of the tiles `beside`, whose rows lie as those of c, the same as of c. */
struct ahead {
    uintptr_t at, left, beside[GEMM_BESIDE];
    size_t step, line, left_step;
};

/* Where a tile finds the factors of its rows. BY_ROWS: those of a row one behind the other, but for a jump after `until` of them and after each COLUMNS more;
 * rows `stride` apart. PACKED: (depth,ROWS). */
enum order { BY_ROWS, PACKED, ORDERS };
struct left {
    const float *at;
    size_t stride, jump;
    int until; /* INT_MAX: never */
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

/* c (ROWS, vectors * LANES) = base + left panel, of `depth` terms; c's and base's rows are `stride` apart. Meanwhile come nearer: c, the rows of `left` that
 * the next tile reads, and what `ahead` says; of what lies beside, the first, or both when the product is `finished` with it. */
INLINE void multiply_tile(const enum order order, const bool finished, const int vectors, int depth,
                          const struct left *left, const float *panel, const float *base, float *c, size_t stride,
                          const struct ahead *ahead) {
    const bool by_rows = order == BY_ROWS;
    const size_t next_rows = ROWS * left->stride;
    __m512 sums[ROWS][VECTORS];
    const float *row[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        row[r] = left->at + (by_rows ? (size_t)r * left->stride : (size_t)r);
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            sums[r][v] = _mm512_setzero_ps();
    }
    const size_t term = by_rows ? 1 : ROWS;
    size_t at = 0;
    int k = 0, until = left->until;
    for (; k + LINE_FLOATS <= depth; k += LINE_FLOATS) {
        const size_t block = (size_t)(k / LINE_FLOATS);
#pragma GCC unroll 16
        for (int i = 0; i < LINE_FLOATS; i++, at += term, panel += vectors * LANES) {
            if (by_rows && i % 2 == 0)
                PREFETCH(row[i / 2], at + next_rows, _MM_HINT_T0);
            if (i < vectors)
                PREFETCH(c, block % ROWS * stride + (size_t)(i * LANES), _MM_HINT_T0);
            else if (i >= LINE_FLOATS - vectors)
                PREFETCH(ahead->beside[0], block % ROWS * stride + (size_t)((i - LINE_FLOATS + vectors) * LANES),
                         _MM_HINT_T0);
            else if (i < vectors + 3)
                PREFETCH(ahead->at, block * ahead->step + (size_t)(i - vectors) * ahead->line, _MM_HINT_T1);
            else if (!by_rows && i == vectors + 3)
                PREFETCH(ahead->left, block * ahead->left_step, _MM_HINT_T1);
            else if (finished && i < 2 * vectors + 3)
                PREFETCH(ahead->beside[1], block % ROWS * stride + (size_t)((i - vectors - 3) * LANES), _MM_HINT_T0);
            add_term(vectors, row, at, panel, sums);
        }
        if (by_rows && k + LINE_FLOATS == until) {
            at += left->jump;
            until += COLUMNS;
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

typedef void tile_function(int depth, const struct left *left, const float *panel, const float *base, float *c,
                           size_t stride, const struct ahead *ahead);

#define TILE(name, order, finished, vectors)                                                                           \
    static TARGET void name(int depth, const struct left *left, const float *panel, const float *base, float *c,       \
                            size_t stride, const struct ahead *ahead) {                                                \
        multiply_tile(order, finished, vectors, depth, left, panel, base, c, stride, ahead);                           \
    }
TILE(tile_by_rows_1, BY_ROWS, false, 1)
TILE(tile_by_rows_2, BY_ROWS, false, 2)
TILE(tile_by_rows_3, BY_ROWS, false, 3)
TILE(tile_packed_1, PACKED, false, 1)
TILE(tile_packed_2, PACKED, false, 2)
TILE(tile_packed_3, PACKED, false, 3)
TILE(tile_finished, BY_ROWS, true, VECTORS)

static tile_function *const tiles[ORDERS][VECTORS] = {[BY_ROWS] = {tile_by_rows_1, tile_by_rows_2, tile_by_rows_3},
                                                      [PACKED] = {tile_packed_1, tile_packed_2, tile_packed_3}};

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

/* from: `depth` rows of `columns`, `stride` apart -> rows first.. of panels of COLUMNS, `panel_floats` apart; rows of the last have as many vectors as hold
 * its columns. What has no source is zero. Row by row: far memory is read fastest in its order. */
static TARGET void pack_rows(int first, int depth, int columns, const float *from, size_t stride, float *panels,
                             size_t panel_floats) {
    const int last = (columns - 1) / COLUMNS, left = columns - last * COLUMNS, vectors = (left + LANES - 1) / LANES,
              whole = left / LANES;
    const __mmask16 rest = (__mmask16)((1U << (left - whole * LANES)) - 1U);
    for (int k = first; k < first + depth; k++, from += stride) {
        const float *at = from;
        float *to = panels + (size_t)k * COLUMNS;
        for (int i = 0; i < last; i++, at += COLUMNS, to += panel_floats)
#pragma GCC unroll 3
            for (int v = 0; v < VECTORS; v++)
                _mm512_storeu_ps(to + v * LANES, _mm512_loadu_ps(at + v * LANES));
        to = panels + (size_t)last * panel_floats + (size_t)(k * vectors * LANES);
        for (int v = 0; v < whole; v++)
            _mm512_storeu_ps(to + v * LANES, _mm512_loadu_ps(at + v * LANES));
        if (whole < vectors)
            _mm512_storeu_ps(to + whole * LANES, _mm512_maskz_loadu_ps(rest, at + whole * LANES));
    }
}

/* Tiles (depth,ROWS), one behind the other, of `rows` columns of the transposed left factor at `from`, whose terms are `stride` apart; `wide` tiles at a time,
 * and what is left one by one, zero where it has no source. */
INLINE void pack_columns(const int wide, int depth, int rows, const float *from, size_t stride, float *to) {
    const size_t tile = (size_t)depth * ROWS;
    for (; rows >= wide * ROWS; rows -= wide * ROWS, from += wide * ROWS, to += (size_t)wide * tile)
        for (int k = 0; k < depth; k++)
#pragma GCC unroll 4
            for (int i = 0; i < wide; i++)
                _mm256_storeu_ps(to + (size_t)i * tile + k * ROWS,
                                 _mm256_loadu_ps(from + (size_t)k * stride + (size_t)(i * ROWS)));
    for (; rows > 0; rows -= ROWS, from += ROWS, to += tile)
        for (int k = 0; k < depth; k++)
            for (int r = 0; r < ROWS; r++)
                to[k * ROWS + r] = r < rows ? from[(size_t)k * stride + (size_t)r] : 0;
}

/* A tile of the last rows of a left factor, BY_ROWS -> (depth,ROWS); what has no source is zero. */
static TARGET void pack_last_rows(int depth, int rows, const struct left *left, float *to) {
    size_t at = 0;
    for (int k = 0, until = left->until; k < depth; k++, at++) {
        if (k == until) {
            at += left->jump;
            until += COLUMNS;
        }
        for (int r = 0; r < ROWS; r++)
            to[k * ROWS + r] = r < rows ? left->at[(size_t)r * left->stride + at] : 0;
    }
}

/* ---- the product ---- */

static float *left_scratch(const struct gemm_product *p) {
    return p->scratch;
}

static float *tile_scratch(const struct gemm_product *p) {
    return p->scratch + LEFT_FLOATS;
}

static float *panels_scratch(const struct gemm_product *p) {
    return p->scratch + LEFT_FLOATS + TILE_FLOATS;
}

static size_t place_of(bool in_panels, int rows, int columns, int row, int column) {
    return gemm_place(in_panels, (size_t)rows, (size_t)columns, (size_t)row, (size_t)column);
}

/* Floats from a row of a stored matrix to the next. */
static size_t stride_of(bool in_panels, int columns) {
    return in_panels ? COLUMNS : (size_t)columns;
}

/* A panel: columns n.. of terms k.. */
struct panel {
    int n, k, columns, vectors, depth;
};

static struct panel panel_at(const struct gemm_product *p, int n, int k, int depth) {
    int columns = min_int(p->N - n, COLUMNS);
    return (struct panel){.n = n,
                          .k = k,
                          .columns = columns,
                          .vectors = (columns + LANES - 1) / LANES,
                          .depth = min_int(p->K - k, depth)};
}

static size_t b_stride(const struct gemm_product *p) {
    return stride_of(p->b_in_panels, p->transpose_b ? p->K : p->N);
}

static const float *source_of(const struct gemm_product *p, const struct panel *panel) {
    return p->b + (p->transpose_b ? place_of(false, p->N, p->K, panel->n, panel->k)
                                  : place_of(p->b_in_panels, p->K, p->N, panel->k, panel->n));
}

static void pack_panel(const struct gemm_product *p, const struct panel *panel, float *to) {
    if (p->transpose_b)
        pack_transposed(panel->depth, panel->columns, panel->vectors, source_of(p, panel), b_stride(p), to);
    else
        pack_rows(0, panel->depth, panel->columns, source_of(p, panel), b_stride(p), to, 0);
}

/* What a tile asks for while it multiplies: `part` of `parts` of a panel's source, of COLUMNS rows or of each LINE_FLOATS rows. No panel: one that is near. */
static struct ahead ahead_of(const struct gemm_product *p, const struct panel *next, int part, int parts) {
    struct ahead ahead = {.at = (uintptr_t)panels_scratch(p), .left = (uintptr_t)panels_scratch(p)};
    if (next != NULL) {
        int rows = p->transpose_b ? COLUMNS : LINE_FLOATS, row = (int)((int64_t)part * rows / parts);
        ahead.at = (uintptr_t)source_of(p, next) + (size_t)row * b_stride(p) * sizeof(float);
        ahead.step = p->transpose_b ? LINE_FLOATS : LINE_FLOATS * b_stride(p);
        ahead.line = p->transpose_b ? b_stride(p) : LINE_FLOATS;
    }
    return ahead;
}

/* The tile of rows m... Through scratch where not all of its sums belong to c. */
static void multiply_rows(const struct gemm_product *p, const struct panel *panel, const float *packed_panel, int m,
                          enum order order, const struct left *left, struct ahead *ahead) {
    const int rows = min_int(p->M - m, ROWS), width = panel->vectors * LANES;
    const bool whole = rows == ROWS && panel->columns == width, last = panel->k + panel->depth == p->K;
    const size_t to = place_of(p->c_in_panels, p->M, p->N, m, panel->n), stride = stride_of(p->c_in_panels, p->N);
    const float *summed = panel->k > 0 ? p->c : p->base, *base = summed != NULL ? summed + to : NULL;
    const struct gemm_finish *finish = last ? p->finish : NULL;
    const struct left packed = {.at = left_scratch(p)};
    if (order == BY_ROWS && rows < ROWS) {
        pack_last_rows(panel->depth, rows, left, left_scratch(p));
        left = &packed;
        order = PACKED;
    }
    ahead->beside[0] = (uintptr_t)base;
    for (int i = 0; finish != NULL && i < GEMM_BESIDE; i++)
        ahead->beside[i] = (uintptr_t)finish->beside[i] + to * sizeof(float);
    tile_function *tile = tiles[order][panel->vectors - 1];
    if (finish != NULL && order == BY_ROWS && panel->vectors == VECTORS)
        tile = tile_finished;
    tile(panel->depth, left, packed_panel, whole ? base : NULL, whole ? p->c + to : tile_scratch(p),
         whole ? stride : (size_t)width, ahead);
    for (int r = 0; !whole && r < rows; r++)
        for (int j = 0; j < panel->columns; j++) {
            size_t at = (size_t)r * stride + (size_t)j;
            float sum = tile_scratch(p)[r * width + j];
            p->c[to + at] = base != NULL ? base[at] + sum : sum;
        }
    if (finish != NULL)
        finish->run(finish, rows, panel->columns, to, stride);
}

/* `total` in equal parts of at most `most`, whole lines of them. */
static int part_of(int total, int most) {
    int parts = (total + most - 1) / most;
    return min_int(((total + parts - 1) / parts + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS, most);
}

/* Rows m.. of the left factor from term k on. */
static struct left left_at(const struct gemm_product *p, int m, int k) {
    return (struct left){.at = p->a + place_of(p->a_in_panels, p->M, p->K, m, k),
                         .stride = stride_of(p->a_in_panels, p->K),
                         .jump = ((size_t)p->M - 1) * COLUMNS,
                         .until = p->a_in_panels ? COLUMNS - k % COLUMNS : INT_MAX};
}

/* All terms of a column of panels, then the next column. */
static void multiply(const struct gemm_product *p) {
    const int depth = part_of(p->K, DEPTH);
    struct panel panel = panel_at(p, 0, 0, depth), next = panel;
    for (bool more = true; more; panel = next) {
        pack_panel(p, &panel, panels_scratch(p));
        if (panel.k + panel.depth < p->K)
            next = panel_at(p, panel.n, panel.k + panel.depth, depth);
        else if (panel.n + panel.columns < p->N)
            next = panel_at(p, panel.n + panel.columns, 0, depth);
        else
            more = false;
        for (int m = 0; m < p->M; m += ROWS) {
            struct ahead ahead = ahead_of(p, more ? &next : NULL, m, p->M);
            const struct left left = left_at(p, m, panel.k);
            multiply_rows(p, &panel, panels_scratch(p), m, BY_ROWS, &left, &ahead);
        }
    }
}

/* Of a product whose left factor is stored as (K,M): panels of the columns n.. before `end` and the terms k.. before k_end, DEPTH_PACKED at a time. */
struct group {
    int n, end, k, k_end;
};

/* A panel's terms of all depths lie one behind the other. */
static float *panel_of_group(const struct gemm_product *p, const struct group *group, const struct panel *panel) {
    return panels_scratch(p) + (size_t)(panel->n - group->n) * (size_t)(group->k_end - group->k) +
           (size_t)(panel->k - group->k) * (size_t)(panel->vectors * LANES);
}

static void pack_group(const struct gemm_product *p, const struct group *group) {
    const size_t terms = (size_t)(group->k_end - group->k);
    const bool by_rows = !p->transpose_b && !p->b_in_panels;
    for (int k = group->k; k < group->k_end; k += DEPTH_PACKED) {
        const int depth = min_int(DEPTH_PACKED, group->k_end - k);
        struct panel panel = panel_at(p, group->n, k, depth);
        if (by_rows)
            pack_rows(k - group->k, depth, group->end - group->n, source_of(p, &panel), b_stride(p), panels_scratch(p),
                      terms * COLUMNS);
        for (int n = group->n; n < group->end && !by_rows; n += COLUMNS) {
            panel = panel_at(p, n, k, depth);
            pack_panel(p, &panel, panel_of_group(p, group, &panel));
        }
    }
}

/* Rows m.. and terms k.. of the transposed left factor: PACKED_ROWS and DEPTH_PACKED of them, or what there is. */
struct block {
    int m, k;
};

static size_t place_of_block(const struct gemm_product *p, struct block block) {
    return place_of(p->a_in_panels, p->K, p->M, block.k, block.m);
}

/* What is packed next, but for a group's last: it itself, which is near. */
static struct block next_block(const struct gemm_product *p, const struct group *group, struct block block) {
    if (block.k + DEPTH_PACKED < group->k_end)
        block.k += DEPTH_PACKED;
    else if (block.m + PACKED_ROWS < p->M)
        block = (struct block){.m = block.m + PACKED_ROWS, .k = group->k};
    return block;
}

static TARGET void pack_block(const struct gemm_product *p, struct block block, int rows, int depth, float *to) {
    const size_t stride = stride_of(p->a_in_panels, p->M), tile = (size_t)depth * ROWS;
    if (!p->a_in_panels) {
        pack_columns(4, depth, rows, p->a + place_of_block(p, block), stride, to); /* two whole lines of their source */
        return;
    }
    for (int row = 0; row < rows; row += LANES, block.m += LANES, to += LANES / ROWS * tile)
        pack_columns(2, depth, min_int(rows - row, LANES), p->a + place_of_block(p, block), stride, to);
}

/* A block, packed, passes by the panels. Meanwhile the next one comes nearer, one line of each of its terms with each panel; and with the last rows
 * the next group's panels. */
static void multiply_block(const struct gemm_product *p, const struct group *group, struct block block) {
    const int rows = min_int(p->M - block.m, PACKED_ROWS), depth = min_int(DEPTH_PACKED, group->k_end - block.k);
    const bool last = block.m + rows == p->M;
    const size_t stride = stride_of(p->a_in_panels, p->M);
    pack_block(p, block, rows, depth, left_scratch(p));
    struct block line = next_block(p, group, block);
    for (int n = group->n, i = 0; n < group->end; n += COLUMNS, i++, line.m += LINE_FLOATS) {
        const struct panel panel = panel_at(p, n, block.k, depth);
        const int next_n = n + group->end - group->n;
        const bool more = last && next_n < p->N;
        const struct panel next = panel_at(p, more ? next_n : n, block.k, depth);
        for (int row = 0; row < rows; row += ROWS) {
            struct ahead ahead = ahead_of(p, more ? &next : NULL, row, rows);
            if (i < PACKED_ROWS / LINE_FLOATS) {
                ahead.left =
                    (uintptr_t)p->a + (place_of_block(p, line) + (size_t)(row / ROWS) * stride) * sizeof(float);
                ahead.left_step = LINE_FLOATS * stride;
            }
            const struct left left = {.at = left_scratch(p) + (size_t)row * (size_t)depth};
            multiply_rows(p, &panel, panel_of_group(p, group, &panel), block.m + row, PACKED, &left, &ahead);
        }
    }
}

/* Equal groups of whole panels. */
static int columns_of_group(const struct gemm_product *p, int terms) {
    const int most = group_floats() / terms / COLUMNS, panels = (p->N + COLUMNS - 1) / COLUMNS,
              groups = (panels + most - 1) / most;
    return (panels + groups - 1) / groups * COLUMNS;
}

static void multiply_transposed(const struct gemm_product *p) {
    struct group group = {.k_end = 0};
    while (group.k_end < p->K) {
        group.k = group.k_end;
        group.k_end = min_int(p->K, group.k + group_floats() / COLUMNS / DEPTH_PACKED * DEPTH_PACKED);
        const int terms = group.k_end - group.k, columns = columns_of_group(p, terms);
        for (group.n = 0; group.n < p->N; group.n = group.end) {
            group.end = min_int(group.n + columns, p->N);
            pack_group(p, &group);
            for (int m = 0; m < p->M; m += PACKED_ROWS)
                for (int k = group.k; k < group.k_end; k += DEPTH_PACKED)
                    multiply_block(p, &group, (struct block){.m = m, .k = k});
        }
    }
}

void gemm_avx512(const struct gemm_product *p) {
    CHECK(gemm_avx512_works() && p->M >= 1 && p->N >= 1 && p->K >= 1 && !(p->transpose_b && p->b_in_panels));
    if (p->transpose_a)
        multiply_transposed(p);
    else
        multiply(p);
}

#else

bool gemm_avx512_works(void) {
    return false;
}

size_t gemm_avx512_scratch_floats(void) {
    return 0;
}

void gemm_avx512(const struct gemm_product *p) {
    (void)p;
    CHECK(!"AVX-512 products on this CPU");
}

#endif
