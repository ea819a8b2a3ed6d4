/* units: numbers with units as people write them: 10Mbit/s, 40ms, 256KiB, 50%. Pure: no allocation, no locale, integers only. */
#ifndef ATOLL_BASE_UNITS_H
#define ATOLL_BASE_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each parses the whole text ("10Mbit/s", "1.5 Gbit/s", "250kB/s", "unlimited" = 0) and returns false for junk, a missing or
 * unknown unit, a negative value, one that overflows, and one that is not zero but would be rounded to zero; the value is then
 * unchanged. bit units are decimal (k, M, G; Mbps = Mbit/s); bytes: kB/MB/GB decimal, KiB/MiB/GiB binary. A rate of zero is refused:
 * 0 stands for unlimited, which has a word. */
bool units_parse_rate(const char *text, uint64_t *bytes_per_s);
bool units_parse_duration(const char *text, uint64_t *us); /* us, ms, s, m, h, d */
bool units_parse_size(const char *text, uint64_t *bytes);
bool units_parse_count(const char *text, uint64_t *count); /* 1500, 1.5k, 200M, 1G */

/* Short human text: "1.25 MB", "10.0 Mbit/s", "3m 12s". `text` holds UNITS_TEXT_BYTES. Return text. */
enum { UNITS_TEXT_BYTES = 32 };
char *units_format_bytes(uint64_t bytes, char *text);
char *units_format_rate(uint64_t bytes_per_s, char *text);
char *units_format_duration(uint64_t us, char *text);

/* The same without loss: "10Mbit/s", "unlimited", "1500us", "256KiB"; the parsers above give the value back. */
char *units_exact_rate(uint64_t bytes_per_s, char *text);
char *units_exact_duration(uint64_t us, char *text);
char *units_exact_size(uint64_t bytes, char *text);

#endif
