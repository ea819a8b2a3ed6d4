#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/files.h"
#include "base/log.h"

static char path[64];

static int make_path(void **state) {
    (void)state;
    strcpy(path, "/tmp/atoll_log_XXXXXX");
    int file = mkstemp(path);
    close(file);
    return file < 0;
}

static int remove_path(void **state) {
    (void)state;
    return unlink(path);
}

static char *text_of(const char *from) {
    uint8_t *bytes;
    size_t count;
    struct error error;
    assert_int_equal(files_read(from, 10000000, &bytes, &count, &error), STATUS_OK);
    return (char *)bytes;
}

static void records(void **state) {
    (void)state;
    struct log *log;
    struct error error;
    assert_int_equal(log_open(&log, path, &error), STATUS_OK);
    log_event(log, "step",
              json_pack("{s:I, s:o, s:o, s:s}", "step", (json_int_t)3, "loss", log_real(1.5), "norm", log_real(NAN),
                        "event", "not this one"));
    log_event(log, "nan", json_pack("{s:f}", "loss", NAN)); /* jansson gives NULL */
    log_event(log, "newline", json_pack("{s:s}", "text", "a\nb"));
    log_event(NULL, "dropped", json_object());
    assert_int_equal(log_lost(log), 0);
    log_close(log);
    char *text = text_of(path);
    char *line = strtok(text, "\n");
    json_error_t parse_error;
    json_t *record = json_loads(line, 0, &parse_error);
    assert_string_equal(json_string_value(json_object_get(record, "event")), "step");
    assert_int_equal(json_integer_value(json_object_get(record, "step")), 3);
    assert_true(json_real_value(json_object_get(record, "loss")) == 1.5);
    assert_true(json_is_null(json_object_get(record, "norm")));
    assert_true(json_is_integer(json_object_get(record, "t_us")));
    const char *wall = json_string_value(json_object_get(record, "t_wall"));
    assert_int_equal(strlen(wall), strlen("2026-01-02T03:04:05.678Z"));
    assert_int_equal(wall[10], 'T');
    assert_int_equal(wall[23], 'Z');
    json_decref(record);
    line = strtok(NULL, "\n");
    assert_non_null(strstr(line, "\"fields_lost\":true"));
    line = strtok(NULL, "\n");
    assert_non_null(strstr(line, "a\\nb")); /* one record, one line */
    assert_null(strtok(NULL, "\n"));
    free(text);
}

static void a_torn_last_line_harms_nobody(void **state) {
    (void)state;
    struct error error;
    struct log *log;
    assert_int_equal(files_write_atomic(path, "{\"event\":\"a\"}\n{\"eve", 19, 0644, &error), STATUS_OK);
    assert_int_equal(log_open(&log, path, &error), STATUS_OK);
    log_event(log, "b", json_object());
    log_event(log, "c", json_object());
    log_close(log);
    char *text = text_of(path);
    assert_non_null(strstr(text, "{\"eve\n{\"event\":\"b\""));
    assert_non_null(strstr(text, "}\n{\"event\":\"c\""));
    assert_int_equal(text[strlen(text) - 1], '\n');
    free(text);
}

enum { THREADS = 4, RECORDS = 500 };
static struct log *shared;

static void *write_many(void *argument) {
    for (int i = 0; i < RECORDS; i++)
        log_event(shared, "t", json_pack("{s:i, s:i}", "thread", *(int *)argument, "i", i));
    return NULL;
}

static void threads_do_not_mix_lines(void **state) {
    (void)state;
    struct error error;
    pthread_t threads[THREADS];
    int numbers[THREADS];
    assert_int_equal(files_write_atomic(path, "", 0, 0644, &error), STATUS_OK);
    assert_int_equal(log_open(&shared, path, &error), STATUS_OK);
    for (int t = 0; t < THREADS; t++) {
        numbers[t] = t;
        assert_int_equal(pthread_create(&threads[t], NULL, write_many, &numbers[t]), 0);
    }
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    log_close(shared);
    char *text = text_of(path);
    int next[THREADS] = {0};
    json_int_t last_us = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_error_t parse_error;
        json_t *record = json_loads(line, 0, &parse_error);
        assert_non_null(record);
        int thread = (int)json_integer_value(json_object_get(record, "thread"));
        assert_int_equal(json_integer_value(json_object_get(record, "i")), next[thread]++);
        json_int_t us = json_integer_value(json_object_get(record, "t_us"));
        assert_true(us >= last_us); /* line order is time order */
        last_us = us;
        json_decref(record);
    }
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(next[t], RECORDS);
    free(text);
}

