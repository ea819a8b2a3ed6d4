/* commit: the identity and signature of a commit and of a certificate. Canonical bytes (little-endian fixed fields, both lists in
 * order) under a domain prefix; hash = BLAKE2b-256, signature = Ed25519 over the hash.
 *
 * Canonical bytes: the domain ("atoll commit 2", "atoll certificate 1", "atoll genesis 1", "atoll run 1") in 32 bytes, zero-filled; then
 * every field but the signature in the order of its struct: uint32 and uint64 little-endian, hashes and keys as they are, a name as
 * MESSAGE_NAME_BYTES bytes, zero-filled after its end, a list as its count and its lines. Differing domains keep one kind of
 * hash from ever standing for another. No protobuf here: its bytes are not canonical.
 * The order of the counted list counts: it is the order of summation. */
#ifndef ATOLL_COMMS_COMMIT_H
#define ATOLL_COMMS_COMMIT_H

#include "base/status.h"
#include "comms/message.h"

enum { SIGN_SECRET_BYTES = 64 };

/* The version's identity: covers every field but the signature. CHECKs the counts of its lists. */
void commit_hash(const struct commit *commit, uint8_t hash[MESSAGE_HASH_BYTES]);
/* What a node holds of the fragment after this commit. */
struct head commit_head(const struct commit *commit);
/* The parent of version 1: of a fragment's initial state. */
void commit_genesis(const uint8_t run_id[MESSAGE_HASH_BYTES], uint32_t fragment,
                    const uint8_t state_hash[MESSAGE_STATE_HASH_BYTES], uint8_t hash[MESSAGE_HASH_BYTES]);
void commit_sign(struct commit *commit, const uint8_t sign_secret[SIGN_SECRET_BYTES]);
/* STATUS_DATA: the signature is not of this key over this commit; the text names fragment, version and epoch. Drop and count it. */
MUST_USE enum status commit_verify(const struct commit *commit, const uint8_t sign_key[MESSAGE_KEY_BYTES],
                                   struct error *error);

void certificate_sign(struct certificate *certificate, const uint8_t sign_secret[SIGN_SECRET_BYTES]);
/* STATUS_DATA, the text names slot and name: admit nobody by it. */
MUST_USE enum status certificate_verify(const struct certificate *certificate,
                                        const uint8_t sign_key[MESSAGE_KEY_BYTES], struct error *error);

/* Run id = BLAKE2b(outer public key, run name, hash of the run-wide keys). CHECKs that the name is shorter than MESSAGE_NAME_BYTES. */
void run_id_make(const uint8_t outer_key[MESSAGE_KEY_BYTES], const char *run_name,
                 const uint8_t keys_hash[MESSAGE_HASH_BYTES], uint8_t run_id[MESSAGE_HASH_BYTES]);

#endif
