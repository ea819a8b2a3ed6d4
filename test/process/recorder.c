/* recorder: preloaded into a process, it writes down in which order that changes files and sends messages; durable.py judges. A kill -9 can't
 * show a missing fsync, since the kernel's cache outlives the process; this order can.
 *
 *     ATOLL_RECORD=PATH LD_PRELOAD=recorder.so atoll ...   ->   PATH.PID, one line per event, fields parted by tabs:
 *
 *     NS open INODE new|there PATH         NS write INODE COUNT HEX     (HEX: "-" when longer than CONTENT_BYTES)
 *     NS sync INODE THREAD, NS synced ...  around an fsync; the second one only when it succeeded
 *     NS mkdir INODE PATH                  NS rename FROM TO            NS link FROM TO        NS remove PATH
 *     NS say HEX                           a whole control message, before it is handed to ZeroMQ
 *     NS chunk HEX                         the header of a chunk on the bulk link, likewise
 *
 * NS is CLOCK_MONOTONIC, so the records of several processes can be merged. One lock is held around each change and its line: the order of
 * the lines is that of the changes, over all threads. Only what atoll calls is seen (`nm -D atoll`), not what libc does inside of fopen. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum { CONTENT_BYTES = 16384, LINE_BYTES = 1 << 18 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int record = -1;
static char line[LINE_BYTES];

/* ISO C has no cast from an object pointer to a function's. */
static void find(const char *name, void *function) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL)
        abort();
    memcpy(function, &found, sizeof found);
}
#define REAL(name)                                                                                                     \
    static __typeof__(name) *real;                                                                                     \
    if (real == NULL)                                                                                                  \
    find(#name, &real)

__attribute__((constructor)) static void begin(void) {
    const char *prefix = getenv("ATOLL_RECORD");
    char path[PATH_MAX];
    if (prefix == NULL)
        return;
    snprintf(path, sizeof path, "%s.%ld", prefix, (long)getpid());
    record = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (record < 0)
        abort();
}

/* One line: its head, then `count` bytes as hex. The lock is held; errno stays. */
__attribute__((format(printf, 3, 4))) static void note(const void *bytes, size_t count, const char *format, ...) {
    static const char digits[] = "0123456789abcdef";
    struct timespec now;
    int reason = errno;
    if (record < 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    size_t used = (size_t)snprintf(line, sizeof line, "%lld\t", (long long)now.tv_sec * 1000000000 + now.tv_nsec);
    va_list list;
    va_start(list, format);
    used += (size_t)vsnprintf(line + used, sizeof line - used, format, list);
    va_end(list);
    if (used + 2 * count + 1 > sizeof line)
        abort();
    for (size_t i = 0; i < count; i++) {
        line[used++] = digits[((const unsigned char *)bytes)[i] >> 4];
        line[used++] = digits[((const unsigned char *)bytes)[i] & 15];
    }
    line[used++] = '\n';
    if (syscall(SYS_write, record, line, used) != (long)used)
        abort();
    errno = reason;
}

static bool is_regular(int file, uint64_t *inode) {
    struct stat facts;
    int reason = errno;
    bool found = fstat(file, &facts) == 0 && S_ISREG(facts.st_mode);
    errno = reason;
    *inode = found ? facts.st_ino : 0;
    return found;
}

/* ---- names ---- */

static int open_noted(int directory, const char *path, int flags, mode_t mode) {
    struct stat facts;
    char link_path[64], name[PATH_MAX];
    REAL(openat);
    pthread_mutex_lock(&lock);
    int reason = errno;
    bool new = (flags & O_CREAT) != 0 && fstatat(directory, path, &facts, AT_SYMLINK_NOFOLLOW) != 0;
    errno = reason;
    int file = real(directory, path, flags, mode);
    reason = errno;
    if (file >= 0 && fstat(file, &facts) == 0 && (S_ISREG(facts.st_mode) || S_ISDIR(facts.st_mode))) {
        snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", file);
        ssize_t length = readlink(link_path, name, sizeof name - 1);
        name[length < 0 ? 0 : length] = '\0';
        note(NULL, 0, "open\t%ju\t%s\t%s", (uintmax_t)facts.st_ino, new ? "new" : "there", name);
        if (!new && (flags & O_TRUNC) != 0)
            note("", 0, "write\t%ju\t0\t", (uintmax_t)facts.st_ino);
    }
    errno = reason;
    pthread_mutex_unlock(&lock);
    return file;
}

static mode_t mode_of(int flags, va_list list) {
    return (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = mode_of(flags, list);
    va_end(list);
    return open_noted(AT_FDCWD, path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = mode_of(flags, list);
    va_end(list);
    return open_noted(directory, path, flags, mode);
}

int mkdir(const char *path, mode_t mode) {
    struct stat facts;
    REAL(mkdir);
    pthread_mutex_lock(&lock);
    int result = real(path, mode);
    if (result == 0 && stat(path, &facts) == 0)
        note(NULL, 0, "mkdir\t%ju\t%s", (uintmax_t)facts.st_ino, path);
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to) {
    REAL(rename);
    pthread_mutex_lock(&lock);
    int result = real(from, to);
    if (result == 0)
        note(NULL, 0, "rename\t%s\t%s", from, to);
    pthread_mutex_unlock(&lock);
    return result;
}

int link(const char *from, const char *to) {
    REAL(link);
    pthread_mutex_lock(&lock);
    int result = real(from, to);
    if (result == 0)
        note(NULL, 0, "link\t%s\t%s", from, to);
    pthread_mutex_unlock(&lock);
    return result;
}

static int remove_noted(int (*real)(const char *), const char *path) {
    pthread_mutex_lock(&lock);
    int result = real(path);
    if (result == 0)
        note(NULL, 0, "remove\t%s", path);
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) {
    REAL(unlink);
    return remove_noted(real, path);
}

int unlinkat(int directory, const char *path, int flags) { /* of rm(1) */
    char link_path[64], name[PATH_MAX + 256];
    REAL(unlinkat);
    pthread_mutex_lock(&lock);
    int result = real(directory, path, flags);
    int reason = errno;
    if (result == 0 && path[0] != '/') {
        snprintf(link_path, sizeof link_path, directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", directory);
        ssize_t length = readlink(link_path, name, PATH_MAX);
        snprintf(name + (length < 0 ? 0 : length), 256, "/%s", path);
        note(NULL, 0, "remove\t%s", name);
    } else if (result == 0) {
        note(NULL, 0, "remove\t%s", path);
    }
    errno = reason;
    pthread_mutex_unlock(&lock);
    return result;
}

int rmdir(const char *path) {
    REAL(rmdir);
    return remove_noted(real, path);
}

int remove(const char *path) {
    REAL(remove);
    return remove_noted(real, path);
}

/* ---- bytes ---- */

/* Of a plain file, and the lock is held; what was asked for, for a failed write may have put a part of it. */
static void note_write(uint64_t inode, const void *bytes, size_t count) {
    bool whole = bytes != NULL && count <= CONTENT_BYTES;
    note(bytes, whole ? count : 0, "write\t%ju\t%zu\t%s", (uintmax_t)inode, count, whole ? "" : "-");
}

ssize_t write(int file, const void *bytes, size_t count) {
    uint64_t inode;
    REAL(write);
    if (!is_regular(file, &inode))
        return real(file, bytes, count);
    pthread_mutex_lock(&lock);
    ssize_t put = real(file, bytes, count);
    note_write(inode, bytes, count);
    pthread_mutex_unlock(&lock);
    return put;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    uint64_t inode;
    REAL(pwrite);
    if (!is_regular(file, &inode))
        return real(file, bytes, count, at);
    pthread_mutex_lock(&lock);
    ssize_t put = real(file, bytes, count, at);
    note_write(inode, NULL, count);
    pthread_mutex_unlock(&lock);
    return put;
}

ssize_t writev(int file, const struct iovec *pieces, int count) {
    uint64_t inode;
    size_t bytes = 0;
    REAL(writev);
    if (!is_regular(file, &inode))
        return real(file, pieces, count);
    for (int i = 0; i < count; i++)
        bytes += pieces[i].iov_len;
    pthread_mutex_lock(&lock);
    ssize_t put = real(file, pieces, count);
    note_write(inode, NULL, bytes);
    pthread_mutex_unlock(&lock);
    return put;
}

int ftruncate(int file, off_t length) {
    uint64_t inode;
    REAL(ftruncate);
    if (!is_regular(file, &inode))
        return real(file, length);
    pthread_mutex_lock(&lock);
    int result = real(file, length);
    note_write(inode, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

static int sync_noted(int (*real)(int), int file) {
    struct stat facts;
    long thread = (long)gettid();
    if (fstat(file, &facts) != 0)
        return real(file);
    pthread_mutex_lock(&lock);
    note(NULL, 0, "sync\t%ju\t%ld", (uintmax_t)facts.st_ino, thread);
    pthread_mutex_unlock(&lock);
    int result = real(file);
    if (result == 0) {
        pthread_mutex_lock(&lock);
        note(NULL, 0, "synced\t%ju\t%ld", (uintmax_t)facts.st_ino, thread);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

int fsync(int file) {
    REAL(fsync);
    return sync_noted(real, file);
}

int fdatasync(int file) {
    REAL(fdatasync);
    return sync_noted(real, file);
}

/* ---- messages ---- */

/* The links send [routing id, on a ROUTER] message or [routing id, on a ROUTER] header payload, frame by frame, each message from one
 * thread (comms/link_zmq.c); other sockets are inside the process. */
int zmq_send(void *socket, const void *bytes, size_t count, int flags) {
    static _Thread_local int frames; /* that went before, of this message */
    int type = -1;
    size_t size = sizeof type;
    REAL(zmq_send);
    __typeof__(zmq_getsockopt) *ask;
    find("zmq_getsockopt", &ask);
    if (ask(socket, ZMQ_TYPE, &type, &size) != 0 || (type != ZMQ_ROUTER && type != ZMQ_DEALER))
        return real(socket, bytes, count, flags);
    bool more = (flags & ZMQ_SNDMORE) != 0;
    if (frames == (type == ZMQ_ROUTER ? 1 : 0)) {
        pthread_mutex_lock(&lock);
        note(bytes, count, more ? "chunk\t" : "say\t");
        pthread_mutex_unlock(&lock);
    }
    int result = real(socket, bytes, count, flags);
    if (result >= 0)
        frames = more ? frames + 1 : 0;
    else if (zmq_errno() != EINTR)
        frames = 0;
    return result;
}
