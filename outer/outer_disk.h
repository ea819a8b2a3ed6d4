/* outer_disk: the little that an outer keeps besides its keys, its members (comms/admission.h) and its commits
 * (outer/commit_log.h): the file D/outer.json, replaced as a whole at each change.
 *
 *   {"schema": 1, "run_id": "9f...", "name": "novels-4", "epoch": 1795351791, "started": true, "ended": false, "finished": false,
 *    "live": [0, 2]}
 *
 * The caller holds the lock of D (files_lock). */
#ifndef ATOLL_OUTER_OUTER_DISK_H
#define ATOLL_OUTER_OUTER_DISK_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "comms/message.h"

struct outer_disk_state {
    uint64_t epoch;     /* of the newest start that led; 0 = never began one */
    bool started;       /* START was said */
    bool ended;         /* END was said */
    bool finished;      /* FINISH was said: all versions are final */
    uint64_t live_mask; /* bit slot: who was live when this was written */
};

struct outer_disk {
    char path[PATH_MAX]; /* of outer.json */
    uint8_t run_id[MESSAGE_HASH_BYTES];
    char name[MESSAGE_NAME_BYTES];
    struct outer_disk_state state; /* as on the disk; change it by outer_disk_write */
};

/* outer_disk_open: what D/outer.json says. *found = false: there is none, and the state is all zero. Removes what a
 * killed process left of a write. run_id and name are this run's.
 *   STATUS_CONFIG  D is of another run, or another schema: nothing was touched; exit
 *   STATUS_DATA    torn or foreign: the text says how to go on without it; exit
 *   STATUS_IO */
MUST_USE enum status outer_disk_open(struct outer_disk *disk, const char *directory,
                                     const uint8_t run_id[MESSAGE_HASH_BYTES], const char *name, bool *found,
                                     struct error *error);

/* outer_disk_begin_epoch: raise the epoch, durably, to the seconds since 1970, and in any case above its own and above `seen` (the newest of any
 * head that this outer knows: of commits that it signed, never of what a peer only says). Before anything is sent in it. Why seconds:
 * an outer put back twice from one backup must not lead two branches in one epoch, since then the older would pass for the newer. A
 * clock that went back is no harm but for that, nor is one that was ahead: the epochs that follow go on from there.
 * STATUS_IO (or STATUS_DATA: it is at its end), the epoch is as it was: do not begin. */
MUST_USE enum status outer_disk_begin_epoch(struct outer_disk *disk, uint64_t seen, uint64_t wall_s,
                                            struct error *error);

/* outer_disk_write: make `state` the one on the disk; nothing is written when it is already. CHECKs that the epoch does
 * not go back. STATUS_IO, disk->state as it was: try again at the next change. */
MUST_USE enum status outer_disk_write(struct outer_disk *disk, const struct outer_disk_state *state,
                                      struct error *error);

#endif
