/* commit: see the header for the canonical bytes. Needs libsodium, no sockets, no allocation. */
#include "comms/commit.h"

#include <inttypes.h>
#include <sodium.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"

_Static_assert(MESSAGE_SIGNATURE_BYTES == crypto_sign_BYTES && MESSAGE_KEY_BYTES == crypto_sign_PUBLICKEYBYTES &&
                   SIGN_SECRET_BYTES == crypto_sign_SECRETKEYBYTES,
               "Ed25519");

enum {
    DOMAIN_BYTES = 32,
    COUNTED_BYTES = 4 + 6 * 8,
    TOTAL_BYTES = 4 + 3 * 8,
    CANONICAL_BYTES_MAX = 512 + MESSAGE_WORKERS_MAX * (COUNTED_BYTES + TOTAL_BYTES),
};

/* The canonical bytes as they grow. */
struct canon {
    size_t used;
    uint8_t bytes[CANONICAL_BYTES_MAX];
};

static uint8_t *canon_take(struct canon *canon, size_t count) {
    CHECK(count <= sizeof canon->bytes - canon->used);
    uint8_t *piece = canon->bytes + canon->used;
    canon->used += count;
    return piece;
}

static void canon_u32(struct canon *canon, uint32_t value) {
    bytes_store_u32(canon_take(canon, 4), value);
}

static void canon_u64(struct canon *canon, uint64_t value) {
    bytes_store_u64(canon_take(canon, 8), value);
}

static void canon_bytes(struct canon *canon, const uint8_t *bytes, size_t count) {
    memcpy(canon_take(canon, count), bytes, count);
}

/* Zero-filled to `room`, so that a text's end is where it is and nowhere else. */
static void canon_text(struct canon *canon, const char *text, size_t room) {
    size_t count = strnlen(text, room);
    CHECK(count < room);
    uint8_t *piece = canon_take(canon, room);
    memset(piece, 0, room);
    memcpy(piece, text, count);
}

static void canon_open(struct canon *canon, const char *domain) {
    canon->used = 0;
    canon_text(canon, domain, DOMAIN_BYTES);
}

static void canon_hash(const struct canon *canon, uint8_t hash[MESSAGE_HASH_BYTES]) {
    CHECK(crypto_generichash(hash, MESSAGE_HASH_BYTES, canon->bytes, canon->used, NULL, 0) == 0);
}

static void sign(const uint8_t hash[MESSAGE_HASH_BYTES], const uint8_t *sign_secret, uint8_t *signature) {
    CHECK(crypto_sign_detached(signature, NULL, hash, MESSAGE_HASH_BYTES, sign_secret) == 0);
}

static bool is_signed(const uint8_t hash[MESSAGE_HASH_BYTES], const uint8_t *sign_key, const uint8_t *signature) {
    return crypto_sign_verify_detached(signature, hash, MESSAGE_HASH_BYTES, sign_key) == 0;
}

/* ---- commits ---- */

void commit_hash(const struct commit *commit, uint8_t hash[MESSAGE_HASH_BYTES]) {
    CHECK(commit->counted_count <= MESSAGE_WORKERS_MAX && commit->total_count <= MESSAGE_WORKERS_MAX);
    struct canon canon;
    canon_open(&canon, "atoll commit 2");
    canon_bytes(&canon, commit->run_id, sizeof commit->run_id);
    canon_u32(&canon, commit->leader);
    canon_u64(&canon, commit->epoch);
    canon_u32(&canon, commit->fragment);
    canon_u64(&canon, commit->version);
    canon_bytes(&canon, commit->parent, sizeof commit->parent);
    canon_u64(&canon, commit->run_step);
    canon_u32(&canon, commit->counted_count);
    for (uint32_t i = 0; i < commit->counted_count; i++) {
        const struct counted *line = &commit->counted[i];
        canon_u32(&canon, line->slot);
        canon_u64(&canon, line->incarnation);
        canon_u64(&canon, line->base_version);
        canon_u64(&canon, line->send_step);
        canon_u64(&canon, line->tokens_from);
        canon_u64(&canon, line->tokens_to);
        canon_u64(&canon, line->tokens);
    }
    canon_u32(&canon, commit->total_count);
    for (uint32_t i = 0; i < commit->total_count; i++) {
        const struct total *total = &commit->totals[i];
        canon_u32(&canon, total->slot);
        canon_u64(&canon, total->mark);
        canon_u64(&canon, total->applied);
        canon_u64(&canon, total->dropped);
    }
    canon_u64(&canon, commit->payload_bytes);
    canon_bytes(&canon, commit->payload_hash, sizeof commit->payload_hash);
    canon_bytes(&canon, commit->state_hash, sizeof commit->state_hash);
    canon_hash(&canon, hash);
}

