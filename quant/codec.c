/* codec: the table of formats, and whole fragments as one codec call per tensor. */
#include "quant/codec.h"

#include <string.h>
#include "base/check.h"
#include "quant/e3m0.h"
#include "quant/integer.h"
#include "quant/plain.h"

/* The functions of a format, by its prefix. */
#define CODEC_FUNCTIONS(PREFIX)                                                                                        \
    .bytes = PREFIX##_bytes, .encode = PREFIX##_encode, .decode = PREFIX##_decode, .encode_fed = PREFIX##_encode_fed,  \
    .decode_add = PREFIX##_decode_add, .encode_ref = PREFIX##_encode_ref, .decode_ref = PREFIX##_decode_ref

static const struct codec CODECS[CODEC_COUNT] = {
    [CODEC_F32] = {CODEC_F32, "f32", 1, true, CODEC_FUNCTIONS(plain_f32)},
    [CODEC_BF16] = {CODEC_BF16, "bf16", 1, false, CODEC_FUNCTIONS(plain_bf16)},
    [CODEC_INT8] = {CODEC_INT8, "int8", INT8_BLOCK, false, CODEC_FUNCTIONS(int8)},
    [CODEC_INT4] = {CODEC_INT4, "int4", INT4_BLOCK, false, CODEC_FUNCTIONS(int4)},
    [CODEC_E3M0] = {CODEC_E3M0, "e3m0", E3M0_BLOCK, false, CODEC_FUNCTIONS(e3m0)},
};

const struct codec *codec_get(enum codec_id id) {
    CHECK((unsigned)id < CODEC_COUNT);
    return &CODECS[id];
}

const struct codec *codec_find(const char *name) {
    for (int i = 0; i < CODEC_COUNT; i++)
        if (strcmp(CODECS[i].name, name) == 0)
            return &CODECS[i];
    return NULL;
}

size_t codec_payload_bytes(const struct codec *codec, const struct codec_span *spans, int span_count) {
    size_t bytes = 0;
    for (int i = 0; i < span_count; i++)
        bytes += codec->bytes(spans[i].count);
    return bytes;
}

enum status codec_encode_spans(const struct codec *codec, const struct codec_span *spans, int span_count,
                               const float *packed, uint8_t *payload) {
    for (int i = 0; i < span_count; i++) {
        enum status status = codec->encode(packed, spans[i].count, payload);
        if (status != STATUS_OK)
            return status;
        packed += spans[i].count;
        payload += codec->bytes(spans[i].count);
    }
    return STATUS_OK;
}

enum status codec_decode_spans(const struct codec *codec, const struct codec_span *spans, int span_count,
                               const uint8_t *payload, size_t payload_bytes, float *packed) {
    if (payload_bytes != codec_payload_bytes(codec, spans, span_count))
        return STATUS_DATA;
    for (int i = 0; i < span_count; i++) {
        enum status status = codec->decode(payload, spans[i].count, packed);
        if (status != STATUS_OK)
            return status;
        packed += spans[i].count;
        payload += codec->bytes(spans[i].count);
    }
    return STATUS_OK;
}

_Static_assert(CODEC_PIECE_FLOATS % E3M0_BLOCK == 0 && CODEC_PIECE_FLOATS % INT8_BLOCK == 0 &&
                   CODEC_PIECE_FLOATS % INT4_BLOCK == 0,
               "a piece ends where a block ends");

bool codec_next_piece(const struct codec_span *spans, int span_count, struct codec_piece *piece) {
    piece->at += piece->count;
    while (piece->left == 0) {
        if (piece->next_span == span_count)
            return false;
        piece->left = spans[piece->next_span++].count;
    }
    piece->count = piece->left < CODEC_PIECE_FLOATS ? piece->left : CODEC_PIECE_FLOATS;
    piece->left -= piece->count;
    return true;
}
