/* sim: the real protocol machines of one outer and up to 64 workers under a virtual clock, over a simulated network and simulated disks.
 *
 *   sim_world.c   clock, event heap, dice, trace, pools              sim_work.c    sets of tokens
 *   sim_config.c  what a seed stands for                             sim_net.c     links: latency, rate, loss, late and clogged messages
 *   sim_outer.c   what outer_handlers and outer_actions do           sim_recover.c what outer_catch_up and the outer's disk do
 *   sim_worker.c  the compute thread and its arithmetic              sim_sync.c    the sync thread: sessions, uploads, downloads
 *   sim_store.c   the worker's checkpoints, kills and restarts       sim_faults.c  what goes wrong, and when
 *   sim_oracle.c  independent bookkeeping, and the invariants        sim_main.c    options, runs, reports
 *
 * Real: outer/{round,recovery,ledger,members,schedule}, worker/{sync_machine,follow}. The glue does what the daemons do, without bytes: a
 * payload is a 64-bit identity, the state of a fragment (g and u) a hash chain over the payloads that made it, so that equal states
 * are equal numbers. What a local copy holds beyond its outer copy (theta - g) is the set of the tokens whose work is in it.
 *
 * Nothing here takes the host's clock or memory addresses into account: a seed and its options give the same events everywhere. */
#ifndef ATOLL_TEST_SIM_H
#define ATOLL_TEST_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include "outer/recovery.h"
#include "outer/round.h"
#include "worker/follow.h"
#include "worker/sync_machine.h"

enum {
    SIM_FRAGMENTS = 6,
    SIM_WORKERS = MESSAGE_WORKERS_MAX,
    SIM_KEPT = 8, /* commits that an outer keeps for replay; COMMIT_LOG_KEPT */
    SIM_EVENTS = 1 << 15,
    SIM_MESSAGES = 1 << 14,
    SIM_COMMITS = 1 << 13,
    SIM_CONTENTS = 1 << 15,
    SIM_SPANS = 24,
    SIM_TRACED = 50,
    SIM_TRACE_VALUES = 6,
    SIM_OUTER = SIM_WORKERS,  /* as a node beside the workers' slots */
    SIM_PAYLOAD_BYTES = 1000, /* what a contribution of fragment 0 is said to weigh; fragment f: f more */
};

#define SIM_SECOND ((uint64_t)1000000)
#define SIM_NOBODY UINT32_MAX

/* ---- configuration: drawn from the seed (sim_config.c) ---- */

struct sim_config {
    uint64_t seed;
    uint64_t timing; /* another value: the same run with other delays (invariant 9) */
    uint32_t workers, late_workers, fragments;
    uint64_t every_steps, last_step;
    bool strict;
    uint64_t overlap_steps, drift, stale;
    int32_t quorum;
    uint32_t min_workers;
    int64_t grace_us;
    uint32_t intensity; /* 0 no faults .. 3 wild */
    uint64_t faults_us; /* faults happen until then */
    uint64_t fault_every_us;
    uint64_t step_us; /* of the fastest worker */
    uint32_t spread;  /* the slowest is so many times slower */
    uint64_t latency_us;
    uint64_t transfer_us; /* of one payload */
    uint32_t slow_slot;   /* its way up takes slow_us for one payload; SIM_NOBODY = all are alike */
    uint64_t slow_us;
    uint64_t window_us; /* recovery */
    bool rollbacks;     /* the outer's disk may be lost, or be an old copy */
    bool forgetful;     /* workers may lose checkpoints */
    bool refusals;      /* contents of contributions may be refused */
    bool corruption;    /* a worker's outer copy may get a wrong bit */
};

void sim_config_draw(struct sim_config *config, uint64_t seed, uint32_t workers, int intensity);

/* ---- sets of tokens (sim_work.c): half-open spans of a slot's true count of tokens, ascending, never touching ---- */

