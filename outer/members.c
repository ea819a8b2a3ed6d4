#include "outer/members.h"

bool member_is_connected(const struct member *member) {
    return member->state == MEMBER_LIVE || member->state == MEMBER_DONE || member->state == MEMBER_FINAL;
}

bool member_is_expected(const struct member *member) {
    return member->state == MEMBER_LIVE;
}

uint32_t members_connected(const struct members *members) {
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        count += member_is_connected(&members->slot[slot]);
    return count;
}

uint32_t members_expected(const struct members *members) {
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        count += member_is_expected(&members->slot[slot]);
    return count;
}

uint64_t members_live_mask(const struct members *members) {
    uint64_t mask = 0;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (member_is_connected(&members->slot[slot]))
            mask |= (uint64_t)1 << slot;
    return mask;
}

uint32_t members_evaluator(const struct members *members) {
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (member_is_connected(&members->slot[slot]) && members->slot[slot].has_validation)
            return slot;
    return UINT32_MAX;
}
