/* attention: every instruction set that this machine has, against the plain one; what comes after a query cannot reach it; what is asked
 * for of far memory. The values themselves: reference_test.c. */
#include "model/attention.c" /* the sets behind the door */
#include "base/rng.h"
#include "support.h"

struct kernel_set {
    const char *name;
    void (*forward)(struct attention_sizes sizes, const struct attention_inputs *in, float *out, float *lse,
                    float *memory);
    void (*backward)(struct attention_sizes sizes, const struct attention_inputs *in, const float *out,
                     const float *lse, const float *dout, const struct attention_gradients *gradients, float *memory);
};

static int sets_of_machine(struct kernel_set sets[3]) {
    int count = 0;
    sets[count++] = (struct kernel_set){"plain", forward_plain, backward_plain};
#if VECTOR_LEVELS
    if (__builtin_cpu_supports("x86-64-v3"))
        sets[count++] = (struct kernel_set){"x86-64-v3", forward_v3, backward_v3};
    if (__builtin_cpu_supports("x86-64-v4"))
        sets[count++] = (struct kernel_set){"x86-64-v4", forward_v4, backward_v4};
#endif
    return count;
}

/* Inputs, and the results of one set. */
struct operands {
    struct attention_sizes sizes;
    size_t queries, keys, rows;
    float *q, *k, *v, *q_norm, *k_norm, *cosine, *sine, *dout, *out, *lse;
    float *dq, *dk, *dv, *dq_norm, *dk_norm, *scratch;
};

static float *drawn(size_t count, uint64_t stream) {
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = rng_normal(3, stream, i);
    return values;
}

static struct operands operands_open(int B, int T, int H, int K, int D) {
    struct operands o = {.sizes = {.B = B, .T = T, .H = H, .K = K, .D = D}};
    o.queries = (size_t)(B * T * H * D);
    o.keys = (size_t)(B * T * K * D);
    o.rows = (size_t)(B * T * H);
    o.q = drawn(o.queries, 1);
    o.k = drawn(o.keys, 2);
    o.v = drawn(o.keys, 3);
    o.dout = drawn(o.queries, 4);
    o.out = drawn(o.queries, 5);
    o.lse = drawn(o.rows, 6);
    o.dq = drawn(o.queries, 7);
    o.dk = drawn(o.keys, 8);
    o.dv = drawn(o.keys, 9);
    o.q_norm = drawn((size_t)D, 10);
    o.k_norm = drawn((size_t)D, 11);
    o.dq_norm = drawn((size_t)D, 12);
    o.dk_norm = drawn((size_t)D, 13);
    o.cosine = drawn((size_t)(T * (D / 2)), 14);
    o.sine = drawn((size_t)(T * (D / 2)), 15);
    rope_fill_table(T, D, 1e4, o.cosine, o.sine);
    o.scratch = malloc(attention_scratch_floats(o.sizes) * sizeof(float));
    assert_non_null(o.scratch);
    for (size_t i = 0; i < attention_scratch_floats(o.sizes); i++)
        o.scratch[i] = NAN; /* nothing may be read there that was not written */
    return o;
}

static void operands_close(struct operands *o) {
    float *all[] = {o->q,   o->k,   o->v,  o->q_norm, o->k_norm, o->cosine,  o->sine,    o->dout,
                    o->out, o->lse, o->dq, o->dk,     o->dv,     o->dq_norm, o->dk_norm, o->scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static void run_set(const struct kernel_set *set, struct operands *o) {
    const struct attention_inputs in = {o->q, o->k, o->v, o->q_norm, o->k_norm, o->cosine, o->sine, 1e-6F};
    const struct attention_gradients gradients = {o->dq, o->dk, o->dv, o->dq_norm, o->dk_norm};
    set->forward(o->sizes, &in, o->out, o->lse, o->scratch);
    set->backward(o->sizes, &in, o->out, o->lse, o->dout, &gradients, o->scratch);
}

/* Sums of at most T * D products of values of about 1, in another order and with fused products. */
static void expect_near(const char *set, const char *what, const float *found, const float *expected, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!(fabsf(found[i] - expected[i]) <= 2e-5F))
            fail_msg("%s: %s[%zu] is %g, expected %g", set, what, i, (double)found[i], (double)expected[i]);
}

static void all_sets_agree(void **state) {
    (void)state;
    static const struct attention_sizes shapes[] = {{2, 1, 2, 1, 2},    {1, 5, 2, 2, 6},    {1, 64, 2, 2, 16},
                                                    {1, 65, 1, 1, 34},  {2, 130, 4, 2, 48}, {1, 191, 3, 1, 64},
                                                    {1, 140, 2, 1, 80}, {1, 68, 1, 1, 128}};
    struct kernel_set sets[3];
    int count = sets_of_machine(sets);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct attention_sizes s = shapes[i];
        struct operands plain = operands_open(s.B, s.T, s.H, s.K, s.D);
        run_set(&sets[0], &plain);
        for (int set = 1; set < count; set++) {
            struct operands other = operands_open(s.B, s.T, s.H, s.K, s.D);
            run_set(&sets[set], &other);
            expect_near(sets[set].name, "out", other.out, plain.out, plain.queries);
            expect_near(sets[set].name, "lse", other.lse, plain.lse, plain.rows);
            expect_near(sets[set].name, "dq", other.dq, plain.dq, plain.queries);
            expect_near(sets[set].name, "dk", other.dk, plain.dk, plain.keys);
            expect_near(sets[set].name, "dv", other.dv, plain.dv, plain.keys);
            expect_near(sets[set].name, "dq norm", other.dq_norm, plain.dq_norm, (size_t)s.D);
            expect_near(sets[set].name, "dk norm", other.dk_norm, plain.dk_norm, (size_t)s.D);
            operands_close(&other);
        }
        operands_close(&plain);
    }
}

