/* outer_tokens: the admin's verbs about tokens and workers, from JSON to the list and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/bytes.h"
#include "base/files.h"
#include "outer/outer_tokens.h"

enum { NOW_S = 1000000 };

static char directory[64], list_path[128];
static struct node_keys keys;
static struct admission *admission;
static struct token blank;
static struct error error;

static int setup(void **state) {
    (void)state;
    strcpy(directory, "/tmp/atoll-tokens-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(list_path, sizeof list_path, "%s/keys/workers.json", directory);
    assert_int_equal(keys_open(directory, &keys, &error), STATUS_OK);
    assert_int_equal(admission_open(directory, &keys, &admission, &error), STATUS_OK);
    admission_set_run_id(admission, (const uint8_t[MESSAGE_HASH_BYTES]){1});
    blank = (struct token){.run_name = "novels", .address_count = 1};
    blank.addresses[0] = (struct token_address){.host = "10.0.0.1", .control_port = 7070, .bulk_port = 7071};
    memcpy(blank.outer_key, keys.curve.public_key, sizeof blank.outer_key);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    admission_close(admission);
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command);
}

static json_t *parse(const char *text) {
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    return json;
}

static json_t *create(const char *arguments) {
    json_t *json = parse(arguments);
    json_t *answer = outer_tokens_create(admission, &blank, 4, json, NOW_S, &error);
    json_decref(json);
    return answer;
}

static void expect_json(json_t *json, const char *key, json_int_t value) {
    assert_int_equal(json_integer_value(json_object_get(json, key)), value);
}

static void expect_text(json_t *json, const char *key, const char *text) {
    assert_string_equal(json_string_value(json_object_get(json, key)), text);
}

static bool register_at(const struct token *token, uint8_t key, uint64_t wall_s, struct message_refuse *refuse) {
    struct curve_pair pair;
    struct message_register request = {.protocol_version = MESSAGE_PROTOCOL_VERSION, .name = "island"};
    struct certificate certificate;
    keys_enrolment_pair(token->secret, &pair);
    memcpy(request.token_id, token->id, sizeof token->id);
    memset(request.worker_key, key, sizeof request.worker_key);
    return admission_register(admission, pair.public_key, &request, 0, wall_s, &certificate, refuse);
}

static struct token token_of(json_t *answer) {
    struct token token;
    assert_int_equal(token_parse(json_string_value(json_object_get(answer, "token")), &token, &error), STATUS_OK);
    json_decref(answer);
    return token;
}

static void test_create(void **state) {
    (void)state;
    struct message_refuse refuse;
    json_t *answer = outer_tokens_create(admission, &blank, 4, NULL, NOW_S, &error);
    expect_json(answer, "uses", 4);
    expect_json(answer, "used", 0);
    expect_json(answer, "left_s", 24 * 3600);
    expect_json(answer, "expires_s", NOW_S + 24 * 3600);
    expect_text(answer, "state", "live");
    struct token token = token_of(answer);
    assert_int_equal(token.expires_s, NOW_S + 24 * 3600);
    assert_string_equal(token.addresses[0].host, "10.0.0.1");
    assert_true(register_at(&token, 5, NOW_S, &refuse));
    token = token_of(create("{\"ttl_s\": 60, \"uses\": 1}"));
    assert_int_equal(token.expires_s, NOW_S + 60);
    assert_int_equal(token.uses, 1);
    const char *bad[] = {"{\"ttl_s\": 0}",      "{\"ttl_s\": 31622401}", "{\"uses\": 0}",
                         "{\"uses\": 1000001}", "{\"uses\": \"2\"}",     "{\"ttl_s\": -1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(create(bad[i]));
        assert_string_equal(error.text, "a token lives 1s to 366d and has 1 to 1000000 uses");
    }
    assert_int_equal(unlink(list_path), 0);
    assert_int_equal(mkdir(list_path, 0700), 0);
    assert_null(create("{}"));
    assert_int_equal(error.status, STATUS_IO);
    assert_int_equal(rmdir(list_path), 0);
}

/* As an outer writes it at each start. */
static struct token start_again(uint32_t uses, uint64_t wall_s) {
    char path[128], text[TOKEN_TEXT_BYTES];
    struct token token;
    snprintf(path, sizeof path, "%s/join.token", directory);
    assert_int_equal(outer_tokens_join(admission, &blank, uses, path, wall_s, &token, &error), STATUS_OK);
    assert_int_equal(token.uses, uses);
    token_format(&token, text);
    assert_int_equal(files_write_atomic(path, text, strlen(text), 0600, &error), STATUS_OK);
    return token;
}

