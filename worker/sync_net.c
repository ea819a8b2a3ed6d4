/* sync_net: the sync thread itself: link, codecs, the outer step on the worker's own copy. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "quant/residual.h"
#include "worker/enrol.h"
#include "worker/sync_state.h"

enum { TURN_US = 50000, METER_US = 100000, REPORT_US = 1000000, SILENCE_US = 10000000, EVENTS_PER_TURN = 64, DOWNLOAD_WINDOW_BYTES = 1 << 20, CONTROL_BYTES = 256 };

static float *packed_at(struct sync_thread *sync, float *block, uint32_t f) {
    return block + sync->options.copy->offsets[f];
}

static void stop(struct sync_thread *sync, bool orderly, enum status status, const char *text) {
    pthread_mutex_lock(&sync->lock);
    sync_stop_locked(sync, orderly, status, text);
    pthread_mutex_unlock(&sync->lock);
}

static void say(struct sync_thread *sync, struct message *message) {
    message->session = sync->session;
    pace_charge(&sync->pace, CONTROL_BYTES, clock_now_us());
    (void)!worker_link_send(sync->options.link, message); /* lost with the link: what matters is said again after the next WELCOME */
}

/* ---- sending a fragment ---- */

static void say_offer(struct sync_thread *sync, uint32_t f) {
    struct message message = {.type = MESSAGE_OFFER};
    message.body.offer = sync->uploads[f].contribution;
    if (sync->session != 0)
        say(sync, &message);
}

/* x = (g - theta) + e; payload = Q(x); e' = x - decode(payload). */
static enum status encode(struct sync_thread *sync, uint32_t f, size_t payload_bytes) {
    const struct outer_copy *copy = sync->options.copy;
    const struct fragment *fragment = &copy->fragments->list[f];
    float *x = packed_at(sync, sync->difference, f);
    float *pending = packed_at(sync, sync->pending, f);
    uint8_t *payload = sync->uploads[f].payload;
    bool feedback = sync->options.run->sync.error_feedback;
    if (feedback)
        residual_add(x, packed_at(sync, sync->residual, f), fragment->count);
    enum status status = codec_encode_spans(copy->codec_up, fragment->spans, fragment->span_count, x, payload);
    if (status != STATUS_OK || !feedback)
        return status;
    status = codec_decode_spans(copy->codec_up, fragment->spans, fragment->span_count, payload, payload_bytes, pending);
    residual_left_out(x, pending, pending, fragment->count);
    return status;
}

static void send_fragment(struct sync_thread *sync, const struct sync_action *action) {
    uint32_t f = action->fragment;
    struct sync_upload *upload = &sync->uploads[f];
    uint64_t started_us = clock_now_us();
    size_t bytes = outer_copy_payload_up(sync->options.copy, (int)f);
    if (encode(sync, f, bytes) != STATUS_OK) {
        char text[MESSAGE_TEXT_BYTES];
        snprintf(text, sizeof text, "fragment %u (%s) holds values that are not finite at step %llu: this island diverged; lower inner.lr", f,
                 sync->options.copy->fragments->list[f].name, (unsigned long long)action->step);
        stop(sync, false, STATUS_NOT_FINITE, text);
        return;
    }
    upload->contribution = (struct contribution){.slot = sync->options.hello.slot,
                                                 .incarnation = sync->options.hello.incarnation,
                                                 .fragment = f,
                                                 .base_version = action->version,
                                                 .send_step = action->step,
                                                 .tokens_from = action->tokens_from,
                                                 .tokens_to = action->tokens_to,
                                                 .payload_bytes = bytes};
    transfer_payload_hash(upload->payload, bytes, upload->contribution.payload_hash);
    struct transfer_key key = {TRANSFER_CONTRIBUTION, 0, f, action->version};
    transfer_sender_open(&upload->sender, key, upload->payload, bytes);
    upload->active = true;
    log_event(sync->options.log, "sync_send",
              json_pack("{s:I, s:i, s:I, s:I, s:I, s:I, s:I}", "step", (json_int_t)action->step, "fragment", (int)f, "base_version",
                        (json_int_t)action->version, "tokens_from", (json_int_t)action->tokens_from, "tokens_to",
                        (json_int_t)action->tokens_to, "payload_bytes", (json_int_t)bytes, "encode_us",
                        (json_int_t)(clock_now_us() - started_us)));
    say_offer(sync, f);
}

