/* Tests of comms/wire: every message there and back at its least and its most, and the exact text for what is wrong in one. */
#include "unit/comms/wire_messages.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comms/wire_rules.h"

static void test_round_trip_of_every_type(void **state) {
    (void)state;
    for (int type = 1; type < MESSAGE_TYPE_COUNT; type++)
        for (int most = 0; most < 2; most++) {
            struct message message, back;
            struct error error;
            fill(&message, (enum message_type)type, most);
            size_t count = wire_encode(&message, encoded);
            assert_true(count <= MESSAGE_CONTROL_BYTES_MAX);
            if (decode(encoded, count, &back, &error) != STATUS_OK)
                fail_msg("%s", error.text);
            assert_same(&message, &back);
        }
}

/* The fullest lists with their longest numbers, and room to spare: 128 heads, 64 counted lines and 64 totals. */
static void test_full_lists_fit(void **state) {
    (void)state;
    static const struct {
        enum message_type type;
        size_t bytes; /* with the envelope: a change of the format is seen here */
    } rows[] = {{MESSAGE_HELLO, 6851}, {MESSAGE_STATE, 6692}, {MESSAGE_COMMIT, 5552}, {MESSAGE_SNAPSHOT, 5597}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct message message;
        fill(&message, rows[i].type, true);
        size_t count = wire_encode(&message, encoded);
        assert_int_equal(count, rows[i].bytes);
        assert_true(count <= MESSAGE_CONTROL_BYTES_MAX);
    }
}

/* The tables, the descriptors and the plain structs agree on names; REGISTER, RECOVER and HELLO open with their version. */
static void test_rows_match_the_proto(void **state) {
    (void)state;
    for (int type = 1; type < MESSAGE_TYPE_COUNT; type++) {
        const struct shape *shape = wire_rules_body((enum message_type)type);
        assert_int_equal(shape->rule_count, shape->descriptor->n_fields);
        for (unsigned i = 0; i < shape->descriptor->n_fields; i++) {
            assert_string_equal(shape->rules[i].name, shape->descriptor->fields[i].name);
            assert_int_equal(shape->descriptor->fields[i].id, i + 1);
        }
        assert_string_equal(message_type_name((enum message_type)type), shape->name);
    }
    assert_string_equal(wire_rules_body(MESSAGE_REGISTER)->rules[0].name, "protocol_version");
    assert_string_equal(wire_rules_body(MESSAGE_RECOVER)->rules[0].name, "protocol_version");
    assert_string_equal(wire_rules_body(MESSAGE_HELLO)->rules[0].name, "protocol_version");
    assert_int_equal(wire_rules_chunk.rule_count, wire_rules_chunk.descriptor->n_fields);
    assert_string_equal(message_type_name(MESSAGE_OFFER_REFUSED), "OFFER_REFUSED");
    assert_string_equal(message_type_name((enum message_type)0), "?");
    assert_string_equal(message_type_name(MESSAGE_TYPE_COUNT), "?");
}

struct bad_integer {
    enum message_type type;
    uint32_t field;
    uint64_t value;
    const char *text;
};

