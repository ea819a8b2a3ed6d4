/* residual: nothing is lost, only late. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "quant/residual.h"
#include "unit/quant/values.h"

enum { COUNT = 1000 };

/* The exact steps, in f32. */
static void steps(void **state) {
    (void)state;
    float difference[3] = {1, 2, 16}, e[3] = {0.5f, -2, 1}, pending[3];
    uint8_t payload[4];
    /* x = 1.5, 0, 17; 17 <= 16 s: s = 2; 1.5 is between 1 and 2, a tie, to the even code 2; 17 is nearest to 16 */
    assert_int_equal(codec_get(CODEC_E3M0)->encode_fed(difference, e, 3, payload, pending), STATUS_OK);
    assert_true(pending[0] == 0.5f && pending[1] == 0 && pending[2] == 1);
    residual_settle(e, pending, 0.25f, 3);
    assert_true(e[0] == 0.125f && e[1] == 0 && e[2] == 0.25f);
}

static void send(const struct codec *codec, const float *difference, float *residual, float *decoded) {
    uint8_t payload[4 * COUNT];
    float pending[COUNT];
    assert_int_equal(codec->encode_fed(difference, residual, COUNT, payload, pending), STATUS_OK);
    assert_int_equal(codec->decode(payload, COUNT, decoded), STATUS_OK);
    residual_settle(residual, pending, 1, COUNT);
}

/* sum of sent + residual = sum of inputs, up to the rounding of the sums. */
static void nothing_is_lost(void **state) {
    (void)state;
    for (int id = 0; id < CODEC_COUNT; id++) {
        static float x[COUNT], residual[COUNT], decoded[COUNT];
        static double given[COUNT], sent[COUNT];
        uint64_t random = 21;
        memset(residual, 0, sizeof residual);
        memset(given, 0, sizeof given);
        memset(sent, 0, sizeof sent);
        double size = 0;
        for (int round = 0; round < 50; round++) {
            for (int i = 0; i < COUNT; i++) {
                x[i] = values_draw(&random, VALUES_NORMAL);
                given[i] += (double)x[i];
                size = fmax(size, fabs((double)x[i]));
            }
            send(codec_get((enum codec_id)id), x, residual, decoded);
            for (int i = 0; i < COUNT; i++)
                sent[i] += (double)decoded[i];
        }
        for (int i = 0; i < COUNT; i++)
            assert_true(fabs(sent[i] + (double)residual[i] - given[i]) <= 50 * 2 * size * 0x1p-23);
    }
}

/* A constant that the codec cannot hold is recovered by the average over time, with the residual bounded; without error feedback
 * it never is. */
static void a_constant_is_recovered(void **state) {
    (void)state;
    enum { ROUNDS = 400 };
    static const enum codec_id lossy[] = {CODEC_BF16, CODEC_INT8, CODEC_INT4, CODEC_E3M0};
    for (size_t c = 0; c < sizeof lossy / sizeof *lossy; c++) {
        const struct codec *codec = codec_get(lossy[c]);
        static float constant[COUNT], residual[COUNT], decoded[COUNT];
        static double sent[COUNT];
        uint8_t payload[4 * COUNT];
        uint64_t random = 31;
        double once = 0, average = 0, total = 0, worst_residual = 0;
        memset(residual, 0, sizeof residual);
        memset(sent, 0, sizeof sent);
        for (int i = 0; i < COUNT; i++)
            constant[i] = values_draw(&random, VALUES_NORMAL);
        for (int round = 0; round < ROUNDS; round++) {
            send(codec, constant, residual, decoded);
            for (int i = 0; i < COUNT; i++) {
                sent[i] += (double)decoded[i];
                worst_residual = fmax(worst_residual, fabs((double)residual[i]));
            }
        }
        assert_int_equal(codec->encode(constant, COUNT, payload), STATUS_OK);
        assert_int_equal(codec->decode(payload, COUNT, decoded), STATUS_OK);
        for (int i = 0; i < COUNT; i++) {
            once += pow((double)decoded[i] - (double)constant[i], 2);
            average += pow(sent[i] / ROUNDS - (double)constant[i], 2);
            total += pow((double)constant[i], 2);
        }
        assert_true(worst_residual < 0.01); /* ten standard deviations: it does not run away */
        assert_true(sqrt(average / once) < 0.02);
        assert_true(sqrt(average / total) < 0.002);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps),
        cmocka_unit_test(nothing_is_lost),
        cmocka_unit_test(a_constant_is_recovered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
