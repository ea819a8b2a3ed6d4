/* bench_gemm: the matrix products of a training step, alone and warm. */
#include "base/check.h"
#include "experiments/bench.h"
#include "experiments/bench_products.h"

static json_t *product_json(const struct bench_product *product) {
    const struct bench_linear *linear = product->linear;
    return json_pack("{s:s, s:b, s:i, s:i, s:i, s:I, s:[]}", "product", bench_product_name(product->kind), "add",
                     product->add, "rows", linear->rows, "inputs", linear->inputs, "outputs", linear->outputs,
                     "per_step", (json_int_t)product->per_step, "gflops");
}

/* The rates of one thread count, appended to each product's "gflops" and to "total"; the first call makes the rows. */
static enum status measure(const struct bench_plan *plan, enum inner_precision precision, int threads, json_t *rows,
                           json_t *total, struct error *error) {
    static struct bench_case cases[BENCH_PRODUCTS_MAX];
    struct bench_products products;
    struct model_options options = bench_size_options(plan->size, threads);
    double rates[BENCH_REPEATS_MAX];
    options.inner.precision = precision;
    bench_say("gemm %s, %s, %d thread%s", bench_size_name(plan->size), bench_precision_name(precision), threads,
              threads == 1 ? "" : "s");
    enum status status = bench_products_open(&products, &options, error);
    if (status != STATUS_OK)
        return status;
    bench_products_cases(&products, cases);
    bench_measure(cases, products.count, &plan->effort);
    for (int i = 0; i < products.count; i++) {
        if (json_array_size(rows) == (size_t)i)
            json_array_append_new(rows, product_json(&products.list[i]));
        struct bench_summary gflops =
            bench_rate(&cases[i], plan->effort.repeats, threads * bench_product_flops(&products.list[i]) * 1e-9);
        json_array_append_new(json_object_get(json_array_get(rows, (size_t)i), "gflops"), bench_summary_json(gflops));
    }
    bench_products_rates(&products, cases, plan->effort.repeats, rates);
    for (int i = 0; i < plan->effort.repeats; i++)
        rates[i] *= 1e-9;
    json_array_append_new(total, bench_summary_json(bench_summarize(rates, plan->effort.repeats)));
    bench_products_close(&products);
    return STATUS_OK;
}

static enum status measure_precision(const struct bench_plan *plan, enum inner_precision precision, json_t *list,
                                     struct error *error) {
    int threads[BENCH_THREAD_COUNTS], thread_counts = bench_thread_counts(plan, threads);
    json_t *rows = json_array(), *total = json_array(), *used = json_array();
    enum status status = STATUS_OK;
    for (int i = 0; i < thread_counts && status == STATUS_OK; i++) {
        json_array_append_new(used, json_integer(threads[i]));
        status = measure(plan, precision, threads[i], rows, total, error);
    }
    if (status != STATUS_OK) {
        json_decref(rows);
        json_decref(total);
        json_decref(used);
        return status;
    }
    double scaling =
        bench_median(json_array_get(total, (size_t)thread_counts - 1), 1) / bench_median(json_array_get(total, 0), 1);
    json_t *json = json_pack("{s:s, s:s, s:o, s:o, s:o, s:f}", "size", bench_size_name(plan->size), "precision",
                             bench_precision_name(precision), "threads", used, "products", rows, "gflops", total,
                             "scaling", scaling);
    CHECK(json != NULL && json_array_append_new(list, json) == 0);
    return STATUS_OK;
}

enum status bench_gemm(const struct bench_plan *plan, json_t **result, struct error *error) {
    enum inner_precision precisions[BENCH_PRECISIONS];
    int count = bench_precisions(plan, precisions);
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        enum status status = measure_precision(plan, precisions[i], list, error);
        if (status != STATUS_OK) {
            json_decref(list);
            return status;
        }
    }
    *result = list;
    return STATUS_OK;
}

static void print_rates(const json_t *gflops, FILE *to) {
    size_t index;
    const json_t *summary;
    char text[BENCH_TEXT_BYTES];
    json_array_foreach(gflops, index, summary) fprintf(to, "  %24s", bench_spread_text(summary, 1, text));
    fputc('\n', to);
}

static void print_precision(const json_t *result, FILE *to) {
    size_t index;
    const json_t *row, *threads = json_object_get(result, "threads");
    fprintf(to, "\ngemm %s, %s: products of one step, alone and warm, GFLOP/s (+: added to what is there)\n",
            json_string_value(json_object_get(result, "size")),
            json_string_value(json_object_get(result, "precision")));
    fprintf(to, "  %-9s %6s %6s %7s %8s", "product", "rows", "inputs", "outputs", "per step");
    json_array_foreach(threads, index, row)
        fprintf(to, "  %15lld thread%s", (long long)json_integer_value(row), json_integer_value(row) == 1 ? " " : "s");
    fputc('\n', to);
    json_array_foreach(json_object_get(result, "products"), index, row) {
        fprintf(to, "  %-8s%c %6lld %6lld %7lld %8lld", json_string_value(json_object_get(row, "product")),
                json_is_true(json_object_get(row, "add")) ? '+' : ' ',
                (long long)json_integer_value(json_object_get(row, "rows")),
                (long long)json_integer_value(json_object_get(row, "inputs")),
                (long long)json_integer_value(json_object_get(row, "outputs")),
                (long long)json_integer_value(json_object_get(row, "per_step")));
        print_rates(json_object_get(row, "gflops"), to);
    }
    fprintf(to, "  %-40s", "all of a step: operations / time");
    print_rates(json_object_get(result, "gflops"), to);
    if (json_array_size(threads) > 1)
        fprintf(to, "  scaling %.2f\n", json_number_value(json_object_get(result, "scaling")));
}

void bench_gemm_print(const json_t *result, FILE *to) {
    size_t index;
    const json_t *precision;
    json_array_foreach(result, index, precision) print_precision(precision, to);
}
