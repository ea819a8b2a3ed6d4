/* checkpoint_fixture: a directory for a test, checkpoints of which every value follows from a seed, and what lies there. */
#ifndef ATOLL_TEST_CHECKPOINT_FIXTURE_H
#define ATOLL_TEST_CHECKPOINT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/bytes.h"
#include "base/checkpoint.h"
#include "base/checkpoint_file.h"
#include "base/failpoint.h"
#include "base/files.h"

enum { PATH_BYTES = 200, TEXT_BYTES = 1000, WEIGHTS = 300, LETTERS = 77 };

static char directory[PATH_BYTES]; /* fresh for each test */
static char root[PATH_BYTES];      /* its checkpoint/ */

static inline void set_failpoints(const char *variable) {
    struct error error;
    setenv("ATOLL_FAILPOINT", variable, 1);
    assert_int_equal(failpoint_open(&error), STATUS_OK);
}

static inline int setup(void **state) {
    (void)state;
    strcpy(directory, "/tmp/atoll_checkpoint_XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    files_join(root, sizeof root, directory, "checkpoint");
    set_failpoints("");
    return 0;
}

static inline int teardown(void **state) {
    (void)state;
    set_failpoints("");
    char command[PATH_BYTES + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? 0 : -1;
}

/* ---- what is written: all of it follows from `seed` ---- */

struct sample {
    float weights[WEIGHTS];
    uint8_t letters[LETTERS];
};

static inline void sample_fill(struct sample *sample, int seed) {
    for (int i = 0; i < WEIGHTS; i++)
        sample->weights[i] = (float)(seed * 1000 + i) / 7;
    for (int i = 0; i < LETTERS; i++)
        sample->letters[i] = (uint8_t)(seed + i);
}

static inline enum status write_seed(int seed, uint64_t *generation, struct error *error) {
    struct sample sample;
    sample_fill(&sample, seed);
    const struct checkpoint_array arrays[] = {
        {"outer.letters", CHECKPOINT_U8, sample.letters, LETTERS}, /* odd: must not misalign what follows */
        {"inner.weights", CHECKPOINT_F32, sample.weights, WEIGHTS},
        {"none", CHECKPOINT_F32, NULL, 0},
    };
    json_t *state = json_pack("{s:i, s:f, s:s}", "seed", seed, "lr", 0.1, "text", "sch\xc3\xb6n \"x\"\n");
    enum status status = checkpoint_write(directory, "outer", state, arrays, 3, generation, error);
    assert_int_equal(state->refcount, 1);
    json_decref(state);
    return status;
}

static inline uint64_t must_write(int seed) {
    struct error error = {0};
    uint64_t generation = 0;
    if (write_seed(seed, &generation, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return generation;
}

/* The seed of an opened checkpoint; fails when any part is of another one. */
static inline int seed_of(const struct checkpoint *checkpoint) {
    struct error error;
    struct sample expected, found;
    const json_t *state = checkpoint_state(checkpoint);
    int seed = (int)json_integer_value(json_object_get(state, "seed"));
    assert_true(json_real_value(json_object_get(state, "lr")) == 0.1);
    assert_string_equal(json_string_value(json_object_get(state, "text")), "sch\xc3\xb6n \"x\"\n");
    sample_fill(&expected, seed);
    assert_int_equal(checkpoint_read(checkpoint, "inner.weights", CHECKPOINT_F32, found.weights, WEIGHTS, &error), 0);
    assert_int_equal(checkpoint_read(checkpoint, "outer.letters", CHECKPOINT_U8, found.letters, LETTERS, &error), 0);
    assert_int_equal(checkpoint_read(checkpoint, "none", CHECKPOINT_F32, NULL, 0, &error), 0);
    assert_memory_equal(found.weights, expected.weights, sizeof found.weights);
    assert_memory_equal(found.letters, expected.letters, sizeof found.letters);
    return seed;
}

/* Opens, checks all of it, closes; the seed. */
static inline int must_open(struct error *warning) {
    struct error error = {0};
    struct checkpoint *checkpoint = NULL;
    if (checkpoint_open(directory, "outer", &checkpoint, warning, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    int seed = seed_of(checkpoint);
    checkpoint_close(checkpoint);
    return seed;
}

static inline enum status open_fails(struct error *error) {
    struct error warning;
    struct checkpoint *checkpoint = (struct checkpoint *)directory; /* must stay as it is */
    enum status status = checkpoint_open(directory, "outer", &checkpoint, &warning, error);
    assert_ptr_equal(checkpoint, directory);
    assert_string_equal(warning.text, "");
    return status;
}

/* ---- looking at the directory ---- */

static inline int is_visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* "00000001 00000002 " */
static inline char *listing(void) {
    static char text[TEXT_BYTES];
    struct dirent **entries = NULL;
    int count = scandir(root, &entries, is_visible, alphasort);
    text[0] = '\0';
    for (int i = 0; i < count; i++) {
        strcat(text, entries[i]->d_name);
        strcat(text, " ");
        free(entries[i]);
    }
    free(entries);
    return text;
}

static inline char *path_of(const char *name) {
    static char paths[4][PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    files_join(path, PATH_BYTES, root, name);
    return path;
}

/* @ in `pattern` stands for checkpoint/ */
static inline void assert_text(const char *text, const char *pattern) {
    char expected[TEXT_BYTES] = "";
    for (; *pattern != '\0'; pattern++)
        if (*pattern == '@')
            strcat(expected, root);
        else
            strncat(expected, pattern, 1);
    assert_string_equal(text, expected);
}

static inline void read_file(const char *name, uint8_t **bytes, size_t *count) {
    struct error error;
    assert_int_equal(files_read(path_of(name), 1 << 20, bytes, count, &error), STATUS_OK);
}

static inline void write_file(const char *name, const void *bytes, size_t count) {
    FILE *file = fopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
