/* sim_faults: what goes wrong, and when; and how it is mended for the second phase. */
#include "sim/sim.h"
#include <string.h>

static uint64_t longest_round_us(void) {
    const struct sim_config *c = &world.config;
    uint64_t transfer_us = c->slow_us > c->transfer_us ? c->slow_us : c->transfer_us;
    return 8 * c->latency_us + 2 * c->fragments * transfer_us + 4 * c->step_us + SIM_SECOND / 10;
}

/* Twice, since a round may just have missed what another one needs: the way to the next due step and to the next close, and the round. And the
 * 10 s after which a session is given up that only one side still holds, a pause that still lasts, dialling: from then on it is anew. */
uint64_t sim_faults_starving_us(void) {
    const struct sim_config *c = &world.config;
    uint64_t grace_us = c->grace_us > 0 ? (uint64_t)c->grace_us : 0;
    return 2 * (2 * c->every_steps * c->step_us * c->spread + longest_round_us() + grace_us) + 15 * SIM_SECOND;
}

/* The longest that a healed world may take to end:
 *   away     a silent session is given up after 10 s on either side, dialling takes up to 2 s (twice: a HELLO may meet a late end), the
 *            recovery window, the members' return (10 s), three states that differ: 60 s in all
 *   steps    all T steps of the slowest worker, once, and waits between two starts
 *   rounds   of every fragment, one after another: offer, grant, bytes, check, commit, log, commit said, grant, bytes (8 latencies, two
 *            transfers behind those of all other fragments, 4 computations), and once somebody is through ROUND_END_PATIENCE_US for each,
 *            since in a round at the end one may be missing whose work is in no other */
static uint64_t bound_us(void) {
    const struct sim_config *c = &world.config;
    uint64_t rounds = c->last_step / c->every_steps + 4;
    uint64_t round_us = longest_round_us();
    uint64_t steps_us = c->last_step * c->step_us * c->spread;
    return 60 * SIM_SECOND + c->window_us + 2 * steps_us + c->fragments * rounds * (round_us + ROUND_END_PATIENCE_US);
}

void sim_faults_open(void) {
    if (world.config.intensity == 0) {
        sim_faults_heal();
        return;
    }
    sim_schedule(world.now_us + sim_below(2 * world.config.fault_every_us) + 1, EVENT_FAULT, 0, 0, 0);
    sim_schedule(world.now_us + world.config.faults_us, EVENT_HEAL, 0, 0, 0);
}

void sim_faults_heal(void) {
    world.healed = true;
    world.heal_us = world.now_us;
    world.deadline_us = world.now_us + bound_us();
    sim_oracle_everybody_anew();
    TRACE("all is mended; the run has to end by %llu us", world.deadline_us);
    world.doomed_node = SIM_NOBODY;
    world.outer.full_until_us = 0;
    if (world.outer.paused_until_us > world.now_us + SIM_SECOND)
        world.outer.paused_until_us = world.now_us + SIM_SECOND;
    sim_schedule(world.now_us + sim_below(SIM_SECOND), EVENT_START_OUTER, 0, 0, 0);
    for (uint32_t slot = 0; slot < world.worker_count; slot++) {
        struct sim_worker *worker = &world.workers[slot];
        sim_net_clog(slot, true, true, 0);
        world.links[slot].cut_until_us = 0;
        if (worker->paused_until_us > world.now_us + SIM_SECOND)
            worker->paused_until_us = world.now_us + SIM_SECOND;
        worker->invited = true;
        sim_schedule(world.now_us + sim_below(SIM_SECOND), EVENT_START_WORKER, slot, 0, 0);
    }
}

/* ---- the outer ---- */

