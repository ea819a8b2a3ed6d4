/* step_profile: where the time of a training step goes. The transformer marks the end of each part; without a profile (NULL) a mark is
 * one branch. A mark costs one reading of the clock (some 30 ns), charged to the part that follows: about a thousand of them in a step
 * of 50 ms. Parts are contiguous: their sum is the time inside model_add_gradients and model_apply_update, of all threads together (n threads for
 * a second are n seconds), and the forward passes of model_evaluate. */
#ifndef ATOLL_MODEL_STEP_PROFILE_H
#define ATOLL_MODEL_STEP_PROFILE_H

#include <stddef.h>
#include <stdint.h>
#include "base/clock.h"

enum step_part {
    STEP_PART_EMBEDDING,          /* rows in, gradients of rows out, targets */
    STEP_PART_NORM,               /* of the residual stream; adding the gradients of q and k norm */
    STEP_PART_ROUNDING,           /* to bf16, of weights and of activations */
    STEP_PART_PROJECTION_FORWARD, /* the seven products of the layers, */
    STEP_PART_PROJECTION_INPUT,   /* gradients of their inputs, both with the gate where products do it, */
    STEP_PART_PROJECTION_WEIGHT,  /* and of their weights */
    STEP_PART_ATTENTION_FORWARD,  /* with the norms and the rotation of q and k */
    STEP_PART_ATTENTION_BACKWARD,
    STEP_PART_GATE, /* of the MLP, forward and backward, as a pass of its own */
    STEP_PART_HEAD, /* its three products */
    STEP_PART_LOSS,
    STEP_PART_GRADIENT_NORM,
    STEP_PART_ADAMW,
    STEP_PART_WAIT, /* of a thread: for its turn, for the others' end */
    STEP_PART_COUNT,
};

/* Zeroed by its owner; added to by every step. One thread at a time. */
struct step_profile {
    uint64_t last_ns;
    uint64_t marks;
    uint64_t part_ns[STEP_PART_COUNT];
};

/* What a thread's own profile has counted, added to another. */
void step_profile_add(struct step_profile *to, const struct step_profile *from);

/* "projections dX": for tables; static text. */
const char *step_part_name(enum step_part part);

/* What went before belongs to no part. */
static inline void step_profile_begin(struct step_profile *profile) {
    if (profile != NULL)
        profile->last_ns = clock_now_ns();
}

/* The time since the last mark belongs to `part`. */
static inline void step_profile_mark(struct step_profile *profile, enum step_part part) {
    if (profile == NULL)
        return;
    uint64_t now_ns = clock_now_ns();
    profile->part_ns[part] += now_ns - profile->last_ns;
    profile->last_ns = now_ns;
    profile->marks++;
}

#endif
