/* worker_daemon: the island from its first session (island_join.c) on: coming back from a checkpoint, training, end. The main thread is the
 * compute thread. */
#include "worker/worker_daemon.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/files.h"
#include "base/units.h"
#include "outer/run_header.h"
#include "worker/eval_log.h"
#include "worker/island.h"

enum {
    DRAIN_US = 10000000, /* SIGTERM: for what is in flight */
    PROGRESS_US = 10000000,
    FAREWELL_US = 600000000, /* slower workers may still evaluate */
};

static volatile sig_atomic_t stop_signals;
static volatile int interrupted;

static void on_stop_signal(int number) {
    (void)number;
    interrupted = 1;
    if (++stop_signals > 1)
        _Exit(143);
}

static const struct option_row worker_rows[] = {
    OPTION_TEXT(struct worker_values, join, "join", 0, "TOKEN",
                "the token that the outer printed, a file that holds it, or - for standard input; a --dir that the run "
                "admitted before needs none"),
    OPTION_TEXT(
        struct worker_values, directory, "dir", 0, "D",
        "this worker's directory: key, log, checkpoints, and what it is told here, which its next starts go on with "
        "(own.json) (default runs/NAME-worker)"),
    OPTION_LIST(struct worker_values, data, "data", 0, "GLOB",
                "this worker's own training text instead of the run file's"),
    OPTION_LIST(struct worker_values, val, "val", 0, "GLOB", "this worker's own held-out text"),
    OPTION_TEXT(struct worker_values, name, "name", 0, "NAME",
                "what the outer and the logs call it (default: the directory's name)"),
    OPTION_LIST(struct worker_values, set, "set", 0, "KEY=VALUE",
                "change one node key: inner.threads, inner.precision, model.recompute, link.up, link.down"),
    OPTION_FLAG(struct worker_values, selftest, "selftest", 0, "test this machine's arithmetic, and leave"),
    OPTION_END,
};
static const struct option_command worker_options = {
    "worker", "train an island of a run", worker_rows,
    "Everything else comes from the run: model, schedule, place. Paste the line that `atoll outer` printed."};

/* ---- the island ---- */

static enum status write_run_file(const struct island *island, struct error *error) {
    char path[RUN_PATH_BYTES];
    char *text = run_file_text(&island->run, false, true);
    files_join(path, sizeof path, island->directory, "run.yaml");
    enum status status = files_write_atomic(path, text, strlen(text), 0644, error);
    free(text);
    return status;
}

static bool is_leaving(struct island *island) {
    char reason[MESSAGE_TEXT_BYTES];
    return interrupted || (island->sync != NULL && sync_thread_is_drained(island->sync, reason));
}

/* An evaluation may take longer than many rounds: what is due meanwhile is merged (it evaluates a copy). */
static bool between_batches(void *context) {
    struct island *island = context;
    if (island->sync != NULL)
        sync_thread_merge_now(island->sync);
    return !is_leaving(island);
}

/* Held-out text is optional: a worker without it trains all the same. */
static enum status open_loop(struct island *island, struct error *error) {
    struct run_file *run = &island->run;
    enum status status;
    if (run->data.val_count > 0) {
        struct run_file only_val = *run;
        only_val.data.train_count = 0;
        struct dataset *probe = NULL;
        status =
            dataset_open_held_out(&only_val.data, &run->model, run->base_directory, run->eval.windows, &probe, error);
        if (status == STATUS_OK) {
            dataset_close(probe);
        } else if (island->own.val.count > 0) {
            return status;
        } else {
            log_say(LOG_LEVEL_WARN, "no held-out text on this machine (%s)", error->text);
            run->data.val_count = 0;
        }
    }
    uint32_t slot = island->enrolment.admit.certificate.slot;
    if (island->own.data.count > 0) { /* a corpus of its own is used whole, not in parts */
        run->data.parts = 1;
        slot = 0;
    }
    status =
        inner_loop_open(&island->loop, run, island->log, slot, (struct evaluate_hook){between_batches, island}, error);
    if (status != STATUS_OK && island->own.data.count == 0)
        error_prefix(error, "no training text on this machine; give this worker its own with --data GLOB");
    return status;
}

