/* enrol: from a pasted token to a place in the run. Connects with the key derived from the token, registers this node's own key, and
 * keeps the certificate in DIRECTORY/keys, so that a directory cannot end up in another run. */
#ifndef ATOLL_WORKER_ENROL_H
#define ATOLL_WORKER_ENROL_H

#include "comms/keys.h"
#include "comms/message.h"
#include "comms/token.h"

/* enrol: STATUS_REFUSED (token expired, used up, unknown; no place left), STATUS_UNREACHABLE, STATUS_CONFIG (another version; DIRECTORY
 * belongs to another run), STATUS_AGAIN (interrupted). The texts say what to do. */
MUST_USE enum status enrol(const struct token *token, const struct node_keys *keys, const char *directory,
                           const char *name, const volatile int *interrupted, struct message_admit *admit,
                           struct error *error);

/* The status that a refusal means for this process. */
enum status enrol_refusal_status(uint32_t refuse_code);

#endif
