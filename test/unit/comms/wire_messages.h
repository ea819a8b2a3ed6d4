/* Messages for the tests of comms/wire: each type at its least and at its most, equality, bytes made by hand, mutations.
 * The limits are written out here a second time on purpose, so that a changed row of wire_rules.c is seen. */
#ifndef ATOLL_TEST_COMMS_WIRE_MESSAGES_H
#define ATOLL_TEST_COMMS_WIRE_MESSAGES_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comms/wire.h"
#include "wire.pb-c.h"

#define COUNT_MAX ((UINT64_C(1) << 48) - 1)
#define METER_MAX ((uint64_t)INT64_MAX)

/* ---- messages at their least and at their most ---- */

static char long_text[MESSAGE_LONG_TEXT_MAX + 1];

static inline void fill_bytes(uint8_t *bytes, size_t count, bool most) {
    for (size_t i = 0; i < count; i++)
        bytes[i] = most ? (uint8_t)(255 - i) : 0;
}

static inline void fill_chars(char *text, size_t room, size_t least, bool most, char with) {
    memset(text, with, most ? room - 1 : least);
}

static inline void fill_versions(uint32_t *count, uint64_t *versions, uint32_t least, bool most) {
    *count = most ? MESSAGE_FRAGMENTS_MAX : least;
    for (uint32_t i = 0; i < *count; i++)
        versions[i] = most ? COUNT_MAX : 0;
}

static inline void fill_heads(uint32_t *count, struct head *heads, uint32_t least, bool most) {
    *count = most ? MESSAGE_FRAGMENTS_MAX : least;
    for (uint32_t i = 0; i < *count; i++) {
        heads[i].epoch = heads[i].version = most ? COUNT_MAX : 0;
        fill_bytes(heads[i].hash, sizeof heads[i].hash, most);
    }
}

static inline void fill_certificate(struct certificate *certificate, bool most) {
    fill_bytes(certificate->run_id, sizeof certificate->run_id, most);
    fill_bytes(certificate->worker_key, sizeof certificate->worker_key, most);
    certificate->slot = most ? 63 : 0;
    fill_chars(certificate->name, sizeof certificate->name, 1, most, 'w');
    fill_bytes(certificate->signature, sizeof certificate->signature, most);
}

/* Half of the largest count takes as many bytes as the largest: with it, differences and sums are long too. */
#define COUNT_HALF (COUNT_MAX / 2)

static inline void fill_offer(struct contribution *offer, bool most) {
    uint64_t count = most ? COUNT_MAX : 0;
    *offer = (struct contribution){.slot = most ? 63 : 0,
                                   .incarnation = most ? UINT64_MAX : 0,
                                   .fragment = most ? 127 : 0,
                                   .base_version = count,
                                   .send_step = most ? COUNT_MAX : 1,
                                   .tokens_from = most ? COUNT_HALF : 0,
                                   .tokens_to = most ? COUNT_MAX : 1,
                                   .tokens = most ? COUNT_MAX - COUNT_HALF : 1,
                                   .payload_bytes = most ? COUNT_MAX : 1};
    fill_bytes(offer->payload_hash, sizeof offer->payload_hash, most);
}

