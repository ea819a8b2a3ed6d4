/* Tests of comms/commit: what is signed is every byte of every field, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/bytes.h"
#include "comms/commit.h"

static uint8_t sign_key[MESSAGE_KEY_BYTES], sign_secret[SIGN_SECRET_BYTES];

static int set_up(void **state) {
    (void)state;
    uint8_t seed[crypto_sign_SEEDBYTES];
    memset(seed, 7, sizeof seed);
    return sodium_init() < 0 ? -1 : crypto_sign_seed_keypair(sign_key, sign_secret, seed);
}

static void count_up(uint8_t *bytes, size_t count, uint8_t from) {
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)(from + i);
}

static void make_commit(struct commit *commit, uint32_t counted_count, uint32_t total_count) {
    memset(commit, 0, sizeof *commit);
    count_up(commit->run_id, sizeof commit->run_id, 1);
    commit->leader = 2;
    commit->epoch = 3;
    commit->fragment = 4;
    commit->version = 0x0102030405060708;
    count_up(commit->parent, sizeof commit->parent, 50);
    commit->run_step = 300;
    commit->counted_count = counted_count;
    for (uint32_t i = 0; i < counted_count; i++)
        commit->counted[i] = (struct counted){.slot = i,
                                              .incarnation = 1000 + i,
                                              .base_version = 2000 + i,
                                              .send_step = 3000 + i,
                                              .tokens_from = 4000 + i,
                                              .tokens_to = 5000 + i,
                                              .tokens = 6000 + i};
    commit->total_count = total_count;
    for (uint32_t i = 0; i < total_count; i++)
        commit->totals[i] = (struct total){.slot = 10 + i, .mark = 7000 + i, .applied = 8000 + i, .dropped = 9000 + i};
    commit->payload_bytes = 123456;
    count_up(commit->payload_hash, sizeof commit->payload_hash, 100);
    count_up(commit->state_hash, sizeof commit->state_hash, 150);
}

static void make_certificate(struct certificate *certificate) {
    memset(certificate, 0, sizeof *certificate);
    count_up(certificate->run_id, sizeof certificate->run_id, 1);
    count_up(certificate->worker_key, sizeof certificate->worker_key, 99);
    certificate->slot = 5;
    strcpy(certificate->name, "island-5");
}

/* The canonical bytes, written out here a second time as the header says them. */
static void test_commit_hash_is_of_the_documented_bytes(void **state) {
    (void)state;
    struct commit commit;
    make_commit(&commit, 2, 3);
    uint8_t bytes[1024] = "atoll commit 2", *at = bytes + 32;
    memcpy(at, commit.run_id, 32), at += 32;
    bytes_store_u32(at, 2), at += 4;
    bytes_store_u64(at, 3), at += 8;
    bytes_store_u32(at, 4), at += 4;
    bytes_store_u64(at, 0x0102030405060708), at += 8;
    memcpy(at, commit.parent, 32), at += 32;
    bytes_store_u64(at, 300), at += 8;
    bytes_store_u32(at, 2), at += 4;
    for (uint32_t i = 0; i < 2; i++) {
        bytes_store_u32(at, i), at += 4;
        for (uint64_t field = 1; field <= 6; field++)
            bytes_store_u64(at, 1000 * field + i), at += 8;
    }
    bytes_store_u32(at, 3), at += 4;
    for (uint32_t i = 0; i < 3; i++) {
        bytes_store_u32(at, 10 + i), at += 4;
        for (uint64_t field = 7; field <= 9; field++)
            bytes_store_u64(at, 1000 * field + i), at += 8;
    }
    bytes_store_u64(at, 123456), at += 8;
    memcpy(at, commit.payload_hash, 32), at += 32;
    memcpy(at, commit.state_hash, 16), at += 16;
    uint8_t expected[MESSAGE_HASH_BYTES], hash[MESSAGE_HASH_BYTES];
    crypto_generichash(expected, sizeof expected, bytes, (size_t)(at - bytes), NULL, 0);
    commit_hash(&commit, hash);
    assert_memory_equal(hash, expected, sizeof hash);
}

/* Which bytes of a struct are padding: both fillings of the struct's memory leave the fields' bytes as they were made. */
static bool is_field_byte(size_t at, size_t offset, size_t size) {
    return at >= offset && at < offset + size;
}

static bool is_padding_of_commit(size_t at, uint32_t counted_count, uint32_t total_count) {
#define IN(field) is_field_byte(at, offsetof(struct commit, field), sizeof(((struct commit *)0)->field))
    if (IN(run_id) || IN(leader) || IN(epoch) || IN(fragment) || IN(version) || IN(parent) || IN(run_step) ||
        IN(counted_count) || IN(total_count) || IN(payload_bytes) || IN(payload_hash) || IN(state_hash) ||
        IN(signature))
        return false;
#undef IN
    for (uint32_t i = 0; i < counted_count; i++) {
        size_t base = offsetof(struct commit, counted) + i * sizeof(struct counted);
#define IN(field) is_field_byte(at, base + offsetof(struct counted, field), sizeof(((struct counted *)0)->field))
        if (IN(slot) || IN(incarnation) || IN(base_version) || IN(send_step) || IN(tokens_from) || IN(tokens_to) ||
            IN(tokens))
            return false;
#undef IN
    }
    for (uint32_t i = 0; i < total_count; i++) {
        size_t base = offsetof(struct commit, totals) + i * sizeof(struct total);
#define IN(field) is_field_byte(at, base + offsetof(struct total, field), sizeof(((struct total *)0)->field))
        if (IN(slot) || IN(mark) || IN(applied) || IN(dropped))
            return false;
#undef IN
    }
    return true; /* padding, or a line beyond the count */
}

