/* The mechanism, on a schema of its own. What the run file adds is in test/unit/outer/run_file_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/settings.h"
#include "base/settings_text.h"

struct box {
    int64_t count;
    int64_t layers;
    double part;
    double above;
    bool open;
    int64_t colour;
    uint64_t rate, time, size;
    int64_t grace;
    int64_t share;
    char title[8];
    char paths[3][16];
    int64_t path_count;
};
struct sync_values {
    bool off;
    int64_t every;
};
struct target {
    char name[8];
    struct box box;
    struct sync_values sync;
};

static const char *const colours[] = {"red", "green", NULL};
static const char *const only[] = {"adamw", NULL};
static const struct setting_row top_rows[] = {{SETTING_NAME(struct target, name, "run", "the name")}};
static const struct setting_row box_rows[] = {
    {SETTING_INTEGER(struct box, count, 1, 64, "4", "things", "in a box")},
    {SETTING_INTEGER_OR_WORD(struct box, layers, 1, 9, "all", 0, "3", "", "layers")},
    {SETTING_REAL(struct box, part, 0, 1, "0.5", "", "a part")},
    {SETTING_REAL_ABOVE(struct box, above, 0, 10, "1e-6", "", "above zero")},
    {SETTING_BOOL(struct box, open, "true", "the lid")},
    {SETTING_CHOICE(struct box, colour, colours, "green", "the paint")},
    {SETTING_FIXED("optimizer", only, "adamw", "the only one")},
    {SETTING_RATE(struct box, rate, "rate", "unlimited", "a rate"), .scope = SETTING_SCOPE_NODE},
    {SETTING_DURATION(struct box, time, "time", "40ms", "a time")},
    {SETTING_SIZE(struct box, size, "size", "1KiB", "a size"), .scope = SETTING_SCOPE_CONTINUED},
    {SETTING_DURATION_OR_WORD(struct box, grace, "grace", "auto", -1, "auto", "a wait")},
    {SETTING_COUNT_OR_PERCENT(struct box, share, 64, "all", "all", "lids", "that are open")},
    {SETTING_TEXT(struct box, title, "t", "a title")},
    {SETTING_PATHS(struct box, paths, path_count, "files"), .scope = SETTING_SCOPE_NODE},
};
static const struct setting_row sync_rows[] = {{SETTING_INTEGER(struct sync_values, every, 1, 99, "9", "", "steps")}};
static const struct setting_table tables[] = {
    {.section = NULL, .doc = "Top", .rows = top_rows, .row_count = 1},
    {.section = "box", .doc = "A box", .rows = box_rows, .row_count = 14, .base_offset = offsetof(struct target, box)},
    {.section = "sync",
     .doc = "Sync",
     .rows = sync_rows,
     .row_count = 1,
     .base_offset = offsetof(struct target, sync),
     .has_switch = true,
     .switch_offset = offsetof(struct target, sync.off)},
};
static const struct setting_alias aliases[] = {
    {"H", "sync.every", NULL}, {"n", "box.count", "things, not boxes"}, {"n", "sync.every", NULL}};
static const struct settings_schema schema = {tables, 3, aliases, 3, sizeof(struct target)};

static enum status load(const char *text, size_t bytes, const char *const *overrides, int override_count,
                        struct target *target, struct error *error) {
    struct settings *settings = settings_begin(&schema, target, "f.yaml");
    settings_read(settings, text, bytes);
    for (int i = 0; i < override_count; i++)
        settings_override(settings, overrides[i]);
    return settings_end(settings, error);
}

static void expect_errors(const char *yaml, const char *text) {
    struct target target = {0};
    struct error error = {0};
    enum status status = load(yaml, strlen(yaml), NULL, 0, &target, &error);
    if (status != STATUS_CONFIG || strcmp(error.text, text) != 0)
        fail_msg("status %d for:\n%s\nexpected:\n%s\nfound:\n%s", status, yaml, text, error.text);
}

static void values(void **state) {
    (void)state;
    struct target t = {0};
    struct error error;
    static const char block[] = "name: a.b-c\n"
                                "box:\n"
                                "  count: 64\n"
                                "  layers: all\n"
                                "  part: 1e-3\n"
                                "  above: .5\n"
                                "  open: false\n"
                                "  colour: red\n"
                                "  optimizer: adamw\n"
                                "  rate: 10 Mbit/s\n"
                                "  time: 2s\n"
                                "  size: \"1MiB\"\n"
                                "  grace: 1ms\n"
                                "  share: 64\n"
                                "  title: 'x y'\n"
                                "  paths: [a, '*.b']\n"
                                "sync: {every: 5}\n";
    assert_int_equal(load(block, strlen(block), NULL, 0, &t, &error), STATUS_OK);
    assert_string_equal(t.name, "a.b-c");
    assert_int_equal(t.box.count, 64);
    assert_int_equal(t.box.layers, 0);
    assert_true(t.box.part == 1e-3);
    assert_true(t.box.above == 0.5);
    assert_false(t.box.open);
    assert_int_equal(t.box.colour, 0);
    assert_int_equal(t.box.rate, 1250000);
    assert_int_equal(t.box.time, 2000000);
    assert_int_equal(t.box.size, 1048576);
    assert_int_equal(t.box.grace, 1000);
    assert_int_equal(t.box.share, 64);
    assert_string_equal(t.box.title, "x y");
    assert_int_equal(t.box.path_count, 2);
    assert_string_equal(t.box.paths[1], "*.b");
    assert_int_equal(t.sync.every, 5);
    assert_false(t.sync.off);
}

static void defaults_and_short_forms(void **state) {
    (void)state;
    struct target t = {0};
    struct error error;
    static const char text[] = "sync: off\nbox:\n";
    assert_int_equal(load(text, strlen(text), NULL, 0, &t, &error), STATUS_OK);
    assert_string_equal(t.name, "run");
    assert_int_equal(t.box.layers, 3);
    assert_int_equal(t.box.colour, 1);
    assert_int_equal(t.box.grace, -1);
    assert_int_equal(t.box.share, 0);
    assert_int_equal(t.box.path_count, 0);
    assert_true(t.sync.off);
    static const char scalar[] = "box: {paths: one.txt}";
    assert_int_equal(load(scalar, strlen(scalar), NULL, 0, &t, &error), STATUS_OK);
    assert_int_equal(t.box.path_count, 1);
    assert_string_equal(t.box.paths[0], "one.txt");
}

static void overrides(void **state) {
    (void)state;
    struct target t = {0};
    struct error error;
    static const char text[] = "name: a\nbox: {count: 5, paths: [x, y]}\nsync: off\n";
    static const char *const fine[] = {"box.count=6",   "box.count=7",     "name=b",
                                       "box.paths=[z]", "sync={every: 3}", "box={colour: red, part: 0.25}"};
    assert_int_equal(load(text, strlen(text), fine, 6, &t, &error), STATUS_OK);
    assert_int_equal(t.box.count, 7); /* the last wins */
    assert_string_equal(t.name, "b");
    assert_int_equal(t.box.path_count, 1);
    assert_string_equal(t.box.paths[0], "z");
    assert_false(t.sync.off); /* keys turn it on again */
    assert_int_equal(t.sync.every, 3);
    assert_int_equal(t.box.colour, 0);
    assert_true(t.box.part == 0.25);
    static const char *const bad[] = {"box.count=x",
                                      "box.cuont=3",
                                      "count",
                                      "=3",
                                      "bxo.count=3",
                                      "box.count=",
                                      "box={n: 3}",
                                      "box=3",
                                      "sync=7",
                                      "box.count=[",
                                      "box.open=yes: no",
                                      "sync.every.x=3",
                                      "box={count: 1, count: 2}"};
    assert_int_equal(load("name: '!'", 9, bad, 13, &t, &error), STATUS_CONFIG);
    assert_string_equal(
        error.text,
        "f.yaml:1:7: name: '!' is not a name of 1 to 7 letters, digits, '.', '_' or '-' that begins with a letter or "
        "digit (the "
        "name)\n"
        "--set box.count=x: 'x' is not a whole number from 1 to 64 (things in a box)\n"
        "--set box.cuont=3: unknown key (did you mean 'count'?)\n"
        "--set count: expected KEY=VALUE, such as sync.every_steps=50\n"
        "--set =3: expected KEY=VALUE, such as sync.every_steps=50\n"
        "--set bxo.count=3: bxo: unknown key (did you mean 'box'?)\n"
        "--set box.count=: has no value\n"
        "--set box={n: 3}: box.n: unknown key; atoll calls it box.count (things, not boxes)\n"
        "--set box=3: found text, expected a mapping of keys such as {count: 4} (A box)\n"
        "--set sync=7: '7' is neither off nor a mapping of keys (Sync)\n"
        "--set box.count=[: not YAML: while parsing a flow node, did not find expected node content\n"
        "--set box.open=yes: no: found a mapping, expected true or false (the lid)\n"
        "--set sync.every.x=3: unknown key (did you mean 'every'?)\n"
        "--set box={count: 1, count: 2}: box.count: given twice");
}

