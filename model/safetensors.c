/* safetensors: see safetensors.h. Format: https://huggingface.co/docs/safetensors, the checks of its reference reader. */
#include "model/safetensors.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/files.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are written as they lie in memory");

enum { LENGTH_BYTES = 8, HEADER_ALIGNMENT = 8, HEADER_BYTES_MAX = 100 * 1000 * 1000 };

/* ---- writing ---- */

static json_t *make_header(const struct tensor_table *table, const struct safetensors_metadata *metadata,
                           size_t count) {
    json_t *header = json_object();
    json_t *pairs = json_pack("{s:s}", "format", "pt");
    for (size_t i = 0; i < count; i++)
        json_object_set_new(pairs, metadata[i].key, json_string(metadata[i].value));
    json_object_set_new(header, "__metadata__", pairs);
    size_t at = 0;
    for (int i = 0; i < table->count; i++) {
        const struct tensor *tensor = &table->tensors[i];
        size_t end = at + tensor->count * sizeof(float);
        json_t *shape = tensor->dimensions == 1 ? json_pack("[i]", tensor->columns)
                                                : json_pack("[i,i]", tensor->rows, tensor->columns);
        json_object_set_new(header, tensor->name,
                            json_pack("{s:s, s:o, s:[I,I]}", "dtype", "F32", "shape", shape, "data_offsets",
                                      (json_int_t)at, (json_int_t)end));
        at = end;
    }
    return header;
}

