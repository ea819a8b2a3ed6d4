/* Chunk headers of the bulk link. The input is one header frame. Its checksum keeps mutations out, so it is tried a
 * second time with the magic, version, length and checksum that a peer would write. */
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "comms/wire.h"
#include "fuzz/fuzz.h"

enum { FIXED_BYTES = 16, AT_VERSION = 4, AT_PROTOBUF_BYTES = 6, AT_CRC = 12 };

/* CRC32C bit by bit, as RFC 3720 has it: not the code under test. */
static uint32_t crc32c(uint32_t crc, const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return crc;
}

static void try_header(const uint8_t *data, size_t size) {
    struct error error = {0};
    struct chunk chunk, again;
    memset(&chunk, 0xa5, sizeof chunk);
    again = chunk;
    enum status status = wire_decode_chunk(data, size, &chunk, &error);
    if (status != STATUS_OK) {
        CHECK(status == STATUS_DATA && memcmp(&chunk, &again, sizeof chunk) == 0);
        fuzz_check_refusal(status, &error);
        return;
    }
    CHECK(chunk.bytes >= 1 && chunk.bytes <= MESSAGE_CHUNK_BYTES_MAX && chunk.key.fragment < MESSAGE_FRAGMENTS_MAX &&
          chunk.key.kind >= 1 && chunk.key.kind < TRANSFER_KIND_COUNT);
    uint8_t encoded[WIRE_CHUNK_HEADER_BYTES_MAX];
    size_t bytes = wire_encode_chunk(&chunk, encoded);
    CHECK(wire_decode_chunk(encoded, bytes, &again, &error) == STATUS_OK);
    CHECK(again.session == chunk.session && again.key.kind == chunk.key.kind && again.key.leader == chunk.key.leader &&
          again.key.fragment == chunk.key.fragment && again.key.version == chunk.key.version &&
          again.offset == chunk.offset && again.bytes == chunk.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_header(data, size);
    if (size < FIXED_BYTES || size > WIRE_CHUNK_HEADER_BYTES_MAX)
        return 0;
    uint8_t mended[WIRE_CHUNK_HEADER_BYTES_MAX];
    memcpy(mended, data, size);
    memcpy(mended, "ATCH", 4);
    bytes_store_u16(mended + AT_VERSION, MESSAGE_PROTOCOL_VERSION);
    bytes_store_u16(mended + AT_PROTOBUF_BYTES, (uint16_t)(size - FIXED_BYTES));
    uint32_t crc = crc32c(UINT32_MAX, mended, AT_CRC);
    bytes_store_u32(mended + AT_CRC, ~crc32c(crc, mended + FIXED_BYTES, size - FIXED_BYTES));
    try_header(mended, size);
    return 0;
}