/* A part is held as a negative number: no count is one. */
static void count_or_percent(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {{"1", 1}, {"64", 64}, {"1%", -1}, {"50%", -50}, {"100%", -100}, {"all", 0}, {"'7%'", -7}};
    char yaml[64];
    char text[256];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct target t = {0};
        struct error error;
        snprintf(yaml, sizeof yaml, "box: {share: %s}", good[i].text);
        assert_int_equal(load(yaml, strlen(yaml), NULL, 0, &t, &error), STATUS_OK);
        assert_int_equal(t.box.share, good[i].value);
    }
    static const char *const bad[] = {"0",
                                      "65",
                                      "-1",
                                      "0%",
                                      "101%",
                                      "-50%",
                                      "050%",
                                      "50%%",
                                      "5 0%",
                                      "50 %",
                                      "1.5%",
                                      "0.5",
                                      "half",
                                      "+5%",
                                      "all%",
                                      "-0%",
                                      "0x10%",
                                      "99999999999999999999%",
                                      "99999999999999999999999999999999999999%"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(yaml, sizeof yaml, "box: {share: %s}", bad[i]);
        snprintf(text, sizeof text,
                 "f.yaml:1:14: box.share: '%s' is not a whole number from 1 to 64, 1%% to 100%% or all (lids that are "
                 "open)",
                 bad[i]);
        expect_errors(yaml, text);
    }
    expect_errors("box: {share: '%'}", "f.yaml:1:14: box.share: '%' is not a whole number from 1 to 64, 1% to 100% or "
                                       "all (lids that are open)");
    expect_errors("box: {share: }", "f.yaml:1:14: box.share: has no value, expected a whole number from 1 to 64, 1% to "
                                    "100% or all (lids that are open)");
}

