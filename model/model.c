/* The implementation of model.h for one CPU: parameters, their update, and the passes of a micro-batch on several threads.
 *
 * A micro-batch goes through in passes of one or two units, groups of windows (model/transformer). The cut into units, and into the blocks of an update,
 * follows from the options without the threads; each thread takes the next pass or block that nobody has. Sums over units or blocks are added in their
 * order. So the threads change no bit. BLAS itself has one thread: its own would collide with these, and wait by spinning. */
#include "model/model.h"
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "base/arena.h"
#include "base/check.h"
#include "base/crew.h"
#include "base/ints.h"
#include "model/adamw.h"
#include "model/gemm.h"
#include "model/gemm_avx512.h"
#include "model/rope.h"
#include "model/transformer.h"
#include "model/turns.h"

/* A range within one tensor: what a thread takes at a time. */
struct block {
    size_t offset, count;
    bool decays;
};

struct model {
    struct model_options options;
    struct transformer transformer;
    struct arena arena;
    struct crew *crew;
    struct turns turns;
    uint64_t update_count;
    enum linear_kind products;
    uint16_t *rounded; /* bf16: (block_floats,) the factors of the passes at hand; else NULL */
    bool rounded_live; /* those of the live parameters, which have not changed since: `live` */
    struct parameters live;
    float *parameters, *gradients, *moment1, *moment2; /* (block_floats,) each */
    struct pass *passes;                               /* (pass_threads,) */
    float *dx;                                         /* (rows of a wave, C) */
    struct block *blocks;                              /* (block_count,) all tensors, in order */
    double *squares;                                   /* (block_count,) of the gradients */
    bool gradients_spent;          /* by an update: they are as good as zero, and the next pass sets them */
    struct step_profile *profiles; /* (threads,) */
    int pass_threads;              /* threads that have passes: no more than a wave's */
    int block_count;
};

/* Rows of a unit, the least that a pass does: one kernel's operands stay in the L2 cache, the memory of activations does not grow with the batch, and many
 * threads find work. */
enum { UNIT_ROWS = 256 };

/* Weights of the layers that no L2 cache holds: 41 MiB of size small, and not 3 MiB of tiny. */
enum { FAR_WEIGHTS_BYTES = 8 << 20 };

/* Units whose gradients of embedded tokens are kept until the look-up's are added: more than threads that run passes. */
enum { WAVE_UNITS = 32 };

/* Logits exist for a chunk of rows: about 1 MiB, which stays in cache, but enough rows for a good matrix product. */
enum { LOGIT_CHUNK_FLOATS = 1 << 18, LOGIT_ROWS_MIN = 512 };

/* Tokens of a micro-batch: rows times heads must stay an int. */
enum { MODEL_ROWS_MAX = 1 << 21 };

enum { UPDATE_BLOCK_FLOATS = 1 << 16 };

enum { STATE_BLOCKS = 4 }; /* parameters, gradients, two moments */

/* ---- the cut ---- */

static enum status resolve_products(const struct model_options *options, enum linear_kind *kind, struct error *error) {
    enum status status = linear_resolve((enum inner_precision)options->inner.precision, kind, error);
    if (status == STATUS_OK && options->blas && *kind == LINEAR_AVX512)
        *kind = LINEAR_BLAS;
    return status;
}

/* Not of this machine: what one takes that can. */
static enum linear_kind products_of(const struct model_options *options) {
    enum linear_kind kind;
    struct error error;
    return resolve_products(options, &kind, &error) == STATUS_OK ? kind : LINEAR_BF16;
}

static int threads_of(const struct model_options *options) {
    return max_int((int)options->inner.threads, 1);
}

/* At least two units where there are two windows. */
static int windows_of_unit(const struct model_options *options) {
    int windows = (int)options->inner.batch_per_worker;
    return min_int((windows + 1) / 2, max_int(UNIT_ROWS / (int)options->shape.context, 1));
}

