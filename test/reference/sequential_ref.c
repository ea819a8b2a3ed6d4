/* sequential_ref: the algorithm of DESIGN section 3, plain and in sequence: all workers one after another in one process, no
 * network, no threads, no machines. It prints the final state hash, which a distributed run of the same file must equal bit for bit.
 *
 *     sequential_ref RUN.yaml [--set KEY=VALUE]... [--versions]
 *
 * Shared with atoll: model/ (one inner step, the windows of the data, the learning rate), base/, the run file's parser, and the
 * codecs' plain `_ref` functions. Its own: fragments, schedule, mean, residual, outer step, mix, state hash. Every float operation
 * below is f32 in the written order (-ffp-contract=off); read it as the definition.
 *
 * Strict schedule only (overlap_steps a number, quorum all): then what a commit holds does not depend on when it arrives, and a
 * commit may be computed the moment its last contribution exists; only the merge has to wait for its step. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "base/check.h"
#include "model/dataset.h"
#include "model/model.h"
#include "outer/run_file.h"
#include "quant/codec.h"

enum { OVERRIDES_MAX = 64, STATE_HASH_BYTES = 16, LEAF_FLOATS = 16384 };

/* A fragment and what the outer holds of it. Arrays are packed: the fragment's tensors back to back, `floats` long. */
struct reference_fragment {
    const struct tensor **tensors; /* (tensor_count,), in table order */
    int tensor_count;
    size_t floats;
    int64_t first_offset; /* t_p: due at t > t_p with (t - t_p) mod H == 0 */
    int64_t last_send;    /* step of the last counted send, 0 = none */
    int64_t merge_step;   /* step at which the record in flight merges, 0 = none in flight */
    uint64_t version;
    float *g;             /* outer copy, the newest version */
    float *u;             /* outer momentum */
    float *down_residual; /* what the way down has left out */
};

/* One island: a whole local model, and per fragment the residual and the residual that waits for its merge. */
struct island {
    struct model *model;
    struct dataset *data; /* this slot's part */
    float **residual;     /* (fragment_count,) of (floats,) */
    float **pending;
    int32_t *windows; /* (B, T+1) of a micro-batch */
};

struct reference {
    struct run_file run;
    struct reference_fragment *fragments;
    int fragment_count;
    struct island *islands; /* (workers,) by slot */
    const struct codec *up, *down;
    uint64_t tokens_per_step; /* of one worker */
    bool print_versions;
};

static void *take(size_t count, size_t bytes) {
    void *memory = calloc(count ? count : 1, bytes);
    if (!memory) {
        fprintf(stderr, "sequential_ref: no memory\n");
        exit(71);
    }
    return memory;
}

static void die(const char *what, const struct error *error) {
    fprintf(stderr, "sequential_ref: %s: %s\n", what, error->text);
    exit(status_exit_code(error->status));
}

/* ---- fragments: layers dealt out in turn (strided) or in runs (sequential); embedding, final norm and head are the last one ---- */

static int layer_fragment_count(const struct run_file *run) {
    int64_t per_fragment = run->sync.fragment_layers;
    return (int)((run->model.layers + per_fragment - 1) / per_fragment);
}

static int fragment_of(const struct run_file *run, const struct tensor *tensor) {
    if (run->sync.fragment_layers == FRAGMENT_LAYERS_ALL)
        return 0;
    int n = layer_fragment_count(run);
    if (tensor->layer == TENSOR_LAYER_NONE)
        return n;
    if (run->sync.pattern == FRAGMENT_PATTERN_STRIDED)
        return tensor->layer % n;
    return tensor->layer / (int)run->sync.fragment_layers;
}

/* parameters (block of the model's table) -> packed, and back. */
static void gather(const struct reference_fragment *fragment, const float *block, float *packed) {
    for (int i = 0; i < fragment->tensor_count; i++) {
        const struct tensor *tensor = fragment->tensors[i];
        memcpy(packed, block + tensor->offset, tensor->count * sizeof(float));
        packed += tensor->count;
    }
}

static void scatter(const struct reference_fragment *fragment, const float *packed, float *block) {
    for (int i = 0; i < fragment->tensor_count; i++) {
        const struct tensor *tensor = fragment->tensors[i];
        memcpy(block + tensor->offset, packed, tensor->count * sizeof(float));
        packed += tensor->count;
    }
}

