/* fragments: see fragments.h. Must not know about rounds, codecs' formats or time. */
#include "outer/fragments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"

enum { NO_LAYER_YET = TENSOR_LAYER_NONE - 1 };

struct plan {
    int64_t layers;
    int64_t fragment_layers; /* 1 .. layers, or FRAGMENT_LAYERS_ALL */
    int64_t layer_fragments; /* n; 0 when all is one */
    enum fragment_pattern pattern;
    enum fragment_balance balance;
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

/* What is not of a layer is told behind them; by layers there is no such fragment. */
static const char AND_THE_REST[] = " and the rest";

/* "layers 0,2,4", as many as fit, then "..". The name so far says "layers", or "rows of layers", and maybe some. */
static void add_layer(const struct plan *plan, char name[FRAGMENT_NAME_BYTES], int layer) {
    char text[16];
    size_t used = strlen(name), room = FRAGMENT_NAME_BYTES;
    if (plan->balance == FRAGMENT_BALANCE_BYTES)
        room -= sizeof AND_THE_REST - 1;
    if (name[used - 1] == '.')
        return;
    size_t length = (size_t)snprintf(text, sizeof text, "%c%d", name[used - 1] == 's' ? ' ' : ',', layer);
    if (used + length + sizeof ",.." > room)
        memcpy(name + used, ",..", sizeof ",..");
    else
        memcpy(name + used, text, length + 1);
}

/* After the layers of all that came before it. */
static void add_to_name(const struct plan *plan, char name[FRAGMENT_NAME_BYTES], int layer, int layer_before) {
    const char *rows = plan->balance == FRAGMENT_BALANCE_BYTES ? "rows of " : "";
    if (plan->fragment_layers == FRAGMENT_LAYERS_ALL)
        snprintf(name, FRAGMENT_NAME_BYTES, "all");
    else if (name[0] == 0 && layer == TENSOR_LAYER_NONE)
        snprintf(name, FRAGMENT_NAME_BYTES, "%sembedding and norm", rows);
    else if (name[0] == 0)
        snprintf(name, FRAGMENT_NAME_BYTES, "%slayers", rows);
    if (plan->fragment_layers == FRAGMENT_LAYERS_ALL || layer == layer_before)
        return;
    if (layer != TENSOR_LAYER_NONE)
        add_layer(plan, name, layer);
    else if (layer_before != NO_LAYER_YET)
        strcat(name, AND_THE_REST); /* add_layer left the room */
}

/* The walk over all tensors, group after group as by layers, that deals their rows out. */
struct dealing {
    const struct plan *plan;
    struct fragments *fragments;
    struct codec_span *next;
    size_t total, position; /* floats */
    int layer_before;       /* of the span before, in the same fragment */
};

/* How many of the tensor's rows from `row` on are of one fragment: which one, and up to where. */
static int rows_of_one(const struct dealing *deal, const struct tensor *tensor, int row, int *index) {
    if (deal->plan->balance == FRAGMENT_BALANCE_LAYERS) {
        *index = fragment_of_layer(deal->plan, tensor->layer);
        return tensor->rows - row;
    }
    size_t parts = (size_t)deal->fragments->count, columns = (size_t)tensor->columns;
    *index = (int)(deal->position * parts / deal->total);
    size_t end = (((size_t)*index + 1) * deal->total + parts - 1) / parts; /* the first position of the next one */
    size_t rows = (end - deal->position + columns - 1) / columns, left = (size_t)(tensor->rows - row);
    return (int)(rows < left ? rows : left);
}

static void deal_tensor(struct dealing *deal, const struct tensor *tensor) {
    for (int row = 0, rows; row < tensor->rows; row += rows) {
        int index;
        rows = rows_of_one(deal, tensor, row, &index);
        struct fragment *fragment = &deal->fragments->list[index];
        size_t columns = (size_t)tensor->columns, count = (size_t)rows * columns;
        if (fragment->span_count == 0) {
            fragment->spans = deal->next;
            deal->layer_before = NO_LAYER_YET;
        }
        *deal->next++ = (struct codec_span){tensor->offset + (size_t)row * columns, count};
        fragment->span_count++;
        fragment->count += count;
        add_to_name(deal->plan, fragment->name, tensor->layer, deal->layer_before);
        deal->layer_before = tensor->layer;
        deal->position += count;
    }
}

enum status fragments_create(const struct tensor_table *table, int64_t layers, int64_t fragment_layers,
                             enum fragment_pattern pattern, enum fragment_balance balance, struct fragments *fragments,
                             struct error *error) {
    CHECK(layers >= 1 && fragment_layers >= 0 && table->count >= 1);
    struct plan plan = {layers, fragment_layers < layers ? fragment_layers : layers, 0, pattern, balance};
    if (plan.fragment_layers != FRAGMENT_LAYERS_ALL)
        plan.layer_fragments = (layers + plan.fragment_layers - 1) / plan.fragment_layers;

    struct fragments made = {.count = (int)plan.layer_fragments + 1};
    size_t spans_max = (size_t)(table->count + made.count); /* each cut makes one more */
    made.list = calloc((size_t)made.count, sizeof *made.list);
    made.spans = calloc(spans_max, sizeof *made.spans);
    if (!made.list || !made.spans) {
        fragments_destroy(&made);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a table of %d fragments over %d tensors", made.count,
                         table->count);
    }

    struct dealing deal = {.plan = &plan, .fragments = &made, .next = made.spans, .total = table->parameter_count};
    for (int group = 0; group < made.count; group++)
        for (int t = 0; t < table->count; t++)
            if (fragment_of_layer(&plan, table->tensors[t].layer) == group)
                deal_tensor(&deal, &table->tensors[t]);
    CHECK(deal.position == deal.total && deal.next <= made.spans + spans_max);
    for (int index = 0; index < made.count; index++) {
        made.list[index].index = index;
        CHECK(made.list[index].count > 0); /* a part is more than a row: of each layer there are several */
        if (made.list[index].count > made.largest_count)
            made.largest_count = made.list[index].count;
    }
    *fragments = made;
    return STATUS_OK;
}

void fragments_destroy(struct fragments *fragments) {
    free(fragments->list);
    free(fragments->spans);
    *fragments = (struct fragments){0};
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
