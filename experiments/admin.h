/* admin: ask a running outer on behalf of whoever can read its seed file. */
#ifndef ATOLL_EXPERIMENTS_ADMIN_H
#define ATOLL_EXPERIMENTS_ADMIN_H

#include <jansson.h>
#include "base/status.h"

struct admin;

/* directory: the outer's run directory, or that of `atoll train` (whose outer/ is taken). Connects when first asked.
 * STATUS_NOT_FOUND when there is no outer's directory. */
MUST_USE enum status admin_open(const char *directory, struct admin **admin, struct error *error);
void admin_close(struct admin *admin);

/* admin_ask: one request, one answer (new reference). arguments may be NULL. STATUS_UNREACHABLE: the outer does not run;
 * STATUS_USAGE: it refused, with its text. */
MUST_USE enum status admin_ask(struct admin *admin, const char *verb, const json_t *arguments, json_t **answer,
                               struct error *error);

/* The three in one. */
MUST_USE enum status admin_ask_once(const char *directory, const char *verb, const json_t *arguments, json_t **answer,
                                    struct error *error);

/* ---- what the commands share ---- */

/* "atoll COMMAND: text" on standard error; returns the exit code. */
int admin_fail(const char *command, const struct error *error);
void admin_print_json(const json_t *answer);
/* A member of an answer; 0 and "" where there is none. */
long long admin_integer(const json_t *object, const char *key);
const char *admin_text(const json_t *object, const char *key);

#endif
