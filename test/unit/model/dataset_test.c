/* Windows: the shuffle is a bijection, parts partition each epoch, a cursor resumes exactly, held-out windows are spread. */
#include <math.h>
#include "model/dataset.h"
#include "support.h"

enum { CONTEXT = 4, WINDOW = CONTEXT + 1, TOKENS = 103, WINDOWS = 25 }; /* (103 - 1) / 4 */

static struct data_options make_data(const char *directory) {
    unsigned char text[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        text[i] = (unsigned char)i;
    support_write(directory, "a.txt", text, 50); /* windows cross the border of the two files */
    support_write(directory, "b.txt", text + 50, TOKENS - 50);
    return (struct data_options){
        .train = {"?.txt"}, .train_count = 1, .val = {"?.txt"}, .val_count = 1, .tokenizer = TOKENIZER_BYTES};
}

static struct shape make_shape(void) {
    struct shape shape = support_options(true).shape;
    shape.context = CONTEXT;
    return shape;
}

static struct dataset *open_train(const char *directory, int64_t slot, int64_t parts, uint64_t seed) {
    struct data_options options = make_data(directory);
    struct shape shape = make_shape();
    struct dataset *dataset = NULL;
    struct error error = {0};
    if (dataset_open_train(&options, &shape, directory, slot, parts, seed, &dataset, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return dataset;
}

/* The index of a window, after checking that it is whole. */
static int window_index(const int32_t *window) {
    for (int i = 1; i < WINDOW; i++)
        assert_int_equal(window[i], window[0] + i);
    assert_int_equal(window[0] % CONTEXT, 0);
    return window[0] / CONTEXT;
}

static void parts_partition_every_epoch(void **state) {
    (void)state;
    const char *directory = support_directory();
    for (int parts = 1; parts <= 4; parts++) {
        int order[2][WINDOWS];
        int seen[2][WINDOWS] = {{0}};
        uint64_t total = 0;
        for (int slot = 0; slot < parts; slot++) {
            struct dataset *dataset = open_train(directory, slot, parts, 11);
            uint64_t windows = dataset_windows(dataset);
            assert_int_equal(dataset_tokens(dataset), TOKENS);
            total += windows;
            for (int epoch = 0; epoch < 2; epoch++)
                for (uint64_t i = 0; i < windows; i++) {
                    int32_t window[WINDOW];
                    assert_int_equal(dataset_next(dataset, 1, window, NULL), STATUS_OK);
                    order[epoch][(uint64_t)slot + i * (uint64_t)parts] = window_index(window);
                    seen[epoch][window_index(window)]++;
                }
            dataset_close(dataset);
        }
        assert_int_equal(total, WINDOWS);
        for (int i = 0; i < WINDOWS; i++)
            assert_true(seen[0][i] == 1 && seen[1][i] == 1);
        assert_memory_not_equal(order[0], order[1], sizeof order[0]);
        if (parts == 3) { /* the order is that of one part, dealt out */
            struct dataset *whole = open_train(directory, 0, 1, 11);
            for (int i = 0; i < WINDOWS; i++) {
                int32_t window[WINDOW];
                assert_int_equal(dataset_next(whole, 1, window, NULL), STATUS_OK);
                assert_int_equal(window_index(window), order[0][i]);
            }
            dataset_close(whole);
        }
    }
    support_remove(directory);
}

static void seed_changes_the_order(void **state) {
    (void)state;
    const char *directory = support_directory();
    int32_t a[10 * WINDOW], b[10 * WINDOW];
    struct dataset *first = open_train(directory, 0, 1, 1), *second = open_train(directory, 0, 1, 2);
    assert_int_equal(dataset_next(first, 10, a, NULL), STATUS_OK);
    assert_int_equal(dataset_next(second, 10, b, NULL), STATUS_OK);
    assert_memory_not_equal(a, b, sizeof a);
    dataset_close(first);
    dataset_close(second);
    support_remove(directory);
}

static void cursor_resumes(void **state) {
    (void)state;
    const char *directory = support_directory();
    int32_t skipped[23 * WINDOW], a[9 * WINDOW], b[9 * WINDOW];
    struct dataset *dataset = open_train(directory, 1, 2, 5); /* 12 windows: the 23 end in the second epoch */
    assert_int_equal(dataset_next(dataset, 23, skipped, NULL), STATUS_OK);
    uint64_t cursor = dataset_cursor(dataset);
    assert_int_equal(cursor, 23);
    assert_int_equal(dataset_next(dataset, 9, a, NULL), STATUS_OK);
    dataset_close(dataset);
    dataset = open_train(directory, 1, 2, 5);
    dataset_set_cursor(dataset, cursor);
    assert_int_equal(dataset_next(dataset, 4, b, NULL), STATUS_OK);
    assert_int_equal(dataset_next(dataset, 5, b + 4 * WINDOW, NULL), STATUS_OK);
    assert_memory_equal(a, b, sizeof a);
    dataset_close(dataset);
    support_remove(directory);
}

static void held_out_windows_are_evenly_spaced(void **state) {
    (void)state;
    static const struct {
        int64_t wanted;
        uint64_t got;
        int indices[3], last; /* the first three, and the last */
    } cases[] = {{0, 25, {0, 1, 2}, 24}, {100, 25, {0, 1, 2}, 24}, {5, 5, {0, 5, 10}, 20},
                 {7, 7, {0, 3, 7}, 21},  {4, 4, {0, 6, 12}, 18},   {1, 1, {0}, 0}};
    const char *directory = support_directory();
    struct data_options options = make_data(directory);
    struct shape shape = make_shape();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset *dataset = NULL;
        struct error error;
        int32_t window[WINDOW];
        assert_int_equal(dataset_open_held_out(&options, &shape, directory, cases[i].wanted, &dataset, &error),
                         STATUS_OK);
        assert_int_equal(dataset_windows(dataset), cases[i].got);
        for (uint64_t j = 0; j < 3 && j < cases[i].got; j++) {
            assert_int_equal(dataset_window(dataset, j, window, NULL), STATUS_OK);
            assert_int_equal(window_index(window), cases[i].indices[j]);
        }
        assert_int_equal(dataset_window(dataset, cases[i].got - 1, window, NULL), STATUS_OK);
        assert_int_equal(window_index(window), cases[i].last);
        assert_float_equal(dataset_bits_per_byte(dataset, log(2)), 1, 1e-12);
        dataset_close(dataset);
    }
    support_remove(directory);
}

static void refuses_short_text(void **state) {
    (void)state;
    const char *directory = support_directory();
    struct data_options options = make_data(directory);
    struct shape shape = make_shape();
    struct dataset *dataset = NULL;
    struct error error;
    assert_int_equal(dataset_open_train(&options, &shape, directory, 0, 26, 1, &dataset, &error), STATUS_DATA);
    assert_string_equal(
        error.text, "data.train: 103 tokens make 25 windows of context 4 + 1, but 26 are needed; give more text or a "
                    "smaller model.context");
    shape.context = 103;
    assert_int_equal(dataset_open_held_out(&options, &shape, directory, 0, &dataset, &error), STATUS_DATA);
    assert_string_equal(error.text,
                        "data.val: 103 tokens make 0 windows of context 103 + 1, but 1 are needed; give more text or a "
                        "smaller model.context");
    snprintf(options.val[0], sizeof options.val[0], "none");
    assert_int_equal(dataset_open_held_out(&options, &shape, directory, 0, &dataset, &error), STATUS_CONFIG);
    support_assert_text(&error, directory,
                        "data.val: no file matches 'none' in @; put the text there, or name another in the run file or "
                        "with --data or --val");
    assert_null(dataset);
    support_remove(directory);
}

static void shards_have_no_bits_per_byte(void **state) {
    (void)state;
    const char *directory = support_directory();
    struct data_options options = make_data(directory);
    struct shape shape = make_shape();
    struct dataset *dataset = NULL;
    struct error error;
    uint16_t tokens[9] = {0};
    support_write(directory, "raw.bin", tokens, sizeof tokens);
    snprintf(options.val[0], sizeof options.val[0], "raw.bin");
    options.tokenizer = TOKENIZER_SHARDS;
    options.dtype = SHARD_DTYPE_UINT16;
    assert_int_equal(dataset_open_held_out(&options, &shape, directory, 0, &dataset, &error), STATUS_OK);
    assert_int_equal(dataset_windows(dataset), 2);
    assert_true(isnan(dataset_bits_per_byte(dataset, 1)));
    dataset_close(dataset);
    support_remove(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts_partition_every_epoch),
                                       cmocka_unit_test(seed_changes_the_order),
                                       cmocka_unit_test(cursor_resumes),
                                       cmocka_unit_test(held_out_windows_are_evenly_spaced),
                                       cmocka_unit_test(refuses_short_text),
                                       cmocka_unit_test(shards_have_no_bits_per_byte)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
