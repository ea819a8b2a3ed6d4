/* worker_daemon: `atoll worker --join TOKEN`: an island on any machine. */
#ifndef ATOLL_WORKER_WORKER_DAEMON_H
#define ATOLL_WORKER_WORKER_DAEMON_H

int worker_command(int argc, char **argv);

#endif