/* What went to stderr while `speak` ran. */
static char *caught(void (*speak)(void)) {
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    char name[] = "/tmp/atoll_stderr_XXXXXX";
    int file = mkstemp(name);
    dup2(file, STDERR_FILENO);
    speak();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(file);
    char *text = text_of(name);
    unlink(name);
    return text;
}

static void lose_records(void) {
    struct log *log;
    struct error error;
    assert_int_equal(log_open(&log, "/dev/full", &error), STATUS_OK);
    log_event(log, "a", json_object());
    log_event(log, "b", json_object());
    assert_int_equal(log_lost(log), 2);
    log_close(log);
}

static void a_full_disk_is_said_once(void **state) {
    (void)state;
    char *text = caught(lose_records);
    char *first = strstr(text, "error: cannot write to the log /dev/full: No space left on device");
    assert_non_null(first);
    assert_null(strstr(first + strlen("error: cannot write"), "cannot write"));
    free(text);
    struct log *log;
    struct error error;
    assert_int_equal(log_open(&log, "/nonexistent/log", &error), STATUS_IO);
    assert_string_equal(error.text, "cannot open the log /nonexistent/log: No such file or directory");
}

static void *no_memory(size_t bytes) {
    (void)bytes;
    return NULL;
}

static void without_memory(void) {
    struct log *log;
    struct error error;
    assert_int_equal(log_open(&log, path, &error), STATUS_OK);
    json_t *fields = json_pack("{s:i}", "a", 1);
    json_set_alloc_funcs(no_memory, free);
    log_event(log, "lost", fields);
    log_event(log, "lost", json_pack("{s:i}", "a", 2));
    json_set_alloc_funcs(malloc, free);
    log_event(log, "kept", json_pack("{s:i}", "a", 3));
    assert_int_equal(log_lost(log), 2);
    log_close(log);
}

/* No event is worth a process. */
static void without_memory_records_are_lost_and_counted(void **state) {
    (void)state;
    unlink(path);
    char *said = caught(without_memory), *text = text_of(path);
    assert_non_null(strstr(said, ": Cannot allocate memory (records are being lost; said once)"));
    assert_null(strstr(text, "lost"));
    assert_non_null(strstr(text, "\"event\":\"kept\""));
    free(said), free(text);
}

static void speak(void) {
    log_say(LOG_LEVEL_DEBUG, "too much");
    log_set_node("worker-3");
    log_say(LOG_LEVEL_WARN, "tokens %d", 7);
    log_set_node(NULL);
    log_set_level(LOG_LEVEL_ERROR);
    log_say(LOG_LEVEL_INFO, "hidden");
    log_say(LOG_LEVEL_ERROR, "bell \a and \033[31mred");
    log_set_level(LOG_LEVEL_INFO);
}

static void lines_for_people(void **state) {
    (void)state;
    char *text = caught(speak);
    char *second = strchr(text, '\n');
    assert_non_null(second);
    *second++ = '\0';
    assert_int_equal(text[2], ':'); /* HH:MM:SS */
    assert_int_equal(text[8], ' ');
    assert_string_equal(text + 9, "worker-3: warning: tokens 7");
    assert_string_equal(second + 9, "error: bell ? and ?[31mred\n");
    free(text);
}

static void build(void **state) {
    (void)state;
    json_t *json = log_build_json();
    assert_true(json_is_string(json_object_get(json, "version")));
    assert_true(json_is_string(json_object_get(json, "compiler")));
    assert_true(json_is_string(json_object_get(json, "cpu")));
    assert_true(json_integer_value(json_object_get(json, "cores")) >= 1);
    json_decref(json);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records),
        cmocka_unit_test(a_torn_last_line_harms_nobody),
        cmocka_unit_test(threads_do_not_mix_lines),
        cmocka_unit_test(a_full_disk_is_said_once),
        cmocka_unit_test(without_memory_records_are_lost_and_counted),
        cmocka_unit_test(lines_for_people),
        cmocka_unit_test(build),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
