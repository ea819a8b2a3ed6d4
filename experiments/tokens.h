/* tokens: who may come and who must go, while a run is live: `atoll token create | list | revoke` and `atoll drain`. The outer's end is
 * outer/outer_tokens.c. */
#ifndef ATOLL_EXPERIMENTS_TOKENS_H
#define ATOLL_EXPERIMENTS_TOKENS_H

#include <jansson.h>
#include <stdio.h>

int token_command(int argc, char **argv);
int drain_command(int argc, char **argv);

/* What people see of the outer's answers. */
void tokens_print_created(const json_t *answer, FILE *to);
void tokens_print_list(const json_t *answer, FILE *to);
void tokens_print_revoked(const json_t *answer, FILE *to);
void tokens_print_drained(const json_t *answer, FILE *to);

#endif