static void make_fragments(struct reference *r) {
    const struct run_file *run = &r->run;
    const struct tensor_table *table = model_tensors(r->islands[0].model);
    int P = run->sync.fragment_layers == FRAGMENT_LAYERS_ALL ? 1 : layer_fragment_count(run) + 1;
    r->fragment_count = P;
    r->fragments = take((size_t)P, sizeof *r->fragments);
    for (int p = 0; p < P; p++) {
        struct reference_fragment *fragment = &r->fragments[p];
        fragment->tensors = take((size_t)table->count, sizeof *fragment->tensors);
        for (int i = 0; i < table->count; i++) {
            if (fragment_of(run, &table->tensors[i]) != p)
                continue;
            fragment->tensors[fragment->tensor_count++] = &table->tensors[i];
            fragment->floats += table->tensors[i].count;
        }
        fragment->first_offset = (int64_t)p * run->sync.every_steps / P;
        fragment->g = take(fragment->floats, sizeof(float));
        fragment->u = take(fragment->floats, sizeof(float));
        fragment->down_residual = take(fragment->floats, sizeof(float));
        gather(fragment, model_parameters(r->islands[0].model), fragment->g);
    }
}

/* ---- the parts of a commit ---- */

/* x -> decode(Q(x)), tensor by tensor: blocks restart at each tensor. */
static void quantize(const struct codec *codec, const struct reference_fragment *fragment, const float *x,
                     float *decoded) {
    for (int i = 0; i < fragment->tensor_count; i++) {
        size_t count = fragment->tensors[i]->count;
        uint8_t *payload = take(codec->bytes(count), 1);
        if (codec->encode_ref(x, count, payload) != STATUS_OK ||
            codec->decode_ref(payload, count, decoded) != STATUS_OK) {
            fprintf(stderr, "sequential_ref: %s: not finite\n", fragment->tensors[i]->name);
            exit(65);
        }
        free(payload);
        x += count;
        decoded += count;
    }
}

/* The send of one island: q = decode(Q(x)), x = (g - theta) + e, and e' = x - q waits for the merge. */
static void send_fragment(struct reference *r, struct island *island, int p, float *q) {
    struct reference_fragment *fragment = &r->fragments[p];
    size_t n = fragment->floats;
    float *theta = take(n, sizeof(float)), *x = take(n, sizeof(float));
    gather(fragment, model_parameters(island->model), theta);
    for (size_t i = 0; i < n; i++) {
        float d = fragment->g[i] - theta[i];
        x[i] = d + island->residual[p][i];
    }
    quantize(r->up, fragment, x, q);
    if (r->run.sync.error_feedback)
        for (size_t i = 0; i < n; i++)
            island->pending[p][i] = x[i] - q[i];
    free(theta);
    free(x);
}

/* Weighted mean of q (workers, n) in slot order. */
static void mean_of(const struct reference *r, float *const *q, float weight, double weight_sum, size_t n,
                    float *mean) {
    float inverse = (float)(1.0 / weight_sum);
    for (size_t i = 0; i < n; i++) {
        float acc = 0;
        for (int64_t slot = 0; slot < r->run.workers; slot++) {
            float product = weight * q[slot][i];
            acc = acc + product;
        }
        mean[i] = acc * inverse;
    }
}

static void outer_step(const struct outer_options *options, float *g, float *u, const float *D, size_t n) {
    float lr = (float)options->lr, mu = (float)options->momentum;
    for (size_t i = 0; i < n; i++) {
        float step = D[i];
        if (options->optimizer != OUTER_SGD) {
            float kept = mu * u[i];
            u[i] = kept + D[i];
            step = u[i];
        }
        if (options->optimizer == OUTER_NESTEROV) {
            float ahead = mu * u[i];
            step = D[i] + ahead;
        }
        float move = lr * step;
        g[i] = g[i] - move;
    }
}

/* ---- state hash, as outer/state_hash.h defines it: leaves of 16384 floats of g and u by turns under one root ---- */

static void append_hash(uint8_t *to, const void *bytes, size_t count) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, count));
    memcpy(to, canonical.digest, STATE_HASH_BYTES);
}

static void state_hash_of(const struct reference_fragment *fragment, uint8_t hash[STATE_HASH_BYTES]) {
    size_t n = fragment->floats, leaves = (n + LEAF_FLOATS - 1) / LEAF_FLOATS;
    uint8_t *root = take(8 + leaves * 2 * STATE_HASH_BYTES, 1), *to = root;
    for (int i = 0; i < 8; i++)
        *to++ = (uint8_t)((uint64_t)n >> (8 * i));
    for (size_t at = 0; at < n; at += LEAF_FLOATS) {
        size_t count = n - at < LEAF_FLOATS ? n - at : LEAF_FLOATS;
        append_hash(to, fragment->g + at, count * sizeof(float));
        append_hash(to + STATE_HASH_BYTES, fragment->u + at, count * sizeof(float));
        to += 2 * STATE_HASH_BYTES;
    }
    append_hash(hash, root, (size_t)(to - root));
    free(root);
}

