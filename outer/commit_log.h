/* commit_log: the commits that the outer made, on its disk: D/commits, one file per commit. A commit is durable before
 * it is first sent, so that an outer killed at any instruction goes on where the workers saw it last (DESIGN.md section
 * 5, "Coming back").
 *
 *   f003-v000000123          version 123 of fragment 3: enough to step from version 122 to it
 *   f003-v000000124.full     the same, and g and u after it: enough to begin from
 *   f003.tmp                 a record that was being written when the outer died; removed by the next open
 *   bad.NAME                 set aside: torn, flipped, or of a branch that the run left. Never read again: for a person
 *                            to look at and remove
 *
 * Disk space of a run, per fragment: with payload p bytes, c floats, n = checkpoint.full_every, at most
 *
 *   records * (p + 4 c + 8 KiB) + ceil(records / n) * 8 c bytes,   records = max(2 n, COMMIT_LOG_KEPT) + 1
 *
 * and one record more while it is written; without error feedback there is no 4 c. The log has one user thread at a
 * time, and one process (files_lock). Invariant: a name in D/commits without prefix or .tmp is a record that was
 * written whole and synced. */
#ifndef ATOLL_OUTER_COMMIT_LOG_H
#define ATOLL_OUTER_COMMIT_LOG_H

#include "outer/commit_record.h"

/* The newest commits of a fragment that are kept whatever the full records say: what a worker that was away replays. */
enum { COMMIT_LOG_KEPT = 8 };

struct commit_log;

/* commit_log_open: makes D/commits when it is missing, reads names only; what is there is durable then. shapes
 * (fragments,), copied. Of two records of one version the full one stays, the other is set aside. STATUS_IO,
 * STATUS_NO_MEMORY: the outer cannot run. */
MUST_USE enum status commit_log_open(struct commit_log **log, const char *directory,
                                     const struct commit_record_shape *shapes, uint32_t fragments, struct error *error);
void commit_log_close(struct commit_log *log);

/* commit_log_append: all arrays borrowed.
 *   commit    version = newest + 1; any version above the newest when full (a whole fragment was taken over)
 *   payload   (shape.payload_bytes,); NULL only when full: nobody will be able to replay this commit
 *   residual  (floats,) the outer's residual of the way down after it; NULL = there is none (reads back as zeros)
 *   g, u      (floats,) after it, or both NULL: not full
 * STATUS_OK: durable, it may be sent. STATUS_IO, STATUS_NO_MEMORY: nothing was logged, nothing is left on the disk, and
 * nothing of it may be sent: the text says what to do; the same call may be tried again. One pass. */
MUST_USE enum status commit_log_append(struct commit_log *log, const struct commit *commit, const uint8_t *payload,
                                       const float *residual, const float *g, const float *u, struct error *error);

/* By name: nothing is read. 0 = none. */
uint64_t commit_log_newest(const struct commit_log *log, uint32_t fragment);
/* The newest full version below `below` (UINT64_MAX: of all). */
uint64_t commit_log_full_below(const struct commit_log *log, uint32_t fragment, uint64_t below);
/* The newest version that was ever logged and not pruned, those set aside included: above what a restore reached, the
 * run went further than this disk can tell. */
uint64_t commit_log_newest_ever(const struct commit_log *log, uint32_t fragment);

/* commit_log_read: any of the outputs may be NULL: checked, not kept. payload (shape.payload_bytes,) is filled when
 * holds->payload; residual (floats,) always; g and u (floats,) when holds->full. `holds` is never NULL. Costs one pass
 * over the file. Outputs are unspecified unless STATUS_OK. The text names the file.
 *   STATUS_NOT_FOUND  no such record
 *   STATUS_DATA       torn, flipped, or not what its name says: commit_log_set_aside
 *   STATUS_CONFIG     a whole record, but of another schema or of a run of other sizes: stop, touch nothing
 *   STATUS_IO         the disk does not give it: stop, touch nothing */
MUST_USE enum status commit_log_read(struct commit_log *log, uint32_t fragment, uint64_t version, struct commit *commit,
                                     uint8_t *payload, float *residual, float *g, float *u,
                                     struct commit_record_holds *holds, struct error *error);

/* commit_log_set_aside: rename the records of `from` and all later versions to bad.NAME, newest first, durably; an
 * older file of that name is replaced. *count (may be NULL): how many. STATUS_IO: the others are still there. */
MUST_USE enum status commit_log_set_aside(struct commit_log *log, uint32_t fragment, uint64_t from, uint32_t *count,
                                          struct error *error);

/* commit_log_prune: remove what neither a restore nor a worker needs: everything older than the second newest full
 * record, but for the newest COMMIT_LOG_KEPT commits. With fewer than two full records everything stays: the seed is
 * the other start. STATUS_IO: a file could not be removed; the next call tries again. */
MUST_USE enum status commit_log_prune(struct commit_log *log, uint32_t fragment, struct error *error);

#endif
