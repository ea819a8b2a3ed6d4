/* bench_bare: what the link itself costs: a ROUTER and DEALERs behind CURVE over loopback that move the bytes of a round and do nothing
 * else. The pattern is that of a round: fragment after fragment, up from all workers, then down to all; each chunk a message of a header
 * and a payload, as many under way as the window of a transfer has. Sends copy nothing: the payload is given to libzmq as it is. */
#ifndef ATOLL_EXPERIMENTS_BENCH_BARE_H
#define ATOLL_EXPERIMENTS_BENCH_BARE_H

#include <stddef.h>
#include "comms/message.h"
#include "experiments/bench_nodes.h"

enum { BENCH_CURVE_KEY_BYTES = 41, BENCH_ENDPOINT_BYTES = 64 };

struct bench_bare {
    int workers;
    int fragments;
    size_t up_bytes[MESSAGE_FRAGMENTS_MAX], down_bytes[MESSAGE_FRAGMENTS_MAX];
    size_t chunk_bytes;
    int window_chunks;
    struct bench_node outer, nodes[MESSAGE_WORKERS_MAX];
    char outer_public[BENCH_CURVE_KEY_BYTES], outer_secret[BENCH_CURVE_KEY_BYTES]; /* Z85 */
    char endpoint[BENCH_ENDPOINT_BYTES];
};

/* bench_bare_start: the first five fields are set. Starts the processes and waits until all are connected. On failure none is left. */
MUST_USE enum status bench_bare_start(struct bench_bare *bare, const char *directory, struct error *error);

/* One round. *seconds of the wall. */
MUST_USE enum status bench_bare_round(const struct bench_bare *bare, double *seconds, struct error *error);
void bench_bare_stop(struct bench_bare *bare);

#endif
