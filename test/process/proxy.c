/* proxy: a bad line between workers and the outer. It listens on two ports (control and bulk), forwards to the outer's two, and breaks
 * what it is told to break, while it runs. One thread, epoll, bounded buffers; it knows nothing of what it carries.
 *
 *     proxy run DIRECTORY TOKENFILE [--listen HOST]                    the outer of that token; DIRECTORY/join.token is for the workers
 *     proxy run DIRECTORY HOST CONTROL_PORT BULK_PORT [--listen HOST]  any two ports
 *     proxy ask DIRECTORY COMMAND...                                   one command to a proxy that runs; exit 1: it said "error: ..."
 *     proxy follow DIRECTORY TOKENFILE                                 the outer has moved: new connections go where that token says
 *     proxy token DIRECTORY TOKENFILE                                  that token with this proxy's address
 *
 * DIRECTORY/address holds "HOST CONTROL_PORT BULK_PORT"; a proxy started again in it takes the same ports. DIRECTORY/ask is the socket
 * for commands: a line each, answered by a line. Faults, for what is open and what comes later, until changed or healed:
 *
 *     latency MS [jitter MS]    each byte arrives that much later (jitter: plus 0 to that much, order kept)
 *     rate BYTES_PER_S          token bucket of 20 ms, one for each connection and way
 *     slice BYTES [pause MS]    at most that many bytes in one write, then a pause (1 ms)
 *     flip BYTES                one random bit flips in about one byte of BYTES
 *     drop                      bytes are read and thrown away
 *     blackhole                 nothing is read and nothing forwarded, no end either: half open. A connection accepted meanwhile gets to
 *                               the outer when its way up is open again
 *     stall MS                  blackhole, for that long
 *     refuse [PORT]             new connections are reset
 *     hold [PORT]               new connections are accepted and get no further
 * Each is ended by `off` in place of its numbers. At once, for what is open:
 *     reset                     RST; with a way: only the side that the way leads to hears of it, the other stays half open
 *     close                     FIN, likewise
 * and: heal (everything off, what is under way arrives), seed N (1; of jitter and flips, per connection), target HOST CONTROL_PORT
 * BULK_PORT (for new connections: the outer has moved), stats (JSON).
 * Behind each fault and heal may stand which: up (worker to outer) | down | both; control | bulk | all; connection N (in order of accept).
 *
 * To pull the plug: kill -KILL resets every connection and delivers nothing more; kill -STOP is the cut cable that nobody notices. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/clock.h"
#include "comms/keys.h"
#include "comms/token.h"
#include "proxy_line.h"

enum { ASKERS_MAX = 8, LINE_BYTES = 512, WORDS_MAX = 16, ANSWER_BYTES = 65536, PAUSE_MS = 1 };
#define NUMBER_MAX UINT64_C(1000000000000)

static const char *const way_names[] = {"up", "down"}, *const port_names[] = {"control", "bulk"};
static const char *const state_names[] = {"waiting", "connecting", "open"};

struct asker {
    int fd;
    size_t count;
    char line[LINE_BYTES];
};

static int ask_fd, listener[PORTS];
static struct asker askers[ASKERS_MAX];

void die(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("proxy: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(code);
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* "[::1]" is ::1, as in tokens. NULL, or why not. */
static const char *resolve(const char *host, const char *port, struct address *address) {
    char bare[TOKEN_HOST_BYTES];
    size_t bytes = strlen(host);
    bool brackets = bytes > 2 && host[0] == '[' && host[bytes - 1] == ']';
    snprintf(bare, sizeof bare, "%.*s", (int)(brackets ? bytes - 2 : bytes), host + brackets);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *found;
    int error = getaddrinfo(bare, port, &hints, &found);
    if (error != 0)
        return gai_strerror(error);
    memcpy(&address->at, found->ai_addr, found->ai_addrlen);
    address->bytes = found->ai_addrlen;
    freeaddrinfo(found);
    return NULL;
}

