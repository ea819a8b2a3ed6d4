/* outer_daemon: command, set-up, main loop, end. */
#include "outer/outer_daemon.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/options.h"
#include "model/model_files.h"
#include "model/tokenizer.h"
#include "outer/outer_address.h"
#include "outer/outer_run.h"
#include "outer/run_header.h"

enum {
    TURN_US = 50000,
    EVENTS_PER_TURN = 256,
    ALONE_US = 30000000,   /* all workers gone after the start: how long links may take to come back */
    FAREWELL_US = 5000000, /* how long members may take to leave */
    EXPORT_US = 300000000, /* how long a full disk may take to be mended */
    EXPORT_AGAIN_US = 5000000,
    PROGRESS_US = 10000000,
    TOKEN_TTL_S = 24 * 3600,
};

static volatile sig_atomic_t stop_signals;

static void on_stop_signal(int number) {
    (void)number;
    if (++stop_signals > 1)
        _Exit(143);
}

struct outer_values {
    const char *run_file;
    const char *directory;
    const char *listen;
    const char *advertise;
    struct option_list set;
};

static const struct option_row outer_rows[] = {
    OPTION_POSITIONAL(struct outer_values, run_file, "RUN.yaml", "the run file"),
    OPTION_TEXT(struct outer_values, directory, "dir", 0, "D", "run directory (default runs/NAME-outer)"),
    OPTION_TEXT(struct outer_values, listen, "listen", 0, "HOST:PORT",
                "control port, bulk is PORT+1; port 0 = any (default 0.0.0.0:7070)"),
    OPTION_TEXT(struct outer_values, advertise, "advertise", 0, "HOST",
                "the name or address that workers dial (default: the listen host, or this machine's first address)"),
    OPTION_LIST(struct outer_values, set, "set", 0, "KEY=VALUE", "change one key of the run file"),
    OPTION_END,
};
static const struct option_command outer_options = {
    "outer", "lead a run: workers dial in, fragments are averaged", outer_rows,
    "Prints one line that starts a worker anywhere: atoll worker --join TOKEN. The same token is in D/join.token."};

/* ---- set-up ---- */

