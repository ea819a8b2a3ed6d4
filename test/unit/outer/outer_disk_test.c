/* outer_disk: what outer.json says, whose it is, and what a torn or foreign one is answered with. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/bytes.h"
#include "outer/outer_disk.h"
#include "disk_fixture.h"

static const uint8_t RUN_ID[MESSAGE_HASH_BYTES] = {0x9f, 1, 2, [31] = 0xee};
static const char RUN_ID_TEXT[] = "9f010200000000000000000000000000000000000000000000000000000000ee";

static enum status open_disk(struct outer_disk *disk, bool *found, struct error *error) {
    return outer_disk_open(disk, directory, RUN_ID, "novels-4", found, error);
}

static void none_then_epochs(void **state) {
    (void)state;
    struct outer_disk disk, again;
    bool found = true;
    assert_int_equal(open_disk(&disk, &found, NULL), STATUS_OK);
    assert_false(found);
    assert_int_equal(disk.state.epoch, 0);
    assert_string_equal(disk_list("."), "");
    static const struct {
        uint64_t seen, wall_s, epoch;
    } rows[] = {{0, 0, 1},
                {0, 0, 2},
                {1, 2, 3},
                {3, 3, 4},
                {9, 4, 10},
                {9, 1795351791, 1795351791}, /* the clock's */
                {9, 1795351791, 1795351792}, /* again within a second */
                {9, 1795351790, 1795351793}, /* the clock went back */
                {1795352000, 1795351999, 1795352001},
                {9, UINT64_MAX, 1795352002}, /* a clock beyond all epochs */
                {9, (UINT64_C(1) << 48) - 1, 1795352003},
                {UINT64_C(1) << 40, 1795351999, (UINT64_C(1) << 40) + 1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(outer_disk_begin_epoch(&disk, rows[i].seen, rows[i].wall_s, NULL), STATUS_OK);
        assert_true(disk.state.epoch == rows[i].epoch);
        assert_int_equal(open_disk(&again, &found, NULL), STATUS_OK);
        assert_true(found && again.state.epoch == rows[i].epoch);
    }
}

/* The same backup is put back twice, and each time the run goes on from it. */
static void two_restores_of_one_backup(void **state) {
    (void)state;
    struct outer_disk disk, first, second;
    bool found;
    size_t count;
    assert_int_equal(open_disk(&disk, &found, NULL), STATUS_OK);
    assert_int_equal(outer_disk_begin_epoch(&disk, 0, 1000, NULL), STATUS_OK);
    uint8_t *backup = disk_get("outer.json", &count);
    assert_int_equal(open_disk(&first, &found, NULL), STATUS_OK);
    assert_int_equal(outer_disk_begin_epoch(&first, 1000, 1060, NULL), STATUS_OK);
    disk_put("outer.json", backup, count);
    assert_int_equal(open_disk(&second, &found, NULL), STATUS_OK);
    assert_int_equal(outer_disk_begin_epoch(&second, 1000, 1075, NULL), STATUS_OK);
    assert_true(second.state.epoch > first.state.epoch);
    free(backup);
}

