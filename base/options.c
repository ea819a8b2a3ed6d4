#include "base/options.h"

#include <inttypes.h>
#include <string.h>
#include "base/check.h"
#include "base/numbers.h"
#include "base/suggest.h"
#include "base/units.h"

struct parser {
    const struct option_command *command;
    int argc;
    char *const *argv;
    int next; /* argv not yet looked at */
    unsigned char *values;
    uint64_t seen; /* bit per row */
    struct error *error;
};

static bool is_positional(const struct option_row *row) {
    return row->kind == OPTION_KIND_POSITIONAL || row->kind == OPTION_KIND_REST;
}

static enum status add_to_list(struct parser *parser, const struct option_row *row, const char *text) {
    struct option_list *list = (void *)(parser->values + row->offset);
    if (list->count == OPTION_LIST_MAX)
        return error_set(parser->error, STATUS_USAGE, "atoll %s: more than %d times %s%s", parser->command->name,
                         OPTION_LIST_MAX, is_positional(row) ? "" : "--", row->name);
    list->items[list->count++] = text;
    return STATUS_OK;
}

static enum status bad_value(struct parser *parser, const struct option_row *row, const char *text,
                             const char *expected) {
    return error_set(parser->error, STATUS_USAGE, "atoll %s: --%s: '%s' is not %s", parser->command->name, row->name,
                     text, expected);
}

static enum status set_choice(struct parser *parser, const struct option_row *row, const char *text) {
    char expected[256] = "one of";
    struct suggestion suggestion = {.word = text};
    for (int64_t i = 0; row->choices[i]; i++) {
        if (strcmp(row->choices[i], text) == 0) {
            memcpy(parser->values + row->offset, &i, sizeof i);
            return STATUS_OK;
        }
        suggest_consider(&suggestion, row->choices[i]);
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, "%s %s", i == 0 ? "" : ",", row->choices[i]);
    }
    if (suggestion.nearest) {
        size_t used = strlen(expected);
        snprintf(expected + used, sizeof expected - used, " (did you mean '%s'?)", suggestion.nearest);
    }
    return bad_value(parser, row, text, expected);
}

static enum status set_value(struct parser *parser, const struct option_row *row, const char *text) {
    unsigned char *field = parser->values + row->offset;
    char expected[128];
    int64_t integer;
    double real;
    uint64_t amount;
    switch (row->kind) {
    case OPTION_KIND_TEXT:
        memcpy(field, &text, sizeof text);
        return STATUS_OK;
    case OPTION_KIND_INTEGER:
        snprintf(expected, sizeof expected, "a whole number from %.0f to %.0f", row->min, row->max);
        if (!numbers_parse_integer(text, &integer) || (double)integer < row->min || (double)integer > row->max)
            return bad_value(parser, row, text, expected);
        memcpy(field, &integer, sizeof integer);
        return STATUS_OK;
    case OPTION_KIND_REAL:
        snprintf(expected, sizeof expected, "a number from %g to %g", row->min, row->max);
        if (!numbers_parse_real(text, &real) || real < row->min || real > row->max)
            return bad_value(parser, row, text, expected);
        memcpy(field, &real, sizeof real);
        return STATUS_OK;
    case OPTION_KIND_RATE:
        if (!units_parse_rate(text, &amount))
            return bad_value(parser, row, text, "a rate such as 10Mbit/s, 250kB/s or unlimited");
        memcpy(field, &amount, sizeof amount);
        return STATUS_OK;
    case OPTION_KIND_DURATION:
        if (!units_parse_duration(text, &amount))
            return bad_value(parser, row, text, "a duration such as 40ms, 2s or 24h");
        memcpy(field, &amount, sizeof amount);
        return STATUS_OK;
    case OPTION_KIND_SIZE:
        if (!units_parse_size(text, &amount))
            return bad_value(parser, row, text, "a size such as 256KiB or 10MB");
        memcpy(field, &amount, sizeof amount);
        return STATUS_OK;
    case OPTION_KIND_CHOICE:
        return set_choice(parser, row, text);
    case OPTION_KIND_LIST:
        return add_to_list(parser, row, text);
    case OPTION_KIND_END:
    case OPTION_KIND_FLAG:
    case OPTION_KIND_POSITIONAL:
    case OPTION_KIND_REST:
        break;
    }
    CHECK(!"a row that bears a value");
    return STATUS_USAGE;
}

