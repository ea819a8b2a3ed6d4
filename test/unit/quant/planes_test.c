/* Tests of quant/planes: every bit pattern comes back, bytes that are cut or changed are refused or give other
 * floats, and what it gains. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include "base/bytes.h"
#include "base/clock.h"
#include "base/rng.h"
#include "quant/codec.h"
#include "quant/planes.h"
#include "values.h"

enum { HEADER = 16, LENGTHS = 16, FENCE = 16, BLOCK = PLANES_BLOCK_FLOATS };

struct encoded {
    uint8_t *payload; /* malloc'ed to its exact size, so that the sanitizer sees one byte too many */
    size_t bytes;
};

static struct encoded encode(const float *src, size_t count) {
    struct encoded encoded = {.bytes = 0};
    struct error error;
    size_t bound = planes_bound(count);
    uint8_t *room = malloc(bound + FENCE);
    memset(room, 0xa5, bound + FENCE);
    if (planes_encode(src, count, room, bound, &encoded.bytes, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_true(encoded.bytes >= HEADER && encoded.bytes <= bound);
    for (size_t i = encoded.bytes; i < bound + FENCE; i++)
        assert_int_equal(room[i], 0xa5);
    encoded.payload = malloc(encoded.bytes);
    memcpy(encoded.payload, room, encoded.bytes);
    free(room);
    return encoded;
}

/* From an unaligned payload to a fenced array and back to the same bits. Returns the bytes. */
static size_t check_round_trip(const float *src, size_t count) {
    struct encoded encoded = encode(src, count);
    struct error error;
    uint8_t *shifted = malloc(encoded.bytes + 1);
    float *back = malloc((count + 1) * sizeof *back);
    memcpy(shifted + 1, encoded.payload, encoded.bytes);
    memset(back, 0xee, (count + 1) * sizeof *back);
    if (planes_decode(shifted + 1, encoded.bytes, back, count, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    if (count > 0)
        assert_memory_equal(back, src, count * sizeof *back);
    assert_int_equal(values_to_bits(back[count]), 0xeeeeeeee);
    free(back);
    free(shifted);
    free(encoded.payload);
    return encoded.bytes;
}

static enum status decode(const struct encoded *encoded, float *dst, size_t count, struct error *error) {
    error->text[0] = 0;
    enum status status = planes_decode(encoded->payload, encoded->bytes, dst, count, error);
    if (status != STATUS_OK) {
        assert_int_equal(status, STATUS_DATA);
        assert_true(strncmp(error->text, "planes: ", 8) == 0 && strstr(error->text, "expected") != NULL);
    }
    return status;
}

static void refused(const struct encoded *encoded, size_t count, const char *text) {
    struct error error;
    float *dst = malloc((count + 1) * sizeof *dst);
    assert_int_equal(decode(encoded, dst, count, &error), STATUS_DATA);
    if (strstr(error.text, text) == NULL)
        fail_msg("'%s' does not say '%s'", error.text, text);
    free(dst);
}

static float *make_normal(size_t count, float size) {
    float *values = malloc((count + 1) * sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = size * rng_normal(3, 0, i);
    return values;
}

/* ---- what comes back ---- */

/* Each sign and exponent with mantissas of one bit, of all, of none: every NaN, infinity, subnormal and zero of that
 * kind. */
static void every_exponent_and_mantissa_bit(void **state) {
    (void)state;
    enum { PER_EXPONENT = 2 * 23 + 2, COUNT = 512 * PER_EXPONENT };
    static float values[COUNT];
    size_t at = 0;
    for (uint32_t top = 0; top < 512; top++) {
        values[at++] = values_from_bits(top << 23);
        values[at++] = values_from_bits(top << 23 | 0x7fffff);
        for (int bit = 0; bit < 23; bit++) {
            values[at++] = values_from_bits(top << 23 | 1u << bit);
            values[at++] = values_from_bits(top << 23 | (0x7fffffu ^ 1u << bit));
        }
    }
    assert_int_equal(at, COUNT);
    check_round_trip(values, COUNT);
}

static void random_bits(void **state) {
    (void)state;
    enum { COUNT = 3 * BLOCK + 5 };
    float *values = malloc(COUNT * sizeof *values);
    uint64_t draw = 1;
    for (size_t i = 0; i < COUNT; i++)
        values[i] = values_from_bits((uint32_t)values_u64(&draw));
    assert_int_equal(check_round_trip(values, COUNT), planes_bound(COUNT)); /* noise: stored as it is */
    free(values);
}

static void every_size_near_a_block(void **state) {
    (void)state;
    static const size_t counts[] = {BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK + 1};
    float *values = make_normal(2 * BLOCK + 1, 0.02f), *zeros = calloc(2 * BLOCK + 1, sizeof *zeros);
    for (size_t count = 0; count <= 300; count++) {
        check_round_trip(values, count);
        check_round_trip(zeros, count);
    }
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        check_round_trip(values, counts[i]);
        assert_true(check_round_trip(zeros, counts[i]) < 500);
    }
    assert_int_equal(check_round_trip(NULL, 0), HEADER);
    assert_int_equal(planes_bound(0), HEADER);
    assert_int_equal(planes_bound(1), HEADER + LENGTHS + 4);
    assert_int_equal(planes_bound(BLOCK), HEADER + LENGTHS + 4 * BLOCK);
    assert_int_equal(planes_bound(BLOCK + 1), HEADER + 2 * LENGTHS + 4 * BLOCK + 4);
    free(zeros);
    free(values);
}

static void every_kind_of_value(void **state) {
    (void)state;
    enum { COUNT = BLOCK + 1000 };
    float *values = malloc(COUNT * sizeof *values);
    uint64_t draw = 5;
    for (int kind = 0; kind < VALUES_KIND_COUNT; kind++) {
        for (size_t i = 0; i < COUNT; i++)
            values[i] = values_draw(&draw, (enum values_kind)kind);
        check_round_trip(values, COUNT);
    }
    free(values);
}

/* The format, by hand: one float is stored as it is. */
static void one_float_byte_by_byte(void **state) {
    (void)state;
    static const uint8_t golden[] = {'A', 'P', 'L', '1', 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0,    0,    1,    0,
                                     0,   0,   1,   0,   0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0x44, 0x33, 0x22, 0x11};
    float value = values_from_bits(0x11223344);
    struct encoded encoded = encode(&value, 1);
    assert_int_equal(encoded.bytes, sizeof golden);
    assert_memory_equal(encoded.payload, golden, sizeof golden);
    free(encoded.payload);
}

/* Plane p, as the format says: the byte p of each float, itself or as a zstd frame that zstd alone can read. */
static void planes_are_where_the_format_says(void **state) {
    (void)state;
    enum { COUNT = BLOCK + 700 };
    float *values = make_normal(COUNT, 0.02f);
    struct encoded encoded = encode(values, COUNT);
    const uint8_t *at = encoded.payload + HEADER;
    uint8_t *plane = malloc(BLOCK);
    int frames = 0, raw = 0;
    for (size_t done = 0; done < COUNT; done += BLOCK) {
        size_t n = COUNT - done < BLOCK ? COUNT - done : BLOCK;
        const uint8_t *lengths = at;
        at += LENGTHS;
        for (int p = 0; p < 4; p++) {
            size_t length = bytes_load_u32(lengths + 4 * p);
            assert_true(length >= 1 && length <= n);
            if (length < n)
                assert_int_equal(ZSTD_decompress(plane, n, at, length), n);
            else
                memcpy(plane, at, n);
            frames += length < n;
            raw += length == n;
            for (size_t i = 0; i < n; i++)
                assert_int_equal(plane[i], values_to_bits(values[done + i]) >> (8 * p) & 0xff);
            at += length;
        }
    }
    assert_ptr_equal(at, encoded.payload + encoded.bytes);
    assert_true(frames >= 2 && raw >= 2);
    free(plane);
    free(encoded.payload);
    free(values);
}

/* The same bytes again, also into the smallest room; one byte less is refused, wherever the end falls. */
static void capacity(void **state) {
    (void)state;
    enum { COUNT = 400 };
    float *values = make_normal(COUNT, 0.02f);
    struct encoded encoded = encode(values, COUNT);
    for (size_t room = 0; room <= encoded.bytes; room++) {
        struct error error;
        size_t bytes = 77;
        uint8_t *dst = malloc(room + 1); /* the last one a fence */
        dst[room] = 0xa5;
        enum status status = planes_encode(values, COUNT, dst, room, &bytes, &error);
        assert_int_equal(dst[room], 0xa5);
        if (room < encoded.bytes) {
            char text[128];
            snprintf(text, sizeof text, "planes: 400 floats do not fit in %zu bytes; %zu are always enough", room,
                     planes_bound(COUNT));
            assert_int_equal(status, STATUS_DATA);
            assert_string_equal(error.text, text);
            assert_int_equal(bytes, 77);
        } else {
            assert_int_equal(status, STATUS_OK);
            assert_int_equal(bytes, encoded.bytes);
            assert_memory_equal(dst, encoded.payload, bytes);
        }
        free(dst);
    }
    free(encoded.payload);
    free(values);
}

/* ---- hostile bytes ---- */

static struct encoded copy_of(const struct encoded *from, size_t bytes) {
    struct encoded copy = {.payload = malloc(bytes + 1), .bytes = bytes};
    memcpy(copy.payload, from->payload, bytes < from->bytes ? bytes : from->bytes);
    return copy;
}

static void cut_anywhere(void **state) {
    (void)state;
    enum { COUNT = 700 };
    float *values = make_normal(COUNT, 0.02f), *dst = malloc(COUNT * sizeof *dst);
    struct encoded encoded = encode(values, COUNT);
    for (size_t bytes = 0; bytes < encoded.bytes; bytes++) {
        struct error error;
        struct encoded cut = {.payload = malloc(bytes), .bytes = bytes};
        if (bytes > 0)
            memcpy(cut.payload, encoded.payload, bytes);
        assert_int_equal(decode(&cut, dst, COUNT, &error), STATUS_DATA);
        assert_true(strstr(error.text, "zstd") == NULL && strstr(error.text, "the end") == NULL); /* before it reads */
        free(cut.payload);
    }
    free(encoded.payload);
    free(dst);
    free(values);
}

/* Every bit of every byte: refused, or other floats. Never the same ones: no byte is without meaning. (But for unused
 * bits of a zstd frame; they are counted.) */
static void one_bit_changed_anywhere(void **state) {
    (void)state;
    enum { COUNT = 700 };
    float *values = make_normal(COUNT, 0.02f), *dst = malloc(COUNT * sizeof *dst);
    struct encoded encoded = encode(values, COUNT);
    int refusals = 0, others = 0, same = 0;
    for (size_t at = 0; at < encoded.bytes; at++)
        for (int bit = 0; bit < 8; bit++) {
            struct error error;
            encoded.payload[at] ^= (uint8_t)(1 << bit);
            if (decode(&encoded, dst, COUNT, &error) != STATUS_OK)
                refusals++;
            else if (memcmp(dst, values, COUNT * sizeof *dst) != 0)
                others++;
            else
                same++;
            encoded.payload[at] ^= (uint8_t)(1 << bit);
        }
    print_message("of %zu bits changed one at a time: %d refused, %d gave other floats, %d the same\n",
                  8 * encoded.bytes, refusals, others, same);
    assert_true(refusals > 32 * 8 && others > 2 * 700 * 8 && same <= 16);
    free(encoded.payload);
    free(dst);
    free(values);
}

/* Random bytes where frames and lengths stand, over several blocks. */
static void random_bytes_over_it(void **state) {
    (void)state;
    enum { COUNT = BLOCK + 300 };
    float *values = make_normal(COUNT, 0.02f), *dst = malloc(COUNT * sizeof *dst);
    struct encoded encoded = encode(values, COUNT);
    size_t tables = HEADER + LENGTHS; /* of plane 3 of the first block */
    for (int p = 0; p < 3; p++)
        tables += bytes_load_u32(encoded.payload + HEADER + 4 * p);
    int verdicts[2] = {0};
    uint64_t draw = 11;
    for (int round = 0; round < 3000; round++) {
        struct error error;
        uint8_t kept[64];
        size_t length = 1 + values_u64(&draw) % sizeof kept;
        /* By turns: header and lengths, the beginning of a frame where its tables stand, anywhere. */
        size_t first = round % 3 == 1 ? tables : 0;
        size_t range = round % 3 == 2 ? encoded.bytes - length : round % 3 == 1 ? 200 : HEADER + LENGTHS;
        size_t at = first + values_u64(&draw) % range;
        memcpy(kept, encoded.payload + at, length);
        for (size_t i = 0; i < length; i++)
            encoded.payload[at + i] = (uint8_t)values_u64(&draw);
        verdicts[decode(&encoded, dst, COUNT, &error) == STATUS_OK]++;
        memcpy(encoded.payload + at, kept, length);
    }
    assert_true(verdicts[0] > 1000 && verdicts[1] > 500);
    struct error error;
    assert_int_equal(decode(&encoded, dst, COUNT, &error), STATUS_OK);
    assert_memory_equal(dst, values, COUNT * sizeof *dst);
    free(encoded.payload);
    free(dst);
    free(values);
}

static void counts_and_ends_are_exact(void **state) {
    (void)state;
    enum { COUNT = 50 };
    float *values = make_normal(COUNT, 0.02f);
    struct encoded encoded = encode(values, COUNT);
    refused(&encoded, COUNT + 1, "planes: expected 51 floats, found 50");
    refused(&encoded, COUNT - 1, "planes: expected 49 floats, found 50");
    refused(&encoded, 0, "planes: expected 0 floats, found 50");
    struct encoded longer = copy_of(&encoded, encoded.bytes + 1);
    longer.payload[encoded.bytes] = 0;
    refused(&longer, COUNT, "planes: expected the end after 50 floats, found 1 more bytes");
    struct encoded claim = copy_of(&encoded, encoded.bytes);
    bytes_store_u64(claim.payload + 8, COUNT + 1);
    refused(&claim, COUNT + 1, "planes: float 0, plane");
    bytes_store_u64(claim.payload + 8, UINT64_MAX);
    refused(&claim, COUNT, "planes: expected 50 floats, found 18446744073709551615");
    claim.payload[0] ^= 1;
    refused(&claim, COUNT, "planes: expected a header that begins with APL1");
    free(claim.payload);
    free(longer.payload);
    free(encoded.payload);
    free(values);
}

static void lengths_are_checked(void **state) {
    (void)state;
    enum { COUNT = 50 };
    static const uint32_t lengths[] = {0, 1, 3, 4, COUNT - 1, COUNT + 1, 0x7fffffff, 0x80000000, UINT32_MAX};
    float *values = make_normal(COUNT, 0.02f);
    struct encoded encoded = encode(values, COUNT);
    for (int p = 0; p < 4; p++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            char text[128];
            struct encoded claim = copy_of(&encoded, encoded.bytes);
            if (bytes_load_u32(claim.payload + HEADER + 4 * p) == lengths[i])
                continue;
            bytes_store_u32(claim.payload + HEADER + 4 * p, lengths[i]);
            if (lengths[i] > COUNT)
                snprintf(text, sizeof text, "planes: float 0, plane %d: expected at most 50 bytes, found %u", p,
                         lengths[i]);
            else
                snprintf(text, sizeof text,
                         "planes: float 0, plane %d: expected one zstd frame of 50 bytes, found: ", p);
            refused(&claim, COUNT, text);
            free(claim.payload);
        }
    free(encoded.payload);
    free(values);
}

/* A payload of COUNT zeros whose plane 0 is `frame`. */
enum { PLANTED_COUNT = 2000 };
static struct encoded plant(const uint8_t *frame, size_t length) {
    float *zeros = calloc(PLANTED_COUNT, sizeof *zeros);
    struct encoded zero = encode(zeros, PLANTED_COUNT);
    size_t old = bytes_load_u32(zero.payload + HEADER), rest = zero.bytes - HEADER - LENGTHS - old;
    struct encoded planted = copy_of(&zero, HEADER + LENGTHS + length + rest);
    bytes_store_u32(planted.payload + HEADER, (uint32_t)length);
    memcpy(planted.payload + HEADER + LENGTHS, frame, length);
    memcpy(planted.payload + HEADER + LENGTHS + length, zero.payload + HEADER + LENGTHS + old, rest);
    free(zero.payload);
    free(zeros);
    return planted;
}

static void refused_frame(const uint8_t *frame, size_t length, const char *text) {
    struct encoded planted = plant(frame, length);
    refused(&planted, PLANTED_COUNT, text);
    free(planted.payload);
}

/* What libzstd would take, and we do not: two frames, a skippable one, old formats, content of another size. */
static void other_frames_are_refused(void **state) {
    (void)state;
    static const uint8_t zeros[PLANTED_COUNT + 1], skippable[8 + 4] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0};
    uint8_t frame[256];
    size_t length = ZSTD_compress(frame, sizeof frame, zeros, PLANTED_COUNT, 19); /* any encoder's frame will do */
    struct encoded planted = plant(frame, length);
    float dst[PLANTED_COUNT];
    struct error error;
    assert_int_equal(decode(&planted, dst, PLANTED_COUNT, &error), STATUS_OK);
    free(planted.payload);

    memcpy(frame + length, skippable, sizeof skippable);
    refused_frame(frame, length + sizeof skippable, "found: not exactly one zstd frame");
    refused_frame(skippable, sizeof skippable, "found: no zstd frame");
    frame[length] = 0;
    refused_frame(frame, length + 1, "found: not exactly one zstd frame");
    refused_frame(frame, length - 1, "found: not exactly one zstd frame");
    for (uint8_t old = 0x22; old <= 0x27; old++) { /* zstd 0.2 to 0.7 */
        frame[0] = old;
        refused_frame(frame, length, "found: no zstd frame");
    }
    length = ZSTD_compress(frame, sizeof frame, zeros, PLANTED_COUNT / 2, 1);
    length += ZSTD_compress(frame + length, sizeof frame - length, zeros, PLANTED_COUNT / 2, 1);
    refused_frame(frame, length, "found: not exactly one zstd frame");
    length = ZSTD_compress(frame, sizeof frame, zeros, PLANTED_COUNT - 1, 1);
    refused_frame(frame, length, "found: a zstd frame of fewer bytes");
    length = ZSTD_compress(frame, sizeof frame, zeros, PLANTED_COUNT + 1, 1);
    refused_frame(frame, length, "found: Destination buffer is too small");
    static uint8_t bomb[100000000]; /* 100 MB of zeros in 9 kB, cut to what a length may be */
    uint8_t *small = malloc(ZSTD_compressBound(sizeof bomb));
    length = ZSTD_compress(small, ZSTD_compressBound(sizeof bomb), bomb, 10000000, 3);
    assert_true(length < PLANTED_COUNT);
    refused_frame(small, length, "found: Destination buffer is too small");
    free(small);
}

/* ---- what it gains ---- */

/* Prints ratio and speed; asserts bytes only. Data like those of a run: weights N(0, .02) under Nesterov steps of
 * e3m0 deltas. */
static void gain(const char *name, const float *values, size_t count, double least) {
    uint64_t encode_us = UINT64_MAX, decode_us = UINT64_MAX;
    uint8_t *payload = malloc(planes_bound(count));
    float *back = malloc(count * sizeof *back);
    struct error error;
    size_t bytes = 0;
    for (int repetition = 0; repetition < 7; repetition++) {
        uint64_t start = clock_now_us();
        assert_int_equal(planes_encode(values, count, payload, planes_bound(count), &bytes, &error), STATUS_OK);
        uint64_t middle = clock_now_us();
        assert_int_equal(planes_decode(payload, bytes, back, count, &error), STATUS_OK);
        uint64_t end = clock_now_us();
        encode_us = middle - start < encode_us ? middle - start : encode_us;
        decode_us = end - middle < decode_us ? end - middle : decode_us;
    }
    assert_memory_equal(back, values, count * sizeof *back);
    double raw = (double)(count * sizeof *values), ratio = raw / (double)bytes;
    print_message("%-22s ratio %.3f   encode %4.0f MB/s   decode %4.0f MB/s\n", name, ratio, raw / (double)encode_us,
                  raw / (double)decode_us);
    assert_true(ratio > least);
    free(back);
    free(payload);
}

static void weights_and_momentum(void **state) {
    (void)state;
    enum { COUNT = 16 * BLOCK };
    const struct codec *codec = codec_get(CODEC_E3M0);
    float *g = make_normal(COUNT, 0.02f), *u = calloc(COUNT, sizeof *u), *delta = malloc(COUNT * sizeof *delta);
    uint8_t *payload = malloc(codec->bytes(COUNT));
    gain("weights at the start", g, COUNT, 1.18);
    for (uint64_t commit = 1; commit <= 20; commit++) {
        for (size_t i = 0; i < COUNT; i++)
            delta[i] = 1e-3f * rng_normal(4, commit, i);
        assert_int_equal(codec->encode(delta, COUNT, payload), STATUS_OK);
        assert_int_equal(codec->decode(payload, COUNT, delta), STATUS_OK);
        for (size_t i = 0; i < COUNT; i++) {
            u[i] = 0.9f * u[i] + delta[i];
            g[i] = g[i] - 0.7f * (delta[i] + 0.9f * u[i]);
        }
        if (commit == 1)
            gain("momentum, 1 commit", u, COUNT, 6);
    }
    gain("weights, 20 commits", g, COUNT, 1.18);
    gain("momentum, 20 commits", u, COUNT, 1.18);
    free(payload);
    free(delta);
    free(u);
    free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_exponent_and_mantissa_bit),
        cmocka_unit_test(random_bits),
        cmocka_unit_test(every_size_near_a_block),
        cmocka_unit_test(every_kind_of_value),
        cmocka_unit_test(one_float_byte_by_byte),
        cmocka_unit_test(planes_are_where_the_format_says),
        cmocka_unit_test(capacity),
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(one_bit_changed_anywhere),
        cmocka_unit_test(random_bytes_over_it),
        cmocka_unit_test(counts_and_ends_are_exact),
        cmocka_unit_test(lengths_are_checked),
        cmocka_unit_test(other_frames_are_refused),
        cmocka_unit_test(weights_and_momentum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
