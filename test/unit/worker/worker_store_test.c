/* worker_store: what was saved comes back bit for bit; other runs, torn files and full disks. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/failpoint.h"
#include "base/files.h"
#include "base/rng.h"
#include "comms/commit.h"
#include "worker/worker_store.h"
#include "worker_rig.h"

static const uint8_t NO_RUN[MESSAGE_HASH_BYTES];
static const uint8_t KEYS[MESSAGE_HASH_BYTES] = {7};

static struct worker_store *open_store(const char *kind) {
    struct worker_store *store = NULL;
    struct error error = {0};
    if (worker_store_open(rig_directory, kind, false, NULL, &store, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return store;
}

static struct worker_image_sizes block_sizes(const struct rig *rig) {
    return (struct worker_image_sizes){.block_floats = model_tensors(rig->loop.model)->block_floats};
}

static bool save_loop(struct worker_store *store, const struct rig *rig) {
    struct worker_image_sizes sizes = block_sizes(rig);
    struct worker_image *image = worker_store_begin(store, &sizes);
    assert_non_null(image);
    worker_image_from_loop(image, &rig->loop);
    memcpy(image->keys_hash, KEYS, sizeof KEYS);
    worker_store_write(store, 0);
    return worker_store_wait(store);
}

static void training_goes_on_bit_for_bit(void **state) {
    (void)state;
    struct rig a, b;
    struct error error = {0};
    const struct worker_image *image;
    rig_open(&a), rig_open(&b);
    struct worker_store *store = open_store("plain");
    assert_null(worker_store_found(store));
    rig_train(&a, 5);
    assert_true(save_loop(store, &a));
    assert_int_equal(worker_store_generation(store), 1);
    worker_store_close(store);
    rig_train(&a, 4);

    store = open_store("plain");
    struct worker_image_sizes sizes = block_sizes(&b);
    assert_int_equal(worker_store_found(store)->step, 5);
    assert_int_equal(worker_store_restore(store, &sizes, NO_RUN, KEYS, &image, &error), STATUS_OK);
    worker_image_to_loop(image, &b.loop);
    worker_store_close(store);
    assert_int_equal(b.loop.step, 5);
    rig_train(&b, 4);
    size_t bytes = sizes.block_floats * sizeof(float);
    assert_memory_equal(model_parameters(a.loop.model), model_parameters(b.loop.model), bytes);
    assert_memory_equal(model_moment1(a.loop.model), model_moment1(b.loop.model), bytes);
    assert_memory_equal(model_moment2(a.loop.model), model_moment2(b.loop.model), bytes);
    assert_int_equal(a.loop.step, b.loop.step);
    assert_int_equal(a.loop.tokens, b.loop.tokens);
    assert_int_equal(dataset_cursor(a.loop.train), dataset_cursor(b.loop.train));
    assert_int_equal(model_update_count(a.loop.model), model_update_count(b.loop.model));
    assert_true(a.loop.loss == b.loop.loss);
    rig_close(&a), rig_close(&b);
}

/* ---- the sync's part ---- */

enum { FRAGMENTS = 3, BLOCK = 40, PACKED = 48, PAYLOAD = 11 };
static const struct worker_image_sizes SIZES = {BLOCK, PACKED, PAYLOAD, FRAGMENTS};

static void fill(float *to, size_t count, uint64_t stream) {
    for (size_t i = 0; i < count; i++)
        to[i] = rng_uniform(1, stream, i);
}

/* Fragment 0 at version 0, 1 with a commit, 2 with a commit and a record in flight. */
static void fill_image(struct worker_image *image) {
    float *const blocks[] = {image->theta, image->moment1, image->moment2};
    float *const packed[] = {image->g, image->u, image->residual, image->pending};
    for (uint64_t i = 0; i < 3; i++)
        fill(blocks[i], BLOCK, i);
    for (uint64_t i = 0; i < 4; i++)
        fill(packed[i], PACKED, 10 + i);
    memset(image->payloads, 0x5a, PAYLOAD);
    image->step = 12, image->tokens = 1200, image->cursor = 24, image->updates = 11, image->skipped = 1;
    memset(image->run_id, 3, sizeof image->run_id);
    memcpy(image->keys_hash, KEYS, sizeof KEYS);
    for (uint32_t f = 0; f < FRAGMENTS; f++) {
        struct worker_fragment *fragment = &image->fragments_list[f];
        memset(fragment, 0, sizeof *fragment);
        fragment->machine.work = 100 + f;
        memset(fragment->version.head.hash, (int)f + 1, MESSAGE_HASH_BYTES);
        if (f == 0)
            continue;
        struct commit *commit = &fragment->version.commit;
        commit->epoch = 2, commit->fragment = f, commit->version = 4 + f, commit->run_step = 10 + f;
        commit->counted_count = 1;
        commit->counted[0] =
            (struct counted){.slot = f, .incarnation = UINT64_MAX - f, .send_step = 9, .tokens_to = 900, .tokens = 900};
        commit->total_count = 1;
        commit->totals[0] = (struct total){.slot = f, .mark = 900, .applied = 900};
        commit->payload_bytes = 5;
        memset(commit->signature, 0x77, sizeof commit->signature);
        fragment->version.has_commit = true;
        fragment->version.head.epoch = 2, fragment->version.head.version = 4 + f;
        commit_hash(commit, fragment->version.head.hash);
        fragment->machine.version = 4 + f, fragment->machine.run_step = 10 + f, fragment->machine.mark = 900;
    }
    image->fragments_list[2].machine.record = (struct sync_record){
        .active = true, .base = 6, .step = 11, .tokens_from = 900, .tokens_to = 1100, .tokens = 90};
    memset(image->fragments_list[2].payload_hash, 0x33, MESSAGE_HASH_BYTES);
}