static void test_bad_integers(void **state) {
    (void)state;
    static const struct bad_integer rows[] = {
        {MESSAGE_REFUSE, 1, 0, "REFUSE: code: expected 1..12, found 0"},
        {MESSAGE_REFUSE, 1, 13, "REFUSE: code: expected 1..12, found 13"},
        {MESSAGE_HELLO, 4, 64, "HELLO: slot: expected 0..63, found 64"},
        {MESSAGE_HELLO, 4, (UINT64_C(1) << 32) + 3, "HELLO: slot: expected 0..63, found 4294967299"},
        {MESSAGE_HELLO, 7, UINT64_MAX,
         "HELLO: down_bytes_per_s: expected 0..281474976710655, found 18446744073709551615"},
        {MESSAGE_HELLO, 9, UINT64_C(1) << 48, "HELLO: run_step: expected 0..281474976710655, found 281474976710656"},
        {MESSAGE_READY, 5, UINT64_C(1) << 48, "READY: tokens: expected 0..281474976710655, found 281474976710656"},
        {MESSAGE_STATE, 2, UINT64_C(1) << 48, "STATE: run_step: expected 0..281474976710655, found 281474976710656"},
        {MESSAGE_STATE, 3, UINT64_C(1) << 48, "STATE: tokens: expected 0..281474976710655, found 281474976710656"},
        {MESSAGE_FETCH, 1, 128, "FETCH: fragment: expected 0..127, found 128"},
        {MESSAGE_SNAPSHOT, 2, 0, "SNAPSHOT: bytes: expected 1..281474976710655, found 0"},
        {MESSAGE_SNAPSHOT, 2, UINT64_C(1) << 48, "SNAPSHOT: bytes: expected 1..281474976710655, found 281474976710656"},
        {MESSAGE_JOINED, 1, UINT64_C(1) << 48, "JOINED: step: expected 0..281474976710655, found 281474976710656"},
        {MESSAGE_JOINED, 2, UINT64_C(1) << 48, "JOINED: tokens: expected 0..281474976710655, found 281474976710656"},
        {MESSAGE_WELCOME, 2, 0, "WELCOME: workers: expected 1..64, found 0"},
        {MESSAGE_WELCOME, 2, 65, "WELCOME: workers: expected 1..64, found 65"},
        {MESSAGE_READY, 4, 0, "READY: tokens_per_step: expected 1..281474976710655, found 0"},
        {MESSAGE_START, 1, 64, "START: evaluator_slot: expected 0..63 or 4294967295 for nobody, found 64"},
        {MESSAGE_MEMBERS, 2, UINT64_C(1) << 32,
         "MEMBERS: evaluator_slot: expected 0..63 or 4294967295 for nobody, found 4294967296"},
        {MESSAGE_OFFER, 1, 64, "OFFER: slot: expected 0..63, found 64"},
        {MESSAGE_OFFER, 3, 128, "OFFER: fragment: expected 0..127, found 128"},
        {MESSAGE_OFFER, 4, UINT64_C(1) << 48,
         "OFFER: base_version: expected 0..281474976710655, found 281474976710656"},
        {MESSAGE_OFFER, 5, 0, "OFFER: send_step: expected 1..281474976710655, found 0"},
        {MESSAGE_OFFER, 6, 1, "OFFER: tokens_to: expected above tokens_from 1, found 1"},
        {MESSAGE_OFFER, 6, 9, "OFFER: tokens_to: expected above tokens_from 9, found 1"},
        {MESSAGE_OFFER, 8, 0, "OFFER: tokens: expected 1..281474976710655, found 0"},
        {MESSAGE_OFFER, 8, 2, "OFFER: tokens: expected at most tokens_to - tokens_from = 1, found 2"},
        {MESSAGE_OFFER, 9, 0, "OFFER: payload_bytes: expected 1..281474976710655, found 0"},
        {MESSAGE_OFFER_REFUSED, 3, 7, "OFFER_REFUSED: code: expected 1..6, found 7"},
        {MESSAGE_GRANT, 1, 0, "GRANT: kind: expected 1..3, found 0"},
        {MESSAGE_GRANT, 1, 4, "GRANT: kind: expected 1..3, found 4"},
        {MESSAGE_GRANT, 2, 64, "GRANT: leader: expected 0..63, found 64"},
        {MESSAGE_GRANT, 5, 1, "GRANT: limit: expected offset 1 or more, found 0"},
        {MESSAGE_GRANT, 6, UINT64_C(1) << 48, "GRANT: limit: expected 0..281474976710655, found 281474976710656"},
        {MESSAGE_COMMIT, 3, 0, "COMMIT: epoch: expected 1..281474976710655, found 0"},
        {MESSAGE_COMMIT, 5, 0, "COMMIT: version: expected 1..281474976710655, found 0"},
        {MESSAGE_COMMIT, 7, 0, "COMMIT: run_step: expected 1..281474976710655, found 0"},
        {MESSAGE_APPLIED, 1, 128, "APPLIED: fragment: expected 0..127, found 128"},
        {MESSAGE_TELEMETRY, 1, 0, "TELEMETRY: phase: expected 1..5, found 0"},
        {MESSAGE_TELEMETRY, 1, 6, "TELEMETRY: phase: expected 1..5, found 6"},
        {MESSAGE_TELEMETRY, 10, UINT64_C(1) << 63,
         "TELEMETRY: wire_up: expected 0..9223372036854775807, found 9223372036854775808"},
        {MESSAGE_DONE, 1, UINT64_C(1) << 48, "DONE: step: expected 0..281474976710655, found 281474976710656"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        start_body(rows[i].type, false);
        put_integer(&body_bytes, rows[i].field, rows[i].value);
        wrap_body(rows[i].type);
        expect_error(message_bytes.at, message_bytes.count, rows[i].text);
    }
}

struct bad_bytes {
    enum message_type type;
    uint32_t field;
    size_t count;
    const char *value; /* NULL: `count` times 'x' */
    const char *text;
};

static void test_bad_bytes_and_texts(void **state) {
    (void)state;
    static const struct bad_bytes rows[] = {
        {MESSAGE_OFFER, 10, 31, NULL, "OFFER: payload_hash: expected 32 bytes, found 31"},
        {MESSAGE_OFFER, 10, 33, NULL, "OFFER: payload_hash: expected 32 bytes, found 33"},
        {MESSAGE_OFFER, 10, 0, NULL, "OFFER: payload_hash: expected 32 bytes, found 0"},
        {MESSAGE_ADMIT, 2, 31, NULL, "ADMIT: recovery_secret: expected 32 bytes, found 31"},
        {MESSAGE_SNAPSHOT, 3, 33, NULL, "SNAPSHOT: hash: expected 32 bytes, found 33"},
        {MESSAGE_DRAIN, 1, 3, "a\nb", "DRAIN: text: expected printable UTF-8, found byte 0x0a at 1"},
        {MESSAGE_APPLIED, 3, 32, NULL, "APPLIED: state_hash: expected 16 bytes, found 32"},
        {MESSAGE_REGISTER, 2, 7, NULL, "REGISTER: token_id: expected 8 bytes, found 7"},
        {MESSAGE_REGISTER, 4, 64, NULL, "REGISTER: name: expected 0..63 bytes, found 64"},
        {MESSAGE_HELLO, 6, 0, NULL, "HELLO: name: expected 1..63 bytes, found 0"},
        {MESSAGE_HELLO, 6, 3, "a b", "HELLO: name: expected printable ASCII without spaces, found byte 0x20 at 1"},
        {MESSAGE_HELLO, 6, 3, "a\0b", "HELLO: name: expected printable ASCII without spaces, found byte 0x00 at 1"},
        {MESSAGE_HELLO, 6, 3, "ab\x7f", "HELLO: name: expected printable ASCII without spaces, found byte 0x7f at 2"},
        {MESSAGE_HELLO, 6, 2, "\xc3\xa4", "HELLO: name: expected printable ASCII without spaces, found byte 0xc3 at 0"},
        {MESSAGE_STOP, 1, 512, NULL, "STOP: text: expected 0..511 bytes, found 512"},
        {MESSAGE_STOP, 1, 3, "a\0b", "STOP: text: expected printable UTF-8, found byte 0x00 at 1"},
        {MESSAGE_STOP, 1, 3, "a\nb", "STOP: text: expected printable UTF-8, found byte 0x0a at 1"},
        {MESSAGE_STOP, 1, 4, "ab\x1b[", "STOP: text: expected printable UTF-8, found byte 0x1b at 2"},
        {MESSAGE_STOP, 1, 3, "a\xc2\x9b", "STOP: text: expected printable UTF-8, found byte 0xc2 at 1"},
        {MESSAGE_STOP, 1, 2, "a\xc3", "STOP: text: expected printable UTF-8, found byte 0xc3 at 1"},
        {MESSAGE_STOP, 1, 2, "\xc0\x80", "STOP: text: expected printable UTF-8, found byte 0xc0 at 0"},
        {MESSAGE_STOP, 1, 3, "\xed\xa0\x80", "STOP: text: expected printable UTF-8, found byte 0xed at 0"},
        {MESSAGE_STOP, 1, 4, "\xf4\x90\x80\x80", "STOP: text: expected printable UTF-8, found byte 0xf4 at 0"},
        {MESSAGE_STOP, 1, 3, "\xe2\x80\xae", "STOP: text: expected printable UTF-8, found byte 0xe2 at 0"},
        {MESSAGE_ADMIN_REQUEST, 1, 0, NULL, "ADMIN_REQUEST: verb: expected 1..63 bytes, found 0"},
        {MESSAGE_ADMIN_REQUEST, 2, 60001, NULL, "ADMIN_REQUEST: text: expected 0..60000 bytes, found 60001"},
        {MESSAGE_ADMIN_REPLY, 2, 3, "{\0}", "ADMIN_REPLY: text: expected printable UTF-8, found byte 0x00 at 1"},
        {MESSAGE_WELCOME, 7, 2, "a\b", "WELCOME: run_text: expected printable UTF-8, found byte 0x08 at 1"},
    };
    static char filler[60001];
    memset(filler, 'x', sizeof filler);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        start_body(rows[i].type, false);
        put_bytes(&body_bytes, rows[i].field, rows[i].value ? rows[i].value : filler, rows[i].count);
        wrap_body(rows[i].type);
        expect_error(message_bytes.at, message_bytes.count, rows[i].text);
    }
}

