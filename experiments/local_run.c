#include "experiments/local_run.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/options.h"
#include "comms/message.h"
#include "experiments/local_resume.h"
#include "experiments/progress.h"
#include "experiments/said.h"
#include "experiments/summary.h"
#include "model/dataset.h"
#include "outer/run_file.h"
#include "worker/plain.h"

enum {
    TURN_US = 100000,
    TOKEN_US = 60000000,
    OUTER_LEAVES_US = 45000000,  /* alone; its own patience is less */
    WORKERS_LEAVE_US = 20000000, /* after the outer's orderly end */
    RESTART_US = 1000000,
    RESTARTS = 3,
    BUSY_US = 30000000, /* how long the processes of an earlier start may take to end */
    START_US = 15000000,
    CHILDREN_MAX = MESSAGE_WORKERS_MAX + 1,
    TAIL_BYTES = 1500
};
#define OUTER_PATIENCE "30s"

static volatile sig_atomic_t stop_signals;

static void on_stop_signal(int number) {
    (void)number;
    stop_signals++;
}

struct train_values {
    const char *run_file;
    const char *directory;
    const char *resume;
    int64_t workers;
    int64_t restarts;
    struct option_list set;
    bool json;
    bool quiet;
};
static const struct option_row train_rows[] = {
    OPTION_POSITIONAL_OPTIONAL(struct train_values, run_file, "RUN.yaml", "the run file of a new run"),
    OPTION_TEXT(struct train_values, directory, "dir", 0, "D", "run directory (default runs/NAME, runs/NAME-2, ...)"),
    OPTION_TEXT(struct train_values, resume, "resume", 0, "D",
                "continue the run in D, also one that has ended (--set inner.steps=N: with more steps)"),
    OPTION_INTEGER(struct train_values, workers, "workers", 0, "N", 1, MESSAGE_WORKERS_MAX,
                   "short for --set workers=N"),
    OPTION_LIST(struct train_values, set, "set", 0, "KEY=VALUE", "change one key of the run file"),
    OPTION_INTEGER(struct train_values, restarts, "restarts", 0, "N", 0, 1000000,
                   "how often a child that was killed is started again (default 3)"),
    OPTION_FLAG(struct train_values, quiet, "quiet", 0, "no progress lines"),
    OPTION_FLAG(struct train_values, json, "json", 0, "print the final numbers as JSON"),
    OPTION_END,
};
static const struct option_command train_options = {"train",
                                                    "train on this machine: one outer and its workers, real processes",
                                                    train_rows, "Plots afterwards: atoll report D -o OUT"};

struct child {
    char name[32]; /* "outer", "worker-3" */
    pid_t pid;     /* 0 = ended */
    int restarts;
    uint64_t ended_us;
    bool killed;   /* by a signal */
    int exit_code; /* 128 + signal when killed */
};

struct local_run {
    const struct train_values *values;
    struct run_file run;
    char directory[RUN_PATH_BYTES];
    char program[4096];
    struct child children[CHILDREN_MAX]; /* the outer first (none with sync off) */
    int count;
    int first_worker;
    int signals_passed_on;
    bool stopping; /* the children were told to stop */
    bool gave_up;  /* a worker ended before the first step, and not by a kill: the run cannot start */
    char token[RUN_PATH_BYTES];
    struct progress progress;
    struct said outer_said;
    struct said token_said; /* the outer's line for the workers */
    int waits_said;         /* so often this process of the outer said that it waits */
    char wait_shown[SAID_LINE_BYTES];
};

/* ---- set-up ---- */

static enum status check_values(const struct train_values *values, struct error *error) {
    if (values->resume == NULL && values->run_file == NULL)
        return error_set(error, STATUS_USAGE,
                         "RUN.yaml is missing: the run file of a new run; or --resume D, to continue an earlier one "
                         "(atoll train --help)");
    if (values->resume != NULL && values->run_file != NULL)
        return error_set(
            error, STATUS_USAGE,
            "%s and --resume %s: a run is continued with its own run file, %s/run.yaml (--set changes a key "
            "of it); give one of the two",
            values->run_file, values->resume, values->resume);
    if (values->resume != NULL && values->directory != NULL)
        return error_set(error, STATUS_USAGE, "--dir and --resume: a run is continued in its own directory, %s",
                         values->resume);
    return files_check_directory_name(values->resume, error);
}