/* One chunk of an upload; false when none may go now, *delay_us lowered to when one could. */
static bool pump_one(struct sync_thread *sync, uint64_t now_us, uint64_t *delay_us) {
    uint32_t fragments = (uint32_t)sync->options.copy->fragments->count;
    for (uint32_t i = 0; i < fragments; i++) {
        uint32_t f = (sync->next_upload + i) % fragments;
        struct sync_upload *upload = &sync->uploads[f];
        struct transfer_sender before = upload->sender;
        struct chunk chunk;
        if (!upload->active || !transfer_sender_next(&upload->sender, sync->chunk_bytes, &chunk))
            continue;
        uint64_t delay = pace_delay_us(&sync->pace, chunk.bytes, now_us);
        chunk.session = sync->session;
        if (delay == 0 && worker_link_send_chunk(sync->options.link, &chunk, upload->payload + chunk.offset) == STATUS_OK) {
            CHECK(pace_take(&sync->pace, chunk.bytes, now_us));
            sync->payload_up += chunk.bytes;
            sync->next_upload = f;
            return true;
        }
        upload->sender = before;
        if (delay == 0)
            delay = 10000; /* bulk queue full, or its connection is not up yet */
        *delay_us = delay < *delay_us ? delay : *delay_us;
        return false;
    }
    return false;
}

static uint64_t pump(struct sync_thread *sync, uint64_t now_us) {
    uint64_t delay_us = TURN_US;
    for (int i = 0; sync->session != 0 && i < 8; i++) {
        if (!pump_one(sync, now_us, &delay_us))
            return delay_us;
    }
    return sync->session != 0 ? 0 : delay_us;
}

/* ---- jobs of the compute thread ---- */

static void say_done(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_DONE};
    pthread_mutex_lock(&sync->lock);
    message.body.done = (struct message_done){sync->machine.step, sync->machine.tokens};
    pthread_mutex_unlock(&sync->lock);
    sync->done_said = true;
    if (sync->session != 0)
        say(sync, &message);
}

static void say_final(struct sync_thread *sync) {
    struct message message = {.type = MESSAGE_FINAL};
    pthread_mutex_lock(&sync->lock);
    message.body.final = sync->final;
    pthread_mutex_unlock(&sync->lock);
    sync->final_said = true;
    if (sync->session != 0)
        say(sync, &message);
}

