#include "worker/step_pace.h"
#include <stdbool.h>

static const double SMOOTHING = 0.125;
/* Own steps may seem this much slower than the fastest member's before numbers are skipped: machines that are equal do not measure equal. */
static const double KEEPS_UP = 1.25;
/* A member's work is behind R where it lost some, or skipped with all others. With each rise of R this part of it is taken for done. */
static const double FORGIVEN = 1.0 / 32;

void step_pace_note_own(struct step_pace *pace, uint64_t took_us, uint64_t tokens) {
    double took = (double)took_us;
    pace->own_us = pace->own_us == 0 ? took : pace->own_us + SMOOTHING * (took - pace->own_us);
    pace->step_tokens = tokens;
}

static void note_member(const struct step_pace *pace, struct step_pace_member *member, uint64_t applied,
                        uint64_t now_us) {
    if (applied <= member->applied)
        return;
    if (member->seen_us == 0 || pace->step_tokens == 0) {
        member->reached = (double)pace->run_step;
    } else {
        double steps = (double)(applied - member->applied) / (double)pace->step_tokens;
        member->reached += steps;
        if (now_us > member->seen_us) {
            member->passed_us = member->passed_us * (1 - SMOOTHING) + (double)(now_us - member->seen_us);
            member->passed_steps = member->passed_steps * (1 - SMOOTHING) + steps;
        }
    }
    if (member->reached > (double)pace->run_step)
        member->reached = (double)pace->run_step;
    member->applied = applied;
    member->seen_us = now_us;
}

void step_pace_note_commit(struct step_pace *pace, const struct commit *commit, uint64_t now_us) {
    bool rises = commit->run_step > pace->run_step;
    if (rises) {
        pace->run_step = commit->run_step;
        pace->run_step_us = now_us;
    }
    for (uint32_t i = 0; i < commit->total_count; i++) {
        struct step_pace_member *member = &pace->members[commit->totals[i].slot];
        note_member(pace, member, commit->totals[i].applied, now_us);
        if (rises)
            member->reached += FORGIVEN * ((double)pace->run_step - member->reached);
    }
}

void step_pace_caught_up(struct step_pace *pace) {
    for (int slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        struct step_pace_member *member = &pace->members[slot];
        *member = (struct step_pace_member){.applied = member->applied};
    }
    pace->run_step_us = 0;
}

/* The run clock as the fastest member's work: where it stood at run_step_us, and the time of one step; 0 = not known. */
struct work_clock {
    double reached;
    double step_us;
};

/* Who has been silent for longer than it was measured may stand still, and no longer leads; so do all when the outer is away. */
static struct work_clock work_clock_at(const struct step_pace *pace, uint64_t now_us) {
    struct work_clock clock = {0};
    double fastest = 0; /* steps per us */
    if (pace->run_step_us == 0)
        return clock;
    for (int slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        const struct step_pace_member *member = &pace->members[slot];
        if (member->passed_us == 0 || (double)now_us > (double)member->seen_us + member->passed_us)
            continue;
        double rate = member->passed_steps / member->passed_us;
        fastest = rate > fastest ? rate : fastest;
        clock.reached = member->reached > clock.reached ? member->reached : clock.reached;
    }
    clock.step_us = fastest > 0 ? 1 / fastest : 0;
    return clock;
}

uint64_t step_pace_next(const struct step_pace *pace, uint64_t step, uint64_t due, uint64_t now_us) {
    uint64_t next = pace->run_step > step ? pace->run_step : step;
    struct work_clock clock = work_clock_at(pace, now_us);
    double stride = clock.step_us > 0 ? pace->own_us / clock.step_us : 0;
    if (stride > KEEPS_UP) {
        uint64_t since_us = now_us > pace->run_step_us ? now_us - pace->run_step_us : 0;
        double projected = clock.reached + (double)since_us / clock.step_us;
        if (projected > (double)next)
            next = projected < (double)due ? (uint64_t)projected : due;
        if (projected + stride >= (double)due)
            next = due;
    }
    if (next >= due)
        next = due - 1;
    return next > step ? next : step;
}
