/* sim_net: one link per worker, four lanes, each first in, first out. As ZeroMQ has it: within a connection nothing is repeated or
 * reordered, but control and bulk overtake each other; what was on its way when a connection broke is lost from some point on, and what
 * is before that point arrives late, also behind the news of the loss and ahead of the next HELLO: the session number has to fence it. */
#include "sim/sim.h"
#include <string.h>
#include "base/check.h"

static uint32_t take_message(void) {
    uint32_t index = world.message_free;
    if (index != SIM_NOBODY) {
        world.message_free = world.messages[index].next;
        return index;
    }
    DEMAND(world.message_fresh < SIM_MESSAGES, "simulator: too many messages on their way");
    return world.message_fresh++;
}

static void give_message(uint32_t index) {
    world.messages[index].next = world.message_free;
    world.message_free = index;
}

void sim_net_open(void) {
    memset(world.links, 0, world.worker_count * sizeof world.links[0]);
    for (uint32_t w = 0; w < world.worker_count; w++)
        for (uint32_t l = 0; l < LANES; l++)
            world.links[w].lanes[l].first = world.links[w].lanes[l].last = SIM_NOBODY;
}

static void schedule(uint32_t worker, uint32_t number, uint64_t at_us) {
    struct sim_lane *lane = &world.links[worker].lanes[number];
    if (lane->scheduled || lane->first == SIM_NOBODY)
        return;
    lane->scheduled = true;
    sim_schedule(at_us, EVENT_LANE, worker, number, 0);
}

static bool is_bulk(uint32_t lane) {
    return lane == LANE_UP_BULK || lane == LANE_DOWN_BULK;
}

static bool is_up(uint32_t lane) {
    return lane == LANE_UP || lane == LANE_UP_BULK;
}

void sim_net_send(uint32_t worker, uint32_t number, const struct sim_message *message) {
    struct sim_link *link = &world.links[worker];
    struct sim_lane *lane = &link->lanes[number];
    if (!link->up)
        return;
    uint32_t index = take_message();
    struct sim_message *place = &world.messages[index];
    *place = *message;
    place->next = SIM_NOBODY;
    uint64_t through_us = lane->free_us > world.now_us ? lane->free_us : world.now_us;
    uint64_t transfer_us =
        number == LANE_UP_BULK && worker == world.config.slow_slot ? world.config.slow_us : world.config.transfer_us;
    if (is_bulk(number))
        through_us += sim_between(transfer_us / 2, transfer_us);
    lane->free_us = through_us;
    place->due_us = through_us + sim_between(world.config.latency_us / 2, world.config.latency_us);
    if (lane->last == SIM_NOBODY) {
        lane->first = index;
    } else {
        struct sim_message *before = &world.messages[lane->last];
        before->next = index;
        place->due_us = place->due_us < before->due_us ? before->due_us : place->due_us;
    }
    lane->last = index;
    schedule(worker, number, place->due_us);
}

/* The receiver's process, if it can take a message now; else when it could (UINT64_MAX: it is dead). */
static uint64_t hears_at(uint32_t worker, uint32_t number) {
    bool up = is_up(number);
    if (up ? !world.outer.alive : !world.workers[worker].alive)
        return UINT64_MAX;
    uint64_t paused_us = up ? world.outer.paused_until_us : world.workers[worker].paused_until_us;
    uint64_t clogged_us = world.links[worker].lanes[number].clogged_until_us;
    uint64_t at_us = paused_us > clogged_us ? paused_us : clogged_us;
    return at_us > world.now_us ? at_us : world.now_us;
}

void sim_net_on_lane(uint32_t worker, uint32_t number) {
    struct sim_lane *lane = &world.links[worker].lanes[number];
    lane->scheduled = false;
    if (lane->first == SIM_NOBODY)
        return;
    uint32_t index = lane->first;
    uint64_t at_us = hears_at(worker, number);
    if (at_us != UINT64_MAX && (at_us > world.now_us || world.messages[index].due_us > world.now_us)) {
        schedule(worker, number, at_us > world.messages[index].due_us ? at_us : world.messages[index].due_us);
        return;
    }
    struct sim_message message = world.messages[index];
    lane->first = message.next;
    lane->last = lane->first == SIM_NOBODY ? SIM_NOBODY : lane->last;
    give_message(index);
    if (lane->first != SIM_NOBODY)
        schedule(worker, number, world.messages[lane->first].due_us);
    if (at_us == UINT64_MAX)
        return;
    if (is_up(number))
        sim_outer_hears(worker, &message);
    else
        sim_sync_hears(worker, &message);
}

static void truncate_lane(struct sim_lane *lane, uint64_t keep) {
    uint32_t *at = &lane->first, last = SIM_NOBODY;
    for (uint64_t i = 0; i < keep && *at != SIM_NOBODY; i++) {
        last = *at;
        at = &world.messages[*at].next;
    }
    for (uint32_t index = *at; index != SIM_NOBODY;) {
        uint32_t next = world.messages[index].next;
        give_message(index);
        index = next;
    }
    *at = SIM_NOBODY;
    lane->last = last;
}

void sim_net_forget(uint32_t worker, uint32_t number) {
    truncate_lane(&world.links[worker].lanes[number], 0);
}

void sim_net_cut(uint32_t worker, bool outer_sees, bool worker_sees) {
    struct sim_link *link = &world.links[worker];
    if (!link->up)
        return;
    TRACE("link %llu breaks (outer sees: %llu, worker sees: %llu)", worker, outer_sees, worker_sees);
    link->up = false;
    for (uint32_t l = 0; l < LANES; l++) {
        truncate_lane(&link->lanes[l], sim_chance(2) ? 0 : sim_below(4));
        link->lanes[l].clogged_until_us = 0;
        link->lanes[l].free_us = 0;
    }
    if (outer_sees && world.outer.alive)
        sim_outer_link_lost(worker);
    if (worker_sees && world.workers[worker].alive)
        sim_sync_lost(worker);
}

void sim_net_clog(uint32_t worker, bool up, bool down, uint64_t until_us) {
    for (uint32_t l = 0; l < LANES; l++)
        if (is_up(l) ? up : down)
            world.links[worker].lanes[l].clogged_until_us = until_us;
}

void sim_net_dial(uint32_t worker) {
    sim_schedule(world.now_us + sim_between(SIM_SECOND / 10, 2 * SIM_SECOND), EVENT_DIAL, worker,
                 ++world.links[worker].dials, 0);
}

void sim_net_on_dial(uint32_t worker, uint32_t dial) {
    struct sim_link *link = &world.links[worker];
    if (!world.workers[worker].alive || dial != link->dials || link->up)
        return;
    if (!world.outer.alive || world.now_us < link->cut_until_us) {
        sim_net_dial(worker);
        return;
    }
    link->up = true;
    link->number++;
    sim_sync_connected(worker);
}
