/* Points of the three schedules, by hand. */
#include <math.h>
#include "support.h"

static struct inner_options options(enum lr_schedule kind) {
    return (struct inner_options){
        .lr = 1, .warmup_steps = 10, .lr_schedule = kind, .lr_end = 0.05, .decay_part = 0.2, .steps = 110};
}

static void check(const struct inner_options *inner, int64_t step, double expected) {
    double found = lr_schedule_at(inner, step);
    if (fabs(found - expected) > 1e-12)
        fail_msg("step %lld: %.17g, expected %.17g", (long long)step, found, expected);
}

static void warm_up(void **state) {
    (void)state;
    for (int kind = LR_SCHEDULE_COSINE; kind <= LR_SCHEDULE_WSD; kind++) {
        struct inner_options inner = options((enum lr_schedule)kind);
        check(&inner, 1, 0.1);
        check(&inner, 5, 0.5);
        check(&inner, 10, 1);
        check(&inner, 11, 1);
    }
}

static void cosine(void **state) {
    (void)state;
    struct inner_options inner = options(LR_SCHEDULE_COSINE);
    check(&inner, 61, 0.05 + 0.95 / 2);                   /* half-way: cos(pi/2) = 0 */
    check(&inner, 36, 0.05 + 0.95 * (1 + sqrt(0.5)) / 2); /* a quarter */
    check(&inner, 110, 0.05 + 0.95 * (1 + cos(M_PI * 0.99)) / 2);
    check(&inner, 111, 0.05);
    check(&inner, 5000, 0.05); /* clamped past the end */
    inner.lr = 3e-4;
    check(&inner, 61, 3e-4 * (0.05 + 0.95 / 2));
}

static void no_warm_up_and_only_warm_up(void **state) {
    (void)state;
    struct inner_options inner = options(LR_SCHEDULE_COSINE);
    inner.warmup_steps = 0;
    check(&inner, 1, 1);
    inner.warmup_steps = 110;
    check(&inner, 110, 1);
    check(&inner, 111, 0.05);
}

static void constant_and_wsd(void **state) {
    (void)state;
    struct inner_options inner = options(LR_SCHEDULE_CONSTANT);
    check(&inner, 110, 1);
    check(&inner, 9999, 1);
    inner = options(LR_SCHEDULE_WSD); /* decays over the last 22 steps: 89..110 */
    check(&inner, 87, 1);
    check(&inner, 88, 1);
    check(&inner, 89, 0.05 + 0.95 * 21 / 22);
    check(&inner, 99, 0.05 + 0.95 * 11 / 22);
    check(&inner, 110, 0.05);
    check(&inner, 111, 0.05);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(warm_up), cmocka_unit_test(cosine),
                                       cmocka_unit_test(no_warm_up_and_only_warm_up),
                                       cmocka_unit_test(constant_and_wsd)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
