/* sync_thread: the island's second thread. It owns the link; it encodes and sends contributions, receives commits, prepares the next
 * outer copy aside and checks its hash. The compute thread calls the functions below between two inner steps; what it pays is one
 * linear pass over a fragment at a send (difference = g - theta) and one at a merge. The pure sync machine, under this thread's lock,
 * decides for both.
 *
 *   compute thread                                sync thread
 *   STEP -> SEND: difference = g - theta  ------> x = difference + e; payload = Q(x); e' = x - decode; OFFER, chunks
 *           train on                              COMMIT, chunks: u, g_next = step(g, u, decode); hash right? -> READY
 *   boundary: theta = mix(theta, g_next)          APPLIED
 *             g = g_next; MERGED          ------> e = (1 - alpha) e'; g_next is free again
 *
 * Coming back. A session begins with STATE (sync_net.c): the sync thread fetches what differs from the run's heads (follow.h), then says JOINED.
 * When a state hash is wrong here, that fragment is fetched whole; three times in a row stop the island. Nobody answers: an island that bears
 * state trains up to `drift` steps past its oldest send, then waits, and dials for hours.
 *
 * Memory per parameter beyond the model's: g, u, g_next, difference, e', e, the u before (28 bytes) and the payloads; of an
 * exact codec (f32) the difference is the payload, and e and e' stay untouched pages until a resume (20 bytes in all). */
#ifndef ATOLL_WORKER_SYNC_THREAD_H
#define ATOLL_WORKER_SYNC_THREAD_H

#include "base/log.h"
#include "comms/link.h"
#include "outer/outer_copy.h"
#include "worker/sync_machine.h"

struct sync_thread;
struct worker_image;

/* The settings that may be others when an outer was started again (SETTING_SCOPE_CONTINUED). */
struct sync_continued {
    int64_t steps; /* inner.steps */
    struct eval_options eval;
};

struct sync_thread_options {
    struct worker_link *link; /* the thread owns it from here on */
    struct worker_link_options
        link_options; /* how another one is opened when it gives up; what it points at lives as long as the thread */
    /* Show the certificate to an outer that does not list this worker, and put its addresses into the options. Called in the sync thread, again
     * and again until *done; must never wait, since the compute thread may (sync_thread_save_end). STATUS_UNREACHABLE, STATUS_AGAIN: is tried
     * anew later. */
    enum status (*recover)(void *context, struct worker_link_options *options, bool *done, struct error *error);
    /* Those settings, from a WELCOME's run text. Called in the sync thread. false: it cannot be read, all stays as it was. */
    bool (*read_continued)(void *context, const struct message_welcome *welcome, struct sync_continued *continued);
    void *context; /* of both */
    const struct run_file *run;
    struct outer_copy *copy; /* version 0; of `resume` after the open */
    float *theta;            /* the model's live block */
    float *moment1, *moment2;
    const struct worker_image *
        resume; /* a checkpoint to go on from (theta and moments are the caller's), read by the open; NULL = the seed */
    uint64_t tokens; /* at least so many were counted before */
    struct log *log;
    struct message_hello hello; /* said again when the link comes back */
    struct message_ready ready;
    uint64_t session; /* from WELCOME */
    uint8_t run_id[MESSAGE_HASH_BYTES];
    uint8_t sign_key[MESSAGE_KEY_BYTES];
    uint64_t up_bytes_per_s; /* 0 = no cap */
    uint64_t down_bytes_per_s;
    const volatile int
        *interrupted; /* becomes true on SIGTERM: no call below waits on then, but for sync_thread_drain */
};

MUST_USE enum status sync_thread_open(const struct sync_thread_options *options, struct sync_thread **sync,
                                      struct error *error);
/* Says goodbye with `reason`, closes the link, joins the thread; *telemetry = its last numbers. */
void sync_thread_close(struct sync_thread *sync, const char *reason, struct message_telemetry *telemetry);

/* Why the island must stop: STATUS_OK while it need not. An orderly end (STOP from the outer, FAREWELL) is *orderly. */
enum status sync_thread_verdict(struct sync_thread *sync, bool *orderly, struct error *error);

