/* codec: the table, the sizes, and whole fragments. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "unit/quant/values.h"

static void names(void **state) {
    (void)state;
    static const char *const expected[CODEC_COUNT] = {"f32", "bf16", "int8", "int4", "e3m0"};
    for (int id = 0; id < CODEC_COUNT; id++) {
        const struct codec *codec = codec_get((enum codec_id)id);
        assert_int_equal(codec->id, id);
        assert_string_equal(codec->name, expected[id]);
        assert_ptr_equal(codec_find(expected[id]), codec);
        assert_true(codec->exact == (id == CODEC_F32));
    }
    assert_null(codec_find("e3m1"));
    assert_null(codec_find(""));
}

/* The wire's sizes. A change here is a change of protocol: review it as one. */
static void sizes(void **state) {
    (void)state;
    static const struct {
        size_t count, bytes[CODEC_COUNT]; /* f32, bf16, int8, int4, e3m0 */
    } table[] = {
        {0, {0, 0, 0, 0, 0}},
        {1, {4, 2, 3, 3, 2}},
        {2, {8, 4, 4, 3, 2}},
        {63, {252, 126, 65, 34, 33}},
        {64, {256, 128, 66, 34, 33}},
        {65, {260, 130, 67, 37, 34}},
        {127, {508, 254, 129, 68, 65}},
        {128, {512, 256, 130, 68, 65}},
        {129, {516, 258, 133, 71, 67}},
        {384, {1536, 768, 390, 204, 195}},
        {1000, {4000, 2000, 1016, 532, 508}},
        {147456, {589824, 294912, 149760, 78336, 74880}},
        {393216, {1572864, 786432, 399360, 208896, 199680}},
        {1u << 30, {1ull << 32, 1ull << 31, 1090519040, 570425344, 545259520}},
    };
    for (size_t row = 0; row < sizeof table / sizeof *table; row++)
        for (int id = 0; id < CODEC_COUNT; id++)
            assert_int_equal(codec_get((enum codec_id)id)->bytes(table[row].count), table[row].bytes[id]);
}