static void bad_values(void **state) {
    (void)state;
    expect_errors("box:\n  count: 65\n",
                  "f.yaml:2:10: box.count: '65' is not a whole number from 1 to 64 (things in a box)");
    expect_errors("box: {count: 30abc}",
                  "f.yaml:1:14: box.count: '30abc' is not a whole number from 1 to 64 (things in a box)");
    expect_errors("box: {count: 010}",
                  "f.yaml:1:14: box.count: '010' is not a whole number from 1 to 64 (things in a box)");
    expect_errors("box: {count: 0x10}",
                  "f.yaml:1:14: box.count: '0x10' is not a whole number from 1 to 64 (things in a box)");
    expect_errors("box: {count: 1e1}",
                  "f.yaml:1:14: box.count: '1e1' is not a whole number from 1 to 64 (things in a box)");
    expect_errors(
        "box: {count: 99999999999999999999}",
        "f.yaml:1:14: box.count: '99999999999999999999' is not a whole number from 1 to 64 (things in a box)");
    expect_errors("box: {count: }",
                  "f.yaml:1:14: box.count: has no value, expected a whole number from 1 to 64 (things in a box)");
    expect_errors("box: {count: [1]}",
                  "f.yaml:1:14: box.count: found a list, expected a whole number from 1 to 64 (things in a box)");
    expect_errors("box: {count: {a: 1}}",
                  "f.yaml:1:14: box.count: found a mapping, expected a whole number from 1 to 64 (things in a box)");
    expect_errors("box: {layers: most}",
                  "f.yaml:1:15: box.layers: 'most' is not a whole number from 1 to 9 or all (layers)");
    expect_errors("box: {part: 0.5x}", "f.yaml:1:13: box.part: '0.5x' is not a number from 0 to 1 (a part)");
    expect_errors("box: {part: nan}", "f.yaml:1:13: box.part: 'nan' is not a number from 0 to 1 (a part)");
    expect_errors("box: {part: 1e999}", "f.yaml:1:13: box.part: '1e999' is not a number from 0 to 1 (a part)");
    expect_errors("box: {part: -0.1}", "f.yaml:1:13: box.part: '-0.1' is not a number from 0 to 1 (a part)");
    expect_errors("box: {above: 0}", "f.yaml:1:14: box.above: '0' is not a number above 0, at most 10 (above zero)");
    expect_errors("box: {open: yes}", "f.yaml:1:13: box.open: 'yes' is not true or false (the lid)");
    expect_errors("box: {open: True}", "f.yaml:1:13: box.open: 'True' is not true or false (the lid)");
    expect_errors("box: {colour: gren}",
                  "f.yaml:1:15: box.colour: 'gren' is not one of red, green; did you mean 'green'? (the paint)");
    expect_errors("box: {optimizer: sgd}", "f.yaml:1:18: box.optimizer: 'sgd' is not adamw (the only one)");
    expect_errors("box: {rate: 10}",
                  "f.yaml:1:13: box.rate: '10' is not a rate such as 10Mbit/s, 250kB/s or unlimited (a rate)");
    expect_errors("box: {time: soon}",
                  "f.yaml:1:13: box.time: 'soon' is not a duration such as 40ms, 2s or 24h (a time)");
    expect_errors("box: {size: big}", "f.yaml:1:13: box.size: 'big' is not a size such as 256KiB or 10MB (a size)");
    expect_errors("box: {grace: late}",
                  "f.yaml:1:14: box.grace: 'late' is not a duration such as 40ms, 2s or 24h or auto (a wait)");
    expect_errors("box: {title: 12345678}",
                  "f.yaml:1:14: box.title: '12345678' is not printable text of 1 to 7 bytes (a title)");
    expect_errors("box: {title: \"a\\0b\"}", "f.yaml:1:14: box.title: holds a NUL (a title)");
    expect_errors("box: {title: \"a\\tb\"}",
                  "f.yaml:1:14: box.title: 'a?b' is not printable text of 1 to 7 bytes (a title)");
    expect_errors("box: {paths: {a: b}}", "f.yaml:1:14: box.paths: found a mapping, expected a list of paths (files)");
    expect_errors("box: {paths: [a, [b], c, d, e]}",
                  "f.yaml:1:18: box.paths: found a list, expected a path of 1 to 15 printable bytes (files)\n"
                  "f.yaml:1:29: box.paths: 'e' is not a path of 1 to 15 printable bytes; more than 3 of them (files)");
    expect_errors("box: 3", "f.yaml:1:6: box: found text, expected a mapping of keys such as {count: 4} (A box)");
    expect_errors("box: [count]",
                  "f.yaml:1:6: box: found a list, expected a mapping of keys such as {count: 4} (A box)");
    expect_errors("sync: of", "f.yaml:1:7: sync: 'of' is neither off nor a mapping of keys (Sync)");
}

