#include "experiments/run_log.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include "base/log.h"

/* ---- fields: one row of the table at a time ---- */

/* What the file says is shown on terminals, in SVG and in HTML: keep printable ASCII only. */
static void copy_text(char *to, size_t bytes, const char *from) {
    size_t i = 0;
    for (; from[i] && i + 1 < bytes; i++)
        to[i] = from[i] >= 32 && from[i] < 127 ? from[i] : '?';
    to[i] = '\0';
}

static json_t *find_value(json_t *object, const char *name) {
    const char *dot = strchr(name, '.');
    if (!dot)
        return json_object_get(object, name);
    char outer_name[RUN_LOG_WORD_BYTES];
    snprintf(outer_name, sizeof outer_name, "%.*s", (int)(dot - name), name);
    return json_object_get(json_object_get(object, outer_name), dot + 1);
}

static const char *kind_name(enum field_kind kind) {
    static const char *const names[] = {
        [FIELD_COUNT] = "count", [FIELD_INTEGER] = "integer", [FIELD_REAL] = "real",
        [FIELD_BOOL] = "bool",   [FIELD_TEXT] = "text",       [FIELD_LIST] = "list",
    };
    return names[kind];
}

/* Larger integers are no measurement, and other JSON readers would round them. */
static const int64_t integer_max = INT64_C(1) << 53;

static bool integer_fits(json_t *value, enum field_kind kind) {
    if (!json_is_integer(value))
        return false;
    json_int_t integer = json_integer_value(value);
    return integer <= integer_max && integer >= (kind == FIELD_COUNT ? 0 : -integer_max);
}

static bool store_value(const struct field_row *row, json_t *value, unsigned char *member) {
    switch (row->kind) {
    case FIELD_COUNT:
    case FIELD_INTEGER:
        if (!integer_fits(value, row->kind))
            return false;
        memcpy(member, &(int64_t){json_integer_value(value)}, sizeof(int64_t));
        return true;
    case FIELD_REAL:
        if (!json_is_number(value) && !json_is_null(value))
            return false;
        memcpy(member, &(double){json_is_null(value) ? (double)NAN : json_number_value(value)}, sizeof(double));
        return true;
    case FIELD_BOOL:
        if (!json_is_boolean(value))
            return false;
        memcpy(member, &(bool){json_is_true(value)}, sizeof(bool));
        return true;
    case FIELD_TEXT:
        if (!json_is_string(value))
            return false;
        copy_text((char *)member, row->bytes, json_string_value(value));
        return true;
    case FIELD_LIST:
        if (!json_is_array(value))
            return false;
        memcpy(member, &(int64_t){(int64_t)json_array_size(value)}, sizeof(int64_t));
        return true;
    }
    return false;
}

enum status fields_read(const struct field_row *rows, int count, json_t *object, void *target, struct error *error) {
    for (int i = 0; i < count; i++) {
        unsigned char *member = (unsigned char *)target + rows[i].offset;
        json_t *value = find_value(object, rows[i].name);
        if (value && store_value(&rows[i], value, member))
            continue;
        if (value)
            return error_set(error, STATUS_DATA, "%s is not a %s", rows[i].name, kind_name(rows[i].kind));
        if (rows[i].need == FIELD_REQUIRED)
            return error_set(error, STATUS_DATA, "%s is missing", rows[i].name);
        if (rows[i].kind == FIELD_REAL)
            memcpy(member, &(double){(double)NAN}, sizeof(double));
    }
    return STATUS_OK;
}

static int64_t integer_at(const struct field_row *row, const void *source) {
    int64_t value;
    memcpy(&value, (const unsigned char *)source + row->offset, sizeof value);
    return value;
}

static double real_at(const struct field_row *row, const void *source) {
    double value;
    memcpy(&value, (const unsigned char *)source + row->offset, sizeof value);
    return value;
}

static bool bool_at(const struct field_row *row, const void *source) {
    bool value;
    memcpy(&value, (const unsigned char *)source + row->offset, sizeof value);
    return value;
}

static const char *text_at(const struct field_row *row, const void *source) {
    return (const char *)source + row->offset;
}

