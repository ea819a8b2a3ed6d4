/* Every event of the table: what is read from it, which fields it needs, which types it refuses, and with which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "experiments/run_log.h"

/* One complete line of each event. `required` and `with_sign` are this test's own list of what the public table promises; all
 * other fields are optional, all other integers counts. */
static const struct sample {
    enum run_log_event kind;
    bool outer;
    const char *event;
    const char *fields;
    const char *required;
    const char *with_sign;
} samples[] = {
    {RUN_LOG_HEADER, false, "header",
     "'schema': 1, 'run_id': 'ab12', 'role': 'worker', 'node': 'w-0', 'slot': 3, "
     "'build': {'version': '0.1.0', 'compiler': 'gcc', 'cpu': 'Z80', 'cores': 2}, 'blas_core': 'Zen', 'precision': "
     "'f32', 'threads': "
     "4, "
     "'name': 'tiny', 'parameters': 26816, 'fragments': [{}, {}, {}], 'workers': 5, 'steps': 60, 'tokens_per_step': "
     "64, "
     "'seed': 7, 'up_bytes_per_s': 1000, 'down_bytes_per_s': 2000, 'every_steps': 10, 'overlap_steps': -1, "
     "'keep_local': 0.5, 'codec_up': 'e3m0', 'codec_down': 'bf16', 'error_feedback': true, "
     "'outer_optimizer': 'nesterov', 'outer_lr': 0.4, 'outer_momentum': 0.9",
     "schema role node parameters workers tokens_per_step", "slot overlap_steps seed"},
    {RUN_LOG_STEP, false, "step",
     "'step': 3, 'loss': 2.5, 'grad_norm': 0.75, 'lr': 0.125, 'tokens': 192, 'compute_us': 277, 'applied': true",
     "step loss tokens compute_us", ""},
    {RUN_LOG_SYNC_SEND, false, "sync_send",
     "'step': 10, 'fragment': 2, 'base_version': 4, 'tokens_from': 100, 'tokens_to': 200, 'tokens': 90, "
     "'payload_bytes': 4177, 'encode_us': 12",
     "step fragment payload_bytes", ""},
    {RUN_LOG_COMMIT, false, "commit",
     "'fragment': 2, 'version': 6, 'run_step': 60, 'counted': true, 'payload_bytes': 4177, 'state_hash': '8177'",
     "fragment version", ""},
    {RUN_LOG_MERGE, false, "merge", "'step': 60, 'fragment': 2, 'version': 6, 'kind': 'final', 'wait_us': 688",
     "step fragment", ""},
    {RUN_LOG_EVAL, false, "eval",
     "'step': 60, 'loss': 2.25, 'bits_per_byte': 3.25, 'windows': 8, 'tokens': 3840, 'run_tokens': 7680, "
     "'eval_us': 538, 'versions': [6, 6], 'wire_up': 1, 'wire_down': 2, 'payload_up': 3, 'payload_down': 4, 'final': "
     "true",
     "step loss tokens run_tokens", ""},
    {RUN_LOG_LINK, false, "link",
     "'step': 60, 'payload_up': 1, 'payload_down': 2, 'wire_up': 3, 'wire_down': 4, 'control_up': 5, "
     "'control_down': 6, 'retransmitted_up': 7, 'wait_us': 8, 'eval_us': 9",
     "wire_up wire_down wait_us", ""},
    {RUN_LOG_CHECKPOINT, false, "checkpoint", "'generation': 4, 'step': 60, 'stall_us': 7, 'write_us': 8, 'bytes': 9",
     "step", ""},
    {RUN_LOG_RECOVER, false, "recover",
     "'what': 'restart', 'generation': 4, 'step': 60, 'from_step': 50, 'tokens': 3840, 'fragment': 2, 'version': 6, "
     "'run_step': 59, 'bytes': 7, 'moments': 8, 'count': 9, 'snapshot': true, 'state_hash': '8177', 'here': '8178', "
     "'outer': '8179', 'reason': 'no space left'",
     "what", ""},
    {RUN_LOG_END, false, "end",
     "'step': 60, 'tokens': 3840, 'wait_us': 1, 'compute_us': 2, 'eval_us': 3, 'payload_up': 4, 'payload_down': 5, "
     "'wire_up': 6, 'wire_down': 7, 'control_up': 8, 'control_down': 9, 'reason': 'done', 'state_hash': '2c48'",
     "step tokens wait_us compute_us eval_us", ""},
    {RUN_LOG_OUTER_COMMIT, true, "commit",
     "'fragment': 2, 'version': 6, 'run_step': 60, 'counted': [{'slot': 1, 'tokens_from': 64, 'tokens_to': 192}, {}], "
     "'payload_bytes': 4177, 'state_hash': '8177', "
     "'open_us': 10, 'close_us': 20",
     "fragment version counted", ""},
    {RUN_LOG_OUTER_END, true, "end",
     "'reason': 'done', 'commits': 18, 'state_hash': '2c48', 'eval_loss': 2.25, 'bits_per_byte': 3.25, "
     "'wire_up': 5, 'wire_down': 6, 'foreign_sessions': 7",
     "", ""},
    {RUN_LOG_OUTER_RECOVER, true, "recover",
     "'what': 'outer start', 'from': 'disk', 'commits': 18, 'run_step': 60, 'slot': 1, 'fragment': 2, 'version': 6, "
     "'bytes': 7, 'here': '2c48', 'workers': '8177', 'slots': [0, 1]",
     "what", ""},
    {RUN_LOG_LEAD, true, "lead", "'epoch': 2, 'run_step': 60", "epoch", ""},
    {RUN_LOG_START, true, "start", "", "", ""},
    {RUN_LOG_JOIN, true, "join", "'slot': 1, 'node': 'w-1', 'reason': 'ready', 'step': 60, 'tokens': 3840", "slot",
     "slot"},
    {RUN_LOG_LEAVE, true, "leave", "'slot': -1, 'node': 'w-1', 'reason': 'link lost'", "slot", "slot"},
    {RUN_LOG_DRAIN, true, "drain", "'slot': 1, 'node': 'w-1', 'revoked': true", "slot", ""},
    {RUN_LOG_REFUSE, true, "refuse",
     "'what': 'hello', 'reason': 'stale', 'code': 1, 'slot': 2, 'fragment': 3, 'base_version': 4", "", ""},
    {RUN_LOG_ROUND_TRIP, true, "round_trip", "'slot': 1, 'p50_us': 2, 'p99_us': 3, 'max_us': 4, 'count': 5", "slot",
     ""},
    {RUN_LOG_LEDGER, true, "ledger",
     "'slot': 1, 'fragment': 2, 'processed': 100, 'applied': 40, 'in_flight': 30, 'unsent': 20, 'dropped': 10",
     "slot fragment", ""},
};
enum { SAMPLES = sizeof samples / sizeof samples[0] };