static enum status open_island(struct island *island, struct error *error) {
    char path[RUN_PATH_BYTES];
    const struct run_file *run = &island->run;
    files_join(path, sizeof path, island->directory, "log.jsonl");
    enum status status = log_open(&island->log, path, error);
    if (status == STATUS_OK)
        status = write_run_file(island, error);
    if (status == STATUS_OK)
        status = open_loop(island, error);
    if (status == STATUS_OK)
        status = own_values_save(&island->own, island->directory, error); /* with them the island stands */
    if (status == STATUS_OK)
        island->own_is_unproved = false;
    if (status == STATUS_OK)
        status = run_sync_fragments(run, model_tensors(island->loop.model), &island->fragments, error);
    if (status == STATUS_OK)
        status = outer_copy_open(&island->copy, &island->fragments, run, model_parameters(island->loop.model), error);
    if (status == STATUS_OK)
        status = selftest_open((int)island->run.inner.threads, &island->selftest, error);
    if (status != STATUS_OK)
        return status;
    struct run_header header = {.role = "worker",
                                .node = island->name,
                                .slot = island->enrolment.admit.certificate.slot,
                                .run_id = island->enrolment.admit.certificate.run_id,
                                .run = run,
                                .table = model_tensors(island->loop.model),
                                .copy = &island->copy,
                                .up_bytes_per_s = island->up_bytes_per_s,
                                .down_bytes_per_s = island->down_bytes_per_s};
    log_event(island->log, "header", run_header_json(&header));
    return STATUS_OK;
}

/* From the checkpoint, when there is one; `tokens` is what was ever counted here. */
static enum status resume(struct island *island, const struct worker_image **image, uint64_t *tokens,
                          struct error *error) {
    char path[RUN_PATH_BYTES];
    uint64_t generation = worker_store_generation(island->store);
    files_join(path, sizeof path, island->directory, "log.jsonl");
    *tokens = worker_store_logged_tokens(path);
    worker_store_set_log(island->store, island->log);
    sync_thread_image_sizes(&island->copy, model_tensors(island->loop.model)->block_floats, &island->sizes);
    if (island->bears_state) {
        enum status status =
            worker_store_restore(island->store, &island->sizes, island->enrolment.admit.certificate.run_id,
                                 island->hello.keys_hash, image, error);
        if (status != STATUS_OK)
            return status;
        worker_image_to_loop(*image, &island->loop);
        *tokens = *tokens > (*image)->tokens ? *tokens : (*image)->tokens;
    }
    if (*tokens == 0)
        return STATUS_OK;
    log_say(LOG_LEVEL_INFO, "going on from step %llu, with %llu tokens counted", (unsigned long long)island->loop.step,
            (unsigned long long)*tokens);
    log_event(island->log, "recover",
              json_pack("{s:s, s:I, s:I, s:I}", "what", "restart", "generation", (json_int_t)generation, "step",
                        (json_int_t)island->loop.step, "tokens", (json_int_t)*tokens));
    return STATUS_OK;
}

static enum status start_sync(struct island *island, struct error *error) {
    struct sync_thread_options options = island_sync_options(island);
    options.theta = model_parameters(island->loop.model);
    options.moment1 = model_moment1(island->loop.model);
    options.moment2 = model_moment2(island->loop.model);
    options.ready.has_validation = island->loop.held_out != NULL;
    options.ready.tokens_per_step = inner_loop_tokens_per_step(&island->run);
    enum status status = resume(island, &options.resume, &options.tokens, error);
    if (status != STATUS_OK)
        return status;
    status = sync_thread_open(&options, &island->sync, error);
    if (status == STATUS_OK)
        island->link = NULL; /* the thread's now */
    island->loop.tokens = options.tokens;
    island->next_checkpoint_us = clock_now_us() + island->run.checkpoint.every_us;
    return status;
}

