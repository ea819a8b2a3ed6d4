/* status: `atoll status DIR`, a live table of a running run. */
#ifndef ATOLL_EXPERIMENTS_STATUS_H
#define ATOLL_EXPERIMENTS_STATUS_H

#include <jansson.h>
#include <stdio.h>

int status_command(int argc, char **argv);

/* The table of one answer of the outer (outer/outer_control.c). Members that it lacks are shown as "-" or left away. */
void status_print(const json_t *status, FILE *to);

#endif
