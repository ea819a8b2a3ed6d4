/* The numbers of the hand-made run (hand_made_run.h), each worked out here on paper, and the texts that show them. */
#include "unit/experiments/hand_made_run.h"
#include <math.h>
#include "experiments/summary.h"

static struct run_set set;

static void add(const char *name) {
    struct error error;
    char path[FIXTURE_PATH_BYTES];
    assert_int_equal(run_set_add(&set, fixture_path(name, path), &error), STATUS_OK);
}

static int teardown(void **state) {
    run_set_free(&set);
    return fixture_teardown(state);
}

#define assert_near(a, b) assert_true(fabs((a) - (b)) < 1e-9 * (1 + fabs(b)))

static void worker_0(void **state) {
    (void)state;
    struct worker_summary w;
    hand_made_run("alpha", "r1");
    add("alpha");
    summary_of_worker(&set.runs[0], set.runs[0].nodes[0], &w);
    assert_string_equal(w.run, "alpha");
    assert_string_equal(w.node, "island_0");
    assert_int_equal(w.slot, 0);
    assert_int_equal(w.steps, 4);
    assert_int_equal(w.tokens, 256);
    /* first step ended at 1.0 and took .1: start .9; the last one ended at 2.9: 4 steps of 64 tokens in 2.0 s */
    assert_near(summary_start_s(set.runs[0].nodes[0]), 0.9);
    assert_near(w.tokens_per_s, 128);
    assert_near(w.train_loss, (4.0 + 3.0 + 2.0) / 3); /* step 3 was not finite */
    assert_int_equal(w.payload_up, 3200);
    assert_int_equal(w.payload_down, 1600);
    assert_int_equal(w.wire_up, 4000);
    assert_int_equal(w.wire_down, 2000);
    assert_int_equal(w.control_up, 400);
    assert_int_equal(w.control_down, 200);
    assert_int_equal(w.retransmitted_up, 25);
    assert_int_equal(w.data_parallel_bytes, 16000); /* 4 * 1000 parameters * 4 steps */
    assert_near(w.ratio_wire, 16000.0 / 6000);
    assert_near(w.ratio_payload, 16000.0 / 4800);
    assert_near(w.elapsed_s, 2.2); /* .9 to 3.1 */
    assert_near(w.compute_share, 0.7 / 2.2);
    assert_near(w.wait_share, 0.15);
    assert_near(w.eval_share, 0.1);
    assert_near(w.other_share, 1 - 0.7 / 2.2 - 0.15 - 0.1);
    assert_int_equal(w.wait_us, 330000);
    /* 1.1 to 2.1: 2000 in 1 s; 2.3 is too near to 2.1 (it would be 3000 bytes/s); 2.1 to 3.1: 1000 in 1 s. All: 3000 in 2 s. Down: the half. */
    assert_near(w.up_peak_bytes_per_s, 2000);
    assert_near(w.up_mean_bytes_per_s, 1500);
    assert_near(w.down_peak_bytes_per_s, 1000);
    assert_near(w.down_mean_bytes_per_s, 750);
    assert_int_equal(w.up_cap_bytes_per_s, 5000);
    assert_int_equal(w.down_cap_bytes_per_s, 0);
    assert_true(w.ended);
    assert_string_equal(w.reason, "trained to the end");
    assert_int_equal(w.starts, 1);
    assert_int_equal(w.bad_lines, 0);
}