static void bad_keys(void **state) {
    (void)state;
    expect_errors("box: {cuont: 3}", "f.yaml:1:7: box.cuont: unknown key (did you mean 'count'?)");
    expect_errors("bxo: {count: 3}", "f.yaml:1:1: bxo: unknown key (did you mean 'box'?)");
    expect_errors("count: 3", "f.yaml:1:1: count: unknown key (did you mean box.count?)");
    expect_errors("frobnicate: 3", "f.yaml:1:1: frobnicate: unknown key (known here: name, box, sync)");
    expect_errors("sync: {frobnicate: 3}", "f.yaml:1:8: sync.frobnicate: unknown key (known here: every)");
    expect_errors("box: {H: 3}", "f.yaml:1:7: box.H: unknown key; atoll calls it sync.every");
    expect_errors("sync: {n: 3}",
                  "f.yaml:1:8: sync.n: unknown key; atoll calls it sync.every"); /* its own section first */
    expect_errors("n: 3", "f.yaml:1:1: n: unknown key; atoll calls it box.count (things, not boxes)");
    expect_errors("box: {count: 3, part: 0,\n count: 4}", "f.yaml:2:2: box.count: given twice (first at 1:7)");
    expect_errors("box: {count: 3}\nbox: {part: 0}", "f.yaml:2:1: box: given twice (join the two)");
    expect_errors("name: a\nname: a", "f.yaml:2:1: name: given twice (first at 1:1)");
    expect_errors("? [a]\n: 3\n", "f.yaml:1:3: found a list where a key must stand");
    expect_errors("box: {'': 3}", "f.yaml:1:7: box: an empty key");
    expect_errors("\"na\\0me\": 3", "f.yaml:1:1: a key holds a NUL");
    expect_errors("\"\\e[31m\": 3", "f.yaml:1:1: ?[31m: unknown key (known here: name, box, sync)");
}

