#include "experiments/model_open.h"
#include "model/model_files.h"

enum { CONTEXT_MAX = 4096 };

enum status model_open(const char *directory, int64_t batch, struct model **model, enum tokenizer_kind *tokenizer,
                       struct error *error) {
    struct model_options options = {.inner = {.batch_per_worker = batch, .accumulate = 1, .seed = 1, .threads = 1}};
    enum status status = model_files_load_shape(directory, &options.shape, tokenizer, error);
    if (status != STATUS_OK)
        return status;
    if (options.shape.context > CONTEXT_MAX)
        options.shape.context = CONTEXT_MAX;
    status = model_create(&options, model, error);
    if (status != STATUS_OK)
        return status;
    status = model_files_load_parameters(directory, model_tensors(*model), model_parameters(*model), error);
    if (status != STATUS_OK)
        model_destroy(*model);
    return status;
}
