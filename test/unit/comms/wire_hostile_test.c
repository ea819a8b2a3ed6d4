/* Tests of comms/wire against hostile bytes: cut short, flipped, mutated at random, floods. A rejected message says why, nothing is read or
 * written out of bounds (run under the sanitizers), memory stays in the scratch, and what is let in can be said again. */
#include "unit/comms/wire_messages.h"

static void test_truncation_at_every_length(void **state) {
    (void)state;
    for (int type = 1; type < MESSAGE_TYPE_COUNT; type++)
        for (int most = 0; most < 2; most++) {
            struct message message, back;
            struct error error;
            fill(&message, (enum message_type)type, most);
            size_t count = wire_encode(&message, encoded);
            size_t stride = count > 8192 ? 509 : 1;
            for (size_t cut = 0; cut<count; cut += cut> 200 && cut + 600 < count ? stride : 1)
                assert_int_equal(decode(encoded, cut, &back, &error), STATUS_DATA);
        }
}

/* Whatever is let in can be said again and means the same; a foreign opening is not ours to say. */
static void try_bytes(const uint8_t *bytes, size_t count, unsigned *let_in) {
    static struct message message, again;
    static uint8_t other[MESSAGE_CONTROL_BYTES_MAX];
    static uint8_t other_scratch[WIRE_SCRATCH_BYTES];
    struct error error;
    enum status status = decode(bytes, count, &message, &error);
    if (status != STATUS_OK) {
        assert_int_equal(status, STATUS_DATA);
        assert_true(strlen(error.text) > 0);
        return;
    }
    *let_in += 1;
    if (message.type == MESSAGE_REGISTER && message.body.reg.protocol_version != MESSAGE_PROTOCOL_VERSION)
        return;
    if (message.type == MESSAGE_RECOVER && message.body.recover.protocol_version != MESSAGE_PROTOCOL_VERSION)
        return;
    if (message.type == MESSAGE_HELLO && message.body.hello.protocol_version != MESSAGE_PROTOCOL_VERSION)
        return;
    size_t other_count = wire_encode(&message, other);
    assert_int_equal(wire_decode(other, other_count, other_scratch, &again, &error), STATUS_OK);
    assert_same(&message, &again);
}

static void test_every_bit_flipped(void **state) {
    (void)state;
    unsigned let_in = 0;
    for (int type = 1; type < MESSAGE_TYPE_COUNT; type++) {
        struct message message;
        fill(&message, (enum message_type)type, false);
        static uint8_t bytes[4096];
        size_t count = wire_encode(&message, encoded);
        assert_true(count <= sizeof bytes);
        memcpy(bytes, encoded, count);
        for (size_t bit = 0; bit < 8 * count; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            try_bytes(bytes, count, &let_in);
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
    }
    assert_true(let_in > 1000);
}

static void test_random_mutations(void **state) {
    (void)state;
    static uint8_t bytes[MESSAGE_CONTROL_BYTES_MAX];
    unsigned let_in = 0;
    random_state = 20240607;
    for (int i = 0; i < 20000; i++) {
        struct message message;
        enum message_type type = (enum message_type)(1 + random_u64() % (MESSAGE_TYPE_COUNT - 1));
        /* the 60 kB texts only now and then: they take the time of many others */
        bool large = type == MESSAGE_WELCOME || type == MESSAGE_ADMIN_REQUEST || type == MESSAGE_ADMIN_REPLY;
        fill(&message, type, large ? random_u64() % 20 == 0 : random_u64() % 2);
        size_t count = wire_encode(&message, bytes);
        for (uint64_t n = 1 + random_u64() % 4; n > 0; n--)
            count = mutate(bytes, count, sizeof bytes);
        try_bytes(bytes, count, &let_in);
    }
    assert_true(let_in > 100);
}

/* 64 KiB of two-byte unknown fields would make protobuf-c allocate megabytes: the scratch is all it gets. */
static void test_hostile_unknown_fields(void **state) {
    (void)state;
    static uint8_t flood[MESSAGE_CONTROL_BYTES_MAX];
    for (size_t i = 0; i < sizeof flood; i += 2) {
        flood[i] = 15 << 3; /* field 15, varint */
        flood[i + 1] = 1;
    }
    expect_error(flood, sizeof flood,
                 "message: unpacking 65536 bytes needs more than the 262144 bytes of memory allowed");
    for (int type = 1; type < MESSAGE_TYPE_COUNT; type++) {
        body_bytes.count = 65500;
        memcpy(body_bytes.at, flood, body_bytes.count);
        /* where 15 is a field (TELEMETRY), the last one wins and nothing piles up */
        for (size_t i = 0; type == MESSAGE_TELEMETRY && i < body_bytes.count; i += 2)
            body_bytes.at[i] = 12 << 3 | 5;
        wrap_body((uint64_t)type);
        struct message message;
        struct error error;
        assert_int_equal(decode(message_bytes.at, message_bytes.count, &message, &error), STATUS_DATA);
        if (type != MESSAGE_TELEMETRY)
            assert_non_null(strstr(error.text, "needs more than the 262144 bytes of memory allowed"));
    }
    /* A packed list of 65000 entries, and 32000 lines, totals or heads that are empty. */
    start_body(MESSAGE_FINISH, false);
    memset(flood, 0, sizeof flood);
    put_bytes(&body_bytes, 1, flood, 65000);
    wrap_body(MESSAGE_FINISH);
    expect_error(message_bytes.at, message_bytes.count,
                 "FINISH: unpacking 65007 bytes needs more than the 262144 bytes of memory allowed");
    static const struct {
        enum message_type type;
        uint32_t field;
    } lists[] = {{MESSAGE_COMMIT, 8}, {MESSAGE_COMMIT, 9}, {MESSAGE_HELLO, 11}, {MESSAGE_STATE, 4}};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        start_body(lists[i].type, false);
        size_t before = body_bytes.count;
        while (body_bytes.count + 2 <= 65000)
            put_bytes(&body_bytes, lists[i].field, "", 0);
        assert_true(body_bytes.count > before + 60000);
        wrap_body(lists[i].type);
        struct message message;
        struct error error;
        assert_int_equal(decode(message_bytes.at, message_bytes.count, &message, &error), STATUS_DATA);
        assert_non_null(strstr(error.text, "needs more than the 262144 bytes of memory allowed"));
    }
}

/* The scratch may start anywhere; decoded texts end in it. */
static void test_scratch_of_any_alignment(void **state) {
    (void)state;
    struct message message, back;
    struct error error;
    fill(&message, MESSAGE_ADMIN_REPLY, true);
    size_t count = wire_encode(&message, encoded);
    uint8_t *room = malloc(WIRE_SCRATCH_BYTES + 16);
    assert_non_null(room);
    for (size_t shift = 0; shift < 16; shift++) {
        assert_int_equal(wire_decode(encoded, count, room + shift, &back, &error), STATUS_OK);
        assert_same(&message, &back);
        const uint8_t *text = (const uint8_t *)back.body.admin_reply.text;
        assert_true(text >= room + shift && text < room + shift + WIRE_SCRATCH_BYTES);
    }
    free(room);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncation_at_every_length), cmocka_unit_test(test_every_bit_flipped),
        cmocka_unit_test(test_random_mutations),           cmocka_unit_test(test_hostile_unknown_fields),
        cmocka_unit_test(test_scratch_of_any_alignment),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
