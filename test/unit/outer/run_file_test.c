/* The run file: the design's sample, every refusal with its exact text, and the texts that go out again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/files.h"
#include "outer/run_file.h"

static const char sample[] =
    "name:   novels-4\n"
    "model:  {layers: 6, width: 384, heads: 6, kv_heads: 6, ffn: 1024, context: 256}   # head_dim, tied, vocab\n"
    "data:   {train: [data/*.txt], val: [held_out.txt], tokenizer: bytes}              # paths relative to this file\n"
    "inner:  {optimizer: adamw, lr: 1e-3, warmup_steps: 100, lr_schedule: cosine, steps: 2000, batch_per_worker: 16, "
    "accumulate: 1,\n"
    "         weight_decay: 0.1, clip: 1.0}\n"
    "sync:   {every_steps: 100, fragment_layers: 3, pattern: strided, overlap_steps: 1, keep_local: 0.5, codec_up: "
    "e3m0, codec_down: e3m0,\n"
    "         error_feedback: true, quorum: all, grace: auto}\n"
    "outer:  {optimizer: nesterov, lr: 0.4, momentum: 0.9}\n"
    "link:   {up: 10Mbit/s, down: 50Mbit/s, latency: 40ms}      # cap per worker\n"
    "eval:   {every_steps: 100, windows: 256}\n"
    "workers: 4\n";

static enum status parse(const char *yaml, const char *const *overrides, int override_count, struct run_file *run,
                         struct error *error) {
    return run_file_parse(yaml, strlen(yaml), "run.yaml", "/base", overrides, override_count, run, error);
}

static void must_parse(const char *yaml, struct run_file *run) {
    struct error error = {0};
    if (parse(yaml, NULL, 0, run, &error) != STATUS_OK)
        fail_msg("%s\n%s", yaml, error.text);
}

static char directory[64];

static int make_directory(void **state) {
    (void)state;
    strcpy(directory, "/tmp/atoll_run_[x]_XXXXXX"); /* a directory with the letters of a pattern */
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? 0 : -1;
}

static void put(const char *name, const char *text) {
    char path[128];
    struct error error;
    files_join(path, sizeof path, directory, name);
    assert_int_equal(files_write_atomic(path, text, strlen(text), 0644, &error), STATUS_OK);
}

/* `atoll COMMAND run.yaml --set ...`, typed in the file's directory: overrides of any key. */
static enum status load(const char *yaml, const char *const *overrides, int override_count, struct run_file *run,
                        struct error *error) {
    char before[512];
    put("run.yaml", yaml);
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(directory), 0);
    enum status status = run_file_load("run.yaml", overrides, override_count, RUN_FILE_DATA_IGNORED, run, error);
    assert_int_equal(chdir(before), 0);
    return status;
}

static void the_sample_of_the_design(void **state) {
    (void)state;
    struct run_file run;
    must_parse(sample, &run);
    assert_string_equal(run.name, "novels-4");
    assert_int_equal(run.workers, 4);
    assert_int_equal(run.model.layers, 6);
    assert_int_equal(run.model.head_dim, 64); /* derived */
    assert_int_equal(run.model.vocab, 256);
    assert_int_equal(run.data.parts, 4);
    assert_int_equal(run.data.train_count, 1);
    assert_string_equal(run.data.train[0], "data/*.txt");
    assert_string_equal(run.data.val[0], "held_out.txt");
    assert_int_equal(run.inner.steps, 2000);
    assert_true(run.inner.weight_decay == 0.1);
    assert_int_equal(run.sync.codec_up, CODEC_E3M0);
    assert_int_equal(run.outer.optimizer, OUTER_NESTEROV);
    assert_int_equal(run.link.up_bytes_per_s, 1250000);
    assert_int_equal(run.link.down_bytes_per_s, 6250000);
    assert_int_equal(run.link.latency_us, 40000);
    assert_string_equal(run.base_directory, "/base");
}

static void defaults(void **state) {
    (void)state;
    struct run_file run;
    must_parse("name: x", &run);
    assert_int_equal(run.workers, 4);
    assert_true(run.model.tied);
    assert_true(run.model.rope_theta == 1e4);
    assert_true(run.model.norm_eps == 1e-6);
    assert_true(run.model.z_loss == 1e-4);
    assert_int_equal(run.model.kv_heads, run.model.heads);
    assert_true(run.inner.lr_end == 0.05);
    assert_true(run.inner.decay_part == 0.2);
    assert_true(run.inner.weight_decay == 0.1);
    assert_true(run.inner.clip == 1.0);
    assert_true(run.inner.beta1 == 0.9);
    assert_true(run.inner.beta2 == 0.95);
    assert_true(run.inner.eps == 1e-8);
    assert_int_equal(run.inner.seed, 1);
    assert_int_equal(run.inner.threads, 1);
    assert_false(run.sync.off);
    assert_int_equal(run.sync.every_steps, 100);
    assert_int_equal(run.sync.fragment_layers, 3);
    assert_int_equal(run.sync.pattern, FRAGMENT_PATTERN_STRIDED);
    assert_int_equal(run.sync.overlap_steps, 1);
    assert_true(run.sync.keep_local == 0.5);
    assert_int_equal(run.sync.codec_up, CODEC_E3M0);
    assert_int_equal(run.sync.codec_down, CODEC_E3M0);
    assert_true(run.sync.error_feedback);
    assert_int_equal(run.sync.quorum, SYNC_QUORUM_ALL);
    assert_int_equal(run.sync.grace_us, SYNC_GRACE_AUTO);
    assert_int_equal(run.sync.stale, SYNC_STALE_AUTO);
    assert_int_equal(run.sync.min_workers, 1);
    assert_int_equal(run.sync.drift, SYNC_DRIFT_AUTO);
    assert_int_equal(run.inner.pace, INNER_PACE_STEPS);
    assert_int_equal(run.inner.min_step_us, 0);
    assert_int_equal(run.outer.optimizer, OUTER_NESTEROV);
    assert_true(run.outer.lr == 0.4);
    assert_true(run.outer.momentum == 0.9);
    assert_int_equal(run.outer.aggregate, OUTER_MEAN);
    assert_true(run.outer.reject_norm == 10);
    assert_int_equal(run.outer.link_bytes_per_s, 0);
    assert_int_equal(run.link.up_bytes_per_s, 0);
    assert_int_equal(run.eval.every_steps, 100);
    assert_int_equal(run.eval.windows, 256);
    assert_int_equal(run.checkpoint.every_us, 10000000);
    assert_int_equal(run.checkpoint.full_every, 16);
    assert_int_equal(run.worker.selftest, 0);
    assert_int_equal(run.data.tokenizer, TOKENIZER_BYTES);
}

