/* commit: the identity and signature of a commit and of a certificate. Canonical bytes (little-endian fixed fields, counted list in
 * order) under a domain prefix; hash = BLAKE2b-256, signature = Ed25519 over the hash. */
#ifndef ATOLL_COMMS_COMMIT_H
#define ATOLL_COMMS_COMMIT_H

#include "base/status.h"
#include "comms/message.h"

enum { SIGN_SECRET_BYTES = 64 };

/* The version's identity: covers every field but the signature. */
void commit_hash(const struct commit *commit, uint8_t hash[MESSAGE_HASH_BYTES]);
/* The parent of version 1: of a fragment's initial state. */
void commit_genesis(const uint8_t run_id[MESSAGE_HASH_BYTES], uint32_t fragment, const uint8_t state_hash[MESSAGE_STATE_HASH_BYTES],
                    uint8_t hash[MESSAGE_HASH_BYTES]);
void commit_sign(struct commit *commit, const uint8_t sign_secret[SIGN_SECRET_BYTES]);
MUST_USE enum status commit_verify(const struct commit *commit, const uint8_t sign_key[MESSAGE_KEY_BYTES], struct error *error);

void certificate_sign(struct certificate *certificate, const uint8_t sign_secret[SIGN_SECRET_BYTES]);
MUST_USE enum status certificate_verify(const struct certificate *certificate, const uint8_t sign_key[MESSAGE_KEY_BYTES],
                                        struct error *error);

/* Run id = BLAKE2b(outer public key, run name, hash of the run-wide keys). */
void run_id_make(const uint8_t outer_key[MESSAGE_KEY_BYTES], const char *run_name, const uint8_t keys_hash[MESSAGE_HASH_BYTES],
                 uint8_t run_id[MESSAGE_HASH_BYTES]);

#endif
