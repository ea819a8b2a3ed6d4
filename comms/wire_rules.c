/* wire_rules: the tables of wire_rules.h. Limits, and why:
 *   slot 0..63, fragment 0..127, leader 0..63       MESSAGE_WORKERS_MAX, MESSAGE_FRAGMENTS_MAX
 *   steps, tokens, versions, payload bytes, rates   below 2^48: sums over all slots stay far from the end of 64 bits
 *   meters (bytes on the wire, microseconds)        below 2^63: the integers of JSON
 *   incarnation, session, sequence, masks            any 64 bits
 *   protocol_version                                ours: another one is answered before the rules are asked (wire.c)
 *   epoch                                           1 or more where there is a commit; 0 = before the first
 *   enums                                           1 .. COUNT - 1
 *   reals                                           finite, or NaN = unknown */
#include "comms/wire_rules.h"

#include <inttypes.h>
#include <stddef.h>
#include "base/check.h"
#include "wire.pb-c.h"

#define COUNT_MAX ((UINT64_C(1) << 48) - 1)
#define METER_MAX ((uint64_t)INT64_MAX)
#define ANY_MAX   UINT64_MAX
enum {
    LEADER_MAX = 63,
    SLOT_MAX = MESSAGE_WORKERS_MAX - 1,
    FRAGMENT_MAX = MESSAGE_FRAGMENTS_MAX - 1,
};

/* Rows. S is the plain struct; the field's name there is the one in wire.proto, but for AS. */
#define SIZE_OF(S, field) sizeof(((struct S *)0)->field)
#define ROW(S, field, K)  .name = #field, .kind = K, .offset = offsetof(struct S, field), .bytes = SIZE_OF(S, field)
#define INTEGER(S, field, least, most)                                                                                 \
    { ROW(S, field, RULE_INTEGER), .low = (least), .high = (most) }
#define INTEGER_AS(S, as, field, least, most)                                                                          \
    {                                                                                                                  \
        .name = as, .kind = RULE_INTEGER, .offset = offsetof(struct S, field), .bytes = SIZE_OF(S, field),             \
        .low = (least), .high = (most)                                                                                 \
    }
#define SLOT_OR_NOBODY(S, field)                                                                                       \
    { ROW(S, field, RULE_SLOT), .high = SLOT_MAX }
#define BOOL(S, field)                                                                                                 \
    { ROW(S, field, RULE_BOOL) }
#define REAL(S, field)                                                                                                 \
    { ROW(S, field, RULE_REAL) }
#define BYTES(S, field)                                                                                                \
    { ROW(S, field, RULE_BYTES) }
#define NAME(S, field, least)                                                                                          \
    { ROW(S, field, RULE_NAME), .low = (least) }
#define TEXT(S, field)                                                                                                 \
    { ROW(S, field, RULE_TEXT) }
#define LONG_TEXT(S, field)                                                                                            \
    { ROW(S, field, RULE_LONG_TEXT) }
#define VERSIONS(S, least)                                                                                             \
    {                                                                                                                  \
        .name = "versions", .kind = RULE_INTEGERS, .offset = offsetof(struct S, versions),                             \
        .bytes = SIZE_OF(S, versions[0]), .high = COUNT_MAX, .count_offset = offsetof(struct S, version_count),        \
        .count_low = (least), .count_high = MESSAGE_FRAGMENTS_MAX                                                      \
    }
#define PARTS(S, field, count, of, least, most)                                                                        \
    {                                                                                                                  \
        .name = #field, .kind = RULE_PARTS, .offset = offsetof(struct S, field), .bytes = SIZE_OF(S, field[0]),        \
        .shape = &(of), .count_offset = offsetof(struct S, count), .count_low = (least), .count_high = (most)          \
    }
#define PART(S, field, of)                                                                                             \
    { ROW(S, field, RULE_PART), .shape = &(of) }