static void test_bad_reals(void **state) {
    (void)state;
    start_body(MESSAGE_TELEMETRY, false);
    put_real(&body_bytes, 4, (double)INFINITY);
    wrap_body(MESSAGE_TELEMETRY);
    expect_error(message_bytes.at, message_bytes.count,
                 "TELEMETRY: loss: expected a finite number or NaN, found infinity");
    start_body(MESSAGE_FINAL, false);
    put_real(&body_bytes, 3, (double)-INFINITY);
    wrap_body(MESSAGE_FINAL);
    expect_error(message_bytes.at, message_bytes.count,
                 "FINAL: eval_loss: expected a finite number or NaN, found infinity");
}

static void append_integers(struct bytes *body, uint32_t field, const uint64_t *values, uint32_t count) {
    static struct bytes line;
    line.count = 0;
    for (uint32_t i = 0; i < count; i++)
        put_integer(&line, i + 1, values[i]);
    put_bytes(body, field, line.at, line.count);
}

enum { AT_COUNTED = 8, AT_TOTALS = 9 };

/* What is wrong in a commit is said in the same words where it comes alone and within a SNAPSHOT. */
static void expect_commit_error(const char *text) {
    static struct bytes commit;
    char expected[200];
    wrap_body(MESSAGE_COMMIT);
    snprintf(expected, sizeof expected, "COMMIT: %s", text);
    expect_error(message_bytes.at, message_bytes.count, expected);

    commit = body_bytes;
    body_bytes.count = 0;
    put_bytes(&body_bytes, 1, commit.at, commit.count);
    put_integer(&body_bytes, 2, 1);
    put_bytes(&body_bytes, 3, "0123456789abcdef0123456789abcdef", MESSAGE_HASH_BYTES);
    wrap_body(MESSAGE_SNAPSHOT);
    bool of_a_list = strchr(text, '[') && strchr(text, '[') < strchr(text, ':');
    bool of_a_field = of_a_list || !strncmp(text, "counted:", 8) || !strncmp(text, "totals:", 7);
    snprintf(expected, sizeof expected, "SNAPSHOT: commit%s%s", of_a_field ? "." : ": ", text);
    expect_error(message_bytes.at, message_bytes.count, expected);
}

