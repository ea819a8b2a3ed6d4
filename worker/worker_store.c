#include "worker/worker_store.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/checkpoint.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/files.h"
#include "comms/commit.h"
#include "comms/wire.h"

enum { ARRAYS_MAX = 9, LENGTH_BYTES = 4, LOG_TAIL_BYTES = 1 << 20 };

enum store_state { STORE_IDLE, STORE_WRITING, STORE_WRITTEN };

struct worker_store {
    char directory[4096];
    char kind[16];
    struct log *log;
    struct checkpoint *checkpoint; /* found, until it is restored */
    struct worker_image found;
    struct worker_image image;
    uint64_t stall_us;
    pthread_t thread;
    pthread_mutex_t lock;
    /* ---- under the lock ---- */
    enum store_state state;
    bool failed;
    uint64_t failures, generation;
};

void worker_version_note(const struct worker_version *version, uint64_t *run_step, uint64_t *members_mask) {
    const struct commit *commit = &version->commit;
    if (!version->has_commit || commit->run_step < *run_step)
        return;
    *run_step = commit->run_step;
    *members_mask = 0;
    for (uint32_t i = 0; i < commit->counted_count; i++)
        *members_mask |= (uint64_t)1 << commit->counted[i].slot;
}

/* ---- images ---- */

static enum status image_open(struct worker_image *image, const struct worker_image_sizes *sizes, struct error *error) {
    size_t block = sizes->block_floats * sizeof(float), packed = sizes->packed_floats * sizeof(float);
    size_t list = sizes->fragments * sizeof(struct worker_fragment);
    memset(image, 0, sizeof *image);
    enum status status = arena_open(&image->arena,
                                    3 * arena_round(block) + 4 * arena_round(packed) +
                                        arena_round(sizes->payload_bytes) + arena_round(list),
                                    error);
    if (status != STATUS_OK)
        return status;
    image->sizes = *sizes;
    image->theta = arena_take(&image->arena, block);
    image->moment1 = arena_take(&image->arena, block);
    image->moment2 = arena_take(&image->arena, block);
    if (sizes->fragments == 0)
        return STATUS_OK;
    image->g = arena_take(&image->arena, packed);
    image->u = arena_take(&image->arena, packed);
    image->residual = arena_take(&image->arena, packed);
    image->pending = arena_take(&image->arena, packed);
    image->payloads = arena_take(&image->arena, sizes->payload_bytes);
    image->fragments_list = arena_take(&image->arena, list);
    return STATUS_OK;
}

static void image_close(struct worker_image *image) {
    arena_close(&image->arena);
    memset(image, 0, sizeof *image);
}

void worker_image_from_loop(struct worker_image *image, const struct inner_loop *loop) {
    size_t bytes = image->sizes.block_floats * sizeof(float);
    CHECK(image->sizes.block_floats == model_tensors(loop->model)->block_floats);
    memcpy(image->theta, model_parameters(loop->model), bytes);
    memcpy(image->moment1, model_moment1(loop->model), bytes);
    memcpy(image->moment2, model_moment2(loop->model), bytes);
    image->step = loop->step;
    image->tokens = loop->tokens;
    image->cursor = dataset_cursor(loop->train);
    image->updates = model_update_count(loop->model);
    image->skipped = (uint64_t)loop->skipped_in_a_row;
}

void worker_image_to_loop(const struct worker_image *image, struct inner_loop *loop) {
    size_t bytes = image->sizes.block_floats * sizeof(float);
    CHECK(image->sizes.block_floats == model_tensors(loop->model)->block_floats);
    memcpy(model_parameters(loop->model), image->theta, bytes);
    memcpy(model_moment1(loop->model), image->moment1, bytes);
    memcpy(model_moment2(loop->model), image->moment2, bytes);
    loop->step = image->step;
    loop->tokens = image->tokens;
    dataset_set_cursor(loop->train, image->cursor);
    model_set_update_count(loop->model, image->updates);
    loop->skipped_in_a_row = (int)(image->skipped < INNER_SKIPS_MAX ? image->skipped : 0);
}

