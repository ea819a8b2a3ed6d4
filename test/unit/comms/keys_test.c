/* keys: the seed file and what derives from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>
#include "base/bytes.h"
#include "comms/keys.h"

static char directory[64];
static char seed_path[128];
static struct error error;

static int make_directory(void **state) {
    (void)state;
    strcpy(directory, "/tmp/atoll-keys-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(seed_path, sizeof seed_path, "%s/keys/seed", directory);
    return 0;
}

static int remove_directory(void **state) {
    (void)state;
    char path[128];
    unlink(seed_path);
    snprintf(path, sizeof path, "%s/keys", directory);
    assert_int_equal(rmdir(path), 0); /* nothing but the seed was left there */
    return rmdir(directory);
}

static void write_seed_file(const void *bytes, size_t count, mode_t mode) {
    char path[128];
    snprintf(path, sizeof path, "%s/keys", directory);
    mkdir(path, 0700);
    int file = open(seed_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(file, bytes, count), (ssize_t)count);
    assert_int_equal(fchmod(file, mode), 0);
    close(file);
}

static void test_made_once_then_read(void **state) {
    (void)state;
    struct node_keys first, again;
    umask(0); /* the mode must not depend on it */
    assert_int_equal(keys_open(directory, &first, &error), STATUS_OK);
    assert_true(first.created);
    struct stat facts;
    assert_int_equal(stat(seed_path, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    assert_int_equal(facts.st_size, KEYS_SEED_BYTES);
    assert_int_equal(facts.st_nlink, 1);
    char folder[128];
    snprintf(folder, sizeof folder, "%s/keys", directory);
    assert_int_equal(stat(folder, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0700);
    assert_int_equal(keys_open(directory, &again, &error), STATUS_OK);
    assert_false(again.created);
    again.created = true;
    assert_memory_equal(&first, &again, sizeof first);
    keys_wipe(&first);
    assert_true(sodium_is_zero((const unsigned char *)&first, sizeof first));
}

/* The identity of every node hangs on this: a change of derivation would lock all workers out. The numbers were made in Python without
 * libsodium: k = hashlib.blake2b(digest_size=32, key=seed, salt=LE64(1) + 8 zeros, person=context + 8 zeros); CURVE, enrolment and
 * recovery: x25519(sha512(k)[:32], 9); sign: the Ed25519 public key of k; the recovery secret: k, the seed of the recovery pair. */
static void test_derivation_is_pinned(void **state) {
    (void)state;
    uint8_t seed[KEYS_SEED_BYTES];
    for (int i = 0; i < KEYS_SEED_BYTES; i++)
        seed[i] = (uint8_t)i;
    write_seed_file(seed, sizeof seed, 0600);
    struct node_keys keys;
    assert_int_equal(keys_open(directory, &keys, &error), STATUS_OK);
    struct curve_pair enrolment, recovery;
    keys_enrolment_pair(seed, &enrolment);
    keys_recovery_pair(keys.recovery_secret, &recovery);
    char text[5][65];
    bytes_to_hex(keys.curve.public_key, 32, text[0]);
    bytes_to_hex(keys.sign_key, 32, text[1]);
    bytes_to_hex(enrolment.public_key, 32, text[2]);
    bytes_to_hex(keys.recovery_secret, 32, text[3]);
    bytes_to_hex(recovery.public_key, 32, text[4]);
    assert_string_equal(text[0], "d38ad0595c7f9a44444be511135696bf5451a404624f8ce77c7f4c71929b7a56");
    assert_string_equal(text[1], "ef9f7ac41f02e335b5a061e5fe4c71a2bd177e02340c682a029406ee33ecb905");
    assert_string_equal(text[2], "718958fa692205c08a2106c43466920424317ea7ad590e1ab142d9a88c4d7b66");
    assert_string_equal(text[3], "48df7c0f918bf63ec89f5cb59d3380bfd036b2aa1cb3b452c7492ad561f75d8f");
    assert_string_equal(text[4], "aef82685375af946fb96e92ed50d0738069786a830e97021565642cc9e150912");
}

static void test_curve_pair_is_zmqs(void **state) {
    (void)state;
    struct node_keys keys;
    assert_int_equal(keys_open(directory, &keys, &error), STATUS_OK);
    char secret[41], public[41], expected[41];
    assert_non_null(zmq_z85_encode(secret, keys.curve.secret_key, 32));
    assert_non_null(zmq_z85_encode(expected, keys.curve.public_key, 32));
    assert_int_equal(zmq_curve_public(public, secret), 0);
    assert_string_equal(public, expected);
    uint8_t signature[crypto_sign_BYTES];
    assert_int_equal(crypto_sign_detached(signature, NULL, (const uint8_t *)"x", 1, keys.sign_secret), 0);
    assert_int_equal(crypto_sign_verify_detached(signature, (const uint8_t *)"x", 1, keys.sign_key), 0);
}

static void expect_refused(const char *format) {
    struct node_keys keys;
    char text[512];
    snprintf(text, sizeof text, format, seed_path, seed_path);
    assert_int_equal(keys_open(directory, &keys, &error), STATUS_CONFIG);
    assert_string_equal(error.text, text);
}

static void test_readable_by_others_is_refused(void **state) {
    (void)state;
    uint8_t seed[KEYS_SEED_BYTES] = {1};
    write_seed_file(seed, sizeof seed, 0640);
    expect_refused(
        "the seed %s has mode 0640, so that others can read this node's secret: chmod 600 %s, or remove it to get "
        "a new identity if somebody may have copied it");
    write_seed_file(seed, sizeof seed, 0604);
    expect_refused(
        "the seed %s has mode 0604, so that others can read this node's secret: chmod 600 %s, or remove it to get "
        "a new identity if somebody may have copied it");
}

static void test_wrong_size_is_refused(void **state) {
    (void)state;
    uint8_t seed[KEYS_SEED_BYTES + 1] = {1};
    write_seed_file(seed, 31, 0600);
    expect_refused(
        "the seed %s holds 31 bytes, expected 32: restore it from a copy, or remove it to get a new identity (a "
        "worker then registers again, an outer starts another run)");
    write_seed_file(seed, 33, 0600);
    expect_refused(
        "the seed %s holds 33 bytes, expected 32: restore it from a copy, or remove it to get a new identity (a "
        "worker then registers again, an outer starts another run)");
}

static void test_unwritable_place(void **state) {
    (void)state;
    struct node_keys keys;
    assert_int_equal(keys_open("/dev/null", &keys, &error), STATUS_IO);
    assert_string_equal(error.text, "cannot open the seed /dev/null/keys/seed: Not a directory");
}

static void test_a_directory_is_one_nodes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        enum keys_node other;
        const char *text;
    } rows[] = {{"certificate.json", KEYS_NODE_OUTER,
                 "%s is a worker's directory (it holds %s), not an outer's: choose another --dir"},
                {"workers.json", KEYS_NODE_WORKER,
                 "%s is an outer's directory (it holds %s), not a worker's: choose another --dir"}};
    struct node_keys keys;
    char path[128], text[512];
    assert_int_equal(keys_check_node("/nowhere-at-all", KEYS_NODE_OUTER, &error), STATUS_OK);
    assert_int_equal(keys_open(directory, &keys, &error), STATUS_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(keys_check_node(directory, KEYS_NODE_OUTER, &error), STATUS_OK);
        assert_int_equal(keys_check_node(directory, KEYS_NODE_WORKER, &error), STATUS_OK);
        snprintf(path, sizeof path, "%s/keys/%s", directory, rows[i].name);
        assert_int_equal(close(open(path, O_WRONLY | O_CREAT, 0600)), 0);
        assert_int_equal(keys_check_node(directory, 1 - rows[i].other, &error), STATUS_OK);
        assert_int_equal(keys_check_node(directory, rows[i].other, &error), STATUS_CONFIG);
        snprintf(text, sizeof text, rows[i].text, directory, path);
        assert_string_equal(error.text, text);
        assert_int_equal(unlink(path), 0);
    }
}

int main(void) {
    keys_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_made_once_then_read, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(test_derivation_is_pinned, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(test_curve_pair_is_zmqs, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(test_readable_by_others_is_refused, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(test_wrong_size_is_refused, make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(test_a_directory_is_one_nodes, make_directory, remove_directory),
        cmocka_unit_test(test_unwritable_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
