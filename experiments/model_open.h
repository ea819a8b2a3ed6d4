/* model_open: a model directory, ready to compute: what eval and sample share. */
#ifndef ATOLL_EXPERIMENTS_MODEL_OPEN_H
#define ATOLL_EXPERIMENTS_MODEL_OPEN_H

#include "model/model.h"

/* model_open: loads config.json and the parameters. batch: windows of one forward pass. The context is cut to 4096 tokens when a foreign
 * config allows more. Statuses of model/model_files.h. The caller destroys the model. */
MUST_USE enum status model_open(const char *directory, int64_t batch, struct model **model,
                                enum tokenizer_kind *tokenizer, struct error *error);

#endif
