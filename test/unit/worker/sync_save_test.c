/* sync_save: an island whose outer is gone trains on, is saved with sends in flight, and another process goes on from there, bit for bit. The
 * sync thread is the real one; its link dials where nobody listens. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include "comms/commit.h"
#include "worker/sync_thread.h"
#include "worker/worker_store.h"
#include "worker_rig.h"

static volatile int interrupted;

struct island {
    struct rig rig;
    struct fragments fragments;
    struct outer_copy copy;
    struct worker_image_sizes sizes;
    struct sync_thread *sync;
};

static enum status nobody_recovers(void *context, struct worker_link_options *options, bool *done,
                                   struct error *error) {
    (void)context, (void)options, (void)done;
    return error_set(error, STATUS_UNREACHABLE, "nobody");
}

static void open_island(struct island *island) {
    struct error error = {0};
    memset(island, 0, sizeof *island);
    rig_open(&island->rig);
    struct model *model = island->rig.loop.model;
    assert_int_equal(fragments_create(model_tensors(model), 2, 1, FRAGMENT_PATTERN_STRIDED, FRAGMENT_BALANCE_LAYERS,
                                      &island->fragments, &error),
                     STATUS_OK);
    assert_int_equal(
        outer_copy_open(&island->copy, &island->fragments, &island->rig.run, model_parameters(model), &error),
        STATUS_OK);
    sync_thread_image_sizes(&island->copy, model_tensors(model)->block_floats, &island->sizes);
}

static void start(struct island *island, const struct worker_image *resume, uint64_t incarnation) {
    static const struct token_address nowhere = {.host = "127.0.0.1", .control_port = 1, .bulk_port = 2};
    static struct curve_pair pair;
    struct error error = {0};
    struct model *model = island->rig.loop.model;
    keys_init();
    keys_enrolment_pair((const uint8_t[TOKEN_SECRET_BYTES]){1}, &pair);
    struct sync_thread_options options = {.run = &island->rig.run,
                                          .copy = &island->copy,
                                          .theta = model_parameters(model),
                                          .moment1 = model_moment1(model),
                                          .moment2 = model_moment2(model),
                                          .resume = resume,
                                          .recover = nobody_recovers,
                                          .interrupted = &interrupted};
    options.link_options = (struct worker_link_options){.role = PEER_ROLE_WORKER,
                                                        .addresses = &nowhere,
                                                        .address_count = 1,
                                                        .outer_key = pair.public_key,
                                                        .curve = &pair,
                                                        .bulk = true};
    options.hello.incarnation = incarnation;
    options.ready.tokens_per_step = inner_loop_tokens_per_step(&island->rig.run);
    assert_int_equal(worker_link_open(&options.link_options, &options.link, &error), STATUS_OK);
    if (sync_thread_open(&options, &island->sync, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static void train(struct island *island, int steps) {
    struct inner_loop *loop = &island->rig.loop;
    for (int i = 0; i < steps; i++) {
        rig_train(&island->rig, 1);
        struct sync_stepped stepped = {
            .step = loop->step, .tokens = inner_loop_tokens_per_step(&island->rig.run), .took_us = 1};
        assert_true(sync_thread_step(island->sync, &stepped));
        assert_int_equal(loop->tokens, sync_thread_tokens(island->sync));
    }
}

static void save(struct island *island, struct worker_store *store) {
    struct worker_image *image = worker_store_begin(store, &island->sizes);
    sync_thread_save_begin(island->sync, image);
    worker_image_from_loop(image, &island->rig.loop);
    assert_true(sync_thread_save_end(island->sync));
    worker_store_write(store, 0);
    assert_true(worker_store_wait(store));
}

static const struct worker_image *load(struct island *island, struct worker_store **store) {
    static const uint8_t none[MESSAGE_HASH_BYTES];
    const struct worker_image *image;
    struct error error = {0};
    assert_int_equal(worker_store_open(rig_directory, "worker", false, NULL, store, &error), STATUS_OK);
    if (worker_store_restore(*store, &island->sizes, none, none, &image, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return image;
}

static void close_island(struct island *island) {
    struct message_telemetry telemetry;
    sync_thread_close(island->sync, "test", &telemetry);
    outer_copy_close(&island->copy);
    fragments_destroy(&island->fragments);
    rig_close(&island->rig);
}

static void same(const struct worker_image *a, const struct worker_image *b) {
    size_t block = a->sizes.block_floats * sizeof(float), packed = a->sizes.packed_floats * sizeof(float);
    assert_memory_equal(a->theta, b->theta, block);
    assert_memory_equal(a->moment1, b->moment1, block);
    assert_memory_equal(a->moment2, b->moment2, block);
    assert_memory_equal(a->g, b->g, packed);
    assert_memory_equal(a->u, b->u, packed);
    assert_memory_equal(a->residual, b->residual, packed);
    assert_memory_equal(a->pending, b->pending, packed);
    assert_memory_equal(a->payloads, b->payloads, a->sizes.payload_bytes);
    assert_true(a->step == b->step && a->tokens == b->tokens && a->cursor == b->cursor && a->updates == b->updates);
    for (uint32_t f = 0; f < a->sizes.fragments; f++) {
        const struct worker_fragment *x = &a->fragments_list[f], *y = &b->fragments_list[f];
        assert_int_equal(x->machine.work, y->machine.work);
        assert_memory_equal(&x->machine.record, &y->machine.record, sizeof x->machine.record);
        assert_memory_equal(&x->version.head, &y->version.head, sizeof x->version.head);
        assert_memory_equal(x->payload_hash, y->payload_hash, sizeof x->payload_hash);
    }
}

/* H = 6, three fragments with offsets 0 2 4: due at 6, 8, 10. Saved at 9, with two in flight; the third is sent after that. */
static void go_on_bit_for_bit(enum codec_id codec) {
    struct island a, b;
    struct worker_store *first, *second, *third;
    struct error error = {0};
    open_island(&a), open_island(&b);
    a.copy.codec_up = b.copy.codec_up = codec_get(codec);
    sync_thread_image_sizes(&a.copy, a.sizes.block_floats, &a.sizes);
    b.sizes = a.sizes;
    start(&a, NULL, 1);
    assert_int_equal(worker_store_open(rig_directory, "worker", false, NULL, &first, &error), STATUS_OK);
    train(&a, 9);
    save(&a, first);
    train(&a, 1);

    const struct worker_image *image = load(&b, &second);
    assert_int_equal(image->step, 9);
    assert_true(image->fragments_list[0].machine.record.active && image->fragments_list[1].machine.record.active);
    assert_false(image->fragments_list[2].machine.record.active);
    worker_image_to_loop(image, &b.rig.loop);
    start(&b, image, 2);
    train(&b, 1);
    save(&a, first);
    struct worker_image *saved_b = worker_store_begin(second, &b.sizes);
    sync_thread_save_begin(b.sync, saved_b);
    worker_image_from_loop(saved_b, &b.rig.loop);
    assert_true(sync_thread_save_end(b.sync));
    const struct worker_image *saved_a = load(&a, &third);
    assert_true(saved_a->fragments_list[2].machine.record.active);
    same(saved_a, saved_b);
    close_island(&a), close_island(&b);
    worker_store_close(first), worker_store_close(second), worker_store_close(third);
}

