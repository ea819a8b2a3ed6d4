/* wire_fields: the engine between plain structs and protobuf-c's, driven by the rows of wire_rules. It knows no message by name. */
#ifndef ATOLL_COMMS_WIRE_FIELDS_H
#define ATOLL_COMMS_WIRE_FIELDS_H

#include <stdbool.h>
#include "comms/wire_rules.h"

/* The bounded memory that protobuf-c gets: pieces of one borrowed block, all given back at once with the block. */
struct wire_room {
    uint8_t *base;
    size_t bytes;
    size_t used;
    bool exhausted; /* a piece was refused */
};
/* A piece of `bytes`, zeroed, 16-byte aligned; NULL when the room ends. */
void *wire_room_take(struct wire_room *room, size_t bytes);

/* wire_fields_unpack: hostile bytes -> protobuf-c's struct, in room. what: for the error text. Unknown fields are kept in it, for
 * the caller to judge. STATUS_DATA: not protobuf, or more memory needed than the room has. */
MUST_USE enum status wire_fields_unpack(const ProtobufCMessageDescriptor *descriptor, const char *what,
                                        const uint8_t *from, size_t bytes, struct wire_room *room,
                                        ProtobufCMessage **packed, struct error *error);

/* wire_fields_take: check every field of `packed` against its row and the relations between them, and fill the plain struct. Long
 * texts go to room. STATUS_DATA: "NAME: field: expected ..., found ..."; the plain struct is then half filled. */
MUST_USE enum status wire_fields_take(const struct shape *shape, const ProtobufCMessage *packed, struct wire_room *room,
                                      void *plain, struct error *error);

/* wire_fields_give: plain struct -> protobuf-c's, in room (or borrowed from plain), ready to pack. Texts are mended, infinite reals become
 * NaN. STATUS_DATA, in the same words as take: it breaks a row, which is our own bug. CHECKs the room. */
MUST_USE enum status wire_fields_give(const struct shape *shape, const void *plain, struct wire_room *room,
                                      ProtobufCMessage **packed, struct error *error);

#endif
