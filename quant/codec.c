/* codec: the table of formats, and whole fragments as one codec call per tensor. */
#include "quant/codec.h"

#include <string.h>
#include "base/check.h"
#include "quant/e3m0.h"
#include "quant/integer.h"
#include "quant/plain.h"

static const struct codec CODECS[CODEC_COUNT] = {
    [CODEC_F32] = {CODEC_F32, "f32", 1, plain_f32_bytes, plain_f32_encode, plain_f32_decode, plain_f32_encode_ref,
                   plain_f32_decode_ref},
    [CODEC_BF16] = {CODEC_BF16, "bf16", 1, plain_bf16_bytes, plain_bf16_encode, plain_bf16_decode,
                    plain_bf16_encode_ref, plain_bf16_decode_ref},
    [CODEC_INT8] = {CODEC_INT8, "int8", INT8_BLOCK, int8_bytes, int8_encode, int8_decode, int8_encode_ref,
                    int8_decode_ref},
    [CODEC_INT4] = {CODEC_INT4, "int4", INT4_BLOCK, int4_bytes, int4_encode, int4_decode, int4_encode_ref,
                    int4_decode_ref},
    [CODEC_E3M0] = {CODEC_E3M0, "e3m0", E3M0_BLOCK, e3m0_bytes, e3m0_encode, e3m0_decode, e3m0_encode_ref,
                    e3m0_decode_ref},
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
