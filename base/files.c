#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/check.h"
#include "base/failpoint.h"

enum { LOCK_TRIES = 20, LOCK_AGAIN_NS = 10000000 };

/* What a person can do about it; most reasons speak for themselves. */
static const char *remedy(int reason) {
    switch (reason) {
    case ENOSPC:
    case EDQUOT:
        return " (free some space there and try again)";
    case EROFS:
        return " (make it writable, or choose another directory)";
    case EIO:
        return " (the device fails: see the kernel's log)";
    default:
        return "";
    }
}

static enum status file_error(struct error *error, const char *doing, const char *path) {
    int reason = errno;
    enum status status = reason == ENOENT ? STATUS_NOT_FOUND : reason == ENOMEM ? STATUS_NO_MEMORY : STATUS_IO;
    return error_set(error, status, "cannot %s %s: %s%s", doing, path, strerror(reason), remedy(reason));
}

static ssize_t read_some(int file, uint8_t *to, size_t room) {
    ssize_t got;
    do
        got = read(file, to, room);
    while (got < 0 && errno == EINTR);
    return got;
}

static int create_new(const char *path, unsigned mode) {
    if (failpoint_fails("files.create"))
        return -1;
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)mode);
}

static ssize_t write_some(int file, const uint8_t *bytes, size_t count) {
    int point = failpoint_hit("files.write");
    if (point > 0) {
        errno = point;
        return -1;
    }
    return write(file, bytes, point == FAILPOINT_SHORT ? (count + 1) / 2 : count);
}

enum status files_create(const char *path, unsigned mode, int *file, struct error *error) {
    *file = create_new(path, mode);
    return *file < 0 ? file_error(error, "create", path) : STATUS_OK;
}

enum status files_write_all(int file, const char *path, const void *bytes, size_t count, struct error *error) {
    const uint8_t *from = bytes;
    while (count > 0) {
        ssize_t put = write_some(file, from, count);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return file_error(error, "write", path);
        from += put;
        count -= (size_t)put;
    }
    return STATUS_OK;
}

enum status files_sync(int file, const char *path, struct error *error) {
    if (failpoint_fails("files.fsync") || fsync(file) != 0)
        return file_error(error, "fsync", path);
    return STATUS_OK;
}

enum status files_close(int file, const char *path, struct error *error) {
    if (close(file) != 0 || failpoint_fails("files.close"))
        return file_error(error, "close", path);
    return STATUS_OK;
}

enum status files_rename(const char *from, const char *to, struct error *error) {
    if (failpoint_fails("files.rename") || rename(from, to) != 0)
        return file_error(error, "rename to", to);
    return STATUS_OK;
}

enum status files_sync_directory(const char *directory, struct error *error) {
    int file = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0)
        return file_error(error, "open directory", directory);
    enum status status = STATUS_OK;
    if ((failpoint_fails("files.fsync_directory") || fsync(file) != 0) &&
        errno != EINVAL) /* EINVAL: has no such thing */
        status = file_error(error, "fsync directory", directory);
    close(file);
    return status;
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

/* The directory that holds `path`. */
static enum status sync_directory_of(const char *path, struct error *error) {
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(directory, sizeof directory, ".");
    else
        snprintf(directory, sizeof directory, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    return files_sync_directory(directory, error);
}

static bool is_at(int file, const char *path) {
    struct stat opened, found;
    return fstat(file, &opened) == 0 && lstat(path, &found) == 0 && opened.st_ino == found.st_ino &&
           opened.st_dev == found.st_dev;
}

static int lock_descriptor(int file) {
    int result;
    do
        result = flock(file, LOCK_EX);
    while (result != 0 && errno == EINTR);
    return result;
}

/* One temporary name per target, so that what a killed process left is found and replaced, not left for ever. A lock tells it from a
 * live writer's, for which this waits: only the lock's holder renames or removes the file, so who gets the lock looks whether the
 * file is still there. The descriptor, or -1 with errno. */
static int create_temporary(const char *path, unsigned mode) {
    for (;;) {
        int file = create_new(path, mode);
        bool ours = file >= 0;
        if (!ours && errno == EEXIST) {
            file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
            if (file < 0 && errno == ENOENT)
                continue;
        }
        if (file < 0)
            return -1;
        bool fine = lock_descriptor(file) == 0;
        if (fine && is_at(file, path)) {
            if (ours)
                return file;
            fine = unlink(path) == 0;
        }
        int reason = errno;
        close(file);
        errno = reason;
        if (!fine)
            return -1;
    }
}

/* Writes, syncs and closes. */
static enum status write_synced(int file, const char *path, const struct files_part *parts, size_t count,
                                struct error *error) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = files_write_all(file, path, parts[i].bytes, parts[i].count, error);
    if (status == STATUS_OK)
        status = files_sync(file, path, error);
    enum status closed = files_close(file, path, status == STATUS_OK ? error : NULL);
    return status == STATUS_OK ? closed : status;
}

enum status files_write_atomic(const char *path, const void *bytes, size_t count, unsigned mode, struct error *error) {
    struct files_part part = {bytes, count};
    return files_write_atomic_parts(path, &part, 1, mode, error);
}

enum status files_write_atomic_parts(const char *path, const struct files_part *parts, size_t count, unsigned mode,
                                     struct error *error) {
    char temporary[PATH_MAX];
    int length = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    if (length < 0 || (size_t)length >= sizeof temporary) {
        errno = ENAMETOOLONG;
        return file_error(error, "write", path);
    }
    int lock = create_temporary(temporary, mode);
    int file =
        lock < 0 ? -1 : fcntl(lock, F_DUPFD_CLOEXEC, 0); /* closed before the rename, while `lock` holds the name */
    if (file < 0) {
        enum status status = file_error(error, "create", temporary);
        if (lock >= 0) {
            unlink(temporary);
            close(lock);
        }
        return status;
    }
    enum status status = write_synced(file, temporary, parts, count, error);
    if (status == STATUS_OK)
        status = files_rename(temporary, path, error);
    if (status != STATUS_OK)
        unlink(temporary);
    close(lock);
    return status == STATUS_OK ? sync_directory_of(path, error) : status;
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
        bool made = !failpoint_fails("files.make_directory") && mkdir(part, (mode_t)mode) == 0;
        if (!made && errno != EEXIST)
            return file_error(error, "make directory", part);
        enum status status = made ? sync_directory_of(part, error) : STATUS_OK;
        if (status != STATUS_OK) {
            rmdir(part); /* so that it is made and synced when tried again */
            return status;
        }
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
    /* Held for an instant: by who only looks whether it is held, or by who has not written its id yet. */
    int busy = flock(file, LOCK_EX | LOCK_NB);
    for (int i = 0; i < LOCK_TRIES && busy != 0 && errno == EWOULDBLOCK; i++) {
        struct timespec pause = {.tv_nsec = LOCK_AGAIN_NS};
        nanosleep(&pause, NULL);
        busy = flock(file, LOCK_EX | LOCK_NB);
    }
    if (busy != 0) {
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
