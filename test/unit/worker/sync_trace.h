/* sync_trace: a sync machine fed by hand, so that a test reads as what happened.
 *
 *     strict(6, 1, 2);                                H = 6, one fragment, tau = 2; each step is 10 tokens
 *     step(6), expect("SEND f0 v0 tokens 0-60");
 *     ready(0, true), expect("");                     version + 1 of fragment 0 is prepared and counts us
 *     step(8), expect("COUNTED f0 v1");               the steps up to 8; the answer is that of the last one
 *
 * COUNTED, COVERED, SHIFT and TAKE are followed by MERGED as the daemon does it. After every event the ledger holds; and while nothing is lost,
 * which a test says by `lossless`, processed = mark + work: all below the mark is applied.
 * To be included once, after cmocka.h. */
#ifndef ATOLL_TEST_SYNC_TRACE_H
#define ATOLL_TEST_SYNC_TRACE_H

#include <stdio.h>
#include <string.h>
#include "worker/sync_machine.h"

enum { TRACE_STEP_TOKENS = 10 };

static struct sync_machine machine;
static char answer[4096];
static bool lossless;

static void open_run(struct sync_machine_options options) {
    sync_open(&machine, &options);
    lossless = true;
    answer[0] = 0;
}

static inline void strict(uint64_t every_steps, uint32_t fragments, uint64_t overlap_steps) {
    open_run((struct sync_machine_options){
        .schedule = {fragments, every_steps}, .strict = true, .overlap_steps = overlap_steps});
}

static inline void automatic(uint64_t every_steps, uint32_t fragments) {
    open_run((struct sync_machine_options){.schedule = {fragments, every_steps}, .drift = every_steps - 1, .stale = 2});
}

static void tell(const struct sync_action *a) {
    static const char *const names[] = {"SEND",   "COUNTED", "COVERED", "SHIFT", "TAKE",
                                        "EXPIRE", "RESET",   "WAIT",    "DONE"};
    char *end = answer + strlen(answer);
    size_t room = sizeof answer - strlen(answer);
    int length = snprintf(end, room, "%s%s", end == answer ? "" : ", ", names[a->kind]);
    if (a->kind == SYNC_ACTION_SEND)
        snprintf(end + length, room - (size_t)length, " f%u v%u tokens %u-%u", a->fragment, (unsigned)a->version,
                 (unsigned)a->tokens_from, (unsigned)a->tokens_to);
    if (a->kind == SYNC_ACTION_SEND && a->tokens != a->tokens_to - a->tokens_from)
        snprintf(answer + strlen(answer), sizeof answer - strlen(answer), " weight %u", (unsigned)a->tokens);
    else if (a->kind == SYNC_ACTION_WAIT)
        snprintf(end + length, room - (size_t)length, " f%u", a->fragment);
    else if (a->kind != SYNC_ACTION_DONE && a->kind != SYNC_ACTION_SEND)
        snprintf(end + length, room - (size_t)length, " f%u v%u", a->fragment, (unsigned)a->version);
}

static void check_invariants(void) {
    assert_true(sync_ledger_check(&machine));
    for (uint32_t f = 0; f < machine.options.schedule.fragments; f++) {
        const struct sync_fragment *fragment = &machine.fragments[f];
        if (lossless)
            assert_int_equal(machine.tokens, fragment->mark + fragment->work);
    }
}

static void feed(struct sync_event event) {
    static struct sync_actions actions, none;
    actions.count = none.count = 0;
    sync_step(&machine, &event, &actions);
    check_invariants();
    answer[0] = 0;
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct sync_action *a = &actions.list[i];
        tell(a);
        if (a->kind != SYNC_ACTION_COUNTED && a->kind != SYNC_ACTION_COVERED && a->kind != SYNC_ACTION_SHIFT &&
            a->kind != SYNC_ACTION_TAKE)
            continue;
        uint64_t ready_version = machine.fragments[a->fragment].ready_version;
        sync_step(&machine, &(struct sync_event){.kind = SYNC_EVENT_MERGED, .fragment = a->fragment}, &none);
        assert_int_equal(none.count, 0);
        assert_int_equal(machine.fragments[a->fragment].version, ready_version);
        assert_int_equal(a->version, ready_version);
        check_invariants();
    }
}

static inline void step(uint64_t to) {
    for (uint64_t t = machine.step + 1; t <= to; t++)
        feed((struct sync_event){.kind = SYNC_EVENT_STEP, .step = t, .tokens = TRACE_STEP_TOKENS});
}

static inline void boundary(void) {
    feed((struct sync_event){.kind = SYNC_EVENT_BOUNDARY});
}

static inline void end(void) {
    feed((struct sync_event){.kind = SYNC_EVENT_END});
}

/* The next version, whose totals say `mark` of this slot. */
static inline void ready_mark(uint32_t fragment, uint64_t mark) {
    uint64_t version = machine.fragments[fragment].version + 1;
    feed((struct sync_event){.kind = SYNC_EVENT_READY, .fragment = fragment, .version = version, .mark = mark});
}

static inline void ready(uint32_t fragment, bool counts_me) {
    const struct sync_fragment *f = &machine.fragments[fragment];
    ready_mark(fragment, counts_me ? f->record.tokens_to : f->mark);
}

/* A snapshot: any version. */
static inline void jump(uint32_t fragment, uint64_t version, uint64_t mark) {
    feed((struct sync_event){
        .kind = SYNC_EVENT_READY, .fragment = fragment, .version = version, .mark = mark, .jump = true});
}

static inline void refused(uint32_t fragment, uint64_t base) {
    feed((struct sync_event){.kind = SYNC_EVENT_REFUSED, .fragment = fragment, .version = base});
}

static inline void counter(uint64_t tokens) {
    feed((struct sync_event){.kind = SYNC_EVENT_COUNTER, .tokens = tokens});
}

#define expect(text) assert_string_equal(answer, text)

#endif
