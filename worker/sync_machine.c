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

static void send(struct sync_machine *machine, uint32_t index, struct sync_actions *actions) {
    struct sync_fragment *fragment = &machine->fragments[index];
    fragment->record = (struct sync_record){.active = true,
                                            .base = fragment->version,
                                            .step = machine->step,
                                            .tokens_from = fragment->applied_tokens,
                                            .tokens_to = machine->tokens};
    struct sync_action *action = act(actions, SYNC_ACTION_SEND, index);
    action->version = fragment->version;
    action->step = machine->step;
    action->tokens_from = fragment->applied_tokens;
    action->tokens_to = machine->tokens;
}

/* The ready commit does not count the record, and its version passes the base by more than `stale`: the record can count no more. */
static bool expires_with_ready(const struct sync_machine *machine, const struct sync_fragment *fragment) {
    const struct sync_record *record = &fragment->record;
    return record->active && !fragment->ready_counts_me && fragment->version + 1 > record->base &&
           fragment->version + 1 - record->base > machine->options.stale;
}

static void merge(struct sync_machine *machine, uint32_t index, enum sync_action_kind kind,
                  struct sync_actions *actions) {
    struct sync_fragment *fragment = &machine->fragments[index];
    fragment->merging = true;
    act(actions, kind, index)->version = fragment->version + 1;
    if (expires_with_ready(machine, fragment))
        act(actions, SYNC_ACTION_EXPIRE, index)->version = fragment->record.base;
}

/* The last step at which training may go on without the commit of this record. */
static uint64_t merge_step(const struct sync_machine *machine, const struct sync_record *record) {
    uint64_t overlap =
        machine->options.strict ? machine->options.overlap_steps : machine->options.schedule.every_steps - 1;
    return record->step + overlap;
}

static bool merge_is_due(const struct sync_machine *machine, const struct sync_fragment *fragment) {
    return machine->phase != SYNC_PHASE_TRAINING || machine->step >= merge_step(machine, &fragment->record);
}

static void boundary(struct sync_machine *machine, struct sync_actions *actions) {
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++) {
        struct sync_fragment *fragment = &machine->fragments[index];
        bool due = fragment->record.active && merge_is_due(machine, fragment);
        bool counts_me = fragment->ready && fragment->ready_counts_me;
        if (fragment->ready && !fragment->merging) {
            if (!counts_me)
                merge(machine, index, SYNC_ACTION_SHIFT, actions);
            else if (due || !machine->options.strict)
                merge(machine, index, SYNC_ACTION_COUNTED, actions);
        }
        /* Also after a SHIFT: the record that stays in flight is due all the same. */
        if (due && !counts_me && !(fragment->ready && expires_with_ready(machine, fragment)))
            act(actions, SYNC_ACTION_WAIT, index);
    }
}

static void on_step(struct sync_machine *machine, const struct sync_event *event, struct sync_actions *actions) {
    CHECK(machine->phase == SYNC_PHASE_TRAINING && event->step > machine->step && event->tokens >= machine->tokens);
    machine->step = event->step;
    machine->tokens = event->tokens;
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++) {
        struct sync_fragment *fragment = &machine->fragments[index];
        bool passed = machine->options.lockstep && fragment->run_step >= event->step;
        if (!schedule_due(&machine->options.schedule, index, event->step) || fragment->record.active || passed ||
            machine->tokens == fragment->applied_tokens)
            continue;
        /* A commit that counts others only must be in theta before the difference is taken: the base is the newest version. */
        if (fragment->ready)
            merge(machine, index, SYNC_ACTION_SHIFT, actions);
        send(machine, index, actions);
        if (fragment->ready)
            fragment->record.base = actions->list[actions->count - 1].version = fragment->version + 1;
    }
    boundary(machine, actions);
}

static bool anything(const struct sync_machine *machine,
                     bool (*is)(const struct sync_machine *, const struct sync_fragment *)) {
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++)
        if (is(machine, &machine->fragments[index]))
            return true;
    return false;
}

