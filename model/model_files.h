/* model_files: a model as a directory that Hugging Face transformers opens as Qwen3ForCausalLM: model.safetensors and config.json.
 * Reads its own directories and Qwen3 checkpoints made by transformers (one file, F32 or BF16). */
#ifndef ATOLL_MODEL_MODEL_FILES_H
#define ATOLL_MODEL_MODEL_FILES_H

#include "model/shape.h"
#include "model/tensors.h"
#include "model/tokenizer.h"

/* model_files_save: makes the directory when needed; each file is written atomically, config.json last. STATUS_IO, STATUS_NO_MEMORY. */
MUST_USE enum status model_files_save(const char *directory, const struct shape *shape, enum tokenizer_kind tokenizer,
                                      const struct tensor_table *table, const float *block, struct error *error);

/* model_files_load_shape: config.json -> a validated shape, and the tokenizer (TOKENIZER_SHARDS when the file does not say).
 * context is what the model was trained with here, else max_position_embeddings, which may be far more than the caller wants:
 * it may be lowered before model_create. z_loss is 0. STATUS_NOT_FOUND, STATUS_IO, STATUS_DATA. */
MUST_USE enum status model_files_load_shape(const char *directory, struct shape *shape, enum tokenizer_kind *tokenizer,
                                            struct error *error);

/* model_files_load_parameters: model.safetensors -> block (block_floats,). Statuses of safetensors_read. */
MUST_USE enum status model_files_load_parameters(const char *directory, const struct tensor_table *table, float *block,
                                                 struct error *error);

#endif
