#include "experiments/status.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/options.h"
#include "base/units.h"
#include "experiments/admin.h"

struct status_values {
    const char *directory;
    bool json;
    bool once;
};
static const struct option_row status_rows[] = {
    OPTION_POSITIONAL(struct status_values, directory, "DIR", "the outer's directory, or that of `atoll train`"),
    OPTION_FLAG(struct status_values, once, "once", 0, "print the table once (also when the output is no terminal)"),
    OPTION_FLAG(struct status_values, json, "json", 0, "print the same numbers once as JSON"),
    OPTION_END,
};
static const struct option_command status_options = {"status", "watch a run", status_rows, NULL};

static long long integer_of(const json_t *object, const char *key) {
    return (long long)json_integer_value(json_object_get(object, key));
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static const char *real_text(const json_t *object, const char *key, const char *format, char text[32]) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        return "-";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, 32, format, json_number_value(value));
#pragma GCC diagnostic pop
    return text;
}

/* "12 12 11": the version of each fragment that the worker has merged; long lists as a range. */
static void versions_text(const json_t *versions, char *text, size_t bytes) {
    size_t count = json_array_size(versions), used = 0;
    text[0] = 0;
    for (size_t i = 0; i < count && used + 24 < bytes; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%lld", i == 0 ? "" : " ",
                                 (long long)json_integer_value(json_array_get(versions, i)));
}

static void print_worker(const json_t *worker) {
    char loss[32], rate[32], held_out[32], up[UNITS_TEXT_BYTES], down[UNITS_TEXT_BYTES], wait[UNITS_TEXT_BYTES],
        versions[40];
    versions_text(json_object_get(worker, "versions"), versions, sizeof versions);
    const char *name = text_of(worker, "node");
    printf("%-4lld %-16.16s %-7s %8lld %9s %8s %8s %11s %11s %9s  %s\n", integer_of(worker, "slot"),
           name[0] ? name : "-", text_of(worker, "state"), integer_of(worker, "step"),
           real_text(worker, "tokens_per_s", "%.0f", rate), real_text(worker, "loss", "%.3f", loss),
           real_text(worker, "eval_loss", "%.3f", held_out),
           units_format_bytes((uint64_t)integer_of(worker, "wire_up"), up),
           units_format_bytes((uint64_t)integer_of(worker, "wire_down"), down),
           units_format_duration((uint64_t)integer_of(worker, "wait_us"), wait), versions);
    if (text_of(worker, "last_error")[0] != 0)
        printf("     last error: %s\n", text_of(worker, "last_error"));
}

static void print_table(const json_t *status) {
    char uptime[UNITS_TEXT_BYTES];
    const char *phase = json_is_true(json_object_get(status, "finished"))  ? "final evaluation"
                        : json_is_true(json_object_get(status, "started")) ? "training"
                                                                           : "waiting for workers";
    printf("run %s (%.16s): %s, step %lld of %lld committed, %lld commits, up %s\n", text_of(status, "name"),
           text_of(status, "run_id"), phase, integer_of(status, "run_step"), integer_of(status, "steps"),
           integer_of(status, "commits"), units_format_duration((uint64_t)integer_of(status, "uptime_us"), uptime));
    printf("%-4s %-16s %-7s %8s %9s %8s %8s %11s %11s %9s  %s\n", "slot", "worker", "state", "step", "tokens/s", "loss",
           "held-out", "wire up", "wire down", "wait", "versions");
    size_t index;
    const json_t *worker;
    json_array_foreach(json_object_get(status, "workers"), index, worker) print_worker(worker);
}

static int fail(const char *command, const struct error *error) {
    fprintf(stderr, "atoll %s: %s\n", command, error->text);
    return status_exit_code(error->status);
}

/* Redraws until the run ends (the outer is gone) or the reader interrupts. */
static int watch(struct admin *admin, const struct status_values *values) {
    struct error error = {0};
    bool live = isatty(STDOUT_FILENO) && !values->once && !values->json;
    for (bool first = true;; first = false) {
        json_t *status = NULL;
        if (admin_ask(admin, "status", NULL, &status, &error) != STATUS_OK) {
            if (first)
                return fail("status", &error);
            printf("the outer has left: the run is over\n");
            return 0;
        }
        if (values->json) {
            json_dumpf(status, stdout, JSON_INDENT(2));
            putchar('\n');
        } else {
            if (live)
                fputs("\033[H\033[J", stdout);
            print_table(status);
        }
        json_decref(status);
        fflush(stdout);
        if (!live)
            return 0;
        sleep(1);
    }
}

int status_command(int argc, char **argv) {
    struct status_values values = {0};
    struct error error = {0};
    struct admin *admin;
    int exit_code;
    if (!options_or_exit(&status_options, argc, argv, &values, &exit_code))
        return exit_code;
    if (admin_open(values.directory, &admin, &error) != STATUS_OK)
        return fail("status", &error);
    exit_code = watch(admin, &values);
    admin_close(admin);
    return exit_code;
}

/* ---- token ---- */

struct token_values {
    const char *verb;
    const char *directory;
    uint64_t ttl_us;
    int64_t uses;
    bool json;
};
static const struct option_row token_rows[] = {
    OPTION_POSITIONAL(struct token_values, verb, "create", "make a fresh token"),
    OPTION_POSITIONAL(struct token_values, directory, "DIR", "the outer's directory, or that of `atoll train`"),
    OPTION_DURATION(struct token_values, ttl_us, "ttl", 0, "TIME", "how long it may register workers (default 24h)"),
    OPTION_INTEGER(struct token_values, uses, "uses", 0, "N", 1, 1000000,
                   "how many workers it may register (default: workers of the run)"),
    OPTION_FLAG(struct token_values, json, "json", 0, "print it as JSON"),
    OPTION_END,
};
static const struct option_command token_options = {"token", "make a fresh line that starts a worker", token_rows,
                                                    NULL};

int token_command(int argc, char **argv) {
    struct token_values values = {0};
    struct error error = {0};
    struct admin *admin;
    json_t *answer = NULL;
    int exit_code;
    if (!options_or_exit(&token_options, argc, argv, &values, &exit_code))
        return exit_code;
    if (strcmp(values.verb, "create") != 0) {
        error_set(&error, STATUS_USAGE, "'%s': expected `atoll token create DIR`", values.verb);
        return fail("token", &error);
    }
    if (admin_open(values.directory, &admin, &error) != STATUS_OK)
        return fail("token", &error);
    json_t *arguments = json_object();
    if (values.ttl_us > 0)
        json_object_set_new(arguments, "ttl_s", json_integer((json_int_t)((values.ttl_us + 999999) / 1000000)));
    if (values.uses > 0)
        json_object_set_new(arguments, "uses", json_integer(values.uses));
    enum status status = admin_ask(admin, "token-create", arguments, &answer, &error);
    json_decref(arguments);
    admin_close(admin);
    if (status != STATUS_OK)
        return fail("token", &error);
    if (values.json) {
        json_dumpf(answer, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        printf("atoll worker --join %s\n", text_of(answer, "token"));
    }
    json_decref(answer);
    return 0;
}
