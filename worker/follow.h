/* follow: how a worker follows the chains of commits. Pure: follow_step(machine, event, actions); no socket, clock, file, thread or
 * allocation. It decides what is fetched and received; the sync thread moves the bytes, applies versions and owns the buffers.
 *
 *   STATE (the outer leads; the run's heads) ---> FETCH of each fragment where the tail of what is here or on its way is another
 *   COMMIT that follows the tail -------------> RECEIVE its payload; WHOLE -> applied by the owner, oldest first -> APPLIED
 *   SNAPSHOT after a FETCH -------------------> what was on its way is DROPped, RECEIVE it; commits that follow it queue behind it
 *   COMMIT that does not follow -------------> FETCH (a gap, or another branch); what is known already is ignored
 *   DIFFERS: its state hash was wrong here ---> the fragment is fetched whole
 *   every fragment at STATE's head or beyond -> JOINED, once per STATE
 *
 * Invariant: the queue of a fragment is a chain, each entry the parent of the next, the first following what is held, or a snapshot. */
#ifndef ATOLL_WORKER_FOLLOW_H
#define ATOLL_WORKER_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/message.h"

enum { FOLLOW_QUEUED_MAX = 16 };

enum follow_event_kind {
    FOLLOW_EVENT_SESSION,  /* a session begins (WELCOME): what was asked for may be lost */
    FOLLOW_EVENT_STATE,    /* heads (fragments,) */
    FOLLOW_EVENT_COMMIT,   /* fragment, head, parent */
    FOLLOW_EVENT_SNAPSHOT, /* fragment, head */
    FOLLOW_EVENT_APPLIED,  /* fragment: the oldest entry is prepared or merged: it is held now */
    FOLLOW_EVENT_DIFFERS,  /* fragment: the oldest entry does not lead to its state hash, from what is held here */
};

struct follow_event {
    enum follow_event_kind kind;
    uint32_t fragment;
    struct head head;
    uint8_t parent[MESSAGE_HASH_BYTES];
    const struct head *heads; /* STATE: borrowed for the call */
};

enum follow_action_kind {
    FOLLOW_ACTION_FETCH,   /* fragment, have: say FETCH */
    FOLLOW_ACTION_RECEIVE, /* fragment, index: a new entry at the end of its queue; get its bytes */
    FOLLOW_ACTION_DROP,    /* fragment: throw away all entries of its queue */
    FOLLOW_ACTION_JOINED,  /* say JOINED, and all offers that are in flight */
    FOLLOW_ACTION_LOST, /* fragment: the run stands at its beginning, and this worker bears more: it must not be reset */
};

struct follow_action {
    enum follow_action_kind kind;
    uint32_t fragment;
    uint32_t index;
    struct head have;
};

enum { FOLLOW_ACTIONS_MAX = 3 * MESSAGE_FRAGMENTS_MAX };
struct follow_actions {
    uint32_t count;
    struct follow_action list[FOLLOW_ACTIONS_MAX];
};

struct follow_fragment {
    struct head held; /* newest applied; nothing after DIFFERS, */
    bool doubts;      /* ... when it was `doubted`, and is still here */
    struct head doubted;
    struct head queue[FOLLOW_QUEUED_MAX]; /* oldest first */
    uint32_t queue_count;
    bool first_is_snapshot;
    bool of_run;       /* that snapshot was said after STATE; one from before may be of a branch that was left */
    bool here;         /* held is STATE's head, or one that follows it */
    bool fetching;     /* FETCH said, its answer awaited */
    struct head asked; /* what the FETCH said is here */
    bool behind;       /* a commit was passed over: the queue is full, or it did not follow while fetching */
};

struct follow {
    uint32_t fragments;
    bool stated, joined;
    struct head wanted[MESSAGE_FRAGMENTS_MAX];
    struct follow_fragment list[MESSAGE_FRAGMENTS_MAX];
};

/* held (fragments,): what this worker bears, of its checkpoint or of the seed. */
void follow_open(struct follow *follow, uint32_t fragments, const struct head *held);
/* Appends to `actions` (the caller zeroes the count). */
void follow_step(struct follow *follow, const struct follow_event *event, struct follow_actions *actions);

#endif