static void write_image(struct worker_store *store) {
    struct worker_image *image = worker_store_begin(store, &SIZES);
    assert_non_null(image);
    fill_image(image);
    worker_store_write(store, 0);
}

static void all_of_a_worker_comes_back(void **state) {
    (void)state;
    struct error error = {0};
    const struct worker_image *back;
    struct worker_store *store = open_store("worker"), *again;
    write_image(store);
    assert_true(worker_store_wait(store));
    struct worker_image *wanted = worker_store_begin(store, &SIZES);

    again = open_store("worker");
    const struct worker_image *found = worker_store_found(again);
    assert_int_equal(found->sizes.fragments, FRAGMENTS);
    uint64_t run_step = 0, mask = 0;
    for (uint32_t f = 0; f < FRAGMENTS; f++) {
        assert_memory_equal(&found->fragments_list[f].version.head, &wanted->fragments_list[f].version.head,
                            sizeof(struct head));
        worker_version_note(&found->fragments_list[f].version, &run_step, &mask);
    }
    assert_int_equal(run_step, 12);
    assert_int_equal(mask, 1 << 2);
    assert_int_equal(worker_store_restore(again, &SIZES, wanted->run_id, KEYS, &back, &error), STATUS_OK);
    assert_memory_equal(back->theta, wanted->theta, BLOCK * sizeof(float));
    assert_memory_equal(back->moment1, wanted->moment1, BLOCK * sizeof(float));
    assert_memory_equal(back->moment2, wanted->moment2, BLOCK * sizeof(float));
    assert_memory_equal(back->g, wanted->g, PACKED * sizeof(float));
    assert_memory_equal(back->u, wanted->u, PACKED * sizeof(float));
    assert_memory_equal(back->residual, wanted->residual, PACKED * sizeof(float));
    assert_memory_equal(back->pending, wanted->pending, PACKED * sizeof(float));
    assert_memory_equal(back->payloads, wanted->payloads, PAYLOAD);
    assert_int_equal(back->step, 12);
    assert_int_equal(back->tokens, 1200);
    assert_int_equal(back->cursor, 24);
    assert_int_equal(back->updates, 11);
    assert_int_equal(back->skipped, 1);
    for (uint32_t f = 0; f < FRAGMENTS; f++) {
        const struct worker_fragment *a = &back->fragments_list[f], *b = &wanted->fragments_list[f];
        assert_memory_equal(&a->machine, &b->machine, sizeof a->machine);
        assert_int_equal(a->version.has_commit, b->version.has_commit);
        assert_memory_equal(&a->version.commit, &b->version.commit, sizeof a->version.commit);
        if (a->machine.record.active)
            assert_memory_equal(a->payload_hash, b->payload_hash, MESSAGE_HASH_BYTES);
    }
    worker_store_close(again);
    worker_store_close(store);
}

static void another_run_and_other_keys_are_refused(void **state) {
    (void)state;
    struct error error = {0};
    char text[512];
    const struct worker_image *image;
    struct worker_store *store = open_store("worker");
    write_image(store);
    worker_store_close(store);
    store = open_store("worker");
    uint8_t run_id[MESSAGE_HASH_BYTES], other[MESSAGE_HASH_BYTES] = {0xab};
    memset(run_id, 3, sizeof run_id);
    assert_int_equal(worker_store_restore(store, &SIZES, other, KEYS, &image, &error), STATUS_CONFIG);
    snprintf(text, sizeof text,
             "%s/checkpoint is of run 0303030303030303, this is run ab00000000000000; use another --dir, or remove it",
             rig_directory);
    assert_string_equal(error.text, text);
    assert_int_equal(worker_store_restore(store, &SIZES, run_id, other, &image, &error), STATUS_CONFIG);
    snprintf(text, sizeof text,
             "%s/checkpoint was made with other run-wide keys (hash 0700000000000000, now ab00000000000000); only "
             "inner.steps and eval may change when a run is continued",
             rig_directory);
    assert_string_equal(error.text, text);
    struct worker_image_sizes fewer = SIZES;
    fewer.fragments--;
    assert_int_equal(worker_store_restore(store, &fewer, run_id, KEYS, &image, &error), STATUS_DATA);
    assert_int_equal(worker_store_restore(store, &SIZES, run_id, KEYS, &image, &error), STATUS_OK); /* as it was */
    worker_store_close(store);
    struct worker_store *plain = NULL;
    assert_int_equal(worker_store_open(rig_directory, "plain", true, NULL, &plain, &error), STATUS_CONFIG);
}

