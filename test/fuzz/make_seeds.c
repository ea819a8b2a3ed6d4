/* make_seeds DIRECTORY: writes the hand-made part of the seed corpus, DIRECTORY/TARGET/seed-NAME. The same bytes each
 * time, so that `make_seeds test/fuzz/corpus` shows in the diff what a changed format does to them. What fuzzing
 * found (files of other names) stays. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "base/check.h"
#include "fuzz/seeds.h"

static const char *directory;

void seed_write(const char *target, const char *name, const void *bytes, size_t count) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, target);
    CHECK(mkdir(path, 0777) == 0 || errno == EEXIST);
    snprintf(path, sizeof path, "%s/%s/seed-%s", directory, target, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, count, file) != count || fclose(file) != 0) {
        perror(path);
        CHECK(false);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "make_seeds DIRECTORY\n");
        return 64;
    }
    directory = argv[1];
    CHECK(mkdir(directory, 0777) == 0 || errno == EEXIST);
    seeds_comms();
    seeds_quant();
    seeds_machines();
    seeds_files();
    return 0;
}
