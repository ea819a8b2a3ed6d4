/* outer_answer: the text of what an admin asked for. */
#ifndef ATOLL_OUTER_OUTER_ANSWER_H
#define ATOLL_OUTER_OUTER_ANSWER_H

#include <jansson.h>

/* malloc'ed, at most MESSAGE_LONG_TEXT_MAX long. A status that is longer (64 workers of 128 fragments) goes without its workers' `versions`, which are
 * most of it; `lag` says what matters of them. NULL: too long all the same, or no memory. */
char *outer_answer_text(json_t *answer);

#endif
