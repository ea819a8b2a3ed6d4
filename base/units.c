#include "base/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

__extension__ typedef unsigned __int128 wide;

struct unit {
    const char *name;
    uint64_t factor; /* in the table's smallest unit */
};

static const struct unit rate_units[] = {
    /* bits per second */
    {"bit/s", 1},
    {"kbit/s", 1000},
    {"Mbit/s", 1000000},
    {"Gbit/s", 1000000000},
    {"bps", 1},
    {"kbps", 1000},
    {"Mbps", 1000000},
    {"Gbps", 1000000000},
    {"B/s", 8},
    {"kB/s", 8000},
    {"MB/s", 8000000},
    {"GB/s", 8000000000},
    {"KiB/s", 8 * 1024},
    {"MiB/s", 8 * 1048576},
    {"GiB/s", UINT64_C(8) * 1073741824},
    {NULL, 0},
};
static const struct unit duration_units[] = {
    /* microseconds */
    {"us", 1}, {"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", UINT64_C(3600000000)}, {"d", UINT64_C(86400000000)},
    {NULL, 0},
};
static const struct unit size_units[] = {
    /* bytes */
    {"B", 1},      {"kB", 1000},     {"MB", 1000000},     {"GB", 1000000000},
    {"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824}, {NULL, 0},
};

static const struct unit count_units[] = {{"", 1}, {"k", 1000}, {"M", 1000000}, {"G", 1000000000}, {NULL, 0}};

/* digits[.digits] [spaces] unit, the whole text. *value in the table's smallest unit, nearest; false when a value that is not
 * zero would become zero, or does not fit. */
static bool parse_with_unit(const char *text, const struct unit *units, uint64_t divisor, uint64_t *value) {
    uint64_t mantissa = 0;
    uint64_t scale = 1; /* 10 ^ digits behind the point */
    bool point = false;
    int digits = 0;
    int digits_behind = 0;
    for (;; text++) {
        if (*text >= '0' && *text <= '9') {
            if (++digits > 18)
                return false;
            mantissa = mantissa * 10 + (uint64_t)(*text - '0');
            if (point) {
                scale *= 10;
                digits_behind++;
            }
        } else if (*text == '.' && !point && digits > 0) {
            point = true;
        } else {
            break;
        }
    }
    if (digits == 0 || (point && digits_behind == 0))
        return false;
    while (*text == ' ')
        text++;
    for (; units->name; units++) {
        if (strcmp(text, units->name) != 0)
            continue;
        wide whole = (wide)mantissa * units->factor;
        wide by = (wide)scale * divisor;
        wide result = (whole + by / 2) / by;
        if (result > UINT64_MAX / 8 || (result == 0 && mantissa != 0))
            return false;
        *value = (uint64_t)result;
        return true;
    }
    return false;
}

bool units_parse_rate(const char *text, uint64_t *bytes_per_s) {
    if (strcmp(text, "unlimited") == 0) {
        *bytes_per_s = 0;
        return true;
    }
    uint64_t value;
    if (!parse_with_unit(text, rate_units, 8, &value) || value == 0) /* 0 means unlimited and has a word */
        return false;
    *bytes_per_s = value;
    return true;
}

bool units_parse_duration(const char *text, uint64_t *us) {
    return parse_with_unit(text, duration_units, 1, us);
}

bool units_parse_size(const char *text, uint64_t *bytes) {
    return parse_with_unit(text, size_units, 1, bytes);
}

bool units_parse_count(const char *text, uint64_t *count) {
    return parse_with_unit(text, count_units, 1, count);
}

/* value / unit with three digits: 1.25, 12.5, 125. */
static char *format_scaled(uint64_t value, uint64_t unit, const char *name, char *text) {
    uint64_t whole = value / unit;
    uint64_t hundredths = (uint64_t)((wide)(value % unit) * 100 / unit);
    if (whole >= 100 || unit == 1)
        snprintf(text, UNITS_TEXT_BYTES, "%" PRIu64 " %s", whole, name);
    else if (whole >= 10)
        snprintf(text, UNITS_TEXT_BYTES, "%" PRIu64 ".%u %s", whole, (unsigned)(hundredths / 10), name);
    else
        snprintf(text, UNITS_TEXT_BYTES, "%" PRIu64 ".%02u %s", whole, (unsigned)hundredths, name);
    return text;
}

char *units_format_bytes(uint64_t bytes, char *text) {
    if (bytes >= 1000000000)
        return format_scaled(bytes, 1000000000, "GB", text);
    if (bytes >= 1000000)
        return format_scaled(bytes, 1000000, "MB", text);
    if (bytes >= 1000)
        return format_scaled(bytes, 1000, "kB", text);
    return format_scaled(bytes, 1, "B", text);
}

char *units_format_rate(uint64_t bytes_per_s, char *text) {
    if (bytes_per_s == 0) {
        snprintf(text, UNITS_TEXT_BYTES, "unlimited");
        return text;
    }
    uint64_t bits = bytes_per_s > UINT64_MAX / 8 ? UINT64_MAX : bytes_per_s * 8;
    if (bits >= 1000000000)
        return format_scaled(bits, 1000000000, "Gbit/s", text);
    if (bits >= 1000000)
        return format_scaled(bits, 1000000, "Mbit/s", text);
    if (bits >= 1000)
        return format_scaled(bits, 1000, "kbit/s", text);
    return format_scaled(bits, 1, "bit/s", text);
}

char *units_format_duration(uint64_t us, char *text) {
    uint64_t s = us / 1000000;
    if (us < 1000)
        return format_scaled(us, 1, "us", text);
    if (us < 1000000)
        return format_scaled(us, 1000, "ms", text);
    if (s < 60)
        return format_scaled(us, 1000000, "s", text);
    if (s < 3600)
        snprintf(text, UNITS_TEXT_BYTES, "%um %02us", (unsigned)(s / 60), (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(text, UNITS_TEXT_BYTES, "%uh %02um", (unsigned)(s / 3600), (unsigned)(s / 60 % 60));
    else
        snprintf(text, UNITS_TEXT_BYTES, "%" PRIu64 "d %02uh", s / 86400, (unsigned)(s / 3600 % 24));
    return text;
}

/* The largest unit of `units` that divides the value; rows [0, rows) ascend. */
static char *format_exact(uint64_t value, const struct unit *units, int rows, char *text) {
    int best = 0;
    for (int row = 1; row < rows; row++)
        if (value != 0 && value % units[row].factor == 0)
            best = row;
    snprintf(text, UNITS_TEXT_BYTES, "%" PRIu64 "%s", value / units[best].factor, units[best].name);
    return text;
}

char *units_exact_rate(uint64_t bytes_per_s, char *text) {
    if (bytes_per_s == 0 || bytes_per_s > UINT64_MAX / 8)
        return units_format_rate(0, text);
    return format_exact(bytes_per_s * 8, rate_units, 4, text);
}

char *units_exact_duration(uint64_t us, char *text) {
    if (us == 0) {
        snprintf(text, UNITS_TEXT_BYTES, "0s");
        return text;
    }
    return format_exact(us, duration_units, 6, text);
}

char *units_exact_size(uint64_t bytes, char *text) {
    if (bytes != 0 && bytes % 1024 == 0)
        return format_exact(bytes, size_units + 4, 3, text);
    return format_exact(bytes, size_units, 4, text);
}