static void worker_1(void **state) {
    (void)state;
    struct worker_summary w;
    hand_made_run("alpha", "r1");
    add("alpha");
    summary_of_worker(&set.runs[0], set.runs[0].nodes[1], &w);
    assert_int_equal(w.steps, 3);
    assert_int_equal(w.tokens, 192);
    assert_int_equal(w.repeated_steps, 0);
    /* start 2.0 - .1; last step 11.5, 8 s of which it was down: 192 tokens in 1.6 s; newest record at 12.0: 2.1 s */
    assert_near(w.tokens_per_s, 120);
    assert_near(w.elapsed_s, 2.1);
    assert_near(w.down_s, 8);
    assert_near(w.train_loss, 4);
    assert_int_equal(w.payload_up, 500 + 250);
    assert_int_equal(w.payload_down, 200 + 150);
    assert_int_equal(w.wire_up, 700 + 300);
    assert_int_equal(w.wire_down, 300 + 200);
    assert_int_equal(w.data_parallel_bytes, 12000);
    assert_near(w.ratio_wire, 12000.0 / 1500);
    assert_near(w.ratio_payload, 12000.0 / 1100);
    assert_near(w.compute_share, 0.4 / 2.1);
    assert_near(w.wait_share, 0.03 / 2.1);
    assert_near(w.eval_share, 0.101 / 2.1);
    /* one sample: 2.5 to 12.0, without 8 s */
    assert_near(w.up_peak_bytes_per_s, 300 / 1.5);
    assert_near(w.up_mean_bytes_per_s, 300 / 1.5);
    assert_near(w.down_peak_bytes_per_s, 200 / 1.5);
    assert_false(w.ended);
    assert_string_equal(w.reason, "");
    assert_int_equal(w.starts, 2);
    assert_int_equal(w.bad_lines, 1);
}

static void whole_run(void **state) {
    (void)state;
    struct run_summary run;
    hand_made_run("alpha", "r1");
    add("alpha");
    summary_of_run(&set.runs[0], &run);
    assert_string_equal(run.run, "alpha");
    assert_string_equal(run.name, "by hand");
    assert_false(run.plain);
    assert_int_equal(run.parameters, 1000);
    assert_int_equal(run.fragments, 3);
    assert_int_equal(run.workers, 2);
    assert_int_equal(run.steps, 4);
    assert_int_equal(run.planned_steps, 4);
    assert_int_equal(run.every_steps, 2);
    assert_int_equal(run.overlap_steps, 1);
    assert_near(run.keep_local, 0.5);
    assert_string_equal(run.codec_up, "e3m0");
    assert_string_equal(run.codec_down, "bf16");
    assert_true(run.error_feedback);
    assert_int_equal(run.seed, 7);
    assert_near(run.loss, 2.25);
    assert_near(run.bits_per_byte, 3.25);
    assert_true(run.loss_final);
    assert_int_equal(run.loss_step, 4);
    assert_int_equal(run.tokens, 256 + 192);
    assert_near(run.tokens_per_s, 128 + 120);
    assert_int_equal(run.payload_bytes, (4800 + 1100) / 2);
    assert_int_equal(run.wire_bytes, (6000 + 1500) / 2);
    assert_int_equal(run.control_bytes, (600 + 150) / 2);
    assert_int_equal(run.data_parallel_bytes, (16000 + 12000) / 2);
    assert_near(run.ratio_wire, 28000.0 / 7500);
    assert_near(run.ratio_payload, 28000.0 / 5900);
    assert_near(run.wait_share, (0.33 + 0.03) / (2.2 + 2.1));
    assert_int_equal(run.commits, 2);
    assert_int_equal(run.restarts, 1);
    assert_true(isnan(run.tokens_lost)); /* there is no ledger */
    assert_int_equal(run.refused_updates, 0);
    assert_int_equal(run.refused, 1);
    assert_int_equal(run.bad_lines, 1);
}

/* A worker and an outer that were killed and started again. */
static void recovery(void **state) {
    (void)state;
    struct worker_summary w;
    struct run_summary run;
    hand_made_recovery("back", "r1");
    add("back");
    summary_of_worker(&set.runs[0], set.runs[0].nodes[0], &w);
    assert_int_equal(w.starts, 2);
    assert_int_equal(w.steps, 3);
    assert_int_equal(w.repeated_steps, 1);
    assert_int_equal(w.tokens, 256);
    assert_near(w.train_loss, 4); /* 5, 4, 3: the 9 of the first step 2 is of work that was lost */
    /* .5 to 6.0, 2 s of which it was down; .5 to 7.0 likewise */
    assert_near(w.tokens_per_s, 192 / 3.5);
    assert_near(w.elapsed_s, 4.5);
    assert_near(w.down_s, 2);
    assert_near(w.compute_share, 2 / 4.5);
    assert_near(w.wait_share, 0.3 / 4.5);
    assert_int_equal(w.wire_up, 1000);
    assert_int_equal(w.data_parallel_bytes, 12000);
    /* 2.0 to 6.5 and the rest to 7.0: 500 bytes in 3 s */
    assert_near(w.up_peak_bytes_per_s, 500 / 3.0);
    assert_near(w.up_mean_bytes_per_s, 500 / 3.0);
    assert_true(w.ended);
    summary_of_run(&set.runs[0], &run);
    assert_int_equal(run.steps, 3);
    assert_int_equal(run.restarts, 2);
    assert_near(run.tokens_lost, 64); /* of each of the three fragments */
    assert_int_equal(run.refused, 2);
    assert_int_equal(run.refused_updates, 1);
    assert_near(run.loss, 2.5);
    assert_true(run.loss_final);
}

