#include "experiments/bench_island.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/files.h"
#include "experiments/bench_measure.h"
#include "experiments/bench_nodes.h"
#include "worker/island.h"

enum { PIECE = 4096, FATE_US = 600000000 };
static const float NOISE = 1e-3F;
static volatile int interrupted; /* never: the bench ends this process */

struct bench_island {
    struct island island;
    struct worker_values values;
    struct tensor_table table;
    float *theta; /* (block_floats,) */
    uint64_t step;
};

static void add_noise(float *theta, size_t count, uint64_t seed) {
    float noise[PIECE];
    for (size_t at = 0; at < count; at += PIECE) {
        size_t n = count - at < PIECE ? count - at : PIECE;
        bench_fill(noise, n, seed + at, NOISE);
        for (size_t i = 0; i < n; i++)
            theta[at + i] += noise[i];
    }
}

static enum status open_state(struct bench_island *b, struct error *error) {
    struct island *island = &b->island;
    const struct run_file *run = &island->run;
    char path[RUN_PATH_BYTES];
    files_join(path, sizeof path, island->directory, "log.jsonl");
    enum status status = log_open(&island->log, path, error);
    if (status == STATUS_OK)
        status = tensors_table_create(&run->model, &b->table, error);
    if (status == STATUS_OK)
        status = run_sync_fragments(run, &b->table, &island->fragments, error);
    if (status != STATUS_OK)
        return status;
    b->theta = aligned_alloc(ARENA_ALIGNMENT, b->table.block_floats * sizeof(float));
    if (b->theta == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu parameters", b->table.parameter_count);
    tensors_initialize(&b->table, &run->model, (uint64_t)run->inner.seed, b->theta);
    return outer_copy_open(&island->copy, &island->fragments, run, b->theta, error);
}

static enum status start_sync(struct bench_island *b, struct error *error) {
    struct island *island = &b->island;
    struct sync_thread_options options = island_sync_options(island);
    options.theta = b->theta;
    options.ready.tokens_per_step = 1;
    add_noise(b->theta, b->table.block_floats, island->enrolment.admit.certificate.slot);
    return sync_thread_open(&options, &island->sync, error);
}

static enum status verdict(const struct bench_island *b, struct error *error) {
    bool orderly;
    enum status status = sync_thread_verdict(b->island.sync, &orderly, error);
    return status == STATUS_OK && orderly ? error_set(error, STATUS_AGAIN, "the outer ended the run") : status;
}

static enum status steps(struct bench_island *b, uint64_t until, struct error *error) {
    bool go = true;
    while (go && b->step < until)
        go = sync_thread_step(b->island.sync, &(struct sync_stepped){.step = ++b->step, .tokens = 1});
    return go ? STATUS_OK : verdict(b, error);
}

static enum status rounds(struct bench_island *b, int channel, struct error *error) {
    uint64_t period = (uint64_t)b->island.run.sync.every_steps;
    struct sync_thread *sync = b->island.sync;
    if (!sync_thread_wait_start(sync) || !sync_thread_catch_up(sync))
        return verdict(b, error);
    enum status status = steps(b, period - 1, error); /* the step after these is the first that sends */
    bench_node_done(channel);
    while (status == STATUS_OK && bench_node_wait(channel)) {
        status = steps(b, b->step + period, error);
        sync_thread_drain(sync, FATE_US);
        if (status == STATUS_OK)
            status = verdict(b, error);
        if (status == STATUS_OK)
            bench_node_done(channel);
    }
    return status;
}

int bench_island_main(void *token, const char *directory, int channel) {
    struct error error = {0};
    struct bench_island *b = calloc(1, sizeof *b);
    if (b == NULL)
        return status_exit_code(STATUS_NO_MEMORY);
    b->values = (struct worker_values){.join = token, .directory = directory};
    b->island.values = &b->values;
    b->island.interrupted = &interrupted;
    enum status status = island_get_admitted(&b->island, &error);
    if (status == STATUS_OK)
        status = island_begin_session(&b->island, &error);
    if (status == STATUS_OK)
        status = open_state(b, &error);
    if (status == STATUS_OK)
        status = start_sync(b, &error);
    if (status == STATUS_OK)
        status = rounds(b, channel, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "%s\n", error.text);
    if (b->island.sync != NULL) {
        struct message_telemetry last;
        sync_thread_close(b->island.sync, "the bench has ended", &last);
    }
    return status_exit_code(status); /* the rest of it goes with the process */
}
