/* token.c: the binary form, all integers little-endian:
 *
 *   u8 version = 1 | u64 expires_s | u32 uses | id[8] | secret[32] | outer_key[32] | u8 n, run_name[n]
 *   | u8 count | count x { u16 control_port | u16 bulk_port | u8 n, host[n] } | check[4]
 *
 * check = the first 4 bytes of BLAKE2b-256 of all before it: it finds a slip of the mouse, it is no signature. */
#include "comms/token.h"

#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/files.h"

enum {
    TOKEN_VERSION = 1,
    CHECK_BYTES = 4,
    FIXED_BYTES = 1 + 8 + 4 + MESSAGE_TOKEN_ID_BYTES + TOKEN_SECRET_BYTES + MESSAGE_KEY_BYTES,
    BINARY_BYTES_MAX =
        FIXED_BYTES + 1 + MESSAGE_NAME_BYTES + 1 + TOKEN_ADDRESSES_MAX * (2 + 2 + 1 + TOKEN_HOST_BYTES) + CHECK_BYTES,
};
static const char token_prefix[] = "atoll1.";
_Static_assert(sodium_base64_ENCODED_LEN(BINARY_BYTES_MAX, sodium_base64_VARIANT_URLSAFE_NO_PADDING) +
                       sizeof token_prefix <=
                   TOKEN_TEXT_BYTES,
               "the longest token fits");

void token_make_secret(struct token *token) {
    randombytes_buf(token->id, sizeof token->id);
    randombytes_buf(token->secret, sizeof token->secret);
}

/* Run names and hosts: printable ASCII without spaces, so that a token can be echoed into logs and endpoints. */
static bool plain_text(const char *text, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return count > 0;
}

/* What may stand in tcp://HOST:PORT: names, IPv4, [IPv6%zone]. */
static bool host_text(const char *text, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr(".-_:[]%", text[i]))
            return false;
    return plain_text(text, count) && (memchr(text, ':', count) == NULL || (text[0] == '[' && text[count - 1] == ']'));
}

static void checksum(const uint8_t *bytes, size_t count, uint8_t check[CHECK_BYTES]) {
    uint8_t hash[crypto_generichash_BYTES];
    CHECK(crypto_generichash(hash, sizeof hash, bytes, count, NULL, 0) == 0);
    memcpy(check, hash, CHECK_BYTES);
}

bool token_host_is_valid(const char *host) {
    size_t count = strnlen(host, TOKEN_HOST_BYTES);
    return count < TOKEN_HOST_BYTES && host_text(host, count);
}

static uint8_t *put_bytes(uint8_t *to, const void *from, size_t count) {
    memcpy(to, from, count);
    return to + count;
}

static uint8_t *put_text(uint8_t *to, const char *text, size_t count) {
    *to = (uint8_t)count;
    return put_bytes(to + 1, text, count);
}

