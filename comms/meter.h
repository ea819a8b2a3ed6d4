/* meter: what the kernel counted on the TCP connections of one ZeroMQ socket (TCP_INFO bytes_sent, bytes_received, bytes_retrans), those
 * that are closed included. Fed with the socket monitor's events by the thread that owns the link.
 *
 * A connection is held through a dup of its descriptor, so that the final counters survive libzmq's close. The dup also keeps the TCP
 * connection open: whoever feeds the meter reports each disconnect promptly, else the far end does not see the FIN.
 * Descriptor numbers are used again by the kernel; the socket cookie tells connections apart. */
#ifndef ATOLL_COMMS_METER_H
#define ATOLL_COMMS_METER_H

#include <stdbool.h>
#include <stdint.h>
#include "comms/keys.h"

struct meter_bytes {
    uint64_t up;            /* TCP payload handed to the wire, retransmissions included */
    uint64_t down;          /* TCP payload received in order; the kernel counts a FIN as one byte more */
    uint64_t retransmitted; /* the part of `up` that was sent again */
};

struct meter_connection {
    int number;    /* libzmq's descriptor */
    int duplicate; /* ours */
    uint64_t cookie;
    bool labelled;
    uint8_t key[KEYS_CURVE_BYTES]; /* whose connection it is */
};
struct meter_account {
    uint8_t key[KEYS_CURVE_BYTES];
    struct meter_bytes closed; /* of connections that ended */
};

/* All zero = empty. Tables grow on demand: connections with those open, accounts with the admitted workers (few). */
struct meter {
    struct meter_connection *connections;
    uint32_t connection_count, connection_room;
    struct meter_account *accounts;
    uint32_t account_count, account_room;
    struct meter_bytes closed;
    uint64_t missed; /* connections that could not be followed: their bytes are not counted */
};

void meter_close(struct meter *meter);

/* A connection came up on descriptor `number`. */
void meter_connected(struct meter *meter, int number);
/* It ended: its final bytes join the closed ones. Returns them (zero when it was not followed). */
struct meter_bytes meter_disconnected(struct meter *meter, int number);
/* All connections ended (the socket was closed). */
void meter_disconnected_all(struct meter *meter);

/* The connection on `number` belongs to `key`. False when it is not followed or is labelled with another key. */
bool meter_label(struct meter *meter, int number, const uint8_t key[KEYS_CURVE_BYTES]);

/* Whether meter_label(meter, number, key) would change nothing. */
bool meter_is_labelled(const struct meter *meter, int number, const uint8_t key[KEYS_CURVE_BYTES]);

/* Totals, closed and open; of one key's connections when key is not NULL. One getsockopt per open connection. */
struct meter_bytes meter_read(const struct meter *meter, const uint8_t *key);

#endif
