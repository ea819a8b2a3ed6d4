/* options: the command lines of atoll's subcommands, table driven. Every command file has one static table of rows; parsing, help
 * text and error texts ("did you mean") come from it. No allocation: values point into argv.
 *
 *     struct check_values {
 *         const char *run_file;
 *         struct option_list set;
 *         bool json;
 *     };
 *     static const struct option_row check_rows[] = {
 *         OPTION_POSITIONAL(struct check_values, run_file, "RUN.yaml", "the run file"),
 *         OPTION_LIST(struct check_values, set, "set", 0, "KEY=VALUE", "change one key of the run file"),
 *         OPTION_FLAG(struct check_values, json, "json", 0, "print the same numbers as JSON"),
 *         OPTION_END,
 *     };
 *     static const struct option_command check_options = {"check", "check a run file", check_rows, NULL};
 *
 *     int check_command(int argc, char **argv) {
 *         struct check_values values = {0};                   // defaults go here; say them in the row's text too
 *         int exit_code;
 *         if (!options_or_exit(&check_options, argc, argv, &values, &exit_code))
 *             return exit_code;                               // --help was printed (0), or the error was (64)
 *         ...
 *
 * Grammar: --name, --name VALUE, --name=VALUE, -x VALUE where a row has a letter; options and positionals in any order; "--"
 * ends the options; "-" alone is a value. A value that begins with "--" must be written --name=VALUE. Only OPTION_LIST may be
 * given more than once. -h and --help are understood everywhere. A field of the wrong C type does not compile. */
#ifndef ATOLL_BASE_OPTIONS_H
#define ATOLL_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/status.h"

enum { OPTION_LIST_MAX = 64, OPTION_ROWS_MAX = 64 };

/* Values of a repeated option, or of the last positional ("DIR..."), in order; borrowed from argv. */
struct option_list {
    const char *items[OPTION_LIST_MAX];
    int count;
};

enum option_kind {
    OPTION_KIND_END,
    OPTION_KIND_FLAG,       /* bool */
    OPTION_KIND_TEXT,       /* const char * */
    OPTION_KIND_INTEGER,    /* int64_t, min..max */
    OPTION_KIND_REAL,       /* double, finite, min..max */
    OPTION_KIND_RATE,       /* uint64_t bytes per second, base/units */
    OPTION_KIND_DURATION,   /* uint64_t microseconds */
    OPTION_KIND_SIZE,       /* uint64_t bytes */
    OPTION_KIND_CHOICE,     /* int64_t index into choices */
    OPTION_KIND_LIST,       /* struct option_list */
    OPTION_KIND_POSITIONAL, /* const char * */
    OPTION_KIND_REST,       /* struct option_list: all further positionals; the last row of its kind */
};

struct option_row {
    enum option_kind kind;
    const char *name;       /* without "--"; of a positional: what the help calls it */
    char letter;            /* -o for short; 0 = none */
    const char *value_name; /* what the help calls the value: "D", "KEY=VALUE" */
    const char *doc;        /* one line, no full stop */
    size_t offset;          /* of the field in the values struct */
    bool optional;          /* positional and rest */
    double min, max;
    const char *const *choices; /* NULL-terminated */
};

/* The offset of a field that must have the type `c_type`. */
#define OPTION_OFFSET(values, field, c_type) _Generic(((values *)0)->field, c_type : offsetof(values, field))

#define OPTION_FLAG(values, field, name_, letter_, doc_)                                                               \
    {                                                                                                                  \
        .kind = OPTION_KIND_FLAG, .name = name_, .letter = letter_, .doc = doc_,                                       \
        .offset = OPTION_OFFSET(values, field, bool)                                                                   \
    }
#define OPTION_VALUE(kind_, c_type, values, field, name_, letter_, value_name_, doc_)                                  \
    .kind = kind_, .name = name_, .letter = letter_, .value_name = value_name_, .doc = doc_,                           \
    .offset = OPTION_OFFSET(values, field, c_type)
