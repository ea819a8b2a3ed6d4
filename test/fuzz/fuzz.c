#include "fuzz/fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/bytes.h"
#include "base/check.h"

/* ---- bytes ---- */

static void take(struct fuzz_input *input, uint8_t *to, size_t count) {
    size_t there = input->left < count ? input->left : count;
    memset(to, 0, count);
    if (there == 0)
        return;
    memcpy(to, input->at, there);
    input->at += there;
    input->left -= there;
}

uint8_t fuzz_u8(struct fuzz_input *input) {
    uint8_t byte;
    take(input, &byte, 1);
    return byte;
}

uint16_t fuzz_u16(struct fuzz_input *input) {
    uint8_t bytes[2];
    take(input, bytes, sizeof bytes);
    return bytes_load_u16(bytes);
}

uint32_t fuzz_u32(struct fuzz_input *input) {
    uint8_t bytes[4];
    take(input, bytes, sizeof bytes);
    return bytes_load_u32(bytes);
}

uint64_t fuzz_u64(struct fuzz_input *input) {
    uint8_t bytes[8];
    take(input, bytes, sizeof bytes);
    return bytes_load_u64(bytes);
}

uint8_t *fuzz_copy(const uint8_t *data, size_t size, bool text) {
    uint8_t *copy = malloc(size + text);
    CHECK(copy != NULL || size + text == 0);
    if (size > 0)
        memcpy(copy, data, size);
    if (text)
        copy[size] = '\0';
    return copy;
}

/* ---- files ---- */

enum { PATH_BYTES = 512 };
static char directory[PATH_BYTES];

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void)info;
    (void)type;
    if (walk->level > 0)
        remove(path);
    return 0;
}

void fuzz_empty(void) {
    nftw(fuzz_directory(), remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void remove_directory(void) {
    fuzz_empty();
    rmdir(directory);
}

const char *fuzz_directory(void) {
    if (directory[0] == '\0') {
        const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(directory, sizeof directory, "%s/atoll-fuzz-XXXXXX", parent);
        CHECK(mkdtemp(directory) != NULL);
        atexit(remove_directory);
    }
    return directory;
}

const char *fuzz_path(const char *name) {
    static char paths[4][PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    CHECK(snprintf(path, PATH_BYTES, "%s/%s", fuzz_directory(), name) < PATH_BYTES);
    return path;
}

static void make_folders(char *path) {
    for (char *slash = path + strlen(fuzz_directory()) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        CHECK(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
}

void fuzz_write(const char *name, const void *bytes, size_t count) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s", fuzz_path(name));
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0 && errno == ENOENT) {
        make_folders(path);
        file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    }
    CHECK(file >= 0);
    for (size_t done = 0; done < count;) {
        ssize_t wrote = write(file, (const uint8_t *)bytes + done, count - done);
        CHECK(wrote > 0);
        done += (size_t)wrote;
    }
    CHECK(close(file) == 0);
}

/* ---- verdicts ---- */

void fuzz_check_refusal(enum status status, const struct error *error) {
    if (status == STATUS_OK)
        return;
    CHECK(error->status == status);
    CHECK(error->text[0] != '\0' && memchr(error->text, '\0', sizeof error->text) != NULL);
}
