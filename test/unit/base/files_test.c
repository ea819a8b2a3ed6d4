#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
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

static void directories(void **state) {
    (void)state;
    struct error error;
    char path[128];
    files_join(path, sizeof path, directory, "a/b//c/");
    assert_int_equal(files_make_directory(path, 0755, &error), STATUS_OK);
    assert_int_equal(files_make_directory(path, 0755, &error), STATUS_OK);
    assert_true(files_exists(path));
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
        cmocka_unit_test(write_and_read),       cmocka_unit_test(read_errors),
        cmocka_unit_test(files_without_a_size), cmocka_unit_test(a_failed_write_leaves_the_old_file),
        cmocka_unit_test(directories),          cmocka_unit_test(a_second_process_is_kept_out),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
