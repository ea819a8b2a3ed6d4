/* together: one round machine and several sync machines over a small network in memory: random delays, repeated messages, links that break
 * and come back, workers that die. The daemons' part (queues, uploads, replay after a return) is done here in a few plain lines.
 *
 * Asked of every run: it ends; all live workers hold the outer's versions; each token that a worker processed was applied once, or is
 * dropped with its worker. A failing run prints its seed: put it into FIRST_SEED and set RUNS to 1. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "outer/round.h"
#include "unit/dice.h"
#include "worker/sync_machine.h"

enum {
    FIRST_SEED = 1,
    RUNS = 400,
    WORKERS_MAX = 5,
    FRAGMENTS_MAX = 4,
    STEP_TOKENS = 10,
    MAIL_MAX = 512,
    TURN_US = 10000,
    HEALED = 300, /* the turn from which on nothing breaks any more: then all must come to an end */
    TURNS_MAX = 60000,
    COMMITS_MAX = 128, /* per fragment */
    REPLAYED_MAX = 3,  /* commits that the outer still has for who returns */
    REPORT_TURNS = 50, /* between two reports of the own step */
};

/* ---- mail: three lanes per worker, each first in, first out ---- */

enum mail_kind {
    MAIL_OFFER,
    MAIL_BYTES,
    MAIL_REPORT,
    MAIL_DONE,
    MAIL_FINAL,
    MAIL_GRANT,
    MAIL_COMMIT,
    MAIL_END,
    MAIL_FINISH
};

struct mail {
    enum mail_kind kind;
    uint64_t due;
    uint32_t fragment;
    uint64_t version; /* or a number of tokens; a report's step is in contribution.send_step */
    struct contribution contribution;
};

struct lane {
    struct mail mails[MAIL_MAX]; /* a ring */
    uint32_t first, count;
};

enum { LANE_UP, LANE_DOWN, LANE_BULK, LANES };

struct made_commit {
    uint32_t count;
    uint64_t run_step;
    struct counted counted[WORKERS_MAX];
};

struct island {
    struct sync_machine machine;
    bool dead, connected, training, wants_boundary, done_said, final_said, finished, ended;
    uint64_t back; /* the turn in which its link comes back */
    uint32_t slowness;
    uint64_t heard[FRAGMENTS_MAX]; /* newest version whose COMMIT came */
    bool uploading[FRAGMENTS_MAX];
    struct contribution upload[FRAGMENTS_MAX];
    uint64_t final_versions[FRAGMENTS_MAX];
    struct lane lanes[LANES];
};

static struct world {
    struct dice dice;
    uint64_t now;
    uint32_t workers, fragments;
    uint64_t last_step;
    struct round_machine outer;
    struct island islands[WORKERS_MAX];
    bool open_upload[WORKERS_MAX][FRAGMENTS_MAX];
    uint64_t job_done[FRAGMENTS_MAX]; /* the turn in which a commit is made; 0 = none in the making */
    struct made_commit commits[FRAGMENTS_MAX][COMMITS_MAX];
    bool left;
    uint64_t counted_tokens[WORKERS_MAX][FRAGMENTS_MAX];
} world;

static void post(uint32_t slot, int number, struct mail mail) {
    struct lane *lane = &world.islands[slot].lanes[number];
    if (!world.islands[slot].connected)
        return;
    for (uint32_t copies = below(&world.dice, 8) == 0 ? 2 : 1; copies > 0; copies--) {
        assert_true(lane->count < MAIL_MAX);
        const struct mail *newest = &lane->mails[(lane->first + lane->count + MAIL_MAX - 1) % MAIL_MAX];
        mail.due = world.now + 1 + below(&world.dice, 12);
        if (lane->count > 0 && mail.due < newest->due)
            mail.due = newest->due;
        lane->mails[(lane->first + lane->count++) % MAIL_MAX] = mail;
        if (mail.kind == MAIL_BYTES)
            break; /* a stream of chunks is not repeated unasked */
    }
}

static bool collect(struct lane *lane, struct mail *mail) {
    if (lane->count == 0 || lane->mails[lane->first].due > world.now)
        return false;
    *mail = lane->mails[lane->first];
    lane->first = (lane->first + 1) % MAIL_MAX;
    lane->count--;
    return true;
}

/* ---- the outer ---- */

static void outer_feed(struct round_event event);

