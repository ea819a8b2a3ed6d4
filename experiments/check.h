/* check: `atoll check RUN.yaml`: is the run file fine, and what does it come to? */
#ifndef ATOLL_EXPERIMENTS_CHECK_H
#define ATOLL_EXPERIMENTS_CHECK_H

/* check_command: argv[0] is "check". Returns the exit code: 0, 64 usage, 78 when the run file or its data files are wrong (all errors
 * on stderr). */
int check_command(int argc, char **argv);

#endif
