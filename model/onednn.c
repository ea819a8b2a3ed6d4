/* onednn: see onednn.h. Knows oneDNN; must not know models. */
#include "model/onednn.h"
#include <stddef.h>
#include "base/check.h"

#ifdef ATOLL_ONEDNN
#include <oneapi/dnnl/dnnl.h>
#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct shape_key {
    bool transpose_a, transpose_b, add;
    int M, N, K;
};

/* The memory objects are handles: each product points them at its operands. */
struct product {
    struct shape_key key;
    dnnl_primitive_t primitive; /* NULL: a free place */
    dnnl_memory_t a, b, c, scratch;
};

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct product products[ONEDNN_SHAPES];
    int oldest; /* the place that the next shape takes */
    void *scratch;
    size_t scratch_bytes;
};

enum { SCRATCH_ALIGNMENT = 4096 };

static bool has_isa(dnnl_cpu_isa_t isa) {
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)isa) == (unsigned)isa;
}

bool onednn_has_bf16(void) {
    return has_isa(dnnl_cpu_isa_avx512_core_bf16);
}

const char *onednn_text(void) {
    static _Thread_local char text[64];
    const dnnl_version_t *version = dnnl_version();
    if (!onednn_has_bf16())
        return "this CPU has neither AVX512-BF16 nor AMX";
    snprintf(text, sizeof text, "oneDNN %d.%d.%d, %s", version->major, version->minor, version->patch,
             has_isa(dnnl_cpu_isa_avx512_core_amx) ? "AMX" : "AVX512-BF16");
    return text;
}

/* oneDNN's threads are OpenMP's: with one, it opens no parallel region, and no pool exists that could spin. OpenMP keeps the number for each
 * calling thread; setting it costs nanoseconds. It also shapes the generated code. */
static void stay_in_this_thread(void) {
    omp_set_num_threads(1);
}

static void forget(struct product *product) {
    dnnl_memory_t memories[] = {product->a, product->b, product->c, product->scratch};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        if (memories[i] != NULL)
            CHECK(dnnl_memory_destroy(memories[i]) == dnnl_success);
    if (product->primitive != NULL)
        CHECK(dnnl_primitive_destroy(product->primitive) == dnnl_success);
    *product = (struct product){0};
}

/* Scratch memory serves all shapes of a thread, one after the other. */
static bool grow_scratch(struct onednn *onednn, size_t bytes) {
    if (bytes <= onednn->scratch_bytes)
        return true;
    bytes = (bytes + SCRATCH_ALIGNMENT - 1) / SCRATCH_ALIGNMENT * SCRATCH_ALIGNMENT;
    free(onednn->scratch);
    onednn->scratch = aligned_alloc(SCRATCH_ALIGNMENT, bytes);
    onednn->scratch_bytes = onednn->scratch != NULL ? bytes : 0;
    return onednn->scratch != NULL;
}

static bool describe_matrix(dnnl_memory_desc_t *desc, int rows, int columns, dnnl_data_type_t type, bool transposed) {
    return dnnl_memory_desc_init_by_tag(desc, 2, (dnnl_dims_t){rows, columns}, type, transposed ? dnnl_ba : dnnl_ab) ==
           dnnl_success;
}

static bool make_handles(struct onednn *onednn, const_dnnl_primitive_desc_t chosen, struct product *product) {
    const struct {
        dnnl_query_t what;
        dnnl_memory_t *memory;
    } handles[] = {{dnnl_query_src_md, &product->a},
                   {dnnl_query_weights_md, &product->b},
                   {dnnl_query_dst_md, &product->c},
                   {dnnl_query_scratchpad_md, &product->scratch}};
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++)
        if (dnnl_memory_create(handles[i].memory, dnnl_primitive_desc_query_md(chosen, handles[i].what, 0),
                               onednn->engine, DNNL_MEMORY_NONE) != dnnl_success)
            return false;
    return grow_scratch(onednn,
                        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(chosen, dnnl_query_scratchpad_md, 0)));
}

static bool make_attributes(bool add, dnnl_primitive_attr_t *attributes) {
    dnnl_post_ops_t after = NULL;
    bool made = dnnl_primitive_attr_create(attributes) == dnnl_success &&
                dnnl_primitive_attr_set_scratchpad_mode(*attributes, dnnl_scratchpad_mode_user) == dnnl_success;
    if (made && add) {
        made = dnnl_post_ops_create(&after) == dnnl_success && dnnl_post_ops_append_sum(after, 1) == dnnl_success &&
               dnnl_primitive_attr_set_post_ops(*attributes, after) == dnnl_success;
        dnnl_post_ops_destroy(after);
    }
    return made;
}

