/* pace: a token bucket for one direction of a link. Pure: the caller brings the time. Charges what the wire will carry (payload plus
 * CURVE, ZMTP and TCP/IP overhead), so that the cap holds on the cable and not only in the program. The burst is one chunk: in any
 * window of w seconds at most cap * w + one chunk is let through. Control messages are charged too but never held back. */
#ifndef ATOLL_COMMS_PACE_H
#define ATOLL_COMMS_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
    uint64_t cap_bytes_per_s; /* 0 = unlimited */
    int64_t burst_bytes;
    int64_t level_bytes; /* may be negative: a debt */
    uint64_t updated_us;
    uint64_t remainder; /* of the integer refill: cap * us mod 1e6, so that no byte is lost to rounding */
};

void pace_open(struct pace *pace, uint64_t cap_bytes_per_s, uint32_t chunk_bytes, uint64_t now_us);

/* pace_wire_bytes: estimate of what `bytes` of one message become on the wire. */
uint64_t pace_wire_bytes(uint64_t bytes);

/* true when a message of `bytes` may go now; it is then charged. */
bool pace_take(struct pace *pace, uint64_t bytes, uint64_t now_us);
/* charge without asking (control). */
void pace_charge(struct pace *pace, uint64_t bytes, uint64_t now_us);
/* Microseconds until pace_take(bytes) can succeed; 0 = now. */
uint64_t pace_delay_us(struct pace *pace, uint64_t bytes, uint64_t now_us);

#endif
