#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/bytes.h"

static void loads_and_stores_are_little_endian(void **state) {
    (void)state;
    uint8_t b[8];
    bytes_store_u64(b, UINT64_C(0x0102030405060708));
    const uint8_t expected[8] = {8, 7, 6, 5, 4, 3, 2, 1};
    assert_memory_equal(b, expected, 8);
    assert_true(bytes_load_u64(b) == UINT64_C(0x0102030405060708));
    bytes_store_u32(b, 0xfedcba98);
    assert_int_equal(b[0], 0x98);
    assert_int_equal(b[3], 0xfe);
    assert_true(bytes_load_u32(b) == 0xfedcba98);
    bytes_store_u16(b, 0xa1b2);
    assert_int_equal(b[0], 0xb2);
    assert_int_equal(bytes_load_u16(b), 0xa1b2);
}

static void hex_there_and_back(void **state) {
    (void)state;
    uint8_t all[256];
    uint8_t back[256];
    char text[513];
    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    bytes_to_hex(all, 256, text);
    assert_int_equal(strlen(text), 512);
    assert_memory_equal(text, "00010203", 8);
    assert_string_equal(text + 504, "fcfdfeff");
    assert_true(bytes_from_hex(text, back, 256));
    assert_memory_equal(all, back, 256);
    assert_true(bytes_from_hex("ABcd", back, 2));
    assert_int_equal(back[0], 0xab);
    assert_true(bytes_from_hex("", back, 0));
}

static void hex_refuses_what_is_not(void **state) {
    (void)state;
    static const char *const bad[] = {"", "0", "000", "0g00", "00 0", "00000", "0x00", "-000"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t to[2] = {7, 9};
        assert_false(bytes_from_hex(bad[i], to, 2));
        assert_int_equal(to[0], 7); /* as it was */
        assert_int_equal(to[1], 9);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads_and_stores_are_little_endian),
        cmocka_unit_test(hex_there_and_back),
        cmocka_unit_test(hex_refuses_what_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
