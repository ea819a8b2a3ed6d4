#include "outer/outer_memory.h"
#include "base/arena.h"
#include "outer/commit_log.h"
#include "outer/commit_maker.h"
#include "outer/snapshot.h"
#include "outer/staging.h"

enum {
    PAYLOADS_KEPT_BYTES = 48 << 20,
    PAYLOADS_KEPT_MIN = 2,    /* the newest, and the one before, which the slow may still be fetching */
    PROGRAM_BYTES = 10 << 20, /* measured: libraries, threads, the run's tables */
    LINK_BYTES =
        3
        << 18, /* per worker, measured with 32: keys, buffers, its share of the chunks between socket and main thread */
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

void outer_memory_plan(const struct fragments *fragments, const struct run_file *run, struct outer_memory *plan) {
    uint64_t payloads_up[MESSAGE_FRAGMENTS_MAX];
    size_t copy = 0;
    for (int f = 0; f < fragments->count; f++) {
        payloads_up[f] = payload_bytes(&fragments->list[f], run->sync.codec_up);
        copy += arena_round(fragments->list[f].count * sizeof(float));
    }
    uint32_t workers = (uint32_t)run->workers;
    *plan = (struct outer_memory){
        .state_bytes = 2 * copy + commit_maker_bytes(fragments, (enum outer_aggregate)run->outer.aggregate) -
                       (run->sync.error_feedback ? 0 : copy), /* a residual that is never touched takes no page */
        .commits_bytes = outer_memory_payloads_kept(fragments, run) * all_payloads_down(fragments, run),
        .staging_bytes = staging_bytes(payloads_up, (uint32_t)fragments->count, workers, STAGING_SLACK_BYTES),
        .ends_bytes = copy,
        .program_bytes = PROGRAM_BYTES + workers * (size_t)LINK_BYTES,
        .snapshots_bytes = OUTER_SNAPSHOTS_MAX * snapshot_bound(fragments->largest_count)};
    plan->peak_bytes = plan->state_bytes + plan->commits_bytes + plan->program_bytes +
                       (plan->staging_bytes > plan->ends_bytes ? plan->staging_bytes : plan->ends_bytes);
}