static inline void fill_commit(struct commit *commit, bool most) {
    fill_bytes(commit->run_id, sizeof commit->run_id, most);
    commit->leader = most ? 63 : 0;
    commit->epoch = most ? COUNT_MAX : 1;
    commit->fragment = most ? 127 : 0;
    commit->version = most ? COUNT_MAX : 1;
    fill_bytes(commit->parent, sizeof commit->parent, most);
    commit->run_step = most ? COUNT_MAX : 1;
    commit->counted_count = most ? 64 : 1;
    for (uint32_t i = 0; i < commit->counted_count; i++)
        commit->counted[i] = (struct counted){.slot = most ? 63 - i : 0,
                                              .incarnation = most ? UINT64_MAX : 0,
                                              .base_version = most ? COUNT_MAX - 1 : 0,
                                              .send_step = most ? COUNT_MAX : 1,
                                              .tokens_from = most ? COUNT_HALF : 0,
                                              .tokens_to = most ? COUNT_MAX : 1,
                                              .tokens = most ? COUNT_MAX - COUNT_HALF : 1};
    commit->total_count = most ? 64 : 1;
    for (uint32_t i = 0; i < commit->total_count; i++)
        commit->totals[i] = (struct total){.slot = i,
                                           .mark = most ? COUNT_MAX : 1,
                                           .applied = most ? COUNT_MAX - COUNT_HALF : 1,
                                           .dropped = most ? COUNT_HALF : 0};
    commit->payload_bytes = most ? COUNT_MAX : 1;
    fill_bytes(commit->payload_hash, sizeof commit->payload_hash, most);
    fill_bytes(commit->state_hash, sizeof commit->state_hash, most);
    fill_bytes(commit->signature, sizeof commit->signature, most);
}

static inline void fill_hello(struct message_hello *hello, bool most) {
    hello->protocol_version = MESSAGE_PROTOCOL_VERSION;
    fill_bytes(hello->run_id, sizeof hello->run_id, most);
    fill_bytes(hello->keys_hash, sizeof hello->keys_hash, most);
    hello->slot = most ? 63 : 0;
    hello->incarnation = most ? UINT64_MAX : 0;
    fill_chars(hello->name, sizeof hello->name, 1, most, '~');
    hello->down_bytes_per_s = most ? COUNT_MAX : 0;
    hello->resuming = most;
    hello->run_step = most ? COUNT_MAX : 0;
    hello->members_mask = most ? UINT64_MAX : 0;
    fill_heads(&hello->head_count, hello->heads, 0, most);
}

static inline void fill_welcome(struct message_welcome *welcome, bool most) {
    welcome->slot = most ? 63 : 0;
    welcome->workers = most ? 64 : 1;
    welcome->epoch = most ? COUNT_MAX : 0;
    fill_bytes(welcome->run_id, sizeof welcome->run_id, most);
    fill_bytes(welcome->keys_hash, sizeof welcome->keys_hash, most);
    welcome->started = most;
    welcome->run_text = most ? long_text : "";
}

static inline void fill_telemetry(struct message_telemetry *telemetry, bool most) {
    uint64_t meter = most ? METER_MAX : 0;
    *telemetry = (struct message_telemetry){.phase = most ? WORKER_ENDING : WORKER_TRAINING,
                                            .step = most ? COUNT_MAX : 0,
                                            .tokens = most ? COUNT_MAX : 0,
                                            .loss = most ? (double)NAN : 0,
                                            .tokens_per_s = most ? 1.7976931348623157e308 : -0.0,
                                            .wait_us = meter,
                                            .eval_us = meter,
                                            .payload_up = meter,
                                            .payload_down = meter,
                                            .wire_up = meter,
                                            .wire_down = meter,
                                            .control_up = meter,
                                            .control_down = meter,
                                            .has_eval = most,
                                            .eval_step = most ? COUNT_MAX : 0,
                                            .eval_loss = most ? 11.5 : (double)NAN};
    fill_versions(&telemetry->version_count, telemetry->versions, 0, most);
}

