/* The plain progress lines (stderr is no terminal here), from logs that grow, at times that the test gives. */
#include "unit/experiments/hand_made_run.h"
#include "experiments/progress.h"

static struct progress progress;
static int saved_stderr = -1;

static void begin(int workers, bool quiet) {
    char path[FIXTURE_PATH_BYTES];
    fixture_append(".", "stderr.txt", "", 0);
    FILE *file = fopen(fixture_path("stderr.txt", path), "a");
    assert_non_null(file);
    fflush(stderr);
    saved_stderr = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    fclose(file);
    progress_open(&progress, fixture_root, workers, 4, quiet);
}

/* What was printed since begin. */
static void ends_with(const char *wanted) {
    progress_close(&progress);
    fflush(stderr);
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    char *text = fixture_text("stderr.txt");
    assert_string_equal(text, wanted);
    free(text);
}

static void step(int worker, int number, const char *loss) {
    char directory[32], rest[160];
    snprintf(directory, sizeof directory, "worker-%d", worker);
    snprintf(rest, sizeof rest, ", \"step\": %d, \"loss\": %s, \"tokens\": %d, \"compute_us\": 1", number, loss,
             1000 * number);
    fixture_record(directory, "2026-01-02T12:00:00.000Z", number, "step", rest);
}

/* Nothing before a step; then the slowest worker's step, the mean loss, tokens of all, bytes and wait of the mean worker. */
static void two_workers(void **state) {
    (void)state;
    static const char wall[] = "2026-01-02T12:00:00.000Z";
    begin(2, false);
    progress_tick(&progress, 1000000); /* no logs yet */
    assert_false(progress_started(&progress));
    hand_made_header("worker-0", wall, 0, "r", "\"role\": \"worker\", \"node\": \"a\"");
    hand_made_header("worker-1", wall, 0, "r", "\"role\": \"worker\", \"node\": \"b\"");
    progress_tick(&progress, 2000000);
    assert_false(progress_started(&progress));
    step(0, 1, "4");
    step(1, 1, "3");
    progress_tick(&progress, 3000000); /* the clock of the rate starts: 2000 tokens */
    assert_true(progress_started(&progress));
    assert_false(progress_continues(&progress));
    step(0, 2, "3");
    step(0, 3, "2.5");
    step(1, 2, "1.5");
    fixture_record("worker-0", wall, 4, "link", ", \"wire_up\": 4000, \"wire_down\": 2000, \"wait_us\": 300000");
    fixture_record("worker-1", wall, 4, "link", ", \"wire_up\": 2000, \"wire_down\": 1000, \"wait_us\": 100000");
    fixture_append("worker-1", "log.jsonl", "{\"event\": \"st", 13);
    progress_tick(&progress, 3999999); /* first line after a second */
    /* 5000 - 2000 tokens in 2 s; 2 of 4 steps, 2500 tokens each, are to come: 3.3 s. Wait .2 s of 2 s. */
    progress_tick(&progress, 5000000);
    progress_tick(&progress, 14000000); /* lines are ten seconds apart */
    fixture_record("worker-0", wall, 5, "eval",
                   ", \"step\": 2, \"loss\": 2.25, \"tokens\": 1, \"run_tokens\": 1, \"eval_us\": 1");
    /* 3000 tokens in 13 s; 5000 to come: 21.7 s. */
    progress_tick(&progress, 16000000);
    ends_with("step 2/4  loss 2.000  1.5k tokens/s  per worker: up 3.00 kB down 1.50 kB wait 10.0 %  3.00 s left\n"
              "step 2/4  loss 2.000  held-out 2.250 @2  0.2k tokens/s  per worker: up 3.00 kB down 1.50 kB wait 1.5 %  "
              "21.0 s left\n");
}

/* A worker that was started again counts its bytes and waits from zero; its steps go back to the checkpoint. */
static void restarted(void **state) {
    (void)state;
    static const char wall[] = "2026-01-02T12:00:00.000Z";
    static const char who[] = "\"role\": \"worker\", \"node\": \"a\"";
    begin(1, false);
    hand_made_header("worker-0", wall, 0, "r", who);
    step(0, 1, "4");
    step(0, 2, "4");
    progress_tick(&progress, 1000000);
    fixture_record("worker-0", wall, 4, "link", ", \"wire_up\": 3000, \"wire_down\": 2000, \"wait_us\": 300000");
    progress_restarted(&progress);
    hand_made_header("worker-0", wall, 0, "r", who);
    fixture_record("worker-0", wall, 1, "step", ", \"step\": 2, \"loss\": 4, \"tokens\": 3000, \"compute_us\": 1");
    fixture_record("worker-0", wall, 4, "link", ", \"wire_up\": 1000, \"wire_down\": 500, \"wait_us\": 100000");
    progress_tick(&progress, 3000000); /* 1000 tokens in 2 s; two steps of 1500 tokens are to come */
    ends_with(
        "step 2/4  loss 4.000  0.5k tokens/s  per worker: up 4.00 kB down 2.50 kB wait 20.0 %  restarts 1  6.00 s "
        "left\n");
}

/* A run that is continued: what was trained before is not of now. */
static void continued(void **state) {
    (void)state;
    static const char wall[] = "2026-01-02T12:00:00.000Z";
    static const char who[] = "\"role\": \"worker\", \"node\": \"a\"";
    for (int process = 1; process <= 2; process++) {
        hand_made_header("worker-0", wall, 0, "r", who);
        step(0, process, "4");
        fixture_record("worker-0", wall, 4, "link", ", \"wire_up\": 3000, \"wire_down\": 2000, \"wait_us\": 300000");
    }
    begin(1, false);
    assert_true(progress_continues(&progress));
    progress_tick(&progress, 1000000);
    assert_false(progress_started(&progress));
    progress_tick(&progress, 20000000);
    hand_made_header("worker-0", wall, 0, "r", who);
    progress_tick(&progress, 30000000);
    assert_false(progress_started(&progress));
    step(0, 3, "3");
    fixture_record("worker-0", wall, 4, "link", ", \"wire_up\": 1000, \"wire_down\": 500, \"wait_us\": 100000");
    progress_tick(&progress, 40000000);
    assert_true(progress_started(&progress));
    progress_tick(&progress, 41000000);
    ends_with("step 3/4  loss 3.000  0.0k tokens/s  per worker: up 1.00 kB down 500 B wait 10.0 %  - left\n");
}

static void quiet(void **state) {
    (void)state;
    begin(1, true);
    step(0, 1, "4");
    progress_tick(&progress, 1000000);
    progress_tick(&progress, 90000000);
    assert_true(progress_started(&progress));
    ends_with("");
}

int main(void) {
#define LOG_TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {LOG_TEST(two_workers), LOG_TEST(restarted), LOG_TEST(continued),
                                       LOG_TEST(quiet)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
