/* outer_restore: what commit_maker made comes back from the log byte for byte, whatever the log lost. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include "base/bytes.h"
#include "base/rng.h"
#include "comms/commit.h"
#include "outer/outer_restore.h"
#include "copy_fixture.h"
#include "disk_fixture.h"

enum { FRAGMENTS = 3, VERSIONS_MAX = 24, PARTS = 2 };
static const uint8_t RUN_ID[MESSAGE_HASH_BYTES] = {5, 6, 7};

/* A fragment right after a version. */
struct snapshot {
    struct head head;
    struct commit commit;
    float *g, *u, *residual; /* (count,) */
};

/* An outer without its network: makes commits and logs them, and remembers every version. */
static struct outer {
    struct fixture fixture;
    struct commit_log *log;
    struct snapshot snapshots[FRAGMENTS][VERSIONS_MAX];
    uint64_t version[FRAGMENTS];
    uint64_t full_every;
    uint64_t epoch;
    bool feedback;
    uint64_t seed; /* of the contributions */
} outer;

static struct commit_log *open_log(const struct outer_copy *copy) {
    struct commit_record_shape shapes[FRAGMENTS];
    struct commit_log *log;
    struct error error;
    for (int f = 0; f < FRAGMENTS; f++)
        shapes[f] = (struct commit_record_shape){copy->fragments->list[f].count, outer_copy_payload_down(copy, f)};
    if (commit_log_open(&log, directory, shapes, FRAGMENTS, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return log;
}

static float *keep(const float *from, size_t count) {
    float *to = malloc(count * sizeof *to); /* not test_malloc: freed in the teardown */
    assert_non_null(to);
    memcpy(to, from, count * sizeof *to);
    return to;
}

static void remember(int f, const struct head *head, const struct commit *commit) {
    const struct outer_copy *copy = &outer.fixture.copy;
    size_t at = copy->offsets[f], count = copy->fragments->list[f].count;
    struct snapshot *snapshot = &outer.snapshots[f][head->version];
    if (snapshot->g != NULL)
        free(snapshot->g), free(snapshot->u), free(snapshot->residual);
    *snapshot = (struct snapshot){*head, *commit, keep(copy->g + at, count), keep(copy->u + at, count),
                                  keep(outer.fixture.maker.residual + at, count)};
}

static int open_outer(void **state) {
    static const struct commit none;
    if (disk_make(state) != 0)
        return -1;
    outer.feedback = *state == NULL;
    fixture_open(&outer.fixture, outer.feedback ? "e3m0" : "f32", "nesterov", outer.feedback);
    outer.log = open_log(&outer.fixture.copy);
    outer.full_every = 4;
    outer.epoch = 1;
    for (int f = 0; f < FRAGMENTS; f++) {
        struct head head = {0};
        struct state_hash hash;
        outer_copy_hash(&outer.fixture.copy, f, outer.fixture.copy.g + outer.fixture.copy.offsets[f], &hash);
        commit_genesis(RUN_ID, (uint32_t)f, hash.bytes, head.hash);
        outer.version[f] = 0;
        remember(f, &head, &none);
    }
    return 0;
}

static int close_outer(void **state) {
    for (int f = 0; f < FRAGMENTS; f++)
        for (int v = 0; v < VERSIONS_MAX; v++)
            if (outer.snapshots[f][v].g != NULL) {
                free(outer.snapshots[f][v].g);
                free(outer.snapshots[f][v].u);
                free(outer.snapshots[f][v].residual);
            }
    commit_log_close(outer.log);
    fixture_close(&outer.fixture);
    memset(&outer, 0, sizeof outer);
    return disk_remove(state);
}

/* Steps the copy and fills the commit; the caller logs it. payload (outer_copy_payload_down,), freed by the caller. */
static struct commit make_commit(int f, uint8_t **payload) {
    struct outer_copy *copy = &outer.fixture.copy;
    size_t up = outer_copy_payload_up(copy, f), down = outer_copy_payload_down(copy, f);
    float *values = test_malloc(copy->fragments->list[f].count * sizeof *values);
    struct commit_part parts[PARTS];
    struct state_hash hash;
    uint64_t version = outer.version[f] + 1;
    struct commit commit;
    memset(&commit, 0, sizeof commit);
    *payload = test_malloc(down);
    for (int i = 0; i < PARTS; i++)
        parts[i] =
            (struct commit_part){fixture_payload(&outer.fixture, f, ++outer.seed, values), up, 100 + (uint64_t)i};
    commit_maker_make(&outer.fixture.maker, f, parts, PARTS, *payload, &hash);
    for (int i = 0; i < PARTS; i++)
        test_free((void *)(uintptr_t)parts[i].payload);
    test_free(values);
    memcpy(commit.run_id, RUN_ID, sizeof commit.run_id);
    memcpy(commit.parent, outer.snapshots[f][version - 1].head.hash, sizeof commit.parent);
    memcpy(commit.state_hash, hash.bytes, sizeof commit.state_hash);
    commit.epoch = outer.epoch;
    commit.fragment = (uint32_t)f;
    commit.version = version;
    commit.run_step = 6 * version;
    commit.payload_bytes = down;
    commit.counted_count = commit.total_count = 1;
    commit.counted[0] = (struct counted){1, 42, version - 1, 6 * version, 100 * version, 100 * version + 100, 100};
    commit.totals[0] = (struct total){1, 100 * version + 100, 100 * version, 100};
    return commit;
}

static enum status log_commit(const struct commit *commit, const uint8_t *payload, bool full) {
    size_t at = outer.fixture.copy.offsets[commit->fragment];
    return commit_log_append(outer.log, commit, payload, outer.feedback ? outer.fixture.maker.residual + at : NULL,
                             full ? outer.fixture.copy.g + at : NULL, full ? outer.fixture.copy.u + at : NULL, NULL);
}

static void note_commit(int f, const struct commit *commit) {
    struct head head = {.epoch = commit->epoch, .version = commit->version};
    commit_hash(commit, head.hash);
    outer.version[f] = commit->version;
    remember(f, &head, commit);
}

static void advance(int f, uint64_t to) {
    while (outer.version[f] < to) {
        uint8_t *payload;
        struct commit commit = make_commit(f, &payload);
        assert_int_equal(log_commit(&commit, payload, commit.version % outer.full_every == 0), STATUS_OK);
        note_commit(f, &commit);
        test_free(payload);
    }
}

/* A second outer process, from nothing but the directory. */
static struct {
    struct fixture fixture;
    struct commit_log *log;
    struct outer_restored fragments[FRAGMENTS];
} back;

static enum status restore(struct error *error) {
    fixture_open(&back.fixture, outer.feedback ? "e3m0" : "f32", "nesterov", outer.feedback);
    back.log = open_log(&back.fixture.copy);
    return outer_restore(&back.fixture.copy, back.fixture.maker.residual, RUN_ID, back.log, back.fragments, error);
}

static void close_back(void) {
    commit_log_close(back.log);
    fixture_close(&back.fixture);
}

static void check_is_at(int f, uint64_t version) {
    const struct snapshot *wanted = &outer.snapshots[f][version];
    const struct outer_restored *found = &back.fragments[f];
    size_t at = back.fixture.copy.offsets[f], bytes = back.fixture.fragments.list[f].count * sizeof(float);
    assert_int_equal(found->head.version, version);
    assert_int_equal(found->head.epoch, wanted->head.epoch);
    assert_memory_equal(found->head.hash, wanted->head.hash, sizeof wanted->head.hash);
    assert_memory_equal(&found->commit, &wanted->commit, sizeof wanted->commit);
    assert_memory_equal(back.fixture.copy.g + at, wanted->g, bytes);
    assert_memory_equal(back.fixture.copy.u + at, wanted->u, bytes);
    assert_memory_equal(back.fixture.maker.residual + at, wanted->residual, bytes);
}

/* All three fragments, without a warning. */
static void check_restores(uint64_t v0, uint64_t v1, uint64_t v2) {
    const uint64_t versions[FRAGMENTS] = {v0, v1, v2};
    struct error error;
    if (restore(&error) != STATUS_OK)
        fail_msg("%s", error.text);
    for (int f = 0; f < FRAGMENTS; f++) {
        check_is_at(f, versions[f]);
        assert_string_equal(back.fragments[f].warning, "");
        assert_int_equal(back.fragments[f].set_aside, 0);
        assert_int_equal(back.fragments[f].newest_ever, versions[f]);
    }
    close_back();
}

static void no_records_at_all(void **state) {
    (void)state;
    check_restores(0, 0, 0);
}

static void from_the_seed_and_from_full_records(void **state) {
    (void)state;
    for (uint64_t version = 1; version <= 13; version++) {
        advance(0, version);
        if (version % 2 == 0)
            advance(1, version / 2);
        check_restores(version, version / 2, 0);
    }
    assert_int_equal(restore(NULL), STATUS_OK);
    assert_int_equal(back.fragments[0].begun_at, 12);
    assert_int_equal(back.fragments[1].begun_at, 4);
    assert_int_equal(back.fragments[2].begun_at, 0);
    close_back();
}

static void pruning_keeps_it_restorable(void **state) {
    (void)state;
    for (uint64_t version = 1; version < VERSIONS_MAX; version++) {
        advance(0, version);
        assert_int_equal(commit_log_prune(outer.log, 0, NULL), STATUS_OK);
        check_restores(version, 0, 0);
    }
    assert_int_equal(unlink(disk_path("commits/f000-v000000020.full")), 0); /* the older full record serves as well */
    assert_int_equal(restore(NULL), STATUS_OK);
    assert_int_equal(back.fragments[0].begun_at, 16);
    check_is_at(0, 19);
    close_back();
}

/* Version 4 (a full one) and version 6 (not) are made by a child that dies on the way. */
static void killed_at_every_point(void **state) {
    (void)state;
    static const struct {
        const char *failpoint;
        bool logged;
    } rows[] = {
        {"outer.commit.write=kill", false}, {"outer.commit.write=short,outer.commit.write=kill@2", false},
        {"outer.commit.fsync=kill", false}, {"outer.commit.rename=kill", false},
        {"outer.commit.logged=kill", true},
    };
    static const uint64_t versions[] = {4, 6};
    for (size_t v = 0; v < 2; v++) {
        advance(1, versions[v] - 1);
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            uint64_t version = outer.version[1] + 1;
            uint8_t *payload;
            struct commit commit = make_commit(1, &payload);
            pid_t child = fork();
            if (child == 0) {
                disk_failpoint(rows[i].failpoint);
                _exit(log_commit(&commit, payload, version % outer.full_every == 0) == STATUS_OK ? 0 : 1);
            }
            int status;
            assert_int_equal(waitpid(child, &status, 0), child);
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
            if (rows[i].logged)
                note_commit(1, &commit);
            check_restores(0, rows[i].logged ? version : version - 1, 0);
            assert_null(strstr(disk_list("commits"), "tmp"));
            test_free(payload);
            /* The next life of this outer stands where the restored one does. */
            const struct snapshot *at = &outer.snapshots[1][outer.version[1]];
            size_t offset = outer.fixture.copy.offsets[1],
                   bytes = outer.fixture.fragments.list[1].count * sizeof(float);
            memcpy(outer.fixture.copy.g + offset, at->g, bytes);
            memcpy(outer.fixture.copy.u + offset, at->u, bytes);
            memcpy(outer.fixture.maker.residual + offset, at->residual, bytes);
            commit_log_close(outer.log);
            outer.log = open_log(&outer.fixture.copy);
        }
    }
}

/* Restores, finds fragment 0 at `version` of `newest` with the warning; a second restore agrees and is silent but for newest_ever. */
static void check_ends_below(uint64_t version, uint64_t newest, uint64_t newest_ever, uint32_t aside,
                             const char *reason) {
    char text[1024];
    assert_int_equal(restore(NULL), STATUS_OK);
    check_is_at(0, version);
    assert_int_equal(back.fragments[0].newest_ever, newest_ever);
    assert_int_equal(back.fragments[0].set_aside, aside);
    snprintf(text, sizeof text,
             "fragment 0 is restored to version %u of %u: %s. Set aside as bad.NAME: %u records. A worker that holds a "
             "newer version brings it back",
             (unsigned)version, (unsigned)newest, reason, aside);
    assert_string_equal(back.fragments[0].warning, text);
    check_is_at(1, outer.version[1]); /* the others are none the worse */
    assert_string_equal(back.fragments[1].warning, "");
    close_back();
    assert_int_equal(restore(NULL), STATUS_OK);
    check_is_at(0, version);
    assert_string_equal(back.fragments[0].warning, "");
    assert_int_equal(back.fragments[0].newest_ever, newest_ever);
    close_back();
}

static void check_ends_at(uint64_t version, uint64_t newest, uint32_t aside, const char *reason) {
    check_ends_below(version, newest, newest, aside, reason);
}

static const char *torn(const char *name) {
    static char text[300];
    snprintf(text, sizeof text, "%s/%s: its checksum does not match: torn or flipped", directory, name);
    return text;
}

static void torn_tail(void **state) {
    (void)state;
    size_t bytes;
    char reason[300];
    advance(0, 7);
    advance(1, 2);
    free(disk_get("commits/f000-v000000007", &bytes));
    disk_truncate("commits/f000-v000000007", bytes - 5);
    snprintf(reason, sizeof reason, "%s/commits/f000-v000000007: expected %zu bytes, found %zu: torn or flipped",
             directory, bytes, bytes - 5);
    check_ends_at(6, 7, 1, reason);
    assert_non_null(strstr(disk_list("commits"), "bad.f000-v000000007 "));
}

static void empty_tail(void **state) {
    (void)state;
    char reason[300];
    advance(0, 3);
    disk_truncate("commits/f000-v000000003", 0);
    snprintf(reason, sizeof reason, "%s/commits/f000-v000000003: expected a commit record, found 0 bytes: torn",
             directory);
    check_ends_at(2, 3, 1, reason);
}

/* Message, payload, residual, checksum of a plain record in the middle. */
static void a_flipped_byte_ends_it_there(void **state) {
    (void)state;
    size_t bytes;
    advance(0, 3);
    size_t payload = outer_copy_payload_down(&outer.fixture.copy, 0);
    uint8_t *record = disk_get("commits/f000-v000000002", &bytes);
    size_t message = bytes_load_u64(record + 16);
    const size_t places[] = {40 + message / 2, 40 + message + payload / 2, 40 + message + payload + 11, bytes - 1};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        disk_flip("commits/f000-v000000002", places[i]);
        check_ends_at(1, 3, 2, torn("commits/f000-v000000002"));
        assert_string_equal(disk_list("commits"), "bad.f000-v000000002 bad.f000-v000000003 f000-v000000001");
        char from[512], to[512]; /* and back, for the next place */
        disk_put("commits/f000-v000000002", record, bytes);
        snprintf(from, sizeof from, "%s/commits/bad.f000-v000000003", directory);
        snprintf(to, sizeof to, "%s/commits/f000-v000000003", directory);
        assert_int_equal(rename(from, to), 0);
    }
    check_restores(3, 0, 0);
    free(record);
}