void token_format(const struct token *token, char text[TOKEN_TEXT_BYTES]) {
    uint8_t binary[BINARY_BYTES_MAX];
    uint8_t *to = binary;
    *to++ = TOKEN_VERSION;
    bytes_store_u64(to, token->expires_s);
    bytes_store_u32(to + 8, token->uses);
    to = put_bytes(to + 12, token->id, sizeof token->id);
    to = put_bytes(to, token->secret, sizeof token->secret);
    to = put_bytes(to, token->outer_key, sizeof token->outer_key);
    size_t count = strnlen(token->run_name, sizeof token->run_name);
    CHECK(count < sizeof token->run_name && plain_text(token->run_name, count));
    to = put_text(to, token->run_name, count);
    CHECK(token->address_count >= 1 && token->address_count <= TOKEN_ADDRESSES_MAX);
    *to++ = (uint8_t)token->address_count;
    for (uint32_t i = 0; i < token->address_count; i++) {
        const struct token_address *address = &token->addresses[i];
        bytes_store_u16(to, address->control_port);
        bytes_store_u16(to + 2, address->bulk_port);
        count = strnlen(address->host, sizeof address->host);
        CHECK(token_host_is_valid(address->host));
        to = put_text(to + 4, address->host, count);
    }
    checksum(binary, (size_t)(to - binary), to);
    to += CHECK_BYTES;
    memcpy(text, token_prefix, sizeof token_prefix - 1);
    sodium_bin2base64(text + sizeof token_prefix - 1, TOKEN_TEXT_BYTES - (sizeof token_prefix - 1), binary,
                      (size_t)(to - binary), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(binary, sizeof binary);
}

/* A reader that remembers whether it ran past the end. */
struct reader {
    const uint8_t *at;
    size_t left;
    bool cut;
};

static const uint8_t *take(struct reader *reader, size_t count) {
    static const uint8_t nothing[TOKEN_HOST_BYTES];
    CHECK(count <= sizeof nothing);
    if (reader->cut || reader->left < count) {
        reader->cut = true;
        return nothing;
    }
    const uint8_t *bytes = reader->at;
    reader->at += count;
    reader->left -= count;
    return bytes;
}

/* room counts the NUL; false: does not fit, or holds a NUL. */
static bool take_text(struct reader *reader, char *text, size_t room) {
    size_t count = *take(reader, 1);
    if (count >= room)
        return false;
    memcpy(text, take(reader, count), count);
    text[count] = '\0';
    return strlen(text) == count;
}

/* Fills `token`; false: the content is not what token_format makes. */
static bool read_fields(struct reader *reader, struct token *token) {
    token->expires_s = bytes_load_u64(take(reader, 8));
    token->uses = bytes_load_u32(take(reader, 4));
    memcpy(token->id, take(reader, sizeof token->id), sizeof token->id);
    memcpy(token->secret, take(reader, sizeof token->secret), sizeof token->secret);
    memcpy(token->outer_key, take(reader, sizeof token->outer_key), sizeof token->outer_key);
    bool good = take_text(reader, token->run_name, sizeof token->run_name) &&
                plain_text(token->run_name, strlen(token->run_name));
    token->address_count = *take(reader, 1);
    good = good && token->address_count >= 1 && token->address_count <= TOKEN_ADDRESSES_MAX;
    for (uint32_t i = 0; good && i < token->address_count; i++) {
        struct token_address *address = &token->addresses[i];
        address->control_port = bytes_load_u16(take(reader, 2));
        address->bulk_port = bytes_load_u16(take(reader, 2));
        good = take_text(reader, address->host, sizeof address->host) &&
               host_text(address->host, strlen(address->host)) && address->control_port != 0 && address->bulk_port != 0;
    }
    return good;
}

static enum status parse_binary(const uint8_t *binary, size_t count, size_t characters, struct token *token,
                                struct error *error) {
    struct reader reader = {binary, count, false};
    uint8_t version = *take(&reader, 1);
    if (!reader.cut && version != TOKEN_VERSION)
        return error_set(error, STATUS_USAGE,
                         "this token is of version %u, this atoll knows version %d: use the same atoll as the outer",
                         version, TOKEN_VERSION);
    bool good = read_fields(&reader, token);
    size_t covered = (size_t)(reader.at - binary);
    uint8_t check[CHECK_BYTES];
    checksum(binary, covered, check);
    const uint8_t *found = take(&reader, CHECK_BYTES);
    if (reader.cut)
        return error_set(error, STATUS_USAGE,
                         "this token is cut short after %zu characters: paste the whole line again", characters);
    if (!good || reader.left != 0 || memcmp(check, found, CHECK_BYTES) != 0)
        return error_set(error, STATUS_USAGE,
                         "this token is damaged (its checksum does not match): paste the whole line again");
    return STATUS_OK;
}

enum status token_parse(const char *text, struct token *token, struct error *error) {
    static const char white[] = " \t\r\n";
    text += strspn(text, white);
    size_t characters = strlen(text);
    while (characters > 0 && strchr(white, text[characters - 1]))
        characters--;
    size_t word = 5 + strspn(text + (strncmp(text, "atoll", 5) == 0 ? 5 : characters), "0123456789");
    if (strncmp(text, "atoll", 5) != 0 || word == 5 || word >= characters || text[word] != '.')
        return error_set(error, STATUS_USAGE,
                         "this is not a token: expected %s and letters, as in the line that `atoll outer` prints",
                         token_prefix);
    if (strncmp(text, token_prefix, sizeof token_prefix - 1) != 0)
        return error_set(error, STATUS_USAGE,
                         "this token is of version %.*s, this atoll knows version %d: use the same atoll as the outer",
                         (int)(word - 5), text + 5, TOKEN_VERSION);
    const char *encoded = text + word + 1;
    size_t encoded_count = characters - word - 1;
    uint8_t binary[BINARY_BYTES_MAX];
    size_t count = 0;
    const char *end = NULL;
    struct token made = {0};
    enum status status;
    if (encoded_count >= TOKEN_TEXT_BYTES) {
        status =
            error_set(error, STATUS_USAGE, "this token is too long (%zu characters): paste one line only", characters);
    } else {
        /* A cut text may end in bits that encode nothing: leave them away, to be able to say "cut short". */
        enum { VARIANT = sodium_base64_VARIANT_URLSAFE_NO_PADDING };
        size_t used = encoded_count;
        if (sodium_base642bin(binary, sizeof binary, encoded, used, NULL, &count, &end, VARIANT) != 0 &&
            end == encoded + used) {
            used -= used % 4;
            CHECK(sodium_base642bin(binary, sizeof binary, encoded, used, NULL, &count, &end, VARIANT) == 0);
        }
        if (end != encoded + used)
            status = error_set(error, STATUS_USAGE,
                               "this token is damaged (character %zu is none of a token's): paste the whole line again",
                               (size_t)(end - text) + 1);
        else
            status = parse_binary(binary, count, characters, &made, error);
    }
    if (status == STATUS_OK)
        *token = made;
    sodium_memzero(binary, sizeof binary);
    sodium_memzero(&made, sizeof made);
    return status;
}

/* The first line of standard input that is not blank. */
static enum status read_standard_input(struct token *token, struct error *error) {
    char line[2 * TOKEN_TEXT_BYTES];
    size_t used = 0;
    int c;
    while ((c = getchar()) != EOF) {
        if (used == 0 && isspace(c))
            continue;
        if (c == '\n' || used == sizeof line - 1)
            break;
        line[used++] = (char)c;
    }
    line[used] = '\0';
    enum status status = used > 0 ? token_parse(line, token, error)
                                  : error_set(error, STATUS_USAGE, "no token on standard input: paste the line there");
    sodium_memzero(line, sizeof line);
    return status;
}

enum status token_read(const char *argument, struct token *token, struct error *error) {
    if (strcmp(argument, "-") == 0)
        return read_standard_input(token, error);
    size_t digits = strncmp(argument, "atoll", 5) == 0 ? strspn(argument + 5, "0123456789") : 0;
    if (digits > 0 && argument[5 + digits] == '.')
        return token_parse(argument, token, error);
    uint8_t *bytes = NULL;
    size_t count = 0;
    enum status status = files_read(argument, 2 * TOKEN_TEXT_BYTES, &bytes, &count, error);
    if (status == STATUS_NOT_FOUND || (status == STATUS_IO && strlen(argument) > 255))
        return strlen(argument) > 64 /* perhaps a secret that lost its head: do not repeat it */
                   ? error_set(error, STATUS_USAGE, "this is neither a token (%s...) nor a file", token_prefix)
                   : error_set(error, STATUS_USAGE, "'%s' is neither a token (%s...) nor a file", argument,
                               token_prefix);
    if (status != STATUS_OK)
        return status;
    status = token_parse((const char *)bytes, token, error);
    sodium_memzero(bytes, count);
    free(bytes);
    return status == STATUS_OK ? STATUS_OK : error_set(error, status, "%s: %s", argument, error ? error->text : "");
}