static void watch(int fd, uint32_t kind, size_t index, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)kind << 32 | index};
    if (epoll_ctl(line.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        die(74, "epoll: %s", strerror(errno));
}

/* ---- commands ---- */

struct words {
    int count, at;
    char *word[WORDS_MAX];
};

/* Which flows a fault concerns. */
struct scope {
    bool way[WAYS], port[PORTS];
    uint64_t connection; /* 0: all, also those to come */
};

struct answer {
    size_t bytes;
    char text[ANSWER_BYTES];
};

static void __attribute__((format(printf, 2, 3))) say(struct answer *answer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof answer->text - answer->bytes;
    int bytes = vsnprintf(answer->text + answer->bytes, room, format, arguments);
    va_end(arguments);
    answer->bytes += bytes < 0 ? 0 : smaller((size_t)bytes, room - 1);
}

static void split(char *text, struct words *words) {
    char *rest = text, *word;
    *words = (struct words){0};
    while (words->count < WORDS_MAX && (word = strtok_r(rest, " \t\r", &rest)) != NULL)
        words->word[words->count++] = word;
}

static bool take_word(struct words *words, const char *word) {
    bool there = words->at < words->count && strcmp(words->word[words->at], word) == 0;
    words->at += there;
    return there;
}

static bool take_number(struct words *words, uint64_t *number) {
    const char *text = words->at < words->count ? words->word[words->at] : "";
    if (*text == '\0' || strlen(text) > 13 || strspn(text, "0123456789") != strlen(text))
        return false;
    *number = strtoull(text, NULL, 10);
    words->at++;
    return *number <= NUMBER_MAX;
}

static bool take_scope(struct words *words, struct scope *scope) {
    bool way[WAYS] = {false}, port[PORTS] = {false};
    scope->connection = 0;
    while (words->at < words->count) {
        if (take_word(words, "up"))
            way[UP] = true;
        else if (take_word(words, "down"))
            way[DOWN] = true;
        else if (take_word(words, "both"))
            way[UP] = way[DOWN] = true;
        else if (take_word(words, "control"))
            port[CONTROL] = true;
        else if (take_word(words, "bulk"))
            port[BULK] = true;
        else if (take_word(words, "all"))
            port[CONTROL] = port[BULK] = true;
        else if (!take_word(words, "connection") || !take_number(words, &scope->connection) || scope->connection == 0)
            return false;
    }
    for (int i = 0; i < WAYS; i++) /* none named: all */
        scope->way[i] = way[i] || !way[!i];
    for (int i = 0; i < PORTS; i++)
        scope->port[i] = port[i] || !port[!i];
    return true;
}

enum verb { LATENCY, RATE, SLICE, FLIP, STALL, BLACKHOLE, DROP, HEAL, RESET, CLOSE, VERBS };
static const struct {
    const char *name, *second; /* "latency 40 jitter 5" */
    bool number, at_once;
} verbs[VERBS] = {
    [LATENCY] = {"latency", "jitter", true, false}, [RATE] = {"rate", NULL, true, false},
    [SLICE] = {"slice", "pause", true, false},      [FLIP] = {"flip", NULL, true, false},
    [STALL] = {"stall", NULL, true, false},         [BLACKHOLE] = {"blackhole", NULL, false, false},
    [DROP] = {"drop", NULL, false, false},          [HEAL] = {"heal", NULL, false, false},
    [RESET] = {"reset", NULL, false, true},         [CLOSE] = {"close", NULL, false, true},
};

/* Such as "latency 40 jitter 5 up bulk connection 3": what, and on which flows. */
struct change {
    enum verb verb;
    bool on;
    uint64_t number, second;
    struct scope scope;
};

static bool take_change(const char *verb, struct words *words, struct change *change) {
    int v = 0;
    while (v < VERBS && strcmp(verb, verbs[v].name) != 0)
        v++;
    if (v == VERBS)
        return false;
    *change = (struct change){.verb = (enum verb)v, .on = true, .second = v == SLICE ? PAUSE_MS : 0};
    if (v != HEAL && !verbs[v].at_once && take_word(words, "off"))
        change->on = false;
    else if (verbs[v].number && !take_number(words, &change->number))
        return false;
    else if (verbs[v].second != NULL && take_word(words, verbs[v].second) && !take_number(words, &change->second))
        return false;
    return take_scope(words, &change->scope);
}

static void change_faults(const struct change *change, struct faults *f) {
    switch (change->verb) {
    case LATENCY:
        f->latency_us = 1000 * change->number;
        f->jitter_us = 1000 * change->second;
        break;
    case RATE:
        f->rate = change->number;
        break;
    case SLICE:
        f->slice_bytes = change->number;
        f->pause_us = 1000 * change->second;
        break;
    case FLIP:
        f->flip_bytes = change->number;
        break;
    case STALL:
        f->stall_until_us = line.now_us + 1000 * change->number;
        break;
    case BLACKHOLE:
        f->blackhole = change->on;
        break;
    case DROP:
        f->drop = change->on;
        break;
    case HEAL:
        *f = (struct faults){0};
        break;
    default: /* done at once, to what is open */
        break;
    }
}

static void change_connection(const struct change *change, struct connection *c, int way) {
    struct faults faults = c->flow[way].faults;
    if (change->verb == RESET) {
        connection_reset(c, way);
    } else if (change->verb == CLOSE) {
        connection_close(c, way);
    } else {
        change_faults(change, &faults);
        connection_set_faults(c, way, &faults);
    }
    if (change->verb == HEAL)
        connection_hurry(c, way);
}

/* For what is to come: only when no connection is named. */
static void change_port(const struct change *change, int port) {
    const struct scope *scope = &change->scope;
    for (int way = 0; way < WAYS; way++)
        if (scope->way[way])
            change_faults(change, &line.faults[port][way]);
    if (change->verb == HEAL && scope->way[UP] && scope->way[DOWN])
        line.refuse[port] = line.hold[port] = false;
}

static void command_change(const char *verb, struct words *words, struct answer *answer) {
    struct change change;
    int hit = 0;
    if (!take_change(verb, words, &change)) {
        say(answer, "error: '%s' is not understood; see the head of proxy.c",
            words->at < words->count ? words->word[words->at] : verb);
        return;
    }
    const struct scope *scope = &change.scope;
    for (size_t i = 0; i < LINE_CONNECTIONS_MAX; i++) {
        struct connection *c = line.connections[i];
        if (c == NULL || !scope->port[c->port] || (scope->connection != 0 && scope->connection != c->number))
            continue;
        hit++;
        for (int way = 0; way < WAYS; way++)
            if (scope->way[way])
                change_connection(&change, c, way);
    }
    for (int port = 0; port < PORTS; port++)
        if (scope->port[port] && scope->connection == 0)
            change_port(&change, port);
    if (hit == 0 && scope->connection != 0)
        say(answer, "error: no such connection is open");
    else
        say(answer, "ok %d", hit);
}

/* refuse, hold: what new connections of a port meet. */
static void command_door(bool door[PORTS], struct words *words, struct answer *answer) {
    struct scope scope;
    bool off = take_word(words, "off");
    if (!take_scope(words, &scope) || scope.connection != 0 || scope.way[UP] != scope.way[DOWN]) {
        say(answer, "error: this is for new connections: control, bulk or all");
        return;
    }
    for (int port = 0; port < PORTS; port++)
        if (scope.port[port])
            door[port] = !off;
    say(answer, "ok");
}

static void command_target(const struct words *words, struct answer *answer) {
    struct address found[PORTS];
    const char *why = words->count == 4 ? NULL : "expected HOST CONTROL_PORT BULK_PORT";
    for (int port = 0; port < PORTS && why == NULL; port++)
        why = resolve(words->word[1], words->word[2 + port], &found[port]);
    if (why == NULL)
        memcpy(line.target, found, sizeof line.target);
    say(answer, why == NULL ? "ok" : "error: %s", why);
}

static void command_stats(struct answer *answer) {
    int live = 0;
    for (size_t i = 0; i < LINE_CONNECTIONS_MAX; i++)
        live += line.connections[i] != NULL;
    say(answer, "{\"connections\":%llu,\"live\":%d,\"refused\":%llu", (unsigned long long)line.accepted, live,
        (unsigned long long)line.refused);
    for (int port = 0; port < PORTS; port++) {
        say(answer, ",\"%s\":{", port_names[port]);
        for (int way = 0; way < WAYS; way++) {
            const struct totals *t = &line.totals[port][way];
            say(answer, "%s\"%s\":{\"received\":%llu,\"forwarded\":%llu,\"dropped\":%llu,\"flipped\":%llu}",
                way > 0 ? "," : "", way_names[way], (unsigned long long)t->received, (unsigned long long)t->forwarded,
                (unsigned long long)t->dropped, (unsigned long long)t->flipped);
        }
        say(answer, "}");
    }
    say(answer, ",\"open\":[");
    for (size_t i = 0; i < LINE_CONNECTIONS_MAX; i++) {
        const struct connection *c = line.connections[i];
        if (c != NULL)
            say(answer,
                "%s{\"connection\":%llu,\"port\":\"%s\",\"peer_port\":%u,\"state\":\"%s\",\"up\":%llu,\"down\":%llu}",
                answer->text[answer->bytes - 1] == '[' ? "" : ",", (unsigned long long)c->number, port_names[c->port],
                c->peer_port, state_names[c->state], (unsigned long long)c->flow[UP].forwarded,
                (unsigned long long)c->flow[DOWN].forwarded);
    }
    say(answer, "]}");
}

static void command(char *text, struct answer *answer) {
    struct words words;
    split(text, &words);
    const char *verb = words.count > 0 ? words.word[words.at++] : "";
    answer->bytes = 0;
    if (strcmp(verb, "stats") == 0)
        command_stats(answer);
    else if (strcmp(verb, "refuse") == 0)
        command_door(line.refuse, &words, answer);
    else if (strcmp(verb, "hold") == 0)
        command_door(line.hold, &words, answer);
    else if (strcmp(verb, "target") == 0)
        command_target(&words, answer);
    else if (strcmp(verb, "seed") == 0)
        say(answer, take_number(&words, &line.seed) ? "ok" : "error: expected seed N");
    else
        command_change(verb, &words, answer);
    say(answer, "\n");
}

/* ---- who asks ---- */

static void asker_close(struct asker *asker) {
    close(asker->fd);
    asker->fd = -1;
}

static void asker_open(void) {
    int fd = accept4(ask_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    size_t index = 0;
    while (index < ASKERS_MAX && askers[index].fd >= 0)
        index++;
    if (fd < 0)
        return;
    if (index == ASKERS_MAX) {
        close(fd);
        return;
    }
    askers[index] = (struct asker){.fd = fd};
    watch(fd, EPOLL_KIND_ASKER, index, EPOLLIN);
}

/* Whoever sends no line in LINE_BYTES, or reads no answer, is sent away. */
static void asker_read(struct asker *asker) {
    static struct answer answer;
    ssize_t got = recv(asker->fd, asker->line + asker->count, LINE_BYTES - asker->count, 0);
    if (got <= 0) {
        asker_close(asker);
        return;
    }
    asker->count += (size_t)got;
    char *end;
    while ((end = memchr(asker->line, '\n', asker->count)) != NULL) {
        size_t bytes = (size_t)(end - asker->line) + 1;
        *end = '\0';
        command(asker->line, &answer);
        if (send(asker->fd, answer.text, answer.bytes, MSG_NOSIGNAL) != (ssize_t)answer.bytes) {
            asker_close(asker);
            return;
        }
        asker->count -= bytes;
        memmove(asker->line, end + 1, asker->count);
    }
    if (asker->count == LINE_BYTES)
        asker_close(asker);
}

static int ask_socket(struct sockaddr_un *address) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "ask"};
    if (fd < 0)
        die(74, "socket: %s", strerror(errno));
    return fd;
}

