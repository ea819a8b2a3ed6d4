/* tokens: what people see of the outer's answers about tokens and drained workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "experiments/tokens.h"

static void expect_text(void (*print)(const json_t *answer, FILE *to), const char *answer, const char *expected) {
    json_t *json = json_loads(answer, 0, NULL);
    char *text = NULL;
    size_t bytes = 0;
    assert_non_null(json);
    FILE *to = open_memstream(&text, &bytes);
    print(json, to);
    fclose(to);
    assert_string_equal(text, expected);
    free(text);
    json_decref(json);
}

static void test_tokens(void **state) {
    (void)state;
    expect_text(tokens_print_created, "{\"token\": \"atoll1.abc\", \"id\": \"0011223344556677\"}",
                "atoll worker --join atoll1.abc\n");
    expect_text(tokens_print_list, "{\"tokens\": []}", "no tokens: atoll token create DIR makes one\n");
    expect_text(
        tokens_print_list,
        "{\"tokens\": [{\"id\": \"0011223344556677\", \"state\": \"live\", \"uses\": 4, \"used\": 1, \"left_s\": 7200},"
        "{\"id\": \"8899aabbccddeeff\", \"state\": \"used up\", \"uses\": 1, \"used\": 1, \"left_s\": 60},"
        "{\"id\": \"0123456789abcdef\", \"state\": \"revoked\", \"uses\": 1000000, \"used\": 0, \"left_s\": 60},"
        "{\"id\": \"fedcba9876543210\", \"state\": \"live\", \"uses\": 1, \"used\": 0,"
        " \"left_s\": 9223372036854775807}]}",
        "id                state    used         left\n"
        "0011223344556677  live     1 of 4       2h 00m\n"
        "8899aabbccddeeff  used up  1 of 1       -\n"
        "0123456789abcdef  revoked  0 of 1000000 -\n"
        "fedcba9876543210  live     0 of 1       36600d 00h\n");
    expect_text(tokens_print_revoked,
                "{\"id\": \"0011223344556677\", \"state\": \"revoked\", \"uses\": 4, \"used\": 1}",
                "token 0011223344556677 is revoked; who registered with it stays (1 of 4 uses)\n");
}

static void test_drain(void **state) {
    (void)state;
    static const struct {
        const char *answer, *expected;
    } rows[] = {
        {"{\"slot\": 2, \"worker\": \"attic\", \"live\": true, \"revoked\": false}",
         "worker attic (slot 2) finishes what is in flight and leaves; it may come back: atoll worker --dir D\n"},
        {"{\"slot\": 2, \"worker\": \"attic\", \"live\": true, \"revoked\": true}",
         "worker attic (slot 2) finishes what is in flight and leaves; its key is revoked, it may not come back\n"},
        {"{\"slot\": 2, \"worker\": \"attic\", \"live\": false, \"revoked\": true}",
         "worker attic (slot 2) is not connected; its key is revoked, it may not come back\n"},
        {"{\"slot\": 2, \"worker\": \"attic\", \"live\": false, \"revoked\": false}",
         "worker attic (slot 2) is not connected; --revoke takes its right to come back\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect_text(tokens_print_drained, rows[i].answer, rows[i].expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_drain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
