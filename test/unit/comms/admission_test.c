/* admission: roles, registration, its refusals, and the list on disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "comms/admission.h"

enum { NOW_S = 1000000 };

static char directory[64];
static char list_path[128];
static struct node_keys keys;
static struct error error;
static struct admission *admission;
static struct token token;
static struct curve_pair enrolment;
static struct certificate certificate;
static struct message_refuse refusal;
static const uint8_t run_id[MESSAGE_HASH_BYTES] = {9, 8, 7};

static void open_list(uint32_t slots) {
    assert_int_equal(admission_open(directory, &keys, slots, &admission, &error), STATUS_OK);
    admission_set_run_id(admission, run_id);
}

static int setup(void **state) {
    (void)state;
    strcpy(directory, "/tmp/atoll-admission-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(list_path, sizeof list_path, "%s/keys/workers.json", directory);
    assert_int_equal(keys_open(directory, &keys, &error), STATUS_OK);
    open_list(3);
    token = (struct token){.expires_s = NOW_S + 60, .uses = 2};
    token_make_secret(&token);
    keys_enrolment_pair(token.secret, &enrolment);
    assert_int_equal(admission_add_token(admission, &token, &error), STATUS_OK);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    admission_close(admission);
    admission = NULL;
    char path[128];
    unlink(list_path);
    snprintf(path, sizeof path, "%s/keys/seed", directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/keys", directory);
    rmdir(path);
    return rmdir(directory);
}

static struct message_register a_request(uint8_t key, const char *name) {
    struct message_register request = {.protocol_version = MESSAGE_PROTOCOL_VERSION};
    memset(request.worker_key, key, sizeof request.worker_key);
    memcpy(request.token_id, token.id, sizeof request.token_id);
    snprintf(request.name, sizeof request.name, "%s", name);
    return request;
}

static bool register_at(uint8_t key, const char *name, uint64_t wall_s) {
    struct message_register request = a_request(key, name);
    return admission_register(admission, enrolment.public_key, &request, wall_s, &certificate, &refusal);
}

static void expect_refusal(bool admitted, enum refuse_code code, const char *text) {
    assert_false(admitted);
    assert_string_equal(refusal.text, text);
    assert_int_equal(refusal.code, code);
}

static enum peer_role role_of(uint8_t key) {
    uint8_t bytes[KEYS_CURVE_BYTES];
    memset(bytes, key, sizeof bytes);
    return admission_role(admission, bytes);
}

static void test_roles(void **state) {
    (void)state;
    assert_int_equal(admission_role(admission, keys.curve.public_key), PEER_ROLE_ADMIN);
    assert_int_equal(admission_role(admission, enrolment.public_key), PEER_ROLE_ENROL);
    assert_int_equal(role_of(5), PEER_ROLE_NONE);
    assert_int_equal(role_of(0), PEER_ROLE_NONE);
    assert_true(register_at(5, "a", NOW_S));
    assert_int_equal(role_of(5), PEER_ROLE_WORKER);
    uint32_t slot = 99;
    char name[MESSAGE_NAME_BYTES];
    uint8_t key[KEYS_CURVE_BYTES];
    memset(key, 5, sizeof key);
    assert_true(admission_find(admission, key, &slot, name));
    assert_int_equal(slot, 0);
    assert_string_equal(name, "a");
    assert_false(admission_find(admission, enrolment.public_key, &slot, name));
}

static void test_certificate(void **state) {
    (void)state;
    assert_true(register_at(5, "island", NOW_S));
    assert_int_equal(certificate.slot, 0);
    assert_string_equal(certificate.name, "island");
    assert_memory_equal(certificate.run_id, run_id, sizeof run_id);
    assert_int_equal(certificate_verify(&certificate, keys.sign_key, &error), STATUS_OK);
    certificate.slot = 1;
    assert_int_not_equal(certificate_verify(&certificate, keys.sign_key, &error), STATUS_OK);
}

/* Uses count new keys; the same key comes again for nothing, even under a dead token. */
static void test_uses_and_registering_again(void **state) {
    (void)state;
    assert_true(register_at(5, "a", NOW_S));
    assert_true(register_at(5, "a", NOW_S));
    assert_true(register_at(6, "b", NOW_S));
    assert_int_equal(certificate.slot, 1);
    expect_refusal(register_at(7, "c", NOW_S), REFUSE_TOKEN_USED,
                   "this token has been used 2 of 2 times; ask for a new one: atoll token create");
    assert_true(register_at(5, "renamed", NOW_S + 1000));
    assert_int_equal(certificate.slot, 0);
    assert_string_equal(certificate.name, "a");
}

