/* adamw: AdamW with decoupled decay (arXiv 1711.05101), in the order of operations of PyTorch's torch.optim.AdamW. */
#ifndef ATOLL_MODEL_ADAMW_H
#define ATOLL_MODEL_ADAMW_H

#include <stddef.h>
#include <stdint.h>

/* Sum of squares of (count,), in double: finite exactly when all values are. */
double adamw_squared_norm(size_t count, const float *gradients);

/* min(1, clip / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_; 1 when clip is 0 (off). */
double adamw_clip_scale(double norm, double clip);

struct adamw_step {
    double lr;
    double weight_decay; /* of this range of parameters: 0 for 1-D tensors */
    double beta1, beta2, eps;
    double gradient_scale; /* the clip */
    uint64_t step;         /* 1-based, for the bias correction */
};

/* One update of (count,) floats in one pass: parameters, moment1, moment2 changed. With g = gradient_scale * gradient:
 *   p *= 1 - lr*wd;  m += (1-b1)(g - m);  v = b2 v + (1-b2) g^2;  p -= lr/(1-b1^t) * m / (sqrt(v)/sqrt(1-b2^t) + eps) */
void adamw_update(const struct adamw_step *step, size_t count, float *parameters, const float *gradients,
                  float *moment1, float *moment2);

#endif
