/* step_pace: inner.pace: time. A slow island does fewer inner steps per round, so that its send falls together with the others'. Pure.
 *
 * The run clock goes on at the others' rate: commits raise R, and between them it is projected. The island's own inner step takes as long as
 * `stride` steps of that clock. Its step number follows the clock, so it skips numbers:
 *
 *     clock       100 101 102 103 104 105 106 107 108 109 110        a fragment is due at 110, stride 4
 *     own step    101             105             110                each is one inner step; the weight of the send is its tokens
 *
 * A due step that no commit has passed is never skipped: the first inner step that ends when the clock is there takes its number. None
 * takes it earlier: a quorum of slow islands would hurry the clock. An island that keeps up skips nothing but what a commit has passed.
 *
 * Between commits the clock goes at R's own rate, but from where the work stands of the member that did most: the tokens that commits count for it,
 * in inner steps. R alone would run away: where it has risen by numbers that all skipped (a burst of commits after an outage of the outer), it would
 * say that the run is fast, all would skip more, and the run would end untrained. */
#ifndef ATOLL_WORKER_STEP_PACE_H
#define ATOLL_WORKER_STEP_PACE_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/message.h"

/* What commits have counted for one member. */
struct step_pace_member {
    uint64_t applied; /* tokens, of the fragment that is furthest */
    double reached;   /* its work as a number of the run clock, at most R; 0 = not measured yet */
};

struct step_pace {
    double own_us;        /* of one inner step here, smoothed; 0 = none yet */
    uint64_t step_tokens; /* of one inner step, here and everywhere; 0 = not known yet */
    uint64_t run_step;    /* R, and when it was seen first; 0 = not since it is measured */
    uint64_t run_step_us;
    double passed_us; /* so much time for so many steps of the run clock, older ones weighing less; 0 = not known yet */
    double passed_steps;
    bool seen[MESSAGE_FRAGMENTS_MAX];                     /* a commit of it has come since the run was caught up with */
    bool measures;                                        /* one has come for the second time */
    struct step_pace_member members[MESSAGE_WORKERS_MAX]; /* by slot */
};

/* An inner step of so many tokens took so long (without waiting). */
void step_pace_note_own(struct step_pace *pace, uint64_t took_us, uint64_t tokens);
/* A commit is here: its run_step and totals. What is not larger than before is nothing new. */
void step_pace_note_commit(struct step_pace *pace, const struct commit *commit, uint64_t now_us);
/* It has caught up with a run: the commits seen until now came faster than they were made, and so may those of the rounds that are open: the
 * clock is measured from the first fragment's second commit on. */
void step_pace_caught_up(struct step_pace *pace);
/* The number to go on from (the next inner step is one more). step: the own one; due: the first due step after it that no commit has passed
 * and at which this island has something to send. At least `step`, less than `due` unless `step` is not. */
uint64_t step_pace_next(const struct step_pace *pace, uint64_t step, uint64_t due, uint64_t now_us);

#endif
