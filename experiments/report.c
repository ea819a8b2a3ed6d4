#include "experiments/report.h"

#include <stdlib.h>
#include "base/files.h"
#include "base/options.h"
#include "experiments/page.h"

struct report_values {
    struct option_list directories;
    const char *out;
    bool json;
    bool no_plots;
    bool schema;
};
static const struct option_row report_rows[] = {
    OPTION_REST(struct report_values, directories, "DIR", true,
                "directory of a run: holds log.jsonl, or sub-directories that do"),
    OPTION_TEXT(struct report_values, out, "output", 'o', "OUT",
                "directory for CSV, SVG, PNG and index.html; made when missing"),
    OPTION_FLAG(struct report_values, json, "json", 0, "print the same numbers as JSON"),
    OPTION_FLAG(struct report_values, no_plots, "no-plots", 0, "CSV and scripts only, gnuplot is not run"),
    OPTION_FLAG(struct report_values, schema, "schema", 0, "print the table of log events and of the fields of --json"),
    OPTION_END,
};
static const struct option_command report_options = {
    "report", "tables and plots from the logs of runs", report_rows,
    "Without -o only the table is printed. Example: atoll report runs/a runs/b -o report"};

static int fail(const struct error *error) {
    fprintf(stderr, "atoll report: %s\n", error->text);
    return status_exit_code(error->status);
}

static void say_bad_lines(const struct run_set *set) {
    for (int i = 0; i < set->count; i++)
        for (int k = 0; k < set->runs[i].node_count; k++) {
            const struct run_node *node = set->runs[i].nodes[k];
            if (node->bad)
                fprintf(stderr, "atoll report: %s/log.jsonl: %lld lines could not be used; %s\n", node->directory,
                        (long long)node->bad, node->first_bad);
        }
}

static enum status write_files(const struct run_set *set, const struct report_values *values, struct error *error) {
    static struct plot_list list;
    enum status status = files_make_directory(values->out, 0755, error);
    if (status == STATUS_OK)
        status = csv_write(set, values->out, error);
    if (status == STATUS_OK)
        status = plots_write(set, values->out, &list, error);
    if (status != STATUS_OK)
        return status;
    enum status drawn = values->no_plots ? STATUS_OK : plots_draw(&list, values->out, error);
    if (drawn == STATUS_OK || drawn == STATUS_NOT_FOUND) {
        struct error page_error;
        status = page_write(set, &list, values->out, &page_error);
        if (status != STATUS_OK) {
            *error = page_error;
            return status;
        }
    }
    if (drawn == STATUS_OK && !values->json) {
        printf("\n");
        for (int i = 0; i < list.count; i++)
            printf("%s/%s.{svg,png}  %s\n", values->out, list.plots[i].name, list.plots[i].title);
        printf("%s/index.html  all of it on one page\n", values->out);
    }
    return drawn;
}

static int run_report(const struct report_values *values, struct run_set *set) {
    struct error error;
    for (int i = 0; i < values->directories.count; i++)
        if (run_set_add(set, values->directories.items[i], &error) != STATUS_OK)
            return fail(&error);
    say_bad_lines(set);
    if (values->json) {
        json_t *json = summary_json(set);
        json_dumpf(json, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(json);
    } else {
        summary_print(set, stdout);
    }
    fflush(stdout);
    if (values->out && write_files(set, values, &error) != STATUS_OK)
        return fail(&error);
    return 0;
}

int report_command(int argc, char **argv) {
    struct report_values values = {0};
    int exit_code;
    if (!options_or_exit(&report_options, argc, argv, &values, &exit_code))
        return exit_code;
    if (values.schema) {
        run_log_print_schema(stdout);
        printf("\n");
        summary_print_schema(stdout);
        return 0;
    }
    if (values.directories.count == 0) {
        fprintf(stderr, "atoll report: DIR is missing: the directory of a run (atoll report --help)\n");
        return status_exit_code(STATUS_USAGE);
    }
    struct run_set *set = calloc(1, sizeof *set);
    if (!set) {
        fprintf(stderr, "atoll report: no memory\n");
        return status_exit_code(STATUS_NO_MEMORY);
    }
    exit_code = run_report(&values, set);
    run_set_free(set);
    free(set);
    return exit_code;
}
