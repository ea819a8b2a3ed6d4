/* outer_compute: jobs come back in the order given, with their results; close drops what waits; commits, whole fragments and what is taken
 * over reach the disk. No clock: a semaphore counts the wakes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <semaphore.h>
#include "comms/transfer.h"
#include "copy_fixture.h"
#include "disk_fixture.h"
#include "outer/outer_compute.h"
#include "outer/snapshot.h"

enum { CHECKS = 500, JOBS_MAX = CHECKS + 1 }; /* faster given than done: the queue fills */

static struct fixture fixture;
static sem_t wakes;
static struct commit_log *disk;

static void wake(void *context) {
    sem_post(context);
}

static struct outer_compute *open_compute(void) {
    struct outer_compute *compute;
    struct commit_record_shape shapes[MESSAGE_FRAGMENTS_MAX];
    struct error error;
    fixture_open(&fixture, "e3m0", "nesterov", true);
    for (int f = 0; f < fixture.fragments.count; f++)
        shapes[f] =
            (struct commit_record_shape){fixture.fragments.list[f].count, outer_copy_payload_down(&fixture.copy, f)};
    assert_int_equal(commit_log_open(&disk, directory, shapes, (uint32_t)fixture.fragments.count, &error), STATUS_OK);
    sem_init(&wakes, 0, 0);
    assert_int_equal(outer_compute_open(&fixture.maker, disk, JOBS_MAX, wake, &wakes, &compute, &error), STATUS_OK);
    return compute;
}

static void close_all(struct outer_compute *compute) {
    outer_compute_close(compute);
    commit_log_close(disk);
    fixture_close(&fixture);
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
    payload_hash_of(made, outer_copy_payload_down(&fixture.copy, 0), hash);
    assert_memory_equal(job.payload_hash, hash, sizeof hash);
    outer_copy_hash(&fixture.copy, 0, fixture.copy.g + fixture.copy.offsets[0], &now);
    assert_true(state_hash_equal(&job.state_hash, &now));
    test_free(values), test_free(good), test_free(bad), test_free(made);
    commit_log_close(disk);
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
    commit_log_close(disk);
    fixture_close(&fixture);
    fixture_open(&fixture, "e3m0", "nesterov", true);
    for (int i = 0; i < done; i++)
        commit_maker_make(&fixture.maker, 0, job.parts, 1, made, &expected);
    outer_copy_hash_all(&fixture.copy, &expected);
    assert_true(state_hash_equal(&hash, &expected));
    test_free(values), test_free(good), test_free(made);
    fixture_close(&fixture);
}

/* ---- the disk ---- */

static void disk_takes(bool writes) {
    disk_failpoint(writes ? "" : "outer.commit.write=ENOSPC");
}

static struct outer_job done(struct outer_compute *compute, const struct outer_job *job) {
    outer_compute_submit(compute, job);
    return next(compute);
}

/* One contribution into version `version` of fragment 1, named as the daemon does it. */
static void make_commit(struct outer_compute *compute, uint64_t version, uint64_t seed, struct commit *commit,
                        uint8_t *payload) {
    float *values = test_malloc(fixture.fragments.largest_count * sizeof *values);
    uint8_t *part = fixture_payload(&fixture, 1, seed, values);
    struct outer_job job = {
        .kind = OUTER_JOB_COMMIT, .fragment = 1, .version = version, .part_count = 1, .payload = payload};
    job.parts[0] = (struct commit_part){part, outer_copy_payload_up(&fixture.copy, 1), 10};
    job = done(compute, &job);
    assert_int_equal(job.status, STATUS_OK);
    memset(commit, 0, sizeof *commit);
    commit->epoch = 1;
    commit->fragment = 1;
    commit->version = version;
    commit->run_step = version;
    commit->counted_count = commit->total_count = 1;
    commit->payload_bytes = outer_copy_payload_down(&fixture.copy, 1);
    commit->counted[0] = (struct counted){0, 5, version - 1, version, 10 * (version - 1), 10 * version, 10};
    commit->totals[0] = (struct total){0, 10 * version, 10 * version, 0};
    memcpy(commit->payload_hash, job.payload_hash, sizeof commit->payload_hash);
    memcpy(commit->state_hash, job.state_hash.bytes, sizeof commit->state_hash);
    test_free(values), test_free(part);
}

