/* The level is one of those that HOT_LOOP compiles, and no lower one than the CPU has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/vector.h"

static void level(void **state) {
    (void)state;
    const char *found = vector_level();
#if defined(__x86_64__) && !defined(__clang__) && !defined(ATOLL_SANITIZED)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        assert_string_equal(found, "x86-64-v4");
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        assert_string_equal(found, "x86-64-v3");
    else
        assert_string_equal(found, "default");
#else
    assert_string_equal(found, "plain");
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(level)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
