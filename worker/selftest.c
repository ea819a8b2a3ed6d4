/* selftest: see the header. Parameters, moments, windows and fixed values are made anew each time; what is kept between
 * two runs is the hash and the model's rotary tables. */
#include "worker/selftest.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/rng.h"
#include "model/gemm.h"
#include "model/linear.h"
#include "model/model.h"
#include "outer/mean.h"
#include "outer/mix.h"
#include "outer/outer_step.h"
#include "outer/state_hash.h"
#include "quant/codec.h"
#include "quant/residual.h"

enum {
    SEED = 20240601,
    WINDOWS = 4,
    CONTEXT = 64,
    VOCABULARY = 256,
    FIXED_FLOATS = 8269, /* prime: short last blocks, and every tail of a vector loop */
    PAYLOAD_BYTES = 4 * FIXED_FLOATS,
    HASH_TEXT_BYTES = 2 * STATE_HASH_BYTES + 1,
    COMMAND_ROUNDS = 200,
};

struct selftest {
    struct model *model;
    int threads;
    struct state_hash step;        /* recorded */
    float values[3][FIXED_FLOATS]; /* theta, g, delta */
    float results[3][FIXED_FLOATS];
    uint8_t payload[PAYLOAD_BYTES];
};

static const struct model_options options = {
    .shape = {.layers = 2,
              .width = 64,
              .heads = 4,
              .kv_heads = 2,
              .head_dim = 16,
              .ffn = 192,
              .context = CONTEXT,
              .vocab = VOCABULARY,
              .tied = false,
              .rope_theta = 1e4,
              .norm_eps = 1e-6,
              .z_loss = 1e-4},
    .inner = {.batch_per_worker = WINDOWS,
              .accumulate = 1,
              .steps = 1,
              .weight_decay = 0.1,
              .clip = 1,
              .beta1 = 0.9,
              .beta2 = 0.95,
              .eps = 1e-8,
              .seed = SEED},
};

/* ---- hashes ---- */

static void hash_bytes(const void *bytes, size_t count, struct state_hash *hash) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, count));
    memcpy(hash->bytes, canonical.digest, sizeof hash->bytes);
}

static void hash_text(const struct state_hash *hash, char text[HASH_TEXT_BYTES]) {
    bytes_to_hex(hash->bytes, sizeof hash->bytes, text);
}

/* ---- fixed computations ---- */

/* Each fills results and, for codecs, the payload, and says how many of the `results` and bytes count. */
struct outcome {
    int results;
    size_t payload_bytes;
};

static struct outcome make_values(struct selftest *t) {
    float *theta = t->values[0], *g = t->values[1], *delta = t->values[2];
    for (uint64_t i = 0; i < FIXED_FLOATS; i++) {
        g[i] = 0.02f * rng_normal(SEED, 0, i);
        theta[i] = g[i] + 0.003f * rng_normal(SEED, 1, i);
        delta[i] = 0.001f * rng_normal(SEED, 2, i);
    }
    memcpy(t->results, t->values, sizeof t->values);
    return (struct outcome){.results = 3};
}

static struct outcome encode_and_decode(struct selftest *t, enum codec_id id) {
    const struct codec *codec = codec_get(id);
    size_t bytes = codec->bytes(FIXED_FLOATS);
    CHECK(bytes <= PAYLOAD_BYTES);
    if (codec->encode(t->values[2], FIXED_FLOATS, t->payload) != STATUS_OK ||
        codec->decode(t->payload, FIXED_FLOATS, t->results[0]) != STATUS_OK)
        return (struct outcome){0}; /* the values are finite; the hash of nothing tells that it went wrong */
    return (struct outcome){.results = 1, .payload_bytes = bytes};
}

