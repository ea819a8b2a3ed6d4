/* run_file: everything that one YAML file says about a run. The mechanism of typed keys is base/settings; each folder owns its rows
 * (model/model_settings, comms/link_settings, outer/run_file itself) and this file joins them.
 *
 * Run-wide keys (model, data.tokenizer, data.parts, inner, sync, outer, eval, workers, name) are equal on all nodes: WELCOME carries the
 * outer's. Their canonical text is hashed and compared in HELLO, but for those with which a run may be continued (inner.steps, eval):
 * the hash is part of the run's identity. Node keys (model.recompute, data.train, data.val, data.dtype, inner.threads, inner.precision, inner.min_step_time, outer.link,
 * link, checkpoint, worker) are free to differ. */
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

enum { SYNC_OVERLAP_AUTO = -1, SYNC_QUORUM_ALL = 0, SYNC_GRACE_AUTO = -1, SYNC_STALE_AUTO = -1, SYNC_DRIFT_AUTO = -1 };

/* sync: the schedule. `sync: off` in the file gives off = true and defaults elsewhere. */
struct sync_options {
    bool off;
    int64_t every_steps;     /* H of the papers */
    int64_t fragment_layers; /* layers of one fragment; "all" = 0 */
    int64_t pattern;         /* enum fragment_pattern */
    int64_t balance;         /* enum fragment_balance */
    int64_t overlap_steps;   /* tau of the papers, 0..H-1; "auto" = -1 */
    double keep_local;       /* alpha of the papers, 0..1 */
    int64_t codec_up;        /* enum codec_id */
    int64_t codec_down;
    bool error_feedback;
    int64_t quorum;      /* "all" = 0; n > 0: that many; n < 0: -n percent of the live ones, rounded up (quorum mode) */
    int64_t grace_us;    /* "auto" = -1; quorum mode only */
    int64_t stale;       /* "auto" = -1 (run_sync_stale) */
    int64_t min_workers; /* fewer connected: rounds stop */
    int64_t drift;       /* "auto" = -1 (run_sync_drift) */
};

struct outer_options {
    int64_t optimizer; /* enum outer_optimizer_kind */
    double lr;
    double momentum;
    int64_t aggregate;         /* enum outer_aggregate */
    double reject_norm;        /* times the running median; 0 = refuse by norm never */
    uint64_t link_bytes_per_s; /* outer.link: what the hub sends to all workers together; 0 = no cap. A node key */
};

/* Node keys of what a node keeps on disk. */
struct checkpoint_options {
    uint64_t every_us;  /* a worker: between two generations; 0 = only when it leaves */
    int64_t full_every; /* the outer: versions of a fragment between two full records of its log */
};

struct worker_options {
    int64_t selftest; /* steps between two self-tests; 0 = at the start only. A node key */
};

enum outer_aggregate { OUTER_MEAN, OUTER_CLIPPED, OUTER_TRIMMED };

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
    struct checkpoint_options checkpoint;
    struct worker_options worker;
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
 * the worker's own. Its overrides may name node keys only: the others are the outer's to set. */
MUST_USE enum status run_file_parse(const char *text, size_t bytes, const char *label, const char *base_directory,
                                    const char *const *overrides, int override_count, struct run_file *run,
                                    struct error *error);

/* run_file_text: the effective file as YAML, malloc'ed, NUL-terminated; loads again to an equal run. identity_only leaves out the node
 * keys and those that may change when a run is continued: that text is what the hash is taken over; WELCOME carries the whole one with
 * absolute paths. Data paths are printed absolute when absolute_paths. */
char *run_file_text(const struct run_file *run, bool identity_only, bool absolute_paths);

/* run_file_anchor: a data pattern as it is meant in `directory`, whose own letters stand for themselves; an absolute one as it is. false: it is
 * longer than a pattern may be, `out` as it was. */
bool run_file_anchor(const char *directory, const char *pattern, char out[DATA_GLOB_BYTES]);

/* BLAKE2b-256 over run_file_text(run, true, false). */
void run_file_keys_hash(const struct run_file *run, uint8_t hash[RUN_KEYS_HASH_BYTES]);

/* What the schedule's words come to. */

/* The fragments of the run, over the table of its model: fragments_create. */
MUST_USE enum status run_sync_fragments(const struct run_file *run, const struct tensor_table *table,
                                        struct fragments *fragments, struct error *error);

/* How many contributions close a round while `live` workers are connected: at least 1, at most `live`; 0 = quorum all, it waits for
 * every one. */
uint32_t run_sync_quorum(const struct run_file *run, uint32_t live);

/* A contribution counts while its base is at most so many versions old. auto: 0 when overlap_steps is a number, where every send waits
 * for the version before it; ROUND_STALE_QUORUM with a quorum that is not all: what expires is not lost, only sent again with a newer base,
 * so that who takes longer than that many rounds to send never counts; else 2: nobody who is here is passed by. */
uint64_t run_sync_stale(const struct run_file *run);

/* What people are told when contributions of a fragment expired so many times in a row. */
void run_sync_say_expired(const struct run_file *run, uint32_t fragment, uint32_t times, char *text, size_t bytes);

/* Training waits so many steps after the oldest send without a commit: overlap_steps when that is a number; else drift, where auto is
 * every_steps - 1. */
uint64_t run_sync_drift(const struct run_file *run);

/* All keys with their defaults, units, ranges and a comment each, as a YAML file that run_file_load accepts. malloc'ed. */
char *run_file_defaults_text(void);

#endif