/* *complete: the run that is to be continued has nothing left to do. */
static enum status load(struct local_run *local, bool *complete, struct error *error) {
    const struct train_values *values = local->values;
    const char *overrides[OPTION_LIST_MAX + 1];
    char workers[32];
    int count = 0;
    for (; count < values->set.count; count++)
        overrides[count] = values->set.items[count];
    *complete = false;
    if (values->resume != NULL)
        return local_resume_load(values->resume, overrides, count, values->workers, &local->run, complete, error);
    if (values->workers > 0) {
        snprintf(workers, sizeof workers, "workers=%lld", (long long)values->workers);
        overrides[count++] = workers;
    }
    return run_file_load(values->run_file, overrides, count, RUN_FILE_DATA_NEEDED, &local->run, error);
}

/* A run that cannot be evaluated although it should is refused here, where the user sees it. */
static enum status check_held_out(const struct run_file *run, struct error *error) {
    struct dataset *held_out;
    if (run->data.val_count == 0)
        return STATUS_OK;
    enum status status =
        dataset_open_held_out(&run->data, &run->model, run->base_directory, run->eval.windows, &held_out, error);
    if (status == STATUS_OK)
        dataset_close(held_out);
    return status;
}

static bool is_taken(const char *directory) {
    char path[RUN_PATH_BYTES + 16];
    files_join(path, sizeof path, directory, "run.yaml");
    return files_exists(path);
}

static enum status choose_directory(struct local_run *local, struct error *error) {
    char *directory = local->directory;
    if (local->values->resume != NULL) {
        snprintf(directory, RUN_PATH_BYTES, "%s", local->values->resume);
        return STATUS_OK;
    }
    enum status status = files_check_directory_name(local->values->directory, error);
    if (status != STATUS_OK)
        return status;
    if (local->values->directory != NULL) {
        snprintf(directory, RUN_PATH_BYTES, "%s", local->values->directory);
        if (is_taken(directory))
            return error_set(error, STATUS_CONFIG, "%s holds an earlier run; choose another --dir, or remove it",
                             directory);
        return STATUS_OK;
    }
    snprintf(directory, RUN_PATH_BYTES, "runs/%s", local->run.name);
    for (int n = 2; is_taken(directory); n++)
        snprintf(directory, RUN_PATH_BYTES, "runs/%s-%d", local->run.name, n);
    return STATUS_OK;
}

/* Ours alone until we end: a second `atoll train` stays out. */
static enum status take_directory(struct local_run *local, struct error *error) {
    enum status status = files_make_directory(local->directory, 0755, error);
    return status == STATUS_OK ? files_lock(local->directory, error) : status;
}

static enum status write_run_file(struct local_run *local, struct error *error) {
    char path[RUN_PATH_BYTES];
    char *text = run_file_text(&local->run, false, true);
    files_join(path, sizeof path, local->directory, "run.yaml");
    enum status status = files_write_atomic(path, text, strlen(text), 0644, error);
    free(text);
    return status;
}

/* A launcher that was killed leaves children that are still saving what they have. And the outer to come goes back to the ports that
 * join.token tells: without it, it takes others, which it must where somebody else listens now. */
static enum status clear_the_way(struct local_run *local, struct error *error) {
    uint64_t until_us = clock_now_us() + BUSY_US;
    const char *busy = NULL;
    bool said = local->values->quiet;
    while (stop_signals == 0 && (busy = local_resume_busy(local->directory, &local->run)) != NULL) {
        if (clock_now_us() > until_us)
            return error_set(error, STATUS_AGAIN, "%s of an earlier start still runs in %s (its pid is in %s/%s/lock)",
                             busy, local->directory, local->directory, busy);
        if (!said)
            fprintf(stderr, "waiting for %s of an earlier start to end\n", busy);
        said = true;
        usleep(TURN_US);
    }
    files_join(local->token, sizeof local->token, local->directory, "outer/join.token");
    if (local_resume_ports_taken(local->token) && unlink(local->token) != 0)
        return error_set(error, STATUS_IO, "cannot remove %s: %s", local->token, strerror(errno));
    return STATUS_OK;
}

