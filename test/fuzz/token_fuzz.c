/* Tokens. The input is the pasted text; and, since its checksum keeps mutations out, it is tried a second time as the
 * binary form behind it, with the checksum that it should have. What parses is printed and parses again to the same. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "comms/token.h"
#include "fuzz/fuzz.h"

static void try_text(const char *text) {
    struct token token, again;
    struct error error = {0};
    memset(&token, 0xa5, sizeof token);
    again = token;
    enum status status = token_parse(text, &token, &error);
    fuzz_check_refusal(status, &error);
    if (status != STATUS_OK) {
        CHECK(status == STATUS_USAGE && memcmp(&token, &again, sizeof token) == 0);
        return;
    }
    char printed[TOKEN_TEXT_BYTES];
    CHECK(token.address_count >= 1 && token.address_count <= TOKEN_ADDRESSES_MAX);
    for (uint32_t i = 0; i < token.address_count; i++)
        CHECK(token_host_is_valid(token.addresses[i].host));
    token_format(&token, printed);
    CHECK(token_parse(printed, &again, &error) == STATUS_OK);
    CHECK(memcmp(&token, &again, sizeof token) == 0); /* both were zeroed before they were filled */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { BINARY_BYTES_MAX = 1400, CHECK_BYTES = 4 };
    char *text = (char *)fuzz_copy(data, size, true);
    try_text(text);
    free(text);
    if (size > BINARY_BYTES_MAX)
        return 0;
    uint8_t binary[BINARY_BYTES_MAX + CHECK_BYTES], hash[crypto_generichash_BYTES];
    char encoded[8 + sodium_base64_ENCODED_LEN(sizeof binary, sodium_base64_VARIANT_URLSAFE_NO_PADDING)] = "atoll1.";
    if (size > 0)
        memcpy(binary, data, size);
    crypto_generichash(hash, sizeof hash, binary, size, NULL, 0);
    memcpy(binary + size, hash, CHECK_BYTES);
    sodium_bin2base64(encoded + strlen(encoded), sizeof encoded - strlen(encoded), binary, size + CHECK_BYTES,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    try_text(encoded);
    return 0;
}