/* JSON with ' for ". */
static json_t *object_of(const char *quoted) {
    char text[2048];
    snprintf(text, sizeof text, "{'t_wall': '2026-01-02T03:04:05.678Z', 't_us': 123%s%s}", quoted[0] ? ", " : "",
             quoted);
    for (char *at = text; *at; at++)
        if (*at == '\'')
            *at = '"';
    json_t *object = json_loads(text, 0, NULL);
    assert_non_null(object);
    return object;
}

static json_t *sample_object(const struct sample *sample) {
    json_t *object = object_of(sample->fields);
    json_object_set_new(object, "event", json_string(sample->event));
    return object;
}

/* Takes the object over. */
static enum run_log_line parse(json_t *object, bool outer, struct run_log_record *record, struct error *error) {
    char *line = json_dumps(object, JSON_COMPACT);
    assert_non_null(line);
    memset(record, 0xab, sizeof *record);
    error->text[0] = '\0';
    enum run_log_line result = run_log_parse(line, strlen(line), outer, record, error);
    free(line);
    json_decref(object);
    return result;
}

static void assert_bad(json_t *object, bool outer, const char *text) {
    struct run_log_record record;
    struct error error;
    assert_int_equal(parse(object, outer, &record, &error), RUN_LOG_LINE_BAD);
    assert_string_equal(error.text, text);
}