int model_unit_count(const struct model_options *options) {
    int windows = (int)options->inner.batch_per_worker, of_unit = windows_of_unit(options);
    return (windows + of_unit - 1) / of_unit;
}

static bool weights_are_far(const struct shape *s) {
    int64_t attention = 2 * s->width * (s->heads + s->kv_heads) * s->head_dim, mlp = 3 * s->width * s->ffn;
    return s->layers * (attention + mlp) * (int64_t)sizeof(float) >= FAR_WEIGHTS_BYTES;
}

/* Whether passes of two units leave no thread without work. */
static bool pairs_are_shared(int units, int threads) {
    return threads == 1 ? units > 1 : units % (2 * threads) == 0;
}

/* A pass of two units reads each weight and adds to each gradient half as often: 1 to 2 % of a step where both are far; where they are not, it loses as
 * much to larger activations. It must give the bits of two passes, as these products do with so many rows. */
static int units_of_pass(const struct model_options *options) {
    int units = min_int(model_unit_count(options), WAVE_UNITS);
    bool whole = windows_of_unit(options) * (int)options->shape.context == GEMM_AVX512_TERMS;
    bool pays = whole && pairs_are_shared(units, threads_of(options)) && weights_are_far(&options->shape);
    return pays && products_of(options) == LINEAR_AVX512 ? 2 : 1;
}

/* Of windows of T tokens, `count` of them in a wave. */
static int windows_of_pass(const struct model *m, int count, int T) {
    const struct transformer *t = &m->transformer;
    const int units = (count + t->unit_windows - 1) / t->unit_windows;
    bool pairs = T == t->shape.context && pairs_are_shared(units, threads_of(&m->options));
    return pairs ? t->pass_windows : t->unit_windows;
}

struct model_product_rows model_product_rows(const struct model_options *options) {
    int unit = windows_of_unit(options) * (int)options->shape.context;
    int chunk = max_int(LOGIT_CHUNK_FLOATS / (int)options->shape.vocab, LOGIT_ROWS_MIN);
    int pass = units_of_pass(options) * unit;
    return (struct model_product_rows){.pass = pass, .head = min_int(pass, chunk)};
}

static int wave_windows(const struct model *m) {
    return min_int((int)m->options.inner.batch_per_worker, WAVE_UNITS * m->transformer.unit_windows);
}

/* ---- memory ---- */

static int count_blocks(const struct tensor_table *table) {
    size_t count = 0;
    for (int i = 0; i < table->count; i++)
        count += (table->tensors[i].count + UPDATE_BLOCK_FLOATS - 1) / UPDATE_BLOCK_FLOATS;
    return (int)count;
}

static size_t rounded_bytes(const struct model *m) {
    return m->products == LINEAR_BF16 ? arena_round(m->transformer.table.block_floats * sizeof *m->rounded) : 0;
}

/* Takes everything from `arena`, which may be counting. */
static void lay_out(struct model *m, struct arena *arena) {
    const struct shape *s = &m->options.shape;
    struct transformer *t = &m->transformer;
    struct model_product_rows rows = model_product_rows(&m->options);
    t->shape = *s;
    t->unit_windows = windows_of_unit(&m->options);
    t->pass_windows = t->unit_windows * units_of_pass(&m->options);
    t->logit_rows = rows.head;
    t->products = m->products;
    float **blocks[STATE_BLOCKS] = {&m->parameters, &m->gradients, &m->moment1, &m->moment2};
    for (size_t i = 0; i < STATE_BLOCKS; i++)
        *blocks[i] = arena_take(arena, t->table.block_floats * sizeof(float));
    if (m->products == LINEAR_BF16)
        m->rounded = arena_take(arena, rounded_bytes(m));
    size_t angles = (size_t)(s->context * (s->head_dim / 2)) * sizeof(float);
    t->cosine = arena_take(arena, angles);
    t->sine = arena_take(arena, angles);
    m->dx = arena_take(arena, (size_t)wave_windows(m) * (size_t)(s->context * s->width) * sizeof(float));
    m->block_count = count_blocks(&t->table);
    m->blocks = arena_take(arena, (size_t)m->block_count * sizeof *m->blocks);
    m->squares = arena_take(arena, (size_t)m->block_count * sizeof *m->squares);
    int threads = threads_of(&m->options);
    m->profiles = arena_take(arena, (size_t)threads * sizeof *m->profiles);
    m->pass_threads = min_int(min_int(threads, WAVE_UNITS), model_unit_count(&m->options));
    m->passes = arena_take(arena, (size_t)m->pass_threads * sizeof *m->passes);
    for (int i = 0; i < m->pass_threads; i++) {
        struct pass counted;
        pass_lay_out(m->passes != NULL ? &m->passes[i] : &counted, t, arena);
    }
    int turns = transformer_turns(t);
    int *added = arena_take(arena, (size_t)turns * sizeof *added);
    if (added != NULL)
        turns_open(&m->turns, added, turns);
}

