/* sync_net: the sync thread itself: its loop, sessions, what the outer says, reports. Contributions go out through sync_upload.c, commits come
 * in through sync_download.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "quant/residual.h"
#include "worker/enrol.h"
#include "worker/sync_state.h"

enum { METER_US = 100000, REPORT_US = 1000000, SILENCE_US = 10000000, EVENTS_PER_TURN = 64, CONTROL_BYTES = 256 };

float *sync_packed_at(struct sync_thread *sync, float *block, uint32_t f) {
    return block + sync->options.copy->offsets[f];
}

void sync_stop(struct sync_thread *sync, bool orderly, enum status status, const char *text) {
    pthread_mutex_lock(&sync->lock);
    sync_stop_locked(sync, orderly, status, text);
    pthread_mutex_unlock(&sync->lock);
}

void sync_say(struct sync_thread *sync, struct message *message) {
    message->session = sync->session;
    pace_charge(&sync->pace, CONTROL_BYTES, clock_now_us());
    (void)!worker_link_send(sync->options.link,
                            message); /* lost with the link: what matters is said again after the next WELCOME */
}

/* ---- jobs of the compute thread ---- */

static void say_done(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_DONE};
    pthread_mutex_lock(&sync->lock);
    message.body.done = (struct message_done){sync->machine.step, sync->machine.tokens};
    pthread_mutex_unlock(&sync->lock);
    sync->done_said = true;
    if (sync->session != 0)
        sync_say(sync, &message);
}

static void say_final(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_FINAL};
    pthread_mutex_lock(&sync->lock);
    message.body.final = sync->final;
    pthread_mutex_unlock(&sync->lock);
    sync->final_said = true;
    if (sync->session != 0)
        sync_say(sync, &message);
}

static void do_job(struct sync_thread *sync, const struct sync_job *job) {
    const struct run_file *run = sync->options.run;
    switch (job->kind) {
    case SYNC_JOB_SEND:
        sync_upload_send(sync, &job->action);
        break;
    case SYNC_JOB_COUNTED:
        /* theta kept alpha of the difference, so that the residual keeps the other part. */
        if (run->sync.error_feedback)
            residual_settle(sync_packed_at(sync, sync->residual, job->fragment),
                            sync_packed_at(sync, sync->pending, job->fragment), 1.0f - (float)run->sync.keep_local,
                            sync->options.copy->fragments->list[job->fragment].count);
        sync->uploads[job->fragment].active = false;
        break;
    case SYNC_JOB_EXPIRE:
        sync->uploads[job->fragment].active = false;
        break;
    case SYNC_JOB_DONE:
        say_done(sync);
        break;
    case SYNC_JOB_FINAL:
        say_final(sync);
        break;
    }
}

void sync_do_jobs(struct sync_thread *sync) {
    for (;;) {
        pthread_mutex_lock(&sync->lock);
        bool have = sync->job_count > 0;
        struct sync_job job = sync->jobs[sync->job_first];
        if (have) {
            sync->job_first = (sync->job_first + 1) % SYNC_JOBS_MAX;
            sync->job_count--;
        }
        pthread_mutex_unlock(&sync->lock);
        if (!have)
            return;
        do_job(sync, &job);
    }
}

/* ---- sessions ---- */

static void say_hello(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_HELLO};
    message.body.hello = sync->options.hello;
    message.body.hello.resuming = true; /* also before START: it may have been lost on its way */
    message.body.hello.version_count = (uint32_t)sync->options.copy->fragments->count;
    memcpy(message.body.hello.versions, sync->prepared, sizeof message.body.hello.versions);
    sync->session = 0;
    sync->hello_us = clock_now_us();
    sync_say(sync, &message);
}

/* The outer pings four times a second. When it is silent on a link that stands, it has given this session up (we were stopped for a
 * while, or a copy of our key took the connection's place) and hears us no more: dial anew, for a new session. */
static void mind_silence(struct sync_thread *sync, uint64_t now_us) {
    uint64_t since_us = sync->heard_us > sync->hello_us ? sync->heard_us : sync->hello_us;
    if (sync->connected && now_us > since_us + SILENCE_US) {
        log_say(LOG_LEVEL_WARN, "the outer is silent: asking for a new session");
        sync->connected = false;
        worker_link_redial(sync->options.link);
    }
}

static void say_ready(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_READY};
    message.body.ready = sync->options.ready;
    sync_say(sync, &message);
}

