/* run_keys: the tables of the whole run file: the rows of name, workers, sync, outer and eval, the tables of model/ and comms/, and the
 * names that papers and other programs use for our keys. */
#ifndef ATOLL_OUTER_RUN_KEYS_H
#define ATOLL_OUTER_RUN_KEYS_H

#include "base/settings.h"

/* By enum outer_optimizer_kind; ends with NULL. */
extern const char *const outer_optimizer_names[];

/* The schema that fills a struct run_file. */
extern const struct settings_schema run_keys_schema;

/* The table of section sync: `sync: off` puts its defaults back. */
extern const struct setting_table *const run_keys_sync;

#endif
