/* step_pace: inner.pace: time. A slow island does fewer inner steps per round, so that its send falls together with the others'. Pure.
 *
 * The run clock goes on at the others' rate: commits raise R, and between them it is projected. The island's own inner step takes as long as
 * `stride` steps of that clock. Its step number follows the clock, so it skips numbers:
 *
 *     clock       100 101 102 103 104 105 106 107 108 109 110        a fragment is due at 110, stride 4
 *     own step    101             105             110                each is one inner step; the weight of the send is its tokens
 *
 * A due step that no commit has passed is never skipped: the inner step whose end lies nearest to it takes its number. An island that keeps
 * up (stride at most 1) skips nothing but what a commit has passed. */
#ifndef ATOLL_WORKER_STEP_PACE_H
#define ATOLL_WORKER_STEP_PACE_H

#include <stdint.h>

struct step_pace {
    double own_us;    /* of one inner step here, smoothed; 0 = none yet */
    double passed_us; /* so much time for so many steps of the run clock, older ones weighing less; 0 = not known yet */
    double passed_steps;
    uint64_t run_step; /* R, and when it was seen first; 0 = not by a commit that was new when it came */
    uint64_t run_step_us;
};

/* An inner step took so long (without waiting). */
void step_pace_note_own(struct step_pace *pace, uint64_t took_us);
/* A commit of this run_step is here; a run_step that is not larger than before is nothing new. */
void step_pace_note_run(struct step_pace *pace, uint64_t run_step, uint64_t now_us);
/* It has caught up with a run: the commits seen until now came faster than they were made. */
void step_pace_caught_up(struct step_pace *pace);
/* The number to go on from (the next inner step is one more). step: the own one; due: the first due step after it that no commit has passed
 * and at which this island has something to send. At least `step`, less than `due` unless `step` is not. */
uint64_t step_pace_next(const struct step_pace *pace, uint64_t step, uint64_t due, uint64_t now_us);

#endif
