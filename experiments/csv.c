#include "experiments/csv.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void csv_stem(const struct run_set *set, int run, char stem[CSV_STEM_BYTES]) {
    int length = snprintf(stem, CSV_STEM_BYTES, "%02d-%s", run + 1, set->runs[run].label);
    for (int i = 0; i < length; i++)
        if (!isalnum((unsigned char)stem[i]) && stem[i] != '.' && stem[i] != '_' && stem[i] != '-')
            stem[i] = '_';
}

FILE *csv_open(const char *directory, const char *name, struct error *error) {
    char path[RUN_DATA_PATH_BYTES + CSV_STEM_BYTES + 16];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    if (!file)
        error_set(error, STATUS_IO, "cannot write %s: %s", path, strerror(errno));
    return file;
}

enum status csv_close(FILE *file, const char *name, struct error *error) {
    bool failed = ferror(file) != 0;
    if (fclose(file) != 0 || failed)
        return error_set(error, STATUS_IO, "cannot write %s: %s", name, strerror(errno));
    return STATUS_OK;
}

/* ---- one run, one file ---- */

struct eval_line {
    const struct run_node *node;
    const struct run_eval *eval;
};

static int compare_evals(const void *a, const void *b) {
    const struct run_eval *x = ((const struct eval_line *)a)->eval;
    const struct run_eval *y = ((const struct eval_line *)b)->eval;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    return (x->t_s > y->t_s) - (x->t_s < y->t_s);
}

static void write_evals(const struct run_data *run, FILE *file) {
    fprintf(file, "step,run_tokens,loss,bits_per_byte,wire_bytes,payload_bytes,data_parallel_bytes,t_s,node\n");
    int64_t count = 0;
    for (int i = 0; i < run->worker_count; i++)
        count += run->nodes[i]->eval_count;
    struct eval_line *lines = calloc((size_t)count + 1, sizeof *lines);
    if (!lines)
        return;
    int64_t filled = 0;
    for (int i = 0; i < run->worker_count; i++)
        for (int64_t k = 0; k < run->nodes[i]->eval_count; k++)
            lines[filled++] = (struct eval_line){run->nodes[i], &run->nodes[i]->evals[k]};
    qsort(lines, (size_t)count, sizeof *lines, compare_evals);
    for (int64_t k = 0; k < count; k++) {
        const struct run_eval *eval = lines[k].eval;
        if (!isfinite(eval->loss))
            continue;
        const struct run_counters *bytes = &eval->counters;
        fprintf(file, "%" PRId64 ",%" PRId64 ",%.9g,", eval->step, eval->run_tokens, eval->loss);
        if (isfinite(eval->bits_per_byte))
            fprintf(file, "%.9g", eval->bits_per_byte);
        fprintf(file, ",%.0f,%.0f,%.0f,%.3f,%s\n", (double)bytes->wire_up + (double)bytes->wire_down,
                (double)bytes->payload_up + (double)bytes->payload_down,
                (double)SUMMARY_DATA_PARALLEL_BYTES * (double)lines[k].node->header.parameters * (double)eval->step,
                eval->t_s, lines[k].node->header.node);
    }
    free(lines);
}

static void write_train(const struct run_data *run, FILE *file) {
    static struct {
        double loss, tokens;
        int64_t count;
    } bins[CSV_TRAIN_BINS];
    memset(bins, 0, sizeof bins);
    int64_t last = 0;
    for (int i = 0; i < run->worker_count; i++)
        for (int64_t k = 0; k < run->nodes[i]->step_count; k++)
            if (run->nodes[i]->steps[k].step > last)
                last = run->nodes[i]->steps[k].step;
    int64_t width = last / CSV_TRAIN_BINS + 1;
    for (int i = 0; i < run->worker_count; i++) {
        const struct run_log_header *header = &run->nodes[i]->header;
        double per_step = (double)header->tokens_per_step * fmax(1, (double)header->workers);
        for (int64_t k = 0; k < run->nodes[i]->step_count; k++) {
            const struct run_step *step = &run->nodes[i]->steps[k];
            if (!isfinite(step->loss) || step->repeated)
                continue;
            int64_t bin = step->step / width;
            bins[bin].loss += step->loss;
            bins[bin].tokens += (double)step->step * per_step;
            bins[bin].count++;
        }
    }
    fprintf(file, "run_tokens,loss,steps\n");
    for (int i = 0; i < CSV_TRAIN_BINS; i++)
        if (bins[i].count)
            fprintf(file, "%.0f,%.9g,%" PRId64 "\n", bins[i].tokens / (double)bins[i].count,
                    bins[i].loss / (double)bins[i].count, bins[i].count);
}