/* ---- training ---- */

static enum status evaluate(struct island *island, bool final, struct evaluation *evaluation, struct error *error) {
    struct message_telemetry telemetry;
    uint64_t took_us, run_step, run_tokens;
    outer_copy_to_block(&island->copy, island->loop.evaluated);
    sync_thread_run(island->sync, &run_step, &run_tokens); /* of the copy, not of the end of the evaluation */
    sync_thread_telemetry(island->sync, &telemetry);
    sync_thread_set_phase(island->sync, WORKER_EVALUATING);
    enum status status = inner_loop_evaluate(&island->loop, island->loop.evaluated, evaluation, &took_us, error);
    sync_thread_set_phase(island->sync, final ? WORKER_ENDING : WORKER_TRAINING);
    if (status != STATUS_OK)
        return status;
    sync_thread_set_eval(island->sync, run_step, evaluation->loss, island->loop.eval_us);
    eval_log(&island->loop, evaluation, took_us, final, run_step, run_tokens, &telemetry);
    return STATUS_OK;
}

/* Who was away goes on where the others are; who is slow in quorum mode takes their learning rate, and with inner.pace: time their step. */
static void follow_run_clock(struct island *island) {
    uint64_t clock = sync_thread_run_clock(island->sync), step = island->loop.step, run_tokens;
    uint64_t last = (uint64_t)island->run.inner.steps;
    sync_thread_run(island->sync, &island->loop.run_step, &run_tokens);
    clock = clock < last ? clock : last;
    if (clock <= step)
        return;
    island->loop.step = clock;
    if (island->run.inner.pace == INNER_PACE_TIME)
        return; /* it does so all the time */
    log_say(LOG_LEVEL_INFO, "the others are at step %llu: going on from there, not from %llu",
            (unsigned long long)clock, (unsigned long long)step);
    log_event(
        island->log, "recover",
        json_pack("{s:s, s:I, s:I}", "what", "run clock", "from_step", (json_int_t)step, "step", (json_int_t)clock));
}

/* The outer was started again: inner.steps and eval are the run's as of now, here and in run.yaml. Returns whether there are more steps. */
static bool take_continued(struct island *island) {
    struct run_file *run = &island->run;
    struct sync_continued continued;
    struct error error;
    if (!sync_thread_take_continued(island->sync, &continued))
        return false;
    bool more = continued.steps > run->inner.steps, windows = continued.eval.windows != run->eval.windows;
    if (continued.steps != run->inner.steps)
        log_say(LOG_LEVEL_INFO, "the run has %lld steps now, not %lld", (long long)continued.steps,
                (long long)run->inner.steps);
    run->inner.steps = continued.steps;
    run->eval = continued.eval;
    log_event(island->log, "recover",
              json_pack("{s:s, s:I, s:I}", "what", "run file", "step", (json_int_t)island->loop.step, "steps",
                        (json_int_t)continued.steps));
    if (write_run_file(island, &error) != STATUS_OK)
        log_say(LOG_LEVEL_WARN, "%s", error.text);
    if (windows && inner_loop_reopen_held_out(&island->loop, &error) != STATUS_OK)
        log_say(LOG_LEVEL_WARN, "evaluating as before: %s", error.text);
    return more;
}

