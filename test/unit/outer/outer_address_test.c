/* outer_address: every way to write an address that a user may try. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/files.h"
#include "outer/outer_address.h"

static void listens(const char *text, const char *host, int port) {
    char found[TOKEN_HOST_BYTES];
    uint16_t found_port;
    struct error error = {0};
    assert_int_equal(outer_address_listen(text, found, &found_port, &error), STATUS_OK);
    assert_string_equal(found, host);
    assert_int_equal(found_port, port);
}

static void refuses_to_listen(const char *text, const char *why) {
    char found[TOKEN_HOST_BYTES];
    uint16_t port;
    struct error error = {0};
    assert_int_equal(outer_address_listen(text, found, &port, &error), STATUS_USAGE);
    assert_non_null(strstr(error.text, why));
}

static void advertises(const char *listen, const char *advertise, const char *host) {
    char found[TOKEN_HOST_BYTES];
    struct error error = {0};
    assert_int_equal(outer_address_advertise(listen, advertise, found, &error), STATUS_OK);
    assert_string_equal(found, host);
}

static void refuses_to_advertise(const char *advertise) {
    char found[TOKEN_HOST_BYTES];
    struct error error = {0};
    assert_int_equal(outer_address_advertise("127.0.0.1", advertise, found, &error), STATUS_USAGE);
    assert_non_null(strstr(error.text, "expected a name or address without port and spaces"));
}

static void listen_addresses(void **state) {
    (void)state;
    listens("127.0.0.1:7070", "127.0.0.1", 7070);
    listens("*:0", "0.0.0.0", 0);
    listens("[::1]:80", "::1", 80);
    listens("::1:80", "::1", 80);
    refuses_to_listen("127.0.0.1", "expected HOST:PORT");
    refuses_to_listen("127.0.0.1:", "expected HOST:PORT");
    refuses_to_listen(":7070", "expected HOST:PORT");
    refuses_to_listen("127.0.0.1:65535", "0 to 65534"); /* bulk needs the next one */
    refuses_to_listen("127.0.0.1:7x", "expected HOST:PORT");
    refuses_to_listen("no such host:1", "expected an address of this machine");
}

static void advertised_addresses(void **state) {
    (void)state;
    advertises("127.0.0.1", NULL, "127.0.0.1");
    advertises("::1", NULL, "[::1]");
    advertises("0.0.0.0", "hub.example.org", "hub.example.org");
    advertises("0.0.0.0", "2001:db8::7", "[2001:db8::7]");
    advertises("0.0.0.0", "[2001:db8::7]", "[2001:db8::7]");
    refuses_to_advertise("");
    refuses_to_advertise("bad host;x");
    refuses_to_advertise("h\xc3\xbc"
                         "b.example");
    char long_name[400];
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = 0;
    refuses_to_advertise(long_name);
}

static void standby(const char *text, const char *host, uint16_t control_port, uint16_t bulk_port) {
    struct token_address own = {"own", 7070, 7999}, found;
    struct error error;
    assert_int_equal(outer_address_standby(text, &own, &found, &error), STATUS_OK);
    assert_string_equal(found.host, host);
    assert_int_equal(found.control_port, control_port);
    assert_int_equal(found.bulk_port, bulk_port);
}

static void standby_addresses(void **state) {
    (void)state;
    standby("b.example.org", "b.example.org", 7070, 7999); /* the same ports on another machine */
    standby("b.example.org:8000", "b.example.org", 8000, 8001);
    standby("[2001:db8::7]:8000", "[2001:db8::7]", 8000, 8001);
    standby("[2001:db8::7]", "[2001:db8::7]", 7070, 7999);
    standby("2001:db8::7", "[2001:db8::7]", 7070, 7999);
    static const char *const wrong[] = {"", ":7070", "b:", "b:0", "b:65535", "b:7x", "b b:7070"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct token_address own = {"own", 7070, 7071}, found;
        struct error error;
        assert_int_equal(outer_address_standby(wrong[i], &own, &found, &error), STATUS_USAGE);
        assert_non_null(strstr(error.text, "--advertise"));
    }
}

/* What --advertise said is there at the next start; a directory that was told nothing has nothing. */
static void kept_addresses(void **state) {
    (void)state;
    char directory[] = "/tmp/atoll-address-XXXXXX", path[64], text[OUTER_ADDRESS_TEXT_BYTES];
    struct option_list said = {.items = {"hub.example.org", "[2001:db8::7]:8000"}, .count = 2}, found;
    struct error error;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(outer_address_kept(directory, text, &found, &error), STATUS_OK);
    assert_int_equal(found.count, 0);
    assert_int_equal(outer_address_keep(directory, &said, &error), STATUS_OK);
    assert_int_equal(outer_address_kept(directory, text, &found, &error), STATUS_OK);
    assert_int_equal(found.count, 2);
    assert_string_equal(found.items[0], said.items[0]);
    assert_string_equal(found.items[1], said.items[1]);

    snprintf(path, sizeof path, "%s/advertise", directory);
    assert_int_equal(files_write_atomic(path, "a\nb\nc\nd\ne\n", 10, 0644, &error), STATUS_OK);
    assert_int_equal(outer_address_kept(directory, text, &found, &error), STATUS_DATA);
    assert_non_null(strstr(error.text, "more than 4 addresses; say --advertise again"));
    unlink(path);
    rmdir(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(listen_addresses),
        cmocka_unit_test(advertised_addresses),
        cmocka_unit_test(standby_addresses),
        cmocka_unit_test(kept_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
