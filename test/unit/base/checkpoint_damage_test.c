/* checkpoint, read back: each byte is damaged, lengths are wrong, reading fails, and files with right hashes have hostile contents. The rule: the
 * older state or none, never a mixture, and a text that names what is wrong. */
#include "checkpoint_fixture.h"

/* ---- damage ---- */

/* Two generations with seeds 1 and 2; the newer one has been damaged. It must open as the older one and say why; then both are as before. */
static void assert_falls_back(const char *why) {
    struct error warning;
    assert_int_equal(must_open(&warning), 1);
    assert_int_equal(warning.status, STATUS_DATA);
    if (why != NULL) {
        char pattern[TEXT_BYTES];
        snprintf(pattern, sizeof pattern,
                 "going back to checkpoint 00000001; @/00000002/%s (kept in @ as bad.N to be looked at)", why);
        assert_text(warning.text, pattern);
    }
    assert_string_equal(listing(), "00000001 bad.00000002 ");
    assert_int_equal(must_open(&warning), 1);
    assert_string_equal(warning.text, "");
    assert_int_equal(rename(path_of("bad.00000002"), path_of("00000002")), 0);
}

/* With one generation only: nothing is renamed then, so this needs no fsync per byte. */
static void every_byte_counts(void **state) {
    (void)state;
    static const char *const names[] = {"00000001/manifest.json", "00000001/state.safetensors"};
    struct error error, warning;
    must_write(2);
    for (int i = 0; i < 2; i++) {
        uint8_t *bytes;
        size_t count;
        read_file(names[i], &bytes, &count);
        for (size_t at = 0; at < count; at++) {
            uint8_t flips[] = {(uint8_t)(1 << at % 8), 0x20, 0xff}; /* 0x20: E and e, capitals in hex */
            for (size_t flip = 0; flip < sizeof flips; flip++) {
                bytes[at] ^= flips[flip];
                write_file(names[i], bytes, count);
                assert_int_equal(open_fails(&error), STATUS_DATA);
                assert_non_null(strstr(error.text, "damaged"));
                bytes[at] ^= flips[flip];
            }
        }
        write_file(names[i], bytes, count);
        free(bytes);
    }
    assert_int_equal(must_open(&warning), 2);
}

static void other_lengths(void **state) {
    (void)state;
    static const char *const names[] = {"00000002/manifest.json", "00000002/state.safetensors"};
    uint8_t *bytes;
    size_t count;
    must_write(1);
    must_write(2);
    for (int i = 0; i < 2; i++) {
        read_file(names[i], &bytes, &count);
        for (size_t length = 0; length < count; length += length < 50 || length > count - 50 ? 1 : 13) {
            write_file(names[i], bytes, length);
            assert_falls_back(NULL);
        }
        for (const char *more = "\n x\xff"; *more; more++) {
            bytes[count] = (uint8_t)*more; /* files_read leaves room for its NUL */
            write_file(names[i], bytes, count + 1);
            assert_falls_back(NULL);
        }
        write_file(names[i], bytes, count);
        free(bytes);
    }
}

/* One text for each kind of damage. */
static void damage_is_named(void **state) {
    (void)state;
    char *manifest = strdup("00000002/manifest.json"), *data = strdup("00000002/state.safetensors"), text[200];
    uint8_t *bytes;
    size_t count;
    must_write(1);
    must_write(2);
    read_file(manifest, &bytes, &count);
    bytes[20] ^= 1;
    write_file(manifest, bytes, count);
    assert_falls_back("manifest.json is damaged or cut off: its hash is not that of its text");
    bytes[20] ^= 1;
    write_file(manifest, bytes, 10);
    assert_falls_back("manifest.json has 10 bytes, expected 48 to 16777216");
    assert_int_equal(unlink(path_of(manifest)), 0);
    assert_falls_back(NULL);
    assert_int_equal(mkdir(path_of(manifest), 0755), 0);
    assert_falls_back("manifest.json is not a regular file");
    assert_int_equal(rmdir(path_of(manifest)), 0);
    assert_int_equal(mkfifo(path_of(manifest), 0644), 0);
    assert_falls_back("manifest.json is not a regular file");
    assert_int_equal(unlink(path_of(manifest)), 0);
    write_file(manifest, bytes, count);
    free(bytes);

    read_file(data, &bytes, &count);
    bytes[count - 1] ^= 1;
    write_file(data, bytes, count);
    assert_falls_back("state.safetensors is damaged: its hash is not the manifest's");
    write_file(data, bytes, count - 1);
    snprintf(text, sizeof text, "state.safetensors has %zu bytes, its manifest says %zu", count - 1, count);
    assert_falls_back(text);
    assert_int_equal(unlink(path_of(data)), 0);
    free(bytes);
    struct error warning;
    assert_int_equal(must_open(&warning), 1);
    assert_text(warning.text,
                "going back to checkpoint 00000001; cannot read @/00000002/state.safetensors: No such file "
                "or directory (kept in @ as bad.N to be looked at)");
    free(manifest);
    free(data);
}

