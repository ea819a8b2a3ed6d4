#include "experiments/summary.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "base/units.h"

#define ROW(type, member, kind, help) FIELD_ROW(type, member, kind, FIELD_REQUIRED, help)

const struct field_row worker_summary_rows[] = {
    ROW(worker_summary, run, FIELD_TEXT, "label of the run: its directory's name"),
    ROW(worker_summary, node, FIELD_TEXT, "name of the worker"),
    ROW(worker_summary, slot, FIELD_INTEGER, "its place in the run"),
    ROW(worker_summary, steps, FIELD_COUNT, "steps that it trained (step records; one that came again counts once)"),
    ROW(worker_summary, repeated_steps, FIELD_COUNT, "step records whose step came again after a restart"),
    ROW(worker_summary, tokens, FIELD_COUNT, "tokens that it trained on, repeated steps included"),
    ROW(worker_summary, tokens_per_s, FIELD_REAL,
        "tokens/s, steps x tokens_per_step over the time from the start of the first step to the last step, without "
        "down_s"),
    ROW(worker_summary, train_loss, FIELD_REAL, "nats per token, mean of the last 20 steps with a finite loss"),
    ROW(worker_summary, payload_up, FIELD_COUNT, "bytes of encoded outer gradients sent"),
    ROW(worker_summary, payload_down, FIELD_COUNT, "bytes of encoded outer gradients received"),
    ROW(worker_summary, wire_up, FIELD_COUNT, "bytes, TCP payload as the kernel counts it"),
    ROW(worker_summary, wire_down, FIELD_COUNT, "bytes, likewise"),
    ROW(worker_summary, control_up, FIELD_COUNT, "bytes of control messages, part of wire_up"),
    ROW(worker_summary, control_down, FIELD_COUNT, "bytes of control messages, part of wire_down"),
    ROW(worker_summary, retransmitted_up, FIELD_COUNT, "bytes that TCP sent again"),
    ROW(worker_summary, data_parallel_bytes, FIELD_COUNT,
        "bytes of bf16 data-parallel training of the same steps: 4 x parameters x steps"),
    ROW(worker_summary, ratio_wire, FIELD_REAL, "data_parallel_bytes / (wire_up + wire_down); 1 with sync: off"),
    ROW(worker_summary, ratio_payload, FIELD_REAL, "data_parallel_bytes / (payload_up + payload_down)"),
    ROW(worker_summary, elapsed_s, FIELD_REAL,
        "s, from the start of the first step to the newest record, without down_s"),
    ROW(worker_summary, down_s, FIELD_REAL, "s between the last record of a process and the header of the next"),
    ROW(worker_summary, compute_share, FIELD_REAL, "part of elapsed_s spent training"),
    ROW(worker_summary, wait_share, FIELD_REAL, "part of elapsed_s in which training stood still for the network"),
    ROW(worker_summary, eval_share, FIELD_REAL, "part of elapsed_s spent in evaluations"),
    ROW(worker_summary, other_share, FIELD_REAL, "the rest"),
    ROW(worker_summary, wait_us, FIELD_COUNT, "us, exposed wait"),
    ROW(worker_summary, up_peak_bytes_per_s, FIELD_REAL, "bytes/s, largest of the samples between link records (1 s)"),
    ROW(worker_summary, up_mean_bytes_per_s, FIELD_REAL,
        "bytes/s, from the first link record to the last, without down_s"),
    ROW(worker_summary, down_peak_bytes_per_s, FIELD_REAL, "bytes/s"),
    ROW(worker_summary, down_mean_bytes_per_s, FIELD_REAL, "bytes/s"),
    ROW(worker_summary, up_cap_bytes_per_s, FIELD_COUNT, "bytes/s, 0 = unlimited"),
    ROW(worker_summary, down_cap_bytes_per_s, FIELD_COUNT, "bytes/s, 0 = unlimited"),
    ROW(worker_summary, ended, FIELD_BOOL, "its newest process has an end record"),
    ROW(worker_summary, reason, FIELD_TEXT, "of that end"),
    ROW(worker_summary, starts, FIELD_COUNT, "processes that wrote the log"),
    ROW(worker_summary, bad_lines, FIELD_COUNT, "log lines that could not be used"),
};
const int worker_summary_row_count = sizeof worker_summary_rows / sizeof worker_summary_rows[0];

