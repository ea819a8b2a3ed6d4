#include "experiments/run_data.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/files.h"
#include "experiments/run_log_reader.h"

/* ---- arrays that grow ---- */

/* Room for one more behind `count` entries: capacities are powers of two, so that no member holds them. */
static void *grow(void *array, int64_t count, size_t entry_bytes) {
    if (count != 0 && (count < 16 || (count & (count - 1)) != 0))
        return array;
    int64_t capacity = count < 16 ? 16 : 2 * count;
    return realloc(array, (size_t)capacity * entry_bytes);
}

/* ---- one log ---- */

/* RFC 3339 in UTC to seconds since 1970; NaN when it is something else. */
static double wall_seconds(const char *text) {
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!rest)
        return (double)NAN;
    double part = *rest == '.' ? strtod(rest, NULL) : 0;
    return (double)timegm(&tm) + part;
}

struct node_load {
    struct run_node *node;
    double origin_s;          /* t_s of t_us = 0 in the present process, relative to the first header */
    struct run_counters base; /* totals of earlier processes */
    struct run_counters now;  /* of the present one */
};

/* Saturating: what a log says must not overflow. */
static int64_t add_counts(int64_t a, int64_t b) {
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static void add_counters(struct run_counters *sum, const struct run_counters *a, const struct run_counters *b) {
    sum->payload_up = add_counts(a->payload_up, b->payload_up);
    sum->payload_down = add_counts(a->payload_down, b->payload_down);
    sum->wire_up = add_counts(a->wire_up, b->wire_up);
    sum->wire_down = add_counts(a->wire_down, b->wire_down);
    sum->control_up = add_counts(a->control_up, b->control_up);
    sum->control_down = add_counts(a->control_down, b->control_down);
    sum->retransmitted_up = add_counts(a->retransmitted_up, b->retransmitted_up);
    sum->wait_us = add_counts(a->wait_us, b->wait_us);
    sum->compute_us = add_counts(a->compute_us, b->compute_us);
    sum->eval_us = add_counts(a->eval_us, b->eval_us);
}

/* Names of nodes go into CSV files and plot scripts. */
static void make_plain(char *name) {
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && !strchr("._-", *name))
            *name = '_';
}

static bool take_header(struct node_load *load, const struct run_log_record *record) {
    struct run_node *node = load->node;
    double wall_s = wall_seconds(record->t_wall), t_s = (double)record->t_us * 1e-6;
    struct run_start *grown = grow(node->starts, node->start_count, sizeof *grown);
    if (!grown)
        return false;
    node->starts = grown;
    node->planned_steps = record->header.steps;
    if (node->start_count == 0) {
        node->header = record->header;
        make_plain(node->header.node);
        node->is_outer = strcmp(record->header.role, "outer") == 0;
        node->first_wall_s = isfinite(wall_s) ? wall_s - t_s : 0;
        node->starts[node->start_count++] = (struct run_start){.t_s = t_s};
        return true;
    }
    load->base = node->totals;
    memset(&load->now, 0, sizeof load->now);
    double gap_s = wall_s - t_s - node->first_wall_s;
    load->origin_s = isfinite(gap_s) && gap_s > node->last_t_s ? gap_s : node->last_t_s;
    t_s += load->origin_s;
    node->starts[node->start_count++] = (struct run_start){.t_s = t_s, .down_s = t_s - node->last_t_s};
    node->ended = false;
    node->end_reason[0] = node->state_hash[0] = '\0';
    node->final_loss = node->final_bits_per_byte = (double)NAN;
    return true;
}

static bool take_step(struct run_node *node, struct node_load *load, const struct run_log_step *step, double t_s) {
    struct run_step *grown = grow(node->steps, node->step_count, sizeof *grown);
    if (!grown)
        return false;
    node->steps = grown;
    node->steps[node->step_count++] = (struct run_step){
        .t_s = t_s, .step = step->step, .tokens = step->tokens, .compute_us = step->compute_us, .loss = step->loss};
    load->now.compute_us = add_counts(load->now.compute_us, step->compute_us);
    return true;
}