static void a_missing_middle(void **state) {
    (void)state;
    char reason[300];
    advance(0, 7);
    assert_int_equal(unlink(disk_path("commits/f000-v000000006")), 0);
    snprintf(reason, sizeof reason, "%s/commits: no record of fragment 0 version 6", directory);
    check_ends_at(5, 7, 1, reason);
}

/* Fulls are 4, 8, 12. With 12 torn the walk begins at 8; what is behind 12 cannot be reached. */
static void a_torn_full_record_with_an_older_one(void **state) {
    (void)state;
    size_t bytes;
    advance(0, 13);
    free(disk_get("commits/f000-v000000012.full", &bytes));
    disk_flip("commits/f000-v000000012.full", bytes - 100); /* in u */
    check_ends_at(11, 13, 2, torn("commits/f000-v000000012.full"));
    disk_flip("commits/f000-v000000008.full", 100);
    check_ends_below(7, 11, 13, 4, torn("commits/f000-v000000008.full"));
    disk_flip("commits/f000-v000000004.full", 100);
    check_ends_below(3, 7, 13, 4, torn("commits/f000-v000000004.full"));
}

/* Pruned, and no full record is good: nothing is reachable, and the seed is not passed off as what was. */
static void nothing_reachable(void **state) {
    (void)state;
    char reason[300];
    advance(0, 21);
    assert_int_equal(commit_log_prune(outer.log, 0, NULL), STATUS_OK);
    disk_flip("commits/f000-v000000016.full", 100);
    disk_flip("commits/f000-v000000020.full", 100);
    snprintf(reason, sizeof reason, "%s/commits: no record of fragment 0 version 1", directory);
    check_ends_at(0, 21, 8, reason);
}