static void words_and_codecs(void **state) {
    (void)state;
    struct run_file run;
    must_parse(
        "sync: {fragment_layers: all, overlap_steps: auto, quorum: 3, grace: 2s, codec_up: int4, codec_down: bf16}\n"
        "eval: {windows: all, every_steps: 0}\ndata: {tokenizer: shards, dtype: uint16, parts: 8}\n"
        "model: {vocab: 50257}\n",
        &run);
    assert_int_equal(run.sync.fragment_layers, FRAGMENT_LAYERS_ALL);
    assert_int_equal(run.sync.overlap_steps, SYNC_OVERLAP_AUTO);
    assert_int_equal(run.sync.quorum, 3);
    assert_int_equal(run.sync.grace_us, 2000000);
    assert_int_equal(run.sync.codec_up, CODEC_INT4);
    assert_int_equal(run.sync.codec_down, CODEC_BF16);
    assert_int_equal(run.eval.windows, 0);
    assert_int_equal(run.data.tokenizer, TOKENIZER_SHARDS);
    assert_int_equal(run.data.dtype, SHARD_DTYPE_UINT16);
    assert_int_equal(run.data.parts, 8);
    for (int id = 0; id < CODEC_COUNT; id++) {
        static const char *const names[CODEC_COUNT] = {"f32", "bf16", "int8", "int4", "e3m0"};
        char yaml[64];
        snprintf(yaml, sizeof yaml, "sync: {codec_up: %s}", names[id]);
        must_parse(yaml, &run);
        assert_int_equal(run.sync.codec_up, id);
    }
}

static void recovery_keys(void **state) {
    (void)state;
    struct run_file run;
    must_parse("sync: {overlap_steps: auto, quorum: 50%, stale: 1000, min_workers: 4, drift: 1000000000}\n"
               "inner: {pace: time, min_step_time: 250ms}\n"
               "outer: {aggregate: clipped, reject_norm: 0, link: 100Mbit/s}\n"
               "checkpoint: {every: 0s, full_every: 10000}\nworker: {selftest: 1000000000}\n",
               &run);
    assert_int_equal(run.sync.quorum, -50);
    assert_int_equal(run.sync.stale, 1000);
    assert_int_equal(run.sync.min_workers, 4);
    assert_int_equal(run.sync.drift, 1000000000);
    assert_int_equal(run.inner.pace, INNER_PACE_TIME);
    assert_int_equal(run.inner.min_step_us, 250000);
    assert_int_equal(run.outer.aggregate, OUTER_CLIPPED);
    assert_true(run.outer.reject_norm == 0);
    assert_int_equal(run.outer.link_bytes_per_s, 12500000);
    assert_int_equal(run.checkpoint.every_us, 0);
    assert_int_equal(run.checkpoint.full_every, 10000);
    assert_int_equal(run.worker.selftest, 1000000000);
    must_parse("outer: {aggregate: trimmed}\nsync: {stale: 0}\n", &run); /* 0 is what a strict run has anyway */
    assert_int_equal(run.outer.aggregate, OUTER_TRIMMED);
    assert_int_equal(run.sync.stale, 0);
}