/* The least commit has version 1, run_step 1 and for slot 0 a counted line and a total: the interval of token 1. */
static void test_bad_counted_lines(void **state) {
    (void)state;
    static const struct {
        uint64_t line[7]; /* slot, incarnation, base_version, send_step, tokens_from, tokens_to, tokens */
        const char *text;
    } rows[] = {
        {{64, 1, 0, 1, 0, 9, 9}, "counted[1].slot: expected 0..63, found 64"},
        {{0, 1, 0, 1, 0, 9, 9}, "counted[1].slot: 0 is in the list already"},
        {{2, 1, 0, 1, 0, 9, 9}, "counted[1].slot: 2 is not in totals"},
        {{1, 1, 1, 1, 0, 9, 9}, "counted[1].base_version: expected below version 1, found 1"},
        {{1, 1, 0, 2, 0, 9, 9}, "counted[1].send_step: expected at most run_step 1, found 2"},
        {{1, 1, 0, 0, 0, 9, 9}, "counted[1].send_step: expected 1..281474976710655, found 0"},
        {{1, 1, 0, 1, 9, 9, 1}, "counted[1].tokens_to: expected above tokens_from 9, found 9"},
        {{1, 1, 0, 1, 10, 9, 1}, "counted[1].tokens_to: expected above tokens_from 10, found 9"},
        {{1, 1, 0, 1, 0, 8, 8}, "counted[1].tokens_to: expected the mark 9 of slot 1 in totals, found 8"},
        {{1, 1, 0, 1, 0, 10, 9}, "counted[1].tokens_to: expected the mark 9 of slot 1 in totals, found 10"},
        {{1, 1, 0, 1, 0, 9, 0}, "counted[1].tokens: expected 1..281474976710655, found 0"},
        {{1, 1, 0, 1, 3, 9, 7}, "counted[1].tokens: expected at most tokens_to - tokens_from = 6, found 7"},
    };
    static const uint64_t total[] = {1, 9, 6, 3};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        start_body(MESSAGE_COMMIT, false);
        append_integers(&body_bytes, AT_COUNTED, rows[i].line, 7);
        append_integers(&body_bytes, AT_TOTALS, total, 4);
        expect_commit_error(rows[i].text);
    }
    start_body(MESSAGE_COMMIT, true);
    append_integers(&body_bytes, AT_COUNTED, rows[0].line, 7);
    expect_commit_error("counted: expected 1..64 entries, found 65");
    start_body(MESSAGE_COMMIT, false);
    put_bytes(&body_bytes, AT_COUNTED, "\x08\x01\x98\x06\x01", 5); /* slot 1, field 99 */
    expect_commit_error("counted[1]: field 99 is unknown");
    start_body(MESSAGE_COMMIT, false);
    put_bytes(&body_bytes, AT_COUNTED, "\x08\x01", 2);
    expect_commit_error("counted[1].incarnation: missing");
    start_body(MESSAGE_COMMIT, false);
    put_integer(&body_bytes, 99, 1);
    expect_commit_error("field 99 is unknown");
}