static bool lists(const char *words, const char *word) {
    size_t length = strlen(word);
    for (const char *at = words; (at = strstr(at, word)) != NULL; at += length)
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
            return true;
    return false;
}

static bool is_common(const char *name) {
    return lists("event t_wall t_us build", name);
}

/* ---- what is read ---- */

static struct run_log_record read_sample(enum run_log_event kind) {
    struct run_log_record record;
    struct error error;
    const struct sample *sample = &samples[kind];
    assert_int_equal(sample->kind, kind);
    assert_int_equal(parse(sample_object(sample), sample->outer, &record, &error), RUN_LOG_LINE_RECORD);
    assert_int_equal(record.event, kind);
    assert_int_equal(record.t_us, 123);
    assert_string_equal(record.t_wall, "2026-01-02T03:04:05.678Z");
    return record;
}

static void header(void **state) {
    (void)state;
    struct run_log_header header = read_sample(RUN_LOG_HEADER).header;
    assert_int_equal(header.schema, 1);
    assert_string_equal(header.run_id, "ab12");
    assert_string_equal(header.role, "worker");
    assert_string_equal(header.node, "w-0");
    assert_int_equal(header.slot, 3);
    assert_string_equal(header.version, "0.1.0");
    assert_string_equal(header.compiler, "gcc");
    assert_string_equal(header.cpu, "Z80");
    assert_int_equal(header.cores, 2);
    assert_string_equal(header.blas_core, "Zen");
    assert_string_equal(header.precision, "f32");
    assert_int_equal(header.threads, 4);
    assert_string_equal(header.name, "tiny");
    assert_int_equal(header.parameters, 26816);
    assert_int_equal(header.fragments, 3);
    assert_int_equal(header.workers, 5);
    assert_int_equal(header.steps, 60);
    assert_int_equal(header.tokens_per_step, 64);
    assert_int_equal(header.seed, 7);
    assert_int_equal(header.up_bytes_per_s, 1000);
    assert_int_equal(header.down_bytes_per_s, 2000);
    assert_int_equal(header.every_steps, 10);
    assert_int_equal(header.overlap_steps, -1);
    assert_true(header.keep_local == 0.5);
    assert_string_equal(header.codec_up, "e3m0");
    assert_string_equal(header.codec_down, "bf16");
    assert_true(header.error_feedback);
    assert_string_equal(header.outer_optimizer, "nesterov");
    assert_true(header.outer_lr == 0.4);
    assert_true(header.outer_momentum == 0.9);
}

