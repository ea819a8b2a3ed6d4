#include "experiments/progress.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/units.h"

enum { LIVE_US = 500000, PLAIN_US = 10000000 };

void progress_close(struct progress *progress) {
    progress_clear(progress);
    for (int k = 0; k < progress->workers; k++)
        if (progress->worker[k].open)
            run_log_reader_close(&progress->worker[k].reader);
}

void progress_gone(struct progress *progress, int worker, bool gone) {
    progress->worker[worker].gone = gone;
}

bool progress_started(const struct progress *progress) {
    return progress->first_us != 0;
}

void progress_clear(struct progress *progress) {
    if (progress->line_open)
        fputs("\r\033[K", stderr);
    progress->line_open = false;
}

void progress_restarted(struct progress *progress) {
    progress->restarts++;
}

bool progress_continues(const struct progress *progress) {
    return progress->history_tokens > 0;
}

/* A process counts from zero. */
static void take_header(struct progress_worker *worker) {
    worker->earlier.wire_up += worker->link.wire_up;
    worker->earlier.wire_down += worker->link.wire_down;
    worker->earlier.wait_us += worker->link.wait_us;
    memset(&worker->link, 0, sizeof worker->link);
}

static void take_record(struct progress *progress, struct progress_worker *worker,
                        const struct run_log_record *record) {
    switch (record->event) {
    case RUN_LOG_HEADER:
        take_header(worker);
        break;
    case RUN_LOG_STEP:
        worker->step = record->step.step;
        worker->tokens = record->step.tokens;
        worker->loss = record->step.loss;
        break;
    case RUN_LOG_EVAL:
        progress->held_out = record->eval.loss;
        progress->held_out_step = record->eval.step;
        break;
    case RUN_LOG_LINK:
        worker->link = record->link;
        break;
    default:
        break;
    }
}

static void follow(struct progress *progress, struct progress_worker *worker) {
    struct error error;
    struct run_log_record record;
    if (!worker->open)
        worker->open = run_log_reader_open(&worker->reader, worker->path, &error) == STATUS_OK;
    while (worker->open && run_log_reader_next(&worker->reader, &record))
        take_record(progress, worker, &record);
}

void progress_open(struct progress *progress, const char *directory, int workers, int64_t steps, bool quiet) {
    memset(progress, 0, sizeof *progress);
    progress->workers = workers;
    progress->steps = steps;
    progress->quiet = quiet;
    progress->live = isatty(STDERR_FILENO);
    progress->held_out = NAN;
    for (int k = 0; k < workers; k++) {
        snprintf(progress->worker[k].path, sizeof progress->worker[k].path, "%.4000s/worker-%d/log.jsonl", directory,
                 k);
        progress->worker[k].loss = NAN;
        follow(progress, &progress->worker[k]);
        progress->history_tokens += progress->worker[k].tokens;
        memset(&progress->worker[k].link, 0, sizeof progress->worker[k].link);
        memset(&progress->worker[k].earlier, 0, sizeof progress->worker[k].earlier);
    }
}

struct totals {
    int64_t step, tokens, wire_up, wire_down, wait_us;
    double loss;
};

/* Sums over the workers; the step of the slowest that still trains; means per worker. */
static struct totals total(const struct progress *progress) {
    struct totals t = {.step = INT64_MAX};
    int live = 0;
    for (int k = 0; k < progress->workers; k++)
        live += !progress->worker[k].gone;
    for (int k = 0; k < progress->workers; k++) {
        const struct progress_worker *worker = &progress->worker[k];
        t.tokens += worker->tokens;
        if (worker->gone && live > 0)
            continue;
        t.step = worker->step < t.step ? worker->step : t.step;
        t.wire_up += worker->earlier.wire_up + worker->link.wire_up;
        t.wire_down += worker->earlier.wire_down + worker->link.wire_down;
        t.wait_us += worker->earlier.wait_us + worker->link.wait_us;
        t.loss += worker->loss;
    }
    int count = live > 0 ? live : progress->workers;
    t.wire_up /= count;
    t.wire_down /= count;
    t.wait_us /= count;
    t.loss /= count;
    return t;
}

static void print_line(struct progress *progress, const struct totals *t, uint64_t now_us) {
    char up[UNITS_TEXT_BYTES], down[UNITS_TEXT_BYTES], left[UNITS_TEXT_BYTES] = "-", held_out[64] = "";
    double seconds = (double)(now_us - progress->first_us) / 1e6;
    double rate = seconds > 0 ? (double)(t->tokens - progress->first_tokens) / seconds : 0;
    int64_t tokens_per_step = t->step > 0 ? t->tokens / t->step : 0;
    if (rate > 0)
        units_format_duration((uint64_t)((double)((progress->steps - t->step) * tokens_per_step) / rate) * 1000000,
                              left);
    if (isfinite(progress->held_out))
        snprintf(held_out, sizeof held_out, "  held-out %.3f @%lld", progress->held_out,
                 (long long)progress->held_out_step);
    fprintf(stderr, "%sstep %lld/%lld  loss %.3f%s  %.1fk tokens/s", progress->live ? "\r" : "", (long long)t->step,
            (long long)progress->steps, t->loss, held_out, rate / 1e3);
    if (t->wire_up > 0)
        fprintf(stderr, "  per worker: up %s down %s wait %.1f %%", units_format_bytes((uint64_t)t->wire_up, up),
                units_format_bytes((uint64_t)t->wire_down, down), seconds > 0 ? (double)t->wait_us / 1e4 / seconds : 0);
    if (progress->restarts > 0)
        fprintf(stderr, "  restarts %d", progress->restarts);
    fprintf(stderr, "  %s left%s", left, progress->live ? "\033[K" : "\n");
    progress->line_open = progress->live;
}

void progress_tick(struct progress *progress, uint64_t now_us) {
    for (int k = 0; k < progress->workers; k++)
        follow(progress, &progress->worker[k]);
    struct totals t = total(progress);
    if (progress->first_us == 0 && t.tokens > progress->history_tokens) {
        progress->first_us = now_us;
        progress->first_tokens = t.tokens;
        progress->next_print_us = now_us + 2 * LIVE_US;
    }
    if (progress->quiet || progress->first_us == 0 || now_us < progress->next_print_us)
        return;
    progress->next_print_us = now_us + (progress->live ? LIVE_US : PLAIN_US);
    print_line(progress, &t, now_us);
}
