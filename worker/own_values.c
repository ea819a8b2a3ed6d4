#include "worker/own_values.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/check.h"
#include "base/files.h"

enum { PATH_BYTES = 4096, FILE_BYTES_MAX = 1 << 20, FILE_SCHEMA = 1 };

static const char file_name[] = "own.json";

/* ---- reading ---- */

static bool are_texts(const json_t *list, size_t count_max, size_t bytes) {
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item) if (!json_is_string(item) || json_string_length(item) >= bytes) return false;
    return json_is_array(list) && json_array_size(list) <= count_max;
}

static bool is_whole(json_t *root) {
    const char *name = NULL;
    json_t *data = NULL, *val = NULL, *set = NULL;
    return json_unpack_ex(root, NULL, JSON_STRICT, "{s:i, s?:s, s:o, s:o, s:o}", "schema", &(int){0}, "name", &name,
                          "data", &data, "val", &val, "set", &set) == 0 &&
           are_texts(data, DATA_GLOBS_MAX, DATA_GLOB_BYTES) && are_texts(val, DATA_GLOBS_MAX, DATA_GLOB_BYTES) &&
           are_texts(set, OPTION_LIST_MAX, FILE_BYTES_MAX);
}

static enum status read_kept(const char *directory, json_t **kept, bool *found, struct error *error) {
    char path[PATH_BYTES];
    uint8_t *text;
    size_t count;
    files_join(path, sizeof path, directory, file_name);
    enum status status = files_read(path, FILE_BYTES_MAX, &text, &count, error);
    *found = status != STATUS_NOT_FOUND;
    if (!*found) {
        *kept = json_pack("{s:i, s:[], s:[], s:[]}", "schema", FILE_SCHEMA, "data", "val", "set");
        CHECK(*kept != NULL);
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        return status;
    json_t *root = json_loadb((const char *)text, count, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    const json_t *schema = json_object_get(root, "schema");
    if (json_is_integer(schema) && json_integer_value(schema) != FILE_SCHEMA)
        status = error_set(error, STATUS_CONFIG,
                           "%s is of another version of atoll (schema %lld, this one knows %d): use that version, or "
                           "remove the file and give this worker its own values again",
                           path, (long long)json_integer_value(schema), FILE_SCHEMA);
    else if (!is_whole(root))
        status =
            error_set(error, STATUS_DATA,
                      "%s is damaged: remove it, and give this worker its own --data, --val and --set again", path);
    if (status == STATUS_OK)
        *kept = root;
    else
        json_decref(root);
    return status;
}

/* ---- the command line over it ---- */

static enum status append(json_t *list, const char *option, const char *text, struct error *error) {
    if (json_array_size(list) >= OPTION_LIST_MAX)
        return error_set(error, STATUS_USAGE, "at most %d of --%s, with those that own.json keeps", OPTION_LIST_MAX,
                         option);
    if (json_array_append_new(list, json_string(text)) != 0)
        return error_set(error, STATUS_USAGE, "--%s %s: this is not UTF-8", option, text);
    return STATUS_OK;
}

static enum status give_paths(json_t *json, const char *option, const struct option_list *given, struct error *error) {
    char here[RUN_PATH_BYTES], path[DATA_GLOB_BYTES];
    json_t *list = json_object_get(json, option);
    enum status status = STATUS_OK;
    if (given->count == 0)
        return STATUS_OK;
    if (given->count > DATA_GLOBS_MAX)
        return error_set(error, STATUS_USAGE, "at most %d of --data and of --val", DATA_GLOBS_MAX);
    if (getcwd(here, sizeof here) == NULL)
        return error_set(error, STATUS_IO, "cannot find the working directory");
    CHECK(json_array_clear(list) == 0);
    for (int i = 0; i < given->count && status == STATUS_OK; i++) {
        if (!run_file_anchor(here, given->items[i], path))
            return error_set(error, STATUS_USAGE, "--%s %.60s...: longer than %d bytes with its directory", option,
                             given->items[i], DATA_GLOB_BYTES - 1);
        status = append(list, option, path, error);
    }
    return status;
}

static size_t key_length(const char *assignment) {
    return strcspn(assignment, "=");
}

static bool is_key(const char *assignment, const char *key) {
    return key_length(assignment) == strlen(key) && strncmp(assignment, key, strlen(key)) == 0;
}

static bool is_same_key(const char *a, const char *b) {
    return key_length(a) == key_length(b) && strncmp(a, b, key_length(a)) == 0;
}

static enum status give_set(json_t *list, const struct option_list *given, struct error *error) {
    enum status status = STATUS_OK;
    for (int i = 0; i < given->count; i++)
        for (size_t k = json_array_size(list); k-- > 0;)
            if (is_same_key(json_string_value(json_array_get(list, k)), given->items[i]))
                json_array_remove(list, k);
    for (int i = 0; i < given->count && status == STATUS_OK; i++)
        status = append(list, "set", given->items[i], error);
    return status;
}

/* "data.train=[...]" with absolute paths; JSON is YAML. */
static enum status anchor_one(json_t *list, size_t at, const char *key, const char globs[][DATA_GLOB_BYTES],
                              int64_t count, struct error *error) {
    json_t *paths = json_array();
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < count && status == STATUS_OK; i++)
        status = append(paths, "set", globs[i], error);
    char *text = json_dumps(paths, JSON_COMPACT);
    CHECK(text != NULL);
    if (status == STATUS_OK)
        CHECK(json_array_set_new(list, at, json_sprintf("%s=%s", key, text)) == 0);
    free(text);
    json_decref(paths);
    return status;
}

/* As the run file's reader will take it, with what is relative from here. */
static enum status anchor_set(json_t *list, struct error *error) {
    static const char text[] = "data: {train: [none]}\n";
    char here[RUN_PATH_BYTES];
    const char *items[OPTION_LIST_MAX];
    size_t count = json_array_size(list);
    struct run_file run;
    if (count == 0)
        return STATUS_OK;
    if (getcwd(here, sizeof here) == NULL)
        return error_set(error, STATUS_IO, "cannot find the working directory");
    for (size_t i = 0; i < count; i++)
        items[i] = json_string_value(json_array_get(list, i));
    enum status status = run_file_parse(text, sizeof text - 1, "--set", here, items, (int)count, &run, error);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        const char *item = json_string_value(json_array_get(list, i));
        if (is_key(item, "data.train"))
            status = anchor_one(list, i, "data.train", run.data.train, run.data.train_count, error);
        else if (is_key(item, "data.val"))
            status = anchor_one(list, i, "data.val", run.data.val, run.data.val_count, error);
    }
    return status;
}