static void test_bad_totals(void **state) {
    (void)state;
    static const struct {
        uint64_t total[4]; /* slot, mark, applied, dropped */
        const char *text;
    } rows[] = {
        {{64, 9, 9, 0}, "totals[1].slot: expected 0..63, found 64"},
        {{0, 9, 9, 0}, "totals[1].slot: expected above 0, the slot before it, found 0"},
        {{1, 0, 9, 0}, "totals[1].mark: expected 1..281474976710655, found 0"},
        {{1, 9, 0, 9}, "totals[1].applied: expected 1..281474976710655, found 0"},
        {{1, 9, 9, UINT64_C(1) << 48}, "totals[1].dropped: expected 0..281474976710655, found 281474976710656"},
        {{1, 9, 6, 2}, "totals[1].mark: expected applied + dropped = 8, found 9"},
        {{1, 9, 9, 1}, "totals[1].mark: expected applied + dropped = 10, found 9"},
    };
    static const uint64_t late[] = {5, 9, 6, 3}, early[] = {4, 9, 6, 3};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        start_body(MESSAGE_COMMIT, false);
        append_integers(&body_bytes, AT_TOTALS, rows[i].total, 4);
        expect_commit_error(rows[i].text);
    }
    start_body(MESSAGE_COMMIT, false);
    append_integers(&body_bytes, AT_TOTALS, late, 4);
    append_integers(&body_bytes, AT_TOTALS, early, 4);
    expect_commit_error("totals[2].slot: expected above 5, the slot before it, found 4");
    start_body(MESSAGE_COMMIT, true);
    append_integers(&body_bytes, AT_TOTALS, late, 4);
    expect_commit_error("totals: expected 1..64 entries, found 65");
    start_body(MESSAGE_COMMIT, false);
    put_bytes(&body_bytes, AT_TOTALS, "\x08\x01\x98\x06\x01", 5);
    expect_commit_error("totals[1]: field 99 is unknown");
    start_body(MESSAGE_COMMIT, false);
    put_bytes(&body_bytes, AT_TOTALS, "\x08\x01", 2);
    expect_commit_error("totals[1].mark: missing");
}

/* A slot may have a total without being counted, the counted list may stand in any order, and tokens may be lost on the way. */
static void test_commits_that_are_fine(void **state) {
    (void)state;
    struct message message, back;
    struct error error;
    fill(&message, MESSAGE_COMMIT, false);
    struct commit *commit = &message.body.commit;
    commit->version = 7;
    commit->run_step = 50;
    commit->counted_count = 2;
    commit->counted[0] = (struct counted){3, 11, 6, 50, 100, 190, 40};
    commit->counted[1] = (struct counted){1, 12, 2, 30, 0, 20, 20};
    commit->total_count = 3;
    commit->totals[0] = (struct total){1, 20, 20, 0};
    commit->totals[1] = (struct total){2, 500, 1, 499};
    commit->totals[2] = (struct total){3, 190, 90, 100};
    size_t count = wire_encode(&message, encoded);
    assert_int_equal(decode(encoded, count, &back, &error), STATUS_OK);
    assert_same(&message, &back);
}

static void put_head(struct bytes *body, uint32_t field, uint64_t epoch, uint64_t version, size_t hash_bytes) {
    static const uint8_t hash[MESSAGE_HASH_BYTES + 1] = {0};
    static struct bytes head;
    head.count = 0;
    put_integer(&head, 1, epoch);
    put_integer(&head, 2, version);
    put_bytes(&head, 3, hash, hash_bytes);
    put_bytes(body, field, head.at, head.count);
}

static void test_bad_heads(void **state) {
    (void)state;
    static const struct {
        uint64_t epoch, version;
        size_t hash_bytes;
        const char *text;
    } rows[] = {
        {3, 0, 32, "epoch: expected 0 with version 0, found 3"},
        {0, 5, 32, "epoch: expected 1 or more with version 5, found 0"},
        {UINT64_C(1) << 48, 5, 32, "epoch: expected 0..281474976710655, found 281474976710656"},
        {1, UINT64_C(1) << 48, 32, "version: expected 0..281474976710655, found 281474976710656"},
        {1, 5, 31, "hash: expected 32 bytes, found 31"},
        {1, 5, 33, "hash: expected 32 bytes, found 33"},
    };
    static const struct {
        enum message_type type;
        uint32_t field;
        const char *where; /* an entry is appended to a list; what is merged into a part overrides it */
    } places[] = {{MESSAGE_HELLO, 11, "HELLO: heads[0]"},
                  {MESSAGE_STATE, 4, "STATE: heads[1]"},
                  {MESSAGE_FETCH, 2, "FETCH: have"}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char text[160];
        for (size_t j = 0; j < sizeof rows / sizeof rows[0]; j++) {
            start_body(places[i].type, false);
            put_head(&body_bytes, places[i].field, rows[j].epoch, rows[j].version, rows[j].hash_bytes);
            wrap_body(places[i].type);
            snprintf(text, sizeof text, "%s.%s", places[i].where, rows[j].text);
            expect_error(message_bytes.at, message_bytes.count, text);
        }
        start_body(places[i].type, false);
        put_bytes(&body_bytes, places[i].field, "\x98\x06\x01", 3);
        wrap_body(places[i].type);
        snprintf(text, sizeof text, "%s: field 99 is unknown", places[i].where);
        expect_error(message_bytes.at, message_bytes.count, text);
    }
    start_body(MESSAGE_HELLO, true);
    put_head(&body_bytes, 11, 1, 1, 32);
    wrap_body(MESSAGE_HELLO);
    expect_error(message_bytes.at, message_bytes.count, "HELLO: heads: expected 0..128 entries, found 129");
    start_body(MESSAGE_STATE, true);
    put_head(&body_bytes, 4, 1, 1, 32);
    wrap_body(MESSAGE_STATE);
    expect_error(message_bytes.at, message_bytes.count, "STATE: heads: expected 1..128 entries, found 129");
}