json_t *fields_json(const struct field_row *rows, int count, const void *source) {
    json_t *object = json_object();
    for (int i = 0; i < count; i++) {
        json_t *value = NULL;
        switch (rows[i].kind) {
        case FIELD_COUNT:
        case FIELD_INTEGER:
        case FIELD_LIST:
            value = json_integer(integer_at(&rows[i], source));
            break;
        case FIELD_REAL:
            value = log_real(real_at(&rows[i], source));
            break;
        case FIELD_BOOL:
            value = json_boolean(bool_at(&rows[i], source));
            break;
        case FIELD_TEXT:
            value = json_string(text_at(&rows[i], source));
            break;
        }
        json_object_set_new(object, rows[i].name, value);
    }
    return object;
}

void fields_csv_names(const struct field_row *rows, int count, FILE *file) {
    for (int i = 0; i < count; i++)
        fprintf(file, "%s%s", i ? "," : "", rows[i].name);
}

void fields_csv_values(const struct field_row *rows, int count, const void *source, FILE *file) {
    for (int i = 0; i < count; i++) {
        if (i)
            fputc(',', file);
        switch (rows[i].kind) {
        case FIELD_COUNT:
        case FIELD_INTEGER:
        case FIELD_LIST:
            fprintf(file, "%" PRId64, integer_at(&rows[i], source));
            break;
        case FIELD_REAL:
            if (isfinite(real_at(&rows[i], source)))
                fprintf(file, "%.9g", real_at(&rows[i], source));
            break;
        case FIELD_BOOL:
            fprintf(file, "%d", bool_at(&rows[i], source));
            break;
        case FIELD_TEXT:
            fputc('"', file);
            for (const char *text = text_at(&rows[i], source); *text; text++) {
                if (*text == '"')
                    fputc('"', file);
                fputc(*text, file);
            }
            fputc('"', file);
            break;
        }
    }
}

void fields_print_help(const struct field_row *rows, int count, FILE *file) {
    for (int i = 0; i < count; i++)
        fprintf(file, "    %-18s %-8s %s%s\n", rows[i].name, kind_name(rows[i].kind), rows[i].help,
                rows[i].need == FIELD_REQUIRED ? "" : " (optional)");
}

/* ---- the table of events ---- */

#define NEED(type, member, kind, help) FIELD_ROW(type, member, kind, FIELD_REQUIRED, help)
#define MAY(type, member, kind, help)  FIELD_ROW(type, member, kind, FIELD_OPTIONAL, help)
#define IN(type, path, member, kind, help)                                                                             \
    { path, kind, FIELD_OPTIONAL, offsetof(struct type, member), sizeof(((struct type *)0)->member), help }

