/* sync_net: the sync thread itself: its loop, sessions, what the outer says, reports. Contributions go out through sync_upload.c, versions come
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

enum {
    METER_US = 500000,
    REPORT_US = 1000000,
    UNHEARD_US = 1000000,
    SILENCE_US = 10000000,
    RELINK_US = 2000000,
    RECOVER_TURN_US = 20000,
    NOBODY_SAID_US = 60000000,
    EXPIRED_SAID_US = 60000000,
    EVENTS_PER_TURN = 64,
    STALL_CHUNKS = 4,
};

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
    /* Lost with the link: what matters is said again after the next WELCOME. */
    if (worker_link_send(sync->link, message) == STATUS_OK)
        pace_charge_control(&sync->pace, worker_link_encoded_bytes(sync->link), clock_now_us());
}

/* ---- jobs of the compute thread ---- */

/* Not so when a WELCOME with more steps came in between. */
static bool is_at_the_end_locked(const struct sync_thread *sync) {
    return sync->machine.phase != SYNC_PHASE_TRAINING && !sync->goes_on;
}

/* At the step of the run clock, where that has led here. */
static void say_done(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_DONE};
    pthread_mutex_lock(&sync->lock);
    uint64_t own = sync->machine.step, clock = sync->telemetry.step;
    message.body.done = (struct message_done){own > clock ? own : clock, sync->machine.tokens};
    sync->done_said = is_at_the_end_locked(sync);
    pthread_mutex_unlock(&sync->lock);
    if (sync->done_said && sync->session != 0)
        sync_say(sync, &message);
}

static void say_final(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_FINAL};
    pthread_mutex_lock(&sync->lock);
    message.body.final = sync->final;
    sync->final_said = is_at_the_end_locked(sync);
    pthread_mutex_unlock(&sync->lock);
    if (sync->final_said && sync->session != 0)
        sync_say(sync, &message);
}

bool sync_feeds_errors(const struct sync_thread *sync) {
    return sync->options.run->sync.error_feedback && !sync->options.copy->codec_up->exact;
}