/* What the run has no more is here alone, perhaps: it is not written over. false: it could not be kept, which the next time tries again. */
static bool keep_lost(struct island *island) {
    char kept[WORKER_STORE_KEPT_BYTES];
    uint64_t from, to;
    struct error error;
    if (sync_thread_take_lost(island->sync, &from, &to)) {
        island->lost_from = from;
        island->lost_to = to;
    }
    if (island->lost_from == 0)
        return true;
    enum status status = worker_store_set_aside(island->store, island->lost_from, kept, &error);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        log_say(LOG_LEVEL_WARN, "no checkpoint, since one of a lost branch cannot be set aside: %s", error.text);
        return false;
    }
    if (status == STATUS_OK) {
        log_say(
            LOG_LEVEL_WARN,
            "the run went back from step %llu to step %llu; what this worker had is kept in %s/%s. To go on from it "
            "instead: stop the outer and all workers, make it %s/checkpoint again, and start this worker and an "
            "outer (with --force) whose directory holds nothing but the run's keys/seed",
            (unsigned long long)island->lost_from, (unsigned long long)island->lost_to, island->directory, kept,
            island->directory);
        log_event(island->log, "recover",
                  json_pack("{s:s, s:I, s:I, s:s}", "what", "set aside", "from_step", (json_int_t)island->lost_from,
                            "step", (json_int_t)island->lost_to, "directory", kept));
    }
    island->lost_from = 0;
    return true;
}

/* At a step boundary. Training stands still for the copy, not for the write; while the one before is still being written nothing happens. */
static void checkpoint(struct island *island) {
    uint64_t started_us = clock_now_us();
    island->next_checkpoint_us = started_us + island->run.checkpoint.every_us;
    struct worker_image *image = keep_lost(island) ? worker_store_begin(island->store, &island->sizes) : NULL;
    if (image == NULL)
        return;
    sync_thread_save_begin(island->sync, image);
    worker_image_from_loop(image, &island->loop);
    bool whole = sync_thread_save_end(island->sync);
    image->tokens = sync_thread_tokens(island->sync);
    memcpy(image->run_id, island->enrolment.admit.certificate.run_id, sizeof image->run_id);
    memcpy(image->keys_hash, island->hello.keys_hash, sizeof image->keys_hash);
    if (whole)
        worker_store_write(island->store, clock_now_us() - started_us);
}

static void consider_checkpoint(struct island *island) {
    if (island->run.checkpoint.every_us > 0 && clock_now_us() >= island->next_checkpoint_us)
        checkpoint(island);
}

/* Before it leaves: what was trained is kept, unless the island itself went wrong. */
static void checkpoint_last(struct island *island) {
    struct error verdict;
    bool orderly;
    if (sync_thread_verdict(island->sync, &orderly, &verdict) != STATUS_OK && !orderly)
        return;
    (void)worker_store_wait(island->store);
    checkpoint(island);
}

/* A line now and then for who watches this machine. */
static void say_progress(struct island *island, uint64_t *next_us) {
    struct message_telemetry t;
    char up[UNITS_TEXT_BYTES], down[UNITS_TEXT_BYTES], wait[UNITS_TEXT_BYTES], left[UNITS_TEXT_BYTES];
    uint64_t now_us = clock_now_us(), steps = (uint64_t)island->run.inner.steps;
    if (now_us < *next_us)
        return;
    bool first = *next_us == 0;
    *next_us = now_us + PROGRESS_US;
    if (first)
        return;
    sync_thread_telemetry(island->sync, &t);
    double tokens_left =
        (double)(steps > t.step ? steps - t.step : 0) * (double)inner_loop_tokens_per_step(&island->run);
    log_say(LOG_LEVEL_INFO, "step %llu/%llu  loss %.3f  %.1fk tokens/s  up %s down %s  wait %s  %s left",
            (unsigned long long)t.step, (unsigned long long)steps, t.loss, t.tokens_per_s / 1e3,
            units_format_bytes(t.wire_up, up), units_format_bytes(t.wire_down, down),
            units_format_duration(t.wait_us, wait),
            t.tokens_per_s > 0 ? units_format_duration((uint64_t)(tokens_left / t.tokens_per_s * 1e6), left) : "-");
}

