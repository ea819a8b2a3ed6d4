/* tensors: see tensors.h. */
#include "model/tensors.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/rng.h"

static void add_tensor(struct tensor_table *table, int layer, const char *name, int dimensions, int64_t rows,
                       int64_t columns) {
    struct tensor *tensor = &table->tensors[table->count++];
    int length = layer == TENSOR_LAYER_NONE
                     ? snprintf(tensor->name, sizeof tensor->name, "%s", name)
                     : snprintf(tensor->name, sizeof tensor->name, "model.layers.%d.%s", layer, name);
    CHECK(length > 0 && (size_t)length < sizeof tensor->name);
    tensor->rows = (int)rows;
    tensor->columns = (int)columns;
    tensor->dimensions = dimensions;
    tensor->layer = layer;
    tensor->offset = table->block_floats;
    tensor->count = (size_t)rows * (size_t)columns;
    table->parameter_count += tensor->count;
    size_t end = tensor->offset + tensor->count;
    table->block_floats = (end + TENSOR_ALIGNMENT_FLOATS - 1) / TENSOR_ALIGNMENT_FLOATS * TENSOR_ALIGNMENT_FLOATS;
}

enum status tensors_table_create(const struct shape *s, struct tensor_table *table, struct error *error) {
    size_t capacity = (size_t)s->layers * LAYER_TENSORS + 3;
    struct tensor_table made = {.tensors = calloc(capacity, sizeof *made.tensors)};
    if (!made.tensors)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a table of %zu tensors", capacity);
    int64_t C = s->width, F = s->ffn, q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    add_tensor(&made, TENSOR_LAYER_NONE, "model.embed_tokens.weight", 2, s->vocab, C);
    for (int l = 0; l < s->layers; l++) {
        add_tensor(&made, l, "input_layernorm.weight", 1, 1, C);
        add_tensor(&made, l, "self_attn.q_proj.weight", 2, q, C);
        add_tensor(&made, l, "self_attn.k_proj.weight", 2, kv, C);
        add_tensor(&made, l, "self_attn.v_proj.weight", 2, kv, C);
        add_tensor(&made, l, "self_attn.q_norm.weight", 1, 1, s->head_dim);
        add_tensor(&made, l, "self_attn.k_norm.weight", 1, 1, s->head_dim);
        add_tensor(&made, l, "self_attn.o_proj.weight", 2, C, q);
        add_tensor(&made, l, "post_attention_layernorm.weight", 1, 1, C);
        add_tensor(&made, l, "mlp.gate_proj.weight", 2, F, C);
        add_tensor(&made, l, "mlp.up_proj.weight", 2, F, C);
        add_tensor(&made, l, "mlp.down_proj.weight", 2, C, F);
    }
    add_tensor(&made, TENSOR_LAYER_NONE, "model.norm.weight", 1, 1, C);
    if (!s->tied)
        add_tensor(&made, TENSOR_LAYER_NONE, "lm_head.weight", 2, s->vocab, C);
    *table = made;
    return STATUS_OK;
}

void tensors_table_destroy(struct tensor_table *table) {
    free(table->tensors);
    *table = (struct tensor_table){0};
}

/* Tensor 0 is the embedding, then LAYER_TENSORS of each layer, the final norm, and the head when it is free. */
static int final_norm_index(const struct tensor_table *table) {
    return 1 + (table->count - 2) / LAYER_TENSORS * LAYER_TENSORS;
}

size_t tensors_offset_of_layer(const struct tensor_table *table, int layer, enum layer_tensor which) {
    const struct tensor *tensor = &table->tensors[1 + layer * LAYER_TENSORS + (int)which];
    CHECK(tensor->layer == layer);
    return tensor->offset;
}

size_t tensors_offset_of_embedding(const struct tensor_table *table) {
    return table->tensors[0].offset;
}

size_t tensors_offset_of_final_norm(const struct tensor_table *table) {
    return table->tensors[final_norm_index(table)].offset;
}

size_t tensors_offset_of_head(const struct tensor_table *table) {
    int head = final_norm_index(table) + 1;
    return table->tensors[head < table->count ? head : 0].offset;
}

const struct tensor *tensors_find(const struct tensor_table *table, const char *name) {
    for (int i = 0; i < table->count; i++)
        if (strcmp(table->tensors[i].name, name) == 0)
            return &table->tensors[i];
    return NULL;
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

void tensors_initialize(const struct tensor_table *table, const struct shape *shape, uint64_t seed, float *block) {
    const float deviation = 0.02f;
    const float residual_deviation = deviation / sqrtf(2.0f * (float)shape->layers);
    memset(block, 0, table->block_floats * sizeof *block);
    for (int i = 0; i < table->count; i++) {
        const struct tensor *tensor = &table->tensors[i];
        float *to = block + tensor->offset;
        bool into_residual = ends_with(tensor->name, ".o_proj.weight") || ends_with(tensor->name, ".down_proj.weight");
        float scale = into_residual ? residual_deviation : deviation;
        for (size_t j = 0; j < tensor->count; j++)
            to[j] = tensor->dimensions == 1 ? 1.0f : scale * rng_normal(seed, (uint64_t)i, j);
    }
}