static void every_field_comes_back(void **state) {
    (void)state;
    struct outer_disk disk, again;
    bool found;
    assert_int_equal(open_disk(&disk, &found, NULL), STATUS_OK);
    for (int i = 0; i < 8; i++) {
        struct outer_disk_state wanted = {.epoch = 7,
                                          .started = i & 1,
                                          .ended = i & 2,
                                          .finished = i & 4,
                                          .live_mask = i == 0 ? UINT64_MAX : UINT64_C(0x8000000000000001) >> i % 2};
        assert_int_equal(outer_disk_write(&disk, &wanted, NULL), STATUS_OK);
        assert_int_equal(open_disk(&again, &found, NULL), STATUS_OK);
        assert_true(found);
        assert_true(again.state.epoch == 7 && again.state.started == wanted.started &&
                    again.state.ended == wanted.ended && again.state.finished == wanted.finished &&
                    again.state.live_mask == wanted.live_mask);
    }
    struct outer_disk_state last = {3 + 4, true, false, false, 5};
    assert_int_equal(outer_disk_write(&disk, &last, NULL), STATUS_OK);
    size_t count;
    uint8_t *bytes = disk_get("outer.json", &count);
    char text[300];
    snprintf(text, sizeof text,
             "{\"schema\":1,\"run_id\":\"%s\",\"name\":\"novels-4\",\"epoch\":7,\"started\":true,\"ended\":false,"
             "\"finished\":false,\"live\":[0,2]}\n",
             RUN_ID_TEXT);
    assert_string_equal((char *)bytes, text);
    free(bytes);

    assert_int_equal(unlink(disk_path("outer.json")), 0); /* the same again is written only where it is missing */
    assert_int_equal(outer_disk_write(&disk, &last, NULL), STATUS_OK);
    disk_put("outer.json", "x", 1);
    assert_int_equal(outer_disk_write(&disk, &last, NULL), STATUS_OK);
    free(disk_get("outer.json", &count));
    assert_int_equal(count, 1);
}

static void another_run_is_refused(void **state) {
    (void)state;
    struct outer_disk disk;
    struct error error;
    bool found;
    char text[700];
    uint8_t other[MESSAGE_HASH_BYTES] = {0xab};
    assert_int_equal(open_disk(&disk, &found, NULL), STATUS_OK);
    assert_int_equal(outer_disk_begin_epoch(&disk, 0, 0, NULL), STATUS_OK);
    assert_int_equal(outer_disk_open(&disk, directory, other, "poems", &found, &error), STATUS_CONFIG);
    snprintf(
        text, sizeof text,
        "%s/outer.json is of run %s ('novels-4'), this is run "
        "ab00000000000000000000000000000000000000000000000000000000000000 ('poems'): choose another --dir for this "
        "run, or go on with the run file and the keys that began that one",
        directory, RUN_ID_TEXT);
    assert_string_equal(error.text, text);
    assert_false(found);
}

static void check_text(const char *json, size_t count, enum status status, const char *what) {
    struct outer_disk disk;
    struct error error = {0};
    bool found = true;
    char text[700];
    disk_put("outer.json", json, count);
    assert_int_equal(open_disk(&disk, &found, &error), status);
    assert_false(found);
    if (status == STATUS_DATA)
        snprintf(text, sizeof text,
                 "%s/outer.json: %s. Put a good copy back; or remove it, then this outer counts as one that lost its "
                 "state, and its commits and workers bring it back",
                 directory, what);
    else
        snprintf(text, sizeof text, "%s/outer.json: %s", directory, what);
    assert_string_equal(error.text, text);
}

