/* The CSV files of the hand-made run, character by character; the scripts and the page that stand on them. */
#include "unit/experiments/hand_made_run.h"
#include "experiments/page.h"

static struct run_set set;
static struct plot_list plots;

static void add(const char *name) {
    struct error error;
    char path[FIXTURE_PATH_BYTES];
    assert_int_equal(run_set_add(&set, fixture_path(name, path), &error), STATUS_OK);
}

static int teardown(void **state) {
    run_set_free(&set);
    return fixture_teardown(state);
}

static const char *out(void) {
    static char path[FIXTURE_PATH_BYTES];
    struct error error;
    assert_int_equal(files_make_directory(fixture_path("out", path), 0755, &error), STATUS_OK);
    return path;
}

static void write_all(void) {
    struct error error;
    assert_int_equal(csv_write(&set, out(), &error), STATUS_OK);
    assert_int_equal(plots_write(&set, out(), &plots, &error), STATUS_OK);
    assert_int_equal(page_write(&set, &plots, out(), &error), STATUS_OK);
}

static void assert_file(const char *name, const char *wanted) {
    char path[FIXTURE_PATH_BYTES];
    snprintf(path, sizeof path, "out/%s", name);
    char *text = fixture_text(path);
    assert_string_equal(text, wanted);
    free(text);
}

static void assert_file_has(const char *name, const char *part) {
    char path[FIXTURE_PATH_BYTES];
    snprintf(path, sizeof path, "out/%s", name);
    char *text = fixture_text(path);
    if (strstr(text, part) == NULL)
        fail_msg("%s lacks: %s", name, part);
    free(text);
}

static void files_of_one_run(void **state) {
    (void)state;
    hand_made_run("alpha", "r1");
    add("alpha");
    write_all();
    /* bytes: up + down of who evaluated; data parallel: 4 * 1000 * step */
    assert_file("01-alpha.evals.csv",
                "step,run_tokens,loss,bits_per_byte,wire_bytes,payload_bytes,data_parallel_bytes,t_s,node\n"
                "2,256,2.5,3.5,1500,1200,8000,1.300,island_0\n"
                "3,384,3,,1150,820,12000,11.600,w1\n"
                "4,512,2.25,3.25,6000,4800,16000,3.000,island_0\n");
    /* 4 steps: each its own bin; a step is 2 * 64 tokens; w0's step 3 was not finite */
    assert_file("01-alpha.train.csv", "run_tokens,loss,steps\n"
                                      "128,4.5,2\n"
                                      "256,3.5,2\n"
                                      "384,3,1\n"
                                      "512,2,1\n");
    /* 8 * (2000 1000), 8 * (1000 500), 8 * (300 200) / 1.5 */
    assert_file("01-alpha.rates.csv", "worker,t_s,up_bits_per_s,down_bits_per_s\n"
                                      "0,2.100,16000,8000\n"
                                      "0,3.100,8000,4000\n"
                                      "1,12.000,1600,1066.66667\n");
    /* w0 from .9: 0/.2  .22/1.2  .22/1.4  .33/2.2; w1 from 1.9, 8 s of it down: .01/.6  .03/2.1 */
    assert_file("01-alpha.waits.csv", "worker,t_s,wait_share\n"
                                      "0,1.100,0\n"
                                      "0,2.100,0.183333333\n"
                                      "0,2.300,0.157142857\n"
                                      "0,3.100,0.15\n"
                                      "1,2.500,0.0166666667\n"
                                      "1,12.000,0.0142857143\n");
    /* per cent: .7/2.2, 15, 10, the rest; .4/2.1, .03/2.1, .101/2.1, the rest */
    assert_file("01-alpha.shares.csv", "node,compute,wait,eval,other\n"
                                       "island_0,31.8182,15,10,43.1818\n"
                                       "w1,19.0476,1.42857,4.80952,74.7143\n");
    assert_file("01-alpha.restarts.csv", "node,t_s,down_s\nw1,11.000,8.000\n");
}