const struct field_row run_summary_rows[] = {
    ROW(run_summary, run, FIELD_TEXT, "label: the directory's name"),
    ROW(run_summary, name, FIELD_TEXT, "the run file's name"),
    ROW(run_summary, plain, FIELD_BOOL, "sync: off"),
    ROW(run_summary, parameters, FIELD_COUNT, "of the model"),
    ROW(run_summary, fragments, FIELD_COUNT, "of the model"),
    ROW(run_summary, workers, FIELD_COUNT, "workers with a log here"),
    ROW(run_summary, steps, FIELD_COUNT, "largest step of a worker, or that a commit counts"),
    ROW(run_summary, planned_steps, FIELD_COUNT, "that the run file asks for"),
    ROW(run_summary, every_steps, FIELD_COUNT, "steps between two sends of a fragment"),
    ROW(run_summary, overlap_steps, FIELD_INTEGER, "steps between send and merge, -1 = auto"),
    ROW(run_summary, keep_local, FIELD_REAL, "part of the local parameters that a merge keeps"),
    ROW(run_summary, codec_up, FIELD_TEXT, "codec of contributions"),
    ROW(run_summary, codec_down, FIELD_TEXT, "codec of the mean"),
    ROW(run_summary, error_feedback, FIELD_BOOL, "residuals are carried over"),
    ROW(run_summary, seed, FIELD_INTEGER, "inner.seed"),
    ROW(run_summary, loss, FIELD_REAL, "held-out, nats per token; null = never evaluated"),
    ROW(run_summary, bits_per_byte, FIELD_REAL, "held-out"),
    ROW(run_summary, loss_final, FIELD_BOOL, "of the final model"),
    ROW(run_summary, loss_step, FIELD_COUNT, "step of that evaluation"),
    ROW(run_summary, tokens, FIELD_COUNT, "of all workers; of one without a log here, those that commits count"),
    ROW(run_summary, tokens_per_s, FIELD_REAL, "tokens/s, sum over the workers"),
    ROW(run_summary, payload_bytes, FIELD_COUNT, "bytes up and down, mean per worker"),
    ROW(run_summary, wire_bytes, FIELD_COUNT, "bytes up and down, mean per worker"),
    ROW(run_summary, control_bytes, FIELD_COUNT, "bytes up and down, mean per worker"),
    ROW(run_summary, data_parallel_bytes, FIELD_COUNT, "bytes up and down, mean per worker"),
    ROW(run_summary, ratio_wire, FIELD_REAL,
        "data-parallel bytes / wire bytes, sums over the workers; 1 with sync: off"),
    ROW(run_summary, ratio_payload, FIELD_REAL, "data-parallel bytes / payload bytes, sums over the workers"),
    ROW(run_summary, wait_share, FIELD_REAL, "exposed wait of all workers over their elapsed time"),
    ROW(run_summary, commits, FIELD_COUNT, "rounds that the outer closed"),
    ROW(run_summary, restarts, FIELD_COUNT, "processes beyond the first of each node, the outer's too"),
    ROW(run_summary, tokens_lost, FIELD_REAL,
        "tokens that no commit counts: dropped, in the outer's newest ledger; sum over the workers, mean over the "
        "fragments; null = no ledger"),
    ROW(run_summary, refused, FIELD_COUNT, "refuse records"),
    ROW(run_summary, refused_updates, FIELD_COUNT, "contributions that the outer refused as not finite or too large"),
    ROW(run_summary, bad_lines, FIELD_COUNT, "log lines that could not be used"),
};
const int run_summary_row_count = sizeof run_summary_rows / sizeof run_summary_rows[0];

enum { TRAIN_LOSS_STEPS = 20 };
static const double rate_sample_s_min = 0.9;

double summary_start_s(const struct run_node *node) {
    if (node->step_count == 0)
        return (double)NAN;
    return node->steps[0].t_s - (double)node->steps[0].compute_us * 1e-6;
}

/* Seconds in which there was a process. */
static double running_s(const struct run_node *node, double from_s, double to_s) {
    return to_s - from_s - (run_node_down_s(node, to_s) - run_node_down_s(node, from_s));
}

double summary_running_s(const struct run_node *node, double t_s) {
    return running_s(node, summary_start_s(node), t_s);
}

