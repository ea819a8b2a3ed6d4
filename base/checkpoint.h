/* checkpoint: generations of a node's state on disk. A generation is there whole or not at all, whatever instruction the process or the
 * machine dies at, and it is opened only when every byte matches its hash.
 *
 *   D/checkpoint/00000041/  D/checkpoint/00000042/   the newest two
 *       manifest.json       {"schema": 1, "kind": "outer", "generation": 42, "written": TIME, "state": {the caller's},
 *                            "files": {"state.safetensors": {"bytes": n, "xxh3_128": HEX}}, "hash": HEX}
 *       state.safetensors   flat arrays, F32 first, then U8; any safetensors library opens it
 *   D/checkpoint/tmp.00000043/   being written, or being removed: never opened, gone with the next write
 *   D/checkpoint/bad.00000040/   was damaged when it was opened: never opened again, the newest such one is kept to be looked at
 *
 * "hash" is the last field; it covers all bytes of the file before `,\n "hash"`, and what follows has one form only, so that no
 * byte of a manifest can change unseen. Hashes are XXH3-128 (damage, not malice).
 *
 * Writing, each step durable before the next: state.safetensors, manifest.json, tmp.N's entries, rename to N, the entry N. Only then go
 * older generations, each by a rename to tmp. first. Numbers rise and are not used twice.
 *
 * The caller holds files_lock(D): one process, one thread at a time. Failpoints, in order: checkpoint.write, checkpoint.written,
 * checkpoint.renamed, checkpoint.prune, besides those of files.h; checkpoint.read. */
#ifndef ATOLL_BASE_CHECKPOINT_H
#define ATOLL_BASE_CHECKPOINT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

enum { CHECKPOINT_SCHEMA = 1 };
enum checkpoint_type { CHECKPOINT_F32, CHECKPOINT_U8 };

struct checkpoint_array {
    const char *name; /* unique, printable ASCII but for space, quote, backslash; not __metadata__ */
    enum checkpoint_type type;
    const void *data; /* (count,), borrowed; must not change during the call */
    size_t count;     /* may be 0 */
};

/* checkpoint_write: the next generation, from arrays (count,) and `state`, a JSON object (both borrowed); its number in *generation.
 * No copy of the arrays is made. Returns when all is durable: two fsyncs of files, three of directories.
 * STATUS_IO (the text says which step, and what to do about a full disk), STATUS_NO_MEMORY, STATUS_DATA (state or names too large):
 * as if it had not been called, and it may be called again. Old generations that cannot be removed are said on stderr, no more. */
MUST_USE enum status checkpoint_write(const char *directory, const char *kind, json_t *state,
                                      const struct checkpoint_array *arrays, size_t count, uint64_t *generation,
                                      struct error *error);

struct checkpoint;

/* checkpoint_open: the newest good generation; every byte is read and compared. `warning`: its text is empty, or says which newer
 * generations were damaged and how; those are renamed to bad.N. The caller closes *checkpoint.
 * STATUS_NOT_FOUND: there is none: begin without. STATUS_DATA: there are some and none is good; nothing was touched. STATUS_CONFIG: the
 * newest is of another kind or schema. STATUS_IO (no permission, rename failed), STATUS_NO_MEMORY. But for NOT_FOUND: stop, a person
 * must look; the text says at what. */
MUST_USE enum status checkpoint_open(const char *directory, const char *kind, struct checkpoint **checkpoint,
                                     struct error *warning, struct error *error);
const json_t *checkpoint_state(const struct checkpoint *checkpoint); /* an object, borrowed until the close */
uint64_t checkpoint_generation(const struct checkpoint *checkpoint);

/* checkpoint_read: the array `name` -> data (count,). STATUS_DATA: there is none of that name, type and count; data is untouched. The device
 * may still fail: STATUS_DATA or STATUS_IO, data unspecified. */
MUST_USE enum status checkpoint_read(const struct checkpoint *checkpoint, const char *name, enum checkpoint_type type,
                                     void *data, size_t count, struct error *error);
void checkpoint_close(struct checkpoint *checkpoint); /* NULL is fine */

#endif
