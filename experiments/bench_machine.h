/* bench_machine: what a measurement must be read with: the machine, the libraries, and what speaks against the numbers. */
#ifndef ATOLL_EXPERIMENTS_BENCH_MACHINE_H
#define ATOLL_EXPERIMENTS_BENCH_MACHINE_H

#include <jansson.h>
#include <stdio.h>

/* {"cpu", "cores", "version", "compiler", "vector_level", "blas_core", "blas_config", "bf16" (what makes bf16 products, or why nothing does), "t_wall", "load"}: the last is the load average
 * of the last minute, now. New reference. */
json_t *bench_machine_json(void);

/* bench_machine_warnings: a text for each thing that makes the numbers doubtful: an environment that steers OpenBLAS, other work on the
 * machine (`load`, runnable processes), more threads than cores, too few rounds, a build with sanitizers. New reference, an array, empty
 * when all is well. */
json_t *bench_machine_warnings(double load, int threads, int cores, int repeats);

void bench_machine_print(const json_t *machine, const json_t *warnings, FILE *to);

#endif
