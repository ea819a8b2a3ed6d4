/* progress: what a person sees while a local run trains: one live line on a terminal, plain lines elsewhere. All numbers come from the
 * workers' log.jsonl, which are followed while they are written. Of a run that is continued, what is in the logs at the begin is history:
 * steps and tokens go on from there, bytes and waits are those since. */
#ifndef ATOLL_EXPERIMENTS_PROGRESS_H
#define ATOLL_EXPERIMENTS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/message.h"
#include "experiments/run_log_reader.h"

struct progress_worker {
    char path[4096]; /* its log.jsonl */
    bool open;
    bool gone; /* its process ended: it holds nobody back any more */
    struct run_log_reader reader;
    int64_t step, tokens;
    double loss;
    struct run_log_link link; /* of the present process */
    struct {
        int64_t wire_up, wire_down, wait_us;
    } earlier; /* of those before it */
};

struct progress {
    int workers;
    int64_t steps; /* to train */
    bool quiet, live;
    int64_t history_tokens; /* trained before the begin */
    int restarts;
    uint64_t first_us; /* the first step since the begin was seen */
    int64_t first_tokens;
    uint64_t next_print_us;
    bool line_open; /* the live line stands on the terminal */
    double held_out;
    int64_t held_out_step;
    struct progress_worker worker[MESSAGE_WORKERS_MAX];
};

/* directory/worker-K/log.jsonl for K < workers. Progress goes to stderr. */
void progress_open(struct progress *progress, const char *directory, int workers, int64_t steps, bool quiet);
void progress_close(struct progress *progress);

/* Read what is new, print when it is time. */
void progress_tick(struct progress *progress, uint64_t now_us);
/* Clear the live line, so that something else can be printed. */
void progress_clear(struct progress *progress);
/* The process of worker K has ended. */
void progress_gone(struct progress *progress, int worker, bool gone);
/* A child was started again. */
void progress_restarted(struct progress *progress);
/* Some worker has trained a step since progress_open; progress_continues: one had before. */
bool progress_started(const struct progress *progress);
bool progress_continues(const struct progress *progress);

#endif