static void test_every_byte_of_a_commit_counts(void **state) {
    (void)state;
    static const uint32_t counts[][2] = {{1, 1}, {3, 5}, {MESSAGE_WORKERS_MAX, MESSAGE_WORKERS_MAX}};
    for (size_t n = 0; n < 3; n++) {
        struct commit commit, changed;
        uint8_t hash[MESSAGE_HASH_BYTES], other[MESSAGE_HASH_BYTES];
        make_commit(&commit, counts[n][0], counts[n][1]);
        commit_hash(&commit, hash);
        commit_sign(&commit, sign_secret);
        commit_hash(&commit, other);
        assert_memory_equal(hash, other, sizeof hash); /* the signature is not in it */
        struct error error;
        assert_int_equal(commit_verify(&commit, sign_key, &error), STATUS_OK);
        size_t tried = 0;
        for (size_t at = 0; at < sizeof commit; at++) {
            memcpy(&changed, &commit, sizeof commit);
            ((uint8_t *)&changed)[at] ^= (uint8_t)(1 << at % 8);
            if (changed.counted_count > MESSAGE_WORKERS_MAX || changed.total_count > MESSAGE_WORKERS_MAX)
                continue; /* the wire lets none in */
            bool same = is_padding_of_commit(at, counts[n][0], counts[n][1]);
            bool in_signature = is_field_byte(at, offsetof(struct commit, signature), MESSAGE_SIGNATURE_BYTES);
            commit_hash(&changed, other);
            assert_int_equal(memcmp(hash, other, sizeof hash) == 0, same || in_signature);
            assert_int_equal(commit_verify(&changed, sign_key, &error), same ? STATUS_OK : STATUS_DATA);
            tried += !same;
        }
        assert_true(tried >= 32 + 4 + 8 + 4 + 8 + 32 + 8 + counts[n][0] * 52 + counts[n][1] * 28 + 8 + 32 + 16 + 64);
    }
}

static void test_order_and_count_of_the_lists_count(void **state) {
    (void)state;
    struct commit commit;
    uint8_t hash[MESSAGE_HASH_BYTES], other[MESSAGE_HASH_BYTES];
    make_commit(&commit, 2, 2);
    commit_hash(&commit, hash);
    struct counted first = commit.counted[0];
    commit.counted[0] = commit.counted[1];
    commit.counted[1] = first;
    commit_hash(&commit, other);
    assert_memory_not_equal(hash, other, sizeof hash);
    make_commit(&commit, 2, 2);
    commit.counted_count = 1;
    commit_hash(&commit, other);
    assert_memory_not_equal(hash, other, sizeof hash);
    commit.counted_count = 0;
    commit_hash(&commit, other);
    assert_memory_not_equal(hash, other, sizeof hash);
    make_commit(&commit, 2, 2);
    struct total total = commit.totals[0];
    commit.totals[0] = commit.totals[1];
    commit.totals[1] = total;
    commit_hash(&commit, other);
    assert_memory_not_equal(hash, other, sizeof hash);
    make_commit(&commit, 2, 2);
    commit.total_count = 1;
    commit_hash(&commit, other);
    assert_memory_not_equal(hash, other, sizeof hash);
}

static void test_errors_name_the_commit_and_the_certificate(void **state) {
    (void)state;
    struct commit commit;
    struct certificate certificate;
    struct error error;
    make_commit(&commit, 1, 1);
    commit.version = 12;
    assert_int_equal(commit_verify(&commit, sign_key, &error), STATUS_DATA);
    assert_string_equal(error.text,
                        "commit of fragment 4, version 12, epoch 3: expected the outer's signature, found another");
    make_certificate(&certificate);
    assert_int_equal(certificate_verify(&certificate, sign_key, &error), STATUS_DATA);
    assert_string_equal(error.text, "certificate of slot 5 (island-5): expected the outer's signature, found another");
}

static void test_another_key_does_not_pass(void **state) {
    (void)state;
    struct commit commit;
    struct certificate certificate;
    struct error error;
    uint8_t other_key[MESSAGE_KEY_BYTES], other_secret[SIGN_SECRET_BYTES], zero[MESSAGE_KEY_BYTES] = {0};
    crypto_sign_keypair(other_key, other_secret);
    make_commit(&commit, 1, 1);
    commit_sign(&commit, other_secret);
    assert_int_equal(commit_verify(&commit, other_key, &error), STATUS_OK);
    assert_int_equal(commit_verify(&commit, sign_key, &error), STATUS_DATA);
    assert_int_equal(commit_verify(&commit, zero, NULL), STATUS_DATA);
    make_certificate(&certificate);
    certificate_sign(&certificate, other_secret);
    assert_int_equal(certificate_verify(&certificate, other_key, &error), STATUS_OK);
    assert_int_equal(certificate_verify(&certificate, sign_key, &error), STATUS_DATA);
}

