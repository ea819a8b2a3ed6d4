/* rope: queries and keys made ready for attention in one pass: each head normalized (as in norm.h), then turned by its position, in the
 * rotate-half form of GPT-NeoX and Qwen3: element i of the first half of a head pairs with element i of the second half,
 * angle(t, i) = t * theta^(-2i/D). arXiv 2104.09864. */
#ifndef ATOLL_MODEL_ROPE_H
#define ATOLL_MODEL_ROPE_H

#include <stddef.h>

/* rope_fill_table: cosine and sine (T, D/2) each, set. D even. Computed in double by libm, rounded once: tables of two machines may
 * differ in the last bit. */
void rope_fill_table(int T, int D, double theta, float *cosine, float *sine);

/* x (B,T,H,D), w (D,) -> out (B,T,H,D), rstd (B,T,H), both SET: each head as by norm_forward, then rotated at its position 0..T-1; the table
 * has at least T rows. out overlaps no input. */
void rope_forward(int B, int T, int H, int D, float eps, const float *cosine, const float *sine, const float *x,
                  const float *w, float *out, float *rstd);
/* x, w, rstd as the forward pass had them; dout (B,T,H,D): gradient of out -> dw (D,) ADDED, dx (B,T,H,D) SET; dx may be dout.
 * scratch (2,D), contents lost. */
void rope_backward(int B, int T, int H, int D, const float *cosine, const float *sine, const float *x, const float *w,
                   const float *rstd, const float *dout, float *dx, float *dw, float *scratch);

#endif