static const struct field_row header_rows[] = {
    NEED(run_log_header, schema, FIELD_COUNT, "version of this table: 1"),
    MAY(run_log_header, run_id, FIELD_TEXT, "hex; empty for a plain run"),
    NEED(run_log_header, role, FIELD_TEXT, "worker, outer or plain (sync: off)"),
    NEED(run_log_header, node, FIELD_TEXT, "name of the node"),
    MAY(run_log_header, slot, FIELD_INTEGER, "the worker's place in the run"),
    IN(run_log_header, "build.version", version, FIELD_TEXT, "of atoll"),
    IN(run_log_header, "build.compiler", compiler, FIELD_TEXT, "that built it"),
    IN(run_log_header, "build.cpu", cpu, FIELD_TEXT, "model name"),
    IN(run_log_header, "build.cores", cores, FIELD_COUNT, "cores online"),
    MAY(run_log_header, blas_core, FIELD_TEXT, "kernel that OpenBLAS chose"),
    MAY(run_log_header, precision, FIELD_TEXT, "f32 or bf16, and what makes the products"),
    MAY(run_log_header, threads, FIELD_COUNT, "of the training (inner.threads)"),
    MAY(run_log_header, name, FIELD_TEXT, "of the run"),
    NEED(run_log_header, parameters, FIELD_COUNT, "of the model"),
    MAY(run_log_header, fragments, FIELD_LIST, "index, name, parameters, payload_up_bytes, payload_down_bytes of each"),
    NEED(run_log_header, workers, FIELD_COUNT, "that the run file asks for"),
    MAY(run_log_header, steps, FIELD_COUNT, "optimizer steps that the run will take"),
    MAY(run_log_header, every_steps, FIELD_COUNT, "steps between two sends of a fragment"),
    MAY(run_log_header, overlap_steps, FIELD_INTEGER, "steps between send and merge; -1 = auto"),
    MAY(run_log_header, keep_local, FIELD_REAL, "part of the local parameters that a merge keeps"),
    MAY(run_log_header, codec_up, FIELD_TEXT, "codec of contributions"),
    MAY(run_log_header, codec_down, FIELD_TEXT, "codec of the mean"),
    MAY(run_log_header, error_feedback, FIELD_BOOL, "residuals are carried over"),
    NEED(run_log_header, tokens_per_step, FIELD_COUNT, "tokens of one step of one worker"),
    MAY(run_log_header, outer_optimizer, FIELD_TEXT, "sgd, momentum or nesterov"),
    MAY(run_log_header, outer_lr, FIELD_REAL, "outer learning rate"),
    MAY(run_log_header, outer_momentum, FIELD_REAL, "outer momentum"),
    MAY(run_log_header, up_bytes_per_s, FIELD_COUNT, "cap of this worker, 0 = unlimited"),
    MAY(run_log_header, down_bytes_per_s, FIELD_COUNT, "cap of this worker, 0 = unlimited"),
    MAY(run_log_header, seed, FIELD_INTEGER, "inner.seed"),
};
static const struct field_row step_rows[] = {
    NEED(run_log_step, step, FIELD_COUNT, "optimizer step, 1-based"),
    NEED(run_log_step, loss, FIELD_REAL, "nats per token of this step's batch"),
    MAY(run_log_step, grad_norm, FIELD_REAL, "before clipping"),
    MAY(run_log_step, lr, FIELD_REAL, "inner learning rate"),
    NEED(run_log_step, tokens, FIELD_COUNT, "tokens that this worker has trained on"),
    NEED(run_log_step, compute_us, FIELD_COUNT, "us of this step's training"),
    MAY(run_log_step, applied, FIELD_BOOL, "false: not finite, skipped"),
};
static const struct field_row sync_send_rows[] = {
    NEED(run_log_sync_send, step, FIELD_COUNT, "send step"),
    NEED(run_log_sync_send, fragment, FIELD_COUNT, "index"),
    MAY(run_log_sync_send, base_version, FIELD_COUNT, "version that it was measured from"),
    MAY(run_log_sync_send, tokens_from, FIELD_COUNT, "exclusive"),
    MAY(run_log_sync_send, tokens_to, FIELD_COUNT, "inclusive"),
    MAY(run_log_sync_send, tokens, FIELD_COUNT, "of them in this contribution: its weight"),
    NEED(run_log_sync_send, payload_bytes, FIELD_COUNT, "bytes of this payload"),
    MAY(run_log_sync_send, encode_us, FIELD_COUNT, "us of this encoding, beside training"),
};
static const struct field_row commit_rows[] = {
    NEED(run_log_commit, fragment, FIELD_COUNT, "index"),
    NEED(run_log_commit, version, FIELD_COUNT, "new version of the fragment"),
    MAY(run_log_commit, run_step, FIELD_COUNT, "largest send step that it counts"),
    MAY(run_log_commit, counted, FIELD_BOOL, "this worker's contribution is in it"),
    MAY(run_log_commit, payload_bytes, FIELD_COUNT, "bytes of this payload"),
    MAY(run_log_commit, state_hash, FIELD_TEXT, "XXH3-128 of outer copy and momentum, hex"),
};
static const struct field_row merge_rows[] = {
    NEED(run_log_merge, step, FIELD_COUNT, "step after which it was merged"),
    NEED(run_log_merge, fragment, FIELD_COUNT, "index"),
    MAY(run_log_merge, version, FIELD_COUNT, "that was merged"),
    MAY(run_log_merge, kind, FIELD_TEXT, "counted, shift, expired or final"),
    MAY(run_log_merge, wait_us, FIELD_COUNT, "us that training stood still for this merge"),
};
static const struct field_row eval_rows[] = {
    NEED(run_log_eval, step, FIELD_COUNT, "of the evaluating worker"),
    NEED(run_log_eval, loss, FIELD_REAL, "held-out, nats per token"),
    MAY(run_log_eval, bits_per_byte, FIELD_REAL, "held-out; null when tokens are not bytes of a text"),
    MAY(run_log_eval, windows, FIELD_COUNT, "held-out windows"),
    NEED(run_log_eval, tokens, FIELD_COUNT, "that this worker has trained on"),
    NEED(run_log_eval, run_tokens, FIELD_COUNT, "all workers' tokens whose work is in what was evaluated"),
    MAY(run_log_eval, eval_us, FIELD_COUNT, "us of this evaluation"),
    MAY(run_log_eval, versions, FIELD_LIST, "version of each fragment"),
    MAY(run_log_eval, wire_up, FIELD_COUNT, "as in link"),
    MAY(run_log_eval, wire_down, FIELD_COUNT, "as in link"),
    MAY(run_log_eval, payload_up, FIELD_COUNT, "as in link"),
    MAY(run_log_eval, payload_down, FIELD_COUNT, "as in link"),
    MAY(run_log_eval, final, FIELD_BOOL, "of the final model"),
};
static const struct field_row link_rows[] = {
    MAY(run_log_link, step, FIELD_COUNT, "the worker's last step"),
    MAY(run_log_link, payload_up, FIELD_COUNT, "bytes of encoded outer gradients sent"),
    MAY(run_log_link, payload_down, FIELD_COUNT, "bytes of encoded outer gradients received"),
    NEED(run_log_link, wire_up, FIELD_COUNT, "bytes sent, TCP payload as the kernel counts it (TCP_INFO)"),
    NEED(run_log_link, wire_down, FIELD_COUNT, "bytes received, likewise"),
    MAY(run_log_link, control_up, FIELD_COUNT, "bytes of the control link's messages sent, part of wire_up"),
    MAY(run_log_link, control_down, FIELD_COUNT, "bytes of the control link's messages received, part of wire_down"),
    MAY(run_log_link, retransmitted_up, FIELD_COUNT, "bytes that TCP sent again; they are in wire_up"),
    NEED(run_log_link, wait_us, FIELD_COUNT, "us that training stood still for the network"),
    MAY(run_log_link, eval_us, FIELD_COUNT, "us of evaluations"),
};
static const struct field_row checkpoint_rows[] = {
    MAY(run_log_checkpoint, generation, FIELD_COUNT, "number of the checkpoint"),
    NEED(run_log_checkpoint, step, FIELD_COUNT, "after which it was taken"),
    MAY(run_log_checkpoint, stall_us, FIELD_COUNT, "us that training stood still for the copy"),
    MAY(run_log_checkpoint, write_us, FIELD_COUNT, "us of writing it, beside training"),
    MAY(run_log_checkpoint, bytes, FIELD_COUNT, "of the checkpoint on disk"),
};
static const struct field_row recover_rows[] = {
    NEED(run_log_recover, what, FIELD_TEXT,
         "restart, run clock, snapshot, gave snapshot, state hash, reset, listed again, checkpoint failed, run file, "
         "set aside"),
    MAY(run_log_recover, generation, FIELD_COUNT, "restart: of the checkpoint, 0 = none"),
    MAY(run_log_recover, step, FIELD_COUNT,
        "restart, run clock: training goes on from here; reset, checkpoint failed, run file: at it; set aside: of the "
        "run"),
    MAY(run_log_recover, steps, FIELD_COUNT, "run file: inner.steps from here on, as an outer started again says"),
    MAY(run_log_recover, from_step, FIELD_COUNT,
        "run clock: the worker's own step; set aside: the run's, as it is held here"),
    MAY(run_log_recover, tokens, FIELD_COUNT, "restart: highest ever counted; reset: dropped"),
    MAY(run_log_recover, fragment, FIELD_COUNT, "snapshot, gave snapshot, state hash, reset: index"),
    MAY(run_log_recover, version, FIELD_COUNT, "snapshot, gave snapshot, state hash: of the fragment"),
    MAY(run_log_recover, run_step, FIELD_COUNT, "snapshot: of that version"),
    MAY(run_log_recover, bytes, FIELD_COUNT, "snapshot, gave snapshot: as they travelled"),
    MAY(run_log_recover, moments, FIELD_COUNT, "reset: optimizer moments that were not finite"),
    MAY(run_log_recover, count, FIELD_COUNT, "state hash, checkpoint failed: so many times in a row"),
    MAY(run_log_recover, snapshot, FIELD_BOOL, "state hash: of a snapshot, not of a commit"),
    MAY(run_log_recover, state_hash, FIELD_TEXT, "snapshot: hex, of outer copy and momentum"),
    MAY(run_log_recover, here, FIELD_TEXT, "state hash: hex, as it came out here"),
    MAY(run_log_recover, outer, FIELD_TEXT, "state hash: hex, that the outer signed"),
    MAY(run_log_recover, reason, FIELD_TEXT, "checkpoint failed: why"),
    MAY(run_log_recover, directory, FIELD_TEXT, "set aside: where the checkpoints of before are"),
};
static const struct field_row end_rows[] = {
    NEED(run_log_end, step, FIELD_COUNT, "last step"),
    NEED(run_log_end, tokens, FIELD_COUNT, "that this worker has trained on"),
    NEED(run_log_end, wait_us, FIELD_COUNT, "us that training stood still for the network"),
    NEED(run_log_end, compute_us, FIELD_COUNT, "us of training"),
    NEED(run_log_end, eval_us, FIELD_COUNT, "us of evaluations"),
    MAY(run_log_end, payload_up, FIELD_COUNT, "as in link"),
    MAY(run_log_end, payload_down, FIELD_COUNT, "as in link"),
    MAY(run_log_end, wire_up, FIELD_COUNT, "as in link"),
    MAY(run_log_end, wire_down, FIELD_COUNT, "as in link"),
    MAY(run_log_end, control_up, FIELD_COUNT, "as in link"),
    MAY(run_log_end, control_down, FIELD_COUNT, "as in link"),
    MAY(run_log_end, reason, FIELD_TEXT, "why it ended"),
    MAY(run_log_end, state_hash, FIELD_TEXT, "hex, of the final outer copies"),
};
static const struct field_row outer_commit_rows[] = {
    NEED(run_log_outer_commit, fragment, FIELD_COUNT, "index"),
    NEED(run_log_outer_commit, version, FIELD_COUNT, "new version of the fragment"),
    MAY(run_log_outer_commit, run_step, FIELD_COUNT, "largest send step that it counts"),
    NEED(run_log_outer_commit, counted, FIELD_LIST,
         "slot, base_version, tokens_from, tokens_to, tokens (the weight) of each contribution"),
    MAY(run_log_outer_commit, payload_bytes, FIELD_COUNT, "bytes of the encoded mean"),
    MAY(run_log_outer_commit, state_hash, FIELD_TEXT, "XXH3-128 of outer copy and momentum, hex"),
    MAY(run_log_outer_commit, open_us, FIELD_COUNT, "us since the log was opened: first whole contribution"),
    MAY(run_log_outer_commit, close_us, FIELD_COUNT, "us since the log was opened: round closed"),
};
static const struct field_row contribution_rows[] = {
    MAY(run_log_contribution, slot, FIELD_COUNT, "of the worker"),
    MAY(run_log_contribution, tokens_to, FIELD_COUNT, "its counter at that send"),
};
static const struct field_row outer_end_rows[] = {
    MAY(run_log_outer_end, reason, FIELD_TEXT, "why it ended"),
    MAY(run_log_outer_end, commits, FIELD_COUNT, "of all fragments"),
    MAY(run_log_outer_end, state_hash, FIELD_TEXT, "hex, of the final outer copies"),
    MAY(run_log_outer_end, eval_loss, FIELD_REAL, "held-out loss of the final model, nats per token"),
    MAY(run_log_outer_end, bits_per_byte, FIELD_REAL, "of the final model"),
    MAY(run_log_outer_end, wire_up, FIELD_COUNT, "bytes sent to all workers, as the outer's kernel counts them"),
    MAY(run_log_outer_end, wire_down, FIELD_COUNT, "bytes received from all workers, likewise"),
    MAY(run_log_outer_end, foreign_sessions, FIELD_COUNT, "messages of ended sessions that were dropped"),
};
static const struct field_row outer_recover_rows[] = {
    NEED(run_log_outer_recover, what, FIELD_TEXT,
         "outer start, snapshot (given to a worker), taken over (from one), outer differs (its state was wrong)"),
    MAY(run_log_outer_recover, from, FIELD_TEXT,
        "outer start: fresh (a new run), disk (this directory's commits), empty (what the workers hold)"),
    MAY(run_log_outer_recover, commits, FIELD_COUNT, "outer start: of all fragments"),
    MAY(run_log_outer_recover, run_step, FIELD_COUNT, "outer start: the run's step"),
    MAY(run_log_outer_recover, slot, FIELD_COUNT, "snapshot, taken over: of the worker"),
    MAY(run_log_outer_recover, fragment, FIELD_COUNT, "snapshot, taken over, outer differs: index"),
    MAY(run_log_outer_recover, version, FIELD_COUNT,
        "snapshot, taken over: of the fragment; outer differs: it and later ones are dropped"),
    MAY(run_log_outer_recover, bytes, FIELD_COUNT, "snapshot: to travel"),
    MAY(run_log_outer_recover, here, FIELD_TEXT, "outer differs: hex, state hash as it came out here"),
    MAY(run_log_outer_recover, workers, FIELD_TEXT, "outer differs: hex, as it came out at most workers"),
    MAY(run_log_outer_recover, slots, FIELD_LIST, "outer differs: of those workers"),
};
static const struct field_row lead_rows[] = {
    NEED(run_log_lead, epoch, FIELD_COUNT, "raised at each start of the outer"),
    MAY(run_log_lead, run_step, FIELD_COUNT, "the run's step"),
};
static const struct field_row join_rows[] = {
    NEED(run_log_join, slot, FIELD_INTEGER, "of the worker"),
    MAY(run_log_join, node, FIELD_TEXT, "its name"),
    MAY(run_log_join, reason, FIELD_TEXT, "ready, or back"),
    MAY(run_log_join, step, FIELD_COUNT, "from which it trains on"),
    MAY(run_log_join, tokens, FIELD_COUNT, "that it has counted"),
};
static const struct field_row leave_rows[] = {
    NEED(run_log_leave, slot, FIELD_INTEGER, "of the worker"),
    MAY(run_log_leave, node, FIELD_TEXT, "its name"),
    MAY(run_log_leave, reason, FIELD_TEXT, "why"),
};
static const struct field_row drain_rows[] = {
    NEED(run_log_drain, slot, FIELD_COUNT, "of the worker"),
    MAY(run_log_drain, node, FIELD_TEXT, "its name"),
    MAY(run_log_drain, revoked, FIELD_BOOL, "it may not come back"),
};
static const struct field_row refuse_rows[] = {
    MAY(run_log_refuse, what, FIELD_TEXT, "that was refused"),
    MAY(run_log_refuse, reason, FIELD_TEXT, "why"),
    MAY(run_log_refuse, code, FIELD_COUNT, "the same as a number"),
    MAY(run_log_refuse, slot, FIELD_COUNT, "of the worker whose contribution it was"),
    MAY(run_log_refuse, fragment, FIELD_COUNT, "of the contribution"),
    MAY(run_log_refuse, base_version, FIELD_COUNT, "that the contribution was measured from"),
};
static const struct field_row round_trip_rows[] = {
    NEED(run_log_round_trip, slot, FIELD_COUNT, "of the worker"),
    MAY(run_log_round_trip, p50_us, FIELD_COUNT, "us, median control round trip"),
    MAY(run_log_round_trip, p99_us, FIELD_COUNT, "us, 99th percentile"),
    MAY(run_log_round_trip, max_us, FIELD_COUNT, "us, largest"),
    MAY(run_log_round_trip, count, FIELD_COUNT, "measured round trips"),
};
static const struct field_row ledger_rows[] = {
    NEED(run_log_ledger, slot, FIELD_COUNT, "of the worker"),
    NEED(run_log_ledger, fragment, FIELD_COUNT, "index"),
    MAY(run_log_ledger, processed, FIELD_COUNT, "tokens trained = applied + in_flight + unsent + dropped"),
    MAY(run_log_ledger, applied, FIELD_COUNT, "tokens that commits counted"),
    MAY(run_log_ledger, in_flight, FIELD_COUNT, "tokens sent, not resolved"),
    MAY(run_log_ledger, unsent, FIELD_COUNT, "tokens not yet sent"),
    MAY(run_log_ledger, dropped, FIELD_COUNT, "tokens refused or lost"),
};