static void bad_yaml(void **state) {
    (void)state;
    expect_errors("", "f.yaml: empty; expected keys such as 'name: my-run' (atoll check --print-defaults)");
    expect_errors("# nothing\n", "f.yaml: empty; expected keys such as 'name: my-run' (atoll check --print-defaults)");
    expect_errors("---\n", "f.yaml: empty; expected keys such as 'name: my-run' (atoll check --print-defaults)");
    expect_errors("- name\n", "f.yaml:1:1: found a list at the top, expected a mapping of keys");
    expect_errors("hello\n", "f.yaml:1:1: found text at the top, expected a mapping of keys");
    expect_errors("name: a\n---\nname: b\n", "f.yaml:2:1: a second document; a run file holds one");
    expect_errors(
        "name: &x a\nbox: {title: *x}\n",
        "f.yaml:1:7: &x: anchors are not used here; quote a text that begins with &\n"
        "f.yaml:2:14: *x: aliases are not used here; write the value out, or quote a text that begins with *");
    expect_errors("name: !!str a\nbox: !b {}\nsync: !!map {}\n",
                  "f.yaml:1:7: tag:yaml.org,2002:str: tags are not used here; quote a text that begins with !\n"
                  "f.yaml:2:6: !b: tags are not used here; quote a text that begins with !\n"
                  "f.yaml:3:7: tag:yaml.org,2002:map: tags are not used here; quote a text that begins with !");
    expect_errors(
        "box: {paths: *.txt}\n",
        "f.yaml:1:15: not YAML: while scanning an alias, did not find expected alphabetic or numeric character (from "
        "1:14); quote a text that begins with * or &");
    expect_errors("box:\n\tcount: 3\n",
                  "f.yaml:2:1: not YAML: while scanning for the next token, found character that cannot "
                  "start any token (from 2:1); tabs do not indent in YAML");
    expect_errors("box: {count: 3\n",
                  "f.yaml:2:1: not YAML: while parsing a flow mapping, did not find expected ',' or '}' (from 1:6)");
    expect_errors("name: \xff\n", "f.yaml: byte 6 is not UTF-8 text: invalid leading UTF-8 octet");
    expect_errors("<<: {name: a}\n", "f.yaml:1:1: <<: unknown key (known here: name, box, sync)");
    struct target t = {0};
    struct error error;
    char *large = malloc(SETTINGS_FILE_BYTES_MAX + 1);
    memset(large, ' ', SETTINGS_FILE_BYTES_MAX + 1);
    assert_int_equal(load(large, SETTINGS_FILE_BYTES_MAX + 1, NULL, 0, &t, &error), STATUS_CONFIG);
    assert_string_equal(error.text, "f.yaml: larger than 1048576 bytes, which no run file is");
    free(large);
}

/* In one go, by place; what does not fit is counted. */
static void many_errors(void **state) {
    (void)state;
    expect_errors(
        "sync: {every: 0, H: 1}\nbox: {part: 2, count: 0}\nname: ''\n",
        "f.yaml:1:15: sync.every: '0' is not a whole number from 1 to 99 (steps)\n"
        "f.yaml:1:18: sync.H: unknown key; atoll calls it sync.every\n"
        "f.yaml:2:13: box.part: '2' is not a number from 0 to 1 (a part)\n"
        "f.yaml:2:23: box.count: '0' is not a whole number from 1 to 64 (things in a box)\n"
        "f.yaml:3:7: name: '' is not a name of 1 to 7 letters, digits, '.', '_' or '-' that begins with a letter or "
        "digit (the name)");
    char yaml[8000] = "";
    for (int i = 0; i < 200; i++)
        snprintf(yaml + strlen(yaml), sizeof yaml - strlen(yaml), "key%03d: 1\n", i);
    struct target t = {0};
    struct error error;
    assert_int_equal(load(yaml, strlen(yaml), NULL, 0, &t, &error), STATUS_CONFIG);
    int lines = 1;
    for (const char *c = error.text; *c; c++)
        lines += *c == '\n';
    char last[32];
    snprintf(last, sizeof last, "\nand %d more", 200 - (lines - 1));
    assert_string_equal(error.text + strlen(error.text) - strlen(last), last);
    assert_true(strlen(error.text) > ERROR_TEXT_BYTES - 200);
}

