/* progress: what a person sees while a local run trains: one live line on a terminal, plain lines elsewhere. All numbers come from the
 * workers' log.jsonl, which are followed while they are written. */
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
    struct run_log_link link;
};

struct progress {
    int workers;
    int64_t steps; /* to train */
    bool quiet, live;
    uint64_t first_us; /* the first step was seen */
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
/* Some worker has trained a step. */
bool progress_started(const struct progress *progress);

#endif
