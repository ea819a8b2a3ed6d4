/* keys: one 32-byte master seed per node (DIRECTORY/keys/seed, mode 0600) from which the CURVE pair, the Ed25519 pair and the recovery secret
 * derive (libsodium crypto_kdf, separate contexts). */
#ifndef ATOLL_COMMS_KEYS_H
#define ATOLL_COMMS_KEYS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "comms/commit.h"

enum { KEYS_SEED_BYTES = 32, KEYS_CURVE_BYTES = 32 };

struct curve_pair {
    uint8_t public_key[KEYS_CURVE_BYTES];
    uint8_t secret_key[KEYS_CURVE_BYTES];
};

struct node_keys {
    struct curve_pair curve;
    uint8_t sign_key[MESSAGE_KEY_BYTES];
    uint8_t sign_secret[SIGN_SECRET_BYTES];
    uint8_t recovery_secret[MESSAGE_KEY_BYTES]; /* an outer tells it to the workers that it admits */
    bool created;                               /* made by this very call */
};

/* keys_init: sodium_init; once, before threads. */
void keys_init(void);

/* keys_open: read DIRECTORY/keys/seed, or make it when there is none (directory 0700, file 0600). The file appears
 * whole or not at all. Whatever keys/ holds, also the certificate or the list of workers, outlives a power cut from then on. STATUS_CONFIG
 * when it is open to group or others or has the wrong size: the text says how to mend it. STATUS_IO, STATUS_NOT_FOUND: the directory cannot
 * be read or made. */
MUST_USE enum status keys_open(const char *directory, struct node_keys *keys, struct error *error);

/* keys_check_node: a directory is an outer's or a worker's, never both: each would overwrite what the other keeps there. STATUS_CONFIG: DIRECTORY
 * is the other's, as the list (keys/workers.json) or the certificate (keys/certificate.json) in it tells. Touches nothing. */
enum keys_node { KEYS_NODE_OUTER, KEYS_NODE_WORKER };
MUST_USE enum status keys_check_node(const char *directory, enum keys_node node, struct error *error);

/* A pair derived from a token's secret, equal on both sides; for enrolment only. */
void keys_enrolment_pair(const uint8_t secret[32], struct curve_pair *pair);
/* The pair that every admitted worker of an outer can make: an outer that lost all but its seed still hears it, for RECOVER only. */
void keys_recovery_pair(const uint8_t secret[MESSAGE_KEY_BYTES], struct curve_pair *pair);
void keys_wipe(struct node_keys *keys);

#endif
