/* outer_run: the state of a running outer, shared by the files of the daemon and by nothing else:
 *   outer_daemon.c   command, set-up, main loop, end
 *   outer_handlers.c what peers say -> events of the round machine
 *   outer_actions.c  actions of the round machine -> messages, transfers, jobs
 *   outer_sessions.c liveness, pacing and the bulk bytes that go out
 *   outer_control.c  status and tokens for the admin
 * One thread (the main one) touches it; the compute thread sees only its jobs. */
#ifndef ATOLL_OUTER_OUTER_RUN_H
#define ATOLL_OUTER_OUTER_RUN_H

#include <signal.h>
#include "base/log.h"
#include "comms/link.h"
#include "comms/pace.h"
#include "comms/transfer.h"
#include "outer/outer_compute.h"
#include "outer/round.h"
#include "outer/run_file.h"

enum { OUTER_COMMITS_KEPT = 8, OUTER_ROUND_TRIPS_KEPT = 4096, OUTER_UPLOAD_WINDOW_BYTES = 1 << 20 };

/* A contribution on its way in, one place per (slot, fragment). */
struct outer_upload {
    bool open;
    bool checking;  /* a CHECK job reads the buffer */
    bool discarded; /* thrown away while checking: freed when the job is back */
    uint8_t *buffer;
    struct transfer_receiver receiver;
    uint32_t bad_hashes;
};

/* A published commit and its payload, kept for members whose link comes back. */
struct outer_commit {
    struct commit commit; /* version 0 = empty */
    uint8_t hash[MESSAGE_HASH_BYTES];
    uint8_t *payload;
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
    bool ready;
    /* liveness */
    uint64_t ping_sequence;
    uint64_t next_ping_us;
    uint64_t heard_us;
    uint64_t slowest_us; /* largest round trip seen: the patience adapts to it */
    uint64_t round_trips_us[OUTER_ROUND_TRIPS_KEPT];
    uint32_t round_trip_count;
    /* way down */
    struct pace pace;
    uint32_t chunk_bytes;
    struct transfer_sender downloads[MESSAGE_FRAGMENTS_MAX]; /* key.version 0 = none */
    uint32_t next_download;
    /* what it says */
    struct message_telemetry telemetry;
    struct message_final final;
    bool has_final;
    char last_error[MESSAGE_TEXT_BYTES];
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
    uint64_t epoch;
    struct node_keys keys;
    struct admission *admission;
    struct token_address advertised;
    struct outer_link *link;
    struct tensor_table table;
    struct fragments fragments;
    struct outer_copy copy;
    struct commit_maker maker;
    struct outer_compute *compute;
    struct state_hash initial_hash;
    uint8_t heads[MESSAGE_FRAGMENTS_MAX][MESSAGE_HASH_BYTES]; /* identity of each fragment's newest version */
    uint64_t next_session;
    struct round_machine machine;
    struct outer_session sessions[MESSAGE_WORKERS_MAX];
    struct outer_upload uploads[MESSAGE_WORKERS_MAX][MESSAGE_FRAGMENTS_MAX];
    struct outer_commit commits[MESSAGE_FRAGMENTS_MAX][OUTER_COMMITS_KEPT]; /* at version mod OUTER_COMMITS_KEPT */
    uint64_t commit_count;
    uint64_t foreign_sessions; /* messages of old or foreign sessions, dropped */
    uint64_t refused_offers;
    uint64_t alone_since_us; /* started, but nobody connected since; 0 = somebody is */
    bool leaving;
    enum status end_status;
    char end_reason[MESSAGE_TEXT_BYTES];
};

/* outer_handlers.c */
void outer_on_message(struct outer_run *outer, const struct link_peer *peer, const struct message *message);
void outer_on_chunk(struct outer_run *outer, const struct link_peer *peer, const struct chunk *chunk,
                    const uint8_t *payload);
void outer_on_job(struct outer_run *outer, const struct outer_job *job);

/* outer_actions.c: feed one event to the round machine and carry out what it answers. */
void outer_feed(struct outer_run *outer, struct round_event event);

/* outer_sessions.c */
void outer_send(struct outer_run *outer, uint32_t slot,
                struct message *message);                               /* fills session; a failure dooms the session */
void outer_broadcast(struct outer_run *outer, struct message *message); /* to all ready members */
void outer_session_lost(struct outer_run *outer, uint32_t slot, const char *reason);
void outer_sessions_tick(struct outer_run *outer, uint64_t now_us);
/* Send what credit and pace allow; returns microseconds until more could go (UINT64_MAX = nothing waits). */
uint64_t outer_sessions_pump(struct outer_run *outer, uint64_t now_us);
void outer_log_round_trips(struct outer_run *outer);

/* outer_control.c */
void outer_on_admin(struct outer_run *outer, const struct link_peer *peer, const struct message *message);
/* A fresh token for this run's addresses. */
MUST_USE enum status outer_make_token(struct outer_run *outer, uint64_t ttl_s, uint32_t uses,
                                      char text[TOKEN_TEXT_BYTES], struct error *error);
#endif
