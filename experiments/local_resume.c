#include "experiments/local_resume.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/check.h"
#include "base/files.h"
#include "base/settings.h"
#include "comms/token.h"
#include "experiments/run_data.h"

enum { VALUE_BYTES = 160 };

/* ---- identity ---- */

struct line {
    char key[SETTINGS_KEY_BYTES]; /* with its section */
    char value[VALUE_BYTES];      /* of a section without a value: "on" */
};

/* The next line of an effective run file, such as "  every_steps: 10". `section` is carried from line to line. */
static const char *next_line(const char *text, char section[SETTINGS_KEY_BYTES], struct line *line) {
    size_t length = strcspn(text, "\n"), indent = strspn(text, " "), name = strcspn(text, ":\n");
    const char *value = text + name + (text[name] == ':');
    value += strspn(value, " ");
    if (indent == 0)
        snprintf(section, SETTINGS_KEY_BYTES, "%.*s", (int)name, text);
    if (indent == 0)
        snprintf(line->key, sizeof line->key, "%.100s", section);
    else
        snprintf(line->key, sizeof line->key, "%.60s.%.*s", section, (int)(name - indent), text + indent);
    bool bare = value >= text + length;
    snprintf(line->value, sizeof line->value, "%.*s", bare ? 2 : (int)(text + length - value), bare ? "on" : value);
    return text[length] == '\n' ? text + length + 1 : text + length;
}

static void name_difference(const struct run_file *was, const struct run_file *run, char *text, size_t text_bytes) {
    char section[SETTINGS_KEY_BYTES] = "", section_was[SETTINGS_KEY_BYTES] = "";
    char *all_was = run_file_text(was, true, false), *all = run_file_text(run, true, false);
    struct line line, line_was;
    snprintf(text, text_bytes, "a key of the run would change");
    for (const char *a = all_was, *b = all; *a != 0 && *b != 0;) {
        a = next_line(a, section_was, &line_was);
        b = next_line(b, section, &line);
        if (strcmp(line.key, line_was.key) != 0)
            break;
        if (strcmp(line.value, line_was.value) == 0)
            continue;
        snprintf(text, text_bytes, "%s is %s in this run and cannot become %s", line.key, line_was.value, line.value);
        break;
    }
    free(all_was);
    free(all);
}

static enum status refuse(const char *directory, const char *difference, struct error *error) {
    return error_set(
        error, STATUS_CONFIG,
        "%s: %s: a run is continued with other inner.steps, eval and keys of this machine only; start a new "
        "run for the rest",
        directory, difference);
}

static enum status check_identity(const char *directory, const struct run_file *was, const struct run_file *run,
                                  struct error *error) {
    char difference[2 * VALUE_BYTES + SETTINGS_KEY_BYTES + 64];
    uint8_t hash[RUN_KEYS_HASH_BYTES], hash_was[RUN_KEYS_HASH_BYTES];
    run_file_keys_hash(was, hash_was);
    run_file_keys_hash(run, hash);
    if (memcmp(hash, hash_was, sizeof hash) == 0)
        return STATUS_OK;
    name_difference(was, run, difference, sizeof difference);
    return refuse(directory, difference, error);
}

/* The run as it was: what the outer of the earlier start read (D/run.yaml may have been edited since), or D/run.yaml itself. */
static enum status load_was(const char *directory, struct run_file *was, struct error *error) {
    char path[RUN_PATH_BYTES];
    files_join(path, sizeof path, directory, "outer/run.yaml");
    if (!files_exists(path))
        files_join(path, sizeof path, directory, "run.yaml");
    return run_file_load(path, NULL, 0, RUN_FILE_DATA_IGNORED, was, error);
}

/* ---- the end ---- */

static bool ended_whole(const struct run_node *node) {
    return node->ended && (strncmp(node->end_reason, "trained to the end", 18) == 0 ||
                           strncmp(node->end_reason, "the run has ended", 17) == 0);
}