/* Whole records, but their g and u are not what the commit signs; the payload still leads on from the older full record. */
static void a_full_record_of_other_values(void **state) {
    (void)state;
    uint8_t *payload;
    advance(0, 7);
    struct commit commit = make_commit(0, &payload);
    size_t at = outer.fixture.copy.offsets[0];
    float kept = outer.fixture.copy.g[at + 3];
    outer.fixture.copy.g[at + 3] += 1;
    assert_int_equal(log_commit(&commit, payload, true), STATUS_OK);
    outer.fixture.copy.g[at + 3] = kept;
    note_commit(0, &commit);
    assert_int_equal(restore(NULL), STATUS_OK);
    assert_int_equal(back.fragments[0].begun_at, 4);
    check_is_at(0, 8);
    assert_non_null(strstr(back.fragments[0].warning, "fragment 0 cannot begin at the full record of version 8: "
                                                      "version 8 of fragment 0: its commit names state hash "));
    close_back();
    test_free(payload);
}

/* The same of a fragment that was taken over: it has no payload to step with. */
static void a_taken_over_record_of_other_values(void **state) {
    (void)state;
    uint8_t *payload;
    advance(0, 5);
    advance(1, 1);
    struct commit commit = make_commit(0, &payload);
    outer.fixture.copy.u[outer.fixture.copy.offsets[0]] += 1;
    assert_int_equal(log_commit(&commit, NULL, true), STATUS_OK);
    note_commit(0, &commit);
    check_ends_at(5, 6, 1, "version 6 of fragment 0 has no payload in the log");
    test_free(payload);
}

