/* admission_list: the rows behind admission.h and their file, DIRECTORY/keys/workers.json:
 *
 *     {"schema": 2, "workers": [{"slot": 0, "name": "...", "key": "hex", "token": "hex", "revoked": false}],
 *      "tokens": [{"id": "hex", "key": "hex", "expires_s": 1, "uses": 4, "revoked": false}]}
 *
 * Invariants, also of what is loaded: no key twice; among rows that are not revoked no slot and no name twice. Revoked workers stay listed,
 * so that neither token nor certificate brings them back. It knows no mutex, message or signature. */
#ifndef ATOLL_COMMS_ADMISSION_LIST_H
#define ATOLL_COMMS_ADMISSION_LIST_H

#include <limits.h>
#include "comms/admission.h"

enum { ADMISSION_ROWS_MAX = 1024 };

struct worker_row {
    uint32_t slot;
    uint8_t key[KEYS_CURVE_BYTES];
    uint8_t token_id[MESSAGE_TOKEN_ID_BYTES]; /* all zero: came back by its certificate */
    char name[MESSAGE_NAME_BYTES];
    bool revoked;
};

/* The uses of a token are counted by the workers that bear its id, so that no restart forgets one. */
struct token_row {
    uint8_t id[MESSAGE_TOKEN_ID_BYTES];
    uint8_t key[KEYS_CURVE_BYTES]; /* public enrolment key */
    uint64_t expires_s;            /* at most INT64_MAX */
    uint32_t uses;
    bool revoked;
};

struct admission_list {
    char path[PATH_MAX];
    uint8_t outer_key[KEYS_CURVE_BYTES];
    uint8_t recovery_key[KEYS_CURVE_BYTES];
    uint32_t worker_count;
    struct worker_row workers[ADMISSION_ROWS_MAX];
    uint32_t token_count;
    struct token_row tokens[ADMISSION_TOKENS_MAX];
};

/* Into an empty list with its path and own keys set; no file is an empty list. STATUS_DATA, STATUS_CONFIG, STATUS_IO. */
MUST_USE enum status admission_list_load(struct admission_list *list, struct error *error);
MUST_USE enum status admission_list_store(const struct admission_list *list, struct error *error);

bool admission_list_same_key(const uint8_t a[KEYS_CURVE_BYTES], const uint8_t b[KEYS_CURVE_BYTES]);
bool admission_list_name_is_good(const char *name); /* 1 to 63 printable ASCII bytes without spaces */

/* NULL when there is none; by slot and by name only rows that are not revoked. */
struct worker_row *admission_list_by_key(struct admission_list *list, const uint8_t key[KEYS_CURVE_BYTES]);
struct worker_row *admission_list_by_slot(struct admission_list *list, uint32_t slot);
struct worker_row *admission_list_by_name(struct admission_list *list, const char *name);
struct token_row *admission_list_token(struct admission_list *list, const uint8_t enrolment_key[KEYS_CURVE_BYTES]);
uint32_t admission_list_uses(const struct admission_list *list, const struct token_row *token);

#endif
