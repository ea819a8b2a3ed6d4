/* crew: a few threads that live as long as their owner and do one job at a time, together with the thread that calls. Between jobs, and when one is
 * done before the others, a thread sleeps: nothing spins. They take no signals: those are for the process's other threads. */
#ifndef ATOLL_BASE_CREW_H
#define ATOLL_BASE_CREW_H

#include "base/status.h"

struct crew;

/* crew_create: `threads` >= 1 in all; the caller's own is one of them, so 1 starts none. STATUS_NO_MEMORY: a thread cannot be started; none is left. */
MUST_USE enum status crew_create(int threads, struct crew **crew, struct error *error);
/* Joins the threads; NULL is fine. Never during a crew_run. */
void crew_destroy(struct crew *crew);

int crew_threads(const struct crew *crew);

/* crew_run: job(context, thread) once on every thread, 0..threads-1, the caller's being 0; returns when all are done: what they wrote is then seen by
 * the caller. One caller at a time. */
void crew_run(struct crew *crew, void (*job)(void *context, int thread), void *context);

#endif