static void worker_events(void **state) {
    (void)state;
    struct run_log_step step = read_sample(RUN_LOG_STEP).step;
    assert_int_equal(step.step, 3);
    assert_true(step.loss == 2.5 && step.grad_norm == 0.75 && step.lr == 0.125);
    assert_int_equal(step.tokens, 192);
    assert_int_equal(step.compute_us, 277);
    assert_true(step.applied);

    struct run_log_sync_send send = read_sample(RUN_LOG_SYNC_SEND).sync_send;
    assert_int_equal(send.step, 10);
    assert_int_equal(send.fragment, 2);
    assert_int_equal(send.base_version, 4);
    assert_int_equal(send.tokens_from, 100);
    assert_int_equal(send.tokens_to, 200);
    assert_int_equal(send.tokens, 90);
    assert_int_equal(send.payload_bytes, 4177);
    assert_int_equal(send.encode_us, 12);

    struct run_log_commit commit = read_sample(RUN_LOG_COMMIT).commit;
    assert_int_equal(commit.fragment, 2);
    assert_int_equal(commit.version, 6);
    assert_int_equal(commit.run_step, 60);
    assert_true(commit.counted);
    assert_int_equal(commit.payload_bytes, 4177);
    assert_string_equal(commit.state_hash, "8177");

    struct run_log_merge merge = read_sample(RUN_LOG_MERGE).merge;
    assert_int_equal(merge.step, 60);
    assert_int_equal(merge.fragment, 2);
    assert_int_equal(merge.version, 6);
    assert_string_equal(merge.kind, "final");
    assert_int_equal(merge.wait_us, 688);

    struct run_log_eval eval = read_sample(RUN_LOG_EVAL).eval;
    assert_int_equal(eval.step, 60);
    assert_true(eval.loss == 2.25 && eval.bits_per_byte == 3.25);
    assert_int_equal(eval.windows, 8);
    assert_int_equal(eval.tokens, 3840);
    assert_int_equal(eval.run_tokens, 7680);
    assert_int_equal(eval.eval_us, 538);
    assert_int_equal(eval.versions, 2);
    assert_int_equal(eval.wire_up, 1);
    assert_int_equal(eval.wire_down, 2);
    assert_int_equal(eval.payload_up, 3);
    assert_int_equal(eval.payload_down, 4);
    assert_true(eval.final);

    struct run_log_link link = read_sample(RUN_LOG_LINK).link;
    assert_int_equal(link.step, 60);
    assert_int_equal(link.payload_up, 1);
    assert_int_equal(link.payload_down, 2);
    assert_int_equal(link.wire_up, 3);
    assert_int_equal(link.wire_down, 4);
    assert_int_equal(link.control_up, 5);
    assert_int_equal(link.control_down, 6);
    assert_int_equal(link.retransmitted_up, 7);
    assert_int_equal(link.wait_us, 8);
    assert_int_equal(link.eval_us, 9);

    struct run_log_end end = read_sample(RUN_LOG_END).end;
    assert_int_equal(end.step, 60);
    assert_int_equal(end.tokens, 3840);
    assert_int_equal(end.wait_us, 1);
    assert_int_equal(end.compute_us, 2);
    assert_int_equal(end.eval_us, 3);
    assert_int_equal(end.payload_up, 4);
    assert_int_equal(end.payload_down, 5);
    assert_int_equal(end.wire_up, 6);
    assert_int_equal(end.wire_down, 7);
    assert_int_equal(end.control_up, 8);
    assert_int_equal(end.control_down, 9);
    assert_string_equal(end.reason, "done");
    assert_string_equal(end.state_hash, "2c48");
}

static void outer_events(void **state) {
    (void)state;
    struct run_log_outer_commit commit = read_sample(RUN_LOG_OUTER_COMMIT).outer_commit;
    assert_int_equal(commit.fragment, 2);
    assert_int_equal(commit.version, 6);
    assert_int_equal(commit.run_step, 60);
    assert_int_equal(commit.counted, 2);
    assert_int_equal(commit.contributions[0].slot, 1);
    assert_int_equal(commit.contributions[0].tokens_to, 192);
    assert_int_equal(commit.contributions[1].tokens_to, 0);
    assert_int_equal(commit.payload_bytes, 4177);
    assert_string_equal(commit.state_hash, "8177");
    assert_int_equal(commit.open_us, 10);
    assert_int_equal(commit.close_us, 20);

    struct run_log_outer_end end = read_sample(RUN_LOG_OUTER_END).outer_end;
    assert_string_equal(end.reason, "done");
    assert_int_equal(end.commits, 18);
    assert_string_equal(end.state_hash, "2c48");
    assert_true(end.eval_loss == 2.25 && end.bits_per_byte == 3.25);
    assert_int_equal(end.wire_up, 5);
    assert_int_equal(end.wire_down, 6);
    assert_int_equal(end.foreign_sessions, 7);
    read_sample(RUN_LOG_START);

    struct run_log_join join = read_sample(RUN_LOG_JOIN).join;
    assert_int_equal(join.slot, 1);
    assert_string_equal(join.node, "w-1");
    assert_string_equal(join.reason, "ready");
    assert_int_equal(join.step, 60);
    assert_int_equal(join.tokens, 3840);
    struct run_log_leave leave = read_sample(RUN_LOG_LEAVE).leave;
    assert_int_equal(leave.slot, -1);
    assert_string_equal(leave.node, "w-1");
    assert_string_equal(leave.reason, "link lost");

    struct run_log_refuse refuse = read_sample(RUN_LOG_REFUSE).refuse;
    assert_string_equal(refuse.what, "hello");
    assert_string_equal(refuse.reason, "stale");
    assert_int_equal(refuse.code, 1);
    assert_int_equal(refuse.slot, 2);
    assert_int_equal(refuse.fragment, 3);
    assert_int_equal(refuse.base_version, 4);

    struct run_log_round_trip trip = read_sample(RUN_LOG_ROUND_TRIP).round_trip;
    assert_int_equal(trip.slot, 1);
    assert_int_equal(trip.p50_us, 2);
    assert_int_equal(trip.p99_us, 3);
    assert_int_equal(trip.max_us, 4);
    assert_int_equal(trip.count, 5);

    struct run_log_ledger ledger = read_sample(RUN_LOG_LEDGER).ledger;
    assert_int_equal(ledger.slot, 1);
    assert_int_equal(ledger.fragment, 2);
    assert_int_equal(ledger.processed, 100);
    assert_int_equal(ledger.applied, 40);
    assert_int_equal(ledger.in_flight, 30);
    assert_int_equal(ledger.unsent, 20);
    assert_int_equal(ledger.dropped, 10);
}

