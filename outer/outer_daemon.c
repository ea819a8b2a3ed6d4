/* outer_daemon: command, set-up, main loop, end. */
#include "outer/outer_daemon.h"
#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/files.h"
#include "base/options.h"
#include "model/model_files.h"
#include "model/tokenizer.h"
#include "outer/outer_address.h"
#include "outer/outer_restore.h"
#include "outer/outer_run.h"
#include "outer/outer_tokens.h"
#include "outer/run_header.h"

enum {
    TURN_US = 50000,
    EVENTS_PER_TURN = 256,
    LATE_US = 1000000, /* a turn that comes so much too late: this process was stopped, or the machine slept */
    LONG_US = 5000000, /* ... so long that members may have given their links up */
    ENDED_US =
        30000000, /* the run has ended and nobody is here: how long members may take to come for the final state */
    ALONE_SAY_US = 60000000,
    RECOVERY_WINDOW_US = 3000000, /* a restart with its disk: members dial again within 2 s */
    EMPTY_WINDOW_US = 30000000,   /* ... without it: who is slower than that is not waited for, when half are here */
    FAREWELL_US = 5000000,        /* how long members may take to leave */
    EXPORT_US = 300000000,        /* how long a full disk may take to be mended */
    EXPORT_AGAIN_US = 5000000,
    PROGRESS_US = 10000000,
    MAPPED_FROM_BYTES = 1 << 20, /* above a chunk and what libzmq makes of it */
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
    struct option_list advertise;
    uint64_t patience_us;
    bool new_run;
    bool force;
    bool stop_workers;
    struct option_list set;
};

static const struct option_row outer_rows[] = {
    OPTION_POSITIONAL(struct outer_values, run_file, "RUN.yaml", "the run file"),
    OPTION_TEXT(struct outer_values, directory, "dir", 0, "D", "run directory (default runs/NAME-outer)"),
    OPTION_TEXT(struct outer_values, listen, "listen", 0, "HOST:PORT",
                "control port, bulk is PORT+1; port 0 = any (default 0.0.0.0:7070)"),
    OPTION_LIST(
        struct outer_values, advertise, "advertise", 0, "HOST",
        "the name or address that workers dial (default: as an earlier start was told, D/advertise, else the listen "
        "host, or this machine's first address); again, as HOST[:PORT]: where this outer may come back, at most 4 in "
        "all"),
    OPTION_DURATION(struct outer_values, patience_us, "patience", 0, "TIME",
                    "leave when no worker has been here for so long, be it that none has come yet (default: stay)"),
    OPTION_FLAG(struct outer_values, new_run, "new", 0, "begin a new run although this directory's key has led one"),
    OPTION_FLAG(struct outer_values, force, "force", 0,
                "without its state: lead from what fewer than half of the members hold"),
    OPTION_FLAG(struct outer_values, stop_workers, "stop-workers", 0,
                "a stop of this outer (SIGTERM, Ctrl-C) ends the run: the workers leave too (default: they keep their "
                "state and dial until it is back)"),
    OPTION_LIST(struct outer_values, set, "set", 0, "KEY=VALUE", "change one key of the run file"),
    OPTION_END,
};
static const struct option_command outer_options = {"outer", "lead a run: workers dial in, fragments are averaged",
                                                    outer_rows,
                                                    "Prints one line that starts a worker anywhere: atoll worker "
                                                    "--join TOKEN. The same token is in D/join.token. Given the "
                                                    "directory of an earlier start, it continues that run."};

/* ---- set-up ---- */

