/* agreement: what the members say of the state hash of each version, against the one that the outer signed. Pure.
 *
 * Every member computes every version by itself, and says the state hash that it came to. The outer's is right, or it is not:
 *
 *   few came to another              those machines erred: each fetches the fragment whole (worker/follow.h)
 *   most of the live members came    the outer's memory or arithmetic erred, and the commit names a state that nobody comes to: the outer
 *   to the same other one            drops that commit and all that follow it, and starts over from its disk
 *
 * At least AGREEMENT_MOST_MIN must say so: with one live member against the outer nobody can tell who errs. What a member said first of a
 * version counts, since it computed that; what it says later is of the copy that it fetched. Members that are catching up have no say (the
 * caller's live_mask): they may still hold a branch that the run left.
 *
 * While that is open the outer gives nobody the fragment: for AGREEMENT_OPEN_US, or until all live members have spoken. A vote that is decided
 * later still counts: who was given the wrong state meanwhile is on a lost branch then.
 *
 * What is said is of this start; what was published and dropped, and how often, outlives it (agreement_begin): what was dropped is not lost, and a
 * worker that bears a dropped commit, since it fetched it before it was dropped, must not bring it back. An outer killed right there forgets that. */
#ifndef ATOLL_OUTER_AGREEMENT_H
#define ATOLL_OUTER_AGREEMENT_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/message.h"

enum {
    AGREEMENT_VERSIONS = 4, /* of a fragment: members may be so far behind the newest one */
    AGREEMENT_MOST_MIN = 2,
    AGREEMENT_OPEN_US = 2000000,
    AGREEMENT_DROPS_MAX = 3, /* in a row: this machine is of no use */
};

struct agreement_version {
    uint64_t version; /* 0 = none */
    uint8_t signed_hash[MESSAGE_STATE_HASH_BYTES];
    uint64_t said_mask, differs_mask;
    uint64_t differs_us; /* the first that differs was heard */
    uint8_t said[MESSAGE_WORKERS_MAX][MESSAGE_STATE_HASH_BYTES];
};

struct agreement_fragment {
    struct agreement_version versions[AGREEMENT_VERSIONS]; /* at version mod AGREEMENT_VERSIONS */
    uint64_t newest;                                       /* that was published and not dropped, in any start */
    struct head dropped;                                   /* version 0 = none */
    uint32_t drops;                                        /* since a version that most agreed on */
};

struct agreement {
    struct agreement_fragment fragments[MESSAGE_FRAGMENTS_MAX];
};

/* A new start of the outer: what was said is void. All zero is a new one. */
void agreement_begin(struct agreement *agreement);

/* This version is published, with this state hash. */
void agreement_publish(struct agreement *agreement, uint32_t fragment, uint64_t version,
                       const uint8_t signed_hash[MESSAGE_STATE_HASH_BYTES]);

/* A live member came to this state hash. true: it is another than the signed one, and this is what the member said first of this version.
 * Versions that are not remembered are ignored. */
bool agreement_say(struct agreement *agreement, uint32_t slot, uint32_t fragment, uint64_t version,
                   const uint8_t said[MESSAGE_STATE_HASH_BYTES], uint64_t live_mask, uint64_t now_us);

enum agreement_verdict {
    AGREEMENT_FINE, /* nobody differs, or few do */
    AGREEMENT_OPEN, /* somebody differs, and not all have spoken: give nobody this fragment */
    AGREEMENT_MOST, /* most came to the same other hash: the outer's is wrong */
};

struct agreement_finding {
    uint64_t version; /* MOST: the oldest that most differ on */
    uint64_t mask;    /* ... who came to */
    uint8_t said[MESSAGE_STATE_HASH_BYTES];
};
enum agreement_verdict agreement_judge(const struct agreement *agreement, uint32_t fragment, uint64_t live_mask,
                                       uint64_t now_us, struct agreement_finding *finding);

/* head and what follows it are dropped. How often in a row; AGREEMENT_DROPS_MAX: leave. */
uint32_t agreement_drop(struct agreement *agreement, uint32_t fragment, const struct head *head);
/* Records above this version are none that the run misses: this process knows that the run went no further, or that what did was dropped. */
bool agreement_knows_end(const struct agreement *agreement, uint32_t fragment, uint64_t version);
/* It is what was dropped, or was made on top of it. */
bool agreement_is_dropped(const struct agreement *agreement, uint32_t fragment, const struct head *head);

#endif
