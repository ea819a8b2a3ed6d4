/* round: random events against an oracle that knows no rounds. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "round_trace.h"
#include "unit/dice.h"

/* ---- random events against an oracle ---- */

/* It knows what was granted, became whole, was refused, closed and committed, who joined when, and nothing of rounds. */
enum { FUZZ_WORKERS = 5, FUZZ_SLOTS = FUZZ_WORKERS + 2, FUZZ_FRAGMENTS = 3, FUZZ_EVENTS = 800, FUZZ_RUNS = 400 };

struct oracle_place {
    bool held, whole, closing;
    bool excused; /* its content was refused, sent at: */
    uint64_t excused_step;
    struct contribution contribution;
};

static struct oracle {
    bool led;
    uint64_t returning; /* named by LEAD, neither joined nor lost since */
    uint64_t patient_until_us;
    bool live[FUZZ_SLOTS], expected[FUZZ_SLOTS];
    uint64_t incarnation[FUZZ_SLOTS], joined_step[FUZZ_SLOTS], offered_step[FUZZ_SLOTS];
    uint64_t mark[FUZZ_SLOTS][FUZZ_FRAGMENTS]; /* end of the newest interval that a commit holds */
    uint64_t applied[FUZZ_SLOTS][FUZZ_FRAGMENTS], dropped[FUZZ_SLOTS][FUZZ_FRAGMENTS];
    uint64_t counted_version[FUZZ_SLOTS][FUZZ_FRAGMENTS]; /* the newest that counts the slot */
    uint64_t version[FUZZ_FRAGMENTS];
    bool closing[FUZZ_FRAGMENTS];
    struct oracle_place places[FUZZ_SLOTS][FUZZ_FRAGMENTS];
    /* how often the sequences reach what they are to test */
    uint64_t commits, foreign_work, broken, above;
} oracle;

/* Quorum all: nobody is passed over who joined before the step of the round, was not refused at it, and has not gone on to later steps. (Nobody says REACHED here: the
 * patience of the end never runs.) */
static void nobody_is_passed_over(uint32_t fragment, uint64_t step) {
    for (uint32_t s = 0; s < FUZZ_SLOTS; s++) {
        const struct oracle_place *place = &oracle.places[s][fragment];
        bool excused = place->excused && step <= place->excused_step;
        bool gone_on = !place->held && step < oracle.offered_step[s];
        assert_true(!oracle.expected[s] || place->closing || excused || gone_on || oracle.joined_step[s] >= step);
    }
}

static void oracle_sees_close(const struct round_action *a) {
    uint32_t count, live = 0;
    uint64_t step = 0;
    const struct counted *counted = round_counted(&machine, a->fragment, &count);
    for (uint32_t s = 0; s < FUZZ_SLOTS; s++)
        live += oracle.live[s];
    assert_true(oracle.led && live >= machine.options.min_workers);
    assert_true(machine.options.quorum != 0 || oracle.returning == 0 || now_us >= oracle.patient_until_us);
    assert_false(oracle.closing[a->fragment]);
    assert_int_equal(a->version, oracle.version[a->fragment] + 1);
    assert_true(count > 0);
    oracle.closing[a->fragment] = true;
    for (uint32_t i = 0; i < count; i++) {
        struct oracle_place *place = &oracle.places[counted[i].slot][a->fragment];
        assert_true(place->held && place->whole && !place->closing); /* whole, and not twice in one commit */
        assert_int_equal(counted[i].incarnation, place->contribution.incarnation);
        assert_int_equal(counted[i].tokens_to, place->contribution.tokens_to);
        assert_int_equal(counted[i].tokens, place->contribution.tokens);
        assert_true(oracle.version[a->fragment] - counted[i].base_version <= machine.options.stale);
        assert_int_equal(counted[i].tokens_from, oracle.mark[counted[i].slot][a->fragment]); /* once, without a gap */
        place->closing = true;
        step = counted[i].send_step > step ? counted[i].send_step : step;
        oracle.foreign_work += counted[i].incarnation != oracle.incarnation[counted[i].slot];
        oracle.above += counted[i].slot >= machine.options.workers;
    }
    if (machine.options.quorum == 0)
        nobody_is_passed_over(a->fragment, step);
}

