#include "experiments/status.h"
#include <stdlib.h>
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
static const struct option_command status_options = {"status", "watch a run", status_rows,
                                                     "lag: how many versions a worker is behind the run's newest, in "
                                                     "the fragment where it is most. seen: since its last\n"
                                                     "sign of life. last error: of the worker, as the outer knows it."};

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

static const char *duration_text(const json_t *object, const char *key, char text[UNITS_TEXT_BYTES]) {
    const json_t *value = json_object_get(object, key);
    bool known = json_is_integer(value) && json_integer_value(value) >= 0; /* -1: never */
    return known ? units_format_duration((uint64_t)json_integer_value(value), text) : "-";
}

/* What it does while it is connected, else what became of it. */
static const char *state_text(const json_t *worker) {
    const char *phase = admin_text(worker, "phase");
    return phase[0] != '\0' && json_is_true(json_object_get(worker, "connected")) ? phase : admin_text(worker, "state");
}

static void print_worker(const json_t *worker, FILE *to) {
    char lag[32], loss[32], rate[32], held_out[32], up[UNITS_TEXT_BYTES], down[UNITS_TEXT_BYTES],
        wait[UNITS_TEXT_BYTES], seen[UNITS_TEXT_BYTES];
    const char *name = admin_text(worker, "node");
    fprintf(to, "%-4lld %-16.16s %-11s %4s %8lld %9s %8s %8s %11s %11s %9s %9s  %s\n", admin_integer(worker, "slot"),
            name[0] ? name : "-", state_text(worker), real_text(worker, "lag", "%.0f", lag),
            admin_integer(worker, "step"), real_text(worker, "tokens_per_s", "%.0f", rate),
            real_text(worker, "loss", "%.3f", loss), real_text(worker, "eval_loss", "%.3f", held_out),
            units_format_bytes((uint64_t)admin_integer(worker, "wire_up"), up),
            units_format_bytes((uint64_t)admin_integer(worker, "wire_down"), down),
            units_format_duration((uint64_t)admin_integer(worker, "wait_us"), wait),
            duration_text(worker, "last_seen_us", seen), admin_text(worker, "last_error"));
}

void status_print(const json_t *status, FILE *to) {
    char uptime[UNITS_TEXT_BYTES];
    bool recovers = json_is_false(json_object_get(status, "leading"));
    const char *phase = recovers                                            ? "recovering"
                        : json_is_true(json_object_get(status, "finished")) ? "final evaluation"
                        : json_is_true(json_object_get(status, "started"))  ? "training"
                                                                            : "waiting for workers";
    fprintf(to, "run %s (%.16s): %s, step %lld of %lld committed, %lld commits, up %s", admin_text(status, "name"),
            admin_text(status, "run_id"), phase, admin_integer(status, "run_step"), admin_integer(status, "steps"),
            admin_integer(status, "commits"),
            units_format_duration((uint64_t)admin_integer(status, "uptime_us"), uptime));
    if (json_object_get(status, "epoch") != NULL)
        fprintf(to, ", epoch %lld", admin_integer(status, "epoch"));
    if (admin_integer(status, "refused_updates") > 0)
        fprintf(to, ", %lld updates refused", admin_integer(status, "refused_updates"));
    fputc('\n', to);
    if (admin_text(status, "recovering")[0] != '\0')
        fprintf(to, "recovering: %s\n", admin_text(status, "recovering"));
    fprintf(to, "%-4s %-16s %-11s %4s %8s %9s %8s %8s %11s %11s %9s %9s  %s\n", "slot", "worker", "state", "lag",
            "step", "tokens/s", "loss", "held-out", "wire up", "wire down", "wait", "seen", "last error");
    size_t index;
    const json_t *worker;
    json_array_foreach(json_object_get(status, "workers"), index, worker) print_worker(worker, to);
}

/* Redraws until the run ends (the outer is gone) or the reader interrupts. */
static int watch(struct admin *admin, const struct status_values *values) {
    struct error error = {0};
    bool live = isatty(STDOUT_FILENO) && !values->once && !values->json;
    for (bool first = true;; first = false) {
        json_t *status = NULL;
        if (admin_ask(admin, "status", NULL, &status, &error) != STATUS_OK) {
            if (first)
                return admin_fail("status", &error);
            printf("the outer has left: the run is over\n");
            return 0;
        }
        if (values->json) {
            admin_print_json(status);
        } else {
            if (live)
                fputs("\033[H\033[J", stdout);
            status_print(status, stdout);
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
        return admin_fail("status", &error);
    exit_code = watch(admin, &values);
    admin_close(admin);
    return exit_code;
}