static void test_bad_lists(void **state) {
    (void)state;
    start_body(MESSAGE_TELEMETRY, true);
    put_integer(&body_bytes, 14, 1); /* not packed: counts all the same */
    wrap_body(MESSAGE_TELEMETRY);
    expect_error(message_bytes.at, message_bytes.count, "TELEMETRY: versions: expected 0..128 entries, found 129");
    start_body(MESSAGE_FINISH, false);
    put_integer(&body_bytes, 1, UINT64_C(1) << 48);
    wrap_body(MESSAGE_FINISH);
    expect_error(message_bytes.at, message_bytes.count,
                 "FINISH: versions: [1] expected 0..281474976710655, found 281474976710656");
    body_bytes.count = 0;
    wrap_body(MESSAGE_FINISH);
    expect_error(message_bytes.at, message_bytes.count, "FINISH: versions: expected 1..128 entries, found 0");

    start_body(MESSAGE_ADMIT, false);
    put_bytes(&body_bytes, 1, "\x18\x40", 2); /* merged into the certificate: slot 64 */
    wrap_body(MESSAGE_ADMIT);
    expect_error(message_bytes.at, message_bytes.count, "ADMIT: certificate.slot: expected 0..63, found 64");
    start_body(MESSAGE_ADMIT, false);
    put_bytes(&body_bytes, 1, "\x98\x06\x01", 3);
    wrap_body(MESSAGE_ADMIT);
    expect_error(message_bytes.at, message_bytes.count, "ADMIT: certificate: field 99 is unknown");
    start_body(MESSAGE_RECOVER, false);
    put_bytes(&body_bytes, 2, "\x18\x40", 2);
    wrap_body(MESSAGE_RECOVER);
    expect_error(message_bytes.at, message_bytes.count, "RECOVER: certificate.slot: expected 0..63, found 64");
}

static void test_bad_envelopes(void **state) {
    (void)state;
    static uint8_t large[MESSAGE_CONTROL_BYTES_MAX + 1];
    expect_error(large, sizeof large, "message: expected at most 65536 bytes, found 65537");
    expect_error(large, 0, "message: type: missing");
    expect_error((const uint8_t *)"\x00", 1, "message: not well-formed protobuf");

    start_body(MESSAGE_PING, false);
    wrap_body(0);
    expect_error(message_bytes.at, message_bytes.count, "message: type: expected 1..31, found 0");
    wrap_body(32);
    expect_error(message_bytes.at, message_bytes.count, "message: type: expected 1..31, found 32");
    wrap_body((UINT64_C(1) << 32) + MESSAGE_PING);
    expect_error(message_bytes.at, message_bytes.count, "message: type: expected 1..31, found 4294967305");
    wrap_body(MESSAGE_PING);
    put_integer(&message_bytes, 2, 64);
    expect_error(message_bytes.at, message_bytes.count, "message: leader: expected 0..63, found 64");
    wrap_body(MESSAGE_PING);
    put_integer(&message_bytes, 5, 1);
    expect_error(message_bytes.at, message_bytes.count, "message: field 5 is unknown");
    message_bytes.count = 0;
    put_integer(&message_bytes, 1, MESSAGE_PING);
    put_integer(&message_bytes, 2, 0);
    expect_error(message_bytes.at, message_bytes.count, "message: session: missing");
    put_integer(&message_bytes, 3, 0);
    expect_error(message_bytes.at, message_bytes.count, "PING: the body is missing");
    put_bytes(&message_bytes, 4, "\x08", 1);
    expect_error(message_bytes.at, message_bytes.count, "PING: not well-formed protobuf");
}

