/* sync_state: what the two halves of the sync thread share; private to sync_thread.c (the compute thread's side) and sync_net.c,
 * sync_upload.c, sync_download.c and sync_save.c (the thread itself). Failpoints: worker.upload.chunk (of a contribution, handed to the link),
 * worker.download.chunk (of a snapshot, about to be taken), worker.download.memory, worker.apply.flip (a bit of g, or of a snapshot),
 * worker.step.flip (of what a commit leads to). */
#ifndef ATOLL_WORKER_SYNC_STATE_H
#define ATOLL_WORKER_SYNC_STATE_H

#include <pthread.h>
#include "base/arena.h"
#include "comms/pace.h"
#include "comms/transfer.h"
#include "worker/aside.h"
#include "worker/follow.h"
#include "worker/step_pace.h"
#include "worker/sync_thread.h"
#include "worker/worker_store.h"

enum { SYNC_JOBS_MAX = 6 * MESSAGE_FRAGMENTS_MAX, SYNC_DIFFERS_MAX = 3 };

enum sync_job_kind {
    SYNC_JOB_SEND,    /* the difference of a fragment is ready */
    SYNC_JOB_COUNTED, /* merged and counted: settle the residual, the upload is over */
    SYNC_JOB_COVERED, /* merged, but what the codec lost is not known here: no residual */
    SYNC_JOB_EXPIRE,  /* the record in flight is void */
    SYNC_JOB_DONE,    /* nothing unsent */
    SYNC_JOB_FINAL,   /* final hashes are known */
    SYNC_JOB_SAVE,    /* copy this thread's part into sync->image: all earlier jobs are done */
};

struct sync_job {
    enum sync_job_kind kind;
    uint32_t fragment;
    struct sync_action action; /* SEND */
};

/* A version on its way in, or here and waiting for the fragment's staging place: entry i of a fragment is entry i of follow's queue. */
struct sync_entry {
    bool is_snapshot;
    struct commit commit;
    struct transfer_receiver receiver;
    struct arena memory; /* of the payload */
    uint8_t *payload;    /* NULL: there was no memory */
    uint64_t bytes;
    bool complete;
};

/* One commit is on its way in while another is applied. */
enum { SYNC_SPARES_MAX = 2 };

struct sync_upload {
    bool active;
    bool
        again; /* refused, since the outer held another of this slot: offered again with the next commit, which settles that one */
    struct contribution contribution;
    struct transfer_sender sender;
    uint8_t *payload; /* of an exact codec (f32): the difference itself, made by the compute thread at the next send */
    uint32_t expired; /* contributions in a row that the outer refused as stale */
};

/* A fragment that the outer fetches from here. */
struct sync_serving {
    uint8_t *bytes; /* NULL = none */
    struct transfer_sender sender;
};

struct sync_thread {
    struct sync_thread_options options;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* something that the compute thread may wait for */

    /* ---- under the lock ---- */
    struct worker_link *link; /* replaced by the sync thread only */
    uint64_t changes;         /* counts the broadcasts: who saw a smaller number need not wait */
    struct sync_machine machine;
    struct sync_job jobs[SYNC_JOBS_MAX]; /* compute -> sync, a ring */
    uint32_t job_first, job_count;
    bool started, ended, finished, farewell; /* START or STATE, END, FINISH, FAREWELL came */
    bool joined;                             /* JOINED was said in this process: it holds, or held, what the run did */
    bool returning;                  /* JOINED was said, and the compute thread has not looked at the run clock since */
    bool drained;                    /* DRAIN came */
    uint64_t lost_from, lost_to;     /* the run went back so; 0 = it did not, or the compute thread has taken it */
    bool unheard;                    /* the outer says nothing, be it that there is no link */
    struct sync_continued continued; /* as the newest WELCOME says */
    bool continued_news;             /* the compute thread has not taken them yet */
    bool goes_on;                    /* among them: more steps */
    char drain_reason[MESSAGE_TEXT_BYTES];
    uint64_t final_versions[MESSAGE_FRAGMENTS_MAX];
    uint32_t evaluator_slot;
    bool closing; /* sync_thread_close was called */
    char goodbye[MESSAGE_TEXT_BYTES];
    bool stopped; /* the island must stop; verdict says why */
    bool orderly;
    struct error verdict;
    struct message_final final;
    struct message_telemetry telemetry;
    uint64_t trained;  /* tokens, in this process: the machine's counter jumps to what the run saw of this slot */
    uint64_t run_step; /* R: the largest send step that a prepared commit counts */
    uint64_t
        applied_to[MESSAGE_WORKERS_MAX]; /* per slot: its tokens in the outer copy, of the fragment that is furthest */
    struct step_pace step_pace;
    uint64_t waiting_since_us;  /* the compute thread stands still since; 0 = it runs */
    struct worker_image *image; /* to be filled by SAVE; NULL once it is */
    uint32_t sending;           /* the fragment whose payload the sync thread reads just now, and 1; 0 = none */
    bool sending_awaited;       /* the compute thread waits for that to end */

