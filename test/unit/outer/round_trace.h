/* round_trace: a round machine fed by hand, so that a test reads as what happened.
 *
 *     run_of(3, 1);                       three workers, one fragment, strict; this outer leads at once
 *     feed(JOIN(0)), expect("");          each feed is one event; expect is all that the machine answered to it
 *     feed(LEAVE(2)), expect("MEMBERS, CLOSE f0 v1 of 0 1");
 *
 * After every event: the ledger adds up, versions grew by at most one, and only at COMMITTED. A worker's tokens: 10 per offer unless said
 * otherwise; a contribution to version v + 1 was sent at step 7 + v. To be included once, after cmocka.h. */
#ifndef ATOLL_TEST_ROUND_TRACE_H
#define ATOLL_TEST_ROUND_TRACE_H

#include <stdio.h>
#include <string.h>
#include "outer/round.h"

enum { TRACE_PAYLOAD_BYTES = 100, TRACE_TOKENS = 10 };

static struct round_machine machine;
static uint64_t now_us;
static char answer[4096];

/* An outer that does not lead yet. */
static void run_not_led(struct round_options options) {
    for (uint32_t f = 0; f < options.fragments; f++)
        options.payload_bytes[f] = TRACE_PAYLOAD_BYTES + f;
    round_open(&machine, &options);
    now_us = 1000000;
    answer[0] = 0;
}

static inline void feed(struct round_event event);

static inline void run_with(struct round_options options) {
    run_not_led(options);
    feed((struct round_event){.kind = ROUND_EVENT_LEAD});
    assert_string_equal(answer, "");
}

static inline void run_of(uint32_t workers, uint32_t fragments) {
    run_with((struct round_options){.workers = workers, .fragments = fragments});
}

/* stale: auto, as a run with a quorum has it. */
static inline void auto_quorum_run_of(uint32_t workers, int32_t quorum) {
    run_with((struct round_options){.workers = workers, .fragments = 1, .quorum = quorum, .stale = ROUND_STALE_QUORUM});
}

static inline void quorum_run_of(uint32_t workers, int32_t quorum, int64_t grace_us) {
    run_with(
        (struct round_options){.workers = workers, .fragments = 1, .quorum = quorum, .grace_us = grace_us, .stale = 2});
}

static inline void after(uint64_t us) {
    now_us += us;
}

/* ---- events ---- */

#define EVENT(...)    ((struct round_event){__VA_ARGS__})
#define LEAD          LEAD_WITH(0)
#define LEAD_WITH(m)  EVENT(.kind = ROUND_EVENT_LEAD, .mask = (m))
#define TICK          EVENT(.kind = ROUND_EVENT_TICK)
#define LATE(us)      EVENT(.kind = ROUND_EVENT_LATE, .late_us = (us))
#define JOIN_AS(s, i) JOIN_AT(s, i, 0)
#define JOIN_AT(s, i, t)                                                                                               \
    EVENT(.kind = ROUND_EVENT_JOIN, .slot = (s), .incarnation = (i), .step = (t), .has_validation = true)
#define JOIN(s)            JOIN_AS(s, 100u + (s))
#define LEAVE(s)           EVENT(.kind = ROUND_EVENT_LEAVE, .slot = (s))
#define TURN_AWAY(s)       EVENT(.kind = ROUND_EVENT_LEAVE, .slot = (s), .returns = true)
#define OFFERED(c)         EVENT(.kind = ROUND_EVENT_OFFER, .slot = (c).slot, .contribution = (c))
#define OFFER(s, f, base)  OFFERED(contribution_of(s, f, base))
#define WHOLE(s, f, base)  EVENT(.kind = ROUND_EVENT_WHOLE, .slot = (s), .fragment = (f), .version = (base))
#define BROKEN(s, f, base) BROKEN_BY(s, f, base, OFFER_REFUSED_NOT_FINITE)
#define BROKEN_BY(s, f, base, c)                                                                                       \
    EVENT(.kind = ROUND_EVENT_BROKEN, .slot = (s), .fragment = (f), .version = (base), .code = (c))
#define COMMITTED(f, v)  EVENT(.kind = ROUND_EVENT_COMMITTED, .fragment = (f), .version = (v))
#define TOKENS(s, n)     EVENT(.kind = ROUND_EVENT_TOKENS, .slot = (s), .tokens = (n))
#define BLOCKED(s)       EVENT(.kind = ROUND_EVENT_BLOCKED, .slot = (s))
#define REACHED(s)       EVENT(.kind = ROUND_EVENT_REACHED, .slot = (s))
#define DONE(s)          EVENT(.kind = ROUND_EVENT_DONE, .slot = (s), .tokens = machine.ledger.entries[s][0].mark)
#define FINAL(s)         EVENT(.kind = ROUND_EVENT_FINAL, .slot = (s), .has_eval = true)
#define FINAL_NO_EVAL(s) EVENT(.kind = ROUND_EVENT_FINAL, .slot = (s))

