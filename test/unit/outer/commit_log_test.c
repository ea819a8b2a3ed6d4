/* commit_log: records as they lie on the disk, every flipped byte and every cut of one, failures and kills in the middle of an append. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/stat.h>
#include <xxhash.h>
#include "base/bytes.h"
#include "base/rng.h"
#include "comms/wire.h"
#include "outer/commit_log.h"
#include "disk_fixture.h"

enum { FLOATS = 20, PAYLOAD = 13, FRAGMENTS = 3, HEADER = 40, CHECKSUM = 16 };

static const struct commit_record_shape shapes[FRAGMENTS] = {{FLOATS, PAYLOAD}, {FLOATS, PAYLOAD}, {FLOATS, PAYLOAD}};
static struct commit_log *commits;

/* What version `version` of fragment `f` holds, made up from the two numbers. */
struct made {
    struct commit commit;
    uint8_t payload[PAYLOAD];
    float residual[FLOATS], g[FLOATS], u[FLOATS];
};

static struct made make(uint32_t f, uint64_t version) {
    struct made made;
    memset(&made, 0, sizeof made);
    struct commit *commit = &made.commit;
    uint64_t stream = 1000 * version + f;
    commit->epoch = 1;
    commit->fragment = f;
    commit->version = version;
    commit->run_step = version + 10;
    commit->counted_count = commit->total_count = 2;
    for (uint32_t slot = 0; slot < 2; slot++) {
        commit->counted[slot] =
            (struct counted){slot, 99, version - 1, version + 9, 10 * version, 10 * version + 10, 8};
        commit->totals[slot] = (struct total){slot, 10 * version + 10, 8 * version + 8, 2 * version + 2};
    }
    commit->payload_bytes = PAYLOAD;
    memset(commit->parent, (int)version, sizeof commit->parent);
    memset(commit->state_hash, (int)version + 1, sizeof commit->state_hash);
    for (uint64_t i = 0; i < PAYLOAD; i++)
        made.payload[i] = (uint8_t)rng_u64(1, stream, i);
    for (uint64_t i = 0; i < FLOATS; i++) {
        made.residual[i] = rng_normal(2, stream, i);
        made.g[i] = rng_normal(3, stream, i);
        made.u[i] = rng_normal(4, stream, i);
    }
    return made;
}