/* Every field of every type, taken away: named as missing. */
static void test_missing_fields(void **state) {
    (void)state;
    for (int type = 1; type < MESSAGE_TYPE_COUNT; type++) {
        const struct shape *shape = wire_rules_body((enum message_type)type);
        for (size_t field = 0; field < shape->rule_count; field++) {
            const struct rule *rule = &shape->rules[field];
            start_body((enum message_type)type, false);
            ProtobufCMessage *body =
                protobuf_c_message_unpack(shape->descriptor, NULL, body_bytes.count, body_bytes.at);
            assert_non_null(body);
            const ProtobufCFieldDescriptor *at = &shape->descriptor->fields[field];
            bool list = at->label == PROTOBUF_C_LABEL_REPEATED;
            uint8_t *base = (uint8_t *)body;
            size_t count = 0;
            void *part = NULL;
            if (list) {
                memcpy(&count, base + at->quantifier_offset, sizeof count);
                memset(base + at->quantifier_offset, 0, sizeof count);
            } else if (at->type == PROTOBUF_C_TYPE_MESSAGE) {
                memcpy(&part, base + at->offset, sizeof part);
                memset(base + at->offset, 0, sizeof part);
            } else {
                memset(base + at->quantifier_offset, 0, sizeof(protobuf_c_boolean));
            }
            body_bytes.count = protobuf_c_message_pack(body, body_bytes.at);
            if (list)
                memcpy(base + at->quantifier_offset, &count, sizeof count);
            else if (part)
                memcpy(base + at->offset, &part, sizeof part);
            protobuf_c_message_free_unpacked(body, NULL);
            wrap_body((uint64_t)type);
            char text[160];
            struct message message;
            struct error error;
            if (list && rule->count_low == 0) {
                assert_int_equal(decode(message_bytes.at, message_bytes.count, &message, &error), STATUS_OK);
                continue;
            }
            if (list)
                snprintf(text, sizeof text, "%s: %s: expected 1..%u entries, found 0", shape->name, rule->name,
                         rule->count_high);
            else
                snprintf(text, sizeof text, "%s: %s: missing", shape->name, rule->name);
            expect_error(message_bytes.at, message_bytes.count, text);
        }
    }
}

static void test_unknown_fields(void **state) {
    (void)state;
    for (int type = 1; type < MESSAGE_TYPE_COUNT; type++) {
        char text[160];
        start_body((enum message_type)type, false);
        put_integer(&body_bytes, 99, 1);
        wrap_body((uint64_t)type);
        snprintf(text, sizeof text, "%s: field 99 is unknown", message_type_name((enum message_type)type));
        expect_error(message_bytes.at, message_bytes.count, text);
    }
}

/* A peer of another protocol version is recognized whatever else it says. */
static void test_other_protocol_version(void **state) {
    (void)state;
    static const enum message_type types[] = {MESSAGE_REGISTER, MESSAGE_RECOVER, MESSAGE_HELLO};
    static const uint64_t versions[] = {0, MESSAGE_PROTOCOL_VERSION - 1, MESSAGE_PROTOCOL_VERSION + 1, UINT32_MAX};
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 4; j++)
            for (int crowd = 0; crowd < 2; crowd++) {
                struct message expected, message;
                struct error error;
                memset(&expected, 0, sizeof expected);
                expected.type = types[i];
                if (types[i] == MESSAGE_REGISTER)
                    expected.body.reg.protocol_version = (uint32_t)versions[j];
                else if (types[i] == MESSAGE_RECOVER)
                    expected.body.recover.protocol_version = (uint32_t)versions[j];
                else
                    expected.body.hello.protocol_version = (uint32_t)versions[j];
                body_bytes.count = 0;
                put_integer(&body_bytes, 1, versions[j]);
                if (crowd) { /* other types under our numbers, new fields inside and outside */
                    put_integer(&body_bytes, 2, 1);
                    put_real(&body_bytes, 4, 1.5);
                    put_bytes(&body_bytes, 77, "new", 3);
                }
                wrap_body(types[i]);
                if (crowd)
                    put_integer(&message_bytes, 9, 9);
                if (decode(message_bytes.at, message_bytes.count, &message, &error) != STATUS_OK)
                    fail_msg("%s", error.text);
                assert_memory_equal(&message, &expected, sizeof expected);
            }
    static const char *const nexts[] = {"token_id", "certificate", "run_id"};
    for (size_t i = 0; i < 3; i++) {
        char text[160];
        const char *name = message_type_name(types[i]);
        body_bytes.count = 0;
        put_integer(&body_bytes, 1, UINT64_C(1) << 32);
        wrap_body(types[i]);
        snprintf(text, sizeof text, "%s: protocol_version: expected 3, found 4294967296", name);
        expect_error(message_bytes.at, message_bytes.count, text);
        body_bytes.count = 0;
        wrap_body(types[i]);
        snprintf(text, sizeof text, "%s: protocol_version: missing", name);
        expect_error(message_bytes.at, message_bytes.count, text);
        /* Our own version gets no such leave. */
        body_bytes.count = 0;
        put_integer(&body_bytes, 1, MESSAGE_PROTOCOL_VERSION);
        wrap_body(types[i]);
        snprintf(text, sizeof text, "%s: %s: missing", name, nexts[i]);
        expect_error(message_bytes.at, message_bytes.count, text);
    }
}

