/* rope: heads of queries or keys made ready for attention: each normalized (as in norm.h), then turned by its position, in the
 * rotate-half form of GPT-NeoX and Qwen3: element i of the first half of a head pairs with element i of the second half,
 * angle(t, i) = t * theta^(-2i/D). arXiv 2104.09864. */
#ifndef ATOLL_MODEL_ROPE_H
#define ATOLL_MODEL_ROPE_H

#include <stddef.h>

/* rope_fill_table: cosine and sine (T, D/2) each, set. D even. Computed in double by libm, rounded once: tables of two machines may
 * differ in the last bit. */
void rope_fill_table(int T, int D, double theta, float *cosine, float *sine);

/* One head at `rows` positions in a row, of which cosine and sine (rows,D/2) are the table's; strides: floats from one position to the next.
 * x (rows,D), w (D,) -> out (rows,D) SET. out overlaps no input. */
void rope_forward(int rows, int D, float eps, const float *cosine, const float *sine, const float *x, size_t x_stride,
                  const float *w, float *out, size_t out_stride);
/* x, w as the forward pass had them; dout (rows,D): gradient of out -> dx (rows,D) SET, dw (D,) ADDED. dw gets the sum over the rows at once: with
 * some 64 of them, chains of f32 additions stay short and rounding errors small. dx overlaps no input. scratch (3,D), contents lost. */
void rope_backward(int rows, int D, float eps, const float *cosine, const float *sine, const float *x, size_t x_stride,
                   const float *w, const float *dout, size_t dout_stride, float *dx, size_t dx_stride, float *dw,
                   float *scratch);

#endif
