/* run_log: the public table of log.jsonl: every event, every field, its unit and meaning; and the reader that goes with it.
 * The same table is the text of `atoll report --schema`, and its row type also describes what `--json` prints (summary.h).
 *
 * The reader is strict about what it knows and tolerant of what it does not: an unknown event or field is passed over (a newer
 * atoll wrote it); a known field of the wrong type, a negative byte count or a missing required field makes that one record
 * bad, which is counted and said, never guessed at. A torn last line is left out. Outside bytes never abort the process.
 *
 * Every record bears event, t_wall (RFC 3339) and t_us (monotonic microseconds since that log was opened). A process that is started
 * again writes on behind a new header: t_us, bytes and times begin at 0 there, a worker's steps go on from its checkpoint (some come
 * twice), its tokens from the highest that it ever counted. Numbers are cumulative since the node's last header unless a row says
 * otherwise; bytes are of the one worker that wrote the line. */
#ifndef ATOLL_EXPERIMENTS_RUN_LOG_H
#define ATOLL_EXPERIMENTS_RUN_LOG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/status.h"
#include "comms/message.h"

/* What a field is in JSON, and the C member that it is read into. */
enum field_kind {
    FIELD_COUNT,   /* integer >= 0         int64_t */
    FIELD_INTEGER, /* integer              int64_t */
    FIELD_REAL,    /* number, null = NaN   double  */
    FIELD_BOOL,    /* true, false          bool    */
    FIELD_TEXT,    /* string               char[], cut to fit, bytes outside printable ASCII become '?' */
    FIELD_LIST,    /* array                int64_t, the number of its entries */
};
enum field_need { FIELD_OPTIONAL, FIELD_REQUIRED };

/* One row: a field of an event or of a summary. A name with a dot (build.cpu) is a member of an inner object. An optional
 * field that is absent reads as 0, NaN, false or "". */