/* Logs a version whose commit is changed by `change`, and one more behind it. */
static void log_changed(void (*change)(struct commit *)) {
    uint8_t *payload;
    advance(0, 5);
    advance(1, 3);
    struct commit commit = make_commit(0, &payload);
    change(&commit);
    assert_int_equal(log_commit(&commit, payload, false), STATUS_OK);
    note_commit(0, &commit);
    test_free(payload);
    advance(0, 7);
}

static void other_state(struct commit *commit) {
    commit->state_hash[0] ^= 1;
}

static void other_parent(struct commit *commit) {
    commit->parent[0] ^= 1;
}

static void other_run(struct commit *commit) {
    commit->run_id[0] ^= 1;
}

static void a_state_hash_that_differs(void **state) {
    (void)state;
    char expected[33], found[33], reason[300];
    log_changed(other_state);
    struct commit commit = outer.snapshots[0][6].commit;
    bytes_to_hex(commit.state_hash, sizeof commit.state_hash, expected);
    other_state(&commit);
    bytes_to_hex(commit.state_hash, sizeof commit.state_hash, found);
    snprintf(reason, sizeof reason, "version 6 of fragment 0: its commit names state hash %s, the record gives %s",
             expected, found);
    check_ends_at(5, 7, 2, reason);
}