static enum status one_step(struct island *island, bool *go_on, struct error *error) {
    struct inner_loop *loop = &island->loop;
    uint64_t selftest = (uint64_t)island->run.worker.selftest;
    if (selftest > 0 && loop->step % selftest == 0 && loop->step > 0) {
        enum status status = selftest_run(island->selftest, error);
        if (status != STATUS_OK)
            return status;
    }
    loop->tokens = sync_thread_tokens(island->sync);
    enum status status = inner_loop_step(loop, error);
    if (status != STATUS_OK)
        return status;
    struct sync_stepped stepped = {.step = loop->step,
                                   .tokens = inner_loop_tokens_per_step(&island->run),
                                   .loss = loop->loss,
                                   .took_us = loop->step_us};
    *go_on = sync_thread_step(island->sync, &stepped); /* the verdict says why not */
    loop->tokens = sync_thread_tokens(island->sync);
    return STATUS_OK;
}

static enum status train(struct island *island, bool *complete, struct error *error) {
    uint64_t progress_us = 0;
    const struct run_file *run = &island->run;
    struct evaluation evaluation;
    enum status status = STATUS_OK;
    failpoint_hit("worker.train.begin");
    while (!is_leaving(island) && !sync_thread_is_ended(island->sync)) {
        (void)take_continued(island);
        uint64_t last = (uint64_t)run->inner.steps, every = (uint64_t)run->eval.every_steps;
        bool go_on = sync_thread_catch_up(island->sync);
        if (go_on)
            follow_run_clock(island);
        if (!go_on || island->loop.step >= last)
            break;
        status = one_step(island, &go_on, error);
        if (status != STATUS_OK || !go_on)
            return status;
        say_progress(island, &progress_us);
        bool due = every > 0 && island->loop.step % every == 0 && island->loop.step < last;
        if (due && island->loop.held_out != NULL && sync_thread_is_evaluator(island->sync)) {
            status = evaluate(island, false, &evaluation, error);
            if (status != STATUS_OK && !is_leaving(island))
                return status;
        }
        consider_checkpoint(island);
    }
    if (is_leaving(island)) {
        sync_thread_drain(island->sync, DRAIN_US);
    } else {
        sync_thread_set_phase(island->sync, WORKER_ENDING);
        *complete = sync_thread_finish(island->sync);
    }
    return STATUS_OK;
}

/* All versions are final: hash, evaluate where the text is, report. */
static enum status conclude(struct island *island, char state_hex[2 * STATE_HASH_BYTES + 1], struct error *error) {
    struct message_final final = {.eval_loss = NAN, .bits_per_byte = NAN};
    struct state_hash hash;
    enum status status = STATUS_OK;
    outer_copy_hash_all(&island->copy, &hash);
    memcpy(final.state_hash, hash.bytes, sizeof hash.bytes);
    bytes_to_hex(hash.bytes, sizeof hash.bytes, state_hex);
    bool evaluates = island->loop.held_out != NULL && sync_thread_is_evaluator(island->sync);
    do {
        if (evaluates) {
            struct evaluation evaluation;
            status = evaluate(island, true, &evaluation, error);
            if (status != STATUS_OK)
                return is_leaving(island) ? STATUS_OK : status; /* somebody else will */
            final.has_eval = true;
            final.eval_loss = evaluation.loss;
            final.bits_per_byte = evaluation.bits_per_byte;
            final.eval_windows = evaluation.windows;
        }
        bool can_evaluate = island->loop.held_out != NULL && !final.has_eval;
        evaluates = sync_thread_send_final(island->sync, &final, can_evaluate, FAREWELL_US);
    } while (evaluates);
    return status;
}

