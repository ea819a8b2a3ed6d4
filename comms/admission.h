/* admission: who may speak. The outer's list of tokens, registered workers and the admin; ZAP asks it for each connection, REGISTER
 * changes it. Fail closed: what is not listed is refused. Thread-safe (its own mutex): the ZAP thread reads while the outer writes.
 *
 * Roles by key: enrol (a token's derived key; may only REGISTER), worker (registered key), admin (the outer's own key: whoever can read its
 * seed file). An enrolment key of an expired or used-up token is still let in to be told so; ZAP answers 400 for unlisted keys. */
#ifndef ATOLL_COMMS_ADMISSION_H
#define ATOLL_COMMS_ADMISSION_H

#include "comms/keys.h"
#include "comms/message.h"
#include "comms/token.h"

struct admission;

enum peer_role { PEER_ROLE_NONE, PEER_ROLE_ENROL, PEER_ROLE_WORKER, PEER_ROLE_ADMIN };

/* directory: DIRECTORY/keys/workers.json is loaded and rewritten atomically at each registration (key, slot, name), so that a restarted outer knows
 * its workers and how often each token was used. slots = how many workers the run takes. STATUS_DATA: the list is damaged, STATUS_CONFIG: it
 * has a slot beyond `slots`; the text says what to do. */
MUST_USE enum status admission_open(const char *directory, const struct node_keys *keys, uint32_t slots,
                                    struct admission **admission, struct error *error);
void admission_close(struct admission *admission);

/* When the run id is known, before the first admission_register (CHECKed): certificates bear it. */
void admission_set_run_id(struct admission *admission, const uint8_t run_id[MESSAGE_HASH_BYTES]);

/* In memory only: a restarted outer adds its tokens again. The same secret with another expiry or number of uses replaces the older row. */
MUST_USE enum status admission_add_token(struct admission *admission, const struct token *token, struct error *error);

/* The verdict for a CURVE key. */
enum peer_role admission_role(struct admission *admission, const uint8_t key[KEYS_CURVE_BYTES]);

/* admission_register: enrol request.worker_key under the token of the enrolment key it came with. Registering again is free and gives the same
 * slot and name. A new key takes the lowest free slot and one use of the token; its name is made unique (island, island-2). On refusal
 * returns false and fills `refuse`; a list that cannot be stored now is refused with REFUSE_STARTED (try again). wall_s: now, for the expiry.
 * Writes and syncs a file for a new key: milliseconds. */
bool admission_register(struct admission *admission, const uint8_t enrolment_key[KEYS_CURVE_BYTES],
                        const struct message_register *request, uint64_t wall_s, struct certificate *certificate,
                        struct message_refuse *refuse);

/* Slot and name of a registered worker key; false when there is none. */
bool admission_find(struct admission *admission, const uint8_t key[KEYS_CURVE_BYTES], uint32_t *slot,
                    char name[MESSAGE_NAME_BYTES]);

#endif
