/* island_join: how an island comes into a run: its directory and key, admission, the first session, the run that WELCOME tells. And what the sync
 * thread asks of it later: to show the certificate again, and to read what a later WELCOME changes. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/files.h"
#include "model/tokenizer.h"
#include "worker/island.h"

enum {
    PATIENCE_US = 60000000, /* nobody answers at all: who bears no state leaves, who does says so and dials on */
    WELCOME_US = 30000000,
    REDIAL_US = 2000000,
    TURN_US = 100000,
};

/* ---- admission ---- */

/* The directory's last part, cut to what a name may be. */
static void choose_name(struct island *island) {
    const char *slash = strrchr(island->directory, '/');
    const char *from = island->own.name != NULL ? island->own.name : slash != NULL ? slash + 1 : island->directory;
    size_t count = 0;
    for (; *from != 0 && count + 1 < sizeof island->name; from++)
        if (*from > ' ' && *from < 127)
            island->name[count++] = *from;
    island->name[count] = 0;
}

static enum status choose_caps(struct island *island, struct error *error) {
    struct run_file node;
    static const char text[] = "data: {train: [none]}\n";
    enum status status =
        run_file_parse(text, sizeof text - 1, "--set", ".", island->own.set.items, island->own.set.count, &node, error);
    if (status != STATUS_OK)
        return status;
    island->up_bytes_per_s =
        node.link.up_bytes_per_s != 0 ? node.link.up_bytes_per_s : island->enrolment.admit.up_bytes_per_s;
    island->down_bytes_per_s =
        node.link.down_bytes_per_s != 0 ? node.link.down_bytes_per_s : island->enrolment.admit.down_bytes_per_s;
    return STATUS_OK;
}

/* With a token, or by what this directory kept of an earlier admission. */
static enum status enrol_somehow(struct island *island, const struct token *token, struct error *error) {
    struct error later = {0};
    if (token == NULL)
        return enrol_load(island->directory, &island->keys, &island->enrolment, error);
    enum status status =
        enrol(token, &island->keys, island->directory, island->name, island->interrupted, &island->enrolment, error);
    if (status != STATUS_UNREACHABLE || !island->bears_state ||
        enrol_load(island->directory, &island->keys, &island->enrolment, &later) != STATUS_OK ||
        memcmp(island->enrolment.outer_key, token->outer_key, sizeof token->outer_key) != 0)
        return status;
    /* Nobody answers, but an outer that lost its state needs this worker: wait for it at the token's addresses. */
    island->enrolment.address_count = token->address_count;
    memcpy(island->enrolment.addresses, token->addresses, sizeof token->addresses);
    log_say(LOG_LEVEL_WARN, "%s", error->text);
    return STATUS_OK;
}

static enum status open_own(struct island *island, struct error *error) {
    const struct worker_values *values = island->values;
    struct own_values given = {.name = values->name, .data = values->data, .val = values->val, .set = values->set};
    enum status status = own_values_open(island->directory, &given, &island->own, error);
    if (status != STATUS_OK)
        return status;
    choose_name(island);
    log_set_node(island->name);
    if (island->own.kept[0] != 0)
        log_say(LOG_LEVEL_INFO, "as an earlier start was told (%s/own.json): %s", island->directory, island->own.kept);
    return STATUS_OK;
}

static enum status open_directory(struct island *island, const struct token *token, struct error *error) {
    enum status status = files_check_directory_name(island->values->directory, error);
    if (status != STATUS_OK)
        return status;
    if (island->values->directory != NULL)
        snprintf(island->directory, sizeof island->directory, "%s", island->values->directory);
    else
        snprintf(island->directory, sizeof island->directory, "runs/%s-worker", token->run_name);
    status = keys_check_node(island->directory, KEYS_NODE_WORKER, error);
    if (status == STATUS_OK)
        status = files_make_directory(island->directory, 0755, error);
    if (status == STATUS_OK)
        status = files_lock(island->directory, error);
    if (status == STATUS_OK)
        status = open_own(island, error);
    if (status == STATUS_OK)
        status = worker_store_open(island->directory, "worker", true, NULL, &island->store, error);
    if (status == STATUS_OK)
        island->bears_state = worker_store_found(island->store) != NULL;
    return status;
}

/* Before a place in the run is taken: a kill from then on is to lose nothing that was said here. */
static enum status save_own(struct island *island, struct error *error) {
    if (island->own.found)
        return STATUS_OK;
    enum status status = own_values_save(&island->own, island->directory, error);
    island->own_is_unproved = status == STATUS_OK;
    return status;
}