static inline void fill(struct message *message, enum message_type type, bool most) {
    memset(message, 0, sizeof *message);
    message->type = type;
    message->leader = most ? 63 : 0;
    message->session = most ? UINT64_MAX : 0;
    switch (type) {
    case MESSAGE_REGISTER:
        message->body.reg.protocol_version = MESSAGE_PROTOCOL_VERSION;
        fill_bytes(message->body.reg.token_id, MESSAGE_TOKEN_ID_BYTES, most);
        fill_bytes(message->body.reg.worker_key, MESSAGE_KEY_BYTES, most);
        fill_chars(message->body.reg.name, MESSAGE_NAME_BYTES, 0, most, '!');
        break;
    case MESSAGE_RECOVER:
        message->body.recover.protocol_version = MESSAGE_PROTOCOL_VERSION;
        fill_certificate(&message->body.recover.certificate, most);
        break;
    case MESSAGE_ADMIT:
        fill_certificate(&message->body.admit.certificate, most);
        fill_bytes(message->body.admit.recovery_secret, MESSAGE_KEY_BYTES, most);
        fill_bytes(message->body.admit.sign_key, MESSAGE_KEY_BYTES, most);
        message->body.admit.up_bytes_per_s = most ? COUNT_MAX : 0;
        message->body.admit.down_bytes_per_s = most ? COUNT_MAX : 0;
        break;
    case MESSAGE_REFUSE:
        message->body.refuse.code = most ? REFUSE_DUPLICATE : REFUSE_VERSION;
        fill_chars(message->body.refuse.text, MESSAGE_TEXT_BYTES, 0, most, ' ');
        break;
    case MESSAGE_HELLO:
        fill_hello(&message->body.hello, most);
        break;
    case MESSAGE_WELCOME:
        fill_welcome(&message->body.welcome, most);
        break;
    case MESSAGE_READY:
        fill_bytes(message->body.ready.initial_hash, MESSAGE_STATE_HASH_BYTES, most);
        fill_bytes(message->body.ready.tokenizer_hash, MESSAGE_HASH_BYTES, most);
        message->body.ready.has_validation = most;
        message->body.ready.tokens_per_step = most ? COUNT_MAX : 1;
        message->body.ready.tokens = most ? COUNT_MAX : 0;
        break;
    case MESSAGE_STATE:
        message->body.state.started = most;
        message->body.state.run_step = most ? COUNT_MAX : 0;
        message->body.state.tokens = most ? COUNT_MAX : 0;
        fill_heads(&message->body.state.head_count, message->body.state.heads, 1, most);
        break;
    case MESSAGE_FETCH:
        message->body.fetch.fragment = most ? 127 : 0;
        message->body.fetch.have.epoch = message->body.fetch.have.version = most ? COUNT_MAX : 0;
        fill_bytes(message->body.fetch.have.hash, MESSAGE_HASH_BYTES, most);
        break;
    case MESSAGE_SNAPSHOT:
        fill_commit(&message->body.snapshot.commit, most);
        message->body.snapshot.bytes = most ? COUNT_MAX : 1;
        fill_bytes(message->body.snapshot.hash, MESSAGE_HASH_BYTES, most);
        break;
    case MESSAGE_JOINED:
        message->body.joined.step = most ? COUNT_MAX : 0;
        message->body.joined.tokens = most ? COUNT_MAX : 0;
        break;
    case MESSAGE_START:
        message->body.start.evaluator_slot = most ? UINT32_MAX : 0;
        break;
    case MESSAGE_MEMBERS:
        message->body.members.live_mask = most ? UINT64_MAX : 0;
        message->body.members.evaluator_slot = most ? UINT32_MAX : 63;
        break;
    case MESSAGE_PING:
    case MESSAGE_PONG:
        message->body.ping.sequence = most ? UINT64_MAX : 0;
        message->body.ping.sent_us = most ? UINT64_MAX : 0;
        break;
    case MESSAGE_OFFER:
        fill_offer(&message->body.offer, most);
        break;
    case MESSAGE_OFFER_REFUSED:
        message->body.offer_refused.fragment = most ? 127 : 0;
        message->body.offer_refused.base_version = most ? COUNT_MAX : 0;
        message->body.offer_refused.code = most ? OFFER_REFUSED_NORM : OFFER_REFUSED_STALE;
        break;
    case MESSAGE_GRANT:
        message->body.grant.key = (struct transfer_key){most ? TRANSFER_SNAPSHOT : TRANSFER_CONTRIBUTION, most ? 63 : 0,
                                                        most ? 127 : 0, most ? COUNT_MAX : 0};
        message->body.grant.offset = most ? COUNT_MAX : 0;
        message->body.grant.limit = most ? COUNT_MAX : 0;
        break;
    case MESSAGE_COMMIT:
        fill_commit(&message->body.commit, most);
        break;
    case MESSAGE_APPLIED:
        message->body.applied.fragment = most ? 127 : 0;
        message->body.applied.version = most ? COUNT_MAX : 0;
        fill_bytes(message->body.applied.state_hash, MESSAGE_STATE_HASH_BYTES, most);
        break;
    case MESSAGE_TELEMETRY:
        fill_telemetry(&message->body.telemetry, most);
        break;
    case MESSAGE_DONE:
        message->body.done.step = most ? COUNT_MAX : 0;
        message->body.done.tokens = most ? COUNT_MAX : 0;
        break;
    case MESSAGE_FINISH:
        fill_versions(&message->body.finish.version_count, message->body.finish.versions, 1, most);
        break;
    case MESSAGE_FINAL:
        fill_bytes(message->body.final.state_hash, MESSAGE_STATE_HASH_BYTES, most);
        message->body.final.has_eval = most;
        message->body.final.eval_loss = most ? 1e300 : 0;
        message->body.final.bits_per_byte = most ? (double)NAN : -0.0;
        message->body.final.eval_windows = most ? COUNT_MAX : 0;
        break;
    case MESSAGE_END:
    case MESSAGE_FAREWELL:
    case MESSAGE_STOP:
    case MESSAGE_GOODBYE:
    case MESSAGE_DRAIN:
        fill_chars(message->body.text.text, MESSAGE_TEXT_BYTES, 0, most, '.');
        break;
    case MESSAGE_ADMIN_REQUEST:
        fill_chars(message->body.admin_request.verb, MESSAGE_NAME_BYTES, 1, most, 'v');
        message->body.admin_request.text = most ? long_text : "";
        break;
    case MESSAGE_ADMIN_REPLY:
        message->body.admin_reply.ok = most;
        message->body.admin_reply.text = most ? long_text : "";
        break;
    default:
        fail_msg("fill: type %d", (int)type);
    }
}

