/* zap: the thread that answers libzmq's question "may this CURVE key connect?" (ZAP, RFC 27) from the admission list. It knows keys and
 * roles, no message. What it answers:
 *   200 and the user id L + 64 hex digits of the key, L = 'W' worker, 'E' enrolment, 'R' recovery, 'A' admin; every message then bears
 *   that user id
 *   400 for a key that is not listed, or was revoked: the client is told and does not try again
 * Bind it before the sockets that it guards; it ends with the context (zap_close joins it, after zmq_ctx_term or _shutdown). */
#ifndef ATOLL_COMMS_ZAP_H
#define ATOLL_COMMS_ZAP_H

#include "comms/admission.h"

enum { ZAP_USER_ID_BYTES = 1 + 2 * KEYS_CURVE_BYTES + 1 };

struct zap;

MUST_USE enum status zap_open(void *context, struct admission *admission, struct zap **zap, struct error *error);
void zap_close(struct zap *zap);

/* 'W', 'E', 'R', 'A'; 0 for PEER_ROLE_NONE. Also the first byte of routing ids. */
char zap_role_letter(enum peer_role role);
void zap_user_id(enum peer_role role, const uint8_t key[KEYS_CURVE_BYTES], char text[ZAP_USER_ID_BYTES]);
/* false: not such a text. */
bool zap_parse_user_id(const char *text, enum peer_role *role, uint8_t key[KEYS_CURVE_BYTES]);

#endif
