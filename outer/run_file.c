/* run_file: see run_file.h. Reading is base/settings; what this file adds is what one key says about another. */
#include "outer/run_file.h"

#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/check.h"
#include "base/files.h"
#include "base/settings.h"
#include "base/settings_text.h"
#include "base/settings_value.h"
#include "comms/message.h"
#include "outer/round.h"
#include "outer/run_keys.h"

/* shape_validate's text begins with the key that it is about. */
static void check_model(struct settings *settings, struct run_file *run) {
    if (settings_broken(settings, "model"))
        return;
    if (run->data.tokenizer == TOKENIZER_SHARDS && run->model.vocab == 0)
        settings_report(
            settings, "model.vocab data.tokenizer",
            "must be given with data.tokenizer: shards (how many tokens the tokenizer of the shards knows)");
    if (run->data.tokenizer == TOKENIZER_BYTES && run->model.vocab != 0 && run->model.vocab < 256)
        settings_report(settings, "model.vocab data.tokenizer", "%" PRId64 " is less than the 256 values of a byte",
                        run->model.vocab);
    struct error error;
    if (shape_validate(&run->model, &error) == STATUS_OK)
        return;
    const struct setting_table *table;
    const struct setting_row *row;
    char key[SETTINGS_KEY_BYTES];
    size_t length = strcspn(error.text, ":");
    snprintf(key, sizeof key, "%.*s", (int)(length < sizeof key ? length : sizeof key - 1), error.text);
    CHECK(settings_find(&run_keys_schema, key, &table, &row) && strncmp(error.text + length, ": ", 2) == 0);
    settings_report(settings, key, "%s", error.text + length + 2);
}

static void check_workers(struct settings *settings, struct run_file *run) {
    if (run->data.parts == 0)
        run->data.parts = run->workers;
    if (run->data.parts < run->workers)
        settings_report(settings, "data.parts workers",
                        "%" PRId64 " is less than workers %" PRId64 "; some would have no data", run->data.parts,
                        run->workers);
}

static void check_inner(struct settings *settings, const struct run_file *run) {
    if (run->inner.warmup_steps > run->inner.steps)
        settings_report(settings, "inner.warmup_steps inner.steps",
                        "%" PRId64 " is more than inner.steps %" PRId64
                        "; the learning rate would never reach inner.lr",
                        run->inner.warmup_steps, run->inner.steps);
}

/* As it stands in the file: "3", "50%" or "all". */
static const char *quorum_text(const struct sync_options *sync, char text[SETTING_VALUE_TEXT_BYTES]) {
    const struct setting_table *table;
    const struct setting_row *row;
    CHECK(settings_find(&run_keys_schema, "sync.quorum", &table, &row));
    setting_value_print(row, (const unsigned char *)sync, 0, NULL, text, SETTING_VALUE_TEXT_BYTES);
    return text;
}

/* Fragments of the model by section 3 of the design: the layers', and one more with embedding, norm and head. */
static int64_t fragment_count(const struct run_file *run) {
    int64_t per_fragment = run->sync.fragment_layers;
    if (per_fragment == FRAGMENT_LAYERS_ALL)
        return 1;
    return (run->model.layers + per_fragment - 1) / per_fragment + 1;
}

static void check_fragments(struct settings *settings, struct run_file *run) {
    struct sync_options *sync = &run->sync;
    if (sync->fragment_layers > run->model.layers) {
        if (settings_given(settings, "sync.fragment_layers"))
            settings_report(settings, "sync.fragment_layers model.layers",
                            "%" PRId64 " is more than model.layers %" PRId64 " (all = one fragment with everything)",
                            sync->fragment_layers, run->model.layers);
        else
            sync->fragment_layers = run->model.layers; /* the default works for every model */
    }
    int64_t fragments = fragment_count(run);
    if (fragments > MESSAGE_FRAGMENTS_MAX)
        settings_report(settings, "sync.fragment_layers model.layers",
                        "%" PRId64 " of %" PRId64 " layers makes %" PRId64
                        " fragments, at most %d; take more layers per fragment",
                        sync->fragment_layers, run->model.layers, fragments, MESSAGE_FRAGMENTS_MAX);
    if (fragments > sync->every_steps)
        settings_report(settings, "sync.every_steps sync.fragment_layers model.layers",
                        "%" PRId64 " is less than the %" PRId64 " fragments (fragment_layers %" PRId64 " of %" PRId64
                        " layers, and one for the embedding); two would be sent in one step: raise fragment_layers, or "
                        "take all",
                        sync->every_steps, fragments, sync->fragment_layers, run->model.layers);
}