enum status safetensors_write(const char *path, const struct tensor_table *table, const float *block,
                              const struct safetensors_metadata *metadata, size_t count, struct error *error) {
    json_t *header = make_header(table, metadata, count);
    char *text = json_dumps(header, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(header);
    size_t text_bytes = text ? strlen(text) : 0;
    size_t padded = (text_bytes + HEADER_ALIGNMENT - 1) / HEADER_ALIGNMENT * HEADER_ALIGNMENT;
    size_t part_count = 1 + (size_t)table->count;
    uint8_t *head = text ? malloc(LENGTH_BYTES + padded) : NULL;
    struct files_part *parts = calloc(part_count, sizeof *parts);
    enum status status = STATUS_OK;
    if (!head || !parts) {
        status = error_set(error, STATUS_NO_MEMORY, "%s: no memory for its header", path);
    } else {
        bytes_store_u64(head, padded);
        memcpy(head + LENGTH_BYTES, text, text_bytes);
        memset(head + LENGTH_BYTES + text_bytes, ' ', padded - text_bytes);
        parts[0] = (struct files_part){head, LENGTH_BYTES + padded};
        for (int i = 0; i < table->count; i++)
            parts[1 + i] =
                (struct files_part){block + table->tensors[i].offset, table->tensors[i].count * sizeof(float)};
        status = files_write_atomic_parts(path, parts, part_count, 0644, error);
    }
    free(parts);
    free(head);
    free(text);
    return status;
}

/* ---- reading ---- */

enum dtype { DTYPE_F32, DTYPE_BF16 };

struct span {
    const struct tensor *tensor;
    uint64_t begin, end; /* bytes from the start of data */
    enum dtype dtype;
};

struct reader {
    const char *path;
    const struct tensor_table *table;
    const uint8_t *map;
    uint64_t file_bytes, data_at; /* data_at: offset of the first tensor's bytes */
    struct span *spans;           /* (table->count,) in order of the file's header */
    int span_count;
    struct error *error;
};

static enum status map_file(struct reader *r) {
    int descriptor = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return error_set(r->error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "%s: cannot open: %s", r->path,
                         strerror(errno));
    struct stat info;
    enum status status = STATUS_OK;
    if (fstat(descriptor, &info) != 0)
        status = error_set(r->error, STATUS_IO, "%s: cannot stat: %s", r->path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = error_set(r->error, STATUS_DATA, "%s: not a regular file", r->path);
    else if (info.st_size < LENGTH_BYTES)
        status = error_set(r->error, STATUS_DATA, "%s: %lld bytes are too few for a safetensors file", r->path,
                           (long long)info.st_size);
    else {
        r->file_bytes = (uint64_t)info.st_size;
        void *map = mmap(NULL, r->file_bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (map == MAP_FAILED)
            status = error_set(r->error, STATUS_IO, "%s: cannot map: %s", r->path, strerror(errno));
        else
            r->map = map;
    }
    close(descriptor);
    return status;
}

static enum status parse_header(struct reader *r, json_t **header) {
    uint64_t bytes = bytes_load_u64(r->map);
    if (bytes > HEADER_BYTES_MAX)
        return error_set(r->error, STATUS_DATA, "%s: a header of %" PRIu64 " bytes is above the format's limit of %d",
                         r->path, bytes, HEADER_BYTES_MAX);
    if (bytes > r->file_bytes - LENGTH_BYTES)
        return error_set(r->error, STATUS_DATA,
                         "%s: the header should be %" PRIu64 " bytes, but the file ends after %" PRIu64, r->path, bytes,
                         r->file_bytes - LENGTH_BYTES);
    const char *text = (const char *)r->map + LENGTH_BYTES;
    if (bytes == 0 || text[0] != '{')
        return error_set(r->error, STATUS_DATA, "%s: the header does not start with '{'", r->path);
    json_error_t problem;
    *header = json_loadb(text, (size_t)bytes, JSON_REJECT_DUPLICATES, &problem);
    if (!*header)
        return error_set(r->error, STATUS_DATA, "%s: the header is not JSON: %s", r->path, problem.text);
    r->data_at = LENGTH_BYTES + bytes;
    return STATUS_OK;
}

/* A JSON array of exactly `count` integers >= 0. */
static bool read_integers(const json_t *array, size_t count, uint64_t *to) {
    if (!json_is_array(array) || json_array_size(array) != count)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_integer(item) || json_integer_value(item) < 0)
            return false;
        to[i] = (uint64_t)json_integer_value(item);
    }
    return true;
}

static enum status check_shape(struct reader *r, const struct tensor *tensor, const json_t *shape) {
    uint64_t found[2] = {0, 0};
    bool fits = tensor->dimensions == 1 ? read_integers(shape, 1, found) && found[0] == (uint64_t)tensor->columns
                                        : read_integers(shape, 2, found) && found[0] == (uint64_t)tensor->rows &&
                                              found[1] == (uint64_t)tensor->columns;
    if (fits)
        return STATUS_OK;
    char *text = shape ? json_dumps(shape, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    const char *shown = text ? text : "missing";
    if (tensor->dimensions == 1)
        error_set(r->error, STATUS_DATA, "%s: %s: shape is %.200s, expected [%d]", r->path, tensor->name, shown,
                  tensor->columns);
    else
        error_set(r->error, STATUS_DATA, "%s: %s: shape is %.200s, expected [%d,%d]", r->path, tensor->name, shown,
                  tensor->rows, tensor->columns);
    free(text);
    return STATUS_DATA;
}

static enum status read_entry(struct reader *r, const char *name, const json_t *entry) {
    const struct tensor *tensor = tensors_find(r->table, name);
    if (!tensor)
        return error_set(r->error, STATUS_DATA, "%s: unexpected tensor %.200s; this model has none of that name",
                         r->path, name);
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype || (strcmp(dtype, "F32") != 0 && strcmp(dtype, "BF16") != 0))
        return error_set(r->error, STATUS_DATA, "%s: %s: dtype is %.40s, expected F32 or BF16", r->path, name,
                         dtype ? dtype : "missing");
    enum status status = check_shape(r, tensor, json_object_get(entry, "shape"));
    if (status != STATUS_OK)
        return status;
    uint64_t offsets[2];
    if (!read_integers(json_object_get(entry, "data_offsets"), 2, offsets))
        return error_set(r->error, STATUS_DATA, "%s: %s: data_offsets is not a pair of numbers", r->path, name);
    enum dtype kind = dtype[0] == 'B' ? DTYPE_BF16 : DTYPE_F32;
    uint64_t expected = tensor->count * (kind == DTYPE_BF16 ? 2 : 4);
    if (offsets[1] < offsets[0] || offsets[1] - offsets[0] != expected)
        return error_set(r->error, STATUS_DATA,
                         "%s: %s: data_offsets [%" PRIu64 ",%" PRIu64 "] do not hold its %" PRIu64 " bytes", r->path,
                         name, offsets[0], offsets[1], expected);
    CHECK(r->span_count < r->table->count); /* names are unique, and each is in the table */
    r->spans[r->span_count++] = (struct span){.tensor = tensor, .begin = offsets[0], .end = offsets[1], .dtype = kind};
    return STATUS_OK;
}

static int compare_spans(const void *a, const void *b) {
    uint64_t x = ((const struct span *)a)->begin, y = ((const struct span *)b)->begin;
    return x < y ? -1 : x > y;
}

/* Sorted by position, the tensors fill the data from its first to its last byte. */
static enum status check_layout(struct reader *r) {
    for (int i = 0; i < r->table->count && r->span_count < r->table->count; i++) {
        bool found = false;
        for (int j = 0; j < r->span_count && !found; j++)
            found = r->spans[j].tensor == &r->table->tensors[i];
        if (!found)
            return error_set(r->error, STATUS_DATA, "%s: tensor %s is missing (%d of %d are there)", r->path,
                             r->table->tensors[i].name, r->span_count, r->table->count);
    }
    qsort(r->spans, (size_t)r->span_count, sizeof *r->spans, compare_spans);
    uint64_t at = 0;
    for (int i = 0; i < r->span_count; i++) {
        const struct span *span = &r->spans[i];
        if (span->begin != at)
            return error_set(
                r->error, STATUS_DATA,
                "%s: %s starts at byte %" PRIu64 " of the data, but the tensor before it ends at %" PRIu64 " (%s)",
                r->path, span->tensor->name, span->begin, at, span->begin < at ? "they overlap" : "a hole");
        at = span->end;
    }
    if (at != r->file_bytes - r->data_at)
        return error_set(r->error, STATUS_DATA,
                         "%s: the tensors are %" PRIu64 " bytes, but the file holds %" PRIu64 " after the header",
                         r->path, at, r->file_bytes - r->data_at);
    return STATUS_OK;
}

static enum status read_header(struct reader *r) {
    json_t *header = NULL;
    enum status status = parse_header(r, &header);
    const char *name;
    json_t *entry;
    if (status == STATUS_OK)
        json_object_foreach(header, name, entry) {
            if (strcmp(name, "__metadata__") != 0)
                status = read_entry(r, name, entry);
            else if (!json_is_object(entry))
                status = error_set(r->error, STATUS_DATA, "%s: __metadata__ is not an object", r->path);
            if (status != STATUS_OK)
                break;
        }
    json_decref(header);
    return status == STATUS_OK ? check_layout(r) : status;
}

static void copy_tensor(const struct reader *r, const struct span *span, float *to) {
    const uint8_t *from = r->map + r->data_at + span->begin;
    if (span->dtype == DTYPE_F32) {
        memcpy(to, from, span->tensor->count * sizeof *to);
        return;
    }
    for (size_t i = 0; i < span->tensor->count; i++) {
        uint32_t bits = (uint32_t)bytes_load_u16(from + 2 * i) << 16;
        memcpy(&to[i], &bits, sizeof bits);
    }
}

enum status safetensors_read(const char *path, const struct tensor_table *table, float *block, struct error *error) {
    struct reader r = {.path = path, .table = table, .error = error};
    r.spans = calloc((size_t)table->count, sizeof *r.spans);
    if (!r.spans)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for a list of %d tensors", path, table->count);
    enum status status = map_file(&r);
    if (status == STATUS_OK)
        status = read_header(&r);
    if (status == STATUS_OK) {
        memset(block, 0, table->block_floats * sizeof *block);
        for (int i = 0; i < r.span_count; i++)
            copy_tensor(&r, &r.spans[i], block + r.spans[i].tensor->offset);
    }
    if (r.map)
        munmap((void *)(uintptr_t)r.map, r.file_bytes);
    free(r.spans);
    return status;
}
