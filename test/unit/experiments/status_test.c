/* status: what the table shows of an answer of the outer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "experiments/status.h"

static void expect_table(const char *answer, const char *expected) {
    json_error_t reason;
    json_t *json = json_loads(answer, 0, &reason);
    char *text = NULL;
    size_t bytes = 0;
    if (json == NULL)
        fail_msg("%s", reason.text);
    FILE *to = open_memstream(&text, &bytes);
    status_print(json, to);
    fclose(to);
    assert_string_equal(text, expected);
    free(text);
    json_decref(json);
}

#define COLUMNS                                                                                                        \
    "slot worker           state        lag     step  tokens/s     loss held-out     wire up   wire down      wait "   \
    "     seen  last error\n"

static void test_a_running_run(void **state) {
    (void)state;
    expect_table(
        "{\"name\": \"novels\", \"run_id\": \"00112233445566778899\", \"started\": true, \"finished\": false,"
        " \"leading\": true, \"recovering\": \"\", \"epoch\": 3, \"refused_updates\": 2, \"run_step\": 400,"
        " \"steps\": 2000, \"commits\": 16, \"uptime_us\": 90000000, \"workers\": ["
        "{\"slot\": 0, \"node\": \"attic\", \"state\": \"live\", \"phase\": \"catching up\", \"connected\": true,"
        " \"lag\": 12, \"step\": 405, \"tokens_per_s\": 1234.5, \"loss\": 3.14159, \"eval_loss\": 3.25,"
        " \"wire_up\": 1250000, \"wire_down\": 2500000, \"wait_us\": 1500000, \"last_seen_us\": 250000,"
        " \"last_error\": \"state hash of fragment 1 differs at version 7\"},"
        "{\"slot\": 1, \"node\": \"cellar\", \"state\": \"lost\", \"phase\": \"training\", \"connected\": false,"
        " \"lag\": 0, \"step\": 100, \"tokens_per_s\": null, \"loss\": null, \"wire_up\": 0, \"wire_down\": 0,"
        " \"wait_us\": 0, \"last_seen_us\": 72000000, \"last_error\": \"\"}]}",
        "run novels (0011223344556677): training, step 400 of 2000 committed, 16 commits, up 1m 30s, epoch 3, 2 "
        "updates "
        "refused\n" COLUMNS
        "0    attic            catching up   12      405      1234    3.142    3.250     1.25 MB     2.50 MB    1.50 s "
        "   250 ms  state hash of fragment 1 differs at version 7\n"
        "1    cellar           lost           0      100         -        -        -         0 B         0 B      0 us "
        "   1m 12s  \n");
}

static void test_an_outer_that_does_not_lead_yet(void **state) {
    (void)state;
    expect_table("{\"name\": \"novels\", \"run_id\": \"00\", \"started\": true, \"leading\": false, \"recovering\":"
                 " \"waits for workers that bear state: 1 of 3 are here\", \"epoch\": 4, \"refused_updates\": 0,"
                 " \"workers\": []}",
                 "run novels (00): recovering, step 0 of 0 committed, 0 commits, up 0 us, epoch 4\n"
                 "recovering: waits for workers that bear state: 1 of 3 are here\n" COLUMNS);
}

/* Members that are not there, or of another type, are shown as nothing. */
static void test_what_is_not_there(void **state) {
    (void)state;
    expect_table("{\"workers\": [{\"slot\": 2, \"phase\": 7, \"connected\": true, \"state\": \"live\", \"lag\": \"x\", "
                 "\"last_seen_us\": -1}]}",
                 "run  (): waiting for workers, step 0 of 0 committed, 0 commits, up 0 us\n" COLUMNS
                 "2    -                live           -        0         -        -        -         0 B         0 B "
                 "     0 us         -  \n");
    expect_table("[]", "run  (): waiting for workers, step 0 of 0 committed, 0 commits, up 0 us\n" COLUMNS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_running_run),
        cmocka_unit_test(test_an_outer_that_does_not_lead_yet),
        cmocka_unit_test(test_what_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
