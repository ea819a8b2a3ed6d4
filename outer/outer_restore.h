/* outer_restore: g, u and the residual of every fragment from the commit log. Knows files only through
 * outer/commit_log.h.
 *
 *   seed ── v1 ── v2 ── v3.full ── v4 ── v5 ── v6.full ── v7 ── v8
 *                        older      begin here ^           step, step
 *
 * Per fragment: begin at the newest full record that reads back right and whose g and u have the state hash that its
 * commit signs, else at the older one, else at the seed; then step through the records that follow, each only onto the
 * hash of its parent, and compare the state hash after each. The first record that is torn, missing, foreign or leads
 * to another hash is where it ends: it and what follows are set aside (bad.NAME), and a warning says so. What is
 * restored is always a version of the run, byte for byte. */
#ifndef ATOLL_OUTER_OUTER_RESTORE_H
#define ATOLL_OUTER_OUTER_RESTORE_H

#include "outer/commit_log.h"
#include "outer/outer_copy.h"

struct outer_restored {
    struct head head;     /* what the fragment is at now */
    struct commit commit; /* that made it: totals for the ledger, run step; version 0 = none, it is at the seed */
    uint64_t begun_at;    /* version of the full record, 0 = the seed */
    uint64_t newest_ever; /* above head.version: versions are lost, now or at an earlier start */
    uint32_t set_aside;   /* records, now */
    char warning[1024];   /* for people; empty = nothing to say */
};

/* outer_restore: copy holds the seed's parameters (as outer_copy_open leaves it); residual (packed_floats,), packed as
 * copy, zeroed. restored (fragments,), caller's. Fragments without records stay at the seed: head of version 0. Takes
 * 16 bytes per float of the largest fragment while it runs; costs one pass over the records from each start on, decode
 * and outer step for each. STATUS_OK also with warnings. STATUS_CONFIG (a record of another run, other sizes, another
 * schema), STATUS_IO, STATUS_NO_MEMORY: the outer cannot start; no record was touched for that reason. */
MUST_USE enum status outer_restore(struct outer_copy *copy, float *residual, const uint8_t run_id[MESSAGE_HASH_BYTES],
                                   struct commit_log *log, struct outer_restored *restored, struct error *error);

#endif