static void test_expiry(void **state) {
    (void)state;
    assert_true(register_at(5, "a", NOW_S + 59));
    expect_refusal(register_at(6, "b", NOW_S + 60), REFUSE_TOKEN_EXPIRED,
                   "this token expired 1.00 s ago; ask for a new one: atoll token create");
    expect_refusal(register_at(6, "b", NOW_S + 60 + 192), REFUSE_TOKEN_EXPIRED,
                   "this token expired 3m 12s ago; ask for a new one: atoll token create");
    assert_int_equal(admission_role(admission, enrolment.public_key), PEER_ROLE_ENROL); /* let in, to be told */
}

static void test_full(void **state) {
    (void)state;
    token.uses = 9;
    assert_int_equal(admission_add_token(admission, &token, &error), STATUS_OK); /* the newest row of a secret holds */
    for (uint8_t key = 5; key < 8; key++)
        assert_true(register_at(key, "", NOW_S));
    assert_string_equal(certificate.name, "worker-2");
    expect_refusal(register_at(8, "d", NOW_S), REFUSE_FULL,
                   "all 3 places of this run are taken (`workers` in its run file)");
}

static void test_names_are_unique(void **state) {
    (void)state;
    token.uses = 3;
    assert_int_equal(admission_add_token(admission, &token, &error), STATUS_OK);
    char longest[MESSAGE_NAME_BYTES];
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_true(register_at(5, longest, NOW_S));
    assert_string_equal(certificate.name, longest);
    assert_true(register_at(6, longest, NOW_S));
    assert_string_equal(certificate.name, "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn-2");
    assert_true(register_at(7, "no spaces\n", NOW_S));
    assert_string_equal(certificate.name, "worker-2");
}

static void test_other_refusals(void **state) {
    (void)state;
    struct message_register request = a_request(5, "a");
    request.protocol_version = 2;
    expect_refusal(admission_register(admission, enrolment.public_key, &request, NOW_S, &certificate, &refusal),
                   REFUSE_VERSION, "this worker speaks protocol 2, the outer speaks 1: use the same atoll on both");
    request = a_request(5, "a");
    request.token_id[0] ^= 1;
    const char *unknown =
        "this outer does not know this token (revoked, or of another run); ask for a new one: atoll token create";
    expect_refusal(admission_register(admission, enrolment.public_key, &request, NOW_S, &certificate, &refusal),
                   REFUSE_TOKEN_UNKNOWN, unknown);
    request = a_request(5, "a");
    expect_refusal(admission_register(admission, keys.curve.public_key, &request, NOW_S, &certificate, &refusal),
                   REFUSE_TOKEN_UNKNOWN, unknown);
    const char *stolen =
        "this key is the outer's own or a token's, not a worker's: remove the worker's keys/seed so that it "
        "makes its own";
    expect_refusal(register_at(0, "a", NOW_S), REFUSE_DUPLICATE, stolen);
    const uint8_t *taken[] = {keys.curve.public_key, enrolment.public_key};
    for (int i = 0; i < 2; i++) {
        memcpy(request.worker_key, taken[i], KEYS_CURVE_BYTES);
        expect_refusal(admission_register(admission, enrolment.public_key, &request, NOW_S, &certificate, &refusal),
                       REFUSE_DUPLICATE, stolen);
    }
    assert_int_equal(access(list_path, F_OK), -1); /* nothing was stored */
}