static enum status take_option(struct parser *parser, const struct option_row *row, const char *value) {
    const char *command = parser->command->name;
    uint64_t bit = UINT64_C(1) << (row - parser->command->rows);
    if ((parser->seen & bit) && row->kind != OPTION_KIND_LIST)
        return error_set(parser->error, STATUS_USAGE, "atoll %s: --%s is given twice", command, row->name);
    parser->seen |= bit;
    if (row->kind == OPTION_KIND_FLAG) {
        if (value)
            return error_set(parser->error, STATUS_USAGE, "atoll %s: --%s takes no value, found '%s'", command,
                             row->name, value);
        bool on = true;
        memcpy(parser->values + row->offset, &on, sizeof on);
        return STATUS_OK;
    }
    if (!value) {
        if (parser->next >= parser->argc)
            return error_set(parser->error, STATUS_USAGE, "atoll %s: --%s needs a value: --%s %s", command, row->name,
                             row->name, row->value_name);
        value = parser->argv[parser->next++];
        if (strncmp(value, "--", 2) == 0)
            return error_set(parser->error, STATUS_USAGE,
                             "atoll %s: --%s needs a value: --%s %s, found '%s' (--%s=%s if that is the value)",
                             command, row->name, row->name, row->value_name, value, row->name, value);
    }
    return set_value(parser, row, value);
}

static enum status unknown_option(struct parser *parser, const char *word, size_t name_length) {
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(name_length < sizeof name ? name_length : sizeof name - 1), word + 2);
    struct suggestion suggestion = {.word = name};
    suggest_consider(&suggestion, "help");
    for (const struct option_row *row = parser->command->rows; row->kind != OPTION_KIND_END; row++)
        if (!is_positional(row))
            suggest_consider(&suggestion, row->name);
    const char *command = parser->command->name;
    if (suggestion.nearest)
        return error_set(parser->error, STATUS_USAGE, "atoll %s: unknown option --%s (did you mean --%s?)", command,
                         name, suggestion.nearest);
    return error_set(parser->error, STATUS_USAGE, "atoll %s: unknown option --%s (atoll %s --help lists them)", command,
                     name, command);
}

static enum status take_word_with_dashes(struct parser *parser, const char *word) {
    const char *equals = strchr(word, '=');
    size_t length = equals ? (size_t)(equals - word - 2) : strlen(word + 2);
    for (const struct option_row *row = parser->command->rows; row->kind != OPTION_KIND_END; row++)
        if (!is_positional(row) && strlen(row->name) == length && strncmp(row->name, word + 2, length) == 0)
            return take_option(parser, row, equals ? equals + 1 : NULL);
    return unknown_option(parser, word, length);
}

static enum status take_letter(struct parser *parser, const char *word) {
    for (const struct option_row *row = parser->command->rows; row->kind != OPTION_KIND_END; row++)
        if (row->letter && row->letter == word[1] && word[2] == '\0')
            return take_option(parser, row, NULL);
    return error_set(parser->error, STATUS_USAGE, "atoll %s: unknown option %s (atoll %s --help lists them)",
                     parser->command->name, word, parser->command->name);
}

static enum status take_positional(struct parser *parser, const char *word) {
    for (const struct option_row *row = parser->command->rows; row->kind != OPTION_KIND_END; row++) {
        uint64_t bit = UINT64_C(1) << (row - parser->command->rows);
        if (row->kind == OPTION_KIND_REST) {
            parser->seen |= bit;
            return add_to_list(parser, row, word);
        }
        if (row->kind == OPTION_KIND_POSITIONAL && !(parser->seen & bit)) {
            parser->seen |= bit;
            memcpy(parser->values + row->offset, &word, sizeof word);
            return STATUS_OK;
        }
    }
    return error_set(parser->error, STATUS_USAGE, "atoll %s: '%s' is one word too many (atoll %s --help)",
                     parser->command->name, word, parser->command->name);
}

