/* sim_world: clock, event heap, dice, trace, and the loop. */
#include "sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/check.h"

struct sim_world world;
bool sim_trace_live;

/* ---- chance ---- */

uint64_t sim_hash(uint64_t a, uint64_t b) {
    uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_throw(void) {
    return sim_hash(world.config.seed + world.config.timing * 7919, ++world.dice);
}

uint64_t sim_below(uint64_t count) {
    return sim_throw() % count;
}

uint64_t sim_between(uint64_t from, uint64_t to) {
    return from + sim_below(to - from + 1);
}

bool sim_chance(uint64_t one_in) {
    return one_in > 0 && sim_below(one_in) == 0;
}

bool sim_effect(uint32_t node) {
    if (node != world.doomed_node)
        return true;
    if (world.doom > 0 && --world.doom == 0)
        world.dying = true;
    return !world.dying;
}

/* ---- trace and violations ---- */

static struct {
    uint64_t at_us;
    const char *format;
    uint64_t values[SIM_TRACE_VALUES];
} traced[SIM_TRACED];
static uint64_t traced_count;
static char violation[1024];
static jmp_buf out;

static void print_line(uint64_t at_us, const char *format, const uint64_t *v) {
    printf("%10.3f s  ", (double)at_us / 1e6);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    printf(format, v[0], v[1], v[2], v[3], v[4], v[5]);
#pragma GCC diagnostic pop
    putchar('\n');
}

void sim_trace(const char *format, const uint64_t values[SIM_TRACE_VALUES]) {
    uint64_t i = traced_count++ % SIM_TRACED;
    traced[i].at_us = world.now_us;
    traced[i].format = format;
    memcpy(traced[i].values, values, sizeof traced[i].values);
    if (sim_trace_live)
        print_line(world.now_us, format, values);
}

void sim_trace_print(void) {
    for (uint64_t i = traced_count > SIM_TRACED ? traced_count - SIM_TRACED : 0; i < traced_count; i++)
        print_line(traced[i % SIM_TRACED].at_us, traced[i % SIM_TRACED].format, traced[i % SIM_TRACED].values);
}

void sim_violation(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(violation, sizeof violation, format, arguments);
    va_end(arguments);
    longjmp(out, 1);
}

const char *sim_violation_text(void) {
    return violation;
}

/* The machines' own assertions are violations here, with the trace of how it came to them. */
void check_failed(const char *file, int line, const char *text) {
    sim_violation("%s:%d: CHECK failed: %s", file, line, text);
}

/* ---- events: a binary heap by (due, sequence) ---- */

static bool is_before(const struct sim_event *a, const struct sim_event *b) {
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->sequence < b->sequence;
}

void sim_schedule(uint64_t due_us, enum sim_event_kind kind, uint32_t worker, uint32_t a, uint64_t b) {
    DEMAND(world.heap_count < SIM_EVENTS, "simulator: too many events");
    struct sim_event event = {
        due_us < world.now_us ? world.now_us : due_us, world.sequence++, (uint8_t)kind, worker, a, b};
    uint32_t i = world.heap_count++;
    for (; i > 0 && is_before(&event, &world.heap[(i - 1) / 2]); i = (i - 1) / 2)
        world.heap[i] = world.heap[(i - 1) / 2];
    world.heap[i] = event;
}

static struct sim_event take_next(void) {
    struct sim_event first = world.heap[0], last = world.heap[--world.heap_count];
    uint32_t i = 0;
    for (uint32_t child; (child = 2 * i + 1) < world.heap_count; i = child) {
        if (child + 1 < world.heap_count && is_before(&world.heap[child + 1], &world.heap[child]))
            child++;
        if (!is_before(&world.heap[child], &last))
            break;
        world.heap[i] = world.heap[child];
    }
    world.heap[i] = last;
    return first;
}

/* ---- one run ---- */

static void handle(const struct sim_event *event) {
    switch ((enum sim_event_kind)event->kind) {
    case EVENT_LANE:
        sim_net_on_lane(event->worker, event->a);
        break;
    case EVENT_DIAL:
        sim_net_on_dial(event->worker, event->a);
        break;
    case EVENT_COMPUTE:
        sim_worker_on_compute(event->worker, event->b);
        break;
    case EVENT_WORKER_TICK:
        sim_worker_on_tick(event->worker, event->b);
        break;
    case EVENT_ENCODED:
        sim_sync_on_encoded(event->worker, event->a, event->b);
        break;
    case EVENT_STORED:
        sim_store_on_written(event->worker, event->b);
        break;
    case EVENT_OUTER_TICK:
        sim_outer_on_tick(event->a, event->b);
        break;
    case EVENT_JOB:
        sim_outer_on_job(event->a, event->b);
        break;
    case EVENT_FAULT:
        sim_faults_on_event();
        break;
    case EVENT_START_WORKER:
        sim_worker_start(event->worker);
        break;
    case EVENT_START_OUTER:
        sim_outer_start();
        break;
    case EVENT_HEAL:
        sim_faults_heal();
        break;
    }
}

/* Only what is read before it is written needs to be zero: pools and machines are set when they are taken. */
void sim_world_open(const struct sim_config *config) {
    world.config = *config;
    world.now_us = SIM_SECOND;
    world.sequence = world.dice = 0;
    world.healed = world.dying = false;
    world.calm = true;
    world.heal_us = world.deadline_us = 0;
    world.doom = 0;
    world.doomed_node = SIM_NOBODY;
    world.heap_count = world.commit_count = world.content_count = 0;
    world.message_free = SIM_NOBODY;
    world.message_fresh = 0;
    world.worker_count = config->workers + config->late_workers;
    memset(&world.counts, 0, sizeof world.counts);
    memset(world.workers, 0, world.worker_count * sizeof world.workers[0]);
    memset(&world.outer, 0, sizeof world.outer);
    traced_count = 0;
    sim_net_open();
    for (uint32_t f = 0; f < config->fragments; f++) {
        uint32_t index;
        (void)!sim_oracle_new_commit(&index);
        struct sim_commit *genesis = &world.commits[index];
        genesis->parent = SIM_NOBODY;
        genesis->state = sim_hash(config->seed, f);
        uint64_t identity = sim_hash(genesis->state, 1);
        genesis->head = (struct head){0};
        memcpy(genesis->head.hash, &identity, sizeof identity);
        genesis->published = true;
        genesis->commit.fragment = f;
        memset(genesis->newest, 0xff, sizeof genesis->newest);
    }
    sim_schedule(world.now_us, EVENT_START_OUTER, 0, 0, 0);
    for (uint32_t s = 0; s < world.worker_count; s++) {
        struct sim_worker *worker = &world.workers[s];
        worker->slot = s;
        uint64_t own = sim_hash(config->seed, 1000 + s);
        worker->step_us = config->step_us * (1 + own % config->spread);
        worker->tokens_per_step = 1 + (own >> 20) % 20;
        worker->has_validation = (own >> 40) % 3 == 0;
        worker->invited = s < config->workers;
        if (worker->invited)
            sim_schedule(world.now_us + sim_below(SIM_SECOND), EVENT_START_WORKER, s, 0, 0);
    }
    sim_faults_open();
}

bool sim_world_run(const struct sim_config *config, uint64_t events_max) {
    violation[0] = 0;
    if (setjmp(out) != 0)
        return false;
    sim_world_open(config);
    while (!world.outer.left && world.heap_count > 0) {
        struct sim_event event = take_next();
        world.now_us = event.due_us;
        if (world.healed && world.now_us > world.deadline_us)
            sim_violation("no progress: healed at %.3f s, and the run has not ended by %.3f s",
                          (double)world.heal_us / 1e6, (double)world.now_us / 1e6);
        if (world.counts.events++ == events_max)
            sim_violation("no end after %llu events", (unsigned long long)events_max);
        handle(&event);
        if (world.dying)
            sim_faults_strike();
    }
    DEMAND(world.outer.left, "deadlock: nothing is scheduled any more");
    sim_oracle_ended();
    return true;
}
