/* bench_nodes: processes whose work is measured from outside: each does its part of a round when it is told to, and says when it is done.
 * Their CPU time is the kernel's, of all threads of the process. They end with the process that started them. */
#ifndef ATOLL_EXPERIMENTS_BENCH_NODES_H
#define ATOLL_EXPERIMENTS_BENCH_NODES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/status.h"

enum { BENCH_NODE_NAME_BYTES = 32, BENCH_NODE_PATH_BYTES = 512 };

struct bench_node {
    char name[BENCH_NODE_NAME_BYTES];
    char directory[BENCH_NODE_PATH_BYTES]; /* its own; stderr.log is in it */
    pid_t pid;                             /* 0 = none */
    int channel;                           /* a byte goes in: one round; a byte comes out: it is done. -1 = none */
};

/* What a node's process does: `channel` is its end. Its return is the exit code. */
typedef int (*bench_node_main)(void *context, const char *directory, int channel);

/* bench_node_fork: a process of this very program that runs `body`, in DIRECTORY/NAME, which is made. STATUS_IO. */
MUST_USE enum status bench_node_fork(struct bench_node *node, const char *directory, const char *name,
                                     bench_node_main body, void *context, struct error *error);

/* bench_node_exec: a command of this program, as `atoll ARGUMENTS...`; "{}" among them stands for the node's directory. It has no channel. */
MUST_USE enum status bench_node_exec(struct bench_node *node, const char *directory, const char *name,
                                     const char *const *arguments, struct error *error);

/* In the node: wait for the next round. false: there is none, leave. */
bool bench_node_wait(int channel);
/* In the node: the round, or the preparation before the first one, is done. */
void bench_node_done(int channel);

/* From outside: begin a round; wait until it is done. STATUS_IO: it has ended, and the text says what it said last. */
void bench_node_go(const struct bench_node *node);
MUST_USE enum status bench_node_await(const struct bench_node *node, struct error *error);

/* For one without a channel: until a file is there that it writes when it has begun. STATUS_IO: it has ended, or that took a minute. */
MUST_USE enum status bench_node_await_file(const struct bench_node *node, const char *path, struct error *error);

/* CPU time so far, user and system, all threads; 0 when it has ended. */
uint64_t bench_node_cpu_ns(const struct bench_node *node);
/* Its largest resident memory so far (VmHWM); 0 when it has ended. */
uint64_t bench_node_peak_bytes(const struct bench_node *node);

/* Ends it: the channel is closed, or SIGTERM where there is none; after a while SIGKILL. Does nothing to one that never began. */
void bench_node_stop(struct bench_node *node);

/* bench_directory_make: an empty directory under TMPDIR, or /tmp. STATUS_IO. */
MUST_USE enum status bench_directory_make(char path[BENCH_NODE_PATH_BYTES], struct error *error);
void bench_directory_remove(const char *path);

#endif