#define TRANSFER_KEY(S)                                                                                                \
    INTEGER_AS(S, "kind", key.kind, 1, TRANSFER_KIND_COUNT - 1), INTEGER_AS(S, "leader", key.leader, 0, LEADER_MAX),   \
        INTEGER_AS(S, "fragment", key.fragment, 0, FRAGMENT_MAX), INTEGER_AS(S, "version", key.version, 0, COUNT_MAX)
#define SHAPE(text, pb, table)                                                                                         \
    .name = text, .descriptor = &wire__##pb##__descriptor, .rules = table, .rule_count = sizeof table / sizeof table[0]

/* ---- relations between fields ---- */

static enum status head_relations(const void *plain, struct error *error) {
    const struct head *head = plain;
    if (head->version == 0 && head->epoch != 0)
        return error_set(error, STATUS_DATA, "epoch: expected 0 with version 0, found %" PRIu64, head->epoch);
    if (head->version != 0 && head->epoch == 0)
        return error_set(error, STATUS_DATA, "epoch: expected 1 or more with version %" PRIu64 ", found 0",
                         head->version);
    return STATUS_OK;
}

static enum status check_tokens(uint64_t from, uint64_t to, uint64_t tokens, struct error *error) {
    if (to <= from)
        return error_set(error, STATUS_DATA, "tokens_to: expected above tokens_from %" PRIu64 ", found %" PRIu64, from,
                         to);
    if (tokens > to - from)
        return error_set(error, STATUS_DATA,
                         "tokens: expected at most tokens_to - tokens_from = %" PRIu64 ", found %" PRIu64, to - from,
                         tokens);
    return STATUS_OK;
}

static enum status offer_relations(const void *plain, struct error *error) {
    const struct contribution *offer = plain;
    return check_tokens(offer->tokens_from, offer->tokens_to, offer->tokens, error);
}

static enum status counted_relations(const void *plain, struct error *error) {
    const struct counted *line = plain;
    return check_tokens(line->tokens_from, line->tokens_to, line->tokens, error);
}

static enum status total_relations(const void *plain, struct error *error) {
    const struct total *total = plain;
    if (total->mark != total->applied + total->dropped)
        return error_set(error, STATUS_DATA, "mark: expected applied + dropped = %" PRIu64 ", found %" PRIu64,
                         total->applied + total->dropped, total->mark);
    return STATUS_OK;
}

static enum status grant_relations(const void *plain, struct error *error) {
    const struct message_grant *grant = plain;
    if (grant->limit < grant->offset)
        return error_set(error, STATUS_DATA, "limit: expected offset %" PRIu64 " or more, found %" PRIu64,
                         grant->offset, grant->limit);
    return STATUS_OK;
}

/* One line of the counted list. marks: per slot, 0 = no total. */
static enum status check_counted(const struct commit *commit, uint32_t i, const uint64_t *marks, struct error *error) {
    const struct counted *line = &commit->counted[i];
    if (line->base_version >= commit->version)
        return error_set(error, STATUS_DATA,
                         "counted[%" PRIu32 "].base_version: expected below version %" PRIu64 ", found %" PRIu64, i,
                         commit->version, line->base_version);
    if (line->send_step > commit->run_step)
        return error_set(error, STATUS_DATA,
                         "counted[%" PRIu32 "].send_step: expected at most run_step %" PRIu64 ", found %" PRIu64, i,
                         commit->run_step, line->send_step);
    if (marks[line->slot] == 0)
        return error_set(error, STATUS_DATA, "counted[%" PRIu32 "].slot: %" PRIu32 " is not in totals", i, line->slot);
    if (line->tokens_to != marks[line->slot])
        return error_set(error, STATUS_DATA,
                         "counted[%" PRIu32 "].tokens_to: expected the mark %" PRIu64 " of slot %" PRIu32
                         " in totals, found %" PRIu64,
                         i, marks[line->slot], line->slot, line->tokens_to);
    return STATUS_OK;
}