static void oracle_sees_publish(const struct round_action *a) {
    assert_true(oracle.closing[a->fragment]);
    assert_int_equal(a->version, oracle.version[a->fragment] + 1);
    oracle.version[a->fragment]++;
    oracle.closing[a->fragment] = false;
    oracle.commits++;
    for (uint32_t s = 0; s < FUZZ_SLOTS; s++) {
        struct oracle_place *place = &oracle.places[s][a->fragment];
        const struct contribution *c = &place->contribution;
        place->excused = false;
        if (!place->closing)
            continue;
        oracle.applied[s][a->fragment] += c->tokens;
        oracle.dropped[s][a->fragment] += c->tokens_to - c->tokens_from - c->tokens;
        oracle.mark[s][a->fragment] = c->tokens_to;
        oracle.counted_version[s][a->fragment] = a->version;
        *place = (struct oracle_place){0};
    }
}

static void oracle_sees(const struct round_event *event, const struct round_action *a) {
    struct oracle_place *place = &oracle.places[a->slot][a->fragment];
    switch (a->kind) {
    case ROUND_ACTION_GRANT:
        assert_true(event->kind == ROUND_EVENT_OFFER && oracle.live[a->slot]);
        assert_false(place->whole); /* what is whole is not asked for again */
        if (place->held)
            break; /* the rest of it: the daemon hears no other process than the one that joined */
        assert_int_equal(event->contribution.incarnation, oracle.incarnation[a->slot]);
        assert_true(event->contribution.base_version >= oracle.counted_version[a->slot][a->fragment]);
        *place = (struct oracle_place){.held = true, .contribution = event->contribution};
        if (event->contribution.send_step > oracle.offered_step[a->slot])
            oracle.offered_step[a->slot] = event->contribution.send_step;
        break;
    case ROUND_ACTION_DISCARD:
        assert_true(place->held);
        if (event->kind == ROUND_EVENT_COMMITTED && place->closing)
            break; /* PUBLISH follows */
        assert_false(place->closing);
        /* Whole work is thrown away for one reason only. */
        assert_true(!place->whole || oracle.version[a->fragment] - a->version > machine.options.stale);
        *place = (struct oracle_place){.excused = event->kind == ROUND_EVENT_BROKEN,
                                       .excused_step = place->contribution.send_step};
        oracle.broken += place->excused;
        break;
    case ROUND_ACTION_CLOSE:
        oracle_sees_close(a);
        break;
    case ROUND_ACTION_PUBLISH:
        assert_true(event->kind == ROUND_EVENT_COMMITTED);
        oracle_sees_publish(a);
        break;
    case ROUND_ACTION_FINISH:
        assert_true(machine.options.quorum != 0 || oracle.returning == 0 || now_us >= oracle.patient_until_us);
        break;
    default:
        break;
    }
}

static void oracle_hears(const struct round_event *event) {
    uint64_t bit = (uint64_t)1 << event->slot;
    struct oracle_place *place = &oracle.places[event->slot][event->fragment];
    switch (event->kind) {
    case ROUND_EVENT_LEAD:
        oracle.led = true;
        oracle.returning = machine.started ? event->mask : 0;
        oracle.patient_until_us = now_us + ROUND_RETURN_PATIENCE_US;
        break;
    case ROUND_EVENT_LATE:
        oracle.patient_until_us += event->late_us;
        break;
    case ROUND_EVENT_JOIN:
        oracle.returning &= ~bit;
        if (oracle.live[event->slot])
            break;
        oracle.live[event->slot] = true;
        oracle.expected[event->slot] = !machine.finished;
        oracle.incarnation[event->slot] = event->incarnation;
        oracle.joined_step[event->slot] = event->step;
        oracle.offered_step[event->slot] = 0;
        for (uint32_t f = 0; f < FUZZ_FRAGMENTS; f++)
            oracle.places[event->slot][f].excused = false;
        break;
    case ROUND_EVENT_LEAVE:
        oracle.returning &= ~bit;
        if (event->returns && oracle.live[event->slot] && machine.started) {
            oracle.returning |= bit;
            oracle.patient_until_us = now_us + ROUND_RETURN_PATIENCE_US;
        }
        oracle.live[event->slot] = oracle.expected[event->slot] = false;
        break;
    case ROUND_EVENT_DONE:
        oracle.expected[event->slot] = false;
        break;
    case ROUND_EVENT_WHOLE: /* unless it is found stale: then DISCARD follows */
        if (place->held && !place->whole && place->contribution.base_version == event->version)
            place->whole = oracle.version[event->fragment] - event->version <= machine.options.stale;
        break;
    default:
        break;
    }
}

