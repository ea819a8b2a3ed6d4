/* status: `atoll status DIR`, a live table of a running run; `atoll token DIR`, a fresh line to paste. */
#ifndef ATOLL_EXPERIMENTS_STATUS_H
#define ATOLL_EXPERIMENTS_STATUS_H

int status_command(int argc, char **argv);
int token_command(int argc, char **argv);

#endif
