/* sim_main: options, runs, reports. A failing run prints its seed, what does not hold, what happened last, and one command to repeat it. */
#include "sim/sim.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EVENTS_MAX = 2000000 };

struct options {
    uint64_t from, to, events;
    double hours;
    uint32_t workers;
    int intensity;
    bool print, statistics;
    uint64_t until_found; /* planted bugs: success is a violation */
    bool expects_failure;
};

static int usage(void) {
    fprintf(stderr, "sim: --seed N | --seeds A..B, [--workers N] [--intensity 0..3] [--hours H] [--events N] [--print] "
                    "[--statistics]\n"
                    "     [--expect-failure]  [--regressions FILE]\n");
    return 64;
}

static uint64_t sum_of_commits(void) {
    uint64_t sum = 0;
    for (uint32_t f = 0; f < world.config.fragments; f++)
        for (uint32_t at = world.outer.heads[f]; at != SIM_NOBODY; at = world.commits[at].parent)
            sum = sim_hash(sum, world.commits[at].state);
    return sum;
}

static bool run_once(uint64_t seed, uint64_t timing, const struct options *options) {
    struct sim_config config;
    sim_config_draw(&config, seed, options->workers, options->intensity);
    config.timing = timing;
    return sim_world_run(&config, options->events);
}

/* Strict and without faults: the same commits whatever the timing (invariant 9). */
static bool run_seed(uint64_t seed, const struct options *options, char problem[1024]) {
    if (!run_once(seed, 0, options)) {
        snprintf(problem, 1024, "%s", sim_violation_text());
        return false;
    }
    if (!world.config.strict || !world.calm || world.config.late_workers > 0) /* who comes late may come first */
        return true;
    uint64_t sum = sum_of_commits();
    if (!run_once(seed, 1, options)) {
        snprintf(problem, 1024, "with another timing: %s", sim_violation_text());
        return false;
    }
    if (!world.calm || sum == sum_of_commits())
        return true;
    snprintf(problem, 1024, "[9] with another timing the commits are others");
    return false;
}

static void print_config(const struct sim_config *c) {
    printf("seed %llu: %u workers (+%u late), %u fragments, H %llu, T %llu, %s %llu, quorum %d, min %u, stale %lld, "
           "slow %d (%llu us), intensity %u%s%s%s%s\n",
           (unsigned long long)c->seed, c->workers, c->late_workers, c->fragments, (unsigned long long)c->every_steps,
           (unsigned long long)c->last_step, c->strict ? "strict" : "auto, drift", (unsigned long long)c->drift,
           c->quorum, c->min_workers, (long long)c->stale, (int)c->slow_slot, (unsigned long long)c->slow_us,
           c->intensity, c->rollbacks ? ", rollbacks" : "", c->forgetful ? ", forgetful" : "",
           c->refusals ? ", refusals" : "", c->corruption ? ", corruption" : "");
}

/* Who waits for what. */
static void print_state(void) {
    static const char *const modes[] = {"catching up", "training", "waiting", "ending", "final"};
    static const char *const members[] = {"absent", "live", "done", "final", "lost"};
    static const char places[] = {'.', 'r', 'W', 'C', 'x'};
    const struct sim_outer *outer = &world.outer;
    printf("outer: %s, %s%s%s%s, run step %llu\n", outer->alive ? "alive" : "dead",
           outer->machine.leading ? "leads" : "does not lead", outer->machine.started ? ", started" : "",
           outer->machine.ended ? ", ended" : "", outer->machine.finished ? ", finished" : "",
           (unsigned long long)outer->machine.run_step);
    for (uint32_t f = 0; f < world.config.fragments; f++) {
        const struct round_fragment *fragment = &outer->machine.fragments[f];
        printf("  fragment %u version %llu%s, places ", f, (unsigned long long)fragment->version,
               fragment->closing ? " closing" : "");
        for (uint32_t slot = 0; slot < world.worker_count; slot++)
            putchar(places[fragment->places[slot].state]);
        printf(", fetched from %d\n", (int)outer->recovery.fetching_from[f]);
    }
    for (uint32_t slot = 0; slot < world.worker_count; slot++) {
        const struct sim_worker *worker = &world.workers[slot];
        printf("worker %u: %s, %s, phase %d, step %llu, session %llu%s, member %s since %llu\n", slot,
               worker->alive ? "alive" : "dead", modes[worker->mode], (int)worker->machine.phase,
               (unsigned long long)worker->step, (unsigned long long)worker->session, worker->joined ? ", joined" : "",
               members[outer->machine.members.slot[slot].state],
               (unsigned long long)outer->machine.members.slot[slot].joined_step);
        for (uint32_t f = 0; f < world.config.fragments; f++) {
            const struct sync_fragment *fragment = &worker->machine.fragments[f];
            const struct follow_fragment *follow = &worker->follow.list[f];
            printf("  fragment %u version %llu (held %llu, epoch %llu), work %llu%s%s%s, record base %llu step %llu "
                   "tokens %llu..%llu, "
                   "queue %u (%u)%s%s\n",
                   f, (unsigned long long)fragment->version, (unsigned long long)follow->held.version,
                   (unsigned long long)follow->held.epoch, (unsigned long long)fragment->work,
                   fragment->ready ? ", ready" : "", fragment->refused ? ", refused" : "",
                   fragment->record.active ? ", in flight" : "", (unsigned long long)fragment->record.base,
                   (unsigned long long)fragment->record.step, (unsigned long long)fragment->record.tokens_from,
                   (unsigned long long)fragment->record.tokens_to, follow->queue_count, worker->pieces[f].queue_count,
                   follow->fetching ? ", fetching" : "", follow->behind ? ", behind" : "");
        }
    }
}

