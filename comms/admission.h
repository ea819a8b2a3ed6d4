/* admission: who may speak. The outer's list of tokens, registered workers and the admin; ZAP asks it for each connection, REGISTER and
 * RECOVER change it. Fail closed: what is not listed is refused. Thread-safe (its own mutex): the ZAP thread reads while the outer writes.
 *
 * Roles by key: enrol (a token's derived key; may only REGISTER), recover (the key that derives from the outer's own seed, always listed; may
 * only RECOVER), worker (registered key), admin (the outer's own key: whoever can read its seed file). An enrolment key of an expired,
 * used-up or revoked token is still let in to be told so; ZAP answers 400 for unlisted and for revoked keys.
 *
 * DIRECTORY/keys/workers.json holds all of it (tokens without their secrets) and is rewritten atomically at each change. A change that cannot
 * be stored is none: STATUS_IO, and the list in memory is as before. Each change syncs a file: milliseconds. */
#ifndef ATOLL_COMMS_ADMISSION_H
#define ATOLL_COMMS_ADMISSION_H

#include "comms/keys.h"
#include "comms/message.h"
#include "comms/token.h"

struct admission;

enum peer_role { PEER_ROLE_NONE, PEER_ROLE_ENROL, PEER_ROLE_RECOVER, PEER_ROLE_WORKER, PEER_ROLE_ADMIN };

/* Reads the list in DIRECTORY, if there is one. STATUS_DATA: it is damaged; STATUS_CONFIG: of another version of atoll; the text says what to do. */
MUST_USE enum status admission_open(const char *directory, const struct node_keys *keys, struct admission **admission,
                                    struct error *error);
void admission_close(struct admission *admission);

/* When the run id is known, before the first admission_register and admission_recover (CHECKed): certificates bear it. */
void admission_set_run_id(struct admission *admission, const uint8_t run_id[MESSAGE_HASH_BYTES]);

/* The verdict for a CURVE key. */
enum peer_role admission_role(struct admission *admission, const uint8_t key[KEYS_CURVE_BYTES]);

/* ---- workers ---- */

/* admission_register: enrol request.worker_key under the token of the enrolment key it came with. Registering again is free and gives the same
 * slot and name, whatever became of the token. A new key takes the lowest free slot below MESSAGE_WORKERS_MAX and one use of the token; its
 * name is made unique (island, island-2). named_mask: slots that the run's commits and members name; those that this list never gave are a
 * lost list's, kept for who comes back with its certificate, and given only when no other is free. On refusal returns false and fills
 * `refuse`; a list that cannot be stored now is refused with REFUSE_FULL and says so. wall_s: now, for the expiry. */
bool admission_register(struct admission *admission, const uint8_t enrolment_key[KEYS_CURVE_BYTES],
                        const struct message_register *request, uint64_t named_mask, uint64_t wall_s,
                        struct certificate *certificate, struct message_refuse *refuse);

/* admission_recover: list the key of a certificate that this outer once signed, at its slot and under its name: for an outer that lost its list,
 * with it the revocations. A listed key gets the certificate of its row. The bearer need not own the key: listing it helps only who
 * does. On refusal returns false and fills `refuse`: another run (REFUSE_RUN), not signed by this outer (REFUSE_TOKEN_UNKNOWN), revoked
 * (REFUSE_REVOKED), slot held by another key (REFUSE_DUPLICATE: a token gives another slot), not stored (REFUSE_FULL). */
bool admission_recover(struct admission *admission, const struct message_recover *request,
                       struct certificate *certificate, struct message_refuse *refuse);

/* Slot and name of a registered worker key; false when there is none, or it was revoked. */
bool admission_find(struct admission *admission, const uint8_t key[KEYS_CURVE_BYTES], uint32_t *slot,
                    char name[MESSAGE_NAME_BYTES]);

struct admission_worker {
    uint32_t slot;
    uint8_t key[KEYS_CURVE_BYTES];
    char name[MESSAGE_NAME_BYTES];
    bool revoked;
};
/* admission_select: the worker that somebody names by slot ("3"), name or key (64 hex digits). A revoked worker is found by its key only:
 * its slot and name are free again. STATUS_NOT_FOUND. */
MUST_USE enum status admission_select(struct admission *admission, const char *text, struct admission_worker *worker,
                                      struct error *error);
/* admission_revoke: the same, and its key may not come back from now on, neither by ZAP nor by token or certificate. A session that it
 * has is the caller's to end: worker->slot, worker->key. STATUS_NOT_FOUND, STATUS_IO. Revoking twice is free. */
MUST_USE enum status admission_revoke(struct admission *admission, const char *text, struct admission_worker *worker,
                                      struct error *error);
/* What a revoked key is told that still has a connection. */
void admission_refuse_revoked(struct message_refuse *refuse);

/* ---- tokens ---- */

enum { ADMISSION_TOKENS_MAX = 256 };
struct admission_token {
    uint8_t id[MESSAGE_TOKEN_ID_BYTES];
    uint64_t expires_s; /* seconds since 1970 */
    uint32_t uses;
    uint32_t used; /* keys that registered with it, revoked ones included */
    bool revoked;
};

/* The same secret with another expiry or number of uses replaces the older row; a revoked one stays revoked. When ADMISSION_TOKENS_MAX are
 * listed, one that is expired, used up or revoked makes room; STATUS_USAGE: there is none. STATUS_IO. */
MUST_USE enum status admission_add_token(struct admission *admission, const struct token *token, uint64_t wall_s,
                                         struct error *error);
/* admission_find_token: the row of this secret. false: there is none. */
bool admission_find_token(struct admission *admission, const uint8_t secret[TOKEN_SECRET_BYTES],
                          struct admission_token *found);
/* All tokens, oldest first; returns how many. */
uint32_t admission_list_tokens(struct admission *admission, struct admission_token tokens[ADMISSION_TOKENS_MAX]);
/* admission_revoke_token: id = the first hex digits of one token's id. Workers that registered with it stay. STATUS_NOT_FOUND, STATUS_USAGE (not
 * hex digits, or several tokens begin so), STATUS_IO. Revoking twice is free. */
MUST_USE enum status admission_revoke_token(struct admission *admission, const char *id, struct admission_token *token,
                                            struct error *error);

#endif
