#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/failpoint.h"
#include "base/files.h"

static char directory[64];

static int make_directory(void **state) {
    (void)state;
    strcpy(directory, "/tmp/atoll_files_XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return system(command) == 0 ? 0 : -1;
}

static int entries(const char *path) {
    DIR *dir = opendir(path);
    assert_non_null(dir);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void write_and_read(void **state) {
    (void)state;
    char path[128];
    struct error error;
    uint8_t *bytes;
    size_t count;
    files_join(path, sizeof path, directory, "a.bin");
    static uint8_t large[100000];
    for (size_t i = 0; i < sizeof large; i++)
        large[i] = (uint8_t)(i * 7);
    assert_false(files_exists(path));
    assert_int_equal(files_write_atomic(path, large, sizeof large, 0600, &error), STATUS_OK);
    assert_true(files_exists(path));
    struct stat facts;
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0600);
    assert_int_equal(files_read(path, sizeof large, &bytes, &count, &error), STATUS_OK); /* exactly the limit */
    assert_int_equal(count, sizeof large);
    assert_memory_equal(bytes, large, count);
    assert_int_equal(bytes[count], 0);
    free(bytes);
    assert_int_equal(files_write_atomic(path, "", 0, 0600, &error), STATUS_OK); /* replaces */
    assert_int_equal(files_read(path, 10, &bytes, &count, &error), STATUS_OK);
    assert_int_equal(count, 0);
    assert_int_equal(bytes[0], 0);
    free(bytes);
    assert_int_equal(entries(directory), 1); /* no temporary file is left */
    unlink(path);
}

static void read_errors(void **state) {
    (void)state;
    char path[128];
    char text[256];
    struct error error;
    uint8_t *bytes;
    size_t count;
    files_join(path, sizeof path, directory, "none");
    assert_int_equal(files_read(path, 10, &bytes, &count, &error), STATUS_NOT_FOUND);
    snprintf(text, sizeof text, "cannot open %s: No such file or directory", path);
    assert_string_equal(error.text, text);
    assert_int_equal(files_write_atomic(path, "12345", 5, 0644, &error), STATUS_OK);
    assert_int_equal(files_read(path, 4, &bytes, &count, &error), STATUS_DATA);
    snprintf(text, sizeof text, "%s is larger than the 4 bytes allowed here", path);
    assert_string_equal(error.text, text);
    assert_int_equal(files_read(directory, 4, &bytes, &count, &error), STATUS_IO);
    snprintf(text, sizeof text, "cannot read %s: Is a directory", directory);
    assert_string_equal(error.text, text);
    unlink(path);
}

/* st_size is 0 there; the file must be read to its end all the same. */
static void files_without_a_size(void **state) {
    (void)state;
    struct error error;
    uint8_t *bytes;
    size_t count;
    assert_int_equal(files_read("/proc/self/status", 1 << 20, &bytes, &count, &error), STATUS_OK);
    assert_non_null(strstr((char *)bytes, "VmRSS"));
    free(bytes);
    assert_int_equal(files_read("/dev/zero", 10000, &bytes, &count, &error), STATUS_DATA); /* endless */
}

static void a_failed_write_leaves_the_old_file(void **state) {
    (void)state;
    struct error error;
    char path[128];
    files_join(path, sizeof path, directory, "dir");
    assert_int_equal(files_make_directory(path, 0755, &error), STATUS_OK);
    assert_int_equal(files_write_atomic(path, "x", 1, 0644, &error), STATUS_IO); /* rename onto a directory */
    assert_int_equal(entries(directory), 1);
    rmdir(path);
    files_join(path, sizeof path, directory, "no/such/place");
    assert_int_equal(files_write_atomic(path, "x", 1, 0644, &error), STATUS_NOT_FOUND);
}

static void set_failpoints(const char *variable) {
    struct error error;
    setenv("ATOLL_FAILPOINT", variable, 1);
    assert_int_equal(failpoint_open(&error), STATUS_OK);
}

static void assert_content(const char *path, const char *expected) {
    struct error error;
    uint8_t *bytes;
    size_t count;
    assert_int_equal(files_read(path, 1000, &bytes, &count, &error), STATUS_OK);
    assert_string_equal((char *)bytes, expected);
    free(bytes);
}

/* The texts are interface: operation, path, reason, what to do. */
static void each_step_may_fail(void **state) {
    (void)state;
    static const struct {
        const char *failpoint, *content_after, *text; /* @ = the directory */
    } rows[] = {
        {"files.create=EMFILE", "old", "cannot create @/a.tmp: Too many open files"},
        {"files.create=EROFS", "old",
         "cannot create @/a.tmp: Read-only file system (make it writable, or choose another directory)"},
        {"files.write=ENOSPC", "old",
         "cannot write @/a.tmp: No space left on device (free some space there and try again)"},
        {"files.write=short,files.write=EDQUOT@2", "old",
         "cannot write @/a.tmp: Disk quota exceeded (free some space there and try again)"},
        {"files.fsync=EIO", "old", "cannot fsync @/a.tmp: Input/output error (the device fails: see the kernel's log)"},
        {"files.close=EDQUOT", "old",
         "cannot close @/a.tmp: Disk quota exceeded (free some space there and try again)"},
        {"files.rename=EACCES", "old", "cannot rename to @/a: Permission denied"},
        {"files.fsync_directory=EIO", "new",
         "cannot fsync directory @: Input/output error (the device fails: see the kernel's log)"},
    };
    char path[128];
    files_join(path, sizeof path, directory, "a");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error error;
        set_failpoints("");
        assert_int_equal(files_write_atomic(path, "old", 3, 0644, &error), STATUS_OK);
        set_failpoints(rows[i].failpoint);
        assert_int_equal(files_write_atomic(path, "new", 3, 0644, &error), STATUS_IO);
        char text[300];
        const char *at = strchr(rows[i].text, '@');
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - rows[i].text), rows[i].text, directory, at + 1);
        assert_string_equal(error.text, text);
        assert_content(path, rows[i].content_after);
        assert_int_equal(entries(directory), 1);
    }
    set_failpoints("");
    unlink(path);
}

