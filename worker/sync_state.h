/* sync_state: what the two halves of the sync thread share; private to sync_thread.c (the compute thread's side) and sync_net.c,
 * sync_upload.c and sync_download.c (the thread itself). */
#ifndef ATOLL_WORKER_SYNC_STATE_H
#define ATOLL_WORKER_SYNC_STATE_H

#include <pthread.h>
#include "base/arena.h"
#include "comms/pace.h"
#include "comms/transfer.h"
#include "worker/sync_thread.h"

enum { SYNC_COMMITS_QUEUED = 16, SYNC_JOBS_MAX = 4 * MESSAGE_FRAGMENTS_MAX };

enum sync_job_kind {
    SYNC_JOB_SEND,    /* the difference of a fragment is ready */
    SYNC_JOB_COUNTED, /* merged and counted: settle the residual, the upload is over */
    SYNC_JOB_EXPIRE,  /* the record in flight is void */
    SYNC_JOB_DONE,    /* nothing unsent */
    SYNC_JOB_FINAL,   /* final hashes are known */
};

struct sync_job {
    enum sync_job_kind kind;
    uint32_t fragment;
    struct sync_action action; /* SEND */
};

/* A commit whose payload is being fetched, or is here and waits for the fragment's staging place. */
struct sync_incoming {
    struct commit commit;
    struct transfer_receiver receiver;
    uint8_t *payload;
    bool complete;
};

struct sync_upload {
    bool active;
    struct contribution contribution;
    struct transfer_sender sender;
    uint8_t *payload;
};

struct sync_thread {
    struct sync_thread_options options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something that the compute thread may wait for */

    /* ---- under the lock ---- */
    uint64_t changes; /* counts the broadcasts: who saw a smaller number need not wait */
    struct sync_machine machine;
    struct sync_job jobs[SYNC_JOBS_MAX]; /* compute -> sync, a ring */
    uint32_t job_first, job_count;
    bool started, ended, finished, farewell; /* START, END, FINISH, FAREWELL came */
    uint64_t final_versions[MESSAGE_FRAGMENTS_MAX];
    uint32_t evaluator_slot;
    bool closing; /* sync_thread_close was called */
    char goodbye[MESSAGE_TEXT_BYTES];
    bool stopped; /* the island must stop; verdict says why */
    bool orderly;
    struct error verdict;
    struct message_final final;
    struct message_telemetry telemetry;
    uint64_t run_step;                        /* R: the largest send step that a prepared commit counts */
    uint64_t counted_to[MESSAGE_WORKERS_MAX]; /* per slot: how far its token counter is in prepared commits */
    uint64_t waiting_since_us;                /* the compute thread stands still since; 0 = it runs */

    /* ---- the sync thread's own ---- */
    uint64_t session;            /* 0 = not welcomed on this connection */
    bool connected;              /* the link stands, welcomed or not */
    uint64_t heard_us, hello_us; /* newest message from the outer; newest HELLO */
    struct pace pace;
    uint32_t chunk_bytes;
    struct sync_upload uploads[MESSAGE_FRAGMENTS_MAX];
    uint32_t next_upload;
    struct sync_incoming incoming[MESSAGE_FRAGMENTS_MAX][SYNC_COMMITS_QUEUED]; /* ring per fragment */
    uint32_t incoming_first[MESSAGE_FRAGMENTS_MAX], incoming_count[MESSAGE_FRAGMENTS_MAX];
    uint8_t heads[MESSAGE_FRAGMENTS_MAX][MESSAGE_HASH_BYTES]; /* identity of the newest prepared version */
    uint64_t prepared[MESSAGE_FRAGMENTS_MAX]; /* newest version prepared (merged or waiting for the merge) */
    bool done_said, final_said;               /* said again when the link comes back */
    uint64_t next_report_us;
    uint64_t rate_tokens, rate_tokens_us; /* where the running rate of tokens/s is measured from */
    uint64_t payload_up, payload_down, retransmitted_up;
    uint64_t foreign_sessions;

    /* ---- packed blocks, fragment f at copy->offsets[f] ---- */
    float *next; /* g_next: written by the sync thread until READY, then read by the compute thread until MERGED */
    float *difference; /* written by the compute thread at SEND, then the sync thread's */
    float *pending;    /* e' */
    float *residual;   /* e */
    float *delta;      /* (largest_count,) the sync thread's scratch */
    struct arena arena;
};

/* sync_net.c */
void *sync_net_main(void *sync);
float *sync_packed_at(struct sync_thread *sync, float *block, uint32_t fragment);
/* The island must stop (takes the lock). */
void sync_stop(struct sync_thread *sync, bool orderly, enum status status, const char *text);
/* One control message in the present session. Lost with the link: what matters is said again after the next WELCOME. */
void sync_say(struct sync_thread *sync, struct message *message);
/* The kernel's counters and the running rate, into the telemetry: what the compute thread logs with an evaluation. */
void sync_meter(struct sync_thread *sync, uint64_t now_us);
/* What the compute thread has asked for so far. */
void sync_do_jobs(struct sync_thread *sync);

/* sync_upload.c */
void sync_upload_send(struct sync_thread *sync, const struct sync_action *action);
void sync_upload_offer(struct sync_thread *sync, uint32_t fragment);
void sync_upload_grant(struct sync_thread *sync, const struct message_grant *grant);
/* Send what credit and pace allow; microseconds until more could go. */
uint64_t sync_upload_pump(struct sync_thread *sync, uint64_t now_us);

/* sync_download.c */
void sync_download_commit(struct sync_thread *sync, const struct commit *commit);
void sync_download_chunk(struct sync_thread *sync, const struct chunk *chunk, const uint8_t *payload);
/* A new session: ask again from where each payload stands. */
void sync_download_resume(struct sync_thread *sync, uint32_t fragment);
/* Prepare what is whole and has its staging place free. */
void sync_download_prepare(struct sync_thread *sync);

/* Under the lock: wake the compute thread if it stands still. */
void sync_changed_locked(struct sync_thread *sync);

/* Under the lock, from either thread: the island must stop. The first reason stays. */
void sync_stop_locked(struct sync_thread *sync, bool orderly, enum status status, const char *text);

#endif
