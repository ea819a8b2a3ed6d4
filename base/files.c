#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/check.h"

static enum status file_error(struct error *error, const char *doing, const char *path) {
    int reason = errno;
    enum status status = reason == ENOENT ? STATUS_NOT_FOUND : reason == ENOMEM ? STATUS_NO_MEMORY : STATUS_IO;
    return error_set(error, status, "cannot %s %s: %s", doing, path, strerror(reason));
}

static ssize_t read_some(int file, uint8_t *to, size_t room) {
    ssize_t got;
    do
        got = read(file, to, room);
    while (got < 0 && errno == EINTR);
    return got;
}

static bool write_all(int file, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        ssize_t put = write(file, bytes, count);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return false;
        bytes += put;
        count -= (size_t)put;
    }
    return true;
}

/* Reads to the end rather than to st_size, so that pipes and /proc work. */
static enum status read_descriptor(int file, const char *path, size_t max_bytes, uint8_t **bytes_out, size_t *count_out,
                                   struct error *error) {
    struct stat facts;
    if (fstat(file, &facts) != 0)
        return file_error(error, "read", path);
    size_t room = 4096;
    if (S_ISREG(facts.st_mode) && facts.st_size > 0)
        room = (size_t)facts.st_size < max_bytes ? (size_t)facts.st_size : max_bytes;
    size_t used = 0;
    uint8_t *bytes = NULL;
    for (;;) {
        uint8_t *larger = bytes ? bytes : malloc(room + 2); /* + a byte that shows that there is more, + the NUL */
        if (bytes && used == room + 1) {
            room = room <= max_bytes / 2 ? 2 * room : max_bytes;
            larger = realloc(bytes, room + 2);
        }
        if (!larger) {
            free(bytes);
            errno = ENOMEM;
            return file_error(error, "read", path);
        }
        bytes = larger;
        ssize_t got = read_some(file, bytes + used, room + 1 - used);
        if (got < 0) {
            enum status status = file_error(error, "read", path);
            free(bytes);
            return status;
        }
        used += (size_t)got;
        if (used > max_bytes) {
            free(bytes);
            return error_set(error, STATUS_DATA, "%s is larger than the %zu bytes allowed here", path, max_bytes);
        }
        if (got == 0)
            break;
    }
    bytes[used] = 0;
    *bytes_out = bytes;
    *count_out = used;
    return STATUS_OK;
}

enum status files_read(const char *path, size_t max_bytes, uint8_t **bytes_out, size_t *count_out,
                       struct error *error) {
    CHECK(max_bytes < SIZE_MAX - 2);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return file_error(error, "open", path);
    enum status status = read_descriptor(file, path, max_bytes, bytes_out, count_out, error);
    close(file);
    return status;
}

static enum status sync_directory_of(const char *path, struct error *error) {
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(directory, sizeof directory, ".");
    else
        snprintf(directory, sizeof directory, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    int file = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0)
        return file_error(error, "open directory", directory);
    enum status status = STATUS_OK;
    if (fsync(file) != 0 && errno != EINVAL) /* EINVAL: a file system without directory fsync */
        status = file_error(error, "fsync directory", directory);
    close(file);
    return status;
}

enum status files_write_atomic(const char *path, const void *bytes, size_t count, unsigned mode, struct error *error) {
    static atomic_uint serial; /* two threads of one process never share a temporary name */
    char temporary[PATH_MAX];
    int length =
        snprintf(temporary, sizeof temporary, "%s.tmp-%ld-%u", path, (long)getpid(), atomic_fetch_add(&serial, 1));
    if (length < 0 || (size_t)length >= sizeof temporary) {
        errno = ENAMETOOLONG;
        return file_error(error, "write", path);
    }
    if (unlink(temporary) != 0 && errno != ENOENT) /* left by a killed process that had our pid */
        return file_error(error, "replace", temporary);
    int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
    if (file < 0)
        return file_error(error, "create", temporary);
    enum status status = STATUS_OK;
    if (!write_all(file, bytes, count))
        status = file_error(error, "write", temporary);
    else if (fsync(file) != 0)
        status = file_error(error, "fsync", temporary);
    if (close(file) != 0 && status == STATUS_OK)
        status = file_error(error, "close", temporary);
    if (status == STATUS_OK && rename(temporary, path) != 0)
        status = file_error(error, "rename to", path);
    if (status != STATUS_OK) {
        unlink(temporary);
        return status;
    }
    return sync_directory_of(path, error);
}

enum status files_make_directory(const char *path, unsigned mode, struct error *error) {
    char part[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part) {
        errno = length == 0 ? ENOENT : ENAMETOOLONG;
        return file_error(error, "make directory", path);
    }
    for (size_t end = 1; end <= length; end++) {
        if (path[end] != '/' && path[end] != '\0')
            continue;
        memcpy(part, path, end);
        part[end] = '\0';
        if (mkdir(part, (mode_t)mode) != 0 && errno != EEXIST)
            return file_error(error, "make directory", part);
    }
    struct stat facts;
    if (stat(path, &facts) != 0)
        return file_error(error, "make directory", path);
    if (!S_ISDIR(facts.st_mode)) {
        errno = ENOTDIR;
        return file_error(error, "make directory", path);
    }
    return STATUS_OK;
}

enum status files_lock(const char *directory, struct error *error) {
    char path[PATH_MAX];
    files_join(path, sizeof path, directory, "lock");
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0)
        return file_error(error, "open lock file", path);
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        enum status status;
        if (errno == EWOULDBLOCK) {
            char pid[24] = "";
            ssize_t got = pread(file, pid, sizeof pid - 1, 0);
            pid[got > 0 ? strcspn(pid, "\n") : 0] = '\0';
            status = error_set(error, STATUS_AGAIN, "%s is in use by process %s (%s): stop it, or choose another --dir",
                               directory, pid[0] ? pid : "(unknown)", path);
        } else {
            status = file_error(error, "lock", path);
        }
        close(file);
        return status;
    }
    char pid[24];
    int length = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(file, 0) != 0 || pwrite(file, pid, (size_t)length, 0) != length) {
        enum status status = file_error(error, "write lock file", path);
        close(file);
        return status;
    }
    return STATUS_OK; /* `file` stays open: the kernel drops the lock when the process ends */
}

enum status files_check_directory_name(const char *directory, struct error *error) {
    if (directory == NULL || (directory[0] != 0 && strlen(directory) < FILES_DIRECTORY_BYTES))
        return STATUS_OK;
    return error_set(error, STATUS_USAGE, "--dir %.60s%s: expected a directory of 1 to %d bytes", directory,
                     directory[0] != 0 ? "..." : "''", FILES_DIRECTORY_BYTES - 1);
}

bool files_exists(const char *path) {
    return access(path, F_OK) == 0;
}

void files_join(char *out, size_t out_bytes, const char *directory, const char *name) {
    size_t length = strlen(directory);
    const char *between = length == 0 || directory[length - 1] == '/' ? "" : "/";
    int used = snprintf(out, out_bytes, "%s%s%s", directory, between, name);
    CHECK(used >= 0 && (size_t)used < out_bytes);
}
