/* round: the round machine of the outer. Pure: round_step(machine, event, actions), no socket, clock, file, thread or allocation;
 * the daemon and the simulator drive the same code. The caller brings the time in every event.
 *
 * A round is (fragment, version). Life of one:
 *
 *   OFFER ----> GRANT ... bytes arrive, are checked ... WHOLE ----> every live expected worker whole (or quorum + grace)
 *     `-> REFUSE_OFFER (stale, duplicate)                              |
 *                                                                    CLOSE ... the daemon sums, steps, makes the commit durable ...
 *                                                                      |
 *                                        PUBLISH, version + 1  <---- COMMITTED
 *
 * Before LEAD (an outer that starts may have to take over what its members hold: recovery.h) nothing closes; round_adopt sets what is restored
 * or taken over. Members join and return at any time; a round expects those that joined before its step.
 *
 * Invariants kept here: a contribution (slot, incarnation, fragment, base) is counted at most once and only when whole; versions only
 * grow, by one; nothing is published before COMMITTED; the death of a worker ends its expectation at once, not its whole
 * contribution; no commit without contributions, nor with fewer than min_workers. With a quorum, stale is by default as good as no limit: who
 * needs a hundred rounds to send counts in the hundredth, while what expires is only sent once more, and takes as long again, for ever. Once
 * somebody has trained to the end, and the mode is not strict or members are uneven, a round waits for the missing ROUND_END_PATIENCE_US at
 * most. The token ledger is part of the machine.
 *
 * Blocked. A worker stands still when the commit of a send that is due is missing. Where members returned, or pass over due steps with a
 * record in flight, A may wait for a round that lacks a send of B, and B for one that lacks a send of A, and neither will ever be made. Who is
 * BLOCKED can send nothing before another commit: until one is COMMITTED, no round waits for what it has not offered. With everybody in
 * step and a number for overlap_steps this changes nothing: a blocked member stands at t + tau of a send at t, and has offered all that is due
 * up to there. Nobody is beyond t + tau before that round is closed with it (quorum all); then its commit was published, and who does not
 * hold it yet is not blocked. So a round that anybody has contributed to lacks nothing of a blocked member. */
#ifndef ATOLL_OUTER_ROUND_H
#define ATOLL_OUTER_ROUND_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/message.h"
#include "outer/ledger.h"
#include "outer/members.h"

enum {
    ROUND_LATENESS_KEPT = 32,
    ROUND_ACTIONS_MAX =
        MESSAGE_WORKERS_MAX * MESSAGE_FRAGMENTS_MAX + 256, /* FINISH discards what lost members were sending */
    ROUND_GRACE_AUTO = -1,
    ROUND_STALE_QUORUM = 1000,
    ROUND_END_PATIENCE_US = 5000000,
    ROUND_RETURN_PATIENCE_US = 10000000,
};

struct round_options {
    uint32_t workers;              /* how many start the run; slots go to MESSAGE_WORKERS_MAX */
    uint32_t fragments;            /* P */
    int32_t quorum;                /* 0 = all live; n: that many; -n: n percent of the live, rounded up */
    uint32_t min_workers;          /* with fewer connected nothing closes */
    int64_t grace_us;              /* quorum mode; ROUND_GRACE_AUTO = from past lateness */
    uint64_t stale;                /* a contribution counts while version - base <= stale (run_sync_stale) */
    bool started, ended, finished; /* restored: how far the run was */
    uint64_t payload_bytes[MESSAGE_FRAGMENTS_MAX]; /* what a contribution of each fragment must weigh */
};

enum round_event_kind {
    ROUND_EVENT_LEAD, /* mask: this outer leads, rounds may close; these slots are here and about to JOIN */
    ROUND_EVENT_TICK, /* time passed */
    ROUND_EVENT_LATE, /* late_us: this node itself stood still so long; no deadline ran meanwhile */
    ROUND_EVENT_JOIN, /* slot, incarnation, has_validation, step, tokens: it holds the run's heads; expected in rounds of later steps */
    ROUND_EVENT_LEAVE, /* slot: link lost, goodbye, ejected; returns: only because this node stood still, it is about to JOIN again */
    ROUND_EVENT_OFFER, /* contribution */
    ROUND_EVENT_WHOLE, /* slot, fragment, version = base: all bytes here, hash and content right */
    ROUND_EVENT_BROKEN, /* slot, fragment, version = base, code: content refused; the contribution is gone, and excused in this round */
    ROUND_EVENT_COMMITTED, /* fragment, version: what CLOSE asked for is made (and durable) */
    ROUND_EVENT_TOKENS,    /* slot, tokens: the worker's counter */
    ROUND_EVENT_BLOCKED, /* slot: it stands still, holds every version that was published, and has nothing on its way to be offered */
    ROUND_EVENT_REACHED, /* slot: has trained to the last step */
    ROUND_EVENT_DONE,    /* slot, tokens: trained to the end, nothing unsent */
    ROUND_EVENT_FINAL,   /* slot, has_eval: holds the final versions, and has evaluated them */
};

