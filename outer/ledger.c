#include "outer/ledger.h"
#include "base/check.h"

static struct ledger_entry *entry_of(struct ledger *ledger, uint32_t slot, uint32_t fragment) {
    CHECK(slot < MESSAGE_WORKERS_MAX && fragment < MESSAGE_FRAGMENTS_MAX);
    return &ledger->entries[slot][fragment];
}

static void raise_processed(struct ledger_entry *entry, uint64_t tokens) {
    if (tokens > entry->processed)
        entry->processed = tokens;
}

void ledger_processed(struct ledger *ledger, uint32_t slot, uint32_t fragments, uint64_t tokens) {
    for (uint32_t fragment = 0; fragment < fragments; fragment++)
        raise_processed(entry_of(ledger, slot, fragment), tokens);
}

bool ledger_offered(struct ledger *ledger, const struct contribution *contribution) {
    struct ledger_entry *entry = entry_of(ledger, contribution->slot, contribution->fragment);
    if (contribution->tokens_from != entry->mark || contribution->tokens_to <= contribution->tokens_from ||
        contribution->tokens == 0 || contribution->tokens > contribution->tokens_to - contribution->tokens_from)
        return false;
    raise_processed(entry, contribution->tokens_to);
    entry->in_flight = contribution->tokens;
    entry->offered_to = contribution->tokens_to;
    return true;
}

void ledger_withdrawn(struct ledger *ledger, uint32_t slot, uint32_t fragment) {
    struct ledger_entry *entry = entry_of(ledger, slot, fragment);
    entry->in_flight = 0;
    entry->offered_to = 0;
}

static void apply(struct ledger_entry *entry, const struct counted *counted) {
    entry->applied += counted->tokens;
    entry->dropped += counted->tokens_to - counted->tokens_from - counted->tokens;
    entry->mark = counted->tokens_to;
    entry->in_flight = 0;
    entry->offered_to = 0;
}

void ledger_applied(struct ledger *ledger, uint32_t fragment, const struct counted *counted) {
    struct ledger_entry *entry = entry_of(ledger, counted->slot, fragment);
    CHECK(counted->tokens_from == entry->mark && entry->offered_to == counted->tokens_to &&
          entry->in_flight == counted->tokens);
    apply(entry, counted);
}

void ledger_lost(struct ledger *ledger, uint32_t slot, uint32_t fragments) {
    for (uint32_t fragment = 0; fragment < fragments; fragment++) {
        struct ledger_entry *entry = entry_of(ledger, slot, fragment);
        entry->dropped += ledger_unsent(entry);
    }
}

uint32_t ledger_totals(const struct ledger *ledger, uint32_t fragment, const struct counted *counting, uint32_t count,
                       struct total totals[MESSAGE_WORKERS_MAX]) {
    uint32_t total_count = 0;
    CHECK(fragment < MESSAGE_FRAGMENTS_MAX);
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        struct ledger_entry entry = ledger->entries[slot][fragment];
        for (uint32_t i = 0; i < count; i++)
            if (counting[i].slot == slot)
                apply(&entry, &counting[i]);
        if (entry.mark > 0)
            totals[total_count++] = (struct total){slot, entry.mark, entry.applied, entry.dropped};
    }
    return total_count;
}

void ledger_restore(struct ledger *ledger, uint32_t fragment, const struct total *totals, uint32_t count) {
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        struct ledger_entry *entry = entry_of(ledger, slot, fragment);
        *entry = (struct ledger_entry){.processed = entry->processed};
    }
    for (uint32_t i = 0; i < count; i++) {
        struct ledger_entry *entry = entry_of(ledger, totals[i].slot, fragment);
        entry->mark = totals[i].mark;
        entry->applied = totals[i].applied;
        entry->dropped = totals[i].dropped;
        raise_processed(entry, entry->mark);
    }
}

uint64_t ledger_unsent(const struct ledger_entry *entry) {
    return entry->processed - entry->applied - entry->in_flight - entry->dropped;
}

bool ledger_check(const struct ledger *ledger, uint32_t slots, uint32_t fragments) {
    for (uint32_t slot = 0; slot < slots; slot++)
        for (uint32_t fragment = 0; fragment < fragments; fragment++) {
            const struct ledger_entry *entry = &ledger->entries[slot][fragment];
            if (entry->applied + entry->in_flight + entry->dropped > entry->processed)
                return false;
            if (entry->mark > entry->applied + entry->dropped || entry->mark > entry->processed)
                return false;
        }
    return true;
}
