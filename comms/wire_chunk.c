/* wire_chunk: the header of a chunk on the bulk link <-> bytes. Little-endian:
 *
 *   0      4        6              8               12      16
 *   +------+--------+--------------+---------------+-------+-----------------------------+
 *   | magic| version| protobuf     | payload       | CRC32C| protobuf part: ChunkHeader  |
 *   | ATCH | 2      | bytes        | bytes         |       | (comms/wire.proto)          |
 *   +------+--------+--------------+---------------+-------+-----------------------------+
 *
 * The CRC32C (Castagnoli, as in iSCSI, RFC 3720) is over bytes 0..11 and the protobuf part. It guards against our own mistakes and plain-text
 * links; against people CURVE does. */
#include "comms/wire.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "comms/wire_fields.h"

enum {
    CHUNK_MAGIC = 0x48435441, /* "ATCH" */
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_PROTOBUF_BYTES = 6,
    AT_PAYLOAD_BYTES = 8,
    AT_CRC = 12,
    FIXED_BYTES = 16,
    PROTOBUF_BYTES_MAX = WIRE_CHUNK_HEADER_BYTES_MAX - FIXED_BYTES,
    ROOM_BYTES = 4096,
};

/* One nibble at a time: 16 entries of the reflected polynomial 0x82f63b78. Headers are short, 64 bytes of table are enough. */
static uint32_t crc32c_add(uint32_t crc, const uint8_t *bytes, size_t count) {
    static const uint32_t table[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return crc;
}

static uint32_t header_crc(const uint8_t *header, size_t protobuf_bytes) {
    uint32_t crc = crc32c_add(UINT32_MAX, header, AT_CRC);
    return ~crc32c_add(crc, header + FIXED_BYTES, protobuf_bytes);
}

size_t wire_encode_chunk(const struct chunk *chunk, uint8_t *to) {
    CHECK(chunk->bytes >= 1 && chunk->bytes <= MESSAGE_CHUNK_BYTES_MAX);
    uint8_t memory[ROOM_BYTES];
    struct wire_room room = {.base = memory, .bytes = sizeof memory};
    struct error error;
    ProtobufCMessage *packed;
    enum status status = wire_fields_give(&wire_rules_chunk, chunk, &room, &packed, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "wire_encode_chunk: %s\n", error.text);
    CHECK(status == STATUS_OK);
    size_t protobuf_bytes = protobuf_c_message_get_packed_size(packed);
    CHECK(protobuf_bytes <= PROTOBUF_BYTES_MAX);
    protobuf_c_message_pack(packed, to + FIXED_BYTES);
    bytes_store_u32(to + AT_MAGIC, CHUNK_MAGIC);
    bytes_store_u16(to + AT_VERSION, MESSAGE_PROTOCOL_VERSION);
    bytes_store_u16(to + AT_PROTOBUF_BYTES, (uint16_t)protobuf_bytes);
    bytes_store_u32(to + AT_PAYLOAD_BYTES, chunk->bytes);
    bytes_store_u32(to + AT_CRC, header_crc(to, protobuf_bytes));
    return FIXED_BYTES + protobuf_bytes;
}

/* The fixed part, up to the checksum: everything that must hold before the protobuf part may be looked at. */
static enum status check_fixed(const uint8_t *from, size_t bytes, struct error *error) {
    if (bytes < FIXED_BYTES || bytes > WIRE_CHUNK_HEADER_BYTES_MAX)
        return error_set(error, STATUS_DATA, "chunk: expected a header of %d..%d bytes, found %zu", FIXED_BYTES,
                         WIRE_CHUNK_HEADER_BYTES_MAX, bytes);
    if (bytes_load_u32(from + AT_MAGIC) != CHUNK_MAGIC)
        return error_set(error, STATUS_DATA, "chunk: magic: expected 0x%08x, found 0x%08x", (unsigned)CHUNK_MAGIC,
                         (unsigned)bytes_load_u32(from + AT_MAGIC));
    if (bytes_load_u16(from + AT_VERSION) != MESSAGE_PROTOCOL_VERSION)
        return error_set(error, STATUS_DATA, "chunk: protocol_version: expected %d, found %u", MESSAGE_PROTOCOL_VERSION,
                         (unsigned)bytes_load_u16(from + AT_VERSION));
    if (bytes_load_u16(from + AT_PROTOBUF_BYTES) != bytes - FIXED_BYTES)
        return error_set(error, STATUS_DATA, "chunk: protobuf_bytes: expected %zu, found %u", bytes - FIXED_BYTES,
                         (unsigned)bytes_load_u16(from + AT_PROTOBUF_BYTES));
    uint32_t crc = header_crc(from, bytes - FIXED_BYTES);
    if (bytes_load_u32(from + AT_CRC) != crc)
        return error_set(error, STATUS_DATA, "chunk: crc: expected 0x%08x, found 0x%08x", (unsigned)crc,
                         (unsigned)bytes_load_u32(from + AT_CRC));
    return STATUS_OK;
}

enum status wire_decode_chunk(const uint8_t *from, size_t bytes, struct chunk *chunk, struct error *error) {
    enum status status = check_fixed(from, bytes, error);
    if (status != STATUS_OK)
        return status;
    uint8_t memory[ROOM_BYTES];
    struct wire_room room = {.base = memory, .bytes = sizeof memory};
    ProtobufCMessage *packed;
    status = wire_fields_unpack(wire_rules_chunk.descriptor, wire_rules_chunk.name, from + FIXED_BYTES,
                                bytes - FIXED_BYTES, &room, &packed, error);
    if (status != STATUS_OK)
        return status;
    struct chunk made;
    memset(&made, 0, sizeof made);
    status = wire_fields_take(&wire_rules_chunk, packed, &room, &made, error);
    if (status != STATUS_OK)
        return status;
    made.bytes = bytes_load_u32(from + AT_PAYLOAD_BYTES);
    if (made.bytes < 1 || made.bytes > MESSAGE_CHUNK_BYTES_MAX)
        return error_set(error, STATUS_DATA, "chunk: payload_bytes: expected 1..%d, found %u", MESSAGE_CHUNK_BYTES_MAX,
                         (unsigned)made.bytes);
    *chunk = made;
    return STATUS_OK;
}