static void on_close(const struct round_action *a) {
    struct made_commit *made = &world.commits[a->fragment][a->version];
    assert_true(a->version < COMMITS_MAX);
    const struct counted *counted = round_counted(&world.outer, a->fragment, &made->count);
    assert_true(made->count > 0);
    memcpy(made->counted, counted, made->count * sizeof *counted);
    for (uint32_t i = 0; i < made->count; i++)
        made->run_step = counted[i].send_step > made->run_step ? counted[i].send_step : made->run_step;
    world.job_done[a->fragment] = world.now + 1 + below(&world.dice, 6);
    for (uint32_t i = 0; i < made->count; i++)
        world.counted_tokens[counted[i].slot][a->fragment] += counted[i].tokens_to - counted[i].tokens_from;
}

static void post_finish(uint32_t slot) {
    post(slot, LANE_DOWN, (struct mail){.kind = MAIL_FINISH});
}

static void carry_out(const struct round_action *a) {
    for (uint32_t s = 0; s < world.workers; s++) {
        if (a->kind == ROUND_ACTION_PUBLISH)
            post(s, LANE_DOWN, (struct mail){.kind = MAIL_COMMIT, .fragment = a->fragment, .version = a->version});
        else if (a->kind == ROUND_ACTION_END)
            post(s, LANE_DOWN, (struct mail){.kind = MAIL_END});
        else if (a->kind == ROUND_ACTION_FINISH)
            post_finish(s);
    }
    if (a->kind == ROUND_ACTION_GRANT) {
        world.open_upload[a->slot][a->fragment] = true;
        post(a->slot, LANE_DOWN, (struct mail){.kind = MAIL_GRANT, .fragment = a->fragment, .version = a->version});
    } else if (a->kind == ROUND_ACTION_DISCARD) {
        world.open_upload[a->slot][a->fragment] = false;
    } else if (a->kind == ROUND_ACTION_CLOSE) {
        on_close(a);
    } else if (a->kind == ROUND_ACTION_LEAVE) {
        world.left = true;
    }
}

static void outer_feed(struct round_event event) {
    struct round_actions *actions = test_malloc(sizeof *actions);
    actions->count = 0;
    event.now_us = world.now * TURN_US;
    round_step(&world.outer, &event, actions);
    for (uint32_t i = 0; i < actions->count; i++)
        carry_out(&actions->list[i]);
    test_free(actions);
}

static void outer_hears(uint32_t slot, const struct mail *mail) {
    struct round_event event = {.slot = slot, .fragment = mail->fragment, .version = mail->version};
    switch (mail->kind) {
    case MAIL_OFFER:
        event = (struct round_event){.kind = ROUND_EVENT_OFFER, .slot = slot, .contribution = mail->contribution};
        break;
    case MAIL_BYTES:
        if (!world.open_upload[slot][mail->fragment])
            return;
        event.kind = ROUND_EVENT_WHOLE;
        break;
    case MAIL_REPORT:
        outer_feed((struct round_event){.kind = ROUND_EVENT_TOKENS, .slot = slot, .tokens = mail->version});
        if (mail->contribution.send_step < world.last_step)
            return;
        event = (struct round_event){.kind = ROUND_EVENT_REACHED, .slot = slot};
        break;
    case MAIL_DONE:
        outer_feed((struct round_event){.kind = ROUND_EVENT_REACHED, .slot = slot});
        event = (struct round_event){.kind = ROUND_EVENT_DONE, .slot = slot, .tokens = mail->version};
        break;
    default:
        event = (struct round_event){.kind = ROUND_EVENT_FINAL, .slot = slot};
        break;
    }
    outer_feed(event);
}

static void outer_turn(void) {
    struct mail mail;
    for (uint32_t s = 0; s < world.workers; s++) {
        while (collect(&world.islands[s].lanes[LANE_UP], &mail))
            outer_hears(s, &mail);
        while (collect(&world.islands[s].lanes[LANE_BULK], &mail))
            outer_hears(s, &mail);
    }
    for (uint32_t f = 0; f < world.fragments; f++)
        if (world.job_done[f] != 0 && world.job_done[f] <= world.now) {
            world.job_done[f] = 0;
            outer_feed((struct round_event){
                .kind = ROUND_EVENT_COMMITTED, .fragment = f, .version = world.outer.fragments[f].version + 1});
        }
    if (round_deadline_us(&world.outer) <= world.now * TURN_US)
        outer_feed((struct round_event){.kind = ROUND_EVENT_TICK});
}

/* ---- an island ---- */

static void island_feed(uint32_t slot, struct sync_event event);

static void offer(uint32_t slot, uint32_t f) {
    post(slot, LANE_UP, (struct mail){.kind = MAIL_OFFER, .contribution = world.islands[slot].upload[f]});
}

