/* Tests of comms/wire_chunk: the header of a chunk there and back, damage, and bad content behind a right checksum. */
#include "unit/comms/wire_messages.h"

#include "base/bytes.h"

static struct chunk chunk_of(bool most) {
    struct chunk chunk;
    memset(&chunk, 0, sizeof chunk);
    chunk.session = most ? UINT64_MAX : 0;
    chunk.key.kind = most ? TRANSFER_SNAPSHOT : TRANSFER_CONTRIBUTION;
    chunk.key.leader = most ? 63 : 0;
    chunk.key.fragment = most ? 127 : 0;
    chunk.key.version = most ? COUNT_MAX : 0;
    chunk.offset = most ? COUNT_MAX : 0;
    chunk.bytes = most ? MESSAGE_CHUNK_BYTES_MAX : 1;
    return chunk;
}

/* Bit by bit, as in RFC 3720; checked against its well-known value for "123456789". */
static uint32_t crc32c(const uint8_t *bytes, size_t count, uint32_t crc) {
    for (size_t i = 0; i < 8 * count; i++) {
        crc ^= bytes[i / 8] >> i % 8 & 1u;
        crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

static void seal(uint8_t *header, size_t count) {
    bytes_store_u16(header + 6, (uint16_t)(count - 16));
    bytes_store_u32(header + 12, ~crc32c(header + 16, count - 16, crc32c(header, 12, UINT32_MAX)));
}

static void test_chunk_round_trip(void **state) {
    (void)state;
    assert_int_equal(~crc32c((const uint8_t *)"123456789", 9, UINT32_MAX), 0xe3069283);
    for (int most = 0; most < 2; most++) {
        uint8_t header[WIRE_CHUNK_HEADER_BYTES_MAX], sealed[WIRE_CHUNK_HEADER_BYTES_MAX];
        struct chunk chunk = chunk_of(most), back;
        struct error error;
        size_t count = wire_encode_chunk(&chunk, header);
        assert_true(count <= WIRE_CHUNK_HEADER_BYTES_MAX);
        memcpy(sealed, header, count);
        seal(sealed, count);
        assert_memory_equal(header, sealed, count);
        assert_memory_equal(header, "ATCH\x03\x00", 6);
        assert_int_equal(wire_decode_chunk(header, count, &back, &error), STATUS_OK);
        assert_memory_equal(&back, &chunk, sizeof chunk);
    }
}

static void expect_chunk_error(const uint8_t *header, size_t count, const char *text) {
    struct chunk chunk;
    struct error error;
    memset(&chunk, 0x5a, sizeof chunk);
    struct chunk before = chunk;
    assert_int_equal(wire_decode_chunk(header, count, &chunk, &error), STATUS_DATA);
    assert_string_equal(error.text, text);
    assert_memory_equal(&chunk, &before, sizeof chunk);
}

static void test_bad_chunk_headers(void **state) {
    (void)state;
    uint8_t good[WIRE_CHUNK_HEADER_BYTES_MAX + 1], bad[WIRE_CHUNK_HEADER_BYTES_MAX + 1];
    struct chunk chunk = chunk_of(false);
    size_t count = wire_encode_chunk(&chunk, good);

    memset(bad, 0, sizeof bad);
    expect_chunk_error(bad, 15, "chunk: expected a header of 16..128 bytes, found 15");
    expect_chunk_error(bad, 129, "chunk: expected a header of 16..128 bytes, found 129");
    memcpy(bad, good, sizeof good);
    bad[0] = 'B';
    expect_chunk_error(bad, count, "chunk: magic: expected 0x48435441, found 0x48435442");
    memcpy(bad, good, sizeof good);
    bad[4] = 1;
    expect_chunk_error(bad, count, "chunk: protocol_version: expected 3, found 1");
    memcpy(bad, good, sizeof good);
    bad[6]++;
    expect_chunk_error(bad, count, "chunk: protobuf_bytes: expected 12, found 13");

    /* A right checksum does not excuse what is inside. */
    memcpy(bad, good, sizeof good);
    bytes_store_u32(bad + 8, 0);
    seal(bad, count);
    expect_chunk_error(bad, count, "chunk: payload_bytes: expected 1..262144, found 0");
    bytes_store_u32(bad + 8, MESSAGE_CHUNK_BYTES_MAX + 1);
    seal(bad, count);
    expect_chunk_error(bad, count, "chunk: payload_bytes: expected 1..262144, found 262145");
    memcpy(bad, good, sizeof good);
    bad[19] = 4; /* the fields of the least chunk are two bytes each: kind */
    seal(bad, count);
    expect_chunk_error(bad, count, "chunk: kind: expected 1..3, found 4");
    memcpy(bad, good, sizeof good);
    seal(bad, count - 2);
    expect_chunk_error(bad, count - 2, "chunk: offset: missing");
    memcpy(bad, good, count);
    bad[count] = 9 << 3;
    bad[count + 1] = 0;
    seal(bad, count + 2);
    expect_chunk_error(bad, count + 2, "chunk: field 9 is unknown");
    for (size_t i = 16; i < 128; i += 2) {
        bad[i] = 9 << 3;
        bad[i + 1] = 0;
    }
    seal(bad, 128);
    struct error error;
    assert_int_equal(wire_decode_chunk(bad, 128, &chunk, &error), STATUS_DATA);
}

static void test_chunk_damage_is_noticed(void **state) {
    (void)state;
    for (int most = 0; most < 2; most++) {
        uint8_t header[WIRE_CHUNK_HEADER_BYTES_MAX];
        struct chunk chunk = chunk_of(most), back;
        struct error error;
        size_t count = wire_encode_chunk(&chunk, header);
        for (size_t bit = 0; bit < 8 * count; bit++) {
            header[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(wire_decode_chunk(header, count, &back, &error), STATUS_DATA);
            header[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t cut = 0; cut < count; cut++) {
            uint8_t *exact = malloc(cut ? cut : 1);
            assert_non_null(exact);
            memcpy(exact, header, cut);
            assert_int_equal(wire_decode_chunk(exact, cut, &back, &error), STATUS_DATA);
            free(exact);
        }
    }
    random_state = 7;
    for (int i = 0; i < 20000; i++) { /* behind a right checksum */
        uint8_t header[WIRE_CHUNK_HEADER_BYTES_MAX];
        struct chunk chunk = chunk_of(i % 2), back;
        struct error error;
        size_t count = wire_encode_chunk(&chunk, header);
        count = 16 + mutate(header + 16, count - 16, sizeof header - 16);
        seal(header, count);
        if (wire_decode_chunk(header, count, &back, &error) == STATUS_OK)
            assert_true(wire_encode_chunk(&back, header) <= sizeof header);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunk_round_trip),
        cmocka_unit_test(test_bad_chunk_headers),
        cmocka_unit_test(test_chunk_damage_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