static void damage_disk(void) {
    struct sim_disk *disk = &world.outer.disk;
    if (!world.config.rollbacks || !sim_chance(3))
        return;
    world.counts.rollbacks++;
    sim_oracle_disk_changed();
    if (world.outer.has_backup && sim_chance(2)) {
        TRACE("the outer's disk is an older copy");
        *disk = world.outer.backup;
        return;
    }
    TRACE("the outer's disk is lost, but its key");
    *disk = (struct sim_disk){.has_key = disk->has_key};
}

static void kill_outer(void) {
    if (!world.outer.alive)
        return;
    world.counts.outer_kills++;
    sim_outer_kill();
    damage_disk();
    uint64_t away_us = sim_chance(3) ? sim_below(20 * SIM_SECOND) : sim_below(2 * SIM_SECOND);
    sim_schedule(world.now_us + away_us, EVENT_START_OUTER, 0, 0, 0);
}

static void kill_worker(uint32_t slot) {
    if (!world.workers[slot].alive)
        return;
    world.counts.kills++;
    sim_worker_kill(slot);
    uint64_t away_us = sim_chance(3) ? sim_below(30 * SIM_SECOND) : sim_below(3 * SIM_SECOND);
    sim_schedule(world.now_us + away_us, EVENT_START_WORKER, slot, 0, 0);
}

void sim_faults_strike(void) {
    uint32_t node = world.doomed_node;
    world.dying = false;
    world.doom = 0;
    world.doomed_node = SIM_NOBODY;
    TRACE("node %llu dies in the middle of what it does", node);
    if (node == SIM_OUTER)
        kill_outer();
    else
        kill_worker(node);
}

static void doom(uint32_t node) {
    world.doomed_node = node;
    world.doom = (uint32_t)sim_between(1, 12);
}

static uint64_t a_while(void) {
    return sim_chance(3) ? sim_below(25 * SIM_SECOND) : sim_below(3 * SIM_SECOND);
}

static void damage(struct sim_piece *piece) {
    piece->g_state ^= 1;
    piece->damaged = !piece->damaged; /* the same bit twice mends it */
}

static void strike(uint32_t kind) {
    uint32_t slot = (uint32_t)sim_below(world.worker_count);
    struct sim_worker *worker = &world.workers[slot];
    struct sim_outer *outer = &world.outer;
    switch (kind) {
    case 0:
        kill_worker(slot);
        break;
    case 1:
        doom(slot);
        break;
    case 2:
        kill_outer();
        break;
    case 3:
        doom(SIM_OUTER);
        break;
    case 4:
    case 5:
        world.counts.cuts++;
        world.links[slot].cut_until_us = world.now_us + a_while();
        sim_net_cut(slot, sim_chance(2), sim_chance(2) && world.now_us >= worker->paused_until_us);
        break;
    case 6:
        world.counts.clogs++;
        sim_net_clog(slot, sim_chance(2), sim_chance(2), world.now_us + a_while());
        break;
    case 7:
        world.counts.pauses++;
        worker->paused_until_us = world.now_us + a_while();
        break;
    case 8:
        world.counts.pauses++;
        outer->paused_until_us = world.now_us + a_while();
        break;
    case 9:
        outer->full_until_us = world.now_us + a_while();
        break;
    case 10:
        outer->backup = outer->disk;
        outer->has_backup = outer->disk.has_key;
        break;
    case 11:
        if (world.config.corruption && worker->alive)
            damage(&worker->pieces[sim_below(world.config.fragments)]);
        break;
    case 12:
        for (uint32_t s = world.config.workers; s < world.worker_count; s++)
            if (!world.workers[s].invited && sim_chance(2)) {
                world.workers[s].invited = true;
                sim_schedule(world.now_us, EVENT_START_WORKER, s, 0, 0);
            }
        break;
    default:
        break;
    }
}

void sim_faults_on_event(void) {
    if (world.healed)
        return;
    world.calm = false;
    strike((uint32_t)sim_below(13));
    sim_schedule(world.now_us + sim_below(2 * world.config.fault_every_us) + 1, EVENT_FAULT, 0, 0, 0);
}
