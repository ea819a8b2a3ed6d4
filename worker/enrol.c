#include "worker/enrol.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "comms/link.h"
#include "worker/enrol_file.h"

enum { PATIENCE_US = 30000000, ANSWER_US = 20000000, TURN_US = 100000 };

enum status enrol_refusal_status(uint32_t refuse_code) {
    switch (refuse_code) {
    case REFUSE_VERSION:
    case REFUSE_RUN:
    case REFUSE_KEYS_HASH:
    case REFUSE_TOKENIZER:
    case REFUSE_STATE:
        return STATUS_CONFIG;
    case REFUSE_DIVERGED:
        return STATUS_NOT_FINITE;
    default:
        return STATUS_REFUSED;
    }
}

/* ---- one question, one answer ---- */

struct question {
    struct worker_link *link;
    struct link_event event;
    struct message request;
    uint64_t asked_us; /* 0 = not yet */
};

static void question_close(struct question *question) {
    if (question == NULL)
        return;
    worker_link_close(question->link);
    free(question);
}

static enum status question_open(const struct enrolment *enrolment, enum peer_role role, const struct curve_pair *pair,
                                 const struct message *request, struct question **question, struct error *error) {
    struct worker_link_options options = {.role = role,
                                          .addresses = enrolment->addresses,
                                          .address_count = enrolment->address_count,
                                          .outer_key = enrolment->outer_key,
                                          .curve = pair,
                                          .patience_us = PATIENCE_US};
    struct question *made = calloc(1, sizeof *made);
    CHECK(made != NULL);
    made->request = *request;
    enum status status = worker_link_open(&options, &made->link, error);
    if (status == STATUS_OK)
        *question = made;
    else
        free(made);
    return status;
}

/* Waits timeout_us at most. *answered: *admit is there. *refusal: the code of a REFUSE, else untouched. */
static enum status question_turn(struct question *question, uint64_t timeout_us, bool *answered,
                                 struct message_admit *admit, uint32_t *refusal, struct error *error) {
    struct link_event *event = &question->event;
    worker_link_receive(question->link, timeout_us, event);
    *answered = false;
    if (event->kind == LINK_EVENT_REFUSED)
        return error_set(error, event->error.status, "%s", event->error.text);
    if (event->kind == LINK_EVENT_CONNECTED) {
        (void)!worker_link_send(question->link, &question->request);
        question->asked_us = clock_now_us();
    } else if (event->kind == LINK_EVENT_MESSAGE && event->message.type == MESSAGE_ADMIT) {
        *admit = event->message.body.admit;
        *answered = true;
        return STATUS_OK;
    } else if (event->kind == LINK_EVENT_MESSAGE && event->message.type == MESSAGE_REFUSE) {
        const struct message_refuse *refuse = &event->message.body.refuse;
        *refusal = refuse->code;
        return error_set(error, enrol_refusal_status(refuse->code), "%s", refuse->text);
    }
    if (question->asked_us != 0 && clock_now_us() - question->asked_us > ANSWER_US)
        return error_set(error, STATUS_UNREACHABLE, "the outer accepted the connection but does not answer");
    return STATUS_OK;
}

/* Waits for the answer. *refusal: the code of a REFUSE, or 0. */
static enum status ask(const struct enrolment *enrolment, enum peer_role role, const struct curve_pair *pair,
                       const struct message *request, const volatile int *interrupted, struct message_admit *admit,
                       uint32_t *refusal, struct error *error) {
    struct question *question = NULL;
    bool answered = false;
    *refusal = 0;
    enum status status = question_open(enrolment, role, pair, request, &question, error);
    while (status == STATUS_OK && !answered) {
        status = question_turn(question, TURN_US, &answered, admit, refusal, error);
        if (status == STATUS_OK && *interrupted)
            status = error_set(error, STATUS_AGAIN, "interrupted before the outer answered");
    }
    question_close(question);
    return status;
}

