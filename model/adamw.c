/* adamw: see adamw.h. */
#include "model/adamw.h"
#include <math.h>
#include "base/vector.h"

HOT_LOOP double adamw_squared_norm(size_t count, const float *gradients) {
    enum { DOUBLE_LANES = 16 };
    double lane[DOUBLE_LANES] = {0};
    size_t i = 0;
    for (; i + DOUBLE_LANES <= count; i += DOUBLE_LANES) {
        vector_prefetch(gradients + i, DOUBLE_LANES * sizeof *gradients);
        for (int j = 0; j < DOUBLE_LANES; j++)
            lane[j] += (double)gradients[i + (size_t)j] * (double)gradients[i + (size_t)j];
    }
    for (size_t j = 0; i + j < count; j++)
        lane[j] += (double)gradients[i + j] * (double)gradients[i + j];
    double sum = 0;
    for (int j = 0; j < DOUBLE_LANES; j++)
        sum += lane[j];
    return sum;
}

double adamw_clip_scale(double norm, double clip) {
    if (clip == 0)
        return 1;
    double scale = clip / (norm + 1e-6);
    return scale < 1 ? scale : 1;
}

static HOT_LOOP void update_range(size_t count, float *restrict p, const float *restrict g, float *restrict m,
                                  float *restrict v, float scale, float keep, float grow1, float b2, float grow2,
                                  float rate, float denominator_scale, float eps) {
    for (size_t i = 0; i < count; i++) {
        float gradient = g[i] * scale;
        m[i] = m[i] + grow1 * (gradient - m[i]);
        v[i] = b2 * v[i] + grow2 * gradient * gradient;
        p[i] = p[i] * keep - rate * m[i] / (sqrtf(v[i]) * denominator_scale + eps);
    }
}

void adamw_update(const struct adamw_step *step, size_t count, float *parameters, const float *gradients,
                  float *moment1, float *moment2) {
    double correction1 = 1 - pow(step->beta1, (double)step->step);
    double correction2 = 1 - pow(step->beta2, (double)step->step);
    update_range(count, parameters, gradients, moment1, moment2, (float)step->gradient_scale,
                 (float)(1 - step->lr * step->weight_decay), (float)(1 - step->beta1), (float)step->beta2,
                 (float)(1 - step->beta2), (float)(step->lr / correction1), (float)(1 / sqrt(correction2)),
                 (float)step->eps);
}
