/* lr_schedule: the learning rate of a step (declared in model.h). W = warmup_steps, T = steps, f = lr_end; steps count from 1. */
#include <math.h>
#include "base/check.h"
#include "model/model.h"

static const double pi = 3.14159265358979323846;

/* 1 at the first step after the warm-up, f at and past T. */
static double cosine_part(const struct inner_options *inner, int64_t step) {
    int64_t W = inner->warmup_steps, span = inner->steps - W;
    double f = inner->lr_end;
    double progress = span > 0 ? (double)(step - 1 - W) / (double)span : 1;
    if (progress > 1)
        progress = 1;
    return f + (1 - f) * (1 + cos(pi * progress)) / 2;
}

/* Warm-up, stable, decay: the last decay_part of the steps fall linearly and reach the floor at step T. */
static double wsd_part(const struct inner_options *inner, int64_t step) {
    double f = inner->lr_end, decay_steps = inner->decay_part * (double)inner->steps;
    double left = (double)(inner->steps - step);
    if (left >= decay_steps)
        return 1;
    return left <= 0 ? f : f + (1 - f) * left / decay_steps;
}

double lr_schedule_at(const struct inner_options *inner, int64_t step) {
    if (step <= inner->warmup_steps)
        return inner->lr * (double)step / (double)inner->warmup_steps;
    switch (inner->lr_schedule) {
    case LR_SCHEDULE_COSINE:
        return inner->lr * cosine_part(inner, step);
    case LR_SCHEDULE_WSD:
        return inner->lr * wsd_part(inner, step);
    default:
        CHECK(inner->lr_schedule == LR_SCHEDULE_CONSTANT);
        return inner->lr;
    }
}
