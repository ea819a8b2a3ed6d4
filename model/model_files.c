/* model_files: see model_files.h. Field names are those of transformers' Qwen3Config; 4.x reads rope_theta and torch_dtype,
 * 5.x rope_parameters and dtype: both are written. */
#include "model/model_files.h"
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/files.h"
#include "model/safetensors.h"

enum { PATH_BYTES = 4096, CONFIG_BYTES_MAX = 1 << 20, QWEN3_HEAD_DIM = 128 };

static enum status make_path(const char *directory, const char *name, char path[PATH_BYTES], struct error *error) {
    if (strlen(directory) + strlen(name) + 2 > PATH_BYTES)
        return error_set(error, STATUS_USAGE, "%s: the path is longer than %d bytes", directory, PATH_BYTES - 1);
    files_join(path, PATH_BYTES, directory, name);
    return STATUS_OK;
}

/* ---- writing ---- */

static json_t *make_config(const struct shape *s, enum tokenizer_kind tokenizer) {
    json_t *config =
        json_pack("{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "architectures", "Qwen3ForCausalLM",
                  "model_type", "qwen3", "vocab_size", (json_int_t)s->vocab, "hidden_size", (json_int_t)s->width,
                  "intermediate_size", (json_int_t)s->ffn, "num_hidden_layers", (json_int_t)s->layers,
                  "num_attention_heads", (json_int_t)s->heads, "num_key_value_heads", (json_int_t)s->kv_heads,
                  "head_dim", (json_int_t)s->head_dim, "max_position_embeddings", (json_int_t)s->context);
    json_t *rest = json_pack(
        "{s:s, s:f, s:f, s:{s:s, s:f}, s:n, s:b, s:b, s:f, s:b, s:n, s:b, s:f, s:s, s:s, s:n, s:n, s:n}", "hidden_act",
        "silu", "rms_norm_eps", s->norm_eps, "rope_theta", s->rope_theta, "rope_parameters", "rope_type", "default",
        "rope_theta", s->rope_theta, "rope_scaling", "tie_word_embeddings", s->tied, "attention_bias", 0,
        "attention_dropout", 0.0, "use_sliding_window", 0, "sliding_window", "use_cache", 1, "initializer_range", 0.02,
        "torch_dtype", "float32", "dtype", "float32", "bos_token_id", "eos_token_id", "pad_token_id");
    json_t *own = json_pack("{s:s, s:I}", "tokenizer", tokenizer_name(tokenizer), "context", (json_int_t)s->context);
    if (config && rest && own) {
        json_object_update(config, rest);
        json_object_set(config, "atoll", own);
    }
    bool made = config && rest && own;
    json_decref(rest);
    json_decref(own);
    if (made)
        return config;
    json_decref(config);
    return NULL;
}

enum status model_files_save(const char *directory, const struct shape *shape, enum tokenizer_kind tokenizer,
                             const struct tensor_table *table, const float *block, struct error *error) {
    char weights[PATH_BYTES], config_path[PATH_BYTES];
    enum status status = make_path(directory, "model.safetensors", weights, error);
    if (status == STATUS_OK)
        status = make_path(directory, "config.json", config_path, error);
    if (status == STATUS_OK)
        status = files_make_directory(directory, 0755, error);
    if (status == STATUS_OK)
        status = safetensors_write(weights, table, block, NULL, 0, error);
    if (status != STATUS_OK)
        return status;
    json_t *config = make_config(shape, tokenizer);
    char *text = config ? json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(config);
    if (!text)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for the text of the file", config_path);
    status = files_write_atomic(config_path, text, strlen(text), 0644, error);
    free(text);
    return status;
}

/* ---- reading ---- */

struct config_reader {
    const char *path;
    const json_t *root;
    struct error *error;
    enum status status; /* the first failure; later calls do nothing */
};

/* A whole number >= 1, or `fallback` when the key is missing and fallback is not 0. */
static int64_t read_count(struct config_reader *r, const json_t *object, const char *key, int64_t fallback) {
    const json_t *value = json_object_get(object, key);
    if (r->status != STATUS_OK || (!value && fallback != 0))
        return fallback;
    if (!json_is_integer(value) || json_integer_value(value) < 1)
        r->status = error_set(r->error, STATUS_DATA, "%s: %s is %s, expected a whole number above 0", r->path, key,
                              value ? "something else" : "missing");
    return json_integer_value(value);
}

static double read_number(struct config_reader *r, const json_t *object, const char *key, double fallback) {
    const json_t *value = json_object_get(object, key);
    if (r->status != STATUS_OK || !value)
        return fallback;
    if (!json_is_number(value))
        r->status = error_set(r->error, STATUS_DATA, "%s: %s is not a number", r->path, key);
    return json_number_value(value);
}

static bool read_flag(struct config_reader *r, const char *key, bool fallback) {
    const json_t *value = json_object_get(r->root, key);
    if (r->status != STATUS_OK || !value)
        return fallback;
    if (!json_is_boolean(value))
        r->status = error_set(r->error, STATUS_DATA, "%s: %s is not true or false", r->path, key);
    return json_is_true(value);
}