/* What an honest worker offers: all since its last counted send. */
static inline struct contribution contribution_of(uint32_t slot, uint32_t fragment, uint64_t base) {
    uint64_t mark = machine.ledger.entries[slot][fragment].mark;
    return (struct contribution){.slot = slot,
                                 .incarnation = machine.members.slot[slot].incarnation,
                                 .fragment = fragment,
                                 .base_version = base,
                                 .send_step = 7 + base,
                                 .tokens_from = mark,
                                 .tokens_to = mark + TRACE_TOKENS,
                                 .tokens = TRACE_TOKENS,
                                 .payload_bytes = TRACE_PAYLOAD_BYTES + fragment};
}

/* A commit as the disk or a worker bears it; totals are added by hand. */
static inline struct commit commit_of(uint32_t fragment, uint64_t version, uint64_t run_step) {
    return (struct commit){.epoch = 1, .fragment = fragment, .version = version, .run_step = run_step};
}

static inline void adopt(uint32_t fragment, uint64_t version, uint64_t run_step) {
    struct commit commit = commit_of(fragment, version, run_step);
    round_adopt(&machine, &commit);
}

/* ---- answers ---- */

static void tell(const struct round_action *a) {
    static const char *const names[] = {"START", "MEMBERS", "GRANT", "REFUSE", "DISCARD",
                                        "CLOSE", "PUBLISH", "END",   "FINISH", "LEAVE"};
    static const char *const why[] = {"", "stale", "duplicate", "malformed", "hash", "not finite", "too large"};
    char *end = answer + strlen(answer);
    size_t room = sizeof answer - strlen(answer);
    const char *comma = end == answer ? "" : ", ";
    if (a->kind == ROUND_ACTION_GRANT || a->kind == ROUND_ACTION_DISCARD || a->kind == ROUND_ACTION_REFUSE_OFFER)
        snprintf(end, room, "%s%s %u f%u v%u%s%s", comma, names[a->kind], a->slot, a->fragment, (unsigned)a->version,
                 a->code ? " " : "", why[a->code]);
    else if (a->kind == ROUND_ACTION_CLOSE || a->kind == ROUND_ACTION_PUBLISH)
        snprintf(end, room, "%s%s f%u v%u", comma, names[a->kind], a->fragment, (unsigned)a->version);
    else
        snprintf(end, room, "%s%s", comma, names[a->kind]);
    if (a->kind != ROUND_ACTION_CLOSE)
        return;
    uint32_t count;
    const struct counted *counted = round_counted(&machine, a->fragment, &count);
    strcat(answer, " of");
    for (uint32_t i = 0; i < count; i++)
        snprintf(answer + strlen(answer), 16, " %u", counted[i].slot);
}

static inline void feed(struct round_event event) {
    static struct round_actions actions;
    uint64_t before[MESSAGE_FRAGMENTS_MAX];
    for (uint32_t f = 0; f < machine.options.fragments; f++)
        before[f] = machine.fragments[f].version;
    actions.count = 0;
    event.now_us = now_us;
    round_step(&machine, &event, &actions);
    answer[0] = 0;
    for (uint32_t i = 0; i < actions.count; i++)
        tell(&actions.list[i]);
    assert_true(ledger_check(&machine.ledger, MESSAGE_WORKERS_MAX, machine.options.fragments));
    for (uint32_t f = 0; f < machine.options.fragments; f++) {
        bool made = event.kind == ROUND_EVENT_COMMITTED && event.fragment == f;
        assert_int_equal(machine.fragments[f].version, before[f] + made);
    }
}

#define expect(text) assert_string_equal(answer, text)

/* ---- what most tests begin with ---- */

static inline void all_join(void) {
    for (uint32_t s = 0; s < machine.options.workers; s++)
        feed(JOIN(s));
    expect("START, MEMBERS");
}

/* One slot's contribution, from its offer to the last byte. */
static inline void contributes(uint32_t slot, uint32_t fragment, uint64_t base) {
    feed(OFFER(slot, fragment, base));
    assert_non_null(strstr(answer, "GRANT"));
    feed(WHOLE(slot, fragment, base));
}

/* The same, sent at `step`. */
static inline void contributes_at(uint32_t slot, uint32_t fragment, uint64_t base, uint64_t step) {
    struct contribution c = contribution_of(slot, fragment, base);
    c.send_step = step;
    feed(OFFERED(c));
    assert_non_null(strstr(answer, "GRANT"));
    feed(WHOLE(slot, fragment, base));
}

#endif
