/* wire: messages and chunk headers <-> bytes (protobuf-c, comms/wire.proto). Everything that comes from a peer is hostile until
 * checked here: size before unpacking, bounded allocator, no unknown fields, every field's presence, range, length, charset
 * (comms/wire_rules.c has them in one table).
 *
 * A control message is one frame: Envelope{type, leader, session, body}, body being the packed message of that type.
 *
 * Peers of another protocol version: the version is in field 1 of REGISTER, RECOVER and HELLO, the first that a peer says. When it
 * differs from MESSAGE_PROTOCOL_VERSION, wire_decode succeeds whatever else the message holds, with type and protocol_version filled
 * in and all the rest zero, so that the outer can refuse with both values. Whoever handles one of the three looks at the version first.
 * The envelope, that field and REFUSE are frozen for all versions, so that the refusal can be read. */
#ifndef ATOLL_COMMS_WIRE_H
#define ATOLL_COMMS_WIRE_H

#include "base/status.h"
#include "comms/message.h"

/* wire_encode: message -> at most MESSAGE_CONTROL_BYTES_MAX bytes at `to`. Returns the byte count. CHECKs what only a bug could break
 * (a number out of range, a text too long, a bad name, a missing counted line), and
 * says on stderr what it was. What the environment may bring is mended instead: in texts, a control character or broken UTF-8 (a cut
 * in the middle of a character) becomes '?'; an infinite real becomes NaN; a NULL long text is "". No allocation; 150 KiB of stack. */
size_t wire_encode(const struct message *message, uint8_t *to);

/* wire_decode: bytes -> message. Long texts point into `scratch` (WIRE_SCRATCH_BYTES, caller's, any alignment), valid as long as it is
 * untouched; `from` is not kept. Reals may be NaN (unknown), never infinite. No other memory is taken.
 * STATUS_DATA: the text names message type, field and value; count it, drop it; message is as it was. */
enum { WIRE_SCRATCH_BYTES = 4 * 65536 };
MUST_USE enum status wire_decode(const uint8_t *from, size_t bytes, uint8_t *scratch, struct message *message,
                                 struct error *error);

/* Chunk header on the bulk link: a fixed part (magic, version, lengths, CRC32C of all the rest of the header) and a protobuf part. A chunk is
 * one multipart message [routing id on the ROUTER side][header][payload]. Whoever holds the payload frame compares its size with
 * chunk.bytes, which is 1..MESSAGE_CHUNK_BYTES_MAX; the payload itself is covered by the transfer's hash.
 * STATUS_DATA as above (another version is named with both values). encode CHECKs as above. */
enum { WIRE_CHUNK_HEADER_BYTES_MAX = 128 };
size_t wire_encode_chunk(const struct chunk *chunk, uint8_t *to);
MUST_USE enum status wire_decode_chunk(const uint8_t *from, size_t bytes, struct chunk *chunk, struct error *error);

#endif