static void do_job(struct sync_thread *sync, const struct sync_job *job) {
    const struct run_file *run = sync->options.run;
    switch (job->kind) {
    case SYNC_JOB_SEND:
        send_fragment(sync, &job->action);
        break;
    case SYNC_JOB_COUNTED:
        /* theta kept alpha of the difference, so that the residual keeps the other part. */
        if (run->sync.error_feedback)
            residual_settle(packed_at(sync, sync->residual, job->fragment), packed_at(sync, sync->pending, job->fragment),
                            1.0f - (float)run->sync.keep_local, sync->options.copy->fragments->list[job->fragment].count);
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

static void do_jobs(struct sync_thread *sync) {
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

/* ---- receiving commits ---- */

static struct sync_incoming *incoming_at(struct sync_thread *sync, uint32_t f, uint32_t index) {
    return &sync->incoming[f][(sync->incoming_first[f] + index) % SYNC_COMMITS_QUEUED];
}

static void say_grant(struct sync_thread *sync, struct sync_incoming *incoming) {
    struct message message = {.type = MESSAGE_GRANT};
    if (sync->session != 0 && !incoming->complete && transfer_receiver_grant(&incoming->receiver, &message.body.grant))
        say(sync, &message);
}

static uint64_t download_window(const struct sync_thread *sync) {
    uint64_t cap = sync->options.down_bytes_per_s;
    uint64_t chunk = transfer_chunk_bytes(cap);
    uint64_t window = cap == 0 || cap / 2 > DOWNLOAD_WINDOW_BYTES ? DOWNLOAD_WINDOW_BYTES : cap / 2;
    return window > 2 * chunk ? window : 2 * chunk;
}

/* The outer keeps one download per fragment and session: the oldest commit that is not whole is fetched, then the next. */
static void fetch(struct sync_thread *sync, uint32_t f) {
    for (uint32_t i = 0; i < sync->incoming_count[f]; i++)
        if (!incoming_at(sync, f, i)->complete) {
            say_grant(sync, incoming_at(sync, f, i));
            return;
        }
}

static void on_commit(struct sync_thread *sync, const struct commit *commit) {
    struct error error;
    uint32_t f = commit->fragment;
    if (f >= (uint32_t)sync->options.copy->fragments->count || memcmp(commit->run_id, sync->options.run_id, sizeof commit->run_id) != 0)
        return;
    if (commit_verify(commit, sync->options.sign_key, &error) != STATUS_OK ||
        commit->payload_bytes != outer_copy_payload_down(sync->options.copy, (int)f)) {
        log_say(LOG_LEVEL_WARN, "dropped a commit of fragment %u: signature or size is wrong", f);
        return;
    }
    if (commit->version != sync->prepared[f] + sync->incoming_count[f] + 1)
        return; /* known already: replayed after a reconnect */
    if (sync->incoming_count[f] == SYNC_COMMITS_QUEUED) {
        stop(sync, false, STATUS_AGAIN, "this worker fell too many commits behind the run");
        return;
    }
    struct sync_incoming *incoming = incoming_at(sync, f, sync->incoming_count[f]++);
    *incoming = (struct sync_incoming){.commit = *commit, .payload = malloc(commit->payload_bytes)};
    CHECK(incoming->payload != NULL);
    struct transfer_key key = {TRANSFER_COMMIT, 0, f, commit->version};
    transfer_receiver_open(&incoming->receiver, key, incoming->payload, commit->payload_bytes, download_window(sync),
                           commit->payload_hash);
    fetch(sync, f);
}

static bool counts_me(const struct sync_thread *sync, const struct commit *commit) {
    for (uint32_t i = 0; i < commit->counted_count; i++)
        if (commit->counted[i].slot == sync->options.hello.slot && commit->counted[i].incarnation == sync->options.hello.incarnation)
            return true;
    return false;
}

/* decode, outer step into the staging place, hash against the commit's. */
static bool apply(struct sync_thread *sync, const struct sync_incoming *incoming) {
    const struct outer_copy *copy = sync->options.copy;
    uint32_t f = incoming->commit.fragment;
    const struct fragment *fragment = &copy->fragments->list[f];
    struct state_hash hash;
    char text[MESSAGE_TEXT_BYTES], ours[2 * STATE_HASH_BYTES + 1], theirs[2 * STATE_HASH_BYTES + 1];
    if (memcmp(incoming->commit.parent, sync->heads[f], sizeof sync->heads[f]) != 0) {
        snprintf(text, sizeof text, "version %llu of fragment %u does not follow what this worker holds",
                 (unsigned long long)incoming->commit.version, f);
        stop(sync, false, STATUS_DATA, text);
        return false;
    }
    if (codec_decode_spans(copy->codec_down, fragment->spans, fragment->span_count, incoming->payload, incoming->commit.payload_bytes,
                           sync->delta) != STATUS_OK) {
        stop(sync, false, STATUS_DATA, "a commit's payload does not decode");
        return false;
    }
    outer_step_apply(&copy->optimizer, packed_at(sync, copy->g, f), packed_at(sync, copy->u, f), sync->delta,
                     packed_at(sync, sync->next, f), fragment->count);
    outer_copy_hash(copy, (int)f, packed_at(sync, sync->next, f), &hash);
    bytes_to_hex(hash.bytes, sizeof hash.bytes, ours);
    if (memcmp(hash.bytes, incoming->commit.state_hash, sizeof hash.bytes) == 0)
        return true;
    bytes_to_hex(incoming->commit.state_hash, sizeof hash.bytes, theirs);
    snprintf(text, sizeof text, "fragment %u version %llu: state hash %s here, %s at the outer; this machine's arithmetic or memory is wrong", f,
             (unsigned long long)incoming->commit.version, ours, theirs);
    stop(sync, false, STATUS_DATA, text);
    return false;
}

/* Prepare the oldest whole commit of the fragment when its staging place is free. */
static bool prepare(struct sync_thread *sync, uint32_t f) {
    struct sync_incoming *incoming = incoming_at(sync, f, 0);
    if (sync->incoming_count[f] == 0 || !incoming->complete)
        return false;
    pthread_mutex_lock(&sync->lock);
    bool busy = sync->machine.fragments[f].ready || sync->stopped;
    pthread_mutex_unlock(&sync->lock);
    if (busy)
        return false;
    do_jobs(sync); /* a settle of this fragment comes before whatever the next version brings */
    if (!apply(sync, incoming))
        return false;
    const struct commit *commit = &incoming->commit;
    bool mine = counts_me(sync, commit);
    char hex[2 * MESSAGE_STATE_HASH_BYTES + 1];
    bytes_to_hex(commit->state_hash, MESSAGE_STATE_HASH_BYTES, hex);
    log_event(sync->options.log, "commit",
              json_pack("{s:i, s:I, s:I, s:b, s:I, s:s}", "fragment", (int)f, "version", (json_int_t)commit->version, "run_step",
                        (json_int_t)commit->run_step, "counted", mine, "payload_bytes", (json_int_t)commit->payload_bytes, "state_hash",
                        hex));
    struct message message = {.type = MESSAGE_APPLIED};
    message.body.applied = (struct message_applied){.fragment = f, .version = commit->version};
    memcpy(message.body.applied.state_hash, commit->state_hash, sizeof commit->state_hash);
    if (sync->session != 0)
        say(sync, &message);
    commit_hash(commit, sync->heads[f]);
    sync->prepared[f] = commit->version;
    struct sync_event ready = {.kind = SYNC_EVENT_READY, .fragment = f, .version = commit->version, .counts_me = mine};
    free(incoming->payload);
    incoming->payload = NULL;
    sync->incoming_first[f] = (sync->incoming_first[f] + 1) % SYNC_COMMITS_QUEUED;
    sync->incoming_count[f]--;
    struct sync_actions none = {0};
    pthread_mutex_lock(&sync->lock);
    sync_step(&sync->machine, &ready, &none);
    sync_changed_locked(sync);
    pthread_mutex_unlock(&sync->lock);
    return true;
}

static void prepare_all(struct sync_thread *sync) {
    for (int f = 0; f < sync->options.copy->fragments->count; f++)
        while (prepare(sync, (uint32_t)f))
            continue;
}

static void on_chunk(struct sync_thread *sync, const struct chunk *chunk, const uint8_t *payload) {
    uint32_t f = chunk->key.fragment;
    if (chunk->session != sync->session || chunk->key.kind != TRANSFER_COMMIT || f >= (uint32_t)sync->options.copy->fragments->count) {
        sync->foreign_sessions++;
        return;
    }
    for (uint32_t i = 0; i < sync->incoming_count[f]; i++) {
        struct sync_incoming *incoming = incoming_at(sync, f, i);
        if (incoming->commit.version != chunk->key.version || incoming->complete)
            continue;
        switch (transfer_receiver_chunk(&incoming->receiver, chunk, payload)) {
        case TRANSFER_COMPLETE:
            incoming->complete = true;
            sync->payload_down += chunk->bytes;
            break;
        case TRANSFER_TAKEN:
            sync->payload_down += chunk->bytes;
            break;
        case TRANSFER_BAD_HASH:
            log_say(LOG_LEVEL_WARN, "a commit's bytes do not match their hash: fetching them again");
            transfer_receiver_reset_credit(&incoming->receiver);
            break;
        case TRANSFER_DUPLICATE:
        case TRANSFER_HOSTILE:
            break;
        }
    }
    fetch(sync, f);
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
    say(sync, &message);
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
    say(sync, &message);
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
            say_offer(sync, (uint32_t)f);
        for (uint32_t i = 0; i < sync->incoming_count[f]; i++)
            transfer_receiver_reset_credit(&incoming_at(sync, (uint32_t)f, i)->receiver);
        fetch(sync, (uint32_t)f);
    }
    if (sync->done_said)
        say_done(sync);
    if (sync->final_said)
        say_final(sync);
}

static void on_refuse(struct sync_thread *sync, const struct message_refuse *refuse) {
    stop(sync, false, enrol_refusal_status(refuse->code), refuse->text);
}

static void on_finish(struct sync_thread *sync, const struct message_finish *finish) {
    if (finish->version_count != (uint32_t)sync->options.copy->fragments->count)
        return;
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
              json_pack("{s:s, s:i, s:I, s:i}", "what", "contribution", "fragment", (int)refused->fragment, "base_version",
                        (json_int_t)refused->base_version, "code", (int)refused->code));
}

static void on_grant(struct sync_thread *sync, const struct message_grant *grant) {
    if (grant->key.kind != TRANSFER_CONTRIBUTION || grant->key.fragment >= (uint32_t)sync->options.copy->fragments->count)
        return;
    struct sync_upload *upload = &sync->uploads[grant->key.fragment];
    if (upload->active && upload->sender.key.version == grant->key.version)
        (void)transfer_sender_grant(&upload->sender, grant->offset, grant->limit);
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
        say(sync, &pong);
        break;
    case MESSAGE_START:
        on_members(sync, message->body.start.evaluator_slot, true);
        break;
    case MESSAGE_MEMBERS:
        on_members(sync, message->body.members.evaluator_slot, false);
        break;
    case MESSAGE_GRANT:
        on_grant(sync, &message->body.grant);
        break;
    case MESSAGE_OFFER_REFUSED:
        on_offer_refused(sync, &message->body.offer_refused);
        break;
    case MESSAGE_COMMIT:
        on_commit(sync, &message->body.commit);
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
        stop(sync, true, STATUS_OK, message->body.text.text);
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
        on_chunk(sync, &event->chunk, event->payload);
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
        stop(sync, false, event->error.status, event->error.text);
        break;
    case LINK_EVENT_NONE:
        break;
    }
}