static void oracle_compares(uint32_t s, uint32_t f) {
    const struct ledger_entry *entry = &machine.ledger.entries[s][f];
    const struct oracle_place *held = &oracle.places[s][f];
    assert_int_equal(entry->applied, oracle.applied[s][f]);
    assert_int_equal(entry->dropped, oracle.dropped[s][f]);
    assert_int_equal(entry->mark, oracle.mark[s][f]);
    assert_int_equal(entry->in_flight, held->held ? held->contribution.tokens : 0);
    assert_int_equal(entry->processed, entry->applied + entry->in_flight + entry->dropped + ledger_unsent(entry));
    assert_int_equal(machine.fragments[f].version, oracle.version[f]);
}

static void oracle_feed(struct round_event event) {
    static struct round_actions actions;
    actions.count = 0;
    event.now_us = now_us;
    oracle_hears(&event);
    round_step(&machine, &event, &actions);
    for (uint32_t i = 0; i < actions.count; i++)
        oracle_sees(&event, &actions.list[i]);
    for (uint32_t s = 0; s < FUZZ_SLOTS; s++) {
        assert_int_equal(member_is_connected(&machine.members.slot[s]), oracle.live[s]);
        assert_int_equal(member_is_expected(&machine.members.slot[s]), oracle.expected[s]);
        for (uint32_t f = 0; f < machine.options.fragments; f++) {
            /* No half of a dead process's work stays beside a new one. */
            const struct oracle_place *place = &oracle.places[s][f];
            assert_true(!place->held || place->whole || !oracle.live[s] ||
                        place->contribution.incarnation == oracle.incarnation[s]);
            oracle_compares(s, f);
        }
    }
}

/* Mostly what an honest worker would say, often something else. */
static struct round_event random_event(struct dice *dice) {
    uint32_t s = below(dice, machine.options.workers + 2), f = below(dice, machine.options.fragments);
    const struct oracle_place *place = &oracle.places[s][f];
    struct contribution c = contribution_of(s, f, machine.fragments[f].version);
    c.send_step += 5 * below(dice, 2);
    switch (below(dice, 18)) {
    case 0:
        return JOIN_AT(s, 100 + s, below(dice, 20));
    case 1: /* another process on the slot, or one that was there before */
        return JOIN_AT(s, 1 + below(dice, 3), below(dice, 20));
    case 2:
        return below(dice, 2) == 0 ? (below(dice, 3) == 0 ? TURN_AWAY(s) : LEAVE(s)) : JOIN(s);
    case 3:
        return TOKENS(s, below(dice, 1000));
    case 4:
        return below(dice, 90) == 0 ? DONE(s) : TICK;
    case 5:
        return below(dice, 4) == 0 ? FINAL(s) : TICK;
    case 6:
        return below(dice, 3) == 0 ? BROKEN_BY(s, f, place->contribution.base_version + below(dice, 2),
                                               OFFER_REFUSED_NOT_FINITE + below(dice, 2))
                                   : TICK;
    case 7: /* an offer that is wrong in some way, or by chance not */
        c.base_version = below(dice, 6);
        c.incarnation += below(dice, 3) == 0;
        c.payload_bytes += below(dice, 3) == 0;
        c.tokens_from -= c.tokens_from > 0 && below(dice, 2) == 0;
        c.tokens_from += below(dice, 4) == 0;
        c.tokens_to -= below(dice, 3) * 5;
        c.tokens = below(dice, 12);
        return OFFERED(c);
    case 8: /* what is held, again; also out of the mouth of the process that is there now */
        c = place->contribution;
        c.slot = s, c.fragment = f;
        c.incarnation = below(dice, 2) == 0 ? c.incarnation : machine.members.slot[s].incarnation;
        return OFFERED(c);
    case 9:
    case 10:
    case 11:
        c.base_version -= c.base_version > 1 ? below(dice, 2) : 0;
        c.tokens -= below(dice, 3) == 0 ? below(dice, TRACE_TOKENS) : 0;
        return OFFERED(c);
    case 12:
        if (machine.fragments[f].closing)
            return COMMITTED(f, machine.fragments[f].version + 1);
        return TICK;
    case 13:
        return below(dice, 4) == 0 ? LATE(below(dice, 100)) : TICK;
    case 14:
        return !oracle.led && below(dice, 3) == 0 ? LEAD_WITH(below(dice, 1u << FUZZ_WORKERS)) : TICK;
    default:
        return WHOLE(s, f, place->contribution.base_version);
    }
}

