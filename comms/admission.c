#include "comms/admission.h"

#include <pthread.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/files.h"
#include "base/units.h"
#include "comms/admission_list.h"

struct admission {
    pthread_mutex_t mutex; /* over all below */
    uint8_t sign_key[MESSAGE_KEY_BYTES];
    uint8_t sign_secret[SIGN_SECRET_BYTES];
    bool has_run_id;
    uint8_t run_id[MESSAGE_HASH_BYTES];
    struct admission_list list;
};

/* ---- the list ---- */

enum status admission_open(const char *directory, const struct node_keys *keys, struct admission **admission,
                           struct error *error) {
    struct admission *made = calloc(1, sizeof *made);
    if (!made)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the list of workers (%zu bytes)", sizeof *made);
    char folder[PATH_MAX];
    struct curve_pair recovery;
    files_join(folder, sizeof folder, directory, "keys");
    files_join(made->list.path, sizeof made->list.path, folder, "workers.json");
    keys_recovery_pair(keys->recovery_secret, &recovery);
    memcpy(made->list.recovery_key, recovery.public_key, sizeof made->list.recovery_key);
    sodium_memzero(&recovery, sizeof recovery);
    memcpy(made->list.outer_key, keys->curve.public_key, sizeof made->list.outer_key);
    memcpy(made->sign_key, keys->sign_key, sizeof made->sign_key);
    memcpy(made->sign_secret, keys->sign_secret, sizeof made->sign_secret);
    CHECK(pthread_mutex_init(&made->mutex, NULL) == 0);
    enum status status = files_make_directory(folder, 0700, error);
    if (status == STATUS_OK)
        status = admission_list_load(&made->list, error);
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

static enum peer_role role_of(struct admission_list *list, const uint8_t key[KEYS_CURVE_BYTES]) {
    if (admission_list_same_key(key, list->outer_key))
        return PEER_ROLE_ADMIN;
    if (admission_list_same_key(key, list->recovery_key))
        return PEER_ROLE_RECOVER;
    const struct worker_row *worker = admission_list_by_key(list, key);
    if (worker)
        return worker->revoked ? PEER_ROLE_NONE : PEER_ROLE_WORKER;
    return admission_list_token(list, key) ? PEER_ROLE_ENROL : PEER_ROLE_NONE;
}

enum peer_role admission_role(struct admission *admission, const uint8_t key[KEYS_CURVE_BYTES]) {
    pthread_mutex_lock(&admission->mutex);
    enum peer_role role = role_of(&admission->list, key);
    pthread_mutex_unlock(&admission->mutex);
    return role;
}

/* ---- what REGISTER and RECOVER share ---- */

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

void admission_refuse_revoked(struct message_refuse *refuse) {
    (void)refuse_with(refuse, REFUSE_REVOKED, "this worker's key was revoked: it may not come back to this run");
}

static bool same_version(uint32_t version, struct message_refuse *refuse) {
    return version == MESSAGE_PROTOCOL_VERSION ||
           refuse_with(refuse, REFUSE_VERSION,
                       "this worker speaks protocol %u, the outer speaks %d: use the same atoll on both", version,
                       MESSAGE_PROTOCOL_VERSION);
}

/* A key that is listed as something else, or none at all, must not become a worker's. */
static bool fit_for_worker(struct admission_list *list, const uint8_t key[MESSAGE_KEY_BYTES],
                           struct message_refuse *refuse) {
    return (role_of(list, key) == PEER_ROLE_NONE && !sodium_is_zero(key, MESSAGE_KEY_BYTES)) ||
           refuse_with(refuse, REFUSE_DUPLICATE,
                       "this key is the outer's own or a token's, not a worker's: remove the worker's keys/seed so "
                       "that it makes its own");
}

/* The wish, or worker-SLOT; when taken, with -2, -3, ... Digits alone would be mistaken for a slot. */
static void choose_name(struct admission_list *list, const char *wish, uint32_t slot, char name[MESSAGE_NAME_BYTES]) {
    char base[MESSAGE_NAME_BYTES];
    if (!admission_list_name_is_good(wish))
        snprintf(base, sizeof base, "worker-%u", slot);
    else if (strspn(wish, "0123456789") == strlen(wish))
        snprintf(base, sizeof base, "worker-%.56s", wish);
    else
        snprintf(base, sizeof base, "%s", wish);
    snprintf(name, MESSAGE_NAME_BYTES, "%s", base);
    for (unsigned number = 2; admission_list_by_name(list, name) != NULL; number++)
        snprintf(name, MESSAGE_NAME_BYTES, "%.56s-%u", base, number);
}

/* token_id NULL: none. */
static bool list_worker(struct admission_list *list, const uint8_t key[MESSAGE_KEY_BYTES], uint32_t slot,
                        const uint8_t *token_id, const char *wish, struct message_refuse *refuse) {
    if (list->worker_count == ADMISSION_ROWS_MAX)
        return refuse_with(refuse, REFUSE_FULL,
                           "the outer's list is full: it holds %d workers, most of them revoked; start another run",
                           ADMISSION_ROWS_MAX);
    struct worker_row row = {.slot = slot};
    memcpy(row.key, key, sizeof row.key);
    if (token_id)
        memcpy(row.token_id, token_id, sizeof row.token_id);
    choose_name(list, wish, slot, row.name);
    list->workers[list->worker_count++] = row;
    struct error error;
    if (admission_list_store(list, &error) == STATUS_OK)
        return true;
    list->worker_count--;
    return refuse_with(refuse, REFUSE_FULL, "the outer cannot store its list of workers now (%.300s); try again later",
                       error.text);
}

static void make_certificate(struct admission *admission, const uint8_t key[MESSAGE_KEY_BYTES],
                             struct certificate *certificate) {
    const struct worker_row *worker = admission_list_by_key(&admission->list, key);
    *certificate = (struct certificate){.slot = worker->slot};
    memcpy(certificate->run_id, admission->run_id, sizeof certificate->run_id);
    memcpy(certificate->worker_key, worker->key, sizeof certificate->worker_key);
    memcpy(certificate->name, worker->name, sizeof certificate->name);
    certificate_sign(certificate, admission->sign_secret);
}

/* ---- REGISTER ---- */

static uint64_t slots_ever_given(const struct admission_list *list) {
    uint64_t mask = 0;
    for (uint32_t i = 0; i < list->worker_count; i++)
        mask |= UINT64_C(1) << list->workers[i].slot;
    return mask;
}

/* The lowest that nobody has and `not_mask` does not name; MESSAGE_WORKERS_MAX: there is none. */
static uint32_t free_slot(struct admission_list *list, uint64_t not_mask) {
    uint32_t slot = 0;
    while (slot < MESSAGE_WORKERS_MAX && (admission_list_by_slot(list, slot) != NULL || (not_mask >> slot & 1) != 0))
        slot++;
    return slot;
}

static bool register_new(struct admission_list *list, const struct token_row *token,
                         const struct message_register *request, uint64_t named_mask, uint64_t wall_s,
                         struct message_refuse *refuse) {
    char ago[UNITS_TEXT_BYTES];
    if (token->revoked)
        return refuse_with(refuse, REFUSE_TOKEN_UNKNOWN,
                           "this token was revoked; ask for a new one: atoll token create");
    if (wall_s >= token->expires_s) {
        uint64_t ago_s = wall_s > token->expires_s ? wall_s - token->expires_s : 1;
        return refuse_with(refuse, REFUSE_TOKEN_EXPIRED,
                           "this token expired %s ago; ask for a new one: atoll token create",
                           units_format_duration(ago_s * 1000000, ago));
    }
    uint32_t used = admission_list_uses(list, token);
    if (used >= token->uses)
        return refuse_with(refuse, REFUSE_TOKEN_USED,
                           "this token has been used %u of %u times; ask for a new one: atoll token create", used,
                           token->uses);
    uint32_t slot = free_slot(list, named_mask & ~slots_ever_given(list));
    if (slot == MESSAGE_WORKERS_MAX)
        slot = free_slot(list, 0);
    if (slot == MESSAGE_WORKERS_MAX)
        return refuse_with(refuse, REFUSE_FULL,
                           "all %d places of this run are taken; to free one: atoll drain WORKER DIR --revoke",
                           MESSAGE_WORKERS_MAX);
    return list_worker(list, request->worker_key, slot, token->id, request->name, refuse);
}

static bool register_key(struct admission_list *list, const uint8_t enrolment_key[KEYS_CURVE_BYTES],
                         const struct message_register *request, uint64_t named_mask, uint64_t wall_s,
                         struct message_refuse *refuse) {
    if (!same_version(request->protocol_version, refuse))
        return false;
    const struct token_row *token = admission_list_token(list, enrolment_key);
    if (!token || memcmp(token->id, request->token_id, sizeof token->id) != 0)
        return refuse_with(
            refuse, REFUSE_TOKEN_UNKNOWN,
            "this outer does not know this token (revoked, or of another run); ask for a new one: atoll token create");
    const struct worker_row *known = admission_list_by_key(list, request->worker_key);
    if (known && known->revoked) {
        admission_refuse_revoked(refuse);
        return false;
    }
    if (known)
        return true; /* again: free, whatever became of the token */
    return fit_for_worker(list, request->worker_key, refuse) &&
           register_new(list, token, request, named_mask, wall_s, refuse);
}

bool admission_register(struct admission *admission, const uint8_t enrolment_key[KEYS_CURVE_BYTES],
                        const struct message_register *request, uint64_t named_mask, uint64_t wall_s,
                        struct certificate *certificate, struct message_refuse *refuse) {
    pthread_mutex_lock(&admission->mutex);
    CHECK(admission->has_run_id);
    bool admitted = register_key(&admission->list, enrolment_key, request, named_mask, wall_s, refuse);
    if (admitted)
        make_certificate(admission, request->worker_key, certificate);
    pthread_mutex_unlock(&admission->mutex);
    return admitted;
}

/* ---- RECOVER ---- */

static bool recover_key(struct admission *admission, const struct message_recover *request,
                        struct message_refuse *refuse) {
    const struct certificate *shown = &request->certificate;
    struct admission_list *list = &admission->list;
    if (!same_version(request->protocol_version, refuse))
        return false;
    if (memcmp(shown->run_id, admission->run_id, sizeof shown->run_id) != 0) {
        char ours[17], theirs[17];
        bytes_to_hex(admission->run_id, 8, ours);
        bytes_to_hex(shown->run_id, 8, theirs);
        return refuse_with(refuse, REFUSE_RUN,
                           "this outer leads run %s, the certificate is of run %s: use another "
                           "--dir",
                           ours, theirs);
    }
    if (shown->slot >= MESSAGE_WORKERS_MAX || !admission_list_name_is_good(shown->name) ||
        certificate_verify(shown, admission->sign_key, NULL) != STATUS_OK)
        return refuse_with(refuse, REFUSE_TOKEN_UNKNOWN,
                           "this outer did not sign this certificate: register with a token: atoll worker --join "
                           "TOKEN");
    const struct worker_row *known = admission_list_by_key(list, shown->worker_key);
    if (known && known->revoked) {
        admission_refuse_revoked(refuse);
        return false;
    }
    if (known)
        return true;
    if (!fit_for_worker(list, shown->worker_key, refuse))
        return false;
    const struct worker_row *holder = admission_list_by_slot(list, shown->slot);
    if (holder)
        return refuse_with(refuse, REFUSE_DUPLICATE,
                           "slot %u of this certificate is held by another worker (%s): register with a token: atoll "
                           "worker --join TOKEN",
                           shown->slot, holder->name);
    return list_worker(list, shown->worker_key, shown->slot, NULL, shown->name, refuse);
}

bool admission_recover(struct admission *admission, const struct message_recover *request,
                       struct certificate *certificate, struct message_refuse *refuse) {
    pthread_mutex_lock(&admission->mutex);
    CHECK(admission->has_run_id);
    bool admitted = recover_key(admission, request, refuse);
    if (admitted)
        make_certificate(admission, request->certificate.worker_key, certificate);
    pthread_mutex_unlock(&admission->mutex);
    return admitted;
}

/* ---- workers by name ---- */

bool admission_find(struct admission *admission, const uint8_t key[KEYS_CURVE_BYTES], uint32_t *slot,
                    char name[MESSAGE_NAME_BYTES]) {
    pthread_mutex_lock(&admission->mutex);
    const struct worker_row *worker = admission_list_by_key(&admission->list, key);
    bool found = worker != NULL && !worker->revoked;
    if (found) {
        *slot = worker->slot;
        memcpy(name, worker->name, MESSAGE_NAME_BYTES);
    }
    pthread_mutex_unlock(&admission->mutex);
    return found;
}

static enum status select_worker(struct admission_list *list, const char *text, struct worker_row **row,
                                 struct error *error) {
    uint8_t key[KEYS_CURVE_BYTES];
    size_t digits = strspn(text, "0123456789");
    if (bytes_from_hex(text, key, sizeof key)) {
        *row = admission_list_by_key(list, key);
    } else if (digits > 0 && text[digits] == '\0') {
        *row = digits <= 3 ? admission_list_by_slot(list, (uint32_t)strtoul(text, NULL, 10)) : NULL;
        if (*row == NULL)
            return error_set(error, STATUS_NOT_FOUND, "this run has no worker in slot %.64s: atoll status shows them",
                             text);
    } else {
        *row = admission_list_by_name(list, text);
    }
    return *row != NULL
               ? STATUS_OK
               : error_set(error, STATUS_NOT_FOUND, "this run has no worker '%.64s': atoll status shows them", text);
}

static void copy_worker(const struct worker_row *row, struct admission_worker *worker) {
    *worker = (struct admission_worker){.slot = row->slot, .revoked = row->revoked};
    memcpy(worker->key, row->key, sizeof worker->key);
    memcpy(worker->name, row->name, sizeof worker->name);
}

enum status admission_select(struct admission *admission, const char *text, struct admission_worker *worker,
                             struct error *error) {
    struct worker_row *row = NULL;
    pthread_mutex_lock(&admission->mutex);
    enum status status = select_worker(&admission->list, text, &row, error);
    if (status == STATUS_OK)
        copy_worker(row, worker);
    pthread_mutex_unlock(&admission->mutex);
    return status;
}

enum status admission_revoke(struct admission *admission, const char *text, struct admission_worker *worker,
                             struct error *error) {
    struct worker_row *row = NULL;
    pthread_mutex_lock(&admission->mutex);
    enum status status = select_worker(&admission->list, text, &row, error);
    if (status == STATUS_OK && !row->revoked) {
        row->revoked = true;
        status = admission_list_store(&admission->list, error);
        row->revoked = status == STATUS_OK;
    }
    if (status == STATUS_OK)
        copy_worker(row, worker);
    pthread_mutex_unlock(&admission->mutex);
    return status;
}

/* ---- tokens ---- */

/* A place for one more token: at the end, or that of one that admits nobody any more; UINT32_MAX: there is none. */
static uint32_t find_place(const struct admission_list *list, uint64_t wall_s) {
    if (list->token_count < ADMISSION_TOKENS_MAX)
        return list->token_count;
    for (uint32_t i = 0; i < list->token_count; i++) {
        const struct token_row *row = &list->tokens[i];
        if (row->revoked || wall_s >= row->expires_s || admission_list_uses(list, row) >= row->uses)
            return i;
    }
    return UINT32_MAX;
}

static enum status add_token(struct admission_list *list, struct token_row row, uint64_t wall_s, struct error *error) {
    const struct token_row *same = admission_list_token(list, row.key);
    uint32_t place = same ? (uint32_t)(same - list->tokens) : find_place(list, wall_s);
    if (place == UINT32_MAX)
        return error_set(error, STATUS_USAGE,
                         "the outer holds %d tokens that can still be used: revoke some: atoll token revoke ID DIR",
                         ADMISSION_TOKENS_MAX);
    row.revoked = same && same->revoked;
    struct token_row before[ADMISSION_TOKENS_MAX];
    uint32_t count = list->token_count;
    memcpy(before, list->tokens, sizeof before);
    if (same || place == list->token_count) {
        list->tokens[place] = row;
        list->token_count += same ? 0 : 1;
    } else { /* stay in the order of their making */
        memmove(&list->tokens[place], &list->tokens[place + 1], (list->token_count - place - 1) * sizeof *list->tokens);
        list->tokens[list->token_count - 1] = row;
    }
    enum status status = admission_list_store(list, error);
    if (status != STATUS_OK) {
        memcpy(list->tokens, before, sizeof before);
        list->token_count = count;
    }
    return status;
}

enum status admission_add_token(struct admission *admission, const struct token *token, uint64_t wall_s,
                                struct error *error) {
    struct curve_pair pair;
    keys_enrolment_pair(token->secret, &pair);
    struct token_row row = {.expires_s = token->expires_s < INT64_MAX ? token->expires_s : INT64_MAX,
                            .uses = token->uses};
    memcpy(row.id, token->id, sizeof row.id);
    memcpy(row.key, pair.public_key, sizeof row.key);
    sodium_memzero(&pair, sizeof pair);
    pthread_mutex_lock(&admission->mutex);
    enum status status = add_token(&admission->list, row, wall_s, error);
    pthread_mutex_unlock(&admission->mutex);
    return status;
}

static void copy_token(const struct admission_list *list, const struct token_row *row, struct admission_token *token) {
    *token = (struct admission_token){.expires_s = row->expires_s,
                                      .uses = row->uses,
                                      .used = admission_list_uses(list, row),
                                      .revoked = row->revoked};
    memcpy(token->id, row->id, sizeof token->id);
}

bool admission_find_token(struct admission *admission, const uint8_t secret[TOKEN_SECRET_BYTES],
                          struct admission_token *found) {
    struct curve_pair pair;
    keys_enrolment_pair(secret, &pair);
    pthread_mutex_lock(&admission->mutex);
    const struct token_row *row = admission_list_token(&admission->list, pair.public_key);
    if (row != NULL)
        copy_token(&admission->list, row, found);
    pthread_mutex_unlock(&admission->mutex);
    sodium_memzero(&pair, sizeof pair);
    return row != NULL;
}

uint32_t admission_list_tokens(struct admission *admission, struct admission_token tokens[ADMISSION_TOKENS_MAX]) {
    pthread_mutex_lock(&admission->mutex);
    const struct admission_list *list = &admission->list;
    uint32_t count = list->token_count;
    for (uint32_t i = 0; i < count; i++)
        copy_token(list, &list->tokens[i], &tokens[i]);
    pthread_mutex_unlock(&admission->mutex);
    return count;
}

static enum status select_token(struct admission_list *list, const char *id, struct token_row **row,
                                struct error *error) {
    size_t count = strlen(id);
    if (count == 0 || count > 2 * MESSAGE_TOKEN_ID_BYTES || strspn(id, "0123456789abcdefABCDEF") != count)
        return error_set(error, STATUS_USAGE,
                         "'%.64s' is not the begin of a token's id (1 to %d hex digits): atoll token list DIR shows "
                         "them",
                         id, 2 * MESSAGE_TOKEN_ID_BYTES);
    uint32_t matches = 0;
    for (uint32_t i = 0; i < list->token_count; i++) {
        char text[2 * MESSAGE_TOKEN_ID_BYTES + 1];
        bytes_to_hex(list->tokens[i].id, sizeof list->tokens[i].id, text);
        if (strncasecmp(text, id, count) != 0)
            continue;
        *row = &list->tokens[i];
        matches++;
    }
    if (matches == 0)
        return error_set(error, STATUS_NOT_FOUND, "no token's id begins with %s: atoll token list DIR shows them", id);
    return matches == 1
               ? STATUS_OK
               : error_set(error, STATUS_USAGE, "the ids of %u tokens begin with %s: give more digits", matches, id);
}

enum status admission_revoke_token(struct admission *admission, const char *id, struct admission_token *token,
                                   struct error *error) {
    struct token_row *row = NULL;
    pthread_mutex_lock(&admission->mutex);
    enum status status = select_token(&admission->list, id, &row, error);
    if (status == STATUS_OK && !row->revoked) {
        row->revoked = true;
        status = admission_list_store(&admission->list, error);
        row->revoked = status == STATUS_OK;
    }
    if (status == STATUS_OK)
        copy_token(&admission->list, row, token);
    pthread_mutex_unlock(&admission->mutex);
    return status;
}