#define OPTION_TEXT(values, field, name_, letter_, value_name_, doc_)                                                  \
    { OPTION_VALUE(OPTION_KIND_TEXT, const char *, values, field, name_, letter_, value_name_, doc_) }
#define OPTION_INTEGER(values, field, name_, letter_, value_name_, min_, max_, doc_)                                   \
    {                                                                                                                  \
        OPTION_VALUE(OPTION_KIND_INTEGER, int64_t, values, field, name_, letter_, value_name_, doc_), .min = min_,     \
                                                                                                      .max = max_      \
    }
#define OPTION_REAL(values, field, name_, letter_, value_name_, min_, max_, doc_)                                      \
    {                                                                                                                  \
        OPTION_VALUE(OPTION_KIND_REAL, double, values, field, name_, letter_, value_name_, doc_), .min = min_,         \
                                                                                                  .max = max_          \
    }
#define OPTION_RATE(values, field, name_, letter_, value_name_, doc_)                                                  \
    { OPTION_VALUE(OPTION_KIND_RATE, uint64_t, values, field, name_, letter_, value_name_, doc_) }
#define OPTION_DURATION(values, field, name_, letter_, value_name_, doc_)                                              \
    { OPTION_VALUE(OPTION_KIND_DURATION, uint64_t, values, field, name_, letter_, value_name_, doc_) }
#define OPTION_SIZE(values, field, name_, letter_, value_name_, doc_)                                                  \
    { OPTION_VALUE(OPTION_KIND_SIZE, uint64_t, values, field, name_, letter_, value_name_, doc_) }
#define OPTION_CHOICE(values, field, name_, letter_, value_name_, choices_, doc_)                                      \
    { OPTION_VALUE(OPTION_KIND_CHOICE, int64_t, values, field, name_, letter_, value_name_, doc_), .choices = choices_ }
#define OPTION_LIST(values, field, name_, letter_, value_name_, doc_)                                                  \
    { OPTION_VALUE(OPTION_KIND_LIST, struct option_list, values, field, name_, letter_, value_name_, doc_) }
#define OPTION_POSITIONAL(values, field, name_, doc_)                                                                  \
    { .kind = OPTION_KIND_POSITIONAL, .name = name_, .doc = doc_, .offset = OPTION_OFFSET(values, field, const char *) }
#define OPTION_POSITIONAL_OPTIONAL(values, field, name_, doc_)                                                         \
    {                                                                                                                  \
        .kind = OPTION_KIND_POSITIONAL, .name = name_, .doc = doc_,                                                    \
        .offset = OPTION_OFFSET(values, field, const char *), .optional = true                                         \
    }
#define OPTION_REST(values, field, name_, optional_, doc_)                                                             \
    {                                                                                                                  \
        .kind = OPTION_KIND_REST, .name = name_, .doc = doc_,                                                          \
        .offset = OPTION_OFFSET(values, field, struct option_list), .optional = optional_                              \
    }
#define OPTION_END                                                                                                     \
    { .kind = OPTION_KIND_END }

struct option_command {
    const char *name;    /* "check" */
    const char *summary; /* one line */
    const struct option_row *rows;
    const char *details; /* further lines of the help (examples), or NULL */
};

/* options_parse: argv[0] is the command's name. Fills `values`; fields of options that are not given keep what they hold.
 * STATUS_USAGE (exit 64): the text begins with "atoll NAME: " and is one line. *help = --help or -h was met: print the help and exit
 * 0 (the rest of the line is not looked at). */
MUST_USE enum status options_parse(const struct option_command *command, int argc, char *const *argv, void *values,
                                   bool *help, struct error *error);

/* options_print_help: usage line, summary, table of rows. */
void options_print_help(const struct option_command *command, FILE *to);

/* options_or_exit: what a command calls. True: go on. False: the help was printed on stdout, or the error on stderr; return
 * *exit_code from the command. */
bool options_or_exit(const struct option_command *command, int argc, char *const *argv, void *values, int *exit_code);

#endif
