/* Seeds of round, sync and recovery: short lives of a run, written in the events of the targets (their head comments
 * say the bytes). */
#include <stdint.h>
#include "fuzz/seeds.h"
#include "outer/recovery.h"
#include "outer/round.h"

#define SEED(target, name, ...)                                                                                        \
    do {                                                                                                               \
        static const uint8_t bytes[] = {__VA_ARGS__};                                                                  \
        seed_write(target, name, bytes, sizeof bytes);                                                                 \
    } while (0)

/* ---- round: workers, fragments, quorum, min_workers, stale, grace, restored; then kind, slot + 6 * fragment, ... ---- */

enum { SCENE_ADOPT = ROUND_EVENT_FINAL + 1, SCENE_OFFER_ALL, SCENE_OFFER_WHOLE, SCENE_TICK_AT_DEADLINE };
#define LEAD(mask)         ROUND_EVENT_LEAD, 0, mask
#define JOIN(slot)         ROUND_EVENT_JOIN, slot, 1, 0, 0, 0
#define REJOIN(slot, step) ROUND_EVENT_JOIN, slot, 2, step, 0, 0
#define LEAVE(slot)        ROUND_EVENT_LEAVE, slot
#define OFFER(at, twist)   ROUND_EVENT_OFFER, at, twist, 8
#define WHOLE(at)          ROUND_EVENT_WHOLE, at
#define BROKEN(at)         ROUND_EVENT_BROKEN, at
#define OFFER_WHOLE(at)    SCENE_OFFER_WHOLE, at, 0, 8
#define COMMITTED(at)      ROUND_EVENT_COMMITTED, at
#define DEADLINE           SCENE_TICK_AT_DEADLINE, 0
#define END_OF(slot)       ROUND_EVENT_REACHED, slot, ROUND_EVENT_DONE, slot, 64, 0, 0, 0
#define FINAL(slot)        ROUND_EVENT_FINAL, (slot) + 132 /* 132 = 6 * 22: with an evaluation */
#define ADOPT(fragment)    SCENE_ADOPT, 6 * (fragment), 3, 12, 40, 80, 0, 0, 0, 0

static void seeds_round(void) {
    SEED("round", "all-to-the-end", 1, 0, 0, 0, 0, 1, 0, LEAD(0), JOIN(0), JOIN(1), OFFER(0, 0), WHOLE(0),
         OFFER_WHOLE(1), COMMITTED(0), OFFER_WHOLE(1), OFFER_WHOLE(0), COMMITTED(0), END_OF(0), END_OF(1), FINAL(0),
         FINAL(1));
    SEED("round", "quorum-with-grace", 2, 1, 3, 0, 2, 0, 0, LEAD(0), JOIN(0), JOIN(1), JOIN(2), OFFER_WHOLE(0),
         OFFER_WHOLE(1), DEADLINE, COMMITTED(0), OFFER_WHOLE(2), OFFER(1, 1), WHOLE(1), OFFER_WHOLE(6), OFFER_WHOLE(7),
         DEADLINE, COMMITTED(6), ROUND_EVENT_REACHED, 0, ROUND_EVENT_REACHED, 1, DEADLINE);
    SEED("round", "restart", 1, 1, 0, 0, 0, 1, 1, ADOPT(0), ADOPT(1), LEAD(3), REJOIN(0, 12), OFFER_WHOLE(0), DEADLINE,
         REJOIN(1, 12), OFFER_WHOLE(1), COMMITTED(0));
    SEED("round", "lost-and-back", 1, 0, 0, 0, 0, 1, 0, LEAD(0), JOIN(0), JOIN(1), OFFER(0, 0), OFFER(0, 0), LEAVE(0),
         OFFER_WHOLE(1), COMMITTED(0), REJOIN(0, 5), OFFER(0, 2), OFFER(0, 0), BROKEN(0), OFFER_WHOLE(1), COMMITTED(0),
         OFFER(0, 16), OFFER(0, 64), OFFER(0, 128), ROUND_EVENT_LATE, 0, 9, 9, DEADLINE);
    SEED("round", "blocked", 1, 1, 0, 0, 0, 1, 0, LEAD(0), JOIN(0), JOIN(1), LEAVE(0), REJOIN(0, 1), OFFER_WHOLE(0),
         OFFER_WHOLE(7), ROUND_EVENT_BLOCKED, 0, ROUND_EVENT_BLOCKED, 1, COMMITTED(0), COMMITTED(6));
    SEED("round", "too-few", 1, 0, 2, 1, 2, 2, 0, LEAD(0), JOIN(0), JOIN(1), OFFER_WHOLE(0), LEAVE(1), DEADLINE,
         REJOIN(1, 1), DEADLINE, COMMITTED(0));
    SEED("round", "all-fragments", 3, 255, 0, 0, 0, 1, 0, LEAD(0), JOIN(0), JOIN(1), JOIN(2), JOIN(3), SCENE_OFFER_ALL,
         0, SCENE_OFFER_ALL, 1, LEAVE(0), LEAVE(1), END_OF(2), END_OF(3), FINAL(2), FINAL(3));
}