/* The arrays of an image, as they are named in a checkpoint. Returns how many. */
static size_t list_arrays(const struct worker_image *image, struct checkpoint_array arrays[ARRAYS_MAX]) {
    const struct worker_image_sizes *sizes = &image->sizes;
    const struct checkpoint_array all[] = {
        {"theta", CHECKPOINT_F32, image->theta, sizes->block_floats},
        {"moment1", CHECKPOINT_F32, image->moment1, sizes->block_floats},
        {"moment2", CHECKPOINT_F32, image->moment2, sizes->block_floats},
        {"g", CHECKPOINT_F32, image->g, sizes->packed_floats},
        {"u", CHECKPOINT_F32, image->u, sizes->packed_floats},
        {"residual", CHECKPOINT_F32, image->residual, sizes->packed_floats},
        {"pending", CHECKPOINT_F32, image->pending, sizes->packed_floats},
        {"payloads", CHECKPOINT_U8, image->payloads, sizes->payload_bytes},
    };
    size_t count = sizes->fragments > 0 ? sizeof all / sizeof all[0] : 3;
    memcpy(arrays, all, count * sizeof all[0]);
    return count;
}

/* ---- the state as JSON; commits as the wire has them, since their signatures must survive ---- */

static json_t *hex_json(const uint8_t *bytes, size_t count) {
    char text[2 * MESSAGE_HASH_BYTES + 1];
    bytes_to_hex(bytes, count, text);
    return json_string(text);
}

static json_t *record_json(const struct worker_fragment *fragment) {
    const struct sync_record *record = &fragment->machine.record;
    if (!record->active)
        return json_null();
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "base", (json_int_t)record->base, "step",
                     (json_int_t)record->step, "tokens_from", (json_int_t)record->tokens_from, "tokens_to",
                     (json_int_t)record->tokens_to, "tokens", (json_int_t)record->tokens, "payload_hash",
                     hex_json(fragment->payload_hash, MESSAGE_HASH_BYTES));
}

static json_t *fragment_json(const struct worker_fragment *fragment) {
    const struct sync_fragment *machine = &fragment->machine;
    const struct head *head = &fragment->version.head;
    return json_pack("{s:I, s:I, s:I, s:{s:I, s:I, s:o}, s:b, s:o}", "run_step", (json_int_t)machine->run_step, "mark",
                     (json_int_t)machine->mark, "work", (json_int_t)machine->work, "head", "epoch",
                     (json_int_t)head->epoch, "version", (json_int_t)head->version, "hash",
                     hex_json(head->hash, sizeof head->hash), "commit", fragment->version.has_commit, "record",
                     record_json(fragment));
}

static json_t *image_json(const struct worker_image *image, size_t commit_bytes) {
    json_t *list = json_array();
    for (uint32_t f = 0; f < image->sizes.fragments; f++)
        json_array_append_new(list, fragment_json(&image->fragments_list[f]));
    return json_pack(
        "{s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "run_id", hex_json(image->run_id, sizeof image->run_id),
        "keys_hash", hex_json(image->keys_hash, sizeof image->keys_hash), "step", (json_int_t)image->step, "tokens",
        (json_int_t)image->tokens, "cursor", (json_int_t)image->cursor, "updates", (json_int_t)image->updates,
        "skipped", (json_int_t)image->skipped, "commit_bytes", (json_int_t)commit_bytes, "fragments", list);
}

static size_t encode_commits(const struct worker_image *image, uint8_t *to) {
    size_t bytes = 0;
    for (uint32_t f = 0; f < image->sizes.fragments; f++) {
        const struct worker_version *version = &image->fragments_list[f].version;
        if (!version->has_commit)
            continue;
        struct message message = {.type = MESSAGE_COMMIT, .session = 1};
        message.body.commit = version->commit;
        size_t one = wire_encode(&message, to + bytes + LENGTH_BYTES);
        bytes_store_u32(to + bytes, (uint32_t)one);
        bytes += LENGTH_BYTES + one;
    }
    return bytes;
}

static bool take_count(const json_t *object, const char *name, uint64_t *to) {
    const json_t *value = json_object_get(object, name);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *to = (uint64_t)json_integer_value(value);
    return true;
}

static bool take_hash(const json_t *object, const char *name, uint8_t hash[MESSAGE_HASH_BYTES]) {
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL && bytes_from_hex(text, hash, MESSAGE_HASH_BYTES);
}

