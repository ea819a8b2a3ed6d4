/* token: the pasted line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "comms/keys.h"
#include "comms/token.h"

static struct error error;

static struct token sample(void) {
    struct token token = {.expires_s = 1893456000, .uses = 4, .address_count = 2};
    for (size_t i = 0; i < TOKEN_SECRET_BYTES; i++) {
        token.secret[i] = (uint8_t)(i + 1);
        token.outer_key[i] = (uint8_t)(200 - i);
        token.id[i % MESSAGE_TOKEN_ID_BYTES] = (uint8_t)i;
    }
    strcpy(token.run_name, "novels-4");
    token.addresses[0] = (struct token_address){"outer.example.org", 7700, 7701};
    token.addresses[1] = (struct token_address){"[2001:db8::1]", 65535, 1};
    return token;
}

static void expect_parse_error(const char *text, const char *expected) {
    struct token token = {.uses = 77};
    assert_int_equal(token_parse(text, &token, &error), STATUS_USAGE);
    assert_string_equal(error.text, expected);
    assert_int_equal(token.uses, 77); /* untouched */
}

static void test_round_trip(void **state) {
    (void)state;
    struct token token = sample(), parsed;
    char text[TOKEN_TEXT_BYTES];
    token_format(&token, text);
    assert_memory_equal(text, "atoll1.", 7);
    assert_int_equal(strspn(text + 7, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
                     strlen(text) - 7);
    assert_int_equal(token_parse(text, &parsed, &error), STATUS_OK);
    assert_memory_equal(&parsed, &token, sizeof token);
    char padded[TOKEN_TEXT_BYTES + 8];
    snprintf(padded, sizeof padded, " \t%s \r\n", text);
    assert_int_equal(token_parse(padded, &parsed, &error), STATUS_OK);
    assert_memory_equal(&parsed, &token, sizeof token);
}

static void test_longest_token_fits(void **state) {
    (void)state;
    struct token token = sample(), parsed;
    memset(token.run_name, 'r', MESSAGE_NAME_BYTES - 1);
    token.address_count = TOKEN_ADDRESSES_MAX;
    for (int i = 0; i < TOKEN_ADDRESSES_MAX; i++) {
        token.addresses[i] = (struct token_address){.control_port = 1, .bulk_port = 2};
        memset(token.addresses[i].host, 'h', TOKEN_HOST_BYTES - 1);
    }
    char text[TOKEN_TEXT_BYTES];
    token_format(&token, text);
    assert_int_equal(token_parse(text, &parsed, &error), STATUS_OK);
    assert_memory_equal(&parsed, &token, sizeof token);
}

/* The bytes of the format: old tokens must go on working. */
static void test_format_is_pinned(void **state) {
    (void)state;
    struct token token = sample();
    char text[TOKEN_TEXT_BYTES];
    token_format(&token, text);
    assert_string_equal(text,
                        "atoll1.AYDY23AAAAAABAAAABgZGhscHR4fAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyDIx8bFxMPCwcC_"
                        "vr28u7q5uLe2tbSzsrGwr66trKuq"
                        "qQhub3ZlbHMtNAIUHhUeEW91dGVyLmV4YW1wbGUub3Jn__8BAA1bMjAwMTpkYjg6OjFdJzXSFA");
}

static void test_secrets_differ(void **state) {
    (void)state;
    struct token a = sample(), b = sample();
    token_make_secret(&a);
    token_make_secret(&b);
    assert_memory_not_equal(a.secret, b.secret, sizeof a.secret);
    assert_memory_not_equal(a.id, b.id, sizeof a.id);
    assert_int_equal(a.uses, 4);
}

/* Whatever is cut or changed is found, and called by its name. */
static void test_every_damage_is_found(void **state) {
    (void)state;
    struct token token = sample(), parsed;
    char whole[TOKEN_TEXT_BYTES], text[TOKEN_TEXT_BYTES], expected[128];
    token_format(&token, whole);
    size_t count = strlen(whole);
    for (size_t length = 7; length < count; length++) {
        snprintf(text, sizeof text, "%.*s", (int)length, whole);
        snprintf(expected, sizeof expected, "this token is cut short after %zu characters: paste the whole line again",
                 length);
        expect_parse_error(text, expected);
    }
    for (size_t at = 0; at < count; at++) {
        strcpy(text, whole);
        text[at] = text[at] == 'x' ? 'y' : 'x';
        assert_int_equal(token_parse(text, &parsed, &error), STATUS_USAGE);
    }
    snprintf(text, sizeof text, "%sAAAA", whole);
    expect_parse_error(text, "this token is damaged (its checksum does not match): paste the whole line again");
    strcpy(text, whole);
    text[50] = '*';
    expect_parse_error(text, "this token is damaged (character 51 is none of a token's): paste the whole line again");
}

static void test_what_is_no_token(void **state) {
    (void)state;
    const char *no = "this is not a token: expected atoll1. and letters, as in the line that `atoll outer` prints";
    expect_parse_error("", no);
    expect_parse_error("  \n", no);
    expect_parse_error("atoll", no);
    expect_parse_error("atoll1", no);
    expect_parse_error("atoll.abc", no);
    expect_parse_error("hello", no);
    expect_parse_error("atoll1.", "this token is cut short after 7 characters: paste the whole line again");
    expect_parse_error("atoll2.AAAA",
                       "this token is of version 2, this atoll knows version 1: use the same atoll as the outer");
    char text[5000];
    memset(text, 'A', sizeof text - 1);
    memcpy(text, "atoll1.", 7);
    text[sizeof text - 1] = '\0';
    expect_parse_error(text, "this token is too long (4999 characters): paste one line only");
}

static void test_read_from_argument_file_and_input(void **state) {
    (void)state;
    struct token token = sample(), parsed;
    char text[TOKEN_TEXT_BYTES];
    token_format(&token, text);
    assert_int_equal(token_read(text, &parsed, &error), STATUS_OK);
    assert_memory_equal(&parsed, &token, sizeof token);

    char path[] = "/tmp/atoll-token-XXXXXX";
    int file = mkstemp(path);
    assert_true(dprintf(file, "\n  %s\n", text) > 0);
    memset(&parsed, 0, sizeof parsed);
    assert_int_equal(token_read(path, &parsed, &error), STATUS_OK);
    assert_memory_equal(&parsed, &token, sizeof token);

    assert_non_null(freopen(path, "r", stdin));
    memset(&parsed, 0, sizeof parsed);
    assert_int_equal(token_read("-", &parsed, &error), STATUS_OK);
    assert_memory_equal(&parsed, &token, sizeof token);
    assert_int_equal(token_read("-", &parsed, &error), STATUS_USAGE);
    assert_string_equal(error.text, "no token on standard input: paste the line there");

    assert_int_equal(ftruncate(file, 20), 0);
    assert_int_equal(token_read(path, &parsed, &error), STATUS_USAGE);
    char expected[128];
    snprintf(expected, sizeof expected, "%s: this token is cut short after 17 characters: paste the whole line again",
             path);
    assert_string_equal(error.text, expected);
    close(file);
    unlink(path);

    assert_int_equal(token_read("no/such/file", &parsed, &error), STATUS_USAGE);
    assert_string_equal(error.text, "'no/such/file' is neither a token (atoll1....) nor a file");
    /* A token that lost its head is a secret still: it is not repeated. */
    assert_int_equal(token_read(text + 10, &parsed, &error), STATUS_USAGE);
    assert_string_equal(error.text, "this is neither a token (atoll1....) nor a file");
}

int main(void) {
    keys_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_longest_token_fits),
        cmocka_unit_test(test_format_is_pinned),
        cmocka_unit_test(test_secrets_differ),
        cmocka_unit_test(test_every_damage_is_found),
        cmocka_unit_test(test_what_is_no_token),
        cmocka_unit_test(test_read_from_argument_file_and_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