struct field_row {
    const char *name;
    enum field_kind kind;
    enum field_need need;
    size_t offset;
    size_t bytes;
    const char *help; /* unit first */
};
#define FIELD_ROW(type, member, kind, need, help)                                                                      \
    { #member, kind, need, offsetof(struct type, member), sizeof(((struct type *)0)->member), help }

/* field_read: one JSON object into `target` (zeroed by the caller). STATUS_DATA: the text names the field. */
MUST_USE enum status fields_read(const struct field_row *rows, int count, json_t *object, void *target,
                                 struct error *error);
/* fields_json: the object that fields_read reads (inner objects are written flat); new reference. NaN becomes null. */
json_t *fields_json(const struct field_row *rows, int count, const void *source);
/* One CSV line of names, or of values (texts quoted, NaN empty), without the newline. */
void fields_csv_names(const struct field_row *rows, int count, FILE *file);
void fields_csv_values(const struct field_row *rows, int count, const void *source, FILE *file);
/* One line of documentation per row. */
void fields_print_help(const struct field_row *rows, int count, FILE *file);

enum run_log_event {
    RUN_LOG_HEADER,
    RUN_LOG_STEP,
    RUN_LOG_SYNC_SEND,
    RUN_LOG_COMMIT,
    RUN_LOG_MERGE,
    RUN_LOG_EVAL,
    RUN_LOG_LINK,
    RUN_LOG_CHECKPOINT,
    RUN_LOG_RECOVER,
    RUN_LOG_END,
    RUN_LOG_OUTER_COMMIT,  /* "commit" in the outer's log: its `counted` is a list */
    RUN_LOG_OUTER_END,     /* "end" in the outer's log */
    RUN_LOG_OUTER_RECOVER, /* "recover" in the outer's log */
    RUN_LOG_LEAD,
    RUN_LOG_START,
    RUN_LOG_JOIN,
    RUN_LOG_LEAVE,
    RUN_LOG_DRAIN,
    RUN_LOG_REFUSE,
    RUN_LOG_ROUND_TRIP,
    RUN_LOG_LEDGER,
    RUN_LOG_EVENT_COUNT
};

enum { RUN_LOG_NAME_BYTES = 64, RUN_LOG_WORD_BYTES = 32, RUN_LOG_HASH_BYTES = 72, RUN_LOG_REASON_BYTES = 256 };

struct run_log_header {
    int64_t schema;
    char run_id[RUN_LOG_HASH_BYTES];
    char role[RUN_LOG_WORD_BYTES];
    char node[RUN_LOG_NAME_BYTES];
    int64_t slot;
    char version[RUN_LOG_WORD_BYTES];
    char compiler[RUN_LOG_NAME_BYTES];
    char cpu[128];
    int64_t cores;
    char blas_core[RUN_LOG_WORD_BYTES];
    char precision[RUN_LOG_NAME_BYTES];
    int64_t threads;
    char name[RUN_LOG_NAME_BYTES];
    int64_t parameters;
    int64_t fragments;
    int64_t workers;
    int64_t steps;
    int64_t every_steps;
    int64_t overlap_steps;
    double keep_local;
    char codec_up[RUN_LOG_WORD_BYTES];
    char codec_down[RUN_LOG_WORD_BYTES];
    bool error_feedback;
    int64_t tokens_per_step;
    char outer_optimizer[RUN_LOG_WORD_BYTES];
    double outer_lr;
    double outer_momentum;
    int64_t up_bytes_per_s;
    int64_t down_bytes_per_s;
    int64_t seed;
};

struct run_log_step {
    int64_t step;
    double loss;
    double grad_norm;
    double lr;
    int64_t tokens;
    int64_t compute_us;
    bool applied;
};

struct run_log_sync_send {
    int64_t step;
    int64_t fragment;
    int64_t base_version;
    int64_t tokens_from;
    int64_t tokens_to;
    int64_t tokens;
    int64_t payload_bytes;
    int64_t encode_us;
};

struct run_log_commit {
    int64_t fragment;
    int64_t version;
    int64_t run_step;
    bool counted;
    int64_t payload_bytes;
    char state_hash[RUN_LOG_HASH_BYTES];
};

struct run_log_merge {
    int64_t step;
    int64_t fragment;
    int64_t version;
    char kind[RUN_LOG_WORD_BYTES];
    int64_t wait_us;
};

struct run_log_eval {
    int64_t step;
    double loss;
    double bits_per_byte;
    int64_t windows;
    int64_t tokens;
    int64_t run_tokens;
    int64_t eval_us;
    int64_t versions;
    int64_t wire_up;
    int64_t wire_down;
    int64_t payload_up;
    int64_t payload_down;
    bool final;
};

struct run_log_link {
    int64_t step;
    int64_t payload_up;
    int64_t payload_down;
    int64_t wire_up;
    int64_t wire_down;
    int64_t control_up;
    int64_t control_down;
    int64_t retransmitted_up;
    int64_t wait_us;
    int64_t eval_us;
};

struct run_log_checkpoint {
    int64_t generation;
    int64_t step;
    int64_t stall_us;
    int64_t write_us;
    int64_t bytes;
};

struct run_log_recover {
    char what[RUN_LOG_WORD_BYTES];
    int64_t generation;
    int64_t step;
    int64_t steps;
    int64_t from_step;
    int64_t tokens;
    int64_t fragment;
    int64_t version;
    int64_t run_step;
    int64_t bytes;
    int64_t moments;
    int64_t count;
    bool snapshot;
    char state_hash[RUN_LOG_HASH_BYTES];
    char here[RUN_LOG_HASH_BYTES];
    char outer[RUN_LOG_HASH_BYTES];
    char reason[RUN_LOG_REASON_BYTES];
    char directory[RUN_LOG_WORD_BYTES];
};

struct run_log_end {
    int64_t step;
    int64_t tokens;
    int64_t wait_us;
    int64_t compute_us;
    int64_t eval_us;
    int64_t payload_up;
    int64_t payload_down;
    int64_t wire_up;
    int64_t wire_down;
    int64_t control_up;
    int64_t control_down;
    char reason[RUN_LOG_REASON_BYTES];
    char state_hash[RUN_LOG_HASH_BYTES];
};

/* Of what a commit counts. An entry without these reads as 0. */
struct run_log_contribution {
    int64_t slot;
    int64_t tokens_to; /* the worker's counter when it sent this */
};

struct run_log_outer_commit {
    int64_t fragment;
    int64_t version;
    int64_t run_step;
    int64_t counted;
    int64_t payload_bytes;
    char state_hash[RUN_LOG_HASH_BYTES];
    int64_t open_us;
    int64_t close_us;
    struct run_log_contribution contributions[MESSAGE_WORKERS_MAX]; /* (counted,) */
};

struct run_log_outer_end {
    char reason[RUN_LOG_REASON_BYTES];
    int64_t commits;
    char state_hash[RUN_LOG_HASH_BYTES];
    double eval_loss;
    double bits_per_byte;
    int64_t wire_up;
    int64_t wire_down;
    int64_t foreign_sessions;
};

struct run_log_outer_recover {
    char what[RUN_LOG_WORD_BYTES];
    char from[RUN_LOG_WORD_BYTES];
    int64_t commits;
    int64_t run_step;
    int64_t slot;
    int64_t fragment;
    int64_t version;
    int64_t bytes;
    char here[RUN_LOG_HASH_BYTES];
    char workers[RUN_LOG_HASH_BYTES];
    int64_t slots; /* how many */
};

struct run_log_lead {
    int64_t epoch;
    int64_t run_step;
};

struct run_log_join {
    int64_t slot;
    char node[RUN_LOG_NAME_BYTES];
    char reason[RUN_LOG_REASON_BYTES];
    int64_t step;
    int64_t tokens;
};

struct run_log_leave {
    int64_t slot;
    char node[RUN_LOG_NAME_BYTES];
    char reason[RUN_LOG_REASON_BYTES];
};

struct run_log_drain {
    int64_t slot;
    char node[RUN_LOG_NAME_BYTES];
    bool revoked;
};

struct run_log_refuse {
    char what[RUN_LOG_NAME_BYTES];
    char reason[RUN_LOG_REASON_BYTES];
    int64_t code;
    int64_t slot;
    int64_t fragment;
    int64_t base_version;
};

struct run_log_round_trip {
    int64_t slot;
    int64_t p50_us;
    int64_t p99_us;
    int64_t max_us;
    int64_t count;
};

struct run_log_ledger {
    int64_t slot;
    int64_t fragment;
    int64_t processed;
    int64_t applied;
    int64_t in_flight;
    int64_t unsent;
    int64_t dropped;
};

struct run_log_record {
    enum run_log_event event;
    uint64_t t_us;
    char t_wall[RUN_LOG_WORD_BYTES];
    union {
        struct run_log_header header;
        struct run_log_step step;
        struct run_log_sync_send sync_send;
        struct run_log_commit commit;
        struct run_log_merge merge;
        struct run_log_eval eval;
        struct run_log_link link;
        struct run_log_checkpoint checkpoint;
        struct run_log_recover recover;
        struct run_log_end end;
        struct run_log_outer_commit outer_commit;
        struct run_log_outer_end outer_end;
        struct run_log_outer_recover outer_recover;
        struct run_log_lead lead;
        struct run_log_join join;
        struct run_log_leave leave;
        struct run_log_drain drain;
        struct run_log_refuse refuse;
        struct run_log_round_trip round_trip;
        struct run_log_ledger ledger;
    };
};

enum run_log_line { RUN_LOG_LINE_RECORD, RUN_LOG_LINE_UNKNOWN, RUN_LOG_LINE_BAD };

/* run_log_parse: one line (without its newline) into *record. `outer` = the log's last header has the role "outer"; a header is
 * read alike for all roles. BAD: the error text says why; *record is then unspecified. */
enum run_log_line run_log_parse(const char *line, size_t length, bool outer, struct run_log_record *record,
                                struct error *error);

/* The table, for people. */
void run_log_print_schema(FILE *file);

#endif
