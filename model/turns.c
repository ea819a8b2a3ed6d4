#include "model/turns.h"
#include <string.h>
#include "base/check.h"

void turns_open(struct turns *turns, int *added, int tensors) {
    *turns = (struct turns){.tensors = tensors, .added = added};
    pthread_mutex_init(&turns->lock, NULL);
    pthread_cond_init(&turns->changed, NULL);
    turns_reset(turns);
}

void turns_close(struct turns *turns) {
    pthread_cond_destroy(&turns->changed);
    pthread_mutex_destroy(&turns->lock);
}

void turns_reset(struct turns *turns) {
    memset(turns->added, 0, (size_t)turns->tensors * sizeof *turns->added);
}

bool turns_is_next(struct turns *turns, int tensor, int pass) {
    pthread_mutex_lock(&turns->lock);
    bool next = turns->added[tensor] == pass;
    pthread_mutex_unlock(&turns->lock);
    return next;
}

bool turns_wait(struct turns *turns, int tensor, int pass) {
    pthread_mutex_lock(&turns->lock);
    bool waits = turns->added[tensor] != pass;
    CHECK(turns->added[tensor] <= pass);
    while (turns->added[tensor] != pass)
        pthread_cond_wait(&turns->changed, &turns->lock);
    pthread_mutex_unlock(&turns->lock);
    return waits;
}

void turns_pass_on(struct turns *turns, int tensor) {
    pthread_mutex_lock(&turns->lock);
    turns->added[tensor]++;
    pthread_cond_broadcast(&turns->changed);
    pthread_mutex_unlock(&turns->lock);
}
