/* vector: see vector.h. The order of the levels is the resolvers' own: the highest that the CPU supports. */
#include "base/vector.h"

const char *vector_level(void) {
#if VECTOR_LEVELS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4"))
        return "x86-64-v4";
    return __builtin_cpu_supports("x86-64-v3") ? "x86-64-v3" : "default";
#else
    return "plain";
#endif
}
