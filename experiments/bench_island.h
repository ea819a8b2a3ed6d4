/* bench_island: a worker of a real run that does not train. It enrols, joins and syncs as every worker does, with its sync thread; its
 * parameters differ from the seed's by noise. A round is every_steps steps of no work, at which each fragment is sent and merged once,
 * and ends when the fate of all sends is known. The run's schedule must be one with all fragments under way at once: overlap_steps =
 * every_steps - 1 = fragments - 1. */
#ifndef ATOLL_EXPERIMENTS_BENCH_ISLAND_H
#define ATOLL_EXPERIMENTS_BENCH_ISLAND_H

/* A node's process (bench_node_main); context: the path of the join token. */
int bench_island_main(void *token, const char *directory, int channel);

#endif
