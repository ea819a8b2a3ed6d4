/* evaluate: the loss of a parameter block over a held-out set. */
#ifndef ATOLL_MODEL_EVALUATE_H
#define ATOLL_MODEL_EVALUATE_H

#include <stdbool.h>
#include <stdint.h>
#include "model/dataset.h"
#include "model/model.h"

struct evaluation {
    double loss;          /* mean cross-entropy, nats per token, without z-loss; may be non-finite */
    double bits_per_byte; /* NaN where a token is not a byte */
    uint64_t windows;
    uint64_t tokens; /* targets */
};

/* Called between two batches of an evaluation, which may take minutes: false ends it. */
struct evaluate_hook {
    bool (*go_on)(void *context);
    void *context;
};

/* evaluate_held_out: forward passes of `parameters` (a block of model_tensors(model): the live ones or an outer copy) over all
 * windows of a held-out set of the model's context. Parameters, gradients and moments stay untouched. hook may be NULL. STATUS_AGAIN: the
 * hook said stop, nothing is in *evaluation. STATUS_NO_MEMORY; STATUS_DATA, STATUS_IO as dataset_window. */
MUST_USE enum status evaluate_held_out(struct model *model, const float *parameters, const struct dataset *held_out,
                                       const struct evaluate_hook *hook, struct evaluation *evaluation,
                                       struct error *error);

#endif
