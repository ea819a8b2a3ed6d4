#include "base/clock.h"

#include <stdio.h>
#include <time.h>
#include "base/check.h"

uint64_t clock_now_us(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_now_ns(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t clock_wall_s(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return (uint64_t)now.tv_sec;
}

void clock_wall_text(char text[CLOCK_WALL_TEXT_BYTES]) {
    struct timespec now;
    struct tm utc;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    CHECK(gmtime_r(&now.tv_sec, &utc) != NULL);
    size_t used = strftime(text, CLOCK_WALL_TEXT_BYTES, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + used, CLOCK_WALL_TEXT_BYTES - used, ".%03uZ", (unsigned)(now.tv_nsec / 1000000) % 1000);
}
