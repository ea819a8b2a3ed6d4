/* wire: control messages <-> bytes, in two steps: the envelope, then the body that its type names. */
#include "comms/wire.h"

#include <stdio.h>
#include <string.h>
#include "base/check.h"
#include "comms/wire_fields.h"
#include "wire.pb-c.h"

/* What an encode takes at most: the body's bytes, a mended copy of its texts, protobuf-c's structs (the most are COMMIT's two
 * lists of 64 lines, 17 KiB). */
enum { ENCODE_ROOM_BYTES = 2 * MESSAGE_CONTROL_BYTES_MAX + 20480 };

const char *message_type_name(enum message_type type) {
    return (int)type >= 1 && type < MESSAGE_TYPE_COUNT ? wire_rules_body(type)->name : "?";
}

static void check_own(enum status status, const struct error *error) {
    if (status != STATUS_OK)
        fprintf(stderr, "wire_encode: %s\n", error->text);
    CHECK(status == STATUS_OK);
}

size_t wire_encode(const struct message *message, uint8_t *to) {
    uint8_t memory[ENCODE_ROOM_BYTES];
    struct wire_room room = {.base = memory, .bytes = sizeof memory};
    struct error error;
    ProtobufCMessage *packed;
    check_own(wire_fields_give(&wire_rules_envelope, message, &room, &packed, &error), &error);
    Wire__Envelope *envelope = (Wire__Envelope *)packed;

    ProtobufCMessage *body;
    check_own(wire_fields_give(wire_rules_body(message->type), &message->body, &room, &body, &error), &error);
    size_t body_bytes = protobuf_c_message_get_packed_size(body);
    CHECK(body_bytes <= MESSAGE_CONTROL_BYTES_MAX);
    envelope->has_body = 1;
    envelope->body.len = body_bytes;
    envelope->body.data = wire_room_take(&room, body_bytes);
    CHECK(envelope->body.data != NULL);
    protobuf_c_message_pack(body, envelope->body.data);

    CHECK(wire__envelope__get_packed_size(envelope) <= MESSAGE_CONTROL_BYTES_MAX);
    return wire__envelope__pack(envelope, to);
}

/* The version that REGISTER, RECOVER and HELLO open with, before anything else of them is judged. */
static enum status read_opening(const char *name, const ProtobufCBinaryData *body, struct wire_room room,
                                uint32_t *version, struct error *error) {
    ProtobufCMessage *packed;
    enum status status =
        wire_fields_unpack(&wire__opening__descriptor, name, body->data, body->len, &room, &packed, error);
    if (status != STATUS_OK)
        return status;
    const Wire__Opening *opening = (const Wire__Opening *)packed;
    if (!opening->has_protocol_version)
        return error_set(error, STATUS_DATA, "%s: protocol_version: missing", name);
    if (opening->protocol_version > UINT32_MAX)
        return error_set(error, STATUS_DATA, "%s: protocol_version: expected %d, found %llu", name,
                         MESSAGE_PROTOCOL_VERSION, (unsigned long long)opening->protocol_version);
    *version = (uint32_t)opening->protocol_version;
    return STATUS_OK;
}

/* Sets *foreign when the message opens a talk in another protocol version; `message` then holds that version. */
static enum status recognize_foreign(const Wire__Envelope *envelope, const struct wire_room *room,
                                     struct message *message, bool *foreign, struct error *error) {
    *foreign = false;
    bool opens =
        envelope->has_type && envelope->has_body &&
        (envelope->type == MESSAGE_REGISTER || envelope->type == MESSAGE_RECOVER || envelope->type == MESSAGE_HELLO);
    if (!opens)
        return STATUS_OK;
    enum message_type type = (enum message_type)envelope->type;
    uint32_t version = 0;
    enum status status = read_opening(message_type_name(type), &envelope->body, *room, &version, error);
    if (status != STATUS_OK || version == MESSAGE_PROTOCOL_VERSION)
        return status;
    *foreign = true;
    message->type = type;
    if (type == MESSAGE_REGISTER)
        message->body.reg.protocol_version = version;
    else if (type == MESSAGE_RECOVER)
        message->body.recover.protocol_version = version;
    else
        message->body.hello.protocol_version = version;
    return STATUS_OK;
}

static enum status decode_body(const Wire__Envelope *envelope, struct wire_room *room, struct message *message,
                               struct error *error) {
    const struct shape *shape = wire_rules_body(message->type);
    if (!envelope->has_body)
        return error_set(error, STATUS_DATA, "%s: the body is missing", shape->name);
    ProtobufCMessage *packed;
    enum status status = wire_fields_unpack(shape->descriptor, shape->name, envelope->body.data, envelope->body.len,
                                            room, &packed, error);
    if (status != STATUS_OK)
        return status;
    return wire_fields_take(shape, packed, room, &message->body, error);
}

enum status wire_decode(const uint8_t *from, size_t bytes, uint8_t *scratch, struct message *message,
                        struct error *error) {
    if (bytes > MESSAGE_CONTROL_BYTES_MAX)
        return error_set(error, STATUS_DATA, "message: expected at most %d bytes, found %zu", MESSAGE_CONTROL_BYTES_MAX,
                         bytes);
    struct wire_room room = {.base = scratch, .bytes = WIRE_SCRATCH_BYTES};
    ProtobufCMessage *packed;
    enum status status = wire_fields_unpack(&wire__envelope__descriptor, "message", from, bytes, &room, &packed, error);
    if (status != STATUS_OK)
        return status;
    const Wire__Envelope *envelope = (const Wire__Envelope *)packed;

    struct message made;
    memset(&made, 0, sizeof made);
    bool foreign;
    status = recognize_foreign(envelope, &room, &made, &foreign, error);
    if (status == STATUS_OK && !foreign)
        status = wire_fields_take(&wire_rules_envelope, packed, &room, &made, error);
    if (status == STATUS_OK && !foreign)
        status = decode_body(envelope, &room, &made, error);
    if (status == STATUS_OK)
        *message = made;
    return status;
}
