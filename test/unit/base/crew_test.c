/* A crew does each job once on every thread, sees what the caller wrote before, and the caller sees what it wrote. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include "base/crew.h"

enum { THREADS = 5, JOBS = 2000 };

struct count {
    int given, of_thread[THREADS];
    pthread_t id[THREADS];
    sigset_t mask[THREADS];
};

static void add(void *context, int thread) {
    struct count *count = context;
    count->of_thread[thread] += count->given;
    count->id[thread] = pthread_self();
    pthread_sigmask(SIG_SETMASK, NULL, &count->mask[thread]);
}

static struct crew *make(int threads) {
    struct crew *crew = NULL;
    struct error error;
    if (crew_create(threads, &crew, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_int_equal(crew_threads(crew), threads);
    return crew;
}

static void every_thread_does_every_job_once(void **state) {
    (void)state;
    for (int threads = 1; threads <= THREADS; threads++) {
        struct crew *crew = make(threads);
        struct count count = {0};
        int sum = 0;
        for (int job = 0; job < JOBS; job++) {
            count.given = job;
            crew_run(crew, add, &count);
            sum += job;
            for (int i = 0; i < THREADS; i++)
                assert_int_equal(count.of_thread[i], i < threads ? sum : 0);
        }
        assert_true(pthread_equal(count.id[0], pthread_self()));
        for (int i = 1; i < threads; i++)
            for (int j = 0; j < i; j++)
                assert_false(pthread_equal(count.id[i], count.id[j]));
        crew_destroy(crew);
    }
    crew_destroy(NULL);
}

static void its_threads_take_no_signals(void **state) {
    (void)state;
    struct crew *crew = make(2);
    struct count count = {0};
    crew_run(crew, add, &count);
    assert_int_equal(sigismember(&count.mask[0], SIGTERM), 0); /* the caller's mask stays */
    assert_int_equal(sigismember(&count.mask[1], SIGTERM), 1);
    crew_destroy(crew);
}

/* All threads at once: each waits for the others. */
static void meet(void *context, int thread) {
    (void)thread;
    pthread_barrier_wait(context);
}

static void threads_run_at_the_same_time(void **state) {
    (void)state;
    struct crew *crew = make(THREADS);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, THREADS);
    crew_run(crew, meet, &barrier);
    crew_run(crew, meet, &barrier);
    pthread_barrier_destroy(&barrier);
    crew_destroy(crew);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_thread_does_every_job_once),
                                       cmocka_unit_test(its_threads_take_no_signals),
                                       cmocka_unit_test(threads_run_at_the_same_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
