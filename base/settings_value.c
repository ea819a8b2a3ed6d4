#include "base/settings_value.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "base/check.h"
#include "base/files.h"
#include "base/numbers.h"
#include "base/suggest.h"
#include "base/units.h"

static void append(char text[SETTING_VALUE_TEXT_BYTES], const char *format, ...) PRINTF_LIKE(2, 3);
static void append(char text[SETTING_VALUE_TEXT_BYTES], const char *format, ...) {
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, SETTING_VALUE_TEXT_BYTES - used, format, arguments);
    va_end(arguments);
}

static void append_names(const struct setting_row *row, char text[SETTING_VALUE_TEXT_BYTES]) {
    append(text, "%s", row->names[1] ? "one of" : "");
    for (int i = 0; row->names[i]; i++)
        append(text, "%s%s", i == 0 ? row->names[1] ? " " : "" : ", ", row->names[i]);
}

void setting_value_expected(const struct setting_row *row, char expected[SETTING_VALUE_TEXT_BYTES]) {
    char low[NUMBERS_TEXT_BYTES];
    char high[NUMBERS_TEXT_BYTES];
    expected[0] = '\0';
    switch (row->kind) {
    case SETTING_KIND_INTEGER:
        append(expected, "a whole number from %" PRId64, row->min);
        if (row->max != INT64_MAX)
            append(expected, " to %" PRId64, row->max);
        break;
    case SETTING_KIND_COUNT_OR_PERCENT:
        append(expected, "a whole number from %" PRId64 " to %" PRId64 ", 1%% to 100%%", row->min, row->max);
        break;
    case SETTING_KIND_REAL:
        append(expected, row->above_min ? "a number above %s, at most %s" : "a number from %s to %s",
               numbers_format_real(row->real_min, low), numbers_format_real(row->real_max, high));
        break;
    case SETTING_KIND_BOOL:
        append(expected, "true or false");
        break;
    case SETTING_KIND_TEXT:
        append(expected, "printable text of 1 to %zu bytes", row->capacity - 1);
        break;
    case SETTING_KIND_NAME:
        append(expected, "a name of 1 to %zu letters, digits, '.', '_' or '-' that begins with a letter or digit",
               row->capacity - 1);
        break;
    case SETTING_KIND_CHOICE:
    case SETTING_KIND_FIXED:
        append_names(row, expected);
        break;
    case SETTING_KIND_RATE:
        append(expected, "a rate such as 10Mbit/s, 250kB/s or unlimited");
        break;
    case SETTING_KIND_DURATION:
        append(expected, "a duration such as 40ms, 2s or 24h");
        break;
    case SETTING_KIND_SIZE:
        append(expected, "a size such as 256KiB or 10MB");
        break;
    case SETTING_KIND_PATHS:
        append(expected, "a path of 1 to %zu printable bytes", row->capacity - 1);
        break;
    }
    if (row->word)
        append(expected, " or %s", row->word);
}

void setting_value_range(const struct setting_row *row, char range[SETTING_VALUE_TEXT_BYTES]) {
    char low[NUMBERS_TEXT_BYTES];
    char high[NUMBERS_TEXT_BYTES];
    range[0] = '\0';
    switch (row->kind) {
    case SETTING_KIND_INTEGER:
        append(range, "%" PRId64 "..", row->min);
        if (row->max < 1000000000) /* beyond that the number tells nobody anything */
            append(range, "%" PRId64, row->max);
        break;
    case SETTING_KIND_COUNT_OR_PERCENT:
        append(range, "%" PRId64 "..%" PRId64 " | 1%%..100%%", row->min, row->max);
        break;
    case SETTING_KIND_REAL:
        append(range, "%s%s..%s", row->above_min ? "above " : "", numbers_format_real(row->real_min, low),
               numbers_format_real(row->real_max, high));
        break;
    case SETTING_KIND_CHOICE:
    case SETTING_KIND_FIXED:
        for (int i = 0; row->names[i]; i++)
            append(range, "%s%s", i ? " | " : "", row->names[i]);
        break;
    case SETTING_KIND_RATE:
        append(range, "such as 10Mbit/s");
        break;
    case SETTING_KIND_DURATION:
        append(range, "such as 40ms");
        break;
    case SETTING_KIND_SIZE:
        append(range, "such as 256KiB");
        break;
    case SETTING_KIND_BOOL:
    case SETTING_KIND_TEXT:
    case SETTING_KIND_NAME:
    case SETTING_KIND_PATHS:
        break;
    }
    if (row->word)
        append(range, " | %s", row->word);
}

static bool is_printable(const char *text, size_t capacity) {
    size_t length = strlen(text);
    if (length == 0 || length >= capacity)
        return false;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 32 || text[i] == 127)
            return false;
    return true;
}

