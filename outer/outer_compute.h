/* outer_compute: the outer's second thread. The main thread keeps the links responsive; checking contributions, making commits and writing
 * them to disk, packing and unpacking whole fragments happens here, one job after another, in the order given. Failpoints:
 * outer.commit.flip, outer.snapshot.flip (a bit of g). */
#ifndef ATOLL_OUTER_OUTER_COMPUTE_H
#define ATOLL_OUTER_OUTER_COMPUTE_H

#include <stdbool.h>
#include "comms/message.h"
#include "outer/commit_log.h"
#include "outer/commit_maker.h"

enum outer_job_kind {
    OUTER_JOB_CHECK,  /* parts[0] is what arrived from `slot`; result: status, norm */
    OUTER_JOB_COMMIT, /* parts -> payload; result: payload hash, state hash */
    OUTER_JOB_LOG,    /* commit, payload, the residual (full: g and u too) -> disk; result: status, error */
    OUTER_JOB_SNAPSHOT, /* g and u of the fragment, which are those of `commit`, -> payload; result: status, error, bytes, payload hash */
    OUTER_JOB_TAKE, /* parts[0] is a snapshot of `commit` -> g and u, residual zero, logged in full; result: status, error */
};

struct outer_job {
    enum outer_job_kind kind;
    uint32_t slot;
    uint32_t fragment;
    uint64_t version; /* CHECK: base; else the commit's */
    int part_count;
    struct commit_part parts[MESSAGE_WORKERS_MAX]; /* payloads borrowed until the job is collected */
    const struct commit *commit;                   /* LOG, SNAPSHOT, TAKE: borrowed */
    bool full;
    uint8_t
        *payload; /* COMMIT: caller's, outer_copy_payload_down bytes; SNAPSHOT: snapshot_bound bytes; LOG: borrowed */
    size_t bytes;
    enum status status;
    struct error error;
    double norm;
    uint8_t payload_hash[MESSAGE_HASH_BYTES];
    struct state_hash state_hash;
};

struct outer_compute;

/* wake is called from the compute thread whenever a job is finished. maker and disk (the commit log) are used by that thread only until
 * close. jobs_max: how many are submitted and not yet collected, at most; their room is taken here (pages that no job ever used stay
 * untouched), so that nothing that peers send asks for memory later. STATUS_NO_MEMORY: nothing was started. */
MUST_USE enum status outer_compute_open(struct commit_maker *maker, struct commit_log *disk, uint32_t jobs_max,
                                        void (*wake)(void *context), void *context, struct outer_compute **compute,
                                        struct error *error);
/* Finishes the job at hand, drops the others, joins the thread. */
void outer_compute_close(struct outer_compute *compute);

void outer_compute_submit(struct outer_compute *compute, const struct outer_job *job);
/* The next finished job; false when there is none. */
bool outer_compute_collect(struct outer_compute *compute, struct outer_job *job);

#endif
