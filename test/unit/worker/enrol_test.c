/* enrol: the ways into a run, against an outer on loopback that answers REGISTER and RECOVER as the daemon does; and the file that is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/files.h"
#include "comms/link.h"
#include "worker/enrol.h"

static char home[64], outer_dir[80], worker_dir[80], list_path[128], kept_path[128];
static struct node_keys outer_keys, worker_keys;
static struct admission *admission;
static struct token token;
static struct enrolment enrolment;
static struct error error;
static volatile int interrupted;
static const uint8_t run_id[MESSAGE_HASH_BYTES] = {9, 8, 7};

/* ---- the outer ---- */

static struct outer_link *outer;
static pthread_t outer_thread;
static atomic_bool outer_stops;
static struct node_keys answer_keys; /* whose sign key the outer answers with */
static uint8_t answer_run_id[MESSAGE_HASH_BYTES];
static atomic_uint registers, recovers;

static void answer(const struct link_event *event) {
    struct message reply = {.type = MESSAGE_ADMIT};
    struct message_refuse why = {0};
    struct message_admit *admit = &reply.body.admit;
    bool admitted;
    if (event->message.type == MESSAGE_REGISTER) {
        registers++;
        admitted = admission_register(admission, event->peer.key, &event->message.body.reg, 0, clock_wall_s(),
                                      &admit->certificate, &why);
    } else {
        recovers++;
        admitted = admission_recover(admission, &event->message.body.recover, &admit->certificate, &why);
    }
    memcpy(admit->certificate.run_id, answer_run_id, sizeof answer_run_id);
    certificate_sign(&admit->certificate, answer_keys.sign_secret);
    memcpy(admit->sign_key, answer_keys.sign_key, sizeof admit->sign_key);
    memcpy(admit->recovery_secret, outer_keys.recovery_secret, sizeof admit->recovery_secret);
    admit->up_bytes_per_s = 1250000;
    if (!admitted) {
        reply.type = MESSAGE_REFUSE;
        reply.body.refuse = why;
    }
    (void)!outer_link_send(outer, &event->peer, &reply);
}

static void *serve(void *argument) {
    struct link_event *event = argument;
    while (!outer_stops) {
        outer_link_receive(outer, 1000000, event);
        if (event->kind == LINK_EVENT_MESSAGE)
            answer(event);
    }
    free(event);
    return NULL;
}

/* At the token's ports, or at new ones which the token then names. */
static void open_outer(void) {
    struct outer_link_options options = {.host = "127.0.0.1",
                                         .control_port = token.addresses[0].control_port,
                                         .bulk_port = token.addresses[0].bulk_port,
                                         .keys = &outer_keys,
                                         .admission = admission};
    assert_int_equal(outer_link_open(&options, &outer, &error), STATUS_OK);
    outer_link_ports(outer, &token.addresses[0].control_port, &token.addresses[0].bulk_port);
    struct link_event *event = calloc(1, sizeof *event);
    outer_stops = false;
    assert_int_equal(pthread_create(&outer_thread, NULL, serve, event), 0);
}

static void close_outer(void) {
    outer_stops = true;
    outer_link_wake(outer);
    assert_int_equal(pthread_join(outer_thread, NULL), 0);
    outer_link_close(outer);
    outer = NULL;
}

static void make_token(void) {
    token_make_secret(&token);
    assert_int_equal(admission_add_token(admission, &token, clock_wall_s(), &error), STATUS_OK);
}

static void open_admission(void) {
    assert_int_equal(admission_open(outer_dir, &outer_keys, &admission, &error), STATUS_OK);
    admission_set_run_id(admission, run_id);
}

/* The outer comes back on other ports with nothing but its seed, and with a fresh token. */
static void lose_the_list(void) {
    close_outer();
    admission_close(admission);
    assert_int_equal(unlink(list_path), 0);
    open_admission();
    token.addresses[0].control_port = token.addresses[0].bulk_port = 0;
    make_token();
    open_outer();
}

