/* codec: the formats of outer gradients: floats <-> bits. A payload is a fragment's tensors one after another, each encoded on its
 * own (blocks restart at each tensor, the last one short), back to back without padding.
 *
 *   name  bits per parameter   block   scale                    layout, size, error budget
 *   f32   32                   -       -                        plain.h
 *   bf16  16                   -       -                        plain.h
 *   int8  8.125                128     bf16 absmax/127, up      integer.h
 *   int4  4.25                 64      bf16 absmax/7, up        integer.h
 *   e3m0  4.0625               128     power of two, one byte   e3m0.h
 *
 * Block codecs write each block's scale in front of its codes: a payload is one forward pass on both sides. They turn blocks with
 * absmax < 2^-100 to zero and refuse absmax > 2^127 (nothing they decode is subnormal or infinite); bf16 refuses what would round
 * to infinity. Payloads are little-endian; -0 stays -0 in f32 and bf16, and becomes 0 in the block codecs.
 *
 * Output is the same on every machine: + - * / and integers only, nearest-even, no libm, contraction off.
 * `_ref` versions are plain and slow, written from the format; the fast ones are tested to equal them bit for bit. */
#ifndef ATOLL_QUANT_CODEC_H
#define ATOLL_QUANT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

enum codec_id { CODEC_F32, CODEC_BF16, CODEC_INT8, CODEC_INT4, CODEC_E3M0, CODEC_COUNT };

struct codec {
    enum codec_id id;
    const char *name;
    size_t block; /* values that share a scale; 1 when there is none */
    bool exact;   /* decode(encode(x)) is x: error feedback has nothing to do, its residual stays zero */

    /* Exact bytes of one tensor of `count` values. */
    size_t (*bytes)(size_t count);

    /* encode: src (count,) f32, borrowed -> dst bytes(count), any alignment. One pass, no allocation.
     * STATUS_NOT_FINITE when src holds a NaN, an infinity or a value beyond the format's range (dst unspecified):
     * skip this fragment and report it. */
    enum status (*encode)(const float *src, size_t count, uint8_t *dst) MUST_USE;

    /* decode: src bytes(count) -> dst (count,) f32. Bytes from a peer are hostile: a scale or value that encode never makes
     * (non-finite, reserved) gives STATUS_DATA, dst unspecified. */
    enum status (*decode)(const uint8_t *src, size_t count, float *dst) MUST_USE;

    /* encode_fed: x = difference + residual; dst = encode(x); left_out = x - decode(dst), each (count,) and each operation rounded to
     * f32: what error feedback (residual.h) does at a send, in one pass. left_out may be residual itself, no other overlap. Statuses as
     * encode, left_out unspecified then. */
    enum status (*encode_fed)(const float *difference, const float *residual, size_t count, uint8_t *dst,
                              float *left_out) MUST_USE;

    /* decode_add: sum (count,) += weight * decode(src), two operations, each rounded to f32; sum does not overlap src. Statuses as
     * decode, sum unspecified then. */
    enum status (*decode_add)(const uint8_t *src, size_t count, float weight, float *sum) MUST_USE;

    enum status (*encode_ref)(const float *src, size_t count, uint8_t *dst) MUST_USE;
    enum status (*decode_ref)(const uint8_t *src, size_t count, float *dst) MUST_USE;
};

const struct codec *codec_get(enum codec_id id);
/* NULL when there is none of that name. */
const struct codec *codec_find(const char *name);

/* A span of one block that one tensor occupies; a fragment is a list of them. */
struct codec_span {
    size_t offset; /* floats */
    size_t count;
};

/* codec_payload_bytes: sum of bytes(count) over spans. */
size_t codec_payload_bytes(const struct codec *codec, const struct codec_span *spans, int span_count);

/* A whole fragment between packed float arrays and its payload: the codec's functions, span after span. `packed` and the other float arrays
 * hold the spans' values back to back (sum of counts). Statuses as theirs; from a payload also STATUS_DATA when bytes !=
 * codec_payload_bytes. */
MUST_USE enum status codec_encode_spans(const struct codec *codec, const struct codec_span *spans, int span_count,
                                        const float *packed, uint8_t *payload);
MUST_USE enum status codec_decode_spans(const struct codec *codec, const struct codec_span *spans, int span_count,
                                        const uint8_t *payload, size_t payload_bytes, float *packed);

/* codec_next_piece: cuts a fragment into pieces for work that takes several passes, so that all but the first find them in the L1 cache, and so
 * short that the processor reads the next one while it computes on this one. A piece lies in one span and begins at a whole block: its bytes are
 * those of the payload behind the pieces before it, for any codec.
 *
 *     struct codec_piece piece = {0};
 *     while (codec_next_piece(spans, span_count, &piece))
 *         ... piece.count values from packed[piece.at] on; payload += codec->bytes(piece.count) ...
 */
enum { CODEC_PIECE_FLOATS = 256 }; /* a multiple of every block */
struct codec_piece {
    size_t at;    /* floats before it, in the packed array */
    size_t count; /* 1 .. CODEC_PIECE_FLOATS */
    size_t left;  /* of its span, behind it */
    int next_span;
};
bool codec_next_piece(const struct codec_span *spans, int span_count, struct codec_piece *piece);

#endif