/* ---- what it is called with ---- */

static void listen_on(int port, const char *host, const char *number) {
    struct address address;
    const char *why = resolve(host, number, &address);
    if (why != NULL)
        die(64, "%s:%s: %s", host, number, why);
    int fd = socket(address.at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die(74, "socket: %s", strerror(errno));
    int on = 1;
    line_set_up_socket(fd);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (const struct sockaddr *)&address.at, address.bytes) != 0 || listen(fd, 512) != 0)
        die(74, "%s:%s: %s", host, number, strerror(errno));
    listener[port] = fd;
    watch(fd, EPOLL_KIND_LISTENER, (size_t)port, EPOLLIN);
}

static unsigned bound_port(int fd) {
    struct sockaddr_storage at = {0};
    socklen_t bytes = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &bytes) != 0)
        die(74, "getsockname: %s", strerror(errno));
    return ntohs(((struct sockaddr_in *)&at)->sin_port);
}

static void write_file(const char *name, const char *text) {
    char temporary[64];
    snprintf(temporary, sizeof temporary, "%s.new", name);
    FILE *file = fopen(temporary, "w");
    if (file == NULL || fprintf(file, "%s\n", text) < 0 || fclose(file) != 0 || rename(temporary, name) != 0)
        die(74, "%s: %s", name, strerror(errno));
}

