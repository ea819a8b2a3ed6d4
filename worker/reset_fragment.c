/* reset_fragment: copies and one pass over the moments. */
#include "worker/reset_fragment.h"

#include <float.h>
#include <string.h>
#include "base/vector.h"

HOT_LOOP static size_t clear_moments(float *restrict moment1, float *restrict moment2, size_t count) {
    size_t cleared = 0;
    for (size_t i = 0; i < count; i++) {
        int finite = moment1[i] >= -FLT_MAX && moment1[i] <= FLT_MAX && moment2[i] >= -FLT_MAX && moment2[i] <= FLT_MAX;
        moment1[i] = finite ? moment1[i] : 0;
        moment2[i] = finite ? moment2[i] : 0;
        cleared += !finite;
    }
    return cleared;
}

size_t reset_fragment(const struct fragment *fragment, const float *g, float *theta, float *residual, float *moment1,
                      float *moment2) {
    size_t cleared = 0;
    fragment_scatter(fragment, g, theta);
    memset(residual, 0, fragment->count * sizeof *residual);
    for (int s = 0; s < fragment->span_count; s++) {
        const struct codec_span *span = &fragment->spans[s];
        cleared += clear_moments(moment1 + span->offset, moment2 + span->offset, span->count);
    }
    return cleared;
}
