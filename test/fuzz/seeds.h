/* seeds: the makers of the hand-made seed corpus, one file per kind of input, joined by make_seeds.c. */
#ifndef ATOLL_TEST_FUZZ_SEEDS_H
#define ATOLL_TEST_FUZZ_SEEDS_H

#include <stddef.h>

/* The file `name` of a target's corpus. */
void seed_write(const char *target, const char *name, const void *bytes, size_t count);

void seeds_comms(void);
void seeds_quant(void);
void seeds_machines(void);
void seeds_files(void);

#endif
