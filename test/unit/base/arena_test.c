#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/arena.h"

static void pieces_are_aligned_zero_and_apart(void **state) {
    (void)state;
    struct arena arena;
    struct error error;
    static const size_t sizes[] = {1, 63, 64, 65, 4096, 100000};
    size_t capacity = 0;
    for (size_t i = 0; i < 6; i++)
        capacity += arena_round(sizes[i]);
    assert_int_equal(capacity, 64 + 64 + 64 + 128 + 4096 + 100032);
    assert_int_equal(arena_open(&arena, capacity, &error), STATUS_OK);
    for (size_t i = 0; i < 6; i++) {
        unsigned char *piece = arena_take(&arena, sizes[i]);
        assert_int_equal((uintptr_t)piece % ARENA_ALIGNMENT, 0);
        for (size_t b = 0; b < sizes[i]; b++)
            assert_int_equal(piece[b], 0);
        memset(piece, 0xff, sizes[i]); /* overlap would be seen by the next piece */
    }
    assert_int_equal(arena.used_bytes, arena.capacity_bytes); /* exactly what arena_round promised */
    arena_close(&arena);
    assert_null(arena.base);
    arena_close(&arena); /* harmless */
}

static void counting_tells_the_capacity(void **state) {
    (void)state;
    struct arena arena = arena_counting();
    assert_null(arena_take(&arena, 65));
    assert_null(arena_take(&arena, (size_t)1 << 40));
    assert_int_equal(arena.used_bytes, 128 + ((size_t)1 << 40));
    arena_close(&arena); /* harmless */
}

static void rounding(void **state) {
    (void)state;
    assert_int_equal(arena_round(0), 0);
    assert_int_equal(arena_round(1), 64);
    assert_int_equal(arena_round(64), 64);
    assert_int_equal(arena_round(65), 128);
}

static void too_much_is_said(void **state) {
    (void)state;
    struct arena arena = {0};
    struct error error;
    assert_int_equal(arena_open(&arena, (size_t)1 << 60, &error), STATUS_NO_MEMORY);
    assert_non_null(strstr(error.text, "cannot reserve 1152921504 GB of memory: "));
    assert_null(arena.base);
    assert_int_equal(arena_open(&arena, 0, &error), STATUS_OK);
    arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_aligned_zero_and_apart),
        cmocka_unit_test(counting_tells_the_capacity),
        cmocka_unit_test(rounding),
        cmocka_unit_test(too_much_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
