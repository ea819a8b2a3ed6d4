/* dataset: see dataset.h. */
#include "model/dataset.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include "base/check.h"
#include "base/rng.h"
#include "model/corpus.h"

struct dataset {
    struct corpus *corpus;
    uint64_t context;
    uint64_t total;  /* windows of the corpus */
    uint64_t chosen; /* of them, windows of this part or held-out set */
    uint64_t slot, parts, seed, cursor;
    enum tokenizer_kind tokenizer;
    bool held_out;
};

/* Streams of the shuffle, apart from those of the initialization, which has the same seed. */
static const uint64_t SHUFFLE_STREAM = UINT64_C(1) << 40;

static enum status open_windows(const struct data_options *options, const struct shape *shape,
                                const char *base_directory, bool held_out, struct dataset **dataset,
                                struct error *error) {
    struct corpus_source source = {.globs = held_out ? options->val : options->train,
                                   .glob_count = held_out ? options->val_count : options->train_count,
                                   .base_directory = base_directory,
                                   .key = held_out ? "data.val" : "data.train",
                                   .tokenizer = (enum tokenizer_kind)options->tokenizer,
                                   .dtype = (enum shard_dtype)options->dtype,
                                   .vocab = shape->vocab};
    struct dataset *made = calloc(1, sizeof *made);
    if (!made)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for a data set", source.key);
    enum status status = corpus_open(&source, &made->corpus, error);
    if (status != STATUS_OK) {
        free(made);
        return status;
    }
    uint64_t tokens = corpus_tokens(made->corpus);
    made->context = (uint64_t)shape->context;
    made->total = tokens == 0 ? 0 : (tokens - 1) / made->context;
    made->tokenizer = source.tokenizer;
    made->held_out = held_out;
    *dataset = made;
    return STATUS_OK;
}

static enum status refuse_short(struct dataset *dataset, const char *key, uint64_t needed, struct error *error) {
    error_set(error, STATUS_DATA,
              "%s: %" PRIu64 " tokens make %" PRIu64 " windows of context %" PRIu64 " + 1, but %" PRIu64
              " are needed; give more text or a smaller model.context",
              key, corpus_tokens(dataset->corpus), dataset->total, dataset->context, needed);
    dataset_close(dataset);
    return STATUS_DATA;
}

enum status dataset_open_train(const struct data_options *options, const struct shape *shape,
                               const char *base_directory, int64_t slot, int64_t parts, uint64_t seed,
                               struct dataset **dataset, struct error *error) {
    CHECK(parts >= 1 && slot >= 0 && slot < parts);
    struct dataset *made = NULL;
    enum status status = open_windows(options, shape, base_directory, false, &made, error);
    if (status != STATUS_OK)
        return status;
    made->slot = (uint64_t)slot;
    made->parts = (uint64_t)parts;
    made->seed = seed;
    if (made->total < made->parts)
        return refuse_short(made, "data.train", made->parts, error);
    made->chosen = (made->total - made->slot + made->parts - 1) / made->parts;
    *dataset = made;
    return STATUS_OK;
}

enum status dataset_open_held_out(const struct data_options *options, const struct shape *shape,
                                  const char *base_directory, int64_t windows, struct dataset **dataset,
                                  struct error *error) {
    struct dataset *made = NULL;
    enum status status = open_windows(options, shape, base_directory, true, &made, error);
    if (status != STATUS_OK)
        return status;
    if (made->total < 1)
        return refuse_short(made, "data.val", 1, error);
    made->chosen = windows > 0 && (uint64_t)windows < made->total ? (uint64_t)windows : made->total;
    *dataset = made;
    return STATUS_OK;
}

void dataset_close(struct dataset *dataset) {
    if (!dataset)
        return;
    corpus_close(dataset->corpus);
    free(dataset);
}

uint64_t dataset_tokens(const struct dataset *dataset) {
    return corpus_tokens(dataset->corpus);
}

uint64_t dataset_windows(const struct dataset *dataset) {
    return dataset->chosen;
}

enum status dataset_next(struct dataset *d, int B, int32_t *windows, struct error *error) {
    CHECK(!d->held_out);
    for (int b = 0; b < B; b++) {
        uint64_t cursor = d->cursor + (uint64_t)b;
        uint64_t epoch = cursor / d->chosen, position = d->slot + d->parts * (cursor % d->chosen);
        uint64_t window = rng_permute(d->seed, SHUFFLE_STREAM + epoch, d->total, position);
        enum status status = corpus_copy(d->corpus, window * d->context, d->context + 1,
                                         windows + (uint64_t)b * (d->context + 1), error);
        if (status != STATUS_OK)
            return status;
    }
    d->cursor += (uint64_t)B;
    return STATUS_OK;
}

uint64_t dataset_cursor(const struct dataset *dataset) {
    return dataset->cursor;
}

void dataset_set_cursor(struct dataset *dataset, uint64_t cursor) {
    dataset->cursor = cursor;
}

enum status dataset_window(const struct dataset *d, uint64_t index, int32_t *window, struct error *error) {
    CHECK(d->held_out && index < d->chosen);
    /* floor(index * total / chosen) without overflow */
    uint64_t at = index * (d->total / d->chosen) + index * (d->total % d->chosen) / d->chosen;
    return corpus_copy(d->corpus, at * d->context, d->context + 1, window, error);
}

double dataset_bits_per_byte(const struct dataset *dataset, double loss) {
    return dataset->tokenizer == TOKENIZER_BYTES ? loss / 0.69314718055994530942 : (double)NAN;
}
