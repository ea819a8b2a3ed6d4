/* norm: RMSNorm over the last axis, scaled by w (not 1 + w): out = x * w / sqrt(mean(x^2) + eps). arXiv 1910.07467.
 * For the residual stream (columns = C); for the heads of q and k it is part of rope.h. */
#ifndef ATOLL_MODEL_NORM_H
#define ATOLL_MODEL_NORM_H

/* x (rows,columns), w (columns,) -> out (rows,columns), set. rstd (rows,) = 1/sqrt(mean(x^2) + eps), set; NULL when no backward
 * follows. out may be x. */
void norm_forward(int rows, int columns, float eps, const float *x, const float *w, float *out, float *rstd);

/* x, w, rstd as the forward pass had them; dout (rows,columns) -> dw (columns,) ADDED; dx (rows,columns) SET, or ADDED by
 * norm_backward_add (the residual stream). dx may be dout in norm_backward. scratch (columns,), contents lost. */
void norm_backward(int rows, int columns, const float *x, const float *w, const float *rstd, const float *dout,
                   float *dx, float *dw, float *scratch);
void norm_backward_add(int rows, int columns, const float *x, const float *w, const float *rstd, const float *dout,
                       float *dx, float *dw, float *scratch);

#endif
