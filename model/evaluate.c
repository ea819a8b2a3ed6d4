/* evaluate: see evaluate.h. */
#include "model/evaluate.h"
#include <stdlib.h>

enum status evaluate_held_out(struct model *model, const float *parameters, const struct dataset *held_out,
                              const struct evaluate_hook *hook, struct evaluation *evaluation, struct error *error) {
    const int T = (int)model_shape(model)->context, batch = (int)model_inner(model)->batch_per_worker;
    const uint64_t windows = dataset_windows(held_out);
    int32_t *ids = malloc((size_t)batch * (size_t)(T + 1) * sizeof *ids);
    if (!ids)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %d held-out windows", batch);
    double total = 0;
    enum status status = STATUS_OK;
    for (uint64_t first = 0; first < windows;) {
        int B = 0;
        for (; status == STATUS_OK && B < batch && first < windows; B++, first++)
            status = dataset_window(held_out, first, ids + (size_t)B * (size_t)(T + 1), error);
        if (status != STATUS_OK) {
            free(ids);
            return status;
        }
        total += model_evaluate(model, parameters, ids, B, T);
        if (hook && !hook->go_on(hook->context)) {
            free(ids);
            return error_set(error, STATUS_AGAIN, "interrupted in the evaluation");
        }
    }
    free(ids);
    uint64_t tokens = windows * (uint64_t)T;
    double loss = total / (double)tokens;
    *evaluation = (struct evaluation){
        .loss = loss, .bits_per_byte = dataset_bits_per_byte(held_out, loss), .windows = windows, .tokens = tokens};
    return STATUS_OK;
}
