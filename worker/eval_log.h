/* eval_log: the eval record, the same from the worker and from the plain trainer. */
#ifndef ATOLL_WORKER_EVAL_LOG_H
#define ATOLL_WORKER_EVAL_LOG_H

#include "comms/message.h"
#include "worker/inner_loop.h"

/* An evaluation of the run's outer copy: run_step and run_tokens say how far the run was; telemetry: versions and bytes at that moment
 * (zeroed for the plain trainer). */
void eval_log(const struct inner_loop *loop, const struct evaluation *evaluation, uint64_t took_us, bool final,
              uint64_t run_step, uint64_t run_tokens, const struct message_telemetry *telemetry);

/* The end record; state_hash may be NULL. */
void end_log(const struct inner_loop *loop, const char *reason, const char *state_hash,
             const struct message_telemetry *telemetry);

#endif
