/* Tests of comms/pace, on a clock of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "comms/pace.h"

static uint64_t random_state;

static uint64_t random_below(uint64_t limit) { /* splitmix64 */
    uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % limit;
}

/* 1316 bytes, the header's 48 and the frames' 84 fill one segment of 1448. */
static void test_wire_bytes(void **state) {
    (void)state;
    assert_int_equal(pace_wire_bytes(0), 132 + 66);
    assert_int_equal(pace_wire_bytes(1), 133 + 66);
    assert_int_equal(pace_wire_bytes(1316), 1448 + 66);
    assert_int_equal(pace_wire_bytes(1317), 1449 + 2 * 66);
    assert_int_equal(pace_wire_bytes(262144), 262276 + 182 * 66); /* 4.6 % over the payload */
}

static void test_full_at_the_start_then_paced(void **state) {
    (void)state;
    struct pace pace;
    uint64_t now = 5000000, wire = pace_wire_bytes(1000);
    pace_open(&pace, 1000000, 1000, now); /* one byte per microsecond */
    assert_int_equal(pace_delay_us(&pace, 1000, now), 0);
    assert_true(pace_take(&pace, 1000, now));
    assert_int_equal(pace_delay_us(&pace, 1000, now), wire);
    assert_false(pace_take(&pace, 1000, now));
    assert_false(pace_take(&pace, 1000, now + wire - 1));
    assert_int_equal(pace_delay_us(&pace, 1000, now + wire - 1), 1);
    assert_true(pace_take(&pace, 1000, now + wire));
    /* idleness fills it to one chunk and no more */
    now += 3600 * UINT64_C(1000000);
    assert_true(pace_take(&pace, 1000, now));
    assert_false(pace_take(&pace, 1, now));
}

static void test_unlimited(void **state) {
    (void)state;
    struct pace pace;
    pace_open(&pace, 0, 262144, 0);
    for (int i = 0; i < 1000; i++) {
        assert_true(pace_take(&pace, 262144, 0));
        pace_charge(&pace, 262144, 0);
        assert_int_equal(pace_delay_us(&pace, 262144, 0), 0);
    }
}

static void test_control_is_charged_and_never_held(void **state) {
    (void)state;
    struct pace pace;
    pace_open(&pace, 1000000, 1000, 0);
    for (int i = 0; i < 10; i++)
        pace_charge(&pace, 1000, 0);
    uint64_t wire = pace_wire_bytes(1000);
    /* nine wires of debt, then one for the chunk itself */
    assert_int_equal(pace_delay_us(&pace, 1000, 0), 10 * wire);
    assert_false(pace_take(&pace, 1000, 10 * wire - 1));
    assert_true(pace_take(&pace, 1000, 10 * wire));
}

static void test_message_larger_than_the_burst(void **state) {
    (void)state;
    struct pace pace;
    pace_open(&pace, 1000000, 1000, 0);
    assert_true(pace_take(&pace, 50000, 0)); /* full: it goes, and leaves a debt */
    uint64_t burst = pace_wire_bytes(1000), wire = pace_wire_bytes(50000);
    assert_int_equal(pace_delay_us(&pace, 50000, 0), wire);
    assert_int_equal(pace_delay_us(&pace, 1000, 0), wire);
    assert_true(pace_take(&pace, 1000, wire));
    assert_true(burst < wire);
}

static void test_clock_that_stands_or_goes_back(void **state) {
    (void)state;
    struct pace pace;
    pace_open(&pace, 1000000, 1000, 1000000);
    assert_true(pace_take(&pace, 1000, 1000000));
    assert_false(pace_take(&pace, 1000, 0));
    assert_false(pace_take(&pace, 1000, 1000000));
    assert_true(pace_take(&pace, 1000, 1000000 + pace_wire_bytes(1000)));
}

/* The delay is exact: one microsecond earlier is too early. And asking often loses no byte to rounding. */
static void test_delay_is_exact_at_odd_rates(void **state) {
    (void)state;
    static const uint64_t caps[] = {1, 3, 7, 999, 31250, 1250000, 999999937, UINT64_C(12500000000)};
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        struct pace pace;
        uint64_t now = 0;
        pace_open(&pace, caps[i], 4096, now);
        uint64_t taken = 0;
        for (int n = 0; n < 200; n++) {
            uint64_t bytes = 1 + random_below(4096);
            uint64_t delay = pace_delay_us(&pace, bytes, now);
            if (delay > 0) {
                struct pace early = pace;
                assert_false(pace_take(&early, bytes, now + delay - 1));
            }
            for (int looks = 0; looks < 5; looks++) /* many looks on the way */
                pace_delay_us(&pace, bytes, now + delay * (uint64_t)looks / 5);
            now += delay;
            assert_true(pace_take(&pace, bytes, now));
            taken += pace_wire_bytes(bytes);
        }
        /* all but the first burst and what one microsecond earns was waited for */
        uint64_t earned = (uint64_t)((double)caps[i] * (double)now / 1e6);
        assert_true(taken <= earned + pace_wire_bytes(4096) + 1);
    }
}

