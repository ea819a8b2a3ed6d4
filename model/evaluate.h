/* evaluate: the loss of a parameter block over a held-out set. */
#ifndef ATOLL_MODEL_EVALUATE_H
#define ATOLL_MODEL_EVALUATE_H

#include <stdint.h>
#include "model/dataset.h"
#include "model/model.h"

struct evaluation {
    double loss;          /* mean cross-entropy, nats per token, without z-loss; may be non-finite */
    double bits_per_byte; /* NaN where a token is not a byte */
    uint64_t windows;
    uint64_t tokens; /* targets */
};

/* evaluate_held_out: forward passes of `parameters` (a block of model_tensors(model): the live ones or an outer copy) over all
 * windows of a held-out set of the model's context. Parameters, gradients and moments stay untouched. interrupted (may be NULL) is
 * polled: once it is not 0, STATUS_AGAIN and nothing in *evaluation. STATUS_NO_MEMORY. */
MUST_USE enum status evaluate_held_out(struct model *model, const float *parameters, const struct dataset *held_out,
                                       const volatile int *interrupted, struct evaluation *evaluation,
                                       struct error *error);

#endif
