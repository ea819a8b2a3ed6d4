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

/* The tables, the descriptors and the plain structs agree on names; REGISTER and HELLO open with their version. */
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
        {MESSAGE_OFFER, 8, 0, "OFFER: payload_bytes: expected 1..281474976710655, found 0"},
        {MESSAGE_OFFER_REFUSED, 3, 6, "OFFER_REFUSED: code: expected 1..5, found 6"},
        {MESSAGE_GRANT, 1, 0, "GRANT: kind: expected 1..2, found 0"},
        {MESSAGE_GRANT, 1, 3, "GRANT: kind: expected 1..2, found 3"},
        {MESSAGE_GRANT, 2, 64, "GRANT: leader: expected 0..63, found 64"},
        {MESSAGE_GRANT, 5, 1, "GRANT: limit: expected offset 1 or more, found 0"},
        {MESSAGE_GRANT, 6, UINT64_C(1) << 48, "GRANT: limit: expected 0..281474976710655, found 281474976710656"},
        {MESSAGE_COMMIT, 5, 0, "COMMIT: version: expected 1..281474976710655, found 0"},
        {MESSAGE_COMMIT, 7, 0, "COMMIT: run_step: expected 1..281474976710655, found 0"},
        {MESSAGE_APPLIED, 1, 128, "APPLIED: fragment: expected 0..127, found 128"},
        {MESSAGE_TELEMETRY, 9, UINT64_C(1) << 63,
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
        {MESSAGE_OFFER, 9, 31, NULL, "OFFER: payload_hash: expected 32 bytes, found 31"},
        {MESSAGE_OFFER, 9, 33, NULL, "OFFER: payload_hash: expected 32 bytes, found 33"},
        {MESSAGE_OFFER, 9, 0, NULL, "OFFER: payload_hash: expected 32 bytes, found 0"},
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
    put_real(&body_bytes, 3, (double)INFINITY);
    wrap_body(MESSAGE_TELEMETRY);
    expect_error(message_bytes.at, message_bytes.count,
                 "TELEMETRY: loss: expected a finite number or NaN, found infinity");
    start_body(MESSAGE_FINAL, false);
    put_real(&body_bytes, 3, (double)-INFINITY);
    wrap_body(MESSAGE_FINAL);
    expect_error(message_bytes.at, message_bytes.count,
                 "FINAL: eval_loss: expected a finite number or NaN, found infinity");
}

static void put_counted(struct bytes *body, uint64_t slot, uint64_t base, uint64_t step, uint64_t from, uint64_t to) {
    static struct bytes line;
    line.count = 0;
    put_integer(&line, 1, slot);
    put_integer(&line, 2, 1);
    put_integer(&line, 3, base);
    put_integer(&line, 4, step);
    put_integer(&line, 5, from);
    put_integer(&line, 6, to);
    put_bytes(body, 8, line.at, line.count);
}

static void test_bad_lists(void **state) {
    (void)state;
    static const struct {
        uint64_t slot, base, step, from, to;
        const char *text; /* the least commit has version 1, run_step 1 and a line of slot 0 */
    } rows[] = {
        {64, 0, 1, 0, 1, "COMMIT: counted[1].slot: expected 0..63, found 64"},
        {0, 0, 1, 0, 1, "COMMIT: counted[1].slot: 0 is in the list already"},
        {1, 1, 1, 0, 1, "COMMIT: counted[1].base_version: expected below version 1, found 1"},
        {1, 0, 2, 0, 1, "COMMIT: counted[1].send_step: expected at most run_step 1, found 2"},
        {1, 0, 1, 5, 5, "COMMIT: counted[1].tokens_to: expected above tokens_from 5, found 5"},
        {1, 0, 0, 0, 1, "COMMIT: counted[1].send_step: expected 1..281474976710655, found 0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        start_body(MESSAGE_COMMIT, false);
        put_counted(&body_bytes, rows[i].slot, rows[i].base, rows[i].step, rows[i].from, rows[i].to);
        wrap_body(MESSAGE_COMMIT);
        expect_error(message_bytes.at, message_bytes.count, rows[i].text);
    }
    start_body(MESSAGE_COMMIT, true);
    put_counted(&body_bytes, 1, 1, 1, 0, 1);
    wrap_body(MESSAGE_COMMIT);
    expect_error(message_bytes.at, message_bytes.count, "COMMIT: counted: expected 1..64 entries, found 65");

    start_body(MESSAGE_COMMIT, false);
    put_bytes(&body_bytes, 8, "\x08\x01\x98\x06\x01", 5); /* slot 1, field 99 */
    wrap_body(MESSAGE_COMMIT);
    expect_error(message_bytes.at, message_bytes.count, "COMMIT: counted[1]: field 99 is unknown");
    start_body(MESSAGE_COMMIT, false);
    put_bytes(&body_bytes, 8, "\x08\x01", 2);
    wrap_body(MESSAGE_COMMIT);
    expect_error(message_bytes.at, message_bytes.count, "COMMIT: counted[1].incarnation: missing");

    start_body(MESSAGE_TELEMETRY, true);
    put_integer(&body_bytes, 13, 1); /* not packed: counts all the same */
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
}

static void test_bad_envelopes(void **state) {
    (void)state;
    static uint8_t large[MESSAGE_CONTROL_BYTES_MAX + 1];
    expect_error(large, sizeof large, "message: expected at most 65536 bytes, found 65537");
    expect_error(large, 0, "message: type: missing");
    expect_error((const uint8_t *)"\x00", 1, "message: not well-formed protobuf");

    start_body(MESSAGE_PING, false);
    wrap_body(0);
    expect_error(message_bytes.at, message_bytes.count, "message: type: expected 1..25, found 0");
    wrap_body(26);
    expect_error(message_bytes.at, message_bytes.count, "message: type: expected 1..25, found 26");
    wrap_body((UINT64_C(1) << 32) + MESSAGE_PING);
    expect_error(message_bytes.at, message_bytes.count, "message: type: expected 1..25, found 4294967305");
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
    static const enum message_type types[] = {MESSAGE_REGISTER, MESSAGE_HELLO};
    static const uint64_t versions[] = {0, 2, UINT32_MAX};
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < 3; j++)
            for (int crowd = 0; crowd < 2; crowd++) {
                struct message expected, message;
                struct error error;
                memset(&expected, 0, sizeof expected);
                expected.type = types[i];
                if (types[i] == MESSAGE_REGISTER)
                    expected.body.reg.protocol_version = (uint32_t)versions[j];
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
    body_bytes.count = 0;
    put_integer(&body_bytes, 1, UINT64_C(1) << 32);
    wrap_body(MESSAGE_HELLO);
    expect_error(message_bytes.at, message_bytes.count, "HELLO: protocol_version: expected 1, found 4294967296");
    body_bytes.count = 0;
    wrap_body(MESSAGE_HELLO);
    expect_error(message_bytes.at, message_bytes.count, "HELLO: protocol_version: missing");
    /* Our own version gets no such leave. */
    body_bytes.count = 0;
    put_integer(&body_bytes, 1, MESSAGE_PROTOCOL_VERSION);
    wrap_body(MESSAGE_HELLO);
    expect_error(message_bytes.at, message_bytes.count, "HELLO: run_id: missing");
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
        cmocka_unit_test(test_rows_match_the_proto),
        cmocka_unit_test(test_bad_integers),
        cmocka_unit_test(test_bad_bytes_and_texts),
        cmocka_unit_test(test_bad_reals),
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
