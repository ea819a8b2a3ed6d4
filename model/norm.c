/* norm: see norm.h. */
#include "model/norm.h"
#include <stdbool.h>
#include <stddef.h>
#include "base/vector.h"
#include "model/lanes.h"

HOT_LOOP void norm_forward(int rows, int columns, float eps, const float *x, const float *w, float *out, float *rstd) {
    for (int row = 0; row < rows; row++) {
        const float *in = x + (size_t)row * (size_t)columns;
        float *to = out + (size_t)row * (size_t)columns;
        vector_prefetch(in, (size_t)columns * sizeof *in);
        vector_prefetch(to, (size_t)columns * sizeof *to);
        float scale = 1.0f / sqrtf(lanes_dot(columns, in, in) / (float)columns + eps);
        for (int c = 0; c < columns; c++)
            to[c] = in[c] * scale * w[c];
        if (rstd)
            rstd[row] = scale;
    }
}

/* Partial sums of dw over this many rows first: shorter chains of f32 additions, hence smaller rounding errors. */
enum { NORM_PARTIAL_ROWS = 64 };

/* With n = x * rstd:  dw = sum over rows of dout * n;  dx = rstd * (w * dout - n * mean(w * dout * n)). */
static inline void norm_backward_rows(int rows, int columns, const float *x, const float *w, const float *rstd,
                                      const float *dout, float *dx, float *dw, float *scratch, bool add) {
    for (int first = 0; first < rows; first += NORM_PARTIAL_ROWS) {
        int end = first + NORM_PARTIAL_ROWS < rows ? first + NORM_PARTIAL_ROWS : rows;
        memset(scratch, 0, (size_t)columns * sizeof *scratch);
        for (int row = first; row < end; row++) {
            const float *in = x + (size_t)row * (size_t)columns;
            const float *up = dout + (size_t)row * (size_t)columns;
            float *to = dx + (size_t)row * (size_t)columns;
            float scale = rstd[row];
            vector_prefetch(in, (size_t)columns * sizeof *in);
            vector_prefetch(up, (size_t)columns * sizeof *up);
            vector_prefetch(to, (size_t)columns * sizeof *to);
            float pull = scale * scale * (lanes_dot3(columns, up, w, in) / (float)columns);
            for (int c = 0; c < columns; c++) {
                float d = up[c];
                scratch[c] += d * (in[c] * scale);
                float gradient = scale * (w[c] * d - in[c] * pull);
                to[c] = add ? to[c] + gradient : gradient;
            }
        }
        for (int c = 0; c < columns; c++)
            dw[c] += scratch[c];
    }
}

HOT_LOOP void norm_backward(int rows, int columns, const float *x, const float *w, const float *rstd, const float *dout,
                            float *dx, float *dw, float *scratch) {
    norm_backward_rows(rows, columns, x, w, rstd, dout, dx, dw, scratch, false);
}

HOT_LOOP void norm_backward_add(int rows, int columns, const float *x, const float *w, const float *rstd,
                                const float *dout, float *dx, float *dw, float *scratch) {
    norm_backward_rows(rows, columns, x, w, rstd, dout, dx, dw, scratch, true);
}