static size_t bytes_needed(struct model *counted) {
    struct arena counting = arena_counting();
    lay_out(counted, &counting);
    return counting.used_bytes;
}

struct model_memory model_memory_plan(const struct model_options *options, const struct tensor_table *table) {
    struct model counted = {.options = *options, .products = products_of(options), .transformer = {.table = *table}};
    size_t bytes = bytes_needed(&counted), factors = rounded_bytes(&counted);
    size_t scratch = linear_scratch_bytes(counted.products, transformer_panels(&counted.transformer));
    struct model_memory memory = {.state_bytes = STATE_BLOCKS * table->block_floats * sizeof(float),
                                  .product_bytes = factors + scratch * (size_t)counted.pass_threads};
    memory.activation_bytes = bytes - memory.state_bytes - factors;
    memory.peak_bytes = memory.state_bytes + memory.activation_bytes + memory.product_bytes;
    return memory;
}

static void fill_blocks(struct model *m) {
    const struct tensor_table *table = &m->transformer.table;
    int n = 0;
    for (int i = 0; i < table->count; i++)
        for (size_t first = 0; first < table->tensors[i].count; first += UPDATE_BLOCK_FLOATS) {
            size_t left = table->tensors[i].count - first;
            m->blocks[n++] = (struct block){.offset = table->tensors[i].offset + first,
                                            .count = left < UPDATE_BLOCK_FLOATS ? left : UPDATE_BLOCK_FLOATS,
                                            .decays = table->tensors[i].dimensions == 2};
        }
    CHECK(n == m->block_count);
}

static void close_linears(struct model *m) {
    for (int i = 0; i < m->pass_threads; i++)
        linear_close(m->passes[i].linear);
}

static enum status open_linears(struct model *m, struct error *error) {
    for (int i = 0; i < m->pass_threads; i++) {
        enum status status = linear_open(m->products, &m->passes[i].linear, error);
        if (status != STATUS_OK) {
            close_linears(m);
            return status;
        }
    }
    return STATUS_OK;
}

/* Everything of a model whose table exists. */
static enum status fill(struct model *m, struct error *error) {
    const struct shape *s = &m->options.shape;
    struct model counted = *m;
    enum status status = arena_open(&m->arena, bytes_needed(&counted), error);
    if (status != STATUS_OK)
        return error_prefix(error, "the model and the activations of %d windows",
                            (int)m->options.inner.batch_per_worker);
    status = crew_create(threads_of(&m->options), &m->crew, error);
    if (status != STATUS_OK) {
        arena_close(&m->arena);
        return error_prefix(error, "inner.threads");
    }
    lay_out(m, &m->arena);
    status = open_linears(m, error);
    if (status != STATUS_OK) {
        crew_destroy(m->crew);
        turns_close(&m->turns);
        arena_close(&m->arena);
        return status;
    }
    fill_blocks(m);
    if (m->options.profile != NULL)
        for (int i = 0; i < m->pass_threads; i++)
            m->passes[i].profile = &m->profiles[i];
    rope_fill_table((int)s->context, (int)s->head_dim, s->rope_theta, m->transformer.cosine, m->transformer.sine);
    tensors_initialize(&m->transformer.table, s, (uint64_t)m->options.inner.seed, m->parameters);
    gemm_use_one_thread();
    return STATUS_OK;
}