enum run_log_writer { WRITER_ANY, WRITER_WORKER, WRITER_OUTER };

#define ROWS(rows) rows, (int)(sizeof rows / sizeof rows[0])
static const struct event_row {
    const char *name;
    enum run_log_writer writer;
    const struct field_row *rows;
    int count;
    const char *help;
} event_rows[RUN_LOG_EVENT_COUNT] = {
    [RUN_LOG_HEADER] = {"header", WRITER_ANY, ROWS(header_rows), "first record of each process"},
    [RUN_LOG_STEP] = {"step", WRITER_WORKER, ROWS(step_rows), "one inner step"},
    [RUN_LOG_SYNC_SEND] = {"sync_send", WRITER_WORKER, ROWS(sync_send_rows), "a fragment was encoded for sending"},
    [RUN_LOG_COMMIT] = {"commit", WRITER_WORKER, ROWS(commit_rows), "a new version was applied to the outer copy"},
    [RUN_LOG_MERGE] = {"merge", WRITER_WORKER, ROWS(merge_rows), "a new version met the local parameters"},
    [RUN_LOG_EVAL] = {"eval", WRITER_WORKER, ROWS(eval_rows), "held-out evaluation"},
    [RUN_LOG_LINK] = {"link", WRITER_WORKER, ROWS(link_rows), "each second"},
    [RUN_LOG_CHECKPOINT] = {"checkpoint", WRITER_WORKER, ROWS(checkpoint_rows), "a checkpoint is on disk"},
    [RUN_LOG_RECOVER] = {"recover", WRITER_WORKER, ROWS(recover_rows),
                         "something went wrong, or was away, and is mended"},
    [RUN_LOG_END] = {"end", WRITER_WORKER, ROWS(end_rows), "last record of each process that was not killed"},
    [RUN_LOG_OUTER_COMMIT] = {"commit", WRITER_OUTER, ROWS(outer_commit_rows), "a round closed"},
    [RUN_LOG_OUTER_END] = {"end", WRITER_OUTER, ROWS(outer_end_rows),
                           "last record of each process that was not killed"},
    [RUN_LOG_OUTER_RECOVER] = {"recover", WRITER_OUTER, ROWS(outer_recover_rows),
                               "the outer came back, or brought a worker back"},
    [RUN_LOG_LEAD] = {"lead", WRITER_OUTER, ROWS(lead_rows), "this outer leads the run from here on"},
    [RUN_LOG_START] = {"start", WRITER_OUTER, NULL, 0, "all workers are here, training starts"},
    [RUN_LOG_JOIN] = {"join", WRITER_OUTER, ROWS(join_rows), "a worker came"},
    [RUN_LOG_LEAVE] = {"leave", WRITER_OUTER, ROWS(leave_rows), "a worker left or was lost"},
    [RUN_LOG_DRAIN] = {"drain", WRITER_OUTER, ROWS(drain_rows), "a worker was asked to leave (atoll drain)"},
    [RUN_LOG_REFUSE] = {"refuse", WRITER_ANY, ROWS(refuse_rows), "somebody or something was refused"},
    [RUN_LOG_ROUND_TRIP] = {"round_trip", WRITER_OUTER, ROWS(round_trip_rows), "control round trips of one worker"},
    [RUN_LOG_LEDGER] = {"ledger", WRITER_OUTER, ROWS(ledger_rows), "where the tokens of one worker and fragment went"},
};

