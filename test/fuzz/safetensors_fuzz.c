/* Parameter files. The input is a whole model.safetensors for the smallest of models. What reads has the sizes that it
 * says, is written and reads again to the same bits; a refusal leaves the block as it was. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "model/safetensors.h"

static void make_table(struct tensor_table *table) {
    struct shape shape = {.layers = 1,
                          .width = 4,
                          .heads = 1,
                          .kv_heads = 1,
                          .head_dim = 2,
                          .ffn = 3,
                          .context = 2,
                          .vocab = 5,
                          .tied = true,
                          .rope_theta = 1e4,
                          .norm_eps = 1e-6};
    CHECK(tensors_table_create(&shape, table, NULL) == STATUS_OK);
}

/* Of a file that was taken: each tensor has the bytes that its type and shape make, and they are all of the file. */
static void check_sizes(const uint8_t *data, size_t size) {
    uint64_t header_bytes = bytes_load_u64(data), sum = 0;
    json_t *header = json_loadb((const char *)data + 8, header_bytes, 0, NULL), *entry;
    const char *name;
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
        uint64_t bytes = strcmp(json_string_value(json_object_get(entry, "dtype")), "F32") == 0 ? 4 : 2;
        for (size_t i = 0; i < json_array_size(shape); i++)
            bytes *= (uint64_t)json_integer_value(json_array_get(shape, i));
        CHECK((uint64_t)json_integer_value(json_array_get(offsets, 0)) + bytes ==
              (uint64_t)json_integer_value(json_array_get(offsets, 1)));
        sum += bytes;
    }
    CHECK(8 + header_bytes + sum == size);
    json_decref(header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct tensor_table table;
    static float *block, *again;
    if (table.count == 0) {
        make_table(&table);
        block = malloc(table.block_floats * sizeof *block);
        again = malloc(table.block_floats * sizeof *again);
    }
    size_t bytes = table.block_floats * sizeof *block;
    struct error error = {0};
    fuzz_write("model.safetensors", data, size);
    memset(block, 0xa5, bytes);
    memset(again, 0xa5, bytes);
    enum status status = safetensors_read(fuzz_path("model.safetensors"), &table, block, &error);
    fuzz_check_refusal(status, &error);
    if (status != STATUS_OK) {
        CHECK(status == STATUS_DATA && memcmp(block, again, bytes) == 0);
        return 0;
    }
    check_sizes(data, size);
    CHECK(safetensors_write(fuzz_path("again"), &table, block, NULL, 0, &error) == STATUS_OK);
    CHECK(safetensors_read(fuzz_path("again"), &table, again, &error) == STATUS_OK);
    CHECK(memcmp(block, again, bytes) == 0);
    return 0;
}
