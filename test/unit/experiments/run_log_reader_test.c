/* The reader follows a file that grows: whole lines only, and nothing that a file can hold stops it. */
#include "unit/experiments/fixture.h"
#include "experiments/run_log_reader.h"

static const char WALL[] = "2026-01-02T03:04:05.678Z";
static const char HEADER[] =
    ", \"schema\": 1, \"role\": \"worker\", \"node\": \"w\", \"parameters\": 1, \"workers\": 1, "
    "\"tokens_per_step\": 64";
static const char OUTER_HEADER[] = ", \"schema\": 1, \"role\": \"outer\", \"node\": \"o\", \"parameters\": 1, "
                                   "\"workers\": 1, \"tokens_per_step\": 64";

static void add_step(int step) {
    char rest[128];
    snprintf(rest, sizeof rest, ", \"step\": %d, \"loss\": 1.5, \"tokens\": %d, \"compute_us\": 9", step, 64 * step);
    fixture_record("n", WALL, step, "step", rest);
}

static void add(const char *bytes) {
    fixture_append("n", "log.jsonl", bytes, strlen(bytes));
}

static struct run_log_reader open_log(void) {
    struct run_log_reader reader;
    struct error error;
    char path[FIXTURE_PATH_BYTES];
    assert_int_equal(run_log_reader_open(&reader, fixture_path("n/log.jsonl", path), &error), STATUS_OK);
    return reader;
}

static void next_is_step(struct run_log_reader *reader, int step) {
    struct run_log_record record;
    assert_true(run_log_reader_next(reader, &record));
    assert_int_equal(record.event, RUN_LOG_STEP);
    assert_int_equal(record.step.step, step);
}

static void next_is_none(struct run_log_reader *reader) {
    struct run_log_record record;
    assert_false(run_log_reader_next(reader, &record));
}

static void missing_file(void **state) {
    (void)state;
    struct run_log_reader reader;
    struct error error;
    char path[FIXTURE_PATH_BYTES], text[FIXTURE_PATH_BYTES + 80];
    assert_int_equal(run_log_reader_open(&reader, fixture_path("n/log.jsonl", path), &error), STATUS_NOT_FOUND);
    snprintf(text, sizeof text, "cannot open the log %s: No such file or directory", path);
    assert_string_equal(error.text, text);
    run_log_reader_close(&reader); /* harmless */
}

/* A log that is being written; its last line comes in three pieces. */
static void follows(void **state) {
    (void)state;
    add("");
    struct run_log_reader reader = open_log();
    next_is_none(&reader);
    fixture_record("n", WALL, 0, "header", HEADER);
    add_step(1);
    struct run_log_record record;
    assert_true(run_log_reader_next(&reader, &record));
    assert_int_equal(record.event, RUN_LOG_HEADER);
    next_is_step(&reader, 1);
    next_is_none(&reader);
    assert_int_equal(run_log_reader_torn_bytes(&reader), 0);
    add("{\"event\": \"step\", \"t_us\": 2, ");
    next_is_none(&reader);
    assert_int_equal(run_log_reader_torn_bytes(&reader), 29);
    add("\"step\": 2, \"loss\": 1, \"tokens\": 128, ");
    next_is_none(&reader);
    add("\"compute_us\": 9}\n");
    next_is_step(&reader, 2);
    assert_int_equal(run_log_reader_torn_bytes(&reader), 0);
    assert_int_equal(reader.records, 3);
    assert_int_equal(reader.lines, 3);
    assert_int_equal(reader.bad, 0);
    run_log_reader_close(&reader);
}

/* A torn last line is never given out; the next process of the node goes on behind it: that one line is lost, no other. */
static void torn_then_restarted(void **state) {
    (void)state;
    fixture_record("n", WALL, 0, "header", HEADER);
    add_step(1);
    add("{\"event\": \"step\", \"t_us\": 2, \"st");
    fixture_record("n", WALL, 0, "header", HEADER); /* on the same line */
    add_step(2);
    fixture_record("n", WALL, 0, "header", HEADER);
    add_step(3);
    struct run_log_reader reader = open_log();
    struct run_log_record record;
    assert_true(run_log_reader_next(&reader, &record));
    next_is_step(&reader, 1);
    next_is_step(&reader, 2);
    assert_true(run_log_reader_next(&reader, &record));
    assert_int_equal(record.event, RUN_LOG_HEADER);
    next_is_step(&reader, 3);
    next_is_none(&reader);
    assert_int_equal(reader.bad, 1);
    assert_int_equal(strncmp(reader.first_bad.text, "line 3: not a JSON object: ", 27), 0);
    run_log_reader_close(&reader);
}

