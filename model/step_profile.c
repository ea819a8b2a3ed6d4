#include "model/step_profile.h"
#include "base/check.h"

static const char *const names[STEP_PART_COUNT] = {
    [STEP_PART_EMBEDDING] = "embedding",
    [STEP_PART_NORM] = "norms",
    [STEP_PART_ROUNDING] = "rounding to bf16",
    [STEP_PART_PROJECTION_FORWARD] = "projections forward",
    [STEP_PART_PROJECTION_INPUT] = "projections dX",
    [STEP_PART_PROJECTION_WEIGHT] = "projections dW",
    [STEP_PART_ATTENTION_FORWARD] = "attention forward",
    [STEP_PART_ATTENTION_BACKWARD] = "attention backward",
    [STEP_PART_GATE] = "mlp gate",
    [STEP_PART_HEAD] = "head products",
    [STEP_PART_LOSS] = "loss",
    [STEP_PART_GRADIENT_NORM] = "gradient norm",
    [STEP_PART_ADAMW] = "adamw",
    [STEP_PART_WAIT] = "waiting",
};

const char *step_part_name(enum step_part part) {
    CHECK((unsigned)part < STEP_PART_COUNT);
    return names[part];
}

void step_profile_add(struct step_profile *to, const struct step_profile *from) {
    for (int part = 0; part < STEP_PART_COUNT; part++)
        to->part_ns[part] += from->part_ns[part];
    to->marks += from->marks;
}