static void open_log(void) {
    struct error error;
    if (commit_log_open(&commits, directory, shapes, FRAGMENTS, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void reopen_log(void) {
    commit_log_close(commits);
    open_log();
}

static int open_it(void **state) {
    if (disk_make(state) != 0)
        return -1;
    open_log();
    return 0;
}

static int close_it(void **state) {
    commit_log_close(commits);
    return disk_remove(state);
}

static enum status append(uint32_t f, uint64_t version, bool full, struct error *error) {
    struct made made = make(f, version);
    return commit_log_append(commits, &made.commit, made.payload, made.residual, full ? made.g : NULL,
                             full ? made.u : NULL, error);
}

static void append_good(uint32_t f, uint64_t version, bool full) {
    struct error error;
    if (append(f, version, full, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void check_reads(uint32_t f, uint64_t version, bool full) {
    struct made wanted = make(f, version), found;
    struct commit_record_holds holds;
    struct error error;
    memset(&found, 0, sizeof found);
    if (commit_log_read(commits, f, version, &found.commit, found.payload, found.residual, found.g, found.u, &holds,
                        &error) != STATUS_OK)
        fail_msg("%s", error.text);
    if (!full) {
        memset(wanted.g, 0, sizeof wanted.g);
        memset(wanted.u, 0, sizeof wanted.u);
    }
    assert_true(holds.payload);
    assert_int_equal(holds.full, full);
    assert_memory_equal(&found.commit, &wanted.commit, sizeof wanted.commit);
    assert_memory_equal(found.payload, wanted.payload, sizeof wanted.payload);
    assert_memory_equal(found.residual, wanted.residual, sizeof wanted.residual);
    assert_memory_equal(found.g, wanted.g, sizeof wanted.g);
    assert_memory_equal(found.u, wanted.u, sizeof wanted.u);
}

static enum status read_nothing(uint32_t f, uint64_t version, struct error *error) {
    struct commit_record_holds holds;
    return commit_log_read(commits, f, version, NULL, NULL, NULL, NULL, NULL, &holds, error);
}

static void append_and_read(void **state) {
    (void)state;
    assert_int_equal(commit_log_newest(commits, 1), 0);
    assert_int_equal(commit_log_newest_ever(commits, 1), 0);
    assert_int_equal(commit_log_full_below(commits, 1, UINT64_MAX), 0);
    append_good(1, 1, false);
    append_good(1, 2, true);
    append_good(1, 3, false);
    append_good(2, 1, true);
    assert_string_equal(disk_list("commits"),
                        "f001-v000000001 f001-v000000002.full f001-v000000003 f002-v000000001.full");
    for (int again = 0; again < 2; again++) {
        assert_int_equal(commit_log_newest(commits, 0), 0);
        assert_int_equal(commit_log_newest(commits, 1), 3);
        assert_int_equal(commit_log_newest_ever(commits, 1), 3);
        assert_int_equal(commit_log_full_below(commits, 1, UINT64_MAX), 2);
        assert_int_equal(commit_log_full_below(commits, 1, 2), 0);
        check_reads(1, 1, false);
        check_reads(1, 2, true);
        check_reads(1, 3, false);
        check_reads(2, 1, true);
        assert_int_equal(read_nothing(1, 2, NULL), STATUS_OK);
        reopen_log();
    }
    struct error error;
    char text[200];
    assert_int_equal(read_nothing(1, 4, &error), STATUS_NOT_FOUND);
    snprintf(text, sizeof text, "%s/commits: no record of fragment 1 version 4", directory);
    assert_string_equal(error.text, text);
}

/* The bytes themselves: another program can read them from the header's picture. */
static void layout(void **state) {
    (void)state;
    append_good(1, 1, false);
    append_good(1, 2, true);
    struct made made = make(1, 2);
    struct message message = {.type = MESSAGE_COMMIT, .body.commit = made.commit};
    static uint8_t wire[MESSAGE_CONTROL_BYTES_MAX];
    size_t bytes, message_bytes = wire_encode(&message, wire);
    uint8_t *record = disk_get("commits/f001-v000000002.full", &bytes), *at = record;
    assert_int_equal(bytes, HEADER + message_bytes + PAYLOAD + 3 * sizeof made.g + CHECKSUM);
    assert_memory_equal(record, "atollcmt\1\0\0\0\3\0\0\0", 16);
    assert_int_equal(bytes_load_u64(record + 16), message_bytes);
    assert_int_equal(bytes_load_u64(record + 24), PAYLOAD);
    assert_int_equal(bytes_load_u64(record + 32), FLOATS);
    assert_memory_equal(at += HEADER, wire, message_bytes);
    assert_memory_equal(at += message_bytes, made.payload, PAYLOAD);
    assert_memory_equal(at += PAYLOAD, made.residual, sizeof made.residual);
    assert_memory_equal(at += sizeof made.residual, made.g, sizeof made.g);
    assert_memory_equal(at += sizeof made.g, made.u, sizeof made.u);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(record, bytes - CHECKSUM));
    assert_memory_equal(at + sizeof made.u, canonical.digest, CHECKSUM);
    free(record);
}

static void without_residual_or_payload(void **state) {
    (void)state;
    struct made made = make(0, 1), taken = make(0, 9), found;
    struct commit_record_holds holds;
    size_t bytes;
    assert_int_equal(commit_log_append(commits, &made.commit, made.payload, NULL, NULL, NULL, NULL), STATUS_OK);
    memset(&found, 0xff, sizeof found);
    assert_int_equal(commit_log_read(commits, 0, 1, NULL, NULL, found.residual, NULL, NULL, &holds, NULL), STATUS_OK);
    for (int i = 0; i < FLOATS; i++)
        assert_true(found.residual[i] == 0);
    free(disk_get("commits/f000-v000000001", &bytes));
    assert_true(bytes < HEADER + PAYLOAD + FLOATS * sizeof(float) + 1024);

    /* A whole fragment that a worker gave back: versions 2 to 8 never were on this disk, nor the payload of 9. */
    assert_int_equal(commit_log_append(commits, &taken.commit, NULL, taken.residual, taken.g, taken.u, NULL),
                     STATUS_OK);
    reopen_log();
    memset(&found, 0, sizeof found);
    assert_int_equal(
        commit_log_read(commits, 0, 9, &found.commit, found.payload, found.residual, found.g, found.u, &holds, NULL),
        STATUS_OK);
    assert_true(holds.full && !holds.payload);
    memset(taken.payload, 0, sizeof taken.payload);
    assert_memory_equal(&found, &taken, sizeof taken);
    assert_int_equal(commit_log_newest(commits, 0), 9);
    append_good(0, 10, false);
}

/* Whichever bit flips, and wherever the file ends: not read, and the text says which file. */
static void damage_is_found(void **state) {
    (void)state;
    struct error error;
    size_t bytes;
    append_good(0, 1, true);
    uint8_t *good = disk_get("commits/f000-v000000001.full", &bytes);
    char path[200];
    snprintf(path, sizeof path, "%s/commits/f000-v000000001.full: ", directory);
    uint8_t *bad = test_malloc(bytes + 1);
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        memcpy(bad, good, bytes);
        bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
        disk_put("commits/f000-v000000001.full", bad, bytes);
        assert_int_equal(read_nothing(0, 1, &error), STATUS_DATA);
        assert_int_equal(strncmp(error.text, path, strlen(path)), 0);
    }
    for (size_t cut = 0; cut < bytes; cut++) {
        disk_put("commits/f000-v000000001.full", good, cut);
        assert_int_equal(read_nothing(0, 1, &error), STATUS_DATA);
        assert_int_equal(strncmp(error.text, path, strlen(path)), 0);
    }
    memcpy(bad, good, bytes);
    bad[bytes] = 0;
    disk_put("commits/f000-v000000001.full", bad, bytes + 1);
    assert_int_equal(read_nothing(0, 1, &error), STATUS_DATA);
    disk_put("commits/f000-v000000001.full", good, bytes);
    check_reads(0, 1, true);
    assert_int_equal(unlink(disk_path("commits/f000-v000000001.full")), 0);
    assert_int_equal(read_nothing(0, 1, &error), STATUS_NOT_FOUND);
    test_free(bad);
    free(good);
}

/* Changes bytes of version 1 of fragment 0 and makes the checksum right again: not damage, but another program or another run. */
static enum status read_changed(size_t at, const void *change, size_t count, struct error *error) {
    size_t bytes;
    uint8_t *record = disk_get("commits/f000-v000000001", &bytes);
    XXH128_canonical_t canonical;
    uint8_t *kept = test_malloc(bytes);
    memcpy(kept, record, bytes);
    memcpy(record + at, change, count);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(record, bytes - CHECKSUM));
    memcpy(record + bytes - CHECKSUM, canonical.digest, CHECKSUM);
    disk_put("commits/f000-v000000001", record, bytes);
    enum status status = read_nothing(0, 1, error);
    disk_put("commits/f000-v000000001", kept, bytes);
    test_free(kept);
    free(record);
    return status;
}

static void whole_but_not_ours(void **state) {
    (void)state;
    static const struct {
        size_t at, count;
        const char *change;
        enum status status;
        const char *text;
    } rows[] = {
        {0, 8, "othrfile", STATUS_CONFIG, "expected a commit record, found another file"},
        {8, 4, "\2\0\0\0", STATUS_CONFIG,
         "expected schema 1, found schema 2 with flags 2: start the version of atoll that wrote it"},
        {12, 4, "\6\0\0\0", STATUS_CONFIG,
         "expected schema 1, found schema 1 with flags 6: start the version of atoll that wrote it"},
        {32, 8, "\7\1\0\0\0\0\0\0", STATUS_CONFIG,
         "expected 20 floats and a payload of 13 bytes, found 263 and 13: this run file is not the one that wrote it"},
        {24, 8, "\14\0\0\0\0\0\0\0", STATUS_CONFIG,
         "expected 20 floats and a payload of 13 bytes, found 20 and 12: this run file is not the one that wrote it"},
        {16, 8, "\1\0\1\0\0\0\0\0", STATUS_CONFIG, "expected a message of at most 65536 bytes, found 65537"},
        {16, 8, "\377\377\377\377\377\377\377\377", STATUS_CONFIG,
         "expected a message of at most 65536 bytes, found 18446744073709551615"},
        {40, 4, "\377\377\377\377", STATUS_DATA, NULL},
    };
    append_good(0, 1, false);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error error;
        char text[400];
        assert_int_equal(read_changed(rows[i].at, rows[i].change, rows[i].count, &error), rows[i].status);
        snprintf(text, sizeof text, "%s/commits/f000-v000000001: %s", directory, rows[i].text ? rows[i].text : "");
        if (rows[i].text != NULL)
            assert_string_equal(error.text, text);
        else
            assert_int_equal(strncmp(error.text, text, strlen(text)), 0);
    }
    check_reads(0, 1, false);
}

/* The record of version 1 of fragment 0 with another message in it, whole. */
static void put_message(const struct message *message) {
    static uint8_t record[HEADER + MESSAGE_CONTROL_BYTES_MAX + PAYLOAD + CHECKSUM];
    XXH128_canonical_t canonical;
    size_t bytes = wire_encode(message, record + HEADER), end = HEADER + bytes + PAYLOAD;
    memcpy(record, "atollcmt\1\0\0\0\0\0\0\0", 16);
    bytes_store_u64(record + 16, bytes);
    bytes_store_u64(record + 24, PAYLOAD);
    bytes_store_u64(record + 32, FLOATS);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(record, end));
    memcpy(record + end, canonical.digest, CHECKSUM);
    disk_put("commits/f000-v000000001", record, end + CHECKSUM);
}

static void whole_with_another_message(void **state) {
    (void)state;
    struct error error;
    char text[200];
    append_good(0, 1, false);
    struct message message = {.type = MESSAGE_COMMIT, .body.commit = make(0, 1).commit};
    put_message(&message);
    assert_int_equal(read_nothing(0, 1, &error), STATUS_OK);
    message.body.commit.payload_bytes++;
    put_message(&message);
    assert_int_equal(read_nothing(0, 1, &error), STATUS_DATA);
    snprintf(text, sizeof text, "%s/commits/f000-v000000001: expected a payload of 14 bytes, found 13", directory);
    assert_string_equal(error.text, text);
    message = (struct message){.type = MESSAGE_PING};
    put_message(&message);
    assert_int_equal(read_nothing(0, 1, &error), STATUS_DATA);
    snprintf(text, sizeof text, "%s/commits/f000-v000000001: expected a COMMIT, found a PING", directory);
    assert_string_equal(error.text, text);
}

/* A good record under the name of another version, of another fragment, of a full record. */
static void renamed_records(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint32_t fragment;
        uint64_t version;
    } rows[] = {{"f000-v000000002", 0, 2}, {"f001-v000000001", 1, 1}, {"f000-v000000001.full", 0, 1}};
    append_good(0, 1, false);
    size_t bytes;
    uint8_t *record = disk_get("commits/f000-v000000001", &bytes);
    assert_int_equal(unlink(disk_path("commits/f000-v000000001")), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error error;
        char name[64], text[200];
        snprintf(name, sizeof name, "commits/%s", rows[i].name);
        disk_put(name, record, bytes);
        reopen_log();
        assert_int_equal(read_nothing(rows[i].fragment, rows[i].version, &error), STATUS_DATA);
        snprintf(text, sizeof text, "%s/%s: holds another record than its name says", directory, name);
        assert_string_equal(error.text, text);
    }
    free(record);
}