/* Only the outer's log, or no final evaluation by a worker: the outer's end tells the loss. */
static void loss_of_the_outer(void **state) {
    (void)state;
    struct run_summary run;
    hand_made_worker_1("beta/w1", "b");
    hand_made_outer("beta/outer", "b");
    hand_made_outer("hub", "c");
    hand_made_worker_1("gamma", "g");
    add("beta");
    add("hub");
    add("gamma");
    summary_of_run(&set.runs[0], &run);
    assert_near(run.loss, 2.26);
    assert_near(run.bits_per_byte, 3.26);
    assert_true(run.loss_final);
    assert_int_equal(run.loss_step, 3);
    summary_of_run(&set.runs[1], &run);
    assert_near(run.loss, 2.26);
    assert_int_equal(run.workers, 0);
    assert_int_equal(run.parameters, 1000);
    assert_int_equal(run.wire_bytes, 0);
    assert_true(isnan(run.ratio_wire));
    assert_true(isnan(run.wait_share));
    summary_of_run(&set.runs[2], &run); /* neither */
    assert_near(run.loss, 3);
    assert_true(isnan(run.bits_per_byte));
    assert_false(run.loss_final);
}

static void plain_run(void **state) {
    (void)state;
    static const char wall[] = "2026-01-02T12:00:00.000Z";
    struct run_summary run;
    struct worker_summary w;
    hand_made_header("off/worker-0", wall, 0, "", "\"role\": \"plain\", \"node\": \"worker-0\"");
    fixture_record("off/worker-0", wall, 1000000, "step",
                   ", \"step\": 1, \"loss\": 4, \"tokens\": 64, \"compute_us\": 500000");
    add("off");
    summary_of_run(&set.runs[0], &run);
    assert_true(run.plain);
    assert_near(run.ratio_wire, 1);
    assert_near(run.ratio_payload, 1);
    assert_int_equal(run.data_parallel_bytes, 4000);
    assert_true(isnan(run.loss));
    summary_of_worker(&set.runs[0], set.runs[0].nodes[0], &w);
    assert_near(w.tokens_per_s, 128); /* 64 tokens in .5 s */
    assert_near(w.compute_share, 1);
    assert_near(w.other_share, 0);
    assert_near(w.up_peak_bytes_per_s, 0);
}

/* A worker that never took a step: no number is invented. */
static void no_steps(void **state) {
    (void)state;
    struct worker_summary w;
    hand_made_header("none", "2026-01-02T12:00:00.000Z", 0, "n", "\"role\": \"worker\", \"node\": \"w\"");
    add("none");
    assert_true(isnan(summary_start_s(set.runs[0].nodes[0])));
    summary_of_worker(&set.runs[0], set.runs[0].nodes[0], &w);
    assert_int_equal(w.steps, 0);
    assert_int_equal(w.tokens, 0);
    assert_near(w.tokens_per_s, 0);
    assert_near(w.elapsed_s, 0);
    assert_true(isnan(w.train_loss) && isnan(w.compute_share) && isnan(w.wait_share) && isnan(w.ratio_wire));
}

