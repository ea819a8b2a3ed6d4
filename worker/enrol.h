/* enrol: a place in the run: from a pasted token, or from DIRECTORY/keys/certificate.json, which keeps what ADMIT gave. So a directory cannot
 * end up in another run, a worker starts again without a token, and an outer that lost its list knows the worker again (RECOVER). */
#ifndef ATOLL_WORKER_ENROL_H
#define ATOLL_WORKER_ENROL_H

#include "comms/keys.h"
#include "comms/message.h"
#include "comms/token.h"

/* What a worker needs to speak with its outer; all of it is in certificate.json (mode 0600: the recovery secret is in it). */
struct enrolment {
    char run_name[MESSAGE_NAME_BYTES];
    uint8_t outer_key[KEYS_CURVE_BYTES];
    uint32_t address_count;
    struct token_address addresses[TOKEN_ADDRESSES_MAX]; /* of the newest token */
    struct message_admit admit;
};

/* enrol: with a token. A directory that this run admitted before shows its certificate at the token's addresses and keeps its slot; when the
 * slot is another's now, and in a fresh directory, it registers and takes one use of the token. On STATUS_OK certificate.json is written.
 * STATUS_REFUSED (token expired, used up, unknown; key revoked; no place left), STATUS_UNREACHABLE, STATUS_CONFIG (another version; DIRECTORY
 * belongs to another run), STATUS_DATA (certificate.json is damaged), STATUS_IO, STATUS_AGAIN (interrupted; the outer cannot store its list now).
 * The texts say what to do. Waits up to 30 s for an answer. */
MUST_USE enum status enrol(const struct token *token, const struct node_keys *keys, const char *directory,
                           const char *name, const volatile int *interrupted, struct enrolment *enrolment,
                           struct error *error);

/* enrol_load: without a token, from certificate.json; asks nobody. STATUS_NOT_FOUND: this directory was never admitted, --join is needed;
 * STATUS_CONFIG (of another version of atoll, or keys/seed is not the admitted key), STATUS_DATA, STATUS_IO. */
MUST_USE enum status enrol_load(const char *directory, const struct node_keys *keys, struct enrolment *enrolment,
                                struct error *error);

/* enrol_recover: show the certificate to an outer that does not list this worker's key (LINK_REFUSAL_NOT_LISTED); then dial again.
 * `enrolment` takes what it answers, and certificate.json; when that cannot be written (a full disk) the older file stays, with a warning.
 * STATUS_UNREACHABLE, STATUS_AGAIN: try again later; else final: STATUS_REFUSED (revoked; the slot is another worker's), STATUS_CONFIG (the outer
 * leads another run now), STATUS_DATA (its answer is not this run's), STATUS_IO (no sockets). Waits as long as enrol. */
MUST_USE enum status enrol_recover(const struct node_keys *keys, const char *directory, const volatile int *interrupted,
                                   struct enrolment *enrolment, struct error *error);

/* The same in turns, for a thread that others wait for: no turn waits. What is given to the open is borrowed until the close. */
struct enrol_recovery;
MUST_USE enum status enrol_recovery_open(const struct node_keys *keys, const char *directory,
                                         struct enrolment *enrolment, struct enrol_recovery **recovery,
                                         struct error *error);
/* Call it every few milliseconds until *done: then the status is what enrol_recover would have returned. */
MUST_USE enum status enrol_recovery_turn(struct enrol_recovery *recovery, bool *done, struct error *error);
void enrol_recovery_close(struct enrol_recovery *recovery); /* NULL is fine */

/* The status that a refusal means for this process. */
enum status enrol_refusal_status(uint32_t refuse_code);

#endif
