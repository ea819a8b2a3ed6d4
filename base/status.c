#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/check.h"

/* Texts are made in a buffer of their own: an argument may be error->text itself. */
enum status error_set(struct error *error, enum status status, const char *format, ...) {
    if (!error)
        return status;
    char text[ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    error->status = status;
    memcpy(error->text, text, strlen(text) + 1);
    return status;
}

enum status error_prefix(struct error *error, const char *format, ...) {
    CHECK(error != NULL);
    char text[ERROR_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    size_t used = strlen(text);
    if (used > sizeof text - 3)
        used = sizeof text - 3;
    size_t keep = strnlen(error->text, sizeof text - used - 3);
    memmove(error->text + used + 2, error->text, keep);
    memcpy(error->text, text, used);
    memcpy(error->text + used, ": ", 2);
    error->text[used + 2 + keep] = '\0';
    return error->status;
}

static const struct {
    const char *name;
    int exit_code;
} status_rows[] = {
    [STATUS_OK] = {"ok", 0},
    [STATUS_USAGE] = {"usage", 64},
    [STATUS_DATA] = {"data", 65},
    [STATUS_UNREACHABLE] = {"unreachable", 69},
    [STATUS_NO_MEMORY] = {"no-memory", 71},
    [STATUS_IO] = {"io", 74},
    [STATUS_AGAIN] = {"again", 75},
    [STATUS_REFUSED] = {"refused", 77},
    [STATUS_CONFIG] = {"config", 78},
    [STATUS_NOT_FINITE] = {"not-finite", 65},
    [STATUS_NOT_FOUND] = {"not-found", 74},
};
enum { STATUS_ROWS = sizeof status_rows / sizeof status_rows[0] };

int status_exit_code(enum status status) {
    CHECK((unsigned)status < STATUS_ROWS);
    return status_rows[status].exit_code;
}

const char *status_name(enum status status) {
    CHECK((unsigned)status < STATUS_ROWS);
    return status_rows[status].name;
}
