/* transfer: see the header. Invariants: sender next <= limit unless told to go back; receiver received <= bytes, granted - received <=
 * window, hash covers all whole stripes of [0, received) but the payload's last. */
#include "comms/transfer.h"

#include <string.h>
#include "base/check.h"

enum { CHUNK_BYTES_MIN = 4096, CHUNKS_PER_SECOND = 10 };

enum { WINDOWS_BYTES = 16 << 20, WINDOW_BYTES_MIN = 512 << 10, WINDOW_BYTES_MAX = 1 << 20 };

uint32_t transfer_chunk_bytes(uint64_t cap_bytes_per_s) {
    uint64_t bytes = cap_bytes_per_s / CHUNKS_PER_SECOND;
    if (cap_bytes_per_s == 0 || bytes > MESSAGE_CHUNK_BYTES_MAX)
        return MESSAGE_CHUNK_BYTES_MAX;
    return bytes < CHUNK_BYTES_MIN ? CHUNK_BYTES_MIN : (uint32_t)bytes;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* ---- sender ---- */

uint64_t transfer_window_bytes(uint32_t peers) {
    CHECK(peers >= 1);
    uint64_t share = WINDOWS_BYTES / peers;
    return share > WINDOW_BYTES_MAX ? WINDOW_BYTES_MAX : share < WINDOW_BYTES_MIN ? WINDOW_BYTES_MIN : share;
}

void transfer_sender_open(struct transfer_sender *sender, struct transfer_key key, const uint8_t *payload,
                          uint64_t bytes) {
    CHECK(bytes >= 1);
    *sender = (struct transfer_sender){.key = key, .payload = payload, .bytes = bytes};
}

bool transfer_sender_grant(struct transfer_sender *sender, uint64_t offset, uint64_t limit) {
    if (limit > sender->bytes || limit < offset)
        return false;
    /* Never forward past bytes that were granted and not handed out: only the first grant may skip what the receiver has. */
    if (sender->limit == 0 || offset < sender->next)
        sender->next = offset;
    sender->limit = limit;
    return true;
}

bool transfer_sender_next(struct transfer_sender *sender, uint32_t chunk_bytes, struct chunk *chunk) {
    CHECK(chunk_bytes >= 1);
    if (sender->next >= sender->limit)
        return false;
    uint64_t bytes = smaller(chunk_bytes, sender->limit - sender->next);
    *chunk = (struct chunk){.key = sender->key, .offset = sender->next, .bytes = (uint32_t)bytes};
    sender->next += bytes;
    return true;
}

/* ---- receiver ---- */

/* All that may be hashed of what is here, while the newest chunk is in cache. */
static void hash_more(struct transfer_receiver *receiver) {
    size_t ready = payload_hash_ready(&receiver->hash, receiver->received, receiver->bytes);
    payload_hash_add(&receiver->hash, receiver->buffer + receiver->hash.hashed, ready);
}

static bool hash_is_right(const struct transfer_receiver *receiver) {
    struct payload_hash end = receiver->hash;
    uint8_t hash[MESSAGE_HASH_BYTES];
    payload_hash_end(&end, receiver->buffer + end.hashed, (size_t)(receiver->bytes - end.hashed), hash);
    return memcmp(hash, receiver->expected_hash, sizeof hash) == 0;
}

void transfer_receiver_open(struct transfer_receiver *receiver, struct transfer_key key, uint8_t *buffer,
                            uint64_t bytes, uint64_t window, const uint8_t expected_hash[MESSAGE_HASH_BYTES]) {
    CHECK(bytes >= 1 && window >= 1);
    *receiver = (struct transfer_receiver){.key = key, .buffer = buffer, .bytes = bytes, .window = window};
    memcpy(receiver->expected_hash, expected_hash, MESSAGE_HASH_BYTES);
    payload_hash_begin(&receiver->hash);
}

void transfer_receiver_reset_credit(struct transfer_receiver *receiver) {
    receiver->granted = receiver->received;
}

bool transfer_receiver_grant(struct transfer_receiver *receiver, struct message_grant *grant) {
    uint64_t outstanding = receiver->granted - receiver->received;
    if (receiver->granted == receiver->bytes || outstanding > receiver->window / 2)
        return false;
    uint64_t limit = receiver->received + smaller(receiver->window, receiver->bytes - receiver->received);
    *grant = (struct message_grant){.key = receiver->key, .offset = receiver->granted, .limit = limit};
    receiver->granted = limit;
    if (receiver->granted_most < limit)
        receiver->granted_most = limit;
    return true;
}

static bool same_key(const struct transfer_key *a, const struct transfer_key *b) {
    return a->kind == b->kind && a->leader == b->leader && a->fragment == b->fragment && a->version == b->version;
}

enum transfer_verdict transfer_receiver_chunk(struct transfer_receiver *receiver, const struct chunk *chunk,
                                              const uint8_t *payload) {
    if (!same_key(&receiver->key, &chunk->key) || chunk->bytes == 0 || chunk->offset > receiver->granted_most ||
        chunk->bytes > receiver->granted_most - chunk->offset)
        return TRANSFER_HOSTILE;
    uint64_t end = chunk->offset + chunk->bytes;
    if (end <= receiver->received || chunk->offset > receiver->received || end > receiver->granted)
        return TRANSFER_DUPLICATE;

    uint64_t known = receiver->received - chunk->offset;
    uint64_t fresh = end - receiver->received;
    memcpy(receiver->buffer + receiver->received, payload + known, fresh);
    receiver->received = end;
    hash_more(receiver);
    if (end < receiver->bytes)
        return TRANSFER_TAKEN;
    if (hash_is_right(receiver))
        return TRANSFER_COMPLETE;
    receiver->received = 0;
    receiver->granted = 0;
    payload_hash_begin(&receiver->hash);
    return TRANSFER_BAD_HASH;
}