/* The header's role decides how the lines behind it are read. */
static void roles(void **state) {
    (void)state;
    fixture_record("n", WALL, 0, "header", OUTER_HEADER);
    fixture_record("n", WALL, 0, "ledger", ", \"slot\": 0, \"fragment\": 0");
    add_step(1);
    fixture_record("n", WALL, 0, "header", HEADER);
    fixture_record("n", WALL, 0, "ledger", ", \"slot\": 0, \"fragment\": 0");
    add_step(2);
    struct run_log_reader reader = open_log();
    struct run_log_record record;
    assert_true(run_log_reader_next(&reader, &record));
    assert_true(run_log_reader_next(&reader, &record));
    assert_int_equal(record.event, RUN_LOG_LEDGER);
    assert_true(run_log_reader_next(&reader, &record));
    assert_int_equal(record.event, RUN_LOG_HEADER);
    next_is_step(&reader, 2);
    next_is_none(&reader);
    assert_int_equal(reader.unknown, 2);
    assert_int_equal(reader.bad, 0);
    run_log_reader_close(&reader);
}

static void other_schema(void **state) {
    (void)state;
    fixture_record("n", WALL, 0, "header",
                   ", \"schema\": 2, \"role\": \"worker\", \"node\": \"w\", \"parameters\": 1, \"workers\": 1, "
                   "\"tokens_per_step\": 64");
    add_step(1);
    fixture_record("n", WALL, 0, "header", HEADER);
    add_step(2);
    struct run_log_reader reader = open_log();
    struct run_log_record record;
    assert_true(run_log_reader_next(&reader, &record));
    assert_int_equal(record.event, RUN_LOG_HEADER);
    assert_int_equal(record.header.schema, 1);
    next_is_step(&reader, 2);
    next_is_none(&reader);
    assert_int_equal(reader.bad, 1);
    assert_string_equal(reader.first_bad.text, "line 1: schema 2, this atoll reads schema 1");
    run_log_reader_close(&reader);
}

/* A line of `count` times 'x' between two steps. */
static void long_line(size_t count, const char *bad_text) {
    char *line = malloc(count + 1);
    assert_non_null(line);
    memset(line, 'x', count);
    line[count] = '\n';
    add_step(1);
    fixture_append("n", "log.jsonl", line, count + 1);
    add_step(2);
    free(line);
    struct run_log_reader reader = open_log();
    next_is_step(&reader, 1);
    next_is_step(&reader, 2);
    next_is_none(&reader);
    assert_int_equal(reader.bad, 1);
    assert_int_equal(reader.lines, 3);
    assert_string_equal(reader.first_bad.text, bad_text);
    assert_true(reader.capacity <= (1u << 20) + (4u << 16)); /* memory stays bounded */
    run_log_reader_close(&reader);
}

static void longer_than_a_megabyte(void **state) {
    (void)state;
    long_line((1 << 20) + (1 << 17), "line 2: longer than 1 MiB");
}

static void many_megabytes(void **state) {
    (void)state;
    long_line(5 << 20, "line 2: longer than 1 MiB");
}

static void long_but_read(void **state) {
    (void)state;
    long_line(1 << 19, "line 2: not a JSON object: '[' or '{' expected");
}

/* All byte values, NULs, line feeds, then a good line. */
static void binary(void **state) {
    (void)state;
    char bytes[4096];
    uint32_t random = 1;
    int lines = 1;
    for (size_t i = 0; i < sizeof bytes; i++) {
        random = random * 1664525 + 1013904223;
        bytes[i] = (char)(random >> 24);
        lines += bytes[i] == '\n';
    }
    fixture_append("n", "log.jsonl", bytes, sizeof bytes);
    add("\n");
    add_step(1);
    struct run_log_reader reader = open_log();
    next_is_step(&reader, 1);
    next_is_none(&reader);
    assert_int_equal(reader.bad, lines);
    assert_int_equal(reader.lines, lines + 1);
    run_log_reader_close(&reader);
}

/* Far more than one buffer: no line is lost at a boundary. */
static void many_lines(void **state) {
    (void)state;
    for (int i = 1; i <= 3000; i++)
        add_step(i);
    struct run_log_reader reader = open_log();
    for (int i = 1; i <= 3000; i++)
        next_is_step(&reader, i);
    next_is_none(&reader);
    assert_int_equal(reader.records, 3000);
    run_log_reader_close(&reader);
}

int main(void) {
#define LOG_TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        LOG_TEST(missing_file),   LOG_TEST(follows),       LOG_TEST(torn_then_restarted),
        LOG_TEST(roles),          LOG_TEST(other_schema),  LOG_TEST(longer_than_a_megabyte),
        LOG_TEST(many_megabytes), LOG_TEST(long_but_read), LOG_TEST(binary),
        LOG_TEST(many_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
