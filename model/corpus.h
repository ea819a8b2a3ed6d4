/* corpus: files seen as one long row of token ids. Text files (one byte = one token) or token shards:
 *
 *   llm.c      256 little-endian int32 {magic, version, tokens, 0...}, then tokens: magic 20240520 version 1: uint16;
 *              magic 20240801 version 7: uint32. The file size must fit the header exactly.
 *   nanoGPT    no header, uint16 (or uint32) tokens: only when data.dtype says so. A file with an llm.c header is refused then.
 *
 * Every id is checked against the vocabulary at open, and again whenever it is read: files may be cut, rewritten or become unreadable while
 * they are in use. That is why they are read, not mapped: of a mapping nobody gets a status. */
#ifndef ATOLL_MODEL_CORPUS_H
#define ATOLL_MODEL_CORPUS_H

#include <stdint.h>
#include "model/shape.h"

struct corpus;

struct corpus_source {
    const char (
        *globs)[DATA_GLOB_BYTES]; /* (glob_count,) patterns of glob(3), relative to base_directory unless absolute */
    int64_t glob_count;
    const char *base_directory;
    const char *key; /* "data.train", for error texts; a literal: it is kept */
    enum tokenizer_kind tokenizer;
    enum shard_dtype dtype;
    int64_t vocab;
};

/* corpus_open: files of each glob in byte order of their paths, globs in the order given. STATUS_CONFIG: the options name what is not there or
 * may not be read, or contradict the files; STATUS_DATA: bad content; STATUS_IO, STATUS_NO_MEMORY. */
MUST_USE enum status corpus_open(const struct corpus_source *source, struct corpus **corpus, struct error *error);
void corpus_close(struct corpus *corpus);

uint64_t corpus_tokens(const struct corpus *corpus);

/* corpus_copy: ids [first, first + count) -> to (count,), all below the vocabulary. CHECKs the range. STATUS_DATA: a file was cut or rewritten
 * since it was opened; STATUS_IO: it cannot be read any more. `to` is unspecified then; the text names the file. No allocation. */
MUST_USE enum status corpus_copy(const struct corpus *corpus, uint64_t first, uint64_t count, int32_t *to,
                                 struct error *error);

#endif