struct sim_span {
    uint64_t from, to;
};
struct sim_work {
    uint32_t count;
    struct sim_span list[SIM_SPANS];
};
void sim_work_add(struct sim_work *work, uint64_t from, uint64_t to); /* above all that is in it */
void sim_work_remove(struct sim_work *work, const struct sim_work *other);
void sim_work_unite(struct sim_work *work, const struct sim_work *other);
uint64_t sim_work_size(const struct sim_work *work);
bool sim_work_meets(const struct sim_work *a, const struct sim_work *b);
uint64_t sim_work_hash(const struct sim_work *work, uint64_t hash);

/* ---- what is made once and never changes: pools, known by index ---- */

/* A payload that a worker made: whose work is really in it. */
struct sim_content {
    uint32_t slot, fragment;
    uint64_t identity;
    uint64_t weight; /* what the offer said */
    struct sim_work work;
};

/* A commit as it was signed, and the oracle's notes on it. Indices 0 .. fragments - 1: the seed's parameters, version 0. */
struct sim_commit {
    struct commit commit;
    struct head head;
    uint32_t parent;
    uint64_t payload, state;
    uint64_t residual_before, residual_after; /* of the way down */
    bool published;
    uint32_t counted_count;
    uint32_t counted[SIM_WORKERS]; /* contents */
    uint32_t newest[SIM_WORKERS];  /* per slot: the newest commit of the chain that counts it, or SIM_NOBODY */
};

/* ---- messages and links (sim_net.c) ---- */

enum { SIM_BULK = MESSAGE_TYPE_COUNT }; /* the whole payload of one transfer */

struct sim_message {
    uint8_t type;
    uint64_t session;
    uint64_t due_us;
    uint32_t next; /* in its lane, or in the free list */
    uint32_t fragment, kind, commit, content, code;
    uint64_t version, state, tokens, step, mask, incarnation;
    bool started, has_validation, has_eval, waiting, damaged;
    struct contribution offer;
    struct head heads[SIM_FRAGMENTS];
};

enum { LANE_UP, LANE_UP_BULK, LANE_DOWN, LANE_DOWN_BULK, LANES };

struct sim_lane {
    uint32_t first, last; /* messages */
    uint64_t free_us;     /* when what was sent before is through */
    uint64_t clogged_until_us;
    bool scheduled;
};

struct sim_link {
    bool up;               /* a connection stands */
    uint32_t number;       /* of the connection */
    uint32_t dials;        /* only the newest counts */
    uint64_t cut_until_us; /* no connection can be made */
    struct sim_lane lanes[LANES];
};

void sim_net_open(void);
void sim_net_send(uint32_t worker, uint32_t lane, const struct sim_message *message);
void sim_net_dial(uint32_t worker); /* in a while */
void sim_net_cut(uint32_t worker, bool outer_sees,
                 bool worker_sees); /* what is on its way is lost, arrives, or arrives late */
void sim_net_clog(uint32_t worker, bool up, bool down, uint64_t until_us);
void sim_net_forget(uint32_t worker, uint32_t lane); /* what is on its way there is lost */
void sim_net_on_lane(uint32_t worker, uint32_t lane);
void sim_net_on_dial(uint32_t worker, uint32_t dial);

/* ---- the outer (sim_outer.c, sim_recover.c) ---- */

/* What survives a kill. Commits are indices; the newest is the last. */
struct sim_log {
    uint32_t count;
    uint32_t commits[SIM_KEPT];
    bool has_payload[SIM_KEPT];
    uint64_t residual;
};
struct sim_disk {
    bool has_key;
    uint64_t epoch;
    bool started, ended, finished;
    uint64_t live_mask;
    struct sim_log logs[SIM_FRAGMENTS];
};

struct sim_upload {
    bool open, complete, checking, discarded;
    uint32_t content;
    uint32_t bad;
};

struct sim_session {
    bool connected, ready, stated, joined, has_validation;
    uint64_t number, incarnation, heard_us, tokens;
    struct head bears[SIM_FRAGMENTS];
    uint64_t run_step, members_mask;
    bool wants_snapshot[SIM_FRAGMENTS];
    uint32_t serving[SIM_FRAGMENTS]; /* commit of the snapshot that was said, or SIM_NOBODY */
    bool doomed;
};

