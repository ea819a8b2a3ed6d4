/* snapshot: g and u come back bit for bit; what is cut, longer or lies about its length is refused; no flipped bit does harm. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/bytes.h"
#include "base/rng.h"
#include "outer/snapshot.h"

enum { COUNT_MAX = 70000, FUZZED = 500, LENGTH_BYTES = 8 }; /* more than one block of planes.h */

static float g[COUNT_MAX], u[COUNT_MAX], read_g[COUNT_MAX], read_u[COUNT_MAX];
static struct error error;

static void fill(size_t count) {
    for (size_t i = 0; i < count; i++) {
        g[i] = 0.02f * rng_normal(1, 0, i);
        u[i] = 1e-4f * rng_normal(2, 0, i);
    }
}

/* Freed by the caller; exactly as many bytes as there are, so that a sanitizer sees a read beyond them. */
static uint8_t *encode(size_t count, size_t *bytes) {
    uint8_t *room = test_malloc(snapshot_bound(count));
    assert_int_equal(snapshot_encode(g, u, count, room, bytes, &error), STATUS_OK);
    assert_in_range(*bytes, LENGTH_BYTES, snapshot_bound(count));
    uint8_t *packed = test_malloc(*bytes);
    memcpy(packed, room, *bytes);
    test_free(room);
    return packed;
}

static enum status decode(const uint8_t *packed, size_t bytes, size_t count) {
    uint8_t *exact = test_malloc(bytes + (bytes == 0));
    memcpy(exact, packed, bytes);
    error.text[0] = 0;
    enum status status = snapshot_decode(exact, bytes, read_g, read_u, count, &error);
    assert_true(status == STATUS_OK || (status == STATUS_DATA && error.text[0] != 0));
    test_free(exact);
    return status;
}

static void every_bit_comes_back(void **state) {
    (void)state;
    static const size_t counts[] = {0, 1, 2, 7, 1000, 65536, 65537, COUNT_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t count = counts[i], bytes;
        fill(count);
        if (count >= 7) { /* also what is no honest parameter */
            g[0] = NAN, g[1] = -INFINITY, g[2] = -0.0f, u[3] = 1e-42f, u[4] = -NAN;
        }
        uint8_t *packed = encode(count, &bytes);
        memset(read_g, 0xa5, sizeof read_g), memset(read_u, 0xa5, sizeof read_u);
        assert_int_equal(decode(packed, bytes, count), STATUS_OK);
        assert_memory_equal(read_g, g, count * sizeof *g);
        assert_memory_equal(read_u, u, count * sizeof *u);
        if (count < COUNT_MAX) { /* nothing beyond it is written */
            const uint8_t *beyond = (const uint8_t *)(read_u + count);
            assert_true(beyond[0] == 0xa5 && beyond[3] == 0xa5);
        }
        test_free(packed);
    }
}

/* A run that begins: u is zero, and costs next to nothing. */
static void zeros_are_small(void **state) {
    (void)state;
    size_t bytes, full;
    fill(COUNT_MAX);
    test_free(encode(COUNT_MAX, &full));
    memset(u, 0, sizeof u);
    test_free(encode(COUNT_MAX, &bytes));
    assert_true(bytes < full - 3 * COUNT_MAX);
}

static void every_cut_is_refused(void **state) {
    (void)state;
    size_t bytes;
    fill(FUZZED);
    uint8_t *packed = encode(FUZZED, &bytes);
    for (size_t cut = 0; cut < bytes; cut++)
        assert_int_equal(decode(packed, cut, FUZZED), STATUS_DATA);
    uint8_t *longer = test_malloc(bytes + 1);
    memcpy(longer, packed, bytes);
    longer[bytes] = 0;
    assert_int_equal(decode(longer, bytes + 1, FUZZED), STATUS_DATA);
    test_free(longer);
    assert_int_equal(decode(packed, bytes, FUZZED + 1), STATUS_DATA);
    assert_int_equal(decode(packed, bytes, FUZZED - 1), STATUS_DATA);
    assert_int_equal(decode(packed, 3, FUZZED), STATUS_DATA);
    assert_string_equal(error.text, "a snapshot of 3 bytes: expected at least 8");
    test_free(packed);
}

static void the_length_may_say_anything(void **state) {
    (void)state;
    size_t bytes;
    char text[256];
    fill(FUZZED);
    uint8_t *packed = encode(FUZZED, &bytes);
    uint64_t honest = bytes_load_u64(packed);
    const uint64_t lengths[] = {0,         1,          honest - 1, honest + 1,     bytes - LENGTH_BYTES,
                                bytes - 7, UINT64_MAX, bytes,      UINT64_MAX - 7, (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        bytes_store_u64(packed, lengths[i]);
        assert_int_equal(decode(packed, bytes, FUZZED), STATUS_DATA);
    }
    bytes_store_u64(packed, bytes - LENGTH_BYTES + 1);
    assert_int_equal(decode(packed, bytes, FUZZED), STATUS_DATA);
    snprintf(text, sizeof text, "a snapshot of %zu bytes says that %zu of them are parameters", bytes,
             bytes - LENGTH_BYTES + 1);
    assert_string_equal(error.text, text);
    test_free(packed);
}

/* Refused, or other floats, which the state hash finds; some bits of the compressed form mean nothing. */
static void every_flipped_byte(void **state) {
    (void)state;
    size_t bytes;
    fill(FUZZED);
    uint8_t *packed = encode(FUZZED, &bytes);
    size_t same = 0;
    for (size_t at = 0; at < bytes; at++)
        for (unsigned bit = 1; bit < 256; bit *= 2) {
            packed[at] ^= (uint8_t)bit;
            same += decode(packed, bytes, FUZZED) == STATUS_OK && memcmp(read_g, g, FUZZED * sizeof *g) == 0 &&
                    memcmp(read_u, u, FUZZED * sizeof *u) == 0;
            packed[at] ^= (uint8_t)bit;
        }
    assert_true(same < 16);
    assert_int_equal(decode(packed, bytes, FUZZED), STATUS_OK);
    test_free(packed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bit_comes_back), cmocka_unit_test(zeros_are_small),
        cmocka_unit_test(every_cut_is_refused), cmocka_unit_test(the_length_may_say_anything),
        cmocka_unit_test(every_flipped_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
