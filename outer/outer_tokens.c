#include "outer/outer_tokens.h"
#include <stdio.h>
#include <string.h>
#include "base/bytes.h"
#include "base/files.h"

enum { TTL_S = 24 * 3600, TTL_S_MAX = 366 * 24 * 3600, USES_MAX = 1000000 };

static json_t *token_json(const struct admission_token *token, uint64_t wall_s) {
    char id[2 * MESSAGE_TOKEN_ID_BYTES + 1];
    bool expired = wall_s >= token->expires_s;
    const char *state = token->revoked               ? "revoked"
                        : expired                    ? "expired"
                        : token->used >= token->uses ? "used up"
                                                     : "live";
    bytes_to_hex(token->id, sizeof token->id, id);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "id", id, "state", state, "uses", (json_int_t)token->uses,
                     "used", (json_int_t)token->used, "expires_s", (json_int_t)token->expires_s, "left_s",
                     expired ? 0 : (json_int_t)(token->expires_s - wall_s));
}

/* The file's token, and what the list knows of it. */
static bool is_still_good(struct admission *admission, const struct token *token, const struct token *blank,
                          uint32_t uses, uint64_t wall_s) {
    struct admission_token row;
    return memcmp(token->outer_key, blank->outer_key, sizeof token->outer_key) == 0 &&
           strcmp(token->run_name, blank->run_name) == 0 && admission_find_token(admission, token->secret, &row) &&
           memcmp(row.id, token->id, sizeof row.id) == 0 && !row.revoked && row.uses == uses && row.used < row.uses &&
           row.expires_s == token->expires_s && row.expires_s > wall_s + TTL_S / 2 && row.expires_s <= wall_s + TTL_S;
}

enum status outer_tokens_join(struct admission *admission, const struct token *blank, uint32_t uses, const char *path,
                              uint64_t wall_s, struct token *token, struct error *error) {
    struct token found;
    if (files_exists(path) && token_read(path, &found, NULL) == STATUS_OK &&
        is_still_good(admission, &found, blank, uses, wall_s)) {
        *token = found;
        token->address_count = blank->address_count;
        memcpy(token->addresses, blank->addresses, sizeof token->addresses);
        return STATUS_OK;
    }
    *token = *blank;
    token_make_secret(token);
    token->expires_s = wall_s + TTL_S;
    token->uses = uses;
    return admission_add_token(admission, token, wall_s, error);
}

/* false: it is there, and no integer from 1 to max. */
static bool take_integer(const json_t *arguments, const char *key, json_int_t max, json_int_t *value) {
    const json_t *given = json_object_get(arguments, key);
    if (given != NULL)
        *value = json_integer_value(given); /* 0 for another type */
    return *value >= 1 && *value <= max;
}

json_t *outer_tokens_create(struct admission *admission, const struct token *blank, uint32_t default_uses,
                            const json_t *arguments, uint64_t wall_s, struct error *error) {
    json_int_t ttl_s = TTL_S, uses = default_uses;
    if (!take_integer(arguments, "ttl_s", TTL_S_MAX, &ttl_s) || !take_integer(arguments, "uses", USES_MAX, &uses)) {
        error_set(error, STATUS_USAGE, "a token lives 1s to 366d and has 1 to 1000000 uses");
        return NULL;
    }
    struct token token = *blank;
    token.expires_s = wall_s + (uint64_t)ttl_s;
    token.uses = (uint32_t)uses;
    token_make_secret(&token);
    if (admission_add_token(admission, &token, wall_s, error) != STATUS_OK)
        return NULL;
    char text[TOKEN_TEXT_BYTES];
    struct admission_token row = {.expires_s = token.expires_s, .uses = token.uses};
    memcpy(row.id, token.id, sizeof row.id);
    token_format(&token, text);
    json_t *json = token_json(&row, wall_s);
    json_object_set_new(json, "token", json_string(text));
    return json;
}

json_t *outer_tokens_list(struct admission *admission, uint64_t wall_s) {
    struct admission_token tokens[ADMISSION_TOKENS_MAX];
    uint32_t count = admission_list_tokens(admission, tokens);
    json_t *rows = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(rows, token_json(&tokens[i], wall_s));
    return json_pack("{s:o}", "tokens", rows);
}

json_t *outer_tokens_revoke(struct admission *admission, const json_t *arguments, uint64_t wall_s,
                            struct error *error) {
    const char *id = json_string_value(json_object_get(arguments, "id"));
    struct admission_token token;
    if (admission_revoke_token(admission, id != NULL ? id : "", &token, error) != STATUS_OK)
        return NULL;
    return token_json(&token, wall_s);
}

enum status outer_tokens_drain(struct admission *admission, const json_t *arguments, struct admission_worker *worker,
                               struct error *error) {
    const json_t *named = json_object_get(arguments, "worker"), *revoke = json_object_get(arguments, "revoke");
    char slot[32];
    const char *text = json_string_value(named);
    if (json_is_integer(named)) {
        snprintf(slot, sizeof slot, "%lld", (long long)json_integer_value(named));
        text = slot;
    }
    if (text == NULL || (revoke != NULL && !json_is_boolean(revoke)))
        return error_set(error, STATUS_USAGE, "drain takes {\"worker\": slot, name or key, \"revoke\": true or false}");
    return json_is_true(revoke) ? admission_revoke(admission, text, worker, error)
                                : admission_select(admission, text, worker, error);
}

json_t *outer_tokens_drained(const struct admission_worker *worker, bool live) {
    return json_pack("{s:i, s:s, s:b, s:b}", "slot", (int)worker->slot, "worker", worker->name, "live", live, "revoked",
                     worker->revoked);
}
