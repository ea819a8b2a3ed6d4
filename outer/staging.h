/* staging: which contributions may be on their way into the outer's memory at a time. Pure bookkeeping of bytes: no memory, no clock.
 *
 * A contribution's whole payload is held from the first grant until its round is durable, and a round closes with all of its contributions, so
 * one round must always fit. The fragment that is `first` may hold as much as its members send; all others together hold at most
 * slack_bytes; who does not fit waits. A fragment becomes first when what the others hold fits in the slack. So
 *
 *     held <= one round of one fragment + slack_bytes
 *
 * and the first fragment's round can always fill, whatever the others hold. When it cannot close all the same, because a member waits for
 * another fragment's round before it sends, nothing moves any more: after STAGING_PATIENCE_US of that the oldest one that waits is let in. */
#ifndef ATOLL_OUTER_STAGING_H
#define ATOLL_OUTER_STAGING_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/message.h"

enum { STAGING_SLACK_BYTES = 8 << 20, STAGING_PATIENCE_US = 10000000 };

enum staging_state { STAGING_NONE, STAGING_WAITING, STAGING_HELD };

struct staging_entry {
    enum staging_state state;
    uint64_t bytes;
    uint64_t order; /* of asking */
};

struct staging {
    uint32_t fragments;
    uint64_t slack_bytes;
    uint32_t first;
    uint64_t held_bytes; /* all fragments */
    uint64_t fragment_bytes[MESSAGE_FRAGMENTS_MAX];
    uint32_t waiting_count;
    uint64_t order;
    uint64_t moved_us; /* the last time that something came, went or arrived */
    uint64_t forced;   /* how many were let in beyond the bound */
    struct staging_entry entries[MESSAGE_WORKERS_MAX][MESSAGE_FRAGMENTS_MAX];
};

/* staging_bytes: the most that is held with `workers` members, when nothing is forced: what `atoll check` says. payload_bytes (fragments,). */
uint64_t staging_bytes(const uint64_t *payload_bytes, uint32_t fragments, uint32_t workers, uint64_t slack_bytes);

void staging_open(struct staging *staging, uint32_t fragments, uint64_t slack_bytes);
/* true: it fits and is held from here on (or is held already). false: it waits; staging_next says when it may come. */
bool staging_ask(struct staging *staging, uint32_t slot, uint32_t fragment, uint64_t bytes, uint64_t now_us);
/* Held or waiting, it is gone. */
void staging_release(struct staging *staging, uint32_t slot, uint32_t fragment, uint64_t now_us);
/* Bytes of a held one arrived: nobody is forced in while they do. */
void staging_moved(struct staging *staging, uint64_t now_us);
/* The oldest of those that wait and fit now: it is held from here on. false: none. *forced: it did not fit. */
bool staging_next(struct staging *staging, uint64_t now_us, uint32_t *slot, uint32_t *fragment, bool *forced);

#endif
