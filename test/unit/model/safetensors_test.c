/* safetensors: bytes on disk, round trip, BF16, and a table of hostile files with the exact text for each. The small table stands for a
 * model with two tensors: a.weight (2,3) and b.weight (4,). */
#include "base/bytes.h"
#include "model/safetensors.h"
#include "support.h"

static struct tensor tensors[] = {
    {.name = "a.weight", .rows = 2, .columns = 3, .dimensions = 2, .offset = 0, .count = 6},
    {.name = "b.weight", .rows = 1, .columns = 4, .dimensions = 1, .offset = 16, .count = 4},
};
static const struct tensor_table table = {.tensors = tensors, .count = 2, .parameter_count = 10, .block_floats = 32};

static void make_path(char *path, const char *directory) {
    snprintf(path, SUPPORT_PATH_BYTES + 16, "%s/x.safetensors", directory);
}

static void round_trip(void **state) {
    (void)state;
    const char *directory = support_directory();
    char path[SUPPORT_PATH_BYTES + 16];
    make_path(path, directory);
    struct error error;
    float block[32] = {0}, found[32];
    for (int i = 0; i < 10; i++)
        block[i < 6 ? i : i + 10] = 0.1f * (float)(i + 1);
    struct safetensors_metadata metadata = {.key = "run", .value = "novels-4"};
    assert_int_equal(safetensors_write(path, &table, block, &metadata, 1, &error), STATUS_OK);
    memset(found, 0xff, sizeof found);
    assert_int_equal(safetensors_read(path, &table, found, &error), STATUS_OK);
    assert_memory_equal(block, found, sizeof block); /* the gaps came back as zeros */

    FILE *file = fopen(path, "rb");
    static char bytes[1024];
    size_t count = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    uint64_t header = bytes_load_u64((uint8_t *)bytes);
    static const char expected[] = "{\"__metadata__\":{\"format\":\"pt\",\"run\":\"novels-4\"},"
                                   "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                                   "\"b.weight\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[24,40]}}";
    assert_int_equal(header % 8, 0);
    assert_memory_equal(bytes + 8, expected, sizeof expected - 1);
    for (size_t i = sizeof expected - 1; i < header; i++)
        assert_int_equal(bytes[8 + i], ' ');
    assert_int_equal(count, 8 + header + 40);
    assert_memory_equal(bytes + 8 + header + 24, block + 16, 16);
    support_remove(directory);
}

static void write_file(const char *directory, uint64_t header_bytes, const char *header, size_t data_bytes) {
    static uint8_t file[4096];
    size_t length = strlen(header);
    memset(file, 0, sizeof file);
    bytes_store_u64(file, header_bytes);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < data_bytes; i++)
        file[8 + length + i] = (uint8_t)(i % 2 ? 0x3f : 0x80); /* as BF16: 0x3f80 = 1 */
    support_write(directory, "x.safetensors", file, 8 + length + data_bytes);
}

