/* rope: see rope.h. */
#include "model/rope.h"
#include <math.h>
#include <string.h>
#include "base/vector.h"
#include "model/lanes.h"

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
static inline void turn(int half, const float *c, const float *s, const float *in, const float *w, float scale,
                        float *restrict low, float *restrict high) {
    for (int i = 0; i < half; i++) {
        float a = in[i] * scale * w[i], b = in[i + half] * scale * w[i + half];
        low[i] = a * c[i] - b * s[i];
        high[i] = b * c[i] + a * s[i];
    }
}

static inline void forward_rows(int B, int T, int H, int D, float eps, const float *cosine, const float *sine,
                                const float *x, const float *w, float *out, float *rstd) {
    const int half = D / 2;
    for (int row = 0; row < B * T; row++) {
        const float *c = cosine + (size_t)(row % T) * (size_t)half, *s = sine + (size_t)(row % T) * (size_t)half;
        for (int h = 0; h < H; h++) {
            size_t head = (size_t)row * (size_t)H + (size_t)h;
            const float *in = x + head * (size_t)D;
            float *to = out + head * (size_t)D;
            float scale = 1.0f / sqrtf(lanes_dot(D, in, in) / (float)D + eps);
            turn(half, c, s, in, w, scale, to, to + half);
            rstd[head] = scale;
        }
    }
}

/* The usual sizes of a head as constants: its loops are then a few vectors without a remainder. */
HOT_LOOP void rope_forward(int B, int T, int H, int D, float eps, const float *cosine, const float *sine,
                           const float *x, const float *w, float *out, float *rstd) {
    if (D == 32)
        forward_rows(B, T, H, 32, eps, cosine, sine, x, w, out, rstd);
    else if (D == 64)
        forward_rows(B, T, H, 64, eps, cosine, sine, x, w, out, rstd);
    else if (D == 128)
        forward_rows(B, T, H, 128, eps, cosine, sine, x, w, out, rstd);
    else
        forward_rows(B, T, H, D, eps, cosine, sine, x, w, out, rstd);
}

/* Partial sums of dw over about this many heads first: shorter chains of f32 additions, hence smaller rounding errors. */
enum { ROPE_PARTIAL_HEADS = 64 };

/* The rotation is orthogonal: its gradient is the rotation by -angle. */
static inline void turn_back(int half, const float *c, const float *s, const float *up, float *restrict low,
                             float *restrict high) {
    for (int i = 0; i < half; i++) {
        low[i] = up[i] * c[i] + up[i + half] * s[i];
        high[i] = up[i + half] * c[i] - up[i] * s[i];
    }
}

/* As in norm_backward. sum (D,): this head's part of dw added. */
static inline void norm_back(int D, const float *in, const float *w, float scale, const float *up, float *restrict sum,
                             float *restrict to) {
    float pull = scale * scale * (lanes_dot3(D, up, w, in) / (float)D);
    for (int i = 0; i < D; i++) {
        sum[i] += up[i] * (in[i] * scale);
        to[i] = scale * (w[i] * up[i] - in[i] * pull);
    }
}

static inline void backward_rows(int B, int T, int H, int D, const float *cosine, const float *sine, const float *x,
                                 const float *w, const float *rstd, const float *dout, float *dx, float *dw,
                                 float *scratch) {
    float *sum = scratch, *up = scratch + D;
    const int half = D / 2, rows = B * T, partial = H < ROPE_PARTIAL_HEADS ? ROPE_PARTIAL_HEADS / H : 1;
    for (int first = 0; first < rows; first += partial) {
        int end = first + partial < rows ? first + partial : rows;
        memset(sum, 0, (size_t)D * sizeof *sum);
        for (int row = first; row < end; row++) {
            size_t table = (size_t)(row % T) * (size_t)half;
            for (int h = 0; h < H; h++) {
                size_t head = (size_t)row * (size_t)H + (size_t)h, at = head * (size_t)D;
                turn_back(half, cosine + table, sine + table, dout + at, up, up + half);
                norm_back(D, x + at, w, rstd[head], up, sum, dx + at);
            }
        }
        for (int i = 0; i < D; i++)
            dw[i] += sum[i];
    }
}

HOT_LOOP void rope_backward(int B, int T, int H, int D, const float *cosine, const float *sine, const float *x,
                            const float *w, const float *rstd, const float *dout, float *dx, float *dw,
                            float *scratch) {
    if (D == 32)
        backward_rows(B, T, H, 32, cosine, sine, x, w, rstd, dout, dx, dw, scratch);
    else if (D == 64)
        backward_rows(B, T, H, 64, cosine, sine, x, w, rstd, dout, dx, dw, scratch);
    else if (D == 128)
        backward_rows(B, T, H, 128, cosine, sine, x, w, rstd, dout, dx, dw, scratch);
    else
        backward_rows(B, T, H, D, cosine, sine, x, w, rstd, dout, dx, dw, scratch);
}