/* A number as overlap_steps: every merge waits for its commit, and every commit for all workers. */
static void check_strict(struct settings *settings, const struct sync_options *sync) {
    char quorum[SETTING_VALUE_TEXT_BYTES];
    if (sync->overlap_steps == SYNC_OVERLAP_AUTO)
        return;
    if (sync->quorum != SYNC_QUORUM_ALL)
        settings_report(settings, "sync.quorum sync.overlap_steps",
                        "%s does not go with overlap_steps %" PRId64
                        "; a merge at an exact step waits for all workers: set overlap_steps: auto, or quorum: all",
                        quorum_text(sync, quorum), sync->overlap_steps);
    if (sync->stale != SYNC_STALE_AUTO && sync->stale != 0)
        settings_report(settings, "sync.stale sync.overlap_steps",
                        "%" PRId64 " does not go with overlap_steps %" PRId64
                        "; a merge at an exact step leaves no older base to a send: set overlap_steps: auto, or "
                        "stale: auto",
                        sync->stale, sync->overlap_steps);
    if (sync->drift != SYNC_DRIFT_AUTO)
        settings_report(settings, "sync.drift sync.overlap_steps",
                        "%" PRId64 " does not go with overlap_steps %" PRId64
                        "; training waits at that step already: set overlap_steps: auto, or drift: auto",
                        sync->drift, sync->overlap_steps);
}

static void check_sync(struct settings *settings, struct run_file *run) {
    struct sync_options *sync = &run->sync;
    if (sync->every_steps > run->inner.steps)
        settings_report(settings, "sync.every_steps inner.steps",
                        "%" PRId64 " is more than inner.steps %" PRId64
                        "; fragments would not be sent before the run ends",
                        sync->every_steps, run->inner.steps);
    check_fragments(settings, run);
    if (sync->overlap_steps >= sync->every_steps)
        settings_report(settings, "sync.overlap_steps sync.every_steps",
                        "%" PRId64 " is not less than every_steps %" PRId64
                        "; a fragment must be merged before it is sent again",
                        sync->overlap_steps, sync->every_steps);
    check_strict(settings, sync);
    if (sync->quorum > run->workers)
        settings_report(settings, "sync.quorum workers", "%" PRId64 " is more than workers %" PRId64, sync->quorum,
                        run->workers);
    if (sync->min_workers > run->workers)
        settings_report(settings, "sync.min_workers workers",
                        "%" PRId64 " is more than workers %" PRId64 "; no round would ever open", sync->min_workers,
                        run->workers);
    if (run->inner.pace == INNER_PACE_TIME && sync->quorum == SYNC_QUORUM_ALL)
        settings_report(settings, "inner.pace sync.quorum sync.overlap_steps",
                        "time does not go with quorum all, whose rounds count the same steps of every worker: set "
                        "sync.quorum (such as 50%%) and sync.overlap_steps: auto, or pace: steps");
}

/* `sync: off` beats the section's keys, but not those that somebody typed on the command line. */
static void check_sync_off(struct settings *settings, struct run_file *run) {
    for (int r = 0; r < run_keys_sync->row_count; r++) {
        char key[SETTINGS_KEY_BYTES];
        snprintf(key, sizeof key, "sync.%s", run_keys_sync->rows[r].key);
        if (settings_overridden(settings, key))
            settings_report(settings, key, "has no effect: sync is off (--set sync=on turns it on)");
    }
    if (run->workers > 1)
        settings_report(settings, "sync workers",
                        "off with workers %" PRId64 "; they would train apart: set workers: 1", run->workers);
    if (run->inner.pace == INNER_PACE_TIME)
        settings_report(settings, "inner.pace sync",
                        "time does not go with sync: off, where there are no rounds: set pace: steps");
    settings_defaults(run_keys_sync, run);
    run->sync.off = true;
}

