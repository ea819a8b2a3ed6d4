/* update_guard: two medians per fragment. */
#include "outer/update_guard.h"

#include <math.h>
#include <string.h>
#include "base/check.h"

void update_guard_open(struct update_guard *guard, double reject_norm) {
    CHECK(reject_norm >= 0);
    memset(guard, 0, sizeof *guard);
    guard->reject_norm = reject_norm;
}

/* Sorts `values`. */
static double median(double *values, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        double value = values[i];
        uint32_t at = i;
        for (; at > 0 && values[at - 1] > value; at--)
            values[at] = values[at - 1];
        values[at] = value;
    }
    return 0.5 * (values[(count - 1) / 2] + values[count / 2]);
}

static double largest_norm(const struct update_guard *guard, uint32_t fragment, uint64_t tokens) {
    const struct update_guard_fragment *f = &guard->fragments[fragment];
    double values[UPDATE_GUARD_KEPT];
    if (guard->reject_norm == 0 || f->count < UPDATE_GUARD_NORMS_MIN)
        return INFINITY;
    memcpy(values, f->norms, f->count * sizeof *values);
    double norm = median(values, f->count);
    if (norm == 0)
        return INFINITY;
    for (uint32_t i = 0; i < f->count; i++)
        values[i] = (double)f->tokens[i];
    double share = (double)tokens / median(values, f->count);
    return guard->reject_norm * norm * (share > 1 ? share : 1);
}

enum update_verdict update_guard_judge(const struct update_guard *guard, uint32_t fragment, double norm,
                                       uint64_t tokens, double *limit) {
    CHECK(fragment < MESSAGE_FRAGMENTS_MAX);
    *limit = largest_norm(guard, fragment, tokens);
    return norm <= *limit ? UPDATE_OK : UPDATE_REFUSED; /* NaN too */
}

void update_guard_learn(struct update_guard *guard, uint32_t fragment, double norm, uint64_t tokens) {
    CHECK(fragment < MESSAGE_FRAGMENTS_MAX && isfinite(norm) && norm >= 0 && tokens > 0);
    struct update_guard_fragment *f = &guard->fragments[fragment];
    f->norms[f->next] = norm;
    f->tokens[f->next] = tokens;
    f->next = (f->next + 1) % UPDATE_GUARD_KEPT;
    f->count += f->count < UPDATE_GUARD_KEPT;
}
