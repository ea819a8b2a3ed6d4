/* recovery: how an outer that starts comes to lead. Pure: recovery_step(machine, event, actions); no socket, clock, file or allocation.
 *
 *   FRESH  made its key in this very start (or --new)     leads at once
 *   DISK   restored its commit log                        hears the members for a short window, from the first of them on: a backup may be older than
 *                                                         what they hold, and a copy may be of an outer that lives: then nobody comes
 *   EMPTY  has a key that led before, but no commit, or   hears the members until their state is safe to lead from; never begins fresh
 *          fewer than it once had
 *
 * Workers say which heads they bear (HELLO). Of each fragment the newest head, by (epoch, version), is fetched from its bearer and
 * taken over, until nothing newer is known; then LEAD: when all slots of the run (those that start it, and the members
 * of the newest commit seen) are heard, or at the window's end. In EMPTY mode at least half of the members of the newest
 * commit seen must be here then; when nobody bears a commit, all `workers` that start the run, since then nothing
 * trained can be lost. */
#ifndef ATOLL_OUTER_RECOVERY_H
#define ATOLL_OUTER_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/message.h"

enum recovery_mode { RECOVERY_FRESH, RECOVERY_DISK, RECOVERY_EMPTY };

struct recovery_options {
    enum recovery_mode mode;
    uint32_t fragments;
    uint32_t workers;       /* how many start the run */
    uint64_t window_us;     /* how long members are waited for */
    uint64_t expected_mask; /* DISK: slots that were live when the outer last knew */
    bool force;             /* EMPTY: at the window's end lead from whoever is here */
};

enum recovery_event_kind {
    RECOVERY_EVENT_OPEN,   /* now_us, heads: what the outer holds (version 0: the seed's) */
    RECOVERY_EVENT_BEARER, /* slot, heads, run_step, members_mask: a worker is ready and bears these */
    RECOVERY_EVENT_GONE,   /* slot: its link is lost */
    RECOVERY_EVENT_TAKEN,  /* slot, fragment, heads[fragment]: what was fetched is verified, durable and ours */
    RECOVERY_EVENT_FAILED, /* slot, fragment: what came was not what the bearer said; it is heard no more */
    RECOVERY_EVENT_TICK,
};

struct recovery_event {
    enum recovery_event_kind kind;
    uint64_t now_us;
    uint32_t slot;
    uint32_t fragment;
    uint64_t run_step;
    uint64_t members_mask;
    const struct head *heads; /* (fragments,), borrowed for the call; TAKEN: one */
};

enum recovery_action_kind {
    RECOVERY_ACTION_FETCH, /* slot, fragment: ask this worker for its version */
    RECOVERY_ACTION_LEAD,  /* nothing newer is known: lead; given once */
};

struct recovery_action {
    enum recovery_action_kind kind;
    uint32_t slot;
    uint32_t fragment;
};

enum { RECOVERY_ACTIONS_MAX = MESSAGE_FRAGMENTS_MAX + 1 };
struct recovery_actions {
    uint32_t count;
    struct recovery_action list[RECOVERY_ACTIONS_MAX];
};

/* Heads are compared and remembered without their hashes' meaning: equal (epoch, version) are the same version. */
struct recovery_place {
    uint64_t epoch;
    uint64_t version;
};

/* The newest commit that a worker says it holds: the epoch of its newest head, the run step, and who is counted in it. */
struct recovery_claim {
    uint64_t epoch;
    uint64_t run_step;
    uint64_t members_mask;
};

struct recovery {
    struct recovery_options options;
    bool leading;
    uint64_t opened_us;
    uint64_t heard_mask; /* slots that bear something now */
    uint64_t distrusted_mask;
    struct recovery_claim claims[MESSAGE_WORKERS_MAX]; /* also of those that are gone again */
    struct recovery_place own[MESSAGE_FRAGMENTS_MAX];
    struct recovery_place borne[MESSAGE_WORKERS_MAX][MESSAGE_FRAGMENTS_MAX];
    uint32_t fetching_from[MESSAGE_FRAGMENTS_MAX]; /* slot, or UINT32_MAX */
};

/* recovery_choose: the mode, from what the outer's directory tells at its start. A disk without a commit says nothing of whether anything was
 * trained: it may be a copy from before START. So it is asked for like none. */
struct recovery_start {
    bool key_is_new; /* made in this very start */
    bool new_run;    /* --new */
    bool found;      /* outer.json is there; commits without it were taken over by a start that never came to lead */
    bool commits;    /* of any fragment */
    bool lost;       /* it knew versions that it does not hold any more */
    bool again;      /* this very process has led from it before: it knows what there was */
};
enum recovery_mode recovery_choose(const struct recovery_start *start);

void recovery_open(struct recovery *recovery, const struct recovery_options *options);
/* Appends to `actions` (the caller zeroes the count). */
void recovery_step(struct recovery *recovery, const struct recovery_event *event, struct recovery_actions *actions);
/* When a TICK is due; UINT64_MAX = none. */
uint64_t recovery_deadline_us(const struct recovery *recovery);
/* Who is still waited for: a bit per slot (0 with nobody in particular: more workers). For people. */
uint64_t recovery_missing_mask(const struct recovery *recovery);
/* How many more must come before the window's end lets it lead; 0: it leads then, with who is here. For people. */
uint32_t recovery_lacking(const struct recovery *recovery);

/* ---- what a fetch is answered with ---- */

enum recovery_answer {
    RECOVERY_ANSWER_NOTHING,  /* it holds the newest: say that commit again, so that it knows */
    RECOVERY_ANSWER_REPLAY,   /* send the commits that follow its version */
    RECOVERY_ANSWER_SNAPSHOT, /* its head is too old, or not of this run's chain */
};
/* kept (count,): heads of the kept versions, ascending, each the parent of the next, the newest last (count >= 1; version 0 among them while it
 * is still the parent of what is kept). */
enum recovery_answer recovery_answer(const struct head *have, const struct head *kept, uint32_t count);

/* a is newer than b. The same version: its hash says so, and covers the epoch. */
bool recovery_head_is_newer(const struct head *a, const struct head *b);
/* `held` is of a branch that the run lost: `run`, the run's head, neither is it nor can follow it, since neither version nor epoch goes back
 * along a chain. false where these do not tell: a lost version that is older in both. */
bool recovery_head_is_lost(const struct head *held, const struct head *run);
bool recovery_heads_equal(const struct head *a, const struct head *b);

#endif
