/* outer_run: the state of a running outer, shared by the files of the daemon and by nothing else:
 *   outer_daemon.c   command, set-up, main loop, end
 *   outer_handlers.c what peers say -> events of the round machine
 *   outer_actions.c  actions of the round machine -> messages, transfers, jobs
 *   outer_lead.c     how it comes to lead: taking over what members hold that is newer
 *   outer_catch_up.c who comes back: the run's heads, replays, whole fragments
 *   outer_agreement.c whose state hash is wrong: a member's, or its own
 *   outer_sessions.c liveness, pacing and the bulk bytes that go out
 *   outer_control.c  status, tokens and drain for the admin
 * One thread (the main one) touches it; the compute thread sees only its jobs. */
#ifndef ATOLL_OUTER_OUTER_RUN_H
#define ATOLL_OUTER_OUTER_RUN_H

#include <signal.h>
#include "base/log.h"
#include "comms/link.h"
#include "comms/pace.h"
#include "comms/transfer.h"
#include "outer/agreement.h"
#include "outer/outer_compute.h"
#include "outer/outer_disk.h"
#include "outer/outer_memory.h"
#include "outer/recovery.h"
#include "outer/round.h"
#include "outer/run_file.h"
#include "outer/staging.h"
#include "outer/update_guard.h"

enum {
    OUTER_COMMITS_KEPT = COMMIT_LOG_KEPT,
    OUTER_ROUND_TRIPS_KEPT = 4096,
    OUTER_SPARES_MAX = MESSAGE_WORKERS_MAX,
};

/* A contribution on its way in, one place per (slot, fragment). */
struct outer_upload {
    bool open;
    bool checking;       /* a CHECK job reads the buffer */
    bool discarded;      /* thrown away while checking: freed when the job is back */
    struct arena memory; /* pages of its own, so that what is closed is gone */
    uint8_t *buffer;
    struct transfer_receiver receiver;
    uint32_t bad_hashes;
    double norm; /* once checked */
};

/* A commit and its payload, kept for members that come back. In the making (its round is closing) until it is durable. */
struct outer_commit {
    struct commit commit; /* version 0 = empty */
    struct head head;
    bool has_payload; /* false: taken over as a whole fragment, cannot be replayed */
    uint8_t *payload;
};

/* A whole fragment, packed for those that cannot reach it by replay. */
struct outer_snapshot {
    bool used;
    bool made;
    uint32_t fragment;
    struct message_snapshot message;
    uint8_t *bytes;
    uint64_t touched_us; /* last asked for: the one that nobody asked for longest makes room */
};

/* A whole fragment on its way in, from a member that bears a newer version than this outer, before it leads. */
struct outer_taking {
    bool open;
    bool unpacking;    /* a TAKE job reads the buffer */
    uint64_t again_us; /* it is here, but could not be written: the next try; 0 = none waits */
    uint32_t slot;
    struct message_snapshot message;
    struct transfer_receiver receiver;
    uint8_t *buffer;
};

struct outer_session {
    bool known;     /* welcomed: peer and session are set */
    bool connected; /* its link is believed to live */
    const char *
        doomed; /* a send failed: lost at the next tick, with this reason. Not at once: a send may stand in mid-action */
    struct link_peer peer;
    uint64_t session;
    uint64_t incarnation;
    char name[MESSAGE_NAME_BYTES];
    bool ready;  /* READY accepted: it hears what is published */
    bool stated; /* STATE said */
    bool joined; /* it holds the run's heads: a member of rounds */
    bool has_validation;
    struct message_hello hello; /* what it bears */
    struct { /* another process says HELLO with this key while this one is believed to live: held until that is known */
        bool waits;
        uint64_t since_us;
        struct link_peer peer;
        struct message_hello hello;
    } contender;
    uint64_t cut_off_us; /* revoked: it may finish until then; 0 = it may stay */
    /* liveness */
    uint64_t ping_sequence;
    uint64_t next_ping_us;
    uint64_t heard_us;
    uint64_t slowest_us; /* largest round trip seen: the patience adapts to it */
    bool bulk_heard;     /* a chunk came in this session */
    uint64_t bulk_bytes; /* that came on its bulk link, and when the number last grew or nothing was asked for */
    uint64_t bulk_us;
    uint64_t round_trips_us[OUTER_ROUND_TRIPS_KEPT];
    uint32_t round_trip_count;
    /* way down */
    struct pace pace;
    uint32_t chunk_bytes;
    struct transfer_sender downloads[MESSAGE_FRAGMENTS_MAX]; /* commits; key.version 0 = none */
    uint32_t next_download;
    bool wants_snapshot[MESSAGE_FRAGMENTS_MAX]; /* asked by FETCH, not answered yet */
    struct transfer_sender snapshot;            /* one whole fragment at a time */
    /* what it says */
    struct message_telemetry telemetry;
    struct message_final final;
    bool has_final;
    uint32_t expired[MESSAGE_FRAGMENTS_MAX]; /* contributions in a row that were refused as stale */
    char last_error[MESSAGE_TEXT_BYTES];
};