/* Under a record's name: it must not be waited for, and can be set aside. */
static void no_regular_file(void **state) {
    (void)state;
    struct commit_record_holds holds;
    struct error error;
    char text[700];
    uint32_t count = 0;
    append_good(0, 1, false);
    assert_int_equal(mkfifo(disk_path("commits/f000-v000000002"), 0600), 0);
    assert_int_equal(mkdir(disk_path("commits/f000-v000000003.full"), 0700), 0);
    reopen_log();
    for (uint64_t version = 2; version <= 3; version++) {
        assert_int_equal(commit_log_read(commits, 0, version, NULL, NULL, NULL, NULL, NULL, &holds, &error),
                         STATUS_DATA);
        snprintf(text, sizeof text, "%s/commits/f000-v00000000%d%s: expected a commit record, found no regular file",
                 directory, (int)version, version == 3 ? ".full" : "");
        assert_string_equal(error.text, text);
    }
    assert_int_equal(commit_log_set_aside(commits, 0, 2, &count, &error), STATUS_OK);
    assert_int_equal(count, 2);
    check_reads(0, 1, false);
}

static void names_on_the_disk(void **state) {
    (void)state;
    static const char *const touched[] = {"f000.tmp", "f127.tmp", "f000-v000000003"};
    static const char *const foreign[] = {"README",          "f000-v1",           "f0-v000000009",
                                          "f000-v000000000", "f000-v000000009.x", "f000-v0000000009",
                                          "f007-v000000009", "f000.tmpx",         "f000-v 00000009"};
    append_good(0, 1, false);
    append_good(0, 2, true);
    append_good(0, 3, true);
    append_good(1, 1, false);
    for (size_t i = 0; i < sizeof touched / sizeof touched[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "commits/%s", touched[i]);
        disk_put(name, "x", 1);
    }
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "commits/%s", foreign[i]);
        disk_put(name, "x", 1);
    }
    disk_put("commits/bad.f001-v281474976710655.full", "x", 1);
    reopen_log();
    assert_int_equal(commit_log_newest(commits, 0), 3);
    assert_int_equal(commit_log_newest_ever(commits, 0), 3);
    assert_int_equal(commit_log_newest(commits, 1), 1);
    assert_true(commit_log_newest_ever(commits, 1) == 281474976710655);
    check_reads(0, 3, true);
    assert_string_equal(disk_list("commits"),
                        "README bad.f000-v000000003 bad.f001-v281474976710655.full f0-v000000009 f000-v 00000009 "
                        "f000-v000000000 f000-v0000000009 f000-v000000001 f000-v000000002.full f000-v000000003.full "
                        "f000-v000000009.x f000-v1 f000.tmpx f001-v000000001 f007-v000000009");
}