static void print_failure(uint64_t seed, const struct options *options, const char *problem) {
    print_config(&world.config);
    printf("what happened last:\n");
    sim_trace_print();
    print_state();
    printf("seed %llu, event %llu: %s\n", (unsigned long long)seed, (unsigned long long)world.counts.events, problem);
    printf("repeat: sim --seed %llu", (unsigned long long)seed);
    if (options->workers > 0)
        printf(" --workers %u", options->workers);
    if (options->intensity >= 0)
        printf(" --intensity %d", options->intensity);
    printf(" --print\n");
}

static void add_counts(struct sim_counts *sum) {
    const uint64_t *from = (const uint64_t *)&world.counts;
    uint64_t *to = (uint64_t *)sum;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++)
        to[i] += from[i];
}

static void print_statistics(const struct sim_counts *c, uint64_t seeds, double seconds) {
#define SHOW(name) printf("%12llu " #name "\n", (unsigned long long)c->name)
    printf("%12llu seeds, %.0f per minute\n", (unsigned long long)seeds, (double)seeds * 60 / seconds);
    SHOW(events), SHOW(steps), SHOW(commits), SHOW(finished), SHOW(kills), SHOW(outer_kills), SHOW(cuts), SHOW(clogs);
    SHOW(pauses), SHOW(rollbacks), SHOW(snapshots), SHOW(replays), SHOW(taken), SHOW(covered), SHOW(resets),
        SHOW(expired);
    SHOW(differs), SHOW(refused);
#undef SHOW
}

static double seconds_now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static int run_seeds(const struct options *options) {
    struct sim_counts sum = {0};
    char problem[1024];
    double started = seconds_now(), until = options->hours > 0 ? started + options->hours * 3600 : 0;
    uint64_t seed = options->from;
    for (; until > 0 ? seconds_now() < until : seed <= options->to; seed++) {
        bool good = run_seed(seed, options, problem);
        add_counts(&sum);
        if (good)
            continue;
        if (options->expects_failure) {
            printf("found at seed %llu: %s\n", (unsigned long long)seed, problem);
            return 0;
        }
        print_failure(seed, options, problem);
        return 1;
    }
    if (options->statistics)
        print_statistics(&sum, seed - options->from, seconds_now() - started);
    else
        printf("%llu seeds, all fine\n", (unsigned long long)(seed - options->from));
    return options->expects_failure ? 1 : 0;
}

/* One line each: seed, workers (0 = drawn), intensity (-1 = drawn), then what it was. */
static int run_regressions(const char *path, struct options options) {
    char line[1024], problem[1024];
    unsigned long long seed;
    uint64_t count = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return 74;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '#' || line[0] == '\n')
            continue;
        if (sscanf(line, "%llu %u %d", &seed, &options.workers, &options.intensity) != 3) {
            fprintf(stderr, "%s: not a line of three numbers and a text: %s", path, line);
            fclose(file);
            return 65;
        }
        count++;
        if (run_seed(seed, &options, problem))
            continue;
        print_failure(seed, &options, problem);
        printf("it was: %s", line);
        fclose(file);
        return 1;
    }
    fclose(file);
    printf("%llu regressions, all fine\n", (unsigned long long)count);
    return count > 0 ? 0 : 65;
}

int main(int argc, char **argv) {
    struct options options = {.from = 1, .to = 1000, .events = EVENTS_MAX, .intensity = -1};
    const char *regressions = NULL;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(name, "--print") == 0) {
            options.print = true;
        } else if (strcmp(name, "--statistics") == 0) {
            options.statistics = true;
        } else if (strcmp(name, "--expect-failure") == 0) {
            options.expects_failure = true;
        } else if (value == NULL) {
            return usage();
        } else {
            i++;
            if (strcmp(name, "--seed") == 0) {
                options.from = options.to = strtoull(value, NULL, 10);
            } else if (strcmp(name, "--seeds") == 0) {
                char *rest;
                options.from = strtoull(value, &rest, 10);
                if (strncmp(rest, "..", 2) != 0)
                    return usage();
                options.to = strtoull(rest + 2, NULL, 10);
            } else if (strcmp(name, "--workers") == 0) {
                options.workers = (uint32_t)strtoul(value, NULL, 10);
            } else if (strcmp(name, "--intensity") == 0) {
                options.intensity = atoi(value);
            } else if (strcmp(name, "--hours") == 0) {
                options.hours = strtod(value, NULL);
            } else if (strcmp(name, "--events") == 0) {
                options.events = strtoull(value, NULL, 10);
            } else if (strcmp(name, "--regressions") == 0) {
                regressions = value;
            } else {
                return usage();
            }
        }
    }
    if (options.workers > SIM_WORKERS || options.intensity > 3)
        return usage();
    sim_trace_live = options.print;
    return regressions != NULL ? run_regressions(regressions, options) : run_seeds(&options);
}