static void last_twenty_losses(void **state) {
    (void)state;
    static const char wall[] = "2026-01-02T12:00:00.000Z";
    struct worker_summary w;
    hand_made_header("t", wall, 0, "t", "\"role\": \"worker\", \"node\": \"w\"");
    for (int i = 1; i <= 30; i++) {
        char rest[160];
        snprintf(rest, sizeof rest, ", \"step\": %d, \"loss\": %d, \"tokens\": %d, \"compute_us\": 1", i, i, 64 * i);
        fixture_record("t", wall, i, "step", rest);
    }
    add("t");
    summary_of_worker(&set.runs[0], set.runs[0].nodes[0], &w);
    assert_near(w.train_loss, 20.5); /* mean of 11..30 */
}

/* ---- what is shown ---- */

static void json(void **state) {
    (void)state;
    hand_made_run("alpha", "r1");
    add("alpha");
    json_t *all = summary_json(&set);
    json_t *run = json_array_get(json_object_get(all, "runs"), 0);
    json_t *workers = json_object_get(run, "workers_table");
    assert_int_equal(json_array_size(json_object_get(all, "runs")), 1);
    assert_int_equal(json_array_size(workers), 2);
    assert_int_equal(json_object_size(run), run_summary_row_count + 2);
    assert_int_equal(json_object_size(json_object_get(run, "recoveries")), 0);
    assert_int_equal(json_object_size(json_array_get(workers, 0)), worker_summary_row_count);
    assert_int_equal(json_integer_value(json_object_get(run, "wire_bytes")), 3750);
    assert_near(json_real_value(json_object_get(run, "loss")), 2.25);
    assert_string_equal(json_string_value(json_object_get(json_array_get(workers, 1), "node")), "w1");
    json_decref(all);
}

static void json_of_recovery(void **state) {
    (void)state;
    hand_made_recovery("back", "r1");
    add("back");
    json_t *all = summary_json(&set);
    json_t *kinds = json_object_get(json_array_get(json_object_get(all, "runs"), 0), "recoveries");
    char *text = json_dumps(kinds, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, "{\"outer start\":1,\"restart\":1,\"snapshot\":2}");
    free(text);
    json_decref(all);
}

static char *printed(void) {
    char *text;
    size_t bytes;
    FILE *file = open_memstream(&text, &bytes);
    summary_print(&set, file);
    fclose(file);
    return text;
}

static void table(void **state) {
    (void)state;
    hand_made_run("alpha", "r1");
    add("alpha");
    char *text = printed();
    assert_string_equal(
        text,
        "alpha: 1000 parameters, 2 workers, 4 of 4 steps, 3 fragments every 2 steps, overlap 1, e3m0 up, bf16 down, "
        "error feedback\n"
        "  held-out loss     2.2500 nats per token, 3.2500 bits per byte (step 4, final model)\n"
        "  payload           2.95 kB up and down per worker, 4.75x less than bf16 data-parallel\n"
        "  wire              3.75 kB up and down per worker, 3.73x less than bf16 data-parallel\n"
        "  bf16 data-par.    14.0 kB up and down per worker for the same steps\n"
        "  speed             248 tokens/s, 448 tokens\n"
        "  exposed wait      8.37 % of the workers' time\n"
        "  restarts          1 (w1 1)\n"
        "  warning           1 log lines could not be used\n"
        "  worker           steps  tokens/s     payload up / down        wire up / down     control up / down   "
        "wire vs DP     wait  end\n"
        "  island_0             4       128     3.20 kB / 1.60 kB     4.00 kB / 2.00 kB         400 B / 200 B   "
        "2.67x less  15.00 %  trained to the end\n"
        "  w1                   3       120         750 B / 350 B       1.00 kB / 500 B          100 B / 50 B   "
        "   8x less   1.43 %  no end record\n");
    free(text);
}

static void table_of_recovery(void **state) {
    (void)state;
    hand_made_recovery("back", "r1");
    add("back");
    char *text = printed();
    assert_non_null(strstr(text, "\n  restarts          2 (w0 1, outer 1)\n"
                                 "  recoveries        4 (restart 1, outer start 1, snapshot 2)\n"
                                 "  tokens lost       64 of 256, trained but not counted\n"
                                 "  refused updates   1, not finite or too large\n"
                                 "  worker "));
    free(text);
}

