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

/* 1316 bytes, the header's 48 and the frames' 84 fill one segment of 1448; 1406 do so in a control message, which is one frame. */
static void test_wire_bytes(void **state) {
    (void)state;
    assert_int_equal(pace_wire_bytes(0), 132 + 66);
    assert_int_equal(pace_wire_bytes(1), 133 + 66);
    assert_int_equal(pace_wire_bytes(1316), 1448 + 66);
    assert_int_equal(pace_wire_bytes(1317), 1449 + 2 * 66);
    assert_int_equal(pace_wire_bytes(262144), 262276 + 182 * 66); /* 4.6 % over the payload */
    assert_int_equal(pace_control_wire_bytes(0), 42 + 66);
    assert_int_equal(pace_control_wire_bytes(1406), 1448 + 66);
    assert_int_equal(pace_control_wire_bytes(1407), 1449 + 2 * 66);
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
        pace_charge_control(&pace, 65536, 0);
        assert_int_equal(pace_delay_us(&pace, 262144, 0), 0);
    }
}

static void test_control_is_charged_and_never_held(void **state) {
    (void)state;
    struct pace pace;
    pace_open(&pace, 1000000, 1000, 0);
    for (int i = 0; i < 5; i++)
        pace_charge_control(&pace, 20, 0);
    uint64_t control = 20 + 33 + 9 + 66;
    assert_int_equal(pace_control_wire_bytes(20), control);
    assert_int_equal(pace_delay_us(&pace, 1000, 0), 5 * control);
    assert_false(pace_take(&pace, 1000, 5 * control - 1));
    assert_true(pace_take(&pace, 1000, 5 * control));
}

/* However much control there was at once: a chunk goes when two bursts are earned, its own and that of the debt. */
static void test_debt_of_control_is_one_burst(void **state) {
    (void)state;
    struct pace pace;
    uint64_t burst = pace_wire_bytes(1000);
    pace_open(&pace, 1000000, 1000, 0);
    assert_true(pace_take(&pace, 1000, 0));
    for (int i = 0; i < 10000; i++)
        pace_charge_control(&pace, 1000, 0);
    assert_int_equal(pace_delay_us(&pace, 1000, 0), 2 * burst);
    assert_true(pace_take(&pace, 1000, 2 * burst));
    pace_charge_control(&pace, 1000, 2 * burst); /* two bursts were earned since: it may have one more */
    assert_int_equal(pace_delay_us(&pace, 1000, 2 * burst), burst + pace_control_wire_bytes(1000));
}

/* Half of the cap is left to chunks, whatever control there is; and what control does not take is theirs too. */
static void test_control_leaves_half_of_the_cap(void **state) {
    (void)state;
    static const uint64_t every_us[] = {100, 1000, 10000, 100000};
    static const uint64_t caps[] = {3750, 7500, 1000000}; /* 30 kbit/s, 60 kbit/s */
    for (size_t c = 0; c < sizeof caps / sizeof caps[0]; c++)
        for (size_t e = 0; e < sizeof every_us / sizeof every_us[0]; e++) {
            struct pace pace;
            uint64_t sent = 0, control = 0, seconds = 200;
            pace_open(&pace, caps[c], 4096, 0);
            for (uint64_t now = 0; now < seconds * 1000000; now += every_us[e]) {
                pace_charge_control(&pace, 40, now);
                control += pace_control_wire_bytes(40);
                uint64_t delay = pace_delay_us(&pace, 4096, now);
                if (delay < every_us[e] && pace_take(&pace, 4096, now + delay))
                    sent += pace_wire_bytes(4096);
            }
            uint64_t earned = caps[c] * seconds, half = earned / 2, burst = pace_wire_bytes(4096);
            uint64_t taken = control < half ? control : half;
            uint64_t asked = burst * (seconds * 1000000 / every_us[e]); /* one a turn at most */
            uint64_t wanted = earned - taken < asked ? earned - taken : asked;
            assert_in_range(sent + 3 * burst, wanted, wanted + 6 * burst);
        }
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
        cmocka_unit_test(test_debt_of_control_is_one_burst),
        cmocka_unit_test(test_control_leaves_half_of_the_cap),
        cmocka_unit_test(test_message_larger_than_the_burst),
        cmocka_unit_test(test_clock_that_stands_or_goes_back),
        cmocka_unit_test(test_delay_is_exact_at_odd_rates),
        cmocka_unit_test(test_long_idleness),
        cmocka_unit_test(test_no_window_passes_the_cap),
        cmocka_unit_test(test_throughput_reaches_the_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
