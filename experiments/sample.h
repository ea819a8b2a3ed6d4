/* sample: `atoll sample MODEL`: text from a model directory. */
#ifndef ATOLL_EXPERIMENTS_SAMPLE_H
#define ATOLL_EXPERIMENTS_SAMPLE_H

int sample_command(int argc, char **argv);

#endif
