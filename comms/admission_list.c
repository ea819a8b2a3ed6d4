#include "comms/admission_list.h"

#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/files.h"

enum { FILE_BYTES_MAX = 1 << 20, FILE_SCHEMA = 2 };

/* ---- rows ---- */

bool admission_list_same_key(const uint8_t a[KEYS_CURVE_BYTES], const uint8_t b[KEYS_CURVE_BYTES]) {
    return sodium_memcmp(a, b, KEYS_CURVE_BYTES) == 0;
}

bool admission_list_name_is_good(const char *name) {
    size_t count = strnlen(name, MESSAGE_NAME_BYTES);
    for (size_t i = 0; i < count; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    return count > 0 && count < MESSAGE_NAME_BYTES;
}

struct worker_row *admission_list_by_key(struct admission_list *list, const uint8_t key[KEYS_CURVE_BYTES]) {
    for (uint32_t i = 0; i < list->worker_count; i++)
        if (admission_list_same_key(list->workers[i].key, key))
            return &list->workers[i];
    return NULL;
}

struct worker_row *admission_list_by_slot(struct admission_list *list, uint32_t slot) {
    for (uint32_t i = 0; i < list->worker_count; i++)
        if (!list->workers[i].revoked && list->workers[i].slot == slot)
            return &list->workers[i];
    return NULL;
}

struct worker_row *admission_list_by_name(struct admission_list *list, const char *name) {
    for (uint32_t i = 0; i < list->worker_count; i++)
        if (!list->workers[i].revoked && strcmp(list->workers[i].name, name) == 0)
            return &list->workers[i];
    return NULL;
}

struct token_row *admission_list_token(struct admission_list *list, const uint8_t enrolment_key[KEYS_CURVE_BYTES]) {
    for (uint32_t i = 0; i < list->token_count; i++)
        if (admission_list_same_key(list->tokens[i].key, enrolment_key))
            return &list->tokens[i];
    return NULL;
}

uint32_t admission_list_uses(const struct admission_list *list, const struct token_row *token) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < list->worker_count; i++)
        used += memcmp(list->workers[i].token_id, token->id, sizeof token->id) == 0;
    return used;
}

/* ---- reading: each returns what is wrong with the row, or NULL ---- */

static bool own_key(const struct admission_list *list, const uint8_t key[KEYS_CURVE_BYTES]) {
    return admission_list_same_key(key, list->outer_key) || admission_list_same_key(key, list->recovery_key);
}

static const char *load_worker(struct admission_list *list, json_t *json) {
    json_int_t slot = 0;
    const char *name = NULL, *key = NULL, *token = NULL;
    int revoked = 0;
    if (json_unpack_ex(json, NULL, JSON_STRICT, "{s:I, s:s, s:s, s:s, s:b}", "slot", &slot, "name", &name, "key", &key,
                       "token", &token, "revoked", &revoked) != 0)
        return "a worker has slot, name, key, token, revoked and nothing else";
    struct worker_row row = {.revoked = revoked != 0};
    if (slot < 0 || slot >= MESSAGE_WORKERS_MAX ||
        (!row.revoked && admission_list_by_slot(list, (uint32_t)slot) != NULL))
        return "a slot is out of range or taken twice";
    row.slot = (uint32_t)slot;
    if (!admission_list_name_is_good(name) || (!row.revoked && admission_list_by_name(list, name) != NULL))
        return "a name is empty, too long, not plain ASCII or taken twice";
    snprintf(row.name, sizeof row.name, "%s", name);
    if (!bytes_from_hex(key, row.key, sizeof row.key) || admission_list_by_key(list, row.key) != NULL ||
        own_key(list, row.key))
        return "a key is not 64 hex digits, listed twice, or the outer's own";
    if (!bytes_from_hex(token, row.token_id, sizeof row.token_id))
        return "a token is not 16 hex digits";
    list->workers[list->worker_count++] = row;
    return NULL;
}

static const char *load_token(struct admission_list *list, json_t *json) {
    json_int_t expires_s = 0, uses = 0;
    const char *id = NULL, *key = NULL;
    int revoked = 0;
    if (json_unpack_ex(json, NULL, JSON_STRICT, "{s:s, s:s, s:I, s:I, s:b}", "id", &id, "key", &key, "expires_s",
                       &expires_s, "uses", &uses, "revoked", &revoked) != 0)
        return "a token has id, key, expires_s, uses, revoked and nothing else";
    struct token_row row = {.expires_s = (uint64_t)expires_s, .uses = (uint32_t)uses, .revoked = revoked != 0};
    if (expires_s < 0 || uses < 0 || uses > UINT32_MAX)
        return "an expiry or a number of uses is out of range";
    if (!bytes_from_hex(id, row.id, sizeof row.id))
        return "an id is not 16 hex digits";
    if (!bytes_from_hex(key, row.key, sizeof row.key) || admission_list_token(list, row.key) != NULL ||
        admission_list_by_key(list, row.key) != NULL || own_key(list, row.key))
        return "a key is not 64 hex digits, listed twice, or the outer's own";
    list->tokens[list->token_count++] = row;
    return NULL;
}