static int setup(void **state) {
    (void)state;
    strcpy(home, "/tmp/atoll-enrol-XXXXXX");
    assert_non_null(mkdtemp(home));
    snprintf(outer_dir, sizeof outer_dir, "%s/outer", home);
    snprintf(worker_dir, sizeof worker_dir, "%s/worker", home);
    snprintf(list_path, sizeof list_path, "%s/keys/workers.json", outer_dir);
    snprintf(kept_path, sizeof kept_path, "%s/keys/certificate.json", worker_dir);
    assert_int_equal(keys_open(outer_dir, &outer_keys, &error), STATUS_OK);
    assert_int_equal(keys_open(worker_dir, &worker_keys, &error), STATUS_OK);
    answer_keys = outer_keys;
    memcpy(answer_run_id, run_id, sizeof run_id);
    open_admission();
    token = (struct token){.expires_s = UINT64_MAX, .uses = 4, .run_name = "novels", .address_count = 1};
    strcpy(token.addresses[0].host, "127.0.0.1");
    memcpy(token.outer_key, outer_keys.curve.public_key, sizeof token.outer_key);
    make_token();
    open_outer();
    registers = recovers = 0;
    interrupted = 0;
    memset(&enrolment, 0, sizeof enrolment);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    close_outer();
    admission_close(admission);
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", home);
    return system(command);
}

static enum status join(const char *name) {
    return enrol(&token, &worker_keys, worker_dir, name, &interrupted, &enrolment, &error);
}

static void expect_fine(enum status status) {
    if (status != STATUS_OK)
        fail_msg("%s", error.text);
}

/* Somebody else registers. */
static void register_other(uint8_t key) {
    struct curve_pair pair;
    struct message_register request = {.protocol_version = MESSAGE_PROTOCOL_VERSION, .name = "other"};
    struct certificate certificate;
    struct message_refuse refuse;
    keys_enrolment_pair(token.secret, &pair);
    memcpy(request.token_id, token.id, sizeof token.id);
    memset(request.worker_key, key, sizeof request.worker_key);
    assert_true(admission_register(admission, pair.public_key, &request, 0, 1, &certificate, &refuse));
}

static bool is_listed(void) {
    return admission_role(admission, worker_keys.curve.public_key) == PEER_ROLE_WORKER;
}

/* ---- the ways in ---- */

static void test_join_and_start_again(void **state) {
    (void)state;
    struct enrolment loaded = {0};
    assert_int_equal(enrol_load(worker_dir, &worker_keys, &loaded, &error), STATUS_NOT_FOUND);
    char text[256];
    snprintf(text, sizeof text,
             "%s has not been admitted to a run: start it with --join TOKEN, the line that `atoll outer` printed",
             worker_dir);
    assert_string_equal(error.text, text);
    register_other(5);
    expect_fine(join("island"));
    assert_int_equal(registers, 1);
    assert_true(is_listed());
    assert_int_equal(enrolment.admit.certificate.slot, 1);
    assert_string_equal(enrolment.admit.certificate.name, "island");
    assert_string_equal(enrolment.run_name, "novels");
    assert_int_equal(enrolment.admit.up_bytes_per_s, 1250000);
    assert_memory_equal(enrolment.outer_key, outer_keys.curve.public_key, KEYS_CURVE_BYTES);
    assert_memory_equal(enrolment.admit.recovery_secret, outer_keys.recovery_secret, MESSAGE_KEY_BYTES);
    struct stat facts;
    assert_int_equal(stat(kept_path, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    expect_fine(enrol_load(worker_dir, &worker_keys, &loaded, &error));
    assert_memory_equal(&loaded, &enrolment, sizeof loaded);
}

/* A token of the same run in an admitted directory: another address, no use of the token, whatever became of the list. */
static void test_join_again_at_another_address(void **state) {
    (void)state;
    register_other(5);
    expect_fine(join("island"));
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 0) {
            close_outer();
            token.addresses[0].control_port = token.addresses[0].bulk_port = 0;
            token.uses = 0;
            make_token();
            open_outer();
        } else {
            lose_the_list();
        }
        expect_fine(join("renamed"));
        assert_true(is_listed());
        assert_int_equal(registers, 1);
        assert_int_equal(recovers, 1 + pass);
        assert_int_equal(enrolment.admit.certificate.slot, 1);
        assert_string_equal(enrolment.admit.certificate.name, "island");
        struct enrolment loaded = {0};
        expect_fine(enrol_load(worker_dir, &worker_keys, &loaded, &error));
        assert_int_equal(loaded.addresses[0].control_port, token.addresses[0].control_port);
        assert_int_equal(loaded.addresses[0].bulk_port, token.addresses[0].bulk_port);
    }
}

