/* local_resume: what `atoll train --resume D` must know before it starts anything: which run D holds, whether it may go on with these
 * overrides, and whether anything is left to do. Changes nothing in D. */
#ifndef ATOLL_EXPERIMENTS_LOCAL_RESUME_H
#define ATOLL_EXPERIMENTS_LOCAL_RESUME_H

#include <stdbool.h>
#include "outer/run_file.h"

/* local_resume_load: D/run.yaml with the overrides ("key=value"); workers: as many as the command line says, 0 = nothing. *complete: the
 * run was trained to its end, and these overrides give it no more steps.
 * STATUS_NOT_FOUND: D is no directory of `atoll train`. STATUS_CONFIG: the run file is wrong, or a key would change that the run's
 * identity hangs on: the text names the first such key, its value and the new one. */
MUST_USE enum status local_resume_load(const char *directory, const char *const *overrides, int count, int64_t workers,
                                       struct run_file *run, bool *complete, struct error *error);

/* local_resume_is_complete: the run in D was trained to its end, with no fewer steps than `run` has; its model is there,
 * and the outer's state (outer.json). */
bool local_resume_is_complete(const char *directory, const struct run_file *run);

/* local_resume_busy: a process of an earlier start still holds its part of D (it was told to stop, and is saving what it has): its name
 * ("outer", "worker-3"); else NULL. The text lives until the next call. */
const char *local_resume_busy(const char *directory, const struct run_file *run);

/* local_resume_ports_taken: another process listens on this machine where the outer that wrote the join.token at `path` did. false also
 * where no token can be read there. */
bool local_resume_ports_taken(const char *path);

#endif
