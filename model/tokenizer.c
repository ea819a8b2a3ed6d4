/* tokenizer: see tokenizer.h. */
#include "model/tokenizer.h"
#include <sodium.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"

const char *tokenizer_name(enum tokenizer_kind kind) {
    return kind == TOKENIZER_BYTES ? "bytes" : "shards";
}

void tokenizer_hash(enum tokenizer_kind kind, int64_t vocab, uint8_t hash[TOKENIZER_HASH_BYTES]) {
    uint8_t identity[24] = "atoll tokenizer";
    bytes_store_u64(identity + 16, (uint64_t)vocab);
    crypto_generichash_state state;
    const char *name = tokenizer_name(kind);
    CHECK(crypto_generichash_init(&state, NULL, 0, TOKENIZER_HASH_BYTES) == 0);
    crypto_generichash_update(&state, identity, sizeof identity);
    crypto_generichash_update(&state, (const uint8_t *)name, strlen(name));
    crypto_generichash_final(&state, hash, TOKENIZER_HASH_BYTES);
}

enum status tokenizer_encode(enum tokenizer_kind kind, const char *text, size_t count, int32_t *ids,
                             struct error *error) {
    if (kind != TOKENIZER_BYTES)
        return error_set(error, STATUS_CONFIG,
                         "data.tokenizer: a model of token shards cannot read text; its tokenizer is not known here");
    for (size_t i = 0; i < count; i++)
        ids[i] = (unsigned char)text[i];
    return STATUS_OK;
}
