/* failpoint: named places where a test makes this process die, stand still, or a system call fail. For tests only: all are off unless
 * the environment variable ATOLL_FAILPOINT names them:
 *
 *   ATOLL_FAILPOINT=NAME=ACTION[@N][+],...      files.write=ENOSPC@3+,outer.commit.logged=kill
 *
 *   kill              SIGKILL to this process                 @N   at the N-th hit of the name in this process (default 1)
 *   stop              SIGSTOP to this process, all threads    +    and at every later hit too
 *   sleep:DURATION    this thread sleeps, then goes on
 *   short             a write takes half of its bytes
 *   ENOSPC, EIO, ...  the call fails with this errno
 *
 * A name is component.noun.verb in lower case, where a participle says that it is done: outer.commit.logged stands right behind
 * the commit's fsync. `grep -r failpoint_` finds them all. A name that nothing hits does nothing, so a test waits for the line that each
 * action writes to stderr before it acts: "failpoint outer.commit.logged: kill". */
#ifndef ATOLL_BASE_FAILPOINT_H
#define ATOLL_BASE_FAILPOINT_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "base/status.h"

enum { FAILPOINT_SHORT = -1 };

/* failpoint_open: read ATOLL_FAILPOINT; counts start at zero. Call it before the first thread starts. STATUS_USAGE, all off: the
 * variable is malformed, the text says where. */
MUST_USE enum status failpoint_open(struct error *error);

/* failpoint_hit: 0 = go on (one load when nothing is set), an errno value to fail with, or FAILPOINT_SHORT. Off before failpoint_open.
 * Any thread; errno is kept. Where only kill, stop and sleep make sense, ignore the result. */
extern atomic_bool failpoint_armed;
int failpoint_hit_armed(const char *name);
static inline int failpoint_hit(const char *name) {
    return atomic_load_explicit(&failpoint_armed, memory_order_acquire) ? failpoint_hit_armed(name) : 0;
}

/* failpoint_fails: for a system call that tells its failure by errno: `if (failpoint_fails("files.fsync") || fsync(file) != 0)`.
 * Sets errno when true; `short` counts as EIO. */
static inline bool failpoint_fails(const char *name) {
    int reason = failpoint_hit(name);
    if (reason != 0)
        errno = reason > 0 ? reason : EIO;
    return reason != 0;
}

#endif