/* The directory taken literally, the pattern as one: glob(3) honours backslashes. */
static void absolute_pattern(const char *directory, const char *pattern, char *out, size_t out_bytes) {
    if (pattern[0] == '/') {
        snprintf(out, out_bytes, "%s", pattern);
        return;
    }
    size_t used = 0;
    for (const char *c = directory; *c; c++) {
        if (strchr("*?[\\", *c))
            out[used++] = '\\';
        out[used++] = *c;
    }
    CHECK(used + strlen(pattern) + 2 <= out_bytes);
    snprintf(out + used, out_bytes - used, "/%s", pattern);
}

bool run_file_anchor(const char *directory, const char *pattern, char out[DATA_GLOB_BYTES]) {
    char whole[2 * RUN_PATH_BYTES + DATA_GLOB_BYTES];
    CHECK(strlen(directory) < RUN_PATH_BYTES);
    if (strlen(pattern) >= DATA_GLOB_BYTES)
        return false;
    absolute_pattern(directory, pattern, whole, sizeof whole);
    if (strlen(whole) >= DATA_GLOB_BYTES)
        return false;
    memcpy(out, whole, strlen(whole) + 1);
    return true;
}

/* What is wrong with the files of one key, joined: a key is reported once. */
struct complaints {
    char text[2048];
    size_t used;
};

static void complain(struct complaints *complaints, const char *format, ...) PRINTF_LIKE(2, 3);
static void complain(struct complaints *complaints, const char *format, ...) {
    va_list arguments;
    if (complaints->used + 3 > sizeof complaints->text)
        return;
    if (complaints->used > 0)
        complaints->used += (size_t)snprintf(complaints->text + complaints->used, 3, "; ");
    va_start(arguments, format);
    int length =
        vsnprintf(complaints->text + complaints->used, sizeof complaints->text - complaints->used, format, arguments);
    va_end(arguments);
    size_t most = sizeof complaints->text - 1 - complaints->used;
    complaints->used += (size_t)length < most ? (size_t)length : most;
}

static void check_file(struct complaints *complaints, const char *path) {
    struct stat facts;
    if (stat(path, &facts) != 0)
        complain(complaints, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(facts.st_mode))
        complain(complaints, "%s is not a file (name the files in it: %s/*)", path, path);
    else if (facts.st_size == 0)
        complain(complaints, "%s is empty", path);
    else if (access(path, R_OK) != 0)
        complain(complaints, "%s: %s", path, strerror(errno));
}

/* A directory that is not there matches nothing; one that may not be read is an error. */
static int glob_error(const char *path, int reason) {
    (void)path;
    errno = reason;
    return reason != ENOENT && reason != ENOTDIR;
}

static void check_globs(struct settings *settings, const struct run_file *run, const char *key,
                        const char globs[][DATA_GLOB_BYTES], int64_t count) {
    struct complaints complaints = {.used = 0};
    for (int64_t i = 0; i < count; i++) {
        char pattern[2 * RUN_PATH_BYTES + DATA_GLOB_BYTES];
        absolute_pattern(run->base_directory, globs[i], pattern, sizeof pattern);
        glob_t found;
        int result = glob(pattern, 0, glob_error, &found);
        if (result == GLOB_NOMATCH)
            complain(&complaints,
                     globs[i][0] == '/' ? "no file matches '%s' (put the text there, or name another)"
                                        : "no file matches '%s' in %s (put the text there, or name another)",
                     globs[i], run->base_directory);
        else if (result != 0)
            complain(&complaints, "cannot look for '%s' in %s: %s", globs[i], run->base_directory, strerror(errno));
        else
            for (size_t f = 0; f < found.gl_pathc; f++)
                check_file(&complaints, found.gl_pathv[f]);
        globfree(&found);
    }
    if (complaints.used > 0)
        settings_report(settings, key, "%s", complaints.text);
}

