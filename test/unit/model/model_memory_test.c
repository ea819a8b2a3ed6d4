/* The memory that is predicted is what a process takes: VmHWM after some steps, less VmHWM before the model exists. Each measurement is a process of its
 * own, begun by exec: nothing of an earlier one is resident in it. */
#include <fcntl.h>
#include <math.h>
#include <sys/wait.h>
#include "base/rng.h"
#include "support.h"

static struct model_options options_of(int size, int recompute, int threads, bool blas) {
    static const struct {
        int64_t layers, width, heads, ffn, context, batch, vocab;
    } sizes[] = {
        {4, 128, 4, 320, 128, 16, 256},   /* 21 MB, of which 8 are activations */
        {3, 256, 4, 1024, 512, 2, 12000}, /* a large head, two passes */
        {6, 384, 6, 1024, 256, 8, 256},   /* 200 MB */
    };
    struct model_options options = support_options(true);
    options.shape.layers = sizes[size].layers;
    options.shape.width = sizes[size].width;
    options.shape.heads = options.shape.kv_heads = sizes[size].heads;
    options.shape.head_dim = sizes[size].width / sizes[size].heads;
    options.shape.ffn = sizes[size].ffn;
    options.shape.context = sizes[size].context;
    options.shape.vocab = sizes[size].vocab;
    options.shape.recompute = recompute;
    options.inner.batch_per_worker = sizes[size].batch;
    options.inner.threads = threads;
    options.blas = blas;
    return options;
}

static long peak_kib(void) {
    char line[256];
    long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && kib == 0 && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %ld kB", &kib) != 1)
            kib = 0;
    if (file != NULL)
        fclose(file);
    return kib;
}

/* In the process that is measured: prints KiB. */
static int grow(int size, int recompute, int threads, bool blas) {
    struct model_options options = options_of(size, recompute, threads, blas);
    size_t count = (size_t)(options.inner.batch_per_worker * (options.shape.context + 1));
    int32_t *windows = malloc(count * sizeof *windows);
    struct model *model = NULL;
    struct error error;
    if (windows == NULL)
        return 1;
    for (size_t i = 0; i < count; i++)
        windows[i] = (int32_t)(rng_u64(1, 0, i) % (uint64_t)options.shape.vocab);
    long before = peak_kib();
    if (model_create(&options, &model, &error) != STATUS_OK)
        return 1;
    for (int step = 0; step < 2; step++) {
        double loss =
            model_add_gradients(model, windows, (int)options.inner.batch_per_worker, (int)options.shape.context, 1);
        if (!model_apply_update(model, 1e-3F, isfinite(loss)).applied)
            return 1;
    }
    printf("%ld\n", peak_kib() - before);
    return 0;
}

static double measure(int size, int recompute, int threads, bool blas) {
    char command[128];
    long kib = 0;
    snprintf(command, sizeof command, "exec /proc/%ld/exe grow %d %d %d %d", (long)getpid(), size, recompute, threads,
             blas);
    FILE *said = popen(command, "re");
    assert_non_null(said);
    assert_int_equal(fscanf(said, "%ld", &kib), 1);
    assert_int_equal(pclose(said), 0);
    return (double)kib * 1024;
}

/* Pages of the libraries' code that the steps touch, by as many as the kernel maps around each: no part of the prediction, and no part that matters of
 * a model that is larger than these. */
static const double CODE_BYTES = 1.5e6;

static void check(int size, int recompute, int threads, bool blas) {
    struct model_options options = options_of(size, recompute, threads, blas);
    struct tensor_table table;
    struct error error;
    assert_int_equal(tensors_table_create(&options.shape, &table, &error), STATUS_OK);
    double predicted = (double)model_memory_plan(&options, &table).peak_bytes;
    tensors_table_destroy(&table);
    double peak = measure(size, recompute, threads, blas);
    print_message("size %d, recompute %d, %d threads%s: predicted %.1f MB, %.1f %% of that\n", size, recompute, threads,
                  blas ? ", BLAS" : "", predicted * 1e-6, 100 * peak / predicted);
    assert_true(fabs(peak - predicted) <= fmax(0.05 * predicted, CODE_BYTES));
}

static void peak_is_as_predicted(void **state) {
    (void)state;
#ifdef ATOLL_SANITIZED
    print_message("a sanitizer's own memory would be measured\n");
    skip();
#endif
    for (int size = 0; size < 3; size++)
        for (int threads = 1; threads <= 2; threads++) {
            for (int recompute = RECOMPUTE_NONE; recompute <= RECOMPUTE_BLOCK; recompute++)
                check(size, recompute, threads, false);
            check(size, RECOMPUTE_NONE, threads, true);
        }
}

int main(int argc, char **argv) {
    if (argc == 6)
        return grow(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]) != 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(peak_is_as_predicted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
