/* turns: the order in which passes add to the gradients. Passes run on several threads at once, but into one gradient block, and a sum of floats depends
 * on its order: so each tensor is added to in the order of the passes, whatever the threads, and the bits are those of one thread.
 *
 *     thread 0 | pass 0: forward  | head | down | gate |  ...        | pass 2: forward | head | ...
 *     thread 1 | pass 1: forward  | wait | head | down | gate |  ...        | pass 3: forward | ...
 *
 * Every pass adds to each tensor once, so that the threads follow each other at a distance of one product. Who waits sleeps. */
#ifndef ATOLL_MODEL_TURNS_H
#define ATOLL_MODEL_TURNS_H

#include <pthread.h>
#include <stdbool.h>

struct turns {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int tensors;
    int *added; /* (tensors,) under lock: passes that have added */
};

/* added (tensors,): the caller's, until turns_close. */
void turns_open(struct turns *turns, int *added, int tensors);
void turns_close(struct turns *turns);

/* Pass 0 is next everywhere. While no pass runs. */
void turns_reset(struct turns *turns);

/* Whether turns_wait would return at once. */
bool turns_is_next(struct turns *turns, int tensor, int pass);

/* turns_wait: until all passes before `pass` have added to the tensor. Returns whether it had to wait. Passes are begun in order, so that the first that
 * has not ended never waits. */
bool turns_wait(struct turns *turns, int tensor, int pass);

/* The pass whose turn it is has added. */
void turns_pass_on(struct turns *turns, int tensor);

#endif
