/* mean: linear passes, see mean.h. The order of contributions is the caller's; it is recorded in the commit. */
#include "outer/mean.h"

#include <math.h>
#include <string.h>
#include "base/check.h"
#include "base/vector.h"

void mean_begin(float *acc, size_t count) {
    memset(acc, 0, count * sizeof *acc);
}

float mean_weight(uint64_t tokens, float scale) {
    return (float)tokens * scale;
}

HOT_LOOP void mean_finish(float *restrict acc, uint64_t weight_sum, size_t count) {
    CHECK(weight_sum > 0);
    const float inverse = (float)(1.0 / (double)weight_sum);
    for (size_t i = 0; i < count; i++)
        acc[i] = acc[i] * inverse;
}

/* ---- clipped ---- */

/* Sixteen independent sums, so that the loop is as fast as memory. */
HOT_LOOP void mean_norm_add(struct mean_norm *norm, const float *values, size_t count) {
    double sums[MEAN_NORM_SUMS];
    size_t at = 0;
    for (; at < count && norm->count % MEAN_NORM_SUMS != 0; at++, norm->count++)
        norm->sums[norm->count % MEAN_NORM_SUMS] += (double)values[at] * (double)values[at];
    memcpy(sums, norm->sums, sizeof sums);
    norm->count += count - at;
    for (; count - at >= MEAN_NORM_SUMS; at += MEAN_NORM_SUMS)
        for (size_t j = 0; j < MEAN_NORM_SUMS; j++)
            sums[j] += (double)values[at + j] * (double)values[at + j];
    for (size_t j = 0; j < count - at; j++)
        sums[j] += (double)values[at + j] * (double)values[at + j];
    memcpy(norm->sums, sums, sizeof sums);
}

double mean_norm_end(const struct mean_norm *norm) {
    double sums[MEAN_NORM_SUMS];
    memcpy(sums, norm->sums, sizeof sums);
    for (size_t half = MEAN_NORM_SUMS / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            sums[j] += sums[j + half];
    return sqrt(sums[0]);
}

double mean_norm(const float *values, size_t count) {
    struct mean_norm norm = {0};
    mean_norm_add(&norm, values, count);
    return mean_norm_end(&norm);
}

double mean_median_norm(const double *norms, const uint64_t *weights, int count) {
    uint64_t total = 0;
    double median = INFINITY;
    for (int i = 0; i < count; i++)
        total += weights[i];
    for (int i = 0; i < count; i++) {
        uint64_t up_to = 0; /* tokens of the contributions of at most this norm */
        for (int j = 0; j < count; j++)
            up_to += norms[j] <= norms[i] ? weights[j] : 0;
        if (up_to >= total - up_to && norms[i] < median)
            median = norms[i];
    }
    return median;
}

float mean_clip_scale(double norm, double median_norm) {
    return norm > median_norm ? (float)(median_norm / norm) : 1.0f;
}

/* ---- trimmed ---- */

int mean_trim_each_side(int n) {
    return n < 3 ? 0 : n < 8 ? 1 : n / 4;
}

/* Of each coordinate's pair, the larger value moves up one place; of equal ones `second`. */
HOT_LOOP static void rank_pair(const float *restrict first, const float *restrict second, int32_t *restrict first_ranks,
                               int32_t *restrict second_ranks, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int32_t first_is_larger = first[i] > second[i];
        first_ranks[i] += first_is_larger;
        second_ranks[i] += 1 - first_is_larger;
    }
}

HOT_LOOP static void add_kept(double *restrict sums, double *restrict weight_sums, const float *restrict values,
                              const int32_t *restrict ranks, double weight, int32_t first, int32_t end, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double w = ranks[i] >= first && ranks[i] < end ? weight : 0.0;
        sums[i] += w * (double)values[i];
        weight_sums[i] += w;
    }
}

/* Rows by tokens, equal ones in the order given. */
static void order_rows(const uint64_t *weights, int n, int *rows) {
    for (int i = 0; i < n; i++) {
        int at = i;
        for (; at > 0 && weights[rows[at - 1]] > weights[i]; at--)
            rows[at] = rows[at - 1];
        rows[at] = i;
    }
}

void mean_trim(struct mean_trim *trim, const uint64_t *weights, int n, size_t count, float *mean) {
    int rows[MESSAGE_WORKERS_MAX];
    double sums[MEAN_PIECE] = {0}, weight_sums[MEAN_PIECE] = {0};
    int drop = mean_trim_each_side(n);
    CHECK(n >= 3 && n <= MESSAGE_WORKERS_MAX && count <= MEAN_PIECE);
    order_rows(weights, n, rows);
    CHECK(weights[rows[0]] > 0);
    for (int i = 0; i < n; i++)
        memset(trim->ranks[i], 0, count * sizeof trim->ranks[i][0]);
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++)
            rank_pair(trim->values[rows[i]], trim->values[rows[j]], trim->ranks[rows[i]], trim->ranks[rows[j]], count);
    for (int i = 0; i < n; i++)
        add_kept(sums, weight_sums, trim->values[i], trim->ranks[i], (double)weights[i], drop, n - drop, count);
    for (size_t i = 0; i < count; i++)
        mean[i] = (float)(sums[i] / weight_sums[i]);
}
