/* How logs become runs: clocks joined, counters of restarted nodes added, directories grouped by run id. */
#include "unit/experiments/hand_made_run.h"
#include <math.h>
#include "experiments/run_data.h"

static struct run_set set;

static void add(const char *name) {
    struct error error;
    char path[FIXTURE_PATH_BYTES];
    enum status status = run_set_add(&set, fixture_path(name, path), &error);
    if (status != STATUS_OK)
        fail_msg("%s", error.text);
}

static void refuses(const char *name, enum status status, const char *format) {
    struct error error;
    char path[FIXTURE_PATH_BYTES], text[ERROR_TEXT_BYTES];
    assert_int_equal(run_set_add(&set, fixture_path(name, path), &error), status);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(text, sizeof text, format, path);
#pragma GCC diagnostic pop
    assert_string_equal(error.text, text);
}

static int teardown(void **state) {
    run_set_free(&set);
    return fixture_teardown(state);
}

#define assert_near(a, b) assert_true(fabs((a) - (b)) < 1e-6)

static void clocks_and_order(void **state) {
    (void)state;
    hand_made_run("alpha", "r1");
    add("alpha");
    assert_int_equal(set.count, 1);
    const struct run_data *run = &set.runs[0];
    assert_string_equal(run->label, "alpha");
    assert_int_equal(run->node_count, 3);
    assert_int_equal(run->worker_count, 2);
    const struct run_node *a = run->nodes[0], *b = run->nodes[1], *outer = run->nodes[2];
    assert_string_equal(a->header.node, "island_0"); /* fit for file names and plot scripts */
    assert_string_equal(b->header.node, "w1");
    assert_true(outer->is_outer);
    /* w0 and the outer began at 12:00:00, w1 a second later, and again at 11. */
    assert_int_equal(a->step_count, 4);
    assert_near(a->steps[0].t_s, 1.0);
    assert_near(a->steps[3].t_s, 2.9);
    assert_near(a->last_t_s, 3.1);
    assert_near(outer->last_t_s, 3.2);
    assert_int_equal(b->step_count, 3);
    assert_near(b->steps[0].t_s, 2.0);
    assert_near(b->steps[1].t_s, 3.0);
    assert_near(b->steps[2].t_s, 11.5);
    assert_near(b->evals[0].t_s, 11.6);
    assert_near(b->links[1].t_s, 12.0);
    assert_near(b->last_t_s, 12.0);
    assert_true(isnan(a->steps[2].loss));
    assert_int_equal(a->steps[3].tokens, 256);
    assert_int_equal(a->steps[3].compute_us, 250000);
}

static void counters(void **state) {
    (void)state;
    hand_made_run("alpha", "r1");
    add("alpha");
    const struct run_node *a = set.runs[0].nodes[0], *b = set.runs[0].nodes[1], *outer = set.runs[0].nodes[2];
    assert_int_equal(a->start_count, 1);
    assert_int_equal(a->link_count, 4); /* 3 link records and the end */
    assert_int_equal(a->links[1].counters.wire_up, 3000);
    assert_int_equal(a->links[1].counters.compute_us, 250000);
    assert_int_equal(a->totals.payload_up, 3200);
    assert_int_equal(a->totals.payload_down, 1600);
    assert_int_equal(a->totals.wire_up, 4000);
    assert_int_equal(a->totals.wire_down, 2000);
    assert_int_equal(a->totals.control_up, 400);
    assert_int_equal(a->totals.control_down, 200);
    assert_int_equal(a->totals.retransmitted_up, 25); /* the end does not tell it: the newest link does */
    assert_int_equal(a->totals.wait_us, 330000);
    assert_int_equal(a->totals.compute_us, 700000);
    assert_int_equal(a->totals.eval_us, 220000);
    assert_true(a->ended);
    assert_string_equal(a->end_reason, "trained to the end");
    assert_string_equal(a->state_hash, "aa");
    assert_false(a->torn);
    /* w1: 700 + 300 and so on; compute is the sum of its steps. */
    assert_int_equal(b->start_count, 2);
    assert_int_equal(b->links[0].counters.wire_up, 700);
    assert_int_equal(b->links[1].counters.wire_up, 1000);
    assert_int_equal(b->evals[0].counters.wire_up, 800);
    assert_int_equal(b->evals[0].counters.wire_down, 350);
    assert_int_equal(b->evals[0].counters.payload_up, 580);
    assert_int_equal(b->evals[0].counters.payload_down, 240);
    assert_int_equal(b->totals.payload_up, 750);
    assert_int_equal(b->totals.payload_down, 350);
    assert_int_equal(b->totals.wire_down, 500);
    assert_int_equal(b->totals.control_up, 100);
    assert_int_equal(b->totals.control_down, 50);
    assert_int_equal(b->totals.retransmitted_up, 3);
    assert_int_equal(b->totals.wait_us, 30000);
    assert_int_equal(b->totals.compute_us, 400000);
    assert_int_equal(b->totals.eval_us, 101000);
    assert_false(b->ended);
    assert_true(b->torn);
    assert_int_equal(b->bad, 1);
    assert_int_equal(b->unknown, 1);
    assert_string_equal(b->first_bad, "line 5: step: loss is not a real");
    assert_int_equal(outer->commits, 2);
    assert_int_equal(outer->contributions, 3);
    assert_int_equal(outer->refused, 1);
    assert_near(outer->final_loss, 2.26);
    assert_near(outer->final_bits_per_byte, 3.26);
}

