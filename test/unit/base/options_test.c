#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/options.h"

struct values {
    const char *run_file;
    struct option_list rest;
    struct option_list set;
    bool json;
    int64_t workers;
    double rate;
    uint64_t link, wait, memory;
    int64_t colour;
    const char *out;
};

static const char *const colours[] = {"red", "green", NULL};
static const struct option_row rows[] = {
    OPTION_POSITIONAL(struct values, run_file, "RUN.yaml", "the run file"),
    OPTION_REST(struct values, rest, "DIR", true, "run directories"),
    OPTION_LIST(struct values, set, "set", 0, "KEY=VALUE", "change a key"),
    OPTION_FLAG(struct values, json, "json", 0, "the same as JSON"),
    OPTION_INTEGER(struct values, workers, "workers", 'n', "N", 1, 64, "how many"),
    OPTION_REAL(struct values, rate, "rate", 0, "R", 0, 1, "a part"),
    OPTION_RATE(struct values, link, "link", 0, "RATE", "the link"),
    OPTION_DURATION(struct values, wait, "wait", 0, "TIME", "how long"),
    OPTION_SIZE(struct values, memory, "memory", 0, "SIZE", "how much"),
    OPTION_CHOICE(struct values, colour, "colour", 0, "NAME", colours, "which"),
    OPTION_TEXT(struct values, out, "out", 'o', "OUT", "where to"),
    OPTION_END,
};
static const struct option_command command = {"try", "try the options", rows, "Example: atoll try a.yaml"};

enum { WORDS_MAX = 80 };

/* `line` cut at single spaces; '' is an empty word. */
static enum status parse(const char *line, struct values *values, bool *help, struct error *error) {
    static char copy[4096];
    static char empty[] = "";
    char *argv[WORDS_MAX] = {empty};
    int argc = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = strcmp(word, "''") == 0 ? empty : word;
    return options_parse(&command, argc, argv, values, help, error);
}

static void everything(void **state) {
    (void)state;
    struct values v = {.colour = 0, .rate = 0.25};
    struct error error;
    bool help;
    assert_int_equal(
        parse("--set a=1 x.yaml --json -n 4 d1 --set=b=2 --link 10Mbit/s --wait=40ms --memory 1MiB --colour green -o - "
              "-- --d2",
              &v, &help, &error),
        STATUS_OK);
    assert_false(help);
    assert_string_equal(v.run_file, "x.yaml");
    assert_int_equal(v.rest.count, 2);
    assert_string_equal(v.rest.items[0], "d1");
    assert_string_equal(v.rest.items[1], "--d2");
    assert_int_equal(v.set.count, 2);
    assert_string_equal(v.set.items[0], "a=1");
    assert_string_equal(v.set.items[1], "b=2");
    assert_true(v.json);
    assert_int_equal(v.workers, 4);
    assert_true(v.rate == 0.25); /* not given: as it was */
    assert_int_equal(v.link, 1250000);
    assert_int_equal(v.wait, 40000);
    assert_int_equal(v.memory, 1048576);
    assert_int_equal(v.colour, 1);
    assert_string_equal(v.out, "-");
}

