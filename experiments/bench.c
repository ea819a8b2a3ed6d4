#include "experiments/bench.h"
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/check.h"
#include "base/files.h"
#include "base/options.h"
#include "base/suggest.h"
#include "base/units.h"
#include "experiments/bench_machine.h"
#include "outer/run_file.h"

enum { BENCH_SCHEMA = 1, REPEATS_DEFAULT = 7, WORKERS_DEFAULT = 3 };
static const uint64_t PARAMETERS_MIN = 250000, PARAMETERS_MAX = 100000000000;
static const uint64_t SLICE_NS = 30000000, SLICE_SMOKE_NS = 300000;

/* In the order of the models of bench_sizes.h, then what stands for several. */
static const char *const size_names[] = {"tiny", "small", "large", "smoke", "all", NULL};
enum { SIZE_ALL = BENCH_SIZE_COUNT };

static const char *const precision_names[] = {[BENCH_PRECISION_F32] = "f32",
                                              [BENCH_PRECISION_BF16] = "bf16",
                                              [BENCH_PRECISION_BOTH] = "both",
                                              [BENCH_PRECISION_BOTH + 1] = NULL};

struct bench_values {
    const char *name;
    int64_t size, threads, repeats, precision;
    const char *json;
    int64_t workers, codec; /* these and below: of sync alone */
    const char *parameters;
    struct option_list set;
    struct bench_sync_plan sync; /* from them */
};
static const char *const codec_names[] = {"f32",  "bf16", "int8",
                                          "int4", "e3m0", NULL}; /* in the order of enum codec_id */
static const struct option_row bench_rows[] = {
    OPTION_POSITIONAL(struct bench_values, name, "NAME", "memory, gemm, ops, step, codec, outer, sync, or all of them"),
    OPTION_CHOICE(struct bench_values, size, "size", 0, "SIZE", size_names,
                  "of the model (default all: tiny, small, large)"),
    OPTION_INTEGER(struct bench_values, threads, "threads", 0, "N", 1, BENCH_THREADS_MAX,
                   "measure one thread and N (default: the cores)"),
    OPTION_INTEGER(struct bench_values, repeats, "repeats", 0, "N", 1, BENCH_REPEATS_MAX,
                   "rounds of which medians are taken (default 7)"),
    OPTION_CHOICE(struct bench_values, precision, "precision", 0, "P", precision_names,
                  "gemm and step: f32, bf16 or both (default f32)"),
    OPTION_TEXT(struct bench_values, json, "json", 0, "FILE",
                "write the same numbers as JSON (-: to stdout, no tables)"),
    OPTION_INTEGER(struct bench_values, workers, "workers", 0, "N", 1, RUN_WORKERS_MAX,
                   "sync: so many workers (default 3)"),
    OPTION_CHOICE(struct bench_values, codec, "codec", 0, "CODEC", codec_names, "sync: both ways (default f32)"),
    OPTION_TEXT(struct bench_values, parameters, "parameters", 0, "N",
                "sync: a model of nearly so many, such as 200M, instead of --size"),
    OPTION_LIST(struct bench_values, set, "set", 0, "KEY=VALUE",
                "sync: change one key of its run file, such as sync.fragment_layers=1"),
    OPTION_END,
};
static const struct option_command bench_options = {
    "bench", "measure this machine, each figure beside its limit", bench_rows,
    "memory a training step's memory beside its prediction, for each model.recompute\n"
    "gemm   the matrix products of a training step, alone and warm\n"
    "ops    the passes between them, beside memory; attention beside the products\n"
    "step   a training step: tokens/s, share of the products' rate, time per part\n"
    "codec  encode and decode of each format, beside memory\n"
    "outer  the outer step and the state hash, beside memory\n"
    "sync   CPU time of a sync over CURVE, no training, beside a bare transfer of the same bytes (all: tiny and "
    "small)\n"
    "Rates are medians (minimum..maximum). Sizes: tiny 0.8, small 10.7, large 124 M parameters; large takes 8 GB of "
    "memory."};

