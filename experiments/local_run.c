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
#include "experiments/progress.h"
#include "experiments/summary.h"
#include "model/dataset.h"
#include "outer/run_file.h"
#include "worker/plain.h"

enum {
    TURN_US = 100000,
    TOKEN_US = 60000000,
    OUTER_LEAVES_US = 20000000,
    RESTART_US = 1000000,
    RESTARTS_MAX = 3,
    START_US = 15000000,
    CHILDREN_MAX = MESSAGE_WORKERS_MAX + 1,
    TAIL_BYTES = 1500
};

static volatile sig_atomic_t stop_signals;

static void on_stop_signal(int number) {
    (void)number;
    stop_signals++;
}

struct train_values {
    const char *run_file;
    const char *directory;
    int64_t workers;
    struct option_list set;
    bool json;
    bool quiet;
};
static const struct option_row train_rows[] = {
    OPTION_POSITIONAL(struct train_values, run_file, "RUN.yaml", "the run file"),
    OPTION_TEXT(struct train_values, directory, "dir", 0, "D", "run directory (default runs/NAME, runs/NAME-2, ...)"),
    OPTION_INTEGER(struct train_values, workers, "workers", 0, "N", 1, MESSAGE_WORKERS_MAX,
                   "short for --set workers=N"),
    OPTION_LIST(struct train_values, set, "set", 0, "KEY=VALUE", "change one key of the run file"),
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
    int exit_code; /* 128 + signal when killed */
};

struct local_run {
    const struct train_values *values;
    struct run_file run;
    char directory[RUN_PATH_BYTES];
    char program[4096];
    struct child children[CHILDREN_MAX]; /* the outer first (none with sync off) */
    int count;
    int signals_passed_on;
    bool gave_up; /* a worker ended before the first step, and not by a kill: the run cannot start */
    char token[RUN_PATH_BYTES];
    struct progress progress;
};

/* ---- set-up ---- */