static void test_recover(void **state) {
    (void)state;
    register_other(5);
    expect_fine(join("island"));
    lose_the_list();
    assert_false(is_listed());
    enrolment.addresses[0] = token.addresses[0];
    enrolment.admit.up_bytes_per_s = 1;
    expect_fine(enrol_recover(&worker_keys, worker_dir, &interrupted, &enrolment, &error));
    assert_true(is_listed());
    assert_int_equal(registers, 1);
    assert_int_equal(enrolment.admit.certificate.slot, 1);
    assert_string_equal(enrolment.admit.certificate.name, "island");
    assert_int_equal(enrolment.admit.up_bytes_per_s, 1250000);
    struct enrolment loaded = {0};
    expect_fine(enrol_load(worker_dir, &worker_keys, &loaded, &error));
    assert_memory_equal(&loaded, &enrolment, sizeof loaded);
}

static void test_revoked(void **state) {
    (void)state;
    struct admission_worker worker;
    const char *revoked = "this worker's key was revoked: it may not come back to this run";
    expect_fine(join("island"));
    assert_int_equal(admission_revoke(admission, "island", &worker, &error), STATUS_OK);
    assert_int_equal(enrol_recover(&worker_keys, worker_dir, &interrupted, &enrolment, &error), STATUS_REFUSED);
    assert_string_equal(error.text, revoked);
    assert_int_equal(join("island"), STATUS_REFUSED);
    assert_string_equal(error.text, revoked);
    assert_int_equal(registers, 1);
    assert_int_equal(unlink(kept_path), 0);
    assert_int_equal(join("island"), STATUS_REFUSED);
    assert_string_equal(error.text, revoked);
    assert_int_equal(registers, 2);
}

/* Somebody was faster: the certificate is worth nothing, a token gives another place. */
static void test_slot_of_another(void **state) {
    (void)state;
    expect_fine(join("island"));
    lose_the_list();
    register_other(5);
    enrolment.addresses[0] = token.addresses[0];
    assert_int_equal(enrol_recover(&worker_keys, worker_dir, &interrupted, &enrolment, &error), STATUS_REFUSED);
    assert_string_equal(error.text, "slot 0 of this certificate is held by another worker (other): register with a "
                                    "token: atoll worker --join TOKEN");
    assert_int_equal(enrolment.admit.certificate.slot, 0);
    expect_fine(join("island"));
    assert_int_equal(enrolment.admit.certificate.slot, 1);
    expect_fine(enrol_load(worker_dir, &worker_keys, &enrolment, &error));
    assert_int_equal(enrolment.admit.certificate.slot, 1);
}

/* The outer's disk is full: not now, but not for ever. */
static void test_outer_that_cannot_store(void **state) {
    (void)state;
    expect_fine(join("island"));
    lose_the_list();
    enrolment.addresses[0] = token.addresses[0];
    assert_int_equal(unlink(list_path), 0);
    assert_int_equal(mkdir(list_path, 0700), 0);
    assert_int_equal(enrol_recover(&worker_keys, worker_dir, &interrupted, &enrolment, &error), STATUS_AGAIN);
    assert_non_null(strstr(error.text, "the outer cannot store its list of workers now ("));
    assert_int_equal(rmdir(list_path), 0);
    expect_fine(enrol_recover(&worker_keys, worker_dir, &interrupted, &enrolment, &error));
}

/* This worker's disk is full: the certificate in memory is as good, and the file's stays so. */
static void test_worker_that_cannot_store(void **state) {
    (void)state;
    expect_fine(join("island"));
    lose_the_list();
    enrolment.addresses[0] = token.addresses[0];
    enrolment.admit.up_bytes_per_s = 1;
    assert_int_equal(unlink(kept_path), 0);
    assert_int_equal(mkdir(kept_path, 0700), 0);
    expect_fine(enrol_recover(&worker_keys, worker_dir, &interrupted, &enrolment, &error));
    assert_true(is_listed());
    assert_int_equal(enrolment.admit.up_bytes_per_s, 1250000);
    assert_int_equal(rmdir(kept_path), 0);
}

/* A recovery under way, to its end. */
static enum status turn_to_the_end(struct enrol_recovery *recovery) {
    enum status status = STATUS_OK;
    for (bool done = false; !done;) {
        status = enrol_recovery_turn(recovery, &done, &error);
        usleep(1000);
    }
    enrol_recovery_close(recovery);
    return status;
}

