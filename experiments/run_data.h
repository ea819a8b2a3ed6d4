/* run_data: what the logs of one run say, as arrays in time order, for tables and plots. It knows files and records; it computes
 * nothing but what joins the pieces: the clocks of several nodes (t_wall of their headers), and the processes of a node that was
 * started again:
 *
 *   header  step 1  2  3   link 700 | killed ... | header  (from the checkpoint of step 2)  step 3   4   link 300
 *   ------------ process 1 ---------|-- down_s --|---------------- process 2 ------------------------------------
 *
 * Bytes and times are sums (1000 here), tokens are the newest, a step that came twice is counted once: the earlier one is marked
 * `repeated`. An evaluation of a final model stands for the run until the run is continued with more steps. */
#ifndef ATOLL_EXPERIMENTS_RUN_DATA_H
#define ATOLL_EXPERIMENTS_RUN_DATA_H

#include "experiments/run_log.h"

enum {
    RUN_DATA_NODES_MAX = 256,
    RUN_DATA_RUNS_MAX = 64,
    RUN_DATA_LABEL_BYTES = 128,
    RUN_DATA_PATH_BYTES = 1024,
    RUN_DATA_KINDS_MAX = 24
};

/* Bytes and microseconds since the node's first header. */
struct run_counters {
    int64_t payload_up, payload_down;
    int64_t wire_up, wire_down;
    int64_t control_up, control_down;
    int64_t retransmitted_up;
    int64_t wait_us, compute_us, eval_us;
};

/* t_s: seconds since the earliest header of the run. */
struct run_step {
    double t_s;
    int64_t step, tokens, compute_us;
    double loss;
    bool repeated; /* trained again after a restart: the later record stands */
};
struct run_eval {
    double t_s;
    int64_t step, run_tokens;
    int64_t planned_steps; /* inner.steps of the process that wrote it */
    double loss, bits_per_byte;
    bool final;
    struct run_counters counters; /* wire and payload only */
};
struct run_link {
    double t_s;
    struct run_counters counters;
};
struct run_start {
    double t_s;
    double down_s; /* since the newest record of the process before; 0 for the first */
};

/* How often a log said "recover", by its `what`. */
struct run_recovery {
    char what[RUN_LOG_WORD_BYTES];
    int64_t count;
};
struct run_recoveries {
    struct run_recovery
        kinds[RUN_DATA_KINDS_MAX]; /* in order of appearance; what has no place any more counts in the last */
    int count;
};

struct run_node {
    char directory[RUN_DATA_PATH_BYTES];
    struct run_log_header header; /* the first one */
    double first_wall_s;          /* of the first header, seconds since 1970 */
    bool is_outer;
    struct run_start *starts; /* a header each */
    int64_t start_count;
    int64_t planned_steps; /* inner.steps of the newest header */
    int64_t records, unknown, bad;
    bool torn;
    char first_bad[256];

    struct run_step *steps;
    int64_t step_count;
    int64_t trained_steps; /* of them not repeated */
    struct run_eval *evals;
    int64_t eval_count;
    struct run_link *links; /* link and end records */
    int64_t link_count;
    struct run_counters totals; /* newest value of each */
    double last_t_s;            /* of the newest record */
    bool ended;                 /* its newest process said so */
    char end_reason[RUN_LOG_REASON_BYTES];
    char state_hash[RUN_LOG_HASH_BYTES];

    int64_t commits, contributions;              /* outer: closed rounds, and what they counted */
    int64_t run_step;                            /* outer: the largest send step that they counted */
    int64_t counted_tokens[MESSAGE_WORKERS_MAX]; /* outer: the largest counter of each slot that they counted */
    int64_t refused;
    int64_t refused_updates; /* outer: contributions that would have harmed the model */
    int64_t tokens_dropped;  /* outer: newest ledger, summed over workers and fragments */
    int64_t ledger_start;    /* the process that wrote it: index of its header + 1; 0 = there is none */
    struct run_recoveries recoveries;
    double final_loss, final_bits_per_byte; /* outer's end; NaN = not said */
};

struct run_data {
    char label[RUN_DATA_LABEL_BYTES]; /* last part of the directory's name, made unique among the runs */
    char directory[RUN_DATA_PATH_BYTES];
    struct run_node *nodes[RUN_DATA_NODES_MAX]; /* workers by slot and name, then outers */
    int node_count;
    int worker_count; /* nodes[0..worker_count) */
};

struct run_set {
    struct run_data runs[RUN_DATA_RUNS_MAX];
    int count;
};

/* run_set_add: read DIRECTORY/log.jsonl and DIRECTORY/SUB/log.jsonl. Nodes of a run id that is in the set already join that run
 * (directories of one run, brought together from several machines). STATUS_NOT_FOUND: no log there; STATUS_DATA: logs without one
 * readable header; STATUS_IO, STATUS_NO_MEMORY. The text says what to give instead. */
MUST_USE enum status run_set_add(struct run_set *set, const char *directory, struct error *error);
void run_set_free(struct run_set *set);

/* run_final_eval: the evaluation that stands for the run: the newest of the final model, else the newest; NULL = none. *node: who
 * wrote it. *final: of the final model, and the run was not continued with more steps since. */
const struct run_eval *run_final_eval(const struct run_data *run, const struct run_node **node, bool *final);

/* How long no process of the node was there between its first header and t_s. */
double run_node_down_s(const struct run_node *node, double t_s);

void run_recoveries_add(struct run_recoveries *recoveries, const char *what, int64_t count);

#endif