static void a_file_in_place_of_a_generation(void **state) {
    (void)state;
    struct error warning;
    must_write(1);
    write_file("00000002", "x", 1);
    assert_int_equal(must_open(&warning), 1);
    assert_string_equal(listing(), "00000001 bad.00000002 ");
    must_write(3);
    write_file("00000004", "x", 1);
    must_open(&warning);
    must_write(5);
    assert_string_equal(listing(), "00000003 00000005 bad.00000004 ");
}

static void damage_data(const char *generation) {
    char name[100];
    snprintf(name, sizeof name, "%s/state.safetensors", generation);
    FILE *file = fopen(path_of(name), "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    assert_int_equal(fputc('!', file), '!');
    fclose(file);
}

static void one_bad_one_is_kept(void **state) {
    (void)state;
    struct error warning;
    must_write(1);
    must_write(2);
    damage_data("00000002");
    assert_int_equal(must_open(&warning), 1);
    assert_int_equal(must_write(3), 3); /* not 2 again */
    assert_string_equal(listing(), "00000001 00000003 bad.00000002 ");
    assert_int_equal(must_write(4), 4);
    damage_data("00000004");
    assert_int_equal(must_open(&warning), 3);
    assert_string_equal(listing(), "00000003 bad.00000002 bad.00000004 ");
    assert_int_equal(must_write(5), 5);
    assert_string_equal(listing(), "00000003 00000005 bad.00000004 ");
}

static void none_is_good(void **state) {
    (void)state;
    struct error error;
    must_write(1);
    must_write(2);
    damage_data("00000001");
    damage_data("00000002");
    for (int again = 0; again < 2; again++) {
        assert_int_equal(open_fails(&error), STATUS_DATA);
        assert_text(error.text,
                    "no checkpoint in @ is good; @/00000002/state.safetensors is damaged: its hash is not the "
                    "manifest's; @/00000001/state.safetensors is damaged: its hash is not the manifest's. Put a "
                    "good copy there, or move the directory away to start without it");
        assert_string_equal(listing(), "00000001 00000002 "); /* untouched */
    }
    assert_int_equal(rename(path_of("00000001"), path_of("bad.00000001")), 0);
    assert_int_equal(rename(path_of("00000002"), path_of("bad.00000002")), 0);
    assert_int_equal(open_fails(&error), STATUS_DATA);
    assert_text(error.text,
                "no checkpoint in @ is good: those named bad.N were damaged. Put a good copy there, or move the "
                "directory away to start without it");
}

/* A bad sector is damage; a missing permission is not, and nothing may be renamed for it. */
static void reading_fails(void **state) {
    (void)state;
    struct error error, warning;
    must_write(1);
    must_write(2);
    for (int hit = 1; hit <= 4; hit++) { /* manifest, digest, length, header */
        char variable[100];
        snprintf(variable, sizeof variable, "checkpoint.read=EACCES@%d", hit);
        set_failpoints(variable);
        assert_int_equal(open_fails(&error), STATUS_IO);
        snprintf(variable, sizeof variable, "cannot read @/00000002/%s: Permission denied",
                 hit == 1 ? "manifest.json" : "state.safetensors");
        assert_text(error.text, variable);
        assert_string_equal(listing(), "00000001 00000002 ");
    }
    set_failpoints("checkpoint.read=EINTR");
    assert_int_equal(must_open(&warning), 2);
    for (int hit = 1; hit <= 4; hit++) {
        char variable[100];
        snprintf(variable, sizeof variable, "checkpoint.read=EIO@%d", hit);
        set_failpoints(variable);
        assert_int_equal(must_open(&warning), 1);
        assert_non_null(strstr(warning.text, ": Input/output error (kept in "));
        assert_int_equal(rename(path_of("bad.00000002"), path_of("00000002")), 0);
    }
    set_failpoints("checkpoint.read=EIO,files.rename=ENOSPC");
    assert_int_equal(open_fails(&error), STATUS_IO);
    assert_text(error.text,
                "cannot rename to @/bad.00000002: No space left on device (free some space there and try again)");
}

/* ---- hostile: the hashes are right ---- */

static void write_manifest(const char *name, const char *body) {
    char text[TEXT_BYTES * 2], digest[CHECKPOINT_DIGEST_CHARS];
    checkpoint_digest(body, strlen(body), digest);
    int length = snprintf(text, sizeof text, "%s,\n \"hash\": \"%s\"\n}\n", body, digest);
    write_file(name, text, (size_t)length);
}

/* A generation 1 whose state.safetensors is exactly these bytes. */
static void write_crafted(const uint8_t *bytes, size_t count) {
    char body[TEXT_BYTES], digest[CHECKPOINT_DIGEST_CHARS];
    struct error error;
    assert_int_equal(files_make_directory(path_of("00000001"), 0755, &error), STATUS_OK);
    write_file("00000001/state.safetensors", bytes, count);
    checkpoint_digest(bytes, count, digest);
    snprintf(
        body, sizeof body,
        "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}, \"files\": {\"state.safetensors\": "
        "{\"bytes\": %zu, \"xxh3_128\": \"%s\"}}",
        count, digest);
    write_manifest("00000001/manifest.json", body);
}

static void assert_refused(enum status expected, const char *why) {
    struct error error;
    char pattern[TEXT_BYTES];
    assert_int_equal(open_fails(&error), expected);
    snprintf(pattern, sizeof pattern,
             expected == STATUS_DATA ? "no checkpoint in @ is good; @/00000001/%s. Put a good copy there, or move the "
                                       "directory away to start without it"
                                     : "@/00000001/%s",
             why);
    assert_text(error.text, pattern);
}

static void hostile_headers(void **state) {
    (void)state;
    static const struct {
        const char *header, *why; /* 40 bytes of data follow; the text behind "state.safetensors: " */
    } rows[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[10],\"data_offsets\":[0,40]}",
         "the header is no JSON object: '}' expected near end of file"},
        {"[1]", "the header is no JSON object: a list"},
        {"", "the header is no JSON object: '[' or '{' expected near end of file"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[20],\"data_offsets\":[0,20]},\"a\":{\"dtype\":\"U8\",\"shape\":[20],"
         "\"data_"
         "offsets\":[20,40]}}",
         "the header is no JSON object: duplicate object key near '\"a\"'"},
        {"{}", "the arrays are 0 bytes, but 40 follow the header"},
        {"{\"a\":3}", "array 'a': expected dtype, a shape of one number and data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2,5],\"data_offsets\":[0,40]}}",
         "array 'a': expected dtype, a shape of one number and data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[10.0],\"data_offsets\":[0,40]}}",
         "array 'a': expected dtype, a shape of one number and data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[10],\"data_offsets\":[0,40],\"more\":1}}",
         "array 'a': expected dtype, a shape of one number and data_offsets"},
        {"{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[10],\"data_offsets\":[0,40]}}",
         "array '__metadata__': expected dtype, a shape of one number and data_offsets"},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[20],\"data_offsets\":[0,40]}}",
         "array 'a': dtype is BF16, expected F32 or U8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,-4]}}",
         "array 'a': -1 of F32 are more than the file holds"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[11],\"data_offsets\":[0,44]}}",
         "array 'a': 11 of F32 are more than the file holds"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387914],\"data_offsets\":[0,40]}}",
         "array 'a': 4611686018427387914 of F32 are more than the file holds"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,9223372036854775807]}}",
         "array 'a': 9223372036854775807 of F32 are more than the file holds"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[10],\"data_offsets\":[4,44]}}",
         "array 'a': data_offsets are [4,44], expected [0,40]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]},\"b\":{\"dtype\":\"F32\",\"shape\":[5],"
         "\"data_"
         "offsets\":[0,20]}}",
         "array 'b': data_offsets are [0,20], expected [20,40]"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]}}",
         "the arrays are 20 bytes, but 40 follow the header"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[TEXT_BYTES] = {0};
        char why[300];
        size_t length = strlen(rows[i].header);
        bytes_store_u64(bytes, length);
        memcpy(bytes + 8, rows[i].header, length);
        write_crafted(bytes, 8 + length + 40);
        snprintf(why, sizeof why, "state.safetensors: %s", rows[i].why);
        assert_refused(STATUS_DATA, why);
    }
}

