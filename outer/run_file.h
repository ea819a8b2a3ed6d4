/* run_file: everything that one YAML file says about a run. The mechanism of typed keys is base/settings; each folder owns its rows
 * (model/model_settings, comms/link_settings, outer/run_file itself) and this file joins them.
 *
 * Run-wide keys (model, data.tokenizer, data.parts, inner, sync, outer, eval, workers, name) must be equal on all nodes: their canonical
 * text is hashed and compared in HELLO. Node keys (data.train, data.val, data.dtype, inner.threads, link) are free to differ. */
#ifndef ATOLL_OUTER_RUN_FILE_H
#define ATOLL_OUTER_RUN_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "comms/link_settings.h"
#include "model/shape.h"
#include "outer/fragments.h"
#include "outer/outer_step.h"
#include "quant/codec.h"

enum { SYNC_OVERLAP_AUTO = -1, SYNC_QUORUM_ALL = 0, SYNC_GRACE_AUTO = -1 };

/* sync: the schedule. `sync: off` in the file gives off = true and defaults elsewhere. */
struct sync_options {
    bool off;
    int64_t every_steps;     /* H of the papers */
    int64_t fragment_layers; /* layers of one fragment; "all" = 0 */
    int64_t pattern;         /* enum fragment_pattern */
    int64_t overlap_steps;   /* tau of the papers, 0..H-1; "auto" = -1 */
    double keep_local;       /* alpha of the papers, 0..1 */
    int64_t codec_up;        /* enum codec_id */
    int64_t codec_down;
    bool error_feedback;
    int64_t quorum;   /* "all" = 0; an absolute number else (quorum mode) */
    int64_t grace_us; /* "auto" = -1; quorum mode only */
};

struct outer_options {
    int64_t optimizer; /* enum outer_optimizer_kind */
    double lr;
    double momentum;
};

struct eval_options {
    int64_t every_steps; /* 0 = only at the end */
    int64_t windows;     /* "all" = 0 */
};

enum { RUN_NAME_BYTES = 64, RUN_PATH_BYTES = 512, RUN_KEYS_HASH_BYTES = 32, RUN_WORKERS_MAX = 64 };

struct run_file {
    char name[RUN_NAME_BYTES];
    struct shape model;
    struct data_options data;
    struct inner_options inner;
    struct sync_options sync;
    struct outer_options outer;
    struct link_options link;
    struct eval_options eval;
    int64_t workers;
    char base_directory[RUN_PATH_BYTES]; /* absolute directory of the file: data paths are relative to it. Not a key. */
};

/* What a node wants of the files that data.train and data.val name: each glob must match readable, non-empty files. */
enum run_file_data {
    RUN_FILE_DATA_IGNORED, /* the outer: needs none */
    RUN_FILE_DATA_NAMED,   /* those that are named must be there */
    RUN_FILE_DATA_NEEDED,  /* and there must be some to train on */
};

/* run_file_load: read, apply `overrides` ("key=value" strings of --set, values in YAML), check everything, fill derived fields
 * (kv_heads, head_dim, vocab, data.parts). All errors in one go, a line each:
 *   run.yaml:LINE:COL: key: what is wrong (what was meant)
 * STATUS_CONFIG (exit 78). */
MUST_USE enum status run_file_load(const char *path, const char *const *overrides, int override_count,
                                   enum run_file_data data, struct run_file *run, struct error *error);

/* The same from memory: what a worker does with the WELCOME's text; `label` stands for the path in error texts, base_directory is
 * the worker's own. */
MUST_USE enum status run_file_parse(const char *text, size_t bytes, const char *label, const char *base_directory,
                                    const char *const *overrides, int override_count, struct run_file *run,
                                    struct error *error);

/* run_file_text: the effective file as YAML, malloc'ed, NUL-terminated; loads again to an equal run. run_wide_only leaves the node
 * keys out: that text is what the hash is taken over; WELCOME carries the whole one with absolute paths. Data paths are printed absolute when
 * absolute_paths. */
char *run_file_text(const struct run_file *run, bool run_wide_only, bool absolute_paths);

/* BLAKE2b-256 over run_file_text(run, true, false). */
void run_file_keys_hash(const struct run_file *run, uint8_t hash[RUN_KEYS_HASH_BYTES]);

/* All keys with their defaults, units, ranges and a comment each, as a YAML file that run_file_load accepts. malloc'ed. */
char *run_file_defaults_text(void);

#endif
