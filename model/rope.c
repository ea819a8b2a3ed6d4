/* rope: see rope.h. */
#include "model/rope.h"
#include <math.h>
#include <string.h>
#include "base/vector.h"
#include "model/lanes.h"

/* Of the calling HOT_LOOP function only: outside it they would be compiled for the plainest instruction set. */
#define INLINE inline __attribute__((always_inline))

void rope_fill_table(int T, int D, double theta, float *cosine, float *sine) {
    int half = D / 2;
    for (int i = 0; i < half; i++) {
        double frequency = pow(theta, -2.0 * i / D);
        for (int t = 0; t < T; t++) {
            cosine[(size_t)t * (size_t)half + (size_t)i] = (float)cos(t * frequency);
            sine[(size_t)t * (size_t)half + (size_t)i] = (float)sin(t * frequency);
        }
    }
}

/* (a, b) -> (a cos - b sin, b cos + a sin) for the two halves of a head, normalized by scale and w. */
static INLINE void turn(int half, const float *c, const float *s, const float *in, const float *w, float scale,
                        float *restrict low, float *restrict high) {
    for (int i = 0; i < half; i++) {
        float a = in[i] * scale * w[i], b = in[i + half] * scale * w[i + half];
        low[i] = a * c[i] - b * s[i];
        high[i] = b * c[i] + a * s[i];
    }
}

static INLINE float scale_of(int D, float eps, const float *x) {
    return 1.0f / sqrtf(lanes_dot(D, x, x) / (float)D + eps);
}

static INLINE void forward_rows(int rows, int D, float eps, const float *cosine, const float *sine, const float *x,
                                size_t x_stride, const float *w, float *out, size_t out_stride) {
    const int half = D / 2;
    for (int row = 0; row < rows; row++, cosine += half, sine += half, x += x_stride, out += out_stride)
        turn(half, cosine, sine, x, w, scale_of(D, eps, x), out, out + half);
}

/* The usual sizes of a head as constants: its loops are then a few vectors without a remainder. */
HOT_LOOP void rope_forward(int rows, int D, float eps, const float *cosine, const float *sine, const float *x,
                           size_t x_stride, const float *w, float *out, size_t out_stride) {
    if (D == 32)
        forward_rows(rows, 32, eps, cosine, sine, x, x_stride, w, out, out_stride);
    else if (D == 64)
        forward_rows(rows, 64, eps, cosine, sine, x, x_stride, w, out, out_stride);
    else if (D == 128)
        forward_rows(rows, 128, eps, cosine, sine, x, x_stride, w, out, out_stride);
    else
        forward_rows(rows, D, eps, cosine, sine, x, x_stride, w, out, out_stride);
}

/* The rotation is orthogonal: its gradient is the rotation by -angle. */
static INLINE void turn_back(int half, const float *c, const float *s, const float *up, float *restrict low,
                             float *restrict high) {
    for (int i = 0; i < half; i++) {
        low[i] = up[i] * c[i] + up[i + half] * s[i];
        high[i] = up[i + half] * c[i] - up[i] * s[i];
    }
}

/* As in norm_backward. sum (D,): this row's part of dw added. */
static INLINE void norm_back(int D, float eps, const float *in, const float *w, const float *restrict up,
                             float *restrict weighted, float *restrict sum, float *restrict to) {
    for (int i = 0; i < D; i++)
        weighted[i] = up[i] * w[i];
    float scale = scale_of(D, eps, in), pull = scale * scale * (lanes_dot(D, weighted, in) / (float)D);
    for (int i = 0; i < D; i++) {
        sum[i] += up[i] * (in[i] * scale);
        to[i] = scale * (weighted[i] - in[i] * pull);
    }
}

static INLINE void backward_rows(int rows, int D, float eps, const float *cosine, const float *sine, const float *x,
                                 size_t x_stride, const float *w, const float *dout, size_t dout_stride, float *dx,
                                 size_t dx_stride, float *dw, float *scratch) {
    const int half = D / 2;
    float *sum = scratch, *up = scratch + D, *weighted = scratch + 2 * D;
    memset(sum, 0, (size_t)D * sizeof *sum);
    for (int row = 0; row < rows; row++, x += x_stride, dout += dout_stride, dx += dx_stride) {
        size_t table = (size_t)row * (size_t)half;
        turn_back(half, cosine + table, sine + table, dout, up, up + half);
        norm_back(D, eps, x, w, up, weighted, sum, dx);
    }
    for (int i = 0; i < D; i++)
        dw[i] += sum[i];
}

HOT_LOOP void rope_backward(int rows, int D, float eps, const float *cosine, const float *sine, const float *x,
                            size_t x_stride, const float *w, const float *dout, size_t dout_stride, float *dx,
                            size_t dx_stride, float *dw, float *scratch) {
    if (D == 32)
        backward_rows(rows, 32, eps, cosine, sine, x, x_stride, w, dout, dout_stride, dx, dx_stride, dw, scratch);
    else if (D == 64)
        backward_rows(rows, 64, eps, cosine, sine, x, x_stride, w, dout, dout_stride, dx, dx_stride, dw, scratch);
    else if (D == 128)
        backward_rows(rows, 128, eps, cosine, sine, x, x_stride, w, dout, dout_stride, dx, dx_stride, dw, scratch);
    else
        backward_rows(rows, D, eps, cosine, sine, x, x_stride, w, dout, dout_stride, dx, dx_stride, dw, scratch);
}