static bool same_secret(const struct token *a, const struct token *b) {
    return memcmp(a->secret, b->secret, sizeof a->secret) == 0 && memcmp(a->id, b->id, sizeof a->id) == 0;
}

/* An outer that crashes all day long can still be started, and what was pasted in the morning still admits. */
static void test_join_token_of_many_starts(void **state) {
    (void)state;
    enum { HALF_S = 12 * 3600 };
    struct admission_token rows[ADMISSION_TOKENS_MAX];
    struct message_refuse refuse;
    struct token first = start_again(2, NOW_S), next;
    assert_true(first.expires_s == NOW_S + 2 * HALF_S);
    for (int i = 1; i <= 2 * ADMISSION_TOKENS_MAX; i++) {
        next = start_again(2, NOW_S + (uint64_t)i);
        assert_true(same_secret(&first, &next) && next.expires_s == first.expires_s);
    }
    assert_int_equal(admission_list_tokens(admission, rows), 1);
    blank.addresses[0].control_port = 7171; /* it moved */
    next = start_again(2, NOW_S + 600);
    assert_true(same_secret(&first, &next) && next.addresses[0].control_port == 7171);
    assert_true(register_at(&first, 5, NOW_S + 600, &refuse));
    next = start_again(2, NOW_S + 600);
    assert_true(same_secret(&first, &next)); /* one use is left */

    next = start_again(2, NOW_S + HALF_S); /* half of its day is over */
    assert_false(same_secret(&first, &next));
    assert_true(next.expires_s == NOW_S + 3 * HALF_S);
    assert_true(register_at(&first, 6, NOW_S + HALF_S, &refuse)); /* its last use */
    first = start_again(3, NOW_S + HALF_S);                       /* more workers */
    assert_false(same_secret(&first, &next));
    for (uint8_t key = 7; key < 10; key++)
        assert_true(register_at(&first, key, NOW_S + HALF_S, &refuse));
    next = start_again(3, NOW_S + HALF_S); /* used up */
    assert_false(same_secret(&first, &next));
    char id[2 * MESSAGE_TOKEN_ID_BYTES + 1];
    struct admission_token row;
    bytes_to_hex(next.id, sizeof next.id, id);
    assert_int_equal(admission_revoke_token(admission, id, &row, &error), STATUS_OK);
    first = start_again(3, NOW_S + HALF_S); /* revoked */
    assert_false(same_secret(&first, &next));
    snprintf(blank.run_name, sizeof blank.run_name, "poems"); /* another run file in the same directory */
    next = start_again(3, NOW_S + HALF_S);
    assert_false(same_secret(&first, &next));
    next = start_again(3, NOW_S); /* a clock that was ahead */
    assert_true(next.expires_s == NOW_S + 2 * HALF_S);

    /* The admin made as many as there may be: no new one, but the one that is there. */
    struct token kept = start_again(3, NOW_S);
    while (admission_list_tokens(admission, rows) < ADMISSION_TOKENS_MAX)
        json_decref(create("{}"));
    next = start_again(3, NOW_S + 600);
    assert_true(same_secret(&kept, &next));
}