/* The ports of a proxy that ran here before, so that its workers find the next one; else any. */
static void old_ports(char number[PORTS][8]) {
    FILE *file = fopen("address", "r");
    if (file == NULL || fscanf(file, "%*s %7s %7s", number[CONTROL], number[BULK]) != PORTS)
        for (int port = 0; port < PORTS; port++)
            strcpy(number[port], "0");
    if (file != NULL)
        fclose(file);
}

static void read_token(const char *path, struct token *token) {
    struct error error = {0};
    keys_init();
    if (token_read(path, token, &error) != STATUS_OK)
        die(status_exit_code(error.status), "%s", error.text);
}

static void rewrite_token(struct token *token, const char *host, unsigned control, unsigned bulk,
                          char text[TOKEN_TEXT_BYTES]) {
    if (!token_host_is_valid(host) || control == 0 || control > UINT16_MAX || bulk == 0 || bulk > UINT16_MAX)
        die(64, "%s %u %u: no address for a token", host, control, bulk);
    token->address_count = 1;
    token->addresses[0].control_port = (uint16_t)control;
    token->addresses[0].bulk_port = (uint16_t)bulk;
    snprintf(token->addresses[0].host, sizeof token->addresses[0].host, "%s", host);
    token_format(token, text);
}

static void __attribute__((noreturn)) loop(void) {
    for (;;) {
        struct epoll_event events[64];
        line.now_us = clock_now_us();
        line_service();
        int wait_ms = -1;
        if (line.wake_us != LINE_NEVER_US) {
            uint64_t left_us = line.wake_us > line.now_us ? line.wake_us - line.now_us : 0;
            wait_ms = left_us < 60000000 ? (int)((left_us + 999) / 1000) : 60000;
        }
        int count = epoll_wait(line.epoll_fd, events, sizeof events / sizeof *events, wait_ms);
        if (count < 0 && errno != EINTR)
            die(74, "epoll: %s", strerror(errno));
        line.now_us = clock_now_us();
        for (int i = 0; i < count; i++) {
            uint32_t index = (uint32_t)events[i].data.u64;
            switch (events[i].data.u64 >> 32) {
            case EPOLL_KIND_LINE:
                line_event(index, events[i].events);
                break;
            case EPOLL_KIND_LISTENER:
                line_accept((int)index, listener[index]);
                break;
            case EPOLL_KIND_ASK:
                asker_open();
                break;
            default:
                asker_read(&askers[index]);
            }
        }
    }
}