static struct outcome codec_f32(struct selftest *t) {
    return encode_and_decode(t, CODEC_F32);
}
static struct outcome codec_bf16(struct selftest *t) {
    return encode_and_decode(t, CODEC_BF16);
}
static struct outcome codec_int8(struct selftest *t) {
    return encode_and_decode(t, CODEC_INT8);
}
static struct outcome codec_int4(struct selftest *t) {
    return encode_and_decode(t, CODEC_INT4);
}
static struct outcome codec_e3m0(struct selftest *t) {
    return encode_and_decode(t, CODEC_E3M0);
}

/* Two steps, so that momentum takes part. */
static struct outcome outer_steps(struct selftest *t, enum outer_optimizer_kind kind) {
    const struct outer_optimizer optimizer = {kind, 0.7f, 0.9f};
    float *g = t->results[0], *u = t->results[1];
    memcpy(g, t->values[1], sizeof t->values[1]);
    memset(u, 0, sizeof t->results[1]);
    for (int step = 0; step < 2; step++)
        outer_step_apply(&optimizer, g, u, t->values[2], g, FIXED_FLOATS);
    return (struct outcome){.results = 2};
}
static struct outcome outer_sgd(struct selftest *t) {
    return outer_steps(t, OUTER_SGD);
}
static struct outcome outer_momentum(struct selftest *t) {
    return outer_steps(t, OUTER_MOMENTUM);
}
static struct outcome outer_nesterov(struct selftest *t) {
    return outer_steps(t, OUTER_NESTEROV);
}

static struct outcome merge(struct selftest *t) {
    memcpy(t->results[0], t->values[0], sizeof t->values[0]);
    memcpy(t->results[1], t->values[0], sizeof t->values[0]);
    mix_counted(t->results[0], t->values[1], 0.3f, FIXED_FLOATS);
    mix_shift(t->results[1], t->values[2], t->values[1], FIXED_FLOATS);
    return (struct outcome){.results = 2};
}

static struct outcome mean(struct selftest *t) {
    static const uint64_t weights[3] = {1000, 700, 12345};
    mean_begin(t->results[0], FIXED_FLOATS);
    for (int i = 0; i < 3; i++)
        if (codec_get(CODEC_F32)->decode_add((const uint8_t *)t->values[i], FIXED_FLOATS, mean_weight(weights[i], 1),
                                             t->results[0]) != STATUS_OK)
            return (struct outcome){0};
    mean_finish(t->results[0], weights[0] + weights[1] + weights[2], FIXED_FLOATS);
    return (struct outcome){.results = 1};
}

static struct outcome error_feedback(struct selftest *t) {
    const struct codec *codec = codec_get(CODEC_E3M0);
    float *pending = t->results[0], *residual = t->results[1];
    if (codec->encode_fed(t->values[2], t->values[1], FIXED_FLOATS, t->payload, pending) != STATUS_OK)
        return (struct outcome){0};
    residual_settle(residual, pending, 0.3f, FIXED_FLOATS);
    return (struct outcome){.results = 2, .payload_bytes = codec->bytes(FIXED_FLOATS)};
}

/* A hash is that of (hash of the results that count, hash of the payload). They were made by running this: a
 * comparison that fails says what it found. selftest_test computes them apart, from the definitions: one rounded
 * operation at a time, and the _ref codecs. They change only when a format, a rule of arithmetic, or the values above
 * do. */
