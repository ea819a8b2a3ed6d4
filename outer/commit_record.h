/* commit_record: one commit of the outer's log as one file. Knows nothing of names and directories: outer/commit_log.h
 * does.
 *
 *   byte  0  magic "atollcmt"
 *         8  u32 schema, u32 flags (1 = full, 2 = has a residual)
 *        16  u64 bytes of the message
 *        24  u64 bytes of the payload; 0 = none
 *        32  u64 floats of the fragment
 *        40  COMMIT message as on the wire (comms/wire.h) | payload | residual f32 | full only: g f32, u f32
 *       end  XXH3-128 of all bytes before it, canonical: whoever changes the schema keeps it there
 *
 * All numbers little-endian. The checksum finds damage, not malice: the commit itself is signed, and names the hash of
 * g and u. */
#ifndef ATOLL_OUTER_COMMIT_RECORD_H
#define ATOLL_OUTER_COMMIT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "comms/message.h"
#include "comms/wire.h"

enum {
    COMMIT_RECORD_HEADER_BYTES = 40,
    COMMIT_RECORD_BLOCK_BYTES = 512 << 10, /* of a write: stays in the L2 cache */
    COMMIT_RECORD_PAGE_BYTES = 4096,       /* what O_DIRECT asks for, but on disks of larger blocks: there the page cache takes it */
};

/* Sizes of one fragment: they follow from the run file, and a record of other sizes is foreign. */
struct commit_record_shape {
    size_t floats;
    size_t payload_bytes; /* of a commit */
};

struct commit_record_holds {
    bool payload;
    bool full;
};

/* Memory for the header, the message and what is being written, kept by the caller. */
struct commit_record_room {
    uint8_t front[COMMIT_RECORD_HEADER_BYTES + MESSAGE_CONTROL_BYTES_MAX];
    uint8_t scratch[WIRE_SCRATCH_BYTES];
    uint8_t block[COMMIT_RECORD_BLOCK_BYTES +
                  COMMIT_RECORD_PAGE_BYTES]; /* pages of it that are never filled stay untouched */
};

/* commit_record_write: to `path`, synced; what was there is gone. payload (shape->payload_bytes,), residual, g, u
 * (shape->floats,) borrowed; NULL = not in the record; g and u both or neither. *bytes: of the whole record, also on
 * failure. STATUS_IO, STATUS_NOT_FOUND (no such directory): there is no file. One pass, block by block: copy, checksum,
 * write. */
MUST_USE enum status commit_record_write(struct commit_record_room *room, const char *path,
                                         const struct commit_record_shape *shape, const struct commit *commit,
                                         const uint8_t *payload, const float *residual, const float *g, const float *u,
                                         size_t *bytes, struct error *error);

/* commit_record_read: arrays may be NULL: checked, not kept. payload is filled when holds->payload, residual always
 * (zeros when the record has none), g and u when holds->full. Outputs are unspecified unless STATUS_OK. One pass over
 * the file. The text names it.
 *   STATUS_NOT_FOUND  no such file
 *   STATUS_DATA       torn or flipped, or no regular file
 *   STATUS_CONFIG     a whole record, but of another schema or of a run of other sizes
 *   STATUS_IO         the disk does not give it */
MUST_USE enum status commit_record_read(struct commit_record_room *room, const char *path,
                                        const struct commit_record_shape *shape, struct commit *commit,
                                        uint8_t *payload, float *residual, float *g, float *u,
                                        struct commit_record_holds *holds, struct error *error);

#endif
