/* csv: the numbers behind each plot as CSV files with a header line, for gnuplot and for everyone else.
 *
 *   summary.csv              one line per run            (summary.h, run_summary_rows)
 *   workers.csv              one line per worker         (summary.h, worker_summary_rows)
 *   STEM.evals.csv           held-out evaluations: step,run_tokens,loss,bits_per_byte,wire_bytes,payload_bytes,
 *                            data_parallel_bytes,t_s,node; bytes up + down of the evaluating worker
 *   STEM.train.csv           training loss: run_tokens,loss,steps: mean over the workers and over bins of steps
 *   STEM.rates.csv           worker,t_s,up_bits_per_s,down_bits_per_s: about one line per worker and second
 *   STEM.waits.csv           worker,t_s,wait_share: cumulative
 *   STEM.restarts.csv        node,t_s,down_s: each process beyond the first of a node
 *   STEM.shares.csv          node,compute,wait,eval,other: per cent of each worker's time
 *
 * STEM is the run's number and label. Seconds count from the run's earliest log. */
#ifndef ATOLL_EXPERIMENTS_CSV_H
#define ATOLL_EXPERIMENTS_CSV_H

#include "experiments/summary.h"

enum { CSV_STEM_BYTES = 160, CSV_TRAIN_BINS = 240 };

/* "01-label" with nothing but letters, digits, '.', '_' and '-'. */
void csv_stem(const struct run_set *set, int run, char stem[CSV_STEM_BYTES]);

/* csv_write: all files into `directory`. STATUS_IO: the text names the file. */
MUST_USE enum status csv_write(const struct run_set *set, const char *directory, struct error *error);

/* csv_open, csv_close: fopen for writing in `directory`, and fclose that sees what buffered writes met. */
FILE *csv_open(const char *directory, const char *name, struct error *error);
MUST_USE enum status csv_close(FILE *file, const char *name, struct error *error);

#endif
