/* Whoever comes, and whenever: each tensor is added to in the order of the passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/crew.h"
#include "model/turns.h"

enum { TENSORS = 7, PASSES = 200, THREADS = 4 };

static void one_after_the_other(void **state) {
    (void)state;
    struct turns turns;
    int added[2];
    turns_open(&turns, added, 2);
    assert_true(turns_is_next(&turns, 0, 0));
    assert_false(turns_is_next(&turns, 0, 1));
    assert_false(turns_wait(&turns, 0, 0));
    turns_pass_on(&turns, 0);
    assert_false(turns_is_next(&turns, 0, 0));
    assert_false(turns_wait(&turns, 0, 1));
    assert_true(turns_is_next(&turns, 1, 0)); /* each tensor has its own */
    turns_reset(&turns);
    assert_true(turns_is_next(&turns, 0, 0));
    turns_close(&turns);
}

struct sums {
    struct turns turns;
    int added[TENSORS];
    int passes[TENSORS][PASSES], count[TENSORS]; /* who has added, in order; guarded by the turns alone */
};

static void run_passes(void *context, int thread) {
    struct sums *sums = context;
    for (int pass = thread; pass < PASSES; pass += THREADS)
        for (int tensor = 0; tensor < TENSORS; tensor++) {
            turns_wait(&sums->turns, tensor, pass);
            sums->passes[tensor][sums->count[tensor]++] = pass;
            turns_pass_on(&sums->turns, tensor);
        }
}

static void threads_add_in_order(void **state) {
    (void)state;
    static struct sums sums;
    struct crew *crew = NULL;
    struct error error;
    assert_int_equal(crew_create(THREADS, &crew, &error), STATUS_OK);
    turns_open(&sums.turns, sums.added, TENSORS);
    crew_run(crew, run_passes, &sums);
    for (int tensor = 0; tensor < TENSORS; tensor++) {
        assert_int_equal(sums.count[tensor], PASSES);
        for (int pass = 0; pass < PASSES; pass++)
            assert_int_equal(sums.passes[tensor][pass], pass);
    }
    turns_close(&sums.turns);
    crew_destroy(crew);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_after_the_other), cmocka_unit_test(threads_add_in_order)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
