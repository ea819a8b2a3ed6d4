/* said: whole lines of one kind, once each, and none of those from before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "experiments/said.h"

static char path[64];

static void add(const char *text) {
    FILE *file = fopen(path, "a");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void expect(struct said *said, const char *expected) {
    const char *found = said_newest(said, "not leading yet: ");
    if (expected == NULL)
        assert_null(found);
    else
        assert_string_equal(found, expected);
}

static void test_lines(void **state) {
    (void)state;
    struct said said;
    snprintf(path, sizeof path, "/tmp/atoll-said-XXXXXX");
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    add("12:00:00 outer: warning: not leading yet: of an earlier start\n");
    said_open(&said, path);
    expect(&said, NULL);
    add("12:00:01 outer: run t\n12:00:02 outer: warning: not leading yet: waiting");
    expect(&said, NULL);
    add(" for two\n");
    expect(&said, "not leading yet: waiting for two");
    add("12:00:12 outer: warning: not leading yet: waiting for two\n");
    expect(&said, "not leading yet: waiting for two");
    add("12:00:22 outer: warning: not leading yet: waiting for one\n12:00:22 outer: other\n");
    expect(&said, "not leading yet: waiting for one");
    expect(&said, NULL);
    for (int i = 0; i < 1000; i++)
        add("long");
    add(" not leading yet: behind what is kept of a line\nnot leading yet: b\n");
    expect(&said, "not leading yet: b");
    unlink(path);
    expect(&said, NULL);
}

/* The child has not written yet. */
static void test_no_file_yet(void **state) {
    (void)state;
    struct said said;
    snprintf(path, sizeof path, "/tmp/atoll-said-%d", (int)getpid());
    said_open(&said, path);
    expect(&said, NULL);
    add("not leading yet: a\n");
    expect(&said, "not leading yet: a");
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_no_file_yet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
