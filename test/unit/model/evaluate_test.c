/* Held-out loss: the same whatever the micro-batch, also when it does not divide the windows. */
#include <math.h>
#include "model/evaluate.h"
#include "support.h"

static void any_batch_gives_the_same_loss(void **state) {
    (void)state;
    const char *directory = support_directory();
    unsigned char text[16 * 7 + 1];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (unsigned char)(i * i % 251);
    support_write(directory, "val.txt", text, sizeof text);
    struct data_options data = {.val = {"val.txt"}, .val_count = 1, .tokenizer = TOKENIZER_BYTES};
    struct dataset *held_out = NULL;
    struct error error;
    double first = 0;
    for (int batch = 1; batch <= 8; batch++) {
        struct model_options options = support_options(true);
        options.inner.batch_per_worker = batch;
        struct model *model = support_model(&options);
        size_t bytes = model_tensors(model)->block_floats * sizeof(float);
        struct evaluation found;
        assert_int_equal(dataset_open_held_out(&data, &options.shape, directory, 0, &held_out, &error), STATUS_OK);
        memset(model_gradients(model), 0x3f, bytes);
        float *before = malloc(bytes);
        memcpy(before, model_gradients(model), bytes);
        assert_int_equal(evaluate_held_out(model, model_parameters(model), held_out, NULL, &found, &error), STATUS_OK);
        assert_memory_equal(model_gradients(model), before, bytes);
        assert_int_equal(found.windows, 7);
        assert_int_equal(found.tokens, 7 * 16);
        assert_float_equal(found.bits_per_byte, found.loss / log(2), 1e-12);
        assert_float_equal(found.loss, log(256), 0.1);
        if (batch == 1)
            first = found.loss;
        assert_float_equal(found.loss, first, 1e-6);
        free(before);
        dataset_close(held_out);
        model_destroy(model);
    }
    support_remove(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_batch_gives_the_same_loss)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
