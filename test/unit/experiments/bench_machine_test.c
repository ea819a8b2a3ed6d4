/* What is said of the machine, and each warning, word for word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "experiments/bench_machine.h"

static int clean_environment(void **state) {
    (void)state;
    unsetenv("OPENBLAS_CORETYPE");
    unsetenv("OPENBLAS_L2_SIZE");
    return 0;
}

/* Of a build with sanitizers there is one more. */
static size_t count_warnings(const json_t *warnings) {
#ifdef ATOLL_SANITIZED
    return json_array_size(warnings) - 1;
#else
    return json_array_size(warnings);
#endif
}

static void assert_warning(const json_t *warnings, size_t index, const char *text) {
    assert_string_equal(json_string_value(json_array_get(warnings, index)), text);
}

static void nothing_to_say(void **state) {
    (void)state;
    json_t *warnings = bench_machine_warnings(0.3, 2, 2, 7);
    assert_int_equal(count_warnings(warnings), 0);
    json_decref(warnings);
}

static void everything_to_say(void **state) {
    (void)state;
    setenv("OPENBLAS_CORETYPE", "Haswell", 1);
    setenv("OPENBLAS_L2_SIZE", "0x20000", 1);
    json_t *warnings = bench_machine_warnings(5.25, 4, 1, 3);
    assert_int_equal(count_warnings(warnings), 5);
    assert_warning(warnings, 0, "OPENBLAS_CORETYPE=Haswell is set: OpenBLAS does not choose for itself; unset it");
    assert_warning(warnings, 1, "OPENBLAS_L2_SIZE=0x20000 is set: OpenBLAS does not choose for itself; unset it");
    assert_warning(warnings, 2, "load average 5.25: other processes run; the figures are those of a shared machine");
    assert_warning(warnings, 3, "4 threads on 1 core wait for each other");
    assert_warning(warnings, 4, "medians of 3 rounds: at least 7 are needed for figures to be quoted");
    json_decref(warnings);
}

static void the_machine(void **state) {
    (void)state;
    static const char *const texts[] = {"cpu",       "version",     "compiler", "vector_level",
                                        "blas_core", "blas_config", "bf16",     "t_wall"};
    json_t *machine = bench_machine_json();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_true(strlen(json_string_value(json_object_get(machine, texts[i]))) > 0);
    assert_true(json_integer_value(json_object_get(machine, "cores")) >= 1);
    assert_true(json_number_value(json_object_get(machine, "load")) >= 0);
    json_decref(machine);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(nothing_to_say, clean_environment),
                                       cmocka_unit_test_teardown(everything_to_say, clean_environment),
                                       cmocka_unit_test(the_machine)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