/* Of the whole run: XXH3-128 over the fragments' hashes in order. */
static void final_hash_of(const struct reference *r, uint8_t hash[STATE_HASH_BYTES]) {
    uint8_t *all = take((size_t)r->fragment_count, STATE_HASH_BYTES);
    for (int p = 0; p < r->fragment_count; p++)
        state_hash_of(&r->fragments[p], all + p * STATE_HASH_BYTES);
    append_hash(hash, all, (size_t)r->fragment_count * STATE_HASH_BYTES);
    free(all);
}

static void print_hash(const char *what, const uint8_t hash[STATE_HASH_BYTES]) {
    printf("%s ", what);
    for (int i = 0; i < STATE_HASH_BYTES; i++)
        printf("%02x", hash[i]);
    printf("\n");
}

/* All islands send fragment p at step t, and the outer commits what they sent: mean, way down, outer step. */
static void send_and_commit(struct reference *r, int p, int64_t t) {
    struct reference_fragment *fragment = &r->fragments[p];
    size_t n = fragment->floats, workers = (size_t)r->run.workers;
    float **q = take(workers, sizeof *q);
    for (size_t slot = 0; slot < workers; slot++) {
        q[slot] = take(n, sizeof(float));
        send_fragment(r, &r->islands[slot], p, q[slot]);
    }

    /* w_i: tokens since the fragment's last counted send. In strict mode all islands have trained the same. */
    uint64_t tokens = (uint64_t)(t - fragment->last_send) * r->tokens_per_step;
    float *x = take(n, sizeof(float)), *D = take(n, sizeof(float));
    mean_of(r, q, (float)tokens, (double)(tokens * workers), n, x);
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] + fragment->down_residual[i];
    quantize(r->down, fragment, x, D);
    if (r->run.sync.error_feedback)
        for (size_t i = 0; i < n; i++)
            fragment->down_residual[i] = x[i] - D[i];
    outer_step(&r->run.outer, fragment->g, fragment->u, D, n);
    fragment->last_send = t;
    fragment->version++;

    if (r->print_versions) {
        uint8_t hash[STATE_HASH_BYTES];
        char what[96];
        state_hash_of(fragment, hash);
        snprintf(what, sizeof what, "version %d %llu step %lld", p, (unsigned long long)fragment->version,
                 (long long)t);
        print_hash(what, hash);
    }
    for (size_t slot = 0; slot < workers; slot++)
        free(q[slot]);
    free(q);
    free(x);
    free(D);
}

/* The counted merge: theta = alpha*theta + (1-alpha)*g_new; e = (1-alpha) * e'. */
static void merge(struct reference *r, int p) {
    struct reference_fragment *fragment = &r->fragments[p];
    float a = (float)r->run.sync.keep_local, b = 1.0f - a;
    float *theta = take(fragment->floats, sizeof(float));
    for (int64_t slot = 0; slot < r->run.workers; slot++) {
        struct island *island = &r->islands[slot];
        gather(fragment, model_parameters(island->model), theta);
        for (size_t i = 0; i < fragment->floats; i++) {
            float local = a * theta[i], outer = b * fragment->g[i];
            theta[i] = local + outer;
            island->residual[p][i] = b * island->pending[p][i];
        }
        scatter(fragment, theta, model_parameters(island->model));
    }
    free(theta);
    fragment->merge_step = 0;
}

/* ---- the inner step ---- */

static double train_step(struct reference *r, struct island *island, int64_t t) {
    const struct inner_options *inner = &r->run.inner;
    int B = (int)inner->batch_per_worker, T = (int)r->run.model.context;
    double loss = 0;
    for (int64_t micro = 0; micro < inner->accumulate; micro++) {
        struct error error;
        if (dataset_next(island->data, B, island->windows, &error) != STATUS_OK)
            die("data", &error);
        loss += model_add_gradients(island->model, island->windows, B, T, 1.0f / (float)inner->accumulate);
    }
    loss /= (double)inner->accumulate;
    float lr = (float)lr_schedule_at(inner, t);
    struct update_result result = model_apply_update(island->model, lr, isfinite(loss) != 0);
    if (!result.applied)
        fprintf(stderr, "sequential_ref: step %lld skipped, not finite\n", (long long)t);
    return loss;
}

static bool due(const struct reference *r, const struct reference_fragment *fragment, int64_t t) {
    return t > fragment->first_offset && (t - fragment->first_offset) % r->run.sync.every_steps == 0;
}