static const struct computation {
    const char *name;
    struct outcome (*compute)(struct selftest *t);
    const char *hash;
} computations[] = {
    {"random numbers", make_values, "9f8f3519ca9259078048cc8915252762"}, /* first: the others read its values */
    {"codec f32", codec_f32, "9b3da6ae82b7a0d8086121f84d1b795d"},
    {"codec bf16", codec_bf16, "839244b7f3447b66b3531cc2cb1baeb2"},
    {"codec int8", codec_int8, "71238343121a669b95caf57360eedb32"},
    {"codec int4", codec_int4, "524122bf99fedf8464f7100bd544382e"},
    {"codec e3m0", codec_e3m0, "64506db2c2f0538611676b4023f547b5"},
    {"outer step sgd", outer_sgd, "cd53f825997c0a86075b4a4954a486cd"},
    {"outer step momentum", outer_momentum, "27cfdbd2678050ed86b792b6924b993d"},
    {"outer step nesterov", outer_nesterov, "8f46f96c23c269f501dc206c71f87306"},
    {"merge", merge, "4bd9d980fdcdffc0fb9a3c5a7d211299"},
    {"mean", mean, "05755d0b41c4bebdeb67d54ca7bd1f68"},
    {"error feedback", error_feedback, "fab82a15b64730879c75ab34c4a49f90"},
};
enum { COMPUTATION_COUNT = sizeof computations / sizeof *computations };

const char *selftest_fixed_hash(const char *name) {
    for (int i = 0; i < COMPUTATION_COUNT; i++)
        if (strcmp(computations[i].name, name) == 0)
            return computations[i].hash;
    return NULL;
}

static enum status check_computations(struct selftest *t, struct error *error) {
    enum status status = float_environment_check(error);
    for (int i = 0; status == STATUS_OK && i < COMPUTATION_COUNT; i++) {
        const struct computation *computation = &computations[i];
        struct outcome outcome = computation->compute(t);
        if (failpoint_hit("worker.selftest.flip_fixed") != 0) /* once a computation */
            ((uint8_t *)t->results)[outcome.results] ^= 1;
        struct state_hash parts[2], both;
        char found[HASH_TEXT_BYTES];
        hash_bytes(t->results, (size_t)outcome.results * sizeof t->results[0], &parts[0]);
        hash_bytes(t->payload, outcome.payload_bytes, &parts[1]);
        state_hash_combine(parts, 2, &both);
        hash_text(&both, found);
        if (strcmp(found, computation->hash) != 0)
            status = error_set(error, STATUS_DATA,
                               "this machine's arithmetic gave another result than every machine's for fixed values: "
                               "%s, expected %s, found %s; memory or CPU is not sound (or overclocked): this worker "
                               "stops",
                               computation->name, computation->hash, found);
    }
    return status;
}

/* ---- the recorded step ---- */

/* What a step leaves behind. Parameters alone would hide wrong gradients: AdamW's first update has the size of the
 * learning rate, whatever the gradient's; so the moments are hashed as well. */
static void hash_step(struct model *model, double loss, const struct update_result *update, struct state_hash *hash) {
    const double numbers[3] = {loss, update->gradient_norm, update->applied};
    size_t bytes = model_tensors(model)->block_floats * sizeof(float);
    struct state_hash parts[4];
    hash_bytes(model_parameters(model), bytes, &parts[0]);
    hash_bytes(model_moment1(model), bytes, &parts[1]);
    hash_bytes(model_moment2(model), bytes, &parts[2]);
    hash_bytes(numbers, sizeof numbers, &parts[3]);
    state_hash_combine(parts, 4, hash);
}

/* One step from the same start. False: it gave nothing finite. */
static bool do_step(struct selftest *t, struct state_hash *hash) {
    struct model *model = t->model;
    size_t bytes = model_tensors(model)->block_floats * sizeof(float);
    int32_t windows[WINDOWS * (CONTEXT + 1)];
    for (uint64_t i = 0; i < WINDOWS * (CONTEXT + 1); i++)
        windows[i] = (int32_t)(rng_u64(SEED, 3, i) % VOCABULARY);
    tensors_initialize(model_tensors(model), model_shape(model), SEED, model_parameters(model));
    memset(model_gradients(model), 0, bytes);
    memset(model_moment1(model), 0, bytes);
    memset(model_moment2(model), 0, bytes);
    model_set_update_count(model, 0);

    double loss = model_add_gradients(model, windows, WINDOWS, CONTEXT, 1);
    struct update_result update = model_apply_update(model, 1e-3f, true);

    if (failpoint_hit("worker.selftest.flip") != 0) /* once a step: the two of selftest_open are hits 1 and 2 */
        ((uint8_t *)model_moment1(model))[bytes / 2] ^= 1;
    hash_step(model, loss, &update, hash);
    return update.applied;
}