static bool take_record(const json_t *json, struct worker_fragment *fragment) {
    struct sync_record *record = &fragment->machine.record;
    if (json_is_null(json))
        return true;
    record->active = true;
    return take_count(json, "base", &record->base) && take_count(json, "step", &record->step) &&
           take_count(json, "tokens_from", &record->tokens_from) && take_count(json, "tokens_to", &record->tokens_to) &&
           take_count(json, "tokens", &record->tokens) && take_hash(json, "payload_hash", fragment->payload_hash);
}

static bool take_fragment(const json_t *json, struct worker_fragment *fragment) {
    struct head *head = &fragment->version.head;
    const json_t *head_json = json_object_get(json, "head");
    fragment->version.has_commit = json_is_true(json_object_get(json, "commit"));
    if (!take_count(json, "run_step", &fragment->machine.run_step) ||
        !take_count(json, "mark", &fragment->machine.mark) || !take_count(json, "work", &fragment->machine.work) ||
        !take_count(head_json, "epoch", &head->epoch) || !take_count(head_json, "version", &head->version) ||
        !take_hash(head_json, "hash", head->hash) || !take_record(json_object_get(json, "record"), fragment))
        return false;
    fragment->machine.version = head->version;
    return (head->version != 0) == fragment->version.has_commit;
}

/* Each is the commit that its head names: whoever is given it later checks the signature. */
static bool take_commits(struct worker_image *image, const uint8_t *from, size_t bytes) {
    struct message *message = malloc(sizeof *message);
    uint8_t *scratch = malloc(WIRE_SCRATCH_BYTES), hash[MESSAGE_HASH_BYTES];
    struct error error;
    bool good = message != NULL && scratch != NULL;
    for (uint32_t f = 0; good && f < image->sizes.fragments; f++) {
        struct worker_version *version = &image->fragments_list[f].version;
        if (!version->has_commit)
            continue;
        uint32_t one = bytes >= LENGTH_BYTES ? bytes_load_u32(from) : UINT32_MAX;
        good = one <= bytes - LENGTH_BYTES &&
               wire_decode(from + LENGTH_BYTES, one, scratch, message, &error) == STATUS_OK &&
               message->type == MESSAGE_COMMIT;
        if (!good)
            break;
        version->commit = message->body.commit;
        commit_hash(&version->commit, hash);
        good = memcmp(hash, version->head.hash, sizeof hash) == 0 && version->commit.fragment == f &&
               version->commit.version == version->head.version && version->commit.epoch == version->head.epoch;
        from += LENGTH_BYTES + one;
        bytes -= LENGTH_BYTES + one;
    }
    free(message);
    free(scratch);
    return good && bytes == 0;
}

