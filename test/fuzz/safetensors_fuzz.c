/* Parameter files. The input is a whole model.safetensors for the smallest of models. What reads is written and reads again to the same bits;
 * a refusal leaves the block as it was. */
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "model/safetensors.h"

static void make_table(struct tensor_table *table) {
    struct shape shape = {.layers = 1, .width = 4, .heads = 1, .kv_heads = 1, .head_dim = 2, .ffn = 3, .context = 2,
                          .vocab = 5, .tied = true, .rope_theta = 1e4, .norm_eps = 1e-6};
    CHECK(tensors_table_create(&shape, table, NULL) == STATUS_OK);
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
    CHECK(safetensors_write(fuzz_path("again"), &table, block, NULL, 0, &error) == STATUS_OK);
    CHECK(safetensors_read(fuzz_path("again"), &table, again, &error) == STATUS_OK);
    CHECK(memcmp(block, again, bytes) == 0);
    return 0;
}