/* A new worker's REGISTER, held until the members of a run that this start did not begin had time to come back (outer_handlers.c). */
struct outer_registering {
    bool waits;
    struct link_peer peer;
    struct message_register request;
};

struct outer_run {
    struct run_file run;
    char directory[RUN_PATH_BYTES];
    struct log *log;
    uint64_t opened_us;
    char *run_text; /* what WELCOME carries */
    uint8_t keys_hash[RUN_KEYS_HASH_BYTES];
    uint8_t tokenizer_hash[MESSAGE_HASH_BYTES];
    uint8_t run_id[MESSAGE_HASH_BYTES];
    struct node_keys keys;
    struct outer_disk disk; /* epoch, how far the run is */
    struct commit_log *commit_log;
    struct recovery recovery;
    struct admission *admission;
    struct token_address advertised[TOKEN_ADDRESSES_MAX]; /* this one first, then where it may come back */
    uint32_t advertised_count;
    struct outer_link *link;
    struct tensor_table table;
    struct fragments fragments;
    struct outer_copy copy;
    struct commit_maker maker;
    struct outer_compute *compute;
    struct update_guard guard;
    struct agreement *agreement; /* outlives this start */
    struct state_hash initial_hash;
    struct head genesis[MESSAGE_FRAGMENTS_MAX]; /* of the seed's parameters */
    struct head heads[MESSAGE_FRAGMENTS_MAX];   /* of each fragment's newest durable version */
    uint64_t led_from[MESSAGE_FRAGMENTS_MAX];   /* version that it led from: those above are of its own epoch */
    uint64_t next_session;
    struct outer_registering registering[MESSAGE_WORKERS_MAX];
    struct round_machine machine;
    struct outer_session sessions[MESSAGE_WORKERS_MAX];
    struct staging staging; /* which of them may be in memory */
    struct outer_upload uploads[MESSAGE_WORKERS_MAX][MESSAGE_FRAGMENTS_MAX];
    struct arena spares
        [OUTER_SPARES_MAX]; /* memory of uploads that are over, for the next ones: fresh pages cost more than the bytes */
    uint64_t staging_bytes; /* held and spare together stay within it: the most that the staging holds */
    uint32_t payloads_kept; /* per fragment: the newest so many commits can be replayed */
    struct outer_commit commits[MESSAGE_FRAGMENTS_MAX][OUTER_COMMITS_KEPT]; /* at version mod OUTER_COMMITS_KEPT */
    struct outer_snapshot snapshots[OUTER_SNAPSHOTS_MAX];
    struct outer_taking takings[MESSAGE_FRAGMENTS_MAX];
    uint64_t failed_mask; /* slots that gave something wrong, while more of them is being unpacked */
    uint64_t asked_us[MESSAGE_FRAGMENTS_MAX]; /* a fragment that is taken over: the last that was said or came of it */
    struct pace pace;                         /* outer.link: all that goes down */
    uint32_t next_pump;
    bool log_again[MESSAGE_FRAGMENTS_MAX]; /* its commit could not be written */
    uint64_t log_again_us;                 /* the next try; 0 = none waits */
    uint64_t recovery_said_us;
    uint64_t turned_us;        /* the last turn of the main loop: a long gap means that this node stood still */
    uint64_t stood_still_us;   /* ... so long that members took it for dead: when it went on; 0 = never */
    uint64_t foreign_sessions; /* messages of old or foreign sessions, dropped */
    uint64_t refused_offers;
    uint64_t refused_updates; /* of those: not finite, or far too large */
    uint64_t patience_us;     /* how long to stay when nobody is here; UINT64_MAX = for ever */
    uint64_t alone_said_us;
    uint64_t alone_since_us; /* nobody connected since; 0 = somebody is */
    bool leaving;
    struct {              /* what is dropped at the end, whereupon this outer starts over */
        uint64_t version; /* this one and all later ones; 0 = nothing */
        uint32_t fragment;
        bool is_last; /* it would do so for ever: no other start */
    } drop;
    enum status end_status;
    char end_reason[MESSAGE_TEXT_BYTES];
};

/* outer_handlers.c */
void outer_on_message(struct outer_run *outer, const struct link_peer *peer, const struct message *message);
void outer_on_chunk(struct outer_run *outer, const struct link_peer *peer, const struct chunk *chunk,
                    const uint8_t *payload);
void outer_on_job(struct outer_run *outer, const struct outer_job *job);

/* Who was held and may be answered now. Called once a turn. */
void outer_register_waiting(struct outer_run *outer, uint64_t now_us);

/* outer_actions.c: feed one event to the round machine and carry out what it answers. */
void outer_feed(struct outer_run *outer, struct round_event event);