static struct outer_job log_job(const struct commit *commit, uint8_t *payload, bool full) {
    return (struct outer_job){.kind = OUTER_JOB_LOG,
                              .fragment = 1,
                              .version = commit->version,
                              .commit = commit,
                              .full = full,
                              .payload = payload};
}

static float *copied(const float *values) {
    size_t bytes = fixture.fragments.list[1].count * sizeof *values;
    float *copy = test_malloc(bytes);
    memcpy(copy, values + fixture.copy.offsets[1], bytes);
    return copy;
}

static void assert_floats(const float *values, const float *wanted) {
    assert_memory_equal(values, wanted, fixture.fragments.list[1].count * sizeof *values);
}

static void commits_are_logged(void **state) {
    (void)state;
    struct outer_compute *compute = open_compute();
    size_t bytes = outer_copy_payload_down(&fixture.copy, 1), floats = fixture.fragments.list[1].count;
    uint8_t *payload = test_malloc(bytes), *read = test_malloc(bytes);
    float *residual = test_malloc(floats * sizeof *residual);
    float *g = test_malloc(floats * sizeof *g), *u = test_malloc(floats * sizeof *u);
    struct commit commit, found;
    struct commit_record_holds holds;
    struct outer_job job;
    struct error error;
    for (uint64_t version = 1; version <= 2; version++) {
        make_commit(compute, version, version, &commit, payload);
        job = log_job(&commit, payload, version == 2);
        job = done(compute, &job);
        assert_int_equal(job.status, STATUS_OK);
        assert_int_equal(commit_log_newest(disk, 1), version);
        memset(&found, 0, sizeof found);
        assert_int_equal(commit_log_read(disk, 1, version, &found, read, residual, g, u, &holds, &error), STATUS_OK);
        assert_int_equal(holds.full, version == 2);
        assert_memory_equal(&found, &commit, sizeof found);
        assert_memory_equal(read, payload, bytes);
        assert_floats(residual, fixture.maker.residual + fixture.copy.offsets[1]);
    }
    assert_floats(g, fixture.copy.g + fixture.copy.offsets[1]);
    assert_floats(u, fixture.copy.u + fixture.copy.offsets[1]);
    assert_string_equal(disk_list("commits"), "f001-v000000001 f001-v000000002.full");

    /* A disk that takes nothing: that is said, and the same job may be given again. */
    make_commit(compute, 3, 3, &commit, payload);
    job = log_job(&commit, payload, false);
    disk_takes(false);
    struct outer_job failed = done(compute, &job);
    assert_int_not_equal(failed.status, STATUS_OK);
    assert_true(failed.error.text[0] != 0);
    disk_takes(true);
    assert_int_equal(commit_log_newest(disk, 1), 2);
    job = done(compute, &job);
    assert_int_equal(job.status, STATUS_OK);
    assert_int_equal(commit_log_newest(disk, 1), 3);
    test_free(payload), test_free(read), test_free(residual), test_free(g), test_free(u);
    close_all(compute);
}

/* What one outer packs: version 4 of fragment 1, its commit, g and u. Freed by the caller. */
static uint8_t *packed_by_another(size_t *bytes, struct commit commits[5], float **g, float **u) {
    struct outer_compute *compute = open_compute();
    size_t bound = snapshot_bound(fixture.fragments.list[1].count);
    uint8_t *payload = test_malloc(outer_copy_payload_down(&fixture.copy, 1)), *packed = test_malloc(bound);
    uint8_t hash[MESSAGE_HASH_BYTES];
    for (uint64_t version = 1; version <= 4; version++)
        make_commit(compute, version, 100 + version, &commits[version], payload);
    struct outer_job job = {
        .kind = OUTER_JOB_SNAPSHOT, .fragment = 1, .version = 4, .commit = &commits[4], .payload = packed};
    struct outer_job wrong = job;
    wrong.commit = &commits[3]; /* a state that is not the one signed is given to nobody */
    wrong = done(compute, &wrong);
    assert_int_equal(wrong.status, STATUS_DATA);
    assert_string_equal(wrong.error.text, "fragment 1 version 4: g and u are not what its commit signs: this machine's "
                                          "memory is wrong");
    job = done(compute, &job);
    assert_int_equal(job.status, STATUS_OK);
    assert_in_range(job.bytes, 1, bound);
    payload_hash_of(packed, job.bytes, hash);
    assert_memory_equal(job.payload_hash, hash, sizeof hash);
    *bytes = job.bytes;
    *g = copied(fixture.copy.g), *u = copied(fixture.copy.u);
    test_free(payload);
    close_all(compute);
    return packed;
}