static void a_parent_that_differs(void **state) {
    (void)state;
    log_changed(other_parent);
    check_ends_at(5, 7, 2, "version 6 of fragment 0 does not follow version 5 in the log");
}

static void another_run_stops_it(void **state) {
    (void)state;
    struct error error;
    log_changed(other_run);
    assert_int_equal(restore(&error), STATUS_CONFIG);
    assert_string_equal(
        error.text,
        "version 6 of fragment 0 in the commit log is of run "
        "0406070000000000000000000000000000000000000000000000000000000000, this is run "
        "0506070000000000000000000000000000000000000000000000000000000000: choose another --dir, or go on with the run "
        "file and the keys that began that one");
    close_back();
    assert_null(strstr(disk_list("commits"), "bad.")); /* nothing was touched */
}

static void a_disk_that_does_not_give_it(void **state) {
    (void)state;
    struct error error;
    char text[400];
    advance(0, 3);
    disk_failpoint("outer.commit.read=EIO@2");
    assert_int_equal(restore(&error), STATUS_IO);
    snprintf(text, sizeof text,
             "cannot open %s/commits/f000-v000000002: Input/output error: mend the disk, or move that file away: its "
             "fragment then ends before it",
             directory);
    assert_string_equal(error.text, text);
    close_back();
    assert_null(strstr(disk_list("commits"), "bad."));
}

