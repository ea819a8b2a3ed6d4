/* selftest: its fixed computations against their definitions, that it notices one flipped bit and a changed float
 * environment, and that it leaves what is not its own alone. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/rng.h"
#include "outer/state_hash.h"
#include "quant/codec.h"
#include "worker/selftest.h"

enum { COUNT = 8269, SEED = 20240601 };

/* ---- the fixed computations, apart ---- */

static float theta[COUNT], g[COUNT], delta[COUNT], results[3][COUNT];
static uint8_t payload[4 * COUNT];

static float rounded_product(float a, float b) {
    volatile float product = a * b;
    return product;
}
static float rounded_sum(float a, float b) {
    volatile float sum = a + b;
    return sum;
}

static void make_values(void) {
    for (uint64_t i = 0; i < COUNT; i++) {
        g[i] = rounded_product(0.02f, rng_normal(SEED, 0, i));
        theta[i] = rounded_sum(g[i], rounded_product(0.003f, rng_normal(SEED, 1, i)));
        delta[i] = rounded_product(0.001f, rng_normal(SEED, 2, i));
    }
}

/* hash = XXH3-128( H(results) | H(payload) ), each canonical. */
static void check_hash(const char *name, int result_count, size_t payload_bytes) {
    XXH128_canonical_t parts[2], both;
    char hex[33];
    XXH128_canonicalFromHash(&parts[0], XXH3_128bits(results, (size_t)result_count * sizeof results[0]));
    XXH128_canonicalFromHash(&parts[1], XXH3_128bits(payload, payload_bytes));
    XXH128_canonicalFromHash(&both, XXH3_128bits(parts, sizeof parts));
    bytes_to_hex(both.digest, sizeof both.digest, hex);
    const char *pinned = selftest_fixed_hash(name);
    assert_non_null(pinned);
    if (strcmp(hex, pinned) != 0)
        fail_msg("%s: pinned %s, by definition %s", name, pinned, hex);
}

static void pinned_hashes_follow_from_the_definitions(void **state) {
    (void)state;
    char name[32];
    make_values();
    memcpy(results[0], theta, sizeof theta);
    memcpy(results[1], g, sizeof g);
    memcpy(results[2], delta, sizeof delta);
    check_hash("random numbers", 3, 0);

    for (int id = 0; id < CODEC_COUNT; id++) {
        const struct codec *codec = codec_get((enum codec_id)id);
        assert_int_equal(codec->encode_ref(delta, COUNT, payload), STATUS_OK);
        assert_int_equal(codec->decode_ref(payload, COUNT, results[0]), STATUS_OK);
        snprintf(name, sizeof name, "codec %s", codec->name);
        check_hash(name, 1, codec->bytes(COUNT));
    }

    static const char *const optimizers[3] = {"outer step sgd", "outer step momentum", "outer step nesterov"};
    for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < COUNT; i++) {
            float u = 0, at = g[i];
            for (int step = 0; step < 2; step++) {
                if (kind > 0)
                    u = rounded_sum(rounded_product(0.9f, u), delta[i]);
                float along = kind == 0 ? delta[i] : kind == 1 ? u : rounded_sum(delta[i], rounded_product(0.9f, u));
                at = rounded_sum(at, -rounded_product(0.7f, along));
            }
            results[0][i] = at;
            results[1][i] = u;
        }
        check_hash(optimizers[kind], 2, 0);
    }

    float take = rounded_sum(1, -0.3f);
    for (int i = 0; i < COUNT; i++) {
        results[0][i] = rounded_sum(rounded_product(0.3f, theta[i]), rounded_product(take, g[i]));
        results[1][i] = rounded_sum(theta[i], rounded_sum(delta[i], -g[i]));
    }
    check_hash("merge", 2, 0);

    float reciprocal = (float)(1.0 / (1000 + 700 + 12345));
    for (int i = 0; i < COUNT; i++) {
        float sum = rounded_sum(0, rounded_product(1000, theta[i]));
        sum = rounded_sum(sum, rounded_product(700, g[i]));
        sum = rounded_sum(sum, rounded_product(12345, delta[i]));
        results[0][i] = rounded_product(sum, reciprocal);
    }
    check_hash("mean", 1, 0);

    const struct codec *e3m0 = codec_get(CODEC_E3M0);
    for (int i = 0; i < COUNT; i++)
        results[2][i] = rounded_sum(delta[i], g[i]);
    assert_int_equal(e3m0->encode_ref(results[2], COUNT, payload), STATUS_OK);
    assert_int_equal(e3m0->decode_ref(payload, COUNT, results[1]), STATUS_OK);
    for (int i = 0; i < COUNT; i++) {
        results[0][i] = rounded_sum(results[2][i], -results[1][i]);
        results[1][i] = rounded_product(0.3f, results[0][i]);
    }
    check_hash("error feedback", 2, e3m0->bytes(COUNT));
    assert_null(selftest_fixed_hash("codec"));
}

/* ---- what it notices ---- */

