#include "worker/eval_log.h"

void eval_log(const struct inner_loop *loop, const struct evaluation *evaluation, uint64_t took_us, bool final,
              uint64_t run_step, uint64_t run_tokens, const struct message_telemetry *telemetry) {
    json_t *versions = json_array();
    for (uint32_t f = 0; f < telemetry->version_count; f++)
        json_array_append_new(versions, json_integer((json_int_t)telemetry->versions[f]));
    json_t *json =
        json_pack("{s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:b}", "step", (json_int_t)run_step, "loss",
                  log_real(evaluation->loss), "bits_per_byte", log_real(evaluation->bits_per_byte), "windows",
                  (json_int_t)evaluation->windows, "tokens", (json_int_t)loop->tokens, "run_tokens",
                  (json_int_t)run_tokens, "eval_us", (json_int_t)took_us, "versions", versions, "final", final);
    json_object_update_new(json,
                           json_pack("{s:I, s:I, s:I, s:I}", "wire_up", (json_int_t)telemetry->wire_up, "wire_down",
                                     (json_int_t)telemetry->wire_down, "payload_up", (json_int_t)telemetry->payload_up,
                                     "payload_down", (json_int_t)telemetry->payload_down));
    log_event(loop->log, "eval", json);
}

void end_log(const struct inner_loop *loop, const char *reason, const char *state_hash,
             const struct message_telemetry *telemetry) {
    json_t *json = json_pack("{s:I, s:I, s:I, s:I, s:I, s:s, s:s}", "step", (json_int_t)loop->step, "tokens",
                             (json_int_t)loop->tokens, "wait_us", (json_int_t)telemetry->wait_us, "compute_us",
                             (json_int_t)loop->compute_us, "eval_us", (json_int_t)loop->eval_us, "reason", reason,
                             "state_hash", state_hash != NULL ? state_hash : "");
    json_object_update_new(
        json, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "payload_up", (json_int_t)telemetry->payload_up,
                        "payload_down", (json_int_t)telemetry->payload_down, "wire_up", (json_int_t)telemetry->wire_up,
                        "wire_down", (json_int_t)telemetry->wire_down, "control_up", (json_int_t)telemetry->control_up,
                        "control_down", (json_int_t)telemetry->control_down));
    log_event(loop->log, "end", json);
}