static void write_rates(const struct run_data *run, FILE *file) {
    fprintf(file, "worker,t_s,up_bits_per_s,down_bits_per_s\n");
    struct rate_sample sample;
    for (int i = 0; i < run->worker_count; i++)
        for (int64_t from = 0; run->nodes[i]->link_count && summary_next_rate(run->nodes[i], &from, &sample);)
            fprintf(file, "%d,%.3f,%.9g,%.9g\n", i, sample.t_s, 8 * sample.up_bytes_per_s, 8 * sample.down_bytes_per_s);
}

static void write_waits(const struct run_data *run, FILE *file) {
    fprintf(file, "worker,t_s,wait_share\n");
    for (int i = 0; i < run->worker_count; i++) {
        const struct run_node *node = run->nodes[i];
        for (int64_t k = 0; k < node->link_count; k++) {
            double running_s = summary_running_s(node, node->links[k].t_s);
            if (running_s > 0)
                fprintf(file, "%d,%.3f,%.9g\n", i, node->links[k].t_s,
                        (double)node->links[k].counters.wait_us * 1e-6 / running_s);
        }
    }
}

static void write_restarts(const struct run_data *run, FILE *file) {
    fprintf(file, "node,t_s,down_s\n");
    for (int i = 0; i < run->node_count; i++)
        for (int64_t k = 1; k < run->nodes[i]->start_count; k++)
            fprintf(file, "%s,%.3f,%.3f\n", run->nodes[i]->header.node, run->nodes[i]->starts[k].t_s,
                    run->nodes[i]->starts[k].down_s);
}

static void write_shares(const struct run_data *run, FILE *file) {
    fprintf(file, "node,compute,wait,eval,other\n");
    for (int i = 0; i < run->worker_count; i++) {
        struct worker_summary worker;
        summary_of_worker(run, run->nodes[i], &worker);
        if (isfinite(worker.compute_share))
            fprintf(file, "%s,%.6g,%.6g,%.6g,%.6g\n", worker.node, 100 * worker.compute_share, 100 * worker.wait_share,
                    100 * worker.eval_share, 100 * worker.other_share);
    }
}

static const struct {
    const char *name;
    void (*write)(const struct run_data *run, FILE *file);
} run_files[] = {
    {"evals", write_evals}, {"train", write_train},   {"rates", write_rates},
    {"waits", write_waits}, {"shares", write_shares}, {"restarts", write_restarts},
};
enum { RUN_FILES = sizeof run_files / sizeof run_files[0] };

static enum status write_tables(const struct run_set *set, const char *directory, struct error *error) {
    FILE *runs = csv_open(directory, "summary.csv", error);
    FILE *workers = runs ? csv_open(directory, "workers.csv", error) : NULL;
    if (!workers) {
        if (runs)
            fclose(runs);
        return error->status;
    }
    fields_csv_names(run_summary_rows, run_summary_row_count, runs);
    fields_csv_names(worker_summary_rows, worker_summary_row_count, workers);
    for (int i = 0; i < set->count; i++) {
        struct run_summary run;
        summary_of_run(&set->runs[i], &run);
        fputc('\n', runs);
        fields_csv_values(run_summary_rows, run_summary_row_count, &run, runs);
        for (int k = 0; k < set->runs[i].worker_count; k++) {
            struct worker_summary worker;
            summary_of_worker(&set->runs[i], set->runs[i].nodes[k], &worker);
            fputc('\n', workers);
            fields_csv_values(worker_summary_rows, worker_summary_row_count, &worker, workers);
        }
    }
    fputc('\n', runs);
    fputc('\n', workers);
    enum status status = csv_close(runs, "summary.csv", error);
    enum status second = csv_close(workers, "workers.csv", error);
    return status != STATUS_OK ? status : second;
}

enum status csv_write(const struct run_set *set, const char *directory, struct error *error) {
    enum status status = write_tables(set, directory, error);
    for (int i = 0; i < set->count * RUN_FILES && status == STATUS_OK; i++) {
        char stem[CSV_STEM_BYTES], name[CSV_STEM_BYTES + 16];
        csv_stem(set, i / RUN_FILES, stem);
        snprintf(name, sizeof name, "%s.%s.csv", stem, run_files[i % RUN_FILES].name);
        FILE *file = csv_open(directory, name, error);
        if (!file)
            return error->status;
        run_files[i % RUN_FILES].write(&set->runs[i / RUN_FILES], file);
        status = csv_close(file, name, error);
    }
    return status;
}
