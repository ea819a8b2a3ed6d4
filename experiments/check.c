#include "experiments/check.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/options.h"
#include "base/units.h"
#include "model/model.h"
#include "outer/fragments.h"
#include "outer/outer_memory.h"
#include "outer/run_file.h"
#include "quant/codec.h"

struct check_values {
    const char *run_file;
    struct option_list set;
    bool print_defaults, print_effective, json;
};

static const struct option_row check_rows[] = {
    OPTION_POSITIONAL_OPTIONAL(struct check_values, run_file, "RUN.yaml", "the run file"),
    OPTION_LIST(struct check_values, set, "set", 0, "KEY=VALUE", "change one key, as in --set sync.every_steps=50"),
    OPTION_FLAG(struct check_values, print_defaults, "print-defaults", 0,
                "print all keys with their defaults, and stop"),
    OPTION_FLAG(struct check_values, print_effective, "print-effective", 0, "print the file with every key filled in"),
    OPTION_FLAG(struct check_values, json, "json", 0, "print the summary as JSON"),
    OPTION_END,
};

static const struct option_command check_options = {"check", "check a run file and say what it comes to", check_rows,
                                                    "To begin a run file:  atoll check --print-defaults > run.yaml"};

/* What the summary tells: the same numbers for people and as JSON. */
struct plan {
    struct tensor_table table;
    struct fragments fragments; /* count 0 with sync off */
};

static enum status plan_create(const struct run_file *run, struct plan *plan, struct error *error) {
    *plan = (struct plan){0};
    enum status status = tensors_table_create(&run->model, &plan->table, error);
    if (status != STATUS_OK || run->sync.off)
        return status;
    status = run_sync_fragments(run, &plan->table, &plan->fragments, error);
    if (status != STATUS_OK)
        tensors_table_destroy(&plan->table);
    return status;
}

static void plan_destroy(struct plan *plan) {
    if (plan->fragments.count)
        fragments_destroy(&plan->fragments);
    tensors_table_destroy(&plan->table);
}

static size_t payload_bytes(const struct fragment *fragment, int64_t codec) {
    return codec_payload_bytes(codec_get((enum codec_id)codec), fragment->spans, fragment->span_count);
}

/* The schedule's words in numbers. */
static void print_rounds(const struct run_file *run) {
    const struct sync_options *sync = &run->sync;
    char text[UNITS_TEXT_BYTES];
    uint32_t quorum = run_sync_quorum(run, (uint32_t)run->workers);
    if (quorum == 0) {
        printf("rounds     close with all live workers");
    } else {
        printf("rounds     close with %" PRIu32 " of %" PRId64 " workers", quorum, run->workers);
        if (sync->quorum < 0)
            printf(" (%" PRId64 "%% of the live ones)", -sync->quorum);
        if (sync->grace_us == SYNC_GRACE_AUTO)
            printf(", after a grace as long as others were late");
        else
            printf(", after a grace of %s", units_format_duration((uint64_t)sync->grace_us, text));
    }
    if (sync->min_workers > 1)
        printf("; with fewer than %" PRId64 " connected they stop", sync->min_workers);
    if (sync->overlap_steps != SYNC_OVERLAP_AUTO) {
        printf("\nmerges     %" PRId64 " step%s after each send, exactly\n", sync->overlap_steps,
               sync->overlap_steps == 1 ? "" : "s");
        return;
    }
    printf("\nmerges     when the round has closed; training waits for it %" PRIu64 " step%s after the send\n",
           run_sync_drift(run), run_sync_drift(run) == 1 ? "" : "s");
    printf("late ones  count up to %" PRIu64 " version%s behind\n", run_sync_stale(run),
           run_sync_stale(run) == 1 ? "" : "s");
}

static void print_memory(const struct run_file *run, const struct plan *plan) {
    char peak[UNITS_TEXT_BYTES], state[UNITS_TEXT_BYTES], commits[UNITS_TEXT_BYTES], staging[UNITS_TEXT_BYTES];
    char snapshots[UNITS_TEXT_BYTES];
    struct outer_memory memory;
    outer_memory_plan(&plan->fragments, run, &memory);
    printf("outer      memory %s: state %s, the newest %" PRIu32 " commits %s, contributions %s; %s more while whole "
           "fragments are fetched\n",
           units_format_bytes(memory.peak_bytes, peak), units_format_bytes(memory.state_bytes, state),
           outer_memory_payloads_kept(&plan->fragments, run), units_format_bytes(memory.commits_bytes, commits),
           units_format_bytes(memory.staging_bytes, staging), units_format_bytes(memory.snapshots_bytes, snapshots));
}

