#include "comms/admission.h"

#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/files.h"
#include "base/units.h"

enum { TOKENS_MAX = 1024, FILE_BYTES_MAX = 65536, FILE_SCHEMA = 1 };

struct admitted_token {
    uint8_t id[MESSAGE_TOKEN_ID_BYTES];
    uint8_t enrolment_key[KEYS_CURVE_BYTES];
    uint64_t expires_s;
    uint32_t uses;
};

/* The uses of a token are counted by the workers that bear its id, so that a restart forgets none. */
struct registered_worker {
    uint32_t slot;
    uint8_t key[KEYS_CURVE_BYTES];
    uint8_t token_id[MESSAGE_TOKEN_ID_BYTES];
    char name[MESSAGE_NAME_BYTES];
};

struct admission {
    pthread_mutex_t mutex; /* over all below */
    char path[PATH_MAX];   /* DIRECTORY/keys/workers.json */
    uint32_t slots;
    uint8_t outer_key[KEYS_CURVE_BYTES];
    uint8_t sign_secret[SIGN_SECRET_BYTES];
    bool has_run_id;
    uint8_t run_id[MESSAGE_HASH_BYTES];
    uint32_t worker_count;
    struct registered_worker workers[MESSAGE_WORKERS_MAX];
    uint32_t token_count;
    struct admitted_token tokens[TOKENS_MAX];
};

static bool same_key(const uint8_t *a, const uint8_t *b) {
    return sodium_memcmp(a, b, KEYS_CURVE_BYTES) == 0;
}

static struct registered_worker *find_worker(struct admission *admission, const uint8_t key[KEYS_CURVE_BYTES]) {
    for (uint32_t i = 0; i < admission->worker_count; i++)
        if (same_key(admission->workers[i].key, key))
            return &admission->workers[i];
    return NULL;
}

static struct admitted_token *find_enrolment(struct admission *admission, const uint8_t key[KEYS_CURVE_BYTES]) {
    for (uint32_t i = 0; i < admission->token_count; i++)
        if (same_key(admission->tokens[i].enrolment_key, key))
            return &admission->tokens[i];
    return NULL;
}

static bool slot_taken(const struct admission *admission, uint32_t slot) {
    for (uint32_t i = 0; i < admission->worker_count; i++)
        if (admission->workers[i].slot == slot)
            return true;
    return false;
}

static bool name_taken(const struct admission *admission, const char *name) {
    for (uint32_t i = 0; i < admission->worker_count; i++)
        if (strcmp(admission->workers[i].name, name) == 0)
            return true;
    return false;
}

static bool name_good(const char *name) {
    size_t count = strnlen(name, MESSAGE_NAME_BYTES);
    for (size_t i = 0; i < count; i++)
        if (name[i] <= ' ' || name[i] > '~')
            return false;
    return count > 0 && count < MESSAGE_NAME_BYTES;
}

/* ---- workers.json: {"schema": 1, "workers": [{"slot": 0, "name": "...", "key": "hex", "token": "hex"}]} ---- */

static const char *load_worker(struct admission *admission, json_t *row) {
    json_int_t slot = 0;
    const char *name = NULL, *key = NULL, *token = NULL;
    if (json_unpack_ex(row, NULL, JSON_STRICT, "{s:I, s:s, s:s, s:s}", "slot", &slot, "name", &name, "key", &key,
                       "token", &token) != 0)
        return "a worker has slot, name, key, token and nothing else";
    struct registered_worker worker = {0};
    if (slot < 0 || slot >= MESSAGE_WORKERS_MAX || slot_taken(admission, (uint32_t)slot))
        return "a slot is out of range or taken twice";
    worker.slot = (uint32_t)slot;
    if (!name_good(name) || name_taken(admission, name))
        return "a name is empty, too long, not plain ASCII or taken twice";
    snprintf(worker.name, sizeof worker.name, "%s", name);
    if (!bytes_from_hex(key, worker.key, sizeof worker.key) || find_worker(admission, worker.key) != NULL ||
        same_key(worker.key, admission->outer_key))
        return "a key is not 64 hex digits, listed twice, or the outer's own";
    if (!bytes_from_hex(token, worker.token_id, sizeof worker.token_id))
        return "a token is not 16 hex digits";
    admission->workers[admission->worker_count++] = worker;
    return NULL;
}