enum status model_create(const struct model_options *options, struct model **model, struct error *error) {
    const struct inner_options *inner = &options->inner;
    if (inner->batch_per_worker < 1 || inner->batch_per_worker * options->shape.context > MODEL_ROWS_MAX)
        return error_set(error, STATUS_CONFIG,
                         "inner.batch_per_worker: %" PRId64 " windows of %" PRId64
                         " tokens are not between 1 and %d tokens; use accumulate for a larger batch",
                         inner->batch_per_worker, options->shape.context, MODEL_ROWS_MAX);
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a model");
    m->options = *options;
    enum status status = resolve_products(options, &m->products, error);
    if (status == STATUS_OK)
        status = tensors_table_create(&options->shape, &m->transformer.table, error);
    if (status == STATUS_OK) {
        status = fill(m, error);
        if (status != STATUS_OK)
            tensors_table_destroy(&m->transformer.table);
    }
    if (status != STATUS_OK) {
        free(m);
        return status;
    }
    *model = m;
    return STATUS_OK;
}

void model_destroy(struct model *model) {
    if (!model)
        return;
    crew_destroy(model->crew);
    close_linears(model);
    turns_close(&model->turns);
    arena_close(&model->arena);
    tensors_table_destroy(&model->transformer.table);
    free(model);
}

/* ---- threads ---- */

/* What all threads do together. Its time belongs to the profile: of each thread, what it does and what it waits. */
struct task {
    struct model *model;
    void (*run)(struct task *task, int thread);
    int count; /* of passes or blocks */
    atomic_int next;
    /* passes, rounding */
    struct parameters parameters;
    const int32_t *windows;
    int B, T;
    int windows_each; /* of a pass, but for the last */
    bool sets;        /* gradients: the first pass does, instead of adding */
    float scale;
    double sums[WAVE_UNITS];
    /* update */
    struct adamw_step step;
    double weight_decay;
};

static void run_task(void *context, int thread) {
    struct task *task = context;
    if (task->model->options.profile != NULL)
        step_profile_mark(&task->model->profiles[thread], STEP_PART_WAIT);
    task->run(task, thread);
}

static void run_together(struct task *task) {
    struct model *m = task->model;
    int threads = crew_threads(m->crew);
    atomic_init(&task->next, 0);
    if (m->options.profile == NULL) {
        crew_run(m->crew, run_task, task);
        return;
    }
    uint64_t begun_ns = clock_now_ns();
    for (int i = 0; i < threads; i++)
        m->profiles[i] = (struct step_profile){.last_ns = begun_ns};
    crew_run(m->crew, run_task, task);
    uint64_t ended_ns = clock_now_ns();
    for (int i = 0; i < threads; i++) {
        m->profiles[i].part_ns[STEP_PART_WAIT] += ended_ns - m->profiles[i].last_ns;
        step_profile_add(m->options.profile, &m->profiles[i]);
    }
}

static void mark(struct model *m, int thread, enum step_part part) {
    if (m->options.profile != NULL)
        step_profile_mark(&m->profiles[thread], part);
}

/* ---- passes ---- */