bool summary_next_rate(const struct run_node *node, int64_t *from, struct rate_sample *sample) {
    const struct run_link *begin = &node->links[*from];
    for (int64_t i = *from + 1; i < node->link_count; i++) {
        const struct run_link *end = &node->links[i];
        double seconds = running_s(node, begin->t_s, end->t_s);
        if (seconds < rate_sample_s_min)
            continue;
        /* What is left to the end is no window of its own: a burst in a split second would be the peak. */
        const struct run_link *last = &node->links[node->link_count - 1];
        if (running_s(node, end->t_s, last->t_s) < rate_sample_s_min) {
            i = node->link_count - 1;
            end = last;
            seconds = running_s(node, begin->t_s, end->t_s);
        }
        sample->t_s = end->t_s;
        sample->up_bytes_per_s = (double)(end->counters.wire_up - begin->counters.wire_up) / seconds;
        sample->down_bytes_per_s = (double)(end->counters.wire_down - begin->counters.wire_down) / seconds;
        *from = i;
        return true;
    }
    return false;
}

static double ratio(double of, double by) {
    return by > 0 ? of / by : (double)NAN;
}

/* A sum of counts that is known as a double. */
static int64_t to_count(double value) {
    return (int64_t)fmin(value, 9e18);
}

static void add_rates(const struct run_node *node, struct worker_summary *summary) {
    summary->up_peak_bytes_per_s = summary->down_peak_bytes_per_s = 0;
    summary->up_mean_bytes_per_s = summary->down_mean_bytes_per_s = 0;
    if (node->link_count == 0)
        return;
    struct rate_sample sample;
    for (int64_t from = 0; summary_next_rate(node, &from, &sample);) {
        summary->up_peak_bytes_per_s = fmax(summary->up_peak_bytes_per_s, sample.up_bytes_per_s);
        summary->down_peak_bytes_per_s = fmax(summary->down_peak_bytes_per_s, sample.down_bytes_per_s);
    }
    const struct run_link *first = &node->links[0];
    const struct run_link *last = &node->links[node->link_count - 1];
    double seconds = running_s(node, first->t_s, last->t_s);
    if (seconds <= 0)
        return;
    summary->up_mean_bytes_per_s = (double)(last->counters.wire_up - first->counters.wire_up) / seconds;
    summary->down_mean_bytes_per_s = (double)(last->counters.wire_down - first->counters.wire_down) / seconds;
}

static void add_times(const struct run_node *node, struct worker_summary *summary) {
    summary->wait_us = node->totals.wait_us;
    summary->tokens_per_s = summary->elapsed_s = summary->down_s = 0;
    summary->compute_share = summary->wait_share = summary->eval_share = summary->other_share = (double)NAN;
    if (node->step_count == 0)
        return;
    double start_s = summary_start_s(node);
    double trained_s = summary_running_s(node, node->steps[node->step_count - 1].t_s);
    if (trained_s > 0)
        summary->tokens_per_s = (double)node->trained_steps * (double)node->header.tokens_per_step / trained_s;
    summary->elapsed_s = summary_running_s(node, node->last_t_s);
    summary->down_s = node->last_t_s - start_s - summary->elapsed_s;
    double elapsed_us = summary->elapsed_s * 1e6;
    summary->compute_share = ratio((double)node->totals.compute_us, elapsed_us);
    summary->wait_share = ratio((double)node->totals.wait_us, elapsed_us);
    summary->eval_share = ratio((double)node->totals.eval_us, elapsed_us);
    summary->other_share = fmax(0, 1 - summary->compute_share - summary->wait_share - summary->eval_share);
}

static double last_train_loss(const struct run_node *node) {
    double sum = 0;
    int64_t count = 0;
    for (int64_t i = node->step_count - 1; i >= 0 && count < TRAIN_LOSS_STEPS; i--) {
        if (!isfinite(node->steps[i].loss) || node->steps[i].repeated)
            continue; /* a skipped step; one whose work was lost */
        sum += node->steps[i].loss;
        count++;
    }
    return count ? sum / (double)count : (double)NAN;
}

static bool is_plain(const struct run_node *node) {
    return strcmp(node->header.role, "plain") == 0;
}

