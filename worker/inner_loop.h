/* inner_loop: the island's own training: draw windows, add gradients, update; and evaluate. Shared by the worker and by the plain
 * trainer (sync: off). Knows nothing of sync. */
#ifndef ATOLL_WORKER_INNER_LOOP_H
#define ATOLL_WORKER_INNER_LOOP_H

#include "base/log.h"
#include "model/dataset.h"
#include "model/evaluate.h"
#include "model/model.h"
#include "outer/run_file.h"

enum { INNER_SKIPS_MAX = 10 };

struct inner_loop {
    const struct run_file *run; /* borrowed */
    struct evaluate_hook hook;  /* of evaluations */
    struct log *log;            /* borrowed */
    struct model *model;
    struct dataset *train;
    struct dataset *held_out; /* NULL: no held-out text here */
    int32_t *windows;         /* (batch_per_worker, context + 1) */
    float *evaluated;         /* a block, where an outer copy is unpacked for evaluation */
    uint64_t step;
    uint64_t run_step; /* R, when it is ahead of step: the learning rate follows it */
    uint64_t
        tokens; /* processed so far by this worker; never goes back; with sync the sync machine's counter is the truth */
    uint64_t step_us; /* the newest step took so long, drawn out to inner.min_step_time */
    uint64_t compute_us;
    uint64_t eval_us;
    double loss; /* of the newest step */
    int skipped_in_a_row;
};

/* inner_loop_open: model from the run's seed, the part of the corpus of `slot`. STATUS_CONFIG, STATUS_NO_MEMORY... with text. */
MUST_USE enum status inner_loop_open(struct inner_loop *loop, const struct run_file *run, struct log *log,
                                     uint32_t slot, struct evaluate_hook hook, struct error *error);
void inner_loop_close(struct inner_loop *loop);

/* One optimizer step; logs it; takes inner.min_step_time at least (what it sleeps is not compute). STATUS_NOT_FINITE after ten steps in a row without a finite loss and gradient.
 * STATUS_DATA, STATUS_IO: the text was cut, rewritten or cannot be read any more; the step was not made, but
 * the gradients may hold a part of it: a checkpoint may be written, another step not be made. */
MUST_USE enum status inner_loop_step(struct inner_loop *loop, struct error *error);

/* Held-out loss of `parameters` (a block). STATUS_NOT_FOUND without held-out text, STATUS_AGAIN when the hook ended it. Adds to eval_us; the caller logs. */
MUST_USE enum status inner_loop_evaluate(struct inner_loop *loop, const float *parameters,
                                         struct evaluation *evaluation, uint64_t *took_us, struct error *error);

/* run->eval.windows has changed: the held-out windows anew, where there are any. On failure those from before stay. */
MUST_USE enum status inner_loop_reopen_held_out(struct inner_loop *loop, struct error *error);

uint64_t inner_loop_tokens_per_step(const struct run_file *run);

#endif
