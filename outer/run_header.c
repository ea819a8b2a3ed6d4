#include "outer/run_header.h"
#include "base/bytes.h"
#include "base/log.h"
#include "model/gemm.h"
#include "model/linear.h"
#include "outer/run_keys.h"

static json_t *fragments_json(const struct outer_copy *copy) {
    json_t *list = json_array();
    for (int f = 0; copy != NULL && f < copy->fragments->count; f++) {
        const struct fragment *fragment = &copy->fragments->list[f];
        json_array_append_new(list, json_pack("{s:i, s:s, s:I, s:I, s:I}", "index", f, "name", fragment->name,
                                              "parameters", (json_int_t)fragment->count, "payload_up_bytes",
                                              (json_int_t)outer_copy_payload_up(copy, f), "payload_down_bytes",
                                              (json_int_t)outer_copy_payload_down(copy, f)));
    }
    return list;
}

/* What makes this machine's products; an outer makes none, and need not be able to. */
static const char *precision_text(const struct run_file *run) {
    struct error error;
    enum linear_kind products;
    if (linear_resolve((enum inner_precision)run->inner.precision, &products, &error) != STATUS_OK)
        return "bf16, but not on this machine";
    return linear_text(products);
}

json_t *run_header_json(const struct run_header *header) {
    const struct run_file *run = header->run;
    const struct sync_options *sync = &run->sync;
    char run_id[2 * MESSAGE_HASH_BYTES + 1] = "";
    if (header->run_id != NULL)
        bytes_to_hex(header->run_id, MESSAGE_HASH_BYTES, run_id);
    int64_t tokens_per_step = run->inner.batch_per_worker * run->inner.accumulate * run->model.context;
    json_t *json = json_pack(
        "{s:i, s:s, s:s, s:s, s:I, s:o, s:s, s:s, s:I, s:s, s:I, s:o}", "schema", LOG_SCHEMA, "run_id", run_id, "role",
        header->role, "node", header->node, "slot", (json_int_t)header->slot, "build", log_build_json(), "blas_core",
        gemm_core_name(), "precision", precision_text(run), "threads", (json_int_t)run->inner.threads, "name",
        run->name, "parameters", (json_int_t)header->table->parameter_count, "fragments", fragments_json(header->copy));
    json_object_update_new(json, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "workers", (json_int_t)run->workers,
                                           "steps", (json_int_t)run->inner.steps, "tokens_per_step",
                                           (json_int_t)tokens_per_step, "seed", (json_int_t)run->inner.seed,
                                           "up_bytes_per_s", (json_int_t)header->up_bytes_per_s, "down_bytes_per_s",
                                           (json_int_t)header->down_bytes_per_s));
    if (header->copy != NULL)
        json_object_update_new(json, json_pack("{s:I, s:I, s:f, s:s, s:s, s:b, s:s, s:f, s:f}", "every_steps",
                                               (json_int_t)sync->every_steps, "overlap_steps",
                                               (json_int_t)sync->overlap_steps, "keep_local", sync->keep_local,
                                               "codec_up", header->copy->codec_up->name, "codec_down",
                                               header->copy->codec_down->name, "error_feedback", sync->error_feedback,
                                               "outer_optimizer", outer_optimizer_names[run->outer.optimizer],
                                               "outer_lr", run->outer.lr, "outer_momentum", run->outer.momentum));
    return json;
}
