#include "outer/outer_memory.h"
#include "base/arena.h"
#include "comms/transfer.h"
#include "outer/commit_maker.h"
#include "outer/outer_run.h"
#include "outer/snapshot.h"

enum {
    PAYLOADS_KEPT_BYTES = 48 << 20,
    PAYLOADS_KEPT_MIN = 2, /* the newest, and the one before, which the slow may still be fetching */
    /* What an outer without workers or parameters touches, and no size of a run changes: pages of this program and its libraries (8.4 MB of
     * Debian 12's files), and 3.6 MB of heaps and stacks of its threads, a part of them kept though free (outer_daemon.c). Seen in /proc/PID/smaps. */
    LIBRARIES_BYTES = 12000000,
    /* libzmq 4.3: per connection a pipe each way, of 256 messages of 64 bytes, and a batch of 8 KiB each way. */
    CONNECTION_BYTES = 2 * (256 * 64 + 8192),
    LANES = 2, /* control, bulk */
};

static size_t payload_bytes(const struct fragment *fragment, int64_t codec) {
    return codec_payload_bytes(codec_get((enum codec_id)codec), fragment->spans, fragment->span_count);
}

static size_t all_payloads_down(const struct fragments *fragments, const struct run_file *run) {
    size_t bytes = 0;
    for (int f = 0; f < fragments->count; f++)
        bytes += payload_bytes(&fragments->list[f], run->sync.codec_down);
    return bytes;
}

uint32_t outer_memory_payloads_kept(const struct fragments *fragments, const struct run_file *run) {
    size_t count = PAYLOADS_KEPT_BYTES / all_payloads_down(fragments, run);
    if (count > COMMIT_LOG_KEPT)
        return COMMIT_LOG_KEPT;
    return count < PAYLOADS_KEPT_MIN ? PAYLOADS_KEPT_MIN : (uint32_t)count;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* What moves. Before a round closes: the `staged` contributions, and of each worker a window of more that came while this thread was busy; a worker
 * sends at most one payload per fragment, and each of its bytes is in one of the two places. When its commit goes out, the memory of that round's
 * contributions is kept for the next ones' (outer_run.h: spares); and of each worker a chunk waits for its socket. */
static void plan_transfers(const struct fragments *fragments, const struct run_file *run, size_t *before,
                           size_t *after) {
    uint64_t payloads_up[MESSAGE_FRAGMENTS_MAX];
    size_t workers = (size_t)run->workers, up = 0, all_up = 0, down = 0;
    for (int f = 0; f < fragments->count; f++) {
        payloads_up[f] = payload_bytes(&fragments->list[f], run->sync.codec_up);
        all_up += payloads_up[f];
        up = larger(up, payloads_up[f]);
        down = larger(down, payload_bytes(&fragments->list[f], run->sync.codec_down));
    }
    size_t staged = staging_bytes(payloads_up, (uint32_t)fragments->count, (uint32_t)workers, STAGING_SLACK_BYTES);
    *before = smaller(workers * all_up, staged + workers * smaller(up, transfer_window_bytes((uint32_t)workers)));
    *after = staged + workers * smaller(down, MESSAGE_CHUNK_BYTES_MAX);
}

/* Tables that are written whole when they are opened; those of sessions and commits, where somebody is; and the links. */
static size_t table_bytes(const struct fragments *fragments, size_t workers) {
    size_t commits = (size_t)fragments->count * COMMIT_LOG_KEPT * sizeof(struct outer_commit);
    return sizeof(struct round_machine) + sizeof(struct staging) + commits +
           workers * (sizeof(struct outer_session) + LANES * CONNECTION_BYTES);
}

void outer_memory_plan(const struct fragments *fragments, const struct run_file *run, struct outer_memory *plan) {
    size_t copy = 0, before, after;
    bool feedback = run->sync.error_feedback && !codec_get((enum codec_id)run->sync.codec_down)->exact;
    for (int f = 0; f < fragments->count; f++)
        copy += arena_round(fragments->list[f].count * sizeof(float));
    plan_transfers(fragments, run, &before, &after);
    *plan = (struct outer_memory){
        .state_bytes = 2 * copy + commit_maker_bytes(fragments, (enum outer_aggregate)run->outer.aggregate) -
                       (feedback ? 0 : copy), /* a residual that is never touched takes no page */
        .commits_bytes = outer_memory_payloads_kept(fragments, run) * all_payloads_down(fragments, run),
        .staging_bytes = larger(before, after),
        .ends_bytes = copy,
        .program_bytes = LIBRARIES_BYTES + table_bytes(fragments, (size_t)run->workers),
        .snapshots_bytes = OUTER_SNAPSHOTS_MAX * snapshot_bound(fragments->largest_count)};
    plan->peak_bytes =
        plan->state_bytes + plan->commits_bytes + plan->program_bytes + larger(plan->staging_bytes, plan->ends_bytes);
}
