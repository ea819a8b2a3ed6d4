/* local_run: `atoll train RUN.yaml`: one machine, real processes: one outer and its workers over loopback, started the way a person
 * would start them on separate machines. With `sync: off` one plain trainer. */
#ifndef ATOLL_EXPERIMENTS_LOCAL_RUN_H
#define ATOLL_EXPERIMENTS_LOCAL_RUN_H

int train_command(int argc, char **argv);

#endif
