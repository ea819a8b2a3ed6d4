/* sync_machine: what a worker sends, merges and waits for. Pure: sync_step(machine, event, actions); no socket, clock, file, thread
 * or allocation. The compute thread and the sync thread feed it under one lock, the simulator feeds it directly.
 *
 * In a step t, after the inner update (H = every_steps, tau = overlap_steps):
 *
 *     STEP t ---> SEND due fragments ---> merges: COUNTED at exactly t_send + tau (strict) or when ready (auto)
 *                                         SHIFT for a commit that does not count this worker
 *                                         WAIT when a merge is due and its commit is not here: call BOUNDARY again when it came
 *
 * A record is one send in flight; per fragment there is at most one. Only an applied commit resolves it, or a refusal:
 *
 *            SEND              READY, counts it                MERGED
 *     none --------> in flight -----------------> ready -----------------> none, tokens up to it are applied
 *                        |      READY, does not count it, SHIFT done
 *                        |-----------------------------------------> stays, or EXPIRE when version - base > stale: the work stays in
 *                        |                                           g - theta and the next send covers it
 *                        |      REFUSED (its content was bad)
 *                        '-----------------------------------------> none; RESET: theta = g, its tokens are dropped
 *
 * Tokens. Commits carry this slot's mark: the upper end of its newest applied interval. A commit whose mark is that of the record counts
 * it. A mark that rose otherwise counts what this process has no record of: the send of an earlier process on the same directory, or
 * one that was given up after a jump; it COVERS the work that was there before (theta is mixed, the residual is lost). `work` is what
 * the local copy holds and no applied commit does: the weight of the next send. It may be less than tokens - mark: what died with an
 * earlier process, or was counted on a branch that the run does not contain, is in the counter but not in the copy.
 *
 * A process that starts from an older checkpoint and has trained nothing since may send with the very numbers of an earlier process's last
 * send. Which of the two a commit counts makes no difference for the tokens: all of the record may be in the other one, and is settled.
 *
 * A READY may jump over versions (a fetched snapshot), also to another branch. A record stays in flight as long as the outer would take it,
 * and keeps what it has of it: it begins at the mark of the ready version, and is not stale.
 *
 * The end (t = T): records in flight are resolved and merged; fragments with unsent steps are sent once more; their commits are TAKEn
 * (outer copy only, no mix); then DONE. Commits of slower workers go on being TAKEn.
 *
 * Invariants at every event: work <= tokens, a record's tokens <= work, its interval begins at the mark and ends at or below the counter; a
 * send is measured from the newest merged outer copy (a ready commit that does not count us is shifted in before the send). */
#ifndef ATOLL_WORKER_SYNC_MACHINE_H
#define ATOLL_WORKER_SYNC_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/message.h"
#include "outer/schedule.h"

enum { SYNC_ACTIONS_MAX = 5 * MESSAGE_FRAGMENTS_MAX };

struct sync_machine_options {
    struct schedule schedule;
    bool strict;            /* overlap_steps is a number: merge at exactly t + overlap_steps */
    uint64_t overlap_steps; /* strict only, 0 .. every_steps - 1 */
    uint64_t drift;         /* not strict: steps past a send after which training waits for its commit */
    uint64_t stale;         /* run_sync_stale: the outer takes a record while version - base <= stale */
    /* Quorum all: a due step is one round for all; who comes back behind the others does not send for those that have
     * passed, or it would wait for others who wait for it. */
    bool lockstep;
};

enum sync_phase {
    SYNC_PHASE_TRAINING,
    SYNC_PHASE_RESOLVING, /* t = T: records in flight are merged */
    SYNC_PHASE_LAST,      /* the last sends are in flight */
    SYNC_PHASE_DONE,      /* nothing unsent, nothing in flight */
};

enum sync_event_kind {
    SYNC_EVENT_STEP,     /* step, tokens (of this step): an inner update is done. Answer: sends, then merges or WAIT */
    SYNC_EVENT_BOUNDARY, /* again, after WAIT: the merges that are still due */
    SYNC_EVENT_END, /* training stops here (t = T, or told to stop): like BOUNDARY, call again after WAIT until DONE */
    SYNC_EVENT_READY, /* fragment, version, mark, run_step, jump: the new outer copy is prepared aside, its hash was right */
    SYNC_EVENT_MERGED,  /* fragment: COUNTED, COVERED, SHIFT or TAKE was carried out */
    SYNC_EVENT_REFUSED, /* fragment, version = base: the outer refused the record's content */
    SYNC_EVENT_COUNTER, /* tokens: the run saw this worker's counter so high (an earlier process): it goes on from there */
};