/* The network heals: nobody leaves any more, who is live contributes. Every open round closes. */
static void demand_progress(void) {
    if (!oracle.led)
        oracle_feed(LEAD);
    after(1000000000);
    oracle_feed(TICK); /* the patience with those that do not return is over, and so is every grace */
    for (uint32_t f = 0; f < machine.options.fragments; f++) {
        if (machine.fragments[f].closing)
            oracle_feed(COMMITTED(f, machine.fragments[f].version + 1));
        uint64_t version = machine.fragments[f].version;
        if (machine.fragments[f].closing) /* what had come meanwhile closed the next one at once */
            continue;
        if (members_expected(&machine.members) == 0 || !machine.started ||
            members_connected(&machine.members) < machine.options.min_workers)
            continue;
        for (uint32_t s = 0; s < FUZZ_SLOTS && !machine.fragments[f].closing; s++) {
            if (!member_is_expected(&machine.members.slot[s]))
                continue;
            if (!oracle.places[s][f].held)
                oracle_feed(OFFER(s, f, version));
            if (!oracle.places[s][f].whole)
                oracle_feed(WHOLE(s, f, oracle.places[s][f].contribution.base_version));
        }
        assert_true(machine.fragments[f].closing);
        oracle_feed(COMMITTED(f, version + 1));
        assert_int_equal(machine.fragments[f].version, version + 1);
    }
}

/* A run that goes on from what a disk held. */
static void adopt_random(struct dice *dice) {
    for (uint32_t f = 0; f < machine.options.fragments; f++) {
        struct commit commit = commit_of(f, 1 + below(dice, 3), 7 + below(dice, 3));
        oracle.version[f] = commit.version;
        for (uint32_t s = 0; s < machine.options.workers; s++)
            if (below(dice, 2) == 0) {
                uint64_t applied = 1 + below(dice, 50), dropped = below(dice, 10);
                commit.totals[commit.total_count++] = (struct total){s, applied + dropped, applied, dropped};
                oracle.applied[s][f] = applied;
                oracle.dropped[s][f] = dropped;
                oracle.mark[s][f] = applied + dropped;
            }
        round_adopt(&machine, &commit);
    }
}

static void random_run(uint64_t seed) {
    struct dice dice = {seed, 0};
    struct oracle counts = oracle;
    oracle = (struct oracle){
        .commits = counts.commits, .foreign_work = counts.foreign_work, .broken = counts.broken, .above = counts.above};
    uint32_t workers = 1 + below(&dice, FUZZ_WORKERS);
    static const int32_t percents[] = {-1, -34, -50, -100};
    int32_t quorum = below(&dice, 2) == 0 ? 0 : (int32_t)(1 + below(&dice, workers));
    if (quorum != 0 && below(&dice, 2) == 0)
        quorum = percents[below(&dice, 4)];
    bool stale = quorum != 0 || below(&dice, 2);
    run_not_led((struct round_options){.workers = workers,
                                       .fragments = 1 + below(&dice, FUZZ_FRAGMENTS),
                                       .quorum = quorum,
                                       .min_workers = below(&dice, 3),
                                       .grace_us = below(&dice, 2) ? ROUND_GRACE_AUTO : 50,
                                       .stale = stale ? 2 : 0});
    if (below(&dice, 2) == 0)
        adopt_random(&dice);
    if (below(&dice, 4) > 0)
        oracle_feed(LEAD_WITH(below(&dice, 1u << workers)));
    for (uint32_t s = 0; s < workers; s++)
        oracle_feed(JOIN(s));
    for (int i = 0; i < FUZZ_EVENTS; i++) {
        after(below(&dice, 40));
        oracle_feed(random_event(&dice));
    }
    demand_progress();
}

static void random_events_against_the_oracle(void **state) {
    (void)state;
    memset(&oracle, 0, sizeof oracle);
    for (uint64_t seed = 1; seed <= FUZZ_RUNS; seed++)
        random_run(seed);
    /* The sequences do reach what they are to test. */
    assert_true(oracle.commits > 10 * FUZZ_RUNS);
    assert_true(oracle.foreign_work > FUZZ_RUNS / 2 && oracle.broken > FUZZ_RUNS && oracle.above > FUZZ_RUNS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_events_against_the_oracle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