static void recovery_events(void **state) {
    (void)state;
    struct run_log_checkpoint checkpoint = read_sample(RUN_LOG_CHECKPOINT).checkpoint;
    assert_int_equal(checkpoint.generation, 4);
    assert_int_equal(checkpoint.step, 60);
    assert_int_equal(checkpoint.stall_us, 7);
    assert_int_equal(checkpoint.write_us, 8);
    assert_int_equal(checkpoint.bytes, 9);

    struct run_log_recover recover = read_sample(RUN_LOG_RECOVER).recover;
    assert_string_equal(recover.what, "restart");
    assert_int_equal(recover.generation, 4);
    assert_int_equal(recover.step, 60);
    assert_int_equal(recover.from_step, 50);
    assert_int_equal(recover.tokens, 3840);
    assert_int_equal(recover.fragment, 2);
    assert_int_equal(recover.version, 6);
    assert_int_equal(recover.run_step, 59);
    assert_int_equal(recover.bytes, 7);
    assert_int_equal(recover.moments, 8);
    assert_int_equal(recover.count, 9);
    assert_true(recover.snapshot);
    assert_string_equal(recover.state_hash, "8177");
    assert_string_equal(recover.here, "8178");
    assert_string_equal(recover.outer, "8179");
    assert_string_equal(recover.reason, "no space left");

    struct run_log_outer_recover outer = read_sample(RUN_LOG_OUTER_RECOVER).outer_recover;
    assert_string_equal(outer.what, "outer start");
    assert_string_equal(outer.from, "disk");
    assert_int_equal(outer.commits, 18);
    assert_int_equal(outer.run_step, 60);
    assert_int_equal(outer.slot, 1);
    assert_int_equal(outer.fragment, 2);
    assert_int_equal(outer.version, 6);
    assert_int_equal(outer.bytes, 7);
    assert_string_equal(outer.here, "2c48");
    assert_string_equal(outer.workers, "8177");
    assert_int_equal(outer.slots, 2);

    struct run_log_lead lead = read_sample(RUN_LOG_LEAD).lead;
    assert_int_equal(lead.epoch, 2);
    assert_int_equal(lead.run_step, 60);
    struct run_log_drain drain = read_sample(RUN_LOG_DRAIN).drain;
    assert_int_equal(drain.slot, 1);
    assert_string_equal(drain.node, "w-1");
    assert_true(drain.revoked);
}

/* Optional fields that are absent: 0, NaN, false, "". */
static void absent_fields(void **state) {
    (void)state;
    struct run_log_record record;
    struct error error;
    json_t *object = object_of("'event': 'step', 'step': 1, 'loss': null, 'tokens': 64, 'compute_us': 5");
    assert_int_equal(parse(object, false, &record, &error), RUN_LOG_LINE_RECORD);
    assert_true(isnan(record.step.loss));
    assert_true(isnan(record.step.grad_norm));
    assert_false(record.step.applied);
    object = object_of("'event': 'end'");
    assert_int_equal(parse(object, true, &record, &error), RUN_LOG_LINE_RECORD);
    assert_int_equal(record.outer_end.commits, 0);
    assert_string_equal(record.outer_end.reason, "");
    assert_true(isnan(record.outer_end.eval_loss));
}

