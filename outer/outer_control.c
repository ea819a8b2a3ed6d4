/* outer_control: status, tokens and drain, asked for by whoever can read the outer's seed file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/clock.h"
#include "outer/outer_answer.h"
#include "outer/outer_run.h"
#include "outer/outer_tokens.h"

enum { CUT_OFF_US = 30000000 };

static const char *member_state_name(enum member_state state) {
    static const char *const names[] = {"absent", "live", "done", "final", "lost"};
    return names[state];
}

static const char *phase_name(uint32_t phase) {
    static const char *const names[WORKER_PHASE_COUNT] = {"",           "training",    "waiting",
                                                          "evaluating", "catching up", "ending"};
    return phase < WORKER_PHASE_COUNT ? names[phase] : "";
}

/* Versions behind the run's newest, over the fragment where it is most. */
static uint64_t lag_of(const struct outer_run *outer, const struct message_telemetry *t) {
    uint64_t lag = 0;
    for (uint32_t f = 0; f < t->version_count && f < (uint32_t)outer->fragments.count; f++) {
        uint64_t newest = outer->heads[f].version;
        if (newest > t->versions[f] && newest - t->versions[f] > lag)
            lag = newest - t->versions[f];
    }
    return lag;
}

static json_t *worker_json(const struct outer_run *outer, uint32_t slot) {
    const struct outer_session *session = &outer->sessions[slot];
    const struct message_telemetry *t = &session->telemetry;
    json_t *versions = json_array();
    for (uint32_t f = 0; f < t->version_count; f++)
        json_array_append_new(versions, json_integer((json_int_t)t->versions[f]));
    json_t *json =
        json_pack("{s:i, s:s, s:s, s:b, s:I, s:I, s:o, s:o, s:o, s:I, s:I}", "slot", (int)slot, "node", session->name,
                  "state", member_state_name(outer->machine.members.slot[slot].state), "connected", session->connected,
                  "step", (json_int_t)t->step, "tokens", (json_int_t)t->tokens, "loss", log_real(t->loss),
                  "tokens_per_s", log_real(t->tokens_per_s), "versions", versions, "wait_us", (json_int_t)t->wait_us,
                  "eval_us", (json_int_t)t->eval_us);
    json_object_update_new(json,
                           json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "payload_up", (json_int_t)t->payload_up,
                                     "payload_down", (json_int_t)t->payload_down, "wire_up", (json_int_t)t->wire_up,
                                     "wire_down", (json_int_t)t->wire_down, "control_up", (json_int_t)t->control_up,
                                     "control_down", (json_int_t)t->control_down, "last_error", session->last_error));
    json_object_update_new(
        json,
        json_pack("{s:s, s:I, s:I}", "phase", phase_name(t->phase), "lag", (json_int_t)lag_of(outer, t), "last_seen_us",
                  session->heard_us == 0 ? (json_int_t)-1 : (json_int_t)(clock_now_us() - session->heard_us)));
    if (t->has_eval)
        json_object_update_new(
            json, json_pack("{s:I, s:o}", "eval_step", (json_int_t)t->eval_step, "eval_loss", log_real(t->eval_loss)));
    return json;
}

static json_t *status_json(struct outer_run *outer) {
    char run_id[2 * MESSAGE_HASH_BYTES + 1];
    bytes_to_hex(outer->run_id, MESSAGE_HASH_BYTES, run_id);
    json_t *fragments = json_array();
    for (int f = 0; f < outer->fragments.count; f++)
        json_array_append_new(fragments,
                              json_pack("{s:i, s:s, s:I, s:b}", "index", f, "name", outer->fragments.list[f].name,
                                        "version", (json_int_t)outer->machine.fragments[f].version, "open",
                                        outer->machine.fragments[f].open_us != 0));
    json_t *workers = json_array();
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (slot < outer->machine.options.workers || outer->sessions[slot].known)
            json_array_append_new(workers, worker_json(outer, slot));
    char recovering[MESSAGE_TEXT_BYTES];
    outer_recovery_reason(outer, recovering);
    struct link_drops drops;
    outer_link_drops(outer->link, &drops);
    drops.wrong_session = outer->foreign_sessions;
    json_t *dropped = json_pack("{s:I, s:I, s:I, s:I, s:I}", "malformed", (json_int_t)drops.malformed, "wrong_identity",
                                (json_int_t)drops.wrong_identity, "wrong_session", (json_int_t)drops.wrong_session,
                                "rejected_handshakes", (json_int_t)drops.rejected_handshakes, "refused_offers",
                                (json_int_t)outer->refused_offers);
    json_t *json =
        json_pack("{s:s, s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "run_id", run_id, "name", outer->run.name,
                  "started", outer->machine.started, "finished", outer->machine.finished, "run_step",
                  (json_int_t)outer->machine.run_step, "steps", (json_int_t)outer->run.inner.steps, "commits",
                  (json_int_t)outer_commit_count(outer), "uptime_us", (json_int_t)(clock_now_us() - outer->opened_us),
                  "fragments", fragments, "workers", workers, "dropped", dropped);
    json_object_update_new(json, json_pack("{s:b, s:s, s:I, s:I}", "leading", outer->recovery.leading, "recovering",
                                           recovering, "epoch", (json_int_t)outer->disk.state.epoch, "refused_updates",
                                           (json_int_t)outer->refused_updates));
    return json;
}

