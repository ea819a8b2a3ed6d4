#include "worker/plain.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "base/files.h"
#include "model/model_files.h"
#include "outer/run_header.h"
#include "worker/eval_log.h"
#include "worker/inner_loop.h"
#include "worker/worker_store.h"

static volatile sig_atomic_t stop_signals;

static void on_stop_signal(int number) {
    (void)number;
    if (++stop_signals > 1)
        _Exit(143);
}

static bool not_stopped(void *context) {
    (void)context;
    return stop_signals == 0;
}

static const struct message_telemetry NO_LINK; /* nothing ever crosses one */

static enum status evaluate(struct inner_loop *loop, bool final, struct error *error) {
    struct evaluation evaluation;
    uint64_t took_us;
    if (loop->held_out == NULL)
        return STATUS_OK;
    enum status status = inner_loop_evaluate(loop, model_parameters(loop->model), &evaluation, &took_us, error);
    if (status == STATUS_OK)
        eval_log(loop, &evaluation, took_us, final, loop->step, loop->tokens, &NO_LINK);
    return status == STATUS_AGAIN && stop_signals > 0 ? STATUS_OK : status;
}

static const uint8_t NO_RUN[MESSAGE_HASH_BYTES];

static void checkpoint(struct inner_loop *loop, struct worker_store *store) {
    uint64_t started_us = clock_now_us();
    struct worker_image_sizes sizes = {.block_floats = model_tensors(loop->model)->block_floats};
    struct worker_image *image = worker_store_begin(store, &sizes);
    if (image == NULL)
        return;
    worker_image_from_loop(image, loop);
    run_file_keys_hash(loop->run, image->keys_hash);
    worker_store_write(store, clock_now_us() - started_us);
}

static enum status resume(struct inner_loop *loop, struct worker_store *store, const char *log_path,
                          struct error *error) {
    uint8_t keys_hash[RUN_KEYS_HASH_BYTES];
    const struct worker_image *image;
    struct worker_image_sizes sizes = {.block_floats = model_tensors(loop->model)->block_floats};
    uint64_t logged = worker_store_logged_tokens(log_path), generation = worker_store_generation(store);
    if (worker_store_found(store) == NULL)
        return STATUS_OK;
    run_file_keys_hash(loop->run, keys_hash);
    enum status status = worker_store_restore(store, &sizes, NO_RUN, keys_hash, &image, error);
    if (status != STATUS_OK)
        return status;
    worker_image_to_loop(image, loop);
    loop->tokens = logged > loop->tokens ? logged : loop->tokens;
    log_event(loop->log, "recover",
              json_pack("{s:s, s:I, s:I, s:I}", "what", "restart", "generation", (json_int_t)generation, "step",
                        (json_int_t)loop->step, "tokens", (json_int_t)loop->tokens));
    return STATUS_OK;
}

static enum status train(struct inner_loop *loop, const struct run_file *run, struct worker_store *store,
                         struct error *error) {
    enum status status = STATUS_OK;
    uint64_t every_us = run->checkpoint.every_us, next_us = clock_now_us() + every_us;
    while (status == STATUS_OK && stop_signals == 0 && loop->step < (uint64_t)run->inner.steps) {
        status = inner_loop_step(loop, error);
        if (status == STATUS_OK && run->eval.every_steps > 0 && loop->step % (uint64_t)run->eval.every_steps == 0 &&
            loop->step < (uint64_t)run->inner.steps)
            status = evaluate(loop, false, error);
        if (status == STATUS_OK && every_us > 0 && clock_now_us() >= next_us) {
            checkpoint(loop, store);
            next_us = clock_now_us() + every_us;
        }
    }
    if (status == STATUS_OK) {
        (void)worker_store_wait(store);
        checkpoint(loop, store);
    }
    if (status == STATUS_OK && stop_signals == 0)
        status = evaluate(loop, true, error);
    return status;
}

static enum status run_plain(const struct run_file *run, const char *directory, struct error *error) {
    char path[RUN_PATH_BYTES];
    struct log *log = NULL;
    struct inner_loop loop = {0};
    struct worker_store *store = NULL;
    enum status status = files_make_directory(directory, 0755, error);
    if (status == STATUS_OK)
        status = files_lock(directory, error);
    files_join(path, sizeof path, directory, "log.jsonl");
    if (status == STATUS_OK)
        status = log_open(&log, path, error);
    if (status == STATUS_OK)
        status = worker_store_open(directory, "plain", false, log, &store, error);
    if (status == STATUS_OK)
        status = inner_loop_open(&loop, run, log, 0, (struct evaluate_hook){not_stopped, NULL}, error);
    if (status == STATUS_OK) {
        struct run_header header = {
            .role = "plain", .node = "worker-0", .slot = 0, .run = run, .table = model_tensors(loop.model)};
        log_event(log, "header", run_header_json(&header));
        status = resume(&loop, store, path, error);
    }
    if (status != STATUS_OK) {
        worker_store_close(store);
        inner_loop_close(&loop);
        log_close(log);
        return status;
    }
    if (loop.held_out == NULL)
        log_say(LOG_LEVEL_WARN, "no held-out text (data.val): nothing will be evaluated");
    status = train(&loop, run, store, error);
    (void)worker_store_wait(store);
    const char *reason = status != STATUS_OK ? error->text : stop_signals > 0 ? "stopped" : "trained to the end";
    end_log(&loop, reason, NULL, &NO_LINK);
    if (status == STATUS_OK) {
        files_join(path, sizeof path, directory, "model");
        status = model_files_save(path, &run->model, (enum tokenizer_kind)run->data.tokenizer,
                                  model_tensors(loop.model), model_parameters(loop.model), error);
    }
    worker_store_close(store);
    inner_loop_close(&loop);
    log_close(log);
    return status;
}

int worker_plain(const struct run_file *run, const char *directory) {
    struct error error = {0};
    struct sigaction action = {.sa_handler = on_stop_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    enum status status = run_plain(run, directory, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "atoll train: %s\n", error.text);
    return status_exit_code(status);
}