/* A name is given once. */
static void take_name(struct island *island) {
    const char *name = island->enrolment.admit.certificate.name;
    if (island->values->name != NULL && strcmp(island->name, name) != 0) {
        log_say(LOG_LEVEL_WARN, "--name %s: the run knows this worker as %s since it was admitted, and goes on so",
                island->values->name, name);
        own_values_rename(&island->own, name);
    }
    memcpy(island->name, name, sizeof island->name);
    log_set_node(island->name);
}

enum status island_get_admitted(struct island *island, struct error *error) {
    struct token token, *given = island->values->join != NULL ? &token : NULL;
    enum status status = given != NULL ? token_read(island->values->join, &token, error) : STATUS_OK;
    if (status == STATUS_OK)
        status = open_directory(island, given, error);
    if (status == STATUS_OK)
        status = keys_open(island->directory, &island->keys, error);
    if (status == STATUS_OK)
        status = save_own(island, error);
    if (status == STATUS_OK)
        status = enrol_somehow(island, given, error);
    if (status == STATUS_OK)
        status = choose_caps(island, error);
    if (status == STATUS_OK)
        take_name(island);
    return status;
}

/* ---- session ---- */

/* The outer's run file with this worker's own --set. */
static enum status parse_text(const struct island *island, const struct message_welcome *welcome, struct run_file *run,
                              struct error *error) {
    const struct option_list *set = &island->own.set;
    uint8_t hash[RUN_KEYS_HASH_BYTES];
    char cwd[RUN_PATH_BYTES];
    if (realpath(".", cwd) == NULL)
        return error_set(error, STATUS_IO, "cannot find the working directory");
    enum status status = run_file_parse(welcome->run_text, strlen(welcome->run_text), "the outer's run file", cwd,
                                        set->items, set->count, run, error);
    if (status != STATUS_OK)
        return status;
    run_file_keys_hash(run, hash);
    if (memcmp(hash, welcome->keys_hash, sizeof hash) != 0)
        return error_set(error, STATUS_CONFIG,
                         "--set changes a key that belongs to the whole run; a worker may set inner.threads, "
                         "inner.precision, model.recompute, link.up and link.down only");
    return STATUS_OK;
}

static enum status parse_run(struct island *island, const struct message_welcome *welcome, struct error *error) {
    enum status status = parse_text(island, welcome, &island->run, error);
    if (status != STATUS_OK)
        return status;
    memcpy(island->hello.keys_hash, welcome->keys_hash, sizeof island->hello.keys_hash);
    own_values_apply(&island->own, &island->run);
    return STATUS_OK;
}

/* Of a later WELCOME, in the sync thread. */
static bool read_continued(void *context, const struct message_welcome *welcome, struct sync_continued *continued) {
    struct run_file *run = malloc(sizeof *run);
    struct error error;
    CHECK(run != NULL);
    enum status status = parse_text(context, welcome, run, &error);
    if (status == STATUS_OK)
        *continued = (struct sync_continued){run->inner.steps, run->eval};
    else
        log_say(LOG_LEVEL_WARN, "the run file of this outer cannot be read, this worker keeps its own: %s", error.text);
    free(run);
    return status == STATUS_OK;
}

static void close_recovery(void *recovery) {
    enrol_recovery_close(recovery);
}

/* The outer lost its list: show it the certificate. A turn of it, in the sync thread, whose link then dials where this says. */
static enum status recover(void *context, struct worker_link_options *options, bool *done, struct error *error) {
    struct island *island = context;
    enum status status = STATUS_OK;
    *done = false;
    if (!aside_is_free(&island->closing_recovery))
        return STATUS_OK;
    if (island->recovery == NULL)
        status = enrol_recovery_open(&island->keys, island->directory, &island->enrolment, &island->recovery, error);
    if (status == STATUS_OK)
        status = enrol_recovery_turn(island->recovery, done, error);
    if (status == STATUS_OK && !*done)
        return STATUS_OK;
    *done = true;
    aside_run(&island->closing_recovery, close_recovery, island->recovery);
    island->recovery = NULL;
    options->addresses = island->enrolment.addresses;
    options->address_count = island->enrolment.address_count;
    return status;
}

static enum status redial(struct island *island, const struct link_event *event, struct error *error) {
    bool unlisted = event->refusal == LINK_REFUSAL_NOT_LISTED;
    if (!unlisted && !(event->error.status == STATUS_UNREACHABLE && island->bears_state))
        return error_set(error, event->error.status, "%s", event->error.text);
    if (!unlisted)
        log_say(LOG_LEVEL_WARN, "%s; this worker keeps its state and dials on", event->error.text);
    enum status status = STATUS_OK;
    if (unlisted)
        status = enrol_recover(&island->keys, island->directory, island->interrupted, &island->enrolment, error);
    if (status != STATUS_OK && !(island->bears_state && (status == STATUS_UNREACHABLE || status == STATUS_AGAIN)))
        return status;
    struct timespec pause = {.tv_sec = REDIAL_US / 1000000};
    nanosleep(&pause, NULL);
    worker_link_close(island->link);
    island->link = NULL;
    return worker_link_open(&island->link_options, &island->link, error);
}

