#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/status.h"

static void exit_codes_and_names(void **state) {
    (void)state;
    static const struct {
        enum status status;
        int exit_code;
        const char *name;
    } rows[] = {{STATUS_OK, 0, "ok"},
                {STATUS_USAGE, 64, "usage"},
                {STATUS_DATA, 65, "data"},
                {STATUS_UNREACHABLE, 69, "unreachable"},
                {STATUS_NO_MEMORY, 71, "no-memory"},
                {STATUS_IO, 74, "io"},
                {STATUS_AGAIN, 75, "again"},
                {STATUS_REFUSED, 77, "refused"},
                {STATUS_CONFIG, 78, "config"},
                {STATUS_NOT_FINITE, 65, "not-finite"},
                {STATUS_NOT_FOUND, 74, "not-found"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(status_exit_code(rows[i].status), rows[i].exit_code);
        assert_string_equal(status_name(rows[i].status), rows[i].name);
    }
}

static void texts(void **state) {
    (void)state;
    struct error error;
    assert_int_equal(error_set(&error, STATUS_IO, "disk %d: %s", 3, "full"), STATUS_IO);
    assert_string_equal(error.text, "disk 3: full");
    assert_int_equal(error_prefix(&error, "writing %s", "a.bin"), STATUS_IO);
    assert_string_equal(error.text, "writing a.bin: disk 3: full");
    assert_int_equal(error.status, STATUS_IO);
    assert_int_equal(error_set(&error, STATUS_DATA, "again (%s)", error.text),
                     STATUS_DATA); /* its own text as an argument */
    assert_string_equal(error.text, "again (writing a.bin: disk 3: full)");
    assert_int_equal(error_set(NULL, STATUS_AGAIN, "nobody listens"), STATUS_AGAIN);
}

static void long_texts_are_cut(void **state) {
    (void)state;
    static char text[ERROR_TEXT_BYTES + 100];
    struct error error;
    memset(text, 'x', sizeof text - 1);
    (void)error_set(&error, STATUS_IO, "%s", text);
    assert_int_equal(strlen(error.text), ERROR_TEXT_BYTES - 1);
    (void)error_prefix(&error, "front");
    assert_int_equal(strlen(error.text), ERROR_TEXT_BYTES - 1);
    assert_memory_equal(error.text, "front: xxx", 10);
    (void)error_prefix(&error, "%s", text);
    assert_int_equal(strlen(error.text), ERROR_TEXT_BYTES - 1);
    assert_string_equal(error.text + ERROR_TEXT_BYTES - 3, ": ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_codes_and_names),
        cmocka_unit_test(texts),
        cmocka_unit_test(long_texts_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
