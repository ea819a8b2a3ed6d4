/* summary: the numbers of a run, computed from its logs alone: what the table, `--json`, summary.csv and the page show. One table
 * of rows names them all, with units.
 *
 * The reference is bf16 data-parallel training of the same steps: per worker and step every parameter goes up once (reduce) and
 * comes down once (broadcast) at two bytes: 4 * parameters * steps bytes. */
#ifndef ATOLL_EXPERIMENTS_SUMMARY_H
#define ATOLL_EXPERIMENTS_SUMMARY_H

#include "experiments/run_data.h"

enum { SUMMARY_DATA_PARALLEL_BYTES = 4 }; /* per parameter, worker and step */

struct worker_summary {
    char run[RUN_DATA_LABEL_BYTES];
    char node[RUN_LOG_NAME_BYTES];
    int64_t slot;
    int64_t steps, repeated_steps;
    int64_t tokens;
    double tokens_per_s;
    double train_loss;
    int64_t payload_up, payload_down;
    int64_t wire_up, wire_down;
    int64_t control_up, control_down;
    int64_t retransmitted_up;
    int64_t data_parallel_bytes;
    double ratio_wire;
    double ratio_payload;
    double elapsed_s, down_s;
    double compute_share, wait_share, eval_share, other_share;
    int64_t wait_us;
    double up_peak_bytes_per_s, up_mean_bytes_per_s;
    double down_peak_bytes_per_s, down_mean_bytes_per_s;
    int64_t up_cap_bytes_per_s, down_cap_bytes_per_s;
    bool ended;
    char reason[RUN_LOG_REASON_BYTES];
    int64_t starts;
    int64_t bad_lines;
};

struct run_summary {
    char run[RUN_DATA_LABEL_BYTES];
    char name[RUN_LOG_NAME_BYTES];
    bool plain; /* sync: off */
    int64_t parameters, fragments;
    int64_t workers;
    int64_t steps, planned_steps, every_steps, overlap_steps;
    double keep_local;
    char codec_up[RUN_LOG_WORD_BYTES], codec_down[RUN_LOG_WORD_BYTES];
    bool error_feedback;
    int64_t seed;
    double loss;
    double bits_per_byte;
    bool loss_final;
    int64_t loss_step;
    int64_t tokens;
    double tokens_per_s;
    int64_t payload_bytes;
    int64_t wire_bytes;
    int64_t control_bytes;
    int64_t data_parallel_bytes;
    double ratio_wire;
    double ratio_payload;
    double wait_share;
    int64_t commits;
    int64_t restarts;
    double tokens_lost;
    int64_t refused, refused_updates;
    int64_t bad_lines;
};

extern const struct field_row worker_summary_rows[];
extern const int worker_summary_row_count;
extern const struct field_row run_summary_rows[];
extern const int run_summary_row_count;

void summary_of_worker(const struct run_data *run, const struct run_node *node, struct worker_summary *summary);
void summary_of_run(const struct run_data *run, struct run_summary *summary);
/* "recover" records of all nodes, by their `what`. */
void summary_recoveries(const struct run_data *run, struct run_recoveries *recoveries);

/* When the worker's training began: the start of its first step, on the run's clock; NaN without steps. */
double summary_start_s(const struct run_node *node);
/* Seconds from there to t_s in which there was a process of the worker. */
double summary_running_s(const struct run_node *node, double t_s);

/* A whole rate sample: link records closer together than 0.9 s (without the time between two processes) are joined with the next, and
 * the rest of a run with its last sample. */
struct rate_sample {
    double t_s; /* its end */
    double up_bytes_per_s, down_bytes_per_s;
};
/* The sample that ends at the first link record behind *next that is far enough from links[*from]; false at the end. Start with
 * *from = 0. */
bool summary_next_rate(const struct run_node *node, int64_t *from, struct rate_sample *sample);

/* {"runs": [{..., "recoveries": {...}, "workers_table": [...]}]}; new reference. */
json_t *summary_json(const struct run_set *set);
/* The table that people read. */
void summary_print(const struct run_set *set, FILE *file);
/* What summary_json prints, row by row. */
void summary_print_schema(FILE *file);

#endif