static bool take_eval(struct run_node *node, struct node_load *load, const struct run_log_eval *eval, double t_s) {
    struct run_eval *grown = grow(node->evals, node->eval_count, sizeof *grown);
    if (!grown)
        return false;
    node->evals = grown;
    struct run_counters now = {.wire_up = eval->wire_up,
                               .wire_down = eval->wire_down,
                               .payload_up = eval->payload_up,
                               .payload_down = eval->payload_down};
    struct run_eval *entry = &node->evals[node->eval_count++];
    *entry = (struct run_eval){.t_s = t_s,
                               .step = eval->step,
                               .run_tokens = eval->run_tokens,
                               .planned_steps = node->planned_steps,
                               .loss = eval->loss,
                               .bits_per_byte = eval->bits_per_byte,
                               .final = eval->final};
    add_counters(&entry->counters, &load->base, &now);
    return true;
}

static bool take_link(struct run_node *node, const struct run_counters *totals, double t_s) {
    struct run_link *grown = grow(node->links, node->link_count, sizeof *grown);
    if (!grown)
        return false;
    node->links = grown;
    node->links[node->link_count++] = (struct run_link){.t_s = t_s, .counters = *totals};
    return true;
}

static bool take_counters(struct node_load *load, const struct run_log_record *record, double t_s) {
    const struct run_log_link *link = &record->link;
    const struct run_log_end *end = &record->end;
    struct run_counters *now = &load->now;
    if (record->event == RUN_LOG_LINK) {
        *now = (struct run_counters){link->payload_up, link->payload_down, link->wire_up,          link->wire_down,
                                     link->control_up, link->control_down, link->retransmitted_up, link->wait_us,
                                     now->compute_us,  link->eval_us};
    } else {
        *now = (struct run_counters){end->payload_up, end->payload_down, end->wire_up,          end->wire_down,
                                     end->control_up, end->control_down, now->retransmitted_up, end->wait_us,
                                     end->compute_us, end->eval_us};
    }
    add_counters(&load->node->totals, &load->base, now);
    return take_link(load->node, &load->node->totals, t_s);
}

/* The update guard's own reasons; what is stale or comes twice is refused in the course of every run. */
static bool is_refused_update(const struct run_log_refuse *refuse) {
    return strcmp(refuse->what, "contribution") == 0 &&
           (strcmp(refuse->reason, "not finite") == 0 || strcmp(refuse->reason, "too large") == 0);
}

void run_recoveries_add(struct run_recoveries *recoveries, const char *what, int64_t count) {
    int at = 0;
    while (at < recoveries->count && strcmp(recoveries->kinds[at].what, what) != 0)
        at++;
    if (at == RUN_DATA_KINDS_MAX)
        at--;
    struct run_recovery *kind = &recoveries->kinds[at];
    if (at == recoveries->count) {
        snprintf(kind->what, sizeof kind->what, "%s", what);
        recoveries->count++;
    }
    kind->count = add_counts(kind->count, count);
}

/* A process writes its whole ledger at its end. */
static void take_ledger(struct run_node *node, const struct run_log_ledger *ledger) {
    if (node->ledger_start != node->start_count)
        node->tokens_dropped = 0;
    node->ledger_start = node->start_count;
    node->tokens_dropped = add_counts(node->tokens_dropped, ledger->dropped);
}

static void take_outer_commit(struct run_node *node, const struct run_log_outer_commit *commit) {
    node->commits++;
    node->contributions = add_counts(node->contributions, commit->counted);
    if (commit->run_step > node->run_step)
        node->run_step = commit->run_step;
    for (int64_t i = 0; i < commit->counted; i++) {
        const struct run_log_contribution *one = &commit->contributions[i];
        if (one->slot < MESSAGE_WORKERS_MAX && one->tokens_to > node->counted_tokens[one->slot])
            node->counted_tokens[one->slot] = one->tokens_to;
    }
}