static void do_job(struct sync_thread *sync, const struct sync_job *job) {
    const struct run_file *run = sync->options.run;
    switch (job->kind) {
    case SYNC_JOB_SEND:
        sync_upload_send(sync, &job->action);
        break;
    case SYNC_JOB_COUNTED:
        /* theta kept alpha of the difference, so that the residual keeps the other part. */
        if (sync_feeds_errors(sync))
            residual_settle(sync_packed_at(sync, sync->residual, job->fragment),
                            sync_packed_at(sync, sync->pending, job->fragment), 1.0f - (float)run->sync.keep_local,
                            sync->options.copy->fragments->list[job->fragment].count);
        sync->uploads[job->fragment].active = false;
        sync->uploads[job->fragment].expired = 0;
        break;
    case SYNC_JOB_COVERED:
        if (sync_feeds_errors(sync)) /* else it is zero, in pages that nobody touched */
            memset(sync_packed_at(sync, sync->residual, job->fragment), 0,
                   sync->options.copy->fragments->list[job->fragment].count * sizeof(float));
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
    case SYNC_JOB_SAVE:
        sync_save(sync);
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

/* What this worker holds: an outer that lost its state, or a part of it, takes it over from here. */
static void say_hello(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_HELLO};
    struct message_hello *hello = &message.body.hello;
    *hello = sync->options.hello;
    hello->resuming = true; /* also before START: it may have been lost on its way */
    hello->run_step = hello->members_mask = 0;
    hello->head_count = sync->follow.fragments;
    for (uint32_t f = 0; f < hello->head_count; f++) {
        hello->heads[f] = sync->follow.list[f].held;
        worker_version_note(&sync->held[f], &hello->run_step, &hello->members_mask);
    }
    sync->session = 0;
    sync->hello_us = clock_now_us();
    sync_download_welcome(sync); /* nothing of an older session counts any more, and nothing is prepared before STATE */
    sync_say(sync, &message);
}

static void dial_anew(struct sync_thread *sync, const char *why) {
    log_say(LOG_LEVEL_WARN, "%s: asking for a new session", why);
    sync->connected = false;
    worker_link_redial(sync->link);
}

/* The outer pings four times a second. When it is silent on a link that stands, it has given this session up (we were stopped for a
 * while, or a copy of our key took the connection's place) and hears us no more: dial anew, for a new session. */
static void mind_silence(struct sync_thread *sync, uint64_t now_us) {
    uint64_t since_us = sync->heard_us > sync->hello_us ? sync->heard_us : sync->hello_us;
    if (sync->connected && now_us > since_us + SILENCE_US)
        dial_anew(sync, "the outer is silent");
}

/* For who waits for the outer. Judged behind what has arrived: this thread may have been busy for long. */
static void note_unheard(struct sync_thread *sync, uint64_t now_us) {
    bool unheard = now_us > sync->heard_us + UNHEARD_US;
    pthread_mutex_lock(&sync->lock);
    if (unheard != sync->unheard) {
        sync->unheard = unheard;
        sync_changed_locked(sync);
    }
    pthread_mutex_unlock(&sync->lock);
}

/* Bytes were asked for and none come, although the outer pings: the bulk link is half open. An outer with a cap of its own (outer.link) may
 * serve all others first: turns of STALL_CHUNKS chunks. */
static void mind_stall(struct sync_thread *sync, uint64_t now_us) {
    const struct run_file *run = sync->options.run;
    struct link_bytes bytes;
    uint64_t turn_bytes = STALL_CHUNKS * (uint64_t)MESSAGE_CHUNK_BYTES_MAX * MESSAGE_WORKERS_MAX;
    uint64_t patience_us = SILENCE_US;
    if (run->outer.link_bytes_per_s != 0)
        patience_us += turn_bytes * 1000000 / run->outer.link_bytes_per_s;
    worker_link_bytes(sync->link, &bytes);
    if (!sync->connected || !sync_download_is_owed(sync) || bytes.bulk_down != sync->bulk_bytes) {
        sync->bulk_bytes = bytes.bulk_down;
        sync->bulk_us = now_us;
    } else if (now_us > sync->bulk_us + patience_us) {
        dial_anew(sync, "the bulk link to the outer is silent");
    }
}

static void say_ready(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_READY};
    message.body.ready = sync->options.ready;
    pthread_mutex_lock(&sync->lock);
    message.body.ready.tokens = sync->machine.tokens;
    pthread_mutex_unlock(&sync->lock);
    sync_say(sync, &message);
}

/* The outer may have been started again with other inner.steps or eval. With more steps, what was said and heard of the end was of another
 * run: an outer that stands at it says so again. */
static void note_continued(struct sync_thread *sync, const struct message_welcome *welcome) {
    struct sync_continued now;
    if (!sync->options.read_continued(sync->options.context, welcome, &now))
        return;
    pthread_mutex_lock(&sync->lock);
    const struct sync_continued *was = &sync->continued;
    bool more = now.steps > was->steps;
    if (more || now.steps < was->steps || now.eval.every_steps != was->eval.every_steps ||
        now.eval.windows != was->eval.windows)
        sync->continued_news = true;
    sync->continued = now;
    if (more) {
        sync->goes_on = true;
        sync->ended = sync->finished = false;
    }
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
    if (more)
        sync->done_said = sync->final_said = false;
}

/* A session begins, or begins again. What the outer leads from comes with STATE; until then nothing else is said. */
static void on_welcome(struct sync_thread *sync, const struct message_welcome *welcome, uint64_t session) {
    sync->session = session;
    note_continued(sync, welcome);
    sync_upload_resume(sync);
    sync_download_welcome(sync);
    say_ready(sync);
}