static void set_failpoint(const char *value) {
    struct error error;
    if (value != NULL)
        setenv("ATOLL_FAILPOINT", value, 1);
    else
        unsetenv("ATOLL_FAILPOINT");
    if (failpoint_open(&error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static struct selftest *open_sound(int threads) {
    struct selftest *selftest = NULL;
    struct error error;
    if (selftest_open(threads, &selftest, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return selftest;
}

static void check_text(const char *text) {
    unsigned long long parameters;
    int tokens, threads, end = 0;
    char expected[33], found[33];
    int fields = sscanf(text,
                        "this machine's arithmetic gave two different results for the same step: %llu parameters, %d "
                        "tokens, %d threads, expected %32[0-9a-f], found %32[0-9a-f]; memory or CPU is not sound "
                        "(or overclocked): this worker stops%n",
                        &parameters, &tokens, &threads, expected, found, &end);
    if (fields != 5 || end == 0 || text[end] != 0)
        fail_msg("%s", text);
    assert_int_equal(threads, 1);
    assert_int_equal(strlen(expected), 32);
    assert_int_equal(strlen(found), 32);
    assert_string_not_equal(expected, found);
}

static void a_sound_machine_passes_again_and_again(void **state) {
    (void)state;
    struct error error;
    for (int threads = 1; threads <= 2; threads++) {
        struct selftest *selftest = open_sound(threads);
        for (int round = 0; round < 20; round++)
            if (selftest_run(selftest, &error) != STATUS_OK)
                fail_msg("%s", error.text);
        selftest_close(selftest);
    }
    selftest_close(NULL);
}

static void one_flipped_bit_is_found_once(void **state) {
    (void)state;
    struct error error;
    set_failpoint("worker.selftest.flip=EIO@4"); /* 1 and 2: selftest_open */
    struct selftest *selftest = open_sound(1);
    assert_int_equal(selftest_run(selftest, &error), STATUS_OK);
    assert_int_equal(selftest_run(selftest, &error), STATUS_DATA);
    assert_int_equal(error.status, STATUS_DATA);
    check_text(error.text);
    assert_int_equal(selftest_run(selftest, &error), STATUS_OK); /* each run starts anew: a passing fault passes */
    selftest_close(selftest);
    set_failpoint(NULL);
}

static void a_bit_flipped_while_recording_is_found(void **state) {
    (void)state;
    static const char *const when[2] = {"worker.selftest.flip=EIO@1", "worker.selftest.flip=EIO@2"};
    for (int i = 0; i < 2; i++) {
        struct selftest *selftest = NULL;
        struct error error;
        set_failpoint(when[i]);
        assert_int_equal(selftest_open(1, &selftest, &error), STATUS_DATA);
        check_text(error.text);
        assert_null(selftest);
    }
    set_failpoint(NULL);
}

static void one_flipped_bit_of_a_fixed_computation_is_found(void **state) {
    (void)state;
    struct error error;
    char text[512];
    set_failpoint("worker.selftest.flip_fixed=EIO@18"); /* twelve computations at open; the sixth of the run */
    struct selftest *selftest = open_sound(1);
    assert_int_equal(selftest_run(selftest, &error), STATUS_DATA);
    const char *pinned = selftest_fixed_hash("codec e3m0"), *found = strstr(error.text, "found ");
    assert_non_null(found);
    snprintf(text, sizeof text,
             "this machine's arithmetic gave another result than every machine's for fixed values: codec e3m0, "
             "expected %s, found %.32s; memory or CPU is not sound (or overclocked): this worker stops",
             pinned, found + 6);
    assert_string_equal(error.text, text);
    assert_true(strspn(found + 6, "0123456789abcdef") == 32 && strncmp(pinned, found + 6, 32) != 0);
    assert_int_equal(selftest_run(selftest, &error), STATUS_OK);
    selftest_close(selftest);
    set_failpoint(NULL);
}

static void a_changed_float_environment_is_found(void **state) {
    (void)state;
    struct error error;
    struct selftest *selftest = open_sound(1), *other = NULL;
    fesetround(FE_UPWARD);
    enum status status = selftest_run(selftest, &error), opened = selftest_open(1, &other, &(struct error){0});
    fesetround(FE_TONEAREST);
    assert_int_equal(status, STATUS_CONFIG);
    assert_int_equal(opened, STATUS_CONFIG);
    assert_non_null(strstr(error.text, "rounding to nearest"));
    assert_int_equal(selftest_run(selftest, &error), STATUS_OK);
    selftest_close(selftest);
}

/* ---- the command ---- */

static int run_command(char *text, size_t room) {
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stdout);
    fflush(stderr);
    int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
    dup2(fileno(file), STDOUT_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    int exit_code = selftest_command();
    fflush(stdout);
    fflush(stderr);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
    rewind(file);
    text[fread(text, 1, room - 1, file)] = 0;
    fclose(file);
    return exit_code;
}

static void the_command_says_passed_or_what_differs(void **state) {
    (void)state;
    char text[8192];
    assert_int_equal(run_command(text, sizeof text), 0);
    assert_non_null(strstr(text, "BLAS core "));
    assert_non_null(strstr(text, "12 computations with the hashes of every machine: 200 times the same, "));
    assert_non_null(strstr(text, "training step of 131456 parameters on 256 tokens: 200 times the same, "));
    assert_non_null(strstr(text, "\npassed\n"));

    set_failpoint("worker.selftest.flip=EIO@102");
    assert_int_equal(run_command(text, sizeof text), 65);
    const char *found = strstr(text, "atoll worker --selftest: round 100 of 200: this machine's arithmetic gave two ");
    assert_non_null(found);
    assert_null(strstr(text, "passed"));
    set_failpoint(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pinned_hashes_follow_from_the_definitions),
        cmocka_unit_test(a_sound_machine_passes_again_and_again),
        cmocka_unit_test(one_flipped_bit_is_found_once),
        cmocka_unit_test(a_bit_flipped_while_recording_is_found),
        cmocka_unit_test(one_flipped_bit_of_a_fixed_computation_is_found),
        cmocka_unit_test(a_changed_float_environment_is_found),
        cmocka_unit_test(the_command_says_passed_or_what_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