/* Paths that somebody typed on the command line are of the directory where it was typed. */
static void anchor_overridden(struct settings *settings, const char *key, char globs[][DATA_GLOB_BYTES],
                              int64_t count) {
    char here[RUN_PATH_BYTES], pattern[2 * RUN_PATH_BYTES + DATA_GLOB_BYTES];
    if (!settings_overridden(settings, key) || !getcwd(here, sizeof here))
        return;
    for (int64_t i = 0; i < count; i++) {
        absolute_pattern(here, globs[i], pattern, sizeof pattern);
        if (strlen(pattern) >= DATA_GLOB_BYTES)
            settings_report(settings, key, "longer than %d bytes with its directory: %s", DATA_GLOB_BYTES - 1, pattern);
        else
            memcpy(globs[i], pattern, strlen(pattern) + 1);
    }
}

static void check_data(struct settings *settings, const struct run_file *run, enum run_file_data data) {
    if (data == RUN_FILE_DATA_IGNORED || settings_broken(settings, "data"))
        return;
    if (data == RUN_FILE_DATA_NEEDED && run->data.train_count == 0)
        settings_report(settings, "data.train", "no files are named (such as data: {train: [text/*.txt]})");
    check_globs(settings, run, "data.train", run->data.train, run->data.train_count);
    check_globs(settings, run, "data.val", run->data.val, run->data.val_count);
}

static void check_all(struct settings *settings, struct run_file *run, enum run_file_data data) {
    check_model(settings, run);
    check_workers(settings, run);
    check_inner(settings, run);
    if (run->sync.off)
        check_sync_off(settings, run);
    else
        check_sync(settings, run);
    anchor_overridden(settings, "data.train", run->data.train, run->data.train_count);
    anchor_overridden(settings, "data.val", run->data.val, run->data.val_count);
    check_data(settings, run, data);
}

/* False after a complaint. */
static bool check_overrides_are_of_node(struct settings *settings) {
    static const char text[] = "belongs to the whole run, so only the outer may set it; a worker may set the keys that "
                               "atoll check --print-defaults marks with 'this node only'";
    bool fine = true;
    for (int t = 0; t < run_keys_schema.table_count; t++) {
        const struct setting_table *table = &run_keys_schema.tables[t];
        for (int r = 0; r < table->row_count; r++) {
            char key[SETTINGS_KEY_BYTES];
            snprintf(key, sizeof key, "%s%s%s", table->section ? table->section : "", table->section ? "." : "",
                     table->rows[r].key);
            if (table->rows[r].scope == SETTING_SCOPE_NODE || !settings_overridden(settings, key))
                continue;
            settings_report(settings, key, "%s", text);
            fine = false;
        }
        if (table->has_switch && settings_overridden(settings, table->section)) {
            settings_report(settings, table->section, "%s", text);
            fine = false;
        }
    }
    return fine;
}

static enum status parse(const char *text, size_t bytes, const char *label, const char *base_directory,
                         const char *const *overrides, int override_count, bool node_overrides_only,
                         enum run_file_data data, struct run_file *run, struct error *error) {
    if (strlen(base_directory) >= RUN_PATH_BYTES)
        return error_set(error, STATUS_CONFIG, "%.60s...: a directory of more than %d bytes", base_directory,
                         RUN_PATH_BYTES - 1);
    struct run_file *read = calloc(1, sizeof *read);
    if (!read)
        return error_set(error, STATUS_NO_MEMORY, "no memory to read %s", label);
    struct settings *settings = settings_begin(&run_keys_schema, read, label);
    settings_read(settings, text, bytes);
    for (int i = 0; i < override_count; i++)
        settings_override(settings, overrides[i]);
    snprintf(read->base_directory, sizeof read->base_directory, "%s", base_directory);
    if (!node_overrides_only || check_overrides_are_of_node(settings))
        check_all(settings, read, data);
    enum status status = settings_end(settings, error);
    if (status == STATUS_OK)
        *run = *read;
    free(read);
    return status;
}