static void cross_field_errors(void **state) {
    (void)state;
    struct target t = {0};
    struct error error;
    static const char yaml[] = "name: a\nbox: {count: 5, part: 7}\n";
    struct settings *settings = settings_begin(&schema, &t, "f.yaml");
    settings_read(settings, yaml, strlen(yaml));
    settings_override(settings, "sync.every=4");
    assert_true(settings_given(settings, "box.count"));
    assert_false(settings_overridden(settings, "box.count"));
    assert_true(settings_overridden(settings, "sync.every"));
    assert_false(settings_given(settings, "box.layers"));
    assert_true(settings_broken(settings, "box.part"));
    assert_true(settings_broken(settings, "box"));
    assert_false(settings_broken(settings, "sync"));
    settings_report(settings, "box.count", "%d of them", 5);
    settings_report(settings, "box.count", "said once per key");
    settings_report(settings, "box.part", "broken already");
    settings_report(settings, "box.size box.part", "part is broken already");
    settings_report(settings, "box.layers box.count", "not given: the place of count");
    settings_report(settings, "box.time", "no place");
    settings_report(settings, "sync.every box.count", "from the command line");
    assert_int_equal(settings_end(settings, &error), STATUS_CONFIG);
    assert_string_equal(error.text, "f.yaml:2:7: box.count: 5 of them\n"
                                    "f.yaml:2:7: box.layers: not given: the place of count\n"
                                    "f.yaml:2:23: box.part: '7' is not a number from 0 to 1 (a part)\n"
                                    "f.yaml: box.time: no place\n"
                                    "--set sync.every=4: from the command line");
}

static void texts(void **state) {
    (void)state;
    struct target t = {0};
    struct error error;
    static const char yaml[] =
        "name: on\nbox: {part: 1e-7, rate: 8Mbit/s, title: 'a\"\\', paths: [x, /y, '*z'], grace: 250ms, share: 50%}\n"
        "sync: off\n";
    assert_int_equal(load(yaml, strlen(yaml), NULL, 0, &t, &error), STATUS_OK);
    char *text = settings_text(&schema, &t, false, NULL);
    assert_string_equal(text, "name: \"on\"\n"
                              "box:\n"
                              "  count: 4\n"
                              "  layers: 3\n"
                              "  part: 1e-7\n"
                              "  above: 1e-6\n"
                              "  open: true\n"
                              "  colour: green\n"
                              "  optimizer: adamw\n"
                              "  rate: 8Mbit/s\n"
                              "  time: 40ms\n"
                              "  size: 1KiB\n"
                              "  grace: 250ms\n"
                              "  share: 50%\n"
                              "  title: \"a\\\"\\\\\"\n"
                              "  paths: [x, /y, \"*z\"]\n"
                              "sync: off\n");
    struct target back = {0};
    assert_int_equal(load(text, strlen(text), NULL, 0, &back, &error), STATUS_OK);
    assert_memory_equal(&back.box, &t.box, sizeof t.box);
    assert_string_equal(back.name, t.name);
    free(text);
    text = settings_text(&schema, &t, true, NULL);
    assert_null(strstr(text, "rate:"));
    assert_null(strstr(text, "paths:"));
    assert_null(strstr(text, "size:")); /* it may change */
    assert_non_null(strstr(text, "time:"));
    free(text);
    text = settings_text(&schema, &t, false, "/base dir");
    assert_non_null(strstr(text, "paths: [\"/base dir/x\", /y, \"/base dir/*z\"]\n"));
    free(text);
    text = settings_defaults_text(&schema);
    assert_non_null(strstr(text, "\n# A box\nbox:\n  count: 4                 # things in a box (1..64)\n"));
    assert_non_null(strstr(text, "  rate: unlimited          # a rate (such as 10Mbit/s); this node only\n"));
    assert_non_null(strstr(text, "  layers: 3                # layers (1..9 | all)\n"));
    assert_non_null(strstr(text, "  share: all               # lids that are open (1..64 | 1%..100% | all)\n"));
    assert_non_null(
        strstr(text, "  size: 1KiB               # a size (such as 256KiB); may change when a run is continued\n"));
    assert_int_equal(load(text, strlen(text), NULL, 0, &back, &error), STATUS_OK);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(defaults_and_short_forms),
        cmocka_unit_test(overrides),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(count_or_percent),
        cmocka_unit_test(bad_keys),
        cmocka_unit_test(bad_yaml),
        cmocka_unit_test(many_errors),
        cmocka_unit_test(cross_field_errors),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
