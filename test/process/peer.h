/* peer: what the files of the test peer share; see the head of peer.c. */
#ifndef ATOLL_TEST_PROCESS_PEER_H
#define ATOLL_TEST_PROCESS_PEER_H

#include "comms/link.h"

enum { SECOND_US = 1000000 };

extern struct link_event event;        /* the newest */
extern struct message out;             /* the next */
extern struct certificate certificate; /* of the newest enrol */
extern uint64_t spoken_tokens;         /* not 0: an OFFER says that many, whatever the wire allows */

void must(enum status status, const struct error *error);
int refusal(void);                    /* of the REFUSE in `event`: prints it, returns the exit code */
int other_ending(const char *wanted); /* `event` is not what was wanted: likewise */
bool wait_kind(struct worker_link *link, enum link_event_kind kind, enum message_type type);
void send_message(struct worker_link *link); /* `out` */
void send_goodbye(struct worker_link *link, uint64_t session);
int enrol(const struct token *token, const struct node_keys *keys);
/* A link whose HELLO was answered: `event` holds the WELCOME. */
struct worker_link *welcomed(const struct token *token, const struct node_keys *keys, uint64_t incarnation,
                             uint64_t *session);

/* peer_member.c */
int peer_ready(const struct token *token, const char *directory, const char *what);
int peer_crooked(const struct token *token, const char *directory);
int peer_flood(const struct token *token, const char *directory);
int peer_greedy(const struct token *token, const char *directory);

#endif
