/* outer_handlers: what peers say becomes events of the round machine. Every message is valid in itself (comms/wire); here it is held against
 * who may say it, in which session, at which point of the run. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/bytes.h"
#include "base/clock.h"
#include "outer/outer_run.h"

enum {
    CONTENDER_US = 3000000,
    REGISTER_HOLD_US =
        10000000, /* members dial again within 2 s, and show their certificates when they are not listed */
};

/* ---- admission ---- */

static void refuse(struct outer_run *outer, const struct link_peer *peer, const struct message_refuse *why) {
    struct message message = {.type = MESSAGE_REFUSE};
    message.body.refuse = *why;
    log_say(LOG_LEVEL_WARN, "refused a worker: %s", why->text);
    log_event(outer->log, "refuse",
              json_pack("{s:s, s:s, s:i}", "what", "worker", "reason", why->text, "code", (int)why->code));
    (void)!outer_link_send(outer->link, peer, &message);
}

static struct message_refuse version_refusal(uint32_t version) {
    struct message_refuse why = {.code = REFUSE_VERSION};
    snprintf(why.text, sizeof why.text,
             "protocol versions differ: the outer speaks %d, this worker %u; install the same version of atoll on both",
             MESSAGE_PROTOCOL_VERSION, version);
    return why;
}

/* The certificate is filled; the rest of ADMIT is the same for all. */
static void admit(struct outer_run *outer, const struct link_peer *peer, struct message *answer) {
    struct message_admit *body = &answer->body.admit;
    memcpy(body->sign_key, outer->keys.sign_key, sizeof body->sign_key);
    memcpy(body->recovery_secret, outer->keys.recovery_secret, sizeof body->recovery_secret);
    body->up_bytes_per_s = outer->run.link.up_bytes_per_s;
    body->down_bytes_per_s = outer->run.link.down_bytes_per_s;
    (void)!outer_link_send(outer->link, peer, answer);
}

static void register_now(struct outer_run *outer, const struct link_peer *peer,
                         const struct message_register *request) {
    struct message_refuse why = {0};
    struct message answer = {.type = MESSAGE_ADMIT};
    if (admission_register(outer->admission, peer->key, request, outer_named_slots(outer), clock_wall_s(),
                           &answer.body.admit.certificate, &why))
        admit(outer, peer, &answer);
    else
        refuse(outer, peer, &why);
}

/* Until this outer leads, its list may be an old one or none: a newcomer would be given the slot of a member that is on its way back. That
 * somebody comes who tells is not certain; so the wait has an end. */
static bool holds_newcomers(const struct outer_run *outer, uint64_t now_us) {
    return !outer->recovery.leading && now_us < outer->recovery.opened_us + REGISTER_HOLD_US;
}

/* The same worker again, on another link: the newer one counts. */
static void hold_newcomer(struct outer_run *outer, const struct link_peer *peer,
                          const struct message_register *request) {
    struct outer_registering *place = NULL;
    for (int i = MESSAGE_WORKERS_MAX - 1; i >= 0; i--) {
        struct outer_registering *other = &outer->registering[i];
        bool is_same = other->waits && memcmp(other->request.worker_key, request->worker_key, MESSAGE_KEY_BYTES) == 0;
        if (is_same || (!other->waits && (place == NULL || !place->waits)))
            place = other;
    }
    if (place == NULL) {
        struct message_refuse why = {.code = REFUSE_FULL};
        snprintf(why.text, sizeof why.text, "this outer hears first who comes back to its run: try again in %d s",
                 REGISTER_HOLD_US / 1000000);
        refuse(outer, peer, &why);
        return;
    }
    *place = (struct outer_registering){.waits = true, .peer = *peer, .request = *request};
    log_say(LOG_LEVEL_INFO, "newcomer %s waits: this outer hears first who comes back to its run", request->name);
}

