#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/suggest.h"

static const char *nearest(const char *word) {
    static const char *const known[] = {"every_steps", "overlap_steps", "lr", "lr_end", "seed", "keep_local", "quorum"};
    struct suggestion suggestion = {.word = word};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        suggest_consider(&suggestion, known[i]);
    return suggestion.nearest ? suggestion.nearest : "";
}

static void near_and_far(void **state) {
    (void)state;
    assert_string_equal(nearest("every_step"), "every_steps");
    assert_string_equal(nearest("evry_stpes"), "every_steps"); /* a loss and a swap */
    assert_string_equal(nearest("qourum"), "quorum");
    assert_string_equal(nearest("ls"), "lr");
    assert_string_equal(nearest("rl"), "lr");         /* a swap is one step, not two */
    assert_string_equal(nearest("lr_edn"), "lr_end"); /* not lr */
    assert_string_equal(nearest("sede"), "seed");
    assert_string_equal(nearest("momentum"), "");
    assert_string_equal(nearest("H"), "");
    assert_string_equal(nearest(""), "");
    char word[200];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    assert_string_equal(nearest(word), ""); /* too long to be a slip */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(near_and_far)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
