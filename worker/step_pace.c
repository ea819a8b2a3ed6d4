#include "worker/step_pace.h"

static const double SMOOTHING = 0.25;

static double smoothed(double before, double now) {
    return before == 0 ? now : before + SMOOTHING * (now - before);
}

void step_pace_note_own(struct step_pace *pace, uint64_t took_us) {
    pace->own_us = smoothed(pace->own_us, (double)took_us);
}

void step_pace_note_run(struct step_pace *pace, uint64_t run_step, uint64_t now_us) {
    if (run_step <= pace->run_step)
        return;
    if (pace->run_step_us != 0 && now_us > pace->run_step_us) {
        pace->passed_us = pace->passed_us * (1 - SMOOTHING) + (double)(now_us - pace->run_step_us);
        pace->passed_steps = pace->passed_steps * (1 - SMOOTHING) + (double)(run_step - pace->run_step);
    }
    pace->run_step = run_step;
    pace->run_step_us = now_us;
}

void step_pace_caught_up(struct step_pace *pace) {
    pace->passed_us = pace->passed_steps = 0;
    pace->run_step_us = 0;
}

uint64_t step_pace_next(const struct step_pace *pace, uint64_t step, uint64_t due, uint64_t now_us) {
    uint64_t next = pace->run_step > step ? pace->run_step : step;
    double clock_us = pace->passed_steps > 0 ? pace->passed_us / pace->passed_steps : 0; /* of one step */
    double stride = clock_us > 0 ? pace->own_us / clock_us : 0;
    if (stride > 1) {
        uint64_t since_us = now_us > pace->run_step_us ? now_us - pace->run_step_us : 0;
        double projected = (double)pace->run_step + (double)since_us / clock_us;
        if (projected > (double)next)
            next = projected < (double)due ? (uint64_t)projected : due;
        if ((double)next + 1.5 * stride > (double)due)
            next = due;
    }
    if (next >= due)
        next = due - 1;
    return next > step ? next : step;
}