/* ---- what is refused ---- */

static void missing_fields(void **state) {
    (void)state;
    for (int i = 0; i < SAMPLES; i++) {
        json_t *whole = sample_object(&samples[i]);
        const char *name;
        json_t *value;
        int required = 0;
        json_object_foreach(whole, name, value) {
            struct run_log_record record;
            struct error error;
            json_t *object = json_copy(whole);
            if (is_common(name)) {
                json_decref(object);
                continue;
            }
            json_object_del(object, name);
            if (!lists(samples[i].required, name)) {
                assert_int_equal(parse(object, samples[i].outer, &record, &error), RUN_LOG_LINE_RECORD);
                continue;
            }
            char text[128];
            snprintf(text, sizeof text, "%s: %s is missing", samples[i].event, name);
            assert_bad(object, samples[i].outer, text);
            required++;
        }
        int words = samples[i].required[0] != '\0';
        for (const char *at = samples[i].required; *at; at++)
            words += *at == ' ';
        assert_int_equal(required, words);
        json_decref(whole);
    }
}

static const char *type_of(const struct sample *sample, const char *name, const json_t *value) {
    if (json_is_integer(value))
        return lists(sample->with_sign, name) ? "integer" : "count";
    return json_is_real(value) ? "real" : json_is_boolean(value) ? "bool" : json_is_string(value) ? "text" : "list";
}

/* Every field of every event with a value of every wrong type. */
static void wrong_types(void **state) {
    (void)state;
    static const char *const wrong[] = {"{}", "[]", "true", "'1'", "1.5", "-1", "9007199254740993", "null"};
    static const char *const fits[] = {
        "", "list", "bool", "text", "real", "real integer", "real", "real",
    };
    int refused = 0;
    for (int i = 0; i < SAMPLES; i++) {
        json_t *whole = sample_object(&samples[i]);
        const char *name;
        json_t *value;
        json_object_foreach(whole, name, value) {
            for (size_t k = 0; k < sizeof wrong / sizeof wrong[0] && !is_common(name); k++) {
                const char *type = type_of(&samples[i], name, value);
                char field[64], text[128];
                struct run_log_record record;
                struct error error;
                snprintf(field, sizeof field, "'x': %s", wrong[k]);
                json_t *other = object_of(field);
                json_t *object = json_copy(whole);
                json_object_set(object, name, json_object_get(other, "x"));
                json_decref(other);
                if (lists(fits[k], type)) {
                    assert_int_equal(parse(object, samples[i].outer, &record, &error), RUN_LOG_LINE_RECORD);
                    continue;
                }
                snprintf(text, sizeof text, "%s: %s is not a %s", samples[i].event, name, type);
                assert_bad(object, samples[i].outer, text);
                refused++;
            }
        }
        json_decref(whole);
    }
    assert_in_range(refused, 500, 2000);
    json_t *object = sample_object(&samples[RUN_LOG_HEADER]);
    json_object_set_new(json_object_get(object, "build"), "cores", json_integer(-2));
    assert_bad(object, false, "header: build.cores is not a count");
    object = sample_object(&samples[RUN_LOG_OUTER_COMMIT]);
    json_object_set_new(json_array_get(json_object_get(object, "counted"), 1), "tokens_to", json_integer(-1));
    assert_bad(object, true, "commit: counted[1]: tokens_to is not a count");
    object = sample_object(&samples[RUN_LOG_OUTER_COMMIT]);
    for (int i = 2; i < MESSAGE_WORKERS_MAX + 1; i++)
        json_array_append_new(json_object_get(object, "counted"), json_object());
    assert_bad(object, true, "commit: counted has 65 entries, a run has at most 64 workers");
}

