/* atoll: the command table, one row per subcommand, and the only main(). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/failpoint.h"
#include "base/status.h"
#include "base/suggest.h"
#include "experiments/bench.h"
#include "experiments/check.h"
#include "experiments/eval.h"
#include "experiments/local_run.h"
#include "experiments/report.h"
#include "experiments/sample.h"
#include "experiments/status.h"
#include "experiments/tokens.h"
#include "model/gemm.h"
#include "model/linear.h"
#include "model/onednn.h"
#include "outer/outer_daemon.h"
#include "worker/worker_daemon.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit code */
    const char *summary;
};

static const struct command commands[] = {
    {"train", train_command, "train on this machine: one outer and its workers, real processes"},
    {"outer", outer_command, "lead a run: prints the line that starts a worker anywhere"},
    {"worker", worker_command, "train an island of a run, on any machine"},
    {"status", status_command, "watch a run"},
    {"token", token_command, "the lines that start workers: make, list, revoke"},
    {"drain", drain_command, "let a worker finish what is in flight and leave"},
    {"check", check_command, "check a run file; print its defaults"},
    {"eval", eval_command, "held-out loss of a model"},
    {"sample", sample_command, "text from a model"},
    {"report", report_command, "plots and tables of runs: bandwidth versus loss first"},
    {"bench", bench_command, "measure this machine, each figure beside its limit"},
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static void print_help(FILE *to) {
    fputs("usage: atoll COMMAND [OPTIONS]\n\nTrain one language model on machines joined only by slow links.\n\n", to);
    for (int i = 0; i < COMMAND_COUNT; i++)
        fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`atoll COMMAND --help` explains one. First run: experiments/quickstart.sh\n", to);
}

static int unknown_command(const char *name) {
    struct suggestion meant = {.word = name};
    for (int i = 0; i < COMMAND_COUNT; i++)
        suggest_consider(&meant, commands[i].name);
    if (meant.nearest != NULL)
        fprintf(stderr, "atoll: '%s' is no command (did you mean '%s'?)\n", name, meant.nearest);
    else
        fprintf(stderr, "atoll: '%s' is no command; `atoll help` lists them\n", name);
    return status_exit_code(STATUS_USAGE);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return status_exit_code(STATUS_USAGE);
    }
    const char *name = argv[1];
    if (strcmp(name, "help") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "version") == 0) {
        printf("atoll %s\n%s, core %s\nproducts: %s\nbf16 products: %s\n", ATOLL_VERSION, gemm_config(),
               gemm_core_name(), linear_f32_text(), onednn_text());
        return 0;
    }
    struct error error;
    if (failpoint_open(&error) != STATUS_OK) {
        fprintf(stderr, "atoll: %s\n", error.text);
        return status_exit_code(error.status);
    }
    if (gemm_check_memory(&error) != STATUS_OK) {
        fprintf(stderr, "atoll %s: %s\n", name, error.text);
        _Exit(status_exit_code(error.status));
    }
    for (int i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    return unknown_command(name);
}
