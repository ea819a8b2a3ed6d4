/* failpoint: see the header. The table is written by failpoint_open only; afterwards nothing but the counts changes. */
#include "base/failpoint.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/numbers.h"
#include "base/units.h"

enum action { ACTION_KILL, ACTION_STOP, ACTION_SLEEP, ACTION_RETURN };
enum { POINTS_MAX = 32, TEXT_BYTES = 2048, ERRNO_MAX = 4096 };

struct point {
    const char *name, *action_text; /* both in `text` */
    enum action action;
    int result;        /* ACTION_RETURN: an errno value or FAILPOINT_SHORT */
    uint64_t sleep_us; /* ACTION_SLEEP */
    uint64_t first;    /* the hit that acts */
    bool later;        /* and those after it */
    atomic_uint_least64_t hits;
};

atomic_bool failpoint_armed;
static char text[TEXT_BYTES];
static struct point points[POINTS_MAX];
static int point_count;

/* The errno value of "ENOSPC", or 0. */
static int errno_of(const char *name) {
    for (int value = 1; value < ERRNO_MAX; value++) {
        const char *known = strerrorname_np(value);
        if (known != NULL && strcmp(known, name) == 0)
            return value;
    }
    return 0;
}

static bool parse_action(struct point *point) {
    if (strcmp(point->action_text, "kill") == 0) {
        point->action = ACTION_KILL;
    } else if (strcmp(point->action_text, "stop") == 0) {
        point->action = ACTION_STOP;
    } else if (strncmp(point->action_text, "sleep:", 6) == 0) {
        point->action = ACTION_SLEEP;
        return units_parse_duration(point->action_text + 6, &point->sleep_us);
    } else {
        point->action = ACTION_RETURN;
        point->result = strcmp(point->action_text, "short") == 0 ? FAILPOINT_SHORT : errno_of(point->action_text);
        return point->result != 0;
    }
    return true;
}

static enum status parse_point(char *part, struct point *point, struct error *error) {
    char whole[80];
    snprintf(whole, sizeof whole, "%s", part);
    *point = (struct point){.name = part, .first = 1};
    char *action = strchr(part, '=');
    if (action == NULL || part[strspn(part, "abcdefghijklmnopqrstuvwxyz0123456789_.")] != '=' || action == part)
        return error_set(error, STATUS_USAGE, "ATOLL_FAILPOINT: '%s': expected NAME=ACTION, such as files.write=ENOSPC",
                         whole);
    *action++ = '\0';
    point->action_text = action;
    size_t length = strlen(action);
    if (length > 0 && action[length - 1] == '+') {
        point->later = true;
        action[length - 1] = '\0';
    }
    char *count = strchr(action, '@');
    if (count != NULL) {
        *count++ = '\0';
        int64_t first;
        if (!numbers_parse_integer(count, &first) || first < 1)
            return error_set(error, STATUS_USAGE, "ATOLL_FAILPOINT: '%s': expected the number of a hit behind '@'",
                             whole);
        point->first = (uint64_t)first;
    }
    if (!parse_action(point))
        return error_set(
            error, STATUS_USAGE,
            "ATOLL_FAILPOINT: '%s': '%s' is no action (kill, stop, sleep:DURATION, short, or an errno such "
            "as ENOSPC)",
            whole, action);
    return STATUS_OK;
}

enum status failpoint_open(struct error *error) {
    atomic_store(&failpoint_armed, false);
    point_count = 0;
    const char *given = getenv("ATOLL_FAILPOINT");
    if (given == NULL || given[0] == '\0')
        return STATUS_OK;
    if (strlen(given) >= sizeof text)
        return error_set(error, STATUS_USAGE, "ATOLL_FAILPOINT: longer than %zu bytes", sizeof text - 1);
    strcpy(text, given);
    char *rest = text;
    for (char *part; (part = strsep(&rest, ",")) != NULL; point_count++) {
        if (point_count == POINTS_MAX)
            return error_set(error, STATUS_USAGE, "ATOLL_FAILPOINT: more than %d failpoints", POINTS_MAX);
        enum status status = parse_point(part, &points[point_count], error);
        if (status != STATUS_OK)
            return status;
    }
    atomic_store_explicit(&failpoint_armed, true, memory_order_release);
    return STATUS_OK;
}

/* In one write(2), so that lines of several processes on one terminal do not mix. */
static void say(const struct point *point) {
    char line[160];
    int length = snprintf(line, sizeof line, "failpoint %.100s: %.40s\n", point->name, point->action_text);
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)length);
    (void)ignored;
}

static void sleep_for(uint64_t us) {
    struct timespec left = {.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        continue;
}

static int act(const struct point *point) {
    say(point);
    switch (point->action) {
    case ACTION_KILL:
        kill(getpid(), SIGKILL);
        break;
    case ACTION_STOP:
        kill(getpid(), SIGSTOP);
        break;
    case ACTION_SLEEP:
        sleep_for(point->sleep_us);
        break;
    case ACTION_RETURN:
        return point->result;
    }
    return 0;
}

/* Every entry of the name counts this hit and acts, so that files.write=sleep:1s,files.write=EIO does both. */
int failpoint_hit_armed(const char *name) {
    int saved = errno;
    int result = 0;
    for (int i = 0; i < point_count; i++) {
        struct point *point = &points[i];
        if (strcmp(point->name, name) != 0)
            continue;
        uint64_t hit = atomic_fetch_add(&point->hits, 1) + 1;
        if (hit != point->first && (hit < point->first || !point->later))
            continue;
        int found = act(point);
        if (result == 0)
            result = found;
    }
    errno = saved;
    return result;
}
