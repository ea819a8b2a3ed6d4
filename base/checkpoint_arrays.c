/* checkpoint_arrays: see the header. Format: https://huggingface.co/docs/safetensors */
#include "base/checkpoint_arrays.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/bytes.h"
#include "base/check.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are written as they lie in memory");

enum { LENGTH_BYTES = 8, HEADER_ALIGNMENT = 8, HEADER_BYTES_MAX = 1 << 20, NAME_BYTES_MAX = 200 };

static const struct {
    const char *dtype;
    size_t bytes;
} types[] = {[CHECKPOINT_F32] = {"F32", 4}, [CHECKPOINT_U8] = {"U8", 1}};
enum { TYPES = sizeof types / sizeof types[0] };

/* ---- writing ---- */

static void check_name(const char *name) {
    size_t length = strlen(name);
    CHECK(length >= 1 && length <= NAME_BYTES_MAX && strcmp(name, "__metadata__") != 0);
    for (size_t i = 0; i < length; i++)
        CHECK(name[i] > ' ' && name[i] < 127 && name[i] != '"' && name[i] != '\\');
}

/* One array into the header and the list of pieces; returns where the next one starts. */
static uint64_t add_array(const struct checkpoint_array *array, uint64_t at, json_t *header,
                          struct checkpoint_piece *piece) {
    check_name(array->name);
    CHECK(json_object_get(header, array->name) == NULL); /* a name used twice is our own bug */
    uint64_t end = at + array->count * types[array->type].bytes;
    json_t *entry = json_pack("{s:s, s:[I], s:[I,I]}", "dtype", types[array->type].dtype, "shape",
                              (json_int_t)array->count, "data_offsets", (json_int_t)at, (json_int_t)end);
    CHECK(json_object_set_new(header, array->name, entry) == 0);
    *piece = (struct checkpoint_piece){.bytes = array->data, .count = end - at};
    return end;
}