/* The order of the counted list is the order of summation, slot order or order of completion: each slot at most once. */
static enum status commit_relations(const void *plain, struct error *error) {
    const struct commit *commit = plain;
    uint64_t marks[MESSAGE_WORKERS_MAX] = {0}, seen = 0;
    for (uint32_t i = 0; i < commit->total_count; i++) {
        uint32_t slot = commit->totals[i].slot;
        if (i > 0 && slot <= commit->totals[i - 1].slot)
            return error_set(error, STATUS_DATA,
                             "totals[%" PRIu32 "].slot: expected above %" PRIu32 ", the slot before it, found %" PRIu32,
                             i, commit->totals[i - 1].slot, slot);
        marks[slot] = commit->totals[i].mark;
    }
    for (uint32_t i = 0; i < commit->counted_count; i++) {
        uint32_t slot = commit->counted[i].slot;
        if (seen >> slot & 1)
            return error_set(error, STATUS_DATA, "counted[%" PRIu32 "].slot: %" PRIu32 " is in the list already", i,
                             slot);
        seen |= UINT64_C(1) << slot;
        enum status status = check_counted(commit, i, marks, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* ---- the fields ---- */

static const struct rule envelope_rules[] = {
    INTEGER(message, type, 1, MESSAGE_TYPE_COUNT - 1),
    INTEGER(message, leader, 0, LEADER_MAX),
    INTEGER(message, session, 0, ANY_MAX),
};
static const struct rule certificate_rules[] = {
    BYTES(certificate, run_id), BYTES(certificate, worker_key), INTEGER(certificate, slot, 0, SLOT_MAX),
    NAME(certificate, name, 1), BYTES(certificate, signature),
};
static const struct rule counted_rules[] = {
    INTEGER(counted, slot, 0, SLOT_MAX),          INTEGER(counted, incarnation, 0, ANY_MAX),
    INTEGER(counted, base_version, 0, COUNT_MAX), INTEGER(counted, send_step, 1, COUNT_MAX),
    INTEGER(counted, tokens_from, 0, COUNT_MAX),  INTEGER(counted, tokens_to, 1, COUNT_MAX),
    INTEGER(counted, tokens, 1, COUNT_MAX),
};
static const struct rule total_rules[] = {
    INTEGER(total, slot, 0, SLOT_MAX),
    INTEGER(total, mark, 1, COUNT_MAX),
    INTEGER(total, applied, 1, COUNT_MAX),
    INTEGER(total, dropped, 0, COUNT_MAX),
};
static const struct rule head_rules[] = {
    INTEGER(head, epoch, 0, COUNT_MAX),
    INTEGER(head, version, 0, COUNT_MAX),
    BYTES(head, hash),
};
static const struct shape certificate_shape = {SHAPE("certificate", certificate, certificate_rules)};
static const struct shape counted_shape = {SHAPE("counted", counted, counted_rules), .relations = counted_relations};
static const struct shape total_shape = {SHAPE("total", total, total_rules), .relations = total_relations};
static const struct shape head_shape = {SHAPE("head", head, head_rules), .relations = head_relations};

static const struct rule commit_rules[] = {
    BYTES(commit, run_id),
    INTEGER(commit, leader, 0, LEADER_MAX),
    INTEGER(commit, epoch, 1, COUNT_MAX),
    INTEGER(commit, fragment, 0, FRAGMENT_MAX),
    INTEGER(commit, version, 1, COUNT_MAX),
    BYTES(commit, parent),
    INTEGER(commit, run_step, 1, COUNT_MAX),
    PARTS(commit, counted, counted_count, counted_shape, 1, MESSAGE_WORKERS_MAX),
    PARTS(commit, totals, total_count, total_shape, 1, MESSAGE_WORKERS_MAX),
    INTEGER(commit, payload_bytes, 1, COUNT_MAX),
    BYTES(commit, payload_hash),
    BYTES(commit, state_hash),
    BYTES(commit, signature),
};
/* COMMIT itself, and within SNAPSHOT. */
#define COMMIT_SHAPE                                                                                                   \
    { SHAPE("COMMIT", commit, commit_rules), .relations = commit_relations }
static const struct shape commit_shape = COMMIT_SHAPE;

static const struct rule register_rules[] = {
    INTEGER(message_register, protocol_version, MESSAGE_PROTOCOL_VERSION, MESSAGE_PROTOCOL_VERSION),
    BYTES(message_register, token_id),
    BYTES(message_register, worker_key),
    NAME(message_register, name, 0),
};
static const struct rule recover_rules[] = {
    INTEGER(message_recover, protocol_version, MESSAGE_PROTOCOL_VERSION, MESSAGE_PROTOCOL_VERSION),
    PART(message_recover, certificate, certificate_shape),
};
static const struct rule admit_rules[] = {
    PART(message_admit, certificate, certificate_shape),
    BYTES(message_admit, recovery_secret),
    BYTES(message_admit, sign_key),
    INTEGER(message_admit, up_bytes_per_s, 0, COUNT_MAX),
    INTEGER(message_admit, down_bytes_per_s, 0, COUNT_MAX),
};
static const struct rule refuse_rules[] = {
    INTEGER(message_refuse, code, 1, REFUSE_CODE_COUNT - 1),
    TEXT(message_refuse, text),
};
static const struct rule hello_rules[] = {
    INTEGER(message_hello, protocol_version, MESSAGE_PROTOCOL_VERSION, MESSAGE_PROTOCOL_VERSION),
    BYTES(message_hello, run_id),
    BYTES(message_hello, keys_hash),
    INTEGER(message_hello, slot, 0, SLOT_MAX),
    INTEGER(message_hello, incarnation, 0, ANY_MAX),
    NAME(message_hello, name, 1),
    INTEGER(message_hello, down_bytes_per_s, 0, COUNT_MAX),
    BOOL(message_hello, resuming),
    INTEGER(message_hello, run_step, 0, COUNT_MAX),
    INTEGER(message_hello, members_mask, 0, ANY_MAX),
    PARTS(message_hello, heads, head_count, head_shape, 0, MESSAGE_FRAGMENTS_MAX),
};
static const struct rule welcome_rules[] = {
    INTEGER(message_welcome, slot, 0, SLOT_MAX),
    INTEGER(message_welcome, workers, 1, MESSAGE_WORKERS_MAX),
    INTEGER(message_welcome, epoch, 0, COUNT_MAX),
    BYTES(message_welcome, run_id),
    BYTES(message_welcome, keys_hash),
    BOOL(message_welcome, started),
    LONG_TEXT(message_welcome, run_text),
};
static const struct rule ready_rules[] = {
    BYTES(message_ready, initial_hash),           BYTES(message_ready, tokenizer_hash),
    BOOL(message_ready, has_validation),          INTEGER(message_ready, tokens_per_step, 1, COUNT_MAX),
    INTEGER(message_ready, tokens, 0, COUNT_MAX),
};
static const struct rule state_rules[] = {
    BOOL(message_state, started),
    INTEGER(message_state, run_step, 0, COUNT_MAX),
    INTEGER(message_state, tokens, 0, COUNT_MAX),
    PARTS(message_state, heads, head_count, head_shape, 1, MESSAGE_FRAGMENTS_MAX),
};
static const struct rule fetch_rules[] = {
    INTEGER(message_fetch, fragment, 0, FRAGMENT_MAX),
    PART(message_fetch, have, head_shape),
};
static const struct rule snapshot_rules[] = {
    PART(message_snapshot, commit, commit_shape),
    INTEGER(message_snapshot, bytes, 1, COUNT_MAX),
    BYTES(message_snapshot, hash),
};
static const struct rule joined_rules[] = {
    INTEGER(message_joined, step, 0, COUNT_MAX),
    INTEGER(message_joined, tokens, 0, COUNT_MAX),
};
static const struct rule start_rules[] = {
    SLOT_OR_NOBODY(message_start, evaluator_slot),
};
static const struct rule members_rules[] = {
    INTEGER(message_members, live_mask, 0, ANY_MAX),
    SLOT_OR_NOBODY(message_members, evaluator_slot),
};
static const struct rule ping_rules[] = {
    INTEGER(message_ping, sequence, 0, ANY_MAX),
    INTEGER(message_ping, sent_us, 0, ANY_MAX),
};
static const struct rule offer_rules[] = {
    INTEGER(contribution, slot, 0, SLOT_MAX),           INTEGER(contribution, incarnation, 0, ANY_MAX),
    INTEGER(contribution, fragment, 0, FRAGMENT_MAX),   INTEGER(contribution, base_version, 0, COUNT_MAX),
    INTEGER(contribution, send_step, 1, COUNT_MAX),     INTEGER(contribution, tokens_from, 0, COUNT_MAX),
    INTEGER(contribution, tokens_to, 1, COUNT_MAX),     INTEGER(contribution, tokens, 1, COUNT_MAX),
    INTEGER(contribution, payload_bytes, 1, COUNT_MAX), BYTES(contribution, payload_hash),
};
static const struct rule offer_refused_rules[] = {
    INTEGER(message_offer_refused, fragment, 0, FRAGMENT_MAX),
    INTEGER(message_offer_refused, base_version, 0, COUNT_MAX),
    INTEGER(message_offer_refused, code, 1, OFFER_REFUSED_CODE_COUNT - 1),
};
static const struct rule grant_rules[] = {
    TRANSFER_KEY(message_grant),
    INTEGER(message_grant, offset, 0, COUNT_MAX),
    INTEGER(message_grant, limit, 0, COUNT_MAX),
};
static const struct rule applied_rules[] = {
    INTEGER(message_applied, fragment, 0, FRAGMENT_MAX),
    INTEGER(message_applied, version, 0, COUNT_MAX),
    BYTES(message_applied, state_hash),
};
static const struct rule telemetry_rules[] = {
    INTEGER(message_telemetry, phase, 1, WORKER_PHASE_COUNT - 1),
    INTEGER(message_telemetry, step, 0, COUNT_MAX),
    INTEGER(message_telemetry, tokens, 0, COUNT_MAX),
    REAL(message_telemetry, loss),
    REAL(message_telemetry, tokens_per_s),
    INTEGER(message_telemetry, wait_us, 0, METER_MAX),
    INTEGER(message_telemetry, eval_us, 0, METER_MAX),
    INTEGER(message_telemetry, payload_up, 0, METER_MAX),
    INTEGER(message_telemetry, payload_down, 0, METER_MAX),
    INTEGER(message_telemetry, wire_up, 0, METER_MAX),
    INTEGER(message_telemetry, wire_down, 0, METER_MAX),
    INTEGER(message_telemetry, control_up, 0, METER_MAX),
    INTEGER(message_telemetry, control_down, 0, METER_MAX),
    VERSIONS(message_telemetry, 0),
    BOOL(message_telemetry, has_eval),
    INTEGER(message_telemetry, eval_step, 0, COUNT_MAX),
    REAL(message_telemetry, eval_loss),
};
static const struct rule done_rules[] = {
    INTEGER(message_done, step, 0, COUNT_MAX),
    INTEGER(message_done, tokens, 0, COUNT_MAX),
};
static const struct rule finish_rules[] = {
    VERSIONS(message_finish, 1),
};
static const struct rule final_rules[] = {
    BYTES(message_final, state_hash),
    BOOL(message_final, has_eval),
    REAL(message_final, eval_loss),
    REAL(message_final, bits_per_byte),
    INTEGER(message_final, eval_windows, 0, COUNT_MAX),
};
static const struct rule text_rules[] = {
    TEXT(message_text, text),
};
static const struct rule admin_request_rules[] = {
    NAME(message_admin_request, verb, 1),
    LONG_TEXT(message_admin_request, text),
};
static const struct rule admin_reply_rules[] = {
    BOOL(message_admin_reply, ok),
    LONG_TEXT(message_admin_reply, text),
};
static const struct rule chunk_rules[] = {
    INTEGER(chunk, session, 0, ANY_MAX),
    TRANSFER_KEY(chunk),
    INTEGER(chunk, offset, 0, COUNT_MAX),
};

/* ---- the shapes ---- */

const struct shape wire_rules_envelope = {SHAPE("message", envelope, envelope_rules)};
const struct shape wire_rules_chunk = {SHAPE("chunk", chunk_header, chunk_rules)};

static const struct shape bodies[MESSAGE_TYPE_COUNT] = {
    [MESSAGE_REGISTER] = {SHAPE("REGISTER", register, register_rules)},
    [MESSAGE_ADMIT] = {SHAPE("ADMIT", admit, admit_rules)},
    [MESSAGE_REFUSE] = {SHAPE("REFUSE", refuse, refuse_rules)},
    [MESSAGE_HELLO] = {SHAPE("HELLO", hello, hello_rules)},
    [MESSAGE_WELCOME] = {SHAPE("WELCOME", welcome, welcome_rules)},
    [MESSAGE_READY] = {SHAPE("READY", ready, ready_rules)},
    [MESSAGE_START] = {SHAPE("START", start, start_rules)},
    [MESSAGE_MEMBERS] = {SHAPE("MEMBERS", members, members_rules)},
    [MESSAGE_PING] = {SHAPE("PING", ping, ping_rules)},
    [MESSAGE_PONG] = {SHAPE("PONG", ping, ping_rules)},
    [MESSAGE_OFFER] = {SHAPE("OFFER", offer, offer_rules), .relations = offer_relations},
    [MESSAGE_OFFER_REFUSED] = {SHAPE("OFFER_REFUSED", offer_refused, offer_refused_rules)},
    [MESSAGE_GRANT] = {SHAPE("GRANT", grant, grant_rules), .relations = grant_relations},
    [MESSAGE_COMMIT] = COMMIT_SHAPE,
    [MESSAGE_APPLIED] = {SHAPE("APPLIED", applied, applied_rules)},
    [MESSAGE_TELEMETRY] = {SHAPE("TELEMETRY", telemetry, telemetry_rules)},
    [MESSAGE_DONE] = {SHAPE("DONE", done, done_rules)},
    [MESSAGE_FINISH] = {SHAPE("FINISH", finish, finish_rules)},
    [MESSAGE_FINAL] = {SHAPE("FINAL", final, final_rules)},
    [MESSAGE_END] = {SHAPE("END", text, text_rules)},
    [MESSAGE_FAREWELL] = {SHAPE("FAREWELL", text, text_rules)},
    [MESSAGE_STOP] = {SHAPE("STOP", text, text_rules)},
    [MESSAGE_GOODBYE] = {SHAPE("GOODBYE", text, text_rules)},
    [MESSAGE_ADMIN_REQUEST] = {SHAPE("ADMIN_REQUEST", admin_request, admin_request_rules)},
    [MESSAGE_ADMIN_REPLY] = {SHAPE("ADMIN_REPLY", admin_reply, admin_reply_rules)},
    [MESSAGE_RECOVER] = {SHAPE("RECOVER", recover, recover_rules)},
    [MESSAGE_STATE] = {SHAPE("STATE", state, state_rules)},
    [MESSAGE_FETCH] = {SHAPE("FETCH", fetch, fetch_rules)},
    [MESSAGE_SNAPSHOT] = {SHAPE("SNAPSHOT", snapshot, snapshot_rules)},
    [MESSAGE_JOINED] = {SHAPE("JOINED", joined, joined_rules)},
    [MESSAGE_DRAIN] = {SHAPE("DRAIN", text, text_rules)},
};

const struct shape *wire_rules_body(enum message_type type) {
    CHECK(type >= 1 && type < MESSAGE_TYPE_COUNT);
    return &bodies[type];
}