static bool is_in_flight(const struct sync_machine *machine, const struct sync_fragment *fragment) {
    (void)machine;
    return fragment->record.active || fragment->ready || fragment->merging;
}

static bool is_unsent(const struct sync_machine *machine, const struct sync_fragment *fragment) {
    return !fragment->record.active && fragment->applied_tokens < machine->tokens;
}

/* The last sends: their commits change the outer copy only, except that one which does not count us must be shifted in, since the work is
 * then sent again. */
static void last_merges(struct sync_machine *machine, struct sync_actions *actions) {
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++) {
        struct sync_fragment *fragment = &machine->fragments[index];
        if (fragment->merging)
            continue;
        bool settled = fragment->ready_counts_me || (!fragment->record.active && !is_unsent(machine, fragment));
        if (fragment->ready)
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
    if (machine->phase == SYNC_PHASE_LAST) {
        for (uint32_t index = 0; index < machine->options.schedule.fragments; index++) {
            const struct sync_fragment *fragment = &machine->fragments[index];
            if (is_unsent(machine, fragment) && !fragment->ready && !fragment->merging)
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

static void on_ready(struct sync_machine *machine, const struct sync_event *event) {
    struct sync_fragment *fragment = &machine->fragments[event->fragment];
    CHECK(!fragment->ready && event->version == fragment->version + 1);
    CHECK(!event->counts_me || fragment->record.active);
    fragment->ready = true;
    fragment->ready_counts_me = event->counts_me;
    fragment->run_step = event->run_step;
}

static void on_merged(struct sync_machine *machine, const struct sync_event *event) {
    struct sync_fragment *fragment = &machine->fragments[event->fragment];
    CHECK(fragment->merging && fragment->ready);
    fragment->version++;
    fragment->merging = false;
    fragment->ready = false;
    if (fragment->ready_counts_me) {
        fragment->applied_tokens = fragment->record.tokens_to;
        fragment->record.active = false;
    } else if (fragment->record.active && fragment->version > fragment->record.base &&
               fragment->version - fragment->record.base > machine->options.stale) {
        fragment->record.active = false;
    }
}

void sync_open(struct sync_machine *machine, const struct sync_machine_options *options) {
    CHECK(options->schedule.fragments >= 1 && options->schedule.fragments <= MESSAGE_FRAGMENTS_MAX);
    CHECK(!options->strict || options->overlap_steps < options->schedule.every_steps);
    memset(machine, 0, sizeof *machine);
    machine->options = *options;
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
    }
    CHECK(sync_ledger_check(machine));
}

uint64_t sync_run_clock(const struct sync_machine *machine) {
    const struct schedule *schedule = &machine->options.schedule;
    uint64_t run_step = 0, open = UINT64_MAX; /* R; the first due step that no commit has passed */
    for (uint32_t index = 0; index < schedule->fragments; index++) {
        uint64_t passed = machine->fragments[index].run_step;
        uint64_t due = schedule_next_due(schedule, index, passed > machine->step ? passed : machine->step);
        run_step = passed > run_step ? passed : run_step;
        open = due < open ? due : open;
    }
    if (!machine->options.lockstep || run_step <= machine->step)
        return machine->step;
    return run_step < open ? run_step : open - 1;
}

bool sync_ledger_check(const struct sync_machine *machine) {
    for (uint32_t index = 0; index < machine->options.schedule.fragments; index++) {
        const struct sync_fragment *fragment = &machine->fragments[index];
        const struct sync_record *record = &fragment->record;
        if (fragment->applied_tokens > machine->tokens)
            return false;
        if (record->active && (record->tokens_from != fragment->applied_tokens || record->tokens_to > machine->tokens))
            return false;
    }
    return true;
}

uint64_t sync_unsent_tokens(const struct sync_machine *machine, uint32_t fragment) {
    const struct sync_fragment *f = &machine->fragments[fragment];
    uint64_t in_flight = f->record.active ? f->record.tokens_to - f->record.tokens_from : 0;
    return machine->tokens - f->applied_tokens - in_flight;
}
