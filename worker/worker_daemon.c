/* worker_daemon: admission, session, training, end; and coming back from a checkpoint. The main thread is the compute thread. */
#include "worker/worker_daemon.h"
#include <math.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/options.h"
#include "base/units.h"
#include "comms/link.h"
#include "model/tokenizer.h"
#include "outer/run_header.h"
#include "worker/aside.h"
#include "worker/enrol.h"
#include "worker/eval_log.h"
#include "worker/inner_loop.h"
#include "worker/own_values.h"
#include "worker/selftest.h"
#include "worker/sync_thread.h"
#include "worker/worker_store.h"

enum {
    PATIENCE_US = 60000000, /* nobody answers at all: who bears no state leaves, who does says so and dials on */
    WELCOME_US = 30000000,
    REDIAL_US = 2000000,
    TURN_US = 100000,
    DRAIN_US = 10000000, /* SIGTERM: for what is in flight */
    PROGRESS_US = 10000000,
    FAREWELL_US = 600000000, /* slower workers may still evaluate */
};

static volatile sig_atomic_t stop_signals;
static volatile int interrupted;

static void on_stop_signal(int number) {
    (void)number;
    interrupted = 1;
    if (++stop_signals > 1)
        _Exit(143);
}

struct worker_values {
    const char *join;
    const char *directory;
    const char *name;
    struct option_list data, val, set;
    bool selftest;
};

static const struct option_row worker_rows[] = {
    OPTION_TEXT(struct worker_values, join, "join", 0, "TOKEN",
                "the token that the outer printed, a file that holds it, or - for standard input; a --dir that the run "
                "admitted before needs none"),
    OPTION_TEXT(
        struct worker_values, directory, "dir", 0, "D",
        "this worker's directory: key, log, checkpoints, and what it is told here, which its next starts go on with "
        "(own.json) (default runs/NAME-worker)"),
    OPTION_LIST(struct worker_values, data, "data", 0, "GLOB",
                "this worker's own training text instead of the run file's"),
    OPTION_LIST(struct worker_values, val, "val", 0, "GLOB", "this worker's own held-out text"),
    OPTION_TEXT(struct worker_values, name, "name", 0, "NAME",
                "what the outer and the logs call it (default: the directory's name)"),
    OPTION_LIST(struct worker_values, set, "set", 0, "KEY=VALUE",
                "change one node key: inner.threads, link.up, link.down, checkpoint.every"),
    OPTION_FLAG(struct worker_values, selftest, "selftest", 0, "test this machine's arithmetic, and leave"),
    OPTION_END,
};
static const struct option_command worker_options = {
    "worker", "train an island of a run", worker_rows,
    "Everything else comes from the run: model, schedule, place. Paste the line that `atoll outer` printed."};