static void take_outer_end(struct run_node *node, const struct run_log_outer_end *end) {
    node->ended = true;
    node->final_loss = end->eval_loss;
    node->final_bits_per_byte = end->bits_per_byte;
    memcpy(node->end_reason, end->reason, sizeof node->end_reason);
    memcpy(node->state_hash, end->state_hash, sizeof node->state_hash);
}

/* False when memory ran out. */
static bool take_record(struct node_load *load, const struct run_log_record *record) {
    struct run_node *node = load->node;
    bool ok = record->event != RUN_LOG_HEADER || take_header(load, record);
    if (!ok || node->start_count == 0)
        return ok; /* a log whose header is lost tells nothing */
    double t_s = load->origin_s + (double)record->t_us * 1e-6;
    switch (record->event) {
    case RUN_LOG_STEP:
        ok = take_step(node, load, &record->step, t_s);
        break;
    case RUN_LOG_EVAL:
        ok = take_eval(node, load, &record->eval, t_s);
        break;
    case RUN_LOG_LINK:
        ok = take_counters(load, record, t_s);
        break;
    case RUN_LOG_END:
        ok = take_counters(load, record, t_s);
        node->ended = true;
        memcpy(node->end_reason, record->end.reason, sizeof node->end_reason);
        memcpy(node->state_hash, record->end.state_hash, sizeof node->state_hash);
        break;
    case RUN_LOG_OUTER_COMMIT:
        take_outer_commit(node, &record->outer_commit);
        break;
    case RUN_LOG_OUTER_END:
        take_outer_end(node, &record->outer_end);
        break;
    case RUN_LOG_REFUSE:
        node->refused++;
        node->refused_updates += node->is_outer && is_refused_update(&record->refuse);
        break;
    case RUN_LOG_RECOVER:
        run_recoveries_add(&node->recoveries, record->recover.what, 1);
        if (record->recover.steps > 0)
            node->planned_steps = record->recover.steps;
        break;
    case RUN_LOG_OUTER_RECOVER:
        if (strcmp(record->outer_recover.from, "fresh") != 0) /* every run begins so */
            run_recoveries_add(&node->recoveries, record->outer_recover.what, 1);
        break;
    case RUN_LOG_LEDGER:
        take_ledger(node, &record->ledger);
        break;
    default:
        break;
    }
    add_counters(&node->totals, &load->base, &load->now);
    node->last_t_s = t_s;
    return ok;
}

static void free_node(struct run_node *node) {
    if (!node)
        return;
    free(node->starts);
    free(node->steps);
    free(node->evals);
    free(node->links);
    free(node);
}

/* Steps go forward but for those after a restart: one that is not before every later one came again. */
static void mark_repeated(struct run_node *node) {
    int64_t next = INT64_MAX;
    for (int64_t i = node->step_count - 1; i >= 0; i--) {
        node->steps[i].repeated = node->steps[i].step >= next;
        if (node->steps[i].repeated)
            continue;
        next = node->steps[i].step;
        node->trained_steps++;
    }
}