static void not_a_record(void **state) {
    (void)state;
    struct run_log_record record;
    struct error error;
    static const struct {
        const char *line, *text;
    } rows[] = {
        {"", "not a JSON object: '[' or '{' expected near end of file"},
        {"[1, 2]", "not a JSON object"},
        {"{\"event\": \"step\"", "not a JSON object: '}' expected near end of file"},
        {"{\"event\": \"step\", \"event\": \"step\"}", "not a JSON object: duplicate object key near '\"event\"'"},
        {"{}", "no event"},
        {"{\"event\": 5, \"t_us\": 1}", "no event"},
        {"{\"event\": \"step\"}", "step: t_us is missing or not a count"},
        {"{\"event\": \"step\", \"t_us\": -1}", "step: t_us is missing or not a count"},
        {"{\"event\": \"step\", \"t_us\": 1.0}", "step: t_us is missing or not a count"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(run_log_parse(rows[i].line, strlen(rows[i].line), false, &record, &error), RUN_LOG_LINE_BAD);
        assert_string_equal(error.text, rows[i].text);
    }
}

/* What a newer atoll may write: passed over, not bad. And: each log has its own events. */
static void unknown(void **state) {
    (void)state;
    struct run_log_record record;
    struct error error;
    assert_int_equal(parse(object_of("'event': 'rejoice', 'step': -1"), false, &record, &error), RUN_LOG_LINE_UNKNOWN);
    for (int i = 0; i < SAMPLES; i++) {
        json_t *object = sample_object(&samples[i]);
        json_object_set_new(object, "not_yet_invented", json_string("x"));
        assert_int_equal(parse(object, samples[i].outer, &record, &error), RUN_LOG_LINE_RECORD);
    }
    static const enum run_log_event workers_only[] = {RUN_LOG_STEP, RUN_LOG_SYNC_SEND, RUN_LOG_MERGE, RUN_LOG_EVAL};
    static const enum run_log_event outer_only[] = {RUN_LOG_JOIN, RUN_LOG_LEAVE, RUN_LOG_ROUND_TRIP, RUN_LOG_LEDGER};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(parse(sample_object(&samples[workers_only[i]]), true, &record, &error), RUN_LOG_LINE_UNKNOWN);
        assert_int_equal(parse(sample_object(&samples[outer_only[i]]), false, &record, &error), RUN_LOG_LINE_UNKNOWN);
    }
    assert_int_equal(parse(sample_object(&samples[RUN_LOG_REFUSE]), false, &record, &error), RUN_LOG_LINE_RECORD);
    assert_int_equal(parse(sample_object(&samples[RUN_LOG_HEADER]), true, &record, &error), RUN_LOG_LINE_RECORD);
}

/* Texts go to terminals, SVG and HTML: cut to fit, and nothing but printable ASCII. */
static void texts(void **state) {
    (void)state;
    struct run_log_record record;
    struct error error;
    char fields[1024], reason[600];
    memset(reason, 'x', sizeof reason);
    reason[sizeof reason - 1] = '\0';
    snprintf(fields, sizeof fields, "'event': 'join', 'slot': 0, 'node': 'a\\u001b[2Jb\\u00e9', 'reason': '%s'",
             reason);
    assert_int_equal(parse(object_of(fields), true, &record, &error), RUN_LOG_LINE_RECORD);
    assert_string_equal(record.join.node, "a?[2Jb??"); /* e acute is two bytes */
    assert_int_equal(strlen(record.join.reason), RUN_LOG_REASON_BYTES - 1);
}

/* ---- rows ---- */

struct thing {
    int64_t count;
    int64_t number;
    double real;
    bool yes;
    char text[16];
    int64_t list;
};
static const struct field_row thing_rows[] = {
    FIELD_ROW(thing, count, FIELD_COUNT, FIELD_REQUIRED, "things"),
    FIELD_ROW(thing, number, FIELD_INTEGER, FIELD_OPTIONAL, "a number"),
    FIELD_ROW(thing, real, FIELD_REAL, FIELD_OPTIONAL, "nats"),
    FIELD_ROW(thing, yes, FIELD_BOOL, FIELD_OPTIONAL, "or not"),
    FIELD_ROW(thing, text, FIELD_TEXT, FIELD_OPTIONAL, "words"),
    FIELD_ROW(thing, list, FIELD_LIST, FIELD_OPTIONAL, "how many"),
};
enum { THING_ROWS = sizeof thing_rows / sizeof thing_rows[0] };