static void failed_append_leaves_nothing(void **state) {
    (void)state;
    static const struct {
        const char *failpoint, *text;
    } rows[] = {
        {"outer.commit.write=ENOSPC", "cannot write %s/commits/f000.tmp: No space left on device"},
        {"outer.commit.write=short,outer.commit.write=EDQUOT@2",
         "cannot write %s/commits/f000.tmp: Disk quota exceeded"},
        {"outer.commit.fsync=EIO", "cannot fsync %s/commits/f000.tmp: Input/output error"},
        {"outer.commit.rename=EROFS", "cannot rename to %s/commits/f000-v000000002.full: Read-only file system"},
    };
    append_good(0, 1, false);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error error;
        char cause[200], text[400];
        disk_failpoint(rows[i].failpoint);
        assert_int_equal(append(0, 2, true, &error), STATUS_IO);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(cause, sizeof cause, rows[i].text, directory);
#pragma GCC diagnostic pop
        struct made made = make(0, 2);
        struct message message = {.type = MESSAGE_COMMIT, .body.commit = made.commit};
        static uint8_t wire[MESSAGE_CONTROL_BYTES_MAX];
        snprintf(text, sizeof text,
                 "%s: version 2 of fragment 0 is not logged and was not sent; a record takes %zu bytes there: make "
                 "room or mend the disk",
                 cause, HEADER + wire_encode(&message, wire) + PAYLOAD + 3 * sizeof made.g + CHECKSUM);
        assert_string_equal(error.text, text);
        assert_string_equal(disk_list("commits"), "f000-v000000001");
        assert_int_equal(commit_log_newest(commits, 0), 1);
    }
    append_good(0, 2, true); /* the failpoints acted once: the same call goes through now */
    check_reads(0, 2, true);
    disk_failpoint("outer.commit.write=short+");
    append_good(0, 3, true);
    check_reads(0, 3, true);
}

