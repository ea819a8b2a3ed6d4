#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/failpoint.h"

struct log {
    int file;
    bool torn; /* the file ends in half a line: the next record starts on a new one */
    uint64_t opened_us;
    uint64_t lost; /* records that could not be written whole */
    pthread_mutex_t mutex;
    char *path;
};

/* The half line of a process that was killed in mid-write must not swallow our first record. */
static bool ends_in_half_a_line(int file) {
    off_t size = lseek(file, 0, SEEK_END);
    char last = '\n';
    return size > 0 && pread(file, &last, 1, size - 1) == 1 && last != '\n';
}

enum status log_open(struct log **log, const char *path, struct error *error) {
    struct log *opened = calloc(1, sizeof *opened);
    char *copy = strdup(path);
    if (!opened || !copy) {
        free(opened);
        free(copy);
        return error_set(error, STATUS_NO_MEMORY, "no memory to open the log %s", path);
    }
    opened->path = copy;
    opened->file = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (opened->file < 0) {
        enum status status = error_set(error, STATUS_IO, "cannot open the log %s: %s", path, strerror(errno));
        free(opened->path);
        free(opened);
        return status;
    }
    opened->torn = ends_in_half_a_line(opened->file);
    opened->opened_us = clock_now_us();
    CHECK(pthread_mutex_init(&opened->mutex, NULL) == 0);
    *log = opened;
    return STATUS_OK;
}

void log_close(struct log *log) {
    if (!log)
        return;
    close(log->file);
    pthread_mutex_destroy(&log->mutex);
    free(log->path);
    free(log);
}

static void lose_record(struct log *log, int reason) {
    if (log->lost++ == 0)
        log_say(LOG_LEVEL_ERROR, "cannot write to the log %s: %s (records are being lost; said once)", log->path,
                strerror(reason));
}

static void write_record(struct log *log, const char *line, size_t length) {
    ssize_t put;
    do
        put = failpoint_fails("log.write") ? -1 : write(log->file, line, length);
    while (put < 0 && errno == EINTR);
    if (put == (ssize_t)length) {
        log->torn = false;
        return;
    }
    int reason = put < 0 ? errno : ENOSPC;
    if (put > 0)
        log->torn = line[put - 1] != '\n';
    lose_record(log, reason);
}

void log_event(struct log *log, const char *event, json_t *fields) {
    if (!log) {
        json_decref(fields);
        return;
    }
    char wall[CLOCK_WALL_TEXT_BYTES];
    json_t *record = json_object(); /* NULL without memory: then so is the text */
    pthread_mutex_lock(&log->mutex);
    clock_wall_text(wall); /* inside the lock: times never go back from line to line */
    json_object_set_new(record, "event", json_string(event));
    json_object_set_new(record, "t_wall", json_string(wall));
    json_object_set_new(record, "t_us", json_integer((json_int_t)(clock_now_us() - log->opened_us)));
    if (fields)
        json_object_update_missing(record, fields);
    else /* a json_pack that failed, as with "f" and a NaN: the event itself is still worth a line */
        json_object_set_new(record, "fields_lost", json_true());
    char *text = json_dumps(record, JSON_COMPACT);
    /* A newline before a record that follows half a line, one behind, a NUL. */
    char *line = text != NULL ? malloc(strlen(text) + 3) : NULL;
    if (line != NULL)
        write_record(log, line, (size_t)sprintf(line, "%s%s\n", log->torn ? "\n" : "", text));
    else
        lose_record(log, ENOMEM);
    pthread_mutex_unlock(&log->mutex);
    free(line);
    free(text);
    json_decref(record);
    json_decref(fields);
}

uint64_t log_lost(struct log *log) {
    if (!log)
        return 0;
    pthread_mutex_lock(&log->mutex);
    uint64_t lost = log->lost;
    pthread_mutex_unlock(&log->mutex);
    return lost;
}

json_t *log_real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static pthread_mutex_t say_mutex = PTHREAD_MUTEX_INITIALIZER;
static char say_node[64];
static enum log_level say_level = LOG_LEVEL_INFO;

void log_set_node(const char *name) {
    pthread_mutex_lock(&say_mutex);
    snprintf(say_node, sizeof say_node, "%s", name ? name : "");
    pthread_mutex_unlock(&say_mutex);
}

void log_set_level(enum log_level level) {
    pthread_mutex_lock(&say_mutex);
    say_level = level;
    pthread_mutex_unlock(&say_mutex);
}

/* HH:MM:SS NODE: level: text, in one write(2), so that lines of several processes on one terminal do not mix. */
void log_say(enum log_level level, const char *format, ...) {
    static const char *const level_words[] = {"error: ", "warning: ", "", "debug: "};
    CHECK((unsigned)level < sizeof level_words / sizeof level_words[0]);
    int saved = errno;
    pthread_mutex_lock(&say_mutex);
    if (level <= say_level) {
        char line[ERROR_TEXT_BYTES + 256];
        time_t now = (time_t)clock_wall_s();
        struct tm local;
        CHECK(localtime_r(&now, &local) != NULL);
        size_t used = strftime(line, sizeof line, "%H:%M:%S ", &local);
        used += (size_t)snprintf(line + used, sizeof line - used, "%s%s%s", say_node, say_node[0] ? ": " : "",
                                 level_words[level]);
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(line + used, sizeof line - used - 1, format, arguments);
        va_end(arguments);
        size_t length = strlen(line);
        for (size_t i = 0; i < length; i++) /* what peers say must not steer a terminal */
            if (((unsigned char)line[i] < 32 && line[i] != '\n' && line[i] != '\t') || line[i] == 127)
                line[i] = '?';
        line[length++] = '\n';
        ssize_t ignored = write(STDERR_FILENO, line, length);
        (void)ignored;
    }
    pthread_mutex_unlock(&say_mutex);
    errno = saved;
}

static void cpu_model(char *text, size_t text_bytes) {
    snprintf(text, text_bytes, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (!file)
        return;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon)
            continue;
        colon += strspn(colon, ": \t");
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(text, text_bytes, "%s", colon);
        break;
    }
    fclose(file);
}

json_t *log_build_json(void) {
    char cpu[256];
    cpu_model(cpu, sizeof cpu);
    json_t *build = json_object();
    CHECK(build != NULL);
    json_object_set_new(build, "version", json_string(ATOLL_VERSION));
    json_object_set_new(build, "compiler", json_string("gcc " __VERSION__));
    json_object_set_new(build, "cpu", json_string(cpu));
    json_object_set_new(build, "cores", json_integer((json_int_t)sysconf(_SC_NPROCESSORS_ONLN)));
    return build;
}