static enum status read_commits(const struct checkpoint *checkpoint, struct worker_image *image, struct error *error) {
    uint64_t bytes = 0;
    if (!take_count(checkpoint_state(checkpoint), "commit_bytes", &bytes) ||
        bytes > (uint64_t)image->sizes.fragments * (LENGTH_BYTES + MESSAGE_CONTROL_BYTES_MAX))
        return error_set(error, STATUS_DATA, "the checkpoint contradicts itself: commit_bytes");
    uint8_t *encoded = malloc((size_t)bytes + 1);
    if (encoded == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %llu bytes of commits", (unsigned long long)bytes);
    enum status status = checkpoint_read(checkpoint, "commits", CHECKPOINT_U8, encoded, (size_t)bytes, error);
    if (status == STATUS_OK && !take_commits(image, encoded, (size_t)bytes))
        status = error_set(error, STATUS_DATA, "the checkpoint contradicts itself: commits");
    free(encoded);
    return status;
}

/* All but the arrays. */
static enum status read_found(struct worker_store *store, struct error *error) {
    struct worker_image *image = &store->found;
    const json_t *state = checkpoint_state(store->checkpoint);
    const json_t *list = json_object_get(state, "fragments");
    struct worker_image_sizes sizes = {.fragments = (uint32_t)json_array_size(list)};
    if (json_array_size(list) > MESSAGE_FRAGMENTS_MAX)
        return error_set(error, STATUS_DATA, "the checkpoint contradicts itself: fragments");
    enum status status = image_open(image, &sizes, error);
    if (status != STATUS_OK)
        return status;
    image->theta = image->moment1 = image->moment2 = NULL;
    image->g = image->u = image->residual = image->pending = NULL;
    bool good = take_hash(state, "run_id", image->run_id) && take_hash(state, "keys_hash", image->keys_hash) &&
                take_count(state, "step", &image->step) && take_count(state, "tokens", &image->tokens) &&
                take_count(state, "cursor", &image->cursor) && take_count(state, "updates", &image->updates) &&
                take_count(state, "skipped", &image->skipped);
    for (uint32_t f = 0; good && f < sizes.fragments; f++)
        good = take_fragment(json_array_get(list, f), &image->fragments_list[f]);
    if (!good)
        return error_set(error, STATUS_DATA, "the checkpoint contradicts itself: a field of its state is missing");
    return sizes.fragments > 0 ? read_commits(store->checkpoint, image, error) : STATUS_OK;
}

/* ---- open, restore ---- */

enum status worker_store_open(const char *directory, const char *kind, bool torn_is_fine, struct log *log,
                              struct worker_store **out, struct error *error) {
    struct worker_store *store = calloc(1, sizeof *store);
    struct error warning = {0};
    if (store == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the checkpoints");
    snprintf(store->directory, sizeof store->directory, "%s", directory);
    snprintf(store->kind, sizeof store->kind, "%s", kind);
    store->log = log;
    pthread_mutex_init(&store->lock, NULL);
    enum status status = checkpoint_open(directory, kind, &store->checkpoint, &warning, error);
    if (status == STATUS_OK) {
        store->generation = checkpoint_generation(store->checkpoint);
        status = read_found(store, error);
    }
    if (warning.text[0] != 0)
        log_say(LOG_LEVEL_WARN, "%s", warning.text);
    if (status == STATUS_DATA && torn_is_fine) {
        log_say(LOG_LEVEL_WARN, "%s; this worker starts from the seed and fetches everything", error->text);
        checkpoint_close(store->checkpoint);
        store->checkpoint = NULL;
        image_close(&store->found);
        status = STATUS_OK;
    }
    if (status == STATUS_NOT_FOUND)
        status = STATUS_OK;
    if (status != STATUS_OK) {
        worker_store_close(store);
        return status;
    }
    *out = store;
    return STATUS_OK;
}

void worker_store_close(struct worker_store *store) {
    if (store == NULL)
        return;
    (void)worker_store_wait(store);
    checkpoint_close(store->checkpoint);
    image_close(&store->found);
    image_close(&store->image);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

void worker_store_set_log(struct worker_store *store, struct log *log) {
    store->log = log;
}

const struct worker_image *worker_store_found(const struct worker_store *store) {
    return store->checkpoint != NULL ? &store->found : NULL;
}

uint64_t worker_store_generation(const struct worker_store *store) {
    return store->generation;
}

static enum status check_identity(const struct worker_store *store, const uint8_t *run_id, const uint8_t *keys_hash,
                                  struct error *error) {
    const struct worker_image *found = &store->found;
    char ours[2 * MESSAGE_HASH_BYTES + 1], theirs[2 * MESSAGE_HASH_BYTES + 1];
    bool run_differs = memcmp(found->run_id, run_id, sizeof found->run_id) != 0;
    if (!run_differs && memcmp(found->keys_hash, keys_hash, sizeof found->keys_hash) == 0)
        return STATUS_OK;
    bytes_to_hex(run_differs ? found->run_id : found->keys_hash, MESSAGE_HASH_BYTES, ours);
    bytes_to_hex(run_differs ? run_id : keys_hash, MESSAGE_HASH_BYTES, theirs);
    if (run_differs)
        return error_set(error, STATUS_CONFIG,
                         "%s/checkpoint is of run %.16s, this is run %.16s; use another --dir, or remove it",
                         store->directory, ours, theirs);
    return error_set(error, STATUS_CONFIG,
                     "%s/checkpoint was made with other run-wide keys (hash %.16s, now %.16s); only inner.steps and "
                     "eval may change when a run is continued",
                     store->directory, ours, theirs);
}

enum status worker_store_restore(struct worker_store *store, const struct worker_image_sizes *sizes,
                                 const uint8_t run_id[MESSAGE_HASH_BYTES], const uint8_t keys_hash[MESSAGE_HASH_BYTES],
                                 const struct worker_image **image, struct error *error) {
    struct checkpoint_array arrays[ARRAYS_MAX];
    CHECK(store->checkpoint != NULL && store->state == STORE_IDLE);
    const struct worker_image *found = &store->found;
    enum status status = check_identity(store, run_id, keys_hash, error);
    if (status == STATUS_OK && found->sizes.fragments != sizes->fragments)
        status = error_set(error, STATUS_DATA, "%s/checkpoint has %u fragments, the run has %u", store->directory,
                           found->sizes.fragments, sizes->fragments);
    if (status == STATUS_OK)
        status = image_open(&store->image, sizes, error);
    if (status != STATUS_OK)
        return status;
    struct worker_image *to = &store->image;
    memcpy(to->run_id, found->run_id, sizeof to->run_id);
    memcpy(to->keys_hash, found->keys_hash, sizeof to->keys_hash);
    to->step = found->step, to->tokens = found->tokens, to->cursor = found->cursor;
    to->updates = found->updates, to->skipped = found->skipped;
    if (sizes->fragments > 0)
        memcpy(to->fragments_list, found->fragments_list, sizes->fragments * sizeof *to->fragments_list);
    size_t count = list_arrays(to, arrays);
    for (size_t i = 0; i < count && status == STATUS_OK; i++)
        status = checkpoint_read(store->checkpoint, arrays[i].name, arrays[i].type, (void *)(uintptr_t)arrays[i].data,
                                 arrays[i].count, error);
    if (status != STATUS_OK) {
        image_close(&store->image);
        return status;
    }
    checkpoint_close(store->checkpoint);
    store->checkpoint = NULL;
    image_close(&store->found);
    *image = to;
    return STATUS_OK;
}

/* ---- writing ---- */

static enum status write_image(struct worker_store *store, uint64_t *generation, uint64_t *bytes, struct error *error) {
    struct checkpoint_array arrays[ARRAYS_MAX];
    const struct worker_image *image = &store->image;
    size_t room = image->sizes.fragments * (size_t)(LENGTH_BYTES + MESSAGE_CONTROL_BYTES_MAX);
    uint8_t *commits = malloc(room + 1);
    if (commits == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the commits of a checkpoint");
    size_t commit_bytes = encode_commits(image, commits), count = list_arrays(image, arrays);
    if (image->sizes.fragments > 0)
        arrays[count++] = (struct checkpoint_array){"commits", CHECKPOINT_U8, commits, commit_bytes};
    *bytes = 0;
    for (size_t i = 0; i < count; i++)
        *bytes += arrays[i].count * (arrays[i].type == CHECKPOINT_F32 ? sizeof(float) : 1);
    json_t *json = image_json(image, commit_bytes);
    enum status status = checkpoint_write(store->directory, store->kind, json, arrays, count, generation, error);
    json_decref(json);
    free(commits);
    return status;
}

static void *writer_main(void *argument) {
    struct worker_store *store = argument;
    struct error error;
    uint64_t generation = 0, bytes = 0, started_us = clock_now_us(), failures = 0;
    enum status status = write_image(store, &generation, &bytes, &error);
    uint64_t write_us = clock_now_us() - started_us;
    pthread_mutex_lock(&store->lock);
    store->failed = status != STATUS_OK;
    if (status == STATUS_OK)
        store->generation = generation;
    else
        failures = ++store->failures;
    pthread_mutex_unlock(&store->lock);
    if (status == STATUS_OK) {
        (void)failpoint_hit("worker.checkpoint.written");
        log_event(store->log, "checkpoint",
                  json_pack("{s:I, s:I, s:I, s:I, s:I}", "generation", (json_int_t)generation, "step",
                            (json_int_t)store->image.step, "stall_us", (json_int_t)store->stall_us, "write_us",
                            (json_int_t)write_us, "bytes", (json_int_t)bytes));
    } else {
        log_say(LOG_LEVEL_WARN, "no checkpoint of step %llu (%s); training goes on, the next time tries again",
                (unsigned long long)store->image.step, error.text);
        log_event(store->log, "recover",
                  json_pack("{s:s, s:I, s:I, s:s}", "what", "checkpoint failed", "step", (json_int_t)store->image.step,
                            "count", (json_int_t)failures, "reason", error.text));
    }
    pthread_mutex_lock(&store->lock);
    store->state = STORE_WRITTEN;
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

bool worker_store_wait(struct worker_store *store) {
    pthread_mutex_lock(&store->lock);
    bool has_thread = store->state != STORE_IDLE;
    pthread_mutex_unlock(&store->lock);
    if (has_thread)
        pthread_join(store->thread, NULL);
    store->state = STORE_IDLE;
    return !store->failed;
}

enum status worker_store_set_aside(struct worker_store *store, uint64_t step, char kept[WORKER_STORE_KEPT_BYTES],
                                   struct error *error) {
    char from[RUN_PATH_BYTES], to[RUN_PATH_BYTES];
    (void)worker_store_wait(store);
    files_join(from, sizeof from, store->directory, "checkpoint");
    if (!files_exists(from))
        return error_set(error, STATUS_NOT_FOUND, "%s is not there", from);
    int count = snprintf(kept, WORKER_STORE_KEPT_BYTES, "checkpoint-lost-%llu", (unsigned long long)step);
    files_join(to, sizeof to, store->directory, kept);
    for (int number = 2; files_exists(to); number++) {
        snprintf(kept + count, WORKER_STORE_KEPT_BYTES - (size_t)count, ".%d", number);
        files_join(to, sizeof to, store->directory, kept);
    }
    enum status status = files_rename(from, to, error);
    struct error unsynced; /* it is there all the same; a disk that fails so fails the next write, which says it */
    if (status == STATUS_OK)
        (void)!files_sync_directory(store->directory, &unsynced);
    return status;
}

struct worker_image *worker_store_begin(struct worker_store *store, const struct worker_image_sizes *sizes) {
    struct error error;
    pthread_mutex_lock(&store->lock);
    bool writing = store->state == STORE_WRITING;
    pthread_mutex_unlock(&store->lock);
    if (writing)
        return NULL;
    (void)worker_store_wait(store);
    if (store->image.theta == NULL && image_open(&store->image, sizes, &error) != STATUS_OK) {
        log_say(LOG_LEVEL_WARN, "no checkpoint: %s", error.text);
        return NULL;
    }
    CHECK(memcmp(&store->image.sizes, sizes, sizeof *sizes) == 0);
    return &store->image;
}

void worker_store_write(struct worker_store *store, uint64_t stall_us) {
    (void)failpoint_hit("worker.checkpoint.image");
    store->stall_us = stall_us;
    store->state = STORE_WRITING;
    int failed = pthread_create(&store->thread, NULL, writer_main, store);
    if (failed == 0)
        return;
    store->state = STORE_IDLE;
    store->failed = true;
    store->failures++;
    log_say(LOG_LEVEL_WARN, "no checkpoint: cannot start a thread: %s", strerror(failed));
}

uint64_t worker_store_failures(const struct worker_store *store) {
    return store->failures;
}

/* ---- the log's end ---- */

static uint64_t tokens_of_line(const char *line, size_t length) {
    json_t *json = json_loadb(line, length, 0, NULL);
    const char *event = json_string_value(json_object_get(json, "event"));
    const char *name = event == NULL                     ? NULL
                       : strcmp(event, "step") == 0      ? "tokens"
                       : strcmp(event, "sync_send") == 0 ? "tokens_to"
                                                         : NULL;
    json_int_t tokens = name != NULL ? json_integer_value(json_object_get(json, name)) : 0;
    json_decref(json);
    return tokens > 0 ? (uint64_t)tokens : 0;
}

uint64_t worker_store_logged_tokens(const char *log_path) {
    uint64_t most = 0;
    FILE *file = fopen(log_path, "rb");
    char *tail = malloc(LOG_TAIL_BYTES);
    if (file != NULL && tail != NULL) {
        (void)!fseek(file, 0, SEEK_END);
        long size = ftell(file);
        (void)!fseek(file, size > LOG_TAIL_BYTES ? size - LOG_TAIL_BYTES : 0, SEEK_SET);
        size_t bytes = fread(tail, 1, LOG_TAIL_BYTES, file);
        for (const char *line = tail, *end; (end = memchr(line, '\n', bytes - (size_t)(line - tail))) != NULL;
             line = end + 1) {
            uint64_t tokens = tokens_of_line(line, (size_t)(end - line));
            most = tokens > most ? tokens : most;
        }
    }
    free(tail);
    if (file != NULL)
        fclose(file);
    return most;
}
