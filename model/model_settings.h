/* model_settings: the rows of the run file's sections model, data and inner. Must not know what a run, a worker or a link is. */
#ifndef ATOLL_MODEL_MODEL_SETTINGS_H
#define ATOLL_MODEL_MODEL_SETTINGS_H

#include "base/settings.h"
#include "model/shape.h"

enum { MODEL_SETTINGS_SHAPE_ROWS = 13, MODEL_SETTINGS_DATA_ROWS = 5, MODEL_SETTINGS_INNER_ROWS = 19 };
extern const struct setting_row model_settings_shape[MODEL_SETTINGS_SHAPE_ROWS]; /* struct shape */
extern const struct setting_row model_settings_data[MODEL_SETTINGS_DATA_ROWS];   /* struct data_options */
extern const struct setting_row model_settings_inner[MODEL_SETTINGS_INNER_ROWS]; /* struct inner_options */

#endif
