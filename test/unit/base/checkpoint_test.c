/* checkpoint, written: round trips, the format, then everything that may go wrong on the way: each step fails, a child is killed at each step.
 * The rule: the old state or the new one, whole, and a text. What damage does later: checkpoint_damage_test.c. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "checkpoint_fixture.h"

/* ---- all is well ---- */

static void round_trip(void **state) {
    (void)state;
    struct error error, warning;
    struct checkpoint *checkpoint;
    assert_int_equal(must_write(5), 1);
    assert_string_equal(listing(), "00000001 ");
    assert_int_equal(checkpoint_open(directory, "outer", &checkpoint, &warning, &error), STATUS_OK);
    assert_string_equal(warning.text, "");
    assert_int_equal(checkpoint_generation(checkpoint), 1);
    assert_int_equal(seed_of(checkpoint), 5);
    checkpoint_close(checkpoint);
    checkpoint_close(NULL);
}

/* The bytes on disk: what a safetensors library and a person's eyes expect. */
static void format(void **state) {
    (void)state;
    uint8_t *bytes;
    size_t count;
    must_write(3);
    read_file("00000001/state.safetensors", &bytes, &count);
    size_t header_bytes = bytes_load_u64(bytes);
    const char header[] = "{\"inner.weights\":{\"dtype\":\"F32\",\"shape\":[300],\"data_offsets\":[0,1200]},"
                          "\"none\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[1200,1200]},"
                          "\"outer.letters\":{\"dtype\":\"U8\",\"shape\":[77],\"data_offsets\":[1200,1277]}}";
    assert_int_equal(header_bytes % 8, 0);
    assert_true(header_bytes >= strlen(header) && header_bytes < strlen(header) + 8);
    assert_memory_equal(bytes + 8, header, strlen(header));
    for (size_t i = strlen(header); i < header_bytes; i++)
        assert_int_equal(bytes[8 + i], ' ');
    assert_int_equal(count, 8 + header_bytes + 1277);
    struct sample sample;
    sample_fill(&sample, 3);
    assert_memory_equal(bytes + 8 + header_bytes, sample.weights, 1200);
    assert_memory_equal(bytes + 8 + header_bytes + 1200, sample.letters, LETTERS);
    char digest[CHECKPOINT_DIGEST_CHARS], hash[CHECKPOINT_DIGEST_CHARS];
    checkpoint_digest(bytes, count, digest);
    free(bytes);
    char written[32] = "";
    size_t file_bytes = count;
    read_file("00000001/manifest.json", &bytes, &count);
    const char *at = strstr((char *)bytes, "\"written\": \"");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "\"written\": \"%24[0-9TZ:.-]\"", written), 1);
    assert_int_equal(strlen(written), 24);
    char expected[TEXT_BYTES];
    int body =
        snprintf(expected, sizeof expected,
                 "{\n \"schema\": 1,\n \"kind\": \"outer\",\n \"generation\": 1,\n \"written\": \"%s\",\n"
                 " \"state\": {\n  \"seed\": 3,\n  \"lr\": 0.10000000000000001,\n  \"text\": \"sch\xc3\xb6n "
                 "\\\"x\\\"\\n\"\n },\n"
                 " \"files\": {\n  \"state.safetensors\": {\n   \"bytes\": %zu,\n   \"xxh3_128\": \"%s\"\n  }\n }",
                 written, file_bytes, digest);
    checkpoint_digest(expected, (size_t)body, hash);
    snprintf(expected + body, sizeof expected - (size_t)body, ",\n \"hash\": \"%s\"\n}\n", hash);
    assert_string_equal((char *)bytes, expected);
    free(bytes);
}

/* xxhash's own test vector, so that anybody's library gives our digests. */
static void digest_is_xxh3_128(void **state) {
    (void)state;
    char digest[CHECKPOINT_DIGEST_CHARS];
    checkpoint_digest("", 0, digest);
    assert_string_equal(digest, "99aa06d3014798d86001c324468d497f");
}

static void two_are_kept(void **state) {
    (void)state;
    struct error warning;
    static const char *const listings[] = {"00000001 ", "00000001 00000002 ", "00000002 00000003 ",
                                           "00000003 00000004 "};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(must_write(i), i + 1);
        assert_string_equal(listing(), listings[i]);
        assert_int_equal(must_open(&warning), i);
    }
}

