/* fixture: a temporary directory full of log files that a test writes line by line. */
#ifndef ATOLL_TEST_EXPERIMENTS_FIXTURE_H
#define ATOLL_TEST_EXPERIMENTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/files.h"

enum { FIXTURE_PATH_BYTES = 256 };

static char fixture_root[64];

static int fixture_setup(void **state) {
    (void)state;
    strcpy(fixture_root, "/tmp/atoll_experiments_XXXXXX");
    return mkdtemp(fixture_root) == NULL;
}

static int fixture_unlink(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info, (void)kind, (void)where;
    return remove(path);
}

static int fixture_teardown(void **state) {
    (void)state;
    return nftw(fixture_root, fixture_unlink, 8, FTW_DEPTH | FTW_PHYS);
}

/* ROOT/name. */
static inline const char *fixture_path(const char *name, char path[FIXTURE_PATH_BYTES]) {
    assert_true((size_t)snprintf(path, FIXTURE_PATH_BYTES, "%s/%s", fixture_root, name) < FIXTURE_PATH_BYTES);
    return path;
}

/* Appends bytes to ROOT/directory/name; makes the directory. */
static inline void fixture_append(const char *directory, const char *name, const char *bytes, size_t count) {
    struct error error;
    char path[FIXTURE_PATH_BYTES], file_path[FIXTURE_PATH_BYTES];
    assert_int_equal(files_make_directory(fixture_path(directory, path), 0755, &error), STATUS_OK);
    files_join(file_path, sizeof file_path, path, name);
    FILE *file = fopen(file_path, "a");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

/* One record into ROOT/directory/log.jsonl: its time in microseconds, its event, and the rest of the object ("" or ", ..."). */
static inline void fixture_record(const char *directory, const char *t_wall, int64_t t_us, const char *event,
                                  const char *rest) {
    char line[2048];
    int length = snprintf(line, sizeof line, "{\"event\": \"%s\", \"t_wall\": \"%s\", \"t_us\": %lld%s}\n", event,
                          t_wall, (long long)t_us, rest);
    assert_in_range(length, 1, sizeof line - 1);
    fixture_append(directory, "log.jsonl", line, (size_t)length);
}

/* A whole file, NUL-terminated; the caller frees it. */
static inline char *fixture_text(const char *name) {
    uint8_t *bytes;
    size_t count;
    struct error error;
    char path[FIXTURE_PATH_BYTES];
    assert_int_equal(files_read(fixture_path(name, path), 1 << 24, &bytes, &count, &error), STATUS_OK);
    return (char *)bytes;
}

#endif
