/* update_guard: which contributions are too large to be one island's honest work. Pure: no clock, file, thread or allocation.
 *
 *   refused when   norm > reject_norm * median_norm * max(1, tokens / median_tokens)
 *
 * with the medians over the last 32 contributions to the same fragment that were counted (of an even number: half the sum of the
 * middle two), in double. More tokens than usual may move further: a send that stands for two periods is no fault.
 *
 * Nothing is refused by norm
 *   - before 8 norms are known. A median of 8 stands while 3 of them are wild; of fewer, one bad contribution among the first would
 *     set the measure. What does not count is never learned, so the first 8 are taken on trust: what is not finite is refused from the
 *     first on (commit_maker_check).
 *   - while the median norm is 0: zeros give no measure, and refusing everything else would keep the fragment at zero for ever.
 *   - with reject_norm 0.
 *
 * The median follows a run whose norms grow or shrink by less than reject_norm over half the memory (16 contributions). A jump of all
 * islands beyond that is refused for as long as it lasts: raise outer.reject_norm or restart the outer.
 * Learn in the order of the sum, before the commit is published: then what is refused does not depend on timing where rounds are strict.
 * A restarted outer begins with an empty guard: the state is a measure, not part of the run, and 8 contributions bring it back. The
 * struct is plain (no pointers), should somebody want to keep it.
 * The guard trusts the tokens that a contribution names, like its weight in the mean: it is made against islands that broke. */
#ifndef ATOLL_OUTER_UPDATE_GUARD_H
#define ATOLL_OUTER_UPDATE_GUARD_H

#include <stdint.h>
#include "comms/message.h"

enum { UPDATE_GUARD_KEPT = 32, UPDATE_GUARD_NORMS_MIN = 8 };

enum update_verdict { UPDATE_OK, UPDATE_REFUSED };

struct update_guard_fragment {
    uint32_t count; /* known, at most UPDATE_GUARD_KEPT */
    uint32_t next;  /* place that the next one takes, over the oldest */
    double norms[UPDATE_GUARD_KEPT];
    uint64_t tokens[UPDATE_GUARD_KEPT];
};

struct update_guard {
    double reject_norm;
    struct update_guard_fragment fragments[MESSAGE_FRAGMENTS_MAX]; /* 66 KiB */
};

/* reject_norm >= 0, as outer.reject_norm. */
void update_guard_open(struct update_guard *guard, double reject_norm);

/* update_guard_judge: may a contribution of this norm (commit_maker_check) and weight count? *limit is the largest norm that may, for the
 * text; infinity when nothing is refused by norm. UPDATE_REFUSED: answer OFFER_REFUSED_NORM, and do not learn from it. */
enum update_verdict update_guard_judge(const struct update_guard *guard, uint32_t fragment, double norm,
                                       uint64_t tokens, double *limit);

/* update_guard_learn: this contribution is counted in a commit. CHECKs norm finite and tokens >= 1: it was judged before. */
void update_guard_learn(struct update_guard *guard, uint32_t fragment, double norm, uint64_t tokens);

#endif
