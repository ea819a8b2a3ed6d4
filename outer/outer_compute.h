/* outer_compute: the outer's second thread. The main thread keeps the links responsive; checking contributions and making commits
 * happens here, one job after another, in the order given. */
#ifndef ATOLL_OUTER_OUTER_COMPUTE_H
#define ATOLL_OUTER_OUTER_COMPUTE_H

#include <stdbool.h>
#include "comms/message.h"
#include "outer/commit_maker.h"

enum outer_job_kind {
    OUTER_JOB_CHECK,  /* parts[0] is what arrived from `slot`; result: status */
    OUTER_JOB_COMMIT, /* parts -> payload; result: payload hash, state hash */
};

struct outer_job {
    enum outer_job_kind kind;
    uint32_t slot;
    uint32_t fragment;
    uint64_t version; /* CHECK: base; COMMIT: the new one */
    int part_count;
    struct commit_part parts[MESSAGE_WORKERS_MAX]; /* payloads borrowed until the job is collected */
    uint8_t *payload;                              /* COMMIT: caller's, outer_copy_payload_down bytes */
    enum status status;
    uint8_t payload_hash[MESSAGE_HASH_BYTES];
    struct state_hash state_hash;
};

struct outer_compute;

/* wake is called from the compute thread whenever a job is finished. maker is used by that thread only until close. */
MUST_USE enum status outer_compute_open(struct commit_maker *maker, void (*wake)(void *context), void *context,
                                        struct outer_compute **compute, struct error *error);
/* Finishes the job at hand, drops the others, joins the thread. */
void outer_compute_close(struct outer_compute *compute);

void outer_compute_submit(struct outer_compute *compute, const struct outer_job *job);
/* The next finished job; false when there is none. */
bool outer_compute_collect(struct outer_compute *compute, struct outer_job *job);

#endif
