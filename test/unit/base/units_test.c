#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include "base/units.h"

struct parse {
    const char *text;
    bool fine;
    uint64_t value;
};

static void check_table(bool (*parse)(const char *, uint64_t *), const struct parse *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint64_t value = 99;
        if (parse(rows[i].text, &value) != rows[i].fine || value != (rows[i].fine ? rows[i].value : 99))
            fail_msg("'%s': fine %d, value %llu", rows[i].text, !rows[i].fine, (unsigned long long)value);
    }
}
#define CHECK_TABLE(parse, rows) check_table(parse, rows, sizeof rows / sizeof rows[0])

static void rates(void **state) {
    (void)state;
    static const struct parse rows[] = {
        {"10Mbit/s", true, 1250000},
        {"1.5 Gbit/s", true, 187500000},
        {"250kB/s", true, 250000},
        {"0.25Mbit/s", true, 31250},
        {"8bit/s", true, 1},
        {"100Mbps", true, 12500000},
        {"1MiB/s", true, 1048576},
        {"unlimited", true, 0},
        {"0Mbit/s", false, 0}, /* would mean unlimited */
        {"1bit/s", false, 0},  /* an eighth of a byte rounds to zero: the same */
        {"10", false, 0},
        {"10Mbit", false, 0},
        {"10 mbit/s", false, 0},
        {"-1Mbit/s", false, 0},
        {"+1Mbit/s", false, 0},
        {"1e3bit/s", false, 0},
        {"10Mbit/s ", false, 0},
        {" 10Mbit/s", false, 0},
        {".5Mbit/s", false, 0},
        {"5.Mbit/s", false, 0},
        {"1.2.3Mbit/s", false, 0},
        {"", false, 0},
        {"Mbit/s", false, 0},
        {"999999999999999999Gbit/s", false, 0},
        {"9999999999999999999bit/s", false, 0},
    };
    CHECK_TABLE(units_parse_rate, rows);
}

static void durations(void **state) {
    (void)state;
    static const struct parse rows[] = {
        {"40ms", true, 40000},
        {"1.5s", true, 1500000},
        {"2 m", true, 120000000},
        {"24h", true, UINT64_C(86400000000)},
        {"7d", true, UINT64_C(604800000000)},
        {"250us", true, 250},
        {"0s", true, 0},
        {"0.4us", false, 0},
        {"0.6us", true, 1},
        {"5", false, 0},
        {"5sec", false, 0},
        {"1h30m", false, 0},
        {"unlimited", false, 0},
    };
    CHECK_TABLE(units_parse_duration, rows);
}

static void counts(void **state) {
    (void)state;
    static const struct parse rows[] = {
        {"0", true, 0}, {"1500", true, 1500}, {"1.5k", true, 1500}, {"200M", true, 200000000}, {"1G", true, 1000000000},
        {"", false, 0}, {"12X", false, 0},    {"-1", false, 0},     {"0.2", false, 0},         {"1 000", false, 0},
    };
    CHECK_TABLE(units_parse_count, rows);
}

static void sizes(void **state) {
    (void)state;
    static const struct parse rows[] = {
        {"256KiB", true, 262144}, {"10MB", true, 10000000}, {"1GiB", true, 1073741824},
        {"17B", true, 17},        {"0B", true, 0},          {"1.5kB", true, 1500},
        {"256K", false, 0},       {"256kb", false, 0},      {"256", false, 0},
    };
    CHECK_TABLE(units_parse_size, rows);
}

static void short_texts(void **state) {
    (void)state;
    char t[UNITS_TEXT_BYTES];
    assert_string_equal(units_format_bytes(0, t), "0 B");
    assert_string_equal(units_format_bytes(999, t), "999 B");
    assert_string_equal(units_format_bytes(1250000, t), "1.25 MB");
    assert_string_equal(units_format_bytes(12500000, t), "12.5 MB");
    assert_string_equal(units_format_bytes(1005, t), "1.00 kB");
    assert_string_equal(units_format_bytes(UINT64_MAX, t), "18446744073 GB");
    assert_string_equal(units_format_rate(1250000, t), "10.0 Mbit/s");
    assert_string_equal(units_format_rate(0, t), "unlimited");
    assert_string_equal(units_format_duration(192000000, t), "3m 12s");
    assert_string_equal(units_format_duration(40000, t), "40.0 ms");
    assert_string_equal(units_format_duration(UINT64_C(93600000000), t), "1d 02h");
    assert_string_equal(units_format_duration(UINT64_C(5400000000), t), "1h 30m");
}

static void exact_texts_read_back(void **state) {
    (void)state;
    static const uint64_t values[] = {1,       7,       8,      125,         1000,    1024,
                                      1250000, 1500000, 262144, 86400000000, 1 << 30, 123456789012345};
    char t[UNITS_TEXT_BYTES];
    uint64_t back;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        assert_true(units_parse_rate(units_exact_rate(values[i], t), &back) && back == values[i]);
        assert_true(units_parse_duration(units_exact_duration(values[i], t), &back) && back == values[i]);
        assert_true(units_parse_size(units_exact_size(values[i], t), &back) && back == values[i]);
    }
    assert_string_equal(units_exact_rate(1250000, t), "10Mbit/s");
    assert_string_equal(units_exact_rate(0, t), "unlimited");
    assert_string_equal(units_exact_duration(1500000, t), "1500ms");
    assert_string_equal(units_exact_duration(0, t), "0s");
    assert_string_equal(units_exact_size(262144, t), "256KiB");
    assert_string_equal(units_exact_size(0, t), "0B");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates),  cmocka_unit_test(durations),   cmocka_unit_test(sizes),
        cmocka_unit_test(counts), cmocka_unit_test(short_texts), cmocka_unit_test(exact_texts_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
