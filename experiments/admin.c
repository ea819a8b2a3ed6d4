#include "experiments/admin.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/files.h"
#include "comms/keys.h"
#include "comms/link.h"
#include "comms/token.h"

enum { PATIENCE_US = 3000000, ANSWER_US = 5000000, TURN_US = 100000, PATH_BYTES = 4096 };

struct admin {
    struct node_keys keys;
    struct token token;
    struct worker_link *link;
    bool connected;
    struct link_event event;
};

static enum status find_outer(const char *directory, char path[PATH_BYTES], struct error *error) {
    static const char *const places[] = {"%s", "%s/outer"};
    char seed[PATH_BYTES];
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, PATH_BYTES, i == 0 ? "%s" : "%s/outer", directory);
        snprintf(seed, sizeof seed, "%.4000s/join.token", path);
        if (files_exists(seed))
            return STATUS_OK;
    }
    return error_set(error, STATUS_NOT_FOUND, "%s: no outer's run directory (no join.token in it, nor in %s/outer)",
                     directory, directory);
}

enum status admin_open(const char *directory, struct admin **out, struct error *error) {
    char path[PATH_BYTES], token_path[PATH_BYTES];
    enum status status = find_outer(directory, path, error);
    if (status != STATUS_OK)
        return status;
    struct admin *admin = calloc(1, sizeof *admin);
    CHECK(admin != NULL);
    files_join(token_path, sizeof token_path, path, "join.token");
    keys_init();
    status = keys_open(path, &admin->keys, error);
    if (status == STATUS_OK)
        status = token_read(token_path, &admin->token, error);
    if (status == STATUS_OK) {
        struct worker_link_options options = {.role = PEER_ROLE_ADMIN,
                                              .addresses = admin->token.addresses,
                                              .address_count = admin->token.address_count,
                                              .outer_key = admin->token.outer_key,
                                              .curve = &admin->keys.curve,
                                              .patience_us = PATIENCE_US};
        status = worker_link_open(&options, &admin->link, error);
    }
    if (status != STATUS_OK) {
        free(admin);
        return status;
    }
    *out = admin;
    return STATUS_OK;
}

void admin_close(struct admin *admin) {
    worker_link_close(admin->link);
    keys_wipe(&admin->keys);
    free(admin);
}

static enum status receive(struct admin *admin, struct error *error) {
    worker_link_receive(admin->link, TURN_US, &admin->event);
    if (admin->event.kind == LINK_EVENT_REFUSED && admin->event.refusal == LINK_REFUSAL_NOBODY)
        return error_set(error, STATUS_UNREACHABLE, "the outer does not run: %s", admin->event.error.text);
    if (admin->event.kind == LINK_EVENT_REFUSED)
        return error_set(error, admin->event.error.status, "%s", admin->event.error.text);
    if (admin->event.kind == LINK_EVENT_CONNECTED)
        admin->connected = true;
    else if (admin->event.kind == LINK_EVENT_LOST)
        admin->connected = false;
    return STATUS_OK;
}

enum status admin_ask(struct admin *admin, const char *verb, const json_t *arguments, json_t **answer,
                      struct error *error) {
    struct message request = {.type = MESSAGE_ADMIN_REQUEST};
    char *text = arguments == NULL ? NULL : json_dumps(arguments, JSON_COMPACT);
    enum status status = STATUS_OK;
    uint64_t until_us = clock_now_us() + ANSWER_US;
    snprintf(request.body.admin_request.verb, sizeof request.body.admin_request.verb, "%s", verb);
    request.body.admin_request.text = text == NULL ? "{}" : text;
    while (status == STATUS_OK && !admin->connected && clock_now_us() < until_us)
        status = receive(admin, error);
    if (status == STATUS_OK)
        (void)!worker_link_send(admin->link, &request);
    free(text);
    while (status == STATUS_OK) {
        if (clock_now_us() > until_us)
            return error_set(error, STATUS_UNREACHABLE, "the outer does not answer");
        status = receive(admin, error);
        if (status != STATUS_OK || admin->event.kind != LINK_EVENT_MESSAGE ||
            admin->event.message.type != MESSAGE_ADMIN_REPLY)
            continue;
        const struct message_admin_reply *reply = &admin->event.message.body.admin_reply;
        if (!reply->ok)
            return error_set(error, STATUS_USAGE, "%s", reply->text);
        *answer = json_loads(reply->text, JSON_REJECT_DUPLICATES, NULL);
        return *answer != NULL ? STATUS_OK : error_set(error, STATUS_DATA, "the outer's answer is not JSON");
    }
    return status;
}

enum status admin_ask_once(const char *directory, const char *verb, const json_t *arguments, json_t **answer,
                           struct error *error) {
    struct admin *admin;
    enum status status = admin_open(directory, &admin, error);
    if (status != STATUS_OK)
        return status;
    status = admin_ask(admin, verb, arguments, answer, error);
    admin_close(admin);
    return status;
}

/* ---- what the commands share ---- */

int admin_fail(const char *command, const struct error *error) {
    fprintf(stderr, "atoll %s: %s\n", command, error->text);
    return status_exit_code(error->status);
}

void admin_print_json(const json_t *answer) {
    json_dumpf(answer, stdout, JSON_INDENT(2));
    putchar('\n');
}

long long admin_integer(const json_t *object, const char *key) {
    return (long long)json_integer_value(json_object_get(object, key));
}

const char *admin_text(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}
