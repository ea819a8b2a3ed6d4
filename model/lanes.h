/* lanes: sums over long rows in 16 explicit lanes, so that they vectorize without -ffast-math; a maximum and an exp that vectorize.
 * Where contraction is off they give the same bits on every instruction set. For use inside HOT_LOOP functions, which inline these. */
#ifndef ATOLL_MODEL_LANES_H
#define ATOLL_MODEL_LANES_H

#include <stdint.h>
#include <string.h>
#include <math.h>

enum { LANES = 16 };

typedef float lanes_eight __attribute__((vector_size(32)));
typedef float lanes_four __attribute__((vector_size(16)));

/* The sixteen lanes folded in a fixed tree. */
static inline float lanes_fold(const float lane[LANES]) {
    lanes_eight low, high;
    memcpy(&low, lane, sizeof low);
    memcpy(&high, lane + 8, sizeof high);
    low += high;
    lanes_four four = __builtin_shufflevector(low, low, 0, 1, 2, 3) + __builtin_shufflevector(low, low, 4, 5, 6, 7);
    return (four[0] + four[2]) + (four[1] + four[3]);
}

static inline float lanes_dot(int count, const float *a, const float *b) {
    float lane[LANES] = {0};
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += a[i + j] * b[i + j];
    for (int j = 0; i + j < count; j++)
        lane[j] += a[i + j] * b[i + j];
    return lanes_fold(lane);
}

/* sum of a*b*c */
static inline float lanes_dot3(int count, const float *a, const float *b, const float *c) {
    float lane[LANES] = {0};
    int i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += a[i + j] * b[i + j] * c[i + j];
    for (int j = 0; i + j < count; j++)
        lane[j] += a[i + j] * b[i + j] * c[i + j];
    return lanes_fold(lane);
}

/* Largest of count >= 1 values; a NaN is the largest or the smallest, by its sign. The maximum of integers in the same order as the
 * floats vectorizes; that of floats does not without -ffast-math. */
static inline float lanes_max(int count, const float *a) {
    int32_t largest = INT32_MIN;
    for (int i = 0; i < count; i++) {
        int32_t bits;
        memcpy(&bits, a + i, sizeof bits);
        bits ^= (bits >> 31) & INT32_MAX; /* negative floats: the larger the bits, the smaller the value */
        largest = bits > largest ? bits : largest;
    }
    largest ^= (largest >> 31) & INT32_MAX;
    float value;
    memcpy(&value, &largest, sizeof value);
    return value;
}

/* exp(x), relative error below 1.5e-7 (test/unit/model/lanes_test.c) for x in [-87.33, 88.37]; below 0, above infinity; NaN stays.
 * Cody-Waite reduction to |r| <= ln2/2 and the degree-6 polynomial of Cephes' expf. Plain + - * only. */
static inline float lanes_exp(float x) {
    const float shifter = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, kept in the low mantissa bits */
    float shifted = x * 1.44269504088896341f + shifter;
    float n = shifted - shifter;
    float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127u) << 23; /* the shifter's own bits fall out at the top */
    float power;
    memcpy(&power, &bits, sizeof power);
    float y = p * power;
    y = x < -87.33f ? 0.0f : y;
    return x > 88.37f ? INFINITY : y;
}

#endif