/* The outer (plain: the worker) says so; and the outer's state is there: without it the run cannot go on, and the outer says why. */
bool local_resume_is_complete(const char *directory, const struct run_file *run) {
    char model[RUN_PATH_BYTES], state[RUN_PATH_BYTES];
    struct error error;
    bool complete = false;
    files_join(model, sizeof model, directory,
               run->sync.off ? "worker-0/model/model.safetensors" : "outer/model/model.safetensors");
    files_join(state, sizeof state, directory, "outer/outer.json");
    struct run_set *set = calloc(1, sizeof *set);
    CHECK(set != NULL);
    if (files_exists(model) && (run->sync.off || files_exists(state)) &&
        run_set_add(set, directory, &error) == STATUS_OK)
        for (int i = 0; i < set->runs[0].node_count; i++) {
            const struct run_node *node = set->runs[0].nodes[i];
            if (node->is_outer || run->sync.off)
                complete = ended_whole(node) && run->inner.steps <= node->planned_steps;
        }
    run_set_free(set);
    free(set);
    return complete;
}

/* ---- all ---- */

static enum status load_both(const char *directory, const char *const *overrides, int count, int64_t workers,
                             struct run_file *was, struct run_file *run, struct error *error) {
    char path[RUN_PATH_BYTES], difference[96];
    files_join(path, sizeof path, directory, "run.yaml");
    enum status status = load_was(directory, was, error);
    if (status == STATUS_OK && workers > 0 && workers != was->workers) {
        snprintf(difference, sizeof difference, "workers is %lld in this run and cannot become %lld",
                 (long long)was->workers, (long long)workers);
        return refuse(directory, difference, error);
    }
    if (status == STATUS_OK)
        status = run_file_load(path, overrides, count, RUN_FILE_DATA_NEEDED, run, error);
    return status == STATUS_OK ? check_identity(directory, was, run, error) : status;
}

enum status local_resume_load(const char *directory, const char *const *overrides, int count, int64_t workers,
                              struct run_file *run, bool *complete, struct error *error) {
    char path[RUN_PATH_BYTES];
    *complete = false;
    files_join(path, sizeof path, directory, "run.yaml");
    if (!files_exists(path))
        return error_set(error, STATUS_NOT_FOUND,
                         "%s: no run.yaml in it; --resume takes the directory of an earlier `atoll train` (its --dir)",
                         directory);
    struct run_file *was = malloc(sizeof *was);
    CHECK(was != NULL);
    enum status status = load_both(directory, overrides, count, workers, was, run, error);
    free(was);
    if (status != STATUS_OK)
        return status;
    files_join(path, sizeof path, directory, run->sync.off ? "worker-0" : "outer");
    if (!files_exists(path))
        return error_set(error, STATUS_NOT_FOUND,
                         "%s is missing: %s is no directory of `atoll train` in which a run began (an outer's own "
                         "directory goes on with `atoll outer %s/run.yaml --dir %s`)",
                         path, directory, directory, directory);
    *complete = local_resume_is_complete(directory, run);
    return STATUS_OK;
}

static bool is_locked(const char *path) {
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return false;
    bool locked = flock(file, LOCK_EX | LOCK_NB) != 0;
    close(file);
    return locked;
}

const char *local_resume_busy(const char *directory, const struct run_file *run) {
    static char name[32];
    char path[RUN_PATH_BYTES];
    for (int64_t k = run->sync.off ? 0 : -1; k < run->workers; k++) {
        if (k < 0)
            snprintf(name, sizeof name, "outer");
        else
            snprintf(name, sizeof name, "worker-%lld", (long long)k);
        snprintf(path, sizeof path, "%.400s/%s/lock", directory, name);
        if (is_locked(path))
            return name;
    }
    return NULL;
}

static bool is_port_taken(uint16_t port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int reuse = 1; /* as the outer does: what an earlier one closed is free */
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0)
        return false;
    bool taken = setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse) == 0 &&
                 bind(listener, (const struct sockaddr *)&address, sizeof address) != 0 && errno == EADDRINUSE;
    close(listener);
    return taken;
}

bool local_resume_ports_taken(const char *path) {
    struct token token;
    return files_exists(path) && token_read(path, &token, NULL) == STATUS_OK &&
           (is_port_taken(token.addresses[0].control_port) || is_port_taken(token.addresses[0].bulk_port));
}
