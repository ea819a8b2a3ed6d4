/* outer_copy: the packed layout, what goes back into a block, hashes and sizes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "copy_fixture.h"

static struct fixture fixture;

static int open_it(void **state) {
    (void)state;
    fixture_open(&fixture, "e3m0", "nesterov", true);
    return 0;
}

static int close_it(void **state) {
    (void)state;
    fixture_close(&fixture);
    return 0;
}

static void fragments_lie_one_after_another(void **state) {
    (void)state;
    const struct outer_copy *copy = &fixture.copy;
    size_t end = 0;
    assert_int_equal(fixture.fragments.count, 3);
    for (int f = 0; f < 3; f++) {
        assert_int_equal(copy->offsets[f] % 16, 0);
        assert_true(copy->offsets[f] >= end && copy->offsets[f] < end + 16);
        end = copy->offsets[f] + fixture.fragments.list[f].count;
    }
    assert_true(end <= copy->packed_floats);
    for (int f = 0; f < 3; f++) {
        const struct fragment *fragment = &fixture.fragments.list[f];
        const float *g = copy->g + copy->offsets[f];
        for (int s = 0; s < fragment->span_count; g += fragment->spans[s++].count)
            assert_memory_equal(g, fixture.block + fragment->spans[s].offset, fragment->spans[s].count * sizeof *g);
    }
    for (size_t i = 0; i < copy->packed_floats; i++)
        assert_true(copy->u[i] == 0);
}

static void to_block_is_the_way_back(void **state) {
    (void)state;
    size_t floats = fixture.table.block_floats;
    float *block = test_calloc(floats, sizeof *block);
    outer_copy_to_block(&fixture.copy, block);
    for (int f = 0; f < 3; f++)
        for (int s = 0; s < fixture.fragments.list[f].span_count; s++) {
            const struct codec_span *span = &fixture.fragments.list[f].spans[s];
            assert_memory_equal(block + span->offset, fixture.block + span->offset, span->count * sizeof *block);
        }
    test_free(block);
}

static void the_hash_sees_every_fragment_g_and_u(void **state) {
    (void)state;
    struct outer_copy *copy = &fixture.copy;
    struct state_hash before, after, parts[3], whole;
    outer_copy_hash_all(copy, &before);
    for (int f = 0; f < 3; f++)
        outer_copy_hash(copy, f, copy->g + copy->offsets[f], &parts[f]);
    state_hash_combine(parts, 3, &whole);
    assert_true(state_hash_equal(&before, &whole));
    for (int f = 0; f < 3; f++)
        for (int which = 0; which < 2; which++) {
            float *value = (which ? copy->u : copy->g) + copy->offsets[f] + fixture.fragments.list[f].count - 1;
            float kept = *value;
            *value += 1;
            outer_copy_hash_all(copy, &after);
            assert_false(state_hash_equal(&before, &after));
            *value = kept;
        }
    outer_copy_hash_all(copy, &after);
    assert_true(state_hash_equal(&before, &after));
}

/* g prepared aside has the hash that the copy will have. */
static void a_next_g_may_lie_aside(void **state) {
    (void)state;
    struct outer_copy *copy = &fixture.copy;
    struct state_hash aside, inside;
    size_t bytes = fixture.fragments.list[1].count * sizeof(float);
    float *next = test_malloc(bytes);
    memcpy(next, copy->g + copy->offsets[1], bytes);
    next[3] += 1;
    outer_copy_hash(copy, 1, next, &aside);
    memcpy(copy->g + copy->offsets[1], next, bytes);
    outer_copy_hash(copy, 1, copy->g + copy->offsets[1], &inside);
    assert_true(state_hash_equal(&aside, &inside));
    test_free(next);
}

static void payload_sizes(void **state) {
    (void)state;
    for (int f = 0; f < 3; f++) {
        size_t bytes = 0;
        for (int s = 0; s < fixture.fragments.list[f].span_count; s++) {
            size_t count = fixture.fragments.list[f].spans[s].count;
            bytes += (count + 1) / 2 + (count + 127) / 128; /* 4 bits each, a byte per block of 128 */
        }
        assert_int_equal(outer_copy_payload_up(&fixture.copy, f), bytes);
        assert_int_equal(outer_copy_payload_down(&fixture.copy, f), bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(fragments_lie_one_after_another, open_it, close_it),
        cmocka_unit_test_setup_teardown(to_block_is_the_way_back, open_it, close_it),
        cmocka_unit_test_setup_teardown(the_hash_sees_every_fragment_g_and_u, open_it, close_it),
        cmocka_unit_test_setup_teardown(a_next_g_may_lie_aside, open_it, close_it),
        cmocka_unit_test_setup_teardown(payload_sizes, open_it, close_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
