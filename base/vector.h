/* vector: HOT_LOOP compiles a function for several instruction sets and picks one at load time. All variants give the same bits
 * for + - * / sqrt and integers: contraction is off for the whole project (CMakeLists.txt).
 * Sanitizer builds use the plain variant: their run-time is not up yet when the resolvers run. */
#ifndef ATOLL_BASE_VECTOR_H
#define ATOLL_BASE_VECTOR_H

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

#endif