/* Who hung up meanwhile takes no slot, and no use of its token. */
static bool is_still_there(struct outer_run *outer, const struct outer_registering *newcomer) {
    struct message ping = {.type = MESSAGE_PING};
    if (outer_link_send(outer->link, &newcomer->peer, &ping) != STATUS_UNREACHABLE)
        return true;
    log_say(LOG_LEVEL_INFO, "newcomer %s hung up before it was let in", newcomer->request.name);
    return false;
}

void outer_register_waiting(struct outer_run *outer, uint64_t now_us) {
    if (holds_newcomers(outer, now_us))
        return;
    for (int i = 0; i < MESSAGE_WORKERS_MAX; i++)
        if (outer->registering[i].waits) {
            outer->registering[i].waits = false;
            if (is_still_there(outer, &outer->registering[i]))
                register_now(outer, &outer->registering[i].peer, &outer->registering[i].request);
        }
}

static void on_register(struct outer_run *outer, const struct link_peer *peer, const struct message_register *request) {
    if (request->protocol_version != MESSAGE_PROTOCOL_VERSION) {
        struct message_refuse why = version_refusal(request->protocol_version);
        refuse(outer, peer, &why);
    } else if (holds_newcomers(outer, clock_now_us()) &&
               admission_role(outer->admission, request->worker_key) != PEER_ROLE_WORKER) {
        hold_newcomer(outer, peer, request);
    } else {
        register_now(outer, peer, request);
    }
}

/* A worker that this outer does not list any more, with the certificate that an earlier start of it signed. */
static void on_recover(struct outer_run *outer, const struct link_peer *peer, const struct message_recover *request) {
    struct message_refuse why = {0};
    struct message answer = {.type = MESSAGE_ADMIT};
    if (request->protocol_version != MESSAGE_PROTOCOL_VERSION)
        why = version_refusal(request->protocol_version);
    else if (admission_recover(outer->admission, request, &answer.body.admit.certificate, &why)) {
        log_say(LOG_LEVEL_INFO, "worker %s (slot %u) is known again by its certificate",
                answer.body.admit.certificate.name, answer.body.admit.certificate.slot);
        admit(outer, peer, &answer);
        return;
    }
    refuse(outer, peer, &why);
}

/* ---- hello ---- */

static bool is_zero(const uint8_t *bytes, size_t count) {
    uint8_t any = 0;
    for (size_t i = 0; i < count; i++)
        any |= bytes[i];
    return any == 0;
}

static void hex_prefix(const uint8_t *bytes, char text[17]) {
    bytes_to_hex(bytes, 8, text);
}

static bool hello_is_welcome(const struct outer_run *outer, const struct message_hello *hello,
                             struct message_refuse *why) {
    char ours[17], theirs[17];
    if (hello->protocol_version != MESSAGE_PROTOCOL_VERSION) {
        *why = version_refusal(hello->protocol_version);
        return false;
    }
    if (memcmp(hello->run_id, outer->run_id, sizeof outer->run_id) != 0) {
        hex_prefix(outer->run_id, ours);
        hex_prefix(hello->run_id, theirs);
        why->code = REFUSE_RUN;
        snprintf(why->text, sizeof why->text,
                 "this is run %s (%s), the worker's directory is of run %s; use another --dir", ours, outer->run.name,
                 theirs);
        return false;
    }
    if (!is_zero(hello->keys_hash, sizeof hello->keys_hash) &&
        memcmp(hello->keys_hash, outer->keys_hash, sizeof outer->keys_hash) != 0) {
        hex_prefix(outer->keys_hash, ours);
        hex_prefix(hello->keys_hash, theirs);
        why->code = REFUSE_KEYS_HASH;
        snprintf(
            why->text, sizeof why->text,
            "run-wide keys differ: hash %s here, %s on the worker; model, inner, sync and outer keys are the run's "
            "to set",
            ours, theirs);
        return false;
    }
    return true;
}

static void refuse_duplicate(struct outer_run *outer, const struct link_peer *peer, const char *name) {
    struct message_refuse why = {.code = REFUSE_DUPLICATE};
    snprintf(why.text, sizeof why.text,
             "another process is live with this worker's key (%s): a copied directory needs keys of its own", name);
    refuse(outer, peer, &why);
}

