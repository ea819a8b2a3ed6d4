/* commit_record: see the header for the bytes. */
#include "outer/commit_record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* the state on the stack; its layout is frozen since xxhash 0.8.0 */
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h> /* the same values from AVX2 and AVX-512 where the processor has them */
#endif
#include "base/bytes.h"
#include "base/check.h"
#include "base/failpoint.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "records hold little-endian floats as they are: a big-endian port needs byte swaps here"
#endif

enum {
    SCHEMA = 1,
    HEADER_BYTES = COMMIT_RECORD_HEADER_BYTES,
    CHECKSUM_BYTES = 16,
    BLOCK_BYTES = COMMIT_RECORD_BLOCK_BYTES,
    PAGE_BYTES = COMMIT_RECORD_PAGE_BYTES,
    FLAG_FULL = 1,
    FLAG_RESIDUAL = 2,
    FLAGS_KNOWN = FLAG_FULL | FLAG_RESIDUAL,
    READ_BYTES = WIRE_SCRATCH_BYTES, /* read, and hashed while in cache */
};
static const char MAGIC[8] = "atollcmt";

static enum status io_error(struct error *error, const char *doing, const char *path) {
    int reason = errno;
    return error_set(error, reason == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "cannot %s %s: %s", doing, path,
                     strerror(reason));
}

/* ---- write ---- */

/* Past the page cache where the file system lets us: nobody reads a record before the next start, and fresh pages for it cost more time than all
 * the rest of a commit (bench_sync). For that it goes out in blocks of whole pages, from one aligned place, where it is also hashed. */
struct writer {
    int file;
    bool direct;
    uint8_t *block; /* (BLOCK_BYTES,), page-aligned */
    size_t filled;  /* of the block */
    size_t written; /* to the file */
    XXH3_state_t hash;
};

/* The header and the message; returns their bytes. */
static size_t make_front(uint8_t *front, const struct commit *commit, const struct commit_record_shape *shape,
                         size_t payload_bytes, uint32_t flags) {
    static const struct message empty;
    struct message message = empty;
    message.type = MESSAGE_COMMIT;
    message.leader = commit->leader;
    message.body.commit = *commit;
    size_t bytes = wire_encode(&message, front + HEADER_BYTES);
    memcpy(front, MAGIC, sizeof MAGIC);
    bytes_store_u32(front + 8, SCHEMA);
    bytes_store_u32(front + 12, flags);
    bytes_store_u64(front + 16, bytes);
    bytes_store_u64(front + 24, payload_bytes);
    bytes_store_u64(front + 32, shape->floats);
    return HEADER_BYTES + bytes;
}

static bool use_page_cache(struct writer *writer) {
    int flags = writer->direct ? fcntl(writer->file, F_GETFL) : 0;
    if (writer->direct && (flags < 0 || fcntl(writer->file, F_SETFL, flags & ~O_DIRECT) != 0))
        return false;
    writer->direct = false;
    return true;
}

static ssize_t write_some(struct writer *writer, const uint8_t *from, size_t bytes) {
    int fault = failpoint_hit("outer.commit.write");
    if (fault == FAILPOINT_SHORT)
        return use_page_cache(writer) ? write(writer->file, from, bytes - bytes / 2) : -1;
    if (fault != 0) {
        errno = fault;
        return -1;
    }
    return write(writer->file, from, bytes);
}