/* The next pass that no thread has. False: there is none for this one. */
static bool take_pass(struct task *task, int thread, struct pass_work *work) {
    struct model *m = task->model;
    const int index = thread < m->pass_threads ? atomic_fetch_add(&task->next, 1) : task->count;
    if (index >= task->count)
        return false;
    size_t first = (size_t)index * (size_t)task->windows_each;
    *work = (struct pass_work){.parameters = task->parameters,
                               .gradients = m->gradients,
                               .sets = task->sets && index == 0,
                               .windows = task->windows + first * (size_t)(task->T + 1),
                               .B = min_int(task->B - (int)first, task->windows_each),
                               .T = task->T,
                               .scale = task->scale,
                               .dx = m->dx + first * (size_t)task->T * (size_t)m->options.shape.width,
                               .sums = task->sums + first / (size_t)m->transformer.unit_windows,
                               .turns = &m->turns,
                               .index = index};
    return true;
}

static void run_passes(struct task *task, int thread) {
    for (struct pass_work work; take_pass(task, thread, &work);)
        pass_add_gradients(&task->model->passes[thread], &work);
}

static void run_evaluation(struct task *task, int thread) {
    for (struct pass_work work; take_pass(task, thread, &work);)
        pass_evaluate(&task->model->passes[thread], &work);
}

/* Each thread has its own columns of the embedding. */
static void run_look_up(struct task *task, int thread) {
    struct model *m = task->model;
    const int columns = (int)m->options.shape.width, threads = crew_threads(m->crew);
    const int each = ((columns + threads - 1) / threads + TENSOR_ALIGNMENT_FLOATS - 1) / TENSOR_ALIGNMENT_FLOATS *
                     TENSOR_ALIGNMENT_FLOATS;
    const int first = thread * each;
    if (first < columns)
        transformer_add_embedding(&m->transformer, task->windows, task->B, task->T, m->dx, m->gradients, first,
                                  min_int(columns - first, each), task->sets);
    mark(m, thread, STEP_PART_EMBEDDING);
}

/* B windows of `windows`, in waves; returns the sum of cross-entropy. */
static double run_waves(struct model *m, struct parameters parameters, const int32_t *windows, int B, int T,
                        float scale, bool gradients) {
    double total = 0;
    CHECK(B >= 1 && B <= m->options.inner.batch_per_worker && T >= 1 && T <= m->options.shape.context);
    for (int first = 0; first < B; first += wave_windows(m)) {
        int wave = min_int(B - first, wave_windows(m)), each = windows_of_pass(m, wave, T);
        struct task task = {.model = m,
                            .run = gradients ? run_passes : run_evaluation,
                            .count = (wave + each - 1) / each,
                            .parameters = parameters,
                            .windows = windows + (size_t)first * (size_t)(T + 1),
                            .B = wave,
                            .T = T,
                            .windows_each = each,
                            .scale = scale,
                            .sets = gradients && m->gradients_spent};
        turns_reset(&m->turns);
        run_together(&task);
        for (int i = 0; i < WAVE_UNITS; i++)
            total += task.sums[i];
        task.run = run_look_up;
        if (!gradients)
            continue;
        run_together(&task);
        m->gradients_spent = false;
    }
    return total;
}

/* Each thread rounds blocks; what lies between tensors stays zero. */
static void run_rounding(struct task *task, int thread) {
    struct model *m = task->model;
    for (int i; (i = atomic_fetch_add(&task->next, 1)) < task->count;) {
        const struct block *block = &m->blocks[i];
        (void)linear_factor(m->passes[0].linear, block->count, task->parameters.values + block->offset,
                            m->rounded + block->offset);
    }
    mark(m, thread, STEP_PART_ROUNDING);
}

/* A block of parameters for passes. In bf16 there is room for one block's factors at a time. */
static struct parameters round_for_passes(struct model *m, const float *values) {
    struct parameters parameters = {.values = values, .factors = {.f32 = values}};
    if (m->products == LINEAR_BF16) {
        struct task task = {.model = m, .run = run_rounding, .count = m->block_count, .parameters = parameters};
        run_together(&task);
        parameters.factors = (struct factor){.bf16 = m->rounded};
    }
    m->rounded_live = false;
    return parameters;
}

/* The live parameters': rounded by the first micro-batch of an update, which comes after the merges, for all of them. */
static struct parameters live_parameters(struct model *m) {
    if (!m->rounded_live)
        m->live = round_for_passes(m, m->parameters);
    m->rounded_live = true;
    return m->live;
}

