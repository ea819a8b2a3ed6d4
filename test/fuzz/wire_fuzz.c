/* Control messages: whatever the bytes are, wire_decode answers with a status; what it takes encodes again, to the
 * bytes that protobuf-c alone makes of it, and decodes to the same. The input is one frame; and, since
 * a length within a length is hard to hit, it is tried a second time as u8 type and the body in a good envelope. */
#include <string.h>
#include "base/check.h"
#include "comms/wire.h"
#include "comms/wire_rules.h"
#include "fuzz/fuzz.h"
#include "wire.pb-c.h"

static uint8_t scratch[2][WIRE_SCRATCH_BYTES];
static struct message messages[2];
static uint8_t encoded[2][MESSAGE_CONTROL_BYTES_MAX];

/* Where a message of this type holds its borrowed text; NULL: it has none. */
static const char **long_text(struct message *message) {
    switch (message->type) {
    case MESSAGE_WELCOME:
        return &message->body.welcome.run_text;
    case MESSAGE_ADMIN_REQUEST:
        return &message->body.admin_request.text;
    case MESSAGE_ADMIN_REPLY:
        return &message->body.admin_reply.text;
    default:
        return NULL;
    }
}

/* Of another protocol version only type and version are told; it cannot be encoded. */
static bool is_foreign(const struct message *message) {
    switch (message->type) {
    case MESSAGE_REGISTER:
        return message->body.reg.protocol_version != MESSAGE_PROTOCOL_VERSION;
    case MESSAGE_RECOVER:
        return message->body.recover.protocol_version != MESSAGE_PROTOCOL_VERSION;
    case MESSAGE_HELLO:
        return message->body.hello.protocol_version != MESSAGE_PROTOCOL_VERSION;
    default:
        return false;
    }
}

static void check_equal(struct message *a, struct message *b) {
    const char **text_a = long_text(a), **text_b = long_text(b);
    CHECK(a->type == b->type && (text_a == NULL) == (text_b == NULL));
    if (text_a != NULL) {
        CHECK(strcmp(*text_a, *text_b) == 0 && strlen(*text_a) <= MESSAGE_LONG_TEXT_MAX);
        *text_a = *text_b = NULL;
    }
    CHECK(memcmp(a, b, sizeof *a) == 0); /* both were zeroed before they were filled */
}

/* The same frame by protobuf-c alone, packed again: what was taken must be all that was said. */
static void check_nothing_was_cut(const uint8_t *data, size_t size, const uint8_t *ours, size_t ours_bytes) {
    static uint8_t body_bytes[MESSAGE_CONTROL_BYTES_MAX], theirs[MESSAGE_CONTROL_BYTES_MAX];
    Wire__Envelope *envelope = wire__envelope__unpack(NULL, size, data);
    CHECK(envelope != NULL);
    const ProtobufCMessageDescriptor *descriptor = wire_rules_body((enum message_type)envelope->type)->descriptor;
    ProtobufCMessage *body = protobuf_c_message_unpack(descriptor, NULL, envelope->body.len, envelope->body.data);
    CHECK(body != NULL && protobuf_c_message_get_packed_size(body) <= sizeof body_bytes);
    Wire__Envelope again = *envelope;
    again.body = (ProtobufCBinaryData){protobuf_c_message_pack(body, body_bytes), body_bytes};
    CHECK(wire__envelope__get_packed_size(&again) == ours_bytes && wire__envelope__pack(&again, theirs) == ours_bytes);
    CHECK(memcmp(ours, theirs, ours_bytes) == 0);
    protobuf_c_message_free_unpacked(body, NULL);
    wire__envelope__free_unpacked(envelope, NULL);
}

static void try_frame(const uint8_t *data, size_t size) {
    struct error error = {0};
    memset(&messages[0], 0xa5, sizeof messages[0]);
    memset(&messages[1], 0xa5, sizeof messages[1]);
    enum status status = wire_decode(data, size, scratch[0], &messages[0], &error);
    if (status != STATUS_OK) {
        CHECK(status == STATUS_DATA && memcmp(&messages[0], &messages[1], sizeof messages[0]) == 0);
        fuzz_check_refusal(status, &error);
        return;
    }
    CHECK(strcmp(message_type_name(messages[0].type), "?") != 0);
    if (is_foreign(&messages[0]))
        return;
    size_t bytes = wire_encode(&messages[0], encoded[0]);
    CHECK(wire_decode(encoded[0], bytes, scratch[1], &messages[1], &error) == STATUS_OK);
    CHECK(wire_encode(&messages[1], encoded[1]) == bytes && memcmp(encoded[0], encoded[1], bytes) == 0);
    check_equal(&messages[0], &messages[1]);
    check_nothing_was_cut(data, size, encoded[0], bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_frame(data, size);
    if (size == 0 || size > MESSAGE_CONTROL_BYTES_MAX / 2)
        return 0;
    static uint8_t frame[MESSAGE_CONTROL_BYTES_MAX];
    Wire__Envelope envelope = WIRE__ENVELOPE__INIT;
    envelope.has_type = envelope.has_leader = envelope.has_session = envelope.has_body = 1;
    envelope.type = data[0] % MESSAGE_TYPE_COUNT;
    envelope.session = 7;
    envelope.body = (ProtobufCBinaryData){size - 1, (uint8_t *)(uintptr_t)data + 1}; /* only read */
    try_frame(frame, wire__envelope__pack(&envelope, frame));
    return 0;
}