static void test_every_byte_of_a_certificate_counts(void **state) {
    (void)state;
    struct certificate certificate, changed;
    struct error error;
    make_certificate(&certificate);
    certificate_sign(&certificate, sign_secret);
    assert_int_equal(certificate_verify(&certificate, sign_key, &error), STATUS_OK);
    size_t name_end = offsetof(struct certificate, name) + strlen(certificate.name);
    for (size_t at = 0; at < sizeof certificate; at++) {
        changed = certificate;
        ((uint8_t *)&changed)[at] ^= 1;
        bool behind_the_name = is_field_byte(at, name_end + 1, MESSAGE_NAME_BYTES - strlen(certificate.name) - 1);
        assert_int_equal(certificate_verify(&changed, sign_key, &error), behind_the_name ? STATUS_OK : STATUS_DATA);
    }
}

/* The same fields under another domain give another hash; each argument counts. */
static void test_genesis_and_run_id(void **state) {
    (void)state;
    uint8_t run_id[MESSAGE_HASH_BYTES], state_hash[MESSAGE_STATE_HASH_BYTES], hashes[140][MESSAGE_HASH_BYTES];
    size_t count = 0;
    count_up(run_id, sizeof run_id, 1);
    count_up(state_hash, sizeof state_hash, 2);
    commit_genesis(run_id, 0, state_hash, hashes[count++]);
    commit_genesis(run_id, 1, state_hash, hashes[count++]);
    commit_genesis(run_id, 1u << 24, state_hash, hashes[count++]);
    for (size_t i = 0; i < sizeof state_hash; i++) {
        state_hash[i] ^= 1;
        commit_genesis(run_id, 0, state_hash, hashes[count++]);
        state_hash[i] ^= 1;
    }
    for (size_t i = 0; i < sizeof run_id; i++) {
        run_id[i] ^= 1;
        commit_genesis(run_id, 0, state_hash, hashes[count++]);
        run_id[i] ^= 1;
    }
    uint8_t keys_hash[MESSAGE_HASH_BYTES], outer_key[MESSAGE_KEY_BYTES];
    count_up(keys_hash, sizeof keys_hash, 3);
    count_up(outer_key, sizeof outer_key, 4);
    run_id_make(outer_key, "novels-4", keys_hash, hashes[count++]);
    run_id_make(outer_key, "novels-5", keys_hash, hashes[count++]);
    run_id_make(outer_key, "", keys_hash, hashes[count++]);
    for (size_t i = 0; i < sizeof keys_hash; i++) {
        keys_hash[i] ^= 1;
        run_id_make(outer_key, "novels-4", keys_hash, hashes[count++]);
        keys_hash[i] ^= 1;
        outer_key[i] ^= 1;
        run_id_make(outer_key, "novels-4", keys_hash, hashes[count++]);
        outer_key[i] ^= 1;
    }
    for (size_t i = 0; i < count; i++)
        for (size_t j = i + 1; j < count; j++)
            assert_memory_not_equal(hashes[i], hashes[j], MESSAGE_HASH_BYTES);
}

/* A hash that changes is another protocol: pinned. Made by Python's hashlib.blake2b(digest_size=32) and struct.pack
 * over the documented bytes. */
static void test_pinned_hashes(void **state) {
    (void)state;
    struct commit commit;
    uint8_t hash[MESSAGE_HASH_BYTES], zero[MESSAGE_HASH_BYTES] = {0};
    char text[2 * MESSAGE_HASH_BYTES + 1];
    make_commit(&commit, 3, 3);
    commit_hash(&commit, hash);
    bytes_to_hex(hash, sizeof hash, text);
    assert_string_equal(text, "8f35b6b016a2d867d97f17f8ff8014b044c720cbc6ee6a612f23628e897ec450");
    commit_genesis(zero, 0, zero, hash);
    bytes_to_hex(hash, sizeof hash, text);
    assert_string_equal(text, "f0a76a223a04055220ddf9b3e48174e5bc660794f80bb0f68f97ab26d3498150");
    run_id_make(zero, "novels-4", zero, hash);
    bytes_to_hex(hash, sizeof hash, text);
    assert_string_equal(text, "8f2c7e1ef45273e3c9990900059ccce1e84da8ceb1e34a8907dc728d338899e3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commit_hash_is_of_the_documented_bytes),
        cmocka_unit_test(test_every_byte_of_a_commit_counts),
        cmocka_unit_test(test_order_and_count_of_the_lists_count),
        cmocka_unit_test(test_errors_name_the_commit_and_the_certificate),
        cmocka_unit_test(test_another_key_does_not_pass),
        cmocka_unit_test(test_every_byte_of_a_certificate_counts),
        cmocka_unit_test(test_genesis_and_run_id),
        cmocka_unit_test(test_pinned_hashes),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