static void train(struct reference *r) {
    int64_t T = r->run.inner.steps;
    for (int64_t t = 1; t <= T; t++) {
        double loss = 0;
        for (int64_t slot = 0; slot < r->run.workers; slot++)
            loss += train_step(r, &r->islands[slot], t);
        if (r->print_versions)
            printf("step %lld loss %.9g\n", (long long)t, loss / (double)r->run.workers);
        for (int p = 0; p < r->fragment_count; p++) {
            struct reference_fragment *fragment = &r->fragments[p];
            if (!due(r, fragment, t) || fragment->merge_step != 0)
                continue;
            send_and_commit(r, p, t);
            fragment->merge_step = t + r->run.sync.overlap_steps;
        }
        for (int p = 0; p < r->fragment_count; p++)
            if (r->fragments[p].merge_step == t)
                merge(r, p);
    }

    /* The end. What is in flight is merged as ever; then each fragment with unsent steps is sent once more, without a mix. */
    for (int p = 0; p < r->fragment_count; p++)
        if (r->fragments[p].merge_step != 0)
            merge(r, p);
    for (int p = 0; p < r->fragment_count; p++)
        if (r->fragments[p].last_send < T)
            send_and_commit(r, p, T);
}

/* ---- start ---- */

static void parse(struct reference *r, int argc, char **argv) {
    const char *path = NULL, *overrides[OVERRIDES_MAX];
    int override_count = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--set") == 0 && i + 1 < argc && override_count < OVERRIDES_MAX)
            overrides[override_count++] = argv[++i];
        else if (strcmp(argv[i], "--versions") == 0)
            r->print_versions = true;
        else if (argv[i][0] != '-' && !path)
            path = argv[i];
        else
            path = "";
    }
    if (!path || !*path) {
        fprintf(stderr, "usage: sequential_ref RUN.yaml [--set KEY=VALUE]... [--versions]\n");
        exit(64);
    }
    struct error error = {0};
    if (run_file_load(path, overrides, override_count, RUN_FILE_DATA_NEEDED, &r->run, &error) != STATUS_OK)
        die(path, &error);
    const struct sync_options *sync = &r->run.sync;
    if (sync->off || sync->overlap_steps == SYNC_OVERLAP_AUTO || sync->quorum != SYNC_QUORUM_ALL) {
        fprintf(stderr, "sequential_ref: only sync with overlap_steps a number and quorum all is defined here\n");
        exit(78);
    }
}

static void open_islands(struct reference *r) {
    const struct run_file *run = &r->run;
    struct model_options options = {.shape = run->model, .inner = run->inner};
    struct error error = {0};
    r->up = codec_get((enum codec_id)run->sync.codec_up);
    r->down = codec_get((enum codec_id)run->sync.codec_down);
    r->tokens_per_step = (uint64_t)(run->inner.batch_per_worker * run->inner.accumulate * run->model.context);
    r->islands = take((size_t)run->workers, sizeof *r->islands);
    for (int64_t slot = 0; slot < run->workers; slot++) {
        struct island *island = &r->islands[slot];
        if (model_create(&options, &island->model, &error) != STATUS_OK)
            die("model", &error);
        if (dataset_open_train(&run->data, &run->model, run->base_directory, slot, run->data.parts,
                               (uint64_t)run->inner.seed, &island->data, &error) != STATUS_OK)
            die("data", &error);
        island->windows =
            take((size_t)(run->inner.batch_per_worker * (run->model.context + 1)), sizeof *island->windows);
    }
    make_fragments(r);
    for (int64_t slot = 0; slot < run->workers; slot++) {
        struct island *island = &r->islands[slot];
        island->residual = take((size_t)r->fragment_count, sizeof *island->residual);
        island->pending = take((size_t)r->fragment_count, sizeof *island->pending);
        for (int p = 0; p < r->fragment_count; p++) {
            island->residual[p] = take(r->fragments[p].floats, sizeof(float));
            island->pending[p] = take(r->fragments[p].floats, sizeof(float));
        }
    }
}

static void close_all(struct reference *r) {
    for (int64_t slot = 0; slot < r->run.workers; slot++) {
        struct island *island = &r->islands[slot];
        for (int p = 0; p < r->fragment_count; p++) {
            free(island->residual[p]);
            free(island->pending[p]);
        }
        free(island->residual);
        free(island->pending);
        free(island->windows);
        dataset_close(island->data);
        model_destroy(island->model);
    }
    for (int p = 0; p < r->fragment_count; p++) {
        struct reference_fragment *fragment = &r->fragments[p];
        free(fragment->tensors);
        free(fragment->g);
        free(fragment->u);
        free(fragment->down_residual);
    }
    free(r->fragments);
    free(r->islands);
}

int main(int argc, char **argv) {
    static struct reference r;
    uint8_t hash[STATE_HASH_BYTES];
    parse(&r, argc, argv);
    open_islands(&r);
    train(&r);
    final_hash_of(&r, hash);
    print_hash("state_hash", hash);
    close_all(&r);
    return 0;
}