static void welcome(struct outer_run *outer, uint32_t slot) {
    struct message message = {.type = MESSAGE_WELCOME};
    struct message_welcome *body = &message.body.welcome;
    body->slot = slot;
    body->workers = (uint32_t)outer->run.workers;
    body->epoch = outer->disk.state.epoch;
    memcpy(body->run_id, outer->run_id, sizeof body->run_id);
    memcpy(body->keys_hash, outer->keys_hash, sizeof body->keys_hash);
    body->started = outer->machine.started;
    body->run_text = outer->run_text;
    outer_send(outer, slot, &message);
}

static void begin_session(struct outer_run *outer, uint32_t slot, const char *name, const struct link_peer *peer,
                          const struct message_hello *hello) {
    struct outer_session *session = &outer->sessions[slot];
    uint64_t now_us = clock_now_us();
    if (session->connected)
        outer_session_lost(outer, slot, "its link came back in a new session");
    session->known = session->connected = true;
    session->ready = session->stated = session->joined = false;
    session->doomed = NULL;
    session->contender.waits = false;
    session->cut_off_us = 0;
    session->peer = *peer;
    session->session = ++outer->next_session;
    session->incarnation = hello->incarnation;
    session->hello = *hello;
    session->heard_us = session->bulk_us = now_us;
    session->bulk_heard = false;
    session->next_ping_us = now_us;
    memcpy(session->name, name, sizeof session->name);
    memset(session->downloads, 0, sizeof session->downloads);
    session->chunk_bytes = transfer_chunk_bytes(hello->down_bytes_per_s);
    pace_open(&session->pace, hello->down_bytes_per_s, session->chunk_bytes, now_us);
    welcome(outer, slot);
}

/* Another process says HELLO with this key while one is believed to live. The next ping tells: it is answered, or its link is lost (within
 * 250 ms of a kill). */
static void hold_contender(struct outer_session *session, const struct link_peer *peer,
                           const struct message_hello *hello) {
    session->contender.waits = true;
    session->contender.since_us = clock_now_us();
    session->contender.peer = *peer;
    session->contender.hello = *hello;
    session->next_ping_us = 0;
}

void outer_consider_contender(struct outer_run *outer, uint32_t slot, uint64_t now_us) {
    struct outer_session *session = &outer->sessions[slot];
    char name[MESSAGE_NAME_BYTES];
    if (!session->contender.waits)
        return;
    memcpy(name, session->name, sizeof name);
    if (session->connected && session->heard_us > session->contender.since_us) {
        session->contender.waits = false;
        refuse_duplicate(outer, &session->contender.peer, name);
    } else if (!session->connected || now_us >= session->contender.since_us + CONTENDER_US) {
        struct link_peer peer = session->contender.peer;
        struct message_hello hello = session->contender.hello;
        begin_session(outer, slot, name, &peer, &hello);
    }
}

static void on_hello(struct outer_run *outer, const struct link_peer *peer, const struct message_hello *hello) {
    uint32_t slot;
    char name[MESSAGE_NAME_BYTES];
    struct message_refuse why = {0};
    if (!admission_find(outer->admission, peer->key, &slot, name)) {
        admission_refuse_revoked(&why); /* ZAP lets registered keys only through: revoked in between */
        refuse(outer, peer, &why);
        return;
    }
    struct outer_session *session = &outer->sessions[slot];
    struct message_hello said = *hello;
    said.slot = slot;
    if (!hello_is_welcome(outer, &said, &why)) {
        refuse(outer, peer, &why);
        return;
    }
    if (session->connected && session->incarnation != said.incarnation)
        hold_contender(session, peer, &said);
    else
        begin_session(outer, slot, name, peer, &said);
}

