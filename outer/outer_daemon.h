/* outer_daemon: `atoll outer RUN.yaml --dir D`: the hub that leads the rounds. Needs no GPU and no data; workers dial out to it. */
#ifndef ATOLL_OUTER_OUTER_DAEMON_H
#define ATOLL_OUTER_OUTER_DAEMON_H

int outer_command(int argc, char **argv);

#endif
