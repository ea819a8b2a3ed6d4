#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <stdlib.h>
#include "base/numbers.h"

static void integers(void **state) {
    (void)state;
    int64_t value = 99;
    static const struct {
        const char *text;
        int64_t value;
    } fine[] = {{"0", 0},
                {"-0", 0},
                {"7", 7},
                {"-12", -12},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN}};
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        assert_true(numbers_parse_integer(fine[i].text, &value) && value == fine[i].value);
    static const char *const bad[] = {
        "", "-", "+1", " 1", "1 ", "1.0", "1e3", "010", "-01", "0x1", "1_000", "１", "9223372036854775808", "30abc"};
    value = 99;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(numbers_parse_integer(bad[i], &value));
    assert_int_equal(value, 99);
}

static void reals(void **state) {
    (void)state;
    double value = 99;
    static const struct {
        const char *text;
        double value;
    } fine[] = {{"0", 0}, {"-1.5", -1.5}, {".5", 0.5}, {"1e-3", 1e-3}, {"2E+3", 2000}, {"1e308", 1e308}, {"0.10", 0.1}};
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        assert_true(numbers_parse_real(fine[i].text, &value) && value == fine[i].value);
    static const char *const bad[] = {"",    ".",   "-",  "1.", "e3",    "1e",     "1e+",    "nan",  "inf",  "-inf",
                                      "0x1", "1,5", " 1", "1 ", "1e999", "-1e999", "1e-999", "01.5", "0.5x", "1.2.3"};
    value = 99;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(numbers_parse_real(bad[i], &value));
    assert_true(value == 99);
}

static void texts_read_back(void **state) {
    (void)state;
    char text[NUMBERS_TEXT_BYTES];
    assert_string_equal(numbers_format_real(0.001, text), "0.001");
    assert_string_equal(numbers_format_real(1e-6, text), "1e-6");
    assert_string_equal(numbers_format_real(-1.25e-10, text), "-1.25e-10");
    assert_string_equal(numbers_format_real(1e-300, text), "1e-300");
    assert_string_equal(numbers_format_real(10000, text), "10000");
    assert_string_equal(numbers_format_real(1e20, text), "1e20");
    assert_string_equal(numbers_format_real(0.1 + 0.2, text), "0.30000000000000004");
    static const double values[] = {0, -0.5, 1.0 / 3, DBL_MAX, -DBL_MAX, DBL_MIN, 123456789.123, 1e15, 1e16, 3e-5};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        double back = 7;
        assert_true(numbers_parse_real(numbers_format_real(values[i], text), &back));
        assert_true(back == values[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers),
        cmocka_unit_test(reals),
        cmocka_unit_test(texts_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