/* ---- children ---- */

/* In the child: own process group (the terminal's Ctrl-C reaches the launcher only), end with the launcher, output into a file. */
static void become_child(const char *directory, const char *name, pid_t launcher) {
    char path[RUN_PATH_BYTES];
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != launcher)
        _exit(1);
    snprintf(path, sizeof path, "%.400s/%s/stderr.log", directory, name);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0 || dup2(file, STDOUT_FILENO) < 0 || dup2(file, STDERR_FILENO) < 0)
        _exit(74);
}

/* arguments NULL: the plain trainer, in this very program. */
static enum status spawn(struct local_run *local, struct child *child, char *const *arguments, struct error *error) {
    char path[RUN_PATH_BYTES];
    snprintf(path, sizeof path, "%.400s/%s", local->directory, child->name);
    enum status status = files_make_directory(path, 0755, error);
    if (status != STATUS_OK)
        return status;
    fflush(NULL);
    pid_t launcher = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return error_set(error, STATUS_IO, "cannot start %s: %s", child->name, strerror(errno));
    if (pid == 0) {
        become_child(local->directory, child->name, launcher);
        if (arguments == NULL)
            _exit(worker_plain(&local->run, path));
        execv(local->program, arguments);
        _exit(127);
    }
    child->pid = pid;
    return STATUS_OK;
}

static enum status spawn_outer(struct local_run *local, struct child *child, struct error *error) {
    char run_yaml[RUN_PATH_BYTES], directory[RUN_PATH_BYTES];
    files_join(run_yaml, sizeof run_yaml, local->directory, "run.yaml");
    files_join(directory, sizeof directory, local->directory, child->name);
    files_join(local->token, sizeof local->token, directory, "join.token");
    char *arguments[] = {local->program, "outer",          run_yaml,      "--dir",     directory,
                         "--listen",     "127.0.0.1:0",    "--advertise", "127.0.0.1", "--patience",
                         OUTER_PATIENCE, "--stop-workers", NULL};
    return spawn(local, child, arguments, error);
}

static enum status spawn_worker(struct local_run *local, struct child *child, struct error *error) {
    char directory[RUN_PATH_BYTES];
    files_join(directory, sizeof directory, local->directory, child->name);
    char *arguments[] = {local->program, "worker", "--join",    local->token, "--dir",
                         directory,      "--name", child->name, NULL};
    return spawn(local, child, arguments, error);
}

/* The first start of a child, and any later one. */
static enum status spawn_child(struct local_run *local, struct child *child, struct error *error) {
    if (local->run.sync.off)
        return spawn(local, child, NULL, error);
    return child == &local->children[0] ? spawn_outer(local, child, error) : spawn_worker(local, child, error);
}

static enum status add_child(struct local_run *local, const char *name, struct error *error) {
    struct child *child = &local->children[local->count++];
    snprintf(child->name, sizeof child->name, "%s", name);
    return spawn_child(local, child, error);
}

/* It was killed, and is to be started again. */
static bool comes_again(const struct local_run *local, const struct child *child) {
    return child->pid == 0 && child->killed && child->restarts < local->values->restarts && stop_signals == 0 &&
           !local->stopping;
}

static bool is_gone(const struct local_run *local, const struct child *child) {
    return child->pid == 0 && !comes_again(local, child);
}

static void say_end(const struct local_run *local, const struct child *child) {
    if (child->exit_code == 0 || stop_signals > 0)
        return;
    if (child->killed)
        fprintf(stderr, "%s was killed by signal %d%s\n", child->name, child->exit_code - 128,
                comes_again(local, child) ? ""
                : child->restarts > 0     ? ", and is not started again (--restarts)"
                                          : "");
    else
        fprintf(stderr, "%s ended with exit code %d; its output is in %s/%s/stderr.log\n", child->name,
                child->exit_code, local->directory, child->name);
}

