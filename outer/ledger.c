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
    if (contribution->tokens_from < entry->mark || contribution->tokens_to <= contribution->tokens_from)
        return false;
    raise_processed(entry, contribution->tokens_to);
    entry->in_flight = contribution->tokens_to - contribution->tokens_from;
    entry->offered_to = contribution->tokens_to;
    return true;
}

void ledger_withdrawn(struct ledger *ledger, uint32_t slot, uint32_t fragment) {
    struct ledger_entry *entry = entry_of(ledger, slot, fragment);
    entry->in_flight = 0;
    entry->offered_to = 0;
}

void ledger_applied(struct ledger *ledger, uint32_t fragment, const struct counted *counted) {
    struct ledger_entry *entry = entry_of(ledger, counted->slot, fragment);
    uint64_t tokens = counted->tokens_to - counted->tokens_from;
    CHECK(counted->tokens_from >= entry->mark && counted->tokens_to > counted->tokens_from);
    CHECK(entry->offered_to == counted->tokens_to && entry->in_flight == tokens);
    entry->applied += tokens;
    entry->mark = counted->tokens_to;
    entry->in_flight = 0;
    entry->offered_to = 0;
}

void ledger_lost(struct ledger *ledger, uint32_t slot, uint32_t fragments) {
    for (uint32_t fragment = 0; fragment < fragments; fragment++) {
        struct ledger_entry *entry = entry_of(ledger, slot, fragment);
        entry->dropped += ledger_unsent(entry);
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
            if (entry->mark > entry->processed || entry->applied > entry->mark)
                return false;
        }
    return true;
}
