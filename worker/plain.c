#include "worker/plain.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "base/files.h"
#include "model/model_files.h"
#include "outer/run_header.h"
#include "worker/eval_log.h"
#include "worker/inner_loop.h"

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

static enum status train(struct inner_loop *loop, const struct run_file *run, struct error *error) {
    enum status status = STATUS_OK;
    while (status == STATUS_OK && stop_signals == 0 && loop->step < (uint64_t)run->inner.steps) {
        status = inner_loop_step(loop, error);
        if (status == STATUS_OK && run->eval.every_steps > 0 && loop->step % (uint64_t)run->eval.every_steps == 0 &&
            loop->step < (uint64_t)run->inner.steps)
            status = evaluate(loop, false, error);
    }
    if (status == STATUS_OK && stop_signals == 0)
        status = evaluate(loop, true, error);
    return status;
}

static enum status run_plain(const struct run_file *run, const char *directory, struct error *error) {
    char path[RUN_PATH_BYTES];
    struct log *log = NULL;
    struct inner_loop loop = {0};
    enum status status = files_make_directory(directory, 0755, error);
    if (status == STATUS_OK)
        status = files_lock(directory, error);
    files_join(path, sizeof path, directory, "log.jsonl");
    if (status == STATUS_OK)
        status = log_open(&log, path, error);
    if (status == STATUS_OK)
        status = inner_loop_open(&loop, run, log, 0, (struct evaluate_hook){not_stopped, NULL}, error);
    if (status != STATUS_OK) {
        inner_loop_close(&loop);
        log_close(log);
        return status;
    }
    struct run_header header = {
        .role = "plain", .node = "worker-0", .slot = 0, .run = run, .table = model_tensors(loop.model)};
    log_event(log, "header", run_header_json(&header));
    if (loop.held_out == NULL)
        log_say(LOG_LEVEL_WARN, "no held-out text (data.val): nothing will be evaluated");
    status = train(&loop, run, error);
    const char *reason = status != STATUS_OK ? error->text : stop_signals > 0 ? "stopped" : "trained to the end";
    end_log(&loop, reason, NULL, &NO_LINK);
    if (status == STATUS_OK) {
        files_join(path, sizeof path, directory, "model");
        status = model_files_save(path, &run->model, (enum tokenizer_kind)run->data.tokenizer,
                                  model_tensors(loop.model), model_parameters(loop.model), error);
    }
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
