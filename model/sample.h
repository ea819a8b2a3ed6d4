/* sample: continue a row of tokens with a model. The whole context is computed again for each token; the window slides when the
 * row is longer than the context. The same seed, parameters and BLAS give the same tokens. */
#ifndef ATOLL_MODEL_SAMPLE_H
#define ATOLL_MODEL_SAMPLE_H

#include <stdint.h>
#include "model/model.h"

struct sample_options {
    double temperature; /* >= 0; 0 takes the likeliest token */
    int64_t top_k;      /* only the k likeliest; 0 = all */
    uint64_t seed;
};

struct sampler;

/* sample_open: scratch for a model; the model must outlive it. STATUS_NO_MEMORY; STATUS_USAGE for options out of range. */
MUST_USE enum status sample_open(struct model *model, const struct sample_options *options, struct sampler **sampler,
                                 struct error *error);
void sample_close(struct sampler *sampler);

/* sample_next: the token that follows tokens (count,), count >= 1, under `parameters`. Its random number depends on seed and
 * count only. Logits that are not finite count as impossible; when all are, token 0. */
int32_t sample_next(struct sampler *sampler, const float *parameters, const int32_t *tokens, int64_t count);

#endif
