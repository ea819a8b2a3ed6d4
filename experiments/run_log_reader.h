/* run_log_reader: follows one log.jsonl, of a run that is over or of one that is being written: each call gives the next whole
 * record that is in the file by now. A line without its newline waits for the rest; at the end of a run it is the torn last
 * line and is never given out. One thread. */
#ifndef ATOLL_EXPERIMENTS_RUN_LOG_READER_H
#define ATOLL_EXPERIMENTS_RUN_LOG_READER_H

#include "experiments/run_log.h"

enum { RUN_LOG_LINE_MAX = 1 << 20 };

struct run_log_reader {
    int file; /* -1 = closed */
    char *buffer;
    size_t start, used, capacity; /* bytes start..used are read and not yet given out */
    bool skipping;                /* inside a line longer than RUN_LOG_LINE_MAX */
    bool outer;                   /* the last header's role */
    bool foreign; /* the last header has a schema that this atoll does not know: all is bad until the next */
    int64_t lines;
    int64_t records;
    int64_t unknown; /* lines with events that are not in the table */
    int64_t bad;
    struct error first_bad; /* "line N: ..." */
};

/* run_log_reader_open: STATUS_NOT_FOUND (not there yet: try again later), STATUS_IO, STATUS_NO_MEMORY. */
MUST_USE enum status run_log_reader_open(struct run_log_reader *reader, const char *path, struct error *error);
void run_log_reader_close(struct run_log_reader *reader);

/* run_log_reader_next: false when no further whole line is there now. Bad and unknown lines are counted and passed over. */
bool run_log_reader_next(struct run_log_reader *reader, struct run_log_record *record);

/* Bytes of a line that has begun and not ended. */
size_t run_log_reader_torn_bytes(const struct run_log_reader *reader);

#endif
