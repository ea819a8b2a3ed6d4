/* inner_loop: counts, what it logs, evaluation, and that it stops when training has diverged. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "worker/inner_loop.h"

static char directory[] = "/tmp/atoll-inner-loop.XXXXXX";
static char log_path[64];

static void write_text(const char *name, int lines) {
    char path[64];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < lines; i++)
        fprintf(file, "line %d of %s, one of many that are alike\n", i, name);
    fclose(file);
}

static int make_directory(void **state) {
    (void)state;
    assert_non_null(mkdtemp(directory));
    write_text("train.txt", 200);
    write_text("val.txt", 20);
    snprintf(log_path, sizeof log_path, "%s/log.jsonl", directory);
    return 0;
}

static int remove_directory(void **state) {
    (void)state;
    char path[64];
    static const char *const names[] = {"train.txt", "val.txt", "log.jsonl"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    return rmdir(directory);
}

static void parse(const char *data, struct run_file *run) {
    char text[512];
    struct error error = {0};
    int length =
        snprintf(text, sizeof text,
                 "name: t\nmodel: {layers: 1, width: 16, heads: 2, ffn: 24, context: 16}\ndata: %s\n"
                 "inner: {lr: 1e-2, warmup_steps: 1, steps: 30, batch_per_worker: 2, accumulate: 2, threads: 1}\n"
                 "sync: {every_steps: 6}\neval: {windows: 4}\nworkers: 2\n",
                 data);
    if (run_file_parse(text, (size_t)length, "test", directory, NULL, 0, run, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

struct rig {
    struct run_file run;
    struct log *log;
    struct inner_loop loop;
};

static void open_rig(struct rig *rig, uint32_t slot) {
    struct error error = {0};
    unlink(log_path);
    parse("{train: [train.txt], val: [val.txt]}", &rig->run);
    assert_int_equal(log_open(&rig->log, log_path, &error), STATUS_OK);
    if (inner_loop_open(&rig->loop, &rig->run, rig->log, slot, (struct evaluate_hook){0}, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void close_rig(struct rig *rig) {
    inner_loop_close(&rig->loop);
    log_close(rig->log);
}

static void steps_count_tokens_and_are_logged(void **state) {
    (void)state;
    struct rig rig;
    struct error error;
    open_rig(&rig, 0);
    assert_int_equal(inner_loop_tokens_per_step(&rig.run), 2 * 2 * 16);
    double first = 0;
    for (uint64_t t = 1; t <= 20; t++) {
        assert_int_equal(inner_loop_step(&rig.loop, &error), STATUS_OK);
        assert_int_equal(rig.loop.step, t);
        assert_int_equal(rig.loop.tokens, 64 * t);
        first = t == 1 ? rig.loop.loss : first;
    }
    assert_true(fabs(first - log(256)) < 0.5); /* nothing known: uniform over the bytes */
    assert_true(rig.loop.loss < first - 1);
    close_rig(&rig);
    FILE *file = fopen(log_path, "r");
    char line[4096];
    int count = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        json_t *json = json_loads(line, 0, NULL);
        assert_string_equal(json_string_value(json_object_get(json, "event")), "step");
        assert_int_equal(json_integer_value(json_object_get(json, "step")), ++count);
        assert_int_equal(json_integer_value(json_object_get(json, "tokens")), 64 * count);
        assert_true(json_is_true(json_object_get(json, "applied")));
        json_decref(json);
    }
    assert_int_equal(count, 20);
    fclose(file);
}

static void the_same_slot_trains_the_same_another_does_not(void **state) {
    (void)state;
    struct rig a, b, c;
    struct error error;
    open_rig(&a, 1), open_rig(&b, 1), open_rig(&c, 0);
    size_t bytes = model_tensors(a.loop.model)->block_floats * sizeof(float);
    assert_memory_equal(model_parameters(a.loop.model), model_parameters(c.loop.model), bytes); /* all begin alike */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(inner_loop_step(&a.loop, &error), STATUS_OK);
        assert_int_equal(inner_loop_step(&b.loop, &error), STATUS_OK);
        assert_int_equal(inner_loop_step(&c.loop, &error), STATUS_OK);
    }
    assert_memory_equal(model_parameters(a.loop.model), model_parameters(b.loop.model), bytes);
    assert_memory_not_equal(model_parameters(a.loop.model), model_parameters(c.loop.model), bytes);
    close_rig(&a), close_rig(&b), close_rig(&c);
}