static void __attribute__((noreturn))
run(const char *directory, const char *token_path, char *fixed[3], const char *host) {
    static struct token token;
    static char text[TOKEN_TEXT_BYTES];
    char number[PORTS][8];
    for (size_t i = 0; i < ASKERS_MAX; i++)
        askers[i].fd = -1;
    if (token_path != NULL)
        read_token(token_path, &token);
    if ((mkdir(directory, 0700) != 0 && errno != EEXIST) || chdir(directory) != 0)
        die(74, "%s: %s", directory, strerror(errno));
    line.seed = 1;
    line.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    old_ports(number);
    for (int port = 0; port < PORTS; port++) {
        char from_token[8];
        const struct token_address *outer = &token.addresses[0];
        snprintf(from_token, sizeof from_token, "%u", port == CONTROL ? outer->control_port : outer->bulk_port);
        const char *to = token_path != NULL ? outer->host : fixed[0];
        const char *why = resolve(to, token_path != NULL ? from_token : fixed[1 + port], &line.target[port]);
        if (why != NULL)
            die(64, "%s: %s", to, why);
        listen_on(port, host, number[port]);
    }
    unsigned control = bound_port(listener[CONTROL]), bulk = bound_port(listener[BULK]);
    struct sockaddr_un at;
    ask_fd = ask_socket(&at);
    unlink(at.sun_path); /* of a proxy that was killed: the ports are ours, so it is gone */
    if (bind(ask_fd, (const struct sockaddr *)&at, sizeof at) != 0 || listen(ask_fd, ASKERS_MAX) != 0)
        die(74, "%s/ask: %s", directory, strerror(errno));
    watch(ask_fd, EPOLL_KIND_ASK, 0, EPOLLIN);
    if (token_path != NULL) {
        rewrite_token(&token, host, control, bulk, text);
        write_file("join.token", text);
    }
    snprintf(text, sizeof text, "%s %u %u", host, control, bulk);
    write_file("address", text);
    loop();
}

