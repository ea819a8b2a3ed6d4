#include "experiments/run_log_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"

enum { READ_BYTES = 1 << 16 };

enum status run_log_reader_open(struct run_log_reader *reader, const char *path, struct error *error) {
    memset(reader, 0, sizeof *reader);
    reader->file = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->file < 0)
        return error_set(error, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "cannot open the log %s: %s", path,
                         strerror(errno));
    reader->capacity = READ_BYTES;
    reader->buffer = malloc(reader->capacity);
    if (reader->buffer)
        return STATUS_OK;
    close(reader->file);
    reader->file = -1;
    return error_set(error, STATUS_NO_MEMORY, "no memory to read the log %s", path);
}

void run_log_reader_close(struct run_log_reader *reader) {
    if (reader->buffer) {
        close(reader->file);
        free(reader->buffer);
    }
    reader->buffer = NULL;
    reader->file = -1;
}

static void count_bad(struct run_log_reader *reader, const char *why) {
    if (reader->bad++ == 0)
        error_set(&reader->first_bad, STATUS_DATA, "line %" PRId64 ": %s", reader->lines, why);
}

/* More bytes of the file behind those that wait; false at its present end. */
static bool read_more(struct run_log_reader *reader) {
    if (reader->start > 0) {
        memmove(reader->buffer, reader->buffer + reader->start, reader->used - reader->start);
        reader->used -= reader->start;
        reader->start = 0;
    }
    if (reader->used > RUN_LOG_LINE_MAX) { /* nobody writes such a line: drop it up to its end */
        reader->skipping = true;
        reader->used = 0;
    }
    if (reader->capacity - reader->used < READ_BYTES) {
        char *larger = realloc(reader->buffer, reader->capacity + READ_BYTES);
        if (!larger)
            return false;
        reader->buffer = larger;
        reader->capacity += READ_BYTES;
    }
    ssize_t got;
    do
        got = read(reader->file, reader->buffer + reader->used, READ_BYTES);
    while (got < 0 && errno == EINTR);
    if (got <= 0)
        return false;
    reader->used += (size_t)got;
    return true;
}

/* The next whole line; a line that was too long is counted as bad and passed over. */
static bool next_line(struct run_log_reader *reader, const char **line, size_t *length) {
    size_t searched = 0;
    for (;;) {
        char *from = reader->buffer + reader->start;
        char *end = memchr(from + searched, '\n', reader->used - reader->start - searched);
        if (!end) {
            searched = reader->used - reader->start;
            if (!read_more(reader))
                return false;
            if (reader->skipping)
                searched = 0;
            continue;
        }
        reader->lines++;
        reader->start = (size_t)(end - reader->buffer) + 1;
        if (!reader->skipping) {
            *line = from;
            *length = (size_t)(end - from);
            return true;
        }
        reader->skipping = false;
        searched = 0;
        count_bad(reader, "longer than 1 MiB");
    }
}

/* Takes over what a header says about the lines behind it. False: they are in a schema that is not ours. */
static bool take_header(struct run_log_reader *reader, const struct run_log_header *header) {
    reader->outer = strcmp(header->role, "outer") == 0;
    reader->foreign = header->schema != LOG_SCHEMA;
    if (reader->foreign) {
        char why[96];
        snprintf(why, sizeof why, "schema %" PRId64 ", this atoll reads schema %d", header->schema, LOG_SCHEMA);
        count_bad(reader, why);
    }
    return !reader->foreign;
}

bool run_log_reader_next(struct run_log_reader *reader, struct run_log_record *record) {
    const char *line;
    size_t length;
    struct error error;
    while (next_line(reader, &line, &length)) {
        switch (run_log_parse(line, length, reader->outer, record, &error)) {
        case RUN_LOG_LINE_UNKNOWN:
            reader->unknown++;
            break;
        case RUN_LOG_LINE_BAD:
            count_bad(reader, error.text);
            break;
        case RUN_LOG_LINE_RECORD:
            if (record->event == RUN_LOG_HEADER ? !take_header(reader, &record->header) : reader->foreign)
                break;
            reader->records++;
            return true;
        }
    }
    return false;
}

size_t run_log_reader_torn_bytes(const struct run_log_reader *reader) {
    return reader->used - reader->start;
}
