#include "worker/aside.h"
#include "base/check.h"

static void *run(void *argument) {
    struct aside *aside = argument;
    aside->call(aside->argument);
    atomic_store(&aside->ended, true);
    return NULL;
}

void aside_wait(struct aside *aside) {
    if (aside->begun)
        pthread_join(aside->thread, NULL);
    aside->begun = false;
}

bool aside_is_free(struct aside *aside) {
    if (aside->begun && atomic_load(&aside->ended))
        aside_wait(aside);
    return !aside->begun;
}

void aside_run(struct aside *aside, void (*call)(void *argument), void *argument) {
    CHECK(aside_is_free(aside));
    aside->call = call;
    aside->argument = argument;
    atomic_store(&aside->ended, false);
    aside->begun = pthread_create(&aside->thread, NULL, run, aside) == 0;
    if (!aside->begun)
        call(argument);
}