static void on_ready(struct outer_run *outer, uint32_t slot, const struct message_ready *ready) {
    struct outer_session *session = &outer->sessions[slot];
    struct message_refuse why = {0};
    char ours[17], theirs[17];
    if (session->ready)
        return;
    if (memcmp(ready->tokenizer_hash, outer->tokenizer_hash, sizeof outer->tokenizer_hash) != 0) {
        hex_prefix(outer->tokenizer_hash, ours);
        hex_prefix(ready->tokenizer_hash, theirs);
        why.code = REFUSE_TOKENIZER;
        snprintf(why.text, sizeof why.text, "tokenizers differ: hash %s here, %s on the worker", ours, theirs);
    } else if (memcmp(ready->initial_hash, outer->initial_hash.bytes, sizeof outer->initial_hash.bytes) != 0) {
        hex_prefix(outer->initial_hash.bytes, ours);
        hex_prefix(ready->initial_hash, theirs);
        why.code = REFUSE_STATE;
        snprintf(why.text, sizeof why.text,
                 "initial parameters differ: state hash %s here, %s on the worker; its arithmetic or its version of "
                 "atoll is another",
                 ours, theirs);
    }
    if (why.code != 0) {
        refuse(outer, &session->peer, &why);
        return;
    }
    session->ready = true;
    session->has_validation = ready->has_validation;
    log_say(LOG_LEVEL_INFO, "worker %s (slot %u) is ready%s", session->name, slot,
            ready->has_validation ? "" : ", without held-out text");
    outer_greet(outer, slot);
}

/* ---- the running session ---- */

static void on_pong(struct outer_session *session, const struct message_ping *pong, uint64_t now_us) {
    if (pong->sequence == 0 || pong->sequence > session->ping_sequence || pong->sent_us > now_us)
        return;
    uint64_t round_trip_us = now_us - pong->sent_us;
    session->round_trips_us[session->round_trip_count++ % OUTER_ROUND_TRIPS_KEPT] = round_trip_us;
    if (round_trip_us > session->slowest_us)
        session->slowest_us = round_trip_us;
}

static void on_commit_grant(struct outer_run *outer, uint32_t slot, const struct message_grant *grant) {
    struct outer_session *session = &outer->sessions[slot];
    const struct outer_commit *kept = outer_commit_place(outer, grant->key.fragment, grant->key.version);
    /* One that is in the making is not durable yet. */
    if (grant->key.version == 0 || grant->key.version > outer->heads[grant->key.fragment].version)
        return;
    if (kept->commit.version != grant->key.version || !kept->has_payload) {
        outer_want_snapshot(outer, slot,
                            grant->key.fragment); /* it reads so slowly that this version is kept no more */
        return;
    }
    struct transfer_sender *download = &session->downloads[grant->key.fragment];
    if (download->key.version != grant->key.version)
        transfer_sender_open(download, grant->key, kept->payload, kept->commit.payload_bytes);
    if (!transfer_sender_grant(download, grant->offset, grant->limit))
        log_say(LOG_LEVEL_WARN, "worker %s asked for bytes beyond a payload", session->name);
}

static void on_grant(struct outer_run *outer, uint32_t slot, const struct message_grant *grant) {
    if (grant->key.fragment >= (uint32_t)outer->fragments.count)
        return;
    if (grant->key.kind == TRANSFER_COMMIT)
        on_commit_grant(outer, slot, grant);
    else if (grant->key.kind == TRANSFER_SNAPSHOT)
        outer_on_snapshot_grant(outer, slot, grant);
}

/* Trained to the end: of this run, or of one with fewer steps, from before this outer was started again? WELCOME has told it how many there are,
 * and it trains on. Who ended at an END says DONE again when END is said again. */
static void on_done(struct outer_run *outer, uint32_t slot, const struct message_done *done) {
    struct outer_session *session = &outer->sessions[slot];
    session->telemetry.step = done->step;
    session->telemetry.tokens = done->tokens;
    if (done->step < (uint64_t)outer->run.inner.steps && !outer->machine.ended && !outer->machine.finished) {
        log_say(LOG_LEVEL_WARN,
                "worker %s says that it is done at step %llu: the run has %lld, it is expected to go on", session->name,
                (unsigned long long)done->step, (long long)outer->run.inner.steps);
        return;
    }
    outer_feed(outer, (struct round_event){.kind = ROUND_EVENT_REACHED, .slot = slot});
    outer_feed(outer, (struct round_event){.kind = ROUND_EVENT_DONE, .slot = slot, .tokens = done->tokens});
}

