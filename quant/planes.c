/* planes: see the header for the format. Knows zstd; must not know fragments. */
#include "quant/planes.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/vector.h"
#include "quant/float_bits.h"

enum {
    PLANES = sizeof(float),
    HEADER_BYTES = 16,
    LENGTHS_BYTES = 4 * PLANES,
    ZSTD_LEVEL = 1,
    ZSTD_MIN_MATCH = 7, /* the header says why */
    FRAME_MAGIC_BYTES = 4,
};
static const uint8_t magic[8] = "APL1"; /* and four zeros */

static size_t block_count(size_t count) {
    return count / PLANES_BLOCK_FLOATS + (count % PLANES_BLOCK_FLOATS != 0);
}

static size_t block_floats(size_t left) {
    return left < PLANES_BLOCK_FLOATS ? left : PLANES_BLOCK_FLOATS;
}

size_t planes_bound(size_t count) {
    CHECK(count <= SIZE_MAX / 8 - HEADER_BYTES);
    return HEADER_BYTES + block_count(count) * LENGTHS_BYTES + PLANES * count;
}

/* ---- encode ---- */

struct encoder {
    ZSTD_CCtx *zstd;
    uint8_t planes[PLANES][PLANES_BLOCK_FLOATS];
    uint8_t frame[ZSTD_COMPRESSBOUND(PLANES_BLOCK_FLOATS)];
};

HOT_LOOP static void split(const float *restrict src, size_t count, uint8_t *restrict plane0, uint8_t *restrict plane1,
                           uint8_t *restrict plane2, uint8_t *restrict plane3) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = float_to_bits(src[i]);
        plane0[i] = (uint8_t)bits;
        plane1[i] = (uint8_t)(bits >> 8);
        plane2[i] = (uint8_t)(bits >> 16);
        plane3[i] = (uint8_t)(bits >> 24);
    }
}

/* One block into the `left` bytes at dst; *used = how many it took. Frames are made aside with all the room they may
 * need: what zstd makes with less could be something else. */
static enum status encode_block(struct encoder *encoder, const float *src, size_t count, uint8_t *dst, size_t left,
                                size_t *used) {
    uint8_t(*planes)[PLANES_BLOCK_FLOATS] = encoder->planes;
    if (left < LENGTHS_BYTES)
        return STATUS_DATA;
    split(src, count, planes[0], planes[1], planes[2], planes[3]);
    *used = LENGTHS_BYTES;
    for (int p = 0; p < PLANES; p++) {
        size_t bytes = ZSTD_compress2(encoder->zstd, encoder->frame, sizeof encoder->frame, planes[p], count);
        if (ZSTD_isError(bytes)) /* its tables are taken at the first frame; nothing else can fail */
            return STATUS_NO_MEMORY;
        const uint8_t *stored = bytes < count ? encoder->frame : planes[p];
        bytes = bytes < count ? bytes : count;
        if (left - *used < bytes)
            return STATUS_DATA;
        bytes_store_u32(dst + 4 * p, (uint32_t)bytes);
        memcpy(dst + *used, stored, bytes);
        *used += bytes;
    }
    return STATUS_OK;
}