/* No turn waits for an outer: neither for one that is not there, nor for the answer of one that is. */
static void test_recover_in_turns(void **state) {
    (void)state;
    struct enrol_recovery *recovery;
    bool done = true;
    expect_fine(join("island"));
    lose_the_list();
    close_outer();
    enrolment.addresses[0] = token.addresses[0];
    enrolment.admit.up_bytes_per_s = 1;
    expect_fine(enrol_recovery_open(&worker_keys, worker_dir, &enrolment, &recovery, &error));
    for (int turn = 0; turn < 100; turn++) {
        expect_fine(enrol_recovery_turn(recovery, &done, &error));
        assert_false(done);
    }
    open_outer();
    expect_fine(turn_to_the_end(recovery));
    assert_true(is_listed());
    assert_int_equal(enrolment.admit.up_bytes_per_s, 1250000);
    struct enrolment loaded = {0};
    expect_fine(enrol_load(worker_dir, &worker_keys, &loaded, &error));
    assert_memory_equal(&loaded, &enrolment, sizeof loaded);

    struct admission_worker worker;
    assert_int_equal(admission_revoke(admission, "island", &worker, &error), STATUS_OK);
    expect_fine(enrol_recovery_open(&worker_keys, worker_dir, &enrolment, &recovery, &error));
    assert_int_equal(turn_to_the_end(recovery), STATUS_REFUSED);
    assert_string_equal(error.text, "this worker's key was revoked: it may not come back to this run");

    expect_fine(enrol_recovery_open(&worker_keys, worker_dir, &enrolment, &recovery, &error));
    enrol_recovery_close(recovery); /* in the middle */
}

static void test_interrupted(void **state) {
    (void)state;
    interrupted = 1;
    assert_int_equal(join("island"), STATUS_AGAIN);
    assert_string_equal(error.text, "interrupted before the outer answered");
    assert_int_equal(access(kept_path, F_OK), -1);
}

/* An outer that answers with what is not this run's is believed nothing, and nothing is kept. */
static void test_answers_that_are_not_the_runs(void **state) {
    (void)state;
    struct enrolment before;
    expect_fine(join("island"));
    before = enrolment;
    answer_keys = worker_keys;
    assert_int_equal(enrol_recover(&worker_keys, worker_dir, &interrupted, &enrolment, &error), STATUS_DATA);
    assert_string_equal(error.text, "the outer's certificate is of another run, or not signed by this run's outer");
    answer_keys = outer_keys;
    answer_run_id[0] ^= 1;
    assert_int_equal(enrol_recover(&worker_keys, worker_dir, &interrupted, &enrolment, &error), STATUS_DATA);
    memcpy(answer_keys.sign_key, worker_keys.sign_key, sizeof answer_keys.sign_key);
    memcpy(answer_run_id, run_id, sizeof run_id);
    assert_int_equal(enrol_recover(&worker_keys, worker_dir, &interrupted, &enrolment, &error), STATUS_DATA);
    assert_string_equal(error.text, "certificate of slot 0 (island): expected the outer's signature, found another");
    assert_memory_equal(&enrolment, &before, sizeof before);
    struct enrolment loaded = {0};
    expect_fine(enrol_load(worker_dir, &worker_keys, &loaded, &error));
    assert_memory_equal(&loaded, &before, sizeof before);
}

/* ---- the directory ---- */

static void test_directory_of_another_run(void **state) {
    (void)state;
    expect_fine(join("island"));
    strcpy(token.run_name, "letters");
    char text[1024], key[17];
    for (int i = 0; i < 8; i++)
        snprintf(key + 2 * i, 3, "%02x", token.outer_key[i]);
    snprintf(text, sizeof text,
             "%s belongs to run novels of the outer with key %s, the token is for run letters of the outer with key "
             "%s; use another --dir",
             worker_dir, key, key);
    assert_int_equal(join("island"), STATUS_CONFIG);
    assert_string_equal(error.text, text);
    strcpy(token.run_name, "novels");
    token.outer_key[31] ^= 1;
    assert_int_equal(join("island"), STATUS_CONFIG);
    assert_int_equal(registers + recovers, 1);
}