static void tables(void **state) {
    (void)state;
    hand_made_run("alpha", "r1");
    add("alpha");
    write_all();
    assert_file(
        "summary.csv",
        "run,name,plain,parameters,fragments,workers,steps,planned_steps,every_steps,overlap_steps,keep_local,"
        "codec_up,codec_down,error_feedback,seed,loss,bits_per_byte,loss_final,loss_step,tokens,tokens_per_s,"
        "payload_bytes,wire_bytes,control_bytes,data_parallel_bytes,ratio_wire,ratio_payload,wait_share,commits,"
        "restarts,tokens_lost,refused,refused_updates,bad_lines\n"
        "\"alpha\",\"by hand\",0,1000,3,2,4,4,2,1,0.5,\"e3m0\",\"bf16\",1,7,2.25,3.25,1,4,448,248,2950,3750,375,"
        "14000,3.73333333,4.74576271,0.0837209302,2,1,,1,0,1\n");
    assert_file(
        "workers.csv",
        "run,node,slot,steps,repeated_steps,tokens,tokens_per_s,train_loss,payload_up,payload_down,wire_up,wire_down,"
        "control_up,"
        "control_down,retransmitted_up,data_parallel_bytes,ratio_wire,ratio_payload,elapsed_s,down_s,compute_share,"
        "wait_share,eval_share,other_share,wait_us,up_peak_bytes_per_s,up_mean_bytes_per_s,down_peak_bytes_per_s,"
        "down_mean_bytes_per_s,up_cap_bytes_per_s,down_cap_bytes_per_s,ended,reason,starts,bad_lines\n"
        "\"alpha\",\"island_0\",0,4,0,256,128,3,3200,1600,4000,2000,400,200,25,16000,2.66666667,3.33333333,2.2,0,"
        "0.318181818,0.15,0.1,0.431818182,330000,2000,1500,1000,750,5000,0,1,\"trained to the end\",1,0\n"
        "\"alpha\",\"w1\",1,3,0,192,120,4,750,350,1000,500,100,50,3,12000,8,10.9090909,2.1,8,0.19047619,"
        "0.0142857143,0.0480952381,0.747142857,30000,200,200,133.333333,133.333333,5000,0,0,\"\",2,1\n");
}

/* Bins of steps when there are more than the plot has room for. */
static void train_bins(void **state) {
    (void)state;
    static const char wall[] = "2026-01-02T12:00:00.000Z";
    hand_made_header("long", wall, 0, "long", "\"role\": \"worker\", \"node\": \"w\"");
    for (int i = 1; i <= 480; i++) {
        char rest[160];
        snprintf(rest, sizeof rest, ", \"step\": %d, \"loss\": %d, \"tokens\": 1, \"compute_us\": 1", i, i);
        fixture_record("long", wall, i, "step", rest);
    }
    add("long");
    write_all();
    /* 480 / 240 + 1 = 3 steps a bin: 1 2 | 3 4 5 | ... | 480; a step is 128 tokens of the run */
    assert_file_has("01-long.train.csv", "run_tokens,loss,steps\n192,1.5,2\n512,4,3\n");
    assert_file_has("01-long.train.csv", "\n61184,478,3\n61440,480,1\n");
}

static void two_runs(void **state) {
    (void)state;
    hand_made_run("a b'c\"<&>", "r1");
    hand_made_run("x", "r2");
    add("a b'c\"<&>");
    add("x");
    write_all();
    char stem[CSV_STEM_BYTES];
    csv_stem(&set, 0, stem);
    assert_string_equal(stem, "01-a_b_c____");
    csv_stem(&set, 1, stem);
    assert_string_equal(stem, "02-x");
    assert_int_equal(plots.count, 6);
    assert_string_equal(plots.plots[0].name, "loss_over_bytes");
    assert_string_equal(plots.plots[1].name, "loss_over_tokens");
    assert_string_equal(plots.plots[2].name, "01-a_b_c____.rates");
    assert_string_equal(plots.plots[3].name, "01-a_b_c____.waits");
    assert_string_equal(plots.plots[4].name, "02-x.rates");
    assert_file_has("loss_over_bytes.gp", "set logscale x\n");
    assert_file_has("loss_over_bytes.gp", "set xlabel 'wire bytes per worker, up + down (log scale)'\n");
    assert_file_has("loss_over_bytes.gp", "'02-x.evals.csv' using 5:");
    assert_file_has("loss_over_bytes.gp", "'02-x.evals.csv' using 7:");
    /* 16000 / 6000 bytes, at 2.25 nats */
    assert_file_has("loss_over_bytes.gp", "set arrow from 6000,2.25 to 16000,2.25 ");
    assert_file_has("loss_over_bytes.gp", "set label '2.67x fewer bytes, 2.25 nats' ");
    assert_file_has("02-x.rates.gp", "title 'island_0: peak 16 kbit/s, mean 12 kbit/s'");
    assert_file_has("02-x.rates.gp", "40000 with lines lw 1.5 dt 2 lc rgb '#666666' title 'cap 40 kbit/s'");
    assert_file_has("02-x.waits.gp", "title 'island_0: 15.00 %'");
    assert_file_has("index.html", "<td>a b_c&quot;&lt;&amp;&gt;</td><td>2.2500</td><td>3.2500</td><td>0.003</td>");
    assert_file_has("index.html", "no picture: gnuplot did not run");
}