static enum status check_required(struct parser *parser) {
    const struct option_row *rows = parser->command->rows;
    for (int i = 0; rows[i].kind != OPTION_KIND_END; i++)
        if (is_positional(&rows[i]) && !rows[i].optional && !(parser->seen >> i & 1))
            return error_set(parser->error, STATUS_USAGE, "atoll %s: %s is missing: %s (atoll %s --help)",
                             parser->command->name, rows[i].name, rows[i].doc, parser->command->name);
    return STATUS_OK;
}

enum status options_parse(const struct option_command *command, int argc, char *const *argv, void *values, bool *help,
                          struct error *error) {
    struct parser parser = {
        .command = command, .argc = argc, .argv = argv, .next = 1, .values = values, .error = error};
    int rows = 0;
    while (command->rows[rows].kind != OPTION_KIND_END)
        rows++;
    CHECK(rows <= OPTION_ROWS_MAX);
    *help = false;
    bool only_positionals = false;
    while (parser.next < argc) {
        const char *word = argv[parser.next++];
        enum status status;
        if (only_positionals || word[0] != '-' || word[1] == '\0')
            status = take_positional(&parser, word);
        else if (strcmp(word, "--") == 0) {
            only_positionals = true;
            status = STATUS_OK;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            *help = true;
            return STATUS_OK;
        } else if (word[1] == '-')
            status = take_word_with_dashes(&parser, word);
        else
            status = take_letter(&parser, word);
        if (status != STATUS_OK)
            return status;
    }
    return check_required(&parser);
}

enum { HELP_COLUMN = 28 };

static void print_help_row(FILE *to, const char *left, const char *doc, const char *note) {
    int width = (int)strlen(left);
    if (width < HELP_COLUMN - 2)
        fprintf(to, "  %-*s%s%s\n", HELP_COLUMN - 2, left, doc, note);
    else
        fprintf(to, "  %s\n%*s%s%s\n", left, HELP_COLUMN, "", doc, note);
}

void options_print_help(const struct option_command *command, FILE *to) {
    fprintf(to, "usage: atoll %s", command->name);
    for (const struct option_row *row = command->rows; row->kind != OPTION_KIND_END; row++)
        if (is_positional(row))
            fprintf(to, " %s%s%s%s", row->optional ? "[" : "", row->name, row->kind == OPTION_KIND_REST ? "..." : "",
                    row->optional ? "]" : "");
    fprintf(to, " [options]\n%s\n\n", command->summary);
    char left[128];
    for (const struct option_row *row = command->rows; row->kind != OPTION_KIND_END; row++)
        if (is_positional(row))
            print_help_row(to, row->name, row->doc, "");
    for (const struct option_row *row = command->rows; row->kind != OPTION_KIND_END; row++) {
        if (is_positional(row))
            continue;
        char letter[8] = "";
        if (row->letter)
            snprintf(letter, sizeof letter, "-%c, ", row->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, row->name, row->value_name ? " " : "",
                 row->value_name ? row->value_name : "");
        print_help_row(to, left, row->doc, row->kind == OPTION_KIND_LIST ? " (may be repeated)" : "");
    }
    print_help_row(to, "-h, --help", "this text", "");
    if (command->details)
        fprintf(to, "\n%s\n", command->details);
}

bool options_or_exit(const struct option_command *command, int argc, char *const *argv, void *values, int *exit_code) {
    struct error error;
    bool help;
    enum status status = options_parse(command, argc, argv, values, &help, &error);
    if (status != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        *exit_code = status_exit_code(status);
        return false;
    }
    if (help) {
        options_print_help(command, stdout);
        *exit_code = 0;
        return false;
    }
    return true;
}
