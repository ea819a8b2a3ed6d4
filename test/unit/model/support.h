/* support: what the model's tests share: a small model, a temporary directory, files made on the spot. */
#ifndef ATOLL_TEST_MODEL_SUPPORT_H
#define ATOLL_TEST_MODEL_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "model/model.h"

enum { SUPPORT_PATH_BYTES = 512 };

/* 2 layers, width 32, 4 heads on 2 kv heads, ffn 48, context 16, vocab 256. */
static inline struct model_options support_options(bool tied) {
    return (struct model_options){.shape = {.layers = 2,
                                            .width = 32,
                                            .heads = 4,
                                            .kv_heads = 2,
                                            .head_dim = 8,
                                            .ffn = 48,
                                            .context = 16,
                                            .vocab = 256,
                                            .tied = tied,
                                            .rope_theta = 1e4,
                                            .norm_eps = 1e-6,
                                            .z_loss = 1e-4},
                                  .inner = {.lr = 1e-2,
                                            .steps = 100,
                                            .batch_per_worker = 4,
                                            .accumulate = 1,
                                            .weight_decay = 0.1,
                                            .clip = 1.0,
                                            .beta1 = 0.9,
                                            .beta2 = 0.95,
                                            .eps = 1e-8,
                                            .seed = 7,
                                            .threads = 1}};
}

static inline struct model *support_model(const struct model_options *options) {
    struct model *model = NULL;
    struct error error = {0};
    if (model_create(options, &model, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return model;
}

/* A new directory; static text, one at a time. */
static inline const char *support_directory(void) {
    static char path[SUPPORT_PATH_BYTES];
    snprintf(path, sizeof path, "/tmp/atoll-model-test-XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

static inline void support_remove(const char *directory) {
    char command[SUPPORT_PATH_BYTES + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    assert_int_equal(system(command), 0);
}

static inline void support_write(const char *directory, const char *name, const void *bytes, size_t count) {
    char path[2 * SUPPORT_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

/* error.text must be `expected` where every '@' stands for the directory. */
static inline void support_assert_text(const struct error *error, const char *directory, const char *expected) {
    char text[2 * ERROR_TEXT_BYTES];
    size_t length = 0;
    for (const char *c = expected; *c && length + strlen(directory) + 1 < sizeof text; c++)
        length +=
            (size_t)snprintf(text + length, sizeof text - length, *c == '@' ? "%s" : "%.1s", *c == '@' ? directory : c);
    text[length] = 0;
    assert_string_equal(error->text, text);
}

#endif