static void on_final(struct outer_run *outer, uint32_t slot, const struct message_final *final) {
    struct outer_session *session = &outer->sessions[slot];
    struct state_hash ours;
    outer_copy_hash_all(&outer->copy, &ours);
    if (memcmp(ours.bytes, final->state_hash, sizeof ours.bytes) != 0)
        log_say(LOG_LEVEL_ERROR, "worker %s: its final state differs from the outer's", session->name);
    session->final = *final;
    session->has_final = true;
    if (outer->machine.left) { /* it lost the FAREWELL with its link */
        struct message farewell = {.type = MESSAGE_FAREWELL, .body.text.text = "the run is complete"};
        outer_send(outer, slot, &farewell);
    }
    outer_feed(outer, (struct round_event){.kind = ROUND_EVENT_FINAL, .slot = slot, .has_eval = final->has_eval});
}

static void on_session_message(struct outer_run *outer, uint32_t slot, const struct message *message) {
    struct outer_session *session = &outer->sessions[slot];
    uint64_t now_us = clock_now_us();
    session->heard_us = now_us;
    switch (message->type) {
    case MESSAGE_READY:
        on_ready(outer, slot, &message->body.ready);
        break;
    case MESSAGE_PONG:
        on_pong(session, &message->body.ping, now_us);
        break;
    case MESSAGE_OFFER:
        if (message->body.offer.slot == slot && message->body.offer.incarnation == session->incarnation)
            outer_feed(outer, (struct round_event){
                                  .kind = ROUND_EVENT_OFFER, .slot = slot, .contribution = message->body.offer});
        break;
    case MESSAGE_GRANT:
        on_grant(outer, slot, &message->body.grant);
        break;
    case MESSAGE_FETCH:
        outer_on_fetch(outer, slot, &message->body.fetch);
        break;
    case MESSAGE_SNAPSHOT:
        outer_on_snapshot(outer, slot, &message->body.snapshot);
        break;
    case MESSAGE_JOINED:
        outer_on_joined(outer, slot, &message->body.joined);
        break;
    case MESSAGE_APPLIED:
        outer_on_applied(outer, slot, &message->body.applied);
        break;
    case MESSAGE_TELEMETRY:
        session->telemetry = message->body.telemetry;
        outer_feed(outer, (struct round_event){
                              .kind = ROUND_EVENT_TOKENS, .slot = slot, .tokens = message->body.telemetry.tokens});
        if (outer_is_blocked(outer, slot))
            outer_feed(outer, (struct round_event){.kind = ROUND_EVENT_BLOCKED, .slot = slot});
        if (message->body.telemetry.step >= (uint64_t)outer->run.inner.steps)
            outer_feed(outer, (struct round_event){.kind = ROUND_EVENT_REACHED, .slot = slot});
        break;
    case MESSAGE_DONE:
        on_done(outer, slot, &message->body.done);
        break;
    case MESSAGE_FINAL:
        on_final(outer, slot, &message->body.final);
        break;
    case MESSAGE_GOODBYE:
        outer_session_left(outer, slot, message->body.text.text);
        break;
    default:
        break; /* words of the outer or of other roles: not for us */
    }
}

static struct outer_session *session_of(struct outer_run *outer, const struct link_peer *peer, uint64_t session,
                                        uint32_t *slot) {
    for (*slot = 0; *slot < MESSAGE_WORKERS_MAX; (*slot)++) {
        struct outer_session *candidate = &outer->sessions[*slot];
        if (candidate->known && memcmp(candidate->peer.key, peer->key, sizeof peer->key) == 0) {
            if (candidate->connected && candidate->session == session)
                return candidate;
            break;
        }
    }
    outer->foreign_sessions++;
    return NULL;
}

