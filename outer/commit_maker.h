/* commit_maker: the float work of a round on the outer: decode the contributions, make one outer gradient of them by the run's rule, in
 * the given order, add the downlink's residual, encode once, apply that very payload to the outer's own copy. What is broadcast is what
 * everyone applies.
 * One thread uses a maker (and the outer_copy behind it) at a time. Sources: arXiv 2501.18512 algorithm 2; mean.h, outer_step.h. */
#ifndef ATOLL_OUTER_COMMIT_MAKER_H
#define ATOLL_OUTER_COMMIT_MAKER_H

#include "outer/mean.h"
#include "outer/outer_copy.h"

struct commit_maker {
    struct outer_copy *copy; /* borrowed, written by commit_maker_make */
    enum outer_aggregate aggregate;
    bool error_feedback;    /* and the codec leaves something out */
    float *residual;        /* (packed_floats,) of the way down; never touched without error_feedback */
    struct mean_trim *trim; /* NULL unless the rule is OUTER_TRIMMED */
    struct arena arena;
};

/* commit_maker_bytes: the memory that commit_maker_open takes: residual of all fragments, and for OUTER_TRIMMED 128 KiB more, whatever the
 * model and the number of workers. No rule holds decoded contributions: a commit is made in pieces that stay in the L1 cache. */
size_t commit_maker_bytes(const struct fragments *fragments, enum outer_aggregate aggregate);

MUST_USE enum status commit_maker_open(struct commit_maker *maker, struct outer_copy *copy,
                                       enum outer_aggregate aggregate, bool error_feedback, struct error *error);
void commit_maker_close(struct commit_maker *maker);

/* commit_maker_check: does this payload decode, to finite values of at most 2^60? Larger ones could overflow the sum of 64 workers with
 * 2^48 tokens each. STATUS_OK and *norm, the L2 norm of what it decodes to (mean_norm), for update_guard; STATUS_DATA or
 * STATUS_NOT_FINITE, *norm untouched: refuse the contribution. */
MUST_USE enum status commit_maker_check(const struct commit_maker *maker, int fragment, const uint8_t *payload,
                                        size_t bytes, double *norm);

struct commit_part {
    const uint8_t *payload; /* checked */
    size_t bytes;
    uint64_t tokens; /* weight, at least 1 */
};

/* commit_maker_make: parts in the order of the sum -> payload (outer_copy_payload_down bytes, caller's), the copy's g, u and the residual
 * stepped, hash of the new state. CHECKs that the parts were checked before. */
void commit_maker_make(struct commit_maker *maker, int fragment, const struct commit_part *parts, int count,
                       uint8_t *payload, struct state_hash *hash);

#endif