static void rows_print(void **state) {
    (void)state;
    char *text;
    size_t bytes;
    FILE *file = open_memstream(&text, &bytes);
    struct thing thing = {12, -3, 0.1, true, "a \"b\", c", 4};
    fields_csv_names(thing_rows, THING_ROWS, file);
    fputc('\n', file);
    fields_csv_values(thing_rows, THING_ROWS, &thing, file);
    fputc('\n', file);
    thing.real = (double)NAN;
    fields_csv_values(thing_rows, THING_ROWS, &thing, file);
    fputc('\n', file);
    fields_print_help(thing_rows, 2, file);
    fclose(file);
    assert_string_equal(text, "count,number,real,yes,text,list\n"
                              "12,-3,0.1,1,\"a \"\"b\"\", c\",4\n"
                              "12,-3,,1,\"a \"\"b\"\", c\",4\n"
                              "    count              count    things\n"
                              "    number             integer  a number (optional)\n");
    free(text);
}

static void rows_json(void **state) {
    (void)state;
    struct error error;
    struct thing thing = {12, -3, 0.1, true, "words", 4}, back = {0};
    json_t *object = fields_json(thing_rows, THING_ROWS, &thing);
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(6));
    assert_string_equal(text, "{\"count\":12,\"number\":-3,\"real\":0.1,\"yes\":true,\"text\":\"words\",\"list\":4}");
    free(text);
    json_object_set_new(object, "list", json_pack("[i, i]", 1, 2));
    assert_int_equal(fields_read(thing_rows, THING_ROWS, object, &back, &error), STATUS_OK);
    assert_int_equal(back.count, 12);
    assert_int_equal(back.number, -3);
    assert_true(back.real == 0.1 && back.yes);
    assert_string_equal(back.text, "words");
    assert_int_equal(back.list, 2);
    json_object_del(object, "count");
    assert_int_equal(fields_read(thing_rows, THING_ROWS, object, &back, &error), STATUS_DATA);
    assert_string_equal(error.text, "count is missing");
    json_decref(object);
    thing.real = (double)INFINITY;
    object = fields_json(thing_rows, THING_ROWS, &thing);
    assert_true(json_is_null(json_object_get(object, "real")));
    json_decref(object);
}

/* The public page: every event that a sample knows, with its writer, and every one of its fields. */
static void schema(void **state) {
    (void)state;
    char *text;
    size_t bytes;
    FILE *file = open_memstream(&text, &bytes);
    run_log_print_schema(file);
    fclose(file);
    assert_non_null(strstr(text, "\nstep: one inner step (written by workers)\n"));
    assert_non_null(strstr(text, "\nheader: first record of each process (written by every node)\n"));
    assert_non_null(
        strstr(text, "\nledger: where the tokens of one worker and fragment went (written by the outer)\n"));
    assert_non_null(strstr(text, "\n    grad_norm          real     before clipping (optional)\n"));
    for (int i = 0; i < SAMPLES; i++) {
        json_t *whole = sample_object(&samples[i]);
        const char *name;
        json_t *value;
        json_object_foreach(whole, name, value) {
            char row[96];
            snprintf(row, sizeof row, "\n    %-18s %-8s ", name, type_of(&samples[i], name, value));
            assert_true(is_common(name) || strstr(text, row) != NULL);
        }
        json_decref(whole);
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header),          cmocka_unit_test(worker_events), cmocka_unit_test(outer_events),
        cmocka_unit_test(recovery_events), cmocka_unit_test(absent_fields), cmocka_unit_test(missing_fields),
        cmocka_unit_test(wrong_types),     cmocka_unit_test(not_a_record),  cmocka_unit_test(unknown),
        cmocka_unit_test(texts),           cmocka_unit_test(rows_print),    cmocka_unit_test(rows_json),
        cmocka_unit_test(schema),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