/* oneDNN keeps the code that it generates in one place for all threads: one of them at a time is in there. On false `product` is to be forgotten. */
static bool make(struct onednn *onednn, struct shape_key key, struct product *product) {
    static pthread_mutex_t generating = PTHREAD_MUTEX_INITIALIZER;
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t operation;
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t chosen = NULL;
    *product = (struct product){.key = key};
    stay_in_this_thread();
    pthread_mutex_lock(&generating);
    bool made =
        describe_matrix(&a, key.M, key.K, dnnl_bf16, key.transpose_a) &&
        describe_matrix(&b, key.K, key.N, dnnl_bf16, key.transpose_b) &&
        describe_matrix(&c, key.M, key.N, dnnl_f32, false) &&
        dnnl_matmul_desc_init(&operation, &a, &b, NULL, &c) == dnnl_success && make_attributes(key.add, &attributes) &&
        dnnl_primitive_desc_create(&chosen, &operation, attributes, onednn->engine, NULL) == dnnl_success &&
        dnnl_primitive_create(&product->primitive, chosen) == dnnl_success && make_handles(onednn, chosen, product);
    if (chosen != NULL)
        dnnl_primitive_desc_destroy(chosen);
    if (attributes != NULL)
        dnnl_primitive_attr_destroy(attributes);
    pthread_mutex_unlock(&generating);
    return made;
}

enum status onednn_open(struct onednn **opened, struct error *error) {
    CHECK(onednn_has_bf16());
    struct onednn *onednn = calloc(1, sizeof *onednn);
    struct product probe = {0};
    bool made = onednn != NULL && dnnl_engine_create(&onednn->engine, dnnl_cpu, 0) == dnnl_success &&
                dnnl_stream_create(&onednn->stream, onednn->engine, dnnl_stream_default_flags) == dnnl_success &&
                make(onednn, (struct shape_key){.M = 16, .N = 16, .K = 16}, &probe);
    forget(&probe);
    if (!made) {
        onednn_close(onednn);
        return error_set(error, STATUS_NO_MEMORY,
                         "oneDNN cannot generate its code for bf16 products: no memory, or this system allows no "
                         "memory that is written and then executed; inner.precision: f32 works without");
    }
    *opened = onednn;
    return STATUS_OK;
}

void onednn_close(struct onednn *onednn) {
    if (onednn == NULL)
        return;
    for (int i = 0; i < ONEDNN_SHAPES; i++)
        forget(&onednn->products[i]);
    if (onednn->stream != NULL)
        CHECK(dnnl_stream_destroy(onednn->stream) == dnnl_success);
    if (onednn->engine != NULL)
        CHECK(dnnl_engine_destroy(onednn->engine) == dnnl_success);
    free(onednn->scratch);
    free(onednn);
}

static bool keys_equal(const struct shape_key *a, const struct shape_key *b) {
    return a->M == b->M && a->N == b->N && a->K == b->K && a->transpose_a == b->transpose_a &&
           a->transpose_b == b->transpose_b && a->add == b->add;
}

static const struct product *find_or_make(struct onednn *onednn, struct shape_key key) {
    for (int i = 0; i < ONEDNN_SHAPES && onednn->products[i].primitive != NULL; i++)
        if (keys_equal(&onednn->products[i].key, &key))
            return &onednn->products[i];
    struct product *product = &onednn->products[onednn->oldest];
    onednn->oldest = (onednn->oldest + 1) % ONEDNN_SHAPES;
    forget(product);
    CHECK(make(onednn, key,
               product)); /* a shape's code is some 10 KB: onednn_open had memory, and the machine has none left */
    return product;
}

/* Casting const away: oneDNN's handles have no const; it reads a and b. */
static void point(dnnl_memory_t memory, const void *at) {
    CHECK(dnnl_memory_set_data_handle(memory, (void *)(uintptr_t)at) == dnnl_success);
}

void onednn_product(struct onednn *onednn, bool transpose_a, bool transpose_b, int M, int N, int K, const uint16_t *a,
                    const uint16_t *b, bool add, float *c) {
    struct shape_key key = {.transpose_a = transpose_a, .transpose_b = transpose_b, .add = add, .M = M, .N = N, .K = K};
    const struct product *product = find_or_make(onednn, key);
    point(product->a, a);
    point(product->b, b);
    point(product->c, c);
    point(product->scratch, onednn->scratch);
    dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, product->a},
                                   {DNNL_ARG_WEIGHTS, product->b},
                                   {DNNL_ARG_DST, product->c},
                                   {DNNL_ARG_SCRATCHPAD, product->scratch}};
    stay_in_this_thread();
    CHECK(dnnl_primitive_execute(product->primitive, onednn->stream, sizeof arguments / sizeof *arguments, arguments) ==
          dnnl_success);
}

#else

bool onednn_has_bf16(void) {
    return false;
}

const char *onednn_text(void) {
    return "this build found no oneDNN (libdnnl-dev)";
}

enum status onednn_open(struct onednn **onednn, struct error *error) {
    CHECK(onednn_has_bf16());
    *onednn = NULL;
    return error_set(error, STATUS_CONFIG, "%s", onednn_text());
}

void onednn_close(struct onednn *onednn) {
    CHECK(onednn == NULL);
}

void onednn_product(struct onednn *onednn, bool transpose_a, bool transpose_b, int M, int N, int K, const uint16_t *a,
                    const uint16_t *b, bool add, float *c) {
    (void)onednn, (void)transpose_a, (void)transpose_b, (void)M, (void)N, (void)K, (void)a, (void)b, (void)add, (void)c;
    CHECK(onednn_has_bf16());
}

#endif
