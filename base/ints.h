/* ints: the smaller and the larger of two. */
#ifndef ATOLL_BASE_INTS_H
#define ATOLL_BASE_INTS_H

static inline int min_int(int a, int b) {
    return a < b ? a : b;
}

static inline int max_int(int a, int b) {
    return a > b ? a : b;
}

#endif