/* ---- reports ---- */

/* The kernel's counters and the running rate, into what the compute thread logs with an evaluation. */
static void meter(struct sync_thread *sync, uint64_t now_us) {
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
                        (json_int_t)t->payload_up, "payload_down", (json_int_t)t->payload_down, "wire_up", (json_int_t)t->wire_up,
                        "wire_down", (json_int_t)t->wire_down, "control_up", (json_int_t)t->control_up, "control_down",
                        (json_int_t)t->control_down, "retransmitted_up", (json_int_t)sync->retransmitted_up, "wait_us",
                        (json_int_t)t->wait_us, "eval_us", (json_int_t)t->eval_us));
    if (sync->session != 0)
        say(sync, &message);
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
        stop(sync, false, error.status, error.text);
    sync->connected = true;
    sync->heard_us = clock_now_us();
    say_ready(sync);
    sync->next_report_us = clock_now_us() + REPORT_US;
    uint64_t next_meter_us = 0;
    while (!is_closing(sync, &goodbye)) {
        do_jobs(sync);
        prepare_all(sync);
        uint64_t now_us = clock_now_us();
        if (now_us >= next_meter_us) {
            meter(sync, now_us);
            next_meter_us = now_us + METER_US;
        }
        if (now_us >= sync->next_report_us) {
            report(sync);
            sync->next_report_us = now_us + REPORT_US;
        }
        uint64_t timeout_us = pump(sync, now_us);
        for (int i = 0; i < EVENTS_PER_TURN; i++) {
            worker_link_receive(sync->options.link, i == 0 ? timeout_us : 0, event);
            if (event->kind == LINK_EVENT_NONE)
                break;
            on_event(sync, event);
        }
        mind_silence(sync, clock_now_us());
    }
    if (sync->session != 0)
        say(sync, &goodbye);
    sync->session = 0; /* what follows is for the log only */
    meter(sync, clock_now_us());
    report(sync);
    free(event);
    return NULL;
}
