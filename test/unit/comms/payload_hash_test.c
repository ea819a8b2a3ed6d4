/* Tests of comms/payload_hash: against libsodium's BLAKE2b over the lanes taken apart, for every length around the edges and any cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/bytes.h"
#include "comms/payload_hash.h"

enum { PAYLOAD_MAX = 9 * PAYLOAD_HASH_STRIPE_BYTES + 17, WORD = 8 };
static uint8_t payload[PAYLOAD_MAX];

static int set_up(void **state) {
    (void)state;
    for (size_t i = 0; i < PAYLOAD_MAX; i++)
        payload[i] = (uint8_t)(i * 167 + i / 251 + 1);
    return 0;
}

/* As the header says, word for word. */
static void hash_ref(const uint8_t *bytes, size_t count, uint8_t out[MESSAGE_HASH_BYTES]) {
    static const uint8_t lane_person[16] = "atoll lane", root_person[16] = "atoll root";
    static uint8_t padded[PAYLOAD_MAX + PAYLOAD_HASH_STRIPE_BYTES], of_lane[sizeof padded / PAYLOAD_HASH_LANES];
    uint8_t leaves[PAYLOAD_HASH_LANES * MESSAGE_HASH_BYTES + 8];
    size_t stripes = (count + PAYLOAD_HASH_STRIPE_BYTES - 1) / PAYLOAD_HASH_STRIPE_BYTES;
    size_t whole = (stripes > 0 ? stripes : 1) * PAYLOAD_HASH_STRIPE_BYTES;
    memset(padded, 0, sizeof padded);
    memcpy(padded, bytes, count);
    for (size_t lane = 0; lane < PAYLOAD_HASH_LANES; lane++) {
        uint8_t salt[16] = {(uint8_t)lane};
        size_t used = 0;
        for (size_t at = lane * WORD; at < whole; at += PAYLOAD_HASH_LANES * WORD, used += WORD)
            memcpy(of_lane + used, padded + at, WORD);
        assert_int_equal(crypto_generichash_blake2b_salt_personal(leaves + lane * MESSAGE_HASH_BYTES,
                                                                  MESSAGE_HASH_BYTES, of_lane, used, NULL, 0, salt,
                                                                  lane_person),
                         0);
    }
    bytes_store_u64(leaves + PAYLOAD_HASH_LANES * MESSAGE_HASH_BYTES, count);
    assert_int_equal(crypto_generichash_blake2b_salt_personal(out, MESSAGE_HASH_BYTES, leaves, sizeof leaves, NULL, 0,
                                                              NULL, root_person),
                     0);
}

static void test_equals_libsodium(void **state) {
    (void)state;
    uint8_t ours[MESSAGE_HASH_BYTES], theirs[MESSAGE_HASH_BYTES];
    for (size_t count = 0; count <= PAYLOAD_MAX;
         count += count < 70 || count % 1024 > 1010 || count % 1024 < 9 ? 1 : 31) {
        payload_hash_of(payload, count, ours);
        hash_ref(payload, count, theirs);
        assert_memory_equal(ours, theirs, sizeof ours);
    }
}

/* What comes in pieces: after each, as much is hashed as may be. */
static void test_any_cut(void **state) {
    (void)state;
    uint8_t whole[MESSAGE_HASH_BYTES], pieces[MESSAGE_HASH_BYTES];
    for (size_t count = 1; count <= PAYLOAD_MAX; count += 509)
        for (size_t piece = 1; piece < count; piece += 127) {
            struct payload_hash hash, moved;
            payload_hash_begin(&hash);
            for (size_t received = piece; received < count; received += piece) {
                payload_hash_add(&hash, payload + hash.hashed, payload_hash_ready(&hash, received, count));
                assert_true(hash.hashed <= received && received - hash.hashed < PAYLOAD_HASH_STRIPE_BYTES);
            }
            payload_hash_add(&hash, payload + hash.hashed, payload_hash_ready(&hash, count, count));
            moved = hash;
            payload_hash_end(&moved, payload + moved.hashed, count - moved.hashed, pieces);
            payload_hash_of(payload, count, whole);
            assert_memory_equal(pieces, whole, sizeof whole);
        }
}

/* Zeros behind the end are another payload. */
static void test_length_counts(void **state) {
    (void)state;
    static const uint8_t zeros[2 * PAYLOAD_HASH_STRIPE_BYTES];
    static const size_t lengths[] = {0, 1, 2, 8, 1023, 1024, 1025, 2048};
    uint8_t hashes[sizeof lengths / sizeof lengths[0]][MESSAGE_HASH_BYTES];
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        payload_hash_of(zeros, lengths[i], hashes[i]);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(hashes[i], hashes[j], sizeof hashes[i]);
    }
}

static void test_every_byte_counts(void **state) {
    (void)state;
    uint8_t whole[MESSAGE_HASH_BYTES], other[MESSAGE_HASH_BYTES];
    size_t count = 2 * PAYLOAD_HASH_STRIPE_BYTES + 5;
    payload_hash_of(payload, count, whole);
    for (size_t i = 0; i < count; i++) {
        payload[i] ^= 0x10;
        payload_hash_of(payload, count, other);
        payload[i] ^= 0x10;
        assert_memory_not_equal(whole, other, sizeof whole);
    }
}

/* What two versions of atoll must agree on; from hash_ref. */
static void test_known_value(void **state) {
    (void)state;
    uint8_t hash[MESSAGE_HASH_BYTES];
    char text[2 * MESSAGE_HASH_BYTES + 1];
    payload_hash_of((const uint8_t *)"abc", 3, hash);
    bytes_to_hex(hash, sizeof hash, text);
    assert_string_equal(text, "26c5151b8c34f27fa07171500bf19130ec7c90a31f251326c4f40086f8af95ce");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_libsodium), cmocka_unit_test(test_any_cut),
        cmocka_unit_test(test_length_counts),    cmocka_unit_test(test_every_byte_counts),
        cmocka_unit_test(test_known_value),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