static const struct event_row *find_event(const char *name, bool outer) {
    for (int i = 0; i < RUN_LOG_EVENT_COUNT; i++) {
        enum run_log_writer writer = event_rows[i].writer;
        if (strcmp(event_rows[i].name, name) == 0 && (writer == WRITER_ANY || (writer == WRITER_OUTER) == outer))
            return &event_rows[i];
    }
    return NULL;
}

static enum status read_contributions(json_t *counted, struct run_log_outer_commit *commit, struct error *error) {
    if (commit->counted > MESSAGE_WORKERS_MAX)
        return error_set(error, STATUS_DATA, "counted has %" PRId64 " entries, a run has at most %d workers",
                         commit->counted, MESSAGE_WORKERS_MAX);
    for (size_t i = 0; i < (size_t)commit->counted; i++)
        if (fields_read(ROWS(contribution_rows), json_array_get(counted, i), &commit->contributions[i], error) !=
            STATUS_OK)
            return error_prefix(error, "counted[%zu]", i);
    return STATUS_OK;
}

static enum run_log_line read_record(json_t *object, bool outer, struct run_log_record *record, struct error *error) {
    const char *name = json_string_value(json_object_get(object, "event"));
    json_t *t_us = json_object_get(object, "t_us");
    const char *t_wall = json_string_value(json_object_get(object, "t_wall"));
    if (!name) {
        error_set(error, STATUS_DATA, "no event");
        return RUN_LOG_LINE_BAD;
    }
    const struct event_row *row = find_event(name, outer);
    if (!row)
        return RUN_LOG_LINE_UNKNOWN;
    if (!integer_fits(t_us, FIELD_COUNT)) {
        error_set(error, STATUS_DATA, "%s: t_us is missing or not a count", row->name);
        return RUN_LOG_LINE_BAD;
    }
    memset(record, 0, sizeof *record);
    record->event = (enum run_log_event)(row - event_rows);
    record->t_us = (uint64_t)json_integer_value(t_us);
    copy_text(record->t_wall, sizeof record->t_wall, t_wall ? t_wall : "");
    enum status status = fields_read(row->rows, row->count, object, &record->header, error);
    if (status == STATUS_OK && record->event == RUN_LOG_OUTER_COMMIT)
        status = read_contributions(json_object_get(object, "counted"), &record->outer_commit, error);
    if (status == STATUS_OK)
        return RUN_LOG_LINE_RECORD;
    error_prefix(error, "%s", row->name);
    return RUN_LOG_LINE_BAD;
}

