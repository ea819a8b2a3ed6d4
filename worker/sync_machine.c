#include "worker/sync_machine.h"
#include <string.h>
#include "base/check.h"

static struct sync_action *act(struct sync_actions *actions, enum sync_action_kind kind, uint32_t fragment) {
    CHECK(actions->count < SYNC_ACTIONS_MAX);
    struct sync_action *action = &actions->list[actions->count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    action->fragment = fragment;
    return action;
}

/* ---- what a ready outer copy means ---- */

static bool counts_record(const struct sync_fragment *fragment) {
    return fragment->ready && fragment->record.active && fragment->ready_mark == fragment->record.tokens_to &&
           fragment->ready_mark > fragment->mark;
}

/* It counts a send of this slot of which this process has no record, */
static bool counts_another(const struct sync_fragment *fragment) {
    return fragment->ready && fragment->ready_mark > fragment->mark && !counts_record(fragment);
}

/* and whose work is here too. */
static bool covers(const struct sync_fragment *fragment) {
    return counts_another(fragment) && fragment->orphaned > 0;
}

/* Once the ready copy is merged, the record can count no more: the outer has given it up too, or never heard of it. Else it would wait for bytes
 * that do not come any more. */
static bool expires_with_ready(const struct sync_machine *machine, const struct sync_fragment *fragment) {
    const struct sync_record *record = &fragment->record;
    if (!fragment->ready || !record->active || record->behind_ready || counts_record(fragment))
        return false;
    return fragment->ready_mark != record->tokens_from || fragment->ready_version < record->base ||
           fragment->ready_version - record->base > machine->options.stale;
}

/* ---- sends and merges ---- */

static uint64_t less(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* From the ready copy when there is one: its merge comes first, so that the base is the newest version. */
static void send(struct sync_machine *machine, uint32_t index, struct sync_actions *actions) {
    struct sync_fragment *fragment = &machine->fragments[index];
    bool ready = fragment->ready;
    uint64_t covered = covers(fragment) ? less(fragment->orphaned, fragment->work) : 0;
    fragment->record = (struct sync_record){.active = true,
                                            .base = ready ? fragment->ready_version : fragment->version,
                                            .step = machine->step,
                                            .tokens_from = ready ? fragment->ready_mark : fragment->mark,
                                            .tokens_to = machine->tokens,
                                            .tokens = fragment->work - covered,
                                            .behind_ready = ready};
    struct sync_action *action = act(actions, SYNC_ACTION_SEND, index);
    action->version = fragment->record.base;
    action->step = fragment->record.step;
    action->tokens_from = fragment->record.tokens_from;
    action->tokens_to = fragment->record.tokens_to;
    action->tokens = fragment->record.tokens;
}

static void merge(struct sync_machine *machine, uint32_t index, enum sync_action_kind kind,
                  struct sync_actions *actions) {
    struct sync_fragment *fragment = &machine->fragments[index];
    fragment->merging = true;
    act(actions, kind, index)->version = fragment->ready_version;
    if (expires_with_ready(machine, fragment))
        act(actions, SYNC_ACTION_EXPIRE, index)->version = fragment->record.base;
}

static void reset(struct sync_machine *machine, uint32_t index, struct sync_actions *actions) {
    struct sync_fragment *fragment = &machine->fragments[index];
    struct sync_action *action = act(actions, SYNC_ACTION_RESET, index);
    action->version = fragment->version;
    action->tokens = fragment->work;
    fragment->refused = false;
    fragment->record.active = false;
    fragment->work = 0;
    fragment->orphaned = 0;
}

/* The last step at which training may go on without the commit of this record. */
static uint64_t merge_step(const struct sync_machine *machine, const struct sync_record *record) {
    return record->step + (machine->options.strict ? machine->options.overlap_steps : machine->options.drift);
}

static bool merge_is_due(const struct sync_machine *machine, const struct sync_fragment *fragment) {
    return machine->phase != SYNC_PHASE_TRAINING || machine->step >= merge_step(machine, &fragment->record);
}

static void resets(struct sync_machine *machine, struct sync_actions *actions) {
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++)
        if (machine->fragments[index].refused && !machine->fragments[index].merging)
            reset(machine, index, actions);
}

static void boundary(struct sync_machine *machine, struct sync_actions *actions) {
    resets(machine, actions);
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++) {
        struct sync_fragment *fragment = &machine->fragments[index];
        bool due = fragment->record.active && merge_is_due(machine, fragment);
        bool counts = counts_record(fragment);
        if (fragment->ready && !fragment->merging) {
            if (covers(fragment))
                merge(machine, index, SYNC_ACTION_COVERED, actions);
            else if (!counts)
                merge(machine, index, SYNC_ACTION_SHIFT, actions);
            else if (due || !machine->options.strict)
                merge(machine, index, SYNC_ACTION_COUNTED, actions);
        }
        /* Also after a SHIFT: the record that stays in flight is due all the same. */
        if (due && !counts && !expires_with_ready(machine, fragment))
            act(actions, SYNC_ACTION_WAIT, index);
    }
}

