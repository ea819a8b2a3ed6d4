#include "worker/step_pace.h"

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

static void note_member(const struct step_pace *pace, struct step_pace_member *member, uint64_t applied) {
    if (applied <= member->applied)
        return;
    double run = (double)pace->run_step;
    if (member->reached == 0 || pace->step_tokens == 0)
        member->reached = pace->measures ? run : 0;
    else
        member->reached += (double)(applied - member->applied) / (double)pace->step_tokens;
    member->reached = member->reached > run ? run : member->reached;
    member->applied = applied;
}

void step_pace_note_commit(struct step_pace *pace, const struct commit *commit, uint64_t now_us) {
    pace->measures |= pace->seen[commit->fragment];
    pace->seen[commit->fragment] = true;
    bool rises = commit->run_step > pace->run_step;
    if (rises) {
        if (pace->run_step_us != 0 && now_us > pace->run_step_us) {
            pace->passed_us = pace->passed_us * (1 - SMOOTHING) + (double)(now_us - pace->run_step_us);
            pace->passed_steps = pace->passed_steps * (1 - SMOOTHING) + (double)(commit->run_step - pace->run_step);
        }
        pace->run_step = commit->run_step;
        pace->run_step_us = pace->measures ? now_us : 0;
    }
    for (uint32_t i = 0; i < commit->total_count; i++) {
        struct step_pace_member *member = &pace->members[commit->totals[i].slot];
        note_member(pace, member, commit->totals[i].applied);
        if (rises && member->reached > 0)
            member->reached += FORGIVEN * ((double)pace->run_step - member->reached);
    }
}

void step_pace_caught_up(struct step_pace *pace) {
    struct step_pace before = *pace;
    *pace = (struct step_pace){.own_us = before.own_us, .step_tokens = before.step_tokens, .run_step = before.run_step};
    for (int slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        pace->members[slot].applied = before.members[slot].applied;
}

static double most_work(const struct step_pace *pace) {
    double most = 0;
    for (int slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        most = pace->members[slot].reached > most ? pace->members[slot].reached : most;
    return most;
}

/* After a silence longer than what was measured, the others may stand still: the outer is away. */
static bool is_clock_known(const struct step_pace *pace, uint64_t now_us) {
    return pace->passed_us > 0 && (double)now_us <= (double)pace->run_step_us + pace->passed_us;
}

uint64_t step_pace_next(const struct step_pace *pace, uint64_t step, uint64_t due, uint64_t now_us) {
    uint64_t next = pace->run_step > step ? pace->run_step : step;
    double rate = is_clock_known(pace, now_us) ? pace->passed_steps / pace->passed_us : 0; /* steps per us */
    double stride = pace->own_us * rate;
    if (stride > KEEPS_UP) {
        uint64_t since_us = now_us > pace->run_step_us ? now_us - pace->run_step_us : 0;
        double projected = most_work(pace) + (double)since_us * rate;
        if (projected > (double)next)
            next = projected < (double)due ? (uint64_t)projected : due;
        if (projected + stride >= (double)due)
            next = due;
    }
    if (next >= due)
        next = due - 1;
    return next > step ? next : step;
}