static enum status run_island(struct island *island, struct error *error) {
    char state_hex[2 * STATE_HASH_BYTES + 1] = "";
    bool complete = false, orderly = false;
    struct error verdict = {0};
    enum status status = STATUS_OK;
    bool started = sync_thread_wait_start(island->sync);
    do {
        complete = false;
        state_hex[0] = '\0';
        if (started)
            status = train(island, &complete, error);
        if (status == STATUS_OK)
            checkpoint_last(island);
        if (status == STATUS_OK && complete)
            status = conclude(island, state_hex, error);
    } while (status == STATUS_OK && started && !is_leaving(island) && take_continued(island));
    enum status stopped = sync_thread_verdict(island->sync, &orderly, &verdict);
    /* Who holds the final versions has done its part, also when the farewell is lost with the outer. */
    if (complete && stopped == STATUS_UNREACHABLE)
        log_say(LOG_LEVEL_WARN, "%s", verdict.text);
    else if (status == STATUS_OK && stopped != STATUS_OK)
        status = error_set(error, stopped, "%s", verdict.text);
    char drain_reason[MESSAGE_TEXT_BYTES];
    bool drained = sync_thread_is_drained(island->sync, drain_reason);
    const char *reason = status != STATUS_OK ? error->text
                         : complete          ? "trained to the end"
                         : orderly           ? verdict.text
                         : drained           ? drain_reason
                                             : "told to stop";
    struct message_telemetry telemetry;
    char goodbye[MESSAGE_TEXT_BYTES];
    snprintf(goodbye, sizeof goodbye, "%.500s", reason);
    for (char *c = goodbye; *c != 0; c++)
        *c = *c == '\n' ? ' ' : *c;
    sync_thread_close(island->sync, goodbye, &telemetry);
    island->sync = NULL;
    (void)worker_store_wait(island->store);
    end_log(&island->loop, reason, state_hex, &telemetry);
    log_say(status == STATUS_OK ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, "leaving after step %llu: %s",
            (unsigned long long)island->loop.step, reason);
    return status;
}

static void close_island(struct island *island) {
    if (island->link != NULL) {
        struct message goodbye = {
            .type = MESSAGE_GOODBYE, .session = island->session, .body.text.text = "could not start"};
        if (island->session != 0)
            (void)!worker_link_send(island->link, &goodbye);
        worker_link_close(island->link);
    }
    enrol_recovery_close(island->recovery);
    aside_wait(&island->closing_recovery);
    selftest_close(island->selftest);
    worker_store_close(island->store);
    inner_loop_close(&island->loop);
    outer_copy_close(&island->copy);
    fragments_destroy(&island->fragments);
    log_close(island->log);
    own_values_close(&island->own);
    keys_wipe(&island->keys);
    free(island);
}

int worker_command(int argc, char **argv) {
    struct worker_values values = {0};
    struct error error = {0};
    int exit_code;
    if (!options_or_exit(&worker_options, argc, argv, &values, &exit_code))
        return exit_code;
    if (values.selftest)
        return selftest_command();
    if (values.join == NULL && values.directory == NULL) {
        fprintf(stderr, "atoll worker: --join TOKEN is missing; paste the line that `atoll outer` printed, or give the "
                        "--dir of a worker that was admitted before\n");
        return status_exit_code(STATUS_USAGE);
    }
    keys_init();
    struct sigaction action = {.sa_handler = on_stop_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct island *island = calloc(1, sizeof *island);
    if (island == NULL)
        return status_exit_code(STATUS_NO_MEMORY);
    island->values = &values;
    island->interrupted = &interrupted;
    enum status status = island_get_admitted(island, &error);
    if (status == STATUS_OK)
        status = island_begin_session(island, &error);
    if (status == STATUS_OK)
        status = open_island(island, &error);
    if (status == STATUS_OK)
        status = start_sync(island, &error);
    if (status == STATUS_OK)
        status = run_island(island, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "atoll worker: %s\n", error.text);
    /* Who was not answered has not been told that they are wrong. */
    if (status != STATUS_OK && island->own_is_unproved && status != STATUS_AGAIN && status != STATUS_UNREACHABLE)
        own_values_forget(island->directory);
    close_island(island);
    /* Told to go while it waited for an answer: it did as it was told, as it does later on. */
    return interrupted && status == STATUS_AGAIN ? 0 : status_exit_code(status);
}
