/* settings: the mechanism of typed keys. A folder owns a static table of rows (key, type, range, default, one line of doc) for one
 * section of a YAML file; a schema joins tables; one load fills one plain struct. The same tables print the defaults and the
 * effective file (base/settings_text.h).
 *
 *     struct eval_options { int64_t every_steps; int64_t windows; };
 *     static const struct setting_row eval_rows[] = {
 *         {SETTING_INTEGER(struct eval_options, every_steps, 0, 1000000, "100", "steps", "from one evaluation to the next")},
 *         {SETTING_INTEGER_OR_WORD(struct eval_options, windows, 1, 1000000, "all", 0, "256", "windows", "held-out text")},
 *     };
 *
 * Rules: one YAML document, a mapping of sections at the top (block or flow style); every key known and given once; no aliases, no
 * tags; numbers parsed whole; bools only true and false. Anything else is an error with the exact place:
 *     run.yaml:LINE:COL: section.key: what is wrong (what was meant)
 * All errors of a load are collected and come in one text, a line each, sorted by place.
 *
 * A value that is wrong leaves the field at its default, so that cross-field checks can run on a broken file; settings_report drops
 * an error about keys that are in error already. */
#ifndef ATOLL_BASE_SETTINGS_H
#define ATOLL_BASE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

enum setting_kind {
    SETTING_KIND_INTEGER,          /* int64_t; optionally one word that stands for a number ("all", "auto") */
    SETTING_KIND_COUNT_OR_PERCENT, /* int64_t: n > 0 = a count, n < 0 = -n percent ("50%"); 0 is free for a word */
    SETTING_KIND_REAL,             /* double, finite */
    SETTING_KIND_BOOL,             /* bool */
    SETTING_KIND_TEXT,             /* char[capacity], printable */
    SETTING_KIND_NAME, /* char[capacity]: letters, digits, '.', '_', '-', first a letter or digit: safe as a file name */
    SETTING_KIND_CHOICE,   /* int64_t: index into names */
    SETTING_KIND_FIXED,    /* no field: the one word that is possible today */
    SETTING_KIND_RATE,     /* uint64_t bytes per second, 0 = unlimited (base/units) */
    SETTING_KIND_DURATION, /* uint64_t microseconds; int64_t with a word */
    SETTING_KIND_SIZE,     /* uint64_t bytes */
    SETTING_KIND_PATHS, /* char[items_max][capacity] and an int64_t count: paths relative to the file. One text = a list of one */
};

enum setting_scope {
    SETTING_SCOPE_RUN,       /* equal on all nodes of a run, from its first start to its end: part of its identity */
    SETTING_SCOPE_CONTINUED, /* equal on all nodes, but may change from one start of the outer to the next */
    SETTING_SCOPE_NODE,      /* free to differ from node to node */
};

struct setting_row {
    enum setting_kind kind;
    enum setting_scope scope;
    const char *key;
    size_t offset; /* of the field in the section's struct */
    size_t capacity;
    size_t items_max, count_offset;
    int64_t min, max;
    double real_min, real_max;
    bool above_min;           /* real: real_min itself is refused */
    const char *const *names; /* choice, fixed: NULL-terminated */
    const char *word;         /* NULL = none */
    int64_t word_value;
    const char *default_text; /* as in the file; of paths: NULL = empty list */
    const char *unit;         /* "steps", "" = none */
    const char *doc; /* one line, no full stop; reads on from the unit: "steps" "from one evaluation to the next" */
};

/* One section of the file, or the keys at the top (section NULL). */
struct setting_table {
    const char *section;
    const char *doc;
    const struct setting_row *rows;
    int row_count;
    size_t base_offset; /* of the section's struct in the target struct */
    bool
        has_switch; /* "section: off" is possible; then the bool at switch_offset is true and the keys keep their defaults */
    size_t switch_offset;
};

/* A name that papers or other programs use, and our key. Matched on the last part of an unknown key, whatever its section. */
struct setting_alias {
    const char *wrong;
    const char *right; /* "sync.every_steps" */
    const char *note;  /* what differs, or NULL */
};

struct settings_schema {
    const struct setting_table *tables;
    int table_count;
    const struct setting_alias *aliases;
    int alias_count;
    size_t target_bytes; /* sizeof the struct that a load fills */
};

enum { SETTINGS_KEY_BYTES = 128, SETTINGS_ERRORS_MAX = 128, SETTINGS_FILE_BYTES_MAX = 1 << 20 };

/* A load in progress. */
struct settings;

/* settings_begin: fill `target` with the defaults (CHECKs that every default is valid). `label` stands for the file in error
 * texts. Never NULL. schema, target and label are borrowed until settings_end. */
struct settings *settings_begin(const struct settings_schema *schema, void *target, const char *label);

/* settings_read: the file's text. Errors are collected. */
void settings_read(struct settings *settings, const char *text, size_t bytes);

/* settings_override: one "key=value" of --set; value is YAML (a scalar, a list, a flow mapping for a section). After
 * settings_read; the last one of a key wins. `assignment` is borrowed until settings_end. Errors begin with "--set key=value: ". */
void settings_override(struct settings *settings, const char *assignment);

/* settings_given: the key (or the switch of a section) was in the file or in an override; settings_overridden: in an override. */
bool settings_given(const struct settings *settings, const char *key);
bool settings_overridden(const struct settings *settings, const char *key);

/* settings_broken: a key of this section (or this very key) has an error already. */
bool settings_broken(const struct settings *settings, const char *section_or_key);

/* settings_report: a cross-field error. `keys` is one key or several apart by spaces ("sync.overlap_steps sync.every_steps"): the text
 * begins with the first, the place is that of the first that was given. Nothing happens when one of them is broken already. */