static void hostile_lengths(void **state) {
    (void)state;
    uint8_t bytes[100] = {0};
    static const uint64_t lengths[] = {93, 1 << 20, 1000000000000, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char why[200];
        bytes_store_u64(bytes, lengths[i]);
        write_crafted(bytes, sizeof bytes);
        snprintf(why, sizeof why,
                 "state.safetensors: a header of %llu bytes is more than the file or the limit of 1048576",
                 (unsigned long long)lengths[i]);
        assert_refused(STATUS_DATA, why);
    }
    write_crafted(bytes, 7);
    assert_refused(STATUS_DATA, "state.safetensors ends at byte 7");
    write_crafted(bytes, 0);
    assert_refused(STATUS_DATA, "state.safetensors ends at byte 0");
}

static void hostile_manifests(void **state) {
    (void)state;
    static const struct {
        enum status status;
        const char *body, *why;
    } rows[] = {
        {STATUS_DATA, "", "manifest.json is not JSON: '[' or '{' expected near ','"},
        {STATUS_DATA, "{\"kind\": \"outer\"", "manifest.json: Object item not found: schema"},
        {STATUS_DATA, "{\"schema\": \"1\"", "manifest.json: Expected integer, got string"},
        {STATUS_CONFIG, "{\"schema\": 2",
         "manifest.json has schema 2, this atoll reads 1: open it with the version that wrote it"},
        {STATUS_DATA, "{\"schema\": 1, \"schema\": 1",
         "manifest.json is not JSON: duplicate object key near '\"schema\"'"},
        {STATUS_DATA, "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": []",
         "manifest.json: state is not an object"},
        {STATUS_DATA, "{\"schema\": 1, \"kind\": \"outer\", \"generation\": -1, \"state\": {}",
         "manifest.json says that it is generation -1"},
        {STATUS_DATA, "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 2, \"state\": {}",
         "manifest.json says that it is generation 2"},
        {STATUS_DATA, "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 99999999999999999999, \"state\": {}",
         "manifest.json is not JSON: too big integer near '99999999999999999999'"},
        {STATUS_CONFIG, "{\"schema\": 1, \"kind\": \"worker\", \"generation\": 1, \"state\": {}",
         "manifest.json is of kind 'worker', expected 'outer': choose another --dir"},
        {STATUS_DATA, "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}",
         "state.safetensors: its manifest: Object item not found: files"},
        {STATUS_DATA,
         "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}, \"files\": {\"../../x\": {\"bytes\": "
         "1}}",
         "state.safetensors: its manifest: Object item not found: state.safetensors"},
        {STATUS_DATA,
         "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}, \"files\": {\"state.safetensors\": "
         "{\"bytes\": -5, \"xxh3_128\": \"\"}}",
         "state.safetensors: its manifest says -5 bytes"},
        {STATUS_DATA,
         "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}, \"files\": {\"state.safetensors\": "
         "{\"bytes\": 9223372036854775807, \"xxh3_128\": \"\"}}",
         "state.safetensors has 8 bytes, its manifest says 9223372036854775807"},
        {STATUS_DATA,
         "{\"schema\": 1, \"kind\": \"outer\", \"generation\": 1, \"state\": {}, \"files\": {\"state.safetensors\": "
         "{\"bytes\": 8, \"xxh3_128\": \"\"}}",
         "state.safetensors is damaged: its hash is not the manifest's"},
    };
    struct error error;
    assert_int_equal(files_make_directory(path_of("00000001"), 0755, &error), STATUS_OK);
    write_file("00000001/state.safetensors", "12345678", 8);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_manifest("00000001/manifest.json", rows[i].body);
        assert_refused(rows[i].status, rows[i].why);
        assert_string_equal(listing(), "00000001 ");
    }
}

/* Of another kind or schema: no way back to an older one behind the person's back. */
static void another_kind_stops(void **state) {
    (void)state;
    struct error error, warning;
    struct checkpoint *checkpoint = NULL;
    must_write(1);
    must_write(2);
    assert_int_equal(checkpoint_open(directory, "worker", &checkpoint, &warning, &error), STATUS_CONFIG);
    assert_null(checkpoint);
    assert_text(error.text, "@/00000002/manifest.json is of kind 'outer', expected 'worker': choose another --dir");
    assert_string_equal(listing(), "00000001 00000002 ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(every_byte_counts),   TEST(other_lengths),
        TEST(damage_is_named),     TEST(a_file_in_place_of_a_generation),
        TEST(one_bad_one_is_kept), TEST(none_is_good),
        TEST(reading_fails),       TEST(hostile_headers),
        TEST(hostile_lengths),     TEST(hostile_manifests),
        TEST(another_kind_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
