/* pace: a token bucket for one direction of a link. Pure: the caller brings the time. Charges what the wire will carry (payload plus
 * CURVE, ZMTP and TCP/IP overhead), so that the cap holds on the cable and not only in the program. The burst is one chunk: in any
 * window of w seconds at most cap * w + one chunk is let through. Control messages are charged too but never held back: chunks make room
 * for them. They can take half of the cap in the long run and one burst at once; what goes beyond is not charged, so that chunks always keep the
 * other half, and a link with more control than that carries more than its cap.
 *
 * With a burst of exactly one chunk no lateness can be made up for: who asks j microseconds after the delay that it was told loses
 * cap * j per chunk. Where that matters (1 ms of poll against 2 ms of a 256 KiB chunk on 1 Gbit/s), open with a larger chunk_bytes
 * than what is sent: a burst of chunk + cap * j keeps the rate, and the window bound grows by as much. */
#ifndef ATOLL_COMMS_PACE_H
#define ATOLL_COMMS_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace {
    uint64_t cap_bytes_per_s; /* 0 = unlimited */
    int64_t burst_bytes;      /* one chunk, as on the wire */
    int64_t level_bytes;      /* may be negative: a debt */
    uint64_t unpaid_bytes;    /* twice what control was charged, less what was earned since: 0 .. 2 bursts */
    uint64_t updated_us;
    uint64_t remainder; /* of the integer refill: cap * us mod 1e6, so that no byte is lost to rounding */
};

/* The bucket starts full. */
void pace_open(struct pace *pace, uint64_t cap_bytes_per_s, uint32_t chunk_bytes, uint64_t now_us);

/* pace_wire_bytes: estimate of what one chunk of `bytes` of payload becomes on the wire:
 *   stream   = bytes + 48 + 2 * (33 + 9)     a chunk's header, and for each of its two frames CURVE's MESSAGE command (its name: 8, nonce: 8,
 *                                            MAC: 16, flags: 1) and a long ZMTP frame header (9)
 *   segments = ceil(stream / 1448)           MTU 1500 less IPv4 (20) and TCP with time stamps (32)
 *   wire     = stream + 66 * segments        Ethernet (14), IPv4 (20), TCP (32)
 * Not in it: retransmissions, and the other direction's acknowledgements (at most 66 bytes per two segments, 2.3 %). */
uint64_t pace_wire_bytes(uint64_t bytes);

/* pace_control_wire_bytes: the same of a control message of `bytes`, encoded. It is one frame in segments of its own: stream = bytes + 33 + 9
 * (7 too many where all is below 256 bytes). */
uint64_t pace_control_wire_bytes(uint64_t bytes);

/* true when a message of `bytes` may go now; it is then charged. A message larger than the burst may go when the bucket is full. */
bool pace_take(struct pace *pace, uint64_t bytes, uint64_t now_us);
/* Charge a control message of `bytes`, encoded, without asking: all of it, or as much as control may be charged (see above). */
void pace_charge_control(struct pace *pace, uint64_t bytes, uint64_t now_us);
/* Microseconds until pace_take(bytes) can succeed, if nothing else is charged meanwhile: exact; 0 = now. */
uint64_t pace_delay_us(struct pace *pace, uint64_t bytes, uint64_t now_us);

#endif
