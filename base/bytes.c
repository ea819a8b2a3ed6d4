#include "base/bytes.h"

void bytes_to_hex(const uint8_t *from, size_t count, char *text) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = digits[from[i] >> 4];
        text[2 * i + 1] = digits[from[i] & 15];
    }
    text[2 * count] = '\0';
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool bytes_from_hex(const char *text, uint8_t *to, size_t count) {
    for (size_t i = 0; i < 2 * count; i++) /* whole text first: a refused text leaves `to` as it was */
        if (hex_value(text[i]) < 0)
            return false;
    if (text[2 * count] != '\0')
        return false;
    for (size_t i = 0; i < count; i++)
        to[i] = (uint8_t)(hex_value(text[2 * i]) << 4 | hex_value(text[2 * i + 1]));
    return true;
}
