/* fuzz: what the fuzz targets share. A target is one file STEM_fuzz.c with
 *
 *     int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
 *
 * that takes hostile bytes to one reader of the project and CHECKs what the reader promises; it keeps nothing from
 * one input to the next. The same file makes two programs: fuzz_STEM of the preset `fuzz` (clang, libFuzzer; run:
 * test/fuzz/run.sh), and replay_STEM of all other builds (replay.c), which ctest runs over test/fuzz/corpus/STEM as
 * fuzz.STEM. */
#ifndef ATOLL_TEST_FUZZ_H
#define ATOLL_TEST_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An input read from its front; at its end it is all zeros. */
struct fuzz_input {
    const uint8_t *at;
    size_t left;
};
uint8_t fuzz_u8(struct fuzz_input *input);
uint16_t fuzz_u16(struct fuzz_input *input); /* little-endian, as the next two */
uint32_t fuzz_u32(struct fuzz_input *input);
uint64_t fuzz_u64(struct fuzz_input *input);

/* fuzz_copy: a malloc'ed copy of exactly `size` bytes and a NUL behind them: with text = false the NUL is left out,
 * so that a sanitizer sees the first byte that is read too far. */
uint8_t *fuzz_copy(const uint8_t *data, size_t size, bool text);

/* fuzz_directory: a directory of this process, in memory where the system has such a place; gone when the process
 * ends. */
const char *fuzz_directory(void);
/* fuzz_write: the file NAME in it (NAME may have folders in front, which are made). Any old content is gone. */
void fuzz_write(const char *name, const void *bytes, size_t count);
/* fuzz_path: its path, valid until the fourth call after it. */
const char *fuzz_path(const char *name);
/* fuzz_empty: remove all that is in it. */
void fuzz_empty(void);

/* A refusal: one of the statuses that the reader promises, with a text for people. STATUS_OK passes too. */
void fuzz_check_refusal(enum status status, const struct error *error);

#endif
