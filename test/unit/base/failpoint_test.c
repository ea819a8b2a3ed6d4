/* failpoint: the grammar and its error texts, counting, and what really happens to a child process. */
#include "base/failpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"

static enum status open_with(const char *variable, struct error *error) {
    setenv("ATOLL_FAILPOINT", variable, 1);
    return failpoint_open(error);
}

static void off(void **state) {
    (void)state;
    struct error error;
    assert_int_equal(failpoint_hit("a.b.c"), 0); /* before failpoint_open */
    unsetenv("ATOLL_FAILPOINT");
    assert_int_equal(failpoint_open(&error), STATUS_OK);
    assert_false(failpoint_armed);
    assert_int_equal(open_with("", &error), STATUS_OK);
    assert_false(failpoint_armed);
    assert_int_equal(failpoint_hit("a.b.c"), 0);
    assert_false(failpoint_fails("a.b.c"));
}

static void counts_of_hits(void **state) {
    (void)state;
    struct error error;
    assert_int_equal(open_with("a.once=EIO,a.third=ENOSPC@3,a.always=EDQUOT+,a.from=EROFS@2+,a.half=short", &error),
                     STATUS_OK);
    static const struct {
        const char *name;
        int results[4];
    } rows[] = {
        {"a.once", {EIO, 0, 0, 0}},
        {"a.third", {0, 0, ENOSPC, 0}},
        {"a.always", {EDQUOT, EDQUOT, EDQUOT, EDQUOT}},
        {"a.from", {0, EROFS, EROFS, EROFS}},
        {"a.half", {FAILPOINT_SHORT, 0, 0, 0}},
        {"a.other", {0, 0, 0, 0}},
        {"a.onc", {0, 0, 0, 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int hit = 0; hit < 4; hit++) {
            errno = 7;
            assert_int_equal(failpoint_hit(rows[i].name), rows[i].results[hit]);
            assert_int_equal(errno, 7);
        }
    assert_int_equal(open_with("a.once=EIO", &error), STATUS_OK); /* counts start again */
    assert_true(failpoint_fails("a.once"));
    assert_int_equal(errno, EIO);
    assert_int_equal(open_with("a.half=short", &error), STATUS_OK);
    assert_true(failpoint_fails("a.half"));
    assert_int_equal(errno, EIO);
}

static void several_entries_of_a_name(void **state) {
    (void)state;
    struct error error;
    assert_int_equal(open_with("a.b=short,a.b=sleep:30ms@2,a.b=ENOSPC@2", &error), STATUS_OK);
    assert_int_equal(failpoint_hit("a.b"), FAILPOINT_SHORT);
    uint64_t before = clock_now_us();
    assert_int_equal(failpoint_hit("a.b"), ENOSPC);
    assert_true(clock_now_us() - before >= 30000);
    assert_int_equal(failpoint_hit("a.b"), 0);
}

static void malformed_variables(void **state) {
    (void)state;
    static const struct {
        const char *variable, *text;
    } rows[] = {
        {"files.write", "ATOLL_FAILPOINT: 'files.write': expected NAME=ACTION, such as files.write=ENOSPC"},
        {"=kill", "ATOLL_FAILPOINT: '=kill': expected NAME=ACTION, such as files.write=ENOSPC"},
        {"Files write=kill", "ATOLL_FAILPOINT: 'Files write=kill': expected NAME=ACTION, such as files.write=ENOSPC"},
        {"a=kill,", "ATOLL_FAILPOINT: '': expected NAME=ACTION, such as files.write=ENOSPC"},
        {"a=",
         "ATOLL_FAILPOINT: 'a=': '' is no action (kill, stop, sleep:DURATION, short, or an errno such as ENOSPC)"},
        {"a=EIO,b=die@2",
         "ATOLL_FAILPOINT: 'b=die@2': 'die' is no action (kill, stop, sleep:DURATION, short, or an errno "
         "such as ENOSPC)"},
        {"a=ENONSENSE",
         "ATOLL_FAILPOINT: 'a=ENONSENSE': 'ENONSENSE' is no action (kill, stop, sleep:DURATION, short, or an "
         "errno such as ENOSPC)"},
        {"a=sleep:5", "ATOLL_FAILPOINT: 'a=sleep:5': 'sleep:5' is no action (kill, stop, sleep:DURATION, short, or an "
                      "errno such as ENOSPC)"},
        {"a=kill@0", "ATOLL_FAILPOINT: 'a=kill@0': expected the number of a hit behind '@'"},
        {"a=kill@+", "ATOLL_FAILPOINT: 'a=kill@+': expected the number of a hit behind '@'"},
        {"a=kill@2x", "ATOLL_FAILPOINT: 'a=kill@2x': expected the number of a hit behind '@'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error error;
        assert_int_equal(open_with(rows[i].variable, &error), STATUS_USAGE);
        assert_string_equal(error.text, rows[i].text);
        assert_int_equal(failpoint_hit("a"), 0);
    }
    struct error error;
    char many[2048] = "a=EIO";
    for (int i = 1; i < 32; i++)
        strcat(many, ",a=EIO");
    assert_int_equal(open_with(many, &error), STATUS_OK);
    strcat(many, ",a=EIO");
    assert_int_equal(open_with(many, &error), STATUS_USAGE);
    assert_string_equal(error.text, "ATOLL_FAILPOINT: more than 32 failpoints");
    static char longer[2049];
    memset(longer, 'a', sizeof longer - 1);
    assert_int_equal(open_with(longer, &error), STATUS_USAGE);
    assert_string_equal(error.text, "ATOLL_FAILPOINT: longer than 2047 bytes");
}

/* What the child wrote to stderr comes back in `said`. */
static int run_child(const char *variable, const char *name, int wait_flags, pid_t *child, char *said,
                     size_t said_bytes) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    *child = fork();
    if (*child == 0) {
        struct error error;
        dup2(ends[1], STDERR_FILENO);
        _exit(open_with(variable, &error) == STATUS_OK && failpoint_hit(name) == 0 ? 0 : 1);
    }
    close(ends[1]);
    int status;
    assert_int_equal(waitpid(*child, &status, wait_flags), *child);
    ssize_t got = read(ends[0], said, said_bytes - 1);
    said[got > 0 ? got : 0] = '\0';
    close(ends[0]);
    return status;
}

static void kill_and_stop(void **state) {
    (void)state;
    char said[200];
    pid_t child;
    int status = run_child("outer.commit.logged=kill", "outer.commit.logged", 0, &child, said, sizeof said);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_string_equal(said, "failpoint outer.commit.logged: kill\n");
    status = run_child("a.b=stop", "a.b", WUNTRACED, &child, said, sizeof said);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    assert_string_equal(said, "failpoint a.b: stop\n");
    assert_int_equal(kill(child, SIGCONT), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    status = run_child("a.b=kill@2", "a.b", 0, &child, said, sizeof said);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_string_equal(said, "");
}

enum { THREADS = 4, HITS_PER_THREAD = 1000000 };

static pthread_barrier_t together;

static void *hit_often(void *failed) {
    pthread_barrier_wait(&together);
    for (int i = 0; i < HITS_PER_THREAD; i++)
        *(int *)failed += failpoint_hit("a.b") == EIO;
    return NULL;
}

/* Exactly one of all hits is the last one. */
static void threads_share_the_count(void **state) {
    (void)state;
    struct error error;
    assert_int_equal(open_with("a.b=EIO@4000000", &error), STATUS_OK);
    pthread_t threads[THREADS];
    assert_int_equal(pthread_barrier_init(&together, NULL, THREADS), 0);
    int failed[THREADS] = {0};
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hit_often, &failed[i]), 0);
    int total = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        total += failed[i];
    }
    pthread_barrier_destroy(&together);
    assert_int_equal(total, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(off),
        cmocka_unit_test(counts_of_hits),
        cmocka_unit_test(several_entries_of_a_name),
        cmocka_unit_test(malformed_variables),
        cmocka_unit_test(kill_and_stop),
        cmocka_unit_test(threads_share_the_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