static enum status open_state(struct outer_run *outer, struct error *error) {
    const struct run_file *run = &outer->run;
    enum status status = tensors_table_create(&run->model, &outer->table, error);
    if (status != STATUS_OK)
        return status;
    status = run_sync_fragments(run, &outer->table, &outer->fragments, error);
    if (status != STATUS_OK)
        return status;
    float *block = aligned_alloc(ARENA_ALIGNMENT, outer->table.block_floats * sizeof(float));
    if (block == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu parameters", outer->table.parameter_count);
    tensors_initialize(&outer->table, &run->model, (uint64_t)run->inner.seed, block);
    status = outer_copy_open(&outer->copy, &outer->fragments, run, block, error);
    free(block);
    if (status == STATUS_OK)
        status = commit_maker_open(&outer->maker, &outer->copy, (enum outer_aggregate)run->outer.aggregate,
                                   run->sync.error_feedback, error);
    if (status != STATUS_OK)
        return status;
    update_guard_open(&outer->guard, run->outer.reject_norm);
    outer_copy_hash_all(&outer->copy, &outer->initial_hash);
    for (int f = 0; f < outer->fragments.count; f++) {
        struct state_hash hash;
        outer_copy_hash(&outer->copy, f, outer->copy.g + outer->copy.offsets[f], &hash);
        commit_genesis(outer->run_id, (uint32_t)f, hash.bytes, outer->genesis[f].hash);
        outer->heads[f] = outer->genesis[f];
    }
    return STATUS_OK;
}

/* What this directory holds of the run: where it stands, its commits. */
static enum status open_disk(struct outer_run *outer, bool *found, struct error *error) {
    struct commit_record_shape shapes[MESSAGE_FRAGMENTS_MAX];
    enum status status = outer_disk_open(&outer->disk, outer->directory, outer->run_id, outer->run.name, found, error);
    for (int f = 0; f < outer->fragments.count; f++)
        shapes[f] =
            (struct commit_record_shape){outer->fragments.list[f].count, outer_copy_payload_down(&outer->copy, f)};
    if (status == STATUS_OK)
        status = commit_log_open(&outer->commit_log, outer->directory, shapes, (uint32_t)outer->fragments.count, error);
    return status;
}

static void open_rounds(struct outer_run *outer, const struct outer_restored *restored) {
    const struct sync_options *sync = &outer->run.sync;
    uint64_t run_step = 0;
    for (int f = 0; f < outer->fragments.count; f++)
        run_step = restored[f].commit.run_step > run_step ? restored[f].commit.run_step : run_step;
    /* Continued with more steps: a run that had ended goes on. */
    bool goes_on = run_step < (uint64_t)outer->run.inner.steps;
    struct round_options options = {.workers = (uint32_t)outer->run.workers,
                                    .fragments = (uint32_t)outer->fragments.count,
                                    .quorum = (int32_t)sync->quorum,
                                    .min_workers = (uint32_t)sync->min_workers,
                                    .grace_us = sync->grace_us,
                                    .stale = run_sync_stale(&outer->run),
                                    .started = outer->disk.state.started,
                                    .ended = outer->disk.state.ended && !goes_on,
                                    .finished = outer->disk.state.finished && !goes_on};
    for (int f = 0; f < outer->fragments.count; f++)
        options.payload_bytes[f] = outer_copy_payload_up(&outer->copy, f);
    staging_open(&outer->staging, (uint32_t)outer->fragments.count, STAGING_SLACK_BYTES);
    outer->staging_bytes = staging_bytes(options.payload_bytes, (uint32_t)outer->fragments.count,
                                         (uint32_t)outer->run.workers, STAGING_SLACK_BYTES);
    outer->payloads_kept = outer_memory_payloads_kept(&outer->fragments, &outer->run);
    round_open(&outer->machine, &options);
    for (int f = 0; f < outer->fragments.count; f++)
        if (restored[f].head.version > 0)
            round_adopt(&outer->machine, &restored[f].commit);
}

/* Where payloads of commits are kept, made and read to. All of it is taken here, behind the newest versions, and never again: nothing that
 * members do asks for more of it (take_payload_room). Pages that no payload came to stay untouched. */
static enum status take_payload_rooms(struct outer_run *outer, struct error *error) {
    for (uint32_t f = 0; f < (uint32_t)outer->fragments.count; f++)
        for (uint32_t i = 0; i < outer->payloads_kept; i++) {
            size_t bytes = outer_copy_payload_down(&outer->copy, (int)f);
            struct outer_commit *place = outer_commit_place(outer, f, outer->heads[f].version + OUTER_COMMITS_KEPT - i);
            place->payload = failpoint_hit("outer.payload.memory") != 0 ? NULL : malloc(bytes);
            if (place->payload == NULL)
                return error_set(error, STATUS_NO_MEMORY,
                                 "no memory for the newest %u commits of fragment %u, %zu bytes each (`atoll check` "
                                 "says what an outer needs)",
                                 outer->payloads_kept, f, bytes);
        }
    return STATUS_OK;
}

/* The newest commits, for members that were away for a short while only. The head's is known in any case; without its payload, members get the
 * whole fragment. */
static void load_recent_commits(struct outer_run *outer, const struct outer_restored *restored) {
    struct error error;
    struct commit_record_holds holds;
    for (uint32_t f = 0; f < (uint32_t)outer->fragments.count; f++)
        for (uint64_t version = outer->heads[f].version;
             version > 0 && version + outer->payloads_kept > outer->heads[f].version; version--) {
            struct outer_commit *place = outer_commit_place(outer, f, version);
            if (place->commit.version != 0)
                break;
            enum status status = commit_log_read(outer->commit_log, f, version, &place->commit, place->payload, NULL,
                                                 NULL, NULL, &holds, &error);
            bool is_read = status == STATUS_OK;
            if (!is_read && status != STATUS_NOT_FOUND) /* older ones may have been pruned */
                log_say(LOG_LEVEL_WARN, "version %llu of fragment %u cannot be replayed: %s",
                        (unsigned long long)version, f, error.text);
            if (!is_read && version == outer->heads[f].version)
                place->commit = restored[f].commit;
            else if (!is_read)
                place->commit.version = 0;
            place->has_payload = is_read && holds.payload;
            place->head = commit_head(&place->commit);
            if (!is_read)
                break;
        }
}

/* Where the run was: the newest of what the disk holds of each fragment. */
static enum status restore(struct outer_run *outer, bool *found, bool *lost, struct error *error) {
    struct outer_restored *restored = calloc((size_t)outer->fragments.count, sizeof *restored);
    if (restored == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to restore the run");
    enum status status = open_disk(outer, found, error);
    if (status == STATUS_OK)
        status = outer_restore(&outer->copy, outer->maker.residual, outer->run_id, outer->commit_log, restored, error);
    if (status == STATUS_OK) {
        for (int f = 0; f < outer->fragments.count; f++) {
            outer->heads[f] = restored[f].head.version > 0 ? restored[f].head : outer->genesis[f];
            if (restored[f].warning[0] != 0)
                log_say(LOG_LEVEL_WARN, "%s", restored[f].warning);
            uint64_t version = restored[f].head.version;
            *lost = *lost ||
                    (restored[f].newest_ever > version && !agreement_knows_end(outer->agreement, (uint32_t)f, version));
        }
        open_rounds(outer, restored);
        status = take_payload_rooms(outer, error);
    }
    if (status == STATUS_OK)
        load_recent_commits(outer, restored);
    free(restored);
    return status;
}

static void wake_link(void *link) {
    outer_link_wake(link);
}

/* Port 0 is any port at the first start, and the same one at the next: the workers dial where they found it before. */
static void choose_ports(const struct outer_run *outer, uint16_t port, struct outer_link_options *options) {
    char path[RUN_PATH_BYTES];
    struct token token;
    struct error error;
    options->control_port = port;
    options->bulk_port = (uint16_t)(port == 0 ? 0 : port + 1);
    files_join(path, sizeof path, outer->directory, "join.token");
    if (port != 0 || !files_exists(path) || token_read(path, &token, &error) != STATUS_OK)
        return;
    options->control_port = token.addresses[0].control_port;
    options->bulk_port = token.addresses[0].bulk_port;
}

/* Nobody said what workers dial: what an earlier start was told, else what this machine is. */
static enum status choose_addresses(struct outer_run *outer, const char *listen_host,
                                    char kept[OUTER_ADDRESS_TEXT_BYTES], struct option_list *advertise,
                                    struct error *error) {
    enum status status = outer_address_kept(outer->directory, kept, advertise, error);
    const char *first = advertise->count > 0 ? advertise->items[0] : NULL;
    if (status == STATUS_OK)
        status = outer_address_advertise(listen_host, first, outer->advertised[0].host, error);
    if (status == STATUS_OK && first != NULL)
        log_say(LOG_LEVEL_INFO, "workers will dial %s, as an earlier start was told; --advertise HOST changes that",
                first);
    return status;
}

/* A port of the last start that somebody else has by now is no reason to stand still: the token tells the new one. */
static enum status bind_link(struct outer_run *outer, uint16_t port, struct outer_link_options *options,
                             struct error *error) {
    choose_ports(outer, port, options);
    enum status status = outer_link_open(options, &outer->link, error);
    if (status != STATUS_IO || options->control_port == port)
        return status;
    struct error taken = *error;
    options->control_port = options->bulk_port = 0;
    status = outer_link_open(options, &outer->link, error);
    if (status == STATUS_OK)
        log_say(LOG_LEVEL_WARN,
                "%s; that was the port of the last start (%s/join.token), this one takes another: a worker that dials "
                "the old one finds it with the new token (atoll worker --dir D --join TOKEN)",
                taken.text, outer->directory);
    return status;
}

static enum status open_link(struct outer_run *outer, const char *host, uint16_t port,
                             const struct option_list *advertise, struct error *error) {
    enum status status = admission_open(outer->directory, &outer->keys, &outer->admission, error);
    if (status != STATUS_OK)
        return status;
    admission_set_run_id(outer->admission, outer->run_id);
    struct outer_link_options options = {.host = host, .keys = &outer->keys, .admission = outer->admission};
    status = bind_link(outer, port, &options, error);
    if (status != STATUS_OK)
        return status;
    outer->advertised_count = advertise->count > 0 ? (uint32_t)advertise->count : 1;
    outer_link_ports(outer->link, &outer->advertised[0].control_port, &outer->advertised[0].bulk_port);
    for (int i = 1; status == STATUS_OK && i < advertise->count; i++)
        status = outer_address_standby(advertise->items[i], &outer->advertised[0], &outer->advertised[i], error);
    if (status != STATUS_OK)
        return status;
    pace_open(&outer->pace, outer->run.outer.link_bytes_per_s, transfer_chunk_bytes(outer->run.outer.link_bytes_per_s),
              clock_now_us());
    /* Per fragment: each slot's contribution being checked, and a commit being made, written or taken over; and the snapshots. */
    uint32_t jobs_max = (uint32_t)outer->fragments.count * (MESSAGE_WORKERS_MAX + 2) + OUTER_SNAPSHOTS_MAX;
    return outer_compute_open(&outer->maker, outer->commit_log, jobs_max, wake_link, outer->link, &outer->compute,
                              error);
}

static enum status write_token(struct outer_run *outer, struct error *error) {
    char path[RUN_PATH_BYTES], line[TOKEN_TEXT_BYTES];
    struct token token, blank = outer_blank_token(outer);
    files_join(path, sizeof path, outer->directory, "join.token");
    enum status status =
        outer_tokens_join(outer->admission, &blank, (uint32_t)outer->run.workers, path, clock_wall_s(), &token, error);
    if (status == STATUS_USAGE) { /* only a running outer can revoke some */
        log_say(LOG_LEVEL_WARN, "no new join.token: %s", error->text);
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        return status;
    token_format(&token, line);
    status = files_write_atomic(path, line, strlen(line), 0600, error);
    if (status == STATUS_OK) {
        printf("atoll worker --join %s\n", line);
        fflush(stdout);
    }
    return status;
}

static enum status write_run_directory(struct outer_run *outer, const struct option_list *advertise,
                                       struct error *error) {
    char path[RUN_PATH_BYTES];
    char *text = run_file_text(&outer->run, false, true);
    files_join(path, sizeof path, outer->directory, "run.yaml");
    enum status status = files_write_atomic(path, text, strlen(text), 0644, error);
    free(text);
    if (status == STATUS_OK && advertise->count > 0)
        status = outer_address_keep(outer->directory, advertise, error);
    return status == STATUS_OK ? write_token(outer, error) : status;
}

/* Whether to lead at once, or to hear first what the members hold (outer/recovery.h). `lost`: this disk knew versions that it does not hold
 * any more; then the members are asked as if it had none. */
static void begin(struct outer_run *outer, bool found, bool lost, bool again, const struct outer_values *values) {
    struct recovery_start start = {.key_is_new = outer->keys.created,
                                   .new_run = values->new_run,
                                   .found = found,
                                   .commits = outer_commit_count(outer) > 0,
                                   .lost = lost,
                                   .again = again};
    enum recovery_mode mode = recovery_choose(&start);
    uint64_t window_us = mode == RECOVERY_EMPTY ? EMPTY_WINDOW_US : RECOVERY_WINDOW_US;
    if (start.commits)
        log_say(LOG_LEVEL_INFO, "continuing the run at step %llu, after %llu commits",
                (unsigned long long)outer->machine.run_step, (unsigned long long)outer_commit_count(outer));
    log_event(outer->log, "recover",
              json_pack("{s:s, s:s, s:I, s:I}", "what", "outer start", "from",
                        mode == RECOVERY_FRESH  ? "fresh"
                        : mode == RECOVERY_DISK ? "disk"
                                                : "empty",
                        "commits", (json_int_t)outer_commit_count(outer), "run_step",
                        (json_int_t)outer->machine.run_step));
    outer_recovery_open(outer, mode, window_us, values->force);
}

/* again: this process has led from this directory before, and holds its lock. */
static enum status open_outer(struct outer_run *outer, const struct outer_values *values, bool again,
                              struct error *error) {
    char host[TOKEN_HOST_BYTES], log_path[RUN_PATH_BYTES], kept[OUTER_ADDRESS_TEXT_BYTES];
    uint16_t port = 0;
    enum status status = float_environment_check(error);
    if (status == STATUS_OK)
        status = outer_address_listen(values->listen, host, &port, error);
    if (status == STATUS_OK && values->advertise.count > 0)
        status = outer_address_advertise(host, values->advertise.items[0], outer->advertised[0].host, error);
    if (status == STATUS_OK && values->advertise.count > TOKEN_ADDRESSES_MAX)
        status = error_set(error, STATUS_USAGE, "--advertise: at most %d addresses", TOKEN_ADDRESSES_MAX);
    if (status == STATUS_OK)
        status = files_check_directory_name(values->directory, error);
    if (status == STATUS_OK)
        status = run_file_load(values->run_file, values->set.items, values->set.count, RUN_FILE_DATA_IGNORED,
                               &outer->run, error);
    outer->patience_us = values->patience_us == 0 ? UINT64_MAX : values->patience_us;
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
    status = keys_check_node(outer->directory, KEYS_NODE_OUTER, error);
    if (status == STATUS_OK)
        status = files_make_directory(outer->directory, 0755, error);
    if (status == STATUS_OK && !again)
        status = files_lock(outer->directory, error);
    if (status == STATUS_OK)
        status = keys_open(outer->directory, &outer->keys, error);
    struct option_list advertise = values->advertise;
    if (status == STATUS_OK && advertise.count == 0)
        status = choose_addresses(outer, host, kept, &advertise, error);
    if (status != STATUS_OK)
        return status;
    outer->opened_us = clock_now_us();
    outer->run_text = run_file_text(&outer->run, false, true);
    run_file_keys_hash(&outer->run, outer->keys_hash);
    tokenizer_hash((enum tokenizer_kind)outer->run.data.tokenizer, outer->run.model.vocab, outer->tokenizer_hash);
    run_id_make(outer->keys.curve.public_key, outer->run.name, outer->keys_hash, outer->run_id);
    if (strlen(outer->run_text) > MESSAGE_LONG_TEXT_MAX)
        return error_set(error, STATUS_CONFIG, "the run file is too long to send to workers: at most %d bytes",
                         MESSAGE_LONG_TEXT_MAX);
    bool found = false, lost = false;
    status = open_state(outer, error);
    if (status == STATUS_OK)
        status = restore(outer, &found, &lost, error);
    if (status == STATUS_OK && values->new_run && !again && outer_commit_count(outer) > 0)
        status =
            error_set(error, STATUS_CONFIG,
                      "--new: %s holds a run with %llu commits; choose another --dir for a new run, or leave --new "
                      "out to go on with this one",
                      outer->directory, (unsigned long long)outer_commit_count(outer));
    if (status != STATUS_OK)
        return status;
    status = open_link(outer, host, port, &advertise, error);
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
            outer->advertised[0].control_port, outer->advertised[0].bulk_port);
    status = write_run_directory(outer, &advertise, error);
    if (status == STATUS_OK)
        begin(outer, found, lost, again, values);
    return status;
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
    bool late = outer->turned_us != 0 && now_us > outer->turned_us + LATE_US;
    if (late) {
        log_say(LOG_LEVEL_WARN, "this process stood still for %.1f s: hearing the members before judging them",
                (double)(now_us - outer->turned_us) / 1e6);
        if (now_us - outer->turned_us >= LONG_US)
            outer->stood_still_us = now_us;
        outer_feed(outer, (struct round_event){.kind = ROUND_EVENT_LATE, .late_us = now_us - outer->turned_us});
    }
    outer->turned_us = now_us;
    outer_sessions_tick(outer, now_us);
    outer_recovery_tick(outer, now_us);
    outer_register_waiting(outer, now_us);
    outer_log_again(outer, now_us);
    outer_serve_snapshots(outer);
    outer_admit_waiting(outer, now_us);
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

/* Also who has not come to be a member yet: it may have much to read first. */
static bool is_anybody_here(const struct outer_run *outer) {
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (outer->sessions[slot].connected)
            return true;
    return false;
}

static void watch_for_solitude(struct outer_run *outer) {
    uint64_t now_us = clock_now_us();
    if (is_anybody_here(outer)) {
        outer->alone_since_us = 0;
        return;
    }
    if (outer->alone_since_us == 0)
        outer->alone_since_us = now_us;
    uint64_t alone_us = now_us - outer->alone_since_us;
    if (outer->machine.finished && alone_us >= ENDED_US) {
        snprintf(outer->end_reason, sizeof outer->end_reason,
                 "the run has ended (inner.steps: more of them continue it)");
        outer->leaving = true;
    } else if (alone_us >= outer->patience_us) {
        outer->end_status = STATUS_AGAIN;
        snprintf(outer->end_reason, sizeof outer->end_reason,
                 outer->next_session > 0 ? "all workers are gone" : "no worker has come");
        outer->leaving = true;
    } else if (outer->machine.started && now_us >= outer->alone_said_us + ALONE_SAY_US) {
        outer->alone_said_us = now_us;
        log_say(LOG_LEVEL_WARN, "no worker is here; the run goes on when one comes back");
    }
}

/* Tell all members `type`, and wait until they left. */
static void part(struct outer_run *outer, enum message_type type, const char *text, struct link_event *event) {
    struct message message = {.type = type};
    snprintf(message.body.text.text, sizeof message.body.text.text, "%s", text);
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        outer_send(outer, slot, &message);
    uint64_t until_us = clock_now_us() + FAREWELL_US;
    while (clock_now_us() < until_us) {
        bool somebody = false;
        for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
            somebody = somebody || outer->sessions[slot].connected;
        if (!somebody)
            return;
        turn(outer, event);
    }
}

/* ---- the end ---- */

static void log_ledger(struct outer_run *outer) {
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        if (slot >= outer->machine.options.workers && outer->machine.ledger.entries[slot][0].processed == 0)
            continue; /* nobody ever worked there */
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

/* Before it leads, what it holds may be less than what an earlier start wrote there, unless that had ended and nothing of it is lost. And the
 * seed's parameters are nobody's model. */
static bool has_model(const struct outer_run *outer) {
    bool ended_whole = outer->machine.finished && outer->recovery.options.mode == RECOVERY_DISK;
    return (outer->recovery.leading || ended_whole) && outer_commit_count(outer) > 0;
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
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
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
                        (json_int_t)outer_commit_count(outer), "state_hash", hex, "eval_loss",
                        log_real(final != NULL ? final->eval_loss : NAN), "bits_per_byte",
                        log_real(final != NULL ? final->bits_per_byte : NAN), "wire_up",
                        (json_int_t)(bytes.control_up + bytes.bulk_up), "wire_down",
                        (json_int_t)(bytes.control_down + bytes.bulk_down), "foreign_sessions",
                        (json_int_t)outer->foreign_sessions));
    log_say(LOG_LEVEL_INFO, "the run ends: %s; %llu commits, state %s, %s %s/model", outer->end_reason,
            (unsigned long long)outer_commit_count(outer), hex, has_model(outer) ? "model in" : "nothing written to",
            outer->directory);
}

/* A line now and then for who watches; `atoll status` shows all. */
static void say_progress(const struct outer_run *outer, uint64_t *next_us) {
    uint64_t now_us = clock_now_us();
    if (now_us < *next_us)
        return;
    if (outer->machine.started && *next_us != 0)
        log_say(LOG_LEVEL_INFO, "step %llu of %lld committed, %llu commits, %u of %lld workers",
                (unsigned long long)outer->machine.run_step, (long long)outer->run.inner.steps,
                (unsigned long long)outer_commit_count(outer), members_connected(&outer->machine.members),
                (long long)outer->run.workers);
    *next_us = now_us + PROGRESS_US;
}

/* What this outer signed wrongly goes out of its log. STATUS_DATA: so many times that there is no point in starting over. */
static enum status drop(struct outer_run *outer, struct error *error) {
    enum status status =
        commit_log_set_aside(outer->commit_log, outer->drop.fragment, outer->drop.version, NULL, error);
    failpoint_hit("outer.drop.done");
    if (status == STATUS_OK && outer->drop.is_last)
        status =
            error_set(error, STATUS_DATA,
                      "dropped %d versions of fragment %u in a row, to whose state most workers did not come: this "
                      "machine's arithmetic or memory is wrong, or the workers run another version of atoll",
                      AGREEMENT_DROPS_MAX, outer->drop.fragment);
    return status;
}

static enum status lead(struct outer_run *outer, bool stop_workers, struct error *error) {
    struct link_event *event = calloc(1, sizeof *event);
    if (event == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for what arrives");
    uint64_t progress_us = 0;
    if (outer->end_reason[0] == 0)
        snprintf(outer->end_reason, sizeof outer->end_reason, "trained to the end");
    while (!outer->leaving && stop_signals == 0) {
        turn(outer, event);
        watch_for_solitude(outer);
        say_progress(outer, &progress_us);
    }
    enum status status = STATUS_OK;
    outer_close_spares(outer); /* the export takes the parameters once more */
    if (outer->machine.left) {
        status = export_before_farewell(outer, event, error);
        part(outer, MESSAGE_FAREWELL, "the run is complete", event);
    } else if (stop_signals > 0) {
        snprintf(outer->end_reason, sizeof outer->end_reason, "stopped");
        if (stop_workers)
            part(outer, MESSAGE_STOP, "the outer was told to stop", event);
        else
            log_say(LOG_LEVEL_INFO, "told to stop: the workers dial until this outer is back");
    }
    free(event);
    outer_compute_close(outer->compute); /* the copy is ours alone from here on */
    outer->compute = NULL;
    if (outer->drop.version != 0)
        return drop(outer, error);
    if (!outer->machine.left && has_model(outer))
        status = export_model(outer, error);
    end_run(outer);
    if (status == STATUS_OK && outer->end_status != STATUS_OK)
        status = error_set(error, outer->end_status, "%s", outer->end_reason);
    return status;
}

static void close_outer(struct outer_run *outer) {
    if (outer->compute != NULL)
        outer_compute_close(outer->compute);
    outer_link_close(outer->link);
    if (outer->admission != NULL)
        admission_close(outer->admission);
    if (outer->commit_log != NULL)
        commit_log_close(outer->commit_log);
    outer_lead_close(outer);
    outer_catch_up_close(outer);
    log_close(outer->log);
    outer_close_uploads(outer);
    for (int f = 0; f < outer->fragments.count; f++)
        for (int i = 0; i < OUTER_COMMITS_KEPT; i++)
            free(outer->commits[f][i].payload);
    commit_maker_close(&outer->maker);
    outer_copy_close(&outer->copy);
    fragments_destroy(&outer->fragments);
    tensors_table_destroy(&outer->table);
    free(outer->run_text);
    keys_wipe(&outer->keys);
    free(outer);
}

/* One start. again: not the first of this process. *over: there must be another. */
static enum status run_outer(const struct outer_values *values, struct agreement *agreement, bool again, bool *over,
                             struct error *error) {
    struct outer_run *outer = calloc(1, sizeof *outer);
    *over = false;
    if (outer == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to lead a run");
    agreement_begin(agreement);
    outer->agreement = agreement;
    enum status status = open_outer(outer, values, again, error);
    if (status == STATUS_OK)
        status = lead(outer, values->stop_workers, error);
    *over = status == STATUS_OK && outer->drop.version != 0 && stop_signals == 0;
    close_outer(outer);
    return status;
}

int outer_command(int argc, char **argv) {
    struct outer_values values = {.listen = "0.0.0.0:7070"};
    struct error error = {0};
    int exit_code;
    if (!options_or_exit(&outer_options, argc, argv, &values, &exit_code))
        return exit_code;
    log_set_node("outer");
    /* Chunks come and go, some GB/s of them: they are to come from pages that are there (a fresh one costs more than to decrypt into it), and
     * when the last one has gone, little is to be kept. glibc would raise both bounds as it goes, and keep all. */
    mallopt(M_MMAP_THRESHOLD, MAPPED_FROM_BYTES);
    mallopt(M_TRIM_THRESHOLD, OUTER_HEAP_KEPT_BYTES);
    keys_init();
    struct sigaction action = {.sa_handler = on_stop_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct agreement *agreement = calloc(1, sizeof *agreement);
    if (agreement == NULL)
        return status_exit_code(STATUS_NO_MEMORY);
    enum status status;
    bool over = false;
    do /* what it signed was wrong: once more, from its disk */
        status = run_outer(&values, agreement, over, &over, &error);
    while (over);
    if (status != STATUS_OK && error.text[0] != 0)
        fprintf(stderr, "atoll outer: %s\n", error.text);
    free(agreement);
    return status_exit_code(status);
}
