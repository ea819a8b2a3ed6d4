/* island: what the two halves of `atoll worker` share; private to island_join.c (into the run) and worker_daemon.c (from there on). Only
 * experiments/bench_island.c, a worker that does not train, also comes into a run this way. */
#ifndef ATOLL_WORKER_ISLAND_H
#define ATOLL_WORKER_ISLAND_H

#include "base/options.h"
#include "comms/link.h"
#include "worker/aside.h"
#include "worker/enrol.h"
#include "worker/inner_loop.h"
#include "worker/own_values.h"
#include "worker/selftest.h"
#include "worker/sync_thread.h"
#include "worker/worker_store.h"

struct worker_values {
    const char *join;
    const char *directory;
    const char *name;
    struct option_list data, val, set;
    bool selftest;
};

struct island {
    const struct worker_values *values;
    const volatile int *interrupted; /* told to stop */
    struct own_values own;           /* of the command line, and of earlier ones */
    bool own_is_unproved;            /* it was saved, and the island does not stand with it yet */
    char directory[RUN_PATH_BYTES];
    char name[MESSAGE_NAME_BYTES];
    struct node_keys keys;
    struct enrolment enrolment;
    struct worker_store *store;
    bool bears_state; /* a checkpoint was found */
    struct message_hello hello;
    uint64_t up_bytes_per_s, down_bytes_per_s;
    struct worker_link *link; /* until the sync thread owns it */
    struct worker_link_options link_options;
    uint64_t session;
    struct enrol_recovery *recovery; /* the sync thread's, while it shows the certificate */
    struct aside closing_recovery;   /* the one before */
    struct run_file run;
    struct log *log;
    struct inner_loop loop;
    struct fragments fragments;
    struct outer_copy copy;
    struct sync_thread *sync;
    struct selftest *selftest;
    struct worker_image_sizes sizes;
    uint64_t next_checkpoint_us;
    uint64_t lost_from, lost_to; /* the run went back so; the checkpoints of before are to be set aside. 0 = not so */
};

/* The directory, locked, and a key that the outer knows: with a token, or by what the directory kept of an earlier admission. Fills all from
 * `own` to down_bytes_per_s but `hello`. STATUS_AGAIN: interrupted; else what token_read, enrol and the files say. */
enum status island_get_admitted(struct island *island, struct error *error);

/* Dials until WELCOME: fills `hello`, `link`, `link_options`, `session` and `run`. STATUS_AGAIN: interrupted. */
enum status island_begin_session(struct island *island, struct error *error);

/* What the sync thread of an island in a session is opened with, whose copy is still the seed's: all but theta, the moments, what it resumes from,
 * and of READY has_validation and tokens_per_step. It points into the island. */
struct sync_thread_options island_sync_options(struct island *island);

#endif
