/* outer_control: status and tokens, asked for by whoever can read the outer's seed file. */
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/clock.h"
#include "outer/outer_run.h"

static const char *member_state_name(enum member_state state) {
    static const char *const names[] = {"absent", "live", "done", "final", "lost"};
    return names[state];
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
    for (uint32_t slot = 0; slot < outer->machine.options.workers; slot++)
        json_array_append_new(workers, worker_json(outer, slot));
    struct link_drops drops;
    outer_link_drops(outer->link, &drops);
    drops.wrong_session = outer->foreign_sessions;
    json_t *dropped = json_pack("{s:I, s:I, s:I, s:I, s:I}", "malformed", (json_int_t)drops.malformed, "wrong_identity",
                                (json_int_t)drops.wrong_identity, "wrong_session", (json_int_t)drops.wrong_session,
                                "rejected_handshakes", (json_int_t)drops.rejected_handshakes, "refused_offers",
                                (json_int_t)outer->refused_offers);
    return json_pack("{s:s, s:s, s:b, s:b, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "run_id", run_id, "name",
                     outer->run.name, "started", outer->machine.started, "finished", outer->machine.finished,
                     "run_step", (json_int_t)outer->machine.run_step, "steps", (json_int_t)outer->run.inner.steps,
                     "commits", (json_int_t)outer->commit_count, "uptime_us",
                     (json_int_t)(clock_now_us() - outer->opened_us), "fragments", fragments, "workers", workers,
                     "dropped", dropped);
}

enum status outer_make_token(struct outer_run *outer, uint64_t ttl_s, uint32_t uses, char text[TOKEN_TEXT_BYTES],
                             struct error *error) {
    struct token token = {.expires_s = clock_wall_s() + ttl_s, .uses = uses, .address_count = 1};
    token_make_secret(&token);
    memcpy(token.outer_key, outer->keys.curve.public_key, sizeof token.outer_key);
    memcpy(token.run_name, outer->run.name, sizeof token.run_name);
    token.addresses[0] = outer->advertised;
    enum status status = admission_add_token(outer->admission, &token, error);
    if (status == STATUS_OK)
        token_format(&token, text);
    return status;
}

static json_t *token_json(struct outer_run *outer, const json_t *arguments, struct error *error) {
    json_int_t ttl_s = 24 * 3600, uses = outer->run.workers;
    const json_t *value;
    if ((value = json_object_get(arguments, "ttl_s")) != NULL)
        ttl_s = json_integer_value(value);
    if ((value = json_object_get(arguments, "uses")) != NULL)
        uses = json_integer_value(value);
    if (ttl_s < 1 || ttl_s > 366 * 24 * 3600 || uses < 1 || uses > 1000000) {
        error_set(error, STATUS_USAGE, "a token lives 1s to 366d and has 1 to 1000000 uses");
        return NULL;
    }
    char text[TOKEN_TEXT_BYTES];
    if (outer_make_token(outer, (uint64_t)ttl_s, (uint32_t)uses, text, error) != STATUS_OK)
        return NULL;
    return json_pack("{s:s, s:I, s:I}", "token", text, "ttl_s", ttl_s, "uses", uses);
}

void outer_on_admin(struct outer_run *outer, const struct link_peer *peer, const struct message *message) {
    const struct message_admin_request *request = &message->body.admin_request;
    struct message reply = {.type = MESSAGE_ADMIN_REPLY};
    struct error error = {0};
    json_t *arguments = json_loads(request->text, JSON_REJECT_DUPLICATES, NULL);
    json_t *json = NULL;
    if (strcmp(request->verb, "status") == 0)
        json = status_json(outer);
    else if (strcmp(request->verb, "token-create") == 0)
        json = token_json(outer, arguments, &error);
    else
        error_set(&error, STATUS_USAGE, "the outer does not know '%s'", request->verb);
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    if (text != NULL && strlen(text) > MESSAGE_LONG_TEXT_MAX) {
        free(text);
        text = NULL;
        error_set(&error, STATUS_DATA, "the answer is too long for one message");
    }
    reply.body.admin_reply.ok = text != NULL;
    reply.body.admin_reply.text = text != NULL ? text : error.text;
    (void)!outer_link_send(outer->link, peer, &reply);
    free(text);
    json_decref(json);
    json_decref(arguments);
}