static void on_state(struct sync_thread *sync, const struct message_state *state) {
    struct sync_actions none = {0};
    for (uint32_t f = 0; f < sync->follow.fragments; f++)
        sync_upload_end_serving(sync, f);
    pthread_mutex_lock(&sync->lock);
    sync_step(&sync->machine, &(struct sync_event){.kind = SYNC_EVENT_COUNTER, .tokens = state->tokens}, &none);
    sync->started = sync->started || state->started;
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
    sync_download_state(sync, state);
}

/* In the order in which they were sent first: the outer takes the newest offer for how far a member is. */
static void offer_again(struct sync_thread *sync) {
    uint64_t after = 0;
    for (;;) {
        uint64_t next = UINT64_MAX;
        for (uint32_t f = 0; f < sync->follow.fragments; f++) {
            uint64_t step = sync->uploads[f].contribution.send_step;
            if (sync->uploads[f].active && step > after && step < next)
                next = step;
        }
        if (next == UINT64_MAX)
            return;
        for (uint32_t f = 0; f < sync->follow.fragments; f++)
            if (sync->uploads[f].active && sync->uploads[f].contribution.send_step == next)
                sync_upload_offer(sync, f);
        after = next;
    }
}

void sync_say_joined(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_JOINED};
    pthread_mutex_lock(&sync->lock);
    message.body.joined = (struct message_joined){sync_joined_step(&sync->machine), sync->machine.tokens};
    sync->joined = sync->returning = true;
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
    if (sync->session == 0)
        return;
    sync_say(sync, &message);
    offer_again(sync);
    if (sync->done_said)
        say_done(sync);
    if (sync->final_said)
        say_final(sync);
}

static void on_refuse(struct sync_thread *sync, const struct message_refuse *refuse) {
    sync_stop(sync, false, enrol_refusal_status(refuse->code), refuse->text);
}

static void on_end(struct sync_thread *sync) {
    pthread_mutex_lock(&sync->lock);
    sync->ended = true;
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
    if (sync->done_said)
        say_done(sync); /* an outer from before its END did not take it, since the last step was not reached */
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
    if (sync->final_said)
        say_final(sync); /* an outer that was restarted from before its FINISH */
}

static void on_members(struct sync_thread *sync, uint32_t evaluator_slot, bool start) {
    pthread_mutex_lock(&sync->lock);
    sync->evaluator_slot = evaluator_slot;
    sync->started = sync->started || start;
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
}

/* Once may be an absence. Who never counts has to hear of it. */
static void note_expired(struct sync_thread *sync, uint32_t f) {
    char text[MESSAGE_TEXT_BYTES];
    uint64_t now_us = clock_now_us();
    uint32_t times = ++sync->uploads[f].expired;
    if (times < 2 || (sync->expired_said_us != 0 && now_us < sync->expired_said_us + EXPIRED_SAID_US))
        return;
    sync->expired_said_us = now_us;
    run_sync_say_expired(sync->options.run, f, times, text, sizeof text);
    log_say(LOG_LEVEL_WARN, "%s", text);
}

static void on_offer_refused(struct sync_thread *sync, const struct message_offer_refused *refused) {
    /* Only a commit resolves a record; the refusal just explains why it will not count. But for a bad content: that work is worth nothing. */
    log_event(sync->options.log, "refuse",
              json_pack("{s:s, s:i, s:I, s:i}", "what", "contribution", "fragment", (int)refused->fragment,
                        "base_version", (json_int_t)refused->base_version, "code", (int)refused->code));
    if (refused->fragment >= sync->follow.fragments)
        return;
    struct sync_upload *upload = &sync->uploads[refused->fragment];
    upload->again = refused->code == OFFER_REFUSED_DUPLICATE && upload->active &&
                    upload->contribution.base_version == refused->base_version;
    if (refused->code == OFFER_REFUSED_STALE)
        note_expired(sync, refused->fragment);
    if (refused->code != OFFER_REFUSED_NOT_FINITE && refused->code != OFFER_REFUSED_NORM)
        return;
    struct sync_actions none = {0};
    struct sync_event event = {
        .kind = SYNC_EVENT_REFUSED, .fragment = refused->fragment, .version = refused->base_version};
    log_say(LOG_LEVEL_WARN, "the outer refused this worker's fragment %u (%s): it starts anew from the outer copy",
            refused->fragment, refused->code == OFFER_REFUSED_NORM ? "far larger than the others'" : "not finite");
    pthread_mutex_lock(&sync->lock);
    sync_step(&sync->machine, &event, &none);
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
}