static enum status load_workers(struct admission *admission, struct error *error) {
    uint8_t *bytes = NULL;
    size_t count = 0;
    struct error reason;
    enum status status = files_read(admission->path, FILE_BYTES_MAX, &bytes, &count, &reason);
    if (status == STATUS_NOT_FOUND)
        return STATUS_OK;
    if (status != STATUS_OK)
        return error_set(error, status, "%s", reason.text);
    json_error_t json_error;
    json_t *root = json_loadb((const char *)bytes, count, JSON_REJECT_DUPLICATES, &json_error);
    free(bytes);
    if (!root)
        return error_set(
            error, STATUS_DATA,
            "%s:%d:%d: %s: restore the file from a copy; without it, remove it and let the workers register again",
            admission->path, json_error.line, json_error.column, json_error.text);
    int schema = 0;
    json_t *rows = NULL;
    const char *wrong = NULL;
    if (json_unpack_ex(root, NULL, JSON_STRICT, "{s:i, s:o}", "schema", &schema, "workers", &rows) != 0 ||
        schema != FILE_SCHEMA || !json_is_array(rows) || json_array_size(rows) > MESSAGE_WORKERS_MAX)
        wrong = "expected {\"schema\": 1, \"workers\": [...]}";
    size_t index = 0;
    for (; !wrong && index < json_array_size(rows); index++)
        wrong = load_worker(admission, json_array_get(rows, index));
    json_decref(root);
    if (wrong)
        return error_set(
            error, STATUS_DATA,
            "%s: worker %zu: %s: restore the file from a copy; without it, remove it and let the workers register "
            "again",
            admission->path, index, wrong);
    for (uint32_t i = 0; i < admission->worker_count; i++)
        if (admission->workers[i].slot >= admission->slots)
            return error_set(error, STATUS_CONFIG,
                             "%s: slot %u of %s does not fit a run of %u workers: expected workers > %u",
                             admission->path, admission->workers[i].slot, admission->workers[i].name, admission->slots,
                             admission->workers[i].slot);
    return STATUS_OK;
}

static enum status store_workers(const struct admission *admission, struct error *error) {
    json_t *rows = json_array();
    for (uint32_t i = 0; i < admission->worker_count; i++) {
        const struct registered_worker *worker = &admission->workers[i];
        char key[2 * KEYS_CURVE_BYTES + 1];
        char token[2 * MESSAGE_TOKEN_ID_BYTES + 1];
        bytes_to_hex(worker->key, sizeof worker->key, key);
        bytes_to_hex(worker->token_id, sizeof worker->token_id, token);
        CHECK(json_array_append_new(rows, json_pack("{s:i, s:s, s:s, s:s}", "slot", (int)worker->slot, "name",
                                                    worker->name, "key", key, "token", token)) == 0);
    }
    json_t *root = json_pack("{s:i, s:o}", "schema", FILE_SCHEMA, "workers", rows);
    char *text = json_dumps(root, JSON_INDENT(1));
    CHECK(text != NULL);
    json_decref(root);
    enum status status = files_write_atomic(admission->path, text, strlen(text), 0600, error);
    free(text);
    return status;
}

/* ---- the list ---- */

enum status admission_open(const char *directory, const struct node_keys *keys, uint32_t slots,
                           struct admission **admission, struct error *error) {
    CHECK(slots >= 1 && slots <= MESSAGE_WORKERS_MAX);
    struct admission *made = calloc(1, sizeof *made);
    if (!made)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the list of workers (%zu bytes)", sizeof *made);
    char folder[PATH_MAX];
    files_join(folder, sizeof folder, directory, "keys");
    files_join(made->path, sizeof made->path, folder, "workers.json");
    made->slots = slots;
    memcpy(made->outer_key, keys->curve.public_key, sizeof made->outer_key);
    memcpy(made->sign_secret, keys->sign_secret, sizeof made->sign_secret);
    CHECK(pthread_mutex_init(&made->mutex, NULL) == 0);
    enum status status = files_make_directory(folder, 0700, error);
    if (status == STATUS_OK)
        status = load_workers(made, error);
    if (status == STATUS_OK)
        *admission = made;
    else
        admission_close(made);
    return status;
}