void summary_of_worker(const struct run_data *run, const struct run_node *node, struct worker_summary *summary) {
    memset(summary, 0, sizeof *summary);
    memcpy(summary->run, run->label, sizeof summary->run);
    memcpy(summary->node, node->header.node, sizeof summary->node);
    const struct run_counters *totals = &node->totals;
    summary->slot = node->header.slot;
    summary->steps = node->trained_steps;
    summary->repeated_steps = node->step_count - node->trained_steps;
    summary->tokens = node->step_count ? node->steps[node->step_count - 1].tokens : 0;
    summary->train_loss = last_train_loss(node);
    summary->payload_up = totals->payload_up;
    summary->payload_down = totals->payload_down;
    summary->wire_up = totals->wire_up;
    summary->wire_down = totals->wire_down;
    summary->control_up = totals->control_up;
    summary->control_down = totals->control_down;
    summary->retransmitted_up = totals->retransmitted_up;
    double reference = (double)SUMMARY_DATA_PARALLEL_BYTES * (double)node->header.parameters * (double)summary->steps;
    summary->data_parallel_bytes = to_count(reference);
    summary->ratio_wire = is_plain(node) ? 1 : ratio(reference, (double)totals->wire_up + (double)totals->wire_down);
    summary->ratio_payload =
        is_plain(node) ? 1 : ratio(reference, (double)totals->payload_up + (double)totals->payload_down);
    add_times(node, summary);
    add_rates(node, summary);
    summary->up_cap_bytes_per_s = node->header.up_bytes_per_s;
    summary->down_cap_bytes_per_s = node->header.down_bytes_per_s;
    summary->ended = node->ended;
    memcpy(summary->reason, node->end_reason, sizeof summary->reason);
    summary->starts = node->start_count;
    summary->bad_lines = node->bad;
}

/* The run's own description: any worker's header, else the outer's. */
static void describe(const struct run_data *run, struct run_summary *summary) {
    const struct run_log_header *header = &run->nodes[0]->header;
    memcpy(summary->run, run->label, sizeof summary->run);
    memcpy(summary->name, header->name, sizeof summary->name);
    summary->plain = is_plain(run->nodes[0]);
    summary->parameters = header->parameters;
    summary->fragments = header->fragments;
    summary->workers = run->worker_count;
    summary->planned_steps = run->nodes[0]->planned_steps;
    summary->every_steps = header->every_steps;
    summary->overlap_steps = header->overlap_steps;
    summary->keep_local = header->keep_local;
    memcpy(summary->codec_up, header->codec_up, sizeof summary->codec_up);
    memcpy(summary->codec_down, header->codec_down, sizeof summary->codec_down);
    summary->error_feedback = header->error_feedback;
    summary->seed = header->seed;
}

static void add_held_out(const struct run_data *run, struct run_summary *summary) {
    const struct run_node *node;
    bool final;
    const struct run_eval *eval = run_final_eval(run, &node, &final);
    summary->loss = eval ? eval->loss : (double)NAN;
    summary->bits_per_byte = eval ? eval->bits_per_byte : (double)NAN;
    summary->loss_final = final;
    summary->loss_step = eval ? eval->step : 0;
    for (int i = run->worker_count; i < run->node_count && !summary->loss_final; i++) {
        const struct run_node *outer = run->nodes[i];
        if (!outer->ended || !isfinite(outer->final_loss))
            continue;
        summary->loss = outer->final_loss;
        summary->bits_per_byte = outer->final_bits_per_byte;
        summary->loss_final = true;
        summary->loss_step = summary->steps;
    }
}

static void add_ledger(const struct run_node *outer, struct run_summary *summary) {
    if (outer->ledger_start == 0)
        return;
    double fragments = fmax(1, (double)outer->header.fragments);
    double before = isfinite(summary->tokens_lost) ? summary->tokens_lost : 0;
    summary->tokens_lost = before + (double)outer->tokens_dropped / fragments;
}

/* Of the workers without a log here: as far as their work is in commits. */
static double tokens_of_others(const struct run_data *run) {
    double tokens = 0;
    for (int slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        int64_t counted = 0;
        bool is_here = false;
        for (int i = 0; i < run->node_count; i++) {
            const struct run_node *node = run->nodes[i];
            if (node->is_outer && node->counted_tokens[slot] > counted)
                counted = node->counted_tokens[slot];
            is_here = is_here || (!node->is_outer && node->header.slot == slot);
        }
        tokens += is_here ? 0 : (double)counted;
    }
    return tokens;
}

