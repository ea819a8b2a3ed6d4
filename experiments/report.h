/* report: `atoll report DIR... -o OUT`: table, CSV, plots and a page from the logs of runs. */
#ifndef ATOLL_EXPERIMENTS_REPORT_H
#define ATOLL_EXPERIMENTS_REPORT_H

/* report_command: argv[0] = "report". Returns the exit code. */
int report_command(int argc, char **argv);

#endif
