/* summary_print: the table of summary.h as text for people. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "base/units.h"
#include "experiments/summary.h"

enum { CELL_BYTES = 64 };

/* "412x less", "1.02x less", "1.3x more"; "-" when there is nothing to compare. */
static const char *format_ratio(double value, char text[CELL_BYTES]) {
    if (!isfinite(value) || value <= 0)
        snprintf(text, CELL_BYTES, "-");
    else if (value >= 1)
        snprintf(text, CELL_BYTES, value >= 100 ? "%.0fx less" : "%.3gx less", value);
    else
        snprintf(text, CELL_BYTES, "%.3gx more", 1 / value);
    return text;
}

static const char *format_share(double value, char text[CELL_BYTES]) {
    if (isfinite(value))
        snprintf(text, CELL_BYTES, "%.2f %%", 100 * value);
    else
        snprintf(text, CELL_BYTES, "-");
    return text;
}

static const char *format_bytes(int64_t bytes, char text[CELL_BYTES]) {
    return units_format_bytes((uint64_t)bytes, text);
}

static void print_run_head(const struct run_summary *run, FILE *file) {
    fprintf(file, "%s: %" PRId64 " parameters, ", run->run, run->parameters);
    if (run->plain) {
        fprintf(file, "plain training (sync: off), %" PRId64 " of %" PRId64 " steps\n", run->steps, run->planned_steps);
    } else {
        fprintf(file,
                "%" PRId64 " workers, %" PRId64 " of %" PRId64 " steps, %" PRId64 " fragments every %" PRId64
                " steps, ",
                run->workers, run->steps, run->planned_steps, run->fragments, run->every_steps);
        if (run->overlap_steps < 0)
            fprintf(file, "overlap auto, ");
        else
            fprintf(file, "overlap %" PRId64 ", ", run->overlap_steps);
        fprintf(file, "%s up, %s down%s\n", run->codec_up, run->codec_down,
                run->error_feedback ? ", error feedback" : "");
    }
    if (!isfinite(run->loss)) {
        fprintf(file, "  held-out loss     not measured\n");
        return;
    }
    fprintf(file, "  held-out loss     %.4f nats per token", run->loss);
    if (isfinite(run->bits_per_byte))
        fprintf(file, ", %.4f bits per byte", run->bits_per_byte);
    fprintf(file, " (step %" PRId64 "%s)\n", run->loss_step, run->loss_final ? ", final model" : "");
}

static void print_run_numbers(const struct run_summary *run, FILE *file) {
    char a[CELL_BYTES], b[CELL_BYTES];
    if (run->workers == 0) { /* a hub's own directory: bytes and times are in the workers' logs */
        fprintf(file, "  tokens            %" PRId64 ", that commits count; no log of a worker is here\n", run->tokens);
        return;
    }
    if (!run->plain) {
        fprintf(file, "  payload           %s up and down per worker, %s than bf16 data-parallel\n",
                format_bytes(run->payload_bytes, a), format_ratio(run->ratio_payload, b));
        fprintf(file, "  wire              %s up and down per worker, %s than bf16 data-parallel\n",
                format_bytes(run->wire_bytes, a), format_ratio(run->ratio_wire, b));
    }
    fprintf(file, "  bf16 data-par.    %s up and down per worker for the same steps\n",
            format_bytes(run->data_parallel_bytes, a));
    fprintf(file, "  speed             %.0f tokens/s, %" PRId64 " tokens\n", run->tokens_per_s, run->tokens);
    fprintf(file, "  exposed wait      %s of the workers' time\n", format_share(run->wait_share, a));
}

/* What a run that nothing happened to does not have. */
static void print_troubles(const struct run_data *data, const struct run_summary *run, FILE *file) {
    struct run_recoveries recoveries;
    summary_recoveries(data, &recoveries);
    int64_t all = 0;
    for (int i = 0; i < recoveries.count; i++)
        all += recoveries.kinds[i].count;
    if (run->restarts > 0) {
        fprintf(file, "  restarts          %" PRId64 " (", run->restarts);
        for (int i = 0, listed = 0; i < data->node_count; i++)
            if (data->nodes[i]->start_count > 1)
                fprintf(file, "%s%s %" PRId64, listed++ ? ", " : "", data->nodes[i]->header.node,
                        data->nodes[i]->start_count - 1);
        fprintf(file, ")\n");
    }
    if (recoveries.count > 0) {
        fprintf(file, "  recoveries        %" PRId64 " (", all);
        for (int i = 0; i < recoveries.count; i++)
            fprintf(file, "%s%s %" PRId64, i ? ", " : "", recoveries.kinds[i].what, recoveries.kinds[i].count);
        fprintf(file, ")\n");
    }
    if (run->tokens_lost > 0)
        fprintf(file, "  tokens lost       %.0f of %" PRId64 ", trained but not counted\n", run->tokens_lost,
                run->tokens);
    if (run->refused_updates)
        fprintf(file, "  refused updates   %" PRId64 ", not finite or too large\n", run->refused_updates);
    if (run->bad_lines)
        fprintf(file, "  warning           %" PRId64 " log lines could not be used\n", run->bad_lines);
}

enum { COLUMNS = 9 };

static void print_worker(const struct worker_summary *w, bool plain, FILE *file) {
    char cells[COLUMNS][CELL_BYTES];
    snprintf(cells[0], CELL_BYTES, "%s", w->node);
    snprintf(cells[1], CELL_BYTES, "%" PRId64, w->steps);
    snprintf(cells[2], CELL_BYTES, "%.0f", w->tokens_per_s);
    char up[CELL_BYTES], down[CELL_BYTES];
    snprintf(cells[3], CELL_BYTES, "%.20s / %.20s", format_bytes(w->payload_up, up),
             format_bytes(w->payload_down, down));
    snprintf(cells[4], CELL_BYTES, "%.20s / %.20s", format_bytes(w->wire_up, up), format_bytes(w->wire_down, down));
    snprintf(cells[5], CELL_BYTES, "%.20s / %.20s", format_bytes(w->control_up, up),
             format_bytes(w->control_down, down));
    if (plain)
        snprintf(cells[6], CELL_BYTES, "reference");
    else
        format_ratio(w->ratio_wire, cells[6]);
    format_share(w->wait_share, cells[7]);
    snprintf(cells[8], CELL_BYTES, "%.60s", w->ended ? w->reason : "no end record");
    fprintf(file, "  %-14s %7s %9s %21s %21s %21s %12s %8s  %s\n", cells[0], cells[1], cells[2], cells[3], cells[4],
            cells[5], cells[6], cells[7], cells[8]);
}

void summary_print(const struct run_set *set, FILE *file) {
    for (int i = 0; i < set->count; i++) {
        struct run_summary summary;
        summary_of_run(&set->runs[i], &summary);
        if (i)
            fputc('\n', file);
        print_run_head(&summary, file);
        print_run_numbers(&summary, file);
        print_troubles(&set->runs[i], &summary, file);
        if (set->runs[i].worker_count == 0)
            continue;
        fprintf(file, "  %-14s %7s %9s %21s %21s %21s %12s %8s  %s\n", "worker", "steps", "tokens/s",
                "payload up / down", "wire up / down", "control up / down", "wire vs DP", "wait", "end");
        for (int k = 0; k < set->runs[i].worker_count; k++) {
            struct worker_summary worker;
            summary_of_worker(&set->runs[i], set->runs[i].nodes[k], &worker);
            print_worker(&worker, summary.plain, file);
        }
    }
}
