/* admission: roles, registration, recovery, revocation, their refusals, and the list on disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
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
static struct curve_pair enrolment, recovery;
static struct certificate certificate;
static struct message_refuse refusal;
static const uint8_t run_id[MESSAGE_HASH_BYTES] = {9, 8, 7};

static void open_list(void) {
    assert_int_equal(admission_open(directory, &keys, &admission, &error), STATUS_OK);
    admission_set_run_id(admission, run_id);
}

static int setup(void **state) {
    (void)state;
    strcpy(directory, "/tmp/atoll-admission-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(list_path, sizeof list_path, "%s/keys/workers.json", directory);
    assert_int_equal(keys_open(directory, &keys, &error), STATUS_OK);
    open_list();
    token = (struct token){.expires_s = NOW_S + 60, .uses = 2};
    token_make_secret(&token);
    token.id[0] = 0x10;
    keys_enrolment_pair(token.secret, &enrolment);
    keys_recovery_pair(keys.recovery_secret, &recovery);
    assert_int_equal(admission_add_token(admission, &token, NOW_S, &error), STATUS_OK);
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
    return admission_register(admission, enrolment.public_key, &request, 0, wall_s, &certificate, &refusal);
}

static uint32_t slot_when_named(uint8_t key, uint64_t named_mask) {
    struct message_register request = a_request(key, "a");
    assert_true(
        admission_register(admission, enrolment.public_key, &request, named_mask, NOW_S, &certificate, &refusal));
    return certificate.slot;
}

static void expect_refusal(bool admitted, enum refuse_code code, const char *text) {
    assert_false(admitted);
    assert_string_equal(refusal.text, text);
    assert_int_equal(refusal.code, code);
}

/* The list cannot be stored from here on: a rename over a directory fails, also for root. */
static void block_the_list(void) {
    assert_true(unlink(list_path) == 0 || access(list_path, F_OK) != 0);
    assert_int_equal(mkdir(list_path, 0700), 0);
}

static void free_the_list(void) {
    assert_int_equal(rmdir(list_path), 0);
}

