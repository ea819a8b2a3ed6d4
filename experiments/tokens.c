#include "experiments/tokens.h"
#include <stdlib.h>
#include <string.h>
#include "base/options.h"
#include "base/units.h"
#include "experiments/admin.h"

/* ---- what people see ---- */

void tokens_print_created(const json_t *answer, FILE *to) {
    fprintf(to, "atoll worker --join %s\n", admin_text(answer, "token"));
}

static void print_token(const json_t *token, FILE *to) {
    enum { CENTURY_S = 100 * 366 * 24 * 3600ll };
    char left[UNITS_TEXT_BYTES] = "-", used[48];
    long long left_s = admin_integer(token, "left_s");
    if (strcmp(admin_text(token, "state"), "live") == 0)
        units_format_duration((uint64_t)(left_s < CENTURY_S ? left_s : CENTURY_S) * 1000000, left);
    snprintf(used, sizeof used, "%lld of %lld", admin_integer(token, "used"), admin_integer(token, "uses"));
    fprintf(to, "%-16s  %-8s %-12s %s\n", admin_text(token, "id"), admin_text(token, "state"), used, left);
}

void tokens_print_list(const json_t *answer, FILE *to) {
    const json_t *tokens = json_object_get(answer, "tokens"), *token;
    size_t index;
    if (json_array_size(tokens) == 0) {
        fputs("no tokens: atoll token create DIR makes one\n", to);
        return;
    }
    fprintf(to, "%-16s  %-8s %-12s %s\n", "id", "state", "used", "left");
    json_array_foreach(tokens, index, token) print_token(token, to);
}

void tokens_print_revoked(const json_t *answer, FILE *to) {
    fprintf(to, "token %s is revoked; who registered with it stays (%lld of %lld uses)\n", admin_text(answer, "id"),
            admin_integer(answer, "used"), admin_integer(answer, "uses"));
}

void tokens_print_drained(const json_t *answer, FILE *to) {
    bool live = json_is_true(json_object_get(answer, "live"));
    bool revoked = json_is_true(json_object_get(answer, "revoked"));
    fprintf(to, "worker %s (slot %lld) %s; %s\n", admin_text(answer, "worker"), admin_integer(answer, "slot"),
            live ? "finishes what is in flight and leaves" : "is not connected",
            revoked ? "its key is revoked, it may not come back"
            : live  ? "it may come back: atoll worker --dir D"
                    : "--revoke takes its right to come back");
}

/* ---- asking ---- */

static const char directory_doc[] = "the outer's directory, or that of `atoll train`";

/* Takes `arguments`. Returns the exit code. */
static int ask_and_print(const char *command, const char *directory, const char *verb, json_t *arguments, bool json,
                         void (*print)(const json_t *answer, FILE *to)) {
    struct error error = {0};
    json_t *answer = NULL;
    enum status status = admin_ask_once(directory, verb, arguments, &answer, &error);
    json_decref(arguments);
    if (status != STATUS_OK)
        return admin_fail(command, &error);
    if (json)
        admin_print_json(answer);
    else
        print(answer, stdout);
    json_decref(answer);
    return 0;
}

struct create_values {
    const char *directory;
    uint64_t ttl_us;
    int64_t uses;
    bool json;
};
static const struct option_row create_rows[] = {
    OPTION_POSITIONAL(struct create_values, directory, "DIR", directory_doc),
    OPTION_DURATION(struct create_values, ttl_us, "ttl", 0, "TIME", "how long it may register workers (default 24h)"),
    OPTION_INTEGER(struct create_values, uses, "uses", 0, "N", 1, 1000000,
                   "how many workers it may register (default: workers of the run)"),
    OPTION_FLAG(struct create_values, json, "json", 0, "print it as JSON"),
    OPTION_END,
};
static const struct option_command create_options = {"token create", "make a fresh line that starts a worker",
                                                     create_rows, NULL};

static int create(int argc, char **argv) {
    const uint64_t none = UINT64_MAX; /* 0s was given, and is refused by the outer */
    struct create_values values = {.ttl_us = none};
    int exit_code;
    if (!options_or_exit(&create_options, argc, argv, &values, &exit_code))
        return exit_code;
    json_t *arguments = json_object();
    if (values.ttl_us != none)
        json_object_set_new(arguments, "ttl_s",
                            json_integer((json_int_t)(values.ttl_us / 1000000 + (values.ttl_us % 1000000 > 0))));
    if (values.uses > 0)
        json_object_set_new(arguments, "uses", json_integer(values.uses));
    return ask_and_print("token create", values.directory, "token-create", arguments, values.json,
                         tokens_print_created);
}