/* A worker and an outer that were killed and started again. */
static void restarts(void **state) {
    (void)state;
    hand_made_recovery("back", "r1");
    add("back");
    const struct run_node *w = set.runs[0].nodes[0], *outer = set.runs[0].nodes[1];
    assert_int_equal(w->start_count, 2);
    assert_near(w->starts[0].t_s, 0);
    assert_near(w->starts[0].down_s, 0);
    assert_near(w->starts[1].t_s, 4.0);
    assert_near(w->starts[1].down_s, 2.0);
    assert_near(run_node_down_s(w, 3.9), 0);
    assert_near(run_node_down_s(w, 4.0), 2.0);
    assert_int_equal(w->step_count, 4);
    assert_int_equal(w->trained_steps, 3);
    for (int i = 0; i < 4; i++)
        assert_int_equal(w->steps[i].repeated, i == 1);
    assert_int_equal(w->totals.wire_up, 1000);
    assert_int_equal(w->totals.wait_us, 300000);
    assert_int_equal(w->totals.compute_us, 2000000);
    assert_int_equal(w->recoveries.count, 1);
    assert_string_equal(w->recoveries.kinds[0].what, "restart");
    assert_int_equal(w->recoveries.kinds[0].count, 1);
    assert_int_equal(outer->start_count, 2);
    assert_near(outer->starts[1].t_s, 3.0);
    assert_near(outer->starts[1].down_s, 1.0);
    assert_int_equal(outer->commits, 2);
    assert_int_equal(outer->refused, 2);
    assert_int_equal(outer->refused_updates, 1); /* what is stale does no harm */
    assert_int_equal(outer->tokens_dropped, 192);
    assert_int_equal(outer->recoveries.count, 2); /* not the start of the run */
    assert_string_equal(outer->recoveries.kinds[0].what, "outer start");
    assert_int_equal(outer->recoveries.kinds[0].count, 1);
    assert_string_equal(outer->recoveries.kinds[1].what, "snapshot");
    assert_int_equal(outer->recoveries.kinds[1].count, 2);
    assert_true(outer->ended);
}

/* An ended run that goes on: what the first process said of its end is the past. */
static void continued(void **state) {
    (void)state;
    static const char again[] = "2026-01-02T12:00:20.000Z";
    hand_made_recovery("back", "r1");
    hand_made_header("back/w0", again, 0, "r1", "\"role\": \"worker\", \"node\": \"w0\", \"slot\": 0");
    hand_made_header("back/outer", again, 0, "r1", "\"role\": \"outer\", \"node\": \"outer\", \"slot\": -1");
    hand_made_ledger("back/outer", again, 100000);
    add("back");
    const struct run_node *w = set.runs[0].nodes[0], *outer = set.runs[0].nodes[1];
    assert_false(w->ended);
    assert_string_equal(w->end_reason, "");
    assert_near(w->starts[2].down_s, 13.0);
    assert_near(run_node_down_s(w, 21.0), 15.0);
    assert_false(outer->ended);
    assert_true(isnan(outer->final_loss));
    assert_int_equal(outer->tokens_dropped, 192); /* the newest ledger, not both */
    assert_int_equal(outer->ledger_start, 3);
}

