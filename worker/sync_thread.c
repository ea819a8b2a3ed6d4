/* sync_thread: the compute thread's side. */
#include "worker/sync_thread.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/check.h"
#include "base/clock.h"
#include "comms/commit.h"
#include "outer/mix.h"
#include "worker/reset_fragment.h"
#include "worker/sync_state.h"

/* ---- open, close ---- */

static size_t arena_bytes(const struct outer_copy *copy) {
    size_t packed = arena_round(copy->packed_floats * sizeof(float));
    size_t bytes = 5 * packed;
    for (int f = 0; f < copy->fragments->count && !copy->codec_up->exact; f++)
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
    sync->u_before = arena_take(&sync->arena, packed);
    for (int f = 0; f < copy->fragments->count; f++)
        sync->uploads[f].payload = copy->codec_up->exact
                                       ? (uint8_t *)sync_packed_at(sync, sync->difference, (uint32_t)f)
                                       : arena_take(&sync->arena, outer_copy_payload_up(copy, f));
    return STATUS_OK;
}

static struct sync_machine_options machine_options(const struct sync_thread *sync) {
    const struct run_file *run = sync->options.run;
    bool strict = run->sync.overlap_steps != SYNC_OVERLAP_AUTO;
    return (struct sync_machine_options){
        .schedule = {(uint32_t)sync->options.copy->fragments->count, (uint64_t)run->sync.every_steps},
        .strict = strict,
        .overlap_steps = strict ? (uint64_t)run->sync.overlap_steps : 0,
        .drift = run_sync_drift(run),
        .stale = run_sync_stale(run),
        .lockstep = run->sync.quorum == SYNC_QUORUM_ALL};
}

static void begin_from_seed(struct sync_thread *sync, const struct sync_machine_options *options) {
    const struct outer_copy *copy = sync->options.copy;
    sync_open(&sync->machine, options);
    for (int f = 0; f < copy->fragments->count; f++) {
        struct state_hash hash;
        outer_copy_hash(copy, f, copy->g + copy->offsets[f], &hash);
        commit_genesis(sync->options.run_id, (uint32_t)f, hash.bytes, sync->held[f].head.hash);
    }
}

static enum status begin(struct sync_thread *sync, struct error *error) {
    struct sync_machine_options options = machine_options(sync);
    struct sync_actions none = {0};
    struct head heads[MESSAGE_FRAGMENTS_MAX];
    const struct outer_copy *copy = sync->options.copy;
    enum status status = STATUS_OK;
    if (sync->options.resume != NULL)
        status = sync_load(sync, &options, sync->options.resume, error);
    else
        begin_from_seed(sync, &options);
    if (status != STATUS_OK)
        return status;
    memcpy(sync->next, copy->g, copy->packed_floats * sizeof(float));
    for (int f = 0; f < copy->fragments->count; f++)
        heads[f] = sync->held[f].head;
    follow_open(&sync->follow, (uint32_t)copy->fragments->count, heads);
    sync_step(&sync->machine, &(struct sync_event){.kind = SYNC_EVENT_COUNTER, .tokens = sync->options.tokens}, &none);
    return STATUS_OK;
}

