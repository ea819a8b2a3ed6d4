/* status: how a call says that it failed, and the text a person reads.
 * Three kinds of error, never mixed: our own bug aborts (check.h); the environment and what peers or files say give a
 * status plus an error text made where it happened: what was expected, what was found, what to do. */
#ifndef ATOLL_BASE_STATUS_H
#define ATOLL_BASE_STATUS_H

#define MUST_USE          __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

enum status {
    STATUS_OK = 0,
    STATUS_USAGE,       /* the command line is wrong                        exit 64 */
    STATUS_DATA,        /* a file or message holds bad content              exit 65 */
    STATUS_UNREACHABLE, /* the outer or a peer does not answer              exit 69 */
    STATUS_NO_MEMORY,   /* memory at start was not to be had                exit 71 */
    STATUS_IO,          /* disk, file or socket error                       exit 74 */
    STATUS_AGAIN,       /* not now; the same call may succeed later         exit 75 */
    STATUS_REFUSED,     /* not admitted: key, token                         exit 77 */
    STATUS_CONFIG,      /* run file, version or key-value mismatch          exit 78 */
    STATUS_NOT_FINITE,  /* a NaN or infinity where none may be              exit 65 */
    STATUS_NOT_FOUND,   /* no such thing                                    exit 74 */
};

enum { ERROR_TEXT_BYTES = 4096 };

/* An error text, made where the error happens; may hold several lines (the run file reports all errors in one go). */
struct error {
    enum status status;
    char text[ERROR_TEXT_BYTES];
};

/* error_set: fill `error` (may be NULL) and return `status`, so that `return error_set(error, STATUS_DATA, ...)` reads well.
 * Texts that do not fit are cut. */
enum status error_set(struct error *error, enum status status, const char *format, ...) PRINTF_LIKE(3, 4);

/* error_prefix: put "prefix: " in front of the text (what was being done), keep the status, return it. */
enum status error_prefix(struct error *error, const char *format, ...) PRINTF_LIKE(2, 3);

/* The sysexits code that a process ends with for `status` (table above). */
int status_exit_code(enum status status);

/* "ok", "usage", "data", ...: for logs. */
const char *status_name(enum status status);

#endif
