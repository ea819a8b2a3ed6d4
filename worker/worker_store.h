/* worker_store: a worker's checkpoints. One generation (base/checkpoint.h) holds everything that training goes on from, bit for bit:
 *
 *   theta, moment1, moment2           blocks of the tensor table         step, tokens, cursor, updates, skipped
 *   g, u, residual, pending (e')      packed, of the merged versions     per fragment: machine, head; its record in flight
 *   payloads, commits                 of the records; signed             of which run: run_id, keys_hash
 *
 * The plain trainer (kind "plain") has the first line only. A `ready` outer copy that is not merged is not in it: it is fetched again.
 *
 *   compute thread, at a step boundary       writer thread
 *   worker_store_begin -> image; copies  --> checkpoint_write(image): seconds, while training goes on
 *   worker_store_write                       log "checkpoint", or a warning when it failed: tried again at the next time
 *
 * One image, taken at the first use and kept; one write at a time. Failpoints: worker.checkpoint.image, worker.checkpoint.written. */
#ifndef ATOLL_WORKER_WORKER_STORE_H
#define ATOLL_WORKER_WORKER_STORE_H

#include "base/arena.h"
#include "base/log.h"
#include "comms/message.h"
#include "worker/inner_loop.h"
#include "worker/sync_machine.h"

/* A version of a fragment, and what made it. */
struct worker_version {
    struct head head;
    bool has_commit; /* false at version 0 */
    struct commit commit;
};

/* Who counts in the newest of several versions: *run_step and *members_mask (bit slot) begin with 0. */
void worker_version_note(const struct worker_version *version, uint64_t *run_step, uint64_t *members_mask);

struct worker_fragment {
    struct sync_fragment machine; /* version, run_step, mark, work, record */
    struct worker_version version;
    uint8_t payload_hash[MESSAGE_HASH_BYTES]; /* of the record's payload */
};

struct worker_image_sizes {
    size_t block_floats;
    size_t packed_floats; /* 0 for the plain trainer, like the next two */
    size_t payload_bytes; /* of all fragments together, one after another */
    uint32_t fragments;
};

struct worker_image {
    struct worker_image_sizes sizes;
    uint8_t run_id[MESSAGE_HASH_BYTES]; /* zero for the plain trainer */
    uint8_t keys_hash[MESSAGE_HASH_BYTES];
    uint64_t step, tokens, cursor, updates, skipped;
    float *theta, *moment1, *moment2;       /* (block_floats,) */
    float *g, *u, *residual, *pending;      /* (packed_floats,) */
    uint8_t *payloads;                      /* (payload_bytes,) */
    struct worker_fragment *fragments_list; /* (fragments,) */
    struct arena arena;
};

/* The inner loop's part: blocks, step, tokens, cursor, updates, skipped. Model and data of `loop` are open, and of the image's sizes. */
void worker_image_from_loop(struct worker_image *image, const struct inner_loop *loop);
void worker_image_to_loop(const struct worker_image *image, struct inner_loop *loop);

enum { WORKER_STORE_KEPT_BYTES = 64 };
struct worker_store;

/* worker_store_open: DIRECTORY (locked by the caller) and the newest good checkpoint in it, if any. kind: "worker" or "plain".
 * When there are checkpoints and none is good: with torn_is_fine a warning on stderr and go on without, else STATUS_DATA.
 * STATUS_CONFIG, STATUS_IO, STATUS_NO_MEMORY: a person must look; the text says at what. */
MUST_USE enum status worker_store_open(const char *directory, const char *kind, bool torn_is_fine, struct log *log,
                                       struct worker_store **store, struct error *error);
/* Waits for a write that is under way. NULL is fine. */
void worker_store_close(struct worker_store *store);
/* Where it logs from here on. */
void worker_store_set_log(struct worker_store *store, struct log *log);

/* What was found, without its arrays (image->theta and so on are NULL); NULL when nothing was. Lives until worker_store_restore. */
const struct worker_image *worker_store_found(const struct worker_store *store);
uint64_t worker_store_generation(const struct worker_store *store); /* of what was found, or written last; 0 = none */

/* worker_store_restore: the arrays of what was found; *image lives until the next worker_store_begin. CHECKs that something was found.
 * STATUS_CONFIG: of another run, or of other keys. STATUS_DATA: sizes differ, or it contradicts itself. STATUS_NO_MEMORY, STATUS_IO. */
MUST_USE enum status worker_store_restore(struct worker_store *store, const struct worker_image_sizes *sizes,
                                          const uint8_t run_id[MESSAGE_HASH_BYTES],
                                          const uint8_t keys_hash[MESSAGE_HASH_BYTES],
                                          const struct worker_image **image, struct error *error);

/* The image to fill; NULL while the one before is being written. STATUS_NO_MEMORY is said on stderr, and NULL. */
struct worker_image *worker_store_begin(struct worker_store *store, const struct worker_image_sizes *sizes);
/* It is filled, which held training up for stall_us: write it aside. */
void worker_store_write(struct worker_store *store, uint64_t stall_us);
/* Wait for the write under way. false: the last write failed. */
bool worker_store_wait(struct worker_store *store);
uint64_t worker_store_failures(const struct worker_store *store);

/* worker_store_set_aside: the run went back to before what the checkpoints hold, which nobody else may have: DIRECTORY/checkpoint becomes
 * DIRECTORY/`kept` ("checkpoint-lost-STEP", numbered when that is there), and the next write is the first of a new one. Waits for a write that is
 * under way. STATUS_NOT_FOUND: there is none. STATUS_IO: as before; write nothing over it, try again. */
MUST_USE enum status worker_store_set_aside(struct worker_store *store, uint64_t step,
                                            char kept[WORKER_STORE_KEPT_BYTES], struct error *error);

/* The highest token counter that the step and sync_send records at the end of a log tell of: what was trained after the last checkpoint is lost,
 * but not uncounted. 0 when there is no such log. */
uint64_t worker_store_logged_tokens(const char *log_path);

#endif