/* ---- recovery: fragments, mode, workers, expected, (DISK: heads); then kind + 8 * slot, more ----
 * A head is 16 * epoch + version. */

#define BEAR(slot, head0, head1, run_step, mask) 0 + 8 * (slot), head0, head1, 0, run_step, mask
#define GONE(slot)                               2 + 8 * (slot)
#define TAKE(fragment)                           3 + 8 * (fragment)
#define TAKE_OTHER(fragment, head)               5 + 8 * (fragment), head
#define FAIL(fragment)                           6 + 8 * (fragment)
#define WAIT(us)                                 7 + 8 * (us)

static void seeds_recovery(void) {
    SEED("recovery", "fresh", 1, RECOVERY_FRESH, 2, 0, BEAR(0, 0x11, 0x12, 5, 3), WAIT(9));
    SEED("recovery", "disk", 1, RECOVERY_DISK, 2, 3, 0x23, 0x24, BEAR(0, 0x25, 0x24, 9, 3), TAKE(0),
         BEAR(1, 0x23, 0x26, 9, 3), TAKE_OTHER(1, 0x25), WAIT(31));
    SEED("recovery", "empty", 1, RECOVERY_EMPTY, 2, 0, BEAR(0, 0x31, 0x31, 9, 7), BEAR(1, 0x32, 0x31, 8, 3), FAIL(0),
         TAKE(1), GONE(0), BEAR(2, 0x32, 0x33, 9, 7), WAIT(31), TAKE(0), TAKE(1), BEAR(0, 0x31, 0x31, 9, 7));
    SEED("recovery", "empty-forced", 0, 128 + 2, 3, 0, BEAR(3, 0, 0, 0, 0), WAIT(31));
}

/* ---- sync: fragments, H, mode (1 strict, 2 lockstep), [overlap], drift; then kind + 16 * more ---- */

#define STEP(tokens)        0 + 16 * ((tokens)-1)
#define STEPS4              STEP(1), STEP(1), STEP(1), STEP(1)
#define OTHERS(f, step)     4 + 16 * (f), step
#define COUNT(f)            5 + 16 * (f)
#define DELIVER             8 + 16 * 15
#define PREPARE(f)          9 + 16 * (f)
#define DIFFER(f)           11 + 16 * (f)
#define SAVE                12
#define KILL                12 + 16 * 4
#define REFUSE(f)           12 + 16 * (8 + (f))
#define OUTER_LOSES(masked) 13, masked
#define LINK_UP             14
#define LINK_DOWN           15
#define TO_THE_END          15 + 16 * 15

static void seeds_sync(void) {
    SEED("sync", "strict", 0, 3, 3, 1, 0, LINK_UP, DELIVER, STEPS4, COUNT(0), DELIVER, PREPARE(0), STEPS4, COUNT(0),
         DELIVER, PREPARE(0), STEPS4, TO_THE_END, COUNT(0), DELIVER, PREPARE(0), TO_THE_END);
    SEED("sync", "auto", 1, 3, 2, 5, LINK_UP, DELIVER, STEPS4, STEPS4, OTHERS(0, 4), OTHERS(0, 8), DELIVER, PREPARE(0),
         STEPS4, COUNT(1), DELIVER, PREPARE(1), PREPARE(0), STEPS4, REFUSE(0), STEPS4);
    SEED("sync", "worker-restarts", 0, 1, 0, 6, LINK_UP, DELIVER, STEPS4, SAVE, STEPS4, COUNT(0), KILL, LINK_UP,
         DELIVER, PREPARE(0), STEPS4, COUNT(0), DELIVER, PREPARE(0), STEPS4);
    SEED("sync", "outer-forgets", 0, 1, 3, 0, 9, LINK_UP, DELIVER, STEPS4, COUNT(0), DELIVER, PREPARE(0), STEPS4,
         COUNT(0), DELIVER, PREPARE(0), STEPS4, OUTER_LOSES(1), LINK_UP, DELIVER, PREPARE(0), STEPS4, COUNT(0));
    SEED("sync", "far-behind", 0, 1, 0, 6, LINK_UP, DELIVER, STEPS4, OTHERS(0, 1), OTHERS(0, 2), OTHERS(0, 3),
         OTHERS(0, 4), OTHERS(0, 5), LINK_DOWN, OTHERS(0, 6), OTHERS(0, 7), OTHERS(0, 8), OTHERS(0, 9), OTHERS(0, 10),
         LINK_UP, DELIVER, PREPARE(0), DIFFER(0), STEPS4);
}

void seeds_machines(void) {
    seeds_round();
    seeds_recovery();
    seeds_sync();
}
