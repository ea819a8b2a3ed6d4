#include "worker/inner_loop.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/arena.h"
#include "base/clock.h"

uint64_t inner_loop_tokens_per_step(const struct run_file *run) {
    return (uint64_t)(run->inner.batch_per_worker * run->inner.accumulate * run->model.context);
}

static enum status open_data(struct inner_loop *loop, uint32_t slot, struct error *error) {
    const struct run_file *run = loop->run;
    const char *base = run->base_directory;
    if (run->data.train_count == 0)
        return error_set(error, STATUS_CONFIG,
                         "data.train: no training text; name some in the run file, or give --data GLOB");
    int64_t parts = run->data.parts > 0 ? run->data.parts : run->workers;
    enum status status = dataset_open_train(&run->data, &run->model, base, slot % parts, parts,
                                            (uint64_t)run->inner.seed, &loop->train, error);
    if (status == STATUS_OK && run->data.val_count > 0)
        status = dataset_open_held_out(&run->data, &run->model, base, run->eval.windows, &loop->held_out, error);
    return status;
}

enum status inner_loop_open(struct inner_loop *loop, const struct run_file *run, struct log *log, uint32_t slot,
                            struct evaluate_hook hook, struct error *error) {
    *loop = (struct inner_loop){.run = run, .log = log, .hook = hook, .loss = NAN};
    enum status status = open_data(loop, slot, error);
    if (status != STATUS_OK)
        return status;
    struct model_options options = {.shape = run->model, .inner = run->inner};
    status = model_create(&options, &loop->model, error);
    if (status != STATUS_OK)
        return status;
    size_t block_bytes = model_tensors(loop->model)->block_floats * sizeof(float);
    size_t windows = (size_t)(run->inner.batch_per_worker * (run->model.context + 1));
    loop->windows = malloc(windows * sizeof *loop->windows);
    loop->evaluated =
        aligned_alloc(ARENA_ALIGNMENT, (block_bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT);
    if (loop->windows == NULL || loop->evaluated == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for batches and evaluation");
    memset(loop->evaluated, 0, block_bytes);
    return STATUS_OK;
}

void inner_loop_close(struct inner_loop *loop) {
    if (loop->model != NULL)
        model_destroy(loop->model);
    if (loop->train != NULL)
        dataset_close(loop->train);
    if (loop->held_out != NULL)
        dataset_close(loop->held_out);
    free(loop->windows);
    free(loop->evaluated);
    memset(loop, 0, sizeof *loop);
}

enum status inner_loop_reopen_held_out(struct inner_loop *loop, struct error *error) {
    const struct run_file *run = loop->run;
    struct dataset *anew;
    if (loop->held_out == NULL)
        return STATUS_OK;
    enum status status =
        dataset_open_held_out(&run->data, &run->model, run->base_directory, run->eval.windows, &anew, error);
    if (status != STATUS_OK)
        return status;
    dataset_close(loop->held_out);
    loop->held_out = anew;
    return STATUS_OK;
}

static void sleep_us(uint64_t us) {
    struct timespec time = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000 * 1000)};
    nanosleep(&time, NULL); /* a signal may end it: then somebody wants this process to leave */
}

enum status inner_loop_step(struct inner_loop *loop, struct error *error) {
    const struct inner_options *inner = &loop->run->inner;
    uint64_t started_us = clock_now_us();
    uint64_t cursor = dataset_cursor(loop->train);
    double loss = 0;
    for (int64_t i = 0; i < inner->accumulate; i++) {
        enum status status = dataset_next(loop->train, (int)inner->batch_per_worker, loop->windows, error);
        if (status != STATUS_OK) {
            dataset_set_cursor(loop->train, cursor);
            return status;
        }
        loss += model_add_gradients(loop->model, loop->windows, (int)inner->batch_per_worker,
                                    (int)loop->run->model.context, (float)(1.0 / (double)inner->accumulate));
    }
    loss /= (double)inner->accumulate;
    loop->step++;
    uint64_t clock = loop->run_step > loop->step ? loop->run_step : loop->step;
    double lr = lr_schedule_at(inner, (int64_t)clock);
    struct update_result update = model_apply_update(loop->model, (float)lr, isfinite(loss));
    loop->tokens += inner_loop_tokens_per_step(loop->run);
    loop->loss = loss;
    uint64_t took_us = clock_now_us() - started_us;
    loop->compute_us += took_us;
    log_event(loop->log, "step",
              json_pack("{s:I, s:o, s:o, s:f, s:I, s:I, s:b}", "step", (json_int_t)loop->step, "loss", log_real(loss),
                        "grad_norm", log_real(update.gradient_norm), "lr", lr, "tokens", (json_int_t)loop->tokens,
                        "compute_us", (json_int_t)took_us, "applied", update.applied));
    if (took_us < inner->min_step_us)
        sleep_us(inner->min_step_us - took_us);
    loop->step_us = clock_now_us() - started_us;
    loop->skipped_in_a_row = update.applied ? 0 : loop->skipped_in_a_row + 1;
    if (loop->skipped_in_a_row >= INNER_SKIPS_MAX)
        return error_set(error, STATUS_NOT_FINITE,
                         "%d steps in a row had no finite loss or gradient (the last: step %llu); lower inner.lr or "
                         "raise inner.warmup_steps",
                         INNER_SKIPS_MAX, (unsigned long long)loop->step);
    return STATUS_OK;
}

enum status inner_loop_evaluate(struct inner_loop *loop, const float *parameters, struct evaluation *evaluation,
                                uint64_t *took_us, struct error *error) {
    if (loop->held_out == NULL)
        return error_set(error, STATUS_NOT_FOUND, "no held-out text on this worker");
    uint64_t started_us = clock_now_us();
    enum status status = evaluate_held_out(loop->model, parameters, loop->held_out,
                                           loop->hook.go_on != NULL ? &loop->hook : NULL, evaluation, error);
    *took_us = clock_now_us() - started_us;
    loop->eval_us += *took_us;
    return status;
}