static void restart(void) {
    admission_close(admission);
    open_list();
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
    assert_int_equal(admission_role(admission, recovery.public_key), PEER_ROLE_RECOVER);
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

/* Slots that commits name are another's, unless this list gave them itself and they are free again. */
static void test_slots_of_a_lost_list(void **state) {
    (void)state;
    struct admission_worker worker;
    token.uses = 2 * MESSAGE_WORKERS_MAX;
    assert_int_equal(admission_add_token(admission, &token, NOW_S, &error), STATUS_OK);
    assert_int_equal(slot_when_named(5, 0x5), 1); /* 0 and 2 are named */
    assert_int_equal(slot_when_named(6, 0x5), 3);
    assert_int_equal(slot_when_named(5, 0xff), 1); /* again: its own */
    assert_int_equal(admission_revoke(admission, "1", &worker, &error), STATUS_OK);
    assert_int_equal(slot_when_named(7, 0xf), 1); /* named, but given and freed here */
    for (uint8_t key = 8; key < 8 + MESSAGE_WORKERS_MAX - 4; key++)
        assert_int_equal(slot_when_named(key, 0x5), key - 4);
    assert_int_equal(slot_when_named(100, 0x5), 0); /* no other is left */
    assert_int_equal(slot_when_named(101, UINT64_MAX), 2);
    expect_refusal(register_at(102, "c", NOW_S), REFUSE_FULL,
                   "all 64 places of this run are taken; to free one: atoll drain WORKER DIR --revoke");
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
    token.uses = 99;
    assert_int_equal(admission_add_token(admission, &token, NOW_S, &error),
                     STATUS_OK); /* the newest row of a secret holds */
    for (uint8_t key = 5; key < 5 + MESSAGE_WORKERS_MAX; key++)
        assert_true(register_at(key, "", NOW_S));
    assert_string_equal(certificate.name, "worker-63");
    expect_refusal(register_at(100, "d", NOW_S), REFUSE_FULL,
                   "all 64 places of this run are taken; to free one: atoll drain WORKER DIR --revoke");
}

static void test_names_are_unique(void **state) {
    (void)state;
    token.uses = 4;
    assert_int_equal(admission_add_token(admission, &token, NOW_S, &error), STATUS_OK);
    char longest[MESSAGE_NAME_BYTES];
    memset(longest, 'n', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_true(register_at(5, longest, NOW_S));
    assert_string_equal(certificate.name, longest);
    assert_true(register_at(6, longest, NOW_S));
    assert_string_equal(certificate.name, "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn-2");
    assert_true(register_at(7, "no spaces\n", NOW_S));
    assert_string_equal(certificate.name, "worker-2");
    assert_true(register_at(8, "7", NOW_S)); /* digits alone would name a slot */
    assert_string_equal(certificate.name, "worker-7");
}

static void test_other_refusals(void **state) {
    (void)state;
    struct message_register request = a_request(5, "a");
    request.protocol_version = 1;
    expect_refusal(admission_register(admission, enrolment.public_key, &request, 0, NOW_S, &certificate, &refusal),
                   REFUSE_VERSION, "this worker speaks protocol 1, the outer speaks 3: use the same atoll on both");
    request = a_request(5, "a");
    request.token_id[0] ^= 1;
    const char *unknown =
        "this outer does not know this token (revoked, or of another run); ask for a new one: atoll token create";
    expect_refusal(admission_register(admission, enrolment.public_key, &request, 0, NOW_S, &certificate, &refusal),
                   REFUSE_TOKEN_UNKNOWN, unknown);
    request = a_request(5, "a");
    expect_refusal(admission_register(admission, keys.curve.public_key, &request, 0, NOW_S, &certificate, &refusal),
                   REFUSE_TOKEN_UNKNOWN, unknown);
    const char *stolen =
        "this key is the outer's own or a token's, not a worker's: remove the worker's keys/seed so that it "
        "makes its own";
    expect_refusal(register_at(0, "a", NOW_S), REFUSE_DUPLICATE, stolen);
    const uint8_t *taken[] = {keys.curve.public_key, enrolment.public_key, recovery.public_key};
    for (int i = 0; i < 3; i++) {
        memcpy(request.worker_key, taken[i], KEYS_CURVE_BYTES);
        expect_refusal(admission_register(admission, enrolment.public_key, &request, 0, NOW_S, &certificate, &refusal),
                       REFUSE_DUPLICATE, stolen);
    }
    restart();
    assert_int_equal(role_of(0), PEER_ROLE_NONE);
    assert_int_equal(role_of(5), PEER_ROLE_NONE);
}

/* A restarted outer knows its workers, and how often a token was used. */
static void test_list_survives_a_restart(void **state) {
    (void)state;
    assert_true(register_at(5, "a", NOW_S));
    assert_true(register_at(6, "b\"\\", NOW_S));
    struct stat facts;
    assert_int_equal(stat(list_path, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    restart();
    assert_int_equal(role_of(5), PEER_ROLE_WORKER);
    assert_int_equal(role_of(6), PEER_ROLE_WORKER);
    assert_int_equal(admission_role(admission, enrolment.public_key), PEER_ROLE_ENROL);
    assert_true(register_at(6, "x", NOW_S));
    assert_int_equal(certificate.slot, 1);
    assert_string_equal(certificate.name, "b\"\\");
    expect_refusal(register_at(7, "c", NOW_S), REFUSE_TOKEN_USED,
                   "this token has been used 2 of 2 times; ask for a new one: atoll token create");
}

/* A registration that cannot be stored is none. */
static void test_store_failure(void **state) {
    (void)state;
    block_the_list();
    assert_false(register_at(5, "a", NOW_S));
    assert_int_equal(refusal.code, REFUSE_FULL);
    assert_non_null(strstr(refusal.text, "the outer cannot store its list of workers now (cannot rename to "));
    assert_int_equal(role_of(5), PEER_ROLE_NONE);
    free_the_list();
    assert_true(register_at(5, "a", NOW_S));
    assert_int_equal(certificate.slot, 0);
}

/* ---- RECOVER ---- */

static void *no_memory(size_t bytes) {
    (void)bytes;
    return NULL;
}

static void test_a_store_without_memory(void **state) {
    (void)state;
    json_set_alloc_funcs(no_memory, free);
    bool admitted = register_at(5, "a", NOW_S);
    json_set_alloc_funcs(malloc, free);
    char text[256];
    snprintf(text, sizeof text,
             "the outer cannot store its list of workers now (no memory to write %s); try again later", list_path);
    expect_refusal(admitted, REFUSE_FULL, text);
    assert_true(register_at(5, "a", NOW_S));
}

static bool recover_with(const struct certificate *shown) {
    struct message_recover request = {.protocol_version = MESSAGE_PROTOCOL_VERSION, .certificate = *shown};
    return admission_recover(admission, &request, &certificate, &refusal);
}

/* An outer that has lost all but its seed. */
static void lose_the_list(void) {
    admission_close(admission);
    assert_int_equal(unlink(list_path), 0);
    open_list();
    assert_int_equal(role_of(5), PEER_ROLE_NONE);
}

static void test_recovery(void **state) {
    (void)state;
    assert_true(register_at(5, "a", NOW_S));
    assert_true(register_at(6, "b", NOW_S));
    const struct certificate of_b = certificate;
    lose_the_list();
    assert_int_equal(admission_role(admission, recovery.public_key), PEER_ROLE_RECOVER);
    memset(&certificate, 0, sizeof certificate);
    assert_true(recover_with(&of_b));
    assert_memory_equal(&certificate, &of_b, sizeof of_b); /* slot 1, although 0 is free */
    assert_int_equal(role_of(6), PEER_ROLE_WORKER);
    restart();
    assert_int_equal(role_of(6), PEER_ROLE_WORKER);
    assert_true(recover_with(&of_b)); /* again: free */
    assert_memory_equal(&certificate, &of_b, sizeof of_b);
    assert_int_equal(admission_add_token(admission, &token, NOW_S, &error), STATUS_OK);
    assert_true(register_at(7, "b", NOW_S)); /* a new worker takes a place and a name that are free */
    assert_int_equal(certificate.slot, 0);
    assert_string_equal(certificate.name, "b-2");
    assert_true(register_at(8, "c", NOW_S)); /* the token's two uses: a recovered worker took none */
    assert_int_equal(certificate.slot, 2);
}

/* A row that is listed wins over the certificate: the worker came by a token meanwhile. */
static void test_recovery_of_a_worker_with_another_slot(void **state) {
    (void)state;
    assert_true(register_at(5, "a", NOW_S));
    assert_true(register_at(6, "b", NOW_S));
    const struct certificate of_b = certificate;
    lose_the_list();
    assert_int_equal(admission_add_token(admission, &token, NOW_S, &error), STATUS_OK);
    assert_true(register_at(6, "b", NOW_S));
    assert_int_equal(certificate.slot, 0);
    assert_true(recover_with(&of_b));
    assert_int_equal(certificate.slot, 0);
    assert_int_equal(certificate_verify(&certificate, keys.sign_key, &error), STATUS_OK);
}

static void test_recovery_refusals(void **state) {
    (void)state;
    assert_true(register_at(5, "a", NOW_S));
    struct certificate of_a = certificate, wrong;
    lose_the_list();
    const char *not_signed =
        "this outer did not sign this certificate: register with a token: atoll worker --join TOKEN";
    wrong = of_a;
    wrong.slot = 1;
    expect_refusal(recover_with(&wrong), REFUSE_TOKEN_UNKNOWN, not_signed);
    wrong = of_a;
    wrong.worker_key[0] ^= 1;
    expect_refusal(recover_with(&wrong), REFUSE_TOKEN_UNKNOWN, not_signed);
    wrong = of_a;
    strcpy(wrong.name, "b");
    expect_refusal(recover_with(&wrong), REFUSE_TOKEN_UNKNOWN, not_signed);
    wrong = of_a;
    wrong.slot = MESSAGE_WORKERS_MAX;
    certificate_sign(&wrong, keys.sign_secret);
    expect_refusal(recover_with(&wrong), REFUSE_TOKEN_UNKNOWN, not_signed);
    wrong = of_a;
    wrong.run_id[0] ^= 1;
    certificate_sign(&wrong, keys.sign_secret);
    expect_refusal(recover_with(&wrong), REFUSE_RUN,
                   "this outer leads run 0908070000000000, the certificate is of run 0808070000000000: use another "
                   "--dir");
    struct message_recover request = {.protocol_version = 1, .certificate = of_a};
    expect_refusal(admission_recover(admission, &request, &certificate, &refusal), REFUSE_VERSION,
                   "this worker speaks protocol 1, the outer speaks 3: use the same atoll on both");
    wrong = of_a;
    memcpy(wrong.worker_key, recovery.public_key, sizeof wrong.worker_key);
    certificate_sign(&wrong, keys.sign_secret);
    expect_refusal(recover_with(&wrong), REFUSE_DUPLICATE,
                   "this key is the outer's own or a token's, not a worker's: remove the worker's keys/seed so that it "
                   "makes its own");
    assert_int_equal(admission_add_token(admission, &token, NOW_S, &error), STATUS_OK);
    assert_true(register_at(6, "usurper", NOW_S));
    expect_refusal(recover_with(&of_a), REFUSE_DUPLICATE,
                   "slot 0 of this certificate is held by another worker (usurper): register with a token: atoll "
                   "worker --join TOKEN");
    assert_int_equal(role_of(5), PEER_ROLE_NONE);
}

static void test_recovery_that_cannot_be_stored(void **state) {
    (void)state;
    assert_true(register_at(5, "a", NOW_S));
    const struct certificate of_a = certificate;
    lose_the_list();
    block_the_list();
    assert_false(recover_with(&of_a));
    assert_int_equal(refusal.code, REFUSE_FULL);
    assert_non_null(strstr(refusal.text, "the outer cannot store its list of workers now (cannot rename to "));
    assert_int_equal(role_of(5), PEER_ROLE_NONE);
    free_the_list();
    assert_true(recover_with(&of_a));
}

/* ---- revocation ---- */

static void test_select(void **state) {
    (void)state;
    struct admission_worker worker;
    assert_true(register_at(5, "a", NOW_S));
    assert_true(register_at(6, "b", NOW_S));
    const char *names[] = {"b", "1", "0606060606060606060606060606060606060606060606060606060606060606"};
    for (int i = 0; i < 3; i++) {
        memset(&worker, 0, sizeof worker);
        assert_int_equal(admission_select(admission, names[i], &worker, &error), STATUS_OK);
        assert_int_equal(worker.slot, 1);
        assert_string_equal(worker.name, "b");
        assert_int_equal(worker.key[0], 6);
        assert_false(worker.revoked);
    }
    assert_int_equal(admission_select(admission, "c", &worker, &error), STATUS_NOT_FOUND);
    assert_string_equal(error.text, "this run has no worker 'c': atoll status shows them");
    const char *slots[] = {"2", "4294967296"};
    for (int i = 0; i < 2; i++) {
        char text[128];
        snprintf(text, sizeof text, "this run has no worker in slot %s: atoll status shows them", slots[i]);
        assert_int_equal(admission_select(admission, slots[i], &worker, &error), STATUS_NOT_FOUND);
        assert_string_equal(error.text, text);
    }
    assert_int_equal(admission_select(admission, "", &worker, &error), STATUS_NOT_FOUND);
}

static void test_revocation(void **state) {
    (void)state;
    const char *revoked = "this worker's key was revoked: it may not come back to this run";
    token.uses = 9;
    assert_int_equal(admission_add_token(admission, &token, NOW_S, &error), STATUS_OK);
    struct admission_worker worker;
    uint32_t slot;
    char name[MESSAGE_NAME_BYTES];
    uint8_t key[KEYS_CURVE_BYTES];
    memset(key, 5, sizeof key);
    assert_true(register_at(5, "a", NOW_S));
    const struct certificate of_a = certificate;
    assert_true(register_at(6, "b", NOW_S));
    assert_int_equal(admission_revoke(admission, "a", &worker, &error), STATUS_OK);
    assert_int_equal(worker.slot, 0);
    assert_true(worker.revoked);
    for (int pass = 0; pass < 2; pass++, restart()) { /* also after a restart */
        assert_int_equal(role_of(5), PEER_ROLE_NONE);
        assert_int_equal(role_of(6), PEER_ROLE_WORKER);
        assert_false(admission_find(admission, key, &slot, name));
        expect_refusal(register_at(5, "a", NOW_S), REFUSE_REVOKED, revoked);
        expect_refusal(recover_with(&of_a), REFUSE_REVOKED, revoked);
        assert_int_equal(admission_select(admission, "a", &worker, &error), STATUS_NOT_FOUND);
        assert_int_equal(admission_revoke(admission, "0", &worker, &error), STATUS_NOT_FOUND);
    }
    assert_true(register_at(7, "a", NOW_S)); /* its place and its name are free */
    assert_int_equal(certificate.slot, 0);
    assert_string_equal(certificate.name, "a");
    assert_int_equal(admission_select(admission, "0", &worker, &error), STATUS_OK);
    assert_int_equal(worker.key[0], 7);
    const char *hex = "0505050505050505050505050505050505050505050505050505050505050505";
    assert_int_equal(admission_revoke(admission, hex, &worker, &error), STATUS_OK); /* twice: free */
    assert_int_equal(worker.key[0], 5);
    assert_true(worker.revoked);
    restart(); /* two rows of slot 0 and name a: one is revoked */
    assert_int_equal(role_of(7), PEER_ROLE_WORKER);
    assert_int_equal(role_of(5), PEER_ROLE_NONE);
}

static void test_revocation_that_cannot_be_stored(void **state) {
    (void)state;
    struct admission_worker worker;
    assert_true(register_at(5, "a", NOW_S));
    block_the_list();
    assert_int_equal(admission_revoke(admission, "a", &worker, &error), STATUS_IO);
    assert_int_equal(role_of(5), PEER_ROLE_WORKER);
    free_the_list();
    assert_int_equal(admission_revoke(admission, "a", &worker, &error), STATUS_OK);
    assert_int_equal(role_of(5), PEER_ROLE_NONE);
}

/* ---- tokens ---- */

static struct token another_token(uint8_t first_byte, uint64_t expires_s) {
    struct token made = {.expires_s = expires_s, .uses = 3};
    token_make_secret(&made);
    made.id[0] = first_byte;
    return made;
}

static void id_text(const struct token *of, char text[2 * MESSAGE_TOKEN_ID_BYTES + 1]) {
    for (int i = 0; i < MESSAGE_TOKEN_ID_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02X", of->id[i]); /* either case is understood */
}

static void test_tokens_are_listed(void **state) {
    (void)state;
    struct admission_token tokens[ADMISSION_TOKENS_MAX];
    struct token second = another_token((uint8_t)~token.id[0], UINT64_MAX);
    assert_int_equal(admission_add_token(admission, &second, NOW_S, &error), STATUS_OK);
    assert_true(register_at(5, "a", NOW_S));
    for (int pass = 0; pass < 2; pass++, restart()) {
        assert_int_equal(admission_list_tokens(admission, tokens), 2);
        assert_memory_equal(tokens[0].id, token.id, sizeof token.id);
        assert_int_equal(tokens[0].expires_s, NOW_S + 60);
        assert_int_equal(tokens[0].uses, 2);
        assert_int_equal(tokens[0].used, 1);
        assert_false(tokens[0].revoked);
        assert_memory_equal(tokens[1].id, second.id, sizeof second.id);
        assert_int_equal(tokens[1].expires_s, INT64_MAX); /* what JSON can hold */
        assert_int_equal(tokens[1].used, 0);
    }
}

static void test_token_revocation(void **state) {
    (void)state;
    char id[2 * MESSAGE_TOKEN_ID_BYTES + 1];
    struct admission_token revoked;
    assert_true(register_at(5, "a", NOW_S));
    id_text(&token, id);
    assert_int_equal(admission_revoke_token(admission, id, &revoked, &error), STATUS_OK);
    assert_true(revoked.revoked);
    assert_int_equal(revoked.used, 1);
    for (int pass = 0; pass < 2; pass++, restart()) {
        assert_int_equal(admission_role(admission, enrolment.public_key), PEER_ROLE_ENROL); /* let in, to be told */
        expect_refusal(register_at(6, "b", NOW_S), REFUSE_TOKEN_UNKNOWN,
                       "this token was revoked; ask for a new one: atoll token create");
        assert_true(register_at(5, "a", NOW_S)); /* who is in stays in */
        assert_int_equal(admission_revoke_token(admission, id, &revoked, &error), STATUS_OK);
        assert_int_equal(admission_add_token(admission, &token, NOW_S, &error), STATUS_OK); /* stays revoked */
    }
}

static void test_token_ids(void **state) {
    (void)state;
    struct admission_token revoked;
    struct token first = another_token(0xa1, NOW_S + 60), second = another_token(0xa2, NOW_S + 60);
    assert_int_equal(admission_add_token(admission, &first, NOW_S, &error), STATUS_OK);
    assert_int_equal(admission_add_token(admission, &second, NOW_S, &error), STATUS_OK);
    assert_int_equal(admission_revoke_token(admission, "a", &revoked, &error), STATUS_USAGE);
    assert_string_equal(error.text, "the ids of 2 tokens begin with a: give more digits");
    assert_int_equal(admission_revoke_token(admission, "a1a2a3a4a5a6a7a8", &revoked, &error), STATUS_NOT_FOUND);
    assert_string_equal(error.text, "no token's id begins with a1a2a3a4a5a6a7a8: atoll token list DIR shows them");
    const char *junk[] = {"", "xyz", "00112233445566778"};
    for (int i = 0; i < 3; i++) {
        char text[256];
        snprintf(text, sizeof text,
                 "'%s' is not the begin of a token's id (1 to 16 hex digits): atoll token list DIR shows them",
                 junk[i]);
        assert_int_equal(admission_revoke_token(admission, junk[i], &revoked, &error), STATUS_USAGE);
        assert_string_equal(error.text, text);
    }
    assert_int_equal(admission_revoke_token(admission, "A2", &revoked, &error), STATUS_OK);
    assert_memory_equal(revoked.id, second.id, sizeof second.id);
}

static void test_tokens_that_cannot_be_stored(void **state) {
    (void)state;
    char id[2 * MESSAGE_TOKEN_ID_BYTES + 1];
    struct admission_token tokens[ADMISSION_TOKENS_MAX];
    struct token second = another_token(1, NOW_S + 60);
    id_text(&token, id);
    block_the_list();
    assert_int_equal(admission_add_token(admission, &second, NOW_S, &error), STATUS_IO);
    assert_int_equal(admission_revoke_token(admission, id, &tokens[0], &error), STATUS_IO);
    assert_int_equal(admission_list_tokens(admission, tokens), 1);
    assert_false(tokens[0].revoked);
    token.uses = 99;
    assert_int_equal(admission_add_token(admission, &token, NOW_S, &error), STATUS_IO);
    assert_int_equal(admission_list_tokens(admission, tokens), 1);
    assert_int_equal(tokens[0].uses, 2);
    free_the_list();
}

/* A full table: what admits nobody any more makes room, what does is never thrown out. */
static void test_many_tokens(void **state) {
    (void)state;
    struct admission_token tokens[ADMISSION_TOKENS_MAX];
    for (int i = 1; i < ADMISSION_TOKENS_MAX; i++) {
        struct token more = another_token((uint8_t)i, NOW_S + 600);
        assert_int_equal(admission_add_token(admission, &more, NOW_S, &error), STATUS_OK);
    }
    struct token last = another_token(0, NOW_S + 600);
    assert_int_equal(admission_add_token(admission, &last, NOW_S, &error), STATUS_USAGE);
    assert_string_equal(error.text,
                        "the outer holds 256 tokens that can still be used: revoke some: atoll token revoke ID DIR");
    assert_int_equal(admission_list_tokens(admission, tokens), ADMISSION_TOKENS_MAX);
    const struct admission_token second = tokens[1];
    assert_int_equal(admission_add_token(admission, &last, NOW_S + 60, &error), STATUS_OK); /* the first has expired */
    restart();
    assert_int_equal(admission_list_tokens(admission, tokens), ADMISSION_TOKENS_MAX);
    assert_memory_equal(tokens[0].id, second.id, sizeof second.id);
    assert_memory_equal(tokens[ADMISSION_TOKENS_MAX - 1].id, last.id, sizeof last.id);
    assert_int_equal(admission_role(admission, enrolment.public_key), PEER_ROLE_NONE);
}

static void test_bad_lists_are_refused(void **state) {
    (void)state;
#define KEY5 "0505050505050505050505050505050505050505050505050505050505050505"
#define KEY6 "0606060606060606060606060606060606060606060606060606060606060606"
#define ROW(slot, name, key, revoked)                                                                                  \
    "{\"slot\": " slot ", \"name\": \"" name "\", \"key\": \"" key                                                     \
    "\", \"token\": \"0011223344556677\", \"revoked\": " revoked "}"
#define TOKEN(id, key, expires, uses)                                                                                  \
    "{\"id\": \"" id "\", \"key\": \"" key "\", \"expires_s\": " expires ", \"uses\": " uses ", \"revoked\": false}"
#define LIST(rows, tokens) "{\"schema\": 2, \"workers\": [" rows "], \"tokens\": [" tokens "]}"
#define ID                 "0011223344556677"
    static const struct {
        const char *text, *expected;
        enum status status;
    } rows[] = {
        {"", ":1:0: '[' or '{' expected near end of file: restore the file", STATUS_DATA},
        {"{\"schema\": 1, \"workers\": []}",
         " has schema 1, this atoll knows 2: use the version of atoll that wrote it, or start another run",
         STATUS_CONFIG},
        {"[]", ": expected {\"schema\": 2, \"workers\": [...], \"tokens\": [...]}: restore", STATUS_DATA},
        {"{\"schema\": 2, \"workers\": []}", ": expected {", STATUS_DATA},
        {"{\"schema\": 2, \"workers\": [], \"tokens\": {}}", ": expected {", STATUS_DATA},
        {"{\"schema\": 2, \"workers\": [], \"tokens\": [], \"x\": 1}", ": expected {", STATUS_DATA},
        {LIST(ROW("0", "a", KEY5, "false") ", 7", ""),
         "worker 1: a worker has slot, name, key, token, revoked and nothing else: restore", STATUS_DATA},
        {LIST(ROW("0", "a", KEY5, "0"), ""), "worker 0: a worker has slot", STATUS_DATA},
        {LIST(ROW("0", "a", KEY5, "false") ", " ROW("0", "b", KEY6, "false"), ""),
         "worker 1: a slot is out of range or taken twice", STATUS_DATA},
        {LIST(ROW("-1", "a", KEY5, "false"), ""), "a slot is out of range", STATUS_DATA},
        {LIST(ROW("64", "a", KEY5, "true"), ""), "a slot is out of range", STATUS_DATA},
        {LIST(ROW("0", "a", KEY5, "false") ", " ROW("1", "a", KEY6, "false"), ""), "a name is empty, too long",
         STATUS_DATA},
        {LIST(ROW("0", "a b", KEY5, "true"), ""), "a name is empty, too long", STATUS_DATA},
        {LIST(ROW("0", "a", KEY5, "true") ", " ROW("1", "b", KEY5, "false"), ""),
         "a key is not 64 hex digits, listed twice", STATUS_DATA},
        {LIST(ROW("0", "a", "05", "false"), ""), "a key is not 64 hex digits", STATUS_DATA},
        {LIST("", TOKEN(ID, KEY5, "1", "1") ", 7"),
         "token 1: a token has id, key, expires_s, uses, revoked and nothing else", STATUS_DATA},
        {LIST("", TOKEN(ID, KEY5, "-1", "1")), "token 0: an expiry or a number of uses is out of range", STATUS_DATA},
        {LIST("", TOKEN(ID, KEY5, "1", "4294967296")), "token 0: an expiry or a number of uses", STATUS_DATA},
        {LIST("", TOKEN("00", KEY5, "1", "1")), "token 0: an id is not 16 hex digits", STATUS_DATA},
        {LIST("", TOKEN(ID, "05", "1", "1")), "token 0: a key is not 64 hex digits", STATUS_DATA},
        {LIST("", TOKEN(ID, KEY5, "1", "1") ", " TOKEN(ID, KEY5, "1", "1")), "token 1: a key is not", STATUS_DATA},
        {LIST(ROW("0", "a", KEY5, "true"), TOKEN(ID, KEY5, "1", "1")), "token 0: a key is not", STATUS_DATA},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        FILE *file = fopen(list_path, "w");
        fputs(rows[i].text, file);
        fclose(file);
        struct admission *other = NULL;
        assert_int_equal(admission_open(directory, &keys, &other, &error), rows[i].status);
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
        cmocka_unit_test_setup_teardown(test_slots_of_a_lost_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expiry, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names_are_unique, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list_survives_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_store_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_store_without_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recovery, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recovery_of_a_worker_with_another_slot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recovery_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recovery_that_cannot_be_stored, setup, teardown),
        cmocka_unit_test_setup_teardown(test_select, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revocation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revocation_that_cannot_be_stored, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tokens_are_listed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_token_revocation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_token_ids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tokens_that_cannot_be_stored, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_tokens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_lists_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