static void errors(void **state) {
    (void)state;
    static const struct {
        const char *line, *text;
    } table[] = {
        {"", "RUN.yaml is missing: the run file (atoll try --help)"},
        {"x --jsno", "unknown option --jsno (did you mean --json?)"},
        {"x --jsno=3", "unknown option --jsno (did you mean --json?)"},
        {"x --frobnicate", "unknown option --frobnicate (atoll try --help lists them)"},
        {"x -z", "unknown option -z (atoll try --help lists them)"},
        {"x -n4", "unknown option -n4 (atoll try --help lists them)"},
        {"x --json --json", "--json is given twice"},
        {"x -o a --out b", "--out is given twice"},
        {"x --json=1", "--json takes no value, found '1'"},
        {"x --out", "--out needs a value: --out OUT"},
        {"x --out --json", "--out needs a value: --out OUT, found '--json' (--out=--json if that is the value)"},
        {"x --workers 0", "--workers: '0' is not a whole number from 1 to 64"},
        {"x --workers 4x", "--workers: '4x' is not a whole number from 1 to 64"},
        {"x --workers ''", "--workers: '' is not a whole number from 1 to 64"},
        {"x --rate nan", "--rate: 'nan' is not a number from 0 to 1"},
        {"x --rate 1.01", "--rate: '1.01' is not a number from 0 to 1"},
        {"x --link 10", "--link: '10' is not a rate such as 10Mbit/s, 250kB/s or unlimited"},
        {"x --wait 10", "--wait: '10' is not a duration such as 40ms, 2s or 24h"},
        {"x --memory 10", "--memory: '10' is not a size such as 256KiB or 10MB"},
        {"x --colour gren", "--colour: 'gren' is not one of red, green (did you mean 'green'?)"},
        {"x --colour blue", "--colour: 'blue' is not one of red, green"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct values v = {0};
        struct error error;
        bool help;
        char text[256];
        snprintf(text, sizeof text, "atoll try: %s", table[i].text);
        assert_int_equal(parse(table[i].line, &v, &help, &error), STATUS_USAGE);
        assert_string_equal(error.text, text);
    }
}

static void too_many(void **state) {
    (void)state;
    static const struct option_row one[] = {OPTION_POSITIONAL(struct values, run_file, "RUN.yaml", "the run file"),
                                            OPTION_LIST(struct values, set, "set", 0, "K=V", "change"), OPTION_END};
    static const struct option_command small = {"small", "", one, NULL};
    char *argv[2 + 2 * (OPTION_LIST_MAX + 1)] = {"small", "a", "b"};
    struct values v = {0};
    struct error error;
    bool help;
    assert_int_equal(options_parse(&small, 3, argv, &v, &help, &error), STATUS_USAGE);
    assert_string_equal(error.text, "atoll small: 'b' is one word too many (atoll small --help)");
    for (int i = 0; i <= OPTION_LIST_MAX; i++) {
        argv[2 + 2 * i] = "--set";
        argv[3 + 2 * i] = "a=b";
    }
    v = (struct values){0};
    assert_int_equal(options_parse(&small, 2 + 2 * OPTION_LIST_MAX, argv, &v, &help, &error), STATUS_OK);
    v = (struct values){0};
    assert_int_equal(options_parse(&small, 4 + 2 * OPTION_LIST_MAX, argv, &v, &help, &error), STATUS_USAGE);
    assert_string_equal(error.text, "atoll small: more than 64 times --set");
}

static void help_text(void **state) {
    (void)state;
    struct values v = {0};
    struct error error;
    bool help;
    assert_int_equal(parse("--help --jsno", &v, &help, &error), STATUS_OK);
    assert_true(help);
    assert_int_equal(parse("-h", &v, &help, &error), STATUS_OK);
    assert_true(help);
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    options_print_help(&command, out);
    fclose(out);
    assert_string_equal(text, "usage: atoll try RUN.yaml [DIR...] [options]\n"
                              "try the options\n"
                              "\n"
                              "  RUN.yaml                  the run file\n"
                              "  DIR                       run directories\n"
                              "  --set KEY=VALUE           change a key (may be repeated)\n"
                              "  --json                    the same as JSON\n"
                              "  -n, --workers N           how many\n"
                              "  --rate R                  a part\n"
                              "  --link RATE               the link\n"
                              "  --wait TIME               how long\n"
                              "  --memory SIZE             how much\n"
                              "  --colour NAME             which\n"
                              "  -o, --out OUT             where to\n"
                              "  -h, --help                this text\n"
                              "\n"
                              "Example: atoll try a.yaml\n");
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything),
        cmocka_unit_test(errors),
        cmocka_unit_test(too_many),
        cmocka_unit_test(help_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