void admission_close(struct admission *admission) {
    if (!admission)
        return;
    CHECK(pthread_mutex_destroy(&admission->mutex) == 0);
    sodium_memzero(admission, sizeof *admission);
    free(admission);
}

void admission_set_run_id(struct admission *admission, const uint8_t run_id[MESSAGE_HASH_BYTES]) {
    pthread_mutex_lock(&admission->mutex);
    memcpy(admission->run_id, run_id, sizeof admission->run_id);
    admission->has_run_id = true;
    pthread_mutex_unlock(&admission->mutex);
}

enum status admission_add_token(struct admission *admission, const struct token *token, struct error *error) {
    struct curve_pair pair;
    keys_enrolment_pair(token->secret, &pair);
    struct admitted_token row = {.expires_s = token->expires_s, .uses = token->uses};
    memcpy(row.id, token->id, sizeof row.id);
    memcpy(row.enrolment_key, pair.public_key, sizeof row.enrolment_key);
    sodium_memzero(&pair, sizeof pair);
    enum status status = STATUS_OK;
    pthread_mutex_lock(&admission->mutex);
    struct admitted_token *same = find_enrolment(admission, row.enrolment_key);
    if (same)
        *same = row; /* the same secret with another expiry or number of uses: the newest holds */
    else if (admission->token_count == TOKENS_MAX)
        status = error_set(error, STATUS_USAGE, "the outer holds %d tokens already: restart it to drop the old ones",
                           TOKENS_MAX);
    else
        admission->tokens[admission->token_count++] = row;
    pthread_mutex_unlock(&admission->mutex);
    return status;
}

static enum peer_role role_of(struct admission *admission, const uint8_t key[KEYS_CURVE_BYTES]) {
    if (same_key(key, admission->outer_key))
        return PEER_ROLE_ADMIN;
    if (find_worker(admission, key))
        return PEER_ROLE_WORKER;
    return find_enrolment(admission, key) ? PEER_ROLE_ENROL : PEER_ROLE_NONE;
}

enum peer_role admission_role(struct admission *admission, const uint8_t key[KEYS_CURVE_BYTES]) {
    pthread_mutex_lock(&admission->mutex);
    enum peer_role role = role_of(admission, key);
    pthread_mutex_unlock(&admission->mutex);
    return role;
}

/* ---- registration ---- */

static bool refuse_with(struct message_refuse *refuse, enum refuse_code code, const char *format, ...)
    PRINTF_LIKE(3, 4);
static bool refuse_with(struct message_refuse *refuse, enum refuse_code code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(refuse->text, sizeof refuse->text, format, arguments);
    va_end(arguments);
    refuse->code = (uint32_t)code;
    return false;
}

static uint32_t uses_of(const struct admission *admission, const struct admitted_token *token) {
    uint32_t used = 0;
    for (uint32_t i = 0; i < admission->worker_count; i++)
        used += memcmp(admission->workers[i].token_id, token->id, sizeof token->id) == 0;
    return used;
}

/* The wish, or worker-SLOT; when taken, with -2, -3, ... */
static void choose_name(const struct admission *admission, const char *wish, uint32_t slot,
                        char name[MESSAGE_NAME_BYTES]) {
    char base[MESSAGE_NAME_BYTES];
    if (name_good(wish))
        snprintf(base, sizeof base, "%s", wish);
    else
        snprintf(base, sizeof base, "worker-%u", slot);
    snprintf(name, MESSAGE_NAME_BYTES, "%s", base);
    for (unsigned number = 2; name_taken(admission, name); number++)
        snprintf(name, MESSAGE_NAME_BYTES, "%.56s-%u", base, number);
}

