/* worker_rig: a tiny island in a directory of its own, for tests of what is saved and restored. To be included once, after cmocka.h. */
#ifndef ATOLL_TEST_WORKER_RIG_H
#define ATOLL_TEST_WORKER_RIG_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "worker/inner_loop.h"

static char rig_directory[64];

static inline void rig_write(const char *name, int lines) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", rig_directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int i = 0; i < lines; i++)
        fprintf(file, "line %d of %s, one of many that are alike\n", i, name);
    fclose(file);
}

static inline int rig_make(void **state) {
    (void)state;
    snprintf(rig_directory, sizeof rig_directory, "/tmp/atoll-worker-rig.XXXXXX");
    assert_non_null(mkdtemp(rig_directory));
    rig_write("train.txt", 200);
    return 0;
}

static inline void rig_remove_tree(const char *path) {
    DIR *directory = opendir(path);
    char inner[1024];
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (unlink(inner) != 0)
            rig_remove_tree(inner);
    }
    if (directory != NULL)
        closedir(directory);
    rmdir(path);
}

static inline int rig_remove(void **state) {
    (void)state;
    rig_remove_tree(rig_directory);
    return 0;
}

struct rig {
    struct run_file run;
    struct inner_loop loop;
};

static inline void rig_open(struct rig *rig) {
    struct error error = {0};
    static const char text[] =
        "name: t\nmodel: {layers: 2, width: 16, heads: 2, ffn: 24, context: 16}\ndata: {train: [train.txt]}\n"
        "inner: {lr: 1e-2, warmup_steps: 1, steps: 60, batch_per_worker: 2, threads: 1}\n"
        "sync: {every_steps: 6, fragment_layers: 1, overlap_steps: auto}\nworkers: 2\n";
    if (run_file_parse(text, sizeof text - 1, "test", rig_directory, NULL, 0, &rig->run, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    if (inner_loop_open(&rig->loop, &rig->run, NULL, 0, (struct evaluate_hook){0}, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static inline void rig_train(struct rig *rig, int steps) {
    struct error error;
    for (int i = 0; i < steps; i++)
        assert_int_equal(inner_loop_step(&rig->loop, &error), STATUS_OK);
}

static inline void rig_close(struct rig *rig) {
    inner_loop_close(&rig->loop);
}

#endif