enum sim_job_kind { JOB_CHECK, JOB_COMMIT, JOB_LOG, JOB_SNAPSHOT, JOB_TAKE };
struct sim_job {
    enum sim_job_kind kind;
    bool used;
    uint32_t slot, fragment, commit, content;
    uint64_t version, state;
};
enum { SIM_JOBS = 1024 };

struct sim_outer {
    struct sim_disk disk, backup;
    bool has_backup;
    /* the process */
    bool alive;
    uint32_t life;
    uint64_t paused_until_us, turned_us, stood_still_us;
    uint64_t next_session;
    struct round_machine machine;
    struct recovery recovery;
    uint32_t heads[SIM_FRAGMENTS];  /* newest durable commits */
    uint32_t making[SIM_FRAGMENTS]; /* made, not durable */
    struct sim_log kept[SIM_FRAGMENTS];
    struct sim_session sessions[SIM_WORKERS];
    struct sim_upload uploads[SIM_WORKERS][SIM_FRAGMENTS];
    struct {
        bool open, unpacking;
        uint32_t slot, commit;
    } takings[SIM_FRAGMENTS];
    struct sim_job jobs[SIM_JOBS];
    uint32_t job_next;
    uint64_t full_until_us; /* its disk takes no writes */
    uint64_t tick_us;       /* of the next scheduled tick; only the newest counts */
    uint32_t tick;
    uint64_t next_ping_us;
    bool left;
};

void sim_outer_start(void);
void sim_outer_kill(void);
void sim_outer_on_tick(uint32_t tick, uint64_t life);
void sim_outer_on_job(uint32_t job, uint64_t life);
void sim_outer_hears(uint32_t slot, const struct sim_message *message);
void sim_outer_link_lost(uint32_t slot);
void sim_outer_feed(struct round_event event);
void sim_outer_send(uint32_t slot, struct sim_message *message);
void sim_outer_submit(struct sim_job job, uint64_t delay_us);
void sim_outer_session_lost(uint32_t slot);

void sim_recover_open(void);
void sim_recover_tick(void);
void sim_recover_greet(uint32_t slot);
void sim_recover_joined(uint32_t slot, const struct sim_message *message);
void sim_recover_fetch(uint32_t slot, const struct sim_message *message);
void sim_recover_grant(uint32_t slot, const struct sim_message *message);
void sim_recover_snapshot(uint32_t slot, const struct sim_message *message);
void sim_recover_bulk(uint32_t slot, const struct sim_message *message);
void sim_recover_snapshot_made(const struct sim_job *job);
void sim_recover_taken(const struct sim_job *job);
void sim_recover_lost(uint32_t slot);
void sim_recover_write_state(void);
void sim_disk_append(struct sim_log *log, uint32_t commit, bool has_payload);

/* ---- a worker (sim_worker.c, sim_sync.c, sim_store.c) ---- */

struct sim_entry {
    uint32_t commit;
    bool snapshot, complete, granted;
    uint64_t bytes; /* a snapshot's state, a commit's payload */
};

/* One fragment at a worker. */
struct sim_piece {
    uint32_t g_commit; /* merged */
    uint64_t g_state;
    bool damaged;         /* a wrong bit is in it: found out when the next commit is applied, or never */
    uint32_t next_commit; /* prepared, while the machine says ready */
    uint64_t next_state;
    struct sim_work work;    /* theta - g */
    struct sim_work orphans; /* of it, what may be in a send that this process has no record of */
    uint64_t residual, residual_pending;
    bool uploading;
    bool encoding; /* not offered yet */
    bool again;    /* refused, since the outer held another of this slot: offered again with the next commit */
    struct contribution offer;
    uint32_t content;
    uint64_t trained; /* steps since the send of the record that is unresolved */
    struct sim_entry queue[FOLLOW_QUEUED_MAX];
    uint32_t queue_count;
    uint32_t differed; /* in a row */
};

struct sim_checkpoint {
    bool valid;
    uint64_t step, tokens;
    struct sync_fragment fragments[SIM_FRAGMENTS];
    struct sim_piece pieces[SIM_FRAGMENTS];
};

enum sim_mode { MODE_CATCH_UP, MODE_TRAIN, MODE_WAIT, MODE_END, MODE_FINAL };