static void on_step(struct sync_machine *machine, const struct sync_event *event, struct sync_actions *actions) {
    CHECK(machine->phase == SYNC_PHASE_TRAINING && event->step > machine->step);
    machine->step = event->step;
    machine->tokens += event->tokens;
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++)
        machine->fragments[index].work += event->tokens;
    resets(machine, actions);
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++) {
        struct sync_fragment *fragment = &machine->fragments[index];
        bool passed = machine->options.lockstep && fragment->run_step >= event->step;
        if (!schedule_due(&machine->options.schedule, index, event->step) || fragment->record.active || passed ||
            fragment->work == 0)
            continue;
        if (fragment->ready)
            merge(machine, index, covers(fragment) ? SYNC_ACTION_COVERED : SYNC_ACTION_SHIFT, actions);
        send(machine, index, actions);
    }
    boundary(machine, actions);
}

/* ---- the end ---- */

static bool anything(const struct sync_machine *machine, bool (*is)(const struct sync_fragment *)) {
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++)
        if (is(&machine->fragments[index]))
            return true;
    return false;
}

static bool is_in_flight(const struct sync_fragment *fragment) {
    return fragment->record.active || fragment->ready || fragment->merging;
}

static bool is_unsent(const struct sync_fragment *fragment) {
    return !fragment->record.active && fragment->work > 0;
}

/* The last sends: their commits change the outer copy only, except that one which does not count us must be shifted in, since the work is
 * then sent again. */
static void last_merges(struct sync_machine *machine, struct sync_actions *actions) {
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++) {
        struct sync_fragment *fragment = &machine->fragments[index];
        if (fragment->merging)
            continue;
        bool settled = counts_record(fragment) || (!fragment->record.active && !is_unsent(fragment));
        if (fragment->ready && covers(fragment))
            merge(machine, index, SYNC_ACTION_COVERED, actions);
        else if (fragment->ready)
            merge(machine, index, settled ? SYNC_ACTION_TAKE : SYNC_ACTION_SHIFT, actions);
        else if (fragment->record.active)
            act(actions, SYNC_ACTION_WAIT, index);
    }
}

static void on_end(struct sync_machine *machine, struct sync_actions *actions) {
    if (machine->phase == SYNC_PHASE_TRAINING)
        machine->phase = SYNC_PHASE_RESOLVING;
    if (machine->phase == SYNC_PHASE_RESOLVING) {
        if (anything(machine, is_in_flight)) {
            boundary(machine, actions);
            return;
        }
        machine->phase = SYNC_PHASE_LAST;
    }
    resets(machine, actions);
    if (machine->phase == SYNC_PHASE_LAST) {
        for (uint32_t index = 0; index < machine->options.schedule.fragments; index++) {
            const struct sync_fragment *fragment = &machine->fragments[index];
            if (is_unsent(fragment) && !fragment->ready && !fragment->merging)
                send(machine, index, actions);
        }
        if (!anything(machine, is_in_flight))
            machine->phase = SYNC_PHASE_DONE;
    }
    last_merges(machine, actions);
    if (machine->phase == SYNC_PHASE_DONE && !machine->done_given) {
        machine->done_given = true;
        act(actions, SYNC_ACTION_DONE, 0);
    }
}

/* ---- what arrives ---- */

static void on_ready(struct sync_machine *machine, const struct sync_event *event) {
    struct sync_fragment *fragment = &machine->fragments[event->fragment];
    CHECK(!fragment->ready && (event->jump || event->version == fragment->version + 1));
    fragment->ready = true;
    fragment->ready_version = event->version;
    fragment->ready_mark = event->mark;
    fragment->run_step = event->run_step;
    /* What stays unsent is counted above the mark, also where an earlier process, whose log is lost, had used these numbers. */
    uint64_t settled = counts_record(fragment) ? fragment->record.tokens
                       : covers(fragment)      ? less(fragment->orphaned, fragment->work)
                                               : 0;
    uint64_t least = event->mark + fragment->work - settled;
    if (least > machine->tokens)
        machine->tokens = least;
}

static void on_merged(struct sync_machine *machine, const struct sync_event *event) {
    struct sync_fragment *fragment = &machine->fragments[event->fragment];
    struct sync_record *record = &fragment->record;
    CHECK(fragment->merging && fragment->ready);
    if (counts_record(fragment)) {
        fragment->work -= record->tokens;
        /* What is behind it may still be in a later one. */
        fragment->orphaned -= less(fragment->orphaned, record->tokens);
        record->active = false;
    } else {
        uint64_t covered = covers(fragment) ? less(fragment->orphaned, fragment->work) : 0;
        fragment->work -= covered;
        fragment->orphaned -= covered;
        if (expires_with_ready(machine, fragment)) {
            /* On another branch it may count all the same: at once after a jump, or on the one that an outer without its last versions leads. */
            uint64_t left = record->tokens - less(covered, record->tokens);
            if (fragment->orphaned < left)
                fragment->orphaned = left;
            record->active = false;
        }
    }
    fragment->version = fragment->ready_version;
    fragment->mark = fragment->ready_mark;
    fragment->merging = false;
    fragment->ready = false;
    record->behind_ready = false;
    if (fragment->orphaned > fragment->work)
        fragment->orphaned = fragment->work;
    if (!record->active)
        fragment->refused = false;
}