static void a_directory_that_is_gone(void **state) {
    (void)state;
    struct error error;
    char text[200];
    assert_int_equal(rmdir(disk_path("commits")), 0);
    assert_int_equal(append(0, 1, false, &error), STATUS_IO);
    snprintf(text, sizeof text, "cannot create %s/commits/f000.tmp: No such file or directory", directory);
    assert_int_equal(strncmp(error.text, text, strlen(text)), 0);
    disk_put("commits", "x", 1);
    struct commit_log *other;
    assert_int_equal(commit_log_open(&other, directory, shapes, FRAGMENTS, &error), STATUS_IO);
}

/* Dies in the append of version 2: the record is there whole, or not at all. */
static void killed_in_an_append(void **state) {
    (void)state;
    static const struct {
        const char *failpoint;
        const char *left;
        uint64_t newest;
    } rows[] = {
        {"outer.commit.write=kill", "f000-v000000001 f000.tmp", 1},
        {"outer.commit.write=short,outer.commit.write=kill@2", "f000-v000000001 f000.tmp", 1},
        {"outer.commit.fsync=kill", "f000-v000000001 f000.tmp", 1},
        {"outer.commit.rename=kill", "f000-v000000001 f000.tmp", 1},
        {"outer.commit.logged=kill", "f000-v000000001 f000-v000000002.full", 2},
    };
    append_good(0, 1, false);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        pid_t child = fork();
        if (child == 0) {
            disk_failpoint(rows[i].failpoint);
            _exit(append(0, 2, true, NULL) == STATUS_OK ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_string_equal(disk_list("commits"), rows[i].left);
        reopen_log();
        assert_null(strstr(disk_list("commits"), "tmp"));
        assert_int_equal(commit_log_newest(commits, 0), rows[i].newest);
        check_reads(0, 1, false);
        if (rows[i].newest == 2)
            check_reads(0, 2, true);
    }
}

enum { FLOATS_MOST = 150001, PAYLOAD_MOST = 3 * COMMIT_RECORD_BLOCK_BYTES };

/* What else a record holds than its payload of some `about` bytes. */
static size_t bytes_beside_payload(struct commit_record_room *room, size_t about, size_t floats, bool full) {
    static const float zeros[FLOATS_MOST];
    static const uint8_t payload[PAYLOAD_MOST];
    const struct commit_record_shape shape = {floats, about};
    struct commit commit = make(0, 1).commit;
    struct error error;
    size_t count;
    commit.payload_bytes = about;
    if (commit_record_write(room, disk_path("record"), &shape, &commit, payload, zeros, full ? zeros : NULL,
                            full ? zeros : NULL, &count, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return count - about;
}

/* Of several blocks, also of whole ones, also when a write was short in the middle: what lies on the disk is what went in, to the byte. */
static void records_of_any_size(void **state) {
    (void)state;
    enum { BLOCK = COMMIT_RECORD_BLOCK_BYTES, PAGE = COMMIT_RECORD_PAGE_BYTES };
    static struct commit_record_room room;
    static uint8_t payload[PAYLOAD_MOST], payload_found[PAYLOAD_MOST];
    static float values[3][FLOATS_MOST], found[3][FLOATS_MOST];
    static const struct {
        size_t record_bytes, floats;
        bool full;
        const char *failpoint;
    } rows[] = {
        {PAGE, 1, false, ""},
        {PAGE + 1, 1, false, "outer.commit.write=short"},
        {BLOCK - 1, 2, false, ""},
        {BLOCK, 2, false, ""},
        {BLOCK + 1, 3, true, "outer.commit.write=short"},
        {2 * BLOCK, 3, true, ""},
        {7 * BLOCK / 2 + 3, FLOATS_MOST, false, ""},
        {5 * BLOCK + 77, FLOATS_MOST, true, ""},
        {5 * BLOCK + 77, FLOATS_MOST, true, "outer.commit.write=short@2"},
        {5 * BLOCK + 77, FLOATS_MOST, true, "outer.commit.write=short+"},
    };
    for (size_t i = 0; i < PAYLOAD_MOST; i++)
        payload[i] = (uint8_t)rng_u64(1, 7, i);
    for (size_t i = 0; i < (size_t)3 * FLOATS_MOST; i++)
        values[i / FLOATS_MOST][i % FLOATS_MOST] = rng_normal(2, 7, i);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t floats = rows[i].floats, float_bytes = floats * sizeof(float), count;
        bool full = rows[i].full;
        size_t about = rows[i].record_bytes - (full ? 3 : 1) * float_bytes - 500; /* as many digits */
        const struct commit_record_shape shape = {floats, rows[i].record_bytes -
                                                              bytes_beside_payload(&room, about, floats, full)};
        struct commit commit = make(0, 1).commit, read;
        struct commit_record_holds holds;
        struct error error;
        struct stat facts;
        commit.payload_bytes = shape.payload_bytes;
        disk_failpoint(rows[i].failpoint);
        if (commit_record_write(&room, disk_path("record"), &shape, &commit, payload, values[0],
                                full ? values[1] : NULL, full ? values[2] : NULL, &count, &error) != STATUS_OK)
            fail_msg("%s", error.text);
        disk_failpoint("");
        assert_int_equal(stat(disk_path("record"), &facts), 0);
        assert_int_equal(facts.st_size, count);
        assert_int_equal(count, rows[i].record_bytes);
        if (commit_record_read(&room, disk_path("record"), &shape, &read, payload_found, found[0], found[1], found[2],
                               &holds, &error) != STATUS_OK)
            fail_msg("%s", error.text);
        assert_memory_equal(payload_found, payload, shape.payload_bytes);
        for (int array = 0; array < (full ? 3 : 1); array++)
            assert_memory_equal(found[array], values[array], float_bytes);
    }
}

static void set_aside(void **state) {
    (void)state;
    uint32_t count;
    for (uint64_t version = 1; version <= 5; version++)
        append_good(0, version, version % 2 == 0);
    append_good(1, 1, false);
    disk_put("commits/bad.f000-v000000004.full", "older", 5);
    assert_int_equal(commit_log_set_aside(commits, 0, 6, &count, NULL), STATUS_OK);
    assert_int_equal(count, 0);
    assert_int_equal(commit_log_set_aside(commits, 0, 4, &count, NULL), STATUS_OK);
    assert_int_equal(count, 2);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(commit_log_newest(commits, 0), 3);
        assert_int_equal(commit_log_newest_ever(commits, 0), 5);
        assert_int_equal(commit_log_full_below(commits, 0, UINT64_MAX), 2);
        reopen_log();
    }
    assert_string_equal(disk_list("commits"), "bad.f000-v000000004.full bad.f000-v000000005 f000-v000000001 "
                                              "f000-v000000002.full f000-v000000003 f001-v000000001");
    append_good(0, 4, false); /* a new branch takes the version */
    check_reads(0, 4, false);
}

/* Appends versions 1.., each n-th full, prunes after each; then the oldest kept one. */
static void prune_keeps_what_is_needed(void **state) {
    (void)state;
    static const struct {
        uint64_t versions, full_every, oldest;
    } rows[] = {
        {19, 10, 1},                             /* one full: the seed is the other start */
        {20, 10, 10},                            /* the older full and all after it */
        {29, 10, 10}, {30, 10, 20}, {30, 3, 23}, /* fulls 27, 30; the newest 8 */
        {31, 1, 24},  {7, 1, 1},    {30, 40, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(commit_log_prune(commits, 0, NULL), STATUS_OK);
        for (uint64_t version = 1; version <= rows[i].versions; version++) {
            append_good(0, version, version % rows[i].full_every == 0);
            assert_int_equal(commit_log_prune(commits, 0, NULL), STATUS_OK);
        }
        for (int again = 0; again < 2; again++) {
            for (uint64_t version = 1; version <= rows[i].versions; version++)
                assert_int_equal(read_nothing(0, version, NULL),
                                 version < rows[i].oldest ? STATUS_NOT_FOUND : STATUS_OK);
            reopen_log();
        }
        assert_int_equal(commit_log_set_aside(commits, 0, 1, NULL, NULL), STATUS_OK);
        char command[128];
        snprintf(command, sizeof command, "rm %s/commits/bad.*", directory);
        assert_int_equal(system(command), 0);
    }
}

/* The header's formula, at the worst moment: after an append, before its prune. */
static void disk_space_is_bounded(void **state) {
    (void)state;
    for (uint64_t n = 1; n <= 11; n += 5) {
        uint64_t records = (2 * n > COMMIT_LOG_KEPT ? 2 * n : COMMIT_LOG_KEPT) + 1, largest = 0;
        uint64_t bound = records * (PAYLOAD + 4 * FLOATS + 8192) + (records + n - 1) / n * 8 * FLOATS;
        for (uint64_t version = 1; version <= 4 * n + 10; version++) {
            uint64_t used = 0, entries = 0;
            append_good(2, version, version % n == 0);
            for (uint64_t v = 1; v <= version; v++)
                for (int full = 0; full < 2; full++) {
                    struct stat facts;
                    char name[64];
                    snprintf(name, sizeof name, "commits/f002-v%09u%s", (unsigned)v, full ? ".full" : "");
                    if (stat(disk_path(name), &facts) == 0) {
                        used += (uint64_t)facts.st_size;
                        entries++;
                    }
                }
            assert_true(used <= bound && entries <= records);
            largest = entries > largest ? entries : largest;
            assert_int_equal(commit_log_prune(commits, 2, NULL), STATUS_OK);
        }
        assert_int_equal(largest, records); /* the bound is reached, not only kept */
        assert_int_equal(commit_log_set_aside(commits, 2, 1, NULL, NULL), STATUS_OK);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_it, close_it)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(append_and_read),
        TEST(layout),
        TEST(without_residual_or_payload),
        TEST(damage_is_found),
        TEST(whole_but_not_ours),
        TEST(whole_with_another_message),
        TEST(renamed_records),
        TEST(no_regular_file),
        TEST(names_on_the_disk),
        TEST(failed_append_leaves_nothing),
        TEST(a_directory_that_is_gone),
        TEST(killed_in_an_append),
        TEST(records_of_any_size),
        TEST(set_aside),
        TEST(prune_keeps_what_is_needed),
        TEST(disk_space_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
