/* Snapshots of a whole fragment: hostile bytes -> g and u. Input: u16 floats of the fragment, then the bytes. */
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "outer/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    size_t count = fuzz_u16(&input), room = count * sizeof(float) + 1;
    struct error error = {0};
    uint8_t *bytes = fuzz_copy(input.at, input.left, false);
    float *g = malloc(room), *u = malloc(room), *g_again = malloc(room), *u_again = malloc(room);
    enum status status = snapshot_decode(bytes, input.left, g, u, count, &error);
    CHECK(status == STATUS_OK || status == STATUS_DATA);
    fuzz_check_refusal(status, &error);
    if (status == STATUS_OK) {
        size_t encoded_bytes, bound = snapshot_bound(count);
        uint8_t *encoded = malloc(bound);
        CHECK(snapshot_encode(g, u, count, encoded, &encoded_bytes, &error) == STATUS_OK && encoded_bytes <= bound);
        CHECK(snapshot_decode(encoded, encoded_bytes, g_again, u_again, count, &error) == STATUS_OK);
        CHECK(memcmp(g, g_again, room - 1) == 0 && memcmp(u, u_again, room - 1) == 0);
        free(encoded);
    }
    free(bytes);
    free(g);
    free(u);
    free(g_again);
    free(u_again);
    return 0;
}
