/* Seeds of wire and wire_chunk: each type of message at its least, and with every field large but its lists and long
 * texts short. */
#include "unit/comms/wire_messages.h"
#include "fuzz/seeds.h"

/* What makes a large message long says nothing to a decoder that a short list does not. */
static void shorten(struct message *message) {
    struct commit *commit = message->type == MESSAGE_SNAPSHOT ? &message->body.snapshot.commit
                            : message->type == MESSAGE_COMMIT ? &message->body.commit
                                                              : NULL;
    if (commit != NULL) {
        commit->total_count = 2;
        commit->counted_count = 1;
        commit->counted[0].slot = 1;
    }
    if (message->type == MESSAGE_HELLO)
        message->body.hello.head_count = 2;
    if (message->type == MESSAGE_STATE)
        message->body.state.head_count = 2;
    if (message->type == MESSAGE_FINISH)
        message->body.finish.version_count = 3;
    if (message->type == MESSAGE_TELEMETRY)
        message->body.telemetry.version_count = 3;
}

static void seeds_wire(void) {
    static struct message message;
    strcpy(long_text, "name: run\nmodel: {layers: 2}\n\xc3\xa4\xe2\x82\xac\xf0\x9f\x8f\x9d");
    for (int type = 1; type < MESSAGE_TYPE_COUNT; type++)
        for (int most = 0; most < 2; most++) {
            char name[64];
            fill(&message, (enum message_type)type, most);
            if (most)
                shorten(&message);
            size_t bytes = wire_encode(&message, encoded);
            snprintf(name, sizeof name, "%s-%s", message_type_name((enum message_type)type), most ? "large" : "small");
            seed_write("wire", name, encoded, bytes);
        }
    for (int type = 1; type < MESSAGE_TYPE_COUNT; type++) { /* the body alone, behind its type */
        char name[64];
        fill(&message, (enum message_type)type, true);
        shorten(&message);
        Wire__Envelope *envelope = wire__envelope__unpack(NULL, wire_encode(&message, encoded), encoded);
        assert_non_null(envelope);
        encoded[0] = (uint8_t)type;
        memcpy(encoded + 1, envelope->body.data, envelope->body.len);
        snprintf(name, sizeof name, "%s-body", message_type_name((enum message_type)type));
        seed_write("wire", name, encoded, 1 + envelope->body.len);
        wire__envelope__free_unpacked(envelope, NULL);
    }
    fill(&message, MESSAGE_REGISTER, false);
    size_t bytes = wire_encode(&message, encoded);
    static const uint8_t version_field[] = {1 << 3, MESSAGE_PROTOCOL_VERSION}; /* the first of the body */
    uint8_t *version = memmem(encoded, bytes, version_field, sizeof version_field);
    assert_non_null(version);
    version[1]++;
    seed_write("wire", "REGISTER-foreign", encoded, bytes);
}

/* What must be refused: a later field of the same number overrides the good one. */
static void seeds_wire_hostile(void) {
    static const uint8_t key[MESSAGE_KEY_BYTES + 1] = {1};
    start_body(MESSAGE_REGISTER, false);
    put_bytes(&body_bytes, 3, key, sizeof key);
    wrap_body(MESSAGE_REGISTER);
    seed_write("wire", "REGISTER-long-key", message_bytes.at, message_bytes.count);
    start_body(MESSAGE_REGISTER, false);
    put_bytes(&body_bytes, 3, key, MESSAGE_KEY_BYTES - 1);
    wrap_body(MESSAGE_REGISTER);
    seed_write("wire", "REGISTER-short-key", message_bytes.at, message_bytes.count);
    start_body(MESSAGE_PING, false);
    put_integer(&body_bytes, 9, 1);
    wrap_body(MESSAGE_PING);
    seed_write("wire", "PING-unknown-field", message_bytes.at, message_bytes.count);
}

static void seeds_wire_chunk(void) {
    static const struct chunk chunks[] = {
        {0, {TRANSFER_CONTRIBUTION, 0, 0, 0}, 0, 1},
        {7, {TRANSFER_COMMIT, 0, 3, 123456}, 262144, MESSAGE_CHUNK_BYTES_MAX},
        {UINT64_MAX, {TRANSFER_SNAPSHOT, 63, 127, COUNT_MAX}, COUNT_MAX, 4096},
    };
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        static const char *const names[] = {"contribution", "commit", "snapshot"};
        uint8_t header[WIRE_CHUNK_HEADER_BYTES_MAX];
        seed_write("wire_chunk", names[i], header, wire_encode_chunk(&chunks[i], header));
    }
}

void seeds_comms(void) {
    seeds_wire();
    seeds_wire_hostile();
    seeds_wire_chunk();
}