static void when_all_are_torn_a_worker_goes_on_without(void **state) {
    (void)state;
    struct error error = {0};
    char path[128];
    struct worker_store *store = open_store("worker");
    write_image(store);
    worker_store_close(store);
    snprintf(path, sizeof path, "%s/checkpoint/00000001/state.safetensors", rig_directory);
    assert_int_equal(truncate(path, 300), 0);
    store = NULL;
    assert_int_equal(worker_store_open(rig_directory, "worker", false, NULL, &store, &error), STATUS_DATA);
    assert_null(store);
    assert_int_equal(worker_store_open(rig_directory, "worker", true, NULL, &store, &error), STATUS_OK);
    assert_null(worker_store_found(store));
    write_image(store);
    assert_true(worker_store_wait(store));
    worker_store_close(store);
    store = open_store("worker");
    assert_int_equal(worker_store_found(store)->step, 12);
    worker_store_close(store);
}

static void a_full_disk_is_counted_and_tried_again(void **state) {
    (void)state;
    struct error error = {0};
    struct worker_store *store = open_store("worker");
    setenv("ATOLL_FAILPOINT", "files.write=ENOSPC", 1);
    assert_int_equal(failpoint_open(&error), STATUS_OK);
    write_image(store);
    assert_false(worker_store_wait(store));
    assert_int_equal(worker_store_failures(store), 1);
    unsetenv("ATOLL_FAILPOINT");
    assert_int_equal(failpoint_open(&error), STATUS_OK);
    write_image(store);
    assert_true(worker_store_wait(store));
    assert_int_equal(worker_store_failures(store), 1);
    worker_store_close(store);
}

static void of_a_lost_branch_is_set_aside(void **state) {
    (void)state;
    struct error error = {0};
    char kept[WORKER_STORE_KEPT_BYTES], path[256];
    struct worker_store *store = open_store("worker");
    assert_int_equal(worker_store_set_aside(store, 40, kept, &error), STATUS_NOT_FOUND);
    static const char *const names[] = {"checkpoint-lost-40", "checkpoint-lost-40.2"};
    for (int i = 0; i < 2; i++) {
        write_image(store);
        assert_int_equal(worker_store_set_aside(store, 40, kept, &error), STATUS_OK);
        assert_string_equal(kept, names[i]);
        snprintf(path, sizeof path, "%s/%s/00000001/manifest.json", rig_directory, kept);
        assert_true(files_exists(path));
    }
    worker_store_close(store);
    store = open_store("worker");
    assert_null(worker_store_found(store));
    worker_store_close(store);
}

static void the_log_tells_what_was_counted(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/log.jsonl", rig_directory);
    assert_int_equal(worker_store_logged_tokens(path), 0);
    FILE *file = fopen(path, "w");
    fputs("{\"event\":\"step\",\"step\":1,\"tokens\":700}\n", file);
    for (int i = 0; i < 40000; i++) /* only the end is read */
        fputs("{\"event\":\"link\",\"step\":1,\"tokens\":900}\n", file);
    fclose(file);
    assert_int_equal(worker_store_logged_tokens(path), 0);
    file = fopen(path, "a");
    fputs("{\"event\":\"sync_send\",\"tokens_to\":810}\nnot json\n{\"event\":\"step\",\"tokens\":800}\n", file);
    fputs("{\"event\":\"step\",\"tokens\":99", file); /* torn */
    fclose(file);
    assert_int_equal(worker_store_logged_tokens(path), 810);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(training_goes_on_bit_for_bit, rig_make, rig_remove),
        cmocka_unit_test_setup_teardown(all_of_a_worker_comes_back, rig_make, rig_remove),
        cmocka_unit_test_setup_teardown(another_run_and_other_keys_are_refused, rig_make, rig_remove),
        cmocka_unit_test_setup_teardown(when_all_are_torn_a_worker_goes_on_without, rig_make, rig_remove),
        cmocka_unit_test_setup_teardown(a_full_disk_is_counted_and_tried_again, rig_make, rig_remove),
        cmocka_unit_test_setup_teardown(of_a_lost_branch_is_set_aside, rig_make, rig_remove),
        cmocka_unit_test_setup_teardown(the_log_tells_what_was_counted, rig_make, rig_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