static enum status load(struct local_run *local, struct error *error) {
    const struct train_values *values = local->values;
    const char *overrides[OPTION_LIST_MAX + 1];
    char workers[32];
    int count = 0;
    for (; count < values->set.count; count++)
        overrides[count] = values->set.items[count];
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

static enum status make_directory(struct local_run *local, struct error *error) {
    char path[RUN_PATH_BYTES];
    enum status status = files_make_directory(local->directory, 0755, error);
    if (status != STATUS_OK)
        return status;
    char *text = run_file_text(&local->run, false, true);
    files_join(path, sizeof path, local->directory, "run.yaml");
    status = files_write_atomic(path, text, strlen(text), 0644, error);
    free(text);
    return status;
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

static struct child *add_child(struct local_run *local, const char *name) {
    struct child *child = &local->children[local->count++];
    snprintf(child->name, sizeof child->name, "%s", name);
    return child;
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

static enum status spawn_worker(struct local_run *local, struct child *child, struct error *error) {
    char directory[RUN_PATH_BYTES];
    files_join(directory, sizeof directory, local->directory, child->name);
    char *arguments[] = {local->program, "worker", "--join",    local->token, "--dir",
                         directory,      "--name", child->name, NULL};
    return spawn(local, child, arguments, error);
}

static void reap(struct local_run *local) {
    int first_worker = local->run.sync.off ? 0 : 1;
    for (int i = 0; i < local->count; i++) {
        struct child *child = &local->children[i];
        int state;
        if (child->pid == 0 || waitpid(child->pid, &state, WNOHANG) != child->pid)
            continue;
        child->pid = 0;
        child->exit_code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
        child->ended_us = clock_now_us();
        if (i >= first_worker)
            progress_gone(&local->progress, i - first_worker, true);
        if (child->exit_code != 0 && stop_signals == 0) {
            progress_clear(&local->progress);
            fprintf(stderr, "%s ended with exit code %d; its output is in %s/%s/stderr.log\n", child->name,
                    child->exit_code, local->directory, child->name);
        }
    }
}

static void signal_children(const struct local_run *local, int number, int first) {
    for (int i = first; i < local->count; i++)
        if (local->children[i].pid != 0)
            kill(local->children[i].pid, number);
}

static int count_running(const struct local_run *local, int first) {
    int running = 0;
    for (int i = first; i < local->count; i++)
        running += local->children[i].pid != 0;
    return running;
}

/* One turn of waiting: signals passed on, ended children noted, progress. */
static void turn(struct local_run *local) {
    usleep(TURN_US);
    if (stop_signals > local->signals_passed_on) {
        progress_clear(&local->progress);
        fprintf(stderr, local->signals_passed_on == 0 ? "stopping...\n" : "stopping at once\n");
        signal_children(local, local->signals_passed_on == 0 ? SIGTERM : SIGKILL, 0);
        local->signals_passed_on = stop_signals;
    }
    reap(local);
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

static enum status start_outer(struct local_run *local, struct error *error) {
    char run_yaml[RUN_PATH_BYTES], directory[RUN_PATH_BYTES];
    files_join(run_yaml, sizeof run_yaml, local->directory, "run.yaml");
    files_join(directory, sizeof directory, local->directory, "outer");
    files_join(local->token, sizeof local->token, directory, "join.token");
    char *arguments[] = {local->program, "outer", run_yaml, "--dir", directory, "--listen", "127.0.0.1:0", NULL};
    enum status status = spawn(local, add_child(local, "outer"), arguments, error);
    uint64_t until_us = clock_now_us() + TOKEN_US;
    while (status == STATUS_OK && stop_signals == 0 && !files_exists(local->token)) {
        turn(local);
        if (local->children[0].pid == 0)
            return error_set(error, STATUS_IO, "the outer did not start");
        if (clock_now_us() > until_us)
            return error_set(error, STATUS_IO, "the outer did not start within %d s", TOKEN_US / 1000000);
    }
    return status;
}

static enum status start(struct local_run *local, struct error *error) {
    if (local->run.sync.off)
        return spawn(local, add_child(local, "worker-0"), NULL, error);
    enum status status = start_outer(local, error);
    for (int64_t k = 0; status == STATUS_OK && stop_signals == 0 && k < local->run.workers; k++) {
        char name[32];
        snprintf(name, sizeof name, "worker-%lld", (long long)k);
        status = spawn_worker(local, add_child(local, name), error);
    }
    return status;
}

/* Before the first step a run needs all its workers. One that was killed is started again, after the outer has noticed; one that fails by
 * itself would fail again. 75 may mean that the run has started meanwhile without it. */
static void mind_the_start(struct local_run *local, int first_worker) {
    struct error error;
    if (progress_started(&local->progress) || stop_signals > 0 || local->gave_up)
        return;
    for (int i = first_worker; i < local->count; i++) {
        struct child *child = &local->children[i];
        uint64_t gone_us = clock_now_us() - child->ended_us;
        if (child->pid != 0 || child->exit_code == 0)
            continue;
        bool killed = child->exit_code >= 128 && child->restarts < RESTARTS_MAX && !local->run.sync.off;
        if (killed && gone_us >= RESTART_US) {
            child->restarts++;
            fprintf(stderr, "%s is started again\n", child->name);
            killed = spawn_worker(local, child, &error) == STATUS_OK;
            progress_gone(&local->progress, i - first_worker, !killed);
        }
        local->gave_up = !killed && (child->exit_code != status_exit_code(STATUS_AGAIN) || gone_us >= START_US);
    }
    if (local->gave_up)
        signal_children(local, SIGTERM, 0);
}

/* Until everybody left. The workers' exit decides: an outer without workers is asked to stop. */
static void wait_for_all(struct local_run *local) {
    int first_worker = local->run.sync.off ? 0 : 1;
    uint64_t alone_since_us = 0;
    while (count_running(local, 0) > 0) {
        turn(local);
        mind_the_start(local, first_worker);
        if (count_running(local, first_worker) > 0 || local->count == 0) {
            alone_since_us = 0;
            continue;
        }
        if (alone_since_us == 0)
            alone_since_us = clock_now_us();
        else if (clock_now_us() - alone_since_us > OUTER_LEAVES_US) {
            signal_children(local, SIGTERM, 0);
            alone_since_us = clock_now_us();
        }
    }
}

/* The outer's verdict is the run's; a plain trainer's its own. Workers that drop out of a running run are reported, not fatal; one that is
 * lost before the start is: its own exit code tells why (75 when it was killed). */
static int exit_code_of(const struct local_run *local) {
    int code = local->children[0].exit_code;
    for (int i = 0; local->gave_up && code == 0 && i < local->count; i++)
        code = local->children[i].exit_code;
    bool trained = false; /* somebody stayed to the end, or all were told to stop */
    for (int i = local->run.sync.off ? 0 : 1; i < local->count; i++)
        trained = trained || local->children[i].exit_code == 0;
    if ((code == 0 && !trained && stop_signals == 0) || (local->gave_up && (code == 0 || code >= 128)))
        code = status_exit_code(STATUS_AGAIN);
    return code;
}

static void print_results(const struct local_run *local) {
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
        printf("model: %s/%s/model   plots: atoll report %s -o %s/report\n", local->directory,
               local->run.sync.off ? "worker-0" : "outer", local->directory, local->directory);
    }
    fflush(stdout);
    run_set_free(set);
    free(set);
}

static enum status run_local(struct local_run *local, int *exit_code, struct error *error) {
    ssize_t length = readlink("/proc/self/exe", local->program, sizeof local->program - 1);
    if (length <= 0)
        return error_set(error, STATUS_IO, "cannot find the program itself in /proc/self/exe");
    enum status status = load(local, error);
    if (status == STATUS_OK)
        status = check_held_out(&local->run, error);
    if (status == STATUS_OK)
        status = choose_directory(local, error);
    if (status == STATUS_OK)
        status = make_directory(local, error);
    if (status != STATUS_OK)
        return status;
    if (!local->values->quiet)
        fprintf(stderr, "run %s in %s: %lld worker%s, %lld steps\n", local->run.name, local->directory,
                (long long)local->run.workers, local->run.workers == 1 ? "" : "s", (long long)local->run.inner.steps);
    progress_open(&local->progress, local->directory, (int)local->run.workers, local->run.inner.steps,
                  local->values->quiet);
    status = start(local, error);
    if (status != STATUS_OK)
        signal_children(local, SIGTERM, 0);
    wait_for_all(local);
    progress_close(&local->progress);
    *exit_code = exit_code_of(local);
    if (progress_started(&local->progress) && status == STATUS_OK)
        print_results(local);
    for (int i = 0; i < local->count && *exit_code != 0; i++)
        if (local->children[i].exit_code != 0)
            show_tail(local, local->children[i].name);
    return stop_signals > 0 ? STATUS_OK : status;
}

int train_command(int argc, char **argv) {
    struct train_values values = {0};
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