/* *node stays NULL when there is no log in `directory`. */
static enum status load_node(const char *directory, struct run_node **out, struct error *error) {
    *out = NULL;
    char path[RUN_DATA_PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s/log.jsonl", directory);
    if (!files_exists(path))
        return STATUS_OK;
    struct run_log_reader reader;
    enum status status = run_log_reader_open(&reader, path, error);
    if (status != STATUS_OK)
        return status;
    struct run_node *node = calloc(1, sizeof *node);
    struct node_load load = {.node = node};
    struct run_log_record record;
    bool ok = node != NULL;
    if (ok)
        node->final_loss = node->final_bits_per_byte = (double)NAN;
    while (ok && run_log_reader_next(&reader, &record))
        ok = take_record(&load, &record);
    if (ok) {
        mark_repeated(node);
        snprintf(node->directory, sizeof node->directory, "%s", directory);
        node->records = reader.records;
        node->unknown = reader.unknown;
        node->bad = reader.bad;
        node->torn = run_log_reader_torn_bytes(&reader) > 0;
        snprintf(node->first_bad, sizeof node->first_bad, "%.255s", reader.bad ? reader.first_bad.text : "");
    }
    run_log_reader_close(&reader);
    if (!ok) {
        free_node(node);
        return error_set(error, STATUS_NO_MEMORY, "no memory to read the log %s", path);
    }
    if (node->start_count == 0) {
        status =
            error_set(error, STATUS_DATA, "%s: no readable header%s%s", path, node->bad ? "; " : "", node->first_bad);
        free_node(node);
        return status;
    }
    *out = node;
    return STATUS_OK;
}

/* ---- runs ---- */

static struct run_data *find_run(struct run_set *set, const char *run_id) {
    for (int i = 0; run_id[0] && i < set->count; i++)
        if (strcmp(set->runs[i].nodes[0]->header.run_id, run_id) == 0)
            return &set->runs[i];
    return NULL;
}

static int compare_nodes(const void *a, const void *b) {
    const struct run_node *x = *(struct run_node *const *)a;
    const struct run_node *y = *(struct run_node *const *)b;
    if (x->is_outer != y->is_outer)
        return x->is_outer ? 1 : -1;
    if (x->header.slot != y->header.slot)
        return x->header.slot < y->header.slot ? -1 : 1;
    return strverscmp(x->header.node, y->header.node);
}

/* Unique among the runs before it; without what ends a string in a plot script. */
static void make_label(struct run_set *set, struct run_data *run, const char *directory) {
    char *real = realpath(directory, NULL);
    const char *slash = real ? strrchr(real, '/') : NULL;
    const char *base = slash && slash[1] ? slash + 1 : directory;
    char clean[96];
    size_t length = 0;
    for (; base[length] && length + 1 < sizeof clean; length++)
        clean[length] = base[length] >= 32 && base[length] < 127 && !strchr("/'", base[length]) ? base[length] : '_';
    clean[length] = '\0';
    free(real);
    int copies = 1;
    snprintf(run->label, sizeof run->label, "%s", clean);
    for (bool again = true; again;) {
        again = false;
        for (struct run_data *other = set->runs; other < run; other++)
            again = again || strcmp(other->label, run->label) == 0;
        if (again)
            snprintf(run->label, sizeof run->label, "%s#%d", clean, ++copies);
    }
}

/* All nodes onto the clock of the earliest one. */
static void align_clocks(struct run_data *run) {
    double first = (double)INFINITY;
    for (int i = 0; i < run->node_count; i++)
        first = fmin(first, run->nodes[i]->first_wall_s);
    for (int i = 0; i < run->node_count; i++) {
        struct run_node *node = run->nodes[i];
        double shift = node->first_wall_s - first;
        for (int64_t k = 0; k < node->start_count; k++)
            node->starts[k].t_s += shift;
        for (int64_t k = 0; k < node->step_count; k++)
            node->steps[k].t_s += shift;
        for (int64_t k = 0; k < node->eval_count; k++)
            node->evals[k].t_s += shift;
        for (int64_t k = 0; k < node->link_count; k++)
            node->links[k].t_s += shift;
        node->last_t_s += shift;
        node->first_wall_s = first; /* a second call shifts nothing */
    }
}

static void sort_nodes(struct run_data *run) {
    qsort(run->nodes, (size_t)run->node_count, sizeof run->nodes[0], compare_nodes);
    run->worker_count = 0;
    while (run->worker_count < run->node_count && !run->nodes[run->worker_count]->is_outer)
        run->worker_count++;
}

/* Takes the node over, also on failure. */
static enum status add_node(struct run_set *set, struct run_data **group, struct run_node *node, const char *directory,
                            struct error *error) {
    struct run_data *run = find_run(set, node->header.run_id);
    if (!run)
        run = *group;
    if (!run) {
        if (set->count == RUN_DATA_RUNS_MAX) {
            free_node(node);
            return error_set(error, STATUS_USAGE, "more than %d runs in one report", RUN_DATA_RUNS_MAX);
        }
        run = &set->runs[set->count++];
        memset(run, 0, sizeof *run);
        snprintf(run->directory, sizeof run->directory, "%s", directory);
        make_label(set, run, directory);
    }
    *group = run;
    if (run->node_count == RUN_DATA_NODES_MAX) {
        free_node(node);
        return error_set(error, STATUS_DATA, "%s: more than %d logs in one run", directory, RUN_DATA_NODES_MAX);
    }
    run->nodes[run->node_count++] = node;
    return STATUS_OK;
}

static enum status add_directory(struct run_set *set, struct run_data **group, const char *directory, const char *top,
                                 struct error *error) {
    struct run_node *node;
    enum status status = load_node(directory, &node, error);
    if (status == STATUS_OK && node)
        status = add_node(set, group, node, top, error);
    return status;
}

enum status run_set_add(struct run_set *set, const char *directory, struct error *error) {
    struct run_data *group = NULL;
    struct dirent **names;
    int count = scandir(directory, &names, NULL, versionsort);
    if (count < 0)
        return error_set(error, STATUS_NOT_FOUND, "%s: not a directory that can be read; give the directory of a run",
                         directory);
    enum status status = add_directory(set, &group, directory, directory, error);
    for (int i = 0; i < count; i++) {
        char path[RUN_DATA_PATH_BYTES];
        int length = snprintf(path, sizeof path, "%s/%s", directory, names[i]->d_name);
        if (status == STATUS_OK && names[i]->d_name[0] != '.' && length < (int)sizeof path)
            status = add_directory(set, &group, path, directory, error);
        free(names[i]);
    }
    free(names);
    if (status != STATUS_OK)
        return status;
    if (!group)
        return error_set(
            error, STATUS_NOT_FOUND,
            "%s: no log.jsonl in it, nor one level below; give the directory of a run (the --dir of atoll train)",
            directory);
    align_clocks(group);
    sort_nodes(group);
    return STATUS_OK;
}

void run_set_free(struct run_set *set) {
    for (int i = 0; i < set->count; i++)
        for (int k = 0; k < set->runs[i].node_count; k++)
            free_node(set->runs[i].nodes[k]);
    set->count = 0;
}

/* A run that was continued with more steps has another final model. */
static bool is_final(const struct run_data *run, const struct run_eval *eval) {
    int64_t planned = 0;
    for (int i = 0; i < run->node_count; i++)
        planned = run->nodes[i]->planned_steps > planned ? run->nodes[i]->planned_steps : planned;
    return eval->final && eval->planned_steps >= planned;
}

const struct run_eval *run_final_eval(const struct run_data *run, const struct run_node **node, bool *final) {
    const struct run_eval *best = NULL;
    *final = false;
    for (int i = 0; i < run->worker_count; i++)
        for (int64_t k = 0; k < run->nodes[i]->eval_count; k++) {
            const struct run_eval *eval = &run->nodes[i]->evals[k];
            bool stands = is_final(run, eval);
            if (best && (*final != stands ? *final : best->step >= eval->step))
                continue;
            best = eval;
            *final = stands;
            *node = run->nodes[i];
        }
    return best;
}

double run_node_down_s(const struct run_node *node, double t_s) {
    double down_s = 0;
    for (int64_t i = 0; i < node->start_count && node->starts[i].t_s <= t_s; i++)
        down_s += node->starts[i].down_s;
    return down_s;
}
