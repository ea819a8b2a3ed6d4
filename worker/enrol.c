#include "worker/enrol.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/files.h"
#include "comms/link.h"

enum { PATIENCE_US = 30000000, ANSWER_US = 20000000, TURN_US = 100000, PATH_BYTES = 4096 };

enum status enrol_refusal_status(uint32_t refuse_code) {
    switch (refuse_code) {
    case REFUSE_VERSION:
    case REFUSE_RUN:
    case REFUSE_KEYS_HASH:
    case REFUSE_TOKENIZER:
    case REFUSE_STATE:
        return STATUS_CONFIG;
    case REFUSE_STARTED:
        return STATUS_AGAIN;
    case REFUSE_DIVERGED:
        return STATUS_NOT_FINITE;
    default:
        return STATUS_REFUSED;
    }
}

static enum status ask(struct worker_link *link, const struct message *request, const volatile int *interrupted,
                       struct message_admit *admit, struct error *error) {
    struct link_event *event = calloc(1, sizeof *event);
    enum status status = STATUS_OK;
    uint64_t asked_us = 0;
    CHECK(event != NULL);
    for (bool answered = false; !answered && status == STATUS_OK;) {
        worker_link_receive(link, TURN_US, event);
        if (*interrupted)
            status = error_set(error, STATUS_AGAIN, "interrupted before the outer answered");
        else if (asked_us != 0 && clock_now_us() - asked_us > ANSWER_US)
            status = error_set(error, STATUS_UNREACHABLE, "the outer accepted the connection but does not answer");
        else if (event->kind == LINK_EVENT_REFUSED)
            status = error_set(error, event->error.status, "%s", event->error.text);
        if (event->kind == LINK_EVENT_CONNECTED) {
            (void)!worker_link_send(link, request);
            asked_us = clock_now_us();
        } else if (event->kind == LINK_EVENT_MESSAGE && event->message.type == MESSAGE_ADMIT) {
            *admit = event->message.body.admit;
            answered = true;
        } else if (event->kind == LINK_EVENT_MESSAGE && event->message.type == MESSAGE_REFUSE) {
            const struct message_refuse *refuse = &event->message.body.refuse;
            status = error_set(error, enrol_refusal_status(refuse->code), "%s", refuse->text);
        }
    }
    free(event);
    return status;
}

static void certificate_path(const char *directory, char path[PATH_BYTES]) {
    files_join(path, PATH_BYTES, directory, "keys/certificate.json");
}

/* A directory belongs to the run that it was first admitted to. Asked before REGISTER, so that a mistaken start takes no place of the other
 * run and no use of its token. */
static enum status check_directory(const char *directory, const struct token *token, struct error *error) {
    char path[PATH_BYTES], outer_key[2 * MESSAGE_KEY_BYTES + 1];
    uint8_t *text;
    size_t count;
    certificate_path(directory, path);
    if (!files_exists(path))
        return STATUS_OK;
    enum status status = files_read(path, 65536, &text, &count, error);
    if (status != STATUS_OK)
        return status;
    json_t *json = json_loads((const char *)text, 0, NULL);
    free(text);
    const char *kept_key = json_string_value(json_object_get(json, "outer_key"));
    const char *kept_name = json_string_value(json_object_get(json, "run_name"));
    bytes_to_hex(token->outer_key, MESSAGE_KEY_BYTES, outer_key);
    if (kept_key == NULL || kept_name == NULL)
        status = error_set(error, STATUS_DATA, "%s is damaged; remove the directory to start this worker anew", path);
    else if (strcmp(kept_key, outer_key) != 0 || strcmp(kept_name, token->run_name) != 0)
        status = error_set(error, STATUS_CONFIG,
                           "%s belongs to run %s of the outer with key %.16s, the token is for run %s of the outer "
                           "with key %.16s; use another --dir",
                           directory, kept_name, kept_key, token->run_name, outer_key);
    json_decref(json);
    return status;
}

static enum status keep_certificate(const char *directory, const struct token *token,
                                    const struct certificate *certificate, struct error *error) {
    char path[PATH_BYTES], run_id[2 * MESSAGE_HASH_BYTES + 1], outer_key[2 * MESSAGE_KEY_BYTES + 1];
    certificate_path(directory, path);
    bytes_to_hex(certificate->run_id, MESSAGE_HASH_BYTES, run_id);
    bytes_to_hex(token->outer_key, MESSAGE_KEY_BYTES, outer_key);
    json_t *json = json_pack("{s:s, s:s, s:s, s:I, s:s}", "run_name", token->run_name, "outer_key", outer_key, "run_id",
                             run_id, "slot", (json_int_t)certificate->slot, "name", certificate->name);
    char *text = json_dumps(json, JSON_INDENT(2));
    json_decref(json);
    CHECK(text != NULL);
    enum status status = files_write_atomic(path, text, strlen(text), 0600, error);
    free(text);
    return status;
}

enum status enrol(const struct token *token, const struct node_keys *keys, const char *directory, const char *name,
                  const volatile int *interrupted, struct message_admit *admit, struct error *error) {
    struct curve_pair pair;
    enum status status = check_directory(directory, token, error);
    if (status != STATUS_OK)
        return status;
    keys_enrolment_pair(token->secret, &pair);
    struct worker_link_options options = {.role = PEER_ROLE_ENROL,
                                          .addresses = token->addresses,
                                          .address_count = token->address_count,
                                          .outer_key = token->outer_key,
                                          .curve = &pair,
                                          .patience_us = PATIENCE_US};
    struct worker_link *link;
    status = worker_link_open(&options, &link, error);
    if (status != STATUS_OK)
        return status;
    struct message request = {.type = MESSAGE_REGISTER};
    request.body.reg.protocol_version = MESSAGE_PROTOCOL_VERSION;
    memcpy(request.body.reg.token_id, token->id, sizeof token->id);
    memcpy(request.body.reg.worker_key, keys->curve.public_key, sizeof request.body.reg.worker_key);
    snprintf(request.body.reg.name, sizeof request.body.reg.name, "%s", name);
    status = ask(link, &request, interrupted, admit, error);
    worker_link_close(link);
    if (status != STATUS_OK)
        return status;
    if (memcmp(admit->certificate.worker_key, keys->curve.public_key, sizeof keys->curve.public_key) != 0)
        return error_set(error, STATUS_DATA, "the outer's certificate names another key than this worker's");
    status = certificate_verify(&admit->certificate, admit->sign_key, error);
    if (status == STATUS_OK)
        status = keep_certificate(directory, token, &admit->certificate, error);
    return status;
}
