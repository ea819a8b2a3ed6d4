/* aside: who asks never waits, one call at a time, and each is made once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <semaphore.h>
#include "worker/aside.h"

static sem_t gate;
static int calls;

static void pass_the_gate(void *argument) {
    sem_wait(&gate);
    calls += *(int *)argument;
}

static void test_aside(void **state) {
    (void)state;
    struct aside aside = {0};
    int one = 1, ten = 10;
    assert_int_equal(sem_init(&gate, 0, 0), 0);
    assert_true(aside_is_free(&aside));
    aside_wait(&aside);
    aside_run(&aside, pass_the_gate, &one); /* returns, or this test never ends */
    assert_false(aside_is_free(&aside));
    sem_post(&gate);
    while (!aside_is_free(&aside))
        ;
    assert_int_equal(calls, 1);
    aside_run(&aside, pass_the_gate, &ten);
    assert_false(aside_is_free(&aside));
    sem_post(&gate);
    aside_wait(&aside);
    assert_int_equal(calls, 11);
    assert_true(aside_is_free(&aside));
    sem_destroy(&gate);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_aside)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
