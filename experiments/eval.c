#include "experiments/eval.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/options.h"
#include "experiments/model_open.h"
#include "model/dataset.h"
#include "model/evaluate.h"

enum { EVAL_BATCH = 8 };

struct eval_values {
    const char *model;
    struct option_list data;
    int64_t windows;
    int64_t dtype;
    bool json;
};
static const char *const dtype_names[] = {"auto", "uint16", "uint32", NULL}; /* enum shard_dtype */
static const struct option_row eval_rows[] = {
    OPTION_POSITIONAL(struct eval_values, model, "MODEL", "directory with model.safetensors and config.json"),
    OPTION_LIST(struct eval_values, data, "data", 0, "GLOB", "held-out files"),
    OPTION_INTEGER(struct eval_values, windows, "windows", 0, "N", 0, 1e12,
                   "how many windows, evenly spaced (default 0: all)"),
    OPTION_CHOICE(struct eval_values, dtype, "dtype", 0, "TYPE", dtype_names,
                  "of token files without a header (nanoGPT): uint16 or uint32"),
    OPTION_FLAG(struct eval_values, json, "json", 0, "print the same numbers as JSON"),
    OPTION_END,
};
static const struct option_command eval_options = {"eval", "held-out loss of a model", eval_rows, NULL};

static enum status evaluate_files(const struct eval_values *values, struct evaluation *evaluation,
                                  struct error *error) {
    struct model *model;
    struct dataset *held_out;
    enum tokenizer_kind tokenizer;
    if (values->data.count == 0 || values->data.count > DATA_GLOBS_MAX)
        return error_set(error, STATUS_USAGE, "--data GLOB is needed, once to %d times: the text to evaluate on",
                         DATA_GLOBS_MAX);
    enum status status = model_open(values->model, EVAL_BATCH, &model, &tokenizer, error);
    if (status != STATUS_OK)
        return status;
    struct data_options data = {.tokenizer = tokenizer, .dtype = values->dtype, .val_count = values->data.count};
    for (int i = 0; i < values->data.count; i++)
        snprintf(data.val[i], DATA_GLOB_BYTES, "%s", values->data.items[i]);
    status = dataset_open_held_out(&data, model_shape(model), ".", values->windows, &held_out, error);
    if (status == STATUS_OK) {
        status = evaluate_held_out(model, model_parameters(model), held_out, NULL, evaluation, error);
        dataset_close(held_out);
    }
    model_destroy(model);
    return status;
}

int eval_command(int argc, char **argv) {
    struct eval_values values = {0};
    struct evaluation evaluation;
    struct error error = {0};
    int exit_code;
    if (!options_or_exit(&eval_options, argc, argv, &values, &exit_code))
        return exit_code;
    if (evaluate_files(&values, &evaluation, &error) != STATUS_OK) {
        fprintf(stderr, "atoll eval: %s\n", error.text);
        return status_exit_code(error.status);
    }
    if (values.json) {
        json_t *json = json_pack("{s:o, s:o, s:I, s:I}", "loss", log_real(evaluation.loss), "bits_per_byte",
                                 log_real(evaluation.bits_per_byte), "windows", (json_int_t)evaluation.windows,
                                 "tokens", (json_int_t)evaluation.tokens);
        json_dumpf(json, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(json);
    } else {
        printf("loss %.4f nats per token", evaluation.loss);
        if (isfinite(evaluation.bits_per_byte))
            printf(", %.4f bits per byte", evaluation.bits_per_byte);
        printf(", over %llu windows (%llu tokens)\n", (unsigned long long)evaluation.windows,
               (unsigned long long)evaluation.tokens);
    }
    return 0;
}
