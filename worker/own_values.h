/* own_values: what this worker alone was told on its command line (--name, --data, --val, --set), kept in DIRECTORY/own.json, so that
 * `atoll worker --dir D` goes on as it was. run.yaml cannot tell what is the worker's own from what the outer said: what is not in own.json
 * follows the outer.
 *
 *   {"schema": 1, "name": "attic", "data": ["/home/me/own.txt"], "val": [], "set": ["link.up=10Mbit/s"]}
 *
 * The command line wins: --name, --data and --val as a whole, --set key by key. Paths are kept absolute. Without the file the worker follows the
 * run again. */
#ifndef ATOLL_WORKER_OWN_VALUES_H
#define ATOLL_WORKER_OWN_VALUES_H

#include <jansson.h>
#include "base/options.h"
#include "outer/run_file.h"

enum { OWN_KEPT_BYTES = 512 };

struct own_values {
    const char *name; /* NULL: none */
    struct option_list data, val, set;
    bool found;                /* the directory keeps some */
    char kept[OWN_KEPT_BYTES]; /* as options, what is there from an earlier start only; "" = nothing. For people */
    json_t *json;              /* owns the strings */
};

/* own_values_open: what the directory keeps, and `given` (json NULL) over it; paths of --set too are absolute from here on. Writes nothing. `own` is
 * to be closed whatever comes.
 * STATUS_USAGE (too many, too long, not UTF-8), STATUS_CONFIG (another version's file, a --set that no run file takes), STATUS_DATA (damaged),
 * STATUS_IO: the text says what to do. */
MUST_USE enum status own_values_open(const char *directory, const struct own_values *given, struct own_values *own,
                                     struct error *error);

/* own_values_apply: --data and --val into `run`, which was parsed with own->set. */
void own_values_apply(const struct own_values *own, struct run_file *run);

/* own_values_save: when the values have proved good; a directory that keeps none (`found`) has them from before it registers, so that a kill in
 * between loses none. Writes nothing when there are none. STATUS_IO. */
MUST_USE enum status own_values_save(const struct own_values *own, const char *directory, struct error *error);
/* They did not prove good: what was saved goes. */
void own_values_forget(const char *directory);
/* The name that is in force: it is given once, at admission. */
void own_values_rename(struct own_values *own, const char *name);

void own_values_close(struct own_values *own); /* a zeroed one is fine */

#endif