/* After a loss the run goes on in a new epoch, over versions that exist as bad.NAME; and that restores too. */
static void a_new_branch_after_a_loss(void **state) {
    (void)state;
    advance(0, 6);
    disk_flip("commits/f000-v000000005", 60);
    check_ends_at(4, 6, 2, torn("commits/f000-v000000005"));
    commit_log_close(outer.log);
    outer.log = open_log(&outer.fixture.copy);
    size_t at = outer.fixture.copy.offsets[0], bytes = outer.fixture.fragments.list[0].count * sizeof(float);
    memcpy(outer.fixture.copy.g + at, outer.snapshots[0][4].g, bytes);
    memcpy(outer.fixture.copy.u + at, outer.snapshots[0][4].u, bytes);
    memcpy(outer.fixture.maker.residual + at, outer.snapshots[0][4].residual, bytes);
    outer.version[0] = 4;
    outer.epoch = 2;
    advance(0, 10);
    check_restores(10, 0, 0);
    assert_int_equal(outer.snapshots[0][10].head.epoch, 2);
}

/* A whole fragment that a worker gave back: full, without payload, versions before it missing. */
static void a_fragment_taken_over(void **state) {
    (void)state;
    uint8_t *payload;
    advance(0, 2);
    while (outer.version[0] < 5) { /* the run goes on, this disk does not see it */
        struct commit unseen = make_commit(0, &payload);
        note_commit(0, &unseen);
        test_free(payload);
    }
    struct commit commit = make_commit(0, &payload);
    assert_int_equal(log_commit(&commit, NULL, true), STATUS_OK);
    note_commit(0, &commit);
    check_restores(6, 0, 0);
    advance(0, 7);
    check_restores(7, 0, 0);
    assert_string_equal(disk_list("commits"), "f000-v000000001 f000-v000000002 f000-v000000006.full f000-v000000007");
    test_free(payload);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_outer, close_outer)
#define TEST_PLAIN(n)                                                                                                  \
    { "without_feedback_" #n, n, open_outer, close_outer, (void *)"f32" }
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(no_records_at_all),
        TEST(from_the_seed_and_from_full_records),
        TEST_PLAIN(from_the_seed_and_from_full_records),
        TEST(pruning_keeps_it_restorable),
        TEST(killed_at_every_point),
        TEST(torn_tail),
        TEST(empty_tail),
        TEST(a_flipped_byte_ends_it_there),
        TEST(a_missing_middle),
        TEST(a_torn_full_record_with_an_older_one),
        TEST(nothing_reachable),
        TEST(a_full_record_of_other_values),
        TEST(a_taken_over_record_of_other_values),
        TEST(a_state_hash_that_differs),
        TEST(a_parent_that_differs),
        TEST(another_run_stops_it),
        TEST(a_disk_that_does_not_give_it),
        TEST(a_new_branch_after_a_loss),
        TEST(a_fragment_taken_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