static void reap(struct local_run *local) {
    for (int i = 0; i < local->count; i++) {
        struct child *child = &local->children[i];
        int state;
        if (child->pid == 0 || waitpid(child->pid, &state, WNOHANG) != child->pid)
            continue;
        child->pid = 0;
        child->killed = WIFSIGNALED(state);
        child->exit_code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
        child->ended_us = clock_now_us();
        if (i >= local->first_worker)
            progress_gone(&local->progress, i - local->first_worker, true);
        progress_clear(&local->progress);
        say_end(local, child);
    }
}

/* Start again who was killed, when the others have noticed. */
static void restart_children(struct local_run *local) {
    struct error error;
    for (int i = 0; i < local->count; i++) {
        struct child *child = &local->children[i];
        if (!comes_again(local, child) || clock_now_us() - child->ended_us < RESTART_US)
            continue;
        child->restarts++;
        progress_clear(&local->progress);
        if (spawn_child(local, child, &error) != STATUS_OK) {
            fprintf(stderr, "atoll train: %s\n", error.text);
            child->ended_us = clock_now_us(); /* and once more, while restarts are left */
            continue;
        }
        fprintf(stderr, "%s is started again\n", child->name);
        if (i < local->first_worker)
            local->waits_said = 0;
        progress_restarted(&local->progress);
        if (i >= local->first_worker)
            progress_gone(&local->progress, i - local->first_worker, false);
    }
}

static void signal_children(struct local_run *local, int number) {
    local->stopping = true;
    for (int i = 0; i < local->count; i++)
        if (local->children[i].pid != 0)
            kill(local->children[i].pid, number);
}

/* Those that run or will be started again. */
static int count_there(const struct local_run *local, int first) {
    int there = 0;
    for (int i = first; i < local->count; i++)
        there += !is_gone(local, &local->children[i]);
    return there;
}

/* An outer that waits for what may never come, such as state that is gone, must not look like one that is about to begin. What it says once
 * only is over within seconds. */
static void show_why_it_waits(struct local_run *local) {
    const char *why = said_newest(&local->outer_said, "not leading yet: ");
    if (why == NULL || ++local->waits_said < 2 || strcmp(why, local->wait_shown) == 0)
        return;
    snprintf(local->wait_shown, sizeof local->wait_shown, "%s", why);
    progress_clear(&local->progress);
    fprintf(stderr, "outer: %s\n", why);
}

/* One turn of waiting: signals passed on, ended children noted and started again, progress. */
static void turn(struct local_run *local) {
    usleep(TURN_US);
    if (stop_signals > local->signals_passed_on) {
        progress_clear(&local->progress);
        fprintf(stderr, local->signals_passed_on == 0 ? "stopping...\n" : "stopping at once\n");
        signal_children(local, local->signals_passed_on == 0 ? SIGTERM : SIGKILL);
        local->signals_passed_on = stop_signals;
    }
    reap(local);
    restart_children(local);
    if (local->first_worker > 0)
        show_why_it_waits(local);
    progress_tick(&local->progress, clock_now_us());
}

static void show_tail(const struct local_run *local, const char *name) {
    char path[RUN_PATH_BYTES];
    uint8_t *text;
    size_t count;
    struct error error;
    snprintf(path, sizeof path, "%.400s/%s/stderr.log", local->directory, name);
    if (files_read(path, 16 << 20, &text, &count, &error) != STATUS_OK)
        return;
    const char *from = count > TAIL_BYTES ? (const char *)text + count - TAIL_BYTES : (const char *)text;
    fprintf(stderr, "--- the end of %s ---\n%s", path, from);
    free(text);
}

/* ---- the run ---- */