static enum status on_session_event(struct island *island, const struct link_event *event, bool *welcomed,
                                    struct error *error) {
    if (event->kind == LINK_EVENT_REFUSED)
        return redial(island, event, error);
    if (event->kind == LINK_EVENT_CONNECTED) {
        struct message hello = {.type = MESSAGE_HELLO};
        hello.body.hello = island->hello;
        (void)!worker_link_send(island->link, &hello);
    }
    if (event->kind != LINK_EVENT_MESSAGE)
        return STATUS_OK;
    if (event->message.type == MESSAGE_REFUSE) {
        const struct message_refuse *refuse = &event->message.body.refuse;
        return error_set(error, enrol_refusal_status(refuse->code), "%s", refuse->text);
    }
    if (event->message.type == MESSAGE_WELCOME) {
        island->session = event->message.session;
        *welcomed = true;
        return parse_run(island, &event->message.body.welcome, error);
    }
    return STATUS_OK;
}

static void fill_hello(struct island *island) {
    struct message_hello *hello = &island->hello;
    const struct worker_image *found = worker_store_found(island->store);
    hello->protocol_version = MESSAGE_PROTOCOL_VERSION;
    hello->slot = island->enrolment.admit.certificate.slot;
    hello->down_bytes_per_s = island->down_bytes_per_s;
    memcpy(hello->run_id, island->enrolment.admit.certificate.run_id, sizeof hello->run_id);
    memcpy(hello->name, island->name, sizeof hello->name);
    randombytes_buf(&hello->incarnation, sizeof hello->incarnation);
    if (found == NULL)
        return;
    memcpy(hello->keys_hash, found->keys_hash, sizeof hello->keys_hash);
    hello->head_count = found->sizes.fragments;
    for (uint32_t f = 0; f < found->sizes.fragments; f++) {
        hello->heads[f] = found->fragments_list[f].version.head;
        worker_version_note(&found->fragments_list[f].version, &hello->run_step, &hello->members_mask);
    }
}

enum status island_begin_session(struct island *island, struct error *error) {
    island->link_options = (struct worker_link_options){.role = PEER_ROLE_WORKER,
                                                        .addresses = island->enrolment.addresses,
                                                        .address_count = island->enrolment.address_count,
                                                        .outer_key = island->enrolment.outer_key,
                                                        .curve = &island->keys.curve,
                                                        .bulk = true,
                                                        .up_bytes_per_s = island->up_bytes_per_s,
                                                        .patience_us = PATIENCE_US};
    fill_hello(island);
    enum status status = worker_link_open(&island->link_options, &island->link, error);
    if (status != STATUS_OK)
        return status;
    struct link_event *event = calloc(1, sizeof *event);
    uint64_t until_us = clock_now_us() + PATIENCE_US + WELCOME_US;
    bool welcomed = false;
    CHECK(event != NULL);
    while (status == STATUS_OK && !welcomed) {
        worker_link_receive(island->link, TURN_US, event);
        status = on_session_event(island, event, &welcomed, error);
        if (status == STATUS_OK && *island->interrupted)
            status = error_set(error, STATUS_AGAIN, "interrupted before the outer answered");
        if (status == STATUS_OK && !welcomed && clock_now_us() > until_us) {
            if (!island->bears_state)
                status = error_set(error, STATUS_UNREACHABLE, "the outer accepted the connection but does not answer");
            worker_link_redial(island->link);
            until_us = clock_now_us() + WELCOME_US;
        }
    }
    free(event);
    return status;
}

struct sync_thread_options island_sync_options(struct island *island) {
    const struct message_admit *admit = &island->enrolment.admit;
    struct sync_thread_options options = {.link = island->link,
                                          .link_options = island->link_options,
                                          .recover = recover,
                                          .read_continued = read_continued,
                                          .context = island,
                                          .run = &island->run,
                                          .copy = &island->copy,
                                          .log = island->log,
                                          .hello = island->hello,
                                          .session = island->session,
                                          .up_bytes_per_s = island->up_bytes_per_s,
                                          .down_bytes_per_s = island->down_bytes_per_s,
                                          .interrupted = island->interrupted};
    struct state_hash hash;
    outer_copy_hash_all(&island->copy, &hash);
    memcpy(options.ready.initial_hash, hash.bytes, sizeof hash.bytes);
    tokenizer_hash((enum tokenizer_kind)island->run.data.tokenizer, island->run.model.vocab,
                   options.ready.tokenizer_hash);
    memcpy(options.run_id, admit->certificate.run_id, sizeof options.run_id);
    memcpy(options.sign_key, admit->sign_key, sizeof options.sign_key);
    return options;
}
