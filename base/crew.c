#include "base/crew.h"
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"

struct hand {
    struct crew *crew;
    int thread;
    pthread_t id;
};

struct crew {
    struct hand *hands; /* (threads,), of which [0] is whoever calls */
    int threads;
    pthread_mutex_t lock;
    pthread_cond_t called, done;
    /* under lock */
    uint64_t jobs; /* counts them: a hand knows by it that there is a new one */
    int busy;
    bool leave;
    void (*job)(void *context, int thread);
    void *context;
};

static void *hand_main(void *argument) {
    struct hand *hand = argument;
    struct crew *crew = hand->crew;
    uint64_t seen = 0;
    pthread_mutex_lock(&crew->lock);
    for (;;) {
        while (crew->jobs == seen && !crew->leave)
            pthread_cond_wait(&crew->called, &crew->lock);
        if (crew->leave)
            break;
        seen = crew->jobs;
        pthread_mutex_unlock(&crew->lock);
        crew->job(crew->context, hand->thread);
        pthread_mutex_lock(&crew->lock);
        if (--crew->busy == 0)
            pthread_cond_signal(&crew->done);
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

/* Ends the hands 1..started-1, and the crew. */
static void disband(struct crew *crew, int started) {
    pthread_mutex_lock(&crew->lock);
    crew->leave = true;
    pthread_cond_broadcast(&crew->called);
    pthread_mutex_unlock(&crew->lock);
    for (int i = 1; i < started; i++)
        CHECK(pthread_join(crew->hands[i].id, NULL) == 0);
    pthread_cond_destroy(&crew->called);
    pthread_cond_destroy(&crew->done);
    pthread_mutex_destroy(&crew->lock);
    free(crew->hands);
    free(crew);
}

/* 0, or what pthread_create says; *started is how far it came. */
static int start_hands(struct crew *crew, int *started) {
    sigset_t all, before;
    int failed = 0;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0); /* inherited by those that are started */
    for (*started = 1; *started < crew->threads && failed == 0; *started += failed == 0) {
        struct hand *hand = &crew->hands[*started];
        *hand = (struct hand){.crew = crew, .thread = *started};
        failed = pthread_create(&hand->id, NULL, hand_main, hand);
    }
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    return failed;
}

enum status crew_create(int threads, struct crew **crew, struct error *error) {
    CHECK(threads >= 1);
    struct crew *c = calloc(1, sizeof *c);
    struct hand *hands = calloc((size_t)threads, sizeof *hands);
    if (c == NULL || hands == NULL) {
        free(c);
        free(hands);
        return error_set(error, STATUS_NO_MEMORY, "no memory for %d threads", threads);
    }
    int started;
    c->hands = hands;
    c->threads = threads;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->called, NULL);
    pthread_cond_init(&c->done, NULL);
    int failed = start_hands(c, &started);
    if (failed != 0) {
        disband(c, started);
        return error_set(error, STATUS_NO_MEMORY,
                         "cannot start thread %d of %d: %s (fewer threads, or a higher ulimit -u)", started + 1,
                         threads, strerror(failed));
    }
    *crew = c;
    return STATUS_OK;
}

void crew_destroy(struct crew *crew) {
    if (crew != NULL)
        disband(crew, crew->threads);
}

int crew_threads(const struct crew *crew) {
    return crew->threads;
}

void crew_run(struct crew *crew, void (*job)(void *context, int thread), void *context) {
    if (crew->threads > 1) {
        pthread_mutex_lock(&crew->lock);
        CHECK(crew->busy == 0);
        crew->job = job;
        crew->context = context;
        crew->busy = crew->threads - 1;
        crew->jobs++;
        pthread_cond_broadcast(&crew->called);
        pthread_mutex_unlock(&crew->lock);
    }
    job(context, 0);
    if (crew->threads > 1) {
        pthread_mutex_lock(&crew->lock);
        while (crew->busy > 0)
            pthread_cond_wait(&crew->done, &crew->lock);
        pthread_mutex_unlock(&crew->lock);
    }
}