/* Of one head: everything from position `first` on becomes large, and what is before it keeps its bits. */
static void later_positions_do_not_reach_earlier_ones(void **state) {
    (void)state;
    enum { T = 150, D = 20 };
    static const int firsts[] = {1, 13, 64, 100, 128};
    struct kernel_set sets[3];
    int count = sets_of_machine(sets);
    for (int set = 0; set < count; set++)
        for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
            struct operands whole = operands_open(1, T, 1, 1, D), cut = operands_open(1, T, 1, 1, D);
            size_t before = (size_t)(firsts[i] * D);
            run_set(&sets[set], &whole);
            for (size_t j = before; j < whole.queries; j++) {
                cut.q[j] *= 100;
                cut.k[j] *= -100;
                cut.v[j] *= -1e6F;
            }
            run_set(&sets[set], &cut);
            assert_memory_equal(cut.out, whole.out, before * sizeof(float));
            assert_memory_equal(cut.lse, whole.lse, (size_t)firsts[i] * sizeof(float));
            assert_memory_equal(cut.dq, whole.dq, before * sizeof(float));
            assert_true(cut.out[before] != whole.out[before] && cut.lse[firsts[i]] != whole.lse[firsts[i]]);
            operands_close(&whole);
            operands_close(&cut);
        }
}

/* What is not finite is seen in what depends on it: a diverged model must not look sound. */
static void what_is_not_finite_is_not_hidden(void **state) {
    (void)state;
    enum { T = 70, D = 20 };
    struct kernel_set sets[3];
    int count = sets_of_machine(sets);
    for (int set = 0; set < count; set++)
        for (int which = 0; which < 4; which++) {
            struct operands o = operands_open(1, T, 1, 1, D);
            float *inputs[] = {o.q, o.k, o.v, o.dout};
            inputs[which][30 * D + 3] = which < 2 ? NAN : INFINITY;
            run_set(&sets[set], &o);
            assert_true(which == 3 || !isfinite(o.out[30 * D + 3]));
            assert_false(isfinite(o.dq[30 * D + 3]));
            operands_close(&o);
        }
}

/* The index of a tile among those of all heads. */
static int tile_index(const struct layout *l, int head, int first) {
    return head * ((l->T + TILE - 1) / TILE) + first / TILE;
}

/* A pass whose products ask for `asks` rows with each tile: what is asked for is never more than AHEAD_TILES ahead, not behind (what is
 * written: not a tile behind), and lies in the array's rows; where the products last long enough it is every row but the first tile's, once. */
static void check_ahead(struct attention_sizes sizes, int asks, bool written, bool all) {
    const struct layout l = layout_of(sizes);
    size_t queries = (size_t)(sizes.B * sizes.T * sizes.H * sizes.D);
    float *q = calloc(queries, sizeof *q);
    unsigned char *asked = calloc(queries, 1);
    assert_non_null(q);
    assert_non_null(asked);
    struct ahead ahead;
    ahead_begin(&ahead, &l, written ? &(struct far){.dq = q} : &(struct far){.q = q});
    for (int head = 0; head < l.heads; head++)
        for (int first = 0; first < l.T; first += TILE) {
            ahead_allow(&ahead);
            for (int i = 0; i < asks; i++) {
                int tile = tile_index(&l, ahead.head, ahead.first) - tile_index(&l, head, first);
                if (ahead.step == 0)
                    continue;
                assert_in_range(tile, written ? 0 : 1, AHEAD_TILES);
                size_t at = (ahead.at - (uintptr_t)q) / sizeof *q, second = ahead.second / sizeof *q;
                for (size_t j = 0; j < AHEAD_COLUMNS; j++) {
                    size_t element = at + j % (AHEAD_COLUMNS / 2) + (j < AHEAD_COLUMNS / 2 ? 0 : second);
                    if (element < queries && element % l.query_stride / (size_t)l.D == (size_t)(ahead.head % l.H))
                        asked[element]++;
                }
                ahead.at += ahead.step;
                if (--ahead.left <= 0)
                    ahead_next(&ahead);
            }
        }
    for (size_t i = 0; all && i < queries; i++) {
        size_t position = i / l.query_stride, head = i % l.query_stride / (size_t)l.D;
        assert_int_equal(asked[i], position < TILE && head == 0 ? 0 : 1);
    }
    free(q);
    free(asked);
}

static void far_memory_is_asked_for_in_time(void **state) {
    (void)state;
    check_ahead((struct attention_sizes){.B = 1, .T = 4096, .H = 2, .K = 2, .D = 64}, 10000, false, true);
    check_ahead((struct attention_sizes){.B = 1, .T = 4096, .H = 2, .K = 2, .D = 64}, 70, true, true);
    check_ahead((struct attention_sizes){.B = 1, .T = 1024, .H = 3, .K = 3, .D = 64}, 20, false,
                false); /* always late */
    check_ahead((struct attention_sizes){.B = 1, .T = 1024, .H = 3, .K = 3, .D = 64}, 20, true, false);
    check_ahead((struct attention_sizes){.B = 1, .T = 256, .H = 4, .K = 4, .D = 32}, 1000, false, true);
    check_ahead((struct attention_sizes){.B = 1, .T = 128, .H = 1, .K = 1, .D = 96}, 1000, false, true);
    check_ahead((struct attention_sizes){.B = 1, .T = 20, .H = 3, .K = 3, .D = 128}, 1000, false, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_sets_agree), cmocka_unit_test(later_positions_do_not_reach_earlier_ones),
        cmocka_unit_test(what_is_not_finite_is_not_hidden), cmocka_unit_test(far_memory_is_asked_for_in_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
