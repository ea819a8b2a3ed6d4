/* replay: every file of the given directories through one fuzz target, in the order of their names. Each name goes to
 * stderr before its turn, so that the last one is the culprit of a crash. A directory without files is an error:
 * nothing would be tested. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "fuzz/fuzz.h"

enum { PATH_BYTES = 4096 };

static bool replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    struct stat info;
    if (file == NULL || fstat(fileno(file), &info) != 0) {
        perror(path);
        return false;
    }
    size_t size = (size_t)info.st_size;
    uint8_t *data = malloc(size > 0 ? size : 1); /* its own block: a sanitizer sees its end */
    bool whole = data != NULL && fread(data, 1, size, file) == size;
    fclose(file);
    if (whole) {
        fprintf(stderr, "%s\n", path);
        LLVMFuzzerTestOneInput(data, size);
    } else {
        perror(path);
    }
    free(data);
    return whole;
}

static bool replay_directory(const char *directory) {
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, alphasort);
    if (count < 0) {
        perror(directory);
        return false;
    }
    int replayed = 0;
    bool good = true;
    for (int i = 0; i < count; i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') {
            good = replay_file(path) && good;
            replayed++;
        }
        free(entries[i]);
    }
    free(entries);
    printf("%s: %d inputs\n", directory, replayed);
    return good && replayed > 0;
}

int main(int argc, char **argv) {
    bool good = argc > 1;
    for (int i = 1; i < argc; i++)
        good = replay_directory(argv[i]) && good;
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