static const struct part {
    const char *name;
    enum bench_size last_of_all; /* with --size all: from tiny to this */
    enum status (*measure)(const struct bench_plan *plan, json_t **result, struct error *error);
    void (*print)(const json_t *result, FILE *to);
} parts[] = {
    {"memory", BENCH_SIZE_LARGE, bench_memory, bench_memory_print}, /* before any product: see there */
    {"gemm", BENCH_SIZE_LARGE, bench_gemm, bench_gemm_print},
    {"ops", BENCH_SIZE_LARGE, bench_ops, bench_ops_print},
    {"step", BENCH_SIZE_LARGE, bench_step, bench_step_print},
    {"codec", BENCH_SIZE_LARGE, bench_codec, bench_codec_print},
    {"outer", BENCH_SIZE_LARGE, bench_outer, bench_outer_print},
    {"sync", BENCH_SIZE_SMALL, bench_sync, bench_sync_print},
};
enum { PART_COUNT = sizeof parts / sizeof parts[0] };

/* ---- what the parts share ---- */

int bench_thread_counts(const struct bench_plan *plan, int counts[BENCH_THREAD_COUNTS]) {
    counts[0] = 1;
    counts[1] = plan->threads;
    return plan->threads > 1 ? 2 : 1;
}

int bench_precisions(const struct bench_plan *plan, enum inner_precision precisions[BENCH_PRECISIONS]) {
    int count = 0;
    if (plan->precision != BENCH_PRECISION_BF16)
        precisions[count++] = INNER_PRECISION_F32;
    if (plan->precision != BENCH_PRECISION_F32)
        precisions[count++] = INNER_PRECISION_BF16;
    return count;
}

const char *bench_precision_name(enum inner_precision precision) {
    return precision_names[precision == INNER_PRECISION_BF16 ? BENCH_PRECISION_BF16 : BENCH_PRECISION_F32];
}

double bench_median(const json_t *summary, double scale) {
    const json_t *median = json_object_get(summary, "median");
    return json_is_number(median) ? scale * json_number_value(median) : NAN;
}

char *bench_spread_text(const json_t *summary, double scale, char text[BENCH_TEXT_BYTES]) {
    double median = bench_median(summary, scale);
    int digits = fabs(median) >= 1000 ? 0 : fabs(median) >= 1 ? 1 : 3;
    if (!isfinite(median)) {
        snprintf(text, BENCH_TEXT_BYTES, "-");
        return text;
    }
    snprintf(text, BENCH_TEXT_BYTES, "%.*f (%.*f..%.*f)", digits, median, digits,
             scale * json_number_value(json_object_get(summary, "min")), digits,
             scale * json_number_value(json_object_get(summary, "max")));
    return text;
}

