/* own_values: what the command line of an earlier start said is there again, but for what this one says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/files.h"
#include "worker/own_values.h"

static char directory[64], path[128];
static struct own_values own;
static struct error error;

static int make_directory(void **state) {
    (void)state;
    strcpy(directory, "/tmp/atoll_own_XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    files_join(path, sizeof path, directory, "own.json");
    return chdir("/usr");
}

static int remove_directory(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? 0 : -1;
}

static enum status open_with(struct own_values given) {
    return own_values_open(directory, &given, &own, &error);
}

/* A start that succeeds. */
static void start_with(struct own_values given) {
    assert_int_equal(open_with(given), STATUS_OK);
    assert_int_equal(own_values_save(&own, directory, &error), STATUS_OK);
    own_values_close(&own);
}

static void must_open(struct own_values given) {
    if (open_with(given) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void nothing_is_kept_of_nothing(void **state) {
    (void)state;
    start_with((struct own_values){0});
    assert_false(files_exists(path));
    must_open((struct own_values){0});
    assert_null(own.name);
    assert_int_equal(own.data.count + own.val.count + own.set.count, 0);
    assert_string_equal(own.kept, "");
    own_values_close(&own);
}

static void a_start_that_says_nothing_goes_on_as_before(void **state) {
    (void)state;
    start_with((struct own_values){.name = "attic",
                                   .data = {{"own*.txt", "/abs.txt"}, 2},
                                   .val = {{"held.txt"}, 1},
                                   .set = {{"link.up=10Mbit/s", "inner.threads=2"}, 2}});
    assert_int_equal(chdir("/"), 0);
    for (int again = 0; again < 2; again++) {
        must_open((struct own_values){0});
        assert_string_equal(own.name, "attic");
        assert_int_equal(own.data.count, 2);
        assert_string_equal(own.data.items[0], "/usr/own*.txt"); /* of where it was typed */
        assert_string_equal(own.data.items[1], "/abs.txt");
        assert_int_equal(own.val.count, 1);
        assert_string_equal(own.val.items[0], "/usr/held.txt");
        assert_int_equal(own.set.count, 2);
        assert_string_equal(own.set.items[0], "link.up=10Mbit/s");
        assert_string_equal(own.set.items[1], "inner.threads=2");
        assert_string_equal(own.kept, "--name attic --data /usr/own*.txt --data /abs.txt --val /usr/held.txt "
                                      "--set link.up=10Mbit/s --set inner.threads=2");
        assert_int_equal(own_values_save(&own, directory, &error), STATUS_OK);
        own_values_close(&own);
    }
}

static void the_command_line_wins(void **state) {
    (void)state;
    start_with((struct own_values){.name = "attic",
                                   .data = {{"/a.txt", "/b.txt"}, 2},
                                   .val = {{"/held.txt"}, 1},
                                   .set = {{"link.up=10Mbit/s", "inner.threads=2"}, 2}});
    must_open((struct own_values){
        .name = "cellar", .data = {{"/c.txt"}, 1}, .set = {{"link.up=1Mbit/s", "link.down=2Mbit/s"}, 2}});
    assert_string_equal(own.name, "cellar");
    assert_int_equal(own.data.count, 1);
    assert_string_equal(own.data.items[0], "/c.txt");
    assert_int_equal(own.set.count, 3);
    assert_string_equal(own.set.items[0], "inner.threads=2");
    assert_string_equal(own.set.items[1], "link.up=1Mbit/s");
    assert_string_equal(own.set.items[2], "link.down=2Mbit/s");
    assert_string_equal(own.kept, "--val /held.txt --set inner.threads=2");
    own_values_close(&own); /* it came to nothing: not saved */
    must_open((struct own_values){0});
    assert_string_equal(own.data.items[0], "/a.txt");
    own_values_close(&own);
}

/* --set data.val too is of the directory where it was typed; and what is kept can be read again. */
static void paths_in_set_become_absolute(void **state) {
    (void)state;
    struct run_file run;
    static const char text[] = "data: {train: [/run.txt]}\n";
    must_open((struct own_values){.set = {{"data.val=[held.txt, /with\"quote.txt]", "link.up=1Mbit/s"}, 2}});
    for (int again = 0; again < 2; again++) {
        assert_int_equal(
            run_file_parse(text, sizeof text - 1, "run.yaml", "/", own.set.items, own.set.count, &run, &error),
            STATUS_OK);
        assert_int_equal(run.data.val_count, 2);
        assert_string_equal(run.data.val[0], "/usr/held.txt");
        assert_string_equal(run.data.val[1], "/with\"quote.txt");
        assert_string_equal(run.data.train[0], "/run.txt");
        assert_string_equal(own.set.items[0], "data.val=[\"/usr/held.txt\",\"/with\\\"quote.txt\"]");
        assert_string_equal(own.set.items[1], "link.up=1Mbit/s");
        assert_string_equal(run.data.train[0], "/run.txt"); /* --data says nothing */
        assert_int_equal(own_values_save(&own, directory, &error), STATUS_OK);
        own_values_close(&own);
        assert_int_equal(chdir("/"), 0);
        must_open((struct own_values){0});
    }
    own_values_close(&own);
}

/* What only comes to be a path with the working directory, and what no run file takes: refused before anybody is asked for a place. */
static void a_set_that_cannot_be_kept_is_refused(void **state) {
    (void)state;
    char here[128];
    snprintf(here, sizeof here, "%s/\xff", directory);
    assert_int_equal(mkdir(here, 0755), 0);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(open_with((struct own_values){.set = {{"data.train=[t.txt]"}, 1}}), STATUS_USAGE);
    assert_non_null(strstr(error.text, "\xff/t.txt: this is not UTF-8"));
    own_values_close(&own);
    must_open((struct own_values){.set = {{"data.train=[/t.txt]", "link.up=1Mbit/s"}, 2}});
    own_values_close(&own);
    assert_int_equal(open_with((struct own_values){.set = {{"inner.nonsense=1"}, 1}}), STATUS_CONFIG);
    own_values_close(&own);
    assert_int_equal(chdir("/"), 0);
}

/* Saved before they have proved good, they go when they do not; a name that is not in force is not kept. */
static void forgotten_and_renamed(void **state) {
    (void)state;
    must_open((struct own_values){.name = "attic", .data = {{"/a.txt"}, 1}});
    assert_false(own.found);
    own_values_rename(&own, "cellar");
    assert_string_equal(own.name, "cellar");
    assert_int_equal(own_values_save(&own, directory, &error), STATUS_OK);
    own_values_close(&own);
    must_open((struct own_values){0});
    assert_true(own.found);
    assert_string_equal(own.name, "cellar");
    own_values_close(&own);
    own_values_forget(directory);
    assert_false(files_exists(path));
}

static void data_and_val_replace_those_of_the_run(void **state) {
    (void)state;
    struct run_file run;
    static const char text[] = "data: {train: [/run.txt, /more.txt], val: [/held.txt]}\n";
    must_open((struct own_values){.data = {{"own.txt"}, 1}, .val = {{"/a.txt", "/b.txt"}, 2}});
    assert_int_equal(run_file_parse(text, sizeof text - 1, "run.yaml", "/", NULL, 0, &run, &error), STATUS_OK);
    own_values_apply(&own, &run);
    assert_int_equal(run.data.train_count, 1);
    assert_string_equal(run.data.train[0], "/usr/own.txt");
    assert_int_equal(run.data.val_count, 2);
    assert_string_equal(run.data.val[1], "/b.txt");
    own_values_close(&own);
}

static void refusals(void **state) {
    (void)state;
    char expected[256], longest[DATA_GLOB_BYTES];
    static const char *const damaged[] = {"",
                                          "{",
                                          "[]",
                                          "{\"schema\": 1, \"data\": [], \"val\": []}",
                                          "{\"schema\": 1, \"data\": [], \"val\": [], \"set\": [1]}",
                                          "{\"schema\": 1, \"data\": {}, \"val\": [], \"set\": []}",
                                          "{\"schema\": 1, \"data\": [], \"val\": [], \"set\": [], \"x\": 1}"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        assert_int_equal(files_write_atomic(path, damaged[i], strlen(damaged[i]), 0644, &error), STATUS_OK);
        assert_int_equal(open_with((struct own_values){0}), STATUS_DATA);
        snprintf(expected, sizeof expected,
                 "%s is damaged: remove it, and give this worker its own --data, --val and --set again", path);
        assert_string_equal(error.text, expected);
        own_values_close(&own);
    }
    char too_long[DATA_GLOB_BYTES + 64];
    int count = snprintf(too_long, sizeof too_long, "{\"schema\": 1, \"data\": [\"/%0*d\"], \"val\": [], \"set\": []}",
                         DATA_GLOB_BYTES - 1, 0);
    assert_int_equal(files_write_atomic(path, too_long, (size_t)count, 0644, &error), STATUS_OK);
    assert_int_equal(open_with((struct own_values){0}), STATUS_DATA);
    own_values_close(&own);
    assert_int_equal(files_write_atomic(path, "{\"schema\": 2}", 13, 0644, &error), STATUS_OK);
    assert_int_equal(open_with((struct own_values){0}), STATUS_CONFIG);
    own_values_close(&own);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(open_with((struct own_values){.data = {{"\xff"}, 1}}), STATUS_USAGE);
    assert_string_equal(error.text, "--data /usr/\xff: this is not UTF-8");
    own_values_close(&own);
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0; /* fits, but not behind its directory */
    assert_int_equal(open_with((struct own_values){.val = {{longest}, 1}}), STATUS_USAGE);
    assert_non_null(strstr(error.text, "...: longer than 511 bytes with its directory"));
    own_values_close(&own);
    struct own_values many = {.data.count = DATA_GLOBS_MAX + 1};
    for (int i = 0; i < many.data.count; i++)
        many.data.items[i] = "/a.txt";
    assert_int_equal(open_with(many), STATUS_USAGE);
    assert_string_equal(error.text, "at most 16 of --data and of --val");
    own_values_close(&own);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_kept_of_nothing, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(a_start_that_says_nothing_goes_on_as_before, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(the_command_line_wins, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(paths_in_set_become_absolute, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(a_set_that_cannot_be_kept_is_refused, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(forgotten_and_renamed, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(data_and_val_replace_those_of_the_run, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(refusals, make_directory, remove_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
