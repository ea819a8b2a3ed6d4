/* copy_fixture: an outer copy and a commit maker of a tiny model, for the tests of the float work. To be included after cmocka.h. */
#ifndef ATOLL_TEST_COPY_FIXTURE_H
#define ATOLL_TEST_COPY_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/rng.h"
#include "model/tensors.h"
#include "outer/commit_maker.h"

struct fixture {
    struct run_file run;
    struct tensor_table table;
    struct fragments fragments;
    float *block;
    struct outer_copy copy;
    struct commit_maker maker;
};

static inline void fixture_open_rule(struct fixture *fixture, const char *codec, const char *optimizer, bool feedback,
                                     enum outer_aggregate aggregate) {
    char text[512];
    struct error error = {0};
    memset(fixture, 0, sizeof *fixture);
    int length =
        snprintf(text, sizeof text,
                 "name: t\nmodel: {layers: 2, width: 16, heads: 2, ffn: 24, context: 8}\ndata: {train: [x]}\n"
                 "sync: {every_steps: 6, fragment_layers: 1, codec_up: %s, codec_down: %s, error_feedback: %s}\n"
                 "outer: {optimizer: %s, lr: 0.4, momentum: 0.9}\nworkers: 2\n",
                 codec, codec, feedback ? "true" : "false", optimizer);
    if (run_file_parse(text, (size_t)length, "test", "/", NULL, 0, &fixture->run, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_int_equal(tensors_table_create(&fixture->run.model, &fixture->table, &error), STATUS_OK);
    assert_int_equal(fragments_create(&fixture->table, 2, 1, FRAGMENT_PATTERN_STRIDED, FRAGMENT_BALANCE_LAYERS,
                                      &fixture->fragments, &error),
                     STATUS_OK);
    fixture->block = test_malloc(fixture->table.block_floats * sizeof(float));
    for (size_t i = 0; i < fixture->table.block_floats; i++)
        fixture->block[i] = 0.02f * rng_normal(7, 0, i);
    assert_int_equal(outer_copy_open(&fixture->copy, &fixture->fragments, &fixture->run, fixture->block, &error),
                     STATUS_OK);
    assert_int_equal(commit_maker_open(&fixture->maker, &fixture->copy, aggregate, feedback, &error), STATUS_OK);
}

static inline void fixture_open(struct fixture *fixture, const char *codec, const char *optimizer, bool feedback) {
    fixture_open_rule(fixture, codec, optimizer, feedback, OUTER_MEAN);
}

static inline void fixture_close(struct fixture *fixture) {
    commit_maker_close(&fixture->maker);
    outer_copy_close(&fixture->copy);
    test_free(fixture->block);
    fragments_destroy(&fixture->fragments);
    tensors_table_destroy(&fixture->table);
}

/* A contribution's payload with seeded values; values (count,) gets what it decodes to. */
static inline uint8_t *fixture_payload(const struct fixture *fixture, int f, uint64_t seed, float *values) {
    const struct fragment *fragment = &fixture->fragments.list[f];
    size_t bytes = outer_copy_payload_up(&fixture->copy, f);
    uint8_t *payload = test_malloc(bytes);
    for (size_t i = 0; i < fragment->count; i++)
        values[i] = 1e-3f * rng_normal(seed, (uint64_t)f, i);
    assert_int_equal(codec_encode_spans(fixture->copy.codec_up, fragment->spans, fragment->span_count, values, payload),
                     STATUS_OK);
    assert_int_equal(
        codec_decode_spans(fixture->copy.codec_up, fragment->spans, fragment->span_count, payload, bytes, values),
        STATUS_OK);
    return payload;
}

#endif