static void evaluation_reads_the_given_parameters(void **state) {
    (void)state;
    struct rig rig;
    struct error error;
    struct evaluation before, after, given;
    uint64_t took_us;
    open_rig(&rig, 0);
    size_t bytes = model_tensors(rig.loop.model)->block_floats * sizeof(float);
    memcpy(rig.loop.evaluated, model_parameters(rig.loop.model), bytes);
    assert_int_equal(inner_loop_evaluate(&rig.loop, rig.loop.evaluated, &before, &took_us, &error), STATUS_OK);
    for (int i = 0; i < 10; i++)
        assert_int_equal(inner_loop_step(&rig.loop, &error), STATUS_OK);
    assert_int_equal(inner_loop_evaluate(&rig.loop, model_parameters(rig.loop.model), &after, &took_us, &error),
                     STATUS_OK);
    assert_int_equal(inner_loop_evaluate(&rig.loop, rig.loop.evaluated, &given, &took_us, &error), STATUS_OK);
    assert_true(before.loss == given.loss && after.loss < before.loss);
    assert_int_equal(before.windows, 4);
    assert_true(rig.loop.eval_us >= took_us);
    rig.run.eval.windows = 6;
    assert_int_equal(inner_loop_reopen_held_out(&rig.loop, &error), STATUS_OK);
    assert_int_equal(inner_loop_evaluate(&rig.loop, rig.loop.evaluated, &given, &took_us, &error), STATUS_OK);
    assert_int_equal(given.windows, 6);
    rig.run.data.val_count = 0;
    assert_int_not_equal(inner_loop_reopen_held_out(&rig.loop, &error), STATUS_OK);
    assert_int_equal(inner_loop_evaluate(&rig.loop, rig.loop.evaluated, &given, &took_us, &error), STATUS_OK);
    assert_int_equal(given.windows, 6);
    close_rig(&rig);
}

static void ten_steps_without_a_finite_loss_stop_it(void **state) {
    (void)state;
    struct rig rig;
    struct error error;
    open_rig(&rig, 0);
    float *parameters = model_parameters(rig.loop.model);
    float *embedding = parameters;
    size_t floats = model_tensors(rig.loop.model)->block_floats;
    float *good = test_malloc(floats * sizeof *good);
    memcpy(good, parameters, floats * sizeof *good);
    for (int i = 1; i < INNER_SKIPS_MAX; i++) {
        for (size_t k = 0; k < 16 * 256; k++)
            embedding[k] = NAN;
        assert_int_equal(inner_loop_step(&rig.loop, &error), STATUS_OK); /* skipped and counted */
        assert_int_equal(rig.loop.skipped_in_a_row, i);
    }
    memcpy(parameters, good, floats * sizeof *good);
    assert_int_equal(inner_loop_step(&rig.loop, &error), STATUS_OK);
    assert_int_equal(rig.loop.skipped_in_a_row, 0); /* in a row */
    for (int i = 1; i <= INNER_SKIPS_MAX; i++) {
        for (size_t k = 0; k < 16 * 256; k++)
            embedding[k] = NAN;
        assert_int_equal(inner_loop_step(&rig.loop, &error), i < INNER_SKIPS_MAX ? STATUS_OK : STATUS_NOT_FINITE);
    }
    assert_string_equal(error.text,
                        "10 steps in a row had no finite loss or gradient (the last: step 20); lower inner.lr or raise "
                        "inner.warmup_steps");
    test_free(good);
    close_rig(&rig);
}

static void without_text(void **state) {
    (void)state;
    struct rig rig = {0};
    struct error error = {0};
    struct evaluation evaluation;
    uint64_t took_us;
    open_rig(&rig, 0);
    inner_loop_close(&rig.loop);
    rig.run.data.val_count = 0;
    assert_int_equal(inner_loop_open(&rig.loop, &rig.run, rig.log, 0, (struct evaluate_hook){0}, &error), STATUS_OK);
    assert_null(rig.loop.held_out);
    assert_int_equal(inner_loop_evaluate(&rig.loop, rig.loop.evaluated, &evaluation, &took_us, &error),
                     STATUS_NOT_FOUND);
    assert_string_equal(error.text, "no held-out text on this worker");
    inner_loop_close(&rig.loop);
    rig.run.data.train_count = 0;
    assert_int_equal(inner_loop_open(&rig.loop, &rig.run, rig.log, 0, (struct evaluate_hook){0}, &error),
                     STATUS_CONFIG);
    assert_string_equal(error.text, "data.train: no training text; name some in the run file, or give --data GLOB");
    close_rig(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_count_tokens_and_are_logged),
        cmocka_unit_test(the_same_slot_trains_the_same_another_does_not),
        cmocka_unit_test(evaluation_reads_the_given_parameters),
        cmocka_unit_test(ten_steps_without_a_finite_loss_stop_it),
        cmocka_unit_test(without_text),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
