#include "outer/outer_compute.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "comms/transfer.h"

struct job_node {
    struct job_node *next;
    struct outer_job job;
};

struct job_queue {
    struct job_node *first, *last;
};

struct outer_compute {
    struct commit_maker *maker;
    void (*wake)(void *);
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job_queue waiting, finished;
    bool stop;
};

static void queue_push(struct job_queue *queue, struct job_node *node) {
    node->next = NULL;
    if (queue->last != NULL)
        queue->last->next = node;
    else
        queue->first = node;
    queue->last = node;
}

static struct job_node *queue_pop(struct job_queue *queue) {
    struct job_node *node = queue->first;
    if (node != NULL) {
        queue->first = node->next;
        if (queue->first == NULL)
            queue->last = NULL;
    }
    return node;
}

static void work(struct outer_compute *compute, struct outer_job *job) {
    if (job->kind == OUTER_JOB_CHECK) {
        job->status =
            commit_maker_check(compute->maker, (int)job->fragment, job->parts[0].payload, job->parts[0].bytes);
        return;
    }
    commit_maker_make(compute->maker, (int)job->fragment, job->parts, job->part_count, job->payload, &job->state_hash);
    size_t bytes = outer_copy_payload_down(compute->maker->copy, (int)job->fragment);
    transfer_payload_hash(job->payload, bytes, job->payload_hash);
    job->status = STATUS_OK;
}

static void *compute_main(void *argument) {
    struct outer_compute *compute = argument;
    pthread_mutex_lock(&compute->lock);
    while (!compute->stop) {
        struct job_node *node = queue_pop(&compute->waiting);
        if (node == NULL) {
            pthread_cond_wait(&compute->changed, &compute->lock);
            continue;
        }
        pthread_mutex_unlock(&compute->lock);
        work(compute, &node->job);
        pthread_mutex_lock(&compute->lock);
        queue_push(&compute->finished, node);
        compute->wake(compute->context);
    }
    pthread_mutex_unlock(&compute->lock);
    return NULL;
}

enum status outer_compute_open(struct commit_maker *maker, void (*wake)(void *context), void *context,
                               struct outer_compute **out, struct error *error) {
    struct outer_compute *compute = calloc(1, sizeof *compute);
    if (compute == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the outer's compute thread");
    compute->maker = maker;
    compute->wake = wake;
    compute->context = context;
    pthread_mutex_init(&compute->lock, NULL);
    pthread_cond_init(&compute->changed, NULL);
    int failed = pthread_create(&compute->thread, NULL, compute_main, compute);
    if (failed != 0) {
        free(compute);
        return error_set(error, STATUS_NO_MEMORY, "cannot start the outer's compute thread: %s", strerror(failed));
    }
    *out = compute;
    return STATUS_OK;
}

void outer_compute_close(struct outer_compute *compute) {
    pthread_mutex_lock(&compute->lock);
    compute->stop = true;
    pthread_cond_signal(&compute->changed);
    pthread_mutex_unlock(&compute->lock);
    pthread_join(compute->thread, NULL);
    for (struct job_node *node; (node = queue_pop(&compute->waiting)) != NULL;)
        free(node);
    for (struct job_node *node; (node = queue_pop(&compute->finished)) != NULL;)
        free(node);
    pthread_cond_destroy(&compute->changed);
    pthread_mutex_destroy(&compute->lock);
    free(compute);
}

void outer_compute_submit(struct outer_compute *compute, const struct outer_job *job) {
    struct job_node *node = malloc(sizeof *node);
    CHECK(node != NULL);
    node->job = *job;
    pthread_mutex_lock(&compute->lock);
    queue_push(&compute->waiting, node);
    pthread_cond_signal(&compute->changed);
    pthread_mutex_unlock(&compute->lock);
}

bool outer_compute_collect(struct outer_compute *compute, struct outer_job *job) {
    pthread_mutex_lock(&compute->lock);
    struct job_node *node = queue_pop(&compute->finished);
    pthread_mutex_unlock(&compute->lock);
    if (node == NULL)
        return false;
    *job = node->job;
    free(node);
    return true;
}
