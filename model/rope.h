/* rope: rotary positions in the rotate-half form of GPT-NeoX and Qwen3: element i of the first half of a head pairs with element
 * i of the second half, angle(t, i) = t * theta^(-2i/D). arXiv 2104.09864. */
#ifndef ATOLL_MODEL_ROPE_H
#define ATOLL_MODEL_ROPE_H

#include <stddef.h>

/* rope_fill_table: cosine and sine (T, D/2) each, set. D even. Computed in double by libm, rounded once: tables of two machines may
 * differ in the last bit. */
void rope_fill_table(int T, int D, double theta, float *cosine, float *sine);

/* x (B,T,H,D) rotated in place at positions 0..T-1; the table has at least T rows. */
void rope_forward(int B, int T, int H, int D, const float *cosine, const float *sine, float *x);
/* dx (B,T,H,D): gradient of the rotated turned into the gradient of the unrotated, in place (the rotation by -angle). */
void rope_backward(int B, int T, int H, int D, const float *cosine, const float *sine, float *dx);

#endif
