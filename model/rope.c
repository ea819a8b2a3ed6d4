/* rope: see rope.h. */
#include "model/rope.h"
#include <math.h>
#include "base/vector.h"

void rope_fill_table(int T, int D, double theta, float *cosine, float *sine) {
    int half = D / 2;
    for (int i = 0; i < half; i++) {
        double frequency = pow(theta, -2.0 * i / D);
        for (int t = 0; t < T; t++) {
            cosine[(size_t)t * (size_t)half + (size_t)i] = (float)cos(t * frequency);
            sine[(size_t)t * (size_t)half + (size_t)i] = (float)sin(t * frequency);
        }
    }
}

/* (a, b) -> (a cos - b sin, b cos + a sin) for the two halves of each head. */
HOT_LOOP void rope_forward(int B, int T, int H, int D, const float *cosine, const float *sine, float *x) {
    int half = D / 2;
    for (int row = 0; row < B * T; row++) {
        const float *restrict c = cosine + (size_t)(row % T) * (size_t)half;
        const float *restrict s = sine + (size_t)(row % T) * (size_t)half;
        for (int h = 0; h < H; h++) {
            float *restrict a = x + ((size_t)row * (size_t)H + (size_t)h) * (size_t)D;
            float *restrict b = a + half;
            for (int i = 0; i < half; i++) {
                float first = a[i], second = b[i];
                a[i] = first * c[i] - second * s[i];
                b[i] = second * c[i] + first * s[i];
            }
        }
    }
}

/* The rotation is orthogonal: its gradient is the rotation by -angle. */
HOT_LOOP void rope_backward(int B, int T, int H, int D, const float *cosine, const float *sine, float *dx) {
    int half = D / 2;
    for (int row = 0; row < B * T; row++) {
        const float *restrict c = cosine + (size_t)(row % T) * (size_t)half;
        const float *restrict s = sine + (size_t)(row % T) * (size_t)half;
        for (int h = 0; h < H; h++) {
            float *restrict a = dx + ((size_t)row * (size_t)H + (size_t)h) * (size_t)D;
            float *restrict b = a + half;
            for (int i = 0; i < half; i++) {
                float first = a[i], second = b[i];
                a[i] = first * c[i] + second * s[i];
                b[i] = second * c[i] - first * s[i];
            }
        }
    }
}
