/* tokenizer: what the ids of a run mean. `bytes`: id = byte. `shards`: ids made elsewhere; only files and counts are known here. */
#ifndef ATOLL_MODEL_TOKENIZER_H
#define ATOLL_MODEL_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>
#include "model/shape.h"

enum { TOKENIZER_HASH_BYTES = 32, TOKENIZER_BYTES_VOCAB = 256 };

/* "bytes" or "shards"; static. */
const char *tokenizer_name(enum tokenizer_kind kind);

/* BLAKE2b-256 of kind and vocabulary size: nodes of one run must agree (HELLO). */
void tokenizer_hash(enum tokenizer_kind kind, int64_t vocab, uint8_t hash[TOKENIZER_HASH_BYTES]);

/* Text -> ids, (count,) both. STATUS_CONFIG for TOKENIZER_SHARDS: the run knows no text. */
MUST_USE enum status tokenizer_encode(enum tokenizer_kind kind, const char *text, size_t count, int32_t *ids,
                                      struct error *error);

#endif
