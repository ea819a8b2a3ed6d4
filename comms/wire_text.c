/* wire_text: see the header. A sequence of UTF-8, after RFC 3629:
 *
 *   0xxxxxxx                              0..7f
 *   110xxxxx 10xxxxxx                     80..7ff
 *   1110xxxx 10xxxxxx 10xxxxxx            800..ffff without d800..dfff
 *   11110xxx 10xxxxxx 10xxxxxx 10xxxxxx   10000..10ffff */
#include "comms/wire_text.h"

#include <string.h>

/* The code point at the start of `text` and its length; length 0 when it is not well-formed. */
static size_t code_point(const uint8_t *text, size_t count, uint32_t *point) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t first = text[0];
    size_t length = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf8 ? 4 : 0;
    if (length == 0 || length > count)
        return 0;
    *point = length == 1 ? first : first & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        *point = *point << 6 | (text[i] & 0x3fu);
    }
    if (*point < least[length] || *point > 0x10ffff || (*point >= 0xd800 && *point <= 0xdfff))
        return 0;
    return length;
}

static bool may_stand(uint32_t point, bool lines) {
    if (point == '\t' || point == '\n' || point == '\r')
        return lines;
    bool control = point < 0x20 || (point >= 0x7f && point < 0xa0);
    bool separator = point == 0x2028 || point == 0x2029;
    bool direction = point == 0x200e || point == 0x200f || (point >= 0x202a && point <= 0x202e) ||
                     (point >= 0x2066 && point <= 0x2069);
    return !control && !separator && !direction;
}

size_t wire_text_good_name(const uint8_t *text, size_t count) {
    size_t good = 0;
    while (good < count && text[good] > 0x20 && text[good] < 0x7f)
        good++;
    return good;
}

size_t wire_text_good_text(const uint8_t *text, size_t count, bool lines) {
    size_t good = 0;
    while (good < count) {
        uint32_t point = 0;
        size_t length = code_point(text + good, count - good, &point);
        if (length == 0 || !may_stand(point, lines))
            break;
        good += length;
    }
    return good;
}

void wire_text_mend(const uint8_t *text, size_t count, bool lines, uint8_t *to) {
    for (size_t done = 0; done < count;) {
        size_t good = wire_text_good_text(text + done, count - done, lines);
        memcpy(to + done, text + done, good);
        done += good;
        if (done < count)
            to[done++] = '?';
    }
}
