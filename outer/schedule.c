#include "outer/schedule.h"

uint64_t schedule_offset(const struct schedule *schedule, uint32_t fragment) {
    return fragment * schedule->every_steps / schedule->fragments;
}

bool schedule_due(const struct schedule *schedule, uint32_t fragment, uint64_t step) {
    uint64_t offset = schedule_offset(schedule, fragment);
    return step > offset && (step - offset) % schedule->every_steps == 0;
}

uint64_t schedule_next_due(const struct schedule *schedule, uint32_t fragment, uint64_t step) {
    uint64_t offset = schedule_offset(schedule, fragment);
    if (step < offset)
        return offset + schedule->every_steps;
    return offset + ((step - offset) / schedule->every_steps + 1) * schedule->every_steps;
}