/* ---- equality: a long text by content, all else byte by byte (both structs start zeroed) ---- */

static inline const char *take_long_text(struct message *message) {
    const char **text = message->type == MESSAGE_WELCOME         ? &message->body.welcome.run_text
                        : message->type == MESSAGE_ADMIN_REQUEST ? &message->body.admin_request.text
                        : message->type == MESSAGE_ADMIN_REPLY   ? &message->body.admin_reply.text
                                                                 : NULL;
    const char *taken = text ? *text : "";
    if (text)
        *text = NULL;
    return taken;
}

static inline void assert_same(const struct message *a, const struct message *b) {
    struct message left = *a, right = *b;
    assert_string_equal(take_long_text(&left), take_long_text(&right));
    assert_memory_equal(&left, &right, sizeof left);
}

static uint8_t *scratch;
static uint8_t encoded[MESSAGE_CONTROL_BYTES_MAX];

/* Decode from memory that ends where the message ends, so that a sanitizer sees a read past it. */
static inline enum status decode(const uint8_t *bytes, size_t count, struct message *message, struct error *error) {
    uint8_t *exact = malloc(count ? count : 1);
    assert_non_null(exact);
    memcpy(exact, bytes, count);
    error->text[0] = '\0';
    enum status status = wire_decode(exact, count, scratch, message, error);
    free(exact);
    return status;
}

static inline void expect_error(const uint8_t *bytes, size_t count, const char *text) {
    struct message message;
    struct error error;
    memset(&message, 0x5a, sizeof message);
    struct message before = message;
    assert_int_equal(decode(bytes, count, &message, &error), STATUS_DATA);
    assert_string_equal(error.text, text);
    assert_int_equal(error.status, STATUS_DATA);
    assert_memory_equal(&message, &before, sizeof message);
}