static void test_list_and_revoke(void **state) {
    (void)state;
    struct message_refuse refuse;
    struct token live = token_of(create("{}")), used = token_of(create("{\"uses\": 1}")),
                 old = token_of(create("{\"ttl_s\": 60}")), revoked = token_of(create("{}"));
    assert_true(register_at(&used, 5, NOW_S, &refuse));
    assert_true(register_at(&live, 6, NOW_S, &refuse));
    char id[2 * MESSAGE_TOKEN_ID_BYTES + 1];
    for (int i = 0; i < MESSAGE_TOKEN_ID_BYTES; i++)
        snprintf(id + 2 * i, 3, "%02x", revoked.id[i]);
    json_t *arguments = json_pack("{s:s}", "id", id);
    json_t *answer = outer_tokens_revoke(admission, arguments, NOW_S, &error);
    expect_text(answer, "id", id);
    expect_text(answer, "state", "revoked");
    json_decref(answer);
    json_decref(arguments);
    assert_false(register_at(&revoked, 7, NOW_S, &refuse));
    assert_int_equal(refuse.code, REFUSE_TOKEN_UNKNOWN);
    assert_true(old.expires_s == NOW_S + 60);
    answer = outer_tokens_list(admission, NOW_S + 61);
    json_t *rows = json_object_get(answer, "tokens");
    assert_int_equal(json_array_size(rows), 4);
    const char *states[] = {"live", "used up", "expired", "revoked"};
    for (size_t i = 0; i < 4; i++)
        expect_text(json_array_get(rows, i), "state", states[i]);
    expect_json(json_array_get(rows, 0), "used", 1);
    expect_json(json_array_get(rows, 0), "uses", 4);
    expect_json(json_array_get(rows, 0), "left_s", 24 * 3600 - 61);
    expect_json(json_array_get(rows, 2), "left_s", 0);
    expect_text(json_array_get(rows, 3), "id", id);
    json_decref(answer);
    assert_null(outer_tokens_revoke(admission, NULL, NOW_S, &error));
    assert_string_equal(error.text, "'' is not the begin of a token's id (1 to 16 hex digits): atoll token list DIR "
                                    "shows them");
}

/* A full list fits one message of the admin. */
static void test_longest_list(void **state) {
    (void)state;
    for (int i = 0; i < ADMISSION_TOKENS_MAX; i++)
        json_decref(create("{\"uses\": 1000000}"));
    json_t *answer = outer_tokens_list(admission, NOW_S);
    char *text = json_dumps(answer, JSON_COMPACT);
    assert_true(strlen(text) + 4 * 20 * ADMISSION_TOKENS_MAX <= MESSAGE_LONG_TEXT_MAX); /* with numbers of any length */
    free(text);
    json_decref(answer);
}

static enum status drain(const char *text, struct admission_worker *worker) {
    json_t *arguments = parse(text);
    enum status status = outer_tokens_drain(admission, arguments, worker, &error);
    json_decref(arguments);
    return status;
}

static void test_drain(void **state) {
    (void)state;
    struct message_refuse refuse;
    struct admission_worker worker;
    uint8_t key[KEYS_CURVE_BYTES];
    memset(key, 6, sizeof key);
    struct token token = token_of(create("{}"));
    assert_true(register_at(&token, 5, NOW_S, &refuse));
    assert_true(register_at(&token, 6, NOW_S, &refuse));
    const char *named[] = {"{\"worker\": 1}", "{\"worker\": \"1\", \"revoke\": false}", "{\"worker\": \"island-2\"}"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(drain(named[i], &worker), STATUS_OK);
        assert_int_equal(worker.slot, 1);
        assert_false(worker.revoked);
        assert_int_equal(admission_role(admission, key), PEER_ROLE_WORKER);
    }
    const char *junk[] = {"{}", "{\"worker\": []}", "{\"worker\": 1, \"revoke\": \"yes\"}", "[7]"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(drain(junk[i], &worker), STATUS_USAGE);
        assert_string_equal(error.text, "drain takes {\"worker\": slot, name or key, \"revoke\": true or false}");
    }
    assert_int_equal(drain("{\"worker\": -1}", &worker), STATUS_NOT_FOUND);
    assert_int_equal(drain("{\"worker\": 9, \"revoke\": true}", &worker), STATUS_NOT_FOUND);
    assert_string_equal(error.text, "this run has no worker in slot 9: atoll status shows them");
    assert_int_equal(drain("{\"worker\": 1, \"revoke\": true}", &worker), STATUS_OK);
    assert_true(worker.revoked);
    assert_int_equal(admission_role(admission, key), PEER_ROLE_NONE);
    json_t *answer = outer_tokens_drained(&worker, true);
    expect_json(answer, "slot", 1);
    expect_text(answer, "worker", "island-2");
    assert_true(json_is_true(json_object_get(answer, "live")));
    assert_true(json_is_true(json_object_get(answer, "revoked")));
    json_decref(answer);
}

int main(void) {
    keys_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create, setup, teardown),
        cmocka_unit_test_setup_teardown(test_join_token_of_many_starts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_list_and_revoke, setup, teardown),
        cmocka_unit_test_setup_teardown(test_longest_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drain, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
