/* ledger: where every processed token went, per worker and fragment. Pure integers.
 *
 *   processed = applied + in_flight + unsent + dropped          (invariant 3; ledger_check)
 *
 * A worker's token counter never goes back; a contribution covers (from, to] of it. Applied intervals of one (slot, fragment) never
 * overlap: that is how a second count of the same work is noticed, whatever else fails. */
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
/* A contribution is held. false: its interval overlaps what was applied (a duplicate): nothing changes. */
bool ledger_offered(struct ledger *ledger, const struct contribution *contribution);
/* The contribution that was held is gone without having counted: its tokens are unsent again. */
void ledger_withdrawn(struct ledger *ledger, uint32_t slot, uint32_t fragment);
/* A commit counts it. CHECKs that the interval was offered and does not overlap. */
void ledger_applied(struct ledger *ledger, uint32_t fragment, const struct counted *counted);
/* The worker will not come back: what has not been applied and is not held is dropped. */
void ledger_lost(struct ledger *ledger, uint32_t slot, uint32_t fragments);

uint64_t ledger_unsent(const struct ledger_entry *entry);
/* The invariant, for the entries of the run. */
bool ledger_check(const struct ledger *ledger, uint32_t slots, uint32_t fragments);

#endif