static void torn_or_foreign(void **state) {
    (void)state;
    struct outer_disk disk;
    bool found;
    size_t count;
    assert_int_equal(open_disk(&disk, &found, NULL), STATUS_OK);
    assert_int_equal(outer_disk_write(&disk, &(struct outer_disk_state){1, true, true, true, 3}, NULL), STATUS_OK);
    uint8_t *good = disk_get("outer.json", &count);
    for (size_t cut = 0; cut + 1 < count; cut++) { /* the last byte is the line's end */
        disk_put("outer.json", good, cut);
        assert_int_equal(open_disk(&disk, &found, NULL), STATUS_DATA);
        assert_false(found);
    }
    static const struct {
        const char *from, *to; /* replaced in the good one */
        enum status status;
        const char *what;
    } rows[] = {
        {"\"schema\":1", "\"schema\":2", STATUS_CONFIG,
         "expected schema 1, found 2: start the version of atoll that wrote it"},
        {"\"schema\":1", "\"schema\":\"1\"", STATUS_DATA, "Expected integer, got string"},
        {"\"epoch\":1", "\"epoch\":-1", STATUS_DATA, "epoch: expected a number from 0 to 2^48 - 1"},
        {"\"epoch\":1", "\"epoch\":281474976710656", STATUS_DATA, "epoch: expected a number from 0 to 2^48 - 1"},
        {"\"epoch\":1", "\"epoch\":1.5", STATUS_DATA, "Expected integer, got real"},
        {"\"epoch\":1,", "", STATUS_DATA, "Object item not found: epoch"},
        {"\"epoch\":1,", "\"epoch\":1,\"epoch\":2,", STATUS_DATA, "duplicate object key near '\"epoch\"'"},
        {"\"epoch\":1,", "\"epoch\":1,\"more\":2,", STATUS_DATA, "1 object item(s) left unpacked: more"},
        {"\"ended\":true", "\"ended\":1", STATUS_DATA, "Expected true or false, got integer"},
        {"[0,1]", "[0,64]", STATUS_DATA, "live: expected a list of slots 0..63"},
        {"[0,1]", "[0,-1]", STATUS_DATA, "live: expected a list of slots 0..63"},
        {"[0,1]", "[0,true]", STATUS_DATA, "live: expected a list of slots 0..63"},
        {"[0,1]", "3", STATUS_DATA, "live: expected a list of slots 0..63"},
        {"9f01", "9g01", STATUS_DATA, "run_id: expected 64 hex digits"},
        {"9f01", "9f0", STATUS_DATA, "run_id: expected 64 hex digits"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[512];
        const char *at = strstr((char *)good, rows[i].from);
        assert_non_null(at);
        int length = snprintf(text, sizeof text, "%.*s%s%s", (int)(at - (char *)good), (char *)good, rows[i].to,
                              at + strlen(rows[i].from));
        check_text(text, (size_t)length, rows[i].status, rows[i].what);
    }
    static char large[70000];
    memset(large, ' ', sizeof large);
    check_text(large, sizeof large, STATUS_DATA, "far too large");
    check_text("[1]\n", 4, STATUS_DATA, "Expected object, got array");
    free(good);
}

static void debris_of_a_killed_write_goes(void **state) {
    (void)state;
    struct outer_disk disk;
    bool found;
    assert_int_equal(open_disk(&disk, &found, NULL), STATUS_OK);
    assert_int_equal(outer_disk_begin_epoch(&disk, 0, 0, NULL), STATUS_OK);
    disk_put("outer.json.tmp", "{", 1);
    disk_put("outer.json.tmp-78-1", "{", 1);
    disk_put("outer.json.kept", "{", 1);
    assert_int_equal(open_disk(&disk, &found, NULL), STATUS_OK);
    assert_true(found && disk.state.epoch == 1);
    assert_string_equal(disk_list("."), "outer.json outer.json.kept");
}

static void failures(void **state) {
    (void)state;
    struct outer_disk disk;
    struct error error;
    bool found;
    assert_int_equal(outer_disk_open(&disk, "/nowhere-at-all", RUN_ID, "novels-4", &found, &error), STATUS_IO);
    assert_string_equal(error.text, "cannot read directory /nowhere-at-all: No such file or directory");
    assert_int_equal(open_disk(&disk, &found, NULL), STATUS_OK);
    assert_int_equal(outer_disk_write(&disk, &(struct outer_disk_state){(UINT64_C(1) << 48) - 1, 0, 0, 0, 0}, NULL),
                     STATUS_OK);
    assert_int_equal(outer_disk_begin_epoch(&disk, 0, 5, &error), STATUS_DATA);
    assert_int_equal(unlink(disk_path("outer.json")), 0);
    assert_int_equal(rmdir(directory), 0);
    struct outer_disk_state state_before = disk.state, next = disk.state;
    next.finished = true;
    assert_int_not_equal(outer_disk_write(&disk, &next, &error), STATUS_OK);
    assert_memory_equal(&disk.state, &state_before, sizeof state_before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, disk_make, disk_remove)
int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(none_then_epochs),
        TEST(two_restores_of_one_backup),
        TEST(every_field_comes_back),
        TEST(another_run_is_refused),
        TEST(torn_or_foreign),
        TEST(debris_of_a_killed_write_goes),
        TEST(failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