/* It reports, once a second, in a session that was given up while it could not hear so: a PING of no session makes it dial anew. */
static void answer_foreign(struct outer_run *outer, uint32_t slot, const struct link_peer *peer,
                           const struct message *message) {
    struct message ping = {.type = MESSAGE_PING};
    if (message->type == MESSAGE_TELEMETRY && slot < MESSAGE_WORKERS_MAX && !outer->sessions[slot].connected)
        (void)!outer_link_send(outer->link, peer, &ping);
}

void outer_on_message(struct outer_run *outer, const struct link_peer *peer, const struct message *message) {
    uint32_t slot;
    if (peer->role == PEER_ROLE_RECOVER && message->type == MESSAGE_RECOVER) {
        on_recover(outer, peer, &message->body.recover);
        return;
    }
    if (peer->role == PEER_ROLE_ADMIN && message->type == MESSAGE_ADMIN_REQUEST) {
        outer_on_admin(outer, peer, message);
    } else if (peer->role == PEER_ROLE_ENROL && message->type == MESSAGE_REGISTER) {
        on_register(outer, peer, &message->body.reg);
    } else if (peer->role == PEER_ROLE_WORKER && message->type == MESSAGE_HELLO) {
        on_hello(outer, peer, &message->body.hello);
    } else if (peer->role == PEER_ROLE_WORKER && session_of(outer, peer, message->session, &slot) != NULL) {
        on_session_message(outer, slot, message);
    } else if (peer->role == PEER_ROLE_WORKER) {
        answer_foreign(outer, slot, peer, message);
    }
}

/* ---- bulk ---- */

static void on_upload_complete(struct outer_run *outer, uint32_t slot, struct outer_upload *upload) {
    struct outer_job job = {.kind = OUTER_JOB_CHECK,
                            .slot = slot,
                            .fragment = upload->receiver.key.fragment,
                            .version = upload->receiver.key.version,
                            .part_count = 1};
    job.parts[0] = (struct commit_part){upload->buffer, upload->receiver.bytes, 0};
    upload->checking = true;
    outer_compute_submit(outer->compute, &job);
}

void outer_on_chunk(struct outer_run *outer, const struct link_peer *peer, const struct chunk *chunk,
                    const uint8_t *payload) {
    uint32_t slot;
    struct outer_session *session = session_of(outer, peer, chunk->session, &slot);
    if (session == NULL || chunk->key.fragment >= (uint32_t)outer->fragments.count)
        return;
    session->heard_us = clock_now_us();
    session->bulk_heard = true;
    staging_moved(&outer->staging, session->heard_us);
    if (chunk->key.kind == TRANSFER_SNAPSHOT)
        outer_on_snapshot_chunk(outer, slot, chunk, payload);
    if (chunk->key.kind != TRANSFER_CONTRIBUTION)
        return;
    struct outer_upload *upload = &outer->uploads[slot][chunk->key.fragment];
    if (!upload->open || upload->checking || upload->receiver.received == upload->receiver.bytes ||
        upload->receiver.key.version != chunk->key.version)
        return;
    struct message message = {.type = MESSAGE_GRANT};
    switch (transfer_receiver_chunk(&upload->receiver, chunk, payload)) {
    case TRANSFER_COMPLETE:
        on_upload_complete(outer, slot, upload);
        break;
    case TRANSFER_BAD_HASH:
        log_say(LOG_LEVEL_WARN, "worker %s: a contribution's bytes do not match their hash (%u)", session->name,
                ++upload->bad_hashes);
        transfer_receiver_reset_credit(&upload->receiver);
        if (upload->bad_hashes >= 3)
            outer_session_lost(outer, slot, "its payloads do not match their hashes");
        break;
    case TRANSFER_HOSTILE:
        log_say(LOG_LEVEL_WARN, "worker %s: chunk outside of its grant, dropped", session->name);
        break;
    case TRANSFER_TAKEN:
    case TRANSFER_DUPLICATE:
        break;
    }
    if (upload->open && !upload->checking && transfer_receiver_grant(&upload->receiver, &message.body.grant))
        outer_send(outer, slot, &message);
}
