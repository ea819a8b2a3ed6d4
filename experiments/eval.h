/* eval: `atoll eval MODEL --data GLOB`: held-out loss of a model directory. */
#ifndef ATOLL_EXPERIMENTS_EVAL_H
#define ATOLL_EXPERIMENTS_EVAL_H

int eval_command(int argc, char **argv);

#endif