enum status sync_thread_open(const struct sync_thread_options *options, struct sync_thread **out, struct error *error) {
    struct sync_thread *sync = calloc(1, sizeof *sync);
    if (sync == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the sync thread");
    sync->options = *options;
    sync->link = options->link;
    sync->continued = (struct sync_continued){options->run->inner.steps, options->run->eval};
    enum status status = take_memory(sync, error);
    if (status == STATUS_OK)
        status = begin(sync, error);
    if (status != STATUS_OK) {
        arena_close(&sync->arena);
        free(sync);
        return status;
    }
    const struct outer_copy *copy = options->copy;
    sync->session = options->session;
    sync->evaluator_slot = UINT32_MAX;
    sync->telemetry.phase = WORKER_CATCHING_UP;
    sync->telemetry.step = sync->machine.step;
    sync->telemetry.tokens = sync->machine.tokens;
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
    worker_link_wake(sync->link);
    pthread_mutex_unlock(&sync->lock);
    pthread_join(sync->thread, NULL);
    aside_wait(&sync->closing_link);
    sync_thread_telemetry(sync, telemetry);
    worker_link_close(sync->link);
    sync_download_close(sync);
    for (int f = 0; f < sync->options.copy->fragments->count; f++)
        sync_upload_end_serving(sync, (uint32_t)f);
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

/* The first due step at which this island has something to send, and that no commit has passed; with nothing to send the first such step of
 * any fragment: while all is in flight, the outer may be away. */
static uint64_t open_due(const struct sync_machine *machine) {
    const struct schedule *schedule = &machine->options.schedule;
    uint64_t open = UINT64_MAX, any = UINT64_MAX;
    for (uint32_t f = 0; f < schedule->fragments; f++) {
        uint64_t passed = machine->fragments[f].run_step;
        uint64_t due = schedule_next_due(schedule, f, passed > machine->step ? passed : machine->step);
        any = due < any ? due : any;
        if (!machine->fragments[f].record.active && due < open)
            open = due;
    }
    return open != UINT64_MAX ? open : any;
}

uint64_t sync_thread_run_clock(struct sync_thread *sync) {
    pthread_mutex_lock(&sync->lock);
    uint64_t clock = sync_run_clock(&sync->machine, sync->returning);
    if (sync->returning)
        step_pace_caught_up(&sync->step_pace);
    else if (sync->options.run->inner.pace == INNER_PACE_TIME)
        clock = step_pace_next(&sync->step_pace, sync->machine.step, open_due(&sync->machine), clock_now_us());
    sync->returning = false;
    if (clock > sync->telemetry.step)
        sync->telemetry.step = clock; /* also where no step follows: at the end of the run */
    pthread_mutex_unlock(&sync->lock);
    return clock;
}

bool sync_thread_take_lost(struct sync_thread *sync, uint64_t *from, uint64_t *to) {
    pthread_mutex_lock(&sync->lock);
    bool lost = sync->lost_from != 0;
    *from = sync->lost_from;
    *to = sync->lost_to;
    sync->lost_from = 0;
    pthread_mutex_unlock(&sync->lock);
    return lost;
}

bool sync_thread_take_continued(struct sync_thread *sync, struct sync_continued *continued) {
    pthread_mutex_lock(&sync->lock);
    bool news = sync->continued_news && !sync->stopped;
    if (news) {
        *continued = sync->continued;
        sync->continued_news = false;
    }
    if (news && sync->goes_on) {
        sync->goes_on = false;
        sync_go_on(&sync->machine);
    }
    pthread_mutex_unlock(&sync->lock);
    return news;
}

uint64_t sync_thread_tokens(struct sync_thread *sync) {
    pthread_mutex_lock(&sync->lock);
    uint64_t tokens = sync->machine.tokens;
    pthread_mutex_unlock(&sync->lock);
    return tokens;
}

bool sync_thread_is_drained(struct sync_thread *sync, char reason[MESSAGE_TEXT_BYTES]) {
    pthread_mutex_lock(&sync->lock);
    bool is = sync->drained;
    memcpy(reason, sync->drain_reason, MESSAGE_TEXT_BYTES);
    pthread_mutex_unlock(&sync->lock);
    return is;
}

void sync_thread_set_phase(struct sync_thread *sync, enum worker_phase phase) {
    pthread_mutex_lock(&sync->lock);
    sync->telemetry.phase = phase;
    pthread_mutex_unlock(&sync->lock);
}

void sync_thread_run(struct sync_thread *sync, uint64_t *run_step, uint64_t *run_tokens) {
    pthread_mutex_lock(&sync->lock);
    *run_step = sync->run_step > sync->machine.step ? sync->run_step : sync->machine.step;
    *run_tokens = 0;
    for (int slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        *run_tokens += sync->applied_to[slot];
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
    telemetry->tokens = sync->machine.tokens;
    if (sync->waiting_since_us != 0) {
        telemetry->wait_us += clock_now_us() - sync->waiting_since_us;
        /* Not while a send of ours is still to be offered: the outer takes WAITING with the newest versions for "it can send nothing". */
        if (telemetry->phase == WORKER_TRAINING && sync->job_count == 0)
            telemetry->phase = WORKER_WAITING;
    }
    pthread_mutex_unlock(&sync->lock);
}

static void push_job_locked(struct sync_thread *sync, enum sync_job_kind kind, uint32_t fragment,
                            const struct sync_action *action) {
    CHECK(sync->job_count < SYNC_JOBS_MAX);
    struct sync_job *job = &sync->jobs[(sync->job_first + sync->job_count++) % SYNC_JOBS_MAX];
    *job = (struct sync_job){.kind = kind, .fragment = fragment};
    if (action != NULL)
        job->action = *action;
    worker_link_wake(sync->link);
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

static bool is_told_to_leave(const struct sync_thread *sync) {
    return *sync->options.interrupted || sync->drained;
}

bool sync_thread_wait_start(struct sync_thread *sync) {
    pthread_mutex_lock(&sync->lock);
    while (!sync->started && !sync->stopped && !is_told_to_leave(sync))
        wait_locked(sync, 100000);
    bool go = sync->started && !sync->stopped && !is_told_to_leave(sync);
    pthread_mutex_unlock(&sync->lock);
    return go;
}

/* ---- the two linear passes ---- */

static void take_difference(struct sync_thread *sync, const struct fragment *fragment, size_t at) {
    for (int s = 0; s < fragment->span_count; s++) {
        const struct codec_span *span = &fragment->spans[s];
        mix_difference(sync->options.copy->g + at, sync->options.theta + span->offset, sync->difference + at,
                       span->count);
        at += span->count;
    }
}

/* theta and g take up the new copy, in pieces that stay in the cache between the two. */
static void merge(struct sync_thread *sync, enum sync_action_kind kind, bool jump, const struct fragment *fragment,
                  size_t at) {
    float keep = (float)sync->options.run->sync.keep_local;
    for (int s = 0; s < fragment->span_count; s++) {
        size_t end = at + fragment->spans[s].count;
        float *theta = sync->options.theta + fragment->spans[s].offset;
        for (size_t count; at < end; at += count, theta += count) {
            float *g = sync->options.copy->g + at;
            const float *next = sync->next + at;
            count = end - at < CODEC_PIECE_FLOATS ? end - at : CODEC_PIECE_FLOATS;
            if (kind == SYNC_ACTION_COVERED || (kind == SYNC_ACTION_COUNTED && jump))
                mix_far(theta, next, g, keep, count);
            else if (kind == SYNC_ACTION_COUNTED)
                mix_counted(theta, next, keep, count);
            else if (kind == SYNC_ACTION_SHIFT)
                mix_shift(theta, next, g, count);
            memcpy(g, next, count * sizeof *g);
        }
    }
}

/* ---- actions ---- */

static const char *merge_name(enum sync_action_kind kind) {
    switch (kind) {
    case SYNC_ACTION_COUNTED:
        return "counted";
    case SYNC_ACTION_COVERED:
        return "covered";
    case SYNC_ACTION_TAKE:
        return "final";
    case SYNC_ACTION_EXPIRE:
        return "expired";
    default:
        return "shift";
    }
}

static void log_merge(struct sync_thread *sync, const struct sync_action *action, const char *kind,
                      uint64_t waited_us) {
    log_event(sync->options.log, "merge",
              json_pack("{s:I, s:i, s:I, s:s, s:I}", "step", (json_int_t)sync->telemetry.step, "fragment",
                        (int)action->fragment, "version", (json_int_t)action->version, "kind", kind, "wait_us",
                        (json_int_t)waited_us));
}

/* What a merge means for the residual is known by what became of the record: a last send (TAKE) is counted as well. */
static void settle_locked(struct sync_thread *sync, enum sync_action_kind kind, uint32_t f, bool had_record) {
    bool resolved = had_record && !sync->machine.fragments[f].record.active;
    if (kind == SYNC_ACTION_COVERED)
        push_job_locked(sync, SYNC_JOB_COVERED, f, NULL);
    else if (kind == SYNC_ACTION_COUNTED || (kind == SYNC_ACTION_TAKE && resolved))
        push_job_locked(sync, SYNC_JOB_COUNTED, f, NULL);
    else
        worker_link_wake(sync->link); /* the staging place is free again */
}

/* Called and returns with the lock held; let go while memory moves. */
static void merge_locked(struct sync_thread *sync, const struct sync_action *action, uint64_t waited_us) {
    uint32_t f = action->fragment;
    bool had_record = sync->machine.fragments[f].record.active;
    const struct sync_fragment *fragment = &sync->machine.fragments[f];
    bool jump = fragment->ready_version != fragment->version + 1;
    struct sync_actions none = {0};
    pthread_mutex_unlock(&sync->lock);
    merge(sync, action->kind, jump, &sync->options.copy->fragments->list[f], sync->options.copy->offsets[f]);
    log_merge(sync, action, merge_name(action->kind), waited_us);
    pthread_mutex_lock(&sync->lock);
    sync_step(&sync->machine, &(struct sync_event){.kind = SYNC_EVENT_MERGED, .fragment = f}, &none);
    settle_locked(sync, action->kind, f, had_record);
}

/* Called and returns with the lock held. The residual is this thread's here: the send that was refused is done, and no other can begin. */
static void reset_locked(struct sync_thread *sync, const struct sync_action *action) {
    uint32_t f = action->fragment;
    size_t at = sync->options.copy->offsets[f];
    pthread_mutex_unlock(&sync->lock);
    size_t moments =
        reset_fragment(&sync->options.copy->fragments->list[f], sync->options.copy->g + at, sync->options.theta,
                       sync->residual + at, sync->options.moment1, sync->options.moment2);
    log_event(sync->options.log, "recover",
              json_pack("{s:s, s:I, s:i, s:I, s:I}", "what", "reset", "step", (json_int_t)sync->telemetry.step,
                        "fragment", (int)f, "tokens", (json_int_t)action->tokens, "moments", (json_int_t)moments));
    pthread_mutex_lock(&sync->lock);
    push_job_locked(sync, SYNC_JOB_EXPIRE, f, NULL);
}

/* A chunk of the contribution before may be on its way out of the memory where the next difference comes: for as long as it takes to copy it. */
static void await_payload_locked(struct sync_thread *sync, uint32_t f) {
    sync->sending_awaited = true;
    while (sync->sending == f + 1)
        pthread_cond_wait(&sync->changed, &sync->lock);
    sync->sending_awaited = false;
}

/* Carries out the machine's actions; returns whether a WAIT was among them. *waited_us: for the first merge's log line, which has it then. */
static bool carry_out_locked(struct sync_thread *sync, const struct sync_actions *actions, uint64_t *waited_us) {
    bool wait = false;
    for (uint32_t i = 0; i < actions->count; i++) {
        const struct sync_action *action = &actions->list[i];
        uint32_t f = action->fragment;
        switch (action->kind) {
        case SYNC_ACTION_SEND:
            await_payload_locked(sync, f);
            pthread_mutex_unlock(&sync->lock);
            take_difference(sync, &sync->options.copy->fragments->list[f], sync->options.copy->offsets[f]);
            pthread_mutex_lock(&sync->lock);
            push_job_locked(sync, SYNC_JOB_SEND, f, action);
            break;
        case SYNC_ACTION_COUNTED:
        case SYNC_ACTION_COVERED:
        case SYNC_ACTION_SHIFT:
        case SYNC_ACTION_TAKE:
            merge_locked(sync, action, *waited_us);
            *waited_us = 0;
            break;
        case SYNC_ACTION_EXPIRE:
            log_merge(sync, action, "expired", 0);
            push_job_locked(sync, SYNC_JOB_EXPIRE, f, NULL);
            break;
        case SYNC_ACTION_RESET:
            reset_locked(sync, action);
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

static bool anything_ready_locked(const struct sync_thread *sync) {
    for (uint32_t f = 0; f < sync->machine.options.schedule.fragments; f++)
        if (sync->machine.fragments[f].ready)
            return true;
    return false;
}

bool sync_thread_catch_up(struct sync_thread *sync) {
    uint64_t waited_us = 0;
    pthread_mutex_lock(&sync->lock);
    bool wait = sync->trained == 0; /* a merge may have been due when the checkpoint was taken: no step before it */
    while ((!sync->joined || wait) && !sync->finished && !sync->stopped && !is_told_to_leave(sync)) {
        struct sync_actions actions;
        actions.count = 0;
        uint64_t seen = sync->changes;
        sync->telemetry.phase = sync->joined ? WORKER_TRAINING : WORKER_CATCHING_UP;
        sync_step(&sync->machine, &(struct sync_event){.kind = SYNC_EVENT_BOUNDARY}, &actions);
        wait = carry_out_locked(sync, &actions, &waited_us);
        /* Not for one that came while others were merged: only for a copy whose merge is due at a later step. */
        if (!wait && sync->changes == seen && anything_ready_locked(sync))
            break;
        if (!sync->joined || wait)
            waited_us += stand_still_locked(sync, seen);
    }
    sync->telemetry.phase = WORKER_TRAINING;
    bool go = !sync->stopped && !is_told_to_leave(sync);
    pthread_mutex_unlock(&sync->lock);
    return go;
}

bool sync_thread_step(struct sync_thread *sync, const struct sync_stepped *stepped) {
    struct sync_event event = {.kind = SYNC_EVENT_STEP, .step = stepped->step, .tokens = stepped->tokens};
    uint64_t waited_us = 0;
    pthread_mutex_lock(&sync->lock);
    sync->telemetry.step = stepped->step;
    sync->telemetry.loss = stepped->loss;
    sync->trained += stepped->tokens;
    step_pace_note_own(&sync->step_pace, stepped->took_us, stepped->tokens);
    while (!sync->stopped) {
        struct sync_actions actions;
        actions.count = 0;
        uint64_t seen = sync->changes;
        sync_step(&sync->machine, &event, &actions);
        /* After FINISH (this worker came back late) what it waits for may never come. */
        if (!carry_out_locked(sync, &actions, &waited_us) || is_told_to_leave(sync) || sync->finished)
            break;
        waited_us += stand_still_locked(sync, seen);
        event.kind = SYNC_EVENT_BOUNDARY;
    }
    bool go = !sync->stopped;
    pthread_mutex_unlock(&sync->lock);
    return go;
}

void sync_thread_merge_now(struct sync_thread *sync) {
    struct sync_actions actions;
    uint64_t waited_us = 0;
    actions.count = 0;
    pthread_mutex_lock(&sync->lock);
    if (!sync->stopped && sync->machine.phase == SYNC_PHASE_TRAINING) {
        sync_step(&sync->machine, &(struct sync_event){.kind = SYNC_EVENT_BOUNDARY}, &actions);
        carry_out_locked(sync, &actions, &waited_us);
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
    while (!sync->stopped && !sync->goes_on && !is_told_to_leave(sync)) {
        struct sync_actions actions;
        actions.count = 0;
        uint64_t seen = sync->changes;
        sync_step(&sync->machine, &(struct sync_event){.kind = SYNC_EVENT_END}, &actions);
        bool wait = carry_out_locked(sync, &actions, &waited_us);
        if (final_versions_are_here(sync))
            break;
        if (wait)
            waited_us += stand_still_locked(sync, seen);
        else if (sync->machine.phase == SYNC_PHASE_DONE && sync->changes == seen)
            wait_locked(sync, 1000000); /* for slower workers: nothing of ours is on the way */
    }
    bool go = !sync->stopped && !sync->goes_on && !is_told_to_leave(sync);
    pthread_mutex_unlock(&sync->lock);
    return go;
}

/* Records whose fate is open: neither counted by a commit that is here nor expired. */
static bool anything_in_flight_locked(const struct sync_thread *sync) {
    for (int f = 0; f < sync->options.copy->fragments->count; f++) {
        const struct sync_fragment *fragment = &sync->machine.fragments[f];
        if (fragment->record.active && !(fragment->ready && fragment->ready_mark == fragment->record.tokens_to))
            return true;
    }
    return false;
}

void sync_thread_drain(struct sync_thread *sync, uint64_t timeout_us) {
    uint64_t until_us = clock_now_us() + timeout_us, waited_us = 0;
    pthread_mutex_lock(&sync->lock);
    while (!sync->stopped && !sync->unheard && anything_in_flight_locked(sync) && clock_now_us() < until_us) {
        struct sync_actions actions;
        actions.count = 0;
        uint64_t seen = sync->changes;
        sync_step(&sync->machine, &(struct sync_event){.kind = SYNC_EVENT_BOUNDARY}, &actions);
        carry_out_locked(sync, &actions, &waited_us);
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
    while (!evaluate && !sync->stopped && !sync->farewell && !sync->goes_on && !is_told_to_leave(sync) &&
           clock_now_us() < until_us) {
        wait_locked(sync, 100000);
        evaluate =
            can_evaluate && !sync->farewell && !sync->goes_on && sync->evaluator_slot == sync->options.hello.slot;
    }
    pthread_mutex_unlock(&sync->lock);
    return evaluate;
}

/* ---- checkpoints ---- */

void sync_thread_image_sizes(const struct outer_copy *copy, size_t block_floats, struct worker_image_sizes *sizes) {
    *sizes = (struct worker_image_sizes){.block_floats = block_floats,
                                         .packed_floats = copy->packed_floats,
                                         .fragments = (uint32_t)copy->fragments->count};
    for (int f = 0; f < copy->fragments->count; f++)
        sizes->payload_bytes += outer_copy_payload_up(copy, f);
}

void sync_thread_save_begin(struct sync_thread *sync, struct worker_image *image) {
    pthread_mutex_lock(&sync->lock);
    sync->image = image;
    push_job_locked(sync, SYNC_JOB_SAVE, 0, NULL);
    pthread_mutex_unlock(&sync->lock);
}

bool sync_thread_save_end(struct sync_thread *sync) {
    pthread_mutex_lock(&sync->lock);
    while (sync->image != NULL)
        wait_locked(sync, 1000000);
    bool whole = !sync->stopped || sync->orderly;
    pthread_mutex_unlock(&sync->lock);
    return whole;
}