struct sim_worker {
    uint32_t slot;
    uint64_t true_tokens;   /* of all its processes: the oracle's count */
    uint64_t logged_tokens; /* the highest in its log */
    uint64_t step_us, tokens_per_step;
    bool has_validation, invited;         /* invited: a late worker's time has come */
    struct sim_checkpoint checkpoints[2]; /* newest first */
    struct sim_checkpoint writing;
    bool is_writing;
    /* the process */
    bool alive;
    uint32_t life;
    uint64_t incarnation, paused_until_us;
    enum sim_mode mode;
    bool scheduled;      /* a COMPUTE event is on its way */
    uint64_t encoded_us; /* when all that it sent is encoded */
    struct sync_machine machine;
    struct follow follow;
    struct sim_piece pieces[SIM_FRAGMENTS];
    uint64_t step;
    uint64_t session, heard_us;
    bool connected, joined, returning, started, ended, finished, done_said, final_said, farewell;
    uint64_t final_versions[SIM_FRAGMENTS];
    uint64_t newest_step, newest_mask; /* of the newest commit held */
    struct {
        bool open;
        uint32_t commit;
        uint64_t state;
    } serves[SIM_FRAGMENTS]; /* for an outer that takes over */
};

void sim_worker_start(uint32_t slot);
void sim_worker_kill(uint32_t slot);
void sim_worker_on_compute(uint32_t slot, uint64_t life);
void sim_worker_on_tick(uint32_t slot, uint64_t life);
void sim_worker_wake(uint32_t slot);
void sim_worker_feed(uint32_t slot, struct sync_event event, bool *wait);
void sim_worker_tell(uint32_t slot, struct sync_event event); /* what is answered by no action */

void sim_sync_connected(uint32_t slot);
void sim_sync_lost(uint32_t slot);
void sim_sync_hears(uint32_t slot, const struct sim_message *message);
void sim_sync_prepare(uint32_t slot);
void sim_sync_say(uint32_t slot, struct sim_message *message);
void sim_sync_send(uint32_t slot, uint32_t fragment);
void sim_sync_on_encoded(uint32_t slot, uint32_t content, uint64_t life);
void sim_sync_say_done(uint32_t slot);
void sim_sync_say_final(uint32_t slot);

void sim_store_take(uint32_t slot);
void sim_store_on_written(uint32_t slot, uint64_t life);

/* ---- the world (sim_world.c) ---- */

enum sim_event_kind {
    EVENT_LANE,    /* worker, lane in a */
    EVENT_DIAL,    /* worker, dial in a */
    EVENT_COMPUTE, /* worker, life in b */
    EVENT_WORKER_TICK,
    EVENT_ENCODED, /* worker, content in a, life in b */
    EVENT_STORED,
    EVENT_OUTER_TICK, /* life in b */
    EVENT_JOB,        /* job in a, life in b */
    EVENT_FAULT,
    EVENT_START_WORKER, /* worker */
    EVENT_START_OUTER,
    EVENT_HEAL,
};

struct sim_event {
    uint64_t due_us, sequence;
    uint8_t kind;
    uint32_t worker, a;
    uint64_t b;
};

struct sim_counts {
    uint64_t events, steps, commits, kills, outer_kills, cuts, clogs, pauses, rollbacks, snapshots, replays, covered,
        resets, expired, differs, taken, refused, finished;
};

struct sim_world {
    struct sim_config config;
    uint64_t now_us, sequence;
    bool healed, calm; /* calm: no fault ever happened */
    uint64_t heal_us, deadline_us;
    uint64_t dice;
    struct sim_outer outer;
    uint32_t worker_count;
    struct sim_worker workers[SIM_WORKERS];
    struct sim_link links[SIM_WORKERS];
    struct sim_event heap[SIM_EVENTS];
    uint32_t heap_count;
    struct sim_message messages[SIM_MESSAGES];
    uint32_t message_free, message_fresh;
    struct sim_commit commits[SIM_COMMITS];
    uint32_t commit_count;
    struct sim_content contents[SIM_CONTENTS];
    uint32_t content_count;
    uint32_t doomed_node; /* dies after so many more effects on the world, in the middle of what it does; */
    uint32_t doom;        /* 0 = not */
    bool dying;           /* it is dead already: nothing that it does takes effect any more */
    struct sim_counts counts;
};
extern struct sim_world world;

