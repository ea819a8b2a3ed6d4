/* outer_compute: jobs come back in the order given, with their results; close drops what waits. No clock: a semaphore counts the wakes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <semaphore.h>
#include "comms/transfer.h"
#include "copy_fixture.h"
#include "outer/outer_compute.h"

enum { CHECKS = 500 }; /* faster given than done: the queue grows */

static struct fixture fixture;
static sem_t wakes;

static void wake(void *context) {
    sem_post(context);
}

static struct outer_compute *open_compute(void) {
    struct outer_compute *compute;
    struct error error;
    fixture_open(&fixture, "e3m0", "nesterov", true);
    sem_init(&wakes, 0, 0);
    assert_int_equal(outer_compute_open(&fixture.maker, wake, &wakes, &compute, &error), STATUS_OK);
    return compute;
}

static struct outer_job next(struct outer_compute *compute) {
    struct outer_job job;
    sem_wait(&wakes);
    assert_true(outer_compute_collect(compute, &job));
    return job;
}

static void in_order_with_results(void **state) {
    (void)state;
    struct outer_compute *compute = open_compute();
    struct outer_job job;
    assert_false(outer_compute_collect(compute, &job));
    float *values = test_malloc(fixture.fragments.largest_count * sizeof *values);
    uint8_t *good = fixture_payload(&fixture, 0, 1, values);
    size_t bytes = outer_copy_payload_up(&fixture.copy, 0);
    uint8_t *bad = test_malloc(bytes), *made = test_malloc(outer_copy_payload_down(&fixture.copy, 0));
    double norm = mean_norm(values, fixture.fragments.list[0].count);
    memset(bad, 0xff, bytes);
    for (uint32_t i = 0; i < CHECKS; i++) {
        struct outer_job check = {.kind = OUTER_JOB_CHECK, .slot = i % 64, .version = i, .part_count = 1};
        check.parts[0] = (struct commit_part){i % 7 == 2 ? bad : good, bytes, 0};
        outer_compute_submit(compute, &check);
    }
    struct outer_job commit = {.kind = OUTER_JOB_COMMIT, .version = 1, .part_count = 1, .payload = made};
    commit.parts[0] = (struct commit_part){good, bytes, 10};
    outer_compute_submit(compute, &commit);
    for (uint32_t i = 0; i < CHECKS; i++) {
        job = next(compute);
        assert_int_equal(job.kind, OUTER_JOB_CHECK);
        assert_int_equal(job.slot, i % 64);
        assert_int_equal(job.version, i);
        assert_int_equal(job.status, i % 7 == 2 ? STATUS_DATA : STATUS_OK);
        assert_true(job.norm == (i % 7 == 2 ? 0 : norm));
    }
    job = next(compute);
    assert_int_equal(job.kind, OUTER_JOB_COMMIT);
    assert_int_equal(job.status, STATUS_OK);
    assert_false(outer_compute_collect(compute, &commit));
    outer_compute_close(compute);
    uint8_t hash[MESSAGE_HASH_BYTES];
    struct state_hash now;
    transfer_payload_hash(made, outer_copy_payload_down(&fixture.copy, 0), hash);
    assert_memory_equal(job.payload_hash, hash, sizeof hash);
    outer_copy_hash(&fixture.copy, 0, fixture.copy.g + fixture.copy.offsets[0], &now);
    assert_true(state_hash_equal(&job.state_hash, &now));
    test_free(values), test_free(good), test_free(bad), test_free(made);
    fixture_close(&fixture);
}

/* How many of the jobs are done before close is chance; each of them is done whole, in order, and the rest not at all. */
static void close_drops_what_waits(void **state) {
    (void)state;
    enum { JOBS = 300 };
    struct outer_compute *compute = open_compute();
    float *values = test_malloc(fixture.fragments.largest_count * sizeof *values);
    uint8_t *good = fixture_payload(&fixture, 0, 1, values),
            *made = test_malloc(outer_copy_payload_down(&fixture.copy, 0));
    struct outer_job job = {.kind = OUTER_JOB_COMMIT, .part_count = 1, .payload = made};
    job.parts[0] = (struct commit_part){good, outer_copy_payload_up(&fixture.copy, 0), 10};
    for (int i = 0; i < JOBS; i++)
        outer_compute_submit(compute, &job);
    outer_compute_close(compute);
    int done;
    sem_getvalue(&wakes, &done);
    assert_in_range(done, 0, JOBS);
    struct state_hash hash, expected;
    outer_copy_hash_all(&fixture.copy, &hash);
    fixture_close(&fixture);
    fixture_open(&fixture, "e3m0", "nesterov", true);
    for (int i = 0; i < done; i++)
        commit_maker_make(&fixture.maker, 0, job.parts, 1, made, &expected);
    outer_copy_hash_all(&fixture.copy, &expected);
    assert_true(state_hash_equal(&hash, &expected));
    test_free(values), test_free(good), test_free(made);
    fixture_close(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(in_order_with_results),
                                       cmocka_unit_test(close_drops_what_waits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