void bench_say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("atoll bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

/* ---- the command ---- */

struct report {
    const char *path; /* NULL = none, "-" = stdout */
    json_t *json;
};

static bool to_stdout(const struct report *report) {
    return report->path != NULL && strcmp(report->path, "-") == 0;
}

/* After each measurement: what is cut short keeps what it has, and a path that cannot be written is found out at once. */
static enum status report_save(const struct report *report, struct error *error) {
    if (report->path == NULL || to_stdout(report))
        return STATUS_OK;
    char *text = json_dumps(report->json, JSON_INDENT(2));
    CHECK(text != NULL);
    enum status status = files_write_atomic(report->path, text, strlen(text), 0644, error);
    free(text);
    return status;
}

/* Results of a part are lists, over sizes and, for `step`, threads. */
static void add_result(json_t *list, json_t *result) {
    if (json_is_array(result)) {
        CHECK(json_array_extend(list, result) == 0);
        json_decref(result);
    } else {
        CHECK(json_array_append_new(list, result) == 0);
    }
}

static enum status measure_part(const struct part *part, const struct bench_values *values, struct report *report,
                                struct error *error) {
    json_t *list = json_array();
    CHECK(json_object_set_new(report->json, part->name, list) == 0);
    for (int size = 0; size < BENCH_SIZE_COUNT; size++) {
        if (values->size == SIZE_ALL ? size > (int)part->last_of_all : values->size != size)
            continue;
        struct bench_plan plan = {.size = (enum bench_size)size,
                                  .threads = (int)values->threads,
                                  .precision = (enum bench_precision)values->precision,
                                  .effort = {.repeats = (int)values->repeats,
                                             .slice_ns = size == BENCH_SIZE_SMOKE ? SLICE_SMOKE_NS : SLICE_NS},
                                  .sync = values->sync};
        json_t *result = NULL;
        enum status status = part->measure(&plan, &result, error);
        if (status != STATUS_OK)
            return error_prefix(error, "%s, size %s", part->name, bench_size_name(plan.size));
        if (!to_stdout(report)) {
            part->print(result, stdout);
            fflush(stdout);
        }
        add_result(list, result);
        status = report_save(report, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static json_t *header_json(const struct bench_values *values, json_t *machine, json_t *warnings) {
    json_t *header =
        json_pack("{s:i, s:b, s:s, s:s, s:I, s:I, s:o, s:o}", "schema", BENCH_SCHEMA, "complete", 0, "bench",
                  values->name, "size", size_names[values->size], "threads", (json_int_t)values->threads, "repeats",
                  (json_int_t)values->repeats, "machine", machine, "warnings", warnings);
    CHECK(header != NULL);
    return header;
}

static enum status run_bench(const struct bench_values *values, struct report *report, struct error *error) {
    enum status status = report_save(report, error);
    for (int i = 0; i < PART_COUNT && status == STATUS_OK; i++)
        if (strcmp(values->name, "all") == 0 || strcmp(values->name, parts[i].name) == 0)
            status = measure_part(&parts[i], values, report, error);
    if (status != STATUS_OK)
        return status;
    json_object_set_new(report->json, "complete", json_true());
    if (to_stdout(report)) {
        json_dumpf(report->json, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    return report_save(report, error);
}

static enum status check_name(const char *name, struct error *error) {
    struct suggestion meant = {.word = name};
    if (strcmp(name, "all") == 0)
        return STATUS_OK;
    for (int i = 0; i < PART_COUNT; i++) {
        if (strcmp(name, parts[i].name) == 0)
            return STATUS_OK;
        suggest_consider(&meant, parts[i].name);
    }
    suggest_consider(&meant, "all");
    if (meant.nearest != NULL)
        return error_set(error, STATUS_USAGE, "'%s' is no benchmark (did you mean '%s'?)", name, meant.nearest);
    return error_set(error, STATUS_USAGE,
                     "'%s' is no benchmark; expected memory, gemm, ops, step, codec, outer, sync or all", name);
}

/* What only sync reads. */
static enum status check_sync(struct bench_values *values, struct error *error) {
    values->sync =
        (struct bench_sync_plan){.workers = values->workers, .codec = codec_names[values->codec], .set = values->set};
    if (values->parameters == NULL)
        return STATUS_OK;
    if (!units_parse_count(values->parameters, &values->sync.parameters) || values->sync.parameters < PARAMETERS_MIN ||
        values->sync.parameters > PARAMETERS_MAX)
        return error_set(error, STATUS_USAGE, "--parameters: '%s' is not a number such as 200M, from 250k to 100G",
                         values->parameters);
    if (strcmp(values->name, "sync") != 0)
        return error_set(error, STATUS_USAGE, "--parameters is of sync, found with %s", values->name);
    values->size = BENCH_SIZE_SMALL; /* one measurement, of a model of its own */
    return STATUS_OK;
}

int bench_command(int argc, char **argv) {
    int cores = (int)sysconf(_SC_NPROCESSORS_ONLN), exit_code;
    struct bench_values values = {.size = SIZE_ALL,
                                  .threads = cores < BENCH_THREADS_MAX ? cores : BENCH_THREADS_MAX,
                                  .repeats = REPEATS_DEFAULT,
                                  .workers = WORKERS_DEFAULT};
    struct error error = {0};
    if (!options_or_exit(&bench_options, argc, argv, &values, &exit_code))
        return exit_code;
    enum status status = check_name(values.name, &error);
    if (status == STATUS_OK)
        status = check_sync(&values, &error);
    if (status == STATUS_OK) {
        json_t *machine = bench_machine_json();
        json_t *warnings =
            bench_machine_warnings(json_number_value(json_object_get(machine, "load")), (int)values.threads,
                                   (int)json_integer_value(json_object_get(machine, "cores")), (int)values.repeats);
        struct report report = {.path = values.json, .json = header_json(&values, machine, warnings)};
        if (!to_stdout(&report))
            bench_machine_print(machine, warnings, stdout);
        status = run_bench(&values, &report, &error);
        json_decref(report.json);
    }
    if (status != STATUS_OK)
        fprintf(stderr, "atoll bench: %s\n", error.text);
    return status_exit_code(status);
}