static void reads_bf16_in_any_order(void **state) {
    (void)state;
    const char *directory = support_directory();
    char path[SUPPORT_PATH_BYTES + 16];
    make_path(path, directory);
    struct error error = {0};
    float found[32];
    static const char header[] = "{\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[12,20]},"
                                 "\"a.weight\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]}}";
    write_file(directory, sizeof header - 1, header, 20);
    if (safetensors_read(path, &table, found, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    for (int i = 0; i < 10; i++)
        assert_true(found[i < 6 ? i : i + 10] == 1.0f);
    support_remove(directory);
}

#define A     "\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define B(x)  "\"b.weight\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":" x "}"
#define GOOD  "{" A "," B("[24,40]") "}"
#define WHOLE 0 /* header_bytes: as long as the text */

static void refuses_hostile_files(void **state) {
    (void)state;
    static const struct {
        uint64_t header_bytes;
        const char *header;
        size_t data_bytes;
        const char *text;
    } cases[] = {
        {UINT64_C(100000001), GOOD, 40, "a header of 100000001 bytes is above the format's limit of 100000000"},
        {UINT64_MAX, GOOD, 40, "a header of 18446744073709551615 bytes is above the format's limit of 100000000"},
        {5000, "{}", 0, "the header should be 5000 bytes, but the file ends after 2"},
        {WHOLE, " {}", 0, "the header does not start with '{'"},
        {WHOLE, "{\"a", 0, "the header is not JSON: premature end of input near '\"a'"},
        {WHOLE, "{" A "," A "}", 24, "the header is not JSON: duplicate object key near '\"a.weight\"'"},
        {WHOLE, "{\"__metadata__\":3," A "," B("[24,40]") "}", 40, "__metadata__ is not an object"},
        {WHOLE, "{" A "}", 24, "tensor b.weight is missing (1 of 2 are there)"},
        {WHOLE, "{}", 0, "tensor a.weight is missing (0 of 2 are there)"},
        {WHOLE, "{" A "," B("[24,40]") ",\"c\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,0]}}", 40,
         "unexpected tensor c; this model has none of that name"},
        {WHOLE, "{" A ",\"b.weight\":7}", 40, "b.weight: dtype is missing, expected F32 or BF16"},
        {WHOLE, "{" A ",\"b.weight\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":[24,32]}}", 32,
         "b.weight: dtype is F16, expected F32 or BF16"},
        {WHOLE, "{" A ",\"b.weight\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[24,44]}}", 44,
         "b.weight: shape is [5], expected [4]"},
        {WHOLE, "{" A ",\"b.weight\":{\"dtype\":\"F32\",\"data_offsets\":[24,44]}}", 44,
         "b.weight: shape is missing, expected [4]"},
        {WHOLE, "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[3,2],\"data_offsets\":[0,24]}}", 24,
         "a.weight: shape is [3,2], expected [2,3]"},
        {WHOLE, "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[6],\"data_offsets\":[0,24]}}", 24,
         "a.weight: shape is [6], expected [2,3]"},
        {WHOLE, "{" A "," B("[24]") "}", 40, "b.weight: data_offsets is not a pair of numbers"},
        {WHOLE, "{" A "," B("[-16,0]") "}", 40, "b.weight: data_offsets is not a pair of numbers"},
        {WHOLE, "{" A "," B("[24.0,40.0]") "}", 40, "b.weight: data_offsets is not a pair of numbers"},
        {WHOLE, "{" A "," B("[40,24]") "}", 40, "b.weight: data_offsets [40,24] do not hold its 16 bytes"},
        {WHOLE, "{" A "," B("[24,9000000000000000000]") "}", 40,
         "b.weight: data_offsets [24,9000000000000000000] do not hold its 16 bytes"},
        {WHOLE, "{" A "," B("[20,36]") "}", 36,
         "b.weight starts at byte 20 of the data, but the tensor before it ends at 24 (they overlap)"},
        {WHOLE, "{" A "," B("[28,44]") "}", 44,
         "b.weight starts at byte 28 of the data, but the tensor before it ends at 24 (a hole)"},
        {WHOLE, GOOD, 39, "the tensors are 40 bytes, but the file holds 39 after the header"},
        {WHOLE, GOOD, 41, "the tensors are 40 bytes, but the file holds 41 after the header"},
    };
    const char *directory = support_directory();
    char path[SUPPORT_PATH_BYTES + 16], expected[2 * SUPPORT_PATH_BYTES];
    make_path(path, directory);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        float block[32], before[32];
        memset(block, 0x5a, sizeof block);
        memcpy(before, block, sizeof block);
        write_file(directory, cases[i].header_bytes == WHOLE ? strlen(cases[i].header) : cases[i].header_bytes,
                   cases[i].header, cases[i].data_bytes);
        assert_int_equal(safetensors_read(path, &table, block, &error), STATUS_DATA);
        snprintf(expected, sizeof expected, "%s: %s", path, cases[i].text);
        assert_string_equal(error.text, expected);
        assert_memory_equal(block, before, sizeof block);
    }
    support_remove(directory);
}

static void refuses_missing_and_tiny_files(void **state) {
    (void)state;
    const char *directory = support_directory();
    char path[SUPPORT_PATH_BYTES + 16];
    make_path(path, directory);
    struct error error = {0};
    float block[32];
    assert_int_equal(safetensors_read(path, &table, block, &error), STATUS_NOT_FOUND);
    support_assert_text(&error, directory, "@/x.safetensors: cannot open: No such file or directory");
    support_write(directory, "x.safetensors", "1234567", 7);
    assert_int_equal(safetensors_read(path, &table, block, &error), STATUS_DATA);
    support_assert_text(&error, directory, "@/x.safetensors: 7 bytes are too few for a safetensors file");
    assert_int_equal(safetensors_read(directory, &table, block, &error), STATUS_DATA);
    support_assert_text(&error, directory, "@: not a regular file");
    support_remove(directory);
}

/* Every byte of a good file changed in turn: refused or read, never a crash. */
static void survives_any_flipped_byte(void **state) {
    (void)state;
    const char *directory = support_directory();
    char path[SUPPORT_PATH_BYTES + 16];
    make_path(path, directory);
    struct error error = {0};
    float block[32] = {0};
    static uint8_t file[1024];
    assert_int_equal(safetensors_write(path, &table, block, NULL, 0, &error), STATUS_OK);
    FILE *stream = fopen(path, "rb");
    size_t count = fread(file, 1, sizeof file, stream), refused = 0;
    fclose(stream);
    static const uint8_t flips[] = {0x01, 0x80, 0xff};
    for (size_t i = 0; i < count - 40; i++)
        for (size_t j = 0; j < sizeof flips; j++) {
            file[i] ^= flips[j];
            support_write(directory, "x.safetensors", file, count);
            refused += safetensors_read(path, &table, block, &error) != STATUS_OK;
            file[i] ^= flips[j];
        }
    assert_true(refused > count);
    support_remove(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(reads_bf16_in_any_order),
                                       cmocka_unit_test(refuses_hostile_files),
                                       cmocka_unit_test(refuses_missing_and_tiny_files),
                                       cmocka_unit_test(survives_any_flipped_byte)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
