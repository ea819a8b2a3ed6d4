/* clock: monotonic time for every decision, wall time only for logs and token expiry. */
#ifndef ATOLL_BASE_CLOCK_H
#define ATOLL_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

uint64_t clock_now_us(void); /* CLOCK_MONOTONIC, microseconds */
uint64_t clock_now_ns(void); /* the same clock in nanoseconds: for measuring */
uint64_t clock_wall_s(void); /* seconds since 1970 */
enum { CLOCK_WALL_TEXT_BYTES = 32 };
void clock_wall_text(char text[CLOCK_WALL_TEXT_BYTES]); /* RFC 3339, UTC, milliseconds */

#endif
