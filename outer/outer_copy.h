/* outer_copy: the replica of the outer parameters g and the outer momentum u that the outer and every worker hold, bit-identical at
 * one version. Packed: fragment after fragment, each in its span order, so that sync touches contiguous memory only. */
#ifndef ATOLL_OUTER_OUTER_COPY_H
#define ATOLL_OUTER_OUTER_COPY_H

#include "base/arena.h"
#include "outer/fragments.h"
#include "outer/outer_step.h"
#include "outer/run_file.h"
#include "outer/state_hash.h"

struct outer_copy {
    const struct fragments *fragments; /* borrowed */
    struct outer_optimizer optimizer;
    const struct codec *codec_up, *codec_down;
    size_t *offsets; /* (fragments->count,) floats from the start of a packed array; multiples of 16 */
    size_t packed_floats;
    float *g; /* (packed_floats,) */
    float *u; /* (packed_floats,), zero at version 0 */
    struct arena arena;
};

/* outer_copy_open: takes its memory, copies g from `block` (laid out by the tensor table). STATUS_NO_MEMORY. */
MUST_USE enum status outer_copy_open(struct outer_copy *copy, const struct fragments *fragments,
                                     const struct run_file *run, const float *block, struct error *error);
void outer_copy_close(struct outer_copy *copy);

/* Hash of one fragment's (g, u), where g may be the next one prepared aside (packed, at the fragment's start). */
void outer_copy_hash(const struct outer_copy *copy, int fragment, const float *fragment_g, struct state_hash *hash);
/* Over all fragments, of the copy itself. */
void outer_copy_hash_all(const struct outer_copy *copy, struct state_hash *hash);

/* Write g into a block (block_floats,) of the tensor table: what is evaluated and exported. */
void outer_copy_to_block(const struct outer_copy *copy, float *block);

/* Bytes of a contribution (up) or a commit (down) of the fragment. */
size_t outer_copy_payload_up(const struct outer_copy *copy, int fragment);
size_t outer_copy_payload_down(const struct outer_copy *copy, int fragment);

#endif