/* A copied directory that was given keys of its own is another worker. */
static void test_other_key_than_the_admitted_one(void **state) {
    (void)state;
    expect_fine(join("island"));
    char path[128], text[256];
    snprintf(path, sizeof path, "%s/keys/seed", worker_dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(keys_open(worker_dir, &worker_keys, &error), STATUS_OK);
    snprintf(text, sizeof text,
             "%s: keys/seed is not the key that was admitted (as worker island): start it with --join TOKEN",
             worker_dir);
    assert_int_equal(enrol_load(worker_dir, &worker_keys, &enrolment, &error), STATUS_CONFIG);
    assert_string_equal(error.text, text);
    expect_fine(join("island"));
    assert_int_equal(enrolment.admit.certificate.slot, 1);
    assert_int_equal(recovers, 0);
    expect_fine(enrol_load(worker_dir, &worker_keys, &enrolment, &error));
}

static void put_kept(const char *text) {
    assert_int_equal(files_write_atomic(kept_path, text, strlen(text), 0600, &error), STATUS_OK);
}

/* Each field of a good file, changed to what it must not be. */
static void test_damaged_file(void **state) {
    (void)state;
    expect_fine(join("island"));
    uint8_t *bytes;
    size_t count;
    assert_int_equal(files_read(kept_path, 65536, &bytes, &count, &error), STATUS_OK);
    const char *good = (const char *)bytes;
    static const struct {
        const char *from, *to;
    } rows[] = {
        {"\"run_name\": \"novels\"", "\"run_name\": \"\""},
        {"\"run_name\": \"novels\"", "\"run_name\": 7"},
        {"\"outer_key\": \"", "\"outer_key\": \"0"},
        {"\"sign_key\": \"", "\"sign_key\": \"0"},
        {"\"recovery_secret\": \"", "\"recovery_secret\": \"x"},
        {"\"host\": \"127.0.0.1\"", "\"host\": \"a b\""},
        {"\"control_port\": ", "\"control_port\": 1000"},
        {"\"bulk_port\": ", "\"bulk_port\": -"},
        {"\"addresses\": [", "\"addresses\": [7, "},
        {"\"up_bytes_per_s\": 1250000", "\"up_bytes_per_s\": -1"},
        {"\"slot\": 0", "\"slot\": 64"},
        {"\"slot\": 0", "\"slot\": 1"}, /* not what was signed */
        {"\"name\": \"island\"", "\"name\": \"islanD\""},
        {"\"signature\": \"", "\"x\": 1, \"signature\": \""},
        {"{", "["},
        {"\"schema\": 1,", ""}, /* nothing says that another version wrote it */
        {"\"schema\": 1", "\"schema\": \"1\""},
    };
    char text[256];
    snprintf(text, sizeof text, "%s is damaged: restore it from a copy, or remove it and start with --join TOKEN",
             kept_path);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char damaged[8192];
        const char *at = strstr(good, rows[i].from);
        assert_non_null(at);
        snprintf(damaged, sizeof damaged, "%.*s%s%s", (int)(at - good), good, rows[i].to, at + strlen(rows[i].from));
        put_kept(damaged);
        if (enrol_load(worker_dir, &worker_keys, &enrolment, &error) != STATUS_DATA || strcmp(error.text, text) != 0)
            fail_msg("row %zu: %s", i, error.text);
        assert_int_equal(join("island"), STATUS_DATA); /* not by a token either: it might be another run's */
    }
    free(bytes);
    put_kept("garbage");
    assert_int_equal(enrol_load(worker_dir, &worker_keys, &enrolment, &error), STATUS_DATA);
    assert_string_equal(error.text, text);
    put_kept("{\"schema\": 2, \"certificates\": []}");
    snprintf(text, sizeof text,
             "%s is of another version of atoll (schema 2, this one knows 1): use that version, or remove the file and "
             "start with --join TOKEN",
             kept_path);
    assert_int_equal(enrol_load(worker_dir, &worker_keys, &enrolment, &error), STATUS_CONFIG);
    assert_string_equal(error.text, text);
    assert_int_equal(unlink(kept_path), 0);
    expect_fine(join("island"));
    assert_int_equal(enrolment.admit.certificate.slot, 0);
}

int main(void) {
    keys_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_join_and_start_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_join_again_at_another_address, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recover, setup, teardown),
        cmocka_unit_test_setup_teardown(test_revoked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slot_of_another, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outer_that_cannot_store, setup, teardown),
        cmocka_unit_test_setup_teardown(test_worker_that_cannot_store, setup, teardown),
        cmocka_unit_test_setup_teardown(test_recover_in_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interrupted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_that_are_not_the_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directory_of_another_run, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_key_than_the_admitted_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_file, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