/* A session begins, or begins again: everything that may have been lost with the old one is said again. */
static void on_welcome(struct sync_thread *sync, uint64_t session) {
    sync->session = session;
    pthread_mutex_lock(&sync->lock);
    bool started = sync->started;
    pthread_mutex_unlock(&sync->lock);
    if (!started) {
        say_ready(sync);
        return;
    }
    for (int f = 0; f < sync->options.copy->fragments->count; f++) {
        if (sync->uploads[f].active)
            sync_upload_offer(sync, (uint32_t)f);
        sync_download_resume(sync, (uint32_t)f);
    }
    if (sync->done_said)
        say_done(sync);
    if (sync->final_said)
        say_final(sync);
}

static void on_refuse(struct sync_thread *sync, const struct message_refuse *refuse) {
    sync_stop(sync, false, enrol_refusal_status(refuse->code), refuse->text);
}

static void on_finish(struct sync_thread *sync, const struct message_finish *finish) {
    if (finish->version_count != (uint32_t)sync->options.copy->fragments->count)
        return;
    sync_meter(sync, clock_now_us()); /* the final evaluation logs the bytes that it cost */
    pthread_mutex_lock(&sync->lock);
    sync->finished = true;
    memcpy(sync->final_versions, finish->versions, sizeof sync->final_versions);
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
}

static void on_members(struct sync_thread *sync, uint32_t evaluator_slot, bool start) {
    pthread_mutex_lock(&sync->lock);
    sync->evaluator_slot = evaluator_slot;
    sync->started = sync->started || start;
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
}

static void on_offer_refused(struct sync_thread *sync, const struct message_offer_refused *refused) {
    /* Only a commit resolves a record; the refusal just explains why it will not count. */
    log_event(sync->options.log, "refuse",
              json_pack("{s:s, s:i, s:I, s:i}", "what", "contribution", "fragment", (int)refused->fragment,
                        "base_version", (json_int_t)refused->base_version, "code", (int)refused->code));
}

static void on_message(struct sync_thread *sync, const struct message *message) {
    sync->heard_us = clock_now_us();
    if (message->type == MESSAGE_WELCOME) {
        on_welcome(sync, message->session);
        return;
    }
    if (message->type == MESSAGE_REFUSE) {
        on_refuse(sync, &message->body.refuse);
        return;
    }
    if (message->session != sync->session || sync->session == 0) {
        sync->foreign_sessions++;
        return;
    }
    struct message pong = {.type = MESSAGE_PONG};
    switch (message->type) {
    case MESSAGE_PING:
        pong.body.ping = message->body.ping;
        sync_say(sync, &pong);
        break;
    case MESSAGE_START:
        on_members(sync, message->body.start.evaluator_slot, true);
        break;
    case MESSAGE_MEMBERS:
        on_members(sync, message->body.members.evaluator_slot, false);
        break;
    case MESSAGE_GRANT:
        sync_upload_grant(sync, &message->body.grant);
        break;
    case MESSAGE_OFFER_REFUSED:
        on_offer_refused(sync, &message->body.offer_refused);
        break;
    case MESSAGE_COMMIT:
        sync_download_commit(sync, &message->body.commit);
        break;
    case MESSAGE_FINISH:
        on_finish(sync, &message->body.finish);
        break;
    case MESSAGE_END:
        pthread_mutex_lock(&sync->lock);
        sync->ended = true;
        sync_changed_locked(sync);
        pthread_mutex_unlock(&sync->lock);
        break;
    case MESSAGE_FAREWELL:
        pthread_mutex_lock(&sync->lock);
        sync->farewell = true;
        sync_changed_locked(sync);
        pthread_mutex_unlock(&sync->lock);
        break;
    case MESSAGE_STOP:
        sync_stop(sync, true, STATUS_OK, message->body.text.text);
        break;
    default:
        break;
    }
}

static void on_event(struct sync_thread *sync, const struct link_event *event) {
    switch (event->kind) {
    case LINK_EVENT_MESSAGE:
        on_message(sync, &event->message);
        break;
    case LINK_EVENT_CHUNK:
        sync_download_chunk(sync, &event->chunk, event->payload);
        break;
    case LINK_EVENT_CONNECTED:
        sync->connected = true;
        say_hello(sync);
        break;
    case LINK_EVENT_LOST:
        if (sync->session != 0)
            log_say(LOG_LEVEL_WARN, "the link to the outer is lost; training goes on, reconnecting");
        sync->session = 0;
        sync->connected = false;
        break;
    case LINK_EVENT_REFUSED:
        sync->connected = false;
        sync_stop(sync, false, event->error.status, event->error.text);
        break;
    case LINK_EVENT_NONE:
        break;
    }
}

