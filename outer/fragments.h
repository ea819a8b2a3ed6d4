/* fragments: which parameters travel together. Built once from the tensor table and the schedule's keys; read-only afterwards.
 *
 *   n = ceil(layers / fragment_layers) layer fragments; e.g. 6 layers by 3, n = 2:
 *
 *     layer        0  1  2  3  4  5
 *     strided      0  1  0  1  0  1     l mod n                     (default: each fragment spans the depth of the model)
 *     sequential   0  0  0  1  1  1     floor(l / fragment_layers)
 *     embedding, final norm, head       n: one more fragment, the last
 *
 *   fragment_layers 0 ("all"): one fragment with everything.
 *
 * Balance. By layers, fragments are as large as their layers: an embedding of many words can outweigh all others, and the largest fragment
 * rules the peak of a link. By bytes, the tensors in the order above (fragment 0's, fragment 1's, .., the embedding's) are cut into as many
 * parts of equal size, each cut at a row: fragments keep their place in the depth of the model but for their ends, and differ by less than
 * two rows (of at most max(width, ffn) parameters).
 *
 *     by layers  |  0 2 4      |  1 3 5      | embedding, norm                  |
 *     by bytes   |  0 2 4    1 '   |   3 5 emb'edding     |                     |
 *
 * Invariant: every parameter is in exactly one fragment; a span lies in one tensor (by layers it is the tensor). A fragment's packed form is
 * its spans' values back to back: the order of payloads, hashes and residuals. */
#ifndef ATOLL_OUTER_FRAGMENTS_H
#define ATOLL_OUTER_FRAGMENTS_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "model/tensors.h"
#include "quant/codec.h"

enum { FRAGMENT_NAME_BYTES = 64, FRAGMENT_LAYERS_ALL = 0 };

/* Same order as the run file's sync.pattern. */
enum fragment_pattern { FRAGMENT_PATTERN_STRIDED, FRAGMENT_PATTERN_SEQUENTIAL };

/* Same order as the run file's sync.balance. */
enum fragment_balance { FRAGMENT_BALANCE_LAYERS, FRAGMENT_BALANCE_BYTES };

struct fragment {
    int index;
    char name
        [FRAGMENT_NAME_BYTES]; /* "layers 0,2,4", "embedding and norm", "all", by bytes "rows of layers 4,1 and the rest": for people; cut with
                                  ".." when long */
    struct codec_span *spans; /* (span_count,) offsets into a block; owned by struct fragments */
    int span_count;
    size_t count; /* floats when packed: the sum of the spans' counts */
};

struct fragments {
    struct fragment *list; /* (count,) */
    int count;
    size_t largest_count;     /* floats of the largest fragment: the room a staging buffer needs */
    struct codec_span *spans; /* all fragments' spans, one allocation */
};

/* fragments_create: *fragments owns its memory until fragments_destroy; the table is only read. CHECKs layers >= 1 and
 * fragment_layers >= 0 (the run file was validated); fragment_layers above `layers` counts as `layers`. STATUS_NO_MEMORY. */
MUST_USE enum status fragments_create(const struct tensor_table *table, int64_t layers, int64_t fragment_layers,
                                      enum fragment_pattern pattern, enum fragment_balance balance,
                                      struct fragments *fragments, struct error *error);
void fragments_destroy(struct fragments *fragments);

/* fragment_gather: block -> packed (fragment->count,). fragment_scatter: packed -> block, gaps untouched. Copies, nothing else. */
void fragment_gather(const struct fragment *fragment, const float *block, float *packed);
void fragment_scatter(const struct fragment *fragment, const float *packed, float *block);

#endif