static void short_and_interrupted_writes(void **state) {
    (void)state;
    struct error error;
    char path[128];
    files_join(path, sizeof path, directory, "a");
    set_failpoints("files.write=short+"); /* 5, 2, 1, 1, 1 */
    assert_int_equal(files_write_atomic(path, "0123456789", 10, 0644, &error), STATUS_OK);
    assert_content(path, "0123456789");
    set_failpoints("files.write=EINTR,files.write=short@2,files.write=EINTR@3");
    assert_int_equal(files_write_atomic(path, "abcdefghij", 10, 0644, &error), STATUS_OK);
    assert_content(path, "abcdefghij");
    set_failpoints("");
    unlink(path);
}

/* A child is killed at every step in turn: the file is the old or the new one, and the next write leaves nothing behind. */
static void killed_at_each_step(void **state) {
    (void)state;
    static const struct {
        const char *failpoint, *content_after;
        int entries_after;
    } rows[] = {
        {"files.create=kill", "old", 1},
        {"files.write=kill", "old", 2},
        {"files.write=short,files.write=kill@2", "old", 2},
        {"files.fsync=kill", "old", 2},
        {"files.close=kill", "old", 2},
        {"files.rename=kill", "old", 2},
        {"files.fsync_directory=kill", "new", 1},
    };
    struct error error;
    char path[128];
    files_join(path, sizeof path, directory, "a");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        set_failpoints("");
        assert_int_equal(files_write_atomic(path, "old", 3, 0644, &error), STATUS_OK);
        assert_int_equal(entries(directory), 1);
        pid_t child = fork();
        if (child == 0) {
            set_failpoints(rows[i].failpoint);
            _exit(files_write_atomic(path, "new", 3, 0644, &error) == STATUS_OK ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_content(path, rows[i].content_after);
        assert_int_equal(entries(directory), rows[i].entries_after);
    }
    unlink(path);
}

enum { WRITERS = 4, WRITES = 200, LONG_BYTES = 20000 };

static void *write_often(void *letter) {
    char path[128];
    struct error error;
    uint8_t bytes[LONG_BYTES];
    files_join(path, sizeof path, directory, "a");
    memset(bytes, *(char *)letter, sizeof bytes);
    for (int i = 0; i < WRITES; i++)
        if (files_write_atomic(path, bytes, sizeof bytes, 0644, &error) != STATUS_OK)
            return letter;
    return NULL;
}

/* They share the temporary name; each version is one writer's, whole. */
static void writers_of_one_file_take_turns(void **state) {
    (void)state;
    pthread_t threads[WRITERS];
    char letters[WRITERS] = {'a', 'b', 'c', 'd'};
    char path[128];
    struct error error;
    uint8_t *bytes;
    size_t count;
    files_join(path, sizeof path, directory, "a");
    assert_int_equal(files_write_atomic(path, "", 0, 0644, &error), STATUS_OK);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_often, &letters[i]), 0);
    for (int round = 0; round < 1000; round++) {
        assert_int_equal(files_read(path, LONG_BYTES, &bytes, &count, &error), STATUS_OK);
        assert_true(count == 0 || count == LONG_BYTES);
        for (size_t i = 1; i < count; i++)
            assert_int_equal(bytes[i], bytes[0]);
        free(bytes);
    }
    for (int i = 0; i < WRITERS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(entries(directory), 1);
    unlink(path);
}