enum status run_file_parse(const char *text, size_t bytes, const char *label, const char *base_directory,
                           const char *const *overrides, int override_count, struct run_file *run,
                           struct error *error) {
    return parse(text, bytes, label, base_directory, overrides, override_count, true, RUN_FILE_DATA_IGNORED, run,
                 error);
}

/* The absolute directory that holds `path`. */
static enum status directory_of(const char *path, char directory[PATH_MAX], struct error *error) {
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(parent, sizeof parent, ".");
    else if ((size_t)(slash - path) >= sizeof parent)
        return error_set(error, STATUS_CONFIG, "the run file's path is longer than %d bytes", PATH_MAX - 1);
    else
        snprintf(parent, sizeof parent, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    if (!realpath(parent, directory))
        return error_set(error, STATUS_CONFIG, "cannot find the directory of the run file %s: %s", path,
                         strerror(errno));
    return STATUS_OK;
}

enum status run_file_load(const char *path, const char *const *overrides, int override_count, enum run_file_data data,
                          struct run_file *run, struct error *error) {
    char directory[PATH_MAX];
    uint8_t *text;
    size_t bytes;
    enum status status = files_read(path, SETTINGS_FILE_BYTES_MAX, &text, &bytes, error);
    if (status != STATUS_OK) {
        if (!error || status == STATUS_NO_MEMORY)
            return status;
        return error_set(error, STATUS_CONFIG, "%s (the run file)", error->text);
    }
    status = directory_of(path, directory, error);
    if (status == STATUS_OK)
        status = parse((const char *)text, bytes, path, directory, overrides, override_count, false, data, run, error);
    free(text);
    return status;
}

/* Texts */

char *run_file_text(const struct run_file *run, bool identity_only, bool absolute_paths) {
    return settings_text(&run_keys_schema, run, identity_only, absolute_paths ? run->base_directory : NULL);
}

void run_file_keys_hash(const struct run_file *run, uint8_t hash[RUN_KEYS_HASH_BYTES]) {
    char *text = run_file_text(run, true, false);
    CHECK(crypto_generichash(hash, RUN_KEYS_HASH_BYTES, (const unsigned char *)text, strlen(text), NULL, 0) == 0);
    free(text);
}

char *run_file_defaults_text(void) {
    return settings_defaults_text(&run_keys_schema);
}

/* The schedule in numbers */

enum status run_sync_fragments(const struct run_file *run, const struct tensor_table *table,
                               struct fragments *fragments, struct error *error) {
    return fragments_create(table, run->model.layers, run->sync.fragment_layers,
                            (enum fragment_pattern)run->sync.pattern, (enum fragment_balance)run->sync.balance,
                            fragments, error);
}

uint32_t run_sync_quorum(const struct run_file *run, uint32_t live) {
    struct round_options options = {.quorum = (int32_t)run->sync.quorum};
    if (run->sync.quorum == SYNC_QUORUM_ALL)
        return 0;
    uint32_t need = round_quorum(&options, live);
    return need > 0 ? need : 1;
}

uint64_t run_sync_stale(const struct run_file *run) {
    if (run->sync.stale != SYNC_STALE_AUTO)
        return (uint64_t)run->sync.stale;
    if (run->sync.quorum != SYNC_QUORUM_ALL)
        return ROUND_STALE_QUORUM;
    return run->sync.overlap_steps == SYNC_OVERLAP_AUTO ? 2 : 0;
}

void run_sync_say_expired(const struct run_file *run, uint32_t fragment, uint32_t times, char *text, size_t bytes) {
    snprintf(text, bytes,
             "contributions of fragment %u expired %u times in a row: uploads take longer than sync.stale rounds "
             "(%llu): raise sync.every_steps or sync.stale, or use a smaller codec",
             fragment, times, (unsigned long long)run_sync_stale(run));
}

uint64_t run_sync_drift(const struct run_file *run) {
    if (run->sync.overlap_steps != SYNC_OVERLAP_AUTO)
        return (uint64_t)run->sync.overlap_steps;
    return (uint64_t)(run->sync.drift == SYNC_DRIFT_AUTO ? run->sync.every_steps - 1 : run->sync.drift);
}