/* Who was started again has a thin line over time; what was trained twice counts once. */
static void restarts(void **state) {
    (void)state;
    hand_made_recovery("back", "r1");
    add("back");
    write_all();
    assert_file("01-back.restarts.csv", "node,t_s,down_s\nw0,4.000,2.000\nouter,3.000,1.000\n");
    assert_file("01-back.train.csv", "run_tokens,loss,steps\n128,5,1\n256,4,1\n384,3,1\n");
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "01-back.rates.gp" : "01-back.waits.gp";
        assert_file_has(name, "; thin lines: restarts' font");
        assert_file_has(name,
                        "set xrange [0:4.000<*]\n"
                        "set arrow from 4.000, graph 0 to 4.000, graph 1 nohead lw 0.8 lc rgb '#0072B2' back\n"
                        "set arrow from 3.000, graph 0 to 3.000, graph 1 nohead lw 0.8 dt 3 lc rgb '#666666' back\n");
    }
    assert_file_has("01-back.waits.gp", "\nunset arrow\nset xrange [*:*]\n");
    assert_file_has("01-back.waits.gp", "title 'w0: 6.67 %'"); /* .3 of 4.5 s */
    assert_file_has("index.html", "<td>6.67 %</td><td>2</td></tr>");
}

/* Nobody was: no line, and the axis as ever. */
static void no_restarts(void **state) {
    (void)state;
    hand_made_worker_0("one/w0", "r1");
    add("one");
    write_all();
    char *text = fixture_text("out/01-one.rates.gp");
    assert_null(strstr(text, "set arrow"));
    assert_non_null(strstr(text, "\nset xrange [0:*]\n"));
    assert_non_null(strstr(text, "1 s samples' font"));
    free(text);
    assert_file("01-one.restarts.csv", "node,t_s,down_s\n");
}

/* A quote in a directory's name must not end a string of the script. */
static void quotes_in_scripts(void **state) {
    (void)state;
    hand_made_run("o'neil", "r1");
    add("o'neil");
    write_all();
    assert_string_equal(set.runs[0].label, "o_neil");
    assert_file_has("01-o_neil.rates.gp",
                    "title 'o_neil: wire rate of each worker, 1 s samples; thin lines: restarts'");
}

/* gnuplot fails on a figure without a point: a run shorter than a rate sample, one without a finite loss. */
static void short_and_diverged(void **state) {
    (void)state;
    static const char wall[] = "2026-01-02T12:00:00.000Z";
    for (int worker = 0; worker < 2; worker++) {
        const char *directory = worker == 0 ? "short" : "diverged";
        hand_made_header(directory, wall, 0, directory, "\"role\": \"worker\", \"node\": \"w\"");
        fixture_record(directory, wall, 100000, "step",
                       worker == 0 ? ", \"step\": 1, \"loss\": 1, \"tokens\": 64, \"compute_us\": 9"
                                   : ", \"step\": 1, \"loss\": null, \"tokens\": 64, \"compute_us\": 9");
        fixture_record(directory, wall, 300000, "link", ", \"wire_up\": 1, \"wire_down\": 0, \"wait_us\": 0");
        fixture_record(directory, wall, 600000, "link", ", \"wire_up\": 2, \"wire_down\": 0, \"wait_us\": 0");
    }
    add("short");
    write_all();
    assert_int_equal(plots.count, 2);
    assert_string_equal(plots.plots[0].name, "loss_over_tokens");
    assert_string_equal(plots.plots[1].name, "01-short.waits");
    run_set_free(&set);
    add("diverged");
    write_all();
    assert_int_equal(plots.count, 1);
    assert_string_equal(plots.plots[0].name, "01-diverged.waits");
}

/* Nothing to show: no figure; and a directory that is not there is said. */
static void without_data(void **state) {
    (void)state;
    struct error error;
    char wanted[FIXTURE_PATH_BYTES + 80];
    hand_made_header("none", "2026-01-02T12:00:00.000Z", 0, "n", "\"role\": \"worker\", \"node\": \"w\"");
    add("none");
    write_all();
    assert_int_equal(plots.count, 0);
    assert_file("01-none.evals.csv",
                "step,run_tokens,loss,bits_per_byte,wire_bytes,payload_bytes,data_parallel_bytes,t_s,node\n");
    assert_int_equal(csv_write(&set, "/nonexistent/out", &error), STATUS_IO);
    snprintf(wanted, sizeof wanted, "cannot write /nonexistent/out/summary.csv: No such file or directory");
    assert_string_equal(error.text, wanted);
}

int main(void) {
#define RUN_TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, teardown)
    const struct CMUnitTest tests[] = {
        RUN_TEST(files_of_one_run),  RUN_TEST(tables),
        RUN_TEST(train_bins),        RUN_TEST(two_runs),
        RUN_TEST(quotes_in_scripts), RUN_TEST(short_and_diverged),
        RUN_TEST(without_data),      RUN_TEST(restarts),
        RUN_TEST(no_restarts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
