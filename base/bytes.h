/* bytes: little-endian loads and stores, hex. Pure, no allocation. (base64url: libsodium's sodium_bin2base64.) */
#ifndef ATOLL_BASE_BYTES_H
#define ATOLL_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline void bytes_store_u16(uint8_t *to, uint16_t v) {
    to[0] = (uint8_t)v;
    to[1] = (uint8_t)(v >> 8);
}
static inline void bytes_store_u32(uint8_t *to, uint32_t v) {
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}
static inline void bytes_store_u64(uint8_t *to, uint64_t v) {
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}
static inline uint16_t bytes_load_u16(const uint8_t *from) {
    return (uint16_t)(from[0] | from[1] << 8);
}
static inline uint32_t bytes_load_u32(const uint8_t *from) {
    uint32_t v = 0;
    for (int i = 0; i < 4; i++)
        v |= (uint32_t)from[i] << (8 * i);
    return v;
}
static inline uint64_t bytes_load_u64(const uint8_t *from) {
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v |= (uint64_t)from[i] << (8 * i);
    return v;
}

/* bytes_to_hex: text holds 2 * count + 1 chars. bytes_from_hex: exactly 2 * count hex digits, else false. */
void bytes_to_hex(const uint8_t *from, size_t count, char *text);
bool bytes_from_hex(const char *text, uint8_t *to, size_t count);

#endif