static enum status check_admit(const struct message_admit *admit, const struct node_keys *keys, struct error *error) {
    if (memcmp(admit->certificate.worker_key, keys->curve.public_key, sizeof keys->curve.public_key) != 0)
        return error_set(error, STATUS_DATA, "the outer's certificate names another key than this worker's");
    return certificate_verify(&admit->certificate, admit->sign_key, error);
}

/* ---- the ways in ---- */

static enum status register_with(const struct token *token, const struct node_keys *keys, const char *directory,
                                 const char *name, const volatile int *interrupted, struct enrolment *enrolment,
                                 struct error *error) {
    struct curve_pair pair;
    struct message_admit admit = {0};
    struct message request = {.type = MESSAGE_REGISTER};
    uint32_t refusal;
    keys_enrolment_pair(token->secret, &pair);
    request.body.reg.protocol_version = MESSAGE_PROTOCOL_VERSION;
    memcpy(request.body.reg.token_id, token->id, sizeof token->id);
    memcpy(request.body.reg.worker_key, keys->curve.public_key, sizeof request.body.reg.worker_key);
    snprintf(request.body.reg.name, sizeof request.body.reg.name, "%s", name);
    enum status status = ask(enrolment, PEER_ROLE_ENROL, &pair, &request, interrupted, &admit, &refusal, error);
    if (status == STATUS_OK)
        status = check_admit(&admit, keys, error);
    if (status != STATUS_OK)
        return status;
    enrolment->admit = admit;
    return enrol_file_write(directory, enrolment, error);
}

static void recover_request(const struct enrolment *enrolment, struct curve_pair *pair, struct message *request) {
    *request = (struct message){.type = MESSAGE_RECOVER};
    request->body.recover.protocol_version = MESSAGE_PROTOCOL_VERSION;
    request->body.recover.certificate = enrolment->admit.certificate;
    keys_recovery_pair(enrolment->admit.recovery_secret, pair);
}

/* `status` is what became of the question, `admit` its answer. The certificate that is kept stays good when a full disk keeps the newer one out. */
static enum status take_recovered(const struct node_keys *keys, const char *directory, struct enrolment *enrolment,
                                  enum status status, const struct message_admit *admit, uint32_t refusal,
                                  struct error *error) {
    const struct message_admit *kept = &enrolment->admit;
    struct error why;
    if (refusal == REFUSE_FULL) /* places are not at stake: it could not store its list */
        status = error_set(error, STATUS_AGAIN, "%s", error->text);
    if (status == STATUS_OK)
        status = check_admit(admit, keys, error);
    if (status != STATUS_OK)
        return status;
    if (memcmp(admit->certificate.run_id, kept->certificate.run_id, sizeof kept->certificate.run_id) != 0 ||
        memcmp(admit->sign_key, kept->sign_key, sizeof kept->sign_key) != 0)
        return error_set(error, STATUS_DATA,
                         "the outer's certificate is of another run, or not signed by this run's outer");
    enrolment->admit = *admit;
    if (enrol_file_write(directory, enrolment, &why) != STATUS_OK)
        log_say(LOG_LEVEL_WARN, "%s; this worker goes on with what it holds in memory", why.text);
    return STATUS_OK;
}

static enum status recover(const struct node_keys *keys, const char *directory, const volatile int *interrupted,
                           struct enrolment *enrolment, uint32_t *refusal, struct error *error) {
    struct curve_pair pair;
    struct message request;
    struct message_admit admit = {0};
    recover_request(enrolment, &pair, &request);
    enum status status = ask(enrolment, PEER_ROLE_RECOVER, &pair, &request, interrupted, &admit, refusal, error);
    return take_recovered(keys, directory, enrolment, status, &admit, *refusal, error);
}

enum status enrol_recover(const struct node_keys *keys, const char *directory, const volatile int *interrupted,
                          struct enrolment *enrolment, struct error *error) {
    uint32_t refusal;
    return recover(keys, directory, interrupted, enrolment, &refusal, error);
}

struct enrol_recovery {
    const struct node_keys *keys;
    const char *directory;
    struct enrolment *enrolment;
    struct question *question;
};