static void send(uint32_t slot, const struct sync_action *a) {
    struct island *island = &world.islands[slot];
    island->uploading[a->fragment] = true;
    island->upload[a->fragment] = (struct contribution){.slot = slot,
                                                        .incarnation = 100 + slot,
                                                        .fragment = a->fragment,
                                                        .base_version = a->version,
                                                        .send_step = a->step,
                                                        .tokens_from = a->tokens_from,
                                                        .tokens_to = a->tokens_to,
                                                        .payload_bytes = 1};
    offer(slot, a->fragment);
}

static void say_done(uint32_t slot) {
    post(slot, LANE_UP, (struct mail){.kind = MAIL_DONE, .version = world.islands[slot].machine.tokens});
}

static void island_feed(uint32_t slot, struct sync_event event) {
    struct island *island = &world.islands[slot];
    struct sync_actions *actions = test_malloc(sizeof *actions);
    struct sync_actions none = {0};
    actions->count = 0;
    sync_step(&island->machine, &event, actions);
    if (event.kind != SYNC_EVENT_READY)
        island->wants_boundary = false;
    for (uint32_t i = 0; i < actions->count; i++) {
        const struct sync_action *a = &actions->list[i];
        if (a->kind == SYNC_ACTION_SEND)
            send(slot, a);
        else if (a->kind == SYNC_ACTION_WAIT)
            island->wants_boundary = true;
        else if (a->kind == SYNC_ACTION_EXPIRE)
            island->uploading[a->fragment] = false;
        else if (a->kind == SYNC_ACTION_DONE)
            say_done(slot), island->done_said = true;
        if (a->kind != SYNC_ACTION_COUNTED && a->kind != SYNC_ACTION_SHIFT && a->kind != SYNC_ACTION_TAKE)
            continue;
        if (island->machine.fragments[a->fragment].ready_counts_me)
            island->uploading[a->fragment] = false;
        sync_step(&island->machine, &(struct sync_event){.kind = SYNC_EVENT_MERGED, .fragment = a->fragment}, &none);
    }
    test_free(actions);
}

static void island_hears(uint32_t slot, const struct mail *mail) {
    struct island *island = &world.islands[slot];
    switch (mail->kind) {
    case MAIL_GRANT:
        if (island->uploading[mail->fragment] && island->upload[mail->fragment].base_version == mail->version)
            post(slot, LANE_BULK,
                 (struct mail){.kind = MAIL_BYTES, .fragment = mail->fragment, .version = mail->version});
        break;
    case MAIL_COMMIT:
        if (mail->version == island->heard[mail->fragment] + 1) /* else known: replayed, or said twice */
            island->heard[mail->fragment]++;
        break;
    case MAIL_END:
        island->ended = true;
        break;
    default:
        island->finished = island->ended = true;
        for (uint32_t f = 0; f < world.fragments; f++)
            island->final_versions[f] = world.outer.fragments[f].version;
        break;
    }
}

/* The sync thread: the next version is prepared when its place is free. */
static void prepare(uint32_t slot) {
    struct island *island = &world.islands[slot];
    for (uint32_t f = 0; f < world.fragments; f++) {
        const struct sync_fragment *fragment = &island->machine.fragments[f];
        if (fragment->ready || fragment->version == island->heard[f] || below(&world.dice, 3) > 0)
            continue;
        const struct made_commit *made = &world.commits[f][fragment->version + 1];
        bool mine = false;
        for (uint32_t i = 0; i < made->count; i++)
            if (made->counted[i].slot == slot) {
                mine = true;
                assert_true(fragment->record.active); /* it counts the very record that is in flight */
                assert_int_equal(made->counted[i].base_version, fragment->record.base);
                assert_int_equal(made->counted[i].tokens_to, fragment->record.tokens_to);
            }
        island_feed(slot, (struct sync_event){.kind = SYNC_EVENT_READY,
                                              .fragment = f,
                                              .version = fragment->version + 1,
                                              .counts_me = mine,
                                              .run_step = made->run_step});
    }
}

static bool has_final_versions(const struct island *island) {
    for (uint32_t f = 0; f < world.fragments; f++)
        if (island->machine.fragments[f].version < island->final_versions[f])
            return false;
    return island->finished;
}

/* One inner step; who was away first takes the run clock for its own. */
static void next_step(uint32_t slot) {
    struct sync_machine *machine = &world.islands[slot].machine;
    uint64_t step = sync_run_clock(machine);
    if (step < world.last_step)
        step++;
    island_feed(slot,
                (struct sync_event){.kind = SYNC_EVENT_STEP, .step = step, .tokens = machine->tokens + STEP_TOKENS});
}