void settings_report(struct settings *settings, const char *keys, const char *format, ...) PRINTF_LIKE(3, 4);

/* settings_end: frees `settings`. STATUS_OK, or STATUS_CONFIG with all error lines, as many as fit. */
MUST_USE enum status settings_end(struct settings *settings, struct error *error);

/* Rows, with the field's type checked at compile time. `values` is the section's struct type. Each expands to initializers without
 * braces: {SETTING_BOOL(...)}, and {SETTING_RATE(...), .scope = SETTING_SCOPE_NODE} for a node key. */
#define SETTING_FIELD(values, field, c_type) _Generic(((values *)0)->field, c_type : offsetof(values, field))
#define SETTING_ROW(kind_, key_, default_, unit_, doc_)                                                                \
    .kind = kind_, .key = key_, .default_text = default_, .unit = unit_, .doc = doc_
#define SETTING_INTEGER(values, field, min_, max_, default_, unit_, doc_)                                              \
    SETTING_ROW(SETTING_KIND_INTEGER, #field, default_, unit_, doc_), .min = min_, .max = max_,                        \
                                                                      .offset = SETTING_FIELD(values, field, int64_t)
#define SETTING_INTEGER_OR_WORD(values, field, min_, max_, word_, word_value_, default_, unit_, doc_)                  \
    SETTING_INTEGER(values, field, min_, max_, default_, unit_, doc_), .word = word_, .word_value = word_value_
/* A count from 1 to max_, 1% to 100% of something that varies, or the word, which is 0. */
#define SETTING_COUNT_OR_PERCENT(values, field, max_, word_, default_, unit_, doc_)                                    \
    SETTING_ROW(SETTING_KIND_COUNT_OR_PERCENT, #field, default_, unit_, doc_),                                         \
        .min = 1, .max = max_, .word = word_, .word_value = 0, .offset = SETTING_FIELD(values, field, int64_t)
#define SETTING_REAL(values, field, min_, max_, default_, unit_, doc_)                                                 \
    SETTING_ROW(SETTING_KIND_REAL, #field, default_, unit_, doc_), .real_min = min_, .real_max = max_,                 \
                                                                   .offset = SETTING_FIELD(values, field, double)
#define SETTING_REAL_ABOVE(values, field, min_, max_, default_, unit_, doc_)                                           \
    SETTING_REAL(values, field, min_, max_, default_, unit_, doc_), .above_min = true
#define SETTING_BOOL(values, field, default_, doc_)                                                                    \
    SETTING_ROW(SETTING_KIND_BOOL, #field, default_, "", doc_), .offset = SETTING_FIELD(values, field, bool)
#define SETTING_CHOICE(values, field, names_, default_, doc_)                                                          \
    SETTING_ROW(SETTING_KIND_CHOICE, #field, default_, "", doc_), .names = names_,                                     \
                                                                  .offset = SETTING_FIELD(values, field, int64_t)
#define SETTING_FIXED(key_, names_, default_, doc_)                                                                    \
    SETTING_ROW(SETTING_KIND_FIXED, key_, default_, "", doc_), .names = names_
#define SETTING_CHARS(kind_, values, field, default_, doc_)                                                            \
    SETTING_ROW(kind_, #field, default_, "", doc_), .capacity = sizeof((values *)0)->field,                            \
                                                    .offset = SETTING_FIELD(values, field, char *)
#define SETTING_NAME(values, field, default_, doc_) SETTING_CHARS(SETTING_KIND_NAME, values, field, default_, doc_)
#define SETTING_TEXT(values, field, default_, doc_) SETTING_CHARS(SETTING_KIND_TEXT, values, field, default_, doc_)
/* Those with units: the key differs from the field, which bears its unit in its name. */
#define SETTING_RATE(values, field, key_, default_, doc_)                                                              \
    SETTING_ROW(SETTING_KIND_RATE, key_, default_, "", doc_), .offset = SETTING_FIELD(values, field, uint64_t)
#define SETTING_SIZE(values, field, key_, default_, doc_)                                                              \
    SETTING_ROW(SETTING_KIND_SIZE, key_, default_, "", doc_), .offset = SETTING_FIELD(values, field, uint64_t)
#define SETTING_DURATION(values, field, key_, default_, doc_)                                                          \
    SETTING_ROW(SETTING_KIND_DURATION, key_, default_, "", doc_), .offset = SETTING_FIELD(values, field, uint64_t)
#define SETTING_DURATION_OR_WORD(values, field, key_, word_, word_value_, default_, doc_)                              \
    SETTING_ROW(SETTING_KIND_DURATION, key_, default_, "", doc_), .word = word_, .word_value = word_value_,            \
                                                                  .offset = SETTING_FIELD(values, field, int64_t)
#define SETTING_PATHS(values, field, count_field, doc_)                                                                \
    SETTING_ROW(SETTING_KIND_PATHS, #field, NULL, "", doc_),                                                           \
        .offset = offsetof(values, field), .capacity = sizeof((values *)0)->field[0],                                  \
        .items_max = sizeof((values *)0)->field / sizeof((values *)0)->field[0],                                       \
        .count_offset = SETTING_FIELD(values, count_field, int64_t)

/* "steps from one evaluation to the next": the row's unit and doc in one. */
enum { SETTING_MEANING_BYTES = 256 };
char *setting_meaning(const struct setting_row *row, char text[SETTING_MEANING_BYTES]);

/* settings_defaults: the defaults of one table into the target. CHECKs that every default is valid by its own row. */
void settings_defaults(const struct setting_table *table, void *target);

/* settings_find: "section.key" or "key" of a schema; false when there is none. For the printer and for tests. */
bool settings_find(const struct settings_schema *schema, const char *key, const struct setting_table **table,
                   const struct setting_row **row);

#endif