/* Length and JSON of a safetensors file, and in pieces[1...] its arrays: F32 before U8, so that each is aligned. malloc'ed. */
static char *make_header(const struct checkpoint_array *arrays, size_t count, struct checkpoint_piece *pieces) {
    json_t *header = json_object();
    CHECK(header != NULL);
    uint64_t at = 0;
    size_t used = 1;
    for (int type = 0; type < TYPES; type++)
        for (size_t i = 0; i < count; i++)
            if ((int)arrays[i].type == type)
                at = add_array(&arrays[i], at, header, &pieces[used++]);
    CHECK(used == count + 1);
    char *text = json_dumps(header, JSON_COMPACT);
    CHECK(text != NULL);
    json_decref(header);
    size_t length = strlen(text);
    size_t padded = (length + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    CHECK(padded <= HEADER_BYTES_MAX); /* thousands of arrays */
    char *bytes = malloc(LENGTH_BYTES + padded);
    CHECK(bytes != NULL);
    bytes_store_u64((uint8_t *)bytes, padded);
    memcpy(bytes + LENGTH_BYTES, text, length);
    memset(bytes + LENGTH_BYTES + length, ' ', padded - length);
    free(text);
    pieces[0] = (struct checkpoint_piece){.bytes = bytes, .count = LENGTH_BYTES + padded};
    return bytes;
}

enum status checkpoint_arrays_write(const char *path, const struct checkpoint_array *arrays, size_t count,
                                    uint64_t *bytes, char digest[CHECKPOINT_DIGEST_CHARS], struct error *error) {
    struct checkpoint_piece *pieces = calloc(count + 1, sizeof *pieces);
    CHECK(pieces != NULL);
    char *header = make_header(arrays, count, pieces);
    *bytes = 0;
    for (size_t i = 0; i <= count; i++)
        *bytes += pieces[i].count;
    enum status status = checkpoint_file_write(path, pieces, count + 1, digest, error);
    free(header);
    free(pieces);
    return status;
}

/* ---- reading ---- */

/* What an array's entry says; false when it is no entry of ours. */
struct entry {
    const char *dtype;
    json_int_t count, begin, end;
};
static bool read_entry(json_t *json, struct entry *entry) {
    return json_unpack(json, "{s:s, s:[I!], s:[I,I!]!}", "dtype", &entry->dtype, "shape", &entry->count, "data_offsets",
                       &entry->begin, &entry->end) == 0;
}

/* The arrays fill the file from data_at to its last byte, in the header's order. */
static enum status check_header(const struct checkpoint_arrays *arrays, uint64_t file_bytes, struct error *error) {
    const char *name;
    json_t *json;
    uint64_t data_bytes = file_bytes - arrays->data_at;
    uint64_t at = 0;
    json_object_foreach(arrays->header, name, json) {
        struct entry entry;
        if (!read_entry(json, &entry))
            return error_set(error, STATUS_DATA,
                             "%s: array '%.200s': expected dtype, a shape of one number and data_offsets", arrays->path,
                             name);
        size_t type = 0;
        while (type < TYPES && strcmp(types[type].dtype, entry.dtype) != 0)
            type++;
        if (type == TYPES)
            return error_set(error, STATUS_DATA, "%s: array '%.200s': dtype is %.40s, expected F32 or U8", arrays->path,
                             name, entry.dtype);
        uint64_t left = data_bytes - at;
        if (entry.count < 0 || (uint64_t)entry.count > left / types[type].bytes)
            return error_set(error, STATUS_DATA, "%s: array '%.200s': %lld of %s are more than the file holds",
                             arrays->path, name, (long long)entry.count, entry.dtype);
        uint64_t end = at + (uint64_t)entry.count * types[type].bytes;
        if (entry.begin < 0 || (uint64_t)entry.begin != at || entry.end < 0 || (uint64_t)entry.end != end)
            return error_set(error, STATUS_DATA,
                             "%s: array '%.200s': data_offsets are [%lld,%lld], expected [%" PRIu64 ",%" PRIu64 "]",
                             arrays->path, name, (long long)entry.begin, (long long)entry.end, at, end);
        at = end;
    }
    if (at != data_bytes)
        return error_set(error, STATUS_DATA, "%s: the arrays are %" PRIu64 " bytes, but %" PRIu64 " follow the header",
                         arrays->path, at, data_bytes);
    return STATUS_OK;
}

static enum status open_header(struct checkpoint_arrays *arrays, uint64_t file_bytes, struct error *error) {
    uint8_t length_bytes[LENGTH_BYTES];
    enum status status = checkpoint_file_read(arrays->file, arrays->path, 0, length_bytes, LENGTH_BYTES, error);
    if (status != STATUS_OK)
        return status;
    uint64_t length = bytes_load_u64(length_bytes);
    if (length > HEADER_BYTES_MAX || length > file_bytes - LENGTH_BYTES)
        return error_set(error, STATUS_DATA,
                         "%s: a header of %" PRIu64 " bytes is more than the file or the limit of %d", arrays->path,
                         length, HEADER_BYTES_MAX);
    char *text = malloc(length + 1);
    if (text == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the header of %s", arrays->path);
    status = checkpoint_file_read(arrays->file, arrays->path, LENGTH_BYTES, text, length, error);
    if (status == STATUS_OK) {
        json_error_t problem;
        arrays->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem);
        if (!json_is_object(arrays->header))
            status = error_set(error, STATUS_DATA, "%s: the header is no JSON object: %s", arrays->path,
                               arrays->header == NULL ? problem.text : "a list");
    }
    free(text);
    arrays->data_at = LENGTH_BYTES + length;
    return status == STATUS_OK ? check_header(arrays, file_bytes, error) : status;
}

static enum status check_digest(const struct checkpoint_arrays *arrays, uint64_t bytes, uint64_t expected_bytes,
                                const char *expected_digest, struct error *error) {
    if (bytes != expected_bytes)
        return error_set(error, STATUS_DATA, "%s has %" PRIu64 " bytes, its manifest says %" PRIu64, arrays->path,
                         bytes, expected_bytes);
    char digest[CHECKPOINT_DIGEST_CHARS];
    enum status status = checkpoint_file_digest(arrays->file, arrays->path, bytes, digest, error);
    if (status == STATUS_OK && strcmp(digest, expected_digest) != 0)
        status = error_set(error, STATUS_DATA, "%s is damaged: its hash is not the manifest's", arrays->path);
    return status;
}

enum status checkpoint_arrays_open(const char *path, uint64_t expected_bytes, const char *expected_digest,
                                   struct checkpoint_arrays *arrays, struct error *error) {
    struct checkpoint_arrays opened = {.path = path, .file = -1};
    uint64_t bytes;
    enum status status = checkpoint_file_open(path, &opened.file, &bytes, error);
    if (status == STATUS_OK)
        status = check_digest(&opened, bytes, expected_bytes, expected_digest, error);
    if (status == STATUS_OK)
        status = open_header(&opened, bytes, error);
    if (status == STATUS_OK)
        *arrays = opened;
    else
        checkpoint_arrays_close(&opened);
    return status;
}

enum status checkpoint_arrays_read(const struct checkpoint_arrays *arrays, const char *name, enum checkpoint_type type,
                                   void *data, size_t count, struct error *error) {
    struct entry entry;
    json_t *json = json_object_get(arrays->header, name);
    if (json == NULL || !read_entry(json, &entry))
        return error_set(error, STATUS_DATA, "%s has no array '%s'", arrays->path, name);
    if (strcmp(entry.dtype, types[type].dtype) != 0 || (uint64_t)entry.count != count)
        return error_set(error, STATUS_DATA, "%s: array '%s' holds %lld of %s, expected %zu of %s", arrays->path, name,
                         (long long)entry.count, entry.dtype, count, types[type].dtype);
    return checkpoint_file_read(arrays->file, arrays->path, arrays->data_at + (uint64_t)entry.begin, data,
                                count * types[type].bytes, error);
}

void checkpoint_arrays_close(struct checkpoint_arrays *arrays) {
    if (arrays->file >= 0)
        close(arrays->file);
    json_decref(arrays->header);
}
