/* attention: see attention.h. A head of q, k or v is a (T,D) matrix with rows H*D or K*D floats apart, so that the products run on
 * it where it lies. Keys to the right of a tile's last query are never touched. */
#include "model/attention.h"
#include "base/vector.h"
#include "model/gemm.h"
#include "model/lanes.h"

enum { ATTENTION_TILE = 64 }; /* queries of one tile */

/* Rows of a tile of scores start LANES-aligned, so that a row can be walked in whole lanes. */
static int score_stride(int T) {
    return (T + LANES - 1) / LANES * LANES;
}

size_t attention_scratch_floats(int T) {
    return 2 * (size_t)ATTENTION_TILE * (size_t)score_stride(T);
}

/* scores (rows, stride): row r keeps keys 0..first+r and becomes its softmax without the division; zero up to `width` keys.
 * inverse_sum (rows,), lse (rows,) set. */
static HOT_LOOP void softmax_tile(int rows, int first, int width, int stride, float *scores, float *inverse_sum,
                                  float *lse) {
    for (int r = 0; r < rows; r++) {
        float *s = scores + (size_t)r * (size_t)stride;
        int keys = first + r + 1;
        int padded = (keys + LANES - 1) / LANES * LANES;
        for (int i = keys; i < padded; i++)
            s[i] = -INFINITY;
        float largest = lanes_max(padded, s);
        float lane[LANES] = {0};
        for (int i = 0; i < padded; i += LANES)
            for (int j = 0; j < LANES; j++) {
                float e = lanes_exp(s[i + j] - largest);
                s[i + j] = e;
                lane[j] += e;
            }
        for (int i = padded; i < width; i++)
            s[i] = 0;
        float sum = lanes_fold(lane);
        inverse_sum[r] = 1.0f / sum;
        lse[r] = largest + logf(sum);
    }
}

static HOT_LOOP void scale_rows(int rows, int columns, int stride, const float *factor, float *x) {
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            x[(size_t)r * (size_t)stride + (size_t)c] *= factor[r];
}

void attention_forward(struct attention_sizes sizes, const float *q, const float *k, const float *v, float *out,
                       float *lse, float *scratch) {
    const int T = sizes.T, H = sizes.H, K = sizes.K, D = sizes.D, stride = score_stride(T);
    const float scale = 1.0f / sqrtf((float)D);
    for (int b = 0; b < sizes.B; b++)
        for (int h = 0; h < H; h++) {
            size_t kv = ((size_t)b * (size_t)T * (size_t)K + (size_t)(h / (H / K))) * (size_t)D;
            for (int first = 0; first < T; first += ATTENTION_TILE) {
                int rows = T - first < ATTENTION_TILE ? T - first : ATTENTION_TILE, keys = first + rows;
                size_t at = (((size_t)b * (size_t)T + (size_t)first) * (size_t)H + (size_t)h) * (size_t)D;
                float inverse_sum[ATTENTION_TILE];
                gemm(false, true, rows, keys, D, scale, q + at, H * D, k + kv, K * D, 0, scratch, stride);
                softmax_tile(rows, first, keys, stride, scratch, inverse_sum,
                             lse + ((size_t)b * (size_t)H + (size_t)h) * (size_t)T + (size_t)first);
                gemm(false, false, rows, D, keys, 1, scratch, stride, v + kv, K * D, 0, out + at, H * D);
                scale_rows(rows, D, H * D, inverse_sum, out + at);
            }
        }
}

/* scores -> probabilities p = exp(score - lse), masked; dp -> ds = p * (dp - delta) * scale, with delta = sum of dout * out of a row. */
static HOT_LOOP void softmax_tile_backward(int rows, int first, int width, int stride, float scale, const float *lse,
                                           const float *delta, float *restrict scores, float *restrict dp) {
    for (int r = 0; r < rows; r++) {
        float *restrict s = scores + (size_t)r * (size_t)stride;
        float *restrict d = dp + (size_t)r * (size_t)stride;
        int keys = first + r + 1;
        for (int i = 0; i < keys; i++) {
            float p = lanes_exp(s[i] - lse[r]);
            s[i] = p;
            d[i] = p * (d[i] - delta[r]) * scale;
        }
        for (int i = keys; i < width; i++) {
            s[i] = 0;
            d[i] = 0;
        }
    }
}

static HOT_LOOP void dot_rows(int rows, int columns, int stride, const float *a, const float *b, float *dots) {
    for (int r = 0; r < rows; r++)
        dots[r] = lanes_dot(columns, a + (size_t)r * (size_t)stride, b + (size_t)r * (size_t)stride);
}

void attention_backward(struct attention_sizes sizes, const float *q, const float *k, const float *v, const float *out,
                        const float *lse, const float *dout, float *dq, float *dk, float *dv, float *scratch) {
    const int T = sizes.T, H = sizes.H, K = sizes.K, D = sizes.D, stride = score_stride(T);
    const float scale = 1.0f / sqrtf((float)D);
    float *scores = scratch, *dscores = scratch + (size_t)ATTENTION_TILE * (size_t)stride;
    size_t kv_floats = (size_t)sizes.B * (size_t)T * (size_t)K * (size_t)D;
    memset(dk, 0, kv_floats * sizeof *dk);
    memset(dv, 0, kv_floats * sizeof *dv);
    for (int b = 0; b < sizes.B; b++)
        for (int h = 0; h < H; h++) {
            size_t kv = ((size_t)b * (size_t)T * (size_t)K + (size_t)(h / (H / K))) * (size_t)D;
            for (int first = 0; first < T; first += ATTENTION_TILE) {
                int rows = T - first < ATTENTION_TILE ? T - first : ATTENTION_TILE, keys = first + rows;
                size_t at = (((size_t)b * (size_t)T + (size_t)first) * (size_t)H + (size_t)h) * (size_t)D;
                float delta[ATTENTION_TILE];
                dot_rows(rows, D, H * D, out + at, dout + at, delta);
                gemm(false, true, rows, keys, D, scale, q + at, H * D, k + kv, K * D, 0, scores, stride);
                gemm(false, true, rows, keys, D, 1, dout + at, H * D, v + kv, K * D, 0, dscores, stride);
                softmax_tile_backward(rows, first, keys, stride, scale,
                                      lse + ((size_t)b * (size_t)H + (size_t)h) * (size_t)T + (size_t)first, delta,
                                      scores, dscores);
                gemm(true, false, keys, D, rows, 1, scores, stride, dout + at, H * D, 1, dv + kv, K * D);
                gemm(false, false, rows, D, keys, 1, dscores, stride, k + kv, K * D, 0, dq + at, H * D);
                gemm(true, false, keys, D, rows, 1, dscores, stride, q + at, H * D, 1, dk + kv, K * D);
            }
        }
}