static int ask(const char *directory, char **word, int count) {
    char text[ANSWER_BYTES + 1];
    size_t bytes = 0;
    for (int i = 0; i < count && bytes < LINE_BYTES; i++)
        bytes += (size_t)snprintf(text + bytes, sizeof text - bytes, "%s%c", word[i], i + 1 < count ? ' ' : '\n');
    if (bytes >= LINE_BYTES || chdir(directory) != 0)
        die(64, "%s: %s", directory, bytes >= LINE_BYTES ? "the command is too long" : strerror(errno));
    struct sockaddr_un at;
    struct timeval patience = {.tv_sec = 5};
    int fd = ask_socket(&at);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&at, sizeof at) != 0 || send(fd, text, bytes, MSG_NOSIGNAL) < 0)
        die(69, "%s: no proxy runs here: %s", directory, strerror(errno));
    ssize_t got;
    for (bytes = 0; (bytes == 0 || text[bytes - 1] != '\n') && bytes < ANSWER_BYTES; bytes += (size_t)got)
        if ((got = recv(fd, text + bytes, ANSWER_BYTES - bytes, 0)) <= 0)
            die(69, "%s: no answer", directory);
    text[bytes] = '\0';
    fputs(text, stdout);
    return strncmp(text, "error", 5) == 0;
}

static int follow(const char *directory, const char *token_path) {
    static struct token token;
    char text[PORTS][8], verb[] = "target";
    read_token(token_path, &token);
    struct token_address *outer = &token.addresses[0];
    snprintf(text[CONTROL], sizeof text[CONTROL], "%u", outer->control_port);
    snprintf(text[BULK], sizeof text[BULK], "%u", outer->bulk_port);
    return ask(directory, (char *[]){verb, outer->host, text[CONTROL], text[BULK]}, 4);
}

static int print_token(const char *directory, const char *token_path) {
    static struct token token;
    static char text[TOKEN_TEXT_BYTES];
    char host[TOKEN_HOST_BYTES];
    unsigned control, bulk;
    read_token(token_path, &token);
    FILE *file = chdir(directory) == 0 ? fopen("address", "r") : NULL;
    if (file == NULL || fscanf(file, "%255s %u %u", host, &control, &bulk) != 3)
        die(74, "%s: no address of a proxy here", directory);
    fclose(file);
    rewrite_token(&token, host, control, bulk, text);
    puts(text);
    return 0;
}

int main(int argc, char **argv) {
    const char *verb = argc > 3 ? argv[1] : "", *host = "127.0.0.1";
    if (strcmp(verb, "ask") == 0)
        return ask(argv[2], argv + 3, argc - 3);
    if (strcmp(verb, "follow") == 0 && argc == 4)
        return follow(argv[2], argv[3]);
    if (strcmp(verb, "token") == 0 && argc == 4)
        return print_token(argv[2], argv[3]);
    if (argc > 5 && strcmp(argv[argc - 2], "--listen") == 0) {
        host = argv[argc - 1];
        argc -= 2;
    }
    if (strcmp(verb, "run") == 0 && argc == 4)
        run(argv[2], argv[3], NULL, host);
    if (strcmp(verb, "run") == 0 && argc == 6)
        run(argv[2], NULL, argv + 3, host);
    fprintf(stderr, "usage: see the head of proxy.c\n");
    return 64;
}
