/* sim_config: what a seed stands for. */
#include "sim/sim.h"
#include <string.h>

static uint64_t state;

static uint64_t draw(uint64_t from, uint64_t to) {
    state++;
    return from + sim_hash(state, 77) % (to - from + 1);
}

static int32_t draw_quorum(uint32_t workers) {
    switch (draw(0, 3)) {
    case 0:
    case 1:
        return 0;
    case 2:
        return (int32_t)draw(1, workers);
    default:
        return -(int32_t)draw(1, 100);
    }
}

/* workers 0: drawn; intensity -1: drawn. The same draws are made whatever is fixed, so that a seed stays recognizable. */
void sim_config_draw(struct sim_config *config, uint64_t seed, uint32_t workers, int intensity) {
    memset(config, 0, sizeof *config);
    state = seed * 0x51ed2701u;
    config->seed = seed;
    uint32_t drawn = (uint32_t)(draw(0, 199) == 0 ? draw(9, 64) : draw(1, 8));
    config->workers = workers > 0 ? workers : drawn;
    config->late_workers = draw(0, 9) == 0 && config->workers < SIM_WORKERS - 2 ? (uint32_t)draw(1, 2) : 0;
    config->fragments = (uint32_t)draw(1, SIM_FRAGMENTS);
    config->every_steps = draw(2, draw(0, 3) == 0 ? 40 : 12);
    uint64_t rounds = draw(2, config->workers > 8 ? 3 : 7);
    config->last_step = config->every_steps * rounds + draw(0, config->every_steps);
    config->strict = draw(0, 1) == 0;
    config->overlap_steps = draw(0, config->every_steps - 1);
    int32_t quorum = draw_quorum(config->workers);
    config->quorum = config->strict ? 0 : quorum;
    uint64_t drift = draw(1, 3) * config->every_steps - 1;
    config->drift = config->strict ? config->overlap_steps : drift;
    uint64_t stale = draw(0, 3);
    config->stale = config->strict ? 0 : stale == 0 ? 1 : 2;
    config->min_workers = draw(0, 3) == 0 ? (uint32_t)draw(1, config->workers) : 1;
    config->grace_us = draw(0, 1) == 0 ? ROUND_GRACE_AUTO : (int64_t)draw(0, 500000);
    config->step_us = draw(5000, 100000);
    config->spread = (uint32_t)draw(1, 4);
    config->latency_us = draw(0, 2) == 0 ? draw(50000, 400000) : draw(200, 50000);
    config->transfer_us = draw(0, 3) == 0 ? draw(100000, 1000000) : draw(1000, 100000);
    config->window_us = draw(2, 10) * SIM_SECOND;
    uint32_t strength = (uint32_t)draw(0, 7);
    config->intensity = intensity >= 0  ? (uint32_t)intensity
                        : strength == 0 ? 0
                        : strength < 3  ? 1
                        : strength < 6  ? 2
                                        : 3;
    config->faults_us = draw(5, 60) * SIM_SECOND;
    static const uint64_t every[] = {0, 8, 3, 1};
    config->fault_every_us = every[config->intensity] * draw(SIM_SECOND / 4, SIM_SECOND);
    bool faulty = config->intensity > 0;
    config->rollbacks = draw(0, 3) == 0 && faulty;
    config->forgetful = draw(0, 2) == 0 && faulty;
    config->refusals = draw(0, 3) == 0 && faulty;
    if (draw(0, 3) ==
        0) { /* who lags is waited for at once, by few, for many fragments: where members wait for each other in a ring */
        config->workers = workers > 0 ? workers : (uint32_t)draw(2, 5);
        config->fragments = (uint32_t)draw(4, SIM_FRAGMENTS);
        config->quorum = 0;
        config->overlap_steps = config->drift = config->every_steps - 1;
        config->min_workers = 1;
    }
    config->corruption =
        draw(0, 3) == 0 && faulty && !config->rollbacks; /* else the only copy of a version may be broken */
    if (!config->strict && config->quorum != 0 && stale > 1)
        config->stale = ROUND_STALE_QUORUM;
    bool slow = draw(0, 2) == 0;
    config->slow_slot = SIM_NOBODY;
    /* What one sends is on its way while the others close many rounds. */
    if (config->stale == ROUND_STALE_QUORUM && slow) {
        config->last_step = 60 * config->every_steps;
        config->step_us = draw(50000, 100000);
        config->spread = 1;
        config->slow_slot = (uint32_t)draw(0, config->workers - 1);
        config->slow_us = draw(4, 8) * config->every_steps * config->step_us / config->fragments;
        config->faults_us = draw(5, 10) * SIM_SECOND;
    }
}
