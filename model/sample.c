/* sample: see sample.h. */
#include "model/sample.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include "base/check.h"
#include "base/rng.h"

struct candidate {
    float logit;
    int32_t token;
};

struct sampler {
    struct model *model;
    struct sample_options options;
    float *logits;                /* (context, V) */
    struct candidate *candidates; /* (V,) */
};

static const uint64_t SAMPLE_STREAM = UINT64_C(2) << 40;

enum status sample_open(struct model *model, const struct sample_options *options, struct sampler **sampler,
                        struct error *error) {
    if (!(isfinite(options->temperature) && options->temperature >= 0))
        return error_set(error, STATUS_USAGE, "temperature: %g is not 0 or a number above 0", options->temperature);
    if (options->top_k < 0)
        return error_set(error, STATUS_USAGE, "top-k: %" PRId64 " is below 0 (0 takes all tokens)", options->top_k);
    const struct shape *shape = model_shape(model);
    struct sampler *made = calloc(1, sizeof *made);
    if (made) {
        *made = (struct sampler){.model = model,
                                 .options = *options,
                                 .logits = malloc((size_t)shape->context * (size_t)shape->vocab * sizeof *made->logits),
                                 .candidates = malloc((size_t)shape->vocab * sizeof *made->candidates)};
    }
    if (!made || !made->logits || !made->candidates) {
        sample_close(made);
        return error_set(error, STATUS_NO_MEMORY, "no memory for the logits of %" PRId64 " positions", shape->context);
    }
    *sampler = made;
    return STATUS_OK;
}

void sample_close(struct sampler *sampler) {
    if (!sampler)
        return;
    free(sampler->logits);
    free(sampler->candidates);
    free(sampler);
}

/* Likeliest first; equal logits by token, so that the order is one whatever qsort does. */
static int compare_candidates(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->token < y->token ? -1 : x->token > y->token;
}

int32_t sample_next(struct sampler *s, const float *parameters, const int32_t *tokens, int64_t count) {
    const struct shape *shape = model_shape(s->model);
    CHECK(count >= 1);
    int T = (int)(count < shape->context ? count : shape->context);
    model_logits(s->model, parameters, tokens + (count - T), T, s->logits);
    const float *last = s->logits + (size_t)(T - 1) * (size_t)shape->vocab;
    size_t kept = 0;
    for (int32_t token = 0; token < shape->vocab; token++)
        if (isfinite(last[token]))
            s->candidates[kept++] = (struct candidate){.logit = last[token], .token = token};
    if (kept == 0)
        return 0;
    qsort(s->candidates, kept, sizeof *s->candidates, compare_candidates);
    if (s->options.temperature == 0)
        return s->candidates[0].token;
    if (s->options.top_k > 0 && (uint64_t)s->options.top_k < kept)
        kept = (size_t)s->options.top_k;
    double top = (double)s->candidates[0].logit, sum = 0;
    for (size_t i = 0; i < kept; i++)
        sum += exp(((double)s->candidates[i].logit - top) / s->options.temperature);
    double left = sum * (double)rng_uniform(s->options.seed, SAMPLE_STREAM, (uint64_t)count);
    for (size_t i = 0; i < kept; i++) {
        left -= exp(((double)s->candidates[i].logit - top) / s->options.temperature);
        if (left < 0)
            return s->candidates[i].token;
    }
    return s->candidates[kept - 1].token;
}