static void quorum_in_numbers(void **state) {
    (void)state;
    static const struct {
        const char *quorum;
        uint32_t live, need;
    } cases[] = {
        {"all", 0, 0}, {"all", 4, 0}, {"1", 4, 1},     {"3", 4, 3},      {"3", 3, 3},    {"3", 2, 2},   {"3", 1, 1},
        {"3", 0, 1},   {"50%", 4, 2}, {"50%", 5, 3},   {"50%", 1, 1},    {"50%", 0, 1},  {"51%", 4, 3}, {"1%", 64, 1},
        {"2%", 64, 2}, {"75%", 4, 3}, {"99%", 64, 64}, {"100%", 64, 64}, {"100%", 3, 3}, {"34%", 3, 2}, {"33%", 3, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct run_file run;
        char yaml[64];
        snprintf(yaml, sizeof yaml, "sync: {overlap_steps: auto, quorum: %s}", cases[i].quorum);
        must_parse(yaml, &run);
        if (run_sync_quorum(&run, cases[i].live) != cases[i].need)
            fail_msg("quorum %s of %u: %u, expected %u", cases[i].quorum, cases[i].live,
                     run_sync_quorum(&run, cases[i].live), cases[i].need);
    }
}

static void stale_and_drift_in_numbers(void **state) {
    (void)state;
    static const struct {
        const char *sync;
        uint64_t stale, drift;
    } cases[] = {
        {"overlap_steps: 1", 0, 1},
        {"overlap_steps: 0", 0, 0},
        {"overlap_steps: 99, stale: 0", 0, 99},
        {"overlap_steps: auto", 2, 99},
        {"overlap_steps: auto, every_steps: 30", 2, 29},
        {"overlap_steps: auto, every_steps: 1, fragment_layers: all", 2, 0},
        {"overlap_steps: auto, quorum: 2, stale: 0, drift: 1", 0, 1},
        {"overlap_steps: auto, quorum: 2", 1000, 99},
        {"overlap_steps: auto, quorum: 50%, stale: 2", 2, 99},
        {"overlap_steps: auto, stale: 7, drift: 500", 7, 500},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct run_file run;
        char yaml[128];
        snprintf(yaml, sizeof yaml, "sync: {%s}", cases[i].sync);
        must_parse(yaml, &run);
        if (run_sync_stale(&run) != cases[i].stale || run_sync_drift(&run) != cases[i].drift)
            fail_msg("%s: stale %d, drift %d", yaml, (int)run_sync_stale(&run), (int)run_sync_drift(&run));
    }
}

static void what_expires_is_said(void **state) {
    (void)state;
    struct run_file run;
    char text[256];
    must_parse("sync: {overlap_steps: auto, stale: 7}", &run);
    run_sync_say_expired(&run, 2, 5, text, sizeof text);
    assert_string_equal(text, "contributions of fragment 2 expired 5 times in a row: uploads take longer than "
                              "sync.stale rounds (7): raise sync.every_steps or sync.stale, or use a smaller codec");
}

/* The default of fragment_layers works for every model; a value that was written is taken at its word. */
static void small_models(void **state) {
    (void)state;
    struct run_file run;
    must_parse("model: {layers: 2}", &run);
    assert_int_equal(run.sync.fragment_layers, 2);
}

static const struct {
    const char *yaml, *text;
} refusals[] = {
    /* cross-field */
    {"sync: {every_steps: 10, overlap_steps: 10}", "run.yaml:1:25: sync.overlap_steps: 10 is not less than every_steps "
                                                   "10; a fragment must be merged before it is sent again"},
    {"sync:\n  every_steps: 1\n  fragment_layers: all\n",
     "run.yaml:2:3: sync.overlap_steps: 1 is not less than every_steps 1; a fragment must be merged before it is sent "
     "again"},
    {"sync: {quorum: 3}",
     "run.yaml:1:8: sync.quorum: 3 does not go with overlap_steps 1; a merge at an exact step waits for all "
     "workers: set overlap_steps: auto, or quorum: all"},
    {"sync: {quorum: 5, overlap_steps: auto}", "run.yaml:1:8: sync.quorum: 5 is more than workers 4"},
    {"sync: {quorum: 50%}",
     "run.yaml:1:8: sync.quorum: 50% does not go with overlap_steps 1; a merge at an exact step waits for all "
     "workers: set overlap_steps: auto, or quorum: all"},
    {"sync: {overlap_steps: auto, quorum: 101%}",
     "run.yaml:1:37: sync.quorum: '101%' is not a whole number from 1 to 64, 1% to 100% or all (workers that close a "
     "round; 50% = half of the live ones, rounded up)"},
    {"sync: {stale: 2}",
     "run.yaml:1:8: sync.stale: 2 does not go with overlap_steps 1; a merge at an exact step leaves no older base to a "
     "send: set overlap_steps: auto, or stale: auto"},
    {"sync: {overlap_steps: auto, stale: 1001}",
     "run.yaml:1:36: sync.stale: '1001' is not a whole number from 0 to 1000 or auto (versions that the base of a "
     "contribution may lie behind; auto = 0 when overlap_steps is a number, 1000 with a quorum, else 2)"},
    {"sync: {drift: 50}", "run.yaml:1:8: sync.drift: 50 does not go with overlap_steps 1; training waits at that step "
                          "already: set overlap_steps: auto, or drift: auto"},
    {"sync: {overlap_steps: auto, drift: 0}",
     "run.yaml:1:36: sync.drift: '0' is not a whole number from 1 to 1000000000 or auto (steps from the oldest send "
     "without a commit until training waits; auto = every_steps - 1)"},
    {"sync: {min_workers: 5}", "run.yaml:1:8: sync.min_workers: 5 is more than workers 4; no round would ever open"},
    {"sync: {min_workers: 0}", "run.yaml:1:21: sync.min_workers: '0' is not a whole number from 1 to 64 (workers that "
                               "must be connected; with fewer, rounds stop)"},
    {"inner: {pace: time}",
     "run.yaml:1:9: inner.pace: time does not go with quorum all, whose rounds count the same steps of every worker: "
     "set sync.quorum (such as 50%) and sync.overlap_steps: auto, or pace: steps"},
    {"inner: {pace: time}\nsync: {overlap_steps: auto}\n",
     "run.yaml:1:9: inner.pace: time does not go with quorum all, whose rounds count the same steps of every worker: "
     "set sync.quorum (such as 50%) and sync.overlap_steps: auto, or pace: steps"},
    {"inner: {pace: time}\nsync: {quorum: 2}\n", /* once is enough */
     "run.yaml:2:8: sync.quorum: 2 does not go with overlap_steps 1; a merge at an exact step waits for all workers: "
     "set overlap_steps: auto, or quorum: all"},
    {"inner: {pace: time}\nsync: off\nworkers: 1\n",
     "run.yaml:1:9: inner.pace: time does not go with sync: off, where there are no rounds: set pace: steps"},
    {"inner: {pace: tim, min_step_time: 5}",
     "run.yaml:1:15: inner.pace: 'tim' is not one of steps, time; did you mean 'time'? (time: a slow worker does fewer "
     "steps per round, so that all arrive together)\n"
     "run.yaml:1:35: inner.min_step_time: '5' is not a duration such as 40ms, 2s or 24h (a step takes at least this "
     "long: paces experiments)"},
    {"outer: {aggregate: median, reject_norm: -1, link: 5}",
     "run.yaml:1:20: outer.aggregate: 'median' is not one of mean, clipped, trimmed; did you mean 'mean'? (what "
     "contributions are joined "
     "by)\n"
     "run.yaml:1:41: outer.reject_norm: '-1' is not a number from 0 to 1000000000 (a contribution whose norm is so "
     "many times the running median of its fragment is refused; 0 = off)\n"
     "run.yaml:1:51: outer.link: '5' is not a rate such as 10Mbit/s, 250kB/s or unlimited (what the outer sends to all "
     "workers together)"},
    {"checkpoint: {every: 10, full_every: 0}\nworker: {selftest: -1}",
     "run.yaml:1:21: checkpoint.every: '10' is not a duration such as 40ms, 2s or 24h (a worker: between two "
     "checkpoints; 0s = only when it leaves)\n"
     "run.yaml:1:37: checkpoint.full_every: '0' is not a whole number from 1 to 10000 (versions of a fragment between "
     "two full records in the outer's log)\n"
     "run.yaml:2:20: worker.selftest: '-1' is not a whole number from 0 to 1000000000 (steps between two self-tests of "
     "the arithmetic; 0 = at the start only)"},
    {"worker: 4", "run.yaml:1:9: worker: found text, expected a mapping of keys such as {selftest: 0} (A worker's own "
                  "checks; how many start the run is workers)"},
    {"sync: {keep_local: 1.01}", "run.yaml:1:20: sync.keep_local: '1.01' is not a number from 0 to 1 (part of the "
                                 "local parameters that a merge keeps; alpha in "
                                 "the papers)"},
    {"sync: {fragment_layers: 7}",
     "run.yaml:1:8: sync.fragment_layers: 7 is more than model.layers 6 (all = one fragment with everything)"},
    {"model: {layers: 128}\nsync: {every_steps: 200, fragment_layers: 1}",
     "run.yaml:2:26: sync.fragment_layers: 1 of 128 layers makes 129 fragments, at most 128; take more layers per "
     "fragment"},
    {"sync: {every_steps: 5, fragment_layers: 1}", "run.yaml:1:8: sync.every_steps: 5 is less than the 7 fragments "
                                                   "(fragment_layers 1 of 6 layers, and one for the embedding); two "
                                                   "would be sent in one step: raise fragment_layers, or take all"},
    {"sync: {every_steps: 2001}",
     "run.yaml:1:8: sync.every_steps: 2001 is more than inner.steps 2000; fragments would not be sent "
     "before the run ends"},
    {"inner: {steps: 50, warmup_steps: 10}",
     "run.yaml:1:9: sync.every_steps: 100 is more than inner.steps 50; fragments would not be "
     "sent before the run ends"},
    {"inner: {warmup_steps: 2001}", "run.yaml:1:9: inner.warmup_steps: 2001 is more than inner.steps 2000; the "
                                    "learning rate would never reach inner.lr"},
    {"sync: off", "run.yaml:1:1: sync: off with workers 4; they would train apart: set workers: 1"},
    {"workers: 65", "run.yaml:1:10: workers: '65' is not a whole number from 1 to 64 (how many workers start the run)"},
    {"workers: 0", "run.yaml:1:10: workers: '0' is not a whole number from 1 to 64 (how many workers start the run)"},
    {"data: {tokenizer: shards}",
     "run.yaml:1:8: model.vocab: must be given with data.tokenizer: shards (how many tokens the tokenizer "
     "of the shards knows)"},
    {"model: {vocab: 255}", "run.yaml:1:9: model.vocab: 255 is less than the 256 values of a byte"},
    {"data: {parts: 3}", "run.yaml:1:8: data.parts: 3 is less than workers 4; some would have no data"},
    {"model: {heads: 4, kv_heads: 3}", "run.yaml:1:19: model.kv_heads: 3 does not divide heads 4"},
    {"model: {heads: 5}", "run.yaml:1:9: model.heads: 5 does not divide width 384; change one, or set head_dim"},
    {"model: {head_dim: 63}", "run.yaml:1:9: model.head_dim: 63 is odd; rotary positions turn pairs"},
    /* all in one go, by place; a broken key draws no cross-field errors */
    {"sync: {H: 30, every_steps: 5, overlap_steps: 9, codec_up: e4m0}\nworkers: 3\nmodel: {layers: x}\ndata: {parts: "
     "1}\n",
     "run.yaml:1:8: sync.H: unknown key; atoll calls it sync.every_steps\n"
     "run.yaml:1:59: sync.codec_up: 'e4m0' is not one of f32, bf16, int8, int4, e3m0; did you mean 'e3m0'? (format of "
     "what workers "
     "send)\n"
     "run.yaml:3:17: model.layers: 'x' is not a whole number from 1 to 512 (transformer blocks)\n"
     "run.yaml:4:8: data.parts: 1 is less than workers 3; some would have no data"},
    {"sync: {H: 30}\ninner: {steps: 50, warmup_steps: 1}\n", /* nothing about the default of every_steps */
     "run.yaml:1:8: sync.H: unknown key; atoll calls it sync.every_steps"},
    {"sync: {every_steps: 10, overlap_steps: 20, quorum: 9}\n",
     "run.yaml:1:25: sync.overlap_steps: 20 is not less than every_steps 10; a fragment must be merged before it is "
     "sent again\n"
     "run.yaml:1:44: sync.quorum: 9 does not go with overlap_steps 20; a merge at an exact step waits for all workers: "
     "set "
     "overlap_steps: auto, or quorum: all"},
    /* the mechanism, as far as a user meets it */
    {"sync: {alhpa: 1}", "run.yaml:1:8: sync.alhpa: unknown key (known here: every_steps, fragment_layers, pattern, "
                         "balance, overlap_steps, "
                         "keep_local, codec_up, codec_down, error_feedback, quorum, grace, stale, min_workers, drift)"},
    {"sync: {every_step: 1}", "run.yaml:1:8: sync.every_step: unknown key (did you mean 'every_steps'?)"},
    {"lr: 1", "run.yaml:1:1: lr: unknown key (did you mean inner.lr or outer.lr?)"},
    {"inner: {steps: 30abc}",
     "run.yaml:1:16: inner.steps: '30abc' is not a whole number from 1 to 1000000000 (optimizer steps of the run)"},
    {"inner: {lr: 0}", "run.yaml:1:13: inner.lr: '0' is not a number above 0, at most 10 (peak learning rate)"},
    {"inner: {lr: 1, lr: 2}", "run.yaml:1:16: inner.lr: given twice (first at 1:9)"},
    {"model: {tied: maybe}",
     "run.yaml:1:15: model.tied: 'maybe' is not true or false (the head shares the embedding's matrix)"},
    {"link: {up: 10}",
     "run.yaml:1:12: link.up: '10' is not a rate such as 10Mbit/s, 250kB/s or unlimited (cap of what a worker sends)"},
    {"sync: maybe",
     "run.yaml:1:7: sync: 'maybe' is neither off nor a mapping of keys (What workers exchange, and when; 'sync: off' "
     "with 1 worker is plain training)"},
    {"", "run.yaml: empty; expected keys such as 'name: my-run' (atoll check --print-defaults)"},
};

static void every_refusal(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct run_file run;
        struct error error = {0};
        memset(&run, 0x55, sizeof run);
        enum status status = parse(refusals[i].yaml, NULL, 0, &run, &error);
        if (status != STATUS_CONFIG || strcmp(error.text, refusals[i].text) != 0)
            fail_msg("status %d for:\n%s\nexpected:\n%s\nfound:\n%s", status, refusals[i].yaml, refusals[i].text,
                     error.text);
        assert_int_equal(run.name[0], 0x55); /* as it was */
    }
    assert_int_equal(status_exit_code(STATUS_CONFIG), 78);
}

