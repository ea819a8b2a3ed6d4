/* fragments: see fragments.h. Must not know about rounds, codecs' formats or time. */
#include "outer/fragments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"

struct plan {
    int64_t layers;
    int64_t fragment_layers; /* 1 .. layers, or FRAGMENT_LAYERS_ALL */
    int64_t layer_fragments; /* n; 0 when all is one */
    enum fragment_pattern pattern;
};

static int fragment_of_layer(const struct plan *plan, int layer) {
    if (plan->fragment_layers == FRAGMENT_LAYERS_ALL)
        return 0;
    if (layer == TENSOR_LAYER_NONE)
        return (int)plan->layer_fragments;
    CHECK(layer >= 0 && layer < plan->layers);
    return (int)(plan->pattern == FRAGMENT_PATTERN_STRIDED ? layer % plan->layer_fragments
                                                           : layer / plan->fragment_layers);
}

/* "layers 0,2,4", as many as fit, then "..". */
static void name_layers(const struct plan *plan, int index, char name[FRAGMENT_NAME_BYTES]) {
    size_t used = (size_t)snprintf(name, FRAGMENT_NAME_BYTES, "layers");
    char separator = ' ';
    for (int layer = 0; layer < plan->layers; layer++) {
        char text[16];
        if (fragment_of_layer(plan, layer) != index)
            continue;
        size_t length = (size_t)snprintf(text, sizeof text, "%c%d", separator, layer);
        if (used + length + sizeof ",.." > FRAGMENT_NAME_BYTES) {
            memcpy(name + used, ",..", sizeof ",..");
            return;
        }
        memcpy(name + used, text, length + 1);
        used += length;
        separator = ',';
    }
}

static void name_fragment(const struct plan *plan, int index, char name[FRAGMENT_NAME_BYTES]) {
    if (plan->fragment_layers == FRAGMENT_LAYERS_ALL)
        snprintf(name, FRAGMENT_NAME_BYTES, "all");
    else if (index == plan->layer_fragments)
        snprintf(name, FRAGMENT_NAME_BYTES, "embedding and norm");
    else
        name_layers(plan, index, name);
}

enum status fragments_create(const struct tensor_table *table, int64_t layers, int64_t fragment_layers,
                             enum fragment_pattern pattern, struct fragments *fragments, struct error *error) {
    CHECK(layers >= 1 && fragment_layers >= 0 && table->count >= 1);
    struct plan plan = {layers, fragment_layers < layers ? fragment_layers : layers, 0, pattern};
    if (plan.fragment_layers != FRAGMENT_LAYERS_ALL)
        plan.layer_fragments = (layers + plan.fragment_layers - 1) / plan.fragment_layers;

    struct fragments made = {.count = (int)plan.layer_fragments + 1, .tensor_count = table->count};
    made.list = calloc((size_t)made.count, sizeof *made.list);
    made.fragment_of = calloc((size_t)table->count, sizeof *made.fragment_of);
    made.spans = calloc((size_t)table->count, sizeof *made.spans);
    if (!made.list || !made.fragment_of || !made.spans) {
        fragments_destroy(&made);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a table of %d fragments over %d tensors", made.count,
                         table->count);
    }

    struct codec_span *next = made.spans;
    for (int index = 0; index < made.count; index++) {
        struct fragment *fragment = &made.list[index];
        fragment->index = index;
        fragment->spans = next;
        name_fragment(&plan, index, fragment->name);
        for (int t = 0; t < table->count; t++) {
            const struct tensor *tensor = &table->tensors[t];
            if (fragment_of_layer(&plan, tensor->layer) != index)
                continue;
            made.fragment_of[t] = index;
            *next++ = (struct codec_span){tensor->offset, tensor->count};
            fragment->span_count++;
            fragment->count += tensor->count;
        }
        if (fragment->count > made.largest_count)
            made.largest_count = fragment->count;
    }
    CHECK(next == made.spans + table->count);
    *fragments = made;
    return STATUS_OK;
}

void fragments_destroy(struct fragments *fragments) {
    free(fragments->list);
    free(fragments->fragment_of);
    free(fragments->spans);
    *fragments = (struct fragments){0};
}

int fragment_of_tensor(const struct fragments *fragments, int tensor) {
    CHECK(tensor >= 0 && tensor < fragments->tensor_count);
    return fragments->fragment_of[tensor];
}

void fragment_gather(const struct fragment *fragment, const float *block, float *packed) {
    for (int i = 0; i < fragment->span_count; i++) {
        memcpy(packed, block + fragment->spans[i].offset, fragment->spans[i].count * sizeof *packed);
        packed += fragment->spans[i].count;
    }
}

void fragment_scatter(const struct fragment *fragment, const float *packed, float *block) {
    for (int i = 0; i < fragment->span_count; i++) {
        memcpy(block + fragment->spans[i].offset, packed, fragment->spans[i].count * sizeof *packed);
        packed += fragment->spans[i].count;
    }
}