/* ---- what comes of it ---- */

static void fill(const json_t *json, const char *option, struct option_list *out) {
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(json, option), i, item) out->items[out->count++] = json_string_value(item);
}

static void say(struct own_values *own, const char *option, const char *value) {
    size_t used = strlen(own->kept);
    snprintf(own->kept + used, sizeof own->kept - used, "%s--%s %s", used > 0 ? " " : "", option, value);
}

/* Those that were kept come first: `given` ones are behind them, or in their place. */
static void say_kept(struct own_values *own, const struct own_values *given) {
    if (own->name != NULL && given->name == NULL)
        say(own, "name", own->name);
    for (int i = 0; i < own->data.count && given->data.count == 0; i++)
        say(own, "data", own->data.items[i]);
    for (int i = 0; i < own->val.count && given->val.count == 0; i++)
        say(own, "val", own->val.items[i]);
    for (int i = 0; i < own->set.count - given->set.count; i++)
        say(own, "set", own->set.items[i]);
}

enum status own_values_open(const char *directory, const struct own_values *given, struct own_values *own,
                            struct error *error) {
    *own = (struct own_values){0};
    enum status status = read_kept(directory, &own->json, &own->found, error);
    if (status == STATUS_OK && given->name != NULL &&
        json_object_set_new(own->json, "name", json_string(given->name)) != 0)
        status = error_set(error, STATUS_USAGE, "--name %s: this is not UTF-8", given->name);
    if (status == STATUS_OK)
        status = give_paths(own->json, "data", &given->data, error);
    if (status == STATUS_OK)
        status = give_paths(own->json, "val", &given->val, error);
    if (status == STATUS_OK)
        status = give_set(json_object_get(own->json, "set"), &given->set, error);
    if (status == STATUS_OK)
        status = anchor_set(json_object_get(own->json, "set"), error);
    if (status != STATUS_OK)
        return status;
    own->name = json_string_value(json_object_get(own->json, "name"));
    fill(own->json, "data", &own->data);
    fill(own->json, "val", &own->val);
    fill(own->json, "set", &own->set);
    say_kept(own, given);
    return STATUS_OK;
}

/* ---- for this start and the next ---- */

static void copy_paths(const struct option_list *from, char globs[][DATA_GLOB_BYTES], int64_t *count) {
    if (from->count == 0)
        return;
    *count = from->count;
    for (int i = 0; i < from->count; i++)
        snprintf(globs[i], DATA_GLOB_BYTES, "%s", from->items[i]);
}

void own_values_apply(const struct own_values *own, struct run_file *run) {
    copy_paths(&own->data, run->data.train, &run->data.train_count);
    copy_paths(&own->val, run->data.val, &run->data.val_count);
}

enum status own_values_save(const struct own_values *own, const char *directory, struct error *error) {
    char path[PATH_BYTES];
    if (own->name == NULL && own->data.count + own->val.count + own->set.count == 0)
        return STATUS_OK;
    files_join(path, sizeof path, directory, file_name);
    char *text = json_dumps(own->json, JSON_INDENT(1));
    CHECK(text != NULL);
    enum status status = files_write_atomic(path, text, strlen(text), 0644, error);
    free(text);
    return status;
}

void own_values_forget(const char *directory) {
    char path[PATH_BYTES];
    files_join(path, sizeof path, directory, file_name);
    (void)unlink(path);
}

void own_values_rename(struct own_values *own, const char *name) {
    CHECK(json_object_set_new(own->json, "name", json_string(name)) == 0);
    own->name = json_string_value(json_object_get(own->json, "name"));
}

void own_values_close(struct own_values *own) {
    json_decref(own->json);
    *own = (struct own_values){0};
}