struct island {
    const struct worker_values *values;
    struct own_values own; /* of the command line, and of earlier ones */
    char directory[RUN_PATH_BYTES];
    char name[MESSAGE_NAME_BYTES];
    struct node_keys keys;
    struct enrolment enrolment;
    struct worker_store *store;
    bool bears_state; /* a checkpoint was found */
    struct message_hello hello;
    uint64_t up_bytes_per_s, down_bytes_per_s;
    struct worker_link *link; /* until the sync thread owns it */
    struct worker_link_options link_options;
    uint64_t session;
    struct enrol_recovery *recovery; /* the sync thread's, while it shows the certificate */
    struct aside closing_recovery;   /* the one before */
    struct run_file run;
    struct log *log;
    struct inner_loop loop;
    struct fragments fragments;
    struct outer_copy copy;
    struct sync_thread *sync;
    struct selftest *selftest;
    struct worker_image_sizes sizes;
    uint64_t next_checkpoint_us;
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
        enrol(token, &island->keys, island->directory, island->name, &interrupted, &island->enrolment, error);
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

static enum status get_admitted(struct island *island, struct error *error) {
    struct token token, *given = island->values->join != NULL ? &token : NULL;
    enum status status = given != NULL ? token_read(island->values->join, &token, error) : STATUS_OK;
    if (status == STATUS_OK)
        status = open_directory(island, given, error);
    if (status == STATUS_OK)
        status = keys_open(island->directory, &island->keys, error);
    if (status == STATUS_OK)
        status = enrol_somehow(island, given, error);
    if (status == STATUS_OK)
        status = choose_caps(island, error);
    if (status == STATUS_OK) {
        memcpy(island->name, island->enrolment.admit.certificate.name, sizeof island->name);
        log_set_node(island->name);
    }
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
                         "--set changes a key that belongs to the whole run; a worker may set inner.threads, link.up "
                         "and link.down only");
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
        status = enrol_recover(&island->keys, island->directory, &interrupted, &island->enrolment, error);
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

static enum status begin_session(struct island *island, struct error *error) {
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
        if (status == STATUS_OK && interrupted)
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

/* ---- the island ---- */

static enum status write_run_file(const struct island *island, struct error *error) {
    char path[RUN_PATH_BYTES];
    char *text = run_file_text(&island->run, false, true);
    files_join(path, sizeof path, island->directory, "run.yaml");
    enum status status = files_write_atomic(path, text, strlen(text), 0644, error);
    free(text);
    return status;
}

static bool is_leaving(struct island *island) {
    char reason[MESSAGE_TEXT_BYTES];
    return interrupted || (island->sync != NULL && sync_thread_is_drained(island->sync, reason));
}

/* An evaluation may take longer than many rounds: what is due meanwhile is merged (it evaluates a copy). */
static bool between_batches(void *context) {
    struct island *island = context;
    if (island->sync != NULL)
        sync_thread_merge_now(island->sync);
    return !is_leaving(island);
}

/* Held-out text is optional: a worker without it trains all the same. */
static enum status open_loop(struct island *island, struct error *error) {
    struct run_file *run = &island->run;
    enum status status;
    if (run->data.val_count > 0) {
        struct run_file only_val = *run;
        only_val.data.train_count = 0;
        struct dataset *probe = NULL;
        status =
            dataset_open_held_out(&only_val.data, &run->model, run->base_directory, run->eval.windows, &probe, error);
        if (status == STATUS_OK) {
            dataset_close(probe);
        } else if (island->own.val.count > 0) {
            return status;
        } else {
            log_say(LOG_LEVEL_WARN, "no held-out text on this machine (%s)", error->text);
            run->data.val_count = 0;
        }
    }
    uint32_t slot = island->enrolment.admit.certificate.slot;
    if (island->own.data.count > 0) { /* a corpus of its own is used whole, not in parts */
        run->data.parts = 1;
        slot = 0;
    }
    status =
        inner_loop_open(&island->loop, run, island->log, slot, (struct evaluate_hook){between_batches, island}, error);
    if (status != STATUS_OK && island->own.data.count == 0)
        error_prefix(error, "no training text on this machine; give this worker its own with --data GLOB");
    return status;
}

static enum status open_island(struct island *island, struct error *error) {
    char path[RUN_PATH_BYTES];
    const struct run_file *run = &island->run;
    files_join(path, sizeof path, island->directory, "log.jsonl");
    enum status status = log_open(&island->log, path, error);
    if (status == STATUS_OK)
        status = write_run_file(island, error);
    if (status == STATUS_OK)
        status = open_loop(island, error);
    if (status == STATUS_OK)
        status = own_values_save(&island->own, island->directory, error); /* with them the island stands */
    if (status == STATUS_OK)
        status = fragments_create(model_tensors(island->loop.model), run->model.layers, run->sync.fragment_layers,
                                  (enum fragment_pattern)run->sync.pattern, &island->fragments, error);
    if (status == STATUS_OK)
        status = outer_copy_open(&island->copy, &island->fragments, run, model_parameters(island->loop.model), error);
    if (status == STATUS_OK)
        status = selftest_open(&island->selftest, error);
    if (status != STATUS_OK)
        return status;
    struct run_header header = {.role = "worker",
                                .node = island->name,
                                .slot = island->enrolment.admit.certificate.slot,
                                .run_id = island->enrolment.admit.certificate.run_id,
                                .run = run,
                                .table = model_tensors(island->loop.model),
                                .copy = &island->copy,
                                .up_bytes_per_s = island->up_bytes_per_s,
                                .down_bytes_per_s = island->down_bytes_per_s};
    log_event(island->log, "header", run_header_json(&header));
    return STATUS_OK;
}

/* From the checkpoint, when there is one; `tokens` is what was ever counted here. */
static enum status resume(struct island *island, const struct worker_image **image, uint64_t *tokens,
                          struct error *error) {
    char path[RUN_PATH_BYTES];
    uint64_t generation = worker_store_generation(island->store);
    files_join(path, sizeof path, island->directory, "log.jsonl");
    *tokens = worker_store_logged_tokens(path);
    worker_store_set_log(island->store, island->log);
    sync_thread_image_sizes(&island->copy, model_tensors(island->loop.model)->block_floats, &island->sizes);
    if (island->bears_state) {
        enum status status =
            worker_store_restore(island->store, &island->sizes, island->enrolment.admit.certificate.run_id,
                                 island->hello.keys_hash, image, error);
        if (status != STATUS_OK)
            return status;
        worker_image_to_loop(*image, &island->loop);
        *tokens = *tokens > (*image)->tokens ? *tokens : (*image)->tokens;
    }
    if (*tokens == 0)
        return STATUS_OK;
    log_say(LOG_LEVEL_INFO, "going on from step %llu, with %llu tokens counted", (unsigned long long)island->loop.step,
            (unsigned long long)*tokens);
    log_event(island->log, "recover",
              json_pack("{s:s, s:I, s:I, s:I}", "what", "restart", "generation", (json_int_t)generation, "step",
                        (json_int_t)island->loop.step, "tokens", (json_int_t)*tokens));
    return STATUS_OK;
}

static enum status start_sync(struct island *island, struct error *error) {
    struct sync_thread_options options = {.link = island->link,
                                          .link_options = island->link_options,
                                          .recover = recover,
                                          .read_continued = read_continued,
                                          .context = island,
                                          .run = &island->run,
                                          .copy = &island->copy,
                                          .theta = model_parameters(island->loop.model),
                                          .moment1 = model_moment1(island->loop.model),
                                          .moment2 = model_moment2(island->loop.model),
                                          .log = island->log,
                                          .hello = island->hello,
                                          .session = island->session,
                                          .up_bytes_per_s = island->up_bytes_per_s,
                                          .down_bytes_per_s = island->down_bytes_per_s,
                                          .interrupted = &interrupted};
    struct state_hash hash;
    enum status status = resume(island, &options.resume, &options.tokens, error);
    if (status != STATUS_OK)
        return status;
    outer_copy_hash_all(&island->copy, &hash); /* still the seed's */
    memcpy(options.ready.initial_hash, hash.bytes, sizeof hash.bytes);
    tokenizer_hash((enum tokenizer_kind)island->run.data.tokenizer, island->run.model.vocab,
                   options.ready.tokenizer_hash);
    options.ready.has_validation = island->loop.held_out != NULL;
    options.ready.tokens_per_step = inner_loop_tokens_per_step(&island->run);
    memcpy(options.run_id, island->enrolment.admit.certificate.run_id, sizeof options.run_id);
    memcpy(options.sign_key, island->enrolment.admit.sign_key, sizeof options.sign_key);
    status = sync_thread_open(&options, &island->sync, error);
    if (status == STATUS_OK)
        island->link = NULL; /* the thread's now */
    island->loop.tokens = options.tokens;
    island->next_checkpoint_us = clock_now_us() + island->run.checkpoint.every_us;
    return status;
}

/* ---- training ---- */

static enum status evaluate(struct island *island, bool final, struct evaluation *evaluation, struct error *error) {
    struct message_telemetry telemetry;
    uint64_t took_us, run_step, run_tokens;
    outer_copy_to_block(&island->copy, island->loop.evaluated);
    sync_thread_run(island->sync, &run_step, &run_tokens); /* of the copy, not of the end of the evaluation */
    sync_thread_telemetry(island->sync, &telemetry);
    sync_thread_set_phase(island->sync, WORKER_EVALUATING);
    enum status status = inner_loop_evaluate(&island->loop, island->loop.evaluated, evaluation, &took_us, error);
    sync_thread_set_phase(island->sync, final ? WORKER_ENDING : WORKER_TRAINING);
    if (status != STATUS_OK)
        return status;
    sync_thread_set_eval(island->sync, run_step, evaluation->loss, island->loop.eval_us);
    eval_log(&island->loop, evaluation, took_us, final, run_step, run_tokens, &telemetry);
    return STATUS_OK;
}

/* Who was away goes on where the others are; who is slow in quorum mode takes their learning rate, and with inner.pace: time their step. */
static void follow_run_clock(struct island *island) {
    uint64_t clock = sync_thread_run_clock(island->sync), step = island->loop.step, run_tokens;
    uint64_t last = (uint64_t)island->run.inner.steps;
    sync_thread_run(island->sync, &island->loop.run_step, &run_tokens);
    clock = clock < last ? clock : last;
    if (clock <= step)
        return;
    island->loop.step = clock;
    if (island->run.inner.pace == INNER_PACE_TIME)
        return; /* it does so all the time */
    log_say(LOG_LEVEL_INFO, "the others are at step %llu: going on from there, not from %llu",
            (unsigned long long)clock, (unsigned long long)step);
    log_event(
        island->log, "recover",
        json_pack("{s:s, s:I, s:I}", "what", "run clock", "from_step", (json_int_t)step, "step", (json_int_t)clock));
}

/* The outer was started again: inner.steps and eval are the run's as of now, here and in run.yaml. Returns whether there are more steps. */
static bool take_continued(struct island *island) {
    struct run_file *run = &island->run;
    struct sync_continued continued;
    struct error error;
    if (!sync_thread_take_continued(island->sync, &continued))
        return false;
    bool more = continued.steps > run->inner.steps, windows = continued.eval.windows != run->eval.windows;
    if (continued.steps != run->inner.steps)
        log_say(LOG_LEVEL_INFO, "the run has %lld steps now, not %lld", (long long)continued.steps,
                (long long)run->inner.steps);
    run->inner.steps = continued.steps;
    run->eval = continued.eval;
    log_event(island->log, "recover",
              json_pack("{s:s, s:I, s:I}", "what", "run file", "step", (json_int_t)island->loop.step, "steps",
                        (json_int_t)continued.steps));
    if (write_run_file(island, &error) != STATUS_OK)
        log_say(LOG_LEVEL_WARN, "%s", error.text);
    if (windows && inner_loop_reopen_held_out(&island->loop, &error) != STATUS_OK)
        log_say(LOG_LEVEL_WARN, "evaluating as before: %s", error.text);
    return more;
}

/* At a step boundary. Training stands still for the copy, not for the write; while the one before is still being written nothing happens. */
static void checkpoint(struct island *island) {
    uint64_t started_us = clock_now_us();
    struct worker_image *image = worker_store_begin(island->store, &island->sizes);
    island->next_checkpoint_us = started_us + island->run.checkpoint.every_us;
    if (image == NULL)
        return;
    sync_thread_save_begin(island->sync, image);
    worker_image_from_loop(image, &island->loop);
    bool whole = sync_thread_save_end(island->sync);
    image->tokens = sync_thread_tokens(island->sync);
    memcpy(image->run_id, island->enrolment.admit.certificate.run_id, sizeof image->run_id);
    memcpy(image->keys_hash, island->hello.keys_hash, sizeof image->keys_hash);
    if (whole)
        worker_store_write(island->store, clock_now_us() - started_us);
}

static void consider_checkpoint(struct island *island) {
    if (island->run.checkpoint.every_us > 0 && clock_now_us() >= island->next_checkpoint_us)
        checkpoint(island);
}

/* Before it leaves: what was trained is kept, unless the island itself went wrong. */
static void checkpoint_last(struct island *island) {
    struct error verdict;
    bool orderly;
    if (sync_thread_verdict(island->sync, &orderly, &verdict) != STATUS_OK && !orderly)
        return;
    (void)worker_store_wait(island->store);
    checkpoint(island);
}

/* A line now and then for who watches this machine. */
static void say_progress(struct island *island, uint64_t *next_us) {
    struct message_telemetry t;
    char up[UNITS_TEXT_BYTES], down[UNITS_TEXT_BYTES], wait[UNITS_TEXT_BYTES], left[UNITS_TEXT_BYTES];
    uint64_t now_us = clock_now_us(), steps = (uint64_t)island->run.inner.steps;
    if (now_us < *next_us)
        return;
    bool first = *next_us == 0;
    *next_us = now_us + PROGRESS_US;
    if (first)
        return;
    sync_thread_telemetry(island->sync, &t);
    double tokens_left =
        (double)(steps > t.step ? steps - t.step : 0) * (double)inner_loop_tokens_per_step(&island->run);
    log_say(LOG_LEVEL_INFO, "step %llu/%llu  loss %.3f  %.1fk tokens/s  up %s down %s  wait %s  %s left",
            (unsigned long long)t.step, (unsigned long long)steps, t.loss, t.tokens_per_s / 1e3,
            units_format_bytes(t.wire_up, up), units_format_bytes(t.wire_down, down),
            units_format_duration(t.wait_us, wait),
            t.tokens_per_s > 0 ? units_format_duration((uint64_t)(tokens_left / t.tokens_per_s * 1e6), left) : "-");
}

static enum status one_step(struct island *island, bool *go_on, struct error *error) {
    struct inner_loop *loop = &island->loop;
    uint64_t selftest = (uint64_t)island->run.worker.selftest;
    if (selftest > 0 && loop->step % selftest == 0 && loop->step > 0) {
        enum status status = selftest_run(island->selftest, error);
        if (status != STATUS_OK)
            return status;
    }
    loop->tokens = sync_thread_tokens(island->sync);
    enum status status = inner_loop_step(loop, error);
    if (status != STATUS_OK)
        return status;
    struct sync_stepped stepped = {.step = loop->step,
                                   .tokens = inner_loop_tokens_per_step(&island->run),
                                   .loss = loop->loss,
                                   .took_us = loop->step_us};
    *go_on = sync_thread_step(island->sync, &stepped); /* the verdict says why not */
    loop->tokens = sync_thread_tokens(island->sync);
    return STATUS_OK;
}

static enum status train(struct island *island, bool *complete, struct error *error) {
    uint64_t progress_us = 0;
    const struct run_file *run = &island->run;
    struct evaluation evaluation;
    enum status status = STATUS_OK;
    while (!is_leaving(island) && !sync_thread_is_ended(island->sync)) {
        (void)take_continued(island);
        uint64_t last = (uint64_t)run->inner.steps, every = (uint64_t)run->eval.every_steps;
        bool go_on = sync_thread_catch_up(island->sync);
        if (go_on)
            follow_run_clock(island);
        if (!go_on || island->loop.step >= last)
            break;
        status = one_step(island, &go_on, error);
        if (status != STATUS_OK || !go_on)
            return status;
        say_progress(island, &progress_us);
        bool due = every > 0 && island->loop.step % every == 0 && island->loop.step < last;
        if (due && island->loop.held_out != NULL && sync_thread_is_evaluator(island->sync)) {
            status = evaluate(island, false, &evaluation, error);
            if (status != STATUS_OK && !is_leaving(island))
                return status;
        }
        consider_checkpoint(island);
    }
    if (is_leaving(island)) {
        sync_thread_drain(island->sync, DRAIN_US);
    } else {
        sync_thread_set_phase(island->sync, WORKER_ENDING);
        *complete = sync_thread_finish(island->sync);
    }
    return STATUS_OK;
}

/* All versions are final: hash, evaluate where the text is, report. */
static enum status conclude(struct island *island, char state_hex[2 * STATE_HASH_BYTES + 1], struct error *error) {
    struct message_final final = {.eval_loss = NAN, .bits_per_byte = NAN};
    struct state_hash hash;
    enum status status = STATUS_OK;
    outer_copy_hash_all(&island->copy, &hash);
    memcpy(final.state_hash, hash.bytes, sizeof hash.bytes);
    bytes_to_hex(hash.bytes, sizeof hash.bytes, state_hex);
    bool evaluates = island->loop.held_out != NULL && sync_thread_is_evaluator(island->sync);
    do {
        if (evaluates) {
            struct evaluation evaluation;
            status = evaluate(island, true, &evaluation, error);
            if (status != STATUS_OK)
                return is_leaving(island) ? STATUS_OK : status; /* somebody else will */
            final.has_eval = true;
            final.eval_loss = evaluation.loss;
            final.bits_per_byte = evaluation.bits_per_byte;
            final.eval_windows = evaluation.windows;
        }
        bool can_evaluate = island->loop.held_out != NULL && !final.has_eval;
        evaluates = sync_thread_send_final(island->sync, &final, can_evaluate, FAREWELL_US);
    } while (evaluates);
    return status;
}

static enum status run_island(struct island *island, struct error *error) {
    char state_hex[2 * STATE_HASH_BYTES + 1] = "";
    bool complete = false, orderly = false;
    struct error verdict = {0};
    enum status status = STATUS_OK;
    bool started = sync_thread_wait_start(island->sync);
    do {
        complete = false;
        state_hex[0] = '\0';
        if (started)
            status = train(island, &complete, error);
        if (status == STATUS_OK)
            checkpoint_last(island);
        if (status == STATUS_OK && complete)
            status = conclude(island, state_hex, error);
    } while (status == STATUS_OK && started && !is_leaving(island) && take_continued(island));
    enum status stopped = sync_thread_verdict(island->sync, &orderly, &verdict);
    /* Who holds the final versions has done its part, also when the farewell is lost with the outer. */
    if (complete && stopped == STATUS_UNREACHABLE)
        log_say(LOG_LEVEL_WARN, "%s", verdict.text);
    else if (status == STATUS_OK && stopped != STATUS_OK)
        status = error_set(error, stopped, "%s", verdict.text);
    char drain_reason[MESSAGE_TEXT_BYTES];
    bool drained = sync_thread_is_drained(island->sync, drain_reason);
    const char *reason = status != STATUS_OK ? error->text
                         : complete          ? "trained to the end"
                         : orderly           ? verdict.text
                         : drained           ? drain_reason
                                             : "told to stop";
    struct message_telemetry telemetry;
    char goodbye[MESSAGE_TEXT_BYTES];
    snprintf(goodbye, sizeof goodbye, "%.500s", reason);
    for (char *c = goodbye; *c != 0; c++)
        *c = *c == '\n' ? ' ' : *c;
    sync_thread_close(island->sync, goodbye, &telemetry);
    island->sync = NULL;
    (void)worker_store_wait(island->store);
    end_log(&island->loop, reason, state_hex, &telemetry);
    log_say(status == STATUS_OK ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, "leaving after step %llu: %s",
            (unsigned long long)island->loop.step, reason);
    return status;
}

static void close_island(struct island *island) {
    if (island->link != NULL) {
        struct message goodbye = {
            .type = MESSAGE_GOODBYE, .session = island->session, .body.text.text = "could not start"};
        if (island->session != 0)
            (void)!worker_link_send(island->link, &goodbye);
        worker_link_close(island->link);
    }
    enrol_recovery_close(island->recovery);
    aside_wait(&island->closing_recovery);
    selftest_close(island->selftest);
    worker_store_close(island->store);
    inner_loop_close(&island->loop);
    outer_copy_close(&island->copy);
    fragments_destroy(&island->fragments);
    log_close(island->log);
    own_values_close(&island->own);
    keys_wipe(&island->keys);
    free(island);
}

int worker_command(int argc, char **argv) {
    struct worker_values values = {0};
    struct error error = {0};
    int exit_code;
    if (!options_or_exit(&worker_options, argc, argv, &values, &exit_code))
        return exit_code;
    if (values.selftest)
        return selftest_command();
    if (values.join == NULL && values.directory == NULL) {
        fprintf(stderr, "atoll worker: --join TOKEN is missing; paste the line that `atoll outer` printed, or give the "
                        "--dir of a worker that was admitted before\n");
        return status_exit_code(STATUS_USAGE);
    }
    keys_init();
    struct sigaction action = {.sa_handler = on_stop_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct island *island = calloc(1, sizeof *island);
    if (island == NULL)
        return status_exit_code(STATUS_NO_MEMORY);
    island->values = &values;
    enum status status = get_admitted(island, &error);
    if (status == STATUS_OK)
        status = begin_session(island, &error);
    if (status == STATUS_OK)
        status = open_island(island, &error);
    if (status == STATUS_OK)
        status = start_sync(island, &error);
    if (status == STATUS_OK)
        status = run_island(island, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "atoll worker: %s\n", error.text);
    close_island(island);
    /* Told to go while it waited for an answer: it did as it was told, as it does later on. */
    return interrupted && status == STATUS_AGAIN ? 0 : status_exit_code(status);
}
