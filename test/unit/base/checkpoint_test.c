/* checkpoint: round trips, then everything that may go wrong: each step fails, a child is killed at each step, each byte is damaged,
 * and files with right hashes and hostile contents. The rule: the old state or the new one, whole, and a text. */
#include "base/checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/bytes.h"
#include "base/checkpoint_file.h"
#include "base/failpoint.h"
#include "base/files.h"

enum { PATH_BYTES = 200, TEXT_BYTES = 1000, WEIGHTS = 300, LETTERS = 77 };

static char directory[PATH_BYTES]; /* fresh for each test */
static char root[PATH_BYTES];      /* its checkpoint/ */

static void set_failpoints(const char *variable) {
    struct error error;
    setenv("ATOLL_FAILPOINT", variable, 1);
    assert_int_equal(failpoint_open(&error), STATUS_OK);
}

static int setup(void **state) {
    (void)state;
    strcpy(directory, "/tmp/atoll_checkpoint_XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    files_join(root, sizeof root, directory, "checkpoint");
    set_failpoints("");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    set_failpoints("");
    char command[PATH_BYTES + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? 0 : -1;
}

/* ---- what is written: all of it follows from `seed` ---- */

struct sample {
    float weights[WEIGHTS];
    uint8_t letters[LETTERS];
};

static void sample_fill(struct sample *sample, int seed) {
    for (int i = 0; i < WEIGHTS; i++)
        sample->weights[i] = (float)(seed * 1000 + i) / 7;
    for (int i = 0; i < LETTERS; i++)
        sample->letters[i] = (uint8_t)(seed + i);
}

static enum status write_seed(int seed, uint64_t *generation, struct error *error) {
    struct sample sample;
    sample_fill(&sample, seed);
    const struct checkpoint_array arrays[] = {
        {"outer.letters", CHECKPOINT_U8, sample.letters, LETTERS}, /* odd: must not misalign what follows */
        {"inner.weights", CHECKPOINT_F32, sample.weights, WEIGHTS},
        {"none", CHECKPOINT_F32, NULL, 0},
    };
    json_t *state = json_pack("{s:i, s:f, s:s}", "seed", seed, "lr", 0.1, "text", "sch\xc3\xb6n \"x\"\n");
    enum status status = checkpoint_write(directory, "outer", state, arrays, 3, generation, error);
    assert_int_equal(state->refcount, 1);
    json_decref(state);
    return status;
}

static uint64_t must_write(int seed) {
    struct error error = {0};
    uint64_t generation = 0;
    if (write_seed(seed, &generation, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return generation;
}

/* The seed of an opened checkpoint; fails when any part is of another one. */
static int seed_of(const struct checkpoint *checkpoint) {
    struct error error;
    struct sample expected, found;
    const json_t *state = checkpoint_state(checkpoint);
    int seed = (int)json_integer_value(json_object_get(state, "seed"));
    assert_true(json_real_value(json_object_get(state, "lr")) == 0.1);
    assert_string_equal(json_string_value(json_object_get(state, "text")), "sch\xc3\xb6n \"x\"\n");
    sample_fill(&expected, seed);
    assert_int_equal(checkpoint_read(checkpoint, "inner.weights", CHECKPOINT_F32, found.weights, WEIGHTS, &error), 0);
    assert_int_equal(checkpoint_read(checkpoint, "outer.letters", CHECKPOINT_U8, found.letters, LETTERS, &error), 0);
    assert_int_equal(checkpoint_read(checkpoint, "none", CHECKPOINT_F32, NULL, 0, &error), 0);
    assert_memory_equal(found.weights, expected.weights, sizeof found.weights);
    assert_memory_equal(found.letters, expected.letters, sizeof found.letters);
    return seed;
}

/* Opens, checks all of it, closes; the seed. */
static int must_open(struct error *warning) {
    struct error error = {0};
    struct checkpoint *checkpoint = NULL;
    if (checkpoint_open(directory, "outer", &checkpoint, warning, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    int seed = seed_of(checkpoint);
    checkpoint_close(checkpoint);
    return seed;
}

static enum status open_fails(struct error *error) {
    struct error warning;
    struct checkpoint *checkpoint = (struct checkpoint *)directory; /* must stay as it is */
    enum status status = checkpoint_open(directory, "outer", &checkpoint, &warning, error);
    assert_ptr_equal(checkpoint, directory);
    assert_string_equal(warning.text, "");
    return status;
}

/* ---- looking at the directory ---- */

static int is_visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

/* "00000001 00000002 " */
static char *listing(void) {
    static char text[TEXT_BYTES];
    struct dirent **entries = NULL;
    int count = scandir(root, &entries, is_visible, alphasort);
    text[0] = '\0';
    for (int i = 0; i < count; i++) {
        strcat(text, entries[i]->d_name);
        strcat(text, " ");
        free(entries[i]);
    }
    free(entries);
    return text;
}

static char *path_of(const char *name) {
    static char paths[4][PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    files_join(path, PATH_BYTES, root, name);
    return path;
}

/* @ in `pattern` stands for checkpoint/ */
static void assert_text(const char *text, const char *pattern) {
    char expected[TEXT_BYTES] = "";
    for (; *pattern != '\0'; pattern++)
        if (*pattern == '@')
            strcat(expected, root);
        else
            strncat(expected, pattern, 1);
    assert_string_equal(text, expected);
}

static void read_file(const char *name, uint8_t **bytes, size_t *count) {
    struct error error;
    assert_int_equal(files_read(path_of(name), 1 << 20, bytes, count, &error), STATUS_OK);
}

static void write_file(const char *name, const void *bytes, size_t count) {
    FILE *file = fopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

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

/* ---- damage ---- */

/* Two generations with seeds 1 and 2; the newer one has been damaged. It must open as the older one and say why; then both are as before. */
static void assert_falls_back(const char *why) {
    struct error warning;
    assert_int_equal(must_open(&warning), 1);
    assert_int_equal(warning.status, STATUS_DATA);
    if (why != NULL) {
        char pattern[TEXT_BYTES];
        snprintf(pattern, sizeof pattern,
                 "going back to checkpoint 00000001; @/00000002/%s (kept in @ as bad.N to be looked at)", why);
        assert_text(warning.text, pattern);
    }
    assert_string_equal(listing(), "00000001 bad.00000002 ");
    assert_int_equal(must_open(&warning), 1);
    assert_string_equal(warning.text, "");
    assert_int_equal(rename(path_of("bad.00000002"), path_of("00000002")), 0);
}

/* With one generation only: nothing is renamed then, so this needs no fsync per byte. */
static void every_byte_counts(void **state) {
    (void)state;
    static const char *const names[] = {"00000001/manifest.json", "00000001/state.safetensors"};
    struct error error, warning;
    must_write(2);
    for (int i = 0; i < 2; i++) {
        uint8_t *bytes;
        size_t count;
        read_file(names[i], &bytes, &count);
        for (size_t at = 0; at < count; at++) {
            uint8_t flips[] = {(uint8_t)(1 << at % 8), 0x20, 0xff}; /* 0x20: E and e, capitals in hex */
            for (size_t flip = 0; flip < sizeof flips; flip++) {
                bytes[at] ^= flips[flip];
                write_file(names[i], bytes, count);
                assert_int_equal(open_fails(&error), STATUS_DATA);
                assert_non_null(strstr(error.text, "damaged"));
                bytes[at] ^= flips[flip];
            }
        }
        write_file(names[i], bytes, count);
        free(bytes);
    }
    assert_int_equal(must_open(&warning), 2);
}

static void other_lengths(void **state) {
    (void)state;
    static const char *const names[] = {"00000002/manifest.json", "00000002/state.safetensors"};
    uint8_t *bytes;
    size_t count;
    must_write(1);
    must_write(2);
    for (int i = 0; i < 2; i++) {
        read_file(names[i], &bytes, &count);
        for (size_t length = 0; length < count; length += length < 50 || length > count - 50 ? 1 : 13) {
            write_file(names[i], bytes, length);
            assert_falls_back(NULL);
        }
        for (const char *more = "\n x\xff"; *more; more++) {
            bytes[count] = (uint8_t)*more; /* files_read leaves room for its NUL */
            write_file(names[i], bytes, count + 1);
            assert_falls_back(NULL);
        }
        write_file(names[i], bytes, count);
        free(bytes);
    }
}

/* One text for each kind of damage. */
static void damage_is_named(void **state) {
    (void)state;
    char *manifest = strdup("00000002/manifest.json"), *data = strdup("00000002/state.safetensors"), text[200];
    uint8_t *bytes;
    size_t count;
    must_write(1);
    must_write(2);
    read_file(manifest, &bytes, &count);
    bytes[20] ^= 1;
    write_file(manifest, bytes, count);
    assert_falls_back("manifest.json is damaged or cut off: its hash is not that of its text");
    bytes[20] ^= 1;
    write_file(manifest, bytes, 10);
    assert_falls_back("manifest.json has 10 bytes, expected 48 to 16777216");
    assert_int_equal(unlink(path_of(manifest)), 0);
    assert_falls_back(NULL);
    assert_int_equal(mkdir(path_of(manifest), 0755), 0);
    assert_falls_back("manifest.json is not a regular file");
    assert_int_equal(rmdir(path_of(manifest)), 0);
    assert_int_equal(mkfifo(path_of(manifest), 0644), 0);
    assert_falls_back("manifest.json is not a regular file");
    assert_int_equal(unlink(path_of(manifest)), 0);
    write_file(manifest, bytes, count);
    free(bytes);

    read_file(data, &bytes, &count);
    bytes[count - 1] ^= 1;
    write_file(data, bytes, count);
    assert_falls_back("state.safetensors is damaged: its hash is not the manifest's");
    write_file(data, bytes, count - 1);
    snprintf(text, sizeof text, "state.safetensors has %zu bytes, its manifest says %zu", count - 1, count);
    assert_falls_back(text);
    assert_int_equal(unlink(path_of(data)), 0);
    free(bytes);
    struct error warning;
    assert_int_equal(must_open(&warning), 1);
    assert_text(warning.text,
                "going back to checkpoint 00000001; cannot read @/00000002/state.safetensors: No such file "
                "or directory (kept in @ as bad.N to be looked at)");
    free(manifest);
    free(data);
}

static void a_file_in_place_of_a_generation(void **state) {
    (void)state;
    struct error warning;
    must_write(1);
    write_file("00000002", "x", 1);
    assert_int_equal(must_open(&warning), 1);
    assert_string_equal(listing(), "00000001 bad.00000002 ");
    must_write(3);
    write_file("00000004", "x", 1);
    must_open(&warning);
    must_write(5);
    assert_string_equal(listing(), "00000003 00000005 bad.00000004 ");
}

static void damage_data(const char *generation) {
    char name[100];
    snprintf(name, sizeof name, "%s/state.safetensors", generation);
    FILE *file = fopen(path_of(name), "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    assert_int_equal(fputc('!', file), '!');
    fclose(file);
}

static void one_bad_one_is_kept(void **state) {
    (void)state;
    struct error warning;
    must_write(1);
    must_write(2);
    damage_data("00000002");
    assert_int_equal(must_open(&warning), 1);
    assert_int_equal(must_write(3), 3); /* not 2 again */
    assert_string_equal(listing(), "00000001 00000003 bad.00000002 ");
    assert_int_equal(must_write(4), 4);
    damage_data("00000004");
    assert_int_equal(must_open(&warning), 3);
    assert_string_equal(listing(), "00000003 bad.00000002 bad.00000004 ");
    assert_int_equal(must_write(5), 5);
    assert_string_equal(listing(), "00000003 00000005 bad.00000004 ");
}

static void none_is_good(void **state) {
    (void)state;
    struct error error;
    must_write(1);
    must_write(2);
    damage_data("00000001");
    damage_data("00000002");
    for (int again = 0; again < 2; again++) {
        assert_int_equal(open_fails(&error), STATUS_DATA);
        assert_text(error.text,
                    "no checkpoint in @ is good; @/00000002/state.safetensors is damaged: its hash is not the "
                    "manifest's; @/00000001/state.safetensors is damaged: its hash is not the manifest's. Put a "
                    "good copy there, or move the directory away to start without it");
        assert_string_equal(listing(), "00000001 00000002 "); /* untouched */
    }
    assert_int_equal(rename(path_of("00000001"), path_of("bad.00000001")), 0);
    assert_int_equal(rename(path_of("00000002"), path_of("bad.00000002")), 0);
    assert_int_equal(open_fails(&error), STATUS_DATA);
    assert_text(error.text,
                "no checkpoint in @ is good: those named bad.N were damaged. Put a good copy there, or move the "
                "directory away to start without it");
}

/* A bad sector is damage; a missing permission is not, and nothing may be renamed for it. */
static void reading_fails(void **state) {
    (void)state;
    struct error error, warning;
    must_write(1);
    must_write(2);
    for (int hit = 1; hit <= 4; hit++) { /* manifest, digest, length, header */
        char variable[100];
        snprintf(variable, sizeof variable, "checkpoint.read=EACCES@%d", hit);
        set_failpoints(variable);
        assert_int_equal(open_fails(&error), STATUS_IO);
        snprintf(variable, sizeof variable, "cannot read @/00000002/%s: Permission denied",
                 hit == 1 ? "manifest.json" : "state.safetensors");
        assert_text(error.text, variable);
        assert_string_equal(listing(), "00000001 00000002 ");
    }
    set_failpoints("checkpoint.read=EINTR");
    assert_int_equal(must_open(&warning), 2);
    for (int hit = 1; hit <= 4; hit++) {
        char variable[100];
        snprintf(variable, sizeof variable, "checkpoint.read=EIO@%d", hit);
        set_failpoints(variable);
        assert_int_equal(must_open(&warning), 1);
        assert_non_null(strstr(warning.text, ": Input/output error (kept in "));
        assert_int_equal(rename(path_of("bad.00000002"), path_of("00000002")), 0);
    }
    set_failpoints("checkpoint.read=EIO,files.rename=ENOSPC");
    assert_int_equal(open_fails(&error), STATUS_IO);
    assert_text(error.text,
                "cannot rename to @/bad.00000002: No space left on device (free some space there and try again)");
}

static void numbers_end(void **state) {
    (void)state;
    struct error error;
    uint64_t generation;
    must_write(1);
    assert_int_equal(files_make_directory(path_of("99999998"), 0755, &error), STATUS_OK);
    assert_int_equal(must_write(2), 99999999);
    assert_int_equal(write_seed(3, &generation, &error), STATUS_DATA);
    assert_text(error.text, "@: no number is left above 99999999: remove that directory");
}

/* ---- hostile: the hashes are right ---- */

static void write_manifest(const char *name, const char *body) {
    char text[TEXT_BYTES * 2], digest[CHECKPOINT_DIGEST_CHARS];
    checkpoint_digest(body, strlen(body), digest);
    int length = snprintf(text, sizeof text, "%s,\n \"hash\": \"%s\"\n}\n", body, digest);
    write_file(name, text, (size_t)length);
}

/* A generation 1 whose state.safetensors is exactly these bytes. */
static void write_crafted(const uint8_t *bytes, size_t count) {
    char body[TEXT_BYTES], digest[CHECKPOINT_DIGEST_CHARS];
    struct error error;
    assert_int_equal(files_make_directory(path_of("00000001"), 0755, &error), STATUS_OK);
    write_file("00000001/state.safetensors", bytes, count);
    checkpoint_digest(bytes, count, digest);
    snprintf(
        body, sizeof body,
        "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}, \"files\": {\"state.safetensors\": "
        "{\"bytes\": %zu, \"xxh3_128\": \"%s\"}}",
        count, digest);
    write_manifest("00000001/manifest.json", body);
}

static void assert_refused(enum status expected, const char *why) {
    struct error error;
    char pattern[TEXT_BYTES];
    assert_int_equal(open_fails(&error), expected);
    snprintf(pattern, sizeof pattern,
             expected == STATUS_DATA ? "no checkpoint in @ is good; @/00000001/%s. Put a good copy there, or move the "
                                       "directory away to start without it"
                                     : "@/00000001/%s",
             why);
    assert_text(error.text, pattern);
}

static void hostile_headers(void **state) {
    (void)state;
    static const struct {
        const char *header, *why; /* 40 bytes of data follow; the text behind "state.safetensors: " */
    } rows[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[10],\"data_offsets\":[0,40]}",
         "the header is no JSON object: '}' expected near end of file"},
        {"[1]", "the header is no JSON object: a list"},
        {"", "the header is no JSON object: '[' or '{' expected near end of file"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[20],\"data_offsets\":[0,20]},\"a\":{\"dtype\":\"U8\",\"shape\":[20],"
         "\"data_"
         "offsets\":[20,40]}}",
         "the header is no JSON object: duplicate object key near '\"a\"'"},
        {"{}", "the arrays are 0 bytes, but 40 follow the header"},
        {"{\"a\":3}", "array 'a': expected dtype, a shape of one number and data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,5],\"data_offsets\":[0,40]}}",
         "array 'a': expected dtype, a shape of one number and data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[10.0],\"data_offsets\":[0,40]}}",
         "array 'a': expected dtype, a shape of one number and data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[10],\"data_offsets\":[0,40],\"more\":1}}",
         "array 'a': expected dtype, a shape of one number and data_offsets"},
        {"{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[10],\"data_offsets\":[0,40]}}",
         "array '__metadata__': expected dtype, a shape of one number and data_offsets"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[20],\"data_offsets\":[0,40]}}",
         "array 'a': dtype is BF16, expected F32 or U8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,-4]}}",
         "array 'a': -1 of F32 are more than the file holds"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[11],\"data_offsets\":[0,44]}}",
         "array 'a': 11 of F32 are more than the file holds"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387914],\"data_offsets\":[0,40]}}",
         "array 'a': 4611686018427387914 of F32 are more than the file holds"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,9223372036854775807]}}",
         "array 'a': 9223372036854775807 of F32 are more than the file holds"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[10],\"data_offsets\":[4,44]}}",
         "array 'a': data_offsets are [4,44], expected [0,40]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]},\"b\":{\"dtype\":\"F32\",\"shape\":[5],"
         "\"data_"
         "offsets\":[0,20]}}",
         "array 'b': data_offsets are [0,20], expected [20,40]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]}}",
         "the arrays are 20 bytes, but 40 follow the header"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[TEXT_BYTES] = {0};
        char why[300];
        size_t length = strlen(rows[i].header);
        bytes_store_u64(bytes, length);
        memcpy(bytes + 8, rows[i].header, length);
        write_crafted(bytes, 8 + length + 40);
        snprintf(why, sizeof why, "state.safetensors: %s", rows[i].why);
        assert_refused(STATUS_DATA, why);
    }
}

static void hostile_lengths(void **state) {
    (void)state;
    uint8_t bytes[100] = {0};
    static const uint64_t lengths[] = {93, 1 << 20, 1000000000000, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char why[200];
        bytes_store_u64(bytes, lengths[i]);
        write_crafted(bytes, sizeof bytes);
        snprintf(why, sizeof why,
                 "state.safetensors: a header of %llu bytes is more than the file or the limit of 1048576",
                 (unsigned long long)lengths[i]);
        assert_refused(STATUS_DATA, why);
    }
    write_crafted(bytes, 7);
    assert_refused(STATUS_DATA, "state.safetensors ends at byte 7");
    write_crafted(bytes, 0);
    assert_refused(STATUS_DATA, "state.safetensors ends at byte 0");
}

static void hostile_manifests(void **state) {
    (void)state;
    static const struct {
        enum status status;
        const char *body, *why;
    } rows[] = {
        {STATUS_DATA, "", "manifest.json is not JSON: '[' or '{' expected near ','"},
        {STATUS_DATA, "{\"kind\": \"outer\"", "manifest.json: Object item not found: schema"},
        {STATUS_DATA, "{\"schema\": \"1\"", "manifest.json: Expected integer, got string"},
        {STATUS_CONFIG, "{\"schema\": 2",
         "manifest.json has schema 2, this atoll reads 1: open it with the version that wrote it"},
        {STATUS_DATA, "{\"schema\": 1, \"schema\": 1",
         "manifest.json is not JSON: duplicate object key near '\"schema\"'"},
        {STATUS_DATA, "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": []",
         "manifest.json: state is not an object"},
        {STATUS_DATA, "{\"schema\": 1, \"kind\": \"outer\", \"generation\": -1, \"state\": {}",
         "manifest.json says that it is generation -1"},
        {STATUS_DATA, "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 2, \"state\": {}",
         "manifest.json says that it is generation 2"},
        {STATUS_DATA, "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 99999999999999999999, \"state\": {}",
         "manifest.json is not JSON: too big integer near '99999999999999999999'"},
        {STATUS_CONFIG, "{\"schema\": 1, \"kind\": \"worker\", \"generation\": 1, \"state\": {}",
         "manifest.json is of kind 'worker', expected 'outer': choose another --dir"},
        {STATUS_DATA, "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}",
         "state.safetensors: its manifest: Object item not found: files"},
        {STATUS_DATA,
         "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}, \"files\": {\"../../x\": {\"bytes\": "
         "1}}",
         "state.safetensors: its manifest: Object item not found: state.safetensors"},
        {STATUS_DATA,
         "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}, \"files\": {\"state.safetensors\": "
         "{\"bytes\": -5, \"xxh3_128\": \"\"}}",
         "state.safetensors: its manifest says -5 bytes"},
        {STATUS_DATA,
         "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}, \"files\": {\"state.safetensors\": "
         "{\"bytes\": 9223372036854775807, \"xxh3_128\": \"\"}}",
         "state.safetensors has 8 bytes, its manifest says 9223372036854775807"},
        {STATUS_DATA,
         "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}, \"files\": {\"state.safetensors\": "
         "{\"bytes\": 8, \"xxh3_128\": \"\"}}",
         "state.safetensors is damaged: its hash is not the manifest's"},
    };
    struct error error;
    assert_int_equal(files_make_directory(path_of("00000001"), 0755, &error), STATUS_OK);
    write_file("00000001/state.safetensors", "12345678", 8);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_manifest("00000001/manifest.json", rows[i].body);
        assert_refused(rows[i].status, rows[i].why);
        assert_string_equal(listing(), "00000001 ");
    }
}

/* Of another kind or schema: no way back to an older one behind the person's back. */
static void another_kind_stops(void **state) {
    (void)state;
    struct error error, warning;
    struct checkpoint *checkpoint = NULL;
    must_write(1);
    must_write(2);
    assert_int_equal(checkpoint_open(directory, "worker", &checkpoint, &warning, &error), STATUS_CONFIG);
    assert_null(checkpoint);
    assert_text(error.text, "@/00000002/manifest.json is of kind 'outer', expected 'worker': choose another --dir");
    assert_string_equal(listing(), "00000001 00000002 ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(round_trip),          TEST(format),
        TEST(digest_is_xxh3_128),  TEST(two_are_kept),
        TEST(nothing_there),       TEST(arrays_are_asked_for_exactly),
        TEST(each_step_may_fail),  TEST(the_first_one_fails),
        TEST(short_writes),        TEST(a_file_that_may_not_grow),
        TEST(removal_fails),       TEST(killed_at_each_step),
        TEST(every_byte_counts),   TEST(other_lengths),
        TEST(damage_is_named),     TEST(a_file_in_place_of_a_generation),
        TEST(one_bad_one_is_kept), TEST(none_is_good),
        TEST(reading_fails),       TEST(numbers_end),
        TEST(hostile_headers),     TEST(hostile_lengths),
        TEST(hostile_manifests),   TEST(another_kind_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