static enum status encode_all(struct encoder *encoder, const float *src, size_t count, uint8_t *dst, size_t capacity,
                              size_t *bytes) {
    if (encoder->zstd == NULL ||
        ZSTD_isError(ZSTD_CCtx_setParameter(encoder->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(encoder->zstd, ZSTD_c_minMatch, ZSTD_MIN_MATCH)))
        return STATUS_NO_MEMORY;
    if (capacity < HEADER_BYTES)
        return STATUS_DATA;
    memcpy(dst, magic, sizeof magic);
    bytes_store_u64(dst + sizeof magic, count);
    size_t at = HEADER_BYTES;
    for (size_t done = 0; done < count; done += PLANES_BLOCK_FLOATS) {
        size_t used;
        enum status status =
            encode_block(encoder, src + done, block_floats(count - done), dst + at, capacity - at, &used);
        if (status != STATUS_OK)
            return status;
        at += used;
    }
    *bytes = at;
    return STATUS_OK;
}

enum status planes_encode(const float *src, size_t count, uint8_t *dst, size_t capacity, size_t *bytes,
                          struct error *error) {
    struct encoder *encoder = malloc(sizeof *encoder);
    if (encoder == NULL)
        return error_set(error, STATUS_NO_MEMORY, "planes: no memory for a block of %d floats", PLANES_BLOCK_FLOATS);
    encoder->zstd = ZSTD_createCCtx();
    enum status status = encode_all(encoder, src, count, dst, capacity, bytes);
    ZSTD_freeCCtx(encoder->zstd);
    free(encoder);
    if (status == STATUS_DATA)
        return error_set(error, status, "planes: %zu floats do not fit in %zu bytes; %zu are always enough", count,
                         capacity, planes_bound(count));
    if (status == STATUS_NO_MEMORY)
        return error_set(error, status, "planes: no memory for zstd's tables");
    return status;
}

/* ---- decode ---- */

struct decoder {
    ZSTD_DCtx *zstd;
    const uint8_t *src; /* what is left */
    size_t bytes;
    uint8_t planes[PLANES][PLANES_BLOCK_FLOATS];
};

HOT_LOOP static void join(const uint8_t *restrict plane0, const uint8_t *restrict plane1,
                          const uint8_t *restrict plane2, const uint8_t *restrict plane3, size_t count,
                          float *restrict dst) {
    for (size_t i = 0; i < count; i++)
        dst[i] = float_from_bits((uint32_t)plane0[i] | (uint32_t)plane1[i] << 8 | (uint32_t)plane2[i] << 16 |
                                 (uint32_t)plane3[i] << 24);
}

/* One frame, no more and no less, of this zstd's own format: libzstd would also take several frames, skippable ones,
 * and formats of before 2016, whose decoders are less tried. In one piece it allocates nothing, whatever window the
 * frame asks for. */
static const char *decode_frame(ZSTD_DCtx *zstd, const uint8_t *src, size_t bytes, uint8_t *plane, size_t count) {
    if (bytes < FRAME_MAGIC_BYTES || bytes_load_u32(src) != ZSTD_MAGICNUMBER)
        return "no zstd frame";
    if (ZSTD_findFrameCompressedSize(src, bytes) != bytes)
        return "not exactly one zstd frame";
    size_t decoded = ZSTD_decompressDCtx(zstd, plane, count, src, bytes);
    if (ZSTD_isError(decoded))
        return ZSTD_getErrorName(decoded);
    return decoded == count ? NULL : "a zstd frame of fewer bytes";
}

/* The block of `count` floats from float `done` on. */
static enum status decode_block(struct decoder *decoder, size_t done, size_t count, float *dst, struct error *error) {
    const uint8_t *planes[PLANES], *lengths = decoder->src;
    if (decoder->bytes < LENGTHS_BYTES)
        return error_set(error, STATUS_DATA, "planes: float %zu: expected the lengths of 4 planes, found %zu bytes",
                         done, decoder->bytes);
    decoder->src += LENGTHS_BYTES;
    decoder->bytes -= LENGTHS_BYTES;
    for (int p = 0; p < PLANES; p++) {
        size_t length = bytes_load_u32(lengths + 4 * p);
        if (length > count)
            return error_set(error, STATUS_DATA, "planes: float %zu, plane %d: expected at most %zu bytes, found %zu",
                             done, p, count, length);
        if (length > decoder->bytes)
            return error_set(error, STATUS_DATA, "planes: float %zu, plane %d: expected %zu bytes, found %zu", done, p,
                             length, decoder->bytes);
        planes[p] = decoder->src;
        if (length < count) {
            const char *wrong = decode_frame(decoder->zstd, decoder->src, length, decoder->planes[p], count);
            if (wrong != NULL)
                return error_set(error, STATUS_DATA,
                                 "planes: float %zu, plane %d: expected one zstd frame of %zu bytes, found: %s", done,
                                 p, count, wrong);
            planes[p] = decoder->planes[p];
        }
        decoder->src += length;
        decoder->bytes -= length;
    }
    join(planes[0], planes[1], planes[2], planes[3], count, dst);
    return STATUS_OK;
}

static enum status decode_all(struct decoder *decoder, float *dst, size_t count, struct error *error) {
    for (size_t done = 0; done < count; done += PLANES_BLOCK_FLOATS) {
        enum status status = decode_block(decoder, done, block_floats(count - done), dst + done, error);
        if (status != STATUS_OK)
            return status;
    }
    if (decoder->bytes != 0)
        return error_set(error, STATUS_DATA, "planes: expected the end after %zu floats, found %zu more bytes", count,
                         decoder->bytes);
    return STATUS_OK;
}

enum status planes_decode(const uint8_t *src, size_t bytes, float *dst, size_t count, struct error *error) {
    if (bytes < HEADER_BYTES || memcmp(src, magic, sizeof magic) != 0)
        return error_set(error, STATUS_DATA, "planes: expected a header that begins with APL1, found %zu other bytes",
                         bytes);
    if (bytes_load_u64(src + sizeof magic) != count)
        return error_set(error, STATUS_DATA, "planes: expected %zu floats, found %llu", count,
                         (unsigned long long)bytes_load_u64(src + sizeof magic));
    struct decoder *decoder = malloc(sizeof *decoder);
    if (decoder == NULL)
        return error_set(error, STATUS_NO_MEMORY, "planes: no memory for a block of %d floats", PLANES_BLOCK_FLOATS);
    decoder->zstd = ZSTD_createDCtx();
    decoder->src = src + HEADER_BYTES;
    decoder->bytes = bytes - HEADER_BYTES;
    enum status status = decoder->zstd != NULL
                             ? decode_all(decoder, dst, count, error)
                             : error_set(error, STATUS_NO_MEMORY, "planes: no memory for zstd's tables");
    ZSTD_freeDCtx(decoder->zstd);
    free(decoder);
    return status;
}
