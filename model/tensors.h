/* tensors: the one table of the model's parameters: Hugging Face name, shape, offset. Optimizer, fragments, codecs, checkpoint
 * and hash are linear passes over it. Parameters, gradients, moments, outer copy, momentum and residual are one 64-byte-aligned
 * f32 block each, all laid out by this table: tensors in table order, each starting at a multiple of 16 floats; the gaps are
 * zero and stay zero. */
#ifndef ATOLL_MODEL_TENSORS_H
#define ATOLL_MODEL_TENSORS_H

#include <stddef.h>
#include <stdint.h>
#include "model/shape.h"

enum { TENSOR_NAME_BYTES = 80, TENSOR_ALIGNMENT_FLOATS = 16, TENSOR_LAYER_NONE = -1 };

struct tensor {
    char name[TENSOR_NAME_BYTES]; /* model.layers.3.self_attn.q_proj.weight */
    int rows;                     /* 2-D: (rows, columns) = (out, in), row-major; 1-D: rows = 1 */
    int columns;
    int dimensions; /* 1 or 2; weight decay applies to 2 */
    int layer;      /* 0-based, or TENSOR_LAYER_NONE for embedding, final norm, head */
    size_t offset;  /* in floats from the start of a block */
    size_t count;   /* rows * columns */
};

/* Order: embed_tokens; per layer input_layernorm, q_proj, k_proj, v_proj, q_norm, k_norm, o_proj, post_attention_layernorm,
 * gate_proj, up_proj, down_proj; norm; lm_head (absent when tied). */
enum layer_tensor {
    LAYER_INPUT_NORM,
    LAYER_Q,
    LAYER_K,
    LAYER_V,
    LAYER_Q_NORM,
    LAYER_K_NORM,
    LAYER_O,
    LAYER_POST_NORM,
    LAYER_GATE,
    LAYER_UP,
    LAYER_DOWN,
    LAYER_TENSORS,
};
struct tensor_table {
    struct tensor *tensors;
    int count;
    size_t parameter_count; /* sum of counts, without gaps */
    size_t block_floats;    /* floats of one block, gaps included, a multiple of 16 */
};

/* tensors_table_create: *table owns its memory until tensors_table_destroy. STATUS_NO_MEMORY. */
MUST_USE enum status tensors_table_create(const struct shape *shape, struct tensor_table *table, struct error *error);
void tensors_table_destroy(struct tensor_table *table);

/* Where they lie in a block, in floats. The head is the embedding when there is no lm_head. */
size_t tensors_offset_of_layer(const struct tensor_table *table, int layer, enum layer_tensor which);
size_t tensors_offset_of_embedding(const struct tensor_table *table);
size_t tensors_offset_of_final_norm(const struct tensor_table *table);
size_t tensors_offset_of_head(const struct tensor_table *table);

/* NULL when there is none of that name. */
const struct tensor *tensors_find(const struct tensor_table *table, const char *name);

/* tensors_initialize: N(0, .02); o_proj and down_proj .02/sqrt(2L); norms 1. block (block_floats,), gaps zeroed. Bit-identical on
 * every machine for one seed (counter-based, tensor index = stream, exact float steps; 1/sqrt by sqrtf and one division). */
void tensors_initialize(const struct tensor_table *table, const struct shape *shape, uint64_t seed, float *block);

#endif
