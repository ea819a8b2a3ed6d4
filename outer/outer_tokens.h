/* outer_tokens: what the admin's verbs token-create, token-list, token-revoke and drain do to the list of the admitted, as JSON in and out
 * (experiments/tokens.c is the other end). It knows the list, no session: ending one is the caller's.
 *
 * `arguments` is what the admin sent, anything at all (NULL included). Answers are new references; NULL: `error` says why, for the admin to read. */
#ifndef ATOLL_OUTER_OUTER_TOKENS_H
#define ATOLL_OUTER_OUTER_TOKENS_H

#include <jansson.h>
#include "comms/admission.h"

/* outer_tokens_join: the token of D/join.token (`path`), which each start of an outer prints: the one that is there, with the addresses of
 * `blank`, when it is of this run, for `uses` workers, not used up or revoked, and has half of its day left; else a new one. So an outer that
 * is started again and again holds few tokens that live. The file is the caller's to write. STATUS_USAGE: the list is full of tokens that can
 * still be used, there is no token; revoke some. STATUS_IO: the list cannot be stored. */
MUST_USE enum status outer_tokens_join(struct admission *admission, const struct token *blank, uint32_t uses,
                                       const char *path, uint64_t wall_s, struct token *token, struct error *error);

/* {"ttl_s": 86400, "uses": N}, both optional -> {"token": "atoll1...", "id", "state", "uses", "used", "expires_s", "left_s"}
 * blank: outer key, run name and addresses are set. default_uses: where the admin names none. */
json_t *outer_tokens_create(struct admission *admission, const struct token *blank, uint32_t default_uses,
                            const json_t *arguments, uint64_t wall_s, struct error *error);
/* -> {"tokens": [{"id", "state", "uses", "used", "expires_s", "left_s"}]}, oldest first; state: live, expired, used up, revoked. */
json_t *outer_tokens_list(struct admission *admission, uint64_t wall_s);
/* {"id": "first digits"} -> that token's row, now revoked. */
json_t *outer_tokens_revoke(struct admission *admission, const json_t *arguments, uint64_t wall_s, struct error *error);

/* {"worker": slot, name or key, "revoke": false} -> whom to drain. With "revoke" true the key may not come back from now on, durably:
 * worker->revoked. Nothing changed when it is not STATUS_OK. */
MUST_USE enum status outer_tokens_drain(struct admission *admission, const json_t *arguments,
                                        struct admission_worker *worker, struct error *error);
/* -> {"slot", "worker", "live", "revoked"}; live: it had a session, which was told to drain. */
json_t *outer_tokens_drained(const struct admission_worker *worker, bool live);

#endif