static bool is_name(const char *text, size_t capacity) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t length = strlen(text);
    return length > 0 && length < capacity && strspn(text, letters) == length && !strchr("._-", text[0]);
}

static bool read_names(const struct setting_row *row, const char *text, void *field,
                       char what[SETTING_VALUE_TEXT_BYTES]) {
    struct suggestion suggestion = {.word = text};
    for (int64_t i = 0; row->names[i]; i++) {
        if (strcmp(row->names[i], text) == 0) {
            if (row->kind == SETTING_KIND_CHOICE)
                memcpy(field, &i, sizeof i);
            return true;
        }
        suggest_consider(&suggestion, row->names[i]);
    }
    if (suggestion.nearest)
        append(what, "; did you mean '%s'?", suggestion.nearest);
    return false;
}

static bool read_path(const struct setting_row *row, const char *text, unsigned char *section,
                      char what[SETTING_VALUE_TEXT_BYTES]) {
    int64_t count = setting_value_path_count(row, section);
    if ((size_t)count >= row->items_max) {
        append(what, "; more than %zu of them", row->items_max);
        return false;
    }
    if (!is_printable(text, row->capacity))
        return false;
    memcpy(section + row->offset + (size_t)count * row->capacity, text, strlen(text) + 1);
    count++;
    memcpy(section + row->count_offset, &count, sizeof count);
    return true;
}

/* "3" or "50%", which becomes -50. */
static bool parse_count_or_percent(const struct setting_row *row, const char *text, int64_t *value) {
    char digits[NUMBERS_TEXT_BYTES];
    size_t length = strlen(text);
    if (length == 0 || text[length - 1] != '%')
        return numbers_parse_integer(text, value) && *value >= row->min && *value <= row->max;
    if (length > sizeof digits)
        return false;
    memcpy(digits, text, length - 1);
    digits[length - 1] = '\0';
    if (!numbers_parse_integer(digits, value) || *value < 1 || *value > 100)
        return false;
    *value = -*value;
    return true;
}

/* The typed parse; true = field written. `more` may say more than that the text is not what was expected. */
static bool read_field(const struct setting_row *row, const char *text, unsigned char *section,
                       char more[SETTING_VALUE_TEXT_BYTES]) {
    unsigned char *field = section + row->offset;
    int64_t integer;
    double real;
    uint64_t amount;
    bool fine = false;
    switch (row->kind) {
    case SETTING_KIND_INTEGER:
        fine = numbers_parse_integer(text, &integer) && integer >= row->min && integer <= row->max;
        if (fine)
            memcpy(field, &integer, sizeof integer);
        return fine;
    case SETTING_KIND_COUNT_OR_PERCENT:
        fine = parse_count_or_percent(row, text, &integer);
        if (fine)
            memcpy(field, &integer, sizeof integer);
        return fine;
    case SETTING_KIND_REAL:
        fine = numbers_parse_real(text, &real) && real >= row->real_min && real <= row->real_max &&
               !(row->above_min && real == row->real_min);
        if (fine)
            memcpy(field, &real, sizeof real);
        return fine;
    case SETTING_KIND_BOOL: {
        bool on = strcmp(text, "true") == 0;
        fine = on || strcmp(text, "false") == 0;
        if (fine)
            memcpy(field, &on, sizeof on);
        return fine;
    }
    case SETTING_KIND_TEXT:
    case SETTING_KIND_NAME:
        fine = row->kind == SETTING_KIND_TEXT ? is_printable(text, row->capacity) : is_name(text, row->capacity);
        if (fine)
            memcpy(field, text, strlen(text) + 1);
        return fine;
    case SETTING_KIND_CHOICE:
    case SETTING_KIND_FIXED:
        return read_names(row, text, field, more);
    case SETTING_KIND_RATE:
        fine = units_parse_rate(text, &amount);
        break;
    case SETTING_KIND_DURATION:
        fine = units_parse_duration(text, &amount);
        break;
    case SETTING_KIND_SIZE:
        fine = units_parse_size(text, &amount);
        break;
    case SETTING_KIND_PATHS:
        return read_path(row, text, section, more);
    }
    if (fine)
        memcpy(field, &amount, sizeof amount); /* at most 2^61 (base/units), so that an int64_t field holds it too */
    return fine;
}

bool setting_value_read(const struct setting_row *row, const char *text, unsigned char *section,
                        char what[SETTING_VALUE_TEXT_BYTES]) {
    if (row->word && strcmp(text, row->word) == 0) {
        memcpy(section + row->offset, &row->word_value, sizeof row->word_value);
        return true;
    }
    char more[SETTING_VALUE_TEXT_BYTES] = "";
    if (read_field(row, text, section, more))
        return true;
    char expected[SETTING_VALUE_TEXT_BYTES];
    setting_value_expected(row, expected);
    snprintf(what, SETTING_VALUE_TEXT_BYTES, "'%.60s%s' is not %.200s%.100s", text, strlen(text) > 60 ? "..." : "",
             expected, more);
    return false;
}

