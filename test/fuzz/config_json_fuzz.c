/* config.json of a model directory. The input is the file. A shape that loads is valid, and when its model is small
 * the directory is saved and loads again to the same shape. */
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "model/model_files.h"

enum { LAYERS_MAX = 8, SIDE_MAX = 64, VOCAB_MAX = 300 };

static void check_again(const struct shape *shape, enum tokenizer_kind tokenizer) {
    struct tensor_table table;
    struct error error = {0};
    struct shape again;
    enum tokenizer_kind tokenizer_again;
    CHECK(tensors_table_create(shape, &table, &error) == STATUS_OK);
    float *block = calloc(table.block_floats, sizeof *block);
    CHECK(model_files_save(fuzz_path("again"), shape, tokenizer, &table, block, &error) == STATUS_OK);
    CHECK(model_files_load_shape(fuzz_path("again"), &again, &tokenizer_again, &error) == STATUS_OK);
    CHECK(model_files_load_parameters(fuzz_path("again"), &table, block, &error) == STATUS_OK);
    CHECK(tokenizer_again == tokenizer && again.layers == shape->layers && again.width == shape->width &&
          again.heads == shape->heads && again.kv_heads == shape->kv_heads && again.head_dim == shape->head_dim &&
          again.ffn == shape->ffn && again.context == shape->context && again.vocab == shape->vocab &&
          again.tied == shape->tied);
    free(block);
    tensors_table_destroy(&table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct error error = {0};
    struct shape shape = {0}, checked;
    enum tokenizer_kind tokenizer;
    fuzz_write("config.json", data, size);
    enum status status = model_files_load_shape(fuzz_directory(), &shape, &tokenizer, &error);
    fuzz_check_refusal(status, &error);
    if (status != STATUS_OK) {
        CHECK(status == STATUS_DATA);
        return 0;
    }
    checked = shape;
    CHECK(shape_validate(&checked, &error) == STATUS_OK);
    CHECK(tokenizer == TOKENIZER_BYTES || tokenizer == TOKENIZER_SHARDS);
    if (shape.layers <= LAYERS_MAX && shape.width <= SIDE_MAX && shape.heads * shape.head_dim <= SIDE_MAX &&
        shape.ffn <= SIDE_MAX && shape.vocab <= VOCAB_MAX)
        check_again(&shape, tokenizer);
    return 0;
}
