/* checkpoint_file: see the header. */
#include "base/checkpoint_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* the state on the stack; its layout is frozen since xxhash 0.8.0 */
#include <xxhash.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/failpoint.h"
#include "base/files.h"

enum { WRITE_BYTES = 1 << 20, READ_BYTES = 1 << 16 }; /* hashed while in cache */

static void digest_text(XXH128_hash_t hash, char digest[CHECKPOINT_DIGEST_CHARS]) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    bytes_to_hex(canonical.digest, sizeof canonical.digest, digest);
}

void checkpoint_digest(const void *bytes, size_t count, char digest[CHECKPOINT_DIGEST_CHARS]) {
    digest_text(XXH3_128bits(bytes, count), digest);
}

static enum status write_piece(int file, const char *path, const struct checkpoint_piece *piece, XXH3_state_t *hash,
                               struct error *error) {
    const uint8_t *at = piece->bytes;
    for (size_t left = piece->count; left > 0;) {
        size_t part = left < WRITE_BYTES ? left : WRITE_BYTES;
        CHECK(XXH3_128bits_update(hash, at, part) == XXH_OK);
        enum status status = files_write_all(file, path, at, part, error);
        if (status != STATUS_OK)
            return status;
        at += part;
        left -= part;
    }
    return STATUS_OK;
}

enum status checkpoint_file_write(const char *path, const struct checkpoint_piece *pieces, size_t count,
                                  char digest[CHECKPOINT_DIGEST_CHARS], struct error *error) {
    int file;
    enum status status = files_create(path, 0644, &file, error);
    if (status != STATUS_OK)
        return status;
    XXH3_state_t hash;
    CHECK(XXH3_128bits_reset(&hash) == XXH_OK);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = write_piece(file, path, &pieces[i], &hash, error);
    if (status == STATUS_OK)
        status = files_sync(file, path, error);
    enum status closed = files_close(file, path, status == STATUS_OK ? error : NULL);
    digest_text(XXH3_128bits_digest(&hash), digest);
    return status == STATUS_OK ? closed : status;
}

static enum status read_error(struct error *error, const char *path) {
    int reason = errno;
    static const int damage[] = {ENOENT, ENOTDIR, EISDIR, ELOOP, EIO, EBADMSG, EUCLEAN};
    enum status status = reason == ENOMEM ? STATUS_NO_MEMORY : STATUS_IO;
    for (size_t i = 0; i < sizeof damage / sizeof damage[0]; i++)
        if (reason == damage[i])
            status = STATUS_DATA;
    return error_set(error, status, "cannot read %s: %s", path, strerror(reason));
}

enum status checkpoint_file_open(const char *path, int *file, uint64_t *bytes, struct error *error) {
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* O_NONBLOCK: a FIFO must not hold us */
    if (opened < 0)
        return read_error(error, path);
    struct stat facts;
    enum status status = STATUS_OK;
    if (fstat(opened, &facts) != 0)
        status = read_error(error, path);
    else if (!S_ISREG(facts.st_mode))
        status = error_set(error, STATUS_DATA, "%s is not a regular file", path);
    if (status != STATUS_OK) {
        close(opened);
        return status;
    }
    *file = opened;
    *bytes = (uint64_t)facts.st_size;
    return STATUS_OK;
}

enum status checkpoint_file_read(int file, const char *path, uint64_t offset, void *to, size_t count,
                                 struct error *error) {
    uint8_t *at = to;
    while (count > 0) {
        ssize_t got = failpoint_fails("checkpoint.read") ? -1 : pread(file, at, count, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return read_error(error, path);
        if (got == 0)
            return error_set(error, STATUS_DATA, "%s ends at byte %llu", path, (unsigned long long)offset);
        at += got;
        offset += (uint64_t)got;
        count -= (size_t)got;
    }
    return STATUS_OK;
}

enum status checkpoint_file_digest(int file, const char *path, uint64_t bytes, char digest[CHECKPOINT_DIGEST_CHARS],
                                   struct error *error) {
    uint8_t buffer[READ_BYTES];
    XXH3_state_t hash;
    CHECK(XXH3_128bits_reset(&hash) == XXH_OK);
    for (uint64_t at = 0; at < bytes;) {
        size_t part = bytes - at < sizeof buffer ? (size_t)(bytes - at) : sizeof buffer;
        enum status status = checkpoint_file_read(file, path, at, buffer, part, error);
        if (status != STATUS_OK)
            return status;
        CHECK(XXH3_128bits_update(&hash, buffer, part) == XXH_OK);
        at += part;
    }
    digest_text(XXH3_128bits_digest(&hash), digest);
    return STATUS_OK;
}
