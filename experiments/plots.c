#include "experiments/plots.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

/* Okabe and Ito's colours, told apart by colour-blind readers and in print; black last, yellow left out (faint on white). */
static const char *const colors[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"};
enum { COLORS = sizeof colors / sizeof colors[0] };

static const char *color_of(int i) {
    return colors[i % COLORS];
}

/* The same colour, mostly transparent. */
static void pale_color_of(int i, char text[16]) {
    snprintf(text, 16, "#90%s", color_of(i) + 1);
}

/* ---- pieces that all scripts share ---- */

static FILE *begin_script(struct plot_list *list, const char *directory, const char *name, const char *title,
                          int height, struct error *error) {
    struct plot *plot = &list->plots[list->count];
    snprintf(plot->name, sizeof plot->name, "%.*s", (int)sizeof plot->name - 1, name);
    snprintf(plot->title, sizeof plot->title, "%.*s", (int)sizeof plot->title - 1, title);
    char file_name[sizeof plot->name + 4];
    snprintf(file_name, sizeof file_name, "%s.gp", plot->name);
    FILE *file = csv_open(directory, file_name, error);
    if (!file)
        return NULL;
    char svg_name[32]; /* a prefix of the ids in the SVG, so that several fit into one page */
    snprintf(svg_name, sizeof svg_name, "figure%d", list->count++);
    fprintf(
        file,
        "# Made by atoll report. Draw again with: gnuplot %s\n"
        "set datafile separator ','\n"
        "set datafile missing ''\n"
        "set decimalsign '.'\n"
        "png = strstrt(GPVAL_TERMINALS, 'pngcairo') ? 'pngcairo' : 'png'\n"
        "set key noenhanced\n"
        "set border 3 lw 1 lc rgb '#444444'\n"
        "set tics nomirror out textcolor rgb '#222222'\n"
        "set grid xtics ytics lt 1 lw 0.6 lc rgb '#DDDDDD'\n"
        "do for [kind in 'svg png'] {\n"
        "if (kind eq 'svg') { set terminal svg size 960,%d dynamic enhanced font 'DejaVu Sans,14' background '#FFFFFF' "
        "name '%s' "
        "} else { set terminal @png size 1440,%d enhanced font 'DejaVu Sans,15' background '#FFFFFF' linewidth 1.6 }\n"
        "set output '%s.'.kind\n",
        file_name, height, svg_name, height * 3 / 2, plot->name);
    return file;
}

static enum status end_script(FILE *file, const struct plot_list *list, struct error *error) {
    fprintf(file, "}\nunset output\n");
    return csv_close(file, list->plots[list->count - 1].name, error);
}

static bool has_evals(const struct run_data *run) {
    for (int i = 0; i < run->worker_count; i++)
        for (int64_t k = 0; k < run->nodes[i]->eval_count; k++)
            if (isfinite(run->nodes[i]->evals[k].loss))
                return true;
    return false;
}

static bool is_plain(const struct run_data *run) {
    return run->worker_count > 0 && strcmp(run->nodes[0]->header.role, "plain") == 0;
}

static bool any_evals(const struct run_set *set) {
    for (int i = 0; i < set->count; i++)
        if (has_evals(&set->runs[i]))
            return true;
    return false;
}

/* ---- held-out loss over bytes ---- */

/* A double arrow from the run's last point to its reference, with the ratio above: the one number to take home. Labels of
 * several runs, which end at nearly the same loss, stand one above the other. */
static void draw_ratio(const struct run_data *run, int index, int *drawn, FILE *file) {
    const struct run_node *node;
    bool final;
    const struct run_eval *eval = run_final_eval(run, &node, &final);
    struct run_summary summary;
    summary_of_run(run, &summary);
    double wire = (double)eval->counters.wire_up + (double)eval->counters.wire_down;
    double reference = (double)SUMMARY_DATA_PARALLEL_BYTES * (double)node->header.parameters * (double)eval->step;
    if (!(wire > 0) || !(reference > 1.5 * wire) || !isfinite(eval->loss))
        return;
    fprintf(file, "set arrow from %.9g,%.9g to %.9g,%.9g heads size screen 0.008,20 lw 1 lc rgb '%s' front\n", wire,
            eval->loss, reference, eval->loss, color_of(index));
    fprintf(file,
            "set label '%.3gx fewer bytes, %.4g nats' at %.9g,%.9g center offset 0,%.1f textcolor rgb '%s' front\n",
            reference / wire, eval->loss, sqrt(wire * reference), eval->loss, 0.7 + 1.4 * (*drawn)++, color_of(index));
}

static enum status loss_over_bytes(const struct run_set *set, const char *directory, struct plot_list *list,
                                   struct error *error) {
    FILE *file = begin_script(list, directory, "loss_over_bytes", "Held-out loss over cumulative wire bytes per worker",
                              600, error);
    if (!file)
        return error->status;
    fprintf(file, "set title 'Held-out loss over what each worker sent and received' font ',17'\n"
                  "set logscale x\n"
                  "set format x '%%.0s %%cB'\n"
                  "set xlabel 'wire bytes per worker, up + down (log scale)'\n"
                  "set ylabel 'held-out loss [nats per token]'\n"
                  "set key bmargin left horizontal Left reverse spacing 1.15 height 1 maxcols 2 samplen 3\n"
                  "set offsets graph 0.02, graph 0.04, graph 0.03, graph 0.03\n");
    int drawn = 0;
    for (int i = 0; i < set->count && set->count <= 4; i++)
        if (has_evals(&set->runs[i]) && !is_plain(&set->runs[i]))
            draw_ratio(&set->runs[i], i, &drawn, file);
    const char *separator = "plot ";
    for (int i = 0; i < set->count; i++) {
        char stem[CSV_STEM_BYTES], pale[16];
        csv_stem(set, i, stem);
        pale_color_of(i, pale);
        if (!has_evals(&set->runs[i]))
            continue;
        if (is_plain(&set->runs[i])) {
            fprintf(file,
                    "%s'%s.evals.csv' using 7:($7 > 0 ? $3 : NaN) every ::1 with linespoints lw 2 pt 4 ps 0.5 lc rgb "
                    "'%s' title '%s (sync: off, at its bf16 data-parallel bytes)'",
                    separator, stem, color_of(i), set->runs[i].label);
        } else {
            fprintf(file,
                    "%s'%s.evals.csv' using 5:($5 > 0 ? $3 : NaN) every ::1 with linespoints lw 2.5 pt 7 ps 0.5 lc rgb "
                    "'%s' title '%s'",
                    separator, stem, color_of(i), set->runs[i].label);
            fprintf(file,
                    ", \\\n     '%s.evals.csv' using 7:($7 > 0 ? $3 : NaN) every ::1 with linespoints lw 2 dt 2 pt 6 "
                    "ps 0.5 lc rgb '%s' "
                    "title '%s, its steps as bf16 data-parallel'",
                    stem, pale, set->runs[i].label);
        }
        separator = ", \\\n     ";
    }
    fputc('\n', file);
    return end_script(file, list, error);
}

/* ---- loss over tokens ---- */

static enum status loss_over_tokens(const struct run_set *set, const char *directory, struct plot_list *list,
                                    struct error *error) {
    FILE *file = begin_script(list, directory, "loss_over_tokens", "Loss over trained tokens", 600, error);
    if (!file)
        return error->status;
    fprintf(file, "set title 'Loss over tokens trained by all workers' font ',17'\n"
                  "set format x '%%.1s %%c'\n"
                  "set xlabel 'tokens, all workers'\n"
                  "set ylabel 'loss [nats per token]'\n"
                  "set key bmargin left horizontal Left reverse spacing 1.15 height 1 maxcols 2 samplen 3\n"
                  "set xrange [0:*]\n"
                  "set offsets 0, graph 0.02, graph 0.02, graph 0.02\n");
    const char *separator = "plot ";
    for (int i = 0; i < set->count; i++) {
        char stem[CSV_STEM_BYTES], pale[16];
        csv_stem(set, i, stem);
        pale_color_of(i, pale);
        fprintf(
            file,
            "%s'%s.train.csv' using 1:2 every ::1 with lines lw 1.5 lc rgb '%s' title '%s, training (mean of bins)'",
            separator, stem, pale, set->runs[i].label);
        separator = ", \\\n     ";
        if (has_evals(&set->runs[i]))
            fprintf(file,
                    "%s'%s.evals.csv' using 2:3 every ::1 with linespoints lw 2.5 pt 7 ps 0.5 lc rgb '%s' title '%s, "
                    "held-out'",
                    separator, stem, color_of(i), set->runs[i].label);
    }
    fputc('\n', file);
    return end_script(file, list, error);
}

/* ---- over time, of one run ---- */

enum { RESTARTS_DRAWN_MAX = 200 };

/* The axis, and a thin line wherever a process was started again, in its worker's colour; the outer's is dashed. */
static void time_axis(const struct run_data *run, FILE *file) {
    int drawn = 0;
    double last_s = 0; /* an arrow beyond the points would stand beside the picture */
    for (int i = 0; i < run->node_count; i++)
        if (run->nodes[i]->start_count > 1)
            last_s = fmax(last_s, run->nodes[i]->starts[run->nodes[i]->start_count - 1].t_s);
    if (last_s > 0)
        fprintf(file, "set xrange [0:%.3f<*]\n", last_s);
    else
        fprintf(file, "set xrange [0:*]\n");
    for (int i = 0; i < run->node_count; i++) {
        const struct run_node *node = run->nodes[i];
        for (int64_t k = 1; k < node->start_count && drawn < RESTARTS_DRAWN_MAX; k++, drawn++)
            fprintf(file, "set arrow from %.3f, graph 0 to %.3f, graph 1 nohead lw 0.8%s lc rgb '%s' back\n",
                    node->starts[k].t_s, node->starts[k].t_s, node->is_outer ? " dt 3" : "",
                    node->is_outer ? "#666666" : color_of(i));
    }
}

/* For a title. */
static const char *restarts_note(const struct run_data *run) {
    for (int i = 0; i < run->node_count; i++)
        if (run->nodes[i]->start_count > 1)
            return "; thin lines: restarts";
    return "";
}

static void format_bit_rate(double bytes_per_s, char text[32]) {
    double bits = 8 * bytes_per_s;
    if (bits >= 1e6)
        snprintf(text, 32, "%.3g Mbit/s", bits * 1e-6);
    else if (bits >= 1e3)
        snprintf(text, 32, "%.3g kbit/s", bits * 1e-3);
    else
        snprintf(text, 32, "%.3g bit/s", bits);
}

static int drawn_workers(const struct run_data *run) {
    return run->worker_count < PLOTS_WORKERS_MAX ? run->worker_count : PLOTS_WORKERS_MAX;
}

static void rate_panel(const struct run_data *run, const char *stem, bool up, FILE *file) {
    int64_t cap = run->nodes[0]->header.up_bytes_per_s;
    if (!up)
        cap = run->nodes[0]->header.down_bytes_per_s;
    fprintf(file, "set ylabel '%s [bit/s]'\nplot ", up ? "sent" : "received");
    for (int i = 0; i < drawn_workers(run); i++) {
        struct worker_summary worker;
        summary_of_worker(run, run->nodes[i], &worker);
        char peak[32], mean[32];
        format_bit_rate(up ? worker.up_peak_bytes_per_s : worker.down_peak_bytes_per_s, peak);
        format_bit_rate(up ? worker.up_mean_bytes_per_s : worker.down_mean_bytes_per_s, mean);
        fprintf(file,
                "%s'%s.rates.csv' using 2:($1 == %d ? $%d : NaN) every ::1 with lines lw 1.5 lc rgb '%s' title '%s: "
                "peak %s, mean %s'",
                i ? ", \\\n     " : "", stem, i, up ? 3 : 4, color_of(i), worker.node, peak, mean);
    }
    if (cap > 0) {
        char text[32];
        format_bit_rate((double)cap, text);
        fprintf(file, ", \\\n     %.9g with lines lw 1.5 dt 2 lc rgb '#666666' title 'cap %s'", 8 * (double)cap, text);
    }
    fputc('\n', file);
}

static enum status rates_of_run(const struct run_set *set, int index, const char *directory, struct plot_list *list,
                                struct error *error) {
    const struct run_data *run = &set->runs[index];
    char stem[CSV_STEM_BYTES], name[CSV_STEM_BYTES + 16], title[256];
    csv_stem(set, index, stem);
    snprintf(name, sizeof name, "%s.rates", stem);
    snprintf(title, sizeof title, "%s: wire rate of each worker, 1 s samples", run->label);
    int rows = drawn_workers(run) + 1;
    FILE *file = begin_script(list, directory, name, title, 420 + 2 * 26 * rows, error);
    if (!file)
        return error->status;
    fprintf(file,
            "set multiplot layout 2,1 title '%s: wire rate of each worker, 1 s samples%s%s' font ',17' noenhanced\n"
            "set format y '%%.1s %%c'\n"
            "set yrange [0:*]\nset offsets 0, 0, graph 0.06, 0\n"
            "set lmargin 12\nset rmargin 3\n"
            "set key bmargin left horizontal Left reverse spacing 1.15 height 1 maxcols 2 samplen 3\n"
            "set xlabel 'time since the start [s]'\n",
            run->label, run->worker_count > PLOTS_WORKERS_MAX ? " (the first twelve)" : "", restarts_note(run));
    time_axis(run, file);
    rate_panel(run, stem, true, file);
    rate_panel(run, stem, false, file);
    fprintf(file, "unset multiplot\n");
    return end_script(file, list, error);
}

/* ---- exposed wait of one run ---- */

/* gnuplot cannot scale an axis by zeros alone. */
static bool waited(const struct run_data *run) {
    for (int i = 0; i < run->worker_count; i++)
        if (run->nodes[i]->totals.wait_us > 0)
            return true;
    return false;
}

static enum status waits_of_run(const struct run_set *set, int index, const char *directory, struct plot_list *list,
                                struct error *error) {
    const struct run_data *run = &set->runs[index];
    char stem[CSV_STEM_BYTES], name[CSV_STEM_BYTES + 16], title[256];
    csv_stem(set, index, stem);
    snprintf(name, sizeof name, "%s.waits", stem);
    snprintf(title, sizeof title, "%s: exposed wait, and where the workers' time went", run->label);
    FILE *file = begin_script(list, directory, name, title, 640 + 18 * drawn_workers(run), error);
    if (!file)
        return error->status;
    fprintf(
        file,
        "set multiplot layout 2,1 title '%s: how long training stood still for the network%s' font ',17' noenhanced\n"
        "set lmargin 12\nset rmargin 3\n"
        "set yrange [0:%s]\nset offsets 0, 0, graph 0.06, 0\n"
        "set key bmargin left horizontal Left reverse spacing 1.15 height 1 maxcols 4 samplen 3\n"
        "set xlabel 'time since the start [s]'\nset ylabel \"exposed wait so far\\n[%% of the worker's time]\"\n",
        run->label, restarts_note(run), waited(run) ? "*" : "1");
    time_axis(run, file);
    fprintf(file, "plot ");
    for (int i = 0; i < drawn_workers(run); i++) {
        const struct run_node *node = run->nodes[i];
        double running_s = summary_running_s(node, node->last_t_s);
        fprintf(file,
                "%s'%s.waits.csv' using 2:($1 == %d ? 100 * $3 : NaN) every ::1 with lines lw 2 lc rgb '%s' title '%s: "
                "%.2f %%'",
                i ? ", \\\n     " : "", stem, i, color_of(i), node->header.node,
                running_s > 0 ? (double)node->totals.wait_us * 1e-4 / running_s : 0);
    }
    fprintf(
        file,
        "\nunset arrow\nset xrange [*:*]\nset yrange [0:100]\nset offsets 0, 0, 0, 0\nset style data histograms\nset "
        "style "
        "histogram rowstacked\n"
        "set boxwidth 0.6\nset style fill solid border -1\nunset grid\nset grid ytics lt 1 lw 0.6 lc rgb '#DDDDDD'\n"
        "unset xlabel\nset ylabel \"share of the\\nworker's time [%%]\"\nset xtics noenhanced\n"
        "plot '%s.shares.csv' using 2:xtic(1) every ::1 lc rgb '#009E73' title 'training', "
        "'' using 3 every ::1 lc rgb '#D55E00' title 'waiting for the network', "
        "'' using 4 every ::1 lc rgb '#56B4E9' title 'evaluation', "
        "'' using 5 every ::1 lc rgb '#CCCCCC' title 'other'\n"
        "unset multiplot\n",
        stem);
    return end_script(file, list, error);
}

/* ---- all ---- */

static bool has_rates(const struct run_data *run) {
    for (int i = 0; i < run->worker_count; i++) {
        int64_t from = 0;
        struct rate_sample sample;
        if (run->nodes[i]->link_count > 0 && summary_next_rate(run->nodes[i], &from, &sample))
            return true;
    }
    return false;
}

static bool has_waits(const struct run_data *run) {
    for (int i = 0; i < run->worker_count; i++) {
        const struct run_node *node = run->nodes[i];
        if (node->link_count > 0 && node->links[node->link_count - 1].t_s > summary_start_s(node))
            return true;
    }
    return false;
}

static bool any_losses(const struct run_set *set) {
    for (int i = 0; i < set->count; i++)
        for (int k = 0; k < set->runs[i].worker_count; k++) {
            const struct run_node *node = set->runs[i].nodes[k];
            for (int64_t s = 0; s < node->step_count; s++)
                if (isfinite(node->steps[s].loss))
                    return true;
        }
    return false;
}

enum status plots_write(const struct run_set *set, const char *directory, struct plot_list *list, struct error *error) {
    list->count = 0;
    enum status status = STATUS_OK;
    if (any_evals(set))
        status = loss_over_bytes(set, directory, list, error);
    if (status == STATUS_OK && any_losses(set))
        status = loss_over_tokens(set, directory, list, error);
    for (int i = 0; i < set->count && status == STATUS_OK; i++) {
        if (has_rates(&set->runs[i]) && !is_plain(&set->runs[i]))
            status = rates_of_run(set, i, directory, list, error);
        if (status == STATUS_OK && has_waits(&set->runs[i]))
            status = waits_of_run(set, i, directory, list, error);
    }
    return status;
}

static enum status draw_one(const char *directory, const char *name, struct error *error) {
    char script[CSV_STEM_BYTES + 32];
    snprintf(script, sizeof script, "%s.gp", name);
    char *arguments[] = {"gnuplot", script, NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, directory);
    int failed = posix_spawnp(&child, "gnuplot", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed == ENOENT)
        return error_set(error, STATUS_NOT_FOUND,
                         "gnuplot is not installed, so there are no plots (apt-get install gnuplot-nox); the CSV files "
                         "and scripts are in %s",
                         directory);
    if (failed)
        return error_set(error, STATUS_IO, "cannot start gnuplot: %s; the CSV files are in %s", strerror(failed),
                         directory);
    int state;
    while (waitpid(child, &state, 0) < 0)
        if (errno != EINTR)
            return error_set(error, STATUS_IO, "cannot wait for gnuplot: %s", strerror(errno));
    if (WIFEXITED(state) && WEXITSTATUS(state) == 0)
        return STATUS_OK;
    return error_set(error, STATUS_IO, "gnuplot failed on %s/%s: its reason is above; the CSV files are in %s",
                     directory, script, directory);
}

enum status plots_draw(const struct plot_list *list, const char *directory, struct error *error) {
    enum status status = STATUS_OK;
    for (int i = 0; i < list->count && status == STATUS_OK; i++)
        status = draw_one(directory, list->plots[i].name, error);
    return status;
}