enum status enrol_recovery_open(const struct node_keys *keys, const char *directory, struct enrolment *enrolment,
                                struct enrol_recovery **recovery, struct error *error) {
    struct curve_pair pair;
    struct message request;
    struct question *question;
    recover_request(enrolment, &pair, &request);
    enum status status = question_open(enrolment, PEER_ROLE_RECOVER, &pair, &request, &question, error);
    if (status != STATUS_OK)
        return status;
    struct enrol_recovery *made = malloc(sizeof *made);
    CHECK(made != NULL);
    *made = (struct enrol_recovery){keys, directory, enrolment, question};
    *recovery = made;
    return STATUS_OK;
}

enum status enrol_recovery_turn(struct enrol_recovery *recovery, bool *done, struct error *error) {
    struct message_admit admit;
    uint32_t refusal = 0;
    enum status status = question_turn(recovery->question, 0, done, &admit, &refusal, error);
    if (status == STATUS_OK && !*done)
        return STATUS_OK;
    *done = true;
    return take_recovered(recovery->keys, recovery->directory, recovery->enrolment, status, &admit, refusal, error);
}

void enrol_recovery_close(struct enrol_recovery *recovery) {
    if (recovery == NULL)
        return;
    question_close(recovery->question);
    free(recovery);
}

/* A directory belongs to the run that it was first admitted to. Asked before REGISTER, so that a mistaken start takes no place of the other
 * run and no use of its token. */
static enum status check_run(const struct enrolment *kept, const struct token *token, const char *directory,
                             struct error *error) {
    char kept_key[17], token_key[17];
    if (memcmp(kept->outer_key, token->outer_key, sizeof kept->outer_key) == 0 &&
        strcmp(kept->run_name, token->run_name) == 0)
        return STATUS_OK;
    bytes_to_hex(kept->outer_key, 8, kept_key);
    bytes_to_hex(token->outer_key, 8, token_key);
    return error_set(error, STATUS_CONFIG,
                     "%s belongs to run %s of the outer with key %s, the token is for run %s of the outer with key %s; "
                     "use another --dir",
                     directory, kept->run_name, kept_key, token->run_name, token_key);
}

enum status enrol(const struct token *token, const struct node_keys *keys, const char *directory, const char *name,
                  const volatile int *interrupted, struct enrolment *enrolment, struct error *error) {
    struct enrolment made = {0};
    enum status status = enrol_file_read(directory, &made, error);
    bool known = status == STATUS_OK;
    if (known)
        status = check_run(&made, token, directory, error);
    else if (status == STATUS_NOT_FOUND)
        status = STATUS_OK;
    if (status != STATUS_OK)
        return status;
    /* Another key than the admitted one: a copied directory that was given keys of its own. */
    known =
        known && memcmp(made.admit.certificate.worker_key, keys->curve.public_key, sizeof keys->curve.public_key) == 0;
    memcpy(made.run_name, token->run_name, sizeof made.run_name);
    memcpy(made.outer_key, token->outer_key, sizeof made.outer_key);
    memcpy(made.addresses, token->addresses, sizeof made.addresses);
    made.address_count = token->address_count;
    uint32_t refusal = 0;
    if (known)
        status = recover(keys, directory, interrupted, &made, &refusal, error);
    if (!known || refusal == REFUSE_DUPLICATE)
        status = register_with(token, keys, directory, name, interrupted, &made, error);
    if (status == STATUS_OK)
        *enrolment = made;
    return status;
}

enum status enrol_load(const char *directory, const struct node_keys *keys, struct enrolment *enrolment,
                       struct error *error) {
    struct enrolment kept = {0};
    enum status status = enrol_file_read(directory, &kept, error);
    if (status != STATUS_OK)
        return status;
    if (memcmp(kept.admit.certificate.worker_key, keys->curve.public_key, sizeof keys->curve.public_key) != 0)
        return error_set(error, STATUS_CONFIG,
                         "%s: keys/seed is not the key that was admitted (as worker %s): start it with --join TOKEN",
                         directory, kept.admit.certificate.name);
    *enrolment = kept;
    return STATUS_OK;
}
