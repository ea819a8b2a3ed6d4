/* members: who takes part. Pure. A slot is a place in the run, given to a key for good; an incarnation is one start of a worker process
 * on it. */
#ifndef ATOLL_OUTER_MEMBERS_H
#define ATOLL_OUTER_MEMBERS_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/message.h"

enum member_state {
    MEMBER_ABSENT, /* never joined, or left before the start */
    MEMBER_LIVE,   /* joined; its contributions are expected */
    MEMBER_DONE,   /* live, trained to the end, nothing unsent: expected no more */
    MEMBER_FINAL,  /* done, and holds the final versions */
    MEMBER_LOST,   /* link lost or goodbye after the start; may come back, with the same incarnation or a new one */
};

struct member {
    enum member_state state;
    uint64_t incarnation;
    uint64_t joined_step; /* expected in rounds of later steps only */
    /* Largest since it joined. Sends come in the order of steps: rounds of earlier ones get nothing more from it. */
    uint64_t offered_step;
    uint64_t lost_us; /* LOST since */
    bool has_validation;
    bool reached; /* trained to the last step */
    bool blocked; /* it can send nothing before another commit */
};

struct members {
    struct member slot[MESSAGE_WORKERS_MAX];
};

bool member_is_connected(const struct member *member); /* LIVE, DONE or FINAL */
bool member_is_expected(const struct member *member);  /* LIVE */
uint32_t members_connected(const struct members *members);
uint32_t members_expected(const struct members *members);
uint64_t members_live_mask(const struct members *members);
/* The connected worker with the lowest slot that has the held-out text; UINT32_MAX when none has. */
uint32_t members_evaluator(const struct members *members);

#endif