void summary_of_run(const struct run_data *run, struct run_summary *summary) {
    memset(summary, 0, sizeof *summary);
    describe(run, summary);
    summary->tokens_lost = (double)NAN;
    double tokens = 0, payload = 0, wire = 0, control = 0, reference = 0, wait_s = 0, elapsed_s = 0;
    for (int i = 0; i < run->node_count; i++) {
        const struct run_node *node = run->nodes[i];
        summary->bad_lines += node->bad;
        summary->refused += node->refused;
        summary->commits += node->commits;
        summary->restarts += node->start_count - 1;
        summary->refused_updates += node->refused_updates;
        if (node->is_outer) {
            add_ledger(node, summary);
            summary->steps = node->run_step > summary->steps ? node->run_step : summary->steps;
            continue;
        }
        struct worker_summary worker;
        summary_of_worker(run, node, &worker);
        if (node->step_count && node->steps[node->step_count - 1].step > summary->steps)
            summary->steps = node->steps[node->step_count - 1].step;
        tokens += (double)worker.tokens;
        summary->tokens_per_s += worker.tokens_per_s;
        payload += (double)worker.payload_up + (double)worker.payload_down;
        wire += (double)worker.wire_up + (double)worker.wire_down;
        control += (double)worker.control_up + (double)worker.control_down;
        reference += (double)worker.data_parallel_bytes;
        wait_s += (double)worker.wait_us * 1e-6;
        elapsed_s += worker.elapsed_s;
    }
    add_held_out(run, summary);
    summary->tokens = to_count(tokens + tokens_of_others(run));
    double workers = fmax(1, run->worker_count);
    summary->payload_bytes = to_count(payload / workers);
    summary->wire_bytes = to_count(wire / workers);
    summary->control_bytes = to_count(control / workers);
    summary->data_parallel_bytes = to_count(reference / workers);
    summary->ratio_wire = summary->plain ? 1 : ratio(reference, wire);
    summary->ratio_payload = summary->plain ? 1 : ratio(reference, payload);
    summary->wait_share = ratio(wait_s, elapsed_s);
}

void summary_recoveries(const struct run_data *run, struct run_recoveries *recoveries) {
    memset(recoveries, 0, sizeof *recoveries);
    for (int i = 0; i < run->node_count; i++)
        for (int k = 0; k < run->nodes[i]->recoveries.count; k++)
            run_recoveries_add(recoveries, run->nodes[i]->recoveries.kinds[k].what,
                               run->nodes[i]->recoveries.kinds[k].count);
}

json_t *summary_json(const struct run_set *set) {
    json_t *runs = json_array();
    for (int i = 0; i < set->count; i++) {
        struct run_summary summary;
        summary_of_run(&set->runs[i], &summary);
        json_t *run = fields_json(run_summary_rows, run_summary_row_count, &summary);
        struct run_recoveries recoveries;
        summary_recoveries(&set->runs[i], &recoveries);
        json_t *kinds = json_object(), *workers = json_array();
        for (int k = 0; k < recoveries.count; k++)
            json_object_set_new(kinds, recoveries.kinds[k].what, json_integer(recoveries.kinds[k].count));
        for (int k = 0; k < set->runs[i].worker_count; k++) {
            struct worker_summary worker;
            summary_of_worker(&set->runs[i], set->runs[i].nodes[k], &worker);
            json_array_append_new(workers, fields_json(worker_summary_rows, worker_summary_row_count, &worker));
        }
        json_object_set_new(run, "recoveries", kinds);
        json_object_set_new(run, "workers_table", workers);
        json_array_append_new(runs, run);
    }
    return json_pack("{s:o}", "runs", runs);
}

void summary_print_schema(FILE *file) {
    fprintf(file, "--json: {\"runs\": [RUN, ...]}; a RUN (also a row of summary.csv):\n");
    fields_print_help(run_summary_rows, run_summary_row_count, file);
    fprintf(file, "    %-18s %-8s how often a node said \"recover\", by its `what`; not the start of a new run\n",
            "recoveries", "object");
    fprintf(file, "    %-18s %-8s of its workers (also a row of workers.csv), each:\n", "workers_table", "list");
    fields_print_help(worker_summary_rows, worker_summary_row_count, file);
}