/* A join.token that is there may be of an earlier start: only what the outer says tells that it is its own. */
static enum status start_outer(struct local_run *local, struct error *error) {
    char path[RUN_PATH_BYTES];
    files_join(path, sizeof path, local->directory, "outer/stderr.log");
    said_open(&local->outer_said, path);
    said_open(&local->token_said, path);
    enum status status = add_child(local, "outer", error);
    uint64_t until_us = clock_now_us() + TOKEN_US;
    while (status == STATUS_OK && stop_signals == 0 &&
           said_newest(&local->token_said, "atoll worker --join ") == NULL) {
        turn(local);
        if (is_gone(local, &local->children[0]))
            return error_set(error, STATUS_IO, "the outer did not start");
        if (clock_now_us() > until_us)
            return error_set(error, STATUS_IO, "the outer did not start within %d s", TOKEN_US / 1000000);
    }
    return status;
}

static enum status start(struct local_run *local, struct error *error) {
    local->first_worker = local->run.sync.off ? 0 : 1;
    enum status status = local->run.sync.off ? STATUS_OK : start_outer(local, error);
    for (int64_t k = 0; status == STATUS_OK && stop_signals == 0 && k < local->run.workers; k++) {
        char name[32];
        snprintf(name, sizeof name, "worker-%lld", (long long)k);
        status = add_child(local, name, error);
    }
    return status;
}

/* Before its first step a run needs all its workers. 75 may mean that the run has started meanwhile without it. */
static void mind_the_start(struct local_run *local) {
    if (progress_started(&local->progress) || progress_continues(&local->progress) || stop_signals > 0 ||
        local->gave_up)
        return;
    for (int i = local->first_worker; i < local->count; i++) {
        const struct child *child = &local->children[i];
        if (!is_gone(local, child) || child->exit_code == 0)
            continue;
        bool late = clock_now_us() - child->ended_us >= START_US;
        local->gave_up = local->gave_up || child->exit_code != status_exit_code(STATUS_AGAIN) || late;
    }
    if (local->gave_up)
        signal_children(local, SIGTERM);
}

/* How long those who are left may take to leave by themselves; UINT64_MAX: the outer and workers are there. Workers hold their state and
 * would dial a lost outer for ever. */
static uint64_t time_to_leave_us(const struct local_run *local) {
    bool workers = count_there(local, local->first_worker) > 0;
    bool outer = local->first_worker == 0 || !is_gone(local, &local->children[0]);
    if (workers)
        return outer ? UINT64_MAX : local->children[0].exit_code == 0 ? WORKERS_LEAVE_US : 0;
    return OUTER_LEAVES_US;
}

/* Until everybody left. */
static void wait_for_all(struct local_run *local) {
    uint64_t since_us = 0, asked_us = 0;
    while (count_there(local, 0) > 0) {
        turn(local);
        mind_the_start(local);
        uint64_t limit_us = time_to_leave_us(local), now_us = clock_now_us();
        since_us = limit_us == UINT64_MAX ? 0 : since_us == 0 ? now_us : since_us;
        if (since_us == 0 || now_us - since_us < limit_us || now_us - asked_us < OUTER_LEAVES_US)
            continue;
        signal_children(local, SIGTERM);
        asked_us = now_us;
    }
}

/* The outer's verdict is the run's; a plain trainer's its own. Workers that drop out of a running run are reported, not fatal; one that is
 * lost before the start is: its own exit code tells why. Who was killed, or was told to stop by somebody else, says 75: there is something
 * to continue. */
static int exit_code_of(const struct local_run *local) {
    int code = local->children[0].exit_code;
    for (int i = 0; local->gave_up && code == 0 && i < local->count; i++)
        code = local->children[i].exit_code;
    bool trained = false; /* somebody stayed to the end, or all were told to stop */
    for (int i = local->first_worker; i < local->count; i++)
        trained = trained || local->children[i].exit_code == 0;
    bool whole = stop_signals > 0 || (trained && local_resume_is_complete(local->directory, &local->run));
    if ((code == 0 && (!whole || local->gave_up)) || (code >= 128 && stop_signals == 0))
        code = status_exit_code(STATUS_AGAIN);
    return code;
}