static void another_process_goes_on_bit_for_bit(void **state) {
    (void)state;
    go_on_bit_for_bit(CODEC_E3M0);
}

/* An exact codec: what is in flight lies where the differences are. */
static void so_with_f32(void **state) {
    (void)state;
    go_on_bit_for_bit(CODEC_F32);
}

/* Of error feedback: e of what counted, and e' of what is in flight. */
static void residuals_come_back(void **state) {
    (void)state;
    struct island a, b;
    struct worker_store *store, *again;
    struct error error = {0};
    open_island(&a), open_island(&b);
    start(&a, NULL, 1);
    assert_int_equal(worker_store_open(rig_directory, "worker", false, NULL, &store, &error), STATUS_OK);
    train(&a, 7);
    save(&a, store);
    const struct worker_image *image = load(&b, &again);
    size_t floats = b.fragments.list[0].count, at = b.copy.offsets[0], nonzero = 0;
    for (size_t i = 0; i < floats; i++) {
        nonzero += image->pending[at + i] != 0;
        image->residual[at + i] = (float)i;
    }
    assert_true(nonzero > floats / 2);
    start(&b, image, 2);
    struct worker_image *saved = worker_store_begin(store, &b.sizes);
    memset(saved->pending, 0, b.sizes.packed_floats * sizeof(float));
    sync_thread_save_begin(b.sync, saved);
    assert_true(sync_thread_save_end(b.sync));
    assert_memory_equal(saved->residual + at, image->residual + at, floats * sizeof(float));
    assert_memory_equal(saved->pending + at, image->pending + at, floats * sizeof(float));
    close_island(&a), close_island(&b);
    worker_store_close(store), worker_store_close(again);
}

/* A bit of g that changed on the disk unseen, or before it got there: the rest of the checkpoint is used, that fragment is not called by its name. */
static void a_spoiled_fragment_is_not_passed_on(void **state) {
    (void)state;
    struct island a, b;
    struct worker_store *store, *again;
    struct error error = {0};
    open_island(&a), open_island(&b);
    start(&a, NULL, 1);
    assert_int_equal(worker_store_open(rig_directory, "worker", false, NULL, &store, &error), STATUS_OK);
    train(&a, 2);
    a.copy.g[a.copy.offsets[1]] += 1;
    save(&a, store);
    const struct worker_image *image = load(&b, &again);
    worker_image_to_loop(image, &b.rig.loop);
    start(&b, image, 2);
    struct worker_image *saved = worker_store_begin(again, &b.sizes);
    sync_thread_save_begin(b.sync, saved);
    assert_true(sync_thread_save_end(b.sync));
    static const struct head nothing = {0};
    assert_memory_not_equal(&saved->fragments_list[0].version.head, &nothing, sizeof nothing);
    assert_memory_equal(&saved->fragments_list[1].version.head, &nothing, sizeof nothing);
    close_island(&a), close_island(&b);
    worker_store_close(store), worker_store_close(again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(another_process_goes_on_bit_for_bit, rig_make, rig_remove),
        cmocka_unit_test_setup_teardown(so_with_f32, rig_make, rig_remove),
        cmocka_unit_test_setup_teardown(residuals_come_back, rig_make, rig_remove),
        cmocka_unit_test_setup_teardown(a_spoiled_fragment_is_not_passed_on, rig_make, rig_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
