#include "experiments/bench_machine.h"
#include <math.h>
#include <stdlib.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/vector.h"
#include "model/gemm.h"
#include "model/linear.h"
#include "model/onednn.h"

enum { REPEATS_SOUND = 7 };
static const double LOAD_HIGH = 0.5; /* a machine at rest is below; half a process beside us already shows */

json_t *bench_machine_json(void) {
    double load = NAN;
    char wall[CLOCK_WALL_TEXT_BYTES];
    json_t *machine = log_build_json();
    if (getloadavg(&load, 1) != 1)
        load = NAN;
    clock_wall_text(wall);
    json_t *more = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "vector_level", vector_level(), "products",
                             linear_f32_text(), "blas_core", gemm_core_name(), "blas_config", gemm_config(), "bf16",
                             onednn_text(), "t_wall", wall, "load", log_real(load));
    CHECK(more != NULL && json_object_update(machine, more) == 0);
    json_decref(more);
    return machine;
}

static void warn(json_t *warnings, json_t *text) {
    CHECK(text != NULL && json_array_append_new(warnings, text) == 0);
}

json_t *bench_machine_warnings(double load, int threads, int cores, int repeats) {
    static const char *const variables[] = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"};
    json_t *warnings = json_array();
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        if (getenv(variables[i]) != NULL)
            warn(warnings, json_sprintf("%s=%s is set: OpenBLAS does not choose for itself; unset it", variables[i],
                                        getenv(variables[i])));
    if (load > LOAD_HIGH)
        warn(warnings,
             json_sprintf("load average %.2f: other processes run; the figures are those of a shared machine", load));
    if (threads > cores)
        warn(warnings,
             json_sprintf("%d threads on %d core%s wait for each other", threads, cores, cores == 1 ? "" : "s"));
    if (repeats < REPEATS_SOUND)
        warn(warnings, json_sprintf("medians of %d round%s: at least %d are needed for figures to be quoted", repeats,
                                    repeats == 1 ? "" : "s", REPEATS_SOUND));
#ifdef ATOLL_SANITIZED
    warn(warnings, json_string("built with sanitizers: several times slower than a release"));
#endif
    return warnings;
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "?";
}

void bench_machine_print(const json_t *machine, const json_t *warnings, FILE *to) {
    size_t index;
    const json_t *warning;
    fprintf(to, "machine    %s, %lld cores, load %.2f\n", text_of(machine, "cpu"),
            (long long)json_integer_value(json_object_get(machine, "cores")),
            json_number_value(json_object_get(machine, "load")));
    fprintf(to, "program    atoll %s, %s, loops for %s\n", text_of(machine, "version"), text_of(machine, "compiler"),
            text_of(machine, "vector_level"));
    fprintf(to, "products   %s\n", text_of(machine, "products"));
    fprintf(to, "BLAS       core %s, %s\n", text_of(machine, "blas_core"), text_of(machine, "blas_config"));
    fprintf(to, "bf16       %s\n", text_of(machine, "bf16"));
    json_array_foreach(warnings, index, warning) fprintf(to, "warning    %s\n", json_string_value(warning));
}