static void nothing_there(void **state) {
    (void)state;
    struct error error;
    assert_int_equal(open_fails(&error), STATUS_NOT_FOUND);
    assert_text(error.text, "there is no checkpoint in @");
    assert_int_equal(files_make_directory(path_of("tmp.00000001"), 0755, &error),
                     STATUS_OK); /* killed in the first write */
    assert_int_equal(files_make_directory(path_of("1"), 0755, &error), STATUS_OK);
    assert_int_equal(files_make_directory(path_of("00000001x"), 0755, &error), STATUS_OK);
    assert_int_equal(open_fails(&error), STATUS_NOT_FOUND);
    assert_int_equal(must_write(1), 1);
    assert_string_equal(listing(), "00000001 00000001x 1 ");
}

static void arrays_are_asked_for_exactly(void **state) {
    (void)state;
    struct error error, warning;
    struct checkpoint *checkpoint;
    uint8_t untouched[4 * WEIGHTS], data[4 * WEIGHTS];
    memset(untouched, 7, sizeof untouched);
    memset(data, 7, sizeof data);
    must_write(1);
    assert_int_equal(checkpoint_open(directory, "outer", &checkpoint, &warning, &error), STATUS_OK);
    assert_int_equal(checkpoint_read(checkpoint, "weights", CHECKPOINT_F32, data, 1, &error), STATUS_DATA);
    assert_text(error.text, "@/00000001/state.safetensors has no array 'weights'");
    assert_int_equal(checkpoint_read(checkpoint, "inner.weights", CHECKPOINT_F32, data, WEIGHTS - 1, &error),
                     STATUS_DATA);
    assert_text(error.text,
                "@/00000001/state.safetensors: array 'inner.weights' holds 300 of F32, expected 299 of F32");
    assert_int_equal(checkpoint_read(checkpoint, "inner.weights", CHECKPOINT_U8, data, WEIGHTS, &error), STATUS_DATA);
    assert_text(error.text, "@/00000001/state.safetensors: array 'inner.weights' holds 300 of F32, expected 300 of U8");
    assert_memory_equal(data, untouched, sizeof data);
    checkpoint_close(checkpoint);
}

/* ---- each step fails ---- */

static const char *const steps[] = {
    "files.make_directory", "files.create",          "files.write",      "files.fsync",        "files.close",
    "files.rename",         "files.fsync_directory", "checkpoint.write", "checkpoint.written", "checkpoint.renamed",
};
enum { STEPS = sizeof steps / sizeof steps[0], HITS_MAX = 20 };

/* Every hit of every step, until one write goes through: how often that was, for the count below. */
static int fail_each_hit(const char *step, const char *reason, const char *remedy) {
    struct error error, warning;
    char before[TEXT_BYTES], variable[100];
    must_write(1);
    must_write(2);
    strcpy(before, listing());
    for (int hit = 1; hit < HITS_MAX; hit++) {
        uint64_t generation = 77;
        snprintf(variable, sizeof variable, "%s=%s@%d", step, reason, hit);
        set_failpoints(variable);
        enum status status = write_seed(3, &generation, &error);
        set_failpoints("");
        if (status == STATUS_OK) {
            assert_int_equal(must_open(&warning), 3);
            return hit - 1;
        }
        assert_int_equal(status, STATUS_IO);
        assert_int_equal(generation, 77);
        if (strncmp(step, "files.", 6) == 0)
            assert_non_null(strstr(error.text, remedy));
        assert_non_null(strstr(error.text, " /tmp"));
        assert_string_equal(listing(), before);
        assert_int_equal(must_open(&warning), 2);
        assert_string_equal(warning.text, "");
    }
    fail_msg("%s never ends", step);
    return 0;
}

static void each_step_may_fail(void **state) {
    (void)state;
    int total = 0;
    for (int i = 0; i < STEPS; i++) {
        int no_space =
            fail_each_hit(steps[i], "ENOSPC", "No space left on device (free some space there and try again)");
        assert_true(no_space >= 1);
        assert_int_equal(fail_each_hit(steps[i], "EIO", "Input/output error (the device fails: see the kernel's log)"),
                         no_space);
        total += no_space;
    }
    print_message("%d hits of %d steps failed\n", total, STEPS);
}

static void the_first_one_fails(void **state) {
    (void)state;
    struct error error;
    uint64_t generation;
    for (int i = 0; i < STEPS; i++) {
        char variable[100];
        snprintf(variable, sizeof variable, "%s=ENOSPC+", steps[i]);
        set_failpoints(variable);
        for (int again = 0; again < 3; again++)
            assert_int_equal(write_seed(1, &generation, &error), STATUS_IO);
        set_failpoints("");
        assert_string_equal(listing(), "");
        assert_int_equal(open_fails(&error), STATUS_NOT_FOUND);
    }
}

