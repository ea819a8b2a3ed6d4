/* pace: see the header. Invariant: level_bytes + remainder / 1e6 = min(burst, what it was + cap * time - charges), exactly. Over any time
 * 2 * (control charges) <= cap * time + 2 bursts. */
#include "comms/pace.h"

#include "base/check.h"

enum { US_PER_S = 1000000 };
enum {
    HEADER_BYTES = 48,
    CHUNK_FRAMES = 2,
    FRAME_BYTES = 33 + 9, /* CURVE and ZMTP: see pace_wire_bytes */
    SEGMENT_BYTES = 1448,
    SEGMENT_HEADER_BYTES = 66
};

/* cap * microseconds passes 64 bits after five hours at 1 GB/s. */
__extension__ typedef unsigned __int128 u128;

static uint64_t in_segments(uint64_t stream_bytes) {
    uint64_t segments = (stream_bytes + SEGMENT_BYTES - 1) / SEGMENT_BYTES;
    return stream_bytes + segments * SEGMENT_HEADER_BYTES;
}

uint64_t pace_wire_bytes(uint64_t bytes) {
    return in_segments(bytes + HEADER_BYTES + CHUNK_FRAMES * FRAME_BYTES);
}

uint64_t pace_control_wire_bytes(uint64_t bytes) {
    return in_segments(bytes + FRAME_BYTES);
}

void pace_open(struct pace *pace, uint64_t cap_bytes_per_s, uint32_t chunk_bytes, uint64_t now_us) {
    int64_t burst = (int64_t)pace_wire_bytes(chunk_bytes);
    *pace = (struct pace){
        .cap_bytes_per_s = cap_bytes_per_s, .burst_bytes = burst, .level_bytes = burst, .updated_us = now_us};
}

static void refill(struct pace *pace, uint64_t now_us) {
    if (now_us <= pace->updated_us)
        return;
    u128 earned = (u128)pace->cap_bytes_per_s * (now_us - pace->updated_us) + pace->remainder;
    pace->updated_us = now_us;
    int64_t room = pace->burst_bytes - pace->level_bytes;
    pace->unpaid_bytes -= earned / US_PER_S < pace->unpaid_bytes ? (uint64_t)(earned / US_PER_S) : pace->unpaid_bytes;
    if (earned / US_PER_S >= (u128)room) {
        pace->level_bytes = pace->burst_bytes;
        pace->remainder = 0;
    } else {
        pace->level_bytes += (int64_t)(earned / US_PER_S);
        pace->remainder = (uint64_t)(earned % US_PER_S);
    }
}

/* The level at which a message may go. */
static int64_t level_needed(const struct pace *pace, uint64_t wire_bytes) {
    return wire_bytes < (uint64_t)pace->burst_bytes ? (int64_t)wire_bytes : pace->burst_bytes;
}

bool pace_take(struct pace *pace, uint64_t bytes, uint64_t now_us) {
    CHECK(bytes <= UINT32_MAX);
    if (pace_delay_us(pace, bytes, now_us) > 0)
        return false;
    if (pace->cap_bytes_per_s != 0)
        pace->level_bytes -= (int64_t)pace_wire_bytes(bytes);
    return true;
}

void pace_charge_control(struct pace *pace, uint64_t bytes, uint64_t now_us) {
    if (pace->cap_bytes_per_s == 0)
        return;
    refill(pace, now_us);
    uint64_t wire_bytes = pace_control_wire_bytes(bytes);
    uint64_t room = (2 * (uint64_t)pace->burst_bytes - pace->unpaid_bytes) / 2;
    uint64_t charged = wire_bytes < room ? wire_bytes : room;
    pace->level_bytes -= (int64_t)charged;
    pace->unpaid_bytes += 2 * charged;
}

uint64_t pace_delay_us(struct pace *pace, uint64_t bytes, uint64_t now_us) {
    if (pace->cap_bytes_per_s == 0)
        return 0;
    refill(pace, now_us);
    int64_t lacking = level_needed(pace, pace_wire_bytes(bytes)) - pace->level_bytes;
    if (lacking <= 0)
        return 0;
    u128 to_earn = (u128)lacking * US_PER_S - pace->remainder;
    return (uint64_t)((to_earn + pace->cap_bytes_per_s - 1) / pace->cap_bytes_per_s);
}