/* A restarted outer knows its workers, and how often a token was used. */
static void test_list_survives_a_restart(void **state) {
    (void)state;
    assert_true(register_at(5, "a", NOW_S));
    assert_true(register_at(6, "b\"\\", NOW_S));
    struct stat facts;
    assert_int_equal(stat(list_path, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    admission_close(admission);
    open_list(3);
    assert_int_equal(role_of(5), PEER_ROLE_WORKER);
    assert_int_equal(role_of(6), PEER_ROLE_WORKER);
    assert_int_equal(admission_role(admission, enrolment.public_key), PEER_ROLE_NONE); /* tokens are given anew */
    assert_int_equal(admission_add_token(admission, &token, &error), STATUS_OK);
    assert_true(register_at(6, "x", NOW_S));
    assert_int_equal(certificate.slot, 1);
    assert_string_equal(certificate.name, "b\"\\");
    expect_refusal(register_at(7, "c", NOW_S), REFUSE_TOKEN_USED,
                   "this token has been used 2 of 2 times; ask for a new one: atoll token create");
}

/* A registration that cannot be stored is none. */
static void test_store_failure(void **state) {
    (void)state;
    assert_int_equal(mkdir(list_path, 0700), 0); /* rename over a directory fails, also for root */
    assert_false(register_at(5, "a", NOW_S));
    assert_int_equal(refusal.code, REFUSE_STARTED);
    assert_non_null(strstr(refusal.text, "the outer cannot store its list of workers now (cannot rename to "));
    assert_int_equal(role_of(5), PEER_ROLE_NONE);
    assert_int_equal(rmdir(list_path), 0);
    assert_true(register_at(5, "a", NOW_S));
    assert_int_equal(certificate.slot, 0);
}

static void test_bad_lists_are_refused(void **state) {
    (void)state;
#define KEY5 "0505050505050505050505050505050505050505050505050505050505050505"
#define KEY6 "0606060606060606060606060606060606060606060606060606060606060606"
#define ROW(slot, name, key)                                                                                           \
    "{\"slot\": " slot ", \"name\": \"" name "\", \"key\": \"" key "\", \"token\": \"0011223344556677\"}"
#define LIST(rows) "{\"schema\": 1, \"workers\": [" rows "]}"
    static const struct {
        const char *text, *expected;
        enum status status;
    } rows[] = {
        {"", ":1:0: '[' or '{' expected near end of file: restore the file", STATUS_DATA},
        {"{\"schema\": 2, \"workers\": []}", "worker 0: expected {\"schema\": 1, \"workers\": [...]}", STATUS_DATA},
        {"{\"schema\": 1, \"workers\": [], \"x\": 1}", "worker 0: expected {", STATUS_DATA},
        {LIST(ROW("0", "a", KEY5) ", 7"), "worker 2: a worker has slot, name, key, token and nothing else",
         STATUS_DATA},
        {LIST(ROW("0", "a", KEY5) ", " ROW("0", "b", KEY6)), "worker 2: a slot is out of range or taken twice",
         STATUS_DATA},
        {LIST(ROW("-1", "a", KEY5)), "a slot is out of range", STATUS_DATA},
        {LIST(ROW("64", "a", KEY5)), "a slot is out of range", STATUS_DATA},
        {LIST(ROW("0", "a", KEY5) ", " ROW("1", "a", KEY6)), "a name is empty, too long", STATUS_DATA},
        {LIST(ROW("0", "a b", KEY5)), "a name is empty, too long", STATUS_DATA},
        {LIST(ROW("0", "a", KEY5) ", " ROW("1", "b", KEY5)), "a key is not 64 hex digits, listed twice", STATUS_DATA},
        {LIST(ROW("0", "a", "05")), "a key is not 64 hex digits", STATUS_DATA},
        {LIST(ROW("3", "a", KEY5)), "slot 3 of a does not fit a run of 3 workers: expected workers > 3", STATUS_CONFIG},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        FILE *file = fopen(list_path, "w");
        fputs(rows[i].text, file);
        fclose(file);
        struct admission *other = NULL;
        assert_int_equal(admission_open(directory, &keys, 3, &other, &error), rows[i].status);
        if (!strstr(error.text, rows[i].expected) || !strstr(error.text, list_path))
            fail_msg("row %zu: %s", i, error.text);
        assert_null(other);
    }
}

int main(void) {
    keys_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_roles, setup, teardown),
        cmocka_unit_test_setup_teardown(test_certificate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_uses_and_registering_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expiry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names_are_unique, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list_survives_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_store_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_lists_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