static enum status open_state(struct outer_run *outer, struct error *error) {
    const struct run_file *run = &outer->run;
    enum status status = tensors_table_create(&run->model, &outer->table, error);
    if (status != STATUS_OK)
        return status;
    status = fragments_create(&outer->table, run->model.layers, run->sync.fragment_layers,
                              (enum fragment_pattern)run->sync.pattern, &outer->fragments, error);
    if (status != STATUS_OK)
        return status;
    float *block = aligned_alloc(ARENA_ALIGNMENT, outer->table.block_floats * sizeof(float));
    if (block == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu parameters", outer->table.parameter_count);
    tensors_initialize(&outer->table, &run->model, (uint64_t)run->inner.seed, block);
    status = outer_copy_open(&outer->copy, &outer->fragments, run, block, error);
    free(block);
    if (status == STATUS_OK)
        status = commit_maker_open(&outer->maker, &outer->copy, run->sync.error_feedback, error);
    if (status != STATUS_OK)
        return status;
    outer_copy_hash_all(&outer->copy, &outer->initial_hash);
    for (int f = 0; f < outer->fragments.count; f++) {
        struct state_hash hash;
        outer_copy_hash(&outer->copy, f, outer->copy.g + outer->copy.offsets[f], &hash);
        commit_genesis(outer->run_id, (uint32_t)f, hash.bytes, outer->heads[f]);
    }
    return STATUS_OK;
}

static void open_rounds(struct outer_run *outer) {
    const struct sync_options *sync = &outer->run.sync;
    struct round_options options = {
        .workers = (uint32_t)outer->run.workers,
        .fragments = (uint32_t)outer->fragments.count,
        .quorum = (uint32_t)sync->quorum,
        .grace_us = sync->grace_us,
        .stale = sync->quorum == SYNC_QUORUM_ALL && sync->overlap_steps != SYNC_OVERLAP_AUTO ? 0 : 2};
    for (int f = 0; f < outer->fragments.count; f++)
        options.payload_bytes[f] = outer_copy_payload_up(&outer->copy, f);
    round_open(&outer->machine, &options);
}

static void wake_link(void *link) {
    outer_link_wake(link);
}

static enum status open_link(struct outer_run *outer, const char *host, uint16_t port, struct error *error) {
    enum status status =
        admission_open(outer->directory, &outer->keys, (uint32_t)outer->run.workers, &outer->admission, error);
    if (status != STATUS_OK)
        return status;
    admission_set_run_id(outer->admission, outer->run_id);
    struct outer_link_options options = {.host = host,
                                         .control_port = port,
                                         .bulk_port = (uint16_t)(port == 0 ? 0 : port + 1),
                                         .keys = &outer->keys,
                                         .admission = outer->admission};
    status = outer_link_open(&options, &outer->link, error);
    if (status != STATUS_OK)
        return status;
    outer_link_ports(outer->link, &outer->advertised.control_port, &outer->advertised.bulk_port);
    return outer_compute_open(&outer->maker, wake_link, outer->link, &outer->compute, error);
}

static enum status write_run_directory(struct outer_run *outer, struct error *error) {
    char path[RUN_PATH_BYTES];
    char *text = run_file_text(&outer->run, false, true);
    files_join(path, sizeof path, outer->directory, "run.yaml");
    enum status status = files_write_atomic(path, text, strlen(text), 0644, error);
    free(text);
    if (status != STATUS_OK)
        return status;
    char token[TOKEN_TEXT_BYTES];
    status = outer_make_token(outer, TOKEN_TTL_S, (uint32_t)outer->run.workers, token, error);
    if (status != STATUS_OK)
        return status;
    files_join(path, sizeof path, outer->directory, "join.token");
    status = files_write_atomic(path, token, strlen(token), 0600, error);
    if (status == STATUS_OK) {
        printf("atoll worker --join %s\n", token);
        fflush(stdout);
    }
    return status;
}

static enum status open_outer(struct outer_run *outer, const struct outer_values *values, struct error *error) {
    char host[TOKEN_HOST_BYTES], log_path[RUN_PATH_BYTES];
    uint16_t port = 0;
    enum status status = float_environment_check(error);
    if (status == STATUS_OK)
        status = outer_address_listen(values->listen, host, &port, error);
    if (status == STATUS_OK)
        status = outer_address_advertise(host, values->advertise, outer->advertised.host, error);
    if (status == STATUS_OK)
        status = files_check_directory_name(values->directory, error);
    if (status == STATUS_OK)
        status = run_file_load(values->run_file, values->set.items, values->set.count, RUN_FILE_DATA_IGNORED,
                               &outer->run, error);
    if (status != STATUS_OK)
        return status;
    if (outer->run.sync.off)
        return error_set(error, STATUS_CONFIG, "sync: off has no outer; `atoll train %s` trains alone",
                         values->run_file);
    if (values->directory != NULL)
        snprintf(outer->directory, sizeof outer->directory, "%s", values->directory);
    else
        snprintf(outer->directory, sizeof outer->directory, "runs/%s-outer", outer->run.name);
    files_join(log_path, sizeof log_path, outer->directory, "log.jsonl");
    status = files_make_directory(outer->directory, 0755, error);
    if (status == STATUS_OK)
        status = files_lock(outer->directory, error);
    if (status == STATUS_OK && files_exists(log_path))
        status = error_set(error, STATUS_CONFIG, "%s holds an earlier run; choose another --dir, or remove it",
                           outer->directory);
    if (status == STATUS_OK)
        status = keys_open(outer->directory, &outer->keys, error);
    if (status != STATUS_OK)
        return status;
    outer->epoch = 1;
    outer->opened_us = clock_now_us();
    outer->run_text = run_file_text(&outer->run, false, true);
    run_file_keys_hash(&outer->run, outer->keys_hash);
    tokenizer_hash((enum tokenizer_kind)outer->run.data.tokenizer, outer->run.model.vocab, outer->tokenizer_hash);
    run_id_make(outer->keys.curve.public_key, outer->run.name, outer->keys_hash, outer->run_id);
    if (strlen(outer->run_text) > MESSAGE_LONG_TEXT_MAX)
        return error_set(error, STATUS_CONFIG, "the run file is too long to send to workers: at most %d bytes",
                         MESSAGE_LONG_TEXT_MAX);
    status = open_state(outer, error);
    if (status != STATUS_OK)
        return status;
    open_rounds(outer);
    status = open_link(outer, host, port, error);
    if (status == STATUS_OK)
        status = log_open(&outer->log, log_path, error); /* last: what fails before leaves no run behind */
    if (status != STATUS_OK)
        return status;
    struct run_header header = {.role = "outer",
                                .node = "outer",
                                .slot = -1,
                                .run_id = outer->run_id,
                                .run = &outer->run,
                                .table = &outer->table,
                                .copy = &outer->copy};
    log_event(outer->log, "header", run_header_json(&header));
    log_say(LOG_LEVEL_INFO, "run %s: %zu parameters in %d fragments, waiting for %lld workers on %s ports %u and %u",
            outer->run.name, outer->table.parameter_count, outer->fragments.count, (long long)outer->run.workers, host,
            outer->advertised.control_port, outer->advertised.bulk_port);
    return write_run_directory(outer, error);
}

/* ---- main loop ---- */

static void handle(struct outer_run *outer, const struct link_event *event) {
    if (event->kind == LINK_EVENT_MESSAGE)
        outer_on_message(outer, &event->peer, &event->message);
    else if (event->kind == LINK_EVENT_CHUNK)
        outer_on_chunk(outer, &event->peer, &event->chunk, event->payload);
}

/* One turn: what is due, then what arrives within timeout, then finished jobs. */
static void turn(struct outer_run *outer, struct link_event *event) {
    uint64_t now_us = clock_now_us();
    outer_sessions_tick(outer, now_us);
    uint64_t timeout_us = outer_sessions_pump(outer, now_us);
    uint64_t deadline_us = round_deadline_us(&outer->machine);
    timeout_us = timeout_us < TURN_US ? timeout_us : TURN_US;
    if (deadline_us != UINT64_MAX)
        timeout_us =
            deadline_us <= now_us ? 0 : (deadline_us - now_us < timeout_us ? deadline_us - now_us : timeout_us);
    for (int i = 0; i < EVENTS_PER_TURN; i++) {
        outer_link_receive(outer->link, i == 0 ? timeout_us : 0, event);
        if (event->kind == LINK_EVENT_NONE)
            break;
        handle(outer, event);
    }
    for (struct outer_job job; outer_compute_collect(outer->compute, &job);)
        outer_on_job(outer, &job);
    if (deadline_us <= clock_now_us())
        outer_feed(outer, (struct round_event){.kind = ROUND_EVENT_TICK});
}

static void watch_for_solitude(struct outer_run *outer) {
    uint64_t now_us = clock_now_us();
    if (!outer->machine.started || members_connected(&outer->machine.members) > 0) {
        outer->alone_since_us = 0;
        return;
    }
    if (outer->alone_since_us == 0)
        outer->alone_since_us = now_us;
    if (now_us - outer->alone_since_us < ALONE_US)
        return;
    outer->end_status = STATUS_AGAIN;
    snprintf(outer->end_reason, sizeof outer->end_reason, "all workers are gone");
    outer->leaving = true;
}

/* Tell all members `type`, and wait until they left. */
static void part(struct outer_run *outer, enum message_type type, const char *text, struct link_event *event) {
    struct message message = {.type = type};
    snprintf(message.body.text.text, sizeof message.body.text.text, "%s", text);
    for (uint32_t slot = 0; slot < outer->machine.options.workers; slot++)
        outer_send(outer, slot, &message);
    uint64_t until_us = clock_now_us() + FAREWELL_US;
    while (clock_now_us() < until_us) {
        bool somebody = false;
        for (uint32_t slot = 0; slot < outer->machine.options.workers; slot++)
            somebody = somebody || outer->sessions[slot].connected;
        if (!somebody)
            return;
        turn(outer, event);
    }
}

/* ---- the end ---- */

static void log_ledger(struct outer_run *outer) {
    for (uint32_t slot = 0; slot < outer->machine.options.workers; slot++) {
        if (outer->machine.members.slot[slot].state == MEMBER_LOST)
            ledger_lost(&outer->machine.ledger, slot, (uint32_t)outer->fragments.count);
        for (int f = 0; f < outer->fragments.count; f++) {
            const struct ledger_entry *entry = &outer->machine.ledger.entries[slot][f];
            log_event(outer->log, "ledger",
                      json_pack("{s:i, s:i, s:I, s:I, s:I, s:I, s:I}", "slot", (int)slot, "fragment", f, "processed",
                                (json_int_t)entry->processed, "applied", (json_int_t)entry->applied, "in_flight",
                                (json_int_t)entry->in_flight, "unsent", (json_int_t)ledger_unsent(entry), "dropped",
                                (json_int_t)entry->dropped));
        }
    }
}

static enum status export_model(struct outer_run *outer, struct error *error) {
    char path[RUN_PATH_BYTES];
    float *block = aligned_alloc(ARENA_ALIGNMENT, outer->table.block_floats * sizeof(float));
    if (block == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to export the model");
    memset(block, 0, outer->table.block_floats * sizeof(float));
    outer_copy_to_block(&outer->copy, block);
    files_join(path, sizeof path, outer->directory, "model");
    enum status status = model_files_save(path, &outer->run.model, (enum tokenizer_kind)outer->run.data.tokenizer,
                                          &outer->table, block, error);
    free(block);
    return status;
}

/* The members still hold the state: they are let go only when the model is on disk, or after EXPORT_US of trying. */
static enum status export_before_farewell(struct outer_run *outer, struct link_event *event, struct error *error) {
    uint64_t until_us = clock_now_us() + EXPORT_US;
    enum status status = export_model(outer, error);
    while (status != STATUS_OK && clock_now_us() < until_us && stop_signals == 0) {
        log_say(LOG_LEVEL_ERROR, "%s; trying again, the workers wait", error->text);
        for (uint64_t again_us = clock_now_us() + EXPORT_AGAIN_US; clock_now_us() < again_us && stop_signals == 0;)
            turn(outer, event);
        status = export_model(outer, error);
    }
    return status;
}

static const struct message_final *evaluation_of(const struct outer_run *outer) {
    for (uint32_t slot = 0; slot < outer->machine.options.workers; slot++)
        if (outer->sessions[slot].has_final && outer->sessions[slot].final.has_eval)
            return &outer->sessions[slot].final;
    return NULL;
}

static void end_run(struct outer_run *outer) {
    struct state_hash hash;
    char hex[2 * STATE_HASH_BYTES + 1];
    outer_log_round_trips(outer);
    log_ledger(outer);
    outer_copy_hash_all(&outer->copy, &hash);
    bytes_to_hex(hash.bytes, sizeof hash.bytes, hex);
    const struct message_final *final = evaluation_of(outer);
    if (final == NULL && outer->machine.left)
        log_say(LOG_LEVEL_WARN, "the final model was not evaluated: no worker had held-out text to the end");
    struct link_bytes bytes;
    outer_link_bytes(outer->link, NULL, &bytes);
    log_event(outer->log, "end",
              json_pack("{s:s, s:I, s:s, s:o, s:o, s:I, s:I, s:I}", "reason", outer->end_reason, "commits",
                        (json_int_t)outer->commit_count, "state_hash", hex, "eval_loss",
                        log_real(final != NULL ? final->eval_loss : NAN), "bits_per_byte",
                        log_real(final != NULL ? final->bits_per_byte : NAN), "wire_up",
                        (json_int_t)(bytes.control_up + bytes.bulk_up), "wire_down",
                        (json_int_t)(bytes.control_down + bytes.bulk_down), "foreign_sessions",
                        (json_int_t)outer->foreign_sessions));
    log_say(LOG_LEVEL_INFO, "the run ends: %s; %llu commits, state %s, model in %s/model", outer->end_reason,
            (unsigned long long)outer->commit_count, hex, outer->directory);
}

/* A line now and then for who watches; `atoll status` shows all. */
static void say_progress(const struct outer_run *outer, uint64_t *next_us) {
    uint64_t now_us = clock_now_us();
    if (now_us < *next_us)
        return;
    if (outer->machine.started && *next_us != 0)
        log_say(LOG_LEVEL_INFO, "step %llu of %lld committed, %llu commits, %u of %lld workers",
                (unsigned long long)outer->machine.run_step, (long long)outer->run.inner.steps,
                (unsigned long long)outer->commit_count, members_connected(&outer->machine.members),
                (long long)outer->run.workers);
    *next_us = now_us + PROGRESS_US;
}

static enum status lead(struct outer_run *outer, struct error *error) {
    struct link_event *event = calloc(1, sizeof *event);
    CHECK(event != NULL);
    uint64_t progress_us = 0;
    snprintf(outer->end_reason, sizeof outer->end_reason, "trained to the end");
    while (!outer->leaving && stop_signals == 0) {
        turn(outer, event);
        watch_for_solitude(outer);
        say_progress(outer, &progress_us);
    }
    enum status status = STATUS_OK;
    if (outer->machine.left) {
        status = export_before_farewell(outer, event, error);
        part(outer, MESSAGE_FAREWELL, "the run is complete", event);
    } else if (stop_signals > 0) {
        snprintf(outer->end_reason, sizeof outer->end_reason, "stopped");
        part(outer, MESSAGE_STOP, "the outer was told to stop", event);
    }
    free(event);
    outer_compute_close(outer->compute); /* the copy is ours alone from here on */
    outer->compute = NULL;
    if (!outer->machine.left)
        status = export_model(outer, error);
    end_run(outer);
    return status != STATUS_OK ? status : outer->end_status;
}

static void close_outer(struct outer_run *outer) {
    if (outer->compute != NULL)
        outer_compute_close(outer->compute);
    outer_link_close(outer->link);
    if (outer->admission != NULL)
        admission_close(outer->admission);
    log_close(outer->log);
    for (int f = 0; f < outer->fragments.count; f++) {
        for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
            free(outer->uploads[slot][f].buffer);
        for (int i = 0; i < OUTER_COMMITS_KEPT; i++)
            free(outer->commits[f][i].payload);
    }
    commit_maker_close(&outer->maker);
    outer_copy_close(&outer->copy);
    fragments_destroy(&outer->fragments);
    tensors_table_destroy(&outer->table);
    free(outer->run_text);
    keys_wipe(&outer->keys);
    free(outer);
}

int outer_command(int argc, char **argv) {
    struct outer_values values = {.listen = "0.0.0.0:7070"};
    struct error error = {0};
    int exit_code;
    if (!options_or_exit(&outer_options, argc, argv, &values, &exit_code))
        return exit_code;
    log_set_node("outer");
    keys_init();
    struct sigaction action = {.sa_handler = on_stop_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct outer_run *outer = calloc(1, sizeof *outer);
    if (outer == NULL)
        return status_exit_code(STATUS_NO_MEMORY);
    enum status status = open_outer(outer, &values, &error);
    if (status == STATUS_OK)
        status = lead(outer, &error);
    if (status != STATUS_OK && error.text[0] != 0)
        fprintf(stderr, "atoll outer: %s\n", error.text);
    close_outer(outer);
    return status_exit_code(status);
}