static bool register_new(struct admission *admission, const struct admitted_token *token,
                         const struct message_register *request, uint64_t wall_s, struct message_refuse *refuse) {
    char ago[UNITS_TEXT_BYTES];
    if (wall_s >= token->expires_s) {
        uint64_t ago_s = wall_s > token->expires_s ? wall_s - token->expires_s : 1;
        return refuse_with(refuse, REFUSE_TOKEN_EXPIRED,
                           "this token expired %s ago; ask for a new one: atoll token create",
                           units_format_duration(ago_s * 1000000, ago));
    }
    uint32_t used = uses_of(admission, token);
    if (used >= token->uses)
        return refuse_with(refuse, REFUSE_TOKEN_USED,
                           "this token has been used %u of %u times; ask for a new one: atoll token create", used,
                           token->uses);
    uint32_t slot = 0;
    while (slot < admission->slots && slot_taken(admission, slot))
        slot++;
    if (slot == admission->slots)
        return refuse_with(refuse, REFUSE_FULL, "all %u places of this run are taken (`workers` in its run file)",
                           admission->slots);
    struct registered_worker *worker = &admission->workers[admission->worker_count];
    *worker = (struct registered_worker){.slot = slot};
    memcpy(worker->key, request->worker_key, sizeof worker->key);
    memcpy(worker->token_id, token->id, sizeof worker->token_id);
    choose_name(admission, request->name, slot, worker->name);
    admission->worker_count++;
    struct error error;
    if (store_workers(admission, &error) != STATUS_OK) {
        admission->worker_count--;
        return refuse_with(refuse, REFUSE_STARTED,
                           "the outer cannot store its list of workers now (%.300s); try again later", error.text);
    }
    return true;
}

static bool register_key(struct admission *admission, const uint8_t enrolment_key[KEYS_CURVE_BYTES],
                         const struct message_register *request, uint64_t wall_s, struct message_refuse *refuse) {
    if (request->protocol_version != MESSAGE_PROTOCOL_VERSION)
        return refuse_with(refuse, REFUSE_VERSION,
                           "this worker speaks protocol %u, the outer speaks %d: use the same atoll on both",
                           request->protocol_version, MESSAGE_PROTOCOL_VERSION);
    const struct admitted_token *token = find_enrolment(admission, enrolment_key);
    if (!token || memcmp(token->id, request->token_id, sizeof token->id) != 0)
        return refuse_with(
            refuse, REFUSE_TOKEN_UNKNOWN,
            "this outer does not know this token (revoked, or of another run); ask for a new one: atoll token create");
    if (find_worker(admission, request->worker_key))
        return true; /* again: free, whatever became of the token */
    if (role_of(admission, request->worker_key) != PEER_ROLE_NONE ||
        sodium_is_zero(request->worker_key, MESSAGE_KEY_BYTES))
        return refuse_with(refuse, REFUSE_DUPLICATE,
                           "this key is the outer's own or a token's, not a worker's: remove the "
                           "worker's keys/seed so that it makes its own");
    return register_new(admission, token, request, wall_s, refuse);
}

bool admission_register(struct admission *admission, const uint8_t enrolment_key[KEYS_CURVE_BYTES],
                        const struct message_register *request, uint64_t wall_s, struct certificate *certificate,
                        struct message_refuse *refuse) {
    pthread_mutex_lock(&admission->mutex);
    CHECK(admission->has_run_id);
    bool admitted = register_key(admission, enrolment_key, request, wall_s, refuse);
    if (admitted) {
        const struct registered_worker *worker = find_worker(admission, request->worker_key);
        *certificate = (struct certificate){.slot = worker->slot};
        memcpy(certificate->run_id, admission->run_id, sizeof certificate->run_id);
        memcpy(certificate->worker_key, worker->key, sizeof certificate->worker_key);
        memcpy(certificate->name, worker->name, sizeof certificate->name);
        certificate_sign(certificate, admission->sign_secret);
    }
    pthread_mutex_unlock(&admission->mutex);
    return admitted;
}

bool admission_find(struct admission *admission, const uint8_t key[KEYS_CURVE_BYTES], uint32_t *slot,
                    char name[MESSAGE_NAME_BYTES]) {
    pthread_mutex_lock(&admission->mutex);
    const struct registered_worker *worker = find_worker(admission, key);
    if (worker) {
        *slot = worker->slot;
        memcpy(name, worker->name, MESSAGE_NAME_BYTES);
    }
    pthread_mutex_unlock(&admission->mutex);
    return worker != NULL;
}