static void short_writes(void **state) {
    (void)state;
    struct error warning;
    set_failpoints("files.write=short+");
    must_write(4);
    set_failpoints("");
    assert_int_equal(must_open(&warning), 4);
}

/* The kernel itself refuses in mid-file. */
static void a_file_that_may_not_grow(void **state) {
    (void)state;
    struct error error, warning;
    uint64_t generation;
    struct rlimit before, limit;
    must_write(1);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    limit = (struct rlimit){.rlim_cur = 1000, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    enum status status = write_seed(2, &generation, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(status, STATUS_IO);
    assert_text(error.text, "cannot write @/tmp.00000002/state.safetensors: File too large");
    assert_string_equal(listing(), "00000001 ");
    assert_int_equal(must_open(&warning), 1);
}

/* What is too old stays when it cannot be removed, and goes with the next write. */
static void removal_fails(void **state) {
    (void)state;
    struct error warning;
    must_write(1);
    must_write(2);
    set_failpoints("checkpoint.prune=EIO");
    assert_int_equal(must_write(3), 3);
    assert_string_equal(listing(), "00000002 00000003 tmp.00000001 ");
    assert_int_equal(must_open(&warning), 3);
    set_failpoints("files.rename=EIO@2");
    assert_int_equal(must_write(4), 4);
    assert_string_equal(listing(), "00000002 00000003 00000004 ");
    assert_int_equal(must_write(5), 5);
    assert_string_equal(listing(), "00000004 00000005 ");
}

/* ---- the process dies at each step ---- */

static void killed_at_each_step(void **state) {
    (void)state;
    struct error warning;
    int killed = 0, new_seen = 0;
    must_write(1);
    must_write(2);
    for (int i = 0; i <= STEPS; i++) {
        const char *step = i < STEPS ? steps[i] : "checkpoint.prune";
        bool finished = false;
        int hits = 0;
        while (!finished) {
            assert_true(++hits < HITS_MAX);
            int old = must_open(&warning);
            pid_t child = fork();
            if (child == 0) {
                struct error error;
                uint64_t generation;
                char variable[100];
                snprintf(variable, sizeof variable, "%s=kill@%d", step, hits);
                set_failpoints(variable);
                _exit(write_seed(old + 1, &generation, &error) == STATUS_OK ? 0 : 1);
            }
            int status;
            assert_int_equal(waitpid(child, &status, 0), child);
            finished = WIFEXITED(status) && WEXITSTATUS(status) == 0;
            assert_true(finished || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
            int found = must_open(&warning);
            assert_string_equal(warning.text, "");
            assert_true(found == old + 1 || (found == old && !finished));
            killed += !finished;
            new_seen += !finished && found == old + 1;
            must_write(found + 1); /* and nothing is left */
            assert_int_equal(strlen(listing()), strlen("00000001 00000002 "));
        }
        assert_true(hits > 1); /* killed at least once */
    }
    print_message("killed %d times, %d of them behind the rename\n", killed, new_seen);
    assert_true(new_seen >= 2);
}

/* ---- the numbers end ---- */

static void numbers_end(void **state) {
    (void)state;
    struct error error;
    uint64_t generation;
    must_write(1);
    assert_int_equal(files_make_directory(path_of("99999998"), 0755, &error), STATUS_OK);
    assert_int_equal(must_write(2), 99999999);
    assert_int_equal(write_seed(3, &generation, &error), STATUS_DATA);
    assert_text(error.text, "@/99999999: no checkpoint can have a larger number: move this directory out of the way, "
                            "not those beside it");
    assert_int_equal(rename(path_of("99999999"), path_of("bad.99999999")), 0);
    assert_int_equal(write_seed(3, &generation, &error), STATUS_DATA);
    assert_text(error.text, "@/bad.99999999: no checkpoint can have a larger number: move this directory out of the "
                            "way, not those beside it");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(round_trip),         TEST(format),
        TEST(digest_is_xxh3_128), TEST(two_are_kept),
        TEST(nothing_there),      TEST(arrays_are_asked_for_exactly),
        TEST(each_step_may_fail), TEST(the_first_one_fails),
        TEST(short_writes),       TEST(a_file_that_may_not_grow),
        TEST(removal_fails),      TEST(killed_at_each_step),
        TEST(numbers_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
