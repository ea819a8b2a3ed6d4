/* wire: messages and chunk headers <-> bytes (protobuf-c, comms/wire.proto). Everything that comes from a peer is hostile until
 * checked here: size before unpacking, bounded allocator, no unknown fields, every field's presence, range, length, charset. */
#ifndef ATOLL_COMMS_WIRE_H
#define ATOLL_COMMS_WIRE_H

#include "base/status.h"
#include "comms/message.h"

/* wire_encode: message -> at most MESSAGE_CONTROL_BYTES_MAX bytes at `to`. Returns the byte count. CHECKs what only a bug could break
 * (a text too long, a count out of range). */
size_t wire_encode(const struct message *message, uint8_t *to);

/* wire_decode: bytes -> message. Long texts point into `scratch` (WIRE_SCRATCH_BYTES, caller's), valid as long as it is untouched.
 * STATUS_DATA: the text names message type, field and value; count it, drop it. */
enum { WIRE_SCRATCH_BYTES = 4 * 65536 };
MUST_USE enum status wire_decode(const uint8_t *from, size_t bytes, uint8_t *scratch, struct message *message, struct error *error);

/* Chunk header on the bulk link: a fixed part (magic, version, length, CRC32C of what follows) and a protobuf part. A chunk is one
 * multipart message [routing id on the ROUTER side][header][payload]. */
enum { WIRE_CHUNK_HEADER_BYTES_MAX = 128 };
size_t wire_encode_chunk(const struct chunk *chunk, uint8_t *to);
MUST_USE enum status wire_decode_chunk(const uint8_t *from, size_t bytes, struct chunk *chunk, struct error *error);

#endif