static void table_of_others(void **state) {
    (void)state;
    static const char wall[] = "2026-01-02T12:00:00.000Z";
    hand_made_header("off/worker-0", wall, 0, "", "\"role\": \"plain\", \"node\": \"worker-0\"");
    hand_made_outer("hub", "c");
    add("off");
    add("hub");
    char *text = printed();
    assert_non_null(strstr(text, "off: 1000 parameters, plain training (sync: off), 0 of 4 steps\n"
                                 "  held-out loss     not measured\n"
                                 "  bf16 data-par.    0 B up and down per worker for the same steps\n"));
    assert_non_null(strstr(text, "   reference        -  no end record\n\nhub: 1000 parameters, 0 workers, "));
    assert_non_null(strstr(text, ", error feedback\n"
                                 "  held-out loss     2.2600 nats per token, 3.2600 bits per byte (step 0, final "
                                 "model)\n"
                                 "  tokens            0, that commits count; no log of a worker is here\n"));
    free(text);
}

/* An outer's own directory: its commits tell how far each worker was. With a worker's log, that one's. */
static void tokens_of_a_hub(void **state) {
    (void)state;
    static const char wall[] = "2026-01-02T12:00:00.000Z";
    struct run_summary run;
    hand_made_header("hub", wall, 0, "r1", "\"role\": \"outer\", \"node\": \"outer\", \"slot\": -1");
    fixture_record("hub", wall, 1000000, "commit",
                   ", \"fragment\": 0, \"version\": 1, \"run_step\": 2, \"counted\": [{\"slot\": 0, "
                   "\"tokens_to\": 128}, {\"slot\": 1, \"tokens_to\": 64}]");
    fixture_record("hub", wall, 2000000, "commit",
                   ", \"fragment\": 1, \"version\": 1, \"run_step\": 3, \"counted\": [{\"slot\": 1, "
                   "\"tokens_to\": 192}, {\"slot\": 64, \"tokens_to\": 1000}]");
    fixture_record("hub", wall, 3000000, "commit",
                   ", \"fragment\": 2, \"version\": 1, \"run_step\": 2, \"counted\": [{\"slot\": 1, "
                   "\"tokens_to\": 100}]");
    add("hub");
    summary_of_run(&set.runs[0], &run);
    assert_int_equal(run.tokens, 128 + 192);
    assert_int_equal(run.steps, 3);
    assert_int_equal(run.workers, 0);
    char *text = printed();
    assert_non_null(strstr(text, "  tokens            320, that commits count; no log of a worker is here\n"));
    free(text);
    hand_made_worker_0("w0", "r1");
    add("w0");
    assert_int_equal(set.count, 1);
    summary_of_run(&set.runs[0], &run);
    assert_int_equal(run.tokens, 256 + 192);
    assert_int_equal(run.steps, 4);
}

static void schema(void **state) {
    (void)state;
    char *text;
    size_t bytes;
    FILE *file = open_memstream(&text, &bytes);
    summary_print_schema(file);
    fclose(file);
    assert_non_null(
        strstr(text, "\n    wait_share         real     exposed wait of all workers over their elapsed time\n"));
    assert_non_null(
        strstr(text, "\n    workers_table      list     of its workers (also a row of workers.csv), each:\n"));
    assert_non_null(
        strstr(text, "\n    recoveries         object   how often a node said \"recover\", by its `what`; "));
    assert_non_null(strstr(text, "\n    ended              bool     its newest process has an end record\n"));
    free(text);
}

int main(void) {
#define RUN_TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, teardown)
    const struct CMUnitTest tests[] = {
        RUN_TEST(worker_0),  RUN_TEST(worker_1),         RUN_TEST(whole_run),          RUN_TEST(loss_of_the_outer),
        RUN_TEST(plain_run), RUN_TEST(no_steps),         RUN_TEST(last_twenty_losses), RUN_TEST(json),
        RUN_TEST(table),     RUN_TEST(table_of_others),  RUN_TEST(tokens_of_a_hub),    RUN_TEST(schema),
        RUN_TEST(recovery),  RUN_TEST(json_of_recovery), RUN_TEST(table_of_recovery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