double model_add_gradients(struct model *m, const int32_t *windows, int B, int T, float scale) {
    double tokens = (double)B * (double)T;
    return run_waves(m, live_parameters(m), windows, B, T, (float)((double)scale / tokens), true) / tokens;
}

double model_evaluate(struct model *m, const float *parameters, const int32_t *windows, int B, int T) {
    return run_waves(m, round_for_passes(m, parameters), windows, B, T, 0, false);
}

void model_logits(struct model *m, const float *parameters, const int32_t *tokens, int T, float *logits) {
    struct parameters rounded = round_for_passes(m, parameters);
    step_profile_begin(m->passes[0].profile);
    pass_logits(&m->passes[0], rounded, tokens, T, logits);
}

/* ---- update ---- */

static void run_squares(struct task *task, int thread) {
    struct model *m = task->model;
    for (int i; (i = atomic_fetch_add(&task->next, 1)) < task->count;)
        m->squares[i] = adamw_squared_norm(m->blocks[i].count, m->gradients + m->blocks[i].offset);
    mark(m, thread, STEP_PART_GRADIENT_NORM);
}

/* What no pass has set is zero. */
static void zero_spent_gradients(struct model *m) {
    if (m->gradients_spent)
        memset(m->gradients, 0, m->transformer.table.block_floats * sizeof *m->gradients);
    m->gradients_spent = false;
}

static void run_update(struct task *task, int thread) {
    struct model *m = task->model;
    for (int i; (i = atomic_fetch_add(&task->next, 1)) < task->count;) {
        const struct block *block = &m->blocks[i];
        struct adamw_step step = task->step;
        step.weight_decay = block->decays ? task->weight_decay : 0;
        size_t at = block->offset;
        adamw_update(&step, block->count, m->parameters + at, m->gradients + at, m->moment1 + at, m->moment2 + at);
    }
    mark(m, thread, STEP_PART_ADAMW);
}

struct update_result model_apply_update(struct model *m, float lr, bool loss_finite) {
    const struct inner_options *inner = &m->options.inner;
    struct task task = {.model = m, .run = run_squares, .count = m->block_count};
    double square = 0;
    m->rounded_live = false; /* the update changes them, and a merge may follow in any case */
    zero_spent_gradients(m);
    run_together(&task);
    for (int i = 0; i < m->block_count; i++)
        square += m->squares[i];
    double norm = sqrt(square);
    m->gradients_spent = true;
    if (!loss_finite || !isfinite(norm))
        return (struct update_result){.gradient_norm = norm, .applied = false};
    m->update_count++;
    task.run = run_update;
    task.weight_decay = inner->weight_decay;
    task.step = (struct adamw_step){.lr = (double)lr,
                                    .beta1 = inner->beta1,
                                    .beta2 = inner->beta2,
                                    .eps = inner->eps,
                                    .gradient_scale = adamw_clip_scale(norm, inner->clip),
                                    .step = m->update_count};
    run_together(&task);
    return (struct update_result){.gradient_norm = norm, .applied = true};
}

/* ---- what it holds ---- */

const struct tensor_table *model_tensors(const struct model *model) {
    return &model->transformer.table;
}

const struct shape *model_shape(const struct model *model) {
    return &model->options.shape;
}

const struct inner_options *model_inner(const struct model *model) {
    return &model->options.inner;
}

float *model_parameters(struct model *model) {
    return model->parameters;
}

float *model_gradients(struct model *model) {
    zero_spent_gradients(model);
    return model->gradients;
}

float *model_moment1(struct model *model) {
    return model->moment1;
}

float *model_moment2(struct model *model) {
    return model->moment2;
}

uint64_t model_update_count(const struct model *model) {
    return model->update_count;
}

void model_set_update_count(struct model *model, uint64_t count) {
    model->update_count = count;
}
