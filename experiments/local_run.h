/* local_run: `atoll train RUN.yaml`, `atoll train --resume D`: one machine, real processes: one outer and its workers over loopback,
 * started the way a person would start them on separate machines. With `sync: off` one plain trainer.
 *
 * A child that is killed is started again a second later, up to --restarts times, and goes on from what is in its directory; the others
 * train on meanwhile. One that fails by itself would fail again: it is reported, and the run goes on without it, unless it is the outer. */
#ifndef ATOLL_EXPERIMENTS_LOCAL_RUN_H
#define ATOLL_EXPERIMENTS_LOCAL_RUN_H

int train_command(int argc, char **argv);

#endif