/* ---- our own side ---- */

static void test_encode_mends_texts_and_reals(void **state) {
    (void)state;
    struct message message, back;
    struct error error;
    fill(&message, MESSAGE_REFUSE, false);
    snprintf(message.body.refuse.text, sizeof message.body.refuse.text, "a\nb\x1b[1m \xc3\xa4 cut \xe2\x82");
    size_t count = wire_encode(&message, encoded);
    assert_int_equal(decode(encoded, count, &back, &error), STATUS_OK);
    assert_string_equal(back.body.refuse.text, "a?b?[1m \xc3\xa4 cut ??");

    fill(&message, MESSAGE_ADMIN_REPLY, false);
    message.body.admin_reply.text = "two\nlines \x01 \xff";
    count = wire_encode(&message, encoded);
    assert_int_equal(decode(encoded, count, &back, &error), STATUS_OK);
    assert_string_equal(back.body.admin_reply.text, "two\nlines ? ?");
    message.body.admin_reply.text = NULL;
    count = wire_encode(&message, encoded);
    assert_int_equal(decode(encoded, count, &back, &error), STATUS_OK);
    assert_string_equal(back.body.admin_reply.text, "");

    fill(&message, MESSAGE_TELEMETRY, false);
    message.body.telemetry.tokens_per_s = (double)INFINITY;
    message.body.telemetry.loss = (double)-INFINITY;
    count = wire_encode(&message, encoded);
    assert_int_equal(decode(encoded, count, &back, &error), STATUS_OK);
    assert_true(isnan(back.body.telemetry.tokens_per_s) && isnan(back.body.telemetry.loss));
}

static void expect_abort(const struct message *message) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        wire_encode(message, encoded);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_encode_checks_our_own_bugs(void **state) {
    (void)state;
    struct message message;
    fill(&message, MESSAGE_OFFER, false);
    message.body.offer.slot = 64;
    expect_abort(&message);
    fill(&message, MESSAGE_OFFER, false);
    message.body.offer.tokens_to = message.body.offer.tokens_from;
    expect_abort(&message);
    fill(&message, MESSAGE_COMMIT, false);
    message.body.commit.counted_count = 65;
    expect_abort(&message);
    fill(&message, MESSAGE_COMMIT, false);
    message.body.commit.totals[0].dropped = 1;
    expect_abort(&message);
    fill(&message, MESSAGE_SNAPSHOT, false);
    message.body.snapshot.commit.total_count = 65;
    expect_abort(&message);
    fill(&message, MESSAGE_STATE, false);
    message.body.state.heads[0].epoch = 1;
    expect_abort(&message);
    fill(&message, MESSAGE_HELLO, false);
    strcpy(message.body.hello.name, "a b");
    expect_abort(&message);
    fill(&message, MESSAGE_STOP, false);
    memset(message.body.text.text, 'x', sizeof message.body.text.text); /* no NUL */
    expect_abort(&message);
    static char too_long[MESSAGE_LONG_TEXT_MAX + 2];
    memset(too_long, 'x', sizeof too_long - 1);
    fill(&message, MESSAGE_WELCOME, true);
    message.body.welcome.run_text = too_long;
    expect_abort(&message);
    fill(&message, MESSAGE_PING, false);
    message.type = MESSAGE_TYPE_COUNT;
    expect_abort(&message);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip_of_every_type),
        cmocka_unit_test(test_full_lists_fit),
        cmocka_unit_test(test_rows_match_the_proto),
        cmocka_unit_test(test_bad_integers),
        cmocka_unit_test(test_bad_bytes_and_texts),
        cmocka_unit_test(test_bad_reals),
        cmocka_unit_test(test_bad_counted_lines),
        cmocka_unit_test(test_bad_totals),
        cmocka_unit_test(test_commits_that_are_fine),
        cmocka_unit_test(test_bad_heads),
        cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_bad_envelopes),
        cmocka_unit_test(test_missing_fields),
        cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_other_protocol_version),
        cmocka_unit_test(test_encode_mends_texts_and_reals),
        cmocka_unit_test(test_encode_checks_our_own_bugs),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
