/* disk_fixture: a directory for a test, what lies in it, and damage to files. To be included after cmocka.h. */
#ifndef ATOLL_TEST_DISK_FIXTURE_H
#define ATOLL_TEST_DISK_FIXTURE_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/failpoint.h"
#include "base/files.h"

static char directory[64];

static inline int disk_make(void **state) {
    (void)state;
    strcpy(directory, "/tmp/atoll_outer_XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static inline int disk_remove(void **state) {
    (void)state;
    char command[128];
    unsetenv("ATOLL_FAILPOINT");
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    return failpoint_open(NULL) == STATUS_OK && system(command) == 0 ? 0 : -1;
}

static inline void disk_failpoint(const char *variable) {
    setenv("ATOLL_FAILPOINT", variable, 1);
    assert_int_equal(failpoint_open(NULL), STATUS_OK);
}

static inline const char *disk_path(const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static inline int disk_compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "a b c": the sorted names in a folder of the directory. */
static inline const char *disk_list(const char *folder) {
    static char text[4096];
    char *names[128];
    size_t count = 0;
    DIR *dir = opendir(disk_path(folder));
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            assert_true(count < 128);
            names[count++] = strdup(entry->d_name);
        }
    closedir(dir);
    qsort(names, count, sizeof *names, disk_compare_names);
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        strcat(text, i > 0 ? " " : "");
        strcat(text, names[i]);
        free(names[i]);
    }
    return text;
}

static inline void disk_put(const char *name, const void *bytes, size_t count) {
    FILE *file = fopen(disk_path(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

/* Freed by the caller. */
static inline uint8_t *disk_get(const char *name, size_t *count) {
    uint8_t *bytes;
    struct error error;
    if (files_read(disk_path(name), 1 << 24, &bytes, count, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return bytes;
}

static inline void disk_flip(const char *name, size_t at) {
    size_t count;
    uint8_t *bytes = disk_get(name, &count);
    assert_true(at < count);
    bytes[at] ^= 0x10;
    disk_put(name, bytes, count);
    free(bytes);
}

static inline void disk_truncate(const char *name, size_t bytes) {
    assert_int_equal(truncate(disk_path(name), (off_t)bytes), 0);
}

#endif
