/* sync_thread: the compute thread's side. */
#include "worker/sync_thread.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/vector.h"
#include "outer/mix.h"
#include "worker/sync_state.h"

/* ---- open, close ---- */

static size_t arena_bytes(const struct outer_copy *copy) {
    size_t packed = arena_round(copy->packed_floats * sizeof(float));
    size_t bytes = 4 * packed + arena_round(copy->fragments->largest_count * sizeof(float));
    for (int f = 0; f < copy->fragments->count; f++)
        bytes += arena_round(outer_copy_payload_up(copy, f));
    return bytes;
}

static enum status take_memory(struct sync_thread *sync, struct error *error) {
    const struct outer_copy *copy = sync->options.copy;
    size_t packed = copy->packed_floats * sizeof(float);
    enum status status = arena_open(&sync->arena, arena_bytes(copy), error);
    if (status != STATUS_OK)
        return status;
    sync->next = arena_take(&sync->arena, packed);
    sync->difference = arena_take(&sync->arena, packed);
    sync->pending = arena_take(&sync->arena, packed);
    sync->residual = arena_take(&sync->arena, packed);
    sync->delta = arena_take(&sync->arena, copy->fragments->largest_count * sizeof(float));
    for (int f = 0; f < copy->fragments->count; f++)
        sync->uploads[f].payload = arena_take(&sync->arena, outer_copy_payload_up(copy, f));
    return STATUS_OK;
}

static void open_machine(struct sync_thread *sync) {
    const struct run_file *run = sync->options.run;
    bool strict = run->sync.overlap_steps != SYNC_OVERLAP_AUTO;
    struct sync_machine_options options = {
        .schedule = {(uint32_t)sync->options.copy->fragments->count, (uint64_t)run->sync.every_steps},
        .strict = strict,
        .overlap_steps = strict ? (uint64_t)run->sync.overlap_steps : 0,
        .stale = strict && run->sync.quorum == SYNC_QUORUM_ALL ? 0 : 2,
        .lockstep = run->sync.quorum == SYNC_QUORUM_ALL};
    sync_open(&sync->machine, &options);
}

