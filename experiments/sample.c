#include "experiments/sample.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/options.h"
#include "experiments/model_open.h"
#include "model/sample.h"
#include "model/tokenizer.h"

struct sample_values {
    const char *model;
    const char *prompt;
    int64_t length;
    double temperature;
    int64_t top_k;
    int64_t seed;
};
static const struct option_row sample_rows[] = {
    OPTION_POSITIONAL(struct sample_values, model, "MODEL", "directory with model.safetensors and config.json"),
    OPTION_TEXT(struct sample_values, prompt, "prompt", 0, "TEXT", "what to continue (default: a line feed)"),
    OPTION_INTEGER(struct sample_values, length, "length", 0, "N", 1, 1000000, "tokens to write (default 400)"),
    OPTION_REAL(struct sample_values, temperature, "temperature", 0, "X", 0, 100,
                "0 takes the likeliest token (default 0.8)"),
    OPTION_INTEGER(struct sample_values, top_k, "top-k", 0, "K", 0, 1e9,
                   "only the K likeliest tokens; 0 = all (default 40)"),
    OPTION_INTEGER(struct sample_values, seed, "seed", 0, "S", 0, 9e15, "of the random numbers (default 1)"),
    OPTION_END,
};
static const struct option_command sample_options = {"sample", "text from a model", sample_rows, NULL};

/* Without a tokenizer of text, ids are printed, space-separated. */
static void print_token(enum tokenizer_kind tokenizer, int32_t id) {
    if (tokenizer == TOKENIZER_BYTES)
        putchar(id);
    else
        printf("%d ", id);
    fflush(stdout);
}

static enum status first_tokens(const struct sample_values *values, enum tokenizer_kind tokenizer, int32_t *tokens,
                                int64_t *count, struct error *error) {
    size_t length = strlen(values->prompt);
    if (tokenizer != TOKENIZER_BYTES) {
        tokens[0] = 0;
        *count = 1;
        return STATUS_OK;
    }
    *count = (int64_t)length;
    fputs(values->prompt, stdout);
    return tokenizer_encode(tokenizer, values->prompt, length, tokens, error);
}

static enum status write_sample(const struct sample_values *values, struct error *error) {
    struct model *model;
    struct sampler *sampler = NULL;
    enum tokenizer_kind tokenizer;
    int64_t count;
    if (values->prompt[0] == 0)
        return error_set(error, STATUS_USAGE, "--prompt is empty: at least one character is needed");
    enum status status = model_open(values->model, 1, &model, &tokenizer, error);
    if (status != STATUS_OK)
        return status;
    int32_t *tokens = calloc(strlen(values->prompt) + (size_t)values->length + 1, sizeof *tokens);
    CHECK(tokens != NULL);
    struct sample_options options = {
        .temperature = values->temperature, .top_k = values->top_k, .seed = (uint64_t)values->seed};
    status = sample_open(model, &options, &sampler, error);
    if (status == STATUS_OK)
        status = first_tokens(values, tokenizer, tokens, &count, error);
    for (int64_t i = 0; status == STATUS_OK && i < values->length; i++) {
        tokens[count] = sample_next(sampler, model_parameters(model), tokens, count);
        print_token(tokenizer, tokens[count++]);
    }
    putchar('\n');
    if (sampler != NULL)
        sample_close(sampler);
    free(tokens);
    model_destroy(model);
    return status;
}

int sample_command(int argc, char **argv) {
    struct sample_values values = {.prompt = "\n", .length = 400, .temperature = 0.8, .top_k = 40, .seed = 1};
    struct error error = {0};
    int exit_code;
    if (!options_or_exit(&sample_options, argc, argv, &values, &exit_code))
        return exit_code;
    if (write_sample(&values, &error) != STATUS_OK) {
        fprintf(stderr, "atoll sample: %s\n", error.text);
        return status_exit_code(error.status);
    }
    return 0;
}