/* ---- reports ---- */

void sync_meter(struct sync_thread *sync, uint64_t now_us) {
    static const uint64_t minute_us = 60000000;
    struct link_bytes bytes;
    worker_link_bytes(sync->options.link, &bytes);
    pthread_mutex_lock(&sync->lock);
    struct message_telemetry *t = &sync->telemetry;
    t->payload_up = sync->payload_up;
    t->payload_down = sync->payload_down;
    t->control_up = bytes.control_up;
    t->control_down = bytes.control_down;
    t->wire_up = bytes.control_up + bytes.bulk_up;
    t->wire_down = bytes.control_down + bytes.bulk_down;
    if (sync->rate_tokens_us == 0 || now_us - sync->rate_tokens_us > minute_us) {
        sync->rate_tokens = t->tokens;
        sync->rate_tokens_us = now_us;
    } else if (now_us > sync->rate_tokens_us) {
        t->tokens_per_s = (double)(t->tokens - sync->rate_tokens) * 1e6 / (double)(now_us - sync->rate_tokens_us);
    }
    pthread_mutex_unlock(&sync->lock);
    sync->retransmitted_up = bytes.retransmitted_up;
}

static void report(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_TELEMETRY};
    struct message_telemetry *t = &message.body.telemetry;
    sync_thread_telemetry(sync, t);
    log_event(sync->options.log, "link",
              json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "step", (json_int_t)t->step, "payload_up",
                        (json_int_t)t->payload_up, "payload_down", (json_int_t)t->payload_down, "wire_up",
                        (json_int_t)t->wire_up, "wire_down", (json_int_t)t->wire_down, "control_up",
                        (json_int_t)t->control_up, "control_down", (json_int_t)t->control_down, "retransmitted_up",
                        (json_int_t)sync->retransmitted_up, "wait_us", (json_int_t)t->wait_us, "eval_us",
                        (json_int_t)t->eval_us));
    if (sync->session != 0)
        sync_say(sync, &message);
}

/* What was not for us, or not well made, is dropped in silence while it comes; the sum is worth a line. */
static void say_drops(struct sync_thread *sync) {
    struct link_drops drops;
    worker_link_drops(sync->options.link, &drops);
    uint64_t total = drops.malformed + drops.wrong_identity + sync->foreign_sessions;
    if (total > 0)
        log_say(LOG_LEVEL_INFO, "%llu messages were dropped: %llu malformed, %llu of other sessions",
                (unsigned long long)total, (unsigned long long)drops.malformed,
                (unsigned long long)sync->foreign_sessions);
}

static bool is_closing(struct sync_thread *sync, struct message *goodbye) {
    pthread_mutex_lock(&sync->lock);
    bool closing = sync->closing;
    memcpy(goodbye->body.text.text, sync->goodbye, sizeof sync->goodbye);
    pthread_mutex_unlock(&sync->lock);
    return closing;
}

void *sync_net_main(void *argument) {
    struct sync_thread *sync = argument;
    struct link_event *event = calloc(1, sizeof *event);
    struct message goodbye = {.type = MESSAGE_GOODBYE};
    struct error error;
    CHECK(event != NULL);
    if (float_environment_check(&error) != STATUS_OK)
        sync_stop(sync, false, error.status, error.text);
    sync->connected = true;
    sync->heard_us = clock_now_us();
    say_ready(sync);
    sync->next_report_us = clock_now_us() + REPORT_US;
    uint64_t next_meter_us = 0;
    while (!is_closing(sync, &goodbye)) {
        sync_do_jobs(sync);
        sync_download_prepare(sync);
        uint64_t now_us = clock_now_us();
        if (now_us >= next_meter_us) {
            sync_meter(sync, now_us);
            next_meter_us = now_us + METER_US;
        }
        if (now_us >= sync->next_report_us) {
            report(sync);
            sync->next_report_us = now_us + REPORT_US;
        }
        uint64_t timeout_us = sync_upload_pump(sync, now_us);
        for (int i = 0; i < EVENTS_PER_TURN; i++) {
            worker_link_receive(sync->options.link, i == 0 ? timeout_us : 0, event);
            if (event->kind == LINK_EVENT_NONE)
                break;
            on_event(sync, event);
        }
        mind_silence(sync, clock_now_us());
    }
    if (sync->session != 0)
        sync_say(sync, &goodbye);
    sync->session = 0; /* what follows is for the log only */
    say_drops(sync);
    sync_meter(sync, clock_now_us());
    report(sync);
    free(event);
    return NULL;
}