static enum status encode_fed_by_pieces(const struct codec *codec, const struct codec_span *spans, int span_count,
                                        const float *difference, const float *residual, uint8_t *payload,
                                        float *left_out) {
    struct codec_piece piece = {0};
    for (; codec_next_piece(spans, span_count, &piece); payload += codec->bytes(piece.count)) {
        size_t at = piece.at;
        enum status status = codec->encode_fed(difference + at, residual + at, piece.count, payload, left_out + at);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* A fragment is its tensors encoded one by one; each restarts its blocks. */
static void spans(void **state) {
    (void)state;
    static const struct codec_span span[4] = {{0, 130}, {144, 1}, {160, 257}, {432, 64}};
    enum { TOTAL = 130 + 1 + 257 + 64 };
    float packed[TOTAL], out[TOTAL], alone[TOTAL], left_out[TOTAL];
    uint64_t random = 11;
    for (int i = 0; i < TOTAL; i++)
        packed[i] = values_draw(&random, VALUES_NORMAL) * (i < 130 ? 1000.f : 1.f);
    for (int id = 0; id < CODEC_COUNT; id++) {
        const struct codec *codec = codec_get((enum codec_id)id);
        size_t bytes = codec_payload_bytes(codec, span, 4);
        assert_int_equal(bytes, codec->bytes(130) + codec->bytes(1) + codec->bytes(257) + codec->bytes(64));
        uint8_t *payload = malloc(bytes), *single = malloc(bytes);
        assert_int_equal(codec_encode_spans(codec, span, 4, packed, payload), STATUS_OK);
        size_t at = 0, byte = 0;
        for (int s = 0; s < 4; s++) {
            assert_int_equal(codec->encode(packed + at, span[s].count, single), STATUS_OK);
            assert_memory_equal(payload + byte, single, codec->bytes(span[s].count));
            assert_int_equal(codec->decode(single, span[s].count, alone + at), STATUS_OK);
            at += span[s].count;
            byte += codec->bytes(span[s].count);
        }
        assert_int_equal(codec_decode_spans(codec, span, 4, payload, bytes, out), STATUS_OK);
        assert_memory_equal(out, alone, sizeof out);
        /* With error feedback, as a worker does it; what was decoded is as good a residual as any. */
        assert_int_equal(encode_fed_by_pieces(codec, span, 4, packed, alone, payload, left_out), STATUS_OK);
        for (size_t s = at = byte = 0; s < 4; s++) {
            assert_int_equal(codec->encode_fed(packed + at, alone + at, span[s].count, single, alone + at), STATUS_OK);
            assert_memory_equal(payload + byte, single, codec->bytes(span[s].count));
            at += span[s].count;
            byte += codec->bytes(span[s].count);
        }
        assert_memory_equal(left_out, alone, sizeof alone);
        assert_int_equal(codec_decode_spans(codec, span, 4, payload, bytes - 1, out), STATUS_DATA);
        assert_int_equal(codec_decode_spans(codec, span, 4, payload, bytes + 1, out), STATUS_DATA);
        free(payload);
        free(single);
    }
}

/* Pieces cover the spans in order, none crosses two of them, and their bytes are the fragment's. */
static void pieces(void **state) {
    (void)state;
    enum {
        SPANS = 6,
        FIRST = CODEC_PIECE_FLOATS + 130,
        SECOND = 3 * CODEC_PIECE_FLOATS,
        TOTAL = FIRST + SECOND + 1 + 5
    };
    static const struct codec_span span[SPANS] = {{0, FIRST}, {0, 0}, {0, SECOND}, {0, 1}, {0, 5}, {0, 0}};
    static const size_t expected[] = {
        CODEC_PIECE_FLOATS, 130, CODEC_PIECE_FLOATS, CODEC_PIECE_FLOATS, CODEC_PIECE_FLOATS, 1, 5};
    static float packed[TOTAL];
    static uint8_t whole[4 * TOTAL], parts[4 * TOTAL];
    uint64_t random = 12;
    for (int i = 0; i < TOTAL; i++)
        packed[i] = values_draw(&random, VALUES_NORMAL);
    for (int id = 0; id < CODEC_COUNT; id++) {
        const struct codec *codec = codec_get((enum codec_id)id);
        struct codec_piece piece = {0};
        size_t at = 0, byte = 0, i = 0;
        for (; codec_next_piece(span, SPANS, &piece); i++) {
            assert_true(i < sizeof expected / sizeof *expected);
            assert_int_equal(piece.at, at);
            assert_int_equal(piece.count, expected[i]);
            assert_int_equal(codec->encode(packed + at, piece.count, parts + byte), STATUS_OK);
            at += piece.count;
            byte += codec->bytes(piece.count);
        }
        assert_int_equal(i, sizeof expected / sizeof *expected);
        assert_int_equal(at, TOTAL);
        assert_int_equal(byte, codec_payload_bytes(codec, span, SPANS));
        assert_int_equal(codec_encode_spans(codec, span, SPANS, packed, whole), STATUS_OK);
        assert_memory_equal(parts, whole, byte);
    }
    struct codec_piece none = {0};
    assert_false(codec_next_piece(span, 0, &none));
}

static void a_bad_tensor_fails_the_fragment(void **state) {
    (void)state;
    static const struct codec_span span[2] = {{0, 200}, {208, 100}};
    float packed[300], out[300];
    uint8_t payload[4 * 300];
    for (int id = 0; id < CODEC_COUNT; id++) {
        const struct codec *codec = codec_get((enum codec_id)id);
        for (int i = 0; i < 300; i++)
            packed[i] = 1;
        size_t bytes = codec_payload_bytes(codec, span, 2);
        assert_int_equal(codec_encode_spans(codec, span, 2, packed, payload), STATUS_OK);
        for (size_t i = bytes - codec->bytes(100); i < bytes; i++)
            payload[i] = 0xff; /* no format takes a payload of ones */
        assert_int_equal(codec_decode_spans(codec, span, 2, payload, bytes, out), STATUS_DATA);
        packed[299] = NAN;
        assert_int_equal(codec_encode_spans(codec, span, 2, packed, payload), STATUS_NOT_FINITE);
        memset(out, 0, sizeof out);
        assert_int_equal(encode_fed_by_pieces(codec, span, 2, packed, out, payload, out), STATUS_NOT_FINITE);
    }
}

#ifdef __SSE2__
/* A thread that flushes subnormals still makes and reads the same bytes. */
static void flushing_changes_no_byte(void **state) {
    (void)state;
    enum { COUNT = 600 };
    static float src[COUNT], kept[COUNT], flushed[COUNT];
    uint8_t kept_payload[4 * COUNT] = {0}, flushed_payload[4 * COUNT] = {0};
    uint64_t random = 17;
    for (int kind = 0; kind < VALUES_KIND_COUNT; kind++)
        for (int id = 0; id < CODEC_COUNT; id++) {
            const struct codec *codec = codec_get((enum codec_id)id);
            for (int i = 0; i < COUNT; i++)
                src[i] = values_draw(&random, (enum values_kind)kind);
            assert_int_equal(codec->encode(src, COUNT, kept_payload), STATUS_OK);
            assert_int_equal(codec->decode(kept_payload, COUNT, kept), STATUS_OK);
            unsigned saved = __builtin_ia32_stmxcsr();
            __builtin_ia32_ldmxcsr(saved | 1u << 15 | 1u << 6); /* FTZ, DAZ */
            enum status encoded = codec->encode(src, COUNT, flushed_payload);
            enum status decoded = codec->decode(flushed_payload, COUNT, flushed);
            __builtin_ia32_ldmxcsr(saved);
            assert_int_equal(encoded, STATUS_OK);
            assert_int_equal(decoded, STATUS_OK);
            assert_memory_equal(flushed_payload, kept_payload, codec->bytes(COUNT));
            assert_memory_equal(flushed, kept, sizeof kept);
        }
}
#endif

/* A payload of nothing. */
static void empty(void **state) {
    (void)state;
    float value = 0;
    uint8_t byte = 0;
    for (int id = 0; id < CODEC_COUNT; id++) {
        const struct codec *codec = codec_get((enum codec_id)id);
        assert_int_equal(codec->encode(&value, 0, &byte), STATUS_OK);
        assert_int_equal(codec->decode(&byte, 0, &value), STATUS_OK);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(sizes),
        cmocka_unit_test(spans),
        cmocka_unit_test(pieces),
        cmocka_unit_test(a_bad_tensor_fails_the_fragment),
        cmocka_unit_test(empty),
#ifdef __SSE2__
        cmocka_unit_test(flushing_changes_no_byte),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