/* Bytes that are no snapshot, a state that is not the one signed, a disk that does not take it: nothing is touched. */
static void refused_takes_touch_nothing(struct outer_compute *compute, const struct outer_job *take,
                                        const struct commit *another) {
    float *g = copied(fixture.copy.g), *u = copied(fixture.copy.u), *residual = copied(fixture.maker.residual);
    char names[256];
    snprintf(names, sizeof names, "%s", disk_list("commits"));
    struct outer_job job = *take;
    job.parts[0].bytes--;
    job = done(compute, &job);
    assert_int_equal(job.status, STATUS_DATA);
    job = *take;
    job.commit = another;
    job = done(compute, &job);
    assert_int_equal(job.status, STATUS_DATA);
    assert_string_equal(job.error.text, "the state is not the one that its commit signs");
    assert_string_equal(disk_list("commits"), names);
    disk_takes(false);
    job = done(compute, take);
    assert_int_not_equal(job.status, STATUS_OK);
    assert_true(job.error.text[0] != 0);
    disk_takes(true);
    assert_true(strstr(disk_list("commits"), "f001-v000000004.full") == NULL);
    assert_floats(fixture.copy.g + fixture.copy.offsets[1], g);
    assert_floats(fixture.copy.u + fixture.copy.offsets[1], u);
    assert_floats(fixture.maker.residual + fixture.copy.offsets[1], residual);
    test_free(g), test_free(u), test_free(residual);
}

/* The same bits, on the disk too; what this outer had made of that version and later ones is of another branch, and so is its residual. */
static void a_whole_fragment_is_taken_over(void **state) {
    (void)state;
    struct commit commits[5], commit;
    struct commit_record_holds holds;
    struct error error;
    size_t bytes;
    float *g, *u;
    uint8_t *packed = packed_by_another(&bytes, commits, &g, &u);
    struct outer_compute *compute = open_compute();
    uint8_t *payload = test_malloc(outer_copy_payload_down(&fixture.copy, 1));
    for (uint64_t version = 1; version <= 5; version++) {
        make_commit(compute, version, version, &commit, payload);
        struct outer_job job = log_job(&commit, payload, version == 1);
        job = done(compute, &job);
        assert_int_equal(job.status, STATUS_OK);
    }
    struct outer_job take = {
        .kind = OUTER_JOB_TAKE, .slot = 7, .fragment = 1, .version = 4, .commit = &commits[4], .part_count = 1};
    take.parts[0] = (struct commit_part){packed, bytes, 1};
    refused_takes_touch_nothing(compute, &take, &commits[3]);
    take = done(compute, &take);
    assert_int_equal(take.status, STATUS_OK);
    assert_int_equal(take.slot, 7);
    assert_floats(fixture.copy.g + fixture.copy.offsets[1], g);
    assert_floats(fixture.copy.u + fixture.copy.offsets[1], u);
    for (size_t i = 0; i < fixture.fragments.list[1].count; i++)
        assert_true(fixture.maker.residual[fixture.copy.offsets[1] + i] == 0);
    assert_string_equal(disk_list("commits"), "bad.f001-v000000004 bad.f001-v000000005 f001-v000000001.full "
                                              "f001-v000000002 f001-v000000003 f001-v000000004.full");
    float *read_g = copied(fixture.copy.u), *read_u = copied(fixture.copy.g);
    memset(&commit, 0, sizeof commit);
    assert_int_equal(commit_log_read(disk, 1, 4, &commit, NULL, NULL, read_g, read_u, &holds, &error), STATUS_OK);
    assert_true(holds.full && !holds.payload);
    assert_memory_equal(&commit, &commits[4], sizeof commit);
    assert_floats(read_g, g), assert_floats(read_u, u);
    test_free(payload), test_free(packed), test_free(g), test_free(u), test_free(read_g), test_free(read_u);
    close_all(compute);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(in_order_with_results, disk_make, disk_remove),
        cmocka_unit_test_setup_teardown(close_drops_what_waits, disk_make, disk_remove),
        cmocka_unit_test_setup_teardown(commits_are_logged, disk_make, disk_remove),
        cmocka_unit_test_setup_teardown(a_whole_fragment_is_taken_over, disk_make, disk_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