struct sync_event {
    enum sync_event_kind kind;
    uint64_t step;
    uint64_t tokens;
    uint32_t fragment;
    uint64_t version;
    uint64_t mark;     /* READY: of this slot in the commit's totals; 0 = none */
    uint64_t run_step; /* READY: of the commit */
    bool jump;         /* READY: a snapshot, not the commit that follows version */
};

enum sync_action_kind {
    SYNC_ACTION_SEND, /* fragment, version = base, tokens_from, tokens_to, tokens: difference g - theta, then off to the sync thread */
    SYNC_ACTION_COUNTED, /* fragment: theta = alpha theta + (1 - alpha) g_new; e = (1 - alpha) e' */
    SYNC_ACTION_COVERED, /* fragment: theta = g_new + alpha (theta - g); e = 0, since what the codec lost in that send is not known here */
    SYNC_ACTION_SHIFT,  /* fragment: theta += g_new - g */
    SYNC_ACTION_TAKE,   /* fragment: g = g_new, theta untouched */
    SYNC_ACTION_EXPIRE, /* fragment: the record in flight will never count; e as before that send */
    SYNC_ACTION_RESET,  /* fragment: theta = g, e = 0, non-finite moments = 0 */
    SYNC_ACTION_WAIT,   /* fragment: stand still until its commit is ready */
    SYNC_ACTION_DONE,   /* everything is sent and applied */
};

struct sync_action {
    enum sync_action_kind kind;
    uint32_t fragment;
    uint64_t version;
    uint64_t step; /* SEND: the send step */
    uint64_t tokens_from;
    uint64_t tokens_to;
    uint64_t tokens; /* SEND: the weight; RESET: what is dropped */
};

struct sync_actions {
    uint32_t count;
    struct sync_action list[SYNC_ACTIONS_MAX];
};

struct sync_record {
    bool active;
    uint64_t base;
    uint64_t step;
    uint64_t tokens_from;
    uint64_t tokens_to;
    uint64_t tokens;
    bool behind_ready; /* measured from the ready copy, whose merge was given in the same step */
};

struct sync_fragment {
    uint64_t version;  /* of the outer copy that theta was last merged with */
    uint64_t run_step; /* of the newest commit: the largest send step that it counts */
    uint64_t mark;     /* of this slot in the merged version */
    uint64_t work;     /* tokens of local work that no applied commit holds, those of the record included */
    uint64_t orphaned; /* the part of work that may be in a send of which this process has no record */
    struct sync_record record;
    bool ready; /* a newer outer copy is prepared */
    uint64_t ready_version;
    uint64_t ready_mark;
    bool merging; /* an action was given, MERGED awaited */
    bool refused; /* the record is to be RESET at the next boundary */
};

struct sync_machine {
    struct sync_machine_options options;
    enum sync_phase phase;
    uint64_t step;
    uint64_t tokens; /* this worker's counter */
    bool done_given;
    struct sync_fragment fragments[MESSAGE_FRAGMENTS_MAX];
};

void sync_open(struct sync_machine *machine, const struct sync_machine_options *options);

/* sync_resume: as sync_open, with the steps, tokens and fragments that a checkpoint holds (version, run_step, mark, work, record of
 * `saved`; the phase begins anew). The records' payloads must have been saved with them. false: what is saved contradicts itself. */
bool sync_resume(struct sync_machine *machine, const struct sync_machine_options *options, uint64_t step,
                 uint64_t tokens, const struct sync_fragment *saved);

/* Appends to `actions` (the caller zeroes the count). Actions are carried out in order; each COUNTED, COVERED, SHIFT or TAKE is followed by a
 * MERGED event before the next STEP, BOUNDARY or END. */
void sync_step(struct sync_machine *machine, const struct sync_event *event, struct sync_actions *actions);

/* After END the run was given more steps: the machine trains again. What was sent last is in flight like any other send, and merged when it
 * counts. */
void sync_go_on(struct sync_machine *machine);

/* The step to go on from. The run clock R is the largest send step that a commit counts. A worker that returns or joins (`returning`)
 * goes on from R. In lockstep also one that the others went on without, but not past a due step that no commit has passed, where
 * this worker is waited for. Else the own step. */
uint64_t sync_run_clock(const struct sync_machine *machine, bool returning);

/* The fragment's record in flight can count no more once the ready copy is merged: it is not offered any more. */
bool sync_record_is_doomed(const struct sync_machine *machine, uint32_t fragment);

/* What JOINED says: expected in rounds of later steps, and in those whose records are still in flight. */
uint64_t sync_joined_step(const struct sync_machine *machine);

/* Invariant 3 of the worker's side; also CHECKed inside. */
bool sync_ledger_check(const struct sync_machine *machine);

/* Tokens of the fragment that no applied commit holds and no record in flight covers. */
uint64_t sync_unsent_tokens(const struct sync_machine *machine, uint32_t fragment);

#endif