/* Uploads that waited for memory begin when there is some. Called once a turn. */
void outer_admit_waiting(struct outer_run *outer, uint64_t now_us);
void outer_close_uploads(struct outer_run *outer);
/* What uploads left is given back: nobody sends any more. */
void outer_close_spares(struct outer_run *outer);

/* Commits that could not be written are tried again when it is time. */
void outer_log_again(struct outer_run *outer, uint64_t now_us);

/* outer_lead.c */
/* Opens the recovery machine; it leads at once where nothing can be lost. */
void outer_recovery_open(struct outer_run *outer, enum recovery_mode mode, uint64_t window_us, bool force);
void outer_recovery_feed(struct outer_run *outer, struct recovery_event event);
/* Says now and then why it does not lead yet. */
void outer_recovery_tick(struct outer_run *outer, uint64_t now_us);
/* Why it does not lead yet, for people; "" when it does. */
void outer_recovery_reason(const struct outer_run *outer, char text[MESSAGE_TEXT_BYTES]);
void outer_on_snapshot(struct outer_run *outer, uint32_t slot, const struct message_snapshot *snapshot);
void outer_on_snapshot_chunk(struct outer_run *outer, uint32_t slot, const struct chunk *chunk, const uint8_t *payload);
void outer_on_taken(struct outer_run *outer, const struct outer_job *job);
/* Slots that commits, members and outer.json name: a bit each. */
uint64_t outer_named_slots(const struct outer_run *outer);
void outer_lead_lost(struct outer_run *outer, uint32_t slot); /* the session ended */
void outer_lead_close(struct outer_run *outer);
/* What outer.json says of the run, after START, END, FINISH and each change of the members. A failure is a warning. */
void outer_write_state(struct outer_run *outer);

/* outer_catch_up.c */
/* Commits of the run so far, whoever made them. */
uint64_t outer_commit_count(const struct outer_run *outer);
struct outer_commit *outer_commit_place(struct outer_run *outer, uint32_t fragment, uint64_t version);
/* A ready session: what it bears is heard, and it is told the run's heads once this outer leads. */
void outer_greet(struct outer_run *outer, uint32_t slot);
void outer_say_state(struct outer_run *outer, uint32_t slot);
bool outer_is_blocked(const struct outer_run *outer, uint32_t slot);
void outer_on_joined(struct outer_run *outer, uint32_t slot, const struct message_joined *joined);
void outer_on_fetch(struct outer_run *outer, uint32_t slot, const struct message_fetch *fetch);
/* The fragment's newest version is sent whole, when it is time: to who asks, once this outer leads; never version 0, which the seed gives. */
void outer_want_snapshot(struct outer_run *outer, uint32_t slot, uint32_t fragment);
/* Whole fragments that members asked for: packed and said, one at a time per member. Called once a turn. */
void outer_serve_snapshots(struct outer_run *outer);
void outer_on_snapshot_made(struct outer_run *outer, const struct outer_job *job);
void outer_on_snapshot_grant(struct outer_run *outer, uint32_t slot, const struct message_grant *grant);
/* The session ended: what it was sending or asking for goes no further. */
void outer_catch_up_lost(struct outer_run *outer, uint32_t slot);
void outer_catch_up_close(struct outer_run *outer);

/* outer_agreement.c */
void outer_on_applied(struct outer_run *outer, uint32_t slot, const struct message_applied *applied);
/* Somebody came to another state, and it is not settled whose is wrong: nobody is given this fragment. May end this start. */
bool outer_is_disputed(struct outer_run *outer, uint32_t fragment);
/* What this outer holds of the fragment is wrong from this version on. Ends this start. */
void outer_drop_from(struct outer_run *outer, uint32_t fragment, uint64_t version);

/* outer_handlers.c: a HELLO that was held back, since the key seemed to live elsewhere. */
void outer_consider_contender(struct outer_run *outer, uint32_t slot, uint64_t now_us);

/* outer_sessions.c */
void outer_send(struct outer_run *outer, uint32_t slot,
                struct message *message);                               /* fills session; a failure dooms the session */
void outer_broadcast(struct outer_run *outer, struct message *message); /* to all ready members */
void outer_session_lost(struct outer_run *outer, uint32_t slot, const char *reason);
void outer_session_left(struct outer_run *outer, uint32_t slot, const char *reason); /* it said goodbye */
void outer_sessions_tick(struct outer_run *outer, uint64_t now_us);
/* Send what credit and pace allow; returns microseconds until more could go (UINT64_MAX = nothing waits). */
uint64_t outer_sessions_pump(struct outer_run *outer, uint64_t now_us);
void outer_log_round_trips(struct outer_run *outer); /* at the end: sorts what it kept, in place */

/* outer_control.c */
void outer_on_admin(struct outer_run *outer, const struct link_peer *peer, const struct message *message);
/* Key, name and addresses of this run; the rest is whoever makes the token's. */
struct token outer_blank_token(const struct outer_run *outer);
#endif
