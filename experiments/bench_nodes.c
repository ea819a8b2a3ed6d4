#include "experiments/bench_nodes.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/files.h"

enum {
    STOP_US = 20000000,
    FILE_US = 60000000,
    TURN_US = 5000,
    TAIL_BYTES = 300,
    ARGUMENTS_MAX = 64,
    DESCRIPTORS_MAX = 16
};

/* ---- beginning ---- */

static enum status prepare(struct bench_node *node, const char *directory, const char *name, struct error *error) {
    *node = (struct bench_node){.channel = -1};
    snprintf(node->name, sizeof node->name, "%s", name);
    files_join(node->directory, sizeof node->directory, directory, name);
    return files_make_directory(node->directory, 0700, error);
}

/* In the child: it ends with the bench, and speaks into its own file. */
static void become_node(const struct bench_node *node, pid_t bench) {
    char path[BENCH_NODE_PATH_BYTES + 16];
    files_join(path, sizeof path, node->directory, "stderr.log");
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != bench)
        _exit(1);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0 || dup2(file, STDOUT_FILENO) < 0 || dup2(file, STDERR_FILENO) < 0)
        _exit(74);
    signal(SIGPIPE, SIG_IGN);
}

static enum status fork_node(struct bench_node *node, bool *is_child, struct error *error) {
    pid_t bench = getpid();
    fflush(NULL);
    node->pid = fork();
    if (node->pid < 0) {
        node->pid = 0;
        return error_set(error, STATUS_IO, "cannot start %s: %s", node->name, strerror(errno));
    }
    *is_child = node->pid == 0;
    if (*is_child)
        become_node(node, bench);
    return STATUS_OK;
}

enum status bench_node_fork(struct bench_node *node, const char *directory, const char *name, bench_node_main body,
                            void *context, struct error *error) {
    int ends[2];
    bool is_child = false;
    enum status status = prepare(node, directory, name, error);
    if (status != STATUS_OK)
        return status;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return error_set(error, STATUS_IO, "cannot make a channel to %s: %s", name, strerror(errno));
    status = fork_node(node, &is_child, error);
    if (is_child) {
        close(ends[0]);
        _exit(body(context, node->directory, ends[1]));
    }
    close(ends[1]);
    node->channel = ends[0];
    return status;
}

enum status bench_node_exec(struct bench_node *node, const char *directory, const char *name,
                            const char *const *arguments, struct error *error) {
    char program[4096], *list[ARGUMENTS_MAX] = {program};
    bool is_child = false;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return error_set(error, STATUS_IO, "cannot find the program itself in /proc/self/exe");
    program[length] = 0;
    enum status status = prepare(node, directory, name, error);
    if (status != STATUS_OK)
        return status;
    int count = 1;
    for (; *arguments != NULL; arguments++) {
        CHECK(count + 1 < ARGUMENTS_MAX);
        const char *text = strcmp(*arguments, "{}") == 0 ? node->directory : *arguments;
        list[count++] = (char *)(uintptr_t)text; /* only read */
    }
    status = fork_node(node, &is_child, error);
    if (is_child) {
        execv(program, list);
        _exit(127);
    }
    return status;
}

/* ---- rounds ---- */

bool bench_node_wait(int channel) {
    char byte;
    ssize_t got;
    do
        got = read(channel, &byte, 1);
    while (got < 0 && errno == EINTR);
    return got == 1;
}

void bench_node_done(int channel) {
    ssize_t put;
    do
        put = write(channel, "", 1);
    while (put < 0 && errno == EINTR);
}

void bench_node_go(const struct bench_node *node) {
    (void)!send(node->channel, "", 1, MSG_NOSIGNAL); /* one that has ended is found by bench_node_await */
}

/* The last words that it wrote. */
static enum status ended(const struct bench_node *node, struct error *error) {
    char path[BENCH_NODE_PATH_BYTES + 16];
    uint8_t *text = NULL;
    size_t count = 0;
    struct error unread;
    files_join(path, sizeof path, node->directory, "stderr.log");
    if (files_read(path, 1 << 20, &text, &count, &unread) != STATUS_OK || count == 0)
        return error_set(error, STATUS_IO, "%s does not go on, and said nothing", node->name);
    const char *from = (const char *)text + (count > TAIL_BYTES ? count - TAIL_BYTES : 0);
    enum status status =
        error_set(error, STATUS_IO, "%s does not go on; it said: %.*s", node->name, (int)strcspn(from, "\n"), from);
    free(text);
    return status;
}

enum status bench_node_await(const struct bench_node *node, struct error *error) {
    return bench_node_wait(node->channel) ? STATUS_OK : ended(node, error);
}

enum status bench_node_await_file(const struct bench_node *node, const char *path, struct error *error) {
    uint64_t until_us = clock_now_us() + FILE_US;
    while (!files_exists(path)) {
        siginfo_t end = {0};
        if (clock_now_us() > until_us || waitid(P_PID, (id_t)node->pid, &end, WEXITED | WNOHANG | WNOWAIT) != 0 ||
            end.si_pid != 0)
            return ended(node, error);
        usleep(TURN_US);
    }
    return STATUS_OK;
}

uint64_t bench_node_cpu_ns(const struct bench_node *node) {
    clockid_t clock;
    struct timespec spent;
    if (clock_getcpuclockid(node->pid, &clock) != 0 || clock_gettime(clock, &spent) != 0)
        return 0;
    return (uint64_t)spent.tv_sec * 1000000000 + (uint64_t)spent.tv_nsec;
}

uint64_t bench_node_peak_bytes(const struct bench_node *node) {
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)node->pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && kib == 0 && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %llu kB", &kib) != 1)
            kib = 0;
    if (file != NULL)
        fclose(file);
    return kib * 1024;
}

/* ---- the end ---- */

void bench_node_stop(struct bench_node *node) {
    uint64_t until_us = clock_now_us() + STOP_US;
    if (node->channel >= 0) { /* later nodes hold copies of this end: a close alone would end nothing */
        shutdown(node->channel, SHUT_RDWR);
        close(node->channel);
    } else if (node->pid > 0) {
        kill(node->pid, SIGTERM);
    }
    while (node->pid > 0 && waitpid(node->pid, NULL, WNOHANG) == 0) {
        if (clock_now_us() > until_us)
            kill(node->pid, SIGKILL);
        usleep(TURN_US);
    }
    *node = (struct bench_node){.channel = -1};
}

enum status bench_directory_make(char path[BENCH_NODE_PATH_BYTES], struct error *error) {
    const char *above = getenv("TMPDIR");
    files_join(path, BENCH_NODE_PATH_BYTES, above != NULL && *above != 0 ? above : "/tmp", "atoll-bench.XXXXXX");
    if (mkdtemp(path) == NULL)
        return error_set(error, STATUS_IO, "cannot make a directory %s: %s", path, strerror(errno));
    return STATUS_OK;
}

static int remove_entry(const char *path, const struct stat *facts, int kind, struct FTW *place) {
    (void)facts;
    (void)kind;
    (void)place;
    return remove(path);
}

void bench_directory_remove(const char *path) {
    (void)!nftw(path, remove_entry, DESCRIPTORS_MAX, FTW_DEPTH | FTW_PHYS);
}