static void print_results(const struct local_run *local) {
    char model[RUN_PATH_BYTES];
    struct error error;
    struct run_set *set = calloc(1, sizeof *set);
    CHECK(set != NULL);
    if (run_set_add(set, local->directory, &error) != STATUS_OK) {
        fprintf(stderr, "atoll train: %s\n", error.text);
    } else if (local->values->json) {
        json_t *json = summary_json(set);
        json_dumpf(json, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(json);
    } else {
        summary_print(set, stdout);
        files_join(model, sizeof model, local->directory, local->run.sync.off ? "worker-0/model" : "outer/model");
        printf("%s%s%splots: atoll report %s -o %s/report\n", files_exists(model) ? "model: " : "",
               files_exists(model) ? model : "", files_exists(model) ? "   " : "", local->directory, local->directory);
    }
    fflush(stdout);
    run_set_free(set);
    free(set);
}

static enum status prepare(struct local_run *local, bool *complete, struct error *error) {
    ssize_t length = readlink("/proc/self/exe", local->program, sizeof local->program - 1);
    if (length <= 0)
        return error_set(error, STATUS_IO, "cannot find the program itself in /proc/self/exe");
    enum status status = check_values(local->values, error);
    if (status == STATUS_OK)
        status = load(local, complete, error);
    if (status == STATUS_OK)
        status = check_held_out(&local->run, error);
    if (status == STATUS_OK)
        status = choose_directory(local, error);
    if (status == STATUS_OK)
        status = take_directory(local, error);
    if (status == STATUS_OK && !*complete && local->values->resume != NULL)
        status = clear_the_way(local, error);
    if (status == STATUS_OK && !*complete)
        status = write_run_file(local, error);
    return status;
}

static void say_begin(const struct local_run *local) {
    const struct run_file *run = &local->run;
    if (!local->values->quiet)
        fprintf(stderr, "run %s in %s: %lld worker%s, %lld steps%s\n", run->name, local->directory,
                (long long)run->workers, run->workers == 1 ? "" : "s", (long long)run->inner.steps,
                local->values->resume != NULL ? ", continued" : "");
}

static enum status run_local(struct local_run *local, int *exit_code, struct error *error) {
    bool complete;
    enum status status = prepare(local, &complete, error);
    if (status != STATUS_OK)
        return status;
    if (complete) {
        fprintf(stderr,
                "run %s in %s has trained all of its %lld steps; --set inner.steps=N with more of them goes on\n",
                local->run.name, local->directory, (long long)local->run.inner.steps);
        print_results(local);
        return STATUS_OK;
    }
    say_begin(local);
    progress_open(&local->progress, local->directory, (int)local->run.workers, local->run.inner.steps,
                  local->values->quiet);
    status = start(local, error);
    if (status != STATUS_OK)
        signal_children(local, SIGTERM);
    wait_for_all(local);
    progress_close(&local->progress);
    *exit_code = exit_code_of(local);
    bool began = progress_started(&local->progress) || progress_continues(&local->progress);
    if (began && status == STATUS_OK)
        print_results(local);
    for (int i = 0; i < local->count && *exit_code != 0; i++)
        if (local->children[i].exit_code != 0)
            show_tail(local, local->children[i].name);
    if (began && !local->values->quiet && (*exit_code != 0 || stop_signals > 0))
        fprintf(stderr, "to continue this run: atoll train --resume %s\n", local->directory);
    return stop_signals > 0 ? STATUS_OK : status;
}

int train_command(int argc, char **argv) {
    struct train_values values = {.restarts = RESTARTS};
    struct error error = {0};
    int exit_code;
    if (!options_or_exit(&train_options, argc, argv, &values, &exit_code))
        return exit_code;
    struct sigaction action = {.sa_handler = on_stop_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    struct local_run *local = calloc(1, sizeof *local);
    CHECK(local != NULL);
    local->values = &values;
    exit_code = 0;
    enum status status = run_local(local, &exit_code, &error);
    free(local);
    if (status != STATUS_OK) {
        fprintf(stderr, "atoll train: %s\n", error.text);
        return exit_code != 0 ? exit_code : status_exit_code(status);
    }
    return exit_code;
}