static enum status load_rows(struct admission_list *list, json_t *root, struct error *error) {
    json_t *workers = NULL, *tokens = NULL;
    json_int_t schema = json_integer_value(json_object_get(root, "schema"));
    if (schema >= 1 && schema != FILE_SCHEMA)
        return error_set(error, STATUS_CONFIG,
                         "%s has schema %lld, this atoll knows %d: use the version of atoll that wrote it, or start "
                         "another run",
                         list->path, (long long)schema, FILE_SCHEMA);
    const char *wrong = NULL;
    char what[32] = "";
    if (json_unpack_ex(root, NULL, JSON_STRICT, "{s:i, s:o, s:o}", "schema", &(int){0}, "workers", &workers, "tokens",
                       &tokens) != 0 ||
        schema != FILE_SCHEMA || !json_is_array(workers) || json_array_size(workers) > ADMISSION_ROWS_MAX ||
        !json_is_array(tokens) || json_array_size(tokens) > ADMISSION_TOKENS_MAX)
        wrong = "expected {\"schema\": 2, \"workers\": [...], \"tokens\": [...]}";
    for (size_t i = 0; !wrong && i < json_array_size(workers); i++) {
        snprintf(what, sizeof what, "worker %zu: ", i);
        wrong = load_worker(list, json_array_get(workers, i));
    }
    for (size_t i = 0; !wrong && i < json_array_size(tokens); i++) {
        snprintf(what, sizeof what, "token %zu: ", i);
        wrong = load_token(list, json_array_get(tokens, i));
    }
    if (wrong)
        return error_set(error, STATUS_DATA,
                         "%s: %s%s: restore the file from a copy; without it, remove it: the workers come back "
                         "by their certificates, tokens and revocations are lost",
                         list->path, what, wrong);
    return STATUS_OK;
}

enum status admission_list_load(struct admission_list *list, struct error *error) {
    uint8_t *bytes = NULL;
    size_t count = 0;
    struct error reason;
    enum status status = files_read(list->path, FILE_BYTES_MAX, &bytes, &count, &reason);
    if (status == STATUS_NOT_FOUND)
        return STATUS_OK;
    if (status != STATUS_OK)
        return error_set(error, status, "%s", reason.text);
    json_error_t json_error;
    json_t *root = json_loadb((const char *)bytes, count, JSON_REJECT_DUPLICATES, &json_error);
    free(bytes);
    if (!root)
        return error_set(error, STATUS_DATA,
                         "%s:%d:%d: %s: restore the file from a copy; without it, remove it: the workers come back by "
                         "their certificates, tokens and revocations are lost",
                         list->path, json_error.line, json_error.column, json_error.text);
    status = load_rows(list, root, error);
    json_decref(root);
    return status;
}

/* ---- writing ---- */

static json_t *worker_json(const struct worker_row *row) {
    char key[2 * KEYS_CURVE_BYTES + 1], token[2 * MESSAGE_TOKEN_ID_BYTES + 1];
    bytes_to_hex(row->key, sizeof row->key, key);
    bytes_to_hex(row->token_id, sizeof row->token_id, token);
    return json_pack("{s:i, s:s, s:s, s:s, s:b}", "slot", (int)row->slot, "name", row->name, "key", key, "token", token,
                     "revoked", row->revoked);
}

static json_t *token_json(const struct token_row *row) {
    char key[2 * KEYS_CURVE_BYTES + 1], id[2 * MESSAGE_TOKEN_ID_BYTES + 1];
    bytes_to_hex(row->key, sizeof row->key, key);
    bytes_to_hex(row->id, sizeof row->id, id);
    return json_pack("{s:s, s:s, s:I, s:I, s:b}", "id", id, "key", key, "expires_s", (json_int_t)row->expires_s, "uses",
                     (json_int_t)row->uses, "revoked", row->revoked);
}

enum status admission_list_store(const struct admission_list *list, struct error *error) {
    json_t *workers = json_array(), *tokens = json_array();
    bool whole = true;
    for (uint32_t i = 0; i < list->worker_count; i++)
        whole = json_array_append_new(workers, worker_json(&list->workers[i])) == 0 && whole;
    for (uint32_t i = 0; i < list->token_count; i++)
        whole = json_array_append_new(tokens, token_json(&list->tokens[i])) == 0 && whole;
    json_t *root = json_pack("{s:i, s:o, s:o}", "schema", FILE_SCHEMA, "workers", workers, "tokens", tokens);
    char *text = whole ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (text == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to write %s", list->path);
    enum status status = files_write_atomic(list->path, text, strlen(text), 0600, error);
    free(text);
    return status;
}
