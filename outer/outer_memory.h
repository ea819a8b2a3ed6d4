/* outer_memory: what an outer needs, from the run file alone; `atoll check` says it, test/process/outer_memory.sh holds a real one against it.
 *
 *   g, u, residual | payloads of the newest commits | what is on its way (outer/staging.h) | the program
 *                                                          `- or, at the ends of a run, the parameters once more
 * On top, while somebody fetches whole fragments: OUTER_SNAPSHOTS_MAX of them, packed. */
#ifndef ATOLL_OUTER_OUTER_MEMORY_H
#define ATOLL_OUTER_OUTER_MEMORY_H

#include <stddef.h>
#include "outer/fragments.h"
#include "outer/run_file.h"

enum {
    OUTER_SNAPSHOTS_MAX = 2,         /* whole fragments in memory at a time; who wants another waits */
    OUTER_HEAP_KEPT_BYTES = 2 << 20, /* how much free memory at its end each of glibc's heaps keeps */
};

struct outer_memory {
    size_t state_bytes;   /* g, u, residual */
    size_t commits_bytes; /* payloads kept for replay */
    size_t staging_bytes; /* contributions in staging; contributions and commits in the sockets */
    size_t
        ends_bytes; /* at the start, and when the model is exported: the parameters once more, and what the heaps keep; staging is empty */
    size_t program_bytes;   /* libraries, tables, links */
    size_t peak_bytes;      /* of all these */
    size_t snapshots_bytes; /* more, while whole fragments are fetched */
};

void outer_memory_plan(const struct fragments *fragments, const struct run_file *run, struct outer_memory *plan);

/* Per fragment, how many of the newest commits stay in memory, to be replayed: all COMMIT_LOG_KEPT where they are small; 2 at least. Who
 * needs an older one fetches the whole fragment. */
uint32_t outer_memory_payloads_kept(const struct fragments *fragments, const struct run_file *run);

#endif