enum run_log_line run_log_parse(const char *line, size_t length, bool outer, struct run_log_record *record,
                                struct error *error) {
    json_error_t reason;
    json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &reason);
    if (!json_is_object(object)) {
        char why[sizeof reason.text]; /* it quotes the line */
        copy_text(why, sizeof why, object ? "" : reason.text);
        error_set(error, STATUS_DATA, "not a JSON object%s%s", object ? "" : ": ", why);
        json_decref(object);
        return RUN_LOG_LINE_BAD;
    }
    enum run_log_line result = read_record(object, outer, record, error);
    json_decref(object);
    return result;
}

void run_log_print_schema(FILE *file) {
    static const char *const writers[] = {"every node", "workers", "the outer"};
    fprintf(
        file,
        "log.jsonl: one JSON object per line. Every record: event (text), t_wall (RFC 3339), t_us (us since that log "
        "was\n"
        "opened). Numbers are cumulative since the last header unless said; bytes are those of the writing worker. A "
        "process\n"
        "that is started again writes on behind a new header: times and bytes from 0, steps from its checkpoint (some "
        "come\n"
        "twice), tokens from the highest that it ever counted.\n");
    for (int i = 0; i < RUN_LOG_EVENT_COUNT; i++) {
        fprintf(file, "\n%s: %s (written by %s)\n", event_rows[i].name, event_rows[i].help,
                writers[event_rows[i].writer]);
        fields_print_help(event_rows[i].rows, event_rows[i].count, file);
    }
}
