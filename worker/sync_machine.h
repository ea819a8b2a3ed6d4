/* sync_machine: what a worker sends, merges and waits for. Pure: sync_step(machine, event, actions); no socket, clock, file, thread
 * or allocation. The compute thread and the sync thread feed it under one lock, the simulator feeds it directly.
 *
 * In a step t, after the inner update (H = every_steps, tau = overlap_steps):
 *
 *     STEP t ---> SEND due fragments ---> merges: COUNTED at exactly t_send + tau (strict) or when ready (auto)
 *                                         SHIFT for a commit that does not count this worker
 *                                         WAIT when a merge is due and its commit is not here: call BOUNDARY again when it came
 *
 * A record is one send in flight; per fragment there is at most one. Only an applied commit resolves it:
 *
 *            SEND              READY, counts me                MERGED
 *     none --------> in flight -----------------> ready -----------------> none, tokens up to it are applied
 *                        |      READY, does not count me, SHIFT done
 *                        |-----------------------------------------> stays, or EXPIRE when version - base > stale: the work stays in
 *                                                                    g - theta and the next send covers it
 *
 * The end (t = T): records in flight are resolved and merged; fragments with unsent steps are sent once more; their commits are TAKEn
 * (outer copy only, no mix); then DONE. Commits of slower workers go on being TAKEn.
 *
 * Invariants: tokens processed = unsent + in flight + applied per fragment at every event; a send is measured from the newest merged
 * outer copy (a ready commit that does not count us is shifted in before the send). */
#ifndef ATOLL_WORKER_SYNC_MACHINE_H
#define ATOLL_WORKER_SYNC_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/message.h"
#include "outer/schedule.h"

enum { SYNC_ACTIONS_MAX = 4 * MESSAGE_FRAGMENTS_MAX };

struct sync_machine_options {
    struct schedule schedule;
    bool strict;            /* overlap_steps is a number: merge at exactly t + overlap_steps */
    uint64_t overlap_steps; /* strict only, 0 .. every_steps - 1 */
    uint64_t stale;         /* 0 in strict mode, else 2 */
    bool
        lockstep; /* quorum all: a due step is one round for all; who comes back behind the others does not send for those
                             * that have passed, or it would wait for others who wait for it */
};

enum sync_phase {
    SYNC_PHASE_TRAINING,
    SYNC_PHASE_RESOLVING, /* t = T: records in flight are merged */
    SYNC_PHASE_LAST,      /* the last sends are in flight */
    SYNC_PHASE_DONE,      /* nothing unsent, nothing in flight */
};

enum sync_event_kind {
    SYNC_EVENT_STEP,     /* step, tokens: an inner update is done. Answer: sends, then merges or WAIT */
    SYNC_EVENT_BOUNDARY, /* again, after WAIT: the merges that are still due */
    SYNC_EVENT_END, /* training stops here (t = T, or told to stop): like BOUNDARY, call again after WAIT until DONE */
    SYNC_EVENT_READY, /* fragment, version, counts_me, run_step: the new outer copy is prepared aside, its hash was right */
    SYNC_EVENT_MERGED, /* fragment: COUNTED, SHIFT or TAKE was carried out */
};

struct sync_event {
    enum sync_event_kind kind;
    uint64_t step;
    uint64_t tokens; /* this worker's counter after the step */
    uint32_t fragment;
    uint64_t version;
    bool counts_me;
    uint64_t run_step; /* READY: of the commit */
};

enum sync_action_kind {
    SYNC_ACTION_SEND, /* fragment, version = base, tokens_from, tokens_to: difference g - theta, then off to the sync thread */
    SYNC_ACTION_COUNTED, /* fragment: theta = alpha theta + (1 - alpha) g_new; e = (1 - alpha) e' */
    SYNC_ACTION_SHIFT,   /* fragment: theta += g_new - g */
    SYNC_ACTION_TAKE,    /* fragment: g = g_new, theta untouched */
    SYNC_ACTION_EXPIRE,  /* fragment: the record in flight will never count; e as before that send */
    SYNC_ACTION_WAIT,    /* fragment: stand still until its commit is ready */
    SYNC_ACTION_DONE,    /* everything is sent and applied */
};

struct sync_action {
    enum sync_action_kind kind;
    uint32_t fragment;
    uint64_t version;
    uint64_t step; /* SEND: the send step */
    uint64_t tokens_from;
    uint64_t tokens_to;
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
};

struct sync_fragment {
    uint64_t version;        /* of the outer copy that theta was last merged with */
    uint64_t run_step;       /* of the newest commit: the largest send step that it counts */
    uint64_t applied_tokens; /* upper end of the newest counted interval */
    struct sync_record record;
    bool ready; /* a commit of version + 1 is prepared */
    bool ready_counts_me;
    bool merging; /* an action was given, MERGED awaited */
};

struct sync_machine {
    struct sync_machine_options options;
    enum sync_phase phase;
    uint64_t step;
    uint64_t tokens;
    bool done_given;
    struct sync_fragment fragments[MESSAGE_FRAGMENTS_MAX];
};

void sync_open(struct sync_machine *machine, const struct sync_machine_options *options);

/* Appends to `actions` (the caller zeroes the count). Actions are carried out in order; each COUNTED, SHIFT or TAKE is followed by a
 * MERGED event before the next STEP, BOUNDARY or END. */
void sync_step(struct sync_machine *machine, const struct sync_event *event, struct sync_actions *actions);

/* The step to go on from: the own one; in lockstep, after the others went on without this worker, the run clock R (the largest send
 * step that a commit counts), but not past a due step that no commit has passed, where this worker is waited for. */
uint64_t sync_run_clock(const struct sync_machine *machine);

/* Invariant 3 of the worker's side; also CHECKed inside. */
bool sync_ledger_check(const struct sync_machine *machine);

/* Tokens of the fragment that no applied commit holds and no record in flight covers. */
uint64_t sync_unsent_tokens(const struct sync_machine *machine, uint32_t fragment);

#endif
