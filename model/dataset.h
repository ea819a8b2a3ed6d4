/* dataset: windows of a corpus: context + 1 tokens, at stride context, so that each token but the first is a target once.
 *
 * Training: all windows are shuffled anew each epoch by rng_permute(seed, epoch); the part of slot i of n holds the positions
 * = i mod n of that order. How far a slot has come is one integer, its cursor. Held-out: evenly spaced windows, in order.
 * Not thread-safe. */
#ifndef ATOLL_MODEL_DATASET_H
#define ATOLL_MODEL_DATASET_H

#include <stdint.h>
#include "model/shape.h"

struct dataset;

/* Paths in options are relative to base_directory. Statuses as corpus_open (corpus.h); STATUS_DATA also when the text is too
 * short for one window per part (for one window, held-out). */
MUST_USE enum status dataset_open_train(const struct data_options *options, const struct shape *shape,
                                        const char *base_directory, int64_t slot, int64_t parts, uint64_t seed,
                                        struct dataset **dataset, struct error *error);

/* windows: how many are wanted, evenly spaced over the held-out text; 0, or more than there are: all. */
MUST_USE enum status dataset_open_held_out(const struct data_options *options, const struct shape *shape,
                                           const char *base_directory, int64_t windows, struct dataset **dataset,
                                           struct error *error);
void dataset_close(struct dataset *dataset);

uint64_t dataset_tokens(const struct dataset *dataset);  /* of the whole corpus */
uint64_t dataset_windows(const struct dataset *dataset); /* of this part (one epoch), or held-out */

/* dataset_next: the next B windows of this part -> windows (B, context + 1); moves the cursor by B. Epochs follow each other
 * without end. STATUS_DATA, STATUS_IO: the text was cut, rewritten or cannot be read any more (corpus_copy); the cursor did not move. */
MUST_USE enum status dataset_next(struct dataset *dataset, int B, int32_t *windows, struct error *error);

/* Windows drawn so far by this slot; a saved cursor set again continues with the very same windows. */
uint64_t dataset_cursor(const struct dataset *dataset);
void dataset_set_cursor(struct dataset *dataset, uint64_t cursor);

/* dataset_window: window `index` < dataset_windows of a held-out set -> window (context + 1,). Statuses as dataset_next. */
MUST_USE enum status dataset_window(const struct dataset *dataset, uint64_t index, int32_t *window,
                                    struct error *error);

/* dataset_bits_per_byte: of a loss in nats per token; NaN where a token is not a byte. */
double dataset_bits_per_byte(const struct dataset *dataset, double loss);

#endif
