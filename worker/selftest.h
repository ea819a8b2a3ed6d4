/* selftest: finds a machine whose arithmetic is not sound: a bad memory cell, an overclocked core. Such a machine
 * trains on, wrongly and in silence, and its contributions are averaged into everybody's model.
 *
 *   fixed computations   codecs, outer step, merge, mean over fixed values: the same bytes on every machine, and so
 *                        the same hashes, which stand in selftest.c
 *   recorded step        one training step of a small model of its own: forward, backward, AdamW. BLAS gives other
 *                        bits on other CPUs, so that its hash is recorded at the start and compared within this
 *                        process only
 *
 * What it cannot find: a machine that errs in the same way each time in the recorded step, or not while it is tested.
 * Knows nothing of the run. */
#ifndef ATOLL_WORKER_SELFTEST_H
#define ATOLL_WORKER_SELFTEST_H

#include "base/status.h"

struct selftest;

/* selftest_open: does everything once and the step twice, and records its hash. The step is done by `threads` >= 1 threads,
 * so that it comes by the cores that train; they change no bit. Takes 5 MB, about 20 ms. STATUS_DATA: as selftest_run, and this worker must not start. STATUS_CONFIG:
 * float_environment_check. STATUS_NO_MEMORY. */
MUST_USE enum status selftest_open(int threads, struct selftest **selftest, struct error *error);
void selftest_close(struct selftest *selftest); /* NULL is fine */

/* selftest_run: everything again, about 5 ms (one core of an Intel Xeon), between two steps of the compute thread;
 * the run's model and gradients stay as they are. STATUS_DATA: another result than recorded, or than on
 * every machine; the text holds both hashes: say it to the outer and the log, and stop the worker without
 * sending what it has trained since. STATUS_CONFIG: this thread's float environment was changed. */
MUST_USE enum status selftest_run(struct selftest *selftest, struct error *error);

/* The pinned hash of a fixed computation ("codec e3m0"), hex; NULL: none of that name. For the test that computes
 * them apart. */
const char *selftest_fixed_hash(const char *name);

/* selftest_command: `atoll worker --selftest`: many rounds; prints what was compared, how long it took, and "passed".
 * Returns the exit code: 0, 65 when results differ (the text on stderr), 71, 78. */
int selftest_command(void);

#endif