struct token outer_blank_token(const struct outer_run *outer) {
    struct token token = {.address_count = outer->advertised_count};
    memcpy(token.outer_key, outer->keys.curve.public_key, sizeof token.outer_key);
    memcpy(token.run_name, outer->run.name, sizeof token.run_name);
    memcpy(token.addresses, outer->advertised, sizeof token.addresses);
    return token;
}

static json_t *tokens_json(struct outer_run *outer, const char *verb, const json_t *arguments, struct error *error) {
    struct token blank = outer_blank_token(outer);
    if (strcmp(verb, "token-create") == 0)
        return outer_tokens_create(outer->admission, &blank, (uint32_t)outer->run.workers, arguments, clock_wall_s(),
                                   error);
    if (strcmp(verb, "token-list") == 0)
        return outer_tokens_list(outer->admission, clock_wall_s());
    return outer_tokens_revoke(outer->admission, arguments, clock_wall_s(), error);
}

/* It finishes what is in flight and says goodbye. A revoked key is let do so too, but its session is cut off after a while. */
static json_t *drain_json(struct outer_run *outer, const json_t *arguments, struct error *error) {
    struct admission_worker worker;
    if (outer_tokens_drain(outer->admission, arguments, &worker, error) != STATUS_OK)
        return NULL;
    struct outer_session *session = &outer->sessions[worker.slot];
    bool live = session->connected && memcmp(session->peer.key, worker.key, sizeof worker.key) == 0;
    if (live) {
        struct message message = {.type = MESSAGE_DRAIN};
        snprintf(message.body.text.text, sizeof message.body.text.text, "%s",
                 worker.revoked ? "its key was revoked" : "drained");
        outer_send(outer, worker.slot, &message);
        session->cut_off_us = worker.revoked ? clock_now_us() + CUT_OFF_US : 0;
    }
    log_event(outer->log, "drain",
              json_pack("{s:i, s:s, s:b}", "slot", (int)worker.slot, "node", worker.name, "revoked", worker.revoked));
    return outer_tokens_drained(&worker, live);
}

void outer_on_admin(struct outer_run *outer, const struct link_peer *peer, const struct message *message) {
    const struct message_admin_request *request = &message->body.admin_request;
    struct message reply = {.type = MESSAGE_ADMIN_REPLY};
    struct error error = {0};
    json_t *arguments = json_loads(request->text, JSON_REJECT_DUPLICATES, NULL);
    json_t *json = NULL;
    if (strcmp(request->verb, "status") == 0)
        json = status_json(outer);
    else if (strcmp(request->verb, "token-create") == 0 || strcmp(request->verb, "token-list") == 0 ||
             strcmp(request->verb, "token-revoke") == 0)
        json = tokens_json(outer, request->verb, arguments, &error);
    else if (strcmp(request->verb, "drain") == 0)
        json = drain_json(outer, arguments, &error);
    else
        error_set(&error, STATUS_USAGE, "the outer does not know '%s'", request->verb);
    char *text = json == NULL ? NULL : outer_answer_text(json);
    if (json != NULL && text == NULL)
        error_set(&error, STATUS_DATA, "the answer is too long for one message");
    reply.body.admin_reply.ok = text != NULL;
    reply.body.admin_reply.text = text != NULL ? text : error.text;
    (void)!outer_link_send(outer->link, peer, &reply);
    free(text);
    json_decref(json);
    json_decref(arguments);
}
