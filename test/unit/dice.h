/* dice: seeded chance for tests of random events; a failing test prints its seed. */
#ifndef ATOLL_TEST_DICE_H
#define ATOLL_TEST_DICE_H

#include <stdint.h>
#include "base/rng.h"

struct dice {
    uint64_t seed, throws;
};

/* 0 .. count - 1 */
static inline uint32_t below(struct dice *dice, uint32_t count) {
    return (uint32_t)(rng_u64(dice->seed, 0, dice->throws++) % count);
}

#endif
