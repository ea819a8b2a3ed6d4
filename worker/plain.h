/* plain: `sync: off`: one process trains alone. With the global batch this is the data-parallel baseline. */
#ifndef ATOLL_WORKER_PLAIN_H
#define ATOLL_WORKER_PLAIN_H

#include "outer/run_file.h"

/* Trains to the end (or SIGTERM), logs to DIRECTORY/log.jsonl, writes DIRECTORY/model. A directory that holds a checkpoint (kind "plain", every
 * checkpoint.every and when it leaves) is gone on from, bit for bit. Returns the exit code; errors are on stderr. */
int worker_plain(const struct run_file *run, const char *directory);

#endif
