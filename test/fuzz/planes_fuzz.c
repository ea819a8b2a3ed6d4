/* Byte planes: hostile bytes -> floats. Input: u8 how many floats are expected (255: what the header says), then the
 * bytes. What decodes encodes and decodes to the same bits. */
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "quant/planes.h"

enum { AT_COUNT = 8, COUNT_MAX = 3 * PLANES_BLOCK_FLOATS };

static void check_again(const float *floats, size_t count) {
    struct error error = {0};
    size_t bytes, capacity = planes_bound(count);
    uint8_t *encoded = malloc(capacity);
    float *again = malloc(count * sizeof *again + 1);
    CHECK(planes_encode(floats, count, encoded, capacity, &bytes, &error) == STATUS_OK && bytes <= capacity);
    CHECK(planes_decode(encoded, bytes, again, count, &error) == STATUS_OK);
    CHECK(memcmp(again, floats, count * sizeof *again) == 0);
    free(encoded);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    size_t count = fuzz_u8(&input);
    if (count == UINT8_MAX && input.left >= AT_COUNT + 8)
        count = (size_t)(bytes_load_u64(input.at + AT_COUNT) % (COUNT_MAX + 1));
    struct error error = {0};
    uint8_t *bytes = fuzz_copy(input.at, input.left, false);
    float *floats = malloc(count * sizeof *floats + 1);
    enum status status = planes_decode(bytes, input.left, floats, count, &error);
    CHECK(status == STATUS_OK || status == STATUS_DATA);
    fuzz_check_refusal(status, &error);
    if (status == STATUS_OK)
        check_again(floats, count);
    free(bytes);
    free(floats);
    return 0;
}