    /* ---- the sync thread's own ---- */
    uint64_t session;             /* 0 = not welcomed on this connection */
    bool connected;               /* the link stands, welcomed or not */
    uint64_t heard_us, hello_us;  /* newest message from the outer; newest HELLO */
    uint64_t bulk_bytes, bulk_us; /* that came on the bulk link; when the number last grew, or nothing was asked for */
    uint64_t relink_us;           /* the link has given up: a new one then; 0 = it has not */
    struct aside closing_link;    /* the one that has given up */
    bool recover;                 /* before that, show the certificate: the outer does not list this worker */
    uint64_t nobody_said_us;      /* when a person was told last that nobody answers */
    uint64_t expired_said_us;     /* the same, that contributions keep expiring */
    struct link_bytes bytes_before; /* of links that were given up */
    struct pace pace;
    uint32_t chunk_bytes;
    struct sync_upload uploads[MESSAGE_FRAGMENTS_MAX];
    uint32_t next_upload;
    struct follow follow;
    struct sync_entry entries[MESSAGE_FRAGMENTS_MAX][FOLLOW_QUEUED_MAX];
    uint32_t entry_count[MESSAGE_FRAGMENTS_MAX];
    struct arena
        spares[SYNC_SPARES_MAX]; /* of applied commits, for the next payloads: fresh pages cost more than bytes */
    struct worker_version held[MESSAGE_FRAGMENTS_MAX];   /* of (next, u): the newest prepared */
    struct worker_version merged[MESSAGE_FRAGMENTS_MAX]; /* of (g, u_before) while a newer one is ready */
    uint32_t differs[MESSAGE_FRAGMENTS_MAX];             /* wrong state hashes since a commit had the right one */
    struct sync_serving servings[MESSAGE_FRAGMENTS_MAX];
    bool done_said, final_said; /* said again when the link comes back */
    uint64_t next_report_us;
    uint64_t rate_trained, rate_us; /* where the running rate of tokens/s is measured from */
    uint64_t payload_up, payload_down, retransmitted_up;
    uint64_t foreign_sessions;

    /* ---- packed blocks, fragment f at copy->offsets[f] ---- */
    float *
        next; /* newest g: written by the sync thread while no copy is ready, read by the compute thread until MERGED */
    float *difference; /* written by the compute thread at SEND, then the sync thread's */
    float *pending;    /* e' */
    float *residual;   /* e; the compute thread's in RESET, when no job can touch it */
    float
        *u_before; /* u of the version before the newest: for a checkpoint, and to go back when a state hash is wrong */
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
/* This worker holds what the run stands at: say so, and what is in flight. */
void sync_say_joined(struct sync_thread *sync);

/* e and e' are in use: error feedback is on, and the codec leaves something out. */
bool sync_feeds_errors(const struct sync_thread *sync);

/* sync_upload.c */
void sync_upload_send(struct sync_thread *sync, const struct sync_action *action);
void sync_upload_offer(struct sync_thread *sync, uint32_t fragment);
void sync_upload_grant(struct sync_thread *sync, const struct message_grant *grant);
/* A new session: what was granted in the old one is void. */
void sync_upload_resume(struct sync_thread *sync);
/* The outer fetches a fragment from here: SNAPSHOT, and its bytes when they are granted. */
void sync_upload_fetched(struct sync_thread *sync, const struct message_fetch *fetch);
void sync_upload_end_serving(struct sync_thread *sync, uint32_t fragment);
/* Send what credit and pace allow; microseconds until more could go. */
uint64_t sync_upload_pump(struct sync_thread *sync, uint64_t now_us);

/* sync_download.c */
void sync_download_welcome(struct sync_thread *sync);
void sync_download_state(struct sync_thread *sync, const struct message_state *state);
void sync_download_commit(struct sync_thread *sync, const struct commit *commit);
void sync_download_snapshot(struct sync_thread *sync, const struct message_snapshot *snapshot);
void sync_download_chunk(struct sync_thread *sync, const struct chunk *chunk, const uint8_t *payload);
/* Prepare what is whole and has its staging place free. */
void sync_download_prepare(struct sync_thread *sync);
/* Bytes were asked for that have not come. */
bool sync_download_is_owed(const struct sync_thread *sync);
void sync_download_close(struct sync_thread *sync);
/* Under the lock: how far the run is, as far as this commit tells. */
void sync_note_run_locked(struct sync_thread *sync, const struct commit *commit);

/* sync_save.c */
/* This thread's part of a checkpoint, into sync->image. */
void sync_save(struct sync_thread *sync);
/* The other way, before the thread starts. */
MUST_USE enum status sync_load(struct sync_thread *sync, const struct sync_machine_options *options,
                               const struct worker_image *image, struct error *error);

/* Under the lock: wake the compute thread if it stands still. */
void sync_changed_locked(struct sync_thread *sync);

/* Under the lock, from either thread: the island must stop. The first reason stays. */
void sync_stop_locked(struct sync_thread *sync, bool orderly, enum status status, const char *text);

#endif
