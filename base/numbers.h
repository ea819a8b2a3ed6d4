/* numbers: whole-text parses of decimal numbers, as the run file and the command line want them. "30abc", "", " 3", "0x10", "nan",
 * "inf", "1e999" are refused; so is a leading zero ("010" is octal to some and ten to others). No locale is set in atoll. */
#ifndef ATOLL_BASE_NUMBERS_H
#define ATOLL_BASE_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

/* [-]digits, fits int64_t. False: *value unchanged. */
bool numbers_parse_integer(const char *text, int64_t *value);

/* [-]digits[.digits][e[+-]digits], also ".5"; finite. */
bool numbers_parse_real(const char *text, double *value);

/* The shortest decimal text that reads back as the same double: 0.001, 1e-6, 10000. Finite values only. */
enum { NUMBERS_TEXT_BYTES = 32 };
char *numbers_format_real(double value, char *text);

#endif