static inline int set_up(void **state) {
    (void)state;
    for (size_t i = 0; i < MESSAGE_LONG_TEXT_MAX; i++)
        long_text[i] = i % 80 == 79 ? "\n\r\t"[i % 3] : (char)(' ' + i % 95);
    memcpy(long_text, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x8f\x9d", 9); /* of two, three and four bytes */
    scratch = malloc(WIRE_SCRATCH_BYTES);
    return scratch ? 0 : -1;
}

static inline int tear_down(void **state) {
    (void)state;
    free(scratch);
    return 0;
}

/* ---- bytes made by hand: a later field of the same number overrides an earlier one ---- */

struct bytes {
    size_t count;
    uint8_t at[3 * MESSAGE_CONTROL_BYTES_MAX];
};
static struct bytes body_bytes, message_bytes;

static inline void put_varint(struct bytes *bytes, uint64_t value) {
    for (; value >= 0x80; value >>= 7)
        bytes->at[bytes->count++] = (uint8_t)(value | 0x80);
    bytes->at[bytes->count++] = (uint8_t)value;
}

static inline void put_integer(struct bytes *bytes, uint32_t field, uint64_t value) {
    put_varint(bytes, (uint64_t)field << 3);
    put_varint(bytes, value);
}

static inline void put_bytes(struct bytes *bytes, uint32_t field, const void *from, size_t count) {
    put_varint(bytes, (uint64_t)field << 3 | 2);
    put_varint(bytes, count);
    memcpy(bytes->at + bytes->count, from, count);
    bytes->count += count;
}

static inline void put_real(struct bytes *bytes, uint32_t field, double value) {
    put_varint(bytes, (uint64_t)field << 3 | 1);
    memcpy(bytes->at + bytes->count, &value, sizeof value);
    bytes->count += sizeof value;
}

/* body_bytes := the body of the good message. */
static inline void start_body(enum message_type type, bool most) {
    struct message message;
    fill(&message, type, most);
    size_t count = wire_encode(&message, encoded);
    Wire__Envelope *envelope = wire__envelope__unpack(NULL, count, encoded);
    assert_non_null(envelope);
    body_bytes.count = envelope->body.len;
    if (envelope->body.len)
        memcpy(body_bytes.at, envelope->body.data, envelope->body.len);
    wire__envelope__free_unpacked(envelope, NULL);
}

/* message_bytes := an envelope around body_bytes. */
static inline void wrap_body(uint64_t type) {
    message_bytes.count = 0;
    put_integer(&message_bytes, 1, type);
    put_integer(&message_bytes, 2, 0);
    put_integer(&message_bytes, 3, 7);
    put_bytes(&message_bytes, 4, body_bytes.at, body_bytes.count);
}

/* ---- random bytes ---- */

static uint64_t random_state;

static inline uint64_t random_u64(void) { /* splitmix64 */
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static inline size_t mutate(uint8_t *bytes, size_t count, size_t room) {
    size_t at = count ? random_u64() % count : 0;
    size_t length = count ? random_u64() % (count - at + 1) : 0;
    switch (random_u64() % 6) {
    case 0: /* a byte changed */
        if (count)
            bytes[at] = (uint8_t)random_u64();
        return count;
    case 1: /* a bit flipped */
        if (count)
            bytes[at] ^= (uint8_t)(1 << random_u64() % 8);
        return count;
    case 2: /* a stretch removed */
        memmove(bytes + at, bytes + at + length, count - at - length);
        return count - length;
    case 3: /* a stretch repeated */
        if (count + length > room)
            return count;
        memmove(bytes + at + length, bytes + at, count - at);
        return count + length;
    case 4: /* a byte inserted */
        if (count + 1 > room)
            return count;
        memmove(bytes + at + 1, bytes + at, count - at);
        bytes[at] = (uint8_t)random_u64();
        return count + 1;
    default: /* an extreme varint */
        if (count - at < 10)
            return count;
        memset(bytes + at, 0xff, 9);
        bytes[at + 9] = 1;
        return count;
    }
}

#endif