/* A clock that was set back, or a header without one: the processes still follow each other. */
static void clock_set_back(void **state) {
    (void)state;
    static const char who[] = "\"role\": \"worker\", \"node\": \"w\"";
    static const char *const walls[] = {"2026-01-02T11:00:00.000Z", "nonsense"};
    hand_made_header("w", "2026-01-02T12:00:00.000Z", 0, "r", who);
    fixture_record("w", "", 1000000, "step", ", \"step\": 1, \"loss\": 5, \"tokens\": 64, \"compute_us\": 9");
    for (int i = 0; i < 2; i++) {
        hand_made_header("w", walls[i], 500000, "r", who);
        fixture_record("w", "", 1000000, "step", ", \"step\": 2, \"loss\": 5, \"tokens\": 64, \"compute_us\": 9");
    }
    add("w");
    const struct run_node *node = set.runs[0].nodes[0];
    assert_near(node->starts[1].t_s, 1.5);
    assert_near(node->steps[1].t_s, 2.0);
    assert_near(node->steps[2].t_s, 3.0);
    assert_true(node->steps[1].repeated);
}

/* More kinds than there is room for: the last one takes them. */
static void kinds_of_recovery(void **state) {
    (void)state;
    struct run_recoveries recoveries = {.count = 0};
    for (int i = 0; i < 30; i++) {
        char what[16];
        snprintf(what, sizeof what, "kind %d", i);
        run_recoveries_add(&recoveries, what, 2);
    }
    run_recoveries_add(&recoveries, "kind 1", INT64_MAX);
    assert_int_equal(recoveries.count, RUN_DATA_KINDS_MAX);
    assert_int_equal(recoveries.kinds[0].count, 2);
    assert_true(recoveries.kinds[1].count == INT64_MAX);
    assert_string_equal(recoveries.kinds[23].what, "kind 23");
    assert_int_equal(recoveries.kinds[23].count, 2 * 7);
}

/* The logs of one run, brought together from three machines; and another run beside it. */
static void grouped_by_run_id(void **state) {
    (void)state;
    hand_made_worker_1("from/b/copy", "r1");
    hand_made_worker_0("from/a", "r1");
    hand_made_outer("from/hub/copy", "r1");
    hand_made_run("other", "r2");
    hand_made_worker_0("plain-1/copy", ""); /* no run id: never joined */
    hand_made_worker_0("plain-2/copy", "");
    add("from/b/copy");
    add("other");
    add("from/hub/copy");
    add("from/a");
    add("plain-1/copy");
    add("plain-2/copy");
    assert_int_equal(set.count, 4);
    const struct run_data *run = &set.runs[0];
    assert_string_equal(run->label, "copy"); /* the first directory's name */
    assert_int_equal(run->node_count, 3);
    assert_int_equal(run->worker_count, 2);
    assert_string_equal(run->nodes[0]->header.node, "island_0");
    assert_near(run->nodes[0]->steps[0].t_s, 1.0);
    assert_near(run->nodes[1]->steps[0].t_s, 2.0); /* on the clock of the earliest, although it was read first */
    assert_near(run->nodes[1]->last_t_s, 12.0);
    assert_string_equal(set.runs[1].label, "other");
    assert_string_equal(set.runs[2].label, "copy#2"); /* made unique */
    assert_string_equal(set.runs[3].label, "copy#3");
    assert_int_equal(set.runs[2].node_count, 1);
}

static void nothing_there(void **state) {
    (void)state;
    fixture_append("empty", "notes.txt", "x", 1);
    fixture_append("headless/w0", "log.jsonl", "\x01\x02\n", 3);
    fixture_append("deep/a/b", "log.jsonl", "{}\n", 3);
    refuses("absent", STATUS_NOT_FOUND, "%s: not a directory that can be read; give the directory of a run");
    refuses("empty", STATUS_NOT_FOUND,
            "%s: no log.jsonl in it, nor one level below; give the directory of a run (the --dir of atoll train)");
    refuses("deep", STATUS_NOT_FOUND,
            "%s: no log.jsonl in it, nor one level below; give the directory of a run (the --dir of atoll train)");
    refuses("headless", STATUS_DATA,
            "%s/w0/log.jsonl: no readable header; line 1: not a JSON object: '[' or '{' expected near '?'");
    assert_int_equal(set.count, 0);
}