static struct model_options training_options(const struct run_file *run) {
    return (struct model_options){.shape = run->model, .inner = run->inner};
}

/* What a training step takes on this machine, and whether all of its threads find work. */
static void print_training_memory(const struct run_file *run, const struct plan *plan) {
    char peak[UNITS_TEXT_BYTES], state[UNITS_TEXT_BYTES], activations[UNITS_TEXT_BYTES], products[UNITS_TEXT_BYTES];
    struct model_options options = training_options(run);
    struct model_memory memory = model_memory_plan(&options, &plan->table);
    int units = model_unit_count(&options);
    printf("step       memory %s: parameters, gradients and moments %s, activations %s, products %s\n",
           units_format_bytes(memory.peak_bytes, peak), units_format_bytes(memory.state_bytes, state),
           units_format_bytes(memory.activation_bytes, activations),
           units_format_bytes(memory.product_bytes, products));
    if (run->inner.threads > units)
        printf("threads    %d of %" PRId64 " have work: a micro-batch of %" PRId64 " windows is %d unit%s\n", units,
               run->inner.threads, run->inner.batch_per_worker, units, units == 1 ? "" : "s");
}

static void print_people(const struct run_file *run, const struct plan *plan, const char *path) {
    char up[UNITS_TEXT_BYTES];
    char down[UNITS_TEXT_BYTES];
    printf("%s: fine\n", path);
    printf("model      %zu parameters: %" PRId64 " layers, width %" PRId64 ", vocab %" PRId64 ", context %" PRId64 "\n",
           plan->table.parameter_count, run->model.layers, run->model.width, run->model.vocab, run->model.context);
    printf("training   %" PRId64 " steps, %" PRId64 " tokens a step on each of %" PRId64 " worker%s\n",
           run->inner.steps, run->inner.batch_per_worker * run->inner.accumulate * run->model.context, run->workers,
           run->workers == 1 ? "" : "s");
    print_training_memory(run, plan);
    if (run->inner.min_step_us > 0)
        printf("pace       a step takes at least %s\n", units_format_duration(run->inner.min_step_us, up));
    if (run->inner.pace == INNER_PACE_TIME)
        printf("pace       a slow worker does fewer steps per round, so that all arrive together\n");
    if (run->data.train_count == 0)
        printf("data       no training files are named: each worker brings its own (--data)\n");
    if (run->sync.off) {
        printf("sync       off\n");
        return;
    }
    size_t all_up = 0;
    size_t all_down = 0;
    printf("sync       %d fragments, each sent every %" PRId64 " steps; per send and worker:\n", plan->fragments.count,
           run->sync.every_steps);
    for (int p = 0; p < plan->fragments.count; p++) {
        const struct fragment *fragment = &plan->fragments.list[p];
        size_t up_bytes = payload_bytes(fragment, run->sync.codec_up);
        size_t down_bytes = payload_bytes(fragment, run->sync.codec_down);
        all_up += up_bytes;
        all_down += down_bytes;
        printf("  %3d  %10zu parameters  %9s up  %9s down  %s\n", p, fragment->count, units_format_bytes(up_bytes, up),
               units_format_bytes(down_bytes, down), fragment->name);
    }
    printf("  all  %10zu parameters  %9s up  %9s down  every %" PRId64 " steps\n", plan->table.parameter_count,
           units_format_bytes(all_up, up), units_format_bytes(all_down, down), run->sync.every_steps);
    print_rounds(run);
    print_memory(run, plan);
}

/* As print_rounds; overlap_steps null = auto, quorum 0 = all. */
static json_t *rounds_json(const struct run_file *run) {
    const struct sync_options *sync = &run->sync;
    return json_pack("{s:o, s:I, s:I, s:I, s:I}", "overlap_steps",
                     sync->overlap_steps == SYNC_OVERLAP_AUTO ? json_null() : json_integer(sync->overlap_steps),
                     "quorum", (json_int_t)run_sync_quorum(run, (uint32_t)run->workers), "min_workers",
                     (json_int_t)sync->min_workers, "stale", (json_int_t)run_sync_stale(run), "drift",
                     (json_int_t)run_sync_drift(run));
}