enum status sync_thread_open(const struct sync_thread_options *options, struct sync_thread **out, struct error *error) {
    struct sync_thread *sync = calloc(1, sizeof *sync);
    if (sync == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the sync thread");
    sync->options = *options;
    enum status status = take_memory(sync, error);
    if (status != STATUS_OK) {
        free(sync);
        return status;
    }
    open_machine(sync);
    const struct outer_copy *copy = options->copy;
    for (int f = 0; f < copy->fragments->count; f++) {
        struct state_hash hash;
        outer_copy_hash(copy, f, copy->g + copy->offsets[f], &hash);
        commit_genesis(options->run_id, (uint32_t)f, hash.bytes, sync->heads[f]);
    }
    sync->session = options->session;
    sync->evaluator_slot = UINT32_MAX;
    sync->telemetry.loss = NAN;
    sync->telemetry.version_count = (uint32_t)copy->fragments->count;
    sync->chunk_bytes = transfer_chunk_bytes(options->up_bytes_per_s);
    pace_open(&sync->pace, options->up_bytes_per_s, sync->chunk_bytes, clock_now_us());
    pthread_mutex_init(&sync->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&sync->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    int failed = pthread_create(&sync->thread, NULL, sync_net_main, sync);
    if (failed != 0) {
        arena_close(&sync->arena);
        free(sync);
        return error_set(error, STATUS_NO_MEMORY, "cannot start the sync thread: %s", strerror(failed));
    }
    *out = sync;
    return STATUS_OK;
}

void sync_thread_close(struct sync_thread *sync, const char *reason, struct message_telemetry *telemetry) {
    pthread_mutex_lock(&sync->lock);
    sync->closing = true;
    snprintf(sync->goodbye, sizeof sync->goodbye, "%s", reason);
    pthread_mutex_unlock(&sync->lock);
    worker_link_wake(sync->options.link);
    pthread_join(sync->thread, NULL);
    sync_thread_telemetry(sync, telemetry);
    worker_link_close(sync->options.link);
    for (int f = 0; f < sync->options.copy->fragments->count; f++)
        for (uint32_t i = 0; i < sync->incoming_count[f]; i++)
            free(sync->incoming[f][(sync->incoming_first[f] + i) % SYNC_COMMITS_QUEUED].payload);
    arena_close(&sync->arena);
    pthread_cond_destroy(&sync->changed);
    pthread_mutex_destroy(&sync->lock);
    free(sync);
}

/* ---- shared state ---- */

void sync_stop_locked(struct sync_thread *sync, bool orderly, enum status status, const char *text) {
    if (!sync->stopped) {
        sync->stopped = true;
        sync->orderly = orderly;
        error_set(&sync->verdict, status, "%s", text);
    }
    sync_changed_locked(sync);
}

void sync_changed_locked(struct sync_thread *sync) {
    sync->changes++;
    pthread_cond_broadcast(&sync->changed);
}

enum status sync_thread_verdict(struct sync_thread *sync, bool *orderly, struct error *error) {
    pthread_mutex_lock(&sync->lock);
    *orderly = sync->orderly;
    enum status status = sync->stopped ? sync->verdict.status : STATUS_OK;
    if (sync->stopped)
        *error = sync->verdict;
    pthread_mutex_unlock(&sync->lock);
    return status;
}

bool sync_thread_is_ended(struct sync_thread *sync) {
    pthread_mutex_lock(&sync->lock);
    bool is = sync->ended || sync->finished;
    pthread_mutex_unlock(&sync->lock);
    return is;
}

uint64_t sync_thread_run_clock(struct sync_thread *sync) {
    pthread_mutex_lock(&sync->lock);
    uint64_t clock = sync_run_clock(&sync->machine);
    pthread_mutex_unlock(&sync->lock);
    return clock;
}

void sync_thread_run(struct sync_thread *sync, uint64_t *run_step, uint64_t *run_tokens) {
    pthread_mutex_lock(&sync->lock);
    *run_step = sync->run_step > sync->machine.step ? sync->run_step : sync->machine.step;
    *run_tokens = 0;
    for (int slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        *run_tokens += sync->counted_to[slot];
    pthread_mutex_unlock(&sync->lock);
}

bool sync_thread_is_evaluator(struct sync_thread *sync) {
    pthread_mutex_lock(&sync->lock);
    bool is = sync->evaluator_slot == sync->options.hello.slot;
    pthread_mutex_unlock(&sync->lock);
    return is;
}

void sync_thread_set_eval(struct sync_thread *sync, uint64_t step, double loss, uint64_t eval_us) {
    pthread_mutex_lock(&sync->lock);
    sync->telemetry.has_eval = true;
    sync->telemetry.eval_step = step;
    sync->telemetry.eval_loss = loss;
    sync->telemetry.eval_us = eval_us;
    pthread_mutex_unlock(&sync->lock);
}

void sync_thread_telemetry(struct sync_thread *sync, struct message_telemetry *telemetry) {
    pthread_mutex_lock(&sync->lock);
    *telemetry = sync->telemetry;
    for (uint32_t f = 0; f < telemetry->version_count; f++)
        telemetry->versions[f] = sync->machine.fragments[f].version;
    if (sync->waiting_since_us != 0)
        telemetry->wait_us += clock_now_us() - sync->waiting_since_us;
    pthread_mutex_unlock(&sync->lock);
}

static void push_job_locked(struct sync_thread *sync, enum sync_job_kind kind, uint32_t fragment,
                            const struct sync_action *action) {
    CHECK(sync->job_count < SYNC_JOBS_MAX);
    struct sync_job *job = &sync->jobs[(sync->job_first + sync->job_count++) % SYNC_JOBS_MAX];
    *job = (struct sync_job){.kind = kind, .fragment = fragment};
    if (action != NULL)
        job->action = *action;
    worker_link_wake(sync->options.link);
}

static struct timespec deadline_in(uint64_t us) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    uint64_t nanoseconds = (uint64_t)at.tv_nsec + us % 1000000 * 1000;
    at.tv_sec += (time_t)(us / 1000000 + nanoseconds / 1000000000);
    at.tv_nsec = (long)(nanoseconds % 1000000000);
    return at;
}

static void wait_locked(struct sync_thread *sync, uint64_t us) {
    struct timespec until = deadline_in(us);
    pthread_cond_timedwait(&sync->changed, &sync->lock, &until);
}

bool sync_thread_wait_start(struct sync_thread *sync) {
    pthread_mutex_lock(&sync->lock);
    while (!sync->started && !sync->stopped && !*sync->options.interrupted)
        wait_locked(sync, 100000);
    bool go = sync->started && !sync->stopped && !*sync->options.interrupted;
    pthread_mutex_unlock(&sync->lock);
    return go;
}

/* ---- the two linear passes ---- */

HOT_LOOP static void subtract(const float *g, const float *theta, float *difference, size_t count) {
    for (size_t i = 0; i < count; i++)
        difference[i] = g[i] - theta[i];
}

static void take_difference(struct sync_thread *sync, const struct fragment *fragment, size_t at) {
    for (int s = 0; s < fragment->span_count; s++) {
        const struct codec_span *span = &fragment->spans[s];
        subtract(sync->options.copy->g + at, sync->options.theta + span->offset, sync->difference + at, span->count);
        at += span->count;
    }
}

static void merge(struct sync_thread *sync, enum sync_action_kind kind, const struct fragment *fragment, size_t at) {
    float *g = sync->options.copy->g;
    float keep = (float)sync->options.run->sync.keep_local;
    for (int s = 0; s < fragment->span_count; s++) {
        const struct codec_span *span = &fragment->spans[s];
        float *theta = sync->options.theta + span->offset;
        if (kind == SYNC_ACTION_COUNTED)
            mix_counted(theta, sync->next + at, keep, span->count);
        else if (kind == SYNC_ACTION_SHIFT)
            mix_shift(theta, sync->next + at, g + at, span->count);
        memcpy(g + at, sync->next + at, span->count * sizeof(float));
        at += span->count;
    }
}

/* ---- actions ---- */

static void log_merge(struct sync_thread *sync, const struct sync_action *action, bool counted, uint64_t waited_us) {
    const char *kind = action->kind == SYNC_ACTION_EXPIRE ? "expired"
                       : action->kind == SYNC_ACTION_TAKE ? "final"
                       : counted                          ? "counted"
                                                          : "shift";
    log_event(sync->options.log, "merge",
              json_pack("{s:I, s:i, s:I, s:s, s:I}", "step", (json_int_t)sync->telemetry.step, "fragment",
                        (int)action->fragment, "version", (json_int_t)action->version, "kind", kind, "wait_us",
                        (json_int_t)waited_us));
}

/* Called and returns with the lock held; let go while memory moves. */
static void merge_locked(struct sync_thread *sync, const struct sync_action *action, uint64_t waited_us) {
    uint32_t f = action->fragment;
    bool counted = sync->machine.fragments[f].ready_counts_me;
    struct sync_actions none = {0};
    pthread_mutex_unlock(&sync->lock);
    merge(sync, action->kind, &sync->options.copy->fragments->list[f], sync->options.copy->offsets[f]);
    log_merge(sync, action, counted, waited_us);
    pthread_mutex_lock(&sync->lock);
    sync_step(&sync->machine, &(struct sync_event){.kind = SYNC_EVENT_MERGED, .fragment = f}, &none);
    if (counted)
        push_job_locked(sync, SYNC_JOB_COUNTED, f, NULL);
    else
        worker_link_wake(sync->options.link); /* the staging place is free again */
}

/* Carries out the machine's actions; returns whether a WAIT was among them. */
static bool carry_out_locked(struct sync_thread *sync, const struct sync_actions *actions, uint64_t waited_us) {
    bool wait = false;
    for (uint32_t i = 0; i < actions->count; i++) {
        const struct sync_action *action = &actions->list[i];
        uint32_t f = action->fragment;
        switch (action->kind) {
        case SYNC_ACTION_SEND:
            pthread_mutex_unlock(&sync->lock);
            take_difference(sync, &sync->options.copy->fragments->list[f], sync->options.copy->offsets[f]);
            pthread_mutex_lock(&sync->lock);
            push_job_locked(sync, SYNC_JOB_SEND, f, action);
            break;
        case SYNC_ACTION_COUNTED:
        case SYNC_ACTION_SHIFT:
        case SYNC_ACTION_TAKE:
            merge_locked(sync, action, waited_us);
            waited_us = 0;
            break;
        case SYNC_ACTION_EXPIRE:
            log_merge(sync, action, false, 0);
            push_job_locked(sync, SYNC_JOB_EXPIRE, f, NULL);
            break;
        case SYNC_ACTION_DONE:
            push_job_locked(sync, SYNC_JOB_DONE, 0, NULL);
            break;
        case SYNC_ACTION_WAIT:
            wait = true;
            break;
        }
    }
    return wait;
}

static bool is_interrupted(const struct sync_thread *sync) {
    return *sync->options.interrupted;
}

/* Stand still until something changed since `seen`; the time is the exposed wait. */
static uint64_t stand_still_locked(struct sync_thread *sync, uint64_t seen) {
    sync->waiting_since_us = clock_now_us();
    if (sync->changes == seen)
        wait_locked(sync, 1000000);
    uint64_t waited_us = clock_now_us() - sync->waiting_since_us;
    sync->waiting_since_us = 0;
    sync->telemetry.wait_us += waited_us;
    return waited_us;
}

/* ---- between two steps ---- */

bool sync_thread_step(struct sync_thread *sync, uint64_t step, uint64_t tokens, double loss) {
    struct sync_event event = {.kind = SYNC_EVENT_STEP, .step = step, .tokens = tokens};
    uint64_t waited_us = 0;
    pthread_mutex_lock(&sync->lock);
    sync->telemetry.step = step;
    sync->telemetry.tokens = tokens;
    sync->telemetry.loss = loss;
    while (!sync->stopped) {
        struct sync_actions actions;
        actions.count = 0;
        uint64_t seen = sync->changes;
        sync_step(&sync->machine, &event, &actions);
        /* After FINISH (this worker came back late) what it waits for may never come. */
        if (!carry_out_locked(sync, &actions, waited_us) || is_interrupted(sync) || sync->finished)
            break;
        waited_us = stand_still_locked(sync, seen);
        event.kind = SYNC_EVENT_BOUNDARY;
    }
    bool go = !sync->stopped;
    pthread_mutex_unlock(&sync->lock);
    return go;
}

void sync_thread_merge_now(struct sync_thread *sync) {
    struct sync_actions actions;
    actions.count = 0;
    pthread_mutex_lock(&sync->lock);
    if (!sync->stopped && sync->machine.phase == SYNC_PHASE_TRAINING) {
        sync_step(&sync->machine, &(struct sync_event){.kind = SYNC_EVENT_BOUNDARY}, &actions);
        carry_out_locked(sync, &actions, 0);
    }
    pthread_mutex_unlock(&sync->lock);
}

static bool final_versions_are_here(const struct sync_thread *sync) {
    if (!sync->finished)
        return false;
    for (int f = 0; f < sync->options.copy->fragments->count; f++)
        if (sync->machine.fragments[f].version < sync->final_versions[f])
            return false;
    return true;
}

bool sync_thread_finish(struct sync_thread *sync) {
    uint64_t waited_us = 0;
    pthread_mutex_lock(&sync->lock);
    while (!sync->stopped && !is_interrupted(sync)) {
        struct sync_actions actions;
        actions.count = 0;
        uint64_t seen = sync->changes;
        sync_step(&sync->machine, &(struct sync_event){.kind = SYNC_EVENT_END}, &actions);
        bool wait = carry_out_locked(sync, &actions, waited_us);
        waited_us = 0;
        if (final_versions_are_here(sync))
            break;
        if (wait)
            waited_us = stand_still_locked(sync, seen);
        else if (sync->machine.phase == SYNC_PHASE_DONE && sync->changes == seen)
            wait_locked(sync, 1000000); /* for slower workers: nothing of ours is on the way */
    }
    bool go = !sync->stopped && !is_interrupted(sync);
    pthread_mutex_unlock(&sync->lock);
    return go;
}

/* Records whose fate is open: neither counted by a commit that is here nor expired. */
static bool anything_in_flight_locked(const struct sync_thread *sync) {
    for (int f = 0; f < sync->options.copy->fragments->count; f++) {
        const struct sync_fragment *fragment = &sync->machine.fragments[f];
        if (fragment->record.active && !(fragment->ready && fragment->ready_counts_me))
            return true;
    }
    return false;
}

void sync_thread_drain(struct sync_thread *sync, uint64_t timeout_us) {
    uint64_t until_us = clock_now_us() + timeout_us;
    pthread_mutex_lock(&sync->lock);
    while (!sync->stopped && anything_in_flight_locked(sync) && clock_now_us() < until_us) {
        struct sync_actions actions;
        actions.count = 0;
        uint64_t seen = sync->changes;
        sync_step(&sync->machine, &(struct sync_event){.kind = SYNC_EVENT_BOUNDARY}, &actions);
        carry_out_locked(sync, &actions, 0);
        if (anything_in_flight_locked(sync) && sync->changes == seen)
            wait_locked(sync, 50000);
    }
    pthread_mutex_unlock(&sync->lock);
}

bool sync_thread_send_final(struct sync_thread *sync, const struct message_final *final, bool can_evaluate,
                            uint64_t timeout_us) {
    uint64_t until_us = clock_now_us() + timeout_us;
    bool evaluate = false;
    pthread_mutex_lock(&sync->lock);
    sync->final = *final;
    push_job_locked(sync, SYNC_JOB_FINAL, 0, NULL);
    while (!evaluate && !sync->stopped && !sync->farewell && !is_interrupted(sync) && clock_now_us() < until_us) {
        wait_locked(sync, 100000);
        evaluate = can_evaluate && !sync->farewell && sync->evaluator_slot == sync->options.hello.slot;
    }
    pthread_mutex_unlock(&sync->lock);
    return evaluate;
}
