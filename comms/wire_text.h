/* wire_text: which texts may cross the wire and reach a terminal or a log. Pure.
 * A name: printable ASCII without spaces, 0x21..0x7e. A text: well-formed UTF-8 (no overlong forms, no surrogates) without control
 * characters (C0, DEL, C1), line and paragraph separators and the signs that turn the direction of writing; a long text (run file,
 * JSON) may also hold tab, line feed and carriage return. */
#ifndef ATOLL_COMMS_WIRE_TEXT_H
#define ATOLL_COMMS_WIRE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many of `count` bytes, from the first, may stand; count itself when all are fine. */
size_t wire_text_good_name(const uint8_t *text, size_t count);
size_t wire_text_good_text(const uint8_t *text, size_t count, bool lines);

/* Copy text to `to` (count bytes), each byte that may not stand replaced by '?'. */
void wire_text_mend(const uint8_t *text, size_t count, bool lines, uint8_t *to);

#endif
