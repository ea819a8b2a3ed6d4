/* token: the line that a worker pastes. "atoll1." + base64url without padding of: version, expiry, uses, token id, secret, outer
 * CURVE key, run name, addresses, checksum. Whoever holds it can register `uses` workers until it expires. */
#ifndef ATOLL_COMMS_TOKEN_H
#define ATOLL_COMMS_TOKEN_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "comms/message.h"

enum { TOKEN_ADDRESSES_MAX = 4, TOKEN_HOST_BYTES = 256, TOKEN_TEXT_BYTES = 2048, TOKEN_SECRET_BYTES = 32 };

/* Control and bulk are two ports of one host. Host: name, IPv4, or [IPv6]. */
struct token_address {
    char host[TOKEN_HOST_BYTES];
    uint16_t control_port;
    uint16_t bulk_port;
};

struct token {
    uint64_t expires_s; /* seconds since 1970 */
    uint32_t uses;
    uint8_t id[MESSAGE_TOKEN_ID_BYTES];
    uint8_t secret[TOKEN_SECRET_BYTES];
    uint8_t outer_key[MESSAGE_KEY_BYTES];
    char run_name[MESSAGE_NAME_BYTES];
    uint32_t address_count;
    struct token_address addresses[TOKEN_ADDRESSES_MAX];
};

/* What an address may hold as host: printable, no spaces, IPv6 in brackets, fits. */
bool token_host_is_valid(const char *host);

/* A fresh id and secret from the system's randomness; the rest is the caller's. */
void token_make_secret(struct token *token);
/* CHECKs what only a bug could break: run name and hosts printable without spaces, 1 to 4 addresses. */
void token_format(const struct token *token, char text[TOKEN_TEXT_BYTES]);
/* STATUS_USAGE: not a token, cut short, or of a newer version: the text says which. Surrounding white space is ignored. Expiry is for the
 * outer to judge (clocks differ). */
MUST_USE enum status token_parse(const char *text, struct token *token, struct error *error);

/* token_read: `argument` is the token itself, "-" (standard input, its first line that is not blank) or a path: secrets stay out
 * of `ps`. STATUS_USAGE, or STATUS_IO for a file that cannot be read. */
MUST_USE enum status token_read(const char *argument, struct token *token, struct error *error);

#endif
