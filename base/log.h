/* log: log.jsonl, one JSON record per line, one write(2) per record, O_APPEND; and what a person sees on stderr.
 * A torn last line (a kill in mid-write) is for readers to ignore. Records may come from any thread.
 *
 * Every record bears: event (string), t_wall (RFC 3339), t_us (monotonic microseconds since the log was opened).
 * NaN and infinity become null. Writing never fails the caller: the first I/O error is reported once on stderr and counted.
 * Failpoint: log.write. */
#ifndef ATOLL_BASE_LOG_H
#define ATOLL_BASE_LOG_H

#include <jansson.h>
#include <stdint.h>
#include "base/status.h"

enum { LOG_SCHEMA = 1 };

struct log;

MUST_USE enum status log_open(struct log **log, const char *path, struct error *error);
void log_close(struct log *log);

/* log_event: append one record. `fields` is a JSON object made by json_pack or json_object; its reference is stolen (like
 * jansson's own _new functions). log may be NULL: the fields are dropped. fields NULL (a json_pack that failed, as with "f" and a
 * NaN: use "o" with log_real): the record bears "fields_lost": true. */
void log_event(struct log *log, const char *event, json_t *fields);

/* How many records could not be written whole. */
uint64_t log_lost(struct log *log);

/* log_real: a JSON real, or null when not finite. */
json_t *log_real(double value);

/* What a person reads, on stderr, one line each, prefixed with the time and the node's name when one was set. */
enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
void log_set_node(const char *name);
void log_set_level(enum log_level level);
void log_say(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

/* log_build_json: {"version", "compiler", "cpu", "cores"} of this process, for the header record. New reference. */
json_t *log_build_json(void);

#endif