static void island_turn(uint32_t slot) {
    struct island *island = &world.islands[slot];
    struct mail mail;
    while (collect(&island->lanes[LANE_DOWN], &mail))
        island_hears(slot, &mail);
    prepare(slot);
    if (world.now % REPORT_TURNS == slot)
        post(slot, LANE_UP,
             (struct mail){.kind = MAIL_REPORT,
                           .version = island->machine.tokens,
                           .contribution.send_step = island->machine.step});
    bool stops =
        island->machine.step == world.last_step || (island->ended && !island->wants_boundary) || island->finished;
    if (island->training && island->wants_boundary && !island->finished) {
        island_feed(slot, (struct sync_event){.kind = SYNC_EVENT_BOUNDARY});
    } else if (island->training && stops) {
        island->training = false;
    } else if (island->training) {
        if (below(&world.dice, island->slowness) == 0)
            next_step(slot);
    } else if (!has_final_versions(island)) {
        island_feed(slot, (struct sync_event){.kind = SYNC_EVENT_END});
    } else if (!island->final_said) {
        island->final_said = true;
        post(slot, LANE_UP, (struct mail){.kind = MAIL_FINAL});
    }
}

/* ---- misfortune ---- */

static void loses_link(uint32_t slot) {
    struct island *island = &world.islands[slot];
    island->connected = false;
    for (int lane = 0; lane < LANES; lane++)
        island->lanes[lane].count = 0;
    outer_feed((struct round_event){.kind = ROUND_EVENT_LEAVE, .slot = slot});
}

/* HELLO, WELCOME, and what both say again. */
static void comes_back(uint32_t slot) {
    struct island *island = &world.islands[slot];
    for (uint32_t f = 0; f < world.fragments; f++)
        if (world.outer.fragments[f].version - island->heard[f] > REPLAYED_MAX) {
            island->dead = true; /* refused: this version of atoll does not fetch whole fragments */
            return;
        }
    island->connected = true;
    outer_feed((struct round_event){.kind = ROUND_EVENT_JOIN, .slot = slot, .incarnation = 100 + slot});
    for (uint32_t f = 0; f < world.fragments; f++) {
        for (uint64_t v = island->heard[f] + 1; v <= world.outer.fragments[f].version; v++)
            post(slot, LANE_DOWN, (struct mail){.kind = MAIL_COMMIT, .fragment = f, .version = v});
        if (island->uploading[f])
            offer(slot, f);
    }
    if (world.outer.ended)
        post(slot, LANE_DOWN, (struct mail){.kind = MAIL_END});
    if (world.outer.finished)
        post_finish(slot);
    if (island->done_said)
        say_done(slot);
    if (island->final_said)
        post(slot, LANE_UP, (struct mail){.kind = MAIL_FINAL});
}

static uint32_t living(void) {
    uint32_t count = 0;
    for (uint32_t s = 0; s < world.workers; s++)
        count += !world.islands[s].dead;
    return count;
}

static void misfortune(bool deaths, bool breaks) {
    uint32_t s = below(&world.dice, world.workers);
    struct island *island = &world.islands[s];
    if (island->dead || !island->connected || below(&world.dice, 150) > 0)
        return;
    if (deaths && living() > 1 && below(&world.dice, 4) == 0) {
        island->dead = true;
        loses_link(s);
    } else if (breaks) {
        island->back = world.now + 5 + below(&world.dice, 60);
        loses_link(s);
    }
}

/* ---- one run ---- */

static void open_world(uint64_t seed, bool strict, bool quorum) {
    memset(&world, 0, sizeof world);
    world.dice.seed = seed;
    world.workers = 1 + below(&world.dice, WORKERS_MAX);
    world.fragments = 1 + below(&world.dice, FRAGMENTS_MAX);
    uint64_t every = 1 + below(&world.dice, 8);
    /* With a quorum no two fragments may be due in one step: workers that are late for one each would wait for each other. */
    if (quorum && every < world.fragments)
        every = world.fragments;
    world.last_step = below(&world.dice, 40) + 1;
    struct round_options options = {.workers = world.workers,
                                    .fragments = world.fragments,
                                    .quorum = quorum ? 1 + below(&world.dice, world.workers) : 0,
                                    .grace_us = below(&world.dice, 2) ? ROUND_GRACE_AUTO : 8 * TURN_US,
                                    .stale = strict ? 0 : 2};
    for (uint32_t f = 0; f < world.fragments; f++)
        options.payload_bytes[f] = 1;
    round_open(&world.outer, &options);
    world.now = 1;
    struct sync_machine_options sync = {.schedule = {world.fragments, every},
                                        .strict = strict,
                                        .overlap_steps = strict ? below(&world.dice, (uint32_t)every) : 0,
                                        .stale = options.stale,
                                        .lockstep = !quorum};
    for (uint32_t s = 0; s < world.workers; s++) {
        struct island *island = &world.islands[s];
        sync_open(&island->machine, &sync);
        island->connected = island->training = true;
        island->slowness = 1 + below(&world.dice, 6);
        outer_feed((struct round_event){.kind = ROUND_EVENT_JOIN, .slot = s, .incarnation = 100 + s});
    }
}