static void on_drain(struct sync_thread *sync, const char *text) {
    pthread_mutex_lock(&sync->lock);
    sync->drained = true;
    snprintf(sync->drain_reason, sizeof sync->drain_reason, "%s", text);
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
}

static void on_message(struct sync_thread *sync, const struct message *message) {
    sync->heard_us = clock_now_us();
    if (message->type == MESSAGE_WELCOME) {
        on_welcome(sync, &message->body.welcome, message->session);
        return;
    }
    if (message->type == MESSAGE_REFUSE) {
        on_refuse(sync, &message->body.refuse);
        return;
    }
    if (message->type == MESSAGE_PING && message->session == 0 && sync->session != 0) {
        dial_anew(sync, "the outer gave this session up");
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
    case MESSAGE_STATE:
        on_state(sync, &message->body.state);
        break;
    case MESSAGE_COMMIT:
        sync_download_commit(sync, &message->body.commit);
        break;
    case MESSAGE_SNAPSHOT:
        sync_download_snapshot(sync, &message->body.snapshot);
        break;
    case MESSAGE_FETCH:
        sync_upload_fetched(sync, &message->body.fetch);
        break;
    case MESSAGE_DRAIN:
        on_drain(sync, message->body.text.text);
        break;
    case MESSAGE_FINISH:
        on_finish(sync, &message->body.finish);
        break;
    case MESSAGE_END:
        on_end(sync);
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

/* ---- the link gave up ---- */

static bool bears_state(struct sync_thread *sync) {
    pthread_mutex_lock(&sync->lock);
    bool bears = sync->joined || sync->options.resume;
    pthread_mutex_unlock(&sync->lock);
    return bears;
}

/* The link's last word. Nobody there: who bears state dials on for hours, since an outer that lost its own needs it. What looks like another key may
 * be a line that flips bits: this key's outer was there before. Not on its list: the outer may have lost that as well, and hears the certificate.
 * All else is final. */
static void on_link_refused(struct sync_thread *sync, const struct link_event *event) {
    uint64_t now_us = clock_now_us();
    bool nobody = event->error.status == STATUS_UNREACHABLE || event->refusal == LINK_REFUSAL_OTHER_KEY;
    sync->session = 0;
    sync->connected = false;
    sync->recover = event->refusal == LINK_REFUSAL_NOT_LISTED;
    if (!sync->recover && !(nobody && bears_state(sync))) {
        sync_stop(sync, false, event->error.status, event->error.text);
        return;
    }
    sync->relink_us = now_us + RELINK_US;
    if (nobody && (sync->nobody_said_us == 0 || now_us >= sync->nobody_said_us + NOBODY_SAID_US)) {
        sync->nobody_said_us = now_us;
        log_say(LOG_LEVEL_WARN, "%s; this worker keeps its state and dials on", event->error.text);
    }
}

static void close_link(void *link) {
    worker_link_close(link);
}

/* A new link, when its time has come. */
static void consider_relink(struct sync_thread *sync, uint64_t now_us) {
    struct error error;
    struct worker_link *link, *old = sync->link;
    struct link_bytes last;
    if (sync->relink_us == 0 || now_us < sync->relink_us || !aside_is_free(&sync->closing_link))
        return;
    enum status status = STATUS_OK;
    bool done = true;
    if (sync->recover)
        status = sync->options.recover(sync->options.context, &sync->options.link_options, &done, &error);
    if (!done)
        return;
    if (status == STATUS_OK)
        status = worker_link_open(&sync->options.link_options, &link, &error);
    if (status == STATUS_UNREACHABLE || status == STATUS_AGAIN) {
        sync->relink_us = clock_now_us() + RELINK_US;
        return;
    }
    sync->relink_us = 0;
    if (status != STATUS_OK) {
        sync_stop(sync, false, status, error.text);
        return;
    }
    if (sync->recover)
        log_event(sync->options.log, "recover", json_pack("{s:s}", "what", "listed again"));
    worker_link_bytes(old, &last);
    sync->bytes_before.control_up += last.control_up;
    sync->bytes_before.control_down += last.control_down;
    sync->bytes_before.bulk_up += last.bulk_up;
    sync->bytes_before.bulk_down += last.bulk_down;
    sync->bytes_before.retransmitted_up += last.retransmitted_up;
    pthread_mutex_lock(&sync->lock);
    sync->link = link;
    pthread_mutex_unlock(&sync->lock);
    aside_run(&sync->closing_link, close_link, old);
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
        sync->nobody_said_us = 0;
        say_hello(sync);
        break;
    case LINK_EVENT_LOST:
        if (sync->session != 0)
            log_say(LOG_LEVEL_WARN, "the link to the outer is lost; %s, reconnecting",
                    sync->started ? "training goes on" : "training has not begun yet");
        sync->session = 0;
        sync->connected = false;
        break;
    case LINK_EVENT_REFUSED:
        on_link_refused(sync, event);
        break;
    case LINK_EVENT_NONE:
        break;
    }
}

/* ---- reports ---- */

void sync_meter(struct sync_thread *sync, uint64_t now_us) {
    static const uint64_t minute_us = 60000000;
    struct link_bytes bytes;
    worker_link_bytes(sync->link, &bytes);
    bytes.control_up += sync->bytes_before.control_up;
    bytes.control_down += sync->bytes_before.control_down;
    bytes.bulk_up += sync->bytes_before.bulk_up;
    bytes.bulk_down += sync->bytes_before.bulk_down;
    bytes.retransmitted_up += sync->bytes_before.retransmitted_up;
    pthread_mutex_lock(&sync->lock);
    struct message_telemetry *t = &sync->telemetry;
    t->tokens = sync->machine.tokens;
    t->payload_up = sync->payload_up;
    t->payload_down = sync->payload_down;
    t->control_up = bytes.control_up;
    t->control_down = bytes.control_down;
    t->wire_up = bytes.control_up + bytes.bulk_up;
    t->wire_down = bytes.control_down + bytes.bulk_down;
    if (sync->rate_us == 0 || now_us - sync->rate_us > minute_us) {
        sync->rate_trained = sync->trained;
        sync->rate_us = now_us;
    } else if (now_us > sync->rate_us) {
        t->tokens_per_s = (double)(sync->trained - sync->rate_trained) * 1e6 / (double)(now_us - sync->rate_us);
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
    worker_link_drops(sync->link, &drops);
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
            mind_stall(sync, now_us);
            sync_meter(sync, now_us);
            next_meter_us = now_us + METER_US;
        }
        if (now_us >= sync->next_report_us) {
            report(sync);
            sync->next_report_us = now_us + REPORT_US;
        }
        uint64_t timeout_us = sync_upload_pump(sync, now_us);
        if (sync->relink_us != 0 && sync->recover && timeout_us > RECOVER_TURN_US)
            timeout_us = RECOVER_TURN_US; /* the link waited on is over, it cannot tell when there is an answer */
        for (int i = 0; i < EVENTS_PER_TURN; i++) {
            worker_link_receive(sync->link, i == 0 ? timeout_us : 0, event);
            if (event->kind == LINK_EVENT_NONE)
                break;
            on_event(sync, event);
        }
        note_unheard(sync, clock_now_us());
        mind_silence(sync, clock_now_us());
        consider_relink(sync, clock_now_us());
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