/* Names that papers and other programs use, in the section where people would write them. */
static void known_names(void **state) {
    (void)state;
    static const struct {
        const char *section, *wrong, *right;
    } names[] = {
        {"sync", "H", "sync.every_steps"},
        {"sync", "sync_every", "sync.every_steps"},
        {"sync", "local_steps", "sync.every_steps"},
        {"sync", "every", "sync.every_steps"},
        {"eval", "every", "eval.every_steps"},
        {"sync", "tau", "sync.overlap_steps"},
        {"sync", "delay", "sync.overlap_steps"},
        {"sync", "fragment_sync_delay", "sync.overlap_steps"},
        {"sync", "alpha", "sync.keep_local"},
        {"sync", "mix", "sync.keep_local"},
        {"sync", "fragment_update_alpha", "sync.keep_local"},
        {"sync", "num_fragments", "sync.fragment_layers (layers of one fragment, not the number of fragments)"},
        {"outer", "outer_lr", "outer.lr"},
        {"sync", "outer_momentum", "outer.momentum"},
        {"outer", "learning_rate", "outer.lr"},
        {"inner", "learning_rate", "inner.lr"},
        {"inner", "batch_size", "inner.batch_per_worker (windows of one micro-batch of one worker)"},
        {"inner", "max_steps", "inner.steps"},
        {"inner", "wd", "inner.weight_decay"},
        {"inner", "adam_weight_decay", "inner.weight_decay"},
        {"model", "n_layers", "model.layers"},
        {"model", "d_model", "model.width"},
        {"model", "hidden_size", "model.width"},
        {"model", "ffn_hidden", "model.ffn"},
        {"model", "seq_len", "model.context"},
        {"model", "block_size", "model.context"},
        {"sync", "min_quorum", "sync.quorum"},
        {"sync", "join_timeout_ms", "sync.grace (a duration such as 10s)"},
        {"sync", "max_staleness", "sync.stale"},
        {"sync", "min_replica_size",
         "sync.min_workers (the fewest with which rounds go on; sync.quorum closes one without the slow ones)"},
        {"sync", "min_replicas",
         "sync.min_workers (the fewest with which rounds go on; sync.quorum closes one without the slow ones)"},
        {"sync", "max_drift", "sync.drift"},
        {"outer", "aggregation", "outer.aggregate"},
        {"checkpoint", "save_interval", "checkpoint.every (a duration such as 10s, not steps)"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct run_file run;
        struct error error = {0};
        char yaml[128];
        char text[256];
        snprintf(yaml, sizeof yaml, "%s:\n  %s: 3\n", names[i].section, names[i].wrong);
        snprintf(text, sizeof text, "run.yaml:2:3: %s.%s: unknown key; atoll calls it %s", names[i].section,
                 names[i].wrong, names[i].right);
        assert_int_equal(parse(yaml, NULL, 0, &run, &error), STATUS_CONFIG);
        assert_string_equal(error.text, text);
    }
}

static void must_round_trip(const struct run_file *run);

static void overrides(void **state) {
    (void)state;
    struct run_file run;
    struct error error = {0};
    static const char *const fine[] = {"sync.every_steps=50", "model={layers: 4, heads: 12}", "link.up=1Mbit/s",
                                       "data.train=[/a.txt, b.txt]"};
    assert_int_equal(load(sample, fine, 4, &run, &error), STATUS_OK);
    assert_int_equal(run.sync.every_steps, 50);
    assert_int_equal(run.model.layers, 4);
    assert_int_equal(run.model.width, 384);
    assert_int_equal(run.link.up_bytes_per_s, 125000);
    assert_int_equal(run.data.train_count, 2);
    must_round_trip(&run); /* nothing is left of the longer path that the file held */
    static const char *const bad[] = {"sync.every_steps=x", "sync.overlap_steps=100", "sync.tau=3", "workers=1",
                                      "sync.quorum=2"};
    assert_int_equal(load("inner: {lr: 0}", bad, 5, &run, &error), STATUS_CONFIG);
    assert_string_equal(error.text,
                        "run.yaml:1:13: inner.lr: '0' is not a number above 0, at most 10 (peak learning rate)\n"
                        "--set sync.every_steps=x: 'x' is not a whole number from 1 to 1000000000 (steps from one send "
                        "of a fragment to its next; H "
                        "in the papers)\n"
                        "--set sync.tau=3: unknown key; atoll calls it sync.overlap_steps\n"
                        "--set sync.quorum=2: 2 is more than workers 1");
    static const char *const late[] = {"sync.overlap_steps=100"};
    assert_int_equal(load(sample, late, 1, &run, &error), STATUS_CONFIG);
    assert_string_equal(error.text,
                        "--set sync.overlap_steps=100: 100 is not less than every_steps 100; a fragment must be merged "
                        "before it is sent again");
}

static void sync_off(void **state) {
    (void)state;
    struct run_file run;
    struct error error = {0};
    must_parse("workers: 1\nsync: off\ninner: {steps: 5, warmup_steps: 0}\n", &run); /* H of 100 does not matter */
    assert_true(run.sync.off);
    assert_int_equal(run.sync.every_steps, 100);
    static const char *const off[] = {"sync=off", "workers=1"};
    assert_int_equal(load("sync: {every_steps: 7}", off, 2, &run, &error), STATUS_OK);
    assert_true(run.sync.off);
    assert_int_equal(run.sync.every_steps, 100); /* keys of the file count for nothing then */
    static const char *const on[] = {"sync=on"};
    assert_int_equal(load("sync: off", on, 1, &run, &error), STATUS_OK);
    assert_false(run.sync.off);
    static const char *const both[] = {"sync=off", "workers=1", "sync.every_steps=7"};
    assert_int_equal(load("name: a", both, 3, &run, &error), STATUS_CONFIG);
    assert_string_equal(error.text, "--set sync.every_steps=7: has no effect: sync is off (--set sync=on turns it on)");
}

/* What a worker may change of the run that WELCOME brings: its own node's keys. */
static void overrides_of_a_worker(void **state) {
    (void)state;
    struct run_file run;
    struct error error = {0};
    static const char *const own[] = {"inner.threads=8",       "inner.min_step_time=1s", "link.up=1Mbit/s",
                                      "data.train=[/a.txt]",   "checkpoint.every=0s",    "worker={selftest: 100}",
                                      "model.recompute=block", "inner.precision=auto"};
    assert_int_equal(parse(sample, own, 8, &run, &error), STATUS_OK);
    assert_int_equal(run.inner.precision, INNER_PRECISION_AUTO);
    assert_int_equal(run.inner.threads, 8);
    assert_int_equal(run.model.recompute, RECOMPUTE_BLOCK);
    assert_int_equal(run.inner.min_step_us, 1000000);
    assert_int_equal(run.checkpoint.every_us, 0);
    assert_int_equal(run.worker.selftest, 100);
#define WHOLE_RUN                                                                                                      \
    ": belongs to the whole run, so only the outer may set it; a worker may set the keys that atoll check "            \
    "--print-defaults marks with 'this node only'"
    static const struct {
        const char *override, *text;
    } refused[] = {
        {"inner.steps=3000", "--set inner.steps=3000" WHOLE_RUN}, /* no part of the hash, and yet the whole run's */
        {"eval.windows=1", "--set eval.windows=1" WHOLE_RUN},
        {"inner.lr=1", "--set inner.lr=1" WHOLE_RUN},
        {"workers=5", "--set workers=5" WHOLE_RUN},
        {"sync=off", "--set sync=off" WHOLE_RUN},
        {"sync={every_steps: 1}", "--set sync={every_steps: 1}: sync.every_steps" WHOLE_RUN}, /* and nothing more */
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(parse(sample, &refused[i].override, 1, &run, &error), STATUS_CONFIG);
        assert_string_equal(error.text, refused[i].text);
    }
}

static void must_round_trip(const struct run_file *run) {
    struct run_file back;
    struct error error = {0};
    char *text = run_file_text(run, false, false);
    if (run_file_parse(text, strlen(text), "again", run->base_directory, NULL, 0, &back, &error) != STATUS_OK)
        fail_msg("%s\n%s", text, error.text);
    char *again = run_file_text(&back, false, false);
    assert_string_equal(text, again);
    assert_memory_equal(&back, run, sizeof back); /* every byte: a load starts from zeros */
    free(again);
    free(text);
}

static void round_trip(void **state) {
    (void)state;
    struct run_file run;
    must_parse(sample, &run);
    must_round_trip(&run);
    must_parse("workers: 1\nsync: off\n", &run);
    must_round_trip(&run);
    must_parse(
        "name: \"off\"\nsync: {overlap_steps: auto, quorum: 2, grace: 1500us, fragment_layers: all, codec_up: int8}\n"
        "data: {train: ['a b*', \"q\\\"\\\\\", 12, \"\\u00e9\"]}\nlink: {up: 250kbit/s, latency: 3us}\neval: {windows: "
        "all}\n"
        "inner: {lr: 0.00030000000000000003, eps: 1e-300, seed: 9223372036854775807, lr_schedule: wsd}\n",
        &run);
    must_round_trip(&run);
    must_parse("sync: {overlap_steps: auto, quorum: 67%, stale: 0, min_workers: 2, drift: 7}\n"
               "inner: {pace: time, min_step_time: 1500us}\nouter: {aggregate: trimmed, reject_norm: 2.5, link: "
               "1Gbit/s}\ncheckpoint: {every: 90s, full_every: 1}\nworker: {selftest: 50}\n",
               &run);
    must_round_trip(&run);
}

static void print_defaults(void **state) {
    (void)state;
    struct run_file from_text;
    struct run_file from_nothing;
    char *text = run_file_defaults_text();
    must_parse(text, &from_text);
    must_parse("name: run", &from_nothing);
    assert_memory_equal(&from_text, &from_nothing, sizeof from_text);
    assert_non_null(strstr(
        text, "  every_steps: 100         # steps from one send of a fragment to its next; H in the papers (1..)\n"));
    assert_non_null(strstr(
        text, "  threads: 1               # threads of the training on this machine (1..1024); this node only\n"));
    assert_non_null(strstr(
        text, "  steps: 2000              # optimizer steps of the run (1..); may change when a run is continued\n"));
    assert_non_null(strstr(text,
                           "  quorum: all              # workers that close a round; 50% = half of the live ones, "
                           "rounded up (1..64 | 1%..100% | all)\n"));
    free(text);
}

static void identity_text_and_paths(void **state) {
    (void)state;
    struct run_file run;
    must_parse(sample, &run);
    char *text = run_file_text(&run, true, false);
    static const char *const node_keys[] = {
        "train:", "  val:",  "dtype:",      "threads:",    "precision:", "min_step_time:",
        "link:",  "\n  up:", "checkpoint:", "full_every:", "\nworker:",  "selftest:"};
    for (size_t i = 0; i < sizeof node_keys / sizeof node_keys[0]; i++)
        assert_null(strstr(text, node_keys[i]));
    static const char *const continued_keys[] = {"\n  steps:", "eval:", "windows:"};
    for (size_t i = 0; i < sizeof continued_keys / sizeof continued_keys[0]; i++)
        assert_null(strstr(text, continued_keys[i]));
    static const char *const run_keys[] = {"name: novels-4\n", "tokenizer: bytes\n", "parts: 4\n", "seed: 1\n",
                                           "workers: 4\n"};
    for (size_t i = 0; i < sizeof run_keys / sizeof run_keys[0]; i++)
        assert_non_null(strstr(text, run_keys[i]));
    free(text);
    text = run_file_text(&run, false, true); /* what WELCOME carries: every key */
    for (size_t i = 0; i < sizeof continued_keys / sizeof continued_keys[0]; i++)
        assert_non_null(strstr(text, continued_keys[i]));
    struct run_file worker;
    must_parse(text, &worker);
    assert_int_equal(worker.inner.steps, 2000);
    assert_int_equal(worker.model.head_dim, 64);
    assert_non_null(strstr(text, "  train: [/base/data/*.txt]\n"));
    free(text);
}

static void hash_of(const char *yaml, uint8_t hash[RUN_KEYS_HASH_BYTES]) {
    struct run_file run;
    must_parse(yaml, &run);
    run_file_keys_hash(&run, hash);
}

static void keys_hash(void **state) {
    (void)state;
    uint8_t a[RUN_KEYS_HASH_BYTES];
    uint8_t b[RUN_KEYS_HASH_BYTES];
    hash_of("name: x\ninner: {lr: 1e-3}\n", a);
    static const char *const same[] = {
        "inner:\n  lr: 0.001 # peak\n\nname: 'x'\n",                            /* order, style, spelling */
        "name: x\nmodel: {kv_heads: 6, head_dim: 64}\n",                        /* what would be derived */
        "name: x\nlink: {up: 1Mbit/s}\ninner: {threads: 8, precision: bf16}\n", /* node keys */
        "name: x\ndata: {train: [a], val: [b], dtype: uint32}",                 /* node keys */
        "name: x\nmodel: {recompute: block}\n",                                 /* a node key among the model's */
        "name: x\ndata: {parts: 4}\n",
        "name: x\ninner: {min_step_time: 1s}\nouter: {link: 1Gbit/s}\n",            /* node keys */
        "name: x\ncheckpoint: {every: 1s, full_every: 2}\nworker: {selftest: 9}\n", /* node keys */
        "name: x\ninner: {steps: 5000}\n",                 /* with more steps it is the same run, continued */
        "name: x\neval: {every_steps: 7, windows: all}\n", /* so it is when it is evaluated otherwise */
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        hash_of(same[i], b);
        assert_memory_equal(a, b, sizeof a);
    }
    static const char *const different[] = {
        "name: y\n",
        "name: x\nworkers: 3\n",
        "name: x\ninner: {lr: 1.0000000000000002e-3}\n",
        "name: x\ninner: {seed: 2}\n",
        "name: x\nsync: {codec_down: int8}\n",
        "name: x\nsync: {balance: bytes}\n", /* who cuts fragments otherwise is of another run */
        "name: x\ndata: {parts: 5}\n",
        "name: x\nouter: {lr: 0.5}\n",
        "name: x\nmodel: {tied: false}\n",
        "name: x\nsync: off\nworkers: 1\n",
        "name: x\ninner: {warmup_steps: 99}\n",
        "name: x\nsync: {overlap_steps: auto}\n",
        "name: x\nsync: {min_workers: 2}\n",
        "name: x\nsync: {stale: 0}\n", /* what auto comes to: but what is written is compared */
        "name: x\nouter: {aggregate: clipped}\n",
        "name: x\nouter: {reject_norm: 0}\n",
    };
    for (size_t i = 0; i < sizeof different / sizeof different[0]; i++) {
        hash_of(different[i], b);
        assert_memory_not_equal(a, b, sizeof a);
    }
    static const char *const quorum_mode[] = {"quorum: 2",           "quorum: 3",
                                              "quorum: 50%",         "quorum: 2, stale: 1",
                                              "quorum: 2, drift: 9", "quorum: 2}\ninner: {pace: time"};
    uint8_t hashes[6][RUN_KEYS_HASH_BYTES];
    for (size_t i = 0; i < 6; i++) {
        char yaml[128];
        snprintf(yaml, sizeof yaml, "sync: {overlap_steps: auto, %s}", quorum_mode[i]);
        hash_of(yaml, hashes[i]);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(hashes[i], hashes[j], sizeof a);
    }
}

static void load_from_disk_and_check_data(void **state) {
    (void)state;
    struct run_file run;
    struct error error = {0};
    char path[128];
    char text[1024];
    put("run.yaml", "data: {train: [a*.txt, none/*.txt], val: [empty.txt, sub, /nonexistent.txt]}\n");
    put("a1.txt", "x");
    put("a2.txt", "y");
    put("empty.txt", "");
    files_join(path, sizeof path, directory, "sub");
    assert_int_equal(mkdir(path, 0755), 0);
    files_join(path, sizeof path, directory, "run.yaml");
    assert_int_equal(run_file_load(path, NULL, 0, RUN_FILE_DATA_IGNORED, &run, &error), STATUS_OK);
    assert_string_equal(run.base_directory, directory);
    assert_int_equal(run_file_load(path, NULL, 0, RUN_FILE_DATA_NAMED, &run, &error), STATUS_CONFIG);
    snprintf(text, sizeof text,
             "%s:1:8: data.train: no file matches 'none/*.txt' in %s (put the text there, or name another)\n"
             "%s:1:37: data.val: %s/empty.txt is empty; %s/sub is not a file (name the files in it: %s/sub/*); "
             "no file matches '/nonexistent.txt' (put the text there, or name another)",
             path, directory, path, directory, directory, directory);
    assert_string_equal(error.text, text);
    /* Beside other errors, all in one go. */
    put("run.yaml", "sync: {every_steps: none}\ndata: {train: [none/*.txt]}\n");
    assert_int_equal(run_file_load(path, NULL, 0, RUN_FILE_DATA_NEEDED, &run, &error), STATUS_CONFIG);
    snprintf(text, sizeof text, "%s:2:8: data.train: no file matches 'none/*.txt' in %s", path, directory);
    assert_non_null(strstr(error.text, text));
    assert_non_null(strstr(error.text, ":1:21: sync.every_steps: "));
    put("run.yaml", "data: {train: [a*.txt], val: a1.txt}\n");
    assert_int_equal(run_file_load(path, NULL, 0, RUN_FILE_DATA_NEEDED, &run, &error), STATUS_OK);
    put("run.yaml", "name: x\n");
    assert_int_equal(run_file_load(path, NULL, 0, RUN_FILE_DATA_NAMED, &run, &error), STATUS_OK);
    assert_int_equal(run_file_load(path, NULL, 0, RUN_FILE_DATA_NEEDED, &run, &error), STATUS_CONFIG);
    snprintf(text, sizeof text, "%s: data.train: no files are named (such as data: {train: [text/*.txt]})", path);
    assert_string_equal(error.text, text);
    /* Typed paths are of the working directory, not of the run file's. */
    static const char *const typed[] = {"data.train=[none/*.txt]"};
    char cwd[512];
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_int_equal(run_file_load(path, typed, 1, RUN_FILE_DATA_NEEDED, &run, &error), STATUS_CONFIG);
    snprintf(text, sizeof text,
             "--set data.train=[none/*.txt]: no file matches '%s/none/*.txt' (put the text there, or name another)",
             cwd);
    assert_string_equal(error.text, text);
    put("run.yaml", "nam: x\n");
    assert_int_equal(run_file_load(path, NULL, 0, RUN_FILE_DATA_NAMED, &run, &error), STATUS_CONFIG);
    snprintf(text, sizeof text, "%s:1:1: nam: unknown key (did you mean 'name'?)", path);
    assert_string_equal(error.text, text);
    files_join(path, sizeof path, directory, "none.yaml");
    assert_int_equal(run_file_load(path, NULL, 0, RUN_FILE_DATA_NAMED, &run, &error), STATUS_CONFIG);
    snprintf(text, sizeof text, "cannot open %s: No such file or directory (the run file)", path);
    assert_string_equal(error.text, text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sample_of_the_design),
        cmocka_unit_test(defaults),
        cmocka_unit_test(words_and_codecs),
        cmocka_unit_test(recovery_keys),
        cmocka_unit_test(quorum_in_numbers),
        cmocka_unit_test(stale_and_drift_in_numbers),
        cmocka_unit_test(what_expires_is_said),
        cmocka_unit_test(small_models),
        cmocka_unit_test(every_refusal),
        cmocka_unit_test(known_names),
        cmocka_unit_test(overrides),
        cmocka_unit_test(overrides_of_a_worker),
        cmocka_unit_test(sync_off),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(print_defaults),
        cmocka_unit_test(identity_text_and_paths),
        cmocka_unit_test(keys_hash),
        cmocka_unit_test(load_from_disk_and_check_data),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