/* cap * microseconds passes 64 bits: the first product is exactly 2^64. */
static void test_long_idleness(void **state) {
    (void)state;
    static const uint64_t idle_us[] = {UINT64_C(1) << 32, UINT64_MAX / 2};
    for (size_t i = 0; i < 2; i++) {
        struct pace pace;
        pace_open(&pace, UINT64_C(1) << 32, 4096, 0);
        assert_true(pace_take(&pace, 4096, 0));
        assert_true(pace_take(&pace, 4096, idle_us[i]));
        assert_false(pace_take(&pace, 4096, idle_us[i]));
    }
}

/* In any window of w seconds at most cap * w + one chunk: every pair of sent messages is the edge of a window. Random sizes, random
 * times of asking, control in between counted apart. */
static void test_no_window_passes_the_cap(void **state) {
    (void)state;
    enum { MESSAGES = 400, CHUNK = 4096 };
    static uint64_t at[MESSAGES], bytes[MESSAGES];
    random_state = 1;
    for (int run = 0; run < 60; run++) {
        uint64_t cap = 1 + random_below(run % 2 ? 100000 : 100000000);
        uint64_t mean_us = pace_wire_bytes(CHUNK) * 1000000 / cap + 1;
        struct pace pace;
        uint64_t now = random_below(1000000000);
        pace_open(&pace, cap, CHUNK, now);
        for (size_t count = 0; count < MESSAGES;) {
            uint64_t size = random_below(CHUNK + 1);
            if (random_below(50) == 0)
                now += random_below(20 * mean_us); /* idle for a while */
            if (pace_take(&pace, size, now)) {
                at[count] = now;
                bytes[count++] = pace_wire_bytes(size);
            } else {
                now += random_below(4) ? pace_delay_us(&pace, size, now) : random_below(mean_us);
            }
        }
        for (size_t first = 0; first < MESSAGES; first++) {
            uint64_t sum = 0;
            for (size_t last = first; last < MESSAGES; last++) {
                sum += bytes[last];
                double allowed = (double)cap * (double)(at[last] - at[first]) / 1e6 + (double)pace_wire_bytes(CHUNK);
                assert_true((double)sum <= allowed + 1e-6 * allowed);
            }
        }
    }
}

/* Constant demand, whatever the sizes: at least 99 % of the cap, with a sleeper that is up to 100 us late on chunks of 100 ms. */
static void test_throughput_reaches_the_cap(void **state) {
    (void)state;
    static const uint64_t caps[] = {31250, 40960, 125000, 1250000, 2621440};
    random_state = 2;
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++)
        for (int mixed = 0; mixed < 2; mixed++) {
            uint32_t chunk = (uint32_t)(caps[i] / 10 < 4096 ? 4096 : caps[i] / 10);
            struct pace pace;
            uint64_t now = 0, end = 100 * UINT64_C(1000000), sent = 0;
            pace_open(&pace, caps[i], chunk, now);
            while (now < end) {
                uint64_t size = mixed ? 1 + random_below(chunk) : chunk;
                uint64_t delay;
                while ((delay = pace_delay_us(&pace, size, now)) > 0)
                    now += delay + random_below(100);
                assert_true(pace_take(&pace, size, now));
                sent += pace_wire_bytes(size);
            }
            assert_true((double)sent >= 0.99 * (double)caps[i] * (double)now / 1e6);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_bytes),
        cmocka_unit_test(test_full_at_the_start_then_paced),
        cmocka_unit_test(test_unlimited),
        cmocka_unit_test(test_control_is_charged_and_never_held),
        cmocka_unit_test(test_message_larger_than_the_burst),
        cmocka_unit_test(test_clock_that_stands_or_goes_back),
        cmocka_unit_test(test_delay_is_exact_at_odd_rates),
        cmocka_unit_test(test_long_idleness),
        cmocka_unit_test(test_no_window_passes_the_cap),
        cmocka_unit_test(test_throughput_reaches_the_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
