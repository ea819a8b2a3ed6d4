/* schedule: at which step which fragment is due. Pure integers.
 *
 *   H = 6, P = 3, offsets t_p = floor(p * H / P) = 0, 2, 4
 *   step        1 2 3 4 5 6 7 8 9 10 11 12
 *   fragment 0            *               *        a fragment is due when t > t_p and (t - t_p) mod H == 0
 *   fragment 1                *                    (arXiv 2501.18512, algorithm 2; the hit at t = t_p itself is skipped)
 *   fragment 2                    *           */
#ifndef ATOLL_OUTER_SCHEDULE_H
#define ATOLL_OUTER_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

struct schedule {
    uint32_t fragments;   /* P, at least 1 */
    uint64_t every_steps; /* H, at least 1 */
};

uint64_t schedule_offset(const struct schedule *schedule, uint32_t fragment);
bool schedule_due(const struct schedule *schedule, uint32_t fragment, uint64_t step);
/* The first due step after `step`. */
uint64_t schedule_next_due(const struct schedule *schedule, uint32_t fragment, uint64_t step);

#endif