/* Plain when no YAML reader can take it for anything but text; else double-quoted. */
static void print_text(const char *value, char *text, size_t text_bytes) {
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"};
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/*?";
    size_t length = strlen(value);
    bool plain = length > 0 && strspn(value, letters) == length && strchr("-*?.", value[0]) == NULL &&
                 !(value[0] >= '0' && value[0] <= '9');
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        plain = plain && strcasecmp(value, words[i]) != 0;
    if (plain) {
        CHECK(length < text_bytes);
        memcpy(text, value, length + 1);
        return;
    }
    size_t used = 0;
    CHECK(2 * length + 3 <= text_bytes);
    text[used++] = '"';
    for (; *value; value++) { /* control characters were refused by the reader */
        if (*value == '"' || *value == '\\')
            text[used++] = '\\';
        text[used++] = *value;
    }
    text[used++] = '"';
    text[used] = '\0';
}

static void print_path(const struct setting_row *row, const unsigned char *section, int64_t index,
                       const char *path_base, char *text, size_t text_bytes) {
    const char *path = (const char *)section + row->offset + (size_t)index * row->capacity;
    if (!path_base || path[0] == '/') {
        print_text(path, text, text_bytes);
        return;
    }
    char joined[4096];
    files_join(joined, sizeof joined, path_base, path);
    print_text(joined, text, text_bytes);
}

void setting_value_print(const struct setting_row *row, const unsigned char *section, int64_t index,
                         const char *path_base, char *text, size_t text_bytes) {
    const unsigned char *field = section + row->offset;
    char small[UNITS_TEXT_BYTES]; /* as large as NUMBERS_TEXT_BYTES */
    _Static_assert((int)UNITS_TEXT_BYTES >= (int)NUMBERS_TEXT_BYTES, "one buffer for both");
    int64_t integer = 0;
    uint64_t amount = 0;
    double real;
    bool on;
    if (row->word || row->kind == SETTING_KIND_INTEGER || row->kind == SETTING_KIND_COUNT_OR_PERCENT ||
        row->kind == SETTING_KIND_CHOICE)
        memcpy(&integer, field, sizeof integer);
    if (row->kind == SETTING_KIND_RATE || row->kind == SETTING_KIND_DURATION || row->kind == SETTING_KIND_SIZE)
        memcpy(&amount, field, sizeof amount);
    if (row->word && integer == row->word_value) {
        snprintf(text, text_bytes, "%s", row->word);
        return;
    }
    switch (row->kind) {
    case SETTING_KIND_INTEGER:
        snprintf(text, text_bytes, "%" PRId64, integer);
        break;
    case SETTING_KIND_COUNT_OR_PERCENT:
        snprintf(text, text_bytes, "%" PRId64 "%s", integer < 0 ? -integer : integer, integer < 0 ? "%" : "");
        break;
    case SETTING_KIND_REAL:
        memcpy(&real, field, sizeof real);
        snprintf(text, text_bytes, "%s", numbers_format_real(real, small));
        break;
    case SETTING_KIND_BOOL:
        memcpy(&on, field, sizeof on);
        snprintf(text, text_bytes, "%s", on ? "true" : "false");
        break;
    case SETTING_KIND_TEXT:
    case SETTING_KIND_NAME:
        print_text((const char *)field, text, text_bytes);
        break;
    case SETTING_KIND_CHOICE:
        snprintf(text, text_bytes, "%s", row->names[integer]);
        break;
    case SETTING_KIND_FIXED:
        snprintf(text, text_bytes, "%s", row->default_text);
        break;
    case SETTING_KIND_RATE:
        snprintf(text, text_bytes, "%s", units_exact_rate(amount, small));
        break;
    case SETTING_KIND_DURATION:
        snprintf(text, text_bytes, "%s", units_exact_duration(amount, small));
        break;
    case SETTING_KIND_SIZE:
        snprintf(text, text_bytes, "%s", units_exact_size(amount, small));
        break;
    case SETTING_KIND_PATHS:
        print_path(row, section, index, path_base, text, text_bytes);
        break;
    }
}

int64_t setting_value_path_count(const struct setting_row *row, const unsigned char *section) {
    int64_t count;
    memcpy(&count, section + row->count_offset, sizeof count);
    return count;
}

void setting_value_clear_paths(const struct setting_row *row, unsigned char *section) {
    int64_t count = 0;
    memcpy(section + row->count_offset, &count, sizeof count);
    memset(section + row->offset, 0, row->items_max * row->capacity);
}