/* Block until the run has started. False: stopped instead (see the verdict), or interrupted, or drained. */
bool sync_thread_wait_start(struct sync_thread *sync);

/* Before a step: until this process has joined once, block and merge what comes; but not while an outer copy is ready whose merge is not due
 * yet (strict): then train on, and ask again. False: as above. */
bool sync_thread_catch_up(struct sync_thread *sync);

/* What an inner step came to. */
struct sync_stepped {
    uint64_t step;
    uint64_t tokens; /* of this step only */
    double loss;
    uint64_t took_us;
};

/* After an inner step: sends and merges that are due; waits when a merge is due and its commit is not here. False: stop. */
bool sync_thread_step(struct sync_thread *sync, const struct sync_stepped *stepped);

/* At a step boundary: the settings that an outer which was started again has changed; true once for each change. With more steps, what was said
 * and heard of the end is void: sync_thread_finish and sync_thread_send_final have returned false, and training goes on behind this call. */
bool sync_thread_take_continued(struct sync_thread *sync, struct sync_continued *continued);

/* At a step boundary: the run went back from step *from, which this worker holds, to *to on another branch; true once for each time. From here on
 * merges take what is held to there. */
bool sync_thread_take_lost(struct sync_thread *sync, uint64_t *from, uint64_t *to);

/* This worker's token counter: it may jump, when the run saw it higher than this process knew. */
uint64_t sync_thread_tokens(struct sync_thread *sync);

/* Merge what is due and here, without waiting: called when the compute thread does something else for long. */
void sync_thread_merge_now(struct sync_thread *sync);

/* Training is over: resolve, send what is unsent, wait until the outer says that all versions are final. False: stop, or there are more steps. */
bool sync_thread_finish(struct sync_thread *sync);

/* SIGTERM, DRAIN: wait for the fate of what is in flight, at most timeout_us, and only while the outer is heard. */
void sync_thread_drain(struct sync_thread *sync, uint64_t timeout_us);

/* The outer said DRAIN: somebody wants this worker out; `reason` is what it said. */
bool sync_thread_is_drained(struct sync_thread *sync, char reason[MESSAGE_TEXT_BYTES]);

/* At a step boundary: all that this thread knows into the image: step, tokens, packed arrays, fragments. The compute thread stands still from the
 * first call to the return of the second, and may fill the rest of the image meanwhile. False: the island must stop, the image is not whole. */
void sync_thread_save_begin(struct sync_thread *sync, struct worker_image *image);
bool sync_thread_save_end(struct sync_thread *sync);

/* Memory of an image for this island. */
struct worker_image_sizes;
void sync_thread_image_sizes(const struct outer_copy *copy, size_t block_floats, struct worker_image_sizes *sizes);

/* Report the final state and wait for FAREWELL (at most timeout_us). */
/* can_evaluate: return true at once when this worker is made the evaluator meanwhile (the former one died): evaluate, and call again. */
bool sync_thread_send_final(struct sync_thread *sync, const struct message_final *final, bool can_evaluate,
                            uint64_t timeout_us);

/* The outer said END or FINISH: the run stops here, before the last step of this worker. */
bool sync_thread_is_ended(struct sync_thread *sync);

/* The step to go on from: above the own one after the others went on without this worker (sync_run_clock), also when it has just joined; and with
 * inner.pace: time (step_pace.h). */
uint64_t sync_thread_run_clock(struct sync_thread *sync);

/* Where the run stands: max(own step, R), and the tokens of all workers whose work is in the outer copy. */
void sync_thread_run(struct sync_thread *sync, uint64_t *run_step, uint64_t *run_tokens);

bool sync_thread_is_evaluator(struct sync_thread *sync);
/* For people. While the compute thread stands still it is WORKER_WAITING, or stays WORKER_CATCHING_UP or WORKER_ENDING. */
void sync_thread_set_phase(struct sync_thread *sync, enum worker_phase phase);
void sync_thread_set_eval(struct sync_thread *sync, uint64_t step, double loss, uint64_t eval_us);

/* Snapshot for logs and status (versions are those merged). */
void sync_thread_telemetry(struct sync_thread *sync, struct message_telemetry *telemetry);

#endif