static void on_refused(struct sync_machine *machine, const struct sync_event *event) {
    struct sync_fragment *fragment = &machine->fragments[event->fragment];
    if (fragment->record.active && fragment->record.base == event->version && !counts_record(fragment))
        fragment->refused = true;
}

static void on_counter(struct sync_machine *machine, const struct sync_event *event) {
    if (event->tokens > machine->tokens)
        machine->tokens = event->tokens;
}

/* ---- interface ---- */

void sync_open(struct sync_machine *machine, const struct sync_machine_options *options) {
    CHECK(options->schedule.fragments >= 1 && options->schedule.fragments <= MESSAGE_FRAGMENTS_MAX);
    CHECK(!options->strict || options->overlap_steps < options->schedule.every_steps);
    memset(machine, 0, sizeof *machine);
    machine->options = *options;
}

bool sync_resume(struct sync_machine *machine, const struct sync_machine_options *options, uint64_t step,
                 uint64_t tokens, const struct sync_fragment *saved) {
    sync_open(machine, options);
    machine->step = step;
    machine->tokens = tokens;
    for (uint32_t index = 0; index < options->schedule.fragments; index++)
        machine->fragments[index] = (struct sync_fragment){.version = saved[index].version,
                                                           .run_step = saved[index].run_step,
                                                           .mark = saved[index].mark,
                                                           .work = saved[index].work,
                                                           .orphaned = saved[index].work,
                                                           .record = saved[index].record};
    return sync_ledger_check(machine);
}

void sync_step(struct sync_machine *machine, const struct sync_event *event, struct sync_actions *actions) {
    CHECK(event->fragment < machine->options.schedule.fragments);
    switch (event->kind) {
    case SYNC_EVENT_STEP:
        on_step(machine, event, actions);
        break;
    case SYNC_EVENT_BOUNDARY:
        boundary(machine, actions);
        break;
    case SYNC_EVENT_END:
        on_end(machine, actions);
        break;
    case SYNC_EVENT_READY:
        on_ready(machine, event);
        break;
    case SYNC_EVENT_MERGED:
        on_merged(machine, event);
        break;
    case SYNC_EVENT_REFUSED:
        on_refused(machine, event);
        break;
    case SYNC_EVENT_COUNTER:
        on_counter(machine, event);
        break;
    }
    CHECK(sync_ledger_check(machine));
}

void sync_go_on(struct sync_machine *machine) {
    machine->phase = SYNC_PHASE_TRAINING;
    machine->done_given = false;
}

uint64_t sync_run_clock(const struct sync_machine *machine, bool returning) {
    const struct schedule *schedule = &machine->options.schedule;
    uint64_t run_step = 0, open = UINT64_MAX; /* R; the first due step that no commit has passed */
    for (uint32_t index = 0; index < schedule->fragments; index++) {
        uint64_t passed = machine->fragments[index].run_step;
        uint64_t due = schedule_next_due(schedule, index, passed > machine->step ? passed : machine->step);
        run_step = passed > run_step ? passed : run_step;
        open = due < open ? due : open;
    }
    if (run_step <= machine->step || (!machine->options.lockstep && !returning))
        return machine->step;
    return !machine->options.lockstep || run_step < open ? run_step : open - 1;
}

bool sync_record_is_doomed(const struct sync_machine *machine, uint32_t fragment) {
    CHECK(fragment < machine->options.schedule.fragments);
    return expires_with_ready(machine, &machine->fragments[fragment]);
}

uint64_t sync_joined_step(const struct sync_machine *machine) {
    uint64_t step = machine->step;
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++) {
        const struct sync_record *record = &machine->fragments[index].record;
        if (record->active && !sync_record_is_doomed(machine, index) && record->step <= step)
            step = record->step - 1;
    }
    return step;
}

bool sync_ledger_check(const struct sync_machine *machine) {
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++) {
        const struct sync_fragment *fragment = &machine->fragments[index];
        const struct sync_record *record = &fragment->record;
        if (fragment->work > machine->tokens || fragment->mark > machine->tokens || fragment->orphaned > fragment->work)
            return false;
        if (record->active && (record->tokens == 0 || record->tokens > fragment->work || record->step == 0 ||
                               record->tokens_to > machine->tokens || record->tokens_to <= record->tokens_from ||
                               record->tokens > record->tokens_to - record->tokens_from))
            return false;
    }
    return true;
}

uint64_t sync_unsent_tokens(const struct sync_machine *machine, uint32_t fragment) {
    const struct sync_fragment *f = &machine->fragments[fragment];
    return f->work - (f->record.active ? f->record.tokens : 0);
}
