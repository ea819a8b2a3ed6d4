#include "outer/outer_memory.h"
#include "base/arena.h"
#include "comms/transfer.h"
#include "outer/commit_maker.h"
#include "outer/outer_run.h"
#include "outer/snapshot.h"

enum {
    PAYLOADS_KEPT_BYTES = 48 << 20,
    PAYLOADS_KEPT_MIN = 2, /* the newest, and the one before, which the slow may still be fetching */
    /* What no size of a run changes, seen in /proc/PID/smaps of an outer that nobody joined: 12.8 MB of pages of this program and of Debian 12's
     * libraries (3 MB of them oneDNN's, which an outer loads and never calls), and 1.4 MB of buffers and stacks of its threads. */
    PROGRAM_BYTES = 14200000,
    /* libzmq 4.3: per connection a pipe each way to the socket, and another to who admits it (ZAP), of 256 messages of 64 bytes each; a batch of
     * 8 KiB each way; and the counters of 40 bytes for the 249 smallest messages that share the batch read. */
    CONNECTION_BYTES = 4 * 256 * 64 + 2 * 8192 + 249 * 40,
    HEAPS = 2, /* glibc's: of libzmq's threads, which receive */
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

/* What `bytes` on their way out touch of the links' buffers of one chunk: also those that hold less are soon used whole. */
static size_t chunks_bytes(size_t bytes) {
    size_t chunk = MESSAGE_CHUNK_BYTES_MAX;
    return bytes > chunk ? (bytes + chunk - 1) / chunk * chunk : bytes;
}

/* What moves: the `staged` contributions, with the memory that is kept for the next ones' (outer_run.h: spares). In the sockets, of each worker a window
 * of more that came while this thread was busy; it sends at most one payload per fragment, and each of its bytes is in one of the two places. And of
 * each worker a window of a commit: with two rounds open one's commit goes out while the other's contributions come. Receiving and sending have
 * memory of their own, neither uses what the other freed. When all is still, each keeps a little of it (outer_daemon.c, comms/link.h). */
static void plan_transfers(const struct fragments *fragments, const struct run_file *run, size_t *moving,
                           size_t *kept) {
    uint64_t payloads_up[MESSAGE_FRAGMENTS_MAX];
    size_t workers = (size_t)run->workers, window = transfer_window_bytes((uint32_t)workers);
    size_t up = 0, all_up = 0, down = 0;
    for (int f = 0; f < fragments->count; f++) {
        payloads_up[f] = payload_bytes(&fragments->list[f], run->sync.codec_up);
        all_up += payloads_up[f];
        up = larger(up, payloads_up[f]);
        down = larger(down, payload_bytes(&fragments->list[f], run->sync.codec_down));
    }
    size_t staged = staging_bytes(payloads_up, (uint32_t)fragments->count, (uint32_t)workers, STAGING_SLACK_BYTES);
    size_t received = workers * smaller(up, window), sent = workers * chunks_bytes(smaller(down, window)),
           pool = smaller(sent, (size_t)LINK_CHUNKS_KEPT * MESSAGE_CHUNK_BYTES_MAX);
    *moving = smaller(workers * all_up, staged + received) + sent;
    *kept =
        smaller(received, (size_t)HEAPS * OUTER_HEAP_KEPT_BYTES) + pool + smaller(sent - pool, OUTER_HEAP_KEPT_BYTES);
}

/* Tables that are written whole when they are opened; the block in which records go to the disk; tables of sessions and commits, where somebody
 * is; and the links. */
static size_t table_bytes(const struct fragments *fragments, size_t workers) {
    size_t commits = (size_t)fragments->count * COMMIT_LOG_KEPT * sizeof(struct outer_commit);
    return sizeof(struct round_machine) + sizeof(struct staging) + COMMIT_RECORD_BLOCK_BYTES + commits +
           workers * (sizeof(struct outer_session) + LANES * CONNECTION_BYTES);
}

void outer_memory_plan(const struct fragments *fragments, const struct run_file *run, struct outer_memory *plan) {
    size_t copy = 0, moving, kept;
    bool feedback = run->sync.error_feedback && !codec_get((enum codec_id)run->sync.codec_down)->exact;
    for (int f = 0; f < fragments->count; f++)
        copy += arena_round(fragments->list[f].count * sizeof(float));
    plan_transfers(fragments, run, &moving, &kept);
    *plan = (struct outer_memory){
        .state_bytes = 2 * copy + commit_maker_bytes(fragments, (enum outer_aggregate)run->outer.aggregate) -
                       (feedback ? 0 : copy), /* a residual that is never touched takes no page */
        .commits_bytes = outer_memory_payloads_kept(fragments, run) * all_payloads_down(fragments, run),
        .staging_bytes = moving,
        .ends_bytes = copy + kept,
        .program_bytes = PROGRAM_BYTES + table_bytes(fragments, (size_t)run->workers),
        .snapshots_bytes = OUTER_SNAPSHOTS_MAX * snapshot_bound(fragments->largest_count)};
    plan->peak_bytes =
        plan->state_bytes + plan->commits_bytes + plan->program_bytes + larger(plan->staging_bytes, plan->ends_bytes);
}