static enum status check_step(struct selftest *t, struct error *error) {
    struct state_hash hash;
    char expected[HASH_TEXT_BYTES], found[HASH_TEXT_BYTES];
    (void)do_step(t, &hash);
    if (state_hash_equal(&hash, &t->step))
        return STATUS_OK;
    hash_text(&t->step, expected);
    hash_text(&hash, found);
    return error_set(error, STATUS_DATA,
                     "this machine's arithmetic gave two different results for the same step: %zu parameters, %d "
                     "tokens, %d threads, expected %s, found %s; memory or CPU is not sound (or overclocked): "
                     "this worker stops",
                     model_tensors(t->model)->parameter_count, WINDOWS * CONTEXT, t->threads, expected, found);
}

static enum status record_step(struct selftest *t, struct error *error) {
    if (!do_step(t, &t->step))
        return error_set(error, STATUS_DATA,
                         "this machine's arithmetic gave no finite result for a step that has one: memory or CPU is "
                         "not sound (or overclocked): this worker stops");
    return check_step(t, error);
}

/* ---- */

enum status selftest_open(int threads, struct selftest **selftest, struct error *error) {
    struct selftest *t = calloc(1, sizeof *t);
    if (t == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the self-test");
    struct model_options with_threads = options;
    t->threads = threads;
    with_threads.inner.threads = threads;
    enum status status = model_create(&with_threads, &t->model, error);
    if (status == STATUS_OK)
        status = check_computations(t, error);
    if (status == STATUS_OK)
        status = record_step(t, error);
    if (status != STATUS_OK) {
        selftest_close(t);
        return status;
    }
    *selftest = t;
    return STATUS_OK;
}

void selftest_close(struct selftest *selftest) {
    if (selftest == NULL)
        return;
    model_destroy(selftest->model);
    free(selftest);
}

enum status selftest_run(struct selftest *selftest, struct error *error) {
    enum status status = check_computations(selftest, error);
    return status == STATUS_OK ? check_step(selftest, error) : status;
}

/* COMMAND_ROUNDS of one check, and a line. */
static enum status run_rounds(struct selftest *t, enum status (*check)(struct selftest *t, struct error *error),
                              const char *what, struct error *error) {
    uint64_t start = clock_now_us();
    for (int round = 0; round < COMMAND_ROUNDS; round++) {
        enum status status = check(t, error);
        if (status != STATUS_OK)
            return error_prefix(error, "round %d of %d", round + 1, COMMAND_ROUNDS);
    }
    printf("%s: %d times the same, %.2f ms each\n", what, COMMAND_ROUNDS,
           (double)(clock_now_us() - start) / 1e3 / COMMAND_ROUNDS);
    return STATUS_OK;
}

int selftest_command(void) {
    struct selftest *t = NULL;
    struct error error;
    char what[128];
    int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    printf("products %s, BLAS core %s, %d threads\n", linear_f32_text(), gemm_core_name(), cores);
    enum status status = selftest_open(cores, &t, &error);
    if (status == STATUS_OK) {
        snprintf(what, sizeof what, "%d computations with the hashes of every machine", COMPUTATION_COUNT);
        status = run_rounds(t, check_computations, what, &error);
    }
    if (status == STATUS_OK) {
        snprintf(what, sizeof what, "training step of %zu parameters on %d tokens",
                 model_tensors(t->model)->parameter_count, WINDOWS * CONTEXT);
        status = run_rounds(t, check_step, what, &error);
    }
    selftest_close(t);
    if (status == STATUS_OK)
        puts("passed");
    else
        fprintf(stderr, "atoll worker --selftest: %s\n", error.text);
    return status_exit_code(status);
}