struct head commit_head(const struct commit *commit) {
    struct head head = {.epoch = commit->epoch, .version = commit->version};
    commit_hash(commit, head.hash);
    return head;
}

void commit_genesis(const uint8_t run_id[MESSAGE_HASH_BYTES], uint32_t fragment,
                    const uint8_t state_hash[MESSAGE_STATE_HASH_BYTES], uint8_t hash[MESSAGE_HASH_BYTES]) {
    struct canon canon;
    canon_open(&canon, "atoll genesis 1");
    canon_bytes(&canon, run_id, MESSAGE_HASH_BYTES);
    canon_u32(&canon, fragment);
    canon_bytes(&canon, state_hash, MESSAGE_STATE_HASH_BYTES);
    canon_hash(&canon, hash);
}

void commit_sign(struct commit *commit, const uint8_t sign_secret[SIGN_SECRET_BYTES]) {
    uint8_t hash[MESSAGE_HASH_BYTES];
    commit_hash(commit, hash);
    sign(hash, sign_secret, commit->signature);
}

enum status commit_verify(const struct commit *commit, const uint8_t sign_key[MESSAGE_KEY_BYTES], struct error *error) {
    uint8_t hash[MESSAGE_HASH_BYTES];
    commit_hash(commit, hash);
    if (is_signed(hash, sign_key, commit->signature))
        return STATUS_OK;
    return error_set(error, STATUS_DATA,
                     "commit of fragment %" PRIu32 ", version %" PRIu64 ", epoch %" PRIu64
                     ": expected the outer's signature, found another",
                     commit->fragment, commit->version, commit->epoch);
}

/* ---- certificates ---- */

static void certificate_hash(const struct certificate *certificate, uint8_t hash[MESSAGE_HASH_BYTES]) {
    struct canon canon;
    canon_open(&canon, "atoll certificate 1");
    canon_bytes(&canon, certificate->run_id, sizeof certificate->run_id);
    canon_bytes(&canon, certificate->worker_key, sizeof certificate->worker_key);
    canon_u32(&canon, certificate->slot);
    canon_text(&canon, certificate->name, sizeof certificate->name);
    canon_hash(&canon, hash);
}

void certificate_sign(struct certificate *certificate, const uint8_t sign_secret[SIGN_SECRET_BYTES]) {
    uint8_t hash[MESSAGE_HASH_BYTES];
    certificate_hash(certificate, hash);
    sign(hash, sign_secret, certificate->signature);
}

enum status certificate_verify(const struct certificate *certificate, const uint8_t sign_key[MESSAGE_KEY_BYTES],
                               struct error *error) {
    uint8_t hash[MESSAGE_HASH_BYTES];
    certificate_hash(certificate, hash);
    if (is_signed(hash, sign_key, certificate->signature))
        return STATUS_OK;
    return error_set(error, STATUS_DATA,
                     "certificate of slot %" PRIu32 " (%s): expected the outer's signature, found another",
                     certificate->slot, certificate->name);
}

/* ---- the run ---- */

void run_id_make(const uint8_t outer_key[MESSAGE_KEY_BYTES], const char *run_name,
                 const uint8_t keys_hash[MESSAGE_HASH_BYTES], uint8_t run_id[MESSAGE_HASH_BYTES]) {
    struct canon canon;
    canon_open(&canon, "atoll run 1");
    canon_bytes(&canon, outer_key, MESSAGE_KEY_BYTES);
    canon_text(&canon, run_name, MESSAGE_NAME_BYTES);
    canon_bytes(&canon, keys_hash, MESSAGE_HASH_BYTES);
    canon_hash(&canon, run_id);
}