void sim_world_open(const struct sim_config *config);
/* Until the run ended or its time is over. false: a violation was found (sim_violation_text). */
bool sim_world_run(const struct sim_config *config, uint64_t events_max);
const char *sim_violation_text(void);

void sim_schedule(uint64_t due_us, enum sim_event_kind kind, uint32_t worker, uint32_t a, uint64_t b);
uint64_t sim_hash(uint64_t a, uint64_t b);
uint64_t sim_throw(void);
uint64_t sim_below(uint64_t count);               /* 0 .. count - 1 */
uint64_t sim_between(uint64_t from, uint64_t to); /* inclusive */
bool sim_chance(uint64_t one_in);
/* Another effect of this node on the world (a message, a write): false when it is dead already. */
bool sim_effect(uint32_t node);

/* One line of the trace: `format` takes only %llu, in the order of the values. Cheap: formatted when it is printed. */
#define TRACE(...) TRACE_OF(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define TRACE_OF(format, a, b, c, d, e, f, ...)                                                                        \
    sim_trace(format, (const uint64_t[SIM_TRACE_VALUES]){(uint64_t)(a), (uint64_t)(b), (uint64_t)(c), (uint64_t)(d),   \
                                                         (uint64_t)(e), (uint64_t)(f)})
void sim_trace(const char *format, const uint64_t values[SIM_TRACE_VALUES]);
void sim_trace_print(void); /* the last SIM_TRACED lines */
extern bool sim_trace_live;

/* An invariant does not hold: ends the run. */
__attribute__((noreturn, format(printf, 1, 2))) void sim_violation(const char *format, ...);
#define DEMAND(condition, ...) ((condition) ? (void)0 : sim_violation(__VA_ARGS__))

/* ---- faults (sim_faults.c) ---- */

void sim_faults_open(void);
void sim_faults_on_event(void);
void sim_faults_heal(void);
/* stale: auto. With all mended and everybody there: the longest that a live worker may train without counting in a commit of each fragment. */
uint64_t sim_faults_starving_us(void);
void sim_faults_strike(void); /* the doomed node dies, between two of its effects */

/* ---- the oracle (sim_oracle.c) ---- */

struct commit *sim_oracle_new_commit(uint32_t *index);
void sim_oracle_step(uint32_t slot, uint64_t tokens);
/* A payload of what theta - g really holds. */
uint32_t sim_oracle_sent(uint32_t slot, uint32_t fragment, const struct sync_action *action, uint32_t base_commit);
/* The outer made this commit of these contents, on top of parent. */
void sim_oracle_committed(uint32_t index);
/* It leaves the outer: COMMIT, SNAPSHOT or STATE. */
void sim_oracle_published(uint32_t index);
/* A worker's outer copy is the one of this commit now. */
void sim_oracle_prepared(uint32_t slot, uint32_t fragment);
void sim_oracle_merged(uint32_t slot, uint32_t fragment, enum sync_action_kind kind);
/* The commit counts a send of an earlier process with the same numbers as the record: nothing was trained in between, so that all of the
 * record may be in that one, and is settled. */
void sim_oracle_same_numbers(uint32_t slot, uint32_t fragment);
/* Is this payload in the chain of this commit? */
bool sim_oracle_is_applied(uint32_t slot, uint32_t commit, uint32_t content);
void sim_oracle_reset(uint32_t slot, uint32_t fragment, uint64_t tokens);
void sim_oracle_record_over(uint32_t slot, uint32_t fragment);
void sim_oracle_waits(uint32_t slot, uint32_t fragment);
void sim_oracle_worker(uint32_t slot); /* after each of its events */
void sim_oracle_outer(void);
void sim_oracle_leads(void);
void sim_oracle_joined(uint32_t slot, uint64_t tokens);
void sim_oracle_ended(void);
/* Whoever is here has to count from here on (sim_faults_starving_us): members changed, or all is mended. */
void sim_oracle_everybody_anew(void);
void sim_oracle_disk_changed(void); /* a rollback: what was published may be lost */

#endif