/* Arrays that outgrow their first capacity. */
static void many_records(void **state) {
    (void)state;
    static const char wall[] = "2026-01-02T12:00:00.000Z";
    hand_made_header("long/w", wall, 0, "long", "\"role\": \"plain\", \"node\": \"w\"");
    for (int i = 1; i <= 1000; i++) {
        char rest[160];
        snprintf(rest, sizeof rest, ", \"step\": %d, \"loss\": %d, \"tokens\": %d, \"compute_us\": 10", i, i, 64 * i);
        fixture_record("long/w", wall, i, "step", rest);
        snprintf(rest, sizeof rest, ", \"wire_up\": %d, \"wire_down\": 0, \"wait_us\": 0", i);
        fixture_record("long/w", wall, i, "link", rest);
        snprintf(rest, sizeof rest, ", \"step\": %d, \"loss\": 1, \"tokens\": 1, \"run_tokens\": 1", i);
        fixture_record("long/w", wall, i, "eval", rest);
    }
    add("long");
    const struct run_node *node = set.runs[0].nodes[0];
    assert_int_equal(node->step_count, 1000);
    assert_int_equal(node->link_count, 1000);
    assert_int_equal(node->eval_count, 1000);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(node->steps[i].step, i + 1);
        assert_int_equal(node->links[i].counters.wire_up, i + 1);
        assert_int_equal(node->evals[i].step, i + 1);
    }
    assert_int_equal(node->totals.compute_us, 10000);
}

/* Sums of what a log says saturate. */
static void absurd_counts(void **state) {
    (void)state;
    static const char wall[] = "2026-01-02T12:00:00.000Z";
    static const char step[] = ", \"step\": 1, \"loss\": 1, \"tokens\": 64, \"compute_us\": 9007199254740992";
    for (int i = 0; i < 1100; i++) {
        if (i % 100 == 0)
            hand_made_header("huge", wall, 0, "huge", "\"role\": \"worker\", \"node\": \"w\"");
        fixture_record("huge", wall, 9007199254740992, "step", step);
    }
    add("huge");
    assert_true(set.runs[0].nodes[0]->totals.compute_us == INT64_MAX);
}

/* The newest final evaluation stands for the run, a newer one of another model does not. */
static void final_eval(void **state) {
    (void)state;
    const struct run_node *node;
    struct run_eval *eval;
    bool final;
    hand_made_run("alpha", "r1");
    add("alpha");
    struct run_data *run = &set.runs[0];
    assert_ptr_equal(run_final_eval(run, &node, &final), &run->nodes[0]->evals[1]);
    assert_ptr_equal(node, run->nodes[0]);
    run->nodes[1]->evals[0].step = 9;
    assert_ptr_equal(run_final_eval(run, &node, &final), &run->nodes[0]->evals[1]);
    assert_true(final);
    /* Continued with more steps: that model is not the final one any more, and an evaluation of a later step stands. */
    run->nodes[2]->planned_steps = 8;
    assert_ptr_equal(run_final_eval(run, &node, &final), &run->nodes[1]->evals[0]);
    assert_false(final);
    run->nodes[2]->planned_steps = 4;
    run->nodes[0]->evals[1].final = false;
    eval = &run->nodes[1]->evals[0];
    assert_ptr_equal(run_final_eval(run, &node, &final), eval);
    assert_ptr_equal(node, run->nodes[1]);
    run->nodes[0]->eval_count = run->nodes[1]->eval_count = 0;
    assert_null(run_final_eval(run, &node, &final));
}

int main(void) {
#define RUN_TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, teardown)
    const struct CMUnitTest tests[] = {
        RUN_TEST(clocks_and_order), RUN_TEST(counters),          RUN_TEST(restarts),          RUN_TEST(continued),
        RUN_TEST(clock_set_back),   RUN_TEST(kinds_of_recovery), RUN_TEST(grouped_by_run_id), RUN_TEST(nothing_there),
        RUN_TEST(many_records),     RUN_TEST(absurd_counts),     RUN_TEST(final_eval),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
