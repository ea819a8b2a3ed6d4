/* Token files. Input: u8 options (bits 0-1 dtype, 2 text instead of shards, 3-4 vocab, 5-7 context), u16 bytes of the
 * first file; the two files. What opens gives ids below the vocabulary only, whichever way it is read. */
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "model/corpus.h"
#include "model/dataset.h"

enum { SHARD_HEADER_BYTES = 1024, WINDOWS_DRAWN = 3, TOKENS_COPIED_MAX = 1 << 16 };

static void check_ids(const int32_t *ids, size_t count, int64_t vocab) {
    for (size_t i = 0; i < count; i++)
        CHECK(ids[i] >= 0 && ids[i] < vocab);
}

static uint64_t try_corpus(const struct data_options *data, int64_t vocab, struct error *error) {
    struct corpus_source source = {.globs = data->train,
                                   .glob_count = data->train_count,
                                   .base_directory = fuzz_directory(),
                                   .key = "data.train",
                                   .tokenizer = (enum tokenizer_kind)data->tokenizer,
                                   .dtype = (enum shard_dtype)data->dtype,
                                   .vocab = vocab};
    struct corpus *corpus;
    enum status status = corpus_open(&source, &corpus, error);
    fuzz_check_refusal(status, error);
    if (status != STATUS_OK) {
        CHECK(status == STATUS_DATA || status == STATUS_CONFIG);
        return 0;
    }
    uint64_t tokens = corpus_tokens(corpus), count = tokens < TOKENS_COPIED_MAX ? tokens : TOKENS_COPIED_MAX;
    int32_t *ids = malloc(count * sizeof *ids + 1);
    CHECK(corpus_copy(corpus, 0, count, ids, NULL) == STATUS_OK);
    check_ids(ids, count, vocab);
    CHECK(corpus_copy(corpus, tokens - count, count, ids, NULL) == STATUS_OK);
    check_ids(ids, count, vocab);
    free(ids);
    corpus_close(corpus);
    return tokens;
}

static void draw(struct dataset *dataset, const struct shape *shape, uint64_t tokens) {
    size_t count = (size_t)WINDOWS_DRAWN * (size_t)(shape->context + 1);
    int32_t *first = malloc(count * sizeof *first), *again = malloc(count * sizeof *again);
    CHECK(dataset_tokens(dataset) == tokens && dataset_windows(dataset) >= 1);
    dataset_set_cursor(dataset, dataset_windows(dataset) - 1); /* over the end of an epoch */
    CHECK(dataset_next(dataset, WINDOWS_DRAWN, first, NULL) == STATUS_OK);
    CHECK(dataset_cursor(dataset) == dataset_windows(dataset) - 1 + WINDOWS_DRAWN);
    dataset_set_cursor(dataset, dataset_windows(dataset) - 1);
    CHECK(dataset_next(dataset, WINDOWS_DRAWN, again, NULL) == STATUS_OK);
    CHECK(memcmp(first, again, count * sizeof *first) == 0);
    check_ids(first, count, shape->vocab);
    free(first);
    free(again);
}

static void try_dataset(const struct data_options *data, const struct shape *shape, uint64_t tokens) {
    struct dataset *dataset;
    struct error error = {0};
    enum status status = dataset_open_train(data, shape, fuzz_directory(), 1, 2, 7, &dataset, &error);
    fuzz_check_refusal(status, &error);
    if (status == STATUS_OK) {
        draw(dataset, shape, tokens);
        dataset_close(dataset);
    }
    status = dataset_open_held_out(data, shape, fuzz_directory(), 2, &dataset, &error);
    fuzz_check_refusal(status, &error);
    if (status == STATUS_OK) {
        int32_t *window = malloc((size_t)(shape->context + 1) * sizeof *window);
        for (uint64_t i = 0; i < dataset_windows(dataset); i++) {
            CHECK(dataset_window(dataset, i, window, NULL) == STATUS_OK);
            check_ids(window, (size_t)(shape->context + 1), shape->vocab);
        }
        free(window);
        dataset_close(dataset);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int64_t vocabs[] = {256, 257, 50257, 70000};
    struct fuzz_input input = {data, size};
    uint8_t how = fuzz_u8(&input);
    size_t first = fuzz_u16(&input);
    first = first < input.left ? first : input.left;
    struct data_options options = {.train = {"?.bin"},
                                   .train_count = 1,
                                   .val = {"?.bin"},
                                   .val_count = 1,
                                   .tokenizer = how & 4 ? TOKENIZER_BYTES : TOKENIZER_SHARDS,
                                   .dtype = (how & 3) % 3};
    struct shape shape = {.context = 1 + (how >> 5), .vocab = vocabs[how >> 3 & 3]};
    struct error error = {0};
    fuzz_write("a.bin", input.at, first);
    fuzz_write("b.bin", first < input.left ? input.at + first : NULL, input.left - first);
    uint64_t tokens = try_corpus(&options, shape.vocab, &error);
    size_t header =
        options.dtype == SHARD_DTYPE_AUTO ? SHARD_HEADER_BYTES : 0; /* without one only when dtype says so */
    CHECK(tokens == 0 || tokens == input.left ||
          (options.tokenizer == TOKENIZER_SHARDS && 2 * header + 2 * tokens <= input.left));
    if (tokens > 0)
        try_dataset(&options, &shape, tokens);
    return 0;
}