struct round_event {
    enum round_event_kind kind;
    uint64_t now_us;
    uint32_t slot;
    uint64_t incarnation;
    bool has_validation;
    bool has_eval;
    bool returns;
    uint32_t fragment;
    uint32_t code; /* enum offer_refusal */
    uint64_t version;
    uint64_t tokens;
    uint64_t step;
    uint64_t late_us;
    uint64_t mask;
    struct contribution contribution;
};

enum round_action_kind {
    ROUND_ACTION_START,   /* all are here: tell them to train */
    ROUND_ACTION_MEMBERS, /* membership changed: tell the members */
    ROUND_ACTION_GRANT, /* slot, fragment, version = base: receive this contribution (again: ask from where it stands) */
    ROUND_ACTION_REFUSE_OFFER, /* slot, fragment, version = base, code */
    ROUND_ACTION_DISCARD,      /* slot, fragment, version = base: throw away what was received of it */
    ROUND_ACTION_CLOSE,        /* fragment, version = the new one: make the commit of round_counted(), in that order */
    ROUND_ACTION_PUBLISH,      /* fragment, version: send the commit to the members */
    ROUND_ACTION_END,          /* quorum mode: a quorum has trained to the last step: the others stop there too */
    ROUND_ACTION_FINISH,       /* all live members are done, all rounds closed: tell them that the versions are final */
    ROUND_ACTION_LEAVE,        /* all have acknowledged: the outer may leave */
};

struct round_action {
    enum round_action_kind kind;
    uint32_t slot;
    uint32_t fragment;
    uint64_t version;
    uint32_t code; /* enum offer_refusal */
};

struct round_actions {
    uint32_t count;
    struct round_action list[ROUND_ACTIONS_MAX];
};

enum round_place_state {
    ROUND_PLACE_EMPTY,
    ROUND_PLACE_RECEIVING,
    ROUND_PLACE_WHOLE,
    ROUND_PLACE_CLOSING,
    ROUND_PLACE_EXCUSED, /* its content was refused: not waited for in this version's rounds up to its send step */
};

/* The one place that a worker has per fragment: at most one contribution of it is held. */
struct round_place {
    enum round_place_state state;
    uint64_t whole_order; /* order of completion */
    uint64_t whole_us;
    uint64_t counted_version; /* the newest that counts this slot; 0 = none, or of an earlier outer */
    struct contribution contribution;
};

struct round_fragment {
    uint64_t version;   /* newest committed; the round that is open makes version + 1 */
    uint64_t run_step;  /* largest send step that it, or an ancestor, counts */
    bool closing;       /* CLOSE given, COMMITTED awaited */
    uint64_t open_us;   /* first whole contribution of the open round; 0 = none */
    uint64_t quorum_us; /* quorum reached; 0 = not yet */
    uint64_t close_us;  /* of the newest close */
    uint64_t
        closed_step; /* of the newest round of a step of its own: those that it did not wait for make one more of the same step */
    uint64_t closed_us;        /* its close */
    uint64_t closed_quorum_us; /* its quorum */
    uint64_t period_us;        /* between the closes of the last two such rounds; before the first: training began */
    uint32_t counted_count;
    struct counted counted[MESSAGE_WORKERS_MAX];
    struct round_place places[MESSAGE_WORKERS_MAX];
};

struct round_machine {
    struct round_options options;
    struct members members;
    struct ledger ledger;
    bool leading;
    /* Slots that LEAD named, or that left because this node stood still, and that have not joined yet: the run does not end without them, nor,
     * quorum all, does a round close, ... */
    uint64_t returning_mask;
    /* ... for ROUND_RETURN_PATIENCE_US from here on, so that a restarted outer goes on as if nothing had been. */
    uint64_t lead_us;
    bool started;
    uint64_t started_us; /* START, or LEAD of a run that had started */
    bool uneven;         /* a member came back, or its content was refused: not all send at the same steps any more */
    bool ended;          /* END given */
    bool finished;       /* FINISH given */
    bool evaluated;      /* somebody said FINAL with an evaluation */
    bool left;           /* LEAVE given */
    uint64_t run_step;
    uint64_t whole_sequence;
    uint64_t lateness_us[ROUND_LATENESS_KEPT]; /* of contributions behind the quorum, a ring */
    uint32_t lateness_count;
    struct round_fragment fragments[MESSAGE_FRAGMENTS_MAX];
};

void round_open(struct round_machine *machine, const struct round_options *options);

/* The fragment stands at the version of this commit: restored from disk, or taken over from a worker. Before LEAD only. */
void round_adopt(struct round_machine *machine, const struct commit *commit);

/* Appends to `actions` (the caller zeroes the count). CHECKs what only a bug of the caller could break (a COMMITTED that was not asked for);
 * whatever peers say is answered by REFUSE_OFFER or ignored. */
void round_step(struct round_machine *machine, const struct round_event *event, struct round_actions *actions);

/* The contributions of the round that CLOSE named, in the order of the sum: by slot (quorum all) or by completion. */
const struct counted *round_counted(const struct round_machine *machine, uint32_t fragment, uint32_t *count);

/* How many contributions close a round with `live` connected members: `live` when the quorum is all. */
uint32_t round_quorum(const struct round_options *options, uint32_t live);

/* When a TICK is due at the latest; UINT64_MAX = no deadline runs. */
uint64_t round_deadline_us(const struct round_machine *machine);

#endif