static void require_text(struct config_reader *r, const json_t *object, const char *key, const char *expected,
                         bool may_miss) {
    const json_t *value = json_object_get(object, key);
    if (r->status != STATUS_OK || (!value && may_miss))
        return;
    const char *found = json_string_value(value);
    if (!found || strcmp(found, expected) != 0)
        r->status = error_set(r->error, STATUS_DATA, "%s: %s is %.100s, expected %s", r->path, key,
                              found   ? found
                              : value ? "not a text"
                                      : "missing",
                              expected);
}

/* Features of other Qwen3 checkpoints that change the numbers and that this trainer does not have. */
static void refuse_unsupported(struct config_reader *r) {
    const json_t *scaling = json_object_get(r->root, "rope_scaling");
    require_text(r, r->root, "model_type", "qwen3", false);
    require_text(r, r->root, "hidden_act", "silu", true);
    require_text(r, json_object_get(r->root, "rope_parameters"), "rope_type", "default", true);
    if (read_flag(r, "attention_bias", false))
        r->status = error_set(r->error, STATUS_DATA,
                              "%s: attention_bias is true; projections with a bias are not supported", r->path);
    if (read_flag(r, "use_sliding_window", false))
        r->status = error_set(r->error, STATUS_DATA,
                              "%s: use_sliding_window is true; sliding windows are not supported", r->path);
    if (r->status == STATUS_OK && scaling && !json_is_null(scaling))
        r->status =
            error_set(r->error, STATUS_DATA, "%s: rope_scaling is set; scaled positions are not supported", r->path);
}

static void read_tokenizer(struct config_reader *r, const json_t *own, enum tokenizer_kind *tokenizer) {
    const json_t *value = json_object_get(own, "tokenizer");
    const char *name = json_string_value(value);
    *tokenizer = name && strcmp(name, "bytes") == 0 ? TOKENIZER_BYTES : TOKENIZER_SHARDS;
    if (r->status == STATUS_OK && value && (!name || (*tokenizer == TOKENIZER_SHARDS && strcmp(name, "shards") != 0)))
        r->status = error_set(r->error, STATUS_DATA, "%s: atoll.tokenizer is %.100s, expected bytes or shards", r->path,
                              name ? name : "not a text");
}

static enum status read_config(const char *path, const json_t *root, struct shape *shape,
                               enum tokenizer_kind *tokenizer, struct error *error) {
    struct config_reader r = {.path = path, .root = root, .error = error, .status = STATUS_OK};
    const json_t *own = json_object_get(root, "atoll"), *rope = json_object_get(root, "rope_parameters");
    enum tokenizer_kind kind;
    refuse_unsupported(&r);
    read_tokenizer(&r, own, &kind);
    struct shape s = {.layers = read_count(&r, root, "num_hidden_layers", 0),
                      .width = read_count(&r, root, "hidden_size", 0),
                      .heads = read_count(&r, root, "num_attention_heads", 0),
                      .kv_heads = read_count(&r, root, "num_key_value_heads", 0),
                      .head_dim = read_count(&r, root, "head_dim", QWEN3_HEAD_DIM),
                      .ffn = read_count(&r, root, "intermediate_size", 0),
                      .vocab = read_count(&r, root, "vocab_size", 0),
                      .tied = read_flag(&r, "tie_word_embeddings", false),
                      .rope_theta = read_number(&r, root, "rope_theta", read_number(&r, rope, "rope_theta", 1e4)),
                      .norm_eps = read_number(&r, root, "rms_norm_eps", 1e-6)};
    s.context = read_count(&r, own, "context", read_count(&r, root, "max_position_embeddings", 0));
    if (r.status != STATUS_OK)
        return r.status;
    enum status status = shape_validate(&s, error);
    if (status != STATUS_OK) {
        error_prefix(error, "%s", path);
        return error ? (error->status = STATUS_DATA) : STATUS_DATA;
    }
    *shape = s;
    *tokenizer = kind;
    return STATUS_OK;
}

enum status model_files_load_shape(const char *directory, struct shape *shape, enum tokenizer_kind *tokenizer,
                                   struct error *error) {
    char path[PATH_BYTES];
    uint8_t *text = NULL;
    size_t count = 0;
    enum status status = make_path(directory, "config.json", path, error);
    if (status == STATUS_OK)
        status = files_read(path, CONFIG_BYTES_MAX, &text, &count, error);
    if (status != STATUS_OK)
        return status;
    json_error_t problem;
    json_t *root = json_loadb((const char *)text, count, JSON_REJECT_DUPLICATES, &problem);
    free(text);
    if (!root)
        return error_set(error, STATUS_DATA, "%s:%d:%d: not JSON: %s", path, problem.line, problem.column,
                         problem.text);
    status = json_is_object(root) ? read_config(path, root, shape, tokenizer, error)
                                  : error_set(error, STATUS_DATA, "%s: not a JSON object", path);
    json_decref(root);
    return status;
}

enum status model_files_load_parameters(const char *directory, const struct tensor_table *table, float *block,
                                        struct error *error) {
    char path[PATH_BYTES], index[PATH_BYTES];
    enum status status = make_path(directory, "model.safetensors", path, error);
    if (status == STATUS_OK)
        status = make_path(directory, "model.safetensors.index.json", index, error);
    if (status != STATUS_OK)
        return status;
    if (!files_exists(path) && files_exists(index))
        return error_set(error, STATUS_DATA, "%s: the checkpoint is split over several files; save it again as one",
                         directory);
    return safetensors_read(path, table, block, error);
}
