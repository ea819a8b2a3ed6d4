/* How an outer comes to lead, whatever the workers say that they bear. Input: 4 bytes of options, then events: u8
 * kind and slot, their bytes.
 *
 * What must hold: FETCH names a bearer of something newer than what is ours, one at a time per fragment; LEAD comes
 * once, when nobody who is heard and trusted bears anything newer. At the end of the input every slot bears the same:
 * then it leads. */
#include <string.h>
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "outer/recovery.h"

enum { FRAGMENTS = 3, SLOTS = 6, WINDOW_US = 1000 };

static struct recovery recovery;
static struct {
    uint64_t now_us;
    uint32_t fragments, leads;
    bool opened;
    struct head own[FRAGMENTS];
    struct head borne[MESSAGE_WORKERS_MAX][FRAGMENTS];
    bool heard[MESSAGE_WORKERS_MAX], distrusted[MESSAGE_WORKERS_MAX];
    uint32_t fetching[FRAGMENTS]; /* slot + 1; 0 = nothing */
} seen;

static void feed(struct recovery_event event) {
    struct recovery_actions actions;
    event.now_us = seen.now_us;
    actions.count = 0;
    recovery_step(&recovery, &event, &actions);
    for (uint32_t i = 0; i < actions.count; i++) {
        const struct recovery_action *action = &actions.list[i];
        uint32_t f = action->fragment;
        CHECK(seen.leads == 0);
        if (action->kind == RECOVERY_ACTION_LEAD) {
            seen.leads++;
            continue;
        }
        CHECK(f < seen.fragments && action->slot < MESSAGE_WORKERS_MAX && seen.fetching[f] == 0);
        CHECK(seen.heard[action->slot] && !seen.distrusted[action->slot]);
        CHECK(recovery_head_is_newer(&seen.borne[action->slot][f], &seen.own[f]));
        seen.fetching[f] = action->slot + 1;
    }
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX && seen.leads == 1 && actions.count > 0; slot++)
        for (uint32_t f = 0; f < seen.fragments; f++) {
            CHECK(seen.fetching[f] == 0);
            CHECK(!seen.heard[slot] || !recovery_head_is_newer(&seen.borne[slot][f], &seen.own[f]));
        }
    CHECK((recovery_deadline_us(&recovery) == UINT64_MAX) == (seen.leads == 1));
}

static struct head some_head(struct fuzz_input *input) {
    uint8_t byte = fuzz_u8(input);
    struct head head = {.epoch = byte >> 4, .version = byte & 15};
    if (head.version == 0 || head.epoch == 0)
        head.epoch = head.version = 0;
    return head;
}

static void bear(uint32_t slot, const struct head *heads, uint64_t run_step, uint64_t mask) {
    if (!seen.distrusted[slot]) {
        seen.heard[slot] = true;
        memcpy(seen.borne[slot], heads, sizeof seen.borne[slot]);
    }
    feed((struct recovery_event){
        .kind = RECOVERY_EVENT_BEARER, .slot = slot, .heads = heads, .run_step = run_step, .members_mask = mask});
}

static void forget(uint32_t slot) {
    seen.heard[slot] = false;
    for (uint32_t f = 0; f < seen.fragments; f++)
        if (seen.fetching[f] == slot + 1)
            seen.fetching[f] = 0;
}

/* What was asked for is here: what its bearer said, or (it forgot) something else. */
static void take(uint32_t f, const struct head *other) {
    if (seen.fetching[f] == 0)
        return;
    uint32_t slot = seen.fetching[f] - 1;
    struct head head = other != NULL ? *other : seen.borne[slot][f];
    seen.own[f] = seen.borne[slot][f] = head;
    seen.fetching[f] = 0;
    feed((struct recovery_event){.kind = RECOVERY_EVENT_TAKEN, .slot = slot, .fragment = f, .heads = &head});
}

static void some_event(struct fuzz_input *input) {
    uint8_t byte = fuzz_u8(input);
    uint32_t slot = (byte >> 3) % SLOTS, f = (byte >> 3) % seen.fragments;
    struct head heads[FRAGMENTS];
    switch (byte & 7) {
    case 0:
    case 1:
        for (uint32_t i = 0; i < FRAGMENTS; i++)
            heads[i] = some_head(input);
        uint8_t step = fuzz_u8(input), mask = fuzz_u8(input);
        bear(slot, heads, step, mask);
        break;
    case 2:
        forget(slot);
        feed((struct recovery_event){.kind = RECOVERY_EVENT_GONE, .slot = slot});
        break;
    case 3:
    case 4:
        take(f, NULL);
        break;
    case 5:
        heads[0] = some_head(input);
        take(f, &heads[0]);
        break;
    case 6:
        if (seen.fetching[f] == 0)
            return;
        slot = seen.fetching[f] - 1;
        seen.distrusted[slot] = true;
        forget(slot);
        feed((struct recovery_event){.kind = RECOVERY_EVENT_FAILED, .slot = slot, .fragment = f});
        break;
    default:
        seen.now_us += byte >> 3;
        feed((struct recovery_event){.kind = RECOVERY_EVENT_TICK});
        break;
    }
}

/* Every slot comes and bears the newest of all; the window ends. */
static void heal(void) {
    struct head newest[FRAGMENTS];
    for (uint32_t f = 0; f < FRAGMENTS; f++)
        newest[f] = (struct head){.epoch = 99, .version = 99};
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        bear(slot, newest, 999, UINT64_MAX);
        for (uint32_t f = 0; f < seen.fragments; f++)
            take(f, NULL);
    }
    seen.now_us += WINDOW_US;
    feed((struct recovery_event){.kind = RECOVERY_EVENT_TICK});
    CHECK(seen.leads == 1 && recovery_deadline_us(&recovery) == UINT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    memset(&seen, 0, sizeof seen);
    seen.now_us = 1;
    seen.fragments = 1 + fuzz_u8(&input) % FRAGMENTS;
    uint8_t mode = fuzz_u8(&input);
    struct recovery_options options = {.mode = (enum recovery_mode)(mode % 3),
                                       .fragments = seen.fragments,
                                       .workers = 1 + fuzz_u8(&input) % 4,
                                       .window_us = WINDOW_US,
                                       .expected_mask = fuzz_u8(&input),
                                       .force = mode >> 7};
    recovery_open(&recovery, &options);
    for (uint32_t f = 0; f < seen.fragments && options.mode == RECOVERY_DISK; f++)
        seen.own[f] = some_head(&input);
    feed((struct recovery_event){.kind = RECOVERY_EVENT_OPEN, .heads = seen.own});
    CHECK(options.mode != RECOVERY_FRESH || seen.leads == 1);
    while (input.left > 0)
        some_event(&input);
    heal();
    return 0;
}