/* Whatever lies at the temporary name: it is replaced, or said. */
static void odd_temporary_files(void **state) {
    (void)state;
    struct error error;
    char path[128], temporary[128], text[300];
    files_join(path, sizeof path, directory, "a");
    files_join(temporary, sizeof temporary, directory, "a.tmp");
    assert_int_equal(mkfifo(temporary, 0600), 0);
    assert_int_equal(files_write_atomic(path, "x", 1, 0644, &error), STATUS_OK);
    assert_false(files_exists(temporary));
    assert_int_equal(symlink("/etc/hostname", temporary), 0);
    assert_int_equal(files_write_atomic(path, "y", 1, 0644, &error), STATUS_IO);
    snprintf(text, sizeof text, "cannot create %s: Too many levels of symbolic links", temporary);
    assert_string_equal(error.text, text);
    unlink(temporary);
    assert_int_equal(mkdir(temporary, 0755), 0);
    assert_int_equal(files_write_atomic(path, "y", 1, 0644, &error), STATUS_IO);
    snprintf(text, sizeof text, "cannot create %s: Is a directory", temporary);
    assert_string_equal(error.text, text);
    rmdir(temporary);
    assert_content(path, "x");
    unlink(path);
}

static void directories(void **state) {
    (void)state;
    struct error error;
    char path[128];
    files_join(path, sizeof path, directory, "a/b//c/");
    assert_int_equal(files_make_directory(path, 0755, &error), STATUS_OK);
    assert_int_equal(files_make_directory(path, 0755, &error), STATUS_OK);
    assert_true(files_exists(path));
    files_join(path, sizeof path, directory, "a/new");
    set_failpoints("files.fsync_directory=EIO");
    assert_int_equal(files_make_directory(path, 0755, &error), STATUS_IO);
    set_failpoints("");
    assert_false(files_exists(path)); /* so that the next call makes it durable */
    files_join(path, sizeof path, directory, "a/file");
    assert_int_equal(files_write_atomic(path, "x", 1, 0644, &error), STATUS_OK);
    assert_int_equal(files_make_directory(path, 0755, &error), STATUS_IO);
    assert_non_null(strstr(error.text, "Not a directory"));
    files_join(path, sizeof path, directory, "a/file/b");
    assert_int_equal(files_make_directory(path, 0755, &error), STATUS_IO);
    files_join(path, sizeof path, "", "x");
    assert_string_equal(path, "x");
    files_join(path, sizeof path, "/", "x");
    assert_string_equal(path, "/x");
}

/* The child holds the lock until its pipe is closed; then it dies and the lock is free. */
static void a_second_process_is_kept_out(void **state) {
    (void)state;
    struct error error;
    char text[256];
    int ready[2];
    int done[2];
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(done), 0);
    pid_t child = fork();
    if (child == 0) {
        char c = files_lock(directory, &error) == STATUS_OK ? 'y' : 'n';
        close(done[1]);
        _exit(write(ready[1], &c, 1) == 1 && read(done[0], &c, 1) == 0 ? 0 : 1);
    }
    char c = 0;
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(c, 'y');
    assert_int_equal(files_lock(directory, &error), STATUS_AGAIN);
    snprintf(text, sizeof text, "%s is in use by process %ld (%s/lock): stop it, or choose another --dir", directory,
             (long)child, directory);
    assert_string_equal(error.text, text);
    close(done[1]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(files_lock(directory, &error), STATUS_OK);
    assert_int_equal(files_lock(directory, &error), STATUS_AGAIN); /* not even twice by one process */
    assert_int_equal(files_lock("/nonexistent", &error), STATUS_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_and_read),
        cmocka_unit_test(read_errors),
        cmocka_unit_test(files_without_a_size),
        cmocka_unit_test(a_failed_write_leaves_the_old_file),
        cmocka_unit_test(each_step_may_fail),
        cmocka_unit_test(short_and_interrupted_writes),
        cmocka_unit_test(killed_at_each_step),
        cmocka_unit_test(writers_of_one_file_take_turns),
        cmocka_unit_test(odd_temporary_files),
        cmocka_unit_test(directories),
        cmocka_unit_test(a_second_process_is_kept_out),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