/* What is in the block, with zeros up to a whole page behind it. */
static bool write_block(struct writer *writer) {
    size_t bytes = (writer->filled + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    memset(writer->block + writer->filled, 0, bytes - writer->filled);
    for (size_t done = 0; done < bytes;) {
        ssize_t put = write_some(writer, writer->block + done, bytes - done);
        if (put < 0 && errno == EINVAL && writer->direct && use_page_cache(writer))
            continue; /* a file system that takes the flag, and not the write */
        if (put < 0 && errno == EINTR)
            continue;
        if (put == 0) /* nothing, and no reason */
            errno = EIO;
        if (put <= 0 || (put % PAGE_BYTES != 0 && !use_page_cache(writer)))
            return false;
        done += (size_t)put;
    }
    writer->written += writer->filled;
    writer->filled = 0;
    return true;
}

static bool put_bytes(struct writer *writer, const void *from, size_t bytes, bool hashed) {
    for (const uint8_t *next = from; bytes > 0;) {
        size_t room = BLOCK_BYTES - writer->filled, some = bytes < room ? bytes : room;
        memcpy(writer->block + writer->filled, next, some);
        if (hashed)
            CHECK(XXH3_128bits_update(&writer->hash, writer->block + writer->filled, some) == XXH_OK);
        writer->filled += some;
        next += some;
        bytes -= some;
        if (writer->filled == BLOCK_BYTES && !write_block(writer))
            return false;
    }
    return true;
}

struct piece {
    const void *base; /* NULL: not in the record */
    size_t bytes;
};

static bool put_record(struct writer *writer, const struct piece *pieces, int count) {
    XXH128_canonical_t checksum;
    CHECK(XXH3_128bits_reset(&writer->hash) == XXH_OK);
    for (int i = 0; i < count; i++)
        if (pieces[i].base != NULL && !put_bytes(writer, pieces[i].base, pieces[i].bytes, true))
            return false;
    XXH128_canonicalFromHash(&checksum, XXH3_128bits_digest(&writer->hash));
    return put_bytes(writer, checksum.digest, CHECKSUM_BYTES, false) && write_block(writer) &&
           ftruncate(writer->file, (off_t)writer->written) == 0;
}

/* O_DIRECT is refused by file systems without it, such as tmpfs before Linux 6.6. */
static bool open_writer(struct writer *writer, const char *path) {
    const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
    writer->file = open(path, flags | O_DIRECT, 0666);
    writer->direct = writer->file >= 0;
    if (!writer->direct && errno == EINVAL)
        writer->file = open(path, flags, 0666);
    return writer->file >= 0;
}

/* Written whole and synced, or not there. */
static enum status write_file(struct writer *writer, const char *path, const struct piece *pieces, int count,
                              struct error *error) {
    if (!open_writer(writer, path))
        return io_error(error, "create", path);
    enum status status = STATUS_OK;
    if (!put_record(writer, pieces, count))
        status = io_error(error, "write", path);
    else if (failpoint_fails("outer.commit.fsync") || fsync(writer->file) != 0)
        status = io_error(error, "fsync", path);
    (void)posix_fadvise(writer->file, 0, 0, POSIX_FADV_DONTNEED); /* what did go through the page cache */
    if (close(writer->file) != 0 && status == STATUS_OK)
        status = io_error(error, "close", path);
    if (status != STATUS_OK)
        unlink(path);
    return status;
}

enum status commit_record_write(struct commit_record_room *room, const char *path,
                                const struct commit_record_shape *shape, const struct commit *commit,
                                const uint8_t *payload, const float *residual, const float *g, const float *u,
                                size_t *bytes, struct error *error) {
    size_t payload_bytes = payload == NULL ? 0 : shape->payload_bytes, float_bytes = shape->floats * sizeof(float);
    uint32_t flags = (g != NULL ? FLAG_FULL : 0) | (residual != NULL ? FLAG_RESIDUAL : 0);
    size_t front_bytes = make_front(room->front, commit, shape, payload_bytes, flags);
    const struct piece pieces[] = {{room->front, front_bytes},
                                   {payload, payload_bytes},
                                   {residual, float_bytes},
                                   {g, float_bytes},
                                   {u, float_bytes}};
    const int count = sizeof pieces / sizeof pieces[0];
    *bytes = CHECKSUM_BYTES;
    for (int i = 0; i < count; i++)
        *bytes += pieces[i].base != NULL ? pieces[i].bytes : 0;
    struct writer writer = {.block = room->block + (PAGE_BYTES - (uintptr_t)room->block % PAGE_BYTES) % PAGE_BYTES};
    return write_file(&writer, path, pieces, count, error);
}

/* ---- read ---- */

struct reader {
    int file;
    const char *path;
    uint8_t *scratch; /* where bytes go that nobody wants: (READ_BYTES,) */
    XXH3_state_t hash;
};

/* `to` NULL: passed over. Every byte is hashed. */
static enum status read_piece(struct reader *reader, void *to, size_t bytes, struct error *error) {
    uint8_t *place = to;
    while (bytes > 0) {
        uint8_t *into = place == NULL ? reader->scratch : place;
        ssize_t got = read(reader->file, into, bytes < READ_BYTES ? bytes : READ_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return io_error(error, "read", reader->path);
        if (got == 0)
            return error_set(error, STATUS_DATA, "%s: %zu more bytes were expected", reader->path, bytes);
        CHECK(XXH3_128bits_update(&reader->hash, into, (size_t)got) == XXH_OK);
        if (place != NULL)
            place += got;
        bytes -= (size_t)got;
    }
    return STATUS_OK;
}

struct header {
    uint32_t schema, flags;
    uint64_t message_bytes, payload_bytes, floats;
};

/* Where the parts of the record go; sizes as its header says, which fits the run. */
struct parts {
    struct header header;
    uint8_t *message;
    uint8_t *payload;
    float *residual, *g, *u;
};

static void parse_header(const uint8_t *from, struct header *header) {
    *header = (struct header){.schema = bytes_load_u32(from + 8),
                              .flags = bytes_load_u32(from + 12),
                              .message_bytes = bytes_load_u64(from + 16),
                              .payload_bytes = bytes_load_u64(from + 24),
                              .floats = bytes_load_u64(from + 32)};
}

/* Empty = the header is one that this program writes in this run, for a file of `bytes` bytes. */
static void judge_header(const uint8_t *raw, const struct header *header, const struct commit_record_shape *shape,
                         size_t bytes, char *text, size_t room) {
    text[0] = '\0';
    if (memcmp(raw, MAGIC, sizeof MAGIC) != 0) {
        snprintf(text, room, "expected a commit record, found another file");
        return;
    }
    if (header->schema != SCHEMA || (header->flags & ~(uint32_t)FLAGS_KNOWN) != 0) {
        snprintf(text, room,
                 "expected schema %d, found schema %" PRIu32 " with flags %" PRIu32
                 ": start the version of atoll that wrote it",
                 SCHEMA, header->schema, header->flags);
        return;
    }
    if (header->floats != shape->floats ||
        (header->payload_bytes != 0 && header->payload_bytes != shape->payload_bytes)) {
        snprintf(text, room,
                 "expected %zu floats and a payload of %zu bytes, found %" PRIu64 " and %" PRIu64
                 ": this run file is not the one that wrote it",
                 shape->floats, shape->payload_bytes, header->floats, header->payload_bytes);
        return;
    }
    if (header->message_bytes > MESSAGE_CONTROL_BYTES_MAX) {
        snprintf(text, room, "expected a message of at most %d bytes, found %" PRIu64, MESSAGE_CONTROL_BYTES_MAX,
                 header->message_bytes);
        return;
    }
    uint64_t arrays = (header->flags & FLAG_FULL ? 2u : 0u) + (header->flags & FLAG_RESIDUAL ? 1u : 0u);
    uint64_t wanted = HEADER_BYTES + header->message_bytes + header->payload_bytes +
                      arrays * shape->floats * sizeof(float) + CHECKSUM_BYTES;
    if (wanted != bytes)
        snprintf(text, room, "expected %" PRIu64 " bytes, found %zu", wanted, bytes);
}

static enum status read_parts(struct reader *reader, const struct parts *parts, struct error *error) {
    size_t float_bytes = parts->header.floats * sizeof(float);
    bool full = parts->header.flags & FLAG_FULL, residual = parts->header.flags & FLAG_RESIDUAL;
    const struct {
        void *to;
        size_t bytes;
    } list[] = {{parts->message, parts->header.message_bytes},
                {parts->payload, parts->header.payload_bytes},
                {parts->residual, residual ? float_bytes : 0},
                {parts->g, full ? float_bytes : 0},
                {parts->u, full ? float_bytes : 0}};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof list / sizeof list[0] && status == STATUS_OK; i++)
        status = read_piece(reader, list[i].to, list[i].bytes, error);
    if (!residual && parts->residual != NULL)
        memset(parts->residual, 0, float_bytes);
    return status;
}

static enum status check_end(struct reader *reader, struct error *error) {
    uint8_t found[CHECKSUM_BYTES];
    XXH128_canonical_t expected;
    XXH128_canonicalFromHash(&expected, XXH3_128bits_digest(&reader->hash));
    enum status status = read_piece(reader, found, sizeof found, error);
    if (status == STATUS_OK && memcmp(found, expected.digest, sizeof found) != 0)
        return error_set(error, STATUS_DATA, "%s: its checksum does not match: torn or flipped", reader->path);
    return status;
}

/* A header that does not fit is either damage or the work of another program: the checksum at the end tells which. */
static enum status refuse_header(struct reader *reader, size_t bytes, const char *why, struct error *error) {
    enum status status = read_piece(reader, NULL, bytes - HEADER_BYTES - CHECKSUM_BYTES, error);
    if (status == STATUS_OK)
        status = check_end(reader, error);
    if (status == STATUS_OK)
        return error_set(error, STATUS_CONFIG, "%s: %s", reader->path, why);
    if (status == STATUS_DATA)
        return error_set(error, STATUS_DATA, "%s: %s: torn or flipped", reader->path, why);
    return status;
}

/* The whole file: header, judged; parts; checksum. */
static enum status read_record(struct reader *reader, uint8_t *raw, const struct commit_record_shape *shape,
                               struct parts *parts, struct error *error) {
    struct stat facts;
    char why[256];
    if (fstat(reader->file, &facts) != 0)
        return io_error(error, "read", reader->path);
    if (!S_ISREG(facts.st_mode))
        return error_set(error, STATUS_DATA, "%s: expected a commit record, found no regular file", reader->path);
    size_t bytes = facts.st_size < 0 ? 0 : (size_t)facts.st_size;
    if (bytes < HEADER_BYTES + CHECKSUM_BYTES)
        return error_set(error, STATUS_DATA, "%s: expected a commit record, found %zu bytes: torn", reader->path,
                         bytes);
    CHECK(XXH3_128bits_reset(&reader->hash) == XXH_OK);
    enum status status = read_piece(reader, raw, HEADER_BYTES, error);
    if (status != STATUS_OK)
        return status;
    parse_header(raw, &parts->header);
    judge_header(raw, &parts->header, shape, bytes, why, sizeof why);
    if (why[0] != '\0')
        return refuse_header(reader, bytes, why, error);
    status = read_parts(reader, parts, error);
    return status == STATUS_OK ? check_end(reader, error) : status;
}

static enum status decode_commit(struct commit_record_room *room, const struct header *header, const char *path,
                                 struct commit *commit, struct error *error) {
    struct message message;
    struct error inner;
    if (wire_decode(room->front + HEADER_BYTES, header->message_bytes, room->scratch, &message, &inner) != STATUS_OK)
        return error_set(error, STATUS_DATA, "%s: %s", path, inner.text);
    const struct commit *found = &message.body.commit;
    if (message.type != MESSAGE_COMMIT)
        return error_set(error, STATUS_DATA, "%s: expected a COMMIT, found a %s", path,
                         message_type_name(message.type));
    if (header->payload_bytes != 0 && header->payload_bytes != found->payload_bytes)
        return error_set(error, STATUS_DATA, "%s: expected a payload of %" PRIu64 " bytes, found %" PRIu64, path,
                         found->payload_bytes, header->payload_bytes);
    *commit = *found;
    return STATUS_OK;
}

enum status commit_record_read(struct commit_record_room *room, const char *path,
                               const struct commit_record_shape *shape, struct commit *commit, uint8_t *payload,
                               float *residual, float *g, float *u, struct commit_record_holds *holds,
                               struct error *error) {
    struct reader reader = {.path = path, .scratch = room->scratch};
    /* O_NONBLOCK: a FIFO must not hold us */
    reader.file = failpoint_fails("outer.commit.read") ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (reader.file < 0)
        return io_error(error, "open", path);
    struct parts parts = {
        .message = room->front + HEADER_BYTES, .payload = payload, .residual = residual, .g = g, .u = u};
    enum status status = read_record(&reader, room->front, shape, &parts, error);
    close(reader.file);
    if (status == STATUS_OK)
        status = decode_commit(room, &parts.header, path, commit, error);
    if (status == STATUS_OK)
        *holds = (struct commit_record_holds){.payload = parts.header.payload_bytes != 0,
                                              .full = parts.header.flags & FLAG_FULL};
    return status;
}
