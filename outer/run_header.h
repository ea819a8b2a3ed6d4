/* run_header: the first record of every log.jsonl: what ran where, so that a log explains itself. */
#ifndef ATOLL_OUTER_RUN_HEADER_H
#define ATOLL_OUTER_RUN_HEADER_H

#include <jansson.h>
#include "comms/message.h"
#include "outer/outer_copy.h"

struct run_header {
    const char *role; /* "outer", "worker", "plain" */
    const char *node;
    int64_t slot;          /* -1 = none */
    const uint8_t *run_id; /* MESSAGE_HASH_BYTES, or NULL */
    const struct run_file *run;
    const struct tensor_table *table;
    const struct outer_copy *copy;             /* NULL with sync off */
    uint64_t up_bytes_per_s, down_bytes_per_s; /* this node's caps, 0 = none */
};

/* New reference. Field names are those of the public table in experiments/run_log.h. */
json_t *run_header_json(const struct run_header *header);

#endif
