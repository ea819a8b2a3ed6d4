/* aside: one call at a time in a thread of its own, for what may wait long where nobody may wait: closing a link waits for libzmq's I/O thread,
 * which a name that does not resolve can hold for many seconds. */
#ifndef ATOLL_WORKER_ASIDE_H
#define ATOLL_WORKER_ASIDE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Zeroed: nothing runs. Used by one thread. */
struct aside {
    pthread_t thread;
    bool begun;
    atomic_bool ended;
    void (*call)(void *argument);
    void *argument;
};

/* Nothing runs (any more). Never waits. */
bool aside_is_free(struct aside *aside);
/* CHECKs that it is free. Where no thread can be had, the call is made at once. */
void aside_run(struct aside *aside, void (*call)(void *argument), void *argument);
void aside_wait(struct aside *aside);

#endif
