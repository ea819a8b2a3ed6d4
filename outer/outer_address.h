/* outer_address: where the outer listens, and what workers dial to reach it. */
#ifndef ATOLL_OUTER_OUTER_ADDRESS_H
#define ATOLL_OUTER_OUTER_ADDRESS_H

#include "base/status.h"
#include "comms/token.h"

/* outer_address_listen: "HOST:PORT" (a name, IPv4, IPv6 with or without brackets, *) -> a numeric host and the control port, 0 = any.
 * STATUS_USAGE. */
MUST_USE enum status outer_address_listen(const char *text, char host[TOKEN_HOST_BYTES], uint16_t *port,
                                          struct error *error);

/* outer_address_advertise: what workers dial: `advertise` when given, else the listen host, or for a wildcard this machine's first address.
 * IPv6 comes out in brackets. STATUS_USAGE. */
MUST_USE enum status outer_address_advertise(const char *listen_host, const char *advertise,
                                             char advertised[TOKEN_HOST_BYTES], struct error *error);

/* outer_address_standby: a further address at which this outer may come back, "HOST" or "HOST:PORT" (IPv6 in brackets): its control port
 * (bulk is the next), or the ports of `own`. STATUS_USAGE. */
MUST_USE enum status outer_address_standby(const char *text, const struct token_address *own,
                                           struct token_address *standby, struct error *error);

#endif
