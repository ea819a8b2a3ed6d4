/* The decoders of outer gradients. Input: u8 codec, u16 count, payload. In one tensor, and as a fragment of two. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "quant/codec.h"

enum { COUNT_MAX = 1024 };

static void check_encodes(const struct codec *codec, const float *values, size_t count) {
    size_t bytes = codec->bytes(count);
    uint8_t *fast = malloc(bytes + 1), *ref = malloc(bytes + 1);
    float *again = malloc(count * sizeof *again + 1);
    CHECK(codec->encode(values, count, fast) == STATUS_OK && codec->encode_ref(values, count, ref) == STATUS_OK);
    CHECK(memcmp(fast, ref, bytes) == 0);
    CHECK(codec->decode(fast, count, again) == STATUS_OK);
    free(fast);
    free(ref);
    free(again);
}

/* Two tensors, back to back, the first of `first` values: each with its own blocks. */
static void check_spans(const struct codec *codec, const uint8_t *payload, size_t bytes, size_t first, size_t count) {
    struct codec_span spans[2] = {{0, first}, {first + 16, count - first}};
    float *packed = malloc(count * sizeof *packed + 1), *alone = malloc(count * sizeof *alone + 1);
    enum status status = codec_decode_spans(codec, spans, 2, payload, bytes, packed);
    size_t first_bytes = codec->bytes(first);
    if (bytes != codec_payload_bytes(codec, spans, 2)) {
        CHECK(status == STATUS_DATA);
    } else {
        bool good = codec->decode(payload, first, alone) == STATUS_OK &&
                    codec->decode(payload + first_bytes, count - first, alone + first) == STATUS_OK;
        CHECK((status == STATUS_OK) == good);
        CHECK(!good || memcmp(packed, alone, count * sizeof *packed) == 0);
    }
    free(packed);
    free(alone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    const struct codec *codec = codec_get((enum codec_id)(fuzz_u8(&input) % CODEC_COUNT));
    size_t count = fuzz_u16(&input) % (COUNT_MAX + 1), bytes = codec->bytes(count);
    uint8_t *payload = fuzz_copy(input.at, input.left, false);
    if (count > 1)
        check_spans(codec, payload, input.left, count / 2, count);
    if (input.left >= bytes) {
        uint8_t *exact = fuzz_copy(payload, bytes, false);
        float *fast = malloc(count * sizeof *fast + 1), *ref = malloc(count * sizeof *ref + 1);
        enum status status = codec->decode(exact, count, fast);
        CHECK(status == codec->decode_ref(exact, count, ref));
        CHECK(status == STATUS_OK || status == STATUS_DATA);
        if (status == STATUS_OK) {
            CHECK(memcmp(fast, ref, count * sizeof *fast) == 0);
            for (size_t i = 0; i < count; i++)
                CHECK(isfinite(fast[i]));
            check_encodes(codec, fast, count);
        }
        free(exact);
        free(fast);
        free(ref);
    }
    free(payload);
    return 0;
}
