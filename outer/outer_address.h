/* outer_address: where the outer listens, and what workers dial to reach it. */
#ifndef ATOLL_OUTER_OUTER_ADDRESS_H
#define ATOLL_OUTER_OUTER_ADDRESS_H

#include "base/options.h"
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

enum { OUTER_ADDRESS_TEXT_BYTES = 2048 };

/* outer_address_keep: what --advertise said into DIRECTORY/advertise, a line each, for the starts that do not say it. What was not said is not
 * kept: it is found anew, since the outer may have moved. STATUS_IO. */
MUST_USE enum status outer_address_keep(const char *directory, const struct option_list *advertise,
                                        struct error *error);

/* outer_address_kept: what is kept there; none when nothing is. The items point into `text`. STATUS_IO; STATUS_DATA: the text says what to do. */
MUST_USE enum status outer_address_kept(const char *directory, char text[OUTER_ADDRESS_TEXT_BYTES],
                                        struct option_list *advertise, struct error *error);

#endif
