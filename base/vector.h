/* vector: what hot loops need of the compiler. HOT_LOOP compiles a function for several instruction sets and picks one at load time. All variants give
 * the same bits for + - * / sqrt and integers, but for some of the model: elsewhere contraction is off (CMakeLists.txt). Sanitizer builds use the plain
 * variant: their run-time is not up yet when the resolvers run. */
#ifndef ATOLL_BASE_VECTOR_H
#define ATOLL_BASE_VECTOR_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(ATOLL_SANITIZED)
#define VECTOR_LEVELS 1 /* there are several variants */
#define HOT_LOOP      __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define VECTOR_LEVELS 0
#define HOT_LOOP
#endif

/* The variant of HOT_LOOP that this machine runs: "x86-64-v4" (AVX-512), "x86-64-v3" (AVX2), "default"; "plain" where there is but one.
 * Static text. */
const char *vector_level(void);

enum { VECTOR_AHEAD_BYTES = 1536, VECTOR_LINE_BYTES = 64 };

/* vector_prefetch: for a pass that comes to the `bytes` bytes at `now` of an array that it reads or writes: asks for as many VECTOR_AHEAD_BYTES
 * further on. The processor's own prefetchers stop at the end of each 4 KiB page, follow few arrays, and see nothing while a pass computes. A hint
 * only: asking beyond the end of the array is fine. The distance is measured on encode_fed (quant/codec.h): 1 KiB is too near, 4 KiB no better. */
static inline __attribute__((always_inline)) void vector_prefetch(const void *now, size_t bytes) {
    uintptr_t ahead = (uintptr_t)now + VECTOR_AHEAD_BYTES; /* not a pointer: there may be no array */
    for (size_t i = 0; i < bytes; i += VECTOR_LINE_BYTES)
        __builtin_prefetch((const void *)(ahead + i));
}

#endif