static void check_the_end(bool breaks) {
    struct ledger *ledger = &world.outer.ledger;
    for (uint32_t s = 0; s < world.workers; s++) {
        const struct island *island = &world.islands[s];
        if (island->dead || world.outer.members.slot[s].state == MEMBER_LOST)
            ledger_lost(ledger, s, world.fragments);
        for (uint32_t f = 0; f < world.fragments; f++) {
            const struct ledger_entry *entry = &ledger->entries[s][f];
            assert_int_equal(entry->applied, world.counted_tokens[s][f]);
            assert_int_equal(entry->in_flight, 0);
            if (island->dead || !island->connected) {
                assert_int_equal(entry->processed, entry->applied + entry->dropped);
                continue;
            }
            assert_int_equal(island->machine.fragments[f].version, world.outer.fragments[f].version);
            assert_int_equal(island->machine.fragments[f].applied_tokens, entry->mark);
            if (breaks)
                continue; /* who returned after the FINISH keeps unsent tokens */
            assert_int_equal(entry->processed, entry->applied);
            assert_int_equal(entry->processed, island->machine.tokens);
        }
    }
    assert_true(ledger_check(ledger, world.workers, world.fragments));
}

static void run(uint64_t seed, bool strict, bool quorum, bool deaths, bool breaks) {
    open_world(seed, strict, quorum);
    while (!world.left && world.now < TURNS_MAX) {
        world.now++;
        outer_turn();
        for (uint32_t s = 0; s < world.workers && !world.left; s++) {
            struct island *island = &world.islands[s];
            if (island->dead)
                continue;
            if (!island->connected && world.now >= island->back)
                comes_back(s);
            island_turn(s);
        }
        if (world.now < HEALED)
            misfortune(deaths, breaks);
        if (breaks && living() == 0)
            return;
    }
    if (!world.left)
        fail_msg("seed %lu stands still: %u workers, %u fragments, last step %lu", (unsigned long)seed, world.workers,
                 world.fragments, (unsigned long)world.last_step);
    check_the_end(breaks);
}

static void all_seeds(bool strict, bool quorum, bool deaths, bool breaks) {
    for (uint64_t seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++)
        run(seed, strict, quorum, deaths, breaks);
}

static void strict_and_calm(void **state) {
    (void)state;
    all_seeds(true, false, false, false);
}

static void auto_and_calm(void **state) {
    (void)state;
    all_seeds(false, false, false, false);
}

static void quorum_and_calm(void **state) {
    (void)state;
    all_seeds(false, true, false, false);
}

static void strict_with_deaths(void **state) {
    (void)state;
    all_seeds(true, false, true, false);
}

static void auto_with_deaths(void **state) {
    (void)state;
    all_seeds(false, false, true, false);
}

static void quorum_with_deaths(void **state) {
    (void)state;
    all_seeds(false, true, true, false);
}

static void strict_with_breaks_and_deaths(void **state) {
    (void)state;
    all_seeds(true, false, true, true);
}

static void auto_with_breaks_and_deaths(void **state) {
    (void)state;
    all_seeds(false, false, true, true);
}

static void quorum_with_breaks_and_deaths(void **state) {
    (void)state;
    all_seeds(false, true, true, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strict_and_calm),
        cmocka_unit_test(auto_and_calm),
        cmocka_unit_test(quorum_and_calm),
        cmocka_unit_test(strict_with_deaths),
        cmocka_unit_test(auto_with_deaths),
        cmocka_unit_test(quorum_with_deaths),
        cmocka_unit_test(strict_with_breaks_and_deaths),
        cmocka_unit_test(auto_with_breaks_and_deaths),
        cmocka_unit_test(quorum_with_breaks_and_deaths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