static json_t *memory_json(const struct run_file *run, const struct plan *plan) {
    struct outer_memory memory;
    outer_memory_plan(&plan->fragments, run, &memory);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "peak_bytes", (json_int_t)memory.peak_bytes,
                     "state_bytes", (json_int_t)memory.state_bytes, "commits_kept",
                     (json_int_t)outer_memory_payloads_kept(&plan->fragments, run), "commits_bytes",
                     (json_int_t)memory.commits_bytes, "staging_bytes", (json_int_t)memory.staging_bytes, "ends_bytes",
                     (json_int_t)memory.ends_bytes, "program_bytes", (json_int_t)memory.program_bytes,
                     "snapshots_bytes", (json_int_t)memory.snapshots_bytes);
}

static json_t *step_memory_json(const struct run_file *run, const struct plan *plan) {
    struct model_options options = training_options(run);
    struct model_memory memory = model_memory_plan(&options, &plan->table);
    return json_pack("{s:I, s:I, s:I, s:I, s:i}", "peak_bytes", (json_int_t)memory.peak_bytes, "state_bytes",
                     (json_int_t)memory.state_bytes, "activation_bytes", (json_int_t)memory.activation_bytes,
                     "product_bytes", (json_int_t)memory.product_bytes, "units", model_unit_count(&options));
}

static void print_json(const struct run_file *run, const struct plan *plan, const char *path) {
    uint8_t hash[RUN_KEYS_HASH_BYTES];
    char hash_text[2 * RUN_KEYS_HASH_BYTES + 1];
    run_file_keys_hash(run, hash);
    bytes_to_hex(hash, sizeof hash, hash_text);
    json_t *list = json_array();
    json_int_t all_up = 0;
    json_int_t all_down = 0;
    for (int p = 0; p < plan->fragments.count; p++) {
        const struct fragment *fragment = &plan->fragments.list[p];
        json_int_t up = (json_int_t)payload_bytes(fragment, run->sync.codec_up);
        json_int_t down = (json_int_t)payload_bytes(fragment, run->sync.codec_down);
        all_up += up;
        all_down += down;
        json_array_append_new(list, json_pack("{s:i, s:s, s:I, s:I, s:I}", "fragment", p, "name", fragment->name,
                                              "parameters", (json_int_t)fragment->count, "payload_up_bytes", up,
                                              "payload_down_bytes", down));
    }
    json_t *summary =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:I, s:I, s:I, s:o}", "run_file", path, "name", run->name,
                  "keys_hash", hash_text, "parameters", (json_int_t)plan->table.parameter_count, "steps",
                  (json_int_t)run->inner.steps, "step_tokens",
                  (json_int_t)(run->inner.batch_per_worker * run->inner.accumulate * run->model.context), "workers",
                  (json_int_t)run->workers, "sync_off", (int)run->sync.off, "every_steps",
                  (json_int_t)(run->sync.off ? 0 : run->sync.every_steps), "payload_up_bytes", all_up,
                  "payload_down_bytes", all_down, "fragments", list);
    CHECK(summary != NULL);
    CHECK(json_object_set_new(summary, "step_memory", step_memory_json(run, plan)) == 0);
    if (!run->sync.off) {
        CHECK(json_object_set_new(summary, "rounds", rounds_json(run)) == 0);
        CHECK(json_object_set_new(summary, "outer_memory", memory_json(run, plan)) == 0);
    }
    json_dumpf(summary, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(summary);
}

static enum status check_run_file(const struct check_values *values, struct error *error) {
    struct run_file *run = malloc(sizeof *run);
    if (!run)
        return error_set(error, STATUS_NO_MEMORY, "no memory to read %s", values->run_file);
    struct plan plan;
    enum status status =
        run_file_load(values->run_file, values->set.items, values->set.count, RUN_FILE_DATA_NAMED, run, error);
    if (status == STATUS_OK && values->print_effective) {
        char *text = run_file_text(run, false, false);
        fputs(text, stdout);
        free(text);
    } else if (status == STATUS_OK && (status = plan_create(run, &plan, error)) == STATUS_OK) {
        (values->json ? print_json : print_people)(run, &plan, values->run_file);
        plan_destroy(&plan);
    }
    free(run);
    return status;
}

int check_command(int argc, char **argv) {
    struct check_values values = {0};
    int exit_code;
    if (!options_or_exit(&check_options, argc, argv, &values, &exit_code))
        return exit_code;
    if (values.print_defaults) {
        char *text = run_file_defaults_text();
        fputs(text, stdout);
        free(text);
        return 0;
    }
    if (!values.run_file) {
        fprintf(stderr, "atoll check: RUN.yaml is missing: the run file (atoll check --help)\n");
        return status_exit_code(STATUS_USAGE);
    }
    struct error error;
    enum status status = check_run_file(&values, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "%s\n", error.text);
    return status_exit_code(status);
}
