/* ledger: where every processed token went, per worker and fragment. Pure integers.
 *
 *   processed = applied + dropped + in_flight + unsent          (invariant 3; ledger_check)
 *
 * A worker's token counter never goes back. Everything below an entry's mark is settled, mark = applied + dropped: a contribution covers
 * (mark, to] with `tokens` of work; when a commit counts it, the rest of the interval is dropped: work that died with a killed process, or
 * that was counted on a branch which the run does not contain. So a second count of the same work is noticed, whatever else fails, and
 * the totals of a commit restore the ledger. */
#ifndef ATOLL_OUTER_LEDGER_H
#define ATOLL_OUTER_LEDGER_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/message.h"

struct ledger_entry {
    uint64_t processed;  /* highest counter seen */
    uint64_t applied;    /* tokens that entered commits */
    uint64_t in_flight;  /* tokens of the contribution that is held and not yet in a commit */
    uint64_t dropped;    /* tokens that will never enter one */
    uint64_t mark;       /* upper end of the newest applied interval */
    uint64_t offered_to; /* upper end of the interval in flight, 0 = none */
};

struct ledger {
    struct ledger_entry entries[MESSAGE_WORKERS_MAX][MESSAGE_FRAGMENTS_MAX];
};

/* The worker says that its counter stands at `tokens` (telemetry, done). Smaller values than before are ignored. */
void ledger_processed(struct ledger *ledger, uint32_t slot, uint32_t fragments, uint64_t tokens);
/* A contribution is held. false: it does not begin at the mark, or its weight does not fit its interval: nothing changes. */
bool ledger_offered(struct ledger *ledger, const struct contribution *contribution);
/* The contribution that was held is gone without having counted: its tokens are unsent again. */
void ledger_withdrawn(struct ledger *ledger, uint32_t slot, uint32_t fragment);
/* A commit counts it. CHECKs that the interval was offered. */
void ledger_applied(struct ledger *ledger, uint32_t fragment, const struct counted *counted);
/* The worker will not come back: what has not been applied and is not held is dropped. The run is over: the mark moves no more. */
void ledger_lost(struct ledger *ledger, uint32_t slot, uint32_t fragments);

/* The totals of a commit of `fragment`: slots with a mark, ascending. With `counting` (count,): as they will be when these are applied. */
uint32_t ledger_totals(const struct ledger *ledger, uint32_t fragment, const struct counted *counting, uint32_t count,
                       struct total totals[MESSAGE_WORKERS_MAX]);
/* The fragment's entries become what a commit says (an outer that restores or takes over a version). What was held is gone. */
void ledger_restore(struct ledger *ledger, uint32_t fragment, const struct total *totals, uint32_t count);

uint64_t ledger_unsent(const struct ledger_entry *entry);
/* The invariant, for the entries of the run. */
bool ledger_check(const struct ledger *ledger, uint32_t slots, uint32_t fragments);

#endif
