/* outer_answer: the largest status fits into one message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "comms/message.h"
#include "outer/outer_answer.h"

/* A row as outer_control.c makes it, of a run that has lasted for long. */
static json_t *worker_row(int slot, int fragments) {
    json_t *versions = json_array();
    for (int f = 0; f < fragments; f++)
        json_array_append_new(versions, json_integer(123456));
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:b, s:I, s:I, s:f, s:f, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, "
        "s:I, s:I, s:I, s:f}",
        "slot", slot, "node", "a-machine-in-another-house", "state", "live", "phase", "catching up", "connected", 1,
        "step", (json_int_t)12345678, "tokens", (json_int_t)1234567890123, "loss", 3.1415926535897931, "tokens_per_s",
        12345.678901234567, "versions", versions, "wait_us", (json_int_t)123456789012, "eval_us",
        (json_int_t)123456789012, "payload_up", (json_int_t)1234567890123, "payload_down", (json_int_t)1234567890123,
        "wire_up", (json_int_t)1234567890123, "wire_down", (json_int_t)1234567890123, "control_up",
        (json_int_t)12345678901, "control_down", (json_int_t)12345678901, "last_error", "", "lag", (json_int_t)12,
        "last_seen_us", (json_int_t)123456, "eval_step", (json_int_t)12345678, "eval_loss", 3.1415926535897931);
}

static json_t *status(int workers, int fragments) {
    json_t *rows = json_array(), *list = json_array();
    for (int f = 0; f < fragments; f++)
        json_array_append_new(list, json_pack("{s:i, s:s, s:I, s:b}", "index", f, "name", "layers 12 44 76 108",
                                              "version", (json_int_t)123456, "open", 0));
    for (int slot = 0; slot < workers; slot++)
        json_array_append_new(rows, worker_row(slot, fragments));
    return json_pack("{s:s, s:o, s:o}", "name", "novels", "fragments", list, "workers", rows);
}

/* Whether the rows have their versions, in the text of that status. */
static bool keeps_versions(int workers, int fragments) {
    json_t *json = status(workers, fragments);
    char *text = outer_answer_text(json);
    assert_non_null(text);
    assert_in_range(strlen(text), 1, MESSAGE_LONG_TEXT_MAX);
    json_t *read = json_loads(text, 0, NULL), *rows = json_object_get(read, "workers");
    assert_int_equal(json_array_size(rows), workers);
    size_t versions = json_array_size(json_object_get(json_array_get(rows, (size_t)workers - 1), "versions"));
    assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, 0), "lag")), 12);
    json_decref(read), json_decref(json);
    free(text);
    assert_true(versions == 0 || versions == (size_t)fragments);
    return versions > 0;
}

static void test_status(void **state) {
    (void)state;
    assert_true(keeps_versions(4, 128));
    assert_true(keeps_versions(MESSAGE_WORKERS_MAX, 4));
    assert_false(keeps_versions(MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX));
}

static void test_what_cannot_be_shortened(void **state) {
    (void)state;
    static char longest[MESSAGE_LONG_TEXT_MAX + 1];
    memset(longest, 'x', MESSAGE_LONG_TEXT_MAX);
    json_t *json = json_pack("{s:s}", "token", longest);
    assert_null(outer_answer_text(json));
    json_decref(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_what_cannot_be_shortened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
