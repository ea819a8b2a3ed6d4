#include "outer/outer_compute.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "comms/transfer.h"
#include "outer/snapshot.h"

struct job_node {
    struct job_node *next;
    struct outer_job job;
};

struct job_queue {
    struct job_node *first, *last;
};

struct outer_compute {
    struct commit_maker *maker;
    struct commit_log *disk;
    void (*wake)(void *);
    void *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job_queue waiting, finished;
    struct job_queue used; /* nodes whose job was collected: warm pages before new ones */
    struct job_node *nodes;
    uint32_t nodes_begun, nodes_max;
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

static void make_commit(struct commit_maker *maker, struct outer_job *job) {
    if (failpoint_hit("outer.commit.flip") != 0) /* a bit error in memory */
        ((uint8_t *)(maker->copy->g + maker->copy->offsets[job->fragment]))[0] ^= 1;
    commit_maker_make(maker, (int)job->fragment, job->parts, job->part_count, job->payload, &job->state_hash);
    payload_hash_of(job->payload, outer_copy_payload_down(maker->copy, (int)job->fragment), job->payload_hash);
    job->status = STATUS_OK;
}

/* After a full record: what older records nobody needs any more go. */
static void prune(struct outer_compute *compute, uint32_t fragment) {
    struct error warning;
    if (commit_log_prune(compute->disk, fragment, &warning) != STATUS_OK)
        log_say(LOG_LEVEL_WARN, "%s", warning.text);
}

/* Durable before it is sent. */
static void log_commit(struct outer_compute *compute, struct outer_job *job) {
    const struct commit_maker *maker = compute->maker;
    const struct outer_copy *copy = maker->copy;
    size_t at = copy->offsets[job->fragment];
    job->status =
        commit_log_append(compute->disk, job->commit, job->payload, maker->error_feedback ? maker->residual + at : NULL,
                          job->full ? copy->g + at : NULL, job->full ? copy->u + at : NULL, &job->error);
    if (job->status == STATUS_OK && job->full)
        prune(compute, job->fragment);
}

/* STATUS_DATA: this memory does not hold what the commit signs. */
static void make_snapshot(const struct outer_copy *copy, struct outer_job *job) {
    size_t at = copy->offsets[job->fragment];
    struct state_hash hash;
    if (failpoint_hit("outer.snapshot.flip") != 0)
        ((uint8_t *)(copy->g + at))[0] ^= 1;
    outer_copy_hash(copy, (int)job->fragment, copy->g + at, &hash);
    if (memcmp(hash.bytes, job->commit->state_hash, sizeof hash.bytes) != 0) {
        job->status =
            error_set(&job->error, STATUS_DATA,
                      "fragment %u version %llu: g and u are not what its commit signs: this machine's memory "
                      "is wrong",
                      job->fragment, (unsigned long long)job->version);
        return;
    }
    job->status = snapshot_encode(copy->g + at, copy->u + at, copy->fragments->list[job->fragment].count, job->payload,
                                  &job->bytes, &job->error);
    if (job->status == STATUS_OK)
        payload_hash_of(job->payload, job->bytes, job->payload_hash);
}

/* Nothing is touched before the bytes are proven to be what the commit signs, and are on the disk: when that fails, this outer goes on
 * with what it had. g, u (count,): unpacked into. */
static void take_over_in(struct outer_compute *compute, struct outer_job *job, float *g, float *u) {
    struct commit_maker *maker = compute->maker;
    struct outer_copy *copy = maker->copy;
    size_t count = copy->fragments->list[job->fragment].count, at = copy->offsets[job->fragment];
    struct state_hash hash;
    job->status = snapshot_decode(job->parts[0].payload, job->parts[0].bytes, g, u, count, &job->error);
    if (job->status != STATUS_OK)
        return;
    state_hash_fragment(g, u, count, &hash);
    if (memcmp(hash.bytes, job->commit->state_hash, sizeof hash.bytes) != 0) {
        job->status = error_set(&job->error, STATUS_DATA, "the state is not the one that its commit signs");
        return;
    }
    if (commit_log_newest(compute->disk, job->fragment) >= job->version)
        job->status = commit_log_set_aside(compute->disk, job->fragment, job->version, NULL, &job->error);
    if (job->status == STATUS_OK)
        job->status = commit_log_append(compute->disk, job->commit, NULL, NULL, g, u, &job->error);
    if (job->status != STATUS_OK)
        return;
    memcpy(copy->g + at, g, count * sizeof(float));
    memcpy(copy->u + at, u, count * sizeof(float));
    if (maker->error_feedback)
        memset(maker->residual + at, 0, count * sizeof(float));
    prune(compute, job->fragment);
}

static void take_over(struct outer_compute *compute, struct outer_job *job) {
    size_t count = compute->maker->copy->fragments->list[job->fragment].count;
    float *g = malloc(count * sizeof *g), *u = malloc(count * sizeof *u);
    if (g != NULL && u != NULL)
        take_over_in(compute, job, g, u);
    else
        job->status = error_set(&job->error, STATUS_NO_MEMORY, "no memory to unpack the %zu floats of fragment %u",
                                2 * count, job->fragment);
    free(g);
    free(u);
}

static void work(struct outer_compute *compute, struct outer_job *job) {
    switch (job->kind) {
    case OUTER_JOB_CHECK:
        job->status = commit_maker_check(compute->maker, (int)job->fragment, job->parts[0].payload, job->parts[0].bytes,
                                         &job->norm);
        break;
    case OUTER_JOB_COMMIT:
        make_commit(compute->maker, job);
        break;
    case OUTER_JOB_LOG:
        log_commit(compute, job);
        break;
    case OUTER_JOB_SNAPSHOT:
        make_snapshot(compute->maker->copy, job);
        break;
    case OUTER_JOB_TAKE:
        take_over(compute, job);
        break;
    }
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

enum status outer_compute_open(struct commit_maker *maker, struct commit_log *disk, uint32_t jobs_max,
                               void (*wake)(void *context), void *context, struct outer_compute **out,
                               struct error *error) {
    struct outer_compute *compute = calloc(1, sizeof *compute);
    struct job_node *nodes = malloc(jobs_max * sizeof *nodes);
    if (compute == NULL || nodes == NULL) {
        free(compute);
        free(nodes);
        return error_set(error, STATUS_NO_MEMORY, "no memory for the outer's compute thread and %u jobs", jobs_max);
    }
    compute->nodes = nodes;
    compute->nodes_max = jobs_max;
    compute->maker = maker;
    compute->disk = disk;
    compute->wake = wake;
    compute->context = context;
    pthread_mutex_init(&compute->lock, NULL);
    pthread_cond_init(&compute->changed, NULL);
    int failed = pthread_create(&compute->thread, NULL, compute_main, compute);
    if (failed != 0) {
        free(nodes);
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
    pthread_cond_destroy(&compute->changed);
    pthread_mutex_destroy(&compute->lock);
    free(compute->nodes);
    free(compute);
}

static struct job_node *take_node(struct outer_compute *compute) {
    struct job_node *node = queue_pop(&compute->used);
    if (node != NULL)
        return node;
    CHECK(compute->nodes_begun < compute->nodes_max);
    return &compute->nodes[compute->nodes_begun++];
}

void outer_compute_submit(struct outer_compute *compute, const struct outer_job *job) {
    pthread_mutex_lock(&compute->lock);
    struct job_node *node = take_node(compute);
    node->job = *job;
    queue_push(&compute->waiting, node);
    pthread_cond_signal(&compute->changed);
    pthread_mutex_unlock(&compute->lock);
}

bool outer_compute_collect(struct outer_compute *compute, struct outer_job *job) {
    pthread_mutex_lock(&compute->lock);
    struct job_node *node = queue_pop(&compute->finished);
    if (node != NULL) {
        *job = node->job;
        queue_push(&compute->used, node);
    }
    pthread_mutex_unlock(&compute->lock);
    return node != NULL;
}
