/* Identity and encoding of the tokenizers. */
#include "base/bytes.h"
#include "model/tokenizer.h"
#include "support.h"

static void hash_tells_kind_and_size_apart(void **state) {
    (void)state;
    uint8_t a[TOKENIZER_HASH_BYTES], b[TOKENIZER_HASH_BYTES], c[TOKENIZER_HASH_BYTES], again[TOKENIZER_HASH_BYTES];
    char text[2 * TOKENIZER_HASH_BYTES + 1];
    tokenizer_hash(TOKENIZER_BYTES, 256, a);
    tokenizer_hash(TOKENIZER_BYTES, 256, again);
    tokenizer_hash(TOKENIZER_SHARDS, 256, b);
    tokenizer_hash(TOKENIZER_BYTES, 257, c);
    assert_memory_equal(a, again, sizeof a);
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    /* nodes of different builds compare it: it must not change by accident */
    bytes_to_hex(a, sizeof a, text);
    assert_string_equal(text, "830e4906868764fb8c5e0dc9d3761f7bcb7a108128b80bbe0043b51f765e93fb");
}

static void encodes_bytes(void **state) {
    (void)state;
    struct error error;
    int32_t ids[3];
    assert_int_equal(tokenizer_encode(TOKENIZER_BYTES, "a\xff", 3, ids, &error), STATUS_OK);
    assert_true(ids[0] == 'a' && ids[1] == 255 && ids[2] == 0);
    assert_int_equal(tokenizer_encode(TOKENIZER_SHARDS, "a", 1, ids, &error), STATUS_CONFIG);
    assert_string_equal(error.text,
                        "data.tokenizer: a model of token shards cannot read text; its tokenizer is not known here");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(hash_tells_kind_and_size_apart),
                                       cmocka_unit_test(encodes_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
