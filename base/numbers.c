#include "base/numbers.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *skip_digits(const char *text) {
    while (*text >= '0' && *text <= '9')
        text++;
    return text;
}

/* A zero that more digits follow. */
static bool has_leading_zero(const char *digits) {
    return digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9';
}

bool numbers_parse_integer(const char *text, int64_t *value) {
    const char *digits = text[0] == '-' ? text + 1 : text;
    const char *end = skip_digits(digits);
    if (end == digits || *end != '\0' || has_leading_zero(digits))
        return false;
    errno = 0;
    long long parsed = strtoll(text, NULL, 10);
    if (errno != 0)
        return false;
    *value = parsed;
    return true;
}

bool numbers_parse_real(const char *text, double *value) {
    const char *digits = text[0] == '-' ? text + 1 : text;
    const char *at = skip_digits(digits);
    int64_t count = at - digits;
    if (*at == '.') {
        const char *fraction = at + 1;
        at = skip_digits(fraction);
        if (at == fraction)
            return false;
        count += at - fraction;
    }
    if (count == 0 || has_leading_zero(digits))
        return false;
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '+' || *at == '-';
        const char *exponent = at;
        at = skip_digits(exponent);
        if (at == exponent)
            return false;
    }
    if (*at != '\0')
        return false;
    errno = 0;
    double parsed = strtod(text, NULL);
    if (errno != 0 || !isfinite(parsed)) /* ERANGE: overflow, and underflow to a value that was not written */
        return false;
    *value = parsed;
    return true;
}

/* "1e-06" -> "1e-6" */
static void tidy_exponent(char *text) {
    char *e = strchr(text, 'e');
    if (!e)
        return;
    char *to = e + 1;
    const char *from = e + 1;
    if (*from == '-')
        to++;
    from += *from == '-' || *from == '+';
    while (from[0] == '0' && from[1] != '\0')
        from++;
    memmove(to, from, strlen(from) + 1);
}

char *numbers_format_real(double value, char *text) {
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(text, NUMBERS_TEXT_BYTES, "%.*g", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    if (fabs(value) < 1e15 && value == trunc(value))
        snprintf(text, NUMBERS_TEXT_BYTES, "%.0f", value); /* 10000, not 1e+04 */
    tidy_exponent(text);
    return text;
}