struct list_values {
    const char *directory;
    bool json;
};
static const struct option_row list_rows[] = {
    OPTION_POSITIONAL(struct list_values, directory, "DIR", directory_doc),
    OPTION_FLAG(struct list_values, json, "json", 0, "print the same as JSON"),
    OPTION_END,
};
static const struct option_command list_options = {"token list", "show the tokens of a run, without their secrets",
                                                   list_rows, NULL};

static int list(int argc, char **argv) {
    struct list_values values = {0};
    int exit_code;
    if (!options_or_exit(&list_options, argc, argv, &values, &exit_code))
        return exit_code;
    return ask_and_print("token list", values.directory, "token-list", json_object(), values.json, tokens_print_list);
}

struct revoke_values {
    const char *id;
    const char *directory;
    bool json;
};
static const struct option_row revoke_rows[] = {
    OPTION_POSITIONAL(struct revoke_values, id, "ID", "the token's id, or its first digits: atoll token list shows it"),
    OPTION_POSITIONAL(struct revoke_values, directory, "DIR", directory_doc),
    OPTION_FLAG(struct revoke_values, json, "json", 0, "print the token's row as JSON"),
    OPTION_END,
};
static const struct option_command revoke_options = {
    "token revoke", "a token registers nobody any more", revoke_rows,
    "Workers that registered with it stay; atoll drain WORKER DIR --revoke shuts one out."};

static int revoke(int argc, char **argv) {
    struct revoke_values values = {0};
    int exit_code;
    if (!options_or_exit(&revoke_options, argc, argv, &values, &exit_code))
        return exit_code;
    return ask_and_print("token revoke", values.directory, "token-revoke", json_pack("{s:s}", "id", values.id),
                         values.json, tokens_print_revoked);
}

/* ---- atoll token ---- */

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} verbs[] = {
    {"create", create, "atoll token create DIR [--ttl TIME] [--uses N]   make a fresh line that starts a worker"},
    {"list", list, "atoll token list DIR                             show the tokens, without their secrets"},
    {"revoke", revoke, "atoll token revoke ID DIR                        it registers nobody any more"},
};

int token_command(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(verb, verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0) {
        puts("usage: atoll token VERB [options]\nthe lines that start workers of a live run\n");
        for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
            printf("  %s\n", verbs[i].summary);
        return 0;
    }
    struct error error;
    if (verb[0] == '-')
        error_set(&error, STATUS_USAGE, "unknown option %.64s (atoll token --help lists the verbs)", verb);
    else
        error_set(&error, STATUS_USAGE,
                  "%s%.64s%sexpected `atoll token create DIR`, `atoll token list DIR` or `atoll token revoke ID DIR`",
                  verb[0] ? "'" : "", verb, verb[0] ? "': " : "");
    return admin_fail("token", &error);
}

/* ---- atoll drain ---- */

struct drain_values {
    const char *worker;
    const char *directory;
    bool revoke;
    bool json;
};
static const struct option_row drain_rows[] = {
    OPTION_POSITIONAL(struct drain_values, worker, "WORKER",
                      "its name or slot, as atoll status shows them, or its key"),
    OPTION_POSITIONAL(struct drain_values, directory, "DIR", directory_doc),
    OPTION_FLAG(
        struct drain_values, revoke, "revoke", 0,
        "its key may not come back; only DIR/keys/workers.json knows: after it was lost or put back, revoke again"),
    OPTION_FLAG(struct drain_values, json, "json", 0, "print the answer as JSON"),
    OPTION_END,
};
static const struct option_command drain_options = {
    "drain", "a worker finishes what is in flight and leaves the run", drain_rows,
    "The others go on. Without --revoke it may come back any time: atoll worker --dir D."};

int drain_command(int argc, char **argv) {
    struct drain_values values = {0};
    int exit_code;
    if (!options_or_exit(&drain_options, argc, argv, &values, &exit_code))
        return exit_code;
    json_t *arguments = json_pack("{s:s, s:b}", "worker", values.worker, "revoke", values.revoke);
    if (arguments == NULL) { /* not UTF-8, so no worker's name */
        struct error error;
        error_set(&error, STATUS_USAGE, "a worker's name is plain ASCII: atoll status shows them");
        return admin_fail("drain", &error);
    }
    return ask_and_print("drain", values.directory, "drain", arguments, values.json, tokens_print_drained);
}
